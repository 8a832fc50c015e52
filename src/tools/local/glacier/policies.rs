//! Policies, locks, notifications and provisioned capacity: stored and given
//! back. Of all of them only the data-retrieval policy is obeyed.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::tools::local::clock::{DAY, Millis, stamp};
use crate::tools::local::disk;
use crate::tools::local::glacier::inventory;
use crate::tools::local::reply::{Answer, Refusal, Reply, broken};
use crate::tools::local::request::Asked;
use crate::tools::local::store::{Lock, SHORT_ID, Turn, Vault, new_id};

/// Most bytes of a policy.
const POLICY: usize = 20 * 1024;
/// How long a unit of provisioned capacity lasts.
const MONTH: Millis = 30 * DAY;
/// Most units of provisioned capacity.
const UNITS: usize = 2;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Policy {
    policy: Option<String>,
}

fn policy(asked: &Asked) -> Answer<String> {
    let policy: Policy =
        if asked.body.is_empty() { Policy { policy: None } } else { asked.json()? };
    let text = policy.policy.ok_or_else(|| Refusal::missing("Policy"))?;
    if text.len() > POLICY || serde_json::from_str::<Value>(&text).is_err() {
        return Err(Refusal::invalid(format!(
            "Invalid policy: it is JSON of at most {POLICY} bytes"
        )));
    }
    Ok(text)
}

/// `SetVaultAccessPolicy`.
pub fn set_access(turn: &Turn, asked: &Asked) -> Answer {
    let mut vault = inventory::vault(turn, &asked.route.vault)?;
    vault.record.access_policy = Some(policy(asked)?);
    vault.save()?;
    Ok(Reply::empty(204))
}

/// `GetVaultAccessPolicy`.
pub fn access(turn: &Turn, asked: &Asked) -> Answer {
    let vault = inventory::vault(turn, &asked.route.vault)?;
    match vault.record.access_policy {
        Some(policy) => Ok(Reply::json(json!({ "Policy": policy }))),
        None => {
            Err(Refusal::not_found(format!("No vault access policy is set for: {}", vault.arn)))
        }
    }
}

/// `DeleteVaultAccessPolicy`.
pub fn delete_access(turn: &Turn, asked: &Asked) -> Answer {
    let mut vault = inventory::vault(turn, &asked.route.vault)?;
    vault.record.access_policy = None;
    vault.save()?;
    Ok(Reply::empty(204))
}

/// The vault's lock; one that was not completed within a day is gone.
fn lock(vault: &Vault, now: Millis) -> Option<Lock> {
    vault.record.lock.clone().filter(|lock| lock.locked || now < lock.created + DAY)
}

/// `InitiateVaultLock`.
pub fn begin_lock(turn: &Turn, asked: &Asked) -> Answer {
    let mut vault = inventory::vault(turn, &asked.route.vault)?;
    if lock(&vault, turn.now).is_some() {
        return Err(Refusal::denied(format!("The vault is locked or being locked: {}", vault.arn)));
    }
    let id = new_id(SHORT_ID)?;
    vault.record.lock =
        Some(Lock { id: id.clone(), policy: policy(asked)?, created: turn.now, locked: false });
    vault.save()?;
    Ok(Reply::empty(201).with("x-amz-lock-id", id))
}

/// `CompleteVaultLock`: the policy stands for ever.
pub fn complete_lock(turn: &Turn, asked: &Asked) -> Answer {
    let mut vault = inventory::vault(turn, &asked.route.vault)?;
    let Some(mut lock) = lock(&vault, turn.now) else {
        return Err(Refusal::not_found(format!("No vault lock is in progress for: {}", vault.arn)));
    };
    if lock.id != asked.route.id {
        return Err(if lock.locked {
            Refusal::denied(format!("The vault is locked: {}", vault.arn))
        } else {
            Refusal::invalid("Invalid lock ID")
        });
    }
    lock.locked = true;
    vault.record.lock = Some(lock);
    vault.save()?;
    Ok(Reply::empty(204))
}

/// `GetVaultLock`.
pub fn get_lock(turn: &Turn, asked: &Asked) -> Answer {
    let vault = inventory::vault(turn, &asked.route.vault)?;
    let Some(lock) = lock(&vault, turn.now) else {
        return Err(Refusal::not_found(format!("No vault lock policy is set for: {}", vault.arn)));
    };
    Ok(Reply::json(json!({
        "Policy": lock.policy,
        "State": if lock.locked { "Locked" } else { "InProgress" },
        "ExpirationDate": (!lock.locked).then(|| stamp(lock.created + DAY)),
        "CreationDate": stamp(lock.created),
    })))
}

