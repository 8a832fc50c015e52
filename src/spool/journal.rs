//! put's journal: what was asked of the service about one stream, each
//! request before it is made, each answer after it came.
//!
//! chunk reads it too, to know which volumes need not be spooled again. When
//! the stream is stored it is kept as the receipt. Catalog lines stand in it
//! as they are printed.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::{self, BufRead};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::hash::tree::Hash;
use crate::line::{Archive, Id, Line, Reader, Stored, StreamId, Text, is_default};

/// What an upload becomes: a volume of the stream, or its manifest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(from = "Option<u32>", into = "Option<u32>")]
pub enum Target {
    /// This volume.
    Volume(u32),
    /// The manifest.
    #[default]
    Manifest,
}

impl From<Target> for Option<u32> {
    fn from(target: Target) -> Self {
        match target {
            Target::Volume(volume) => Some(volume),
            Target::Manifest => None,
        }
    }
}

impl From<Option<u32>> for Target {
    fn from(volume: Option<u32>) -> Self {
        volume.map_or(Self::Manifest, Self::Volume)
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Volume(volume) => write!(f, "volume {volume}"),
            Self::Manifest => f.write_str("manifest"),
        }
    }
}

/// A record that is no catalog line.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Record {
    /// The first one: whose journal this is.
    Journal {
        /// Major version.
        v: u32,
        /// Which stream.
        stream: StreamId,
        /// Where it goes.
        dest: String,
        /// The region of that.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        region: String,
    },
    /// The attempts so far are given up; their archives are orphans but for
    /// those that are printed again.
    Generation {
        /// The number of the new one.
        generation: u32,
    },
    /// An upload was started.
    Upload {
        /// Absent for the manifest.
        #[serde(default, rename = "volume", skip_serializing_if = "is_default")]
        target: Target,
        /// The service's name for the upload.
        upload_id: Id,
    },
    /// An upload will be made an archive: the answer may be lost.
    Complete {
        /// Absent for the manifest.
        #[serde(default, rename = "volume", skip_serializing_if = "is_default")]
        target: Target,
        /// Bytes of the archive.
        size: u64,
        /// The tree hash of the archive.
        treehash: Hash,
        /// The SHA-256 hash of its parts' SHA-256 hashes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        composite: Option<Hash>,
        /// When; it may be asked again.
        at: Timestamp,
    },
    /// A part was sent to a service that names its parts.
    Sent {
        /// Absent for the manifest.
        #[serde(default, rename = "volume", skip_serializing_if = "is_default")]
        target: Target,
        /// Which part of it.
        part: u32,
        /// Its SHA-256 hash.
        sha256: Hash,
        /// The service's name for it.
        tag: String,
    },
    /// The service took a part: written down once an hour, at most.
    Moved {
        /// When.
        at: Timestamp,
    },
    /// An inventory was asked for, to look for an archive whose Complete had
    /// no answer.
    Inventory {
        /// The service's name for the job.
        job_id: Id,
        /// When it was asked for.
        at: Timestamp,
    },
    /// The service knows an upload no more whose Complete had no answer: only
    /// an inventory tells whether there is an archive.
    Unconfirmed {
        /// Absent for the manifest.
        #[serde(default, rename = "volume", skip_serializing_if = "is_default")]
        target: Target,
        /// When it said so: an archive is older than this.
        at: Timestamp,
    },
    /// An upload that was given up has become an archive all the same; it is
    /// no part of this attempt.
    Orphan {
        /// The volume.
        volume: u32,
        /// What it is.
        #[serde(flatten)]
        archive: Confirmed,
    },
    /// The service knows an upload no more, and has no archive of it.
    Gone {
        /// Absent for the manifest.
        #[serde(default, rename = "volume", skip_serializing_if = "is_default")]
        target: Target,
        /// The service dropped it; else it was given up here.
        #[serde(default, skip_serializing_if = "is_default")]
        lost: bool,
    },
    /// An upload is an archive.
    Archived {
        /// Absent for the manifest.
        #[serde(default, rename = "volume", skip_serializing_if = "is_default")]
        target: Target,
        /// What it is.
        #[serde(flatten)]
        archive: Confirmed,
    },
}

