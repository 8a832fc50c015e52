use std::collections::{BTreeSet, HashMap};

use jiff::{Timestamp, ToSpan as _};
use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::manifest::{Which, copy};
use super::*;
use crate::dice::{Dice, cases, dice};
use crate::hash::tree::{Fold, Hash};
use crate::line::description::Description;
use crate::line::{Archive, Format, Guid, Hashes, Line, Snapshot, Stream};
use crate::storage::Proof;
use crate::tools::get::plan::Lines;

const DEST: &str = "glacier://v";
const REGION: &str = "eu-central-1";
const PART: u64 = 1 << 20;

/// A vault, and what a catalog had said of it.
#[derive(Default)]
struct World {
    archives: Vec<crate::storage::Inventoried>,
    /// The bytes of manifests.
    contents: HashMap<String, String>,
    seconds: i64,
    /// Archives that were made, be they there or not.
    made: u32,
}

/// A stream that was stored: its catalog lines, in their order.
#[derive(Clone)]
struct Put {
    stored: Stored,
    catalog: String,
    manifest: String,
    volumes: Vec<String>,
}

/// What is stored of a stream.
#[derive(Clone)]
struct What<'a> {
    name: &'a str,
    generation: u32,
    /// Its bytes are others, though it is the same stream.
    variant: u32,
    /// Parts of each volume.
    parts: &'a [u32],
    host: &'a str,
}

fn what<'a>(name: &'a str, parts: &'a [u32]) -> What<'a> {
    What { name, generation: 0, variant: 0, parts, host: "nas" }
}

fn id(name: &str) -> StreamId {
    StreamId::new(Sha256::new_with_prefix(name), PART, PART)
}

impl World {
    fn now(&mut self) -> Timestamp {
        self.seconds += 1;
        Timestamp::UNIX_EPOCH + self.seconds.seconds()
    }

    /// Makes an archive of ours, and gives its id.
    fn archive(&mut self, of: &What<'_>, volume: Option<u32>, size: u64, treehash: Hash) -> String {
        let archive_id = format!("archive-{}", self.made);
        self.made += 1;
        let kind = if volume.is_some() { Kind::Volume } else { Kind::Manifest };
        let description = Description {
            v: 1,
            kind,
            stream: id(of.name),
            generation: of.generation,
            volume,
            host: of.host.to_owned(),
            name: of.name.to_owned(),
            guid: None,
            from_guid: None,
        };
        let created = self.now();
        self.archives.push(crate::storage::Inventoried {
            archive_id: archive_id.as_str().into(),
            of: Described::of(&description.text().unwrap()),
            size,
            checksum: Some(Proof::Tree(treehash)),
            tag: None,
            class: None,
            created,
        });
        archive_id
    }

    /// Makes an archive of another program.
    fn foreign(&mut self) {
        let of = what("photos", &[]);
        self.archive(&of, None, 7, Hash::of(b"photos"));
        self.archives.last_mut().unwrap().of = Described::of("photos of 2012");
    }

    /// Stores the volumes alone, as their lines tell: hashes and archive.
    fn volumes(&mut self, of: &What<'_>) -> Vec<(Vec<Line>, String)> {
        let mut offset = 0;
        let each = of.parts.iter().zip(0..).map(|(parts, volume)| {
            let hash =
                |part| Hash::of(format!("{} {} {volume} {part}", of.name, of.variant).as_bytes());
            let hashes: Vec<Hash> = (0..*parts).map(hash).collect();
            let (size, treehash) =
                (u64::from(*parts) * PART - 5, hashes.iter().copied().collect::<Fold>().finish());
            let archive_id = self.archive(of, Some(volume), size, treehash);
            let mut lines: Vec<Line> = Vec::new();
            for (run, treehashes) in hashes.chunks(crate::line::HASHES).enumerate() {
                lines.push(Line::Hashes(Hashes {
                    stream: id(of.name),
                    generation: of.generation,
                    volume,
                    part: u32::try_from(run * crate::line::HASHES).unwrap(),
                    dest: DEST.to_owned(),
                    treehashes: treehashes.to_vec(),
                }));
            }
            lines.push(Line::Archive(Archive {
                v: 1,
                stream: id(of.name),
                host: of.host.to_owned(),
                name: of.name.to_owned(),
                generation: of.generation,
                volume,
                offset,
                size,
                treehash,
                part_size: PART,
                dest: DEST.to_owned(),
                region: REGION.to_owned(),
                archive_id: archive_id.as_str().into(),
                version: None,
                class: None,
                composite: None,
                etag: None,
                uploaded: self.now(),
            }));
            offset += size;
            (lines, archive_id)
        });
        each.collect()
    }

