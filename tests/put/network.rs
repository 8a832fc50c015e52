//! A network and a service that do not always answer.

use std::process::Stdio;

use crate::common::local::{Local, Lossy, pattern};
use crate::common::{Place, run_with, start, until};
use crate::put::{MIB, before, chunk, put, up_to};

#[test]
fn goes_on_when_the_service_comes_back() {
    let place = Place::default();
    let mut server = Local::start(&place);
    let bytes = pattern(5 * MIB);
    let lines = chunk(&place, "x", &bytes);
    let mut command = server.put(&place, &["--create-vault", "v"]);
    let mut running = start(command.stdin(Stdio::piped()));
    let first = up_to(&lines, "part", 1);
    running.give(first.as_bytes());
    until("it sends", || server.calls("UploadMultipartPart") == 1);
    server.kill();
    running.give(&lines.as_bytes()[first.len()..]);
    running.end_input();
    // Long enough for a first attempt to fail.
    std::thread::sleep(std::time::Duration::from_millis(1500));
    assert!(running.runs());
    server.restart();
    running.finish().done();
    server.holds(&place, "v", &bytes);
}

#[test]
fn patience_ends_and_nothing_is_lost() {
    let place = Place::default();
    let mut server = Local::start(&place);
    let bytes = pattern(3 * MIB);
    let lines = chunk(&place, "x", &bytes);
    put(&server, &place, &["--create-vault", "v"], before(&lines, "volume"))
        .failed(75, crate::put::NOT_WHOLE);
    server.kill();
    put(&server, &place, &["--patience", "1s", "v"], &lines).failed_like(
        75,
        "",
        "; run the same command again",
    );
    server.restart();
    put(&server, &place, &["v"], &lines).done();
    server.holds(&place, "v", &bytes);
    assert_eq!(server.calls("UploadMultipartPart"), 4);
}

#[test]
fn what_will_not_be_whole_today_is_not_retried() {
    let place = Place::default();
    let mut server = Local::start(&place);
    let lines = chunk(&place, "x", &pattern(3 * MIB));
    let (first, rest) = (up_to(&lines, "part", 1), before(&lines, "end"));
    let mut command = server.put(&place, &["--create-vault", "v"]);
    let mut running = start(command.stdin(Stdio::piped()));
    running.give(first.as_bytes());
    until("it sends", || server.calls("UploadMultipartPart") == 1);
    server.kill();
    running.give(&rest.as_bytes()[first.len()..]);
    running.end_input();
    running.finish().failed_like(75, "", "; run the same command again");
}

#[test]
fn an_answer_that_is_lost_makes_no_second_archive() {
    for request in [
        "POST /-/vaults/v/multipart-uploads ",
        "PUT /-/vaults/v/multipart-uploads/",
        "POST /-/vaults/v/multipart-uploads/",
        "PUT /-/vaults/v ",
    ] {
        let place = Place::default();
        let server = Local::start(&place);
        let bytes = pattern(3 * MIB);
        let lines = chunk(&place, "x", &bytes);
        let line = Lossy::start(&server, request, 2);
        let mut command = server.put(&place, &["--create-vault", "v"]);
        command.env("AWS_ENDPOINT_URL", &line.endpoint);
        run_with(&mut command, lines.as_bytes()).done();
        assert!(line.lost() > 0, "{request}");
        server.holds(&place, "v", &bytes);
    }
}

/// I4: what may have been stored is looked for before it is sent again.
#[test]
fn an_archive_whose_answer_never_came_is_found_in_the_inventory() {
    let place = Place::default();
    // A day is six seconds.
    let server = Local::fast(&place, 14_400);
    let bytes = pattern(2 * MIB);
    let lines = chunk(&place, "x", &bytes);
    let line = Lossy::start(&server, "POST /-/vaults/v/multipart-uploads/", usize::MAX);
    let mut command = server.put(&place, &["--create-vault", "--patience", "2s", "v"]);
    command.env("AWS_ENDPOINT_URL", &line.endpoint);
    let lost = run_with(&mut command, lines.as_bytes());
    lost.failed_like(75, "glacier://v: volume 0: ", "; run the same command again");
    assert_eq!(server.archives("v").len(), 1);
    // A version of these tools that had one more thing to say began it.
    server.describe_more("v", "\"colour\":\"blue\"");
    until("it is too late to repeat", || server.counted("v") == 1);
    let waits = "volume 0: the service never said whether it is stored; looked for in the \
                 vault's next inventory, run the same command again tomorrow";
    until("it is found", || {
        std::thread::sleep(std::time::Duration::from_millis(200));
        let again = put(&server, &place, &["v"], &lines);
        if again.code() == 75 {
            again.failed(75, waits);
            return false;
        }
        again.done();
        true
    });
    assert!(server.calls("InitiateJob") > 0, "there was nothing to look for");
    assert_eq!(server.calls("UploadMultipartPart"), 3);
    server.holds(&place, "v", &bytes);
}

#[test]
fn an_upload_that_the_service_has_dropped_is_sent_anew() {
    let place = Place::default();
    let mut server = Local::start(&place);
    let bytes = pattern(2 * MIB);
    let lines = chunk(&place, "x", &bytes);
    let mut command = server.put(&place, &["--create-vault", "v"]);
    let mut running = start(command.stdin(Stdio::piped()));
    let first = up_to(&lines, "part", 1);
    running.give(first.as_bytes());
    until("it sends", || server.calls("UploadMultipartPart") == 1);
    server.pass_a_day();
    running.give(&lines.as_bytes()[first.len()..]);
    running.end_input();
    running.finish().done();
    assert_eq!(server.calls("UploadMultipartPart"), 4);
    assert_eq!(server.archives("v").len(), 2);
}
