//! The reading side: blocks from the input, shown to the hashing threads and to
//! `zfs_stream`, and what is told to the other side.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::hash::pool::{BLOCK, Block, BlockPool, Hashers, Pending};
use crate::line::{Features, Guid, Snapshot, Stream, StreamId};
use crate::process;
use crate::process::peers;
use crate::stream::input::{Input, is_stopped, stopped};
use crate::stream::lineage::{self, Lineage};
use crate::stream::proof::Proofs;
use crate::zfs_stream::{self, Damage, Ending, Head, Recognised, Walk, What, recognise};

/// What the reading side tells the writing side.
pub enum Order {
    /// A (sub)stream begins.
    Snapshot(Snapshot),
    /// The next bytes of the part.
    Block(Arc<Block>),
    /// The part has all of its bytes.
    EndPart(Pending),
    /// The stream is whole.
    End(Whole),
}

/// What is known of a stream once it is whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Whole {
    /// The proofs that it is, joined by commas.
    pub proofs: String,
    /// How many records `zfs receive` takes for something else, with those
    /// that were told of behind a filter.
    pub misplaced: u64,
}

/// Bytes that the proof takes at a time, while they are still in the core's
/// cache: half of what it costs is to fetch them.
const PIECE: usize = 256 << 10;

/// Blocks in memory, at most.
const BLOCKS: usize = 16;

/// How often to look whether the producer has ended, while there is no block.
const LOOK: Duration = Duration::from_millis(500);

/// How often to look for what comes within a moment.
const GLANCE: Duration = Duration::from_millis(20);

/// How long what comes within a moment is looked for.
const GRACE: Duration = Duration::from_secs(10);

/// Blocks that may be read before a ZFS stream has told what it is: the
/// headers of compound streams carry the properties of all datasets.
const HEAD_BLOCKS: usize = 12;

/// What is said of a record that no receiver puts in its place.
const MISPLACED: &str = "zfs receive will lose its long link or its extended attributes, as this zfs send embeds them wrongly; send without -e, and with -w only what is encrypted (raw=auto)";

/// What is wrong with a ZFS stream, told.
#[expect(clippy::needless_pass_by_value, reason = "so that map_err takes it by name")]
pub(crate) fn damaged(damage: Damage) -> Error {
    Error::Data(format!("stream: {damage}"))
}

/// The reading side: blocks that never cross the end of a part.
pub struct Source {
    input: Input,
    pool: BlockPool,
    /// Set when the writing side has ended.
    stop: Arc<AtomicBool>,
    /// The walk over a ZFS stream; none for other input.
    walk: Option<Walk>,
    /// What is known of the stream before a filter.
    lineage: Option<Lineage>,
    position: u64,
    part_size: u64,
    /// That the stream loses something was told.
    is_warned: bool,
}

impl Source {
    /// What will read `input`.
    pub fn new(input: Input, part_size: u64) -> Self {
        Self {
            input,
            pool: BlockPool::new(BLOCKS),
            stop: Arc::new(AtomicBool::new(false)),
            walk: None,
            lineage: None,
            position: 0,
            part_size,
            is_warned: false,
        }
    }

