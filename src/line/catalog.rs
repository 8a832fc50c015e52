//! The lines of a catalog, and those that its readers print.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::hash::tree::{Fold, Hash};
use crate::line::description::{Description, Kind};
use crate::line::features::Features;
use crate::line::ids::{Filter, Format, Guid, StreamId, is_default};
use crate::line::key::Key;
use crate::line::service_id::Id;
use crate::line::stream::Stream;

/// Tree hashes in a `hashes` line, at most.
pub const HASHES: usize = 50;

/// The tree hashes of a run of parts of a stored volume.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hashes {
    /// Which stream.
    pub stream: StreamId,
    /// Which attempt at it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub generation: u32,
    /// Which volume of it, from 0.
    pub volume: u32,
    /// The first part of the run.
    pub part: u32,
    /// Where the volume is stored.
    pub dest: String,
    /// At most [`HASHES`] of them.
    pub treehashes: Vec<Hash>,
}

/// A volume that is stored. `S` is what holds its texts: who reads millions of
/// these lines leaves them where they are.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Archive<S = String> {
    /// Major version of this line.
    pub v: u32,
    /// Which stream.
    pub stream: StreamId,
    /// Where the stream was cut.
    pub host: S,
    /// The stream's name.
    pub name: S,
    /// Which attempt at the stream.
    #[serde(default, skip_serializing_if = "is_default")]
    pub generation: u32,
    /// Which volume of it, from 0.
    pub volume: u32,
    /// Where the volume begins in the stream.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
    /// Its tree hash; a vault's service said the same.
    pub treehash: Hash,
    /// Bytes in a part.
    pub part_size: u64,
    /// Where it is stored: `glacier://VAULT`, `s3://BUCKET/PREFIX`.
    pub dest: S,
    /// In which region.
    pub region: S,
    /// The service's name for it.
    #[serde(bound(deserialize = "S: AsRef<str> + Deserialize<'de>"))]
    pub archive_id: Id<S>,
    /// Which of the versions of that name; absent where there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<S>,
    /// Its storage class when it was stored; absent where there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<S>,
    /// The SHA-256 hash of its parts' SHA-256 hashes, where the service said
    /// the same of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub composite: Option<Hash>,
    /// What the service calls these bytes, where it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etag: Option<S>,
    /// When.
    pub uploaded: Timestamp,
}

/// A stream that is stored whole.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Stored {
    /// Major version of this line.
    pub v: u32,
    /// Which stream.
    pub stream: StreamId,
    /// Where it was cut.
    pub host: String,
    /// Its name.
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
    /// Which attempt was completed.
    #[serde(default, skip_serializing_if = "is_default")]
    pub generation: u32,
    /// How many volumes it has.
    pub volumes: u32,
    /// Bytes.
    pub size: u64,
    /// The fold of its volumes' tree hashes.
    pub treehash: Hash,
    /// The proofs that it is whole.
    pub whole: String,
    /// How many records of it `zfs receive` takes for something else.
    #[serde(default, skip_serializing_if = "is_default")]
    pub misplaced: u64,
    /// Where it is stored.
    pub dest: String,
    /// In which region.
    pub region: String,
    /// The archive that holds this stream's catalog lines; absent inside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest_id: Option<Id>,
    /// When.
    pub stored: Timestamp,
}

impl Stored {
    /// The line that would say that this stream is stored, of which nothing else
    /// is known: it has no volumes, so that none lacks.
    pub fn of(stream: Stream) -> Self {
        Self {
            v: stream.v,
            stream: stream.stream,
            host: stream.host,
            name: stream.name,
            format: stream.format,
            guid: stream.guid,
            from_guid: stream.from_guid,
            created: stream.created,
            features: stream.features,
            clone: stream.clone,
            compound: stream.compound,
            resumed: stream.resumed,
            filter: stream.filter,
            generation: 0,
            volumes: 0,
            size: 0,
            treehash: Fold::default().finish(),
            whole: String::new(),
            misplaced: 0,
            dest: String::new(),
            region: String::new(),
            manifest_id: None,
            stored: Timestamp::UNIX_EPOCH,
        }
    }

    /// Whether it brings snapshots back: a ZFS stream, or one that was filtered.
    pub fn holds_snapshots(&self) -> bool {
        self.format == Format::Zfs || self.guid.is_some() || self.compound
    }
}

/// An archive, or a range of one, that the service was asked to bring up: all
/// fields of its `archive` line, and the job.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Job {
    /// The archive.
    #[serde(flatten)]
    pub archive: Archive,
    /// The service's name for the job.
    pub job_id: Id,
    /// How quickly it was to be brought up: `Expedited`, `Standard`, `Bulk`.
    pub tier: String,
    /// When it was asked for.
    pub requested: Timestamp,
    /// Where the range that was asked for begins in the archive; absent where
    /// that is all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range_offset: Option<u64>,
    /// Bytes of that range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range_size: Option<u64>,
}

