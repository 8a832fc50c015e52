//! The plan against a small model of chunk, disk and service, with crashes,
//! lost answers, forgotten uploads and changed bytes in any order.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::*;
use crate::description::{Description, Kind};
use crate::journal::Confirmed;
use crate::line::{Format, Part, StreamId, VERSION, Volume};
use crate::vault::Failure;

const PART: u64 = 1 << 20;
const VOLUME: u64 = 4 << 20;

/// The content of a stream: what makes each part's hash, a volume a row.
type Content = Vec<Vec<u8>>;

fn hash(byte: u8) -> Hash {
    Hash::of(&[byte])
}

fn stream() -> Stream {
    Stream {
        v: VERSION,
        stream: StreamId::new(Sha256::new(), PART, VOLUME),
        host: "nas".into(),
        name: "tank/home@mon".into(),
        format: Format::Zfs,
        guid: None,
        from_guid: None,
        compound: false,
        resumed: false,
        part_size: PART,
        volume_size: VOLUME,
    }
}

/// An upload at the service.
#[derive(Clone, Default)]
struct Upload {
    description: String,
    parts: BTreeMap<u64, (u64, Hash)>,
}

/// An archive at the service.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Stored {
    description: Description,
    upload: String,
    size: u64,
    treehash: Hash,
}

/// What outlives a crash.
#[derive(Default)]
struct World {
    uploads: BTreeMap<String, Upload>,
    /// The archive that an upload became.
    archives: BTreeMap<String, Stored>,
    /// Uploads whose Complete can still be repeated.
    repeatable: BTreeSet<String>,
    names: u32,
    journal: String,
    catalog: Vec<Line>,
    /// Parts in the spool: volume, part, hash.
    spool: BTreeMap<(u32, u32), Hash>,
    /// chunk's note of the volumes to spool though they are stored.
    respool: Option<(u32, u32)>,
    retired: bool,
    ends: usize,
}

impl World {
    fn journal(&self) -> Journal {
        Journal::read(self.journal.as_bytes()).unwrap()
    }

    /// The lines that chunk prints; it stops at a stored volume that changed.
    fn chunk(&mut self, content: &Content) -> Vec<Line> {
        let journal = self.journal();
        let known = journal.volumes();
        let respool = self.respool.filter(|(_, generation)| *generation == journal.generation);
        let (mut lines, mut offset, mut fold) = (Vec::new(), 0, Fold::default());
        for (volume, parts) in (0..).zip(content) {
            let must = respool.is_some_and(|(from, _)| volume >= from);
            let spooled = journal.stored.is_none() && (must || !known.contains_key(&volume));
            let treehash = parts.iter().copied().map(hash).collect::<Fold>().finish();
            for (part, byte) in (0..).zip(parts) {
                if spooled {
                    self.spool.insert((volume, part), hash(*byte));
                }
                lines.push(Line::Part(Part {
                    stream: stream().stream,
                    volume,
                    part,
                    offset: PART * u64::from(part),
                    size: PART,
                    treehash: hash(*byte),
                    sha256: hash(*byte),
                    spooled,
                }));
            }
            let differs = known.get(&volume).is_some_and(|known| *known != treehash);
            if differs && !spooled && journal.stored.is_none() {
                self.respool = Some((volume, journal.generation));
                return lines;
            }
            let size = PART * parts.len() as u64;
            lines.push(Line::Volume(Volume {
                stream: stream().stream,
                volume,
                offset,
                size,
                parts: u32::try_from(parts.len()).unwrap(),
                treehash,
            }));
            fold.push(treehash);
            offset += size;
        }
        lines.push(Line::End(End {
            stream: stream().stream,
            volumes: u32::try_from(content.len()).unwrap(),
            size: offset,
            treehash: fold.finish(),
            whole: "zfs".into(),
        }));
        lines
    }

