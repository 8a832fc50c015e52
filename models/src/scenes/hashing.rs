//! What readers and hashing threads do in the models. There is a copy for each variant.

use std::sync::Arc;

use crate::hash::pool::{BLOCK, BlockPool, Hashers, Hashes, Pending};
use crate::hash::tree::{Hash, LEAF};
use crate::{FATAL, Scene, bytes, thread, tree};

pub const SCENES: &[Scene] = &[
    ("one run", one_run),
    ("one block", one_block),
    ("runs of two threads", runs_of_two_threads),
    ("a thread fails", a_thread_fails),
];

/// Fewer blocks than there is data for: who reads must be told of each that
/// comes back.
const BLOCKS: usize = 3;

/// By the definition, and nothing of what is modelled.
fn plain(data: &[u8], linear: bool) -> Hashes {
    let sha256 = linear.then(|| Hash::of(data));
    Hashes { treehash: tree(data), sha256, size: data.len() as u64 }
}

fn begin(hashers: &Hashers, pool: &BlockPool, mut data: &[u8], linear: bool) -> Pending {
    let mut run = hashers.run(linear);
    while !data.is_empty() {
        let mut block = pool.take();
        block.fill_from(&mut data, BLOCK).unwrap();
        run.block(Arc::new(block));
    }
    run.finish()
}

fn one_run() {
    let hashers = Hashers::new(2).unwrap();
    let pool = BlockPool::new(BLOCKS);
    let data = bytes(0, 6 * BLOCK - 10);
    let pending = begin(&hashers, &pool, &data, true);
    assert_eq!(pending.wait().unwrap(), plain(&data, true));
    drop(hashers);
    (0..BLOCKS).map(|_| pool.take()).for_each(drop);
}

/// With another block to come back, a lost one would go unseen.
fn one_block() {
    let hashers = Hashers::new(2).unwrap();
    let pool = BlockPool::new(1);
    let data = bytes(7, 4 * BLOCK);
    let pending = begin(&hashers, &pool, &data, true);
    assert_eq!(pending.wait().unwrap(), plain(&data, true));
}

/// Two read at once, one of them two runs, and drop one that they began.
fn runs_of_two_threads() {
    let hashers = Arc::new(Hashers::new(2).unwrap());
    let pool = BlockPool::new(BLOCKS);
    let other = thread::spawn({
        let (hashers, pool) = (Arc::clone(&hashers), pool.clone());
        move || {
            let data = bytes(1, 3 * BLOCK);
            let trees = begin(&hashers, &pool, &data, false);
            assert_eq!(trees.wait().unwrap(), plain(&data, false));
        }
    });
    drop(begin(&hashers, &pool, &bytes(2, BLOCK + 1), true));
    let (one, two) = (bytes(3, 3 * BLOCK - LEAF), bytes(4, 2 * BLOCK));
    let first = begin(&hashers, &pool, &one, true);
    let second = begin(&hashers, &pool, &two, true);
    drop(hashers);
    assert_eq!(second.wait().unwrap(), plain(&two, true));
    assert_eq!(first.wait().unwrap(), plain(&one, true));
    other.join().unwrap();
}

/// The run is told to have failed, its blocks come back, and others go on.
fn a_thread_fails() {
    let hashers = Hashers::new(2).unwrap();
    let pool = BlockPool::new(BLOCKS);
    let mut data = bytes(5, 5 * BLOCK);
    data[LEAF + 1] = FATAL;
    let failed = begin(&hashers, &pool, &data, true);
    let data = bytes(6, 2 * BLOCK);
    let whole = begin(&hashers, &pool, &data, true);
    assert_eq!(failed.wait().unwrap_err().code(), 70);
    assert_eq!(whole.wait().unwrap(), plain(&data, true));
    (0..BLOCKS).map(|_| pool.take()).for_each(drop);
}
