//! What is in the bucket, below the prefix; uploads; deletions.

use aws_sdk_s3::types::{ObjectLockRetention, ObjectLockRetentionMode};
use jiff::Timestamp;

use super::S3;
use super::objects::{date, listed, named, time};
use crate::line::{Described, Id, Key};
use crate::storage::aws::{Dated, ask};
use crate::storage::pages::Pages;
use crate::storage::{Answer, Attempt, Failure, Freed, Listing, Listings, Reply, Seen, Unfinished};

/// What a list says when it has more, and not where that begins.
fn no_token() -> Failure {
    Failure::Refused("the service's list is cut, and does not say where it goes on".to_owned())
}

impl S3 {
    /// Gives all archives of a kind to `each`.
    pub(super) async fn each_of(&self, kind: &str, each: &mut dyn FnMut(Seen)) -> Reply<()> {
        let mut pages = Pages::default();
        loop {
            let call = self
                .client
                .list_objects_v2()
                .bucket(&self.bucket)
                .prefix(format!("{}{kind}", self.prefix))
                .set_continuation_token(pages.marker());
            let Answer { at, value } = ask!(call)?;
            for object in value.contents() {
                if let Some(key) = object.key().and_then(|key| self.ours(key)) {
                    each(listed(key, object));
                }
            }
            let next = match value.is_truncated {
                Some(true) => Some(value.next_continuation_token.ok_or_else(no_token)?),
                _ => None,
            };
            if !pages.turn(next)? {
                return Ok(Answer { at, value: () });
            }
        }
    }

    /// Whether a lock keeps an archive, and until when.
    async fn locked(&self, key: Key, version: Option<&str>) -> Option<Timestamp> {
        let object = self.head(key, version).await.ok()?;
        let lock = object.value.seen.lock?;
        (lock.until > object.at).then_some(lock.until)
    }
}

impl Listings for S3 {
    /// It is never old.
    async fn list(&self, _: Option<&Id>, each: &mut dyn FnMut(Seen)) -> Reply<Listing> {
        let first = self.each_of(Key::MANIFESTS, each).await?;
        self.each_of(Key::VOLUMES, each).await?;
        // What was stored since the first page may not be in it.
        Ok(Answer { at: first.at, value: Listing::AsOf(first.at) })
    }

    async fn unfinished(&self, each: &mut dyn FnMut(Unfinished)) -> Reply<()> {
        let (mut key_marker, mut pages) = (None, Pages::default());
        loop {
            let call = self
                .client
                .list_multipart_uploads()
                .bucket(&self.bucket)
                .prefix(&self.prefix)
                .set_key_marker(key_marker.take())
                .set_upload_id_marker(pages.marker());
            let Answer { at, value } = ask!(call)?;
            for upload in value.uploads() {
                let (Some(full), Some(id)) = (upload.key(), upload.upload_id()) else { continue };
                let Some(key) = self.ours(full) else { continue };
                let part_size = match self.part_size(key, id).await {
                    Ok(size) => size,
                    // It has ended since.
                    Err(Failure::Missing(_)) => continue,
                    Err(failure) => return Err(failure),
                };
                let id = Id::of_upload(key, id).map_err(Failure::Damaged)?;
                let created = time(upload.initiated()).unwrap_or(at);
                each(Unfinished { id, of: Described::by(key), created, part_size });
            }
            let next = match value.is_truncated {
                Some(true) => {
                    key_marker = value.next_key_marker;
                    Some(value.next_upload_id_marker.ok_or_else(no_token)?)
                }
                _ => None,
            };
            if !pages.turn(next)? {
                return Ok(Answer { at, value: () });
            }
        }
    }

    async fn inspect(&self, archive: &Id, version: Option<&str>) -> Reply<Option<Seen>> {
        let (key, _) = named(archive)?;
        Ok(self.head(key, version).await?.map(|object| Some(object.seen)))
    }

    async fn extend_lock(
        &self,
        archive: &Id,
        version: Option<&str>,
        until: Timestamp,
    ) -> Reply<Option<Timestamp>> {
        let (key, _) = named(archive)?;
        let Answer { at, value } = self.head(key, version).await?;
        let lock = value.seen.lock;
        // A lock is never made shorter, nor weaker.
        if let Some(lock) = lock.as_ref().filter(|lock| lock.until >= until) {
            return Ok(Answer { at, value: Some(lock.until) });
        }
        let mode = if lock.is_some_and(|lock| lock.compliance) {
            ObjectLockRetentionMode::Compliance
        } else {
            ObjectLockRetentionMode::Governance
        };
        let retention =
            ObjectLockRetention::builder().mode(mode).retain_until_date(date(until)).build();
        let call = self
            .client
            .put_object_retention()
            .bucket(&self.bucket)
            .key(self.full(&key))
            .set_version_id(version.map(str::to_owned))
            .retention(retention);
        Ok(ask!(call)?.map(|_| Some(until)))
    }

    /// In a bucket with versions only a version is gone for good: where none is
    /// named, the one that is there is.
    async fn delete(&self, archive: &Id, version: Option<&str>, bypass: bool) -> Reply<Freed> {
        let gone = || Ok(Dated::default().answer(Freed::Freed));
        let Ok((key, _)) = named(archive) else { return gone() };
        let there = match version {
            Some(version) => Some(version.to_owned()),
            None => match self.head(key, None).await {
                Ok(object) => object.value.seen.version,
                Err(Failure::Missing(_)) => return gone(),
                Err(Failure::Denied(_)) => None,
                Err(failure) => return Err(failure),
            },
        };
        let version = there.as_deref();
        let call = self
            .client
            .delete_object()
            .bucket(&self.bucket)
            .key(self.full(&key))
            .set_version_id(version.map(str::to_owned))
            .set_bypass_governance_retention(bypass.then_some(true));
        let answer: Attempt<_> = ask!(call);
        match answer {
            Ok(answer) => Ok(answer.map(|gone| match (version, gone.delete_marker()) {
                (None, Some(true)) => Freed::Marker,
                _ => Freed::Freed,
            })),
            Err(Failure::Missing(_)) => gone(),
            // It does not say that a lock is why.
            Err(failure @ (Failure::Denied(_) | Failure::Invalid(_))) => {
                match self.locked(key, version).await {
                    Some(until) => Ok(Dated::default().answer(Freed::Locked(until))),
                    None => Err(failure),
                }
            }
            Err(failure) => Err(failure),
        }
    }
}
