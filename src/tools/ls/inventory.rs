//! The inventory of a vault: the job that brings it up, and what it lists.
//!
//! A job takes hours, so one that the service still knows is taken instead
//! of a new one. None is remembered here: the service's list is the state.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tokio::time::sleep;

use super::table::{self, Column};
use super::{Printer, what};
use crate::catalog::rebuild::inventoried;
use crate::error::{Error, Result};
use crate::line::{Inventoried, Line};
use crate::process::progress::Progress;
use crate::storage::retry::{Patience, Trouble};
use crate::storage::{Failure, Inventory, Job, JobState, Vault};
use crate::units;

/// The first and the longest pause between two looks at the service's list.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(5));

/// Inventories that are asked for in a run, should jobs fail.
const ASKED: usize = 2;

/// The columns of its table.
pub const COLUMNS: &[Column] =
    &[Column::Left("UPLOADED"), Column::Right("SIZE"), Column::Left("HOST"), Column::Left("WHAT")];

/// The first line: what the others are of.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(tag = "type", rename = "inventory")]
pub struct Head {
    /// The vault.
    pub dest: String,
    /// Its region.
    pub region: String,
    /// When the service made the inventory; what was stored later is not in it.
    pub made: Timestamp,
    /// Seconds since then.
    pub age_s: u64,
    /// How many archives it lists.
    pub archives: u64,
    /// Their bytes.
    pub size: u64,
    /// How many of them are not of these tools.
    pub foreign: u64,
    /// Archives of the catalog that it was compared with that were stored too
    /// late to be in it, and are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub later: Option<u64>,
}

impl Head {
    /// What an inventory is, seen from `now`.
    pub fn of(inventory: &Inventory, dest: &str, region: &str, now: Timestamp) -> Self {
        let archives = &inventory.archives;
        let is_foreign = |archive: &&crate::storage::Inventoried| {
            crate::line::description::Description::parse(&archive.description).is_none()
        };
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        Self {
            dest: dest.to_owned(),
            region: region.to_owned(),
            made: inventory.made,
            age_s: table::age(inventory.made, now).as_secs(),
            archives: count(archives.len()),
            size: archives.iter().map(|archive| archive.size).fold(0, u64::saturating_add),
            foreign: count(archives.iter().filter(is_foreign).count()),
            later: None,
        }
    }

    /// The same for people.
    pub fn text(&self) -> String {
        let later = self.later.filter(|later| *later > 0);
        format!(
            "{} in {}: {} archives, {}, {} of them not ours, as of the inventory of {} UTC, {} ago{}",
            self.dest,
            self.region,
            self.archives,
            units::bytes(self.size),
            self.foreign,
            table::minute(self.made),
            units::time(Duration::from_secs(self.age_s)),
            later.map_or_else(String::new, |later| format!("; {later} of the catalog are younger")),
        )
    }
}

/// Prints all that an inventory lists.
///
/// # Errors
/// When standard output cannot take it.
pub fn print(inventory: &Inventory, head: &Head, mut printer: Printer) -> Result<()> {
    printer.head(head, || head.text())?;
    for archive in &inventory.archives {
        let line = inventoried(archive, inventory, &head.dest, &head.region);
        print_one(line, &mut printer)?;
    }
    printer.finish()
}

/// Prints one archive.
///
/// # Errors
/// When standard output cannot take it.
pub fn print_one(line: Inventoried, printer: &mut Printer) -> Result<()> {
    let row = |line: &Inventoried| {
        let host = line.of.host.clone().unwrap_or_default();
        vec![table::minute(line.uploaded), units::bytes(line.size), host, what(&line.of)]
    };
    let cells = row(&line);
    printer.print(&Line::Inventoried(line), || cells)
}

