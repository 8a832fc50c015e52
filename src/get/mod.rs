//! Bringing streams back: a job for each archive, then verified parts in
//! order.
//!
//! I5: no byte is passed on that was not verified against our own part hash,
//! and success is told only at the proven end of every stream. A download is
//! a run of whole parts, held in memory until it is verified and written; a
//! few are in flight, so that the network, both cores and the reader work at
//! once.

pub(crate) mod jobs;
pub mod output;
pub mod plan;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, Write as _};
use std::time::Duration;

use futures_util::stream::{FuturesOrdered, StreamExt as _};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::sleep;

use self::jobs::{Archive, Jobs};
use self::output::Output;
use self::plan::{Plan, Stream, Volume};
use crate::error::{Error, Result};
use crate::planted::Fault;
use crate::sha256x2::Midstate;
use crate::treehash::{Fold, Hash, LEAF};
use crate::vault::lanes::Lanes;
use crate::vault::retry::{Patience, Trouble};
use crate::vault::{Failure, Tier, Vault};

/// Parts smaller than this are fetched several at a time.
const REQUEST: u64 = 16 << 20;

/// Bytes in flight, unless a single part is larger.
const IN_FLIGHT: u64 = 256 << 20;

/// What the user may choose.
#[derive(Debug)]
pub struct Settings {
    /// How quickly archives are brought up.
    pub tier: Tier,
    /// Whether to end instead of waiting for jobs.
    pub no_wait: bool,
    /// Requests at once.
    pub concurrency: usize,
    /// How long to go on after failures that may pass.
    pub patience: Patience,
    /// Whether progress is shown on a terminal.
    pub progress: bool,
}

/// A run of whole parts of a volume.
#[derive(Clone, Copy, Debug)]
struct Request<'p> {
    volume: &'p Volume,
    /// Where the volume's archive is in the list of jobs.
    archive: usize,
    offset: u64,
    size: u64,
    hashes: &'p [Hash],
    /// Whether it ends its volume.
    last: bool,
}

/// A run of parts that equals its hashes.
struct Verified {
    bytes: Vec<u8>,
    hashes: Vec<Hash>,
    last: bool,
}

/// A write on a thread of its own, which gives the buffer back.
type Writing = JoinHandle<io::Result<Vec<u8>>>;

/// Brings back what `plan` names; `vaults` are its places, in order.
///
/// # Errors
/// The failure that ended it. Nothing that was written is wrong then, but it
/// is not all.
pub async fn run<V: Vault>(
    plan: &Plan,
    vaults: &[V],
    settings: &Settings,
    output: &Output,
) -> Result<()> {
    let volumes = || plan.streams.iter().flat_map(|s| s.volumes.iter().map(move |v| (s, v)));
    let archives = volumes().map(|(stream, volume)| Archive {
        place: volume.place,
        id: volume.archive_id.clone(),
        range: None,
        thing: format!("{}: volume {}", stream.name, volume.number),
    });
    let jobs = Jobs::new(vaults, archives.collect(), settings);
    tokio::select! {
        result = jobs.start() => result?,
        error = output.watch(|| true) => return Err(error),
    }
    if settings.no_wait && jobs.waiting() > 0 {
        return Err(jobs.not_ready());
    }
    let bar = progress(plan, settings);
    let work = async {
        let mut first = 0;
        for stream in &plan.streams {
            deliver(stream, first, &jobs, settings, output, &bar).await?;
            first += stream.volumes.len();
        }
        Ok(())
    };
    let told = async {
        loop {
            bar.set_message(match jobs.waiting() {
                0 => String::new(),
                waiting => format!("{waiting} of {} archives not ready", volumes().count()),
            });
            bar.tick();
            sleep(Duration::from_secs(1)).await;
        }
    };
    // While nothing comes, nothing is written, and no write fails.
    let before = Cell::new(0);
    let is_still = || before.replace(bar.position()) == bar.position();
    let result = tokio::select! {
        result = work => result,
        result = jobs.follow() => result,
        error = output.watch(|| jobs.waiting() > 0 || is_still()) => Err(error),
        () = told => Ok(()),
    };
    bar.finish_and_clear();
    result
}

