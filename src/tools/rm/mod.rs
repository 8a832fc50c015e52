//! glacier-rm(1): delete archives, abort uploads, and drop spooled streams.
//!
//! All input is read and checked before anything goes: `input` reads it,
//! `known` asks the catalog, `plan` decides and touches nothing, `work` does
//! it. An archive that is gone is written into the catalog before anything
//! else is believed: running the same command again goes on.

mod input;
pub(crate) mod known;
mod plan;
mod vault;
mod work;

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::line::{Line, StreamId};
use crate::process;
use crate::spool::Spool;
use crate::spool::catalog_file::Catalog;
use crate::spool::underway;
use crate::storage::retry::Patience;
use crate::storage::{Failure, Listings, Places, Uploads};
use crate::tools::receipts::Told;
use crate::units;
use input::Asked;
use known::Known;
use plan::{Here, Plan};
use vault::Said;
use work::Worker;

/// What the command line says.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The spool directory.
    pub spool: PathBuf,
    /// The catalog file.
    pub catalog: PathBuf,
    /// Do it.
    pub yes: bool,
    /// Though something is not restorable any more then.
    pub break_chain: bool,
    /// Requests at a time, at most.
    pub concurrency: usize,
    /// From the first failure in a row to giving up.
    pub patience: Duration,
}

/// What would go, of one stream or vault.
#[derive(Default, Serialize)]
#[serde(tag = "type", rename = "doomed")]
struct Doomed<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<StreamId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dest: Option<&'a str>,
    #[serde(skip_serializing_if = "is_zero")]
    archives: u64,
    #[serde(skip_serializing_if = "is_zero")]
    uploads: u64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    spooled: bool,
    #[serde(skip_serializing_if = "is_zero")]
    size: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

const DRY: &str = "nothing is deleted without --yes";

/// The spool, if it is there.
fn spool(settings: &Settings) -> Result<Option<Spool>> {
    settings.spool.exists().then(|| Spool::open(&settings.spool)).transpose()
}

/// The catalog, if it is there.
fn catalog(settings: &Settings) -> Result<Option<Catalog>> {
    settings.catalog.exists().then(|| Catalog::open(&settings.catalog)).transpose()
}

/// Deletes what the lines on standard input name, or says what would go.
///
/// # Errors
/// When something must stay, or did not go.
pub async fn run<V: Uploads + Listings + Places>(vault: &V, settings: &Settings) -> Result<()> {
    let asked = Asked::read(io::stdin().lock())?;
    asked.warnings().iter().for_each(|warning| process::warn(warning));
    if asked.is_empty() {
        return Ok(());
    }
    let spool = spool(settings)?;
    // Nobody counts on what goes meanwhile without seeing it go.  Held by
    // tests/rm/bases.rs::put_tells_of_a_base_that_went_meanwhile.
    let deletes = settings.yes && !asked.archives.is_empty();
    let alone = spool.as_ref().filter(|_| deletes).map(|spool| spool.lock_bases(true));
    let _alone = alone.transpose()?;
    let mut journals = HashMap::new();
    if let Some(spool) = &spool {
        for directory in spool.streams()? {
            journals.extend(work::journal(&directory)?.map(|journal| (directory.id(), journal)));
        }
    }
    let mut catalog = if asked.archives.is_empty() { None } else { catalog(settings)? };
    let here = Here { dest: vault.dest().to_string(), region: vault.region().to_owned() };
    let known = match &catalog {
        None => None,
        Some(catalog) => {
            let wanted: HashSet<StreamId> = asked.archives.iter().map(|it| it.stream).collect();
            // The spool is read first: what it calls stored is in the catalog
            // by then, unless that has lost it.
            let look = |spool| Ok::<_, Error>((spool, underway::all(spool)?, Told::read(spool)?));
            let spooled = spool.as_ref().map(look).transpose()?;
            let mut known = Known::read(|| catalog.reader(), &wanted)?;
            if let Some((spool, underway, told)) = spooled {
                known.expect(&underway);
                let mut lost = told.lost(spool, || catalog.reader())?;
                lost.retain(|receipt| receipt.stored.dest == here.dest);
                known.lost = lost;
            }
            Some(known)
        }
    };
    if let Some(warning) = known.as_ref().and_then(|known| known.warning.as_ref()) {
        process::warn(warning);
    }
    let plan = plan::decide(asked, known, &journals, &here, settings.break_chain)?;
    plan.warnings.iter().for_each(|warning| process::warn(warning));
    if !settings.yes {
        return foretell(&plan, spool.as_ref(), &here);
    }
    if catalog.is_none() && !plan.groups.is_empty() {
        catalog = Some(Catalog::open(&settings.catalog)?);
    }
    let patience = Patience { limit: settings.patience };
    Worker::new(vault, spool.as_ref(), catalog, patience, settings.concurrency).run(&plan).await
}

