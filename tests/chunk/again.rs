//! Running the same command again.

use std::fs::{self, File};
use std::process::Stdio;

use akashita::hash::tree::TreeHash;
use serde_json::{Value, json};

use super::{MIB, bytes, chunk, files, id, part_file, stream, tells};
use crate::common::{Ended, Place, run_on, run_with, start};

const NAMED: &str = "--part-size 1M --volume-size 2M --spool-limit none --name x --trust-eof";

fn cut(place: &Place, input: &[u8]) -> Ended {
    run_with(&mut chunk(place, NAMED), input)
}

/// Writes put's journal: these volumes are stored, with these bytes.
fn journal(place: &Place, id: &str, volumes: &[(usize, &[u8])]) {
    fs::write(place.stream(id).join("put.jsonl"), records(id, volumes)).unwrap();
}

fn records(id: &str, volumes: &[(usize, &[u8])]) -> String {
    let mut records = vec![json!({"type": "journal", "v": 1, "stream": id, "dest": "glacier://v"})];
    for (volume, bytes) in volumes {
        let upload = json!({"type": "upload", "volume": volume, "upload_id": "u"});
        let archived = json!({
            "type": "archived", "volume": volume, "archive_id": "a", "size": bytes.len(),
            "treehash": TreeHash::of(bytes), "uploaded": "2026-11-23T22:00:00Z",
        });
        records.extend([upload, archived]);
    }
    records.iter().flat_map(|record| [record.to_string(), "\n".to_owned()]).collect()
}

/// Which parts of a volume were put into the spool.
fn spooled(ended: &Ended, volume: usize) -> Vec<bool> {
    ended
        .of_type("part")
        .iter()
        .filter(|part| part["volume"] == volume)
        .map(|part| part.get("spooled") != Some(&Value::Bool(false)))
        .collect()
}

#[test]
fn a_killed_run_is_healed_by_the_next() {
    let input = bytes(9 * MIB + 1);
    for parts in [0, 1, 4, 7] {
        let place = Place::default();
        let mut running = start(chunk(&place, NAMED).stdin(Stdio::piped()));
        assert!(running.give(&input[..parts * MIB + MIB + MIB / 2]));
        running.line_of("stream");
        for _ in 0..=parts {
            running.line_of("part");
        }
        running.kill();
        drop(running);
        let ended = cut(&place, &input).done();
        tells(&place, &ended, &input, MIB, 2 * MIB);
    }
}

#[test]
fn the_same_command_prints_the_same_lines() {
    let place = Place::default();
    let first = run_on(&mut chunk(&place, ""), &stream("full.zfs")).done();
    let second = run_on(&mut chunk(&place, ""), &stream("full.zfs")).done();
    assert_eq!(first.stdout, second.stdout);
}

#[test]
fn a_failed_run_leaves_a_whole_stream_whole() {
    let place = Place::default();
    let whole = fs::read(stream("incremental-2.zfs")).unwrap();
    let options = "--part-size 1M --volume-size 1M";
    let good = run_with(&mut chunk(&place, options), &whole).done();
    let bad = run_with(&mut chunk(&place, options), &whole[..MIB + 1000]);
    assert_eq!(bad.code(), 65);
    // What put reads at night is as it was.
    let id = id(&good.lines()).to_owned();
    fs::remove_file(place.stream(&id).join("lines.new")).unwrap();
    tells(&place, &good, &whole, MIB, MIB);
}

#[test]
fn what_a_dead_run_left_half_written_is_replaced() {
    let place = Place::default();
    let input = bytes(3 * MIB);
    let ended = cut(&place, &input).done();
    let directory = place.stream(id(&ended.lines()));
    for name in ["00000000-0000.part.new", "00000001-0000.part.new", "lines.new"] {
        fs::write(directory.join(name), bytes(2 * MIB)).unwrap();
    }
    fs::write(directory.join("00000000-0001.part"), b"torn").unwrap();
    fs::write(directory.join("lines.jsonl"), b"torn").unwrap();
    let ended = cut(&place, &input).done();
    tells(&place, &ended, &input, MIB, 2 * MIB);
}

#[test]
fn a_shorter_stream_leaves_nothing_behind_its_end() {
    for length in [MIB, MIB + 1, 2 * MIB, 4 * MIB] {
        let place = Place::default();
        let input = bytes(9 * MIB);
        cut(&place, &input).done();
        let ended = cut(&place, &input[..length]).done();
        tells(&place, &ended, &input[..length], MIB, 2 * MIB);
    }
}

#[test]
fn a_stored_volume_is_hashed_and_not_written_again() {
    let place = Place::default();
    let input = bytes(5 * MIB);
    let first = cut(&place, &input).done();
    let id = id(&first.lines()).to_owned();
    // put stored volume 0 and cleared it.
    journal(&place, &id, &[(0, &input[..2 * MIB])]);
    (0..2).for_each(|part| fs::remove_file(part_file(&place, &id, 0, part)).unwrap());
    let second = cut(&place, &input).done();
    assert_eq!(spooled(&second, 0), [false, false]);
    assert_eq!(spooled(&second, 1), [true, true]);
    assert_eq!(spooled(&second, 2), [true]);
    assert!(!part_file(&place, &id, 0, 0).exists() && !part_file(&place, &id, 0, 1).exists());
    assert!(part_file(&place, &id, 1, 0).exists());
    assert_eq!(second.stdout.replace(",\"spooled\":false", ""), first.stdout);
}

