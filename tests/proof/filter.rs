//! A filter between glacier-proof and glacier-chunk: what chunk takes for the
//! stream's, and that no stage may die unseen.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{COMPOUND, PLAIN, bytes, pass, sh, stream};
use crate::common::made::Made;
use crate::common::{Ended, Place, after, run, run_on, run_with, start, until};

/// Its output is another one each time, as that of age is.
const SALT: &str = "{ head -c 32 /dev/urandom && cat && : >2; }";

const CHUNK: &str =
    "glacier-chunk --whole p --whole 2 --filter salt --part-size 1M --volume-size 1M";

/// Sends a stream through the pipe.
fn filtered(place: &Place, name: &str, more: &str) -> Ended {
    let trust = if COMPOUND.contains(&name) { "--trust-eof" } else { "" };
    let script = format!("glacier-proof {trust} p <\"$STREAMS/{name}\" | {SALT} | {CHUNK} {more}");
    run(&mut sh(place, &script))
}

/// What chunk makes of a file with these lines, which is made behind the pipe
/// and before the first byte.
fn told(place: &Place, lines: &str, chunk: &str) -> Ended {
    fs::write(place.path("lines"), lines).unwrap();
    run(&mut sh(place, &format!("{{ cp lines p; : >2; printf filtered; }} | {chunk}")))
}

#[track_caller]
fn is_not_whole(ended: &Ended, code: i32, said: &str) {
    assert_eq!(ended.code(), code, "{}{}", ended.stdout, ended.stderr);
    assert!(ended.stderr.contains(said), "{said}: {}", ended.stderr);
    assert!(ended.of_type("end").is_empty(), "{}", ended.stdout);
    assert_eq!(ended.lines().last().unwrap()["type"], "failed");
}

#[test]
fn a_filtered_stream_keeps_what_it_was() {
    for name in PLAIN.into_iter().chain(COMPOUND) {
        let place = Place::default();
        let ended = filtered(&place, name, "").done();
        let trusted = COMPOUND.contains(&name);
        let options = ["--inspect", "--trust-eof", "--part-size", "1M", "--volume-size", "1M"];
        let mut plain = place.tool("glacier-chunk", &options);
        let plain = run_on(&mut plain, &stream(name)).done();
        let (of, was) = (&ended.lines()[0], &plain.lines()[0]);
        assert_ne!(of["stream"], was["stream"], "a copy of another kind");
        assert_eq!((&of["format"], &of["filter"]), (&json!("bytes"), &json!("salt")));
        for field in ["name", "guid", "from_guid", "compound", "resumed"] {
            assert_eq!(of.get(field), was.get(field), "{name}: {field}");
        }
        let told = ended.of_type("snapshot");
        let seen = plain.of_type("snapshot");
        assert_eq!(told.len(), seen.len(), "{name}");
        for (told, seen) in told.into_iter().zip(seen) {
            assert_eq!(told["stream"], of["stream"]);
            for field in ["name", "guid", "from_guid", "offset"] {
                assert_eq!(told.get(field), seen.get(field), "{name}: {field}");
            }
        }
        let end = ended.lines().pop().unwrap();
        let whole = if trusted { "proof,marker,trusted" } else { "proof,marker" };
        assert_eq!(end["whole"], whole);
        assert_eq!(end["size"], bytes(name).len() + 32);
        assert!(!place.path("p").exists() && !place.path("2").exists(), "accepted and removed");
    }
}

