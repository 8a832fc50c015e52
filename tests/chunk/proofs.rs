//! What proves that a stream is whole, and what is absent without proof.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use akashita::zfs_stream::{Walk, What};
use serde_json::json;

use super::{COMPOUND, MIB, PLAIN, chunk, id, spooled_streams, stream, tells};
use crate::common::made::Made;
use crate::common::{Ended, Place, after, run, run_on, run_with};

/// That a failed stream says so in its lines as on standard error, and
/// nothing that only a whole one may say.
#[track_caller]
fn is_not_whole(ended: &Ended, code: i32) {
    assert_eq!(ended.code(), code, "{}{}", ended.stdout, ended.stderr);
    let lines = ended.lines();
    let failed = lines.last().unwrap();
    assert_eq!(failed["type"], "failed");
    assert_eq!(failed["code"], code);
    assert_eq!(ended.stderr, format!("glacier-chunk: {}\n", failed["message"].as_str().unwrap()));
    assert!(ended.of_type("end").is_empty(), "{}", ended.stdout);
    for volume in ended.of_type("volume") {
        assert_eq!(volume["size"], MIB, "a short volume: {volume}");
    }
    for part in ended.of_type("part") {
        assert_eq!(part["size"], MIB, "a short part: {part}");
    }
}

/// Where records of a stream begin or end.
fn edges(bytes: &[u8]) -> Vec<usize> {
    let mut walk = Walk::new();
    let mut edges = Vec::new();
    for (at, byte) in bytes.iter().enumerate() {
        walk.update(std::slice::from_ref(byte)).unwrap();
        if !matches!(walk.finish(), Err(damage) if damage.what == What::Cut) {
            edges.push(at + 1);
        }
    }
    edges
}

/// Does something for each number, on several threads.
fn each(numbers: &[usize], work: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(number) = numbers.get(next.fetch_add(1, Ordering::Relaxed)) {
                    work(*number);
                }
            });
        }
    });
}

#[test]
fn a_stream_cut_anywhere_has_no_end() {
    // A short stream with all of its edges, and one of several volumes.
    for (name, all) in [("encrypted-raw-w-incremental.zfs", true), ("incremental-2.zfs", false)] {
        let whole = fs::read(stream(name)).unwrap();
        let edges = edges(&whole);
        assert_eq!(edges.last(), Some(&whole.len()));
        let some = if all { edges.len() } else { 12 };
        let mut cuts: Vec<usize> = edges
            .iter()
            .step_by(edges.len().div_ceil(some))
            .chain(&edges[edges.len() - 3..])
            .flat_map(|edge| [edge - 1, *edge, edge + 1])
            .chain((1..40).map(|i| i * whole.len() / 40))
            .chain([1, 15, 16, 17, MIB - 1, MIB, MIB + 1])
            .filter(|cut| *cut < whole.len())
            .collect();
        cuts.sort_unstable();
        cuts.dedup();
        each(&cuts, |cut| {
            let place = Place::default();
            let options = "--part-size 1M --volume-size 1M";
            let ended = run_with(&mut chunk(&place, options), &whole[..cut]);
            is_not_whole(&ended, 65);
            let said = ended.stderr.trim_end().strip_prefix("glacier-chunk: ").unwrap();
            if edges.contains(&cut) {
                let place = format!(", at byte {cut}, without its END record");
                assert!(said.starts_with("stream: ends after record "), "{said}");
                assert!(said.ends_with(&place), "{said}");
            } else {
                let begin = edges.iter().rev().find(|edge| **edge < cut).unwrap_or(&0);
                let place = format!(", which begins at byte {begin}");
                assert!(said.starts_with("stream: ends inside record "), "{said}");
                assert!(said.ends_with(&place), "{said}");
            }
        });
    }
}

