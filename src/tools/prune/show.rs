//! What glacier-prune prints.

use jiff::Timestamp;
use jiff::civil::Date;
use serde::Serialize;

use super::Fate;
use super::orphans::Orphan;
use crate::catalog::dependencies::Held;
use crate::error::{Error, Result};
use crate::line::{self, Guid, Line, MAX, StreamId};
use crate::prices::early_deletion::Early;
use crate::prices::{Money, Prices};
use crate::process::input::Span;
use crate::tools::prune::survey::{Books, Copy, dataset};

/// A line that is printed again, as it may be deleted.
#[derive(Debug, PartialEq, Eq)]
pub struct Offer {
    /// Which line.
    pub span: Span,
    /// Why.
    pub reason: String,
    /// What it costs.
    pub early: Option<Early>,
}

/// Why a stream goes.
const GOES: &str = "no rule keeps it";

/// The lines of what may go: first the streams, with what others are based on
/// behind those, then the orphans.
pub fn offers(
    books: &Books,
    copies: &[Copy],
    fates: &[Fate],
    orphans: Vec<Orphan>,
    question: &super::Question<'_>,
) -> Vec<Offer> {
    let mut going: Vec<&Copy> = copies
        .iter()
        .zip(fates)
        .filter(|(_, fate)| matches!(fate, Fate::Goes(_)))
        .map(|(copy, _)| copy)
        .collect();
    // Deleted in this order, half a run leaves whole chains.
    going.sort_by_key(|copy| std::cmp::Reverse((copy.streams, copy.stored.stored, copy.span.0)));
    let early = |size, time| Early::of(question.prices, size, time, question.now);
    let offer = |span, early| Offer { span, reason: GOES.to_owned(), early };
    let mut offers = Vec::new();
    for copy in going {
        let archives = copy.archives.iter().filter_map(|index| books.pieces.get(*index));
        let archives = archives.filter(|piece| !books.gone.contains(&*piece.id));
        offers.extend(archives.map(|piece| offer(piece.span, early(piece.size, piece.time))));
        // It stands for the manifest.
        if copy.stored.manifest_id.as_ref().is_none_or(|id| !books.gone.contains(id)) {
            offers.push(offer(copy.span, early(0, copy.stored.stored)));
        }
    }
    offers.extend(orphans.into_iter().map(|orphan| {
        let Orphan { span, reason, early, .. } = orphan;
        Offer { span, reason, early }
    }));
    offers
}

/// What is added to a line that is offered.
#[derive(Debug, Serialize)]
struct More<'a> {
    reason: &'a str,
    #[serde(flatten)]
    cost: Option<Cost<'a>>,
}

/// What it costs to delete something early.
#[derive(Debug, Serialize)]
pub struct Cost<'a> {
    early_days: u64,
    early_fee: Money,
    free_from: Date,
    currency: &'a str,
    prices_date: Date,
}

impl<'a> Cost<'a> {
    fn of(early: Early, prices: &'a Prices) -> Self {
        Self {
            early_days: early.days,
            early_fee: early.fee,
            free_from: early.free,
            currency: &prices.currency,
            prices_date: prices.date,
        }
    }
}

/// A line with what is to be told of it at its end. One that would become too
/// long is told without.
///
/// # Errors
/// When it is no line any more.
pub fn offered(text: &str, offer: &Offer, prices: &Prices) -> Result<String> {
    let cost = offer.early.map(|early| Cost::of(early, prices));
    let more = line::json(&More { reason: &offer.reason, cost })?;
    let fields = more.trim_end().strip_prefix('{').unwrap_or_default();
    // No field comes twice.
    let names = ["reason", "early_days", "early_fee", "free_from", "currency", "prices_date"];
    let has = |name: &&str| text.contains(&format!("\"{name}\":"));
    let bare = text.trim_end().strip_suffix('}').filter(|_| !names.iter().any(has));
    let bare = if let Some(bare) = bare {
        bare.to_owned()
    } else {
        let line = parsed(text)?.text()?;
        line.trim_end().strip_suffix('}').unwrap_or_default().to_owned()
    };
    let long = format!("{bare},{fields}");
    Ok(if long.len() < MAX { long } else { format!("{bare}}}") })
}

