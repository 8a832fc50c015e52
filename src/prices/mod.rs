//! What the service charges: a table with its date, and sums over it.
//!
//! Prices change and differ between regions, so they are data: a file that
//! can be replaced (`--prices`), and whose date goes with every figure. A GB
//! is 2^30 bytes, as AWS bills it. Money is counted in billionths of the
//! currency, so that a price of a thousand requests loses nothing.

pub mod early_deletion;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;
use std::str::FromStr;

use jiff::civil::Date;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, Result};
use crate::storage::{Tier, class};

/// The table that this release comes with.
const TABLE: &str = include_str!("../../data/prices.json");

/// Bytes in a GB.
const GB: u64 = 1 << 30;

/// Billionths in one of the currency.
const ONE: u64 = 1_000_000_000;

/// Days in a month, as storage is billed: a year has twelve.
const YEAR: u128 = 365;

/// An amount of money, in billionths of the currency.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Money(pub u64);

impl Money {
    /// This much for each `unit` of `count`, to the billionth above.
    fn times(self, count: u128, unit: u128) -> Self {
        let sum = (u128::from(self.0) * count).div_ceil(unit);
        Self(u64::try_from(sum).unwrap_or(u64::MAX))
    }

    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl fmt::Display for Money {
    /// In hundredths, rounded up; in ten-thousandths below one, so that a
    /// small price does not look like none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places = if self.0 < ONE { 4 } else { 2 };
        let unit = ONE / 10_u64.pow(places);
        let rounded = self.0.div_ceil(unit);
        let (whole, rest) = (rounded / (ONE / unit), rounded % (ONE / unit));
        let width = usize::try_from(places).unwrap_or_default();
        write!(f, "{whole}.{rest:0width$}")
    }
}

impl FromStr for Money {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("\"{text}\" is no amount of money, such as 12.50");
        let (whole, rest) = text.split_once('.').unwrap_or((text, ""));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(rest) || rest.len() > 9 {
            return Err(bad());
        }
        let whole: u64 = whole.parse().map_err(|_| bad())?;
        let rest: u64 = format!("{rest:0<9}").parse().map_err(|_| bad())?;
        whole.checked_mul(ONE).and_then(|sum| sum.checked_add(rest)).map(Self).ok_or_else(bad)
    }
}

impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Money {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A table of prices.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prices {
    /// When these were the prices.
    pub date: Date,
    /// What they are in, such as USD.
    pub currency: String,
    /// The region they are of.
    pub region: String,
    /// The service they are of.
    pub service: String,
    /// A GB for a month.
    pub storage_gb_month: Money,
    /// A thousand requests that store: each part, and two for each archive.
    pub upload_1000: Money,
    /// A GB out of Amazon's network.
    pub transfer_gb: Money,
    /// Bytes that are billed for an archive beside its own; those of the class,
    /// unless the table says otherwise.
    #[serde(default = "overhead")]
    pub overhead: u64,
    /// Days of storage that are paid for even if an archive is deleted before;
    /// those of the class, unless the table says otherwise.
    #[serde(default = "minimum_days")]
    pub minimum_days: u16,
    /// What bringing up costs, by tier.
    pub retrieval: Tiers,
    /// What the storage classes of buckets cost, by their names.
    #[serde(default)]
    pub classes: BTreeMap<String, InClass>,
}

/// What a storage class of buckets costs.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InClass {
    /// A GB for a month.
    pub storage_gb_month: Money,
    /// A thousand requests that read.
    pub get_1000: Money,
    /// A GB that is read, where that is charged for.
    #[serde(default)]
    pub read_gb: Money,
    /// What bringing up costs, by tier; nothing of what is read as it is.
    #[serde(default)]
    pub retrieval: BTreeMap<Tier, Retrieval>,
}

/// What is to be brought back of an archive.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bring {
    /// Its storage class, if it is in a bucket.
    pub class: Option<String>,
    /// Bytes that are brought up.
    pub up: u64,
    /// Bytes that are read.
    pub size: u64,
    /// Requests by which they are read, at most.
    pub reads: u64,
}

/// The class whose price a copy is kept at that was brought up (Amazon S3 user
/// guide, "Working with archived objects").
const COPIES: &str = "STANDARD";

fn overhead() -> u64 {
    class::VAULT.overhead
}

fn minimum_days() -> u16 {
    class::VAULT.minimum_days
}

/// Prices of the tiers.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Tiers {
    expedited: Retrieval,
    standard: Retrieval,
    bulk: Retrieval,
}

/// What bringing up costs.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retrieval {
    /// A GB.
    pub gb: Money,
    /// A thousand jobs.
    pub requests_1000: Money,
}

impl Prices {
    /// The table in `file`, or the one that this release comes with.
    ///
    /// # Errors
    /// When the file cannot be read, or is none.
    pub fn read(file: Option<&Path>) -> Result<Self> {
        let Some(path) = file else {
            return serde_json::from_str(TABLE)
                .map_err(|e| Error::Bug(format!("the table of prices: {e}")));
        };
        let name = path.display();
        let text = fs::read_to_string(path).map_err(|e| Error::io(format!("prices {name}"), e))?;
        serde_json::from_str(&text).map_err(|e| Error::Configuration(format!("prices {name}: {e}")))
    }

    /// What it costs to bring up so many bytes with so many jobs.
    pub fn retrieval(&self, tier: Tier, jobs: u64, bytes: u64) -> Money {
        let Retrieval { gb, requests_1000 } = match tier {
            Tier::Expedited => &self.retrieval.expedited,
            Tier::Standard => &self.retrieval.standard,
            Tier::Bulk => &self.retrieval.bulk,
        };
        gb.times(bytes.into(), GB.into()).and(requests_1000.times(jobs.into(), 1000))
    }

