//! Receipts: the journals of streams that are stored, as the spool keeps them.
//!
//! A catalog can lose lines: it is cut, or brought back from an older copy.
//! The receipt of a stream has the same lines, so a catalog is healed from it.
//! One is believed only if glacier-get(1) could bring the stream back by it:
//! the checks are those of a catalog (`get::plan`).

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _, Seek as _};

use jiff::{SignedDuration, Timestamp};

use crate::catalog::scan::{select, survey};
use crate::error::{Error, Result};
use crate::hash::tree::Hash;
use crate::line::{Deleted, Id, Line, Reader, Stored, StreamId, Text};
use crate::process::input::Span;
use crate::spool::journal::Journal;
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
    archives: HashSet<Id>,
    /// It is the journal still: the put that stored the stream was stopped
    /// before the catalog had it.
    pub is_late: bool,
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
        let mut lines = Vec::new();
        let (mut archives, mut stored) = (HashSet::new(), None);
        let mut check = Lines::default();
        for span in spans {
            let text = slice(bytes, span).ok_or("a line of it is none")?;
            let line = Line::parse(text)?.ok_or("a line of it is none")?;
            match &line {
                Line::Archive(archive) => drop(archives.insert(archive.archive_id.clone())),
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
        Ok(Self { stored: stored.ok_or(NO_STORED)?, lines, archives, is_late: false })
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

/// Bytes of a destination in the name of a file, at most: with the stream's id
/// that has at most 255.
const LONGEST: usize = 200;

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

    /// The `stored` line that counts of it, before anything is compared; `None`
    /// as [`Place::read`] says.
    ///
    /// # Errors
    /// When it cannot be read.
    fn stored(&self, spool: &Spool) -> Result<Option<Stored>> {
        let Some(file) = self.open(spool)? else { return Ok(None) };
        let mut stored = None;
        let mut reader = Reader::new(BufReader::new(file));
        let cannot = |e| Error::io(format!("{self}: cannot read"), e);
        while let Some(text) = reader.read().map_err(cannot)? {
            if let Text::Line(text) = text
                && text.starts_with(r#"{"type":"stored""#)
                && let Ok(Some(Line::Stored(line))) = Line::parse(&text)
            {
                stored = Some(line);
            }
        }
        Ok(stored)
    }

    fn open(&self, spool: &Spool) -> Result<Option<File>> {
        match &self.name {
            Some(name) => spool.receipt(name),
            // While a put works the catalog has not had its lines yet.
            None => match spool.existing(self.id)? {
                Some(directory) if !directory.is_locked(Holder::Put) => {
                    directory.existing_journal()
                }
                _ => Ok(None),
            },
        }
    }

    /// Reads it; `None` if it is not there any more, or is the journal of a
    /// stream that is not stored, or that a put works on.
    ///
    /// # Errors
    /// When it cannot be read; within, why it is not believed.
    pub fn read(&self, spool: &Spool) -> Result<Option<Result<Receipt, String>>> {
        let Some(file) = self.open(spool)? else { return Ok(None) };
        let receipt = Receipt::read(&file, self.id)
            .map_err(|e| Error::io(format!("{self}: cannot read"), e))?;
        match receipt {
            Err(why) if self.name.is_none() && why == NO_STORED => Ok(None),
            receipt => {
                let is_late = self.name.is_none();
                Ok(Some(receipt.map(|receipt| Receipt { is_late, ..receipt })))
            }
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

/// The file name of the receipt of a stream that is stored in a destination:
/// that which it has there, be it of an earlier version, or a new one.
///
/// # Errors
/// When the receipts cannot be read.
pub fn name(spool: &Spool, id: StreamId, dest: &str, region: &str) -> Result<String> {
    Ok(find(spool, id, dest, region)?.unwrap_or_else(|| new_name(id, dest, region)))
}

/// The same, if it is there.
///
/// # Errors
/// When the receipts cannot be read.
pub fn find(spool: &Spool, id: StreamId, dest: &str, region: &str) -> Result<Option<String>> {
    let cannot = |e| Error::io(format!("stream {id}: receipt: cannot read"), e);
    for (_, name) in spool.receipt_names()?.into_iter().filter(|(of, _)| *of == id) {
        let Some(file) = spool.receipt(&name)? else { continue };
        let journal = Journal::read(BufReader::new(file)).map_err(cannot)?;
        if journal.dest.as_deref() == Some(dest) && journal.region.is_none_or(|it| it == region) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// Removes the receipt of a stream whose archives in a destination are no more.
///
/// # Errors
/// When it cannot be read or removed.
pub fn forget(spool: &Spool, id: StreamId, dest: &str, region: &str) -> Result<()> {
    let name = find(spool, id, dest, region)?;
    name.map_or(Ok(()), |name| spool.forget_receipt(&name))
}

/// No two destinations give one name: what is no letter, digit or hyphen is
/// escaped, and what would be too long for a file is hashed.
fn new_name(id: StreamId, dest: &str, region: &str) -> String {
    let escaped = |text: &str| -> String {
        let escape = |byte: u8| match byte {
            b'-' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => char::from(byte).to_string(),
            _ => format!("={byte:02x}"),
        };
        text.bytes().map(escape).collect()
    };
    let place = match dest.split_once("://") {
        Some((scheme, rest)) => format!("{}---{}", escaped(scheme), escaped(rest)),
        None => escaped(dest),
    };
    let mut place = format!("{place}.{}", escaped(region));
    if place.len() > LONGEST {
        place = Hash::of(place.as_bytes()).to_string();
    }
    format!("{id}.{place}.jsonl")
}

/// What is known of streams that a spool calls stored, before a catalog is read:
/// of what was stored until then that has the lines, or has lost them.
#[derive(Debug)]
pub struct Told(Vec<(Place, Stored)>);

impl Told {
    /// Asks the receipts of a spool.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(spool: &Spool) -> Result<Self> {
        let mut told = Vec::new();
        for place in Place::all(spool)? {
            told.extend(place.stored(spool)?.map(|stored| (place, stored)));
        }
        Ok(Self(told))
    }

    /// The receipts of what a catalog has lost: it has neither their `stored`
    /// line nor that anything of them was deleted, and no inventory that is
    /// newer contradicts them. One that is damaged is told by glacier-ls(1).
    ///
    /// # Errors
    /// When spool or catalog cannot be read.
    pub fn lost<R: BufRead>(
        self,
        spool: &Spool,
        open: impl Fn() -> Result<R>,
    ) -> Result<Vec<Receipt>> {
        if self.0.is_empty() {
            return Ok(Vec::new());
        }
        let key = |it: &Stored| (it.stream, it.generation, it.dest.clone(), it.region.clone());
        let (mut known, mut deleted) = (HashSet::new(), HashSet::new());
        each(open()?, |text| {
            if !names(text, &[r#""stored""#, r#""deleted""#]) {
                return;
            }
            match Line::parse(text) {
                Ok(Some(Line::Stored(stored))) => drop(known.insert(key(&stored))),
                Ok(Some(Line::Deleted(line))) => deleted.extend(line.archive_id),
                _ => {}
            }
        })?;
        let mut lost = Vec::new();
        for (place, _) in self.0.into_iter().filter(|(_, stored)| !known.contains(&key(stored))) {
            let receipt = place.read(spool)?.and_then(std::result::Result::ok);
            lost.extend(receipt.filter(|it| it.archives.is_disjoint(&deleted)));
        }
        if !lost.is_empty() {
            let inventories = Inventories::read(open)?;
            lost.retain(|receipt| !inventories.contradict(receipt));
        }
        Ok(lost)
    }
}

/// Whether a line may be of one of these types: most need not be parsed.
fn names(text: &str, types: &[&str]) -> bool {
    types.iter().any(|of| text.contains(of))
}

/// Gives all lines of a catalog.
fn each(input: impl BufRead, mut take: impl FnMut(&str)) -> Result<()> {
    let mut reader = Reader::new(input);
    let cannot = |e| Error::io("catalog: cannot read", e);
    while let Some(text) = reader.read().map_err(cannot)? {
        if let Text::Line(text) = text {
            take(&text);
        }
    }
    Ok(())
}

/// What was stored this long before an inventory was made may lack in it: the
/// service makes one a day.
const LAG: SignedDuration = SignedDuration::from_hours(48);

/// The inventories that a catalog was rebuilt from: what they do not list is
/// not there.
#[derive(Debug, Default)]
pub struct Inventories {
    /// The newest of each destination and region.
    made: HashMap<(String, String), Timestamp>,
    /// The archives that the catalog names.
    archives: HashSet<Id>,
}

impl Inventories {
    /// Reads a catalog.
    ///
    /// # Errors
    /// When reading fails.
    pub fn read<R: BufRead>(open: impl Fn() -> Result<R>) -> Result<Self> {
        let mut inventories = Self::default();
        each(open()?, |text| inventories.take_head(text))?;
        if !inventories.made.is_empty() {
            each(open()?, |text| inventories.take_archive(text))?;
        }
        Ok(inventories)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.made.is_empty()
    }

    /// Takes the next line.
    pub fn take(&mut self, text: &str) {
        self.take_head(text);
        self.take_archive(text);
    }

    fn take_head(&mut self, text: &str) {
        // Of what is in a manifest that was refused nothing is known.
        if names(text, &[r#""inventory""#])
            && let Ok(Some(Line::Inventory(line))) = Line::parse(text)
            && line.refused == Some(0)
        {
            let made = self.made.entry((line.dest, line.region)).or_insert(line.made);
            *made = line.made.max(*made);
        }
    }

    fn take_archive(&mut self, text: &str) {
        if !names(text, &[r#""archive""#, r#""inventoried""#, r#""stored""#]) {
            return;
        }
        self.archives.extend(match Line::parse(text) {
            Ok(Some(Line::Archive(line))) => Some(line.archive_id),
            Ok(Some(Line::Inventoried(line))) => Some(line.archive_id),
            Ok(Some(Line::Stored(line))) => line.manifest_id,
            _ => None,
        });
    }

    /// Whether one that is newer than a receipt lacks an archive of it.
    pub fn contradict(&self, receipt: &Receipt) -> bool {
        let Stored { dest, region, stored, .. } = &receipt.stored;
        let made = self.made.get(&(dest.clone(), region.clone()));
        made.is_some_and(|made| made.duration_since(*stored) > LAG)
            && !receipt.archives.is_subset(&self.archives)
    }
}

/// What a catalog has, to find out what it lacks.
#[derive(Debug, Default)]
pub struct Has {
    /// Of each line, by its fingerprint, the numbers of its first and its
    /// last place.
    lines: HashMap<Hash, (u64, u64)>,
    count: u64,
    deleted: HashSet<Id>,
}

/// Stands for a line where it is asked whether that is written. I2: a part
/// leaves the spool when its lines are, so no two may have one.
pub fn fingerprint(text: &str) -> Hash {
    Hash::of(text.trim_end().as_bytes())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_destinations_share_a_name() {
        let id: StreamId = "17".repeat(16).parse().unwrap();
        let mut names = HashSet::new();
        let long = |last: &str| format!("glacier://{}{last}", "a.b_c".repeat(50));
        for dest in ["a.b", "a-b", "a_b", "a=2eb", "a--b", "a.b-", &long("1"), &long("2")] {
            for region in ["eu-central-1", "us-east-1", ""] {
                let name = new_name(id, &format!("glacier://{dest}"), region);
                assert!(name.len() <= 255 && !name.contains('/'), "{name}");
                assert!(names.insert(name), "{dest} {region}");
            }
        }
        let name = new_name(id, "glacier://my-vault.1", "eu-central-1");
        assert_eq!(name, format!("{id}.glacier---my-vault=2e1.eu-central-1.jsonl"));
    }
}
