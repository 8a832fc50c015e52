//! The calls of the vault service.

mod archive;
pub(super) mod archives;
pub(super) mod inventory;
pub(super) mod jobs;
pub(super) mod policies;
pub(super) mod uploads;
pub(super) mod vaults;

pub(super) use self::inventory::find;
