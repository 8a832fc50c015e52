//! What the next stream of a dataset is based on, and what may be destroyed
//! here: the decisions of akashita-choose(1).
//!
//! All of it is decided from what is passed in: the points of the datasets as
//! `zfs get` prints them ([`points`]), what the catalog can bring back, and
//! what catalog and spool name ([`input`]).
//!
//! Two configurations may share a pool, so what is made carries whose it is. A
//! point is made here if it has the name that this configuration gives and its
//! mark; or no mark, as earlier versions made it, where catalog or spool name
//! it.
//!
//! What may be destroyed was made here, and each of its snapshots can be
//! brought back. Held by `tests::destroys_nothing_but_what_was_made_here`.

pub mod input;
pub mod points;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::convert::Infallible;
use std::str::FromStr;

use clap::ValueEnum;
use serde::Deserialize;

use self::points::Point;
use crate::catalog::list::Restorable;
use crate::catalog::receivable::Obstacle;
use crate::line::{Features, StreamId};
use crate::process::escape::row;

/// How many snapshots of a dataset a run may store: one that an earlier run
/// did not finish, and a new one.
const STORES: usize = 2;

/// What the streams of a configuration hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A snapshot of one dataset.
    One,
    /// A snapshot of a dataset and of all below it.
    Compound,
    /// Files, which are a snapshot's by their name.
    Tar,
}

/// What a configuration says, and whose it is.
#[derive(Clone, Debug)]
pub struct Rules {
    /// What its snapshots' names begin with, whatever their kind.
    pub prefix: String,
    /// What its streams hold.
    pub kind: Kind,
    /// The mark of what is made here.
    pub id: String,
    /// How many of the stored snapshots stay here.
    pub keep: usize,
    /// How many streams a chain may have before a full one comes.
    pub full_every: u32,
    /// How streams are sent.
    pub send: Send,
}

/// How `zfs send` is called.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Send {
    /// With large blocks (`-L`).
    pub large_blocks: bool,
    /// As it is on disk (`-w`).
    pub raw: Raw,
}

/// What is sent raw.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub enum Raw {
    /// Everything.
    Yes,
    /// What is encrypted.
    #[default]
    Auto,
    /// Nothing.
    No,
}

impl FromStr for Send {
    type Err = Infallible;

    /// The flags of `zfs send`, with blanks between.
    fn from_str(flags: &str) -> Result<Self, Infallible> {
        let is_short = |word: &str| word.starts_with('-') && !word.starts_with("--");
        let large = |word: &str| {
            matches!(word, "--large-block" | "--large-blocks")
                || is_short(word) && word.contains('L')
        };
        Ok(Self { large_blocks: flags.split(' ').any(large), raw: Raw::default() })
    }
}

impl Send {
    /// The features that count for its base of a stream that is sent so. Raw is
    /// with large blocks, and what is not encrypted does not get raw by that.
    fn features(self, encrypted: bool) -> Features {
        let asked = self.raw == Raw::Yes || self.raw == Raw::Auto && encrypted;
        let large = if self.large_blocks || asked { Features::LARGE_BLOCKS.0 } else { 0 };
        Features(large | if asked && encrypted { Features::RAW.0 } else { 0 })
    }
}

/// What is known of what is stored, by what the catalog calls a snapshot: its
/// guid, or the name of its files.
#[derive(Debug, Default)]
pub struct Known {
    /// What can be brought back, and by how many streams.
    pub stored: HashMap<String, u32>,
    /// What of it says how it was sent.
    pub features: HashMap<String, Features>,
    /// What of it lost something on the way that an increment would lack, too.
    pub lossy: HashSet<String>,
    /// What will still be, once what goes is gone.
    pub left: HashSet<String>,
    /// What catalog or spool name, even if it cannot be brought back.
    pub named: HashSet<String>,
    /// What lies whole in the spool.
    pub spooled: Vec<Spooled>,
}

/// A stream of the spool, as `glacier-ls spool` prints it.
#[derive(Clone, Deserialize, Debug)]
pub struct Spooled {
    stream: StreamId,
    state: String,
    name: Option<String>,
    guid: Option<String>,
    from_guid: Option<String>,
}

/// Whose a point is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Owner {
    /// Made here, and marked so.
    Marked,
    /// Made here by a version that had no marks.
    Unmarked,
    /// It may be of this configuration, or another may need it.
    Unsure,
    Other,
}

/// What is decided of one dataset: points by their place among those given,
/// the oldest first.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Choice {
    /// The newest snapshot that was made here.
    pub ours: Option<usize>,
    /// What the next stream is based on: that of `ours` if that is not stored,
    /// or else that of a new snapshot. Without one it is full.
    pub base: Option<usize>,
    /// What a new snapshot is based on once `ours` is stored.
    pub next: Option<usize>,
    /// What would be the base, but is none for a stream that is sent as it is
    /// now; and why.
    pub unfit: Option<(usize, String)>,
    /// The stream of `ours` that waits in the spool.
    pub spooled: Option<StreamId>,
    /// What may be destroyed, and once how many more snapshots are stored.
    pub old: Vec<(usize, usize)>,
    /// Snapshots with our names of which nobody can tell whose they are.
    pub unsure: Vec<usize>,
}

