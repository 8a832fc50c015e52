//! The alarm test: each planted fault must turn a layer red. A laboratory
//! that finds nothing is proven to be able to.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::{self, BINARIES};
use crate::lab::{Lab, Tally};
use crate::planted::{self, PLANTED};

/// Plants each fault in turn.
pub fn run(lab: &Lab, runs: u64) -> Tally {
    let here = env::current_exe().unwrap();
    let mut tally = Tally::default();
    // target/debug/deps/faultlab.
    let programs = match build(here.ancestors().nth(3).unwrap()) {
        Ok(programs) => programs,
        Err(why) => {
            tally.violated(format!("alarm: the copy with faults: {why}"));
            return tally;
        }
    };
    for (fault, _) in PLANTED.iter().zip(0..runs).filter(|(_, run)| lab.has(*run)) {
        let mut command = Command::new(&here);
        command
            .args([fault.layer, "--first", "--seed", &lab.seed.to_string()])
            .args(["--runs", &fault.runs.to_string(), "--target", fault.target])
            .env(BINARIES, &programs)
            .env(common::PLANTED, fault.name);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let found = said.lines().find_map(|line| line.strip_prefix("VIOLATION: "));
        tally.runs += 1;
        match found {
            Some(found) => println!("{}: {found}", fault.name),
            None => tally.violated(format!(
                "alarm: {} was planted, and {} did not find it; seed {}: {}",
                fault.name,
                fault.layer,
                lab.seed,
                said.trim().replace('\n', " | ")
            )),
        }
    }
    tally
}

/// Builds the programs of the copy; where they are.
fn build(target: &Path) -> Result<PathBuf, String> {
    let copy = target.join("planted");
    planted::copy(Path::new(env!("CARGO_MANIFEST_DIR")), &copy).map_err(|e| e.to_string())?;
    let output = Command::new(env!("CARGO"))
        .args(["build", "--locked", "--quiet", "--examples", "--manifest-path"])
        .arg(copy.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(target)
        .output()
        .map_err(|e| e.to_string())?;
    if output.status.success() {
        Ok(target.join("debug/examples"))
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim().replace('\n', " | "))
    }
}
