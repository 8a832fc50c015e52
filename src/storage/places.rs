//! Places: what archives are stored in, and who may do what there.

use jiff::Timestamp;

use super::{Destination, Reply};

/// What was asked of a place's settings, which not everybody may ask.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Told<T> {
    /// The service says so.
    Is(T),
    /// Who asks may not know.
    Denied,
}

/// What the service says of a place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Described {
    /// Its name.
    pub name: String,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// When its inventory was last made; the two numbers are of then.
    pub inventory: Option<Timestamp>,
    /// How many archives it held.
    pub archives: u64,
    /// Their bytes.
    pub size: u64,
}

/// What a place does to archives by itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    /// The names that it is for begin so.
    pub prefix: String,
    /// It deletes them after so many days.
    pub deletes: Option<u32>,
    /// It changes their class after so many days.
    pub changes: Option<u32>,
    /// It drops uploads that are not finished after so many days.
    pub aborts: Option<u32>,
}

/// The places themselves. Every call is a single attempt.
#[expect(
    async_fn_in_trait,
    reason = "the tools run their futures on one thread, so none has to be Send"
)]
pub trait Places: Destination {
    /// What the service says of this place.
    async fn describe(&self) -> Reply<Described>;

    /// Creates it; one that is there is no failure.
    async fn create(&self) -> Reply<()>;

    /// Deletes it. The service refuses what it does not know to be empty.
    async fn remove(&self) -> Reply<()>;

    /// Gives all places of the account in this region to `each`.
    async fn places(&self, each: &mut dyn FnMut(Described)) -> Reply<()>;

    /// Whether a lock, be it complete or in the making, may forbid what the
    /// user's rights allow.
    async fn has_lock(&self) -> Reply<Told<bool>>;

    /// Whether what is deleted stays as an older version.
    async fn keeps_versions(&self) -> Reply<Told<bool>>;

    /// What it does to archives by itself.
    async fn rules(&self) -> Reply<Told<Vec<Rule>>>;
}
