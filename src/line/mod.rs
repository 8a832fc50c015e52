//! The lines that the tools exchange: types, reader, writer.
//!
//! glacier-lines(5) is the contract. One flat JSON object a line, `type`
//! first, at most [`MAX`] bytes, printed with one write. Unknown fields are
//! ignored here; tools that pass lines on pass on the text they read.

pub mod description;
pub(crate) mod json_error;

use std::fmt;
use std::io::{BufRead, Read as _};
use std::str::FromStr;

use jiff::Timestamp;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::hash::tree::Hash;
use crate::line::description::{Description, Kind};

/// The longest line in bytes, with its newline.
pub const MAX: usize = 4096;

/// Tree hashes in a `hashes` line, at most.
pub const HASHES: usize = 50;

/// The version of `stream`, `archive`, `stored` and `job` lines.
pub const VERSION: u32 = 1;

/// How the reason of a line of a later version is told from that of a bad one.
const NEWER: &str = " is newer than this program";

/// Whether a line was refused because it is of a later version, which a
/// reader that skips bad lines must not skip.
pub fn is_newer(reason: &str) -> bool {
    reason.contains(NEWER)
}

/// The time, to the second as lines have it.
pub fn now() -> Timestamp {
    let now = Timestamp::now();
    now.round(jiff::Unit::Second).unwrap_or(now)
}

/// Names a stream: the first half of a SHA-256 hash over what makes it this
/// stream; 32 lower-case hexadecimal digits in text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId([u8; 16]);

impl StreamId {
    /// The id of a stream, from what identifies its content (the first
    /// records of a ZFS stream, or a name) and the two sizes it is cut by.
    pub fn new(identity: Sha256, part_size: u64, volume_size: u64) -> Self {
        let hash = identity
            .chain_update(part_size.to_be_bytes())
            .chain_update(volume_size.to_be_bytes())
            .finalize();
        let mut id = [0; 16];
        id.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
        Self(id)
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for StreamId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut id = [0; 16];
        if text.bytes().any(|b| b.is_ascii_uppercase())
            || hex::decode_to_slice(text, &mut id).is_err()
        {
            return Err("a stream id is 32 lower-case hexadecimal digits".to_owned());
        }
        Ok(Self(id))
    }
}

impl Serialize for StreamId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for StreamId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <std::borrow::Cow<'de, str>>::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// The guid of a ZFS snapshot; a decimal string in text, as 64 bits do not
/// survive every reader of JSON.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Guid(pub u64);

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Guid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Guid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse()
            .map(Self)
            .ok()
            // One number has one text: no sign, no zeros before it.
            .filter(|guid| guid.to_string() == text)
            .ok_or_else(|| D::Error::custom("a guid is a decimal number in a string"))
    }
}

/// What a stream went through before it was cut, in order, as its user words
/// it: at most [`Self::LONGEST`] printable ASCII characters, and no secret.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(transparent)]
pub struct Filter(String);

impl Filter {
    /// Characters, at most.
    pub const LONGEST: usize = 512;

