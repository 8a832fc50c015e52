//! A lost catalog, from the inventory of a vault, or the list of a bucket, and
//! the manifests in it.
//!
//! Every archive says what it is ([`crate::line::description`], or its key), and the manifest
//! of a stream holds its catalog lines. None of that is believed for itself:
//! [`manifest::Check`] compares a manifest with the inventory and with its
//! own sums, and [`Books::decide`] compares manifests with one another. What
//! is left proves that the bytes fit, not who stored them (SECURITY.md).
//! Nothing here touches a file, the network or a clock.

pub mod manifest;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::line::description::Kind;
use crate::line::{Described, Id, Inventoried, Stored, StreamId};
use crate::storage::Inventory;
use manifest::{Check, Manifest};

/// The largest manifest that is looked at: that of 900 TiB in parts of
/// 16 MiB, or of 50 TiB in parts of 1 MiB. One that says to be larger would
/// cost money and a disk to find out.
pub const LARGEST: u64 = 4 << 30;

/// What an inventory lists, and what its manifests were found to say.
#[derive(Debug)]
pub struct Books<'i> {
    inventory: &'i Inventory,
    dest: String,
    region: String,
    by_id: HashMap<&'i str, usize>,
    manifests: Vec<Manifest>,
    refused: Vec<(usize, String)>,
}

/// What is made of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// The manifests whose lines are the catalog's, in its order: each is
    /// where [`Books::take`] put it.
    pub streams: Vec<usize>,
    /// Manifests that are not taken, one message each.
    pub refused: Vec<String>,
    /// Streams that lack archives, one message each.
    pub lacking: Vec<String>,
    /// Archives of ours that no stream here needs.
    pub orphans: Vec<Inventoried>,
}

impl<'i> Books<'i> {
    /// The books of a destination with this inventory.
    pub fn new(inventory: &'i Inventory, dest: &str, region: &str) -> Self {
        let archives = inventory.archives.iter().enumerate();
        let by_id = archives.map(|(index, archive)| (archive.archive_id.as_str(), index)).collect();
        Self {
            inventory,
            dest: dest.to_owned(),
            region: region.to_owned(),
            by_id,
            manifests: Vec::new(),
            refused: Vec::new(),
        }
    }

    /// The manifests that are to be read: where each is in the inventory, and
    /// what the user knows it as. Those that are too large are refused.
    pub fn manifests(&mut self) -> Vec<(usize, String)> {
        let mut wanted = Vec::new();
        for (index, archive) in self.inventory.archives.iter().enumerate() {
            let of = &archive.of;
            if of.kind != Some(Kind::Manifest) || of.stream.is_none() {
                continue;
            }
            if archive.size > LARGEST {
                let (size, most) = (archive.size, crate::units::bytes(LARGEST));
                self.refused.push((index, format!("has {size} bytes, over {most}")));
            } else {
                wanted.push((index, format!("manifest of {}", name(of))));
            }
        }
        wanted
    }

