//! The same command again: after success, failures, kills and changes.

use std::fs;

use crate::common::local::{Local, catalog, files, is_the_catalogs, pattern, sorted};
use crate::common::{Place, run_with, start, until};
use crate::put::{MIB, NOT_WHOLE, before, chunk, chunk_as, id_of, one_stored, put, up_to};

#[test]
fn a_stream_that_is_stored_is_not_sent_again() {
    let (place, server, bytes, stored) = one_stored();
    let (then, receipts) = (catalog(&place), files(&place.spool().join("done")));
    let receipt = fs::read(&receipts[0]).unwrap();
    let lines = chunk(&place, "x", &bytes);
    assert_eq!(lines.matches("\"spooled\":false").count(), 5);
    let again = put(&server, &place, &["v"], &lines).done();
    assert_eq!(sorted(&again.stdout), sorted(&stored.stdout));
    assert_eq!(catalog(&place), then);
    assert_eq!(files(&place.spool()), receipts);
    assert_eq!(fs::read(&receipts[0]).unwrap(), receipt);
    assert_eq!(server.calls("UploadMultipartPart"), 6);
    assert_eq!(server.calls("InitiateMultipartUpload"), 4);
}

#[test]
fn a_lost_catalog_comes_back_from_the_receipt() {
    let (place, server, bytes, stored) = one_stored();
    fs::remove_file(place.path("catalog.jsonl")).unwrap();
    let lines = chunk(&place, "x", &bytes);
    let ended = put(&server, &place, &["v"], &lines);
    assert_eq!((ended.code(), ended.stderr), (0, written_again("x")));
    assert_eq!(sorted(&catalog(&place)), sorted(&stored.stdout));
    assert_eq!(server.calls("InitiateMultipartUpload"), 4);
}

/// What put says of a stream that the catalog had lost.
fn written_again(name: &str) -> String {
    format!(
        "glacier-put: warning: catalog: had not that {name} is stored; written again, by its \
         receipt in the spool\n"
    )
}

#[test]
fn a_lost_receipt_comes_back_from_the_catalog() {
    let (place, server, bytes, stored) = one_stored();
    let receipt = files(&place.spool().join("done")).remove(0);
    fs::remove_file(&receipt).unwrap();
    let lines = chunk(&place, "x", &bytes);
    let again = put(&server, &place, &["v"], &lines).done();
    assert_eq!(sorted(&again.stdout), sorted(&stored.stdout));
    assert_eq!(sorted(&catalog(&place)), sorted(&stored.stdout));
    let receipt = fs::read_to_string(receipt).unwrap();
    assert!(stored.stdout.lines().all(|line| receipt.contains(line)));
    assert_eq!(server.calls("InitiateMultipartUpload"), 4);
}

#[test]
fn a_journal_that_was_never_begun_is_no_receipt() {
    let (place, server, bytes, stored) = one_stored();
    let receipt = files(&place.spool().join("done")).remove(0);
    let kept = fs::read_to_string(&receipt).unwrap();
    let lines = chunk(&place, "x", &bytes);
    // A crash came between the file and its first record.
    let journal = place.spool().join(id_of(&lines)).join("put.jsonl");
    fs::write(&journal, "{\"type\":\"jour").unwrap();
    let again = put(&server, &place, &["v"], &lines).done();
    assert_eq!(sorted(&again.stdout), sorted(&stored.stdout));
    assert_eq!(fs::read_to_string(&receipt).unwrap(), kept);
    assert!(!journal.exists());
}

#[test]
fn a_stream_that_goes_by_a_new_name_keeps_its_receipt() {
    let place = Place::default();
    let server = Local::start(&place);
    let bytes = fs::read("tests/streams/full.zfs").unwrap();
    let cut = |options: &[&str]| chunk_as(&place, &bytes, options).done().stdout;
    put(&server, &place, &["--create-vault", "v"], &cut(&[])).done();
    put(&server, &place, &["v"], &cut(&["--name", "other"])).done();
    // What the receipt knows is enough without a catalog.
    fs::remove_file(place.path("catalog.jsonl")).unwrap();
    let ended = put(&server, &place, &["v"], &cut(&[]));
    assert_eq!((ended.code(), ended.stderr), (0, written_again("tank/home@mon")));
    assert_eq!(server.calls("InitiateMultipartUpload"), 3);
}

