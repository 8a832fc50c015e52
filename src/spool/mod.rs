//! The spool: where parts wait for the service. The only module that touches
//! spool files.
//!
//! One directory a stream, named by its id, holds its parts, the lines that
//! chunk printed, put's journal and two locks. Every file is reached by a
//! name made here, from numbers, relative to the handle of its directory, and
//! never through a symbolic link: nothing that a line says can name another
//! file (I6).

mod stream;

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, fstat, fstatvfs, mkdirat, openat, renameat, unlinkat,
};
use rustix::io::Errno;

pub use stream::{Holder, Lock, PartFile, Respool, StreamDir};

use crate::error::{Error, Result};
use crate::line::StreamId;

/// Permissions of files; directories have those of [`DIRECTORY`].
const FILE: Mode = Mode::RUSR.union(Mode::WUSR);
const DIRECTORY: Mode = Mode::RWXU;

/// Receipts of streams that are stored.
const DONE: &str = "done";

/// put's journal.
const JOURNAL: &str = "put.jsonl";

/// A spool directory.
#[derive(Debug)]
pub struct Spool {
    directory: OwnedFd,
}

/// Opens a regular file that is ours alone; no link of either kind.
fn open_file(directory: &OwnedFd, name: &str, flags: OFlags) -> io::Result<File> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = openat(directory, name, flags, FILE)?;
    let stat = fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(io::Error::other("not a regular file"));
    }
    if stat.st_nlink > 1 {
        return Err(io::Error::other("has another name, outside the spool's rules"));
    }
    Ok(File::from(file))
}

