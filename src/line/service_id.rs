//! What a service calls an archive, an upload or a job.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::line::key::Key;

/// The service's name for an archive, an upload or a job. It becomes a piece
/// of a request's path, so one of another grammar is none, wherever it comes
/// from: a vault's are 1 to 255 letters, digits, `_` and `-`; in a bucket an
/// archive is named by its [`Key`], and an upload by that and what the service
/// calls it, as in `KEY?uploadId=ID`. `S` is what holds the text.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize)]
#[serde(transparent)]
pub struct Id<S = String>(S);

impl Id {
    /// Characters of a vault's, at most.
    pub const LONGEST: usize = 255;

    /// Characters of what a bucket's service calls an upload, at most.
    const UPLOAD: usize = 1024;

    /// The name of an archive in a bucket.
    pub fn of(key: Key) -> Self {
        Self(key.to_string())
    }

    /// The name of an upload that is to be an archive in a bucket.
    ///
    /// # Errors
    /// When the service's name for it is none.
    pub fn of_upload(key: Key, upload: &str) -> Result<Self, String> {
        format!("{key}{QUERY}{upload}").parse()
    }

    /// The archive in a bucket that it names, and the upload, if it is one.
    pub fn in_bucket(&self) -> Option<(Key, Option<&str>)> {
        in_bucket(&self.0)
    }
}

/// What stands between a key and an upload.
const QUERY: &str = "?uploadId=";

/// Reads the name of an archive, or of an upload, in a bucket.
fn in_bucket(text: &str) -> Option<(Key, Option<&str>)> {
    let (key, upload) = match text.split_once(QUERY) {
        Some((key, upload)) => (key, Some(upload)),
        None => (text, None),
    };
    let is_good = |upload: &str| {
        (1..=Id::UPLOAD).contains(&upload.len()) && upload.bytes().all(|b| b.is_ascii_graphic())
    };
    upload.is_none_or(is_good).then_some(())?;
    Some((key.parse().ok()?, upload))
}

impl<S: AsRef<str>> Id<S> {
    /// The text.
    pub fn as_str(&self) -> &str {
        self.0.as_ref()
    }

    fn check(text: S) -> Result<Self, String> {
        let is_good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
        match text.as_ref() {
            id if (1..=Id::LONGEST).contains(&id.len()) && id.bytes().all(is_good) => {
                Ok(Self(text))
            }
            id if in_bucket(id).is_some() => Ok(Self(text)),
            _ => Err(format!("an id is 1 to {} letters, digits, \"_\" or \"-\"", Id::LONGEST)),
        }
    }
}

impl FromStr for Id {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::check(text.to_owned())
    }
}

#[cfg(test)]
impl From<&str> for Id {
    fn from(text: &str) -> Self {
        text.parse().unwrap()
    }
}

#[cfg(test)]
impl PartialEq<&str> for Id {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

#[cfg(test)]
impl From<String> for Id {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl<'de, S: AsRef<str> + Deserialize<'de>> Deserialize<'de> for Id<S> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::check(S::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl<S: AsRef<str>> AsRef<str> for Id<S> {
    fn as_ref(&self) -> &str {
        self.0.as_ref()
    }
}

impl<S: AsRef<str>> std::ops::Deref for Id<S> {
    type Target = str;

    fn deref(&self) -> &str {
        self.0.as_ref()
    }
}

impl std::borrow::Borrow<str> for Id {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Id> for Box<str> {
    fn from(id: Id) -> Self {
        id.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_that_of_a_vault_or_of_a_bucket() {
        let key = format!("volumes/{}/0/00000.volume", "5".repeat(32));
        let upload = format!("{key}?uploadId=2~a.b_c-d/e+f==");
        for good in ["a", "-_", &"x".repeat(255), &key, &upload] {
            assert!(good.parse::<Id>().is_ok(), "{good}");
        }
        let id: Id = upload.parse().unwrap();
        let (at, of) = id.in_bucket().unwrap();
        assert_eq!((at.to_string(), of), (key.clone(), Some("2~a.b_c-d/e+f==")));
        assert_eq!(Id::of_upload(at, "2~a.b_c-d/e+f=="), Ok(id));
        for bad in [
            "",
            "a/b",
            "../a",
            &"x".repeat(256),
            &format!("{key}?uploadId="),
            &format!("{key}?uploadId=a b"),
            &format!("{key}?uploadId=a\n"),
            &format!("{key}?uploadId={}", "x".repeat(1025)),
            &format!("x{key}"),
            "a?uploadId=b",
        ] {
            assert!(bad.parse::<Id>().is_err(), "{bad}");
        }
    }
}