    /// Set when one side has failed, for the other to see.
    pub fn stop(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stop)
    }

    /// Refuses input that could never be proven whole.
    ///
    /// # Errors
    /// When there is no proof to come, with the choices.
    pub fn demand(&self, proofs: &Proofs) -> Result<()> {
        let head = self.head_of_zfs();
        let what = match head {
            Some(head) if head.compound => "a compound stream (zfs send -R, -I or -p)",
            _ => "what is not a ZFS stream",
        };
        proofs.demand(head.is_some_and(|head| !head.compound), what)
    }

    /// The next block; an empty one at the end of the input.
    ///
    /// # Errors
    /// When reading fails, or a ZFS stream is damaged.
    pub fn block(&mut self) -> Result<Arc<Block>> {
        let left = self.part_size - self.position % self.part_size;
        let size = usize::try_from(left).unwrap_or(BLOCK).min(BLOCK);
        let mut block = self.empty()?;
        loop {
            let had = block.len();
            let piece = size.min(had + PIECE);
            self.input.fill(&mut block, piece, &self.stop)?;
            if let Some(walk) = &mut self.walk {
                walk.update(block.get(had..).unwrap_or_default()).map_err(damaged)?;
            }
            self.warn();
            if block.len() < piece || piece == size {
                break;
            }
        }
        self.position += block.len() as u64;
        Ok(Arc::new(block))
    }

    /// Warns of the first record that no receiver puts in its place.
    fn warn(&mut self) {
        let misplaced = self.walk.as_ref().map(Walk::misplaced).unwrap_or_default();
        if let Some(object) = misplaced.first
            && !std::mem::replace(&mut self.is_warned, true)
        {
            process::warn(&format!("stream: object {object}: {MISPLACED}"));
        }
    }

    /// An empty block. While the other side waits for room, all are out; what
    /// a producer that has ended left in its pipe is read all the same, as it
    /// is no more than a pipe holds and may tell that the stream is not whole.
    fn empty(&self) -> Result<Block> {
        loop {
            if let Some(block) = self.pool.take_within(LOOK) {
                return Ok(block);
            }
            if self.stop.load(Ordering::Relaxed) {
                return Err(stopped());
            }
            if self.input.is_abandoned()? {
                return Ok(self.pool.one_more());
            }
        }
    }

    /// Reads until it is known what the input is; gives what was read. Ends
    /// with an empty block if the input did. What ends before that is known
    /// is a ZFS stream that was cut, unless it may be `other` bytes.
    ///
    /// # Errors
    /// When it is empty, or a ZFS stream that is damaged.
    pub fn head(&mut self, other: bool) -> Result<Vec<Arc<Block>>> {
        let first = self.block()?;
        if first.is_empty() {
            self.input.finish(&self.stop)?;
            return Err(Error::Data("stdin: empty stream".to_owned()));
        }
        match recognise(&first) {
            Recognised::Yes | Recognised::Damaged => {}
            Recognised::More if !other => {}
            Recognised::More | Recognised::No => return Ok(vec![first]),
        }
        let mut walk = Walk::new();
        walk.update(&first).map_err(damaged)?;
        self.walk = Some(walk);
        let mut blocks = vec![first];
        while self.head_of_zfs().is_none() {
            if blocks.len() == HEAD_BLOCKS {
                let walk = self.walk.as_ref();
                let long = walk.map(|walk| walk.damage(What::LongHead(self.position)));
                return Err(long.map_or_else(|| Error::Bug("a walk is gone".to_owned()), damaged));
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

    /// Looks for something as long as anybody writes to the input, but not for
    /// long: reads nothing meanwhile, and what writes may wait for that.
    ///
    /// # Errors
    /// Those of `look`; or nobody waits for the lines any more.
    pub fn wait_for<T>(&self, mut look: impl FnMut() -> Result<Option<T>>) -> Result<Option<T>> {
        let begin = Instant::now();
        loop {
            // Asked first: the last look is one behind the producer's end.
            let is_over = self.input.is_over()? || begin.elapsed() > GRACE;
            let found = look()?;
            if found.is_some() || is_over {
                return Ok(found);
            }
            peers::wait(GLANCE)?;
        }
    }

    /// Takes what glacier-proof(1) tells of the stream.
    ///
    /// # Errors
    /// When it is about another one.
    pub fn adopt(&mut self, lineage: Lineage) -> Result<()> {
        let seen = self.head_of_zfs().map(|head| lineage::stream(head).stream);
        if seen.is_some_and(|seen| seen != lineage.stream().stream) {
            return Err(Error::Data(format!(
                "proof {}: of another stream than the input",
                lineage.path().display()
            )));
        }
        self.lineage = Some(lineage);
        Ok(())
    }

    /// What the stream was before a filter; none where that was not told.
    pub fn lineage(&self) -> Option<&Stream> {
        self.lineage.as_ref().map(Lineage::stream)
    }

    /// What a ZFS stream says of itself; none of other input.
    pub fn head_of_zfs(&self) -> Option<&Head> {
        self.walk.as_ref().and_then(Walk::head)
    }

    /// The lines of the snapshots of a ZFS stream that have begun since this
    /// was last asked.
    ///
    /// # Errors
    /// When what tells of them behind a filter is wrong.
    pub fn snapshots(&mut self, stream: StreamId) -> Result<Vec<Snapshot>> {
        let mut told = Vec::new();
        if let Some(lineage) = &mut self.lineage {
            lineage.read(|snapshot| told.push(Snapshot { stream, ..snapshot }))?;
        }
        if self.lineage.is_some() && self.walk.is_none() {
            return Ok(told);
        }
        let begun = self.walk.as_mut().map(Walk::take_snapshots).unwrap_or_default();
        let line = |begun: zfs_stream::Snapshot| Snapshot {
            stream,
            name: begun.name,
            guid: Guid(begun.guid),
            from_guid: begun.from_guid.map(Guid),
            created: lineage::time(begun.created),
            features: Some(Features(begun.features)),
            clone: begun.clone,
            offset: begun.offset,
        };
        Ok(begun.into_iter().map(line).collect())
    }

    /// What proves, at the end of the input, that the stream is whole.
    ///
    /// # Errors
    /// When nothing does.
    pub fn prove(&mut self, proofs: &Proofs) -> Result<Whole> {
        self.input.finish(&self.stop)?;
        let ending = self.ending()?;
        self.demand(proofs)?;
        let told = self.lineage.as_ref().map(Lineage::end).transpose()?;
        let told = told.map_or(0, |end| end.misplaced);
        // It removes the file that has told it.
        let met = proofs.at_end(ending, self.lineage.as_ref())?;
        let misplaced = self.walk.as_ref().map(Walk::misplaced).unwrap_or_default();
        if misplaced.count > 0 {
            let head = self.head_of_zfs().map_or("stream", |head| head.name.as_str());
            process::warn(&format!(
                "{head}: objects that zfs receive will damage: {}; the stream is kept as it is",
                misplaced.count
            ));
        }
        Ok(Whole { proofs: met, misplaced: misplaced.count.saturating_add(told) })
    }

    /// How a ZFS stream ended; an error if it is damaged or cut short.
    fn ending(&self) -> Result<Option<Ending>> {
        self.walk.as_ref().map(|walk| walk.finish().map_err(damaged)).transpose()
    }

    /// Reads the rest, and has `take` do on a thread of its own what follows
    /// from it.
    ///
    /// # Errors
    /// What kept either side from the proven end.
    pub fn run(
        &mut self,
        id: StreamId,
        head: Vec<Arc<Block>>,
        proofs: &Proofs,
        linear: bool,
        take: impl FnMut(Order) -> Result<()> + Send,
    ) -> Result<()> {
        let stop = self.stop();
        thread::scope(|scope| {
            // The blocks bound it.
            let (orders, inbox) = channel();
            let writing = scope.spawn(|| {
                let result = obey(inbox, take);
                stop.store(true, Ordering::Relaxed);
                result
            });
            let read = self.read(id, head, &orders, proofs, linear);
            if read.is_err() {
                stop.store(true, Ordering::Relaxed);
            }
            drop(orders);
            match writing.join() {
                // Of the two sides one has a reason; the other was stopped by
                // it.
                Ok(Err(e)) if is_stopped(&e) => read,
                Ok(written) => written.and(read),
                Err(_) => Err(Error::Bug("the writing thread failed".to_owned())),
            }
        })
    }

    /// Reads the rest, and tells the writing side.
    fn read(
        &mut self,
        id: StreamId,
        head: Vec<Arc<Block>>,
        orders: &Sender<Order>,
        proofs: &Proofs,
        linear: bool,
    ) -> Result<()> {
        let hashers = Hashers::on_all_cores()?;
        let send = |order| {
            // It ended with an error of its own, which is told instead.
            orders.send(order).map_err(|_| stopped())
        };
        let mut head = head.into_iter();
        let mut run = hashers.run(linear);
        let mut in_part = 0;
        loop {
            let block = match head.next() {
                Some(block) => block,
                None => self.block()?,
            };
            for snapshot in self.snapshots(id)? {
                send(Order::Snapshot(snapshot))?;
            }
            if block.is_empty() {
                break;
            }
            in_part += block.len() as u64;
            run.block(Arc::clone(&block));
            send(Order::Block(block))?;
            if in_part == self.part_size {
                let whole = std::mem::replace(&mut run, hashers.run(linear));
                send(Order::EndPart(whole.finish()))?;
                in_part = 0;
            }
        }
        // I1: neither a short last part nor the end is announced before the
        // stream is proven whole.
        let whole = self.prove(proofs)?;
        if in_part > 0 {
            send(Order::EndPart(run.finish()))?;
        }
        send(Order::End(whole))
    }
}

/// Takes the receiver: when this ends, what is still sent to it fails.
#[expect(clippy::needless_pass_by_value, reason = "it is dropped here")]
fn obey(orders: Receiver<Order>, take: impl FnMut(Order) -> Result<()>) -> Result<()> {
    orders.iter().try_for_each(take)
}