#[test]
fn a_stored_volume_needs_no_room() {
    let place = Place::default();
    let input = bytes(5 * MIB);
    let first = cut(&place, &input).done();
    let id = id(&first.lines()).to_owned();
    fs::remove_dir_all(place.stream(&id)).unwrap();
    fs::create_dir(place.stream(&id)).unwrap();
    let volumes: Vec<_> = input.chunks(2 * MIB).enumerate().collect();
    journal(&place, &id, &volumes);
    let options = format!("{NAMED} --reserve 1000T --patience 0s");
    let ended = run_with(&mut chunk(&place, &options), &input).done();
    assert_eq!(ended.of_type("volume"), first.of_type("volume"));
    assert_eq!(files(&place, &id), ["chunk.lock", "lines.jsonl", "put.jsonl"]);
}

#[test]
fn a_stored_volume_with_other_bytes_is_spooled_by_the_next_run() {
    let place = Place::default();
    let input = bytes(7 * MIB);
    let first = cut(&place, &input).done();
    let id = id(&first.lines()).to_owned();
    fs::remove_dir_all(place.stream(&id)).unwrap();
    fs::create_dir(place.stream(&id)).unwrap();
    let volumes: Vec<_> = input.chunks(2 * MIB).enumerate().take(3).collect();
    journal(&place, &id, &volumes);
    let mut changed = input.clone();
    changed[3 * MIB] ^= 1;
    let message = "volume 1: its bytes are not those that were stored, and it was not spooled; run the same command again to send it anew";
    let ended = cut(&place, &changed).failed(75, message);
    assert_eq!(ended.of_type("volume").len(), 1, "{}", ended.stdout);
    assert!(ended.of_type("end").is_empty());
    assert_eq!(ended.of_type("failed")[0]["message"], message);
    let ended = cut(&place, &changed).done();
    assert_eq!(spooled(&ended, 0), [false, false]);
    assert_eq!(spooled(&ended, 1), [true, true], "it changed");
    assert_eq!(spooled(&ended, 2), [true, true], "all behind it are sent anew");
    assert!(fs::read(part_file(&place, &id, 1, 1)).unwrap() == changed[3 * MIB..4 * MIB]);
    assert_eq!(ended.lines().last().unwrap()["treehash"], TreeHash::of(&changed).to_string());
    // A volume before that one, too.
    changed[0] ^= 1;
    cut(&place, &changed).failed(75, &message.replace("volume 1", "volume 0"));
    let ended = cut(&place, &changed).done();
    assert_eq!(spooled(&ended, 0), [true, true]);
}

#[test]
fn the_short_last_volume_is_compared_as_well() {
    let place = Place::default();
    let input = bytes(3 * MIB);
    let first = cut(&place, &input).done();
    let id = id(&first.lines()).to_owned();
    let volumes: Vec<_> = input.chunks(2 * MIB).enumerate().collect();
    journal(&place, &id, &volumes);
    let ended = cut(&place, &input[..3 * MIB - 1]);
    let ended = ended.failed_like(75, "volume 1: its bytes are not those", "to send it anew");
    assert!(ended.of_type("end").is_empty());
    cut(&place, &input[..3 * MIB - 1]).done();
}

#[test]
fn torn_or_edited_notes_do_no_harm() {
    let input = bytes(5 * MIB);
    let zero = &input[..2 * MIB];
    let place = Place::default();
    let id = id(&cut(&place, &input).done().lines()).to_owned();
    let good = records(&id, &[(0, zero)]);
    let torn = &good[..good.len() - 20];
    let of_no_stream = good.lines().skip(1).collect::<Vec<_>>().join("\n");
    for (text, stored) in [
        (good.clone().into_bytes(), true),
        (torn.as_bytes().to_vec(), false),
        (format!("{torn}\n{good}").into_bytes(), true),
        (format!("garbage\n\u{0}\n\n{good}").into_bytes(), true),
        ([b"\xff\xfe\n".to_vec(), good.clone().into_bytes()].concat(), true),
        (of_no_stream.into_bytes(), false),
        (vec![b'{'; 100_000], false),
        (Vec::new(), false),
    ] {
        fs::write(place.stream(&id).join("put.jsonl"), &text).unwrap();
        let ended = cut(&place, &input).done();
        assert_eq!(spooled(&ended, 0), [!stored, !stored], "{}", String::from_utf8_lossy(&text));
    }
    fs::write(place.stream(&id).join("put.jsonl"), good).unwrap();
    for (note, hashed_only) in [
        (&b"0 0\n"[..], false),
        (b"1 0\n", true),
        (b"0 7\n", true),
        (b"", true),
        (b"0", true),
        (b"\xff\xff\xff \xff", true),
        (b"-1 0", true),
        (b"99999999999999999999 0", true),
    ] {
        fs::write(place.stream(&id).join("respool"), note).unwrap();
        let ended = cut(&place, &input).done();
        assert_eq!(spooled(&ended, 0), [!hashed_only, !hashed_only], "{note:?}");
    }
}

