//! Killed, cut off and out of room at every step: the catalog tells what is
//! gone, and the same command goes on.

use std::fs::{self, File};
use std::process::{Command, Stdio};

use crate::common::local::{catalog, pattern};
use crate::common::{run, run_with, start, start_into, until};
use crate::rm::{MIB, Scene, ids, parsed};

/// The most requests that the deletion of the stream here takes.
const REQUESTS: usize = 4;

fn asked(scene: &Scene) -> usize {
    scene.server.log().iter().filter(|line| line["call"] == "DeleteArchive").count()
}

fn fault(nth: usize, what: &str) -> String {
    format!("{{\"call\":\"DeleteArchive\",\"nth\":{nth},\"do\":\"{what}\"}}\n")
}

#[test]
fn killed_at_any_request_the_same_command_goes_on() {
    // Before the service did it, and after.
    for what in ["drop", "stall-answer"] {
        for nth in 1..=REQUESTS {
            let scene = Scene::with_faults(&fault(nth, what));
            let stored = scene.store("x", &pattern(4 * MIB + 5));
            let mut rm = scene.tool(&["--yes", "--concurrency", "1", "v"]);
            let mut running = start(rm.stdin(Stdio::piped()));
            running.give(stored.as_bytes());
            running.end_input();
            until("it is asked", || match what {
                "drop" => asked(&scene) == nth,
                _ => scene.held() == REQUESTS - nth,
            });
            running.kill();
            running.finish();
            assert_eq!(scene.deleted().len(), nth - 1);
            let manifest = scene.server.archives("v").iter().any(|held| held.volume().is_none());
            assert!(manifest || nth == REQUESTS, "{what} {nth}: the manifest is the last");
            scene.delete(&stored).done();
            assert_eq!(scene.held(), 0, "{what} {nth}");
            assert_eq!(ids(&scene.deleted()), ids(&parsed(&stored)), "{what} {nth}: each once");
        }
    }
}

#[test]
fn stopped_at_any_request_put_stores_what_is_missing_and_no_more() {
    for what in ["drop", "lose-answer"] {
        for nth in 1..=REQUESTS {
            let scene = Scene::with_faults(&fault(nth, what));
            let bytes = pattern(4 * MIB + 5);
            let stored = scene.store("x", &bytes);
            let options = ["--yes", "--concurrency", "1", "--patience", "0s", "v"];
            let ended = scene.rm(&options, &stored);
            assert_eq!(ended.code(), 75, "{}", ended.stderr);
            assert!(ended.stderr.ends_with("; run the same command again\n"), "{}", ended.stderr);
            assert_eq!(ended.lines(), scene.deleted());
            // What was asked for and never answered is not known to be gone.
            let gone = scene.deleted().len();
            assert_eq!(gone, nth - 1);
            if what == "lose-answer" {
                scene.delete(&stored).done();
            }
            let before = scene.server.calls("InitiateMultipartUpload");
            let again = scene.store("x", &bytes);
            let sent = scene.server.calls("InitiateMultipartUpload") - before;
            match (what, gone) {
                ("drop", 0) => assert_eq!(sent, 0),
                ("drop", gone) => assert_eq!(sent, gone.min(3) + 1, "{nth}"),
                _ => assert_eq!(sent, 4, "{nth}"),
            }
            assert!(!again.is_empty());
            assert_eq!(scene.restored("x"), bytes, "{what} {nth}");
        }
    }
}

#[test]
fn a_failure_that_passes_is_tried_again() {
    let scene = Scene::with_faults(&(fault(1, "drop") + &fault(3, "lose-answer")));
    let stored = scene.store("x", &pattern(3 * MIB));
    let ended = scene.delete(&stored).done();
    assert_eq!((ended.lines().len(), scene.held()), (3, 0));
}

#[test]
fn output_that_cannot_be_written_is_74_and_the_catalog_has_what_is_gone() {
    let scene = Scene::default();
    let stored = scene.store("x", &pattern(4 * MIB + 5));
    fs::write(scene.place.path("lines"), &stored).unwrap();
    let from_lines = |rm: &mut Command| {
        rm.stdin(File::open(scene.place.path("lines")).unwrap());
    };
    let options = ["--yes", "--concurrency", "1", "v"];
    // Nobody ever read it: nothing goes.
    let (reader, closed) = std::io::pipe().unwrap();
    drop(reader);
    let mut rm = scene.tool(&options);
    from_lines(&mut rm);
    start_into(&mut rm, closed).finish().failed_like(75, "stdout: ", "");
    assert_eq!((scene.deleted().len(), scene.held()), (0, 4));
    if let Ok(full) = File::options().write(true).open("/dev/full") {
        let mut rm = scene.tool(&options);
        from_lines(&mut rm);
        let ended = start_into(&mut rm, full).finish();
        ended.failed(74, "stdout: cannot write: No space left on device");
        assert_eq!((scene.deleted().len(), scene.held()), (1, 3));
    }
    let mut shell = scene.place.command("sh");
    let program = scene.tool(&[]).get_program().to_owned();
    shell.args(["-c", "exec \"$0\" --yes --concurrency 1 v <lines >&-"]).arg(program);
    let before = scene.held();
    let ended = run(scene.server.client(&mut shell));
    ended.failed(74, "stdout: cannot write: Bad file descriptor");
    assert_eq!((scene.deleted().len(), scene.held()), (5 - before, before - 1));
    scene.delete(&stored).done();
    assert_eq!((scene.deleted().len(), scene.held()), (4, 0));
}

#[test]
fn a_reader_that_is_gone_is_noticed_while_waiting() {
    let plan = "{\"call\":\"DeleteArchive\",\"times\":\"all\",\"do\":\"drop\"}\n";
    let scene = Scene::with_faults(plan);
    let stored = scene.store("x", &pattern(MIB));
    let mut rm = scene.tool(&["--yes", "v"]);
    let mut running = start(rm.stdin(Stdio::piped()));
    running.give(stored.as_bytes());
    running.end_input();
    until("it is asked", || scene.server.log().iter().any(|line| line["call"] == "DeleteArchive"));
    running.close_output();
    let ended = running.finish();
    assert_eq!((ended.code(), scene.held()), (75, 2), "{}", ended.stderr);
}

#[test]
fn a_catalog_that_cannot_be_written_is_74_and_no_more_goes() {
    let scene = Scene::default();
    let stored = scene.store("x", &pattern(4 * MIB + 5));
    let before = catalog(&scene.place) + &"\n".repeat(60_000);
    fs::write(scene.place.path("catalog.jsonl"), before).unwrap();
    fs::write(scene.place.path("lines"), &stored).unwrap();
    let mut shell = scene.place.command("sh");
    let program = scene.tool(&[]).get_program().to_owned();
    let limit = "trap '' XFSZ; ulimit -f 100;";
    let options = "--yes --concurrency 1 v <lines";
    shell.args(["-c", &format!("{limit} exec \"$0\" {options}")]).arg(program);
    let message = format!(
        "catalog {}: cannot write: File too large",
        scene.place.path("catalog.jsonl").display()
    );
    let ended = run(scene.server.client(&mut shell)).failed(74, &message);
    assert_eq!((ended.stdout.as_str(), scene.held()), ("", 3), "one, and no more");
    assert_eq!(scene.server.calls("DeleteArchive"), 1);
    // It is deleted again, and then it is written down.
    run_with(&mut scene.tool(&["--yes", "v"]), stored.as_bytes()).done();
    assert_eq!((scene.deleted().len(), scene.held()), (4, 0));
}
