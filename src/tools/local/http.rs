//! One request: read, checked, answered, logged.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::{Request, Response};
use jiff::Timestamp;
use tokio::sync::mpsc;

use super::Server;
use super::call::{self, Call, Route};
use super::faults::Action;
use super::part::{Writer, Written};
use super::reply::{Answer, Body, Refusal, Reply};
use super::sigv4::{self, Message};
use super::store::Turn;
use crate::hash::tree::Hash;
use crate::process;
use crate::tools::local::access_log::Record;
use crate::tools::local::body_in::{Cut, Inflow};
use crate::tools::local::body_out::{self, Sent};
use crate::tools::local::glacier::archives;
use crate::tools::local::glacier::jobs;
use crate::tools::local::glacier::policies;
use crate::tools::local::glacier::uploads;
use crate::tools::local::glacier::vaults;
use crate::tools::local::request::Asked;

/// Most bytes of a body that carries no archive.
const SMALL: usize = 1 << 20;
/// Chunks on their way between the network and the disk, a request.
const WAITING: usize = 4;

/// The fault plan ended the connection; there is no answer.
#[derive(Debug)]
pub struct Dropped;

impl std::fmt::Display for Dropped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("dropped by the fault plan")
    }
}

impl std::error::Error for Dropped {}

/// Answers a request.
///
/// # Errors
/// When the fault plan has the connection end.
pub async fn serve(
    server: Arc<Server>,
    request: Request<Incoming>,
) -> Result<Response<Sent>, Dropped> {
    let (parts, body) = request.into_parts();
    let query = call::query(parts.uri.query().unwrap_or_default());
    let route = match &query {
        Ok(query) => call::route(parts.method.as_str(), parts.uri.path(), query),
        Err(refusal) => Err(Refusal::new(refusal.status, refusal.code.clone(), &*refusal.message)),
    };
    let strike = server.strike(route.as_ref().ok().map(|route| route.call));
    let name = strike.as_ref().map(|strike| strike.name);
    let record = Record::new(&server, &parts, route.as_ref().ok(), name);
    let mut action = strike.map(|strike| strike.action);
    let mut body = Inflow::new(body, record, action.clone(), server.timeout);

    let answer = match (instead(action.as_ref()), route, query) {
        (Some(answer), ..) => answer,
        (None, Ok(route), Ok(query)) => {
            answer(&server, parts, route, query, &mut body, action.as_ref()).await
        }
        (None, Err(refusal), _) | (None, _, Err(refusal)) => Err(refusal),
    };
    body.drain(archives::REQUEST).await;
    if body.cut() == Some(Cut::Dropped) {
        return Err(Dropped);
    }
    let mut record = body.record;

    let (reply, code) = match answer {
        Ok(reply) => (reply, None),
        Err(refusal) => {
            if let Some(reason) = &refusal.reason {
                process::warn(reason);
            }
            let reply = Reply { status: refusal.status, ..Reply::json(refusal.body()) };
            (reply, Some(refusal.code.into_owned()))
        }
    };
    record.names(&reply.headers);
    // Where there is no body, there is nothing to stop behind.
    if matches!(reply.body, Body::Empty) {
        action = match action {
            Some(Action::CutAnswer { .. }) => Some(Action::LoseAnswer),
            Some(Action::StallAnswer { .. }) => Some(Action::StallAnswer { bytes: None }),
            action => action,
        };
    }
    match action {
        Some(Action::LoseAnswer) => return Err(Dropped),
        Some(Action::StallAnswer { bytes: None }) => {
            record.write();
            std::future::pending::<()>().await;
        }
        Some(Action::DelayAnswer(time)) => tokio::time::sleep(time).await,
        _ => {}
    }
    record.answered(reply.status, code);
    Ok(body_out::response(reply, record, action))
}

