//! Receipts: a catalog that lost lines comes back from the spool alone.

use std::fs;
use std::path::PathBuf;

use crate::common::local::{Local, catalog, files, pattern, sorted};
use crate::common::{Ended, Place, program, run, run_on, run_with};
use crate::ls::{MIB, SIZES, store};
use serde_json::{Value, json};

/// glacier-ls receipts.
fn receipts(place: &Place, more: &[&str]) -> Ended {
    run(&mut place.tool("glacier-ls", &[&["receipts"], more].concat()))
}

/// The streams of a place that can be restored, in the order of the catalog.
fn restorable(place: &Place) -> Vec<Value> {
    let path = place.path("catalog.jsonl");
    let ended = run_on(&mut place.tool("glacier-chain", &["--list"]), &path);
    let names = |line: Value| line["name"].clone();
    ended.stdout.lines().map(|line| names(serde_json::from_str(line).unwrap())).collect()
}

/// Two streams that are stored, y before x.
fn two() -> (Place, Local) {
    let place = Place::default();
    let server = Local::start(&place);
    store(&server, &place, "y", b"bytes");
    store(&server, &place, "x", &pattern(2 * MIB + 5));
    (place, server)
}

fn only_receipt(place: &Place, name: &str) -> PathBuf {
    let all = files(&place.spool().join("done"));
    let is_of = |path: &&PathBuf| {
        fs::read_to_string(path).unwrap().contains(&format!("\"name\":\"{name}\""))
    };
    all.iter().find(is_of).unwrap().clone()
}

#[test]
fn a_catalog_that_was_cut_anywhere_is_repaired_by_what_is_printed() {
    let (place, _server) = two();
    let path = place.path("catalog.jsonl");
    let whole = catalog(&place);
    let printed = receipts(&place, &[]).done().stdout;
    assert_eq!(sorted(&printed), sorted(&whole));
    let stored = |line: &str| -> Option<String> {
        let line: Value = serde_json::from_str(line).unwrap();
        (line["type"] == "stored").then(|| line["stored"].to_string())
    };
    // Those of one second have no order.
    let times: Vec<String> = printed.lines().filter_map(stored).collect();
    assert!(times.len() == 2 && times.is_sorted(), "as they were stored: {times:?}");
    let diff = || receipts(&place, &["--diff", path.to_str().unwrap()]);
    assert_eq!(diff().done().stdout, "");

    let ends = whole.match_indices('\n').map(|(end, _)| end + 1);
    let cuts: Vec<usize> = ends.flat_map(|end| [end, end - 1, end - 30]).chain([0]).collect();
    let mut repair = place.command("sh");
    repair.args(["-c", "exec \"$0\" receipts >>\"$GLACIER_CATALOG\""]).arg(program("glacier-ls"));
    for cut in cuts {
        fs::write(&path, &whole[..cut]).unwrap();
        let lacks = diff();
        // Without its last newline it has all.
        assert_eq!(lacks.code(), i32::from(cut + 1 < whole.len()), "{cut}: {}", lacks.stderr);
        run(&mut repair).done();
        assert_eq!(restorable(&place), [json!("x"), json!("y")], "{cut}");
        assert_eq!(diff().done().stdout, "", "{cut}");
        assert!(catalog(&place).starts_with(&whole[..cut]), "it only grows");
    }
    // A line that stands behind its `stored` line does not count.
    let (first, rest) = whole.split_at(whole.find("{\"type\":\"stored\"").unwrap());
    let at = first.rfind("{\"type\":\"archive\"").unwrap();
    fs::write(&path, format!("{}{rest}{}", &first[..at], &first[at..])).unwrap();
    assert_eq!(diff().code(), 1);
}

