//! Bringing streams back: a job for each archive, then verified parts in
//! order.
//!
//! I5: no byte is passed on that was not verified against our own part hash,
//! and success is told only at the proven end of every stream. What is in the
//! output or kept from an earlier run is verified too, and not asked for
//! again.

mod deliver;
pub mod kept;
pub mod output;
pub mod plan;
mod resume;
#[cfg(test)]
mod tests;
pub mod work;

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::Timestamp;
use tokio::time::sleep;

use self::deliver::{Line as Shared, deliver};
use self::kept::{Keep, Kept};
use self::output::Output;
use self::plan::Plan;
use self::work::{Needed, Prefix, Work};
use crate::error::Result;
use crate::line::{Job, Line};
use crate::process;
use crate::storage::Retrievals;
use crate::tools::retrieve::Settings;
use crate::tools::retrieve::estimate::{Bounds, tier_of};
use crate::tools::retrieve::jobs::{Archive, Jobs};
use crate::units;

/// A plan, where it goes, and what is here of it already.
pub struct Task<'a> {
    plan: &'a Plan,
    output: &'a Output,
    bounds: &'a Bounds,
    /// Where each stream's volumes are kept, if they are.
    kept: Vec<Option<Arc<Kept>>>,
    /// What is to be done.
    pub work: Work<'a>,
}

impl<'a> Task<'a> {
    /// Finds what is in the output and what is kept. Nothing is written when
    /// it is only a `look`, and nothing is asked of the service.
    ///
    /// # Errors
    /// When a file cannot be read, or has bytes of its own.
    pub async fn prepare(
        plan: &'a Plan,
        output: &'a Output,
        keep: Option<&Arc<Keep>>,
        bounds: &'a Bounds,
        look: bool,
    ) -> Result<Self> {
        let passed = match plan.streams.as_slice() {
            [stream] => output.passed(stream).await?,
            _ => 0,
        };
        let (mut kept, mut held) = (Vec::new(), Vec::new());
        for stream in &plan.streams {
            let of_stream = keep.map(|keep| keep.stream(stream));
            for volume in &stream.volumes {
                held.push(match &of_stream {
                    Some(kept) if volume.is_wanted() => look_up(kept, volume, look).await?,
                    _ => None,
                });
            }
            kept.push(of_stream);
        }
        let work = Work::new(plan, passed, &held);
        Ok(Self { plan, output, bounds, kept, work })
    }

    /// Whether the service is needed.
    pub fn asks(&self) -> bool {
        !self.work.archives.is_empty()
    }