impl Kind {
    /// What the catalog calls a snapshot of which this is the guid and name.
    fn key<'p>(self, guid: &'p str, name: &'p str) -> &'p str {
        if self == Self::Tar { name } else { guid }
    }
}

impl Rules {
    /// What names of snapshots begin with behind the `@`. Streams of many
    /// datasets and of one are no bases of each other, and those of files of
    /// none: each kind has snapshots of its own.
    fn own(&self) -> String {
        let kind = match self.kind {
            Kind::One => "",
            Kind::Compound => "-all",
            Kind::Tar => "-tar",
        };
        format!("{}{kind}:", self.prefix)
    }

    /// What the points of which it must be known whether anything names them
    /// are called.
    pub fn wanted(&self, datasets: &BTreeMap<String, Vec<Point>>) -> HashSet<String> {
        let own = self.own();
        let points = datasets.values().flatten().filter(|it| it.short().starts_with(&own));
        points.map(|it| self.kind.key(&it.guid, &it.name).to_owned()).collect()
    }

    fn owner(&self, point: &Point, key: &str, known: &Known) -> Owner {
        let own = self.own();
        let Some(rest) = point.short().strip_prefix(&own) else { return Owner::Other };
        let is_named = known.named.contains(key);
        let mark = match rest.rsplit_once("Z-") {
            _ if point.is_snapshot() => point.mark.as_deref(),
            named => named.map(|(_, mark)| mark).filter(|mark| !mark.is_empty()),
        };
        match mark {
            Some(mark) if mark == self.id => Owner::Marked,
            // That of a copy is the mark of the machine that it came from.
            Some(_) if is_named && point.is_snapshot() => Owner::Unsure,
            Some(_) => Owner::Other,
            None if is_named => Owner::Unmarked,
            None => Owner::Unsure,
        }
    }

    /// Whether a stream of this kind can be based on a point: no bookmark is a
    /// base of `zfs send -R`.
    fn may_be_base(&self, point: &Point) -> bool {
        let is_compound =
            point.is_snapshot() && point.short().starts_with(&format!("{}-all:", self.prefix));
        is_compound == (self.kind == Kind::Compound)
    }

    /// Why no stream of a dataset can be based on what is stored.
    fn unfit(&self, encrypted: bool, key: &str, known: &Known) -> Option<String> {
        if known.lossy.contains(key) {
            return Some("lost something on its way that an increment would lack, too".to_owned());
        }
        let next = self.send.features(encrypted);
        let obstacle = Obstacle::between(known.features.get(key).copied(), Some(next))?;
        Some(obstacle.to_string())
    }

    /// Decides about one dataset, of which the points are given in the order
    /// in which they were made.
    pub fn choose(&self, points: &[Point], known: &Known) -> Choice {
        let mut choice = Choice::default();
        let key = |point: &'_ Point| self.kind.key(&point.guid, &point.name).to_owned();
        let mut seen: Vec<(usize, &Point, String, Owner)> = Vec::new();
        for (index, point) in points.iter().enumerate().rev() {
            let key = key(point);
            let owner = self.owner(point, &key, known);
            if owner == Owner::Unsure && point.is_snapshot() {
                choice.unsure.push(index);
            }
            seen.push((index, point, key, owner));
        }
        choice.unsure.reverse();
        let is_own = |owner: Owner| matches!(owner, Owner::Marked | Owner::Unmarked);

        let ours = seen.iter().find(|(_, point, _, owner)| point.is_snapshot() && is_own(*owner));
        choice.ours = ours.map(|(index, ..)| *index);
        let open = ours.filter(|(.., key, _)| !known.stored.contains_key(key));

        // The newest that is stored; of an unfinished one, the newest before.
        let is_before = |point: &Point| open.is_none_or(|(_, ours, ..)| point.txg < ours.txg);
        let encrypted = points.iter().any(|point| point.encrypted);
        let why = |key: &str| self.unfit(encrypted, key, known);
        let newest = seen.iter().find(|(_, point, key, _)| {
            self.may_be_base(point) && is_before(point) && known.stored.contains_key(key)
        });
        choice.unfit = newest.and_then(|(index, _, key, _)| Some((*index, why(key)?)));
        let mut bases =
            seen.iter().filter(|(_, point, key, _)| self.may_be_base(point) && why(key).is_none());
        let base = bases
            .clone()
            .find(|(_, point, key, _)| is_before(point) && known.stored.contains_key(key));
        let streams = |key: &str| known.stored.get(key).copied().unwrap_or(0);
        let base = base.filter(|(.., key, _)| streams(key) < self.full_every);
        choice.base = base.map(|(index, ..)| *index);

        if let Some((ours, _, open_key, _)) = open {
            let spooled = known.spooled.iter().rev().find(|it| {
                it.is(self.kind, open_key)
                    && it.from_guid.as_ref().is_none_or(|from| known.stored.contains_key(from))
            });
            choice.spooled = spooled.map(|spooled| spooled.stream);
            // Its chain will be one longer than that of what it is based on.
            let from = match spooled {
                Some(spooled) => spooled.from_guid.as_deref(),
                None => base.map(|(.., key, _)| key.as_str()),
            };
            let length = from.map_or(0, streams).saturating_add(1);
            let next =
                bases.find(|(index, _, key, _)| index == ours || known.stored.contains_key(key));
            let next = next.filter(|(index, _, key, _)| {
                (if index == ours { length } else { streams(key) }) < self.full_every
            });
            choice.next = next.map(|(index, ..)| *index);
        }

        let (mut kept, mut is_replaced) = (0_usize, false);
        for (index, point, key, owner) in &seen {
            if known.left.contains(key) {
                is_replaced = true;
            } else if is_replaced && !point.is_snapshot() && is_own(*owner) {
                choice.old.push((*index, 0));
            }
            if !point.is_snapshot() || !is_own(*owner) {
                continue;
            }
            let is_stored = known.stored.contains_key(key);
            kept += usize::from(is_stored);
            let more = (self.keep + 1).saturating_sub(kept);
            if (is_stored || choice.ours == Some(*index)) && more <= STORES {
                choice.old.push((*index, more));
            }
        }
        choice
    }

