//! What lies in vaults for nothing: archives that no stored stream counts,
//! and uploads that nobody goes on with.
//!
//! That no line calls a stream stored proves nothing: a catalog may be old, cut,
//! or of another machine. So what no whole copy stands for is offered only
//! where an inventory that is here as a whole, and was made when the stream
//! had been quiet, has no manifest of it: a manifest exists of what is stored
//! alone (I1). A stream of which a line is bad, or which lacks one, is left
//! alone, and so is one on its way. Held by
//! `tests::a_catalog_that_is_cut_offers_nothing_that_the_whole_one_needs`.

use std::collections::{HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};

use crate::catalog::dependencies::Closed;
use crate::line::StreamId;
use crate::prices::Prices;
use crate::prices::early_deletion::Early;
use crate::process::input::Span;
use crate::tools::prune::survey::{Books, Copy, Piece, Place, Told};

/// Something that no stored stream needs.
#[derive(Debug, PartialEq, Eq)]
pub struct Orphan {
    /// Its line.
    pub span: Span,
    /// Whether it is an archive, and no unfinished upload.
    pub archive: bool,
    /// Bytes; those of a manifest are not known.
    pub size: u64,
    /// Why it may go.
    pub reason: String,
    /// What that costs.
    pub early: Option<Early>,
}

/// Those of streams of which nothing was stored or begun in the last `age`.
pub fn find(
    books: &Books,
    copies: &[Copy],
    age: SignedDuration,
    now: Timestamp,
    prices: &Prices,
) -> Vec<Orphan> {
    let homes: HashMap<_, &Copy> =
        copies.iter().map(|copy| ((copy.place, copy.stored.stream), copy)).collect();
    let last = books.last_moves();
    let needed = books.needed_ids(copies);
    let inventories = books.whole_inventories();
    let (underway, unknown) = books.open();
    // Whether a stream is quiet at a time.
    let is_quiet =
        |of, at: Timestamp| last.get(&of).is_none_or(|last| at.duration_since(*last) > age);
    // Whether an inventory proves that nothing stored needs what lies there of it.
    let is_proven = |of: (Place, StreamId)| {
        let made = inventories.get(&of.0).copied();
        made.is_some_and(|made| is_quiet(of, made.min(now))) && !unknown.contains(&of)
    };
    let may_tell = |stream| !books.blind && !books.suspects.contains(&stream);
    let mut order: Vec<&Piece> = books.pieces.iter().collect();
    // The catalog's own line of an archive before that of an inventory.
    order.sort_by_key(|piece| match piece.told {
        Told::Archive => 0,
        Told::Inventory(..) => 1,
        Told::Upload => 2,
    });
    let mut offered = HashSet::new();
    let mut found: Vec<Orphan> = Vec::new();
    for piece in order {
        let of = (piece.place, piece.stream);
        let then = match piece.told {
            Told::Inventory(made, _) => made.min(now),
            _ => now,
        };
        let copy = homes.get(&of).copied();
        let reason = match piece.told {
            Told::Upload => Some("never completed".to_owned()),
            _ if !may_tell(piece.stream) => None,
            Told::Inventory(_, false) => manifest(copy),
            _ if copy.is_some_and(|copy| covers(copy, piece)) || is_proven(of) => {
                volume(piece, copy)
            }
            _ => None,
        };
        let Some(reason) = reason else { continue };
        if !books.gone.contains(&*piece.id)
            && !needed.contains(&*piece.id)
            && !underway.contains(&piece.stream)
            && is_quiet(of, then)
            && offered.insert(&piece.id)
        {
            let archive = piece.told != Told::Upload;
            let early = archive.then(|| Early::of(prices, piece.size, piece.time, now)).flatten();
            found.push(Orphan { span: piece.span, archive, size: piece.size, reason, early });
        }
    }
    for copy in copies.iter().filter(|copy| copy.closed == Some(Closed::Deleted)) {
        let (of, manifest) = ((copy.place, copy.stored.stream), copy.stored.manifest_id.as_deref());
        if may_tell(of.1)
            && !underway.contains(&of.1)
            && is_quiet(of, now)
            && is_proven(of)
            && manifest.is_some_and(|id| !books.gone.contains(id))
        {
            let early = Early::of(prices, 0, copy.stored.stored, now);
            let reason = PARTLY.to_owned();
            found.push(Orphan { span: copy.span, archive: true, size: 0, reason, early });
        }
    }
    found
}

/// Whether a stream is stored in this attempt or a later one.
fn covers(copy: &Copy, piece: &Piece) -> bool {
    let stored = matches!(copy.closed, None | Some(Closed::Alone(_)));
    stored && piece.generation <= copy.stored.generation
}

const PARTLY: &str = "partly deleted";

/// Why a volume that no stored stream counts is of no use.
fn volume(piece: &Piece, copy: Option<&Copy>) -> Option<String> {
    let Some(copy) = copy else { return Some("never stored".to_owned()) };
    let same = piece.generation == copy.stored.generation;
    match &copy.closed {
        Some(Closed::Lacks(_)) => None,
        Some(Closed::Deleted) if same => Some(PARTLY.to_owned()),
        None | Some(Closed::Alone(_)) if same => Some("superseded by another copy".to_owned()),
        None | Some(Closed::Alone(_)) if piece.generation < copy.stored.generation => {
            Some(format!("superseded by generation {}", copy.stored.generation))
        }
        _ => Some("never stored".to_owned()),
    }
}

/// The same of a manifest that no line names.
fn manifest(copy: Option<&Copy>) -> Option<String> {
    let copy = copy.filter(|copy| copy.stored.manifest_id.is_some())?;
    match &copy.closed {
        None | Some(Closed::Alone(_)) => Some("superseded by another manifest".to_owned()),
        _ => None,
    }
}
