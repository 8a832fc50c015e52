//! Append-only files of JSON lines: the catalog, and put's journal.
//!
//! A process may die in the middle of a write, and two may write at once. So
//! the first write of a process to a file that is not empty begins with a
//! newline (a torn last line never eats a good one), every write is whole
//! lines in one call under a lock, and it is on disk before it is relied on.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};

use rustix::fs::{FlockOperation, flock};

use crate::planted::Fault;

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
    /// disk.
    ///
    /// # Errors
    /// When the file cannot take them; nothing of them may then be relied on.
    pub fn append(&mut self, lines: &str) -> io::Result<()> {
        flock(&self.file, FlockOperation::LockExclusive)?;
        let written = self.write(lines);
        flock(&self.file, FlockOperation::Unlock)?;
        written
    }

    fn write(&mut self, lines: &str) -> io::Result<()> {
        let torn = !self.started && self.file.seek(SeekFrom::End(0))? > 0;
        let text = if torn { format!("\n{lines}") } else { lines.to_owned() };
        // A write that fails half-way is followed by a newline, should this
        // process go on.
        self.started = false;
        self.file.write_all(text.as_bytes())?;
        if !Fault::BooksSync.is_planted() {
            self.file.sync_data()?;
        }
        self.started = true;
        Ok(())
    }

    /// All that was written, from the beginning.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn reader(&self) -> io::Result<impl io::BufRead + use<>> {
        let mut file = self.file.try_clone()?;
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
        first.append("{\"a\":1}\n").unwrap();
        first.append("{\"a\":2}\n").unwrap();
        std::fs::write(&path, "{\"a\":1}\n{\"a\":").unwrap();
        open(&path).append("{\"a\":3}\n").unwrap();
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
                        file.append(&format!("{}\n", writer.repeat(2000))).unwrap();
                    }
                });
            }
        });
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
        assert_eq!(lines.len(), 200);
        assert!(lines.iter().all(|line| *line == "x".repeat(2000) || *line == "y".repeat(2000)));
    }
}
