//! Whole pipelines, as a plain sh runs them: only the last program is asked
//! how it went. Cut short, and killed.

mod dead;

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::local::{self, Local, pattern};
use crate::common::{Ended, PATIENCE, Place, run, run_with};
use jiff::{SignedDuration, Timestamp};

const MIB: usize = 1 << 20;

/// How to cut in these tests.
const SIZES: &str = "--part-size 1M --volume-size 2M";

/// A script for sh, in which the tools are found and use this server.
fn sh(server: &Local, place: &Place, script: &str) -> Ended {
    let tools = Path::new(env!("CARGO_BIN_EXE_glacier-put")).parent().unwrap();
    let path = std::env::var("PATH").unwrap();
    let mut shell = place.command("sh");
    shell.args(["-c", script]).env("PATH", format!("{}:{path}", tools.display()));
    run(server.client(&mut shell))
}

/// Asserts that a vault has no manifest, and nothing says that a stream is
/// stored.
#[track_caller]
fn is_not_stored(server: &Local, place: &Place, ended: &Ended) {
    assert!(ended.of_type("stored").is_empty(), "{}", ended.stdout);
    is_stored_nowhere(server, place);
}

/// The same, whatever was printed.
#[track_caller]
fn is_stored_nowhere(server: &Local, place: &Place) {
    assert!(!local::catalog(place).contains("\"type\":\"stored\""));
    assert!(server.archives("v").iter().all(|held| held.volume().is_some()), "I1");
}

#[test]
fn a_first_program_that_fails_or_is_not_there_is_no_success() {
    let place = Place::default();
    let server = Local::start(&place);
    let none = "glacier-put: stdin: no line at all; --allow-empty if that is right\n";
    for (first, code, says) in [
        ("false | glacier-chunk", 65, "glacier-put: stdin: empty stream\n"),
        ("false | glacier-chunk --trust-eof --name x", 65, "glacier-put: stdin: empty stream\n"),
        // These may have been killed.
        ("glacier-chunkk", 75, none),
        ("false", 75, none),
        ("echo hello | glacier-chunk --name x | head -n 0", 75, none),
        ("sh -c 'kill -9 $$'", 75, none),
    ] {
        let ended = sh(&server, &place, &format!("{first} | glacier-put --create-vault v"));
        assert_eq!(ended.code(), code, "{first}: {}", ended.stderr);
        assert!(ended.stderr.contains(says), "{first}: {}", ended.stderr);
        is_not_stored(&server, &place, &ended);
    }
}

#[test]
fn a_snapshot_goes_through_a_window_into_a_vault() {
    let place = Place::default();
    let server = Local::start(&place);
    let at = |hours| {
        let at = Timestamp::now().checked_add(SignedDuration::from_hours(hours)).unwrap();
        at.strftime("%H:%M").to_string()
    };
    let bytes = fs::read("tests/streams/full.zfs").unwrap();
    fs::write(place.path("in"), &bytes).unwrap();
    let script = format!(
        "cat in | glacier-chunk {SIZES} | glacier-window --tz UTC {}-{} | \
         glacier-put --create-vault v",
        at(-2),
        at(2)
    );
    let done = sh(&server, &place, &script).done();
    assert_eq!(done.of_type("stored").len(), 1);
    server.holds(&place, "v", &bytes);
    // The same again sends nothing.
    let calls = server.calls("InitiateMultipartUpload");
    let again = sh(&server, &place, &script).done();
    assert_eq!(local::sorted(&again.stdout), local::sorted(&done.stdout));
    assert_eq!(server.calls("InitiateMultipartUpload"), calls);
}