/// Prints what would go.
fn foretell(plan: &Plan, spool: Option<&Spool>, here: &Here) -> Result<()> {
    let dest = Some(here.dest.as_str());
    let (mut archives, mut uploads, mut size) = (0, 0, 0);
    let mut tell = |doomed: &Doomed| -> Result<()> {
        archives += doomed.archives;
        uploads += doomed.uploads;
        size += doomed.size;
        process::print_line(doomed)
    };
    for stream in &plan.drops {
        let directory = match spool {
            Some(spool) => spool.existing(stream.stream)?,
            None => None,
        };
        let Some(directory) = directory else { continue };
        let uploads = work::journal(&directory)?.map_or(0, |journal| journal.uploads.len());
        tell(&Doomed {
            stream: Some(stream.stream),
            name: Some(&stream.name),
            dest: dest.filter(|_| uploads > 0),
            uploads: uploads as u64,
            spooled: true,
            size: directory.used(|_| true)?,
            ..Doomed::default()
        })?;
    }
    for upload in &plan.uploads {
        tell(&Doomed {
            stream: upload.of.stream,
            name: upload.of.name.as_deref(),
            dest,
            uploads: 1,
            size: upload.size,
            ..Doomed::default()
        })?;
    }
    for group in &plan.groups {
        let all = || group.volumes.iter().chain(&group.manifests);
        tell(&Doomed {
            stream: Some(group.stream),
            name: Some(&group.name),
            dest,
            archives: all().count() as u64,
            size: all().filter_map(|wanted| wanted.size).sum(),
            ..Doomed::default()
        })?;
    }
    process::warn(&format!(
        "{archives} archives and {uploads} uploads, {}: {DRY}",
        units::bytes(size)
    ));
    Ok(())
}

/// Deletes the vault itself.
///
/// # Errors
/// When it is not there, or the service does not believe that it is empty.
pub async fn delete_vault<V: Places>(vault: &V, settings: &Settings) -> Result<()> {
    let patience = Patience { limit: settings.patience };
    let dest = vault.dest().to_string();
    let described = patience.with(async || vault.describe().await).await;
    let described = described.map_err(|failure| failure.on(&dest))?.value;
    let said =
        Said { inventory: described.inventory, archives: described.archives, size: described.size };
    if !settings.yes {
        process::print_line(&Doomed {
            dest: Some(&dest),
            archives: said.archives,
            size: said.size,
            ..Doomed::default()
        })?;
        process::warn(&format!("{dest}: {DRY}"));
        return Ok(());
    }
    match patience.with(async || vault.remove().await).await {
        // An earlier attempt did it, and its answer was lost.
        Ok(_) | Err(Failure::Missing(_)) => work::print_vault(vault),
        Err(Failure::Invalid(_)) => Err(vault::verdict(&dest, said, told(settings, &dest)?)),
        Err(failure) => Err(failure.on(&dest)),
    }
}

/// What the catalog says of the vault.
fn told(settings: &Settings, dest: &str) -> Result<vault::Told> {
    let (mut there, mut gone, mut deleted) = (HashSet::new(), HashSet::new(), None);
    if let Some(catalog) = catalog(settings)? {
        catalog.scan(dest, |text| match Line::parse(text) {
            Ok(Some(Line::Archive(line))) if line.dest == dest => {
                there.insert(line.archive_id);
            }
            Ok(Some(Line::Stored(line))) if line.dest == dest => there.extend(line.manifest_id),
            Ok(Some(Line::Deleted(line))) if line.dest.as_deref() == Some(dest) => {
                deleted = deleted.max(Some(line.deleted));
                gone.extend(line.archive_id);
            }
            _ => {}
        })?;
    }
    Ok(vault::Told { archives: there.difference(&gone).count() as u64, deleted })
}