    /// Stores a stream whole, its volumes in another order than theirs.
    fn put(&mut self, of: &What<'_>, dice: &mut Dice) -> Put {
        let mut volumes = self.volumes(of);
        self.finish(of, &mut volumes, dice)
    }

    /// Makes the manifest of volumes that are stored.
    fn finish(
        &mut self,
        of: &What<'_>,
        volumes: &mut [(Vec<Line>, String)],
        dice: &mut Dice,
    ) -> Put {
        let archives: Vec<Archive> = volumes.iter().map(|(lines, _)| archive_of(lines)).collect();
        let stored = Stored {
            created: None,
            features: None,
            clone: false,
            misplaced: 0,
            v: 1,
            stream: id(of.name),
            host: of.host.to_owned(),
            name: of.name.to_owned(),
            format: Format::Zfs,
            guid: Some(Guid(7)),
            from_guid: None,
            compound: false,
            resumed: false,
            filter: None,
            generation: of.generation,
            volumes: u32::try_from(volumes.len()).unwrap(),
            size: archives.iter().map(|archive| archive.size).sum(),
            treehash: archives.iter().map(|archive| archive.treehash).collect::<Fold>().finish(),
            whole: "zfs".to_owned(),
            dest: DEST.to_owned(),
            region: REGION.to_owned(),
            manifest_id: None,
            stored: self.now(),
        };
        let ids = volumes.iter().map(|(_, id)| id.clone()).collect();
        let swap = dice.below(volumes.len());
        volumes.swap(0, swap);
        let text = |line: &Line| line.text().unwrap();
        let of_volumes: String = volumes.iter().flat_map(|(lines, _)| lines).map(text).collect();
        let snapshot = text(&Line::Snapshot(Snapshot {
            created: None,
            features: None,
            clone: false,
            stream: id(of.name),
            name: of.name.to_owned(),
            guid: Guid(7),
            from_guid: None,
            offset: 0,
        }));
        let stream = text(&Line::Stream(Stream {
            created: None,
            features: None,
            clone: false,
            v: 1,
            stream: id(of.name),
            host: of.host.to_owned(),
            name: of.name.to_owned(),
            format: Format::Zfs,
            guid: Some(Guid(7)),
            from_guid: None,
            compound: false,
            resumed: false,
            filter: None,
            part_size: PART,
            volume_size: 4 * PART,
        }));
        let content =
            format!("{stream}{snapshot}{of_volumes}{}", text(&Line::Stored(stored.clone())));
        let size = u64::try_from(content.len()).unwrap();
        let manifest = self.archive(of, None, size, Hash::of(content.as_bytes()));
        self.contents.insert(manifest.clone(), content);
        let stored = Stored { manifest_id: Some(manifest.as_str().into()), ..stored };
        let catalog = format!("{of_volumes}{snapshot}{}", text(&Line::Stored(stored.clone())));
        Put { stored, catalog, manifest, volumes: ids }
    }

    /// Takes an archive out of the vault.
    fn lose(&mut self, id: &str) {
        self.archives.retain(|archive| archive.archive_id.as_str() != id);
    }

    /// Changes the text of a manifest, with a tree hash that fits.
    fn edit(&mut self, put: &Put, from: &str, to: &str) {
        let content = self.contents.get_mut(&put.manifest).unwrap();
        assert!(content.contains(from), "{content}");
        *content = content.replace(from, to);
    }

