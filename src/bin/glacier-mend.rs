//! glacier-mend(1): put back what zfs send embedded wrongly.

use std::process::ExitCode;

use akashita::process;
use akashita::tools::mend;
use clap::Parser;

/// Pass a ZFS stream on, with what zfs receive would lose of it put back where it belongs.
#[derive(Parser)]
#[command(name = "glacier-mend", version, after_help = "See glacier-mend(1).")]
struct Options {
    /// Do not tell what is put back
    #[arg(long)]
    quiet: bool,
}

fn main() -> ExitCode {
    process::run(|options: Options| mend::run(options.quiet))
}
