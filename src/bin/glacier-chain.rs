//! glacier-chain(1): print the catalog lines that restore a snapshot.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::AsFd as _;
use std::process::ExitCode;

use akashita::catalog::{Link, scan};
use akashita::cli::{self, Error, Result};
use akashita::line::{Chain, JUNK, Line, endless};
use akashita::neighbour;
use clap::Parser;
use jiff::Timestamp;

/// How much of the catalog is read at once.
const BUFFER: usize = 256 << 10;

/// Print the lines of a catalog, on standard input, that restore a snapshot.
#[derive(Parser)]
#[command(name = "glacier-chain", version, after_help = "See glacier-chain(1).")]
struct Options {
    /// Name, guid or stream id of what is to be restored
    #[arg(required_unless_present = "list")]
    snapshot: Option<String>,
    /// A snapshot that is received already, by name or guid
    #[arg(long, value_name = "SNAPSHOT")]
    from: Vec<String>,
    /// List what can be restored instead
    #[arg(long, conflicts_with = "snapshot")]
    list: bool,
}

fn unreadable(error: io::Error) -> Error {
    Error::io("stdin: cannot read", error)
}

/// The catalog as a file that can be read twice, and where it begins. What
/// comes through a pipe is copied to a file without a name first.
fn input() -> Result<(File, u64)> {
    let mut file = io::stdin().as_fd().try_clone_to_owned().map(File::from).map_err(unreadable)?;
    if file.metadata().map_err(unreadable)?.is_file() {
        let start = file.stream_position().map_err(unreadable)?;
        return Ok((file, start));
    }
    let cannot = |e| Error::io("the copy of the catalog: cannot write (see TMPDIR)", e);
    let mut copy = tempfile::tempfile().map_err(cannot)?;
    let mut buffer = vec![0; BUFFER];
    let (mut number, mut line) = (1, 0_u64);
    loop {
        // Nobody may read what is to come of a catalog that does not come.
        neighbour::wait_for_input(&file)?;
        let length = file.read(&mut buffer).map_err(unreadable)?;
        let piece = match buffer.get(..length) {
            Some([]) | None => return Ok((copy, 0)),
            Some(piece) => piece,
        };
        for end in piece.split_inclusive(|byte| *byte == b'\n') {
            line = line.saturating_add(u64::try_from(end.len()).unwrap_or(u64::MAX));
            if line > JUNK {
                return Err(Error::Data(format!("stdin: {}", endless(number))));
            }
            if end.ends_with(b"\n") {
                (number, line) = (number + 1, 0);
            }
        }
        copy.write_all(piece).map_err(cannot)?;
    }
}

fn from(file: &File, start: u64) -> Result<BufReader<&File>> {
    let mut reader = BufReader::with_capacity(BUFFER, file);
    reader.seek(SeekFrom::Start(start)).map_err(unreadable)?;
    Ok(reader)
}

/// What is to follow, so that glacier-get can tell that all of it came.
fn head(links: &[Link]) -> Result<String> {
    let last = links.last().ok_or_else(|| Error::Bug("a chain has no stream".to_owned()))?;
    let streams = u32::try_from(links.len())
        .map_err(|_| Error::Data("the chain has too many streams".to_owned()))?;
    Line::Chain(Chain { stream: last.stream, streams }).text()
}

fn main() -> ExitCode {
    cli::run(|options: Options| {
        let (file, start) = input()?;
        let (catalog, skipped) = scan::survey(from(&file, start)?)?;
        if let Some(warning) = skipped.warning() {
            cli::warn(&warning);
        }
        let there = options.from.iter().map(|word| catalog.guid(word)).collect::<Result<_>>()?;
        let Some(snapshot) = &options.snapshot else {
            let now = Timestamp::now();
            return catalog.list(&there, now).iter().try_for_each(cli::print_line);
        };
        let links = catalog.chain(snapshot, &there)?;
        let spans = scan::select(from(&file, start)?, &links)?;

        let mut reader = from(&file, start)?;
        let mut output = BufWriter::with_capacity(BUFFER, cli::stdout()?.lock());
        let full = |e| Error::io("stdout: cannot write", e);
        output.write_all(head(&links)?.as_bytes()).map_err(full)?;
        let mut here = start;
        let mut line = Vec::new();
        for (begin, length) in spans {
            let there = start + begin;
            let step = i64::try_from(there).and_then(|there| Ok(there - i64::try_from(here)?));
            let step = step.map_err(|_| Error::Bug("a line is beyond 2^63".to_owned()))?;
            reader.seek_relative(step).map_err(unreadable)?;
            line.clear();
            reader.by_ref().take(length).read_to_end(&mut line).map_err(unreadable)?;
            if u64::try_from(line.len()) != Ok(length) {
                return Err(Error::Data("stdin: was cut short while it was read".to_owned()));
            }
            here = there + length;
            line.push(b'\n');
            output.write_all(&line).map_err(full)?;
        }
        output.flush().map_err(full)
    })
}
