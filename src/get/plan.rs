//! From catalog lines to what is to be fetched: every check that can be made
//! before the first request and the first byte.
//!
//! Nothing is believed for itself. The hashes of parts must fold to their
//! archive's tree hash, those of archives to that of `stored`, and counts,
//! sizes and offsets must fit, or there is no plan.

mod again;
mod chosen;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{self, BufRead};

use crate::catalog::scan::Skipped;
use crate::error::{Error, Result};
use crate::line::{Archive, Chain, Hashes, Job, Line, Reader, Snapshot, Stored, StreamId, Text};
use crate::partsize;
use crate::treehash::{Fold, Hash};
use crate::vault::{Dest, Span};

/// What is to be fetched, in the order in which it is passed on.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The destinations that hold it.
    pub places: Vec<Place>,
    /// The streams.
    pub streams: Vec<Stream>,
    /// The heads of the chains that they are.
    pub chains: Vec<Chain>,
    /// What is left out, when that was allowed.
    pub warnings: Vec<String>,
}

/// A destination in a region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The destination.
    pub dest: Dest,
    /// Its region; empty when the lines do not say.
    pub region: String,
}

/// A stream that is to be brought back.
#[derive(Debug, PartialEq, Eq)]
pub struct Stream {
    /// Which stream.
    pub id: StreamId,
    /// Its name, or its id if no line says.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// The tree hash of all of it; absent when it is not all there.
    pub treehash: Option<Hash>,
    /// Its volumes, in order.
    pub volumes: Vec<Volume>,
    /// The snapshots that it holds, as its lines say.
    pub snapshots: Vec<Snapshot>,
    /// Its `stored` line, if it has one.
    pub stored: Option<Stored>,
}

/// A volume, which is one archive.
#[derive(Debug, PartialEq, Eq)]
pub struct Volume {
    /// Its line.
    pub line: Archive,
    /// Which of the plan's places holds it.
    pub place: usize,
    /// The tree hash of each part.
    pub hashes: Vec<Hash>,
    /// What of it is wanted, in whole parts, or no bytes; all of it if absent.
    pub wanted: Option<Span>,
    /// The jobs that were asked for, by what of it they bring up; the last
    /// ones count.
    pub jobs: Vec<(Option<Span>, String)>,
}

/// Catalog lines as they come.
#[derive(Debug, Default)]
pub struct Lines {
    streams: Vec<Gathered>,
    by_id: HashMap<StreamId, usize>,
    chains: Vec<(Chain, HashSet<StreamId>)>,
    /// Archives that are gone.
    deleted: HashSet<String>,
    /// Jobs by their archives.
    jobs: HashMap<String, Vec<(Option<Span>, String)>>,
    count: u64,
}

/// The lines of a stream.
#[derive(Debug)]
struct Gathered {
    id: StreamId,
    name: Option<String>,
    /// Where its first `stored` line stands, or its first line if none does.
    order: (bool, u64),
    attempts: Vec<Attempt>,
    snapshots: Vec<Snapshot>,
}

/// The lines of one generation of a stream at one destination.
#[derive(Debug)]
struct Attempt {
    generation: u32,
    dest: String,
    volumes: BTreeMap<u32, Found>,
    /// What stands behind `stored`, and counts if that comes again.
    late: BTreeMap<u32, Found>,
    stored: Option<Stored>,
}

/// The lines of a volume.
#[derive(Debug, Default)]
struct Found {
    archive: Option<Archive>,
    /// That archive was deleted.
    gone: bool,
    hashes: BTreeMap<u32, Vec<Hash>>,
}

impl Lines {
    /// Reads standard input to its end; what is no line is skipped.
    ///
    /// # Errors
    /// When it cannot be read, tells of a failure, is of a later version, or
    /// has no end.
    pub fn read(input: impl BufRead) -> Result<(Self, Skipped)> {
        let mut reader = Reader::new(input).bounded();
        let unreadable = |e: io::Error| match e.kind() {
            io::ErrorKind::InvalidData => Error::Data(format!("stdin: {e}")),
            _ => Error::io("stdin: cannot read", e),
        };
        let (mut lines, mut skipped) = (Self::default(), Skipped::default());
        while let Some(text) = reader.read().map_err(unreadable)? {
            let line = match text {
                Text::Line(text) => Line::parse(&text),
                Text::Bad(reason) => Err(reason),
            };
            match line {
                Ok(Some(line)) => lines.take(line)?,
                Ok(None) => skipped.unknown(),
                Err(reason) => skipped.bad(reader.number, reason)?,
            }
        }
        Ok((lines, skipped))
    }

    /// Takes a line. Those that tell nothing about archives are ignored.
    ///
    /// # Errors
    /// When it tells of a failure, or two `stored` lines disagree.
    pub fn take(&mut self, line: Line) -> Result<()> {
        self.count += 1;
        match line {
            Line::Hashes(Hashes { stream, generation, volume, part, dest, treehashes }) => {
                let found = self.stream(stream).attempt(generation, &dest).volume(volume);
                found.hashes.insert(part, treehashes);
            }
            Line::Archive(archive) => self.archive(archive),
            Line::Job(job) => self.job(job),
            Line::Deleted(deleted) => self.deleted.extend(deleted.archive_id),
            Line::Stored(stored) => self.stored(stored)?,
            Line::Snapshot(snapshot) => {
                let known = &mut self.stream(snapshot.stream).snapshots;
                if !known.contains(&snapshot) {
                    known.push(snapshot);
                }
            }
            Line::Chain(chain) => self.chains.push((chain, HashSet::new())),
            Line::Failed(failed) => return Err(Error::from_code(failed.code, failed.message)),
            Line::Stream(_)
            | Line::Part(_)
            | Line::Volume(_)
            | Line::End(_)
            | Line::Verified(_)
            | Line::Upload(_)
            | Line::Inventoried(_)
            | Line::Recipe(_) => {}
        }
        Ok(())
    }

