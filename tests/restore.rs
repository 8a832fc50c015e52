//! The way back of real ZFS streams: chunk, put, chain and get in a row,
//! against glacier-local.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::common::{Ended, Place, Running, run_with, start};

const CHAIN: [&str; 3] = ["full.zfs", "incremental-1.zfs", "incremental-2.zfs"];

/// Notes that it ran, and takes each stream into a file numbered by its turn.
const COLLECT: &str = "echo run >>ran; exec cat >got$(grep -c run ran)";

/// A machine with a spool and a catalog, and a Glacier of its own.
struct Scene {
    place: Place,
    endpoint: String,
    _server: Running,
}

impl Scene {
    fn new() -> Self {
        let place = Place::default();
        let arguments = ["--root", "root", "--log", "log", "--clock-speed", "7200"];
        let mut server = start(&mut place.tool("glacier-local", &arguments));
        let endpoint = server.line_of("listening")["endpoint"].as_str().unwrap().to_owned();
        Self { place, endpoint, _server: server }
    }

    /// Stores a stream, in volumes of one MiB.
    fn store(&self, input: &str, options: &str) {
        let chunk = "glacier-chunk --part-size 1M --volume-size 1M";
        let script = format!("{chunk} {options} | glacier-put --create-vault cold >stored");
        self.pipe(&script, bytes(input)).done();
    }

    /// A catalog with the three streams of a chain.
    fn with_chain() -> Self {
        let scene = Self::new();
        for name in CHAIN {
            scene.store(name, "");
        }
        scene
    }

    /// The lines of the catalog.
    fn catalog(&self) -> Vec<String> {
        let text = fs::read_to_string(self.place.path("catalog.jsonl")).unwrap();
        text.lines().filter(|line| !line.is_empty()).map(|line| format!("{line}\n")).collect()
    }

    /// A pipe of the shell, with this as its standard input.
    fn pipe(&self, script: &str, input: impl AsRef<[u8]>) -> Ended {
        let bin = Path::new(env!("CARGO_BIN_EXE_glacier-get")).parent().unwrap();
        let mut path = std::ffi::OsString::from(bin);
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap());
        let mut shell = self.place.command("sh");
        shell
            .args(["-c", script])
            .env("PATH", path)
            .env("COLLECT", COLLECT)
            .env("AWS_ENDPOINT_URL", &self.endpoint)
            .env("AWS_REGION", "us-east-1")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_SHARED_CREDENTIALS_FILE", self.place.path("root/credentials"));
        run_with(&mut shell, input.as_ref())
    }

    /// What the runs of the command were given, in order.
    fn collected(&self) -> Vec<Vec<u8>> {
        (1..).map_while(|n| fs::read(self.place.path(format!("got{n}"))).ok()).collect()
    }

    /// How many calls the server took.
    fn calls(&self) -> usize {
        fs::read_to_string(self.place.path("log")).unwrap().lines().count()
    }
}

fn stream(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/streams").join(name)
}

fn bytes(name: &str) -> Vec<u8> {
    fs::read(stream(name)).unwrap()
}

fn kind(line: &str) -> &str {
    line.split('"').nth(3).unwrap()
}

const RESTORE: &str =
    r#"glacier-chain tank/home@wed | glacier-get --tier Expedited -- sh -c "$COLLECT""#;

#[test]
fn a_chain_comes_back_as_three_runs_of_a_command_in_order() {
    let scene = Scene::with_chain();
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for line in scene.catalog() {
        *kinds.entry(kind(&line).to_owned()).or_default() += 1;
    }
    assert_eq!(kinds["stored"], 3);
    assert_eq!(kinds["archive"], 3 + 1 + 2, "volumes");

    let ended = scene.pipe(RESTORE, scene.catalog().concat()).done();
    assert_eq!(ended.stdout, "");
    assert!(scene.collected() == CHAIN.map(bytes));
}

