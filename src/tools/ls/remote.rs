//! What the service lists: vaults, jobs and uploads.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;
use serde::Serialize;

use super::table::{self, Column};
use super::{Printer, what};
use crate::error::Result;
use crate::line::{Id, Line, Stored, StreamId, Upload};
use crate::storage::retry::Patience;
use crate::storage::{
    Dest, Destination, Failure, Job, JobState, Listings, Places, Retrievals, Uploads,
};
use crate::units;

/// The columns of the table of vaults.
pub const VAULTS: &[Column] = &[
    Column::Left("VAULT"),
    Column::Right("ARCHIVES"),
    Column::Right("SIZE"),
    Column::Left("INVENTORY"),
    Column::Right("AGE"),
];

/// The columns of the table of jobs.
pub const JOBS: &[Column] = &[
    Column::Left("CREATED"),
    Column::Left("STATE"),
    Column::Left("TIER"),
    Column::Right("SIZE"),
    Column::Left("WHAT"),
];

/// The columns of the table of uploads.
pub const UPLOADS: &[Column] = &[
    Column::Left("BEGUN"),
    Column::Right("AGE"),
    Column::Right("SIZE"),
    Column::Left("SPOOL"),
    Column::Left("WHAT"),
];

/// A vault, as the service describes it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(tag = "type", rename = "vault")]
struct VaultLine {
    name: String,
    dest: String,
    region: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<Timestamp>,
    archives: u64,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    inventory: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    age_s: Option<u64>,
}

/// Prints the vaults of the account in this region.
///
/// # Errors
/// When the service refuses, or standard output cannot take the lines.
pub async fn vaults<V: Places>(vault: &V, patience: Patience, mut printer: Printer) -> Result<()> {
    let mut vaults = Vec::new();
    let listed = patience.with(async || {
        vaults.clear();
        vault.places(&mut |found| vaults.push(found)).await
    });
    listed.await.map_err(|failure| failure.on("vaults"))?;
    let now = Timestamp::now();
    for found in vaults {
        let dest: Dest = found.name.parse().map_err(|_| {
            let why = format!("\"{}\" is no name of a vault", found.name);
            Failure::Damaged(why).on("vaults")
        })?;
        let line = VaultLine {
            dest: dest.to_string(),
            region: vault.region().to_owned(),
            created: found.created,
            archives: found.archives,
            size: found.size,
            inventory: found.inventory,
            age_s: found.inventory.map(|made| table::age(made, now).as_secs()),
            name: found.name,
        };
        printer.print(&line, || {
            let (made, age) = match line.inventory {
                Some(made) => (table::minute(made), table::old(made, now)),
                None => ("none yet".to_owned(), String::new()),
            };
            let (archives, size) = (line.archives.to_string(), units::bytes(line.size));
            vec![line.name.clone(), archives, size, made, age]
        })?;
    }
    printer.finish()
}

/// What a catalog says of an archive.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Known {
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<StreamId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    volume: Option<u32>,
}

/// What a catalog says of some archives, by their ids.
pub type Names = HashMap<Id, Known>;

/// Takes from a line of a catalog what it says of the archives that have a
/// place in `names`.
pub fn learn(names: &mut Names, line: Line) {
    let (id, stream, name, generation, volume) = match line {
        Line::Archive(it) => (it.archive_id, it.stream, it.name, it.generation, Some(it.volume)),
        Line::Stored(Stored { manifest_id: Some(id), stream, name, generation, .. }) => {
            (id, stream, name, generation, None)
        }
        _ => return,
    };
    if let Some(known) = names.get_mut(&id) {
        let generation = Some(generation).filter(|generation| *generation > 0);
        *known = Known { stream: Some(stream), name: Some(name), generation, volume };
    }
}

/// A job, as the service lists it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(tag = "type", rename = "retrieval")]
struct Retrieval {
    job_id: Id,
    dest: String,
    region: String,
    action: &'static str,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tier: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    completed: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    archive_id: Option<Id>,
    #[serde(skip_serializing_if = "Option::is_none")]
    range_offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    range_size: Option<u64>,
    #[serde(flatten)]
    known: Known,
}

