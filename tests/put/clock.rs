//! Clocks that are set, machines that sleep, and zones that change while put
//! runs.

use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::common::local::{Local, pattern};
use crate::common::{Place, Running, skip, start, stays, until};
use crate::put::hours::{at, in_one_volume, part_lines};
use crate::put::{MIB, chunk, with_fields};

/// A clock on the wall that a test sets, for all programs that share it. How
/// long anything takes is still real.
pub struct Wall {
    file: PathBuf,
    library: String,
    /// The times that it was set to, and when that really was.
    set: Vec<(Timestamp, Timestamp)>,
}

impl Wall {
    /// A clock that begins at a time; none if faketime is not there, which is
    /// said.
    pub fn at(place: &Place, time: &str) -> Option<Self> {
        // Which library it loads into programs with threads.
        let found = Command::new("faketime")
            .args(["-m", "-f", "+0", "sh", "-c", "printf '%s' \"$LD_PRELOAD\""])
            .output();
        let library = found.ok().filter(|found| found.status.success() && !found.stdout.is_empty());
        let Some(library) = library else {
            skip("faketime: not found; no clock is set while put runs");
            return None;
        };
        let library = String::from_utf8(library.stdout).unwrap();
        let mut wall = Self { file: place.path("wall"), library, set: Vec::new() };
        wall.set(time);
        Some(wall)
    }

    /// Sets it.
    pub fn set(&mut self, time: &str) {
        let (time, now): (Timestamp, _) = (time.parse().unwrap(), Timestamp::now());
        let ahead = time.duration_since(now).as_millis();
        let sign = if ahead < 0 { '-' } else { '+' };
        let (seconds, ms) = (ahead.unsigned_abs() / 1000, ahead.unsigned_abs() % 1000);
        let new = self.file.with_extension("new");
        std::fs::write(&new, format!("{sign}{seconds}.{ms:03}\n")).unwrap();
        std::fs::rename(new, &self.file).unwrap();
        self.set.push((time, now));
    }

    /// What a program needs in its environment to believe it.
    pub fn environment(&self) -> Vec<(String, String)> {
        let mut environment = vec![
            ("LD_PRELOAD".to_owned(), self.library.clone()),
            ("FAKETIME_TIMESTAMP_FILE".to_owned(), self.file.to_str().unwrap().to_owned()),
        ];
        for switch in ["FAKETIME_NO_CACHE", "DONT_FAKE_MONOTONIC", "FAKETIME_DONT_FAKE_MONOTONIC"] {
            environment.push((switch.to_owned(), "1".to_owned()));
        }
        environment
    }

    /// What it shows.
    pub fn now(&self) -> Timestamp {
        let (time, really) = *self.set.last().unwrap();
        time + Timestamp::now().duration_since(really)
    }

    /// Which setting of it shows this time, and when that really is.
    fn really(&self, time: Timestamp) -> (usize, Timestamp) {
        let a_moment = SignedDuration::from_millis(20);
        for (number, (set, really)) in self.set.iter().enumerate() {
            let next = self.set.get(number + 1).map_or(Timestamp::MAX, |next| next.1);
            let then = *really + time.duration_since(*set);
            if *really - a_moment <= then && then < next.saturating_add(a_moment).unwrap() {
                return (number, then);
            }
        }
        panic!("it never showed {time}");
    }
}

/// Starts put on these lines, with the clock of the wall.
pub fn start_put(
    server: &Local,
    place: &Place,
    wall: &Wall,
    options: &[&str],
    lines: &str,
) -> Running {
    let options = [&["--create-vault"], options, &["v"]].concat();
    let mut command = server.put(place, &options);
    command.envs(wall.environment());
    let mut running = start(command.stdin(Stdio::piped()));
    running.give(lines.as_bytes());
    running.end_input();
    running
}

/// Waits until parts are on their way, and will be for a while.
fn parts_begin(server: &Local) {
    let half = MIB as u64 / 2;
    let begun = || server.in_flight().into_iter().filter(|bytes| (1..half).contains(bytes)).count();
    until("parts are on their way", || begun() > 2);
}

/// How long nothing wrong may happen: put looks at the clock each second.
const LOOK: Duration = Duration::from_millis(1500);

/// What is in flight ends, and nothing begins.
fn nothing_is_sent(server: &Local) {
    until("nothing is in flight", || server.in_flight().is_empty());
    stays("nothing is in flight", LOOK, || server.in_flight().is_empty());
}

fn pid(running: &Running) -> Pid {
    Pid::from_raw(i32::try_from(running.id()).unwrap()).unwrap()
}

