//! Every reader of a catalog takes the same lines of it: random catalogs of a
//! stream that was stored again and again, read by all of them, against a
//! model that was written from glacier-lines(5), "Rules of a catalog".

mod conformance;
pub(crate) mod memory;
mod storing;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use proptest::prelude::*;

use crate::catalog::scan;
use crate::hash::tree::{Fold, Hash};
use crate::line::{Archive, Deleted, Format, Hashes, Line, Stored, StreamId};
use crate::tools::get::plan::Lines;
use crate::tools::ls::archives::Archives;
use crate::tools::prune::survey::Books;
use crate::tools::rm::known::Known;
use crate::tools::verify::candidates::Stock;

const MIB: u64 = 1 << 20;
const DESTS: [&str; 2] = ["glacier://cold", "glacier://other"];

/// A line of the catalog of the one stream.
#[derive(Clone, Debug)]
enum Told {
    Archive {
        dest: usize,
        generation: u32,
        volume: u32,
    },
    Stored {
        dest: usize,
        generation: u32,
        volumes: u32,
        day: u32,
    },
    /// The archive that is so far from the first, if there are so many.
    Deleted(usize),
}

fn told() -> impl Strategy<Value = Told> {
    let of = (0..2usize, prop::sample::select(vec![0, 0, 0, 1]));
    prop_oneof![
        6 => (of.clone(), 0..3u32)
            .prop_map(|((dest, generation), volume)| Told::Archive { dest, generation, volume }),
        3 => (of, prop::sample::select(vec![1, 2, 2, 2]), 1..4u32).prop_map(
            |((dest, generation), volumes, day)| Told::Stored { dest, generation, volumes, day }
        ),
        1 => (0..12usize).prop_map(Told::Deleted),
    ]
}

fn id() -> StreamId {
    "17".repeat(16).parse().unwrap()
}

fn hash(volume: u32) -> Hash {
    Hash::of(&volume.to_be_bytes())
}

/// The lines of the catalog, each with its number; archives are named by it.
fn lines(told: &[Told]) -> Vec<Line> {
    let (name, host, region) = ("etc.tar".to_owned(), "nas".to_owned(), "eu".to_owned());
    let mut lines = Vec::new();
    let mut archives: Vec<String> = Vec::new();
    for told in told {
        let (stream, name, host, region) = (id(), name.clone(), host.clone(), region.clone());
        let line = match *told {
            Told::Archive { dest, generation, volume } => {
                let dest = DESTS[dest].to_owned();
                let treehashes = vec![hash(volume)];
                let of = dest.clone();
                let part = 0;
                let run = Hashes { stream, generation, volume, part, dest: of, treehashes };
                lines.push(Line::Hashes(run));
                let archive_id = lines.len().to_string();
                archives.push(archive_id.clone());
                Line::Archive(Archive {
                    v: 1,
                    stream,
                    host,
                    name,
                    generation,
                    volume,
                    offset: u64::from(volume) * MIB,
                    size: MIB,
                    treehash: hash(volume),
                    part_size: MIB,
                    dest,
                    region,
                    archive_id: archive_id.into(),
                    version: None,
                    class: None,
                    composite: None,
                    etag: None,
                    uploaded: "2026-01-01T00:00:00Z".parse().unwrap(),
                })
            }
            Told::Stored { dest, generation, volumes, day } => Line::Stored(Stored {
                created: None,
                features: None,
                clone: false,
                misplaced: 0,
                v: 1,
                stream,
                host,
                name,
                format: Format::Bytes,
                guid: None,
                from_guid: None,
                compound: false,
                resumed: false,
                filter: None,
                generation,
                volumes,
                size: u64::from(volumes) * MIB,
                treehash: (0..volumes).map(hash).collect::<Fold>().finish(),
                whole: "trusted".into(),
                dest: DESTS[dest].into(),
                region,
                manifest_id: None,
                stored: format!("2026-01-0{day}T00:00:00Z").parse().unwrap(),
            }),
            Told::Deleted(number) => match archives.get(number) {
                Some(archive) => Line::Deleted(Deleted {
                    archive_id: Some(archive.as_str().into()),
                    deleted: "2026-02-01T00:00:00Z".parse().unwrap(),
                    ..Deleted::default()
                }),
                None => continue,
            },
        };
        lines.push(line);
    }
    lines
}

/// Names of archives.
type Ids = Vec<String>;

/// What a `stored` line comes to: whether it lacks nothing, its day and its
/// place; and its archives.
type Whole = (bool, String, usize, Ids);

