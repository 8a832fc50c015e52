//! The directory of one stream: parts, lines, journal, manifest and locks.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read as _, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, OFlags, flock, fstat};
use rustix::io::{Errno, retry_on_intr};

use super::beneath::{self, remove, sync};
use super::{JOURNAL, LOCKS, names, on, open_existing, open_file};
use crate::error::{Error, Result};
use crate::line::StreamId;
use crate::spool::append::Append;

/// What chunk printed, and the same while it prints.
pub(super) const LINES: &str = "lines.jsonl";
const LINES_NEW: &str = "lines.new";

/// The catalog lines of the stream on their way to the service.
const MANIFEST: &str = "manifest.jsonl";
const MANIFEST_NEW: &str = "manifest.new";

/// What is to be spooled though it was stored.
const RESPOOL: &str = "respool";
const RESPOOL_NEW: &str = "respool.new";

/// Who works on a stream; each holds a lock of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Holder {
    /// glacier-chunk.
    Chunk,
    /// glacier-put.
    Put,
}

impl Holder {
    pub(super) fn file(self) -> &'static str {
        match self {
            Self::Chunk => "chunk.lock",
            Self::Put => "put.lock",
        }
    }

    /// The name of the tool.
    pub fn tool(self) -> &'static str {
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

/// The directory of one stream.
#[derive(Debug)]
pub struct StreamDir {
    pub(super) id: StreamId,
    pub(super) directory: OwnedFd,
}

/// A lock that is held until it is dropped, or its process dies.
#[derive(Debug)]
pub struct Lock {
    pub(super) file: File,
    /// Bytes of what was written down of who holds it.
    pub(super) who: u64,
}

impl Lock {
    /// Writes down that a volume will take this much room, until it is whole
    /// or this process ends. Called under [`super::Spool::lock_room`].
    ///
    /// # Errors
    /// When the disk cannot take it.
    pub fn claim(&self, volume: u32, size: u64) -> Result<()> {
        let text = format!("{volume} {size}\n");
        self.unclaim()?;
        self.file.write_all_at(text.as_bytes(), self.who).map_err(unclaimed)
    }

    /// Whether that volume's room is claimed.
    ///
    /// # Errors
    /// When the lock cannot be read.
    pub fn has_claimed(&self, volume: u32) -> Result<bool> {
        let claim = claim_of(&self.file).map_err(unclaimed)?;
        Ok(claim.is_some_and(|(claimed, _)| claimed == volume))
    }

    /// Claims no room any more.
    ///
    /// # Errors
    /// When the file cannot be cut.
    pub fn unclaim(&self) -> Result<()> {
        self.file.set_len(self.who).map_err(unclaimed)
    }
}

fn unclaimed(e: io::Error) -> Error {
    Error::io("spool: cannot note what room is taken", e)
}

/// The volume and size that the second line of a lock tells of.
fn claim_of(file: &File) -> io::Result<Option<(u32, u64)>> {
    let mut text = [0; 64];
    let count = file.read_at(&mut text, 0)?;
    let text = str::from_utf8(text.get(..count).unwrap_or_default()).unwrap_or_default();
    let claim = text.lines().nth(1).and_then(|line| line.split_once(' '));
    Ok(claim.and_then(|(volume, size)| Some((volume.parse().ok()?, size.parse().ok()?))))
}

/// The process whose number is in a lock: nothing, while it is written down.
fn who_holds(file: &File) -> String {
    let mut text = String::new();
    let _ = file.take(20).read_to_string(&mut text);
    text.lines().next().unwrap_or_default().trim().to_owned()
}

/// A part that is being written; nobody sees it before [`PartFile::seal`].
#[derive(Debug)]
pub struct PartFile<'a> {
    stream: &'a StreamDir,
    file: File,
    volume: u32,
    part: u32,
    written: u64,
    sealed: bool,
}

/// Lets the disk begin with these bytes, so that the fsync at the end of the
/// part finds little left to wait for. Linux does so when it is told that they
/// are not needed; those not yet on disk stay in memory, where put finds them.
#[cfg(target_os = "linux")]
fn begin_writeback(file: &File, offset: u64, size: usize) {
    let size = std::num::NonZeroU64::new(size as u64);
    // Only a hint: fsync decides.
    let _ = rustix::fs::fadvise(file, offset, size, rustix::fs::Advice::DontNeed);
}

