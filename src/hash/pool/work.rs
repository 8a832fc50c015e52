//! What the hashing threads do, and in which order.
//!
//! The leaves of a tree can be hashed in any order; a linear hash goes from
//! front to back. So a thread takes the linear hash of the next bytes, if no
//! other is at it, and with it the leaf of the same bytes, if that is still to
//! be done: two hashes in one pass cost less than two (see `sha256x2`). The
//! other threads take leaves from the far end, two at a time.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::blocks::Block;
use super::lock;
use crate::hash::sha256x2::Midstate;
use crate::hash::tree::{Fold, Hash};

/// Leaves that are left to the linear hash that will come to them. To take them
/// apart costs a third more, but keeps all cores busy when there are many.
const BACKLOG: usize = 8;

/// What the threads have found of one run.
pub struct Found {
    pub so_far: Mutex<SoFar>,
    pub done: Condvar,
}

#[derive(Default)]
pub struct SoFar {
    pub fold: Fold,
    /// Leaves in `fold`.
    folded: u64,
    /// Hashes of leaves that came before their turn.
    early: BTreeMap<u64, Hash>,
    /// Absent while a thread is at it.
    pub linear: Option<Midstate>,
    /// Leaves and linear pieces to be hashed, and one for the end of the run.
    pub left: usize,
    pub failed: bool,
}

impl SoFar {
    pub fn leaf(&mut self, number: u64, hash: Hash) {
        self.early.insert(number, hash);
        while let Some(hash) = self.early.remove(&self.folded) {
            self.fold.push(hash);
            self.folded += 1;
        }
    }
}

impl Found {
    /// Nothing yet; the end of the run is still to come.
    pub fn new(linear: bool) -> Self {
        let linear = linear.then(Midstate::default);
        let so_far = SoFar { linear, left: 1, ..SoFar::default() };
        Self { so_far: Mutex::new(so_far), done: Condvar::new() }
    }

    /// Records that `tasks` are done.
    pub fn update(&self, tasks: usize, change: impl FnOnce(&mut SoFar)) {
        let mut so_far = lock(&self.so_far);
        change(&mut so_far);
        so_far.left = so_far.left.saturating_sub(tasks);
        if so_far.left == 0 || so_far.failed {
            self.done.notify_all();
        }
    }
}

/// Up to a leaf of bytes, and what is still to be done with them.
pub struct Work {
    pub found: Arc<Found>,
    pub block: Arc<Block>,
    pub range: Range<usize>,
    /// The number of the leaf, unless another thread has taken it.
    pub leaf: Option<u64>,
    pub linear: bool,
    #[cfg(test)]
    pub panics: bool,
}

impl Work {
    fn bytes(&self) -> &[u8] {
        #[cfg(test)]
        assert!(!self.panics, "as the test wants it");
        self.block.get(self.range.clone()).unwrap_or_default()
    }

    fn leaf_is(self, hash: Midstate) -> Option<(Arc<Found>, Hashed)> {
        self.leaf.map(|number| (self.found, Hashed::Leaf(number, Hash(hash.finish()))))
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

/// What came of a task, for the run it is of.
enum Hashed {
    /// The linear hash, so far.
    Linear(Midstate),
    Leaf(u64, Hash),
    /// The thread failed.
    Nothing,
}

/// What is to be done, and how threads hear of it.
#[derive(Default)]
pub struct Queue {
    pub work: Mutex<Waiting>,
    pub more: Condvar,
}

#[derive(Default)]
pub struct Waiting {
    /// In the order they came.
    pub pieces: VecDeque<Work>,
    /// Threads end when nothing is left to do.
    pub closing: bool,
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
        let backlog = last.count();
        match (one, two) {
            (Some(one), Some(two)) if backlog >= BACKLOG || !self.pieces.get(one)?.linear => {
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

    /// Records what a thread has found. It is asked of the queue, as that must
    /// be locked: `linear` looks at the pieces in their order, and were the
    /// state of a run put back between two looks, a later piece of it would be
    /// hashed before an earlier one. Held by models, `recorded_unlocked`.
    fn record(&mut self, found: Vec<(Arc<Found>, Hashed)>) {
        let mut failed = false;
        for (run, hashed) in found {
            match hashed {
                Hashed::Linear(state) => run.update(1, |so_far| so_far.linear = Some(state)),
                Hashed::Leaf(number, hash) => run.update(1, |so_far| so_far.leaf(number, hash)),
                Hashed::Nothing => {
                    // Who waits for the run must not wait for ever.
                    run.update(0, |so_far| so_far.failed = true);
                    failed = true;
                }
            }
        }
        if failed {
            self.forget();
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
    pub fn serve(&self) {
        let mut waiting = lock(&self.work);
        loop {
            if let Some(task) = waiting.next() {
                drop(waiting);
                let found = task.run();
                waiting = lock(&self.work);
                waiting.record(found);
            } else if waiting.closing {
                return;
            } else {
                waiting = self.more.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}

impl Task {
    /// Does the task, and gives its blocks back.
    fn run(self) -> Vec<(Arc<Found>, Hashed)> {
        let runs: Vec<Arc<Found>> = match &self {
            Self::Linear(work, _) | Self::Leaf(work) => vec![Arc::clone(&work.found)],
            Self::Leaves(one, two) => vec![Arc::clone(&one.found), Arc::clone(&two.found)],
        };
        catch_unwind(AssertUnwindSafe(|| self.hash()))
            .unwrap_or_else(|_| runs.into_iter().map(|run| (run, Hashed::Nothing)).collect())
    }

    fn hash(self) -> Vec<(Arc<Found>, Hashed)> {
        match self {
            Self::Linear(work, mut linear) => {
                let leaf = match work.leaf {
                    Some(0) => {
                        linear.update(work.bytes());
                        linear.clone()
                    }
                    Some(_) => {
                        let mut leaf = Midstate::default();
                        let bytes = work.bytes();
                        Midstate::update_two((&mut linear, bytes), (&mut leaf, bytes));
                        leaf
                    }
                    None => {
                        linear.update(work.bytes());
                        Midstate::default()
                    }
                };
                let state = (Arc::clone(&work.found), Hashed::Linear(linear));
                [state].into_iter().chain(work.leaf_is(leaf)).collect()
            }
            Self::Leaf(work) => {
                let mut leaf = Midstate::default();
                leaf.update(work.bytes());
                work.leaf_is(leaf).into_iter().collect()
            }
            Self::Leaves(one, two) => {
                let mut leaves = (Midstate::default(), Midstate::default());
                Midstate::update_two((&mut leaves.0, one.bytes()), (&mut leaves.1, two.bytes()));
                one.leaf_is(leaves.0).into_iter().chain(two.leaf_is(leaves.1)).collect()
            }
        }
    }
}
