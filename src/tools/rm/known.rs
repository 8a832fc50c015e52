//! What the catalog knows of the streams that are asked to go, and of those
//! that are based on them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::BufRead;

use crate::catalog::{Catalog, scan};
use crate::error::{Error, Result};
use crate::line::{Archive, Line, Reader, Snapshot, Stored, StreamId, Text};
use crate::spool::underway::Underway;
use crate::tools::receipts::Receipt;

/// A catalog, as far as deletions go.
#[derive(Debug, Default)]
pub struct Known {
    /// Which stream is based on which.
    chains: Catalog,
    /// How many streams each takes to be restored.
    lengths: HashMap<StreamId, u32>,
    books: HashMap<StreamId, Books>,
    deleted: HashSet<String>,
    /// Receipts of streams that are stored, which the catalog has lost.
    lost: Vec<Receipt>,
    /// What to warn of.
    pub warning: Option<String>,
}

/// What there is of one stream, with the numbers of the lines.
#[derive(Debug, Default)]
struct Books {
    archives: Vec<(u64, Archive)>,
    stored: Vec<(u64, Stored)>,
}

/// A stream as it is stored in one destination: what its last `stored` line
/// counts.
#[derive(Debug)]
pub struct Attempt<'a> {
    /// That line.
    pub stored: &'a Stored,
    /// Where it is in the catalog.
    pub at: u64,
    /// The archive of each volume.
    pub volumes: BTreeMap<u32, &'a Archive>,
}

impl Known {
    /// Reads a catalog twice: for its streams, and for all that it has of
    /// those that are asked to go.
    ///
    /// # Errors
    /// When reading fails, or a line is of a later version.
    pub fn read<R: BufRead>(
        open: impl Fn() -> Result<R>,
        wanted: &HashSet<StreamId>,
    ) -> Result<Self> {
        let cannot = |e| Error::io("catalog: cannot read", e);
        let (chains, skipped) = scan::survey(open()?).map_err(|error| match error {
            Error::Data(text) => Error::Data(text.replacen("stdin", "catalog", 1)),
            Error::Io(_, reason) => cannot(reason),
            error => error,
        })?;
        let warning = skipped.warning().map(|text| text.replacen("stdin", "catalog", 1));
        let lengths = chains.lengths();
        let mut known = Self { chains, lengths, warning, ..Self::default() };
        let mut reader = Reader::new(open()?);
        while let Some(text) = reader.read().map_err(cannot)? {
            let Text::Line(text) = text else { continue };
            if scan::stream_of(&text).is_some_and(|stream| !wanted.contains(&stream)) {
                continue;
            }
            let number = reader.number;
            match Line::parse(&text) {
                Ok(Some(Line::Archive(archive))) => {
                    let books = known.books.entry(archive.stream).or_default();
                    books.archives.push((number, archive));
                }
                Ok(Some(Line::Stored(stored))) => {
                    let books = known.books.entry(stored.stream).or_default();
                    books.stored.push((number, stored));
                }
                Ok(Some(Line::Deleted(line))) => known.deleted.extend(line.archive_id),
                // The survey has told of what cannot be read.
                _ => {}
            }
        }
        Ok(known)
    }

    /// Whether the catalog says that a stream is stored.
    pub fn knows(&self, stored: &Stored) -> bool {
        self.chains.knows(stored)
    }

    /// Takes what the spool knows and the catalog does not: streams that are
    /// on their way, and those that are stored, of which it has `lost` that.
    /// What they are based on is needed.
    pub fn expect(&mut self, underway: &[Underway], lost: Vec<Receipt>) {
        self.lost = lost;
        let coming: Vec<(Stored, &[Snapshot])> =
            underway.iter().map(|it| (it.stored(), it.snapshots.as_slice())).collect();
        let coming = coming.iter().map(|(stored, snapshots)| (stored, *snapshots));
        // Without volumes, as their lines are lost.
        let there: Vec<(Stored, &[Snapshot])> = self
            .lost
            .iter()
            .map(|it| (Stored { volumes: 0, ..it.stored.clone() }, it.snapshots.as_slice()))
            .collect();
        let there = there.iter().map(|(stored, snapshots)| (stored, *snapshots));
        self.chains.expect(coming.chain(there));
    }

    /// The receipt of a stream that needs an archive, if the catalog has lost
    /// that it is stored.
    pub fn lost_with(&self, archive_id: &str) -> Option<&Stored> {
        self.lost.iter().find(|it| it.names(archive_id)).map(|it| &it.stored)
    }

    /// Whether the catalog has lost that a stream is stored.
    pub fn has_lost(&self, stream: StreamId) -> bool {
        self.lost.iter().any(|it| it.stored.stream == stream)
    }

    /// Whether an archive was deleted before.
    pub fn is_deleted(&self, archive_id: &str) -> bool {
        self.deleted.contains(archive_id)
    }

    /// Whether the catalog names an archive of a stream.
    pub fn names(&self, stream: StreamId, archive_id: &str) -> bool {
        self.books.get(&stream).is_some_and(|books| {
            let manifests =
                books.stored.iter().filter_map(|(_, stored)| stored.manifest_id.as_ref());
            books.archives.iter().any(|(_, archive)| archive.archive_id == archive_id)
                || manifests.into_iter().any(|manifest| manifest == archive_id)
        })
    }

    /// The stream as it is stored in one destination.
    pub fn attempt(&self, stream: StreamId, dest: &str) -> Option<Attempt<'_>> {
        let books = self.books.get(&stream)?;
        let here = books.stored.iter().filter(|(_, stored)| stored.dest == dest);
        // Of several the last in time counts, then the last in place.
        let (at, stored) = here.max_by_key(|(number, stored)| (stored.stored, *number))?;
        let counted = books.archives.iter().filter(|(number, archive)| {
            archive.generation == stored.generation
                && archive.dest == dest
                && archive.volume < stored.volumes
                && number < at
        });
        let volumes = counted.map(|(_, archive)| (archive.volume, archive)).collect();
        Some(Attempt { stored, at: *at, volumes })
    }

    /// Whether nothing of it was deleted, and none of its lines lacks.
    pub fn is_whole(&self, attempt: &Attempt) -> bool {
        let lacks = attempt.volumes.len() as u64 != u64::from(attempt.stored.volumes);
        let manifest = attempt.stored.manifest_id.as_ref();
        !lacks
            && !manifest.is_some_and(|manifest| self.is_deleted(manifest))
            && attempt.volumes.values().all(|archive| !self.is_deleted(&archive.archive_id))
    }

    /// The manifests of a stream in a destination that are still there.
    pub fn manifests<'a>(
        &'a self,
        stream: StreamId,
        dest: &'a str,
    ) -> impl Iterator<Item = (&'a Stored, &'a str)> {
        let books = self.books.get(&stream);
        let stored = books.into_iter().flat_map(|books| &books.stored);
        let here = stored.filter(move |(_, stored)| stored.dest == dest);
        here.filter_map(|(_, stored)| Some((stored, stored.manifest_id.as_deref()?)))
            .filter(|(_, manifest)| !self.is_deleted(manifest))
    }

    /// How many streams it takes to restore one.
    pub fn length(&self, stream: StreamId) -> u32 {
        self.lengths.get(&stream).copied().unwrap_or(0)
    }

    /// The streams that cannot be restored any more without these archives.
    pub fn lost<'i>(&mut self, archives: impl Iterator<Item = &'i str>) -> Vec<Stored> {
        self.chains.lost(archives).into_iter().cloned().collect()
    }
}
