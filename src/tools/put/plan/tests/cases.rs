//! Sequences that went wrong once, and those that comments name.

use std::collections::BTreeMap;

use super::machine::{Books, Chunk, fold, hash, lines};
use super::service::{self, Archive, DAY, Upload};
use super::world::{PLACES, World};
use super::*;
use crate::dice::Dice;
use crate::spool::Respool;
use crate::spool::journal::{Completing, Confirmed};

/// A run of put that is led by hand.
struct Bench {
    world: World,
    plan: Plan,
    books: Books,
}

impl Bench {
    /// After a run that left these records in the journal.
    fn after(records: &[Record]) -> Self {
        let mut world = World::default();
        world.pass(2 * DAY);
        let (dest, region) = PLACES[0];
        let (dest, region) = (dest.to_owned(), region.to_owned());
        let first = Record::Journal { v: 1, stream: stream().stream, dest, region };
        for record in [first].iter().chain(records) {
            let text = serde_json::to_string(record).unwrap() + "\n";
            world.machine.journal.text.extend_from_slice(text.as_bytes());
        }
        Self::of(world)
    }

    /// A run of put in this world.
    fn of(mut world: World) -> Self {
        let (dest, region) = PLACES[0];
        let (books, journal) = world.machine.open(dest, region).unwrap();
        let plan = Plan::new(stream(), (dest.into(), region.into()), &VAULT, journal);
        Self { world, plan, books }
    }

    /// The same command again, a day later.
    fn again(mut self) -> Self {
        self.world.pass(DAY);
        Self::of(self.world)
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        let Self { world, plan, books } = self;
        assert!(world.perform(0, plan, books, effects, &mut Dice::default()).is_ok());
    }

    fn take(&mut self, line: Line) {
        if let Line::End(end) = &line {
            self.world.proven.insert(end.treehash);
        }
        let effects = self.plan.take(line, 0).unwrap();
        self.perform(effects);
    }

    /// What chunk prints of a whole stream.
    fn chunk(&mut self, content: &Content) -> Vec<Line> {
        let mut chunk = Chunk::new(&self.world.machine, content, true);
        std::iter::from_fn(|| chunk.step(&mut self.world.machine).unwrap()).collect()
    }

    fn take_all(&mut self, content: &Content) {
        self.chunk(content).into_iter().for_each(|line| self.take(line));
    }

    /// The next request, which is not made yet.
    fn next(&mut self) -> Option<Action> {
        let (effects, action) = self.plan.next(time(self.world.now), |_| true).unwrap()?;
        self.perform(effects);
        Some(action)
    }

    /// Lets the service answer.
    fn answer(&mut self, action: &Action) {
        let sent = match &action.ask {
            Ask::Send { piece, .. } => Some(piece.treehash),
            _ => None,
        };
        let text = self.world.machine.manifest.clone().unwrap_or_default();
        let now = time(self.world.now);
        let effects = match self.world.services[0].ask(action, sent, &text) {
            Ok(outcome) => self.plan.done(action, outcome).unwrap(),
            Err(_) if !self.plan.wants(action) => Vec::new(),
            Err(failure) => self.plan.heal(action, &failure, false, now).expect("a cure"),
        };
        self.perform(effects);
    }

    /// Asks for all that is wanted, until nothing is.
    fn work(&mut self) {
        while let Some(action) = self.next() {
            self.answer(&action);
        }
    }

    fn judge(&self, content: &Content) {
        assert!(self.plan.is_finished());
        self.world.judge(content, 0);
    }

    /// An archive of the service, and what the journal says of it.
    fn stored(&mut self, target: Target, id: &str, parts: &[u8]) {
        let (archive, confirmed) = archive(target, id, parts);
        self.world.services[0].archives.insert(confirmed.archive_id, archive);
    }
}

/// An archive, and what the journal says of it.
fn archive(target: Target, id: &str, parts: &[u8]) -> (Archive, Confirmed) {
    let place = (PLACES[0].0.into(), PLACES[0].1.into());
    let plan = Plan::new(stream(), place, &VAULT, Journal::default());
    let (size, treehash) = (PART * parts.len() as u64, fold(parts));
    let archive = Archive {
        description: plan.description(target),
        upload: id.into(),
        size,
        treehash,
        created: 0,
        deleted: None,
        forgotten: false,
        text: Vec::new(),
    };
    (
        archive,
        Confirmed {
            archive_id: id.into(),
            size,
            treehash,
            version: None,
            class: None,
            composite: None,
            etag: None,
            uploaded: time(0),
        },
    )
}

fn archived(target: Target, id: &str, parts: &[u8]) -> Record {
    Record::archived(target, archive(target, id, parts).1)
}

