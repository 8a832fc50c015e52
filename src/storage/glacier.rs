//! Amazon Glacier's vault service as a [`Vault`].

use std::sync::atomic::Ordering;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_glacier::Client;
use aws_sdk_glacier::config::Builder;
use aws_sdk_glacier::types::{GlacierJobDescription, JobParameters, StatusCode};
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use aws_smithy_types::timeout::TimeoutConfig;
use jiff::Timestamp;
use serde::Deserialize;
use tokio::time::timeout;

use super::aws::{self, Access, Precomputed, classify, root_cause};
use super::{
    Attempt, Body, Dest, Failure, Inventoried, Inventory, Job, JobState, Listed, Span, Tier, Vault,
};
use crate::error::{Error, Result};
use crate::hash::tree::Hash;
use crate::storage::aws::body::{FileBody, Unreadable};
use crate::storage::aws::credentials::Chain;
use crate::units;

/// How long a call without archive bytes may take, at most.
const CALL: Duration = Duration::from_mins(1);

/// How many times as long as a body may stand still the service may take to
/// make an archive of its parts (for one of terabytes, minutes), or an
/// inventory to come.
const LONGER: u32 = 3;

/// A download that brings less than this while a body may stand still does
/// not move.
const MOVES: usize = 256 << 10;

/// A vault of Amazon Glacier, or of whatever speaks its API.
#[derive(Clone, Debug)]
pub struct Glacier {
    /// For calls that are over within [`CALL`].
    client: Client,
    /// For calls that carry bytes, however long that takes.
    bulk: Client,
    dest: Dest,
    vault: String,
    region: String,
    /// How long a body may stand still, either way.
    stall: Duration,
}

impl Glacier {
    /// Loads the configuration; nothing is asked of the service yet.
    ///
    /// # Errors
    /// As [`aws::load`].
    pub async fn open(dest: Dest, access: &Access) -> Result<Self> {
        let (config, chain) = aws::load(access).await?;
        Self::new(&config, Some(chain), dest, access.timeout)
    }

    /// The same, for what lines say where it is stored: their region counts,
    /// unless it is empty or the user names another.
    ///
    /// # Errors
    /// As [`aws::load`].
    pub async fn open_in(dest: Dest, region: &str, access: &Access) -> Result<Self> {
        let mut access = access.clone();
        if access.region.is_none() && !region.is_empty() {
            access.region = Some(region.to_owned());
        }
        Self::open(dest, &access).await
    }

    /// The same, with a configuration that is loaded already.
    ///
    /// # Errors
    /// When it names no region: a bug.
    pub fn with(config: &SdkConfig, dest: Dest) -> Result<Self> {
        Self::new(config, None, dest, aws::STALL)
    }

    fn new(config: &SdkConfig, chain: Option<Chain>, dest: Dest, stall: Duration) -> Result<Self> {
        let region = config
            .region()
            .map(ToString::to_string)
            .ok_or_else(|| Error::Bug("a region that was there is gone".to_owned()))?;
        let mut common = Builder::from(config);
        if let Some(chain) = chain {
            common = common.interceptor(chain);
        }
        let bulk = Client::from_conf(common.clone().build());
        let client = Client::from_conf(common.timeout_config(within(stall.min(CALL))).build());
        let Dest::Glacier { vault } = &dest;
        Ok(Self { client, bulk, vault: vault.clone(), dest, region, stall })
    }
}

/// The timeouts of a call that is over within `limit`.
fn within(limit: Duration) -> TimeoutConfig {
    TimeoutConfig::builder().connect_timeout(aws::CONNECT).operation_timeout(limit).build()
}

/// A field that the API reference promises.
fn promised<T>(field: Option<T>, name: &str) -> Attempt<T> {
    field.ok_or_else(|| Failure::Damaged(format!("the service's answer has no {name}")))
}

/// A hash in an answer; what is not one is damage.
fn hash(text: Option<&str>) -> Attempt<Hash> {
    promised(text, "tree hash")?.parse().map_err(Failure::Damaged)
}

