//! The cheapest way to each stream: all the streams that must be received
//! before it, in an order in which each finds its bases.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use super::receivable::Obstacle;
use super::{Catalog, Target};
use crate::error::{Error, Result};
use crate::line::Guid;

/// Bytes of a chain, and its streams.
pub(super) type Cost = (u64, u32);

/// The ways to the streams of a catalog.
pub(super) struct Ways<'t> {
    /// Snapshots that need no stream.
    there: &'t HashSet<Guid>,
    chains: Vec<Option<Chain>>,
}

/// The way to one stream.
struct Chain {
    cost: Cost,
    /// The streams before it; the first of these brings most.
    before: Vec<usize>,
    /// A stream of it is disputed.
    disputed: bool,
    /// Of the last clone in it, the snapshot of another dataset that it is of.
    origin: Option<Guid>,
    /// Records of it that `zfs receive` takes for something else.
    misplaced: u64,
}

impl Ways<'_> {
    /// Whether there is a way to this stream.
    pub fn is_there(&self, index: usize) -> bool {
        self.get(index).is_some()
    }

    /// Bytes and streams of the way to it.
    pub fn cost(&self, index: usize) -> Cost {
        self.get(index).map_or((u64::MAX, u32::MAX), |chain| chain.cost)
    }

    /// Whether what a stream of it holds is disputed.
    pub fn is_disputed(&self, index: usize) -> bool {
        self.get(index).is_some_and(|chain| chain.disputed)
    }

    /// Of the last clone on the way, the snapshot that it is of.
    pub fn origin(&self, index: usize) -> Option<Guid> {
        self.get(index).and_then(|chain| chain.origin)
    }

    /// How many records of the way to it `zfs receive` takes for something else.
    pub fn misplaced(&self, index: usize) -> u64 {
        self.get(index).map_or(0, |chain| chain.misplaced)
    }

    /// The streams that this one comes behind.
    pub fn before(&self, index: usize) -> &[usize] {
        self.get(index).map_or(&[], |chain| chain.before.as_slice())
    }

    fn get(&self, index: usize) -> Option<&Chain> {
        self.chains.get(index).and_then(Option::as_ref)
    }

    /// The chain that ends in `index`, from its full streams on.
    pub fn chain(&self, index: usize) -> Vec<usize> {
        self.union(&[index])
    }

    /// All streams that lead to these, each once, and behind its bases.
    fn union(&self, ends: &[usize]) -> Vec<usize> {
        let mut chain = Vec::new();
        let mut seen = HashSet::new();
        let mut stack: Vec<(usize, bool)> = ends.iter().rev().map(|end| (*end, false)).collect();
        while let Some((index, is_ready)) = stack.pop() {
            if is_ready {
                chain.push(index);
            } else if seen.insert(index) {
                stack.push((index, true));
                let before = self.get(index).map(|chain| chain.before.as_slice());
                stack.extend(before.unwrap_or_default().iter().rev().map(|index| (*index, false)));
            }
        }
        chain
    }
}

