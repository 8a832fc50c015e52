//! glacier-local from outside: options, restarts, kills, limits.

mod faults;
mod limits;

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use akashita::hash::tree::{Hash, TreeHash};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

const KEY: &str = "AKIAIOSFODNN7EXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
const MIB: usize = 1 << 20;

fn tool() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_glacier-local"));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("AWS_") || text.starts_with("GLACIER_") || text == "TZ" {
            command.env_remove(&name);
        }
    }
    command
}

struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(root: &Path, options: &[&str]) -> Self {
        let mut child = tool()
            .env("AWS_ACCESS_KEY_ID", KEY)
            .env("AWS_SECRET_ACCESS_KEY", SECRET)
            .arg("--root")
            .arg(root)
            .args(options)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with(r#"{"type":"listening","endpoint":"http://127.0.0.1:"#), "{line}");
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        let address =
            line["endpoint"].as_str().unwrap().strip_prefix("http://").unwrap().to_owned();
        Self { child, address }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect(&self.address).unwrap()
    }

    /// A signed request; its head ends with an empty line.
    fn head(&self, call: &str, headers: &[(&str, &str)], size: usize, sha256: &str) -> String {
        self.head_for("us-east-1", call, headers, size, sha256)
    }

    /// The same, signed for a region.
    fn head_for(
        &self,
        region: &str,
        call: &str,
        headers: &[(&str, &str)],
        size: usize,
        sha256: &str,
    ) -> String {
        let (method, path) = call.split_once(' ').unwrap();
        let time = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
        let date = &time[..8];
        let mut all = vec![
            ("host", self.address.as_str()),
            ("x-amz-content-sha256", sha256),
            ("x-amz-date", &time),
            ("x-amz-glacier-version", "2012-06-01"),
        ];
        all.extend(headers);
        all.sort_unstable();
        let names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
        let names = names.join(";");
        let lines: Vec<_> = all.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        let lines = lines.concat();
        // Each segment is encoded once more.
        let encoded = path.replace('%', "%25");
        let canonical = format!("{method}\n{encoded}\n\n{lines}\n{names}\n{sha256}");
        let scope = format!("{date}/{region}/glacier/aws4_request");
        let to_sign =
            format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", Hash::of(canonical.as_bytes()));
        let mut key = format!("AWS4{SECRET}").into_bytes();
        for step in scope.split('/').chain([to_sign.as_str()]) {
            let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
            mac.update(step.as_bytes());
            key = mac.finalize().into_bytes().to_vec();
        }
        let lines: Vec<_> =
            all.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let lines = lines.concat();
        format!(
            "{method} {path} HTTP/1.1\r\n{lines}content-length: {size}\r\nauthorization: \
             AWS4-HMAC-SHA256 Credential={KEY}/{scope}, SignedHeaders={names}, Signature={}\r\n\r\n",
            hex::encode(key)
        )
    }

    fn call(&self, call: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.try_call(call, headers, body).unwrap()
    }

    /// A call whose answer may not come.
    fn try_call(&self, call: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<Answer> {
        let head = self.head(call, headers, body.len(), &Hash::of(body).to_string());
        let mut stream = self.connect();
        stream.write_all(head.as_bytes())?;
        stream.write_all(body)?;
        try_answer(stream)
    }

    fn upload(&self, part_size: &str) -> String {
        let begun =
            self.call("POST /-/vaults/v/multipart-uploads", &[("x-amz-part-size", part_size)], b"");
        assert_eq!(begun.status, 201);
        begun.headers["x-amz-multipart-upload-id"].clone()
    }

    fn part(&self, upload: &str, start: usize, body: &[u8]) -> Answer {
        let range = format!("bytes {start}-{}/*", start + body.len() - 1);
        let hash = TreeHash::of(body).to_string();
        let headers = [("content-range", range.as_str()), ("x-amz-sha256-tree-hash", &hash)];
        self.call(&format!("PUT /-/vaults/v/multipart-uploads/{upload}"), &headers, body)
    }

    fn complete(&self, upload: &str, whole: &[u8]) -> Answer {
        let (size, hash) = (whole.len().to_string(), TreeHash::of(whole).to_string());
        let headers = [("x-amz-archive-size", size.as_str()), ("x-amz-sha256-tree-hash", &hash)];
        self.call(&format!("POST /-/vaults/v/multipart-uploads/{upload}"), &headers, b"")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Answer {
    status: u16,
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

fn answer(stream: TcpStream) -> Answer {
    try_answer(stream).unwrap()
}

/// An answer, or why none came whole.
fn try_answer(stream: TcpStream) -> io::Result<Answer> {
    let mut reader = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if line.trim().is_empty() {
            break;
        }
        lines.push(line.trim().to_owned());
    }
    let status = lines[0].split(' ').nth(1).unwrap().parse().unwrap();
    let headers: HashMap<String, String> = lines[1..]
        .iter()
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let size = headers.get("content-length").map_or(0, |size| size.parse().unwrap());
    let mut body = vec![0; size];
    reader.read_exact(&mut body)?;
    Ok(Answer { status, headers, body })
}

fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|i| u8::try_from(i / 4096 % 251).unwrap()).collect()
}

fn until(mut condition: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !condition() {
        assert!(start.elapsed().as_secs() < 60, "never came true");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

fn stderr(run: &Output) -> String {
    String::from_utf8(run.stderr.clone()).unwrap()
}

#[test]
fn an_upload_survives_kills_between_parts_and_after_complete() {
    let root = tempfile::tempdir().unwrap();
    let data = pattern(2 * MIB + 77);
    let mut server = Server::start(root.path(), &[]);
    assert_eq!(server.call("PUT /-/vaults/v", &[], b"").status, 201);
    let upload = server.upload("1048576");
    assert_eq!(server.part(&upload, 0, &data[..MIB]).status, 204);

    // Killed in the middle of a part: the part is not there, the others are.
    let body = &data[MIB..2 * MIB];
    let hash = TreeHash::of(body).to_string();
    let headers =
        [("content-range", "bytes 1048576-2097151/*"), ("x-amz-sha256-tree-hash", &*hash)];
    let call = format!("PUT /-/vaults/v/multipart-uploads/{upload}");
    let head = server.head(&call, &headers, body.len(), &Hash::of(body).to_string());
    let mut stream = server.connect();
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&body[..MIB / 2]).unwrap();
    until(|| std::fs::read_dir(root.path().join("tmp")).unwrap().count() > 0);
    server.kill();

    let mut server = Server::start(root.path(), &[]);
    assert_eq!(std::fs::read_dir(root.path().join("tmp")).unwrap().count(), 0);
    let parts =
        server.call(&format!("GET /-/vaults/v/multipart-uploads/{upload}"), &[], b"").json();
    assert_eq!(parts["Parts"].as_array().unwrap().len(), 1);
    assert_eq!(server.complete(&upload, &data).json()["code"], "InvalidParameterValueException");
    assert_eq!(server.part(&upload, MIB, &data[MIB..2 * MIB]).status, 204);
    assert_eq!(server.part(&upload, 2 * MIB, &data[2 * MIB..]).status, 204);
    let first = server.complete(&upload, &data);
    assert_eq!(first.status, 201);
    server.kill();

    let mut server = Server::start(root.path(), &["--clock-speed", "3600"]);
    let again = server.complete(&upload, &data);
    assert_eq!(again.status, 201);
    let id = &first.headers["x-amz-archive-id"];
    assert_eq!(&again.headers["x-amz-archive-id"], id);
    let body = format!(r#"{{"Type":"archive-retrieval","ArchiveId":"{id}","Tier":"Expedited"}}"#);
    let job = server.call("POST /-/vaults/v/jobs", &[], body.as_bytes());
    assert_eq!(job.status, 202);
    let output = format!("GET /-/vaults/v/jobs/{}/output", job.headers["x-amz-job-id"]);
    until(|| server.call(&output, &[], b"").status == 200);
    server.kill();
    let server = Server::start(root.path(), &["--clock-speed", "1"]);
    assert!(server.call(&output, &[], b"").body == data);
}

#[test]
fn a_connection_that_breaks_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path(), &[]);
    server.call("PUT /-/vaults/v", &[], b"");
    let data = pattern(MIB);
    let hash = TreeHash::of(&data).to_string();
    let headers = [("x-amz-sha256-tree-hash", hash.as_str())];
    let head =
        server.head("POST /-/vaults/v/archives", &headers, MIB, &Hash::of(&data).to_string());
    let mut stream = server.connect();
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&data[..1000]).unwrap();
    let waiting = || std::fs::read_dir(root.path().join("tmp")).unwrap().count();
    until(|| waiting() == 1);
    drop(stream);
    until(|| waiting() == 0);
    let archives = root.path().join("regions/us-east-1/vaults/v/archives");
    assert_eq!(std::fs::read_dir(archives).unwrap().count(), 0);
}

