//! glacier-rm against glacier-local.

mod bases;
mod crashes;
mod refusals;
mod spooled;
mod vaults;

use std::fs;
use std::process::Command;

use crate::common::local::{Local, catalog, files, pattern};
use crate::common::{Ended, Place, run_with};
use serde_json::{Value, json};

const MIB: usize = 1 << 20;

/// A server, and a place that stores in its vault `v`.
struct Scene {
    place: Place,
    server: Local,
}

impl Default for Scene {
    fn default() -> Self {
        Self::with_faults("")
    }
}

impl Scene {
    fn with_faults(plan: &str) -> Self {
        let place = Place::default();
        let server = Local::with_faults(&place, 600, plan);
        Self { place, server }
    }

    /// What glacier-chunk prints of bytes, in parts of 1 MiB and volumes of 2.
    fn chunk(&self, name: Option<&str>, bytes: &[u8]) -> String {
        let sizes = ["--part-size", "1M", "--volume-size", "2M", "--spool-limit", "none"];
        let mut chunk = self.place.tool("glacier-chunk", &sizes);
        chunk.args(name.into_iter().flat_map(|name| ["--trust-eof", "--name", name]));
        run_with(&mut chunk, bytes).done().stdout
    }

    fn put(&self, lines: &str) -> Ended {
        let mut put = self.server.put(&self.place, &["--create-vault", "v"]);
        run_with(&mut put, lines.as_bytes())
    }

    /// Stores bytes; gives the catalog lines.
    fn store(&self, name: &str, bytes: &[u8]) -> String {
        self.put(&self.chunk(Some(name), bytes)).done().stdout
    }

    /// Stores three snapshots, each based on the one before; their lines.
    fn chain(&self) -> [String; 3] {
        ["full", "incremental-1", "incremental-2"].map(|name| {
            let bytes = fs::read(format!("tests/streams/{name}.zfs")).unwrap();
            self.put(&self.chunk(None, &bytes)).done().stdout
        })
    }

    fn tool(&self, arguments: &[&str]) -> Command {
        let mut rm = self.place.tool("glacier-rm", arguments);
        self.server.client(&mut rm);
        rm
    }

    fn rm(&self, arguments: &[&str], lines: &str) -> Ended {
        run_with(&mut self.tool(arguments), lines.as_bytes())
    }

    /// Deletes what the lines name.
    fn delete(&self, lines: &str) -> Ended {
        self.rm(&["--yes", "v"], lines)
    }