/// The same, `None` if it is not there.
fn open_existing(directory: &OwnedFd, name: &str) -> io::Result<Option<File>> {
    match open_file(directory, name, OFlags::RDONLY) {
        Ok(file) => Ok(Some(file)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

fn open_directory(directory: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(directory, name, flags, Mode::empty())?)
}

fn remove(directory: &OwnedFd, name: &str) -> io::Result<()> {
    match unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

fn sync(directory: &OwnedFd) -> io::Result<()> {
    Ok(rustix::fs::fsync(directory)?)
}

/// The names in a directory, without `.` and `..`.
fn names(directory: &OwnedFd) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let name = entry?.file_name().to_owned();
        if !matches!(name.as_bytes(), b"." | b"..") {
            names.push(name);
        }
    }
    Ok(names)
}

impl Spool {
    /// Opens the spool, and creates it if it is not there.
    ///
    /// # Errors
    /// When it cannot be opened, or belongs to or is open to other users.
    pub fn open(path: &Path) -> Result<Self> {
        let spool = |e: io::Error| Error::io(format!("spool {}", path.display()), e);
        match std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path) {
            // A file, which is refused in better words below.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            made => made.map_err(spool)?,
        }
        let directory = OwnedFd::from(File::open(path).map_err(spool)?);
        let stat = fstat(&directory).map_err(|e| spool(e.into()))?;
        let refuse =
            |why: &str| Err(Error::Configuration(format!("spool {}: {why}", path.display())));
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return refuse("not a directory");
        }
        if stat.st_uid != rustix::process::geteuid().as_raw() {
            return refuse("belongs to another user");
        }
        if Mode::from_raw_mode(stat.st_mode).intersects(Mode::RWXG | Mode::RWXO) {
            return refuse("open to other users; chmod 700 it");
        }
        Ok(Self { directory })
    }

    /// Bytes that this user may still write to the spool's file system.
    ///
    /// # Errors
    /// When the file system does not tell.
    pub fn room(&self) -> Result<u64> {
        let stat = fstatvfs(&self.directory).map_err(|e| Error::io("spool: free space", e))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// The directory of a stream, created if it is not there.
    ///
    /// # Errors
    /// When it cannot be created or opened.
    pub fn stream(&self, id: StreamId) -> Result<StreamDir> {
        match mkdirat(&self.directory, id.to_string(), DIRECTORY) {
            Ok(()) => sync(&self.directory).map_err(|e| Error::io("spool: cannot sync", e))?,
            Err(Errno::EXIST) => {}
            Err(e) => return Err(Error::io(format!("stream {id}: cannot create"), e)),
        }
        match self.existing(id)? {
            Some(stream) => Ok(stream),
            None => Err(Error::Unfinished(format!(
                "stream {id}: removed meanwhile; run the same command again"
            ))),
        }
    }

    /// The directory of a stream that is in the spool.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn existing(&self, id: StreamId) -> Result<Option<StreamDir>> {
        match open_directory(&self.directory, &id.to_string()) {
            Ok(directory) => Ok(Some(StreamDir { id, directory })),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io(format!("stream {id}: cannot open"), e)),
        }
    }

    /// The journals of a stream that is stored, one for each destination.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn receipts(&self, id: StreamId) -> Result<Vec<File>> {
        let receipts = || -> io::Result<Vec<File>> {
            let done = match open_directory(&self.directory, DONE) {
                Ok(done) => done,
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                Err(e) => return Err(e),
            };
            let prefix = format!("{id}.");
            let mut files = Vec::new();
            for name in names(&done)? {
                if let Some(name) = name.to_str().ok().filter(|name| name.starts_with(&prefix)) {
                    files.extend(open_existing(&done, name)?);
                }
            }
            Ok(files)
        };
        receipts().map_err(|e| Error::io(format!("stream {id}: receipt: cannot read"), e))
    }

    /// Whether any stream here was or is being stored; asks for journals and
    /// receipts that `about` takes for the destination's.
    ///
    /// # Errors
    /// When the spool cannot be read.
    pub fn any_journal(&self, mut about: impl FnMut(File) -> bool) -> Result<bool> {
        let mut search = || -> io::Result<bool> {
            for name in names(&self.directory)? {
                let Ok(name) = name.to_str() else { continue };
                let Ok(directory) = open_directory(&self.directory, name) else { continue };
                let journals: Vec<String> = if name == DONE {
                    names(&directory)?
                        .iter()
                        .filter_map(|n| n.to_str().ok().map(str::to_owned))
                        .collect()
                } else {
                    vec![JOURNAL.to_owned()]
                };
                for journal in journals {
                    if open_existing(&directory, &journal)?.is_some_and(&mut about) {
                        return Ok(true);
                    }
                }
            }
            Ok(false)
        };
        search().map_err(|e| Error::io("spool: cannot read", e))
    }

    /// Puts the journal of a stored stream under `done/`, as `receipt` unless
    /// it has one there, and removes all else of it. Called with put's lock held. A chunk that still holds its lock
    /// keeps the directory; its next run finds the receipt.
    ///
    /// # Errors
    /// When a step fails; the same command goes on from there.
    pub fn retire(&self, stream: &StreamDir, receipt: Option<&str>) -> Result<()> {
        let id = stream.id;
        let retire = || -> io::Result<()> {
            match mkdirat(&self.directory, DONE, DIRECTORY) {
                Ok(()) => sync(&self.directory)?,
                Err(Errno::EXIST) => {}
                Err(e) => return Err(e.into()),
            }
            let done = open_directory(&self.directory, DONE)?;
            if let Some(receipt) = receipt {
                match renameat(&stream.directory, JOURNAL, &done, format!("{id}.{receipt}.jsonl")) {
                    Ok(()) | Err(Errno::NOENT) => {}
                    Err(e) => return Err(e.into()),
                }
            }
            sync(&done)?;
            sync(&stream.directory)
        };
        retire().map_err(|e| Error::io(format!("stream {id}: cannot keep its receipt"), e))?;
        let patience = Duration::from_secs(5);
        let Ok(_lock) = stream.lock_within(Holder::Chunk, patience) else { return Ok(()) };
        let clear = || -> io::Result<()> {
            for name in names(&stream.directory)? {
                match unlinkat(&stream.directory, name.as_c_str(), AtFlags::empty()) {
                    Ok(()) | Err(Errno::NOENT) => {}
                    Err(e) => return Err(e.into()),
                }
            }
            Ok(unlinkat(&self.directory, id.to_string(), AtFlags::REMOVEDIR)?)
        };
        clear().map_err(|e| Error::io(format!("stream {id}: cannot clear its spool"), e))
    }
}

#[cfg(test)]
mod tests;
