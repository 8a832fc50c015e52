//! glacier-verify(1): compare a few parts of what is stored with the catalog.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use akashita::prices::{Money, Prices};
use akashita::process::input::Reread;
use akashita::process::paths;
use akashita::process::{self, Error, Result};
use akashita::spool::catalog_file::Catalog;
use akashita::storage::aws::Access;
use akashita::storage::retry::Patience;
use akashita::storage::{Service, Tier};
use akashita::tools::retrieve::Settings;
use akashita::tools::verify;
use akashita::tools::verify::chance::Chance;
use akashita::tools::verify::plan::Plan;
use akashita::units;
use clap::Parser;

/// Bring back a few parts of the archives of a catalog, and compare them with its hashes.
#[derive(Parser)]
#[command(name = "glacier-verify", version, after_help = "See glacier-verify(1).")]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
struct Options {
    /// Bring back no more than this
    #[arg(long, value_name = "SIZE", default_value = "64M", value_parser = units::size)]
    budget: u64,
    /// Ask for the parts, and print what is needed to compare them later
    #[arg(long, conflicts_with = "no_wait")]
    request: bool,
    /// Compare what is ready, and end with 75 if some of it is not
    #[arg(long)]
    no_wait: bool,
    /// Print what would be brought back and what that costs, and ask for nothing
    #[arg(long)]
    dry_run: bool,
    /// How quickly to bring it up: Expedited, Standard, Bulk
    #[arg(long, default_value_t = Tier::Bulk)]
    tier: Tier,
    /// Ask for nothing if it costs more than this
    #[arg(long, value_name = "AMOUNT")]
    max_cost: Option<Money>,
    /// The table of prices
    #[arg(long, value_name = "FILE")]
    prices: Option<PathBuf>,
    /// Choose as this number says, and the same again
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    #[arg(long, value_name = "FILE", help = "The catalog that is told [$GLACIER_CATALOG]")]
    catalog: Option<PathBuf>,
    /// Download this many parts at once
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
}

fn run(options: Options) -> Result<()> {
    // What nobody can be told is not paid for.
    process::stdout()?;
    let prices = Prices::read(options.prices.as_deref())?;
    let path = paths::catalog(options.catalog)?;
    let mut chance = options.seed.map_or_else(Chance::new, |seed| Ok(Chance::of(seed)))?;
    let plan = Plan::new(&Reread::stdin()?, &path, options.budget, &mut chance)?;
    if plan.is_asked() && options.request {
        let why = "--request: standard input has jobs already; leave it out to fetch them";
        return Err(Error::Usage(why.to_owned()));
    }
    if !plan.is_asked() && options.no_wait {
        let why = "--no-wait: standard input has no jobs; --request begins some";
        return Err(Error::Usage(why.to_owned()));
    }
    let cost = plan.cost(options.tier, &prices)?;
    cost.check(options.max_cost)?;
    if options.dry_run {
        return plan.print(&cost);
    }
    let settings = Settings {
        tier: Some(options.tier),
        no_wait: options.no_wait,
        concurrency: usize::from(options.concurrency),
        patience: Patience { limit: options.patience },
        progress: !options.quiet,
    };
    process::block_on(async {
        // A catalog that cannot be told is known before anything is paid for.
        let catalog = if options.request { None } else { Some(Catalog::open(&path)?) };
        let mut vaults = Vec::new();
        for place in plan.places() {
            let vault = Service::open_in(place.dest.clone(), &place.region, &options.access);
            vaults.push(vault.await?);
        }
        match catalog {
            None => verify::request(plan, &vaults, &settings).await,
            Some(mut catalog) => verify::compare(plan, &vaults, &settings, &mut catalog).await,
        }
    })
}

fn main() -> ExitCode {
    process::run(run)
}
