//! A part's bytes on their way to the service: read from the spool piece by
//! piece, so that memory does not grow with the part.
//!
//! The pieces are read on the thread that sends them. They were written a
//! moment ago or come from a disk that is faster than the uplink, and handing
//! each to another thread and back took more time than reading it (measured:
//! a sender's CPU time was halved). Their memory is used again.

use std::io;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::Body;

/// Bytes read at a time.
const PIECE: usize = 256 << 10;

/// A [`Body`] as the HTTP client wants it. Its exact size is known, so the
/// request carries a Content-Length.
pub struct FileBody {
    body: Body,
    position: u64,
    free: Free,
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
        Self { position: 0, body, free: Free::default() }
    }

    fn left(&self) -> u64 {
        self.body.size - self.position
    }

    /// The next piece. A file that ends before it has lost bytes since it was
    /// announced.
    fn read(&mut self) -> io::Result<Bytes> {
        let size = usize::try_from(self.left()).unwrap_or(PIECE).min(PIECE);
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut buffer = free.unwrap_or_default();
        buffer.resize(size, 0);
        self.body.file.read_exact_at(&mut buffer, self.body.start + self.position)?;
        self.position += size as u64;
        self.body.taken.fetch_add(size as u64, Ordering::Relaxed);
        Ok(Bytes::from_owner(Piece { buffer, free: Arc::clone(&self.free) }))
    }
}

/// The spool file under a body could not be read: no fault of the network.
#[derive(Debug)]
pub struct Unreadable(io::Error);

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.kind() {
            io::ErrorKind::UnexpectedEof => f.write_str("the file is shorter than it was"),
            _ => self.0.fmt(f),
        }
    }
}

impl std::error::Error for Unreadable {}

impl http_body::Body for FileBody {
    type Data = Bytes;
    type Error = Unreadable;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Unreadable>>> {
        if self.left() == 0 {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(self.read().map(Frame::data).map_err(Unreadable)))
    }

    fn is_end_stream(&self) -> bool {
        self.left() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left())
    }
}