    /// The service's side of a request.
    fn ask(&mut self, action: &Action) -> Result<Outcome, Failure> {
        let missing = || Failure::Missing("no such upload".into());
        match &action.ask {
            Ask::Initiate { description } => {
                self.names += 1;
                let id = format!("upload-{}", self.names);
                let upload = Upload { description: description.clone(), ..Upload::default() };
                self.uploads.insert(id.clone(), upload);
                Ok(Outcome::Initiated(id))
            }
            Ask::List { upload } => {
                let upload = self.uploads.get(upload).ok_or_else(missing)?;
                let listed = upload.parts.iter();
                let listed = listed.map(|(offset, (size, treehash))| Listed {
                    offset: *offset,
                    size: *size,
                    treehash: *treehash,
                });
                Ok(Outcome::Listed(listed.collect()))
            }
            Ask::Send { upload, part, offset, piece } => {
                if let Target::Volume(volume) = action.target {
                    let part = u32::try_from(*part).unwrap();
                    let here = self.spool.get(&(volume, part));
                    assert_eq!(here, Some(&piece.treehash), "{volume} {part} is in the spool");
                }
                let upload = self.uploads.get_mut(upload).ok_or_else(missing)?;
                upload.parts.insert(*offset, (piece.size, piece.treehash));
                Ok(Outcome::Sent)
            }
            Ask::Complete { upload, size, treehash, .. } => {
                if let Some(archive) =
                    self.archives.get(upload).filter(|_| self.repeatable.contains(upload))
                {
                    assert_eq!((archive.size, archive.treehash), (*size, *treehash));
                } else {
                    let sent = self.uploads.remove(upload).ok_or_else(missing)?;
                    let parts: Fold = sent.parts.values().map(|(_, hash)| *hash).collect();
                    let sum: u64 = sent.parts.values().map(|(size, _)| size).sum();
                    assert_eq!(
                        (sum, parts.finish()),
                        (*size, *treehash),
                        "the parts are all there"
                    );
                    let archive = Stored {
                        description: Description::parse(&sent.description).unwrap(),
                        upload: upload.clone(),
                        size: *size,
                        treehash: *treehash,
                    };
                    // I1, as the service sees it.
                    let manifest = archive.description.kind == Kind::Manifest;
                    assert!(!manifest || self.ends > 0, "no end, no manifest");
                    self.archives.insert(upload.clone(), archive);
                    self.repeatable.insert(upload.clone());
                }
                Ok(Outcome::Completed { archive_id: upload.clone(), at: Timestamp::UNIX_EPOCH })
            }
            Ask::Find { description, size, treehash, .. } => {
                let wanted = Description::parse(description).unwrap();
                let found = self.archives.values().find(|archive| {
                    archive.description == wanted
                        && archive.size == *size
                        && archive.treehash == *treehash
                });
                let archive = found.map(|found| (found.upload.clone(), Timestamp::UNIX_EPOCH));
                let made = Timestamp::from_second(i64::from(u32::MAX)).unwrap();
                Ok(Outcome::Searched { made, archive })
            }
        }
    }

    /// Our side; false if a crash came before the last effect.
    fn perform(
        &mut self,
        plan: &mut Plan,
        effects: Vec<Effect>,
        crash: &mut dyn FnMut() -> bool,
    ) -> bool {
        for effect in effects {
            if crash() {
                return false;
            }
            match effect {
                Effect::Record(record) => {
                    self.journal += &(serde_json::to_string(&record).unwrap() + "\n");
                }
                Effect::Publish(lines) => {
                    for line in lines {
                        self.journal += &line.text().unwrap();
                        if !self.catalog.contains(&line) {
                            self.catalog.push(line);
                        }
                    }
                }
                Effect::Clear(volume) => {
                    let there = self
                        .catalog
                        .iter()
                        .any(|line| matches!(line, Line::Archive(line) if line.volume == volume));
                    assert!(there, "I2: volume {volume} is in the catalog");
                    self.spool.retain(|(of, _), _| *of != volume);
                }
                Effect::Abort(upload) => {
                    self.uploads.remove(&upload);
                }
                Effect::Warn(_) => {}
                Effect::Manifest => {
                    let stored = plan.stored(Timestamp::UNIX_EPOCH).unwrap();
                    let parts = vec![Piece {
                        size: 100,
                        treehash: hash(255),
                        sha256: hash(255),
                        spooled: true,
                        stamp: 0,
                    }];
                    let effects = plan.manifest(Manifest { stored, parts }).unwrap();
                    if !self.perform(plan, effects, crash) {
                        return false;
                    }
                }
                Effect::Retire => {
                    self.retired = true;
                    self.spool.clear();
                }
            }
        }
        true
    }