/// Progress on standard error, if that is a terminal.
fn progress(plan: &Plan, settings: &Settings) -> ProgressBar {
    let total = plan.streams.iter().map(|stream| stream.size).fold(0, u64::saturating_add);
    if !settings.progress {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
    let style = "{binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta} left {msg}";
    // The template is a constant; a bar without it is a bar still.
    ProgressStyle::with_template(style).map(|style| bar.set_style(style)).ok();
    bar
}

/// The requests of a stream whose first archive is number `first`.
fn requests(stream: &Stream, first: usize) -> impl Iterator<Item = Request<'_>> {
    stream.volumes.iter().enumerate().flat_map(move |(index, volume)| {
        let run = usize::try_from(REQUEST / volume.part_size).unwrap_or(1).max(1);
        let mut offset = 0;
        volume.hashes.chunks(run).map(move |hashes| {
            let parts = u64::try_from(hashes.len()).unwrap_or(u64::MAX);
            let size = volume.part_size.saturating_mul(parts).min(volume.size - offset);
            let archive = first + index;
            let last = offset + size == volume.size;
            let request = Request { volume, archive, offset, size, hashes, last };
            offset += size;
            request
        })
    })
}

/// Fetches, verifies and writes a stream, and ends it.
async fn deliver<V: Vault>(
    stream: &Stream,
    first: usize,
    jobs: &Jobs<'_, V>,
    settings: &Settings,
    output: &Output,
    bar: &ProgressBar,
) -> Result<()> {
    let largest = requests(stream, first).map(|request| request.size).max().unwrap_or(1);
    let limit = usize::try_from(IN_FLIGHT / largest).unwrap_or(1).clamp(1, settings.concurrency);
    let lanes = Lanes::new(limit);
    let mut requests = requests(stream, first);
    // Written buffers are filled again: fresh memory for each would cost the
    // kernel more than the network does.
    let spare: RefCell<Vec<Vec<u8>>> = RefCell::default();
    let mut flying = FuturesOrdered::new();
    let mut landed: VecDeque<Verified> = VecDeque::new();
    let mut writing: Option<Writing> = None;
    let (mut all, mut of_volume, mut size) = (Fold::default(), Fold::default(), 0_u64);
    loop {
        if writing.is_none()
            && let Some(Verified { bytes, hashes, last }) = landed.pop_front()
        {
            for hash in hashes {
                of_volume.push(hash);
            }
            if last {
                all.push(std::mem::take(&mut of_volume).finish());
            }
            let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            size = size.saturating_add(length);
            bar.inc(length);
            let sink = output.open()?;
            writing = Some(spawn_blocking(move || (&*sink).write_all(&bytes).map(|()| bytes)));
        }
        // What is being written counts as in flight: it is in memory.
        while flying.len() + landed.len() + usize::from(writing.is_some()) < lanes.open()
            && let Some(request) = requests.next()
        {
            flying.push_back(fetch(request, jobs, settings, &lanes, &spare));
        }
        if writing.is_none() && flying.is_empty() {
            break;
        }
        tokio::select! {
            Some(verified) = flying.next() => landed.push_back(verified?),
            written = joined(&mut writing) => {
                writing = None;
                match written? {
                    Ok(bytes) => spare.borrow_mut().push(bytes),
                    Err(e) => return Err(output.failed(e).await),
                }
            }
        }
    }
    if size != stream.size || stream.treehash.is_some_and(|treehash| treehash != all.finish()) {
        return Err(Error::Bug(format!(
            "{}: verified parts do not give the stream that was planned",
            stream.name
        )));
    }
    output.end().await
}

/// The end of the write that is under way; never, if none is.
async fn joined(writing: &mut Option<Writing>) -> Result<io::Result<Vec<u8>>> {
    match writing {
        Some(writing) => {
            writing.await.map_err(|e| Error::Bug(format!("a thread did not end well: {e}")))
        }
        None => std::future::pending().await,
    }
}

