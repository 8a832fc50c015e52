//! The one judge: after an attack the same command, run again, must finish
//! the job, and everything that is left must be as if nothing had happened.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::common::{run, run_with};
use crate::rig::{Ran, Rig, VAULT};

const MIB: usize = 1 << 20;

/// How often the same command may have to be run again.
const AGAIN: usize = 5;

/// Right after an attack, before anything is repaired: each part that was
/// announced is in the spool, or in an archive that the catalog names (I2,
/// I3); and there is no manifest without all volumes (I1).
#[track_caller]
pub fn promises(rig: &Rig, ran: &Ran) {
    let archives = rig.server.archives(VAULT);
    let catalog = rig.catalog();
    // A volume that does not fit on the disk is given up, and said to be.
    let gives_up = ran.codes[0] == Some(75) && ran.said[0].contains(" is free");
    let is_whole = |part: &Value| {
        let of_it = |line: &&Value| line["type"] == "volume" && line["volume"] == part["volume"];
        ran.announced.iter().any(|line| of_it(&line))
    };
    for line in &ran.announced {
        if line["type"] != "part" || line["spooled"] == false || gives_up && !is_whole(line) {
            continue;
        }
        let (volume, part) = (line["volume"].as_u64().unwrap(), line["part"].as_u64().unwrap());
        let stream = line["stream"].as_str().unwrap();
        let file = rig.spool().join(stream).join(format!("{volume:08}-{part:04}.part"));
        let in_spool =
            fs::read(file).is_ok_and(|bytes| sha256(&bytes) == line["sha256"].as_str().unwrap());
        let in_archive = archives.iter().any(|held| {
            held.volume() == Some(volume) && catalog.contains(&format!("\"{}\"", held.id))
        });
        assert!(
            in_spool || in_archive,
            "I2, I3: volume {volume} part {part} was announced and is neither in the spool nor in an archive of the catalog"
        );
    }
    let volumes = rig.bytes.len().div_ceil(usize::try_from(rig.volume_size).unwrap());
    if archives.iter().any(|held| held.volume().is_none()) {
        assert!(archives.len() > volumes, "I1: a manifest before all volumes");
    }
}

/// Runs the same command again until it is done, and compares everything.
/// Gives how often it had to be run.
#[track_caller]
pub fn recover(rig: &Rig) -> usize {
    let mut before: Vec<String> = Vec::new();
    loop {
        let ran = rig.start().finish();
        ran.is_documented();
        if ran.is_done() {
            break;
        }
        before.push(format!("{:?} {:?}", ran.codes, ran.said));
        assert!(before.len() < AGAIN, "I4: not done after {AGAIN} runs: {}", before.join(" / "));
    }
    everything(rig);
    before.len() + 1
}

/// Everything that is left of a stream that is stored.
#[track_caller]
pub fn everything(rig: &Rig) {
    let volume_size = usize::try_from(rig.volume_size).unwrap();
    let archives = rig.server.archives(VAULT);
    let volumes: Vec<&[u8]> = rig.bytes.chunks(volume_size).collect();
    let of_volume = |number: usize| {
        let number = u64::try_from(number).unwrap();
        archives.iter().filter(move |held| held.volume() == Some(number))
    };
    let mut ids = BTreeMap::new();
    for (number, bytes) in volumes.iter().enumerate() {
        let held: Vec<_> = of_volume(number).collect();
        assert_eq!(held.len(), 1, "I4: volume {number} is stored {} times", held.len());
        let tree = tree_hash(bytes);
        assert!(rig.server.content(VAULT, &held[0].id) == *bytes, "volume {number}: other bytes");
        assert_eq!(held[0].treehash, tree, "volume {number}: tree hash");
        assert_eq!(held[0].description["kind"], "volume");
        ids.insert(held[0].id.clone(), tree);
    }
    let manifests: Vec<_> = archives.iter().filter(|held| held.volume().is_none()).collect();
    assert_eq!(manifests.len(), 1, "manifests");
    assert_eq!(manifests[0].description["kind"], "manifest");
    assert_eq!(archives.len(), volumes.len() + 1, "archives that nobody knows");
    let manifest = rig.server.content(VAULT, &manifests[0].id);
    assert_eq!(manifests[0].treehash, tree_hash(&manifest), "manifest: tree hash");
    let name = catalog(rig, &ids, &manifests[0].id);
    spool(rig);
    assert!(rig.is_untouched(), "I6: files around the spool were touched");
    restored(rig, &name);
}

