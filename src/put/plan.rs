//! What to do next for one stream: a pure function of its lines, its journal
//! and the service's answers. The worker does it.
//!
//! Nothing is sent of a volume that is stored until its last line shows
//! whether it is the same. What is begun is finished in the order of the
//! stream, the manifest last.

use std::collections::BTreeMap;
use std::ops::Bound;

use jiff::Timestamp;

use super::item::{Closed, Item, Phase, Piece};
use crate::description::{Description, Kind};
use crate::error::{Error, Result};
use crate::journal::{Completing, Confirmed, Journal, Record, Target};
use crate::line::{
    Archive, End, HASHES, Hashes, Line, Part, Snapshot, Stored, Stream, VERSION, Volume,
};
use crate::treehash::{Fold, Hash};
use crate::vault::{Failure, Listed};

/// How long after a Complete an inventory must have been made to prove that
/// there is no archive: one is made about once a day.
const INVENTORY_LAG: jiff::SignedDuration = jiff::SignedDuration::from_hours(26);

/// Uploads of one volume that the service may forget.
const LOSSES: u32 = 2;

/// A request to the service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Action {
    /// What it is for.
    pub target: Target,
    /// What to ask.
    pub ask: Ask,
}

/// What is asked of the service.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the fields are those of the calls of the Vault trait")]
pub enum Ask {
    /// Begin an upload.
    Initiate { description: String },
    /// Which parts it holds.
    List { upload: String },
    /// Take a part.
    Send { upload: String, part: usize, offset: u64, piece: Piece },
    /// Make an archive of the upload.
    Complete { upload: String, size: u64, treehash: Hash, repeated: bool },
    /// Whether an archive is in the inventory.
    Find { description: String, size: u64, treehash: Hash, job: Option<String> },
}

/// What came of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the fields are those of the calls of the Vault trait")]
pub enum Outcome {
    /// The upload was begun.
    Initiated(String),
    /// It holds these.
    Listed(Vec<Listed>),
    /// It has the part.
    Sent,
    /// The window closed; the part was not sent.
    Stopped,
    /// It is an archive.
    Completed { archive_id: String, at: Timestamp },
    /// The inventory that was made then has the archive, or not.
    Searched { made: Timestamp, archive: Option<(String, Timestamp)> },
    /// An inventory was asked for.
    Requested { job: String, at: Timestamp },
    /// There is no inventory yet.
    NoInventory,
}

/// What must be done here, in order, before anything else is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Write to the journal.
    Record(Record),
    /// Write to journal, catalog and standard output.
    Publish(Vec<Line>),
    /// Remove the parts of a volume from the spool. I2: it stands behind the
    /// Publish of the volume's archive.
    Clear(u32),
    /// Drop an upload at the service.
    Abort(String),
    /// Say something that does not change the exit code.
    Warn(String),
    /// Make the manifest ready, and give it to [`Plan::manifest`].
    Manifest,
    /// Put the journal away as the receipt, and clear the spool.
    Retire,
}

/// The manifest, made ready in the spool.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// Its `stored` line, which does not name it yet.
    pub stored: Stored,
    /// Its parts.
    pub parts: Vec<Piece>,
}

/// What would be sent.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Estimate {
    /// Volumes.
    pub volumes: u64,
    /// Parts.
    pub parts: u64,
    /// Bytes.
    pub size: u64,
}

/// The state of one stream.
pub struct Plan {
    stream: Stream,
    dest: String,
    region: String,
    journal: Journal,
    items: BTreeMap<Target, Item>,
    /// Everything before this is an archive.
    front: Target,
    /// The volume that lines are awaited of.
    volume: u32,
    /// Where it begins in the stream.
    offset: u64,
    volumes: Fold,
    snapshots: Vec<Snapshot>,
    end: Option<(End, usize)>,
    manifest: Option<Stored>,
    finished: bool,
    /// Looks up the hashes of a stored volume, to name the part that differs.
    first_difference: Option<u32>,
}

impl Plan {
    /// The plan for a stream of which the journal (or receipt) and the
    /// catalog tell what is stored.
    pub fn new(stream: Stream, dest: String, region: String, journal: Journal) -> Self {
        let items = journal
            .uploads
            .iter()
            .map(|(target, upload)| (*target, Item::new(Phase::Resumed(upload.id.clone()))))
            .collect();
        Self {
            stream,
            dest,
            region,
            journal,
            items,
            front: Target::Volume(0),
            volume: 0,
            offset: 0,
            volumes: Fold::default(),
            snapshots: Vec::new(),
            end: None,
            manifest: None,
            finished: false,
            first_difference: None,
        }
    }

