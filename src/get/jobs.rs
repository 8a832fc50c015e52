//! Retrieval jobs: what the service was asked to bring up, and how far it is.
//!
//! A job costs money and hours, so one that the service still knows is taken
//! instead of a new one: running the same command again continues the same
//! retrieval. No job is remembered here; the service's list is the state.

use std::cell::RefCell;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio::sync::Notify;
use tokio::time::sleep;

use super::Settings;
use crate::error::{Error, Result};
use crate::vault::retry::Trouble;
use crate::vault::{Failure, Job, JobState, Span, Vault};

/// The first and the longest pause between two looks at the service's list;
/// the services of unit tests are quicker.
#[cfg(not(test))]
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(5));
#[cfg(test)]
const PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(20));

/// An archive that is needed.
#[derive(Debug)]
pub struct Archive {
    /// Which of the vaults holds it.
    pub place: usize,
    /// The service's name for it.
    pub id: String,
    /// What of it is needed, unless that is all of it.
    pub range: Option<Span>,
    /// What the user knows it as: stream and volume.
    pub thing: String,
}

/// The jobs of all archives.
pub struct Jobs<'a, V> {
    vaults: &'a [V],
    settings: &'a Settings,
    archives: Vec<Archive>,
    states: RefCell<Vec<State>>,
    changed: Notify,
}

/// How far the job of an archive is.
#[derive(Clone, Default, Debug)]
struct State {
    job: Option<String>,
    ready: bool,
    /// A job that has failed or been forgotten in this run; there is only one.
    /// It may still be listed as ready.
    gone: Option<String>,
}

impl<'a, V: Vault> Jobs<'a, V> {
    /// Nothing is asked yet.
    pub fn new(vaults: &'a [V], archives: Vec<Archive>, settings: &'a Settings) -> Self {
        let states = RefCell::new(vec![State::default(); archives.len()]);
        Self { vaults, settings, archives, states, changed: Notify::new() }
    }

    /// The vault that holds an archive, and the archive.
    ///
    /// # Errors
    /// When there is no such archive in the plan.
    pub fn archive(&self, index: usize) -> Result<(&'a V, &Archive)> {
        let archive = self.archives.get(index);
        let vault = archive.and_then(|archive| self.vaults.get(archive.place));
        vault.zip(archive).ok_or_else(|| Error::Bug("an archive is not in the plan".to_owned()))
    }

    fn state(&self, index: usize) -> State {
        self.states.borrow().get(index).cloned().unwrap_or_default()
    }

    fn change(&self, index: usize, change: impl FnOnce(&mut State)) {
        if let Some(state) = self.states.borrow_mut().get_mut(index) {
            change(state);
        }
        self.changed.notify_waiters();
    }

    /// How many archives are not ready.
    pub fn waiting(&self) -> usize {
        self.states.borrow().iter().filter(|state| !state.ready).count()
    }

    /// The exit of `--no-wait`.
    pub fn not_ready(&self) -> Error {
        Error::Unfinished(format!(
            "{} of {} archives are not ready; run the same command again in a few hours",
            self.waiting(),
            self.archives.len()
        ))
    }

    /// Takes the jobs that the service knows, and asks for what none brings.
    ///
    /// # Errors
    /// When the service refuses, or patience is at its end.
    pub async fn start(&self) -> Result<()> {
        for place in 0..self.vaults.len() {
            self.look(place).await?;
        }
        let missing: Vec<usize> =
            (0..self.archives.len()).filter(|index| self.state(*index).job.is_none()).collect();
        stream::iter(missing)
            .map(|index| self.ask(index))
            .buffer_unordered(self.settings.concurrency)
            .try_collect()
            .await
    }

    /// Reads a vault's list of jobs into the states.
    async fn look(&self, place: usize) -> Result<()> {
        let Some(vault) = self.vaults.get(place) else { return Ok(()) };
        let jobs = self.settings.patience.with(async || vault.jobs().await).await;
        let jobs = jobs.map_err(|failure| failure.on(&vault.dest().to_string()))?;
        for (index, archive) in self.archives.iter().enumerate() {
            let state = self.state(index);
            if archive.place != place || state.ready {
                continue;
            }
            match &state.job {
                None => {
                    if let Some(job) = job_for(&jobs, archive, state.gone.as_deref()) {
                        self.take(index, job);
                    }
                }
                Some(id) => match jobs.iter().find(|job| job.id == *id) {
                    Some(Job { state: JobState::Waiting, .. }) => {}
                    Some(job @ Job { state: JobState::Ready, .. }) => self.take(index, job),
                    Some(Job { state: JobState::Failed(why), .. }) => {
                        self.renew(index, id, why).await?;
                    }
                    // A list may be behind; a new job costs money.
                    None => {
                        if let Err(failure @ Failure::Missing(_)) = vault.job(id).await {
                            self.renew(index, id, &failure.to_string()).await?;
                        }
                    }
                },
            }
        }
        Ok(())
    }

