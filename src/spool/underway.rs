//! Streams in a spool that are on their way to the service. For whoever
//! deletes they count as stored: what they are based on must stay.

use std::io::{self, BufReader};

use crate::error::{Error, Result};
use crate::line::{Line, Reader, Snapshot, Stored, Stream, StreamId, Text};
use crate::spool::journal::Journal;
use crate::spool::{Spool, StreamDir};

/// A stream that is on its way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Underway {
    /// As chunk printed it.
    pub stream: Stream,
    /// The snapshots in it, as far as it was cut.
    pub snapshots: Vec<Snapshot>,
}

impl Underway {
    /// The line that would say that it is stored.
    pub fn stored(&self) -> Stored {
        Stored::of(self.stream.clone())
    }
}

/// All streams of a spool that are not stored.
///
/// # Errors
/// When the spool cannot be read.
pub fn all(spool: &Spool) -> Result<Vec<Underway>> {
    let mut all = Vec::new();
    for id in spool.ids()? {
        let Some(directory) = spool.existing(id)? else { continue };
        if journal(&directory)?.stored.is_some() {
            continue;
        }
        let Some((stream, _)) = line(&directory)? else { continue };
        let snapshots = snapshots(&directory)?;
        all.push(Underway { stream, snapshots });
    }
    Ok(all)
}

/// The `stream` line of a directory, and whether the stream was whole.
///
/// # Errors
/// When its lines are there and cannot be read.
pub fn line(directory: &StreamDir) -> Result<Option<(Stream, bool)>> {
    let id = directory.id();
    let Some((file, whole)) = directory.lines()? else { return Ok(None) };
    let mut reader = Reader::new(BufReader::new(file));
    let first = reader.read().map_err(|e| unreadable(id, e))?;
    let Some(Text::Line(text)) = first else { return Ok(None) };
    Ok(match Line::parse(&text) {
        Ok(Some(Line::Stream(stream))) if stream.stream == id => Some((stream, whole)),
        _ => None,
    })
}

/// The `snapshot` lines of a directory, as far as the stream was cut.
///
/// # Errors
/// As [`line`].
pub fn snapshots(directory: &StreamDir) -> Result<Vec<Snapshot>> {
    let id = directory.id();
    let mut snapshots = Vec::new();
    let Some((file, _)) = directory.lines()? else { return Ok(snapshots) };
    let mut reader = Reader::new(BufReader::new(file));
    while let Some(text) = reader.read().map_err(|e| unreadable(id, e))? {
        if let Text::Line(text) = text
            && text.contains(r#""snapshot""#)
            && let Ok(Some(Line::Snapshot(snapshot))) = Line::parse(&text)
            && snapshot.stream == id
        {
            snapshots.push(snapshot);
        }
    }
    Ok(snapshots)
}

/// put's journal of a stream; an empty one if there is none.
///
/// # Errors
/// When it is there and cannot be read.
pub fn journal(directory: &StreamDir) -> Result<Journal> {
    let file = directory.existing_journal()?;
    let journal = file.map(|file| Journal::read(BufReader::new(file))).transpose();
    Ok(journal.map_err(|e| unreadable(directory.id(), e))?.unwrap_or_default())
}

fn unreadable(id: StreamId, e: io::Error) -> Error {
    Error::io(format!("stream {id}: cannot read its lines"), e)
}
