//! The spool: which streams are in it, how far each is, and how to go on.
//!
//! It is only looked at: locks are asked about and not held, and a spool that
//! is not there is not created.

use std::collections::BTreeSet;
use std::path::Path;

use jiff::Timestamp;
use serde::Serialize;

use super::Printer;
use super::table::Column;
use crate::error::Result;
use crate::line::{Id, Line, Stream, StreamId};
use crate::process;
use crate::spool::underway::{journal, line, snapshots};
use crate::spool::{Holder, Spool, StreamDir};
use crate::units;

/// The columns of its table.
pub const COLUMNS: &[Column] = &[
    Column::Left("NAME"),
    Column::Left("STATE"),
    Column::Right("PARTS"),
    Column::Right("SIZE"),
    Column::Left("NEXT"),
];

/// How far a stream is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// glacier-put works on it.
    Sending,
    /// glacier-chunk works on it.
    Cutting,
    /// It is stored, and its receipt is not put away.
    Stored,
    /// It was whole, and waits for glacier-put.
    Spooled,
    /// It was cut short.
    Stopped,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::Sending => "sending",
            Self::Cutting => "cutting",
            Self::Stored => "stored",
            Self::Spooled => "spooled",
            Self::Stopped => "stopped",
        }
    }
}

/// A stream of the spool: its line, and what is known of it here.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Spooled {
    /// As chunk printed it.
    #[serde(flatten)]
    pub stream: Line,
    /// How far it is.
    pub state: State,
    /// Parts in the spool.
    pub parts: u64,
    /// Their bytes.
    pub spooled_size: u64,
    /// Seconds since the service took a part of it, to the hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_s: Option<u64>,
    /// Where it is on its way to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dest: Option<String>,
    /// Who works on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
    /// How to go on.
    pub next: String,
}

/// Prints the streams of the spool.
///
/// # Errors
/// When it cannot be read, or standard output cannot take the lines.
pub fn print(path: &Path, mut printer: Printer) -> Result<()> {
    if let Some(spool) = Spool::look(path)? {
        for id in spool.ids()? {
            // It may be stored meanwhile.
            let Some(mut directory) = spool.existing(id)? else { continue };
            let mut told = line(&directory)?;
            if told.is_none() {
                // Who works on it has not told yet, or removes what there was;
                // or did so since.
                let Some(again) = spool.existing(id)?.filter(is_free) else { continue };
                told = line(&again)?;
                directory = again;
                if told.is_none() && (!is_free(&directory) || is_over(&directory)?) {
                    continue;
                }
            }
            let (parts, size) = (directory.parts()?, directory.used(|_| true)?);
            let Some((line, whole)) = told else {
                process::warn(&format!(
                    "stream {id}: {parts} parts with {}, and no line tells of what; send it again with the same command",
                    units::bytes(size)
                ));
                continue;
            };
            let is_compound = line.compound;
            let spooled = spooled(&directory, line, whole, (parts, size))?;
            let name = match &spooled.stream {
                Line::Stream(stream) => stream.name.clone(),
                _ => String::new(),
            };
            printer.print(&spooled, || {
                let (parts, size) = (parts.to_string(), units::bytes(size));
                vec![name, spooled.state.word().to_owned(), parts, size, spooled.next.clone()]
            })?;
            // What is in such a stream has bases of its own.
            if is_compound {
                for snapshot in snapshots(&directory)? {
                    printer.line(&Line::Snapshot(snapshot))?;
                }
            }
        }
    }
    printer.finish()
}

/// Whether nobody works on a stream.
fn is_free(directory: &StreamDir) -> bool {
    ![Holder::Chunk, Holder::Put].into_iter().any(|holder| directory.is_locked(holder))
}

/// Whether nothing is left of a stream but what tells that it is stored.
fn is_over(directory: &StreamDir) -> Result<bool> {
    Ok(directory.is_idle()? || journal(directory)?.stored.is_some())
}

fn spooled(
    directory: &StreamDir,
    stream: Stream,
    whole: bool,
    (parts, spooled_size): (u64, u64),
) -> Result<Spooled> {
    let journal = journal(directory)?;
    let held: Vec<String> = [Holder::Chunk, Holder::Put]
        .into_iter()
        .filter_map(|holder| {
            let who = directory.holder(holder)?;
            Some(format!("{} (process {who})", holder.tool()))
        })
        .collect();
    let state = if directory.is_locked(Holder::Put) {
        State::Sending
    } else if directory.is_locked(Holder::Chunk) {
        State::Cutting
    } else if journal.stored.is_some() {
        State::Stored
    } else if whole {
        State::Spooled
    } else {
        State::Stopped
    };
    let next = next(state, stream.stream, journal.dest.as_deref());
    Ok(Spooled {
        stream: Line::Stream(stream),
        state,
        parts,
        spooled_size,
        idle_s: journal.moved.map(|moved| {
            u64::try_from(Timestamp::now().duration_since(moved).as_secs()).unwrap_or(0)
        }),
        dest: journal.dest,
        held: (!held.is_empty()).then(|| held.join(", ")),
        next,
    })
}

/// How to go on with a stream, in a command where there is one.
fn next(state: State, id: StreamId, dest: Option<&str>) -> String {
    match state {
        State::Sending | State::Cutting => "is under way".to_owned(),
        State::Stored | State::Spooled => {
            let dest = dest.unwrap_or("DEST");
            format!("cat \"$GLACIER_SPOOL\"/{id}/lines.jsonl | glacier-put {dest}")
        }
        State::Stopped => {
            let dest = dest.unwrap_or("DEST");
            format!(
                "send it again with the same command, or drop it: glacier-ls spool | grep {id} | \
                 glacier-rm --yes {dest}"
            )
        }
    }
}

/// The uploads that the spool goes on with, of all streams on their way to
/// `dest`.
///
/// # Errors
/// When the spool cannot be read.
pub fn uploads(path: &Path, dest: &str) -> Result<BTreeSet<Id>> {
    let mut uploads = BTreeSet::new();
    let Some(spool) = Spool::look(path)? else { return Ok(uploads) };
    for id in spool.ids()? {
        let Some(directory) = spool.existing(id)? else { continue };
        let journal = journal(&directory)?;
        if journal.dest.as_deref() == Some(dest) {
            uploads.extend(journal.uploads.into_values().map(|upload| upload.id));
        }
    }
    Ok(uploads)
}
