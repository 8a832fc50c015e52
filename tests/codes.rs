//! Every exit status that a manual lists, and each reason it gives for it, is
//! brought about by a test: tests/codes/index.txt says by which. Those that
//! no other file has are here.
//!
//! The other way round, tests/common looks up every status that a test sees:
//! one that its manual does not list fails the test.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::common::local::{Local, pattern};
use crate::common::page::Page;
use crate::common::source::Source;
use crate::common::{Ended, Place, run, run_on, run_with, skip};

const MIB: usize = 1 << 20;

/// What may stand between the reasons of a status.
const GLUE: [&str; 5] = ["or", "Or", "and", "Run the same command again.", "Not finished"];

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The rows of EXIT STATUS of all programs: `glacier-put 65` and its text.
fn rows() -> BTreeMap<String, String> {
    let mut rows = BTreeMap::new();
    for entry in fs::read_dir(top().join("man")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|number| number == "1") {
            let page = Page::read(&path);
            for (status, text) in page.exits() {
                rows.insert(format!("{} {status}", page.name), text);
            }
        }
    }
    rows
}

/// The index: row, words, file, test.
fn index() -> Vec<[String; 4]> {
    let text = fs::read_to_string(top().join("tests/codes/index.txt")).unwrap();
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let fields: Vec<&str> = line.split(" | ").collect();
            let [row, words, by] = fields[..] else { panic!("{line}") };
            let (file, name) = by.split_once("::").unwrap();
            [row, words, file, name].map(str::to_owned)
        })
        .collect()
}

#[test]
fn every_reason_for_a_status_has_a_test() {
    let index = index();
    let mut rows = rows();
    for [row, ..] in &index {
        assert!(rows.contains_key(row), "{row}: in no manual");
    }
    for (row, text) in &mut rows {
        let mut words: Vec<&String> =
            index.iter().filter(|entry| entry[0] == *row).map(|entry| &entry[1]).collect();
        assert!(!words.is_empty(), "{row}: no test in tests/codes/index.txt");
        // The longest first: one may hold another.
        words.sort_by_key(|words| std::cmp::Reverse(words.len()));
        for words in words {
            assert!(text.contains(words.as_str()), "{row}: the manual does not say: {words}");
            *text = text.replacen(words.as_str(), "|", 1);
        }
        for glue in [
            "Run the same command again.",
            "Not finished, and nothing lost:",
            "Not finished, and nothing is lost:",
            "Not finished:",
        ] {
            *text = text.replace(glue, "|");
        }
        let left: Vec<&str> = text
            .split(|c: char| c.is_whitespace() || "|,;.".contains(c))
            .filter(|word| !word.is_empty() && !GLUE.contains(word))
            .collect();
        assert!(left.is_empty(), "{row}: no test for: {left:?}");
    }
}

#[test]
fn every_test_of_the_index_is_there_and_about_its_status() {
    let mut sources = BTreeMap::new();
    for [row, _, file, test] in index() {
        let source = sources.entry(file.clone()).or_insert_with(|| Source::read(&file));
        let code = source.test(&test);
        let (tool, status) = row.split_once(' ').unwrap();
        let word = tool.rsplit('-').next().unwrap();
        let mut numbers = code.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let is_told =
            numbers.any(|number| number == status) || status == "0" && code.contains(".done()");
        assert!(is_told, "{file}::{test} says nothing of {status}");
        // What several tools share is tested in the library.
        let is_of_it = file.starts_with("src/") || file.contains(word) || code.contains(word);
        assert!(is_of_it, "{file}::{test} says nothing of {tool}");
    }
}

#[test]
fn a_terminal_is_no_stream() {
    let Ok(terminal) = File::options().read(true).write(true).open("/dev/ptmx") else {
        skip("a terminal: /dev/ptmx cannot be opened");
        return;
    };
    let place = Place::default();
    let mut chunk = place.tool("glacier-chunk", &["--trust-eof", "--name", "x"]);
    run(chunk.stdin(terminal))
        .failed(64, "stdin: a terminal; pipe a stream into it, or use -- COMMAND");
}