#[test]
fn a_vault_of_the_same_name_in_another_region_is_another() {
    let (place, server, bytes, _) = one_stored();
    let then = catalog(&place);
    let lines = chunk(&place, "x", &bytes);
    let message = format!(
        "stream {}: sent to glacier://v in eu-central-1, and this is us-west-2; \
         use that --region, or a vault of another name",
        id_of(&lines)
    );
    let elsewhere = ["--region", "us-west-2", "v"];
    assert_eq!(put(&server, &place, &elsewhere, &lines).failed(78, &message).stdout, "");
    assert_eq!(catalog(&place), then);
    // What the receipt knows is enough without a catalog.
    fs::remove_file(place.path("catalog.jsonl")).unwrap();
    let ended = put(&server, &place, &elsewhere, &lines);
    let says = format!("{}glacier-put: {message}\n", written_again("x"));
    assert_eq!((ended.code(), ended.stderr), (78, says));
    put(&server, &place, &["v"], &lines).done();
    assert_eq!(server.calls("InitiateMultipartUpload"), 4);
}

#[test]
fn a_stored_stream_whose_bytes_differ_is_refused() {
    let (place, server, mut bytes, _) = one_stored();
    bytes[3 * MIB + 7] ^= 1;
    let part = "the stream is stored, and its bytes were others; nothing is sent";
    for (bytes, message) in [
        (bytes, format!("stdin: line 7: volume 1 part 1: {part}")),
        (pattern(6 * MIB + 1), format!("stdin: line 10: volume 2 part 0: {part}")),
        (
            pattern(4 * MIB),
            "stdin: line 8: the stream is stored with 4194309 bytes, and now has 4194304".into(),
        ),
    ] {
        let lines = chunk(&place, "x", &bytes);
        let refused = put(&server, &place, &["v"], &lines).failed(65, &message);
        assert!(refused.of_type("stored").is_empty());
    }
    assert_eq!(server.calls("UploadMultipartPart"), 6);
    assert_eq!(server.calls("InitiateMultipartUpload"), 4);
}

#[test]
fn goes_on_where_it_stopped_and_sends_no_part_twice() {
    let place = Place::default();
    let server = Local::start(&place);
    let bytes = pattern(5 * MIB + 5);
    let lines = chunk(&place, "x", &bytes);
    let mut command = server.put(&place, &["--create-vault", "v"]);
    let all: Vec<&str> = lines.split_inclusive('\n').collect();
    for upto in 2..all.len() {
        let cut: String = all[..upto].concat();
        let stopped = run_with(&mut command, cut.as_bytes()).failed(75, NOT_WHOLE);
        let volumes = cut.matches("\"type\":\"volume\"").count();
        assert_eq!(stopped.of_type("archive").len(), volumes);
        assert!(stopped.of_type("stored").is_empty());
        assert_eq!(server.archives("v").len(), volumes, "I1: and no manifest");
    }
    run_with(&mut command, lines.as_bytes()).done();
    server.holds(&place, "v", &bytes);
    assert_eq!(server.calls("UploadMultipartPart"), 6 + 1);
}

#[test]
fn a_volume_that_changed_before_it_was_stored_is_sent_anew() {
    let place = Place::default();
    let server = Local::start(&place);
    let mut bytes = pattern(5 * MIB);
    let lines = chunk(&place, "x", &bytes);
    let cut = up_to(&lines, "part", 3);
    put(&server, &place, &["--create-vault", "v"], &cut).failed(75, NOT_WHOLE);
    assert_eq!(server.calls("UploadMultipartPart"), 3);
    bytes[2 * MIB] ^= 1;
    let lines = chunk(&place, "x", &bytes);
    put(&server, &place, &["v"], &lines).done();
    server.holds(&place, "v", &bytes);
    assert_eq!(server.calls("AbortMultipartUpload"), 1);
}

