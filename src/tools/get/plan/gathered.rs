//! What the lines of a stream come to: the volumes of each attempt at it, and
//! whether they are all there and fit.

use std::collections::BTreeMap;

use super::{Plan, Stream, Volume};
use crate::catalog::counted;
use crate::catalog::part_hashes::PartHashes;
use crate::error::{Error, Result};
use crate::hash::tree::{Fold, Hash};
use crate::line::{Archive, Hashes, Snapshot, Stored, StreamId};
use crate::partsize;
use crate::tools::retrieve::Place;

/// The lines of a stream, by their numbers.
#[derive(Debug)]
pub(super) struct Gathered {
    id: StreamId,
    pub(super) name: Option<String>,
    /// Where its first `stored` line stands, or its first line if none does.
    pub(super) order: (bool, u64),
    pub(super) archives: BTreeMap<u64, Archive>,
    pub(super) hashes: BTreeMap<u64, Hashes>,
    pub(super) stored: BTreeMap<u64, Stored>,
    pub(super) snapshots: Vec<Snapshot>,
}

/// One generation of a stream at one destination.
#[derive(Debug)]
struct Attempt<'l> {
    volumes: BTreeMap<u32, Found<'l>>,
    stored: Option<&'l Stored>,
}

/// The lines of a volume.
#[derive(Debug, Default)]
struct Found<'l> {
    archive: Option<&'l Archive>,
    /// That archive was deleted.
    gone: bool,
    hashes: PartHashes<&'l [Hash]>,
}

impl Gathered {
    /// A stream whose first line has this number.
    pub(super) fn new(id: StreamId, number: u64) -> Self {
        let (archives, hashes, stored) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let order = (false, number);
        Self { id, name: None, order, archives, hashes, stored, snapshots: Vec::new() }
    }

    /// The copy that counts, with the lines that do.
    fn counted(&self, counted: &counted::Lines) -> Option<Attempt<'_>> {
        let copies = counted.of(self.id).filter_map(|line| counted.copy(line));
        let copy = copies.max_by_key(|copy| copy.rank)?;
        let stored = self.stored.get(&copy.at)?;
        let archives = copy.archives.iter().filter_map(|at| self.archives.get(at));
        let hashes = self.hashes.range(..copy.at).map(|(_, line)| line);
        let hashes = hashes.filter(|line| line.volume < stored.volumes);
        let of = (stored.generation, &*stored.dest);
        Some(Attempt { stored: Some(stored), ..Attempt::of(of, archives, hashes, counted) })
    }

    /// All that there is of the attempt that counts, or else of the last.
    fn all(&self, counted: &counted::Lines) -> Option<Attempt<'_>> {
        let stored = self.counted(counted).and_then(|attempt| attempt.stored);
        let of = if let Some(stored) = stored {
            (stored.generation, &*stored.dest)
        } else {
            let archive = self.archives.last_key_value();
            let archive = archive.map(|(at, it)| (at, (it.generation, &*it.dest)));
            let hashes = self.hashes.last_key_value();
            let hashes = hashes.map(|(at, it)| (at, (it.generation, &*it.dest)));
            archive.max(hashes)?.1
        };
        let (archives, hashes) = (self.archives.values(), self.hashes.values());
        Some(Attempt { stored, ..Attempt::of(of, archives, hashes, counted) })
    }

    /// The stream as it is to be fetched; `None` when nothing of it is there
    /// and that is allowed.
    pub(super) fn plan(
        &self,
        counted: &counted::Lines,
        partial: bool,
        plan: &mut Plan,
    ) -> Result<Option<Stream>> {
        let name = self.name.clone().unwrap_or_else(|| format!("stream {}", self.id));
        let snapshots = self.snapshots.clone();
        let Some(attempt) = self.counted(counted).or_else(|| self.all(counted)) else {
            return lacking(partial, plan, format!("{name}: no \"archive\" line"));
        };
        let why = match attempt.whole(self.id, &name, plan) {
            Ok(stream) => return Ok(Some(Stream { snapshots, ..stream })),
            Err(why) => format!("{name}: {why}"),
        };
        if !partial {
            return Err(Error::Data(why));
        }
        plan.warnings.push(why);
        let Some(attempt) = self.all(counted) else { return Ok(None) };
        let mut stream = Stream {
            id: self.id,
            name,
            size: 0,
            treehash: None,
            volumes: Vec::new(),
            snapshots,
            stored: attempt.stored.cloned(),
        };
        let end = attempt.volumes.last_key_value().map_or(0, |(last, _)| last.saturating_add(1));
        let end = attempt.stored.map_or(end, |stored| stored.volumes.max(end));
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

impl<'l> Attempt<'l> {
    /// Of several archives of a volume the last counts.
    fn of(
        (generation, dest): (u32, &str),
        archives: impl Iterator<Item = &'l Archive>,
        hashes: impl Iterator<Item = &'l Hashes>,
        counted: &counted::Lines,
    ) -> Self {
        let mut volumes: BTreeMap<u32, Found<'l>> = BTreeMap::new();
        for line in archives.filter(|it| it.generation == generation && it.dest == dest) {
            let found = volumes.entry(line.volume).or_default();
            found.gone = counted.is_deleted(&line.archive_id);
            found.archive = Some(line);
        }
        for line in hashes.filter(|it| it.generation == generation && it.dest == dest) {
            let found = volumes.entry(line.volume).or_default();
            found.hashes.take(line.part, &line.treehashes);
        }
        Self { volumes, stored: None }
    }

    /// The stream, if all of it is there and fits.
    fn whole(&self, id: StreamId, name: &str, plan: &mut Plan) -> Result<Stream, String> {
        let stored = self.stored.ok_or("no \"stored\" line, so it may not be whole")?;
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

impl Found<'_> {
    /// The volume, if it has all its lines and they fit.
    fn volume(&self, number: u32, plan: &mut Plan) -> Result<Volume, String> {
        let archive =
            self.archive.ok_or_else(|| format!("volume {number}: no \"archive\" line"))?;
        let bad = |why: &str| format!("volume {number}: {why}");
        if self.gone {
            return Err(bad("its archive was deleted"));
        }
        let Archive { size, part_size, .. } = *archive;
        if !partsize::is_part(part_size) {
            return Err(bad("its part size is not 2^n MiB from 1 MiB to 4 GiB"));
        }
        if size == 0 {
            return Err(bad("has no bytes"));
        }
        let parts = size.div_ceil(part_size);
        let hashes = self.hashes.all(parts).ok_or_else(|| {
            bad(&format!("the hashes of its {parts} parts are not all there, or not once each"))
        })?;
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
