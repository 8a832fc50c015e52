//! glacier-put(1): store what the lines describe.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use akashita::process::paths;
use akashita::process::{self, Error, Result};
use akashita::storage::aws::Access;
use akashita::storage::{Dest, Service};
use akashita::tools::put::{self, Settings};
use akashita::units;
use clap::Parser;

/// Store the streams whose lines come on standard input, and print their catalog lines.
#[derive(Parser)]
#[command(name = "glacier-put", version, after_help = "See glacier-put(1).")]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
struct Options {
    #[arg(help = "Where to store them: s3://BUCKET/PREFIX, or a vault's name [$GLACIER_DEST]")]
    dest: Option<String>,
    #[arg(long, value_name = "DIR", help = "Where parts are kept [$GLACIER_SPOOL]")]
    spool: Option<PathBuf>,
    #[arg(long, value_name = "FILE", help = "The catalog [$GLACIER_CATALOG]")]
    catalog: Option<PathBuf>,
    /// Send so many parts at a time
    #[arg(long, value_name = "N", default_value = "4", value_parser = units::within(1_u8, u8::MAX))]
    concurrency: u8,
    /// Go on for so long after failures that may pass
    #[arg(long, value_name = "TIME", default_value = "8h", value_parser = units::duration)]
    patience: Duration,
    /// Stop what is in flight so long after its window has closed
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = units::duration)]
    grace: Duration,
    /// Create the vault if it is not there
    #[arg(long)]
    create_vault: bool,
    /// Create the bucket if it is not there
    #[arg(long)]
    create_bucket: bool,
    /// Keep volumes in this storage class of a bucket [default: DEEP_ARCHIVE]
    #[arg(long, value_name = "CLASS", value_parser = class)]
    storage_class: Option<String>,
    /// Keep manifests in this one [default: STANDARD]
    #[arg(long, value_name = "CLASS", value_parser = class)]
    manifest_class: Option<String>,
    /// Store into a destination whose archives nothing here knows of
    #[arg(long)]
    assume_new: bool,
    /// Take an empty input for a success
    #[arg(long)]
    allow_empty: bool,
    /// Print what would be sent, and send nothing
    #[arg(long)]
    dry_run: bool,
    /// Estimate how long it takes at this rate, such as 5M or 80Mbit
    #[arg(long, value_name = "RATE", value_parser = units::rate)]
    assume_rate: Option<u64>,
    /// Show no progress on a terminal
    #[arg(long)]
    quiet: bool,
    #[command(flatten)]
    access: Access,
}

/// The name of a storage class: services that speak like S3 have their own.
fn class(text: &str) -> Result<String, String> {
    let good = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
    if text.is_empty() || text.len() > 64 || !text.bytes().all(good) {
        return Err("a storage class is a word in capitals, such as DEEP_ARCHIVE".to_owned());
    }
    Ok(text.to_owned())
}

fn run(options: Options) -> Result<()> {
    let dest: Dest = paths::dest(options.dest)?.parse().map_err(Error::Usage)?;
    let has_class = options.storage_class.is_some() || options.manifest_class.is_some();
    if has_class && matches!(dest, Dest::Glacier { .. }) {
        return Err(Error::Usage("a vault has no storage classes; they are a bucket's".to_owned()));
    }
    let settings = Settings {
        dest: dest.to_string(),
        spool: paths::spool(options.spool)?,
        catalog: paths::catalog(options.catalog)?,
        concurrency: options.concurrency.into(),
        patience: options.patience,
        grace: options.grace,
        assume_rate: options.assume_rate,
        quiet: options.quiet,
        allow_empty: options.allow_empty,
        create: options.create_vault || options.create_bucket,
        assume_new: options.assume_new,
        class: options.storage_class,
        manifest_class: options.manifest_class,
    };
    process::block_on(async {
        if options.dry_run {
            return put::dry_run(&settings, dest.limits(), io::stdin()).await;
        }
        let vault = Service::open(dest, &options.access).await?;
        put::run(&vault, &settings, io::stdin()).await
    })
}

fn main() -> ExitCode {
    process::run(run)
}
