//! akashita-receive(1): take the streams of a chain into ZFS or files.

use std::path::PathBuf;
use std::process::ExitCode;

use akashita::process::{self, Error, Result};
use akashita::tools::receive::{self, Keys, Question, Records, Settings, Target};
use clap::{ArgGroup, Parser};

/// Take a stream of a chain, which glacier-get gives; or see what is needed.
#[derive(Parser)]
#[command(name = "akashita-receive", version, after_help = "See akashita-receive(1).")]
#[command(group = ArgGroup::new("target").required(true))]
struct Options {
    /// The chain, as glacier-chain prints it
    #[arg(long, value_name = "FILE")]
    chain: PathBuf,
    /// Receive into this dataset
    #[arg(long, value_name = "DATASET", group = "target")]
    into: Option<String>,
    /// Write files in the working directory, which messages call DIR
    #[arg(long, value_name = "DIR", group = "target")]
    files: Option<String>,
    /// Prove what comes, and keep nothing
    #[arg(long, group = "target")]
    prove: bool,
    /// The key that age decrypts with
    #[arg(long, value_name = "FILE", default_value = "", hide_default_value = true)]
    identity: String,
    /// What streams were compressed with
    #[arg(long, value_name = "PROGRAM", default_value = "", hide_default_value = true)]
    filter: String,
    /// What undoes that
    #[arg(long, value_name = "PROGRAM", default_value = "", hide_default_value = true)]
    unfilter: String,
    /// Leave streams as they were sent, with what zfs receive loses of them
    #[arg(long)]
    as_sent: bool,
    /// Only write the lines that glacier-get needs to FILE
    #[arg(long, value_name = "FILE", requires = "wanted", conflicts_with_all = ["made", "report"])]
    lines: Option<PathBuf>,
    /// What the chain was asked for by
    #[arg(long, value_name = "SNAPSHOT", requires = "lines")]
    wanted: Option<String>,
    /// Add guid and name of a dataset that is made to FILE
    #[arg(long, value_name = "FILE")]
    made: Option<PathBuf>,
    /// Add a line to FILE that tells how the stream ended
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

fn run(options: Options) -> Result<()> {
    let target = match (options.into, options.files) {
        (Some(dataset), _) => Target::Dataset(dataset),
        (None, Some(directory)) => Target::Files(directory),
        (None, None) => Target::Proof,
    };
    let Options { filter, unfilter, .. } = options;
    let keys = Keys { identity: options.identity.into(), filter, unfilter };
    let settings = Settings { chain: options.chain, target, keys, as_sent: options.as_sent };
    if let (Some(lines), Some(wanted)) = (options.lines, options.wanted) {
        let told = receive::look(&settings, &Question { wanted, lines })?;
        let told: String = told.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
        return process::put_out(told.as_bytes());
    }
    let given = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let (Some(stream), Some(whole)) = (given("GLACIER_STREAM"), given("GLACIER_WHOLE")) else {
        return Err(Error::Usage("glacier-get starts this, behind --; see --help".to_owned()));
    };
    let records = Records { made: options.made, report: options.report };
    receive::take(&settings, &stream.to_string_lossy(), whole.as_ref(), &records)
}

fn main() -> ExitCode {
    process::run(run)
}