/// Stores volumes 0 and 1 of a stream, changes a byte, and runs all again
/// until it is stored.
fn changed_at(position: usize, changed: u64, orphans: usize) {
    let place = Place::default();
    let server = Local::start(&place);
    let mut bytes = pattern(5 * MIB);
    let lines = chunk(&place, "x", &bytes);
    let cut = up_to(&lines, "volume", 2);
    put(&server, &place, &["--create-vault", "v"], &cut).failed(75, NOT_WHOLE);
    let old = server.archives("v");
    bytes[position] ^= 1;

    let options = ["--trust-eof", "--name", "x"];
    let message = format!(
        "volume {changed}: its bytes are not those that were stored, and it was not spooled; \
         run the same command again to send it anew"
    );
    let hashed = chunk_as(&place, &bytes, &options).failed(75, &message);
    put(&server, &place, &["v"], &hashed.stdout).failed(75, &message);

    let lines = chunk(&place, "x", &bytes);
    let stored = put(&server, &place, &["v"], &lines);
    assert_eq!(stored.code(), 0, "{}", stored.stderr);
    let gone: Vec<&str> = old
        .iter()
        .filter(|held| held.volume() == Some(changed))
        .map(|held| held.id.as_str())
        .collect();
    assert_eq!(gone.len(), orphans);
    let warning = format!(
        "glacier-put: warning: x: changed since it was first sent; no longer part of it, \
         with 2 MiB: {}\n",
        gone.join(" ")
    );
    assert_eq!(stored.stderr, warning);
    assert_eq!(stored.of_type("stored")[0]["generation"], 1);

    // The archives that the new generation names are the stream.
    let mut named: Vec<_> =
        stored.of_type("archive").into_iter().filter(|line| line["generation"] == 1).collect();
    named.sort_by_key(|line| line["volume"].as_u64());
    assert_eq!(named.len(), 3);
    let held = server.archives("v");
    assert_eq!(held.len(), 5);
    let of = |id: &serde_json::Value| held.iter().find(|held| *id == held.id.as_str()).unwrap();
    let mut archives: Vec<_> = named.iter().map(|line| of(&line["archive_id"]).clone()).collect();
    archives.push(of(&stored.of_type("stored")[0]["manifest_id"]).clone());
    let contents = server.bytes("v", &archives);
    assert_eq!(contents[..3].concat(), bytes);
    let manifest = String::from_utf8(contents[3].clone()).unwrap();
    is_the_catalogs(&manifest, &catalog(&place), &archives[3].description);

    // And again: it is stored.
    let lines = chunk(&place, "x", &bytes);
    put(&server, &place, &["v"], &lines).done();
    assert_eq!(server.archives("v").len(), 5);

    // Also where the catalog alone tells which generation was the last.
    fs::remove_dir_all(place.spool()).unwrap();
    let lines = chunk(&place, "x", &bytes);
    put(&server, &place, &["v"], &lines).done();
    assert_eq!(server.archives("v").len(), 5);
}

#[test]
fn a_first_volume_that_changed_after_it_was_stored_makes_a_generation() {
    changed_at(0, 0, 1);
}

#[test]
fn a_later_volume_that_changed_after_it_was_stored_makes_a_generation() {
    changed_at(2 * MIB, 1, 1);
}

#[test]
fn killed_after_any_request_it_goes_on_and_stores_nothing_twice() {
    let bytes = pattern(3 * MIB + 5);
    for requests in 1..14 {
        let place = Place::default();
        let server = Local::start(&place);
        let lines = chunk(&place, "x", &bytes);
        let mut command = server.put(&place, &["--create-vault", "--concurrency", "1", "v"]);
        let mut running = start(command.stdin(std::process::Stdio::piped()));
        running.give(lines.as_bytes());
        until("so many requests", || server.log().len() >= requests || !running.runs());
        running.kill();
        drop(running);
        put(&server, &place, &["v"], &lines).done();
        server.holds(&place, "v", &bytes);
    }
}

#[test]
fn a_part_that_is_not_in_the_spool_is_75() {
    let place = Place::default();
    let server = Local::start(&place);
    let bytes = pattern(3 * MIB);
    let lines = chunk(&place, "x", &bytes);
    let part = place.stream(&id_of(&lines)).join("00000000-0001.part");
    fs::remove_file(&part).unwrap();
    let message = "volume 0 part 1: not in the spool as it was announced; run glacier-chunk again, with the same spool";
    put(&server, &place, &["--create-vault", "v"], &lines).failed(75, message);
    fs::write(&part, b"short").unwrap();
    put(&server, &place, &["v"], &lines).failed(75, message);
    let lines = chunk(&place, "x", &bytes);
    put(&server, &place, &["v"], &lines).done();
    server.holds(&place, "v", &bytes);
}

