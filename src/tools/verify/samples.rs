//! From what was chosen, or asked for before, to what is to be compared: the
//! second pass over a catalog.

use std::collections::{HashMap, HashSet};
use std::io::BufRead;

use super::choice::joined;
use crate::catalog::part_hashes::PartHashes;
use crate::catalog::scan::unreadable;
use crate::catalog::scan::{is_bulk, stream_of};
use crate::error::{Error, Result};
use crate::hash::tree::{Fold, Hash};
use crate::line::{Archive, Hashes, Job, Line, Reader, StreamId, Text};
use crate::prices::Bring;
use crate::storage::Span;
use crate::tools::retrieve::Place;
use crate::tools::verify::candidates::{Counted, Stock, is_volume};

/// Parts of an archive that one job brings up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sample {
    /// The archive.
    pub archive: Archive,
    /// Which of the places holds it.
    pub place: usize,
    /// What of the archive the job brings up.
    pub range: Span,
    /// The parts that are to be compared, in order, and their hashes.
    pub parts: Vec<(u32, Hash)>,
    /// The catalog's lines that hold these hashes.
    pub lines: Vec<Hashes>,
}

/// All samples.
#[derive(Debug, Default)]
pub struct Samples {
    /// In the order of the catalog, or of the jobs.
    pub list: Vec<Sample>,
    /// The places that hold them.
    pub places: Vec<Place>,
    /// Why others cannot be compared.
    pub wrong: Vec<Error>,
}

/// What is to be compared, before its hashes are known.
pub struct Wanted {
    archive: Archive,
    range: Span,
    parts: Vec<u32>,
}

/// Which `hashes` lines belong to a volume.
type Key = (StreamId, u32, u32, String);

type Known = PartHashes<Vec<Hash>>;

fn key(archive: &Archive) -> Key {
    (archive.stream, archive.generation, archive.volume, archive.dest.clone())
}

impl Sample {
    /// What the user knows it as.
    pub fn thing(&self) -> String {
        thing(&self.archive)
    }

    /// Where a part lies in the archive.
    pub fn span(&self, part: u32) -> Span {
        let Archive { size, part_size, .. } = self.archive;
        let offset = u64::from(part) * part_size;
        Span { offset, size: part_size.min(size.saturating_sub(offset)) }
    }

    /// Bytes that are compared.
    pub fn size(&self) -> u64 {
        self.parts.iter().map(|(part, _)| self.span(*part).size).sum()
    }

    /// What it is to the service: of a bucket's archive all is brought up.
    pub fn bring(&self) -> Bring {
        let Archive { class, size, .. } = &self.archive;
        let up = if class.is_some() { *size } else { self.size() };
        let reads = u64::try_from(self.parts.len()).unwrap_or(u64::MAX);
        Bring { class: class.clone(), up, size: self.size(), reads }
    }

    /// The range that is asked for; absent where that is all of the archive.
    pub fn asked(&self) -> Option<Span> {
        (self.range.size != self.archive.size).then_some(self.range)
    }
}

fn thing(archive: &Archive) -> String {
    format!("{}: volume {}", archive.name, archive.volume)
}

/// What is wanted of the volumes that were chosen: reads their lines.
///
/// # Errors
/// When reading fails, or the catalog was changed meanwhile.
pub fn of_chosen(
    input: impl BufRead,
    counted: &Counted,
    chosen: &[(usize, u32)],
) -> Result<Vec<Wanted>> {
    let runs = joined(chosen);
    let at = |volume: &usize| counted.volumes.get(*volume).map(|held| held.at);
    let places: HashSet<u64> = runs.iter().filter_map(|(volume, ..)| at(volume)).collect();
    let mut archives: HashMap<u64, Archive> = HashMap::new();
    let mut reader = Reader::new(input);
    while let Some(text) = reader.read().map_err(unreadable)? {
        if let Text::Line(text) = text
            && places.contains(&reader.start)
            && let Ok(Some(Line::Archive(archive))) = Line::parse(&text)
        {
            archives.insert(reader.start, archive);
        }
    }
    runs.into_iter()
        .map(|(volume, first, parts)| {
            let archive = at(&volume).and_then(|at| archives.get(&at)).cloned();
            let archive = archive.ok_or_else(|| {
                Error::Data("stdin: was changed while it was read; run it again".to_owned())
            })?;
            let offset = u64::from(first) * archive.part_size;
            let size = (u64::from(parts) * archive.part_size).min(archive.size - offset);
            let parts = (first..first.saturating_add(parts)).collect();
            Ok(Wanted { range: Span { offset, size }, archive, parts })
        })
        .collect()
}

