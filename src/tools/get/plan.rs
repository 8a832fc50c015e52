//! From catalog lines to what is to be fetched: every check that can be made
//! before the first request and the first byte.
//!
//! Nothing is believed for itself. The hashes of parts must fold to their
//! archive's tree hash, those of archives to that of `stored`, and counts,
//! sizes and offsets must fit, or there is no plan.

mod again;
mod chosen;
mod gathered;

use std::collections::{HashMap, HashSet};
use std::io::{self, BufRead};

use self::gathered::Gathered;
use crate::catalog::counted;
use crate::catalog::scan::Skipped;
use crate::error::{Error, Result};
use crate::hash::tree::Hash;
use crate::line::{Archive, Chain, Id, Job, Line, Reader, Snapshot, Stored, StreamId, Text};
use crate::storage::Span;
use crate::tools::retrieve::Place;

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
    pub jobs: Vec<(Option<Span>, Id)>,
}

/// Catalog lines as they come.
#[derive(Debug, Default)]
pub struct Lines {
    counted: counted::Lines,
    streams: Vec<Gathered>,
    by_id: HashMap<StreamId, usize>,
    chains: Vec<(Chain, HashSet<StreamId>)>,
    /// Jobs by their archives.
    jobs: HashMap<Id, Vec<(Option<Span>, Id)>>,
    count: u64,
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
            Line::Hashes(hashes) => {
                let at = self.count;
                self.stream(hashes.stream).hashes.insert(at, hashes);
            }
            Line::Archive(archive) => self.archive(archive),
            Line::Job(job) => self.job(job),
            Line::Deleted(deleted) => {
                deleted.archive_id.iter().for_each(|archive| self.counted.deleted(archive));
            }
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
            | Line::Inventory(_)
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
        let at = self.count;
        self.counted.archive(&(&archive).into(), at);
        let stream = self.stream(archive.stream);
        stream.name.get_or_insert_with(|| archive.name.clone());
        stream.archives.insert(at, archive);
    }

    fn stream(&mut self, id: StreamId) -> &mut Gathered {
        let index = *self.by_id.entry(id).or_insert(self.streams.len());
        if index == self.streams.len() {
            self.streams.push(Gathered::new(id, self.count));
        }
        #[expect(clippy::indexing_slicing, reason = "every index in by_id was pushed just above")]
        &mut self.streams[index]
    }

    fn stored(&mut self, stored: Stored) -> Result<()> {
        if let Some((_, streams)) = self.chains.last_mut() {
            streams.insert(stored.stream);
        }
        let count = self.count;
        self.counted.stored(&stored, count);
        let stream = self.stream(stored.stream);
        let name = stream.name.insert(stored.name.clone()).clone();
        if !stream.order.0 {
            stream.order = (true, count);
        }
        let what = |stored: &Stored| (stored.size, stored.treehash);
        if stream.stored.values().any(|other| what(other) != what(&stored)) {
            return Err(Error::Data(format!("{name}: two \"stored\" lines disagree")));
        }
        stream.stored.insert(count, stored);
        Ok(())
    }

    /// What lacks of a chain whose head has come. glacier-chain prints that when
    /// it knows the rest: so of a pipe it says that one of them was killed.
    pub fn cut(&self) -> Option<String> {
        self.chains.iter().find_map(|(chain, streams)| {
            let whole = u32::try_from(streams.len()) == Ok(chain.streams)
                && streams.contains(&chain.stream);
            (!whole).then(|| {
                format!(
                    "stdin: {} of the chain's {} streams are whole; did glacier-chain fail?",
                    streams.len(),
                    chain.streams
                )
            })
        })
    }

    /// The plan. With `partial`, what lacks lines is left out, with a
    /// warning, and the rest is still planned.
    ///
    /// # Errors
    /// What lacks, repeats or does not fit.
    pub fn plan(mut self, partial: bool) -> Result<Plan> {
        // A chain that was cut short between two streams looks like a shorter
        // chain; only its head tells.
        if !partial && let Some(why) = self.cut() {
            return Err(Error::Data(why));
        }
        self.streams.sort_by_key(|stream| stream.order.1);
        self.counted.settle();
        let mut plan = Plan::default();
        for (chain, _) in self.chains {
            if !plan.chains.contains(&chain) {
                plan.chains.push(chain);
            }
        }
        for gathered in &self.streams {
            let stream = gathered.plan(&self.counted, partial, &mut plan)?;
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
}

#[cfg(test)]
pub(in crate::tools::get) mod tests;
