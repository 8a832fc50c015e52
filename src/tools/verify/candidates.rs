//! What a catalog says is stored, and what of it was sampled: the first pass.
//!
//! A catalog has millions of lines, so of an archive only numbers are kept,
//! and where its line begins; the second pass reads what was chosen. The
//! hashes of parts, most of a catalog, are not read here.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::io::BufRead;

use jiff::Timestamp;

use super::choice::Run;
use crate::catalog::counted::{self, Defect};
use crate::catalog::scan::{Skipped, is_bulk, unreadable};
use crate::error::{Error, Result};
use crate::line::{self, Line, Reader, StreamId, Text};
use crate::partsize;

/// A volume that counts.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    /// Where its `archive` line begins.
    pub at: u64,
    size: u64,
    part_size: u64,
    /// Stands for the service's name for it.
    archive: u64,
}

/// What a `stored` line says.
#[derive(Debug)]
struct Whole {
    stream: StreamId,
    name: String,
    size: u64,
}

/// Parts that were sampled.
#[derive(Clone, Copy, Debug)]
struct Sampled {
    archive: u64,
    first: u32,
    parts: u32,
    at: Timestamp,
}

/// The lines of a catalog, and of what was asked for, as they come.
#[derive(Default)]
pub struct Stock {
    lines: counted::Lines,
    /// Of all `stored` lines, by their numbers in `lines`.
    stored: Vec<Whole>,
    archives: Vec<Held>,
    sampled: Vec<Sampled>,
    keys: RandomState,
    /// What was asked for, each job once.
    pub jobs: Vec<line::Job>,
    job_ids: HashSet<u64>,
}

/// What can be sampled.
#[derive(Debug, Default)]
pub struct Counted {
    /// The volumes of all streams that are stored.
    pub volumes: Vec<Held>,
    /// Their parts.
    pub runs: Vec<Run>,
    /// How many streams lack lines, and the name of the first.
    pub lacking: Option<(usize, String)>,
}

impl Stock {
    /// Reads a catalog.
    ///
    /// # Errors
    /// When reading fails, a line is of a later version, or it tells of a
    /// failure.
    pub fn read(&mut self, input: impl BufRead) -> Result<Skipped> {
        let mut reader = Reader::new(input);
        let mut skipped = Skipped::default();
        while let Some(text) = reader.read().map_err(unreadable)? {
            let line = match text {
                Text::Line(text) if is_bulk(&text) => continue,
                Text::Line(text) => Line::parse(&text),
                Text::Bad(reason) => Err(reason),
            };
            match line {
                Ok(Some(line)) => self.take(line, reader.start)?,
                Ok(None) => skipped.unknown(),
                Err(reason) => skipped.bad(reader.number, reason)?,
            }
        }
        Ok(skipped)
    }

    /// Takes a line that begins at `at`.
    ///
    /// # Errors
    /// When it tells of a failure.
    pub fn take(&mut self, line: Line, at: u64) -> Result<()> {
        match line {
            Line::Stored(stored) => {
                self.lines.stored(&stored, at);
                let (stream, name, size) = (stored.stream, stored.name, stored.size);
                self.stored.push(Whole { stream, name, size });
            }
            Line::Archive(archive) => {
                self.lines.archive(&(&archive).into(), at);
                self.archives.push(Held {
                    at,
                    size: archive.size,
                    part_size: archive.part_size,
                    archive: self.keys.hash_one(&archive.archive_id),
                });
            }
            Line::Job(job) => {
                if self.job_ids.insert(self.keys.hash_one(&job.job_id)) {
                    self.jobs.push(job);
                }
            }
            Line::Failed(failed) => return Err(Error::from_code(failed.code, failed.message)),
            line => self.take_past(line),
        }
        Ok(())
    }

    /// Takes a line if it tells what was sampled or deleted.
    pub fn take_past(&mut self, line: Line) {
        match line {
            Line::Verified(verified) => self.sampled.push(Sampled {
                archive: self.keys.hash_one(&verified.archive_id),
                first: verified.part,
                parts: verified.parts,
                at: verified.verified,
            }),
            Line::Deleted(line::Deleted { archive_id: Some(archive), .. }) => {
                self.lines.deleted(&archive);
            }
            _ => {}
        }
    }

    /// Whether an archive was deleted.
    pub fn is_deleted(&self, archive: &str) -> bool {
        self.lines.is_deleted(archive)
    }

    /// Whether a part of an archive was sampled then or later.
    pub fn is_sampled(&self, archive: &str, part: u32, since: Timestamp) -> bool {
        let archive = self.keys.hash_one(archive);
        self.sampled.iter().any(|sampled| {
            let within = part.checked_sub(sampled.first).is_some_and(|n| n < sampled.parts);
            sampled.archive == archive && sampled.at >= since && within
        })
    }

