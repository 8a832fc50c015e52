//! What each stored stream of a catalog needs, and which snapshots it brings
//! back: what a retention must know.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;

use super::counted::Defect;
use super::shortest::Ways;
use super::{Catalog, Link};
use crate::hash::tree::Hash;
use crate::line::{Guid, StreamId};

/// The way to a stored stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Road {
    /// The streams that it is based on, by their places in the list: those of
    /// the chain that [`Catalog::chain`] finds.
    pub before: Vec<usize>,
    /// How many streams its chain has.
    pub streams: u32,
    /// The snapshots that it brings back, in its order, with their names; one
    /// without a guid where it is not of ZFS. None if its chain is not whole.
    pub holds: Vec<Held>,
    /// Why it cannot be brought back.
    pub closed: Option<Closed>,
}

/// A snapshot that a stream brings back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its name.
    pub name: String,
    /// Its guid; none where the stream is not of ZFS.
    pub guid: Option<Guid>,
    /// When it was taken, where a line says so.
    pub created: Option<Timestamp>,
}

/// Why a stream cannot be brought back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Closed {
    /// Archives of it were deleted.
    Deleted,
    /// It is not whole, or lines disagree about it.
    Lacks(String),
    /// It is whole, but what it is based on is not there.
    Alone(String),
}

impl Catalog {
    /// The lines that count of each stream. Each has the same place in all
    /// lists.
    pub fn all_links(&self) -> impl Iterator<Item = Link> {
        (0..self.entries.len()).filter_map(|index| self.link(index))
    }

    /// The tree hashes and sizes of the streams of which nothing is known to
    /// be deleted.
    pub fn contents(&self) -> impl Iterator<Item = (StreamId, (Hash, u64))> {
        let there = (0..self.entries.len())
            .filter(|index| !matches!(self.defect(*index), Some(Defect::Deleted(_))));
        let streams = there.filter_map(|index| self.stream(index));
        streams.map(|stream| (stream.stream, (stream.treehash, stream.size)))
    }

    /// Takes the id of an archive that is gone.
    pub fn gone(&mut self, archive_id: &str) {
        self.lines.deleted(archive_id);
    }

    /// The place of a stream in the lists.
    pub fn place(&self, stream: StreamId) -> Option<usize> {
        self.by_id.get(&stream).copied()
    }

    /// The ways to all streams, from nothing. Where `disputed` holds a stream,
    /// lines elsewhere say other things of its content.
    ///
    /// Where all but some streams and their roads is deleted, these roads stay
    /// as they are: a cheaper one would have been there before. Held by
    /// `prune::tests::keeps_exactly_what_the_rules_say`.
    pub fn roads(&self, disputed: &HashSet<StreamId>) -> Vec<Road> {
        let none = HashSet::new();
        let ways = self.ways(&none);
        let count = self.entries.len();
        let reached: HashSet<Guid> = (0..count)
            .filter(|index| ways.is_there(*index))
            .flat_map(|index| self.provides(index))
            .collect();
        let times = self.times();
        let mut roads: Vec<Road> = (0..count)
            .map(|index| {
                let bytes = !self.holds_snapshots(index);
                let open = if bytes { self.is_whole(index) } else { ways.is_there(index) };
                Road {
                    before: ways.before(index).to_vec(),
                    streams: if bytes { 1 } else { ways.cost(index).1 },
                    holds: Vec::new(),
                    closed: (!open).then(|| self.why_closed(index, &reached, &ways)),
                }
            })
            .collect();
        // From the full streams on: what is behind a closed one is closed.
        let mut order: Vec<usize> = (0..count).collect();
        order.sort_by_key(|index| roads.get(*index).map(|road| road.streams));
        for index in order {
            let (Some(stream), Some(road)) = (self.stream(index), roads.get(index)) else {
                continue;
            };
            let mut closed = road.closed.clone();
            let bad = road
                .before
                .iter()
                .find(|before| roads.get(**before).is_none_or(|before| before.closed.is_some()));
            if self.is_disputed(index) || disputed.contains(&stream.stream) {
                let why = "two \"stored\" lines of it disagree";
                closed.get_or_insert_with(|| Closed::Lacks(why.to_owned()));
            } else if let Some(bad) = bad.and_then(|bad| self.name(*bad)) {
                let why = format!("no chain leads to {bad}, which it is based on");
                closed.get_or_insert(Closed::Alone(why));
            }
            let holds = if closed.is_none() { self.holds(index, &times) } else { Vec::new() };
            if let Some(road) = roads.get_mut(index) {
                (road.closed, road.holds) = (closed, holds);
            }
        }
        roads
    }

    fn holds(&self, index: usize, times: &HashMap<Guid, Timestamp>) -> Vec<Held> {
        let Some(stream) = self.stream(index) else { return Vec::new() };
        if !stream.holds_snapshots {
            return vec![Held { name: stream.name.to_string(), guid: None, created: None }];
        }
        let mut seen = HashSet::new();
        let named = self.named(index).filter(|(_, guid)| seen.insert(*guid));
        let held = named.map(|(name, guid)| Held {
            name: name.to_owned(),
            guid: Some(guid),
            created: times.get(&guid).copied(),
        });
        held.collect()
    }

    fn why_closed(&self, index: usize, reached: &HashSet<Guid>, ways: &Ways) -> Closed {
        match self.defect(index) {
            Some(Defect::Deleted(_)) => return Closed::Deleted,
            Some(defect) => return Closed::Lacks(defect.to_string()),
            None => {}
        }
        if self.stream(index).is_some_and(|stream| stream.resumed) {
            return Closed::Lacks("it is the rest of another stream (zfs send -t)".to_owned());
        }
        let needs = self.needs(index);
        if let Some(base) = needs.iter().find(|base| !reached.contains(base)) {
            return Closed::Alone(format!(
                "no chain leads to snapshot {base}, which it is based on"
            ));
        }
        match self.refused(index, &needs, ways) {
            Some((base, obstacle)) => {
                Closed::Alone(format!("zfs receive does not take it: its base {base} {obstacle}"))
            }
            None => Closed::Lacks("the catalog has no \"snapshot\" line of it".to_owned()),
        }
    }
}
