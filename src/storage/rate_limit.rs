//! Pace: how fast the bytes of parts go out, all parts in flight together.
//!
//! Each piece takes its turn in one line, behind those that took theirs
//! before, and keeps the line for as long as its bytes take at the rate of
//! that moment. So the parts share the rate evenly, none is passed over, and
//! a rate that changes holds from the next pieces on.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Bytes in a piece, at most.
pub const PIECE: u64 = 256 << 10;

/// Pieces a second, at least, of all parts together: a small rate moves
/// smoothly.
const PIECES: u64 = 8;

/// What was not used of the rate may be used later, up to what goes out in so
/// long: a busy machine is late by less.
const CREDIT: Duration = Duration::from_secs(1);

/// When the next piece may go; none has yet.
#[derive(Clone, Copy, Debug, Default)]
pub struct Turns {
    next: Option<Instant>,
}

impl Turns {
    /// Takes a turn for so many bytes; gives when they may go.
    pub fn take(&mut self, size: u64, rate: u64, now: Instant) -> Instant {
        let earliest = now.checked_sub(CREDIT).unwrap_or(now);
        let turn = self.next.map_or(now, |next| next.max(earliest));
        self.next = Some(turn + lasts(size, rate));
        turn
    }
}

/// How long bytes take at a rate.
fn lasts(size: u64, rate: u64) -> Duration {
    let nanoseconds = (u128::from(size) * 1_000_000_000).div_ceil(u128::from(rate.max(1)));
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}

/// Bytes a second that may go out now; it can be set while bytes flow.
#[derive(Clone, Debug, Default)]
pub struct Rate(Arc<AtomicU64>);

impl Rate {
    /// Sets it; `None` is as fast as the network takes them.
    pub fn set(&self, rate: Option<u64>) {
        self.0.store(rate.map_or(0, |rate| rate.max(1)), Ordering::Relaxed);
    }

    /// What it is; `None` where there is no limit.
    pub fn get(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|rate| *rate > 0)
    }
}

/// The way out that all parts share.
#[derive(Clone, Debug, Default)]
pub struct Uplink(Arc<Mutex<Turns>>);

impl Uplink {
    /// The pace of a part that goes out on it.
    pub fn pace(&self, rate: Rate) -> Pace {
        Pace { uplink: self.clone(), rate, waits: Arc::default() }
    }
}

/// The pace of one part.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    uplink: Uplink,
    rate: Rate,
    waits: Arc<AtomicBool>,
}

impl Pace {
    /// How many of the bytes that are left go next, and when, if that is not
    /// at once.
    pub fn next(&self, left: u64) -> (u64, Option<Instant>) {
        let Some(rate) = self.rate.get() else { return (left.min(PIECE), None) };
        let size = left.min(PIECE).min(rate / PIECES).max(1);
        let now = Instant::now();
        let mut turns = self.uplink.0.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = turns.take(size, rate, now);
        (size, Some(turn).filter(|turn| *turn > now))
    }

    /// Notes whether the network would take bytes, and they wait for their
    /// turn.
    pub fn waits(&self, waits: bool) {
        self.waits.store(waits, Ordering::Relaxed);
    }

    /// Whether bytes wait for their turn: what stands still then is not the
    /// network.
    pub fn is_waiting(&self) -> bool {
        self.waits.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that go out within a time, where pieces of a size are asked for
    /// as soon as the one before has gone, by so many parts at once. The rate
    /// is that of the second that it is.
    fn sent(seconds: u64, parts: usize, rate: impl Fn(u64) -> u64) -> Vec<u64> {
        let start = Instant::now();
        let end = start + Duration::from_secs(seconds);
        let mut turns = Turns::default();
        let mut asks = vec![start; parts];
        let mut sent = vec![0; parts];
        loop {
            let (part, now) = asks.iter().copied().enumerate().min_by_key(|ask| ask.1).unwrap();
            if now >= end {
                return sent;
            }
            let rate = rate(now.duration_since(start).as_secs());
            let size = PIECE.min(rate / PIECES).max(1);
            let turn = turns.take(size, rate, now).max(now);
            asks[part] = turn;
            sent[part] += if turn < end { size } else { 0 };
        }
    }

    fn is_within(percent: u64, sent: u64, wanted: u64) -> bool {
        sent.abs_diff(wanted) * 100 <= wanted * percent
    }

    #[test]
    fn a_minute_of_any_rate_is_that_rate() {
        for rate in [8 << 10, 1_000_000, 5 << 20, 125_000_000] {
            for parts in [1, 2, 4, 255] {
                let sent = sent(60, parts, |_| rate);
                let all: u64 = sent.iter().sum();
                assert!(is_within(1, all, 60 * rate), "{rate} by {parts}: {all}");
                let (least, most) = (sent.iter().min().unwrap(), sent.iter().max().unwrap());
                assert!(most - least <= 2 * PIECE, "{rate} by {parts}: {least} to {most}");
            }
        }
    }

    #[test]
    fn the_least_rates_move_too() {
        assert_eq!(sent(60, 1, |_| 1), [60]);
        assert_eq!(sent(60, 3, |_| 7).iter().sum::<u64>(), 60 * 7);
    }

    #[test]
    fn a_rate_that_changes_holds_within_a_second() {
        let (slow, fast) = (64 << 10, 10 << 20);
        for (first, then) in [(slow, fast), (fast, slow)] {
            let before: u64 = sent(30, 4, |_| first).iter().sum();
            let all: u64 =
                sent(60, 4, |second| if second < 30 { first } else { then }).iter().sum();
            let after = all - before;
            let off = after.abs_diff(30 * then);
            assert!(off <= then + 4 * PIECE, "{first} to {then}: {after}");
        }
    }

    #[test]
    fn what_was_not_used_is_kept_for_a_second() {
        let mut turns = Turns::default();
        let start = Instant::now();
        assert_eq!(turns.take(1000, 1000, start), start);
        let later = start + Duration::from_mins(10);
        let at_once = (0..100).take_while(|_| turns.take(100, 1000, later) <= later).count();
        assert_eq!(at_once, 11);
    }

    #[test]
    fn no_limit_takes_no_turn() {
        let pace = Pace::default();
        assert_eq!(pace.next(10 << 20), (PIECE, None));
        assert_eq!(pace.next(7), (7, None));
        let limited = Uplink::default().pace(Rate::default());
        limited.rate.set(Some(1 << 20));
        assert_eq!(limited.next(10 << 20), (128 << 10, None));
        assert!(limited.next(10 << 20).1.is_some());
    }
}
