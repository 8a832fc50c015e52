//! glacier-chunk(1): cut a byte stream into parts in a spool, with their
//! hashes.
//!
//! Bytes flow one way: `input` reads them into blocks, this module cuts them
//! at part and volume edges and shows them to the hashing threads and to
//! `zfs_stream`, `writer` puts them into the spool and prints their lines.
//! Memory is that of the blocks, whatever the sizes.

pub mod input;
mod known;
mod proof;
mod room;
mod writer;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

use crate::cli;
use crate::description;
use crate::error::{Error, Result};
use crate::hashing::{BLOCK, Block, BlockPool, Hashers};
use crate::line::{Failed, Format, Guid, Line, Snapshot, Stream, StreamId, VERSION};
use crate::planted::Fault;
use crate::spool::{Holder, Spool};
use crate::units::Limit;
use crate::zfs_stream::{Ending, Head, Recognised, Walk, recognise};
use input::{Input, is_stopped, stopped};
use known::Known;
use proof::Proofs;
use room::Room;
use writer::{Order, Writer};

/// Blocks in memory, at most.
const BLOCKS: usize = 16;

/// Blocks that may be read before a ZFS stream has told what it is: the
/// headers of compound streams carry the properties of all datasets.
const HEAD_BLOCKS: usize = 12;

/// What the command line says.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The spool directory.
    pub spool: PathBuf,
    /// Bytes in a part.
    pub part_size: u64,
    /// Bytes in a volume.
    pub volume_size: u64,
    /// The stream's name, where it has none of its own.
    pub name: Option<String>,
    /// This machine's name.
    pub host: String,
    /// Bytes of this stream in the spool, at most.
    pub limit: Limit,
    /// Bytes that stay free.
    pub reserve: u64,
    /// How long to wait for room while no put works.
    pub patience: Duration,
    /// Files that prove the end.
    pub markers: Vec<PathBuf>,
    /// Whether the end of the input is the end of the stream.
    pub trust_eof: bool,
    /// The command to run, instead of reading standard input.
    pub command: Vec<OsString>,
}

/// Cuts the input. Every failure also prints a `failed` line, so that the
/// last tool of a pipe knows.
///
/// # Errors
/// Whatever kept the stream from its proven end.
pub fn run(settings: &Settings) -> Result<()> {
    let mut stream = None;
    let result = cut(settings, &mut stream);
    if let Err(error) = &result {
        // Standard output may be what failed.
        let _ = Line::Failed(Failed::new(stream, error))
            .text()
            .and_then(|line| cli::put_out(line.as_bytes()));
    }
    result
}

fn cut(settings: &Settings, id: &mut Option<StreamId>) -> Result<()> {
    let proofs = Proofs {
        markers: settings.markers.clone(),
        trust_eof: settings.trust_eof,
        command: !settings.command.is_empty(),
        started: SystemTime::now(),
    };
    // What is wrong here is told before the first byte, however long that
    // takes to come.
    let spool = Spool::open(&settings.spool)?;
    let mut source = Source {
        input: Input::open(&settings.command)?,
        pool: BlockPool::new(BLOCKS),
        stop: Arc::new(AtomicBool::new(false)),
        walk: None,
        position: 0,
        part_size: settings.part_size,
    };
    let head = source.head()?;
    let what = match source.head_of_zfs() {
        Some(head) if head.compound => "a compound stream (zfs send -R, -I or -p)",
        _ => "what is not a ZFS stream",
    };
    proofs.demand(source.head_of_zfs().is_some_and(|head| !head.compound), what)?;
    let stream = describe(source.head_of_zfs(), settings)?;
    *id = Some(stream.stream);

    let directory = spool.stream(stream.stream)?;
    let _lock = directory.lock(Holder::Chunk)?;
    let known = Known::of(&spool, &directory)?;
    let room = Room {
        limit: settings.limit,
        reserve: settings.reserve,
        part_size: settings.part_size,
        patience: settings.patience,
    };
    let stop = Arc::clone(&source.stop);
    let mut writer = Writer::start(&spool, &directory, &stream, &known, room, &stop)?;
    std::thread::scope(|scope| {
        let (orders, inbox) = sync_channel(BLOCKS);
        let writing = scope.spawn(|| {
            let result = obey(&mut writer, inbox);
            stop.store(true, Ordering::Relaxed);
            result
        });
        let read = source.read(stream.stream, head, &orders, &proofs);
        if read.is_err() {
            stop.store(true, Ordering::Relaxed);
        }
        drop(orders);
        match writing.join() {
            // Of the two sides one has a reason; the other was stopped by it.
            Ok(Err(e)) if is_stopped(&e) => read,
            Ok(written) => written.and(read),
            Err(_) => Err(Error::Bug("the writing thread failed".to_owned())),
        }
    })
}

/// Takes the receiver: when this ends, what is still sent to it fails.
#[expect(clippy::needless_pass_by_value, reason = "it is dropped here")]
fn obey(writer: &mut Writer, orders: Receiver<Order>) -> Result<()> {
    orders.iter().try_for_each(|order| writer.take(order))
}