/// Goes on to the page that an answer names, if there is one more. One that
/// names itself would never end.
fn turn(marker: &mut Option<String>, next: Option<String>) -> Attempt<bool> {
    if next.is_some() && next == *marker {
        return Err(Failure::Damaged("the service's list goes round in a circle".to_owned()));
    }
    *marker = next;
    Ok(marker.is_some())
}

fn bytes(number: u64) -> Attempt<i64> {
    i64::try_from(number).map_err(|_| Failure::Refused(format!("{number} bytes are too many")))
}

/// A range such as `0-1048575`.
fn range(text: &str) -> Option<Span> {
    let (first, last) = text.split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    Some(Span { offset: first, size: last.checked_sub(first)?.checked_add(1)? })
}

fn job(description: GlacierJobDescription) -> Attempt<Job> {
    let state = match description.status_code() {
        Some(StatusCode::Succeeded) => JobState::Ready,
        Some(StatusCode::Failed) => {
            JobState::Failed(description.status_message().unwrap_or("no reason given").to_owned())
        }
        _ => JobState::Waiting,
    };
    let number = |number: Option<i64>| number.and_then(|number| u64::try_from(number).ok());
    let archive = number(description.archive_size_in_bytes());
    let retrieved = description.retrieval_byte_range().and_then(range);
    let time = |text: Option<&str>| text.and_then(|text| text.parse().ok());
    Ok(Job {
        state,
        range: retrieved
            .filter(|range| range.offset != 0 || archive.is_none_or(|all| all != range.size)),
        tier: description.tier().and_then(|tier| tier.parse().ok()),
        created: time(description.creation_date()),
        completed: time(description.completion_date()),
        size: match description.archive_id {
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
        id: promised(description.job_id, "job id")?,
        archive_id: description.archive_id,
    })
}

/// What the service says of a vault.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Described {
    /// Its name.
    pub name: String,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// When its inventory was last made; the two numbers are of then.
    pub inventory: Option<Timestamp>,
    /// How many archives it held.
    pub archives: u64,
    /// Their bytes.
    pub size: u64,
}

impl Described {
    fn new(
        name: Option<String>,
        created: Option<&str>,
        inventory: Option<&str>,
        (archives, size): (i64, i64),
    ) -> Attempt<Self> {
        let time = |text: Option<&str>| text.and_then(|text| text.parse().ok());
        Ok(Self {
            name: promised(name, "name of a vault")?,
            created: time(created),
            inventory: time(inventory),
            archives: u64::try_from(archives).unwrap_or(0),
            size: u64::try_from(size).unwrap_or(0),
        })
    }
}

/// An unfinished upload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Uploading {
    /// The service's name for it.
    pub id: String,
    /// The description that its archive will have.
    pub description: String,
    /// When it was begun.
    pub created: Timestamp,
    /// Bytes in a part.
    pub part_size: u64,
}

/// What the account allows to be brought up with the Standard tier.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Policy {
    /// As much as is paid for.
    None,
    /// What is free.
    FreeTier,
    /// So many bytes an hour.
    BytesPerHour(u64),
}

/// What is done with vaults beside storing in them and bringing back; each
/// call is a single attempt.
impl Glacier {
    /// The vaults of the account in this region.
    ///
    /// # Errors
    /// When the user may not list them, say.
    pub async fn vaults(&self) -> Attempt<Vec<Described>> {
        let mut vaults = Vec::new();
        let mut marker = None;
        loop {
            let call = self.client.list_vaults().set_marker(marker.clone());
            let answer = call.send().await.map_err(classify)?;
            for vault in answer.vault_list.unwrap_or_default() {
                vaults.push(Described::new(
                    vault.vault_name.clone(),
                    vault.creation_date(),
                    vault.last_inventory_date(),
                    (vault.number_of_archives(), vault.size_in_bytes()),
                )?);
            }
            if !turn(&mut marker, answer.marker)? {
                return Ok(vaults);
            }
        }
    }

    /// What the service says of this vault.
    ///
    /// # Errors
    /// When it is not there, say.
    pub async fn describe(&self) -> Attempt<Described> {
        let call = self.client.describe_vault().vault_name(&self.vault);
        let vault = call.send().await.map_err(classify)?;
        Described::new(
            vault.vault_name.clone(),
            vault.creation_date(),
            vault.last_inventory_date(),
            (vault.number_of_archives(), vault.size_in_bytes()),
        )
    }

