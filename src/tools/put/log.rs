//! Where put writes down what it did: the journal, the catalog, and standard
//! output.

use std::collections::HashSet;
use std::fs::File;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{BufRead, BufReader};

use crate::error::{Error, Result};
use crate::hash::tree::Hash;
use crate::line::{Deleted, Line, StreamId};
use crate::process;
use crate::spool::StreamDir;
use crate::spool::append::{self, Append};
use crate::spool::catalog_file::Catalog;
use crate::spool::journal::{Journal, Record, elsewhere};
use crate::tools::receipts::{Has, Receipt};

/// The books of one stream.
pub struct Ledger<'a> {
    stream: &'a StreamDir,
    catalog: &'a mut Catalog,
    journal: Option<Append>,
    dest: String,
    region: String,
    /// A receipt tells of this stream; it is whole, and stays as it is.
    receipt: bool,
    /// The attempt that only the catalog knows of: the journal of it was lost,
    /// or archives of the one before were deleted.
    generation: Option<u32>,
    /// The lines of those deletions, until they are in the journal.
    deletions: String,
    /// What stands in the journal, and in the catalog.
    in_journal: HashSet<u64>,
    in_catalog: Has,
    /// The catalog was written to.
    has_grown: bool,
}

fn fingerprint(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.trim_end().hash(&mut hasher);
    hasher.finish()
}

/// Whether a line is about this stream in this destination.
fn is_about(line: &Line, id: StreamId, to: &str) -> bool {
    match line {
        Line::Hashes(line) => line.stream == id && line.dest == to,
        Line::Archive(line) => line.stream == id && line.dest == to,
        Line::Stored(line) => line.stream == id && line.dest == to,
        Line::Snapshot(line) => line.stream == id,
        _ => false,
    }
}

/// Refuses a line of a vault of the same name in another region: its archive
/// is not there, and would be taken for stored.
fn is_in(line: &Line, here: Option<&str>) -> Result<()> {
    let (stream, dest, region) = match line {
        Line::Archive(line) => (line.stream, &line.dest, &line.region),
        Line::Stored(line) => (line.stream, &line.dest, &line.region),
        _ => return Ok(()),
    };
    match here {
        Some(here) if here != region => {
            Err(Error::Configuration(elsewhere(stream, dest, region, here)))
        }
        _ => Ok(()),
    }
}

