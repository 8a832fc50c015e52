//! A small model of the vault service: uploads that are dropped after an idle
//! day, archives, Completes that can be repeated for an hour, and inventories
//! that are a day old when they come.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::*;
use crate::line::description::Kind;

pub const HOUR: i64 = 3600;
pub const DAY: i64 = 24 * HOUR;

/// How long an upload is kept without activity.
const IDLE: i64 = DAY;

/// How long a Complete is idempotent.
const IDEMPOTENT: i64 = HOUR;

/// How long an inventory takes to come up, and how long it stays.
const RETRIEVAL: i64 = 4 * HOUR;

#[derive(Clone, Default)]
pub struct Upload {
    pub description: String,
    pub parts: BTreeMap<u64, (u64, Hash)>,
    pub touched: i64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Archive {
    pub description: Description,
    pub upload: String,
    pub size: u64,
    pub treehash: Hash,
    pub created: i64,
    /// When somebody deleted it.
    pub deleted: Option<i64>,
    /// No record of it is left here: it may be stored a second time.
    pub forgotten: bool,
    /// What is in it, if it is a manifest.
    pub text: Vec<u8>,
}

/// A vault.
#[derive(Default)]
pub struct Service {
    pub now: i64,
    pub uploads: BTreeMap<Id, Upload>,
    pub archives: BTreeMap<Id, Archive>,
    /// The archive that an upload became, and until when it is told again.
    pub completed: BTreeMap<Id, (Id, i64)>,
    /// When inventories were asked for.
    jobs: BTreeMap<Id, i64>,
    /// Uploads that were begun and inventories that were asked for.
    pub names: u32,
    /// Warnings, of which some name an upload that was given up.
    pub given_up: Vec<String>,
    /// What it holds may not be what it said that it holds.
    pub shaken: bool,
}

pub fn time(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

impl Service {
    /// What became too old is gone.
    pub fn wake(&mut self, now: i64) {
        self.now = now;
        self.uploads.retain(|_, upload| now - upload.touched < IDLE);
        self.completed.retain(|_, (_, until)| now < *until);
        self.jobs.retain(|_, asked| now < *asked + RETRIEVAL + DAY);
    }

    /// When the inventory was made that can be had at `at`; none on the
    /// first day.
    fn made(at: i64) -> Option<i64> {
        Some(at - at % DAY).filter(|made| *made > 0)
    }

    /// A part that it holds, and has told of, becomes another.
    pub fn rot(&mut self) {
        self.shaken = true;
        let parts = self.uploads.values_mut().flat_map(|upload| upload.parts.values_mut());
        parts.take(1).for_each(|(_, hash)| *hash = Hash::of(b"rot"));
    }

    /// The archives of the last inventory.
    pub fn counted(&self) -> usize {
        let made = Self::made(self.now).unwrap_or(0);
        self.archives.values().filter(|archive| archive.is_there(made)).count()
    }

    /// Does what is asked. `sent` is the hash of the bytes of a part, `text`
    /// what is in a manifest.
    pub fn ask(
        &mut self,
        action: &Action,
        sent: Option<Hash>,
        text: &[u8],
    ) -> Result<Outcome, Failure> {
        let missing = || Failure::Missing("no such upload".into());
        let now = self.now;
        match &action.ask {
            Ask::Begin { about } => {
                self.names += 1;
                let id = Id::from(format!("upload-{}", self.names));
                let description = about.text().unwrap();
                let upload = Upload { description, touched: now, ..Upload::default() };
                self.uploads.insert(id.clone(), upload);
                Ok(Outcome::Begun(id))
            }
            Ask::List { upload } => {
                let upload = self.uploads.get(upload).ok_or_else(missing)?;
                let listed = upload.parts.iter();
                let held = listed.map(|(offset, (size, treehash))| Held {
                    offset: *offset,
                    size: *size,
                    sent: Sent { proof: Some(Proof::Tree(*treehash)), tag: None },
                });
                Ok(Outcome::Held(held.collect()))
            }
            Ask::Send { upload, offset, piece, .. } => {
                let upload = self.uploads.get_mut(upload).ok_or_else(missing)?;
                upload.touched = now;
                if sent != Some(piece.treehash) {
                    return Err(Failure::Refused("the hash is not that of the bytes".into()));
                }
                upload.parts.insert(*offset, (piece.size, piece.treehash));
                Ok(Outcome::Sent(Sent::default()))
            }
            Ask::Complete { upload, seal, .. } => {
                let id = match self.completed.get(upload) {
                    Some((archive, _)) => archive.clone(),
                    None => self.complete(action.target, upload, seal.size, seal.treehash, text)?,
                };
                Ok(Outcome::Completed(Answer { at: time(now), value: seen(id, None) }))
            }
            Ask::LookUp { about, seal, ticket } => {
                let looked_up = |value| Ok(Outcome::LookedUp(Answer { at: time(now), value }));
                if let Some(asked) = ticket.as_ref().and_then(|job| self.jobs.get(job)) {
                    if now < asked + RETRIEVAL {
                        return looked_up(Lookup::Later(ticket.clone()));
                    }
                    let made = Self::made(*asked).unwrap_or(0);
                    let found = self.archives.iter().find(|(_, archive)| {
                        archive.is_there(made)
                            && archive.description == *about
                            && archive.size == seal.size
                            && archive.treehash == seal.treehash
                    });
                    let absent = Lookup::Absent { as_of: time(made) };
                    return looked_up(found.map_or(absent, |(id, found)| {
                        Lookup::Same(seen(id.clone(), Some(time(found.created))))
                    }));
                }
                if Self::made(now).is_none() {
                    return looked_up(Lookup::Later(None));
                }
                self.names += 1;
                let job = Id::from(format!("job-{}", self.names));
                self.jobs.insert(job.clone(), now);
                looked_up(Lookup::Later(Some(job)))
            }
        }
    }

    fn complete(
        &mut self,
        target: Target,
        id: &Id,
        size: u64,
        treehash: Hash,
        text: &[u8],
    ) -> Result<Id, Failure> {
        let missing = || Failure::Missing("no such upload".into());
        let sent = self.uploads.get(id).ok_or_else(missing)?.clone();
        let parts: Fold = sent.parts.values().map(|(_, hash)| *hash).collect();
        let sum: u64 = sent.parts.values().map(|(size, _)| size).sum();
        if (sum, parts.finish()) != (size, treehash) {
            assert!(self.shaken, "{target}: the parts are not all there");
            return Err(Failure::Refused("the parts do not give this tree hash".into()));
        }
        self.uploads.remove(id);
        let description = Description::parse(&sent.description).unwrap();
        // I4: nothing is stored twice that is known to be stored.
        let twin = self.archives.iter().find(|(_, archive)| {
            archive.deleted.is_none()
                && !archive.forgotten
                && archive.description.kind == Kind::Volume
                && archive.description.volume == description.volume
                && archive.treehash == treehash
        });
        assert!(twin.is_none(), "I4: {target} is stored twice, {id} after {}", twin.unwrap().0);
        let archive = Archive {
            description,
            upload: id.to_string(),
            size,
            treehash,
            created: self.now,
            deleted: None,
            forgotten: self.given_up.iter().any(|warning| warning.ends_with(id.as_str())),
            text: text.to_vec(),
        };
        let name = Id::from(format!("archive-of-{id}"));
        self.archives.insert(name.clone(), archive);
        self.completed.insert(id.clone(), (name.clone(), self.now + IDEMPOTENT));
        Ok(name)
    }

    /// Lets everything be forgotten that nobody here can know of any more.
    pub fn forget(&mut self, is_known: impl Fn(&str, &Archive) -> bool) {
        for (id, archive) in &mut self.archives {
            archive.forgotten |= !is_known(id, archive);
        }
    }
}

/// An archive as the service shows it.
pub fn seen(id: Id, at: Option<Timestamp>) -> Seen {
    Seen { at, ..Seen::of(id) }
}

impl Archive {
    fn is_there(&self, at: i64) -> bool {
        self.created <= at && self.deleted.is_none_or(|deleted| deleted > at)
    }
}
