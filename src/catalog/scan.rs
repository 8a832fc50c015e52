//! Two passes over a catalog's text.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{self, BufRead};

use super::{Catalog, Link};
use crate::error::{Error, Result};
use crate::line::{self, Line, Reader, StreamId, Text, is_newer};
use crate::process::input::Span;

/// Lines that were skipped, and the first of them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    bad: u64,
    unknown: u64,
    first: Option<(u64, String)>,
}

impl Skipped {
    /// Notes a line that is none. One of a later version is not skipped.
    ///
    /// # Errors
    /// When the line is of a later version than this program knows.
    pub fn bad(&mut self, number: u64, reason: String) -> Result<()> {
        if is_newer(&reason) {
            return Err(Error::Data(format!("stdin: line {number}: {reason}")));
        }
        self.bad += 1;
        self.first.get_or_insert((number, reason));
        Ok(())
    }

    /// Notes a line of a type that is not known.
    pub fn unknown(&mut self) {
        self.unknown += 1;
    }

    /// The warning, if there is something to warn of.
    pub fn warning(&self) -> Option<String> {
        self.warning_of("stdin")
    }

    /// The same for a catalog that is not standard input.
    pub fn warning_of(&self, thing: &str) -> Option<String> {
        let lines = |count: u64| if count == 1 { "line" } else { "lines" };
        let bad = self.first.as_ref().map(|(number, reason)| {
            format!("{} bad {} skipped, the first is {number}: {reason}", self.bad, lines(self.bad))
        });
        let unknown = (self.unknown > 0)
            .then(|| format!("{} {} of unknown types skipped", self.unknown, lines(self.unknown)));
        let parts: Vec<String> = bad.into_iter().chain(unknown).collect();
        (!parts.is_empty()).then(|| format!("{thing}: {}", parts.join("; ")))
    }
}

pub(crate) fn unreadable(error: io::Error) -> Error {
    Error::io("stdin: cannot read", error)
}

/// Whether a line is of this type and whole as far as its ends tell. A second
/// brace may be a torn line with a good one behind it.
fn is_like(head: &str, text: &str) -> bool {
    text.strip_prefix(head).is_some_and(|rest| !rest.contains('{')) && text.ends_with('}')
}

/// A line of the type that fills a catalog: not worth parsing before it is
/// known to be wanted.
pub(crate) fn is_bulk(text: &str) -> bool {
    is_like(r#"{"type":"hashes","#, text)
}

/// The stream of a line, if it is written as put writes it.
pub(crate) fn stream_of(text: &str) -> Option<StreamId> {
    let (_, rest) = text.split_once(r#""stream":""#)?;
    rest.get(..32)?.parse().ok()
}

/// Reads a catalog for what tells its streams apart.
///
/// # Errors
/// When reading fails, or a line is of a later version.
pub fn survey(input: impl BufRead) -> Result<(Catalog, Skipped)> {
    let mut reader = Reader::new(input);
    let (mut catalog, mut skipped) = (Catalog::default(), Skipped::default());
    while let Some(text) = reader.read().map_err(unreadable)? {
        let line = match text {
            Text::Line(text) if is_bulk(&text) => continue,
            Text::Line(text) => match line::archive(&text) {
                Some(archive) => {
                    catalog.archive(&(&archive).into(), archive.name.as_ref(), reader.start);
                    continue;
                }
                None => Line::parse(&text),
            },
            Text::Bad(reason) => Err(reason),
        };
        match line {
            Ok(Some(Line::Stored(stored))) => catalog.stored(&stored, reader.start),
            Ok(Some(Line::Snapshot(snapshot))) => catalog.snapshot(&snapshot),
            Ok(Some(Line::Archive(archive))) => {
                catalog.archive(&(&archive).into(), &archive.name, reader.start);
            }
            Ok(Some(Line::Deleted(deleted))) => catalog.deleted(&deleted),
            Ok(Some(_)) => {}
            Ok(None) => skipped.unknown(),
            Err(reason) => skipped.bad(reader.number, reason)?,
        }
    }
    catalog.settle();
    Ok((catalog, skipped))
}

/// Where a line stands among those of its stream: kind, volume, kind in the
/// volume, and its place there.
type Place = (u8, u32, u8, u64);

/// Finds the lines of a chain: for each link its hashes and archive, volume
/// after volume, its snapshots, and `stored`. Of repeated lines the last
/// before `stored` counts.
///
/// # Errors
/// When reading fails, or a line is of a later version.
pub fn select(input: impl BufRead, links: &[Link]) -> Result<Vec<Span>> {
    let mut found: Vec<(&Link, BTreeMap<Place, Span>)> =
        links.iter().map(|link| (link, BTreeMap::new())).collect();
    let wanted: HashMap<StreamId, usize> =
        links.iter().enumerate().map(|(index, link)| (link.stream, index)).collect();
    let counted: HashSet<u64> =
        links.iter().flat_map(|link| link.archives.iter().chain([&link.at])).copied().collect();
    let mut reader = Reader::new(input);
    let mut skipped = Skipped::default();
    while let Some(text) = reader.read().map_err(unreadable)? {
        let Text::Line(text) = text else { continue };
        if stream_of(&text).is_some_and(|stream| !wanted.contains_key(&stream)) {
            continue;
        }
        let parsed = match Line::parse(&text) {
            Ok(Some(parsed)) => parsed,
            Ok(None) => continue,
            // The survey has warned of it, unless it looked whole.
            Err(reason) => {
                skipped.bad(reader.number, reason)?;
                continue;
            }
        };
        let Some((stream, place)) = place(&parsed) else { continue };
        let Some((link, spans)) = wanted.get(&stream).and_then(|index| found.get_mut(*index))
        else {
            continue;
        };
        let is_of = match &parsed {
            Line::Archive(_) | Line::Stored(_) => counted.contains(&reader.start),
            Line::Hashes(run) => {
                run.generation == link.generation
                    && run.dest == link.dest
                    && usize::try_from(run.volume).is_ok_and(|it| it < link.archives.len())
                    && reader.start <= link.at
            }
            _ => true,
        };
        if is_of {
            let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
            spans.insert(place, (reader.start, length));
        }
    }
    Ok(found.into_iter().flat_map(|(_, lines)| lines.into_values()).collect())
}

/// The stream of a catalog line, and its place.
fn place(line: &Line) -> Option<(StreamId, Place)> {
    Some(match line {
        Line::Hashes(line) => (line.stream, (0, line.volume, 0, u64::from(line.part))),
        Line::Archive(line) => (line.stream, (0, line.volume, 1, 0)),
        Line::Snapshot(line) => (line.stream, (1, 0, 0, line.offset)),
        Line::Stored(line) => (line.stream, (2, 0, 0, 0)),
        _ => return None,
    })
}
