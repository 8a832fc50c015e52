//! What etc/ has is right, and names only what is there.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::common::{Ended, Place, run, skip};
use crate::schedule::night::lines;

pub fn etc(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("etc").join(name)
}

/// What akashita-conf makes of a configuration.
fn meaning(text: &str) -> BTreeSet<String> {
    let place = Place::default();
    let file = place.path("conf");
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let told = run(&mut place.tool("akashita-conf", &["--conf", "conf"])).done().stdout;
    told.lines().map(str::to_owned).collect()
}

/// The configuration with each key that stands behind a # in force.
fn in_force(text: &str) -> String {
    let lines = text.lines().map(|line| match line.strip_prefix('#') {
        Some(key) if key.starts_with(|first: char| first.is_ascii_lowercase()) => key,
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n") + "\n"
}

#[test]
fn the_example_of_a_configuration_is_one_and_changes_nothing() {
    let text = fs::read_to_string(etc("akashita.conf.example")).unwrap();
    assert_eq!(meaning(&text), meaning(""));
}

#[test]
fn the_example_of_a_configuration_has_every_key_with_its_default() {
    let text = in_force(&fs::read_to_string(etc("akashita.conf.example")).unwrap());
    let keys = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let (key, _) = line.split_once('=')?;
        Some(key)
    });
    let keys: Vec<&str> = keys.collect();
    let expected: BTreeSet<&str> = akashita::tools::conf::keys().collect();
    assert_eq!(keys.iter().copied().collect::<BTreeSet<_>>(), expected);
    assert_eq!(keys.len(), expected.len(), "each comes once");
    let meant = meaning(&text);
    let differ: Vec<String> = meaning("").difference(&meant).cloned().collect();
    assert!(differ.is_empty(), "other defaults than these: {differ:?}");
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts")
}

/// The crontab with the lines that wait for a decision.
pub fn crontab_in_force() -> String {
    let text = fs::read_to_string(etc("crontab")).unwrap();
    let lines = text.lines().map(|line| match line.strip_prefix('#') {
        Some(entry) if entry.starts_with(|first: char| first.is_ascii_digit()) => entry,
        _ => line,
    });
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// The units with these endings.
fn units(endings: &[&str]) -> Vec<PathBuf> {
    let entries = fs::read_dir(etc("systemd")).unwrap().map(|entry| entry.unwrap().path());
    let mut units: Vec<PathBuf> = entries
        .filter(|path| endings.contains(&path.extension().unwrap().to_str().unwrap()))
        .collect();
    units.sort();
    assert!(!units.is_empty(), "no unit");
    units
}

/// Asserts that a command is a script of ours, with a page.
#[track_caller]
fn is_there(command: &str) {
    let name = command.split(' ').next().unwrap();
    let mode = fs::metadata(scripts().join(name)).map(|facts| facts.permissions().mode());
    assert!(mode.is_ok_and(|mode| mode & 0o111 == 0o111), "{command}: no such script");
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("man/{name}.8"));
    assert!(page.is_file(), "{command}: no page");
}

#[test]
fn every_command_that_is_started_is_there() {
    let crontab = crontab_in_force();
    let commands = lines(&crontab);
    assert_eq!(commands.len(), 5, "{commands:?}");
    for (_, _, command) in commands {
        is_there(command);
    }
    for unit in units(&["service"]) {
        let text = fs::read_to_string(&unit).unwrap();
        let started = text.lines().filter_map(|line| line.strip_prefix("ExecStart="));
        let started: Vec<&str> = started.collect();
        let [command] = started[..] else { panic!("{}: {started:?}", unit.display()) };
        is_there(command.strip_prefix("/usr/local/bin/").unwrap());
    }
    // What a timer starts is there too.
    for unit in units(&["timer"]) {
        assert!(unit.with_extension("service").is_file(), "{}", unit.display());
    }
}

