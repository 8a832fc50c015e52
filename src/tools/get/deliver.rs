//! The bytes of a stream: fetched or read, verified, kept and written, in
//! order.
//!
//! A download is a run of whole parts, held in memory until it is verified
//! and written; a few are in flight, so that the network, both cores and the
//! reader work at once.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use futures_util::stream::{FuturesOrdered, StreamExt as _};
use indicatif::ProgressBar;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::sleep;

use super::kept::{Held, Kept, Writer};
use super::output::Output;
use super::plan::{Stream, Volume};
use super::work::{Piece, Source};
use crate::error::{Error, Result};
use crate::hash::tree::{Fold, Hash, LEAF, leaves};
use crate::storage::concurrency::Lanes;
use crate::storage::retry::Trouble;
use crate::storage::{Failure, Retrievals, Span};
use crate::tools::retrieve::Settings;
use crate::tools::retrieve::ahead::Busy;
use crate::tools::retrieve::jobs::Jobs;

/// Parts smaller than this are fetched several at a time.
const REQUEST: u64 = 16 << 20;

/// Bytes in flight, unless a single part is larger.
const IN_FLIGHT: u64 = 256 << 20;

/// A run of whole parts of a volume.
#[derive(Clone, Debug)]
pub(super) struct Request<'p> {
    pub volume: &'p Volume,
    pub source: Source,
    pub offset: u64,
    pub size: u64,
    pub hashes: &'p [Hash],
    /// Whether it ends its volume.
    pub last: bool,
}

/// A run of parts that equals its hashes.
struct Verified<'p> {
    request: Request<'p>,
    bytes: Vec<u8>,
    hashes: Vec<Hash>,
}

/// What a write came to: its buffer, or why it failed and whether that was
/// the output.
enum Written {
    Done(Vec<u8>),
    Output(io::Error),
    Kept(Error),
}

/// A write on a thread of its own, and that it is under way.
type Writing<'a> = (JoinHandle<Written>, Busy<'a>);

/// What all streams share.
pub(super) struct Line<'a, V> {
    pub jobs: &'a Jobs<'a, V>,
    pub settings: &'a Settings,
    pub output: &'a Output,
    pub bar: &'a ProgressBar,
}

/// The requests of pieces.
pub(super) fn requests<'p>(pieces: &[Piece<'p>]) -> impl Iterator<Item = Request<'p>> {
    pieces.iter().flat_map(|piece| {
        let volume = piece.volume;
        let line = &volume.line;
        let index = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let first = index(piece.span.offset / line.part_size);
        let count = index(piece.span.size.div_ceil(line.part_size));
        let hashes = volume.hashes.get(first..first.saturating_add(count)).unwrap_or_default();
        let run = index(REQUEST / line.part_size).max(1);
        let mut offset = piece.span.offset;
        hashes.chunks(run).map(move |hashes| {
            let parts = u64::try_from(hashes.len()).unwrap_or(u64::MAX);
            let rest = line.size.saturating_sub(offset);
            let size = line.part_size.saturating_mul(parts).min(rest);
            let last = size == rest;
            let request =
                Request { volume, source: piece.source.clone(), offset, size, hashes, last };
            offset = offset.saturating_add(size);
            request
        })
    })
}

