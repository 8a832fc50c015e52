//! Where streams go: standard output, a command that is run for each, or a
//! file that is gone on with.
//!
//! A command cannot tell a stream that was cut short from one that ended, so
//! on failure it is killed before its input is closed (I5). What is killed
//! itself cannot do so: [`whole`] tells a command that asks.

mod file;
mod whole;

use std::cell::RefCell;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, ErrorKind, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use self::file::Target;
use self::whole::Whole;
use super::plan::Stream;
use crate::error::{Error, Result};
use crate::line::Guid;
use crate::process;
use crate::process::child;
use crate::process::peers;

/// The longest pause between two looks whether a command has ended.
const LOOK: Duration = Duration::from_millis(250);

/// Where streams go.
#[derive(Debug)]
pub struct Output {
    command: Vec<OsString>,
    target: Option<Target>,
    /// What is written to now.
    sink: RefCell<Option<Arc<File>>>,
    child: RefCell<Option<Child>>,
    /// How the command is told that it was given all.
    whole: RefCell<Option<Whole>>,
}

impl Output {
    /// Standard output if `command` is empty. It is looked for now, before
    /// anything is asked of the service.
    ///
    /// # Errors
    /// When there is no such command: 127, as a shell says it.
    pub fn new(command: Vec<OsString>) -> Result<Self> {
        if !command.is_empty() && !child::is_there(&command) {
            return Err(child::missing(&child::name(&command)));
        }
        Ok(Self::of(command, None))
    }

    /// A file, which is gone on with where it ends, and created with its first
    /// byte; or only looked at.
    ///
    /// # Errors
    /// When it is no file, or cannot be opened or locked.
    pub fn file(path: PathBuf, looks: bool) -> Result<Self> {
        Ok(Self::of(Vec::new(), Some(Target::open(path, looks)?)))
    }

    fn of(command: Vec<OsString>, target: Option<Target>) -> Self {
        let (sink, child, whole) = Default::default();
        Self { command, target, sink, child, whole }
    }

    /// Whether it is a file.
    pub fn is_file(&self) -> bool {
        self.target.is_some()
    }

    /// Bytes of the stream that are there already and need not come again.
    ///
    /// # Errors
    /// When the file cannot be read, or has bytes that are not the stream's.
    pub async fn passed(&self, stream: &Stream) -> Result<u64> {
        match &self.target {
            Some(target) => target.passed(stream).await,
            None => Ok(0),
        }
    }

    /// Writes bytes to what [`Self::open`] gave.
    ///
    /// # Errors
    /// When they are not taken; or the file begins with others.
    pub fn write(sink: &File, unproven: u64, bytes: &[u8]) -> io::Result<()> {
        if unproven > 0 {
            file::compare(sink, unproven, bytes)?;
        }
        (&*sink).write_all(bytes)
    }

    /// Bytes at the beginning of a file that are too few to be told from
    /// others before the first ones come; asked once.
    pub fn unproven(&self) -> u64 {
        self.target.as_ref().map_or(0, Target::unproven)
    }

    /// Whether it can take several streams.
    pub fn takes_many(&self) -> bool {
        !self.command.is_empty()
    }

    /// The file that takes the stream's bytes; starts the command at the
    /// first of them.
    ///
    /// # Errors
    /// When the command cannot be run.
    pub fn open(&self, stream: &Stream) -> Result<Arc<File>> {
        if let Some(sink) = &*self.sink.borrow() {
            return Ok(sink.clone());
        }
        if let Some(target) = &self.target {
            let sink = target.begin()?;
            *self.sink.borrow_mut() = Some(Arc::clone(&sink));
            return Ok(sink);
        }
        let fd: OwnedFd = if self.command.is_empty() {
            process::stdout()?
                .as_fd()
                .try_clone_to_owned()
                .map_err(|e| Error::io("stdout: cannot open", e))?
        } else {
            let mut run = child::of(&self.command)?;
            run.stdin(Stdio::piped());
            tell(&mut run, stream);
            let whole = Whole::new()?;
            run.env(whole::VARIABLE, whole.path());
            *self.whole.borrow_mut() = Some(whole);
            let mut child = run.spawn().map_err(|e| child::unrun(&self.name(), e))?;
            let input = child.stdin.take().map(OwnedFd::from);
            *self.child.borrow_mut() = Some(child);
            input.ok_or_else(|| Error::Bug("a command has no standard input".to_owned()))?
        };
        let sink = Arc::new(File::from(fd));
        *self.sink.borrow_mut() = Some(sink.clone());
        Ok(sink)
    }