    /// What it costs to bring one archive up in a tier, to keep a copy that was
    /// brought up for so many days, and to read it.
    ///
    /// # Errors
    /// Configuration, when the table has no such class; usage, when the class
    /// has no such tier.
    pub fn bring(&self, tier: Tier, bring: &Bring, days: u16) -> Result<Money> {
        let Some(name) = &bring.class else { return Ok(self.retrieval(tier, 1, bring.up)) };
        let class = |name: &str| {
            let why = format!("prices of {}: no class {name}; see --prices", self.date);
            self.classes.get(name).ok_or(Error::Configuration(why))
        };
        let InClass { get_1000, read_gb, retrieval, .. } = class(name)?;
        let read = read_gb.times(bring.size.into(), GB.into());
        let read = read.and(get_1000.times(bring.reads.into(), 1000));
        if retrieval.is_empty() {
            return Ok(read);
        }
        let Some(Retrieval { gb, requests_1000 }) = retrieval.get(&tier) else {
            return Err(Error::Usage(format!("{name} has no {tier} retrievals")));
        };
        let up = gb.times(bring.up.into(), GB.into()).and(requests_1000.times(1, 1000));
        let kept = u128::from(bring.up) * u128::from(days) * 12;
        let copy = class(COPIES)?.storage_gb_month.times(kept, u128::from(GB) * YEAR);
        Ok(read.and(up).and(copy))
    }

    /// What it costs to bring so many bytes out of Amazon's network, with
    /// nothing free.
    pub fn transfer(&self, bytes: u64) -> Money {
        self.transfer_gb.times(bytes.into(), GB.into())
    }

    /// What it costs to store an archive of so many bytes for so many days.
    pub fn storage(&self, bytes: u64, days: u64) -> Money {
        let billed = u128::from(bytes) + u128::from(self.overhead);
        self.storage_gb_month.times(billed * u128::from(days) * 12, u128::from(GB) * YEAR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn money(text: &str) -> Money {
        text.parse().unwrap()
    }

    #[test]
    fn money_is_read_and_written() {
        for (text, written) in [
            ("0", "0.0000"),
            ("0.0036", "0.0036"),
            ("0.00001", "0.0001"),
            ("12.5", "12.50"),
            ("12.501", "12.51"),
            ("1", "1.00"),
        ] {
            assert_eq!(money(text).to_string(), written, "{text}");
        }
        for bad in ["", ".5", "-1", "1.2.3", "1e9", "0.1234567890", "99999999999999999999"] {
            assert!(bad.parse::<Money>().is_err(), "{bad}");
        }
    }

    #[test]
    fn sums_are_those_of_the_price_list() {
        let prices = Prices::read(None).unwrap();
        let gb = 1 << 30;
        assert_eq!(prices.retrieval(Tier::Standard, 1000, 100 * gb), money("1.05"));
        assert_eq!(prices.retrieval(Tier::Bulk, 1000, 100 * gb), money("0.025"));
        assert_eq!(prices.retrieval(Tier::Expedited, 1, gb), money("0.04"));
        assert_eq!(prices.transfer(10 * gb), money("0.9"));
        let year = prices.storage(1000 * gb - prices.overhead, 365);
        assert_eq!(year, money("43.2"));
        assert!(prices.storage(0, 90) > Money(0), "an archive of no bytes is billed");
    }

    #[test]
    fn what_a_class_costs_is_that_of_the_price_list() {
        let prices = Prices::read(None).unwrap();
        let gb: u64 = 1 << 30;
        let cost = |class: &str, tier, days| {
            let bring =
                Bring { class: Some(class.to_owned()), up: 365 * gb, size: 365 * gb, reads: 1000 };
            prices.bring(tier, &bring, days).map(|money| money.0)
        };
        let sum = |parts: &[&str]| parts.iter().map(|it| money(it).0).sum::<u64>();
        // 365 GB for ten days are 120 GB for a month.
        let deep = cost("DEEP_ARCHIVE", Tier::Bulk, 10).unwrap();
        assert_eq!(deep, sum(&["0.9125", "0.000025", "2.76", "0.0004"]));
        let cold = cost("GLACIER", Tier::Standard, 0).unwrap();
        assert_eq!(cold, sum(&["3.65", "0.00005", "0.0004"]));
        assert_eq!(cost("GLACIER_IR", Tier::Standard, 9).unwrap(), sum(&["10.95", "0.01"]));
        assert_eq!(cost("STANDARD", Tier::Expedited, 9).unwrap(), sum(&["0.0004"]));
        assert_eq!(cost("DEEP_ARCHIVE", Tier::Expedited, 1).unwrap_err().code(), 64);
        assert_eq!(cost("COLDER", Tier::Bulk, 1).unwrap_err().code(), 78);
    }

    #[test]
    fn a_table_that_is_none_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "{}").unwrap();
        assert_eq!(Prices::read(Some(file.path())).unwrap_err().code(), 78);
        assert_eq!(Prices::read(Some(Path::new("not/there"))).unwrap_err().code(), 74);
        fs::write(file.path(), TABLE.replace("0.0036", "cheap")).unwrap();
        let error = Prices::read(Some(file.path())).unwrap_err().to_string();
        assert!(error.contains("\"cheap\" is no amount of money"), "{error}");
    }
}
