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

/// The directory of `--keep`.
#[derive(Debug)]
pub struct Keep {
    directory: OwnedFd,
    /// What messages call it.
    name: String,
}

/// The directory of a stream in it.
#[derive(Debug)]
pub struct Kept {
    directory: OwnedFd,
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
    /// Opens it, and creates it if it is not there.
    ///
    /// # Errors
    /// When it cannot be opened, or belongs to or is open to other users.
    pub fn open(path: &Path) -> Result<Self> {
        let directory = open_private("keep", path)?;
        Ok(Self { directory, name: format!("keep {}", path.display()) })
    }

    /// The directory of a stream, if there is one or it is to be created.
    /// Nobody else writes to it meanwhile.
    ///
    /// # Errors
    /// When it cannot be created, opened or locked.
    pub fn stream(&self, stream: &Stream, create: bool) -> Result<Option<Arc<Kept>>> {
        let id = stream.id.to_string();
        let name = format!("{}/{id}", self.name);
        let failed = |e: io::Error| Error::io(name.as_str(), e);
        if create {
            beneath::make(&self.directory, &id).map_err(failed)?;
        }
        let directory = match open_directory(&self.directory, &id) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(failed)?,
        };
        if create {
            match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) => {
                    return Err(Error::Unfinished(format!(
                        "{name}: another glacier-get works on it; run the same command later"
                    )));
                }
                locked => locked.map_err(|e| failed(e.into()))?,
            }
        }
        Ok(Some(Arc::new(Kept { directory, name })))
    }
}

/// The name of a volume's file.
fn file_of(volume: &Volume) -> String {
    format!("{}-{}.volume", volume.line.generation, volume.line.volume)
}

impl Kept {
    fn open(&self, name: &str, flags: OFlags) -> Result<Option<File>> {
        match open_file(&self.directory, name, flags) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            opened => opened.map(Some).map_err(|e| self.failed(name, e)),
        }
    }

    fn failed(&self, name: &str, e: io::Error) -> Error {
        Error::io(format!("{}/{name}", self.name), e)
    }

    /// The whole volume, and what messages call it.
    ///
    /// # Errors
    /// When it cannot be opened, or has not the volume's size.
    pub fn whole(&self, volume: &Volume) -> Result<Option<(File, String)>> {
        let name = file_of(volume);
        let Some(file) = self.open(&name, OFlags::RDONLY)? else { return Ok(None) };
        let size = file.metadata().map_err(|e| self.failed(&name, e))?.len();
        let name = format!("{}/{name}", self.name);
        if size == volume.line.size {
            return Ok(Some((file, name)));
        }
        Err(Error::Data(format!(
            "{name}: has {size} bytes, the volume {}; remove it, and it is brought back again",
            volume.line.size
        )))
    }

    /// What there is of a volume that is not whole.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn begun(&self, volume: &Volume) -> Result<Option<(File, String)>> {
        let name = file_of(volume) + ".new";
        let file = self.open(&name, OFlags::RDONLY)?;
        Ok(file.map(|file| (file, format!("{}/{name}", self.name))))
    }

    /// Writes a volume from here on; what is behind it in the file is cut
    /// off.
    ///
    /// # Errors
    /// When the file cannot be opened or cut.
    pub fn writer(self: &Arc<Self>, volume: &Volume, from: u64) -> Result<Writer> {
        let name = file_of(volume);
        let new = format!("{name}.new");
        let file = open_file(&self.directory, &new, OFlags::RDWR | OFlags::CREATE)
            .and_then(|file| file.set_len(from).map(|()| file))
            .map_err(|e| self.failed(&new, e))?;
        Ok(Writer { kept: Arc::clone(self), file: Arc::new(file), name })
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
        let directory = &self.kept.directory;
        self.file.sync_all().map_err(failed)?;
        beneath::rename((directory, &new), (directory, &self.name)).map_err(failed)?;
        beneath::sync(directory).map_err(failed)
    }
}