#[test]
fn nothing_of_a_stored_stream_is_spooled() {
    let place = Place::default();
    let input = bytes(5 * MIB);
    let first = cut(&place, &input).done();
    let id = id(&first.lines()).to_owned();
    fs::remove_dir_all(place.stream(&id)).unwrap();
    let volumes: Vec<_> = input.chunks(2 * MIB).enumerate().collect();
    let stored = json!({
        "type": "stored", "v": 1, "stream": id, "host": "nas", "name": "x", "format": "bytes",
        "volumes": 3, "size": input.len(), "treehash": TreeHash::of(&input), "whole": "trusted",
        "dest": "glacier://v", "region": "eu-central-1", "manifest_id": "m",
        "stored": "2026-11-23T22:00:00Z",
    });
    fs::create_dir(place.spool().join("done")).unwrap();
    let receipt = place.spool().join("done").join(format!("{id}.glacier-v.jsonl"));
    fs::write(receipt, format!("{}{stored}\n", records(&id, &volumes))).unwrap();
    // Neither the same bytes nor others: that they differ is put's to tell.
    let mut others = input.clone();
    others[0] ^= 1;
    for input in [&input, &others] {
        let ended = cut(&place, input).done();
        assert!(ended.of_type("part").iter().all(|part| part["spooled"] == false));
        assert_eq!(files(&place, &id), ["chunk.lock", "lines.jsonl"]);
    }
}

#[test]
fn nothing_but_its_own_files_is_written() {
    let place = Place::default();
    let input = bytes(MIB);
    let id = id(&cut(&place, &input).done().lines()).to_owned();
    let outside = place.path("outside");
    // A link where a part or the lines go is replaced, never followed.
    for name in ["00000000-0000.part", "00000000-0000.part.new", "lines.jsonl", "lines.new"] {
        fs::write(&outside, "precious").unwrap();
        let _ = fs::remove_file(place.stream(&id).join(name));
        std::os::unix::fs::symlink(&outside, place.stream(&id).join(name)).unwrap();
        let ended = cut(&place, &input).done();
        tells(&place, &ended, &input, MIB, 2 * MIB);
        assert_eq!(fs::read_to_string(&outside).unwrap(), "precious");
    }
    // Where it would be read or locked, it is refused.
    for (name, message) in [
        ("put.jsonl", "journal: cannot open: "),
        ("chunk.lock", "cannot lock: "),
        ("respool", "cannot read its notes: "),
    ] {
        let _ = fs::remove_file(place.stream(&id).join(name));
        if name == "respool" {
            journal(&place, &id, &[]);
        }
        std::os::unix::fs::symlink(&outside, place.stream(&id).join(name)).unwrap();
        cut(&place, &input).failed_like(74, &format!("stream {id}: {message}"), "");
        fs::remove_file(place.stream(&id).join(name)).unwrap();
    }
    // A stream's directory that is a link is none.
    fs::remove_dir_all(place.stream(&id)).unwrap();
    fs::create_dir(place.path("elsewhere")).unwrap();
    std::os::unix::fs::symlink(place.path("elsewhere"), place.stream(&id)).unwrap();
    cut(&place, &input).failed_like(74, &format!("stream {id}: cannot open: "), "");
    assert_eq!(fs::read_dir(place.path("elsewhere")).unwrap().count(), 0);
    File::open(outside).unwrap();
}

/// put reads the parts whose hashes it was told; others in their place would be
/// damage to it.
#[test]
fn a_stream_that_put_sends_is_left_alone() {
    let place = Place::default();
    let first = cut(&place, &bytes(5 * MIB)).done();
    let id = id(&first.lines()).to_owned();
    let state = || -> Vec<_> {
        let names = files(&place, &id).into_iter().filter(|name| name != "chunk.lock");
        let path = |name: &str| place.stream(&id).join(name);
        names.map(|name| (fs::metadata(path(&name)).unwrap().modified().unwrap(), name)).collect()
    };
    fs::write(place.stream(&id).join("put.lock"), "4711\n").unwrap();
    let put = File::open(place.stream(&id).join("put.lock")).unwrap();
    put.lock().unwrap();
    let before = state();
    for input in [bytes(5 * MIB), vec![7; 3 * MIB]] {
        let ended = cut(&place, &input).failed(75, &format!(
            "stream {id}: glacier-put (process 4711) sends what is spooled of it; run the same command later"
        ));
        assert_eq!(ended.lines().len(), 1, "nothing is announced");
        assert_eq!(state(), before);
    }
    drop(put);
    assert_eq!(cut(&place, &bytes(5 * MIB)).done().stdout, first.stdout);
}