impl Record {
    /// The record of an upload that was started.
    pub fn upload(target: Target, upload_id: Id) -> Self {
        Self::Upload { target, upload_id }
    }

    /// The record of a Complete that will be asked.
    pub fn complete(target: Target, asked: &Completing) -> Self {
        let Completing { size, treehash, composite, at, .. } = *asked;
        Self::Complete { target, size, treehash, composite, at }
    }

    /// The record of a part that was sent.
    pub fn sent(target: Target, part: u32, sha256: Hash, tag: String) -> Self {
        Self::Sent { target, part, sha256, tag }
    }

    /// The record of an upload that is an archive.
    pub fn archived(target: Target, archive: Confirmed) -> Self {
        Self::Archived { target, archive }
    }

    /// The record of an upload that is no more, and may be an archive.
    pub fn unconfirmed(target: Target, at: Timestamp) -> Self {
        Self::Unconfirmed { target, at }
    }

    /// The record of an archive that came too late.
    pub fn orphan(volume: u32, archive: Confirmed) -> Self {
        Self::Orphan { volume, archive }
    }

    /// The record of an upload that is no more.
    pub fn gone(target: Target) -> Self {
        Self::Gone { target, lost: false }
    }

    /// The record of an upload that the service has dropped.
    pub fn lost(target: Target) -> Self {
        Self::Gone { target, lost: true }
    }
}

/// An upload that is under way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Upload {
    /// The service's name for it.
    pub id: Id,
    /// Which attempt began it: its description says so.
    pub generation: u32,
    /// The parts that were sent to a service that names them: their hashes and
    /// names.
    pub sent: BTreeMap<u32, (Hash, String)>,
    /// What it was to be completed with, once that was asked: there may be
    /// an archive.
    pub completing: Option<Completing>,
}

/// A Complete that was asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Completing {
    /// Bytes of the archive.
    pub size: u64,
    /// Its tree hash.
    pub treehash: Hash,
    /// The SHA-256 hash of its parts' SHA-256 hashes, where that was written
    /// down.
    pub composite: Option<Hash>,
    /// When it was last asked.
    pub at: Timestamp,
    /// Whether the service knows the upload no more, so that it need not be
    /// asked again.
    pub lost: bool,
}

/// An archive whose catalog lines may not be written yet.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Confirmed {
    /// The service's name for it.
    pub archive_id: Id,
    /// Bytes.
    pub size: u64,
    /// Its tree hash.
    pub treehash: Hash,
    /// Which of the versions of that name, where there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Its storage class, where there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// The SHA-256 hash of its parts' SHA-256 hashes, where the service said
    /// the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub composite: Option<Hash>,
    /// What the service calls these bytes, where it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// When it became one.
    pub uploaded: Timestamp,
}

impl From<Archive> for Confirmed {
    fn from(archive: Archive) -> Self {
        let Archive { archive_id, size, treehash, uploaded, .. } = archive;
        let Archive { version, class, composite, etag, .. } = archive;
        Self { archive_id, size, treehash, version, class, composite, etag, uploaded }
    }
}

/// What a journal comes to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Journal {
    /// Whose journal it is.
    pub stream: Option<StreamId>,
    /// Where the stream goes.
    pub dest: Option<String>,
    /// The region of that, where the journal says.
    pub region: Option<String>,
    /// Which attempt is under way.
    pub generation: u32,
    /// Uploads that are under way.
    pub uploads: BTreeMap<Target, Upload>,
    /// What is stored in this attempt.
    pub archives: BTreeMap<Target, Confirmed>,
    /// Volumes that earlier attempts stored, the last one last: good again
    /// if the bytes are.
    pub earlier: BTreeMap<u32, Vec<Confirmed>>,
    /// How often the service has dropped an upload of what is not stored.
    pub losses: BTreeMap<Target, u32>,
    /// When the service took a part, to the hour.
    pub moved: Option<Timestamp>,
    /// The inventory that was asked for.
    pub inventory: Option<(Id, Timestamp)>,
    /// The stream, once it is stored whole.
    pub stored: Option<Stored>,
}