    /// One run of chunk and put; `chance` decides what goes wrong. True if the
    /// stream is stored.
    fn run(
        &mut self,
        content: &Content,
        chance: &mut dyn FnMut(u32) -> bool,
    ) -> Result<bool, crate::error::Error> {
        let mut lines = self.chunk(content).into_iter();
        let mut plan = Plan::new(stream(), "glacier://v".into(), "r".into(), self.journal());
        let mut flying: Vec<(Action, Result<Outcome, Failure>)> = Vec::new();
        let mut tried = BTreeSet::new();
        loop {
            if chance(40) {
                return Ok(false);
            }
            let mut idle = true;
            if let Some(line) = lines.next() {
                idle = false;
                self.ends += usize::from(matches!(line, Line::End(_)));
                let effects = plan.take(line, 0)?;
                if !self.perform(&mut plan, effects, &mut || chance(60)) {
                    return Ok(false);
                }
            }
            if flying.len() < 3
                && let Some((effects, action)) = plan.next(Timestamp::UNIX_EPOCH, |_| true)?
            {
                idle = false;
                if !self.perform(&mut plan, effects, &mut || chance(60)) {
                    return Ok(false);
                }
                let answer = self.ask(&action);
                flying.push((action, answer));
            }
            // Answers come in any order, or are lost after the work was done.
            if !flying.is_empty() && (chance(2) || idle) {
                let at = if chance(2) { 0 } else { flying.len() - 1 };
                let (action, answer) = flying.remove(at);
                if chance(10) && plan.wants(&action) {
                    tried.insert(format!("{action:?}"));
                    if chance(2) {
                        self.repeatable.clear();
                    }
                    let answer = self.ask(&action);
                    flying.push((action, answer));
                    continue;
                }
                let effects = match answer {
                    Ok(outcome) => plan.done(&action, outcome)?,
                    Err(_) if !plan.wants(&action) => Vec::new(),
                    Err(failure) => {
                        let tried = tried.contains(&format!("{action:?}"));
                        plan.heal(&action, &failure, tried)?.expect("a cure")
                    }
                };
                if !self.perform(&mut plan, effects, &mut || chance(60)) {
                    return Ok(false);
                }
            } else if idle && flying.is_empty() {
                return Ok(plan.is_finished());
            }
            if chance(50) {
                // The service forgets an upload.
                self.uploads.pop_first();
            }
        }
    }

    /// Archives of volumes, by volume.
    fn volumes(&self) -> BTreeMap<u32, Vec<&Stored>> {
        let mut volumes: BTreeMap<u32, Vec<&Stored>> = BTreeMap::new();
        for archive in self.archives.values() {
            if let Some(volume) = archive.description.volume {
                volumes.entry(volume).or_default().push(archive);
            }
        }
        volumes
    }

    /// Checks a stored stream against what went in.
    fn judge(&self, content: &Content) {
        let stored = self.catalog.iter().rev().find_map(|line| match line {
            Line::Stored(line) => Some(line),
            _ => None,
        });
        let stored = stored.expect("a stored line");
        let fold: Fold = content
            .iter()
            .map(|parts| parts.iter().copied().map(hash).collect::<Fold>().finish())
            .collect();
        assert_eq!(stored.treehash, fold.finish());
        assert_eq!(stored.volumes as usize, content.len());
        let manifest = stored.manifest_id.as_ref().expect("a manifest");
        assert_eq!(self.archives[manifest].description.kind, Kind::Manifest);
        for (volume, parts) in (0..).zip(content) {
            let archive = self.catalog.iter().rev().find_map(|line| match line {
                Line::Archive(line)
                    if line.volume == volume && line.generation == stored.generation =>
                {
                    Some(line)
                }
                _ => None,
            });
            let archive = archive.expect("an archive line");
            let there = &self.archives[&archive.archive_id];
            let treehash = parts.iter().copied().map(hash).collect::<Fold>().finish();
            assert_eq!((there.treehash, archive.treehash), (treehash, treehash));
        }
        assert!(self.retired);
    }
}

