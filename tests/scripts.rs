//! The scripts: how they are written, and what they refuse.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use akashita::tools::conf::Conf;

use crate::common::skip;

/// Every script, .ci/run, and those of tests and etc/.
fn scripts() -> Vec<PathBuf> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let entries = fs::read_dir(top.join("scripts")).unwrap();
    let mut scripts: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    let others = [
        ".ci/run",
        "etc/periodic/daily/490.akashita",
        "tests/put/upgrade/make",
        "tests/schedule/night",
        "tests/schedule/units",
        "tests/zfs/guest",
        "tests/zfs/lib",
        "tests/zfs/run",
    ];
    scripts.extend(others.map(|name| top.join(name)));
    let cases = fs::read_dir(top.join("tests/zfs/cases")).unwrap();
    scripts.extend(cases.map(|entry| entry.unwrap().path()));
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

/// Runs a checker over every script, if it is there. Each is given alone, as
/// who changes one gives it.
fn all_pass(checker: &str, arguments: &[&str]) {
    for script in scripts() {
        match Command::new(checker).args(arguments).arg(&script).output() {
            Ok(output) => assert_eq!(seen(output), (Some(0), String::new(), String::new())),
            Err(_) => return skip(&format!("{checker}: not found; try scripts/test")),
        }
    }
}

#[test]
fn shellcheck_finds_nothing() {
    all_pass("shellcheck", &["-s", "sh", "-o", "all", "-e", "SC2250"]);
}

#[test]
fn any_sh_can_run_them() {
    // -f: a script that starts itself anew is no mere wrapper of another.
    all_pass("checkbashisms", &["-f", "-p"]);
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

/// akashita-common, read by a shell that is there, and then a line with these
/// words.
fn common(shell: &str, line: &str, words: &[&str]) -> Option<Output> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/akashita-common");
    let mut arguments = shell.split(' ');
    let mut command = Command::new(arguments.next().unwrap());
    command.args(arguments).args(["-c", &format!(". '{}'\n{line}", file.display()), "name"]);
    command.args(words).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    command.output().ok()
}

const SHELLS: [&str; 4] = ["sh", "dash", "bash", "busybox sh"];

#[test]
fn words_are_quoted_so_that_any_sh_reads_them() {
    let words = [
        "",
        "tank/home",
        "a b",
        "it's",
        "''",
        "$HOME",
        "`x`",
        "\\",
        "*",
        "~",
        "-n",
        "a;b",
        "#",
        "\u{e4}",
        "!x",
        "a\nb",
        "\"",
        "%s",
        "a=b",
    ];
    for shell in SHELLS {
        let Some(output) = common(shell, "quoted \"$@\"", &words) else {
            skip(&format!("{shell}: not found, nothing is quoted with it"));
            continue;
        };
        let (code, line, err) = seen(output);
        assert_eq!((code, err.as_str()), (Some(0), ""), "{shell}");
        for reader in SHELLS {
            let read = format!("printf '<%s>' {line}");
            let Some(output) = common(reader, &read, &[]) else { continue };
            let expected: String = words.iter().flat_map(|word| ["<", *word, ">"]).collect();
            assert_eq!(seen(output), (Some(0), expected, String::new()), "{shell}, {reader}");
        }
        let (_, line, _) = seen(common(shell, "literal \"$1\"", &["tank/home"]).unwrap());
        assert_eq!(line, "'tank/home'", "{shell}");
    }
}

#[test]
fn the_scripts_take_the_names_of_datasets_that_a_configuration_takes() {
    let longest = format!("tank/{}", "a".repeat(250));
    let longer = format!("{longest}a");
    let good = ["tank", "tank/a b", "Tank/a_b-c.d:e", "tank/.../a", "t/-r", &*longest];
    let bad = [
        "",
        "/",
        "/tank",
        "tank/",
        "tank//x",
        "tank/..",
        "tank/../x",
        "..",
        "-r",
        "1tank",
        ".tank",
        "tank@mon",
        "tank#mon",
        "tank/a;b",
        "tank/$(x)",
        "tank/a\tb",
        "tank/\u{e4}",
        "tank/*",
        &*longer,
    ];
    for name in good.iter().chain(&bad) {
        let is_good = good.contains(name);
        assert_eq!(Conf::parse(format!("dataset={name}").as_bytes()).is_ok(), is_good, "{name}");
        for shell in SHELLS {
            let Some(output) = common(shell, "is_name \"$1\" || exit 1", &[name]) else { continue };
            let code = i32::from(!is_good);
            assert_eq!(seen(output), (Some(code), String::new(), String::new()), "{shell}: {name}");
        }
    }
    // Of a name with a newline in it a file knows nothing.
    let output = common("sh", "is_name \"$1\" || exit 1", &["tank/a\nb"]).unwrap();
    assert_eq!(seen(output).0, Some(1));
}