fn parsed(text: &str) -> Result<Line> {
    let changed = || Error::Data("stdin: was changed while it was read".to_owned());
    Line::parse(text).ok().flatten().ok_or_else(changed)
}

/// What `--explain` prints.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Explained<'a> {
    /// It stays.
    Kept(About),
    /// It may go.
    Prunable {
        /// What.
        #[serde(flatten)]
        about: About,
        /// How many archives, with the manifest.
        archives: usize,
        /// What that costs.
        #[serde(flatten)]
        cost: Option<Cost<'a>>,
    },
}

/// A snapshot, a stream, or an orphan, and what is said of it.
#[derive(Debug, Default, Serialize)]
pub struct About {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    guid: Option<Guid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<StreamId>,
    size: u64,
    dest: String,
    region: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    stored: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<Timestamp>,
    reason: String,
}

impl About {
    /// What is said of a stream, or of a snapshot that it holds.
    fn of(copy: &Copy, held: Option<&Held>, reason: String) -> Self {
        let stored = &copy.stored;
        let (name, guid) = match held {
            Some(held) => (held.name.clone(), held.guid),
            None => (stored.name.clone(), stored.guid),
        };
        Self {
            name: Some(name),
            guid,
            host: Some(stored.host.clone()),
            stream: Some(stored.stream),
            size: stored.size,
            dest: stored.dest.clone(),
            region: stored.region.clone(),
            stored: Some(stored.stored),
            created: held.or(copy.holds.last()).and_then(|held| held.created),
            reason,
        }
    }

    /// As glacier-chain --list has them: by destination, host, dataset, time.
    fn order(&self) -> impl Ord + use<> {
        let name = self.name.clone().unwrap_or_default();
        let of = (self.dest.clone(), self.region.clone(), self.host.clone());
        (of, dataset(&name).to_owned(), self.created.or(self.stored), name)
    }
}

/// What becomes of the streams that are stored, and why.
pub fn explained<'a>(copies: &[Copy], fates: &[Fate], prices: &'a Prices) -> Vec<Explained<'a>> {
    let mut lines: Vec<Explained> = Vec::new();
    for (copy, fate) in copies.iter().zip(fates) {
        let stays = |reason: String| Explained::Kept(About::of(copy, None, reason));
        match fate {
            Fate::Kept(kept) => lines.extend(kept.iter().map(|(place, reason)| {
                Explained::Kept(About::of(copy, copy.holds.get(*place), reason.clone()))
            })),
            Fate::Needed(by) => lines.push(stays(format!("needed by {by}"))),
            Fate::Held(free) => lines.push(stays(format!("not free before {free}"))),
            Fate::Closed(why) => lines.push(stays(format!("not restorable: {why}"))),
            Fate::Goes(early) => lines.push(Explained::Prunable {
                about: About::of(copy, None, GOES.to_owned()),
                archives: copy.archives.len() + 1,
                cost: early.map(|early| Cost::of(early, prices)),
            }),
            // What is left of it is among the orphans.
            Fate::Deleted => {}
        }
    }
    lines.sort_by_cached_key(|line| match line {
        Explained::Kept(about) | Explained::Prunable { about, .. } => about.order(),
    });
    lines
}

/// What becomes of an orphan, whose line is `text`.
///
/// # Errors
/// When it is no line any more.
pub fn orphan<'a>(text: &str, orphan: &Orphan, prices: &'a Prices) -> Result<Explained<'a>> {
    let (size, reason) = (orphan.size, orphan.reason.clone());
    let (name, host, stream, dest, region) = match parsed(text)? {
        Line::Archive(line) => {
            (Some(line.name), Some(line.host), Some(line.stream), line.dest, line.region)
        }
        Line::Stored(line) => {
            (Some(line.name), Some(line.host), Some(line.stream), line.dest, line.region)
        }
        Line::Inventoried(line) => {
            (line.of.name, line.of.host, line.of.stream, line.dest, line.region)
        }
        Line::Upload(line) => (line.of.name, line.of.host, line.of.stream, line.dest, line.region),
        _ => return Err(Error::Bug("an orphan of another type".to_owned())),
    };
    let about = About { name, host, stream, dest, region, ..About::default() };
    Ok(Explained::Prunable {
        about: About { size, reason, ..about },
        archives: usize::from(orphan.archive),
        cost: orphan.early.map(|early| Cost::of(early, prices)),
    })
}
