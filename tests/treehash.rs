//! glacier-treehash, from the outside.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use std::{ffi::OsStr, str, thread};

use akashita::hash::tree::{Hash, LEAF, TreeHash};
use tempfile::TempDir;

use crate::common::skip;

const HELLO: &str = "a591a6d40bf420404a011733cfb7b190d62c65bf0bcda32b57b277d9ad9f146e";

/// A directory with three good files.
fn place() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("hello"), "Hello World").unwrap();
    fs::write(dir.path().join("empty"), "").unwrap();
    fs::write(dir.path().join("large"), large()).unwrap();
    dir
}

fn large() -> Vec<u8> {
    (0..=250).cycle().take(5 * LEAF + 1).collect()
}

fn treehash(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_glacier-treehash"));
    command.env_clear().current_dir(dir).args(arguments).stdin(Stdio::null());
    command
}

fn run(dir: &Path, arguments: &[&str]) -> (i32, String, String) {
    told(&treehash(dir, arguments).output().unwrap())
}

fn run_with_stdin(dir: &Path, arguments: &[&str], stdin: &[u8]) -> (i32, String, String) {
    let mut child = treehash(dir, arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A tool that has seen enough may close its end.
    let _ = child.stdin.take().unwrap().write_all(stdin);
    told(&child.wait_with_output().unwrap())
}

fn told(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| str::from_utf8(bytes).unwrap().to_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

fn said(text: &str) -> String {
    text.split('\n').flat_map(|line| ["glacier-treehash: ", line, "\n"]).collect()
}

#[test]
fn prints_a_line_for_each_file_in_order() {
    let dir = place();
    let tree = TreeHash::of(&large());
    let nothing = Hash::of(b"");
    let (code, out, err) = run(dir.path(), &["large", "hello", "empty"]);
    let want = format!(
        "{{\"type\":\"treehash\",\"path\":\"large\",\"size\":5242881,\"treehash\":\"{tree}\"}}\n\
         {{\"type\":\"treehash\",\"path\":\"hello\",\"size\":11,\"treehash\":\"{HELLO}\"}}\n\
         {{\"type\":\"treehash\",\"path\":\"empty\",\"size\":0,\"treehash\":\"{nothing}\"}}\n"
    );
    assert_eq!((code, out, err), (0, want, String::new()));
}

#[test]
fn prints_the_linear_hash_when_asked() {
    let dir = place();
    let (tree, linear) = (TreeHash::of(&large()), Hash::of(&large()));
    let want = format!(
        "{{\"type\":\"treehash\",\"path\":\"large\",\"size\":5242881,\"treehash\":\"{tree}\",\"sha256\":\"{linear}\"}}\n"
    );
    assert_eq!(run(dir.path(), &["--sha256", "large"]), (0, want, String::new()));
}

#[test]
fn reads_standard_input_without_a_file_or_for_a_dash() {
    let dir = place();
    let want = format!("{{\"type\":\"treehash\",\"size\":11,\"treehash\":\"{HELLO}\"}}\n");
    for arguments in [[].as_slice(), &["-"]] {
        let got = run_with_stdin(dir.path(), arguments, b"Hello World");
        assert_eq!(got, (0, want.clone(), String::new()));
    }
    let nothing =
        format!("{{\"type\":\"treehash\",\"size\":0,\"treehash\":\"{}\"}}\n", Hash::of(b""));
    assert_eq!(run_with_stdin(dir.path(), &[], b""), (0, nothing, String::new()));
}

#[test]
fn hashes_many_files_and_keeps_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let names: Vec<String> = (0..300).map(|i| format!("file{i}")).collect();
    for name in &names {
        fs::write(dir.path().join(name), name.repeat(1 + name.len() % 7)).unwrap();
    }
    let (code, out, _) = run(dir.path(), &names.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(code, 0);
    assert_eq!(out.lines().count(), 300);
    for (name, line) in names.iter().zip(out.lines()) {
        let hash = Hash::of(name.repeat(1 + name.len() % 7).as_bytes());
        assert!(line.contains(&format!("\"path\":\"{name}\"")) && line.contains(&hash.to_string()));
    }
}

#[test]
fn does_the_others_when_files_cannot_be_read() {
    let dir = place();
    fs::create_dir(dir.path().join("dir")).unwrap();
    let (code, out, err) = run(dir.path(), &["missing", "hello", "dir", "empty"]);
    assert_eq!((code, out.lines().count()), (74, 2));
    let mut lines: Vec<&str> = err.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "glacier-treehash: dir: Is a directory",
            "glacier-treehash: missing: No such file or directory",
        ]
    );
}

