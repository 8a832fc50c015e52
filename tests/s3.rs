//! Buckets, at servers that are not ours: what goes in comes back, whatever
//! ends meanwhile.

#[path = "common/buckets.rs"]
mod buckets;

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use buckets::{Buckets, KEY, REGION, SECRET};
use serde_json::Value;

use crate::common::local::{catalog, pattern, sorted};
use crate::common::{Ended, Place, run, run_with, skip, start, until};

const MIB: usize = 1 << 20;

/// How to cut in these tests.
const CUT: [&str; 8] =
    ["--name", "photos.tar", "--part-size", "8M", "--volume-size", "16M", "--spool-limit", "none"];

/// A machine and its bucket.
struct Scene {
    place: Place,
    server: &'static Buckets,
    dest: String,
}

impl Scene {
    fn new(server: Result<&'static Buckets, &'static str>) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let server = server.map_err(skip).ok()?;
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let dest = format!("s3://bucket-{}-{count}/nas/tank", std::process::id());
        Some(Self { place: Place::default(), server, dest })
    }

    fn seaweed() -> Option<Self> {
        Self::new(Buckets::seaweed())
    }

    fn stack() -> Option<Self> {
        Self::new(Buckets::stack())
    }

    /// The same bucket, and nothing else.
    fn elsewhere(&self) -> Self {
        Self { place: Place::default(), server: self.server, dest: self.dest.clone() }
    }

    /// What a program that speaks to the bucket is told.
    fn told<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command
            .env("AWS_ACCESS_KEY_ID", KEY)
            .env("AWS_SECRET_ACCESS_KEY", SECRET)
            .env("AWS_REGION", REGION)
            .env("AWS_ENDPOINT_URL", &self.server.endpoint)
            .env("GLACIER_DEST", &self.dest)
    }

    fn tool(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = self.place.tool(name, arguments);
        self.told(&mut command);
        command
    }

    fn cut(&self, bytes: &[u8]) -> Vec<u8> {
        let mut chunk = self.place.tool("glacier-chunk", &CUT);
        let ended = run_with(chunk.arg("--trust-eof"), bytes);
        assert_eq!(ended.code(), 0, "{}", ended.stderr);
        ended.stdout.into_bytes()
    }

    fn put(&self, bytes: &[u8], options: &[&str]) -> Ended {
        let lines = self.cut(bytes);
        run_with(&mut self.tool("glacier-put", options), &lines)
    }

    fn chain(&self) -> Vec<u8> {
        let text = catalog(&self.place);
        let mut chain = self.place.tool("glacier-chain", &["photos.tar"]);
        run_with(&mut chain, text.as_bytes()).done().stdout.into_bytes()
    }

    fn get(&self, options: &[&str]) -> Ended {
        let mut arguments = vec!["--output", "out"];
        arguments.extend(options);
        let mut get = self.tool("glacier-get", &arguments);
        run_with(get.current_dir(self.place.path("")), &self.chain())
    }

    fn list(&self, arguments: &[&str]) -> Ended {
        run(&mut self.tool("glacier-ls", arguments))
    }

    /// The keys of all that is there, with their classes.
    fn keys(&self) -> Vec<(String, String)> {
        let text = |line: &Value, field: &str| line[field].as_str().unwrap().to_owned();
        let listed = self.list(&["inventory"]).done().of_type("inventoried");
        listed.iter().map(|line| (text(line, "archive_id"), text(line, "class"))).collect()
    }
}

/// The lines of a catalog, but for those that only a manifest has.
fn books(text: &str) -> String {
    text.lines().filter(|line| !line.contains("\"type\":\"inventory\"")).fold(
        String::new(),
        |mut all, line| {
            all.push_str(line);
            all.push('\n');
            all
        },
    )
}

