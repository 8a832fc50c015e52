//! When it will be done: opening after opening, at the rate of each. It is
//! given the time and asks for nothing.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::DateTime;

use crate::units;
use crate::window::{Flow, Window, Zone};

/// Changes of the window that are looked at: five years of nights.
const CHANGES: usize = 4_000;

/// Openings that are looked at for the smallest: some weeks of them.
const OPENINGS: usize = 30;

/// An opening that lasts longer is more than a night.
const NIGHT: Duration = Duration::from_hours(16);

/// What is known of how fast bytes go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Speed {
    /// Bytes a second.
    rate: Option<u64>,
    /// They went so because the window says it: the uplink takes more.
    is_held: bool,
}

impl Speed {
    /// That of the uplink, as somebody says.
    pub fn assumed(rate: Option<u64>) -> Self {
        Self { rate, is_held: false }
    }

    /// What bytes were seen to go at while the window had a rate, or none. At
    /// nine tenths of it and more it is what held them.
    pub fn measured(rate: u64, limit: Option<u64>) -> Self {
        Self { rate: Some(rate), is_held: limit.is_some_and(|limit| rate >= limit / 10 * 9) }
    }

    /// Bytes a second in some hours; `None` if that is not known.
    fn during(self, flow: Flow) -> Option<u64> {
        match (flow, self.rate) {
            (Flow::Closed, _) => Some(0),
            (Flow::Rate(rate), Some(uplink)) if !self.is_held => Some(rate.min(uplink)),
            (Flow::Rate(rate), _) => Some(rate),
            (Flow::Free, uplink) => uplink,
        }
    }
}

/// When what is left will be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forecast {
    /// When that is.
    pub done: Timestamp,
    /// Openings that it takes, with the present one.
    pub openings: u64,
    /// Each of them is a night.
    are_nights: bool,
    /// The time on the wall when it is done.
    wall: DateTime,
}

/// What one opening, or the rest of it, takes.
struct Opening {
    bytes: u64,
    begins: Timestamp,
    /// When it ends; none if it never does.
    ends: Option<Timestamp>,
    /// When what was to be sent has gone.
    done: Option<Timestamp>,
}

impl Opening {
    /// Whether it is a night: it ends in the morning.
    fn is_night(&self, zone: &Zone) -> bool {
        self.ends.is_some_and(|ends| {
            let lasts = ends.duration_since(self.begins);
            Duration::try_from(lasts).is_ok_and(|lasts| lasts <= NIGHT)
                && zone.wall(ends).hour() <= 10
        })
    }
}

/// Goes through the changes of a window, one after the other.
struct Course<'a> {
    window: &'a Window,
    zone: &'a Zone,
    speed: Speed,
    at: Timestamp,
    flow: Flow,
    changes: usize,
}

impl Course<'_> {
    /// Goes to the next change; `None` where there is none, or none is looked
    /// at any more.
    fn turn(&mut self) -> Option<()> {
        self.changes = self.changes.checked_sub(1)?;
        (self.at, self.flow) = self.window.next_flow(self.at, self.zone)?;
        Some(())
    }

    /// Sends as many of these bytes as the opening takes that it is in, or the
    /// next one; `None` if that is not known.
    fn opening(&mut self, bytes: u64) -> Option<Opening> {
        while !self.flow.is_open() {
            self.turn()?;
        }
        let begins = self.at;
        let mut left = bytes;
        while self.flow.is_open() {
            let rate = self.speed.during(self.flow)?;
            let done = self.at.checked_add(lasts(left, rate)).ok();
            let (next, _) = self.window.next_flow(self.at, self.zone).unzip();
            match (next, done) {
                (Some(next), done) if done.is_none_or(|done| next < done) => {
                    let ms = next.duration_since(self.at).as_millis();
                    let sent = u128::from(rate) * ms.unsigned_abs() / 1000;
                    left = left.saturating_sub(u64::try_from(sent).unwrap_or(u64::MAX));
                }
                _ => {
                    let ends = self.window.closes(self.at, self.zone);
                    return Some(Opening { bytes, begins, ends, done: Some(done?) });
                }
            }
            self.turn()?;
        }
        Some(Opening { bytes: bytes - left, begins, ends: Some(self.at), done: None })
    }
}

/// How long bytes take at a rate.
fn lasts(bytes: u64, rate: u64) -> Duration {
    let ms = (u128::from(bytes) * 1000).div_ceil(u128::from(rate.max(1)));
    Duration::from_millis(u64::try_from(ms).unwrap_or(u64::MAX))
}

impl Forecast {
    /// When so many bytes will have gone; `None` if the speed is not known, or
    /// it is too far away.
    pub fn new(
        left: u64,
        window: &Window,
        zone: &Zone,
        now: Timestamp,
        speed: Speed,
    ) -> Option<Self> {
        let flow = window.flow(now, zone);
        let mut course = Course { window, zone, speed, at: now, flow, changes: CHANGES };
        let (mut left, mut openings, mut are_nights) = (left, 0, true);
        loop {
            let opening = course.opening(left)?;
            openings += 1;
            are_nights &= opening.is_night(zone);
            if let Some(done) = opening.done {
                return Some(Self { done, openings, are_nights, wall: zone.wall(done) });
            }
            left -= opening.bytes;
        }
    }
}

