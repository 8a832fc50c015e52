//! Jobs: a file each, `ID.json`, and for inventories the output, `ID.out`.
//!
//! A job's state follows from the clock: in progress until `ready`, then
//! done, and a day later it is gone.

mod begin;

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use self::begin::initiate;
use crate::hash::tree::Hash;
use crate::tools::local::clock::{DAY, HOUR, Millis, stamp, stamp_seconds};
use crate::tools::local::glacier::archive;
use crate::tools::local::glacier::inventory::{self, Filter, Format};
use crate::tools::local::range::{Range, is_node};
use crate::tools::local::reply::{Answer, Body, Refusal, Reply, Source, Stored, broken};
use crate::tools::local::request::{Asked, cut};
use crate::tools::local::store::{SHORT_ID, Turn, Vault, is_id};
use crate::tools::local::{disk, part};

/// How long output is there.
const KEPT: Millis = DAY;

#[derive(Serialize, Deserialize)]
struct Job {
    id: String,
    description: Option<String>,
    sns_topic: Option<String>,
    created: Millis,
    ready: Millis,
    /// Why it fails when it is ready.
    failed: Option<String>,
    work: Work,
}

#[derive(Serialize, Deserialize)]
enum Work {
    Archive(Retrieval),
    Inventory(Listing),
}

#[derive(Serialize, Deserialize)]
struct Retrieval {
    archive: archive::Archive,
    tier: Tier,
    start: u64,
    end: u64,
    treehash: Option<Hash>,
}

impl Retrieval {
    fn range(&self) -> Range {
        Range { start: self.start, end: self.end }
    }
}

#[derive(Serialize, Deserialize)]
struct Listing {
    format: Format,
    filter: Filter,
    next: Option<String>,
    size: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Tier {
    Expedited,
    Standard,
    Bulk,
}

impl Tier {
    fn read(text: &str) -> Answer<Self> {
        match text {
            "Expedited" => Ok(Self::Expedited),
            "Standard" => Ok(Self::Standard),
            "Bulk" => Ok(Self::Bulk),
            _ => Err(Refusal::invalid(format!(
                "Invalid tier: {text}; it is Expedited, Standard or Bulk"
            ))),
        }
    }

    fn takes(self) -> Millis {
        match self {
            Self::Expedited => HOUR / 20,
            Self::Standard => 4 * HOUR,
            Self::Bulk => 8 * HOUR,
        }
    }
}

impl Job {
    fn is_ready(&self, now: Millis) -> bool {
        now >= self.ready
    }

    fn status(&self, now: Millis) -> &'static str {
        match (self.is_ready(now), &self.failed) {
            (false, _) => "InProgress",
            (true, None) => "Succeeded",
            (true, Some(_)) => "Failed",
        }
    }

    /// The archive it retrieves.
    fn archive(&self) -> Option<&str> {
        match &self.work {
            Work::Archive(retrieval) => Some(&retrieval.archive.id),
            Work::Inventory(_) => None,
        }
    }

    fn describe(&self, vault: &Vault, now: Millis) -> Value {
        let status = self.status(now);
        let message = match &self.failed {
            Some(reason) if status == "Failed" => Some(reason.as_str()),
            _ if status == "Succeeded" => Some("Succeeded"),
            _ => None,
        };
        let mut fields = json!({
            "Action": "InventoryRetrieval",
            "ArchiveId": null,
            "ArchiveSHA256TreeHash": null,
            "ArchiveSizeInBytes": null,
            "Completed": self.is_ready(now),
            "CompletionDate": self.is_ready(now).then(|| stamp(self.ready)),
            "CreationDate": stamp(self.created),
            "InventoryRetrievalParameters": null,
            "InventorySizeInBytes": null,
            "JobDescription": self.description,
            "JobId": self.id,
            "RetrievalByteRange": null,
            "SHA256TreeHash": null,
            "SNSTopic": self.sns_topic,
            "StatusCode": status,
            "StatusMessage": message,
            "Tier": null,
            "VaultARN": vault.arn,
        });
        let more = match &self.work {
            Work::Archive(retrieval) => json!({
                "Action": "ArchiveRetrieval",
                "ArchiveId": retrieval.archive.id,
                "ArchiveSHA256TreeHash": retrieval.archive.treehash,
                "ArchiveSizeInBytes": retrieval.archive.size,
                "RetrievalByteRange": format!("{}-{}", retrieval.start, retrieval.end),
                "SHA256TreeHash": retrieval.treehash,
                "Tier": retrieval.tier,
            }),
            Work::Inventory(listing) => json!({
                "InventorySizeInBytes": (status == "Succeeded").then_some(listing.size),
                "InventoryRetrievalParameters": {
                    "Format": listing.format,
                    "StartDate": listing.filter.start.map(stamp_seconds),
                    "EndDate": listing.filter.end.map(stamp_seconds),
                    "Limit": listing.filter.limit.map(|limit| limit.to_string()),
                    "Marker": (status == "Succeeded").then_some(&listing.next),
                },
            }),
        };
        if let (Value::Object(fields), Value::Object(more)) = (&mut fields, more) {
            fields.extend(more);
        }
        fields
    }
}

