//! Asking for archives: each once, in the tier there is capacity for, and as
//! much as the account's policy allows.

use std::time::Instant;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use tokio::time::sleep;

use super::{Begun, Jobs, PAUSES};
use crate::error::{Error, Result};
use crate::process;
use crate::storage::retry::Trouble;
use crate::storage::{Attempt, Failure, Readiness, Requested, Retrievals, Sought, Tier};

impl<V: Retrievals> Jobs<'_, V> {
    /// Asks for what is due. What the account's policy does not allow now
    /// stays due.
    pub(super) async fn ask_what_is_due(&self) -> Result<()> {
        stream::iter(self.due())
            .map(|index| self.ask(index))
            .buffer_unordered(self.settings.concurrency)
            .try_collect()
            .await
    }

    /// Asks for all that is allowed, and waits where the account's policy
    /// says so.
    ///
    /// # Errors
    /// As [`Jobs::start`].
    pub async fn ask_all(&self) -> Result<()> {
        while !self.due().is_empty() {
            if let Some(pause) = self.policy.get() {
                sleep(pause).await;
            }
            self.ask_what_is_due().await?;
        }
        Ok(())
    }

    /// Asks for more whenever there is room, for ever.
    pub(super) async fn ask_ahead(&self) -> Result<()> {
        loop {
            let changed = self.changed.notified();
            if let Some(pause) = self.policy.get() {
                sleep(pause).await;
            } else if self.due().is_empty() {
                changed.await;
            }
            self.ask_what_is_due().await?;
        }
    }

    /// Asks for an archive. After a failure nothing is asked before the list
    /// was read: the reply may have been lost, not the request, and a second
    /// one costs as much. The same where a job has come to nothing: an earlier
    /// run may have met that before, and asked for another.
    pub(super) async fn ask(&self, index: usize) -> Result<()> {
        if self.state(index).asking {
            return Ok(());
        }
        self.change(index, |state| state.asking = true);
        let asked = self.ask_once(index).await;
        self.change(index, |state| state.asking = false);
        asked
    }

    async fn ask_once(&self, index: usize) -> Result<()> {
        let (vault, archive) = self.archive(index)?;
        let mut trouble = Trouble::default();
        let renewed = !self.state(index).gone.is_empty();
        let mut unsure = renewed;
        loop {
            let failure = if unsure {
                match self.look_once(vault, index).await {
                    Ok(readiness) if self.take(index, &readiness) => return Ok(()),
                    Ok(_) => {
                        unsure = false;
                        continue;
                    }
                    Err(failure) => failure,
                }
            } else {
                let tier = self.tier(archive);
                if let Some(budget) = self.budget.as_ref().filter(|_| renewed) {
                    budget.check(Some(tier), [index])?;
                }
                let asked = vault.request(archive.want(), tier, self.days()).await;
                match asked.map(|answer| answer.value) {
                    Ok(requested) => {
                        return self.begins(index, requested, tier);
                    }
                    Err(Failure::Capacity(why)) if tier == Tier::Expedited => {
                        self.fall_back(&why);
                        continue;
                    }
                    Err(failure @ Failure::Policy(_)) => {
                        return self.forbidden(vault, &archive.thing, failure).await;
                    }
                    Err(failure) => {
                        if let Failure::Missing(why) = &failure {
                            self.change(index, |state| state.missing = Some(why.clone()));
                        }
                        failure
                    }
                }
            };
            let pause = self.settings.patience.after(&mut trouble, failure);
            sleep(pause.map_err(|failure| failure.on(&archive.thing))?).await;
            unsure = true;
        }
    }

    /// How far an archive is, whoever asked for it.
    async fn look_once(&self, vault: &V, index: usize) -> Attempt<Readiness> {
        let (state, archive) = (self.state(index), self.archives.get(index));
        let Some(archive) = archive else { return Ok(Readiness::Cold) };
        let sought = Sought { ticket: None, ..state.sought(archive) };
        let found = vault.readiness(&[sought]).await?;
        Ok(found.value.into_iter().next().unwrap_or(Readiness::Cold))
    }

    fn begins(&self, index: usize, requested: Requested, tier: Tier) -> Result<()> {
        self.last.set(Instant::now());
        self.policy.set(None);
        let is_ready = matches!(requested, Requested::Readable(_));
        if let (Requested::Begun(_), Some(budget)) = (&requested, &self.budget) {
            budget.spend(tier, index)?;
        }
        let (Requested::Begun(id) | Requested::UnderWay(id) | Requested::Readable(id)) = requested;
        let job = Begun { id, tier: Some(tier), requested: Some(Timestamp::now()) };
        let since = Some(Instant::now());
        self.change(index, |state| {
            (state.job, state.since, state.ready) = (Some(job), since, is_ready);
        });
        Ok(())
    }

    /// The other archives of this run go without an expedited job, too.
    fn fall_back(&self, why: &str) {
        if self.tier.replace(Some(Tier::Standard)) == Some(Tier::Expedited) {
            process::warn(&format!("{why}: Standard is asked for instead of Expedited"));
        }
    }

    /// The account's policy allows no more for now: waits until it allows the
    /// next archive, as long as patience lasts.
    async fn forbidden(&self, vault: &V, thing: &str, failure: Failure) -> Result<()> {
        let says = vault.allowance().await.map(|says| format!(" ({says})"));
        let text = format!("{failure}{}", says.unwrap_or_default());
        if self.settings.no_wait {
            return Err(Error::Unfinished(format!(
                "{thing}: {text}; run the same command again later"
            )));
        }
        if self.last.get().elapsed() >= self.settings.patience.limit {
            return Err(Failure::Policy(text).on(thing));
        }
        if !self.is_policy_told.replace(true) {
            process::warn(&format!("{thing}: {text}; it is asked for when that allows it"));
        }
        // Several may be told the same at once.
        let next = self.policy.get().map_or(PAUSES.0, |pause| pause.mul_f64(1.5));
        self.policy.set(Some(next.min(PAUSES.1)));
        Ok(())
    }
}
