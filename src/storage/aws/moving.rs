//! Archive bytes under way, either way: they take as long as they take, and
//! what stands still is given up.

use std::error::Error;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::byte_stream::ByteStream;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use tokio::time::timeout;

use super::body::Unreadable;
use super::errors::{classify, root_cause};
use crate::storage::{Attempt, Body, Failure};
use crate::units;

/// A download that brings less than this while a body may stand still does
/// not move.
const MOVES: usize = 256 << 10;

/// What came of the call that sends a body of which `taken` bytes had gone
/// before.
///
/// # Errors
/// As the service's; or when the spool cannot be read, or nothing moves.
pub async fn sent<T, E>(
    call: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    body: &Body,
    taken: u64,
    stall: Duration,
) -> Attempt<T>
where
    E: ProvideErrorMetadata + Error + 'static,
{
    tokio::select! {
        answer = call => answer.map_err(|e| match reading_failed(&e) {
            Some(why) => Failure::Local(why),
            None => classify(e),
        }),
        () = stalled(stall, body, taken) => {
            Err(Failure::overload(format!("nothing moved for {}", units::time(stall))))
        }
    }
}

/// Gives so many bytes of an answer to `sink`.
///
/// # Errors
/// When others come, or too few, or they stand still.
pub async fn came(
    body: &mut ByteStream,
    size: u64,
    stall: Duration,
    sink: &mut dyn FnMut(&[u8]),
) -> Attempt<()> {
    let mut left = size;
    let mut is_over = false;
    while !is_over {
        let moves = async {
            let mut moved = 0;
            while moved < MOVES {
                let Some(piece) = body.next().await else {
                    is_over = true;
                    break;
                };
                let piece = piece.map_err(|e| Failure::Passing(root_cause(&e)))?;
                moved += piece.len();
                let came = u64::try_from(piece.len()).unwrap_or(u64::MAX);
                left = left.checked_sub(came).ok_or_else(|| {
                    Failure::Damaged("more bytes came than were asked for".to_owned())
                })?;
                sink(&piece);
            }
            Ok(())
        };
        timeout(stall, moves).await.map_err(|_| {
            let (stall, moves) = (units::time(stall), MOVES >> 10);
            Failure::overload(format!("less than {moves} KiB came in {stall}"))
        })??;
    }
    match left {
        0 => Ok(()),
        left => Err(Failure::Passing(format!("the last {left} bytes did not come"))),
    }
}

/// Ends when none of a body's bytes has moved for a time, and none waited for
/// its turn when that was over.
async fn stalled(time: Duration, body: &Body, mut last: u64) {
    loop {
        tokio::time::sleep(time).await;
        let now = body.taken.load(Ordering::Relaxed);
        if now == last && !body.pace.is_waiting() {
            return;
        }
        last = now;
    }
}

/// Why the spool file could not be read, if that is what ended a request.
fn reading_failed(error: &(dyn Error + 'static)) -> Option<String> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(e) = error.downcast_ref::<Unreadable>() {
            return Some(e.to_string());
        }
        cause = error.source();
    }
    None
}
