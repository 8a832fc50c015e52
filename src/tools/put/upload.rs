//! One archive in the making: the parts announced for it, and how far they
//! are on their way.

use std::collections::BTreeMap;
use std::io::{self, Read};

use sha2::{Digest as _, Sha256};

use crate::hash::tree::{Fold, Hash, LEAF, TreeHash};
use crate::line::Id;
use crate::spool::journal::Upload;
use crate::storage::{Held, Seal, Sealed};

/// A part that was announced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Piece {
    /// Bytes.
    pub size: u64,
    /// Its tree hash.
    pub treehash: Hash,
    /// Its SHA-256 hash.
    pub sha256: Hash,
    /// Whether its bytes are in the spool.
    pub spooled: bool,
    /// The number of the stamp that says when it may be sent.
    pub stamp: usize,
}

impl Piece {
    /// The next part of a file, at most `part_size` bytes; `None` at its end.
    ///
    /// # Errors
    /// When reading fails.
    pub fn read(file: impl Read, part_size: u64) -> io::Result<Option<Self>> {
        let mut part = file.take(part_size);
        let (mut linear, mut tree, mut size) = (Sha256::new(), TreeHash::default(), 0);
        let mut leaf = Vec::with_capacity(LEAF);
        while (&mut part).take(LEAF as u64).read_to_end(&mut leaf)? > 0 {
            linear.update(&leaf);
            tree.update(&leaf);
            size += leaf.len() as u64;
            leaf.clear();
        }
        let sha256 = Hash(linear.finalize().into());
        let piece = Self { size, treehash: tree.finish(), sha256, spooled: true, stamp: 0 };
        Ok((size > 0).then_some(piece))
    }
}

/// The end of the archive, once it is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Closed {
    /// Bytes.
    pub size: u64,
    /// The fold of its parts.
    pub treehash: Hash,
}

/// How far a part is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    Here,
    Going,
    There,
}

/// How far the upload is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Phase {
    /// There is none.
    Fresh,
    /// An earlier run began it; what the service holds must be asked.
    Resumed(Id),
    /// It is being begun, or asked about.
    Opening,
    /// It takes parts.
    Open(Id),
    /// It is becoming an archive.
    Completing,
    /// It may have become one: the answer was lost, and the upload is gone.
    Unconfirmed,
    /// It is being looked for in the inventory.
    Searching,
    /// The inventory is not ready, or too old to tell.
    Waiting,
    /// It is an archive.
    Archived,
}

/// One archive in the making.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Item {
    /// How far it is.
    pub phase: Phase,
    /// The parts that were announced, in order; none once it is settled.
    pub parts: Vec<Piece>,
    /// Its end, once it was announced.
    pub closed: Option<Closed>,
    /// Whether its Complete was refused once in this run.
    pub doubted: bool,
    /// Whether any part of it was sent in this run.
    pub moved: bool,
    /// The tree hashes of the parts of what is settled.
    kept: Vec<Hash>,
    ways: Vec<Way>,
    /// Parts before this one are on their way or there.
    first_here: usize,
    there: usize,
    /// What the service held when it was asked, by offset.
    held: BTreeMap<u64, Held>,
    /// What the service calls the parts that it holds, if it names them.
    tags: Vec<Option<String>>,
    /// The hashes and names of parts that earlier runs sent.
    told: BTreeMap<u32, (Hash, String)>,
}

impl Item {
    /// Nothing announced yet.
    pub fn new(phase: Phase) -> Self {
        Self {
            phase,
            parts: Vec::new(),
            closed: None,
            doubted: false,
            moved: false,
            kept: Vec::new(),
            ways: Vec::new(),
            first_here: 0,
            there: 0,
            held: BTreeMap::new(),
            tags: Vec::new(),
            told: BTreeMap::new(),
        }
    }

    /// An upload that an earlier run began, and what it wrote down of it.
    pub fn resumed(upload: &Upload) -> Self {
        Self { told: upload.sent.clone(), ..Self::new(Phase::Resumed(upload.id.clone())) }
    }

    /// Bytes announced.
    pub fn size(&self) -> u64 {
        self.parts.iter().map(|piece| piece.size).sum()
    }

    /// Takes a part that begins at `offset`.
    pub fn push(&mut self, piece: Piece, offset: u64) {
        let held = self.held.get(&offset);
        let held = held.filter(|held| match held.is(piece.size, piece.treehash, piece.sha256) {
            Some(is) => is,
            None => self.was_told(&piece, held.sent.tag.as_deref()),
        });
        let way = if held.is_some() { Way::There } else { Way::Here };
        self.tags.push(held.and_then(|held| held.sent.tag.clone()));
        self.there += usize::from(way == Way::There);
        self.ways.push(way);
        self.parts.push(piece);
    }

