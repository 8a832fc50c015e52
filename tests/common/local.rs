//! glacier-local for tests: a server of one test, what it was asked, and what
//! it holds, read back by a client that shares no code with ours.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "a test that cannot go on has failed"
)]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::common::{Place, program, until};

const MIB: usize = 1 << 20;

/// Bytes that differ from MiB to MiB.
pub fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|i| u8::try_from((i / 4096 * 31 + i / MIB) % 251).unwrap()).collect()
}

/// What the catalog of a place says.
pub fn catalog(place: &Place) -> String {
    std::fs::read_to_string(place.path("catalog.jsonl")).unwrap_or_default()
}

/// The lines of a text that say something, sorted.
pub fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
    lines.sort_unstable();
    lines
}

/// The files in a directory and below.
pub fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir(directory) else { return found };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

/// The region that clients here use.
pub const REGION: &str = "eu-central-1";

/// Ten minutes of the service in a second: an archive is brought up in a
/// third of one, and an upload is given up in two minutes and a half.
const SPEED: u32 = 600;

/// A server. It is killed when this is dropped.
pub struct Local {
    child: Child,
    root: PathBuf,
    log: PathBuf,
    faults: PathBuf,
    speed: u32,
    environment: Vec<(String, String)>,
    /// Where it is reached.
    pub endpoint: String,
}

/// An archive in a vault.
#[derive(Clone, Debug)]
pub struct Held {
    /// The service's name for it.
    pub id: String,
    /// Its description, a JSON object.
    pub description: Value,
    /// The tree hash that the service computed.
    #[allow(dead_code, reason = "only the laboratory asks")]
    pub treehash: String,
}

impl Held {
    /// The volume it is; none for a manifest.
    pub fn volume(&self) -> Option<u64> {
        self.description["volume"].as_u64()
    }
}

impl Local {
    /// Starts a server in `place`.
    pub fn start(place: &Place) -> Self {
        Self::fast(place, SPEED)
    }

    /// Starts one whose hours pass so many times as fast.
    pub fn fast(place: &Place, speed: u32) -> Self {
        Self::with_faults(place, speed, "")
    }

    /// Starts one that fails as a plan says (glacier-local(1), FAULTS).
    pub fn with_faults(place: &Place, speed: u32, plan: &str) -> Self {
        if !plan.is_empty() {
            std::fs::write(place.path("faults.jsonl"), plan).unwrap();
        }
        Self::believing(place, speed, Vec::new())
    }

    /// Starts one with these variables in its environment, which tell it the
    /// time, say.
    pub fn believing(place: &Place, speed: u32, environment: Vec<(String, String)>) -> Self {
        let (root, log) = (place.path("server"), place.path("calls.jsonl"));
        let faults = place.path("faults.jsonl");
        let (child, endpoint) = serve(&root, &log, speed, &environment, "127.0.0.1:0");
        Self { child, root, log, faults, speed, environment, endpoint }
    }

    /// Changes its plan, and starts it again: requests are counted anew.
    pub fn fail(&mut self, plan: &str) {
        std::fs::write(&self.faults, plan).unwrap();
        self.kill();
        self.restart();
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kills it, as a power cut would.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again where it was.
    pub fn restart(&mut self) {
        let address = self.endpoint.strip_prefix("http://").unwrap();
        self.child = serve(&self.root, &self.log, self.speed, &self.environment, address).0;
    }

    /// Lets its hours pass at another speed from now on.
    pub fn slow(&mut self, speed: u32) {
        self.speed = speed;
        self.kill();
        self.restart();
    }

    /// Lets more than a day of the service pass.
    pub fn pass_a_day(&mut self) {
        self.pass(27);
    }

    /// Lets hours of the service pass; it is started again twice.
    pub fn pass(&mut self, hours: u32) {
        const FAST: u32 = 100_000;
        let speed = std::mem::replace(&mut self.speed, FAST);
        self.kill();
        self.restart();
        thread::sleep(std::time::Duration::from_hours(1) * hours / FAST);
        self.speed = speed;
        self.kill();
        self.restart();
    }

    /// Makes a command a client of this server.
    pub fn client<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command
            .env("AWS_ENDPOINT_URL", &self.endpoint)
            .env("AWS_REGION", REGION)
            .env("AWS_SHARED_CREDENTIALS_FILE", self.root.join("credentials"))
            .env("AWS_CONFIG_FILE", "/dev/null")
            .env("AWS_EC2_METADATA_DISABLED", "true")
    }

    /// glacier-put, as a client of this server.
    pub fn put(&self, place: &Place, arguments: &[&str]) -> Command {
        let mut put = place.tool("glacier-put", arguments);
        self.client(&mut put);
        put
    }

