//! `--keep`: verified volumes as files, from which a stream can be fed again
//! without a second retrieval.
//!
//! `DIR/ID/GENERATION-VOLUME.volume`, written as `.new`, fsynced and renamed.
//! Nothing here is removed: that is its user's to do. What is read again is
//! verified again (I5).

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;

use super::plan::{Stream, Volume};
use crate::error::{Error, Result};
use crate::spool::{beneath, open_directory, open_file, open_private};

/// The directory of `--keep`. Only it stays open: of streams and volumes
/// there may be more than files can be.
#[derive(Debug)]
pub struct Keep {
    directory: OwnedFd,
    /// What messages call it.
    name: String,
}

/// The directory of a stream in it.
#[derive(Debug)]
pub struct Kept {
    keep: Arc<Keep>,
    id: String,
}

/// A file that holds a volume, or the beginning of one.
#[derive(Clone, Debug)]
pub struct Held {
    kept: Arc<Kept>,
    name: String,
}

/// A volume that is being written.
#[derive(Clone, Debug)]
pub struct Writer {
    kept: Arc<Kept>,
    file: Arc<File>,
    name: String,
}

impl Keep {
    /// Opens it, and creates it if it is not there. Nobody else writes to it
    /// meanwhile, unless it is only looked at.
    ///
    /// # Errors
    /// When it cannot be opened or locked, or belongs to or is open to other
    /// users.
    pub fn open(path: &Path, looks: bool) -> Result<Arc<Self>> {
        let directory = open_private("keep", path)?;
        let name = format!("keep {}", path.display());
        if !looks {
            match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) => {
                    return Err(Error::Unfinished(format!(
                        "{name}: another program works on it; run the same command later"
                    )));
                }
                locked => locked.map_err(|e| Error::io(name.as_str(), e))?,
            }
        }
        Ok(Arc::new(Self { directory, name }))
    }

    /// The directory of a stream.
    pub fn stream(self: &Arc<Self>, stream: &Stream) -> Arc<Kept> {
        Arc::new(Kept { keep: Arc::clone(self), id: stream.id.to_string() })
    }
}

/// The name of a volume's file.
fn file_of(volume: &Volume) -> String {
    format!("{}-{}.volume", volume.line.generation, volume.line.volume)
}

/// What is not there is nothing.
fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}

impl Kept {
    fn directory(&self) -> io::Result<OwnedFd> {
        open_directory(&self.keep.directory, &self.id)
    }

    fn called(&self, name: &str) -> String {
        format!("{}/{}/{name}", self.keep.name, self.id)
    }

    fn failed(&self, name: &str, e: io::Error) -> Error {
        Error::io(self.called(name), e)
    }

    /// The file of the whole volume, if there is one.
    ///
    /// # Errors
    /// When it cannot be looked at, or has not the volume's size.
    pub fn whole(self: &Arc<Self>, volume: &Volume) -> Result<Option<Held>> {
        let name = file_of(volume);
        let stat = found(self.directory()).and_then(|directory| match directory {
            Some(directory) => beneath::stat(&directory, &name),
            None => Ok(None),
        });
        let Some(stat) = stat.map_err(|e| self.failed(&name, e))? else { return Ok(None) };
        if u64::try_from(stat.st_size) == Ok(volume.line.size) {
            return Ok(Some(Held { kept: Arc::clone(self), name }));
        }
        Err(Error::Data(format!(
            "{}: has {} bytes, the volume {}; remove it, and it is brought back again",
            self.called(&name),
            stat.st_size,
            volume.line.size
        )))
    }

    /// What there is of a volume that is not whole.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn begun(self: &Arc<Self>, volume: &Volume) -> Result<Option<(Held, File)>> {
        let held = Held { kept: Arc::clone(self), name: file_of(volume) + ".new" };
        let file = found(held.open()).map_err(|e| self.failed(&held.name, e))?;
        Ok(file.map(|file| (held, file)))
    }

    /// Writes a volume from here on; what is behind it in the file is cut
    /// off.
    ///
    /// # Errors
    /// When the file cannot be opened or cut.
    pub fn writer(self: &Arc<Self>, volume: &Volume, from: u64) -> Result<Writer> {
        let name = file_of(volume);
        let new = format!("{name}.new");
        let file = beneath::make(&self.keep.directory, &self.id)
            .and_then(|_| self.directory())
            .and_then(|directory| open_file(&directory, &new, OFlags::RDWR | OFlags::CREATE))
            .and_then(|file| file.set_len(from).map(|()| file))
            .map_err(|e| self.failed(&new, e))?;
        Ok(Writer { kept: Arc::clone(self), file: Arc::new(file), name })
    }
}

impl Held {
    fn open(&self) -> io::Result<File> {
        open_file(&self.kept.directory()?, &self.name, OFlags::RDONLY)
    }

    /// What messages call it.
    pub fn name(&self) -> String {
        self.kept.called(&self.name)
    }

    /// Reads bytes of it; nothing of them is verified yet.
    ///
    /// # Errors
    /// When it cannot be opened or read, or ends before.
    pub fn read(&self, bytes: &mut [u8], offset: u64) -> Result<()> {
        let read = self.open().and_then(|file| file.read_exact_at(bytes, offset));
        read.map_err(|e| Error::io(format!("{}: cannot read", self.name()), e))
    }
}

impl Writer {
    /// Writes verified bytes of the volume; the last ones make it whole.
    ///
    /// # Errors
    /// When the disk does not take them.
    pub fn write(&self, bytes: &[u8], offset: u64, is_last: bool) -> Result<()> {
        let new = format!("{}.new", self.name);
        let failed = |e| self.kept.failed(&format!("{new}: cannot write"), e);
        self.file.write_all_at(bytes, offset).map_err(failed)?;
        if !is_last {
            return Ok(());
        }
        self.file.sync_all().map_err(failed)?;
        let directory = self.kept.directory().map_err(failed)?;
        beneath::rename((&directory, &new), (&directory, &self.name)).map_err(failed)?;
        beneath::sync(&directory).map_err(failed)
    }
}
