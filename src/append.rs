//! Append-only files of JSON lines: the catalog, and put's journal.
//!
//! A process may die in the middle of a write, and two may write at once. So
//! the first write of a process to a file that is not empty begins with a
//! newline (a torn last line never eats a good one), every write is whole
//! lines in one call under a lock, and it is on disk before it is relied on.
//! What a dead process wrote is made durable before it is read: it may have
//! died between its write and its fsync. What could not be made durable is
//! taken back, as the next run would read it from memory and believe it.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::{Errno, retry_on_intr};

use crate::error::Error;
use crate::planted::Fault;

/// How long another process may take for its lines: a write and an fsync.
const PATIENCE: Duration = Duration::from_mins(1);

/// Makes what stands in such a file durable, whoever wrote it.
///
/// # Errors
/// When the disk cannot promise it.
pub fn settle(file: &File) -> io::Result<()> {
    if Fault::BooksSync.is_planted() { Ok(()) } else { file.sync_data() }
}

/// A file that only grows.
#[derive(Debug)]
pub struct Append {
    file: File,
    started: bool,
}

impl Append {
    /// Appends to `file`, which was opened for reading and appending.
    pub fn new(file: File) -> Self {
        Self { file, started: false }
    }

    /// Writes `lines`, each with its newline, and waits until they are on
    /// disk. `thing` is what the user knows the file as.
    ///
    /// # Errors
    /// When the file cannot take them; nothing of them may then be relied on.
    /// Unfinished, when another process keeps the file locked.
    pub fn append(&mut self, thing: &str, lines: &str) -> Result<(), Error> {
        self.append_within(PATIENCE, thing, lines)
    }

    fn append_within(&mut self, patience: Duration, thing: &str, lines: &str) -> Result<(), Error> {
        let cannot = |e: io::Error| Error::io(format!("{thing}: cannot write"), e);
        let start = Instant::now();
        loop {
            match retry_on_intr(|| flock(&self.file, FlockOperation::NonBlockingLockExclusive)) {
                Ok(()) => break,
                Err(Errno::WOULDBLOCK) if start.elapsed() < patience => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(Errno::WOULDBLOCK) => {
                    return Err(Error::Unfinished(format!(
                        "{thing}: another program has kept it locked for {} s; run the same command later",
                        patience.as_secs()
                    )));
                }
                Err(e) => return Err(cannot(e.into())),
            }
        }
        let written = self.write(lines);
        let unlocked = retry_on_intr(|| flock(&self.file, FlockOperation::Unlock));
        written.and(unlocked.map_err(io::Error::from)).map_err(cannot)
    }

    fn write(&mut self, lines: &str) -> io::Result<()> {
        let before = self.file.seek(SeekFrom::End(0))?;
        let torn = !self.started && before > 0;
        let text = if torn { format!("\n{lines}") } else { lines.to_owned() };
        // A write that fails half-way is followed by a newline, should this
        // process go on.
        self.started = false;
        if let Err(e) = self.file.write_all(text.as_bytes()).and_then(|()| settle(&self.file)) {
            // I2: what is not on disk must not be found by the next run.
            // Held by tests/put/books.rs::a_line_that_is_not_on_disk_is_written_again.
            // Should this fail too, that run's fsync decides.
            let _ = self.take_back(before, text.len());
            return Err(e);
        }
        self.started = true;
        Ok(())
    }

    /// Cuts off what was just written, unless somebody who takes no lock has
    /// written behind it.
    fn take_back(&self, before: u64, size: usize) -> io::Result<()> {
        let end = before.saturating_add(u64::try_from(size).unwrap_or(u64::MAX));
        if self.file.metadata()?.len() <= end { self.file.set_len(before) } else { Ok(()) }
    }

    /// All that was written, from the beginning; it is on disk.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn reader(&self) -> io::Result<impl io::BufRead + use<>> {
        let mut file = self.file.try_clone()?;
        settle(&file)?;
        file.seek(SeekFrom::Start(0))?;
        let size = file.metadata()?.len();
        Ok(io::BufReader::with_capacity(256 << 10, file.take(size)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &std::path::Path) -> Append {
        Append::new(File::options().create(true).append(true).read(true).open(path).unwrap())
    }

    #[test]
    fn a_torn_line_never_eats_a_good_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalog.jsonl");
        let mut first = open(&path);
        first.append("x", "{\"a\":1}\n").unwrap();
        first.append("x", "{\"a\":2}\n").unwrap();
        std::fs::write(&path, "{\"a\":1}\n{\"a\":").unwrap();
        open(&path).append("x", "{\"a\":3}\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"a\":1}\n{\"a\":\n{\"a\":3}\n");
    }

    #[test]
    fn two_writers_do_not_mix_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalog.jsonl");
        std::thread::scope(|scope| {
            for writer in ["x", "y"] {
                let path = &path;
                scope.spawn(move || {
                    let mut file = open(path);
                    for _ in 0..100 {
                        file.append("x", &format!("{}\n", writer.repeat(2000))).unwrap();
                    }
                });
            }
        });
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
        assert_eq!(lines.len(), 200);
        assert!(lines.iter().all(|line| *line == "x".repeat(2000) || *line == "y".repeat(2000)));
    }

    #[test]
    fn a_lock_that_is_kept_is_not_waited_for_without_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalog.jsonl");
        let other = File::options().create(true).append(true).open(&path).unwrap();
        flock(&other, FlockOperation::LockExclusive).unwrap();
        let mut file = open(&path);
        let error = file.append_within(Duration::ZERO, "catalog x", "{}\n").unwrap_err();
        assert_eq!(error.code(), 75);
        assert!(error.to_string().starts_with("catalog x: another program"), "{error}");
        drop(other);
        file.append("catalog x", "{}\n").unwrap();
        assert_eq!(std::fs::read_to_string(path).unwrap(), "{}\n");
    }
}
