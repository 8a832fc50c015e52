//! The spool: where parts wait for the service. The only module that touches
//! spool files.
//!
//! One directory a stream, named by its id, holds its parts, the lines that
//! chunk printed, put's journal and two locks. Every file is reached by a
//! name made here, from numbers, relative to the handle of its directory, and
//! never through a symbolic link: nothing that a line says can name another
//! file (I6).

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{
    AtFlags, Dir, FileType, FlockOperation, Mode, OFlags, flock, fstat, fstatvfs, mkdirat, openat,
    renameat, statat, unlinkat,
};
use rustix::io::Errno;

use crate::append::Append;
use crate::error::{Error, Result};
use crate::line::StreamId;

/// Permissions of files; directories have those of [`DIRECTORY`].
const FILE: Mode = Mode::RUSR.union(Mode::WUSR);
const DIRECTORY: Mode = Mode::RWXU;

/// Receipts of streams that are stored.
const DONE: &str = "done";

/// What chunk printed, and the same while it prints.
const LINES: &str = "lines.jsonl";
const LINES_NEW: &str = "lines.new";

/// put's journal.
const JOURNAL: &str = "put.jsonl";

/// The catalog lines of the stream on their way to the service.
const MANIFEST: &str = "manifest.jsonl";
const MANIFEST_NEW: &str = "manifest.new";

/// What is to be spooled though it was stored.
const RESPOOL: &str = "respool";

/// Who works on a stream; each holds a lock of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Holder {
    /// glacier-chunk.
    Chunk,
    /// glacier-put.
    Put,
}

impl Holder {
    fn file(self) -> &'static str {
        match self {
            Self::Chunk => "chunk.lock",
            Self::Put => "put.lock",
        }
    }

    fn tool(self) -> &'static str {
        match self {
            Self::Chunk => "glacier-chunk",
            Self::Put => "glacier-put",
        }
    }
}

/// A note of chunk: a volume that it only hashed has changed since it was
/// stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Respool {
    /// This volume, and all behind it, must be spooled,
    pub volume: u32,
    /// as long as this attempt goes on.
    pub generation: u32,
}

/// A spool directory.
#[derive(Debug)]
pub struct Spool {
    directory: OwnedFd,
}

/// The directory of one stream.
#[derive(Debug)]
pub struct StreamDir {
    id: StreamId,
    directory: OwnedFd,
}

/// A lock that is held until it is dropped, or its process dies.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// A part that is being written; nobody sees it before [`PartFile::seal`].
#[derive(Debug)]
pub struct PartFile<'a> {
    stream: &'a StreamDir,
    file: File,
    volume: u32,
    part: u32,
    sealed: bool,
}

fn part_name(volume: u32, part: u32) -> String {
    format!("{volume:08}-{part:04}.part")
}