#[test]
fn refuses_a_part_with_a_wrong_hash() {
    let root = tempfile::tempdir().unwrap();
    let log = root.path().join("log");
    let server = Server::start(root.path(), &["--log", log.to_str().unwrap()]);
    server.call("PUT /-/vaults/v", &[], b"");
    let data = pattern(MIB);
    let hash = TreeHash::of(&data).to_string();
    let headers = [("x-amz-sha256-tree-hash", hash.as_str())];
    // The declared hash is signed, the bytes are others.
    let head =
        server.head("POST /-/vaults/v/archives", &headers, MIB, &Hash::of(&data).to_string());
    let mut stream = server.connect();
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&pattern(MIB + 4096)[4096..]).unwrap();
    let refusal = answer(stream);
    assert_eq!(refusal.status, 400);
    assert_eq!(refusal.headers["content-type"], "application/json");
    assert_eq!(refusal.json()["code"], "InvalidParameterValueException");
    assert_eq!(refusal.json()["type"], "Client");
    until(|| std::fs::read_to_string(&log).unwrap().lines().count() == 2);
    let lines = std::fs::read_to_string(&log).unwrap();
    let line: serde_json::Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    assert!(lines.lines().all(|line| line.starts_with(r#"{"type":"request","time":""#)));
    assert_eq!(line["call"], "UploadArchive");
    assert_eq!(line["code"], "InvalidParameterValueException");
    assert_eq!((line["status"].as_u64(), line["received"].as_u64()), (Some(400), Some(1 << 20)));
}

/// Three parts of 128 MiB at once, within the 128 MiB that all may take.
#[cfg(target_os = "linux")]
#[test]
fn memory_does_not_grow_with_parts() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path(), &[]);
    server.call("PUT /-/vaults/v", &[], b"");
    let upload = server.upload("134217728");
    let data = pattern(128 * MIB);
    let (sha256, hash) = (Hash::of(&data).to_string(), TreeHash::of(&data).to_string());
    let call = format!("PUT /-/vaults/v/multipart-uploads/{upload}");
    std::thread::scope(|scope| {
        for part in 0..3 {
            let (server, data, sha256, hash, call) = (&server, &data, &sha256, &hash, &call);
            scope.spawn(move || {
                let start = part * data.len();
                let range = format!("bytes {start}-{}/*", start + data.len() - 1);
                let headers = [("content-range", range.as_str()), ("x-amz-sha256-tree-hash", hash)];
                let mut stream = server.connect();
                let head = server.head(call, &headers, data.len(), sha256);
                stream.write_all(head.as_bytes()).unwrap();
                stream.write_all(data).unwrap();
                assert_eq!(answer(stream).status, 204);
            });
        }
    });
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.child.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().strip_suffix(" kB").unwrap().parse().unwrap();
    assert!(peak < 128 * 1024, "{peak} KiB");
}

