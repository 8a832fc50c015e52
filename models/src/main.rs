//! Models of what threads share (scripts/models).
//!
//! shuttle runs a scene again and again, each time with another order of the
//! threads. In the suite's code as it is no scene may fail; in each copy with
//! a mistake one must.

#![allow(dead_code, reason = "not all of the suite's files is modelled")]

mod line;
mod mistakes;
mod spool;
mod stdout;
#[allow(dead_code, reason = "build.rs applies it")]
mod swap;

use std::env;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, FailurePersistence, MaxSteps, Runner};

include!(concat!(env!("OUT_DIR"), "/shared.rs"));

/// The copies of the suite's files.
#[allow(unused_imports, unused_variables, reason = "a mistake leaves something over")]
mod variants {
    include!(concat!(env!("OUT_DIR"), "/variants.rs"));
}

/// What the suite's files find at the edge of the process.
mod process {
    pub use crate::stdout::{put_out, warn};

    pub mod peers {
        pub use crate::stdout::{gone, takes_a_line, wait};
    }
}

/// What stands in for `std::sync`.
mod sync {
    pub use shuttle::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, atomic};

    /// What nobody will take any more is dropped with the receiver, as std
    /// does and shuttle does not.
    pub mod mpsc {
        use shuttle::sync::mpsc;
        pub use shuttle::sync::mpsc::Sender;

        pub struct Receiver<T>(mpsc::Receiver<T>);

        pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
            let (sender, receiver) = mpsc::channel();
            (sender, Receiver(receiver))
        }

        impl<T> Receiver<T> {
            pub fn iter(&self) -> mpsc::Iter<'_, T> {
                self.0.iter()
            }
        }

        impl<T> Drop for Receiver<T> {
            fn drop(&mut self) {
                while !std::thread::panicking() && self.0.try_recv().is_ok() {}
            }
        }
    }
}

/// What stands in for `std::thread`.
mod thread {
    pub use shuttle::thread::{Builder, JoinHandle, Scope, spawn, yield_now};

    /// When its last thread ends, shuttle wakes who opened a scope, wherever
    /// that waits. So that one does nothing but wait.
    pub fn scope<'env, F, T>(f: F) -> T
    where
        F: for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> T + Send + 'env,
        T: Send + 'env,
    {
        shuttle::thread::scope(|scope| scope.spawn(|| f(scope)).join().unwrap())
    }

    /// As many as two threads show what more do.
    pub fn available_parallelism() -> std::io::Result<std::num::NonZeroUsize> {
        Ok(std::num::NonZeroUsize::MIN.saturating_add(1))
    }
}

/// A byte at which a hashing thread fails.
pub const FATAL: u8 = 0xff;

/// Something that threads do, and its name.
pub type Scene = (&'static str, fn());

/// The name of a copy, and what is done with it.
pub type Variant = (&'static str, &'static [&'static [Scene]]);

/// The tree hash, by its definition.
pub fn tree(data: &[u8]) -> hash::tree::Hash {
    use hash::tree::Hash;
    let mut row: Vec<Hash> = data.chunks(hash::tree::LEAF).map(Hash::of).collect();
    while row.len() > 1 {
        let parent = |pair: &[Hash]| match pair {
            [left, right] => Hash::of(&[left.0, right.0].concat()),
            odd => odd[0],
        };
        row = row.chunks(2).map(parent).collect();
    }
    row.first().copied().unwrap_or_else(|| Hash::of(b""))
}

/// The scenes of a copy.
fn scenes(variant: &str) -> impl Iterator<Item = &'static Scene> {
    let found = variants::VARIANTS.iter().find(|(name, _)| *name == variant);
    found.unwrap().1.iter().copied().flatten()
}

/// Bytes that are another for each `salt`, none of them [`FATAL`].
pub fn bytes(salt: usize, size: usize) -> Vec<u8> {
    // A period prime to all sizes, so that no two leaves are the same.
    (0..251).cycle().skip(salt * 31).take(size).collect()
}

/// Schedules within which a mistake must be found.
const ENOUGH: usize = 20_000;

/// One variant in one scene, in a process of its own.
struct Job {
    variant: &'static str,
    scene: &'static str,
    schedules: usize,
    seed: u64,
}

impl Job {
    /// Ends with a panic if a schedule fails.
    fn schedule(&self) {
        let scene = scenes(self.variant).find(|(name, _)| *name == self.scene).unwrap().1;
        let config = || {
            let mut config = Config::new();
            config.failure_persistence = FailurePersistence::None;
            config.silence_warnings = true;
            // Some wait for a flag, with a look at each step.
            config.max_steps = MaxSteps::FailAfter(20_000);
            config.stack_size = 1 << 18;
            config
        };
        // Each finds what the other is long about.
        let random = self.schedules.div_ceil(2);
        let few_switches = PctScheduler::new_from_seed(self.seed, 3, self.schedules - random);
        Runner::new(RandomScheduler::new_from_seed(self.seed, random), config()).run(scene);
        Runner::new(few_switches, config()).run(scene);
    }

    /// Says what is wrong; nothing if all is as it must be.
    fn judge(&self) -> Option<String> {
        let begin = Instant::now();
        let output = Command::new(env::current_exe().unwrap())
            .args([self.variant, self.scene, &self.schedules.to_string(), &self.seed.to_string()])
            .env("RUST_BACKTRACE", "0")
            .stdout(Stdio::null())
            .output()
            .unwrap();
        let is_found = match output.status.code() {
            Some(0) => false,
            Some(101) => true,
            _ => return Some(format!("{}: {}", self.variant, output.status)),
        };
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().take(10).collect::<Vec<&str>>().join("\n");
        let seconds = begin.elapsed().as_secs_f64();
        if self.variant == "as_it_is" {
            let fault = format!("{}: with seed {}: {said}", self.scene, self.seed);
            println!("{}: {} schedules, {seconds:.1} s", self.scene, self.schedules);
            is_found.then_some(fault)
        } else {
            println!("{} in {}: {seconds:.1} s", self.variant, self.scene);
            let missed = format!("{} was not found in {}", self.variant, self.scene);
            (!is_found).then(|| format!("{missed}, seed {}", self.seed))
        }
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let number = |text: &String| text.parse::<usize>().unwrap();
    if let [variant, scene, schedules, seed] = &arguments[..] {
        let (variant, scene) = (variant.clone().leak(), scene.clone().leak());
        let (schedules, seed) = (number(schedules), seed.parse().unwrap());
        Job { variant, scene, schedules, seed }.schedule();
        return ExitCode::SUCCESS;
    }
    let [schedules, seed] = &arguments[..] else {
        eprintln!("usage: akashita-models schedules seed");
        return ExitCode::from(64);
    };
    let (schedules, seed) = (number(schedules), seed.parse().unwrap());
    let mistaken = mistakes::MISTAKES.iter().map(|mistake| Job {
        variant: mistake.name,
        scene: mistake.scene,
        schedules: ENOUGH,
        seed,
    });
    let as_it_is =
        scenes("as_it_is").map(|(scene, _)| Job { variant: "as_it_is", scene, schedules, seed });
    let jobs = std::sync::Mutex::new(as_it_is.chain(mistaken));
    let faults = std::sync::Mutex::new(Vec::new());
    let next = || jobs.lock().unwrap().next();
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(job) = next() {
                    faults.lock().unwrap().extend(job.judge());
                }
            });
        }
    });
    let faults = faults.into_inner().unwrap();
    for fault in &faults {
        println!("FAULT: {fault}");
    }
    ExitCode::from(u8::from(!faults.is_empty()))
}
