//! Windows: the hours in which lines may be acted on, and how fast.
//!
//! A time is inside of a window if its local wall-clock time is. That one rule
//! leaves nothing to decide when clocks are changed: an hour that is skipped
//! is not there to be inside of, and one that comes twice counts twice.
//!
//! All here is given the time; nothing asks for it. The grammar is that of
//! glacier-window(1), WINDOWS.

mod answer;
mod calendar;
mod span;
mod stamp;
mod zone;

use std::fmt;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

pub use answer::{Answer, for_at};
pub use calendar::calendar;
use span::WEEK;
pub use stamp::{LONGEST_LINE, Stamped, stamp};
pub use zone::Zone;

/// The longest a search for the next change goes on. What is open comes every
/// week, but a day may be missing (Samoa had no 30 December 2011), or the hour
/// that is skipped when clocks are set forward.
const HORIZON: SignedDuration = SignedDuration::from_hours(16 * 24);

/// How fast bytes may move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Not at all: the window is closed.
    Closed,
    /// At so many bytes a second, never 0.
    Rate(u64),
    /// As fast as it goes.
    Free,
}

impl Flow {
    /// Whether any byte may move.
    pub fn is_open(self) -> bool {
        self != Self::Closed
    }

    /// The bytes a second, if they are bounded.
    pub fn rate(self) -> Option<u64> {
        match self {
            Self::Rate(rate) => Some(rate),
            Self::Closed | Self::Free => None,
        }
    }
}

/// A window: the hours of the week in which it is open, and how fast bytes
/// may move then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    text: String,
    /// The minutes of the week at which the flow changes, with what it is from
    /// there on. The first is 0; two neighbours differ.
    week: Vec<(u16, Flow)>,
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Window {
    /// The window that `[DAYS ]HH:MM-HH:MM[=RATE]` is, or several of them
    /// joined by commas. Where they overlap the later one decides.
    ///
    /// # Errors
    /// Names the part that is none.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut minutes = vec![Flow::Closed; usize::from(WEEK)];
        for span in span::parse(text)? {
            for run in span.minutes() {
                let run = usize::from(run.start)..usize::from(run.end);
                if let Some(run) = minutes.get_mut(run) {
                    run.fill(span.flow);
                }
            }
        }
        let mut week: Vec<(u16, Flow)> = (0..).zip(minutes).collect();
        week.dedup_by_key(|(_, flow)| *flow);
        Ok(Self { text: text.to_owned(), week })
    }

    /// How fast bytes may move at a time.
    pub fn flow(&self, at: Timestamp, zone: &Zone) -> Flow {
        self.flow_in(zone.second_of_week(at) / 60)
    }

    /// The same in a minute of the week.
    fn flow_in(&self, minute: u32) -> Flow {
        let behind = self.week.partition_point(|(begin, _)| u32::from(*begin) <= minute);
        let run = behind.checked_sub(1).and_then(|last| self.week.get(last));
        run.map_or(Flow::Closed, |(_, flow)| *flow)
    }

    /// Whether the window is open at a time.
    pub fn is_open(&self, at: Timestamp, zone: &Zone) -> bool {
        self.flow(at, zone).is_open()
    }

    /// The first instant after `at` at which the flow changes, and to what.
    /// `None` if it never does.
    pub fn next_flow(&self, at: Timestamp, zone: &Zone) -> Option<(Timestamp, Flow)> {
        let flow = self.flow(at, zone);
        self.first(at, zone, |then| then != flow)
    }

    /// The first instant after `at` at which the window opens: if it is open
    /// now, that of the opening after this one. `None` if it never closes.
    pub fn next_open(&self, at: Timestamp, zone: &Zone) -> Option<Timestamp> {
        let closed = if self.is_open(at, zone) { self.closes(at, zone)? } else { at };
        Some(self.first(closed, zone, Flow::is_open)?.0)
    }

    /// The end of the opening that `at` is in, which is the first instant
    /// outside of it; a change of the rate is none. `None` if the window is
    /// closed, or never closes.
    pub fn closes(&self, at: Timestamp, zone: &Zone) -> Option<Timestamp> {
        if !self.is_open(at, zone) {
            return None;
        }
        Some(self.first(at, zone, |then| !then.is_open())?.0)
    }

    /// The first instant after `at` at which the flow is wanted.
    fn first(
        &self,
        at: Timestamp,
        zone: &Zone,
        wanted: impl Fn(Flow) -> bool,
    ) -> Option<(Timestamp, Flow)> {
        if !self.week.iter().any(|(_, flow)| wanted(*flow)) {
            return None;
        }
        let last = at.checked_add(HORIZON).ok()?;
        let mut now = at;
        while now < last {
            // Between two changes of the clock it only moves forwards, so
            // nothing happens but at an edge.
            let edge = self.next_edge(now, zone)?;
            now = zone.next_change(now).map_or(edge, |change| edge.min(change));
            let flow = self.flow(now, zone);
            if wanted(flow) {
                return Some((now, flow));
            }
        }
        None
    }

    /// When the next run of minutes of the week begins, if the clock is not
    /// changed before.
    fn next_edge(&self, at: Timestamp, zone: &Zone) -> Option<Timestamp> {
        let second = zone.second_of_week(at);
        let begins = self.week.iter().map(|(begin, _)| u32::from(*begin) * 60);
        let ahead = begins.chain([u32::from(WEEK) * 60]).find(|begin| *begin > second)?;
        let whole = Timestamp::from_second(at.as_second()).ok()?;
        whole.checked_add(SignedDuration::from_secs((ahead - second).into())).ok()
    }

    /// The longest the window is closed between two openings, by the clock on
    /// the wall; it is longer or shorter when that is changed.
    pub fn longest_gap(&self) -> Duration {
        let ends = self.week.iter().skip(1).map(|(begin, _)| *begin).chain([WEEK]);
        let (mut longest, mut gap) = (0_u64, 0_u64);
        // Twice around, as the longest may go past the end of the week.
        for ((begin, flow), end) in self.week.iter().zip(ends).cycle().take(2 * self.week.len()) {
            gap = if flow.is_open() { 0 } else { gap + u64::from(end - begin) };
            longest = longest.max(gap);
        }
        Duration::from_secs(longest * 60)
    }
}

#[cfg(test)]
mod tests;
