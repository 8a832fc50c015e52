//! Proof of life: a few parts of what is stored are brought back and
//! compared with the catalog's hashes.
//!
//! `candidates` reads what is stored and sampled, `choice` chooses (it touches
//! nothing), `samples` finds the hashes, `plan` puts them together, and what
//! is here brings the parts back. Nothing is kept of them: a part is hashed as it comes, so memory
//! does not grow with its size. Each sample is for itself: one that fails
//! ends no other.

pub(crate) mod candidates;
pub mod chance;
mod choice;
mod failures;
pub mod plan;
mod samples;

use std::cell::{Cell, RefCell};
use std::time::Duration;

use futures_util::stream::{self, FuturesUnordered, StreamExt as _};
use jiff::Timestamp;
use tokio::time::sleep;

use self::failures::Failures;
use self::plan::Plan;
use self::samples::Sample;
use crate::error::{Error, Result};
use crate::hash::tree::{Hash, TreeHash};
use crate::line::{HASHES, Job, Line, Verified, now};
use crate::process;
use crate::process::peers;
use crate::process::progress::Progress;
use crate::spool::catalog_file::Catalog;
use crate::storage::concurrency::Lanes;
use crate::storage::retry::Trouble;
use crate::storage::{Failure, Retrievals, Tier};
use crate::tools::retrieve::Settings;
use crate::tools::retrieve::estimate::tier_of;
use crate::tools::retrieve::jobs::{Archive, Begun, Jobs};

/// The `verified` line of parts that follow each other.
fn line(sample: &Sample, parts: &[(u32, Hash)], verified: Timestamp) -> Result<Verified> {
    let (Some((first, _)), Some((last, _))) = (parts.first(), parts.last()) else {
        return Err(Error::Bug("no part is a sample".to_owned()));
    };
    let (begin, end) = (sample.span(*first), sample.span(*last));
    let archive = sample.archive.clone();
    Ok(Verified {
        stream: archive.stream,
        host: archive.host,
        name: archive.name,
        generation: archive.generation,
        volume: archive.volume,
        part: *first,
        parts: (last - first).saturating_add(1),
        offset: begin.offset,
        size: end.offset + end.size - begin.offset,
        dest: archive.dest,
        region: archive.region,
        archive_id: archive.archive_id,
        verified,
    })
}

/// How a sample ended that did not fail.
#[derive(PartialEq, Eq)]
enum Outcome {
    Done,
    NotReady,
}

/// A run: the vaults, and what is shared by the samples.
struct Run<'a, V> {
    vaults: &'a [V],
    settings: &'a Settings,
    lanes: Lanes,
    catalog: RefCell<Option<&'a mut Catalog>>,
    ready: Cell<usize>,
    /// Bytes that were compared.
    done: Cell<u64>,
    /// Parts that differ, and what is wrong with hashes.
    failures: RefCell<Failures>,
}

/// Asks for all samples, and prints what is needed to compare them later.
/// `vaults` are the plan's places, in order.
///
/// # Errors
/// What ended it, or the worst of what some samples met.
pub async fn request<V: Retrievals>(plan: Plan, vaults: &[V], settings: &Settings) -> Result<()> {
    let list = plan.samples.list;
    let run = Run::new(vaults, settings, None, plan.samples.wrong);
    let work = async {
        let mut asked = stream::iter(&list)
            .map(async |sample| (sample, run.ask(sample).await))
            .buffered(settings.concurrency);
        while let Some((sample, asked)) = asked.next().await {
            match asked {
                Ok(job) => {
                    let tier = tier_of(settings.tier, sample.archive.class.as_deref());
                    process::put_out(requested(sample, job, tier)?.as_bytes())?;
                }
                Err(error) => run.failures.borrow_mut().add(error)?,
            }
        }
        Ok(())
    };
    tokio::select! {
        result = work => result?,
        gone = peers::unread() => return Err(gone),
    }
    run.failures.into_inner().finish(list.len())
}