/// I7, whatever the clock does: nothing begins in a closed window, and nothing
/// is in flight there for longer than the grace.
#[test]
fn a_clock_that_jumps_sends_nothing_outside_of_the_window() {
    let place = Place::default();
    let Some(mut wall) = Wall::at(&place, "2026-01-05T05:00:00Z") else { return };
    let server = Local::believing(&place, 60, wall.environment());
    let bytes = pattern(8 * MIB);
    let lines = in_one_volume(&place, &bytes, "1M");
    let stamped = with_fields(&lines, "\"window\":\"22:00-06:00=1M\",\"tz\":\"UTC\"");
    let mut put = start_put(&server, &place, &wall, &["--grace", "1s"], &stamped);

    // The close comes by itself, while four parts are in flight.
    parts_begin(&server);
    wall.set("2026-01-05T05:59:58.500Z");
    let later: Timestamp = "2026-01-05T06:00:06Z".parse().unwrap();
    until("the window has been closed for a while", || wall.now() >= later);
    // Forwards into an opening, and over its close.
    wall.set("2026-02-10T22:00:00Z");
    parts_begin(&server);
    wall.set("2026-03-10T09:00:00Z");
    nothing_is_sent(&server);
    // Backwards into an opening, and to before it.
    wall.set("2025-06-01T23:00:00Z");
    parts_begin(&server);
    wall.set("2025-05-01T21:00:00Z");
    nothing_is_sent(&server);
    // The machine sleeps until the morning.
    wall.set("2026-04-01T23:00:00Z");
    parts_begin(&server);
    kill_process(pid(&put), Signal::STOP).unwrap();
    wall.set("2026-04-02T08:00:00Z");
    kill_process(pid(&put), Signal::CONT).unwrap();
    nothing_is_sent(&server);
    assert!(put.runs(), "it waits for the next opening");
    wall.set("2026-05-01T23:00:00Z");
    put.finish().done();

    let archives = server.archives("v");
    assert!(server.content("v", &archives[0].id) == bytes, "other bytes");
    let parts = part_lines(&server);
    let a_moment = SignedDuration::from_secs(3);
    let (none, grace) = (SignedDuration::ZERO, SignedDuration::from_secs(1));
    // The settings of the clock that are one opening, and what its close
    // leaves to what is in flight.
    for (opening, left) in [(0..=1, grace), (2..=2, none), (4..=4, grace), (6..=6, none)] {
        let (set, really) = wall.set[*opening.end()];
        let closes = match opening.end() {
            1 => really + set.duration_until("2026-01-05T06:00:00Z".parse().unwrap()),
            last => wall.set[last + 1].1,
        };
        let began = |part: &Value| wall.really(at(part, "begin")).0;
        let of: Vec<&Value> = parts.iter().filter(|part| opening.contains(&began(part))).collect();
        assert!(of.len() > 2, "{opening:?}: {of:?}");
        let broken = of.iter().filter(|part| part["code"] == "RequestTimeoutException");
        assert!(broken.count() > 0, "{opening:?}: something was in flight: {of:?}");
        for part in of {
            let over = wall.really(at(part, "time")).1.duration_since(closes);
            assert!(over < left + a_moment, "{opening:?}: {over} after its close: {part}");
        }
    }
    for part in &parts {
        let begin = at(part, "begin").to_zoned_datetime(jiff::tz::TimeZone::UTC);
        assert!(begin.hour() >= 22 || begin.hour() < 6, "it begins in a closed window: {part}");
    }
}

#[test]
fn a_zone_that_is_changed_is_read_again() {
    let place = Place::default();
    let Some(mut wall) = Wall::at(&place, "2026-01-05T12:00:00Z") else { return };
    let zone = |name: &str| {
        let (file, new) = (place.path("localtime"), place.path("localtime.new"));
        symlink(format!("/usr/share/zoneinfo/{name}"), &new).unwrap();
        std::fs::rename(&new, &file).unwrap();
        file
    };
    let file = zone("Europe/Berlin");
    if !file.exists() {
        return skip("/usr/share/zoneinfo: not found; no zone is changed while put runs");
    }
    let server = Local::believing(&place, 60, wall.environment());
    let bytes = pattern(3 * MIB);
    let lines = chunk(&place, "x", &bytes);
    let second = lines.lines().take_while(|line| !line.contains("\"volume\":1"));
    let (first, second) = lines.split_at(second.map(|line| line.len() + 1).sum());
    let lines = with_fields(first, "\"window\":\"00:00-24:00\"")
        + &with_fields(second, "\"window\":\"20:00-22:00\"");
    let mut command = server.put(&place, &["--create-vault", "v"]);
    command.envs(wall.environment()).env("TZ", file);
    let mut put = start(command.stdin(Stdio::piped()));
    put.give(lines.as_bytes());
    put.end_input();
    until("the first volume is there", || server.calls("CompleteMultipartUpload") == 1);
    zone("Asia/Tokyo");
    stays("the old zone is believed for half a minute", LOOK, || {
        put.runs() && server.calls("InitiateMultipartUpload") == 1
    });
    wall.set("2026-01-05T12:00:35Z");
    put.finish().done();
    let volumes = &server.archives("v")[..2];
    assert!(
        volumes.iter().flat_map(|volume| server.content("v", &volume.id)).eq(bytes),
        "other bytes"
    );
}
