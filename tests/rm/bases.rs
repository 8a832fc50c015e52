//! What streams are based on that the catalog does not know of: those on their
//! way, and those that it has lost.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Stdio;

use rustix::fs::{FlockOperation, flock};
use serde_json::json;

use crate::common::local::{catalog, files};
use crate::common::{run, start, until};
use crate::rm::{MIB, Scene, only, parsed, pattern};

/// The lines of a snapshot of tests/streams, with its parts in the spool.
fn spooled(scene: &Scene, name: &str) -> String {
    scene.chunk(None, &fs::read(format!("tests/streams/{name}.zfs")).unwrap())
}

/// Stores one of them.
fn stored(scene: &Scene, name: &str) -> String {
    scene.put(&spooled(scene, name)).done().stdout
}

fn needed(names: &str) -> String {
    let begin = if names.is_empty() { String::new() } else { format!("stdin: {names}") };
    format!(
        "{begin} could not be restored any more; nothing is deleted unless their lines are \
         there too, or with --break-chain"
    )
}

/// What put says of the first increment when its base is gone.
const GONE: &str = "tank/home@tue: is stored, and cannot be restored: snapshot \
                    13202105433093045432, which it is based on, was deleted; send it on a base \
                    that is there, or whole";

/// The `deleted` lines that rm writes for archives.
fn deletions(lines: &str) -> String {
    let archives = parsed(&only(lines, &["archive"]));
    let gone = archives.iter().map(|line| {
        let gone = json!({"type": "deleted", "stream": line["stream"], "dest": line["dest"],
            "archive_id": line["archive_id"], "deleted": "2026-11-25T00:00:00Z"});
        format!("{gone}\n")
    });
    gone.collect()
}

#[test]
fn what_is_on_its_way_keeps_its_base() {
    let scene = Scene::default();
    let full = stored(&scene, "full");
    let held = scene.held();
    // The second is based on what is only in the spool itself.
    let (first, second) = (spooled(&scene, "incremental-1"), spooled(&scene, "incremental-2"));
    for arguments in [&["v"][..], &["--yes", "v"]] {
        let ended = scene.rm(arguments, &full);
        assert_eq!((ended.code(), scene.held()), (65, held), "{}", ended.stderr);
        for name in ["tank/home@tue", "tank/home@wed"] {
            assert!(ended.stderr.contains(name), "{}", ended.stderr);
        }
    }
    let drop = only(&first, &["stream"]);
    scene.delete(&(full.clone() + &drop)).failed(65, &needed("tank/home@wed"));
    assert!(files(&scene.place.spool()).iter().any(|file| file.ends_with("lines.jsonl")));
    // What has no snapshot needs none.
    scene.chunk(Some("x"), &pattern(MIB));
    scene.delete(&(full + &drop + &only(&second, &["stream"]))).done();
    assert_eq!(scene.held(), 0);
}

