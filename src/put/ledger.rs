//! Where put writes down what it did: the journal, the catalog, and standard
//! output.

use std::collections::HashSet;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::retry_on_intr;

use crate::append::{self, Append};
use crate::cli;
use crate::error::{Error, Result};
use crate::journal::{Journal, Record, elsewhere};
use crate::line::{Line, Reader, StreamId, Text};
use crate::spool::StreamDir;
use crate::state;
use crate::treehash::Hash;

/// The catalog file.
pub struct Catalog {
    path: PathBuf,
    file: Append,
}

impl Catalog {
    /// Opens the catalog, and creates it if it is not there.
    ///
    /// # Errors
    /// When that fails.
    pub fn open(path: &Path) -> Result<Self> {
        let cannot = |e| Error::io(format!("catalog {}", path.display()), e);
        state::create(state::parent(path), 0o777).map_err(cannot)?;
        let is_new = !path.exists();
        // A FIFO is not waited for; a symbolic link is its user's choice.
        let flags =
            OFlags::RDWR | OFlags::APPEND | OFlags::CREATE | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let file = retry_on_intr(|| rustix::fs::open(path, flags, mode));
        let file = File::from(file.map_err(|e| cannot(e.into()))?);
        if !file.metadata().map_err(cannot)?.is_file() {
            return Err(cannot(std::io::Error::other("not a regular file")));
        }
        // I2: what is in the catalog outlives a power cut, so its name must,
        // be it that of a run that died before it could see to it.
        let real = fs::canonicalize(path).map_err(cannot)?;
        match File::open(state::parent(&real)) {
            Ok(directory) => directory.sync_all().map_err(cannot)?,
            Err(_) if !is_new => {}
            Err(e) => return Err(cannot(e)),
        }
        let file = Append::new(file);
        Ok(Self { path: path.to_owned(), file })
    }

    /// Gives `take` the text of every line that `wanted` takes, unread; what
    /// cannot be read is left out.
    ///
    /// # Errors
    /// When reading fails.
    fn scan(&self, wanted: &str, mut take: impl FnMut(&str)) -> Result<()> {
        let cannot = |e| Error::io(format!("catalog {}", self.path.display()), e);
        let mut lines = Reader::new(self.file.reader().map_err(cannot)?);
        while let Some(text) = lines.read().map_err(cannot)? {
            if let Text::Line(text) = text
                && text.contains(wanted)
            {
                take(&text);
            }
        }
        Ok(())
    }

    /// Whether anything stored in `dest` is in the catalog.
    ///
    /// # Errors
    /// When reading fails.
    pub fn knows(&self, dest: &str) -> Result<bool> {
        let mut known = false;
        self.scan(dest, |text| {
            known |= matches!(
                Line::parse(text),
                Ok(Some(Line::Archive(archive))) if archive.dest == dest
            );
        })?;
        Ok(known)
    }

    fn append(&mut self, text: &str) -> Result<()> {
        self.file.append(&format!("catalog {}", self.path.display()), text)
    }
}

/// The books of one stream.
pub struct Ledger<'a> {
    stream: &'a StreamDir,
    catalog: &'a mut Catalog,
    journal: Option<Append>,
    dest: String,
    region: String,
    /// A receipt tells of this stream; it is whole, and stays as it is.
    receipt: bool,
    /// The attempt that only the catalog knows of, as the journal of it was
    /// lost.
    generation: Option<u32>,
    /// What stands in the journal, and in the catalog.
    in_journal: HashSet<u64>,
    in_catalog: HashSet<u64>,
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
        let receipt = !is_under_way && journal.stored.is_some();
        let told = texts.iter().filter_map(|text| Line::parse(text).ok().flatten());
        told.filter(|line| is_about(line, id, dest)).try_for_each(|line| is_in(&line, region))?;
        if !is_under_way {
            texts.clear();
        }
        let in_journal: HashSet<u64> = texts.iter().map(|text| fingerprint(text)).collect();
        let mut in_catalog = HashSet::new();
        let mut known = Vec::new();
        catalog.scan(&id.to_string(), |text| {
            if let Ok(Some(line)) = Line::parse(text)
                && is_about(&line, id, dest)
            {
                in_catalog.insert(fingerprint(text));
                if matches!(line, Line::Archive(_) | Line::Stored(_)) {
                    known.push(line);
                }
            }
        })?;
        known.iter().try_for_each(|line| is_in(line, region))?;
        let before = if is_under_way { journal.generation } else { 0 };
        journal.complement(known);
        let generation = Some(journal.generation).filter(|now| *now > before);
        let ledger = Self {
            stream,
            catalog,
            journal: None,
            dest: dest.to_owned(),
            region: region.unwrap_or_default().to_owned(),
            receipt,
            generation,
            in_journal,
            in_catalog,
        };
        Ok((ledger, journal))
    }

    /// Whether a receipt tells of this stream, so that nothing is written to
    /// a journal.
    pub fn has_receipt(&self) -> bool {
        self.receipt
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
        let missing = |known: &mut HashSet<u64>| -> String {
            texts
                .iter()
                .filter(|text| known.insert(fingerprint(text)))
                .map(String::as_str)
                .collect()
        };
        if !self.receipt {
            let to_journal = missing(&mut self.in_journal);
            if !to_journal.is_empty() {
                self.write_journal(&to_journal)?;
            }
        }
        let to_catalog = missing(&mut self.in_catalog);
        if !to_catalog.is_empty() {
            self.catalog.append(&to_catalog)?;
        }
        texts.iter().try_for_each(|text| cli::put_out(text.as_bytes()))
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