#[test]
fn spooled_now_and_sent_later_is_the_same() {
    let place = Place::default();
    let server = Local::start(&place);
    let bytes = pattern(5 * MIB + 3);
    fs::write(place.path("in"), &bytes).unwrap();
    let cut = format!("cat in | glacier-chunk {SIZES} --trust-eof --name x --spool-limit none");
    let none = sh(&server, &place, &format!("{cut} >/dev/null")).done();
    assert_eq!(none.stdout, "");
    let send = "cat \"$GLACIER_SPOOL\"/*/lines.jsonl | glacier-put --create-vault v";
    assert_eq!(sh(&server, &place, send).done().of_type("stored").len(), 1);
    server.holds(&place, "v", &bytes);
}

#[test]
fn a_stream_cut_anywhere_is_never_stored() {
    for (name, options) in [("full.zfs", ""), ("replication-R-I.zfs", "--trust-eof")] {
        let place = Place::default();
        let server = Local::start(&place);
        let bytes = fs::read(format!("tests/streams/{name}")).unwrap();
        fs::write(place.path("in"), &bytes).unwrap();
        let size = bytes.len();
        // The last record, END, has 312 bytes.
        for cut in
            [311, 313, 5000, size / 3, size / 2, MIB, 2 * MIB, size - 313, size - 311, size - 1]
        {
            if cut >= size {
                continue;
            }
            let ended = sh(
                &server,
                &place,
                &format!(
                    "head -c {cut} in | glacier-chunk {SIZES} {options} | tee lines | \
                     glacier-put --create-vault v"
                ),
            );
            assert_eq!(ended.code(), 65, "{name} at {cut}: {}", ended.stderr);
            let said: Vec<&str> = ended.stderr.lines().collect();
            assert_eq!(said.len(), 2, "{name} at {cut}: {said:?}");
            let (chunk, put) = (said[0].split_once(": "), said[1].split_once(": "));
            assert_eq!(chunk.unwrap().1, put.unwrap().1, "the same of both");
            assert!(said[0].contains("stream: "), "{name} at {cut}: {said:?}");
            let lines = fs::read_to_string(place.path("lines")).unwrap();
            assert!(!lines.contains("\"type\":\"end\"") && lines.contains("\"type\":\"failed\""));
            is_not_stored(&server, &place, &ended);
        }
        // Whole at last.
        let script =
            format!("cat in | glacier-chunk {SIZES} {options} | glacier-put --create-vault v");
        sh(&server, &place, &script).done();
        server.holds(&place, "v", &bytes);
    }
}

#[test]
fn a_producer_that_dies_is_told_apart_from_one_that_ends() {
    let place = Place::default();
    let server = Local::start(&place);
    let bytes = pattern(3 * MIB);
    fs::write(place.path("in"), &bytes).unwrap();
    let pipe = |first: &str| {
        format!(
            "{{ {first} && : >marker; }} | glacier-chunk {SIZES} --name x --whole marker | \
             glacier-put --create-vault v"
        )
    };
    let dead = sh(&server, &place, &pipe("{ cat in; false; }"));
    assert_eq!(dead.code(), 65, "{}", dead.stderr);
    is_not_stored(&server, &place, &dead);
    sh(&server, &place, &pipe("cat in")).done();
    server.holds(&place, "v", &bytes);
}

/// Numbers that look like chance and come again with their seed.
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// `glacier-chunk <in | glacier-put v`.
fn pipeline(server: &Local, place: &Place) -> [Child; 2] {
    let arguments: Vec<&str> = SIZES.split(' ').chain(["--trust-eof", "--name", "x"]).collect();
    let quietly = |command: &mut Command| command.stderr(Stdio::piped()).spawn().unwrap();
    let mut chunk = quietly(
        place
            .tool("glacier-chunk", &arguments)
            .stdin(File::open(place.path("in")).unwrap())
            .stdout(Stdio::piped()),
    );
    let put = quietly(
        server
            .put(place, &["--create-vault", "v"])
            .stdin(chunk.stdout.take().unwrap())
            .stdout(Stdio::null()),
    );
    [chunk, put]
}

