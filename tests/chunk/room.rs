//! Waiting for room in the spool.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{MIB, bytes, chunk, files, id, part_file, tells};
use crate::common::{Ended, Place, Running, run, run_with, skip, start, stays, until};

const SMALL: &str = "--part-size 1M --volume-size 2M --spool-limit 3M --name x --trust-eof";
const FULL: &str = "spool: full (holds 3 MiB of this stream), and no glacier-put takes from it; start one, then run the same command again";

/// A chunk of eight parts, and what it printed until it waits.
fn waiting(place: &Place, patience: &str) -> (Running, Vec<Value>) {
    fs::write(place.path("input"), bytes(8 * MIB)).unwrap();
    let input = File::open(place.path("input")).unwrap();
    let options = format!("{SMALL} --patience {patience}");
    let mut running = start(chunk(place, &options).stdin(input));
    let lines = (0..5).map(|_| serde_json::from_str(&running.line().unwrap()).unwrap()).collect();
    (running, lines)
}

/// Bytes of a stream's parts in the spool.
fn used(directory: &Path) -> u64 {
    fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_name().to_str().unwrap().contains(".part"))
        // One that is written is renamed meanwhile.
        .filter_map(|entry| entry.metadata().ok())
        .map(|meta| meta.len())
        .sum()
}

fn put_lock(place: &Place, id: &str) -> File {
    let lock = File::create(place.stream(id).join("put.lock")).unwrap();
    lock.lock().unwrap();
    lock
}

#[test]
fn goes_on_as_parts_are_taken_away_and_never_holds_more() {
    let place = Place::default();
    let (mut running, mut lines) = waiting(&place, "60s");
    let id = id(&lines).to_owned();
    let _put = put_lock(&place, &id);
    let directory = place.stream(&id);
    for volume in 0..4 {
        until("three parts are there", || files(&place, &id).len() >= 4);
        assert!(used(&directory) <= 3 << 20);
        for part in 0..2 {
            if part_file(&place, &id, volume, part).exists() {
                fs::remove_file(part_file(&place, &id, volume, part)).unwrap();
            }
        }
        while lines.iter().filter(|line| line["type"] == "volume").count() < (volume + 2).min(4) {
            lines.push(serde_json::from_str(&running.line().unwrap()).unwrap());
            assert!(used(&directory) <= 3 << 20);
        }
    }
    let ended = running.finish().done();
    assert_eq!(ended.of_type("end").len(), 1);
    let parts: Vec<_> = lines.iter().filter(|line| line["type"] == "part").collect();
    assert_eq!(parts.len(), 8);
}

#[test]
fn gives_up_when_nobody_takes_from_a_full_spool() {
    let place = Place::default();
    let (running, lines) = waiting(&place, "1s");
    let ended = running.finish().failed(75, FULL);
    let failed = ended.lines();
    assert_eq!(failed.last().unwrap()["message"], FULL);
    assert_eq!(failed.last().unwrap()["code"], 75);
    let id = id(&lines);
    assert_eq!(used(&place.stream(id)), 3 << 20);
}

#[test]
fn counts_its_patience_from_when_put_ended() {
    let place = Place::default();
    let (mut running, lines) = waiting(&place, "2s");
    let id = id(&lines).to_owned();
    let put = put_lock(&place, &id);
    stays("it waits while put works", Duration::from_millis(2500), || running.runs());
    drop(put);
    let ended_at = Instant::now();
    let ended = running.finish().failed(75, FULL);
    assert!(ended_at.elapsed() >= Duration::from_millis(1500), "{:?}", ended_at.elapsed());
    assert!(ended.of_type("end").is_empty());
}

#[test]
fn notices_that_its_reader_is_gone_while_it_waits() {
    let place = Place::default();
    let (mut running, _) = waiting(&place, "1d");
    running.close_output();
    let gone = "stdout: the program that reads it has ended; run the same command again";
    running.finish().failed(75, gone);
}

#[test]
fn says_at_once_what_is_wrong_with_a_stream_though_there_is_no_room() {
    let place = Place::default();
    let mut running =
        start(place.tool("glacier-chunk", &SMALL.split(' ').collect::<Vec<_>>()).args([
            "--patience",
            "1d",
            "--",
            "sh",
            "-c",
            "head -c 6291456 /dev/zero; exit 1",
        ]));
    running.line_of("stream");
    let ended = running.finish();
    ended.failed(65, "sh: exit status 1; the stream is not whole");
}

