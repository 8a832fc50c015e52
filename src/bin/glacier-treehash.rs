//! glacier-treehash(1): print or check the tree hashes of files.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;

use akashita::hash::pool::{BLOCK, BlockPool, Hashers, Hashes, Pending};
use akashita::hash::tree::Hash;
use akashita::line::{MAX, Reader, Text};
use akashita::process::peers::{self, Input};
use akashita::process::worst::Worst;
use akashita::process::{self, Error, Result};
use clap::Parser;
use serde::{Deserialize, Serialize};

/// Blocks in memory: 20 MiB.
const BLOCKS: usize = 10;

/// Files that are read before the hashes of the first are known.
const AHEAD: usize = 64;

/// Print or check the SHA-256 tree hashes of files.
///
/// Without FILE, or where FILE is -, standard input is read. See
/// glacier-treehash(1).
#[derive(Parser)]
#[command(name = "glacier-treehash", version)]
struct Options {
    /// Read lines that this tool printed from FILE, and check what they name
    #[arg(long, conflicts_with = "sha256")]
    check: bool,
    /// Print the linear SHA-256 hash, too
    #[arg(long)]
    sha256: bool,
    /// What to hash, or with --check the lists to check
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// A `treehash` line of glacier-lines(5); without a path, standard input's.
#[derive(Serialize, Deserialize)]
struct Line {
    r#type: Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    size: u64,
    treehash: Hash,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<Hash>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Treehash,
}

/// What was read to its end: its name, its hashes to come, and what they
/// should be.
struct Entry {
    path: Option<String>,
    pending: Pending,
    listed: Option<Line>,
}

fn main() -> ExitCode {
    process::run(|mut options: Options| {
        if options.files.is_empty() {
            options.files.push(PathBuf::from("-"));
        }
        let input = Hashing { hashers: Hashers::on_all_cores()?, pool: BlockPool::new(BLOCKS) };
        let (entries, read) = mpsc::sync_channel(AHEAD);
        thread::scope(|scope| {
            let reporter = scope.spawn(move || report(&read));
            for file in &options.files {
                let name = (file.as_os_str() != "-").then_some(file.as_path());
                let goes_on = if options.check {
                    input.check(name, &entries)
                } else {
                    entries.send(input.file(name, options.sha256, None)).is_ok()
                };
                // A report that ended says why.
                if !goes_on {
                    break;
                }
            }
            drop(entries);
            reporter.join().unwrap_or_else(|_| Err(Error::Bug("the report failed".to_owned())))
        })
    })
}

/// What reads, and hands on to the threads that hash.
struct Hashing {
    hashers: Hashers,
    pool: BlockPool,
}

impl Hashing {
    /// Reads a file (or standard input) to its end, and has it hashed.
    fn file(&self, name: Option<&Path>, linear: bool, listed: Option<Line>) -> Result<Entry> {
        let path = match name.map(|path| path.to_str().ok_or(path)).transpose() {
            Ok(path) => path.map(str::to_owned),
            Err(path) => {
                let path = path.display();
                return Err(Error::Data(format!("{path}: a name that is not UTF-8 fits no line")));
            }
        };
        // With --check nothing is printed, so nobody need read it.
        let mut input = open(name, listed.is_none())?;
        let mut run = self.hashers.run(linear);
        loop {
            let mut block = self.pool.take();
            block.fill_from(&mut input, BLOCK).map_err(|e| Input::failed(title(name), e))?;
            if block.is_empty() {
                return Ok(Entry { path, pending: run.finish(), listed });
            }
            run.block(Arc::new(block));
        }
    }