/// The `stream` line, with the id that is computed from what makes the stream
/// this one.
fn describe(head: Option<&Head>, settings: &Settings) -> Result<Stream> {
    let (part_size, volume_size) = (settings.part_size, settings.volume_size);
    let (identity, name) = match (head, &settings.name) {
        (Some(head), name) => {
            (head.identity.clone(), name.clone().unwrap_or_else(|| head.name.clone()))
        }
        (None, Some(name)) => {
            (Sha256::new().chain_update(b"name\0").chain_update(name), name.clone())
        }
        (None, None) => {
            return Err(Error::Usage(
                "stdin: not a ZFS stream, so it has no name; use --name".to_owned(),
            ));
        }
    };
    let stream = Stream {
        v: VERSION,
        stream: StreamId::new(identity, part_size, volume_size),
        host: settings.host.clone(),
        name,
        format: if head.is_some() { Format::Zfs } else { Format::Bytes },
        guid: head.and_then(|head| head.guid).map(Guid),
        from_guid: head.and_then(|head| head.from_guid).map(Guid),
        compound: head.is_some_and(|head| head.compound),
        resumed: head.is_some_and(|head| head.resumed),
        part_size,
        volume_size,
    };
    description::fits(&stream).map_err(Error::Usage)?;
    Ok(stream)
}

/// The reading side: blocks that never cross the end of a part.
struct Source {
    input: Input,
    pool: BlockPool,
    /// Set when the writing side has ended.
    stop: Arc<AtomicBool>,
    /// The walk over a ZFS stream; none for other input.
    walk: Option<Walk>,
    position: u64,
    part_size: u64,
}

impl Source {
    /// The next block; an empty one at the end of the input.
    fn block(&mut self) -> Result<Arc<Block>> {
        let left = self.part_size - self.position % self.part_size;
        let size = usize::try_from(left).unwrap_or(BLOCK).min(BLOCK);
        let mut block = self.pool.take();
        self.input.fill(&mut block, size, &self.stop)?;
        self.position += block.len() as u64;
        if let Some(walk) = &mut self.walk {
            walk.update(&block).map_err(|damage| Error::Data(format!("stream: {damage}")))?;
        }
        Ok(Arc::new(block))
    }

    /// Reads until it is known what the input is; gives what was read. Ends
    /// with an empty block if the input did.
    fn head(&mut self) -> Result<Vec<Arc<Block>>> {
        let first = self.block()?;
        if first.is_empty() {
            self.input.finish(&self.stop)?;
            return Err(Error::Data("stdin: empty stream".to_owned()));
        }
        if recognise(&first) != Recognised::Yes {
            return Ok(vec![first]);
        }
        let mut walk = Walk::new();
        walk.update(&first).map_err(|damage| Error::Data(format!("stream: {damage}")))?;
        self.walk = Some(walk);
        let mut blocks = vec![first];
        while self.head_of_zfs().is_none() {
            if blocks.len() == HEAD_BLOCKS {
                return Err(Error::Data(format!(
                    "stream: its header has over {}",
                    crate::units::bytes(self.position)
                )));
            }
            let block = self.block()?;
            if block.is_empty() {
                // Why it ends here is the command's to tell.
                self.input.finish(&self.stop)?;
                self.ending()?;
            }
            blocks.push(block);
        }
        Ok(blocks)
    }

    fn head_of_zfs(&self) -> Option<&Head> {
        self.walk.as_ref().and_then(Walk::head)
    }

    /// How a ZFS stream ended; an error if it is damaged or cut short.
    fn ending(&self) -> Result<Option<Ending>> {
        self.walk
            .as_ref()
            .map(|walk| walk.finish().map_err(|damage| Error::Data(format!("stream: {damage}"))))
            .transpose()
    }

    /// Reads the rest, and tells the writing side.
    fn read(
        &mut self,
        id: StreamId,
        head: Vec<Arc<Block>>,
        orders: &SyncSender<Order>,
        proofs: &Proofs,
    ) -> Result<()> {
        let hashers = Hashers::on_all_cores()?;
        let send = |order| {
            // It ended with an error of its own, which is told instead.
            orders.send(order).map_err(|_| stopped())
        };
        let mut head = head.into_iter();
        let mut run = hashers.run(true);
        let mut in_part = 0;
        loop {
            let block = match head.next() {
                Some(block) => block,
                None => self.block()?,
            };
            for snapshot in self.walk.as_mut().map(Walk::take_snapshots).unwrap_or_default() {
                send(Order::Snapshot(Snapshot {
                    stream: id,
                    name: snapshot.name,
                    guid: Guid(snapshot.guid),
                    from_guid: snapshot.from_guid.map(Guid),
                    offset: snapshot.offset,
                }))?;
            }
            if block.is_empty() {
                break;
            }
            in_part += block.len() as u64;
            run.block(Arc::clone(&block));
            send(Order::Block(block))?;
            if in_part == self.part_size {
                let whole = std::mem::replace(&mut run, hashers.run(true));
                send(Order::EndPart(whole.finish()))?;
                in_part = 0;
            }
        }
        // I1: neither a short last part nor the end is announced before the
        // stream is proven whole.
        self.input.finish(&self.stop)?;
        let ending = match self.ending() {
            Err(_) if Fault::EndOfInput.is_planted() => Some(Ending::Plain),
            ending => ending?,
        };
        let whole = proofs.at_end(ending)?;
        if in_part > 0 {
            send(Order::EndPart(run.finish()))?;
        }
        send(Order::End(whole))
    }
}
