//! The manifest: the catalog lines of a stream, as its last archive, behind a
//! recipe for whoever has nothing but it.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{BufReader, Read, Seek, Write};

use super::plan::{Manifest, Plan};
use crate::catalog::counted;
use crate::error::{Error, Result};
use crate::hash::tree::{Fold, Hash};
use crate::line::{Line, Reader, Recipe, Stored, Text, now};
use crate::spool::StreamDir;
use crate::storage::Dest;
use crate::tools::put::upload::Piece;

/// How to bring a stream back without this program, in short; docs/restore.md
/// is the long form. Plain ASCII without quotes and backslashes, so that it
/// can be read as it stands in the line.
const RECIPE: &str = include_str!("../../../data/recipe.txt");

/// The same for what is in a bucket.
const IN_BUCKET: &str = include_str!("../../../data/recipe-s3.txt");

/// The first line of a manifest of what is stored there.
pub fn recipe(dest: &str) -> Line {
    let text = match dest.parse() {
        Ok(Dest::S3 { .. }) => IN_BUCKET,
        _ => RECIPE,
    };
    Line::Recipe(Recipe { text: text.lines().map(str::to_owned).collect() })
}

/// What tells the bytes of one manifest from those of another with the same
/// archives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Form {
    /// Its `stored` line, with the time at which it was made.
    pub stored: Stored,
    /// Whether it begins with the recipe.
    pub recipe: bool,
}

/// Makes the manifest ready in the spool, and cuts it into parts.
///
/// # Errors
/// When the journal cannot be read or the spool cannot take it.
pub fn prepare(plan: &Plan, stream: &StreamDir) -> Result<Manifest> {
    let stored = plan.stored(now())?;
    // The form of an earlier run makes its bytes again, so that its upload
    // goes on, be it that of a version without a recipe. All else comes from
    // the journal: the file may be damaged, and must not be sent with a hash
    // that fits the damage.
    let earlier = match stream.manifest()? {
        Some(file) => earlier(file, &stored)?,
        None => None,
    };
    let form = earlier.unwrap_or(Form { stored, recipe: true });
    let journal = stream
        .existing_journal()?
        .ok_or_else(|| Error::Bug("a stream is stored, and has no journal".to_owned()))?;
    stream.new_manifest(|out| write(plan, journal, &form, out))?;
    let file = stream
        .manifest()?
        .ok_or_else(|| Error::Bug("the manifest that was just written is gone".to_owned()))?;
    Ok(Manifest { stored: form.stored, parts: cut(file, plan.stream().part_size)? })
}

fn cannot(e: std::io::Error) -> Error {
    Error::io("manifest", e)
}

/// The form of a manifest that an earlier run made ready, if it is of the same
/// attempt. One that begins otherwise than with the stream's line has a recipe;
/// where that is damaged or of another version, ours takes its place, and what
/// was sent of it is sent again.
///
/// # Errors
/// When it cannot be read.
pub fn earlier(file: impl Read, stored: &Stored) -> Result<Option<Form>> {
    let mut lines = Reader::new(BufReader::new(file));
    let (mut recipe, mut last) = (true, None);
    while let Some(text) = lines.read().map_err(cannot)? {
        let Text::Line(text) = text else { continue };
        match Line::parse(&text) {
            Ok(Some(Line::Stream(_))) if lines.number == 1 => recipe = false,
            Ok(Some(Line::Stored(line))) => last = Some(line),
            _ => {}
        }
    }
    let last = last.filter(|line| Stored { stored: stored.stored, ..line.clone() } == *stored);
    Ok(last.map(|stored| Form { stored, recipe }))
}

