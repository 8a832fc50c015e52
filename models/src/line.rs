//! Lines, as far as chunk's two sides know them: what is printed is compared,
//! and never read.

use std::fmt;

use crate::error::Result;
use crate::hash::tree::Hash;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StreamId(pub u64);

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Guid(pub u64);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Features(pub u64);

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stream {
    pub stream: StreamId,
    pub part_size: u64,
    pub volume_size: u64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    pub stream: StreamId,
    pub name: String,
    pub guid: Guid,
    pub from_guid: Option<Guid>,
    pub created: Option<u64>,
    pub features: Option<Features>,
    pub clone: bool,
    pub offset: u64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part {
    pub stream: StreamId,
    pub volume: u32,
    pub part: u32,
    pub offset: u64,
    pub size: u64,
    pub treehash: Hash,
    pub sha256: Hash,
    pub spooled: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Volume {
    pub stream: StreamId,
    pub volume: u32,
    pub offset: u64,
    pub size: u64,
    pub parts: u32,
    pub treehash: Hash,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct End {
    pub stream: StreamId,
    pub volumes: u32,
    pub size: u64,
    pub treehash: Hash,
    pub whole: String,
    pub misplaced: u64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Line {
    Stream(Stream),
    Snapshot(Snapshot),
    Part(Part),
    Volume(Volume),
    End(End),
}

impl Line {
    pub fn text(&self) -> Result<String> {
        Ok(format!("{self:?}\n"))
    }
}
