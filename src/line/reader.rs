//! Reads lines, and no more of one than its length allows.

use std::io::{BufRead, Read as _};

/// The longest line in bytes, with its newline.
pub const MAX: usize = 4096;

/// Room for most lines that are not full of hashes.
const TYPICAL: usize = 1024;

/// What a reader made of one line of its input.
#[derive(Debug, PartialEq, Eq)]
pub enum Text {
    /// A line, without its newline.
    Line(String),
    /// Not a line of this format, and why.
    Bad(String),
}

/// How much of a line that is none is passed over in what has no end: more
/// than a crash leaves in a catalog.
pub const JUNK: u64 = 1 << 20;

/// Why a reader gives up.
pub fn endless(number: u64) -> String {
    format!("line {number}: goes on for over {}; is this a catalog?", crate::units::bytes(JUNK))
}

/// Reads lines of at most [`MAX`] bytes, and no more of a longer one before
/// it is told.
pub struct Reader<R> {
    input: R,
    /// Bytes of a line that is too long that may be passed over.
    patience: u64,
    /// Whether the last line was too long, and its rest is still there.
    in_long: bool,
    /// The number of the line that was read last, from 1.
    pub number: u64,
    /// Where it begins, in bytes from where reading began.
    pub start: u64,
    /// Where the next one begins.
    pub next: u64,
}

impl<R: BufRead> Reader<R> {
    /// Reads from `input`.
    pub fn new(input: R) -> Self {
        Self { input, patience: u64::MAX, in_long: false, number: 0, start: 0, next: 0 }
    }

    /// The same for what may have no end: a line that goes on for over
    /// [`JUNK`] is an error of the kind `InvalidData`.
    #[must_use]
    pub fn bounded(self) -> Self {
        Self { patience: JUNK, ..self }
    }

    /// The next line that is not empty; `None` at the end of the input.
    ///
    /// # Errors
    /// When reading fails; a line that cannot be one is [`Text::Bad`].
    pub fn read(&mut self) -> std::io::Result<Option<Text>> {
        if std::mem::take(&mut self.in_long) {
            self.skip()?;
        }
        loop {
            let mut line = Vec::with_capacity(TYPICAL);
            let limit = u64::try_from(MAX).unwrap_or(u64::MAX);
            if self.input.by_ref().take(limit).read_until(b'\n', &mut line)? == 0 {
                return Ok(None);
            }
            self.number += 1;
            self.start = self.next;
            self.next += u64::try_from(line.len()).unwrap_or(u64::MAX);
            if line.pop_if(|last| *last == b'\n').is_none() && line.len() == MAX {
                self.in_long = true;
                return Ok(Some(Text::Bad(format!("longer than {MAX} bytes"))));
            }
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            return Ok(Some(match String::from_utf8(line) {
                Ok(line) => Text::Line(line),
                Err(_) => Text::Bad("not UTF-8".to_owned()),
            }));
        }
    }

    /// Drops the rest of a line that is too long, in constant memory.
    fn skip(&mut self) -> std::io::Result<()> {
        let mut dropped = 0;
        loop {
            let piece = self.input.fill_buf()?;
            let (length, done) = match piece.iter().position(|b| *b == b'\n') {
                Some(end) => (end + 1, true),
                None => (piece.len(), piece.is_empty()),
            };
            self.input.consume(length);
            let length = u64::try_from(length).unwrap_or(u64::MAX);
            self.next += length;
            dropped += length;
            if done {
                return Ok(());
            }
            if dropped > self.patience {
                let why = endless(self.number);
                return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, why));
            }
        }
    }
}