#[test]
fn refuses_a_name_that_fits_no_line_and_does_the_others() {
    let dir = place();
    let out = treehash(dir.path(), &[]).arg(OsStr::from_bytes(b"\xff")).arg("hello").output();
    let (code, out, err) = told(&out.unwrap());
    assert_eq!((code, out.lines().count()), (65, 1));
    assert_eq!(err, said("\u{fffd}: a name that is not UTF-8 fits no line"));

    // A control character takes six bytes in a line.
    let mut deep = String::new();
    for length in [200, 200, 200, 30] {
        deep = format!("{deep}{}/", "\u{1}".repeat(length));
        fs::create_dir(dir.path().join(&deep)).unwrap();
    }
    fs::write(dir.path().join(&deep).join("a"), "").unwrap();
    let with_a = run(dir.path(), &[&format!("{deep}a")]).1.len();
    let fits = format!("{deep}{}", "a".repeat(1 + 4096 - with_a));
    let over = format!("{fits}a");
    fs::write(dir.path().join(&fits), "").unwrap();
    fs::write(dir.path().join(&over), "").unwrap();
    let (code, out, err) = run(dir.path(), &[&fits]);
    assert_eq!((code, out.len(), err.as_str()), (0, 4096, ""));
    fs::write(dir.path().join("list"), out).unwrap();
    assert_eq!(run(dir.path(), &["--check", "list"]), (0, String::new(), String::new()));
    let (code, out, err) = run(dir.path(), &[&over, "hello"]);
    assert_eq!((code, out.lines().count()), (65, 1));
    assert!(err.ends_with("a: too long a name for a line\n"), "{err}");
}

#[test]
fn a_wrong_command_line_is_64() {
    let dir = place();
    for arguments in [["--check", "--sha256"].as_slice(), &["--linear"]] {
        let (code, out, err) = run(dir.path(), arguments);
        assert_eq!((code, out.as_str(), err.lines().count()), (64, "", 1), "{err}");
    }
}

#[test]
fn a_full_standard_output_is_74() {
    let dir = place();
    if Path::new("/dev/full").exists() {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let out = treehash(dir.path(), &["hello", "empty"]).stdout(full).output().unwrap();
        let (code, _, err) = told(&out);
        assert_eq!((code, err), (74, said("stdout: cannot write: No space left on device")));
    } else {
        skip("/dev/full: not there");
    }
}

/// Nor is a producer waited for that has no more to say.
#[test]
fn a_reader_that_is_gone_is_75() {
    let dir = place();
    let gone = "stdout: the program that reads it has ended; run the same command again";
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let out = treehash(dir.path(), &["hello", "empty"]).stdout(writer).output().unwrap();
    let (code, _, err) = told(&out);
    assert_eq!((code, err), (75, said(gone)));
    let (silent, held) = std::io::pipe().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = treehash(dir.path(), &[]);
    let mut child = command.stdin(silent).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
    drop(command);
    drop(reader);
    let begin = Instant::now();
    while child.try_wait().unwrap().is_none() {
        assert!(begin.elapsed() < Duration::from_mins(1), "it waits for ever");
        thread::sleep(Duration::from_millis(10));
    }
    let (code, _, err) = told(&child.wait_with_output().unwrap());
    assert_eq!((code, err), (75, said(gone)));
    drop(held);
}

#[test]
fn a_closed_standard_output_is_a_failure() {
    let dir = place();
    let closed = |redirection: &str| {
        let script = format!("exec {} hello {redirection}", env!("CARGO_BIN_EXE_glacier-treehash"));
        Command::new("sh").args(["-c", &script]).current_dir(dir.path()).output().unwrap()
    };
    let (code, _, err) = told(&closed(">&-"));
    assert_eq!((code, err), (74, said("stdout: cannot write: Bad file descriptor")));
    assert_eq!(told(&closed(">/dev/null")).0, 0, "what the user throws away is no failure");
}

#[test]
fn a_standard_input_that_cannot_be_read_is_74() {
    let dir = place();
    let input = File::open(dir.path()).unwrap();
    let (code, out, err) = told(&treehash(dir.path(), &[]).stdin(input).output().unwrap());
    assert_eq!((code, out, err), (74, String::new(), said("stdin: Is a directory")));
}

#[test]
fn checks_what_it_printed() {
    let dir = place();
    let (_, list, _) = run(dir.path(), &["large", "hello", "empty"]);
    let (_, linear, _) = run(dir.path(), &["--sha256", "large", "hello"]);
    let later =
        "{\"later\":[1],\"type\":\"treehash\",\"path\":\"hello\",\"size\":11,\"treehash\":\"";
    let list = format!("\n{list}{linear}{later}{HELLO}\"}}\n");
    fs::write(dir.path().join("list"), &list).unwrap();
    let silence = (0, String::new(), String::new());
    assert_eq!(run(dir.path(), &["--check", "list"]), silence);
    for arguments in [["--check"].as_slice(), &["--check", "-"]] {
        assert_eq!(run_with_stdin(dir.path(), arguments, list.as_bytes()), silence);
    }
    let (_, own, _) = run_with_stdin(dir.path(), &[], b"Hello World");
    fs::write(dir.path().join("own"), own).unwrap();
    assert_eq!(run_with_stdin(dir.path(), &["--check", "own"], b"Hello World"), silence);
    let (code, _, err) = run_with_stdin(dir.path(), &["--check", "own"], b"Hello Wor1d");
    assert_eq!((code, err), (1, said("stdin: tree hash differs")));
}

