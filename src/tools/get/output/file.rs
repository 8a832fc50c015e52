//! A file as the output: what it has of the stream is kept, verified part by
//! part, and it goes on behind the last of them.
//!
//! Nobody's file is destroyed: one that does not begin with the stream is
//! refused. One that is shorter than the first part cannot be told from that
//! before the part is there, and is compared with it then.

use std::cell::{Cell, RefCell};
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Seek as _, SeekFrom};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::process::paths;
use crate::tools::get::plan::Stream;
use crate::tools::get::resume;

/// The file of `--output`.
#[derive(Debug)]
pub struct Target {
    path: PathBuf,
    /// Absent until the first byte, where it is created.
    file: RefCell<Option<Arc<File>>>,
    /// Bytes of the stream that are there, verified.
    passed: Cell<u64>,
    /// Bytes that are to be compared with the first ones that come.
    unproven: Cell<u64>,
}

impl Target {
    /// Opens it, if it is there.
    pub fn open(path: PathBuf, looks: bool) -> Result<Self> {
        let (passed, unproven) = (Cell::default(), Cell::default());
        let target = Self { path, file: RefCell::default(), passed, unproven };
        match options(!looks).open(&target.path) {
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            opened => target.take(opened)?,
        }
        Ok(target)
    }

    /// Takes the file that was opened, if it is one and nobody else has it.
    fn take(&self, opened: io::Result<File>) -> Result<()> {
        let name = self.name();
        let cannot = |e: io::Error| match e.raw_os_error() {
            Some(code) if code == Errno::LOOP.raw_os_error() => {
                Error::Data(format!("{name}: a symbolic link, which is not followed"))
            }
            // It was not there when this one began.
            _ if e.kind() == ErrorKind::AlreadyExists => Error::Unfinished(format!(
                "{name}: another program made it meanwhile; run the same command later"
            )),
            _ => Error::io(name.as_str(), e),
        };
        let file = opened.map_err(cannot)?;
        if !file.metadata().map_err(cannot)?.is_file() {
            return Err(Error::Data(format!("{name}: not a regular file")));
        }
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => {
                return Err(Error::Unfinished(format!(
                    "{name}: another program works on it; run the same command later"
                )));
            }
            locked => locked.map_err(|e| cannot(e.into()))?,
        }
        *self.file.borrow_mut() = Some(Arc::new(file));
        Ok(())
    }

    fn name(&self) -> String {
        format!("output {}", self.path.display())
    }

    /// See [`super::Output::passed`].
    pub async fn passed(&self, stream: &Stream) -> Result<u64> {
        let Some(file) = self.file.borrow().clone() else { return Ok(0) };
        let name = self.name();
        let length = file.metadata().map_err(|e| Error::io(name.as_str(), e))?.len();
        let parts = || {
            let volumes = stream.volumes.iter();
            volumes.flat_map(|volume| volume.parts().map(|(part, hash)| (part.size, hash)))
        };
        let passed = resume::verified(&file, &name, parts()).await?;
        let first = parts().next().map_or(0, |(size, _)| size);
        if passed == 0 && length >= first.max(1) {
            return Err(other(&name));
        }
        if passed == stream.size && length > passed {
            return Err(Error::Data(format!("{name}: goes on behind the end of the stream")));
        }
        self.passed.set(passed);
        self.unproven.set(if passed == 0 { length } else { 0 });
        Ok(passed)
    }

    /// See [`super::Output::unproven`].
    pub fn unproven(&self) -> u64 {
        self.unproven.take()
    }

    /// The file, where the stream goes on; what is not verified is cut off.
    pub fn begin(&self) -> Result<Arc<File>> {
        let cannot = |e| Error::io(format!("{}: cannot write", self.name()), e);
        if self.file.borrow().is_none() {
            self.take(create(&self.path))?;
        }
        let Some(file) = self.file.borrow().clone() else {
            return Err(Error::Bug("a file that was opened is not there".to_owned()));
        };
        let passed = self.passed.get();
        if passed > 0 {
            file.set_len(passed).map_err(cannot)?;
        }
        (&*file).seek(SeekFrom::Start(passed)).map_err(cannot)?;
        Ok(file)
    }

    /// Makes it durable.
    pub fn end(&self) -> Result<()> {
        let Some(file) = self.file.borrow().clone() else { return Ok(()) };
        file.sync_all().map_err(|e| self.failed(e))
    }

    pub fn failed(&self, error: io::Error) -> Error {
        // No system call gives this one; [`compare`] does.
        if error.kind() == ErrorKind::InvalidData {
            return other(&self.name());
        }
        Error::io(format!("{}: cannot write", self.name()), error)
    }
}

fn other(name: &str) -> Error {
    Error::Data(format!("{name}: has other bytes than the stream; name another file"))
}

/// How the file is opened: no link, and nothing that would be waited for.
fn options(writes: bool) -> OpenOptions {
    let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).unwrap_or(0);
    let mut options = OpenOptions::new();
    options.read(true).write(writes).mode(0o600).custom_flags(flags);
    options
}

/// Creates the file, and makes its name durable.
fn create(path: &Path) -> io::Result<File> {
    let file = options(true).create_new(true).open(path)?;
    File::open(paths::parent(path))?.sync_all()?;
    Ok(file)
}

/// Whether the `unproven` bytes at the beginning of a file are the first of
/// these.
///
/// # Errors
/// When they are others, or cannot be read.
pub fn compare(file: &File, unproven: u64, bytes: &[u8]) -> io::Result<()> {
    let mut found = vec![0; 1 << 20];
    let mut at = 0_u64;
    let expected = usize::try_from(unproven).ok().and_then(|size| bytes.get(..size));
    let expected = expected.ok_or_else(|| io::Error::from(ErrorKind::InvalidData))?;
    for piece in expected.chunks(found.len()) {
        let Some(found) = found.get_mut(..piece.len()) else { break };
        file.read_exact_at(found, at)?;
        if found != piece {
            return Err(io::Error::from(ErrorKind::InvalidData));
        }
        at = at.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
    }
    Ok(())
}