impl Catalog {
    /// Dijkstra's ways from the full streams, and from those that are based on
    /// what is `there`, to all others, by bytes. A stream is reached when all
    /// that it is based on is; most have one base.
    pub(super) fn ways<'t>(&self, there: &'t HashSet<Guid>) -> Ways<'t> {
        let count = self.entries.len();
        let mut ways = Ways { there, chains: (0..count).map(|_| None).collect() };
        let needs: Vec<Vec<Guid>> = (0..count)
            .map(|index| self.needs(index).into_iter().filter(|guid| !there.contains(guid)))
            .map(Iterator::collect)
            .collect();
        let mut followers: HashMap<Guid, Vec<usize>> = HashMap::new();
        let mut brought: HashMap<Guid, Vec<usize>> = HashMap::new();
        let mut queue = BinaryHeap::new();
        for (index, needs) in needs.iter().enumerate() {
            if self.is_whole(index) && !self.provides(index).is_empty() {
                if needs.is_empty() {
                    let cost = (self.size(index), 1);
                    queue.push((Reverse(cost), self.time(index), index, Vec::new()));
                }
                for base in needs {
                    followers.entry(*base).or_default().push(index);
                }
            }
        }
        while let Some((Reverse(cost), _, index, before)) = queue.pop() {
            if ways.is_there(index) {
                continue;
            }
            let disputed =
                self.is_disputed(index) || before.iter().any(|before| ways.is_disputed(*before));
            let origin = self.origin(index).filter(|origin| !there.contains(origin));
            let origin = origin.or_else(|| before.iter().find_map(|it| ways.origin(*it)));
            let own = self.stream(index).map_or(0, |stream| stream.misplaced);
            let misplaced =
                before.iter().fold(own, |sum, it| sum.saturating_add(ways.misplaced(*it)));
            if let Some(way) = ways.chains.get_mut(index) {
                *way = Some(Chain { cost, before, disputed, origin, misplaced });
            }
            for guid in self.provides(index) {
                // Those that bring it at the least cost: one for all that is
                // taken on it.
                let features = self.features(index, guid);
                let known = brought.entry(guid).or_default();
                if known.iter().any(|other| self.features(*other, guid) == features) {
                    continue;
                }
                known.push(index);
                for next in followers.get(&guid).into_iter().flatten().copied() {
                    let needs = needs.get(next).map(Vec::as_slice).unwrap_or_default();
                    if !ways.is_there(next)
                        && self.obstacle(next, guid, index).is_none()
                        && let Some(before) = self.bases(next, needs, index, &brought, &ways)
                    {
                        let cost = self.cost_behind(&before, next, &ways);
                        queue.push((Reverse(cost), self.time(next), next, before));
                    }
                }
            }
        }
        ways
    }

    /// What the way to `next` costs, if it leads over these.
    fn cost_behind(&self, before: &[usize], next: usize, ways: &Ways) -> Cost {
        let (bytes, streams) = match before {
            [one] => ways.cost(*one),
            several => ways.union(several).into_iter().fold((0, 0), |(bytes, streams), index| {
                (self.size(index).saturating_add(bytes), streams + 1)
            }),
        };
        (bytes.saturating_add(self.size(next)), streams.saturating_add(1))
    }

    /// The streams whose chains bring all of `needs`, `last` among them: one,
    /// if its chain does; `None` if something is not brought yet.
    fn bases(
        &self,
        next: usize,
        needs: &[Guid],
        last: usize,
        brought: &HashMap<Guid, Vec<usize>>,
        ways: &Ways,
    ) -> Option<Vec<usize>> {
        let mut before = vec![last];
        if needs.len() > 1 {
            let within = |before: &[usize]| -> HashSet<Guid> {
                ways.union(before).into_iter().flat_map(|index| self.provides(index)).collect()
            };
            let mut there = within(&before);
            for guid in needs {
                if !there.contains(guid) {
                    let mut bringers = brought.get(guid)?.iter().copied();
                    before.push(bringers.find(|it| self.obstacle(next, *guid, *it).is_none())?);
                    there = within(&before);
                }
            }
        }
        Some(before)
    }

    /// The name of a base that is there, and on which `zfs receive` takes this
    /// stream from nobody who brings it; and why not.
    pub(super) fn refused(
        &self,
        index: usize,
        needs: &[Guid],
        ways: &Ways,
    ) -> Option<(&str, Obstacle)> {
        needs.iter().find_map(|base| {
            let there = self.holders(Target::Snapshot(*base)).filter(|it| ways.is_there(*it));
            let mut obstacles =
                there.map(|it| self.obstacle(index, *base, it).map(|why| (it, why)));
            let first = obstacles.next()??;
            let (holder, why) = obstacles.all(|other| other.is_some()).then_some(first)?;
            Some((self.name(holder)?, why))
        })
    }

    /// Why no chain leads to `target`: walks back until it breaks.
    pub(super) fn diagnose(&self, word: &str, target: Target, ways: &Ways) -> Error {
        let newest = |target| self.holders(target).max_by_key(|index| self.time(*index));
        let Some(mut index) = newest(target) else {
            return Error::Data(format!(
                "{word}: is stored only as the rest of another stream (zfs send -t), which restores \
                 no snapshot"
            ));
        };
        let mut seen = HashSet::new();
        loop {
            let name = self.name(index).unwrap_or(word);
            if !seen.insert(index) {
                return Error::Data(format!(
                    "{word}: its chain comes back to {name}; the catalog is wrong"
                ));
            }
            if let Some(defect) = self.defect(index) {
                let of = if name == word { String::new() } else { format!("{name}, ") };
                return Error::Data(format!("{word}: {of}{defect}"));
            }
            let needs = self.needs(index);
            let wanted: Vec<Guid> =
                needs.into_iter().filter(|guid| !ways.there.contains(guid)).collect();
            let holder = |guid: &Guid| newest(Target::Snapshot(*guid));
            if let Some(guid) = wanted.iter().find(|guid| holder(guid).is_none()) {
                return Error::Data(format!(
                    "{word}: snapshot {guid}, which {name} is based on, is in no stored stream"
                ));
            }
            if let Some((base, obstacle)) = self.refused(index, &wanted, ways) {
                let of = if name == word { String::new() } else { format!(": {name}") };
                return Error::Data(format!(
                    "{word}{of}: zfs receive does not take it: its base {base} {obstacle}"
                ));
            }
            let reached =
                |guid: &&Guid| self.holders(Target::Snapshot(**guid)).any(|it| ways.is_there(it));
            match wanted.iter().find(|guid| !reached(guid)).and_then(holder) {
                Some(base) => index = base,
                None => return Error::Bug(format!("{word}: a way that is there was not found")),
            }
        }
    }

    /// The chain to what `target` means.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn way(&self, word: &str, target: Target, ways: &Ways) -> Result<Vec<usize>> {
        self.holders(target)
            .filter(|index| ways.is_there(*index))
            .min_by_key(|index| self.order(ways, *index))
            .map(|index| ways.chain(index))
            .ok_or_else(|| self.diagnose(word, target, ways))
    }
}
