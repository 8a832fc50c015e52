//! Windows: the hours in which lines may be acted on.
//!
//! A time is inside of a window if its local wall-clock time is. That one rule
//! leaves nothing to decide when clocks are changed: an hour that is skipped
//! is not there to be inside of, and one that comes twice counts twice.
//!
//! All here is given the time; nothing asks for it. The grammar is that of
//! glacier-window(1), WINDOWS.

mod answer;
mod stamp;
mod zone;

use std::fmt;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

pub use answer::Answer;
pub use stamp::{LONGEST_LINE, Stamped, stamp};
pub use zone::Zone;

/// Minutes in a day.
const DAY: u16 = 24 * 60;

/// The longest a search for the next opening or closing goes on. Windows come
/// every day, but a day may be missing: Samoa had no 30 December 2011.
const HORIZON: SignedDuration = SignedDuration::from_hours(8 * 24);

/// A run of minutes of the day, from its first instant up to, not including,
/// its last. One that ends before it begins goes past midnight, and belongs
/// to the day it begins on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    /// Less than [`DAY`].
    opens: u16,
    /// At most [`DAY`].
    closes: u16,
}

impl Span {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}' is not HH:MM-HH:MM, such as 22:00-06:00");
        let (opens, closes) = text.split_once('-').ok_or_else(wrong)?;
        let opens = minute(opens).filter(|minute| *minute < DAY).ok_or_else(wrong)?;
        let closes = minute(closes).ok_or_else(wrong)?;
        if opens == closes {
            return Err(format!("'{text}' is empty; all day is 00:00-24:00"));
        }
        Ok(Self { opens, closes })
    }

    fn has(self, minute: u16) -> bool {
        if self.opens < self.closes {
            self.opens <= minute && minute < self.closes
        } else {
            self.opens <= minute || minute < self.closes
        }
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

/// A window: the hours of every day in which it is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    text: String,
    spans: Vec<Span>,
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Window {
    /// The window that `HH:MM-HH:MM` is, or several of them joined by commas.
    ///
    /// # Errors
    /// Names the part that is none.
    pub fn parse(text: &str) -> Result<Self, String> {
        let spans = text.split(',').map(Span::parse).collect::<Result<_, _>>()?;
        Ok(Self { text: text.to_owned(), spans })
    }

    /// Whether the window is open at a time.
    pub fn is_open(&self, at: Timestamp, zone: &Zone) -> bool {
        // What has no time of day is in no window; 24:00 is no time of day.
        self.has(u16::try_from(zone.second_of_day(at) / 60).unwrap_or(DAY))
    }

    fn has(&self, minute: u16) -> bool {
        self.spans.iter().any(|span| span.has(minute))
    }

    /// The first instant after `at` at which the window opens: if it is open
    /// now, that of the opening after this one. `None` if it never closes.
    pub fn next_open(&self, at: Timestamp, zone: &Zone) -> Option<Timestamp> {
        let closed = if self.is_open(at, zone) { self.change(at, zone)? } else { at };
        self.change(closed, zone)
    }

    /// The end of the opening that `at` is in, which is the first instant
    /// outside of it. `None` if the window is closed, or never closes.
    pub fn closes(&self, at: Timestamp, zone: &Zone) -> Option<Timestamp> {
        if self.is_open(at, zone) { self.change(at, zone) } else { None }
    }

    /// The first instant after `at` at which the window opens or closes.
    fn change(&self, at: Timestamp, zone: &Zone) -> Option<Timestamp> {
        let open = self.is_open(at, zone);
        let last = at.checked_add(HORIZON).ok()?;
        let mut now = at;
        while now < last {
            // Between two changes of the clock it only moves forwards, so
            // nothing happens but at an edge of a span.
            let edge = self.next_edge(now, zone)?;
            now = zone.next_change(now).map_or(edge, |change| edge.min(change));
            if self.is_open(now, zone) != open {
                return Some(now);
            }
        }
        None
    }

    /// When the next edge of a span comes, if the clock is not changed before.
    fn next_edge(&self, at: Timestamp, zone: &Zone) -> Option<Timestamp> {
        let day = u32::from(DAY) * 60;
        let second = zone.second_of_day(at);
        let edges = self.spans.iter().flat_map(|span| [span.opens, span.closes]);
        // An edge that is now is behind us: the next is that of tomorrow.
        let ahead = edges.map(|edge| day - (second + day - u32::from(edge) * 60) % day).min()?;
        let whole = Timestamp::from_second(at.as_second()).ok()?;
        whole.checked_add(SignedDuration::from_secs(ahead.into())).ok()
    }

    /// The longest the window is closed between two openings, by the clock on
    /// the wall; it is longer or shorter when that is changed.
    pub fn longest_gap(&self) -> Duration {
        let (mut longest, mut gap) = (0_u64, 0_u64);
        // Twice around, as the longest may go past midnight.
        for minute in (0..DAY).chain(0..DAY) {
            gap = if self.has(minute) { 0 } else { gap + 1 };
            longest = longest.max(gap);
        }
        Duration::from_secs(longest * 60)
    }
}

#[cfg(test)]
mod tests;