#[test]
fn no_archive_goes_while_what_is_based_on_it_cannot_be_dropped() {
    let scene = Scene::default();
    let full = stored(&scene, "full");
    let held = scene.held();
    let first = spooled(&scene, "incremental-1");
    let id = parsed(&first)[0]["stream"].as_str().unwrap().to_owned();
    let lock = File::create(scene.place.stream(&id).join("put.lock")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    let lines = full + &only(&first, &["stream"]);
    scene.delete(&lines).failed_like(75, &format!("stream {id}: glacier-put"), "");
    assert_eq!((scene.held(), scene.deleted().len()), (held, 0));
    drop(lock);
    scene.delete(&lines).done();
    assert_eq!(scene.held(), 0);
}

#[test]
fn put_tells_of_a_base_that_went_meanwhile() {
    let scene = Scene::default();
    let full = stored(&scene, "full");
    let lines = spooled(&scene, "incremental-1");
    // glacier-rm has looked, and deletes.
    let deletes = File::open(scene.place.spool().join("done")).unwrap();
    flock(&deletes, FlockOperation::LockExclusive).unwrap();
    let mut put = start(scene.server.put(&scene.place, &["v"]).stdin(Stdio::piped()));
    assert!(put.give(lines.as_bytes()));
    put.end_input();
    put.line_of("stored");
    let path = scene.place.path("catalog.jsonl");
    fs::write(&path, catalog(&scene.place) + &deletions(&full)).unwrap();
    assert!(put.runs(), "it does not wait for the end of that");
    drop(deletes);
    put.finish().failed(65, GONE);
    // The same again, as it is stored; and nothing once its base is back.
    scene.put(&lines).failed(65, GONE);
    let receipts = files(&scene.place.spool().join("done"));
    let is_of_base = |file: &&PathBuf| fs::read_to_string(file).unwrap().contains("@mon\"");
    fs::remove_file(receipts.iter().find(is_of_base).unwrap()).unwrap();
    stored(&scene, "full");
    scene.put(&lines).done();
}

#[test]
fn who_deletes_waits_for_who_looks_and_then_sees_what_was_stored() {
    let scene = Scene::default();
    let full = stored(&scene, "full");
    let looks = File::open(scene.place.spool().join("done")).unwrap();
    flock(&looks, FlockOperation::LockShared).unwrap();
    fs::write(scene.place.path("lines"), &full).unwrap();
    let mut rm = scene.tool(&["--yes", "v"]);
    let mut rm = start(rm.stdin(File::open(scene.place.path("lines")).unwrap()));
    // What it reads first is all of its input.
    let position = || fs::read_to_string(format!("/proc/{}/fdinfo/0", rm.id()));
    let end = format!("pos:\t{}\n", full.len());
    if position().is_ok() {
        until("it has read its input", || position().unwrap().starts_with(&end));
    }
    assert!(rm.runs());
    stored(&scene, "incremental-1");
    drop(looks);
    rm.finish().failed(65, &needed("tank/home@tue"));
    assert_eq!(scene.deleted().len(), 0);
}

/// As a put leaves it that dies before the catalog has its last lines: the
/// journal is no receipt yet, and the same put heals it.
#[test]
fn what_a_put_that_was_stopped_has_stored_waits_for_it() {
    let scene = Scene::default();
    let [full, ..] = scene.chain();
    let spool = scene.place.path("spool");
    for receipt in fs::read_dir(spool.join("done")).unwrap() {
        let receipt = receipt.unwrap();
        let stream = spool.join(&receipt.file_name().to_str().unwrap()[..32]);
        fs::create_dir_all(&stream).unwrap();
        fs::rename(receipt.path(), stream.join("put.jsonl")).unwrap();
    }
    let archives = only(&full, &["archive"]);
    fs::write(scene.place.path("catalog.jsonl"), &archives).unwrap();
    let begin = "catalog: has not that tank/home@";
    scene.delete(&archives).failed_like(75, begin, "(or glacier-ls receipts >>CATALOG)");
    assert_eq!(scene.deleted().len(), 0);
}

#[test]
fn what_a_receipt_calls_stored_stays_though_the_catalog_has_lost_it() {
    let scene = Scene::default();
    let [full, first, second] = scene.chain();
    let other = scene.store("x", &pattern(MIB));
    let (held, whole) = (scene.held(), catalog(&scene.place));
    let path = scene.place.path("catalog.jsonl");
    let back = "is stored, as its receipt in the spool says; nothing is deleted before it has \
                (glacier-ls receipts >>CATALOG)";
    let mut repair = scene.place.tool("glacier-ls", &["receipts"]);
    let mut repair = || {
        fs::write(&path, catalog(&scene.place) + &run(&mut repair).done().stdout).unwrap();
    };
    // Cut at a line's end, its archives look like those of what never was whole.
    let archives = only(&full, &["archive"]);
    fs::write(&path, &archives).unwrap();
    for arguments in [&["--yes", "v"][..], &["v"]] {
        let ended = scene.rm(arguments, &archives);
        assert_eq!(ended.stdout, "");
        ended.failed_like(78, "catalog: has not that ", back);
    }
    repair();
    // Those that were stored in one second have no order.
    let ended = scene.delete(&archives).failed_like(65, "stdin: tank/home@", &needed(""));
    assert!(["@tue", "@wed"].iter().all(|name| ended.stderr.contains(name)), "{}", ended.stderr);
    // What it has lost has to do with none of what goes, or needs it.
    for lost in [&other, &(first + &second)] {
        let known: String =
            whole.split_inclusive('\n').filter(|line| !lost.contains(line)).collect();
        fs::write(&path, &known).unwrap();
        for goes in [&full, &second].into_iter().filter(|goes| known.contains(goes.as_str())) {
            scene.delete(goes).failed_like(78, "catalog: has not that ", back);
        }
    }
    assert_eq!((scene.held(), scene.deleted().len()), (held, 0));
    // Once that was deleted here, nothing contradicts.
    fs::write(&path, whole.clone() + &deletions(&other)).unwrap();
    assert_eq!(scene.rm(&["v"], &second).code(), 0);
    let known: String = whole.split_inclusive('\n').filter(|line| !other.contains(line)).collect();
    fs::write(&path, known.clone() + &deletions(&other)).unwrap();
    assert_eq!(scene.rm(&["v"], &second).code(), 0);
    fs::write(&path, known).unwrap();
    scene.rm(&["--yes", "--break-chain", "v"], &full).done();
    assert!(scene.held() < held, "unless it is told to");
}