#[test]
fn a_compound_stream_cut_anywhere_has_no_end_whatever_the_proof() {
    let whole = fs::read(stream("incremental-I.zfs")).unwrap();
    let edges = edges(&whole);
    let cuts: Vec<usize> = edges
        .iter()
        .step_by(2)
        .flat_map(|edge| [edge - 1, *edge])
        .filter(|c| *c < whole.len())
        .collect();
    each(&cuts, |cut| {
        let place = Place::default();
        is_not_whole(&run_with(&mut chunk(&place, "--trust-eof"), &whole[..cut]), 65);
    });
}

#[test]
fn a_stream_with_a_flipped_bit_has_no_end() {
    let whole = fs::read(stream("encrypted-raw-w-incremental.zfs")).unwrap();
    let places: Vec<usize> = (0..60).map(|i| i * whole.len() / 60 + i % 7).collect();
    each(&places, |at| {
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << (at % 8);
        let place = Place::default();
        let ended = run_with(&mut chunk(&place, ""), &damaged);
        is_not_whole(&ended, 65);
        assert!(ended.stderr.contains("byte ") && ended.stderr.contains("record "), "{at}");
    });
}

/// Where the first bytes are damaged, it is still known for what it was, and
/// the user's word is not taken for it.
#[test]
fn a_stream_damaged_where_it_is_known_by_is_no_other_input() {
    let whole = fs::read(stream("encrypted-raw-w-incremental.zfs")).unwrap();
    let bits: Vec<usize> = (0..4 * 8).chain(8 * 8..16 * 8).collect();
    each(&bits, |bit| {
        let mut damaged = whole.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let place = Place::default();
        let ended = run_with(&mut chunk(&place, "--trust-eof --name x"), &damaged);
        is_not_whole(&ended.failed_like(65, "stream: byte 0, record 1 (", ""), 65);
        assert!(spooled_streams(&place).is_empty());
    });
    // What ends before it can be known is a stream that was cut, unless it is
    // named and vouched for.
    let place = Place::default();
    for (cut, kind) in [(1, ""), (8, ""), (15, "")] {
        for options in ["", "--name x", "--trust-eof"] {
            let ended = run_with(&mut chunk(&place, options), &whole[..cut]);
            let said = format!("stream: ends inside record 1{kind}, which begins at byte 0");
            ended.failed(65, &said);
        }
    }
    assert!(spooled_streams(&place).is_empty());
    run_with(&mut chunk(&place, "--trust-eof --name x"), &[0; 8]).done();
}

#[test]
fn a_header_that_does_not_end_is_told_with_its_place() {
    let mut begin = Made::new(false, true).begin(2, "a@b", (0, 0), &[]).bytes;
    begin[4..8].copy_from_slice(&(200_u32 << 20).to_le_bytes());
    begin.resize(30 * MIB, 0);
    let place = Place::default();
    for (options, size) in [("--trust-eof", 24), ("--trust-eof --part-size 1M", 12)] {
        let said = format!("stream: byte 0, record 1 (BEGIN): header over {size} MiB");
        run_with(&mut chunk(&place, options), &begin).failed(65, &said);
    }
}

#[test]
fn a_stream_that_goes_on_behind_its_end_has_no_end() {
    for name in PLAIN {
        let mut input = fs::read(stream(name)).unwrap();
        let begin = format!("stream: byte {}: bytes follow record ", input.len());
        input.push(0);
        let place = Place::default();
        let ended = run_with(&mut chunk(&place, "--trust-eof"), &input);
        is_not_whole(&ended.failed_like(65, &begin, " (END)"), 65);
    }
}

