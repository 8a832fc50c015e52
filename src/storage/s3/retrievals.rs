//! What is cold is restored, as a copy that can be read for some days; what is
//! not is read as it is.
//!
//! How far an archive is says the object itself, not the name of its class:
//! services that are not Amazon's have other names, and some let be read what
//! they call cold.

use aws_sdk_s3::types::{GlacierJobParameters, RestoreRequest, Tier as Named};
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use aws_smithy_types::error::metadata::ProvideErrorMetadata as _;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use tokio::time::timeout;

use super::S3;
use super::objects::{Object, named};
use crate::line::{Id, Key};
use crate::storage::aws::{Dated, classify, late, moving};
use crate::storage::class::{DEEP, is_readable};
use crate::storage::{
    Answer, Attempt, Failure, Job, JobState, Readiness, Reply, Requested, Retrievals, Sought, Span,
    Tier, Unit, Want,
};

/// How many archives are looked at at once.
const AT_ONCE: usize = 8;

/// How far a restored copy is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Copy {
    Coming,
    /// It can be read until then.
    Until(Timestamp),
    /// The header does not say.
    Unclear,
}

/// Reads the x-amz-restore header, in which services differ: with and without
/// quotes, blanks and a date (Amazon S3 API reference, `HeadObject`).
fn copy(header: Option<&str>, now: Timestamp) -> Copy {
    let Some(header) = header else { return Copy::Unclear };
    let plain: String = header.chars().filter(|c| *c != '"').collect();
    if plain.to_ascii_lowercase().replace(' ', "").contains("ongoing-request=true") {
        return Copy::Coming;
    }
    let date = plain.split_once("expiry-date=").map(|(_, date)| date.trim());
    let date = date.and_then(|date| DateTime::from_str(date, Format::HttpDate).ok());
    match date.and_then(|date| Timestamp::from_second(date.secs()).ok()) {
        Some(until) if until > now => Copy::Until(until),
        _ => Copy::Unclear,
    }
}