    /// The `deleted` lines of archives in the catalog.
    fn deleted(&self) -> Vec<Value> {
        let text = catalog(&self.place);
        let lines = text.lines().filter(|line| line.starts_with(r#"{"type":"deleted""#));
        lines.map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn held(&self) -> usize {
        self.server.archives("v").len()
    }

    /// What chain and get bring back of a stream of bytes.
    fn restored(&self, name: &str) -> Vec<u8> {
        let mut chain = self.place.tool("glacier-chain", &[name]);
        let chain = run_with(&mut chain, catalog(&self.place).as_bytes()).done().stdout;
        let options = ["--tier", "Expedited", "--", "dd", "of=back", "status=none"];
        let mut get = self.place.tool("glacier-get", &options);
        run_with(self.server.client(&mut get), chain.as_bytes()).done();
        fs::read(self.place.path("back")).unwrap()
    }
}

/// The lines of some types.
fn only(lines: &str, types: &[&str]) -> String {
    let is_of = |line: &str, of: &str| line.starts_with(&format!("{{\"type\":\"{of}\""));
    let lines = lines.split_inclusive('\n');
    lines.filter(|line| types.iter().any(|of| is_of(line, of))).collect()
}

/// The archives that lines name, manifests too.
fn ids(lines: &[Value]) -> Vec<String> {
    let id = |line: &Value| {
        line["archive_id"].as_str().or(line["manifest_id"].as_str()).map(str::to_owned)
    };
    let mut ids: Vec<String> = lines.iter().filter_map(id).collect();
    ids.sort_unstable();
    ids
}

fn parsed(lines: &str) -> Vec<Value> {
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_dry_run_says_what_would_go_and_deletes_nothing() {
    let scene = Scene::default();
    let stored = scene.store("x", &pattern(4 * MIB + 5));
    let then = catalog(&scene.place);
    let ended = scene.rm(&["v"], &stored);
    assert_eq!(ended.code(), 0);
    let stream = &parsed(&stored)[0]["stream"];
    let size = 4 * MIB + 5;
    assert_eq!(
        ended.lines(),
        [json!({"type": "doomed", "stream": stream, "name": "x", "dest": "glacier://v",
            "archives": 4, "size": size})]
    );
    let warning = "glacier-rm: warning: 4 archives and 0 uploads, 4 MiB: nothing is deleted \
                   without --yes\n";
    assert_eq!(ended.stderr, warning);
    assert_eq!((scene.held(), catalog(&scene.place)), (4, then));
    assert_eq!(scene.server.calls("DeleteArchive"), 0);
}

#[test]
fn a_stream_goes_with_its_manifest_and_the_catalog_says_so() {
    let scene = Scene::default();
    let stored = scene.store("x", &pattern(4 * MIB + 5));
    let kept = scene.store("y", &pattern(MIB));
    // No line names the manifest.
    let ended = scene.delete(&only(&stored, &["archive"])).done();
    assert_eq!(scene.held(), 2);
    assert_eq!(ids(&ended.lines()), ids(&parsed(&stored)));
    assert_eq!(scene.deleted(), ended.lines());
    let last = ended.lines().pop().unwrap();
    assert_eq!((&last["volume"], &last["name"]), (&Value::Null, &json!("x")));
    assert_eq!((&last["dest"], &last["region"]), (&json!("glacier://v"), &json!("eu-central-1")));
    assert!(ended.lines().iter().all(|line| line["deleted"].is_string()));
    // Its receipt is no more; that of the other is.
    let receipts = files(&scene.place.spool());
    let other = parsed(&kept)[0]["stream"].as_str().unwrap().to_owned();
    assert_eq!(receipts.len(), 1, "{receipts:?}");
    assert!(receipts[0].to_str().unwrap().contains(&other));

    // Again: nothing is asked, nothing said.
    let again = scene.delete(&stored).done();
    assert_eq!((again.stdout.as_str(), scene.deleted().len()), ("", 4));
    assert_eq!(scene.server.calls("DeleteArchive"), 4);
    assert_eq!(scene.restored("y"), pattern(MIB));
}

#[test]
fn all_lines_of_a_chain_are_enough_and_the_last_goes_first() {
    let scene = Scene::default();
    let all = scene.chain().concat();
    let held = scene.held();
    let ended = scene.delete(&all).done();
    assert_eq!(ended.lines().len(), held);
    let names: Vec<Value> = ended.lines().iter().map(|line| line["name"].clone()).collect();
    let mut order = names.clone();
    order.dedup();
    assert_eq!(order, ["tank/home@wed", "tank/home@tue", "tank/home@mon"], "none twice");
    assert_eq!(scene.held(), 0);
    assert!(scene.delete("").done().stdout.is_empty(), "no line is no failure");
}

#[test]
fn the_end_of_a_chain_may_go_and_the_rest_is_restored() {
    let scene = Scene::default();
    let [_, _, last] = scene.chain();
    scene.delete(&last).done();
    let chain = scene.place.tool("glacier-chain", &["tank/home@tue"]);
    let mut chain = chain;
    run_with(&mut chain, catalog(&scene.place).as_bytes()).done();
}

#[test]
fn what_is_deleted_is_stored_anew_and_comes_back() {
    let scene = Scene::default();
    let bytes = pattern(4 * MIB + 5);
    let stored = scene.store("x", &bytes);
    scene.delete(&stored).done();
    let again = scene.store("x", &bytes);
    assert_eq!(scene.held(), 4);
    let (then, now) = (ids(&parsed(&stored)), ids(&parsed(&again)));
    assert!(now.iter().all(|id| !then.contains(id)));
    assert_eq!(scene.restored("x"), bytes);
    // And may go again, old lines or new.
    let ended = scene.delete(&catalog(&scene.place)).done();
    assert_eq!(ids(&ended.lines()), now);
    assert_eq!(scene.held(), 0);
}

#[test]
fn an_inventory_deletes_what_is_ours_and_leaves_the_rest_alone() {
    let scene = Scene::default();
    let stored = scene.store("x", &pattern(MIB));
    let inventoried = |id: &Value, of: Value| {
        let mut line = json!({"type": "inventoried", "dest": "glacier://v",
            "region": "eu-central-1", "archive_id": id, "size": 1,
            "treehash": "0".repeat(64), "uploaded": "2026-11-25T00:00:00Z",
            "inventory": "2026-11-25T00:00:00Z"});
        line.as_object_mut().unwrap().extend(of.as_object().unwrap().clone());
        format!("{line}\n")
    };
    let archive = &parsed(&only(&stored, &["archive"]))[0];
    let ours = json!({"kind": "volume", "stream": archive["stream"], "volume": 0, "name": "x"});
    let lines = inventoried(&json!("foreign"), json!({"description": "photos"}))
        + &inventoried(&archive["archive_id"], ours);
    let ended = scene.delete(&lines);
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert_eq!(ended.lines().len(), 2, "with its manifest");
    let warning = "stdin: 1 archives or uploads of other programs are left alone";
    assert_eq!(ended.stderr, format!("glacier-rm: warning: {warning}\n"));
    assert_eq!((scene.held(), scene.server.calls("DeleteArchive")), (0, 2));
}

#[test]
fn volumes_that_another_attempt_left_behind_break_nothing() {
    let scene = Scene::default();
    let mut bytes = pattern(4 * MIB);
    let lines = scene.chunk(Some("x"), &bytes);
    let two: String = lines.split_inclusive('\n').take(4).collect();
    assert_eq!(scene.put(&two).code(), 75);
    bytes[0] ^= 1;
    // The first run sees that a stored volume has changed, the second heals.
    let sizes = ["--part-size", "1M", "--volume-size", "2M", "--spool-limit", "none"];
    let mut chunk = scene.place.tool("glacier-chunk", &sizes);
    chunk.args(["--trust-eof", "--name", "x"]);
    assert_eq!(run_with(&mut chunk, &bytes).code(), 75);
    let healed = run_with(&mut chunk, &bytes).done().stdout;
    assert_eq!(scene.put(&healed).code(), 0);
    assert_eq!(scene.held(), 4);
    let orphan = catalog(&scene.place)
        .split_inclusive('\n')
        .find(|line| line.starts_with(r#"{"type":"archive""#))
        .unwrap()
        .to_owned();
    let ended = scene.delete(&orphan).done();
    assert_eq!(ended.lines().len(), 1);
    assert_eq!(scene.restored("x"), bytes);
}