#[test]
fn the_id_is_that_of_the_stream_and_the_filter() {
    let of = |more: &str| {
        let ended = filtered(&Place::default(), "full.zfs", more).done();
        ended.lines()[0]["stream"].as_str().unwrap().to_owned()
    };
    let id = of("");
    assert_eq!(of(""), id, "though the bytes are others");
    assert_eq!(of("--name other"), id);
    // In all releases: the plain stream's, of the default sizes, and the filter.
    let hash = Sha256::new()
        .chain_update(b"filtered\x006ae2aee9ded5c8045c40aa041d3c16f5salt")
        .chain_update((1_u64 << 20).to_be_bytes())
        .chain_update((1_u64 << 20).to_be_bytes())
        .finalize();
    assert_eq!(id, hex::encode(&hash[..16]));
    let place = Place::default();
    let script = format!("glacier-proof p <\"$STREAMS/full.zfs\" | {SALT} | {CHUNK}");
    let other = run(&mut sh(&place, &script.replace("filter salt", "filter other"))).done();
    assert_ne!(other.lines()[0]["stream"], id);
    // A stream that is only named has its filter in its id, too.
    let named = |more: &[&str]| {
        let place = Place::default();
        let options = [&["--trust-eof", "--name", "x"], more].concat();
        let ended = run_with(&mut place.tool("glacier-chunk", &options), b"bytes").done();
        ended.lines()[0].clone()
    };
    let (plain, aged) = (named(&[]), named(&["--filter", "age -r age1x"]));
    assert_ne!(plain["stream"], aged["stream"]);
    assert_eq!((plain.get("filter"), &aged["filter"]), (None, &json!("age -r age1x")));
    assert_eq!(aged.get("guid"), None);
}

#[test]
fn a_stream_that_is_cut_before_the_filter_has_no_end() {
    let whole = Made::plain(false, true);
    let cuts = whole.edges.iter().flat_map(|edge| [edge.saturating_sub(1), *edge]);
    for cut in cuts.filter(|cut| *cut > 0).step_by(3) {
        let place = Place::default();
        fs::write(place.path("cut"), &whole.bytes[..cut]).unwrap();
        let ended = run(&mut sh(&place, &format!("glacier-proof p <cut | {SALT} | {CHUNK}")));
        is_not_whole(&ended, 65, if cut < 400 { "p: " } else { "proof p: no \"end\" line" });
    }
    for (at, byte) in [(5000, 1), (1_000_000, 4), (2_144_000, 16)] {
        let place = Place::default();
        let mut damaged = bytes("full.zfs");
        damaged[at] ^= byte;
        fs::write(place.path("cut"), damaged).unwrap();
        let ended = run(&mut sh(&place, &format!("glacier-proof p <cut | {SALT} | {CHUNK}")));
        is_not_whole(&ended, 65, "proof p: no \"end\" line; glacier-proof failed");
    }
}

#[test]
fn a_stage_that_dies_is_never_taken_for_one_that_ended() {
    let send = "cat \"$STREAMS/full.zfs\"";
    for (first, filter, said) in [
        // The sender, and glacier-proof itself.
        ("head -c 1000000 \"$STREAMS/full.zfs\" | glacier-proof p", SALT, "proof p: no \"end\""),
        ("glacier-proof p <\"$STREAMS/full.zfs\" | head -c 1000000", SALT, "proof p: no \"end\""),
        ("false", SALT, "marker p: not there"),
        ("no-such-glacier-proof p", SALT, "marker p: not there"),
        // The filter: at once, midway, at its end, and where it lies.
        ("SEND | glacier-proof p", "no-such-filter", "stdin: empty stream"),
        ("SEND | glacier-proof p", "{ printf x; head -c 99999; }", "proof p: no \"end\""),
        ("SEND | glacier-proof p", "{ printf x; cat; kill -9 $$; : >2; }", "marker 2: not there"),
        ("SEND | glacier-proof p", "{ printf x; cat; false && : >2; }", "marker 2: not there"),
        ("SEND | glacier-proof p", "{ printf x; head -c 9 && : >2; }", "proof p: no \"end\""),
    ] {
        let place = Place::default();
        let script = format!("{first} 2>/dev/null | sh -c '{filter}' 2>/dev/null | {CHUNK}");
        let ended = run(&mut sh(&place, &script.replace("SEND", send)));
        is_not_whole(&ended, 65, said);
    }
}

