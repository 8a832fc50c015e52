//! A window by the clock of this machine.
//!
//! That clock may be set at any time, the machine may have slept, and where
//! it is may change under a program that runs for nights. So each question
//! looks at the clock, and every half minute the zone is read again.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::window::{Window, Zone};

/// How old what is known of the zone may be.
const FRESH: Duration = Duration::from_secs(30);

/// A window, the zone it is meant in, and when that was read.
pub struct Hours {
    window: Window,
    zone: Zone,
    read: (Timestamp, Instant),
}

impl Hours {
    /// A window in a zone that was just read.
    pub fn new(window: Window, zone: Zone) -> Self {
        Self { window, zone, read: (Timestamp::now(), Instant::now()) }
    }

    /// The window.
    pub fn window(&self) -> &Window {
        &self.window
    }

    /// Its zone, as it was read last.
    pub fn zone(&self) -> &Zone {
        &self.zone
    }

    /// Whether the window is open now.
    pub fn is_open(&mut self) -> bool {
        let now = self.look();
        self.window.is_open(now, &self.zone)
    }

    /// How long the window stays closed, if it is, and the clock is not set.
    pub fn closed_for(&mut self) -> Option<Duration> {
        let now = self.look();
        if self.window.is_open(now, &self.zone) {
            return None;
        }
        let opens = self.window.next_open(now, &self.zone);
        let wait = opens.and_then(|opens| Duration::try_from(opens.duration_since(now)).ok());
        Some(wait.unwrap_or(FRESH))
    }

    /// What time it is, where it is that.
    fn look(&mut self) -> Timestamp {
        let (now, steady) = (Timestamp::now(), Instant::now());
        let (wall, since) = self.read;
        // The steady clock may have stood still while the machine slept.
        if steady.duration_since(since) >= FRESH || now.duration_since(wall).unsigned_abs() >= FRESH
        {
            // It would be kept for minutes.
            jiff::tz::reset_system_time_zone_cache();
            // One that cannot be read, as it is being replaced, stays what it
            // was.
            let zone = self.zone.name().map_or_else(Zone::local, Zone::named);
            self.zone = zone.unwrap_or_else(|_| self.zone.clone());
            self.read = (now, steady);
        }
        now
    }
}
