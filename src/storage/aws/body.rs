//! A part's bytes on their way to the service: read from the spool piece by
//! piece, so that memory does not grow with the part.
//!
//! The pieces are read on the thread that sends them. They were written a
//! moment ago or come from a disk that is faster than the uplink, and handing
//! each to another thread and back took more time than reading it (measured:
//! a sender's CPU time was halved). Their memory is used again.
//!
//! They are hashed once more on their way, and the last of them goes out only
//! if all are what was announced: what was damaged in the spool never becomes
//! a whole request, whatever the service makes of its headers.
//!
//! Where the rate is limited, a piece waits for its turn before it is read.

use std::io;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use sha2::{Digest as _, Sha256};
use tokio::time::{Sleep, sleep_until};

use crate::error::plain;
use crate::hash::tree::Hash;
use crate::storage::Body;

/// A [`Body`] as the HTTP client wants it. Its exact size is known, so the
/// request carries a Content-Length.
pub struct FileBody {
    body: Body,
    position: u64,
    hash: Sha256,
    free: Free,
    /// The bytes that are next, and when it is their turn.
    next: Option<(u64, Option<Pin<Box<Sleep>>>)>,
}

/// Buffers that were sent and can be filled again.
type Free = Arc<Mutex<Vec<Vec<u8>>>>;

/// A piece that is being sent; its buffer is free again when it is dropped.
struct Piece {
    buffer: Vec<u8>,
    free: Free,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
    }
}

impl FileBody {
    /// The bytes of `body`, from its first.
    pub fn new(body: Body) -> Self {
        Self { position: 0, body, hash: Sha256::new(), free: Free::default(), next: None }
    }

    fn left(&self) -> u64 {
        self.body.size - self.position
    }

    /// The next piece, of so many bytes. A file that ends before it has lost
    /// bytes since it was announced; one with other bytes keeps its last
    /// piece. Held by `tests::a_body_with_other_bytes_never_ends`.
    fn read(&mut self, size: u64) -> Result<Bytes, Unreadable> {
        let length = usize::try_from(size).map_err(|e| Unreadable::Failed(io::Error::other(e)))?;
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut buffer = free.unwrap_or_default();
        buffer.resize(length, 0);
        let start = self.body.start + self.position;
        self.body.file.read_exact_at(&mut buffer, start).map_err(Unreadable::Failed)?;
        self.hash.update(&buffer);
        self.position += size;
        if self.left() == 0
            && Hash(std::mem::take(&mut self.hash).finalize().into()) != self.body.sha256
        {
            return Err(Unreadable::Damaged);
        }
        self.body.taken.fetch_add(size, Ordering::Relaxed);
        Ok(Bytes::from_owner(Piece { buffer, free: Arc::clone(&self.free) }))
    }
}

/// The spool file under a body could not be read: no fault of the network.
#[derive(Debug)]
pub enum Unreadable {
    /// The disk failed, or the file is too short.
    Failed(io::Error),
    /// It holds other bytes than were announced.
    Damaged,
}

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Failed(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                f.write_str("the file is shorter than it was")
            }
            Self::Failed(e) => f.write_str(&plain(e)),
            Self::Damaged => f.write_str("its bytes are not those that were announced"),
        }
    }
}

impl std::error::Error for Unreadable {}

impl http_body::Body for FileBody {
    type Data = Bytes;
    type Error = Unreadable;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Unreadable>>> {
        let left = self.left();
        if left == 0 {
            return Poll::Ready(None);
        }
        let this = &mut *self;
        let (size, turn) = this.next.get_or_insert_with(|| {
            let (size, turn) = this.body.pace.next(left);
            this.body.pace.waits(turn.is_some());
            (size, turn.map(|turn| Box::pin(sleep_until(turn.into()))))
        });
        if let Some(turn) = turn {
            ready!(turn.as_mut().poll(context));
            this.body.pace.waits(false);
        }
        let size = *size;
        this.next = None;
        Poll::Ready(Some(this.read(size).map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.left() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::rate_limit::{self, Pace};
    use std::io::Write as _;
    use std::sync::atomic::AtomicU64;

    /// The bytes that a body of a file gives, and how it ends.
    fn taken(size: usize, change: impl FnOnce(&mut Vec<u8>)) -> (usize, Option<Unreadable>) {
        let mut bytes: Vec<u8> = (0..size).map(|i| u8::try_from(i % 251).unwrap()).collect();
        let (treehash, sha256) = (crate::hash::tree::TreeHash::of(&bytes), Hash::of(&bytes));
        change(&mut bytes);
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        let taken = Arc::new(AtomicU64::new(0));
        let size = size as u64;
        let pace = Pace::default();
        let body = Body { file: Arc::new(file), start: 0, size, treehash, sha256, taken, pace };
        let mut body = Pin::from(Box::new(FileBody::new(body)));
        let mut context = Context::from_waker(std::task::Waker::noop());
        let mut count = 0;
        loop {
            match http_body::Body::poll_frame(body.as_mut(), &mut context) {
                Poll::Ready(Some(Ok(frame))) => count += frame.into_data().unwrap().len(),
                Poll::Ready(Some(Err(e))) => return (count, Some(e)),
                Poll::Ready(None) => return (count, None),
                Poll::Pending => panic!("a file is always ready"),
            }
        }
    }

    #[test]
    fn a_body_with_other_bytes_never_ends() {
        let piece = usize::try_from(rate_limit::PIECE).unwrap();
        for size in [1, piece - 1, piece, piece + 1, 3 * piece] {
            let (count, end) = taken(size, |_| {});
            assert!(count == size && end.is_none(), "{size}: {end:?}");
            for flipped in [0, size / 2, size - 1] {
                let (count, end) = taken(size, |bytes| bytes[flipped] ^= 1);
                assert!(matches!(end, Some(Unreadable::Damaged)), "{size}: {flipped}");
                assert!(count < size, "{size}: the last piece stays here");
            }
            let (count, end) = taken(size, |bytes| bytes.truncate(size - 1));
            assert!(matches!(end, Some(Unreadable::Failed(_))) && count < size, "{size}");
        }
    }
}
