//! What the lines of a chain say of its streams (pure).

use std::io::BufRead;

use crate::error::{Error, Result};
use crate::line::{Guid, Line, Reader, StreamId, Text};

/// A snapshot that a stream brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// Its name behind that of the dataset which was sent: `@mon`, `/ann@mon`.
    pub below: String,
    /// Its guid.
    pub guid: Guid,
}

impl Point {
    /// Whether it is of the dataset itself, and not of one below.
    pub fn is_top(&self) -> bool {
        self.below.starts_with('@')
    }

    /// The dataset that it is of, below that which was sent.
    pub fn dataset(&self) -> &str {
        dataset(&self.below)
    }
}

/// What stands before the `@` of a snapshot.
pub fn dataset(name: &str) -> &str {
    name.split('@').next().unwrap_or_default()
}

/// A stream of a chain.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// Its place in the chain, from 1.
    pub number: usize,
    /// Its id.
    pub id: StreamId,
    /// Its name.
    pub name: String,
    /// The guid of its snapshot; a compound stream has none.
    pub guid: Option<Guid>,
    /// What it went through.
    pub filter: Option<String>,
    /// Its bytes.
    pub size: u64,
    /// How many records of it zfs receive takes for something else.
    pub misplaced: u64,
    /// The snapshots that it brings; none where it is not of ZFS.
    pub points: Vec<Point>,
    /// Where its lines begin and end.
    pub span: (u64, u64),
}

impl Incoming {
    /// Whether it is a stream of ZFS.
    pub fn is_zfs(&self) -> bool {
        !self.points.is_empty()
    }

    /// Whether it holds several datasets.
    pub fn has_several(&self) -> bool {
        self.points.iter().any(|point| !point.is_top())
    }
}

/// Reads the lines of a chain.
///
/// # Errors
/// When it cannot be read or has no stream, or a snapshot is not where it was
/// sent from.
pub fn read(input: impl BufRead, thing: &str) -> Result<Vec<Incoming>> {
    let mut reader = Reader::new(input);
    let mut streams: Vec<Incoming> = Vec::new();
    let mut snapshots = Vec::new();
    let mut begin = 0;
    loop {
        let text = reader.read().map_err(|e| Error::io(format!("{thing}: cannot read"), e))?;
        let Some(text) = text else { break };
        let end = reader.next;
        let line = match text {
            Text::Line(text) => Line::parse(&text),
            Text::Bad(why) => Err(why),
        };
        let number = reader.number;
        match line.map_err(|why| Error::Data(format!("{thing}: line {number}: {why}")))? {
            // What is to follow is not what is still wanted.
            Some(Line::Chain(_)) => begin = end,
            Some(Line::Snapshot(snapshot)) => snapshots.push((snapshot.name, snapshot.guid)),
            Some(Line::Stored(stored)) => {
                if let (true, Some(guid)) = (snapshots.is_empty(), stored.guid) {
                    snapshots.push((stored.name.clone(), guid));
                }
                let root = dataset(&stored.name);
                let points =
                    snapshots.drain(..).map(|(name, guid)| match name.strip_prefix(root) {
                        Some(below) => Ok(Point { below: below.to_owned(), guid }),
                        None => Err(Error::Data(format!("{name}: not below {root}"))),
                    });
                let points = points.collect::<Result<_>>()?;
                streams.push(Incoming {
                    number: streams.len() + 1,
                    id: stored.stream,
                    guid: stored.guid,
                    filter: stored.filter.map(|filter| filter.as_str().to_owned()),
                    size: stored.size,
                    misplaced: stored.misplaced,
                    points,
                    span: (begin, end),
                    name: stored.name,
                });
                begin = end;
            }
            _ => {}
        }
    }
    if streams.is_empty() {
        return Err(Error::Data(format!(
            "{thing}: holds no stream; it is what glacier-chain prints"
        )));
    }
    Ok(streams)
}
