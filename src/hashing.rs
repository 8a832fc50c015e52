//! Tree hashes and linear hashes on all cores.
//!
//! A few threads hash the blocks of any number of runs (parts, files) at
//! once. The leaves of a tree can be hashed in any order; a linear hash goes
//! from front to back. So a thread takes the linear hash of the next bytes, if
//! no other is at it, and with it the leaf of the same bytes, if that is still
//! to be done: two hashes in one pass cost little more than one (see
//! `sha256x2`). The other threads take leaves from the far end, two at a time.
//!
//! Memory is bounded by the pool: who reads faster than the threads can hash
//! waits in [`BlockPool::take`].

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read};
use std::ops::{Deref, Range};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use crate::error::{Error, Result};
use crate::sha256x2::Midstate;
use crate::treehash::{Fold, Hash, LEAF};

/// Bytes that a block can hold: two leaves, as two are hashed at a time.
pub const BLOCK: usize = 2 * LEAF;

/// Lends blocks, at most `limit` at a time, and takes their memory back.
#[derive(Clone)]
pub struct BlockPool(Arc<Pool>);

struct Pool {
    buffers: Mutex<Buffers>,
    returned: Condvar,
}

struct Buffers {
    free: Vec<Box<[u8]>>,
    unmade: usize,
}

impl BlockPool {
    /// A pool that lends up to `limit` blocks. Memory is taken when first
    /// needed.
    pub fn new(limit: usize) -> Self {
        let buffers = Mutex::new(Buffers { free: Vec::new(), unmade: limit });
        Self(Arc::new(Pool { buffers, returned: Condvar::new() }))
    }

