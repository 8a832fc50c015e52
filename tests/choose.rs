//! akashita-choose, from the outside.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

const HASH: &str = "9bc1b2a288b26af7257a36277ae3816a7d4f16e89c1e7e77d0a5c48bad62b360";

const ID: &str = "0123456789abcdef";

/// The lines of a stream of one volume.
fn stream(number: u64, name: &str, guid: u64, from: Option<u64>) -> String {
    let from = from.map(|guid| format!(r#","from_guid":"{guid}""#)).unwrap_or_default();
    let of = format!(r#""stream":"{number:032x}""#);
    let dest = r#""dest":"glacier://cold","region":"eu-central-1""#;
    let who = format!(r#""host":"nas","name":"{name}""#);
    format!(
        r#"{{"type":"archive","v":1,{of},{who},"volume":0,"offset":0,"size":1048576,"treehash":"{HASH}","part_size":1048576,{dest},"archive_id":"a{number}","uploaded":"2026-01-01T00:00:00Z"}}
{{"type":"snapshot",{of},"name":"{name}","guid":"{guid}"{from},"offset":0}}
{{"type":"stored","v":1,{of},{who},"format":"zfs","guid":"{guid}"{from},"volumes":1,"size":1048576,"treehash":"{HASH}","whole":"zfs",{dest},"stored":"2026-01-01T00:00:00Z"}}
"#
    )
}

/// As `zfs get` prints a point, and the script its mark.
fn point(name: &str, guid: u64, txg: u64) -> String {
    let mark = if name.contains("@akashita:") {
        format!("{name}\takashita:id\t{ID}\n")
    } else {
        String::new()
    };
    format!("{name}\tguid\t{guid}\n{name}\tcreatetxg\t{txg}\n{mark}")
}

struct Ran {
    code: i32,
    out: String,
    err: String,
}

/// Runs it on a catalog that comes through a pipe, which is read once or not
/// at all.
fn run(directory: &Path, arguments: &[&str], catalog: &str) -> Ran {
    let mut child = Command::new(env!("CARGO_BIN_EXE_akashita-choose"))
        .args(arguments)
        .env_clear()
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // It may have ended of something else.
    let _ = stdin.write_all(catalog.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

fn place(points: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("points"), points).unwrap();
    directory
}

const USUAL: [&str; 7] = ["--id", ID, "--keep", "1", "--full-every", "9", "points"];

#[test]
fn tells_what_the_next_stream_is_based_on_and_what_is_old() {
    let points = ["tank/home@akashita:1Z", "tank/home@akashita:2Z", "tank/home@akashita:3Z"];
    let points: String =
        (1..).zip(points).map(|(n, name)| point(name, n * 10, n)).collect::<String>()
            + &point(&format!("tank/home#akashita:1Z-{ID}"), 10, 1)
            + &point("tank/mail@akashita:1Z", 77, 4)
            + &point("tank/mail@mine", 40, 3);
    let place = place(&points);
    let catalog = stream(1, "tank/home@akashita:1Z", 10, None)
        + &stream(2, "tank/home@akashita:2Z", 20, Some(10))
        + &stream(4, "tank/mail@mine", 40, None);
    let Ran { code, out, err } = run(place.path(), &USUAL, &catalog);
    assert_eq!((code, err.as_str()), (0, ""));
    let expected = "ours\ttank/home\ttank/home@akashita:3Z\t30\tmarked\topen\t-
base\ttank/home\ttank/home@akashita:2Z\t20
next\ttank/home\ttank/home@akashita:3Z\t30
old\ttank/home\ttank/home@akashita:3Z\t30\tmarked\t2
old\ttank/home\ttank/home@akashita:2Z\t20\tmarked\t1
old\ttank/home\ttank/home@akashita:1Z\t10\tmarked\t0
ours\ttank/mail\ttank/mail@akashita:1Z\t77\tmarked\topen\t-
base\ttank/mail\ttank/mail@mine\t40
next\ttank/mail\ttank/mail@akashita:1Z\t77
old\ttank/mail\ttank/mail@akashita:1Z\t77\tmarked\t2
";
    assert_eq!(out, expected);
    // What waits in the spool, if its base is stored.
    let spooled = |from: u64| {
        let line = format!(
            "{{\"type\":\"stream\",\"stream\":\"{:032x}\",\"guid\":\"30\",\"from_guid\":\"{from}\",\"state\":\"spooled\"}}\n",
            5
        );
        fs::write(place.path().join("spool"), line).unwrap();
        let with = [&["--spool", "spool"], &USUAL[..]].concat();
        run(place.path(), &with, &catalog).out
    };
    assert!(
        spooled(20)
            .starts_with(&expected.replacen("open\t-", &format!("open\t{:032x}", 5), 1)[..90])
    );
    assert!(spooled(99).starts_with(&expected[..60]));
    // What goes leaves its bookmark without a sense, and what was stored is old.
    fs::write(place.path().join("gone"), stream(1, "tank/home@akashita:1Z", 10, None)).unwrap();
    let full = stream(3, "tank/home@akashita:3Z", 30, None);
    let with = [&["--gone", "gone"], &USUAL[..]].concat();
    let gone = run(place.path(), &with, &format!("{catalog}{full}"));
    assert_eq!(gone.code, 0, "{}", gone.err);
    let old: Vec<&str> =
        gone.out.lines().filter(|line| line.starts_with("old\ttank/home\t")).collect();
    let bookmark = format!("old\ttank/home\ttank/home#akashita:1Z-{ID}\t10\tunmarked\t0");
    assert_eq!(
        old,
        [
            "old\ttank/home\ttank/home@akashita:3Z\t30\tmarked\t1",
            "old\ttank/home\ttank/home@akashita:2Z\t20\tmarked\t0",
            "old\ttank/home\ttank/home@akashita:1Z\t10\tmarked\t0",
            &bookmark,
        ]
    );
    assert!(!run(place.path(), &USUAL, &format!("{catalog}{full}")).out.contains('#'));
}

/// The catalog comes through a pipe, so there is no second reading of it.
#[test]
fn a_thousand_datasets_cost_one_reading_of_the_catalog() {
    let (mut points, mut catalog) = (String::new(), String::new());
    for n in 1..=1000 {
        let name = format!("tank/d{n}@akashita:1Z");
        points += &point(&name, n, n);
        catalog += &stream(n, &name, n, None);
        writeln!(points, "tank/d{n}\ttype\tfilesystem").unwrap();
    }
    let Ran { code, out, err } = run(place(&points).path(), &USUAL, &catalog);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(out.matches("\tmarked\tstored\t-\n").count(), 1000);
    assert_eq!(out.lines().filter(|line| line.starts_with("base\t")).count(), 1000);
}

#[test]
fn a_wrong_command_line_gives_64() {
    for arguments in [
        &["points"][..],
        &["--keep", "1"],
        &["--keep", "x", "points"],
        &["--keep", "1", "--tar", "--compound", "points"],
    ] {
        let ran = run(place("").path(), arguments, "");
        assert_eq!((ran.code, ran.out.as_str()), (64, ""), "{arguments:?}");
    }
}

#[test]
fn what_is_no_point_or_of_a_later_version_gives_65() {
    let catalog = stream(1, "tank/home@akashita:1Z", 10, None);
    for (points, catalog, why) in [
        (
            "tank/home@x\tguid\n",
            "",
            "points: line 1: not a name, a property and a value, with tabs between",
        ),
        ("tank/home@x\tguid\t1\n", "", "points: tank/home@x: no createtxg"),
        (
            "tank/home@x\tguid\t1\ntank/home@x\tguid\t2\n",
            "",
            "points: line 2: says another thing than a line before",
        ),
        (
            "",
            &catalog.replacen("\"v\":1", "\"v\":2", 1),
            "stdin: line 1: archive: version 2 is newer than this program, which knows 1",
        ),
    ] {
        let ran = run(place(points).path(), &USUAL, catalog);
        let expected = (65, "", format!("akashita-choose: {why}\n"));
        assert_eq!((ran.code, ran.out.as_str(), ran.err), expected);
    }
    // What is torn is told, and the rest counts.
    let torn = format!("{catalog}{}", &catalog[..100]);
    let ran = run(place(&point("tank/home@akashita:1Z", 10, 1)).path(), &USUAL, &torn);
    assert_eq!(ran.code, 0);
    assert!(
        ran.err.starts_with("akashita-choose: warning: stdin: 1 bad line skipped"),
        "{}",
        ran.err
    );
    assert!(ran.out.contains("\tstored\t"), "{}", ran.out);
}

#[test]
fn what_cannot_be_read_or_written_gives_74() {
    let place = place("tank/home@x\tguid\t1\ntank/home@x\tcreatetxg\t2\n");
    let gone = run(place.path(), &["--keep", "1", "nowhere"], "");
    let why = "akashita-choose: nowhere: cannot read: No such file or directory\n";
    assert_eq!((gone.code, gone.err.as_str()), (74, why));
    let tool = || {
        let mut tool = Command::new(env!("CARGO_BIN_EXE_akashita-choose"));
        tool.args(USUAL).env_clear().current_dir(place.path());
        tool
    };
    let output = tool().stdin(File::open(place.path()).unwrap()).output().unwrap();
    assert_eq!(output.status.code(), Some(74));
    if let Ok(full) = File::options().write(true).open("/dev/full") {
        fs::write(place.path().join("points"), point("tank/home@akashita:1Z", 1, 2)).unwrap();
        let output = tool().stdin(Stdio::null()).stdout(full).output().unwrap();
        assert_eq!(output.status.code(), Some(74));
    }
}

#[test]
fn a_base_that_was_sent_with_other_flags_is_none() {
    let place = tempfile::tempdir().unwrap();
    let catalog = |features: &str, more: &str| {
        let facts =
            format!(r#""guid":"11","created":"2026-01-01T00:00:00Z","features":[{features}]"#);
        let lines = stream(1, "tank/home@akashita:1Z", 11, None).replace(r#""guid":"11""#, &facts);
        lines.replace(r#""whole":"zfs""#, &format!(r#""whole":"zfs"{more}"#))
    };
    let (plain, large) = (r#""sa_spill""#, r#""sa_spill","large_blocks""#);
    let raw = r#""sa_spill","large_blocks","raw""#;
    let of = "tank/home\ttank/home@akashita:1Z\t11";
    let base = Ok(format!("base\t{of}"));
    let unfit = |why: &str| Err(format!("unfit\t{of}\twas {why}"));
    let wants_large = unfit("sent with large blocks (zfs send -L), and this without");
    let wants_raw = unfit("sent raw (zfs send -w), and this was not");
    let is_not_raw = unfit("not sent raw, and this was (zfs send -w)");
    for (features, encrypted, send, how, expected) in [
        (plain, false, "", "auto", &base),
        (plain, false, "-Lec", "yes", &base),
        (large, false, "-Lec", "auto", &base),
        (large, false, "-e -cL", "no", &base),
        (large, false, "--large-block", "no", &base),
        (large, false, "-ec", "auto", &wants_large),
        (large, false, "", "yes", &base),
        (raw, true, "", "auto", &base),
        (raw, true, "-L", "no", &wants_raw),
        (large, true, "-L", "no", &base),
        (large, true, "", "yes", &is_not_raw),
        (plain, true, "", "auto", &is_not_raw),
    ] {
        let mut points = point("tank/home@akashita:1Z", 11, 1);
        if encrypted {
            points.push_str("tank/home@akashita:1Z\tencryption\ton\n");
        }
        fs::write(place.path().join("points"), points).unwrap();
        let send = format!("--send={send}");
        let options =
            ["points", "--id", ID, "--keep", "3", "--full-every", "9", &send, "--raw", how];
        let ran = run(place.path(), &options, &catalog(features, ""));
        assert_eq!((ran.code, &*ran.err), (0, ""), "{features} {send} {how}");
        let line =
            ran.out.lines().find(|line| line.starts_with("base") || line.starts_with("unfit"));
        match expected {
            Ok(base) => assert_eq!(line, Some(&**base), "{features} {send} {how}"),
            Err(unfit) => assert_eq!(line, Some(&**unfit), "{features} {send} {how}"),
        }
        assert!(expected.is_ok() || !ran.out.contains("base\t"), "{}", ran.out);
    }
    fs::write(place.path().join("points"), point("tank/home@akashita:1Z", 11, 1)).unwrap();
    let options = ["points", "--id", ID, "--keep", "3", "--full-every", "9"];
    let ran = run(place.path(), &options, &catalog(plain, r#","misplaced":2"#));
    let why = "lost something on its way that an increment would lack, too";
    assert!(ran.out.contains(&format!("unfit\t{of}\t{why}\n")), "{}", ran.out);
    assert!(!ran.out.contains("base\t"), "{}", ran.out);
}
