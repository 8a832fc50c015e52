//! What is still to be done of a plan: which bytes are here already, which
//! are read from a disk, and which archives the service must bring up.

use super::kept::Held;
use super::plan::{Plan, Stream, Volume};
use crate::prices::Bring;
use crate::storage::Span;
use crate::tools::retrieve::estimate::Needs;

/// Where a run of bytes comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// It is in the output.
    Passed,
    /// A file of `--keep`.
    Kept(Held),
    /// The job of an archive, by its number in the work.
    Asked(usize),
}

/// A run of whole parts of a volume.
#[derive(Clone, Debug)]
pub struct Piece<'p> {
    /// Of which volume.
    pub volume: &'p Volume,
    /// Where it begins and ends in the volume.
    pub span: Span,
    /// Where it comes from.
    pub source: Source,
}

/// An archive that the service must bring up.
#[derive(Clone, Copy, Debug)]
pub struct Needed<'p> {
    /// Of which stream.
    pub stream: &'p Stream,
    /// Which volume it is.
    pub volume: &'p Volume,
    /// Bytes of it that are to be downloaded.
    pub left: u64,
}

impl Needed<'_> {
    /// What it is to the service: of a bucket's archive all is brought up.
    fn bring(&self) -> Bring {
        let line = &self.volume.line;
        let up = if line.class.is_some() { line.size } else { self.volume.span().size };
        let reads = self.left.div_ceil(line.part_size.max(1));
        Bring { class: line.class.clone(), up, size: self.left, reads }
    }
}

/// What is to be done.
#[derive(Debug, Default)]
pub struct Work<'p> {
    /// The pieces of each stream, in order.
    pub streams: Vec<Vec<Piece<'p>>>,
    /// The archives that the service must bring up, in order.
    pub archives: Vec<Needed<'p>>,
}

/// What `--keep` has of a volume: a file, and how many bytes of it from its
/// beginning; all of a volume that is whole, which is verified when it is
/// read.
pub type Prefix = Option<(Held, u64)>;

impl<'p> Work<'p> {
    /// The work of a plan whose first `passed` bytes are in the output, where
    /// `held` has one for each volume.
    pub fn new(plan: &'p Plan, mut passed: u64, held: &[Prefix]) -> Self {
        let mut work = Self::default();
        let mut held = held.iter();
        for stream in &plan.streams {
            let mut pieces = Vec::new();
            for volume in &stream.volumes {
                let span = volume.span();
                let end = span.offset.saturating_add(span.size);
                let there = passed.min(span.size);
                passed = passed.saturating_sub(there);
                let held = held.next().and_then(Option::as_ref);
                let kept = held.map_or(0, |(_, bytes)| *bytes);
                // A prefix is of the volume, not of what is wanted of it.
                let passed_to = span.offset.saturating_add(there);
                let kept_to = kept.clamp(passed_to, end);
                let mut add = |from: u64, to: u64, source| {
                    if to > from {
                        let span = Span { offset: from, size: to.saturating_sub(from) };
                        pieces.push(Piece { volume, span, source });
                    }
                };
                add(span.offset, passed_to, Source::Passed);
                if let Some((held, _)) = held {
                    add(passed_to, kept_to, Source::Kept(held.clone()));
                }
                add(kept_to, end, Source::Asked(work.archives.len()));
                if end > kept_to {
                    let left = end.saturating_sub(kept_to);
                    work.archives.push(Needed { stream, volume, left });
                }
            }
            work.streams.push(pieces);
        }
        work
    }

    /// What it needs of the service, and of the disk if what comes is
    /// `written` there.
    pub fn needs(&self, written: bool) -> Needs {
        let size = self.archives.iter().map(|archive| archive.left).fold(0, u64::saturating_add);
        let volumes = |pieces: &Vec<Piece<'_>>| {
            let mut numbers: Vec<u32> =
                pieces.iter().map(|piece| piece.volume.line.volume).collect();
            numbers.dedup();
            numbers.len()
        };
        Needs {
            streams: self.streams.len(),
            archives: self.streams.iter().map(volumes).sum(),
            jobs: self.archives.iter().map(Needed::bring).collect(),
            size,
            disk: if written { size } else { 0 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::tree::LEAF;
    use crate::tools::get::kept::Keep;
    use crate::tools::get::plan::tests::{MIB, data, lines, plan};

    /// Volume, offset and size in MiB, and source.
    type Found = (u32, u64, u64, char);

    /// The pieces of a stream of 2, 2 and 1 parts, and what is left of each
    /// archive, where so many MiB of each volume are kept.
    fn pieces(passed: u64, kept: &[u64]) -> (Vec<Found>, Vec<u64>) {
        let directory = tempfile::tempdir().unwrap();
        let keep = Keep::open(&directory.path().join("kept"), false).unwrap();
        let plan = plan(&lines(1, "a", &data(5 * LEAF), 2), false).unwrap();
        let stream = keep.stream(&plan.streams[0]);
        let held = kept.iter().zip(&plan.streams[0].volumes).map(|(size, volume)| {
            stream.writer(volume, *size * MIB).unwrap();
            stream.begun(volume).unwrap().map(|(held, _)| (held, *size * MIB))
        });
        let work = Work::new(&plan, passed, &held.collect::<Vec<_>>());
        let pieces = work.streams[0].iter().map(|piece| {
            let source = match piece.source {
                Source::Passed => 'p',
                Source::Kept(..) => 'k',
                Source::Asked(_) => 'a',
            };
            let Span { offset, size } = piece.span;
            (piece.volume.line.volume, offset / MIB, size / MIB, source)
        });
        (pieces.collect(), work.archives.iter().map(|archive| archive.left / MIB).collect())
    }

    #[test]
    fn what_is_in_the_output_is_not_asked_for() {
        let all = vec![(0, 0, 2, 'a'), (1, 0, 2, 'a'), (2, 0, 1, 'a')];
        assert_eq!(pieces(0, &[]), (all, vec![2, 2, 1]));
        let rest = vec![(0, 0, 2, 'p'), (1, 0, 1, 'p'), (1, 1, 1, 'a'), (2, 0, 1, 'a')];
        assert_eq!(pieces(3 * MIB, &[]), (rest, vec![1, 1]));
        let none = vec![(0, 0, 2, 'p'), (1, 0, 2, 'p'), (2, 0, 1, 'p')];
        assert_eq!(pieces(5 * MIB, &[]), (none, vec![]));
    }

    #[test]
    fn what_is_kept_is_read_and_not_asked_for() {
        let rest = vec![(0, 0, 2, 'k'), (1, 0, 1, 'k'), (1, 1, 1, 'a'), (2, 0, 1, 'a')];
        assert_eq!(pieces(0, &[2, 1]), (rest, vec![1, 1]));
    }

    #[test]
    fn needs_are_those_of_what_is_asked_for() {
        let mut plan = plan(&lines(1, "a", &data(5 * LEAF), 2), false).unwrap();
        plan.choose_range(MIB, 4 * MIB - 1).unwrap();
        let needs = Work::new(&plan, 0, &[]).needs(true);
        let job = |size| Bring { class: None, up: size, size, reads: size / MIB };
        let jobs = vec![job(MIB), job(2 * MIB)];
        let expected = Needs { streams: 1, archives: 2, jobs, size: 3 * MIB, disk: 3 * MIB };
        assert_eq!(needs, expected);
        assert_eq!(Work::new(&plan, 2 * MIB, &[]).needs(false).size, MIB);
    }
}