/// `AbortVaultLock`.
pub fn abort_lock(turn: &Turn, asked: &Asked) -> Answer {
    let mut vault = inventory::vault(turn, &asked.route.vault)?;
    if vault.record.lock.take().is_some_and(|lock| lock.locked) {
        return Err(Refusal::denied(format!("The vault is locked: {}", vault.arn)));
    }
    vault.save()?;
    Ok(Reply::empty(204))
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Notifications {
    #[serde(rename = "SNSTopic")]
    sns_topic: String,
    events: Vec<String>,
}

/// `SetVaultNotifications`.
pub fn set_notifications(turn: &Turn, asked: &Asked) -> Answer {
    let mut vault = inventory::vault(turn, &asked.route.vault)?;
    let wanted: Notifications = asked.json()?;
    let known = ["ArchiveRetrievalCompleted", "InventoryRetrievalCompleted"];
    if let Some(event) = wanted.events.iter().find(|event| !known.contains(&event.as_str())) {
        return Err(Refusal::invalid(format!("Invalid notification event: {event}")));
    }
    vault.record.notifications = Some(json!(wanted));
    vault.save()?;
    Ok(Reply::empty(204))
}

/// `GetVaultNotifications`.
pub fn notifications(turn: &Turn, asked: &Asked) -> Answer {
    let vault = inventory::vault(turn, &asked.route.vault)?;
    vault.record.notifications.map(Reply::json).ok_or_else(|| {
        Refusal::not_found(format!("No notification configuration is set for vault: {}", vault.arn))
    })
}

/// `DeleteVaultNotifications`.
pub fn delete_notifications(turn: &Turn, asked: &Asked) -> Answer {
    let mut vault = inventory::vault(turn, &asked.route.vault)?;
    vault.record.notifications = None;
    vault.save()?;
    Ok(Reply::empty(204))
}

/// What a region knows beside its vaults; `account.json`.
#[derive(Default, Serialize, Deserialize)]
struct Account {
    retrieval: Option<Retrieval>,
    #[serde(default)]
    capacity: Vec<Unit>,
}

#[derive(Serialize, Deserialize)]
struct Unit {
    id: String,
    start: Millis,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Retrieval {
    rules: Vec<Rule>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Rule {
    strategy: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bytes_per_hour: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SetRetrieval {
    policy: Option<Retrieval>,
}

fn account(turn: &Turn) -> Answer<(PathBuf, Account)> {
    let file = turn.dir.join("account.json");
    let account = disk::read_json(&file).map_err(broken("account.json"))?.unwrap_or_default();
    Ok((file, account))
}

fn save(turn: &Turn, file: &std::path::Path, account: &Account) -> Answer<()> {
    std::fs::create_dir_all(&turn.dir)
        .and_then(|()| disk::write_json(file, account))
        .map_err(broken("account.json"))
}

/// `GetDataRetrievalPolicy`.
pub fn retrieval(turn: &Turn) -> Answer {
    let rules = account(turn)?
        .1
        .retrieval
        .map_or_else(|| json!([{ "Strategy": "None" }]), |retrieval| json!(retrieval.rules));
    Ok(Reply::json(json!({ "Policy": { "Rules": rules } })))
}

/// `SetDataRetrievalPolicy`.
pub fn set_retrieval(turn: &Turn, asked: &Asked) -> Answer {
    let wanted: SetRetrieval = asked.json()?;
    let wanted = wanted.policy.ok_or_else(|| Refusal::missing("Policy"))?;
    let [rule] = wanted.rules.as_slice() else {
        return Err(Refusal::invalid("Invalid policy: it has exactly one rule"));
    };
    match (rule.strategy.as_str(), rule.bytes_per_hour) {
        ("BytesPerHour", Some(1..)) | ("FreeTier" | "None", None) => {}
        _ => {
            return Err(Refusal::invalid(
                "Invalid rule: its strategy is BytesPerHour with a BytesPerHour, FreeTier or None",
            ));
        }
    }
    let (file, mut account) = account(turn)?;
    account.retrieval = Some(wanted);
    save(turn, &file, &account)?;
    Ok(Reply::empty(204))
}

/// Bytes that Standard jobs may retrieve in an hour, if there is a limit.
pub fn bytes_per_hour(turn: &Turn) -> Answer<Option<u64>> {
    let retrieval = account(turn)?.1.retrieval;
    Ok(retrieval.and_then(|policy| policy.rules.first().and_then(|rule| rule.bytes_per_hour)))
}

/// `ListProvisionedCapacity`.
pub fn capacity(turn: &Turn) -> Answer {
    let units: Vec<Value> = account(turn)?
        .1
        .capacity
        .iter()
        .filter(|unit| turn.now < unit.start + MONTH)
        .map(|unit| {
            json!({
                "CapacityId": unit.id,
                "StartDate": stamp(unit.start),
                "ExpirationDate": stamp(unit.start + MONTH),
            })
        })
        .collect();
    Ok(Reply::json(json!({ "ProvisionedCapacityList": units })))
}

/// `PurchaseProvisionedCapacity`.
pub fn buy_capacity(turn: &Turn) -> Answer {
    let (file, mut account) = account(turn)?;
    account.capacity.retain(|unit| turn.now < unit.start + MONTH);
    if account.capacity.len() >= UNITS {
        return Err(Refusal::limit(format!("An account has at most {UNITS} units of capacity")));
    }
    let id = new_id(22)?;
    account.capacity.push(Unit { id: id.clone(), start: turn.now });
    save(turn, &file, &account)?;
    Ok(Reply::empty(201).with("x-amz-capacity-id", id))
}
