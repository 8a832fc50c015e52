//! To store: an upload takes parts, and becomes an archive.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::rate_limit::Pace;
use super::{Destination, Reply};
use crate::hash::tree::Hash;
use crate::line::Id;
use crate::line::description::Description;

/// How an archive is to be kept. What is absent is as the place has it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Terms {
    /// The service's name of a storage class.
    pub class: Option<String>,
    /// Nobody may delete it before.
    pub lock: Option<Lock>,
    /// What bills are sorted by.
    pub tags: Vec<(String, String)>,
}

/// How long nobody may delete an archive.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lock {
    /// Not before this.
    pub until: Timestamp,
    /// Not even who has a right of their own to do so.
    pub compliance: bool,
}

/// An upload that was begun.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Begun {
    /// By what the service knows it.
    pub upload: Id,
    /// When the service drops it, finished or not.
    pub lapses: Option<Timestamp>,
}

/// A part's bytes in an open file, with the hashes that the service is told.
#[derive(Clone, Debug)]
pub struct Body {
    /// The file; each attempt reads it by position.
    pub file: Arc<File>,
    /// Where the part begins in the file.
    pub start: u64,
    /// Bytes.
    pub size: u64,
    /// Its tree hash.
    pub treehash: Hash,
    /// Its SHA-256 hash.
    pub sha256: Hash,
    /// Bytes that have been taken from the file, for progress and for the
    /// watchdog.
    pub taken: Arc<AtomicU64>,
    /// How fast they may go.
    pub pace: Pace,
}

/// Where a part stands in its archive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Its number, from 0.
    pub part: u32,
    /// Where it begins.
    pub offset: u64,
}

/// A hash that the service computed, of the bytes that it has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Proof {
    /// The tree hash.
    Tree(Hash),
    /// The SHA-256 hash of a part; of an archive, that of its parts' hashes.
    Sha256(Hash),
}

/// A part that the service took.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Sent {
    /// What it says that it has.
    pub proof: Option<Proof>,
    /// What it calls the part; the archive is made of these names.
    pub tag: Option<String>,
}

/// A part that the service holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Held {
    /// Where it begins in the archive.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
    /// What the service says of it.
    pub sent: Sent,
}

impl Held {
    /// Whether it is the part of this size and these hashes; none, where the
    /// service does not say what it has.
    pub fn is(&self, size: u64, treehash: Hash, sha256: Hash) -> Option<bool> {
        if self.size != size {
            return Some(false);
        }
        self.sent.proof.map(|proof| match proof {
            Proof::Tree(hash) => hash == treehash,
            Proof::Sha256(hash) => hash == sha256,
        })
    }
}

/// A part that an archive is made of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sealed {
    /// Its SHA-256 hash.
    pub sha256: Hash,
    /// What the service called it.
    pub tag: Option<String>,
}

/// What an archive must come to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seal {
    /// Bytes.
    pub size: u64,
    /// Its tree hash.
    pub treehash: Hash,
    /// The SHA-256 hash of its parts' SHA-256 hashes; absent where it was
    /// asked for by a version that did not write it down.
    pub composite: Option<Hash>,
    /// Its parts, in order. None of them where a run asks again for what an
    /// earlier one asked: the service lists them.
    pub parts: Arc<[Sealed]>,
}

impl Seal {
    /// The seal of an archive of these parts.
    pub fn of(size: u64, treehash: Hash, parts: Arc<[Sealed]>) -> Self {
        let composite = Some(composite(parts.iter().map(|part| part.sha256)));
        Self { size, treehash, composite, parts }
    }
}

/// The SHA-256 hash of the SHA-256 hashes of parts, which is what S3 knows an
/// archive by (Amazon S3 user guide, "Checking object integrity").
pub fn composite(parts: impl IntoIterator<Item = Hash>) -> Hash {
    let mut composite = Sha256::new();
    parts.into_iter().for_each(|part| composite.update(part.0));
    Hash(composite.finalize().into())
}

/// An archive, as far as the service shows it: what it does not show has no
/// value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    /// The service's name for it.
    pub id: Id,
    /// Which of the versions of that name.
    pub version: Option<String>,
    /// Bytes.
    pub size: Option<u64>,
    /// What the service computed of it.
    pub checksum: Option<Proof>,
    /// What it calls these bytes.
    pub tag: Option<String>,
    /// Its storage class.
    pub class: Option<String>,
    /// What keeps it from being deleted.
    pub lock: Option<Lock>,
    /// When a rule of the place deletes it.
    pub expires: Option<Timestamp>,
    /// The description that it was given.
    pub described: Option<String>,
    /// When it was made.
    pub at: Option<Timestamp>,
}

impl Seen {
    /// An archive of which no more is shown than its name.
    pub fn of(id: Id) -> Self {
        Self {
            id,
            version: None,
            size: None,
            checksum: None,
            tag: None,
            class: None,
            lock: None,
            expires: None,
            described: None,
            at: None,
        }
    }
}

/// Whether an archive is there whose making had no answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Lookup {
    /// It is there, and all that was asked for.
    Same(Seen),
    /// It is listed, with the right size; more must not be asked.
    Listed(Seen),
    /// Something else is there, and what.
    Other(String),
    /// What the service knew then did not have it.
    Absent {
        /// When that was.
        as_of: Timestamp,
    },
    /// The service must be asked later, with this ticket if there is one.
    Later(Option<Id>),
}

/// Storing. Every call is a single attempt.
#[expect(
    async_fn_in_trait,
    reason = "the tools run their futures on one thread, so none has to be Send"
)]
pub trait Uploads: Destination {
    /// How many archives the place holds, as far as that is known; none is
    /// nothing at all.
    async fn holds(&self) -> Reply<u64>;

    /// Begins an upload in parts of `part_size` bytes.
    async fn begin(&self, about: &Description, part_size: u64, terms: &Terms) -> Reply<Begun>;

    /// Sends a part. Sending it again replaces it.
    async fn send(&self, upload: &Id, place: Place, body: &Body) -> Reply<Sent>;

    /// The parts, of `part_size` bytes, that the service holds of an upload.
    async fn held(&self, upload: &Id, part_size: u64) -> Reply<Vec<Held>>;

    /// Makes an archive of an upload, which comes to what the seal says. For
    /// a short time it is safe to repeat.
    async fn complete(&self, upload: &Id, seal: &Seal) -> Reply<Seen>;

    /// Whether an upload became an archive, when its making had no answer.
    async fn look_up(&self, about: &Description, seal: &Seal, ticket: Option<&Id>)
    -> Reply<Lookup>;

    /// Drops an upload and its parts; one that is gone is no failure.
    async fn abort(&self, upload: &Id) -> Reply<()>;
}
