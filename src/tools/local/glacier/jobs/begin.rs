//! How jobs are begun.

use serde::Deserialize;

use super::{Job, Listing, Retrieval, Tier, Work, all, file, hash_of};
use crate::tools::local::clock::{HOUR, Millis, read_stamp};
use crate::tools::local::disk;
use crate::tools::local::glacier::archive;
use crate::tools::local::glacier::inventory::{self, Filter, Format};
use crate::tools::local::glacier::policies;
use crate::tools::local::range::{Range, is_node, is_whole_mib, number};
use crate::tools::local::reply::{Answer, Refusal, Reply, broken};
use crate::tools::local::request::{Asked, check_description};
use crate::tools::local::store::{ACCOUNT, SHORT_ID, Turn, Vault, new_id};

/// How long an inventory job takes.
const INVENTORY: Millis = 4 * HOUR;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Wanted {
    r#type: Option<String>,
    archive_id: Option<String>,
    description: Option<String>,
    #[serde(rename = "SNSTopic")]
    sns_topic: Option<String>,
    tier: Option<String>,
    retrieval_byte_range: Option<String>,
    format: Option<String>,
    inventory_retrieval_parameters: Option<WantedInventory>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WantedInventory {
    start_date: Option<String>,
    end_date: Option<String>,
    limit: Option<String>,
    marker: Option<String>,
}

/// `InitiateJob`.
pub fn initiate(turn: &Turn, asked: &Asked) -> Answer {
    let vault = inventory::vault(turn, &asked.route.vault)?;
    let wanted: Wanted = asked.json()?;
    if let Some(text) = &wanted.description {
        check_description(text)?;
    }
    let id = new_id(SHORT_ID)?;
    let (work, takes) = match wanted.r#type.as_deref() {
        Some("archive-retrieval") => {
            let retrieval = retrieval(turn, &vault, &wanted)?;
            let takes = retrieval.tier.takes();
            (Work::Archive(retrieval), takes)
        }
        Some("inventory-retrieval") => (Work::Inventory(listing(&vault, &wanted, &id)?), INVENTORY),
        Some(other) => {
            return Err(Refusal::invalid(format!(
                "Invalid job type: {other}; it is archive-retrieval or inventory-retrieval"
            )));
        }
        None => return Err(Refusal::missing("Type")),
    };
    let job = Job {
        id: id.clone(),
        description: wanted.description,
        sns_topic: wanted.sns_topic,
        created: turn.now,
        ready: turn.now + takes,
        failed: None,
        work,
    };
    disk::write_json(&file(&vault, &id, "json"), &job).map_err(broken("job"))?;
    Ok(Reply::empty(202)
        .with("Location", format!("/{ACCOUNT}/vaults/{}/jobs/{id}", vault.name))
        .with("x-amz-job-id", id))
}

fn retrieval(turn: &Turn, vault: &Vault, wanted: &Wanted) -> Answer<Retrieval> {
    let id = wanted.archive_id.as_deref().ok_or_else(|| Refusal::missing("ArchiveId"))?;
    if wanted.format.is_some() || wanted.inventory_retrieval_parameters.is_some() {
        return Err(Refusal::invalid(
            "Format and InventoryRetrievalParameters are for inventories",
        ));
    }
    let tier = wanted.tier.as_deref().map_or(Ok(Tier::Standard), Tier::read)?;
    let archive = archive::find(vault, id)?
        .ok_or_else(|| Refusal::not_found(format!("The archive ID was not found: {id}")))?;
    let range = match wanted.retrieval_byte_range.as_deref() {
        None => Range { start: 0, end: archive.size.saturating_sub(1) },
        Some(text) => Range::read(text)
            .filter(|range| is_whole_mib(*range, archive.size))
            .ok_or_else(|| {
                Refusal::invalid(format!(
                    "Invalid RetrievalByteRange: {text}; it begins at a multiple of 1048576, and \
                     ends before one or with the archive of {} bytes",
                    archive.size
                ))
            })?,
    };
    if tier == Tier::Standard
        && let Some(limit) = policies::bytes_per_hour(turn)?
        && recent(turn)?.saturating_add(range.size()) > limit
    {
        return Err(Refusal::new(
            400,
            "PolicyEnforcedException",
            "InitiateJob request denied by current data retrieval policy.",
        ));
    }
    let treehash = if is_node(range, archive.size) {
        let dir = vault.dir.join("archives").join(id);
        Some(hash_of(&dir, &archive, range)?)
    } else {
        None
    };
    Ok(Retrieval { archive, tier, start: range.start, end: range.end, treehash })
}

/// Bytes that Standard jobs of the region were begun for in the last hour.
fn recent(turn: &Turn) -> Answer<u64> {
    let mut bytes = 0u64;
    for name in turn.vault_names()? {
        for job in all(turn, &inventory::vault(turn, &name)?)? {
            if let Work::Archive(retrieval) = &job.work
                && retrieval.tier == Tier::Standard
                && job.created + HOUR > turn.now
            {
                bytes = bytes.saturating_add(retrieval.range().size());
            }
        }
    }
    Ok(bytes)
}

fn listing(vault: &Vault, wanted: &Wanted, id: &str) -> Answer<Listing> {
    if wanted.archive_id.is_some() || wanted.retrieval_byte_range.is_some() {
        return Err(Refusal::invalid(
            "ArchiveId and RetrievalByteRange are for archive retrievals",
        ));
    }
    let format = match wanted.format.as_deref() {
        None | Some("JSON") => Format::Json,
        Some("CSV") => Format::Csv,
        Some(other) => {
            return Err(Refusal::invalid(format!("Invalid format: {other}; it is JSON or CSV")));
        }
    };
    let none = WantedInventory::default();
    let asked = wanted.inventory_retrieval_parameters.as_ref().unwrap_or(&none);
    let date = |text: &Option<String>| -> Answer<Option<Millis>> {
        text.as_deref()
            .map(|text| {
                read_stamp(text).ok_or_else(|| Refusal::invalid(format!("Invalid date: {text}")))
            })
            .transpose()
    };
    let limit = asked.limit.as_deref().map(|text| {
        number(text)
            .filter(|limit| *limit > 0)
            .ok_or_else(|| Refusal::invalid(format!("Invalid inventory limit: {text}")))
    });
    let filter = Filter {
        start: date(&asked.start_date)?,
        end: date(&asked.end_date)?,
        limit: limit.transpose()?,
        marker: asked.marker.clone(),
    };
    let Some(summary) = &vault.record.inventory else {
        return Err(Refusal::not_found(format!(
            "Vault inventory is not available yet for: {}",
            vault.arn
        )));
    };
    let out = file(vault, id, "out");
    let next =
        inventory::render(vault, summary, &filter, format, &out).map_err(broken("inventory"))?;
    let size = out.metadata().map_err(broken("inventory"))?.len();
    Ok(Listing { format, filter, next, size })
}
