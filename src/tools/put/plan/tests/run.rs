//! One run of `glacier-chunk | glacier-put`, with all that may go wrong in it.
//! put's worker is played here: what it does on each answer, and how it ends.

use std::collections::BTreeSet;

use super::machine::{Books, Chunk, Killed};
use super::service::HOUR;
use super::world::{Ghost, PLACES, World};
use super::*;
use crate::dice::Dice;
use crate::error::{Error, Result};

/// What is run.
#[derive(Clone, Debug)]
pub struct Run<'a> {
    pub content: &'a Content,
    /// Which of the places it goes to.
    pub place: usize,
    /// Whether the end of the stream is proven.
    pub whole: bool,
    /// Whether put reads what chunk has printed once, and no chunk runs.
    pub alone: bool,
}

/// A request on its way.
struct Flight {
    action: Action,
    /// The hash of the bytes of a part, whose file is open from now on.
    sent: Option<Hash>,
    /// What the service has said, once it was asked.
    answer: Option<Result<Outcome, Failure>>,
}

/// Why a run is over before the stream is stored: an error, or a kill.
type Stopped = Option<Error>;

impl From<Killed> for Stopped {
    fn from(_: Killed) -> Self {
        None
    }
}

/// A run under way.
struct Put<'w> {
    world: &'w mut World,
    run: &'w Run<'w>,
    dice: &'w mut Dice,
    plan: Plan,
    books: Books,
    chunk: Option<Chunk>,
    recorded: std::vec::IntoIter<Line>,
    ended: bool,
    /// Whether the window of the stamp 1 is open; stamp 0 has none.
    open: bool,
    flights: Vec<Flight>,
    /// What has failed since it last worked.
    troubles: BTreeSet<(Target, Option<usize>)>,
}

impl World {
    /// One run. True if the stream is stored, false if it was killed.
    pub fn run(&mut self, run: &Run, dice: &mut Dice) -> Result<bool> {
        if self.machine.locked {
            return Err(Error::Unfinished("works on it".into()));
        }
        self.machine.locked = true;
        self.log.push(format!("run {run:?}"));
        let result = self.put(run, dice);
        self.log.push(match &result {
            Ok(()) => "stored".to_owned(),
            Err(None) => "killed".to_owned(),
            Err(Some(error)) => format!("{}: {error}", error.code()),
        });
        self.machine.locked = false;
        match result {
            Ok(()) => Ok(true),
            Err(None) => Ok(false),
            Err(Some(error)) => Err(error),
        }
    }

    fn put(&mut self, run: &Run, dice: &mut Dice) -> Result<(), Stopped> {
        let (dest, region) = PLACES[run.place];
        if !self.machine.knows_any(dest) && self.services[run.place].counted() > 0 {
            return Err(Some(Error::Configuration("neither catalog nor spool knows".into())));
        }
        let chunk = (!run.alone).then(|| Chunk::new(&self.machine, run.content, run.whole));
        let recorded = self.machine.lines.clone().into_iter();
        let (books, journal) = self.machine.open(dest, region)?;
        let plan = Plan::new(stream(), (dest.into(), region.into()), &VAULT, journal);
        let open = !dice.once_in(3);
        let (flights, troubles) = (Vec::new(), BTreeSet::new());
        let mut put = Put {
            world: self,
            run,
            dice,
            plan,
            books,
            chunk,
            recorded,
            ended: false,
            open,
            flights,
            troubles,
        };
        let result = put.work();
        put.leave();
        result
    }
}