/// The catalog names what is there and nothing else. Gives the stream's name.
#[track_caller]
fn catalog(rig: &Rig, ids: &BTreeMap<String, String>, manifest: &str) -> String {
    let text = rig.catalog();
    // A torn line is what a writer left that died in the middle of it.
    let lines: Vec<Value> =
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let deleted: BTreeSet<&str> = lines
        .iter()
        .filter(|line| line["type"] == "deleted")
        .filter_map(|line| line["archive_id"].as_str())
        .collect();
    // What was deleted, and is there again under another name, counts no more.
    let is_there = |line: &&Value| {
        let id = line["archive_id"].as_str().or(line["manifest_id"].as_str());
        id.is_none_or(|id| !deleted.contains(id))
    };
    let of = |kind: &'static str| lines.iter().filter(move |l| l["type"] == kind).filter(is_there);
    let mut named = BTreeMap::new();
    for line in of("archive") {
        let id = line["archive_id"].as_str().unwrap().to_owned();
        named.insert(id, line["treehash"].as_str().unwrap().to_owned());
    }
    assert_eq!(&named, ids, "the catalog's archives");
    let stored: Vec<&Value> = of("stored").collect();
    assert!(!stored.is_empty(), "no stored line");
    for line in &stored {
        assert_eq!(line["manifest_id"], manifest, "the catalog's manifest");
        assert_eq!(line["size"].as_u64(), u64::try_from(rig.bytes.len()).ok(), "size");
        assert_eq!(line["treehash"], tree_hash(&rig.bytes), "tree hash of the stream");
    }
    stored[0]["name"].as_str().unwrap().to_owned()
}

/// Only the receipt is left.
#[track_caller]
fn spool(rig: &Rig) {
    let mut left: Vec<String> = fs::read_dir(rig.spool())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort_unstable();
    assert_eq!(left, ["done"], "left in the spool");
}

/// What comes back is what went in.
#[track_caller]
fn restored(rig: &Rig, name: &str) {
    let mut lines = rig.catalog();
    if !rig.is_based {
        let chain = run_with(&mut rig.tool("glacier-chain", &[name]), lines.as_bytes());
        assert_eq!(chain.code(), 0, "chain: {}", chain.stderr);
        lines = chain.stdout;
    }
    fs::write(rig.place.path("chain"), lines).unwrap();
    let back = rig.place.path("back");
    let mut get = rig.tool("glacier-get", &["--tier", "Expedited", "--", "dd"]);
    get.arg(format!("of={}", back.display())).arg("status=none");
    get.stdin(fs::File::open(rig.place.path("chain")).unwrap());
    let got = run(&mut get);
    assert_eq!(got.code(), 0, "get: {}", got.stderr);
    assert!(fs::read(back).unwrap() == rig.bytes, "I5: other bytes came back");
}

/// SHA-256 as catalogs write it.
pub fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// The tree hash, as Amazon's page describes it; shares no code with ours.
pub fn tree_hash(bytes: &[u8]) -> String {
    let mut level: Vec<Vec<u8>> =
        bytes.chunks(MIB).map(|leaf| Sha256::digest(leaf).to_vec()).collect();
    if level.is_empty() {
        level.push(Sha256::digest(b"").to_vec());
    }
    while level.len() > 1 {
        level = level
            .chunks(2)
            .map(|pair| match pair {
                [left, right] => Sha256::digest([left.as_slice(), right].concat()).to_vec(),
                _ => pair[0].clone(),
            })
            .collect();
    }
    hex::encode(&level[0])
}