impl S3 {
    /// Whether a byte of an archive can be read now, which nothing else proves.
    async fn can_be_read(&self, key: Key, version: Option<&str>) -> Attempt<bool> {
        let call = self
            .client
            .get_object()
            .bucket(&self.bucket)
            .key(self.full(&key))
            .set_version_id(version.map(str::to_owned))
            .range("bytes=0-0");
        match call.send().await.map_err(classify) {
            Ok(_) => Ok(true),
            Err(Failure::Archived(_)) => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    /// How far an archive is, by its HEAD.
    async fn state(&self, of: (Key, Option<&str>), head: Answer<Object>) -> Attempt<Readiness> {
        let (Answer { at, value: object }, (key, version)) = (head, of);
        let ticket = Id::of(key);
        let ready =
            |until| Readiness::Ready { ticket: ticket.clone(), since: None, tier: None, until };
        let is_readable = object.seen.class.as_deref().is_some_and(is_readable);
        Ok(match copy(object.restore.as_deref(), at) {
            Copy::Coming => Readiness::Coming { ticket, since: None, tier: None },
            Copy::Until(until) => ready(Some(until)),
            Copy::Unclear if is_readable && !object.is_put_away && object.restore.is_none() => {
                ready(None)
            }
            Copy::Unclear if self.can_be_read(key, version).await? => ready(None),
            Copy::Unclear => Readiness::Cold,
        })
    }

    async fn readiness_of(&self, sought: &Sought<'_>) -> Attempt<(Timestamp, Readiness)> {
        let (key, _) = named(sought.want.archive)?;
        let version = sought.want.version;
        let head = match self.head(key, version).await {
            // It may still be read: who may read need not be allowed to look.
            Err(Failure::Denied(_)) if self.can_be_read(key, version).await? => {
                let ticket = Id::of(key);
                let until = None;
                return Ok((
                    Timestamp::now(),
                    Readiness::Ready { ticket, since: None, tier: None, until },
                ));
            }
            head => head?,
        };
        let at = head.at;
        Ok((at, self.state((key, version), head).await?))
    }
}

impl Retrievals for S3 {
    fn unit(&self, class: Option<&str>) -> Unit {
        match class {
            Some(class) if is_readable(class) => Unit::Readable,
            _ => Unit::Whole,
        }
    }

    async fn readiness(&self, sought: &[Sought<'_>]) -> Reply<Vec<Readiness>> {
        let found = stream::iter(sought).map(|sought| self.readiness_of(sought)).buffered(AT_ONCE);
        let found: Vec<(Timestamp, Readiness)> = found.try_collect().await?;
        let at = found.iter().map(|(at, _)| *at).max().unwrap_or_else(Timestamp::now);
        Ok(Answer { at, value: found.into_iter().map(|(_, readiness)| readiness).collect() })
    }

    /// Amazon S3 API reference, `RestoreObject`: what is under way, or up
    /// already, costs a request and nothing else.
    async fn request(&self, want: Want<'_>, tier: Tier, days: u16) -> Reply<Requested> {
        let (key, _) = named(want.archive)?;
        if tier == Tier::Expedited && want.class == Some(DEEP) {
            let why = "DEEP_ARCHIVE has no Expedited retrievals; use Standard or Bulk";
            return Err(Failure::Refused(why.to_owned()));
        }
        let parameters = GlacierJobParameters::builder().tier(match tier {
            Tier::Expedited => Named::Expedited,
            Tier::Standard => Named::Standard,
            Tier::Bulk => Named::Bulk,
        });
        let parameters = parameters.build().map_err(|e| Failure::Invalid(e.to_string()))?;
        let request =
            RestoreRequest::builder().days(days.into()).glacier_job_parameters(parameters).build();
        let call = self
            .client
            .restore_object()
            .bucket(&self.bucket)
            .key(self.full(&key))
            .set_version_id(want.version.map(str::to_owned))
            .restore_request(request);
        let (dated, ticket) = (Dated::default(), Id::of(key));
        let answer = call.customize().interceptor(dated.clone()).send().await;
        match answer {
            Ok(_) if dated.status() == Some(200) => Ok(dated.answer(Requested::Readable(ticket))),
            Ok(_) => Ok(dated.answer(Requested::Begun(ticket))),
            Err(error) => {
                let code = error.as_service_error().and_then(|it| it.code()).unwrap_or_default();
                match code {
                    "RestoreAlreadyInProgress" => Ok(dated.answer(Requested::UnderWay(ticket))),
                    "InvalidObjectState" | "ObjectAlreadyInActiveTierError" => {
                        Ok(dated.answer(Requested::Readable(ticket)))
                    }
                    _ => Err(classify(error)),
                }
            }
        }
    }

    async fn under_way(&self, page: &mut dyn FnMut(Vec<Job>)) -> Reply<()> {
        let mut cold = Vec::new();
        let answer = self
            .each_of(Key::VOLUMES, &mut |seen| {
                if !seen.class.as_deref().is_some_and(is_readable) {
                    cold.push(seen);
                }
            })
            .await?;
        for seen in cold {
            let (key, _) = named(&seen.id)?;
            let head = match self.head(key, None).await {
                Err(Failure::Missing(_)) => continue,
                head => head?,
            };
            let state = match copy(head.value.restore.as_deref(), head.at) {
                Copy::Coming => JobState::Waiting,
                Copy::Until(_) => JobState::Ready,
                Copy::Unclear => continue,
            };
            page(vec![Job {
                id: seen.id.clone(),
                archive_id: Some(seen.id),
                range: None,
                state,
                tier: None,
                created: None,
                completed: None,
                size: seen.size,
                partial: false,
            }]);
        }
        Ok(answer)
    }

    async fn read(
        &self,
        _: &Id,
        want: Want<'_>,
        span: Span,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Reply<()> {
        let (key, _) = named(want.archive)?;
        let Span { offset, size } = span;
        let call = self
            .output
            .get_object()
            .bucket(&self.bucket)
            .key(self.full(&key))
            .set_version_id(want.version.map(str::to_owned))
            // Two ranges are to be of one object.
            .set_if_match(want.tag.map(|tag| format!("\"{tag}\"")))
            .range(format!("bytes={offset}-{}", offset + size - 1));
        let dated = Dated::default();
        let call = call.customize().interceptor(dated.clone()).send();
        let mut answer = timeout(self.stall, call).await.map_err(|_| late())?.map_err(classify)?;
        moving::came(&mut answer.body, size, self.stall, sink).await?;
        Ok(dated.answer(()))
    }

    async fn is_gone(&self, _: &Id, failure: &Failure) -> bool {
        matches!(failure, Failure::Archived(_))
    }

    async fn allowance(&self) -> Option<String> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restore_is_read_in_every_form_that_services_have() {
        let now: Timestamp = "2026-12-01T00:00:00Z".parse().unwrap();
        let until = Copy::Until("2026-12-21T00:00:00Z".parse().unwrap());
        for (header, expected) in [
            ("ongoing-request=\"true\"", Copy::Coming),
            ("ongoing-request=true", Copy::Coming),
            ("ongoing-request=\"false\", expiry-date=\"Mon, 21 Dec 2026 00:00:00 GMT\"", until),
            ("ongoing-request=\"false\",expiry-date=\"Mon, 21 Dec 2026 00:00:00 GMT\"", until),
            ("ongoing-request=false, expiry-date=Mon, 21 Dec 2026 00:00:00 GMT", until),
            ("ongoing-request=\"false\"", Copy::Unclear),
            (
                "ongoing-request=\"false\", expiry-date=\"Fri, 21 Dec 2012 00:00:00 GMT\"",
                Copy::Unclear,
            ),
            ("", Copy::Unclear),
        ] {
            assert_eq!(copy(Some(header), now), expected, "{header}");
        }
        assert_eq!(copy(None, now), Copy::Unclear);
    }
}