    /// How age(1) begins a secret key, in either case.
    const SECRET: &str = "AGE-SECRET-KEY-";

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Filter {
    type Err = &'static str;

    /// What is wrong is told without the text: it may be a secret.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.to_ascii_uppercase().contains(Self::SECRET) {
            return Err("a filter holds a secret key; name the recipient instead");
        }
        let fits = text.len() <= Self::LONGEST && text.bytes().all(|b| matches!(b, b' '..=b'~'));
        if !fits || text.trim().is_empty() {
            return Err("a filter is 1 to 512 printable ASCII characters");
        }
        Ok(Self(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for Filter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <std::borrow::Cow<'de, str>>::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// What a stream is: a ZFS send stream, or any other bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Recognised by the magic number in its first record.
    Zfs,
    /// Anything else; its name is the user's.
    Bytes,
}

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

/// A volume that is stored.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Archive {
    /// Major version of this line.
    pub v: u32,
    /// Which stream.
    pub stream: StreamId,
    /// Where the stream was cut.
    pub host: String,
    /// The stream's name.
    pub name: String,
    /// Which attempt at the stream.
    #[serde(default, skip_serializing_if = "is_default")]
    pub generation: u32,
    /// Which volume of it, from 0.
    pub volume: u32,
    /// Where the volume begins in the stream.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
    /// Its tree hash; the service said the same.
    pub treehash: Hash,
    /// Bytes in a part.
    pub part_size: u64,
    /// Where it is stored: `glacier://VAULT`.
    pub dest: String,
    /// In which region.
    pub region: String,
    /// The service's name for it.
    pub archive_id: String,
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
    /// Where it is stored.
    pub dest: String,
    /// In which region.
    pub region: String,
    /// The archive that holds this stream's catalog lines; absent inside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest_id: Option<String>,
    /// When.
    pub stored: Timestamp,
}

impl Stored {
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
    pub job_id: String,
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
    pub archive_id: String,
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
    pub archive_id: Option<String>,
    /// The service's name for the upload, if it was an unfinished one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload_id: Option<String>,
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
    pub upload_id: String,
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

/// An archive, as the inventory of a vault lists it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Inventoried {
    /// Where it is stored.
    pub dest: String,
    /// In which region.
    pub region: String,
    /// The service's name for it.
    pub archive_id: String,
    /// Bytes.
    pub size: u64,
    /// The tree hash that the service computed.
    pub treehash: Hash,
    /// When it was completed.
    pub uploaded: Timestamp,
    /// When the inventory was made.
    pub inventory: Timestamp,
    /// What it is of, where its description says so.
    #[serde(flatten)]
    pub of: Described,
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

/// A line of a type that this program knows.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
#[expect(missing_docs, reason = "each variant holds the documented type of its name")]
pub enum Line {
    Stream(Stream),
    Snapshot(Snapshot),
    Part(Part),
    Volume(Volume),
    End(End),
    Failed(Failed),
    Hashes(Hashes),
    Archive(Archive),
    Stored(Stored),
    Deleted(Deleted),
    Verified(Verified),
    Chain(Chain),
    Job(Job),
    Upload(Upload),
    Inventoried(Inventoried),
    Recipe(Recipe),
}

/// When a line may be acted on, as glacier-window(1) stamped it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
pub struct Stamp {
    /// The window, in the grammar of glacier-window(1).
    #[serde(default)]
    pub window: Option<String>,
    /// Its zone; absent for the system's.
    #[serde(default)]
    pub tz: Option<String>,
}

impl Line {
    /// Reads a line, without its newline. `None` is a type that this program
    /// does not know.
    ///
    /// # Errors
    /// What is wrong with it, in words that go behind a line number.
    pub fn parse(text: &str) -> Result<Option<Self>, String> {
        #[derive(Deserialize)]
        struct Head<'a> {
            #[serde(borrow)]
            r#type: std::borrow::Cow<'a, str>,
            // Of any kind, as other types may have a field of this name.
            v: Option<serde_json::Value>,
        }
        const KNOWN: [&str; 16] = [
            "stream",
            "snapshot",
            "part",
            "volume",
            "end",
            "failed",
            "hashes",
            "archive",
            "stored",
            "deleted",
            "verified",
            "chain",
            "job",
            "upload",
            "inventoried",
            "recipe",
        ];
        if !text.trim_start().starts_with('{') {
            return Err("not a JSON object".to_owned());
        }
        let head: Head = serde_json::from_str(text).map_err(|e| json_error::of(&e))?;
        if !KNOWN.contains(&head.r#type.as_ref()) {
            return Ok(None);
        }
        let version = head.v.and_then(|v| v.as_u64());
        match (version, head.r#type.as_ref()) {
            (Some(v), of @ ("stream" | "archive" | "stored" | "job")) if v > u64::from(VERSION) => {
                Err(format!("{of}: version {v}{NEWER}, which knows {VERSION}"))
            }
            _ => serde_json::from_str(text).map(Some).map_err(|e| json_error::of(&e)),
        }
    }

