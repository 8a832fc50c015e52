//! glacier-get(1): bring streams back from Amazon Glacier, verified.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use akashita::prices::{Money, Prices};
use akashita::process::peers;
use akashita::process::{self, Error, Result};
use akashita::storage::aws::Access;
use akashita::storage::retry::Patience;
use akashita::storage::{Service, Tier};
use akashita::tools::get::Task;
use akashita::tools::get::kept::Keep;
use akashita::tools::get::output::Output;
use akashita::tools::get::plan::{Lines, Plan};
use akashita::tools::retrieve::Settings;
use akashita::tools::retrieve::estimate::{Bounds, Restore};
use akashita::units;
use clap::Parser;

/// Bring back the streams whose catalog lines are on standard input, verified.
#[derive(Parser)]
#[command(name = "glacier-get", version, after_help = "See glacier-get(1).")]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
struct Options {
    /// How quickly to bring archives up: Expedited, Standard, Bulk [default: by class]
    #[arg(long)]
    tier: Option<Tier>,
    /// Print what it takes in each tier, and ask nothing
    #[arg(long)]
    plan: bool,
    /// Ask for archives, print the lines to fetch them by later, and end
    #[arg(long, conflicts_with = "plan")]
    request: bool,
    /// Ask for archives, and end with 75 if one is not ready
    #[arg(long)]
    no_wait: bool,
    /// Write the one stream to FILE, and go on where that ends
    #[arg(long, value_name = "FILE", conflicts_with_all = ["command", "keep"])]
    output: Option<PathBuf>,
    /// Keep verified volumes in DIR, and take those that are there
    #[arg(long, value_name = "DIR", conflicts_with = "range")]
    keep: Option<PathBuf>,
    /// Only this volume of the one stream; may be repeated
    #[arg(long, value_name = "N", value_parser = units::within(0_u32, u32::MAX))]
    volume: Vec<u32>,
    /// Only these bytes of the one stream: whole parts
    #[arg(long, value_name = "FIRST-LAST", conflicts_with = "volume", value_parser = range)]
    range: Option<(u64, u64)>,
    /// Take what is there of streams that lack lines
    #[arg(long)]
    partial: bool,
    /// The rate of the line, such as 5M or 80Mbit, until it is measured
    #[arg(long, value_name = "RATE", value_parser = units::rate)]
    assume_rate: Option<u64>,
    /// Ask for nothing if it costs more, such as 12.50
    #[arg(long, value_name = "AMOUNT")]
    max_cost: Option<Money>,
    /// Ask for nothing if more would be downloaded
    #[arg(long, value_name = "SIZE", value_parser = units::size)]
    max_bytes: Option<u64>,
    /// A table of prices instead of the one that this release has
    #[arg(long, value_name = "FILE")]
    prices: Option<PathBuf>,
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

/// Reads the bytes of `--range`.
fn range(text: &str) -> Result<(u64, u64), String> {
    text.split_once('-')
        .and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)))
        .filter(|(first, last)| first <= last)
        .ok_or_else(|| "a range is FIRST-LAST, in bytes from 0".to_owned())
}

/// Reads standard input to its end, before anything is asked or written.
fn plan(options: &Options) -> Result<Plan> {
    let (lines, skipped) = Lines::read(io::stdin().lock())?;
    if let Some(warning) = skipped.warning() {
        process::warn(&warning);
    }
    // A program that was killed is no fault of its lines.
    if peers::may_be_cut(io::stdin())
        && !options.partial
        && let Some(why) = lines.cut()
    {
        return Err(Error::Unfinished(why));
    }
    let mut plan = lines.plan(options.partial)?;
    plan.warnings.iter().for_each(|warning| process::warn(warning));
    if !options.volume.is_empty() {
        plan.choose_volumes(&options.volume)?;
    }
    if let Some((first, last)) = options.range {
        plan.choose_range(first, last)?;
    }
    Ok(plan)
}

/// Prints a line for each tier.
fn estimate(task: &Task<'_>, options: &Options, bounds: &Bounds) -> Result<()> {
    let prices = Prices::read(options.prices.as_deref())?;
    let needs = task.work.needs(options.keep.is_some() || options.output.is_some());
    for tier in [Tier::Expedited, Tier::Standard, Tier::Bulk] {
        if let Some(line) = Restore::new(&needs, tier, options.assume_rate, &prices)? {
            process::print_line(&line)?;
        }
    }
    bounds.check(&needs)?;
    let budget = bounds.budget(&needs);
    budget.map_or(Ok(()), |budget| budget.check(options.tier, 0..needs.jobs.len()))
}

async fn bring(task: &Task<'_>, plan: &Plan, options: &Options) -> Result<()> {
    let mut vaults = Vec::new();
    // What is all here needs no credentials.
    for place in plan.places.iter().filter(|_| task.asks()) {
        let vault = Service::open_in(place.dest.clone(), &place.region, &options.access);
        vaults.push(vault.await?);
    }
    let settings = Settings {
        tier: options.tier,
        no_wait: options.no_wait,
        concurrency: usize::from(options.concurrency),
        patience: Patience { limit: options.patience },
        progress: !options.quiet,
    };
    if !options.request {
        return task.run(&vaults, &settings).await;
    }
    for line in task.request(&vaults, &settings).await? {
        process::print_line(&line)?;
    }
    Ok(())
}

async fn work(plan: &Plan, options: &Options, output: &Output) -> Result<()> {
    // The table is read before anything is asked, or it would be of no use.
    let prices = || Prices::read(options.prices.as_deref());
    let cost = options.max_cost.map(|most| prices().map(|prices| (most, prices))).transpose()?;
    let bounds = Bounds { cost, bytes: options.max_bytes, rate: options.assume_rate };
    let looks = options.plan || options.request;
    let keep = options.keep.as_deref().filter(|keep| !looks || keep.exists());
    let keep = keep.map(|keep| Keep::open(keep, looks)).transpose()?;
    let task = Task::prepare(plan, output, keep.as_ref(), &bounds, looks).await?;
    if options.plan { estimate(&task, options, &bounds) } else { bring(&task, plan, options).await }
}

fn main() -> ExitCode {
    process::run(|options: Options| {
        let looks = options.plan || options.request;
        let output = match &options.output {
            Some(path) => Output::file(path.clone(), looks)?,
            None => Output::new(options.command.clone())?,
        };
        let plan = plan(&options)?;
        if plan.streams.len() > 1 && !output.takes_many() && !looks {
            return Err(Error::Data(format!(
                "stdin: {} streams do not fit into one output; use -- COMMAND",
                plan.streams.len()
            )));
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| Error::io("cannot start", e))?;
        let result = runtime.block_on(work(&plan, &options, &output));
        // I5: kills a command that was not given all, before its input closes.
        drop(output);
        // A write that nobody takes would be waited for.
        runtime.shutdown_background();
        result
    })
}
