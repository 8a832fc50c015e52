//! A catalog that is lost, and made again from the vault alone.

use std::fs::{self, File};
use std::path::Path;

use crate::common::local::{Local, catalog, pattern, sorted};
use crate::common::{Ended, Place, run, run_with, start_into};
use crate::ls::{MIB, SPEED, again, ls, pass_a_day, store};
use serde_json::{Value, json};

const CHAIN: [&str; 3] = ["full.zfs", "incremental-1.zfs", "incremental-2.zfs"];

fn bytes(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/streams").join(name)).unwrap()
}

/// Runs a rebuild to its end, as cron does.
fn rebuild(server: &Local, place: &Place) -> Ended {
    let arguments = ["inventory", "--rebuild", "--no-wait", "--tier", "Expedited", "v"];
    again(|| run(&mut ls(server, place, &arguments)))
}

/// What a rebuild has printed, without what it says of itself: the last line,
/// which tells of an inventory of which so many manifests were refused.
fn told(rebuilt: &str, refused: usize) -> String {
    let (lines, last) = rebuilt.trim_end().rsplit_once('\n').unwrap();
    let last: Value = serde_json::from_str(last).unwrap();
    assert_eq!((&last["type"], &last["refused"]), (&json!("inventory"), &json!(refused)));
    format!("{lines}\n")
}

/// A vault with a chain of three, a stream of other bytes and an archive of
/// another program.
fn with_chain() -> (Place, Local) {
    let place = Place::default();
    let mut server = Local::fast(&place, SPEED);
    for name in CHAIN {
        let options = ["--part-size", "1M", "--volume-size", "1M", "--spool-limit", "none"];
        let lines = run_with(&mut place.tool("glacier-chunk", &options), &bytes(name)).done();
        run_with(&mut server.put(&place, &["--create-vault", "v"]), lines.stdout.as_bytes()).done();
    }
    store(&server, &place, "tar", &pattern(2 * MIB + 1));
    server.leave("v", "photos of 2012", b"photos");
    pass_a_day(&mut server, 6 + 3 + 3 + 1 + 1);
    (place, server)
}

/// Everything but the vault is gone.
fn lose(place: &Place) -> String {
    let lost = catalog(place);
    fs::remove_file(place.path("catalog.jsonl")).unwrap();
    fs::remove_dir_all(place.spool()).unwrap();
    lost
}

#[test]
fn the_catalog_comes_back_from_the_vault_alone_and_restores_all() {
    let (place, server) = with_chain();
    let lost = lose(&place);
    let rebuilt = rebuild(&server, &place).done().stdout;
    assert_eq!(sorted(&told(&rebuilt, 0)), sorted(&lost));
    // Within a stream, and from stream to stream, in its order, too.
    let lines = |text: &str| -> Vec<String> {
        text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
    };
    assert_eq!(lines(&told(&rebuilt, 0)), lines(&lost));
    assert_eq!(server.calls("InitiateJob"), 1 + 4, "an inventory and four manifests, once each");
    assert!(!place.spool().exists() && !place.path("catalog.jsonl").exists());

    fs::write(place.path("catalog.jsonl"), &rebuilt).unwrap();
    let restore = |name: &str, command: &[&str]| {
        let chain = run_with(&mut place.tool("glacier-chain", &[name]), rebuilt.as_bytes()).done();
        let mut get = place.tool("glacier-get", &["--tier", "Expedited"]);
        server.client(&mut get).args(command);
        run_with(&mut get, chain.stdout.as_bytes()).done()
    };
    restore("tar", &["--", "sh", "-c", "cat >tar"]);
    assert!(fs::read(place.path("tar")).unwrap() == pattern(2 * MIB + 1));
    restore("tank/home@wed", &["--", "sh", "-c", "cat >>chain"]);
    assert!(fs::read(place.path("chain")).unwrap() == CHAIN.map(bytes).concat());

    // What is not ours is listed, and as it was.
    let lines = again(|| run(&mut ls(&server, &place, &["inventory", "--no-wait", "v"]))).done();
    let foreign = lines
        .lines()
        .into_iter()
        .find(|line| line["kind"].is_null() && line["type"] == "inventoried");
    assert_eq!(foreign.unwrap()["description"], "photos of 2012");
    assert_eq!(server.calls("DeleteArchive"), 0);
}

