//! What the lines of a stream come to: the volumes of each attempt at it, and
//! whether they are all there and fit.

use std::collections::{BTreeMap, HashSet};

use super::{Plan, Stream, Volume};
use crate::error::{Error, Result};
use crate::hash::tree::{Fold, Hash};
use crate::line::{Archive, Snapshot, Stored, StreamId};
use crate::partsize;
use crate::tools::retrieve::Place;

/// The lines of a stream.
#[derive(Debug)]
pub(super) struct Gathered {
    pub(super) id: StreamId,
    pub(super) name: Option<String>,
    /// Where its first `stored` line stands, or its first line if none does.
    pub(super) order: (bool, u64),
    pub(super) attempts: Vec<Attempt>,
    pub(super) snapshots: Vec<Snapshot>,
}

/// The lines of one generation of a stream at one destination.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) generation: u32,
    pub(super) dest: String,
    pub(super) volumes: BTreeMap<u32, Found>,
    /// What stands behind `stored`, and counts if that comes again.
    pub(super) late: BTreeMap<u32, Found>,
    pub(super) stored: Option<Stored>,
}

/// The lines of a volume.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) archive: Option<Archive>,
    /// That archive was deleted.
    pub(super) gone: bool,
    pub(super) hashes: BTreeMap<u32, Vec<Hash>>,
}

impl Gathered {
    /// Marks the archives that were deleted.
    pub(super) fn forget(&mut self, deleted: &HashSet<String>) {
        let volumes = self
            .attempts
            .iter_mut()
            .flat_map(|attempt| attempt.volumes.values_mut().chain(attempt.late.values_mut()));
        for found in volumes {
            let gone = found.archive.as_ref().is_some_and(|it| deleted.contains(&it.archive_id));
            found.gone = gone;
        }
    }

    pub(super) fn attempt(&mut self, generation: u32, dest: &str) -> &mut Attempt {
        let known = self.attempts.iter().position(|a| a.generation == generation && a.dest == dest);
        let index = known.unwrap_or(self.attempts.len());
        if known.is_none() {
            let (volumes, late) = (BTreeMap::new(), BTreeMap::new());
            let dest = dest.to_owned();
            self.attempts.push(Attempt { generation, dest, volumes, late, stored: None });
        }
        #[expect(clippy::indexing_slicing, reason = "the index was found or pushed just above")]
        &mut self.attempts[index]
    }

    /// The stream as it is to be fetched; `None` when nothing of it is there
    /// and that is allowed.
    pub(super) fn plan(mut self, partial: bool, plan: &mut Plan) -> Result<Option<Stream>> {
        let name = self.name.take().unwrap_or_else(|| format!("stream {}", self.id));
        let time = |attempt: &Attempt| attempt.stored.as_ref().map(|stored| stored.stored);
        // Of equals max_by_key takes the last.
        let Some(mut attempt) = self.attempts.into_iter().max_by_key(time) else {
            return lacking(partial, plan, format!("{name}: no \"archive\" line"));
        };
        let why = match attempt.whole(self.id, &name, plan) {
            Ok(stream) => return Ok(Some(Stream { snapshots: self.snapshots, ..stream })),
            Err(why) => format!("{name}: {why}"),
        };
        if !partial {
            return Err(Error::Data(why));
        }
        plan.warnings.push(why);
        attempt.settle();
        let mut stream = Stream {
            id: self.id,
            name,
            size: 0,
            treehash: None,
            volumes: Vec::new(),
            snapshots: self.snapshots,
            stored: attempt.stored.clone(),
        };
        let end = attempt.volumes.last_key_value().map_or(0, |(last, _)| last.saturating_add(1));
        let end = attempt.stored.as_ref().map_or(end, |stored| stored.volumes.max(end));
        let mut missing = 0;
        for (number, found) in &attempt.volumes {
            match found.volume(*number, plan) {
                Ok(volume) => {
                    stream.size = stream.size.saturating_add(volume.line.size);
                    stream.volumes.push(volume);
                }
                Err(why) => {
                    missing += 1;
                    plan.warnings.push(format!("{}: {why}; volume left out", stream.name));
                }
            }
        }
        let known = u32::try_from(attempt.volumes.len()).unwrap_or(u32::MAX);
        missing += end.saturating_sub(known);
        if missing > 0 {
            let name = &stream.name;
            plan.warnings.push(format!("{name}: {missing} of {end} volumes are left out"));
        }
        Ok((!stream.volumes.is_empty()).then_some(stream))
    }
}

