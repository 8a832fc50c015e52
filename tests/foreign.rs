//! Clients that are not ours agree: boto3 and the AWS CLI with glacier-local,
//! and boto3 with what glacier-put stores and glacier-get fetches.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::common::{Place, run_on, run_with, skip};

const KEY: &str = "AKIAIOSFODNN7EXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

/// A Python that has boto3 and the AWS CLI, or a visible word that none has.
fn python() -> Option<PathBuf> {
    let python =
        std::env::var_os("AKASHITA_PYTHON").map_or_else(|| "python3".into(), PathBuf::from);
    let found = Command::new(&python)
        .args(["-c", "import boto3, awscli"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !found {
        skip(&format!("boto3: not found in {}; try scripts/test", python.display()));
    }
    found.then_some(python)
}

/// A command that sees none of the caller's settings.
fn clean(program: &std::ffi::OsStr) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("AWS_") || text.starts_with("GLACIER_") || text == "TZ" {
            command.env_remove(&name);
        }
    }
    command
        .env("AWS_ACCESS_KEY_ID", KEY)
        .env("AWS_SECRET_ACCESS_KEY", SECRET)
        .env("AWS_DEFAULT_REGION", "us-east-1")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
    command
}

struct Server {
    child: Child,
    endpoint: String,
}