#[test]
fn a_rerun_does_not_wait_for_parts_of_its_own() {
    let place = Place::default();
    let (running, lines) = waiting(&place, "0s");
    running.finish().failed(75, FULL);
    let id = id(&lines).to_owned();
    let (mut running, again) = waiting(&place, "60s");
    assert_eq!(again, lines);
    // Now put works, and knows nothing but what this run tells it.
    let put = put_lock(&place, &id);
    for part in 0..2 {
        fs::remove_file(part_file(&place, &id, 0, part)).unwrap();
    }
    running.line_of("part");
    drop((put, running));
}

#[test]
fn a_rerun_with_a_smaller_limit_tells_of_what_is_there() {
    let place = Place::default();
    let input = bytes(8 * MIB);
    let unlimited = SMALL.replace("3M", "none");
    let ended = run_with(&mut chunk(&place, &unlimited), &input).done();
    tells(&place, &ended, &input, MIB, 2 * MIB);
    let (running, lines) = waiting(&place, "0s");
    assert_eq!(lines, ended.lines()[..5]);
    running.finish().failed(75, FULL);
    // What the first run left is all there: the lines of then are still true.
    tells(&place, &ended_with_new_lines(&place, ended), &input, MIB, 2 * MIB);
}

/// Takes away what the failed run left beside the good one.
fn ended_with_new_lines(place: &Place, ended: Ended) -> Ended {
    fs::remove_file(place.stream(id(&ended.lines())).join("lines.new")).unwrap();
    ended
}

#[test]
fn a_part_that_replaces_itself_may_use_the_reserve() {
    let place = Place::default();
    let input = bytes(3 * MIB);
    let options = SMALL.replace("--spool-limit 3M", "--spool-limit none --patience 0s");
    run_with(&mut chunk(&place, &options), &input).done();
    let ended = run_with(&mut chunk(&place, &format!("{options} --reserve 1000T")), &input).done();
    tells(&place, &ended, &input, MIB, 2 * MIB);
    let more = bytes(4 * MIB);
    let ended = run_with(&mut chunk(&place, &format!("{options} --reserve 1000T")), &more);
    ended.failed(
        75,
        "spool: full (less than 1000 TiB is free), and no glacier-put takes from it; start one, then run the same command again",
    );
}

/// put waits for the rest of the volume, chunk for room: neither would end.
#[test]
fn gives_up_when_put_can_make_no_room() {
    let place = Place::default();
    let full = "--part-size 1M --volume-size 2M --name x --trust-eof --reserve 4000T --patience";
    fs::write(place.path("input"), bytes(MIB)).unwrap();
    let input = File::open(place.path("input")).unwrap();
    let mut running = start(chunk(&place, &format!("{full} 2s")).stdin(input));
    let lines = [serde_json::from_str(&running.line().unwrap()).unwrap()];
    let _put = put_lock(&place, id(&lines));
    let ended = running.finish();
    let why = "spool: full (less than 4000 TiB is free), and glacier-put takes nothing before volume 0 is whole";
    let said = format!(
        "glacier-chunk: warning: {why}; waits for room\n\
         glacier-chunk: {why}; make room, then run the same command again\n"
    );
    assert_eq!((ended.code(), ended.stderr), (75, said));
}

