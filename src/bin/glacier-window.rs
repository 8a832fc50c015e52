//! glacier-window(1): say when lines may be acted on, and hold them until then.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::Duration;

use akashita::cli::{self, Error, Result};
use akashita::neighbour;
use akashita::window::{Answer, LONGEST_LINE, Window, Zone, stamp};
use clap::Parser;
use jiff::Timestamp;

/// Stamp lines with a window, and hold them until it is open.
///
/// WINDOW is HH:MM-HH:MM, or several joined by commas; see glacier-window(1).
#[derive(Parser)]
#[command(name = "glacier-window", version)]
struct Options {
    /// The time zone of WINDOW, such as Europe/Berlin [default: local time]
    #[arg(long, value_name = "ZONE")]
    tz: Option<String>,
    /// Say by the exit status whether the window is open
    #[arg(long, group = "question")]
    check: bool,
    /// Print when the window opens and closes next
    #[arg(long, group = "question")]
    next: bool,
    /// Print how long the window stays open
    #[arg(long, group = "question")]
    remaining: bool,
    /// The hours of the day, such as 22:00-06:00
    window: String,
}

fn main() -> ExitCode {
    cli::run(|options: Options| {
        let window = Window::parse(&options.window).map_err(Error::Usage)?;
        let zone = match &options.tz {
            Some(name) => Zone::named(name),
            None => Zone::local().map_err(|why| format!("{why}; name it with --tz")),
        };
        let zone = zone.map_err(Error::Configuration)?;
        let now = Timestamp::now();
        let open = window.is_open(now, &zone);
        let answer = if open { Ok(()) } else { Err(Error::No(String::new())) };
        if options.check {
            return answer;
        }
        if options.next {
            return cli::print_line(&Answer::next(&window, &zone, now));
        }
        if options.remaining {
            cli::print_line(&Answer::remaining(&window, &zone, now))?;
            return answer;
        }
        filter(&window, &zone)
    })
}

/// Passes lines on while the window is open, and those that send nothing at
/// any time. It reads no further than the line it holds: the pipe is the
/// buffer.
fn filter(window: &Window, zone: &Zone) -> Result<()> {
    let stdin = io::stdin().as_fd().try_clone_to_owned().map_err(|e| Error::io("stdin", e))?;
    let mut stdin = BufReader::new(File::from(stdin));
    for number in 1_u64.. {
        if stdin.buffer().is_empty() {
            neighbour::wait_for_input(stdin.get_ref())?;
        }
        let mut line = Vec::new();
        let longest = u64::try_from(LONGEST_LINE).unwrap_or(u64::MAX);
        stdin
            .by_ref()
            .take(longest + 1)
            .read_until(b'\n', &mut line)
            .map_err(|e| Error::io("stdin: cannot read", e))?;
        if line.is_empty() {
            return Ok(());
        }
        let wrong = |why: String| {
            // A stream itself, most likely.
            let lines = number == 1 && (why.starts_with("not ") || why.ends_with(" bytes"));
            let hint = if lines { "; are these lines of glacier-chunk?" } else { "" };
            Error::Data(format!("stdin: line {number}: {why}{hint}"))
        };
        if line.len() > LONGEST_LINE {
            return Err(wrong(format!("longer than {LONGEST_LINE} bytes")));
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let line = stamp(&line, window, zone).map_err(wrong)?;
        if !line.passes {
            wait_until_open(window, zone)?;
        }
        cli::put_out(&line.line)?;
    }
    Ok(())
}

fn wait_until_open(window: &Window, zone: &Zone) -> Result<()> {
    loop {
        let now = Timestamp::now();
        if window.is_open(now, zone) {
            return Ok(());
        }
        let wait = window.next_open(now, zone).map(|opens| opens.duration_since(now));
        let wait = wait.and_then(|wait| Duration::try_from(wait).ok());
        neighbour::wait(wait.unwrap_or(neighbour::NAP))?;
    }
}