/// A Complete that was asked, and not answered.
fn completing(target: Target, parts: &[u8]) -> Record {
    let (size, treehash) = (PART * parts.len() as u64, fold(parts));
    let at = time(2 * DAY);
    Record::complete(target, &Completing { size, treehash, composite: None, at, lost: false })
}

fn upload(target: Target, id: &str) -> Record {
    Record::upload(target, id.into())
}

const ZERO: Target = Target::Volume(0);
const ONE: Target = Target::Volume(1);

#[test]
fn no_end_no_manifest() {
    let mut bench = Bench::after(&[]);
    let mut lines = bench.chunk(&vec![vec![1, 2, 3, 4], vec![5]]);
    lines.pop();
    for line in lines {
        bench.take(line);
    }
    bench.work();
    let service = &bench.world.services[0];
    assert_eq!(service.archives.len(), 2, "what is whole is stored, and no manifest");
    assert!(service.archives.values().all(|archive| archive.description.volume.is_some()));
    assert!(!bench.plan.is_finished() && !bench.plan.has_end());
    assert!(!String::from_utf8_lossy(&bench.world.machine.catalog.text).contains("\"stored\""));
}

#[test]
fn nothing_is_asked_for_while_the_window_is_closed() {
    let mut plan =
        Plan::new(stream(), ("glacier://v".into(), "r".into()), &VAULT, Journal::default());
    for line in lines(&vec![vec![1, 2]]) {
        plan.take(line, 7).unwrap();
    }
    let mut asked = Vec::new();
    let closed = |stamp| {
        asked.push(stamp);
        false
    };
    assert_eq!(plan.next(time(0), closed).unwrap(), None);
    assert_eq!(asked, [7]);
    assert_eq!(plan.waits_for(), Some(7));
}

#[test]
fn refuses_lines_that_do_not_follow_one_another() {
    // The first line is a snapshot, which may stand anywhere.
    let lines = lines(&vec![vec![1, 2, 3, 4], vec![5, 6]]).split_off(1);
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
        let mut plan =
            Plan::new(stream(), ("glacier://v".into(), "r".into()), &VAULT, Journal::default());
        let taken: Result<Vec<_>, _> = lines.into_iter().map(|line| plan.take(line, 0)).collect();
        // Without the last line the stream only lacks its end.
        match taken {
            Err(e) => assert_eq!(e.code(), 65, "case {number}"),
            Ok(_) => assert!(!plan.has_end(), "case {number}"),
        }
    }
}

#[test]
fn a_list_that_comes_too_late_opens_no_volume_again() {
    let content = vec![vec![1, 2]];
    let mut bench = Bench::after(&[
        archived(ZERO, "old", &[1, 2]),
        Record::Generation { generation: 1 },
        upload(ZERO, "new"),
    ]);
    bench.stored(ZERO, "old", &[1, 2]);
    let parts = BTreeMap::from([(0, (PART, hash(9)))]);
    let held = Upload { parts, ..Upload::default() };
    bench.world.services[0].uploads.insert("new".into(), held);
    let mut lines = bench.chunk(&content).into_iter();
    lines.by_ref().take(2).for_each(|line| bench.take(line));
    let list = bench.next().unwrap();
    assert!(matches!(list.ask, Ask::List { .. }));
    let end = lines.next_back().unwrap();
    lines.for_each(|line| bench.take(line));
    bench.answer(&list);
    bench.take(end);
    bench.work();
    bench.judge(&content);
}

/// An upload of the new attempt is under way, and chunk only hashes the volume
/// that the earlier one stored: sooner or later put asks for a part of it.
#[test]
fn parts_that_were_only_hashed_are_not_sent_before_their_volume_is_known_to_differ() {
    let content = vec![vec![1, 2, 3, 4], vec![5]];
    let mut bench = Bench::after(&[
        archived(ZERO, "old", &[9, 9, 9, 9]),
        Record::Generation { generation: 1 },
        upload(ZERO, "new"),
    ]);
    bench.stored(ZERO, "old", &[9, 9, 9, 9]);
    bench.world.services[0].uploads.insert("new".into(), Upload::default());
    let mut chunk = Chunk::new(&bench.world.machine, &content, true);
    loop {
        match chunk.step(&mut bench.world.machine) {
            Ok(Some(line)) => bench.take(line),
            Ok(None) => panic!("the volume has changed"),
            Err(error) => break assert_eq!(error.code(), 75, "it notes that it must spool"),
        }
        while let Some(action) = bench.next() {
            assert!(!matches!(action.ask, Ask::Send { .. }), "{action:?}");
            bench.answer(&action);
        }
    }
    let mut bench = bench.again();
    bench.take_all(&content);
    bench.work();
    bench.judge(&content);
}

