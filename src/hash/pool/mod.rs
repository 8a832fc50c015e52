//! Tree hashes and linear hashes on all cores.
//!
//! A few threads hash the blocks of any number of runs (parts, files) at
//! once. Memory is bounded by the pool that lends the blocks: who reads faster
//! than the threads can hash waits in [`BlockPool::take`].

mod blocks;
mod work;

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

pub use self::blocks::{BLOCK, Block, BlockPool};
use self::work::{Found, Queue, Work};
use crate::error::{Error, Result};
use crate::hash::sha256x2::Midstate;
use crate::hash::tree::{Hash, LEAF};

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
        let found = Arc::new(Found::new(linear));
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

/// A panic in a thread does not make what it had locked unusable: it is told
/// as a failure of the run.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::tree::TreeHash;
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