#[test]
fn two_steps_for_cron_print_nothing_until_all_is_there() {
    let (place, mut server) = with_chain();
    let lost = lose(&place);
    // Slow enough that nothing is ready by chance.
    server.slow(60);
    let no_wait = || {
        let arguments = ["inventory", "--rebuild", "--no-wait", "--tier", "Bulk", "v"];
        run(&mut ls(&server, &place, &arguments))
    };
    let inventory =
        "glacier://v: its inventory is not ready; run the same command again in a few hours";
    let manifests = "4 of 4 archives are not ready; run the same command again in a few hours";
    for _ in 0..2 {
        assert_eq!(no_wait().failed(75, inventory).stdout, "");
    }
    assert_eq!(server.calls("InitiateJob"), 1);
    server.pass(5);
    let no_wait = || {
        let arguments = ["inventory", "--rebuild", "--no-wait", "--tier", "Bulk", "v"];
        run(&mut ls(&server, &place, &arguments))
    };
    for _ in 0..2 {
        assert_eq!(no_wait().failed(75, manifests).stdout, "");
    }
    assert_eq!(server.calls("InitiateJob"), 5);
    server.pass(13);
    let arguments = ["inventory", "--rebuild", "--no-wait", "--tier", "Bulk", "v"];
    let ended = run(&mut ls(&server, &place, &arguments)).done();
    assert_eq!(sorted(&told(&ended.stdout, 0)), sorted(&lost));
    assert_eq!(server.calls("InitiateJob"), 5, "nothing was asked twice");
}

#[test]
fn a_rebuild_in_one_run_waits_for_all() {
    let (place, server) = with_chain();
    let lost = lose(&place);
    let arguments = ["inventory", "--rebuild", "--tier", "Expedited", "v"];
    let rebuilt = run(&mut ls(&server, &place, &arguments)).done();
    assert_eq!(sorted(&told(&rebuilt.stdout, 0)), sorted(&lost));
}

#[test]
fn put_takes_a_rebuilt_catalog_for_the_one_that_was_lost() {
    let (place, server) = with_chain();
    let lost = lose(&place);
    let rebuilt = rebuild(&server, &place).done().stdout;
    fs::write(place.path("catalog.jsonl"), &rebuilt).unwrap();
    let sent = server.calls("InitiateMultipartUpload");
    let options = ["--part-size", "1M", "--volume-size", "1M", "--spool-limit", "none"];
    let lines = run_with(&mut place.tool("glacier-chunk", &options), &bytes(CHAIN[0])).done();
    run_with(&mut server.put(&place, &["v"]), lines.stdout.as_bytes()).done();
    assert_eq!(server.calls("InitiateMultipartUpload"), sent, "it is stored");
    assert_eq!(sorted(&told(&catalog(&place), 0)), sorted(&lost));
}

#[test]
fn what_lacks_a_volume_is_told_and_left_over() {
    let (place, mut server) = with_chain();
    let lost = lose(&place);
    let lines: Vec<Value> =
        lost.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let gone =
        lines.iter().find(|line| line["type"] == "archive" && line["name"] == "tar").unwrap();
    let (volume, stream) = (gone["volume"].as_u64().unwrap(), gone["stream"].as_str().unwrap());
    server.delete("v", gone["archive_id"].as_str().unwrap());
    pass_a_day(&mut server, 13);
    let ended = rebuild(&server, &place);
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert_eq!(
        ended.stderr,
        format!(
            "glacier-ls: warning: tar: 1 of its 3 volumes are not in the inventory, the first is volume {volume}; stream {stream} left out\n"
        )
    );
    let others: Vec<&str> = lost.lines().filter(|line| !line.contains(stream)).collect();
    let stdout = told(&ended.stdout, 0);
    let (left, rebuilt): (Vec<&str>, Vec<&str>) =
        stdout.lines().partition(|line| line.contains("\"inventoried\""));
    assert_eq!(sorted(&rebuilt.join("\n")), sorted(&others.join("\n")));
    assert_eq!(left.len(), 2 + 1, "two volumes and the manifest");
    // A reader takes both for a catalog.
    let mut chain = place.tool("glacier-chain", &["--list"]);
    assert_eq!(run_with(&mut chain, ended.stdout.as_bytes()).done().lines().len(), 3);
}

