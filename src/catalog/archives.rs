//! Which archives a catalog knows of each stream, and what a stored stream
//! lacks of them.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};

use serde::Deserialize;

use crate::line::{Archive, Stored, StreamId};

/// What is read of an `archive` line: a catalog may have a million of them.
#[derive(Deserialize)]
pub struct Brief<'a> {
    /// Major version.
    pub v: u32,
    /// Which stream.
    pub stream: StreamId,
    /// Its name.
    #[serde(borrow)]
    pub name: Cow<'a, str>,
    /// Which attempt at it.
    #[serde(default)]
    pub generation: u32,
    /// Which volume of it.
    pub volume: u32,
    /// Where it is stored.
    #[serde(borrow)]
    pub dest: Cow<'a, str>,
    /// The service's name for it.
    #[serde(borrow)]
    pub archive_id: Cow<'a, str>,
}

impl<'a> Brief<'a> {
    /// The same of a line that was read whole.
    pub fn of(archive: &'a Archive) -> Self {
        Self {
            v: archive.v,
            stream: archive.stream,
            name: Cow::Borrowed(&archive.name),
            generation: archive.generation,
            volume: archive.volume,
            dest: Cow::Borrowed(&archive.dest),
            archive_id: Cow::Borrowed(&archive.archive_id),
        }
    }
}

/// An archive: 40 bytes of it, whatever its names are.
#[derive(Debug)]
struct Placed {
    generation: u32,
    volume: u32,
    /// Fingerprints.
    dest: u64,
    id: u64,
    /// Where its line begins.
    at: u64,
}

/// The archives of one stream.
#[derive(Debug)]
struct Known {
    name: String,
    archives: Vec<Placed>,
}

/// All archives that a catalog tells of.
#[derive(Debug, Default)]
pub struct Archives {
    streams: HashMap<StreamId, Known>,
    deleted: HashSet<u64>,
    fingerprints: RandomState,
}

/// Why a stored stream cannot be brought back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Defect {
    /// No line tells of this volume.
    Missing(u32),
    /// The archive of this volume was deleted.
    Deleted(u32),
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(volume) => write!(f, "volume {volume}: no \"archive\" line"),
            Self::Deleted(volume) => write!(f, "volume {volume}: its archive was deleted"),
        }
    }
}

impl Archives {
    /// Takes an `archive` line that begins at `at`.
    pub fn add(&mut self, archive: &Brief<'_>, at: u64) {
        let placed = Placed {
            generation: archive.generation,
            volume: archive.volume,
            dest: self.fingerprints.hash_one(archive.dest.as_ref()),
            id: self.fingerprints.hash_one(archive.archive_id.as_ref()),
            at,
        };
        let known = self
            .streams
            .entry(archive.stream)
            .or_insert_with(|| Known { name: archive.name.to_string(), archives: Vec::new() });
        known.archives.push(placed);
    }

    /// Takes the `deleted` line of an archive.
    pub fn delete(&mut self, archive_id: &str) {
        self.deleted.insert(self.fingerprints.hash_one(archive_id));
    }

    /// What is wrong with a stream that is stored by a line that begins at
    /// `at`. Of the archives of a volume the last before that counts.
    pub fn defect(&self, stored: &Stored, at: u64) -> Option<Defect> {
        let dest = self.fingerprints.hash_one(stored.dest.as_str());
        let of = self.streams.get(&stored.stream).map(|known| known.archives.as_slice());
        let mut counts: HashMap<u32, u64> = HashMap::new();
        for placed in of.unwrap_or_default() {
            if (placed.generation, placed.dest) == (stored.generation, dest) && placed.at <= at {
                counts.insert(placed.volume, placed.id);
            }
        }
        (0..stored.volumes).find_map(|volume| match counts.get(&volume) {
            None => Some(Defect::Missing(volume)),
            Some(id) if self.deleted.contains(id) => Some(Defect::Deleted(volume)),
            Some(_) => None,
        })
    }

    /// How many archives there are of a stream that goes by `word`, its name
    /// or its id.
    pub fn count(&self, word: &str) -> Option<usize> {
        let by_id = || word.parse().ok().and_then(|id: StreamId| self.streams.get(&id));
        let by_name = || self.streams.values().find(|known| known.name == word);
        by_id().or_else(by_name).map(|known| known.archives.len())
    }
}
