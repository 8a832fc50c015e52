//! What a catalog says: which streams restore a snapshot, in which order.
//!
//! A catalog only grows, and most of it is hashes. Two passes over it are
//! enough: [`scan::survey`] keeps what tells streams apart (a few hundred
//! bytes a stored stream), [`Catalog::chain`] decides, and [`scan::select`]
//! finds the lines of the streams that were chosen. Nothing here touches a
//! file or a clock.

pub mod list;
pub mod scan;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet};

use jiff::Timestamp;

use crate::error::{Error, Result};
use crate::line::{Format, Guid, Snapshot, Stored, StreamId};

/// The streams of a catalog.
#[derive(Debug, Default)]
pub struct Catalog {
    entries: Vec<Entry>,
    by_id: HashMap<StreamId, usize>,
    /// By where they begin in their stream.
    snapshots: HashMap<StreamId, BTreeMap<u64, Snapshot>>,
}

/// A stored stream: the `stored` line of it that counts.
#[derive(Debug)]
struct Entry {
    stored: Stored,
    /// Where that line begins; archives behind it do not belong to it.
    at: u64,
    /// Two `stored` lines say different things of its content.
    disputed: bool,
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

/// The cheapest way to each stream from the full streams: the bytes of its
/// chain, and the stream before it.
struct Ways<'t> {
    /// Snapshots that need no stream.
    there: &'t HashSet<Guid>,
    settled: Vec<bool>,
    before: Vec<Option<usize>>,
    cost: Vec<(u64, u32)>,
}

impl Catalog {
    /// Takes a `stored` line that begins at `at`. Of several for one stream
    /// the one with the latest time counts, then the last.
    pub fn stored(&mut self, stored: Stored, at: u64) {
        let entry = self.by_id.get(&stored.stream).and_then(|index| self.entries.get_mut(*index));
        let Some(entry) = entry else {
            self.by_id.insert(stored.stream, self.entries.len());
            self.entries.push(Entry { stored, at, disputed: false });
            return;
        };
        let old = &entry.stored;
        entry.disputed |= (old.treehash, old.size) != (stored.treehash, stored.size);
        if stored.stored >= old.stored {
            entry.stored = stored;
            entry.at = at;
        }
    }

    /// Takes a `snapshot` line; of several about one place in a stream the
    /// last counts, as in what [`scan::select`] prints.
    pub fn snapshot(&mut self, snapshot: Snapshot) {
        self.snapshots.entry(snapshot.stream).or_default().insert(snapshot.offset, snapshot);
    }

