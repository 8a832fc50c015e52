//! The plans of put and the worker of get against models of all they meet:
//! the properties of the library's unit tests, with seeds of the laboratory.

use std::path::PathBuf;
use std::process::Command;

use crate::lab::{Chance, Lab, Tally};

/// The properties, two of put and three of get.
const PROPERTIES: [&str; 5] = [
    "tools::put::plan::tests::properties::running_it_again_heals_and_stores_nothing_twice",
    "tools::put::plan::tests::properties::whatever_happens_it_heals_or_says_why_not",
    "tools::get::tests::model::running_it_again_brings_all_back_and_pays_nothing_twice",
    "tools::get::tests::model::what_came_is_not_asked_for_again",
    "tools::get::tests::model::what_is_not_there_or_differs_is_told_each_time",
];

/// Sequences of one property with one seed.
const BATCH: u64 = 50;

/// `runs` sequences of put, and half as many again of get.
pub fn run(lab: &Lab, runs: u64) -> Tally {
    let program = match library() {
        Ok(program) => program,
        Err(why) => {
            let mut tally = Tally::default();
            tally.violated(format!("model: the library's tests: {why}"));
            return tally;
        }
    };
    // Half of a plan's sequences are of each of its properties.
    let batches = runs.div_ceil(2 * BATCH) * PROPERTIES.len() as u64;
    let mut tally = lab.each(batches, |number, chance| batch(&program, number, chance));
    tally.runs *= BATCH;
    tally
}

/// The sequences of one property.
fn batch(program: &PathBuf, number: u64, chance: &mut Chance) {
    let property = PROPERTIES[usize::try_from(number).unwrap() % PROPERTIES.len()];
    let output = Command::new(program)
        .args(["--exact", property])
        .env("PROPTEST_CASES", BATCH.to_string())
        .env("PROPTEST_RNG_SEED", chance.next().to_string())
        .env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "1")
        .env("RUST_BACKTRACE", "0")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    if output.status.success() {
        assert!(text.contains("1 passed"), "{property}: there is no such test");
        return;
    }
    let why = text.split("Test failed: ").nth(1).unwrap_or("it died");
    let (why, input) = why.split_once("minimal failing input: ").unwrap_or((why, ""));
    let input = input.split("successes:").next().unwrap_or_default();
    let input = input.split_whitespace().collect::<Vec<_>>().join(" ");
    panic!("{property}: {} with {input}", why.trim());
}

/// The program of the library's unit tests, built if it is not.
fn library() -> Result<PathBuf, String> {
    let output = Command::new(env!("CARGO"))
        .args(["test", "--locked", "--lib", "--no-run", "--message-format=json"])
        .output()
        .map_err(|e| e.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().replace('\n', " | "));
    }
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|line| line["target"]["kind"] == serde_json::json!(["lib"]))
        .find_map(|line| line["executable"].as_str().map(PathBuf::from))
        .ok_or_else(|| "cargo names no program".to_owned())
}
