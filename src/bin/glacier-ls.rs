//! glacier-ls(1): list what is in vaults, in the spool and in a catalog.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use akashita::process::paths;
use akashita::process::progress::Progress;
use akashita::process::{self, Error, Result};
use akashita::storage::aws::Access;
use akashita::storage::retry::Patience;
use akashita::storage::{Dest, Destination as _, Service as Storage, Tier};
use akashita::tools::ls::diff::Diff;
use akashita::tools::ls::{
    Printer, archives, catalog, inventory, receipts, recover, remote, spooled, watched,
};
use akashita::tools::retrieve;
use akashita::units;
use clap::{Args, Parser, Subcommand};
use jiff::Timestamp;

/// Requests at a time for manifests, which are small.
const CONCURRENCY: usize = 8;

/// List what is in vaults, in the spool and in a catalog.
#[derive(Parser)]
#[command(name = "glacier-ls", version, after_help = "See glacier-ls(1).")]
#[command(disable_help_subcommand = true, arg_required_else_help = false)]
struct Options {
    /// Print a table for people
    #[arg(long, global = true)]
    table: bool,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// The vaults of the account in this region
    Vaults {
        #[command(flatten)]
        service: Service,
    },
    /// The archives in a vault, by its inventory
    Inventory(Inventory),
    /// The jobs that the service knows
    Jobs {
        /// The catalog that knows what archives are
        #[arg(long, value_name = "FILE")]
        catalog: Option<PathBuf>,
        #[command(flatten)]
        service: Service,
        /// The name of the vault, or its URL
        dest: Option<String>,
    },
    /// The uploads that are not finished
    Uploads {
        /// The spool that may go on with them
        #[arg(long, value_name = "DIR")]
        spool: Option<PathBuf>,
        #[command(flatten)]
        service: Service,
        /// The name of the vault, or its URL
        dest: Option<String>,
    },
    /// The streams in the spool
    Spool {
        /// The spool
        #[arg(long, value_name = "DIR")]
        spool: Option<PathBuf>,
    },
    /// The catalog lines of the streams that were stored from this spool
    Receipts {
        /// Only what this catalog has lost; exit 1 if there is any
        #[arg(long, value_name = "FILE")]
        diff: Option<PathBuf>,
        /// The spool
        #[arg(long, value_name = "DIR")]
        spool: Option<PathBuf>,
    },
    /// The archives that the streams of a catalog need
    Archives {
        /// The catalog, instead of standard input
        #[arg(long, value_name = "FILE")]
        catalog: Option<PathBuf>,
    },
}

#[derive(Args)]
struct Inventory {
    /// Make the lines of a lost catalog from its manifests
    #[arg(long)]
    rebuild: bool,
    /// Compare it with this catalog; exit 1 if they differ
    #[arg(long, value_name = "FILE", conflicts_with = "rebuild")]
    diff: Option<PathBuf>,
    /// Ask for what is needed, and end with 75 if it is not ready
    #[arg(long)]
    no_wait: bool,
    /// How quickly to bring manifests up: Expedited, Standard, Bulk
    #[arg(long, default_value_t = Tier::Standard)]
    tier: Tier,
    /// Show no progress on a terminal
    #[arg(long)]
    quiet: bool,
    #[command(flatten)]
    service: Service,
    /// The name of the vault, or its URL
    dest: Option<String>,
}

#[derive(Args)]
struct Service {
    /// Go on this long after failures that may pass
    #[arg(long, value_name = "TIME", default_value = "8h", value_parser = units::duration)]
    patience: Duration,
    #[command(flatten)]
    access: Access,
}

impl Service {
    async fn open(&self, dest: Option<String>) -> Result<(Storage, Patience)> {
        let dest: Dest = paths::dest(dest)?.parse().map_err(Error::Usage)?;
        let vault = Storage::open(dest, &self.access).await?;
        Ok((vault, Patience { limit: self.patience }))
    }
}

fn no_table(what: &str) -> Error {
    let help = what.split(' ').next().unwrap_or(what);
    Error::Usage(format!("{what} prints a catalog, and no table; see 'glacier-ls {help} --help'"))
}