    /// A line for each request so far.
    pub fn log(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        // The last line may be in the making.
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// How often a call was answered well.
    pub fn calls(&self, call: &str) -> usize {
        let good = |line: &Value| {
            line["call"] == call && line["status"].as_u64().is_some_and(|status| status < 300)
        };
        self.log().iter().filter(|line| good(line)).count()
    }

    /// The jobs that a vault has, by their names; not those of which a day and
    /// more has passed. A client that was killed has them as well: the log
    /// tells only what was answered.
    #[allow(dead_code, reason = "only the laboratory asks")]
    pub fn jobs(&self, vault: &str) -> BTreeSet<String> {
        let jobs = self.root.join(format!("regions/{REGION}/vaults/{vault}/jobs"));
        let names = files(&jobs).into_iter().filter_map(|file| {
            let name = file.file_name()?.to_str()?.strip_suffix(".json")?;
            Some(name.to_owned())
        });
        names.collect()
    }

    /// How many bytes have come of each part that is on its way.
    pub fn in_flight(&self) -> Vec<u64> {
        let mut coming = files(&self.root.join("tmp"));
        coming.retain(|file| file.extension().is_some_and(|extension| extension == "part"));
        // One that is whole is renamed meanwhile.
        coming.iter().filter_map(|file| Some(std::fs::metadata(file).ok()?.len())).collect()
    }

    /// The archives in a vault, the manifests last.
    pub fn archives(&self, vault: &str) -> Vec<Held> {
        let archives = self.root.join(format!("regions/{REGION}/vaults/{vault}/archives"));
        let Ok(entries) = std::fs::read_dir(archives) else { return Vec::new() };
        let mut held: Vec<Held> = entries
            .filter_map(|entry| {
                // One that is deleted while we look is gone.
                let text = std::fs::read(entry.unwrap().path().join("archive.json")).ok()?;
                let archive: Value = serde_json::from_slice(&text).unwrap();
                Some(Held {
                    id: archive["id"].as_str().unwrap().to_owned(),
                    // That of somebody else's need be none.
                    description: serde_json::from_str(archive["description"].as_str().unwrap())
                        .unwrap_or_default(),
                    treehash: archive["treehash"].as_str().unwrap().to_owned(),
                })
            })
            .collect();
        held.sort_by_key(|held| held.volume().unwrap_or(u64::MAX));
        held
    }

    /// The secret key.
    pub fn secret(&self) -> String {
        self.key("aws_secret_access_key")
    }

    /// The id of the key.
    pub fn key_id(&self) -> String {
        self.key("aws_access_key_id")
    }

    /// One of the pair of keys.
    pub fn key(&self, name: &str) -> String {
        let text = std::fs::read_to_string(self.root.join("credentials")).unwrap();
        let pair = |line: &str| {
            let (key, value) = line.split_once('=')?;
            (key.trim() == name).then(|| value.trim().to_owned())
        };
        text.lines().find_map(pair).unwrap()
    }

    /// The bytes of an archive as they are on the server's disk.
    pub fn content(&self, vault: &str, id: &str) -> Vec<u8> {
        let archive = self.root.join(format!("regions/{REGION}/vaults/{vault}/archives/{id}"));
        let mut parts = files(&archive);
        parts.retain(|file| file.extension().is_some_and(|extension| extension == "part"));
        parts.sort_unstable();
        let mut content = Vec::new();
        for part in parts {
            let mut bytes = std::fs::read(part).unwrap();
            // The footer begins with the count of the archive's bytes.
            let footer = bytes.len() - 48;
            let count = u64::from_be_bytes(bytes[footer..footer + 8].try_into().unwrap());
            bytes.truncate(usize::try_from(count).unwrap());
            content.extend(bytes);
        }
        content
    }

    /// How many archives a vault says it has, which is as its last inventory
    /// says.
    pub fn counted(&self, vault: &str) -> u64 {
        let answer = self.ask("GET", &format!("/-/vaults/{vault}"), b"");
        serde_json::from_slice::<Value>(&answer).unwrap()["NumberOfArchives"].as_u64().unwrap()
    }

    /// The bytes of archives, brought up as anybody would.
    pub fn bytes(&self, vault: &str, archives: &[Held]) -> Vec<Vec<u8>> {
        let jobs = format!("/-/vaults/{vault}/jobs");
        let asked: Vec<String> = archives
            .iter()
            .map(|archive| {
                let order = serde_json::json!({"Type": "archive-retrieval",
                    "ArchiveId": archive.id, "Tier": "Expedited"});
                let answer = self.ask("POST", &jobs, order.to_string().as_bytes());
                let told: Value = serde_json::from_slice(&answer).unwrap_or_default();
                told["jobId"].as_str().unwrap_or_default().to_owned()
            })
            .collect();
        asked
            .iter()
            .map(|job| {
                let mut described = Value::Null;
                until("the job is done", || {
                    let answer = self.ask("GET", &format!("{jobs}/{job}"), b"");
                    described = serde_json::from_slice(&answer).unwrap();
                    described["Completed"] == true
                });
                self.ask("GET", &format!("{jobs}/{job}/output"), b"")
            })
            .collect()
    }

    /// Asserts that a vault holds these bytes as the volumes of 2 MiB of one
    /// stream, once each, and a manifest whose lines are the catalog's.
    #[track_caller]
    pub fn holds(&self, place: &Place, vault: &str, bytes: &[u8]) {
        let archives = self.archives(vault);
        let contents = self.bytes(vault, &archives);
        let (manifest, volumes) = contents.split_last().unwrap();
        assert!(volumes.iter().map(Vec::as_slice).eq(bytes.chunks(2 * MIB)), "other bytes");
        for (number, archive) in (0..).zip(&archives[..volumes.len()]) {
            assert_eq!(archive.description["kind"], "volume");
            assert_eq!(archive.volume(), Some(number));
        }
        let of = &archives.last().unwrap().description;
        assert_eq!(of["kind"], "manifest");
        is_the_catalogs(std::str::from_utf8(manifest).unwrap(), &catalog(place), of);
    }

    /// Stores an archive that none of our tools knows of.
    pub fn leave(&self, vault: &str, description: &str, bytes: &[u8]) {
        let path = format!("/-/vaults/{vault}/archives");
        let treehash = akashita::hash::tree::TreeHash::of(bytes).to_string();
        let more = [
            ("x-amz-archive-description", description),
            ("x-amz-sha256-tree-hash", treehash.as_str()),
        ];
        self.ask_with("POST", &path, &more, bytes);
    }

    /// Adds a field to the descriptions of all archives of a vault.
    pub fn describe_more(&self, vault: &str, field: &str) {
        for held in self.archives(vault) {
            let of = format!("regions/{REGION}/vaults/{vault}/archives/{}/archive.json", held.id);
            let path = self.root.join(of);
            let mut archive: Value =
                serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            let text = archive["description"].as_str().unwrap();
            let text = text.replacen('{', &format!("{{{field},"), 1);
            archive["description"] = text.into();
            std::fs::write(&path, archive.to_string()).unwrap();
        }
    }

    /// Deletes an archive.
    pub fn delete(&self, vault: &str, id: &str) {
        self.ask("DELETE", &format!("/-/vaults/{vault}/archives/{id}"), b"");
    }

    /// The body of the answer to a signed request; for the beginning of a
    /// job, which has none, the job's id.
    pub fn ask(&self, method: &str, path: &str, body: &[u8]) -> Vec<u8> {
        self.ask_with(method, path, &[], body)
    }

    /// The same with more headers.
    fn ask_with(&self, method: &str, path: &str, more: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
        let address = self.endpoint.strip_prefix("http://").unwrap();
        let time = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
        let sha256 = |bytes: &[u8]| hex::encode(Sha256::digest(bytes));
        let hash = sha256(body);
        let mut headers = vec![
            ("host", address),
            ("x-amz-content-sha256", &hash),
            ("x-amz-date", &time),
            ("x-amz-glacier-version", "2012-06-01"),
        ];
        headers.extend(more);
        headers.sort_unstable();
        let list = |between: &str, end: &str| -> String {
            headers.iter().flat_map(|(name, value)| [*name, between, *value, end]).collect()
        };
        let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
        let names = names.join(";");
        let lines = list(":", "\n");
        let canonical = format!("{method}\n{path}\n\n{lines}\n{names}\n{hash}");
        let scope = format!("{}/{REGION}/glacier/aws4_request", &time[..8]);
        let to_sign =
            format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", sha256(canonical.as_bytes()));
        let mut key = format!("AWS4{}", self.secret()).into_bytes();
        for step in scope.split('/').chain([to_sign.as_str()]) {
            let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
            mac.update(step.as_bytes());
            key = mac.finalize().into_bytes().to_vec();
        }
        let lines = list(": ", "\r\n");
        let head = format!(
            "{method} {path} HTTP/1.1\r\n{lines}content-length: {}\r\nconnection: close\r\n\
             authorization: AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, \
             Signature={}\r\n\r\n",
            body.len(),
            self.key("aws_access_key_id"),
            hex::encode(key)
        );
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
        let mut reader = BufReader::new(stream);
        let (mut status, mut job) = (String::new(), None);
        reader.read_line(&mut status).unwrap();
        assert!(status.contains(" 20"), "{method} {path}: {status}");
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            match line.trim().split_once(": ") {
                Some((name, value)) if name.eq_ignore_ascii_case("x-amz-job-id") => {
                    job = Some(serde_json::json!({ "jobId": value }));
                }
                Some(_) => {}
                None => break,
            }
        }
        let mut answer = Vec::new();
        reader.read_to_end(&mut answer).unwrap();
        job.map_or(answer, |job| job.to_string().into_bytes())
    }
}

