//! Buckets themselves.

use aws_sdk_s3::types::{
    AbortIncompleteMultipartUpload, BucketLocationConstraint, BucketVersioningStatus,
    CreateBucketConfiguration, ExpirationStatus, LifecycleExpiration, LifecycleRule,
    LifecycleRuleFilter, ObjectLockEnabled, Transition,
};

use super::S3;
use super::objects::time;
use crate::storage::aws::{Dated, ask};
use crate::storage::pages::Pages;
use crate::storage::{Answer, Attempt, Described, Failure, Places, Reply, Rule, Told};

/// Where buckets are that name no region.
const FIRST: &str = "us-east-1";

/// What was told of a setting, unless one may not ask.
fn told<T>(answer: Attempt<Answer<T>>) -> Reply<Told<T>> {
    match answer {
        Ok(answer) => Ok(answer.map(Told::Is)),
        Err(Failure::Denied(_) | Failure::Refused(_)) => Ok(Dated::default().answer(Told::Denied)),
        Err(failure) => Err(failure),
    }
}

/// The same, where a setting that is not there has a meaning.
fn or_else<T>(answer: Attempt<Answer<T>>, none: T) -> Attempt<Answer<T>> {
    match answer {
        Err(Failure::Missing(why)) if !why.starts_with("NoSuchBucket") => {
            Ok(Dated::default().answer(none))
        }
        answer => answer,
    }
}

impl Places for S3 {
    /// The service counts nothing.
    async fn describe(&self) -> Reply<Described> {
        let call = self.client.list_objects_v2().bucket(&self.bucket).prefix(&self.prefix);
        let answer = ask!(call.max_keys(1))?;
        Ok(answer.map(|_| Described {
            name: self.bucket.clone(),
            created: None,
            inventory: None,
            archives: 0,
            size: 0,
        }))
    }

    async fn create(&self) -> Reply<()> {
        let place = Some(self.region.as_str()).filter(|region| *region != FIRST);
        let place = place.map(|region| {
            let constraint = BucketLocationConstraint::from(region);
            CreateBucketConfiguration::builder().location_constraint(constraint).build()
        });
        let call = self.client.create_bucket().bucket(&self.bucket);
        match ask!(call.set_create_bucket_configuration(place)) {
            Err(Failure::Refused(why)) if why.starts_with("BucketAlreadyOwnedByYou") => {
                Ok(Dated::default().answer(()))
            }
            answer => Ok(answer?.map(drop)),
        }
    }

    async fn remove(&self) -> Reply<()> {
        Ok(ask!(self.client.delete_bucket().bucket(&self.bucket))?.map(drop))
    }

    async fn places(&self, each: &mut dyn FnMut(Described)) -> Reply<()> {
        let mut pages = Pages::default();
        loop {
            let call = self.client.list_buckets().set_continuation_token(pages.marker());
            let Answer { at, value } = ask!(call)?;
            for bucket in value.buckets() {
                each(Described {
                    name: bucket.name().unwrap_or_default().to_owned(),
                    created: time(bucket.creation_date()),
                    inventory: None,
                    archives: 0,
                    size: 0,
                });
            }
            if !pages.turn(value.continuation_token)? {
                return Ok(Answer { at, value: () });
            }
        }
    }

    async fn has_lock(&self) -> Reply<Told<bool>> {
        let call = self.client.get_object_lock_configuration().bucket(&self.bucket);
        let answer = ask!(call).map(|answer| {
            answer.map(|it| {
                let configuration = it.object_lock_configuration();
                let enabled = configuration.and_then(|it| it.object_lock_enabled());
                enabled == Some(&ObjectLockEnabled::Enabled)
            })
        });
        told(or_else(answer, false))
    }

    async fn keeps_versions(&self) -> Reply<Told<bool>> {
        let call = self.client.get_bucket_versioning().bucket(&self.bucket);
        let kept = |status: Option<&BucketVersioningStatus>| status.is_some();
        told(ask!(call).map(|answer| answer.map(|it| kept(it.status()))))
    }

    async fn rules(&self) -> Reply<Told<Vec<Rule>>> {
        let call = self.client.get_bucket_lifecycle_configuration().bucket(&self.bucket);
        let days = |days: Option<i32>| days.and_then(|days| u32::try_from(days).ok());
        let answer = ask!(call).map(|answer| {
            answer.map(|it| {
                let on = it.rules().iter().filter(|it| *it.status() == ExpirationStatus::Enabled);
                let rule = |it: &LifecycleRule| Rule {
                    prefix: it
                        .filter()
                        .and_then(LifecycleRuleFilter::prefix)
                        .unwrap_or_default()
                        .to_owned(),
                    deletes: days(it.expiration().and_then(LifecycleExpiration::days)),
                    changes: days(it.transitions().first().and_then(Transition::days)),
                    aborts: days(
                        it.abort_incomplete_multipart_upload()
                            .and_then(AbortIncompleteMultipartUpload::days_after_initiation),
                    ),
                };
                on.map(rule).collect()
            })
        });
        told(or_else(answer, Vec::new()))
    }
}
