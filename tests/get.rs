//! glacier-get, from the outside, against glacier-local.

mod chosen;
mod keep;
mod plans;
mod resume;
mod scene;
mod steps;
mod tiers;
mod whole;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::time::{Duration, Instant};

use akashita::hash::tree::{Fold, Hash, LEAF, TreeHash};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use tempfile::TempDir;

const KEY: &str = "AKIAIOSFODNN7EXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

/// A vault with archives, and the catalog that tells of them.
struct Service {
    child: Child,
    address: String,
    directory: TempDir,
    catalog: String,
}

impl Service {
    /// Hours of the service pass `speed` times as fast.
    fn start(speed: u32) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_glacier-local"))
            .env_clear()
            .env("AWS_ACCESS_KEY_ID", KEY)
            .env("AWS_SECRET_ACCESS_KEY", SECRET)
            .arg("--root")
            .arg(directory.path().join("root"))
            .arg("--log")
            .arg(directory.path().join("log"))
            .arg("--clock-speed")
            .arg(speed.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let line: Value = serde_json::from_str(&line).unwrap();
        let address = line["endpoint"].as_str().unwrap().strip_prefix("http://").unwrap();
        let address = address.to_owned();
        let service = Self { child, address, directory, catalog: String::new() };
        service.call("PUT", "/-/vaults/cold", &[], b"");
        service
    }

    /// Three streams of a chain, and one that is not of it.
    fn with_three(speed: u32) -> (Self, [Vec<u8>; 3]) {
        let mut service = Self::start(speed);
        let streams = [5 * LEAF + 7, LEAF, 3 * LEAF - 1].map(data);
        service.store(1, "tank@mon", 10, None, &streams[0]);
        service.store(9, "tank@mon2", 90, None, b"of no use");
        service.store(2, "tank@tue", 20, Some(10), &streams[1]);
        service.store(3, "tank@wed", 30, Some(20), &streams[2]);
        (service, streams)
    }