    /// What can be sampled: the archives that count of every stream that has
    /// them all. One that needs an archive which was deleted is not stored any
    /// more.
    pub fn count(mut self) -> Counted {
        let mut counted = Counted::default();
        self.lines.settle();
        self.sampled.sort_unstable_by_key(|sampled| sampled.archive);
        for copy in self.lines.copies() {
            let Some(stored) = self.stored.get(copy.line) else { continue };
            let place = |at: &u64| self.archives.binary_search_by_key(at, |held| held.at).ok();
            let held = copy.archives.iter().filter_map(|at| self.archives.get(place(at)?));
            let held: Vec<Held> = held.copied().collect();
            match copy.defect {
                Some(Defect::Deleted(_)) => {}
                None if stored.has(&held) => counted.volumes.extend(held),
                _ => {
                    let of = || format!("{} (stream {})", stored.name, stored.stream);
                    counted.lacking.get_or_insert_with(|| (0, of())).0 += 1;
                }
            }
        }
        for (volume, held) in counted.volumes.iter().enumerate() {
            held.runs(volume, &self.sampled, &mut counted.runs);
        }
        counted
    }
}

impl Whole {
    /// Whether its volumes come to its size, and have sizes that volumes have.
    fn has(&self, volumes: &[Held]) -> bool {
        let size = volumes.iter().map(|held| u128::from(held.size)).sum::<u128>();
        size == u128::from(self.size)
            && volumes.iter().all(|held| is_volume(held.size, held.part_size))
    }
}

/// Whether a volume may have this size, and parts of that.
pub fn is_volume(size: u64, part_size: u64) -> bool {
    partsize::is_part(part_size) && (1..=partsize::PARTS).contains(&size.div_ceil(part_size))
}