    /// The stream's first line.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// The journal as it stands.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// The snapshots of the stream.
    pub fn snapshots(&self) -> &[Snapshot] {
        &self.snapshots
    }

    /// Whether the stream is stored, and nothing is left to do.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// Whether the stream's end was proven to us.
    pub fn has_end(&self) -> bool {
        self.end.is_some()
    }

    /// The volume whose bytes differ from those that are stored, after
    /// [`Plan::take`] has failed because of it; with its parts.
    pub fn difference(&self) -> Option<(u32, Vec<Hash>)> {
        let volume = self.first_difference?;
        let item = self.items.get(&Target::Volume(volume))?;
        Some((volume, item.treehashes()))
    }

    /// Takes the next line of the stream, with the number of its stamp.
    ///
    /// # Errors
    /// When it does not fit behind those before it, or the bytes are not
    /// those that are stored.
    pub fn take(&mut self, line: Line, stamp: usize) -> Result<Vec<Effect>> {
        if self.end.is_some() {
            return Err(Error::Data("a line follows the stream's end".to_owned()));
        }
        match line {
            Line::Snapshot(snapshot) => {
                self.snapshots.push(snapshot);
                Ok(Vec::new())
            }
            Line::Part(part) => self.take_part(&part, stamp),
            Line::Volume(volume) => self.take_volume(&volume),
            Line::End(end) => self.take_end(end, stamp),
            _ => Err(Error::Data("a line that is not part of a stream".to_owned())),
        }
    }

    fn take_part(&mut self, part: &Part, stamp: usize) -> Result<Vec<Effect>> {
        let part_size = self.stream.part_size;
        let target = Target::Volume(self.volume);
        let stored = self.journal.stored.as_ref();
        if let Some(stored) = stored.filter(|stored| part.volume >= stored.volumes) {
            return Err(Error::Data(format!(
                "the stream is stored with {} volumes, and now has more",
                stored.volumes
            )));
        }
        let item = self.items.entry(target).or_insert_with(|| Item::new(Phase::Fresh));
        let expected = item.parts.len();
        let short = item.parts.last().is_some_and(|last| last.size != part_size);
        if part.volume != self.volume || part.part as usize != expected || short {
            return Err(Error::Data(format!(
                "volume {} part {}, where volume {} part {expected} is next",
                part.volume, part.part, self.volume
            )));
        }
        let offset = part_size * expected as u64;
        if part.offset != offset
            || part.size == 0
            || part.size > part_size
            || offset + part.size > self.stream.volume_size
        {
            return Err(Error::Data(format!(
                "volume {} part {}: its offset or size is not one of this stream",
                part.volume, part.part
            )));
        }
        let piece = Piece {
            size: part.size,
            treehash: part.treehash,
            sha256: part.sha256,
            spooled: part.spooled,
            stamp,
        };
        item.push(piece, offset);
        let mut effects = Vec::new();
        if self.journal.archive(self.volume).is_none() {
            self.needs_spool(part)?;
            self.check_held(target, &mut effects);
        }
        Ok(effects)
    }

    /// A part of a volume that is not stored must be in the spool.
    fn needs_spool(&self, part: &Part) -> Result<()> {
        if part.spooled || self.journal.uploads.contains_key(&Target::Volume(part.volume)) {
            return Ok(());
        }
        Err(Error::Unfinished(format!(
            "volume {} part {}: neither stored in {} nor in the spool; run the same command again",
            part.volume, part.part, self.dest
        )))
    }

    /// An upload that holds other bytes is of no use: it is sent anew.
    fn check_held(&mut self, target: Target, effects: &mut Vec<Effect>) {
        let Some(item) = self.items.get_mut(&target) else { return };
        if let Phase::Open(upload) = &item.phase
            && item.conflicts()
        {
            effects.push(Effect::Abort(upload.clone()));
            item.restart();
            self.record(Record::gone(target), effects);
        }
    }