/// What is wanted of archives that were asked for before: the parts that were
/// not sampled since then.
pub fn of_jobs(stock: &Stock) -> (Vec<Wanted>, Vec<Error>) {
    let (mut wanted, mut wrong) = (Vec::new(), Vec::new());
    for job in &stock.jobs {
        // What was deleted on purpose is missed by nobody.
        if stock.is_deleted(&job.archive.archive_id) {
            continue;
        }
        let Some((range, first, end)) = parts_of(job) else {
            let thing = thing(&job.archive);
            let why = format!("{thing}: its job brings up no whole parts; was the line changed?");
            wrong.push(Error::Data(why));
            continue;
        };
        let is_new = |part: &u32| !stock.is_sampled(&job.archive.archive_id, *part, job.requested);
        let parts: Vec<u32> = (first..end).filter(is_new).collect();
        if !parts.is_empty() {
            wanted.push(Wanted { archive: job.archive.clone(), range, parts });
        }
    }
    (wanted, wrong)
}

/// The range of a job, its first part, and the one behind its last.
fn parts_of(job: &Job) -> Option<(Span, u32, u32)> {
    let Archive { size, part_size, .. } = job.archive;
    let range = match (job.range_offset, job.range_size) {
        (None, None) => Span { offset: 0, size },
        (Some(offset), Some(size)) => Span { offset, size },
        _ => return None,
    };
    let end = range.offset.checked_add(range.size)?;
    let is_whole = is_volume(size, part_size)
        && range.size > 0
        && range.offset.is_multiple_of(part_size)
        && (end == size || end < size && end.is_multiple_of(part_size));
    let part = |offset: u64| u32::try_from(offset.div_ceil(part_size)).ok();
    is_whole.then_some(())?;
    Some((range, part(range.offset)?, part(end)?))
}

/// Finds the hashes of what is wanted. Where `all` are there, those of a
/// volume must give its tree hash.
///
/// # Errors
/// When reading fails.
pub fn gather(input: impl BufRead, wanted: Vec<Wanted>, all: bool) -> Result<Samples> {
    let mut known: HashMap<Key, Known> =
        wanted.iter().map(|wanted| (key(&wanted.archive), Known::default())).collect();
    let streams: HashSet<StreamId> = wanted.iter().map(|wanted| wanted.archive.stream).collect();
    let mut reader = Reader::new(input);
    while let Some(text) = reader.read().map_err(unreadable)? {
        let Text::Line(text) = text else { continue };
        if is_bulk(&text) && stream_of(&text).is_some_and(|stream| !streams.contains(&stream)) {
            continue;
        }
        if let Ok(Some(Line::Hashes(line))) = Line::parse(&text) {
            let key = (line.stream, line.generation, line.volume, line.dest);
            if let Some(known) = known.get_mut(&key) {
                known.take(line.part, line.treehashes);
            }
        }
    }
    let mut samples = Samples::default();
    for wanted in wanted {
        let known = known.get(&key(&wanted.archive));
        match known.ok_or("has no hashes".to_owned()).and_then(|known| {
            if all {
                check(&wanted.archive, known)?;
            }
            wanted_with(&wanted, known, &mut samples.places)
        }) {
            Ok(sample) => samples.list.push(sample),
            Err(why) => {
                let thing = thing(&wanted.archive);
                samples.wrong.push(Error::Data(format!("{thing}: {why}")));
            }
        }
    }
    Ok(samples)
}

/// The line that has the hash of a part, and the hash.
fn find(known: &Known, part: u32) -> Result<(u32, &[Hash], Hash), String> {
    known.line_of(part).ok_or_else(|| format!("part {part}: no \"hashes\" line has its hash"))
}

/// Whether the hashes of all parts of a volume give its tree hash: one that
/// was changed in the catalog is not the service's fault.
fn check(archive: &Archive, known: &Known) -> Result<(), String> {
    let parts = u32::try_from(archive.size.div_ceil(archive.part_size)).unwrap_or(u32::MAX);
    let mut fold = Fold::default();
    for part in 0..parts {
        fold.push(find(known, part)?.2);
    }
    if fold.finish() == archive.treehash {
        Ok(())
    } else {
        Err("its parts' hashes do not give its tree hash".to_owned())
    }
}

