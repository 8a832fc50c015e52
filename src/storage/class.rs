//! Storage classes: how quickly an archive comes up, and for how many days it
//! is paid. What that costs is in a table of prices.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

/// How quickly, and for how much money, an archive is brought up.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Deserialize)]
pub enum Tier {
    /// Minutes.
    Expedited,
    /// Hours.
    #[default]
    Standard,
    /// Half a day.
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

/// A storage class.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Class {
    /// Days of storage that are paid for even if an archive is deleted before.
    pub minimum_days: u16,
    /// Bytes that are billed for an archive beside its own.
    pub overhead: u64,
    /// Minutes from the request to the output, at least and at most: of
    /// Expedited, Standard and Bulk. None for a tier that it does not have.
    minutes: [Option<(u64, u64)>; 3],
}

/// A vault of Amazon Glacier (its developer guide, "Archive Retrieval
/// Options"; its pricing page has the days and the bytes).
pub const VAULT: Class = Class {
    minimum_days: 90,
    overhead: 32 << 10,
    minutes: [Some((1, 5)), Some((3 * 60, 5 * 60)), Some((5 * 60, 12 * 60))],
};

/// Classes of a bucket whose archives can be read as they are (Amazon S3 user
/// guide, "Understanding and managing Amazon S3 storage classes").
const READABLE: [&str; 5] =
    ["STANDARD", "STANDARD_IA", "ONEZONE_IA", "GLACIER_IR", "REDUCED_REDUNDANCY"];

/// The class of a bucket that brings up nothing within minutes.
pub const DEEP: &str = "DEEP_ARCHIVE";

/// Whether what is of a class of a bucket can be read as it is.
pub fn is_readable(class: &str) -> bool {
    READABLE.contains(&class)
}

/// The tier of a class, where nobody says: what costs an eighth of the next
/// one, where that takes half as long.
pub fn usual_tier(class: Option<&str>) -> Tier {
    if class == Some(DEEP) { Tier::Bulk } else { Tier::Standard }
}

/// Minutes from the request to the output of what is of a class of a bucket, or
/// of a vault, at least and at most; none for a tier that it does not have
/// (Amazon S3 user guide, "Archive retrieval options").
pub fn minutes(class: Option<&str>, tier: Tier) -> Option<(u64, u64)> {
    match (class, tier) {
        (Some(class), _) if is_readable(class) => Some((0, 0)),
        (Some(DEEP), Tier::Expedited) => None,
        (Some(DEEP), Tier::Standard) => Some((0, 12 * 60)),
        (Some(DEEP), Tier::Bulk) => Some((0, 48 * 60)),
        _ => VAULT.minutes(tier),
    }
}

impl Class {
    /// Minutes from the request to the output, at least and at most; none for
    /// a tier that it does not have.
    pub fn minutes(&self, tier: Tier) -> Option<(u64, u64)> {
        let [expedited, standard, bulk] = self.minutes;
        match tier {
            Tier::Expedited => expedited,
            Tier::Standard => standard,
            Tier::Bulk => bulk,
        }
    }
}