    fn take_volume(&mut self, line: &Volume) -> Result<Vec<Effect>> {
        let target = Target::Volume(self.volume);
        let wrong = |what: &str| Err(Error::Data(format!("volume {}: {what}", line.volume)));
        let Some(item) = self.items.get_mut(&target).filter(|item| !item.parts.is_empty()) else {
            return wrong("its line comes before its parts");
        };
        let treehash = item.parts.iter().map(|piece| piece.treehash).collect::<Fold>().finish();
        let size = item.size();
        if line.volume != self.volume
            || line.parts as usize != item.parts.len()
            || line.size != size
            || line.offset != self.offset
        {
            return wrong("its line does not fit its parts");
        }
        if line.treehash != treehash {
            return wrong("its tree hash is not that of its parts");
        }
        item.closed = Some(Closed { size, treehash });
        self.volume += 1;
        self.offset += size;
        self.volumes.push(treehash);
        self.settle(line.volume)
    }

    /// Decides what becomes of a volume whose lines are all there.
    fn settle(&mut self, volume: u32) -> Result<Vec<Effect>> {
        let target = Target::Volume(volume);
        let mut effects = Vec::new();
        let Some(closed) = self.items.get(&target).and_then(|item| item.closed) else {
            return Err(Error::Bug(format!("volume {volume} was closed and is not")));
        };
        let same = |archive: &Confirmed| archive.treehash == closed.treehash;
        if let Some(archive) = self.journal.archives.get(&target) {
            if same(archive) {
                self.publish(volume, &mut effects)?;
                return Ok(effects);
            }
            if self.journal.stored.is_some() {
                self.first_difference = Some(volume);
                return Err(Error::Data(format!(
                    "volume {volume}: the stream is stored, and its bytes were others"
                )));
            }
            self.next_generation(volume, &mut effects);
        }
        let mut completing = self.journal.uploads.get(&target).and_then(|upload| upload.completing);
        if completing.is_some_and(|completing| completing.treehash != closed.treehash) {
            // It may be an archive by now, of other bytes.
            self.next_generation(volume, &mut effects);
            completing = None;
        }
        if let Some(archive) = self.journal.earlier.get(&volume).filter(|archive| same(archive)) {
            let record = Record::archived(target, archive.clone());
            self.record(record, &mut effects);
            self.publish(volume, &mut effects)?;
            return Ok(effects);
        }
        self.check_held(target, &mut effects);
        let Some(item) = self.items.get_mut(&target) else { return Ok(effects) };
        if let Some(part) = item.parts.iter().position(|piece| !piece.spooled)
            && completing.is_none()
        {
            return Err(Error::Unfinished(format!(
                "volume {volume} part {part}: not in the spool; run the same command again"
            )));
        }
        Ok(effects)
    }

    /// Gives the attempt so far up: a volume that is stored, or may be, has
    /// changed.
    fn next_generation(&mut self, volume: u32, effects: &mut Vec<Effect>) {
        let target = Target::Volume(volume);
        if let Some(item) = self.items.get_mut(&target) {
            item.restart();
        }
        if self.journal.uploads.contains_key(&target) {
            self.record(Record::gone(target), effects);
        }
        let generation = self.journal.generation + 1;
        self.record(Record::Generation { generation }, effects);
        // What was seen to be the same is part of the new attempt.
        let same: Vec<u32> = self
            .items
            .iter()
            .filter(|(_, item)| item.phase == Phase::Archived)
            .filter_map(|(target, _)| match target {
                Target::Volume(volume) => Some(*volume),
                Target::Manifest => None,
            })
            .collect();
        for volume in same {
            if let Some(archive) = self.journal.earlier.get(&volume).cloned() {
                self.record(Record::archived(Target::Volume(volume), archive), effects);
                effects.extend(self.lines(volume).map(Effect::Publish));
            }
        }
    }

    fn take_end(&mut self, end: End, stamp: usize) -> Result<Vec<Effect>> {
        let unfinished = self.items.get(&Target::Volume(self.volume));
        let treehash = self.volumes.clone().finish();
        if unfinished.is_some_and(|item| !item.parts.is_empty())
            || end.volumes != self.volume
            || end.volumes == 0
            || end.size != self.offset
        {
            return Err(Error::Data("the end does not fit the volumes before it".to_owned()));
        }
        if end.treehash != treehash {
            return Err(Error::Data("the end's tree hash is not that of the volumes".to_owned()));
        }
        if let Some(stored) = &self.journal.stored
            && (stored.volumes, stored.size, stored.treehash) != (end.volumes, end.size, treehash)
        {
            return Err(Error::Data(format!(
                "the stream is stored with {} bytes, and now has {}",
                stored.size, end.size
            )));
        }
        self.end = Some((end, stamp));
        Ok(self.conclude())
    }

