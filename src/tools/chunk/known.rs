//! What is stored of a stream already, from put's journal or receipt in the
//! spool.

use std::collections::BTreeMap;
use std::io::BufReader;
use std::path::Path;

use crate::error::{Error, Result};
use crate::hash::tree::Hash;
use crate::line::{Stream, StreamId};
use crate::process;
use crate::spool::journal::Journal;
use crate::spool::{Holder, Respool, Spool, StreamDir};

/// Which volumes need only be hashed, and what they must hash to.
#[derive(Debug, Default)]
pub struct Known {
    volumes: BTreeMap<u32, Hash>,
    /// Volumes from here on are spooled though they are stored.
    respool: Option<u32>,
    generation: u32,
    /// The whole stream is stored: that it differs is put's to tell.
    stored: bool,
}

impl Known {
    /// Asks the journal of the stream; where none is under way, the receipt of
    /// `dest`. Where that is not known any receipt will do: put, which knows,
    /// begins a journal if it lacks anything.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn of(spool: &Spool, directory: &StreamDir, dest: Option<&str>) -> Result<Self> {
        let cannot = |e| Error::io(format!("stream {}: journal: cannot read", directory.id()), e);
        if let Some(file) = directory.existing_journal()? {
            let journal = Journal::read(BufReader::new(file)).map_err(cannot)?;
            journal.is_of(directory.id())?;
            if journal.dest.is_some() {
                return Ok(Self::from(&journal, directory.respool()?));
            }
        }
        for file in spool.receipts(directory.id())? {
            let journal = Journal::read(BufReader::new(file)).map_err(cannot)?;
            let is_there = dest.is_none_or(|dest| journal.dest.as_deref() == Some(dest));
            if is_there && journal.is_of(directory.id()).is_ok() {
                return Ok(Self::from(&journal, None));
            }
        }
        Ok(Self::default())
    }

    /// The same of a stream whose bytes differ each time it is made: what is
    /// stored of it is not compared, and nothing takes the place of what is
    /// spooled whole. `None` if all of it is stored, after a warning.
    ///
    /// # Errors
    /// When it is spooled whole, with how to send it; or that cannot be told.
    pub fn once(spool: &Spool, stream: &Stream, path: &Path) -> Result<Option<Self>> {
        let id = stream.stream;
        let directory = spool.existing(id)?;
        if let Some(dest) = stored_in(spool, id, directory.as_ref())? {
            process::warn(&format!(
                "{}: is stored already in {dest}; its filter's bytes differ each time, so they are not compared",
                stream.name
            ));
            return Ok(None);
        }
        let Some(directory) = directory else { return Ok(Some(Self::default())) };
        if !matches!(directory.lines()?, Some((_, true))) {
            return Ok(Some(Self::default()));
        }
        is_not_sent(&directory)?;
        Err(Error::Data(format!(
            "stream {id}: is spooled whole, and its filter would give other bytes; send what is spooled: glacier-put <{}",
            path.join(id.to_string()).join("lines.jsonl").display()
        )))
    }

    /// What a journal and a note of chunk come to.
    pub fn from(journal: &Journal, note: Option<Respool>) -> Self {
        // put answers a note with a new generation.
        let respool = note.filter(|note| note.generation == journal.generation);
        Self {
            volumes: journal.volumes(),
            respool: respool.map(|note| note.volume),
            generation: journal.generation,
            stored: journal.stored.is_some(),
        }
    }

    /// What the next run must know when `volume` turned out to be changed.
    pub fn note(&self, volume: u32) -> Respool {
        Respool { volume, generation: self.generation }
    }

    /// Whether a volume's parts must go into the spool.
    pub fn must_spool(&self, volume: u32) -> bool {
        if self.stored {
            return false;
        }
        self.respool.is_some_and(|from| volume >= from) || !self.volumes.contains_key(&volume)
    }

    /// Whether a volume that was only hashed must now be sent anew.
    pub fn differs(&self, volume: u32, treehash: Hash) -> bool {
        !self.stored && self.volumes.get(&volume).is_some_and(|stored| *stored != treehash)
    }
}

/// Refuses a stream that a put works on, before anything of it is changed. The
/// put of this pipe does not yet: it has not been told of the stream.
///
/// # Errors
/// Unfinished, with the process that works on it.
pub fn is_not_sent(directory: &StreamDir) -> Result<()> {
    let Some(process) = directory.holder(Holder::Put) else { return Ok(()) };
    Err(Error::Unfinished(format!(
        "stream {}: glacier-put (process {process}) sends what is spooled of it; run the same command later",
        directory.id()
    )))
}

/// Where a stream is stored whole, as its journal or a receipt says.
fn stored_in(spool: &Spool, id: StreamId, directory: Option<&StreamDir>) -> Result<Option<String>> {
    let read = |file| {
        let journal = Journal::read(BufReader::new(file));
        journal.map_err(|e| Error::io(format!("stream {id}: journal: cannot read"), e))
    };
    if let Some(file) = directory.map(StreamDir::existing_journal).transpose()?.flatten() {
        let journal = read(file)?;
        journal.is_of(id)?;
        if let Some(dest) = journal.dest {
            return Ok(journal.stored.map(|_| dest));
        }
    }
    for file in spool.receipts(id)? {
        let journal = read(file)?;
        if journal.is_of(id).is_ok() && journal.stored.is_some() {
            return Ok(journal.dest);
        }
    }
    Ok(None)
}
