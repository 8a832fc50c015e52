//! What a hostile client cannot do to glacier-local.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use akashita::hash::tree::{Hash, TreeHash};

use super::{Answer, MIB, Server, answer, pattern, try_answer, until};

fn nothing() -> String {
    Hash::of(b"").to_string()
}

/// All that is under a directory, with what it holds.
fn tree(top: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(top).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.push((path.display().to_string(), Vec::new()));
            found.extend(tree(&path));
        } else {
            found.push((path.display().to_string(), std::fs::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}

#[test]
fn paths_never_leave_the_root() {
    let top = tempfile::tempdir().unwrap();
    let root = top.path().join("root");
    let server = Server::start(&root, &[]);
    server.call("PUT /-/vaults/v", &[], b"");
    // What the ids below would reach, if they reached anything.
    let sentinel = top.path().join("sentinel");
    std::fs::create_dir(&sentinel).unwrap();
    for name in ["vault.json", "upload.json", "archive.json", "sentinel.json"] {
        std::fs::write(sentinel.join(name), "{}").unwrap();
    }
    let before = (tree(&sentinel), tree(&root.join("regions")));

    let up = "..%2F..%2F..%2F..%2F..%2F..%2Fsentinel";
    let overlong = "a".repeat(5000);
    let ids = [
        "..",
        ".",
        "%2e%2e",
        "%2E%2e",
        up,
        "%2Fetc%2Fpasswd",
        "%00",
        "v%00",
        "a%2Fb",
        "a%5Cb",
        "%C3%BC",
        "~",
        "vault.json",
        &overlong,
    ];
    for id in ids {
        for call in [
            format!("PUT /-/vaults/{id}"),
            format!("GET /-/vaults/{id}"),
            format!("DELETE /-/vaults/{id}"),
            format!("GET /-/vaults/{id}/multipart-uploads"),
            format!("DELETE /-/vaults/v/archives/{id}"),
            format!("GET /-/vaults/v/multipart-uploads/{id}"),
            format!("DELETE /-/vaults/v/multipart-uploads/{id}"),
            format!("GET /-/vaults/v/jobs/{id}"),
            format!("GET /-/vaults/v/jobs/{id}/output"),
            format!("POST /-/vaults/v/lock-policy/{id}"),
        ] {
            // It is a good name of a vault, only of nothing else.
            if id == "vault.json" && call.contains("vaults/vault.json") {
                continue;
            }
            let refusal = server.call(&call, &[], b"");
            let code = refusal.json()["code"].as_str().unwrap().to_owned();
            let known = [
                "InvalidParameterValueException",
                "ResourceNotFoundException",
                "UnknownOperationException",
            ];
            assert!(refusal.status >= 400 && known.contains(&&*code), "{call}: {code}");
        }
        assert_eq!(server.part(id, 0, &pattern(1000)).status / 100, 4, "{id}");
        assert_eq!(server.complete(id, b"x").status / 100, 4, "{id}");
        let order = serde_json::json!({"Type": "archive-retrieval", "ArchiveId": id});
        let refusal = server.call("POST /-/vaults/v/jobs", &[], order.to_string().as_bytes());
        assert_eq!(refusal.status / 100, 4, "{id}");
    }
    for region in ["..", ".", "", "../../sentinel", "a/b", "EU", "a%2Fb", &"r".repeat(64)] {
        let head = server.head_for(region, "PUT /-/vaults/w", &[], 0, &nothing());
        let mut stream = server.connect();
        stream.write_all(head.as_bytes()).unwrap();
        assert_eq!(answer(stream).status, 403, "{region}");
    }
    assert_eq!(server.call("GET /-/vaults/v", &[], b"").status, 200);
    assert_eq!((tree(&sentinel), tree(&root.join("regions"))), before);
    assert_eq!(std::fs::read_dir(top.path()).unwrap().count(), 2);
}

/// Sends a head, and gives the status of the answer.
fn status_of(server: &Server, head: &str) -> u16 {
    let mut stream = server.connect();
    // The answer may come before the end.
    let _ = stream.write_all(head.as_bytes());
    let mut text = [0; 12];
    stream.read_exact(&mut text).unwrap();
    std::str::from_utf8(&text[9..]).unwrap().parse().unwrap()
}

#[test]
fn heads_are_small() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path(), &[]);
    let many = "x-odd: y\r\n".repeat(65);
    assert_eq!(status_of(&server, &format!("GET /-/vaults HTTP/1.1\r\n{many}\r\n")), 431);
    let long = "y".repeat(300_000);
    assert_eq!(status_of(&server, &format!("GET /-/vaults HTTP/1.1\r\nx: {long}\r\n\r\n")), 431);
    let long = "y".repeat(300_000);
    let status = status_of(&server, &format!("GET /{long} HTTP/1.1\r\n\r\n"));
    assert!([414, 431].contains(&status), "{status}");
    assert_eq!(server.call("GET /-/vaults", &[], b"").status, 200);
}