/// The lines of a sample that was asked for.
fn requested(sample: &Sample, job: Begun, tier: Tier) -> Result<String> {
    let mut text = String::new();
    for line in &sample.lines {
        text += &Line::Hashes(line.clone()).text()?;
    }
    let range = sample.asked();
    text += &Line::Job(Job {
        archive: sample.archive.clone(),
        job_id: job.id,
        // Another one where there was no capacity, or the job was there.
        tier: job.tier.unwrap_or(tier).to_string(),
        requested: now(),
        range_offset: range.map(|range| range.offset),
        range_size: range.map(|range| range.size),
    })
    .text()?;
    Ok(text)
}

/// Brings all samples back and compares them. Each that equals its hashes is
/// in the catalog before it is told. `vaults` are the plan's places, in order.
///
/// # Errors
/// What ended it, or the worst of what some samples met.
pub async fn compare<V: Retrievals>(
    plan: Plan,
    vaults: &[V],
    settings: &Settings,
    catalog: &mut Catalog,
) -> Result<()> {
    let list = plan.samples.list;
    let all = list.iter().map(Sample::size).fold(0, u64::saturating_add);
    let run = Run::new(vaults, settings, Some(catalog), plan.samples.wrong);
    let work = async {
        let mut flying: FuturesUnordered<_> = list.iter().map(|sample| run.prove(sample)).collect();
        while let Some(proven) = flying.next().await {
            let mut failures = run.failures.borrow_mut();
            match proven {
                Ok(Outcome::Done) => {}
                Ok(Outcome::NotReady) => failures.not_ready += 1,
                Err(error) => failures.add(error)?,
            }
        }
        Ok(())
    };
    let progress = Progress::new(!settings.progress);
    let told = async {
        loop {
            let waiting = list.len().saturating_sub(run.ready.get());
            progress.say(|| match waiting {
                0 => String::new(),
                waiting => format!("{waiting} of {} samples not ready", list.len()),
            });
            progress.show(run.done.get(), all);
            sleep(Duration::from_secs(1)).await;
        }
    };
    let result = tokio::select! {
        result = work => result,
        gone = peers::unread() => Err(gone),
        () = told => Ok(()),
    };
    drop(progress);
    result?;
    run.failures.into_inner().finish(list.len())
}

impl<'a, V: Retrievals> Run<'a, V> {
    fn new(
        vaults: &'a [V],
        settings: &'a Settings,
        catalog: Option<&'a mut Catalog>,
        wrong: Vec<Error>,
    ) -> Self {
        Self {
            vaults,
            settings,
            lanes: Lanes::new(settings.concurrency),
            catalog: RefCell::new(catalog),
            ready: Cell::default(),
            done: Cell::default(),
            failures: RefCell::new(Failures::new(wrong)),
        }
    }

