//! One request: read, checked, answered, logged.

use std::convert::Infallible;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{HeaderName, HeaderValue};
use hyper::{Request, Response, StatusCode};
use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::mpsc;

use super::archives;
use super::ask::Asked;
use super::call::{self, Call, Route};
use super::part::{Reader, Writer, Written};
use super::reply::{Answer, Body, Refusal, Reply, Source, Stored};
use super::sigv4::{self, Message};
use super::store::{Turn, new_id};
use super::{Server, jobs, policies, uploads, vaults};
use crate::cli;
use crate::treehash::Hash;

/// Most bytes of a body that carries no archive.
const SMALL: usize = 1 << 20;
/// Bytes read at once for an answer.
const CHUNK: usize = 512 * 1024;
/// Chunks on their way between the network and the disk, a request.
const WAITING: usize = 4;

/// A line of the request log.
#[derive(Serialize)]
pub struct Logged {
    r#type: &'static str,
    /// The real time of the answer.
    time: String,
    call: String,
    path: String,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    bytes: u64,
    ms: u64,
}

/// The body of an answer.
type Sent = UnsyncBoxBody<Bytes, io::Error>;

/// Answers a request. Nothing here fails but the connection.
pub async fn serve(
    server: Arc<Server>,
    request: Request<Incoming>,
) -> Result<Response<Sent>, Infallible> {
    let started = Instant::now();
    let (parts, mut body) = request.into_parts();
    let received = parts
        .headers
        .get("content-length")
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .unwrap_or(0u64);
    let query = call::query(parts.uri.query().unwrap_or_default());
    let route = query
        .as_ref()
        .map_err(|refusal| Refusal::new(refusal.status, refusal.code, &*refusal.message))
        .and_then(|query| call::route(parts.method.as_str(), parts.uri.path(), query));
    let called = route.as_ref().ok().map(|route| route.call);
    let path = parts.uri.path().to_owned();

    // A fault plan acts here: it knows the call, and may refuse it, drop the
    // connection, or change the answer below.
    let answer = match (route, query) {
        (Ok(route), Ok(query)) => answer(&server, parts, route, query, &mut body).await,
        (Err(refusal), _) | (_, Err(refusal)) => Err(refusal),
    };
    if answer.is_err() {
        // A client that is still sending would see a reset instead of the
        // answer.
        while let Some(Ok(_)) = body.frame().await {}
    }

    let (status, sent, code, response) = match answer {
        Ok(reply) => {
            let sent = if let Body::Stored(stored) = &reply.body { stored.size } else { 0 };
            (reply.status, sent, None, response(reply))
        }
        Err(refusal) => {
            if let Some(reason) = &refusal.reason {
                cli::warn(reason);
            }
            let reply = Reply { status: refusal.status, ..Reply::json(refusal.body()) };
            (refusal.status, 0, Some(refusal.code), response(reply))
        }
    };
    server.log(&Logged {
        r#type: "request",
        time: Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
        call: called.map_or_else(|| "unknown".to_owned(), |call| format!("{call:?}")),
        path,
        status,
        code,
        bytes: sent.saturating_add(received),
        ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
    });
    Ok(response)
}

