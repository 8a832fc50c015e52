//! What glacier-proof(1) wrote down of a stream before it went through a
//! filter: what it was, which snapshots it held, and that it was whole.
//!
//! The file is read as it grows, and nothing in it is believed for itself: a
//! line that is none, or is about something else, is refused.

use std::borrow::Cow;
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::line::{Features, Format, Guid, Line, MAX, Snapshot, Stream, StreamId, VERSION};
use crate::line::{is_default, json_error};
use crate::process::paths;
use crate::zfs_stream::Head;

/// The sizes that the id in the file is computed with, whatever the stream is
/// cut by: part of what version 1 of an id is.
pub const PART_SIZE: u64 = 16 << 20;
const VOLUME_SIZE: u64 = 4 << 30;

/// The proofs that a file may tell of.
const PROOFS: [&str; 4] = ["zfs", "command", "marker", "trusted"];

/// The last line of the file: that of chunk, without what only hashing tells.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename = "end")]
pub struct End {
    /// Which stream.
    pub stream: StreamId,
    /// Bytes.
    pub size: u64,
    /// The proofs that it is whole.
    pub whole: String,
    /// How many records of it `zfs receive` takes for something else.
    #[serde(default, skip_serializing_if = "is_default")]
    pub misplaced: u64,
}

/// The first line of the file.
pub fn stream(head: &Head) -> Stream {
    Stream {
        v: VERSION,
        stream: StreamId::new(head.identity.clone(), PART_SIZE, VOLUME_SIZE),
        host: paths::host(),
        name: head.name.clone(),
        format: Format::Zfs,
        guid: head.guid.map(Guid),
        from_guid: head.from_guid.map(Guid),
        created: head.created.and_then(time),
        features: Some(Features(head.features)),
        clone: head.clone,
        compound: head.compound,
        resumed: head.resumed,
        filter: None,
        part_size: PART_SIZE,
        volume_size: VOLUME_SIZE,
    }
}

/// A time in Unix seconds, if it is one that a line can have.
pub fn time(seconds: u64) -> Option<Timestamp> {
    Timestamp::from_second(seconds.try_into().ok()?).ok()
}

/// The file of glacier-proof(1), as far as it was read.
#[derive(Debug)]
pub struct Lineage {
    path: PathBuf,
    file: File,
    /// Which file it is: no other may take its place.
    identity: (u64, u64),
    /// The line that has not come whole.
    held: Vec<u8>,
    /// The number of the line that was read last.
    number: u64,
    read: u64,
    stream: Stream,
    end: Option<End>,
}

/// How much is read at a time.
const PIECE: u64 = 64 << 10;