/// A stream of a few volumes; all but the last are full.
fn content() -> impl Strategy<Value = Content> {
    let full = prop::collection::vec(0..8_u8, 4);
    (prop::collection::vec(full, 0..4), prop::collection::vec(0..8_u8, 1..=4)).prop_map(
        |(mut volumes, last)| {
            volumes.push(last);
            volumes
        },
    )
}

/// A source of chance that the test's seed decides: true once in `n`.
fn chance(mut dice: impl Iterator<Item = u32>) -> impl FnMut(u32) -> bool {
    move |n| dice.next().is_some_and(|die| die % n == 0)
}

fn calm() -> impl FnMut(u32) -> bool {
    |n| n == 2
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// I4, and with the assertions of the model I1 and I2.
    #[test]
    fn running_it_again_heals_and_stores_nothing_twice(
        content in content(),
        dice in prop::collection::vec(any::<u32>(), 0..600),
    ) {
        let mut world = World::default();
        let mut dice = dice.into_iter();
        while dice.len() > 0 {
            match world.run(&content, &mut chance(dice.by_ref())) {
                Ok(_) => {}
                // The service forgot too often in one run.
                Err(e) => prop_assert_eq!(e.code(), 69),
            }
        }
        let mut runs = 0;
        while !world.run(&content, &mut calm()).unwrap() {
            runs += 1;
            prop_assert!(runs < 5, "it ends");
        }
        world.judge(&content);
        for (volume, archives) in world.volumes() {
            prop_assert_eq!(archives.len(), 1, "volume {} is stored once", volume);
        }
        // Once more, for nothing.
        let asked = world.names;
        prop_assert!(world.run(&content, &mut calm()).unwrap());
        prop_assert_eq!(world.names, asked);
    }

    #[test]
    fn bytes_that_change_on_the_way_are_stored_as_they_are_at_last(
        before in content(),
        after in content(),
        dice in prop::collection::vec(any::<u32>(), 0..200),
    ) {
        let mut world = World::default();
        let interrupted = world.run(&before, &mut chance(dice.into_iter()));
        if interrupted.is_err() || world.journal().stored.is_some() {
            return Ok(());
        }
        let mut runs = 0;
        while !world.run(&after, &mut calm()).unwrap() {
            runs += 1;
            prop_assert!(runs < 8, "it ends");
        }
        world.judge(&after);
    }

    #[test]
    fn a_stored_stream_is_never_changed(before in content(), after in content()) {
        prop_assume!(before != after);
        let mut world = World::default();
        prop_assert!(world.run(&before, &mut calm()).unwrap());
        let asked = world.names;
        prop_assert_eq!(world.run(&after, &mut calm()).unwrap_err().code(), 65);
        prop_assert_eq!(world.names, asked, "nothing was begun");
        world.judge(&before);
    }
}

#[test]
fn no_end_no_manifest() {
    let mut world = World::default();
    let content = vec![vec![1, 2, 3, 4], vec![5]];
    let mut plan = Plan::new(stream(), "glacier://v".into(), "r".into(), world.journal());
    let lines = world.chunk(&content);
    let (_, lines) = lines.split_last().unwrap();
    for line in lines.iter().cloned() {
        let effects = plan.take(line, 0).unwrap();
        assert!(world.perform(&mut plan, effects, &mut || false));
    }
    while let Some((effects, action)) = plan.next(Timestamp::UNIX_EPOCH, |_| true).unwrap() {
        world.perform(&mut plan, effects, &mut || false);
        let outcome = world.ask(&action).unwrap();
        let effects = plan.done(&action, outcome).unwrap();
        world.perform(&mut plan, effects, &mut || false);
    }
    assert_eq!(world.volumes().len(), 2, "what is whole is stored");
    assert_eq!(world.archives.len(), 2, "and no manifest");
    assert!(!plan.is_finished() && !plan.has_end());
    assert!(!world.catalog.iter().any(|line| matches!(line, Line::Stored(_))));
}

