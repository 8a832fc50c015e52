//! Lines that glacier-window(1) has stamped.

use std::process::Stdio;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::common::local::{Local, pattern};
use crate::common::{Place, start, until};
use crate::put::{MIB, chunk, put, with_fields};

/// The stamp of a window of UTC that begins and ends so many hours from now.
fn stamp(begin: i64, end: i64) -> String {
    let at = |hours| {
        let at = Timestamp::now().checked_add(SignedDuration::from_hours(hours)).unwrap();
        at.strftime("%H:%M").to_string()
    };
    format!("\"window\":\"{}-{}\",\"tz\":\"UTC\"", at(begin), at(end))
}

/// I7.
#[test]
fn sends_nothing_while_the_window_is_closed() {
    let place = Place::default();
    let server = Local::start(&place);
    let bytes = pattern(3 * MIB);
    let lines = chunk(&place, "x", &bytes);
    let mut command = server.put(&place, &["--create-vault", "v"]);
    let mut waiting = start(command.stdin(Stdio::piped()));
    waiting.give(with_fields(&lines, &stamp(2, 4)).as_bytes());
    waiting.end_input();
    until("the vault is there", || server.calls("CreateVault") == 1);
    // Nothing says that it waits, so give it time to do the wrong thing.
    std::thread::sleep(Duration::from_secs(2));
    assert!(waiting.runs());
    assert_eq!(server.calls("InitiateMultipartUpload") + server.calls("UploadMultipartPart"), 0);
    // It notices that nobody reads what it would print.
    waiting.close_output();
    let gone = "stdout: the program that reads it has ended; run the same command again";
    waiting.finish().failed(75, gone);

    put(&server, &place, &["v"], &with_fields(&lines, &stamp(-2, 2))).done();
    server.holds(&place, "v", &bytes);
}

#[test]
fn the_manifest_obeys_the_stamp_of_the_end() {
    let place = Place::default();
    let server = Local::start(&place);
    let lines = chunk(&place, "x", &pattern(3 * MIB));
    let (volumes, end) = lines.split_at(lines.find("{\"type\":\"end\"").unwrap());
    let stamped = with_fields(volumes, &stamp(-2, 2)) + &with_fields(end, &stamp(2, 4));
    let mut command = server.put(&place, &["--create-vault", "v"]);
    let mut waiting = start(command.stdin(Stdio::piped()));
    waiting.give(stamped.as_bytes());
    waiting.end_input();
    until("the volumes are stored", || server.archives("v").len() == 2);
    std::thread::sleep(Duration::from_secs(1));
    assert!(waiting.runs());
    assert_eq!(server.calls("InitiateMultipartUpload"), 2);
    waiting.kill();
    drop(waiting);
    put(&server, &place, &["v"], &with_fields(&lines, &stamp(-2, 2))).done();
    assert_eq!(server.archives("v").len(), 3);
}

#[test]
fn what_is_not_whole_is_not_waited_for() {
    let place = Place::default();
    let server = Local::start(&place);
    let lines = with_fields(&chunk(&place, "x", &pattern(3 * MIB)), &stamp(2, 4));
    let cut = crate::put::before(&lines, "end");
    put(&server, &place, &["--create-vault", "v"], cut).failed(75, crate::put::NOT_WHOLE);
    assert_eq!(server.calls("InitiateMultipartUpload"), 0);
}

#[test]
fn an_unknown_zone_is_78() {
    let place = Place::default();
    let server = Local::start(&place);
    let lines = chunk(&place, "x", &pattern(MIB));
    let stamped = with_fields(&lines, "\"window\":\"22:00-06:00\",\"tz\":\"Europe/Atlantis\"");
    put(&server, &place, &["--create-vault", "v"], &stamped).failed_like(78, "", "");
    let (first, rest) = lines.split_once('\n').unwrap();
    let stamped =
        format!("{first}\n") + &with_fields(rest, "\"window\":\"22:00-06:00\",\"tz\":\"Mars\"");
    put(&server, &place, &["v"], &stamped).failed_like(78, "", "");
    assert_eq!(server.calls("UploadMultipartPart"), 0);
}
