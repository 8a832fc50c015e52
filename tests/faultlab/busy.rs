//! Hashing beside processes that take the cores, as threads are held up there
//! in the middle of what they do: every hash is compared with that of another
//! program, or of code that shares nothing with ours.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

use serde_json::Value;

use crate::common::local::Local;
use crate::common::{Ended, Place, run};
use crate::judge;
use crate::lab::{Chance, Lab, Tally};
use crate::rig::{Rig, VAULT};

const MIB: usize = 1 << 20;

/// What `full` does: so many times treehash over 256 MiB, and so many times
/// 1 GiB through chunk and put.
const TREEHASHES: u64 = 400;
const GIBIBYTES: u64 = 64;

/// Small inputs of both kinds in turn; or all that `full` does.
pub fn run_all(lab: &Lab, runs: u64) -> Tally {
    let _busy = [Busy::start(), Busy::start()];
    let is_wanted = |kind: &str| lab.target.as_deref().is_none_or(|target| kind.contains(target));
    if runs < u64::MAX {
        return lab.each(runs, |number, chance| {
            if is_wanted("treehash") && (number % 2 == 0 || !is_wanted("chunk")) {
                let size = 32 * MIB + below(chance, 32 * MIB);
                let place = Place::default();
                treehash(&place, &Random::new(&place, chance, size));
            } else {
                pipeline(chance);
            }
        });
    }
    let place = Place::default();
    let (small, large) = (OnceLock::new(), OnceLock::new());
    let random = |size: usize| Random::new(&place, &mut lab.chance(size as u64), size);
    let turn = Mutex::new(());
    let counts = (
        if is_wanted("treehash") { TREEHASHES } else { 0 },
        if is_wanted("chunk") { GIBIBYTES } else { 0 },
    );
    lab.each(counts.0 + counts.1, |number, _| {
        // One at a time: the busy ones are enough.
        let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        if number < counts.0 {
            treehash(&place, small.get_or_init(|| random(256 * MIB)));
        } else {
            large_pipeline(large.get_or_init(|| random(1024 * MIB)));
        }
    })
}

fn below(chance: &mut Chance, end: usize) -> usize {
    usize::try_from(chance.below(end as u64)).unwrap()
}

/// A process that takes a core, for as long as this is not dropped and who
/// started it lives.
struct Busy(Child);

impl Busy {
    fn start() -> Self {
        let script = "while kill -0 \"$PPID\"; do
            i=0
            while [ \"$i\" -lt 100000 ]; do i=$((i + 1)); done
        done";
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        // One that has ended cannot be killed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A file of random bytes, with its hashes as others have them.
struct Random {
    path: PathBuf,
    size: usize,
    treehash: String,
    sha256: String,
}

impl Random {
    fn new(place: &Place, chance: &mut Chance, size: usize) -> Self {
        let bytes = random(chance, size);
        let path = place.path(format!("random-{size}"));
        fs::write(&path, &bytes).unwrap();
        let treehash = judge::tree_hash(&bytes);
        let sha256 = sha256sum(place, &[&path]).remove(0);
        Self { path, size, treehash, sha256 }
    }
}

fn random(chance: &mut Chance, size: usize) -> Vec<u8> {
    let words = std::iter::repeat_with(|| chance.next().to_le_bytes()).take(size.div_ceil(8));
    let mut bytes: Vec<u8> = words.flatten().collect();
    bytes.truncate(size);
    bytes
}

/// What sha256sum(1) says of files.
fn sha256sum(place: &Place, paths: &[&Path]) -> Vec<String> {
    let said = run(place.command("sha256sum").arg("--").args(paths));
    assert_eq!(said.code(), 0, "sha256sum: {}", said.stderr);
    said.stdout.lines().map(|line| line[..64].to_owned()).collect()
}

#[track_caller]
fn is_content(ended: &Ended, what: &str) {
    assert_eq!((ended.code(), ended.stderr.as_str()), (0, ""), "{what}");
}

fn treehash(place: &Place, random: &Random) {
    let mut tool = place.tool("glacier-treehash", &["--sha256"]);
    let said = run(tool.arg(&random.path));
    is_content(&said, "glacier-treehash");
    let line = said.lines().remove(0);
    assert_eq!(line["size"], random.size);
    assert_eq!(line["treehash"], random.treehash, "the tree hash");
    assert_eq!(line["sha256"], random.sha256, "the linear hash of {} bytes", random.size);
}

/// A stream through chunk, put and get, with the hashes of each part.
fn pipeline(chance: &mut Chance) {
    let size = 8 * MIB + below(chance, 16 * MIB);
    let rig = Rig::raw(random(chance, size), 4 * MIB as u64);
    let lines = rig.place.path("lines");
    let mut chunk = rig.chunk();
    // Into a file, as chunk would wait for put to make room in the spool.
    chunk.stdout(File::create(&lines).unwrap()).stderr(Stdio::piped());
    let chunk = chunk.spawn().unwrap().wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&chunk.stderr).into_owned();
    assert_eq!((chunk.status.code(), said.as_str()), (Some(0), ""), "glacier-chunk");
    let text = fs::read_to_string(&lines).unwrap();
    let parts: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|line| line["type"] == "part")
        .collect();
    assert_eq!(parts.len(), size.div_ceil(MIB), "parts");
    let paths: Vec<PathBuf> = parts.iter().map(|line| part(&rig, line)).collect();
    let paths: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
    let hashes = sha256sum(&rig.place, &paths);
    for (number, (line, (path, hash))) in parts.iter().zip(paths.iter().zip(hashes)).enumerate() {
        let bytes = fs::read(path).unwrap();
        let there = &rig.bytes[number * MIB..size.min((number + 1) * MIB)];
        assert!(bytes == there, "part {number}: other bytes in the spool");
        assert_eq!(line["treehash"], judge::tree_hash(&bytes), "part {number}: the tree hash");
        assert_eq!(line["sha256"], hash, "part {number}: the linear hash");
    }
    let put = run(rig.put().stdin(File::open(&lines).unwrap()));
    is_content(&put, "glacier-put");
    judge::everything(&rig);
}

/// The file of a part in the spool.
fn part(rig: &Rig, line: &Value) -> PathBuf {
    let number = |field: &str| line[field].as_u64().unwrap();
    let name = format!("{:08}-{:04}.part", number("volume"), number("part"));
    rig.spool().join(line["stream"].as_str().unwrap()).join(name)
}

/// As most do it: with parts of 16 MiB, and a vault that is gone afterwards.
fn large_pipeline(random: &Random) {
    let place = Place::default();
    let server = Local::start(&place);
    let mut chunk = place.tool("glacier-chunk", &["--trust-eof", "--name", "x"]);
    chunk.stdin(File::open(&random.path).unwrap()).stdout(Stdio::piped());
    let said = place.path("chunk.err");
    let mut chunk = chunk.stderr(File::create(&said).unwrap()).spawn().unwrap();
    let lines = chunk.stdout.take().unwrap();
    let put = run(server.put(&place, &["--create-vault", VAULT]).stdin(lines));
    let code = chunk.wait().unwrap().code();
    is_content(&put, "glacier-put");
    assert_eq!((code, fs::read_to_string(said).unwrap().as_str()), (Some(0), ""), "glacier-chunk");
    let stored = put.of_type("stored").remove(0);
    assert_eq!(
        (&stored["size"], &stored["treehash"]),
        (&random.size.into(), &random.treehash.clone().into())
    );
}
