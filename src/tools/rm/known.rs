//! What the catalog knows of the streams that are asked to go, and of those
//! that are based on them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::BufRead;

use crate::catalog::{Brief, Catalog, scan};
use crate::error::{Error, Result};
use crate::line::{Archive, Id, Line, Reader, Snapshot, Stored, StreamId, Text};
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
    /// Receipts of streams that are stored, which the catalog has lost.
    pub lost: Vec<Receipt>,
    /// What to warn of.
    pub warning: Option<String>,
}

/// What there is of one stream, by where the lines begin.
#[derive(Debug, Default)]
struct Books {
    archives: BTreeMap<u64, Archive>,
    stored: BTreeMap<u64, Stored>,
}

/// A stream as it is stored in one destination: the copy that counts.
#[derive(Debug)]
pub struct Attempt<'a> {
    /// That line.
    pub stored: &'a Stored,
    /// Where it is in the catalog.
    pub at: u64,
    /// The archive of each volume.
    pub volumes: BTreeMap<u32, &'a Archive>,
    /// No line of it lacks, and none of these archives was deleted.
    is_whole: bool,
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
            let at = reader.start;
            match Line::parse(&text) {
                Ok(Some(Line::Archive(archive))) => {
                    let books = known.books.entry(archive.stream).or_default();
                    books.archives.insert(at, archive);
                }
                Ok(Some(Line::Stored(stored))) => {
                    let books = known.books.entry(stored.stream).or_default();
                    books.stored.insert(at, stored);
                }
                // The survey has told of what cannot be read.
                _ => {}
            }
        }
        Ok(known)
    }

    /// Takes what the spool knows: streams that are on their way. What they are
    /// based on is needed.
    pub fn expect(&mut self, underway: &[Underway]) {
        let coming: Vec<(Stored, &[Snapshot])> =
            underway.iter().map(|it| (it.stored(), it.snapshots.as_slice())).collect();
        self.chains.expect(coming.iter().map(|(stored, snapshots)| (stored, *snapshots)));
    }

    /// Whether an archive was deleted before.
    pub fn is_deleted(&self, archive_id: &str) -> bool {
        self.chains.is_deleted(archive_id)
    }

    /// Whether the catalog names an archive of a stream.
    pub fn names(&self, stream: StreamId, archive_id: &Id) -> bool {
        self.books.get(&stream).is_some_and(|books| {
            let manifests = books.stored.values().filter_map(|stored| stored.manifest_id.as_ref());
            books.archives.values().any(|archive| archive.archive_id == *archive_id)
                || manifests.into_iter().any(|manifest| manifest == archive_id)
        })
    }

    /// The stream as it is stored in one destination.
    pub fn attempt(&self, stream: StreamId, dest: &str) -> Option<Attempt<'_>> {
        let books = self.books.get(&stream)?;
        let here = self.chains.copies(stream).filter_map(|copy| {
            let stored = books.stored.get(&copy.at).filter(|stored| stored.dest == dest)?;
            Some((copy, stored))
        });
        let (copy, stored) = here.max_by_key(|(copy, _)| copy.rank)?;
        let archives = copy.archives.iter().filter_map(|at| books.archives.get(at));
        let volumes = archives.map(|archive| (archive.volume, archive)).collect();
        Some(Attempt { stored, at: copy.at, volumes, is_whole: copy.defect.is_none() })
    }

    /// Whether nothing of it was deleted, and none of its lines lacks.
    pub fn is_whole(&self, attempt: &Attempt) -> bool {
        let manifest = attempt.stored.manifest_id.as_ref();
        attempt.is_whole && !manifest.is_some_and(|manifest| self.is_deleted(manifest))
    }

    /// The manifests of a stream in a destination that are still there.
    pub fn manifests<'a>(
        &'a self,
        stream: StreamId,
        dest: &'a str,
    ) -> impl Iterator<Item = (&'a Stored, &'a Id)> {
        let books = self.books.get(&stream);
        let stored = books.into_iter().flat_map(|books| books.stored.values());
        let here = stored.filter(move |stored| stored.dest == dest);
        here.filter_map(|stored| Some((stored, stored.manifest_id.as_ref()?)))
            .filter(|(_, manifest)| !self.is_deleted(manifest))
    }

    /// How many streams it takes to restore one.
    pub fn length(&self, stream: StreamId) -> u32 {
        self.lengths.get(&stream).copied().unwrap_or(0)
    }

    /// The streams that cannot be restored any more without these archives.
    pub fn lost<'i>(&mut self, archives: impl Iterator<Item = &'i str>) -> Vec<Brief> {
        self.chains.lost(archives)
    }
}
