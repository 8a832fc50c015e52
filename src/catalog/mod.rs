//! What a catalog says: which streams restore a snapshot, in which order.
//!
//! A catalog only grows, and most of it is hashes. Two passes over it are
//! enough: [`scan::survey`] keeps what tells streams apart (a few hundred
//! bytes a stored stream), [`Catalog::chain`] decides, and [`scan::select`]
//! finds the lines of the streams that were chosen. Nothing here touches a
//! file or a clock.

mod archives;
pub mod dependencies;
pub mod list;
pub mod rebuild;
pub mod retention;
pub mod scan;
mod shortest;

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::Timestamp;

pub use self::archives::Brief;
use self::archives::{Archives, Defect};
use crate::catalog::shortest::{Cost, Ways};
use crate::error::{Error, Result};
use crate::line::{Deleted, Guid, Snapshot, Stored, StreamId};

/// The streams of a catalog.
#[derive(Debug, Default)]
pub struct Catalog {
    entries: Vec<Entry>,
    by_id: HashMap<StreamId, usize>,
    /// By where they begin in their stream.
    snapshots: HashMap<StreamId, BTreeMap<u64, Snapshot>>,
    archives: Archives,
}

/// A stored stream: the `stored` line of it that counts.
#[derive(Debug)]
struct Entry {
    stored: Stored,
    /// Where that line begins; archives behind it do not belong to it.
    at: u64,
    /// What it lacks.
    defect: Option<Defect>,
    /// Two `stored` lines say different things of its content.
    disputed: bool,
    /// Other `stored` lines of it, and where they begin: it is stored twice.
    others: Vec<(Stored, u64)>,
}

/// A stream of a chain: which of its lines count.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Link {
    /// Which stream.
    pub stream: StreamId,
    /// Which attempt at it was completed.
    pub generation: u32,
    /// Where.
    pub dest: String,
    /// Where its `stored` line begins in the catalog.
    pub at: u64,
}

/// What a user's word for a snapshot can mean.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Target {
    Snapshot(Guid),
    Stream(usize),
}

impl Catalog {
    /// Takes a `stored` line that begins at `at`.
    pub fn stored(&mut self, stored: Stored, at: u64) {
        match self.by_id.get(&stored.stream).and_then(|index| self.entries.get_mut(*index)) {
            // A repeated line: what stands before its last place counts.
            Some(entry) if entry.stored == stored => entry.at = at,
            Some(entry) => entry.others.push((stored, at)),
            None => {
                self.by_id.insert(stored.stream, self.entries.len());
                let (defect, others) = (None, Vec::new());
                self.entries.push(Entry { stored, at, defect, disputed: false, others });
            }
        }
    }

    /// Takes an `archive` line that begins at `at`.
    pub fn archive(&mut self, archive: &Brief<'_>, at: u64) {
        self.archives.add(archive, at);
    }

    /// Takes a `deleted` line.
    pub fn deleted(&mut self, deleted: &Deleted) {
        if let Some(archive) = &deleted.archive_id {
            self.archives.delete(archive);
        }
    }

    /// Decides which `stored` line of each stream counts, once all lines were
    /// taken: of those that lack nothing, or else of all, the one with the
    /// latest time, then the last.
    pub fn settle(&mut self) {
        for entry in &mut self.entries {
            entry.settle(&self.archives);
        }
    }

