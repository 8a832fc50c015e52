//! Vaults and their tags.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::tools::local::clock::stamp;
use crate::tools::local::glacier::inventory;
use crate::tools::local::reply::{Answer, Refusal, Reply};
use crate::tools::local::request::{Asked, cut};
use crate::tools::local::store::{ACCOUNT, Turn, Vault};

/// Most vaults of a region.
const VAULTS: usize = 1000;
/// Most tags of a vault.
const TAGS: usize = 50;

/// `CreateVault`.
pub fn create(turn: &Turn, asked: &Asked) -> Answer {
    let name = &asked.route.vault;
    if inventory::find(turn, name)?.is_none() {
        if turn.vault_names()?.len() >= VAULTS {
            return Err(Refusal::limit(format!("A region holds at most {VAULTS} vaults")));
        }
        turn.create(name)?;
    }
    Ok(Reply::empty(201).with("Location", format!("/{ACCOUNT}/vaults/{name}")))
}

/// `DescribeVault`.
pub fn describe(turn: &Turn, asked: &Asked) -> Answer {
    Ok(Reply::json(entry(&inventory::vault(turn, &asked.route.vault)?)))
}

fn entry(vault: &Vault) -> Value {
    let inventory = vault.record.inventory.as_ref();
    json!({
        "CreationDate": stamp(vault.record.created),
        "LastInventoryDate": inventory.map(|inventory| stamp(inventory.date)),
        "NumberOfArchives": inventory.map_or(0, |inventory| inventory.archives),
        "SizeInBytes": inventory.map_or(0, |inventory| inventory.bytes),
        "VaultARN": vault.arn,
        "VaultName": vault.name,
    })
}

/// `ListVaults`. A marker is the ARN of the first vault of the page.
pub fn list(turn: &Turn, asked: &Asked) -> Answer {
    let page = asked.page()?;
    let names = turn.vault_names()?;
    let from = match page.marker {
        None => names,
        Some(marker) => {
            let from = marker
                .strip_prefix(&turn.arn(""))
                .ok_or_else(|| Refusal::invalid(format!("Invalid marker: {marker}")))?;
            names.into_iter().filter(|name| name.as_str() >= from).collect()
        }
    };
    let (names, marker) = cut(from, page.limit, |name| turn.arn(name));
    let vaults = names
        .iter()
        .map(|name| inventory::vault(turn, name).map(|vault| entry(&vault)))
        .collect::<Answer<Vec<Value>>>()?;
    Ok(Reply::json(json!({ "Marker": marker, "VaultList": vaults })))
}

/// `DeleteVault`: only if it was empty at the last inventory and was not
/// written to since. Deleting what is not there succeeds.
pub fn delete(turn: &Turn, asked: &Asked) -> Answer {
    let Some(vault) = inventory::find(turn, &asked.route.vault)? else {
        return Ok(Reply::empty(204));
    };
    let record = &vault.record;
    let held = record.inventory.as_ref().is_some_and(|inventory| inventory.archives > 0);
    let date = record.inventory.as_ref().map(|inventory| inventory.date);
    if held || record.written.is_some_and(|written| date.is_none_or(|date| written > date)) {
        return Err(Refusal::invalid(format!(
            "Vault not empty or recently written to: {}",
            vault.arn
        )));
    }
    turn.discard(&vault.dir)?;
    Ok(Reply::empty(204))
}

/// `ListTagsForVault`.
pub fn tags(turn: &Turn, asked: &Asked) -> Answer {
    Ok(Reply::json(json!({ "Tags": inventory::vault(turn, &asked.route.vault)?.record.tags })))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Added {
    #[serde(default)]
    tags: BTreeMap<String, String>,
}

/// `AddTagsToVault`.
pub fn add_tags(turn: &Turn, asked: &Asked) -> Answer {
    let mut vault = inventory::vault(turn, &asked.route.vault)?;
    let added: Added = asked.json()?;
    if added.tags.is_empty() {
        return Err(Refusal::missing("Tags"));
    }
    for (key, value) in &added.tags {
        if !(1..=128).contains(&key.chars().count()) || value.chars().count() > 255 {
            return Err(Refusal::invalid(
                "Invalid tag: a key has 1 to 128 characters and a value at most 255",
            ));
        }
    }
    vault.record.tags.extend(added.tags);
    if vault.record.tags.len() > TAGS {
        return Err(Refusal::limit(format!("A vault has at most {TAGS} tags")));
    }
    vault.save()?;
    Ok(Reply::empty(204))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Removed {
    #[serde(default)]
    tag_keys: Vec<String>,
}

/// `RemoveTagsFromVault`.
pub fn remove_tags(turn: &Turn, asked: &Asked) -> Answer {
    let mut vault = inventory::vault(turn, &asked.route.vault)?;
    let removed: Removed = asked.json()?;
    vault.record.tags.retain(|key, _| !removed.tag_keys.contains(key));
    vault.save()?;
    Ok(Reply::empty(204))
}
