//! glacier-proof(1), run as a program.

mod filter;
mod store;

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::common::made::Made;
use crate::common::{self, Ended, Place, after, run, run_on, skip, start, start_into};
use serde_json::{Value, json};

/// The streams that prove themselves, and the compound ones.
const PLAIN: [&str; 4] =
    ["full.zfs", "incremental-1.zfs", "incremental-2.zfs", "encrypted-raw-w-incremental.zfs"];
const COMPOUND: [&str; 2] = ["incremental-I.zfs", "replication-R-I.zfs"];

fn stream(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/streams").join(name)
}

fn bytes(name: &str) -> Vec<u8> {
    fs::read(stream(name)).unwrap()
}

fn proof(place: &Place, arguments: &[&str]) -> Command {
    place.tool("glacier-proof", arguments)
}

/// A pipe of sh, in which the tools are found.
fn sh(place: &Place, script: &str) -> Command {
    let tools = common::program("glacier-chunk").parent().unwrap().to_owned();
    let path = std::env::var("PATH").unwrap();
    let mut shell = place.command("sh");
    shell.args(["-c", script]).env("PATH", format!("{}:{path}", tools.display()));
    shell.env("STREAMS", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/streams"));
    shell
}

/// Runs it from a file into another; gives how it ended, and what it passed.
fn pass(place: &Place, arguments: &[&str], input: &[u8]) -> (Ended, Vec<u8>) {
    fs::write(place.path("input"), input).unwrap();
    let mut tool = proof(place, arguments);
    tool.stdin(File::open(place.path("input")).unwrap());
    let ended = start_into(&mut tool, File::create(place.path("output")).unwrap()).finish();
    (ended, fs::read(place.path("output")).unwrap())
}

/// The lines of the file; none if it is not there.
fn lines(place: &Place) -> Vec<Value> {
    let text = fs::read_to_string(place.path("p")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[track_caller]
fn has_no_end(place: &Place) {
    assert!(lines(place).iter().all(|line| line["type"] != "end"), "{:?}", lines(place));
    let left = fs::read_dir(place.path("")).unwrap();
    let names = left.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let drafts: Vec<String> = names.filter(|name| name.starts_with(".glacier-proof")).collect();
    assert!(drafts.is_empty(), "{drafts:?}");
}

#[test]
fn passes_a_stream_and_tells_what_chunk_would() {
    for (names, trust) in [(&PLAIN[..], None), (&COMPOUND[..], Some("--trust-eof"))] {
        for name in names {
            let place = Place::default();
            let arguments: Vec<&str> = trust.into_iter().chain(["p"]).collect();
            let (ended, passed) = pass(&place, &arguments, &bytes(name));
            ended.done();
            assert!(passed == bytes(name), "{name}");
            let options: Vec<&str> = trust.into_iter().chain(["--inspect"]).collect();
            let mut chunk = place.tool("glacier-chunk", &options);
            let mut expected = run_on(&mut chunk, &stream(name)).done().lines();
            // What only hashing tells is not told.
            let end = expected.last_mut().unwrap().as_object_mut().unwrap();
            end.remove("volumes").unwrap();
            end.remove("treehash").unwrap();
            assert_eq!(lines(&place), expected, "{name}");
            let mode = fs::metadata(place.path("p")).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }
}

#[test]
fn a_stream_cut_anywhere_gets_no_end() {
    let whole = Made::plain(false, true);
    let edges = whole.edges.iter().flat_map(|edge| [edge.saturating_sub(1), *edge, edge + 1]);
    let some = (0..20).map(|i| i * whole.bytes.len() / 20 + i % 7);
    for cut in edges.chain(some).chain([whole.bytes.len() - 1]).filter(|c| *c > 0) {
        let place = Place::default();
        let (ended, passed) = pass(&place, &["p"], &whole.bytes[..cut]);
        assert_eq!(ended.code(), 65, "{cut}: {}", ended.stderr);
        assert!(whole.bytes.starts_with(&passed), "{cut}");
        has_no_end(&place);
    }
    let compound = Made::compound(false, true);
    for cut in compound.edges.iter().copied().filter(|cut| *cut > 0) {
        let place = Place::default();
        let (ended, _) = pass(&place, &["--trust-eof", "p"], &compound.bytes[..cut]);
        assert_eq!(ended.code(), 65, "{cut}");
        has_no_end(&place);
    }
    let real = bytes("full.zfs");
    for cut in (1..9).map(|i| i * real.len() / 9 + i) {
        let place = Place::default();
        let (ended, _) = pass(&place, &["p"], &real[..cut]);
        ended.failed_like(65, "stream: ends ", "");
        has_no_end(&place);
    }
}

#[test]
fn a_damaged_stream_gets_no_end() {
    let whole = bytes("encrypted-raw-w-incremental.zfs");
    for at in (0..40).map(|i| i * whole.len() / 40 + i % 5) {
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << (at % 8);
        let place = Place::default();
        let (ended, _) = pass(&place, &["p"], &damaged);
        ended.failed_like(65, "stream: byte ", "");
        has_no_end(&place);
    }
    let place = Place::default();
    let longer = [&whole[..], b"x"].concat();
    let (ended, _) = pass(&place, &["--trust-eof", "p"], &longer);
    ended.failed_like(65, "stream: byte 46052: bytes follow record ", " (END)");
    has_no_end(&place);
}

#[test]
fn refuses_what_is_no_zfs_stream_and_passes_nothing_of_it() {
    let place = Place::default();
    for (input, said) in [(&b""[..], "empty stream"), (b"a tar file, say", "not a ZFS stream")] {
        let (ended, passed) = pass(&place, &["--trust-eof", "p"], input);
        ended.failed(65, &format!("stdin: {said}"));
        assert!(passed.is_empty());
        assert!(!place.path("p").exists(), "an empty file would be a marker");
    }
}

#[test]
fn a_compound_stream_needs_a_proof() {
    for name in COMPOUND {
        let place = Place::default();
        let (ended, passed) = pass(&place, &["p"], &bytes(name));
        ended.failed_like(65, "stdin: a compound stream ", " --whole FILE or --trust-eof");
        assert!(passed.is_empty() && !place.path("p").exists());
        // A marker, and a command.
        let script =
            format!("{{ cat \"$STREAMS/{name}\" && : >m; }} | glacier-proof --whole m p >passed");
        run(&mut sh(&place, &script)).done();
        assert_eq!(lines(&place).last().unwrap()["whole"], "marker");
        assert!(!place.path("m").exists());
        let path = stream(name);
        pass(&place, &["p", "--", "cat", path.to_str().unwrap()], b"").0.done();
        assert_eq!(lines(&place).last().unwrap()["whole"], "command");
    }
}

#[test]
fn a_marker_that_is_missing_or_old_proves_nothing() {
    let place = Place::default();
    let (ended, _) = pass(&place, &["--whole", "m", "p"], &bytes("full.zfs"));
    ended.failed(65, "marker m: not there; its producer failed, the stream is not whole");
    has_no_end(&place);
    // One of the run before, be it of a moment ago.
    File::create(place.path("m")).unwrap();
    after(&place.path("m"));
    let script = "cat \"$STREAMS/full.zfs\" | glacier-proof --whole m p >passed";
    run(&mut sh(&place, script)).failed(65, "marker m: older than this run; remove it first");
    has_no_end(&place);
    // A file has no time at which its writer began.
    let (ended, _) = pass(&place, &["--whole", "m", "p"], &bytes("full.zfs"));
    ended.failed(65, "marker m: older than this run; remove it first");
    has_no_end(&place);
}

#[test]
fn a_command_that_fails_leaves_no_end() {
    let path = stream("full.zfs");
    for (script, code) in [("cat \"$0\"; exit 1", 65), ("cat \"$0\"; exit 75", 75)] {
        let place = Place::default();
        let command = ["p", "--", "sh", "-c", script, path.to_str().unwrap()];
        let (ended, _) = pass(&place, &command, b"");
        ended.failed_like(code, "sh: exit status ", "; the stream is not whole");
        has_no_end(&place);
    }
    let place = Place::default();
    let (ended, _) = pass(&place, &["p", "--", "no-such-command"], b"");
    ended.failed(64, "no-such-command: cannot run: No such file or directory");
}

#[test]
fn a_stale_file_never_counts() {
    for input in [&b""[..], b"no stream", &bytes("full.zfs")[..1000]] {
        let place = Place::default();
        pass(&place, &["p"], &bytes("full.zfs")).0.done();
        assert_eq!(lines(&place).last().unwrap()["type"], "end");
        assert_eq!(pass(&place, &["p"], input).0.code(), 65);
        has_no_end(&place);
    }
    // It goes before the first byte, however long that takes to come.
    let place = Place::default();
    pass(&place, &["p"], &bytes("full.zfs")).0.done();
    let running = start(proof(&place, &["p"]).stdin(Stdio::piped()));
    common::until("it is gone", || !place.path("p").exists());
    drop(running);
}

#[test]
fn a_link_is_replaced_and_never_followed() {
    for name in ["there", "nowhere"] {
        let place = Place::default();
        fs::write(place.path("there"), "mine").unwrap();
        symlink(name, place.path("p")).unwrap();
        pass(&place, &["p"], &bytes("full.zfs")).0.done();
        assert!(!place.path("p").is_symlink());
        assert_eq!(fs::read(place.path("there")).unwrap(), b"mine");
        assert!(!place.path("nowhere").exists());
    }
}

#[test]
fn a_file_of_somebody_else_is_left_alone() {
    let place = Place::default();
    fs::write(place.path("p"), "a letter").unwrap();
    fs::create_dir(place.path("d")).unwrap();
    for name in ["p", "d", "/dev/null"] {
        let (ended, passed) = pass(&place, &[name], &bytes("full.zfs"));
        let said = "is there already and no file of glacier-proof; give another name";
        ended.failed(64, &format!("{name}: {said}"));
        assert!(passed.is_empty());
    }
    assert_eq!(fs::read(place.path("p")).unwrap(), b"a letter");
    pass(&place, &["d/.."], b"").0.failed(64, "d/..: no name of a file");
    let (ended, _) = pass(&place, &["no/p"], b"");
    ended.failed_like(74, "no/p: cannot create: No such file or directory", "");
}

#[test]
fn refuses_a_wrong_command_line() {
    let place = Place::default();
    assert_eq!(run(&mut proof(&place, &[])).code(), 64);
    assert_eq!(run(&mut proof(&place, &["p", "q"])).code(), 64);
    let Ok(terminal) = File::options().read(true).write(true).open("/dev/ptmx") else {
        skip("a terminal: /dev/ptmx cannot be opened");
        return;
    };
    run(proof(&place, &["p"]).stdin(terminal))
        .failed(64, "stdin: a terminal; pipe a stream into it, or use -- COMMAND");
}

#[test]
fn an_input_that_cannot_be_read_is_74() {
    let place = Place::default();
    run_on(&mut proof(&place, &["p"]), Path::new("/")).failed(74, "stdin: Is a directory");
}

#[test]
fn an_output_that_is_full_or_closed_leaves_no_end() {
    let place = Place::default();
    if let Ok(full) = File::options().write(true).open("/dev/full") {
        let mut tool = proof(&place, &["p"]);
        tool.stdin(File::open(stream("full.zfs")).unwrap());
        let ended = start_into(&mut tool, full).finish();
        ended.failed(74, "stdout: cannot write: No space left on device");
        has_no_end(&place);
    }
    let tool = proof(&place, &["p"]);
    let mut shell = place.command("sh");
    shell.args(["-c", "\"$0\" p >&-"]).arg(tool.get_program());
    run_on(&mut shell, &stream("full.zfs")).failed_like(74, "stdout: cannot write", "");
    has_no_end(&place);
}

#[test]
fn a_reader_that_is_gone_leaves_no_end() {
    const GONE: &str = "stdout: the program that reads it has ended; run the same command again";
    // While it writes, and while it waits.
    let place = Place::default();
    let mut tool = proof(&place, &["p"]);
    let mut running = start(tool.stdin(File::open(stream("full.zfs")).unwrap()));
    running.close_output();
    running.finish().failed(75, GONE);
    has_no_end(&place);
    let mut running = start(proof(&place, &["p"]).stdin(Stdio::piped()));
    running.give(&bytes("full.zfs")[..1000]);
    running.close_output();
    running.finish().failed(75, GONE);
    has_no_end(&place);
}

/// What is left in the pipe is lost, and the reader has succeeded.
#[test]
fn a_reader_that_ends_early_leaves_no_end() {
    let name = "incremental-1.zfs";
    for pause in ["", "sleep 1;"] {
        for taken in [1, 100_000, bytes(name).len() - 1] {
            let place = Place::default();
            let script = format!(
                "glacier-proof p <\"$STREAMS/{name}\" 2>said | {{ {pause} head -c {taken} >/dev/null; }}"
            );
            run(&mut sh(&place, &script)).done();
            let said = fs::read_to_string(place.path("said")).unwrap();
            assert!(said.ends_with("has ended; run the same command again\n"), "{said}");
            has_no_end(&place);
        }
    }
    let place = Place::default();
    let script = format!("glacier-proof p <\"$STREAMS/{name}\" | {{ sleep 1; cat >/dev/null; }}");
    run(&mut sh(&place, &script)).done();
    assert_eq!(lines(&place).last().unwrap()["type"], "end");
}

/// What reads the output must not meet its end before the line is there.
#[test]
fn the_end_is_written_down_before_the_output_ends() {
    for _ in 0..20 {
        let place = Place::default();
        let tool = proof(&place, &["p"]);
        let mut shell = place.command("sh");
        let script = "\"$0\" p <\"$1\" | { cat >/dev/null; grep -c '\"end\"' p; }";
        shell.args(["-c", script]).arg(tool.get_program()).arg(stream("incremental-1.zfs"));
        assert_eq!(run(&mut shell).done().stdout, "1\n");
    }
}

#[test]
fn the_first_line_is_there_before_the_first_byte() {
    let place = Place::default();
    let mut running = start(proof(&place, &["p"]).stdin(Stdio::piped()));
    running.give(&bytes("full.zfs"));
    // One byte has come through.
    let mut byte = [0];
    running.read(&mut byte);
    let kinds: Vec<Value> = lines(&place).into_iter().map(|line| line["type"].clone()).collect();
    assert_eq!(kinds[..2], [json!("stream"), json!("snapshot")]);
}

#[test]
fn what_a_receiver_will_lose_is_told() {
    let place = Place::default();
    let (ended, passed) = pass(&place, &["p"], &bytes("spill-embedded-e.zfs"));
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert!(passed == bytes("spill-embedded-e.zfs"));
    let said: Vec<&str> = ended.stderr.lines().collect();
    let [object, count] = said[..] else { panic!("{said:?}") };
    assert!(object.starts_with("glacier-proof: warning: stream: object 2: zfs receive will lose "));
    assert!(
        count
            .starts_with("glacier-proof: warning: p/a@s: objects that zfs receive will damage: 2;")
    );
}
