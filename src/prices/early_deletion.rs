//! What it costs to delete an archive before its minimum of days.

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::prices::{Money, Prices};

const DAY: i64 = 86_400;

/// That something is young, so that its deletion is charged for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Early {
    /// Days that are left, begun ones too.
    pub days: u64,
    /// What is charged: their storage.
    pub fee: Money,
    /// The first day, in UTC, on all of which it is free.
    pub free: Date,
}

impl Early {
    /// What it costs to delete an archive of `size` bytes now that was stored
    /// at `uploaded`; `None` if nothing.
    pub fn of(prices: &Prices, size: u64, uploaded: Timestamp, now: Timestamp) -> Option<Self> {
        let minimum = SignedDuration::from_secs(i64::from(prices.minimum_days) * DAY);
        let free = uploaded.checked_add(minimum).ok()?;
        let left = u64::try_from(free.duration_since(now).as_secs()).ok()?;
        // Begun seconds count, too.
        let left =
            if now.checked_add(SignedDuration::from_secs(i64::try_from(left).ok()?)).ok()? < free {
                left + 1
            } else {
                left
            };
        // Never more than the minimum: times are rounded, and clocks differ.
        let days = left.div_ceil(DAY.unsigned_abs()).min(prices.minimum_days.into());
        let wall = TimeZone::UTC.to_datetime(free);
        let midnight = wall.time() == Time::midnight();
        let day = if midnight { Ok(wall.date()) } else { wall.date().tomorrow() };
        (days > 0).then_some(Self { days, fee: prices.storage(size, days), free: day.ok()? })
    }

    /// Both: the longer wait, and all that is charged.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            days: self.days.max(other.days),
            fee: self.fee.and(other.fee),
            free: self.free.max(other.free),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_begun_days_and_names_the_first_free_one() {
        let prices = Prices::read(None).unwrap();
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let early = |uploaded, now| Early::of(&prices, 1 << 30, at(uploaded), at(now));
        let (evening, midnight) = ("2026-11-23T22:04:12Z", "2026-11-23T00:00:00Z");
        // 90 days later it is 21 February 2027.
        let first = early(evening, evening).unwrap();
        assert_eq!((first.days, first.free.to_string().as_str()), (90, "2027-02-22"));
        assert_eq!(first.fee, prices.storage(1 << 30, 90));
        let last = early(evening, "2027-02-21T22:04:11Z").unwrap();
        assert_eq!((last.days, last.fee), (1, prices.storage(1 << 30, 1)));
        assert_eq!(early(evening, "2026-11-23T22:04:11Z").map(|early| early.days), Some(90));
        assert_eq!(early(evening, "2027-02-21T22:04:12Z"), None);
        assert_eq!(early(evening, "2030-01-01T00:00:00Z"), None);
        assert_eq!(early(evening, "2027-02-21T22:04:11.5Z").map(|early| early.days), Some(1));
        assert_eq!(early(midnight, midnight).unwrap().free.to_string(), "2027-02-21");
        let both = last.and(first);
        assert_eq!((both.days, both.free, both.fee), (90, first.free, last.fee.and(first.fee)));
    }
}
