//! The spool: where parts wait for the service. The only module that touches
//! spool files.
//!
//! One directory a stream, named by its id, holds its parts, the lines that
//! chunk printed, put's journal and two locks. Every file is reached by a
//! name made here, from numbers, relative to the handle of its directory, and
//! never through a symbolic link: nothing that a line says can name another
//! file (I6). The spool itself may be a symbolic link: its user chose it.

pub mod append;
pub(crate) mod beneath;
pub mod catalog_file;
pub mod journal;
mod stream;
pub mod underway;

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{Dir, FileType, FlockOperation, Mode, OFlags, Stat, flock, fstat, fstatvfs};
use rustix::io::{Errno, retry_on_intr};

pub use stream::{Holder, Lock, PartFile, Respool, StreamDir};

use crate::error::{Error, Result};
use crate::line::StreamId;
use crate::process::paths;

/// Receipts of streams that are stored.
const DONE: &str = "done";

/// put's journal.
const JOURNAL: &str = "put.jsonl";

/// How long another process that deletes archives is waited for.
const DELETION: Duration = Duration::from_mins(1);

/// Whose locks a stream has.
const LOCKS: [Holder; 2] = [Holder::Chunk, Holder::Put];

/// A spool directory.
#[derive(Debug)]
pub struct Spool {
    directory: OwnedFd,
}

/// Opens a regular file that is ours alone; no link of either kind.
pub(crate) fn open_file(directory: &OwnedFd, name: &str, flags: OFlags) -> io::Result<File> {
    let file = beneath::open(directory, name, flags)?;
    let stat = retry_on_intr(|| fstat(&file))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(io::Error::other(beneath::NOT_REGULAR));
    }
    if stat.st_nlink > 1 {
        return Err(io::Error::other("has another name, outside the spool's rules"));
    }
    if !is_ours(&stat) {
        return Err(io::Error::other("belongs to another user"));
    }
    Ok(File::from(file))
}

fn is_ours(stat: &Stat) -> bool {
    stat.st_uid == rustix::process::geteuid().as_raw()
}

