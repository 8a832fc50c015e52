//! Jobs: what the service brings up, for hours, and keeps for a day.
//!
//! Many archives are looked at at the same time, by one list: it is asked for
//! once for all who want it within a moment.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aws_sdk_glacier::types::{GlacierJobDescription, JobParameters, StatusCode};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::{Glacier, id, range, time};
use crate::line::Id;
use crate::storage::aws::{Dated, ask, classify, late, moving};
use crate::storage::pages::Pages;
use crate::storage::{
    Answer, Attempt, Failure, Job, JobState, Readiness, Reply, Requested, Retrievals, Sought, Span,
    Tier, Unit, VAULT, Want,
};
use crate::units;

/// How old a list may be; those who want one at the same time come within it.
const FRESH: Duration = Duration::from_millis(500);

/// When a list was given, after how many failed requests, and the list.
type Fresh = (Instant, u64, Answer<Vec<Job>>);

/// The list of jobs, for a moment.
#[derive(Debug, Default)]
pub(super) struct JobList {
    list: Mutex<Option<Fresh>>,
    /// Requests that failed. They may have been taken all the same, and what
    /// was listed before one does not tell.
    failed: AtomicU64,
}

/// How far one job is.
pub(super) enum State {
    Waiting,
    /// And the bytes of its output, if they are told.
    Ready(Option<u64>),
    /// It has failed, or the service does not know it.
    Gone,
}

impl Glacier {
    /// The jobs that the service still knows.
    pub(super) async fn jobs(&self) -> Reply<Vec<Job>> {
        let mut list = self.jobs.list.lock().await;
        let failed = || self.jobs.failed.load(Ordering::Relaxed);
        if let Some((when, before, jobs)) = list.as_ref()
            && *before == failed()
            && when.elapsed() < FRESH
        {
            return Ok(jobs.clone());
        }
        let before = failed();
        let mut jobs = Vec::new();
        let answer = self.each_job(&mut |page| jobs.extend(page)).await?;
        let answer = answer.map(|()| jobs);
        *list = Some((Instant::now(), before, answer.clone()));
        Ok(answer)
    }

    async fn each_job(&self, page: &mut dyn FnMut(Vec<Job>)) -> Reply<()> {
        let mut pages = Pages::default();
        loop {
            let call = self.client.list_jobs().vault_name(&self.vault).set_marker(pages.marker());
            let Answer { at, value } = ask!(call)?;
            let jobs = value.job_list.unwrap_or_default().into_iter().map(job);
            page(jobs.collect::<Attempt<Vec<Job>>>()?);
            if !pages.turn(value.marker)? {
                return Ok(Answer { at, value: () });
            }
        }
    }

    async fn job(&self, id: &Id) -> Reply<Job> {
        let call = self.client.describe_job().vault_name(&self.vault).job_id(&**id);
        let Answer { at, value: answer } = ask!(call)?;
        let value = job(GlacierJobDescription::builder()
            .set_job_id(answer.job_id)
            .set_archive_id(answer.archive_id)
            .set_archive_size_in_bytes(answer.archive_size_in_bytes)
            .set_retrieval_byte_range(answer.retrieval_byte_range)
            .set_inventory_size_in_bytes(answer.inventory_size_in_bytes)
            .set_inventory_retrieval_parameters(answer.inventory_retrieval_parameters)
            .set_tier(answer.tier)
            .set_creation_date(answer.creation_date)
            .set_completion_date(answer.completion_date)
            .set_status_code(answer.status_code)
            .set_status_message(answer.status_message)
            .build())?;
        Ok(Answer { at, value })
    }

    /// How far a job is; one that the service does not know is no failure.
    pub(super) async fn state(&self, id: &Id) -> Reply<State> {
        match self.job(id).await {
            Ok(answer) => Ok(answer.map(|job| match job.state {
                JobState::Waiting => State::Waiting,
                JobState::Ready => State::Ready(job.size),
                JobState::Failed(_) => State::Gone,
            })),
            Err(Failure::Missing(_)) => Ok(Dated::default().answer(State::Gone)),
            Err(failure) => Err(failure),
        }
    }

    /// Whether a download failed because the output of its job is gone, or
    /// the job has failed after it was ready.
    pub(super) async fn has_lost(&self, job: &Id, failure: &Failure) -> bool {
        match failure {
            Failure::Missing(_) => true,
            // "Not currently available" is refused as what is wrong is.
            Failure::Refused(_) | Failure::Invalid(_) => {
                matches!(self.state(job).await, Ok(Answer { value: State::Gone, .. }))
            }
            _ => false,
        }
    }

    pub(super) async fn start(&self, parameters: JobParameters) -> Reply<Id> {
        let call = self.client.initiate_job().vault_name(&self.vault).job_parameters(parameters);
        let asked = async {
            let Answer { at, value } = ask!(call)?;
            Ok(Answer { at, value: id(value.job_id, "job id")? })
        };
        asked.await.inspect_err(|_| {
            self.jobs.failed.fetch_add(1, Ordering::Relaxed);
        })
    }

    /// How far an archive is of which the list does not tell: it may be
    /// behind, and a new job costs money.
    async fn recall(&self, ticket: &Id, want: Want<'_>) -> Attempt<Readiness> {
        match self.job(ticket).await {
            Ok(Answer { value: job, .. }) if is_for(&job, want) => Ok(readiness(job)),
            Ok(_) => Ok(Readiness::Cold),
            Err(Failure::Missing(why) | Failure::Refused(why) | Failure::Invalid(why)) => {
                Ok(Readiness::Failed(why))
            }
            Err(failure) => Err(failure),
        }
    }
}

