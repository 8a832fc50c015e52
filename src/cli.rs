//! The edge of the process: options in, one message and an exit code out.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use serde::Serialize;

use crate::closed::is_stdout_closed;
pub use crate::error::{Error, Result};

/// Parses the command line, runs the tool, prints its one message and gives
/// its exit code. Nothing else ends a process.
pub fn run<O: Parser>(tool: impl FnOnce(O) -> Result<()>) -> ExitCode {
    let result = match O::try_parse() {
        Ok(options) => tool(options),
        Err(e) if matches!(e.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            put_out(e.to_string().as_bytes())
        }
        Err(e) => Err(Error::Usage(usage(&e, takes_command(&O::command())))),
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

/// Whether a tool runs a command that stands behind `--`.
fn takes_command(tool: &clap::Command) -> bool {
    tool.get_positionals().any(clap::Arg::is_last_set)
}

/// The first sentence of clap's explanation, on one line.
fn usage(error: &clap::Error, takes_command: bool) -> String {
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

/// Prints an error as the one line of a failure.
pub fn complain(error: &Error) {
    say(&error.to_string());
}

/// Prints what does not change the exit code, but should be known.
pub fn warn(message: &str) {
    say(&format!("warning: {message}"));
}

fn say(message: &str) {
    let line = format!("{}: {}\n", tool_name(), printable(message));
    // There is nobody left to tell that stderr is gone.
    let _ = io::stderr().lock().write_all(line.as_bytes());
}

/// What may reach a terminal: control characters of a foreign string (an
/// escape sequence in a snapshot's name, say) are shown, not obeyed.
pub fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        let reordering = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if c.is_control() || reordering {
            safe.extend(c.escape_default());
        } else {
            safe.push(c);
        }
    }
    safe
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
    let mut text = serde_json::to_vec(line)
        .map_err(|e| Error::Bug(format!("a line could not be written as JSON: {e}")))?;
    text.push(b'\n');
    put_out(&text)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_control_characters_instead_of_obeying_them() {
        assert_eq!(printable("a\u{1b}[31m\n\u{202e}é"), "a\\u{1b}[31m\\n\\u{202e}é");
    }
}
