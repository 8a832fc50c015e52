//! kill -9 of chunk, put or the service at any moment, once or several times
//! in a row.

use std::thread;
use std::time::Duration;

use crate::judge;
use crate::lab::{Chance, Lab, Tally};
use crate::rig::Rig;

/// Kills as often as `runs` says.
pub fn run(lab: &Lab, runs: u64) -> Tally {
    lab.each(runs, |_, chance| {
        let mut rig = Rig::any(chance);
        for _ in 0..=chance.below(3) {
            kill(&mut rig, chance);
        }
        judge::recover(&rig);
    })
}

/// Kills one of them in the middle of a pipeline, or all at once.
fn kill(rig: &mut Rig, chance: &mut Chance) {
    let mut pipeline = rig.start();
    // A whole pipeline of these sizes takes about half a second.
    let limit = if chance.one_in(3) { 40 } else { 500 };
    thread::sleep(Duration::from_millis(chance.below(limit)));
    let victim = chance.below(4);
    // One that has ended is not killed any more.
    if victim != 1 {
        let _ = pipeline.programs[0].kill();
    }
    if victim != 0 {
        let _ = pipeline.programs[1].kill();
    }
    if victim == 3 {
        rig.server.kill();
        rig.server.restart();
    }
    let ran = pipeline.finish();
    ran.is_documented();
    judge::promises(rig, &ran);
}
