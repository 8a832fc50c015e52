//! What is asked to go: the lines of standard input, read to their end before
//! anything is done.

use std::cell::Cell;
use std::collections::HashSet;
use std::io::{BufReader, Read};
use std::rc::Rc;

use crate::error::{Error, Result};
use crate::line::description::Kind;
use crate::line::{Id, Line, Reader, Stream, StreamId, Text, Upload};

/// An archive that is asked to go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// The line that names it first; 0 for a manifest that goes with its
    /// volumes.
    pub number: u64,
    /// Which stream it is of.
    pub stream: StreamId,
    /// The stream's name, where the line says.
    pub name: Option<String>,
    /// Which attempt at it.
    pub generation: u32,
    /// Which volume; none is the manifest.
    pub volume: Option<u32>,
    /// Where it is.
    pub dest: String,
    /// In which region.
    pub region: String,
    /// The service's name for it.
    pub archive_id: Id,
    /// Bytes, where they are known.
    pub size: Option<u64>,
}

/// All that is asked to go.
#[derive(Debug, Default)]
pub struct Asked {
    /// Archives, each once.
    pub archives: Vec<Wanted>,
    /// Unfinished uploads, with the numbers of their lines.
    pub uploads: Vec<(u64, Upload)>,
    /// Streams of the spool, with the numbers of their lines.
    pub streams: Vec<(u64, Stream)>,
    /// Archives and uploads that are none of ours.
    pub foreign: u64,
    /// Lines of types that are not known.
    pub unknown: u64,
}

/// Remembers the last byte that went through.
struct Watched<R> {
    input: R,
    last: Rc<Cell<u8>>,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.input.read(buffer)?;
        if let Some(last) = count.checked_sub(1).and_then(|last| buffer.get(last)) {
            self.last.set(*last);
        }
        Ok(count)
    }
}

fn bad(number: u64, reason: &str) -> Error {
    Error::Data(format!("stdin: line {number}: {reason}; nothing is deleted"))
}

impl Asked {
    /// Reads lines to their end.
    ///
    /// # Errors
    /// When one cannot be read, the last one was cut, or one says that what
    /// printed them failed.
    pub fn read(input: impl Read) -> Result<Self> {
        let last = Rc::new(Cell::new(b'\n'));
        let watched = Watched { input, last: Rc::clone(&last) };
        let mut reader = Reader::new(BufReader::new(watched)).bounded();
        let (mut asked, mut seen) = (Self::default(), HashSet::new());
        let unreadable = |e: std::io::Error| match e.kind() {
            std::io::ErrorKind::InvalidData => Error::Data(format!("stdin: {e}")),
            _ => Error::io("stdin: cannot read", e),
        };
        while let Some(text) = reader.read().map_err(unreadable)? {
            let number = reader.number;
            let line = match text {
                Text::Line(text) => Line::parse(&text),
                Text::Bad(reason) => Err(reason),
            };
            match line.map_err(|reason| bad(number, &reason))? {
                Some(Line::Failed(failed)) => {
                    return Err(Error::from_code(failed.code, failed.message));
                }
                Some(line) => asked.take(number, line, &mut seen),
                None => asked.unknown += 1,
            }
        }
        if last.get() != b'\n' {
            return Err(bad(reader.number, "ends without a newline, so the input was cut"));
        }
        Ok(asked)
    }

    fn take(&mut self, number: u64, line: Line, seen: &mut HashSet<String>) {
        let wanted = match line {
            Line::Archive(archive) => Wanted {
                number,
                stream: archive.stream,
                name: Some(archive.name),
                generation: archive.generation,
                volume: Some(archive.volume),
                dest: archive.dest,
                region: archive.region,
                archive_id: archive.archive_id,
                size: Some(archive.size),
            },
            // It stands for its manifest.
            Line::Stored(stored) => {
                let Some(archive_id) = stored.manifest_id else { return };
                Wanted {
                    number,
                    stream: stored.stream,
                    name: Some(stored.name),
                    generation: stored.generation,
                    volume: None,
                    dest: stored.dest,
                    region: stored.region,
                    archive_id,
                    size: None,
                }
            }
            Line::Inventoried(archive) => {
                let (Some(kind), Some(stream)) = (archive.of.kind, archive.of.stream) else {
                    self.foreign += 1;
                    return;
                };
                Wanted {
                    number,
                    stream,
                    name: archive.of.name,
                    generation: archive.of.generation,
                    volume: archive.of.volume.filter(|_| kind == Kind::Volume),
                    dest: archive.dest,
                    region: archive.region,
                    archive_id: archive.archive_id,
                    size: Some(archive.size),
                }
            }
            Line::Upload(upload) => {
                if upload.of.kind.is_none() {
                    self.foreign += 1;
                } else if seen.insert(upload.upload_id.to_string()) {
                    self.uploads.push((number, upload));
                }
                return;
            }
            Line::Stream(stream) => {
                if seen.insert(stream.stream.to_string()) {
                    self.streams.push((number, stream));
                }
                return;
            }
            _ => return,
        };
        if seen.insert(wanted.archive_id.to_string()) {
            self.archives.push(wanted);
        }
    }

    /// Whether nothing is asked to go.
    pub fn is_empty(&self) -> bool {
        self.archives.is_empty() && self.uploads.is_empty() && self.streams.is_empty()
    }

    /// What is left alone, in words.
    pub fn warnings(&self) -> Vec<String> {
        let count = |count: u64, what: &str| (count > 0).then(|| format!("stdin: {count} {what}"));
        let foreign = count(self.foreign, "archives or uploads of other programs are left alone");
        let unknown = count(self.unknown, "lines of unknown types skipped");
        foreign.into_iter().chain(unknown).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = r#"{"type":"stream","v":1,"stream":"00112233445566778899aabbccddeeff","host":"h","name":"n","format":"bytes","part_size":1048576,"volume_size":2097152}"#;

    #[test]
    fn a_cut_anywhere_is_no_input_but_between_lines() {
        let text = format!("{STREAM}\n{STREAM}\n");
        for cut in 1..=text.len() {
            let read = Asked::read(&text.as_bytes()[..cut]);
            let whole = text.as_bytes()[cut - 1] == b'\n';
            assert_eq!(read.is_ok(), whole, "{cut}: {read:?}");
            match read {
                Ok(asked) => assert_eq!(asked.streams.len(), 1),
                Err(error) => assert_eq!(error.code(), 65),
            }
        }
    }

    #[test]
    fn what_failed_before_is_told_again() {
        let failed = r#"{"type":"failed","code":75,"message":"not yet"}"#;
        let error = Asked::read(format!("{STREAM}\n{failed}\n").as_bytes()).unwrap_err();
        assert_eq!((error.code(), error.to_string().as_str()), (75, "not yet"));
    }
}
