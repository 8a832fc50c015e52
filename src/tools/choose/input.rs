//! Lines that are no points: those of catalog and spool, and of what goes.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, BufRead, Read};

use super::points::Point;
use super::{Kind, Rules, Spooled};
use crate::error::{Error, Result};
use crate::line::{Id, Line, Reader, Text};

/// The longest value that is looked at; names of ZFS are shorter.
const LONGEST: usize = 512;

/// Passes lines on, and keeps which of the wanted snapshots they name: of a
/// catalog one reading is enough for that and for what it can bring back.
pub struct Named<R> {
    input: R,
    kind: Kind,
    wanted: HashSet<String>,
    /// What stood between the last quotes, and before those.
    texts: [Vec<u8>; 3],
    found: HashSet<String>,
}

impl<R: BufRead> Named<R> {
    /// Looks for those of these points that have the names of this
    /// configuration.
    pub fn new(input: R, rules: &Rules, datasets: &BTreeMap<String, Vec<Point>>) -> Self {
        let (kind, wanted) = (rules.kind, rules.wanted(datasets));
        Self { input, kind, wanted, texts: Default::default(), found: HashSet::new() }
    }

    /// Which of them it has met.
    pub fn found(self) -> HashSet<String> {
        self.found
    }
}

/// Follows bytes that were read. A value is what stands between two quotes
/// behind its field, as in `"guid":"17"`.
fn follow(texts: &mut [Vec<u8>; 3], bytes: &[u8], field: &[u8], mut value: impl FnMut(&[u8])) {
    for byte in bytes {
        let [before, colon, text] = texts;
        if *byte == b'"' {
            if before == field && colon == b":" {
                value(text);
            }
            before.clear();
            texts.rotate_left(1);
        } else if text.len() < LONGEST {
            text.push(*byte);
        }
    }
}

impl<R: BufRead> Read for Named<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.fill_buf()?.read(buffer)?;
        self.consume(length);
        Ok(length)
    }
}

impl<R: BufRead> BufRead for Named<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.input.fill_buf()
    }

    fn consume(&mut self, length: usize) {
        let Self { input, kind, wanted, texts, found } = self;
        // It is there already: this reads nothing.
        if let Ok(bytes) = input.fill_buf() {
            let bytes = bytes.get(..length).unwrap_or(bytes);
            let field: &[u8] = if *kind == Kind::Tar { b"name" } else { b"guid" };
            follow(texts, bytes, field, |value| {
                let value = std::str::from_utf8(value).unwrap_or_default();
                let key = if *kind == Kind::Tar { value.strip_suffix(".tar") } else { Some(value) };
                if let Some(key) = key.filter(|key| wanted.contains(*key)) {
                    found.insert(key.to_owned());
                }
            });
        }
        input.consume(length);
    }
}

/// Gives the lines of a file that are whole.
fn lines(input: impl BufRead, file: &str) -> Result<Vec<String>> {
    let (mut reader, mut lines) = (Reader::new(input), Vec::new());
    let cannot = |e| Error::io(format!("{file}: cannot read"), e);
    while let Some(text) = reader.read().map_err(cannot)? {
        if let Text::Line(text) = text {
            lines.push(text);
        }
    }
    Ok(lines)
}

/// The streams that `glacier-ls spool` prints; what is no stream is passed
/// over.
///
/// # Errors
/// When the file cannot be read.
pub fn spooled(input: impl BufRead, file: &str) -> Result<Vec<Spooled>> {
    let lines = lines(input, file)?;
    Ok(lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// The archives that lines of a catalog are about.
///
/// # Errors
/// When the file cannot be read.
pub fn archives(input: impl BufRead, file: &str) -> Result<Vec<Id>> {
    let lines = lines(input, file)?;
    let archive = |line: &String| match Line::parse(line) {
        Ok(Some(Line::Archive(archive))) => Some(archive.archive_id),
        _ => None,
    };
    Ok(lines.iter().filter_map(archive).collect())
}