/// Fetches, verifies and writes a stream, and ends it. What comes from the
/// service is kept, too, where there is a place for it.
pub(super) async fn deliver<V: Retrievals>(
    stream: &Stream,
    pieces: &[Piece<'_>],
    kept: Option<&Arc<Kept>>,
    line: &Line<'_, V>,
) -> Result<()> {
    let Line { jobs, settings, output, bar } = *line;
    let in_memory = requests(pieces).filter(|it| !matches!(it.source, Source::Passed));
    let largest = in_memory.map(|request| request.size).max().unwrap_or(1);
    let limit = usize::try_from(IN_FLIGHT / largest).unwrap_or(1).clamp(1, settings.concurrency);
    let lanes = Lanes::new(limit);
    let mut requests = requests(pieces);
    // Written buffers are filled again: fresh memory for each would cost the
    // kernel more than the network does.
    let spare: RefCell<Vec<Vec<u8>>> = RefCell::default();
    let mut flying = FuturesOrdered::new();
    let mut landed: VecDeque<Verified<'_>> = VecDeque::new();
    let mut writing: Option<Writing<'_>> = None;
    let mut keeping: Option<Writer> = None;
    let (mut all, mut of_volume, mut size) = (Fold::default(), Fold::default(), 0_u64);
    loop {
        if writing.is_none()
            && let Some(Verified { request, bytes, hashes }) = landed.pop_front()
        {
            for hash in hashes {
                of_volume.push(hash);
            }
            if request.last {
                all.push(std::mem::take(&mut of_volume).finish());
            }
            size = size.saturating_add(request.size);
            bar.inc(request.size);
            if !matches!(request.source, Source::Passed) {
                let keep = keeper(&request, kept, &mut keeping)?;
                let (sink, unproven) = (output.open(stream)?, output.unproven());
                let Request { offset, last, .. } = request;
                let write = move || {
                    if let Some(Err(error)) = keep.map(|keep| keep.write(&bytes, offset, last)) {
                        return Written::Kept(error);
                    }
                    match Output::write(&sink, unproven, &bytes) {
                        Ok(()) => Written::Done(bytes),
                        Err(e) => Written::Output(e),
                    }
                };
                writing = Some((spawn_blocking(write), jobs.meter().begin()));
            }
        }
        // What is being written counts as in flight: it is in memory.
        while flying.len() + landed.len() + usize::from(writing.is_some()) < lanes.open()
            && let Some(request) = requests.next()
        {
            flying.push_back(bring(request, jobs, settings, &lanes, &spare));
        }
        if writing.is_none() && flying.is_empty() && landed.is_empty() {
            break;
        }
        tokio::select! {
            Some(verified) = flying.next() => landed.push_back(verified?),
            written = joined(&mut writing) => {
                writing = None;
                match written? {
                    Written::Done(bytes) => spare.borrow_mut().push(bytes),
                    Written::Output(e) => return Err(output.failed(e).await),
                    Written::Kept(error) => return Err(error),
                }
            }
            () = std::future::ready(()), if writing.is_none() && !landed.is_empty() => {}
        }
    }
    if size != stream.size || stream.treehash.is_some_and(|treehash| treehash != all.finish()) {
        return Err(Error::Bug(format!(
            "{}: verified parts do not give the stream that was planned",
            stream.name
        )));
    }
    output.end(stream).await
}

/// Where a run of parts is kept, if it is to be: the writer of its volume,
/// which is opened at the first of them.
fn keeper(
    request: &Request<'_>,
    kept: Option<&Arc<Kept>>,
    keeping: &mut Option<Writer>,
) -> Result<Option<Writer>> {
    let Some(kept) = kept.filter(|_| matches!(request.source, Source::Asked(_))) else {
        return Ok(None);
    };
    let writer = match keeping.take() {
        Some(writer) => writer,
        None => kept.writer(request.volume, request.offset)?,
    };
    if !request.last {
        *keeping = Some(writer.clone());
    }
    Ok(Some(writer))
}

/// The end of the write that is under way; never, if none is.
async fn joined(writing: &mut Option<Writing<'_>>) -> Result<Written> {
    match writing {
        Some((writing, _)) => {
            writing.await.map_err(|e| Error::Bug(format!("a thread did not end well: {e}")))
        }
        None => std::future::pending().await,
    }
}

/// A run of parts, from wherever it comes.
async fn bring<'p, V: Retrievals>(
    request: Request<'p>,
    jobs: &Jobs<'_, V>,
    settings: &Settings,
    lanes: &Lanes,
    spare: &RefCell<Vec<Vec<u8>>>,
) -> Result<Verified<'p>> {
    match request.source.clone() {
        Source::Passed => {
            let hashes = request.hashes.to_vec();
            Ok(Verified { request, bytes: Vec::new(), hashes })
        }
        Source::Kept(held) => read(request, held, spare).await,
        Source::Asked(archive) => fetch(request, archive, jobs, settings, lanes, spare).await,
    }
}