    /// Takes streams that are on their way, with their snapshots, as if they
    /// were stored: for whoever deletes they are. One that is stored whole
    /// stays as it is.
    pub fn expect<'s>(&mut self, streams: impl Iterator<Item = (&'s Stored, &'s [Snapshot])>) {
        for (stored, snapshots) in streams {
            let place = self.by_id.get(&stored.stream).copied();
            if place.is_none_or(|index| !self.is_whole(index)) {
                self.stored(stored.clone(), u64::MAX);
                for snapshot in snapshots {
                    self.snapshot(snapshot.clone());
                }
            }
        }
        self.settle();
    }

    /// Whether a stream is stored, as this line or one with other words for
    /// the same says.
    pub fn knows(&self, stored: &Stored) -> bool {
        let what = |it: &Stored| (it.generation, it.treehash, it.size, it.dest == stored.dest);
        let entry = self.by_id.get(&stored.stream).and_then(|index| self.entries.get(*index));
        entry.is_some_and(|entry| {
            let others = entry.others.iter().map(|(stored, _)| stored);
            others.chain([&entry.stored]).any(|it| what(it) == what(stored))
        })
    }

    /// A snapshot that a stream is based on, and that nothing brings back any
    /// more. A base that no stream ever held is taken to be on the other side.
    pub fn lost_base(&self, stream: StreamId) -> Option<Guid> {
        let index = *self.by_id.get(&stream)?;
        let there = self.bases_elsewhere();
        let ways = self.ways(&there);
        let is_there = |guid: Guid| {
            there.contains(&guid)
                || self.holders(Target::Snapshot(guid)).any(|holder| ways.is_there(holder))
        };
        let mut needs = self.needs(index).into_iter();
        needs.find(|guid| self.holds_snapshots(index) && !is_there(*guid))
    }

    /// The streams that could be restored, and no more once these archives are
    /// deleted, too; from here on they are. A base that no stream ever held
    /// is taken to be on the other side.
    pub fn lost<'i>(&mut self, archives: impl Iterator<Item = &'i str>) -> Vec<&Stored> {
        let there = self.bases_elsewhere();
        let count = self.entries.len();
        let before: Vec<bool> = {
            let ways = self.ways(&there);
            (0..count).map(|index| ways.is_there(index)).collect()
        };
        archives.for_each(|archive| self.archives.delete(archive));
        self.settle();
        let ways = self.ways(&there);
        let lost = before.into_iter().enumerate();
        let lost = lost.filter(|(index, before)| *before && !ways.is_there(*index));
        lost.filter_map(|(index, _)| self.entries.get(index)).map(|entry| &entry.stored).collect()
    }

    /// How many streams it takes to restore each: more than any of those that
    /// come before it.
    pub fn lengths(&self) -> HashMap<StreamId, u32> {
        let there = self.bases_elsewhere();
        let ways = self.ways(&there);
        let entries = self.entries.iter().enumerate();
        entries.map(|(index, entry)| (entry.stored.stream, ways.cost(index).1)).collect()
    }

    /// Bases that no stream of the catalog ever held.
    fn bases_elsewhere(&self) -> HashSet<Guid> {
        let all = 0..self.entries.len();
        let held: HashSet<Guid> = all.clone().flat_map(|index| self.provides(index)).collect();
        all.flat_map(|index| self.needs(index)).filter(|guid| !held.contains(guid)).collect()
    }

    /// Takes a `snapshot` line; of several about one place in a stream the
    /// last counts, as in what [`scan::select`] prints.
    pub fn snapshot(&mut self, snapshot: Snapshot) {
        self.snapshots.entry(snapshot.stream).or_default().insert(snapshot.offset, snapshot);
    }

    /// The streams that restore `word` (the name of a snapshot or stream, a
    /// guid, or a stream id), from the full one on. Of several ways the one
    /// with the fewest bytes is taken, then the one with the fewest streams.
    /// A stream with several bases comes behind the chains of all of them.
    ///
    /// What is received already, on the other side, is `there`: the chain
    /// may begin with a stream that is based on it.
    ///
    /// # Errors
    /// When there is no such snapshot, its name means several, a link is
    /// missing, links form a circle, or it is there already.
    pub fn chain(&self, word: &str, there: &HashSet<Guid>) -> Result<Vec<Link>> {
        if self.entries.is_empty() {
            return Err(Error::Data(
                "stdin: no \"stored\" line; is this the catalog of glacier-put?".to_owned(),
            ));
        }
        let target = self.target(word)?;
        if let Target::Stream(index) = target {
            self.check_alone(word, index)?;
            if !self.holds_snapshots(index) {
                return self.links(&[index]);
            }
        }
        if matches!(target, Target::Snapshot(guid) if there.contains(&guid)) {
            return Err(Error::Data(format!("{word}: is there already, as --from says")));
        }
        self.links(&self.way(word, target, &self.ways(there))?)
    }

    /// The guid that a word for a snapshot means: its own, or that of the
    /// one snapshot of this name.
    ///
    /// # Errors
    /// When the name means none, or several.
    pub fn guid(&self, word: &str) -> Result<Guid> {
        if let Ok(guid) = word.parse() {
            return Ok(Guid(guid));
        }
        match self.target(word)? {
            Target::Snapshot(guid) => Ok(guid),
            Target::Stream(_) => Err(Error::Data(format!("{word}: is no snapshot"))),
        }
    }

    /// Which of several ways is taken: bytes, streams, the latest.
    fn order(&self, ways: &Ways, index: usize) -> (Cost, Reverse<Option<Timestamp>>) {
        (ways.cost(index), Reverse(self.time(index)))
    }

    /// What `word` means, if that is one thing.
    fn target(&self, word: &str) -> Result<Target> {
        if let Ok(guid) = word.parse().map(Guid)
            && (0..self.entries.len()).any(|index| self.named(index).any(|(_, g)| g == guid))
        {
            return Ok(Target::Snapshot(guid));
        }
        if let Some(index) = word.parse().ok().and_then(|id: StreamId| self.by_id.get(&id)) {
            return Ok(Target::Stream(*index));
        }
        let mut meanings: BTreeMap<Target, Vec<usize>> = BTreeMap::new();
        for (index, entry) in self.entries.iter().enumerate() {
            let mut guids: Vec<Guid> =
                self.named(index).filter(|(name, _)| *name == word).map(|(_, guid)| guid).collect();
            guids.dedup();
            if guids.is_empty() && entry.stored.name == word {
                meanings.entry(Target::Stream(index)).or_default().push(index);
            }
            for guid in guids {
                meanings.entry(Target::Snapshot(guid)).or_default().push(index);
            }
        }
        match meanings.len() {
            0 => Err(Error::Data(match self.archives.count(word) {
                Some(count) => format!(
                    "{word}: is not stored, though {count} of its archives {} there; run the \
                     command again that stores it",
                    if count == 1 { "is" } else { "are" }
                ),
                None => format!("{word}: no such snapshot in the catalog; {}", self.hint()),
            })),
            1 => meanings.into_keys().next().ok_or_else(|| Error::Bug("one is none".to_owned())),
            many => {
                let list: Vec<String> =
                    meanings.into_iter().map(|(target, of)| self.candidate(target, &of)).collect();
                Err(Error::Data(format!(
                    "{word}: means {many} things, give one's number instead: {}",
                    list.join(", ")
                )))
            }
        }
    }

    /// A meaning as the user is shown it: the word to use, when, and whose.
    fn candidate(&self, target: Target, of: &[usize]) -> String {
        let newest = of.iter().copied().max_by_key(|index| self.time(*index));
        let Some(entry) = newest.and_then(|index| self.entries.get(index)) else {
            return String::new();
        };
        let word = match target {
            Target::Snapshot(guid) => guid.to_string(),
            Target::Stream(_) => entry.stored.stream.to_string(),
        };
        format!("{word} (stored {} on {})", entry.stored.stored, entry.stored.host)
    }

    fn hint(&self) -> String {
        match self.entries.iter().max_by_key(|entry| entry.stored.stored) {
            None => "it is empty".to_owned(),
            Some(entry) => format!(
                "of its {} streams {} of {} is the newest",
                self.entries.len(),
                entry.stored.name,
                entry.stored.host
            ),
        }
    }

    /// Refuses a stream that cannot be restored for itself or as a chain.
    fn check_alone(&self, word: &str, index: usize) -> Result<()> {
        if let Some(defect) = self.defect(index) {
            return Err(Error::Data(format!("{word}: {defect}")));
        }
        let stored = self.entries.get(index).map(|entry| &entry.stored);
        if stored.is_some_and(|stored| stored.resumed) {
            return Err(Error::Data(format!(
                "{word}: is the rest of another stream (zfs send -t) and restores no snapshot"
            )));
        }
        if stored.is_some_and(Stored::holds_snapshots) && self.provides(index).is_empty() {
            return Err(Error::Data(format!(
                "{word}: the catalog has no \"snapshot\" line of it, so its bases are not known"
            )));
        }
        Ok(())
    }

    fn holds_snapshots(&self, index: usize) -> bool {
        self.entries.get(index).is_some_and(|entry| entry.stored.holds_snapshots())
    }

    fn time(&self, index: usize) -> Option<Timestamp> {
        self.entries.get(index).map(|entry| entry.stored.stored)
    }

    /// The snapshots inside of a stream, in its order.
    fn inner(&self, entry: &Entry) -> impl Iterator<Item = &Snapshot> {
        self.snapshots.get(&entry.stored.stream).into_iter().flat_map(BTreeMap::values)
    }

    /// The names and guids of the snapshots that a stream holds.
    fn named(&self, index: usize) -> impl Iterator<Item = (&str, Guid)> {
        let entry = self.entries.get(index).filter(|entry| entry.stored.holds_snapshots());
        let own = entry.and_then(|e| e.stored.guid.map(|guid| (e.stored.name.as_str(), guid)));
        let inner = entry.into_iter().flat_map(|entry| self.inner(entry));
        own.into_iter().chain(inner.map(|inner| (inner.name.as_str(), inner.guid)))
    }

    /// The snapshots that are there once this stream is received; none for
    /// the rest of an interrupted stream.
    fn provides(&self, index: usize) -> Vec<Guid> {
        if self.entries.get(index).is_none_or(|entry| entry.stored.resumed) {
            return Vec::new();
        }
        let mut guids: Vec<Guid> = Vec::new();
        for (_, guid) in self.named(index) {
            if !guids.contains(&guid) {
                guids.push(guid);
            }
        }
        guids
    }

    /// The snapshots that must be there before, in the stream's order.
    fn needs(&self, index: usize) -> Vec<Guid> {
        let Some(entry) = self.entries.get(index) else { return Vec::new() };
        let own: HashSet<Guid> = self.named(index).map(|(_, guid)| guid).collect();
        let inner = self.inner(entry).filter_map(|snapshot| snapshot.from_guid);
        let mut needs = Vec::new();
        for base in entry.stored.from_guid.into_iter().chain(inner) {
            // A stream whose only snapshot is its own base needs it all the
            // same: that is a circle, and found as one.
            let within = entry.stored.compound && own.contains(&base);
            if !within && !needs.contains(&base) {
                needs.push(base);
            }
        }
        needs
    }

    fn holders(&self, target: Target) -> impl Iterator<Item = usize> {
        (0..self.entries.len()).filter(move |index| match target {
            Target::Snapshot(guid) => self.provides(*index).contains(&guid),
            Target::Stream(stream) => *index == stream,
        })
    }

    fn name(&self, index: usize) -> Option<&str> {
        self.entries.get(index).map(|entry| entry.stored.name.as_str())
    }

    fn defect(&self, index: usize) -> Option<Defect> {
        self.entries.get(index).and_then(|entry| entry.defect)
    }

    fn is_disputed(&self, index: usize) -> bool {
        self.entries.get(index).is_some_and(|entry| entry.disputed)
    }

    fn is_whole(&self, index: usize) -> bool {
        self.defect(index).is_none()
    }

    fn size(&self, index: usize) -> u64 {
        self.entries.get(index).map_or(0, |entry| entry.stored.size)
    }

    /// The links of a chain, unless two `stored` lines disagree about one:
    /// hashes prove integrity, not which of them is right.
    fn links(&self, chain: &[usize]) -> Result<Vec<Link>> {
        chain
            .iter()
            .map(|index| {
                let entry = self
                    .entries
                    .get(*index)
                    .ok_or_else(|| Error::Bug("a chain holds what is not there".to_owned()))?;
                let stored = &entry.stored;
                if entry.disputed {
                    return Err(Error::Data(format!(
                        "{}: two \"stored\" lines of stream {} disagree; take the wrong one out",
                        stored.name, stored.stream
                    )));
                }
                Ok(Link {
                    stream: stored.stream,
                    generation: stored.generation,
                    dest: stored.dest.clone(),
                    at: entry.at,
                })
            })
            .collect()
    }
}

impl Entry {
    fn settle(&mut self, archives: &Archives) {
        let mut copies = std::mem::take(&mut self.others);
        copies.push((self.stored.clone(), self.at));
        // As they stand in the catalog; of equals max_by_key takes the last.
        copies.sort_by_key(|(_, at)| *at);
        let copies = copies.into_iter().map(|(stored, at)| {
            let defect = archives.defect(&stored, at);
            (stored, at, defect)
        });
        let mut copies: Vec<_> = copies.collect();
        // What was deleted disputes nothing.
        let mut contents = copies
            .iter()
            .filter(|(.., defect)| !matches!(defect, Some(Defect::Deleted(_))))
            .map(|(stored, ..)| (stored.treehash, stored.size));
        let first = contents.next();
        self.disputed = contents.any(|content| Some(content) != first);
        let best = copies
            .iter()
            .enumerate()
            .max_by_key(|(_, (stored, _, defect))| (defect.is_none(), stored.stored))
            .map(|(index, _)| index);
        if let Some(best) = best {
            (self.stored, self.at, self.defect) = copies.remove(best);
        }
        self.others = copies.into_iter().map(|(stored, at, _)| (stored, at)).collect();
    }
}

#[cfg(test)]
mod tests;
