//! Streams whose archives were deleted since: stored again, and no more of
//! them than is missing.

use std::fs;

use serde_json::{Value, json};

use crate::common::local::{Local, catalog, files, pattern};
use crate::common::{Ended, Place, run_with};
use crate::put::{MIB, before, chunk, id_of, one_stored, put, up_to};

/// Deletes archives, and says so in the catalog, as glacier-rm does.
fn delete<'l>(server: &Local, place: &Place, lines: impl IntoIterator<Item = &'l Value>) {
    let mut text = catalog(place);
    for line in lines {
        let id = line["archive_id"].as_str().or(line["manifest_id"].as_str()).unwrap();
        server.ask("DELETE", &format!("/-/vaults/v/archives/{id}"), b"");
        let gone = json!({"type": "deleted", "stream": line["stream"], "dest": line["dest"],
            "archive_id": id, "deleted": "2026-11-25T00:00:00Z"});
        text += &(gone.to_string() + "\n");
    }
    fs::write(place.path("catalog.jsonl"), text).unwrap();
}

fn remove_receipt(place: &Place) {
    for receipt in files(&place.spool().join("done")) {
        fs::remove_file(receipt).unwrap();
    }
}

/// What chain and get bring back of the stream `x`.
fn restored(server: &Local, place: &Place) -> Vec<u8> {
    let chain = run_with(&mut place.tool("glacier-chain", &["x"]), catalog(place).as_bytes());
    let lines = chain.done().stdout;
    let mut get = place.tool("glacier-get", &["--tier", "Expedited", "--", "dd", "of=back"]);
    get.arg("status=none");
    run_with(server.client(&mut get), lines.as_bytes()).done();
    fs::read(place.path("back")).unwrap()
}

fn all(stored: &Ended) -> Vec<Value> {
    [stored.of_type("archive"), stored.of_type("stored")].concat()
}

#[test]
fn what_was_deleted_is_stored_again() {
    let (place, server, bytes, stored) = one_stored();
    delete(&server, &place, &all(&stored));
    remove_receipt(&place);
    assert!(server.archives("v").is_empty());
    let again = put(&server, &place, &["v"], &chunk(&place, "x", &bytes)).done();
    let (now, then) = (again.of_type("archive"), stored.of_type("archive"));
    assert_eq!(now.len(), 3);
    assert!(now.iter().all(|now| then.iter().all(|then| then["archive_id"] != now["archive_id"])));
    assert_eq!(again.of_type("stored")[0]["generation"], 1);
    assert_eq!(server.archives("v").len(), 4);
    assert_eq!(restored(&server, &place), bytes);
    // Then it is stored, as any other is.
    let calls = server.calls("InitiateMultipartUpload");
    let third = put(&server, &place, &["v"], &chunk(&place, "x", &bytes)).done();
    assert_eq!(third.of_type("stored"), again.of_type("stored"));
    assert_eq!(server.calls("InitiateMultipartUpload"), calls);
}

#[test]
fn what_was_deleted_on_another_machine_is_stored_by_the_second_run() {
    let (place, server, bytes, stored) = one_stored();
    delete(&server, &place, &all(&stored));
    let lines = chunk(&place, "x", &bytes);
    assert_eq!(lines.matches("\"spooled\":false").count(), 5, "the receipt is believed");
    let message = "volume 0 part 0: neither stored in glacier://v nor in the spool; \
                   run the same command again";
    put(&server, &place, &["v"], &lines).failed(75, message);
    put(&server, &place, &["v"], &chunk(&place, "x", &bytes)).done();
    assert_eq!(server.archives("v").len(), 4);
    assert_eq!(restored(&server, &place), bytes);
}

#[test]
fn of_a_deletion_that_stopped_only_what_is_missing_is_stored_again() {
    for volume in 0..3 {
        let (place, server, bytes, stored) = one_stored();
        delete(&server, &place, [&stored.of_type("archive")[volume]]);
        remove_receipt(&place);
        let again = put(&server, &place, &["v"], &chunk(&place, "x", &bytes)).done();
        assert_eq!(server.calls("InitiateMultipartUpload"), 4 + 2, "the volume and a manifest");
        let gone = &stored.of_type("archive")[volume];
        let then = stored.of_type("archive");
        for now in again.of_type("archive") {
            let is_there = then.iter().any(|then| then["archive_id"] == now["archive_id"]);
            assert_eq!(is_there, now["volume"] != gone["volume"], "{now}");
        }
        assert_eq!(restored(&server, &place), bytes);
    }
}

#[test]
fn without_its_manifest_a_stream_is_not_stored_and_its_volumes_stay() {
    let (place, server, bytes, stored) = one_stored();
    delete(&server, &place, &stored.of_type("stored"));
    remove_receipt(&place);
    put(&server, &place, &["v"], &chunk(&place, "x", &bytes)).done();
    assert_eq!(server.calls("InitiateMultipartUpload"), 4 + 1);
    assert_eq!(restored(&server, &place), bytes);
}

#[test]
fn a_journal_under_way_of_which_archives_were_deleted_heals() {
    let place = Place::default();
    let server = Local::start(&place);
    let bytes = pattern(4 * MIB + 5);
    let lines = chunk(&place, "x", &bytes);
    let part = up_to(&lines, "volume", 2);
    let cut = put(&server, &place, &["--create-vault", "v"], &part);
    assert_eq!(cut.code(), 75);
    delete(&server, &place, &cut.of_type("archive")[..1]);
    // The first run finds out, the second one has the parts.
    let lines = chunk(&place, "x", &bytes);
    assert_eq!(put(&server, &place, &["v"], &lines).code(), 75);
    put(&server, &place, &["v"], &chunk(&place, "x", &bytes)).done();
    assert_eq!(server.calls("InitiateMultipartUpload"), 2 + 1 + 2);
    assert_eq!(restored(&server, &place), bytes);
}

#[test]
fn other_bytes_than_those_that_were_deleted_are_another_attempt() {
    let (place, server, bytes, stored) = one_stored();
    delete(&server, &place, &all(&stored));
    remove_receipt(&place);
    // Shorter: nothing of what is gone may be counted.
    let bytes = &bytes[..3 * MIB + 7];
    let lines = chunk(&place, "x", bytes);
    // Killed in the middle, too.
    assert_eq!(put(&server, &place, &["v"], before(&lines, "end")).code(), 75);
    assert!(place.stream(&id_of(&lines)).join("put.jsonl").exists());
    put(&server, &place, &["v"], &chunk(&place, "x", bytes)).done();
    assert_eq!(server.archives("v").len(), 3);
    assert_eq!(restored(&server, &place), bytes);
}
