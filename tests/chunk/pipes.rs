//! The programs at both ends, and the disk beneath.

use std::fs::{self, File};
use std::process::Stdio;
use std::time::Duration;

use akashita::hash::tree::Hash;

use super::{MIB, bytes, chunk, files, id, part_file, stream, tells};
use crate::common::{Place, run, run_on, run_with, skip, start, start_into};

const NAMED: &str = "--part-size 1M --volume-size 4M --spool-limit none --name x --trust-eof";
const GONE: &str = "stdout: the program that reads it has ended; run the same command again";

#[test]
fn announces_no_part_that_is_not_in_the_spool() {
    let place = Place::default();
    let input = bytes(16 * MIB);
    fs::write(place.path("input"), &input).unwrap();
    let input_file = File::open(place.path("input")).unwrap();
    let mut running = start(chunk(&place, NAMED).stdin(input_file));
    let mut parts = 0;
    while let Some(line) = running.line() {
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        if line["type"] == "part" {
            let id = line["stream"].as_str().unwrap();
            let (volume, part) = (parts / 4, parts % 4);
            let there = fs::read(part_file(&place, id, volume, part)).unwrap();
            assert_eq!(line["sha256"], Hash::of(&there).to_string());
            assert!(there == input[parts * MIB..(parts + 1) * MIB]);
            parts += 1;
        }
    }
    assert_eq!(parts, 16);
    assert_eq!(running.finish().code(), 0);
}

#[test]
fn a_producer_may_be_silent_for_a_while() {
    let place = Place::default();
    let input = bytes(3 * MIB);
    let mut running = start(chunk(&place, NAMED).stdin(Stdio::piped()));
    assert!(running.give(&input[..=MIB]));
    let first = running.line().unwrap();
    std::thread::sleep(Duration::from_secs(2));
    assert!(running.runs());
    assert!(running.give(&input[MIB + 1..]));
    running.end_input();
    let mut ended = running.finish().done();
    ended.stdout.insert_str(0, &first);
    tells(&place, &ended, &input, MIB, 4 * MIB);
}

#[test]
fn notices_that_its_reader_is_gone_while_the_producer_is_silent() {
    let place = Place::default();
    let mut running = start(chunk(&place, NAMED).stdin(Stdio::piped()));
    assert!(running.give(&bytes(MIB)));
    running.line_of("part");
    running.close_output();
    running.finish().failed(75, GONE);
}

#[test]
fn notices_that_its_reader_is_gone_while_it_writes() {
    let place = Place::default();
    fs::write(place.path("input"), bytes(64 * MIB)).unwrap();
    let input = File::open(place.path("input")).unwrap();
    let mut running = start(chunk(&place, NAMED).stdin(input));
    running.line_of("part");
    running.close_output();
    running.finish().failed(75, GONE);
}

#[test]
fn notices_that_its_reader_is_gone_while_the_command_does_not_end() {
    let place = Place::default();
    let mut tool = chunk(&place, "--part-size 1M --name x");
    tool.args(["--", "sh", "-c", "head -c 1048577 /dev/zero; exec >&- sleep 1000"]);
    let mut running = start(&mut tool);
    running.line_of("part");
    running.close_output();
    running.finish().failed(75, GONE);
}

#[test]
fn a_full_standard_output_is_a_failure() {
    if !std::path::Path::new("/dev/full").exists() {
        skip("/dev/full: not there");
        return;
    }
    let place = Place::default();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let input = File::open(stream("full.zfs")).unwrap();
    let ended = start_into(chunk(&place, "").stdin(input), full).finish();
    ended.failed(74, "stdout: cannot write: No space left on device");
}

#[test]
fn a_closed_standard_output_is_a_failure() {
    let place = Place::default();
    let mut shell = place.command("sh");
    let tool = chunk(&place, "");
    shell.args(["-c", "exec \"$0\" >&-"]).arg(tool.get_program());
    let ended = run_on(&mut shell, &stream("full.zfs"));
    ended.failed(74, "stdout: cannot write: Bad file descriptor");
}

#[test]
fn a_disk_that_cannot_take_a_part_is_a_failure() {
    // A limit on files is met as a full disk is, and needs no file system.
    let place = Place::default();
    let mut shell = place.command("sh");
    let tool = chunk(&place, "");
    let script = "trap '' XFSZ; ulimit -f 3000; exec \"$0\" --part-size 4M --name x --trust-eof";
    shell.args(["-c", script]).arg(tool.get_program());
    let ended = run_with(&mut shell, &bytes(5 * MIB));
    let ended = ended.failed(74, "volume 0 part 0: cannot write: File too large");
    let lines = ended.lines();
    assert!(ended.of_type("part").is_empty(), "{}", ended.stdout);
    let left = files(&place, id(&lines));
    assert_eq!(left, ["chunk.lock", "lines.new"], "the part gives its room back");
}

#[test]
fn a_full_disk_is_waited_for_and_never_filled() {
    let place = Place::default();
    fs::create_dir(place.path("disk")).unwrap();
    let tool = chunk(&place, "");
    let mut shell = place.command("unshare");
    let mount = "mount -t tmpfs -o size=6m none disk 2>/dev/null || exit 99; exec \"$0\" \
                 --spool disk/spool --part-size 1M --volume-size 4M --name x --trust-eof \
                 --reserve 1M --patience 0s";
    shell.args(["-m", "sh", "-c", mount]).arg(tool.get_program());
    let ended = run_with(&mut shell, &bytes(8 * MIB));
    if ended.code() == 99 || ended.stderr.starts_with("unshare") {
        skip("mount: not allowed, no disk is filled");
        return;
    }
    let ended = ended.failed(
        75,
        "spool: full (less than 2 MiB is free), and no glacier-put takes from it; start one, then run the same command again",
    );
    assert_eq!(ended.of_type("part").len(), 4, "{}", ended.stdout);
}

#[test]
fn memory_does_not_grow_with_a_part() {
    if !std::path::Path::new("/proc/self/status").exists() {
        skip("/proc: not there, the peak memory is not known");
        return;
    }
    let place = Place::default();
    let options = "--part-size 1G --volume-size 1G --reserve 0 --name x --trust-eof";
    let mut running = start(chunk(&place, options).stdin(Stdio::piped()));
    let piece = vec![0; 4 * MIB];
    for _ in 0..1024 / 4 {
        assert!(running.give(&piece));
    }
    // Not at its end: it waits for more.
    assert!(running.give(&[1]));
    assert_eq!(running.line_of("part")["size"], 1 << 30);
    let status = fs::read_to_string(format!("/proc/{}/status", running.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().strip_suffix(" kB").unwrap().parse().unwrap();
    running.end_input();
    assert_eq!(running.finish().code(), 0);
    assert!(peak < 64 << 10, "{peak} KiB at most");
}

#[test]
fn a_second_chunk_on_a_stream_is_told_who_works_on_it() {
    let place = Place::default();
    let mut first = start(chunk(&place, NAMED).stdin(Stdio::piped()));
    assert!(first.give(&bytes(MIB + 1)));
    let id = first.line_of("part")["stream"].as_str().unwrap().to_owned();
    let message = format!(
        "stream {id}: glacier-chunk (process {}) works on it; run the same command later",
        first.id()
    );
    run_with(&mut chunk(&place, NAMED), &bytes(MIB + 1)).failed(75, &message);
    first.end_input();
    let ended = first.finish();
    assert_eq!(ended.code(), 0);
    // Another stream has its own lock.
    run(chunk(&place, "").stdin(File::open(stream("full.zfs")).unwrap())).done();
}
