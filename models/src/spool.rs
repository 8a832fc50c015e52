//! A spool in memory.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, PoisonError};

use crate::error::{Error, Result};

pub struct Spool;

#[derive(Default)]
pub struct StreamDir {
    /// Parts that were sealed.
    parts: Mutex<BTreeMap<(u32, u32), Vec<u8>>>,
    /// The part that the disk has no room for.
    full_at: Option<(u32, u32)>,
}

pub struct Lock;

impl Lock {
    pub fn unclaim(&self) -> Result<()> {
        Ok(())
    }
}

pub struct Respool;

/// `lines.jsonl`.
pub struct File;

impl io::Write for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub struct PartFile<'a> {
    directory: &'a StreamDir,
    at: (u32, u32),
    bytes: Vec<u8>,
}

impl StreamDir {
    pub fn full_at(full_at: Option<(u32, u32)>) -> Self {
        Self { full_at, ..Self::default() }
    }

    pub fn sealed(&self) -> BTreeMap<(u32, u32), Vec<u8>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn new_lines(&self) -> Result<File> {
        Ok(File)
    }

    pub fn keep_lines(&self, _: &File) -> Result<()> {
        Ok(())
    }

    pub fn create(&self, volume: u32, part: u32) -> Result<PartFile<'_>> {
        Ok(PartFile { directory: self, at: (volume, part), bytes: Vec::new() })
    }

    pub fn remove_from(&self, _: (u32, u32)) -> Result<()> {
        Ok(())
    }

    pub fn note_respool(&self, _: Respool) -> Result<()> {
        Ok(())
    }
}

impl PartFile<'_> {
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if self.directory.full_at == Some(self.at) {
            return Err(Error::io("part", io::Error::from(io::ErrorKind::StorageFull)));
        }
        self.bytes.extend(bytes);
        Ok(())
    }

    pub fn seal(self) -> Result<()> {
        let mut parts = self.directory.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.insert(self.at, self.bytes);
        Ok(())
    }
}
