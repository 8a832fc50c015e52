//! The manifest: the catalog lines of a stream, as its last archive.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{BufReader, Read, Seek as _, Write};

use super::item::Piece;
use super::plan::{Manifest, Plan};
use crate::error::{Error, Result};
use crate::line::{Line, Reader, Stored, Text};
use crate::spool::StreamDir;
use crate::treehash::{Fold, Hash};

/// Makes the manifest ready in the spool, and cuts it into parts.
///
/// # Errors
/// When the journal cannot be read or the spool cannot take it.
pub fn prepare(plan: &Plan, stream: &StreamDir) -> Result<Manifest> {
    let now = jiff::Timestamp::now();
    let mut stored = plan.stored(now.round(jiff::Unit::Second).unwrap_or(now))?;
    // The time of an earlier run makes its bytes again, so that its upload
    // goes on. All else comes from the journal: the file may be damaged, and
    // must not be sent with a hash that fits the damage.
    if let Some(file) = stream.manifest()?
        && let Some(earlier) = earlier(file, &stored)?
    {
        stored = earlier;
    }
    let journal = stream
        .existing_journal()?
        .ok_or_else(|| Error::Bug("a stream is stored, and has no journal".to_owned()))?;
    stream.new_manifest(|out| write(plan, journal, &stored, out))?;
    let file = stream
        .manifest()?
        .ok_or_else(|| Error::Bug("the manifest that was just written is gone".to_owned()))?;
    Ok(Manifest { stored, parts: cut(file, plan.stream().part_size)? })
}

fn cannot(e: std::io::Error) -> Error {
    Error::io("manifest", e)
}

/// The `stored` line of a manifest that an earlier run made ready, if it is of
/// the same attempt.
///
/// # Errors
/// When it cannot be read.
pub fn earlier(file: impl Read, stored: &Stored) -> Result<Option<Stored>> {
    let mut lines = Reader::new(BufReader::new(file));
    let mut last = None;
    while let Some(text) = lines.read().map_err(cannot)? {
        if let Text::Line(text) = text
            && let Ok(Some(Line::Stored(line))) = Line::parse(&text)
        {
            last = Some(line);
        }
    }
    Ok(last.filter(|line| Stored { stored: stored.stored, ..line.clone() } == *stored))
}

/// Writes the manifest: what the journal has of the stream that is stored.
///
/// # Errors
/// When one cannot be read, or the other not written; or the archives do not
/// come to what is stored, so that the manifest would be worth nothing: a bug.
pub fn write(plan: &Plan, journal: impl Read, stored: &Stored, out: &mut dyn Write) -> Result<()> {
    let mut put =
        |line: &Line| -> Result<()> { out.write_all(line.text()?.as_bytes()).map_err(cannot) };
    put(&Line::Stream(plan.stream().clone()))?;
    plan.snapshots().iter().try_for_each(|snapshot| put(&Line::Snapshot(snapshot.clone())))?;
    let mut lines = Reader::new(BufReader::new(journal));
    let mut seen = HashSet::new();
    let mut archives: BTreeMap<u32, (u64, Hash)> = BTreeMap::new();
    while let Some(text) = lines.read().map_err(cannot)? {
        let Text::Line(text) = text else { continue };
        let Ok(Some(line)) = Line::parse(&text) else { continue };
        let part = match &line {
            Line::Hashes(line) if line.generation == stored.generation => Some(line.part),
            Line::Archive(line) if line.generation == stored.generation => None,
            _ => continue,
        };
        let volume = match &line {
            Line::Hashes(line) => line.volume,
            Line::Archive(line) => line.volume,
            _ => continue,
        };
        if volume < stored.volumes && seen.insert((volume, part)) {
            put(&line)?;
            if let Line::Archive(line) = line {
                archives.insert(volume, (line.size, line.treehash));
            }
        }
    }
    let size: u64 = archives.values().map(|archive| archive.0).sum();
    let treehash = archives.values().map(|archive| archive.1).collect::<Fold>().finish();
    if (size, treehash) != (stored.size, stored.treehash) {
        return Err(Error::Bug(format!(
            "the archives of the manifest have {size} bytes, and are not those of the stream"
        )));
    }
    put(&Line::Stored(stored.clone()))
}

/// The parts of a file.
fn cut(mut file: File, part_size: u64) -> Result<Vec<Piece>> {
    file.rewind().map_err(cannot)?;
    std::iter::from_fn(|| Piece::read(&file, part_size).map_err(cannot).transpose()).collect()
}
