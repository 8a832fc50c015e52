//! glacier-chain(1): print the catalog lines that restore a snapshot.

use std::io::{BufWriter, Write as _};
use std::process::ExitCode;

use akashita::catalog::list::{FIELDS, Restorable};
use akashita::catalog::{Link, scan};
use akashita::line::{Chain, Line};
use akashita::process::input::Reread;
use akashita::process::{self, Error, Result};
use clap::Parser;
use clap::builder::PossibleValuesParser;
use jiff::Timestamp;

/// How much is written at once.
const BUFFER: usize = 256 << 10;

/// Print the lines of a catalog, on standard input, that restore a snapshot.
#[derive(Parser)]
#[command(name = "glacier-chain", version, after_help = "See glacier-chain(1).")]
struct Options {
    /// Name, guid or stream id of what is to be restored
    #[arg(required_unless_present_any = ["list", "fields", "host", "dataset"])]
    snapshot: Option<String>,
    /// A snapshot that is received already, by name or guid
    #[arg(long, value_name = "SNAPSHOT")]
    from: Vec<String>,
    /// List what can be restored instead
    #[arg(long, conflicts_with = "snapshot")]
    list: bool,
    /// Of what is listed print these fields, tab-separated, instead of JSON
    #[arg(long, value_name = "FIELD,...", requires = "list", conflicts_with = "snapshot", value_delimiter = ',',
        value_parser = PossibleValuesParser::new(FIELDS), hide_possible_values = true)]
    fields: Vec<String>,
    /// List only what this host stored
    #[arg(long, requires = "list", conflicts_with = "snapshot")]
    host: Option<String>,
    /// List only snapshots of this dataset
    #[arg(long, requires = "list", conflicts_with = "snapshot")]
    dataset: Vec<String>,
}

impl Options {
    /// Whether this is to be listed.
    fn wants(&self, it: &Restorable) -> bool {
        self.host.as_ref().is_none_or(|host| it.host == *host)
            && (self.dataset.is_empty()
                || it.dataset().is_some_and(|of| self.dataset.iter().any(|name| name == of)))
    }
}

/// What is to follow, so that glacier-get can tell that all of it came.
fn head(links: &[Link]) -> Result<String> {
    let last = links.last().ok_or_else(|| Error::Bug("a chain has no stream".to_owned()))?;
    let streams = u32::try_from(links.len())
        .map_err(|_| Error::Data("the chain has too many streams".to_owned()))?;
    Line::Chain(Chain { stream: last.stream, streams }).text()
}

fn main() -> ExitCode {
    process::run(|options: Options| {
        let input = Reread::stdin()?;
        let (catalog, skipped) = scan::survey(input.all()?)?;
        if let Some(warning) = skipped.warning() {
            process::warn(&warning);
        }
        let there = options.from.iter().map(|word| catalog.guid(word)).collect::<Result<_>>()?;
        let Some(snapshot) = &options.snapshot else {
            let now = Timestamp::now();
            let mut listed = catalog.list(&there, now);
            listed.retain(|it| options.wants(it));
            if options.fields.is_empty() {
                return listed.iter().try_for_each(process::print_line);
            }
            let rows = listed.iter().map(|it| Ok(it.row(&options.fields)? + "\n"));
            return process::put_out(rows.collect::<Result<String>>()?.as_bytes());
        };
        let links = catalog.chain(snapshot, &there)?;
        let spans = scan::select(input.all()?, &links)?;

        let mut catalog = input.lines()?;
        let mut output = BufWriter::with_capacity(BUFFER, process::stdout()?.lock());
        let full = |e| Error::io("stdout: cannot write", e);
        output.write_all(head(&links)?.as_bytes()).map_err(full)?;
        for span in spans {
            output.write_all(catalog.get(span)?).map_err(full)?;
            output.write_all(b"\n").map_err(full)?;
        }
        output.flush().map_err(full)
    })
}
