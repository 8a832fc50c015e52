//! How many nights it takes, and when it is done.

use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::common::local::{Local, pattern};
use crate::common::{Place, program, run_with, skip, start, until};
use crate::put::clock::Wall;
use crate::put::hours::in_one_volume;
use crate::put::{MIB, chunk_as, put, with_fields};

/// The plan line of some MiB in a window of Berlin.
fn planned(size: usize, window: &str, rate: &[&str]) -> Option<Value> {
    let place = Place::default();
    let wall = Wall::at(&place, "2026-11-23T11:00:00Z")?;
    let lines = in_one_volume(&place, &pattern(size * MIB), "1M");
    let stamped = with_fields(&lines, &format!("\"window\":\"{window}\",\"tz\":\"Europe/Berlin\""));
    let mut command = place.tool("glacier-put", &[&["--dry-run"], rate, &["v"]].concat());
    let mut ended = run_with(command.envs(wall.environment()), stamped.as_bytes()).done();
    ended.stdout.truncate(ended.stdout.trim_end().len());
    Some(serde_json::from_str(&ended.stdout).unwrap())
}

#[test]
fn the_plan_says_how_many_openings_it_takes_and_when_it_is_done() {
    for (size, window, rate, seconds, openings, done) in [
        (3, "22:00-06:00=1M", None, None, Some(1), Some("2026-11-23T21:00:03Z")),
        (3, "22:00-06:00=1M", Some("512K"), Some(6), Some(1), Some("2026-11-23T21:00:06Z")),
        (3, "22:00-22:01=20K", None, None, Some(3), Some("2026-11-25T21:00:34Z")),
        (3, "22:00-06:00", Some("1M"), Some(3), Some(1), Some("2026-11-23T21:00:03Z")),
        (3, "22:00-06:00", None, None, None, None),
    ] {
        let options = rate.map(|rate| ["--assume-rate", rate]);
        let Some(plan) = planned(size, window, options.as_ref().map_or(&[], |it| &it[..])) else {
            return;
        };
        let told = [&plan["seconds"], &plan["openings"], &plan["done"]];
        assert_eq!(told, [&json!(seconds), &json!(openings), &json!(done)], "{window}: {plan}");
    }
}

#[test]
fn a_terminal_says_what_is_waited_for_and_when_it_is_done() {
    let script = Command::new("script").args(["-qec", "true", "/dev/null"]).output();
    if !script.is_ok_and(|output| output.status.success()) {
        return skip("script: not that of util-linux; nothing is shown on a terminal");
    }
    let place = Place::default();
    let Some(wall) = Wall::at(&place, "2026-11-23T11:00:00Z") else { return };
    let server = Local::believing(&place, 60, wall.environment());
    let lines = in_one_volume(&place, &pattern(3 * MIB), "1M");
    let window = "\"window\":\"22:00-22:01=20K\",\"tz\":\"Europe/Berlin\"";
    std::fs::write(place.path("lines"), with_fields(&lines, window)).unwrap();
    let put = program("glacier-put");
    let typed = format!("stty cols 200 && {} --create-vault v <lines", put.display());
    let mut command = place.command("script");
    server.client(&mut command).envs(wall.environment()).env("TERM", "xterm");
    let mut shown = start(command.args(["-qefc", &typed, "/dev/null"]).stdin(Stdio::null()));
    let says =
        "x: waits for 2026-11-23 22:00; 3 MiB left, 22:00-22:01=20K: 3 openings, done 2026-11-25";
    let (mut seen, mut byte) = (Vec::new(), [0]);
    while !String::from_utf8_lossy(&seen).contains(says) {
        shown.read(&mut byte);
        seen.extend(byte);
        assert!(seen.len() < 100_000, "{}", String::from_utf8_lossy(&seen));
    }
    shown.kill();
}

#[test]
fn a_volume_that_cannot_be_sent_in_one_opening_is_told() {
    let place = Place::default();
    let server = Local::start(&place);
    let large = in_one_volume(&place, &pattern(3 * MIB), "1M");
    let small = chunk_as(&place, &pattern(MIB), &["--trust-eof", "--name", "small"]).done().stdout;
    let stamp = |lines: &str, window: &str| {
        with_fields(lines, &format!("\"window\":\"{window}\",\"tz\":\"UTC\""))
    };
    let weekly = "Sat 00:00-00:01=20K";
    let says = "warning: x: volumes of 3 MiB do not fit into an opening of Sat 00:00-00:01=20K, which takes 1.1 MiB, and the vault may drop what lies for 24 hours; cut the stream with --volume-size 1MiB";
    let planned = |lines: &str| put(&server, &place, &["--dry-run", "v"], lines);
    planned(&stamp(&small, weekly)).done();
    planned(&stamp(&large, "00:00-00:01=20K")).done();
    assert_eq!(planned(&stamp(&large, weekly)).stderr, format!("glacier-put: {says}\n"));

    // Once, though it waits.
    let mut waiting = start(server.put(&place, &["--create-vault", "v"]).stdin(Stdio::piped()));
    waiting.give(stamp(&large, weekly).as_bytes());
    waiting.end_input();
    until("the vault is there", || server.calls("CreateVault") == 1);
    std::thread::sleep(Duration::from_secs(3));
    waiting.close_output();
    let gone = "stdout: the program that reads it has ended; run the same command again";
    let ended = waiting.finish();
    assert_eq!(ended.stderr, format!("glacier-put: {says}\nglacier-put: {gone}\n"));
}