    fn vault(&self, sample: &Sample) -> Result<&'a V> {
        let vault = self.vaults.get(sample.place);
        vault.ok_or_else(|| Error::Bug("a sample has no place".to_owned()))
    }

    /// The jobs of one sample: of it alone, so that it ends no other.
    fn jobs(&self, sample: &Sample) -> Result<Jobs<'a, V>> {
        let archive = Archive::of(&sample.archive, 0, sample.asked(), sample.thing());
        let vault = std::slice::from_ref(self.vault(sample)?);
        Ok(Jobs::new(vault, vec![archive], self.settings))
    }

    /// An error, told as what it is if the archive is not there any more.
    fn blame(sample: &Sample, jobs: &Jobs<'_, V>, error: Error) -> Error {
        let id = &sample.archive.archive_id;
        match (error, jobs.missing(0)) {
            (Error::Refused(_), Some(why)) => Error::Data(format!(
                "{}: its archive {id} is not in {}: {why}; {}",
                sample.thing(),
                sample.archive.dest,
                advice(sample)
            )),
            (error, _) => error,
        }
    }

    /// Asks for a sample, and gives its job.
    async fn ask(&self, sample: &Sample) -> Result<Begun> {
        let jobs = self.jobs(sample)?;
        let lane = self.lanes.enter().await;
        let started = jobs.start().await;
        drop(lane);
        started.map_err(|error| Self::blame(sample, &jobs, error))?;
        jobs.begun(0).ok_or_else(|| Error::Bug("what was asked for has no job".to_owned()))
    }

    /// Brings a sample back, and compares it.
    async fn prove(&self, sample: &Sample) -> Result<Outcome> {
        let jobs = self.jobs(sample)?;
        let lane = self.lanes.enter().await;
        let started = jobs.start().await;
        drop(lane);
        started.map_err(|error| Self::blame(sample, &jobs, error))?;
        if self.settings.no_wait && jobs.waiting() > 0 {
            return Ok(Outcome::NotReady);
        }
        let result = tokio::select! {
            result = self.check(sample, &jobs) => result,
            result = jobs.follow() => result,
        };
        match result {
            // What had expired is asked for again, and not waited for.
            Err(Error::Unfinished(_)) if self.settings.no_wait && jobs.waiting() > 0 => {
                Ok(Outcome::NotReady)
            }
            Ok(()) => Ok(Outcome::Done),
            Err(error) => Err(Self::blame(sample, &jobs, error)),
        }
    }

    /// Compares the parts of a sample. One that differs is told, and the
    /// others go on.
    async fn check(&self, sample: &Sample, jobs: &Jobs<'_, V>) -> Result<()> {
        jobs.ready(0).await;
        self.ready.set(self.ready.get() + 1);
        let mut good: Vec<(u32, Hash)> = Vec::new();
        for (part, hash) in &sample.parts {
            let follows = good.last().is_none_or(|(last, _)| last.checked_add(1) == Some(*part));
            if !follows || good.len() >= HASHES {
                self.record(sample, &mut good)?;
            }
            let fetched = self.fetch(sample, *part, *hash, jobs).await;
            match fetched {
                Ok(None) => {
                    good.push((*part, *hash));
                    self.done.set(self.done.get() + sample.span(*part).size);
                }
                Ok(Some(damage)) => self.failures.borrow_mut().add(damage)?,
                Err(error) => {
                    // What was compared stays so.
                    self.record(sample, &mut good)?;
                    return Err(error);
                }
            }
        }
        self.record(sample, &mut good)
    }

    /// Writes down that parts equal their hashes, then says so.
    fn record(&self, sample: &Sample, parts: &mut Vec<(u32, Hash)>) -> Result<()> {
        if parts.is_empty() {
            return Ok(());
        }
        let text = Line::Verified(line(sample, parts, now())?).text()?;
        parts.clear();
        if let Some(catalog) = self.catalog.borrow_mut().as_mut() {
            catalog.append(&text)?;
        }
        process::put_out(text.as_bytes())
    }

    /// Downloads a part, and compares it; again and again where it differs.
    /// What it was found to be: damaged, if that is so.
    async fn fetch(
        &self,
        sample: &Sample,
        part: u32,
        expected: Hash,
        jobs: &Jobs<'_, V>,
    ) -> Result<Option<Error>> {
        let (vault, archive) = jobs.archive(0)?;
        let span = sample.span(part);
        let mut trouble = Trouble::default();
        loop {
            let job = jobs.ready(0).await;
            let mut hash = TreeHash::default();
            let lane = self.lanes.enter().await;
            let sink = &mut |piece: &[u8]| hash.update(piece);
            let fetched = vault.read(&job, archive.want(), span, sink).await;
            drop(lane);
            let failure = match fetched {
                Ok(_) if hash.finish() == expected => {
                    self.lanes.worked();
                    return Ok(None);
                }
                Ok(_) => Failure::Damaged("does not equal its hash".to_owned()),
                Err(failure) if vault.is_gone(&job, &failure).await => {
                    jobs.renew(0, &job, &failure.to_string()).await?;
                    continue;
                }
                Err(failure) => failure,
            };
            self.lanes.failed(&failure);
            match self.settings.patience.after(&mut trouble, failure) {
                Ok(pause) => sleep(pause).await,
                Err(Failure::Damaged(why)) => {
                    let id = &sample.archive.archive_id;
                    let (thing, advice) = (sample.thing(), advice(sample));
                    let text =
                        format!("{thing}: part {part}: {why}; archive {id} is damaged; {advice}");
                    return Ok(Some(Error::Data(text)));
                }
                Err(failure) => return Err(failure.on(&sample.thing())),
            }
        }
    }
}

/// What to do about an archive that cannot be restored.
fn advice(sample: &Sample) -> String {
    let stream = sample.archive.stream;
    format!("store stream {stream} in another vault while its snapshot is there")
}