    /// An empty block; waits while all are out.
    pub fn take(&self) -> Block {
        let mut buffers = lock(&self.0.buffers);
        loop {
            if let Some(buffer) = buffers.free.pop() {
                return Block { buffer, size: 0, pool: Arc::clone(&self.0) };
            }
            if let Some(unmade) = buffers.unmade.checked_sub(1) {
                buffers.unmade = unmade;
                let buffer = vec![0; BLOCK].into_boxed_slice();
                return Block { buffer, size: 0, pool: Arc::clone(&self.0) };
            }
            buffers = self.0.returned.wait(buffers).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Up to [`BLOCK`] bytes. The memory goes back to its pool when the block (or
/// the last `Arc` of it) is dropped.
pub struct Block {
    buffer: Box<[u8]>,
    size: usize,
    pool: Arc<Pool>,
}

impl Block {
    /// Reads once, at most up to `size` bytes in the block altogether, and
    /// says how many bytes came: 0 at the end of the input, or when the block
    /// is full.
    ///
    /// # Errors
    /// As the reader has them; what came before stays.
    pub fn read_from(&mut self, input: &mut impl Read, size: usize) -> io::Result<usize> {
        let end = size.min(BLOCK);
        loop {
            let room = self.buffer.get_mut(self.size..end).unwrap_or_default();
            match input.read(room) {
                Ok(came) => {
                    self.size = (self.size + came).min(BLOCK);
                    return Ok(came);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Reads until the block holds `size` bytes or the input ends.
    ///
    /// # Errors
    /// As the reader has them; what came before stays.
    pub fn fill_from(&mut self, input: &mut impl Read, size: usize) -> io::Result<()> {
        while self.size < size.min(BLOCK) && self.read_from(input, size)? > 0 {}
        Ok(())
    }
}

impl Deref for Block {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.buffer.get(..self.size).unwrap_or_default()
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        lock(&self.pool.buffers).free.push(buffer);
        self.pool.returned.notify_one();
    }
}

/// What a run was found to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hashes {
    /// The SHA-256 tree hash.
    pub treehash: Hash,
    /// The linear SHA-256, if it was asked for.
    pub sha256: Option<Hash>,
    /// Bytes in the run.
    pub size: u64,
}

/// Threads that hash.
pub struct Hashers(Arc<Threads>);

struct Threads {
    queue: Arc<Queue>,
    threads: Vec<JoinHandle<()>>,
}

impl Drop for Threads {
    fn drop(&mut self) {
        lock(&self.queue.work).closing = true;
        self.queue.more.notify_all();
        for thread in self.threads.drain(..) {
            // A panic was caught, and its run told, within the thread.
            let _ = thread.join();
        }
    }
}

impl Hashers {
    /// Starts `threads` threads, at least one. They end when this and all runs
    /// are dropped.
    ///
    /// # Errors
    /// When the system gives not even one thread.
    pub fn new(threads: usize) -> Result<Self> {
        let queue = Arc::new(Queue::default());
        let mut started = Vec::new();
        for _ in 0..threads.max(1) {
            let work = Arc::clone(&queue);
            match thread::Builder::new().name("hash".to_owned()).spawn(move || work.serve()) {
                Ok(thread) => started.push(thread),
                Err(e) if started.is_empty() => return Err(Error::io("cannot start a thread", e)),
                Err(_) => break,
            }
        }
        Ok(Self(Arc::new(Threads { queue, threads: started })))
    }

    /// As many threads as there are cores to run them.
    ///
    /// # Errors
    /// As [`Hashers::new`].
    pub fn on_all_cores() -> Result<Self> {
        Self::new(thread::available_parallelism().map_or(1, usize::from))
    }

    /// Begins a run: one tree hash and, if `linear`, one linear hash.
    pub fn run(&self, linear: bool) -> Run {
        let so_far = SoFar { linear: linear.then(Midstate::default), left: 1, ..SoFar::default() };
        let found = Arc::new(Found { so_far: Mutex::new(so_far), done: Condvar::new() });
        Run {
            hashers: Arc::clone(&self.0),
            found,
            linear,
            size: 0,
            leaves: 0,
            leaf: Midstate::default(),
            tail: None,
        }
    }
}

/// A run of bytes on its way to its hashes. One that is dropped is forgotten.
pub struct Run {
    hashers: Arc<Threads>,
    found: Arc<Found>,
    linear: bool,
    size: u64,
    leaves: u64,
    /// A leaf that came in pieces is hashed here, by the caller's thread.
    leaf: Midstate,
    /// Bytes behind the last whole leaf: a leaf, if nothing follows.
    tail: Option<(Arc<Block>, usize)>,
}

impl Run {
    /// Takes the next bytes. Blocks of whole leaves, all but the last, go to
    /// the threads without delay; others are correct, but slower. A run keeps
    /// up to one block until the next or the end comes.
    pub fn block(&mut self, block: Arc<Block>) {
        let mut pieces = Vec::new();
        if let Some((tail, start)) = self.tail.take() {
            self.piece(&tail, start..tail.len(), &mut pieces);
        }
        self.size += block.len() as u64;
        let mut start = 0;
        if self.leaf.size() > 0 {
            let missing = LEAF - usize::try_from(self.leaf.size()).unwrap_or(LEAF);
            start = missing.min(block.len());
            self.piece(&block, 0..start, &mut pieces);
        }
        while start + LEAF <= block.len() {
            let leaf = Some(self.leaves);
            self.leaves += 1;
            pieces.push(self.work(&block, start..start + LEAF, leaf));
            start += LEAF;
        }
        if start < block.len() {
            self.tail = Some((block, start));
        }
        self.send(pieces);
    }

    /// Ends the run; its hashes can be waited for.
    pub fn finish(mut self) -> Pending {
        if let Some((tail, start)) = self.tail.take() {
            // There is a tail only behind a whole leaf.
            self.send(vec![self.work(&tail, start..tail.len(), Some(self.leaves))]);
        } else if self.leaf.size() > 0 {
            self.end_leaf();
        }
        self.found.update(1, |_| ());
        Pending { found: self.found, size: self.size }
    }

    /// Takes a piece of a leaf.
    fn piece(&mut self, block: &Arc<Block>, range: Range<usize>, pieces: &mut Vec<Work>) {
        self.leaf.update(block.get(range.clone()).unwrap_or_default());
        if self.linear {
            pieces.push(self.work(block, range, None));
        }
        if self.leaf.size() == LEAF as u64 {
            self.end_leaf();
        }
    }

    fn end_leaf(&mut self) {
        let leaf = std::mem::take(&mut self.leaf).finish();
        let number = self.leaves;
        self.leaves += 1;
        self.found.update(0, |so_far| so_far.leaf(number, Hash(leaf)));
    }

    fn work(&self, block: &Arc<Block>, range: Range<usize>, leaf: Option<u64>) -> Work {
        let (found, block) = (Arc::clone(&self.found), Arc::clone(block));
        Work {
            found,
            block,
            range,
            leaf,
            linear: self.linear,
            #[cfg(test)]
            panics: false,
        }
    }

    fn send(&self, pieces: Vec<Work>) {
        if pieces.is_empty() {
            return;
        }
        let mut waiting = lock(&self.hashers.queue.work);
        let mut so_far = lock(&self.found.so_far);
        // What failed is not worked on: see `Waiting::forget`.
        if !so_far.failed {
            so_far.left += pieces
                .iter()
                .map(|work| usize::from(work.linear) + usize::from(work.leaf.is_some()))
                .sum::<usize>();
            waiting.pieces.extend(pieces);
            self.hashers.queue.more.notify_all();
        }
    }
}

/// The hashes of a finished run, when the threads are through with it.
pub struct Pending {
    found: Arc<Found>,
    size: u64,
}

impl Pending {
    /// Waits for the hashes.
    ///
    /// # Errors
    /// Only if a hashing thread failed: a bug.
    pub fn wait(self) -> Result<Hashes> {
        let mut so_far = lock(&self.found.so_far);
        while so_far.left > 0 && !so_far.failed {
            so_far = self.found.done.wait(so_far).unwrap_or_else(PoisonError::into_inner);
        }
        if so_far.failed {
            return Err(Error::Bug("a hashing thread failed".to_owned()));
        }
        let treehash = std::mem::take(&mut so_far.fold).finish();
        let sha256 = so_far.linear.take().map(|linear| Hash(linear.finish()));
        Ok(Hashes { treehash, sha256, size: self.size })
    }
}

/// What the threads have found of one run.
struct Found {
    so_far: Mutex<SoFar>,
    done: Condvar,
}

#[derive(Default)]
struct SoFar {
    fold: Fold,
    /// Leaves in `fold`.
    folded: u64,
    /// Hashes of leaves that came before their turn.
    early: BTreeMap<u64, Hash>,
    /// Absent while a thread is at it.
    linear: Option<Midstate>,
    /// Leaves and linear pieces to be hashed, and one for the end of the run.
    left: usize,
    failed: bool,
}

impl SoFar {
    fn leaf(&mut self, number: u64, hash: Hash) {
        self.early.insert(number, hash);
        while let Some(hash) = self.early.remove(&self.folded) {
            self.fold.push(hash);
            self.folded += 1;
        }
    }
}

impl Found {
    /// Records that `tasks` are done.
    fn update(&self, tasks: usize, change: impl FnOnce(&mut SoFar)) {
        let mut so_far = lock(&self.so_far);
        change(&mut so_far);
        so_far.left = so_far.left.saturating_sub(tasks);
        if so_far.left == 0 || so_far.failed {
            self.done.notify_all();
        }
    }
}

/// Up to a leaf of bytes, and what is still to be done with them.
struct Work {
    found: Arc<Found>,
    block: Arc<Block>,
    range: Range<usize>,
    /// The number of the leaf, unless another thread has taken it.
    leaf: Option<u64>,
    linear: bool,
    #[cfg(test)]
    panics: bool,
}

impl Work {
    fn bytes(&self) -> &[u8] {
        #[cfg(test)]
        assert!(!self.panics, "as the test wants it");
        self.block.get(self.range.clone()).unwrap_or_default()
    }

    /// Whether the leaf can be had without the linear hash. The first of a run
    /// with a linear hash cannot: there, both are one.
    fn has_leaf_alone(&self) -> bool {
        self.leaf.is_some_and(|number| number > 0 || !self.linear)
    }
}

/// What a thread does next.
enum Task {
    Linear(Work, Midstate),
    Leaf(Work),
    Leaves(Work, Work),
}

#[derive(Default)]
struct Queue {
    work: Mutex<Waiting>,
    more: Condvar,
}

#[derive(Default)]
struct Waiting {
    pieces: VecDeque<Work>,
    closing: bool,
}

impl Waiting {
    fn next(&mut self) -> Option<Task> {
        self.linear().or_else(|| self.leaves())
    }

    /// The first piece whose linear hash no thread is at.
    fn linear(&mut self) -> Option<Task> {
        let free = |work: &Work| {
            if work.linear { lock(&work.found.so_far).linear.take() } else { None }
        };
        let (i, state) =
            self.pieces.iter().enumerate().find_map(|(i, work)| Some((i, free(work)?)))?;
        self.pieces.remove(i).map(|work| Task::Linear(work, state))
    }

    /// The last two leaves.
    fn leaves(&mut self) -> Option<Task> {
        let mut last = (0..self.pieces.len())
            .rev()
            .filter(|i| self.pieces.get(*i).is_some_and(Work::has_leaf_alone));
        let (one, two) = (last.next(), last.next());
        drop(last);
        match (one, two) {
            (Some(one), Some(two)) => {
                let one = self.take_leaf(one)?;
                self.take_leaf(two).map(|two| Task::Leaves(two, one))
            }
            // One that has a linear hash to come is cheaper with that.
            (Some(one), None) if !self.pieces.get(one)?.linear => {
                self.take_leaf(one).map(Task::Leaf)
            }
            _ => None,
        }
    }

    /// Gives back the blocks of runs that failed: with its linear hash lost, no
    /// thread would come for them.
    fn forget(&mut self) {
        self.pieces.retain(|work| !lock(&work.found.so_far).failed);
    }

    /// Takes the leaf of a piece, and the piece if nothing else is to be done.
    fn take_leaf(&mut self, i: usize) -> Option<Work> {
        let work = self.pieces.get_mut(i)?;
        if !work.linear {
            return self.pieces.remove(i);
        }
        let (found, block) = (Arc::clone(&work.found), Arc::clone(&work.block));
        let (range, leaf) = (work.range.clone(), work.leaf.take());
        Some(Work {
            found,
            block,
            range,
            leaf,
            linear: false,
            #[cfg(test)]
            panics: work.panics,
        })
    }
}

impl Queue {
    /// A thread's life.
    fn serve(&self) {
        let mut waiting = lock(&self.work);
        loop {
            if let Some(task) = waiting.next() {
                drop(waiting);
                let whole = task.run();
                waiting = lock(&self.work);
                if !whole {
                    waiting.forget();
                }
            } else if waiting.closing {
                return;
            } else {
                waiting = self.more.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}

impl Task {
    /// Does the task, and says whether it could. If not, its runs are told:
    /// who waits for them must not wait for ever.
    fn run(self) -> bool {
        let runs: Vec<Arc<Found>> = match &self {
            Self::Linear(work, _) | Self::Leaf(work) => vec![Arc::clone(&work.found)],
            Self::Leaves(one, two) => vec![Arc::clone(&one.found), Arc::clone(&two.found)],
        };
        let whole = catch_unwind(AssertUnwindSafe(|| self.hash())).is_ok();
        if !whole {
            for found in runs {
                found.update(0, |so_far| so_far.failed = true);
            }
        }
        whole
    }

    fn hash(self) {
        match self {
            Self::Linear(work, mut linear) => {
                let mut leaf = None;
                match work.leaf {
                    Some(0) => {
                        linear.update(work.bytes());
                        leaf = Some((0, linear.clone()));
                    }
                    Some(number) => {
                        let mut hash = Midstate::default();
                        let bytes = work.bytes();
                        Midstate::update_two((&mut linear, bytes), (&mut hash, bytes));
                        leaf = Some((number, hash));
                    }
                    None => linear.update(work.bytes()),
                }
                let tasks = 1 + usize::from(leaf.is_some());
                work.found.update(tasks, |so_far| {
                    so_far.linear = Some(linear);
                    if let Some((number, hash)) = leaf {
                        so_far.leaf(number, Hash(hash.finish()));
                    }
                });
            }
            Self::Leaf(work) => {
                let mut hash = Midstate::default();
                hash.update(work.bytes());
                work.leaf_is(hash);
            }
            Self::Leaves(one, two) => {
                let mut hashes = (Midstate::default(), Midstate::default());
                Midstate::update_two((&mut hashes.0, one.bytes()), (&mut hashes.1, two.bytes()));
                one.leaf_is(hashes.0);
                two.leaf_is(hashes.1);
            }
        }
    }
}

impl Work {
    fn leaf_is(&self, hash: Midstate) {
        if let Some(number) = self.leaf {
            self.found.update(1, |so_far| so_far.leaf(number, Hash(hash.finish())));
        }
    }
}

/// A panic in a thread does not make what it had locked unusable: it is told
/// as a failure of the run.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::treehash::TreeHash;
    use proptest::prelude::*;

    fn bytes(size: usize) -> Vec<u8> {
        // A period prime to all sizes, so that no two leaves are the same.
        (0..=250).cycle().take(size).collect()
    }

    fn plain(data: &[u8], linear: bool) -> Hashes {
        let sha256 = linear.then(|| Hash::of(data));
        Hashes { treehash: TreeHash::of(data), sha256, size: data.len() as u64 }
    }

    /// Begins a run over `data` in blocks that end at the cuts and, in any
    /// case, when a block is full.
    fn begin(
        hashers: &Hashers,
        pool: &BlockPool,
        data: &[u8],
        cuts: &[usize],
        linear: bool,
    ) -> Pending {
        let mut run = hashers.run(linear);
        let mut cuts: Vec<usize> = cuts.iter().copied().filter(|cut| *cut < data.len()).collect();
        cuts.extend([0, data.len()]);
        cuts.sort_unstable();
        for pair in cuts.windows(2) {
            let mut rest = &data[pair[0]..pair[1]];
            while !rest.is_empty() {
                let mut block = pool.take();
                block.fill_from(&mut rest, BLOCK).unwrap();
                run.block(Arc::new(block));
            }
        }
        run.finish()
    }

    #[test]
    fn gives_the_hashes_of_the_definition_around_every_leaf_edge() {
        let data = bytes(5 * LEAF + 1);
        let hashers = Hashers::new(3).unwrap();
        let pool = BlockPool::new(4);
        for leaves in 0..=5 {
            for size in (leaves * LEAF).saturating_sub(1)..=leaves * LEAF + 1 {
                for linear in [false, true] {
                    let data = &data[..size];
                    let pending = begin(&hashers, &pool, data, &[], linear);
                    assert_eq!(pending.wait().unwrap(), plain(data, linear), "{size}");
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn any_split_gives_the_same_hashes(
            size in 0..4 * LEAF,
            cuts in prop::collection::vec(0..4 * LEAF, 0..12),
            threads in 1..4usize,
            limit in 2..6usize,
            linear: bool,
        ) {
            let data = bytes(size);
            let hashers = Hashers::new(threads).unwrap();
            let pending = begin(&hashers, &BlockPool::new(limit), &data, &cuts, linear);
            drop(hashers);
            prop_assert_eq!(pending.wait().unwrap(), plain(&data, linear));
        }
    }

    #[test]
    fn keeps_many_runs_apart() {
        let hashers = Hashers::new(4).unwrap();
        let pool = BlockPool::new(6);
        let sizes: Vec<usize> = (0..40).map(|i| i * 150_001 % (3 * LEAF)).collect();
        thread::scope(|scope| {
            for linear in [false, true] {
                let (hashers, pool, sizes) = (&hashers, &pool, &sizes);
                scope.spawn(move || {
                    let runs: Vec<(Vec<u8>, Pending)> = sizes
                        .iter()
                        .map(|size| bytes(*size))
                        .map(|data| {
                            let pending = begin(hashers, pool, &data, &[], linear);
                            (data, pending)
                        })
                        .collect();
                    for (data, pending) in runs {
                        assert_eq!(pending.wait().unwrap(), plain(&data, linear));
                    }
                });
            }
        });
    }

    #[test]
    fn lends_no_more_blocks_than_the_limit() {
        let pool = BlockPool::new(2);
        let (one, _two) = (pool.take(), pool.take());
        let third = thread::spawn({
            let pool = pool.clone();
            move || pool.take().len()
        });
        while Arc::strong_count(&pool.0) < 4 {
            thread::yield_now();
        }
        assert!(!third.is_finished());
        drop(one);
        assert_eq!(third.join().unwrap(), 0);
        assert_eq!(lock(&pool.0.buffers).unmade, 0);
        assert_eq!(lock(&pool.0.buffers).free.len(), 1);
    }

    #[test]
    fn a_dropped_run_gives_its_blocks_back() {
        let hashers = Hashers::new(2).unwrap();
        let pool = BlockPool::new(3);
        for size in [10, LEAF, LEAF + 10, BLOCK] {
            let mut run = hashers.run(true);
            let mut block = pool.take();
            block.fill_from(&mut bytes(size).as_slice(), BLOCK).unwrap();
            run.block(Arc::new(block));
            drop(run);
        }
        let all: Vec<Block> = (0..3).map(|_| pool.take()).collect();
        assert!(all.iter().all(|block| block.is_empty()));
    }

    #[test]
    fn a_run_whose_thread_panics_fails_and_gives_its_blocks_back() {
        let hashers = Hashers::new(2).unwrap();
        let pool = BlockPool::new(3);
        let mut run = hashers.run(true);
        let mut lost = run.work(&Arc::new(pool.take()), 0..0, Some(u64::MAX));
        lost.panics = true;
        run.send(vec![lost]);
        for _ in 0..5 {
            let mut block = pool.take();
            block.fill_from(&mut bytes(BLOCK).as_slice(), BLOCK).unwrap();
            run.block(Arc::new(block));
        }
        assert_eq!(run.finish().wait().unwrap_err().code(), 70);
        let all: Vec<Block> = (0..3).map(|_| pool.take()).collect();
        assert_eq!(all.len(), 3);
        let data = bytes(3 * LEAF);
        drop(all);
        let pending = begin(&hashers, &pool, &data, &[], true);
        assert_eq!(pending.wait().unwrap(), plain(&data, true), "the threads live on");
    }
}
