//! glacier-get(1): bring streams back from Amazon Glacier, verified.

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use akashita::catalog::scan::Skipped;
use akashita::cli::{self, Error, Result};
use akashita::get::output::Output;
use akashita::get::plan::{Lines, Plan};
use akashita::get::{self, Settings};
use akashita::line::{Line, Reader, Text};
use akashita::units;
use akashita::vault::Tier;
use akashita::vault::aws::Access;
use akashita::vault::glacier::Glacier;
use akashita::vault::retry::Patience;
use clap::Parser;

/// Bring back the streams whose catalog lines are on standard input, verified.
#[derive(Parser)]
#[command(name = "glacier-get", version, after_help = "See glacier-get(1).")]
struct Options {
    /// How quickly to bring archives up: Expedited, Standard, Bulk
    #[arg(long, default_value_t = Tier::Standard)]
    tier: Tier,
    /// Ask for archives, and end with 75 if one is not ready
    #[arg(long)]
    no_wait: bool,
    /// Take what is there of streams that lack lines
    #[arg(long)]
    partial: bool,
    /// Download this many pieces at once
    #[arg(long, value_name = "N", default_value_t = 4,
          value_parser = units::within(1_u8, 64))]
    concurrency: u8,
    /// Go on this long after failures that may pass
    #[arg(long, value_name = "TIME", default_value = "8h", value_parser = units::duration)]
    patience: Duration,
    /// Show no progress on a terminal
    #[arg(long)]
    quiet: bool,
    #[command(flatten)]
    access: Access,
    /// Run this once for each stream, with the stream as its input
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Reads standard input to its end, before anything is asked or written.
fn plan(partial: bool) -> Result<Plan> {
    let mut reader = Reader::new(io::stdin().lock()).bounded();
    let unreadable = |e: io::Error| match e.kind() {
        io::ErrorKind::InvalidData => Error::Data(format!("stdin: {e}")),
        _ => Error::io("stdin: cannot read", e),
    };
    let (mut lines, mut skipped) = (Lines::default(), Skipped::default());
    while let Some(text) = reader.read().map_err(unreadable)? {
        let line = match text {
            Text::Line(text) => Line::parse(&text),
            Text::Bad(reason) => Err(reason),
        };
        match line {
            Ok(Some(line)) => lines.take(line)?,
            Ok(None) => skipped.unknown(),
            Err(reason) => skipped.bad(reader.number, reason)?,
        }
    }
    if let Some(warning) = skipped.warning() {
        cli::warn(&warning);
    }
    let plan = lines.plan(partial)?;
    plan.warnings.iter().for_each(|warning| cli::warn(warning));
    Ok(plan)
}

async fn bring(plan: &Plan, options: Options, output: &Output) -> Result<()> {
    let mut vaults = Vec::new();
    for place in &plan.places {
        let mut access = options.access.clone();
        if access.region.is_none() && !place.region.is_empty() {
            access.region = Some(place.region.clone());
        }
        vaults.push(Glacier::open(place.dest.clone(), &access).await?);
    }
    let settings = Settings {
        tier: options.tier,
        no_wait: options.no_wait,
        concurrency: usize::from(options.concurrency),
        patience: Patience { limit: options.patience },
        progress: !options.quiet,
    };
    get::run(plan, &vaults, &settings, output).await
}

fn main() -> ExitCode {
    cli::run(|options: Options| {
        let output = Output::new(options.command.clone())?;
        let plan = plan(options.partial)?;
        if plan.streams.len() > 1 && !output.takes_many() {
            return Err(Error::Data(format!(
                "stdin: {} streams do not fit into one output; use -- COMMAND",
                plan.streams.len()
            )));
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| Error::io("cannot start", e))?;
        let result = runtime.block_on(bring(&plan, options, &output));
        // I5: kills a command that was not given all, before its input closes.
        drop(output);
        // A write that nobody takes would be waited for.
        runtime.shutdown_background();
        result
    })
}
