//! akashita-receive(1) by itself, without a service.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use crate::common::machine::GUIDS;
use crate::common::{Ended, Place, run, run_with};

const ID: &str = "9f2c000000000000000000000000000a";
const OTHER: &str = "9f2c000000000000000000000000000b";

/// A place with a chain of these streams: id, name, guid, and a filter.
fn place(streams: &[(&str, &str, &str, &str)]) -> Place {
    let place = Place::default();
    let mut chain = format!("{{\"type\":\"chain\",\"stream\":\"{ID}\",\"streams\":1}}\n");
    for (id, name, guid, filter) in streams {
        let format = if guid.is_empty() || !filter.is_empty() { "bytes" } else { "zfs" };
        let guid = if guid.is_empty() { String::new() } else { format!("\"guid\":\"{guid}\",") };
        let filter =
            if filter.is_empty() { String::new() } else { format!("\"filter\":\"{filter}\",") };
        let line = format!(
            "{{\"type\":\"stored\",\"v\":1,\"stream\":\"{id}\",\"host\":\"nas\",\"name\":\"{name}\",\
             \"format\":\"{format}\",{guid}{filter}\"volumes\":1,\"size\":7,\
             \"treehash\":\"9db1aac19432f178bec3cedc1aae212b4829c64677a1e97e478d913ffcf24c91\",\
             \"whole\":\"zfs\",\"dest\":\"glacier://v\",\"region\":\"eu-central-1\",\
             \"manifest_id\":\"m\",\"stored\":\"2026-11-23T22:04:31Z\"}}\n"
        );
        chain.push_str(&line);
    }
    fs::write(place.path("chain"), chain).unwrap();
    fs::write(place.path("whole"), "").unwrap();
    fs::create_dir(place.path("bin")).unwrap();
    place
}

/// Has a program of this name first in PATH.
fn program(place: &Place, name: &str, text: &str) {
    let file = place.path("bin").join(name);
    fs::write(&file, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
}

/// The tool as glacier-get starts it.
fn receive(place: &Place, arguments: &[&str]) -> Command {
    let mut tool = place.tool("akashita-receive", &["--chain", "chain"]);
    let tools = crate::common::program("glacier-chunk").parent().unwrap().to_owned();
    let mut path = vec![place.path("bin"), tools];
    path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap()));
    tool.args(arguments)
        .env("PATH", std::env::join_paths(path).unwrap())
        .env("GLACIER_STREAM", ID)
        .env("GLACIER_WHOLE", place.path("whole"));
    tool
}

/// What it does with a stream that went through "pack" and is unpacked by
/// this, into a ZFS that does that.
fn unpacked(unpack: &str, zfs: &str, stream: &[u8]) -> (Place, Ended) {
    let place = place(&[(ID, "tank/a@b", "1", "pack")]);
    program(&place, "unpack", unpack);
    program(&place, "zfs", &format!("case $1 in receive) {zfs} ;; *) echo 1 ;; esac"));
    let options = ["--into", "tank/x", "--filter", "pack", "--unfilter", "unpack -d"];
    let mut tool = receive(&place, &options);
    let ended = run_with(tool.args(["--report", "report"]), stream);
    (place, ended)
}

#[test]
fn a_stream_is_received_when_all_that_was_run_says_so() {
    let (place, ended) = unpacked("cat", "cat >taken", b"stream");
    ended.done();
    assert_eq!(fs::read(place.path("taken")).unwrap(), b"stream");
    assert_eq!(fs::read_to_string(place.path("report")).unwrap(), format!("received\t{ID}\n"));
    // What follows behind the stream that ZFS takes is read.
    unpacked("cat; head -c 300000 /dev/zero", "head -c 6 >taken", b"stream").1.done();
}

#[test]
fn the_first_that_failed_is_the_cause_whatever_it_says() {
    let zfs = "cat >taken; echo cannot receive: incomplete stream >&2; exit 1";
    for (unpack, code, why) in [
        ("cat; echo Broken pipe >&2; exit 3", 65, "unfilter failed: Broken pipe"),
        ("cat; exit 3", 65, "unfilter failed: unpack: ended with status 3"),
        ("cat; kill -9 $$", 74, "unfilter failed: unpack: was killed by signal 9"),
        ("cat", 74, "cannot receive: incomplete stream"),
    ] {
        let (place, ended) = unpacked(unpack, zfs, b"stream");
        ended.failed(code, &format!("tank/a@b: {why}"));
        let report = fs::read_to_string(place.path("report")).unwrap();
        assert_eq!(report, format!("failed\ttank/a@b: {why}\n"), "{unpack}");
    }
    // Though ZFS has received it all.
    let (_, ended) = unpacked("cat; echo bad checksum >&2; exit 1", "cat >taken", b"stream");
    ended.failed(65, "tank/a@b: unfilter failed: bad checksum");
    let (_, ended) = unpacked("head -c 3", "cat >taken", b"stream");
    ended.failed(65, "tank/a@b: unfilter failed: unpack: did not read all of it");
}

