//! A part's bytes on their way to the service: read from the spool piece by
//! piece, so that memory does not grow with the part.

use std::io;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::task::JoinHandle;

use super::Body;

/// Bytes read at a time.
const PIECE: usize = 256 << 10;

/// A [`Body`] as the HTTP client wants it. Its exact size is known, so the
/// request carries a Content-Length.
pub struct FileBody {
    body: Body,
    position: u64,
    reading: Option<JoinHandle<io::Result<Vec<u8>>>>,
}

impl FileBody {
    /// The bytes of `body`, from its first.
    pub fn new(body: Body) -> Self {
        Self { position: 0, body, reading: None }
    }

    fn left(&self) -> u64 {
        self.body.size - self.position
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

/// Reads up to `size` bytes at `offset`. A file that ends there has lost
/// bytes since it was announced.
fn read(file: &std::fs::File, offset: u64, size: usize) -> io::Result<Vec<u8>> {
    let mut piece = vec![0; size];
    file.read_exact_at(&mut piece, offset)?;
    Ok(piece)
}

impl http_body::Body for FileBody {
    type Data = Bytes;
    type Error = Unreadable;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Unreadable>>> {
        if self.left() == 0 {
            return Poll::Ready(None);
        }
        let this = &mut *self;
        let size = usize::try_from(this.left()).unwrap_or(PIECE).min(PIECE);
        let offset = this.body.start + this.position;
        let reading = this.reading.get_or_insert_with(|| {
            let file = Arc::clone(&this.body.file);
            tokio::task::spawn_blocking(move || read(&file, offset, size))
        });
        let piece = ready!(Pin::new(reading).poll(cx)).map_err(io::Error::other).flatten();
        this.reading = None;
        let piece = match piece {
            Ok(piece) => piece,
            Err(e) => return Poll::Ready(Some(Err(Unreadable(e)))),
        };
        let taken = u64::try_from(piece.len()).unwrap_or(0);
        this.position += taken;
        this.body.taken.fetch_add(taken, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left())
    }
}