/// One after the other is killed, at any time.
#[test]
fn whatever_is_killed_there_is_no_end() {
    for name in ["first", "proof", "filter"] {
        for after in [0, 1_000_000] {
            let place = Place::default();
            let script = format!(
                "sh -c 'echo $$ >first.pid; head -c {after} \"$STREAMS/full.zfs\"; exec sleep 60' |
                 sh -c 'echo $$ >proof.pid; exec glacier-proof p' 2>/dev/null |
                 {{ sh -c 'echo $$ >filter.pid; printf x; exec cat' && : >2; }} | {CHUNK}"
            );
            let mut shell = sh(&place, &script);
            let running = start(&mut shell);
            let pid = place.path(format!("{name}.pid"));
            let is_there = || fs::read_to_string(&pid).is_ok_and(|pid| pid.ends_with('\n'));
            until("it runs", is_there);
            std::thread::sleep(Duration::from_millis(50));
            let pid = fs::read_to_string(&pid).unwrap().trim().parse().unwrap();
            let pid = rustix::process::Pid::from_raw(pid).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
            // Those before it are told by a write or by nobody.
            if name != "first" {
                let first = fs::read_to_string(place.path("first.pid")).unwrap();
                let first = rustix::process::Pid::from_raw(first.trim().parse().unwrap());
                let _ =
                    rustix::process::kill_process(first.unwrap(), rustix::process::Signal::KILL);
            }
            let ended = running.finish();
            assert_eq!(ended.code(), 65, "{name}: {}", ended.stderr);
            assert!(ended.of_type("end").is_empty(), "{name}: {}", ended.stdout);
        }
    }
}

/// The shell may make the pipe behind a filter late: glacier-proof has written
/// its first line by then, and writes to the file anew when the filter reads.
#[test]
fn a_pipe_that_the_shell_makes_late_is_no_reason_to_refuse() {
    let place = Place::default();
    let script = format!(
        "glacier-proof p <\"$STREAMS/full.zfs\" | {{ until [ -s p ]; do :; done; touch -r p r
         until touch n && [ n -nt r ]; do :; done; {SALT} | {CHUNK}; }}"
    );
    let ended = run(&mut sh(&place, &script)).done();
    assert_eq!(ended.lines()[0]["name"], "tank/home@mon");
    assert_eq!(ended.lines().last().unwrap()["whole"], "proof,marker");
}

/// A filter may write before it reads; glacier-proof may have to wait.
#[test]
fn waits_for_the_first_line_until_its_producer_has_ended() {
    let slow = "{ head -c 3000000 /dev/urandom && cat && : >2; }";
    let place = Place::default();
    let script = format!("{{ sleep 1; cat \"$STREAMS/full.zfs\"; }} | glacier-proof p | {slow}");
    let ended = run(&mut sh(&place, &format!("{script} | {CHUNK}"))).done();
    assert_eq!(ended.lines()[0]["name"], "tank/home@mon");
    let script = format!("sleep 1 | {slow} | {CHUNK}");
    let ended = run(&mut sh(&place, &script));
    is_not_whole(&ended, 65, "marker p: not there; its producer failed");
    assert_eq!(ended.lines().len(), 1, "nothing was cut");
    // A file has no producer.
    fs::write(place.path("x"), vec![b'x'; 3_000_000]).unwrap();
    let ended = run(&mut sh(&place, &format!("{CHUNK} <x")));
    is_not_whole(&ended, 65, "marker p: not there; its producer failed");
}

/// The lines of a file that chunk would take.
fn good() -> Vec<String> {
    let place = Place::default();
    pass(&place, &["p"], &bytes("full.zfs")).0.done();
    let text = fs::read_to_string(place.path("p")).unwrap();
    text.split_inclusive('\n').map(str::to_owned).collect()
}

