//! A bug of ours, which no input brings about: this program runs itself as a
//! tool that panics. It ends with 70, and says so in one line.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    reason = "a test that cannot go on has failed"
)]

use std::process::{Command, ExitCode};

use akashita::process;
use clap::Parser;

const ASKED: &str = "AKASHITA_TEST_BUG";

#[derive(Parser)]
struct Options {}

fn main() -> ExitCode {
    match std::env::var(ASKED).as_deref() {
        Ok("panic") => process::run(|_: Options| panic!("\u{1b}[31mtwo\nlines")),
        Ok("error") => process::run(|_: Options| Err(process::Error::Bug("a bug".to_owned()))),
        _ if std::env::args().any(|argument| argument == "--list") => ExitCode::SUCCESS,
        _ => {
            a_bug_is_one_line_and_70();
            ExitCode::SUCCESS
        }
    }
}

fn a_bug_is_one_line_and_70() {
    for (asked, begins) in
        [("panic", "bug: a bug: \\u{1b}[31mtwo\\nlines ("), ("error", "bug: a bug")]
    {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let output = command.env(ASKED, asked).env("RUST_BACKTRACE", "1").output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        // The name of this program ends in a hash.
        let said = stderr.replacen(stderr.split(':').next().unwrap(), "bug", 1);
        assert!(said.starts_with(begins), "{stderr}");
        assert_eq!((output.status.code(), stderr.lines().count()), (Some(70), 1), "{stderr}");
        assert!(output.stdout.is_empty());
    }
}
