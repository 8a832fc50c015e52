//! glacier-chunk(1), run as a program.

mod again;
mod attacks;
mod inspect;
mod pipes;
mod proofs;
mod room;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::{self, Ended, Place, run, run_on, run_with};
use akashita::hash::tree::{Fold, Hash, TreeHash};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const MIB: usize = 1 << 20;

/// The streams that prove themselves, and the compound ones.
const PLAIN: [&str; 4] =
    ["full.zfs", "incremental-1.zfs", "incremental-2.zfs", "encrypted-raw-w-incremental.zfs"];
const COMPOUND: [&str; 2] = ["incremental-I.zfs", "replication-R-I.zfs"];

fn stream(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/streams").join(name)
}

/// Bytes that differ from part to part.
fn bytes(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(count + 8);
    while bytes.len() < count {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(count);
    bytes
}

fn chunk(place: &Place, options: &str) -> Command {
    place.tool("glacier-chunk", &options.split_whitespace().collect::<Vec<_>>())
}

/// The id in the lines.
fn id(lines: &[Value]) -> &str {
    lines[0]["stream"].as_str().unwrap()
}

/// The names in the directory of a stream.
fn files(place: &Place, id: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(place.stream(id)) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn part_file(place: &Place, id: &str, volume: usize, part: usize) -> PathBuf {
    place.stream(id).join(format!("{volume:08}-{part:04}.part"))
}

/// The names of all streams in the spool.
fn spooled_streams(place: &Place) -> Vec<String> {
    let Ok(entries) = fs::read_dir(place.spool()) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// That the lines tell of `input`, all of it and nothing else, and that the
/// spool has what they promise and no more.
#[track_caller]
fn tells(place: &Place, ended: &Ended, input: &[u8], part_size: usize, volume_size: usize) {
    let lines = ended.lines();
    let id = id(&lines).to_owned();
    let mut parts = ended.of_type("part").into_iter();
    let mut volumes = ended.of_type("volume").into_iter();
    let mut names = vec!["chunk.lock".to_owned(), "lines.jsonl".to_owned()];
    let mut stream = Fold::default();
    for (v, volume) in input.chunks(volume_size).enumerate() {
        let mut fold = Fold::default();
        for (p, part) in volume.chunks(part_size).enumerate() {
            let treehash = TreeHash::of(part);
            fold.push(treehash);
            let line = parts.next().unwrap();
            let expected = json!({
                "type": "part", "stream": id, "volume": v, "part": p, "offset": p * part_size,
                "size": part.len(), "treehash": treehash, "sha256": Hash::of(part),
            });
            assert_eq!(line, expected);
            let file = part_file(place, &id, v, p);
            assert!(fs::read(&file).unwrap() == part, "{}", file.display());
            names.push(file.file_name().unwrap().to_str().unwrap().to_owned());
        }
        let treehash = fold.finish();
        stream.push(treehash);
        assert_eq!(treehash, TreeHash::of(volume));
        let expected = json!({
            "type": "volume", "stream": id, "volume": v, "offset": v * volume_size,
            "size": volume.len(), "parts": volume.len().div_ceil(part_size), "treehash": treehash,
        });
        assert_eq!(volumes.next().unwrap(), expected);
    }
    assert_eq!((parts.next(), volumes.next()), (None, None));
    assert_eq!(stream.finish(), TreeHash::of(input));
    let end = lines.last().unwrap();
    let expected = json!({
        "type": "end", "stream": id, "volumes": input.len().div_ceil(volume_size),
        "size": input.len(), "treehash": TreeHash::of(input), "whole": end["whole"],
    });
    assert_eq!(*end, expected);
    names.sort();
    assert_eq!(files(place, &id), names, "what is in the spool");
    let kept = fs::read_to_string(place.stream(&id).join("lines.jsonl")).unwrap();
    assert_eq!(kept, ended.stdout, "what was printed is kept");
}

#[test]
fn tells_of_real_streams_what_is_in_them() {
    for name in PLAIN {
        let place = Place::default();
        let input = fs::read(stream(name)).unwrap();
        let ended =
            run_on(&mut chunk(&place, "--part-size 1M --volume-size 2M"), &stream(name)).done();
        tells(&place, &ended, &input, MIB, 2 * MIB);
        let lines = ended.lines();
        assert_eq!(lines[0]["type"], "stream");
        assert_eq!(lines[0]["format"], "zfs");
        assert_eq!(lines.last().unwrap()["whole"], "zfs");
        // The one snapshot of the stream.
        let snapshots = ended.of_type("snapshot");
        assert_eq!(snapshots.len(), 1);
        assert_eq!(snapshots[0]["offset"], 0);
        for field in ["stream", "name", "guid", "from_guid"] {
            assert_eq!(snapshots[0].get(field), lines[0].get(field), "{name}: {field}");
        }
    }
}

#[test]
fn prints_the_examples_of_the_manual() {
    let place = Place::default();
    let ended = run_on(&mut chunk(&place, "--part-size 1M"), &stream("full.zfs")).done();
    let mut lines = ended.stdout.lines();
    let first = lines.next().unwrap();
    let host = ended.lines()[0]["host"].to_string();
    let first = first.replace(&format!("\"host\":{host}"), "\"host\":\"nas\"");
    let manual = include_str!("../man/glacier-lines.5");
    let printed: Vec<&str> = std::iter::once(first.as_str()).chain(lines).collect();
    for of in ["stream", "snapshot", "part", "volume", "end"] {
        let head = format!("{{\"type\":\"{of}\"");
        let example = manual.lines().find(|line| line.starts_with(&head)).unwrap();
        assert!(printed.contains(&example), "{example}");
    }
}

#[test]
fn an_id_is_that_of_what_is_cut_and_how() {
    let of = |options: &str, input: &[u8]| {
        let place = Place::default();
        let ended = run_with(&mut chunk(&place, options), input).done();
        id(&ended.lines()).to_owned()
    };
    let full = fs::read(stream("full.zfs")).unwrap();
    assert_eq!(of("", &full), "6ae2aee9ded5c8045c40aa041d3c16f5");
    assert_eq!(of("--name other", &full), "6ae2aee9ded5c8045c40aa041d3c16f5");
    assert_eq!(of("--part-size 1M", &full), "8dab4d18b6631a4aa67d021930811bbd");
    assert_ne!(of("--volume-size 1G", &full), "6ae2aee9ded5c8045c40aa041d3c16f5");
    // Other input is its name, whatever is in it.
    for input in [&b"hi\n"[..], b"ho\n"] {
        let hash = Sha256::new()
            .chain_update(b"name\0x")
            .chain_update((16_u64 << 20).to_be_bytes())
            .chain_update((4_u64 << 30).to_be_bytes())
            .finalize();
        assert_eq!(of("--name x --trust-eof", input), hex::encode(&hash[..16]));
    }
    assert_ne!(of("--name x --trust-eof", b"hi"), of("--name y --trust-eof", b"hi"));
}

#[test]
fn cuts_streams_of_every_length() {
    for length in
        [1, MIB - 1, MIB, MIB + 1, 2 * MIB, 4 * MIB - 1, 4 * MIB, 4 * MIB + 1, 8 * MIB, 9 * MIB]
    {
        let place = Place::default();
        let input = bytes(length);
        let options = "--part-size 1M --volume-size 4M --spool-limit none --name x --trust-eof";
        let ended = run_with(&mut chunk(&place, options), &input).done();
        tells(&place, &ended, &input, MIB, 4 * MIB);
        assert_eq!(ended.lines()[0]["format"], "bytes");
        assert_eq!(ended.lines().last().unwrap()["whole"], "trusted");
    }
}

#[test]
fn any_part_size_gives_the_same_hash() {
    let input = bytes(7 * MIB + 5);
    let mut hashes = Vec::new();
    for (part, volume) in [(1, 1), (1, 4), (2, 4), (4, 4), (4, 8), (8, 8), (16, 4096)] {
        let place = Place::default();
        let options = format!(
            "--part-size {part}M --volume-size {volume}M --spool-limit none --name x --trust-eof"
        );
        let ended = run_with(&mut chunk(&place, &options), &input).done();
        tells(&place, &ended, &input, part * MIB, volume * MIB);
        hashes.push(ended.lines().last().unwrap()["treehash"].clone());
    }
    hashes.dedup();
    assert_eq!(hashes, [json!(TreeHash::of(&input))]);
}

#[test]
fn refuses_a_wrong_command_line_in_one_line() {
    let place = Place::default();
    let long = "x".repeat(1000);
    let see = "; see 'glacier-chunk --help'";
    for (options, message) in [
        ("--frob", format!("unexpected argument '--frob' found{see}")),
        (
            "tank/home@mon",
            format!(
                "unexpected argument 'tank/home@mon' found; a COMMAND stands behind --, a file behind <{see}"
            ),
        ),
        (
            "--part-size 17M",
            format!(
                "invalid value '17M' for '--part-size <SIZE>': not a power of two of MiB from 1 MiB to 4 GiB; nearest: 16 MiB and 32 MiB{see}"
            ),
        ),
        (
            "--patience 5",
            format!(
                "invalid value '5' for '--patience <TIME>': \"5\" is no duration; use 90s, 5m, 8h or 2d{see}"
            ),
        ),
        (
            "--part-size 4M --volume-size 1M",
            "a volume of 1 MiB is smaller than a part of 4 MiB".to_owned(),
        ),
        (
            "--part-size 1M --volume-size 16G",
            "a volume of 16 GiB would have more than 8192 parts of 1 MiB; use parts of 2 MiB"
                .to_owned(),
        ),
        (
            "--spool-limit 4G",
            "--spool-limit: 4 GiB cannot hold a volume of 4 GiB and a part of 16 MiB".to_owned(),
        ),
        ("--name", format!("a value is required for '--name <NAME>' but none was supplied{see}")),
        ("--name= --trust-eof", format!("invalid value '' for '--name <NAME>': empty{see}")),
    ] {
        let ended = run_with(&mut chunk(&place, options), b"hello").failed(64, &message);
        assert_eq!(ended.lines().len(), 1, "nothing was read");
        assert_eq!(ended.lines()[0]["type"], "failed");
        assert_eq!(ended.lines()[0]["message"], message.as_str());
    }
    let ended = run_with(&mut chunk(&place, &format!("--trust-eof --name {long}")), b"hello");
    ended.failed_like(64, "name and host need ", " bytes of an archive's description, over 1024");
    assert!(spooled_streams(&place).is_empty());
}

#[test]
fn takes_any_name_that_fits_as_it_is() {
    for name in
        ["../../../etc/passwd", "a\nb", "\u{1b}[31m", "\u{202e}x", "\"}", "é😀", "-- x", "."]
    {
        let place = Place::default();
        let options = ["--trust-eof", &format!("--name={name}")];
        let ended = run_with(&mut place.tool("glacier-chunk", &options), b"hello").done();
        assert_eq!(ended.lines()[0]["name"], name);
        assert_eq!(ended.stdout.lines().count(), 4, "{}", ended.stdout);
        tells(&place, &ended, b"hello", 16 * MIB, 4096 * MIB);
    }
    // Longer than fits, once every character is escaped.
    let place = Place::default();
    let name = "\u{1}".repeat(255);
    let options = ["--trust-eof", "--name", &name];
    let ended = run_with(&mut place.tool("glacier-chunk", &options), b"hello");
    ended.failed_like(64, "name and host need ", "over 1024");
}

#[test]
fn refuses_an_empty_input() {
    for options in ["", "--trust-eof --name x", "--whole m --name x"] {
        let place = Place::default();
        let ended = run(&mut chunk(&place, options)).failed(65, "stdin: empty stream");
        let failed = json!({"type": "failed", "code": 65, "message": "stdin: empty stream"});
        assert_eq!(ended.lines(), [failed]);
        assert!(spooled_streams(&place).is_empty());
    }
    let place = Place::default();
    let tool = place.tool("glacier-chunk", &[]);
    let mut pipe = place.command("sh");
    pipe.args(["-c", "false | \"$0\""]).arg(tool.get_program());
    run(&mut pipe).failed(65, "stdin: empty stream");
}

#[test]
fn refuses_an_input_that_cannot_be_read() {
    let place = Place::default();
    run_on(&mut chunk(&place, ""), Path::new("/")).failed(74, "stdin: Is a directory");
    #[cfg(target_os = "linux")]
    run_on(&mut chunk(&place, ""), Path::new("/dev/ptmx"))
        .failed(64, "stdin: a terminal; pipe a stream into it, or use -- COMMAND");
}

#[test]
fn refuses_a_spool_that_others_may_read() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::default();
    fs::create_dir(place.spool()).unwrap();
    fs::set_permissions(place.spool(), fs::Permissions::from_mode(0o750)).unwrap();
    let message = format!("spool {}: open to other users; chmod 700 it", place.spool().display());
    // Before the first byte: standard input stays silent.
    let running = common::start(chunk(&place, "").stdin(std::process::Stdio::piped()));
    let ended = running.finish().failed(78, &message);
    assert_eq!(ended.of_type("failed")[0]["code"], 78);
    fs::remove_dir(place.spool()).unwrap();
    fs::write(place.spool(), "").unwrap();
    let message = format!("spool {}: not a directory", place.spool().display());
    run(&mut chunk(&place, "")).failed(78, &message);
}

#[test]
fn keeps_what_it_writes_from_others() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::default();
    let mut shell = place.command("sh");
    let tool = chunk(&place, "");
    shell.args(["-c", "umask 0; exec \"$0\""]).arg(tool.get_program());
    let ended = run_on(&mut shell, &stream("full.zfs")).done();
    let directory = place.stream(id(&ended.lines()));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&place.spool()), mode(&directory)), (0o700, 0o700));
    for file in fs::read_dir(&directory).unwrap() {
        assert_eq!(mode(&file.unwrap().path()), 0o600);
    }
}

#[test]
fn help_fits_a_screen_and_version_is_told() {
    let place = Place::default();
    let help = run(&mut chunk(&place, "--help")).done().stdout;
    assert!(help.lines().count() <= 24, "{help}");
    assert!(help.lines().all(|line| line.len() <= 80), "{help}");
    assert!(help.contains("glacier-chunk(1)"), "{help}");
    let version = run(&mut chunk(&place, "--version")).done().stdout;
    assert!(version.ends_with(concat!(" ", env!("CARGO_PKG_VERSION"), "\n")), "{version}");
}