/// Asserts that the lines of a manifest are those of the catalog.
#[track_caller]
pub fn is_the_catalogs(manifest: &str, catalog: &str, of: &Value) {
    let (recipe, rest) = manifest.split_once('\n').unwrap();
    assert!(recipe.starts_with("{\"type\":\"recipe\""), "{recipe}");
    let (first, rest) = rest.split_once('\n').unwrap();
    assert!(first.starts_with("{\"type\":\"stream\""), "{first}");
    let stream = of["stream"].as_str().unwrap();
    let mut expected = Vec::new();
    for line in catalog.lines().filter(|line| line.contains(stream)) {
        let value: Value = serde_json::from_str(line).unwrap();
        let generation = value["generation"].as_u64().unwrap_or(0);
        if value["dest"].is_null() || generation == of["generation"] {
            let id = value["manifest_id"].as_str().unwrap_or_default();
            expected.push(line.replace(&format!("\"manifest_id\":\"{id}\","), ""));
        }
    }
    expected.sort_unstable();
    assert_eq!(sorted(rest), expected);
}

impl Drop for Local {
    fn drop(&mut self) {
        // One that was killed cannot be killed again.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serve(
    root: &Path,
    log: &Path,
    speed: u32,
    environment: &[(String, String)],
    listen: &str,
) -> (Child, String) {
    let mut command = Command::new(program("glacier-local"));
    let faults = root.with_file_name("faults.jsonl");
    if faults.exists() {
        command.arg("--faults").arg(faults);
    }
    let mut child = command
        .env_clear()
        .envs(environment.iter().cloned())
        .arg("--root")
        .arg(root)
        .arg("--log")
        .arg(log)
        .args(["--clock-speed", &speed.to_string(), "--listen", listen])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["type"], "listening");
    (child, line["endpoint"].as_str().unwrap().to_owned())
}