impl Server {
    fn start(root: &Path, speed: &str) -> Self {
        let mut child = clean(env!("CARGO_BIN_EXE_glacier-local").as_ref())
            .args(["--clock-speed", speed, "--root"])
            .arg(root)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        Self { child, endpoint: line["endpoint"].as_str().unwrap().to_owned() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn boto3_agrees() {
    let Some(python) = python() else { return };
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path(), "7200");
    assert_eq!(script(&python, "vaults.py", &[&server.endpoint]), b"agreed\n");
}

/// Runs a script of tests/foreign; gives what it printed.
fn script(python: &Path, name: &str, arguments: &[&str]) -> Vec<u8> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/foreign").join(name);
    let run = clean(python.as_os_str()).arg(script).args(arguments).output().unwrap();
    let err = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{name}: {}{err}", String::from_utf8_lossy(&run.stdout));
    run.stdout
}

fn stream(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/streams").join(name)
}

/// A tool of ours, as a client of the server.
fn ours(place: &Place, server: &Server, tool: &str, arguments: &[&str]) -> Command {
    let mut command = place.tool(tool, arguments);
    command
        .env("AWS_ACCESS_KEY_ID", KEY)
        .env("AWS_SECRET_ACCESS_KEY", SECRET)
        .env("AWS_REGION", "us-east-1")
        .env("AWS_ENDPOINT_URL", &server.endpoint)
        .env("AWS_EC2_METADATA_DISABLED", "true");
    command
}

/// Volumes of two parts.
const SIZES: [&str; 4] = ["--part-size", "1M", "--volume-size", "2M"];

#[test]
fn boto3_fetches_what_put_stored_from_the_vault_alone() {
    let Some(python) = python() else { return };
    let place = Place::default();
    let server = Server::start(&place.path("root"), "14400");
    let chunk = &mut place.tool("glacier-chunk", &SIZES);
    let lines = run_on(chunk, &stream("full.zfs")).done().stdout;
    let put = &mut ours(&place, &server, "glacier-put", &["--create-vault", "cold"]);
    run_with(put, lines.as_bytes()).done();
    let back = place.path("back");
    let arguments = [&server.endpoint, "cold", "tank/home@mon", back.to_str().unwrap()];
    assert_eq!(script(&python, "fetch.py", &arguments), b"fetched\n");
    assert!(fs::read(back).unwrap() == fs::read(stream("full.zfs")).unwrap());
}

#[test]
fn get_fetches_what_boto3_stored_as_the_manual_says() {
    let Some(python) = python() else { return };
    let place = Place::default();
    let server = Server::start(&place.path("root"), "14400");
    let path = place.path("input");
    for name in [None, Some("f\u{fc}r sp\u{e4}ter \u{1d11e} 2026-11-23.tar")] {
        let mut bytes = fs::read(stream("full.zfs")).unwrap();
        if name.is_some() {
            bytes.remove(0); // no stream of ZFS
        }
        fs::write(&path, &bytes).unwrap();
        let mut arguments = vec![server.endpoint.as_str(), "cold", path.to_str().unwrap()];
        arguments.extend(name);
        let catalog = script(&python, "store.py", &arguments);

        // The same id as chunk computes.
        let mut options = SIZES.to_vec();
        options.extend(name.map_or(vec![], |name| vec!["--trust-eof", "--name", name]));
        let chunked = run_on(&mut place.tool("glacier-chunk", &options), &path).done();
        let id = chunked.lines()[0]["stream"].as_str().unwrap().to_owned();
        let text = String::from_utf8(catalog.clone()).unwrap();
        assert!(text.lines().all(|line| line.contains(&id)), "{id}: {text}");

        let file = place.path("catalog.jsonl");
        fs::write(&file, catalog).unwrap();
        let word = name.unwrap_or("tank/home@mon");
        let chain = run_on(&mut place.tool("glacier-chain", &[word]), &file).done();
        let back = place.path("back");
        let mut get = ours(&place, &server, "glacier-get", &["--", "dd", "of=back", "status=none"]);
        run_with(&mut get, chain.stdout.as_bytes()).done();
        assert!(fs::read(back).unwrap() == bytes);
    }
}

#[test]
fn the_aws_cli_agrees() {
    let Some(python) = python() else { return };
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path(), "1");
    let aws = |words: &[&str]| -> serde_json::Value {
        let run = clean(python.as_os_str())
            .args(["-m", "awscli", "--endpoint-url", &server.endpoint, "--output", "json"])
            .arg("glacier")
            .args(words)
            .args(["--account-id", "-"])
            .output()
            .unwrap();
        let (out, err) =
            (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
        assert!(run.status.success(), "{words:?}: {out}{err}");
        serde_json::from_str(&out).unwrap_or_default()
    };
    let body = root.path().join("body");
    fs::write(&body, b"Hello World").unwrap();
    let body = body.to_str().unwrap();
    let hash = "a591a6d40bf420404a011733cfb7b190d62c65bf0bcda32b57b277d9ad9f146e";

    aws(&["create-vault", "--vault-name", "v"]);
    let upload = aws(&[
        "initiate-multipart-upload",
        "--vault-name=v",
        "--part-size=1048576",
        "--archive-description=tank/a@x",
    ]);
    let upload = format!("--upload-id={}", upload["uploadId"].as_str().unwrap());
    let part = aws(&[
        "upload-multipart-part",
        "--vault-name=v",
        &upload,
        "--range=bytes 0-10/*",
        "--body",
        body,
    ]);
    assert_eq!(part["checksum"], hash);
    let parts = aws(&["list-parts", "--vault-name=v", &upload]);
    assert_eq!(parts["Parts"][0]["RangeInBytes"], "0-10");
    let checksum = format!("--checksum={hash}");
    let done = aws(&[
        "complete-multipart-upload",
        "--vault-name=v",
        &upload,
        "--archive-size=11",
        &checksum,
    ]);
    let archive = done["archiveId"].as_str().unwrap();
    let job = format!(r#"{{"Type":"archive-retrieval","ArchiveId":"{archive}","Tier":"Bulk"}}"#);
    let job = aws(&["initiate-job", "--vault-name=v", "--job-parameters", &job]);
    let described = aws(&[
        "describe-job",
        "--vault-name=v",
        &format!("--job-id={}", job["jobId"].as_str().unwrap()),
    ]);
    assert_eq!(described["StatusCode"], "InProgress");
    assert_eq!(described["ArchiveSHA256TreeHash"], hash);
    aws(&["delete-archive", "--vault-name=v", &format!("--archive-id={archive}")]);
}
