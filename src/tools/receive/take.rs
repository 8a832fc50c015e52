//! A stream that glacier-get passes on, to where it goes.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::chain::{self, Incoming};
use super::pipeline::Pipeline;
use super::undo::{Refusal, Stage};
use super::{Settings, Target, failed_here, first_line, writes, zfs};
use crate::error::{Error, Result};
use crate::line::{Line, Reader, Text};
use crate::process::{self, escape::printable};

/// The list of files that are whole.
pub const STREAMS: &str = "streams";

/// Where it is written down what was done.
#[derive(Debug, Default)]
pub struct Records {
    /// Guid and name of a dataset that was made.
    pub made: Option<PathBuf>,
    /// How each stream ended.
    pub report: Option<PathBuf>,
}

/// How a stream is written to a file: its name, and what undoes its filters;
/// or why they are not.
pub(super) fn as_file(stream: &Incoming, undo: Result<&[Stage], &Refusal>) -> String {
    let Incoming { number, id, name, guid, .. } = stream;
    let safe = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.' | b':' | b'-' => char::from(byte),
        _ => '_',
    };
    let name = match (stream.is_zfs(), guid) {
        (true, Some(guid)) => guid.to_string(),
        (true, None) => id.to_string(),
        (false, _) => name.bytes().map(safe).collect(),
    };
    let ending = match undo {
        Err(_) => ".stored",
        Ok(_) if stream.is_zfs() => ".zfs",
        Ok(_) => "",
    };
    format!("{number:03}-{name}{ending}")
}

/// The line that says of a file that it is whole.
pub(super) fn listed(file: &str, stream: &Incoming) -> String {
    format!("{file}\t{}\t{}", stream.id, stream.name)
}

/// Takes the stream of this id on standard input. `whole` is the file that is
/// there once all of it was passed on.
///
/// # Errors
/// When it is not received whole: with its name, and why.
pub fn take(settings: &Settings, id: &str, whole: &Path, records: &Records) -> Result<()> {
    let thing = settings.chain.display().to_string();
    let file =
        File::open(&settings.chain).map_err(|e| Error::io(format!("{thing}: cannot open"), e))?;
    let streams = chain::read(BufReader::new(file), &thing)?;
    let stream = streams.into_iter().find(|stream| stream.id.to_string() == id);
    let stream = stream.ok_or_else(|| Error::Data(format!("{id}: not a stream of {thing}")))?;
    let taken = receive(settings, &stream, whole, records).map_err(|e| about(&stream.name, e));
    if let Some(report) = &records.report {
        let line = match &taken {
            Ok(()) => format!("received\t{id}"),
            Err(error) => format!("failed\t{}", printable(&error.to_string())),
        };
        append(report, OpenOptions::new(), &line).or_else(|e| writes(report, Err(e)))?;
    }
    taken
}

/// An error with the name of what it is about.
fn about(name: &str, error: Error) -> Error {
    match error {
        Error::Io(thing, reason) => Error::Io(format!("{name}: {thing}"), reason),
        error => Error::from_code(error.code(), format!("{name}: {error}")),
    }
}

fn receive(settings: &Settings, stream: &Incoming, whole: &Path, records: &Records) -> Result<()> {
    let mut undo = settings.keys.undo(stream.filter.as_deref());
    // What is still packed cannot be mended.
    if let Ok(stages) = &mut undo
        && stream.misplaced > 0
    {
        mend(settings, stream, stages);
    }
    match &settings.target {
        Target::Dataset(target) => {
            let pipeline = Pipeline::start(undo.map_err(refused)?)?;
            into_dataset(pipeline, stream, target, records)?;
            is_whole(whole)?;
            for point in &stream.points {
                let name = format!("{target}{}", point.below);
                let there = zfs::guid(&name).unwrap_or_default();
                differs(&name, &point.guid.to_string(), &there)?;
            }
            Ok(())
        }
        Target::Proof => {
            let pipeline = Pipeline::start(undo.map_err(refused)?)?;
            if !stream.is_zfs() {
                pipeline.into_writer(io::sink(), |e| Error::io("cannot write", e))?;
                return is_whole(whole);
            }
            let there = inspected(pipeline, stream.guid.is_none())?;
            is_whole(whole)?;
            for point in &stream.points {
                let guid = point.guid.to_string();
                let there = there.iter().find(|it| **it == guid);
                differs(&point.below, &guid, there.map_or("", String::as_str))?;
            }
            Ok(())
        }
        Target::Files(directory) => {
            let file = as_file(stream, undo.as_deref());
            // What cannot be undone is written as it is stored.
            let pipeline = Pipeline::start(undo.unwrap_or_default())?;
            into_file(pipeline, stream, &file, directory, whole)
        }
    }
}

/// Has glacier-mend put back what the sender embedded wrongly, and tells so;
/// or tells what is lost.
fn mend(settings: &Settings, stream: &Incoming, stages: &mut Vec<Stage>) {
    let Incoming { name, misplaced, .. } = stream;
    let told = format!("{name}: {misplaced} long links or sets of extended attributes");
    if settings.as_sent {
        process::warn(&format!("{told} stay as they were sent, and zfs receive loses them"));
        return;
    }
    process::warn(&format!("{told} that zfs receive would lose are put back"));
    let command = ["glacier-mend", "--quiet"].map(OsString::from).into();
    stages.push(Stage { name: "glacier-mend", command });
}

