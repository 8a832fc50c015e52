//! What 0.1.0 left on the disk, and today's programs go on with
//! (upgrade/make).

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::common::local::{Local, catalog, pattern, sorted};
use crate::common::{Place, run, run_with};
use crate::put::clock::Wall;
use crate::put::{NOT_WHOLE, before, chunk, put};

/// So many bytes as `yes` prints of a word.
fn yes(word: &str, size: usize) -> Vec<u8> {
    format!("{word}\n").bytes().cycle().take(size).collect()
}

#[test]
fn what_an_earlier_version_left_is_gone_on_with() {
    let place = Place::default();
    let Some(wall) = Wall::at(&place, "2026-11-30T21:00:00Z") else { return };
    let left = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/put/upgrade/left.tar.gz");
    let mut unpack = Command::new("tar");
    unpack.args(["-xzf", left, "--strip-components=1", "-C"]).arg(place.path("."));
    run(&mut unpack).done();
    let server = Local::believing(&place, 600, wall.environment());
    let before = catalog(&place);
    let chunk_and_put = |name: &str, bytes: &[u8]| {
        let sizes = ["--part-size", "1M", "--volume-size", "4M", "--spool-limit", "none"];
        let options = [&sizes[..], &["--trust-eof", "--name", name]].concat();
        let lines = run_with(&mut place.tool("glacier-chunk", &options), bytes).done().stdout;
        let mut put = server.put(&place, &["v"]);
        run_with(put.envs(wall.environment()), lines.as_bytes()).done()
    };

    // Its catalog is there, and its receipt has the same lines.
    let stored = yes("stored", 1_500_000);
    chunk_and_put("stored", &stored);
    assert_eq!(server.calls("InitiateMultipartUpload"), 0);
    let receipts = run(&mut place.tool("glacier-ls", &["receipts"])).done().stdout;
    assert_eq!(sorted(&receipts), sorted(&before));

    // Two parts of the other were sent: the third, and the manifest, lack.
    let begun = ["one", "two", "three"].map(|word| yes(word, 1 << 20)).concat();
    chunk_and_put("begun", &begun);
    assert_eq!(server.calls("UploadMultipartPart"), 2);
    assert_eq!(server.calls("InitiateMultipartUpload"), 1);

    let lines = catalog(&place);
    assert!(lines.starts_with(&before), "{lines}");
    for (name, bytes) in [("stored", stored), ("begun", begun)] {
        let own = lines.lines().find(|line| line.contains(&format!("\"name\":\"{name}\"")));
        let own: Value = serde_json::from_str(own.unwrap()).unwrap();
        let is_own = |line: &&str| line.contains(own["stream"].as_str().unwrap());
        let wanted: String = lines.lines().filter(is_own).flat_map(|line| [line, "\n"]).collect();
        let back = place.path(name);
        let options = ["--tier", "Expedited", "--output", name];
        let mut get = place.tool("glacier-get", &options);
        server.client(&mut get).envs(wall.environment());
        run_with(&mut get, wanted.as_bytes()).done();
        assert!(fs::read(back).unwrap() == bytes, "{name} is another");
    }
}

/// 0.1.0 wrote down whatever a service called an upload, and asked for it for
/// ever: 69 or 77, until the stream was taken out of the spool by hand.
#[test]
fn an_id_that_is_none_in_an_old_journal_is_no_upload() {
    for bad in ["", "..", "../../other", "a b"] {
        let place = Place::default();
        let server = Local::start(&place);
        let bytes = pattern(3 << 20);
        let lines = chunk(&place, "x", &bytes);
        // Nothing was sent before its upload began.
        put(&server, &place, &["--create-vault", "v"], before(&lines, "volume"))
            .failed(75, NOT_WHOLE);
        let stream: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
        let journal = place.stream(stream["stream"].as_str().unwrap()).join("put.jsonl");
        let text = fs::read_to_string(&journal).unwrap();
        let begun = |line: &str| line.starts_with("{\"type\":\"upload\"");
        let line = text.lines().find(|line| begun(line)).expect("an upload was begun");
        let id = serde_json::from_str::<Value>(line).unwrap()["upload_id"].clone();
        fs::write(&journal, text.replace(id.as_str().unwrap(), bad)).unwrap();
        put(&server, &place, &["v"], &lines).done();
        server.holds(&place, "v", &bytes);
        assert_eq!(server.calls("InitiateMultipartUpload"), 4, "{bad}");
    }
}