#[test]
fn input_that_can_have_no_proof_is_refused_at_its_first_bytes() {
    for name in COMPOUND {
        let place = Place::default();
        let ended = run_on(&mut chunk(&place, ""), &stream(name)).failed(
            65,
            "stdin: a compound stream (zfs send -R, -I or -p) cannot prove that it is whole; use -- COMMAND, --whole FILE or --trust-eof",
        );
        is_not_whole(&ended, 65);
        assert_eq!(ended.lines().len(), 1, "no line but the failure");
        assert!(spooled_streams(&place).is_empty());
    }
    let place = Place::default();
    let ended = run_with(&mut chunk(&place, "--name x"), b"hello").failed(
        65,
        "stdin: what is not a ZFS stream cannot prove that it is whole; use -- COMMAND, --whole FILE or --trust-eof",
    );
    is_not_whole(&ended, 65);
    assert!(spooled_streams(&place).is_empty());
    let ended = run_with(&mut chunk(&place, "--trust-eof"), b"hello");
    ended.failed(64, "stdin: not a ZFS stream, so it has no name; use --name");
    assert!(spooled_streams(&place).is_empty());
}

#[test]
fn a_compound_stream_is_taken_with_a_proof() {
    for name in COMPOUND {
        let input = fs::read(stream(name)).unwrap();
        let place = Place::default();
        let ended = run_on(&mut chunk(&place, "--trust-eof"), &stream(name)).done();
        tells(&place, &ended, &input, 16 * MIB, 4096 * MIB);
        let lines = ended.lines();
        assert_eq!(lines[0]["compound"], true);
        assert_eq!((lines[0].get("guid"), lines[0].get("from_guid")), (None, None));
        assert_eq!(lines.last().unwrap()["whole"], "trusted");
        let snapshots = ended.of_type("snapshot");
        assert!(snapshots.len() > 1, "{}", ended.stdout);
        for snapshot in snapshots {
            // A BEGIN record stands there, of this guid.
            let at = usize::try_from(snapshot["offset"].as_u64().unwrap()).unwrap();
            let guid = u64::from_le_bytes(input[at + 40..at + 48].try_into().unwrap());
            assert_eq!(snapshot["guid"], guid.to_string());
            assert_eq!(snapshot["stream"], lines[0]["stream"]);
        }
    }
}

/// A command that chunk runs.
fn with_command(place: &Place, options: &[&str], command: &[&str]) -> Command {
    let mut tool = place.tool("glacier-chunk", options);
    tool.arg("--").args(command);
    tool
}

#[test]
fn a_command_that_succeeds_is_a_proof() {
    let place = Place::default();
    for name in COMPOUND {
        let path = stream(name);
        let cat = ["cat", path.to_str().unwrap()];
        let ended = run(&mut with_command(&place, &[], &cat)).done();
        assert_eq!(ended.lines().last().unwrap()["whole"], "command");
    }
    let path = stream("full.zfs");
    let ended = run(&mut with_command(&place, &[], &["cat", path.to_str().unwrap()])).done();
    assert_eq!(ended.lines().last().unwrap()["whole"], "zfs,command");
    // It gets its arguments as they are, and no input of ours.
    let echo = ["sh", "-c", "cat; printf '%s.' \"$@\"", "sh", "a b", "*", "-x"];
    let ended = run_with(&mut with_command(&place, &["--name", "x"], &echo), b"not this").done();
    tells(&place, &ended, b"a b.*.-x.", 16 * MIB, 4096 * MIB);
}

#[test]
fn a_command_that_fails_is_told_with_its_status() {
    let cases = [
        ("echo hi; exit 1", 65, "sh: exit status 1; the stream is not whole"),
        ("echo hi; exit 75", 75, "sh: exit status 75; the stream is not whole"),
        ("echo hi; kill -9 $$", 65, "sh: killed by signal 9; the stream is not whole"),
        ("exit 3", 65, "sh: exit status 3; the stream is not whole"),
        // Why a stream is cut is in the command's status, not in its bytes.
        ("head -c 100 \"$0\"; exit 75", 75, "sh: exit status 75; the stream is not whole"),
        ("head -c 400 \"$0\"; exit 1", 65, "sh: exit status 1; the stream is not whole"),
        ("cat \"$0\"; exit 1", 65, "sh: exit status 1; the stream is not whole"),
    ];
    for (script, code, message) in cases {
        let place = Place::default();
        let path = stream("full.zfs");
        let command = ["sh", "-c", script, path.to_str().unwrap()];
        let ended = run(&mut with_command(&place, &["--name", "x"], &command));
        is_not_whole(&ended.failed(code, message), code);
    }
    let place = Place::default();
    let ended = run(&mut with_command(&place, &["--name", "x"], &["no-such-command"]));
    ended.failed(64, "no-such-command: cannot run: No such file or directory");
    let ended = run(&mut with_command(&place, &["--name", "x"], &["/"]));
    ended.failed(64, "/: cannot run: Permission denied");
    assert!(spooled_streams(&place).is_empty());
}

