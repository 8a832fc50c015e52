//! glacier-proof(1): pass a ZFS stream on as it is, and write down what it is
//! and that it was whole, for a glacier-chunk(1) that sees it no more.
//!
//! A filter such as age(1) stands between the two. So what only the stream can
//! tell goes around the filter, in a file: its `stream` line before the first
//! byte is passed on, its `end` line when the end is proven and every byte was
//! taken. The file has its name only with the first of them, as an empty one
//! would be taken for a marker.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read as _, Write};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FileType, OFlags, Timespec, Timestamps, UTIME_NOW};
use tempfile::NamedTempFile;

use crate::error::{Error, Result};
use crate::line::{self, Line, Stream};
use crate::process;
use crate::process::paths;
use crate::process::peers;
use crate::stream::input::{Input, enlarge};
use crate::stream::lineage::{self, End, PART_SIZE};
use crate::stream::proof::Proofs;
use crate::stream::source::{Source, Whole};

/// The longest pause between two looks whether all was taken.
const LOOK: Duration = Duration::from_millis(50);

/// How every file of this program begins.
const BEGINS: &[u8] = br#"{"type":"stream","#;

/// What the command line says.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the lines go.
    pub file: PathBuf,
    /// Files that prove the end.
    pub markers: Vec<PathBuf>,
    /// Whether the end of the input is the end of the stream.
    pub trust_eof: bool,
    /// The command to run, instead of reading standard input.
    pub command: Vec<OsString>,
}

/// Passes the input on.
///
/// # Errors
/// Whatever kept it from its proven end; the file has no `end` line then.
pub fn run(settings: &Settings) -> Result<()> {
    let output = process::stdout()?.as_fd().try_clone_to_owned();
    let mut output = File::from(output.map_err(|e| Error::io("stdout: cannot open", e))?);
    enlarge(&output);
    let command = &settings.command;
    let proofs = Proofs::begin(&settings.markers, settings.trust_eof, !command.is_empty());
    // What is stale goes before anything can fail: it must never count.
    let draft = Draft::new(&settings.file)?;
    let input = Input::open(command)?;
    let proofs = proofs.since(input.made());
    let mut source = Source::new(input, PART_SIZE);
    let blocks = source.head(false)?;
    let Some(head) = source.head_of_zfs() else {
        return Err(Error::Data("stdin: not a ZFS stream".to_owned()));
    };
    let stream = lineage::stream(head);
    source.demand(&proofs)?;
    let mut record = draft.begin(&stream)?;
    let mut size = 0;
    let mut blocks = blocks.into_iter();
    loop {
        let block = match blocks.next() {
            Some(block) => block,
            None => source.block()?,
        };
        for snapshot in source.snapshots(stream.stream)? {
            record.add(&Line::Snapshot(snapshot).text()?)?;
        }
        if block.is_empty() {
            break;
        }
        output.write_all(&block).map_err(peers::unwritten)?;
        // The shell starts the filter when it has made the pipe behind it. So
        // what is written now is not older than the pipe of a chunk there.
        if size == 0 {
            taken(&output, block.len())?;
            record.touch()?;
        }
        size += block.len() as u64;
    }
    // I1: the end is written down when it is proven and every byte was taken,
    // and before standard output closes, which it does with this process.
    // Held by tests/proof.rs::a_stream_cut_anywhere_gets_no_end and
    // tests/proof.rs::a_reader_that_ends_early_leaves_no_end.
    taken(&output, 1)?;
    let Whole { proofs: whole, misplaced } = source.prove(&proofs)?;
    record.end(&End { stream: stream.stream, size, whole, misplaced })
}

/// Waits until what reads standard output has left less than this in the pipe:
/// what was only written to it is lost with a reader that ends early, be it
/// with success. Where the system does not tell, its own proof must.
fn taken(output: &File, least: usize) -> Result<()> {
    let least = u64::try_from(least).unwrap_or(u64::MAX);
    let stat = rustix::fs::fstat(output).map_err(|e| Error::io("stdout", e))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Fifo {
        return Ok(());
    }
    let mut pause = Duration::from_millis(1);
    while rustix::io::ioctl_fionread(output).is_ok_and(|left| left >= least) {
        peers::wait(pause)?;
        pause = (pause * 2).min(LOOK);
    }
    Ok(())
}

/// The file before it has its name.
struct Draft<'a> {
    path: &'a Path,
    file: NamedTempFile,
}

/// The file.
struct Record<'a> {
    path: &'a Path,
    file: File,
}

fn cannot(path: &Path, what: &str) -> impl FnOnce(io::Error) -> Error {
    let thing = format!("{}: cannot {what}", path.display());
    move |e| Error::io(thing, e)
}

impl<'a> Draft<'a> {
    fn new(path: &'a Path) -> Result<Self> {
        if path.file_name().is_none() {
            return Err(Error::Usage(format!("{}: no name of a file", path.display())));
        }
        clear(path)?;
        let file =
            tempfile::Builder::new().prefix(".glacier-proof").tempfile_in(paths::parent(path));
        Ok(Self { path, file: file.map_err(cannot(path, "create"))? })
    }

    /// Gives the file its first line, and with that its name.
    fn begin(mut self, stream: &Stream) -> Result<Record<'a>> {
        let text = Line::Stream(stream.clone()).text()?;
        self.file.write_all(text.as_bytes()).map_err(cannot(self.path, "write"))?;
        let file =
            self.file.persist(self.path).map_err(|e| cannot(self.path, "create")(e.error))?;
        Ok(Record { path: self.path, file })
    }
}

impl Record<'_> {
    fn add(&mut self, text: &str) -> Result<()> {
        self.file.write_all(text.as_bytes()).map_err(cannot(self.path, "write"))
    }

    /// Gives it the time of now, by the clock that files are made by.
    fn touch(&self) -> Result<()> {
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let now = Timestamps { last_access: now, last_modification: now };
        rustix::fs::futimens(&self.file, &now).map_err(|e| cannot(self.path, "write")(e.into()))
    }

    fn end(mut self, end: &End) -> Result<()> {
        self.add(&line::json(end)?)?;
        self.file.sync_all().map_err(cannot(self.path, "write"))
    }
}

/// Removes what an earlier run left under the name: a link, but never what it
/// leads to, and no file that others might miss.
fn clear(path: &Path) -> Result<()> {
    let there = match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        there => there.map_err(cannot(path, "look at it"))?,
    };
    if !there.is_symlink() && !is_ours(path, &there).map_err(cannot(path, "read"))? {
        return Err(Error::Usage(format!(
            "{}: is there already and no file of glacier-proof; give another name",
            path.display()
        )));
    }
    fs::remove_file(path).map_err(cannot(path, "remove"))
}

/// Whether it is empty, or a file of this program.
fn is_ours(path: &Path, there: &fs::Metadata) -> io::Result<bool> {
    if !there.is_file() || there.len() == 0 {
        return Ok(there.is_file());
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, rustix::fs::Mode::empty())?);
    let mut first = Vec::new();
    file.take(BEGINS.len() as u64).read_to_end(&mut first)?;
    Ok(first == BEGINS)
}
