//! Which `archive` and `stored` lines of a catalog count. Whoever reads
//! catalog lines passes them here, in their order, and gets the answer: the
//! rule is that of glacier-lines(5), "Rules of a catalog", and stands nowhere
//! else.
//!
//! Each `stored` line tells of a copy of its stream: of every volume that it
//! counts, the last `archive` line before it of the same stream, generation
//! and destination. Of several copies the one counts that lacks nothing, then
//! the one that was stored last, then the last in the catalog.
//!
//! A catalog may have millions of lines, so of each only what decides is kept,
//! and where it is: any number that grows from line to line.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};

use jiff::Timestamp;

use crate::line::{Archive, Stored, StreamId};

/// Which archive an `archive` line tells of.
#[derive(Clone, Copy, Debug)]
pub struct Named<'a> {
    /// Which stream.
    pub stream: StreamId,
    /// Which attempt at it.
    pub generation: u32,
    /// Which volume of it.
    pub volume: u32,
    /// Where it is stored, and in which region.
    pub place: (&'a str, &'a str),
    /// The service's name for it.
    pub archive_id: &'a str,
}

impl<'a, S: AsRef<str>> From<&'a Archive<S>> for Named<'a> {
    fn from(line: &'a Archive<S>) -> Self {
        Self {
            stream: line.stream,
            generation: line.generation,
            volume: line.volume,
            place: (line.dest.as_ref(), line.region.as_ref()),
            archive_id: line.archive_id.as_ref(),
        }
    }
}

/// One generation of a stream at one destination, by numbers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
struct Attempt {
    stream: u32,
    generation: u32,
    place: u32,
}

/// An `archive` line: 32 bytes of it, whatever its names are.
#[derive(Clone, Copy, Debug)]
struct Volume {
    of: Attempt,
    number: u32,
    at: u64,
    /// Stands for the service's name for it.
    id: u64,
}

/// A `stored` line.
#[derive(Clone, Copy, Debug)]
struct End {
    of: Attempt,
    volumes: u32,
    at: u64,
    time: Timestamp,
}

/// What a copy of a stream lacks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Defect {
    /// The archive of this volume was deleted.
    Deleted(u32),
    /// No line tells of this volume.
    Missing(u32),
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deleted(volume) => write!(f, "volume {volume}: its archive was deleted"),
            Self::Missing(volume) => write!(f, "volume {volume}: no \"archive\" line"),
        }
    }
}

/// What decides between copies; the greatest counts.
pub type Rank = (bool, Timestamp, u64);

/// A copy of a stream: the lines of it that count.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Copy {
    /// Its `stored` line, by its number among these.
    pub line: usize,
    /// Where that is.
    pub at: u64,
    /// Where the `archive` lines of its volumes are, in order.
    pub archives: Vec<u64>,
    /// What it lacks.
    pub defect: Option<Defect>,
    /// Its rank among the copies of its stream.
    pub rank: Rank,
}

/// The lines of a catalog, as they come.
#[derive(Debug, Default)]
pub struct Lines {
    streams: HashMap<StreamId, u32>,
    places: HashMap<Box<str>, HashMap<Box<str>, u32>>,
    volumes: Vec<Volume>,
    ends: Vec<End>,
    /// The numbers of `ends` by stream, then as they came.
    order: Vec<u32>,
    deleted: HashSet<u64>,
    keys: RandomState,
}

fn number(count: usize) -> u32 {
    // Four billion streams do not fit in memory.
    u32::try_from(count).unwrap_or(u32::MAX)
}

impl Lines {
    /// Takes an `archive` line.
    pub fn archive(&mut self, line: &Named<'_>, at: u64) {
        let of = self.attempt(line.stream, line.generation, line.place);
        let id = self.keys.hash_one(line.archive_id);
        self.volumes.push(Volume { of, number: line.volume, at, id });
    }

    /// Takes a `stored` line.
    pub fn stored(&mut self, line: &Stored, at: u64) {
        let of = self.attempt(line.stream, line.generation, (&line.dest, &line.region));
        self.ends.push(End { of, volumes: line.volumes, at, time: line.stored });
    }

    /// Takes the id of an archive that was deleted, wherever that is told.
    pub fn deleted(&mut self, archive_id: &str) {
        self.deleted.insert(self.keys.hash_one(archive_id));
    }

