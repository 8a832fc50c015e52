//! A catalog against an inventory: what only one of them has.
//!
//! Memory holds the inventory and the differences, not the catalog.

use std::collections::{BTreeMap, HashMap};

use jiff::{SignedDuration, Timestamp};

use super::Printer;
use super::inventory::print_one;
use super::table::minute;
use crate::catalog::rebuild::inventoried;
use crate::error::Result;
use crate::line::{Archive, Deleted, Id, Inventoried, Line, Stored};
use crate::storage::Inventory;
use crate::units;

/// A comparison that is under way.
#[derive(Debug)]
pub struct Diff<'i> {
    inventory: &'i Inventory,
    dest: String,
    region: String,
    by_id: HashMap<&'i str, usize>,
    /// Whether the catalog has the archive, and the same of it.
    known: Vec<bool>,
    /// What the catalog has and the inventory has not, or otherwise; by id.
    lines: BTreeMap<Id, Line>,
    deleted: HashMap<Id, Timestamp>,
    /// What is younger than that need not be in it.
    lag: SignedDuration,
}

/// What it comes to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Lines of the catalog whose archive the inventory does not have, or has
    /// with another size or hash.
    pub catalog: Vec<Line>,
    /// Archives of ours that the catalog does not have, or has otherwise.
    pub vault: Vec<Inventoried>,
    /// Archives of the catalog that are too young for the inventory.
    pub later: u64,
}

impl Difference {
    /// Prints what differs; whether anything does.
    ///
    /// # Errors
    /// When standard output cannot take it.
    pub fn print(self, mut printer: Printer) -> Result<bool> {
        let differs = !(self.catalog.is_empty() && self.vault.is_empty());
        for line in self.catalog {
            let cells = match &line {
                Line::Archive(it) => Some((it.uploaded, Some(it.size), &it.host, &it.name)),
                Line::Stored(it) => Some((it.stored, None, &it.host, &it.name)),
                _ => None,
            };
            let cells = cells.map(|(time, size, host, name)| {
                let size = size.map(units::bytes).unwrap_or_default();
                vec![minute(time), size, host.clone(), format!("in the catalog only: {name}")]
            });
            printer.print(&line, || cells.unwrap_or_default())?;
        }
        for line in self.vault {
            print_one(line, &mut printer)?;
        }
        printer.finish()?;
        Ok(differs)
    }
}

impl<'i> Diff<'i> {
    /// Nothing of the catalog was seen yet. What is younger than `lag` need
    /// not be in the inventory.
    pub fn new(inventory: &'i Inventory, dest: &str, region: &str, lag: SignedDuration) -> Self {
        let archives = inventory.archives.iter().enumerate();
        Self {
            inventory,
            dest: dest.to_owned(),
            region: region.to_owned(),
            by_id: archives.map(|(index, it)| (it.archive_id.as_str(), index)).collect(),
            known: vec![false; inventory.archives.len()],
            lines: BTreeMap::new(),
            deleted: HashMap::new(),
            lag,
        }
    }

    /// Takes a line of the catalog; those of other destinations say nothing.
    pub fn take(&mut self, line: Line) {
        match &line {
            Line::Archive(Archive { dest, region, archive_id, .. })
                if self.is_here(dest, region) =>
            {
                self.compare(archive_id.clone(), line);
            }
            Line::Stored(Stored { dest, region, manifest_id: Some(id), .. })
                if self.is_here(dest, region) =>
            {
                self.compare(id.clone(), line);
            }
            Line::Deleted(Deleted { dest, archive_id: Some(id), deleted, .. })
                if dest.as_deref() == Some(&self.dest) =>
            {
                self.deleted.insert(id.clone(), *deleted);
            }
            _ => {}
        }
    }

    fn is_here(&self, dest: &str, region: &str) -> bool {
        dest == self.dest && region == self.region
    }

    fn compare(&mut self, id: Id, line: Line) {
        let index = self.by_id.get(id.as_str()).copied();
        let there = index.and_then(|index| self.inventory.archives.get(index));
        let is_same = there.is_some_and(|there| match &line {
            Line::Archive(line) => there.is(line),
            _ => true,
        });
        match index.and_then(|index| self.known.get_mut(index)) {
            Some(known) if is_same => *known = true,
            _ => drop(self.lines.insert(id, line)),
        }
    }

    /// What differs.
    pub fn finish(self) -> Difference {
        let made = self.inventory.made;
        let mut difference = Difference::default();
        for (id, line) in self.lines {
            let time = match &line {
                Line::Archive(line) => line.uploaded,
                Line::Stored(line) => line.stored,
                _ => made,
            };
            let is_there = self.by_id.contains_key(id.as_str());
            if self.deleted.contains_key(&id) {
                // Gone, and the catalog knows.
            } else if !is_there && made.duration_since(time) < self.lag {
                difference.later += 1;
            } else {
                difference.catalog.push(line);
            }
        }
        for (archive, known) in self.inventory.archives.iter().zip(self.known) {
            let line = inventoried(archive, self.inventory, &self.dest, &self.region);
            // One that is deleted stays in the inventories made before.
            let is_due = match self.deleted.get(&archive.archive_id) {
                Some(deleted) => *deleted < made,
                None => !known,
            };
            if is_due && line.of.kind.is_some() {
                difference.vault.push(line);
            }
        }
        difference
    }
}