#[test]
fn a_small_call_has_a_small_body() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path(), &[]);
    server.call("PUT /-/vaults/v", &[], b"");
    let refusal = server.call("POST /-/vaults/v/jobs", &[], &vec![b' '; MIB + 1]);
    assert_eq!(refusal.json()["code"], "SerializationException");
}

/// A part whose head promises a size, with a body in chunks.
fn in_chunks(server: &Server, promised: usize, body: &[u8]) -> Answer {
    let hash = TreeHash::of(body).to_string();
    let headers = [("x-amz-sha256-tree-hash", &*hash), ("transfer-encoding", "chunked")];
    let call = "POST /-/vaults/v/archives";
    let head = server.head(call, &headers, promised, &Hash::of(body).to_string());
    let mut stream = server.connect();
    stream.write_all(head.as_bytes()).unwrap();
    let _ = stream.write_all(format!("{:x}\r\n", body.len()).as_bytes());
    let _ = stream.write_all(body);
    let _ = stream.write_all(b"\r\n0\r\n\r\n");
    try_answer(stream).unwrap_or_else(|_| Answer {
        status: 400,
        headers: std::collections::HashMap::new(),
        body: Vec::new(),
    })
}

#[test]
fn a_body_is_as_long_as_its_head_says() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path(), &[]);
    server.call("PUT /-/vaults/v", &[], b"");
    for promised in [1000, 2_000_000] {
        assert_eq!(in_chunks(&server, promised, &pattern(MIB)).status / 100, 4, "{promised}");
    }
    let archives = root.path().join("regions/us-east-1/vaults/v/archives");
    assert_eq!(std::fs::read_dir(archives).unwrap().count(), 0);
    until(|| std::fs::read_dir(root.path().join("tmp")).unwrap().count() == 0);
}

#[test]
fn a_client_that_stands_still_is_given_up() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path(), &["--timeout", "1s"]);
    server.call("PUT /-/vaults/v", &[], b"");
    let data = pattern(MIB);
    let hash = TreeHash::of(&data).to_string();
    let headers = [("x-amz-sha256-tree-hash", hash.as_str())];
    let head =
        server.head("POST /-/vaults/v/archives", &headers, MIB, &Hash::of(&data).to_string());
    let begin = Instant::now();
    let (mut body, mut half) = (server.connect(), server.connect());
    body.write_all(head.as_bytes()).unwrap();
    body.write_all(&data[..1000]).unwrap();
    half.write_all(b"GET /-/vaults HTTP/1.1\r\n").unwrap();
    let mut silent = server.connect();

    let refusal = answer(body.try_clone().unwrap());
    assert_eq!((refusal.status, &refusal.json()["code"]), (408, &"RequestTimeoutException".into()));
    for stream in [&mut body, &mut half, &mut silent] {
        let mut rest = Vec::new();
        // An end or a reset: the connection is over.
        let _ = stream.read_to_end(&mut rest);
    }
    assert!(
        begin.elapsed() > Duration::from_millis(900) && begin.elapsed() < Duration::from_secs(20)
    );
    assert_eq!(std::fs::read_dir(root.path().join("tmp")).unwrap().count(), 0);
}

#[test]
fn more_than_256_connections_wait_until_one_ends() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path(), &[]);
    let mut open: Vec<TcpStream> = (0..256).map(|_| server.connect()).collect();
    let mut late = server.connect();
    let head = server.head("GET /-/vaults", &[], 0, &nothing());
    late.write_all(head.as_bytes()).unwrap();
    late.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    assert!(late.read(&mut [0]).is_err(), "it is served");
    open.pop();
    late.set_read_timeout(None).unwrap();
    assert_eq!(answer(late).status, 200);
}
