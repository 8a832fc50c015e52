//! Uploads in parts, and the archives that they become.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aws_sdk_s3::config::Builder;
use aws_sdk_s3::types::{
    ChecksumAlgorithm, ChecksumType, CompletedMultipartUpload, CompletedPart, ObjectLockMode, Part,
    StorageClass,
};
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use tokio::time::sleep;

use super::S3;
use super::objects::{DESCRIPTION, date, decoded, encoded, named, time};
use crate::line::description::{Description, Kind};
use crate::line::{Id, Key};
use crate::storage::aws::body::FileBody;
use crate::storage::aws::{Dated, LONGER, Precomputed, ask, classify, moving, within};
use crate::storage::pages::Pages;
use crate::storage::{
    Answer, Attempt, Begun, Body, Failure, Held, Lookup, Place, Proof, Reply, Seal, Sealed, Seen,
    Sent, Terms, Uploads,
};

/// The class of volumes, where nobody says.
const CLASS: StorageClass = StorageClass::DeepArchive;

/// How often an archive is looked for that should be there, and how long after
/// each: some services show it only after seconds.
const LOOKS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(3)];

/// How often an upload is dropped again whose parts still arrive.
const ABORTS: usize = 3;

/// What a part is called in an archive's making: its number, from 1.
fn number(part: usize) -> Attempt<i32> {
    let wrong = || Failure::Invalid(format!("part {part} has no number"));
    i32::try_from(part).ok().and_then(|part| part.checked_add(1)).ok_or_else(wrong)
}

/// Whether what is shown is what was to be made, as far as it is shown.
fn compare(about: &Description, seal: &Seal, seen: &Seen) -> Result<(), String> {
    let name = &seen.id;
    let wrong =
        |what: &str| Err(format!("{name}: something else stands there: its {what} differs"));
    if seen.size.is_some_and(|size| size != seal.size) {
        return wrong("size");
    }
    if let (Some(Proof::Sha256(theirs)), Some(ours)) = (seen.checksum, seal.composite)
        && theirs != ours
    {
        return wrong("hash");
    }
    match &seen.described {
        Some(text) if !about.identifies(text) => wrong("description"),
        _ => Ok(()),
    }
}

impl S3 {
    /// The parts of an upload, by their number from 1; of one that a service
    /// lists more than once, the last.
    async fn parts(&self, upload: &Id) -> Reply<BTreeMap<i32, (u64, Sent)>> {
        let (key, id) = named(upload)?;
        let mut parts = BTreeMap::new();
        let mut pages = Pages::default();
        loop {
            let call = self
                .client
                .list_parts()
                .bucket(&self.bucket)
                .key(self.full(&key))
                .upload_id(id)
                .set_part_number_marker(pages.marker());
            let Answer { at, value } = ask!(call)?;
            for part in value.parts() {
                let (Some(number), Some(size)) = (part.part_number(), part.size()) else {
                    continue;
                };
                let proof = decoded(part.checksum_sha256()).map(Proof::Sha256);
                let sent = Sent { proof, tag: part.e_tag().map(str::to_owned) };
                parts.insert(number, (u64::try_from(size).unwrap_or(0), sent));
            }
            let next = value.next_part_number_marker.filter(|_| value.is_truncated == Some(true));
            if !pages.turn(next)? {
                return Ok(Answer { at, value: parts });
            }
        }
    }

    /// The first part of an upload: all but the last are as large.
    pub(super) async fn part_size(&self, key: Key, upload: &str) -> Attempt<u64> {
        let call = self.client.list_parts().bucket(&self.bucket).key(self.full(&key));
        let answer = ask!(call.upload_id(upload).max_parts(1))?;
        let size = answer.value.parts().first().and_then(Part::size);
        Ok(size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0))
    }

    /// The parts that an archive is made of, with the service's names for them.
    async fn sealed(&self, upload: &Id, seal: &Seal) -> Attempt<Vec<CompletedPart>> {
        let is_named = |part: &Sealed| part.tag.is_some();
        let parts = if !seal.parts.is_empty() && seal.parts.iter().all(is_named) {
            seal.parts.to_vec()
        } else {
            let listed = self.parts(upload).await?.value;
            let size: u64 = listed.values().map(|(size, _)| *size).sum();
            if size != seal.size {
                let why = format!("the service holds {size} bytes of {}", seal.size);
                return Err(Failure::Invalid(why));
            }
            // What the service does not tell is known here, but for a seal of
            // an earlier run.
            let known = seal.parts.iter().map(|part| Some(part.sha256));
            let known = known.chain(std::iter::repeat(None));
            let parts = listed.into_values().zip(known).map(|((_, sent), known)| {
                let told = sent.proof.and_then(|proof| match proof {
                    Proof::Sha256(hash) => Some(hash),
                    Proof::Tree(_) => None,
                });
                Some(Sealed { sha256: known.or(told)?, tag: sent.tag })
            });
            parts.collect::<Option<Vec<Sealed>>>().ok_or_else(|| {
                Failure::Invalid("the service does not list the hashes of parts".to_owned())
            })?
        };
        let part = |(index, part): (usize, &Sealed)| {
            let part = CompletedPart::builder()
                .part_number(number(index)?)
                .set_e_tag(part.tag.clone())
                .checksum_sha256(encoded(&part.sha256));
            Ok(part.build())
        };
        parts.iter().enumerate().map(part).collect()
    }

    /// The archive as the service shows it after its making: what must be true
    /// before its parts leave the spool.
    async fn made(&self, key: Key, seal: &Seal) -> Reply<Seen> {
        for pause in LOOKS {
            match self.head(key, None).await {
                Ok(answer) => return Ok(answer.map(|object| object.seen)),
                Err(Failure::Missing(_)) => {
                    sleep(if cfg!(test) { pause / 100 } else { pause }).await;
                }
                Err(Failure::Denied(_)) => break,
                Err(failure) => return Err(failure),
            }
        }
        let Answer { at, value } = self.listed(key).await?;
        let gone = || Failure::Missing(format!("{key}: was made, and is not there"));
        let seen = value.ok_or_else(gone)?;
        if seen.size != Some(seal.size) {
            return Err(Failure::Damaged(format!("{key}: is listed with another size")));
        }
        Ok(Answer { at, value: seen })
    }
}

