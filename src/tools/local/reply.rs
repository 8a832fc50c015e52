//! What a call gives back: an answer, or a refusal in Amazon's words.

use std::borrow::Cow;
use std::fmt::Display;
use std::fs::File;
use std::io;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::readers::Kept;

/// An answer to a call.
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// Headers beside those that every answer has.
    pub headers: Vec<(&'static str, String)>,
    /// What follows them.
    pub body: Body,
}

/// The body of an answer.
pub enum Body {
    /// Nothing.
    Empty,
    /// A JSON value.
    Json(Value),
    /// Text that no call of the service answers with.
    Text(String),
    /// Bytes on disk, read while they are sent.
    Stored(Stored),
}

/// A run of bytes on disk.
pub struct Stored {
    /// Where they are.
    pub source: Source,
    /// The first byte.
    pub start: u64,
    /// How many.
    pub size: u64,
}

/// What bytes are read from. It stays until they are, whatever other calls do.
pub enum Source {
    /// One file.
    File(File),
    /// The parts of an archive, each `part_size` long but the last. They are
    /// too many to be open at once.
    Parts {
        /// Where the archive's directory is, or will be when it is deleted.
        dirs: [PathBuf; 2],
        /// The size of its parts.
        part_size: u64,
        /// Keeps them.
        kept: Kept,
    },
}

impl Reply {
    /// An answer without a body.
    pub fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Body::Empty }
    }

    /// A JSON answer.
    pub fn json(value: Value) -> Self {
        Self { status: 200, headers: Vec::new(), body: Body::Json(value) }
    }

    /// The same answer with one more header.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// A refused call: Amazon's code and status, and a sentence.
#[derive(Debug)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// `ResourceNotFoundException` and its like.
    pub code: Cow<'static, str>,
    /// What is wrong, for a person.
    pub message: String,
    /// Why this machine failed, for the person who runs the server; not sent.
    pub reason: Option<String>,
}

/// The result of a call.
pub type Answer<T = Reply> = Result<T, Refusal>;

impl Refusal {
    /// Any refusal.
    pub fn new(
        status: u16,
        code: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) -> Self {
        Self { status, code: code.into(), message: message.into(), reason: None }
    }

    /// A value breaks a rule.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(400, "InvalidParameterValueException", message)
    }

    /// A header or field that must be there is not.
    pub fn missing(name: &str) -> Self {
        Self::new(
            400,
            "MissingParameterValueException",
            format!("Required parameter missing: {name}"),
        )
    }

    /// There is no such thing.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(404, "ResourceNotFoundException", message)
    }

    /// A quota is used up.
    pub fn limit(message: impl Into<String>) -> Self {
        Self::new(400, "LimitExceededException", message)
    }

    /// A lock or a policy forbids it.
    pub fn denied(message: impl Into<String>) -> Self {
        Self::new(403, "AccessDeniedException", message)
    }

    /// This machine failed: a full or broken disk.
    pub fn broken(thing: &str, reason: impl Display) -> Self {
        Self {
            reason: Some(format!("{thing}: {reason}")),
            ..Self::new(500, "ServiceUnavailableException", "Service unavailable, please try again")
        }
    }

    /// The JSON body of the refusal.
    pub fn body(&self) -> Value {
        let fault = if self.status < 500 { "Client" } else { "Server" };
        json!({ "code": self.code, "message": self.message, "type": fault })
    }
}

/// For `map_err`: a failed system call on `thing`.
pub fn broken(thing: &str) -> impl FnOnce(io::Error) -> Refusal + use<'_> {
    move |e| Refusal::broken(thing, e)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_has_the_body_that_amazon_documents() {
        assert_eq!(
            Refusal::not_found("no vault").body(),
            json!({"code": "ResourceNotFoundException", "message": "no vault", "type": "Client"})
        );
        assert_eq!(Refusal::broken("disk", "full").body()["type"], "Server");
    }
}
