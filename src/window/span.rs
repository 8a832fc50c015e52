//! The grammar of windows: `[DAYS ]HH:MM-HH:MM[=RATE]`, joined by commas.

use std::ops::Range;

use super::Flow;
use crate::units;

/// Minutes in a day.
pub(super) const DAY: u16 = 24 * 60;

/// Minutes in a week, which begins on Monday.
pub(super) const WEEK: u16 = 7 * DAY;

/// The days of the week.
pub(super) const NAMES: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// Hours of some days of the week, from the first instant up to, not
/// including, the last. Those that end before they begin go past midnight,
/// and belong to the day they begin on.
#[derive(Clone, Debug)]
pub(super) struct Span {
    days: Days,
    /// Less than [`DAY`].
    opens: u16,
    /// At most [`DAY`].
    closes: u16,
    /// What it makes of those hours.
    pub(super) flow: Flow,
}

/// Which days, from Monday on.
type Days = [bool; 7];

/// The spans of a window, in the order in which they are written. Names of
/// days without hours belong to the hours that follow: `Sat,Sun 10:00-12:00`.
///
/// # Errors
/// Names the part that is none.
pub(super) fn parse(text: &str) -> Result<Vec<Span>, String> {
    let mut spans = Vec::new();
    let mut days = Days::default();
    // The last name of a day that still lacks its hours.
    let mut lacking = None;
    for piece in text.split(',') {
        let piece = piece.trim_matches(' ');
        if !piece.starts_with(|first: char| first.is_ascii_alphabetic()) {
            if let Some(name) = lacking {
                return Err(hourless(name));
            }
            spans.push(Span::parse([true; 7], piece)?);
            continue;
        }
        let (name, hours) = piece.split_once(' ').unwrap_or((piece, ""));
        add(&mut days, name)?;
        if hours.is_empty() {
            lacking = Some(name);
        } else {
            spans.push(Span::parse(days, hours.trim_start_matches(' '))?);
            (days, lacking) = (Days::default(), None);
        }
    }
    lacking.map_or(Ok(spans), |name| Err(hourless(name)))
}

fn hourless(name: &str) -> String {
    format!("'{name}' has no hours, such as Mon-Fri 22:00-06:00")
}

/// Adds the days that `Mon`, `Fri-Mon`, `weekday` or `weekend` is.
fn add(days: &mut Days, name: &str) -> Result<(), String> {
    let wrong = || format!("'{name}' is not a day, such as Mon, Mon-Fri, weekday or weekend");
    let (first, last) = match name.split_once('-') {
        Some((first, last)) => (first, last),
        None if name.eq_ignore_ascii_case("weekday") => ("Mon", "Fri"),
        None if name.eq_ignore_ascii_case("weekend") => ("Sat", "Sun"),
        None => (name, name),
    };
    let number = |name: &str| NAMES.iter().position(|known| known.eq_ignore_ascii_case(name));
    let (first, last) = (number(first).ok_or_else(wrong)?, number(last).ok_or_else(wrong)?);
    if first == last && name.contains('-') {
        return Err(format!("'{name}' is one day, or all; name it once, or leave it out"));
    }
    for (day, chosen) in days.iter_mut().enumerate() {
        // As far behind the first day as the last one at most.
        *chosen |= (day + 7 - first) % 7 <= (last + 7 - first) % 7;
    }
    Ok(())
}

impl Span {
    /// The span that `HH:MM-HH:MM[=RATE]` is on these days.
    fn parse(days: Days, text: &str) -> Result<Self, String> {
        let (hours, rate) = match text.split_once('=') {
            Some((hours, rate)) => (hours, Some(rate)),
            None => (text, None),
        };
        let wrong = || format!("'{hours}' is not HH:MM-HH:MM, such as 22:00-06:00");
        let (opens, closes) = hours.split_once('-').ok_or_else(wrong)?;
        let opens = minute(opens).filter(|minute| *minute < DAY).ok_or_else(wrong)?;
        let closes = minute(closes).ok_or_else(wrong)?;
        if opens == closes {
            return Err(format!("'{hours}' is empty; all day is 00:00-24:00"));
        }
        let flow = rate.map_or(Ok(Flow::Free), |rate| units::rate(rate).map(Flow::Rate))?;
        Ok(Self { days, opens, closes, flow })
    }

