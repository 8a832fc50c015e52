//! Sequences of everything that may happen, in any order, and what must hold
//! under all of them.

use proptest::prelude::*;

use super::machine::File;
use super::run::Run;
use super::service::{DAY, HOUR};
use super::world::{PLACES, World};
use super::*;
use crate::dice::{Dice, cases, dice};
use crate::error::{Error, Result};

/// Runs that must be enough, once nothing goes wrong any more, a day after the
/// other: each of up to four volumes may say once that its upload was lost
/// twice, and an inventory that proves an absence takes four days.
const QUIET: usize = 8;

/// What may happen between two runs, and a run.
#[derive(Clone, Debug)]
enum Step {
    /// chunk and put, in which anything may go wrong.
    Run { content: usize, place: usize, whole: bool, alone: bool, dice: Dice },
    /// The power fails.
    Cut(Dice),
    /// Time goes by.
    Sleep(i64),
    /// The stream's directory is deleted, or the whole spool.
    LoseSpool { receipts: bool },
    /// The catalog is deleted.
    LoseCatalog,
    /// Somebody deletes an archive at the service.
    RemoveArchive(prop::sample::Index),
    /// Somebody drops an upload at the service.
    RemoveUpload(prop::sample::Index),
}

fn run_of(contents: usize, places: usize, whole: f64) -> impl Strategy<Value = Step> {
    let place = prop_oneof![8 => Just(0), 1 => 0..places];
    let content = prop_oneof![2 => Just(0), 1 => 0..contents];
    (content, place, prop::bool::weighted(whole), prop::bool::weighted(0.1), dice(500)).prop_map(
        |(content, place, whole, alone, dice)| Step::Run { content, place, whole, alone, dice },
    )
}

/// Crashes of all kinds, of the same stream on its way to the same place.
fn crash() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => run_of(1, 1, 0.8),
        2 => dice(8).prop_map(Step::Cut),
        2 => (0..3 * DAY).prop_map(Step::Sleep),
        1 => any::<prop::sample::Index>().prop_map(Step::RemoveUpload),
    ]
}

/// Anything at all.
fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => run_of(2, PLACES.len(), 0.5),
        2 => dice(8).prop_map(Step::Cut),
        2 => (0..3 * DAY).prop_map(Step::Sleep),
        1 => any::<bool>().prop_map(|receipts| Step::LoseSpool { receipts }),
        1 => Just(Step::LoseCatalog),
        1 => any::<prop::sample::Index>().prop_map(Step::RemoveArchive),
        1 => any::<prop::sample::Index>().prop_map(Step::RemoveUpload),
    ]
}

/// A stream of a few volumes; all but the last are full, and its last part
/// may be short.
fn content() -> impl Strategy<Value = Content> {
    let full = prop::collection::vec(0..6_u8, 4);
    let last = (prop::collection::vec(0..6_u8, 1..=4), any::<bool>());
    (prop::collection::vec(full, 0..4), last).prop_map(|(mut volumes, (mut last, short))| {
        if short && let Some(last) = last.last_mut() {
            *last += SHORT;
        }
        volumes.push(last);
        volumes
    })
}

impl World {
    fn play(&mut self, contents: &[Content], step: &Step) -> Result<()> {
        if !matches!(step, Step::Run { .. }) {
            self.log.push(format!("{step:?}"));
        }
        match step {
            Step::Run { content, place, whole, alone, dice } => {
                let (whole, alone) = (*whole, *alone);
                let run = Run { content: &contents[*content], place: *place, whole, alone };
                self.run(&run, &mut dice.clone())?;
            }
            Step::Cut(dice) => self.machine.cut(&mut dice.clone()),
            Step::Sleep(seconds) => self.pass(*seconds),
            Step::LoseSpool { receipts } => {
                self.machine.lose_spool();
                if *receipts {
                    self.machine.receipts.clear();
                }
                self.forget();
            }
            Step::LoseCatalog => {
                self.machine.catalog = File::default();
                self.forget();
            }
            Step::RemoveArchive(index) => {
                let service = &mut self.services[0];
                if !service.archives.is_empty() {
                    let at = index.index(service.archives.len());
                    let archive = service.archives.values_mut().nth(at).unwrap();
                    archive.deleted.get_or_insert(self.now);
                }
            }
            Step::RemoveUpload(index) => {
                let uploads = &mut self.services[0].uploads;
                if !uploads.is_empty() {
                    let id = uploads.keys().nth(index.index(uploads.len())).unwrap().clone();
                    uploads.remove(&id);
                }
            }
        }
        Ok(())
    }