/// Checks the signature, then lets the call have its turn.
async fn answer(
    server: &Arc<Server>,
    parts: hyper::http::request::Parts,
    route: Route,
    query: Vec<(String, String)>,
    body: &mut Incoming,
) -> Answer {
    let declared = parts
        .headers
        .get("x-amz-content-sha256")
        .map(|value| value.to_str().unwrap_or_default().to_owned());
    let archive = route.call.carries_archive();
    let small = if archive { Bytes::new() } else { read_small(body).await? };
    let found = if archive { None } else { Some(Hash::of(&small).to_string()) };
    let signed = match (&declared, &found) {
        (Some(declared), _) => declared,
        (None, Some(found)) => found,
        (None, None) => return Err(Refusal::missing("x-amz-content-sha256")),
    };
    let region = sigv4::verify(
        &Message {
            method: parts.method.as_str(),
            path: parts.uri.path(),
            query: &query,
            headers: &parts.headers,
            body_sha256: signed,
        },
        &server.keys,
        Timestamp::now(),
    )?;
    if let (Some(declared), Some(found)) = (&declared, &found)
        && !declared.eq_ignore_ascii_case(found)
    {
        return Err(Refusal::invalid(format!(
            "The value passed in as x-amz-content-sha256 does not match the computed payload hash. \
             Computed digest: {found} expected hash: {declared}"
        )));
    }
    let asked = Arc::new(Asked { route, region, query, headers: parts.headers, body: small });
    match asked.required("x-amz-glacier-version")? {
        "2012-06-01" => {}
        other => return Err(Refusal::invalid(format!("Invalid x-amz-glacier-version: {other}"))),
    }
    if !archive {
        return in_turn(server, &asked, small_call).await;
    }
    let part = asked.route.call == Call::UploadMultipartPart;
    let begin = if part { uploads::begin } else { archives::begin };
    let incoming = in_turn(server, &asked, begin).await?;
    let writer = Writer::create(&incoming.file).map_err(|e| Refusal::broken("part", e))?;
    let written = receive(body, writer, incoming.size).await?;
    let commit = if part { uploads::commit } else { archives::commit };
    in_turn(server, &asked, move |turn, asked| commit(turn, asked, &incoming, &written)).await
}

/// Runs a call on a thread that may wait for the disk.
async fn in_turn<T: Send + 'static>(
    server: &Arc<Server>,
    asked: &Arc<Asked>,
    call: impl FnOnce(&Turn, &Asked) -> Answer<T> + Send + 'static,
) -> Answer<T> {
    let (server, asked) = (Arc::clone(server), Arc::clone(asked));
    tokio::task::spawn_blocking(move || call(&server.store.turn(&asked.region), &asked))
        .await
        .map_err(|e| Refusal::broken("a call ended early", e))?
}

fn small_call(turn: &Turn, asked: &Asked) -> Answer {
    match asked.route.call {
        Call::ListVaults => vaults::list(turn, asked),
        Call::CreateVault => vaults::create(turn, asked),
        Call::DescribeVault => vaults::describe(turn, asked),
        Call::DeleteVault => vaults::delete(turn, asked),
        Call::DeleteArchive => archives::delete(turn, asked),
        Call::InitiateMultipartUpload => uploads::initiate(turn, asked),
        Call::ListMultipartUploads => uploads::list(turn, asked),
        Call::CompleteMultipartUpload => uploads::complete(turn, asked),
        Call::AbortMultipartUpload => uploads::abort(turn, asked),
        Call::ListParts => uploads::parts(turn, asked),
        Call::InitiateJob => jobs::initiate(turn, asked),
        Call::ListJobs => jobs::list(turn, asked),
        Call::DescribeJob => jobs::describe(turn, asked),
        Call::GetJobOutput => jobs::output(turn, asked),
        Call::AddTagsToVault => vaults::add_tags(turn, asked),
        Call::RemoveTagsFromVault => vaults::remove_tags(turn, asked),
        Call::ListTagsForVault => vaults::tags(turn, asked),
        Call::SetVaultAccessPolicy => policies::set_access(turn, asked),
        Call::GetVaultAccessPolicy => policies::access(turn, asked),
        Call::DeleteVaultAccessPolicy => policies::delete_access(turn, asked),
        Call::InitiateVaultLock => policies::begin_lock(turn, asked),
        Call::CompleteVaultLock => policies::complete_lock(turn, asked),
        Call::GetVaultLock => policies::get_lock(turn, asked),
        Call::AbortVaultLock => policies::abort_lock(turn, asked),
        Call::SetVaultNotifications => policies::set_notifications(turn, asked),
        Call::GetVaultNotifications => policies::notifications(turn, asked),
        Call::DeleteVaultNotifications => policies::delete_notifications(turn, asked),
        Call::GetDataRetrievalPolicy => policies::retrieval(turn),
        Call::SetDataRetrievalPolicy => policies::set_retrieval(turn, asked),
        Call::ListProvisionedCapacity => policies::capacity(turn),
        Call::PurchaseProvisionedCapacity => policies::buy_capacity(turn),
        Call::UploadArchive | Call::UploadMultipartPart => {
            Err(Refusal::broken("a call", "archive bytes came on the way of small calls"))
        }
    }
}