#[test]
fn a_hostile_file_is_refused_in_exact_words() {
    let good = good();
    let [first, snapshot, end] = &good[..] else { panic!("{good:?}") };
    let other = "0".repeat(32);
    let id = "6ae2aee9ded5c8045c40aa041d3c16f5";
    let none = "line 1: is no line of glacier-proof; a marker is an empty file";
    for (text, said) in [
        ("x".to_owned(), none.to_owned()),
        ("x".repeat(10_000), none.to_owned()),
        (first.trim_end().to_owned(), none.to_owned()),
        ("today\n".to_owned(), "line 1: not a JSON object".to_owned()),
        ("\u{0}\n".to_owned(), "line 1: not a JSON object".to_owned()),
        (end.clone(), "line 1: no \"volumes\"".to_owned()),
        (snapshot.clone(), "line 1: is not the \"stream\" line of glacier-proof".to_owned()),
        (
            first.replace("\"zfs\"", "\"bytes\""),
            "line 1: is not the \"stream\" line of a ZFS stream".to_owned(),
        ),
        (
            first.replace("\"part_size\"", "\"compound\":true,\"part_size\""),
            "line 1: is not the \"stream\" line of a ZFS stream".to_owned(),
        ),
        (
            first.replace("\"v\":1", "\"v\":2"),
            "line 1: stream: version 2 is newer than this program, which knows 1".to_owned(),
        ),
        (first.replace("\"v\":1", "\"v\":\"1\""), {
            "line 1: \"1\" is not a whole number from 0 to 4294967295".to_owned()
        }),
        (format!("{first}{first}"), "line 2: a second \"stream\" line".to_owned()),
        (format!("{first}{}\n", "y".repeat(5000)), "line 2: longer than 4096 bytes".to_owned()),
        (format!("{first}{}", "y".repeat(500_000)), "line 2: longer than 4096 bytes".to_owned()),
        (format!("{first}{}", snapshot.replace(id, &other)), format!("line 2: of stream {other}")),
        (
            format!("{first}{}", snapshot.replace("13202105433093045432", "7")),
            "line 2: another snapshot than that of its stream".to_owned(),
        ),
        (format!("{first}{}", end.replace(id, &other)), format!("line 2: of stream {other}")),
        (
            format!("{first}{}", end.replace("\"zfs\"", "\"sure\"")),
            "line 2: a proof that this program does not know".to_owned(),
        ),
        (
            format!("{first}{}", end.replace("\"zfs\"", "\"\"")),
            "line 2: a proof that this program does not know".to_owned(),
        ),
        (format!("{first}{end}{snapshot}"), "line 3: stands behind \"end\"".to_owned()),
        (format!("{first}{end}{end}"), "line 3: stands behind \"end\"".to_owned()),
        (
            format!("{first}{{\"type\":\"failed\",\"code\":65,\"message\":\"m\"}}\n"),
            "line 2: is no line of glacier-proof".to_owned(),
        ),
        (
            format!("{first}{{\"type\":\"new\"}}\n"),
            "line 2: is no line of glacier-proof".to_owned(),
        ),
        (format!("{first}{}", end.trim_end()), {
            "no \"end\" line; glacier-proof failed, the stream is not whole".to_owned()
        }),
        (format!("{first}{end}torn"), {
            "no \"end\" line; glacier-proof failed, the stream is not whole".to_owned()
        }),
    ] {
        let place = Place::default();
        let ended = told(&place, &text, CHUNK).failed(65, &format!("proof p: {said}"));
        assert!(ended.of_type("end").is_empty());
        assert!(place.path("p").exists() && place.path("2").exists(), "kept");
    }
    // With what is right it is taken, and so it is with no snapshot line.
    for text in [good.concat(), format!("{first}{end}")] {
        let place = Place::default();
        told(&place, &text, "glacier-chunk --whole p --filter salt").done();
    }
}

