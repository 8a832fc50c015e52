//! What a catalog says: which streams restore a snapshot, in which order.
//!
//! A catalog only grows, and most of it is hashes. Two passes over it are
//! enough: [`scan::survey`] keeps what tells streams apart (some 300 bytes a
//! stored stream), [`Catalog::chain`] decides, and [`scan::select`] finds the
//! lines of the streams that were chosen. Which lines count [`counted`] says.
//! Nothing here touches a file or a clock.

pub mod counted;
pub mod dependencies;
pub mod list;
pub mod part_hashes;
pub mod rebuild;
pub mod receivable;
pub mod retention;
pub mod scan;
mod shortest;

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;

use self::counted::{Defect, Lines, Named};
use self::receivable::Obstacle;
use self::shortest::{Cost, Ways};
use crate::error::{Error, Result};
use crate::hash::tree::Hash;
use crate::line::{Deleted, Features, Filter, Guid, Snapshot, Stored, StreamId};

/// The streams of a catalog.
#[derive(Debug, Default)]
pub struct Catalog {
    lines: Lines,
    /// All `stored` lines, by their numbers in `lines`.
    stored: Vec<Brief>,
    entries: Vec<Entry>,
    by_id: HashMap<StreamId, usize>,
    /// By stream, and by where they begin in it.
    snapshots: Vec<Inner>,
    /// Streams of which no `stored` line came: a name, and how many archives.
    unfinished: BTreeMap<StreamId, (Arc<str>, usize)>,
    /// Each text once: most stand in several lines.
    texts: HashSet<Arc<str>>,
}

/// What is kept of a `stored` line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Brief {
    /// Which stream.
    pub stream: StreamId,
    /// Its name.
    pub name: Arc<str>,
    /// Where it was cut.
    pub host: Arc<str>,
    guid: Option<Guid>,
    from_guid: Option<Guid>,
    facts: Facts,
    misplaced: u64,
    filter: Option<Box<Filter>>,
    compound: bool,
    resumed: bool,
    holds_snapshots: bool,
    generation: u32,
    size: u64,
    treehash: Hash,
    /// Where it is stored.
    pub dest: Arc<str>,
    /// In which region.
    pub region: Arc<str>,
    /// When.
    pub stored: Timestamp,
}

/// What is kept of a `snapshot` line.
#[derive(Debug)]
struct Inner {
    stream: StreamId,
    offset: u64,
    name: Arc<str>,
    guid: Guid,
    from_guid: Option<Guid>,
    facts: Facts,
}

/// What a BEGIN record says beside names and guids.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Facts {
    created: Option<Timestamp>,
    features: Option<Features>,
    clone: bool,
}

/// A stored stream.
#[derive(Debug)]
struct Entry {
    stream: StreamId,
    /// The number of the `stored` line of it that counts.
    line: usize,
    /// What it lacks.
    defect: Option<Defect>,
    /// Two `stored` lines say different things of its content.
    disputed: bool,
    /// Its snapshots: how many come before, and how many it has.
    snapshots: (usize, usize),
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
    /// Where the `archive` lines of its volumes begin, in order.
    pub archives: Vec<u64>,
}

/// What a user's word for a snapshot can mean.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Target {
    Snapshot(Guid),
    Stream(usize),
}

impl Catalog {
    /// Takes a `stored` line that begins at `at`.
    pub fn stored(&mut self, line: &Stored, at: u64) {
        self.lines.stored(line, at);
        self.unfinished.remove(&line.stream);
        let number = self.stored.len();
        let brief = Brief {
            stream: line.stream,
            name: self.text(&line.name),
            host: self.text(&line.host),
            guid: line.guid,
            from_guid: line.from_guid,
            facts: Facts { created: line.created, features: line.features, clone: line.clone },
            misplaced: line.misplaced,
            filter: line.filter.clone().map(Box::new),
            compound: line.compound,
            resumed: line.resumed,
            holds_snapshots: line.holds_snapshots(),
            generation: line.generation,
            size: line.size,
            treehash: line.treehash,
            dest: self.text(&line.dest),
            region: self.text(&line.region),
            stored: line.stored,
        };
        self.stored.push(brief);
        if let std::collections::hash_map::Entry::Vacant(place) = self.by_id.entry(line.stream) {
            place.insert(self.entries.len());
            let (stream, snapshots) = (line.stream, (0, 0));
            let entry = Entry { stream, line: number, defect: None, disputed: false, snapshots };
            self.entries.push(entry);
        }
    }