#[test]
fn a_second_server_on_a_root_ends_with_75() {
    let root = tempfile::tempdir().unwrap();
    let _server = Server::start(root.path(), &[]);
    let second = tool().arg("--root").arg(root.path()).output().unwrap();
    assert_eq!(second.status.code(), Some(75));
    assert_eq!(
        stderr(&second),
        format!("glacier-local: {}: another glacier-local serves it\n", root.path().display())
    );
}

#[test]
fn says_in_one_line_why_it_cannot_start() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(&root.path().join("other"), &[]);
    let file = root.path().join("file");
    std::fs::write(&file, "").unwrap();
    let dir = root.path().join("root");
    let (dir, file) = (dir.to_str().unwrap(), file.to_str().unwrap());
    for (options, code, text) in [
        (vec!["--root", dir, "--listen", &server.address], 74, "cannot listen"),
        (vec!["--root", dir, "--listen", "nowhere"], 74, "nowhere: cannot listen: not HOST:PORT"),
        (vec!["--root", file], 74, "file: Not a directory"),
        (vec!["--root", dir, "--log", root.path().to_str().unwrap()], 74, "Is a directory"),
        (vec!["--root", dir, "--faults", "/nowhere"], 74, "/nowhere: No such file or directory"),
        (vec!["--root", dir, "--clock-speed", "0"], 64, "clock-speed"),
        (vec!["--root", dir, "--timeout", "soon"], 64, "timeout"),
        (vec![], 64, "--root"),
    ] {
        let run = tool().args(&options).output().unwrap();
        assert_eq!(run.status.code(), Some(code), "{options:?}: {}", stderr(&run));
        assert!(
            stderr(&run).contains(text) && stderr(&run).lines().count() == 1,
            "{}",
            stderr(&run)
        );
        assert!(run.stdout.is_empty());
    }
    let half = tool().args(["--root", dir]).env("AWS_ACCESS_KEY_ID", "A").output().unwrap();
    assert_eq!(half.status.code(), Some(77));
}

#[test]
fn ends_when_nobody_can_read_where_it_listens() {
    let root = tempfile::tempdir().unwrap();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let run = tool().arg("--root").arg(root.path()).stdout(full).output().unwrap();
    assert_eq!(run.status.code(), Some(74), "{}", stderr(&run));
}