/// Runs a script where the spool is a disk of so many MiB; $0 is chunk, whose
/// volumes have eight. `None` where nothing may be mounted.
fn on_a_disk(place: &Place, mib: u32, script: &str) -> Option<Ended> {
    fs::write(place.path("input"), bytes(8 * MIB)).unwrap();
    let options = "--part-size 1M --volume-size 8M --reserve 1M --patience 1s --trust-eof";
    let script = format!(
        "mkdir -m 700 spool && mount -t tmpfs -o size={mib}m,mode=700 none spool || exit 99
         cut() {{ \"$0\" {options} \"$@\" >/dev/null; }}
         parts() {{ find spool -name '*.part*' | wc -l; }}
         {script}"
    );
    let mut shell = place.command("unshare");
    shell.args(["-rm", "sh", "-c", &script]).arg(chunk(place, "").get_program());
    let ended = run(&mut shell);
    if ended.code() == 99 || ended.stderr.contains("unshare") {
        skip("unshare: not allowed, no small disk to try; run the tests as root");
        return None;
    }
    Some(ended)
}

/// Room for one volume and a half: put would take neither of two halves.
#[test]
fn a_volume_is_not_begun_in_the_room_of_another() {
    let place = Place::default();
    let script = "
        mkfifo a; cut --name a <a & exec 5>a; head -c 4194304 input >&5
        until [ -e spool/*/00000000-0003.part ]; do sleep 0.05; done
        cut --name b <input 5>&-; echo \"b $? of $(parts)\"
        tail -c +4194305 input >&5; exec 5>&-; wait $!; echo \"a $? of $(parts)\"";
    let Some(ended) = on_a_disk(&place, 12, script) else { return };
    assert_eq!(ended.stdout, "b 75 of 4\na 0 of 8\n", "{}", ended.stderr);
    let full = "glacier-chunk: spool: full (less than 13 MiB is free, for a volume beside those that others have begun), and no glacier-put takes from it; start one, then run the same command again\n";
    assert_eq!(ended.stderr, full);
}

/// Else it would stay, and others could not finish theirs.
#[test]
fn a_volume_that_does_not_fit_is_given_up() {
    let place = Place::default();
    let script = "cut --name a <input; echo \"a $? of $(parts)\"
        head -c 3145728 input | cut --name b; echo \"b $? of $(parts)\"";
    let Some(ended) = on_a_disk(&place, 6, script) else { return };
    assert_eq!(ended.stdout, "a 75 of 0\nb 0 of 3\n", "{}", ended.stderr);
}

/// Whether strace holds a thread of what it runs.
fn is_held(strace: u32) -> bool {
    let children = fs::read_to_string(format!("/proc/{strace}/task/{strace}/children"));
    let children = children.unwrap_or_default();
    children.split_whitespace().any(|child| {
        let threads = fs::read_dir(format!("/proc/{child}/task")).into_iter().flatten().flatten();
        let status = |thread: fs::DirEntry| fs::read_to_string(thread.path().join("status"));
        threads.filter_map(|it| status(it).ok()).any(|it| it.contains("State:\tt"))
    })
}

#[test]
fn room_that_is_made_between_two_looks_is_used() {
    let place = Place::default();
    fs::write(place.path("input"), bytes(4 * MIB)).unwrap();
    let mut untraced = chunk(&place, &format!("{SMALL} --patience 0s"));
    untraced.env("GLACIER_SPOOL", place.path("first"));
    let input = || File::open(place.path("input")).unwrap();
    let id = id(&run(untraced.stdin(input())).lines()).to_owned();
    // Who looks whether put works meets a lock that nobody holds, late.
    let directory = place.stream(&id);
    DirBuilder::new().recursive(true).mode(0o700).create(&directory).unwrap();
    fs::write(directory.join("put.lock"), "").unwrap();
    let mut traced = place.command("strace");
    traced.args(["-f", "-o", "trace", "-P"]).arg(directory.join("put.lock"));
    traced.args(["-e", "trace=flock", "-e", "inject=flock:delay_enter=1000000"]);
    let plain = chunk(&place, &format!("{SMALL} --patience 0s"));
    traced.arg(plain.get_program()).args(plain.get_args());
    let envs = plain.get_envs().filter_map(|(name, value)| Some((name, value?)));
    traced.envs(envs).stdin(input()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut child) = traced.spawn() else {
        skip("strace: not found, no look is late");
        return;
    };
    let third = part_file(&place, &id, 1, 0);
    until("three parts are there", || third.exists() || child.try_wait().unwrap().is_some());
    until("it looks for put", || is_held(child.id()) || child.try_wait().unwrap().is_some());
    for part in 0..2 {
        let _ = fs::remove_file(part_file(&place, &id, 0, part));
    }
    let ended = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    if said.contains("ptrace") {
        skip("strace: not allowed, no look is late");
        return;
    }
    assert!(ended.status.success(), "{said}");
    assert!(part_file(&place, &id, 1, 1).exists());
}
