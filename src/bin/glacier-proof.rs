//! glacier-proof(1): pass a ZFS stream on, and write down that it was whole.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use akashita::process;
use akashita::tools::proof::{self, Settings};
use clap::Parser;

/// Pass a ZFS stream on as it is, and write into FILE what it is and that it was whole.
#[derive(Parser)]
#[command(name = "glacier-proof", version, after_help = "See glacier-proof(1).")]
struct Options {
    /// Take the stream as whole if MARKER exists at its end
    #[arg(long, value_name = "MARKER")]
    whole: Vec<PathBuf>,
    /// Take the end of the input for the end of the stream
    #[arg(long)]
    trust_eof: bool,
    /// Write the lines of the stream into this file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Run this and pass its output on, instead of standard input
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

fn main() -> ExitCode {
    process::run(|options: Options| {
        proof::run(&Settings {
            file: options.file,
            markers: options.whole,
            trust_eof: options.trust_eof,
            command: options.command,
        })
    })
}