#[test]
fn a_command_is_killed_when_its_output_is_of_no_use() {
    let place = Place::default();
    let path = stream("full.zfs");
    // Bytes behind the end, and then for ever.
    let script = "echo $$ >pid; cat \"$0\"; exec yes";
    let command = ["sh", "-c", script, path.to_str().unwrap()];
    let ended = run(&mut with_command(&place, &[], &command));
    ended.failed_like(65, "stream: byte 2144056: bytes follow record ", " (END)");
    let pid = fs::read_to_string(place.path("pid")).unwrap();
    assert!(!Path::new("/proc").join(pid.trim()).join("fd/0").exists());
}

#[test]
fn markers_prove_what_the_shell_knows() {
    let place = Place::default();
    let path = stream("replication-R-I.zfs");
    let mut pipe = place.command("sh");
    let tool = place.tool("glacier-chunk", &[]);
    let script = "{ cat \"$1\" && : >1; } | { cat && : >2; } | \"$0\" --whole 1 --whole 2";
    pipe.args(["-c", script]).arg(tool.get_program()).arg(&path);
    let ended = run(&mut pipe).done();
    assert_eq!(ended.lines().last().unwrap()["whole"], "marker");
    assert!(!place.path("1").exists() && !place.path("2").exists(), "removed when accepted");

    // The same with a first stage that fails.
    let mut pipe = place.command("sh");
    let script = script.replace("cat \"$1\"", "{ cat \"$1\"; false; }");
    pipe.args(["-c", &script]).arg(tool.get_program()).arg(&path);
    let ended = run(&mut pipe)
        .failed(65, "marker 1: not there; its producer failed, the stream is not whole");
    is_not_whole(&ended, 65);
    assert!(place.path("2").exists(), "nothing is removed unless all are accepted");
}

/// A pipe of sh that runs chunk as $0.
fn sh(place: &Place, script: &str) -> Command {
    let mut shell = place.command("sh");
    shell.args(["-c", script]).arg(place.tool("glacier-chunk", &[]).get_program());
    shell
}

#[test]
fn a_marker_of_an_earlier_run_proves_nothing() {
    let place = Place::default();
    let marker = File::create(place.path("m")).unwrap();
    marker.set_modified(SystemTime::now() - Duration::from_mins(1)).unwrap();
    let options = "--whole m --name x";
    let ended = run_with(&mut chunk(&place, options), b"hello")
        .failed(65, "marker m: older than this run; remove it first");
    is_not_whole(&ended, 65);
    assert!(place.path("m").exists());
    // One from the future is what a clock that was set back has left.
    marker.set_modified(SystemTime::now() + Duration::from_hours(1)).unwrap();
    is_not_whole(&run_with(&mut chunk(&place, options), b"hello"), 65);
    // One that this run makes anew is its own.
    let script = "{ printf hello && : >m; } | \"$0\" --whole m --name x";
    let ended = run(&mut sh(&place, script)).done();
    assert_eq!(ended.lines().last().unwrap()["whole"], "marker");
    assert!(!place.path("m").exists());
}

/// As a loop does whose chunk was killed when the sender was done already: the
/// marker is a moment old.
#[test]
fn a_run_that_is_repeated_at_once_has_no_marker_yet() {
    let place = Place::default();
    File::create(place.path("m")).unwrap();
    after(&place.path("m"));
    let ended = run_with(&mut chunk(&place, "--whole m --name x"), b"hel")
        .failed(65, "marker m: older than this run; remove it first");
    is_not_whole(&ended, 65);
}