/// Waits until both have ended by themselves; the exit code of the last.
fn end(programs: [Child; 2]) -> (Option<i32>, String) {
    let begin = Instant::now();
    let mut last = (None, String::new());
    for mut program in programs {
        while program.try_wait().unwrap().is_none() {
            assert!(begin.elapsed() < PATIENCE, "it hangs");
            std::thread::sleep(Duration::from_millis(5));
        }
        let output = program.wait_with_output().unwrap();
        last = (output.status.code(), String::from_utf8(output.stderr).unwrap());
    }
    last
}

#[test]
fn killed_at_any_time_it_goes_on_and_stores_nothing_twice() {
    let seed = std::env::var("AKASHITA_SEED").ok().and_then(|seed| seed.parse().ok());
    let now = || u64::from(Timestamp::now().subsec_nanosecond().unsigned_abs()) + 1;
    let mut dice = Dice(seed.unwrap_or_else(now));
    eprintln!("AKASHITA_SEED={}", dice.0);
    for round in 0..15 {
        let place = Place::default();
        let server = Local::start(&place);
        let bytes = pattern(7 * MIB + 5);
        fs::write(place.path("in"), &bytes).unwrap();
        for _ in 0..=dice.throw(4) {
            let mut programs = pipeline(&server, &place);
            std::thread::sleep(Duration::from_millis(dice.throw(300)));
            let victim = usize::from(dice.throw(2) == 0);
            let _ = programs[victim].kill();
            // The other ends by itself; put succeeds only if all was done.
            let (code, said) = end(programs);
            assert!(!matches!(code, Some(70 | 101)), "round {round}: {said}");
            let is_stored = local::catalog(&place).contains("\"type\":\"stored\"");
            assert!(code != Some(0) || is_stored, "round {round}");
        }
        let (code, said) = end(pipeline(&server, &place));
        assert_eq!((code, said.as_str()), (Some(0), ""), "round {round}");
        server.holds(&place, "v", &bytes);
    }
}

/// The last tool of a pipe is the one whose status is seen.
#[test]
fn what_is_wrong_with_a_command_line_is_told_through_the_pipe() {
    let place = Place::default();
    let last = |lines: &Ended| {
        run_with(&mut place.tool("glacier-put", &["--dry-run", "v"]), lines.stdout.as_bytes())
    };
    let mut frob = place.tool("glacier-chunk", &["--frob"]);
    let said = "unexpected argument '--frob' found; see 'glacier-chunk --help'";
    last(&run(&mut frob).failed(64, said)).failed(64, said);
    let mut odd = place.tool("glacier-chunk", &["--part-size", "3M"]);
    let odd = run(&mut odd);
    assert_eq!((odd.code(), last(&odd).code()), (64, 64), "{}", odd.stderr);
    let window = |arguments: &[&str]| run(&mut place.tool("glacier-window", arguments));
    let said = "'Nowhere' is not the name of a time zone, such as Europe/Berlin";
    last(&window(&["--tz", "Nowhere", "22:00-06:00"]).failed(78, said)).failed(78, said);
    let said = "'22-06' is not HH:MM-HH:MM, such as 22:00-06:00";
    last(&window(&["22-06"]).failed(64, said)).failed(64, said);
    let lines = run_with(&mut place.tool("glacier-window", &["00:00-24:00"]), b"no line\n");
    let said = "stdin: line 1: not JSON; are these lines of glacier-chunk?";
    last(&lines.failed(65, said)).failed(65, said);
    // Root has a state directory of its own.
    if !rustix::process::geteuid().is_root() {
        let mut homeless = place.tool("glacier-chunk", &["--trust-eof", "--name", "x"]);
        homeless.env_remove("HOME").env_remove("GLACIER_SPOOL");
        let said = "no state directory: neither HOME nor XDG_STATE_HOME is set";
        last(&run(&mut homeless).failed(78, said)).failed(78, said);
    }
}