#[test]
fn nothing_is_asked_for_while_the_window_is_closed() {
    let mut world = World::default();
    let mut plan = Plan::new(stream(), "glacier://v".into(), "r".into(), Journal::default());
    for line in world.chunk(&vec![vec![1, 2]]) {
        plan.take(line, 7).unwrap();
    }
    let mut asked = Vec::new();
    let closed = |stamp| {
        asked.push(stamp);
        false
    };
    assert_eq!(plan.next(Timestamp::UNIX_EPOCH, closed).unwrap(), None);
    assert_eq!(asked, [7]);
    assert_eq!(plan.waits_for(), Some(7));
}

#[test]
fn refuses_lines_that_do_not_follow_one_another() {
    let lines = World::default().chunk(&vec![vec![1, 2, 3, 4], vec![5, 6]]);
    let swaps = [(0, 1), (3, 4), (4, 5), (6, 7), (7, 8)];
    let gaps = (0..lines.len()).map(|gap| {
        let mut lines = lines.clone();
        lines.remove(gap);
        lines
    });
    let swapped = swaps.iter().map(|(a, b)| {
        let mut lines = lines.clone();
        lines.swap(*a, *b);
        lines
    });
    for (number, lines) in gaps.chain(swapped).enumerate() {
        let mut plan = Plan::new(stream(), "glacier://v".into(), "r".into(), Journal::default());
        let taken: Result<Vec<_>, _> = lines.into_iter().map(|line| plan.take(line, 0)).collect();
        // Without the last line the stream only lacks its end.
        match taken {
            Err(e) => assert_eq!(e.code(), 65, "case {number}"),
            Ok(_) => assert!(!plan.has_end(), "case {number}"),
        }
    }
}

/// Asks for all that is wanted, until nothing is.
fn work(world: &mut World, plan: &mut Plan) {
    while let Some((effects, action)) = plan.next(Timestamp::UNIX_EPOCH, |_| true).unwrap() {
        world.perform(plan, effects, &mut || false);
        answer(world, plan, &action);
    }
}

/// Lets the service answer.
fn answer(world: &mut World, plan: &mut Plan, action: &Action) {
    let effects = match world.ask(action) {
        Ok(outcome) => plan.done(action, outcome).unwrap(),
        Err(_) if !plan.wants(action) => Vec::new(),
        Err(failure) => plan.heal(action, &failure, false).unwrap().expect("a cure"),
    };
    world.perform(plan, effects, &mut || false);
}

/// Gives the plan all that chunk prints.
fn take_all(world: &mut World, plan: &mut Plan, content: &Content) {
    for line in world.chunk(content) {
        world.ends += usize::from(matches!(line, Line::End(_)));
        let effects = plan.take(line, 0).unwrap();
        world.perform(plan, effects, &mut || false);
    }
}

/// A world with a journal of these records, and its plan.
fn after(records: &[Record]) -> (World, Plan) {
    let mut world = World::default();
    for record in records {
        world.journal += &(serde_json::to_string(record).unwrap() + "\n");
    }
    let plan = Plan::new(stream(), "glacier://v".into(), "r".into(), world.journal());
    (world, plan)
}

fn fold(parts: &[u8]) -> Hash {
    parts.iter().copied().map(hash).collect::<Fold>().finish()
}

/// An archive of the service, and what the journal says of it.
fn stored(world: &mut World, target: Target, id: &str, parts: &[u8]) -> Confirmed {
    let plan = Plan::new(stream(), "glacier://v".into(), "r".into(), Journal::default());
    let (size, treehash) = (PART * parts.len() as u64, fold(parts));
    let description = plan.description(target);
    let archive = Stored { description, upload: id.into(), size, treehash };
    world.archives.insert(id.into(), archive);
    Confirmed { archive_id: id.into(), size, treehash, uploaded: Timestamp::UNIX_EPOCH }
}