#[test]
fn a_chain_does_not_come_back_as_one_stream() {
    let scene = Scene::with_chain();
    let before = scene.calls();
    let script = "glacier-chain tank/home@wed | glacier-get --tier Expedited";
    let ended = scene.pipe(script, scene.catalog().concat());
    assert_eq!((ended.code(), ended.stdout.as_str()), (65, ""), "{}", ended.stderr);
    assert_eq!(scene.calls(), before, "nothing was asked");
}

/// Every line by which bytes are found or checked must be there. `snapshot`
/// lines, by which a chain through a compound stream is found, and the head
/// of a chain are not of these: without them the same comes back.
#[test]
fn a_line_that_lacks_gives_not_one_byte() {
    let scene = Scene::with_chain();
    let catalog = scene.catalog();
    let chain = scene.pipe("glacier-chain tank/home@wed", catalog.concat()).done().stdout;
    let chain: Vec<String> = chain.lines().map(|line| format!("{line}\n")).collect();
    assert_eq!(chain.len(), catalog.len() + 1, "all lines, and a head");
    let direct = r#"glacier-get --tier Expedited -- sh -c "$COLLECT""#;
    let before = scene.calls();
    let mut needed = 0;
    for (script, lines) in [(RESTORE, &catalog), (direct, &chain)] {
        for left_out in 0..lines.len() {
            let mut rest = lines.clone();
            let line = rest.remove(left_out);
            if matches!(kind(&line), "snapshot" | "chain") {
                continue;
            }
            needed += 1;
            let ended = scene.pipe(script, rest.concat());
            // Without one of these a pipe may have been cut.
            let cut = script == direct && kind(&line) == "stored";
            let code = if cut { 75 } else { 65 };
            assert_eq!(ended.code(), code, "{script} without {line}{}", ended.stderr);
            assert_eq!(ended.stdout, "", "{script} without {line}");
            assert!(!scene.place.path("ran").exists(), "{script} ran it without {line}");
        }
    }
    assert_eq!(needed, 2 * (2 * 6 + 3), "hashes and archive of six volumes, and three stored");
    // A chain that was cut short is not taken for a shorter one.
    for count in 0..chain.len() {
        let ended = scene.pipe(direct, chain[..count].concat());
        let code = if count == 0 { 65 } else { 75 };
        assert_eq!((ended.code(), ended.stdout.as_str()), (code, ""), "{count}: {}", ended.stderr);
        assert!(!scene.place.path("ran").exists(), "{count}");
    }
    assert_eq!(scene.calls(), before, "no job was started, nor anything else asked");

    let rest = catalog.into_iter().filter(|line| kind(line) != "snapshot").collect::<String>();
    scene.pipe(RESTORE, rest).done();
    assert!(scene.collected() == CHAIN.map(bytes));
}

#[test]
fn a_raw_and_a_compound_stream_come_back_as_they_went() {
    let scene = Scene::new();
    let (raw, tree, replica) =
        ("encrypted-raw-w-incremental.zfs", "incremental-I.zfs", "replication-R-I.zfs");
    scene.store(raw, "");
    let refused = scene.pipe("glacier-chunk", bytes(tree));
    assert_eq!(refused.code(), 65, "no proof: {}", refused.stderr);
    scene.store(tree, "--trust-eof");
    fs::copy(stream(replica), scene.place.path(replica)).unwrap();
    scene.store(replica, &format!("-- cat {replica}"));

    // Their bases were never stored, so no chain restores them: each is
    // picked by hand.
    let catalog = scene.catalog();
    let stored: Vec<&String> = catalog.iter().filter(|line| kind(line) == "stored").collect();
    assert_eq!(stored.len(), 3);
    for (stored, name) in stored.into_iter().zip([raw, tree, replica]) {
        let id = stored.split("\"stream\":\"").nth(1).unwrap().split('"').next().unwrap();
        let chain = scene.pipe(&format!("glacier-chain {id}"), catalog.concat());
        assert_eq!(chain.code(), 65, "{name}: {}", chain.stderr);
        let own = catalog.iter().filter(|line| line.contains(id)).cloned().collect::<String>();
        scene.pipe("glacier-get --tier Expedited >back", own).done();
        assert!(fs::read(scene.place.path("back")).unwrap() == bytes(name), "{name}");
    }
}
