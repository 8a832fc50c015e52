//! The alarm test: each planted fault must turn a layer red. A laboratory
//! that finds nothing is proven to be able to.

use std::env;
use std::path::PathBuf;
use std::process::Command;

use akashita::planted::Fault;

use crate::common::{BINARIES, PLANTED};
use crate::lab::{Lab, Tally};

/// The layer that must find a fault, in how many runs at most, and where in
/// the layer to look first.
const fn finder(fault: Fault) -> (&'static str, u64, &'static str) {
    match fault {
        Fault::PartSync | Fault::DirectorySync | Fault::BooksSync => ("cuts", 200, ""),
        Fault::EarlyLine | Fault::EarlyRemoval => ("kills", 200, ""),
        Fault::EndOfInput => ("streams", 200, ""),
        Fault::ArchiveHash => ("network", u64::MAX, "wrong hash"),
        Fault::PartHash => ("network", u64::MAX, "corrupt bytes"),
        Fault::HashOrder => ("busy", 200, "treehash"),
    }
}

/// Plants each fault in turn.
pub fn run(lab: &Lab, runs: u64) -> Tally {
    let here = env::current_exe().unwrap();
    // target/debug/deps/faultlab and target/planted.
    let planted = here.ancestors().nth(3).unwrap().join("planted");
    if !planted.join("glacier-put").exists() {
        return Tally::skipped("no planted programs; scripts/faultlab builds them");
    }
    let mut tally = Tally::default();
    for (fault, _) in Fault::ALL.into_iter().zip(0..runs).filter(|(_, run)| lab.has(*run)) {
        let (layer, runs, target) = finder(fault);
        let mut command = Command::new(&here);
        command
            .args([layer, "--first", "--seed", &lab.seed.to_string(), "--runs", &runs.to_string()])
            .args(["--target", target])
            .env(BINARIES, PathBuf::from(&planted))
            .env(PLANTED, fault.name());
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let found = said.lines().find_map(|line| line.strip_prefix("VIOLATION: "));
        tally.runs += 1;
        match found {
            Some(found) => println!("{}: {found}", fault.name()),
            None => tally.violated(format!(
                "alarm: {} was planted, and {layer} did not find it; seed {}: {}",
                fault.name(),
                lab.seed,
                said.trim().replace('\n', " | ")
            )),
        }
    }
    tally
}