    fn take(&self, index: usize, job: &Job) {
        self.change(index, |state| {
            state.job = Some(job.id.clone());
            state.ready = job.state == JobState::Ready;
        });
    }

    /// Asks for an archive. After a failure nothing is asked before the list
    /// was read: the reply may have been lost, not the request, and a second
    /// one costs as much.
    async fn ask(&self, index: usize) -> Result<()> {
        let (vault, archive) = self.archive(index)?;
        let gone = self.state(index).gone;
        let mut trouble = Trouble::default();
        let mut unsure = false;
        loop {
            let failure = if unsure {
                match vault.jobs().await {
                    Ok(jobs) => {
                        if let Some(job) = job_for(&jobs, archive, gone.as_deref()) {
                            self.take(index, job);
                            return Ok(());
                        }
                        unsure = false;
                        continue;
                    }
                    Err(failure) => failure,
                }
            } else {
                match vault.retrieve(&archive.id, archive.range, self.settings.tier).await {
                    Ok(id) => {
                        self.change(index, |state| (state.job, state.ready) = (Some(id), false));
                        return Ok(());
                    }
                    Err(failure) => failure,
                }
            };
            let pause = self.settings.patience.after(&mut trouble, failure);
            sleep(pause.map_err(|failure| failure.on(&archive.thing))?).await;
            unsure = true;
        }
    }

    /// Gives up a job that failed or whose output is gone, and asks again,
    /// once for each archive in a run.
    ///
    /// # Errors
    /// When it is not the first time, or nobody is to wait for the new job.
    pub async fn renew(&self, index: usize, job: &str, why: &str) -> Result<()> {
        let (_, archive) = self.archive(index)?;
        let state = self.state(index);
        if state.job.as_deref() != Some(job) {
            // Another request has met the same, and a new job is asked for.
            return Ok(());
        }
        if state.gone.is_some() {
            return Err(Error::Unfinished(format!(
                "{}: its retrieval failed again: {why}; run the same command again",
                archive.thing
            )));
        }
        let gone = Some(job.to_owned());
        self.change(index, |state| *state = State { gone, ..State::default() });
        self.ask(index).await?;
        if self.settings.no_wait { Err(self.not_ready()) } else { Ok(()) }
    }

    /// The job of an archive, once its output is ready.
    pub async fn ready(&self, index: usize) -> String {
        loop {
            let changed = self.changed.notified();
            if let State { job: Some(job), ready: true, .. } = self.state(index) {
                return job;
            }
            changed.await;
        }
    }

    /// Looks at the jobs that are not ready, for ever.
    ///
    /// # Errors
    /// When the service refuses, or patience is at its end.
    pub async fn follow(&self) -> Result<()> {
        let mut pause = PAUSES.0;
        loop {
            let changed = self.changed.notified();
            if self.waiting() == 0 {
                changed.await;
                pause = PAUSES.0;
            }
            sleep(pause).await;
            pause = pause.mul_f64(1.5).min(PAUSES.1);
            for place in 0..self.vaults.len() {
                let waits = |(index, archive): (usize, &Archive)| {
                    archive.place == place && !self.state(index).ready
                };
                if self.archives.iter().enumerate().any(waits) {
                    self.look(place).await?;
                }
            }
        }
    }
}

/// The job that brings up what is needed of an archive and has not failed; one
/// that is ready before one that is not.
fn job_for<'j>(jobs: &'j [Job], archive: &Archive, gone: Option<&str>) -> Option<&'j Job> {
    jobs.iter()
        .filter(|job| job.range == archive.range)
        .filter(|job| job.archive_id.as_deref() == Some(archive.id.as_str()))
        .filter(|job| gone != Some(job.id.as_str()))
        .filter(|job| !matches!(job.state, JobState::Failed(_)))
        .max_by_key(|job| job.state == JobState::Ready)
}