impl Journal {
    /// Reads a journal. A line that cannot be read was torn by a crash, before
    /// anything relied on it.
    ///
    /// # Errors
    /// When reading fails.
    pub fn read(input: impl BufRead) -> io::Result<Self> {
        let mut journal = Self::default();
        let mut lines = Reader::new(input);
        while let Some(text) = lines.read()? {
            let Text::Line(text) = text else { continue };
            if let Ok(Some(line)) = Line::parse(&text) {
                journal.take_line(line);
            } else if let Ok(record) = serde_json::from_str(&text) {
                journal.take(record);
            }
        }
        Ok(journal)
    }

    /// That it is the journal of this stream: one that was copied from
    /// another tells of archives that are not here.
    ///
    /// # Errors
    /// Data, when it is another's.
    pub fn is_of(&self, id: StreamId) -> Result<()> {
        match self.stream {
            Some(other) if other != id => Err(Error::Data(format!(
                "stream {id}: its journal is that of stream {other}; take put.jsonl out of its spool"
            ))),
            _ => Ok(()),
        }
    }

    /// Takes a record that is no catalog line.
    pub fn take(&mut self, record: Record) {
        match record {
            Record::Journal { stream, dest, region, .. } => {
                self.stream = Some(stream);
                self.dest = Some(dest);
                self.region = Some(region).filter(|region| !region.is_empty());
            }
            Record::Generation { generation } => {
                self.losses.clear();
                self.generation = generation;
                for (target, archive) in std::mem::take(&mut self.archives) {
                    if let Target::Volume(volume) = target {
                        self.put_by(volume, archive);
                    }
                }
            }
            Record::Upload { target, upload_id } => {
                let upload = Upload {
                    id: upload_id,
                    generation: self.generation,
                    sent: BTreeMap::new(),
                    completing: None,
                };
                self.uploads.insert(target, upload);
            }
            Record::Complete { target, size, treehash, composite, at } => {
                if let Some(upload) = self.uploads.get_mut(&target) {
                    let asked = Completing { size, treehash, composite, at, lost: false };
                    upload.completing = Some(asked);
                }
            }
            Record::Sent { target, part, sha256, tag } => {
                if let Some(upload) = self.uploads.get_mut(&target) {
                    upload.sent.insert(part, (sha256, tag));
                }
            }
            Record::Unconfirmed { target, at } => {
                let upload = self.uploads.get_mut(&target);
                if let Some(asked) = upload.and_then(|upload| upload.completing.as_mut()) {
                    (asked.at, asked.lost) = (at, true);
                }
            }
            Record::Orphan { volume, archive } => self.put_by(volume, archive),
            Record::Moved { at } => self.moved = Some(at),
            Record::Inventory { job_id, at } => self.inventory = Some((job_id, at)),
            Record::Gone { target, lost } => {
                self.uploads.remove(&target);
                if lost {
                    *self.losses.entry(target).or_default() += 1;
                }
            }
            Record::Archived { target, archive } => {
                self.uploads.remove(&target);
                self.losses.remove(&target);
                self.archives.insert(target, archive);
            }
        }
    }

    /// Takes a catalog line; one of another stream tells nothing of this one.
    pub fn take_line(&mut self, line: Line) {
        if let Line::Deleted(deleted) = line {
            // Written here by put, before a new attempt; chunk learns of it.
            self.drop_those(&deleted.archive_id.into_iter().collect());
            return;
        }
        let of = match &line {
            Line::Archive(archive) => archive.stream,
            Line::Stored(stored) => stored.stream,
            _ => return,
        };
        if self.stream.is_some_and(|stream| stream != of) {
            return;
        }
        match line {
            Line::Archive(archive) => {
                let target = Target::Volume(archive.volume);
                if archive.generation == self.generation {
                    self.uploads.remove(&target);
                    self.archives.insert(target, archive.into());
                } else {
                    self.put_by(archive.volume, archive.into());
                }
            }
            Line::Stored(stored) => self.stored = Some(stored),
            _ => {}
        }
    }

    /// Whether the service has nothing of what it tells.
    pub fn holds_nothing(&self) -> bool {
        self.uploads.is_empty() && self.archives.is_empty() && self.earlier.is_empty()
    }

