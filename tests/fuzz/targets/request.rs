//! Requests to glacier-local, properly signed or not.

use std::fs;
use std::path::Path;

use akashita::tools::local::range::{Range, is_node, is_whole_mib};
use akashita::tools::local::{Settings, Socketless};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// A header that is a range, and the size of what it is a range of.
pub fn range(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (text, size) = text.rsplit_once('\n').unwrap_or((&text, ""));
    // No archive is larger.
    let size: u64 = size.trim().parse().unwrap_or(u64::MAX).min(1 << 53);
    if let Some(range) = Range::read(text) {
        assert!(range.start <= range.end && range.size() > 0);
        assert_eq!(Range::read(&format!("{}-{}", range.start, range.end)), Some(range));
        assert!(!is_whole_mib(range, size) || range.end < size);
        if is_node(range, size) && range.end < size {
            assert!(is_whole_mib(range, size));
        }
    }
    if let Some(range) = Range::of_part(text) {
        assert_eq!(Range::of_part(&format!("bytes {}-{}/*", range.start, range.end)), Some(range));
    }
    if let Some(range) = Range::of_download(text, size) {
        assert!(range.start <= range.end && range.end < size);
        let written = format!("bytes={}-{}", range.start, range.end);
        assert_eq!(Range::of_download(&written, size), Some(range));
    }
}

const ID: &str = "AKIAFUZZFUZZFUZZFUZZ";
const SECRET: &str = "a secret of tests";

/// Requests one after the other, split by lines of `%%`: `METHOD TARGET`,
/// headers, an empty line, the body. `{id}` is the last id that an answer
/// gave. All are signed, but those that begin with `!`. Whatever comes, the
/// server answers in its own words, blames nothing on itself, lets in nobody
/// without a signature, and leaves what is around its root alone.
pub fn request(data: &[u8]) {
    statuses(data);
}

/// The same, and the statuses of the answers.
pub fn statuses(data: &[u8]) -> Vec<u16> {
    let mut statuses = Vec::new();
    let place = tempfile::tempdir().unwrap();
    let (root, around) = (place.path().join("root"), place.path().join("around"));
    fs::write(&around, "as it was").unwrap();
    let server = Socketless::open(&Settings {
        root: root.clone(),
        listen: String::new(),
        clock_speed: 1,
        timeout: std::time::Duration::from_mins(1),
        log: None,
        faults: None,
        key_id: Some(ID.to_owned()),
        secret: Some(SECRET.to_owned()),
    })
    .unwrap();
    let mut id = String::from("none");
    for asked in split(data, b"\n%%\n").into_iter().take(8) {
        let (asked, signed) = match asked.strip_prefix(b"!") {
            Some(rest) => (rest, false),
            None => (asked, true),
        };
        let answer = server.exchange(&written(asked, &id, signed)).unwrap();
        let text = String::from_utf8_lossy(&answer);
        if answer.is_empty() {
            // Not HTTP.
            continue;
        }
        let status: u16 = text.get(9..12).and_then(|status| status.parse().ok()).unwrap();
        statuses.push(status);
        assert!(text.starts_with("HTTP/1.") && status < 500, "{text}");
        assert!(signed || status >= 400, "without a signature: {text}");
        let head = text.split("\r\n\r\n").next().unwrap_or_default();
        if status >= 400 && head.contains("application/json") {
            let body = text.split_once("\r\n\r\n").unwrap().1;
            // More than one request can be in these bytes.
            let first = serde_json::Deserializer::from_str(body).into_iter().next();
            let error: serde_json::Value = first.unwrap().unwrap();
            assert!(error["code"].is_string() && error["message"].is_string(), "{error}");
        }
        for header in head.split("\r\n") {
            if let Some((name, value)) = header.split_once(": ")
                && name.starts_with("x-amz-")
                && name.ends_with("-id")
            {
                value.clone_into(&mut id);
            }
        }
    }
    drop(server);
    let left: Vec<_> = fs::read_dir(place.path()).unwrap().map(|e| e.unwrap().path()).collect();
    assert!(left.len() == 2 && left.contains(&root), "{left:?}");
    assert_eq!(fs::read_to_string(around).unwrap(), "as it was");
    is_tidy(&root);
    statuses
}

/// Only plain files and directories.
fn is_tidy(directory: &Path) {
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        assert!(kind.is_dir() || kind.is_file(), "{}", entry.path().display());
        if kind.is_dir() {
            is_tidy(&entry.path());
        }
    }
}

fn split<'a>(mut data: &'a [u8], by: &[u8]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    while let Some(at) = data.windows(by.len()).position(|window| window == by) {
        pieces.push(&data[..at]);
        data = &data[at + by.len()..];
    }
    pieces.push(data);
    pieces
}

/// A request as it goes over the wire.
fn written(asked: &[u8], id: &str, signed: bool) -> Vec<u8> {
    let mut halves = split(asked, b"\n\n").into_iter();
    let head = String::from_utf8_lossy(halves.next().unwrap_or_default()).replace("{id}", id);
    let body = halves.collect::<Vec<_>>().join(&b"\n\n"[..]);
    let body = split(&body, b"{id}").join(id.as_bytes());
    let mut lines = head.split('\n');
    let first = lines.next().unwrap_or_default();
    let (method, target) = first.split_once(' ').unwrap_or((first, "/"));
    let time = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let hash = hex::encode(Sha256::digest(&body));
    let mark = if signed {
        let mark = sign(method, target, &time, &hash);
        format!("authorization: {mark}\nx-amz-glacier-version: 2012-06-01\n")
    } else {
        String::new()
    };
    let mut request = format!(
        "{method} {target} HTTP/1.1\nhost: h\nx-amz-date: {time}\nx-amz-content-sha256: {hash}\n\
         content-length: {}\nconnection: close\n{mark}",
        body.len()
    );
    for line in lines {
        request.push_str(line);
        request.push('\n');
    }
    let mut request = request.replace('\n', "\r\n").into_bytes();
    request.extend_from_slice(b"\r\n");
    request.extend(body);
    request
}

/// Signature version 4, as far as these requests need it.
fn sign(method: &str, target: &str, time: &str, hash: &str) -> String {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let path = path.replace('%', "%25");
    let mut query: Vec<String> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| if pair.contains('=') { pair.to_owned() } else { format!("{pair}=") })
        .collect();
    query.sort();
    let names = "host;x-amz-content-sha256;x-amz-date";
    let request = format!(
        "{method}\n{path}\n{}\nhost:h\nx-amz-content-sha256:{hash}\nx-amz-date:{time}\n\n{names}\n{hash}",
        query.join("&")
    );
    let date = time.get(..8).unwrap_or_default();
    let scope = format!("{date}/us-east-1/glacier/aws4_request");
    let digest = hex::encode(Sha256::digest(&request));
    let to_sign = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{digest}");
    let keyed = |key: &[u8], data: &str| {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
        mac.update(data.as_bytes());
        mac.finalize().into_bytes().to_vec()
    };
    let first = format!("AWS4{SECRET}").into_bytes();
    let steps = [date, "us-east-1", "glacier", "aws4_request", &to_sign];
    let signature = hex::encode(steps.iter().fold(first, |key, step| keyed(&key, step)));
    format!(
        "AWS4-HMAC-SHA256 Credential={ID}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
}
