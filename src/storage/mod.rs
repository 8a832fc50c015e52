//! Destinations: what one must be able to do, and what can go wrong there.
//!
//! The tools are written against four traits: [`Uploads`], [`Retrievals`],
//! [`Listings`] and [`Places`]. A caller asks a question (is it there? can it
//! be read?), and what it is given to ask again with, a ticket or an upload,
//! is opaque to it. What a service lacks is a limit without a value, never a
//! branch in a tool. Every call is one attempt: patience is `retry`'s, so that
//! the window and the user's patience decide, not a library.
//!
//! `glacier` is Amazon Glacier's vault service, `s3` Amazon S3 and what speaks
//! like it. `conformance` runs every call against each implementor.

#[cfg(feature = "aws")]
pub mod aws;
pub mod class;
pub mod concurrency;
mod dest;
mod failure;
#[cfg(feature = "glacier")]
pub mod glacier;
mod limits;
mod listings;
pub mod pages;
mod places;
pub mod rate_limit;
mod retrievals;
pub mod retry;
#[cfg(feature = "s3")]
pub mod s3;
#[cfg(feature = "aws")]
mod service;
mod uploads;

use jiff::Timestamp;

pub use self::class::Tier;
pub use self::dest::Dest;
pub use self::failure::{Attempt, Failure};
pub use self::limits::{BUCKET, Limits, VAULT};
pub use self::listings::{Freed, Inventoried, Inventory, Listing, Listings, Unfinished};
pub use self::places::{Described, Places, Rule, Told};
pub use self::retrievals::{
    Job, JobState, Readiness, Requested, Retrievals, Sought, Span, Unit, Want,
};
#[cfg(feature = "aws")]
pub use self::service::Service;
pub use self::uploads::{
    Begun, Body, Held, Lock, Lookup, Place, Proof, Seal, Sealed, Seen, Sent, Terms, Uploads,
    composite,
};

/// What the service answered, and when by its own clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answer<T> {
    /// The Date of the answer; this machine's time where it has none.
    pub at: Timestamp,
    /// What it says.
    pub value: T,
}

impl<T> Answer<T> {
    /// The same answer, read.
    pub fn map<U>(self, read: impl FnOnce(T) -> U) -> Answer<U> {
        Answer { at: self.at, value: read(self.value) }
    }
}

/// What one call came to.
pub type Reply<T> = Attempt<Answer<T>>;

/// What all traits stand on: who is asked.
pub trait Destination {
    /// The destination.
    fn dest(&self) -> &Dest;

    /// The region it is in.
    fn region(&self) -> &str;

    /// What it takes.
    fn limits(&self) -> &Limits;
}