impl<'a> Ledger<'a> {
    /// Reads what is known of a stream in `dest`: its journal, else the
    /// receipt among `receipts`, and the catalog.
    ///
    /// # Errors
    /// When reading fails, or the stream is on its way to another
    /// destination, or was sent to a vault of this name in another region.
    pub fn open(
        stream: &'a StreamDir,
        receipts: Vec<File>,
        catalog: &'a mut Catalog,
        dest: &str,
        region: Option<&str>,
    ) -> Result<(Self, Journal)> {
        let id = stream.id();
        let cannot = |e| Error::io(format!("stream {id}: journal: cannot read"), e);
        let mut texts = Vec::new();
        let mut sources: Vec<File> = stream.existing_journal()?.into_iter().collect();
        if let Some(file) = sources.first() {
            // I2: the run that wrote it may have died before its fsync.
            append::settle(file).map_err(cannot)?;
            let file = file.try_clone().map_err(cannot)?;
            let active = Journal::read(BufReader::new(file)).map_err(cannot)?;
            active.is_of(id)?;
            match active.dest {
                Some(other) if other != dest => {
                    return Err(Error::Usage(format!(
                        "stream {id}: on its way to {other}; finish that first"
                    )));
                }
                Some(_) => {}
                None => sources.clear(),
            }
        }
        let is_under_way = !sources.is_empty();
        if !is_under_way {
            sources = receipts;
        }
        for mut file in sources {
            use std::io::Seek as _;
            file.rewind().map_err(cannot)?;
            let mut lines = Vec::new();
            for line in BufReader::new(file).split(b'\n') {
                if let Ok(line) = String::from_utf8(line.map_err(cannot)?) {
                    lines.push(line);
                }
            }
            let read = Journal::read(lines.join("\n").as_bytes()).map_err(cannot)?;
            if read.dest.as_deref() == Some(dest) && read.is_of(id).is_ok() {
                texts = lines;
                break;
            }
        }
        let mut journal = Journal::read(texts.join("\n").as_bytes()).map_err(cannot)?;
        region.map_or(Ok(()), |region| journal.is_in(id, region))?;
        let told = texts.iter().filter_map(|text| Line::parse(text).ok().flatten());
        told.filter(|line| is_about(line, id, dest)).try_for_each(|line| is_in(&line, region))?;
        if !is_under_way {
            texts.clear();
        }
        let in_journal: HashSet<u64> = texts.iter().map(|text| fingerprint(text)).collect();
        let mut in_catalog = Has::default();
        let mut known = Vec::new();
        let (mut deleted, mut deletions) = (HashSet::new(), String::new());
        catalog.scan(&id.to_string(), |text| {
            in_catalog.take(text);
            match Line::parse(text) {
                Ok(Some(Line::Deleted(Deleted { archive_id: Some(archive), .. }))) => {
                    deleted.insert(archive);
                    deletions.extend([text, "\n"]);
                }
                Ok(Some(line)) if is_about(&line, id, dest) => {
                    if matches!(line, Line::Archive(_) | Line::Stored(_)) {
                        known.push(line);
                    }
                }
                _ => {}
            }
        })?;
        known.iter().try_for_each(|line| is_in(line, region))?;
        let has_receipt = !is_under_way && journal.stored.is_some();
        let before = if is_under_way { journal.generation } else { 0 };
        journal.complement(known);
        // I4: what is not there any more is stored again.  Held by
        // tests/put/deleted.rs::what_was_deleted_is_stored_again.
        if !journal.forget(&deleted) {
            deletions.clear();
        }
        let receipt = has_receipt && journal.stored.is_some();
        let generation = Some(journal.generation).filter(|now| *now > before);
        let ledger = Self {
            stream,
            catalog,
            journal: None,
            dest: dest.to_owned(),
            region: region.unwrap_or_default().to_owned(),
            receipt,
            generation,
            deletions,
            in_journal,
            in_catalog,
            has_grown: false,
        };
        Ok((ledger, journal))
    }

    /// Whether a receipt tells of this stream, so that nothing is written to
    /// a journal.
    pub fn has_receipt(&self) -> bool {
        self.receipt
    }

    /// Writes what the catalog has lost of a stored stream again, as one of
    /// its receipts has it. One that is damaged heals nothing.
    ///
    /// # Errors
    /// When a receipt cannot be read, or the catalog not be written.
    pub fn heal(&mut self, receipts: &[File]) -> Result<()> {
        let id = self.stream.id();
        let cannot = |e| Error::io(format!("stream {id}: receipt: cannot read"), e);
        for file in receipts.iter().filter(|_| self.receipt) {
            let Ok(receipt) = Receipt::read(file, id).map_err(cannot)? else { continue };
            if receipt.stored.dest == self.dest && self.in_catalog.lacks(&receipt) {
                self.catalog.append(&receipt.text())?;
                receipt.lines().for_each(|line| self.in_catalog.take(line));
            }
        }
        Ok(())
    }

