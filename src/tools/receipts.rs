//! Receipts: the journals of streams that are stored, as the spool keeps them.
//!
//! A catalog can lose lines: it is cut, or brought back from an older copy.
//! The receipt of a stream has the same lines, so a catalog is healed from it.
//! One is believed only if glacier-get(1) could bring the stream back by it:
//! the checks are those of a catalog (`get::plan`).

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs::File;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Read as _, Seek as _};

use crate::catalog::scan::{select, survey};
use crate::error::{Error, Result};
use crate::line::{Deleted, Line, Snapshot, Stored, StreamId};
use crate::process::input::Span;
use crate::spool::{Holder, Spool};
use crate::tools::get::plan::Lines;

/// The catalog lines of a stored stream.
#[derive(Debug)]
pub struct Receipt {
    /// Its `stored` line.
    pub stored: Stored,
    /// The lines that count, each without its newline, `stored` last.
    lines: Vec<String>,
    /// The archives that it needs, and its manifest.
    archives: HashSet<String>,
    /// The snapshots in it.
    pub snapshots: Vec<Snapshot>,
}

impl Receipt {
    /// Reads the receipt of a stream.
    ///
    /// # Errors
    /// When reading fails; within, why the stream could not be brought back by
    /// it.
    pub fn read(mut file: &File, id: StreamId) -> io::Result<Result<Self, String>> {
        let mut bytes = Vec::new();
        file.rewind()?;
        file.read_to_end(&mut bytes)?;
        Ok(Self::of(&bytes, id))
    }

    fn of(bytes: &[u8], id: StreamId) -> Result<Self, String> {
        let said = |e: Error| e.to_string().replacen("stdin: ", "", 1);
        let (catalog, _) = survey(bytes).map_err(said)?;
        let chosen = catalog.place(id).and_then(|place| catalog.link(place)).ok_or(NO_STORED)?;
        let spans = select(bytes, &[chosen]).map_err(said)?;
        let (mut lines, mut snapshots) = (Vec::new(), Vec::new());
        let (mut archives, mut stored) = (HashSet::new(), None);
        let mut check = Lines::default();
        for span in spans {
            let text = slice(bytes, span).ok_or("a line of it is none")?;
            let line = Line::parse(text)?.ok_or("a line of it is none")?;
            match &line {
                Line::Archive(archive) => drop(archives.insert(archive.archive_id.clone())),
                Line::Snapshot(snapshot) => snapshots.push(snapshot.clone()),
                Line::Stored(line) => {
                    archives.extend(line.manifest_id.clone());
                    stored = Some(line.clone());
                }
                _ => {}
            }
            check.take(line).map_err(said)?;
            lines.push(text.trim_end().to_owned());
        }
        check.plan(false).map_err(said)?;
        Ok(Self { stored: stored.ok_or(NO_STORED)?, lines, archives, snapshots })
    }

    /// Whether the stream needs an archive, or that is its manifest.
    pub fn names(&self, archive_id: &str) -> bool {
        self.archives.contains(archive_id)
    }

    /// The lines, each with its newline.
    pub fn text(&self) -> String {
        self.lines.iter().flat_map(|line| [line, "\n"]).collect()
    }

    /// The lines, each without its newline.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }
}

fn slice(bytes: &[u8], (start, length): Span) -> Option<&str> {
    let start = usize::try_from(start).ok()?;
    let end = start.checked_add(usize::try_from(length).ok()?)?;
    std::str::from_utf8(bytes.get(start..end)?).ok()
}

/// Why a journal is no receipt: the stream is not stored.
pub const NO_STORED: &str = "no \"stored\" line";

/// Where a receipt is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    id: StreamId,
    /// Its name; none where it is still the journal in the stream's directory.
    name: Option<String>,
}

impl Place {
    /// All of a spool, in the order of their streams.
    ///
    /// # Errors
    /// When the spool cannot be read.
    pub fn all(spool: &Spool) -> Result<Vec<Self>> {
        let done = spool.receipt_names()?.into_iter();
        let done = done.map(|(id, name)| Self { id, name: Some(name) });
        let here = spool.ids()?.into_iter().map(|id| Self { id, name: None });
        let mut all: Vec<Self> = done.chain(here).collect();
        all.sort_by(|a, b| (a.id, &a.name).cmp(&(b.id, &b.name)));
        Ok(all)
    }

    /// The stream.
    pub fn id(&self) -> StreamId {
        self.id
    }

    /// Reads it; `None` if it is not there any more, or is the journal of a
    /// stream that is not stored, or that a put works on.
    ///
    /// # Errors
    /// When it cannot be read; within, why it is not believed.
    pub fn read(&self, spool: &Spool) -> Result<Option<Result<Receipt, String>>> {
        let file = match &self.name {
            Some(name) => spool.receipt(name)?,
            // While a put works the catalog has not had its lines yet.
            None => match spool.existing(self.id)? {
                Some(directory) if !directory.is_locked(Holder::Put) => {
                    directory.existing_journal()?
                }
                _ => None,
            },
        };
        let Some(file) = file else { return Ok(None) };
        let receipt = Receipt::read(&file, self.id)
            .map_err(|e| Error::io(format!("{self}: cannot read"), e))?;
        match receipt {
            Err(why) if self.name.is_none() && why == NO_STORED => Ok(None),
            receipt => Ok(Some(receipt)),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "receipt {name}"),
            None => write!(f, "stream {}: journal", self.id),
        }
    }
}

/// What a catalog has, to find out what it lacks.
#[derive(Debug, Default)]
pub struct Has {
    /// Of each line, by its fingerprint, the numbers of its first and its
    /// last place.
    lines: HashMap<u64, (u64, u64)>,
    count: u64,
    deleted: HashSet<String>,
}

fn fingerprint(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.trim_end().hash(&mut hasher);
    hasher.finish()
}

impl Has {
    /// Takes the next line of the catalog.
    pub fn take(&mut self, text: &str) {
        self.count += 1;
        let count = self.count;
        self.lines
            .entry(fingerprint(text))
            .and_modify(|(_, last)| *last = count)
            .or_insert((count, count));
        if text.contains(r#""deleted""#)
            && let Ok(Some(Line::Deleted(Deleted { archive_id: Some(archive), .. }))) =
                Line::parse(text)
        {
            self.deleted.insert(archive);
        }
    }

    /// Whether it has a line.
    pub fn has(&self, text: &str) -> bool {
        self.lines.contains_key(&fingerprint(text))
    }

    /// Whether it has lost something of a receipt's: it lacks a line, or has
    /// it only behind `stored`, where it does not count. Of a stream of which
    /// it knows that archives were deleted it lacks nothing.
    pub fn lacks(&self, receipt: &Receipt) -> bool {
        if receipt.archives.iter().any(|archive| self.deleted.contains(archive)) {
            return false;
        }
        let end = receipt.lines.last().and_then(|stored| self.lines.get(&fingerprint(stored)));
        let Some((_, end)) = end else { return true };
        receipt
            .lines
            .iter()
            .any(|line| self.lines.get(&fingerprint(line)).is_none_or(|(first, _)| first > end))
    }
}
