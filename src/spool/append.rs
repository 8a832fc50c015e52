//! Append-only files of JSON lines: the catalog, and put's journal.
//!
//! A process may die in the middle of a write, and two may write at once. So
//! every write is whole lines in one call under a lock, and whoever writes
//! looks, under that lock, at the byte that stands before: where that ends no
//! line, whoever left it there, a newline comes first, and a torn line never
//! eats a good one. What was written is on disk before it is relied on.
//! What a dead process wrote is made durable before it is read: it may have
//! died between its write and its fsync. What could not be made durable is
//! taken back, as the next run would read it from memory and believe it.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

use rustix::fs::{FileType, FlockOperation, flock, fstat};
use rustix::io::{Errno, retry_on_intr};

use crate::error::Error;
use crate::process;

/// How long another process may take for its lines: a write and an fsync.
const PATIENCE: Duration = Duration::from_mins(1);

/// Makes what stands in such a file durable, whoever wrote it.
///
/// # Errors
/// When the disk cannot promise it.
pub fn settle(file: &File) -> io::Result<()> {
    file.sync_data()
}

fn cannot(thing: &str, e: io::Error) -> Error {
    Error::io(format!("{thing}: cannot write"), e)
}

/// Takes the lock of who writes to such a file, for as long as it is open or
/// until it is given back.
///
/// # Errors
/// Unfinished, when another process keeps it.
fn lock(file: impl AsFd, patience: Duration, thing: &str) -> Result<(), Error> {
    let start = Instant::now();
    loop {
        match retry_on_intr(|| flock(&file, FlockOperation::NonBlockingLockExclusive)) {
            Ok(()) => return Ok(()),
            Err(Errno::WOULDBLOCK) if start.elapsed() < patience => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(Errno::WOULDBLOCK) => {
                return Err(Error::Unfinished(format!(
                    "{thing}: another program has kept it locked for {} s; run the same command later",
                    patience.as_secs()
                )));
            }
            Err(e) => return Err(cannot(thing, e.into())),
        }
    }
}

/// Prepares standard output for lines, where it is a file that may have some,
/// as `>>` has it: nobody else writes until this process ends. Whether it ends
/// within a line it does not tell, as it can only be written to: a newline
/// comes first.
///
/// # Errors
/// When another process keeps it locked, or it cannot be written.
pub fn begin_output() -> Result<(), Error> {
    let stdout = process::stdout()?;
    let unknown = |e: Errno| Error::io("stdout", e);
    let stat = |stdout| retry_on_intr(|| fstat(stdout)).map_err(unknown);
    if FileType::from_raw_mode(stat(&stdout)?.st_mode) != FileType::RegularFile {
        return Ok(());
    }
    lock(&stdout, PATIENCE, "stdout")?;
    if stat(&stdout)?.st_size > 0 { process::put_out(b"\n") } else { Ok(()) }
}

/// Whether a file of so many bytes ends within a line, which whoever wrote it
/// did not live to finish.
///
/// # Errors
/// When that cannot be read.
pub fn is_torn(file: &File, size: u64) -> io::Result<bool> {
    let Some(last) = size.checked_sub(1) else { return Ok(false) };
    let mut byte = [0];
    file.read_exact_at(&mut byte, last)?;
    Ok(byte != *b"\n")
}

/// A file that only grows.
#[derive(Debug)]
pub struct Append {
    file: File,
}

impl Append {
    /// Appends to `file`, which was opened for reading and appending.
    pub fn new(file: File) -> Self {
        Self { file }
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
        lock(&self.file, patience, thing)?;
        let written = self.write(lines);
        let unlocked = retry_on_intr(|| flock(&self.file, FlockOperation::Unlock));
        written.and(unlocked.map_err(io::Error::from)).map_err(|e| cannot(thing, e))
    }

    fn write(&mut self, lines: &str) -> io::Result<()> {
        let before = self.file.seek(SeekFrom::End(0))?;
        let torn = is_torn(&self.file, before)?;
        let text = if torn { format!("\n{lines}") } else { lines.to_owned() };
        let mut left = text.as_bytes();
        let written = loop {
            match self.file.write(left) {
                Ok(0) if !left.is_empty() => break Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => left = left.get(count..).unwrap_or_default(),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => break Err(e),
            }
            if left.is_empty() {
                break Ok(());
            }
        };
        written.and_then(|()| settle(&self.file)).inspect_err(|_| {
            // I2: what is not on disk must not be found by the next run.
            // Held by tests/put/books.rs::a_line_that_is_not_on_disk_is_written_again.
            // Should this fail too, that run's fsync decides.
            let _ = self.take_back(before, text.len() - left.len());
        })
    }

    /// Cuts off the bytes that were just written behind `before`, unless
    /// somebody who takes no lock, as a shell's `>>`, has written there, too.
    fn take_back(&self, before: u64, written: usize) -> io::Result<()> {
        let end = before.saturating_add(u64::try_from(written).unwrap_or(u64::MAX));
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
        // The same where another died since this one wrote last.
        let mut other = File::options().append(true).open(&path).unwrap();
        other.write_all(b"{\"b\":").unwrap();
        first.append("x", "{\"a\":4}\n").unwrap();
        first.append("x", "{\"a\":5}\n").unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.ends_with("{\"a\":3}\n{\"b\":\n{\"a\":4}\n{\"a\":5}\n"), "{text}");
    }

    #[test]
    fn takes_back_its_own_bytes_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalog.jsonl");
        std::fs::write(&path, "{}\n").unwrap();
        let file = open(&path);
        let text = || std::fs::read_to_string(&path).unwrap();
        let write = |bytes: &[u8]| {
            let mut other = File::options().append(true).open(&path).unwrap();
            other.write_all(bytes).unwrap();
        };
        // A write of more came to these five.
        write(b"{\"a\":");
        file.take_back(3, 5).unwrap();
        assert_eq!(text(), "{}\n");
        write(b"{\"a\":");
        write(b"{\"other\":1}\n");
        file.take_back(3, 5).unwrap();
        assert!(text().ends_with("{\"other\":1}\n"), "what another wrote stays");
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
