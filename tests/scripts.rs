//! The scripts: how they are written, and what they refuse.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod skip;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use skip::skip;

/// Every script, and .ci/run.
fn scripts() -> Vec<PathBuf> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let entries = fs::read_dir(top.join("scripts")).unwrap();
    let mut scripts: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    scripts.push(top.join(".ci/run"));
    scripts.sort();
    scripts
}

fn script(name: &str) -> Command {
    let mut script = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(name));
    script.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).stdin(Stdio::null());
    script
}

fn seen(output: Output) -> (Option<i32>, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Runs a checker over every script, if it is there.
fn all_pass(checker: &str, arguments: &[&str]) {
    match Command::new(checker).args(arguments).args(scripts()).output() {
        Ok(output) => assert_eq!(seen(output), (Some(0), String::new(), String::new())),
        Err(_) => skip(&format!("{checker}: not found; try scripts/test")),
    }
}

#[test]
fn shellcheck_finds_nothing() {
    all_pass("shellcheck", &["-s", "sh", "-o", "all", "-e", "SC2250"]);
}

#[test]
fn any_sh_can_run_them() {
    all_pass("checkbashisms", &["-p"]);
}

#[test]
fn all_begin_alike_and_stop_at_the_first_failure() {
    for path in scripts() {
        let text = fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("#!/bin/sh"), "{name}");
        let what = format!("# {name} - ");
        assert!(lines.next().is_some_and(|line| line.starts_with(&what)), "{name}: no \"{what}\"");
        assert!(text.contains("\nset -eu\n"), "{name}: no set -eu");
        assert!(!text.contains("rm -rf"), "{name}: rm -rf");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o111, 0o111, "{name}: not executable");
    }
}

#[test]
fn refuse_arguments_that_they_do_not_know() {
    let demo = "usage: scripts/demo [FILE | DATASET@SNAPSHOT]";
    let bench = "usage: scripts/bench [-b bin-directory] [-n runs] [MiB]
  -b  measure the tools there, instead of building the dist profile
MiB is 2^n (1024). Needs four times that in /dev/shm, and 12 times on disk.";
    for (name, arguments, message) in [
        ("demo", vec!["one", "two"], format!("demo: {demo}")),
        ("demo", vec!["--fast"], format!("demo: {demo}")),
        ("demo", vec!["no/such/file"], "demo: no/such/file: neither a file nor a snapshot".into()),
        ("bench", vec!["1G"], format!("bench: {bench}")),
        ("bench", vec!["-n", "all"], format!("bench: {bench}")),
        ("test", vec!["unit"], "test: usage: scripts/test".into()),
        ("need", vec![], "need: usage: scripts/need command ...".into()),
    ] {
        let ran = seen(script(name).args(&arguments).output().unwrap());
        assert_eq!(ran, (Some(64), String::new(), message + "\n"), "{name} {arguments:?}");
    }
}

#[test]
fn need_is_silent_when_all_is_there() {
    let ran = seen(script("need").args(["sh", "cat"]).output().unwrap());
    assert_eq!(ran, (Some(0), String::new(), String::new()));
}
