//! The directories under the root, and one call's turn at them.
//!
//! All state is on disk and is read again for each call, so that a server
//! that was killed and one that was not are the same. One call at a time
//! changes it; archive bytes are received and sent outside of turns. Whatever
//! is not whole lies in `tmp`, and comes to its place by a rename.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::clock::{Clock, Millis};
use super::disk;
use super::readers::{Kept, Readers};
use super::reply::{Answer, Refusal, broken};
use crate::error::{Error, Result};

/// The account of everything here, as it stands in ARNs.
pub const ACCOUNT: &str = "012345678901";
/// Characters of an archive id.
pub const ARCHIVE_ID: usize = 138;
/// Characters of an upload id or a job id.
pub const SHORT_ID: usize = 92;

/// How many parts of an upload are on their way.
type InFlight = Arc<Mutex<HashMap<String, usize>>>;

/// Everything under the root.
pub struct Store {
    root: PathBuf,
    /// The fast clock.
    pub clock: Clock,
    turns: Mutex<()>,
    in_flight: InFlight,
    readers: Readers,
}

/// One call's turn: nothing else changes the store meanwhile.
pub struct Turn<'a> {
    store: &'a Store,
    /// The directory of the region.
    pub dir: PathBuf,
    /// The region.
    pub region: &'a str,
    /// The fast time of the call.
    pub now: Millis,
    _alone: MutexGuard<'a, ()>,
}

/// What is known of a vault; `vault.json` in its directory.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// When it was created.
    pub created: Millis,
    /// When an archive was last added or removed.
    pub written: Option<Millis>,
    /// The first change that the inventory does not have.
    pub changed: Option<Millis>,
    /// The last inventory.
    pub inventory: Option<Summary>,
    /// Its tags.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// Its access policy.
    pub access_policy: Option<String>,
    /// Its lock.
    pub lock: Option<Lock>,
    /// Its notification configuration.
    pub notifications: Option<Value>,
}

/// The last inventory in numbers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Summary {
    /// When it was made.
    pub date: Millis,
    /// How many archives it has.
    pub archives: u64,
    /// Bytes of all of them.
    pub bytes: u64,
}

/// A vault lock.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Lock {
    /// The id that completes it.
    pub id: String,
    /// The policy.
    pub policy: String,
    /// When it was begun.
    pub created: Millis,
    /// Is it complete, and so for ever?
    pub locked: bool,
}

/// A vault, in a turn.
pub struct Vault {
    /// Its directory.
    pub dir: PathBuf,
    /// Its name.
    pub name: String,
    /// Its ARN.
    pub arn: String,
    /// What is known of it.
    pub record: Record,
}

impl Store {
    /// Opens the store under `root`, which is there and locked, and drops
    /// what a killed server left unfinished.
    pub fn open(root: &Path, clock: Clock) -> Result<Self> {
        let tmp = root.join("tmp");
        let fresh = || -> io::Result<()> {
            if tmp.exists() {
                fs::remove_dir_all(&tmp)?;
            }
            fs::create_dir_all(&tmp)
        };
        fresh().map_err(|e| Error::io(tmp.display().to_string(), e))?;
        Ok(Self {
            root: root.to_owned(),
            clock,
            turns: Mutex::default(),
            in_flight: Arc::default(),
            readers: Readers::default(),
        })
    }

    /// Waits for a turn in a region; the name of the region was checked.
    pub fn turn<'a>(&'a self, region: &'a str) -> Turn<'a> {
        let alone = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        Turn {
            store: self,
            dir: self.root.join("regions").join(region),
            region,
            now: self.clock.now(),
            _alone: alone,
        }
    }

    /// The regions there are.
    pub fn regions(&self) -> io::Result<Vec<String>> {
        disk::names(&self.root.join("regions"))
    }
}