#[test]
fn a_difference_is_1_and_the_others_are_checked() {
    let dir = place();
    let (_, list, _) = run(dir.path(), &["--sha256", "empty", "hello", "large"]);
    let wrong = list.replace(&Hash::of(&large()).to_string(), HELLO);
    fs::write(dir.path().join("list"), wrong).unwrap();
    fs::write(dir.path().join("hello"), "Hello World!").unwrap();
    fs::write(dir.path().join("empty"), "").unwrap();
    let (code, out, err) = run(dir.path(), &["--check", "list"]);
    assert_eq!((code, out.as_str()), (1, ""));
    let mut lines: Vec<&str> = err.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "glacier-treehash: hello: has 12 bytes, not 11",
            "glacier-treehash: large: SHA-256 differs",
        ]
    );
    fs::write(dir.path().join("hello"), "Hello Wor1d").unwrap();
    fs::remove_file(dir.path().join("large")).unwrap();
    let (code, _, err) = run(dir.path(), &["--check", "list"]);
    assert_eq!(code, 74, "what cannot be read outweighs what differs");
    assert_eq!(err, said("hello: tree hash differs\nlarge: No such file or directory"));
}

#[test]
fn a_malformed_list_is_65_and_its_good_lines_are_checked() {
    let dir = place();
    let (_, good, _) = run(dir.path(), &["hello"]);
    let whole = "not a whole treehash line";
    for (name, text, why) in [
        ("empty.jsonl", "\n\n".to_owned(), "no treehash line".to_owned()),
        ("torn.jsonl", format!("{good}{}", &good[..40]), format!("line 2: {whole}")),
        (
            "type-other.jsonl",
            good.replace("treehash\",\"p", "part\",\"p"),
            format!("line 1: {whole}"),
        ),
        ("hash-short.jsonl", good.replace("6e\"}", "\"}"), format!("line 1: {whole}")),
        ("size-missing.jsonl", good.replace("\"size\":11,", ""), format!("line 1: {whole}")),
        (
            "long.jsonl",
            format!("{}\n{good}", "x".repeat(1 << 20)),
            "line 1: longer than 4096 bytes".to_owned(),
        ),
    ] {
        fs::write(dir.path().join(name), text).unwrap();
        let got = run(dir.path(), &["--check", name]);
        assert_eq!(got, (65, String::new(), said(&format!("{name}: {why}"))));
    }
    fs::write(dir.path().join("data"), b"\xff\nno\nlist\n").unwrap();
    let got = run(dir.path(), &["--check", "data"]);
    assert_eq!(got, (65, String::new(), said("data: not a list of glacier-treehash")));
    let bad = good.replace("11", "12");
    fs::write(dir.path().join("both.jsonl"), format!("x\n{bad}")).unwrap();
    let (code, _, err) = run(dir.path(), &["--check", "both.jsonl"]);
    assert_eq!((code, err.lines().count()), (65, 2), "{err}");
    let (code, _, err) = run(dir.path(), &["--check", "missing.jsonl"]);
    assert_eq!((code, err), (74, said("missing.jsonl: No such file or directory")));
}

#[test]
fn a_list_on_standard_input_cannot_name_standard_input() {
    let dir = place();
    let (_, own, _) = run_with_stdin(dir.path(), &[], b"Hello World");
    let (code, _, err) = run_with_stdin(dir.path(), &["--check"], own.as_bytes());
    let why = "stdin: line 1: names the input that the list is in";
    assert_eq!((code, err), (65, said(why)));
}

#[test]
fn stays_under_32_mib_whatever_the_size() {
    let dir = tempfile::tempdir().unwrap();
    File::create(dir.path().join("sparse")).unwrap().set_len(512 << 20).unwrap();
    // Waiting for standard input, it has done the file and is still there to
    // be asked.
    let mut child = treehash(dir.path(), &["sparse", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("\"size\":536870912"), "{line}");
    match fs::read_to_string(format!("/proc/{}/status", child.id())) {
        Ok(status) => {
            let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
            let kib: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
            assert!(kib < 32 << 10, "{kib} KiB");
        }
        Err(_) => skip("/proc: not there, the peak memory is not known"),
    }
    child.kill().unwrap();
    child.wait().unwrap();
}
