//! put's input, read by a thread of its own: neither window nor network stops
//! the reading, so that chunk is never held up and its end is seen at once.

use std::io::{self, BufReader};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::error::{Error, Result};
use crate::line::{Line, Reader, Stamp, StreamId, Text};

/// How long to wait for the next line of a stream that has failed here. A file
/// has it at once; a chunk may wait for room in the spool that nobody makes any
/// more, and must see that we end.
const LULL: Duration = Duration::from_secs(2);

/// What is said of a stream without an end.
pub const NOT_WHOLE: &str = "stream not whole yet; run the same command again";

/// A line and its stamp, or why there is none.
pub type Message = Result<(u64, Line, Stamp)>;

/// The lines that have come and were not yet taken.
pub struct Inbox {
    messages: UnboundedReceiver<Message>,
    held: Option<Message>,
    /// The number of the line that was taken last.
    pub number: u64,
    /// Streams whose first line was taken.
    pub streams: u64,
    read: Arc<Read>,
}

/// What has been read, taken or not.
#[derive(Default)]
struct Read {
    lines: AtomicU64,
    ends: AtomicU64,
    all: AtomicBool,
}

impl Inbox {
    /// Starts to read the input.
    pub fn of(input: impl io::Read + Send + 'static) -> Self {
        let (sender, messages) = unbounded_channel();
        let read = Arc::<Read>::default();
        let seen = Arc::clone(&read);
        // It lives as long as the process: a read cannot be called off.
        std::thread::spawn(move || {
            let mut lines = Reader::new(BufReader::with_capacity(64 << 10, input));
            loop {
                let message = match lines.read() {
                    Ok(None) => break,
                    Ok(Some(Text::Line(text))) => parse(lines.number, &text),
                    Ok(Some(Text::Bad(why))) => Err(bad(lines.number, &why)),
                    Err(e) => Err(Error::io("stdin", e)),
                };
                let failed = message.is_err();
                seen.lines.fetch_add(1, Ordering::SeqCst);
                if matches!(message, Ok((_, Line::End(_), _))) {
                    seen.ends.fetch_add(1, Ordering::SeqCst);
                }
                if sender.send(message).is_err() || failed {
                    break;
                }
            }
            seen.all.store(true, Ordering::SeqCst);
        });
        Self { messages, held: None, number: 0, streams: 0, read }
    }

    /// Whether the input has ended, and the stream that is worked on, or is
    /// the next, has no end in it.
    pub fn is_cut(&self) -> bool {
        self.read.all.load(Ordering::SeqCst)
            && self.read.lines.load(Ordering::SeqCst) > 0
            && self.read.ends.load(Ordering::SeqCst) < self.streams.max(1)
    }

    /// Why the input was cut, in the words of the tool that failed, or ours.
    pub async fn why(&mut self) -> Error {
        while let Some(message) = self.next().await {
            if let Ok((_, Line::Failed(failed), _)) = message {
                return Error::from_code(failed.code, failed.message);
            }
        }
        Error::Unfinished(NOT_WHOLE.to_owned())
    }

    /// The next line; `None` at the end of the input.
    pub async fn next(&mut self) -> Option<Message> {
        let message = match self.held.take() {
            Some(held) => Some(held),
            None => self.messages.recv().await,
        };
        if let Some(Ok((number, ..))) = &message {
            self.number = *number;
        }
        message
    }

    /// Whether a line has come that was not yet taken.
    pub fn has_more(&self) -> bool {
        self.held.is_some() || !self.messages.is_empty()
    }

    /// The next line of a stream; `None` where it ends: at the end of the
    /// input, or before the next stream.
    pub async fn next_of(&mut self, id: StreamId) -> Option<Message> {
        let message = self.next().await?;
        match &message {
            Ok((number, line, _)) => match stream_of(line) {
                _ if matches!(line, Line::Stream(_)) => {
                    self.held = Some(message);
                    None
                }
                Some(other) if other != id => {
                    Some(Err(bad(*number, &format!("it is of stream {other}, not {id}"))))
                }
                _ => Some(message),
            },
            Err(_) => Some(message),
        }
    }

    /// Passes over the lines before the next stream, or to the end of what is
    /// there.
    pub async fn skip(&mut self) {
        loop {
            match tokio::time::timeout(LULL, self.next()).await {
                Ok(Some(Ok((_, line, _)))) if !matches!(line, Line::Stream(_)) => {}
                Ok(message) => {
                    self.held = message;
                    return;
                }
                Err(_) => {
                    self.messages.close();
                    return;
                }
            }
        }
    }

    /// The message that names the line that was taken last.
    pub fn blame(&self, error: Error) -> Error {
        match error {
            Error::Data(text) => bad(self.number, &text),
            error => error,
        }
    }
}

fn bad(number: u64, why: &str) -> Error {
    // A stream itself, most likely.
    let lines = if number == 1 && (why.starts_with("not ") || why.starts_with("longer ")) {
        "; are these lines of glacier-chunk?"
    } else {
        ""
    };
    Error::Data(format!("stdin: line {number}: {why}{lines}"))
}

fn parse(number: u64, text: &str) -> Message {
    let line = Line::parse(text).map_err(|why| bad(number, &why))?;
    let Some(line) = line else {
        return Err(bad(number, "a type of line that this program does not know"));
    };
    let stamp = Stamp::parse(text).map_err(|why| bad(number, &why))?;
    Ok((number, line, stamp))
}

fn stream_of(line: &Line) -> Option<StreamId> {
    match line {
        Line::Stream(line) => Some(line.stream),
        Line::Snapshot(line) => Some(line.stream),
        Line::Part(line) => Some(line.stream),
        Line::Volume(line) => Some(line.stream),
        Line::End(line) => Some(line.stream),
        Line::Failed(line) => line.stream,
        Line::Hashes(line) => Some(line.stream),
        Line::Archive(line) => Some(line.stream),
        Line::Stored(line) => Some(line.stream),
        Line::Chain(line) => Some(line.stream),
        Line::Deleted(_)
        | Line::Verified(_)
        | Line::Job(_)
        | Line::Upload(_)
        | Line::Inventoried(_)
        | Line::Inventory(_)
        | Line::Recipe(_) => None,
    }
}