    /// Runs it again, a day after the other, with nothing going wrong any
    /// more: the end, or the message that all further runs repeat.
    fn heal(&mut self, run: &Run) -> Result<()> {
        let mut last = None;
        for _ in 0..QUIET {
            match self.run(run, &mut Dice::default()) {
                Ok(stored) => {
                    assert!(stored, "nobody killed it");
                    return Ok(());
                }
                Err(error) => last = Some(error),
            }
            self.pass(DAY);
        }
        let last = last.unwrap();
        let again = self.run(run, &mut Dice::default()).unwrap_err();
        assert_eq!(again.to_string(), last.to_string(), "the same message again");
        Err(last)
    }

    /// Where the stream is on its way to, or stored.
    fn place(&self) -> usize {
        let journal = Journal::read(self.machine.journal.text.as_slice()).unwrap();
        let catalog = &self.machine.catalog;
        let lines = catalog.lines(catalog.text.len());
        let told = lines.iter().rev().find_map(|line| match line {
            Line::Archive(line) => Some((line.dest.clone(), line.region.clone())),
            _ => None,
        });
        let place = journal.dest.zip(journal.region).or(told);
        place
            .and_then(|(dest, region)| PLACES.iter().position(|place| *place == (&dest, &region)))
            .unwrap_or(0)
    }
}

/// Errors that a run may end with; what is a bug is none of them.
fn is_told(error: &Error) -> bool {
    matches!(error.code(), 64 | 65 | 69 | 75 | 78)
}

proptest! {
    #![proptest_config(cases(256))]

    /// I4, and with the assertions of the model I1, I2 and I7: whatever
    /// crashes, the same command heals within a few quiet runs.
    #[test]
    fn running_it_again_heals_and_stores_nothing_twice(
        content in content(),
        steps in prop::collection::vec(crash(), 1..6),
    ) {
        let mut world = World::default();
        world.pass(2 * DAY + HOUR);
        let contents = [content];
        for step in &steps {
            if let Err(error) = world.play(&contents, step) {
                prop_assert!(is_told(&error), "{error}");
            }
        }
        let run = Run { content: &contents[0], place: 0, whole: true, alone: false };
        world.heal(&run).unwrap();
        world.judge(&contents[0], 0);
        // Once more, for nothing.
        let asked = world.services[0].names;
        prop_assert!(world.run(&run, &mut Dice::default()).unwrap());
        prop_assert_eq!(world.services[0].names, asked);
        world.judge(&contents[0], 0);
    }

    /// Lost books, other bytes, other places, archives that somebody deletes:
    /// the same command heals, or repeats the same message.
    #[test]
    fn whatever_happens_it_heals_or_says_why_not(
        contents in [content(), content()],
        steps in prop::collection::vec(step(), 1..8),
        last in 0..2_usize,
    ) {
        let mut world = World::default();
        world.pass(2 * DAY + HOUR);
        for step in &steps {
            if let Err(error) = world.play(&contents, step) {
                prop_assert!(is_told(&error), "{error}");
            }
        }
        let (content, place) = (&contents[last], world.place());
        let run = Run { content, place, whole: true, alone: false };
        match world.heal(&run) {
            Ok(()) => world.judge(content, place),
            // What is stored is not changed, and a lost catalog is not guessed.
            Err(error) => prop_assert!(matches!(error.code(), 65 | 78), "{error}"),
        }
    }

    #[test]
    fn a_stored_stream_is_never_changed(before in content(), after in content()) {
        prop_assume!(before != after);
        let mut world = World::default();
        let run = Run { content: &before, place: 0, whole: true, alone: false };
        prop_assert!(world.run(&run, &mut Dice::default()).unwrap());
        let asked = world.services[0].names;
        let again = Run { content: &after, ..run };
        let error = world.run(&again, &mut Dice::default()).unwrap_err();
        prop_assert_eq!(error.code(), 65);
        prop_assert_eq!(world.services[0].names, asked, "nothing was begun");
        world.judge(&before, 0);
    }
}