    /// Takes an `archive` line of a stream of this name that begins at `at`.
    pub fn archive(&mut self, line: &Named<'_>, name: &str, at: u64) {
        self.lines.archive(line, at);
        if !self.by_id.contains_key(&line.stream) {
            let name = self.text(name);
            self.unfinished.entry(line.stream).or_insert((name, 0)).1 += 1;
        }
    }

    /// Takes a `deleted` line.
    pub fn deleted(&mut self, deleted: &Deleted) {
        if let Some(archive) = &deleted.archive_id {
            self.lines.deleted(archive);
        }
    }

    fn text(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return Arc::clone(known);
        }
        let new: Arc<str> = text.into();
        self.texts.insert(Arc::clone(&new));
        new
    }

    /// Decides what counts, once all lines were taken.
    pub fn settle(&mut self) {
        self.lines.settle();
        // Of several about one place in a stream the last counts, as in what
        // `scan::select` prints.
        self.snapshots.sort_by_key(|it| (it.stream, it.offset));
        self.snapshots.dedup_by(|later, kept| {
            let is_same = (later.stream, later.offset) == (kept.stream, kept.offset);
            if is_same {
                std::mem::swap(later, kept);
            }
            is_same
        });
        self.decide();
        for entry in &mut self.entries {
            let first = self.snapshots.partition_point(|it| it.stream < entry.stream);
            let own = self.snapshots.iter().skip(first);
            entry.snapshots = (first, own.take_while(|it| it.stream == entry.stream).count());
        }
    }

    fn decide(&mut self) {
        for entry in &mut self.entries {
            let (mut best, mut content) = (None, None);
            entry.disputed = false;
            for line in self.lines.of(entry.stream) {
                let defect = self.lines.defect(line);
                let new = self.stored.get(line).map(|it| (it.treehash, it.size));
                // What was deleted disputes nothing.
                if !matches!(defect, Some(Defect::Deleted(_))) {
                    entry.disputed |= content.is_some() && content != new;
                    content = content.or(new);
                }
                let rank = self.lines.rank(line, defect);
                if rank >= best {
                    best = rank;
                    (entry.line, entry.defect) = (line, defect);
                }
            }
        }
    }

    /// Takes streams that are on their way, with their snapshots, as if they
    /// were stored: for whoever deletes they are. One that is stored whole
    /// stays as it is.
    pub fn expect<'s>(&mut self, streams: impl Iterator<Item = (&'s Stored, &'s [Snapshot])>) {
        for (stored, snapshots) in streams {
            let place = self.by_id.get(&stored.stream).copied();
            if place.is_none_or(|index| !self.is_whole(index)) {
                self.stored(stored, u64::MAX);
                for snapshot in snapshots {
                    self.snapshot(snapshot);
                }
            }
        }
        self.settle();
    }

    /// Whether an archive was deleted.
    pub fn is_deleted(&self, archive_id: &str) -> bool {
        self.lines.is_deleted(archive_id)
    }

    /// All copies of a stream, of which that of the highest rank counts.
    pub fn copies(&self, stream: StreamId) -> impl Iterator<Item = counted::Copy> {
        self.lines.of(stream).filter_map(|line| self.lines.copy(line))
    }

    /// Whether a stream is stored, as this line or one with other words for
    /// the same says.
    pub fn knows(&self, stored: &Stored) -> bool {
        let what = (stored.generation, stored.treehash, stored.size, stored.dest.as_str());
        let lines = self.lines.of(stored.stream).filter_map(|line| self.stored.get(line));
        lines.into_iter().any(|it| (it.generation, it.treehash, it.size, &*it.dest) == what)
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
    pub fn lost<'i>(&mut self, archives: impl Iterator<Item = &'i str>) -> Vec<Brief> {
        let there = self.bases_elsewhere();
        let count = self.entries.len();
        let before: Vec<bool> = {
            let ways = self.ways(&there);
            (0..count).map(|index| ways.is_there(index)).collect()
        };
        archives.for_each(|archive| self.lines.deleted(archive));
        self.decide();
        let ways = self.ways(&there);
        let lost = before.into_iter().enumerate();
        let lost = lost.filter(|(index, before)| *before && !ways.is_there(*index));
        lost.filter_map(|(index, _)| self.stream(index)).cloned().collect()
    }

    /// How many streams it takes to restore each: more than any of those that
    /// come before it.
    pub fn lengths(&self) -> HashMap<StreamId, u32> {
        let there = self.bases_elsewhere();
        let ways = self.ways(&there);
        let entries = self.entries.iter().enumerate();
        entries.map(|(index, entry)| (entry.stream, ways.cost(index).1)).collect()
    }

    /// Bases that no stream of the catalog ever held.
    fn bases_elsewhere(&self) -> HashSet<Guid> {
        let all = 0..self.entries.len();
        let held: HashSet<Guid> = all.clone().flat_map(|index| self.provides(index)).collect();
        all.flat_map(|index| self.needs(index)).filter(|guid| !held.contains(guid)).collect()
    }

    /// Takes a `snapshot` line.
    pub fn snapshot(&mut self, line: &Snapshot) {
        let Snapshot { stream, offset, guid, from_guid, created, features, clone, .. } = *line;
        let name = self.text(&line.name);
        let facts = Facts { created, features, clone };
        self.snapshots.push(Inner { stream, offset, name, guid, from_guid, facts });
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
        let ways = self.ways(there);
        let chain = self.way(word, target, &ways)?;
        if let Some(origin) = chain.last().and_then(|last| ways.origin(*last)) {
            let holder = self.holders(Target::Snapshot(origin)).next();
            let name = holder.and_then(|it| self.name_of(it, origin)).unwrap_or_default();
            return Err(Error::Data(format!(
                "{word}: is of a clone of {name}, which is another dataset; restore that, and then \
                 this into a dataset of its own, with --from {origin}"
            )));
        }
        self.links(&chain)
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
        for (index, stream) in (0..self.entries.len()).filter_map(|it| Some((it, self.stream(it)?)))
        {
            let mut guids: Vec<Guid> =
                self.named(index).filter(|(name, _)| *name == word).map(|(_, guid)| guid).collect();
            guids.dedup();
            if guids.is_empty() && &*stream.name == word {
                meanings.entry(Target::Stream(index)).or_default().push(index);
            }
            for guid in guids {
                meanings.entry(Target::Snapshot(guid)).or_default().push(index);
            }
        }
        match meanings.len() {
            0 => Err(Error::Data(match self.unfinished(word) {
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
        let Some(stream) = newest.and_then(|index| self.stream(index)) else {
            return String::new();
        };
        let word = match target {
            Target::Snapshot(guid) => guid.to_string(),
            Target::Stream(_) => stream.stream.to_string(),
        };
        format!("{word} (stored {} on {})", stream.stored, stream.host)
    }

    /// How many archives there are of a stream that is not stored, by its name
    /// or its id.
    fn unfinished(&self, word: &str) -> Option<usize> {
        let by_id = || word.parse().ok().and_then(|id: StreamId| self.unfinished.get(&id));
        let by_name = || self.unfinished.values().find(|(name, _)| &**name == word);
        by_id().or_else(by_name).map(|(_, count)| *count)
    }

    fn hint(&self) -> String {
        let streams = (0..self.entries.len()).filter_map(|index| self.stream(index));
        match streams.max_by_key(|stream| stream.stored) {
            None => "it is empty".to_owned(),
            Some(stream) => format!(
                "of its {} streams {} of {} is the newest",
                self.entries.len(),
                stream.name,
                stream.host
            ),
        }
    }

    /// Refuses a stream that cannot be restored for itself or as a chain.
    fn check_alone(&self, word: &str, index: usize) -> Result<()> {
        if let Some(defect) = self.defect(index) {
            return Err(Error::Data(format!("{word}: {defect}")));
        }
        if self.stream(index).is_some_and(|stream| stream.resumed) {
            return Err(Error::Data(format!(
                "{word}: is the rest of another stream (zfs send -t) and restores no snapshot"
            )));
        }
        if self.holds_snapshots(index) && self.provides(index).is_empty() {
            return Err(Error::Data(format!(
                "{word}: the catalog has no \"snapshot\" line of it, so its bases are not known"
            )));
        }
        Ok(())
    }

    /// The `stored` line of a stream that counts.
    fn stream(&self, index: usize) -> Option<&Brief> {
        self.stored.get(self.entries.get(index)?.line)
    }

    fn holds_snapshots(&self, index: usize) -> bool {
        self.stream(index).is_some_and(|stream| stream.holds_snapshots)
    }

    fn time(&self, index: usize) -> Option<Timestamp> {
        self.stream(index).map(|stream| stream.stored)
    }

    /// The snapshots inside of a stream, in its order.
    fn inner(&self, index: usize) -> impl Iterator<Item = &Inner> {
        let (first, count) = self.entries.get(index).map_or((0, 0), |entry| entry.snapshots);
        self.snapshots.iter().skip(first).take(count)
    }

    /// The names and guids of the snapshots that a stream holds.
    fn named(&self, index: usize) -> impl Iterator<Item = (&str, Guid)> {
        let stream = self.stream(index).filter(|stream| stream.holds_snapshots);
        let own = stream.and_then(|stream| stream.guid.map(|guid| (&*stream.name, guid)));
        let inner = stream.into_iter().flat_map(move |_| self.inner(index));
        own.into_iter().chain(inner.map(|inner| (&*inner.name, inner.guid)))
    }

    /// The snapshots that are there once this stream is received; none for
    /// the rest of an interrupted stream.
    fn provides(&self, index: usize) -> Vec<Guid> {
        if self.stream(index).is_none_or(|stream| stream.resumed) {
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
        let Some(stream) = self.stream(index) else { return Vec::new() };
        let inner = self.inner(index).filter_map(|snapshot| snapshot.from_guid);
        let mut needs = Vec::new();
        for base in stream.from_guid.into_iter().chain(inner) {
            // A stream whose only snapshot is its own base needs it all the
            // same: that is a circle, and found as one.
            let within = stream.compound && self.named(index).any(|(_, guid)| guid == base);
            if !within && !needs.contains(&base) {
                needs.push(base);
            }
        }
        needs
    }

    /// Each snapshot that a stream holds: its guid, that of its base, and what
    /// its BEGIN record says.
    fn facts(&self, index: usize) -> impl Iterator<Item = (Guid, Option<Guid>, Facts)> {
        let own = self.stream(index).filter(|stream| stream.holds_snapshots);
        let own = own.and_then(|it| Some((it.guid?, it.from_guid, it.facts)));
        let inner = self.inner(index).map(|it| (it.guid, it.from_guid, it.facts));
        own.into_iter().chain(inner)
    }

    /// What a stream says of the snapshot of this guid that it holds.
    fn features(&self, index: usize, guid: Guid) -> Option<Features> {
        let mut facts = self.facts(index);
        facts.find_map(|(it, _, facts)| facts.features.filter(|_| it == guid))
    }

    /// Why `zfs receive` would not take a stream on the snapshot `base` as
    /// another stream brings it.
    fn obstacle(&self, next: usize, base: Guid, brought_by: usize) -> Option<Obstacle> {
        let brought = self.features(brought_by, base);
        self.facts(next).filter(|(_, from, _)| *from == Some(base)).find_map(|(_, _, facts)| {
            // A clone is a dataset of its own, and never what is there.
            if facts.clone { None } else { Obstacle::between(brought, facts.features) }
        })
    }

    /// The snapshot of another dataset that a stream is a clone of: it cannot
    /// be received where that is.
    fn origin(&self, index: usize) -> Option<Guid> {
        let needs = self.needs(index);
        self.facts(index)
            .find_map(|(_, from, facts)| from.filter(|from| facts.clone && needs.contains(from)))
    }

    /// When snapshots were taken, of those of which a line says so. None was
    /// taken after it was stored, or before what it is based on: there the clock
    /// of its sender was wrong.
    fn times(&self) -> HashMap<Guid, Timestamp> {
        let mut told: HashMap<Guid, (Timestamp, Option<Guid>)> = HashMap::new();
        for index in 0..self.entries.len() {
            let Some(stored) = self.time(index) else { continue };
            for (guid, base, facts) in self.facts(index) {
                let Some(created) = facts.created else { continue };
                let time = created.min(stored);
                let known = told.entry(guid).or_insert((time, base));
                *known = (known.0.min(time), known.1.or(base));
            }
        }
        let mut times: HashMap<Guid, Timestamp> = HashMap::new();
        for guid in told.keys() {
            // From here back to a base of which the time is settled, or that
            // says nothing; a circle ends where it began.
            let (mut path, mut seen, mut at) = (Vec::new(), HashSet::new(), Some(*guid));
            while let Some(next) = at.filter(|it| !times.contains_key(it) && seen.insert(*it)) {
                let Some((time, base)) = told.get(&next) else { break };
                path.push((next, *time));
                at = *base;
            }
            let mut least = at.and_then(|base| times.get(&base).copied());
            for (guid, time) in path.into_iter().rev() {
                let time = least.map_or(time, |least| time.max(least));
                times.insert(guid, time);
                least = Some(time);
            }
        }
        times
    }

    fn holders(&self, target: Target) -> impl Iterator<Item = usize> {
        (0..self.entries.len()).filter(move |index| match target {
            Target::Snapshot(guid) => self.provides(*index).contains(&guid),
            Target::Stream(stream) => *index == stream,
        })
    }

    fn name(&self, index: usize) -> Option<&str> {
        self.stream(index).map(|stream| &*stream.name)
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
        self.stream(index).map_or(0, |stream| stream.size)
    }

    /// The links of a chain, unless two `stored` lines disagree about one:
    /// hashes prove integrity, not which of them is right.
    fn links(&self, chain: &[usize]) -> Result<Vec<Link>> {
        let missing = || Error::Bug("a chain holds what is not there".to_owned());
        let link = |index: &usize| {
            let stream = self.stream(*index).ok_or_else(missing)?;
            if self.is_disputed(*index) {
                return Err(Error::Data(format!(
                    "{}: two \"stored\" lines of stream {} disagree; take the wrong one out",
                    stream.name, stream.stream
                )));
            }
            self.link(*index).ok_or_else(missing)
        };
        chain.iter().map(link).collect()
    }

    /// The lines of a stream that count, by its place in the lists.
    pub fn link(&self, index: usize) -> Option<Link> {
        let (stream, copy) = (self.stream(index)?, self.lines.copy(self.entries.get(index)?.line)?);
        Some(Link {
            stream: stream.stream,
            generation: stream.generation,
            dest: stream.dest.to_string(),
            at: copy.at,
            archives: copy.archives,
        })
    }
}

#[cfg(test)]
mod tests;
