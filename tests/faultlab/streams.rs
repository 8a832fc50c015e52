//! Real streams, cut and with flipped bits, go through the real programs:
//! there is never an `end` or a `stored` line, the exit code is 65, and the
//! message names the byte and the record. A cut stream that comes again whole
//! is stored as if nothing had happened.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use akashita::zfs_stream::{Walk, What};

use crate::common::{Place, run_with};
use crate::judge;
use crate::lab::{Chance, Lab, Tally};
use crate::rig::Rig;

const MIB: u64 = 1 << 20;

/// A real stream, and where its records end.
struct Real {
    path: PathBuf,
    bytes: Vec<u8>,
    edges: OnceLock<Vec<usize>>,
}

/// A third of the runs are cuts, the others flipped bits.
pub fn run(lab: &Lab, runs: u64) -> Tally {
    let streams = streams();
    lab.each(runs, |number, chance| {
        let real = chance.of(&streams);
        let (damaged, is_cut) = if number % 3 == 0 {
            (real.bytes[..cut(real, chance)].to_vec(), true)
        } else {
            (flipped(real, chance), false)
        };
        if chance.one_in(8) && real.bytes.len() < 4 << 20 {
            through_put(real, damaged, is_cut);
        } else {
            through_chunk(&damaged, chance);
        }
    })
}

/// Those of the tree, and more where there are any.
fn streams() -> Vec<Real> {
    let mut places = vec![PathBuf::from("tests/streams")];
    places.extend(std::env::var_os("AKASHITA_ZFS_STREAMS").map(PathBuf::from));
    let mut paths: Vec<PathBuf> = places
        .iter()
        .flat_map(|place| fs::read_dir(place).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "zfs"))
        .collect();
    paths.sort();
    let real =
        |path: PathBuf| Real { bytes: fs::read(&path).unwrap(), path, edges: OnceLock::new() };
    paths.into_iter().map(real).collect()
}

impl Real {
    fn edges(&self) -> &[usize] {
        self.edges.get_or_init(|| {
            let mut walk = Walk::new();
            let mut edges = Vec::new();
            for (at, byte) in self.bytes.iter().enumerate() {
                walk.update(&[*byte]).unwrap();
                if !matches!(walk.finish(), Err(damage) if damage.what == What::Cut) {
                    edges.push(at + 1);
                }
            }
            edges
        })
    }
}

/// Where to cut: at the end of a record, a byte off, or anywhere. Nothing at
/// all is an empty stream, and all of it is whole.
fn cut(real: &Real, chance: &mut Chance) -> usize {
    let at = match chance.below(4) {
        0 => any(chance, real.bytes.len()),
        which => *chance.of(real.edges()) + usize::try_from(which).unwrap() - 2,
    };
    at.clamp(1, real.bytes.len() - 1)
}

fn flipped(real: &Real, chance: &mut Chance) -> Vec<u8> {
    let mut bytes = real.bytes.clone();
    // Headers are few among payloads, so they get half of it.
    let at = if chance.one_in(2) {
        let edge = *chance.of(real.edges());
        (edge + any(chance, 312)) % bytes.len()
    } else {
        any(chance, bytes.len())
    };
    bytes[at] ^= 1 << chance.below(8);
    bytes
}

fn any(chance: &mut Chance, end: usize) -> usize {
    usize::try_from(chance.below(u64::try_from(end).unwrap())).unwrap()
}

/// That a message tells where it is wrong.
#[track_caller]
fn is_placed(said: &str) {
    // What a sender has lost before the damage is told as it is found.
    let of_record = |line: &&str| !line.contains(": warning: stream: object ");
    let lines: Vec<&str> = said.lines().filter(of_record).collect();
    let said = lines.join("\n");
    let number = |word: &str| {
        let rest = said.split_once(word).map(|(_, rest)| rest);
        rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.starts_with("glacier-") && said.contains(": stream: "), "{said}");
    assert!(number("byte ") && number("record "), "no byte or no record: {said}");
}

/// Whatever the user vouches for, and also when nothing is stored.
fn through_chunk(damaged: &[u8], chance: &mut Chance) {
    let place = Place::default();
    let mut options = vec!["--trust-eof"];
    if chance.one_in(2) {
        options.extend(["--part-size", "1M", "--volume-size", "1M"]);
    }
    if chance.one_in(4) {
        options.push("--inspect");
    } else {
        options.extend(["--spool-limit", "none"]);
    }
    let ended = run_with(&mut place.tool("glacier-chunk", &options), damaged);
    assert_eq!(ended.code(), 65, "{}", ended.stderr);
    is_placed(&ended.stderr);
    assert!(!ended.stdout.contains("{\"type\":\"end\""), "I1: an end line");
    assert_eq!(ended.lines().last().unwrap()["type"], "failed");
}

/// put says what chunk said, and stores no stream.
fn through_put(real: &Real, damaged: Vec<u8>, is_cut: bool) {
    let mut rig = Rig::zfs(Path::new(&real.path), MIB);
    fs::write(rig.place.path("in"), &damaged).unwrap();
    rig.bytes = damaged;
    let ran = rig.start().finish();
    ran.is_documented();
    let last = |codes: &[Option<i32>]| codes.last().copied().flatten();
    assert_eq!(last(&ran.codes), Some(65), "{:?}", ran.said);
    ran.said.iter().filter(|said| !said.is_empty()).for_each(|said| is_placed(said));
    judge::promises(&rig, &ran);
    assert!(!rig.catalog().contains("{\"type\":\"stored\""), "I1: a stored line");
    assert!(ran.announced.iter().all(|line| line["type"] != "end"), "I1: an end line");
    if is_cut {
        rig.bytes.clone_from(&real.bytes);
        fs::write(rig.place.path("in"), &real.bytes).unwrap();
        judge::recover(&rig);
    }
}
