//! The two steps for cron: ask now, and fetch later.

use std::fs::{self, File};
use std::process::Stdio;

use serde_json::Value;

use super::scene::Scene;
use crate::common::{run_with, start_into};

fn types(text: &str) -> Vec<String> {
    let of = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        line["type"].as_str().unwrap().to_owned()
    };
    text.lines().map(of).collect()
}

#[test]
fn a_request_prints_the_lines_to_fetch_by_and_fetches_nothing() {
    let scene = Scene::new();
    let asked = scene.run(&["--request", "--tier", "Expedited", "--", "false"]).done();
    assert_eq!(types(&asked.stdout), ["hashes", "job", "hashes", "job", "hashes", "job", "stored"]);
    let job = &asked.of_type("job")[0];
    assert_eq!((&job["tier"], &job["volume"]), (&"Expedited".into(), &0.into()));
    let lines = scene.lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let archive =
        lines.into_iter().find(|it| it["type"] == "archive" && it["volume"] == 0).unwrap();
    for (field, value) in archive.as_object().unwrap().iter().filter(|(name, _)| *name != "type") {
        assert_eq!(&job[field], value, "{field}");
    }
    assert_eq!(scene.calls(), [3, 1, 0]);
    let (ended, bytes) = scene.fetch(&[], &asked.stdout);
    ended.done();
    assert!(bytes == scene.bytes);
    assert_eq!(scene.calls()[0], 3);
    // Asked once more, with what was printed: nothing is new.
    let again = run_with(&mut scene.get(&["--request"]), asked.stdout.as_bytes()).done();
    let names =
        |ended: &[Value]| -> Vec<Value> { ended.iter().map(|job| job["job_id"].clone()).collect() };
    assert_eq!(names(&again.of_type("job")), names(&asked.of_type("job")));
    assert_eq!(scene.calls()[0], 3);
}

#[test]
fn a_job_that_is_forgotten_is_asked_for_again() {
    let mut scene = Scene::new();
    let asked = scene.run(&["--request", "--tier", "Expedited"]).done();
    scene.server.pass_a_day();
    let (ended, bytes) = scene.fetch(&["--tier", "Expedited"], &asked.stdout);
    ended.done();
    assert!(bytes == scene.bytes);
    assert_eq!(scene.calls()[0], 6);
}

#[test]
fn jobs_that_are_not_ready_give_75_and_nothing_is_run() {
    let scene = Scene::with_speed(1);
    let asked = scene.run(&["--request"]).done();
    let mut get = scene.get(&["--no-wait", "--", "touch", "ran"]);
    run_with(&mut get, asked.stdout.as_bytes())
        .failed(75, "3 of 3 archives are not ready; run the same command again in a few hours");
    assert!(!scene.place.path("ran").exists());
    assert_eq!(scene.calls()[0], 3);
}

#[test]
fn lines_that_cannot_be_printed_are_74_and_nothing_is_paid_twice() {
    let scene = Scene::with_speed(1);
    let Ok(full) = File::options().write(true).open("/dev/full") else { return };
    fs::write(scene.place.path("input"), &scene.lines).unwrap();
    let mut get = scene.get(&["--request"]);
    get.stdin(File::open(scene.place.path("input")).unwrap());
    start_into(&mut get, Stdio::from(full))
        .finish()
        .failed(74, "stdout: cannot write: No space left on device");
    scene.run(&["--request"]).done();
    assert_eq!(scene.calls()[0], 3);
}

#[test]
fn a_slow_line_asks_for_what_comes_in_a_day() {
    let scene = Scene::new();
    // 20 hours at 40 bytes a second are 2.9 MB, a volume and a bit.
    let options = ["--tier", "Expedited", "--assume-rate", "40"];
    let asked = scene.run(&[&["--request"][..], &options].concat());
    assert_eq!(asked.code(), 0);
    assert_eq!(
        asked.stderr,
        "glacier-get: warning: 1 of 3 archives are asked for, as much as comes in 20 h at 40 \
         bytes a second; the others are asked for as these come\n"
    );
    assert_eq!(
        types(&asked.stdout),
        ["hashes", "job", "hashes", "archive", "hashes", "archive", "stored"]
    );
    assert_eq!(scene.calls()[0], 1);
    let (ended, bytes) = scene.fetch(&options, &asked.stdout);
    ended.done();
    assert!(bytes == scene.bytes);
    assert_eq!(scene.calls()[0], 3);
    // On a line that brings all within a day, all is asked for at once.
    let scene = Scene::with_speed(1);
    let asked = scene.run(&["--request", "--assume-rate", "60"]).done();
    assert_eq!(asked.of_type("job").len(), 3);
}

/// What printed them may have been killed; a file does not grow.
#[test]
fn a_pipe_that_was_cut_between_lines_is_75() {
    let scene = Scene::new();
    let head = "{\"type\":\"chain\",\"stream\":\"00112233445566778899aabbccddeeff\",\"name\":\"x\",\"streams\":2,\"size\":1}\n";
    let short = "stdin: 1 of the chain's 2 streams are whole; did glacier-chain fail?";
    let lines = format!("{head}{}", scene.lines);
    run_with(&mut scene.get(&[]), lines.as_bytes()).failed(75, short);
    let (ended, _) = scene.fetch(&[], &lines);
    ended.failed(65, short);
    // A glacier-chain that refuses prints nothing, and says why.
    let none = "stdin: no catalog lines of a stream; did glacier-chain fail?";
    run_with(&mut scene.get(&[]), b"").failed(65, none);
    assert_eq!(scene.calls(), [0; 3]);
}