impl Lineage {
    /// Looks at a file; `None` if it is not there, or has nothing in it, as a
    /// marker has not.
    ///
    /// # Errors
    /// When it does not begin with a whole `stream` line.
    pub fn look(path: &Path) -> Result<Option<Self>> {
        let cannot = |e: io::Error| Error::io(format!("marker {}", path.display()), e);
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let there = match fs::metadata(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            there => there.map_err(cannot)?,
        };
        if !there.is_file() || there.len() == 0 {
            return Ok(None);
        }
        let opened = rustix::fs::open(path, flags, Mode::empty());
        let mut file = File::from(opened.map_err(|e| cannot(e.into()))?);
        let identity = identity(&file.metadata().map_err(cannot)?);
        let mut first = Vec::new();
        let limit = u64::try_from(MAX).unwrap_or(u64::MAX);
        // Only the first line: what follows may be in the making.
        (&mut file).take(limit).read_to_end(&mut first).map_err(cannot)?;
        let read = first.len() as u64;
        let bad = |why: &str| Error::Data(format!("proof {}: line 1: {why}", path.display()));
        let Some(end) = first.iter().position(|byte| *byte == b'\n') else {
            return Err(bad("is no line of glacier-proof; a marker is an empty file"));
        };
        let held = first.split_off(end + 1);
        first.pop();
        let text = String::from_utf8(first).map_err(|_| bad("not UTF-8"))?;
        let stream = match Line::parse(&text) {
            Ok(Some(Line::Stream(stream))) => stream,
            Ok(_) => return Err(bad("is not the \"stream\" line of glacier-proof")),
            Err(why) => return Err(bad(&why)),
        };
        let is_lineage = stream.format == Format::Zfs && stream.filter.is_none();
        // A plain stream has a snapshot's guid, a compound one has none.
        if !is_lineage || stream.guid.is_some() == stream.compound {
            return Err(bad("is not the \"stream\" line of a ZFS stream"));
        }
        let path = path.to_owned();
        Ok(Some(Self { path, file, identity, held, number: 1, read, stream, end: None }))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Which file it is, and when it was last written to.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn metadata(&self) -> Result<Metadata> {
        self.file.metadata().map_err(|e| Error::io(format!("proof {}", self.path.display()), e))
    }

    /// The stream before the filter.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Reads on to where the file ends now; `take` is given each snapshot.
    ///
    /// # Errors
    /// When a line is none, or of another stream.
    pub fn read(&mut self, mut take: impl FnMut(Snapshot)) -> Result<()> {
        loop {
            if let Some(last) = self.held.iter().rposition(|byte| *byte == b'\n') {
                let rest = self.held.split_off(last + 1);
                let lines = std::mem::replace(&mut self.held, rest);
                for line in lines.split_inclusive(|byte| *byte == b'\n') {
                    self.number += 1;
                    if let Some(snapshot) = self.line(line).map_err(|why| self.bad(&why))? {
                        take(snapshot);
                    }
                }
            }
            if self.held.len() >= MAX {
                self.number += 1;
                return Err(self.bad(&format!("longer than {MAX} bytes")));
            }
            let before = self.held.len();
            (&mut self.file)
                .take(PIECE)
                .read_to_end(&mut self.held)
                .map_err(|e| Error::io(format!("proof {}", self.path.display()), e))?;
            if self.held.len() == before {
                return Ok(());
            }
            self.read += (self.held.len() - before) as u64;
        }
    }

    fn bad(&self, why: &str) -> Error {
        Error::Data(format!("proof {}: line {}: {why}", self.path.display(), self.number))
    }

    /// Takes a line; gives the snapshot that it tells of.
    fn line(&mut self, line: &[u8]) -> Result<Option<Snapshot>, String> {
        if line.len() > MAX {
            return Err(format!("longer than {MAX} bytes"));
        }
        let text = std::str::from_utf8(line).map_err(|_| "not UTF-8".to_owned())?.trim_end();
        if self.end.is_some() {
            return Err("stands behind \"end\"".to_owned());
        }
        // That of chunk has fields that this one lacks.
        if is_end(text) {
            let end: End = serde_json::from_str(text).map_err(|e| json_error::of(&e))?;
            self.is_of(end.stream)?;
            if !end.whole.split(',').all(|proof| PROOFS.contains(&proof)) {
                return Err("a proof that this program does not know".to_owned());
            }
            self.end = Some(end);
            return Ok(None);
        }
        match Line::parse(text)? {
            Some(Line::Snapshot(snapshot)) => {
                self.is_of(snapshot.stream)?;
                let plain = !self.stream.compound;
                if plain
                    && (Some(snapshot.guid), snapshot.from_guid)
                        != (self.stream.guid, self.stream.from_guid)
                {
                    return Err("another snapshot than that of its stream".to_owned());
                }
                Ok(Some(snapshot))
            }
            Some(Line::Stream(_)) => Err("a second \"stream\" line".to_owned()),
            _ => Err("is no line of glacier-proof".to_owned()),
        }
    }

    fn is_of(&self, stream: StreamId) -> Result<(), String> {
        if stream == self.stream.stream { Ok(()) } else { Err(format!("of stream {stream}")) }
    }

    /// The last line, which proves that the stream was whole. All of the file
    /// must have been read, and it must still be the one that was looked at.
    ///
    /// # Errors
    /// When it does not say so.
    pub fn end(&self) -> Result<&End> {
        let path = self.path.display();
        let now = fs::metadata(&self.path).map_err(|e| Error::io(format!("proof {path}"), e))?;
        if identity(&now) != self.identity || now.len() != self.read {
            return Err(Error::Data(format!(
                "proof {path}: was replaced while it was read; the stream is not proven whole"
            )));
        }
        match &self.end {
            Some(end) if self.held.is_empty() => Ok(end),
            _ => Err(Error::Data(format!(
                "proof {path}: no \"end\" line; glacier-proof failed, the stream is not whole"
            ))),
        }
    }
}

/// Whether a line says that it is the last.
fn is_end(text: &str) -> bool {
    #[derive(Deserialize)]
    struct Kind<'a> {
        #[serde(borrow)]
        r#type: Cow<'a, str>,
    }
    serde_json::from_str(text).is_ok_and(|kind: Kind<'_>| kind.r#type == "end")
}

fn identity(meta: &Metadata) -> (u64, u64) {
    (meta.dev(), meta.ino())
}
