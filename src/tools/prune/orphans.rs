//! What lies in vaults for nothing: archives that no stored stream counts,
//! and uploads that nobody goes on with.
//!
//! A stream of which a line is bad, or which lacks one, is left alone, and so
//! is one whose manifest an inventory shows: a manifest exists of what is
//! stored alone (I1).

use std::collections::{HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};

use crate::catalog::dependencies::Closed;
use crate::prices::Prices;
use crate::prices::early_deletion::Early;
use crate::process::input::Span;
use crate::tools::prune::survey::{Books, Copy, Piece, Told};

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
    let manifests: HashSet<_> = books
        .pieces
        .iter()
        .filter(|piece| matches!(piece.told, Told::Inventory(_, false)))
        .map(|piece| (piece.place, piece.stream, piece.generation))
        .collect();
    // Whether a stream is quiet at a time.
    let is_quiet =
        |of, at: Timestamp| last.get(&of).is_none_or(|last| at.duration_since(*last) > age);
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
            _ if books.blind || books.suspects.contains(&piece.stream) => None,
            Told::Inventory(_, false) => manifest(copy),
            // It is stored, and this catalog does not know.
            Told::Inventory(_, true)
                if manifests.contains(&(piece.place, piece.stream, piece.generation))
                    && !copy.is_some_and(|copy| covers(copy, piece)) =>
            {
                None
            }
            _ => volume(piece, copy),
        };
        let Some(reason) = reason else { continue };
        if !books.gone.contains(&*piece.id)
            && !needed.contains(&*piece.id)
            && is_quiet(of, then)
            && offered.insert(&piece.id)
        {
            let archive = piece.told != Told::Upload;
            let early = archive.then(|| Early::of(prices, piece.size, piece.time, now)).flatten();
            found.push(Orphan { span: piece.span, archive, size: piece.size, reason, early });
        }
    }
    if !books.blind {
        let broken = copies.iter().filter(|copy| copy.closed == Some(Closed::Deleted));
        let quiet = broken.filter(|copy| is_quiet((copy.place, copy.stored.stream), now));
        for copy in quiet.filter(|copy| !books.suspects.contains(&copy.stored.stream)) {
            let manifest = copy.stored.manifest_id.as_deref();
            if manifest.is_some_and(|id| !books.gone.contains(id)) {
                let early = Early::of(prices, 0, copy.stored.stored, now);
                let reason = PARTLY.to_owned();
                found.push(Orphan { span: copy.span, archive: true, size: 0, reason, early });
            }
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