    /// The line as it is printed, with its newline.
    ///
    /// # Errors
    /// When it does not fit in [`MAX`] bytes; names are refused before they
    /// can get that long.
    pub fn text(&self) -> Result<String> {
        let mut text = serde_json::to_string(self)
            .map_err(|e| Error::Bug(format!("a line could not be written as JSON: {e}")))?;
        text.push('\n');
        if text.len() > MAX {
            return Err(Error::Bug(format!("a line has {} bytes, over {MAX}", text.len())));
        }
        Ok(text)
    }
}

impl Stamp {
    /// Reads the stamp of a line that [`Line::parse`] took.
    ///
    /// # Errors
    /// What is wrong with it, in words that go behind a line number.
    pub fn parse(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|e| json_error::of(&e))
    }
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

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_true(value: &bool) -> bool {
    *value
}

fn yes() -> bool {
    true
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

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
    next: u64,
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
            let mut line = Vec::new();
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

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "00112233445566778899aabbccddeeff";

    fn part(spooled: &str) -> String {
        let hash = "9bc1b2a288b26af7257a36277ae3816a7d4f16e89c1e7e77d0a5c48bad62b360";
        format!(
            r#"{{"type":"part","stream":"{ID}","volume":0,"part":17,"offset":17825792,"size":1048576,"treehash":"{hash}","sha256":"{hash}"{spooled}}}"#
        )
    }

    #[test]
    fn writes_what_it_reads() {
        for spooled in ["", r#","spooled":false"#] {
            let text = part(spooled);
            let line = Line::parse(&text).unwrap().unwrap();
            assert_eq!(line.text().unwrap(), text + "\n");
        }
    }

    #[test]
    fn ignores_unknown_fields_and_tells_unknown_types() {
        let text = part(r#","colour":"blue","window":"22:00-06:00""#);
        assert!(matches!(Line::parse(&text), Ok(Some(Line::Part(_)))));
        assert_eq!(Stamp::parse(&text).unwrap().window.as_deref(), Some("22:00-06:00"));
        assert_eq!(Line::parse(r#"{"type":"colour"}"#), Ok(None));
        assert_eq!(Line::parse(r#"{"type":"colour","v":"beta"}"#), Ok(None));
    }

    #[test]
    fn says_what_is_wrong_with_a_line() {
        for (text, reason) in [
            ("", "not a JSON object"),
            ("17", "not a JSON object"),
            ("[]", "not a JSON object"),
            ("{}", "no \"type\""),
            (r#"{"type":"part""#, "a torn line"),
            (r#"{"type":"volume","stream":"00112233445566778899aabbccddeeff"}"#, "no \"volume\""),
            (
                r#"{"type":"volume","stream":"../etc"}"#,
                "a stream id is 32 lower-case hexadecimal digits",
            ),
            (
                r#"{"type":"stored","v":2}"#,
                "stored: version 2 is newer than this program, which knows 1",
            ),
            (
                r#"{"type":"archive","v":4294967296}"#,
                "archive: version 4294967296 is newer than this program, which knows 1",
            ),
            (r#"{"type":"end","type":"part"}"#, "\"type\" twice"),
        ] {
            assert_eq!(Line::parse(text).unwrap_err(), reason, "{text}");
        }
    }

    #[test]
    fn a_filter_is_short_and_printable_and_no_secret() {
        for text in ["age -r age1qqq", &"x".repeat(512), "zstd -3 | age -r \"a\\b\""] {
            assert_eq!(text.parse::<Filter>().unwrap().as_str(), text);
        }
        let bad = ["", " ", "a\n", "\u{1b}[31m", "é", &"x".repeat(513)];
        for text in bad {
            let why = text.parse::<Filter>().unwrap_err();
            assert_eq!(why, "a filter is 1 to 512 printable ASCII characters", "{text}");
        }
        for text in ["age -i AGE-SECRET-KEY-1QQQ", "age-secret-key-1qqq"] {
            let why = text.parse::<Filter>().unwrap_err();
            assert!(!why.contains("QQQ") && why.contains("secret key"), "{why}");
        }
    }

    #[test]
    fn a_failed_line_always_fits() {
        let failed = Failed::new(None, &Error::Data("\u{1}é".repeat(5000)));
        assert!(Line::Failed(failed).text().unwrap().len() <= MAX);
    }

    #[test]
    fn reads_no_more_than_a_line_may_have() {
        let long = "x".repeat(3 * MAX);
        let fits = "y".repeat(MAX - 1);
        let input = format!("\n  \n{long}\n{fits}\nlast");
        let mut reader = Reader::new(input.as_bytes());
        assert_eq!(reader.read().unwrap(), Some(Text::Bad("longer than 4096 bytes".to_owned())));
        assert_eq!((reader.number, reader.start), (3, 4));
        assert_eq!(reader.read().unwrap(), Some(Text::Line(fits)));
        assert_eq!((reader.number, reader.start), (4, 5 + 3 * MAX as u64));
        assert_eq!(reader.read().unwrap(), Some(Text::Line("last".to_owned())));
        assert_eq!(reader.read().unwrap(), None);
        assert!(matches!(Reader::new(&b"\xff\n"[..]).read(), Ok(Some(Text::Bad(_)))));
    }
}
