//! The lines of a stream, as glacier-chunk(1) prints them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::hash::tree::Hash;
use crate::line::features::Features;
use crate::line::ids::{Filter, Format, Guid, StreamId, is_default, is_true, yes};
use crate::line::reader::MAX;

/// The version of `stream`, `archive`, `stored` and `job` lines.
pub const VERSION: u32 = 1;

/// The first line of a stream.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Stream {
    /// Major version of this line.
    pub v: u32,
    /// Which stream.
    pub stream: StreamId,
    /// Where it was cut.
    pub host: String,
    /// The snapshot as the sender names it, or the user's name.
    pub name: String,
    /// Whether it is a ZFS send stream.
    pub format: Format,
    /// Guid of the snapshot; absent for compound streams and other formats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guid: Option<Guid>,
    /// Guid of the base; absent for full streams.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_guid: Option<Guid>,
    /// When the snapshot was taken, as its sender says; absent where that is
    /// not known, as of a compound stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<Timestamp>,
    /// What a receiver must understand; absent in lines of 0.1.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<Features>,
    /// The base is a snapshot of another dataset, of which this is a clone.
    #[serde(default, skip_serializing_if = "is_default")]
    pub clone: bool,
    /// Holds several streams (`zfs send -R`, `-I`, `-p`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub compound: bool,
    /// The tail of another stream (`zfs send -t`); never a link of a chain.
    #[serde(default, skip_serializing_if = "is_default")]
    pub resumed: bool,
    /// What the bytes went through before they were cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<Filter>,
    /// Bytes in a part.
    pub part_size: u64,
    /// Bytes in a volume.
    pub volume_size: u64,
}

/// A snapshot that a stream holds: one for each BEGIN record of a (sub)stream.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Snapshot {
    /// Which stream.
    pub stream: StreamId,
    /// The snapshot as the sender names it.
    pub name: String,
    /// Its guid.
    pub guid: Guid,
    /// Guid of its base; absent for full streams.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_guid: Option<Guid>,
    /// When the snapshot was taken, as its sender says; absent in lines
    /// of 0.1.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<Timestamp>,
    /// What a receiver must understand; absent in lines of 0.1.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<Features>,
    /// The base is a snapshot of another dataset, of which this is a clone.
    #[serde(default, skip_serializing_if = "is_default")]
    pub clone: bool,
    /// Where its BEGIN record stands in the stream.
    pub offset: u64,
}

/// A part that is safe in the spool.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Part {
    /// Which stream.
    pub stream: StreamId,
    /// Which volume of it, from 0.
    pub volume: u32,
    /// Which part of the volume, from 0.
    pub part: u32,
    /// Where it begins in the volume.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
    /// Its tree hash.
    pub treehash: Hash,
    /// Its SHA-256 hash.
    pub sha256: Hash,
    /// False when it was only hashed, because its volume is stored.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub spooled: bool,
}

/// The end of a volume.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Volume {
    /// Which stream.
    pub stream: StreamId,
    /// Which volume of it, from 0.
    pub volume: u32,
    /// Where it begins in the stream.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
    /// How many parts it has.
    pub parts: u32,
    /// The fold of its parts' tree hashes.
    pub treehash: Hash,
}

/// The proven end of a stream.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct End {
    /// Which stream.
    pub stream: StreamId,
    /// How many volumes it has.
    pub volumes: u32,
    /// Bytes.
    pub size: u64,
    /// The fold of its volumes' tree hashes.
    pub treehash: Hash,
    /// The proofs that it is whole, joined by commas: `zfs`, `command`,
    /// `proof`, `marker`, `trusted`.
    pub whole: String,
    /// How many records of it `zfs receive` takes for something else, so that
    /// what they hold is lost there.
    #[serde(default, skip_serializing_if = "is_default")]
    pub misplaced: u64,
}

/// The end of a stream that is not whole.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Failed {
    /// Which stream, if that was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<StreamId>,
    /// The exit code of the tool that failed.
    pub code: u8,
    /// Its message.
    pub message: String,
}

impl Failed {
    /// The `failed` line of an error, its message cut to fit.
    pub fn new(stream: Option<StreamId>, error: &Error) -> Self {
        let mut message = error.to_string();
        // The worst escape of a byte takes six.
        while message.len() > MAX / 8 {
            message.pop();
        }
        Self { stream, code: error.code(), message }
    }
}