/// The volume and part that a file is named for, finished or not.
fn part_of(name: &CStr) -> Option<(u32, u32)> {
    let (volume, rest) = name.to_str().ok()?.split_once('-')?;
    let (part, _) = rest.split_once(".part")?;
    Some((volume.parse().ok()?, part.parse().ok()?))
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
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(spool)?;
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

    /// Puts the journal of a stored stream under `done/` and removes all else
    /// of it. Called with put's lock held. A chunk that still holds its lock
    /// keeps the directory; its next run finds the receipt.
    ///
    /// # Errors
    /// When a step fails; the same command goes on from there.
    pub fn retire(&self, stream: &StreamDir, receipt: &str) -> Result<()> {
        let id = stream.id;
        let retire = || -> io::Result<()> {
            match mkdirat(&self.directory, DONE, DIRECTORY) {
                Ok(()) => sync(&self.directory)?,
                Err(Errno::EXIST) => {}
                Err(e) => return Err(e.into()),
            }
            let done = open_directory(&self.directory, DONE)?;
            match renameat(&stream.directory, JOURNAL, &done, format!("{id}.{receipt}.jsonl")) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(e) => return Err(e.into()),
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

impl StreamDir {
    /// Which stream.
    pub fn id(&self) -> StreamId {
        self.id
    }

    /// Takes the lock of `holder`.
    ///
    /// # Errors
    /// Unfinished, when another process holds it.
    pub fn lock(&self, holder: Holder) -> Result<Lock> {
        // A process that looks whether the lock is held holds it for a moment.
        self.lock_within(holder, Duration::from_secs(1))
    }

    fn lock_within(&self, holder: Holder, patience: Duration) -> Result<Lock> {
        let cannot = |e: io::Error| match e.kind() {
            // The directory was retired between its opening and now.
            io::ErrorKind::NotFound => self.stored_meanwhile(),
            _ => Error::io(format!("stream {}: cannot lock", self.id), e),
        };
        let flags = OFlags::RDWR | OFlags::CREATE;
        let mut file = open_file(&self.directory, holder.file(), flags).map_err(cannot)?;
        let start = Instant::now();
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::WOULDBLOCK) if start.elapsed() < patience => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(Errno::WOULDBLOCK) => {
                    let mut who = String::new();
                    let _ = (&file).take(20).read_to_string(&mut who);
                    return Err(Error::Unfinished(format!(
                        "stream {}: {} (process {}) works on it; run the same command later",
                        self.id,
                        holder.tool(),
                        who.trim()
                    )));
                }
                Err(e) => return Err(cannot(e.into())),
            }
        }
        if fstat(&self.directory).map_err(|e| cannot(e.into()))?.st_nlink == 0 {
            return Err(self.stored_meanwhile());
        }
        // Who holds it is a courtesy: a full disk does not make it less held.
        let mut note = || -> io::Result<()> {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        let _ = note();
        Ok(Lock { _file: file })
    }

    fn stored_meanwhile(&self) -> Error {
        Error::Unfinished(format!(
            "stream {}: stored meanwhile; run the same command again",
            self.id
        ))
    }

    /// Whether a process holds the lock of `holder`.
    pub fn is_locked(&self, holder: Holder) -> bool {
        match open_existing(&self.directory, holder.file()) {
            Ok(Some(file)) => {
                flock(&file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK)
            }
            _ => false,
        }
    }

    /// Bytes of the parts that `counts` takes, by volume and part.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn used(&self, counts: impl Fn((u32, u32)) -> bool) -> Result<u64> {
        let used = || -> io::Result<u64> {
            let mut used = 0;
            for name in names(&self.directory)? {
                if !part_of(&name).is_some_and(&counts) {
                    continue;
                }
                match statat(&self.directory, name.as_c_str(), AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => used += u64::try_from(stat.st_size).unwrap_or(0),
                    Err(Errno::NOENT) => {}
                    Err(e) => return Err(e.into()),
                }
            }
            Ok(used)
        };
        used().map_err(|e| Error::io(format!("stream {}: cannot read its spool", self.id), e))
    }

    /// Begins a part, in place of what a dead process left of it.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn create(&self, volume: u32, part: u32) -> Result<PartFile<'_>> {
        let name = format!("{}.new", part_name(volume, part));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let file = remove(&self.directory, &name)
            .and_then(|()| open_file(&self.directory, &name, flags))
            .map_err(|e| Error::io(format!("volume {volume} part {part}: cannot create"), e))?;
        Ok(PartFile { stream: self, file, volume, part, sealed: false })
    }

    /// Whether a part is in the spool, be it this run's or an earlier one's.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn has(&self, (volume, part): (u32, u32)) -> Result<bool> {
        match statat(&self.directory, part_name(volume, part), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(e) => Err(Error::io(format!("stream {}: cannot read its spool", self.id), e)),
        }
    }

    /// Opens a part for reading; `None` if it is not in the spool, or has not
    /// the size it was announced with.
    ///
    /// # Errors
    /// When it is there and cannot be opened.
    pub fn part(&self, volume: u32, part: u32, size: u64) -> Result<Option<File>> {
        let open = || -> io::Result<Option<File>> {
            let Some(file) = open_existing(&self.directory, &part_name(volume, part))? else {
                return Ok(None);
            };
            Ok((file.metadata()?.len() == size).then_some(file))
        };
        open().map_err(|e| Error::io(format!("volume {volume} part {part}: cannot open"), e))
    }

    /// Removes the parts of a volume from the `first` on, finished or not.
    ///
    /// # Errors
    /// When one cannot be removed.
    pub fn remove(&self, volume: u32, first: u32) -> Result<()> {
        self.remove_those(|(v, p)| v == volume && p >= first)
            .map_err(|e| Error::io(format!("volume {volume}: cannot clear its spool"), e))
    }

    /// Removes the parts behind the end of the stream: from this one on, and
    /// of all later volumes.
    ///
    /// # Errors
    /// When one cannot be removed.
    pub fn remove_from(&self, first: (u32, u32)) -> Result<()> {
        self.remove_those(|part| part >= first)
            .map_err(|e| Error::io(format!("stream {}: cannot clear its spool", self.id), e))
    }

    fn remove_those(&self, goes: impl Fn((u32, u32)) -> bool) -> io::Result<()> {
        for name in names(&self.directory)? {
            if part_of(&name).is_some_and(&goes) {
                unlinkat(&self.directory, name.as_c_str(), AtFlags::empty())?;
            }
        }
        Ok(())
    }

    /// Begins a new record of the lines that chunk prints.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn new_lines(&self) -> Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        remove(&self.directory, LINES_NEW)
            .and_then(|()| open_file(&self.directory, LINES_NEW, flags))
            .map_err(|e| Error::io(format!("stream {}: cannot record its lines", self.id), e))
    }

    /// Makes the new record of lines the one that is read.
    ///
    /// # Errors
    /// When it cannot be made durable.
    pub fn keep_lines(&self, lines: &File) -> Result<()> {
        self.settle(lines, LINES_NEW, LINES)
            .map_err(|e| Error::io(format!("stream {}: cannot record its lines", self.id), e))
    }

    /// fsync, rename, fsync: `name` is the new file whole, or the old one.
    fn settle(&self, file: &File, new: &str, name: &str) -> io::Result<()> {
        file.sync_all()?;
        renameat(&self.directory, new, &self.directory, name)?;
        sync(&self.directory)
    }

    /// put's journal, created if it is not there.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn journal(&self) -> Result<Append> {
        let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE;
        open_file(&self.directory, JOURNAL, flags)
            .and_then(|file| sync(&self.directory).map(|()| Append::new(file)))
            .map_err(|e| Error::io(format!("stream {}: journal: cannot open", self.id), e))
    }

    /// put's journal for reading, if there is one.
    ///
    /// # Errors
    /// When it is there and cannot be opened.
    pub fn existing_journal(&self) -> Result<Option<File>> {
        open_existing(&self.directory, JOURNAL)
            .map_err(|e| Error::io(format!("stream {}: journal: cannot open", self.id), e))
    }

    /// The manifest that was made ready, if it was.
    ///
    /// # Errors
    /// When it is there and cannot be opened.
    pub fn manifest(&self) -> Result<Option<File>> {
        open_existing(&self.directory, MANIFEST)
            .map_err(|e| Error::io(format!("stream {}: manifest: cannot open", self.id), e))
    }

    /// Makes the manifest ready; `write` writes it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn new_manifest(&self, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
        let cannot = |e| Error::io(format!("stream {}: manifest: cannot write", self.id), e);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let file = remove(&self.directory, MANIFEST_NEW)
            .and_then(|()| open_file(&self.directory, MANIFEST_NEW, flags))
            .map_err(cannot)?;
        let mut buffered = io::BufWriter::new(file);
        write(&mut buffered)?;
        let file = buffered.into_inner().map_err(|e| cannot(e.into_error()))?;
        self.settle(&file, MANIFEST_NEW, MANIFEST).map_err(cannot)
    }

    /// Which volumes must be spooled though they are stored.
    ///
    /// # Errors
    /// When the note is there and cannot be read.
    pub fn respool(&self) -> Result<Option<Respool>> {
        let read = || -> io::Result<Option<Respool>> {
            let Some(file) = open_existing(&self.directory, RESPOOL)? else { return Ok(None) };
            let mut text = Vec::new();
            file.take(40).read_to_end(&mut text)?;
            let text = String::from_utf8_lossy(&text);
            // A torn note is as good as none: its volume will differ again.
            Ok(text.trim().split_once(' ').and_then(|(volume, generation)| {
                Some(Respool { volume: volume.parse().ok()?, generation: generation.parse().ok()? })
            }))
        };
        read().map_err(|e| Error::io(format!("stream {}: cannot read its notes", self.id), e))
    }

    /// Notes which volumes the next run must spool.
    ///
    /// # Errors
    /// When the note cannot be made durable.
    pub fn note_respool(&self, from: Respool) -> Result<()> {
        let note = || -> io::Result<()> {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
            let mut file = open_file(&self.directory, RESPOOL, flags)?;
            writeln!(file, "{} {}", from.volume, from.generation)?;
            file.sync_all()?;
            sync(&self.directory)
        };
        note().map_err(|e| Error::io(format!("stream {}: cannot note", self.id), e))
    }
}

