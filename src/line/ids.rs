//! What names things in lines: streams, snapshots, filters, formats.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

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
        Borrowed::deserialize(deserializer)?.0.parse().map_err(D::Error::custom)
    }
}

/// A text of a line where it stands; only what has escapes is copied.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(transparent)]
pub struct Borrowed<'a>(#[serde(borrow)] Cow<'a, str>);

impl AsRef<str> for Borrowed<'_> {
    fn as_ref(&self) -> &str {
        &self.0
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
        let text = Borrowed::deserialize(deserializer)?.0;
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
        <Cow<'de, str>>::deserialize(deserializer)?.parse().map_err(D::Error::custom)
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

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
pub(super) fn is_true(value: &bool) -> bool {
    *value
}

pub(super) fn yes() -> bool {
    true
}

pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