#[test]
fn what_was_deleted_stays_deleted() {
    let (place, server) = two();
    let receipt = only_receipt(&place, "x");
    let kept = fs::read(&receipt).unwrap();
    let chain = run_on(&mut place.tool("glacier-chain", &["x"]), &place.path("catalog.jsonl"));
    let mut rm = place.tool("glacier-rm", &["--yes", "v"]);
    run_with(server.client(&mut rm), chain.done().stdout.as_bytes()).done();
    assert!(!receipt.exists());
    // As where another machine deleted it.
    fs::write(&receipt, kept).unwrap();
    let path = place.path("catalog.jsonl");
    assert_eq!(receipts(&place, &["--diff", path.to_str().unwrap()]).done().stdout, "");
    let printed = receipts(&place, &[]).done().stdout;
    fs::write(&path, catalog(&place) + &printed).unwrap();
    assert_eq!(restorable(&place), [json!("y")]);
}

#[test]
fn a_receipt_that_is_damaged_is_left_out_and_told() {
    let (place, _server) = two();
    let (x, y) = (only_receipt(&place, "x"), only_receipt(&place, "y"));
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    let whole = fs::read_to_string(&x).unwrap();
    let hashes = whole.lines().find(|line| line.starts_with("{\"type\":\"hashes\"")).unwrap();
    let at = hashes.find("\"treehashes\":[\"").unwrap() + 15;
    let other = if hashes.as_bytes()[at] == b'0' { "1" } else { "0" };
    let rotten = format!("{}{other}{}", &hashes[..at], &hashes[at + 1..]);
    let damaged = [
        whole.replacen(hashes, "", 1),
        whole.replacen(hashes, &rotten, 1),
        whole[..whole.len() - 100].to_owned(),
        fs::read_to_string(&y).unwrap(),
        String::new(),
    ];
    for text in damaged {
        fs::write(&x, &text).unwrap();
        let ended = receipts(&place, &[]);
        assert_eq!(ended.of_type("stored").len(), 1, "{text}");
        assert_eq!(ended.of_type("stored")[0]["name"], "y");
        ended.failed_like(65, &format!("receipt {}: ", name(&x)), "; left out");
    }
    fs::write(&y, "").unwrap();
    let ended = receipts(&place, &[]);
    assert_eq!((ended.code(), ended.stdout.as_str()), (65, ""));
    let last = ended.stderr.lines().last().unwrap();
    assert_eq!(last, "glacier-ls: 2 receipts left out; the others are whole");
    // A torn record harms nothing, and an earlier version told no region.
    let region = ",\"region\":\"eu-central-1\"";
    let (journal, rest) = whole.split_once('\n').unwrap();
    let old = format!("{}\n{{\"type\":\"upl\n{rest}", journal.replace(region, ""));
    fs::write(&x, old).unwrap();
    fs::remove_file(&y).unwrap();
    assert_eq!(receipts(&place, &[]).done().of_type("archive").len(), 3);
}

#[test]
fn a_receipt_that_is_not_put_away_counts_and_a_journal_under_way_does_not() {
    let (place, server) = two();
    let x = only_receipt(&place, "x");
    let id = x.file_name().unwrap().to_str().unwrap().split('.').next().unwrap().to_owned();
    fs::create_dir(place.stream(&id)).unwrap();
    fs::rename(&x, place.stream(&id).join("put.jsonl")).unwrap();
    let options = [&SIZES[..], &["--trust-eof", "--name", "z", "--spool-limit", "none"]].concat();
    let lines = run_with(&mut place.tool("glacier-chunk", &options), &pattern(MIB)).done().stdout;
    let cut = lines.split("{\"type\":\"end\"").next().unwrap();
    assert_eq!(run_with(&mut server.put(&place, &["v"]), cut.as_bytes()).code(), 75);
    assert_eq!(receipts(&place, &[]).done().of_type("stored").len(), 2);
}

#[test]
fn without_a_spool_there_are_none() {
    let place = Place::default();
    assert_eq!(receipts(&place, &[]).done().stdout, "");
    assert!(!place.spool().exists(), "it was created");
    let none = place.path("none");
    let none = none.to_str().unwrap();
    receipts(&place, &["--spool", "/dev/null"]).failed(78, "spool /dev/null: not a directory");
    receipts(&place, &["--diff", none])
        .failed(74, &format!("catalog {none}: cannot open: No such file or directory"));
}
