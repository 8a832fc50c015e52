//! Retrieval jobs: what the service was asked to bring up, and how far it is.
//!
//! A job costs money and hours, so one that the service still knows is taken
//! instead of a new one: running the same command again continues the same
//! retrieval. No job is remembered here; the service's list is the state.

mod ask;

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::error::{Error, Result};
use crate::line::{self, Id};
use crate::storage::{Readiness, Retrievals, Sought, Span, Tier, Unit, Want};
use crate::tools::retrieve::Settings;
use crate::tools::retrieve::ahead::{self, Meter, Standing, allowance, due};
use crate::tools::retrieve::estimate::{Budget, tier_of};

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
    pub id: Id,
    /// Which of the versions of that name, where there are any.
    pub version: Option<String>,
    /// What the service calls its bytes, where it does.
    pub tag: Option<String>,
    /// Its storage class, where there are any.
    pub class: Option<String>,
    /// What of it is needed, unless that is all of it.
    pub range: Option<Span>,
    /// What the user knows it as: stream and volume.
    pub thing: String,
}

impl Archive {
    /// What is needed of the archive of a line.
    pub fn of(line: &line::Archive, place: usize, range: Option<Span>, thing: String) -> Self {
        Self {
            place,
            id: line.archive_id.clone(),
            version: line.version.clone(),
            tag: line.etag.clone(),
            class: line.class.clone(),
            range,
            thing,
        }
    }

    /// What the service is asked for.
    pub fn want(&self) -> Want<'_> {
        Want {
            archive: &self.id,
            version: self.version.as_deref(),
            tag: self.tag.as_deref(),
            class: self.class.as_deref(),
            span: self.range,
        }
    }
}

/// The jobs of all archives.
pub struct Jobs<'a, V> {
    vaults: &'a [V],
    settings: &'a Settings,
    archives: Vec<Archive>,
    states: RefCell<Vec<State>>,
    changed: Notify,
    /// Of those that are begun now, if the user has asked for one.
    tier: Cell<Option<Tier>>,
    /// How far ahead to ask, if that has a bound: a rate that is assumed.
    bounded: bool,
    assumed: Option<u64>,
    meter: Meter,
    budget: Option<Budget>,
    /// The account's policy allows nothing: the next pause.
    policy: Cell<Option<Duration>>,
    /// It was told that it does.
    is_policy_told: Cell<bool>,
    /// When a job was begun last, or this run.
    last: Cell<Instant>,
}

/// A job that was begun, by this run or before.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Begun {
    /// The service's name for it.
    pub id: Id,
    /// Its tier, if the service told.
    pub tier: Option<Tier>,
    /// When it was asked for, if the service told.
    pub requested: Option<Timestamp>,
}

/// How far the job of an archive is.
#[derive(Clone, Default, Debug)]
struct State {
    job: Option<Begun>,
    /// Since when this run waits for it.
    since: Option<Instant>,
    /// It is being asked for: a second time would cost as much.
    asking: bool,
    ready: bool,
    /// Jobs that have failed or been forgotten in this run. They may still be
    /// listed as ready.
    gone: Vec<Id>,
    /// The present job has brought bytes.
    is_useful: bool,
    /// A job that somebody was told of in an earlier run.
    known: Option<Id>,
    /// The archive is not there, and what the service says.
    missing: Option<String>,
    /// Bytes that are still to be fetched; not counted without a bound.
    left: u64,
}

impl State {
    fn id(&self) -> Option<&Id> {
        self.job.as_ref().map(|job| &job.id)
    }

    /// What is asked after, of an archive in this state.
    fn sought<'s>(&'s self, archive: &'s Archive) -> Sought<'s> {
        let ticket = self.id().or(self.known.as_ref());
        Sought { want: archive.want(), ticket, gone: &self.gone }
    }
}

impl<'a, V: Retrievals> Jobs<'a, V> {
    /// Nothing is asked yet.
    pub fn new(vaults: &'a [V], mut archives: Vec<Archive>, settings: &'a Settings) -> Self {
        for archive in &mut archives {
            let class = archive.class.as_deref();
            let unit = vaults.get(archive.place).map(|vault| vault.unit(class));
            archive.range = archive.range.filter(|_| unit == Some(Unit::Span));
        }
        let states = RefCell::new(vec![State::default(); archives.len()]);
        Self {
            vaults,
            settings,
            archives,
            states,
            changed: Notify::new(),
            tier: Cell::new(settings.tier),
            bounded: false,
            assumed: None,
            meter: Meter::default(),
            budget: None,
            policy: Cell::default(),
            is_policy_told: Cell::default(),
            last: Cell::new(Instant::now()),
        }
    }