    /// The streams that restore `word` (the name of a snapshot or stream, a
    /// guid, or a stream id), from the full one on. Of several ways the one
    /// with the fewest bytes is taken, then the one with the fewest streams.
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
            if self.format(index) == Format::Bytes {
                return self.links(&[index]);
            }
        }
        if matches!(target, Target::Snapshot(guid) if there.contains(&guid)) {
            return Err(Error::Data(format!("{word}: is there already, as --from says")));
        }
        let ways = self.ways(there);
        let best = self
            .holders(target)
            .filter(|index| ways.is_there(*index))
            .min_by_key(|index| self.order(&ways, *index));
        match best {
            Some(index) => self.links(&ways.chain(index)),
            None => Err(self.diagnose(word, target, &ways)),
        }
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
    fn order(&self, ways: &Ways, index: usize) -> ((u64, u32), Reverse<Option<Timestamp>>) {
        (at(&ways.cost, index), Reverse(self.time(index)))
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
            0 => Err(Error::Data(format!(
                "{word}: no such snapshot in the catalog; {}",
                self.hint()
            ))),
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
        let stored = self.entries.get(index).map(|entry| &entry.stored);
        if stored.is_some_and(|stored| stored.resumed) {
            return Err(Error::Data(format!(
                "{word}: is the rest of another stream (zfs send -t) and restores no snapshot"
            )));
        }
        let zfs = stored.is_some_and(|stored| stored.format == Format::Zfs);
        if zfs && self.provides(index).is_empty() {
            return Err(Error::Data(format!(
                "{word}: the catalog has no \"snapshot\" line of it, so its bases are not known"
            )));
        }
        Ok(())
    }

    fn format(&self, index: usize) -> Format {
        self.entries.get(index).map_or(Format::Bytes, |entry| entry.stored.format)
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
        let entry = self.entries.get(index).filter(|entry| entry.stored.format == Format::Zfs);
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

    /// Dijkstra's way from the full streams, and from those that are based on
    /// what is `there`, to all others, by bytes.
    fn ways<'t>(&self, there: &'t HashSet<Guid>) -> Ways<'t> {
        let count = self.entries.len();
        let mut ways = Ways {
            there,
            settled: vec![false; count],
            before: vec![None; count],
            cost: vec![(u64::MAX, u32::MAX); count],
        };
        let mut followers: HashMap<Guid, Vec<usize>> = HashMap::new();
        let mut queue = BinaryHeap::new();
        for index in 0..count {
            if self.provides(index).is_empty() {
                continue;
            }
            let needs = self.needs(index);
            match needs.iter().find(|guid| !there.contains(guid)) {
                Some(base) => followers.entry(*base).or_default().push(index),
                None => queue.push((Reverse((self.size(index), 1)), self.time(index), index, None)),
            }
        }
        while let Some((Reverse(cost), _, index, before)) = queue.pop() {
            if at(&ways.settled, index) {
                continue;
            }
            set(&mut ways.settled, index, true);
            set(&mut ways.before, index, before);
            set(&mut ways.cost, index, cost);
            for guid in self.provides(index) {
                for next in followers.get(&guid).into_iter().flatten().copied() {
                    if !at(&ways.settled, next) && self.lacks(next, index, &ways).is_none() {
                        let cost = (cost.0.saturating_add(self.size(next)), cost.1 + 1);
                        queue.push((Reverse(cost), self.time(next), next, Some(index)));
                    }
                }
            }
        }
        ways
    }

    fn size(&self, index: usize) -> u64 {
        self.entries.get(index).map_or(0, |entry| entry.stored.size)
    }

    /// A base of `index` that the chain up to `before` does not bring.
    fn lacks(&self, index: usize, before: usize, ways: &Ways) -> Option<Guid> {
        let needs = self.needs(index);
        if let [_] = needs.as_slice() {
            return None;
        }
        let brought: HashSet<Guid> =
            ways.chain(before).into_iter().flat_map(|index| self.provides(index)).collect();
        needs.into_iter().find(|guid| !brought.contains(guid) && !ways.there.contains(guid))
    }

    /// Why no chain leads to `target`: walks back until it breaks.
    fn diagnose(&self, word: &str, target: Target, ways: &Ways) -> Error {
        let newest = |target| self.holders(target).max_by_key(|index| self.time(*index));
        let Some(mut index) = newest(target) else {
            return Error::Data(format!(
                "{word}: is stored only as the rest of another stream (zfs send -t), which restores \
                 no snapshot"
            ));
        };
        let mut seen = HashSet::new();
        loop {
            let stored = self.entries.get(index).map(|entry| &entry.stored);
            let name = stored.map_or(word, |stored| stored.name.as_str());
            if !seen.insert(index) {
                return Error::Data(format!(
                    "{word}: its chain comes back to {name}; the catalog is wrong"
                ));
            }
            let missing = |guid: Guid| {
                Error::Data(format!(
                    "{word}: snapshot {guid}, which {name} is based on, is in no stored stream"
                ))
            };
            let needs = self.needs(index);
            let mut wanted = needs.iter().filter(|guid| !ways.there.contains(guid));
            let alone = wanted.clone().find(|guid| newest(Target::Snapshot(**guid)).is_none());
            let base = wanted.next().and_then(|guid| newest(Target::Snapshot(*guid)));
            match (alone, base) {
                (Some(guid), _) => return missing(*guid),
                (None, Some(base)) if ways.is_there(base) => {
                    return match self.lacks(index, base, ways) {
                        Some(guid) => Error::Data(format!(
                            "{word}: snapshot {guid}, which {name} is based on too, is not in the \
                             chain of its first base"
                        )),
                        None => Error::Bug(format!("{word}: a way that is there was not found")),
                    };
                }
                (None, Some(base)) => index = base,
                (None, None) => {
                    return Error::Bug(format!("{word}: a full stream was not found"));
                }
            }
        }
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

impl Ways<'_> {
    /// Whether there is a way to this stream.
    fn is_there(&self, index: usize) -> bool {
        at(&self.settled, index)
    }

    /// The chain that ends in `index`, from the full stream on.
    fn chain(&self, index: usize) -> Vec<usize> {
        let mut chain: Vec<usize> =
            std::iter::successors(Some(index), |index| at(&self.before, *index)).collect();
        chain.reverse();
        chain
    }
}

fn at<T: Copy + Default>(list: &[T], index: usize) -> T {
    list.get(index).copied().unwrap_or_default()
}

fn set<T>(list: &mut [T], index: usize, value: T) {
    if let Some(place) = list.get_mut(index) {
        *place = value;
    }
}

#[cfg(test)]
mod tests;
