//! akashita-choose(1): tell what the next stream of a dataset is based on, and
//! what may be destroyed here.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufReader, stdin};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use akashita::catalog::scan;
use akashita::line::Id;
use akashita::process::{self, Error, Result};
use akashita::tools::choose::input::{Named, archives, spooled};
use akashita::tools::choose::{Kind, Known, Raw, Rules, Send, points};
use clap::Parser;
use jiff::Timestamp;

/// How much is read at once.
const BUFFER: usize = 256 << 10;

/// Decide by a catalog, on standard input, what is based on what and what is old.
#[derive(Parser)]
#[command(name = "akashita-choose", version, after_help = "See akashita-choose(1).")]
struct Options {
    /// Snapshots and bookmarks, as zfs get -H -p -o name,property,value prints them
    points: PathBuf,
    /// The mark of what was made here; without one, nothing was
    #[arg(long, default_value = "")]
    id: String,
    /// What the names of snapshots that are made here begin with
    #[arg(long, default_value = "akashita")]
    prefix: String,
    /// Streams hold a dataset with all below it
    #[arg(long, conflicts_with = "tar")]
    compound: bool,
    /// Streams hold files
    #[arg(long)]
    tar: bool,
    /// How many stored snapshots stay here
    #[arg(long, value_name = "N")]
    keep: usize,
    /// How many streams a chain may have
    #[arg(long, value_name = "N", default_value_t = 0)]
    full_every: u32,
    /// The flags of zfs send, with blanks between
    #[arg(long, value_name = "FLAGS", default_value = "", allow_hyphen_values = true)]
    send: Send,
    /// What is sent raw
    #[arg(long, default_value = "auto")]
    raw: Raw,
    /// What is in the spool, as glacier-ls spool prints it
    #[arg(long, value_name = "FILE")]
    spool: Option<PathBuf>,
    /// Catalog lines of what goes, as glacier-prune prints them
    #[arg(long, value_name = "FILE")]
    gone: Option<PathBuf>,
}

impl Options {
    fn rules(&self) -> Rules {
        let kind = match (self.compound, self.tar) {
            (true, _) => Kind::Compound,
            (_, true) => Kind::Tar,
            _ => Kind::One,
        };
        let (prefix, id) = (self.prefix.clone(), self.id.clone());
        let send = Send { raw: self.raw, ..self.send };
        Rules { prefix, kind, id, keep: self.keep, full_every: self.full_every, send }
    }
}

/// A file, and what it is called in messages.
fn open(file: &Path) -> Result<(BufReader<File>, String)> {
    let name = file.display().to_string();
    match File::open(file) {
        Ok(file) => Ok((BufReader::new(file), name)),
        Err(e) => Err(Error::io(format!("{name}: cannot read"), e)),
    }
}

fn main() -> ExitCode {
    process::run(|options: Options| {
        let rules = options.rules();
        let (points, name) = open(&options.points)?;
        let datasets = points::read(points, &name, &rules)?;
        let mut known = Known::default();

        // All that is asked of the catalog is seen in one reading.
        let mut catalog =
            Named::new(BufReader::with_capacity(BUFFER, stdin().lock()), &rules, &datasets);
        let (mut streams, skipped) = scan::survey(&mut catalog)?;
        known.named.extend(catalog.found());
        if let Some(warning) = skipped.warning() {
            process::warn(&warning);
        }
        if let Some(spool) = &options.spool {
            let (spool, name) = open(spool)?;
            let mut spool = Named::new(spool, &rules, &datasets);
            known.spooled = spooled(&mut spool, &name)?;
            known.named.extend(spool.found());
        }
        let (nothing, now) = (HashSet::new(), Timestamp::now());
        let stored = streams.list(&nothing, now);
        let mut left = None;
        if let Some(gone) = &options.gone {
            let (gone, name) = open(gone)?;
            streams.lost(archives(gone, &name)?.iter().map(Id::as_str));
            left = Some(streams.list(&nothing, now));
        }
        known.take(rules.kind, &stored, left.as_deref().unwrap_or(&stored));
        let lines = rules.lines(&datasets, &known).into_iter().map(|line| line + "\n");
        process::put_out(lines.collect::<String>().as_bytes())
    })
}