    /// The catalog that is made of it, and what is told.
    fn rebuild(&self) -> (String, Decision) {
        let made = Timestamp::UNIX_EPOCH + 1_000_000.seconds();
        let inventory = Inventory { made, archives: self.archives.clone() };
        let mut books = Books::new(&inventory, DEST, REGION);
        let mut texts = HashMap::new();
        for (index, _) in books.manifests() {
            let content = self.contents[inventory.archives[index].archive_id.as_str()].as_bytes();
            let checked = books.check(index).read(content).unwrap();
            if let Some(number) = books.take(index, checked) {
                let mut text = Vec::new();
                for which in [Which::Volumes, Which::Snapshots] {
                    copy(content, which, &mut text).unwrap();
                }
                let mut text = String::from_utf8(text).unwrap();
                text += &Line::Stored(books.stored(number).unwrap().clone()).text().unwrap();
                texts.insert(number, text);
            }
        }
        let decision = books.decide();
        (decision.streams.iter().map(|number| texts[number].as_str()).collect(), decision)
    }
}

fn archive_of(lines: &[Line]) -> Archive {
    match lines.last() {
        Some(Line::Archive(archive)) => archive.clone(),
        _ => panic!("no archive"),
    }
}

fn orphans(decision: &Decision) -> BTreeSet<String> {
    decision.orphans.iter().map(|line| line.archive_id.to_string()).collect()
}

#[test]
fn the_catalog_comes_back_as_it_was() {
    let mut world = World::default();
    let mut catalog = String::new();
    for (name, parts) in [("a@mon", &[4, 4, 1][..]), ("b@mon", &[2]), ("a@tue", &[120])] {
        catalog += &world.put(&what(name, parts), &mut Dice::default()).catalog;
        world.foreign();
    }
    let (rebuilt, decision) = world.rebuild();
    assert_eq!(rebuilt, catalog);
    assert_eq!((decision.refused.len(), decision.lacking.len()), (0, 0));
    assert_eq!(orphans(&decision).len(), 0, "foreign ones are none");
}

#[test]
fn what_is_missing_is_told_and_not_stored() {
    let mut world = World::default();
    let put = world.put(&what("a@mon", &[4, 4, 1]), &mut Dice::default());
    world.lose(&put.volumes[1]);
    let (rebuilt, decision) = world.rebuild();
    assert_eq!(rebuilt, "");
    assert_eq!(
        decision.lacking,
        [format!(
            "a@mon: 1 of its 3 volumes are not in the inventory, the first is volume 1; stream {} left out",
            id("a@mon")
        )]
    );
    let left = [&put.volumes[0], &put.volumes[2], &put.manifest].map(Clone::clone);
    assert_eq!(orphans(&decision), BTreeSet::from(left));
}

#[test]
fn manifests_that_disagree_are_both_shown_and_none_is_taken() {
    let mut world = World::default();
    let first = world.put(&what("a@mon", &[4]), &mut Dice::default());
    let second = world.put(&What { variant: 1, ..what("a@mon", &[4]) }, &mut Dice::default());
    let good = world.put(&what("b@mon", &[4]), &mut Dice::default());
    let (rebuilt, decision) = world.rebuild();
    assert_eq!(rebuilt, good.catalog);
    assert_eq!(decision.refused.len(), 1);
    for id in [&first.manifest, &second.manifest] {
        assert!(decision.refused[0].contains(id.as_str()), "{:?}", decision.refused);
    }
    assert_eq!(orphans(&decision).len(), 0, "one of them is the user's");
}

#[test]
fn a_manifest_of_the_same_bytes_under_another_guid_disagrees() {
    for (from, to) in [
        ("\"guid\":\"7\",\"volumes\"", "\"guid\":\"8\",\"volumes\""),
        ("\"guid\":\"7\",\"volumes\"", "\"guid\":\"7\",\"from_guid\":\"3\",\"volumes\""),
        ("\"guid\":\"7\",\"offset\"", "\"guid\":\"8\",\"offset\""),
        ("\"format\":\"zfs\",\"guid\":\"7\",\"volumes\"", "\"format\":\"bytes\",\"volumes\""),
    ] {
        let mut world = World::default();
        world.put(&what("a@mon", &[4]), &mut Dice::default());
        let forged = world.put(&what("a@mon", &[4]), &mut Dice::default());
        world.edit(&forged, from, to);
        let (rebuilt, decision) = world.rebuild();
        assert_eq!((rebuilt.as_str(), decision.refused.len()), ("", 1), "{to}");
    }
}

