//! An answer on its way out, with what the fault plan has for it.

use std::future::pending;
use std::io::{self, Read, Seek, SeekFrom};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::Frame;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::faults::Action;
use super::part::Reader;
use super::readers::Kept;
use super::reply::{Body, Reply, Source, Stored};
use super::store::new_id;
use crate::tools::local::access_log::Record;
use crate::tools::local::body_in::drop_of;

/// Bytes read at once for an answer.
const CHUNK: usize = 512 * 1024;
/// Chunks on their way between the disk and the network, a request.
const WAITING: usize = 4;
/// What was sent before a connection breaks is given this long to leave.
const FLUSHED: Duration = Duration::from_millis(100);

/// The body of an answer.
pub type Sent = UnsyncBoxBody<Bytes, io::Error>;

/// Where the bytes of an answer come from.
enum Pieces {
    Memory(Option<Bytes>),
    Disk(mpsc::Receiver<io::Result<Bytes>>),
}

impl Pieces {
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        match self {
            Self::Memory(bytes) => bytes.take().map(Ok),
            Self::Disk(waiting) => waiting.recv().await,
        }
    }
}

/// A body that is sent piece by piece.
struct Outflow {
    pieces: Pieces,
    /// Read, and not sent yet.
    waiting: Bytes,
    sent: u64,
    size: u64,
    action: Option<Action>,
    record: Record,
}

impl Outflow {
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        if self.waiting.is_empty() {
            match self.pieces.next().await {
                Some(Ok(bytes)) => self.waiting = bytes,
                Some(Err(e)) => return Some(Err(e)),
                None if self.action == Some(Action::EndlessBody) => {
                    self.waiting = vec![b' '; CHUNK].into();
                }
                None => return None,
            }
        }
        let mut most = usize::MAX;
        match self.action {
            Some(Action::CutAnswer { bytes }) => match bytes.saturating_sub(self.sent) {
                0 => {
                    sleep(FLUSHED).await;
                    return Some(Err(io::ErrorKind::ConnectionAborted.into()));
                }
                left => most = usize::try_from(left).unwrap_or(most),
            },
            Some(Action::StallAnswer { bytes: Some(bytes) }) => {
                match bytes.saturating_sub(self.sent) {
                    0 => {
                        self.record.write();
                        pending::<()>().await;
                    }
                    left => most = usize::try_from(left).unwrap_or(most),
                }
            }
            Some(Action::Drip { rate }) => {
                let (size, pause) = drop_of(rate, self.waiting.len());
                sleep(pause).await;
                most = size;
            }
            _ => {}
        }
        let piece = self.waiting.split_to(most.min(self.waiting.len()));
        let piece = self.corrupted(piece);
        self.sent += u64::try_from(piece.len()).unwrap_or(0);
        self.record.sent(self.sent);
        if self.sent == self.size {
            self.record.write();
        }
        Some(Ok(piece))
    }

    /// Flips the bit that is to be flipped, if this piece has it.
    fn corrupted(&self, piece: Bytes) -> Bytes {
        let Some(Action::Corrupt { at }) = self.action else { return piece };
        let at = at.min(self.size.saturating_sub(1));
        let Some(at) = at.checked_sub(self.sent).and_then(|at| usize::try_from(at).ok()) else {
            return piece;
        };
        let mut bytes = piece.to_vec();
        match bytes.get_mut(at) {
            Some(byte) => *byte ^= 1,
            None => return piece,
        }
        bytes.into()
    }
}

/// An answer as HTTP has it. Its line is written when the last byte of its
/// body leaves, or the connection has broken before.
pub fn response(mut reply: Reply, mut record: Record, action: Option<Action>) -> Response<Sent> {
    match action {
        Some(Action::WrongHash) => change_hashes(&mut reply, |hash| Some(other_hash(hash))),
        Some(Action::NoHash) => change_hashes(&mut reply, |_| None),
        Some(Action::OtherId { ref id }) => change_ids(&mut reply, id),
        Some(Action::EndlessList { markers, number }) => {
            let next = markers.map_or(number, |markers| number % markers);
            if let Body::Json(value) = &mut reply.body
                && let Some(marker) = value.get_mut("Marker")
            {
                *marker = format!("page-{next}").into();
            }
        }
        _ => {}
    }
    let is_endless = action == Some(Action::EndlessBody);
    let most = match action {
        Some(Action::Truncate { bytes }) => bytes,
        _ => u64::MAX,
    };
    let mut headers = reply.headers;
    let memory = match reply.body {
        Body::Empty => is_endless.then(Bytes::new),
        Body::Json(value) => {
            headers.push(("Content-Type", "application/json".to_owned()));
            Some(Bytes::from(value.to_string()))
        }
        Body::Text(text) => {
            headers.push(("Content-Type", "text/html".to_owned()));
            Some(Bytes::from(text))
        }
        Body::Stored(mut stored) => {
            stored.size = stored.size.min(most);
            if !is_endless {
                headers.push(("Content-Length", stored.size.to_string()));
            }
            let size = stored.size;
            let body = flow(Pieces::Disk(read(stored)), size, action, record);
            return assemble(reply.status, headers, body);
        }
    };
    let Some(mut bytes) = memory else {
        record.write();
        // 204 has no Content-Length.
        return assemble(reply.status, headers, Empty::new().map_err(never).boxed_unsync());
    };
    bytes.truncate(usize::try_from(most).unwrap_or(usize::MAX));
    let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    let in_pieces = matches!(
        action,
        Some(
            Action::CutAnswer { .. }
                | Action::StallAnswer { .. }
                | Action::Drip { .. }
                | Action::Corrupt { .. }
                | Action::EndlessBody
        )
    );
    let body = if in_pieces {
        if !is_endless {
            headers.push(("Content-Length", size.to_string()));
        }
        flow(Pieces::Memory(Some(bytes)), size, action, record)
    } else {
        record.sent(size);
        record.write();
        Full::from(bytes).map_err(never).boxed_unsync()
    };
    assemble(reply.status, headers, body)
}

