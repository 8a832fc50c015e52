//! Hours, days and nights in which the network does its worst.

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use crate::common::local::{Local, pattern};
use crate::common::{Place, run_with, skip, start, until};
use crate::put::{MIB, before, chunk, put, with_fields};

const WAITS: &str = "volume 0: the service never said whether it is stored; looked for in the vault's next inventory, run the same command again tomorrow";
const LOST_TWICE: &str =
    "volume 0: the service has dropped its upload 2 times; use a smaller --volume-size";

/// Cuts bytes into parts of this size, and one volume.
pub fn in_one_volume(place: &Place, bytes: &[u8], part_size: &str) -> String {
    let sizes = ["--part-size", part_size, "--volume-size", "64M", "--spool-limit", "none"];
    let mut command = place.tool("glacier-chunk", &sizes);
    run_with(command.args(["--trust-eof", "--name", "x"]), bytes).done().stdout
}

pub fn part_lines(server: &Local) -> Vec<Value> {
    let log = server.log().into_iter();
    log.filter(|line| line["call"] == "UploadMultipartPart").collect()
}

/// A time of the log.
pub fn at(line: &Value, field: &str) -> Timestamp {
    line[field].as_str().unwrap().parse().unwrap()
}

/// Most parts that were under way at the same time.
pub fn at_once(lines: &[Value]) -> usize {
    let under_way = |now: Timestamp| {
        lines.iter().filter(|line| at(line, "begin") <= now && now < at(line, "time")).count()
    };
    lines.iter().map(|line| under_way(at(line, "begin"))).max().unwrap()
}

#[test]
fn timeouts_lower_how_many_requests_are_made_at_a_time() {
    let late = r#"{"call":"UploadMultipartPart","from":5,"times":"all","do":"delay","ms":150}"#;
    let refused = r#"{"call":"UploadMultipartPart","times":4,"do":"refuse","code":"RequestTimeoutException"}"#;
    for (plan, most) in [(late.to_owned(), 4), (format!("{refused}\n{late}"), 1)] {
        let place = Place::default();
        let server = Local::with_faults(&place, 600, &plan);
        let bytes = pattern(14 * MIB);
        let lines = in_one_volume(&place, &bytes, "1M");
        put(&server, &place, &["--create-vault", "v"], &lines).done();
        // The last one is of the manifest.
        let mut parts = part_lines(&server);
        parts.retain(|line| line["fault"] == "delay");
        parts.pop();
        assert_eq!(at_once(&parts), most, "{parts:?}");
    }
}

/// Credentials of a program that gives other ones each time it is asked.
fn process(place: &Place, first: &str, then: &str) -> std::path::PathBuf {
    let (script, config) = (place.path("keys"), place.path("config"));
    let asked = place.path("asked");
    let text = format!(
        "#!/bin/sh\necho >>'{0}'\nif [ \"$(wc -l <'{0}')\" -eq 1 ]; then echo '{first}'; else echo '{then}'; fi\n",
        asked.display()
    );
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let text = format!("[default]\ncredential_process = {}\n", script.display());
    std::fs::write(&config, text).unwrap();
    config
}

fn keys(id: &str, secret: &str) -> String {
    serde_json::json!({"Version": 1, "AccessKeyId": id, "SecretAccessKey": secret}).to_string()
}

fn asked(place: &Place) -> usize {
    std::fs::read_to_string(place.path("asked")).unwrap().lines().count()
}

#[test]
fn credentials_that_are_refused_are_loaded_again_once() {
    for heals in [true, false] {
        let place = Place::default();
        let server = Local::start(&place);
        let bytes = pattern(3 * MIB);
        let lines = chunk(&place, "x", &bytes);
        let (old, new) =
            (keys("OLD", "old"), keys(&server.key("aws_access_key_id"), &server.secret()));
        let config = process(&place, &old, if heals { &new } else { &old });
        let mut command = server.put(&place, &["--create-vault", "v"]);
        command.env("AWS_CONFIG_FILE", config).env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
        let ended = run_with(&mut command, lines.as_bytes());
        assert_eq!(asked(&place), 2);
        if heals {
            ended.done();
            server.holds(&place, "v", &bytes);
        } else {
            let why = "glacier://v: UnrecognizedClient: The security token included in the request is invalid; check the access key id";
            ended.failed(77, why);
            assert_eq!(server.log().len(), 2);
        }
    }
}

#[test]
fn a_file_of_credentials_that_changes_is_read_again() {
    let place = Place::default();
    let server = Local::start(&place);
    let bytes = pattern(3 * MIB);
    let lines = chunk(&place, "x", &bytes);
    let file = place.path("mine");
    std::fs::write(&file, "[default]\naws_access_key_id = OLD\naws_secret_access_key = old\n")
        .unwrap();
    let mut command = server.put(&place, &["--create-vault", "v"]);
    command.env("AWS_SHARED_CREDENTIALS_FILE", &file);
    let mut running = start(command.stdin(Stdio::piped()));
    until("it is refused", || server.log().len() == 1);
    std::fs::copy(place.path("server/credentials"), &file).unwrap();
    running.give(lines.as_bytes());
    running.end_input();
    running.finish().done();
    server.holds(&place, "v", &bytes);
}