    /// Refuses to go on in another region than that of what was sent: what
    /// became of it could not be learned there, and its archives are not.
    ///
    /// # Errors
    /// When that is so.
    pub fn is_in(&self, stream: StreamId, here: &str) -> Result<()> {
        match (&self.dest, &self.region) {
            (Some(dest), Some(region)) if region != here && !self.holds_nothing() => {
                Err(Error::Configuration(elsewhere(stream, dest, region, here)))
            }
            _ => Ok(()),
        }
    }

    /// Adds what the catalog tells of the stream in this destination: its
    /// `archive` and `stored` lines, in their order.
    pub fn complement(&mut self, catalog: Vec<Line>) {
        // Without a journal the catalog alone knows which attempt was last.
        let last = catalog.iter().filter_map(|line| match line {
            Line::Archive(archive) => Some(archive.generation),
            _ => None,
        });
        self.generation = self.generation.max(last.max().unwrap_or(0));
        // Where the journal tells of a volume, the catalog does not decide; of
        // its own lines the last of the last attempt does.
        let journalled = self.volumes();
        for line in catalog {
            match line {
                Line::Archive(archive) if journalled.contains_key(&archive.volume) => {
                    self.recall(archive);
                }
                line => self.take_line(line),
            }
        }
    }

    /// Takes out archives that were deleted since, by their names at the
    /// service. Where one of them was counted the stream is stored no more: a
    /// new attempt begins, so that its lines and those of what is gone are
    /// told apart, and what is left is good again if its bytes are. Whether
    /// that is so.
    pub fn forget(&mut self, deleted: &HashSet<Id>) -> bool {
        let is_broken = self.drop_those(deleted);
        if is_broken {
            self.take(Record::Generation { generation: self.generation.saturating_add(1) });
        }
        if !deleted.is_empty() {
            // That of an attempt before, whose deletion the journal has seen.
            let current = self.generation;
            self.stored = self.stored.take().filter(|stored| stored.generation == current);
        }
        is_broken
    }

    /// The same without a new attempt.
    fn drop_those(&mut self, deleted: &HashSet<Id>) -> bool {
        let is_gone = |archive: &Confirmed| deleted.contains(&archive.archive_id);
        let manifest = self.stored.as_ref().and_then(|stored| stored.manifest_id.as_ref());
        let is_broken = self.archives.values().any(is_gone)
            || manifest.is_some_and(|manifest| deleted.contains(manifest));
        self.archives.retain(|_, archive| !is_gone(archive));
        self.earlier.retain(|_, archives| {
            archives.retain(|archive| !is_gone(archive));
            !archives.is_empty()
        });
        if is_broken {
            self.stored = None;
        }
        is_broken
    }

    /// Keeps an archive that only the catalog knows, as the journal of its
    /// attempt was lost: should its bytes come back, it is good again (I4).
    fn recall(&mut self, archive: Archive) {
        let id = &archive.archive_id;
        let now = self.archives.get(&Target::Volume(archive.volume));
        let earlier = self.earlier.get(&archive.volume).into_iter().flatten();
        if !now.into_iter().chain(earlier).any(|known| known.archive_id == *id) {
            let volume = archive.volume;
            self.earlier.entry(volume).or_default().insert(0, archive.into());
        }
    }

    /// The archive of a volume in this attempt, or in an earlier one.
    pub fn archive(&self, volume: u32) -> Option<&Confirmed> {
        let earlier = || self.earlier.get(&volume).and_then(|archives| archives.last());
        self.archives.get(&Target::Volume(volume)).or_else(earlier)
    }

    /// What else an archive of this name is.
    pub fn twin(&self, target: Target, id: &Id) -> Option<Target> {
        let now = self.archives.iter().map(|(other, archive)| (*other, archive));
        let earlier = self.earlier.iter().flat_map(|(volume, archives)| {
            archives.iter().map(|archive| (Target::Volume(*volume), archive))
        });
        let mut named = now.chain(earlier).filter(|(_, archive)| archive.archive_id == *id);
        named.find(|(other, _)| *other != target).map(|(other, _)| other)
    }

    /// Keeps an archive that is no part of this attempt.
    fn put_by(&mut self, volume: u32, archive: Confirmed) {
        let archives = self.earlier.entry(volume).or_default();
        archives.retain(|known| known.archive_id != archive.archive_id);
        archives.push(archive);
    }

