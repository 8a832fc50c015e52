//! What is said when a window is asked about.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::{Window, Zone};

/// A `window` line: what a window is at a time. Times are RFC 3339 in UTC; what
/// is not known, or never comes, is absent.
#[derive(Serialize)]
pub struct Answer<'a> {
    r#type: &'static str,
    window: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    tz: Option<&'a str>,
    open: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    opens: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    closes: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remaining_s: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<u64>,
}

impl<'a> Answer<'a> {
    fn new(window: &Window, zone: &'a Zone, now: Timestamp) -> Self {
        Self {
            r#type: "window",
            window: window.to_string(),
            tz: zone.name(),
            open: window.is_open(now, zone),
            rate: window.flow(now, zone).rate(),
            opens: None,
            closes: None,
            remaining_s: None,
        }
    }

    /// When the window opens next, and when the present opening closes, or
    /// the next one if it is closed; and the rate now, or when it opens.
    pub fn next(window: &Window, zone: &'a Zone, now: Timestamp) -> Self {
        let line = Self::new(window, zone, now);
        let opens = window.next_open(now, zone);
        let opening = if line.open { Some(now) } else { opens };
        let closes = opening.and_then(|at| window.closes(at, zone));
        let rate = opening.and_then(|at| window.flow(at, zone).rate());
        let [opens, closes] = [opens, closes].map(|at| at.map(|at| at.to_string()));
        Self { opens, closes, rate, ..line }
    }

    /// The seconds that are left of the present opening, in whole ones.
    pub fn remaining(window: &Window, zone: &'a Zone, now: Timestamp) -> Self {
        let line = Self::new(window, zone, now);
        let closes = window.closes(now, zone);
        let left = closes.map(|end| end.duration_since(now).as_secs());
        let remaining_s = if line.open { left } else { Some(0) };
        Self { closes: closes.map(|at| at.to_string()), remaining_s, ..line }
    }
}

/// When the window opens next, as `at -t` takes it: `CCYYMMDDhhmm` on the
/// clock of the system, whatever the zone of the window is. `None` if the
/// window never closes.
///
/// at(1) knows no seconds here; no time is earlier than the opening.
pub fn for_at(window: &Window, zone: &Zone, now: Timestamp, system: &Zone) -> Option<String> {
    let opens = window.next_open(now, zone)?;
    let second = i64::from(system.wall(opens).second());
    let whole = SignedDuration::from_secs((60 - second) % 60);
    let opens = opens.checked_add(whole).ok()?;
    Some(system.wall(opens).strftime("%Y%m%d%H%M").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_is_told_the_clock_of_the_system_and_never_too_early() {
        for (window, zone, now, system, expected) in [
            ("22:00-06:00", "Europe/Berlin", "2026-01-05T12:00:00Z", "UTC", "202601052100"),
            ("22:00-06:00", "Europe/Berlin", "2026-01-05T21:00:00Z", "UTC", "202601062100"),
            (
                "Sat 00:00-01:00",
                "Asia/Tokyo",
                "2026-12-31T12:00:00Z",
                "Asia/Kolkata",
                "202701012030",
            ),
            // Liberia was 44 minutes and 30 seconds behind.
            ("22:00-06:00", "UTC", "1971-01-05T12:00:00Z", "Africa/Monrovia", "197101052116"),
        ] {
            let [zone, system] = [zone, system].map(|name| Zone::named(name).unwrap());
            let window = Window::parse(window).unwrap();
            let told = for_at(&window, &zone, now.parse().unwrap(), &system);
            assert_eq!(told.as_deref(), Some(expected));
        }
        let (always, utc) = (Window::parse("00:00-24:00").unwrap(), Zone::named("UTC").unwrap());
        assert_eq!(for_at(&always, &utc, Timestamp::UNIX_EPOCH, &utc), None);
    }

    #[test]
    fn the_rate_is_that_of_now_or_of_the_next_opening() {
        let window = Window::parse("22:00-06:00=5M,00:00-02:00").unwrap();
        let zone = Zone::named("UTC").unwrap();
        let rate = |at: &str| Answer::next(&window, &zone, at.parse().unwrap()).rate;
        assert_eq!(rate("2026-01-05T12:00:00Z"), Some(5 << 20));
        assert_eq!(rate("2026-01-05T23:00:00Z"), Some(5 << 20));
        assert_eq!(rate("2026-01-05T01:00:00Z"), None);
    }
}
