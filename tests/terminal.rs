//! What reaches a terminal: every tool is given names, values and answers
//! that a terminal would obey, and what it says is one line that shows them.

use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use crate::common::{self, Place, run_with};

/// More characters than any message has.
const LONGEST: usize = 4096;

/// What a terminal must not be sent, and bytes that are no text at all.
fn hostile() -> Vec<OsString> {
    let mut values: Vec<OsString> = [
        "\u{1b}]0;owned\u{7}\u{1b}[2J",
        "two\nlines: done\r\n",
        "\u{9b}31m\u{85}",
        "\u{202e}txt.exe\u{2066}\u{200b}\u{2028}\u{2029}\u{feff}\u{e0041}",
        "%s%n{}\\\u{7f}",
        "\n",
    ]
    .map(OsString::from)
    .into();
    values.push(OsString::from_vec(b"\xff\xfe\x1b[31m\xc2\x9b".to_vec()));
    values.push(OsString::from("\u{1b}[7m".repeat(30_000)));
    values
}

/// Asserts that these bytes are lines that a tool may say, and only show.
#[track_caller]
fn assert_shown(stderr: &[u8], tool: &str, about: &str) {
    let text = std::str::from_utf8(stderr).unwrap_or_else(|_| panic!("{about}: no text"));
    for line in text.split_terminator('\n') {
        assert!(line.starts_with(&format!("{tool}: ")), "{about}: a line of its own: {line}");
        assert!(line.chars().count() <= LONGEST, "{about}: {} characters", line.len());
        let obeyed = line.chars().find(|c| {
            c.is_control()
                || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}'
                    | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
                    | '\u{e0000}'..='\u{e0fff}')
        });
        assert_eq!(obeyed, None, "{about}: {line}");
    }
    assert!(text.is_empty() || text.ends_with('\n'), "{about}: {text}");
}

/// Runs a tool to its end, and asserts that it failed with one line.
#[track_caller]
fn says_one_line(command: &mut Command, tool: &str, about: &str, input: &[u8]) -> String {
    let (status, stderr) = said(command, tool, about, input);
    assert!(!status.success(), "{tool} {about}");
    assert_eq!(stderr.lines().count(), 1, "{tool} {about}: {stderr}");
    stderr
}

/// Runs a tool to its end; gives its status and what it said, which a
/// terminal only shows.
#[track_caller]
fn said(command: &mut Command, tool: &str, about: &str, input: &[u8]) -> (ExitStatus, String) {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let giving = std::thread::spawn(move || {
        // It may have seen enough before the end.
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    giving.join().unwrap();
    let about = format!("{tool} {about}");
    assert!(output.status.code().is_some(), "{about}: a signal ended it");
    assert_shown(&output.stderr, tool, &about);
    (output.status, String::from_utf8(output.stderr).unwrap())
}

fn tools() -> Vec<String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bin");
    let entries = std::fs::read_dir(directory).unwrap();
    let stem = |path: PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
    entries.map(|entry| stem(entry.unwrap().path())).collect()
}

/// The subcommands of the tools that have some; `None` is for the others.
fn forms(tool: &str) -> Vec<Option<&'static str>> {
    match tool {
        "glacier-ls" => {
            ["vaults", "inventory", "jobs", "uploads", "spool", "archives"].map(Some).into()
        }
        _ => vec![None],
    }
}

/// The options of a tool that take a value, as `--help` lists them.
fn options(place: &Place, tool: &str, form: Option<&str>) -> Vec<String> {
    let words: Vec<&str> = form.into_iter().chain(["--help"]).collect();
    let help = common::run(&mut place.tool(tool, &words)).done().stdout;
    let named = help.lines().filter_map(|line| {
        let (name, rest) = line.trim_start().strip_prefix("--")?.split_once([' ', '\n'])?;
        rest.starts_with('<').then(|| format!("--{name}"))
    });
    named.collect()
}