#[test]
fn what_ends_early_is_told_and_what_still_writes_to_it_ends() {
    let zfs = "echo cannot receive: no space >&2; exit 1";
    let (_, ended) = unpacked("while :; do echo more; done", zfs, b"stream");
    ended.failed(74, "tank/a@b: cannot receive: no space");
}

/// What it does with a stream of which the catalog counts that two records are
/// lost: how it ended, and what it gave to ZFS.
fn lossy(options: &[&str], filter: &str, stream: &[u8]) -> (Place, Ended) {
    let place = place(&[(ID, "p/a@s", "1", filter)]);
    let chain = fs::read_to_string(place.path("chain")).unwrap();
    let counted = chain.replace("\"whole\":", "\"misplaced\":2,\"whole\":");
    fs::write(place.path("chain"), counted).unwrap();
    program(&place, "unpack", "tr b-za a-z");
    program(&place, "zfs", "case $1 in receive) cat >taken ;; *) echo 1 ;; esac");
    let keys = ["--filter", "pack", "--unfilter", "unpack -d"];
    let mut tool = receive(&place, &[&keys[..], options].concat());
    let ended = run_with(tool.args(["--report", "report"]), stream);
    (place, ended)
}

#[test]
fn what_zfs_receive_would_lose_is_put_back() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/streams/spill-embedded-e.zfs");
    let sent = fs::read(path).unwrap();
    let mended = {
        let (mut mender, mut out) = (akashita::zfs_stream::Mender::new(), Vec::new());
        mender.update(&sent, &mut out).unwrap();
        mender.finish(&mut out).unwrap();
        out
    };
    let packed: Vec<u8> = sent
        .iter()
        .map(|byte| match byte {
            b'a'..=b'y' => byte + 1,
            b'z' => b'a',
            other => *other,
        })
        .collect();
    let told = "p/a@s: 2 long links or sets of extended attributes";
    let mends =
        format!("akashita-receive: warning: {told} that zfs receive would lose are put back\n");
    let stay = format!(
        "akashita-receive: warning: {told} stay as they were sent, and zfs receive loses them\n"
    );
    for (more, filter, said, came) in [
        (&[][..], "", &mends, &mended),
        (&[], "pack", &mends, &mended),
        (&["--as-sent"], "", &stay, &sent),
        (&["--as-sent"], "pack", &stay, &sent),
    ] {
        let stream = if filter.is_empty() { &sent } else { &packed };
        for (target, file) in [(["--into", "tank/x"], "taken"), (["--files", "."], "001-1.zfs")] {
            let (place, ended) = lossy(&[&target[..], more].concat(), filter, stream);
            assert_eq!((ended.code(), &ended.stderr), (0, said), "{target:?} {more:?} {filter}");
            assert!(fs::read(place.path(file)).unwrap() == *came, "{target:?} {more:?} {filter}");
        }
    }
    // One that is cut is none, whatever ZFS makes of it, and is told as such.
    let (place, ended) = lossy(&["--into", "tank/x"], "", &sent[..40_000]);
    let why = "p/a@s: glacier-mend failed: glacier-mend: stream: ends inside record ";
    assert_eq!(ended.code(), 65, "{}", ended.stderr);
    assert!(ended.stderr.contains(&format!("\nakashita-receive: {why}")), "{}", ended.stderr);
    let report = fs::read_to_string(place.path("report")).unwrap();
    assert!(report.starts_with(&format!("failed\t{why}")), "{report}");
    // What cannot be unpacked is not mended, either.
    let place = place_of_packed(&packed);
    assert!(fs::read(place.path("001-1.stored")).unwrap() == packed);
}

/// Where a stream was written as it is stored.
fn place_of_packed(packed: &[u8]) -> Place {
    let place = place(&[(ID, "p/a@s", "1", "pack")]);
    let chain = fs::read_to_string(place.path("chain")).unwrap();
    let counted = chain.replace("\"whole\":", "\"misplaced\":2,\"whole\":");
    fs::write(place.path("chain"), counted).unwrap();
    run_with(&mut receive(&place, &["--files", "."]), packed).done();
    place
}

#[test]
fn a_stream_that_get_did_not_end_is_not_received() {
    let place = place(&[(ID, "photos.tar", "", "")]);
    fs::remove_file(place.path("whole")).unwrap();
    for options in [&["--prove"][..], &["--files", "."]] {
        let ended = run_with(&mut receive(&place, options), b"half");
        ended.failed(75, "photos.tar: glacier-get ended before the stream did");
    }
    assert!(!place.path("001-photos.tar").exists() && !place.path("streams").exists());
    fs::write(place.path("whole"), "").unwrap();
    run_with(&mut receive(&place, &["--prove"]), b"all").done();
    run_with(&mut receive(&place, &["--files", "."]), b"all").done();
    assert_eq!(fs::read(place.path("001-photos.tar")).unwrap(), b"all");
}

