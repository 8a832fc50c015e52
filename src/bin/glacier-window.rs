//! glacier-window(1): say when lines may be acted on, and hold them until then.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use akashita::process::clock::Hours;
use akashita::process::{self, Error, Result};
use akashita::tools::window::hold::hold;
use akashita::tools::window::run::Curfew;
use akashita::units;
use akashita::window::{Answer, Window, Zone, calendar, for_at};
use clap::Parser;
use clap::builder::PossibleValuesParser;
use jiff::Timestamp;

/// A vault's unfinished upload may be dropped after so long without activity.
const IDLE: Duration = Duration::from_hours(24);

/// Stamp lines with a window, and hold them until it is open; or run a command.
///
/// WINDOW is [DAYS ]HH:MM-HH:MM[=RATE], or several joined by commas; see glacier-window(1).
#[derive(Parser)]
#[command(name = "glacier-window", version)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
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
    /// What --next prints: json, or at for the time that at -t takes
    #[arg(long, value_name = "FORMAT", default_value = "json", requires = "next",
          value_parser = PossibleValuesParser::new(["json", "at"]), hide_possible_values = true)]
    format: String,
    /// Print how long the window stays open
    #[arg(long, group = "question")]
    remaining: bool,
    /// Show the week, for people
    #[arg(long, group = "question")]
    calendar: bool,
    /// Run COMMAND again at the next opening, until it ends by itself
    #[arg(long, requires = "command")]
    repeat: bool,
    /// How long COMMAND may take to stop when the window closes
    #[arg(long, value_name = "TIME", default_value = "60s", requires = "command",
          value_parser = units::duration)]
    grace: Duration,
    /// The hours, such as 22:00-06:00 or 'Mon-Fri 22:00-06:00=5M,weekend 00:00-24:00'
    window: String,
    /// Run this while the window is open
    #[arg(last = true, value_name = "COMMAND", conflicts_with = "question")]
    command: Vec<OsString>,
}

fn main() -> ExitCode {
    let run = |options: Options| {
        // Questions are answered to who asks, and a command writes what it
        // likes; neither is told to a pipe.
        let asked = options.check || options.next || options.remaining || options.calendar;
        let mut told = asked || !options.command.is_empty();
        act(options, &mut told).inspect_err(|error| {
            if !told {
                process::tell(None, error);
            }
        })
    };
    process::run_and_tell(run, process::tell_early)
}

/// `told` is set when a failure needs no `failed` line of ours.
fn act(options: Options, told: &mut bool) -> Result<()> {
    let window = Window::parse(&options.window).map_err(Error::Usage)?;
    let zone = match &options.tz {
        Some(name) => Zone::named(name).map_err(Error::Configuration)?,
        None => local()?,
    };
    let now = Timestamp::now();
    let open = window.is_open(now, &zone);
    let answer = if open { Ok(()) } else { Err(Error::No(String::new())) };
    if options.check {
        return answer;
    }
    if options.remaining {
        process::print_line(&Answer::remaining(&window, &zone, now))?;
        return answer;
    }
    warn_of_gap(&window);
    if options.calendar {
        return process::put_out(calendar(&window, &zone).as_bytes());
    }
    if options.next && options.format == "at" {
        let opens = for_at(&window, &zone, now, &local()?);
        return opens.map_or(Ok(()), |opens| process::put_out(format!("{opens}\n").as_bytes()));
    }
    if options.next {
        return process::print_line(&Answer::next(&window, &zone, now));
    }
    let hours = Hours::new(window, zone);
    if options.command.is_empty() {
        return hold(hours, told);
    }
    let Options { command, grace, repeat, .. } = options;
    Curfew { hours, grace, repeat }.run(&command)
}

fn local() -> Result<Zone> {
    let named = |why| Error::Configuration(format!("{why}; name it with --tz"));
    Zone::local().map_err(named)
}

/// Who begins an upload should know before it is lost.
fn warn_of_gap(window: &Window) {
    let gap = window.longest_gap();
    if gap >= IDLE {
        let gap = units::time(gap);
        process::warn(&format!(
            "the window is closed for {gap} at a time, and a vault may drop an upload that is idle for 24 h"
        ));
    }
}