    /// The minutes of the week that it is.
    pub(super) fn minutes(&self) -> impl Iterator<Item = Range<u16>> {
        let past = if self.closes < self.opens { DAY } else { 0 };
        let (opens, closes) = (self.opens, self.closes + past);
        let days = (0_u16..).zip(self.days).filter(|(_, chosen)| *chosen);
        days.flat_map(move |(day, _)| {
            let (begin, end) = (day * DAY + opens, day * DAY + closes);
            // That of Sunday may end on Monday.
            [begin..end.min(WEEK), 0..end.saturating_sub(WEEK)]
        })
    }
}

/// The minute of the day that `HH:MM` is, up to 24:00.
fn minute(text: &str) -> Option<u16> {
    let two = |text: &str| -> Option<u16> {
        let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        if digits { text.parse().ok() } else { None }
    };
    let (hour, minute) = text.split_once(':')?;
    let (hour, minute) = (two(hour)?, two(minute)?);
    let of_day = hour * 60 + minute;
    (minute < 60 && of_day <= DAY).then_some(of_day)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The days of a window's first span.
    fn days(text: &str) -> String {
        let spans = parse(&format!("{text} 22:00-06:00")).unwrap();
        let names = NAMES.iter().zip(spans[0].days);
        names.filter(|(_, chosen)| *chosen).map(|(name, _)| *name).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn days_are_names_and_runs_of_them() {
        for (text, expected) in [
            ("Mon", "Mon"),
            ("Mon-Fri", "Mon Tue Wed Thu Fri"),
            ("weekday", "Mon Tue Wed Thu Fri"),
            ("WEEKEND", "Sat Sun"),
            ("Fri-Mon", "Mon Fri Sat Sun"),
            ("sun-SAT", "Mon Tue Wed Thu Fri Sat Sun"),
            ("Sat,Sun", "Sat Sun"),
            ("weekend,Wed,Wed", "Wed Sat Sun"),
            ("Mon, Thu-Fri,  Sun", "Mon Thu Fri Sun"),
        ] {
            assert_eq!(days(text), expected, "{text}");
        }
    }

    #[test]
    fn names_without_hours_belong_to_the_next_hours() {
        let spans = parse("Sat,Sun 10:00-12:00,22:00-06:00").unwrap();
        let found: Vec<_> = spans.iter().map(|span| (span.days, span.opens)).collect();
        let weekend = [false, false, false, false, false, true, true];
        assert_eq!(found, [(weekend, 600), ([true; 7], 1320)]);
        for (bad, why) in [
            ("Sat", "'Sat' has no hours, such as Mon-Fri 22:00-06:00"),
            ("22:00-06:00,Sat,Sun", "'Sun' has no hours, such as Mon-Fri 22:00-06:00"),
            ("Sat,22:00-06:00", "'Sat' has no hours, such as Mon-Fri 22:00-06:00"),
        ] {
            assert_eq!(parse(bad).unwrap_err(), why, "{bad}");
        }
    }

    #[test]
    fn refuses_what_is_no_day() {
        for bad in ["always", "Mo", "Monday", "Mon-", "Mon-Fri-Sun", "weekday-Sun", "Mon+Tue"] {
            let why = parse(&format!("{bad} 22:00-06:00")).unwrap_err();
            assert!(why.contains("is not a day, such as Mon, "), "{bad}: {why}");
        }
        let why = parse("Mon-mon 22:00-06:00").unwrap_err();
        assert_eq!(why, "'Mon-mon' is one day, or all; name it once, or leave it out");
    }

    #[test]
    fn reads_rates_as_they_are_read_elsewhere() {
        let flow = |text: &str| parse(text).map(|spans| spans[0].flow);
        assert_eq!(flow("22:00-06:00"), Ok(Flow::Free));
        assert_eq!(flow("22:00-06:00=5M"), Ok(Flow::Rate(5 << 20)));
        assert_eq!(flow("Mon-Fri 22:00-06:00=80Mbit/s"), Ok(Flow::Rate(10_000_000)));
        for bad in ["=", "=0", "=fast", "=-5M", "=5M=6M", "=5 M", "=99999999999T"] {
            assert!(flow(&format!("22:00-06:00{bad}")).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_span_of_sunday_may_end_on_monday() {
        let span = &parse("Sun 22:00-06:00").unwrap()[0];
        let minutes: Vec<_> = span.minutes().collect();
        assert_eq!(minutes, [6 * DAY + 22 * 60..WEEK, 0..360]);
    }
}
