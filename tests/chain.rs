//! glacier-chain, from the outside.

use std::fs::{self, File};
use std::io::Write;
use std::process::{Command, Output, Stdio};

const HASH: &str = "9bc1b2a288b26af7257a36277ae3816a7d4f16e89c1e7e77d0a5c48bad62b360";

fn chain(word: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_glacier-chain"));
    command.env_clear().arg(word);
    command
}

/// Runs it on a catalog that comes through a pipe, and on one in a file: both
/// must say the same.
fn run(word: &str, catalog: &str) -> (i32, String, String) {
    let mut child = chain(word)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(catalog.as_bytes()).unwrap();
    let piped = told(&child.wait_with_output().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("catalog.jsonl");
    fs::write(&path, catalog).unwrap();
    let read = told(&chain(word).stdin(File::open(&path).unwrap()).output().unwrap());
    assert_eq!(piped, read);
    piped
}

fn told(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

/// The lines of a stream of one volume; a field that no program knows is kept.
fn stream(number: u32, name: &str, guid: u64, from: Option<u64>) -> String {
    let from = from.map(|guid| format!(r#","from_guid":"{guid}""#)).unwrap_or_default();
    let of = format!(r#""stream":"{number:032x}""#);
    let dest = r#""dest":"glacier://cold","region":"eu-central-1""#;
    let who = format!(r#""host":"nas","name":"{name}""#);
    format!(
        r#"{{"type":"hashes",{of},"volume":0,"part":0,"dest":"glacier://cold","treehashes":["{HASH}"]}}
{{"type":"archive","v":1,{of},{who},"volume":0,"offset":0,"size":1048576,"treehash":"{HASH}","part_size":1048576,{dest},"archive_id":"a{number}","uploaded":"2026-01-0{number}T00:00:00Z"}}
{{"type":"snapshot",{of},"name":"{name}","guid":"{guid}"{from},"offset":0}}
{{"type":"stored", "v":1,{of},{who},"format":"zfs","guid":"{guid}"{from},"volumes":1,"size":1048576,"treehash":"{HASH}","whole":"zfs",{dest},"colour":"blue","stored":"2026-01-0{number}T00:00:00Z"}}
"#
    )
}

fn three() -> [String; 3] {
    [
        stream(1, "tank/home@mon", 10, None),
        stream(2, "tank/home@tue", 20, Some(10)),
        stream(3, "tank/home@wed", 30, Some(20)),
    ]
}

#[test]
fn prints_the_lines_of_each_stream_from_the_full_one_on() {
    let [mon, tue, wed] = three();
    let other = stream(4, "tank/mail@mon", 40, None);
    let catalog = format!("{wed}{other}{tue}\n{mon}{mon}");
    let head = |streams: u32| {
        format!("{{\"type\":\"chain\",\"stream\":\"{streams:032x}\",\"streams\":{streams}}}\n")
    };
    let (code, out, err) = run("tank/home@wed", &catalog);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(out, format!("{}{mon}{tue}{wed}", head(3)));
    assert_eq!(run("20", &catalog).1, format!("{}{mon}{tue}", head(2)));
    assert_eq!(run(&format!("{:032x}", 1), &catalog).1, format!("{}{mon}", head(1)));
}

#[test]
fn a_torn_line_is_skipped_and_told() {
    let [mon, tue, _] = three();
    let torn = &tue[..300];
    let (code, out, err) = run("tank/home@mon", &format!("{mon}{torn}\n{{\"type\":\"tape\"}}"));
    assert_eq!((code, out.ends_with(&mon)), (0, true));
    assert_eq!(
        err,
        "glacier-chain: warning: stdin: 1 bad line skipped, the first is 6: a torn line; 1 line \
         of unknown types skipped\n"
    );
}

#[test]
fn what_cannot_be_restored_gives_65_and_no_line() {
    let [mon, tue, wed] = three();
    let later = mon.replace("\"v\":1", "\"v\":2");
    for (word, catalog, reason) in [
        ("tank/home@mon", "", "stdin: no \"stored\" line; is this the catalog of glacier-put?"),
        (
            "tank/home@sun",
            &mon,
            "tank/home@sun: no such snapshot in the catalog; of its 1 streams tank/home@mon of \
             nas is the newest",
        ),
        (
            "tank/home@wed",
            &format!("{mon}{wed}"),
            "tank/home@wed: snapshot 20, which tank/home@wed is based on, is in no stored stream",
        ),
        (
            "tank/home@tue",
            &format!("{mon}{tue}{}", stream(4, "tank/home@tue", 21, None)),
            "tank/home@tue: means 2 things, give one's number instead: 20 (stored \
             2026-01-02T00:00:00Z on nas), 21 (stored 2026-01-04T00:00:00Z on nas)",
        ),
        (
            "tank/home@mon",
            &later,
            "stdin: line 2: archive: version 2 is newer than this program, which knows 1",
        ),
        (
            "tank/home@tue",
            &format!("{tue}{}", mon.replace("\"volumes\":1", "\"volumes\":2")),
            "tank/home@tue: tank/home@mon, volume 1: no \"archive\" line",
        ),
        (
            "tank/home@mon",
            &format!(
                "{{\"type\":\"deleted\",\"archive_id\":\"a1\",\"deleted\":\"2026-02-01T00:00:00Z\"}}\n{mon}"
            ),
            "tank/home@mon: volume 0: its archive was deleted",
        ),
        (
            "tank/home@tue",
            &format!(
                "{mon}{}",
                tue.lines().next_back().map_or("", |end| tue.trim_end().strip_suffix(end).unwrap())
            ),
            "tank/home@tue: is not stored, though 1 of its archives is there; run the command \
             again that stores it",
        ),
    ] {
        let expected = (65, String::new(), format!("glacier-chain: {reason}\n"));
        assert_eq!(run(word, catalog), expected);
    }
}

#[test]
fn begins_with_what_is_received_already() {
    let [mon, tue, wed] = three();
    let catalog = format!("{mon}{tue}{wed}");
    let run = |arguments: &[&str]| {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("catalog.jsonl");
        fs::write(&path, &catalog).unwrap();
        let mut command = chain(arguments[0]);
        told(&command.args(&arguments[1..]).stdin(File::open(&path).unwrap()).output().unwrap())
    };
    for from in ["tank/home@mon", "10"] {
        let (code, out, err) = run(&["tank/home@wed", "--from", from]);
        assert_eq!((code, err.as_str()), (0, ""));
        let head = format!("{{\"type\":\"chain\",\"stream\":\"{:032x}\",\"streams\":2}}\n", 3);
        assert_eq!(out, format!("{head}{tue}{wed}"));
    }
    let (code, out, err) = run(&["30", "--from", "30"]);
    assert_eq!((code, out.as_str()), (65, ""));
    assert_eq!(err, "glacier-chain: 30: is there already, as --from says\n");
    let (code, _, err) = run(&["30", "--from", "tank/home@sun"]);
    assert_eq!(code, 65, "{err}");
}

#[test]
fn lists_what_a_whole_chain_leads_to() {
    let [mon, tue, _] = three();
    let lost = stream(4, "tank/mail@tue", 41, Some(40));
    let catalog = format!("{tue}{lost}{mon}");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("catalog.jsonl");
    fs::write(&path, &catalog).unwrap();
    let (code, out, err) =
        told(&chain("--list").stdin(File::open(path).unwrap()).output().unwrap());
    assert_eq!((code, err.as_str()), (0, ""));
    // How old it is depends on when this runs.
    let ages = out.lines().map(|line| {
        let (line, age) = line.split_once(",\"age_s\":").unwrap();
        assert!(age.trim_end_matches('}').parse::<u64>().unwrap() > 0, "{age}");
        format!("{line}}}\n")
    });
    let out: String = ages.collect();
    let line = |day: u32, name: &str| {
        format!(
            "{{\"type\":\"restorable\",\"name\":\"{name}\",\"guid\":\"{day}0\",\"host\":\"nas\",\"stream\":\"{day:032x}\",\"streams\":{day},\"size\":{},\"dest\":\"glacier://cold\",\"stored\":\"2026-01-0{day}T00:00:00Z\"}}\n",
            day << 20
        )
    };
    assert_eq!(out, line(1, "tank/home@mon") + &line(2, "tank/home@tue"));
    // Nothing that can be restored is an answer too.
    assert_eq!(run("--list", &lost), (0, String::new(), String::new()));
}

/// Runs `--list` with more arguments on a catalog in a file.
fn list(arguments: &[&str], catalog: &str) -> (i32, String, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("catalog.jsonl");
    fs::write(&path, catalog).unwrap();
    told(&chain("--list").args(arguments).stdin(File::open(path).unwrap()).output().unwrap())
}

#[test]
fn lists_the_fields_that_sh_asks_for_and_what_is_of_a_host_or_dataset() {
    let [mon, tue, _] = three();
    let other = stream(4, "tank/home/mail@mon", 40, None);
    let tar = stream(5, "etc-tank/home.tar", 50, None)
        .replace(r#","format":"zfs","guid":"50""#, r#","format":"bytes""#)
        .replace("nas", "desk");
    let catalog = format!("{mon}{tue}{other}{tar}");
    let rows = |arguments: &[&str]| {
        let (code, out, err) = list(arguments, &catalog);
        assert_eq!((code, err.as_str()), (0, ""));
        out
    };
    let fields = ["--fields", "guid,streams,name"];
    let home = "10\t1\ttank/home@mon\n20\t2\ttank/home@tue\n";
    let mail = "40\t1\ttank/home/mail@mon\n";
    let tar = "-\t1\tetc-tank/home.tar\n";
    assert_eq!(rows(&fields), format!("{tar}{home}{mail}"));
    let with = |more: &[&str]| rows(&[&fields[..], more].concat());
    assert_eq!(with(&["--host", "nas"]), format!("{home}{mail}"));
    assert_eq!(with(&["--dataset", "tank/home"]), home, "and nothing below it");
    let two = ["--dataset", "tank/home", "--dataset", "tank/home/mail"];
    assert_eq!(with(&two), format!("{home}{mail}"));
    assert_eq!(with(&["--host", "desk", "--dataset", "tank/home"]), "");
    assert_eq!(with(&["--dataset", "etc-tank/home.tar"]), "", "it is no snapshot of one");
    // Without fields they are lines as ever.
    let json = list(&["--dataset", "tank/home", "--from", "10"], &catalog).1;
    assert!(json.starts_with("{\"type\":\"restorable\",\"name\":\"tank/home@tue\","), "{json}");
    assert_eq!(json.lines().count(), 1);
}

/// That there is no field but those, and none is forgotten.
#[test]
fn every_field_of_a_restorable_can_be_asked_for() {
    let filtered = stream(1, "tank/home@mon", 10, None)
        .replace(r#","format":"zfs","#, r#","format":"bytes","filter":"age","#);
    let (_, out, _) = list(&[], &filtered);
    let line: serde_json::Value = serde_json::from_str(&out).unwrap();
    let line = line.as_object().unwrap();
    let names: Vec<&str> = line.keys().map(String::as_str).filter(|name| *name != "type").collect();
    assert_eq!(names.len(), 10, "{out}");
    for name in names.into_iter().filter(|name| *name != "age_s") {
        let expected = match &line[name] {
            serde_json::Value::String(text) => text.clone(),
            number => number.to_string(),
        };
        assert_eq!(list(&["--fields", name], &filtered), (0, expected + "\n", String::new()));
    }
    assert!(list(&["--fields", "age_s"], &filtered).1.trim_end().parse::<u64>().unwrap() > 0);
}

#[test]
fn what_sh_reads_of_a_row_is_what_the_catalog_says() {
    // A tab, a newline, backslashes, a blank at its end, and what a terminal
    // would obey.
    let name = "etc\t\\t\n\\\u{1b}[2J\u{1} $(touch victim) ";
    let catalog = stream(1, "NAME", 10, None)
        .replace(r#","format":"zfs","guid":"10""#, r#","format":"bytes""#)
        .replace("\"NAME\"", &serde_json::to_string(name).unwrap());
    let (code, out, err) = list(&["--fields", "guid,name,host"], &catalog);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(out.lines().count(), 1, "{out:?}");
    let script = "IFS=$(printf '\\t') read -r guid name host
        printf '%s|%b|%s|' \"$guid\" \"$name\" \"$host\"";
    for shell in [&["sh"][..], &["dash"], &["bash"], &["busybox", "sh"]] {
        let mut child = Command::new(shell[0]);
        let child = child.args(&shell[1..]).args(["-c", script]).env_clear();
        let Ok(mut child) = child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn() else {
            continue;
        };
        child.stdin.take().unwrap().write_all(out.as_bytes()).unwrap();
        let read = child.wait_with_output().unwrap().stdout;
        assert_eq!(String::from_utf8(read).unwrap(), format!("-|{name}|nas|"), "{shell:?}");
    }
}

#[test]
fn a_wrong_command_line_gives_64() {
    for arguments in [
        &[][..],
        &["a", "b"],
        &["--colour"],
        &["--list", "a"],
        &["--from", "a"],
        &["--list", "--fields", "name,colour"],
        &["--fields", "name", "a"],
        &["--host", "nas", "a"],
        &["--dataset", "tank/home", "a"],
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_glacier-chain"));
        let output = command.args(arguments).stdin(Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(64));
    }
    for option in ["--fields", "--host", "--dataset"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_glacier-chain"));
        let output = command.args([option, "name"]).stdin(Stdio::null()).output().unwrap();
        let lacks = "glacier-chain: the following required arguments were not provided: --list; \
                     see 'glacier-chain --help'\n";
        assert_eq!(String::from_utf8(output.stderr).unwrap(), lacks);
        assert_eq!(output.status.code(), Some(64));
    }
}

#[test]
fn output_that_cannot_be_written_gives_74() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("catalog.jsonl");
    fs::write(&path, three().concat()).unwrap();
    let (reader, closed) = std::io::pipe().unwrap();
    drop(reader);
    let mut outputs = vec![(Stdio::from(closed), "Broken pipe")];
    if let Ok(full) = File::options().write(true).open("/dev/full") {
        outputs.push((Stdio::from(full), "No space left on device"));
    }
    for (output, reason) in outputs {
        let output = chain("30")
            .stdin(File::open(&path).unwrap())
            .stdout(output)
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        let expected = format!("glacier-chain: stdout: cannot write: {reason}\n");
        assert_eq!(told(&output), (74, String::new(), expected));
    }
    let output = chain("30").stdin(File::open(directory.path()).unwrap()).output().unwrap();
    assert_eq!(output.status.code(), Some(74));
}

#[test]
fn a_line_without_an_end_is_refused_soon() {
    let start = std::time::Instant::now();
    let mut child = chain("tank/home@mon")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(three().concat().as_bytes()).unwrap();
    let piece = vec![b'x'; 64 << 10];
    let mut given = 0;
    while given < 4_u64 << 30 && stdin.write_all(&piece).is_ok() {
        given += 64 << 10;
    }
    assert!(given < 4 << 20, "{given} bytes were taken");
    let (code, out, err) = told(&child.wait_with_output().unwrap());
    let message = "glacier-chain: stdin: line 13: goes on for over 1 MiB; is this a catalog?\n";
    assert_eq!((code, out.as_str(), err.as_str()), (65, "", message));
    assert!(start.elapsed() < std::time::Duration::from_secs(20));
    // What a crash leaves is passed over.
    let holed = format!("{}\n{}", "\0".repeat(1 << 19), three().concat());
    let (code, _, err) = run("tank/home@mon", &holed);
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("1 bad line skipped, the first is 1: longer than 4096 bytes"), "{err}");
}

#[test]
fn a_catalog_that_does_not_come_is_not_waited_for_when_nobody_reads() {
    let mut child = chain("tank/home@mon")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.as_mut().unwrap().write_all(three()[0].as_bytes()).unwrap();
    // Its standard input stays open.
    let stdin = child.stdin.take();
    drop(child.stdout.take());
    let (code, _, err) = told(&child.wait_with_output().unwrap());
    assert_eq!(code, 75, "{err}");
    drop(stdin);
}
