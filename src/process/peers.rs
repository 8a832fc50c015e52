//! The programs beside this one in a pipe.
//!
//! A program that waits (for its hour, for room, for the network) writes
//! nothing, so it would never be told that nobody reads what it writes. The
//! pipe knows, and is asked here without writing.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::error::{Error, Result};

/// The longest to wait at once: a suspended machine and a clock that is set do
/// not wake anybody.
pub const NAP: Duration = Duration::from_secs(10);

/// Waits, no longer than told and no longer than [`NAP`].
///
/// # Errors
/// As soon as nobody reads standard output any more (75).
pub fn wait(longest: Duration) -> Result<()> {
    let stdout = io::stdout();
    watch(&mut [PollFd::new(&stdout, PollFlags::empty())], longest.min(NAP)).map(drop)
}

/// Ends as soon as nobody reads standard output any more: for what waits for
/// the network, and would not be told.
pub async fn unread() -> Error {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if let Err(gone) = wait(Duration::ZERO) {
            return gone;
        }
    }
}

/// Waits until there is something to read, or its end.
///
/// # Errors
/// As [`wait`].
pub fn wait_for_input(input: &impl AsFd) -> Result<()> {
    while !has_input(input, NAP)? {}
    Ok(())
}

/// Whether there is something to read, or its end; waits no longer than told.
///
/// # Errors
/// As [`wait`].
pub fn has_input(input: &impl AsFd, longest: Duration) -> Result<bool> {
    let stdout = io::stdout();
    let mut fds = [PollFd::new(&stdout, PollFlags::empty()), PollFd::new(input, PollFlags::IN)];
    watch(&mut fds, longest)
}

/// Whether nobody writes to `input` any more, though bytes may be left in it;
/// waits no longer than told. Never so of a file.
///
/// # Errors
/// As [`wait`].
pub fn is_abandoned(input: &impl AsFd, longest: Duration) -> Result<bool> {
    let stdout = io::stdout();
    let none = PollFlags::empty();
    let mut fds = [PollFd::new(&stdout, none), PollFd::new(input, none)];
    watch(&mut fds, longest.min(NAP))
}

/// Whether the end of this may be that of a program that died: it is a pipe or
/// a socket.
pub fn may_be_cut(input: impl AsFd) -> bool {
    use rustix::fs::FileType;
    rustix::fs::fstat(input).is_ok_and(|stat| {
        matches!(FileType::from_raw_mode(stat.st_mode), FileType::Fifo | FileType::Socket)
    })
}

/// Input that is waited for as long as somebody reads standard output.
pub struct Input(File);

impl Input {
    /// Standard input.
    ///
    /// # Errors
    /// When there is none.
    pub fn stdin() -> io::Result<Self> {
        io::stdin().as_fd().try_clone_to_owned().map(|stdin| Self(File::from(stdin)))
    }

    /// A file, or what is called one.
    pub fn of(file: File) -> Self {
        Self(file)
    }

    /// The same, not waited for in this way.
    pub fn unwatched(self) -> File {
        self.0
    }

    /// Why a read failed, of `thing`.
    pub fn failed(thing: impl Into<String>, e: io::Error) -> Error {
        // No read gives this; the wait before it does.
        if e.kind() == io::ErrorKind::BrokenPipe { gone() } else { Error::io(thing, e) }
    }
}

impl Read for Input {
    /// # Errors
    /// Of the kind `BrokenPipe`, as soon as nobody reads standard output.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match wait_for_input(&self.0) {
            Ok(()) => self.0.read(buffer),
            Err(Error::Io(_, e)) => Err(e),
            Err(_) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

/// Whether standard output takes a line at once; waits no longer than told.
///
/// # Errors
/// As [`wait`].
pub fn takes_a_line(longest: Duration) -> Result<bool> {
    let stdout = io::stdout();
    let mut fds = [
        PollFd::new(&stdout, PollFlags::empty()),
        // The same again: of the first any news is bad.
        PollFd::new(&stdout, PollFlags::OUT),
    ];
    watch(&mut fds, longest.min(NAP))
}

/// Waits for one of these, of which the first is standard output. True if
/// there is news of another.
fn watch(fds: &mut [PollFd<'_>], longest: Duration) -> Result<bool> {
    let longest = Timespec::try_from(longest)
        .map_err(|e| Error::Bug(format!("a short time is too long: {e}")))?;
    match poll(fds, Some(&longest)) {
        Ok(_) => {}
        Err(e) if e == rustix::io::Errno::INTR => return Ok(false),
        Err(e) => return Err(Error::io("stdout: cannot watch", e)),
    }
    let mut news = fds.iter().map(|fd| !fd.revents().is_empty());
    if news.next() == Some(true) {
        return Err(gone());
    }
    Ok(news.any(|is| is))
}

/// Why a write to standard output failed.
pub fn unwritten(e: io::Error) -> Error {
    if e.kind() == io::ErrorKind::BrokenPipe {
        gone()
    } else {
        Error::io("stdout: cannot write", e)
    }
}

/// The error of one whose lines nobody reads any more.
pub fn gone() -> Error {
    let gone = "stdout: the program that reads it has ended; run the same command again";
    Error::Unfinished(gone.to_owned())
}
