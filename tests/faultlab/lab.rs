//! Chance that comes again with its seed, runs side by side, and what they
//! came to.

use std::cell::RefCell;
use std::fmt::{self, Display, Formatter};
use std::panic::{self, AssertUnwindSafe};
use std::str::FromStr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// Runs at the same time. They wait for disks and processes more than they
/// compute.
const AT_ONCE: usize = 3;

/// A layer at work.
pub struct Lab {
    /// Which.
    pub layer: &'static str,
    /// What all chance of it comes from.
    pub seed: u64,
    /// The only run to make.
    pub only: Option<u64>,
    /// How many runs were asked for: a layer may do other things if all.
    pub runs: u64,
    /// Of a list that is done whole, what is done now.
    pub share: Option<Share>,
    /// Whether the first violation is enough.
    pub first: bool,
    /// The only fuzz target, or what all network cases have in their names.
    pub target: Option<String>,
}

/// Every `of`-th run, from the `piece`-th: all pieces together are the whole.
#[derive(Clone, Copy)]
pub struct Share {
    piece: u64,
    of: u64,
}

impl FromStr for Share {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let numbers = text.split_once('/').map(|(piece, of)| (piece.parse(), of.parse()));
        match numbers {
            Some((Ok(piece), Ok(of))) if (1..=of).contains(&piece) => Ok(Self { piece, of }),
            _ => Err("not K/N, the K-th of N pieces"),
        }
    }
}

impl Display for Share {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        write!(f, "{}/{}", self.piece, self.of)
    }
}

/// What the runs of a layer came to.
#[derive(Default)]
pub struct Tally {
    /// Runs that were made.
    pub runs: u64,
    /// What must not have happened, each with how to see it again.
    pub violations: Vec<String>,
    /// Why nothing, or not all, could be done here.
    pub skipped: Option<String>,
    /// How long it took.
    pub took: Duration,
}

impl Tally {
    /// Notes a violation, and prints it at once: a layer may take a night.
    pub fn violated(&mut self, why: String) {
        println!("VIOLATION: {why}");
        self.violations.push(why);
    }

    /// A layer that cannot work here.
    pub fn skipped(why: impl Into<String>) -> Self {
        Self { skipped: Some(why.into()), ..Self::default() }
    }
}

impl Lab {
    /// The chance of one run.
    pub fn chance(&self, run: u64) -> Chance {
        let mut chance = Chance(self.seed ^ run.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        for byte in self.layer.bytes() {
            chance.0 ^= u64::from(byte);
            chance.next();
        }
        chance
    }

    /// Whether a run belongs to the share.
    pub fn has(&self, run: u64) -> bool {
        self.only.is_some() || self.share.is_none_or(|Share { piece, of }| run % of == piece - 1)
    }

    /// What shows a run again.
    pub fn replay(&self, run: u64) -> String {
        let Self { layer, seed, runs, .. } = self;
        format!("scripts/faultlab {layer} --seed {seed} --runs {runs} --only {run}")
    }

    /// Makes `runs` runs, a few at a time. One that panics is a violation.
    pub fn each(&self, runs: u64, run: impl Fn(u64, &mut Chance) + Sync) -> Tally {
        self.each_of(AT_ONCE, runs, run)
    }

    /// The same, so many at a time.
    pub fn each_of(
        &self,
        at_once: usize,
        runs: u64,
        run: impl Fn(u64, &mut Chance) + Sync,
    ) -> Tally {
        let next = AtomicU64::new(self.only.unwrap_or(0));
        let end = self.only.map_or(runs, |only| only + 1);
        let tally = Mutex::new(Tally::default());
        thread::scope(|scope| {
            for _ in 0..at_once {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Ordering::SeqCst);
                        let enough = self.first && !tally.lock().unwrap().violations.is_empty();
                        if number >= end || enough {
                            break;
                        }
                        if !self.has(number) {
                            continue;
                        }
                        let mut chance = self.chance(number);
                        let result = caught(|| run(number, &mut chance));
                        let mut tally = tally.lock().unwrap();
                        tally.runs += 1;
                        if let Err(why) = result {
                            // Some know a better way to see it again.
                            let replay = self.replay(number);
                            let again = if why.contains("; again: scripts/") {
                                String::new()
                            } else {
                                format!("; again: {replay}")
                            };
                            tally.violated(format!("{}: {why}{again}", self.layer));
                        }
                    }
                });
            }
        });
        tally.into_inner().unwrap()
    }
}

thread_local! {
    static WHY: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Keeps what a panic says for [`caught`], instead of printing it.
pub fn catch_panics() {
    panic::set_hook(Box::new(|info| {
        WHY.with_borrow_mut(|why| {
            let text = info.payload_as_str().unwrap_or("a panic");
            let place = info.location().map(ToString::to_string).unwrap_or_default();
            *why = format!("{} ({place})", text.trim().replace('\n', " | "));
        });
    }));
}

/// What a closure's panic says.
pub fn caught(run: impl FnOnce()) -> Result<(), String> {
    panic::catch_unwind(AssertUnwindSafe(run)).map_err(|_| WHY.with_borrow(String::clone))
}

/// A seed that nobody chose.
pub fn new_seed() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_microsecond()).unwrap_or(1) % 1_000_000_007
}

/// Numbers that look like chance and come again with their seed (splitmix64,
/// Steele, Lea and Flood 2014).
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// Whether one of `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// One of these.
    pub fn of<'a, T>(&mut self, things: &'a [T]) -> &'a T {
        &things[usize::try_from(self.below(things.len() as u64)).unwrap()]
    }
}