    /// Begins the journal, if it is not begun.
    ///
    /// # Errors
    /// When the disk cannot take it.
    pub fn begin(&mut self) -> Result<()> {
        if self.journal.is_some() {
            return Ok(());
        }
        let id = self.stream.id();
        let mut journal = self.stream.journal()?;
        let (dest, region) = (self.dest.clone(), self.region.clone());
        let written = |record: &Record| {
            serde_json::to_string(record)
                .map(|text| text + "\n")
                .map_err(|e| Error::Bug(format!("a record could not be written as JSON: {e}")))
        };
        let mut text = written(&Record::Journal { v: 1, stream: id, dest, region })?;
        if self.in_journal.contains(&fingerprint(&text)) {
            text.clear();
        }
        // glacier-chunk must not believe in what is gone.
        text += &self.deletions;
        // Else the next run took what is written from here on for the work of
        // an earlier attempt. Held by
        // plan::tests::cases::a_journal_that_was_lost_goes_on_with_the_attempt_of_the_catalog.
        if let Some(generation) = self.generation {
            text += &written(&Record::Generation { generation })?;
        }
        if !text.is_empty() {
            journal.append(&format!("stream {id}: journal"), &text)?;
        }
        self.journal = Some(journal);
        Ok(())
    }

    /// Writes a record to the journal. It is on disk when this returns.
    ///
    /// # Errors
    /// When the disk cannot take it.
    pub fn record(&mut self, record: &Record) -> Result<()> {
        let text = serde_json::to_string(record)
            .map_err(|e| Error::Bug(format!("a record could not be written as JSON: {e}")))?;
        self.write_journal(&(text + "\n"))
    }

    fn write_journal(&mut self, text: &str) -> Result<()> {
        self.begin()?;
        let id = self.stream.id();
        match &mut self.journal {
            Some(journal) => journal.append(&format!("stream {id}: journal"), text),
            None => Err(Error::Bug("a journal that was just begun is gone".to_owned())),
        }
    }

    /// Writes catalog lines where they are not yet: to the journal, to the
    /// catalog, each on disk, then to standard output.
    ///
    /// # Errors
    /// When one of them cannot take it.
    pub fn publish(&mut self, lines: &[Line]) -> Result<()> {
        let texts = lines.iter().map(Line::text).collect::<Result<Vec<String>>>()?;
        if !self.receipt {
            let missing = texts.iter().filter(|text| self.in_journal.insert(fingerprint(text)));
            let to_journal: String = missing.map(String::as_str).collect();
            if !to_journal.is_empty() {
                self.write_journal(&to_journal)?;
            }
        }
        // Behind its `stored` line nothing of a stream counts: that is written
        // again where the catalog lacked what belongs before it.  Held by
        // tests/put/books.rs::a_catalog_that_lost_any_line_is_healed.
        let is_missing = |(line, text): &(&Line, &String)| {
            let is_stored = matches!(line, Line::Stored(_));
            !self.in_catalog.has(text) || is_stored && self.has_grown
        };
        let missing = lines.iter().zip(&texts).filter(is_missing);
        let to_catalog: String = missing.map(|(_, text)| text.as_str()).collect();
        if !to_catalog.is_empty() {
            self.catalog.append(&to_catalog)?;
            to_catalog.lines().for_each(|text| self.in_catalog.take(text));
            self.has_grown = true;
        }
        texts.iter().try_for_each(|text| process::put_out(text.as_bytes()))
    }

    /// The tree hashes of a stored volume's parts, from journal and catalog.
    ///
    /// # Errors
    /// When reading fails.
    pub fn hashes(&self, receipts: Vec<File>, volume: u32) -> Result<Vec<Hash>> {
        let id = self.stream.id();
        let mut found = Vec::new();
        let mut take = |text: &str| {
            if let Ok(Some(Line::Hashes(line))) = Line::parse(text)
                && line.stream == id
                && line.volume == volume
                && line.dest == self.dest
            {
                let first = usize::try_from(line.part).unwrap_or(usize::MAX);
                if found.len() >= first {
                    found.truncate(first);
                    found.extend(line.treehashes);
                }
            }
        };
        self.catalog.scan(&id.to_string(), &mut take)?;
        for file in receipts.into_iter().chain(self.stream.existing_journal()?) {
            for text in BufReader::new(file).lines().map_while(std::result::Result::ok) {
                take(&text);
            }
        }
        Ok(found)
    }
}
