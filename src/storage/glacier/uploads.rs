//! Uploads in parts, and the archives that they become.

use std::sync::atomic::Ordering;

use aws_sdk_glacier::config::Builder;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;

use super::retrievals::State;
use super::{Glacier, hash, id, promised, range};
use crate::line::Id;
use crate::line::description::Description;
use crate::storage::aws::body::FileBody;
use crate::storage::aws::{Dated, LONGER, Precomputed, ask, classify, moving, within};
use crate::storage::pages::Pages;
use crate::storage::{
    Answer, Begun, Body, Failure, Held, Lookup, Place, Places as _, Proof, Reply, Seal, Seen, Sent,
    Span, Terms, Uploads,
};

impl Uploads for Glacier {
    /// As many as it held when its inventory was last made.
    async fn holds(&self) -> Reply<u64> {
        Ok(self.describe().await?.map(|vault| vault.archives))
    }

    /// A vault knows neither classes nor tags, and its lock is the whole
    /// vault's: of the terms it takes none.
    async fn begin(&self, about: &Description, part_size: u64, terms: &Terms) -> Reply<Begun> {
        if *terms != Terms::default() {
            return Err(Failure::Refused("a vault has no classes, locks or tags".to_owned()));
        }
        let call = self
            .client
            .initiate_multipart_upload()
            .vault_name(&self.vault)
            .archive_description(about.text().map_err(Failure::Refused)?)
            .part_size(part_size.to_string());
        let Answer { at, value } = ask!(call)?;
        let upload = id(value.upload_id, "upload id")?;
        Ok(Answer { at, value: Begun { upload, lapses: None } })
    }

    async fn send(&self, upload: &Id, place: Place, body: &Body) -> Reply<Sent> {
        let taken = body.taken.load(Ordering::Relaxed);
        let Place { offset, .. } = place;
        let call = self
            .bulk
            .upload_multipart_part()
            .vault_name(&self.vault)
            .upload_id(&**upload)
            .range(format!("bytes {offset}-{}/*", offset + body.size - 1))
            .checksum(body.treehash.to_string())
            .body(ByteStream::new(SdkBody::from_body_1_x(FileBody::new(body.clone()))));
        let dated = Dated::default();
        let call = call
            .customize()
            .interceptor(Precomputed(body.sha256))
            .interceptor(dated.clone())
            .send();
        let answer = moving::sent(call, body, taken, self.stall).await?;
        let proof = hash(answer.checksum())?;
        if proof != body.treehash {
            let why = "tree hash differs from the service's; part kept";
            return Err(Failure::Damaged(why.to_owned()));
        }
        Ok(dated.answer(Sent { proof: Some(Proof::Tree(proof)), tag: None }))
    }

    async fn held(&self, upload: &Id, _: u64) -> Reply<Vec<Held>> {
        let mut parts = Vec::new();
        let mut pages = Pages::default();
        loop {
            let call = self.client.list_parts().vault_name(&self.vault).upload_id(&**upload);
            let Answer { at, value } = ask!(call.set_marker(pages.marker()))?;
            for part in value.parts() {
                let Span { offset, size } =
                    promised(part.range_in_bytes().and_then(range), "range of a part")?;
                let proof = Some(Proof::Tree(hash(part.sha256_tree_hash())?));
                parts.push(Held { offset, size, sent: Sent { proof, tag: None } });
            }
            if !pages.turn(value.marker)? {
                return Ok(Answer { at, value: parts });
            }
        }
    }

    async fn complete(&self, upload: &Id, seal: &Seal) -> Reply<Seen> {
        let call = self
            .client
            .complete_multipart_upload()
            .vault_name(&self.vault)
            .upload_id(&**upload)
            .archive_size(seal.size.to_string())
            .checksum(seal.treehash.to_string());
        let patient = within(self.stall.saturating_mul(LONGER));
        let dated = Dated::default();
        let answer = call
            .customize()
            .config_override(Builder::new().timeout_config(patient))
            .interceptor(dated.clone())
            .send()
            .await
            .map_err(classify)?;
        if hash(answer.checksum())? != seal.treehash {
            return Err(Failure::Damaged(
                "tree hash of the archive differs from the service's; volume kept".to_owned(),
            ));
        }
        Ok(dated.answer(Seen {
            size: Some(seal.size),
            checksum: Some(Proof::Tree(seal.treehash)),
            ..Seen::of(id(answer.archive_id, "archive id")?)
        }))
    }

    /// Only an inventory tells, of which the ticket is the job.
    async fn look_up(
        &self,
        about: &Description,
        seal: &Seal,
        ticket: Option<&Id>,
    ) -> Reply<Lookup> {
        if let Some(job) = ticket {
            let Answer { at, value: state } = self.state(job).await?;
            match state {
                State::Waiting => {
                    return Ok(Answer { at, value: Lookup::Later(Some(job.clone())) });
                }
                State::Ready(size) => match self.inventory(job, size).await {
                    Ok(Answer { at, value: inventory }) => {
                        let is_ours = |archive: &Seen| {
                            archive.described.as_ref().is_some_and(|text| about.identifies(text))
                                && archive.size == Some(seal.size)
                                && archive.checksum == Some(Proof::Tree(seal.treehash))
                        };
                        let found = inventory.archives.into_iter().find(is_ours);
                        let absent = Lookup::Absent { as_of: inventory.made };
                        let value = found.map_or(absent, Lookup::Same);
                        return Ok(Answer { at, value });
                    }
                    Err(failure) if self.has_lost(job, &failure).await => {}
                    Err(failure) => return Err(failure),
                },
                // Another is asked for.
                State::Gone => {}
            }
        }
        Ok(self.request_inventory().await?.map(Lookup::Later))
    }

    async fn abort(&self, upload: &Id) -> Reply<()> {
        let call =
            self.client.abort_multipart_upload().vault_name(&self.vault).upload_id(&**upload);
        match ask!(call) {
            Err(Failure::Missing(_)) => Ok(Dated::default().answer(())),
            answer => Ok(answer?.map(drop)),
        }
    }
}