#[test]
fn a_complete_of_what_was_given_up_holds_up_nothing() {
    let content = vec![vec![1, 2]];
    let mut bench = Bench::after(&[upload(ZERO, "old"), completing(ZERO, &[8, 9])]);
    let complete = bench.next().unwrap();
    assert!(matches!(complete.ask, Ask::Complete { repeated: true, .. }));
    bench.take_all(&content);
    bench.answer(&complete);
    bench.work();
    bench.judge(&content);
}

#[test]
fn a_late_complete_of_what_was_given_up_leaves_the_new_upload_alone() {
    let content = vec![vec![1, 2]];
    let mut bench = Bench::after(&[upload(ZERO, "old"), completing(ZERO, &[8, 9])]);
    let (made, confirmed) = archive(ZERO, "late", &[8, 9]);
    let complete = bench.next().unwrap();
    bench.take_all(&content);
    let initiate = bench.next().unwrap();
    bench.answer(&initiate);
    bench.world.services[0].archives.insert("late".into(), made);
    let value = service::seen("late".into(), None);
    let outcome = Outcome::Completed(Answer { at: confirmed.uploaded, value });
    let effects = bench.plan.done(&complete, outcome).unwrap();
    bench.perform(effects);
    bench.work();
    bench.judge(&content);
    let service = &bench.world.services[0];
    assert!(service.uploads.is_empty(), "nothing is left behind");
    assert_eq!(bench.plan.journal().generation, 1, "and nothing was begun again");
    let warned = |line: &String| line.contains("Warn") && line.contains("late");
    assert!(bench.world.log.iter().any(warned), "{:#?}", bench.world.log);
}

#[test]
fn an_upload_that_is_lost_twice_is_not_begun_a_third_time_whatever_the_runs() {
    let lost = Record::lost(ZERO);
    let again = vec![upload(ZERO, "u"), lost.clone(), upload(ZERO, "u")];
    for (records, given_up) in [(vec![upload(ZERO, "u")], false), (again, true)] {
        let mut bench = Bench::after(&records);
        bench.take_all(&vec![vec![1, 2]]);
        let ask = bench.next().unwrap();
        let missing = Failure::Missing("no upload".into());
        let effects = bench.plan.heal(&ask, &missing, false, time(0));
        let effects = effects.expect("a cure");
        assert!(effects.contains(&Effect::Record(lost.clone())), "{effects:?}");
        let next = bench.plan.next(time(0), |_| true);
        assert_eq!(next.as_ref().err().map(crate::error::Error::code), given_up.then_some(69));
    }
}

#[test]
fn a_manifest_of_other_bytes_is_not_the_manifest() {
    let content = vec![vec![1, 2]];
    let mut bench = Bench::after(&[
        archived(ZERO, "zero", &[1, 2]),
        upload(Target::Manifest, "old"),
        completing(Target::Manifest, &[9]),
    ]);
    bench.stored(ZERO, "zero", &[1, 2]);
    bench.stored(Target::Manifest, "other", &[9]);
    let told = ("other".into(), 3 * DAY);
    bench.world.services[0].completed.insert("old".into(), told);
    let complete = bench.next().unwrap();
    assert!(matches!(complete.ask, Ask::Complete { repeated: true, .. }));
    bench.take_all(&content);
    bench.answer(&complete);
    bench.work();
    bench.judge(&content);
}

#[test]
fn an_archive_of_an_earlier_attempt_is_found_as_it_was_described() {
    let content = vec![vec![1, 2, 3, 4], vec![5]];
    let mut bench = Bench::after(&[
        upload(ONE, "one"),
        completing(ONE, &[5]),
        archived(ZERO, "zero", &[9, 9, 9, 9]),
        Record::Generation { generation: 1 },
    ]);
    bench.stored(ONE, "one", &[5]);
    bench.world.machine.respool = Some(Respool { volume: 0, generation: 1 });
    bench.take_all(&content);
    bench.work();
    for _ in 0..2 {
        bench = bench.again();
        bench.take_all(&content);
        bench.work();
    }
    bench.judge(&content);
    let live = bench.world.services[0].archives.values();
    assert_eq!(live.filter(|archive| archive.treehash == fold(&[5])).count(), 1, "stored once");
}