#[test]
fn of_equal_manifests_the_latest_is_taken_and_only_a_whole_one() {
    let mut world = World::default();
    let first = world.put(&what("a@mon", &[4, 1]), &mut Dice::default());
    let second = What { host: "other", ..what("a@mon", &[4, 1]) };
    let second = world.put(&second, &mut Dice::default());
    let (rebuilt, decision) = world.rebuild();
    assert_eq!(rebuilt, second.catalog);
    let of_first: BTreeSet<String> =
        first.volumes.iter().chain([&first.manifest]).cloned().collect();
    assert_eq!(orphans(&decision), of_first);
    world.lose(&second.volumes[0]);
    let (rebuilt, decision) = world.rebuild();
    assert_eq!(rebuilt, first.catalog);
    assert_eq!(orphans(&decision), BTreeSet::from([second.volumes[1].clone(), second.manifest]));
    assert_eq!(decision.lacking.len(), 0, "it is stored");
}

#[test]
fn a_manifest_that_does_not_fit_is_refused_in_exact_words() {
    let other = id("other").to_string();
    let of = id("a@mon").to_string();
    let hash = Hash::of(b"else").to_string();
    let first = Hash::of(b"a@mon 0 0 0").to_string();
    for (from, to, why) in [
        (
            of.as_str(),
            other.as_str(),
            format!("line 1: of stream {other}, not of that in its description"),
        ),
        (
            "\"volume\":1,\"part\":0,",
            "\"generation\":1,\"volume\":1,\"part\":0,",
            "line 5: of generation 1, not of that in its description".into(),
        ),
        (DEST, "glacier://w", "line 3: of glacier://w in eu-central-1".into()),
        (REGION, "eu-west-1", "line 4: of glacier://v in eu-west-1".into()),
        (&first, &hash, "line 4: volume 0: its parts' hashes do not give its tree hash".into()),
        (
            "\"volume\":1,\"part\":0,",
            "\"volume\":1,\"part\":50,",
            "line 5: volume 1: the hashes of its parts are not in their order".into(),
        ),
        (
            "\"part_size\":1048576,\"dest\"",
            "\"part_size\":2097152,\"dest\"",
            "line 4: volume 0: the hashes of its parts are not all there".into(),
        ),
        (
            "\"part_size\":1048576,\"dest\"",
            "\"part_size\":1048577,\"dest\"",
            "line 4: volume 0: its part size is not 2^n MiB from 1 MiB to 4 GiB".into(),
        ),
        (
            "archive-1\"",
            "archive-0\"",
            "line 6: volume 1: the inventory has its archive with another size or hash".into(),
        ),
        ("\"volumes\":2,", "\"volumes\":3,", "line 7: 2 of 3 volumes are in it".into()),
        (
            "\"offset\":4194299,",
            "\"offset\":4194300,",
            "line 7: volume 1: does not begin where the one before ends".into(),
        ),
        (
            "\"size\":6291446,",
            "\"size\":6291447,",
            "line 7: its volumes do not give the size and tree hash of \"stored\"".into(),
        ),
        (
            "\"region\":\"eu-central-1\",\"stored\"",
            "\"region\":\"eu-central-1\",\"manifest_id\":\"m\",\"stored\"",
            "line 7: \"stored\" names a manifest".into(),
        ),
        ("{\"type\":\"stored\"", "{\"type\":\"colour\"", "no \"stored\" line".into()),
        (
            "{\"type\":\"stored\",\"v\":1",
            "{\"type\":\"stored\",\"v\":2",
            "line 7: stored: version 2 is newer than this program, which knows 1".into(),
        ),
        ("{\"type\":\"snapshot\"", "{\"type\":\"end\"", "line 2: no \"volumes\"".into()),
        ("{\"type\":\"snapshot\"", "snapshot", "line 2: not a JSON object".into()),
    ] {
        let mut world = World::default();
        let put = world.put(&what("a@mon", &[4, 2]), &mut Dice::default());
        world.edit(&put, from, to);
        let (rebuilt, decision) = world.rebuild();
        assert_eq!(rebuilt, "", "{to}");
        assert_eq!(
            decision.refused,
            [format!("a@mon: manifest {}: {why}; not taken", put.manifest)]
        );
        assert_eq!(orphans(&decision).len(), 0, "{to}");
    }
}