#[test]
fn a_list_that_comes_too_late_opens_no_volume_again() {
    let content = vec![vec![1, 2]];
    let old = stored(&mut World::default(), Target::Volume(0), "old", &[1, 2]);
    let (mut world, mut plan) = after(&[
        Record::archived(Target::Volume(0), old),
        Record::Generation { generation: 1 },
        Record::upload(Target::Volume(0), "new".into()),
    ]);
    stored(&mut world, Target::Volume(0), "old", &[1, 2]);
    let parts = BTreeMap::from([(0, (PART, hash(9)))]);
    world.uploads.insert("new".into(), Upload { parts, ..Upload::default() });
    let mut lines = world.chunk(&content).into_iter();
    plan.take(lines.next().unwrap(), 0).unwrap();
    let (_, list) = plan.next(Timestamp::UNIX_EPOCH, |_| true).unwrap().unwrap();
    assert!(matches!(list.ask, Ask::List { .. }));
    let end = lines.next_back().unwrap();
    for line in lines {
        let effects = plan.take(line, 0).unwrap();
        world.perform(&mut plan, effects, &mut || false);
    }
    answer(&mut world, &mut plan, &list);
    world.ends += 1;
    let effects = plan.take(end, 0).unwrap();
    world.perform(&mut plan, effects, &mut || false);
    work(&mut world, &mut plan);
    assert!(plan.is_finished());
    world.judge(&content);
}

#[test]
fn a_complete_of_what_was_given_up_holds_up_nothing() {
    let content = vec![vec![1, 2]];
    let (mut world, mut plan) = after(&[
        Record::upload(Target::Volume(0), "old".into()),
        Record::complete(Target::Volume(0), 2 * PART, fold(&[8, 9]), Timestamp::UNIX_EPOCH),
    ]);
    let (_, complete) = plan.next(Timestamp::UNIX_EPOCH, |_| true).unwrap().unwrap();
    assert!(matches!(complete.ask, Ask::Complete { repeated: true, .. }));
    take_all(&mut world, &mut plan, &content);
    answer(&mut world, &mut plan, &complete);
    work(&mut world, &mut plan);
    assert!(plan.is_finished());
    world.judge(&content);
}

#[test]
fn a_manifest_of_other_bytes_is_not_the_manifest() {
    let content = vec![vec![1, 2]];
    let old = stored(&mut World::default(), Target::Volume(0), "zero", &[1, 2]);
    let (mut world, mut plan) = after(&[
        Record::archived(Target::Volume(0), old),
        Record::upload(Target::Manifest, "old".into()),
        Record::complete(Target::Manifest, PART, fold(&[9]), Timestamp::UNIX_EPOCH),
    ]);
    stored(&mut world, Target::Volume(0), "zero", &[1, 2]);
    stored(&mut world, Target::Manifest, "old", &[9]);
    world.repeatable.insert("old".into());
    let (_, complete) = plan.next(Timestamp::UNIX_EPOCH, |_| true).unwrap().unwrap();
    assert!(matches!(complete.ask, Ask::Complete { repeated: true, .. }));
    take_all(&mut world, &mut plan, &content);
    answer(&mut world, &mut plan, &complete);
    work(&mut world, &mut plan);
    world.judge(&content);
    let said = world.catalog.iter().find_map(|line| match line {
        Line::Stored(line) => line.manifest_id.clone(),
        _ => None,
    });
    assert_eq!(world.archives[&said.unwrap()].treehash, hash(255));
}

#[test]
fn an_archive_of_an_earlier_attempt_is_found_as_it_was_described() {
    let content = vec![vec![1, 2, 3, 4], vec![5]];
    let old = stored(&mut World::default(), Target::Volume(0), "zero", &[9, 9, 9, 9]);
    let (mut world, mut plan) = after(&[
        Record::upload(Target::Volume(1), "one".into()),
        Record::complete(Target::Volume(1), PART, fold(&[5]), Timestamp::UNIX_EPOCH),
        Record::archived(Target::Volume(0), old),
        Record::Generation { generation: 1 },
    ]);
    stored(&mut world, Target::Volume(1), "one", &[5]);
    world.respool = Some((0, 1));
    take_all(&mut world, &mut plan, &content);
    work(&mut world, &mut plan);
    assert!(plan.is_finished());
    world.judge(&content);
    assert_eq!(world.volumes()[&1].len(), 1, "it is stored once");
}