    /// A job tells all that the line of its archive does.
    fn job(&mut self, job: Job) {
        let offset = job.range_offset.unwrap_or(0);
        let range = job.range_size.map(|size| Span { offset, size });
        let jobs = self.jobs.entry(job.archive.archive_id.clone()).or_default();
        jobs.retain(|(known, _)| *known != range);
        jobs.push((range, job.job_id));
        self.archive(job.archive);
    }

    fn archive(&mut self, archive: Archive) {
        let stream = self.stream(archive.stream);
        stream.name.get_or_insert_with(|| archive.name.clone());
        let attempt = stream.attempt(archive.generation, &archive.dest);
        let found = attempt.volume(archive.volume);
        found.archive = Some(archive);
    }

    fn stream(&mut self, id: StreamId) -> &mut Gathered {
        let index = *self.by_id.entry(id).or_insert(self.streams.len());
        if index == self.streams.len() {
            let order = (false, self.count);
            let (attempts, snapshots) = (Vec::new(), Vec::new());
            self.streams.push(Gathered { id, name: None, order, attempts, snapshots });
        }
        #[expect(clippy::indexing_slicing, reason = "every index in by_id was pushed just above")]
        &mut self.streams[index]
    }

    fn stored(&mut self, stored: Stored) -> Result<()> {
        if let Some((_, streams)) = self.chains.last_mut() {
            streams.insert(stored.stream);
        }
        let count = self.count;
        let stream = self.stream(stored.stream);
        let name = stream.name.insert(stored.name.clone()).clone();
        if !stream.order.0 {
            stream.order = (true, count);
        }
        let what = |stored: &Stored| (stored.size, stored.treehash);
        if let Some(other) = stream.attempts.iter().find_map(|attempt| attempt.stored.as_ref())
            && what(other) != what(&stored)
        {
            return Err(Error::Data(format!("{name}: two \"stored\" lines disagree")));
        }
        let attempt = stream.attempt(stored.generation, &stored.dest);
        attempt.settle();
        attempt.stored = Some(stored);
        Ok(())
    }

    /// The plan. With `partial`, what lacks lines is left out, with a
    /// warning, and the rest is still planned.
    ///
    /// # Errors
    /// What lacks, repeats or does not fit.
    pub fn plan(mut self, partial: bool) -> Result<Plan> {
        if !partial {
            self.check_chains()?;
        }
        self.streams.sort_by_key(|stream| stream.order.1);
        // One that is gone cannot be had, wherever its line stands.
        for gathered in &mut self.streams {
            gathered.forget(&self.deleted);
        }
        let mut plan = Plan::default();
        for (chain, _) in self.chains {
            if !plan.chains.contains(&chain) {
                plan.chains.push(chain);
            }
        }
        for gathered in self.streams {
            let stream = gathered.plan(partial, &mut plan)?;
            plan.streams.extend(stream);
        }
        for volume in plan.streams.iter_mut().flat_map(|stream| &mut stream.volumes) {
            volume.jobs = self.jobs.get(&volume.line.archive_id).cloned().unwrap_or_default();
        }
        if plan.streams.is_empty() {
            return Err(Error::Data(
                "stdin: no catalog lines of a stream; did glacier-chain fail?".to_owned(),
            ));
        }
        Ok(plan)
    }

    /// A chain that was cut short between two streams looks like a shorter
    /// chain; only its head tells.
    fn check_chains(&self) -> Result<()> {
        for (chain, streams) in &self.chains {
            if u32::try_from(streams.len()) != Ok(chain.streams) || !streams.contains(&chain.stream)
            {
                return Err(Error::Data(format!(
                    "stdin: {} of the chain's {} streams are whole; did glacier-chain fail?",
                    streams.len(),
                    chain.streams
                )));
            }
        }
        Ok(())
    }
}

impl Gathered {
    /// Marks the archives that were deleted.
    fn forget(&mut self, deleted: &HashSet<String>) {
        let volumes = self
            .attempts
            .iter_mut()
            .flat_map(|attempt| attempt.volumes.values_mut().chain(attempt.late.values_mut()));
        for found in volumes {
            let gone = found.archive.as_ref().is_some_and(|it| deleted.contains(&it.archive_id));
            found.gone = gone;
        }
    }

    fn attempt(&mut self, generation: u32, dest: &str) -> &mut Attempt {
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
    fn plan(mut self, partial: bool, plan: &mut Plan) -> Result<Option<Stream>> {
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
    fn volume(&mut self, number: u32) -> &mut Found {
        let volumes = if self.stored.is_some() { &mut self.late } else { &mut self.volumes };
        volumes.entry(number).or_default()
    }

    /// Lets what came after `stored` count.
    fn settle(&mut self) {
        for (number, mut late) in std::mem::take(&mut self.late) {
            let found = self.volumes.entry(number).or_default();
            if let Some(archive) = late.archive.take() {
                (found.archive, found.gone) = (Some(archive), late.gone);
            }
            found.hashes.append(&mut late.hashes);
        }
    }

    /// The stream, if all of it is there and fits.
    fn whole(&self, id: StreamId, name: &str, plan: &mut Plan) -> Result<Stream, String> {
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
    fn volume(&self, number: u32, plan: &mut Plan) -> Result<Volume, String> {
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

#[cfg(test)]
pub(in crate::get) mod tests;