    /// The unfinished uploads of this vault.
    ///
    /// # Errors
    /// When it is not there, say.
    pub async fn uploads(&self) -> Attempt<Vec<Uploading>> {
        let mut uploads = Vec::new();
        let mut marker = None;
        loop {
            let call = self
                .client
                .list_multipart_uploads()
                .vault_name(&self.vault)
                .set_marker(marker.clone());
            let answer = call.send().await.map_err(classify)?;
            for upload in answer.uploads_list.unwrap_or_default() {
                let created = upload.creation_date.and_then(|text| text.parse().ok());
                uploads.push(Uploading {
                    id: promised(upload.multipart_upload_id, "upload id")?,
                    description: upload.archive_description.unwrap_or_default(),
                    created: promised(created, "date of an upload")?,
                    part_size: u64::try_from(upload.part_size_in_bytes).unwrap_or(0),
                });
            }
            if !turn(&mut marker, answer.marker)? {
                return Ok(uploads);
            }
        }
    }

    /// Deletes an archive; one that is not there is no failure (API reference,
    /// "Delete Archive": the call is idempotent).
    ///
    /// # Errors
    /// When a vault lock forbids it, say.
    pub async fn delete(&self, archive: &str) -> Attempt<()> {
        let call = self.client.delete_archive().vault_name(&self.vault).archive_id(archive);
        call.send().await.map(drop).map_err(classify)
    }

