//! What of a catalog may go: the decisions of glacier-prune(1).
//!
//! Everything here is given what it needs. [`Books`] takes the lines,
//! [`judge`] decides about each stream that is stored, [`orphans::find`]
//! about all else, and [`show`] words the answers. Nothing is deleted here.
//!
//! What may go is a set of streams that no chain to what stays leads over. So
//! whatever part of it is deleted, in whatever order, each snapshot that is
//! kept has a whole chain. Held by `tests::never_breaks_a_chain_that_is_kept`.

pub mod orphans;
pub mod show;
pub mod survey;

use std::cmp::Reverse;
use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::Date;

use crate::catalog::dependencies::Closed;
use crate::catalog::retention::Retention;
use crate::line::{Guid, StreamId};
use crate::prices::Prices;
use crate::prices::early_deletion::Early;
use crate::tools::prune::survey::{Books, Copy, Dependent, dataset};
use crate::window::Zone;

/// What is asked.
pub struct Question<'a> {
    /// What is to stay.
    pub keep: &'a Retention,
    /// Where its days are those of the wall.
    pub zone: Option<&'a Zone>,
    /// Leave out what costs something to delete.
    pub free_only: bool,
    /// When it is asked.
    pub now: Timestamp,
    /// What early deletion costs.
    pub prices: &'a Prices,
}

/// What becomes of a stored stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Snapshots of it stay: their places among those it holds, and why.
    Kept(Vec<(usize, String)>),
    /// What is kept leads over it, up to a snapshot of this name.
    Needed(String),
    /// It may go, but is not free before this day.
    Held(Date),
    /// It cannot be brought back, and is left alone.
    Closed(String),
    /// Archives of it were deleted: it is not stored any more.
    Deleted,
    /// It may go; what that costs, if it is early.
    Goes(Option<Early>),
}

/// What tells a snapshot from another: its guid, or else its stream.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Thing {
    Snapshot(Guid),
    Stream(StreamId),
}

/// A snapshot of a dataset, in one copy.
struct Candidate {
    /// When it was taken, or stored if it does not say; of several at that time
    /// the last in the catalog, and in its stream, is the newest.
    time: (Timestamp, u64, usize),
    copy: usize,
    thing: Thing,
}

/// What becomes of each of these.
pub fn judge(books: &Books, copies: &[Copy], question: &Question<'_>) -> Vec<Fate> {
    let mut fates: Vec<Fate> = copies
        .iter()
        .map(|copy| match &copy.closed {
            Some(Closed::Deleted) => Fate::Deleted,
            Some(Closed::Lacks(why) | Closed::Alone(why)) => Fate::Closed(why.clone()),
            None => Fate::Goes(None),
        })
        .collect();
    keep(copies, question, &mut fates);
    hold_needed(copies, &mut fates);
    // What is on its way counts as stored, and what only an inventory knows.
    for Dependent { name, bases, host } in books.dependents() {
        let holds = |copy: &Copy| {
            let is_of =
                host == Some(&copy.stored.host) && dataset(name) == dataset(&copy.stored.name);
            let held = |guid: Option<Guid>| guid.is_some_and(|guid| bases.contains(&guid));
            is_of || copy.holds.iter().any(|it| held(it.guid))
        };
        let stack = (0..copies.len()).filter(|index| copies.get(*index).is_some_and(holds));
        hold(copies, stack.collect(), name, &mut fates);
    }
    for (copy, fate) in copies.iter().zip(&mut fates) {
        if let Fate::Goes(early) = fate {
            *early = early_of(books, copy, question);
            if let (true, Some(early)) = (question.free_only, *early) {
                *fate = Fate::Held(early.free);
            }
        }
    }
    // What stays for its price is not left without its bases either.
    hold_needed(copies, &mut fates);
    fates
}

/// The snapshots that the retention keeps, of each dataset of each host in
/// each destination.
fn keep(copies: &[Copy], question: &Question<'_>, fates: &mut [Fate]) {
    let mut datasets: BTreeMap<(usize, &str, &str), Vec<Candidate>> = BTreeMap::new();
    for (index, copy) in copies.iter().enumerate() {
        for (place, held) in copy.holds.iter().enumerate() {
            let of = (copy.place, copy.stored.host.as_str(), dataset(&held.name));
            datasets.entry(of).or_default().push(Candidate {
                time: (held.created.unwrap_or(copy.stored.stored), copy.span.0, place),
                copy: index,
                thing: held.guid.map_or(Thing::Stream(copy.stored.stream), Thing::Snapshot),
            });
        }
    }
    for mut candidates in datasets.into_values() {
        candidates.sort_by_key(|candidate| Reverse(candidate.time));
        let times: Vec<(Thing, Timestamp)> =
            candidates.iter().map(|candidate| (candidate.thing, candidate.time.0)).collect();
        let reasons = question.keep.reasons(&times, question.zone);
        for (candidate, reasons) in candidates.iter().zip(reasons) {
            let Some(fate) = fates.get_mut(candidate.copy).filter(|_| !reasons.is_empty()) else {
                continue;
            };
            let why = (candidate.time.2, reasons.join(", "));
            match fate {
                Fate::Kept(kept) => kept.push(why),
                fate => *fate = Fate::Kept(vec![why]),
            }
        }
    }
    for fate in fates {
        if let Fate::Kept(kept) = fate {
            kept.sort();
        }
    }
}

/// Keeps all that the chains of what stays lead over; the newest is asked
/// first what it needs.
fn hold_needed(copies: &[Copy], fates: &mut [Fate]) {
    let mut roots: Vec<usize> = (0..copies.len())
        .filter(|index| matches!(fates.get(*index), Some(Fate::Kept(_) | Fate::Held(_))))
        .collect();
    roots.sort_by_key(|index| {
        Reverse(copies.get(*index).map(|copy| (copy.stored.stored, copy.span.0)))
    });
    for root in roots {
        let Some(copy) = copies.get(root) else { continue };
        let kept = match fates.get(root) {
            Some(Fate::Kept(kept)) => kept.last().and_then(|(place, _)| copy.holds.get(*place)),
            _ => None,
        };
        let name = kept.map_or(copy.stored.name.as_str(), |held| &held.name);
        hold(copies, copy.before.clone(), name, fates);
    }
}

/// Keeps these copies, and all that their chains lead over, as what is called
/// so needs them.
fn hold(copies: &[Copy], mut stack: Vec<usize>, name: &str, fates: &mut [Fate]) {
    while let Some(index) = stack.pop() {
        let (Some(copy), Some(fate)) = (copies.get(index), fates.get_mut(index)) else {
            continue;
        };
        // What stays by itself asks for its bases by itself.
        if matches!(fate, Fate::Goes(_)) {
            *fate = Fate::Needed(name.to_owned());
            stack.extend(&copy.before);
        }
    }
}

/// What it costs to delete a stream now: of a manifest only that it is one
/// is known, and not its bytes.
fn early_of(books: &Books, copy: &Copy, question: &Question<'_>) -> Option<Early> {
    let archives = copy.archives.iter().filter_map(|index| books.pieces.get(*index));
    let archives = archives.map(|piece| (piece.size, piece.time));
    archives
        .chain([(0, copy.stored.stored)])
        .filter_map(|(size, time)| Early::of(question.prices, size, time, question.now))
        .reduce(Early::and)
}

#[cfg(test)]
mod tests;
