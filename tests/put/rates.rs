//! Windows that say how fast bytes may flow.

use jiff::Timestamp;
use serde_json::Value;

use crate::common::local::{Local, pattern};
use crate::common::{Place, until};
use crate::put::clock::{Wall, start_put};
use crate::put::hours::{at, at_once, in_one_volume, part_lines};
use crate::put::{MIB, put, with_fields};

/// The parts that were sent, without those of the manifest.
fn parts(server: &Local) -> Vec<Value> {
    let mut parts = part_lines(server);
    let volume = parts[0]["upload"].clone();
    parts.retain(|part| part["upload"] == volume);
    parts
}

/// Seconds from the first byte of the first part to the last of the last one.
fn lasted(parts: &[Value]) -> f64 {
    let begin = parts.iter().map(|part| at(part, "begin")).min().unwrap();
    let end = parts.iter().map(|part| at(part, "time")).max().unwrap();
    end.duration_since(begin).as_secs_f64()
}

#[test]
fn a_rate_is_kept_by_all_parts_together() {
    let place = Place::default();
    let server = Local::start(&place);
    let bytes = pattern(12 * MIB);
    let lines = in_one_volume(&place, &bytes, "1M");
    let stamped = with_fields(&lines, "\"window\":\"00:00-24:00=2M\",\"tz\":\"UTC\"");
    put(&server, &place, &["--create-vault", "v"], &stamped).done();
    let parts = parts(&server);
    assert_eq!((parts.len(), at_once(&parts)), (12, 4));
    let lasted = lasted(&parts);
    // Six seconds: not faster by a twentieth; slower where the machine is.
    assert!(lasted > 5.7, "{lasted}: {parts:?}");
    assert!(lasted < 12.0, "{lasted}: {parts:?}");
    for part in &parts[..4] {
        assert!(part["ms"].as_u64() > Some(1000), "it has a share alone: {part}");
    }
}

#[test]
fn a_rate_that_changes_holds_for_what_is_in_flight() {
    // It changes at ten; what is begun later has less of the first rate.
    let ten: Timestamp = "2026-01-05T22:00:00Z".parse().unwrap();
    for (window, first, second) in [
        ("21:00-22:00=512K,22:00-06:00=4M", 0.5, 4.0),
        ("21:00-22:00=2M,22:00-06:00=512K", 2.0, 0.5),
    ] {
        let place = Place::default();
        let Some(wall) = Wall::at(&place, "2026-01-05T21:59:57Z") else { return };
        let server = Local::believing(&place, 60, wall.environment());
        let bytes = pattern(8 * MIB);
        let lines = in_one_volume(&place, &bytes, "8M");
        let stamped = with_fields(&lines, &format!("\"window\":\"{window}\",\"tz\":\"UTC\""));
        start_put(&server, &place, &wall, &[], &stamped).finish().done();
        let parts = parts(&server);
        assert_eq!(parts.len(), 1, "{window}: {parts:?}");
        let before = ten.duration_since(at(&parts[0], "begin")).as_secs_f64().clamp(0.0, 3.0);
        let expected = before + (8.0 - before * first) / second;
        let lasted = lasted(&parts);
        // A second's bytes may go at once; slower where the machine is.
        assert!(lasted > expected * 0.95 - 1.0, "{window}: {lasted} for {expected}: {parts:?}");
        assert!(lasted < expected + 4.0, "{window}: {lasted} for {expected}: {parts:?}");
    }
}

/// What has gone at a turn, of 64 KiB in a second.
const PIECE: u64 = 8 << 10;

/// Each part waits two seconds for its turn.
#[test]
fn what_waits_for_its_turn_does_not_stand_still() {
    let place = Place::default();
    let Some(mut wall) = Wall::at(&place, "2026-01-05T21:00:00Z") else { return };
    let server = Local::believing(&place, 60, wall.environment());
    let bytes = pattern(16 * MIB);
    let lines = in_one_volume(&place, &bytes, "1M");
    let window = "\"window\":\"21:00-22:00=64K,22:00-06:00\",\"tz\":\"UTC\"";
    let options = ["--concurrency", "16", "--timeout", "1s"];
    let put = start_put(&server, &place, &wall, &options, &with_fields(&lines, window));
    // A second piece has come of each, which waited for its turn behind all others.
    let pieces = || server.in_flight().into_iter().filter(|bytes| *bytes > PIECE).count();
    until("all have had two turns", || pieces() == 16);
    wall.set("2026-01-05T22:00:00Z");
    put.finish().done();
    let parts = parts(&server);
    assert_eq!((parts.len(), at_once(&parts)), (16, 16), "{parts:?}");
    assert!(parts.iter().all(|part| part["ms"].as_u64() > Some(1500)), "{parts:?}");
}

#[test]
fn parts_that_take_minutes_go_one_after_the_other() {
    let place = Place::default();
    let Some(mut wall) = Wall::at(&place, "2026-01-05T21:00:00Z") else { return };
    let server = Local::believing(&place, 60, wall.environment());
    let bytes = pattern(16 * MIB);
    let lines = in_one_volume(&place, &bytes, "8M");
    let window = "\"window\":\"21:00-22:00=50K,22:00-06:00\",\"tz\":\"UTC\"";
    let put = start_put(&server, &place, &wall, &[], &with_fields(&lines, window));
    let coming = || server.in_flight();
    until("a part has come for two seconds", || coming().iter().any(|bytes| *bytes > 100 << 10));
    assert_eq!(coming().len(), 1, "another has begun");
    wall.set("2026-01-05T22:00:00Z");
    put.finish().done();
    let mut begin: Vec<i8> = parts(&server)
        .iter()
        .map(|part| at(part, "begin").to_zoned_datetime(jiff::tz::TimeZone::UTC).hour())
        .collect();
    begin.sort_unstable();
    assert_eq!(begin, [21, 22]);
}
