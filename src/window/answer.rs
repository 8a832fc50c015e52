//! What is said when a window is asked about.

use jiff::Timestamp;
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
}

impl<'a> Answer<'a> {
    fn new(window: &Window, zone: &'a Zone, now: Timestamp) -> Self {
        Self {
            r#type: "window",
            window: window.to_string(),
            tz: zone.name(),
            open: window.is_open(now, zone),
            opens: None,
            closes: None,
            remaining_s: None,
        }
    }

    /// When the window opens next, and when the present opening closes, or
    /// the next one if it is closed.
    pub fn next(window: &Window, zone: &'a Zone, now: Timestamp) -> Self {
        let line = Self::new(window, zone, now);
        let opens = window.next_open(now, zone);
        let opening = if line.open { Some(now) } else { opens };
        let closes = opening.and_then(|at| window.closes(at, zone));
        let [opens, closes] = [opens, closes].map(|at| at.map(|at| at.to_string()));
        Self { opens, closes, ..line }
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