    /// Whether the vault has a lock, be it complete or in the making: its
    /// policy may forbid what the user's allows.
    ///
    /// # Errors
    /// When the user may not see it, say.
    pub async fn has_lock(&self) -> Attempt<bool> {
        let call = self.client.get_vault_lock().vault_name(&self.vault);
        match call.send().await.map_err(classify) {
            Ok(_) => Ok(true),
            Err(Failure::Missing(_)) => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    /// Deletes this vault. The service refuses while its last inventory is
    /// not empty, or older than the last write.
    ///
    /// # Errors
    /// That refusal, say.
    pub async fn delete_vault(&self) -> Attempt<()> {
        let call = self.client.delete_vault().vault_name(&self.vault);
        call.send().await.map(drop).map_err(classify)
    }

    /// The data retrieval policy of the account in this region.
    ///
    /// # Errors
    /// When the user may not see it, say.
    pub async fn policy(&self) -> Attempt<Policy> {
        let answer = self.client.get_data_retrieval_policy().send().await.map_err(classify)?;
        let rules = answer.policy.and_then(|policy| policy.rules).unwrap_or_default();
        let Some(rule) = rules.first() else { return Ok(Policy::None) };
        Ok(match (rule.strategy(), rule.bytes_per_hour()) {
            (Some("FreeTier"), _) => Policy::FreeTier,
            (Some("BytesPerHour"), Some(bytes)) => {
                Policy::BytesPerHour(u64::try_from(bytes).unwrap_or(0))
            }
            _ => Policy::None,
        })
    }
}

impl Vault for Glacier {
    fn dest(&self) -> &Dest {
        &self.dest
    }

    fn region(&self) -> &str {
        &self.region
    }

    async fn create(&self) -> Attempt<()> {
        let call = self.client.create_vault().vault_name(&self.vault);
        call.send().await.map(|_| ()).map_err(classify)
    }

    async fn archives(&self) -> Attempt<u64> {
        let call = self.client.describe_vault().vault_name(&self.vault);
        let answer = call.send().await.map_err(classify)?;
        Ok(u64::try_from(answer.number_of_archives()).unwrap_or(0))
    }

    async fn initiate(&self, description: &str, part_size: u64) -> Attempt<String> {
        let call = self
            .client
            .initiate_multipart_upload()
            .vault_name(&self.vault)
            .archive_description(description)
            .part_size(part_size.to_string());
        let answer = call.send().await.map_err(classify)?;
        promised(answer.upload_id, "upload id")
    }

    async fn send(&self, upload: &str, offset: u64, body: &Body) -> Attempt<()> {
        let taken = body.taken.load(Ordering::Relaxed);
        let call = self
            .bulk
            .upload_multipart_part()
            .vault_name(&self.vault)
            .upload_id(upload)
            .range(format!("bytes {offset}-{}/*", offset + body.size - 1))
            .checksum(body.treehash.to_string())
            .body(ByteStream::new(SdkBody::from_body_1_x(FileBody::new(body.clone()))));
        let call = call.customize().interceptor(Precomputed(body.sha256)).send();
        let answer = tokio::select! {
            answer = call => answer.map_err(|e| match reading_failed(&e) {
                Some(why) => Failure::Local(why),
                None => classify(e),
            })?,
            () = stalled(self.stall, body, taken) => {
                return Err(Failure::Overload(format!(
                    "nothing moved for {}",
                    units::time(self.stall)
                )));
            }
        };
        if hash(answer.checksum())? == body.treehash {
            Ok(())
        } else {
            Err(Failure::Damaged("tree hash differs from the service's; part kept".to_owned()))
        }
    }

    async fn parts(&self, upload: &str) -> Attempt<Vec<Listed>> {
        let mut parts = Vec::new();
        let mut marker = None;
        loop {
            let call = self
                .client
                .list_parts()
                .vault_name(&self.vault)
                .upload_id(upload)
                .set_marker(marker.clone());
            let answer = call.send().await.map_err(classify)?;
            for part in answer.parts() {
                let Span { offset, size } =
                    promised(part.range_in_bytes().and_then(range), "range of a part")?;
                parts.push(Listed { offset, size, treehash: hash(part.sha256_tree_hash())? });
            }
            if !turn(&mut marker, answer.marker)? {
                return Ok(parts);
            }
        }
    }

    async fn complete(&self, upload: &str, size: u64, treehash: Hash) -> Attempt<String> {
        let call = self
            .client
            .complete_multipart_upload()
            .vault_name(&self.vault)
            .upload_id(upload)
            .archive_size(size.to_string())
            .checksum(treehash.to_string());
        let answer = call
            .customize()
            .config_override(
                Builder::new().timeout_config(within(self.stall.saturating_mul(LONGER))),
            )
            .send()
            .await
            .map_err(classify)?;
        if hash(answer.checksum())? != treehash {
            return Err(Failure::Damaged(
                "tree hash of the archive differs from the service's; volume kept".to_owned(),
            ));
        }
        promised(answer.archive_id, "archive id")
    }

    async fn abort(&self, upload: &str) -> Attempt<()> {
        let call = self.client.abort_multipart_upload().vault_name(&self.vault).upload_id(upload);
        match call.send().await.map_err(classify) {
            Ok(_) | Err(Failure::Missing(_)) => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    async fn retrieve(&self, archive: &str, range: Option<Span>, tier: Tier) -> Attempt<String> {
        let range = range.map(|Span { offset, size }| format!("{offset}-{}", offset + size - 1));
        let parameters = JobParameters::builder()
            .r#type("archive-retrieval")
            .archive_id(archive)
            .set_retrieval_byte_range(range)
            .tier(tier.to_string())
            .build();
        self.start(parameters).await
    }

    async fn request_inventory(&self) -> Attempt<String> {
        let parameters =
            JobParameters::builder().r#type("inventory-retrieval").format("JSON").build();
        self.start(parameters).await
    }

    async fn job(&self, id: &str) -> Attempt<Job> {
        let call = self.client.describe_job().vault_name(&self.vault).job_id(id);
        let answer = call.send().await.map_err(classify)?;
        job(GlacierJobDescription::builder()
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
            .build())
    }

    async fn jobs(&self) -> Attempt<Vec<Job>> {
        let mut jobs = Vec::new();
        let mut marker = None;
        loop {
            let call = self.client.list_jobs().vault_name(&self.vault).set_marker(marker.clone());
            let answer = call.send().await.map_err(classify)?;
            for description in answer.job_list.unwrap_or_default() {
                jobs.push(job(description)?);
            }
            if !turn(&mut marker, answer.marker)? {
                return Ok(jobs);
            }
        }
    }

    async fn fetch(
        &self,
        job: &str,
        offset: u64,
        size: u64,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Attempt<()> {
        let call = self
            .bulk
            .get_job_output()
            .vault_name(&self.vault)
            .job_id(job)
            .range(format!("bytes={offset}-{}", offset + size - 1));
        let mut answer =
            timeout(self.stall, call.send()).await.map_err(|_| late())?.map_err(classify)?;
        let mut left = bytes(size)?;
        let mut is_over = false;
        while !is_over {
            let moves = async {
                let mut moved = 0;
                while moved < MOVES {
                    let Some(piece) = answer.body.next().await else {
                        is_over = true;
                        break;
                    };
                    let piece = piece.map_err(|e| Failure::Passing(root_cause(&e)))?;
                    moved += piece.len();
                    left -= i64::try_from(piece.len()).unwrap_or(i64::MAX);
                    if left < 0 {
                        return Err(Failure::Damaged(
                            "more bytes came than were asked for".to_owned(),
                        ));
                    }
                    sink(&piece);
                }
                Ok(())
            };
            timeout(self.stall, moves).await.map_err(|_| {
                let (stall, moves) = (units::time(self.stall), MOVES >> 10);
                Failure::Overload(format!("less than {moves} KiB came in {stall}"))
            })??;
        }
        match left {
            0 => Ok(()),
            left => Err(Failure::Passing(format!("the last {left} bytes did not come"))),
        }
    }

    async fn inventory(&self, job: &str) -> Attempt<Inventory> {
        let call = self.bulk.get_job_output().vault_name(&self.vault).job_id(job);
        let answer = timeout(self.stall, call.send()).await.map_err(|_| late())?;
        let body = answer.map_err(classify)?.body;
        let longer = self.stall.saturating_mul(LONGER);
        let body = timeout(longer, body.collect()).await.map_err(|_| late())?;
        let body = body.map_err(|e| Failure::Passing(root_cause(&e)))?.to_vec();
        read_inventory(&body)
    }

    async fn retrieval_policy(&self) -> Option<String> {
        // The user may not be allowed to see it.
        match self.policy().await.ok()? {
            Policy::None => None,
            Policy::FreeTier => Some("the account's policy: what is free".to_owned()),
            Policy::BytesPerHour(bytes) => {
                Some(format!("the account's policy: {} an hour", units::bytes(bytes)))
            }
        }
    }
}

impl Glacier {
    async fn start(&self, parameters: JobParameters) -> Attempt<String> {
        let call = self.client.initiate_job().vault_name(&self.vault).job_parameters(parameters);
        let answer = call.send().await.map_err(classify)?;
        promised(answer.job_id, "job id")
    }
}

fn late() -> Failure {
    Failure::Overload("no answer in time".to_owned())
}

/// Ends when none of a body's bytes has moved for a time, and none waited for
/// its turn when that was over.
async fn stalled(time: Duration, body: &Body, mut last: u64) {
    loop {
        tokio::time::sleep(time).await;
        let now = body.taken.load(Ordering::Relaxed);
        if now == last && !body.pace.is_waiting() {
            return;
        }
        last = now;
    }
}

/// Why the spool file could not be read, if that is what ended a request.
fn reading_failed(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(e) = error.downcast_ref::<Unreadable>() {
            return Some(e.to_string());
        }
        cause = error.source();
    }
    None
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
        archive_id: String,
        archive_description: Option<String>,
        creation_date: Timestamp,
        size: u64,
        #[serde(rename = "SHA256TreeHash")]
        treehash: Hash,
    }
    let wire: Wire = serde_json::from_slice(body)
        .map_err(|e| Failure::Damaged(format!("the inventory cannot be read: {e}")))?;
    Ok(Inventory {
        made: wire.inventory_date,
        archives: wire
            .archive_list
            .into_iter()
            .map(|archive| Inventoried {
                archive_id: archive.archive_id,
                description: archive.archive_description.unwrap_or_default(),
                size: archive.size,
                treehash: archive.treehash,
                created: archive.creation_date,
            })
            .collect(),
    })
}
