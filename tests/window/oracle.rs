//! Every minute of a year, against what Python's zoneinfo makes of the same
//! windows: oracle.py shares no code with the suite, and no zone database
//! reader.

use std::process::{Command, Stdio};

use akashita::window::{Flow, Window, Zone};
use jiff::{SignedDuration, Timestamp};

use crate::common::skip;

const PYTHON: &str = include_str!("oracle.py");
const SPECS: &str = include_str!("specs.txt");

/// Half an hour of summer, both hemispheres, a change at midnight, and none.
const ZONES: [&str; 5] = [
    "Australia/Lord_Howe",
    "Europe/Berlin",
    "America/Santiago",
    "America/New_York",
    "Asia/Kolkata",
];

/// 1 January 2026, 00:00 UTC.
const START: i64 = 1_767_225_600;

/// Minutes of the year.
const YEAR: usize = 365 * 24 * 60;

/// What comes behind the year is known for so many more, to find changes in.
const AHEAD: usize = 16 * 24 * 60;

fn at(minute: usize) -> Timestamp {
    Timestamp::from_second(START + i64::try_from(minute).unwrap() * 60).unwrap()
}

/// The runs of equal minutes that the oracle tells of.
fn runs(text: &str) -> Vec<(Flow, usize)> {
    let run = |run: &str| {
        let (flow, minutes) = run.split_once(':').unwrap();
        let flow = match flow {
            "closed" => Flow::Closed,
            "free" => Flow::Free,
            rate => Flow::Rate(rate.parse().unwrap()),
        };
        (flow, minutes.parse().unwrap())
    };
    text.split(' ').map(run).collect()
}

/// How many minutes of the year differ, and whether each change is found from
/// the first and the last minute before it, and from some between.
fn differences(zone: &str, spec: &str, told: &str) -> usize {
    let (window, named) = (Window::parse(spec).unwrap(), Zone::named(zone).unwrap());
    let runs = runs(told);
    let begins: Vec<usize> = runs
        .iter()
        .scan(0, |next, (_, minutes)| {
            let begin = *next;
            *next += minutes;
            Some(begin)
        })
        .collect();
    assert_eq!(runs.iter().map(|(_, minutes)| minutes).sum::<usize>(), YEAR + AHEAD);
    let mut different = 0;
    for (number, (flow, minutes)) in runs.iter().enumerate() {
        let begin = begins[number];
        if begin >= YEAR {
            break;
        }
        for minute in begin..(begin + minutes).min(YEAR) {
            let now = at(minute);
            let found = window.flow(now, &named);
            if found != *flow {
                eprintln!("{zone}: {spec}: {now}: {found:?}, and the oracle says {flow:?}");
                different += 1;
            }
        }
        let next = |from: usize, wanted: &dyn Fn(Flow) -> bool| {
            (from..runs.len()).find(|run| wanted(runs[*run].0))
        };
        let change = next(number + 1, &|_| true);
        let close = next(number, &|flow| !flow.is_open());
        let open = close.and_then(|close| next(close, &Flow::is_open));
        let last = begin + minutes - 1;
        for minute in (begin..=last).step_by(37).chain([last]) {
            // Not on the minute, as nobody asks then.
            let now = at(minute) + SignedDuration::from_millis(41_500);
            let place = format!("{zone}: {spec}: {now}");
            let expected = change.map(|run| (at(begins[run]), runs[run].0));
            assert_eq!(window.next_flow(now, &named), expected, "{place}");
            let expected = open.map(|run| at(begins[run]));
            assert_eq!(window.next_open(now, &named), expected, "{place}");
            let expected = close.filter(|_| flow.is_open()).map(|run| at(begins[run]));
            assert_eq!(window.closes(now, &named), expected, "{place}");
        }
    }
    different
}

#[test]
fn every_minute_of_a_year_is_what_another_calendar_says() {
    let has_zones = Command::new("python3")
        .args(["-c", "import sys, zoneinfo\nfor name in sys.argv[1:]: zoneinfo.ZoneInfo(name)"])
        .args(ZONES)
        .stderr(Stdio::null())
        .status();
    if !has_zones.is_ok_and(|status| status.success()) {
        return skip("python3: no zoneinfo with the five zones; windows are not compared with it");
    }
    let specs: Vec<&str> = SPECS.lines().collect();
    assert_eq!(specs.len(), 20);
    let mut oracles = Vec::new();
    for zone in ZONES {
        let mut oracle = Command::new("python3");
        oracle.args(["-c", PYTHON, &START.to_string(), &(YEAR + AHEAD).to_string(), zone]);
        let mut oracle = oracle.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut oracle.stdin.take().unwrap(), SPECS.as_bytes()).unwrap();
        oracles.push(oracle);
    }
    let different: usize = std::thread::scope(|scope| {
        let compare = |oracle: std::process::Child| {
            let output = oracle.wait_with_output().unwrap();
            assert!(output.status.success());
            let told = String::from_utf8(output.stdout).unwrap();
            assert_eq!(told.lines().count(), specs.len());
            let line = |line: &str| {
                let fields: Vec<&str> = line.split('\t').collect();
                differences(fields[0], fields[1], fields[2])
            };
            told.lines().map(line).sum::<usize>()
        };
        let threads: Vec<_> =
            oracles.into_iter().map(|oracle| scope.spawn(move || compare(oracle))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(different, 0, "of {} minutes", YEAR * ZONES.len() * specs.len());
}