#[test]
fn a_journal_of_another_stream_is_told_by_chunk() {
    let place = Place::default();
    let cut = || {
        let options = ["--trust-eof", "--name", "x", "--part-size", "1M", "--volume-size", "1M"];
        run_with(&mut place.tool("glacier-chunk", &options), b"bytes")
    };
    let lines = cut().done().lines();
    let journal = place.stream(lines[0]["stream"].as_str().unwrap()).join("put.jsonl");
    let other = "0".repeat(32);
    let first = format!(r#"{{"type":"journal","v":1,"stream":"{other}","dest":"glacier://v"}}"#);
    fs::write(&journal, first + "\n").unwrap();
    fs::set_permissions(&journal, fs::Permissions::from_mode(0o600)).unwrap();
    let ended = cut();
    assert_eq!(ended.code(), 65, "{}", ended.stderr);
}

#[test]
fn a_spool_of_another_user_is_refused() {
    let place = Place::default();
    let mut spool = place.spool();
    if rustix::process::geteuid().is_root() {
        fs::create_dir(&spool).unwrap();
        fs::set_permissions(&spool, fs::Permissions::from_mode(0o700)).unwrap();
        std::os::unix::fs::chown(&spool, Some(65534), None).unwrap();
    } else {
        spool = "/".into();
    }
    let said = format!("spool {}: belongs to another user", spool.display());
    let mut chunk = place.tool("glacier-chunk", &["--trust-eof", "--name", "x"]);
    run_with(chunk.env("GLACIER_SPOOL", &spool), b"bytes").failed(78, &said);
    let server = Local::start(&place);
    let mut put = server.put(&place, &["v"]);
    run_with(put.env("GLACIER_SPOOL", &spool), b"").failed(78, &said);
    let mut ls = place.tool("glacier-ls", &["spool"]);
    run(ls.env("GLACIER_SPOOL", &spool)).failed(78, &said);
}

/// Root has a place of its own.
#[test]
fn without_a_home_there_is_no_place() {
    let place = Place::default();
    let mut chunk = place.tool("glacier-chunk", &["--trust-eof", "--name", "x"]);
    let mut ls = place.tool("glacier-ls", &["spool"]);
    for tool in [&mut chunk, &mut ls] {
        tool.env_remove("HOME").env_remove("GLACIER_SPOOL").current_dir("/");
    }
    if rustix::process::geteuid().is_root() {
        chunk.uid(65534);
        ls.uid(65534);
        let program = chunk.get_program().to_owned();
        let mut there = Command::new("test");
        if !there.arg("-x").arg(program).uid(65534).status().is_ok_and(|status| status.success()) {
            skip("no place for a spool: these programs are root's alone");
            return;
        }
    }
    let nowhere = "no state directory: neither HOME nor XDG_STATE_HOME is set";
    run_with(&mut chunk, b"bytes").failed(78, nowhere);
    run(&mut ls).failed(78, nowhere);
}

#[test]
fn standard_input_that_cannot_be_read_is_74() {
    let (place, server) = (Place::default(), Place::default());
    let server = Local::start(&server);
    for (name, arguments) in [
        ("glacier-window", &["00:00-24:00"][..]),
        ("glacier-put", &["v"]),
        ("glacier-get", &[]),
        ("glacier-rm", &["v"]),
        ("glacier-verify", &[]),
        ("glacier-chain", &["x"]),
        ("glacier-prune", &["--keep", "last=1"]),
        ("glacier-treehash", &[]),
    ] {
        let mut command = place.tool(name, arguments);
        // A directory opens, and cannot be read.
        let ended = run_on(server.client(&mut command), &place.path(""));
        ended.failed_like(74, "stdin", ": Is a directory");
    }
}

#[test]
fn a_copy_that_has_no_place_is_74() {
    let place = Place::default();
    for (name, arguments) in
        [("glacier-chain", &["x"][..]), ("glacier-prune", &["--keep", "last=1"])]
    {
        let mut command = place.tool(name, arguments);
        let ended = run_with(command.env("TMPDIR", place.path("nowhere")), b"{}\n");
        ended.failed_like(74, "the copy of the catalog: cannot write (see TMPDIR): ", "");
    }
}

#[test]
fn a_command_that_cannot_be_run_is_126() {
    let (place, lines, server) = one_byte();
    let command = place.path("not-a-program");
    fs::write(&command, "no program").unwrap();
    let mut get = place.tool("glacier-get", &["--tier", "Expedited", "--"]);
    server.client(&mut get).arg(&command);
    run_with(&mut get, lines.as_bytes()).failed_like(126, "", ": Permission denied");
}

/// A server with a stream of a byte, and its catalog.
fn one_byte() -> (Place, String, Local) {
    let place = Place::default();
    let server = Local::start(&place);
    let mut chunk = place.tool("glacier-chunk", &["--trust-eof", "--name", "x"]);
    let lines = run_with(chunk.args(["--spool-limit", "none"]), b"x").done().stdout;
    run_with(&mut server.put(&place, &["--create-vault", "v"]), lines.as_bytes()).done();
    let mut chain = place.tool("glacier-chain", &["x"]);
    let lines = run_on(&mut chain, &place.path("catalog.jsonl")).done().stdout;
    (place, lines, server)
}

#[test]
fn a_part_that_no_memory_holds_is_74() {
    let (place, lines, server) = one_byte();
    let part = format!("\"part_size\":{},", 16 * MIB);
    let lines = lines
        .replace("\"size\":1,", "\"size\":4294967296,")
        .replace(&part, "\"part_size\":4294967296,");
    let get = place.tool("glacier-get", &["--tier", "Expedited"]);
    let mut limited = place.command("sh");
    limited.args(["-c", "ulimit -v 3000000 && exec \"$0\" --tier Expedited"]);
    limited.arg(get.get_program());
    let ended = run_with(server.client(&mut limited), lines.as_bytes());
    ended.failed(74, "x: volume 0: no memory for a part of 4 GiB: out of memory");
}

#[test]
fn get_has_patience_with_a_service_that_is_not_there() {
    let (place, lines, mut server) = one_byte();
    server.kill();
    let mut get = place.tool("glacier-get", &["--patience", "0s"]);
    let ended = run_with(server.client(&mut get), lines.as_bytes());
    ended.failed_like(75, "", "; run the same command again");
}

#[test]
fn get_speaks_to_nobody_whose_certificate_proves_nothing() {
    let (place, lines, server) = one_byte();
    let mut get = place.tool("glacier-get", &[]);
    let endpoint = server.endpoint.replace("http:", "https:");
    let ended =
        run_with(server.client(&mut get).env("AWS_ENDPOINT_URL", &endpoint), lines.as_bytes());
    ended.failed(78, &format!("{endpoint}: it does not speak TLS"));
}

#[test]
fn credentials_without_a_pair_are_77() {
    let place = Place::default();
    fs::create_dir(place.path("root")).unwrap();
    fs::write(place.path("root/credentials"), "[default]\n").unwrap();
    let ended = run(&mut place.tool("glacier-local", &["--root", "root"]));
    assert_eq!(ended.code(), 77, "{}", ended.stderr);
}

/// An upload that is idle for a day is gone; one window a day does not get a
/// volume there.
#[test]
fn an_upload_that_is_dropped_twice_is_69() {
    let place = Place::default();
    let plan = r#"{"call":"UploadMultipartPart","nth":2,"do":"forget-upload"}
{"call":"UploadMultipartPart","nth":4,"do":"forget-upload"}
"#;
    let server = Local::with_faults(&place, 600, plan);
    let options = ["--trust-eof", "--name", "x", "--part-size", "1M", "--volume-size", "4M"];
    let lines = run_with(&mut place.tool("glacier-chunk", &options), &pattern(4 * MIB));
    let mut put = server.put(&place, &["--create-vault", "--concurrency", "1", "v"]);
    let ended: Ended = run_with(put.stdin(Stdio::piped()), lines.done().stdout.as_bytes());
    ended.failed(
        69,
        "volume 0: the service has dropped its upload 2 times; use a smaller --volume-size",
    );
}