    /// When every volume is stored: the manifest, or, where that is stored
    /// too, the end.
    fn conclude(&mut self) -> Vec<Effect> {
        let archived = |volume| {
            let item = self.items.get(&Target::Volume(volume));
            item.is_some_and(|item| item.phase == Phase::Archived)
        };
        let mut effects = Vec::new();
        let Some((end, _)) = &self.end else { return effects };
        if self.finished || self.manifest.is_some() || !(0..end.volumes).all(archived) {
            return effects;
        }
        if let Some(stored) = self.journal.stored.clone() {
            self.finish(stored, &mut effects);
            return effects;
        }
        let orphans: Vec<&Confirmed> = self
            .journal
            .earlier
            .iter()
            .filter(|(volume, archive)| {
                let now = self.journal.archives.get(&Target::Volume(**volume));
                now.is_none_or(|now| now.archive_id != archive.archive_id)
            })
            .map(|(_, archive)| archive)
            .collect();
        if !orphans.is_empty() {
            let size = crate::units::bytes(orphans.iter().map(|archive| archive.size).sum());
            let ids: Vec<&str> =
                orphans.iter().map(|archive| archive.archive_id.as_str()).collect();
            effects.push(Effect::Warn(format!(
                "{}: changed since it was first sent; no longer part of it, with {size}: {}",
                self.stream.name,
                ids.join(" ")
            )));
        }
        effects.push(Effect::Manifest);
        effects
    }

    /// I1: only a stream whose end was proven, and whose volumes are all
    /// stored, comes to this. Held by `tests::no_end_no_manifest`.
    fn finish(&mut self, stored: Stored, effects: &mut Vec<Effect>) {
        let mut lines: Vec<Line> = self.snapshots.iter().cloned().map(Line::Snapshot).collect();
        lines.push(Line::Stored(stored.clone()));
        self.journal.stored = Some(stored);
        self.finished = true;
        effects.extend([Effect::Publish(lines), Effect::Retire]);
    }

    /// The `stored` line of the stream, at the time its manifest is made.
    ///
    /// # Errors
    /// When the stream's end is not there: a bug.
    pub fn stored(&self, now: Timestamp) -> Result<Stored> {
        let Some((end, _)) = &self.end else {
            return Err(Error::Bug("a manifest of a stream that has no end".to_owned()));
        };
        let stream = &self.stream;
        Ok(Stored {
            v: VERSION,
            stream: stream.stream,
            host: stream.host.clone(),
            name: stream.name.clone(),
            format: stream.format,
            guid: stream.guid,
            from_guid: stream.from_guid,
            compound: stream.compound,
            resumed: stream.resumed,
            generation: self.journal.generation,
            volumes: end.volumes,
            size: end.size,
            treehash: end.treehash,
            whole: end.whole.clone(),
            dest: self.dest.clone(),
            region: self.region.clone(),
            manifest_id: None,
            stored: now,
        })
    }

    /// Takes the manifest that [`Effect::Manifest`] asked for.
    ///
    /// # Errors
    /// When it was not asked for: a bug.
    pub fn manifest(&mut self, manifest: Manifest) -> Result<Vec<Effect>> {
        let Some((_, stamp)) = self.end else {
            return Err(Error::Bug("a manifest of a stream that has no end".to_owned()));
        };
        let item = self.items.entry(Target::Manifest).or_insert_with(|| Item::new(Phase::Fresh));
        let treehash = manifest.parts.iter().map(|part| part.treehash).collect::<Fold>().finish();
        let mut offset = 0;
        for piece in manifest.parts {
            item.push(Piece { stamp, ..piece }, offset);
            offset += piece.size;
        }
        item.closed = Some(Closed { size: offset, treehash });
        if item.phase == Phase::Archived {
            // Only an archive with these very bytes is its manifest.
            item.restart();
        }
        let stored = manifest.stored;
        let archive = self.journal.archives.get(&Target::Manifest);
        let mut effects = Vec::new();
        match archive.filter(|archive| archive.treehash == treehash).cloned() {
            Some(archive) => {
                self.finish(
                    Stored { manifest_id: Some(archive.archive_id), ..stored },
                    &mut effects,
                );
            }
            None => self.manifest = Some(stored),
        }
        Ok(effects)
    }