#[test]
fn a_file_that_is_old_late_or_not_the_only_one_proves_nothing() {
    let place = Place::default();
    // That of the run before, which may have been a moment ago.
    fs::write(place.path("p"), good().concat()).unwrap();
    after(&place.path("p"));
    let options = ["--whole", "p", "--filter", "salt"];
    run_with(&mut place.tool("glacier-chunk", &options), b"filtered")
        .failed(65, "marker p: older than this run; remove it first");
    let spooled = fs::read_dir(place.spool()).unwrap();
    assert_eq!(spooled.count(), 0, "not even its name counts");
    fs::write(place.path("lines"), good().concat()).unwrap();
    let script = "{ cp lines p; cp lines q; printf filtered; } |
        glacier-chunk --whole p --whole q --filter salt";
    run(&mut sh(&place, script)).failed(65, "proof q: a second one, beside p");
    // A run in which another file took its place.
    fs::remove_file(place.path("q")).unwrap();
    let script = format!(
        "{{ cp lines p; head -c 2000000 /dev/zero | tr '\\0' x; until [ -e spool/*/lines.new ]; do :; done;
         mv p o; cp o p; : >2; }} | {CHUNK}"
    );
    is_not_whole(&run(&mut sh(&place, &script)), 65, "proof p: was replaced while it was read");
    // One that has lines only when all is over was not before the filter.
    let script = "{ head -c 2000000 /dev/zero | tr '\\0' x; until [ -e spool/*/lines.new ]; do :;
         done; echo late >m; } | glacier-chunk --name x --part-size 1M --whole m";
    let ended = run(&mut sh(&Place::default(), script));
    is_not_whole(&ended, 65, "marker m: has lines, which were not there at the first bytes");
}

#[test]
fn what_went_through_no_filter_must_be_the_stream_that_was_told_of() {
    let place = Place::default();
    let script = "glacier-proof p <\"$STREAMS/full.zfs\" | glacier-chunk --whole p";
    let ended = run(&mut sh(&place, script)).done();
    assert_eq!(ended.lines().last().unwrap()["whole"], "zfs,proof");
    assert_eq!(ended.lines()[0]["format"], "zfs");
    assert_eq!(ended.of_type("snapshot").len(), 1);
    let script =
        "{ glacier-proof p <\"$STREAMS/full.zfs\" >full; cat \"$STREAMS/incremental-1.zfs\"; } |
        glacier-chunk --whole p";
    run(&mut sh(&place, script)).failed(65, "proof p: of another stream than the input");
}

#[test]
fn a_filter_that_is_wrong_is_refused_and_no_secret_is_repeated() {
    let place = Place::default();
    let secret = "AGE-SECRET-KEY-1QQPQY";
    for (text, said) in [
        (secret, "a filter holds a secret key; name the recipient instead"),
        ("age -i age-secret-key-1qqpqy", "a filter holds a secret key; name the recipient instead"),
        ("", "a filter is 1 to 512 printable ASCII characters"),
        ("a\nb", "a filter is 1 to 512 printable ASCII characters"),
        (&"x".repeat(513), "a filter is 1 to 512 printable ASCII characters"),
    ] {
        let options = ["--trust-eof", "--name", "x", "--filter", text];
        let ended = run_with(&mut place.tool("glacier-chunk", &options), b"bytes");
        let ended = ended.failed(64, &format!("--filter: {said}"));
        assert!(!(ended.stdout + &ended.stderr).to_uppercase().contains("QQPQY"));
    }
    let mut chunk = place.tool("glacier-chunk", &["--filter", "age"]);
    run_on(&mut chunk, &stream("full.zfs"))
        .failed(64, "--filter: the input is a ZFS stream, which went through none");
    told(&place, &good().concat(), "glacier-chunk --whole p")
        .failed(64, "stdin: not a ZFS stream any more; say with --filter what it went through");
    assert!(!place.spool().exists() || fs::read_dir(place.spool()).unwrap().next().is_none());
}

#[test]
fn a_filtered_stream_is_looked_at_without_a_spool() {
    let place = Place::default();
    let ended = filtered(&place, "full.zfs", "--inspect").done();
    let kinds: Vec<Value> = ended.lines().into_iter().map(|line| line["type"].clone()).collect();
    assert_eq!(kinds, ["stream", "snapshot", "end"]);
    assert!(!place.spool().exists());
}
