//! Destinations: what one must be able to do, and what can go wrong there.
//!
//! put and get are written against [`Vault`]; `glacier` is Amazon Glacier's
//! vault service. Every call is one attempt: patience is `retry`'s, so that
//! the window and the user's patience decide, not a library.

#[cfg(feature = "glacier")]
pub mod aws;
pub mod concurrency;
#[cfg(feature = "glacier")]
pub mod glacier;
pub mod rate_limit;
pub mod retry;

use std::fmt;
use std::fs::File;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use jiff::Timestamp;

use self::rate_limit::Pace;
use crate::error::Error;
use crate::hash::tree::Hash;

/// Where archives are stored, as a URL.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Dest {
    /// `glacier://VAULT`; a bare word means this.
    Glacier {
        /// The vault's name: 1 to 255 of `a-zA-Z0-9_.-` (Amazon Glacier API
        /// reference, "Create Vault").
        vault: String,
    },
}

impl FromStr for Dest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let vault = match text.split_once("://") {
            None => text,
            Some(("glacier", vault)) => vault,
            Some((scheme, _)) => {
                return Err(format!("\"{scheme}://\" is no destination here; use glacier://VAULT"));
            }
        };
        let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
        if vault.is_empty() || vault.len() > 255 || !vault.bytes().all(good) {
            return Err("a vault's name is 1 to 255 letters, digits, \"_\", \".\" or \"-\"".into());
        }
        Ok(Self::Glacier { vault: vault.to_owned() })
    }
}

impl fmt::Display for Dest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Glacier { vault } => write!(f, "glacier://{vault}"),
        }
    }
}

/// Why one attempt at a call failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The network or the service's mood; the same call may work later.
    Passing(String),
    /// As [`Failure::Passing`], and fewer requests at once may help: a
    /// timeout, a 408, throttling.
    Overload(String),
    /// There is no capacity for expedited retrievals now; another tier has
    /// some.
    Capacity(String),
    /// The account's data retrieval policy allows no more for now.
    Policy(String),
    /// The credentials have expired, or the service does not take them.
    Credentials(String),
    /// The vault, upload, archive or job is not there.
    Missing(String),
    /// The service refuses, and will refuse again.
    Refused(String),
    /// The bytes or the hash that came back are not what they must be.
    Damaged(String),
    /// Reading the body failed here.
    Local(String),
    /// What is configured must not be done; nothing was sent.
    Unsafe(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passing(text)
            | Self::Overload(text)
            | Self::Capacity(text)
            | Self::Policy(text)
            | Self::Credentials(text)
            | Self::Missing(text)
            | Self::Refused(text)
            | Self::Damaged(text)
            | Self::Local(text)
            | Self::Unsafe(text) => f.write_str(text),
        }
    }
}

impl Failure {
    /// Whether the service knows who asks, and does not let them.
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Credentials(text) if text.starts_with("AccessDenied"))
    }

    /// Whether the service finds fault with what is asked: so it also says
    /// that a vault is not proven empty.
    pub fn is_invalid(&self) -> bool {
        matches!(self, Self::Refused(text) if text.starts_with("InvalidParameterValue"))
    }

    /// The error that ends the work on `thing`.
    pub fn on(self, thing: &str) -> Error {
        let text = format!("{thing}: {self}");
        match self {
            Self::Passing(_) | Self::Overload(_) | Self::Capacity(_) | Self::Policy(_) => {
                Error::Unfinished(format!("{text}; run the same command again"))
            }
            Self::Credentials(_) => Error::Credentials(text),
            Self::Missing(_) | Self::Refused(_) => Error::Refused(text),
            Self::Damaged(_) => Error::Data(text),
            Self::Unsafe(text) => Error::Configuration(text),
            Self::Local(text) => {
                Error::io(format!("{thing}: cannot read"), std::io::Error::other(text))
            }
        }
    }
}

/// The result of one attempt.
pub type Attempt<T> = Result<T, Failure>;

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

/// A part as the service lists it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Listed {
    /// Where it begins in the archive.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
    /// The tree hash that the service computed.
    pub treehash: Hash,
}

/// How quickly, and for how much money, an archive is brought up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Tier {
    /// Minutes.
    Expedited,
    /// Three to five hours.
    #[default]
    Standard,
    /// Five to twelve hours.
    Bulk,
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expedited => "Expedited",
            Self::Standard => "Standard",
            Self::Bulk => "Bulk",
        })
    }
}

impl FromStr for Tier {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Expedited, Self::Standard, Self::Bulk]
            .into_iter()
            .find(|tier| tier.to_string().eq_ignore_ascii_case(text))
            .ok_or_else(|| "a tier is Expedited, Standard or Bulk".to_owned())
    }
}

