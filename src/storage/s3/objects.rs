//! What the service shows of an object: by HEAD, and where that is not allowed,
//! in a list.

use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::types::{ChecksumMode, ChecksumType, ObjectLockMode, StorageClass};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::DateTime;
use aws_smithy_types::base64;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use jiff::Timestamp;

use super::S3;
use crate::hash::tree::Hash;
use crate::line::{Id, Key};
use crate::storage::aws::{Dated, ask, classify};
use crate::storage::{Answer, Attempt, Failure, Lock, Proof, Reply, Seen};

/// The name under which an archive's description stands in its metadata.
pub(super) const DESCRIPTION: &str = "akashita";

/// An object by its HEAD.
pub(super) struct Object {
    pub(super) seen: Seen,
    /// The x-amz-restore header.
    pub(super) restore: Option<String>,
    /// `INTELLIGENT_TIERING` has put it away.
    pub(super) is_put_away: bool,
}

/// A hash as headers have it.
pub(super) fn encoded(hash: &Hash) -> String {
    base64::encode(hash.0)
}

/// A hash from a header, where it is one; behind that of parts stands their
/// number.
pub(super) fn decoded(text: Option<&str>) -> Option<Hash> {
    let text = text?.split('-').next()?;
    base64::decode(text).ok()?.try_into().ok().map(Hash)
}

/// A tag without the quotes around it.
fn bare(tag: &str) -> String {
    tag.trim_matches('"').to_owned()
}

/// A time in an answer.
pub(super) fn time(time: Option<&DateTime>) -> Option<Timestamp> {
    Timestamp::new(time?.secs(), 0).ok()
}

/// The same, for a call.
pub(super) fn date(time: Timestamp) -> DateTime {
    DateTime::from_secs(time.as_second())
}

/// What the failure of a HEAD means: its answer has no body that would say.
fn without_body<E>(error: SdkError<E, HttpResponse>) -> Failure
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let SdkError::ServiceError(answer) = &error else { return classify(error) };
    if answer.err().meta().code().is_some_and(|code| !code.is_empty()) {
        return classify(error);
    }
    let region = answer.raw().headers().get("x-amz-bucket-region");
    match (answer.raw().status().as_u16(), region) {
        (301 | 307 | 400, Some(region)) => Failure::Elsewhere(region.to_owned()),
        (400, None) => Failure::Refused("the service refuses to show it (status 400)".to_owned()),
        (403, _) => Failure::Denied("AccessDenied: HeadObject is not allowed".to_owned()),
        (404, _) => Failure::Missing("NotFound".to_owned()),
        _ => classify(error),
    }
}

fn object(key: Key, head: &HeadObjectOutput) -> Object {
    let is_whole = head.checksum_type() == Some(&ChecksumType::FullObject);
    let checksum = decoded(head.checksum_sha256()).filter(|_| !is_whole).map(Proof::Sha256);
    let until = time(head.object_lock_retain_until_date());
    let lock = until.map(|until| Lock {
        until,
        compliance: head.object_lock_mode() == Some(&ObjectLockMode::Compliance),
    });
    let described = head.metadata().and_then(|it| it.get(DESCRIPTION)).cloned();
    let class = head.storage_class().unwrap_or(&StorageClass::Standard).as_str().to_owned();
    let seen = Seen {
        version: head.version_id().map(str::to_owned).filter(|version| version != "null"),
        size: head.content_length().and_then(|size| u64::try_from(size).ok()),
        checksum,
        tag: head.e_tag().map(bare),
        class: Some(class),
        lock,
        expires: None,
        described,
        at: time(head.last_modified()),
        ..Seen::of(Id::of(key))
    };
    let is_put_away = head.archive_status().is_some();
    Object { seen, restore: head.restore().map(str::to_owned), is_put_away }
}

impl S3 {
    /// What the service shows of an archive, or of a version of it.
    pub(super) async fn head(&self, key: Key, version: Option<&str>) -> Reply<Object> {
        let dated = Dated::default();
        let call = self
            .client
            .head_object()
            .bucket(&self.bucket)
            .key(self.full(&key))
            .set_version_id(version.map(str::to_owned))
            .checksum_mode(ChecksumMode::Enabled);
        let answer = call.customize().interceptor(dated.clone()).send().await;
        Ok(dated.answer(object(key, &answer.map_err(without_body)?)))
    }

    /// What a list shows of an archive, for who may not look closer.
    pub(super) async fn listed(&self, key: Key) -> Reply<Option<Seen>> {
        let full = self.full(&key);
        let call = self.client.list_objects_v2().bucket(&self.bucket).prefix(&full).max_keys(1);
        let Answer { at, value } = ask!(call)?;
        let found = value.contents().iter().find(|object| object.key() == Some(&full));
        Ok(Answer { at, value: found.map(|object| listed(key, object)) })
    }
}

/// An object as a list has it.
pub(super) fn listed(key: Key, object: &aws_sdk_s3::types::Object) -> Seen {
    Seen {
        size: object.size().and_then(|size| u64::try_from(size).ok()),
        tag: object.e_tag().map(bare),
        class: Some(object.storage_class().map_or("STANDARD", |class| class.as_str()).to_owned()),
        at: time(object.last_modified()),
        ..Seen::of(Id::of(key))
    }
}

/// The archive, and the upload if it is one, that a name of ours stands for.
pub(super) fn named(id: &Id) -> Attempt<(Key, &str)> {
    match id.in_bucket() {
        Some((key, upload)) => Ok((key, upload.unwrap_or_default())),
        None => Err(Failure::Missing(format!("NoSuchKey: {id} is no archive of a bucket"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_read_with_and_without_the_number_of_parts() {
        let hash = Hash::of(b"x");
        let text = encoded(&hash);
        assert_eq!(decoded(Some(&text)), Some(hash));
        assert_eq!(decoded(Some(&format!("{text}-17"))), Some(hash));
        for none in [None, Some(""), Some("-"), Some("eA=="), Some("no hash at all")] {
            assert_eq!(decoded(none), None, "{none:?}");
        }
    }
}
