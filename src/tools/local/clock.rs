//! The fast clock: hours of the service in seconds of this machine.
//!
//! It starts at the real time, runs `speed` times as fast, and goes on where
//! it would be when the server is started again, at the old speed up to that
//! moment and at the new one from then on. It never goes backward: not when
//! the speed is lowered, and not when the machine's own clock is set back.

use std::path::{Path, PathBuf};
use std::time::Instant;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::disk;
use crate::error::{Error, Result};

/// Milliseconds since 1970 on the fast clock.
pub type Millis = i64;

/// An hour of the fast clock.
pub const HOUR: Millis = 3_600_000;
/// A day of the fast clock.
pub const DAY: Millis = 24 * HOUR;
/// The last moment the clock can show, in the year 9999.
const END: Millis = 253_402_207_200_000;

/// A moment of both clocks, and the speed from there on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Origin {
    real_ms: Millis,
    fast_ms: Millis,
    speed: u32,
}

impl Origin {
    /// The fast time at a real time. Before the origin it stands still.
    fn at(self, real_ms: Millis) -> Millis {
        let passed = real_ms.saturating_sub(self.real_ms).max(0);
        self.fast_ms.saturating_add(passed.saturating_mul(self.speed.into())).min(END)
    }
}

/// The fast clock of one run of the server.
pub struct Clock {
    file: PathBuf,
    origin: Origin,
    started: Instant,
}

impl Clock {
    /// Goes on with the clock that `file` keeps, or starts one there.
    pub fn open(file: &Path, speed: u32) -> Result<Self> {
        let real_ms = Timestamp::now().as_millisecond();
        let fast_ms = match disk::read_json::<Origin>(file) {
            Ok(Some(origin)) => origin.at(real_ms),
            Ok(None) => real_ms,
            Err(e) => return Err(Error::io(file.display().to_string(), e)),
        };
        let clock = Self {
            file: file.to_owned(),
            origin: Origin { real_ms, fast_ms, speed },
            started: Instant::now(),
        };
        clock.save()?;
        Ok(clock)
    }

    /// The fast time now.
    pub fn now(&self) -> Millis {
        self.origin.at(self.real())
    }

    /// The real time, by what has elapsed and not by the time of day: a clock
    /// that is set back while the server runs must not take the fast one with
    /// it.
    fn real(&self) -> Millis {
        let passed = i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX);
        self.origin.real_ms.saturating_add(passed)
    }

    /// Writes down how far the clock has come. Where the machine's clock is
    /// set back between two runs, this is where the next one starts.
    pub fn save(&self) -> Result<()> {
        let real_ms = self.real();
        let origin = Origin { real_ms, fast_ms: self.origin.at(real_ms), ..self.origin };
        disk::write_json(&self.file, &origin)
            .map_err(|e| Error::io(self.file.display().to_string(), e))
    }
}

/// A time as the service writes it: `2013-03-20T17:03:43.221Z`.
pub fn stamp(time: Millis) -> String {
    written(time, "%Y-%m-%dT%H:%M:%S%.3fZ")
}

/// A time as inventories write it: `2013-03-20T17:03:43Z`.
pub fn stamp_seconds(time: Millis) -> String {
    written(time, "%Y-%m-%dT%H:%M:%SZ")
}

fn written(time: Millis, format: &str) -> String {
    Timestamp::from_millisecond(time).unwrap_or_default().strftime(format).to_string()
}

/// Reads a time of either form.
pub fn read_stamp(text: &str) -> Option<Millis> {
    text.parse::<Timestamp>().ok().map(Timestamp::as_millisecond)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_pass_in_seconds() {
        let origin = Origin { real_ms: 1_000, fast_ms: 50_000, speed: 3600 };
        assert_eq!(origin.at(1_000), 50_000);
        assert_eq!(origin.at(2_000), 50_000 + HOUR);
    }

    #[test]
    fn never_goes_backward() {
        let origin = Origin { real_ms: 1_000, fast_ms: 50_000, speed: 10 };
        assert_eq!(origin.at(0), 50_000);
        assert_eq!(origin.at(Millis::MAX), END);
        assert_eq!(&stamp(END)[..4], "9999");
    }

    #[test]
    fn goes_on_after_a_restart_at_another_speed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("clock.json");
        let first = Clock::open(&file, 100_000).unwrap();
        let started = first.now();
        while first.now() < started + DAY {
            std::thread::yield_now();
        }
        let before = first.now();
        drop(first);
        let second = Clock::open(&file, 1).unwrap();
        assert!(second.now() >= before);
        assert!(second.now() < before + 100 * DAY);
    }

    #[test]
    fn writes_times_as_the_service_does() {
        assert_eq!(stamp(1_363_799_023_221), "2013-03-20T17:03:43.221Z");
        assert_eq!(stamp(1_363_799_023_000), "2013-03-20T17:03:43.000Z");
        assert_eq!(stamp_seconds(1_363_799_023_221), "2013-03-20T17:03:43Z");
        assert_eq!(read_stamp("2013-03-20T17:03:43.221Z"), Some(1_363_799_023_221));
        assert_eq!(read_stamp("yesterday"), None);
    }
}