fn file(vault: &Vault, id: &str, kind: &str) -> PathBuf {
    vault.dir.join("jobs").join(format!("{id}.{kind}"))
}

/// All jobs of a vault, oldest first. Those whose time is over go now, and
/// with them the archives that were kept for them alone.
fn all(turn: &Turn, vault: &Vault) -> Answer<Vec<Job>> {
    let mut jobs = Vec::new();
    for name in disk::names(&vault.dir.join("jobs")).map_err(broken("jobs"))? {
        let Some(id) = name.strip_suffix(".json") else {
            // Output whose job a killed server never wrote down.
            if name.strip_suffix(".out").is_some_and(|id| !file(vault, id, "json").exists()) {
                disk::remove(&vault.dir.join("jobs").join(&name)).map_err(broken("job"))?;
            }
            continue;
        };
        let job = disk::read_json::<Job>(&file(vault, id, "json")).map_err(broken("job"))?;
        match job {
            Some(job) if turn.now >= job.ready + KEPT => {
                disk::remove(&file(vault, id, "json"))
                    .and_then(|()| disk::remove(&file(vault, id, "out")))
                    .map_err(broken("job"))?;
            }
            job => jobs.extend(job),
        }
    }
    for id in disk::names(&vault.dir.join("retained")).map_err(broken("archives"))? {
        if !jobs.iter().any(|job| job.archive() == Some(&id)) && !turn.is_read(&id) {
            turn.discard(&vault.dir.join("retained").join(id))?;
        }
    }
    jobs.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
    Ok(jobs)
}

/// Drops what is over, and counts the rest.
pub fn sweep(turn: &Turn, vault: &Vault) -> Answer<usize> {
    Ok(all(turn, vault)?.len())
}

/// An archive is about to be deleted: jobs that are preparing it fail; is
/// there one that offers it already, so that its bytes must stay?
pub fn archive_goes(vault: &Vault, archive: &str, now: Millis) -> Answer<bool> {
    let mut offered = false;
    for name in disk::names(&vault.dir.join("jobs")).map_err(broken("jobs"))? {
        let Some(id) = name.strip_suffix(".json") else { continue };
        let file = file(vault, id, "json");
        let Some(mut job) = disk::read_json::<Job>(&file).map_err(broken("job"))? else { continue };
        if job.archive() != Some(archive) {
            continue;
        }
        if job.is_ready(now) {
            offered |= job.failed.is_none() && now < job.ready + KEPT;
        } else {
            job.failed = Some("The archive was deleted".to_owned());
            disk::write_json(&file, &job).map_err(broken("job"))?;
        }
    }
    Ok(offered)
}

/// The tree hash of a range that is a node of the archive's tree.
fn hash_of(dir: &Path, archive: &archive::Archive, range: Range) -> Answer<Hash> {
    if range.size() == archive.size {
        return Ok(archive.treehash);
    }
    part::tree_hash(dir, archive.part_size, range).map_err(broken("archive"))
}

/// The job of this id; one whose time is over is gone.
fn find(turn: &Turn, vault: &Vault, id: &str) -> Answer<Job> {
    let job = if is_id(id, SHORT_ID) {
        disk::read_json::<Job>(&file(vault, id, "json")).map_err(broken("job"))?
    } else {
        None
    };
    job.filter(|job| turn.now < job.ready + KEPT)
        .ok_or_else(|| Refusal::not_found(format!("The job ID was not found: {id}")))
}

/// The jobs that a call is about: the one it names, or all of its vault.
fn meant(turn: &Turn, vault: &Vault, id: &str) -> Answer<Vec<Job>> {
    let mut jobs = all(turn, vault)?;
    jobs.retain(|job| id.is_empty() || job.id == id);
    Ok(jobs)
}

/// Has jobs fail, now.
pub fn fail(turn: &Turn, asked: &Asked, id: &str) -> Answer<()> {
    let vault = inventory::vault(turn, &asked.route.vault)?;
    for mut job in meant(turn, &vault, id)? {
        job.failed = Some("The job failed".to_owned());
        job.ready = job.ready.min(turn.now);
        disk::write_json(&file(&vault, &job.id, "json"), &job).map_err(broken("job"))?;
    }
    Ok(())
}

