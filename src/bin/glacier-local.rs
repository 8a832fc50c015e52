//! glacier-local(1): an Amazon Glacier on this machine.

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use akashita::process;
use akashita::tools::local::{self, Settings};
use akashita::units;
use clap::Parser;
use serde::Serialize;

/// Serve the Amazon Glacier vault API from a directory.
///
/// See glacier-local(1).
#[derive(Parser)]
#[command(name = "glacier-local", version)]
struct Options {
    /// Keep vaults, archives and state here
    #[arg(long, value_name = "DIR")]
    root: PathBuf,
    /// Listen here; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:0")]
    listen: String,
    /// Let the service's hours pass N times as fast
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = units::within(1_u32, 100_000))]
    clock_speed: u32,
    /// Give up a client that sends nothing for so long
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = units::duration)]
    timeout: Duration,
    /// Append a JSON line for each request
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Fail as this plan says, a JSON line for each fault
    #[arg(long, value_name = "FILE")]
    faults: Option<PathBuf>,
}

#[derive(Serialize)]
struct Listening<'a> {
    r#type: &'static str,
    endpoint: &'a str,
}

fn main() -> ExitCode {
    process::run(|options: Options| {
        let settings = Settings {
            root: options.root,
            listen: options.listen,
            clock_speed: options.clock_speed,
            timeout: options.timeout,
            log: options.log,
            faults: options.faults,
            key_id: env::var("AWS_ACCESS_KEY_ID").ok(),
            secret: env::var("AWS_SECRET_ACCESS_KEY").ok(),
        };
        local::serve(&settings, |endpoint| {
            process::print_line(&Listening { r#type: "listening", endpoint })
        })
    })
}
