//! Vaults themselves.

use super::{Glacier, promised, time};
use crate::storage::aws::{Dated, ask};
use crate::storage::pages::Pages;
use crate::storage::{Answer, Attempt, Described, Dest, Failure, Places, Reply, Rule, Told};

fn described(
    name: Option<String>,
    created: Option<&str>,
    inventory: Option<&str>,
    (archives, size): (i64, i64),
) -> Attempt<Described> {
    let name = promised(name, "name of a vault")?;
    if !matches!(name.parse(), Ok(Dest::Glacier { vault }) if vault == name) {
        let why = "the service's answer has no good name of a vault";
        return Err(Failure::Damaged(why.to_owned()));
    }
    Ok(Described {
        name,
        created: time(created),
        inventory: time(inventory),
        archives: u64::try_from(archives).unwrap_or(0),
        size: u64::try_from(size).unwrap_or(0),
    })
}

impl Places for Glacier {
    async fn describe(&self) -> Reply<Described> {
        let Answer { at, value } = ask!(self.client.describe_vault().vault_name(&self.vault))?;
        let value = described(
            value.vault_name.clone(),
            value.creation_date(),
            value.last_inventory_date(),
            (value.number_of_archives(), value.size_in_bytes()),
        )?;
        Ok(Answer { at, value })
    }

    async fn create(&self) -> Reply<()> {
        Ok(ask!(self.client.create_vault().vault_name(&self.vault))?.map(drop))
    }

    /// The service refuses while its last inventory is not empty, or older
    /// than the last write (API reference, "Delete Vault").
    async fn remove(&self) -> Reply<()> {
        Ok(ask!(self.client.delete_vault().vault_name(&self.vault))?.map(drop))
    }

    async fn places(&self, each: &mut dyn FnMut(Described)) -> Reply<()> {
        let mut pages = Pages::default();
        loop {
            let Answer { at, value } = ask!(self.client.list_vaults().set_marker(pages.marker()))?;
            for vault in value.vault_list.unwrap_or_default() {
                each(described(
                    vault.vault_name.clone(),
                    vault.creation_date(),
                    vault.last_inventory_date(),
                    (vault.number_of_archives(), vault.size_in_bytes()),
                )?);
            }
            if !pages.turn(value.marker)? {
                return Ok(Answer { at, value: () });
            }
        }
    }

    async fn has_lock(&self) -> Reply<Told<bool>> {
        let told = |is| Dated::default().answer(is);
        match ask!(self.client.get_vault_lock().vault_name(&self.vault)) {
            Ok(answer) => Ok(answer.map(|_| Told::Is(true))),
            Err(Failure::Missing(_)) => Ok(told(Told::Is(false))),
            Err(Failure::Denied(_)) => Ok(told(Told::Denied)),
            Err(failure) => Err(failure),
        }
    }

    /// A vault has none.
    async fn keeps_versions(&self) -> Reply<Told<bool>> {
        Ok(Dated::default().answer(Told::Is(false)))
    }

    /// A vault has none.
    async fn rules(&self) -> Reply<Told<Vec<Rule>>> {
        Ok(Dated::default().answer(Told::Is(Vec::new())))
    }
}