#[test]
fn what_became_no_archive_is_sent_again_when_an_inventory_says_so() {
    let content = vec![vec![1, 2]];
    let mut bench = Bench::after(&[upload(ZERO, "lost"), completing(ZERO, &[1, 2])]);
    let mut runs = 0;
    loop {
        bench.take_all(&content);
        bench.work();
        if bench.plan.is_finished() {
            break;
        }
        runs += 1;
        assert!(runs < 5, "it ends");
        assert_eq!(bench.plan.unconfirmed(), Some(ZERO));
        bench = bench.again();
    }
    assert!(runs >= 2, "an inventory of that day proves nothing");
    bench.judge(&content);
}

#[test]
fn a_stream_that_became_shorter_has_no_volumes_behind_its_end() {
    let content = vec![vec![1, 2, 3, 4], vec![5]];
    let mut bench = Bench::after(&[
        archived(ZERO, "zero", &[1, 2, 3, 4]),
        archived(Target::Volume(2), "two", &[9]),
        upload(Target::Volume(3), "three"),
    ]);
    bench.stored(ZERO, "zero", &[1, 2, 3, 4]);
    bench.stored(Target::Volume(2), "two", &[9]);
    bench.world.services[0].uploads.insert("three".into(), Upload::default());
    bench.take_all(&content);
    bench.work();
    bench.judge(&content);
    assert_eq!(bench.plan.journal().generation, 1);
    assert!(bench.world.services[0].uploads.is_empty(), "nothing is left behind");
}

#[test]
fn bytes_that_come_back_are_not_stored_again() {
    let content = vec![vec![1, 2]];
    let mut bench = Bench::after(&[
        archived(ZERO, "first", &[1, 2]),
        Record::Generation { generation: 1 },
        archived(ZERO, "second", &[3]),
        Record::Generation { generation: 2 },
    ]);
    bench.stored(ZERO, "first", &[1, 2]);
    bench.stored(ZERO, "second", &[3]);
    bench.world.machine.respool = Some(Respool { volume: 0, generation: 2 });
    bench.take_all(&content);
    bench.work();
    bench.judge(&content);
    assert_eq!(bench.world.services[0].archives.len(), 3, "two, and the manifest");
}

/// The spool is lost in the second attempt, so that only the catalog knows of
/// it; then the bytes of the first one come back.
#[test]
fn a_journal_that_was_lost_goes_on_with_the_attempt_of_the_catalog() {
    let (first, second) = (vec![vec![1, 2, 3, 4], vec![5]], vec![vec![1, 2, 3, 9], vec![6, 7]]);
    let mut bench = Bench::after(&[]);
    for (content, lost) in [(&first, true), (&second, true), (&second, false)] {
        for line in bench.chunk(content) {
            // Never whole, and so never stored.
            if !matches!(line, Line::End(_)) {
                bench.take(line);
            }
        }
        bench.work();
        if lost {
            bench.world.machine.lose_spool();
        }
        bench = bench.again();
    }
    let mut chunk = Chunk::new(&bench.world.machine, &first, true);
    let changed = std::iter::from_fn(|| chunk.step(&mut bench.world.machine).transpose());
    assert!(changed.last().unwrap().is_err(), "it notes that it must spool");
    bench = bench.again();
    bench.take_all(&first);
    bench.work();
    bench.judge(&first);
    assert_eq!(bench.plan.journal().generation, 2);
}

#[test]
fn parts_that_the_service_holds_otherwise_than_it_said_are_sent_again() {
    let content = vec![vec![1, 2]];
    let mut bench = Bench::after(&[upload(ZERO, "here")]);
    bench.world.services[0].shaken = true;
    let parts = BTreeMap::from([(0, (PART, hash(1))), (PART, (PART, hash(2)))]);
    bench.world.services[0].uploads.insert("here".into(), Upload { parts, ..Upload::default() });
    bench.take_all(&content);
    let list = bench.next().unwrap();
    bench.answer(&list);
    let upload = bench.world.services[0].uploads.get_mut("here").unwrap();
    upload.parts.insert(0, (PART, hash(7)));
    bench.work();
    bench.judge(&content);
}

#[test]
fn nothing_goes_on_in_another_region() {
    for records in [[upload(ZERO, "begun")], [archived(ZERO, "zero", &[1, 2])]] {
        let mut world = Bench::after(&records).world;
        let (dest, region) = PLACES[2];
        assert_eq!(world.machine.open(dest, region).err().map(|e| e.code()), Some(78));
        assert!(world.machine.open(dest, PLACES[0].1).is_ok());
    }
    // Where nothing was sent, nothing is lost.
    let mut world = Bench::after(&[]).world;
    assert!(world.machine.open(PLACES[2].0, PLACES[2].1).is_ok());
}