/// A bad line between a client and a server: the answer to the request that
/// begins with some words is lost, the first few times.
pub struct Lossy {
    /// Where clients reach the server through it.
    pub endpoint: String,
    lost: Arc<AtomicUsize>,
}

impl Lossy {
    /// Loses the answers to the first `times` requests that begin so.
    pub fn start(server: &Local, request: &str, times: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let to = server.endpoint.strip_prefix("http://").unwrap().to_owned();
        let lost = Arc::new(AtomicUsize::new(0));
        let (request, count) = (request.to_owned(), Arc::clone(&lost));
        // It ends with the test's process.
        thread::spawn(move || {
            for client in listener.incoming() {
                let (to, request, count) = (to.clone(), request.clone(), Arc::clone(&count));
                thread::spawn(move || pass(client.unwrap(), &to, &request, &count, times));
            }
        });
        Self { endpoint, lost }
    }

    /// Answers that were lost.
    pub fn lost(&self) -> usize {
        self.lost.load(Ordering::SeqCst)
    }
}

/// Passes the bytes of one connection in both directions, until an answer is
/// to be lost.
fn pass(mut client: TcpStream, to: &str, request: &str, count: &AtomicUsize, times: usize) {
    let Ok(mut server) = TcpStream::connect(to) else { return };
    let (mut answers, mut back) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    let is_losing = Arc::new(AtomicBool::new(false));
    let lose = Arc::clone(&is_losing);
    let answering = thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(size) = answers.read(&mut buffer)
            && size > 0
            && !lose.load(Ordering::SeqCst)
            && back.write_all(&buffer[..size]).is_ok()
        {}
        let _ = back.shutdown(Shutdown::Both);
    });
    let mut buffer = vec![0; 64 << 10];
    while let Ok(size) = client.read(&mut buffer)
        && size > 0
    {
        let more = |lost| (lost < times).then_some(lost + 1);
        if buffer[..size].starts_with(request.as_bytes())
            && count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).is_ok()
        {
            is_losing.store(true, Ordering::SeqCst);
        }
        if server.write_all(&buffer[..size]).is_err() {
            break;
        }
    }
    let _ = server.shutdown(Shutdown::Both);
    let _ = answering.join();
}
