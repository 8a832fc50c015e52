//! Windows and stamps.

use std::time::Duration;

use akashita::line::Stamp;
use akashita::window::{LONGEST_LINE, Window, Zone, stamp};
use jiff::Timestamp;

use super::is_a_message;

/// First line a window, second a zone, third seconds, then a line to stamp.
/// A window reads back as it is written, its edges are edges, and a stamp is
/// what a reader finds, once.
pub fn window(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut fields = text.splitn(4, '\n');
    let mut field = || fields.next().unwrap_or_default();
    let (window, zone, seconds, line) = (field(), field(), field(), field());
    let window = match Window::parse(window) {
        Ok(window) => window,
        Err(reason) => return is_a_message(&reason, window.len() + 100),
    };
    assert_eq!(Window::parse(&window.to_string()), Ok(window.clone()));
    // A minute of the week at least is open.
    assert!(window.longest_gap() < Duration::from_hours(7 * 24));
    let zone = match Zone::named(zone) {
        Ok(zone) => zone,
        Err(reason) => return is_a_message(&reason, zone.len() + 100),
    };
    let at = seconds.parse().ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    if let Some(at) = at {
        let (open, flow) = (window.is_open(at, &zone), window.flow(at, &zone));
        assert_eq!(open, flow.is_open());
        assert!(flow.rate() != Some(0), "a rate moves something");
        if let Some((next, then)) = window.next_flow(at, &zone) {
            assert!(next > at && then != flow && window.flow(next, &zone) == then);
            let before = next - Duration::from_secs(1);
            assert!(before < at || window.flow(before, &zone) == flow, "{next} is late");
        }
        if let Some(opens) = window.next_open(at, &zone) {
            assert!(opens > at && window.is_open(opens, &zone));
            let before = opens - Duration::from_secs(1);
            assert!(!window.is_open(before, &zone), "{before} is not the edge {opens}");
        }
        if let Some(closes) = window.closes(at, &zone) {
            assert!(open && closes > at && !window.is_open(closes, &zone));
        }
    }
    match stamp(line.as_bytes(), &window, &zone) {
        Err(reason) => is_a_message(&reason, 10 * line.len() + 200),
        Ok(stamped) => {
            assert!(stamped.line.len() <= LONGEST_LINE && stamped.line.ends_with(b"}\n"));
            let open = line.trim_end().strip_suffix('}').unwrap();
            assert!(stamped.line.starts_with(open.as_bytes()), "all else stays as it is");
            let written = std::str::from_utf8(&stamped.line).unwrap().trim_end();
            let found = Stamp::parse(written).unwrap();
            assert_eq!(found.window, Some(window.to_string()));
            assert_eq!(found.tz.as_deref(), zone.name());
            assert!(stamp(&stamped.line, &window, &zone).is_err(), "twice");
        }
    }
}