    /// Reads the files that a list names; says whether to go on.
    fn check(&self, list: Option<&Path>, entries: &SyncSender<Result<Entry>>) -> bool {
        let bad = |what: &str| Err(Error::Data(format!("{}: {what}", title(list))));
        let mut lines = match open(list, false) {
            Ok(input) => Reader::new(BufReader::new(input)),
            Err(e) => return entries.send(Err(e)).is_ok(),
        };
        let mut empty = true;
        loop {
            let line = match lines.read() {
                Ok(Some(Text::Line(text))) => serde_json::from_str::<Line>(&text)
                    .map_err(|_| "not a whole treehash line".to_owned()),
                // No list at all: a message for each line would help nobody.
                Ok(Some(Text::Bad(why))) if lines.number == 1 && why == "not UTF-8" => {
                    return entries.send(bad("not a list of glacier-treehash")).is_ok();
                }
                Ok(Some(Text::Bad(why))) => Err(why),
                Ok(None) if empty => return entries.send(bad("no treehash line")).is_ok(),
                Ok(None) => return true,
                Err(e) => return entries.send(Err(Error::io(title(list), e))).is_ok(),
            };
            empty = false;
            let entry = match line {
                Ok(Line { path: None, .. }) if list.is_none() => {
                    bad(&format!("line {}: names the input that the list is in", lines.number))
                }
                Ok(line) => {
                    let path = line.path.as_ref().map(PathBuf::from);
                    self.file(path.as_deref(), line.sha256.is_some(), Some(line))
                }
                Err(why) => bad(&format!("line {}: {why}", lines.number)),
            };
            if entries.send(entry).is_err() {
                return false;
            }
        }
    }
}

/// Prints or compares what was read. Each failure is said once, the worst at
/// the end, as it gives the exit code.
fn report(entries: &Receiver<Result<Entry>>) -> Result<()> {
    let mut worst = Worst::default();
    for entry in entries {
        let (rank, failure) = match entry.and_then(Entry::settle) {
            Ok(None) => continue,
            Ok(Some(line)) => match process::print_line(&line) {
                Ok(()) => continue,
                Err(Error::Io(_, e)) if e.kind() == io::ErrorKind::BrokenPipe => {
                    (u8::MAX, peers::gone())
                }
                Err(e) => (u8::MAX, e),
            },
            // Nobody reads what would follow.
            Err(e @ Error::Unfinished(_)) => (u8::MAX, e),
            Err(e) => (e.code(), e),
        };
        worst.add_as(rank, failure);
        if rank == u8::MAX {
            break;
        }
    }
    worst.finish()
}

impl Entry {
    /// Waits for the hashes: a line to print, or nothing if they are as
    /// listed.
    fn settle(self) -> Result<Option<Line>> {
        let name = title(self.path.as_deref().map(Path::new));
        let Hashes { treehash, sha256, size } = self.pending.wait()?;
        let Some(listed) = self.listed else {
            let line = Line { r#type: Kind::Treehash, path: self.path, size, treehash, sha256 };
            // With its newline.
            if serde_json::to_vec(&line).is_ok_and(|text| text.len() >= MAX) {
                return Err(Error::Data(format!("{name}: too long a name for a line")));
            }
            return Ok(Some(line));
        };
        if size != listed.size {
            return Err(Error::No(format!("{name}: has {size} bytes, not {}", listed.size)));
        }
        if treehash != listed.treehash {
            return Err(Error::No(format!("{name}: tree hash differs")));
        }
        if sha256 != listed.sha256 {
            return Err(Error::No(format!("{name}: SHA-256 differs")));
        }
        Ok(None)
    }
}

/// Opens a file, or standard input; what `watches` is waited for only as long
/// as somebody reads what is printed.
fn open(name: Option<&Path>, watches: bool) -> Result<Box<dyn Read>> {
    let input = match name {
        Some(path) => File::open(path).map(Input::of),
        None => Input::stdin(),
    };
    let input = input.map_err(|e| Error::io(title(name), e))?;
    Ok(if watches { Box::new(input) } else { Box::new(input.unwatched()) })
}

/// What a message calls a file.
fn title(name: Option<&Path>) -> String {
    name.map_or_else(|| "stdin".to_owned(), |path| path.display().to_string())
}