#[test]
fn an_upload_that_is_lost_twice_ends_the_run_whatever_lies_between() {
    let upload = || Record::upload(Target::Volume(0), "u".into());
    let lost = Record::lost(Target::Volume(0));
    for (records, given_up) in
        [(vec![upload()], false), (vec![upload(), lost.clone(), upload()], true)]
    {
        let mut bench = Bench::after(&records);
        bench.take_all(&vec![vec![1, 2]]);
        let held = bench.next().unwrap();
        assert!(matches!(held.ask, Ask::List { .. }));
        bench.answer(&held);
        assert_eq!(bench.plan.journal().losses[&Target::Volume(0)], 1 + u32::from(given_up));
        let next = bench.plan.next(time(bench.world.now), |_| true);
        assert_eq!(next.err().map(|e| e.code()), given_up.then_some(69));
        // The same command sends it once more.
        let mut bench = bench.again();
        bench.take_all(&vec![vec![1, 2]]);
        bench.work();
        bench.judge(&vec![vec![1, 2]]);
    }
}

/// Some services list the names of parts, and not their hashes.
#[test]
fn a_part_without_a_hash_is_known_by_the_name_that_was_written_down() {
    let lines = lines(&vec![vec![1, 2]]);
    let Some(Line::Part(first)) = lines.iter().find(|line| matches!(line, Line::Part(_))) else {
        panic!("a part")
    };
    for (sha256, name, next) in
        [(first.sha256, "one", 1), (first.sha256, "other", 0), (hash(9), "one", 0)]
    {
        let records = [upload(ZERO, "u"), Record::sent(ZERO, 0, sha256, "one".into())];
        let mut plan = Bench::after(&records).plan;
        for line in lines.clone() {
            plan.take(line, 0).unwrap();
        }
        let (_, list) = plan.next(time(0), |_| true).unwrap().unwrap();
        let sent = Sent { proof: None, tag: Some(name.into()) };
        let held = Outcome::Held(vec![Held { offset: 0, size: PART, sent }]);
        assert_eq!(plan.done(&list, held).unwrap(), [], "nothing is dropped");
        let (_, action) = plan.next(time(0), |_| true).unwrap().unwrap();
        assert!(matches!(action.ask, Ask::Send { part, .. } if part == next), "{action:?}");
    }
}

/// The service makes no inventory of a vault that does not change.
#[test]
fn a_vault_that_is_silent_for_three_days_has_no_archive_of_it() {
    for (days, is_proof) in [(2, false), (3, true)] {
        let bench = Bench::after(&[upload(ZERO, "lost"), completing(ZERO, &[1, 2])]);
        let mut plan = bench.plan;
        let asked = time(bench.world.now);
        let job = Id::from("inventory");
        for record in [
            Record::unconfirmed(ZERO, asked),
            Record::Inventory { job_id: job.clone(), at: time(bench.world.now + days * DAY) },
        ] {
            plan.record(record, &mut Vec::new());
        }
        let seal = Seal { size: 1, treehash: fold(&[1]), composite: None, parts: [].into() };
        let find = Ask::LookUp { about: plan.description(ZERO), seal, ticket: Some(job) };
        let value = Lookup::Absent { as_of: asked };
        let made = Outcome::LookedUp(Answer { at: asked, value });
        let effects = plan.done(&Action { target: ZERO, ask: find }, made).unwrap();
        assert_eq!(effects.contains(&Effect::Record(Record::gone(ZERO))), is_proof, "{days}");
        assert_eq!(matches!(effects.first(), Some(Effect::Warn(_))), is_proof, "{effects:?}");
    }
}

/// B15: a service that calls all archives the same would have all parts but
/// those of one go.
#[test]
fn an_archive_with_the_name_of_another_is_none() {
    for journal in [vec![], vec![Record::Generation { generation: 1 }]] {
        let records = [archived(ZERO, "zero", &[1, 2]), upload(ONE, "one"), completing(ONE, &[5])];
        let mut bench = Bench::after(&[&records[..], &journal].concat());
        let seal = Seal { size: PART, treehash: fold(&[5]), composite: None, parts: [].into() };
        let ask = Ask::Complete { upload: "one".into(), seal, repeated: true };
        let complete = Action { target: ONE, ask };
        let told = |id: &str| {
            let value = Seen::of(id.into());
            Outcome::Completed(Answer { at: time(0), value })
        };
        let why = bench.plan.done(&complete, told("zero")).unwrap_err();
        assert_eq!(
            (why.code(), &*why.to_string()),
            (65, "volume 1: the service gives it the name of volume 0, zero; all of it is kept")
        );
        bench.plan.done(&complete, told("other")).unwrap();
    }
}