/// Has jobs and their output vanish, as if their day were over.
pub fn expire(turn: &Turn, asked: &Asked, id: &str) -> Answer<()> {
    let vault = inventory::vault(turn, &asked.route.vault)?;
    for job in meant(turn, &vault, id)? {
        disk::remove(&file(&vault, &job.id, "json"))
            .and_then(|()| disk::remove(&file(&vault, &job.id, "out")))
            .map_err(broken("job"))?;
    }
    Ok(())
}

/// `DescribeJob`.
pub fn describe(turn: &Turn, asked: &Asked) -> Answer {
    let vault = inventory::vault(turn, &asked.route.vault)?;
    let job = find(turn, &vault, &asked.route.id)?;
    Ok(Reply::json(job.describe(&vault, turn.now)))
}

/// `ListJobs`, oldest first. A marker is the id of the page's first job.
pub fn list(turn: &Turn, asked: &Asked) -> Answer {
    let vault = inventory::vault(turn, &asked.route.vault)?;
    let page = asked.page()?;
    let completed = match asked.asked("completed") {
        None | Some("") => None,
        Some("true") => Some(true),
        Some("false") => Some(false),
        Some(other) => return Err(Refusal::invalid(format!("Invalid completed: {other}"))),
    };
    let status = match asked.asked("statuscode") {
        None | Some("") => None,
        Some(known @ ("InProgress" | "Succeeded" | "Failed")) => Some(known),
        Some(other) => return Err(Refusal::invalid(format!("Invalid statuscode: {other}"))),
    };
    let mut jobs = all(turn, &vault)?;
    if let Some(marker) = page.marker {
        let from = jobs
            .iter()
            .position(|job| job.id == marker)
            .ok_or_else(|| Refusal::invalid(format!("Invalid marker: {marker}")))?;
        jobs.drain(..from);
    }
    jobs.retain(|job| {
        completed.is_none_or(|completed| completed == job.is_ready(turn.now))
            && status.is_none_or(|status| status == job.status(turn.now))
    });
    let (jobs, marker) = cut(jobs, page.limit, |job| job.id.clone());
    let jobs: Vec<Value> = jobs.iter().map(|job| job.describe(&vault, turn.now)).collect();
    Ok(Reply::json(json!({ "JobList": jobs, "Marker": marker })))
}

/// `GetJobOutput`.
pub fn output(turn: &Turn, asked: &Asked) -> Answer {
    let vault = inventory::vault(turn, &asked.route.vault)?;
    let job = find(turn, &vault, &asked.route.id)?;
    if job.status(turn.now) != "Succeeded" {
        return Err(Refusal::invalid(format!(
            "The job is not currently available for download: {}",
            job.id
        )));
    }
    let size = match &job.work {
        Work::Archive(retrieval) => retrieval.range().size(),
        Work::Inventory(listing) => listing.size,
    };
    let whole = Range { start: 0, end: size.saturating_sub(1) };
    let (range, mut reply) = match asked.header("range")? {
        None => (whole, Reply::empty(200)),
        Some(text) => {
            let range = Range::of_download(text, size)
                .ok_or_else(|| Refusal::invalid(format!("Invalid range: {text}")))?;
            let total = format!("bytes {}-{}/{size}", range.start, range.end);
            (range, Reply::empty(206).with("Content-Range", total))
        }
    };
    reply = reply.with("Accept-Ranges", "bytes");
    match job.work {
        Work::Inventory(listing) => {
            let content =
                if listing.format == Format::Json { "application/json" } else { "text/csv" };
            let output = fs::File::open(file(&vault, &job.id, "out"));
            let source = Source::File(output.map_err(broken("job"))?);
            reply = reply.with("Content-Type", content);
            reply.body = Body::Stored(Stored { source, start: range.start, size: range.size() });
        }
        Work::Archive(Retrieval { archive, start, .. }) => {
            let dirs = ["archives", "retained"].map(|it| vault.dir.join(it).join(&archive.id));
            let dir = dirs.iter().find(|dir| dir.exists());
            let dir = dir.ok_or_else(|| Refusal::broken("archive", "its directory is gone"))?;
            let range = Range { start: start + range.start, end: start + range.end };
            reply = reply.with("Content-Type", "application/octet-stream");
            if !archive.description.is_empty() {
                reply = reply.with("x-amz-archive-description", &*archive.description);
            }
            if is_node(range, archive.size) {
                let hash = hash_of(dir, &archive, range)?;
                reply = reply.with("x-amz-sha256-tree-hash", hash.to_string());
            }
            let kept = turn.keep(&archive.id);
            let source = Source::Parts { dirs, part_size: archive.part_size, kept };
            reply.body = Body::Stored(Stored { source, start: range.start, size: range.size() });
        }
    }
    Ok(reply)
}