/// A place where a file stands under each hostile name that can be one, so
/// that none becomes a directory.
fn place() -> Place {
    let place = Place::default();
    for name in hostile() {
        // One is too long for a name.
        let _ = std::fs::write(place.path(&name), "no line\n");
    }
    place
}

/// A tool that is to end soon: the address it would ask takes no connection,
/// and the one it would listen on is none.
fn tool(place: &Place, name: &str, option: &str) -> Command {
    let mut command = place.tool(name, &[]);
    command
        .env("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
        .env("AWS_REGION", "eu-central-1")
        .env("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
        .env("AWS_SECRET_ACCESS_KEY", "secret")
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        .env("AWS_EC2_METADATA_DISABLED", "true");
    let needed: &[(&str, &str)] = match name {
        "glacier-put" | "glacier-get" | "glacier-rm" | "glacier-verify" => &[("--patience", "0s")],
        "glacier-local" => &[("--root", "root"), ("--listen", "nowhere")],
        "glacier-prune" => &[("--keep", "last=1")],
        _ => &[],
    };
    for (needed, value) in needed.iter().filter(|(needed, _)| *needed != option) {
        command.args([needed, value]);
    }
    command
}

/// The same, with a subcommand.
fn tool_as(place: &Place, name: &str, form: Option<&str>, option: &str) -> Command {
    let mut command = tool(place, name, option);
    command.args(form);
    let asks = matches!(form, Some("vaults" | "inventory" | "jobs" | "uploads"));
    if asks && option != "--patience" {
        command.args(["--patience", "0s"]);
    }
    command
}

#[test]
fn every_value_of_every_option_is_shown_and_not_obeyed() {
    let place = place();
    let forms = |name: String| forms(&name).into_iter().map(move |form| (name.clone(), form));
    for (name, form) in tools().into_iter().flat_map(forms) {
        let options = options(&place, &name, form);
        for option in &options {
            for value in hostile() {
                let about = format!("{option} {value:.40?}");
                let mut command = tool_as(&place, &name, form, option);
                command.arg(option).arg(&value);
                let asks = matches!(form, Some("inventory" | "jobs" | "uploads"));
                if asks || name == "glacier-put" || name == "glacier-rm" {
                    command.arg("v");
                }
                if name == "glacier-window" {
                    command.arg("00:00-24:00");
                }
                if name == "glacier-chain" {
                    command.arg("x");
                }
                said(&mut command, &name, &about, b"no line\n");
                let mut glued = OsString::from(format!("{option}="));
                glued.push(&value);
                let mut command = tool_as(&place, &name, form, option);
                said(command.arg(&glued), &name, &about, b"no line\n");
            }
        }
    }
}

#[test]
fn every_argument_is_shown_and_not_obeyed() {
    let place = place();
    for name in tools() {
        for value in hostile() {
            let about = format!("{value:.40?}");
            if name != "glacier-get" && name != "glacier-chunk" {
                // A file of that name is there to be read.
                let mut command = tool(&place, &name, "");
                command.arg(&value);
                said(&mut command, &name, &about, b"no line\n");
            }
            for form in forms(&name).into_iter().flatten() {
                said(tool_as(&place, &name, Some(form), "").arg(&value), &name, &about, b"x\n");
            }
            for begin in ["--", "-", "--no-such=", "--quiet="] {
                let mut unknown = OsString::from(begin);
                unknown.push(&value);
                // "--" and a newline is `--\n`, an option that is not there.
                says_one_line(tool(&place, &name, "").arg(&unknown), &name, &about, b"no line\n");
            }
            if name == "glacier-get" || name == "glacier-chunk" {
                let mut command = tool(&place, &name, "");
                command.arg("--").arg(&value);
                says_one_line(&mut command, &name, &about, b"no line\n");
            }
        }
    }
}

#[test]
fn every_variable_is_shown_and_not_obeyed() {
    let place = place();
    let stream = r#"{"type":"stream","v":1,"stream":"00000000000000000000000000000000","host":"h","name":"n","format":"bytes","part_size":1048576,"volume_size":2097152}
"#;
    for variable in [
        "GLACIER_SPOOL",
        "GLACIER_CATALOG",
        "GLACIER_DEST",
        "AWS_PROFILE",
        "AWS_REGION",
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_GLACIER",
        "AWS_CA_BUNDLE",
        "AWS_CONFIG_FILE",
        "AWS_SHARED_CREDENTIALS_FILE",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "HTTPS_PROXY",
        "HTTP_PROXY",
        "HOME",
        "TZ",
        "TMPDIR",
    ] {
        for value in hostile() {
            let about = format!("{variable}={value:.40?}");
            for (name, arguments) in [
                ("glacier-put", &["v"][..]),
                ("glacier-chunk", &[]),
                ("glacier-get", &[]),
                ("glacier-rm", &["--yes", "v"]),
                ("glacier-verify", &[]),
                ("glacier-window", &["--check", "00:00-00:01,00:02-00:01"]),
                ("glacier-chain", &["x"]),
                ("glacier-prune", &["--keep", "daily=1"]),
                ("glacier-local", &[]),
                ("glacier-ls", &["inventory", "--patience", "0s"]),
                ("glacier-ls", &["uploads", "--patience", "0s", "v"]),
                ("glacier-ls", &["spool"]),
            ] {
                let mut command = tool(&place, name, "");
                command.args(arguments).env(variable, &value);
                if variable == "GLACIER_DEST" && name == "glacier-put" {
                    command = tool(&place, name, "");
                    command.env(variable, &value);
                }
                if variable == "HOME" {
                    command.env_remove("GLACIER_SPOOL").env("XDG_STATE_HOME", &value);
                }
                said(&mut command, name, &about, stream.as_bytes());
            }
        }
    }
}

#[test]
fn what_lines_say_is_shown_and_not_obeyed() {
    let place = place();
    for value in hostile().iter().filter_map(|value| value.to_str()) {
        let text = serde_json::to_string(&value[..value.len().min(2000)]).unwrap();
        for line in [
            format!(r#"{{"type":"failed","code":65,"message":{text}}}"#),
            format!(r#"{{"type":{text}}}"#),
            format!(r#"{{"type":"part",{text}:1}}"#),
            format!(r#"{{"type":"part","stream":{text}}}"#),
            format!(r#"{{"type":"stream","window":{text},"tz":{text}}}"#),
            value.to_owned(),
        ] {
            for (name, arguments) in [
                ("glacier-put", &["v"][..]),
                ("glacier-put", &["--dry-run", "v"]),
                ("glacier-get", &[]),
                ("glacier-rm", &["v"]),
                ("glacier-chain", &["x"]),
                ("glacier-ls", &["archives"]),
                ("glacier-prune", &["--keep", "last=1"]),
                ("glacier-treehash", &["--check"]),
            ] {
                let mut command = tool(&place, name, "");
                said(command.args(arguments), name, &line, format!("{line}\n").as_bytes());
            }
        }
        let id = "00000000000000000000000000000000";
        let named = format!(
            r#"{{"type":"treehash","path":{text},"size":1,"treehash":"{}"}}"#,
            "0".repeat(64)
        );
        let mut command = tool(&place, "glacier-treehash", "");
        said(command.arg("--check"), "glacier-treehash", &named, named.as_bytes());
        let stored = format!(
            r#"{{"type":"stored","v":1,"stream":"{id}","host":{text},"name":{text},"volumes":1,"size":1,"treehash":"{}","whole":"trusted","dest":"glacier://v","region":"eu-central-1","manifest_id":"m","stored":"2026-11-23T00:00:00Z"}}
{{"type":"archive","v":1,"stream":"{id}","host":{text},"name":{text},"volume":0,"offset":0,"size":1,"treehash":"{}","part_size":1048576,"dest":{text},"region":{text},"archive_id":"a","uploaded":"2026-11-23T00:00:00Z"}}
"#,
            "0".repeat(64),
            "0".repeat(64)
        );
        for (name, argument) in [
            ("glacier-get", "--partial"),
            ("glacier-rm", "v"),
            ("glacier-chain", "no such"),
            ("glacier-verify", "--dry-run"),
        ] {
            said(tool(&place, name, "").arg(argument), name, &stored, stored.as_bytes());
        }
    }
}

/// A service that refuses everything with this body and type.
fn refuses(kind: &'static str, body: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    // It ends with the test's process.
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let mut request = [0; 16 << 10];
            let _ = client.read(&mut request);
            let head = format!(
                "HTTP/1.1 400 \u{1b}[31mBad\r\nx-amzn-errortype: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            let _ = client.write_all(&[head.as_bytes(), body.as_bytes()].concat());
        }
    });
    endpoint
}

#[test]
fn what_a_service_answers_is_shown_and_not_obeyed() {
    let place = place();
    let stream = r#"{"type":"stream","v":1,"stream":"00000000000000000000000000000000","host":"h","name":"n","format":"bytes","part_size":1048576,"volume_size":2097152}
"#;
    for value in hostile().iter().filter_map(|value| value.to_str()) {
        let text = serde_json::to_string(value).unwrap();
        for (kind, body) in [
            ("", format!(r#"{{"code":{text},"message":{text},"type":"Client"}}"#)),
            ("\u{1b}[31m\u{9b}", format!(r#"{{"code":{text},"message":{text}}}"#)),
            ("InvalidParameterValueException", value.to_owned()),
        ] {
            let mut command = tool(&place, "glacier-put", "");
            command.arg("v").env("AWS_ENDPOINT_URL", refuses(kind, body));
            says_one_line(&mut command, "glacier-put", "an answer", stream.as_bytes());
            let mut command = tool_as(&place, "glacier-ls", Some("inventory"), "");
            let body = format!(r#"{{"code":{text},"message":{text},"type":"Client"}}"#);
            command.arg("v").env("AWS_ENDPOINT_URL", refuses(kind, body));
            says_one_line(&mut command, "glacier-ls", "an answer", b"");
        }
    }
}

/// The name a program is called by is its caller's word, too.
#[test]
fn its_own_name_is_shown_and_not_obeyed() {
    let place = Place::default();
    let name = "\u{1b}[31mglacier\n-put\u{202e}";
    let shown = "\\u{1b}[31mglacier\\n-put\\u{202e}";
    for arguments in [&["--no-such"][..], &["--help"], &["--version"], &["v"]] {
        let mut command = place.tool("glacier-put", arguments);
        let output = command.arg0(name).output().unwrap();
        if output.status.success() {
            let text = String::from_utf8(output.stdout).unwrap();
            assert!(text.lines().all(|line| !line.chars().any(char::is_control)), "{text}");
        } else {
            assert_shown(&output.stderr, shown, "argv[0]");
        }
    }
}

#[test]
fn a_name_of_a_file_is_shown_and_not_obeyed() {
    let place = Place::default();
    for name in hostile() {
        let mut command = place.tool("glacier-treehash", &["--"]);
        says_one_line(command.arg(&name), "glacier-treehash", "a file", b"");
        let mut marker = place.tool("glacier-chunk", &["--name", "n", "--whole"]);
        marker.arg(&name);
        let stdout = run_with(&mut marker, b"x");
        assert_ne!(stdout.code(), 0);
        assert_shown(stdout.stderr.as_bytes(), "glacier-chunk", "a marker");
        if name.as_bytes().contains(&0xff) {
            let path = place.path(&name);
            std::fs::write(&path, "x").unwrap();
            let mut command = place.tool("glacier-treehash", &["--"]);
            says_one_line(command.arg(OsStr::new(&path)), "glacier-treehash", "no UTF-8", b"");
        }
    }
}