    /// The next request that may be made now, and what must be done before
    /// it. `open` tells whether the window of a stamp is open.
    ///
    /// # Errors
    /// When a description does not fit: chunk has seen that it does.
    pub fn next(
        &mut self,
        now: Timestamp,
        mut open: impl FnMut(usize) -> bool,
    ) -> Result<Option<(Vec<Effect>, Action)>> {
        let archived = |item: &Item| item.phase == Phase::Archived;
        while self.items.get(&self.front).is_some_and(archived) {
            let Target::Volume(volume) = self.front else { break };
            self.front = Target::Volume(volume + 1);
        }
        let mut from = Bound::Included(self.front);
        while let Some(target) = self.items.range((from, Bound::Unbounded)).next().map(|i| *i.0) {
            if let Some(started) = self.start(target, now, &mut open)? {
                return Ok(Some(started));
            }
            from = Bound::Excluded(target);
        }
        Ok(None)
    }

    fn start(
        &mut self,
        target: Target,
        now: Timestamp,
        open: &mut impl FnMut(usize) -> bool,
    ) -> Result<Option<(Vec<Effect>, Action)>> {
        let description = self.description(target);
        let known = matches!(target, Target::Volume(v) if self.journal.archive(v).is_some());
        let upload = self.journal.uploads.get(&target);
        let completing = upload.and_then(|upload| upload.completing);
        let Some(item) = self.items.get_mut(&target) else { return Ok(None) };
        let mut effects = Vec::new();
        let ask = match item.phase.clone() {
            Phase::Resumed(upload) => match completing {
                // Repeated at once: it is idempotent for a short time only.
                Some(asked) => {
                    item.phase = Phase::Completing;
                    let Completing { size, treehash, .. } = asked;
                    Ask::Complete { upload, size, treehash, repeated: true }
                }
                None if item.parts.is_empty() => return Ok(None),
                None => {
                    item.phase = Phase::Opening;
                    Ask::List { upload }
                }
            },
            Phase::Fresh => {
                // Whether a stored volume is the same is not known yet.
                let undecided = known && item.closed.is_none();
                match item.parts.first() {
                    Some(first) if !undecided && open(first.stamp) => {}
                    _ => return Ok(None),
                }
                item.phase = Phase::Opening;
                let description = description.text().map_err(Error::Bug)?;
                Ask::Initiate { description }
            }
            Phase::Open(upload) => match item.next(self.stream.part_size) {
                Some((part, offset, piece)) => {
                    if !open(piece.stamp) {
                        return Ok(None);
                    }
                    item.going(part);
                    Ask::Send { upload, part, offset, piece }
                }
                None => match item.closed.filter(|_| item.is_sent()) {
                    None => return Ok(None),
                    Some(Closed { size, treehash }) => {
                        item.phase = Phase::Completing;
                        self.record(Record::complete(target, size, treehash, now), &mut effects);
                        Ask::Complete { upload, size, treehash, repeated: false }
                    }
                },
            },
            Phase::Unconfirmed => match completing {
                Some(asked) => {
                    item.phase = Phase::Searching;
                    let Completing { size, treehash, .. } = asked;
                    let job = self.journal.inventory.clone().map(|(job, _)| job);
                    let description = description.text().map_err(Error::Bug)?;
                    Ask::Find { description, size, treehash, job }
                }
                None => {
                    return Err(Error::Bug(format!("{target}: unconfirmed, yet never completed")));
                }
            },
            Phase::Opening
            | Phase::Completing
            | Phase::Searching
            | Phase::Waiting
            | Phase::Archived => return Ok(None),
        };
        Ok(Some((effects, Action { target, ask })))
    }

