//! The edge of the process: options in, one message and an exit code out.

pub mod child;
pub mod clock;
pub mod escape;
pub mod input;
pub mod paths;
pub mod peers;
pub mod progress;
pub(crate) mod stdout;
pub mod worst;

use std::io::{self, IsTerminal as _, Write};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use serde::Serialize;

pub use crate::error::{Error, Result};
use crate::line::{self, Failed, Line, StreamId};
pub use crate::process::escape::{printable, row};
use crate::process::stdout::is_stdout_closed;

/// Parses the command line, runs the tool, prints its one message and gives
/// its exit code. Nothing else ends a process; a panic is a bug like any
/// other. Held by `tests/terminal.rs`.
pub fn run<O: Parser>(tool: impl FnOnce(O) -> Result<()>) -> ExitCode {
    run_and_tell(tool, |_| ())
}

/// The same, where `tell` is given what is wrong with the command line, so
/// that the next tool of a pipe knows.
pub fn run_and_tell<O: Parser>(
    tool: impl FnOnce(O) -> Result<()>,
    tell: impl FnOnce(&Error),
) -> ExitCode {
    std::panic::set_hook(Box::new(|panic| complain(&Error::Bug(bug(panic)))));
    let result = match O::try_parse() {
        Ok(options) => match catch_unwind(AssertUnwindSafe(|| tool(options))) {
            Ok(result) => result,
            // The hook has told it.
            Err(_) => return ExitCode::from(Error::Bug(String::new()).code()),
        },
        Err(e) if matches!(e.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            put_out(help(&e.to_string()).as_bytes())
        }
        Err(e) => {
            let error = Error::Usage(usage(e, takes_command(&O::command())));
            tell(&error);
            Err(error)
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            // A plain no is the answer that was asked for, not a complaint.
            if !matches!(&e, Error::No(text) if text.is_empty()) {
                complain(&e);
            }
            ExitCode::from(e.code())
        }
    }
}

/// What a panic is to who meets it.
fn bug(panic: &PanicHookInfo<'_>) -> String {
    let what = panic.payload_as_str().unwrap_or("no reason given");
    let place = panic.location().map(|place| format!(" ({place})")).unwrap_or_default();
    format!("a bug: {what}{place}; report it")
}

/// Whether a tool runs a command that stands behind `--`.
fn takes_command(tool: &clap::Command) -> bool {
    tool.get_positionals().any(clap::Arg::is_last_set)
}

/// What `--help` and `--version` print: the name in it is what the program
/// was called by.
fn help(text: &str) -> String {
    text.lines().map(|line| printable(line) + "\n").collect()
}

/// The first sentence of clap's explanation, on one line. What was typed is
/// made printable before, so that no newline in it ends the sentence.
fn usage(mut error: clap::Error, takes_command: bool) -> String {
    let typed: Vec<(ContextKind, String)> = error
        .context()
        .filter_map(|(kind, value)| match value {
            ContextValue::String(text) => Some((kind, printable(text))),
            _ => None,
        })
        .collect();
    for (kind, text) in typed {
        error.insert(kind, ContextValue::String(text));
    }
    let text = error.to_string();
    let mut lines = text.lines().map(str::trim);
    let first = lines.next().unwrap_or_default();
    let first = first.strip_prefix("error: ").unwrap_or(first);
    let listed: Vec<&str> = match first.strip_suffix(':') {
        Some(_) => lines.take_while(|line| !line.is_empty()).collect(),
        None => Vec::new(),
    };
    let mut help = format!("see '{} --help'", tool_name());
    if takes_command && error.kind() == ErrorKind::UnknownArgument && !first.contains("'-") {
        help.insert_str(0, "a COMMAND stands behind --, a file behind <; ");
    }
    if listed.is_empty() {
        format!("{first}; {help}")
    } else {
        format!("{first} {}; {help}", listed.join(" "))
    }
}

/// Runs what waits for the network, on this thread; disk reads and hashing
/// have threads of their own.
///
/// # Errors
/// Those of `future`, or that the system gives no runtime.
pub fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Error::io("cannot start", e))?;
    let result = runtime.block_on(future);
    // A thread that still reads standard input must not keep the process.
    runtime.shutdown_background();
    result
}

/// How long the `failed` line may take, which is the last.
const LAST_WORD: Duration = Duration::from_secs(2);

/// Prints the `failed` line of an error, so that the next tool of a pipe
/// ends with it.
pub fn tell(stream: Option<StreamId>, error: &Error) {
    // Standard output may be what failed. If nobody takes a line, a stream
    // without an end says as much.
    if peers::takes_a_line(LAST_WORD).is_ok_and(|takes| takes) {
        let line = Line::Failed(Failed::new(stream, error));
        let _ = line.text().and_then(|line| put_out(line.as_bytes()));
    }
}

/// The same before any line was read or printed: who stands at a terminal
/// has the message.
pub fn tell_early(error: &Error) {
    if !io::stdout().is_terminal() {
        tell(None, error);
    }
}

/// Prints an error as the one line of a failure.
pub fn complain(error: &Error) {
    say(&error.to_string());
}

/// Prints what does not change the exit code, but should be known.
pub fn warn(message: &str) {
    say(&format!("warning: {message}"));
}

fn say(message: &str) {
    let line = format!("{}\n", printable(&format!("{}: {message}", tool_name())));
    // There is nobody left to tell that stderr is gone.
    let _ = io::stderr().lock().write_all(line.as_bytes());
}

/// The name this program was called by.
pub fn tool_name() -> String {
    std::env::args_os()
        .next()
        .and_then(|path| {
            PathBuf::from(path).file_name().map(|name| name.to_string_lossy().into_owned())
        })
        .unwrap_or_else(|| env!("CARGO_PKG_NAME").to_owned())
}

/// Prints a JSON line on standard output with one write, and flushes it.
///
/// # Errors
/// When standard output cannot take it; a closed pipe is a failure like any
/// other.
pub fn print_line(line: &impl Serialize) -> Result<()> {
    put_out(line::json(line)?.as_bytes())
}

/// Standard output.
///
/// # Errors
/// When the program was started without one.
pub fn stdout() -> Result<io::Stdout> {
    if is_stdout_closed() {
        return Err(Error::io("stdout: cannot write", rustix::io::Errno::BADF));
    }
    Ok(io::stdout())
}

/// Writes bytes to standard output and flushes them.
///
/// # Errors
/// As [`print_line`].
pub fn put_out(bytes: &[u8]) -> Result<()> {
    let mut stdout = stdout()?.lock();
    stdout
        .write_all(bytes)
        .and_then(|()| stdout.flush())
        .map_err(|e| Error::io("stdout: cannot write", e))
}
