//! Where the bytes come from: standard input, or a command that is run.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal as _};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use crate::error::{Error, Result, plain};
use crate::hash::pool::Block;
use crate::process::peers;

/// A pipe that holds a megabyte is read in fewer calls; Linux alone has it.
#[cfg(target_os = "linux")]
pub(crate) fn enlarge(pipe: impl AsFd) {
    // A file, or a user over the limit, keeps what it has.
    let _ = rustix::pipe::fcntl_setpipe_size(pipe, 1 << 20);
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn enlarge(_: impl AsFd) {}

/// When a pipe was made, if that can be told. Linux keeps it for a pipe without
/// a name: neither writes nor reads change it. What has a name is older than
/// one run, and a write changes its times.
#[cfg(target_os = "linux")]
fn made(pipe: &File) -> Option<SystemTime> {
    /// `PIPEFS_MAGIC`.
    const PIPES: u64 = 0x5049_5045;
    let kind = rustix::fs::fstatfs(pipe).ok()?.f_type;
    if u64::try_from(kind) != Ok(PIPES) {
        return None;
    }
    pipe.metadata().ok()?.modified().ok()
}

/// The same of FreeBSD, where the time of the last change of its state is that,
/// and only what has no name has no link.
#[cfg(target_os = "freebsd")]
fn made(pipe: &File) -> Option<SystemTime> {
    use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
    let meta = pipe.metadata().ok()?;
    if !meta.file_type().is_fifo() || meta.nlink() > 0 {
        return None;
    }
    let seconds = Duration::from_secs(u64::try_from(meta.ctime()).ok()?);
    let rest = Duration::from_nanos(u64::try_from(meta.ctime_nsec()).ok()?);
    SystemTime::UNIX_EPOCH.checked_add(seconds + rest)
}

/// Elsewhere each write changes every time that there is, or nobody says.
#[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
fn made(_: &File) -> Option<SystemTime> {
    None
}

/// How often to look whether the writing side has ended.
const TICK: Duration = Duration::from_secs(1);

/// The producer's end of a stream.
pub struct Input {
    file: File,
    child: Option<(Child, String)>,
}

impl Input {
    /// Standard input, or the output of `command` if it is not empty. The
    /// command's standard input is empty, its complaints are ours.
    ///
    /// # Errors
    /// When there is no such command.
    pub fn open(command: &[OsString]) -> Result<Self> {
        let Some((program, arguments)) = command.split_first() else {
            if io::stdin().is_terminal() {
                let what = "stdin: a terminal; pipe a stream into it, or use -- COMMAND";
                return Err(Error::Usage(what.to_owned()));
            }
            let stdin = io::stdin().as_fd().try_clone_to_owned();
            let file = File::from(stdin.map_err(|e| Error::io("stdin", e))?);
            enlarge(&file);
            return Ok(Self { file, child: None });
        };
        let name = program.to_string_lossy().into_owned();
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| Error::Usage(format!("{name}: cannot run: {}", plain(&e))))?;
        let output = child.stdout.take().map(OwnedFd::from);
        let output = output.ok_or_else(|| Error::Bug(format!("{name}: no output was piped")))?;
        enlarge(&output);
        Ok(Self { file: File::from(output), child: Some((child, name)) })
    }

    /// When the pipe that is read was made; `None` where that cannot be told,
    /// as of a file, a socket and a FIFO with a name.
    pub fn made(&self) -> Option<SystemTime> {
        made(&self.file)
    }

    /// Reads until `block` holds `size` bytes or the input ends. Waits for as
    /// long as the producer is silent, unless the reader of our lines is gone
    /// or `stop` is set.
    ///
    /// # Errors
    /// When reading fails, or nobody waits for the lines any more.
    pub fn fill(&mut self, block: &mut Block, size: usize, stop: &AtomicBool) -> Result<()> {
        while block.len() < size {
            while !peers::has_input(&self.file, TICK)? {
                if stop.load(Ordering::Relaxed) {
                    return Err(stopped());
                }
            }
            if block.read_from(&mut self.file, size).map_err(|e| Error::io("stdin", e))? == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Whether nobody writes to the pipe any more. Bytes may be left in it.
    ///
    /// # Errors
    /// When nobody waits for the lines any more.
    pub fn is_abandoned(&self) -> Result<bool> {
        peers::is_abandoned(&self.file, Duration::ZERO)
    }

    /// Whether no more will be written: of a file, always.
    ///
    /// # Errors
    /// When nobody waits for the lines any more, or the system does not tell.
    pub fn is_over(&self) -> Result<bool> {
        if peers::may_be_cut(&self.file) { self.is_abandoned() } else { Ok(true) }
    }

    /// Waits for the command, after the end of its output, as [`Self::fill`]
    /// waits.
    ///
    /// # Errors
    /// Unless it succeeded: unfinished if its status was 75, else that the
    /// stream is not whole.
    pub fn finish(&mut self, stop: &AtomicBool) -> Result<()> {
        let Some((child, name)) = &mut self.child else { return Ok(()) };
        let mut pause = Duration::from_millis(1);
        let status = loop {
            match child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) if stop.load(Ordering::Relaxed) => return Err(stopped()),
                Ok(None) => peers::wait(pause)?,
                Err(e) => return Err(Error::io(format!("{name}: cannot wait"), e)),
            }
            pause = TICK.min(pause * 2);
        };
        if status.success() {
            return Ok(());
        }
        let text = format!("{name}: {}; the stream is not whole", ended(status));
        Err(if status.code() == Some(75) { Error::Unfinished(text) } else { Error::Data(text) })
    }
}

impl Drop for Input {
    /// A command whose output is not read to its end is of no more use.
    fn drop(&mut self) {
        if let Some((child, _)) = &mut self.child {
            // One that has ended already cannot be killed.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

const STOPPED: &str = "stopped";

/// What ends one side of chunk when the other has failed: never told, as the
/// other's error is.
pub fn stopped() -> Error {
    Error::Unfinished(STOPPED.to_owned())
}

/// Whether an error is but the echo of another.
pub fn is_stopped(error: &Error) -> bool {
    matches!(error, Error::Unfinished(text) if text == STOPPED)
}

fn ended(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "ended without a status".to_owned(),
    }
}