/// The bytes that fit into the smallest opening of the next weeks; `None` if
/// the window never closes, or that is not known.
pub fn smallest(window: &Window, zone: &Zone, now: Timestamp, speed: Speed) -> Option<u64> {
    let at = window.next_open(now, zone)?;
    let flow = window.flow(at, zone);
    let mut course = Course { window, zone, speed, at, flow, changes: CHANGES };
    let mut smallest = u64::MAX;
    for _ in 0..OPENINGS {
        smallest = smallest.min(course.opening(u64::MAX)?.bytes);
    }
    Some(smallest)
}

/// What to say of a volume that is larger than what fits into an opening.
pub fn too_large(volume: u64, fits: u64, window: &Window) -> Option<String> {
    if volume <= fits {
        return None;
    }
    // Half of it: one that begins at any time in one opening ends in the next.
    let smaller = 1_u64 << (fits / 2).checked_ilog2()?.max(20);
    Some(format!(
        "volumes of {} do not fit into an opening of {window}, which takes {}, and the vault may drop what lies for 24 hours; cut the stream with --volume-size {}",
        units::bytes(volume),
        units::bytes(fits),
        units::bytes(smaller).replace(' ', "")
    ))
}

/// As people read it: `6 nights, done 2026-11-29`, or `done 2026-11-26 02:40`
/// where one opening is enough.
impl fmt::Display for Forecast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.openings == 1 {
            return write!(f, "done {}", self.wall.strftime("%Y-%m-%d %H:%M"));
        }
        let what = if self.are_nights { "nights" } else { "openings" };
        write!(f, "{} {what}, done {}", self.openings, self.wall.date())
    }
}

/// What is left, in which hours and at which speed it goes, and when it will be
/// done.
pub fn sentence(left: u64, window: &Window, speed: Speed, forecast: &Forecast) -> String {
    let left = units::bytes(left);
    match speed.rate.filter(|_| !speed.is_held) {
        Some(rate) => format!("{left} left, {window} at {}/s: {forecast}", units::bytes(rate)),
        None => format!("{left} left, {window}: {forecast}"),
    }
}

/// How fast bytes go, by what has gone at each tick.
#[derive(Clone, Copy, Debug, Default)]
pub struct Meter {
    seconds: f64,
    bytes: f64,
}

impl Meter {
    /// What is older than this counts for less than half.
    const MEMORY: f64 = 60.0;

    /// So many bytes have gone in so long.
    pub fn saw(&mut self, bytes: u64, time: Duration) {
        let keep = (-time.as_secs_f64() / Self::MEMORY).exp();
        self.seconds = self.seconds * keep + time.as_secs_f64();
        self.bytes = self.bytes * keep + Duration::from_micros(bytes).as_secs_f64() * 1e6;
    }

