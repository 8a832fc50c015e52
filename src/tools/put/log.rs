//! Where put writes down what it did: the journal, the catalog, and standard
//! output.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Seek as _};

use crate::catalog::part_hashes::PartHashes;
use crate::error::{Error, Result};
use crate::hash::tree::Hash;
use crate::line::{self, Deleted, Id, Line, StreamId};
use crate::process;
use crate::spool::StreamDir;
use crate::spool::append::{self, Append};
use crate::spool::catalog_file::Catalog;
use crate::spool::journal::{Journal, Record, elsewhere};
use crate::tools::receipts::{Has, Receipt, fingerprint};

/// The books of one stream.
pub struct Ledger<'a> {
    stream: &'a StreamDir,
    catalog: &'a mut Catalog,
    journal: Option<Append>,
    dest: String,
    region: String,
    /// A receipt tells of this stream; it is whole, and stays as it is.
    receipt: bool,
    /// Beside it, a journal of another destination stays in the spool: chunk
    /// learns of it what that one lacks.
    is_awaited: bool,
    /// The attempt that only the catalog knows of: the journal of it was lost,
    /// or archives of the one before were deleted.
    generation: Option<u32>,
    /// The lines of those deletions, until they are in the journal.
    deletions: String,
    /// What stands in the journal, and in the catalog.
    in_journal: HashSet<Hash>,
    in_catalog: Has,
    /// The catalog was written to.
    has_grown: bool,
}