#[test]
fn a_producer_that_is_done_before_chunk_starts_has_its_marker() {
    for _ in 0..20 {
        let place = Place::default();
        let script = "{ printf hello && : >m; } |
            { until [ -e m ]; do :; done; exec \"$0\" --whole m --name x; }";
        let ended = run(&mut sh(&place, script)).done();
        assert_eq!(ended.lines().last().unwrap()["whole"], "marker");
    }
}

/// A file, or a FIFO with a name, does not tell when this run's began.
#[test]
fn where_no_pipe_tells_its_time_a_marker_must_be_made_meanwhile() {
    let place = Place::default();
    File::create(place.path("m")).unwrap();
    fs::write(place.path("in"), "hello").unwrap();
    let options = "--whole m --name x";
    let ended = run_on(&mut chunk(&place, options), &place.path("in"));
    is_not_whole(&ended.failed(65, "marker m: older than this run; remove it first"), 65);
    let script = "mkfifo f; { printf x >f; } & exec \"$0\" --whole m --name x <f";
    let ended = run(&mut sh(&place, script));
    is_not_whole(&ended.failed(65, "marker m: older than this run; remove it first"), 65);
    let script =
        "rm -r m spool; { { head -c 2000000 /dev/zero; until [ -e spool/*/lines.new ]; do :; done
        : >m; } >f; } & exec \"$0\" --whole m --name y --part-size 1M <f";
    let ended = run(&mut sh(&place, script)).done();
    assert_eq!(ended.lines().last().unwrap()["whole"], "marker");
}

#[test]
fn all_proofs_that_apply_are_told() {
    let place = Place::default();
    let script = "{ cat \"$1\" && : >m; } | \"$0\" --trust-eof --whole m";
    let ended = run(sh(&place, script).arg(stream("full.zfs"))).done();
    assert_eq!(ended.lines().last().unwrap()["whole"], "zfs,marker,trusted");
}

#[test]
fn a_failed_line_names_the_stream_once_that_is_known() {
    let place = Place::default();
    let whole = fs::read(stream("full.zfs")).unwrap();
    let ended = run_with(&mut chunk(&place, "--part-size 1M"), &whole[..2 * MIB]);
    is_not_whole(&ended, 65);
    let lines = ended.lines();
    assert_eq!(lines.last().unwrap()["stream"], json!(id(&lines)));
    assert_eq!(ended.of_type("part").len(), 2, "what is complete is kept");
    assert!(!place.stream(id(&lines)).join("lines.jsonl").exists());
}

/// zfs receive ends with 0 and has lost what they hold.
#[test]
fn what_a_receiver_will_lose_is_told_at_the_first_and_counted_at_the_end() {
    let object = "glacier-chunk: warning: stream: object 2: zfs receive will lose its long link or its extended attributes, as this zfs send embeds them wrongly; send without -e, and with -w only what is encrypted (raw=auto)\n";
    let count = "glacier-chunk: warning: p/a@s: objects that zfs receive will damage: 2; the stream is kept as it is\n";
    for (name, said) in [
        ("spill-embedded-e.zfs", [object, count].concat()),
        ("spill-embedded-w.zfs", [object, count].concat()),
        ("spill-plain.zfs", String::new()),
    ] {
        for options in ["", "--inspect"] {
            let place = Place::default();
            let ended = run_on(&mut chunk(&place, options), &stream(name));
            assert_eq!((ended.code(), &ended.stderr), (0, &said), "{name}");
            assert_eq!(ended.of_type("end").len(), 1);
        }
    }
    for name in PLAIN.into_iter().chain(COMPOUND) {
        run_on(&mut chunk(&Place::default(), "--inspect --trust-eof"), &stream(name)).done();
    }
}