#[test]
fn two_machines_that_disagree_are_both_shown_and_the_others_are_printed() {
    let (place, mut server) = with_chain();
    let lost = lose(&place);
    let other = Place::default();
    let options = ["--part-size", "1M", "--volume-size", "1M", "--trust-eof", "--name", "tar"];
    let mut chunk = other.tool("glacier-chunk", &options);
    let lines = run_with(chunk.args(["--spool-limit", "none"]), b"other bytes").done().stdout;
    run_with(&mut server.put(&other, &["--assume-new", "v"]), lines.as_bytes()).done();
    pass_a_day(&mut server, 16);
    let ended = rebuild(&server, &place);
    assert_eq!(ended.code(), 65, "{}", ended.stderr);
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    let of_tar = |text: &str| -> Value {
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut stored = lines.filter(|line| line["type"] == "stored" && line["name"] == "tar");
        stored.next().unwrap()
    };
    for stored in [of_tar(&lost), of_tar(&catalog(&other))] {
        for field in ["manifest_id", "stored"] {
            assert!(ended.stderr.contains(stored[field].as_str().unwrap()), "{}", ended.stderr);
        }
    }
    let id = of_tar(&lost)["stream"].as_str().unwrap().to_owned();
    let others: Vec<&str> =
        lost.lines().filter(|line| !line.is_empty() && !line.contains(&id)).collect();
    assert_eq!(sorted(&told(&ended.stdout, 1)), sorted(&others.join("\n")));
}

#[test]
fn a_forged_manifest_does_nothing_but_be_named() {
    let (place, mut server) = with_chain();
    let lost = lose(&place);
    let id = "00112233445566778899aabbccddeeff";
    let described = |name: &str| {
        json!({"v": 1, "kind": "manifest", "stream": id, "host": "h", "name": name}).to_string()
    };
    let name = "\\u001b]0;owned\\u0007../../x";
    let description = described("N").replace("\"N\"", &format!("\"{name}\""));
    let stored = json!({"type": "stored", "v": 1, "stream": id, "host": "h", "name": "n",
        "format": "bytes", "volumes": 0, "size": 0, "treehash": "0".repeat(64), "whole": "zfs",
        "dest": "glacier://v", "region": "eu-central-1", "stored": "2026-11-23T00:00:00Z"});
    for content in [
        &b"\xff\x00\x1b[2J"[..],
        format!("{stored}\n").as_bytes(),
        &vec![b'{'; 100_000],
        b"{\"type\":\"stream\",\"v\":99}\n",
    ] {
        server.leave("v", &description, content);
    }
    pass_a_day(&mut server, 18);
    let ended = rebuild(&server, &place);
    assert_eq!(ended.code(), 65, "{}", ended.stderr);
    assert_eq!(sorted(&told(&ended.stdout, 4)), sorted(&lost), "all others are printed");
    assert_eq!(ended.stderr.lines().count(), 4 + 1, "{}", ended.stderr);
    for line in ended.stderr.lines() {
        assert!(line.starts_with("glacier-ls: ") && !line.chars().any(char::is_control), "{line}");
    }
    assert!(ended.stderr.contains("\\u{1b}]0;owned\\u{7}../../x: manifest "), "{}", ended.stderr);
    assert!(!place.spool().exists());
}

#[test]
fn a_manifest_that_comes_damaged_is_fetched_again_or_65() {
    let (place, mut server) = with_chain();
    let lost = lose(&place);
    server.fail("{\"call\":\"GetJobOutput\",\"nth\":2,\"do\":\"corrupt\",\"bytes\":200}\n");
    let arguments = ["inventory", "--rebuild", "--tier", "Expedited", "v"];
    let rebuilt = run(&mut ls(&server, &place, &arguments)).done();
    assert_eq!(sorted(&told(&rebuilt.stdout, 0)), sorted(&lost));
    server.fail("{\"call\":\"GetJobOutput\",\"from\":2,\"times\":\"all\",\"do\":\"corrupt\",\"bytes\":200}\n");
    let mut command = ls(&server, &place, &arguments);
    let ended = run(command.args(["--patience", "0s"]));
    assert_eq!(ended.stdout, "", "nothing before all is known");
    ended.failed_like(65, "manifest of ", ": does not equal its tree hash in the inventory");
}

#[test]
fn a_rebuild_that_cannot_be_written_is_74() {
    let (place, server) = with_chain();
    let arguments = ["inventory", "--rebuild", "--tier", "Expedited", "v"];
    let mut nowhere = ls(&server, &place, &arguments);
    run(nowhere.env("TMPDIR", place.path("nowhere"))).failed(
        74,
        "a file for the manifests: cannot create (see TMPDIR): No such file or directory",
    );
    let full = File::options().write(true).open("/dev/full").unwrap();
    start_into(&mut ls(&server, &place, &arguments), full)
        .finish()
        .failed(74, "stdout: cannot write: No space left on device");
}
