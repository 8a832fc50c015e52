//! What is there: archives, uploads that are not finished, and their end.

use jiff::Timestamp;

use super::{Destination, Proof, Reply, Seen};
use crate::hash::tree::Hash;
use crate::line::{Archive, Described, Id};

/// A list of all archives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Listing {
    /// It was given, and is as of then; what was stored later is not in it.
    AsOf(Timestamp),
    /// It must be asked for later, with this ticket.
    Later(Id),
    /// The service has none yet.
    NoneYet,
    /// The one of the ticket has failed, and why.
    Failed(String),
}

/// An upload that is not finished.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unfinished {
    /// The service's name for it.
    pub id: Id,
    /// What its archive will be of.
    pub of: Described,
    /// When it was begun.
    pub created: Timestamp,
    /// Bytes in a part.
    pub part_size: u64,
}

/// What a deletion came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Freed {
    /// The archive is gone.
    Freed,
    /// It is hidden, and there.
    Marker,
    /// A lock keeps it.
    Locked(Timestamp),
}

/// An archive as a list has it, with all that a rebuild needs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Inventoried {
    /// The service's name for it.
    pub archive_id: Id,
    /// What it is of, as its description says or its name.
    pub of: Described,
    /// Bytes.
    pub size: u64,
    /// What the service computed of it, where it does.
    pub checksum: Option<Proof>,
    /// What the service calls these bytes, where it does.
    pub tag: Option<String>,
    /// Its storage class, where there are any.
    pub class: Option<String>,
    /// When it was completed.
    pub created: Timestamp,
}

impl Inventoried {
    /// The tree hash that the service computed, where it does.
    pub fn treehash(&self) -> Option<Hash> {
        match self.checksum {
            Some(Proof::Tree(hash)) => Some(hash),
            _ => None,
        }
    }

    /// Whether it is the archive of this line, as far as the list shows it.
    pub fn is(&self, line: &Archive) -> bool {
        let has = |theirs: Option<&str>, ours: Option<&str>| {
            theirs.is_none() || ours.is_none() || theirs == ours
        };
        self.size == line.size
            && self.treehash().is_none_or(|hash| hash == line.treehash)
            && has(self.tag.as_deref(), line.etag.as_deref())
    }

    /// What a list shows of an archive, if that is all that is needed.
    pub fn of(seen: Seen) -> Option<Self> {
        let of = match (seen.described, seen.id.in_bucket()) {
            (Some(text), _) => Described::of(&text),
            (None, Some((key, _))) => Described::by(key),
            (None, None) => Described::of(""),
        };
        Some(Self {
            archive_id: seen.id,
            of,
            size: seen.size?,
            checksum: seen.checksum,
            tag: seen.tag,
            class: seen.class,
            created: seen.at?,
        })
    }
}

/// What a place holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Inventory {
    /// When the service made the list; what was stored later is not in it.
    pub made: Timestamp,
    /// What was there then.
    pub archives: Vec<Inventoried>,
}

/// Looking, and deleting. Every call is a single attempt.
#[expect(
    async_fn_in_trait,
    reason = "the tools run their futures on one thread, so none has to be Send"
)]
pub trait Listings: Destination {
    /// Gives all archives to `each`, if a list can be had now; the ticket is
    /// that of an earlier call.
    async fn list(&self, ticket: Option<&Id>, each: &mut dyn FnMut(Seen)) -> Reply<Listing>;

    /// Gives all uploads that are not finished to `each`.
    async fn unfinished(&self, each: &mut dyn FnMut(Unfinished)) -> Reply<()>;

    /// What the service shows of one archive; nothing, where only lists do.
    async fn inspect(&self, archive: &Id, version: Option<&str>) -> Reply<Option<Seen>>;

    /// Keeps an archive from being deleted before `until`; the time before
    /// which nobody can now. None where the service has no such locks.
    async fn extend_lock(
        &self,
        archive: &Id,
        version: Option<&str>,
        until: Timestamp,
    ) -> Reply<Option<Timestamp>>;

    /// Deletes an archive; one that is not there is no failure. `bypass` uses
    /// a right to delete what is locked, if there is one.
    async fn delete(&self, archive: &Id, version: Option<&str>, bypass: bool) -> Reply<Freed>;
}
