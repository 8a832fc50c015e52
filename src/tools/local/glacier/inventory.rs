//! Inventories: a list of a vault's archives, made a day after the first
//! change that the last list does not have.
//!
//! So there is at most one a day, none while nothing changes, the first one
//! comes a day after the vault, and an archive just uploaded is in none. They
//! are made when the vault is next looked at, and show the archives of the
//! time they were due: whoever changes a vault looks at it first.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::tools::local::clock::{DAY, Millis, stamp_seconds};
use crate::tools::local::disk;
use crate::tools::local::glacier::archive::{self, Archive};
use crate::tools::local::reply::{Answer, Refusal, broken};
use crate::tools::local::store::{Summary, Turn, Vault};

/// The vault of this name, with its inventory as old as it should be.
pub fn vault(turn: &Turn, name: &str) -> Answer<Vault> {
    find(turn, name)?
        .ok_or_else(|| Refusal::not_found(format!("Vault not found for ARN: {}", turn.arn(name))))
}

/// The same, if there is one.
pub fn find(turn: &Turn, name: &str) -> Answer<Option<Vault>> {
    let mut vault = turn.find(name)?;
    if let Some(vault) = &mut vault {
        refresh(vault, turn.now)?;
    }
    Ok(vault)
}

/// Makes the inventory that is due, if one is.
fn refresh(vault: &mut Vault, now: Millis) -> Answer<()> {
    let Some(date) = vault.record.changed.map(|changed| changed + DAY).filter(|due| *due <= now)
    else {
        return Ok(());
    };
    let mut summary = Summary { date, archives: 0, bytes: 0 };
    vault.record.changed = list(vault, &mut summary)?;
    vault.record.inventory = Some(summary);
    vault.save()
}

/// Writes down the archives of the summary's date, one a line, and sums them
/// up; gives the time of the first later one.
fn list(vault: &Vault, summary: &mut Summary) -> Answer<Option<Millis>> {
    let mut later: Option<Millis> = None;
    let partial = vault.dir.join("inventory.jsonl~");
    let mut out = BufWriter::new(File::create(&partial).map_err(broken("inventory"))?);
    for id in disk::names(&vault.dir.join("archives")).map_err(broken("archives"))? {
        let Some(archive) = archive::find(vault, &id)? else { continue };
        if archive.created > summary.date {
            later = Some(later.map_or(archive.created, |at| at.min(archive.created)));
            continue;
        }
        summary.archives += 1;
        summary.bytes = summary.bytes.saturating_add(archive.size);
        line(&mut out, &archive).map_err(broken("inventory"))?;
    }
    out.into_inner()
        .map_err(io::IntoInnerError::into_error)
        .and_then(|out| out.sync_all())
        .and_then(|()| fs::rename(&partial, vault.dir.join("inventory.jsonl")))
        .map_err(broken("inventory"))?;
    Ok(later)
}

fn line(out: &mut impl Write, archive: &Archive) -> io::Result<()> {
    serde_json::to_writer(&mut *out, archive)?;
    out.write_all(b"\n")
}

/// JSON or CSV.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Format {
    /// The default.
    Json,
    /// With Amazon's odd escapes.
    Csv,
}

/// What of an inventory is asked for.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Filter {
    /// Archives from this time on.
    pub start: Option<Millis>,
    /// Archives before this time.
    pub end: Option<Millis>,
    /// At most this many.
    pub limit: Option<u64>,
    /// From this archive on.
    pub marker: Option<String>,
}

/// Writes the vault's inventory as a job gives it, line by line; gives the
/// id that the next page begins at.
pub fn render(
    vault: &Vault,
    summary: &Summary,
    filter: &Filter,
    format: Format,
    to: &Path,
) -> io::Result<Option<String>> {
    let mut out = BufWriter::new(File::create(to)?);
    match format {
        Format::Json => write!(
            out,
            "{{\"VaultARN\":{},\"InventoryDate\":\"{}\",\"ArchiveList\":[",
            json!(vault.arn),
            stamp_seconds(summary.date)
        )?,
        Format::Csv => {
            out.write_all(b"ArchiveId,ArchiveDescription,CreationDate,Size,SHA256TreeHash\r\n")?;
        }
    }
    let (mut count, mut next) = (0, None);
    for line in BufReader::new(File::open(vault.dir.join("inventory.jsonl"))?).lines() {
        let archive: Archive = serde_json::from_str(&line?)?;
        if filter.marker.as_ref().is_some_and(|marker| archive.id < *marker)
            || filter.start.is_some_and(|start| archive.created < start)
            || filter.end.is_some_and(|end| archive.created >= end)
        {
            continue;
        }
        if filter.limit.is_some_and(|limit| count >= limit) {
            next = Some(archive.id);
            break;
        }
        match format {
            Format::Json => {
                let comma = if count == 0 { "" } else { "," };
                let entry = json!({
                    "ArchiveId": archive.id,
                    "ArchiveDescription": archive.description,
                    "CreationDate": stamp_seconds(archive.created),
                    "Size": archive.size,
                    "SHA256TreeHash": archive.treehash,
                });
                write!(out, "{comma}{entry}")?;
            }
            Format::Csv => write!(
                out,
                "{},\"{}\",{},{},{}\r\n",
                archive.id,
                // As Amazon does it: the backslash itself is not escaped.
                archive.description.replace('"', "\\\""),
                stamp_seconds(archive.created),
                archive.size,
                archive.treehash
            )?,
        }
        count += 1;
    }
    if format == Format::Json {
        out.write_all(b"]}")?;
    }
    out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    Ok(next)
}