#[test]
fn a_stream_goes_into_a_bucket_and_comes_back_from_nothing() {
    for scene in [Scene::seaweed(), Scene::stack()] {
        let Some(scene) = scene else { continue };
        let bytes = pattern(50 * MIB + 17);
        let put = scene.put(&bytes, &["--create-bucket"]).done();
        assert_eq!(put.stdout, catalog(&scene.place), "what is printed is in the catalog");
        for line in put.of_type("archive") {
            assert_eq!(line["class"], "DEEP_ARCHIVE");
            assert!(line["composite"].is_string() && line["etag"].is_string(), "{line}");
        }
        let keys = scene.keys();
        let (manifests, volumes): (Vec<_>, Vec<_>) =
            keys.iter().partition(|(key, _)| key.starts_with("manifests/"));
        assert!(manifests.len() == 1 && manifests[0].1 == "STANDARD", "{manifests:?}");
        assert!(volumes.len() == 4 && volumes.iter().all(|(_, class)| class == "DEEP_ARCHIVE"));
        assert!(keys.iter().all(|(key, _)| !key.contains("photos")), "no name is in a key");
        // Nothing is sent twice, and a lost catalog is made again.
        assert_eq!(sorted(&scene.put(&bytes, &[]).done().stdout), sorted(&put.stdout));
        let bare = scene.elsewhere();
        let rebuilt = bare.list(&["inventory", "--rebuild"]).done().stdout;
        assert_eq!(sorted(&books(&rebuilt)), sorted(&put.stdout));
        fs::write(bare.place.path("catalog.jsonl"), books(&rebuilt)).unwrap();
        bare.list(&["inventory", "--diff", "catalog.jsonl"]);
        bare.get(&["--tier", "Bulk"]).done();
        assert!(fs::read(bare.place.path("out")).unwrap() == bytes, "{}", scene.dest);
    }
}

#[test]
fn what_is_cold_is_asked_for_once_and_read_when_it_is_up() {
    let Some(scene) = Scene::stack() else { return };
    let bytes = pattern(20 * MIB);
    scene.put(&bytes, &["--create-bucket"]).done();
    // What no tier brings up is told before anything is asked.
    let deep = scene.get(&["--tier", "Expedited"]);
    assert_eq!(deep.code(), 69, "{}", deep.stderr);
    assert!(deep.stderr.contains("DEEP_ARCHIVE has no Expedited retrievals"), "{}", deep.stderr);
    let early = scene.get(&["--no-wait"]);
    assert_eq!(early.code(), 75, "{}", early.stderr);
    let jobs = scene.list(&["jobs"]).done().of_type("retrieval");
    assert_eq!(jobs.len(), 2, "{jobs:?}");
    until("it comes up", || scene.get(&["--no-wait"]).code() == 0);
    assert!(fs::read(scene.place.path("out")).unwrap() == bytes);
    // What can be read as it is, is.
    let Some(scene) = Scene::stack() else { return };
    scene.put(&bytes, &["--create-bucket", "--storage-class", "GLACIER_IR"]).done();
    scene.get(&["--no-wait"]).done();
    assert!(fs::read(scene.place.path("out")).unwrap() == bytes);
}

#[test]
fn a_put_that_is_killed_goes_on() {
    let Some(scene) = Scene::seaweed() else { return };
    let bytes = pattern(64 * MIB);
    let lines = scene.cut(&bytes);
    let input = scene.place.path("lines.jsonl");
    fs::write(&input, lines).unwrap();
    let mut put = scene.tool("glacier-put", &["--create-bucket"]);
    let mut put = start(put.stdin(File::open(&input).unwrap()));
    until("a volume is stored", || catalog(&scene.place).contains("\"type\":\"archive\""));
    put.kill();
    put.finish();
    let before = scene.keys().len();
    assert!(before < 5, "it was not at its end");
    scene.put(&bytes, &[]).done();
    assert_eq!(scene.list(&["uploads"]).done().stdout, "", "nothing is left that would cost");
    assert_eq!(scene.keys().len(), 5);
    scene.get(&["--tier", "Bulk"]).done();
    assert!(fs::read(scene.place.path("out")).unwrap() == bytes);
}

#[test]
fn nothing_in_a_bucket_is_replaced() {
    let Some(scene) = Scene::seaweed() else { return };
    let (ours, theirs) = (pattern(20 * MIB), vec![7; 20 * MIB]);
    scene.put(&ours, &["--create-bucket"]).done();
    let keys = scene.keys();
    // A machine that lost its books is told how they come back; one that uses
    // the same prefix, that it needs another.
    let lost = scene.elsewhere().put(&ours, &[]);
    assert_eq!(lost.code(), 78, "{}", lost.stderr);
    let refused = scene.elsewhere().put(&theirs, &["--assume-new"]);
    assert_eq!(refused.code(), 65, "{}", refused.stderr);
    let says = "something else stands there: its hash differs; nothing is replaced; each machine needs a prefix of its own";
    assert!(refused.stderr.contains(says), "{}", refused.stderr);
    assert_eq!(scene.keys(), keys);
    scene.get(&["--tier", "Bulk"]).done();
    assert!(fs::read(scene.place.path("out")).unwrap() == ours);
}