    /// Whether the next part was sent by an earlier run, which wrote down that
    /// the service gave it this name.
    fn was_told(&self, piece: &Piece, tag: Option<&str>) -> bool {
        let part = u32::try_from(self.parts.len()).ok();
        let told = part.and_then(|part| self.told.get(&part));
        told.is_some_and(|(sha256, told)| *sha256 == piece.sha256 && tag == Some(told))
    }

    /// Takes what the service holds.
    pub fn hold(&mut self, held: Vec<Held>) {
        self.held = held.into_iter().map(|part| (part.offset, part)).collect();
        self.ways.clear();
        self.tags.clear();
        (self.first_here, self.there) = (0, 0);
        let mut offset = 0;
        for piece in std::mem::take(&mut self.parts) {
            self.push(piece, offset);
            offset += piece.size;
        }
    }

    /// Nothing more is to be sent: only the tree hashes of the parts are kept.
    pub fn settle(&mut self) {
        self.phase = Phase::Archived;
        self.kept = self.treehashes();
        self.parts = Vec::new();
        self.ways = Vec::new();
        self.tags = Vec::new();
    }

    /// What its archive must come to, once its end is known.
    pub fn seal(&self) -> Option<Seal> {
        let Closed { size, treehash } = self.closed?;
        let parts = self.parts.iter().zip(&self.tags);
        let sealed = parts.map(|(piece, tag)| Sealed { sha256: piece.sha256, tag: tag.clone() });
        Some(Seal::of(size, treehash, sealed.collect()))
    }

    /// The tree hashes of the parts.
    pub fn treehashes(&self) -> Vec<Hash> {
        if self.parts.is_empty() {
            self.kept.clone()
        } else {
            self.parts.iter().map(|piece| piece.treehash).collect()
        }
    }

    /// Whether the service holds other bytes than were announced: of a part,
    /// or behind the end.
    pub fn conflicts(&self) -> bool {
        let mut offset = 0;
        for piece in &self.parts {
            let held = self.held.get(&offset);
            let is = held.and_then(|held| held.is(piece.size, piece.treehash, piece.sha256));
            if is == Some(false) {
                return true;
            }
            offset += piece.size;
        }
        self.closed.is_some() && self.held.range(offset..).next().is_some()
    }

    /// The next part to send, and where it begins.
    pub fn next(&self, part_size: u64) -> Option<(usize, u64, Piece)> {
        let mut parts = self.parts.iter().zip(&self.ways).enumerate().skip(self.first_here);
        let (part, (piece, _)) = parts.find(|(_, (_, way))| **way == Way::Here)?;
        Some((part, part_size * part as u64, *piece))
    }

    /// The tree hash of all parts.
    pub fn treehash(&self) -> Hash {
        self.treehashes().into_iter().collect::<Fold>().finish()
    }

    /// Marks a part as on its way.
    pub fn going(&mut self, part: usize) {
        self.moved = true;
        self.set(part, Way::Going);
        while self.ways.get(self.first_here).is_some_and(|way| *way != Way::Here) {
            self.first_here += 1;
        }
    }

    /// Marks a part as not sent: it will be sent again.
    pub fn back(&mut self, part: usize) {
        self.set(part, Way::Here);
        self.first_here = self.first_here.min(part);
    }

    /// Marks a part as held by the service.
    pub fn arrived(&mut self, part: usize, tag: Option<String>) {
        self.set(part, Way::There);
        if let Some(known) = self.tags.get_mut(part) {
            *known = tag;
        }
        self.there += 1;
    }

    fn set(&mut self, part: usize, to: Way) {
        if let Some(way) = self.ways.get_mut(part) {
            *way = to;
        }
    }

    /// Whether the service holds all parts of a finished archive.
    pub fn is_sent(&self) -> bool {
        self.closed.is_some() && self.there == self.parts.len()
    }

    /// Bytes that the service holds.
    pub fn sent(&self) -> u64 {
        let parts = self.parts.iter().zip(&self.ways);
        parts.filter(|(_, way)| **way == Way::There).map(|(piece, _)| piece.size).sum()
    }

    /// Asks the service anew what it holds, and believes nothing else.
    pub fn doubt(&mut self, upload: &Id) {
        self.restart();
        self.doubted = true;
        self.phase = Phase::Resumed(upload.to_owned());
    }

    /// Starts over: the upload is gone, all parts are to be sent.
    pub fn restart(&mut self) {
        self.phase = Phase::Fresh;
        self.held.clear();
        self.told.clear();
        self.tags.iter_mut().for_each(|tag| *tag = None);
        self.ways.iter_mut().for_each(|way| *way = Way::Here);
        (self.first_here, self.there) = (0, 0);
    }
}
