//! glacier-window(1), run as a program.

mod command;
mod oracle;

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::common::skip;

fn tool(args: &[&str]) -> Command {
    let mut tool = Command::new(env!("CARGO_BIN_EXE_glacier-window"));
    tool.args(args).env_clear().stdin(Stdio::null());
    tool
}

/// A window of UTC that begins and ends so many hours from now.
fn around(begin: i64, end: i64) -> String {
    let at = |hours| {
        let at = Timestamp::now().checked_add(SignedDuration::from_hours(hours)).unwrap();
        at.strftime("%H:%M").to_string()
    };
    format!("{}-{}", at(begin), at(end))
}

fn open() -> String {
    around(-2, 2)
}

fn closed() -> String {
    around(2, 4)
}

fn start(command: &mut Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn filter(window: &str, input: &[u8]) -> Output {
    let mut child = start(&mut tool(&["--tz", "UTC", window]));
    // It may refuse the first line before it has taken all.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

/// The exit code, standard output and standard error of a command.
fn run(args: &[&str]) -> (i32, String, String) {
    seen(tool(args).output().unwrap())
}

fn seen(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// Waits for a program to end, which it must by itself.
fn ended(mut child: Child) -> (i32, String, String) {
    let begin = Instant::now();
    while child.try_wait().unwrap().is_none() {
        assert!(begin.elapsed() < Duration::from_mins(1), "still running");
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut error = String::new();
    child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
    (child.wait().unwrap().code().unwrap(), String::new(), error)
}

#[test]
fn stamps_lines_while_open() {
    let window = open();
    let input = "{\"type\":\"stream\", \"new\":[1.50]}\n\n{\"type\":\"end\"}";
    let stamp = format!(",\"window\":\"{window}\",\"tz\":\"UTC\"}}\n");
    let expected = format!("{{\"type\":\"stream\", \"new\":[1.50]{stamp}{{\"type\":\"end\"{stamp}");
    assert_eq!(seen(filter(&window, input.as_bytes())), (0, expected, String::new()));
}

#[test]
fn stamps_days_and_rates_as_they_were_typed() {
    let window = format!("Mon-Sun {}=80Mbit/s, Sat,Sun 00:00-24:00", open());
    let (code, out, error) = seen(filter(&window, b"{\"type\":\"end\"}\n"));
    let expected = format!("{{\"type\":\"end\",\"window\":\"{window}\",\"tz\":\"UTC\"}}\n");
    assert_eq!((code, out, error), (0, expected, String::new()));
}

#[test]
fn ends_well_without_any_line() {
    assert_eq!(seen(filter(&closed(), b"")), (0, String::new(), String::new()));
}

#[test]
fn passes_what_sends_nothing_and_holds_what_is_behind_a_held_line() {
    let mut child = start(&mut tool(&["--tz", "UTC", &closed()]));
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut stdin = child.stdin.take().unwrap();
    stdin
        .write_all(
            b"{\"type\":\"part\",\"part\":0,\"spooled\":false}\n{\"type\":\"failed\",\"code\":65}\n\
              {\"type\":\"part\",\"part\":1}\n{\"type\":\"failed\",\"code\":75}\n",
        )
        .unwrap();
    assert!(lines.next().unwrap().unwrap().starts_with("{\"type\":\"part\",\"part\":0,"));
    assert!(lines.next().unwrap().unwrap().starts_with("{\"type\":\"failed\",\"code\":65,"));
    // Nothing says that it waits, so give it time to do the wrong thing.
    std::thread::sleep(Duration::from_millis(500));
    assert!(child.try_wait().unwrap().is_none());
    // Once nobody writes any more the bad news passes, and nothing else does.
    drop(stdin);
    assert!(lines.next().unwrap().unwrap().starts_with("{\"type\":\"failed\",\"code\":75,"));
    assert!(lines.next().is_none(), "it is told once");
    assert_eq!(child.wait().unwrap().code(), Some(75));
}

#[test]
fn notices_without_writing_that_nobody_reads() {
    for (window, input) in [(closed(), "{\"type\":\"part\"}\n"), (open(), "")] {
        let mut child = start(&mut tool(&["--tz", "UTC", &window]));
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).unwrap();
        drop(child.stdout.take());
        let gone = "glacier-window: stdout: the program that reads it has ended; \
                    run the same command again\n";
        assert_eq!(ended(child), (75, String::new(), gone.to_owned()));
        drop(stdin);
    }
}

/// The line that tells the next tool of a failure.
fn told(code: i32, error: &str) -> String {
    let message = error.strip_prefix("glacier-window: ").unwrap().trim_end();
    let message = serde_json::to_string(message).unwrap();
    format!("{{\"type\":\"failed\",\"code\":{code},\"message\":{message}}}\n")
}

#[test]
fn refuses_what_breaks_the_protocol() {
    let good = "{\"type\":\"part\"}\n";
    for (line, why) in [
        ("hello\n", "not JSON"),
        ("{\"type\":\"par", "not JSON"),
        ("[]\n", "a list is not a JSON object"),
        ("{\"part\":1}\n", "no \"type\""),
        ("{\"type\":\"part\",\"window\":\"22:00-06:00\"}\n", "already has a \"window\""),
    ] {
        let (code, out, error) = seen(filter(&open(), format!("{good}\n{line}{good}").as_bytes()));
        assert_eq!(out.split_inclusive('\n').nth(1).unwrap(), told(65, &error));
        assert_eq!(out.lines().count(), 2);
        assert_eq!((code, error), (65, format!("glacier-window: stdin: line 3: {why}\n")));
    }
}

#[test]
fn refuses_a_long_line_without_taking_it_all() {
    let mut child = start(&mut tool(&["--tz", "UTC", &open()]));
    let mut stdin = child.stdin.take().unwrap();
    // Without an end: it must not wait for one.
    stdin.write_all(&vec![b' '; 4097]).unwrap();
    let hint = "; are these lines of glacier-chunk?";
    let long = format!("glacier-window: stdin: line 1: longer than 4096 bytes{hint}\n");
    assert_eq!(ended(child), (65, String::new(), long));
    drop(stdin);
    let line = format!("{{\"type\":\"{}\"}}\n", "x".repeat(4070));
    let (code, out, error) = seen(filter(&open(), line.as_bytes()));
    let long = "glacier-window: stdin: line 1: longer than 4096 bytes with its window\n";
    assert_eq!((code, out, error.as_str()), (65, told(65, &error), long));
    let (code, out, error) = seen(filter(&open(), b"PK a stream itself\n"));
    let not = format!("glacier-window: stdin: line 1: not JSON{hint}\n");
    assert_eq!((code, out, error), (65, told(65, &not), not));
}

#[test]
fn fails_when_standard_output_is_full() {
    let Ok(full) = File::options().write(true).open("/dev/full") else {
        skip("/dev/full: not there");
        return;
    };
    let mut command = tool(&["--tz", "UTC", &open()]);
    command.stdin(Stdio::piped()).stdout(full).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"{\"type\":\"part\"}\n").unwrap();
    let full = "glacier-window: stdout: cannot write: No space left on device\n";
    assert_eq!(ended(child), (74, String::new(), full.to_owned()));
}

#[test]
fn answers_check_by_its_exit_status_alone() {
    let quiet = |code| (code, String::new(), String::new());
    assert_eq!(run(&["--check", "--tz", "UTC", &open()]), quiet(0));
    assert_eq!(run(&["--check", "--tz", "UTC", "00:00-24:00"]), quiet(0));
    assert_eq!(run(&["--check", "--tz", "UTC", &closed()]), quiet(1));
}

fn line(args: &[&str]) -> (i32, Value) {
    let (code, out, error) = run(args);
    assert_eq!(error, "");
    (code, serde_json::from_str(&out).unwrap())
}

#[test]
fn tells_when_it_opens_and_closes() {
    let now = Timestamp::now();
    let hours = |line: &Value, field: &str| {
        let at: Timestamp = line[field].as_str().unwrap().parse().unwrap();
        at.duration_since(now).as_secs_f64() / 3600.0
    };
    let (code, line_open) = line(&["--next", "--tz", "UTC", &open()]);
    assert_eq!((code, &line_open["open"]), (0, &Value::Bool(true)));
    assert!((1.9..2.1).contains(&hours(&line_open, "closes")), "{line_open}");
    assert!((21.9..22.1).contains(&hours(&line_open, "opens")), "{line_open}");
    let (code, line_closed) = line(&["--next", "--tz", "UTC", &closed()]);
    assert_eq!((code, &line_closed["open"]), (0, &Value::Bool(false)));
    assert!((1.9..2.1).contains(&hours(&line_closed, "opens")), "{line_closed}");
    assert!((3.9..4.1).contains(&hours(&line_closed, "closes")), "{line_closed}");
    let (code, calendar, error) = run(&["--calendar", "--tz", "UTC", &closed()]);
    assert!(calendar.contains("by the clock on the wall: UTC\n"), "{calendar}");
    assert_eq!((code, error), (0, String::new()));
    let all_day = "{\"type\":\"window\",\"window\":\"00:00-24:00\",\"tz\":\"UTC\",\"open\":true}\n";
    for question in ["--next", "--remaining"] {
        let seen = run(&[question, "--tz", "UTC", "00:00-24:00"]);
        assert_eq!(seen, (0, all_day.to_owned(), String::new()));
    }
}

#[test]
fn tells_at_when_it_opens_by_the_clock_of_the_system() {
    let at = |zone: &str, window: &str| {
        let out =
            tool(&["--next", "--format", "at", "--tz", "UTC", window]).env("TZ", zone).output();
        let (code, out, error) = seen(out.unwrap());
        assert_eq!((code, error), (0, String::new()));
        out
    };
    let hours = |hours| {
        let at = Timestamp::now().checked_add(SignedDuration::from_hours(hours)).unwrap();
        at.strftime("%Y%m%d%H%M\n").to_string()
    };
    let window = closed();
    // Nine hours ahead of UTC, and the hour may end meanwhile.
    let (before, found, after) = (hours(11), at("XXX-9", &window), hours(11));
    assert!(before == found || found == after, "{before} {found} {after}");
    assert_eq!(at("XXX-9", "00:00-24:00"), "");
    let (code, out, error) = seen(
        tool(&["--next", "--format", "at", "--tz", "UTC", &window])
            .env("TZ", "No")
            .output()
            .unwrap(),
    );
    assert_eq!((code, out.as_str()), (78, ""), "{error}");
}

#[test]
fn warns_of_a_window_that_is_closed_for_a_day() {
    let warning = |gap: &str| {
        format!(
            "glacier-window: warning: the window is closed for {gap} at a time, \
             and a vault may drop an upload that is idle for 24 h\n"
        )
    };
    let said = |args: &[&str]| seen(tool(args).args(["--tz", "UTC"]).output().unwrap()).2;
    for (window, gap) in [
        ("Sat 00:00-06:00", Some("6 d 18 h")),
        ("Tue-Sun 00:00-24:00", Some("1 d")),
        ("Tue-Sun 00:00-24:00,Mon 12:00-12:01", None),
        ("00:00-00:01", None),
    ] {
        let expected = gap.map(warning).unwrap_or_default();
        for args in [&["--next"][..], &["--next", "--format", "at"], &["--calendar"], &[]] {
            assert_eq!(said(&[args, &[window]].concat()), expected, "{args:?} {window}");
        }
        // Cron mails what is said.
        for question in ["--check", "--remaining"] {
            assert_eq!(said(&[question, window]), "", "{question}");
        }
    }
}

#[test]
fn tells_how_long_it_stays_open() {
    let (code, open) = line(&["--remaining", "--tz", "UTC", &open()]);
    let left = open["remaining_s"].as_i64().unwrap();
    assert!(code == 0 && (7000..=7200).contains(&left), "{open}");
    let (code, closed) = line(&["--remaining", "--tz", "UTC", &closed()]);
    assert_eq!(
        (code, &closed["remaining_s"], &closed["open"]),
        (1, &0.into(), &Value::Bool(false))
    );
}

#[test]
fn refuses_a_wrong_command_line() {
    for (args, why) in [
        (&["22-06"][..], "'22-06' is not HH:MM-HH:MM, such as 22:00-06:00"),
        (&["Mon-Fri"], "'Mon-Fri' has no hours, such as Mon-Fri 22:00-06:00"),
        (&["Mon", "22:00-06:00"], "unexpected argument"),
        (&["22:00-06:00=0"], "\"0\" moves nothing"),
        (&["06:00-06:00"], "'06:00-06:00' is empty; all day is 00:00-24:00"),
        (&[], "required arguments were not provided"),
        (&["--check", "--next", "22:00-06:00"], "cannot be used with"),
        (&["--calendar", "--remaining", "22:00-06:00"], "cannot be used with"),
        (&["--next", "22:00-06:00", "--", "true"], "cannot be used with"),
        (&["--repeat", "22:00-06:00"], "were not provided: <COMMAND>"),
        (&["--grace", "5s", "22:00-06:00"], "were not provided: <COMMAND>"),
        (&["--grace", "5", "22:00-06:00", "--", "true"], "is no duration"),
        (&["--format", "at", "22:00-06:00"], "were not provided: --next"),
        (&["--next", "--format", "xml", "22:00-06:00"], "'xml'"),
        (&["22:00-06:00", "23:00-06:00"], "unexpected argument"),
    ] {
        let (code, out, error) = run(args);
        assert_eq!((code, error.lines().count()), (64, 1), "{error}");
        assert_eq!(out, told(64, &error));
        assert!(error.starts_with("glacier-window: ") && error.contains(why), "{error}");
    }
}

#[test]
fn never_takes_an_unknown_zone_for_another() {
    for args in [&["--check"][..], &["--next"], &["--remaining"], &[]] {
        let (code, out, error) = run(&[args, &["--tz", "Europe/Atlantis", "00:00-24:00"]].concat());
        // A question is answered to whoever asks, not to a pipe.
        let is_told = if args.is_empty() { told(78, &error) } else { String::new() };
        assert_eq!((code, out), (78, is_told));
        assert_eq!(
            error,
            "glacier-window: 'Europe/Atlantis' is not the name of a time zone, \
             such as Europe/Berlin\n"
        );
        let (code, out, error) =
            seen(tool(args).arg("00:00-24:00").env("TZ", "Europe/Atlantis").output().unwrap());
        // A question is answered to whoever asks, not to a pipe.
        let is_told = if args.is_empty() { told(78, &error) } else { String::new() };
        assert_eq!((code, out), (78, is_told));
        assert_eq!(
            error,
            "glacier-window: the local time zone cannot be told; name it with --tz\n"
        );
    }
}

#[test]
fn takes_local_time_from_the_environment() {
    let window = open();
    for (zone, code) in [("UTC", 0), ("Etc/GMT-6", 1), ("XXX-6", 1), (":UTC", 0)] {
        let out = tool(&["--check", &window]).env("TZ", zone).output().unwrap();
        assert_eq!(out.status.code(), Some(code), "{zone}");
        let out = tool(&["--next", &window]).env("TZ", zone).output().unwrap();
        let line: Value = serde_json::from_slice(&out.stdout).unwrap();
        assert!(line.get("tz").is_none(), "{line}");
    }
}

#[test]
fn lets_go_of_a_line_when_the_window_opens() {
    let there = Command::new("faketime").arg("--version").output();
    if !there.is_ok_and(|output| output.status.success()) {
        skip("faketime: not found, nothing opens while a test waits; try scripts/test");
        return;
    }
    let program = env!("CARGO_BIN_EXE_glacier-window");
    let mut faked = Command::new("faketime");
    faked.args(["2026-01-05 21:59:58", program, "--tz", "UTC", "22:00-06:00"]).env("TZ", "UTC");
    let mut child = start(&mut faked);
    child.stdin.take().unwrap().write_all(b"{\"type\":\"part\"}\n").unwrap();
    let begin = Instant::now();
    let mut out = String::new();
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    assert_eq!(out, "{\"type\":\"part\",\"window\":\"22:00-06:00\",\"tz\":\"UTC\"}\n");
    assert!(begin.elapsed() > Duration::from_millis(800), "{:?}", begin.elapsed());
    assert_eq!(ended(child), (0, String::new(), String::new()));
}