#[test]
fn what_else_a_manifest_holds_is_passed_over() {
    let mut world = World::default();
    let put = world.put(&what("a@mon", &[4]), &mut Dice::default());
    for more in [r#"{"type":"colour"}"#, r#"{"type":"failed","code":0,"message":""}"#] {
        let content = world.contents[&put.manifest].clone();
        world.contents.insert(put.manifest.clone(), format!("{more}\n{content}"));
    }
    assert_eq!(world.rebuild().0, put.catalog);
}

#[test]
fn lines_behind_the_end_and_volumes_without_one_are_refused() {
    let mut world = World::default();
    let put = world.put(&what("a@mon", &[4]), &mut Dice::default());
    let content = world.contents[&put.manifest].clone();
    let hashes = content.lines().nth(2).unwrap();
    for (content, why) in [
        (format!("{content}{hashes}\n"), "line 6: stands behind \"stored\""),
        (
            content.replace("{\"type\":\"archive\"", "{\"type\":\"colour\""),
            "line 5: volume 0: no archive",
        ),
        (
            content.replace(hashes, ""),
            "line 4: volume 0: the hashes of its parts are not all there",
        ),
        (String::new(), "no \"stored\" line"),
        ("x".repeat(10_000), "line 1: longer than 4096 bytes"),
    ] {
        world.contents.insert(put.manifest.clone(), content);
        let (rebuilt, decision) = world.rebuild();
        assert_eq!(rebuilt, "");
        assert_eq!(
            decision.refused,
            [format!("a@mon: manifest {}: {why}; not taken", put.manifest)]
        );
    }
}

#[test]
fn one_that_says_to_be_huge_is_not_even_asked_for() {
    let mut world = World::default();
    let put = world.put(&what("a@mon", &[4]), &mut Dice::default());
    world.archives.last_mut().unwrap().size = LARGEST + 1;
    let inventory = Inventory { made: Timestamp::UNIX_EPOCH, archives: world.archives.clone() };
    assert_eq!(Books::new(&inventory, DEST, REGION).manifests(), []);
    let (rebuilt, decision) = world.rebuild();
    assert_eq!(rebuilt, "");
    let why = "has 4294967297 bytes, over 4 GiB; not taken";
    assert_eq!(decision.refused, [format!("a@mon: manifest {}: {why}", put.manifest)]);
}

#[test]
fn a_generation_may_need_archives_of_the_one_before() {
    let mut world = World::default();
    let mut before = world.volumes(&what("a@mon", &[4, 4]));
    let now = What { generation: 1, ..what("a@mon", &[4, 4]) };
    let mut volumes = world.volumes(&now);
    // The first volume has the same bytes, and its archive is good again.
    let doubled = std::mem::replace(&mut volumes[0].1, before[0].1.clone());
    if let Some(Line::Archive(archive)) = volumes[0].0.last_mut() {
        archive.archive_id = before[0].1.as_str().into();
    }
    let put = world.finish(&now, &mut volumes, &mut Dice::default());
    let (rebuilt, decision) = world.rebuild();
    assert_eq!(rebuilt, put.catalog);
    assert_eq!(orphans(&decision), BTreeSet::from([before.remove(1).1, doubled]));
}

