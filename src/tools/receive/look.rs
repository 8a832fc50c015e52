//! Which streams of a chain a target lacks, before anything is paid for.

use std::fs::{self, File};
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use super::chain::{self, Incoming};
use super::take::{STREAMS, as_file, listed};
use super::zfs::{self, Snapshots};
use super::{Settings, Target, failed_here, quoted, writes};
use crate::error::{Error, Result};
use crate::process;
use crate::process::escape::printable;

/// What is asked.
#[derive(Debug)]
pub struct Question {
    /// The word that the chain was asked for by.
    pub wanted: String,
    /// Where the lines of the streams that lack are written.
    pub lines: PathBuf,
}

/// Writes the lines of the streams that a target lacks. Gives lines for a
/// script: `of` with the name of what is wanted; `bring` with the size and the
/// name of each stream; or `there` with the snapshot that is wanted, where it
/// is there.
///
/// # Errors
/// When one of them could not be received.
pub fn look(settings: &Settings, question: &Question) -> Result<Vec<String>> {
    let Question { wanted, lines } = question;
    let thing = settings.chain.display().to_string();
    let failed = |e: io::Error| Error::io(format!("{thing}: cannot read"), e);
    let mut chain = File::open(&settings.chain).map_err(failed)?;
    let streams = chain::read(BufReader::new(&chain), &thing)?;
    // A guid tells nobody anything.
    let is_hexadecimal = wanted.bytes().all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'));
    let last = streams.last().map(|stream| stream.name.as_str()).unwrap_or_default();
    let label = if is_hexadecimal { last } else { wanted };
    let mut told = vec![format!("of\t{}", printable(label))];
    let mut has = 0;
    if let Target::Dataset(target) = &settings.target {
        if !streams.iter().all(Incoming::is_zfs) {
            return Err(Error::Data(format!("{label}: not a stream of ZFS; use -f")));
        }
        if let Some(there) = snapshots(target)? {
            has = there.has(&streams);
            if has == 0 {
                return Err(Error::Data(format!(
                    "{target}: is there, and does not end with a snapshot that leads to {label}; \
                     name another, or destroy it"
                )));
            }
            told.extend(
                point(&there, &streams, label).map(|point| format!("there\t{}", printable(point))),
            );
        }
    }
    let mut output = writes(lines, File::create(lines))?;
    for stream in lacking(&streams, has, settings)? {
        told.push(format!("bring\t{}\t{}", stream.size, printable(&stream.name)));
        let (begin, end) = stream.span;
        chain.seek(SeekFrom::Start(begin)).map_err(failed)?;
        let copied = io::copy(&mut (&chain).take(end.saturating_sub(begin)), &mut output);
        writes(lines, copied)?;
    }
    Ok(told)
}

/// The snapshots of a target that is there; else it must be possible to make
/// it.
fn snapshots(target: &str) -> Result<Option<Snapshots>> {
    if target.is_empty() {
        return Ok(None);
    }
    let cannot = |name: &str, why: &str| failed_here(format!("{name}: {why}"));
    if !zfs::is_there(target) {
        let parent = target.rsplit_once('/').map_or(target, |(parent, _)| parent);
        if zfs::is_there(parent) {
            return Ok(None);
        }
        return Err(cannot(parent, "cannot be opened; zfs create makes it"));
    }
    if let Some(token) = zfs::token(target) {
        let cure = quoted(&token);
        return Err(Error::Data(format!(
            "{token}: a receive was broken off here, with its token left; remove it with: zfs \
             receive -A {cure}"
        )));
    }
    let there = Snapshots::of(target).ok_or_else(|| cannot(target, "cannot be listed"))?;
    Ok(Some(there))
}

/// The snapshot of the target that is what is wanted.
fn point<'a>(there: &'a Snapshots, streams: &[Incoming], label: &str) -> Option<&'a str> {
    let short = label.rsplit_once('@').map_or(label, |(_, short)| short);
    let below = format!("@{short}");
    let points = streams.iter().flat_map(|stream| &stream.points);
    let wanted = points.rev().find(|point| point.below == below)?;
    there.named(&wanted.guid.to_string())
}

/// The streams that are still to come. What is paid for is not what was
/// wanted, if a filter is not undone by mistake.
fn lacking<'a>(
    streams: &'a [Incoming],
    has: usize,
    settings: &Settings,
) -> Result<Vec<&'a Incoming>> {
    let there = match &settings.target {
        Target::Files(directory) => files(directory)?,
        _ => Vec::new(),
    };
    let mut lacking = Vec::new();
    for stream in streams.iter().skip(has) {
        let undo = settings.keys.undo(stream.filter.as_deref());
        let is_file = matches!(settings.target, Target::Files(_));
        if let Err(refusal) = &undo {
            let why = format!("{}: {}", stream.name, refusal.why);
            if refusal.is_configured || !is_file {
                return Err(Error::Configuration(why));
            }
            process::warn(&format!("{why}; stays as it is stored"));
        }
        let file = as_file(stream, undo.as_deref());
        let line = listed(&file, stream);
        if !(is_file && there.contains(&line) && Path::new(&file).is_file()) {
            lacking.push(stream);
        }
    }
    Ok(lacking)
}

/// What is listed as whole in the working directory.
fn files(directory: &str) -> Result<Vec<String>> {
    if !Path::new(STREAMS).is_file() {
        return Ok(Vec::new());
    }
    let text = fs::read(STREAMS)
        .map_err(|e| Error::io(format!("{directory}/{STREAMS}: cannot be read"), e))?;
    Ok(String::from_utf8_lossy(&text).lines().map(str::to_owned).collect())
}
