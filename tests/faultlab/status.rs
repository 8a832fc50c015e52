//! The record of what the laboratory found, kept in the repository.

use std::fs::OpenOptions;
use std::io::Write;
use std::process::Command;

use crate::lab::Tally;

const FILE: &str = "tests/faultlab/STATUS.md";

/// Appends a row. Never by hand: a row is a run that was made.
pub fn append(what: &str, layer: &str, unit: &str, seed: u64, tally: &Tally) {
    let date = jiff::ZonedDateTime::now().with_time_zone(jiff::tz::TimeZone::UTC);
    let skipped = tally.skipped.as_deref().map(|why| format!("; skipped: {why}"));
    let row = format!(
        "| {} | {} | {what} | {layer} | {} {unit}{} | {} | {seed} | {:.1} |\n",
        date.strftime("%Y-%m-%d %H:%M"),
        commit(),
        tally.runs,
        skipped.unwrap_or_default(),
        tally.violations.len(),
        tally.took.as_secs_f64() / 60.0
    );
    let mut file = OpenOptions::new().append(true).open(FILE).unwrap();
    file.write_all(row.as_bytes()).unwrap();
}

/// The commit that was attacked; `+` when the tree had changes beside the
/// record itself.
fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    let changes = git(&["status", "--porcelain", "--", ".", &format!(":!{FILE}")]);
    let mark = if changes.is_empty() { "" } else { "+" };
    format!("{}{mark}", git(&["rev-parse", "--short", "HEAD"]))
}
