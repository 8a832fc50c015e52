//! How archives come in one request, and how they go.

use std::fs;
use std::path::PathBuf;

use crate::hash::tree::Hash;
use crate::tools::local::disk;
use crate::tools::local::glacier::archive::{Archive, find, place};
use crate::tools::local::glacier::inventory;
use crate::tools::local::glacier::jobs;
use crate::tools::local::part::{self, Written};
use crate::tools::local::reply::{Answer, Refusal, Reply, broken};
use crate::tools::local::request::Asked;
use crate::tools::local::store::{ARCHIVE_ID, Scratch, Turn, is_id, new_id};

/// Most bytes of `UploadArchive`, and of a part.
pub const REQUEST: u64 = 4 << 30;

/// Archive bytes that a request is about to send: where they go, and what
/// they must be.
pub struct Incoming {
    /// Where the part is written.
    pub file: PathBuf,
    /// How many bytes it has.
    pub size: u64,
    /// Their SHA-256.
    pub sha256: Hash,
    /// Their tree hash.
    pub treehash: Hash,
    /// Gone with all in it if the part never becomes whole.
    pub scratch: Scratch,
}

impl Incoming {
    /// Reads the headers that all archive bytes have.
    pub fn announced(turn: &Turn, asked: &Asked) -> Answer<Self> {
        let size = asked.count("content-length")?;
        let sha256 = asked.hash("x-amz-content-sha256")?;
        let treehash = asked.hash("x-amz-sha256-tree-hash")?;
        if !(1..=REQUEST).contains(&size) {
            return Err(Refusal::invalid(format!(
                "Invalid Content-Length: {size}; a request carries 1 to {REQUEST} bytes"
            )));
        }
        let scratch = turn.scratch()?;
        let file = scratch.dir.join(part::name(0));
        Ok(Self { file, size, sha256, treehash, scratch })
    }

    /// Refuses bytes that are not those announced.
    pub fn check(&self, written: &Written) -> Answer<()> {
        if written.sha256 != self.sha256 {
            return Err(Refusal::invalid(format!(
                "The value passed in as x-amz-content-sha256 does not match the computed payload \
                 hash. Computed digest: {} expected hash: {}",
                written.sha256, self.sha256
            )));
        }
        if written.treehash != self.treehash {
            return Err(Refusal::invalid(format!(
                "Checksum mismatch: expected {} but got {}",
                self.treehash, written.treehash
            )));
        }
        Ok(())
    }
}

/// `UploadArchive`, before its bytes.
pub fn begin(turn: &Turn, asked: &Asked) -> Answer<Incoming> {
    inventory::vault(turn, &asked.route.vault)?;
    asked.description()?;
    Incoming::announced(turn, asked)
}

/// `UploadArchive`, after its bytes: the archive is whole or not there.
pub fn commit(turn: &Turn, asked: &Asked, incoming: &Incoming, written: &Written) -> Answer {
    incoming.check(written)?;
    let mut vault = inventory::vault(turn, &asked.route.vault)?;
    let archive = Archive {
        id: new_id(ARCHIVE_ID)?,
        description: asked.description()?,
        created: turn.now,
        size: written.size,
        treehash: written.treehash,
        part_size: REQUEST,
    };
    vault.note_change(turn.now)?;
    place(&vault, &incoming.scratch.dir, &archive)?;
    Ok(archive.stored(&vault.name))
}

/// `DeleteArchive`. What a finished job still offers, or an answer is just
/// being made of, is kept aside for it.
pub fn delete(turn: &Turn, asked: &Asked) -> Answer {
    let mut vault = inventory::vault(turn, &asked.route.vault)?;
    let id = &asked.route.id;
    if !is_id(id, ARCHIVE_ID) {
        return Err(Refusal::invalid(format!("Invalid archive ID: {id}")));
    }
    if find(&vault, id)?.is_some() {
        vault.note_change(turn.now)?;
        let dir = vault.dir.join("archives").join(id);
        if jobs::archive_goes(&vault, id, turn.now)? || turn.is_read(id) {
            let to = vault.dir.join("retained").join(id);
            fs::rename(&dir, &to)
                .and_then(|()| disk::sync_parent(&dir))
                .and_then(|()| disk::sync_parent(&to))
                .map_err(broken("archive"))?;
        } else {
            turn.discard(&dir)?;
        }
    }
    Ok(Reply::empty(204))
}
