//! An archive: a directory of parts, and an `archive.json`.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::hash::tree::Hash;
use crate::tools::local::clock::Millis;
use crate::tools::local::disk;
use crate::tools::local::reply::{Answer, Reply, broken};
use crate::tools::local::store::{ACCOUNT, ARCHIVE_ID, Vault, is_id};

/// What is known of an archive; `archive.json` in its directory.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Archive {
    /// Its id, and the name of its directory.
    pub id: String,
    /// Its description.
    pub description: String,
    /// When it was made.
    pub created: Millis,
    /// Bytes.
    pub size: u64,
    /// The tree hash of them all.
    pub treehash: Hash,
    /// The size of its parts; the last may be smaller.
    pub part_size: u64,
}

impl Archive {
    /// The 201 answer that names it.
    pub fn stored(&self, vault: &str) -> Reply {
        Reply::empty(201)
            .with("Location", format!("/{ACCOUNT}/vaults/{vault}/archives/{}", self.id))
            .with("x-amz-archive-id", &*self.id)
            .with("x-amz-sha256-tree-hash", self.treehash.to_string())
    }
}

/// Makes a directory of parts an archive: its record first, then one rename.
/// A server killed in between finds an archive or an unfinished upload, never
/// half of one. Held by tests/local.rs:
/// `an_upload_survives_kills_between_parts_and_after_complete`.
pub fn place(vault: &Vault, parts: &Path, archive: &Archive) -> Answer<()> {
    let to = vault.dir.join("archives").join(&archive.id);
    disk::write_json(&parts.join("archive.json"), archive)
        .and_then(|()| fs::rename(parts, &to))
        .and_then(|()| disk::sync_parent(&to))
        .and_then(|()| disk::sync_dir(&vault.dir.join("uploads")))
        .map_err(broken("archive"))
}

/// The archive of this id, if the vault has it.
pub fn find(vault: &Vault, id: &str) -> Answer<Option<Archive>> {
    if !is_id(id, ARCHIVE_ID) {
        return Ok(None);
    }
    let file = vault.dir.join("archives").join(id).join("archive.json");
    disk::read_json(&file).map_err(broken("archive"))
}
