//! How far ahead archives are asked for.
//!
//! What was brought up can be read for a time only, that of a vault for about
//! a day. On a slow line only what can be fetched within that time is asked
//! for; the rest follows as room is made. The first archive that is needed is always asked for, or
//! nothing would ever come.

use std::cell::Cell;
use std::time::{Duration, Instant};

use jiff::SignedDuration;

/// Bytes a second while nothing is known of the line: 64 GiB in 20 hours.
const FIRST: u64 = (64 << 30) / (20 * 3600);

/// Seconds in a day.
const DAY: u64 = 86_400;

/// How long bytes must have come before their rate says something: a small
/// archive is over before the line is full, and would make it look slow.
const TELLS: Duration = Duration::from_secs(10);

/// An archive as this decision sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Bytes that are still to be fetched.
    pub left: u64,
    /// It was asked for.
    pub asked: bool,
}

/// Which archives to ask for now, by their order: as many as fit into
/// `allowance` with those that were asked for, and the first that is needed.
pub fn due(archives: impl Iterator<Item = Standing> + Clone, allowance: u64) -> Vec<usize> {
    let asked = archives.clone().filter(|archive| archive.asked);
    let mut outstanding = asked.fold(0_u64, |sum, archive| sum.saturating_add(archive.left));
    let mut due = Vec::new();
    let mut is_first = true;
    for (index, Standing { left, asked }) in archives.enumerate() {
        if !asked {
            let with = outstanding.saturating_add(left);
            if !is_first && with > allowance {
                break;
            }
            outstanding = with;
            due.push(index);
        }
        is_first &= left == 0;
    }
    due
}

/// How many bytes may be asked for and not be fetched, at a rate in bytes a
/// second, where they can be read for so long: what comes in five sixths of
/// that time.
pub fn allowance(rate: Option<u64>, lasts: Option<SignedDuration>) -> u64 {
    let Some(lasts) = lasts else { return u64::MAX };
    let seconds = u64::try_from(lasts.as_secs()).unwrap_or(0) / 6 * 5;
    rate.unwrap_or(FIRST).saturating_mul(seconds)
}

/// For how many days what is asked for should be kept, where that can be
/// chosen: until so many bytes are fetched at a rate, and two more.
pub fn days(bytes: u64, rate: Option<u64>) -> u16 {
    let days = bytes / rate.unwrap_or(FIRST).max(1) / DAY;
    u16::try_from(days).unwrap_or(u16::MAX).saturating_add(3)
}

/// Measures how fast bytes come, over the time in which some were under way.
#[derive(Debug, Default)]
pub struct Meter {
    bytes: Cell<u64>,
    busy: Cell<Duration>,
    under_way: Cell<usize>,
    since: Cell<Option<Instant>>,
}

/// Something is under way, until this is dropped.
#[derive(Debug)]
pub struct Busy<'a>(&'a Meter);

impl Meter {
    /// Something is under way: a download, or the writing of what came.
    pub fn begin(&self) -> Busy<'_> {
        if self.under_way.replace(self.under_way.get() + 1) == 0 {
            self.since.set(Some(Instant::now()));
        }
        Busy(self)
    }

    /// Whether nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.under_way.get() == 0
    }

    /// Bytes have come.
    pub fn came(&self, bytes: u64) {
        self.bytes.set(self.bytes.get().saturating_add(bytes));
    }

    fn time(&self) -> Duration {
        self.busy.get() + self.since.get().map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Bytes a second, once that is known; at least one.
    pub fn rate(&self) -> Option<u64> {
        let (bytes, time) = (self.bytes.get(), self.time());
        if bytes == 0 || time < TELLS {
            return None;
        }
        let rate = u128::from(bytes) * 1000 / time.as_millis().max(1);
        Some(u64::try_from(rate).unwrap_or(u64::MAX).max(1))
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        let meter = self.0;
        let left = meter.under_way.get().saturating_sub(1);
        meter.under_way.set(left);
        if left == 0
            && let Some(since) = meter.since.take()
        {
            meter.busy.set(meter.busy.get() + since.elapsed());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn due_of(archives: &[(u64, bool)], allowance: u64) -> Vec<usize> {
        due(archives.iter().map(|(left, asked)| Standing { left: *left, asked: *asked }), allowance)
    }

    #[test]
    fn what_fits_is_asked_for_at_once() {
        let four = [(4, false), (4, false), (4, false), (4, false)];
        assert_eq!(due_of(&four, 16), [0, 1, 2, 3]);
        assert_eq!(due_of(&four, 15), [0, 1, 2]);
        assert_eq!(due_of(&four, 0), [0], "one always");
        assert_eq!(due_of(&four, u64::MAX), [0, 1, 2, 3]);
        assert_eq!(due_of(&[], 16), [] as [usize; 0]);
    }

    #[test]
    fn what_was_asked_for_counts_until_it_is_fetched() {
        assert_eq!(due_of(&[(4, true), (4, true), (4, false)], 10), [] as [usize; 0]);
        assert_eq!(due_of(&[(0, true), (4, true), (4, false)], 10), [2]);
        assert_eq!(due_of(&[(2, true), (4, true), (4, false)], 10), [2]);
        // A larger one is not passed by a smaller one.
        assert_eq!(due_of(&[(4, true), (9, false), (1, false)], 10), [] as [usize; 0]);
        // One that was lost is what all others wait for.
        assert_eq!(due_of(&[(0, true), (4, false), (9, true)], 5), [1]);
    }

    #[test]
    fn an_allowance_is_what_five_sixths_of_the_time_bring() {
        let day = Some(SignedDuration::from_hours(24));
        assert_eq!(allowance(Some(1), day), 72_000);
        assert_eq!(allowance(Some(u64::MAX), day), u64::MAX);
        assert_eq!(allowance(None, day) >> 29, (64 << 30 >> 29) - 1, "some 64 GiB");
        assert_eq!(allowance(Some(1), None), u64::MAX);
    }

    #[test]
    fn what_is_asked_for_is_kept_until_it_is_fetched() {
        assert_eq!(days(0, None), 3);
        assert_eq!(days(10 * DAY, Some(2)), 8);
        assert_eq!(days(u64::MAX, Some(0)), u16::MAX);
    }

    #[test]
    fn a_rate_is_of_the_time_in_which_bytes_were_under_way() {
        let meter = Meter::default();
        assert_eq!(meter.rate(), None);
        let (first, second) = (meter.begin(), meter.begin());
        meter.came(10_000);
        assert_eq!(meter.rate(), None, "too short to tell");
        drop(first);
        drop(second);
        assert!(meter.since.get().is_none(), "nothing is under way");
        meter.busy.set(Duration::from_secs(10));
        assert_eq!(meter.rate(), Some(1000));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn no_more_is_asked_for_than_comes_in_time(
            archives in prop::collection::vec((1..20_u64, any::<bool>()), 0..12),
            allowance in 0..60_u64,
        ) {
            let found = due_of(&archives, allowance);
            let all: u64 = (0..)
                .zip(&archives)
                .filter(|(index, (_, asked))| *asked || found.contains(index))
                .map(|(_, (left, _))| left)
                .sum();
            let first = archives.first().is_some_and(|(_, asked)| !asked);
            prop_assert_eq!(first, found.first() == Some(&0), "the first that is needed");
            prop_assert!(all <= allowance || found.iter().all(|index| *index == 0));
        }
    }
}
