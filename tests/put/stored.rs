//! What is stored, and what is left here when it is.

use std::fs;

use akashita::hash::tree::{Fold, Hash, TreeHash};

use crate::common::local::{Local, REGION, catalog, files, pattern};
use crate::common::{Place, skip, start};
use crate::put::{MIB, chunk, chunk_as, id_of, put};

#[test]
fn stores_real_streams() {
    let place = Place::default();
    let server = Local::start(&place);
    for (vault, name) in [("full", "full.zfs"), ("more", "incremental-2.zfs")] {
        let bytes = fs::read(format!("tests/streams/{name}")).unwrap();
        let lines = chunk_as(&place, &bytes, &[]).done().stdout;
        let stored = put(&server, &place, &["--create-vault", vault], &lines).done();
        server.holds(&place, vault, &bytes);

        let described = &server.archives(vault)[0].description;
        let stream: serde_json::Value =
            serde_json::from_str(lines.lines().next().unwrap()).unwrap();
        for field in ["v", "stream", "host", "name", "guid", "from_guid"] {
            assert_eq!(described[field], stream[field], "{field}");
        }
        assert_eq!(described["generation"], 0);

        // Volumes are stored in whichever order.
        let (mut archives, mut hashes) = (stored.of_type("archive"), stored.of_type("hashes"));
        archives.sort_by_key(|line| line["volume"].as_u64());
        hashes.sort_by_key(|line| line["volume"].as_u64());
        let mut volumes = Fold::default();
        for (archive, hashes) in archives.iter().zip(hashes) {
            let treehash: Hash = archive["treehash"].as_str().unwrap().parse().unwrap();
            let parts = hashes["treehashes"].as_array().unwrap().iter();
            let fold: Fold = parts.map(|part| part.as_str().unwrap().parse().unwrap()).collect();
            assert_eq!(fold.finish(), treehash);
            volumes.push(treehash);
        }
        let end = &stored.of_type("stored")[0];
        assert_eq!(volumes.finish().to_string(), end["treehash"].as_str().unwrap());
        assert_eq!(TreeHash::of(&bytes).to_string(), end["treehash"].as_str().unwrap());
        assert_eq!(end["manifest_id"], server.archives(vault).last().unwrap().id.as_str());
        assert_eq!(stored.of_type("snapshot").len(), 1);

        // The spool is cleared but for the receipt.
        let id = id_of(&lines);
        assert!(!place.stream(&id).exists());
        let receipt = place.spool().join(format!("done/{id}.glacier---{vault}.{REGION}.jsonl"));
        let receipt = fs::read_to_string(receipt).unwrap();
        assert!(stored.stdout.lines().all(|line| receipt.contains(line)));
        let about = |line: &&str| line.contains(&id);
        let appended: String = catalog(&place)
            .split_inclusive('\n')
            .filter(|line| !line.trim().is_empty())
            .filter(about)
            .collect();
        assert_eq!(appended, stored.stdout);
    }
}

#[test]
fn stores_a_compound_stream() {
    let place = Place::default();
    let server = Local::start(&place);
    let bytes = fs::read("tests/streams/replication-R-I.zfs").unwrap();
    let lines = chunk_as(&place, &bytes, &["--trust-eof"]).done().stdout;
    let stored = put(&server, &place, &["--create-vault", "v"], &lines).done();
    server.holds(&place, "v", &bytes);
    assert_eq!(stored.of_type("stored")[0]["compound"], true);
    assert!(stored.of_type("snapshot").len() > 1);
}

#[test]
fn a_volume_of_many_parts_has_many_lines_of_hashes() {
    let place = Place::default();
    let server = Local::start(&place);
    let bytes = pattern(52 * MIB);
    let sizes = ["--volume-size", "64M", "--trust-eof", "--name", "x", "--spool-limit", "none"];
    let chunk = &mut place.tool("glacier-chunk", &[&["--part-size", "1M"], &sizes[..]].concat());
    let lines = crate::common::run_with(chunk, &bytes).done().stdout;
    let stored = put(&server, &place, &["--create-vault", "v"], &lines).done();
    let hashes = stored.of_type("hashes");
    assert_eq!(hashes.len(), 2);
    assert_eq!(hashes[1]["part"], 50);
    let parts: Fold = hashes
        .iter()
        .flat_map(|line| line["treehashes"].as_array().unwrap())
        .map(|hash| hash.as_str().unwrap().parse().unwrap())
        .collect();
    assert_eq!(parts.finish(), TreeHash::of(&bytes));
}

/// The guard of `storage::aws::Precomputed`: the SDK neither loads nor hashes a
/// part, and the server finds signature and both hashes right.
#[test]
fn a_part_may_be_far_larger_than_memory() {
    let place = Place::default();
    let server = Local::start(&place);
    let mut chunk = place.tool("glacier-chunk", &["--part-size", "256M", "--volume-size", "256M"]);
    chunk.args(["--name", "x", "--trust-eof", "--spool-limit", "none", "--", "head", "-c", "256M"]);
    let lines = crate::common::run(chunk.arg("/dev/zero")).done().stdout;
    let mut put = server.put(&place, &["--create-vault", "v"]);
    let mut running = start(put.stdin(std::process::Stdio::piped()));
    let (volume, end) = lines.split_at(lines.find("{\"type\":\"end\"").unwrap());
    assert!(running.give(volume.as_bytes()));
    assert_eq!(running.line_of("archive")["size"], 256 * MIB);
    match fs::read_to_string(format!("/proc/{}/status", running.id())) {
        Ok(status) => {
            let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
            let peak: usize = peak.trim_end_matches("kB").trim().parse().unwrap();
            assert!(peak < 60 << 10, "{peak} KiB");
        }
        Err(_) => skip("/proc: not there, the peak memory is not known"),
    }
    assert!(running.give(end.as_bytes()));
    running.end_input();
    running.finish().done();
    assert_eq!(server.calls("UploadMultipartPart"), 2);
}

#[test]
fn the_secret_is_nowhere_but_in_its_file() {
    let place = Place::default();
    let mut server = Local::start(&place);
    let lines = chunk(&place, "x", &pattern(3 * MIB));
    let secret = server.secret();
    let mut said =
        put(&server, &place, &["nobody"], &lines).failed_like(69, "glacier://", "").stderr;
    said +=
        &put(&server, &place, &["--create-vault", "v"], crate::put::before(&lines, "end")).stderr;
    server.kill();
    let late = put(&server, &place, &["--patience", "0s", "v"], &lines);
    said += &late.failed_like(75, "", "run the same command again").stderr;
    server.restart();
    let done = put(&server, &place, &["v"], &lines).done();
    assert!(!(said + &done.stdout).contains(&secret));
    let credentials = place.path("server/credentials");
    for file in files(&place.path("")) {
        let bytes = fs::read(&file).unwrap();
        let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert_eq!(found, file == credentials, "{}", file.display());
    }
}