/// An empty buffer of a size: growing would take twice the memory.
fn buffer(spare: &RefCell<Vec<Vec<u8>>>, room: usize, thing: &str) -> Result<Vec<u8>> {
    let mut bytes = spare.borrow_mut().pop().unwrap_or_default();
    bytes.clear();
    bytes.try_reserve_exact(room).map_err(|_| {
        let size = crate::units::bytes(u64::try_from(room).unwrap_or(u64::MAX));
        let thing = format!("{thing}: no memory for a part of {size}");
        Error::io(thing, io::ErrorKind::OutOfMemory)
    })?;
    Ok(bytes)
}

/// Reads a run of parts from a file of `--keep`, and verifies it again.
async fn read<'p>(
    request: Request<'p>,
    held: Held,
    spare: &RefCell<Vec<Vec<u8>>>,
) -> Result<Verified<'p>> {
    let (offset, room) = (request.offset, usize::try_from(request.size).unwrap_or(usize::MAX));
    let name = held.name();
    let mut bytes = buffer(spare, room, &name)?;
    let reading = spawn_blocking(move || {
        bytes.resize(room, 0);
        held.read(&mut bytes, offset).map(|()| bytes)
    });
    let read = reading.await.map_err(|e| Error::Bug(format!("a thread did not end well: {e}")))?;
    match verify(read?, &request).await? {
        Ok((bytes, hashes)) => Ok(Verified { request, bytes, hashes }),
        Err(part) => Err(Error::Data(format!(
            "{name}: part {part} does not equal its hash; remove the file, and it is brought back \
             again"
        ))),
    }
}

/// Downloads a run of parts until it equals its hashes.
async fn fetch<'p, V: Retrievals>(
    request: Request<'p>,
    index: usize,
    jobs: &Jobs<'_, V>,
    settings: &Settings,
    lanes: &Lanes,
    spare: &RefCell<Vec<Vec<u8>>>,
) -> Result<Verified<'p>> {
    let (vault, archive) = jobs.archive(index)?;
    let Request { offset, size, .. } = request;
    let span = Span { offset, size };
    let room = usize::try_from(size).unwrap_or(usize::MAX);
    let mut trouble = Trouble::default();
    loop {
        let job = jobs.ready(index).await;
        let mut bytes = buffer(spare, room, &archive.thing)?;
        let lane = lanes.enter().await;
        let busy = jobs.meter().begin();
        let sink = &mut |piece: &[u8]| take(&mut bytes, piece, room);
        let fetched = vault.read(&job, archive.want(), span, sink).await;
        drop((lane, busy));
        let failure = match fetched {
            Err(failure) if vault.is_gone(&job, &failure).await => {
                jobs.renew(index, &job, &failure.to_string()).await?;
                continue;
            }
            Err(failure) => failure,
            Ok(_) => match verify(bytes, &request).await? {
                Ok((bytes, hashes)) => {
                    lanes.worked();
                    jobs.came(index, size);
                    return Ok(Verified { request, bytes, hashes });
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
async fn verify(bytes: Vec<u8>, request: &Request<'_>) -> Result<Checked> {
    let expected = request.hashes.to_vec();
    let whole = u64::try_from(bytes.len()) == Ok(request.size);
    let part_size = request.volume.line.part_size;
    let first = usize::try_from(request.offset / part_size).unwrap_or(usize::MAX);
    let part_size = usize::try_from(part_size).unwrap_or(usize::MAX);
    let checked = spawn_blocking(move || {
        let found: Vec<Hash> = bytes.chunks(part_size).map(tree).collect();
        let differs = expected.iter().zip(&found).position(|(expected, found)| expected != found);
        match differs {
            None if whole && found.len() == expected.len() => Ok((bytes, found)),
            differs => Err(first.saturating_add(differs.unwrap_or(0))),
        }
    });
    checked.await.map_err(|e| Error::Bug(format!("a thread did not end well: {e}")))
}

/// The tree hash of a part.
pub(super) fn tree(part: &[u8]) -> Hash {
    let mut fold = Fold::default();
    part.chunks(2 * LEAF).for_each(|pair| leaves(pair, &mut fold));
    fold.finish()
}