    /// Begins to check the manifest at this place of the inventory.
    pub fn check(&self, index: usize) -> Check<'_> {
        Check::new(self, index)
    }

    /// Takes what [`Check::finish`] gave; for a manifest that is good, the
    /// number by which [`Decision::streams`] names it.
    pub fn take(&mut self, index: usize, checked: Result<Manifest, String>) -> Option<usize> {
        match checked {
            Ok(manifest) => {
                self.manifests.push(manifest);
                Some(self.manifests.len() - 1)
            }
            Err(why) => {
                self.refused.push((index, why));
                None
            }
        }
    }

    /// The `stored` line of a manifest that was taken.
    pub fn stored(&self, number: usize) -> Option<&Stored> {
        self.manifests.get(number).map(|manifest| &manifest.stored)
    }

    /// Which streams are in the catalog, in the order in which they were
    /// stored; what is not, and why.
    pub fn decide(&self) -> Decision {
        let mut decision = Decision::default();
        // What these were of is not known for sure, so nothing of it is told
        // to be of no use.
        let mut open: HashSet<StreamId> = HashSet::new();
        let mut needed: HashSet<usize> = HashSet::new();
        for (index, why) in &self.refused {
            let of = self.of(*index);
            open.extend(of.and_then(|of| of.stream));
            decision.refused.push(format!(
                "{}: manifest {}: {why}; not taken",
                of.map_or_else(String::new, name),
                self.id(*index).map_or("", Id::as_str)
            ));
        }
        let mut streams: BTreeMap<(StreamId, u32), Vec<usize>> = BTreeMap::new();
        for (number, manifest) in self.manifests.iter().enumerate() {
            let key = (manifest.stored.stream, manifest.stored.generation);
            streams.entry(key).or_default().push(number);
        }
        for numbers in streams.values() {
            let all: Vec<(usize, &Manifest)> =
                numbers.iter().filter_map(|n| Some((*n, self.manifests.get(*n)?))).collect();
            let whole: Vec<(usize, &Manifest)> =
                all.iter().copied().filter(|(_, it)| it.missing.is_empty()).collect();
            let Some((_, first)) = whole.first() else {
                let fewest = all.iter().min_by_key(|(_, it)| it.missing.len());
                decision.lacking.extend(fewest.map(|(_, it)| lacking(it)));
                continue;
            };
            if whole.iter().all(|(_, it)| it.agrees_with(first)) {
                let latest = whole.iter().max_by_key(|(_, it)| (it.stored.stored, it.uploaded));
                if let Some((number, latest)) = latest {
                    needed.extend(latest.archives.iter().copied().chain([latest.index]));
                    decision.streams.push(*number);
                }
            } else {
                open.insert(first.stored.stream);
                needed.extend(whole.iter().flat_map(|(_, it)| it.archives.iter().copied()));
                let disputed: Vec<&Manifest> = whole.iter().map(|(_, it)| *it).collect();
                decision.refused.push(self.dispute(&disputed));
            }
        }
        decision.streams.sort_by_key(|number| {
            self.manifests.get(*number).map(|it| (it.stored.stored, it.uploaded, it.index))
        });
        decision.orphans = (0..self.inventory.archives.len())
            .filter(|index| !needed.contains(index))
            .filter(|index| {
                let of = self.of(*index).and_then(|of| of.stream);
                of.is_some_and(|stream| !open.contains(&stream))
            })
            .filter_map(|index| self.line(index))
            .collect();
        decision
    }

    /// What an archive is of.
    fn of(&self, index: usize) -> Option<&Described> {
        self.inventory.archives.get(index).map(|archive| &archive.of)
    }

    fn id(&self, index: usize) -> Option<&Id> {
        self.inventory.archives.get(index).map(|archive| &archive.archive_id)
    }

    fn line(&self, index: usize) -> Option<Inventoried> {
        let archive = self.inventory.archives.get(index)?;
        Some(inventoried(archive, self.inventory, &self.dest, &self.region))
    }

    /// Manifests that disagree, each with what the user needs to look at it.
    fn dispute(&self, manifests: &[&Manifest]) -> String {
        let of = manifests.first().map(|manifest| &manifest.stored);
        let each: Vec<String> = manifests
            .iter()
            .map(|it| {
                let (id, stored) = (self.id(it.index).map_or("", Id::as_str), &it.stored);
                format!("{id} (stored {} on {}, {} bytes)", stored.stored, stored.host, stored.size)
            })
            .collect();
        format!(
            "{}: {} manifests of stream {} disagree: {}; none taken",
            of.map_or("", |of| of.name.as_str()),
            manifests.len(),
            of.map_or_else(String::new, |of| of.stream.to_string()),
            each.join(", ")
        )
    }
}

/// An archive as a line.
pub fn inventoried(
    archive: &crate::storage::Inventoried,
    inventory: &Inventory,
    dest: &str,
    region: &str,
) -> Inventoried {
    Inventoried {
        dest: dest.to_owned(),
        region: region.to_owned(),
        archive_id: archive.archive_id.clone(),
        size: archive.size,
        treehash: archive.treehash(),
        etag: archive.tag.clone(),
        class: archive.class.clone(),
        uploaded: archive.created,
        inventory: inventory.made,
        of: archive.of.clone(),
    }
}

/// What the user knows it as; its stream, where only its key tells.
fn name(of: &Described) -> String {
    let stream = || of.stream.map(|stream| format!("stream {stream}"));
    of.name.clone().or_else(stream).unwrap_or_default()
}

fn lacking(manifest: &Manifest) -> String {
    let Stored { name, stream, volumes, .. } = &manifest.stored;
    let first = manifest.missing.first().copied().unwrap_or_default();
    let missing = manifest.missing.len();
    format!(
        "{name}: {missing} of its {volumes} volumes are not in the inventory, the first is volume {first}; stream {stream} left out"
    )
}