/// A run of bytes of an archive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// Where it begins.
    pub offset: u64,
    /// Bytes, at least one.
    pub size: u64,
}

/// A job that brings up an archive or an inventory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Job {
    /// The service's name for it.
    pub id: String,
    /// The archive it brings up; absent for an inventory.
    pub archive_id: Option<String>,
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

/// An archive as the inventory lists it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Inventoried {
    /// The service's name for it.
    pub archive_id: String,
    /// The description it was given.
    pub description: String,
    /// Bytes.
    pub size: u64,
    /// The tree hash that the service computed.
    pub treehash: Hash,
    /// When it was completed.
    pub created: Timestamp,
}

/// How long after an archive was stored an inventory must have been made to
/// prove that it is not there: one is made about once a day.
pub const INVENTORY_LAG: jiff::SignedDuration = jiff::SignedDuration::from_hours(26);

/// A vault's inventory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Inventory {
    /// When the service made it; what was stored later is not in it.
    pub made: Timestamp,
    /// What was in the vault then.
    pub archives: Vec<Inventoried>,
}

/// What a destination must be able to do. Every call is a single attempt.
#[expect(
    async_fn_in_trait,
    reason = "put and get run their futures on one thread, so none has to be Send"
)]
pub trait Vault {
    /// The destination.
    fn dest(&self) -> &Dest;

    /// The region it is in.
    fn region(&self) -> &str;

    /// Creates the vault, if it is not there.
    async fn create(&self) -> Attempt<()>;

    /// How many archives it held when its inventory was last made.
    async fn archives(&self) -> Attempt<u64>;

    /// Starts an upload in parts of `part_size` bytes, and gives its id.
    async fn initiate(&self, description: &str, part_size: u64) -> Attempt<String>;

    /// Sends the part that begins at `offset` of the archive. Sending it
    /// again replaces it.
    async fn send(&self, upload: &str, offset: u64, body: &Body) -> Attempt<()>;

    /// The parts that the service holds for an upload.
    async fn parts(&self, upload: &str) -> Attempt<Vec<Listed>>;

    /// Makes an archive of an upload, and gives its id. For a short time it
    /// is safe to repeat.
    async fn complete(&self, upload: &str, size: u64, treehash: Hash) -> Attempt<String>;

    /// Drops an upload and its parts; one that is gone is no failure.
    async fn abort(&self, upload: &str) -> Attempt<()>;

    /// Asks for an archive, or a range of it, to be brought up, and gives the
    /// job's id. A range begins at a whole MiB, and ends at one or with the
    /// archive.
    async fn retrieve(&self, archive: &str, range: Option<Span>, tier: Tier) -> Attempt<String>;

    /// Asks for the inventory, and gives the job's id.
    async fn request_inventory(&self) -> Attempt<String>;

    /// How far a job is.
    async fn job(&self, job: &str) -> Attempt<Job>;

    /// The jobs that the service still knows.
    async fn jobs(&self) -> Attempt<Vec<Job>>;

    /// Bytes `offset..offset + size` of a job's output, each piece given to
    /// `sink` as it comes. Nothing of it is verified yet.
    async fn fetch(
        &self,
        job: &str,
        offset: u64,
        size: u64,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Attempt<()>;

    /// The inventory that a finished job brought up.
    async fn inventory(&self, job: &str) -> Attempt<Inventory>;

    /// What the account's data retrieval policy allows, in words, if that is
    /// known.
    async fn retrieval_policy(&self) -> Option<String> {
        None
    }

    /// Whether a download failed because the output of its job is gone, or
    /// the job has failed after it was ready.
    async fn is_gone(&self, job: &str, failure: &Failure) -> bool {
        match failure {
            Failure::Missing(_) => true,
            // "Not currently available" is refused as what is wrong is.
            Failure::Refused(_) => {
                let state = self.job(job).await.map(|job| job.state);
                matches!(state, Ok(JobState::Failed(_)) | Err(Failure::Missing(_)))
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_word_is_a_vault() {
        let vault: Dest = "my-vault".parse().unwrap();
        assert_eq!(vault.to_string(), "glacier://my-vault");
        assert_eq!(vault, "glacier://my-vault".parse().unwrap());
        for bad in ["", "glacier://", "a/b", "../x", "a b", "s3://b/p", "glacier://ü"] {
            assert!(bad.parse::<Dest>().is_err(), "{bad}");
        }
        assert!("x".repeat(255).parse::<Dest>().is_ok());
        assert!("x".repeat(256).parse::<Dest>().is_err());
    }
}
