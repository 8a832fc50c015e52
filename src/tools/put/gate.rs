//! Stamps: which line may be acted on when, by glacier-window(1)'s word.
//!
//! The clock on the wall decides, and it is not to be trusted: machines sleep,
//! clocks are set, and /etc/localtime is changed under programs that run. So
//! it is looked at every second while bytes flow, and the zone is read again
//! every half minute.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use jiff::civil::DateTime;
use jiff::{SignedDuration, Timestamp};

use super::forecast::{self, Forecast, Speed};
use crate::error::{Error, Result};
use crate::line::Stamp;
use crate::storage::rate_limit::Rate;
use crate::window::{Flow, Window, Zone};

/// How often the clock is looked at while bytes flow.
const TICK: Duration = Duration::from_secs(1);

/// How old what is known of the zone may be.
const FRESH: Duration = Duration::from_secs(30);

/// How long the vault service keeps an upload that nobody touches.
const DROPPED: Duration = Duration::from_hours(24);

/// The different stamps of a stream's lines.
#[derive(Default)]
pub struct Gates {
    stamps: Vec<Stamp>,
    gates: Vec<Gate>,
}

/// When bytes may move; no window means always.
#[derive(Clone)]
pub struct Gate(Option<Rc<Hours>>);

/// A window, and the zone it is meant in.
struct Hours {
    window: Window,
    tz: Option<String>,
    zone: RefCell<(Zone, Clocks)>,
    /// How fast bytes may move in it now, or might when it was last open.
    rate: Rate,
}

/// What time it is: on the wall, where it jumps, and since the machine was
/// started, which on most systems leaves out the time that it slept.
#[derive(Clone, Copy)]
struct Clocks {
    wall: Timestamp,
    steady: Instant,
}

impl Clocks {
    fn now() -> Self {
        Self { wall: Timestamp::now(), steady: Instant::now() }
    }

    /// Whether so much time has passed since then, by either clock.
    fn have_passed(self, time: Duration, since: Self) -> bool {
        let wall = self.wall.duration_since(since.wall);
        self.steady.duration_since(since.steady) >= time
            || wall >= SignedDuration::try_from(time).unwrap_or(SignedDuration::MAX)
    }
}

impl Gates {
    /// The number of a stamp.
    ///
    /// # Errors
    /// When its window is none, or its zone is not known here.
    pub fn number(&mut self, stamp: Stamp) -> Result<usize> {
        if let Some(number) = self.stamps.iter().rposition(|known| *known == stamp) {
            return Ok(number);
        }
        let gate = match &stamp.window {
            None => None,
            Some(text) => {
                let window = Window::parse(text).map_err(Error::Data)?;
                let zone = zone(stamp.tz.as_deref()).map_err(Error::Configuration)?;
                let zone = RefCell::new((zone, Clocks::now()));
                Some(Rc::new(Hours { window, tz: stamp.tz.clone(), zone, rate: Rate::default() }))
            }
        };
        self.stamps.push(stamp);
        self.gates.push(Gate(gate));
        Ok(self.gates.len() - 1)
    }

    /// The lowest rate of now; `None` where there is no limit.
    pub fn slowest(&self) -> Option<u64> {
        self.gates.iter().filter_map(|gate| gate.0.as_ref()?.rate.get()).min()
    }

    /// The gate of a stamp.
    pub fn gate(&self, number: usize) -> Gate {
        self.gates.get(number).cloned().unwrap_or(Gate(None))
    }
}

fn zone(name: Option<&str>) -> Result<Zone, String> {
    name.map_or_else(Zone::local, Zone::named)
}

impl Hours {
    /// The zone as it was less than half a minute ago. One that cannot be read
    /// again, as it is being replaced, stays what it was.
    fn zone(&self, now: Clocks) -> Zone {
        let (known, read) = &mut *self.zone.borrow_mut();
        if now.have_passed(FRESH, *read) || now.wall < read.wall {
            // It would be kept for minutes.
            jiff::tz::reset_system_time_zone_cache();
            if let Ok(zone) = zone(self.tz.as_deref()) {
                *known = zone;
            }
            *read = now;
        }
        known.clone()
    }

    /// How fast bytes may move now. What is in flight in a closed window keeps
    /// the rate it had.
    fn flow(&self, zone: &Zone, now: Clocks) -> Flow {
        let flow = self.window.flow(now.wall, zone);
        if flow.is_open() {
            self.rate.set(flow.rate());
        }
        flow
    }
}

impl Gate {
    /// Whether bytes may move now.
    pub fn is_open(&self) -> bool {
        let Some(hours) = &self.0 else { return true };
        let now = Clocks::now();
        hours.flow(&hours.zone(now), now).is_open()
    }

    /// How fast they may, as of the last look at the clock: that of
    /// [`Gate::closed`] follows the window while bytes flow.
    pub fn rate(&self) -> Rate {
        self.0.as_ref().map(|hours| hours.rate.clone()).unwrap_or_default()
    }

    /// When it opens next, by the clock on the wall, if it is closed.
    pub fn opens(&self) -> Option<DateTime> {
        let hours = self.0.as_ref()?;
        let now = Clocks::now();
        let zone = hours.zone(now);
        let is_open = hours.window.is_open(now.wall, &zone);
        let opens = hours.window.next_open(now.wall, &zone).filter(|_| !is_open)?;
        Some(zone.wall(opens))
    }

