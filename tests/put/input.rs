//! What comes on standard input: nothing, failures, bad lines, many streams.

use std::fs;
use std::process::Stdio;

use serde_json::json;

use crate::common::local::{Local, files, pattern};
use crate::common::{Place, run, run_on, run_with, start, until};
use crate::put::{MIB, NOT_WHOLE, before, chunk, id_of, put};

#[test]
fn no_line_at_all_is_a_failure_unless_it_is_allowed() {
    let place = Place::default();
    let server = Local::start(&place);
    let message = "stdin: no line at all; --allow-empty if that is right";
    // Who writes to a pipe may have been killed before its first line.
    put(&server, &place, &["v"], "").failed(75, message);
    put(&server, &place, &["v"], "\n\n").failed(75, message);
    fs::write(place.path("empty"), "\n").unwrap();
    run_on(&mut server.put(&place, &["v"]), &place.path("empty")).failed(65, message);
    put(&server, &place, &["--allow-empty", "v"], "").done();
    run(place.tool("glacier-put", &["--dry-run", "v"]).stdin(Stdio::null())).failed(65, message);
    assert!(server.log().is_empty());
}

#[test]
fn repeats_the_failure_of_the_tool_before_it() {
    let place = Place::default();
    let server = Local::start(&place);
    let lines = chunk(&place, "x", &pattern(3 * MIB));
    let cut = before(&lines, "end");
    for (code, exit) in [(1, 1), (65, 65), (74, 74), (75, 75), (0, 65), (200, 200)] {
        let failed = json!({"type": "failed", "stream": id_of(&lines), "code": code,
            "message": "stream: it broke"});
        let late = put(&server, &place, &["--create-vault", "v"], &format!("{cut}{failed}\n"));
        let late = late.failed(exit, "stream: it broke");
        assert_eq!(late.of_type("archive").len(), 2, "what is whole is stored");
        assert_eq!(server.archives("v").len(), 2, "I1: and no manifest");
        let early = json!({"type": "failed", "code": code, "message": "stdin: empty stream"});
        put(&server, &place, &["v"], &format!("{early}\n")).failed(exit, "stdin: empty stream");
    }
}

/// The files of tests/lines, each a bad input, named by its defect.
#[test]
fn refuses_lines_that_are_none() {
    let mut names: Vec<_> = files("tests/lines".as_ref())
        .into_iter()
        .filter(|path| path.extension().is_some_and(|of| of == "jsonl"))
        .collect();
    names.sort();
    assert!(names.len() > 30);
    let place = Place::default();
    let server = Local::start(&place);
    put(&server, &place, &["--create-vault", "v"], &chunk(&place, "y", &pattern(MIB))).done();
    let calls = || server.calls("InitiateMultipartUpload") + server.calls("UploadMultipartPart");
    let before = calls();
    for path in names {
        let expected = fs::read_to_string(path.with_extension("stderr")).unwrap();
        let lines = fs::read(&path).unwrap();
        for options in [&["--dry-run", "v"][..], &["v"]] {
            let refused = run_with(&mut server.put(&place, options), &lines);
            let seen = (refused.code(), refused.stderr.as_str(), refused.stdout.as_str());
            assert_eq!(seen, (65, expected.as_str(), ""), "{}", path.display());
        }
    }
    assert_eq!(calls(), before);
    // I6: nothing was made outside the spool.
    let tops: Vec<_> = fs::read_dir(place.path("")).unwrap().collect();
    assert_eq!(tops.len(), 4, "{tops:?}");
}

#[test]
fn stores_many_streams_though_one_of_them_fails() {
    let place = Place::default();
    let server = Local::start(&place);
    let streams: Vec<String> =
        ["a", "b", "c"].iter().map(|name| chunk(&place, name, &pattern(3 * MIB))).collect();
    let spooled: Vec<String> = streams
        .iter()
        .map(|lines| fs::read_to_string(place.stream(&id_of(lines)).join("lines.jsonl")).unwrap())
        .collect();
    assert_eq!(spooled, streams);
    fs::remove_file(place.stream(&id_of(&streams[1])).join("00000000-0000.part")).unwrap();
    let message = "volume 0 part 0: not in the spool as it was announced; run glacier-chunk again, with the same spool";
    let all = put(&server, &place, &["--create-vault", "v"], &streams.concat());
    let all = all.failed(75, message);
    let names: Vec<_> = all.of_type("stored").iter().map(|line| line["name"].clone()).collect();
    assert_eq!(names, ["a", "c"]);

    // A line that does not fit spoils its own stream alone.
    let bad = streams[0].replace("\"part\":1,", "\"part\":7,");
    let again = put(&server, &place, &["v"], &(bad + &streams[2]));
    again.failed_like(65, "stdin: line 3: volume 0 part 7, where", "is next");
    // Of two failures the one tells that does not pass by itself.
    let bad = streams[0].replace("\"part\":1,", "\"part\":7,");
    let both = put(&server, &place, &["v"], &(bad + before(&streams[1], "part")));
    assert_eq!(both.code(), 65);
    assert_eq!(both.stderr.lines().count(), 2, "{}", both.stderr);
    assert!(both.stderr.contains(NOT_WHOLE));

    let lines = chunk(&place, "b", &pattern(3 * MIB));
    assert_eq!(put(&server, &place, &["v"], &lines).done().of_type("stored").len(), 1);
    assert_eq!(server.archives("v").len(), 9);
}

#[test]
fn a_second_put_on_a_stream_is_75_and_names_the_first() {
    let place = Place::default();
    let server = Local::start(&place);
    let lines = chunk(&place, "x", &pattern(3 * MIB));
    let mut command = server.put(&place, &["--create-vault", "v"]);
    let mut first = start(command.stdin(Stdio::piped()));
    first.give(before(&lines, "volume").as_bytes());
    until("it sends", || server.calls("UploadMultipartPart") == 2);
    let message = format!(
        "stream {}: glacier-put (process {}) works on it; run the same command later",
        id_of(&lines),
        first.id()
    );
    put(&server, &place, &["v"], &lines).failed(75, &message);
    first.give(&lines.as_bytes()[before(&lines, "volume").len()..]);
    first.end_input();
    first.finish().done();
}

#[test]
fn ends_soon_when_chunk_waits_for_room_that_nobody_makes() {
    let place = Place::default();
    let server = Local::start(&place);
    fs::write(place.path("in"), pattern(9 * MIB)).unwrap();
    let mut chunk = place.tool("glacier-chunk", &["--part-size", "1M", "--volume-size", "2M"]);
    chunk.args(["--trust-eof", "--name", "x"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    chunk.stdin(fs::File::open(place.path("in")).unwrap());
    let mut chunk = chunk.spawn().unwrap();
    // The command is dropped, as it would keep the pipe open.
    let put = run(server.put(&place, &["nobody"]).stdin(chunk.stdout.take().unwrap()));
    put.failed_like(69, "glacier://nobody: ResourceNotFound", "--create-vault makes one");
    assert_eq!(chunk.wait().unwrap().code(), Some(75));
}