/// Whether a line is of this stream in this destination.
fn is_about(line: &Line, id: StreamId, to: &str) -> bool {
    match line {
        Line::Archive(line) => line.stream == id && line.dest == to,
        Line::Stored(line) => line.stream == id && line.dest == to,
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

/// What the spool says of a stream in a destination: its journal, or else a
/// receipt.
#[derive(Default)]
struct FromSpool {
    texts: Vec<String>,
    journal: Journal,
    is_under_way: bool,
    /// A put to another destination has asked for the parts, and sent nothing.
    is_awaited: bool,
}

impl FromSpool {
    fn read(stream: &StreamDir, receipts: Vec<File>, dest: &str) -> Result<Self> {
        let id = stream.id();
        let cannot = |e| Error::io(format!("stream {id}: journal: cannot read"), e);
        let mut is_awaited = false;
        if let Some(file) = stream.existing_journal()? {
            // I2: the run that wrote it may have died before its fsync.
            append::settle(&file).map_err(cannot)?;
            let own = Self { is_under_way: true, ..Self::of(file).map_err(cannot)? };
            own.journal.is_of(id)?;
            match &own.journal.dest {
                Some(other) if other != dest && !own.journal.holds_nothing() => {
                    return Err(Error::Usage(format!(
                        "stream {id}: on its way to {other}; finish that first"
                    )));
                }
                Some(other) if other == dest => return Ok(own),
                other => is_awaited = other.is_some(),
            }
        }
        for file in receipts {
            let own = Self::of(file).map_err(cannot)?;
            if own.journal.dest.as_deref() == Some(dest) && own.journal.is_of(id).is_ok() {
                return Ok(Self { is_awaited, ..own });
            }
        }
        Ok(Self::default())
    }

    fn of(mut file: File) -> io::Result<Self> {
        file.rewind()?;
        let lines = BufReader::new(file).split(b'\n').collect::<io::Result<Vec<_>>>()?;
        let texts: Vec<String> =
            lines.into_iter().filter_map(|line| String::from_utf8(line).ok()).collect();
        let journal = Journal::read(texts.join("\n").as_bytes())?;
        Ok(Self { texts, journal, is_under_way: false, is_awaited: false })
    }
}

/// What the catalog says of a stream in a destination.
#[derive(Default)]
struct FromCatalog {
    all: Has,
    /// Its `archive` and `stored` lines.
    lines: Vec<Line>,
    deleted: HashSet<Id>,
    /// The lines of these deletions.
    deletions: String,
}

impl FromCatalog {
    fn read(catalog: &Catalog, id: StreamId, dest: &str) -> Result<Self> {
        let mut listed = Self::default();
        catalog.scan(&id.to_string(), |text| {
            listed.all.take(text);
            match Line::parse(text) {
                Ok(Some(Line::Deleted(Deleted { archive_id: Some(archive), .. }))) => {
                    listed.deleted.insert(archive);
                    listed.deletions.extend([text, "\n"]);
                }
                Ok(Some(line @ (Line::Archive(_) | Line::Stored(_))))
                    if is_about(&line, id, dest) =>
                {
                    listed.lines.push(line);
                }
                _ => {}
            }
        })?;
        Ok(listed)
    }
}

/// What both come to.
struct Merge {
    journal: Journal,
    receipt: bool,
    generation: Option<u32>,
    deletions: String,
}

impl Merge {
    /// Goes by the journal, and by the catalog for what that does not tell.
    ///
    /// # Errors
    /// When one of them is of a vault of this name in another region.
    fn of(
        (own, mut listed): (&FromSpool, FromCatalog),
        (id, dest, region): (StreamId, &str, Option<&str>),
    ) -> Result<(Self, Has)> {
        let mut journal = own.journal.clone();
        region.map_or(Ok(()), |region| journal.is_in(id, region))?;
        let told = own.texts.iter().filter_map(|text| Line::parse(text).ok().flatten());
        told.filter(|line| is_about(line, id, dest)).try_for_each(|line| is_in(&line, region))?;
        listed.lines.iter().try_for_each(|line| is_in(line, region))?;
        let has_receipt = !own.is_under_way && journal.stored.is_some();
        let before = if own.is_under_way { journal.generation } else { 0 };
        journal.complement(listed.lines);
        // I4: what is not there any more is stored again.  Held by
        // tests/put/deleted.rs::what_was_deleted_is_stored_again.
        if !journal.forget(&listed.deleted) {
            listed.deletions.clear();
        }
        let receipt = has_receipt && journal.stored.is_some();
        let generation = Some(journal.generation).filter(|now| *now > before);
        Ok((Self { journal, receipt, generation, deletions: listed.deletions }, listed.all))
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
        let own = FromSpool::read(stream, receipts, dest)?;
        let listed = FromCatalog::read(catalog, id, dest)?;
        let (merged, in_catalog) = Merge::of((&own, listed), (id, dest, region))?;
        // A receipt is not written to: of its lines the next journal has none.
        let written = own.texts.iter().filter(|_| own.is_under_way);
        let ledger = Self {
            stream,
            catalog,
            journal: None,
            dest: dest.to_owned(),
            region: region.unwrap_or_default().to_owned(),
            receipt: merged.receipt,
            is_awaited: merged.receipt && own.is_awaited,
            generation: merged.generation,
            deletions: merged.deletions,
            in_journal: written.map(|text| fingerprint(text)).collect(),
            in_catalog,
            has_grown: false,
        };
        Ok((ledger, merged.journal))
    }

    /// Whether a receipt tells of this stream, so that nothing is written to
    /// a journal.
    pub fn has_receipt(&self) -> bool {
        self.receipt
    }

    /// Whether what is left in the spool is for another destination.
    pub fn is_awaited(&self) -> bool {
        self.is_awaited
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
        let mut text = line::json(&Record::Journal { v: 1, stream: id, dest, region })?;
        if self.in_journal.contains(&fingerprint(&text)) {
            text.clear();
        }
        // glacier-chunk must not believe in what is gone.
        text += &self.deletions;
        // Else the next run took what is written from here on for the work of
        // an earlier attempt. Held by
        // plan::tests::cases::a_journal_that_was_lost_goes_on_with_the_attempt_of_the_catalog.
        if let Some(generation) = self.generation {
            text += &line::json(&Record::Generation { generation })?;
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
        self.write_journal(&line::json(record)?)
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
        let mut found = PartHashes::default();
        let mut take = |text: &str| {
            if let Ok(Some(Line::Hashes(line))) = Line::parse(text)
                && line.stream == id
                && line.volume == volume
                && line.dest == self.dest
            {
                found.take(line.part, line.treehashes);
            }
        };
        self.catalog.scan(&id.to_string(), &mut take)?;
        for file in receipts.into_iter().chain(self.stream.existing_journal()?) {
            for text in BufReader::new(file).lines().map_while(std::result::Result::ok) {
                take(&text);
            }
        }
        Ok(found.in_order())
    }
}
