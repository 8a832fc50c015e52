//! Blocks of bytes, lent by a pool that bounds the memory.

use std::io::{self, Read};
use std::ops::Deref;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::lock;
use crate::hash::tree::LEAF;

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
        loop {
            if let Some(block) = self.take_within(Duration::MAX) {
                return block;
            }
        }
    }

    /// The same, but waits no longer than told.
    pub fn take_within(&self, longest: Duration) -> Option<Block> {
        let start = Instant::now();
        let mut buffers = lock(&self.0.buffers);
        loop {
            if let Some(buffer) = buffers.free.pop() {
                return Some(Block { buffer, size: 0, pool: Arc::clone(&self.0) });
            }
            if let Some(unmade) = buffers.unmade.checked_sub(1) {
                buffers.unmade = unmade;
                return Some(self.one_more());
            }
            let left = longest.saturating_sub(start.elapsed());
            if left.is_zero() {
                return None;
            }
            let waited = self.0.returned.wait_timeout(buffers, left.min(Duration::from_hours(1)));
            buffers = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// A block over the limit, for one who knows that few will be needed.
    pub fn one_more(&self) -> Block {
        let buffer = vec![0; BLOCK].into_boxed_slice();
        Block { buffer, size: 0, pool: Arc::clone(&self.0) }
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

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
}