/// Runs systemd-analyze where the scripts are installed; none if it cannot be.
fn analyze(arguments: &[&str], units: &[PathBuf]) -> Option<Ended> {
    let is_there = |program: &str| {
        let mut command = Command::new(program);
        command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    if !is_there("systemd-analyze") {
        skip("systemd-analyze: not found, the units are not verified");
        return None;
    }
    let mut private = Command::new("unshare");
    private.args(["--mount", "true"]).stdout(Stdio::null()).stderr(Stdio::null());
    if !private.status().is_ok_and(|status| status.success()) {
        skip("unshare: not allowed, the units are not verified; run the tests as root");
        return None;
    }
    let place = Place::default();
    let mut command = place.command("unshare");
    command
        .args(["--mount", "sh", "-c"])
        .arg("mount --bind \"$0\" /usr/local/bin && exec systemd-analyze \"$@\"")
        .arg(scripts())
        .args(arguments)
        .args(units);
    Some(run(&mut command))
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    let units = units(&["service", "timer"]);
    let Some(ended) = analyze(&["verify", "--man=no"], &units) else { return };
    ended.done();
}

#[test]
fn the_units_may_do_little_more_than_they_must() {
    for (unit, most) in [
        ("akashita-backup.service", "35"),
        ("akashita-drill.service", "35"),
        ("akashita-status.service", "25"),
        ("akashita-verify.service", "25"),
    ] {
        let arguments = ["security", "--offline=true", "--no-pager", "--threshold", most];
        let Some(ended) = analyze(&arguments, &[etc("systemd").join(unit)]) else { return };
        assert_eq!(ended.code(), 0, "{}", ended.stdout);
    }
}

/// A systemd that tells of a run, and a mail system that keeps the mail.
fn failed(place: &Place, shell: &str, arguments: &[&str]) -> Option<Ended> {
    let bin = place.path("bin");
    let _ = fs::create_dir(&bin);
    for (name, text) in [
        (
            "systemctl",
            "case $* in\n\
             *InvocationID*akashita-backup.service) echo 0123abc ;;\n\
             *ExecMainStatus*) echo 69 ;;\n\
             *) exit 1 ;;\nesac",
        ),
        ("journalctl", "case $* in *_ID=0123abc) cat said ;; esac"),
        ("sendmail", "printf '%s\\n' \"$*\" >mail && exec cat >>mail"),
    ] {
        fs::write(bin.join(name), format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut path = vec![bin];
    path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap()));
    let mut words = shell.split(' ');
    let program = words.next().unwrap();
    if !path.iter().any(|directory| directory.join(program).is_file()) {
        return None;
    }
    let mut command = place.command(program);
    command
        .args(words)
        .arg(scripts().join("akashita-failed"))
        .args(arguments)
        .env("PATH", std::env::join_paths(path).unwrap());
    Some(run(&mut command))
}

#[test]
fn what_a_unit_said_is_mailed_in_any_sh() {
    for shell in ["sh", "dash", "bash", "busybox sh"] {
        let place = Place::default();
        let said = "akashita-backup: tank/home@akashita:now: a reason; log: /l; again: x\n";
        fs::write(place.path("said"), format!("{said}zfs:\tnot \u{1b}]0;so\u{7}\n")).unwrap();
        let Some(ended) = failed(&place, shell, &["akashita-backup.service"]) else {
            skip(&format!("{shell}: not found, akashita-failed is not tried with it"));
            continue;
        };
        ended.done();
        let mail = fs::read_to_string(place.path("mail")).unwrap();
        let (head, body) = mail.split_once("\n\n").unwrap();
        assert!(head.starts_with("-oi -t\nTo: root\nSubject: "), "{shell}: {head}");
        assert!(head.contains(": akashita-backup has failed\n"), "{shell}: {head}");
        let rest = "zfs:\tnot ?]0;so?\n\nIt ended with status 69.\n\
                    More: journalctl -u akashita-backup.service\n\
                    Again: systemctl start --no-block akashita-backup.service\n";
        assert_eq!(body, format!("{said}{rest}"), "{shell}");
    }
}

#[test]
fn no_other_unit_and_no_option_is_mailed_of() {
    let place = Place::default();
    fs::write(place.path("said"), "").unwrap();
    for (arguments, code) in [
        (&[][..], 64),
        (&["a.service", "b.service"], 64),
        (&["--all"], 64),
        (&["a b"], 64),
        (&["$(touch victim)"], 64),
        (&[""], 64),
        (&["other.service"], 74),
    ] {
        assert_eq!(failed(&place, "sh", arguments).unwrap().code(), code, "{arguments:?}");
    }
    assert!(!place.path("victim").exists() && !place.path("mail").exists());
    failed(&place, "sh", &["akashita-backup.service"]).unwrap().done();
    let mail = fs::read_to_string(place.path("mail")).unwrap();
    assert!(mail.contains("\n\nIt said nothing.\n\n"), "silence is told: {mail}");
}