/// The newest inventory that the service has ready; else it is asked for one,
/// unless one is under way, and waited for, unless `no_wait` is given.
///
/// # Errors
/// When the service refuses, patience is at its end, or it is not ready and
/// nobody waits.
pub async fn newest<V: Vault>(
    vault: &V,
    patience: Patience,
    no_wait: bool,
    progress: &Progress,
) -> Result<Inventory> {
    let dest = vault.dest().to_string();
    let (mut trouble, mut pause) = (Trouble::default(), PAUSES.0);
    let (mut gone, mut asked): (Vec<String>, usize) = (Vec::new(), 0);
    let mut own: Option<String> = None;
    loop {
        let jobs = patience.with(async || vault.jobs().await).await;
        let jobs = jobs.map_err(|failure| failure.on(&dest))?;
        let chosen = choose(&jobs, &gone);
        match chosen {
            Some(Job { id, state: JobState::Ready, .. }) => {
                match patience.with(async || vault.inventory(id).await).await {
                    Ok(inventory) => return Ok(inventory),
                    Err(failure) if vault.is_gone(id, &failure).await => {
                        gone.push(id.clone());
                        continue;
                    }
                    Err(failure) => return Err(failure.on(&dest)),
                }
            }
            Some(_) => {}
            // A list may be behind: one that was just asked for is believed.
            None if is_under_way(vault, own.as_deref(), &jobs, &dest).await? => {}
            None if asked == ASKED => {
                return Err(Error::Unfinished(format!(
                    "{dest}: its inventory was asked for {ASKED} times and did not come; run the same command again"
                )));
            }
            None => match vault.request_inventory().await {
                Ok(id) => (own, asked) = (Some(id), asked + 1),
                // The vault is there, as its jobs were listed.
                Err(Failure::Missing(_)) => {
                    return Err(Error::Unfinished(format!(
                        "{dest}: has no inventory yet, as the service makes one a day; run the same command again tomorrow"
                    )));
                }
                // The answer may be lost, and not the request: the list tells.
                Err(failure) => {
                    let pause = patience.after(&mut trouble, failure);
                    sleep(pause.map_err(|failure| failure.on(&dest))?).await;
                    continue;
                }
            },
        }
        if no_wait {
            return Err(Error::Unfinished(format!(
                "{dest}: its inventory is not ready; run the same command again in a few hours"
            )));
        }
        progress.say(|| format!("{dest}: waits for its inventory, which takes hours"));
        sleep(pause).await;
        pause = pause.mul_f64(1.5).min(PAUSES.1);
    }
}

/// Whether the job that was asked for in this run is known, but not listed.
///
/// # Errors
/// When it has failed.
async fn is_under_way<V: Vault>(
    vault: &V,
    own: Option<&str>,
    listed: &[Job],
    dest: &str,
) -> Result<bool> {
    let Some(own) = own else { return Ok(false) };
    let job = match listed.iter().find(|job| job.id == own) {
        Some(job) => Ok(job.clone()),
        None => vault.job(own).await,
    };
    match job {
        Ok(Job { state: JobState::Failed(why), .. }) => Err(Error::Unfinished(format!(
            "{dest}: its inventory failed: {why}; run the same command again"
        ))),
        Ok(Job { state, .. }) => Ok(state == JobState::Waiting),
        Err(Failure::Missing(_)) => Ok(false),
        // It may be there.
        Err(_) => Ok(true),
    }
}

/// The inventory that is taken: the youngest that is ready, else the youngest
/// that is under way.
fn choose<'j>(jobs: &'j [Job], gone: &[String]) -> Option<&'j Job> {
    jobs.iter()
        .filter(|job| job.archive_id.is_none() && !job.partial && !gone.contains(&job.id))
        .filter(|job| !matches!(job.state, JobState::Failed(_)))
        .max_by_key(|job| (job.state == JobState::Ready, job.created))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(id: &str, state: JobState, created: i64) -> Job {
        Job {
            id: id.to_owned(),
            archive_id: None,
            range: None,
            state,
            tier: None,
            created: Timestamp::from_second(created).ok(),
            completed: None,
            size: None,
            partial: false,
        }
    }

    #[test]
    fn takes_the_youngest_that_is_ready_before_one_that_is_not() {
        let mut jobs = vec![
            job("old", JobState::Ready, 1),
            job("ready", JobState::Ready, 2),
            job("waiting", JobState::Waiting, 3),
            job("failed", JobState::Failed("no".into()), 4),
            Job { archive_id: Some("a".into()), ..job("archive", JobState::Ready, 5) },
            Job { partial: true, ..job("of a day only", JobState::Ready, 6) },
        ];
        let id = |jobs: &[Job], gone: &[String]| choose(jobs, gone).map(|job| job.id.clone());
        assert_eq!(id(&jobs, &[]).as_deref(), Some("ready"));
        assert_eq!(id(&jobs, &["ready".to_owned()]).as_deref(), Some("old"));
        jobs.drain(..2);
        assert_eq!(id(&jobs, &[]).as_deref(), Some("waiting"));
        jobs.remove(0);
        assert_eq!(id(&jobs, &[]), None);
    }
}