fn wanted_with(wanted: &Wanted, known: &Known, places: &mut Vec<Place>) -> Result<Sample, String> {
    let archive = wanted.archive.clone();
    let (mut parts, mut lines): (Vec<_>, Vec<Hashes>) = (Vec::new(), Vec::new());
    for part in &wanted.parts {
        let (first, treehashes, hash) = find(known, *part)?;
        if lines.last().is_none_or(|line| line.part != first) {
            lines.push(Hashes {
                stream: archive.stream,
                generation: archive.generation,
                volume: archive.volume,
                part: first,
                dest: archive.dest.clone(),
                treehashes: treehashes.to_vec(),
            });
        }
        parts.push((*part, hash));
    }
    let place = Place { dest: archive.dest.parse()?, region: archive.region.clone() };
    let index = places.iter().position(|known| *known == place);
    let index = index.unwrap_or_else(|| {
        places.push(place);
        places.len() - 1
    });
    Ok(Sample { archive, place: index, range: wanted.range, parts, lines })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn hash(part: u32) -> Hash {
        Hash::of(&part.to_be_bytes())
    }

    fn archive(size: u64) -> Archive {
        let parts = u32::try_from(size.div_ceil(MIB)).unwrap();
        Archive {
            v: 1,
            stream: "0".repeat(32).parse().unwrap(),
            host: "nas".into(),
            name: "t@mon".into(),
            generation: 0,
            volume: 0,
            offset: 0,
            size,
            treehash: (0..parts).map(hash).collect::<Fold>().finish(),
            part_size: MIB,
            dest: "glacier://cold".into(),
            region: "eu-central-1".into(),
            archive_id: "a".into(),
            version: None,
            class: None,
            composite: None,
            etag: None,
            uploaded: "2026-01-01T00:00:00Z".parse().unwrap(),
        }
    }

    fn hashes(first: u32, parts: u32) -> String {
        let line = Hashes {
            stream: archive(1).stream,
            generation: 0,
            volume: 0,
            part: first,
            dest: "glacier://cold".into(),
            treehashes: (first..first + parts).map(hash).collect(),
        };
        Line::Hashes(line).text().unwrap()
    }

    fn wanted(size: u64, first: u32, parts: u32) -> Vec<Wanted> {
        let range = Span { offset: u64::from(first) * MIB, size: u64::from(parts) * MIB };
        vec![Wanted { archive: archive(size), range, parts: (first..first + parts).collect() }]
    }

    fn wrong(samples: &Samples) -> String {
        assert!(samples.list.is_empty());
        samples.wrong[0].to_string()
    }

    #[test]
    fn hashes_are_found_across_lines() {
        let catalog = [hashes(0, 50), hashes(50, 20)].concat();
        let samples = gather(catalog.as_bytes(), wanted(70 * MIB, 48, 4), true).unwrap();
        let sample = &samples.list[0];
        assert_eq!(sample.parts, [48, 49, 50, 51].map(|part| (part, hash(part))));
        let lines = sample.lines.iter().map(|line| Line::Hashes(line.clone()).text().unwrap());
        assert_eq!(lines.collect::<String>(), catalog);
        assert_eq!(sample.size(), 4 * MIB);
        let one = gather(catalog.as_bytes(), wanted(70 * MIB, 3, 1), true).unwrap();
        assert_eq!(one.list[0].lines.len(), 1);
    }

    #[test]
    fn hashes_that_lack_or_were_changed_are_told_and_not_asked_for() {
        let lacks = gather(hashes(0, 2).as_bytes(), wanted(3 * MIB, 0, 1), true).unwrap();
        assert_eq!(wrong(&lacks), "t@mon: volume 0: part 2: no \"hashes\" line has its hash");
        let none = gather(&b""[..], wanted(3 * MIB, 1, 1), false).unwrap();
        assert_eq!(wrong(&none), "t@mon: volume 0: part 1: no \"hashes\" line has its hash");
        let text = hashes(0, 3).replace(&hash(1).to_string(), &hash(9).to_string());
        let changed = gather(text.as_bytes(), wanted(3 * MIB, 0, 1), true).unwrap();
        assert_eq!(wrong(&changed), "t@mon: volume 0: its parts' hashes do not give its tree hash");
        // Those of a job are not all there, so that cannot be seen.
        assert_eq!(gather(text.as_bytes(), wanted(3 * MIB, 0, 1), false).unwrap().list.len(), 1);
    }

    #[test]
    fn a_job_is_of_whole_parts() {
        let job = |size: u64, range: Option<(u64, u64)>| Job {
            archive: archive(size),
            job_id: "j".into(),
            tier: "Bulk".into(),
            requested: "2026-01-02T00:00:00Z".parse().unwrap(),
            range_offset: range.map(|range| range.0),
            range_size: range.map(|range| range.1),
        };
        let of = |size, range| parts_of(&job(size, range)).map(|(_, first, end)| (first, end));
        assert_eq!(of(3 * MIB + 7, None), Some((0, 4)));
        assert_eq!(of(3 * MIB + 7, Some((MIB, 2 * MIB))), Some((1, 3)));
        assert_eq!(of(3 * MIB + 7, Some((3 * MIB, 7))), Some((3, 4)));
        for bad in [(0, 0), (1, MIB), (0, MIB + 1), (3 * MIB, 8), (u64::MAX, 2), (4 * MIB, MIB)] {
            assert_eq!(of(3 * MIB + 7, Some(bad)), None, "{bad:?}");
        }
        let torn = Job { range_size: None, ..job(MIB, Some((0, MIB))) };
        assert!(parts_of(&torn).is_none());
    }
}