fn lacking(partial: bool, plan: &mut Plan, why: String) -> Result<Option<Stream>> {
    if partial {
        plan.warnings.push(why);
        Ok(None)
    } else {
        Err(Error::Data(why))
    }
}

impl Attempt {
    pub(super) fn volume(&mut self, number: u32) -> &mut Found {
        let volumes = if self.stored.is_some() { &mut self.late } else { &mut self.volumes };
        volumes.entry(number).or_default()
    }

    /// Lets what came after `stored` count.
    pub(super) fn settle(&mut self) {
        for (number, mut late) in std::mem::take(&mut self.late) {
            let found = self.volumes.entry(number).or_default();
            if let Some(archive) = late.archive.take() {
                (found.archive, found.gone) = (Some(archive), late.gone);
            }
            found.hashes.append(&mut late.hashes);
        }
    }

    /// The stream, if all of it is there and fits.
    pub(super) fn whole(
        &self,
        id: StreamId,
        name: &str,
        plan: &mut Plan,
    ) -> Result<Stream, String> {
        let stored = self.stored.as_ref().ok_or("no \"stored\" line, so it may not be whole")?;
        if let Some((last, _)) =
            self.volumes.last_key_value().filter(|(n, _)| **n >= stored.volumes)
        {
            return Err(format!("volume {last}: \"stored\" tells of {} volumes", stored.volumes));
        }
        let mut volumes = Vec::new();
        let (mut end, mut fold) = (0_u64, Fold::default());
        for number in 0..stored.volumes {
            let found = self
                .volumes
                .get(&number)
                .ok_or_else(|| format!("volume {number}: no \"archive\" line"))?;
            let volume = found.volume(number, plan)?;
            if volume.line.offset != end {
                return Err(format!(
                    "volume {number}: begins at {}, not where the one before ends, at {end}",
                    volume.line.offset
                ));
            }
            end = end.checked_add(volume.line.size).ok_or("its size is beyond 2^64")?;
            fold.push(volume.line.treehash);
            volumes.push(volume);
        }
        if end != stored.size {
            return Err(format!(
                "its volumes have {end} bytes, \"stored\" tells of {}",
                stored.size
            ));
        }
        if fold.finish() != stored.treehash {
            return Err("its volumes' hashes do not give the tree hash of \"stored\"".to_owned());
        }
        Ok(Stream {
            id,
            name: name.to_owned(),
            size: end,
            treehash: Some(stored.treehash),
            volumes,
            snapshots: Vec::new(),
            stored: Some(stored.clone()),
        })
    }
}

impl Found {
    /// The volume, if it has all its lines and they fit.
    pub(super) fn volume(&self, number: u32, plan: &mut Plan) -> Result<Volume, String> {
        let archive =
            self.archive.as_ref().ok_or_else(|| format!("volume {number}: no \"archive\" line"))?;
        let bad = |why: &str| format!("volume {number}: {why}");
        if self.gone {
            return Err(bad("its archive was deleted"));
        }
        let Archive { size, part_size, .. } = *archive;
        if !part_size.is_power_of_two()
            || !(partsize::SMALLEST..=partsize::LARGEST).contains(&part_size)
        {
            return Err(bad("its part size is not 2^n MiB from 1 MiB to 4 GiB"));
        }
        if size == 0 {
            return Err(bad("has no bytes"));
        }
        let mut hashes = Vec::new();
        for (part, run) in &self.hashes {
            if u32::try_from(hashes.len()) != Ok(*part) {
                break;
            }
            hashes.extend_from_slice(run);
        }
        let parts = size.div_ceil(part_size);
        let known: usize = self.hashes.values().map(Vec::len).sum();
        if hashes.len() != known || u64::try_from(known) != Ok(parts) {
            return Err(bad(&format!(
                "the hashes of its {parts} parts are not all there, or not once each"
            )));
        }
        if hashes.iter().copied().collect::<Fold>().finish() != archive.treehash {
            return Err(bad("its parts' hashes do not give its tree hash"));
        }
        let dest = archive.dest.parse().map_err(|why: String| bad(&why))?;
        let place = Place { dest, region: archive.region.clone() };
        let known = plan.places.iter().position(|known| *known == place);
        let place = known.unwrap_or_else(|| {
            plan.places.push(place);
            plan.places.len() - 1
        });
        Ok(Volume { line: archive.clone(), place, hashes, wanted: None, jobs: Vec::new() })
    }
}