impl Uploads for S3 {
    /// As many as a page of the list has.
    async fn holds(&self) -> Reply<u64> {
        let mut found = Dated::default().answer(0);
        for of in [Key::MANIFESTS, Key::VOLUMES] {
            let prefix = format!("{}{of}", self.prefix);
            let answer = ask!(self.client.list_objects_v2().bucket(&self.bucket).prefix(prefix))?;
            found = answer.map(|page| u64::try_from(page.contents().len()).unwrap_or(u64::MAX));
            if found.value > 0 {
                break;
            }
        }
        Ok(found)
    }

    async fn begin(&self, about: &Description, part_size: u64, terms: &Terms) -> Reply<Begun> {
        if !self.limits.part.contains(&part_size) {
            return Err(Failure::Invalid(format!("parts of {part_size} bytes are not taken")));
        }
        let key = Key::from(about);
        // Books that lie in the cold would be hours away when they are needed.
        let usual = if about.kind == Kind::Manifest { StorageClass::Standard } else { CLASS };
        let class = terms.class.as_deref().map_or(usual, StorageClass::from);
        // Blanks at its ends, and two in a row, would not survive a header.
        let text = about.text().map_err(Failure::Refused)?.replace(' ', "\\u0020");
        let lock = terms.lock.as_ref();
        let mode = lock.map(|lock| {
            if lock.compliance { ObjectLockMode::Compliance } else { ObjectLockMode::Governance }
        });
        let tag = |(key, value): &(String, String)| {
            use percent_encoding::{NON_ALPHANUMERIC as ALL, utf8_percent_encode as encode};
            format!("{}={}", encode(key, ALL), encode(value, ALL))
        };
        let tags: Vec<String> = terms.tags.iter().map(tag).collect();
        let call = self
            .client
            .create_multipart_upload()
            .bucket(&self.bucket)
            .key(self.full(&key))
            .storage_class(class)
            .metadata(DESCRIPTION, text)
            .checksum_algorithm(ChecksumAlgorithm::Sha256)
            .checksum_type(ChecksumType::Composite)
            .set_object_lock_mode(mode)
            .set_object_lock_retain_until_date(lock.map(|lock| date(lock.until)))
            .set_tagging(Some(tags.join("&")).filter(|tags| !tags.is_empty()));
        let Answer { at, value } = ask!(call)?;
        let upload = Id::of_upload(key, value.upload_id().unwrap_or_default())
            .map_err(|_| Failure::Damaged("the service's answer has no good upload id".into()))?;
        Ok(Answer { at, value: Begun { upload, lapses: time(value.abort_date()) } })
    }

    async fn send(&self, upload: &Id, place: Place, body: &Body) -> Reply<Sent> {
        let (key, id) = named(upload)?;
        let taken = body.taken.load(Ordering::Relaxed);
        let part = usize::try_from(place.part).unwrap_or(usize::MAX);
        let call = self
            .bulk
            .upload_part()
            .bucket(&self.bucket)
            .key(self.full(&key))
            .upload_id(id)
            .part_number(number(part)?)
            .checksum_algorithm(ChecksumAlgorithm::Sha256)
            .checksum_sha256(encoded(&body.sha256))
            .body(ByteStream::new(SdkBody::from_body_1_x(FileBody::new(body.clone()))));
        let dated = Dated::default();
        let call = call
            .customize()
            .interceptor(Precomputed(body.sha256))
            .interceptor(dated.clone())
            .send();
        let answer = moving::sent(call, body, taken, self.stall).await?;
        let proof = decoded(answer.checksum_sha256());
        if proof.is_some_and(|theirs| theirs != body.sha256) {
            let why = "hash differs from the service's; part kept";
            return Err(Failure::Damaged(why.to_owned()));
        }
        let tag = answer.e_tag().map(str::to_owned);
        if tag.is_none() {
            return Err(Failure::Damaged("the service's answer has no ETag".to_owned()));
        }
        Ok(dated.answer(Sent { proof: proof.map(Proof::Sha256), tag }))
    }