impl Turn<'_> {
    fn vaults(&self) -> PathBuf {
        self.dir.join("vaults")
    }

    /// The ARN of a vault of this name.
    pub fn arn(&self, name: &str) -> String {
        format!("arn:aws:glacier:{}:{ACCOUNT}:vaults/{name}", self.region)
    }

    /// The names of all vaults, sorted.
    pub fn vault_names(&self) -> Answer<Vec<String>> {
        let mut names = disk::names(&self.vaults()).map_err(broken("vaults"))?;
        // A directory without a record is one that a killed server was about
        // to make.
        names.retain(|name| self.vaults().join(name).join("vault.json").exists());
        Ok(names)
    }

    /// The vault of this name, if there is one, as it was left.
    pub fn find(&self, name: &str) -> Answer<Option<Vault>> {
        check_vault_name(name)?;
        let dir = self.vaults().join(name);
        let record = disk::read_json(&dir.join("vault.json")).map_err(broken(name))?;
        let Some(record) = record else { return Ok(None) };
        Ok(Some(Vault { dir, name: name.to_owned(), arn: self.arn(name), record }))
    }

    /// Makes a vault.
    pub fn create(&self, name: &str) -> Answer<()> {
        let record = Record {
            created: self.now,
            written: None,
            changed: Some(self.now),
            inventory: None,
            tags: BTreeMap::new(),
            access_policy: None,
            lock: None,
            notifications: None,
        };
        let dir = self.vaults().join(name);
        for part in ["archives", "uploads", "retained", "jobs"] {
            fs::create_dir_all(dir.join(part)).map_err(broken(name))?;
        }
        disk::write_json(&dir.join("vault.json"), &record)
            .and_then(|()| disk::sync_dir(&self.vaults()))
            .map_err(broken(name))
    }

    /// A new directory for what is not whole yet.
    pub fn scratch(&self) -> Answer<Scratch> {
        let dir = self.store.root.join("tmp").join(new_id(24)?);
        fs::create_dir(&dir).map_err(broken("tmp"))?;
        Ok(Scratch { dir, in_flight: None })
    }

    /// Removes a directory: at once out of its place, then its content.
    pub fn discard(&self, dir: &Path) -> Answer<()> {
        let scratch = self.scratch()?;
        fs::rename(dir, scratch.dir.join("gone"))
            .and_then(|()| disk::sync_parent(dir))
            .map_err(broken("tmp"))
    }

    /// Keeps the bytes of an archive until an answer with them is over.
    pub fn keep(&self, archive: &str) -> Kept {
        self.store.readers.keep(archive)
    }

    /// Is an answer with bytes of this archive on its way?
    pub fn is_read(&self, archive: &str) -> bool {
        self.store.readers.has(archive)
    }

    /// Is a part of this upload on its way?
    pub fn is_in_flight(&self, upload: &str) -> bool {
        let in_flight = self.store.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        in_flight.contains_key(upload)
    }

    /// Counts a part of this upload as on its way for as long as `scratch`
    /// lives.
    pub fn set_in_flight(&self, upload: &str, scratch: &mut Scratch) {
        let mut in_flight = self.store.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        *in_flight.entry(upload.to_owned()).or_default() += 1;
        scratch.in_flight = Some((upload.to_owned(), Arc::clone(&self.store.in_flight)));
    }
}

/// A directory in `tmp`, removed with all that is still in it in the end.
pub struct Scratch {
    /// Where it is.
    pub dir: PathBuf,
    in_flight: Option<(String, InFlight)>,
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed now is removed at the next start.
        let _ = fs::remove_dir_all(&self.dir);
        if let Some((upload, in_flight)) = &self.in_flight {
            let mut in_flight = in_flight.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(count) = in_flight.get_mut(upload) {
                *count -= 1;
                if *count == 0 {
                    in_flight.remove(upload);
                }
            }
        }
    }
}

impl Vault {
    /// Writes down what is known of it.
    pub fn save(&self) -> Answer<()> {
        disk::write_json(&self.dir.join("vault.json"), &self.record).map_err(broken(&self.name))
    }

    /// Notes that an archive is about to come or go. Before it does, so that
    /// a kill in between costs an inventory, and never hides an archive.
    pub fn note_change(&mut self, now: Millis) -> Answer<()> {
        self.record.written = Some(now);
        self.record.changed.get_or_insert(now);
        self.save()
    }
}

/// 1 to 255 of `a-zA-Z0-9_.-`; `.` and `..` are refused too, being
/// directories already.
pub fn check_vault_name(name: &str) -> Answer<()> {
    let fits = (1..=255).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    if !fits || name == "." || name == ".." {
        return Err(Refusal::invalid(
            "Invalid vault name: it is 1 to 255 of the characters a-z, A-Z, 0-9, '_', '-' and '.'",
        ));
    }
    Ok(())
}

/// Is this an id as we make them? Others never touch the disk.
pub fn is_id(text: &str, length: usize) -> bool {
    text.len() == length
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// A random id.
pub fn new_id(length: usize) -> Answer<String> {
    let mut random = vec![0; length];
    getrandom::fill(&mut random).map_err(|e| Refusal::broken("random numbers", e))?;
    Ok(letters(&random))
}

/// Bytes as characters of URL-safe base64, one each.
pub fn letters(bytes: &[u8]) -> String {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    bytes
        .iter()
        .filter_map(|byte| alphabet.get(usize::from(byte % 64)))
        .map(|letter| char::from(*letter))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_random_and_safe_as_names() {
        let id = new_id(ARCHIVE_ID).unwrap();
        assert!(is_id(&id, ARCHIVE_ID));
        assert_ne!(id, new_id(ARCHIVE_ID).unwrap());
        for bad in ["../x", "a.b", "", "a b", "a/b"] {
            assert!(!is_id(bad, bad.len().max(1)), "{bad}");
        }
    }

    #[test]
    fn counts_parts_on_their_way() {
        let root = tempfile::tempdir().unwrap();
        let clock = Clock::open(&root.path().join("clock.json"), 1).unwrap();
        let store = Store::open(root.path(), clock).unwrap();
        let turn = store.turn("us-east-1");
        let (mut first, mut second) = (turn.scratch().unwrap(), turn.scratch().unwrap());
        turn.set_in_flight("u", &mut first);
        turn.set_in_flight("u", &mut second);
        drop(first);
        assert!(turn.is_in_flight("u"));
        let dir = second.dir.clone();
        assert!(dir.exists());
        drop(second);
        assert!(!turn.is_in_flight("u"));
        assert!(!dir.exists());
    }
}