#[test]
fn a_part_that_is_damaged_in_the_spool_is_never_stored() {
    let place = Place::default();
    let server = Local::start(&place);
    let bytes = pattern(3 * MIB);
    let lines = chunk(&place, "x", &bytes);
    let part = place.stream(&id_of(&lines)).join("00000000-0001.part");
    let mut damaged = fs::read(&part).unwrap();
    damaged[MIB - 1] ^= 1;
    fs::write(&part, damaged).unwrap();
    let message =
        "volume 0 part 1: damaged in the spool; run glacier-chunk on the same stream again";
    let refused = put(&server, &place, &["--create-vault", "v"], &lines).failed(65, message);
    assert!(refused.of_type("archive").iter().all(|line| line["volume"] == 1));
    assert!(server.archives("v").iter().all(|held| held.volume() == Some(1)));
    let lines = chunk(&place, "x", &bytes);
    put(&server, &place, &["v"], &lines).done();
    server.holds(&place, "v", &bytes);
}

#[test]
fn a_stream_goes_to_one_destination_after_the_other() {
    let place = Place::default();
    let server = Local::start(&place);
    let bytes = pattern(3 * MIB);
    let lines = chunk(&place, "x", &bytes);
    let id = id_of(&lines);
    put(&server, &place, &["--create-vault", "one"], before(&lines, "end")).failed(75, NOT_WHOLE);
    let message = format!("stream {id}: on its way to glacier://one; finish that first");
    put(&server, &place, &["--create-vault", "two"], &lines).failed(64, &message);
    put(&server, &place, &["one"], &lines).done();

    // chunk takes it for stored, until put has asked for its parts.
    let lines = chunk(&place, "x", &bytes);
    let message = "volume 0 part 0: neither stored in glacier://two nor in the spool; \
                   run the same command again";
    put(&server, &place, &["two"], &lines).failed(75, message);
    // Whatever a script does next: that asks for nothing that is not there.
    let receipts = files(&place.spool().join("done"));
    let receipt = fs::read(&receipts[0]).unwrap();
    for _ in 0..2 {
        let lines = chunk(&place, "x", &bytes);
        put(&server, &place, &["one"], &lines).done();
    }
    assert_eq!(files(&place.spool().join("done")), receipts);
    assert_eq!(fs::read(&receipts[0]).unwrap(), receipt);
    let lines = chunk(&place, "x", &bytes);
    put(&server, &place, &["two"], before(&lines, "end")).failed(75, NOT_WHOLE);
    let message = format!("stream {id}: on its way to glacier://two; finish that first");
    put(&server, &place, &["one"], &lines).failed(64, &message);
    let lines = chunk(&place, "x", &bytes);
    put(&server, &place, &["two"], &lines).done();
    for vault in ["one", "two"] {
        assert_eq!(server.archives(vault).len(), 3);
        assert_eq!(server.bytes(vault, &server.archives(vault)[..2]).concat(), bytes);
        let lines = chunk(&place, "x", &bytes);
        put(&server, &place, &[vault], &lines).done();
    }
    assert_eq!(files(&place.spool()).len(), 2, "two receipts");
}

#[test]
fn chunk_spools_what_the_destination_in_the_environment_has_not() {
    let (place, server, bytes, _) = one_stored();
    let sizes = ["--part-size", "1M", "--volume-size", "2M", "--spool-limit", "none"];
    let options = [&sizes[..], &["--trust-eof", "--name", "x"]].concat();
    for (dest, unspooled) in [("v", 5), ("glacier://two", 0), ("two", 5), ("glacier://v", 5)] {
        let mut command = place.tool("glacier-chunk", &options);
        let lines = run_with(command.env("GLACIER_DEST", dest), &bytes).done().stdout;
        assert_eq!(lines.matches("\"spooled\":false").count(), unspooled, "{dest}");
        let mut put = server.put(&place, &["--create-vault"]);
        run_with(put.env("GLACIER_DEST", dest), lines.as_bytes()).done();
    }
    let mut command = place.tool("glacier-chunk", &options);
    let refused = run_with(command.env("GLACIER_DEST", "gs://v"), b"");
    refused.failed_like(64, "GLACIER_DEST: \"gs://\" is no destination here", "");
}