    /// The same with jobs that were begun before, in the order of the
    /// archives; they are taken if the service still knows them.
    #[must_use]
    pub fn knowing(self, jobs: impl IntoIterator<Item = Option<Id>>) -> Self {
        self.states.borrow_mut().iter_mut().zip(jobs).for_each(|(state, job)| state.known = job);
        self
    }

    /// The same, and no more is asked for than comes in a day: bytes of each
    /// archive, and a rate that is assumed until there is one.
    #[must_use]
    pub fn bounded(self, sizes: impl IntoIterator<Item = u64>, assumed: Option<u64>) -> Self {
        self.states.borrow_mut().iter_mut().zip(sizes).for_each(|(state, left)| state.left = left);
        Self { bounded: true, assumed, ..self }
    }

    /// The same, and jobs must not cost more than that.
    #[must_use]
    pub fn within(self, budget: Option<Budget>) -> Self {
        Self { budget, ..self }
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

    /// What the service says of an archive that is not there.
    pub fn missing(&self, index: usize) -> Option<String> {
        self.state(index).missing
    }

    /// Measures how fast bytes come.
    pub fn meter(&self) -> &Meter {
        &self.meter
    }

    /// The job of an archive, if it was asked for.
    pub fn begun(&self, index: usize) -> Option<Begun> {
        self.state(index).job
    }

    /// The tier in which an archive is asked for now.
    fn tier(&self, archive: &Archive) -> Tier {
        tier_of(self.tier.get(), archive.class.as_deref())
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

    /// Bytes of an archive have come.
    pub fn came(&self, index: usize, bytes: u64) {
        let mut states = self.states.borrow_mut();
        let Some(state) = states.get_mut(index) else { return };
        (state.is_useful, state.left) = (true, state.left.saturating_sub(bytes));
        let is_last = state.left == 0;
        let knew = self.meter.rate().is_some();
        self.meter.came(bytes);
        if is_last || !knew && self.meter.rate().is_some() {
            self.changed.notify_waiters();
        }
    }

    /// How many archives are not ready, those among them that are not asked
    /// for yet.
    pub fn waiting(&self) -> usize {
        self.states.borrow().iter().filter(|state| !state.ready).count()
    }

    /// How many archives were asked for and are not ready.
    pub fn asked(&self) -> usize {
        self.states.borrow().iter().filter(|state| state.job.is_some() && !state.ready).count()
    }

    /// How many archives are to be asked for later.
    pub fn later(&self) -> usize {
        self.states.borrow().iter().filter(|state| state.job.is_none()).count()
    }

    /// The exit of `--no-wait`.
    pub fn not_ready(&self) -> Error {
        Error::Unfinished(format!(
            "{} of {} archives are not ready; run the same command again in a few hours",
            self.waiting(),
            self.archives.len()
        ))
    }

    /// Takes the jobs that the service knows, and asks for what none brings,
    /// as far ahead as is allowed.
    ///
    /// # Errors
    /// When the service refuses, or patience is at its end.
    pub async fn start(&self) -> Result<()> {
        self.look_at_all().await?;
        self.ask_what_is_due().await
    }

    /// Takes the jobs that the service knows.
    ///
    /// # Errors
    /// As [`Self::start`]; or when the jobs that it does not know cost more
    /// than is allowed.
    pub async fn look_at_all(&self) -> Result<()> {
        for place in 0..self.vaults.len() {
            if self.archives.iter().any(|archive| archive.place == place) {
                self.look(place).await?;
            }
        }
        let Some(budget) = &self.budget else { return Ok(()) };
        let states = self.states.borrow();
        let new = states.iter().enumerate().filter(|(_, state)| state.job.is_none());
        budget.check(self.tier.get(), new.map(|(index, _)| index))
    }

    /// Which archives to ask for now.
    fn due(&self) -> Vec<usize> {
        let states = self.states.borrow();
        let all = states
            .iter()
            .map(|state| Standing { left: state.left, asked: state.job.is_some() || state.asking });
        let lasts = self.vaults.iter().filter_map(|vault| vault.limits().output_lasts).min();
        due(all, if self.bounded { allowance(self.rate(), lasts) } else { u64::MAX })
    }

    /// Bytes a second, measured or assumed.
    fn rate(&self) -> Option<u64> {
        self.meter.rate().or(self.assumed)
    }

    /// For how many days an archive should be kept that is asked for now.
    fn days(&self) -> u16 {
        let left = self.states.borrow().iter().map(|state| state.left).fold(0, u64::saturating_add);
        ahead::days(left, self.rate())
    }

    /// Asks a vault how far its archives are. Gives one that takes too long,
    /// if there is one.
    async fn look(&self, place: usize) -> Result<Option<usize>> {
        let Some(vault) = self.vaults.get(place) else { return Ok(None) };
        let longest = vault.limits().retrieval;
        let mut late = None;
        let all = self.archives.iter().enumerate().filter(|(_, archive)| archive.place == place);
        let all = all.map(|(index, archive)| (index, archive, self.state(index)));
        let waiting: Vec<_> = all.filter(|(_, _, state)| !state.ready).collect();
        let sought = waiting.iter().map(|(_, archive, state)| state.sought(archive));
        let sought: Vec<Sought<'_>> = sought.collect();
        let found = self.settings.patience.with(async || vault.readiness(&sought).await).await;
        let found = found.map_err(|failure| failure.on(&vault.dest().to_string()))?;
        for ((index, _, before), readiness) in waiting.iter().zip(found.value) {
            // By the service's clock, and by this machine's should that stand
            // still.
            if let Readiness::Coming { since, .. } = &readiness {
                let asked = since.map(|since| found.at.duration_since(since));
                let here = before.since.map(|since| since.elapsed());
                let here = here.and_then(|here| SignedDuration::try_from(here).ok());
                late = late.or((asked.max(here) >= Some(longest)).then_some(*index));
            }
            match (readiness, before.id()) {
                (Readiness::Failed(why), Some(id)) => self.renew(*index, id, &why).await?,
                // What an earlier run told of is asked after once: what is gone
                // does not come back.
                (Readiness::Failed(_) | Readiness::Cold, None) => {
                    self.change(*index, |state| state.known = None);
                }
                (readiness, _) => {
                    self.take(*index, &readiness);
                }
            }
        }
        Ok(late)
    }

    /// Takes what brings an archive up, if there is anything.
    fn take(&self, index: usize, readiness: &Readiness) -> bool {
        let is_ready = matches!(readiness, Readiness::Ready { .. });
        let (id, requested, tier) = match readiness {
            Readiness::Coming { ticket, since, tier }
            | Readiness::Ready { ticket, since, tier, .. } => (ticket, since, tier),
            Readiness::Cold | Readiness::Failed(_) => return false,
        };
        self.change(index, |state| {
            if state.id() != Some(id) {
                state.job = Some(Begun { id: id.clone(), tier: *tier, requested: *requested });
                state.since = Some(Instant::now());
            }
            state.ready = is_ready;
        });
        true
    }

    /// Gives up a job that failed or whose output is gone, and asks again:
    /// once for each archive in a run, and again when the last one has brought
    /// bytes, as a slow line may need more than one.
    ///
    /// # Errors
    /// When it is not the first time, or nobody is to wait for the new job.
    pub async fn renew(&self, index: usize, job: &Id, why: &str) -> Result<()> {
        let (_, archive) = self.archive(index)?;
        let state = self.state(index);
        if state.id() != Some(job) {
            // Another request has met the same, and a new job is asked for.
            return Ok(());
        }
        if !state.gone.is_empty() && !state.is_useful {
            return Err(Error::Unfinished(format!(
                "{}: its retrieval failed again: {why}; run the same command again",
                archive.thing
            )));
        }
        self.change(index, |state| {
            state.gone.push(job.to_owned());
            (state.job, state.ready, state.is_useful) = (None, false, false);
        });
        self.ask(index).await?;
        if self.settings.no_wait { Err(self.not_ready()) } else { Ok(()) }
    }

    /// The job of an archive, once its output is ready.
    pub async fn ready(&self, index: usize) -> Id {
        loop {
            let changed = self.changed.notified();
            if let State { job: Some(job), ready: true, .. } = self.state(index) {
                return job.id;
            }
            changed.await;
        }
    }

    /// Looks at the jobs that are not ready, for ever, and asks for more when
    /// there is room.
    ///
    /// # Errors
    /// When the service refuses, or patience is at its end; or when one of
    /// them takes too long and nothing else comes.
    pub async fn follow(&self) -> Result<()> {
        tokio::select! {
            result = self.watch() => result,
            result = self.ask_ahead() => result,
        }
    }

    /// Looks at the jobs that are not ready, for ever.
    async fn watch(&self) -> Result<()> {
        let mut pause = PAUSES.0;
        loop {
            let changed = self.changed.notified();
            if self.asked() == 0 {
                changed.await;
                pause = PAUSES.0;
            }
            sleep(pause).await;
            pause = pause.mul_f64(1.5).min(PAUSES.1);
            for place in 0..self.vaults.len() {
                let waits = |(index, archive): (usize, &Archive)| {
                    let state = self.state(index);
                    archive.place == place && state.job.is_some() && !state.ready
                };
                if !self.archives.iter().enumerate().any(waits) {
                    continue;
                }
                // What comes meanwhile is taken first.
                if let Some(index) = self.look(place).await?
                    && self.meter.is_idle()
                {
                    let (_, archive) = self.archive(index)?;
                    return Err(Error::Unfinished(format!(
                        "{}: was asked for over a day ago, and is not ready; run the same command again",
                        archive.thing
                    )));
                }
            }
        }
    }
}
