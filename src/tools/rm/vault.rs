//! A vault as a whole: when the service deletes it, and what to say when it
//! does not.

use std::time::Duration;

use jiff::Timestamp;

use crate::error::Error;
use crate::units;

/// How often the service makes an inventory of a vault that changes.
const INVENTORY: Duration = Duration::from_hours(24);

/// What the catalog says of a vault.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Told {
    /// Archives that were not deleted.
    pub archives: u64,
    /// The last deletion.
    pub deleted: Option<Timestamp>,
}

/// What the service says of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Said {
    /// When its inventory was made.
    pub inventory: Option<Timestamp>,
    /// Archives in that.
    pub archives: u64,
    /// Their bytes.
    pub size: u64,
}

/// What a refusal to delete a vault comes to: it may pass, with the next
/// inventory, or not.
pub fn verdict(dest: &str, said: Said, told: Told) -> Error {
    let later = |made: Option<Timestamp>| {
        let next = made.and_then(|made| made.checked_add(INVENTORY).ok());
        next.map_or_else(|| "tomorrow".to_owned(), |next| format!("after {next}"))
    };
    let (archives, size) = (said.archives, units::bytes(said.size));
    match said.inventory {
        _ if told.archives > 0 => Error::Refused(format!(
            "{dest}: not empty: the catalog names {} archives that are there; delete them first",
            told.archives
        )),
        None => Error::Unfinished(format!(
            "{dest}: the service has made no inventory yet that proves it empty; run the same command again tomorrow"
        )),
        Some(made) if archives == 0 => Error::Unfinished(format!(
            "{dest}: written to since its inventory of {made}; run the same command again when there is another, {}",
            later(Some(made))
        )),
        Some(made) if told.deleted.is_some_and(|deleted| deleted >= made) => {
            Error::Unfinished(format!(
                "{dest}: its inventory of {made} is older than the last deletion; run the same command again when there is another, {}",
                later(Some(made))
            ))
        }
        Some(made) => Error::Refused(format!(
            "{dest}: not empty: its inventory of {made} has {archives} archives with {size}, and the catalog knows of no later deletion"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_next_inventory_cures_is_worth_waiting_for() {
        let time = |text: &str| Some(text.parse::<Timestamp>().unwrap());
        let made = time("2026-11-25T01:00:00Z");
        let said = |inventory, archives| Said { inventory, archives, size: 1 << 20 };
        let told = |archives, deleted| Told { archives, deleted };
        let before = time("2026-11-24T00:00:00Z");
        let after = time("2026-11-25T02:00:00Z");
        for (said, told, code) in [
            (said(None, 0), told(0, None), 75),
            (said(made, 0), told(0, None), 75),
            (said(made, 3), told(0, after), 75),
            (said(made, 3), told(0, before), 69),
            (said(made, 3), told(0, None), 69),
            (said(made, 3), told(1, after), 69),
            (said(None, 0), told(1, None), 69),
        ] {
            assert_eq!(verdict("glacier://v", said, told).code(), code, "{said:?} {told:?}");
        }
        let text = verdict("glacier://v", said(made, 3), told(0, after)).to_string();
        assert!(text.ends_with("after 2026-11-26T01:00:00Z"), "{text}");
    }
}
