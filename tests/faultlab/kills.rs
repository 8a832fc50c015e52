//! kill -9 of any program, or of the service, at any moment, once or several
//! times in a row, on the way out and on the way back.

use std::fs::{self, File};
use std::process::Stdio;
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
        kill_get(&rig, chance);
    })
}

/// Kills a program in the middle of a pipeline, or all, or the service too.
fn kill(rig: &mut Rig, chance: &mut Chance) {
    let mut pipeline = rig.start();
    // A whole pipeline of these sizes takes about half a second.
    let limit = if chance.one_in(3) { 40 } else { 500 };
    thread::sleep(Duration::from_millis(chance.below(limit)));
    let count = pipeline.programs.len() as u64;
    let victim = chance.below(count + 2);
    for (number, program) in (0..).zip(&mut pipeline.programs) {
        if victim == number || victim >= count {
            // One that has ended is not killed any more.
            let _ = program.kill();
        }
    }
    if victim > count {
        rig.server.kill();
        rig.server.restart();
    }
    let ran = pipeline.finish();
    ran.is_documented();
    judge::promises(rig, &ran);
}

/// Kills get while it brings the stream back: what came out is a beginning
/// of the stream, and nothing has changed.
fn kill_get(rig: &Rig, chance: &mut Chance) {
    fs::write(rig.place.path("lines"), rig.catalog()).unwrap();
    let part = rig.place.path("part");
    let mut get = rig.tool("glacier-get", &["--tier", "Expedited"]);
    get.stdin(File::open(rig.place.path("lines")).unwrap());
    get.stdout(File::create(&part).unwrap()).stderr(Stdio::null());
    let mut get = get.spawn().unwrap();
    // A third of a second passes before an archive is brought up.
    thread::sleep(Duration::from_millis(chance.below(900)));
    let _ = get.kill();
    let code = get.wait().unwrap().code();
    let got = fs::read(part).unwrap();
    assert!(rig.bytes.starts_with(&got), "I5: bytes that are not the stream's");
    assert!(code != Some(0) || got == rig.bytes, "I5: success before the end");
    judge::everything(rig);
}