/// What the fault plan has answered without doing anything.
fn instead(action: Option<&Action>) -> Option<Answer> {
    match action? {
        Action::Refuse { status, code, message } => {
            Some(Err(Refusal::new(*status, code.clone(), message.clone())))
        }
        Action::Answer { status, body } => {
            Some(Ok(Reply { body: Body::Text(body.clone()), ..Reply::empty(*status) }))
        }
        _ => None,
    }
}

/// Checks the signature, then lets the call have its turn.
async fn answer(
    server: &Arc<Server>,
    parts: hyper::http::request::Parts,
    route: Route,
    query: Vec<(String, String)>,
    body: &mut Inflow,
    fault: Option<&Action>,
) -> Answer {
    let declared = parts
        .headers
        .get("x-amz-content-sha256")
        .map(|value| value.to_str().unwrap_or_default().to_owned());
    let archive = route.call.carries_archive();
    let small = if archive { Bytes::new() } else { body.whole(SMALL).await? };
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
    let mut query = query;
    if matches!(fault, Some(Action::EndlessList { .. })) {
        query.retain(|(name, _)| name != "marker");
    }
    let asked = Arc::new(Asked { route, region, query, headers: parts.headers, body: small });
    match asked.required("x-amz-glacier-version")? {
        "2012-06-01" => {}
        other => return Err(Refusal::invalid(format!("Invalid x-amz-glacier-version: {other}"))),
    }
    if let Some(fault) = fault
        && (asked.route.call == Call::ListJobs || !asked.route.id.is_empty())
    {
        forget(server, &asked, fault, asked.route.id.clone()).await?;
    }
    if !archive {
        let reply = in_turn(server, &asked, small_call).await?;
        let named = |(name, id): &(&str, String)| {
            matches!(*name, "x-amz-multipart-upload-id" | "x-amz-job-id").then(|| id.clone())
        };
        if let (Some(fault), Some(id)) = (fault, reply.headers.iter().find_map(named)) {
            forget(server, &asked, fault, id).await?;
        }
        return Ok(reply);
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

/// Has an upload or a job go, or fail, as the fault plan says.
async fn forget(
    server: &Arc<Server>,
    asked: &Arc<Asked>,
    fault: &Action,
    id: String,
) -> Answer<()> {
    match fault {
        Action::ForgetUpload => {
            in_turn(server, asked, move |turn, asked| uploads::forget(turn, asked, &id)).await
        }
        Action::FailJob => {
            in_turn(server, asked, move |turn, asked| jobs::fail(turn, asked, &id)).await
        }
        Action::ExpireJob => {
            in_turn(server, asked, move |turn, asked| jobs::expire(turn, asked, &id)).await
        }
        _ => Ok(()),
    }
}

/// Takes archive bytes to disk: the network on this thread, hashes and disk
/// on another, a few pieces between them.
async fn receive(body: &mut Inflow, mut writer: Writer, size: u64) -> Answer<Written> {
    let (pieces, mut waiting) = mpsc::channel::<Bytes>(WAITING);
    let disk = tokio::task::spawn_blocking(move || -> io::Result<Option<Written>> {
        while let Some(piece) = waiting.blocking_recv() {
            writer.write(&piece)?;
        }
        if writer.size() == size { writer.finish().map(Some) } else { Ok(None) }
    });
    let mut left = size;
    while let Ok(Some(piece)) = body.piece().await {
        // A body that came in chunks may have another size than was said.
        let Some(less) = left.checked_sub(u64::try_from(piece.len()).unwrap_or(u64::MAX)) else {
            return Err(Cut::Broken.into());
        };
        left = less;
        // The writer stops early only when it fails, and then says why.
        if pieces.send(piece).await.is_err() {
            break;
        }
    }
    drop(pieces);
    disk.await
        .map_err(|e| Refusal::broken("a part ended early", e))?
        .map_err(|e| Refusal::broken("part: cannot write", e))?
        .ok_or_else(|| body.cut().unwrap_or(Cut::Broken).into())
}