    /// Takes what came of a request.
    ///
    /// # Errors
    /// When the work cannot go on.
    pub fn done(&mut self, action: &Action, outcome: Outcome) -> Result<Vec<Effect>> {
        let target = action.target;
        let mut effects = Vec::new();
        match (&action.ask, outcome) {
            (Ask::Initiate { .. }, Outcome::Initiated(upload)) => {
                if self.items.get(&target).is_some_and(|item| item.phase == Phase::Opening) {
                    self.phase(target, Phase::Open(upload.clone()));
                    self.record(Record::upload(target, upload), &mut effects);
                } else {
                    effects.push(Effect::Abort(upload));
                }
            }
            (Ask::List { upload }, Outcome::Listed(parts)) => {
                if let Some(item) = self.items.get_mut(&target) {
                    item.phase = Phase::Open(upload.clone());
                    item.hold(&parts);
                }
                self.check_held(target, &mut effects);
            }
            (Ask::Send { upload, part, .. }, outcome) => {
                // An upload that was given up meanwhile is of no interest.
                if let Some(item) = self.items.get_mut(&target)
                    && item.phase == Phase::Open(upload.clone())
                {
                    match outcome {
                        Outcome::Sent => item.arrived(*part),
                        _ => item.back(*part),
                    }
                }
            }
            (Ask::Complete { size, treehash, .. }, Outcome::Completed { archive_id, at }) => {
                let archive =
                    Confirmed { archive_id, size: *size, treehash: *treehash, uploaded: at };
                self.archived(target, archive, &mut effects)?;
            }
            (Ask::Find { size, treehash, .. }, Outcome::Searched { made, archive }) => {
                match archive {
                    Some((archive_id, at)) => {
                        let archive = Confirmed {
                            archive_id,
                            size: *size,
                            treehash: *treehash,
                            uploaded: at,
                        };
                        self.archived(target, archive, &mut effects)?;
                    }
                    None => self.not_found(target, made, &mut effects),
                }
            }
            (Ask::Find { .. }, Outcome::Requested { job, at }) => {
                self.phase(target, Phase::Waiting);
                self.record(Record::Inventory { job_id: job, at }, &mut effects);
            }
            (Ask::Find { .. }, Outcome::NoInventory) => self.phase(target, Phase::Waiting),
            (ask, outcome) => {
                return Err(Error::Bug(format!("{target}: {ask:?} came to {outcome:?}")));
            }
        }
        Ok(effects)
    }

    /// An archive is not in the inventory: proof that there is none only if
    /// the inventory is young enough.
    fn not_found(&mut self, target: Target, made: Timestamp, effects: &mut Vec<Effect>) {
        let upload = self.journal.uploads.get(&target);
        let asked = upload.and_then(|upload| upload.completing).map(|asked| asked.at);
        if asked.is_some_and(|at| made.duration_since(at) < INVENTORY_LAG) {
            self.phase(target, Phase::Waiting);
        } else {
            if let Some(item) = self.items.get_mut(&target) {
                item.restart();
            }
            self.record(Record::gone(target), effects);
        }
    }

    fn archived(
        &mut self,
        target: Target,
        archive: Confirmed,
        effects: &mut Vec<Effect>,
    ) -> Result<()> {
        let manifest_id = archive.archive_id.clone();
        self.record(Record::archived(target, archive), effects);
        match target {
            Target::Volume(volume) => {
                if self.items.get(&target).is_some_and(|item| item.closed.is_some()) {
                    effects.extend(self.settle(volume)?);
                    effects.extend(self.conclude());
                } else {
                    // Confirmed before its lines came: they decide.
                    self.phase(target, Phase::Fresh);
                }
            }
            Target::Manifest => {
                self.phase(target, Phase::Archived);
                // Confirmed before its lines came: Plan::manifest compares.
                if let Some(stored) = self.manifest.take() {
                    let stored = Stored { manifest_id: Some(manifest_id), ..stored };
                    self.finish(stored, effects);
                }
            }
        }
        Ok(())
    }

    /// What a failure that no patience cures is cured by; `None` if by
    /// nothing. `tried` says that an earlier attempt failed, and may yet have
    /// worked.
    ///
    /// # Errors
    /// When uploads are lost again and again.
    pub fn heal(
        &mut self,
        action: &Action,
        failure: &Failure,
        tried: bool,
    ) -> Result<Option<Vec<Effect>>> {
        let target = action.target;
        if !matches!(failure, Failure::Missing(_)) || matches!(action.ask, Ask::Initiate { .. }) {
            return Ok(None);
        }
        let mut effects = Vec::new();
        match &action.ask {
            Ask::Complete { repeated, .. } if tried || *repeated => {
                self.phase(target, Phase::Unconfirmed);
            }
            Ask::Send { upload, .. } | Ask::List { upload } | Ask::Complete { upload, .. } => {
                let current = self.journal.uploads.get(&target);
                if current.is_none_or(|current| current.id != *upload) {
                    // Another part of it has said so already.
                    return Ok(Some(effects));
                }
                let Some(item) = self.items.get_mut(&target) else { return Ok(None) };
                item.restart();
                item.losses += 1;
                if item.losses >= LOSSES {
                    return Err(Error::Refused(format!(
                        "{target}: the service has dropped its upload {LOSSES} times; use a smaller --volume-size"
                    )));
                }
                self.record(Record::gone(target), &mut effects);
            }
            _ => return Ok(None),
        }
        Ok(Some(effects))
    }

