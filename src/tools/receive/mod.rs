//! akashita-receive: the streams of a chain, into ZFS or files, or proven and
//! dropped.
//!
//! Before anything is paid for, [`look`] tells which streams a target lacks
//! and refuses what could not be received. Then glacier-get starts [`take`]
//! once for each stream: what the stream went through is undone by processes
//! of which each has a status of its own.

mod chain;
mod look;
mod pipeline;
mod take;
mod undo;
mod zfs;

use std::path::PathBuf;

use crate::error::{Error, Result};

pub use look::{Question, look};
pub use take::{Records, take};

/// Where streams go.
#[derive(Debug, Clone)]
pub enum Target {
    /// A dataset; an empty name is that of any.
    Dataset(String),
    /// Files in the working directory, which messages call so.
    Files(String),
    /// Nowhere: they are only proven.
    Proof,
}

/// What streams go through on their way.
#[derive(Debug)]
pub struct Settings {
    /// The lines of the chain, as glacier-chain(1) prints them.
    pub chain: PathBuf,
    /// Where they go.
    pub target: Target,
    /// What can be undone.
    pub keys: Keys,
    /// Whether they stay as they were sent, with what zfs receive loses of
    /// them.
    pub as_sent: bool,
}

/// What is there to undo filters with; each may be empty.
#[derive(Debug, Default)]
pub struct Keys {
    /// The file of the identities of age(1).
    pub identity: PathBuf,
    /// What is compressed with here.
    pub filter: String,
    /// What undoes that.
    pub unfilter: String,
}

/// A word as any sh reads it.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// A failure of this machine that says all itself.
fn failed_here(why: String) -> Error {
    Error::Command(74, why)
}

/// The first line of what a program said, or what else there is to say.
fn first_line(said: &str, otherwise: impl FnOnce() -> String) -> String {
    said.lines().find(|line| !line.trim().is_empty()).map_or_else(otherwise, str::to_owned)
}

/// The result of what is written to a file of this run.
fn writes<T>(file: &std::path::Path, result: std::io::Result<T>) -> Result<T> {
    result.map_err(|e| Error::io(format!("{}: cannot write", file.display()), e))
}