    /// Decides about all datasets, and gives the lines that say so.
    pub fn lines(&self, datasets: &BTreeMap<String, Vec<Point>>, known: &Known) -> Vec<String> {
        let mut lines = Vec::new();
        for (dataset, points) in datasets {
            let choice = self.choose(points, known);
            let mut tell = |word: &str, index: Option<usize>, more: &[&str]| {
                if let Some(point) = index.and_then(|index| points.get(index)) {
                    let of = [word, dataset, &point.name, &point.guid];
                    lines.push(row(of.into_iter().chain(more.iter().copied())));
                }
            };
            let mark = |index: usize| {
                let mark = points.get(index).and_then(|point| point.mark.as_ref());
                if mark.is_some() { "marked" } else { "unmarked" }
            };
            choice.unsure.iter().for_each(|index| tell("unsure", Some(*index), &[]));
            if let Some(ours) = choice.ours {
                let key = points.get(ours).map(|it| self.kind.key(&it.guid, &it.name));
                let is_stored = key.is_some_and(|key| known.stored.contains_key(key));
                let state = if is_stored { "stored" } else { "open" };
                let spooled = choice.spooled.map(|id| id.to_string()).unwrap_or_default();
                tell("ours", Some(ours), &[mark(ours), state, &spooled]);
            }
            if let Some((unfit, why)) = &choice.unfit {
                tell("unfit", Some(*unfit), &[why]);
            }
            tell("base", choice.base, &[]);
            tell("next", choice.next, &[]);
            for (index, more) in &choice.old {
                tell("old", Some(*index), &[mark(*index), &more.to_string()]);
            }
        }
        lines
    }
}

impl Known {
    /// Takes what the catalog can bring back, and what it still can once that
    /// is gone which goes.
    pub fn take(&mut self, kind: Kind, stored: &[Restorable], left: &[Restorable]) {
        let streams = |it: &Restorable| Some((key(kind, it)?, it.streams));
        self.stored = stored.iter().filter_map(streams).collect();
        let features = |it: &Restorable| Some((key(kind, it)?, it.features?));
        self.features = stored.iter().filter_map(features).collect();
        let lossy = stored.iter().filter(|it| it.misplaced > 0);
        self.lossy = lossy.filter_map(|it| key(kind, it)).collect();
        self.left = left.iter().filter_map(|it| key(kind, it)).collect();
    }
}

/// What a snapshot is called in the catalog.
fn key(kind: Kind, restorable: &Restorable) -> Option<String> {
    match kind {
        Kind::Tar => restorable.name.strip_suffix(".tar").map(str::to_owned),
        Kind::One | Kind::Compound => restorable.guid.map(|guid| guid.to_string()),
    }
}

impl Spooled {
    /// Whether it is whole, and of this snapshot.
    fn is(&self, kind: Kind, key: &str) -> bool {
        let of = match kind {
            Kind::Tar => self.name.as_deref().and_then(|name| name.strip_suffix(".tar")),
            Kind::One | Kind::Compound => self.guid.as_deref(),
        };
        self.state == "spooled" && of == Some(key)
    }
}

#[cfg(test)]
mod tests;