/// Parts that were brought back from a stored archive and equal their hashes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Verified {
    /// Which stream.
    pub stream: StreamId,
    /// Where it was cut.
    pub host: String,
    /// Its name.
    pub name: String,
    /// Which attempt at it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub generation: u32,
    /// Which volume of it.
    pub volume: u32,
    /// The first of the parts.
    pub part: u32,
    /// How many.
    pub parts: u32,
    /// Where they begin in the volume.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
    /// Where the volume is stored.
    pub dest: String,
    /// In which region.
    pub region: String,
    /// The service's name for its archive.
    pub archive_id: Id,
    /// When.
    pub verified: Timestamp,
}

/// What is gone for good. An archive that was deleted is in the catalog, too:
/// what needs it is not restorable any more.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Deleted {
    /// Which stream it was of, if of any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<StreamId>,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Which attempt at it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub generation: u32,
    /// Which volume of it; absent for a manifest, and for all of a stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<u32>,
    /// Where it was stored; absent for what was in the spool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dest: Option<String>,
    /// In which region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The service's name for the archive, if it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive_id: Option<Id>,
    /// The service's name for the upload, if it was an unfinished one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload_id: Option<Id>,
    /// It was in the spool.
    #[serde(default, skip_serializing_if = "is_default")]
    pub spooled: bool,
    /// Bytes, where they are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// When.
    pub deleted: Timestamp,
}

/// An unfinished upload, as the service lists it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Upload {
    /// Where it goes.
    pub dest: String,
    /// In which region.
    pub region: String,
    /// The service's name for it.
    pub upload_id: Id,
    /// When it was begun.
    pub begun: Timestamp,
    /// Bytes in a part.
    pub part_size: u64,
    /// Bytes that the service holds of it.
    pub size: u64,
    /// This machine's spool goes on with it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub spooled: bool,
    /// What it is of, where its description says so.
    #[serde(flatten)]
    pub of: Described,
}

/// An archive, as the inventory of a vault or the list of a bucket has it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Inventoried {
    /// Where it is stored.
    pub dest: String,
    /// In which region.
    pub region: String,
    /// The service's name for it.
    pub archive_id: Id,
    /// Bytes.
    pub size: u64,
    /// The tree hash that the service computed, where it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub treehash: Option<Hash>,
    /// What the service calls these bytes, where it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// Its storage class, where there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// When it was completed.
    pub uploaded: Timestamp,
    /// When the inventory was made.
    pub inventory: Timestamp,
    /// What it is of, where its description says so.
    #[serde(flatten)]
    pub of: Described,
}

/// The inventory that the `inventoried` lines beside it are from.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Inventory {
    /// Which vault.
    pub dest: String,
    /// In which region.
    pub region: String,
    /// When the service made it; what was stored later is not in it.
    pub made: Timestamp,
    /// Seconds since then.
    pub age_s: u64,
    /// How many archives it lists.
    pub archives: u64,
    /// Their bytes.
    pub size: u64,
    /// How many of them are not of these tools.
    pub foreign: u64,
    /// Archives of the catalog that it was compared with that were stored too
    /// late to be in it, and are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub later: Option<u64>,
    /// Behind the lines of a rebuilt catalog: how many manifests were not
    /// taken, so that what they are of is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<u64>,
}

/// What an archive's description says. Without a `kind` it is none of ours,
/// and `description` has its text.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Described {
    /// `volume` or `manifest`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// Which stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<StreamId>,
    /// Which attempt at it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub generation: u32,
    /// Which volume of it; absent for a manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<u32>,
    /// Where the stream was cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The stream's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Guid of the snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guid: Option<Guid>,
    /// Guid of its base.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_guid: Option<Guid>,
    /// A description that is not one of ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

impl Described {
    /// What the name of an archive in a bucket says.
    pub fn by(key: Key) -> Self {
        Self {
            kind: Some(key.kind()),
            stream: Some(key.stream),
            generation: key.generation,
            volume: key.volume,
            ..Self::default()
        }
    }

    /// What the text of a description says.
    pub fn of(text: &str) -> Self {
        match Description::parse(text) {
            Some(ours) => Self {
                kind: Some(ours.kind),
                stream: Some(ours.stream),
                generation: ours.generation,
                volume: ours.volume,
                host: Some(ours.host),
                name: Some(ours.name),
                guid: ours.guid,
                from_guid: ours.from_guid,
                description: None,
            },
            None => Self { description: Some(text.to_owned()), ..Self::default() },
        }
    }
}

/// What glacier-chain(1) prints before the lines of a chain's streams, so
/// that its reader can tell a chain that was cut short from a shorter one.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Chain {
    /// The last stream of the chain.
    pub stream: StreamId,
    /// How many streams it has.
    pub streams: u32,
}

/// How to bring a stream back without this program, for whoever holds the
/// manifest that begins with it. Readers pass over it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Recipe {
    /// Lines of plain text.
    pub text: Vec<String>,
}