    /// The first archive whose Complete has no answer, though all was tried
    /// that can be today.
    pub fn unconfirmed(&self) -> Option<Target> {
        self.items.iter().find(|(_, item)| item.phase == Phase::Waiting).map(|(target, _)| *target)
    }

    /// A stamp that must be waited for.
    pub fn waits_for(&self) -> Option<usize> {
        self.items.iter().find_map(|(target, item)| {
            let undecided = item.closed.is_none()
                && matches!(target, Target::Volume(v) if self.journal.archive(*v).is_some());
            match item.phase {
                Phase::Fresh if !undecided => item.parts.first().map(|piece| piece.stamp),
                Phase::Open(_) => item.waiting().map(|piece| piece.stamp),
                _ => None,
            }
        })
    }

    /// Bytes announced that must be sent, and bytes of those that are sent.
    pub fn progress(&self) -> (u64, u64) {
        self.items
            .iter()
            .filter(|(_, item)| item.phase != Phase::Archived)
            .fold((0, 0), |(all, sent), (_, item)| (all + item.size(), sent + item.sent()))
    }

    /// What would be sent of the lines so far.
    pub fn estimate(&self) -> Estimate {
        let mut estimate = Estimate::default();
        for item in self.items.values() {
            if item.phase != Phase::Archived && !item.parts.is_empty() {
                estimate.volumes += 1;
                estimate.parts += item.parts.len() as u64;
                estimate.size += item.size();
            }
        }
        estimate
    }

    fn phase(&mut self, target: Target, phase: Phase) {
        if let Some(item) = self.items.get_mut(&target) {
            item.phase = phase;
        }
    }

    fn record(&mut self, record: Record, effects: &mut Vec<Effect>) {
        self.journal.take(record.clone());
        effects.push(Effect::Record(record));
    }

    /// I2: the catalog lines stand before the removal of the parts. Held by
    /// `tests::parts_go_only_behind_their_catalog_lines`.
    fn publish(&mut self, volume: u32, effects: &mut Vec<Effect>) -> Result<()> {
        let lines = self
            .lines(volume)
            .ok_or_else(|| Error::Bug(format!("volume {volume}: stored without an archive")))?;
        effects.extend([Effect::Publish(lines), Effect::Clear(volume)]);
        if let Some(item) = self.items.get_mut(&Target::Volume(volume)) {
            item.settle();
        }
        Ok(())
    }

    /// The catalog lines of a volume.
    fn lines(&self, volume: u32) -> Option<Vec<Line>> {
        let target = Target::Volume(volume);
        let archive = self.journal.archives.get(&target)?;
        let item = self.items.get(&target)?;
        let generation = self.journal.generation;
        let mut lines = Vec::new();
        for (run, treehashes) in item.treehashes().chunks(HASHES).enumerate() {
            lines.push(Line::Hashes(Hashes {
                stream: self.stream.stream,
                generation,
                volume,
                part: u32::try_from(run * HASHES).ok()?,
                dest: self.dest.clone(),
                treehashes: treehashes.to_vec(),
            }));
        }
        lines.push(Line::Archive(Archive {
            v: VERSION,
            stream: self.stream.stream,
            host: self.stream.host.clone(),
            name: self.stream.name.clone(),
            generation,
            volume,
            offset: self.stream.volume_size * u64::from(volume),
            size: archive.size,
            treehash: archive.treehash,
            part_size: self.stream.part_size,
            dest: self.dest.clone(),
            region: self.region.clone(),
            archive_id: archive.archive_id.clone(),
            uploaded: archive.uploaded,
        }));
        Some(lines)
    }

    /// The description of an archive of this stream.
    pub fn description(&self, target: Target) -> Description {
        let (kind, volume) = match target {
            Target::Volume(volume) => (Kind::Volume, Some(volume)),
            Target::Manifest => (Kind::Manifest, None),
        };
        Description {
            v: VERSION,
            kind,
            stream: self.stream.stream,
            generation: self.journal.generation,
            volume,
            host: self.stream.host.clone(),
            name: self.stream.name.clone(),
            guid: self.stream.guid,
            from_guid: self.stream.from_guid,
        }
    }
}