/// Writes the manifest: what the journal has of the stream that is stored.
///
/// # Errors
/// When one cannot be read, or the other not written; or the archives do not
/// come to what is stored, so that the manifest would be worth nothing: a bug.
pub fn write(
    plan: &Plan,
    mut journal: impl Read + Seek,
    form: &Form,
    out: &mut dyn Write,
) -> Result<()> {
    let stored = &form.stored;
    let counted = counted(&mut journal, stored)?;
    journal.rewind().map_err(cannot)?;
    let mut put =
        |line: &Line| -> Result<()> { out.write_all(line.text()?.as_bytes()).map_err(cannot) };
    if form.recipe {
        put(&recipe(&stored.dest))?;
    }
    put(&Line::Stream(plan.stream().clone()))?;
    plan.snapshots().iter().try_for_each(|snapshot| put(&Line::Snapshot(snapshot.clone())))?;
    let mut lines = Reader::new(BufReader::new(journal));
    let mut archives: BTreeMap<u32, (u64, Hash)> = BTreeMap::new();
    while let Some(text) = lines.read().map_err(cannot)? {
        if let Text::Line(text) = text
            && counted.contains(&lines.start)
            && let Ok(Some(line)) = Line::parse(&text)
        {
            put(&line)?;
            if let Line::Archive(line) = line {
                archives.insert(line.volume, (line.size, line.treehash));
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

/// Where the lines of a journal begin that count once `stored` stands behind
/// them.
fn counted(journal: &mut impl Read, stored: &Stored) -> Result<HashSet<u64>> {
    let mut reader = Reader::new(BufReader::new(journal));
    let (mut lines, mut hashes) = (counted::Lines::default(), BTreeMap::new());
    while let Some(text) = reader.read().map_err(cannot)? {
        let Text::Line(text) = text else { continue };
        match Line::parse(&text) {
            Ok(Some(Line::Archive(line))) => lines.archive(&(&line).into(), reader.start),
            Ok(Some(Line::Hashes(line)))
                if line.generation == stored.generation && line.volume < stored.volumes =>
            {
                hashes.insert((line.volume, line.part), reader.start);
            }
            _ => {}
        }
    }
    lines.stored(stored, u64::MAX);
    lines.settle();
    let archives = lines.copy(0).map(|copy| copy.archives).unwrap_or_default();
    Ok(hashes.into_values().chain(archives).collect())
}

/// The parts of a file.
fn cut(mut file: File, part_size: u64) -> Result<Vec<Piece>> {
    file.rewind().map_err(cannot)?;
    std::iter::from_fn(|| Piece::read(&file, part_size).map_err(cannot).transpose()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::MAX;

    #[test]
    fn the_lines_that_would_count_are_those_of_the_manifest() {
        let stream = "17".repeat(16);
        let of = format!(r#""stream":"{stream}","dest":"glacier://v""#);
        let hash = Hash::of(b"");
        let archive = |generation: u32, id: &str| {
            format!(
                r#"{{"type":"archive","v":1,{of},"host":"h","name":"n","generation":{generation},"volume":0,"offset":0,"size":1,"treehash":"{hash}","part_size":1048576,"region":"r","archive_id":"{id}","uploaded":"2026-01-01T00:00:00Z"}}
"#
            )
        };
        let run = |volume: u32| {
            format!(
                r#"{{"type":"hashes",{of},"volume":{volume},"part":0,"treehashes":["{hash}"]}}
"#
            )
        };
        let stored = format!(
            r#"{{"type":"stored","v":1,{of},"host":"h","name":"n","format":"bytes","volumes":1,"size":1,"treehash":"{hash}","whole":"trusted","region":"r","stored":"2026-01-01T00:00:00Z"}}"#
        );
        let Line::Stored(stored) = Line::parse(&stored).unwrap().unwrap() else { panic!() };
        let journal =
            [run(0), archive(0, "lost"), run(1), run(0), archive(0, "a"), archive(1, "b")].concat();
        let counted = counted(&mut journal.as_bytes(), &stored).unwrap();
        let mut start = 0;
        let lines = journal.split_inclusive('\n').filter(|line| {
            let is_counted = counted.contains(&start);
            start += line.len() as u64;
            is_counted
        });
        assert_eq!(lines.collect::<String>(), run(0) + &archive(0, "a"));
    }

    #[test]
    fn the_recipe_fits_a_line_and_reads_as_it_stands() {
        for (dest, words) in [("glacier://v", RECIPE), ("s3://bucket/nas", IN_BUCKET)] {
            let text = recipe(dest).text().unwrap();
            assert!(text.len() <= MAX, "{} bytes", text.len());
            assert!(words.bytes().all(|byte| byte == b'\n' || (b' '..=b'~').contains(&byte)));
            assert!(!words.contains(['"', '\\']));
        }
    }
}