impl Put<'_> {
    fn work(&mut self) -> Result<(), Stopped> {
        for _ in 0..5000 {
            if self.dice.once_in(80) {
                return Err(None);
            }
            self.disturb();
            if !self.ended && !self.dice.once_in(3) {
                self.take()?;
            }
            self.start()?;
            if self.plan.is_finished() {
                return Ok(());
            }
            if self.flights.is_empty() {
                if self.ended {
                    self.wait()?;
                }
            } else if !self.dice.once_in(4) {
                self.go_on()?;
            }
        }
        panic!("it does not end");
    }

    /// What happens by itself.
    fn disturb(&mut self) {
        let (world, dice, place) = (&mut *self.world, &mut *self.dice, self.run.place);
        if dice.once_in(10) {
            self.open = !self.open;
        }
        if dice.once_in(60) {
            world.pass(i64::try_from(dice.below(200_000)).unwrap());
        }
        if dice.once_in(100) {
            let error = world.run(self.run, &mut Dice::default()).unwrap_err();
            assert_eq!(error.code(), 75, "a second put");
        }
        if dice.once_in(100) {
            let at = dice.below(world.machine.spool.len());
            world.machine.spool.values_mut().skip(at).take(1).for_each(|part| part.damaged = true);
        }
        if dice.once_in(100) {
            world.services[place].uploads.pop_first();
        }
        if dice.once_in(100) {
            world.services[place].rot();
        }
        if dice.once_in(40) {
            world.services[place].completed.clear();
        }
        if dice.once_in(5) {
            world.haunt();
        }
    }

    /// Takes the next line.
    fn take(&mut self) -> Result<(), Stopped> {
        let line = match &mut self.chunk {
            Some(chunk) => chunk.step(&mut self.world.machine),
            None => Ok(self.recorded.next()),
        };
        // A `failed` line ends the input as well.
        let Ok(Some(line)) = line else {
            self.ended = true;
            return Ok(());
        };
        if let Line::End(end) = &line {
            self.world.proven.insert(end.treehash);
        }
        // Some lines obey a window.
        let stamp = usize::from(self.dice.once_in(3));
        match self.plan.take(line, stamp) {
            Ok(effects) => self.perform(effects),
            Err(error) => {
                if matches!(error, Error::Unfinished(_)) {
                    self.world.machine.begin(&mut self.books, self.dice)?;
                }
                Err(Some(error))
            }
        }
    }

    /// Starts what can be started.
    fn start(&mut self) -> Result<(), Stopped> {
        while self.flights.len() < 3 {
            let open = |stamp| stamp == 0 || self.open;
            let Some((effects, action)) = self.plan.next(time(self.world.now), open)? else {
                return Ok(());
            };
            if let Ask::Send { piece, .. } = &action.ask {
                assert!(open(piece.stamp), "I7");
            }
            self.perform(effects)?;
            self.fly(action)?;
        }
        Ok(())
    }

    fn fly(&mut self, action: Action) -> Result<(), Stopped> {
        let sent = self.bytes(&action)?;
        self.flights.push(Flight { action, sent, answer: None });
        Ok(())
    }

    /// The hash of the bytes of a part, as its file is opened.
    fn bytes(&mut self, action: &Action) -> Result<Option<Hash>> {
        let Ask::Send { part, piece, .. } = &action.ask else { return Ok(None) };
        let Target::Volume(volume) = action.target else { return Ok(Some(piece.treehash)) };
        let at = (volume, u32::try_from(*part).unwrap());
        let Some(spooled) = self.world.machine.spool.get(&at) else {
            assert!(self.run.alone, "I2: volume {volume} part {part} is in the spool");
            return Err(Error::Unfinished("not in the spool as it was announced".into()));
        };
        let sent = if spooled.damaged { Hash::of(b"damage") } else { spooled.hash };
        if sent != piece.treehash && !self.dice.once_in(4) {
            return Err(Error::Data("damaged in the spool".into()));
        }
        Ok(Some(sent))
    }

    /// One request gets to the service, or its answer comes here. In any
    /// order.
    fn go_on(&mut self) -> Result<(), Stopped> {
        let at = self.dice.below(self.flights.len());
        if self.flights[at].answer.is_none() {
            let answer = self.ask(at);
            self.flights[at].answer = Some(answer);
            return Ok(());
        }
        let Flight { action, answer, .. } = self.flights.remove(at);
        let Some(answer) = answer else { return Ok(()) };
        self.world.log.push(format!("  {}: {:?} -> {answer:?}", action.target, action.ask));
        let part = match &action.ask {
            Ask::Send { part, .. } => Some(*part),
            _ => None,
        };
        let key = (action.target, part);
        let failure = match answer {
            Ok(outcome) => {
                self.troubles.remove(&key);
                let effects = self.plan.done(&action, outcome)?;
                return self.perform(effects);
            }
            Err(_) if !self.plan.wants(&action) => return Ok(()),
            Err(failure) => failure,
        };
        let tried = !self.troubles.insert(key);
        let now = time(self.world.now);
        match self.plan.heal(&action, &failure, tried, now) {
            Some(effects) => {
                self.troubles.remove(&key);
                self.perform(effects)
            }
            // Patience, or its end.
            None if matches!(failure, Failure::Passing(_)) && !self.dice.once_in(3) => {
                self.fly(action)
            }
            None => Err(Some(failure.on("it"))),
        }
    }

    /// Asks the service, with all that may come between.
    fn ask(&mut self, at: usize) -> Result<Outcome, Failure> {
        let (world, dice) = (&mut *self.world, &mut *self.dice);
        let Flight { action, sent, .. } = &self.flights[at];
        if let Ask::Send { piece, .. } = &action.ask
            && piece.stamp == 1
            && !self.open
        {
            return Ok(Outcome::Stopped);
        }
        let lost = || Failure::Passing("connection reset".into());
        if dice.once_in(20) {
            return Err(lost());
        }
        let text = world.machine.manifest.clone().unwrap_or_default();
        if let (Ask::Complete { .. }, Target::Manifest) = (&action.ask, action.target) {
            world.check_manifest(&text);
        }
        let mut answer = world.services[self.run.place].ask(action, *sent, &text);
        if let Ok(Outcome::Held(parts)) = &mut answer
            && dice.once_in(10)
            && let Some(part) = parts.first_mut()
        {
            part.sent.proof = Some(Proof::Tree(Hash::of(b"a lie")));
        }
        if dice.once_in(10) { Err(lost()) } else { answer }
    }

    fn perform(&mut self, effects: Vec<Effect>) -> Result<(), Stopped> {
        let (place, plan, books) = (self.run.place, &mut self.plan, &mut self.books);
        Ok(self.world.perform(place, plan, books, effects, self.dice)?)
    }

    /// Nothing is under way, and no more lines come.
    fn wait(&mut self) -> Result<(), Stopped> {
        if let Some(stamp) = self.plan.waits_for().filter(|_| self.plan.has_end()) {
            // It waits for its hour.
            assert!(stamp == 1 && !self.open, "it has work, and does none");
            self.world.pass(8 * HOUR);
            self.open = true;
            return Ok(());
        }
        let waits = self.plan.unconfirmed().is_some();
        assert!(waits || !self.plan.has_end(), "nothing is left to do, and it is not stored");
        let verdict = if waits { "the service never said" } else { "stream not whole yet" };
        Err(Some(Error::Unfinished(verdict.to_owned())))
    }

    /// What was on its way may still come, or never.
    fn leave(&mut self) {
        for Flight { action, sent, answer } in self.flights.drain(..) {
            if answer.is_none() && self.dice.once_in(2) {
                let text = self.world.machine.manifest.clone().unwrap_or_default();
                self.world.ghosts.push(Ghost { place: self.run.place, action, sent, text });
            }
        }
    }
}
