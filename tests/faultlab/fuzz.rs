//! The fuzz targets: a share of changed corpus inputs from the seed, and
//! cargo-fuzz for as many seconds a target as it is given, from a minute on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::lab::{Chance, Lab, Tally};
use crate::targets::{TARGETS, Target};

/// Changed inputs of the corpus.
const CHANGED: u64 = 3000;

/// Below this many seconds a target, building for cargo-fuzz is not worth it.
const WORTH_IT: u64 = 60;

/// Targets at the same time.
const AT_ONCE: usize = 3;

/// Runs each target.
pub fn run(lab: &Lab, seconds: u64) -> Tally {
    let corpora: Vec<(Target, Vec<Vec<u8>>)> =
        TARGETS.iter().map(|target| (*target, corpus(target.0))).collect();
    let mut tally = lab.each(CHANGED, |_, chance| {
        let ((_, target), inputs) = chance.of(&corpora);
        let (_, others) = chance.of(&corpora);
        let other = chance.of(others);
        let data = chance.of(inputs);
        target(&changed(data, other, chance));
    });
    if seconds < WORTH_IT || lab.only.is_some() {
        return tally;
    }
    let known = cargo_fuzz().arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !known.is_ok_and(|status| status.success()) {
        tally.skipped = Some("no cargo-fuzz; cargo install cargo-fuzz".to_owned());
        return tally;
    }
    if let Err(why) = build() {
        tally.violated(format!("fuzz: {why}"));
        return tally;
    }
    let wanted = |name: &str| lab.target.as_deref().is_none_or(|target| target == name);
    let targets: Vec<&Target> = TARGETS.iter().filter(|(name, _)| wanted(name)).collect();
    let next = AtomicUsize::new(0);
    let tally = Mutex::new(tally);
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((name, _)) = targets.get(next.fetch_add(1, Ordering::SeqCst)) {
                    if let Err(why) = attack(lab, name, seconds) {
                        tally.lock().unwrap().violated(format!("fuzz: {name}: {why}"));
                    }
                }
            });
        }
    });
    let mut tally = tally.into_inner().unwrap();
    tally.runs += u64::try_from(targets.len()).unwrap();
    tally
}

/// The inputs of a target that are kept in the tree.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let files = fs::read_dir(Path::new("tests/fuzz/corpus").join(name)).unwrap();
    let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|file| fs::read(file).unwrap()).collect()
}

/// Another input: bits flipped, pieces gone, doubled or of another input.
fn changed(data: &[u8], other: &[u8], chance: &mut Chance) -> Vec<u8> {
    let mut data = data.to_vec();
    for _ in 0..=chance.below(4) {
        let at = below(chance, data.len());
        let end = (at + below(chance, 40)).min(data.len());
        match chance.below(6) {
            0 if !data.is_empty() => data[at.min(end)..end].fill(*chance.of(&[0, 0xff, b'9'])),
            1 => drop(data.drain(at..end)),
            2 => {
                let piece = data[at..end].to_vec();
                data.splice(at..at, piece);
            }
            3 => {
                let from = below(chance, other.len());
                let to = (from + 60).min(other.len());
                data.splice(at..end, other[from..to].iter().copied());
            }
            4 => data.truncate(end),
            _ => {
                if let Some(byte) = data.get_mut(at) {
                    *byte ^= 1 << chance.below(8);
                }
            }
        }
    }
    data
}

fn below(chance: &mut Chance, end: usize) -> usize {
    usize::try_from(chance.below(u64::try_from(end).unwrap())).unwrap()
}

fn cargo_fuzz() -> Command {
    let mut cargo = Command::new("cargo");
    // Sanitizers are of the nightly toolchain; this lets the stable one have
    // them.
    cargo.arg("fuzz").env("RUSTC_BOOTSTRAP", "1").stdin(Stdio::null());
    cargo
}

/// Builds all targets.
fn build() -> Result<(), String> {
    let output = cargo_fuzz().args(["build", "--features", "glacier"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let last: Vec<&str> = said.lines().rev().take(3).collect();
    if output.status.success() { Ok(()) } else { Err(last.join(" | ")) }
}

/// A target that was built.
fn built(name: &str) -> PathBuf {
    let triples = fs::read_dir("fuzz/target").unwrap().map(|entry| entry.unwrap().path());
    let mut built = triples.map(|triple| triple.join("release").join(name));
    built.find(|program| program.exists()).unwrap()
}

/// One target for that long, or what it found.
fn attack(lab: &Lab, name: &str, seconds: u64) -> Result<(), String> {
    let [corpus, artifacts] =
        ["fuzz/corpus", "fuzz/artifacts"].map(|dir| Path::new(dir).join(name));
    fs::create_dir_all(&corpus).unwrap();
    fs::create_dir_all(&artifacts).unwrap();
    let mut run = Command::new(built(name));
    run.arg(&corpus).arg(Path::new("tests/fuzz/corpus").join(name));
    run.arg(format!("-artifact_prefix={}/", artifacts.display()));
    run.arg(format!("-max_total_time={seconds}"));
    run.arg(format!("-seed={}", lab.seed % (1 << 31)));
    run.args(["-timeout=60", "-rss_limit_mb=4096"]).stdin(Stdio::null());
    let output = run.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        return Ok(());
    }
    let input = said.lines().find_map(|line| line.split_once("Test unit written to "));
    let last: Vec<&str> = said.lines().rev().filter(|line| !line.is_empty()).take(3).collect();
    Err(match input {
        Some((_, input)) => {
            let why = said.lines().skip_while(|line| !line.contains("panicked at"));
            let why: Vec<&str> = why.take(2).collect();
            format!("{}; again: RUSTC_BOOTSTRAP=1 cargo fuzz run {name} {input}", why.join(" "))
        }
        None => format!("failed: {}", last.join(" | ")),
    })
}