/// All copies, by generation and destination, as the manual has it.
fn model(lines: &[Line]) -> BTreeMap<(u32, String), Vec<Whole>> {
    let gone: HashSet<&str> = lines
        .iter()
        .filter_map(|line| match line {
            Line::Deleted(line) => line.archive_id.as_deref(),
            _ => None,
        })
        .collect();
    let mut copies: BTreeMap<(u32, String), Vec<Whole>> = BTreeMap::new();
    for (at, line) in lines.iter().enumerate() {
        let Line::Stored(end) = line else { continue };
        let ids: Ids = (0..end.volumes)
            .filter_map(|volume| {
                lines[..at].iter().rev().find_map(|line| match line {
                    Line::Archive(it)
                        if (it.generation, &it.dest, it.volume)
                            == (end.generation, &end.dest, volume) =>
                    {
                        Some(it.archive_id.to_string())
                    }
                    _ => None,
                })
            })
            .collect();
        let lacks_none = ids.len() == usize::try_from(end.volumes).unwrap();
        let is_whole = lacks_none && !ids.iter().any(|id| gone.contains(id.as_str()));
        let copy = (is_whole, end.stored.to_string(), at, ids);
        copies.entry((end.generation, end.dest.clone())).or_default().push(copy);
    }
    copies
}

/// The archives of the best of these, if that is whole.
fn best<'w>(copies: impl Iterator<Item = &'w Whole>) -> Option<Ids> {
    copies.max().filter(|(is_whole, ..)| *is_whole).map(|(.., ids)| ids.clone())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn all_readers_take_the_same_lines(told in prop::collection::vec(told(), 1..24)) {
        let lines = lines(&told);
        // Without one, prune and chain ask whether that is a catalog.
        prop_assume!(lines.iter().any(|line| matches!(line, Line::Stored(_))));
        let text: String = lines.iter().map(|line| line.text().unwrap()).collect();
        // Two volumes and one volume are two contents, over which lines
        // disagree: that is another rule.
        let contents: BTreeSet<u64> = lines
            .iter()
            .filter_map(|line| match line {
                Line::Stored(line) => Some(line.size),
                _ => None,
            })
            .collect();
        prop_assume!(contents.len() == 1);
        let copies = model(&lines);
        let each: Ids = copies.values().filter_map(|of| best(of.iter())).flatten().collect();
        let each: BTreeSet<String> = each.into_iter().collect();
        let all = best(copies.values().flatten());

        let mut listed = Archives::default();
        for line in &lines {
            listed.take(line.clone());
        }
        let listed: BTreeSet<String> = listed.counted().into_iter().map(|it| it.archive_id.to_string()).collect();
        prop_assert_eq!(&listed, &each, "glacier-ls archives");

        let mut stock = Stock::default();
        for (at, line) in (0..).zip(&lines) {
            stock.take(line.clone(), at).unwrap();
        }
        let sampled = stock.count().volumes.into_iter().map(|held| held.at.to_string());
        prop_assert_eq!(&sampled.collect::<BTreeSet<String>>(), &each, "glacier-verify");

        let (catalog, _) = scan::survey(text.as_bytes()).unwrap();
        let chain = catalog.chain(&id().to_string(), &HashSet::new()).ok().map(|links| {
            let spans = scan::select(text.as_bytes(), &links).unwrap();
            let at = |place: u64| usize::try_from(place).unwrap();
            let selected = spans.into_iter().map(|(start, length)| {
                Line::parse(&text[at(start)..at(start + length)]).unwrap().unwrap()
            });
            selected.collect::<Vec<Line>>()
        });
        let archives = |lines: &[Line]| -> Ids {
            let ids = lines.iter().filter_map(|line| match line {
                Line::Archive(line) => Some(line.archive_id.to_string()),
                _ => None,
            });
            ids.collect()
        };
        prop_assert_eq!(chain.as_deref().map(archives), all.clone(), "glacier-chain");

        // What chain gives, and the catalog itself.
        for (lines, what) in [(chain.unwrap_or_default(), "chain"), (lines.clone(), "catalog")] {
            let mut given = Lines::default();
            for line in lines {
                given.take(line).unwrap();
            }
            let got = given.plan(false).ok().map(|plan| -> Ids {
                let volumes = plan.streams.iter().flat_map(|stream| &stream.volumes);
                volumes.map(|volume| volume.line.archive_id.to_string()).collect()
            });
            prop_assert_eq!(got, all.clone(), "glacier-get, from the {}", what);
        }

        let books = Books::read(text.as_bytes()).unwrap().0;
        let kept = books.copies();
        let known = Known::read(|| Ok(text.as_bytes()), &HashSet::from([id()])).unwrap();
        for dest in DESTS {
            let of = copies.iter().filter(|((_, it), _)| it == dest);
            let expected = best(of.flat_map(|(_, of)| of));
            let copy = kept.iter().find(|copy| copy.stored.dest == dest && copy.closed.is_none());
            let needs = copy.map(|copy| -> Ids {
                copy.archives.iter().map(|piece| books.pieces[*piece].id.to_string()).collect()
            });
            prop_assert_eq!(&needs, &expected, "glacier-prune");
            let attempt = known.attempt(id(), dest).filter(|attempt| known.is_whole(attempt));
            let goes = attempt.map(|attempt| -> Ids {
                attempt.volumes.values().map(|archive| archive.archive_id.to_string()).collect()
            });
            prop_assert_eq!(&goes, &expected, "glacier-rm");
        }
    }
}