    async fn held(&self, upload: &Id, part_size: u64) -> Reply<Vec<Held>> {
        let held = |(number, (size, sent)): (i32, (u64, Sent))| {
            let offset = u64::try_from(number - 1).unwrap_or(0).saturating_mul(part_size);
            Held { offset, size, sent }
        };
        Ok(self.parts(upload).await?.map(|parts| parts.into_iter().map(held).collect()))
    }

    /// Something that stands there already is never replaced, even by a service
    /// that knows no conditions.
    async fn complete(&self, upload: &Id, seal: &Seal) -> Reply<Seen> {
        let (key, id) = named(upload)?;
        match self.head(key, None).await {
            Ok(_) => return Err(Failure::Exists(format!("{key}: is there already"))),
            Err(Failure::Missing(_) | Failure::Denied(_)) => {}
            Err(failure) => return Err(failure),
        }
        let parts = self.sealed(upload, seal).await?;
        let count = parts.len();
        let composite = seal.composite.map(|hash| format!("{}-{count}", encoded(&hash)));
        let size = i64::try_from(seal.size)
            .map_err(|_| Failure::Invalid("no archive is so large".to_owned()))?;
        let call = self
            .client
            .complete_multipart_upload()
            .bucket(&self.bucket)
            .key(self.full(&key))
            .upload_id(id)
            .multipart_upload(CompletedMultipartUpload::builder().set_parts(Some(parts)).build())
            .if_none_match("*")
            .mpu_object_size(size)
            .checksum_type(ChecksumType::Composite)
            .set_checksum_sha256(composite);
        let patient = within(self.stall.saturating_mul(LONGER));
        let dated = Dated::default();
        let answer = call
            .customize()
            .config_override(Builder::new().timeout_config(patient))
            .interceptor(dated.clone())
            .send()
            .await
            .map_err(classify)?;
        let Answer { value: mut seen, .. } = self.made(key, seal).await?;
        let theirs = seen.checksum.or(decoded(answer.checksum_sha256()).map(Proof::Sha256));
        let ours = seal.composite.map(Proof::Sha256);
        if seen.size != Some(seal.size) || theirs.is_some() && ours.is_some() && theirs != ours {
            return Err(Failure::Damaged(format!(
                "{key}: the archive is not what was sent; volume kept"
            )));
        }
        seen.checksum = theirs;
        seen.version = seen.version.or(answer.version_id.filter(|version| version != "null"));
        Ok(dated.answer(seen))
    }

    /// Its key tells at once. One that is not there is looked for again: some
    /// services show an archive only after a moment.
    async fn look_up(&self, about: &Description, seal: &Seal, _: Option<&Id>) -> Reply<Lookup> {
        let key = Key::from(about);
        for pause in LOOKS {
            match self.head(key, None).await {
                Ok(answer) => {
                    return Ok(answer.map(|object| match compare(about, seal, &object.seen) {
                        Ok(()) => Lookup::Same(object.seen),
                        Err(what) => Lookup::Other(what),
                    }));
                }
                Err(Failure::Missing(_)) => {
                    sleep(if cfg!(test) { pause / 100 } else { pause }).await;
                }
                Err(Failure::Denied(_)) => break,
                Err(failure) => return Err(failure),
            }
        }
        let Answer { at, value } = self.listed(key).await?;
        let value = match value {
            None => Lookup::Absent { as_of: at },
            Some(seen) => match compare(about, seal, &seen) {
                Ok(()) => Lookup::Listed(seen),
                Err(what) => Lookup::Other(what),
            },
        };
        Ok(Answer { at, value })
    }

    /// Parts that are on their way may arrive after it is gone, and cost: it is
    /// dropped until it is not known any more.
    async fn abort(&self, upload: &Id) -> Reply<()> {
        let Ok((key, id)) = named(upload) else { return Ok(Dated::default().answer(())) };
        for _ in 0..ABORTS {
            let call = self
                .client
                .abort_multipart_upload()
                .bucket(&self.bucket)
                .key(self.full(&key))
                .upload_id(id);
            match ask!(call) {
                Ok(_) => {}
                Err(Failure::Missing(_)) => break,
                Err(failure) => return Err(failure),
            }
            // What cannot be looked at was dropped all the same.
            if self.parts(upload).await.is_err() {
                break;
            }
        }
        Ok(Dated::default().answer(()))
    }
}