impl Held {
    /// Its parts, as they were sampled.
    fn runs(&self, volume: usize, sampled: &[Sampled], runs: &mut Vec<Run>) {
        let all = u32::try_from(self.size.div_ceil(self.part_size)).unwrap_or(0);
        let begin = sampled.partition_point(|it| it.archive < self.archive);
        let own = sampled.iter().skip(begin).take_while(|it| it.archive == self.archive);
        // Most were never sampled, and are one run.
        let mut times: Vec<Option<Timestamp>> = Vec::new();
        for it in own {
            times.resize(usize::try_from(all).unwrap_or(0), None);
            let first = usize::try_from(it.first).unwrap_or(usize::MAX);
            let parts = usize::try_from(it.parts).unwrap_or(usize::MAX);
            for time in times.iter_mut().skip(first).take(parts) {
                *time = (*time).max(Some(it.at));
            }
        }
        let mut first = 0;
        let mut add = |parts: u32, last: Option<Timestamp>| {
            // The last part of the volume may be shorter, and is a run then.
            let short = self.size % self.part_size;
            let is_short = short > 0 && first + parts == all;
            let full = parts - u32::from(is_short);
            if full > 0 {
                runs.push(Run { volume, first, parts: full, size: self.part_size, last });
            }
            if is_short {
                runs.push(Run { volume, first: first + full, parts: 1, size: short, last });
            }
            first += parts;
        };
        if times.is_empty() {
            add(all, None);
        }
        for run in times.chunk_by(|a, b| a == b) {
            add(u32::try_from(run.len()).unwrap_or(0), run.first().copied().flatten());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::tree::Hash;
    use crate::line::{Archive, Deleted, Stored, Verified};

    const MIB: u64 = 1 << 20;

    fn id(stream: u32) -> StreamId {
        format!("{stream:032x}").parse().unwrap()
    }

    fn time(day: u32) -> Timestamp {
        format!("2026-01-{day:02}T00:00:00Z").parse().unwrap()
    }

    fn archive(stream: u32, volume: u32, size: u64, archive_id: &str) -> Line {
        Line::Archive(Archive {
            v: 1,
            stream: id(stream),
            host: "nas".into(),
            name: "t@mon".into(),
            generation: 0,
            volume,
            offset: 0,
            size,
            treehash: Hash::of(b""),
            part_size: MIB,
            dest: "glacier://cold".into(),
            region: "eu-central-1".into(),
            archive_id: archive_id.into(),
            version: None,
            class: None,
            composite: None,
            etag: None,
            uploaded: time(1),
        })
    }

    fn stored(stream: u32, volumes: u32, size: u64) -> Line {
        Line::Stored(Stored {
            created: None,
            features: None,
            clone: false,
            misplaced: 0,
            v: 1,
            stream: id(stream),
            host: "nas".into(),
            name: "t@mon".into(),
            format: line::Format::Bytes,
            guid: None,
            from_guid: None,
            compound: false,
            resumed: false,
            filter: None,
            generation: 0,
            volumes,
            size,
            treehash: Hash::of(b""),
            whole: "trusted".into(),
            dest: "glacier://cold".into(),
            region: "eu-central-1".into(),
            manifest_id: None,
            stored: time(1),
        })
    }

    fn verified(archive_id: &str, part: u32, parts: u32, day: u32) -> Line {
        Line::Verified(Verified {
            stream: id(1),
            host: "nas".into(),
            name: "t@mon".into(),
            generation: 0,
            volume: 0,
            part,
            parts,
            offset: 0,
            size: MIB,
            dest: "glacier://cold".into(),
            region: "eu-central-1".into(),
            archive_id: archive_id.into(),
            verified: time(day),
        })
    }

    fn deleted(archive_id: &str) -> Line {
        let archive_id = Some(archive_id.into());
        Line::Deleted(Deleted { archive_id, deleted: time(3), ..Deleted::default() })
    }

    fn count(lines: impl IntoIterator<Item = Line>) -> Counted {
        let mut stock = Stock::default();
        for (at, line) in (0..).zip(lines) {
            stock.take(line, at).unwrap();
        }
        stock.count()
    }

    fn places(counted: &Counted) -> Vec<u64> {
        counted.volumes.iter().map(|held| held.at).collect()
    }

    #[test]
    fn the_last_archives_before_stored_count() {
        let lines = || {
            vec![
                archive(1, 1, MIB, "second"),
                archive(1, 0, 2 * MIB, "worse"),
                archive(1, 0, 2 * MIB, "first"),
                stored(1, 2, 3 * MIB),
                archive(1, 0, 2 * MIB, "late"),
                archive(2, 0, MIB, "unfinished"),
            ]
        };
        let counted = count(lines());
        assert_eq!((places(&counted), counted.lacking), (vec![2, 0], None));
        let again = [lines(), vec![stored(1, 2, 3 * MIB)]].concat();
        assert_eq!(places(&count(again)), [4, 0]);
        // One that does not count may be gone, one that counts not.
        assert_eq!(places(&count([lines(), vec![deleted("worse")]].concat())), [2, 0]);
        let gone = count([vec![deleted("second")], lines()].concat());
        assert_eq!((places(&gone), gone.lacking), (vec![], None));
    }

    #[test]
    fn a_stream_that_lacks_a_volume_is_told() {
        for lines in [
            vec![archive(1, 0, MIB, "a"), stored(1, 2, 2 * MIB)],
            vec![archive(1, 0, MIB, "a"), stored(1, 1, 2 * MIB)],
            vec![stored(1, 1, MIB), archive(1, 0, MIB, "a")],
            vec![archive(1, 0, 9000 * MIB, "too-many-parts"), stored(1, 1, 9000 * MIB)],
        ] {
            let counted = count([lines, vec![archive(2, 0, MIB, "b"), stored(2, 1, MIB)]].concat());
            assert_eq!(counted.volumes.len(), 1);
            let name = format!("t@mon (stream {})", id(1));
            assert_eq!(counted.lacking, Some((1, name)));
        }
        assert_eq!(count([stored(1, 0, 0)]).lacking, None);
    }

    #[test]
    fn parts_are_runs_of_one_time() {
        let of = |lines: Vec<Line>| {
            let base = vec![archive(1, 0, 5 * MIB + 7, "a"), stored(1, 1, 5 * MIB + 7)];
            let runs = count([base, lines].concat()).runs;
            let run = |run: &Run| (run.first, run.parts, run.size, run.last);
            runs.iter().map(run).collect::<Vec<_>>()
        };
        assert_eq!(of(vec![]), [(0, 5, MIB, None), (5, 1, 7, None)]);
        let sampled = vec![
            verified("a", 1, 2, 4),
            verified("a", 2, 1, 2),
            verified("a", 5, u32::MAX, 3),
            verified("b", 0, 9, 9),
        ];
        let (second, third) = (Some(time(4)), Some(time(3)));
        let expected =
            [(0, 1, MIB, None), (1, 2, MIB, second), (3, 2, MIB, None), (5, 1, 7, third)];
        assert_eq!(of(sampled), expected);
    }

    #[test]
    fn what_was_sampled_since_is_known() {
        let mut stock = Stock::default();
        stock.take(verified("a", 1, 2, 4), 0).unwrap();
        let is = |part, day| stock.is_sampled("a", part, time(day));
        assert_eq!([is(0, 1), is(1, 4), is(2, 3), is(3, 1)], [false, true, true, false]);
        assert!(!is(1, 5) && !stock.is_sampled("b", 1, time(1)));
    }
}