#[test]
fn a_vault_that_nothing_here_knows_of_is_not_written_to() {
    let place = Place::default();
    let mut server = Local::start(&place);
    let bytes = pattern(MIB);
    put(&server, &place, &["--create-vault", "v"], &chunk(&place, "x", &bytes)).done();
    // The vault tells how many archives it has once its inventory is made.
    assert_eq!(server.counted("v"), 0);
    server.pass_a_day();
    until("the inventory is made", || server.counted("v") == 2);
    fs::remove_file(place.path("catalog.jsonl")).unwrap();
    fs::remove_dir_all(place.spool()).unwrap();
    let lines = chunk(&place, "x", &bytes);
    let message = "glacier://v: holds 2 archives, and neither catalog nor spool knows of any; \
                   bring the catalog back (glacier-ls inventory --rebuild), or say --assume-new";
    put(&server, &place, &["v"], &lines).failed(78, message);
    assert_eq!(server.archives("v").len(), 2);
    put(&server, &place, &["--assume-new", "v"], &lines).done();
    assert_eq!(server.archives("v").len(), 4);
}

/// Only the catalog knows of the second attempt when the bytes of the first
/// one come back: the manifest must tell of the third.
#[test]
fn a_spool_that_was_lost_twice_leaves_a_manifest_that_restores() {
    let place = Place::default();
    let server = Local::start(&place);
    let first = pattern(3 * MIB);
    let mut second = first.clone();
    second[MIB] ^= 1;
    let options = ["--trust-eof", "--name", "x"];
    for (bytes, lost) in [(&first, true), (&second, true), (&second, false)] {
        let lines = chunk(&place, "x", bytes);
        let sent = put(&server, &place, &["--create-vault", "v"], before(&lines, "end"));
        sent.failed(75, NOT_WHOLE);
        if lost {
            fs::remove_dir_all(place.spool()).unwrap();
        } else {
            let journal = place.stream(&id_of(&lines)).join("put.jsonl");
            let journal = fs::read_to_string(journal).unwrap();
            assert_eq!(journal.matches("{\"type\":\"generation\",\"generation\":1}").count(), 1);
        }
    }
    assert_eq!(chunk_as(&place, &first, &options).code(), 75, "it notes that it must spool");
    let lines = chunk(&place, "x", &first);
    assert_eq!(put(&server, &place, &["v"], &lines).code(), 0);
    let archives = server.archives("v");
    let manifest = archives.last().unwrap();
    assert_eq!(manifest.description["generation"], 2);
    let text = String::from_utf8(server.content("v", &manifest.id)).unwrap();
    is_the_catalogs(&text, &catalog(&place), &manifest.description);
    assert_eq!(text.matches("{\"type\":\"archive\"").count(), 2, "each volume once");
}

#[test]
fn a_manifest_that_an_earlier_version_began_is_sent_on_as_it_is() {
    for (damaged, recipe) in [(false, false), (true, true)] {
        let place = Place::default();
        let refuse = |call: &str, from: u32| {
            format!(
                r#"{{"do":"refuse","code":"AccessDeniedException","call":"{call}","from":{from},"times":"all"}}"#
            )
        };
        let mut server = Local::with_faults(&place, 600, &refuse("InitiateMultipartUpload", 2));
        let lines = chunk(&place, "x", &pattern(MIB));
        let run = || put(&server, &place, &["--create-vault", "v"], &lines);
        assert_eq!(run().code(), 77);
        // It was made ready, and nothing of it is sent yet.
        let file = place.stream(&id_of(&lines)).join("manifest.jsonl");
        let text = fs::read_to_string(&file).unwrap();
        let (head, rest) = text.split_once('\n').unwrap();
        assert!(head.starts_with("{\"type\":\"recipe\",\"text\":["), "{head}");
        let other = if damaged { text.replacen('{', "[", 1) } else { rest.to_owned() };
        fs::write(&file, other).unwrap();
        server.fail(&refuse("CompleteMultipartUpload", 1));
        let run = || put(&server, &place, &["v"], &lines);
        assert_eq!(run().code(), 77);
        server.fail("");
        let sent = server.calls("UploadMultipartPart");
        let run = || put(&server, &place, &["v"], &lines);
        run().done();
        assert_eq!(server.calls("UploadMultipartPart"), sent, "its upload goes on");
        let manifest = server.archives("v").pop().unwrap();
        let told = String::from_utf8(server.content("v", &manifest.id)).unwrap();
        assert_eq!(told, if recipe { text } else { rest.to_owned() });
    }
}
