//! glacier-prune(1): print the catalog lines of what may be deleted.

use std::io::{BufWriter, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use akashita::catalog::retention::Retention;
use akashita::line;
use akashita::prices::Prices;
use akashita::process::input::Reread;
use akashita::process::{self, Error, Result};
use akashita::tools::prune::show::{self, Offer};
use akashita::tools::prune::survey::Books;
use akashita::tools::prune::{Question, judge, orphans};
use akashita::units;
use akashita::window::Zone;
use clap::Parser;
use jiff::{SignedDuration, Timestamp};

/// Print the lines of a catalog, on standard input, that a retention keeps not.
#[derive(Parser)]
#[command(name = "glacier-prune", version, after_help = "See glacier-prune(1).")]
struct Options {
    /// What stays, such as last=3,daily=7,weekly=5,monthly=12,yearly=all
    #[arg(long, value_name = "RULES")]
    keep: Retention,
    /// The time zone of days, such as Europe/Berlin [default: local time]
    #[arg(long, value_name = "ZONE")]
    tz: Option<String>,
    /// Leave out what costs a fee to delete now
    #[arg(long)]
    free_only: bool,
    /// How long nothing was stored of what is taken for abandoned, or none
    #[arg(long, value_name = "AGE", default_value = "7d", value_parser = age)]
    orphans: Age,
    /// Print what stays and what goes instead, and why
    #[arg(long)]
    explain: bool,
    /// Another table of prices
    #[arg(long, value_name = "FILE")]
    prices: Option<PathBuf>,
    /// Tell ages as if it were then [default: now]
    #[arg(long, value_name = "TIME", value_parser = time)]
    at: Option<Timestamp>,
}

/// An age, or none at all.
#[derive(Clone, Copy)]
struct Age(Option<SignedDuration>);

fn age(text: &str) -> Result<Age, String> {
    if text == "none" {
        return Ok(Age(None));
    }
    let age = SignedDuration::try_from(units::duration(text)?);
    age.map(|age| Age(Some(age))).map_err(|_| format!("\"{text}\" is too large"))
}

fn time(text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|_| "not a time, such as 2026-11-23T22:04:12Z".to_owned())
}

fn zone(options: &Options) -> Result<Option<Zone>> {
    let zone = match &options.tz {
        Some(name) => Zone::named(name),
        None if options.keep.asks_for_days() => {
            Zone::local().map_err(|why| format!("{why}; name it with --tz"))
        }
        None => return Ok(None),
    };
    zone.map(Some).map_err(Error::Configuration)
}

fn main() -> ExitCode {
    process::run(|options: Options| {
        let zone = zone(&options)?;
        let prices = Prices::read(options.prices.as_deref())?;
        let input = Reread::stdin()?;
        let (books, skipped) = Books::read(input.all()?)?;
        let Age(age) = options.orphans;
        if let Some(warning) = skipped.warning() {
            let blind = books.blind && age.is_some();
            let but =
                if blind { "; no orphan is offered, as the line may be of any stream" } else { "" };
            process::warn(&format!("{warning}{but}"));
        }
        let question = Question {
            keep: &options.keep,
            zone: zone.as_ref(),
            free_only: options.free_only,
            now: options.at.unwrap_or_else(Timestamp::now),
            prices: &prices,
        };
        let copies = books.copies();
        let fates = judge(&books, &copies, &question);
        let mut orphans = age
            .map(|age| orphans::find(&books, &copies, age, question.now, &prices))
            .unwrap_or_default();
        orphans.retain(|orphan| !(options.free_only && orphan.early.is_some()));

        let mut lines = input.lines()?;
        let mut output = BufWriter::new(process::stdout()?.lock());
        let full = |e| Error::io("stdout: cannot write", e);
        let mut print = |text: String| writeln!(output, "{}", text.trim_end()).map_err(full);
        if options.explain {
            for line in show::explained(&copies, &fates, &prices) {
                print(line::json(&line)?)?;
            }
            for orphan in &orphans {
                print(line::json(&show::orphan(lines.text(orphan.span)?, orphan, &prices)?)?)?;
            }
        } else {
            for offer in show::offers(&books, &copies, &fates, orphans, &question) {
                let Offer { span, .. } = offer;
                print(show::offered(lines.text(span)?, &offer, &prices)?)?;
            }
        }
        output.flush().map_err(full)
    })
}
