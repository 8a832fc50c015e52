//! Why one attempt at a call failed.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;

use crate::error::Error;

/// Why one attempt at a call failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The network or the service's mood; the same call may work later.
    Passing(String),
    /// As [`Failure::Passing`], and fewer requests at once may help: a
    /// timeout, a 408, throttling. The time is what the service asks to wait
    /// (Retry-After), if it says.
    Overload(String, Option<Duration>),
    /// There is no capacity for expedited retrievals now; another tier has
    /// some.
    Capacity(String),
    /// The account's data retrieval policy allows no more for now.
    Policy(String),
    /// The credentials have expired, or the service does not take them.
    Credentials(String),
    /// The service knows who asks, and does not let them.
    Denied(String),
    /// The place, upload, archive or job is not there.
    Missing(String),
    /// The service refuses, and will refuse again.
    Refused(String),
    /// As [`Failure::Refused`], for what is asked does not fit the state of
    /// things: a vault, say, is not proven empty.
    Invalid(String),
    /// Something stands already where this was to be made.
    Exists(String),
    /// The place is in that region.
    Elsewhere(String),
    /// The archive must be brought up before it can be read.
    Archived(String),
    /// A lock keeps the archive, until then if that is told.
    Locked(Option<Timestamp>),
    /// The bytes or the hash that came back are not what they must be.
    Damaged(String),
    /// The service's list does not end.
    Endless(String),
    /// Reading the body failed here.
    Local(String),
    /// What is configured must not be done; nothing was sent.
    Unsafe(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passing(text)
            | Self::Overload(text, _)
            | Self::Capacity(text)
            | Self::Policy(text)
            | Self::Credentials(text)
            | Self::Denied(text)
            | Self::Missing(text)
            | Self::Refused(text)
            | Self::Invalid(text)
            | Self::Exists(text)
            | Self::Archived(text)
            | Self::Damaged(text)
            | Self::Endless(text)
            | Self::Local(text)
            | Self::Unsafe(text) => f.write_str(text),
            Self::Elsewhere(region) => write!(f, "is in {region}; use --region {region}"),
            Self::Locked(Some(until)) => write!(f, "is locked until {until}"),
            Self::Locked(None) => f.write_str("is locked"),
        }
    }
}

impl Failure {
    /// An overload of which the service does not say how long it lasts.
    pub fn overload(why: impl Into<String>) -> Self {
        Self::Overload(why.into(), None)
    }

    /// The error that ends the work on `thing`.
    pub fn on(self, thing: &str) -> Error {
        let text = format!("{thing}: {self}");
        match self {
            Self::Passing(_)
            | Self::Overload(..)
            | Self::Capacity(_)
            | Self::Policy(_)
            | Self::Archived(_) => Error::Unfinished(format!("{text}; run the same command again")),
            Self::Credentials(_) | Self::Denied(_) => Error::Credentials(text),
            Self::Missing(_)
            | Self::Refused(_)
            | Self::Invalid(_)
            | Self::Exists(_)
            | Self::Locked(_) => Error::Refused(text),
            Self::Damaged(_) | Self::Endless(_) => Error::Data(text),
            Self::Elsewhere(_) => Error::Configuration(text),
            Self::Unsafe(text) => Error::Configuration(text),
            Self::Local(text) => {
                Error::io(format!("{thing}: cannot read"), std::io::Error::other(text))
            }
        }
    }
}

/// The result of one attempt.
pub type Attempt<T> = Result<T, Failure>;