fn refused(refusal: Refusal) -> Error {
    Error::Configuration(refusal.why)
}

/// That glacier-get has passed on all of it: the end of a pipe proves nothing,
/// as it may have been killed.
fn is_whole(whole: &Path) -> Result<()> {
    if whole.is_file() {
        Ok(())
    } else {
        Err(Error::Unfinished("glacier-get ended before the stream did".to_owned()))
    }
}

/// That a snapshot is the one of the catalog.
fn differs(name: &str, guid: &str, there: &str) -> Result<()> {
    if there == guid {
        return Ok(());
    }
    let there = if there.is_empty() { "none" } else { there };
    Err(Error::Data(format!("{name}: its guid is {there}, not {guid}")))
}

/// Gives a stream to zfs receive.
fn into_dataset(
    pipeline: Pipeline,
    stream: &Incoming,
    target: &str,
    records: &Records,
) -> Result<()> {
    let mut run = Command::new("zfs");
    run.arg("receive");
    // Behind the first, one that holds datasets takes away what the sender has
    // not.
    if stream.number > 1 && stream.has_several() {
        run.arg("-F");
    }
    run.args(["-u", target]);
    let made = || match &records.made {
        // What is there now was not before.
        Some(made) if stream.number == 1 => note_made(made, target),
        _ => Ok(()),
    };
    let refused = |said: String| {
        let said: Vec<&str> = said.lines().collect();
        failed_here(said.join(" "))
    };
    pipeline.into_program("zfs receive", run, Stdio::null(), made, refused)
}

/// Writes down what was made, by the guid that is its own.
fn note_made(made: &Path, target: &str) -> Result<()> {
    let guid = zfs::guid(target)
        .ok_or_else(|| failed_here(format!("{target}: cannot be asked for its guid")))?;
    let line = format!("{guid}\t{target}");
    writes(made, append(made, OpenOptions::new(), &line))
}

/// Gives a stream to glacier-chunk; the guids of what is in it.
fn inspected(pipeline: Pipeline, is_compound: bool) -> Result<Vec<String>> {
    let failed = |e| Error::io("glacier-chunk: cannot start", e);
    let mut told = tempfile::tempfile().map_err(failed)?;
    let mut run = Command::new("glacier-chunk");
    run.arg("--inspect");
    // A compound stream has all its proof in that it has come whole.
    if is_compound {
        run.arg("--trust-eof");
    }
    let output = Stdio::from(told.try_clone().map_err(failed)?);
    let refused = |said: String| Error::Data(first_line(&said, String::new));
    pipeline.into_program("glacier-chunk", run, output, || Ok(()), refused)?;
    let mut guids = Vec::new();
    io::Seek::rewind(&mut told).map_err(failed)?;
    let mut reader = Reader::new(BufReader::new(told));
    while let Some(text) = reader.read().map_err(failed)? {
        let Text::Line(text) = text else { continue };
        if let Ok(Some(Line::Snapshot(snapshot))) = Line::parse(&text) {
            guids.push(snapshot.guid.to_string());
        }
    }
    Ok(guids)
}

/// Writes a stream to a new file of the working directory, which has its name
/// only when it is whole, and is listed then. What a run that was killed has
/// left is removed, and nothing that has the name is written through.
fn into_file(
    pipeline: Pipeline,
    stream: &Incoming,
    file: &str,
    directory: &str,
    whole: &Path,
) -> Result<()> {
    let new = format!("{file}.new");
    let failed = |e: io::Error| Error::io(format!("{directory}/{new}: cannot be written"), e);
    match fs::remove_file(&new) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        removed => removed.map_err(failed)?,
    }
    let out = OpenOptions::new().write(true).create_new(true).open(&new).map_err(failed)?;
    pipeline.into_writer(&out, failed)?;
    is_whole(whole)?;
    out.sync_all().map_err(failed)?;
    let renamed = if Path::new(file).is_dir() {
        Err(io::ErrorKind::IsADirectory.into())
    } else {
        fs::rename(&new, file).and_then(|()| File::open(".")?.sync_all())
    };
    renamed.map_err(|e| Error::io(format!("{directory}/{file}: cannot be renamed"), e))?;
    let mut options = OpenOptions::new();
    options.custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed());
    append(Path::new(STREAMS), options, &listed(file, stream))
        .map_err(|e| Error::io(format!("{directory}/{STREAMS}: cannot be written"), e))
}

/// Adds a line to a file, and has it on the disk.
fn append(path: &Path, mut options: OpenOptions, line: &str) -> io::Result<()> {
    let mut file = options.append(true).create(true).open(path)?;
    file.write_all(format!("{line}\n").as_bytes())?;
    match file.sync_all() {
        // What is no file need not be on a disk.
        Err(e) if e.kind() == io::ErrorKind::InvalidInput => Ok(()),
        synced => synced,
    }
}