    /// When so many bytes will have gone, and how that is told; `None` if
    /// there is no window, or nobody knows.
    pub fn forecast(&self, left: u64, speed: Speed) -> Option<(Forecast, String)> {
        let hours = self.0.as_ref()?;
        let now = Clocks::now();
        let forecast = Forecast::new(left, &hours.window, &hours.zone(now), now.wall, speed)?;
        let told = forecast::sentence(left, &hours.window, speed, &forecast);
        Some((forecast, told))
    }

    /// What to say of a volume that cannot be sent in one opening, where it is
    /// gone before the next; `None` if nothing.
    pub fn too_large(&self, volume: u64, speed: Speed) -> Option<String> {
        let hours = self.0.as_ref().filter(|hours| hours.window.longest_gap() >= DROPPED)?;
        let now = Clocks::now();
        let fits = forecast::smallest(&hours.window, &hours.zone(now), now.wall, speed)?;
        forecast::too_large(volume, fits, &hours.window)
    }

    /// Ends when the gate has been closed for `grace`.
    pub async fn closed(&self, grace: Duration) {
        let Some(hours) = &self.0 else { return std::future::pending().await };
        let mut watch = Watch::default();
        loop {
            let now = Clocks::now();
            let zone = hours.zone(now);
            hours.flow(&zone, now);
            let Some(left) = watch.look(&hours.window, &zone, now, grace) else { return };
            tokio::time::sleep(left.min(TICK)).await;
        }
    }
}

/// A look now and then at whether bytes may still flow.
#[derive(Default)]
struct Watch {
    /// When the opening ends that the last look was in.
    closes: Option<Timestamp>,
    /// Since when it is closed.
    closed: Option<Clocks>,
}

impl Watch {
    /// How long nothing changes if no clock does; `None` when the window has
    /// been closed for `grace`, by one clock or the other. A machine that slept
    /// meanwhile has used its grace up; a clock that was set back does not add
    /// to it.
    fn look(
        &mut self,
        window: &Window,
        zone: &Zone,
        now: Clocks,
        grace: Duration,
    ) -> Option<Duration> {
        let until = |then: Timestamp| {
            Duration::try_from(then.duration_since(now.wall)).unwrap_or(Duration::ZERO)
        };
        if window.is_open(now.wall, zone) {
            self.closed = None;
            self.closes = window.closes(now.wall, zone);
            let next = window.next_flow(now.wall, zone);
            return Some(next.map_or(Duration::MAX, |(next, _)| until(next)));
        }
        let began = self.closes.filter(|closes| *closes < now.wall);
        let closed = *self.closed.get_or_insert(Clocks { wall: began.unwrap_or(now.wall), ..now });
        if now.have_passed(grace, closed) {
            return None;
        }
        Some(grace.saturating_sub(now.steady.duration_since(closed.steady)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_mins(1);

    /// What each look at 22:00-06:00 says, at times of the wall's clock and
    /// seconds of the other one.
    fn looks(at: &[(&str, u64)]) -> Vec<Option<u64>> {
        let (window, zone) =
            (Window::parse("22:00-06:00").unwrap(), Zone::named("Europe/Berlin").unwrap());
        let start = Instant::now();
        let mut watch = Watch::default();
        at.iter()
            .map(|(wall, seconds)| {
                let wall = wall.parse().unwrap();
                let now = Clocks { wall, steady: start + Duration::from_secs(*seconds) };
                watch.look(&window, &zone, now, GRACE).map(|left| left.as_secs())
            })
            .collect()
    }

    #[test]
    fn the_grace_begins_at_the_close() {
        let clocks = [
            ("2026-01-05T05:59:50+01:00", 0),
            ("2026-01-05T06:00:00+01:00", 10),
            ("2026-01-05T06:00:59+01:00", 69),
            ("2026-01-05T06:01:00+01:00", 70),
        ];
        assert_eq!(looks(&clocks), [Some(10), Some(60), Some(1), None]);
    }

    #[test]
    fn a_machine_that_slept_over_the_close_has_no_grace() {
        let clocks = [("2026-01-05T03:00:00+01:00", 0), ("2026-01-05T06:01:00+01:00", 1)];
        assert_eq!(looks(&clocks), [Some(10_800), None]);
        let in_the_grace = [
            ("2026-01-05T05:59:59+01:00", 0),
            ("2026-01-05T06:00:01+01:00", 2),
            ("2026-01-05T09:00:00+01:00", 3),
        ];
        assert_eq!(looks(&in_the_grace), [Some(1), Some(60), None]);
    }

    #[test]
    fn a_clock_that_is_set_does_not_add_to_the_grace() {
        // From the opening into the day before it, and back and back in it.
        let clocks = [
            ("2026-01-05T22:00:10+01:00", 0),
            ("2026-01-05T21:30:00+01:00", 1),
            ("2026-01-05T21:00:00+01:00", 30),
            ("2026-01-05T20:00:00+01:00", 60),
            ("2026-01-05T19:00:00+01:00", 61),
        ];
        assert_eq!(looks(&clocks), [Some(28_790), Some(60), Some(31), Some(1), None]);
    }

    #[test]
    fn a_clock_that_is_set_back_into_the_opening_opens_it() {
        let clocks = [
            ("2026-01-05T05:59:59+01:00", 0),
            ("2026-01-05T06:00:30+01:00", 31),
            ("2026-01-05T05:00:00+01:00", 40),
            ("2026-01-05T06:00:01+01:00", 3641),
        ];
        assert_eq!(looks(&clocks), [Some(1), Some(60), Some(3600), Some(60)]);
    }
}
