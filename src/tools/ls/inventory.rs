//! The inventory of a vault: the job that brings it up, and what it lists.
//!
//! None is remembered here: what the service has under way is the state.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use tokio::time::sleep;

use super::table::{self, Column};
use super::{Printer, what};
use crate::catalog::rebuild::inventoried;
use crate::error::{Error, Result};
use crate::line::{Id, Inventoried, Inventory as Head, Line};
use crate::process::progress::Progress;
use crate::storage::retry::Patience;
use crate::storage::{Answer, Failure, Inventoried as Archive, Inventory, Listing, Listings};
use crate::units;

/// The first and the longest pause between two looks at the service's list.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(5));

/// Inventories that are asked for in a run, should jobs fail.
const ASKED: usize = 2;

/// The columns of its table.
pub const COLUMNS: &[Column] =
    &[Column::Left("UPLOADED"), Column::Right("SIZE"), Column::Left("HOST"), Column::Left("WHAT")];

/// What the other lines are of, seen from `now`.
pub fn head(inventory: &Inventory, dest: &str, region: &str, now: Timestamp) -> Head {
    let archives = &inventory.archives;
    let is_foreign = |archive: &&Archive| archive.of.kind.is_none();
    let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    Head {
        dest: dest.to_owned(),
        region: region.to_owned(),
        made: inventory.made,
        age_s: table::age(inventory.made, now).as_secs(),
        archives: count(archives.len()),
        size: archives.iter().map(|archive| archive.size).fold(0, u64::saturating_add),
        foreign: count(archives.iter().filter(is_foreign).count()),
        later: None,
        refused: None,
    }
}

/// The same for people.
fn text(head: &Head) -> String {
    let later = head.later.filter(|later| *later > 0);
    format!(
        "{} in {}: {} archives, {}, {} of them not ours, as of the inventory of {} UTC, {} ago{}",
        head.dest,
        head.region,
        head.archives,
        units::bytes(head.size),
        head.foreign,
        table::minute(head.made),
        units::time(Duration::from_secs(head.age_s)),
        later.map_or_else(String::new, |later| format!("; {later} of the catalog are younger")),
    )
}

/// Prints what the other lines are of.
///
/// # Errors
/// When standard output cannot take it.
pub fn print_head(head: &Head, printer: &mut Printer) -> Result<()> {
    printer.head(&Line::Inventory(head.clone()), || text(head))
}

/// Prints all that an inventory lists.
///
/// # Errors
/// When standard output cannot take it.
pub fn print(inventory: &Inventory, head: &Head, mut printer: Printer) -> Result<()> {
    print_head(head, &mut printer)?;
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

/// The newest list that the service has ready; else it is asked for one,
/// unless one is under way, and waited for, unless `no_wait` is given.
///
/// # Errors
/// When the service refuses, patience is at its end, or it is not ready and
/// nobody waits. Data, when the list does not say enough.
pub async fn newest<V: Listings>(
    vault: &V,
    patience: Patience,
    no_wait: bool,
    progress: &Progress,
) -> Result<Inventory> {
    let dest = vault.dest().to_string();
    let later = |what: &str| Err(Error::Unfinished(format!("{dest}: {what}")));
    let mut pause = PAUSES.0;
    let (began, mut first) = (Instant::now(), None);
    let (mut ticket, mut asked): (Option<Id>, usize) = (None, 0);
    loop {
        let mut archives = Vec::new();
        let listed = patience.with(async || {
            archives.clear();
            vault.list(ticket.as_ref(), &mut |seen| archives.push(Archive::of(seen))).await
        });
        let Answer { at, value } = listed.await.map_err(|failure| failure.on(&dest))?;
        match value {
            Listing::AsOf(made) => {
                let archives = archives.into_iter().collect::<Option<Vec<_>>>();
                let archives = archives.ok_or_else(|| {
                    Failure::Damaged("its list has no hash of an archive".to_owned()).on(&dest)
                })?;
                return Ok(Inventory { made, archives });
            }
            Listing::Later(next) => {
                asked += usize::from(ticket.as_ref() != Some(&next));
                ticket = Some(next);
            }
            Listing::NoneYet => {
                return later(
                    "has no inventory yet, as the service makes one a day; run the same command again tomorrow",
                );
            }
            Listing::Failed(why) => {
                return later(&format!("its inventory failed: {why}; run the same command again"));
            }
        }
        if asked > ASKED {
            return later(&format!(
                "its inventory was asked for {ASKED} times and did not come; run the same command again"
            ));
        }
        if no_wait {
            return later("its inventory is not ready; run the same command again in a few hours");
        }
        // By the service's clock, and by this machine's should that stand still.
        let waited = at.duration_since(*first.get_or_insert(at));
        let here = SignedDuration::try_from(began.elapsed()).unwrap_or(SignedDuration::MAX);
        if waited.max(here) >= vault.limits().retrieval {
            return later(
                "its inventory was asked for a day ago, and is not ready; run the same command again",
            );
        }
        progress.say(|| format!("{dest}: waits for its inventory, which takes hours"));
        sleep(pause).await;
        pause = pause.mul_f64(1.5).min(PAUSES.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::memory::{Call, Face, Failing, MemoryStorage};

    #[test]
    fn what_is_not_ready_after_a_day_is_waited_for_no_more() {
        let memory = MemoryStorage::new(Face::Vault);
        memory.pass(SignedDuration::from_hours(24));
        let service = Failing::new(&memory, |call, _, _| {
            if call == Call::List {
                for job in memory.jobs() {
                    memory.ready(&job.id, false);
                }
                memory.pass(SignedDuration::from_hours(13));
            }
            None
        });
        let patience = Patience { limit: Duration::from_secs(1) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let progress = Progress::new(true);
        let found = newest(&service, patience, false, &progress);
        let error = runtime.block_on(found).unwrap_err();
        assert_eq!(
            (error.code(), &*error.to_string()),
            (
                75,
                "glacier://cold: its inventory was asked for a day ago, and is not ready; run the same command again"
            )
        );
        assert_eq!(memory.jobs().len(), 1, "asked for once");
    }
}
