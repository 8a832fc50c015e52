//! glacier-rm(1): delete archives, abort uploads, and drop spooled streams.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use akashita::process::paths;
use akashita::process::{self, Error, Result};
use akashita::storage::aws::Access;
use akashita::storage::{Dest, Service};
use akashita::tools::rm::{self, Settings};
use akashita::units;
use clap::Parser;

/// Delete the archives, uploads and spooled streams whose lines are on standard input.
#[derive(Parser)]
#[command(name = "glacier-rm", version, after_help = "See glacier-rm(1).")]
struct Options {
    #[arg(help = "Where to delete: a vault's name, or glacier://VAULT [$GLACIER_DEST]")]
    dest: Option<String>,
    /// Do it; else only say what would go
    #[arg(long)]
    yes: bool,
    /// Delete what other streams need, or the catalog does not name
    #[arg(long)]
    break_chain: bool,
    /// Read no lines, and delete the empty vault
    #[arg(long, conflicts_with = "break_chain")]
    vault: bool,
    #[arg(long, value_name = "DIR", help = "Where parts are kept [$GLACIER_SPOOL]")]
    spool: Option<PathBuf>,
    #[arg(long, value_name = "FILE", help = "The catalog [$GLACIER_CATALOG]")]
    catalog: Option<PathBuf>,
    /// Delete so many archives at a time
    #[arg(long, value_name = "N", default_value = "4", value_parser = units::within(1_u8, 64))]
    concurrency: u8,
    /// Go on for so long after failures that may pass
    #[arg(long, value_name = "TIME", default_value = "8h", value_parser = units::duration)]
    patience: Duration,
    #[command(flatten)]
    access: Access,
}

fn run(options: Options) -> Result<()> {
    let dest: Dest = paths::dest(options.dest)?.parse().map_err(Error::Usage)?;
    let settings = Settings {
        spool: paths::spool(options.spool)?,
        catalog: paths::catalog(options.catalog)?,
        yes: options.yes,
        break_chain: options.break_chain,
        concurrency: options.concurrency.into(),
        patience: options.patience,
    };
    process::block_on(async {
        let vault = Service::open(dest, &options.access).await?;
        if options.vault {
            rm::delete_vault(&vault, &settings).await
        } else {
            rm::run(&vault, &settings).await
        }
    })
}

fn main() -> ExitCode {
    process::run(run)
}