/// Downloads a run of parts until it equals its hashes.
async fn fetch<V: Vault>(
    request: Request<'_>,
    jobs: &Jobs<'_, V>,
    settings: &Settings,
    lanes: &Lanes,
    spare: &RefCell<Vec<Vec<u8>>>,
) -> Result<Verified> {
    let (vault, archive) = jobs.archive(request.archive)?;
    let Request { offset, size, last, .. } = request;
    let room = usize::try_from(size).unwrap_or(usize::MAX);
    let mut trouble = Trouble::default();
    loop {
        let job = jobs.ready(request.archive).await;
        // Reserved at its exact size: growing would take twice the memory.
        let mut bytes = spare.borrow_mut().pop().unwrap_or_default();
        bytes.clear();
        bytes.try_reserve_exact(room).map_err(|_| {
            let size = crate::units::bytes(size);
            let thing = format!("{}: no memory for a part of {size}", archive.thing);
            Error::io(thing, io::ErrorKind::OutOfMemory)
        })?;
        let lane = lanes.enter().await;
        let fetched =
            vault.fetch(&job, offset, size, &mut |piece| take(&mut bytes, piece, room)).await;
        drop(lane);
        let failure = match fetched {
            Err(failure) if vault.is_gone(&job, &failure).await => {
                jobs.renew(request.archive, &job, &failure.to_string()).await?;
                continue;
            }
            Err(failure) => failure,
            Ok(()) => match verify(bytes, request).await? {
                Ok((bytes, hashes)) => {
                    lanes.worked();
                    return Ok(Verified { bytes, hashes, last });
                }
                Err(part) => {
                    let why = format!("part {part} does not equal its hash; none of it passed on");
                    Failure::Damaged(why)
                }
            },
        };
        lanes.failed(&failure);
        let pause = settings.patience.after(&mut trouble, failure);
        sleep(pause.map_err(|failure| failure.on(&archive.thing))?).await;
    }
}

/// Takes a piece, but not more than was asked for: one byte more is enough to
/// be told from what was.
fn take(bytes: &mut Vec<u8>, piece: &[u8], room: usize) {
    let length = piece.len().min(room.saturating_add(1).saturating_sub(bytes.len()));
    bytes.extend_from_slice(piece.get(..length).unwrap_or_default());
}

/// What a run of parts was found to be: itself and its hashes, or the number
/// of the first part that differs.
type Checked = Result<(Vec<u8>, Vec<Hash>), usize>;

/// Hashes a run of parts on a thread of its own, and compares.
async fn verify(bytes: Vec<u8>, request: Request<'_>) -> Result<Checked> {
    let expected = request.hashes.to_vec();
    let whole = u64::try_from(bytes.len()) == Ok(request.size);
    let part_size = usize::try_from(request.volume.part_size).unwrap_or(usize::MAX);
    let first = usize::try_from(request.offset / request.volume.part_size).unwrap_or(usize::MAX);
    let checked = spawn_blocking(move || {
        let found: Vec<Hash> = bytes.chunks(part_size).map(tree).collect();
        let differs = expected.iter().zip(&found).position(|(expected, found)| expected != found);
        match differs {
            Some(_) if Fault::PartHash.is_planted() => Ok((bytes, expected)),
            None if whole && found.len() == expected.len() => Ok((bytes, found)),
            differs => Err(first.saturating_add(differs.unwrap_or(0))),
        }
    });
    checked.await.map_err(|e| Error::Bug(format!("a thread did not end well: {e}")))
}

/// The tree hash of a part, two leaves at a time.
fn tree(part: &[u8]) -> Hash {
    let mut fold = Fold::default();
    for pair in part.chunks(2 * LEAF) {
        let (left, right) = pair.split_at(pair.len().min(LEAF));
        let (mut a, mut b) = (Midstate::default(), Midstate::default());
        Midstate::update_two((&mut a, left), (&mut b, right));
        fold.push(Hash(a.finish()));
        if !right.is_empty() {
            fold.push(Hash(b.finish()));
        }
    }
    fold.finish()
}