    /// Ends the stream, whose end is proven: tells the command so, closes its
    /// input and waits for its status.
    ///
    /// # Errors
    /// The command's own status, if it is not 0.
    pub async fn end(&self, stream: &Stream) -> Result<()> {
        // A stream without bytes starts the command here.
        self.open(stream)?;
        // I5: all was written before this, and the input is closed behind it.
        // Held by `tests/get/whole.rs`.
        if let Some(whole) = &*self.whole.borrow() {
            whole.tell()?;
        }
        self.sink.borrow_mut().take();
        if let Some(target) = &self.target {
            return target.end();
        }
        let status = self.status().await?;
        self.whole.borrow_mut().take();
        status.map_or(Ok(()), |status| self.check(status))
    }

    /// Waits until the command, if there is one, has ended.
    async fn status(&self) -> Result<Option<ExitStatus>> {
        let mut pause = Duration::from_millis(1);
        while self.child.borrow().is_some() {
            if let Some(status) = self.ended()? {
                self.child.borrow_mut().take();
                return Ok(Some(status));
            }
            sleep(pause).await;
            pause = (pause * 2).min(LOOK);
        }
        Ok(None)
    }

    fn ended(&self) -> Result<Option<ExitStatus>> {
        match &mut *self.child.borrow_mut() {
            None => Ok(None),
            Some(child) => child
                .try_wait()
                .map_err(|e| Error::io(format!("{}: cannot wait for it", self.name()), e)),
        }
    }

    fn check(&self, status: ExitStatus) -> Result<()> {
        child::check(&self.name(), status)
    }

    /// The command as messages name it.
    fn name(&self) -> String {
        child::name(&self.command)
    }

    /// The error that a failed write stands for. A command that reads no more
    /// is waited for: its status tells why.
    pub async fn failed(&self, error: io::Error) -> Error {
        if let Some(target) = &self.target {
            return target.failed(error);
        }
        if self.command.is_empty() {
            return Error::io("stdout: cannot write", error);
        }
        if error.kind() == ErrorKind::BrokenPipe {
            match self.status().await {
                Err(e) => return e,
                Ok(Some(status)) => {
                    if let Err(e) = self.check(status) {
                        return e;
                    }
                }
                Ok(None) => {}
            }
        }
        Error::io(format!("{}: did not read all of the stream", self.name()), error)
    }

    /// Ends when it is known that nobody will take what may come, which a
    /// program that waits is not told: the reader of standard output is gone
    /// while `waiting`, or the command has failed.
    pub async fn watch(&self, waiting: impl Fn() -> bool) -> Error {
        if self.is_file() {
            return std::future::pending().await;
        }
        loop {
            sleep(Duration::from_secs(1)).await;
            let seen = if self.command.is_empty() {
                if waiting() { peers::wait(Duration::ZERO) } else { Ok(()) }
            } else {
                // One that ended well has read all, or is told by a write.
                self.ended().and_then(|status| status.map_or(Ok(()), |status| self.check(status)))
            };
            if let Err(error) = seen {
                return error;
            }
        }
    }
}

impl Drop for Output {
    /// I5: a command that still runs was not given the whole of its stream.
    /// It is killed before its input is closed, so that it cannot take what
    /// it has for all. Held by
    /// `get::tests::kills_the_command_before_its_input_is_closed`.
    fn drop(&mut self) {
        if let Some(child) = self.child.get_mut() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
        self.sink.get_mut().take();
    }
}

/// Tells a command which stream it is given, and what that went through: what
/// it must undo.
fn tell(command: &mut Command, stream: &Stream) {
    let stored = stream.stored.as_ref();
    let guid = |guid: Option<Guid>| guid.map(|guid| guid.to_string());
    let filter = stored.and_then(|stored| stored.filter.as_ref());
    for (name, value) in [
        ("GLACIER_STREAM", Some(stream.id.to_string())),
        ("GLACIER_NAME", Some(stream.name.clone())),
        ("GLACIER_GUID", guid(stored.and_then(|stored| stored.guid))),
        ("GLACIER_FROM_GUID", guid(stored.and_then(|stored| stored.from_guid))),
        ("GLACIER_FILTER", filter.map(|filter| filter.as_str().to_owned())),
    ] {
        // One of the caller's is not about this stream.
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
}