#[test]
fn two_losses_of_a_volume_end_it_though_nights_lie_between() {
    let place = Place::default();
    let mut server = Local::start(&place);
    let bytes = pattern(3 * MIB);
    let lines = chunk(&place, "x", &bytes);
    let first_night = before(&lines, "volume");
    put(&server, &place, &["--create-vault", "v"], first_night).failed(75, crate::put::NOT_WHOLE);
    server.pass_a_day();
    put(&server, &place, &["v"], first_night).failed(75, crate::put::NOT_WHOLE);
    server.pass_a_day();
    put(&server, &place, &["v"], &lines).failed(69, LOST_TWICE);
    put(&server, &place, &["v"], &lines).done();
    server.holds(&place, "v", &bytes);
}

/// I4: that there is no archive is proven before the volume is sent again.
#[test]
fn an_archive_that_no_inventory_has_is_sent_again() {
    let place = Place::default();
    let plan = r#"{"call":"CompleteMultipartUpload","times":"all","do":"drop"}"#;
    let mut server = Local::with_faults(&place, 600, plan);
    let bytes = pattern(2 * MIB);
    let lines = chunk(&place, "x", &bytes);
    let ended = put(&server, &place, &["--create-vault", "--patience", "1s", "v"], &lines);
    ended.failed_like(75, "glacier://v: volume 0: ", "; run the same command again");
    server.fail("");
    server.pass(27);
    put(&server, &place, &["v"], &lines).failed(75, WAITS);
    // The vault changes, so that there is a new inventory a day later.
    let other = chunk(&place, "y", &bytes);
    put(&server, &place, &["v"], &other).done();
    let mut runs = 0;
    loop {
        server.pass(27);
        let again = put(&server, &place, &["v"], &lines);
        if again.code() == 0 {
            break;
        }
        runs += 1;
        again.failed(75, WAITS);
        assert!(runs < 6, "it is never sent again");
        // The job is ready after four hours.
        server.pass(5);
        if put(&server, &place, &["v"], &lines).code() == 0 {
            break;
        }
    }
    let parts = server.archives("v").into_iter().filter(|held| held.description["name"] == "x");
    assert_eq!(parts.count(), 2, "a volume and its manifest");
}

/// I7, while bytes flow.
#[test]
fn what_is_in_flight_when_the_window_closes_ends_with_the_grace() {
    const SIZE: usize = 40 * MIB;
    let faketime = Command::new("faketime").args(["-f", "+1s", "true"]).status();
    if !faketime.is_ok_and(|status| status.success()) {
        return skip("faketime: not found; no window closes while bytes flow");
    }
    let place = Place::default();
    // Twenty seconds; some of what is sent waits in the kernel.
    let plan = r#"{"call":"UploadMultipartPart","times":"all","do":"drip","rate":2000000}"#;
    let mut server = Local::with_faults(&place, 600, plan);
    let bytes = pattern(SIZE);
    let lines = in_one_volume(&place, &bytes, "64M");

    // put's clock stands three seconds before the end of a minute.
    let now = Timestamp::now();
    let ahead = (57 - now.as_second().rem_euclid(60)).rem_euclid(60);
    let closes = now + jiff::SignedDuration::from_secs(ahead + 3);
    let closes = closes.round(jiff::Unit::Minute).unwrap();
    let opens = closes - jiff::SignedDuration::from_mins(30);
    let hours = |from: Timestamp, to: Timestamp| {
        let of = |time: Timestamp| time.strftime("%H:%M").to_string();
        format!("\"window\":\"{}-{}\",\"tz\":\"UTC\"", of(from), of(to))
    };
    let stamped = with_fields(&lines, &hours(opens, closes));
    let put_itself = server.put(&place, &["--create-vault", "--grace", "1s", "v"]);
    let mut command = place.command("faketime");
    command.args(["-f", &format!("+{ahead}s")]).arg(put_itself.get_program());
    command.args(put_itself.get_args());
    server.client(&mut command);
    let mut running = start(command.stdin(Stdio::piped()));
    running.give(stamped.as_bytes());
    running.end_input();
    until("the part has ended", || !part_lines(&server).is_empty());
    // Time to do the wrong thing.
    std::thread::sleep(Duration::from_secs(1));
    assert!(running.runs(), "it waits for the next opening");
    running.kill();
    drop(running);
    let parts = part_lines(&server);
    let really = |time: Timestamp| time - jiff::SignedDuration::from_secs(ahead);
    assert_eq!(parts.len(), 1, "nothing begins in a closed window: {parts:?}");
    assert_eq!(parts[0]["code"], "RequestTimeoutException", "it broke off: {parts:?}");
    assert!(parts[0]["received"].as_u64() < Some(SIZE as u64), "{parts:?}");
    assert!(at(&parts[0], "begin") < really(closes), "{parts:?}");
    let over = at(&parts[0], "time").duration_since(really(closes));
    assert!(over >= jiff::SignedDuration::from_millis(900), "it had its grace: {over}");
    assert!(over < jiff::SignedDuration::from_secs(12), "{over}");
    assert!(server.archives("v").is_empty());

    server.fail("");
    put(&server, &place, &["v"], &lines).done();
    let held = server.archives("v");
    assert_eq!(held.len(), 2);
    assert!(server.content("v", &held[0].id) == bytes, "other bytes");
}