    /// A signed request; gives the headers of the answer.
    fn call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> String {
        let sha256 = Hash::of(body).to_string();
        let time = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
        let mut all = vec![
            ("host", self.address.as_str()),
            ("x-amz-content-sha256", &sha256),
            ("x-amz-date", &time),
            ("x-amz-glacier-version", "2012-06-01"),
        ];
        all.extend(headers);
        all.sort_unstable();
        let names = all.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
        let list = |colon: &str, end: &str| -> String {
            all.iter().flat_map(|(name, value)| [name, colon, value, end]).collect()
        };
        let canonical = format!("{method}\n{path}\n\n{}\n{names}\n{sha256}", list(":", "\n"));
        let scope = format!("{}/eu-central-1/glacier/aws4_request", &time[..8]);
        let canonical = Hash::of(canonical.as_bytes());
        let to_sign = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{canonical}");
        let mut key = format!("AWS4{SECRET}").into_bytes();
        for step in scope.split('/').chain([to_sign.as_str()]) {
            let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
            mac.update(step.as_bytes());
            key = mac.finalize().into_bytes().to_vec();
        }
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\n{}content-length: {}\r\nconnection: close\r\n\
             authorization: AWS4-HMAC-SHA256 Credential={KEY}/{scope}, SignedHeaders={names}, \
             Signature={}\r\n\r\n",
            list(": ", "\r\n"),
            body.len(),
            hex::encode(key)
        )
        .unwrap();
        stream.write_all(body).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 20"), "{answer}");
        answer
    }

    /// Stores a stream in volumes of two parts of one MiB, and adds its lines
    /// to the catalog.
    fn store(&mut self, number: u32, name: &str, guid: u64, from: Option<u64>, data: &[u8]) {
        let (stream, time) = (format!("{number:032x}"), "2026-01-01T00:00:00Z");
        let (dest, region) = ("glacier://cold", "eu-central-1");
        let mut all = Fold::default();
        let mut lines = Vec::new();
        for (volume, bytes) in data.chunks(2 * LEAF).enumerate() {
            let treehash = TreeHash::of(bytes);
            all.push(treehash);
            let parts: Vec<Hash> = bytes.chunks(LEAF).map(TreeHash::of).collect();
            lines.push(json!({"type": "hashes", "stream": stream, "volume": volume, "part": 0,
                "dest": dest, "treehashes": parts}));
            lines.push(json!({"type": "archive", "v": 1, "stream": stream, "host": "nas",
                "name": name, "volume": volume, "offset": volume * 2 * LEAF,
                "size": bytes.len(), "treehash": treehash, "part_size": LEAF, "dest": dest,
                "region": region, "archive_id": "a", "uploaded": time}));
        }
        let mut end = json!({"type": "stored", "v": 1, "stream": stream, "host": "nas",
            "name": name, "format": "zfs", "guid": guid.to_string(),
            "volumes": data.len().div_ceil(2 * LEAF), "size": data.len(),
            "treehash": all.finish(), "whole": "zfs", "dest": dest, "region": region,
            "stored": time});
        if let Some(from) = from {
            end["from_guid"] = from.to_string().into();
        }
        let mut volumes = data.chunks(2 * LEAF);
        for line in &mut lines {
            if line["type"] == "archive" {
                let bytes = volumes.next().unwrap();
                let hash = TreeHash::of(bytes).to_string();
                let headers = [("x-amz-sha256-tree-hash", hash.as_str())];
                let answer = self.call("POST", "/-/vaults/cold/archives", &headers, bytes);
                let id = answer
                    .lines()
                    .find_map(|line| line.strip_prefix("x-amz-archive-id: "))
                    .unwrap();
                line["archive_id"] = id.into();
            }
        }
        lines.push(end);
        for line in lines {
            self.catalog += &line.to_string();
            self.catalog.push('\n');
        }
    }

    /// The lines of the chain of three.
    fn chain(&self) -> String {
        let mut child = Command::new(env!("CARGO_BIN_EXE_glacier-chain"))
            .arg("tank@wed")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(self.catalog.as_bytes()).unwrap();
        String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
    }

    /// The lines of the first stream alone.
    fn first(&self) -> String {
        let of = format!("{:032x}", 1);
        let lines = self.catalog.lines().filter(|line| line.contains(&of));
        lines.flat_map(|line| [line, "\n"]).collect()
    }

    fn get(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_glacier-get"));
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.directory.path())
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_ACCESS_KEY_ID", KEY)
            .env("AWS_SECRET_ACCESS_KEY", SECRET)
            .arg("--endpoint-url")
            .arg(format!("http://{}", self.address))
            .args(["--tier", "Expedited"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// How many calls of a kind the log has.
    fn calls(&self, call: &str) -> usize {
        let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
        log.lines().filter(|line| line.contains(&format!("\"call\":\"{call}\""))).count()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn data(size: usize) -> Vec<u8> {
    (0..=250).cycle().take(size).collect()
}

fn feed(mut stdin: ChildStdin, lines: &str) {
    // A tool that has seen enough may close its end.
    let _ = stdin.write_all(lines.as_bytes());
}

fn run(mut command: Command, lines: &str) -> (i32, Vec<u8>, String) {
    let mut child = command.spawn().unwrap();
    feed(child.stdin.take().unwrap(), lines);
    told(child.wait_with_output().unwrap())
}

fn told(output: Output) -> (i32, Vec<u8>, String) {
    (output.status.code().unwrap(), output.stdout, String::from_utf8(output.stderr).unwrap())
}

/// Takes each stream into a file of its own, named by their order.
fn collect(directory: &Path) -> String {
    format!("cd '{}' && n=$(ls | grep -c '^got' || :) && cat >\"got$n\"", directory.display())
}

fn until(mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < Duration::from_mins(1), "never came true");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_chain_comes_back_as_one_run_of_the_command_for_each_stream() {
    let (service, streams) = Service::with_three(600);
    let script = collect(service.directory.path());
    let command = service.get(&["--", "sh", "-c", &script]);
    let (code, out, err) = run(command, &service.chain());
    assert_eq!((code, out.as_slice(), err.as_str()), (0, &b""[..], ""));
    for (number, stream) in streams.iter().enumerate() {
        assert!(fs::read(service.path(&format!("got{number}"))).unwrap() == *stream, "{number}");
    }
    assert!(!service.path("got3").exists());
    // Running it again does not pay again.
    assert_eq!(run(service.get(&["--", "cat"]), &service.chain()).1, streams.concat());
    assert_eq!(service.calls("InitiateJob"), 6);
}

#[test]
fn one_stream_goes_to_standard_output() {
    let (service, streams) = Service::with_three(600);
    let (code, out, err) = run(service.get(&["--concurrency", "1"]), &service.first());
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out == streams[0]);
}

#[test]
fn a_line_that_lacks_gives_no_request_and_no_byte() {
    let (service, _) = Service::with_three(600);
    let chain = service.chain();
    let lines: Vec<&str> = chain.lines().collect();
    // Without its head, by hand, a chain is as good.
    for missing in 1..lines.len() {
        let mut less = lines.clone();
        less.remove(missing);
        let command = service.get(&["--", "sh", "-c", "echo ran"]);
        let (code, out, err) = run(command, &less.join("\n"));
        // Without a "stored" line a pipe may have been cut.
        let cut = if lines[missing].contains("\"type\":\"stored\"") { 75 } else { 65 };
        assert_eq!((code, out.as_slice()), (cut, &b""[..]), "line {missing}: {err}");
        assert_eq!(err.lines().count(), 1, "{err}");
    }
    for length in 0..lines.len() {
        let command = service.get(&["--", "sh", "-c", "echo ran"]);
        let (code, out, _) = run(command, &lines[..length].join("\n"));
        let status = if length == 0 { 65 } else { 75 };
        assert_eq!((code, out.as_slice()), (status, &b""[..]), "{length} lines");
    }
    assert_eq!((service.calls("ListJobs"), service.calls("InitiateJob")), (0, 0));
}

#[test]
fn partial_takes_what_is_there() {
    let (service, streams) = Service::with_three(600);
    let lines: Vec<String> = service.first().lines().map(ToOwned::to_owned).collect();
    let without_stored = lines[..4].join("\n");
    let (code, out, err) = run(service.get(&["--partial"]), &without_stored);
    assert_eq!(code, 0, "{err}");
    assert!(out == streams[0][..4 * LEAF]);
    assert_eq!(err, "glacier-get: warning: tank@mon: no \"stored\" line, so it may not be whole\n");
}

#[test]
fn several_streams_need_a_command() {
    let (service, _) = Service::with_three(600);
    let (code, out, err) = run(service.get(&[]), &service.chain());
    assert_eq!((code, out.len()), (65, 0));
    assert_eq!(err, "glacier-get: stdin: 3 streams do not fit into one output; use -- COMMAND\n");
}

#[test]
fn no_wait_gives_75_until_all_is_ready() {
    let (service, streams) = Service::with_three(60);
    let (code, out, err) = run(service.get(&["--no-wait"]), &service.first());
    assert_eq!((code, out.len()), (75, 0));
    assert_eq!(
        err,
        "glacier-get: 3 of 3 archives are not ready; run the same command again in a few hours\n"
    );
    until(|| {
        let (code, out, err) = run(service.get(&["--no-wait"]), &service.first());
        assert!((code == 75 && out.is_empty()) || (code == 0 && out == streams[0]), "{err}");
        code == 0
    });
    assert_eq!(service.calls("InitiateJob"), 3);
}

#[test]
fn a_killed_run_is_continued_by_the_next() {
    let (service, streams) = Service::with_three(60);
    let mut child = service.get(&[]).spawn().unwrap();
    feed(child.stdin.take().unwrap(), &service.first());
    until(|| service.calls("InitiateJob") == 3);
    child.kill().unwrap();
    child.wait().unwrap();
    let (code, out, err) = run(service.get(&[]), &service.first());
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out == streams[0]);
    assert_eq!(service.calls("InitiateJob"), 3);
}

#[test]
fn a_reader_that_is_gone_is_noticed_while_waiting() {
    let (service, _) = Service::with_three(1);
    let mut child = service.get(&[]).spawn().unwrap();
    feed(child.stdin.take().unwrap(), &service.first());
    until(|| service.calls("InitiateJob") == 3);
    drop(child.stdout.take());
    let (code, _, err) = told(child.wait_with_output().unwrap());
    assert_eq!(code, 75, "{err}");
}

#[test]
fn output_that_cannot_be_written_gives_74() {
    let (service, _) = Service::with_three(600);
    let (reader, closed) = std::io::pipe().unwrap();
    let mut command = service.get(&["--concurrency", "1"]);
    command.stdout(closed);
    // The reader takes the first bytes and goes when all is ready.
    let taker = std::thread::spawn(move || {
        let mut reader = reader;
        reader.read_exact(&mut [0; 100]).unwrap();
    });
    let (code, _, err) = run(command, &service.first());
    taker.join().unwrap();
    assert_eq!((code, err.as_str()), (74, "glacier-get: stdout: cannot write: Broken pipe\n"));
    if let Ok(full) = File::options().write(true).open("/dev/full") {
        let mut command = service.get(&[]);
        command.stdout(full);
        let (code, _, err) = run(command, &service.first());
        assert_eq!(
            (code, err.as_str()),
            (74, "glacier-get: stdout: cannot write: No space left on device\n")
        );
    }
}

#[test]
fn each_exit_code_of_the_manual() {
    let (service, _) = Service::with_three(600);
    let lines = service.first();
    let code = |arguments: &[&str], lines: &str| run(service.get(arguments), lines).0;
    assert_eq!(code(&["--colour"], &lines), 64);
    let (bare, _, err) = run(service.get(&["zfs", "receive"]), &lines);
    assert_eq!(bare, 64);
    assert!(err.contains("'zfs' found; a COMMAND stands behind --"), "{err}");
    assert_eq!(code(&["--tier", "Fast"], &lines), 64);
    assert_eq!(code(&["--concurrency", "0"], &lines), 64);
    assert_eq!(code(&[], ""), 65);
    assert_eq!(code(&[], "not JSON\n"), 65);
    let (code_newer, _, err) = run(service.get(&[]), &lines.replace("\"v\":1", "\"v\":2"));
    assert_eq!(code_newer, 65);
    assert!(err.contains("archive: version 2 is newer than this program"), "{err}");
    assert_eq!(code(&["--", "sh", "-c", "cat >/dev/null; exit 9"], &lines), 9);
    assert_eq!(code(&["--", "no-such-command"], &lines), 127);

    let absent = lines.replace("glacier://cold", "glacier://absent");
    let (code, _, err) = run(service.get(&[]), &absent);
    assert_eq!(code, 69, "{err}");

    let mut command = service.get(&[]);
    command.env("AWS_SECRET_ACCESS_KEY", "wrong");
    let (code, _, err) = run(command, &lines);
    assert_eq!(code, 77, "{err}");
    let mut command = service.get(&[]);
    command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    let (code, _, err) = run(command, &lines);
    assert_eq!(code, 77, "{err}");
    let nowhere = lines.replace("\"eu-central-1\"", "\"\"");
    let (code, _, err) = run(service.get(&[]), &nowhere);
    assert_eq!(code, 78, "{err}");
}

#[test]
fn an_archive_that_differs_from_the_catalog_is_not_passed_on() {
    let (service, _) = Service::with_three(600);
    // A wrong hash all the way up: the catalog agrees with itself.
    let mut service = service;
    service.catalog.clear();
    service.store(1, "tank@mon", 10, None, &data(LEAF));
    let (good, bad) = (TreeHash::of(&data(LEAF)), TreeHash::of(b"other"));
    let lines = service.first().replace(&good.to_string(), &bad.to_string());
    let (code, out, err) = run(service.get(&["--patience", "0s"]), &lines);
    assert_eq!((code, out.len()), (65, 0));
    assert_eq!(
        err,
        "glacier-get: tank@mon: volume 0: part 0 does not equal its hash; none of it passed on\n"
    );
}

#[test]
fn a_line_without_an_end_is_refused_soon() {
    let (service, _) = Service::with_three(600);
    let mut child = service.get(&[]).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(service.first().as_bytes()).unwrap();
    let piece = vec![b'x'; 64 << 10];
    let mut given = 0;
    while given < 4_u64 << 30 && stdin.write_all(&piece).is_ok() {
        given += 64 << 10;
    }
    assert!(given < 4 << 20, "{given} bytes were taken");
    let (code, out, err) = told(child.wait_with_output().unwrap());
    assert_eq!((code, out.len()), (65, 0), "{err}");
    assert!(err.ends_with("goes on for over 1 MiB; is this a catalog?\n"), "{err}");
    assert_eq!(service.calls("InitiateJob"), 0);
}