#[test]
fn what_a_bucket_does_not_take_is_told_before_anything_is_sent() {
    let Some(scene) = Scene::stack() else { return };
    let cut = |size: &str| {
        let arguments = ["--name", "x", "--trust-eof", "--part-size", size];
        run_with(&mut scene.place.tool("glacier-chunk", &arguments), b"x").done().stdout
    };
    let put = |lines: &str, options: &[&str]| {
        run_with(&mut scene.tool("glacier-put", options), lines.as_bytes())
    };
    let small = put(&cut("4M"), &[]);
    assert_eq!(small.code(), 64, "{}", small.stderr);
    assert!(small.stderr.contains("--part-size is 8 MiB to 4 GiB"), "{}", small.stderr);
    let missing = put(&cut("8M"), &[]);
    assert_eq!(missing.code(), 69, "{}", missing.stderr);
    assert!(missing.stderr.ends_with("; --create-bucket makes one\n"), "{}", missing.stderr);
    let class = put(&cut("8M"), &["--storage-class", "deep"]);
    assert_eq!(class.code(), 64, "{}", class.stderr);
    let vault = put(&cut("8M"), &["--storage-class", "GLACIER", "a-vault"]);
    assert_eq!(vault.code(), 64, "{}", vault.stderr);
}

#[test]
fn what_a_bucket_costs_is_that_of_its_class() {
    let Some(scene) = Scene::stack() else { return };
    scene.put(&pattern(20 * MIB), &["--create-bucket"]).done();
    let chain = scene.chain();
    let plan = |options: &[&str]| {
        let mut arguments = vec!["--plan"];
        arguments.extend(options);
        run_with(&mut scene.tool("glacier-get", &arguments), &chain)
    };
    let tiers: Vec<String> = plan(&[])
        .done()
        .of_type("restore")
        .iter()
        .map(|line| format!("{} {}", line["tier"].as_str().unwrap(), line["minutes_most"]))
        .collect();
    assert_eq!(tiers, ["Standard 720", "Bulk 2880"]);
    let dear = plan(&["--max-cost", "0.00001"]);
    assert_eq!(dear.code(), 1, "{}", dear.stderr);
    assert!(dear.stderr.contains("usual retrieval"), "{}", dear.stderr);
}

#[test]
fn what_is_deleted_is_gone_and_so_are_uploads() {
    let Some(scene) = Scene::seaweed() else { return };
    let bytes = pattern(20 * MIB);
    scene.put(&bytes, &["--create-bucket"]).done();
    let mut rm = scene.tool("glacier-rm", &["--yes"]);
    let archives = run_with(
        &mut scene.place.tool("glacier-ls", &["archives"]),
        catalog(&scene.place).as_bytes(),
    );
    let gone = run_with(&mut rm, archives.done().stdout.as_bytes());
    assert_eq!(gone.code(), 0, "{}", gone.stderr);
    assert!(scene.keys().iter().all(|(key, _)| key.starts_with("manifests/")));
    // It is stored again, under another key: what was deleted stays deleted.
    let again = scene.put(&bytes, &[]).done();
    assert!(again.stdout.contains("/1/00000.volume"), "{}", again.stdout);
    scene.get(&["--tier", "Bulk"]).done();
    assert!(fs::read(scene.place.path("out")).unwrap() == bytes);
}

#[test]
fn boto3_reads_what_was_stored_and_its_hashes() {
    let Some(scene) = Scene::seaweed() else { return };
    let bytes = pattern(20 * MIB);
    scene.put(&bytes, &["--create-bucket"]).done();
    let program = r#"
import base64, boto3, hashlib, json, os, sys
bucket, prefix = os.environ["GLACIER_DEST"][5:].split("/", 1)
s3, all = boto3.client("s3"), b""
keys = [o["Key"] for o in s3.list_objects_v2(Bucket=bucket, Prefix=prefix + "/volumes/")["Contents"]]
for key in sorted(keys):
    head = s3.head_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")
    about = json.loads(head["Metadata"]["akashita"])
    assert about["kind"] == "volume" and about["name"] == "photos.tar", about
    body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    parts = [hashlib.sha256(body[i:i + (8 << 20)]).digest() for i in range(0, len(body), 8 << 20)]
    sum = base64.b64encode(hashlib.sha256(b"".join(parts)).digest()).decode()
    assert head["ChecksumSHA256"] == "%s-%d" % (sum, len(parts)), head["ChecksumSHA256"]
    all += body
sys.stdout.write(hashlib.sha256(all).hexdigest())
"#;
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/python/bin/python");
    let python = std::env::var_os("AKASHITA_PYTHON").map_or(python, Into::into);
    let mut client = scene.place.command(python.to_str().unwrap());
    scene.told(client.args(["-c", program]).env("AWS_DEFAULT_REGION", REGION));
    let told = run(&mut client);
    assert_eq!(told.code(), 0, "{}", told.stderr);
    assert_eq!(told.stdout, akashita::hash::tree::Hash::of(&bytes).to_string());
}