fn job(description: GlacierJobDescription) -> Attempt<Job> {
    let state = match description.status_code() {
        Some(StatusCode::Succeeded) => JobState::Ready,
        Some(StatusCode::Failed) => {
            JobState::Failed(description.status_message().unwrap_or("no reason given").to_owned())
        }
        _ => JobState::Waiting,
    };
    let of = description.archive_id.clone();
    let of = of.map(|of| id(Some(of), "archive id")).transpose()?;
    let number = |number: Option<i64>| number.and_then(|number| u64::try_from(number).ok());
    let archive = number(description.archive_size_in_bytes());
    let retrieved = description.retrieval_byte_range().and_then(range);
    Ok(Job {
        state,
        range: retrieved
            .filter(|range| range.offset != 0 || archive.is_none_or(|all| all != range.size)),
        tier: description.tier().and_then(|tier| tier.parse().ok()),
        created: time(description.creation_date()),
        completed: time(description.completion_date()),
        size: match of {
            Some(_) => retrieved.map(|range| range.size).or(archive),
            None => number(description.inventory_size_in_bytes()),
        },
        partial: description.inventory_retrieval_parameters().is_some_and(|it| {
            it.format().is_some_and(|format| !format.eq_ignore_ascii_case("JSON"))
                || it.start_date().is_some()
                || it.end_date().is_some()
                || it.limit().is_some()
                || it.marker().is_some()
        }),
        id: id(description.job_id, "job id")?,
        archive_id: of,
    })
}

/// Whether a job brings up what is wanted.
fn is_for(job: &Job, want: Want<'_>) -> bool {
    job.range == want.span && job.archive_id.as_ref() == Some(want.archive)
}

fn readiness(job: Job) -> Readiness {
    let Job { id: ticket, created: since, tier, completed, .. } = job;
    let lasts = VAULT.output_lasts;
    match job.state {
        JobState::Waiting => Readiness::Coming { ticket, since, tier },
        JobState::Ready => {
            let until = completed.zip(lasts).and_then(|(done, lasts)| done.checked_add(lasts).ok());
            Readiness::Ready { ticket, since, tier, until }
        }
        JobState::Failed(why) => Readiness::Failed(why),
    }
}

/// How far an archive is by the list of jobs, if that tells: one that is ready
/// counts before one that is not, and the one of the ticket before others.
fn listed(jobs: &[Job], sought: &Sought<'_>) -> Option<Readiness> {
    let all = || jobs.iter().filter(|job| is_for(job, sought.want));
    let is_ours = |job: &Job| sought.ticket == Some(&job.id);
    let good = all()
        .filter(|job| !sought.gone.contains(&job.id))
        .filter(|job| !matches!(job.state, JobState::Failed(_)))
        .max_by_key(|job| (job.state == JobState::Ready, is_ours(job)));
    good.or_else(|| all().find(|job| is_ours(job))).cloned().map(readiness)
}

impl Retrievals for Glacier {
    fn unit(&self, _: Option<&str>) -> Unit {
        Unit::Span
    }

    async fn readiness(&self, sought: &[Sought<'_>]) -> Reply<Vec<Readiness>> {
        let Answer { at, value: jobs } = self.jobs().await?;
        let mut all = Vec::with_capacity(sought.len());
        for one in sought {
            let ticket = one.ticket.filter(|ticket| !one.gone.contains(ticket));
            all.push(match (listed(&jobs, one), ticket) {
                (Some(readiness), _) => readiness,
                (None, Some(ticket)) => self.recall(ticket, one.want).await?,
                (None, None) => Readiness::Cold,
            });
        }
        Ok(Answer { at, value: all })
    }

    /// The service chooses how long it keeps what it brought up.
    async fn request(&self, want: Want<'_>, tier: Tier, _: u16) -> Reply<Requested> {
        let range =
            want.span.map(|Span { offset, size }| format!("{offset}-{}", offset + size - 1));
        let parameters = JobParameters::builder()
            .r#type("archive-retrieval")
            .archive_id(&**want.archive)
            .set_retrieval_byte_range(range)
            .tier(tier.to_string())
            .build();
        Ok(self.start(parameters).await?.map(Requested::Begun))
    }

    async fn under_way(&self, page: &mut dyn FnMut(Vec<Job>)) -> Reply<()> {
        self.each_job(page).await
    }

    async fn read(
        &self,
        ticket: &Id,
        want: Want<'_>,
        span: Span,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Reply<()> {
        // The output of a range's job begins where the range does.
        let begin = want.span.map_or(0, |range| range.offset);
        let offset = span.offset.saturating_sub(begin);
        let call = self
            .output
            .get_job_output()
            .vault_name(&self.vault)
            .job_id(&**ticket)
            .range(format!("bytes={offset}-{}", offset + span.size - 1));
        let dated = Dated::default();
        let call = call.customize().interceptor(dated.clone()).send();
        let mut answer = timeout(self.stall, call).await.map_err(|_| late())?.map_err(classify)?;
        moving::came(&mut answer.body, span.size, self.stall, sink).await?;
        Ok(dated.answer(()))
    }

    async fn is_gone(&self, ticket: &Id, failure: &Failure) -> bool {
        self.has_lost(ticket, failure).await
    }

    async fn allowance(&self) -> Option<String> {
        // The user may not be allowed to see it.
        let answer = self.client.get_data_retrieval_policy().send().await.ok()?;
        let rules = answer.policy.and_then(|policy| policy.rules).unwrap_or_default();
        let rule = rules.first()?;
        match (rule.strategy(), rule.bytes_per_hour()) {
            (Some("FreeTier"), _) => Some("the account's policy: what is free".to_owned()),
            (Some("BytesPerHour"), Some(bytes)) => {
                let bytes = units::bytes(u64::try_from(bytes).unwrap_or(0));
                Some(format!("the account's policy: {bytes} an hour"))
            }
            _ => None,
        }
    }
}
