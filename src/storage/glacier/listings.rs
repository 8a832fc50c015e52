//! Inventories, which jobs of hours bring up; uploads; deletions.

use aws_sdk_glacier::types::JobParameters;
use jiff::Timestamp;
use serde::Deserialize;
use tokio::time::timeout;

use super::{Glacier, id, promised};
use crate::hash::tree::Hash;
use crate::line::{Described, Id};
use crate::storage::aws::{Dated, LONGER, ask, classify, late, root_cause};
use crate::storage::pages::Pages;
use crate::storage::{
    Answer, Attempt, Failure, Freed, Job, JobState, Listing, Listings, Proof, Reply, Seen,
    Unfinished,
};

/// Bytes of an inventory that are taken, at most: of over a million archives.
const INVENTORY: u64 = 1 << 30;

/// What a vault held when the service made this.
pub(super) struct Inventory {
    pub(super) made: Timestamp,
    pub(super) archives: Vec<Seen>,
}

impl Glacier {
    /// The inventory that a finished job brought up, which has so many bytes
    /// by the list of jobs.
    pub(super) async fn inventory(&self, job: &Id, size: Option<u64>) -> Reply<Inventory> {
        let call = self.output.get_job_output().vault_name(&self.vault).job_id(&**job);
        let dated = Dated::default();
        let call = call.customize().interceptor(dated.clone()).send();
        let answer = timeout(self.stall, call).await.map_err(|_| late())?;
        let mut body = answer.map_err(classify)?.body;
        let most = size.map_or(INVENTORY, |size| size.saturating_mul(2).min(INVENTORY));
        let all = async {
            let mut bytes = Vec::new();
            while let Some(piece) = body.next().await {
                bytes.extend_from_slice(&piece.map_err(|e| Failure::Passing(root_cause(&e)))?);
                if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > most {
                    let why = "the inventory is much longer than it should be";
                    return Err(Failure::Damaged(why.to_owned()));
                }
            }
            Ok(bytes)
        };
        let longer = self.stall.saturating_mul(LONGER);
        let body = timeout(longer, all).await.map_err(|_| late())??;
        Ok(dated.answer(read_inventory(&body)?))
    }

    /// Asks for an inventory, and gives the job; none where the service has
    /// not made one yet.
    pub(super) async fn request_inventory(&self) -> Reply<Option<Id>> {
        let parameters =
            JobParameters::builder().r#type("inventory-retrieval").format("JSON").build();
        match self.start(parameters).await {
            Err(Failure::Missing(_)) => Ok(Dated::default().answer(None)),
            answer => Ok(answer?.map(Some)),
        }
    }
}

/// The inventory that is taken: the youngest that is ready, else the youngest
/// that is under way.
fn choose<'j>(jobs: &'j [Job], gone: &[Id]) -> Option<&'j Job> {
    jobs.iter()
        .filter(|job| job.archive_id.is_none() && !job.partial && !gone.contains(&job.id))
        .filter(|job| !matches!(job.state, JobState::Failed(_)))
        .max_by_key(|job| (job.state == JobState::Ready, job.created))
}

impl Listings for Glacier {
    /// A job takes hours, so one that the service still knows is taken
    /// instead of a new one, whoever asked for it.
    async fn list(&self, ticket: Option<&Id>, each: &mut dyn FnMut(Seen)) -> Reply<Listing> {
        let Answer { at, value: jobs } = self.jobs().await?;
        let mut gone = Vec::new();
        while let Some(Job { id, state, size, .. }) = choose(&jobs, &gone) {
            if *state != JobState::Ready {
                return Ok(Answer { at, value: Listing::Later(id.clone()) });
            }
            match self.inventory(id, *size).await {
                Ok(answer) => {
                    return Ok(answer.map(|inventory| {
                        inventory.archives.into_iter().for_each(each);
                        Listing::AsOf(inventory.made)
                    }));
                }
                Err(failure) if self.has_lost(id, &failure).await => gone.push(id.clone()),
                Err(failure) => return Err(failure),
            }
        }
        if let Some(ticket) = ticket.filter(|ticket| !gone.contains(ticket)) {
            match jobs.iter().find(|job| job.id == *ticket).map(|job| job.state.clone()) {
                Some(JobState::Failed(why)) => {
                    return Ok(Answer { at, value: Listing::Failed(why) });
                }
                Some(_) => {}
                // A list may be behind: one that was just asked for is believed.
                None => match self.state(ticket).await {
                    Ok(Answer { value: super::retrievals::State::Gone, .. }) => {}
                    _ => return Ok(Answer { at, value: Listing::Later(ticket.clone()) }),
                },
            }
        }
        let asked = self.request_inventory().await?;
        Ok(asked.map(|job| job.map_or(Listing::NoneYet, Listing::Later)))
    }