impl PartFile<'_> {
    /// Writes the next bytes.
    ///
    /// # Errors
    /// When the disk cannot take them.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| {
            Error::io(format!("volume {} part {}: cannot write", self.volume, self.part), e)
        })
    }

    /// Makes the part durable and visible. I3: only then may its line be
    /// printed. Held by
    /// `tests::a_part_is_seen_only_when_it_is_sealed`.
    ///
    /// # Errors
    /// When the disk cannot promise it.
    pub fn seal(mut self) -> Result<()> {
        let name = part_name(self.volume, self.part);
        self.stream.settle(&self.file, &format!("{name}.new"), &name).map_err(|e| {
            Error::io(format!("volume {} part {}: cannot write", self.volume, self.part), e)
        })?;
        self.sealed = true;
        Ok(())
    }
}

impl Drop for PartFile<'_> {
    /// Gives back the room of a part that will not be finished: the disk may
    /// be full. If this does not happen, the next run replaces it.
    fn drop(&mut self) {
        if !self.sealed {
            let name = format!("{}.new", part_name(self.volume, self.part));
            let _ = remove(&self.stream.directory, &name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    fn spool() -> (tempfile::TempDir, PathBuf, Spool, StreamDir) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spool");
        let spool = Spool::open(&path).unwrap();
        let id = StreamId::new(Sha256::new(), 1, 1);
        let stream = spool.stream(id).unwrap();
        let path = path.join(id.to_string());
        (dir, path, spool, stream)
    }

    fn put(stream: &StreamDir, volume: u32, part: u32, bytes: &[u8]) {
        let mut file = stream.create(volume, part).unwrap();
        file.write(bytes).unwrap();
        file.seal().unwrap();
    }

    #[test]
    fn a_part_is_seen_only_when_it_is_sealed() {
        let (_dir, path, _spool, stream) = spool();
        let mut file = stream.create(0, 17).unwrap();
        file.write(b"abc").unwrap();
        assert!(stream.part(0, 17, 3).unwrap().is_none());
        file.seal().unwrap();
        assert!(stream.part(0, 17, 3).unwrap().is_some());
        assert!(stream.part(0, 17, 4).unwrap().is_none(), "another size");
        let mode = path.join("00000000-0017.part").metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(stream.has((0, 17)).unwrap() && !stream.has((0, 16)).unwrap());
        assert_eq!(stream.used(|_| true).unwrap(), 3);
        assert_eq!(stream.used(|(volume, _)| volume > 0).unwrap(), 0);
        stream.remove(0, 0).unwrap();
        assert_eq!(stream.used(|_| true).unwrap(), 0);
    }

    #[test]
    fn removes_the_parts_behind_a_shorter_end() {
        let (_dir, _path, _spool, stream) = spool();
        (0..4).for_each(|part| put(&stream, 1, part, b"x"));
        put(&stream, 2, 3, b"x");
        stream.remove(1, 2).unwrap();
        let there = |volume, part| stream.part(volume, part, 1).unwrap().is_some();
        assert_eq!([there(1, 0), there(1, 1), there(1, 2), there(2, 3)], [true, true, false, true]);
        stream.remove_from((1, 1)).unwrap();
        assert_eq!([there(1, 0), there(1, 1), there(2, 3)], [true, false, false]);
    }

    #[test]
    fn a_part_that_is_given_up_takes_no_room() {
        let (_dir, path, _spool, stream) = spool();
        stream.create(0, 0).unwrap().write(b"abc").unwrap();
        assert_eq!(std::fs::read_dir(path).unwrap().count(), 0);
    }

    #[test]
    fn opens_nothing_but_regular_files_of_its_own() {
        let (dir, path, _spool, stream) = spool();
        let outside = dir.path().join("outside");
        std::fs::write(&outside, b"x").unwrap();
        let name = path.join("00000000-0000.part");
        std::os::unix::fs::symlink(&outside, &name).unwrap();
        assert!(stream.part(0, 0, 1).is_err(), "a symbolic link");
        std::fs::remove_file(&name).unwrap();
        std::fs::hard_link(&outside, &name).unwrap();
        assert!(stream.part(0, 0, 1).is_err(), "a hard link");
        std::fs::remove_file(&name).unwrap();
        std::fs::create_dir(&name).unwrap();
        assert!(stream.part(0, 0, 1).is_err(), "a directory");
    }

    #[test]
    fn refuses_a_spool_that_others_may_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spool");
        Spool::open(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o750)).unwrap();
        assert_eq!(Spool::open(&path).unwrap_err().code(), 78);
    }

    #[test]
    fn a_second_holder_of_a_lock_is_told_who_has_it() {
        let (_dir, _path, _spool, stream) = spool();
        assert!(!stream.is_locked(Holder::Put));
        let lock = stream.lock(Holder::Put).unwrap();
        assert!(stream.is_locked(Holder::Put));
        assert!(!stream.is_locked(Holder::Chunk));
        let error = stream.lock(Holder::Put).unwrap_err();
        assert_eq!(error.code(), 75);
        assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
        drop(lock);
        assert!(stream.lock(Holder::Put).is_ok());
    }

    #[test]
    fn a_stored_stream_leaves_its_receipt() {
        let (_dir, path, spool, stream) = spool();
        let lock = stream.lock(Holder::Put).unwrap();
        put(&stream, 0, 0, b"x");
        stream.journal().unwrap().append("{}\n").unwrap();
        spool.retire(&stream, "glacier-v").unwrap();
        assert!(!path.exists());
        assert_eq!(spool.receipts(stream.id()).unwrap().len(), 1);
        drop(lock);
        assert_eq!(stream.lock(Holder::Chunk).unwrap_err().code(), 75);
    }
}
