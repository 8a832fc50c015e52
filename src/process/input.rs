//! Standard input as what can be read more than once: a file as it is, and
//! what comes through a pipe as a copy in a file without a name.

use std::fs::File;
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::AsFd as _;

use crate::error::{Error, Result};
use crate::line::{JUNK, endless};
use crate::process::peers;

/// How much is read at once.
const BUFFER: usize = 256 << 10;

/// A line's first byte, and its length without the newline.
pub type Span = (u64, u64);

/// Lines that can be read again.
pub struct Reread {
    file: File,
    start: u64,
}

fn unreadable(error: io::Error) -> Error {
    Error::io("stdin: cannot read", error)
}

impl Reread {
    /// Standard input; waits for all of what comes through a pipe.
    ///
    /// # Errors
    /// When it cannot be read or copied, a line has no end, or nobody reads
    /// what would be printed.
    pub fn stdin() -> Result<Self> {
        let mut file =
            io::stdin().as_fd().try_clone_to_owned().map(File::from).map_err(unreadable)?;
        if file.metadata().map_err(unreadable)?.is_file() {
            let start = file.stream_position().map_err(unreadable)?;
            return Ok(Self { file, start });
        }
        let cannot = |e| Error::io("the copy of the catalog: cannot write (see TMPDIR)", e);
        let mut copy = tempfile::tempfile().map_err(cannot)?;
        let mut buffer = vec![0; BUFFER];
        let (mut number, mut line) = (1, 0_u64);
        loop {
            // Nobody may read what is to come of a catalog that does not come.
            peers::wait_for_input(&file)?;
            let length = file.read(&mut buffer).map_err(unreadable)?;
            let piece = match buffer.get(..length) {
                Some([]) | None => return Ok(Self { file: copy, start: 0 }),
                Some(piece) => piece,
            };
            for end in piece.split_inclusive(|byte| *byte == b'\n') {
                line = line.saturating_add(u64::try_from(end.len()).unwrap_or(u64::MAX));
                if line > JUNK {
                    return Err(Error::Data(format!("stdin: {}", endless(number))));
                }
                if end.ends_with(b"\n") {
                    (number, line) = (number + 1, 0);
                }
            }
            copy.write_all(piece).map_err(cannot)?;
        }
    }

    /// All of it, from its beginning.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn all(&self) -> Result<BufReader<&File>> {
        let mut reader = BufReader::with_capacity(BUFFER, &self.file);
        reader.seek(SeekFrom::Start(self.start)).map_err(unreadable)?;
        Ok(reader)
    }

    /// Its lines, by where they are.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn lines(&self) -> Result<Lines<'_>> {
        Ok(Lines { reader: self.all()?, start: self.start, here: self.start, line: Vec::new() })
    }
}

/// Lines, read by where they are.
pub struct Lines<'a> {
    reader: BufReader<&'a File>,
    start: u64,
    here: u64,
    line: Vec<u8>,
}

impl Lines<'_> {
    /// A line, without its newline.
    ///
    /// # Errors
    /// When it cannot be read, or is not there any more.
    pub fn get(&mut self, (begin, length): Span) -> Result<&[u8]> {
        let there = self.start + begin;
        let step = i64::try_from(there).and_then(|there| Ok(there - i64::try_from(self.here)?));
        let step = step.map_err(|_| Error::Bug("a line is beyond 2^63".to_owned()))?;
        self.reader.seek_relative(step).map_err(unreadable)?;
        self.line.clear();
        self.reader.by_ref().take(length).read_to_end(&mut self.line).map_err(unreadable)?;
        if u64::try_from(self.line.len()) != Ok(length) {
            return Err(Error::Data("stdin: was cut short while it was read".to_owned()));
        }
        self.here = there + length;
        Ok(&self.line)
    }

    /// The same as text.
    ///
    /// # Errors
    /// When it is none any more, too.
    pub fn text(&mut self, span: Span) -> Result<&str> {
        let changed = |_| Error::Data("stdin: was changed while it was read".to_owned());
        std::str::from_utf8(self.get(span)?).map_err(changed)
    }
}
