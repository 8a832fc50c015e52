//! What is to be brought back: a choice of what is stored, or what was asked
//! for before.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::Path;

use jiff::Timestamp;
use serde::Serialize;

use super::chance::Chance;
use super::failures::Failures;
use super::samples::{Sample, Samples};
use super::{choice, line, samples};
use crate::error::{Error, Result};
use crate::line::{Line, Reader, StreamId, Text};
use crate::prices::{Money, Prices};
use crate::process;
use crate::process::input::Reread;
use crate::storage::Tier;
use crate::tools::retrieve::{Place, ahead, estimate};
use crate::tools::verify::candidates::Stock;
use crate::units;

/// What is to be brought back.
#[derive(Debug)]
pub struct Plan {
    pub(super) samples: Samples,
    /// Whether it was asked for before.
    asked: bool,
}

/// What `--dry-run` prints of a sample.
#[derive(Serialize)]
#[serde(tag = "type", rename = "sample")]
struct Sampling<'a> {
    stream: StreamId,
    host: &'a str,
    name: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    generation: u32,
    volume: u32,
    part: u32,
    parts: u32,
    offset: u64,
    size: u64,
    dest: &'a str,
    region: &'a str,
    archive_id: &'a str,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// What bringing back costs, and when those were the prices.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(tag = "type", rename = "cost")]
pub struct Cost {
    tier: String,
    jobs: u64,
    size: u64,
    retrieval: Money,
    transfer: Money,
    price: Money,
    currency: String,
    prices_date: jiff::civil::Date,
}

impl Plan {
    /// What is to be brought back: what the jobs on standard input bring up,
    /// or a choice of no more than `budget` bytes of what is stored. `catalog`
    /// tells what was sampled before, too.
    ///
    /// # Errors
    /// When there is nothing to choose from, nothing that fits, or reading
    /// fails.
    pub fn new(input: &Reread, catalog: &Path, budget: u64, chance: &mut Chance) -> Result<Self> {
        let mut stock = Stock::default();
        if let Some(warning) = stock.read(input.all()?)?.warning() {
            process::warn(&warning);
        }
        read_past(catalog, &mut stock)?;
        if !stock.jobs.is_empty() {
            let (wanted, wrong) = samples::of_jobs(&stock);
            let mut samples = samples::gather(input.all()?, wanted, false)?;
            samples.wrong.splice(0..0, wrong);
            return Ok(Self { samples, asked: true });
        }
        let counted = stock.count();
        if let Some((count, first)) = &counted.lacking {
            process::warn(&format!(
                "stdin: {count} stored streams lack \"archive\" lines and are not sampled; the first is {first}"
            ));
        }
        let smallest = counted.runs.iter().map(|run| run.size).min();
        let smallest = smallest.ok_or_else(|| {
            Error::Data("stdin: no stream is stored here, and no job asked for".to_owned())
        })?;
        if smallest > budget {
            let (budget, smallest) = (units::bytes(budget), units::bytes(smallest));
            return Err(Error::Usage(format!(
                "--budget: {budget} holds no part; the smallest has {smallest}"
            )));
        }
        if let Some((volumes, largest)) = choice::too_large(&counted.runs, budget) {
            process::warn(&format!(
                "--budget: {} holds no part of {}, so {volumes} volumes are not sampled",
                units::bytes(budget),
                units::bytes(largest)
            ));
        }
        let chosen = choice::choose(&counted.runs, budget, chance);
        let wanted = samples::of_chosen(input.all()?, &counted, &chosen)?;
        Ok(Self { samples: samples::gather(input.all()?, wanted, true)?, asked: false })
    }

    /// Whether standard input told of jobs.
    pub fn is_asked(&self) -> bool {
        self.asked
    }

    /// The places that hold what is to be brought back.
    pub fn places(&self) -> &[Place] {
        &self.samples.places
    }

    /// What it costs, if none of it was asked for yet.
    ///
    /// # Errors
    /// When the table of prices lacks something.
    pub fn cost(&self, tier: Tier, prices: &Prices) -> Result<Cost> {
        let list = &self.samples.list;
        let jobs = u64::try_from(list.len()).unwrap_or(u64::MAX);
        let size = list.iter().map(Sample::size).fold(0, u64::saturating_add);
        let transfer = prices.transfer(size);
        let bring = list.iter().map(Sample::bring).collect::<Vec<_>>();
        let retrieval = estimate::retrieval(prices, |_| tier, &bring, ahead::days(size, None))?;
        Ok(Cost {
            tier: tier.to_string(),
            jobs,
            size,
            retrieval,
            transfer,
            price: retrieval.and(transfer),
            currency: prices.currency.clone(),
            prices_date: prices.date,
        })
    }

    /// Prints what would be brought back, and what that costs.
    ///
    /// # Errors
    /// When standard output cannot take it, or a sample cannot be compared.
    pub fn print(self, cost: &Cost) -> Result<()> {
        for sample in &self.samples.list {
            for parts in sample.parts.chunk_by(|(a, _), (b, _)| a.checked_add(1) == Some(*b)) {
                let line = line(sample, parts, Timestamp::UNIX_EPOCH)?;
                process::print_line(&Sampling {
                    stream: line.stream,
                    host: &line.host,
                    name: &line.name,
                    generation: line.generation,
                    volume: line.volume,
                    part: line.part,
                    parts: line.parts,
                    offset: line.offset,
                    size: line.size,
                    dest: &line.dest,
                    region: &line.region,
                    archive_id: &line.archive_id,
                })?;
            }
        }
        process::print_line(cost)?;
        Failures::new(self.samples.wrong).finish(self.samples.list.len())
    }
}

impl Cost {
    /// Refuses more than the user would pay.
    ///
    /// # Errors
    /// When it is more.
    pub fn check(&self, most: Option<Money>) -> Result<()> {
        match most.filter(|most| self.price > *most) {
            None => Ok(()),
            Some(most) => Err(Error::No(format!(
                "it would cost {} {}, over {most}, by the prices of {}; nothing was asked for",
                self.price, self.currency, self.prices_date
            ))),
        }
    }
}

/// Reads from the catalog file what was sampled or deleted; one that is not
/// there tells nothing.
fn read_past(path: &Path, stock: &mut Stock) -> Result<()> {
    let cannot = |e| Error::io(format!("catalog {}", path.display()), e);
    match path.metadata() {
        Ok(metadata) if metadata.is_file() => {}
        Ok(_) => return Err(cannot(io::Error::other("not a regular file"))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(cannot(e)),
    }
    let file = File::open(path).map_err(cannot)?;
    let mut reader = Reader::new(BufReader::with_capacity(256 << 10, file));
    while let Some(text) = reader.read().map_err(cannot)? {
        if let Text::Line(text) = text
            && [r#"{"type":"verified""#, r#"{"type":"deleted""#].iter().any(|h| text.starts_with(h))
            && let Ok(Some(line)) = Line::parse(&text)
        {
            stock.take_past(line);
        }
    }
    Ok(())
}