async fn read_small(body: &mut Incoming) -> Answer<Bytes> {
    match Limited::new(body, SMALL).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(e) if e.is::<http_body_util::LengthLimitError>() => {
            Err(Refusal::new(400, "SerializationException", "The body is larger than 1 MiB"))
        }
        Err(_) => Err(cut_short()),
    }
}

fn cut_short() -> Refusal {
    Refusal::new(408, "RequestTimeoutException", "The body ended before its Content-Length")
}

/// Takes archive bytes to disk: the network on this thread, hashes and disk
/// on another, a few pieces between them.
async fn receive(body: &mut Incoming, mut writer: Writer, size: u64) -> Answer<Written> {
    let (pieces, mut waiting) = mpsc::channel::<Bytes>(WAITING);
    let disk = tokio::task::spawn_blocking(move || -> io::Result<Option<Written>> {
        while let Some(piece) = waiting.blocking_recv() {
            writer.write(&piece)?;
        }
        if writer.size() == size { writer.finish().map(Some) } else { Ok(None) }
    });
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { break };
        let Ok(piece) = frame.into_data() else { continue };
        // The writer stops early only when it fails, and then says why.
        if pieces.send(piece).await.is_err() {
            break;
        }
    }
    drop(pieces);
    disk.await
        .map_err(|e| Refusal::broken("a part ended early", e))?
        .map_err(|e| Refusal::broken("part: cannot write", e))?
        .ok_or_else(cut_short)
}

/// An answer as HTTP has it.
fn response(reply: Reply) -> Response<Sent> {
    let mut headers = reply.headers;
    let body = match reply.body {
        Body::Empty => {
            // 204 has no Content-Length.
            Empty::new().map_err(|never| match never {}).boxed_unsync()
        }
        Body::Json(value) => {
            headers.push(("Content-Type", "application/json".to_owned()));
            Full::from(value.to_string()).map_err(|never| match never {}).boxed_unsync()
        }
        Body::Stored(stored) => {
            headers.push(("Content-Length", stored.size.to_string()));
            StreamBody::new(read(stored)).boxed_unsync()
        }
    };
    if let Ok(id) = new_id(40) {
        headers.push(("x-amzn-RequestId", id));
    }
    let mut response = Response::new(body);
    *response.status_mut() =
        StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(&value))
        {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// Bytes from disk, read while they are sent, a few chunks ahead.
fn read(stored: Stored) -> impl futures_util::Stream<Item = io::Result<Frame<Bytes>>> {
    let (chunks, waiting) = mpsc::channel(WAITING);
    tokio::task::spawn_blocking(move || {
        let done = read_into(stored, &chunks);
        if let Err(e) = done {
            // The client sees the connection break before Content-Length.
            let _ = chunks.blocking_send(Err(e));
        }
    });
    stream::unfold(waiting, |mut waiting| async {
        waiting.recv().await.map(|chunk| (chunk.map(Frame::data), waiting))
    })
}

fn read_into(stored: Stored, chunks: &mpsc::Sender<io::Result<Bytes>>) -> io::Result<()> {
    let mut source: Box<dyn Read> = match stored.source {
        Source::File(path) => {
            let mut file = std::fs::File::open(path)?;
            file.seek(SeekFrom::Start(stored.start))?;
            Box::new(file)
        }
        Source::Parts { dir, part_size } => Box::new(Reader::new(dir, part_size, stored.start)),
    };
    let mut left = stored.size;
    while left > 0 {
        let size = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        let mut chunk = vec![0; size];
        source.read_exact(&mut chunk)?;
        left -= u64::try_from(size).unwrap_or(left);
        if chunks.blocking_send(Ok(chunk.into())).is_err() {
            return Ok(());
        }
    }
    Ok(())
}