#[test]
fn what_the_scripts_share_is_read_from_their_own_directory_alone() {
    let top = tempfile::tempdir().unwrap();
    let at = |name: &str| top.path().join(name);
    for directory in ["alone", "path"] {
        fs::create_dir(at(directory)).unwrap();
    }
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/akashita-failed");
    fs::copy(from, at("alone/akashita-failed")).unwrap();
    // What a search of the working directory or of PATH would find.
    for place in ["akashita-common", "path/akashita-common"] {
        fs::write(at(place), format!("#!/bin/sh\n: >'{}'\n", at("victim").display())).unwrap();
        fs::set_permissions(at(place), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = std::env::var_os("PATH").unwrap();
    let mut path: Vec<PathBuf> = std::env::split_paths(&path).collect();
    path.insert(0, at("path"));
    let path = std::env::join_paths(path).unwrap();
    fs::copy(at("alone/akashita-failed"), at("akashita-failed")).unwrap();
    for shell in SHELLS {
        // By a name without a directory, it is not found at all.
        for script in ["alone/akashita-failed", "akashita-failed"] {
            let mut words = shell.split(' ');
            let mut command = Command::new(words.next().unwrap());
            command.args(words).arg(script).current_dir(top.path());
            let Ok(output) = command.env_clear().env("PATH", &path).output() else { continue };
            let (code, out, err) = seen(output);
            assert!(code != Some(0) && out.is_empty(), "{shell} {script}: {out}");
            assert!(err.contains("akashita-common"), "{shell} {script}: {err}");
            assert!(!at("victim").exists(), "{shell} {script}");
        }
    }
}

#[test]
fn refuse_arguments_that_they_do_not_know() {
    let demo = "usage: scripts/demo [FILE | DATASET@SNAPSHOT]";
    let bench = "usage: scripts/bench [-b bin-directory] [-n runs] [MiB]
  -b  measure the tools there, instead of building the dist profile
MiB is 2^n (1024). Needs four times that in /dev/shm, and 12 times on disk.";
    let zfs = "usage: scripts/zfslab [-kn] fuse|vm [case ...]
  -k  keep the directory with the logs
  -n  leave tests/zfs/STATUS.md as it is";
    for (name, arguments, message) in [
        ("zfslab", vec![], format!("zfslab: {zfs}")),
        ("zfslab", vec!["btrfs"], format!("zfslab: {zfs}")),
        ("zfslab", vec!["fuse", "no-such-case"], "zfslab: no-such-case: no such case".into()),
        ("demo", vec!["one", "two"], format!("demo: {demo}")),
        ("demo", vec!["--fast"], format!("demo: {demo}")),
        ("demo", vec!["no/such/file"], "demo: no/such/file: neither a file nor a snapshot".into()),
        ("bench", vec!["1G"], format!("bench: {bench}")),
        ("bench", vec!["-n", "all"], format!("bench: {bench}")),
        ("lines", vec!["one", "two"], "lines: usage: scripts/lines [commit]".into()),
        ("models", vec!["all"], "models: usage: scripts/models [-s seed] [schedules]".into()),
        ("release", vec!["now"], "release: usage: scripts/release [-s k/n]".into()),
        ("test", vec!["unit"], "test: usage: scripts/test".into()),
        ("akashita-paper", vec!["now"], "akashita-paper: usage: scripts/akashita-paper".into()),
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

/// What the paper is about: two hosts and vaults, a chain, a stream that is
/// not of ZFS.
const STORED: [(&str, &str, &str, &str, &str); 5] = [
    ("nas", "tank/home@mon", "\"guid\":\"11\",", "my-vault", "2026-11-23"),
    ("nas", "tank/home@tue", "\"guid\":\"12\",\"from_guid\":\"11\",", "my-vault", "2026-11-24"),
    ("nas", "tank/enc@mon", "\"guid\":\"21\",", "my-vault", "2026-11-23"),
    ("nas", "etc-2026-11-23.tar", "", "my-vault", "2026-11-23"),
    ("desk", "tank/home@mon", "\"guid\":\"31\",", "other", "2026-11-22"),
];

/// A machine with that catalog, a ZFS with keys, and an AWS CLI.
fn machine() -> tempfile::TempDir {
    let top = tempfile::tempdir().unwrap();
    let mut catalog = String::new();
    for (number, (host, name, guids, vault, day)) in STORED.into_iter().enumerate() {
        let what = format!("\"stream\":\"{number:032x}\",\"host\":\"{host}\",\"name\":\"{name}\"");
        let format = if guids.is_empty() { "bytes" } else { "zfs" };
        let hash = "9db1aac19432f178bec3cedc1aae212b4829c64677a1e97e478d913ffcf24c91";
        let place = format!("\"dest\":\"glacier://{vault}\",\"region\":\"eu-central-1\"");
        let archive = format!(
            "{{\"type\":\"archive\",\"v\":1,{what},\"volume\":0,\"offset\":0,\"size\":7,\
             \"treehash\":\"{hash}\",\"part_size\":1048576,{place},\"archive_id\":\"a{number}\",\
             \"uploaded\":\"{day}T22:04:30Z\"}}\n"
        );
        catalog.push_str(&archive);
        let line = format!(
            "{{\"type\":\"stored\",\"v\":1,{what},\"format\":\"{format}\",{guids}\"volumes\":1,\"size\":7,\
             \"treehash\":\"{hash}\",\"whole\":\"zfs\",{place},\
             \"manifest_id\":\"m\",\"stored\":\"{day}T22:04:31Z\"}}\n"
        );
        catalog.push_str(&line);
    }
    fs::write(top.path().join("catalog.jsonl"), catalog).unwrap();
    fs::create_dir(top.path().join("bin")).unwrap();
    let zfs = "case $1 in\n\
        --version) echo zfs-2.3.9 ;;\n\
        list) printf 'tank\\t-\\tnone\\ntank/enc\\ttank/enc\\tpassphrase\\n'\n\
        printf 'tank/enc/sub\\ttank/enc\\tpassphrase\\ntank/raw\\ttank/raw\\traw\\n' ;;\n\
        *) case $* in\n\
        *enc) printf 'prompt\\n  tank/forged\\traw\\n' ;;\n\
        *) echo https://me:secret@keys.example/raw ;;\n\
        esac ;;\nesac\n";
    for (name, text) in [("zfs", zfs), ("aws", "echo 111122223333\n")] {
        let file = top.path().join("bin").join(name);
        fs::write(&file, format!("#!/bin/sh\n{text}")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }
    top
}

/// akashita-paper in a shell on that machine, or without what its bin/ has.
fn paper(top: &Path, shell: &str, bare: bool) -> Command {
    let tools = Path::new(env!("CARGO_BIN_EXE_glacier-chain")).parent().unwrap().to_owned();
    let path = std::env::var_os("PATH").unwrap();
    let mut path: Vec<PathBuf> = std::env::split_paths(&path).collect();
    if bare {
        path.retain(|directory| !directory.join("zfs").exists() && !directory.join("aws").exists());
    } else {
        path.insert(0, top.join("bin"));
    }
    path.insert(0, tools);
    let mut words = shell.split(' ');
    let mut command = Command::new(words.next().unwrap());
    command
        .args(words)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/akashita-paper"))
        .env_clear()
        .env("PATH", std::env::join_paths(path).unwrap())
        .env("HOME", top)
        .env("GLACIER_CATALOG", top.join("catalog.jsonl"))
        .env("GLACIER_SPOOL", "/spool")
        .env("AWS_SECRET_ACCESS_KEY", "never-on-paper")
        .stdin(Stdio::null());
    command
}

#[test]
fn the_paper_tells_what_must_outlive_the_machine_in_any_sh() {
    let top = machine();
    for shell in ["sh", "dash", "bash", "busybox sh"] {
        let Ok(output) = paper(top.path(), shell, false).output() else {
            skip(&format!("{shell}: not found, akashita-paper is not tried with it"));
            continue;
        };
        let (code, out, err) = seen(output);
        assert_eq!((code, err.as_str()), (Some(0), ""), "{shell}: {out}");
        for line in [
            "account       111122223333",
            "stored in     glacier://my-vault in eu-central-1",
            "              glacier://other in eu-central-1",
            "spool         /spool",
            concat!("programs      Akashita ", env!("CARGO_PKG_VERSION"), "; zfs-2.3.9"),
            "  2026-11-22  desk  tank/home@mon  (1 stream, guid 31)",
            "  2026-11-23  nas  etc-2026-11-23.tar  (1 stream)",
            "  2026-11-23  nas  tank/enc@mon  (1 stream, guid 21)",
            "  2026-11-24  nas  tank/home@tue  (2 streams, guid 12)",
            "  tank/enc  passphrase, prompt?  tank/forged?raw; kept at ______________________________",
            "  tank/raw  raw, https://keys.example/raw; kept at ______________________________",
        ] {
            assert!(out.lines().any(|told| told == line), "{shell}: no \"{line}\" in {out}");
        }
        assert!(!out.contains("tank/home@mon  (1 stream, guid 11)"), "the newest only: {out}");
        assert!(!out.contains("tank/enc/sub"), "it has no key of its own: {out}");
        assert!(!out.contains("me:") && !out.contains("never-on-paper"), "a secret: {out}");
        assert!(out.lines().count() < 60, "more than a page: {out}");
    }
}

#[test]
fn the_paper_has_a_line_to_write_on_for_what_it_cannot_know() {
    let top = machine();
    let (code, out, err) = seen(paper(top.path(), "sh", true).output().unwrap());
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    assert!(out.contains("account       ____"), "{out}");
    assert!(out.contains("  of streams that a program encrypted (age): kept at ____"), "{out}");
    // What is many is cut, and said to be.
    let catalog = top.path().join("catalog.jsonl");
    let mut text = fs::read_to_string(&catalog).unwrap();
    let lines: Vec<&str> = text.lines().filter(|line| line.contains("etc-")).collect();
    let lines = lines.join("\n") + "\n";
    for number in 100..140 {
        let id = format!("{number:032x}");
        let line = lines.replace(&format!("{:032x}", 3), &id);
        text.push_str(&line.replace("etc-", &format!("{number}-")));
    }
    fs::write(&catalog, text).unwrap();
    let (_, out, _) = seen(paper(top.path(), "sh", true).output().unwrap());
    assert!(out.contains("  and 24 more: glacier-chain --list <catalog.jsonl"), "{out}");
    assert!(out.lines().count() < 60, "more than a page: {out}");
}

#[test]
fn nothing_on_the_paper_is_for_a_terminal_to_obey() {
    let top = machine();
    let catalog = top.path().join("catalog.jsonl");
    let mut text = fs::read_to_string(&catalog).unwrap();
    text.push_str(
        "{\"type\":\"stored\",\"dest\":\"glacier://x\u{1b}]0;y\u{7}\",\"region\":\"z\"}\n",
    );
    fs::write(&catalog, text).unwrap();
    let (code, out, _) = seen(paper(top.path(), "sh", false).output().unwrap());
    assert_eq!(code, Some(0), "{out}");
    assert!(out.contains("glacier://x?]0;y? in z"), "{out}");
    assert!(!out.contains(|c: char| c.is_control() && c != '\n'), "{out}");
}

#[test]
fn no_paper_is_printed_of_a_catalog_that_is_none() {
    let top = machine();
    let catalog = top.path().join("catalog.jsonl");
    let name = catalog.display();
    fs::write(&catalog, "{\"type\":\"stored\",\"v\":2}\n").unwrap();
    let (code, out, err) = seen(paper(top.path(), "sh", false).output().unwrap());
    assert_eq!((code, out.as_str()), (Some(65), ""), "{err}");
    assert!(err.ends_with(&format!("{name}: cannot tell what can be restored\n")), "{err}");
    fs::remove_file(&catalog).unwrap();
    let (code, out, err) = seen(paper(top.path(), "sh", false).output().unwrap());
    let why = "no such catalog; set GLACIER_CATALOG if it is elsewhere";
    assert_eq!((code, out), (Some(78), String::new()));
    assert_eq!(err, format!("akashita-paper: {name}: {why}\n"));
}