    /// Whether an archive was deleted.
    pub fn is_deleted(&self, archive_id: &str) -> bool {
        self.deleted.contains(&self.keys.hash_one(archive_id))
    }

    fn attempt(&mut self, stream: StreamId, generation: u32, place: (&str, &str)) -> Attempt {
        let next = number(self.streams.len());
        let stream = *self.streams.entry(stream).or_insert(next);
        let (dest, region) = place;
        let known = self.places.get(dest).and_then(|regions| regions.get(region)).copied();
        let place = known.unwrap_or_else(|| {
            let next = number(self.places.values().map(HashMap::len).sum());
            self.places.entry(dest.into()).or_default().insert(region.into(), next);
            next
        });
        Attempt { stream, generation, place }
    }

    /// Puts the lines in order, once all were taken; what was deleted may
    /// still be told afterwards.
    pub fn settle(&mut self) {
        self.volumes.sort_unstable_by_key(|it| (it.of, it.number, it.at));
        let mut order: Vec<u32> = (0..number(self.ends.len())).collect();
        order.sort_by_key(|index| self.end(*index).map(|end| end.of.stream));
        self.order = order;
    }

    fn end(&self, index: u32) -> Option<&End> {
        self.ends.get(usize::try_from(index).ok()?)
    }

    /// The archives of a copy: of each volume the last line before `stored`.
    fn volumes(&self, end: End) -> impl Iterator<Item = &Volume> {
        let first = self.volumes.partition_point(|it| it.of < end.of);
        let own = self.volumes.iter().skip(first);
        let own = own.take_while(move |it| it.of == end.of && it.number < end.volumes);
        let mut own = own.filter(move |it| it.at <= end.at).peekable();
        std::iter::from_fn(move || {
            let mut last = own.next()?;
            while let Some(later) = own.next_if(|it| it.number == last.number) {
                last = later;
            }
            Some(last)
        })
    }

    /// What the copy of a `stored` line lacks.
    pub fn defect(&self, line: usize) -> Option<Defect> {
        let end = *self.ends.get(line)?;
        let (mut missing, mut next) = (None, 0);
        for volume in self.volumes(end) {
            if self.deleted.contains(&volume.id) {
                return Some(Defect::Deleted(volume.number));
            }
            if volume.number != next {
                missing.get_or_insert(Defect::Missing(next));
            }
            next = volume.number.saturating_add(1);
        }
        missing.or_else(|| (next < end.volumes).then_some(Defect::Missing(next)))
    }

    /// The rank of a copy with this defect.
    pub fn rank(&self, line: usize, defect: Option<Defect>) -> Option<Rank> {
        self.ends.get(line).map(|end| (defect.is_none(), end.time, end.at))
    }

    /// The copy that a `stored` line tells of.
    pub fn copy(&self, line: usize) -> Option<Copy> {
        let (end, defect) = (*self.ends.get(line)?, self.defect(line));
        let archives = self.volumes(end).map(|volume| volume.at).collect();
        Some(Copy { line, at: end.at, archives, defect, rank: self.rank(line, defect)? })
    }

    /// The numbers of the `stored` lines of a stream.
    pub fn of(&self, stream: StreamId) -> impl Iterator<Item = usize> {
        let stream = self.streams.get(&stream).copied();
        let key = move |index: &u32| self.end(*index).map(|end| end.of.stream);
        let first = self.order.partition_point(|index| key(index) < stream);
        let own = self.order.iter().skip(first).take_while(move |index| key(index) == stream);
        own.filter_map(|index| usize::try_from(*index).ok())
    }

    /// The copies that count: one of each stream, generation and destination,
    /// in the order of their `stored` lines.
    pub fn copies(&self) -> impl Iterator<Item = Copy> {
        let mut best: HashMap<Attempt, (Rank, usize)> = HashMap::new();
        for (line, end) in self.ends.iter().enumerate() {
            let new = (self.rank(line, self.defect(line)), line);
            if let (Some(rank), line) = new {
                let known = best.entry(end.of).or_insert((rank, line));
                *known = (*known).max((rank, line));
            }
        }
        let mut lines: Vec<usize> = best.into_values().map(|(_, line)| line).collect();
        lines.sort_by_key(|line| self.ends.get(*line).map(|end| end.at));
        lines.into_iter().filter_map(|line| self.copy(line))
    }
}
