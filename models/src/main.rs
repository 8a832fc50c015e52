//! Models of what threads share (scripts/models).
//!
//! shuttle runs a scene again and again, each time with another order of the
//! threads. In the suite's code as it is no scene may fail; in each copy with
//! a mistake one must.

#![allow(dead_code, reason = "not all of the suite's files is modelled")]

mod mistakes;

use std::env;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, FailurePersistence, Runner};

include!(concat!(env!("OUT_DIR"), "/shared.rs"));

/// The copies of the suite's files.
mod variants {
    include!(concat!(env!("OUT_DIR"), "/variants.rs"));
}

/// What stands in for `std::sync`.
mod sync {
    pub use shuttle::sync::*;
}

/// What stands in for `std::thread`.
mod thread {
    pub use shuttle::thread::*;

    /// As many as two threads show what more do.
    pub fn available_parallelism() -> std::io::Result<std::num::NonZeroUsize> {
        Ok(std::num::NonZeroUsize::MIN.saturating_add(1))
    }
}

/// A byte at which a hashing thread fails.
pub const FATAL: u8 = 0xff;

/// Something that threads do, and its name.
pub type Scene = (&'static str, fn());

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
        let scenes = variants::VARIANTS.iter().find(|(name, _)| *name == self.variant).unwrap().1;
        let scene = scenes.iter().find(|(name, _)| *name == self.scene).unwrap().1;
        let config = || {
            let mut config = Config::new();
            config.failure_persistence = FailurePersistence::None;
            config.silence_warnings = true;
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
            .stdout(Stdio::null())
            .output()
            .unwrap();
        let is_found = match output.status.code() {
            Some(0) => false,
            Some(101) => true,
            _ => return Some(format!("{}: {}", self.variant, output.status)),
        };
        let said = String::from_utf8_lossy(&output.stderr);
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
    let as_it_is = variants::VARIANTS[0].1.iter().map(|(scene, _)| Job {
        variant: "as_it_is",
        scene,
        schedules,
        seed,
    });
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
