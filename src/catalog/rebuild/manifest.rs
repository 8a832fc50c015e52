//! A manifest, line by line: what must fit before a catalog is made of it.
//!
//! The checks are those that glacier-get(1) makes of a catalog
//! (`get::plan`), but in memory that does not grow with the hashes.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::Books;
use crate::hash::tree::{Fold, Hash};
use crate::line::{Archive, Hashes, Line, Reader, Stored, StreamId, Text};
use crate::partsize;

/// Volumes of a stream, at most: one of 4 PiB in volumes of 4 GiB.
const VOLUMES: usize = 1 << 20;

/// Volumes whose hashes are there and whose archive is not yet, at most: put
/// writes those of one after the other, but for what a crash tore.
const OPEN: usize = 1 << 10;

/// A manifest that fits.
#[derive(Debug)]
pub struct Manifest {
    /// Where it is in the inventory.
    pub(super) index: usize,
    /// When it was completed.
    pub(super) uploaded: Timestamp,
    /// Its `stored` line, with the name of its archive.
    pub(super) stored: Stored,
    /// The hash of its `snapshot` lines.
    snapshots: Hash,
    /// Where its volumes are in the inventory.
    pub(super) archives: Vec<usize>,
    /// Volumes whose archives are not there.
    pub(super) missing: Vec<u32>,
}

impl Manifest {
    /// Whether two manifests of one stream say the same of it. Who stored it
    /// when, and with which proof, may differ: it was stored twice.
    pub(super) fn agrees_with(&self, other: &Self) -> bool {
        let content = |of: &Stored| Stored {
            host: String::new(),
            whole: String::new(),
            manifest_id: None,
            stored: Timestamp::UNIX_EPOCH,
            ..of.clone()
        };
        self.snapshots == other.snapshots && content(&self.stored) == content(&other.stored)
    }
}

/// A manifest that is being read.
#[derive(Debug)]
pub struct Check<'b> {
    books: &'b Books<'b>,
    index: usize,
    stream: Option<StreamId>,
    generation: u32,
    open: BTreeMap<u32, Parts>,
    volumes: BTreeMap<u32, Volume>,
    snapshots: Sha256,
    stored: Option<Stored>,
}

/// The hashes of a volume that came so far.
#[derive(Debug, Default)]
struct Parts {
    fold: Fold,
    count: u64,
}

#[derive(Debug)]
struct Volume {
    offset: u64,
    size: u64,
    treehash: Hash,
    /// Where it is in the inventory, if it is.
    index: Option<usize>,
}

impl<'b> Check<'b> {
    pub(super) fn new(books: &'b Books<'b>, index: usize) -> Self {
        let of = books.of(index);
        Self {
            books,
            index,
            stream: of.and_then(|of| of.stream),
            generation: of.map_or(0, |of| of.generation),
            open: BTreeMap::new(),
            volumes: BTreeMap::new(),
            snapshots: Sha256::new(),
            stored: None,
        }
    }

    /// Reads all of a manifest.
    ///
    /// # Errors
    /// When reading fails; within, what does not fit.
    pub fn read(mut self, input: impl BufRead) -> io::Result<Result<Manifest, String>> {
        let mut reader = Reader::new(input);
        while let Some(text) = reader.read()? {
            if let Err(why) = self.take(text) {
                return Ok(Err(format!("line {}: {why}", reader.number)));
            }
        }
        Ok(self.finish())
    }

    fn take(&mut self, text: Text) -> Result<(), String> {
        let text = match text {
            Text::Line(text) => text,
            Text::Bad(why) => return Err(why),
        };
        let Some(line) = Line::parse(&text)? else { return Ok(()) };
        if self.stored.is_some() {
            return Err("stands behind \"stored\"".to_owned());
        }
        let is_copied = matches!(
            line,
            Line::Snapshot(_) | Line::Hashes(_) | Line::Archive(_) | Line::Stored(_)
        );
        if !is_copied {
            // What else a manifest holds is for other readers.
            return match line {
                Line::Stream(line) => self.is_of(line.stream),
                _ => Ok(()),
            };
        }
        // It is printed again, with all that a line must be.
        let text = line.text().map_err(|e| e.to_string())?;
        match line {
            Line::Snapshot(line) => {
                self.is_of(line.stream)?;
                self.snapshots.update(text);
                Ok(())
            }
            Line::Hashes(line) => self.hashes(line),
            Line::Archive(line) => self.archive(&line),
            Line::Stored(line) => self.end(line),
            _ => Ok(()),
        }
    }

    fn is_of(&self, stream: StreamId) -> Result<(), String> {
        match self.stream {
            Some(of) if of == stream => Ok(()),
            _ => Err(format!("of stream {stream}, not of that in its description")),
        }
    }

    fn is_in(&self, generation: u32, dest: &str, region: &str) -> Result<(), String> {
        if generation != self.generation {
            return Err(format!("of generation {generation}, not of that in its description"));
        }
        if dest != self.books.dest || region != self.books.region {
            return Err(format!("of {dest} in {region}"));
        }
        Ok(())
    }