proptest! {
    #![proptest_config(cases(200))]

    /// What was stored and is there comes back, in the order in which it was
    /// stored; all else of ours is told of, once, and nothing of others is.
    #[test]
    fn any_history_gives_the_catalog_that_it_had(mut dice in dice(120)) {
        let mut world = World::default();
        let mut puts: Vec<Put> = Vec::new();
        let mut left: BTreeSet<String> = BTreeSet::new();
        let (mut refused, mut lacking, mut disputed) = (0, 0, false);
        for number in 0..=dice.below(6) {
            let name = format!("tank/{number}@mon");
            let parts: Vec<u32> = (0..=dice.below(3))
                .map(|_| 1 + u32::try_from(dice.below(120)).unwrap())
                .collect();
            let of = What { name: &name, ..what("", &parts) };
            if dice.once_in(3) {
                world.foreign();
            }
            match dice.below(8) {
                // Never finished.
                1 => left.extend(world.volumes(&of).into_iter().map(|(_, id)| id)),
                // Begun anew.
                2 => {
                    left.extend(world.volumes(&of).into_iter().map(|(_, id)| id));
                    let next = What { generation: 1, variant: 1, ..of };
                    puts.push(world.put(&next, &mut dice));
                }
                // Lost in part.
                3 => {
                    let put = world.put(&of, &mut dice);
                    let gone = &put.volumes[dice.below(put.volumes.len())];
                    world.lose(gone);
                    left.extend(put.volumes.iter().filter(|id| *id != gone).cloned());
                    left.insert(put.manifest);
                    lacking += 1;
                }
                // Stored twice.
                4 => {
                    let first = world.put(&of, &mut dice);
                    left.extend(first.volumes.iter().chain([&first.manifest]).cloned());
                    puts.push(world.put(&What { host: "other", ..of }, &mut dice));
                }
                // Stored twice with other bytes.
                5 => {
                    world.put(&of, &mut dice);
                    world.put(&What { variant: 1, ..of }, &mut dice);
                    refused += 1;
                }
                // Its manifest does not fit.
                6 => {
                    let put = world.put(&of, &mut dice);
                    world.edit(&put, "\"whole\"", "\"hole\"");
                    refused += 1;
                }
                // Two attempts were stored whole: two machines had it.
                7 => {
                    puts.push(world.put(&of, &mut dice));
                    puts.push(world.put(&What { generation: 1, variant: 1, ..of }, &mut dice));
                    disputed = true;
                }
                _ => puts.push(world.put(&of, &mut dice)),
            }
        }
        // An inventory has no order that one can rely on.
        let half = dice.below(world.archives.len());
        world.archives.rotate_left(half);
        let (rebuilt, decision) = world.rebuild();
        let catalog: String = puts.iter().map(|put| put.catalog.as_str()).collect();
        prop_assert_eq!(&rebuilt, &catalog);
        prop_assert_eq!(orphans(&decision), left);
        prop_assert_eq!((decision.refused.len(), decision.lacking.len()), (refused, lacking));
        if !puts.is_empty() && !disputed {
            let mut lines = Lines::default();
            for line in rebuilt.lines() {
                lines.take(Line::parse(line).unwrap().unwrap()).unwrap();
            }
            let plan = lines.plan(false).unwrap();
            prop_assert_eq!(plan.streams.len(), puts.len());
            let stored: Vec<StreamId> = puts.iter().map(|put| put.stored.stream).collect();
            prop_assert_eq!(plan.streams.iter().map(|stream| stream.id).collect::<Vec<_>>(), stored);
        }
    }

    /// Whatever stands in a manifest, it is refused, or lacks archives, or
    /// what is printed brings a stream back.
    #[test]
    fn a_manifest_with_any_byte_changed_does_no_harm(
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut world = World::default();
        let put = world.put(&what("a@mon", &[60, 2]), &mut Dice::default());
        let mut content = world.contents[&put.manifest].clone().into_bytes();
        let at = at.index(content.len());
        content[at] = byte;
        content.truncate(cut.map_or(content.len(), |cut| cut.index(content.len())));
        let inventory =
            Inventory { made: Timestamp::UNIX_EPOCH, archives: world.archives.clone() };
        let mut books = Books::new(&inventory, DEST, REGION);
        let (index, _) = books.manifests()[0];
        let checked = books.check(index).read(&content[..]).unwrap();
        books.take(index, checked);
        let decision = books.decide();
        let (taken, refused) = (decision.streams.len(), decision.refused.len());
        prop_assert_eq!(taken + refused + decision.lacking.len(), 1);
        if taken == 1 {
            let mut text = Vec::new();
            copy(&content[..], Which::Volumes, &mut text).unwrap();
            let mut lines = Lines::default();
            for line in String::from_utf8(text).unwrap().lines() {
                lines.take(Line::parse(line).unwrap().unwrap()).unwrap();
            }
            lines.take(Line::Stored(books.stored(0).unwrap().clone())).unwrap();
            prop_assert_eq!(lines.plan(false).unwrap().streams.len(), 1);
        }
    }
}
