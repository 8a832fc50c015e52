//! `--inspect`: what a stream is, with nothing stored.

use std::fs;

use super::{COMPOUND, MIB, PLAIN, bytes, chunk, spooled_streams, stream};
use crate::common::made::Made;
use crate::common::{Place, run, run_on, run_with};

/// Lines of these types, as they were printed.
fn of_types(stdout: &str, types: &[&str]) -> Vec<String> {
    let of = |line: &&str| types.iter().any(|t| line.starts_with(&format!("{{\"type\":\"{t}\"")));
    stdout.lines().filter(of).map(str::to_owned).collect()
}

#[test]
fn tells_what_chunk_would_and_stores_nothing() {
    for name in PLAIN.iter().chain(&COMPOUND) {
        for sizes in ["", "--part-size 1M --volume-size 1M --spool-limit none"] {
            let (place, other) = (Place::default(), Place::default());
            let options = format!("--trust-eof {sizes}");
            let stored = run_on(&mut chunk(&other, &options), &stream(name)).done();
            let options = format!("--inspect {}", options.replace("--spool-limit none", ""));
            let looked = run_on(&mut chunk(&place, &options), &stream(name)).done();
            let types = ["stream", "snapshot", "end"];
            assert_eq!(of_types(&stored.stdout, &types), of_types(&looked.stdout, &types));
            assert_eq!(looked.lines().len(), of_types(&looked.stdout, &types).len());
            assert!(!place.spool().exists(), "no spool");
        }
    }
}

#[test]
fn needs_no_place_for_a_spool() {
    let place = Place::default();
    let mut tool = chunk(&place, "--inspect");
    tool.env_remove("HOME").env_remove("GLACIER_SPOOL");
    run_on(&mut tool, &stream("full.zfs")).done();
    // One that would be refused is not looked at.
    fs::write(place.spool(), "no directory").unwrap();
    run_on(&mut chunk(&place, "--inspect"), &stream("full.zfs")).done();
    for (more, named) in [
        ("--spool x", "--spool <DIR>"),
        ("--spool-limit none", "--spool-limit <SIZE>"),
        ("--reserve 1M", "--reserve <SIZE>"),
        ("--patience 1m", "--patience <TIME>"),
    ] {
        let ended = run(&mut chunk(&place, &format!("--inspect {more}")));
        let begins = format!("the argument '--inspect' cannot be used with '{named}'");
        ended.failed_like(64, &begins, "see 'glacier-chunk --help'");
    }
}

#[test]
fn a_damaged_stream_is_told_as_ever() {
    let whole = fs::read(stream("encrypted-raw-w-incremental.zfs")).unwrap();
    let place = Place::default();
    let cut = run_with(&mut chunk(&place, "--inspect"), &whole[..whole.len() - 1]);
    let cut = cut.failed_like(65, "stream: ends inside record ", "");
    let mut flipped = whole.clone();
    flipped[2000] ^= 4;
    let flipped = run_with(&mut chunk(&place, "--inspect"), &flipped);
    let flipped = flipped.failed_like(65, "stream: byte ", ": checksum differs");
    for ended in [cut, flipped] {
        assert!(ended.of_type("end").is_empty());
        assert_eq!(ended.lines().last().unwrap()["type"], "failed");
    }
    run_with(&mut chunk(&place, "--inspect"), b"").failed(65, "stdin: empty stream");
    assert!(spooled_streams(&place).is_empty());
}

#[test]
fn a_compound_stream_shows_its_snapshots_before_it_is_said_to_have_no_proof() {
    let place = Place::default();
    for name in COMPOUND {
        let ended = run_on(&mut chunk(&place, "--inspect"), &stream(name)).failed(
            65,
            "stdin: a compound stream (zfs send -R, -I or -p) cannot prove that it is whole; use -- COMMAND, --whole FILE or --trust-eof",
        );
        assert!(ended.of_type("snapshot").len() > 1);
        assert!(ended.of_type("end").is_empty());
        // Damage is told first.
        let mut bytes = fs::read(stream(name)).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        let ended = run_with(&mut chunk(&place, "--inspect"), &bytes);
        ended.failed_like(65, "stream: byte ", "(END): checksum differs");
    }
    // Other input has nothing to show, so it is refused at its first bytes.
    let ended = run_with(&mut chunk(&place, "--inspect --name x"), &bytes(MIB));
    ended.failed_like(65, "stdin: what is not a ZFS stream cannot prove", "--trust-eof");
}

#[test]
fn all_proofs_and_other_input_are_taken() {
    let place = Place::default();
    let path = stream("replication-R-I.zfs");
    let mut tool = chunk(&place, "--inspect --whole m --");
    let script = "cat \"$0\"; : >m";
    let ended = run(tool.args(["sh", "-c", script, path.to_str().unwrap()])).done();
    assert_eq!(ended.lines().last().unwrap()["whole"], "command,marker");
    assert!(!place.path("m").exists(), "removed when accepted");
    let mut tool = chunk(&place, "--inspect --");
    run(tool.args(["sh", "-c", "cat \"$0\"; exit 3", path.to_str().unwrap()]))
        .failed(65, "sh: exit status 3; the stream is not whole");
    let ended = run_with(&mut chunk(&place, "--inspect --name x --trust-eof"), &bytes(3 * MIB));
    let types: Vec<_> = ended.done().lines().iter().map(|line| line["type"].clone()).collect();
    assert_eq!(types, ["stream", "end"]);
}

/// Synthetic, as no sender of this byte order is at hand.
#[test]
fn streams_of_the_other_byte_order_are_known_too() {
    for big in [false, true] {
        let place = Place::default();
        let ended = run_with(&mut chunk(&place, "--inspect"), &Made::plain(big, true).bytes).done();
        let lines = ended.lines();
        assert_eq!(lines[0]["guid"], "77");
        assert_eq!(lines[1]["name"], "tank/home@mon");
        assert_eq!(lines[2]["whole"], "zfs");
        let bytes = Made::compound(big, true).bytes;
        let ended = run_with(&mut chunk(&place, "--trust-eof"), &bytes).done();
        let guids: Vec<_> = ended.of_type("snapshot").iter().map(|s| s["guid"].clone()).collect();
        assert_eq!(guids, ["77", "88"]);
    }
}

/// That glacier-put refuses them is in tests/lines/end-first.jsonl.
#[test]
fn its_lines_pass_a_window() {
    let place = Place::default();
    let looked = run_on(&mut chunk(&place, "--inspect"), &stream("full.zfs")).done();
    let mut window = place.tool("glacier-window", &["00:00-24:00"]);
    let passed = run_with(&mut window, looked.stdout.as_bytes()).done();
    assert_eq!(passed.lines().len(), 3, "{}", passed.stdout);
}