/// The same, `None` if it is not there.
fn open_existing(directory: &OwnedFd, name: &str) -> io::Result<Option<File>> {
    match open_file(directory, name, OFlags::RDONLY) {
        Ok(file) => Ok(Some(file)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

pub(crate) fn open_directory(directory: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
    let opened = beneath::open(directory, name, OFlags::RDONLY | OFlags::DIRECTORY)?;
    if !is_ours(&retry_on_intr(|| fstat(&opened))?) {
        return Err(io::Error::other("belongs to another user"));
    }
    Ok(opened)
}

/// Says which file of a directory an error is about.
fn on(name: &str) -> impl FnOnce(io::Error) -> io::Error + use<'_> {
    move |e| match e.kind() {
        io::ErrorKind::NotFound => e,
        kind => io::Error::new(kind, format!("{name}: {}", crate::error::plain(&e))),
    }
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

/// Opens a directory that is for its user alone, and creates it if it is not
/// there. It may be a symbolic link: its user chose it.
pub(crate) fn open_private(what: &str, path: &Path) -> Result<OwnedFd> {
    let created = paths::create(path, 0o700);
    created.map_err(|e| Error::io(format!("{what} {}", path.display()), e))?;
    existing_private(what, path)
}

/// The same of one that is there.
fn existing_private(what: &str, path: &Path) -> Result<OwnedFd> {
    let thing = format!("{what} {}", path.display());
    let failed = |e: io::Error| Error::io(thing.as_str(), e);
    let refuse = |why: &str| Err(Error::Configuration(format!("{thing}: {why}")));
    // A FIFO would be waited for.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let directory = match retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty())) {
        Err(Errno::NOTDIR) => return refuse("not a directory"),
        opened => opened.map_err(|e| failed(e.into()))?,
    };
    let stat = retry_on_intr(|| fstat(&directory)).map_err(|e| failed(e.into()))?;
    if !is_ours(&stat) {
        return refuse("belongs to another user");
    }
    if Mode::from_raw_mode(stat.st_mode).intersects(Mode::RWXG | Mode::RWXO) {
        return refuse("open to other users; chmod 700 it");
    }
    Ok(directory)
}

impl Spool {
    /// Opens the spool, and creates it if it is not there.
    ///
    /// # Errors
    /// When it cannot be opened, or belongs to or is open to other users.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self { directory: open_private("spool", path)? })
    }

    /// Opens the spool to look at it; `None` if there is none.
    ///
    /// # Errors
    /// As [`Spool::open`].
    pub fn look(path: &Path) -> Result<Option<Self>> {
        match path.try_exists() {
            Ok(false) => Ok(None),
            Ok(true) => Ok(Some(Self { directory: existing_private("spool", path)? })),
            Err(e) => Err(Error::io(format!("spool {}", path.display()), e)),
        }
    }

    /// Bytes that this user may still write to the spool's file system.
    ///
    /// # Errors
    /// When the file system does not tell.
    pub fn room(&self) -> Result<u64> {
        let stat = retry_on_intr(|| fstatvfs(&self.directory))
            .map_err(|e| Error::io("spool: free space", e))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// The lock under which room is looked for and taken: of the spool's own
    /// directory, held until it is dropped. `None` if another keeps it, which
    /// takes no longer than a look.
    ///
    /// # Errors
    /// When the directory cannot be locked.
    pub fn lock_room(&self, patience: Duration) -> Result<Option<OwnedFd>> {
        let cannot = |e: io::Error| Error::io("spool: cannot lock", e);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        // A handle of its own: locks of one handle do not keep each other out.
        let opened =
            retry_on_intr(|| rustix::fs::openat(&self.directory, ".", flags, Mode::empty()));
        let file = opened.map_err(|e| cannot(e.into()))?;
        let start = Instant::now();
        loop {
            match retry_on_intr(|| flock(&file, FlockOperation::NonBlockingLockExclusive)) {
                Ok(()) => return Ok(Some(file)),
                Err(Errno::WOULDBLOCK) if start.elapsed() < patience => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(Errno::WOULDBLOCK) => return Ok(None),
                Err(e) => return Err(cannot(e.into())),
            }
        }
    }

    /// Bytes that the chunks of other streams will still write of the volumes
    /// that they have begun; `None` if none has begun one.
    ///
    /// # Errors
    /// When the spool cannot be read.
    pub fn claimed(&self, own: StreamId) -> Result<Option<u64>> {
        let others = self.ids()?.into_iter().filter(|id| *id != own);
        // What cannot be opened is no chunk's of ours.
        let claims = others.filter_map(|id| self.existing(id).ok().flatten()?.claimed());
        Ok(claims.reduce(u64::saturating_add))
    }

    /// The directory of a stream, created if it is not there.
    ///
    /// # Errors
    /// When it cannot be created or opened.
    pub fn stream(&self, id: StreamId) -> Result<StreamDir> {
        beneath::make(&self.directory, &id.to_string())
            .map_err(|e| Error::io(format!("stream {id}: cannot create"), e))?;
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

    /// The ids of the streams that are in the spool, in their order.
    ///
    /// # Errors
    /// When the spool cannot be read.
    pub fn ids(&self) -> Result<Vec<StreamId>> {
        let names = names(&self.directory).map_err(|e| Error::io("spool: cannot read", e))?;
        let mut ids: Vec<StreamId> =
            names.iter().filter_map(|name| name.to_str().ok()?.parse().ok()).collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// The directories of all streams that are in the spool.
    ///
    /// # Errors
    /// When one cannot be opened.
    pub fn streams(&self) -> Result<Vec<StreamDir>> {
        self.ids()?.into_iter().filter_map(|id| self.existing(id).transpose()).collect()
    }

    /// The journals of a stream that is stored, one for each destination.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn receipts(&self, id: StreamId) -> Result<Vec<File>> {
        let names = self.receipt_names()?;
        let of_it = names.iter().filter(|(of, _)| *of == id);
        of_it.filter_map(|(_, name)| self.receipt(name).transpose()).collect()
    }

    /// The names of all receipts, with the streams that they are of.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn receipt_names(&self) -> Result<Vec<(StreamId, String)>> {
        let read = || -> io::Result<Vec<(StreamId, String)>> {
            let Some(done) = self.done()? else { return Ok(Vec::new()) };
            let all = names(&done)?.into_iter().filter_map(|name| name.into_string().ok());
            let of = |name: String| Some((name.split_once('.')?.0.parse().ok()?, name));
            Ok(all.filter_map(of).collect())
        };
        read().map_err(|e| Error::io("spool: receipts: cannot read", e))
    }

    /// A receipt; `None` if it is not there any more.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn receipt(&self, name: &str) -> Result<Option<File>> {
        let open = || match self.done()? {
            Some(done) => open_existing(&done, name),
            None => Ok(None),
        };
        open().map_err(|e| Error::io(format!("receipt {name}: cannot open"), e))
    }

    /// The directory of receipts, if there is one.
    fn done(&self) -> io::Result<Option<OwnedFd>> {
        match open_directory(&self.directory, DONE) {
            Ok(done) => Ok(Some(done)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
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
                    let file = open_existing(&directory, &journal).map_err(on(&journal));
                    if file.map_err(on(name))?.is_some_and(&mut about) {
                        return Ok(true);
                    }
                }
            }
            Ok(false)
        };
        search().map_err(|e| Error::io("spool: cannot read", e))
    }

    /// Waits for the lock of what streams are based on. Who deletes holds it
    /// alone, from its look at what needs that to its end; who has stored a
    /// stream holds it with others for a look at what is left. So one of the
    /// two sees what the other did. It is that of the directory of receipts,
    /// which nobody removes.
    ///
    /// # Errors
    /// Unfinished, when another process keeps it.
    pub fn lock_bases(&self, alone: bool) -> Result<Lock> {
        self.lock_bases_within(DELETION, alone)
    }

    fn lock_bases_within(&self, patience: Duration, alone: bool) -> Result<Lock> {
        let cannot = |e: io::Error| Error::io("spool: receipts: cannot lock", e);
        beneath::make(&self.directory, DONE).map_err(cannot)?;
        let done = File::from(open_directory(&self.directory, DONE).map_err(cannot)?);
        let operation = if alone {
            FlockOperation::NonBlockingLockExclusive
        } else {
            FlockOperation::NonBlockingLockShared
        };
        let start = Instant::now();
        loop {
            match retry_on_intr(|| flock(&done, operation)) {
                Ok(()) => return Ok(Lock { file: done, who: 0 }),
                Err(Errno::WOULDBLOCK) if start.elapsed() < patience => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(Errno::WOULDBLOCK) => {
                    return Err(Error::Unfinished(
                        "spool: glacier-rm deletes archives; run the same command later".to_owned(),
                    ));
                }
                Err(e) => return Err(cannot(e.into())),
            }
        }
    }

    /// Removes a receipt, by its name.
    ///
    /// # Errors
    /// When it is there and cannot be removed.
    pub fn forget_receipt(&self, name: &str) -> Result<()> {
        let forget = || -> io::Result<()> {
            let Some(done) = self.done()? else { return Ok(()) };
            beneath::remove(&done, name)?;
            beneath::sync(&done)
        };
        forget().map_err(|e| Error::io(format!("receipt {name}: cannot remove"), e))
    }

    /// Removes the directory of a stream in which there is nothing but locks.
    /// Called with put's lock held.
    ///
    /// # Errors
    /// When it cannot be read or removed.
    pub fn leave(&self, stream: &StreamDir) -> Result<()> {
        // A chunk that works in it keeps it.
        let Ok(_lock) = stream.lock_within(Holder::Chunk, Duration::ZERO) else { return Ok(()) };
        if stream.is_idle()? {
            self.unmake(stream).map_err(|e| cannot_clear(stream.id, e))?;
        }
        Ok(())
    }

    /// Removes the locks of a stream, of which nothing else is left, and its
    /// directory. Called with both locks held. From the first on another may
    /// begin in it, so nothing else is removed.
    fn unmake(&self, stream: &StreamDir) -> io::Result<()> {
        LOCKS.iter().try_for_each(|lock| beneath::remove(&stream.directory, lock.file()))?;
        beneath::remove_directory(&self.directory, &stream.id.to_string())
    }

    /// Drops a stream that is not stored: all that is in its directory.
    /// Called with both of its locks held. The lines that put would read go
    /// first, and the journal last, as it alone knows what the service holds.
    ///
    /// # Errors
    /// When something cannot be removed; the same command goes on from there.
    pub fn discard(&self, stream: &StreamDir) -> Result<()> {
        let discard = || -> io::Result<()> {
            let mut all = stream.files()?;
            all.sort_by_key(|name| match name.as_str() {
                stream::LINES => 0,
                JOURNAL => 2,
                _ => 1,
            });
            for name in all {
                if name == JOURNAL {
                    beneath::sync(&stream.directory)?;
                }
                beneath::remove(&stream.directory, &name).map_err(on(&name))?;
            }
            self.unmake(stream)?;
            beneath::sync(&self.directory)
        };
        discard().map_err(|e| cannot_clear(stream.id, e))
    }

    /// Puts the journal of a stored stream under `done/`, by the name `receipt`
    /// unless it has one there, and removes all else of it. Called with put's lock
    /// held. A chunk that still holds its lock after `patience` keeps all as
    /// it is, and the journal with it, so that whoever comes next sees what is
    /// left to do: false then.
    ///
    /// # Errors
    /// When a step fails; the same command goes on from there.
    pub fn retire(
        &self,
        stream: &StreamDir,
        receipt: Option<&str>,
        patience: Duration,
    ) -> Result<bool> {
        let id = stream.id;
        let Ok(_lock) = stream.lock_within(Holder::Chunk, patience) else { return Ok(false) };
        let clear = || -> io::Result<()> {
            for name in stream.files()? {
                if name != JOURNAL || receipt.is_none() {
                    beneath::remove(&stream.directory, &name).map_err(on(&name))?;
                }
            }
            beneath::sync(&stream.directory)
        };
        clear().map_err(|e| cannot_clear(id, e))?;
        // The journal goes last: until it does, it tells that nothing else of
        // the stream is needed.
        let keep = || -> io::Result<()> {
            beneath::make(&self.directory, DONE)?;
            let done = open_directory(&self.directory, DONE)?;
            if let Some(name) = receipt {
                match beneath::rename((&stream.directory, JOURNAL), (&done, name)) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                    _ => {}
                }
            }
            beneath::sync(&done)?;
            beneath::sync(&stream.directory)
        };
        keep().map_err(|e| Error::io(format!("stream {id}: cannot keep its receipt"), e))?;
        self.unmake(stream).map_err(|e| cannot_clear(id, e))?;
        Ok(true)
    }
}

fn cannot_clear(id: StreamId, e: io::Error) -> Error {
    Error::io(format!("stream {id}: cannot clear its spool"), e)
}

#[cfg(test)]
mod tests;