#[cfg(not(target_os = "linux"))]
fn begin_writeback(_: &File, _: u64, _: usize) {}

fn part_name(volume: u32, part: u32) -> String {
    format!("{volume:08}-{part:04}.part")
}

/// The volume and part that a file is named for, finished or not.
fn part_of(name: &CStr) -> Option<(u32, u32)> {
    let name = name.to_str().ok()?;
    let (volume, rest) = name.split_once('-')?;
    let (part, _) = rest.split_once(".part")?;
    let (volume, part) = (volume.parse().ok()?, part.parse().ok()?);
    // No other text of the same numbers: that file is none of ours.
    (name.strip_suffix(".new").unwrap_or(name) == part_name(volume, part)).then_some((volume, part))
}

/// Whether a part of this name is finished.
fn is_sealed(name: &CStr) -> bool {
    !name.to_bytes().ends_with(b".new")
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

    pub(super) fn lock_within(&self, holder: Holder, patience: Duration) -> Result<Lock> {
        let cannot = |e: io::Error| match e.kind() {
            // The directory was retired between its opening and now.
            io::ErrorKind::NotFound => self.stored_meanwhile(),
            _ => Error::io(format!("stream {}: cannot lock", self.id), e),
        };
        let start = Instant::now();
        let file = loop {
            let file = self.lock_file(holder).map_err(cannot)?;
            match retry_on_intr(|| flock(&file, FlockOperation::NonBlockingLockExclusive)) {
                Ok(()) if self.is_named(&file, holder).map_err(cannot)? => break file,
                // Who held it has removed it.
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) if start.elapsed() < patience => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(Errno::WOULDBLOCK) => {
                    let who = match who_holds(&file).as_str() {
                        "" => String::new(),
                        who => format!(" (process {who})"),
                    };
                    return Err(Error::Unfinished(format!(
                        "stream {}: {}{who} works on it; run the same command later",
                        self.id,
                        holder.tool(),
                    )));
                }
                Err(e) => return Err(cannot(e.into())),
            }
        };
        // Who holds it is a courtesy: a full disk does not make it less held.
        let who = format!("{}\n", std::process::id());
        let _ = file.set_len(0).and_then(|()| file.write_all_at(who.as_bytes(), 0));
        Ok(Lock { file, who: u64::try_from(who.len()).unwrap_or(0) })
    }

    fn lock_file(&self, holder: Holder) -> io::Result<File> {
        open_file(&self.directory, holder.file(), OFlags::RDWR | OFlags::CREATE)
    }

    /// Whether a file is the one that has the name of a lock: only that is a
    /// lock. Another may have been removed by who held it, while this process
    /// waited for it, and have been made anew by a third. Nobody removes one
    /// but who holds both locks of the stream. Held by
    /// `tests::a_lock_is_the_file_that_has_the_name`.
    fn is_named(&self, file: &File, holder: Holder) -> io::Result<bool> {
        let held = retry_on_intr(|| fstat(file))?;
        let named = beneath::stat(&self.directory, holder.file())?;
        Ok(named.is_some_and(|it| (it.st_dev, it.st_ino) == (held.st_dev, held.st_ino)))
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
                let shared = FlockOperation::NonBlockingLockShared;
                retry_on_intr(|| flock(&file, shared)) == Err(Errno::WOULDBLOCK)
            }
            _ => false,
        }
    }

    /// The process that holds the lock of `holder`, as it wrote its number
    /// down; `None` if none holds it.
    pub fn holder(&self, holder: Holder) -> Option<String> {
        if !self.is_locked(holder) {
            return None;
        }
        let file = open_existing(&self.directory, holder.file()).ok().flatten();
        Some(file.map(|file| who_holds(&file)).unwrap_or_default())
    }

    /// Bytes that a chunk which works here will still write of its volume;
    /// `None` if it has begun none.
    pub(super) fn claimed(&self) -> Option<u64> {
        if !self.is_locked(Holder::Chunk) {
            return None;
        }
        let file = open_existing(&self.directory, Holder::Chunk.file()).ok()??;
        let (volume, size) = claim_of(&file).ok()??;
        let used = self.used(|(of, _)| of == volume).unwrap_or(0);
        Some(size.saturating_sub(used))
    }

    /// The names of all that is here but locks.
    pub(super) fn files(&self) -> io::Result<Vec<String>> {
        let mut files = Vec::new();
        for name in names(&self.directory)? {
            let name = name.to_str().map_err(io::Error::other)?;
            if !LOCKS.iter().any(|lock| lock.file() == name) {
                files.push(name.to_owned());
            }
        }
        Ok(files)
    }

    /// Whether there is nothing here but locks.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn is_idle(&self) -> Result<bool> {
        let files = self.files().map_err(|e| self.unreadable(e))?;
        Ok(files.is_empty())
    }

    fn unreadable(&self, e: io::Error) -> Error {
        Error::io(format!("stream {}: cannot read its spool", self.id), e)
    }

    /// How many parts are here, finished or not.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn parts(&self) -> Result<u64> {
        let names = names(&self.directory).map_err(|e| self.unreadable(e))?;
        let parts = names.iter().filter(|name| part_of(name).is_some()).count();
        Ok(u64::try_from(parts).unwrap_or(u64::MAX))
    }

    /// The lines that chunk printed, and whether they are those of a stream
    /// that was whole; `None` if there are none.
    ///
    /// # Errors
    /// When they are there and cannot be opened.
    pub fn lines(&self) -> Result<Option<(File, bool)>> {
        let open = |name: &str, whole: bool| {
            let file = open_existing(&self.directory, name).map_err(on(name));
            file.map(|file| file.map(|file| (file, whole)))
        };
        open(LINES, true)
            .and_then(|lines| lines.map_or_else(|| open(LINES_NEW, false), |it| Ok(Some(it))))
            .map_err(|e| Error::io(format!("stream {}: its lines: cannot open", self.id), e))
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
                let name = name.to_str().map_err(io::Error::other)?;
                if let Some(stat) = beneath::stat(&self.directory, name)? {
                    used += u64::try_from(stat.st_size).unwrap_or(0);
                }
            }
            Ok(used)
        };
        used().map_err(|e| self.unreadable(e))
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
        Ok(PartFile { stream: self, file, volume, part, written: 0, sealed: false })
    }

    /// Whether a part is in the spool, be it this run's or an earlier one's.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn has(&self, (volume, part): (u32, u32)) -> Result<bool> {
        beneath::stat(&self.directory, &part_name(volume, part))
            .map(|stat| stat.is_some())
            .map_err(|e| self.unreadable(e))
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

    /// Removes the parts of a volume from the `first` on. One that is not
    /// finished stays: a chunk may be writing it.
    ///
    /// # Errors
    /// When one cannot be removed.
    pub fn remove(&self, volume: u32, first: u32) -> Result<()> {
        self.remove_those(|name, (v, p)| is_sealed(name) && v == volume && p >= first)
            .map_err(|e| Error::io(format!("volume {volume}: cannot clear its spool"), e))
    }

    /// Removes the parts behind the end of the stream: from this one on, and
    /// of all later volumes, finished or not.
    ///
    /// # Errors
    /// When one cannot be removed.
    pub fn remove_from(&self, first: (u32, u32)) -> Result<()> {
        self.remove_those(|_, part| part >= first)
            .map_err(|e| Error::io(format!("stream {}: cannot clear its spool", self.id), e))
    }

    fn remove_those(&self, goes: impl Fn(&CStr, (u32, u32)) -> bool) -> io::Result<()> {
        for name in names(&self.directory)? {
            if part_of(&name).is_some_and(|part| goes(&name, part)) {
                let name = name.to_str().map_err(io::Error::other)?;
                remove(&self.directory, name).map_err(on(name))?;
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
        beneath::rename((&self.directory, new), (&self.directory, name))?;
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
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
            remove(&self.directory, RESPOOL_NEW)?;
            let mut file = open_file(&self.directory, RESPOOL_NEW, flags)?;
            writeln!(file, "{} {}", from.volume, from.generation)?;
            self.settle(&file, RESPOOL_NEW, RESPOOL)
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
        })?;
        begin_writeback(&self.file, self.written, bytes.len());
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Makes the part durable and visible. I3: only then may its line be
    /// printed. Held by
    /// `spool::tests::a_part_is_seen_only_when_it_is_sealed`.
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