    /// Volumes that are stored, in whichever attempt, with their tree hashes.
    pub fn volumes(&self) -> BTreeMap<u32, Hash> {
        let earlier = self.earlier.iter().filter_map(|(volume, archives)| {
            archives.last().map(|archive| (*volume, archive.treehash))
        });
        let now = self.archives.iter().filter_map(|(target, archive)| {
            Option::from(*target).map(|volume| (volume, archive.treehash))
        });
        earlier.chain(now).collect()
    }

    /// Volumes that are uploaded, but whose Complete has no answer yet.
    pub fn unconfirmed(&self) -> BTreeSet<u32> {
        self.uploads
            .iter()
            .filter(|(_, upload)| upload.completing.is_some())
            .filter_map(|(target, _)| (*target).into())
            .collect()
    }
}

/// Why a stream is not sent to this region.
pub fn elsewhere(stream: StreamId, dest: &str, region: &str, here: &str) -> String {
    format!(
        "stream {stream}: sent to {dest} in {region}, and this is {here}; use that --region, or a vault of another name"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};

    #[test]
    fn records_are_written_as_ever() {
        let at = Timestamp::UNIX_EPOCH;
        let hash = Hash::of(b"");
        let made = Confirmed {
            archive_id: "a".into(),
            size: 1,
            treehash: hash,
            version: None,
            class: None,
            composite: None,
            etag: None,
            uploaded: at,
        };
        let archive = format!(
            r#""archive_id":"a","size":1,"treehash":"{hash}","uploaded":"1970-01-01T00:00:00Z"}}"#
        );
        let when = r#""at":"1970-01-01T00:00:00Z"}"#;
        let asked = Completing { size: 1, treehash: hash, composite: None, at, lost: false };
        for (target, volume) in [(Target::Volume(3), r#""volume":3,"#), (Target::Manifest, "")] {
            for (record, text) in [
                (
                    Record::upload(target, "u".into()),
                    format!(r#"upload",{volume}"upload_id":"u"}}"#),
                ),
                (
                    Record::complete(target, &asked),
                    format!(r#"complete",{volume}"size":1,"treehash":"{hash}",{when}"#),
                ),
                (
                    Record::sent(target, 7, hash, "t".into()),
                    format!(r#"sent",{volume}"part":7,"sha256":"{hash}","tag":"t"}}"#),
                ),
                (Record::unconfirmed(target, at), format!(r#"unconfirmed",{volume}{when}"#)),
                (Record::lost(target), format!(r#"gone",{volume}"lost":true}}"#)),
                (Record::archived(target, made.clone()), format!(r#"archived",{volume}{archive}"#)),
                (Record::orphan(3, made.clone()), format!(r#"orphan","volume":3,{archive}"#)),
            ] {
                let text = format!("{{\"type\":\"{text}");
                assert_eq!(serde_json::to_string(&record).unwrap(), text);
                assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
            }
        }
    }

    fn archive(volume: u32, generation: u32) -> Line {
        Line::Archive(Archive {
            v: 1,
            stream: StreamId::new(Sha256::new(), 1, 1),
            host: "nas".into(),
            name: "a@b".into(),
            generation,
            volume,
            offset: 0,
            size: 1,
            treehash: Hash::of(b""),
            part_size: 1 << 20,
            dest: "glacier://v".into(),
            region: "eu-central-1".into(),
            archive_id: format!("archive-{generation}-{volume}").into(),
            version: None,
            class: None,
            composite: None,
            etag: None,
            uploaded: Timestamp::UNIX_EPOCH,
        })
    }

    fn read(records: &[String]) -> Journal {
        Journal::read(records.concat().as_bytes()).unwrap()
    }

    fn text(record: &Record) -> String {
        serde_json::to_string(record).unwrap() + "\n"
    }

    #[test]
    fn an_upload_is_under_way_until_its_archive_is_there() {
        let upload = text(&Record::upload(Target::Volume(1), "u".into()));
        let complete = text(&Record::complete(
            Target::Volume(1),
            &Completing {
                size: 1,
                treehash: Hash::of(b""),
                composite: None,
                at: Timestamp::UNIX_EPOCH,
                lost: false,
            },
        ));
        let sent = read(&[upload.clone(), complete.clone()]);
        assert_eq!(sent.unconfirmed().into_iter().collect::<Vec<_>>(), [1]);
        let done = read(&[upload, complete, archive(1, 0).text().unwrap()]);
        assert!(done.uploads.is_empty() && done.unconfirmed().is_empty());
        assert_eq!(done.archive(1).unwrap().archive_id, "archive-0-1");
    }

    #[test]
    fn a_torn_record_never_hides_the_next() {
        let whole = archive(0, 0).text().unwrap();
        let torn = whole[..whole.len() / 2].to_owned() + "\n";
        assert_eq!(read(&[torn, whole]).archives.len(), 1);
    }

    /// Version 0.1.0 wrote down whatever the service called an upload, and
    /// asked for it for ever.
    #[test]
    fn an_id_that_is_none_is_no_upload_and_no_archive() {
        for bad in ["", "..", "a/b"] {
            let upload = format!("{{\"type\":\"upload\",\"volume\":1,\"upload_id\":\"{bad}\"}}\n");
            let job = format!(
                "{{\"type\":\"inventory\",\"job_id\":\"{bad}\",\"at\":\"1970-01-01T00:00:00Z\"}}\n"
            );
            let stored = archive(1, 0).text().unwrap().replace("archive-0-1", bad);
            let journal = read(&[upload, job, stored]);
            assert!(journal.holds_nothing() && journal.inventory.is_none(), "{bad}: {journal:?}");
        }
    }

    #[test]
    fn a_new_generation_keeps_the_old_archives_apart() {
        let journal = read(&[
            archive(0, 0).text().unwrap(),
            archive(1, 0).text().unwrap(),
            text(&Record::Generation { generation: 1 }),
            archive(0, 1).text().unwrap(),
        ]);
        assert_eq!(journal.generation, 1);
        assert_eq!(journal.archives.keys().copied().collect::<Vec<_>>(), [Target::Volume(0)]);
        assert_eq!(journal.archive(0).unwrap().archive_id, "archive-1-0");
        assert_eq!(journal.archive(1).unwrap().archive_id, "archive-0-1");
    }

    #[test]
    fn what_was_deleted_is_known_no_more_and_the_rest_is_of_an_earlier_attempt() {
        let deleted = |ids: &[&str]| ids.iter().map(|id| (*id).into()).collect();
        let lines = || vec![archive(0, 0), archive(1, 0)];
        let mut whole = Journal::default();
        whole.complement(lines());
        assert!(!whole.forget(&deleted(&["another"])));
        assert_eq!((whole.generation, whole.archives.len()), (0, 2));
        let mut broken = Journal::default();
        broken.complement(lines());
        assert!(broken.forget(&deleted(&["archive-0-0"])));
        assert_eq!((broken.generation, broken.archives.len()), (1, 0));
        assert_eq!(broken.volumes().into_keys().collect::<Vec<_>>(), [1]);
        // The attempt that began then is not given up for it again.
        let mut later = read(&[text(&Record::Generation { generation: 1 })]);
        later.complement([lines(), vec![archive(0, 1)]].concat());
        assert!(!later.forget(&deleted(&["archive-0-0"])));
        assert_eq!((later.generation, later.archives.len()), (1, 1));
    }

    #[test]
    fn what_only_the_catalog_knows_is_good_again_if_its_bytes_are() {
        let mut journal = read(&[
            text(&Record::Generation { generation: 1 }),
            archive(0, 1).text().unwrap(),
            archive(1, 1).text().unwrap(),
        ]);
        journal.complement(vec![archive(0, 0), archive(0, 1), archive(2, 0)]);
        let ids = |volume| -> Vec<&str> {
            let earlier = journal.earlier.get(&volume).into_iter().flatten();
            earlier.map(|known| known.archive_id.as_str()).collect()
        };
        assert_eq!((ids(0), ids(1), ids(2)), (vec!["archive-0-0"], vec![], vec!["archive-0-2"]));
        let now = journal.archive(0).map(|known| known.archive_id.as_str());
        assert_eq!(now, Some("archive-1-0"), "the journal decides what is known");
    }
}