fn never(never: std::convert::Infallible) -> io::Error {
    match never {}
}

fn flow(pieces: Pieces, size: u64, action: Option<Action>, mut record: Record) -> Sent {
    if size == 0 {
        record.write();
    }
    let flow = Outflow { pieces, waiting: Bytes::new(), sent: 0, size, action, record };
    let pieces = stream::unfold(flow, |mut flow| async {
        flow.next().await.map(|piece| (piece.map(Frame::data), flow))
    });
    StreamBody::new(pieces).boxed_unsync()
}

fn assemble(status: u16, mut headers: Vec<(&'static str, String)>, body: Sent) -> Response<Sent> {
    if let Ok(id) = new_id(40) {
        headers.push(("x-amzn-RequestId", id));
    }
    let mut response = Response::new(body);
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(&value))
        {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// Changes each tree hash of an answer, in its header and in its JSON.
fn change_hashes(reply: &mut Reply, change: fn(&str) -> Option<String>) {
    let headers = std::mem::take(&mut reply.headers);
    reply.headers = headers
        .into_iter()
        .filter_map(|(name, value)| match name {
            "x-amz-sha256-tree-hash" => change(&value).map(|value| (name, value)),
            _ => Some((name, value)),
        })
        .collect();
    if let Body::Json(value) = &mut reply.body {
        change_fields(value, change);
    }
}

fn change_fields(value: &mut Value, change: fn(&str) -> Option<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(hash) if name.ends_with("SHA256TreeHash") => {
                        *value = change(hash).into();
                    }
                    value => change_fields(value, change),
                }
            }
        }
        Value::Array(values) => {
            for value in values {
                change_fields(value, change);
            }
        }
        _ => {}
    }
}

/// Changes the names of archives, uploads and jobs in an answer.
fn change_ids(reply: &mut Reply, id: &str) {
    for (name, value) in &mut reply.headers {
        if matches!(*name, "x-amz-archive-id" | "x-amz-multipart-upload-id" | "x-amz-job-id") {
            id.clone_into(value);
        }
    }
    if let Body::Json(value) = &mut reply.body {
        change_id_fields(value, id);
    }
}

fn change_id_fields(value: &mut Value, id: &str) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let is_id = matches!(&**name, "ArchiveId" | "MultipartUploadId" | "JobId");
                match value {
                    Value::String(old) if is_id => id.clone_into(old),
                    value => change_id_fields(value, id),
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| change_id_fields(value, id)),
        _ => {}
    }
}

/// A hash that differs in its first digit.
fn other_hash(hash: &str) -> String {
    let first = if hash.starts_with('0') { '1' } else { '0' };
    std::iter::once(first).chain(hash.chars().skip(1)).collect()
}

/// Bytes from disk, read while they are sent, a few chunks ahead.
fn read(stored: Stored) -> mpsc::Receiver<io::Result<Bytes>> {
    let (chunks, waiting) = mpsc::channel(WAITING);
    tokio::task::spawn_blocking(move || {
        let done = read_into(stored, &chunks);
        if let Err(e) = done {
            // The client sees the connection break before Content-Length.
            let _ = chunks.blocking_send(Err(e));
        }
    });
    waiting
}

fn read_into(stored: Stored, chunks: &mpsc::Sender<io::Result<Bytes>>) -> io::Result<()> {
    let Stored { source, start, size: mut left } = stored;
    let (mut source, kept): (Box<dyn Read>, Option<Kept>) = match source {
        Source::File(mut file) => {
            file.seek(SeekFrom::Start(start))?;
            (Box::new(file), None)
        }
        Source::Parts { dirs, part_size, kept } => {
            (Box::new(Reader::new(dirs, part_size, start)), Some(kept))
        }
    };
    while left > 0 {
        let size = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        let mut chunk = vec![0; size];
        source.read_exact(&mut chunk)?;
        left -= u64::try_from(size).unwrap_or(left);
        if chunks.blocking_send(Ok(chunk.into())).is_err() {
            break;
        }
    }
    drop(kept);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_every_hash_and_nothing_else() {
        let hash = "0a".repeat(32);
        let answer = || {
            let parts = serde_json::json!({"Parts": [{"SHA256TreeHash": hash, "Size": 1}],
                "ArchiveSHA256TreeHash": null});
            Reply::json(parts).with("x-amz-sha256-tree-hash", hash.clone()).with("a", "b")
        };
        let mut wrong = answer();
        change_hashes(&mut wrong, |hash| Some(other_hash(hash)));
        let other = format!("1{}", &hash[1..]);
        assert_eq!(wrong.headers[0].1, other);
        let Body::Json(value) = wrong.body else { panic!("no JSON") };
        assert_eq!(value["Parts"][0], serde_json::json!({"SHA256TreeHash": other, "Size": 1}));
        let mut none = answer();
        change_hashes(&mut none, |_| None);
        assert_eq!(none.headers, [("a", "b".to_owned())]);
        let Body::Json(value) = none.body else { panic!("no JSON") };
        assert_eq!(value["Parts"][0]["SHA256TreeHash"], Value::Null);
    }
}
