//! To bring back: archives are asked for, are ready hours later, and are read.

use jiff::Timestamp;

use super::{Destination, Failure, Reply, Tier};
use crate::line::Id;

/// A run of bytes of an archive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// Where it begins.
    pub offset: u64,
    /// Bytes, at least one.
    pub size: u64,
}

/// What asking for a span of an archive brings up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// That span.
    Span,
    /// The whole archive.
    Whole,
    /// Nothing: it can be read as it is.
    Readable,
}

/// What is wanted of an archive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Want<'a> {
    /// The service's name for it.
    pub archive: &'a Id,
    /// Which of the versions of that name, where that is known.
    pub version: Option<&'a str>,
    /// What the service calls its bytes, where that is known.
    pub tag: Option<&'a str>,
    /// Its storage class, where that is known.
    pub class: Option<&'a str>,
    /// What of it is to be brought up, unless that is all. It begins at a
    /// whole MiB, and ends at one or with the archive.
    pub span: Option<Span>,
}

impl<'a> Want<'a> {
    /// All of an archive of which no more is known.
    pub fn of(archive: &'a Id) -> Self {
        Self { archive, version: None, tag: None, class: None, span: None }
    }
}

/// An archive that may be on its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sought<'a> {
    /// What is wanted.
    pub want: Want<'a>,
    /// A ticket that was given for it, in this run or before.
    pub ticket: Option<&'a Id>,
    /// Tickets that have come to nothing; they may still be listed as ready.
    pub gone: &'a [Id],
}

/// How far an archive is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Readiness {
    /// Nobody asked for it.
    Cold,
    /// It was asked for.
    Coming {
        /// By what it can be asked after.
        ticket: Id,
        /// When it was asked for.
        since: Option<Timestamp>,
        /// How quickly it is brought up.
        tier: Option<Tier>,
    },
    /// It can be read.
    Ready {
        /// By what it is read.
        ticket: Id,
        /// When it was asked for.
        since: Option<Timestamp>,
        /// How quickly it was brought up.
        tier: Option<Tier>,
        /// When it cannot be read any more.
        until: Option<Timestamp>,
    },
    /// What the ticket stands for has failed or is not known, and nothing
    /// else brings the archive up.
    Failed(String),
}

/// What a request for an archive came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Requested {
    /// It is being brought up from now on.
    Begun(Id),
    /// It was before; the request cost nothing.
    UnderWay(Id),
    /// It can be read.
    Readable(Id),
}

/// What the service brings up, or has: an archive, or a list of all.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Job {
    /// The service's name for it.
    pub id: Id,
    /// The archive it brings up; absent for an inventory.
    pub archive_id: Option<Id>,
    /// The part of the archive that it brings up, unless that is all of it.
    pub range: Option<Span>,
    /// How far it is.
    pub state: JobState,
    /// How quickly the archive is brought up; inventories have no tier.
    pub tier: Option<Tier>,
    /// When it was asked for.
    pub created: Option<Timestamp>,
    /// When its output was ready.
    pub completed: Option<Timestamp>,
    /// Bytes of its output, once they are known.
    pub size: Option<u64>,
    /// An inventory of some archives only, or in another form than JSON:
    /// another program asked for it, and it is of no use here.
    pub partial: bool,
}

/// How far a job is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum JobState {
    /// Its output is not ready.
    Waiting,
    /// Its output can be fetched, for about a day.
    Ready,
    /// It failed, and why.
    Failed(String),
}

/// Bringing back. Every call is a single attempt.
#[expect(
    async_fn_in_trait,
    reason = "the tools run their futures on one thread, so none has to be Send"
)]
pub trait Retrievals: Destination {
    /// What asking for a span brings up, of an archive of this class.
    fn unit(&self, class: Option<&str>) -> Unit;

    /// How far archives are, in their order.
    async fn readiness(&self, sought: &[Sought<'_>]) -> Reply<Vec<Readiness>>;

    /// Asks for an archive; what was brought up is to be kept for so many
    /// days, where the service lets one choose.
    async fn request(&self, want: Want<'_>, tier: Tier, days: u16) -> Reply<Requested>;

    /// All that is being brought up or can be read, whoever asked for it, a
    /// page at a time.
    async fn under_way(&self, page: &mut dyn FnMut(Vec<Job>)) -> Reply<()>;

    /// Bytes of an archive that is ready, each piece given to `sink` as it
    /// comes. Nothing of it is verified yet. `span` is within what was wanted.
    async fn read(
        &self,
        ticket: &Id,
        want: Want<'_>,
        span: Span,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Reply<()>;

    /// Whether a read failed because the archive is not up any more.
    async fn is_gone(&self, ticket: &Id, failure: &Failure) -> bool;

    /// What the account's policy allows to be brought up, in words, if that
    /// is known.
    async fn allowance(&self) -> Option<String>;
}