    fn hashes(&mut self, line: Hashes) -> Result<(), String> {
        let Hashes { stream, generation, volume, part, dest, treehashes } = line;
        self.is_of(stream)?;
        self.is_in(generation, &dest, &self.books.region)?;
        if self.volumes.contains_key(&volume) {
            return Err(format!("volume {volume}: hashes behind its archive"));
        }
        let parts = self.open.entry(volume).or_default();
        if parts.count != u64::from(part) || treehashes.is_empty() {
            return Err(format!("volume {volume}: the hashes of its parts are not in their order"));
        }
        for hash in treehashes {
            parts.fold.push(hash);
            parts.count += 1;
        }
        if self.open.len() > OPEN {
            return Err(format!("hashes of over {OPEN} volumes without an archive"));
        }
        Ok(())
    }

    fn archive(&mut self, line: &Archive) -> Result<(), String> {
        let Archive { volume, offset, size, treehash, part_size, .. } = *line;
        let bad = |why: &str| Err(format!("volume {volume}: {why}"));
        self.is_of(line.stream)?;
        self.is_in(line.generation, &line.dest, &line.region)?;
        if !partsize::is_part(part_size) {
            return bad("its part size is not 2^n MiB from 1 MiB to 4 GiB");
        }
        if self.volumes.contains_key(&volume) {
            return bad("has two archives");
        }
        let Parts { fold, count } = self.open.remove(&volume).unwrap_or_default();
        if size == 0 || count != size.div_ceil(part_size) {
            return bad("the hashes of its parts are not all there");
        }
        if fold.finish() != treehash {
            return bad("its parts' hashes do not give its tree hash");
        }
        let index = self.books.by_id.get(line.archive_id.as_str()).copied();
        let there = index.and_then(|index| self.books.inventory.archives.get(index));
        if there.is_some_and(|there| !there.is(line)) {
            return bad("the inventory has its archive with another size or hash");
        }
        self.volumes.insert(volume, Volume { offset, size, treehash, index });
        if self.volumes.len() > VOLUMES {
            return Err(format!("over {VOLUMES} volumes"));
        }
        Ok(())
    }

    fn end(&mut self, line: Stored) -> Result<(), String> {
        self.is_of(line.stream)?;
        self.is_in(line.generation, &line.dest, &line.region)?;
        if let Some((volume, _)) = self.open.first_key_value() {
            return Err(format!("volume {volume}: no archive"));
        }
        if u32::try_from(self.volumes.len()) != Ok(line.volumes) || line.volumes == 0 {
            return Err(format!("{} of {} volumes are in it", self.volumes.len(), line.volumes));
        }
        let (mut end, mut fold) = (0_u64, Fold::default());
        for ((number, volume), expected) in self.volumes.iter().zip(0..) {
            if *number != expected || volume.offset != end {
                return Err(format!("volume {number}: does not begin where the one before ends"));
            }
            end = end.checked_add(volume.size).ok_or("its size is beyond 2^64")?;
            fold.push(volume.treehash);
        }
        if end != line.size || fold.finish() != line.treehash {
            return Err("its volumes do not give the size and tree hash of \"stored\"".to_owned());
        }
        if line.manifest_id.is_some() {
            return Err("\"stored\" names a manifest".to_owned());
        }
        let manifest_id = self.books.id(self.index).cloned();
        let stored = Stored { manifest_id, ..line };
        Line::Stored(stored.clone()).text().map_err(|e| e.to_string())?;
        self.stored = Some(stored);
        Ok(())
    }

    fn finish(self) -> Result<Manifest, String> {
        let stored = self.stored.ok_or("no \"stored\" line")?;
        let volumes = || self.volumes.iter();
        let here = self.books.inventory.archives.get(self.index);
        Ok(Manifest {
            index: self.index,
            uploaded: here.map_or(Timestamp::UNIX_EPOCH, |here| here.created),
            stored,
            snapshots: Hash(self.snapshots.finalize().into()),
            archives: volumes().filter_map(|(_, volume)| volume.index).collect(),
            missing: volumes().filter(|(_, it)| it.index.is_none()).map(|(n, _)| *n).collect(),
        })
    }
}

/// Which lines of a manifest [`copy`] writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Which {
    /// `hashes` and `archive`: put writes them first.
    Volumes,
    /// `snapshot`: they come when the stream is stored.
    Snapshots,
}

/// Writes those catalog lines of a manifest that was checked, as put had
/// written them.
///
/// # Errors
/// When reading or writing fails.
pub fn copy(input: impl BufRead, which: Which, out: &mut impl Write) -> io::Result<()> {
    let mut reader = Reader::new(input);
    while let Some(text) = reader.read()? {
        let Text::Line(text) = text else { continue };
        let Ok(Some(line)) = Line::parse(&text) else { continue };
        let is_wanted = match line {
            Line::Hashes(_) | Line::Archive(_) => which == Which::Volumes,
            Line::Snapshot(_) => which == Which::Snapshots,
            _ => false,
        };
        if is_wanted && let Ok(text) = line.text() {
            out.write_all(text.as_bytes())?;
        }
    }
    Ok(())
}