    async fn unfinished(&self, each: &mut dyn FnMut(Unfinished)) -> Reply<()> {
        let mut pages = Pages::default();
        loop {
            let call = self.client.list_multipart_uploads().vault_name(&self.vault);
            let Answer { at, value } = ask!(call.set_marker(pages.marker()))?;
            for upload in value.uploads_list.unwrap_or_default() {
                each(Unfinished {
                    created: promised(super::time(upload.creation_date()), "date of an upload")?,
                    id: id(upload.multipart_upload_id, "upload id")?,
                    of: Described::of(&upload.archive_description.unwrap_or_default()),
                    part_size: u64::try_from(upload.part_size_in_bytes).unwrap_or(0),
                });
            }
            if !pages.turn(value.marker)? {
                return Ok(Answer { at, value: () });
            }
        }
    }

    /// The service tells of archives in inventories only.
    async fn inspect(&self, _: &Id, _: Option<&str>) -> Reply<Option<Seen>> {
        Ok(Dated::default().answer(None))
    }

    /// A vault's lock is of the whole vault, and not the tools' to change.
    async fn extend_lock(&self, _: &Id, _: Option<&str>, _: Timestamp) -> Reply<Option<Timestamp>> {
        Ok(Dated::default().answer(None))
    }

    /// API reference, "Delete Archive": the call is idempotent.
    async fn delete(&self, archive: &Id, _: Option<&str>, _: bool) -> Reply<Freed> {
        let call = self.client.delete_archive().vault_name(&self.vault).archive_id(&**archive);
        match ask!(call) {
            Err(Failure::Missing(_)) => Ok(Dated::default().answer(Freed::Freed)),
            answer => Ok(answer?.map(|_| Freed::Freed)),
        }
    }
}

/// An inventory in JSON (Amazon Glacier API reference, "Get Job Output").
fn read_inventory(body: &[u8]) -> Attempt<Inventory> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Wire {
        inventory_date: Timestamp,
        archive_list: Vec<Entry>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Entry {
        archive_id: Id,
        archive_description: Option<String>,
        creation_date: Timestamp,
        size: u64,
        #[serde(rename = "SHA256TreeHash")]
        treehash: Hash,
    }
    let wire: Wire = serde_json::from_slice(body)
        .map_err(|e| Failure::Damaged(format!("the inventory cannot be read: {e}")))?;
    let archive = |it: Entry| Seen {
        size: Some(it.size),
        checksum: Some(Proof::Tree(it.treehash)),
        described: Some(it.archive_description.unwrap_or_default()),
        at: Some(it.creation_date),
        ..Seen::of(it.archive_id)
    };
    Ok(Inventory {
        made: wire.inventory_date,
        archives: wire.archive_list.into_iter().map(archive).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(id: &str, state: JobState, created: i64) -> Job {
        Job {
            id: id.into(),
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
            Job { partial: true, ..job("of-a-day-only", JobState::Ready, 6) },
        ];
        let id = |jobs: &[Job], gone: &[Id]| choose(jobs, gone).map(|job| job.id.clone());
        assert_eq!(id(&jobs, &[]).as_deref(), Some("ready"));
        assert_eq!(id(&jobs, &["ready".into()]).as_deref(), Some("old"));
        jobs.drain(..2);
        assert_eq!(id(&jobs, &[]).as_deref(), Some("waiting"));
        jobs.remove(0);
        assert_eq!(id(&jobs, &[]), None);
    }
}
