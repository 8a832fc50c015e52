//! What to do next for one stream: a pure function of its lines, its journal
//! and the service's answers. The worker does it.
//!
//! Nothing is sent of a volume that is stored until its last line shows
//! whether it is the same. What is begun is finished in the order of the
//! stream, the manifest last.

pub(crate) mod catalog_lines;
mod lines;
mod requests;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::hash::tree::{Fold, Hash};
use crate::line::description::Description;
use crate::line::{End, Id, Line, Snapshot, Stored, Stream};
use crate::spool::journal::{Journal, Record, Target};
use crate::storage::{Answer, Held, Limits, Lookup, Seal, Seen, Sent};
use crate::tools::put::upload::{Item, Phase, Piece};

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
#[expect(missing_docs, reason = "the fields are those of the calls of Uploads")]
pub enum Ask {
    /// Begin an upload.
    Begin { about: Description },
    /// Which parts it holds.
    List { upload: Id },
    /// Take a part.
    Send { upload: Id, part: usize, offset: u64, piece: Piece },
    /// Make an archive of the upload.
    Complete { upload: Id, seal: Seal, repeated: bool },
    /// Whether there is an archive.
    LookUp { about: Description, seal: Seal, ticket: Option<Id> },
}

/// What came of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The upload was begun.
    Begun(Id),
    /// It holds these.
    Held(Vec<Held>),
    /// It has the part.
    Sent(Sent),
    /// The window closed; the part was not sent.
    Stopped,
    /// It is an archive.
    Completed(Answer<Seen>),
    /// What the service says of whether there is one.
    LookedUp(Answer<Lookup>),
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
    Abort(Id),
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
    /// Whether the manifest is still to be sent.
    pub manifest: bool,
}

impl Estimate {
    /// Requests: one a part, two to begin and complete each archive, and at
    /// least three for the manifest.
    pub fn requests(&self) -> u64 {
        self.parts + 2 * self.volumes + if self.manifest { 3 } else { 0 }
    }
}

/// The state of one stream.
pub struct Plan {
    stream: Stream,
    dest: String,
    region: String,
    limits: Limits,
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
    /// What the service drops again and again, and how often it did.
    hopeless: Option<(Target, u32)>,
}

impl Plan {
    /// The plan for a stream of which the journal (or receipt) and the
    /// catalog tell what is stored.
    pub fn new(
        stream: Stream,
        (dest, region): (String, String),
        limits: &Limits,
        journal: Journal,
    ) -> Self {
        let uploads = journal.uploads.iter();
        let items = uploads.map(|(target, upload)| (*target, Item::resumed(upload))).collect();
        Self {
            stream,
            dest,
            region,
            limits: limits.clone(),
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
            hopeless: None,
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

    /// Bytes that this run has to send, and those of them that are sent.
    pub fn progress(&self) -> (u64, u64) {
        self.items
            .iter()
            .filter(|(_, item)| item.moved || item.phase != Phase::Archived)
            .map(|(_, item)| match (&item.phase, item.closed) {
                (Phase::Archived, Some(closed)) => (closed.size, closed.size),
                _ => (item.size(), item.sent()),
            })
            .fold((0, 0), |(all, sent), (size, there)| (all + size, sent + there))
    }

    /// What would be sent of the lines so far.
    pub fn estimate(&self) -> Estimate {
        let mut estimate = Estimate { manifest: !self.finished, ..Estimate::default() };
        for item in self.items.values() {
            if item.phase != Phase::Archived && !item.parts.is_empty() {
                estimate.volumes += 1;
                estimate.parts += item.parts.len() as u64;
                estimate.size += item.size();
            }
        }
        estimate
    }

    /// The most bytes that are to be sent of one volume, of the lines so far.
    pub fn largest(&self) -> u64 {
        let items = self.items.values().filter(|item| item.phase != Phase::Archived);
        items.map(|item| item.size() - item.sent()).max().unwrap_or(0)
    }

    /// The stamp of the last part that is to be sent.
    pub fn last_stamp(&self) -> Option<usize> {
        let mut items = self.items.values().rev().filter(|item| item.phase != Phase::Archived);
        items.find_map(|item| item.parts.last()).map(|piece| piece.stamp)
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
}
