//! glacier-chunk(1): cut a byte stream into parts in a spool, with their
//! hashes.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use akashita::partsize;
use akashita::process::paths;
use akashita::process::{self, Error, Result};
use akashita::storage::Dest;
use akashita::tools::chunk::{self, Keep, Settings};
use akashita::units::{self, Limit};
use clap::Parser;

/// How long to wait for room while no glacier-put works, where nobody reads
/// our lines as they come.
const ALONE: Duration = Duration::from_mins(1);

/// The same in a pipe: a glacier-window(1) behind us may be closed for most
/// of a day.
const IN_A_PIPE: Duration = Duration::from_hours(24);

/// Cut a byte stream into parts in a spool, and print their hashes as JSON lines.
#[derive(Parser)]
#[command(name = "glacier-chunk", version, after_help = "See glacier-chunk(1).")]
struct Options {
    #[arg(long, value_name = "DIR", help = "Keep parts in this directory [$GLACIER_SPOOL]")]
    spool: Option<PathBuf>,
    /// Bytes in a part: 2^n MiB
    #[arg(long, value_name = "SIZE", default_value = partsize::PART, value_parser = partsize::part)]
    part_size: u64,
    /// Bytes in a volume: 2^n MiB
    #[arg(long, value_name = "SIZE", default_value = partsize::VOLUME, value_parser = partsize::volume)]
    volume_size: u64,
    /// Name the stream; one of ZFS has a name of its own
    #[arg(long, value_parser = name)]
    name: Option<String>,
    /// What the input went through, in order
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Take the stream as whole if FILE exists at its end
    #[arg(long, value_name = "FILE")]
    whole: Vec<PathBuf>,
    /// Take the end of the input for the end of the stream
    #[arg(long)]
    trust_eof: bool,
    /// Hold at most this much of it in the spool, or "none"
    #[arg(long, value_name = "SIZE", value_parser = units::limit)]
    spool_limit: Option<Limit>,
    /// Leave this much of the disk free
    #[arg(long, value_name = "SIZE", default_value = "256M", value_parser = units::size)]
    reserve: u64,
    /// Wait this long for room while no glacier-put works
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    patience: Option<Duration>,
    /// Only say what the stream holds, and if it is whole
    #[arg(long, conflicts_with_all = ["spool", "spool_limit", "reserve", "patience"])]
    inspect: bool,
    /// Run this and cut its output, instead of standard input
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

fn settings(options: Options) -> Result<Settings> {
    partsize::fits(options.part_size, options.volume_size).map_err(Error::Usage)?;
    let keep = if options.inspect { None } else { Some(keep(&options)?) };
    // Not read by clap, which would repeat a secret.
    let filter = options.filter.map(|text| text.parse());
    let filter = filter.transpose().map_err(|why| Error::Usage(format!("--filter: {why}")))?;
    Ok(Settings {
        keep,
        part_size: options.part_size,
        volume_size: options.volume_size,
        name: options.name,
        filter,
        host: paths::host(),
        markers: options.whole,
        trust_eof: options.trust_eof,
        command: options.command,
    })
}

fn keep(options: &Options) -> Result<Keep> {
    let piped = is_pipe(io::stdout());
    let least = options.volume_size.saturating_add(options.part_size);
    // What a filter gives cannot be made again, so all of it must have room.
    let limit = options.spool_limit.unwrap_or(if piped && options.filter.is_none() {
        Limit::Bytes(least.max(options.volume_size.saturating_mul(2)))
    } else {
        Limit::None
    });
    if let Limit::Bytes(bytes) = limit
        && bytes < least
    {
        return Err(Error::Usage(format!(
            "--spool-limit: {} cannot hold a volume of {} and a part of {}",
            units::bytes(bytes),
            units::bytes(options.volume_size),
            units::bytes(options.part_size)
        )));
    }
    let dest = paths::usual_dest().map(|dest| dest.parse::<Dest>()).transpose();
    let dest = dest.map_err(|why| Error::Usage(format!("GLACIER_DEST: {why}")))?;
    Ok(Keep {
        spool: paths::spool(options.spool.clone())?,
        dest: dest.map(|dest| dest.to_string()),
        limit,
        reserve: options.reserve,
        patience: options.patience.unwrap_or(if piped { IN_A_PIPE } else { ALONE }),
    })
}

fn name(text: &str) -> Result<String, &'static str> {
    if text.is_empty() { Err("empty") } else { Ok(text.to_owned()) }
}

/// Whether somebody may read our lines as they come.
fn is_pipe(output: impl std::os::fd::AsFd) -> bool {
    rustix::fs::fstat(output).is_ok_and(|stat| {
        rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Fifo
    })
}

fn main() -> ExitCode {
    let run = |options| chunk::run(&settings(options).inspect_err(process::tell_early)?);
    process::run_and_tell(run, process::tell_early)
}