impl Retrieval {
    fn new(job: Job, vault: &impl Destination, names: &Names) -> Self {
        let (state, message) = match job.state {
            JobState::Waiting => ("waiting", None),
            JobState::Ready => ("ready", None),
            JobState::Failed(why) => ("failed", Some(why)),
        };
        let known = job.archive_id.as_ref().and_then(|id| names.get(id));
        Self {
            job_id: job.id,
            dest: vault.dest().to_string(),
            region: vault.region().to_owned(),
            action: if job.archive_id.is_some() { "archive" } else { "inventory" },
            state,
            message,
            tier: job.tier.map(|tier| tier.to_string()),
            created: job.created,
            completed: job.completed,
            size: job.size,
            range_offset: job.range.map(|range| range.offset),
            range_size: job.range.map(|range| range.size),
            known: known.cloned().unwrap_or_default(),
            archive_id: job.archive_id,
        }
    }

    /// What it brings up, in a cell of a table.
    fn what(&self) -> String {
        match (&self.known.name, self.known.volume) {
            (Some(name), Some(volume)) => format!("{name} volume {volume}"),
            (Some(name), None) => format!("{name} manifest"),
            (None, _) if self.action == "inventory" => "inventory".to_owned(),
            (None, _) => "an archive that the catalog does not have".to_owned(),
        }
    }
}

/// The jobs that the service still knows.
///
/// # Errors
/// When the service refuses.
pub async fn jobs<V: Retrievals>(vault: &V, patience: Patience) -> Result<Vec<Job>> {
    let mut jobs = Vec::new();
    let listed = patience.with(async || {
        jobs.clear();
        vault.under_way(&mut |page| jobs.extend(page)).await
    });
    listed.await.map_err(|failure| failure.on(&vault.dest().to_string()))?;
    Ok(jobs)
}

/// Prints jobs, with what `names` knows of their archives.
///
/// # Errors
/// When standard output cannot take the lines.
pub fn print_jobs(
    jobs: Vec<Job>,
    vault: &impl Destination,
    names: &Names,
    mut printer: Printer,
) -> Result<()> {
    for job in jobs {
        let line = Retrieval::new(job, vault, names);
        printer.print(&line, || {
            vec![
                line.created.map(table::minute).unwrap_or_default(),
                line.state.to_owned(),
                line.tier.clone().unwrap_or_default(),
                line.size.map(units::bytes).unwrap_or_default(),
                line.what(),
            ]
        })?;
    }
    printer.finish()
}

/// Prints the unfinished uploads of a vault; `own` are those that the spool
/// of this machine goes on with.
///
/// # Errors
/// When the service refuses, or standard output cannot take the lines.
pub async fn uploads<V: Listings + Uploads>(
    vault: &V,
    patience: Patience,
    own: &BTreeSet<Id>,
    mut printer: Printer,
) -> Result<()> {
    let dest = vault.dest().to_string();
    let mut uploads = Vec::new();
    let listed = patience.with(async || {
        uploads.clear();
        vault.unfinished(&mut |upload| uploads.push(upload)).await
    });
    listed.await.map_err(|failure| failure.on(&dest))?;
    let now = Timestamp::now();
    for upload in uploads {
        let held = patience.with(async || vault.held(&upload.id, upload.part_size).await).await;
        let size = match held {
            Ok(held) => held.value.iter().map(|part| part.size).fold(0, u64::saturating_add),
            // Finished or dropped since it was listed.
            Err(Failure::Missing(_)) => continue,
            Err(failure) => return Err(failure.on(&dest)),
        };
        let line = Upload {
            dest: dest.clone(),
            region: vault.region().to_owned(),
            spooled: own.contains(&upload.id),
            upload_id: upload.id,
            begun: upload.created,
            part_size: upload.part_size,
            size,
            of: upload.of,
        };
        let cells = vec![
            table::minute(line.begun),
            table::old(line.begun, now),
            units::bytes(line.size),
            if line.spooled { "goes on" } else { "-" }.to_owned(),
            what(&line.of),
        ];
        printer.print(&Line::Upload(line), || cells)?;
    }
    printer.finish()
}
