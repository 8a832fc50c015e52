//! Which request may be made next, and what follows from its answer.

use std::ops::Bound;

use jiff::Timestamp;

use super::{Action, Ask, Effect, Outcome, Plan};
use crate::error::{Error, Result};
use crate::hash::tree::Hash;
use crate::line::description::Description;
use crate::line::{Id, Stored};
use crate::spool::journal::{Completing, Confirmed, Record, Target};
use crate::storage::{Answer, Failure, Limits, Lookup, Proof, Seal, Seen};
use crate::tools::put::upload::{Item, Phase, Piece};

/// Uploads of one volume that the service may forget.
const LOSSES: u32 = 2;

/// What comes next of an archive in the making.
enum Step {
    /// Nothing, before an answer or a line comes.
    Wait,
    Begin {
        stamp: usize,
    },
    List(Id),
    Send {
        upload: Id,
        part: usize,
        offset: u64,
        piece: Piece,
    },
    Complete {
        upload: Id,
        seal: Seal,
        repeated: bool,
    },
    LookUp(Completing),
}

impl Plan {
    /// The next request that may be made now, and what must be done before
    /// it. `open` tells whether the window of a stamp is open.
    ///
    /// # Errors
    /// When uploads are lost again and again, or a description does not fit,
    /// though chunk has seen that it does.
    pub fn next(
        &mut self,
        now: Timestamp,
        mut open: impl FnMut(usize) -> bool,
    ) -> Result<Option<(Vec<Effect>, Action)>> {
        if let Some((target, losses)) = self.hopeless {
            return Err(Error::Refused(format!(
                "{target}: the service has dropped its upload {losses} times; use a smaller --volume-size"
            )));
        }
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

    /// What comes next of an archive in the making, be the window open or not.
    fn next_step(&self, target: Target) -> Result<Step> {
        let Some(item) = self.items.get(&target) else { return Ok(Step::Wait) };
        let upload = self.journal.uploads.get(&target);
        let completing = upload.and_then(|upload| upload.completing);
        // Whether a stored volume is the same is not known yet: its parts may
        // only be hashed, and its line tells chunk, too, that they must be
        // spooled. An upload of an earlier run waits for it as a new one does.
        let known = matches!(target, Target::Volume(v) if self.journal.archive(v).is_some());
        let undecided = known && item.closed.is_none();
        Ok(match (&item.phase, completing) {
            (Phase::Unconfirmed, None) => {
                return Err(Error::Bug(format!("{target}: unconfirmed, yet never completed")));
            }
            (Phase::Unconfirmed, Some(asked)) => Step::LookUp(asked),
            (Phase::Resumed(_), Some(asked)) if asked.lost => Step::LookUp(asked),
            // Repeated at once: it is idempotent for a short time only.
            (Phase::Resumed(upload), Some(asked)) if !item.doubted => {
                Step::Complete { upload: upload.clone(), seal: seal(&asked), repeated: true }
            }
            (Phase::Resumed(upload), _) if !item.parts.is_empty() => Step::List(upload.clone()),
            (Phase::Fresh | Phase::Open(_), _) if undecided => Step::Wait,
            (Phase::Fresh, _) => {
                item.parts.first().map_or(Step::Wait, |first| Step::Begin { stamp: first.stamp })
            }
            (Phase::Open(upload), _) => {
                let seal = item.is_sent().then(|| item.seal()).flatten();
                match (item.next(self.stream.part_size), seal) {
                    (Some((part, offset, piece)), _) => {
                        Step::Send { upload: upload.clone(), part, offset, piece }
                    }
                    (None, Some(seal)) => {
                        Step::Complete { upload: upload.clone(), seal, repeated: false }
                    }
                    (None, None) => Step::Wait,
                }
            }
            _ => Step::Wait,
        })
    }

    fn start(
        &mut self,
        target: Target,
        now: Timestamp,
        open: &mut impl FnMut(usize) -> bool,
    ) -> Result<Option<(Vec<Effect>, Action)>> {
        let step = self.next_step(target)?;
        if step.stamp().is_some_and(|stamp| !open(stamp)) {
            return Ok(None);
        }
        let description = self.description(target);
        let Some(item) = self.items.get_mut(&target) else { return Ok(None) };
        let mut effects = Vec::new();
        let ask = match step {
            Step::Wait => return Ok(None),
            Step::Begin { .. } => {
                item.phase = Phase::Opening;
                Ask::Begin { about: description }
            }
            Step::List(upload) => {
                item.phase = Phase::Opening;
                Ask::List { upload }
            }
            Step::Send { upload, part, offset, piece } => {
                item.going(part);
                Ask::Send { upload, part, offset, piece }
            }
            Step::Complete { upload, seal, repeated } => {
                item.phase = Phase::Completing;
                let Seal { size, treehash, composite, .. } = seal;
                // A repeated one may have its effect only now, and the
                // inventory must be younger than that.
                let asked = Completing { size, treehash, composite, at: now, lost: false };
                self.record(Record::complete(target, &asked), &mut effects);
                Ask::Complete { upload, seal, repeated }
            }
            Step::LookUp(asked) => {
                item.phase = Phase::Searching;
                let ticket = self.journal.inventory.clone().map(|(job, _)| job);
                // It was described when its upload began.
                let upload = self.journal.uploads.get(&target);
                let generation = upload.map_or(description.generation, |of| of.generation);
                let about = Description { generation, ..description };
                Ask::LookUp { about, seal: seal(&asked), ticket }
            }
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
            (Ask::Begin { .. }, Outcome::Begun(upload)) => {
                if self.items.get(&target).is_some_and(|item| item.phase == Phase::Opening) {
                    self.phase(target, Phase::Open(upload.clone()));
                    self.record(Record::upload(target, upload), &mut effects);
                } else {
                    effects.push(Effect::Abort(upload));
                }
            }
            (Ask::List { upload }, Outcome::Held(parts)) => {
                let wanted = self.wants(action);
                if let Some(item) = self.items.get_mut(&target).filter(|_| wanted) {
                    item.phase = Phase::Open(upload.clone());
                    item.hold(parts);
                }
                self.check_held(target, &mut effects);
            }
            (Ask::Send { part, piece, .. }, outcome) => {
                let wanted = self.wants(action);
                if let Some(item) = self.items.get_mut(&target).filter(|_| wanted) {
                    match outcome {
                        Outcome::Sent(sent) => {
                            item.arrived(*part, sent.tag.clone());
                            if let (Some(tag), Ok(part)) = (sent.tag, u32::try_from(*part)) {
                                let record = Record::sent(target, part, piece.sha256, tag);
                                self.record(record, &mut effects);
                            }
                        }
                        _ => item.back(*part),
                    }
                }
            }
            (
                Ask::Complete { upload, seal, .. },
                Outcome::Completed(Answer { at, value: seen }),
            ) => {
                let archive = confirmed(seal, seen, at);
                match target {
                    // The upload was given up meanwhile, and another may be
                    // under way.
                    Target::Volume(volume) if !self.has(target, upload) => {
                        self.record(Record::orphan(volume, archive), &mut effects);
                    }
                    _ => self.archived(target, archive, &mut effects)?,
                }
            }
            (Ask::LookUp { seal, ticket, .. }, Outcome::LookedUp(Answer { at, value })) => {
                match value {
                    Lookup::Same(seen) | Lookup::Listed(seen) => {
                        let uploaded = seen.at.unwrap_or(at);
                        let archive = confirmed(seal, seen, uploaded);
                        // Where nothing lapses, what is left of it would cost.
                        let upload = self.journal.uploads.get(&target);
                        if let (None, Some(upload)) = (self.limits.idle_upload, upload) {
                            effects.push(Effect::Abort(upload.id.clone()));
                        }
                        self.archived(target, archive, &mut effects)?;
                    }
                    Lookup::Other(what) => {
                        return Err(Error::Data(format!(
                            "{target}: {what}; nothing is replaced; each machine needs a prefix of its own, and a lost catalog comes back by glacier-ls inventory --rebuild"
                        )));
                    }
                    Lookup::Absent { as_of } => {
                        self.not_found(target, as_of, ticket.as_ref(), &mut effects);
                    }
                    Lookup::Later(job) => {
                        self.phase(target, Phase::Waiting);
                        if let Some(job_id) = job.filter(|job| ticket.as_ref() != Some(job)) {
                            self.record(Record::Inventory { job_id, at }, &mut effects);
                        }
                    }
                }
            }
            (ask, outcome) => {
                return Err(Error::Bug(format!("{target}: {ask:?} came to {outcome:?}")));
            }
        }
        Ok(effects)
    }

    /// An archive is not in the inventory: proof that there is none only if
    /// the inventory is young enough. If it is not, another is asked for.
    fn not_found(
        &mut self,
        target: Target,
        made: Timestamp,
        job: Option<&Id>,
        effects: &mut Vec<Effect>,
    ) {
        let upload = self.journal.uploads.get(&target);
        let asked = upload.and_then(|upload| upload.completing).map(|asked| asked.at);
        let known = self.journal.inventory.as_ref().filter(|(known, _)| job == Some(known));
        let silence = known.zip(asked).map(|((_, wanted), at)| wanted.duration_since(at));
        let Limits { list_lag, list_silence, .. } = self.limits;
        let is_silent = silence.zip(list_silence).is_some_and(|(now, most)| now >= most);
        let is_early = asked.is_some_and(|at| made.duration_since(at) < list_lag);
        if is_early && !is_silent {
            self.phase(target, Phase::Unconfirmed);
            self.journal.inventory.take_if(|(known, _)| job == Some(known));
        } else {
            if is_early {
                effects.push(Effect::Warn(format!(
                    "{target}: the vault has not changed for three days, so it is not there; sent again"
                )));
            }
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
        // I2: its parts would go, and nothing would bring it back.  Held by
        // tests::cases::an_archive_with_the_name_of_another_is_none.
        if let Some(twin) = self.journal.twin(target, &manifest_id) {
            return Err(Error::Data(format!(
                "{target}: the service gives it the name of {twin}, {manifest_id}; all of it is kept"
            )));
        }
        let treehash = archive.treehash;
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
                let closed = self.items.get(&target).and_then(|item| item.closed);
                if closed.is_some_and(|closed| closed.treehash != treehash) {
                    // It is that of an earlier attempt; this one's is to come.
                    self.phase(target, Phase::Fresh);
                    return Ok(());
                }
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

    /// The request for a part with the linear hash that it has, which its
    /// line did not tell.
    pub fn corrected(&mut self, mut action: Action, true_hash: Hash) -> Action {
        if let Ask::Send { part, piece, .. } = &mut action.ask {
            piece.sha256 = true_hash;
            let item = self.items.get_mut(&action.target);
            if let Some(known) = item.and_then(|item| item.parts.get_mut(*part)) {
                known.sha256 = true_hash;
            }
        }
        action
    }

    /// Whether the answer to a request is still of interest: a part's or a
    /// list's is not when its upload was given up meanwhile.
    pub fn wants(&self, action: &Action) -> bool {
        match &action.ask {
            Ask::Send { upload, .. } => {
                let item = self.items.get(&action.target);
                item.is_some_and(|item| item.phase == Phase::Open(upload.clone()))
            }
            Ask::List { upload } => self.has(action.target, upload),
            _ => true,
        }
    }

    /// Whether an upload is under way.
    fn has(&self, target: Target, upload: &Id) -> bool {
        self.journal.uploads.get(&target).is_some_and(|known| known.id == *upload)
    }

    /// What a failure that no patience cures is cured by; `None` if by
    /// nothing. `tried` says that an earlier attempt failed, and may yet have
    /// worked.
    pub fn heal(
        &mut self,
        action: &Action,
        failure: &Failure,
        tried: bool,
        now: Timestamp,
    ) -> Option<Vec<Effect>> {
        let target = action.target;
        if let (Ask::Complete { upload, .. }, Failure::Refused(_) | Failure::Invalid(_)) =
            (&action.ask, failure)
        {
            return self.doubt(target, upload);
        }
        // Something stands where the archive was to be: perhaps itself.
        let is_there = matches!(failure, Failure::Exists(_));
        if !is_there && !matches!(failure, Failure::Missing(_))
            || matches!(action.ask, Ask::Begin { .. })
        {
            return None;
        }
        let mut effects = Vec::new();
        match &action.ask {
            // It was given up meanwhile, and came to nothing.
            Ask::Complete { upload, .. } if !self.has(target, upload) => {}
            Ask::Complete { repeated, .. } if is_there || tried || *repeated => {
                self.phase(target, Phase::Unconfirmed);
                self.record(Record::unconfirmed(target, now), &mut effects);
            }
            Ask::Send { .. } | Ask::List { .. } | Ask::Complete { .. } => {
                let item = self.items.get_mut(&target)?;
                item.restart();
                // Nights lie between two losses, and often runs: the journal
                // counts them.
                self.record(Record::lost(target), &mut effects);
                let losses = self.journal.losses.get(&target).copied().unwrap_or_default();
                if losses >= LOSSES {
                    self.hopeless = Some((target, losses));
                }
            }
            _ => return None,
        }
        Some(effects)
    }

    /// A Complete that is refused may be one of parts that are not what they
    /// were announced as: they are looked at, once.
    fn doubt(&mut self, target: Target, upload: &Id) -> Option<Vec<Effect>> {
        if !self.has(target, upload) {
            return Some(Vec::new());
        }
        let item = self.items.get_mut(&target).filter(|item| !item.doubted)?;
        item.doubt(upload);
        Some(Vec::new())
    }

    /// The first archive whose Complete has no answer, though all was tried
    /// that can be today.
    pub fn unconfirmed(&self) -> Option<Target> {
        self.items.iter().find(|(_, item)| item.phase == Phase::Waiting).map(|(target, _)| *target)
    }

    /// A stamp that must be waited for.
    pub fn waits_for(&self) -> Option<usize> {
        self.items.keys().find_map(|target| self.next_step(*target).ok()?.stamp())
    }
}

/// The seal of what was asked for before, by this run or an earlier one.
fn seal(asked: &Completing) -> Seal {
    let Completing { size, treehash, composite, .. } = *asked;
    Seal { size, treehash, composite, parts: [].into() }
}

fn confirmed(seal: &Seal, seen: Seen, uploaded: Timestamp) -> Confirmed {
    let composite = match seen.checksum {
        Some(Proof::Sha256(hash)) => Some(hash),
        _ => None,
    };
    Confirmed {
        archive_id: seen.id,
        size: seal.size,
        treehash: seal.treehash,
        version: seen.version,
        class: seen.class,
        composite,
        etag: seen.tag,
        uploaded,
    }
}

impl Step {
    /// The stamp in whose window it may be.
    fn stamp(&self) -> Option<usize> {
        match self {
            Self::Begin { stamp } => Some(*stamp),
            Self::Send { piece, .. } => Some(piece.stamp),
            _ => None,
        }
    }
}