#[test]
fn a_stream_that_is_another_is_told() {
    let place = place(&[(ID, "tank/home@mon", "17", "")]);
    let streams = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/streams");
    let full = fs::read(format!("{streams}/full.zfs")).unwrap();
    let ended = run_with(&mut receive(&place, &["--prove"]), &full);
    ended.failed(65, "tank/home@mon: @mon: its guid is none, not 17");
    let cut = run_with(&mut receive(&place, &["--prove"]), &full[..900_000]);
    assert!(cut.stderr.contains("tank/home@mon: glacier-chunk: stream: ends inside record "));
    assert_eq!(cut.code(), 65, "{}", cut.stderr);
    let chain = fs::read_to_string(place.path("chain")).unwrap();
    fs::write(place.path("chain"), chain.replace("\"17\"", &format!("\"{}\"", GUIDS[0]))).unwrap();
    run_with(&mut receive(&place, &["--prove"]), &full).done();
}

#[test]
fn a_file_that_cannot_be_written_is_a_failure_here() {
    let place = place(&[(ID, "photos.tar", "", "")]);
    fs::create_dir(place.path("001-photos.tar.new")).unwrap();
    let ended = run_with(&mut receive(&place, &["--files", "out"]), b"all");
    assert_eq!(ended.code(), 74, "{}", ended.stderr);
    let why = "akashita-receive: photos.tar: out/001-photos.tar.new: cannot be written: ";
    assert!(ended.stderr.starts_with(why), "{}", ended.stderr);
}

#[test]
fn a_wrong_command_line_is_refused() {
    let place = place(&[(ID, "photos.tar", "", "")]);
    let target = "the following required arguments were not provided: ";
    let ended = run(&mut receive(&place, &[]));
    assert!(ended.code() == 64 && ended.stderr.contains(target), "{}", ended.stderr);
    let mut alone = receive(&place, &["--prove"]);
    run(alone.env_remove("GLACIER_STREAM"))
        .failed(64, "glacier-get starts this, behind --; see --help");
    let both = ["--prove", "--files", "."];
    assert_eq!(run(&mut receive(&place, &both)).code(), 64);
}

#[test]
fn a_chain_without_the_stream_is_told() {
    let place = place(&[(OTHER, "photos.tar", "", "")]);
    let ended = run_with(&mut receive(&place, &["--prove"]), b"all");
    ended.failed(65, &format!("{ID}: not a stream of chain"));
    fs::write(place.path("chain"), "").unwrap();
    let ended = run_with(&mut receive(&place, &["--prove"]), b"all");
    ended.failed(65, "chain: holds no stream; it is what glacier-chain prints");
}

#[test]
fn what_is_needed_is_told_before_anything_is_paid_for() {
    let place = place(&[(OTHER, "tank/a@mon", "11", ""), (ID, "tank/a@tue", "12", "")]);
    let here = |points: &str| {
        let zfs = format!("case $*,$2 in *guid,createtxg*) printf '{points}' ;; *) echo x ;; esac");
        program(&place, "zfs", &zfs);
    };
    let look = |target: &[&str], wanted: &str| {
        let mut tool = receive(&place, target);
        run(tool.args(["--lines", "lines", "--wanted", wanted]))
    };
    let into = ["--into", "tank/x"];
    let mon = "tank/x@m\\tguid\\t11\\ntank/x@m\\tcreatetxg\\t5\\n";
    here(mon);
    let told = look(&into, "12").done().stdout;
    assert_eq!(told, "of\ttank/a@tue\nbring\t7\ttank/a@tue\n");
    let lines = fs::read_to_string(place.path("lines")).unwrap();
    let chain = fs::read_to_string(place.path("chain")).unwrap();
    assert_eq!(lines, chain.split_inclusive('\n').nth(2).unwrap(), "the second stream alone");
    here(&format!("{mon}tank/x@tue\\tguid\\t12\\ntank/x@tue\\tcreatetxg\\t6\\n"));
    assert_eq!(look(&into, "12").done().stdout, "of\ttank/a@tue\nthere\ttank/x@tue\n");
    assert_eq!(fs::read_to_string(place.path("lines")).unwrap(), "");
    here("tank/x@z\\tguid\\t9\\ntank/x@z\\tcreatetxg\\t9\\n");
    look(&into, "tank/a@tue").failed(
        65,
        "tank/x: is there, and does not end with a snapshot that leads to tank/a@tue; name \
         another, or destroy it",
    );
    assert_eq!(look(&["--into", ""], "12").done().stdout.lines().count(), 3, "of any");
    let chain = chain.replace("\"guid\":\"11\",", "\"guid\":\"11\",\"filter\":\"gzip\",");
    fs::write(place.path("chain"), chain).unwrap();
    look(&["--prove"], "12")
        .failed(78, "tank/a@mon: went through 'gzip', and no unfilter undoes that");
    let told = look(&["--files", "."], "12");
    let warning = "akashita-receive: warning: tank/a@mon: went through 'gzip', and no unfilter \
                   undoes that; stays as it is stored\n";
    assert_eq!((told.code(), told.stderr.as_str()), (0, warning));
    let configured = ["--files", ".", "--filter", "cat", "--unfilter", "cat"];
    assert_eq!(look(&configured, "12").code(), 78);
}