/// A catalog, to be read.
fn open(path: &Path) -> Result<(BufReader<File>, String)> {
    let thing = format!("catalog {}", path.display());
    let file = File::open(path).map_err(|e| Error::io(format!("{thing}: cannot open"), e))?;
    Ok((BufReader::new(file), thing))
}

impl Inventory {
    async fn list(self, table: bool) -> Result<()> {
        if self.rebuild && table {
            return Err(no_table("inventory --rebuild"));
        }
        let against = self.diff.as_deref().map(open).transpose()?;
        let (vault, patience) = self.service.open(self.dest).await?;
        let progress = Progress::in_words(self.quiet);
        let found =
            Box::pin(watched(inventory::newest(&vault, patience, self.no_wait, &progress))).await?;
        if self.rebuild {
            let settings = retrieve::Settings {
                tier: Some(self.tier),
                no_wait: self.no_wait,
                concurrency: CONCURRENCY,
                patience,
                progress: false,
            };
            return Box::pin(recover::run(&vault, &found, &settings, &progress)).await;
        }
        drop(progress);
        let (dest, region) = (vault.dest().to_string(), vault.region());
        let mut head = inventory::head(&found, &dest, region, Timestamp::now());
        let mut printer = Printer::new(table, inventory::COLUMNS);
        let Some((input, thing)) = against else {
            return inventory::print(&found, &head, printer);
        };
        let mut diff = Diff::new(&found, &dest, region, vault.limits().list_lag);
        catalog(input, &thing, |line| {
            diff.take(line);
            Ok(())
        })?;
        let difference = diff.finish();
        head.later = Some(difference.later);
        inventory::print_head(&head, &mut printer)?;
        if difference.print(printer)? { Err(Error::No(String::new())) } else { Ok(()) }
    }
}

async fn jobs(
    vault: &Storage,
    patience: Patience,
    file: Option<PathBuf>,
    table: bool,
) -> Result<()> {
    // Without a catalog nobody has said that there is one.
    let path = match &file {
        Some(path) => Some(path.clone()),
        None => paths::catalog(None).ok().filter(|path| path.exists()),
    };
    let books = path.as_deref().map(open).transpose()?;
    let jobs = remote::jobs(vault, patience).await?;
    let ids = jobs.iter().filter_map(|job| job.archive_id.clone());
    let mut names: remote::Names = ids.map(|id| (id, remote::Known::default())).collect();
    if let Some((input, thing)) = books {
        catalog(input, &thing, |line| {
            remote::learn(&mut names, line);
            Ok(())
        })?;
    }
    remote::print_jobs(jobs, vault, &names, Printer::new(table, remote::JOBS))
}

async fn ask(what: What, table: bool) -> Result<()> {
    match what {
        What::Vaults { service } => {
            // No call names a vault.
            let (vault, patience) = service.open(Some("-".to_owned())).await?;
            remote::vaults(&vault, patience, Printer::new(table, remote::VAULTS)).await
        }
        What::Inventory(options) => options.list(table).await,
        What::Jobs { catalog, service, dest } => {
            let (vault, patience) = service.open(dest).await?;
            jobs(&vault, patience, catalog, table).await
        }
        What::Uploads { spool, service, dest } => {
            let (vault, patience) = service.open(dest).await?;
            let own = spooled::uploads(&paths::spool(spool)?, &vault.dest().to_string())?;
            remote::uploads(&vault, patience, &own, Printer::new(table, remote::UPLOADS)).await
        }
        What::Spool { spool } => {
            spooled::print(&paths::spool(spool)?, Printer::new(table, spooled::COLUMNS))
        }
        What::Receipts { .. } if table => Err(no_table("receipts")),
        What::Receipts { diff, spool } => {
            let catalog = diff.as_deref().map(open).transpose()?;
            let differs = catalog.is_some();
            let found = receipts::print(&paths::spool(spool)?, catalog)?;
            if found && differs { Err(Error::No(String::new())) } else { Ok(()) }
        }
        What::Archives { catalog } => {
            let printer = Printer::new(table, archives::COLUMNS);
            match catalog.as_deref().map(open).transpose()? {
                Some((input, thing)) => archives::print(input, &thing, printer),
                None => archives::print(io::stdin().lock(), "stdin", printer),
            }
        }
    }
}

fn main() -> ExitCode {
    process::run(|options: Options| process::block_on(ask(options.what, options.table)))
}