    /// Bytes a second, once it has seen enough.
    pub fn rate(&self) -> Option<u64> {
        let rate = Duration::try_from_secs_f64(self.bytes / self.seconds / 1e6).ok()?;
        let rate = u64::try_from(rate.as_micros()).ok()?;
        (self.seconds >= 5.0 && rate > 0).then_some(rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn words(left: u64, window: &str, speed: Speed, now: &str) -> String {
        let (window, zone) =
            (Window::parse(window).unwrap(), Zone::named("Europe/Berlin").unwrap());
        let forecast = Forecast::new(left, &window, &zone, now.parse().unwrap(), speed);
        forecast.map_or_else(String::new, |forecast| sentence(left, &window, speed, &forecast))
    }

    fn mib(rate: u64) -> Speed {
        Speed::assumed(Some(rate << 20))
    }

    #[test]
    fn says_how_many_nights_it_takes() {
        for (left, window, speed, now, says) in [
            // 144000 MiB a night.
            (
                812 * GIB,
                "22:00-06:00",
                mib(5),
                "2026-11-23T12:00:00+01:00",
                "812 GiB left, 22:00-06:00 at 5 MiB/s: 6 nights, done 2026-11-29",
            ),
            // Half of this night is over.
            (
                812 * GIB,
                "22:00-06:00",
                mib(5),
                "2026-11-24T02:00:00+01:00",
                "812 GiB left, 22:00-06:00 at 5 MiB/s: 7 nights, done 2026-11-30",
            ),
            (
                GIB,
                "22:00-06:00=1M",
                Speed::default(),
                "2026-11-23T12:00:00+01:00",
                "1 GiB left, 22:00-06:00=1M: done 2026-11-23 22:17",
            ),
            (
                GIB,
                "22:00-06:00=1M",
                mib(100),
                "2026-11-23T23:00:00+01:00",
                "1 GiB left, 22:00-06:00=1M at 100 MiB/s: done 2026-11-23 23:17",
            ),
            // A day that has several rates, and never closes.
            (
                100 * GIB,
                "00:00-24:00=1M,22:00-06:00",
                mib(10),
                "2026-11-23T21:00:00+01:00",
                "100 GiB left, 00:00-24:00=1M,22:00-06:00 at 10 MiB/s: done 2026-11-24 00:44",
            ),
            (
                100 * GIB,
                "Sat,Sun 10:00-20:00",
                mib(1),
                "2026-11-23T21:00:00+01:00",
                "100 GiB left, Sat,Sun 10:00-20:00 at 1 MiB/s: 3 openings, done 2026-12-05",
            ),
            // Nobody knows how fast it goes.
            (GIB, "22:00-06:00", Speed::default(), "2026-11-23T21:00:00+01:00", ""),
        ] {
            assert_eq!(words(left, window, speed, now), says);
        }
    }

    #[test]
    fn what_the_window_held_back_is_faster_in_other_hours() {
        let now = "2026-11-23T12:00:00+01:00";
        let window = "00:00-24:00=1M,22:00-06:00=10M";
        let held = Speed::measured(1_000_000, Some(1 << 20));
        let slow = Speed::measured(700_000, Some(1 << 20));
        assert_eq!(
            words(100 * GIB, window, held, now),
            format!("100 GiB left, {window}: done 2026-11-23 23:50")
        );
        assert_eq!(
            words(100 * GIB, window, slow, now),
            format!("100 GiB left, {window} at 683.5 KiB/s: done 2026-11-25 06:36")
        );
    }

    /// Against a walk from minute to minute.
    #[test]
    fn a_walk_of_minutes_comes_to_the_same() {
        let zone = Zone::named("Europe/Berlin").unwrap();
        for window in
            ["22:00-06:00", "Mon-Fri 01:30-03:00=2M,Sat,Sun 00:00-24:00", "02:00-02:30=1K"]
        {
            let window = Window::parse(window).unwrap();
            // Over both changes of the clock.
            for start in ["2026-03-27T12:34:00Z", "2026-10-23T23:10:00Z", "2026-06-01T03:00:00Z"] {
                for left in [1, 5 << 20, 3 * GIB, 50 * GIB] {
                    let (start, speed): (Timestamp, _) = (start.parse().unwrap(), mib(1));
                    let forecast = Forecast::new(left, &window, &zone, start, speed);
                    let (mut at, mut sent) = (start, 0);
                    let mut openings = 0;
                    let mut was_open = false;
                    while sent < left && openings < 400 {
                        let flow = window.flow(at, &zone);
                        openings += u64::from(flow.is_open() && !was_open);
                        was_open = flow.is_open();
                        sent += speed.during(flow).unwrap() * 60;
                        at += Duration::from_mins(1);
                    }
                    if sent >= left {
                        let forecast = forecast.unwrap();
                        assert_eq!(forecast.openings, openings, "{window}: {left} at {start}");
                        let early = at.duration_since(forecast.done).as_secs();
                        assert!((0..=60).contains(&early), "{window}: {left} at {start}: {early}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_takes_too_long_is_not_told() {
        assert_eq!(words(u64::MAX, "22:00-06:00", mib(1), "2026-11-23T21:00:00Z"), "");
        assert_eq!(words(u64::MAX, "00:00-24:00=1", mib(1), "2026-11-23T21:00:00Z"), "");
    }

    #[test]
    fn the_smallest_opening_is_found() {
        let zone = Zone::named("Europe/Berlin").unwrap();
        let now: Timestamp = "2026-11-23T21:00:00Z".parse().unwrap();
        let of = |window: &str, speed| smallest(&Window::parse(window).unwrap(), &zone, now, speed);
        let hour = 3600 << 20;
        assert_eq!(of("22:00-06:00", mib(1)), Some(8 * hour));
        assert_eq!(of("Sat 00:00-24:00=1M,Wed 22:00-23:00=2M", mib(5)), Some(2 * hour));
        assert_eq!(of("22:00-06:00", Speed::default()), None);
        assert_eq!(of("00:00-24:00", mib(1)), None);
    }

    #[test]
    fn a_volume_that_does_not_fit_has_a_size_that_does() {
        let window = Window::parse("Sat 00:00-06:00=1M").unwrap();
        assert_eq!(too_large(10 * GIB, 21_600 << 20, &window), None);
        let says = "volumes of 64 GiB do not fit into an opening of Sat 00:00-06:00=1M, which takes 21 GiB, and the vault may drop what lies for 24 hours; cut the stream with --volume-size 8GiB";
        assert_eq!(too_large(64 * GIB, 21_600 << 20, &window).as_deref(), Some(says));
    }

    #[test]
    fn a_meter_follows_what_it_sees() {
        let mut meter = Meter::default();
        let second = Duration::from_secs(1);
        (0..4).for_each(|_| meter.saw(1 << 20, second));
        assert_eq!(meter.rate(), None);
        (0..300).for_each(|_| meter.saw(1 << 20, second));
        assert!(meter.rate().unwrap().abs_diff(1 << 20) < 1000);
        (0..300).for_each(|_| meter.saw(10 << 20, second));
        assert!(meter.rate().unwrap() > 9 << 20);
        (0..1000).for_each(|_| meter.saw(0, second));
        assert_eq!(meter.rate(), None);
    }
}