    /// The jobs of its archives; `vaults` are the plan's places, in order.
    ///
    /// # Errors
    /// No, when more would be downloaded than is allowed.
    fn jobs<'j, V: Retrievals>(
        &self,
        vaults: &'j [V],
        settings: &'j Settings,
    ) -> Result<Jobs<'j, V>> {
        let needs = self.work.needs(false);
        self.bounds.check(&needs)?;
        let needed = || self.work.archives.iter();
        let archives = needed().map(|Needed { stream, volume, .. }| {
            let thing = format!("{}: volume {}", stream.name, volume.line.volume);
            Archive::of(&volume.line, volume.place, volume.wanted, thing)
        });
        let known = needed().map(|Needed { volume, .. }| {
            let mut jobs = volume.jobs.iter().rev();
            jobs.find(|(range, _)| *range == volume.wanted).map(|(_, job)| job.clone())
        });
        Ok(Jobs::new(vaults, archives.collect(), settings)
            .knowing(known)
            .bounded(needed().map(|needed| needed.left), self.bounds.rate)
            .within(self.bounds.budget(&needs)))
    }

    /// Brings it back.
    ///
    /// # Errors
    /// The failure that ended it. Nothing that was written is wrong then, but
    /// it is not all.
    pub async fn run<V: Retrievals>(&self, vaults: &[V], settings: &Settings) -> Result<()> {
        let (plan, output) = (self.plan, self.output);
        let jobs = self.jobs(vaults, settings)?;
        if self.asks() {
            tokio::select! {
                result = jobs.start() => result?,
                error = output.watch(|| true) => return Err(error),
            }
        }
        if settings.no_wait && jobs.asked() > 0 {
            return Err(jobs.not_ready());
        }
        let bar = progress(plan, settings);
        let shared = Shared { jobs: &jobs, settings, output, bar: &bar };
        let work = async {
            for ((stream, pieces), kept) in
                plan.streams.iter().zip(&self.work.streams).zip(&self.kept)
            {
                deliver(stream, pieces, kept.as_ref(), &shared).await?;
            }
            Ok(())
        };
        let count = self.work.archives.len();
        let told = async {
            loop {
                bar.set_message(match jobs.waiting() {
                    0 => String::new(),
                    waiting => format!("{waiting} of {count} archives not ready"),
                });
                bar.tick();
                sleep(Duration::from_secs(1)).await;
            }
        };
        // While nothing comes, nothing is written, and no write fails.
        let before = Cell::new(0);
        let is_still = || before.replace(bar.position()) == bar.position();
        let result = tokio::select! {
            result = work => result,
            result = jobs.follow() => result,
            error = output.watch(|| jobs.waiting() > 0 || is_still()) => Err(error),
            () = told => Ok(()),
        };
        bar.finish_and_clear();
        result
    }

    /// Asks for it, and gives the lines by which it can be fetched later.
    ///
    /// # Errors
    /// When the service refuses, or patience is at its end.
    pub async fn request<V: Retrievals>(
        &self,
        vaults: &[V],
        settings: &Settings,
    ) -> Result<Vec<Line>> {
        let jobs = self.jobs(vaults, settings)?;
        if self.asks() {
            tokio::select! {
                result = async { jobs.look_at_all().await?; jobs.ask_all().await } => result?,
                error = self.output.watch(|| true) => return Err(error),
            }
        }
        let later = jobs.later();
        if later > 0 {
            let rate = match self.bounds.rate {
                Some(rate) => format!("at {} a second", units::bytes(rate)),
                None => "at 7.6 Mbit/s (see --assume-rate)".to_owned(),
            };
            process::warn(&format!(
                "{} of {} archives are asked for, as much as comes in 20 h {rate}; the others are \
                 asked for as these come",
                self.work.archives.len() - later,
                self.work.archives.len()
            ));
        }
        let mut archives = self.work.archives.iter().enumerate().peekable();
        let line = |_, volume: &plan::Volume| {
            let mine = archives.next_if(|(_, needed)| std::ptr::eq(needed.volume, volume));
            let begun = mine.and_then(|(index, _)| jobs.begun(index));
            let archive = volume.line.clone();
            match begun {
                None => Line::Archive(archive),
                Some(begun) => Line::Job(Job {
                    archive,
                    job_id: begun.id,
                    tier: begun
                        .tier
                        .unwrap_or_else(|| tier_of(settings.tier, volume.line.class.as_deref()))
                        .to_string(),
                    requested: begun.requested.unwrap_or_else(Timestamp::now),
                    range_offset: volume.wanted.map(|range| range.offset),
                    range_size: volume.wanted.map(|range| range.size),
                }),
            }
        };
        Ok(self.plan.lines(line).collect())
    }
}

/// What is kept of a volume. One that is whole but for its name is given it.
async fn look_up(kept: &Arc<Kept>, volume: &plan::Volume, look: bool) -> Result<Prefix> {
    let size = volume.line.size;
    if let Some(held) = kept.whole(volume)? {
        return Ok(Some((held, size)));
    }
    let Some((held, file)) = kept.begun(volume)? else { return Ok(None) };
    let parts = volume.parts().map(|(part, hash)| (part.size, hash));
    let bytes = resume::verified(&Arc::new(file), &held.name(), parts).await?;
    if bytes == size && !look {
        kept.writer(volume, bytes)?.write(&[], bytes, true)?;
        return Ok(kept.whole(volume)?.map(|held| (held, size)));
    }
    Ok(Some((held, bytes)))
}

/// Progress on standard error, if that is a terminal.
fn progress(plan: &Plan, settings: &Settings) -> ProgressBar {
    let total = plan.streams.iter().map(|stream| stream.size).fold(0, u64::saturating_add);
    if !settings.progress {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
    let style = "{binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta} left {msg}";
    // The template is a constant; a bar without it is a bar still.
    ProgressStyle::with_template(style).map(|style| bar.set_style(style)).ok();
    bar
}
