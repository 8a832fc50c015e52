//! kill -9 of any program, or of the service, at any moment, once or several
//! times in a row, on the way out and on the way back.

use std::fs::{self, File};
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use crate::judge;
use crate::lab::{Chance, Lab, Tally};
use crate::rig::{Rig, VAULT};

/// Kills as often as `runs` says.
pub fn run(lab: &Lab, runs: u64) -> Tally {
    lab.each(runs, |_, chance| {
        let mut rig = Rig::any(chance);
        for _ in 0..=chance.below(3) {
            kill(&mut rig, chance);
        }
        judge::recover(&rig);
        match chance.below(4) {
            0 => kill_get(&rig, chance),
            way @ (1 | 2) => {
                // The judge has brought it back; those jobs are over by then.
                rig.server.pass_a_day();
                kill_get_that_goes_on(&rig, chance, way == 2);
            }
            _ => kill_rm(&rig, chance),
        }
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

/// Kills get while it brings the stream into a file, or keeps its volumes, as
/// often as chance wants: the next run goes on, and no job is paid for twice.
fn kill_get_that_goes_on(rig: &Rig, chance: &mut Chance, keeps: bool) {
    fs::write(rig.place.path("lines"), rig.catalog()).unwrap();
    let before = rig.server.jobs(VAULT);
    let back = rig.place.path("brought");
    let kept = rig.place.path("kept");
    let get = || {
        let mut get = rig.tool("glacier-get", &["--tier", "Expedited"]);
        get.stdin(File::open(rig.place.path("lines")).unwrap());
        if keeps {
            get.arg("--keep").arg(&kept).stdout(File::create(&back).unwrap());
        } else {
            get.arg("--output").arg(&back).stdout(Stdio::null());
        }
        get.stderr(Stdio::piped());
        get.spawn().unwrap()
    };
    for _ in 0..=chance.below(3) {
        let mut killed = get();
        // A third of a second passes before an archive is brought up.
        thread::sleep(Duration::from_millis(chance.below(900)));
        let _ = killed.kill();
        let code = killed.wait().unwrap().code();
        assert!(matches!(code, None | Some(0)), "killed, and it ends with {code:?}");
        // What is not verified may stand in the file; no other bytes do.
        let got = fs::read(&back).unwrap_or_default();
        assert!(rig.bytes.starts_with(&got), "I5: bytes that are not the stream's");
    }
    let ended = get().wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "I4: it does not go on: {said}");
    assert!(fs::read(&back).unwrap() == rig.bytes, "I5: other bytes came back");
    let volumes = rig.bytes.len().div_ceil(usize::try_from(rig.volume_size).unwrap());
    let after = rig.server.jobs(VAULT);
    let asked = after.difference(&before).count();
    assert_eq!(asked, volumes, "jobs, for so many archives");
    judge::everything(rig);
}

/// Kills rm while it deletes the stream; run again, it ends, and then the
/// stream is stored as if it had never been.
fn kill_rm(rig: &Rig, chance: &mut Chance) {
    fs::write(rig.place.path("lines"), rig.catalog()).unwrap();
    let before = rig.server.archives(VAULT);
    let rm = || {
        let mut rm = rig.tool("glacier-rm", &["--yes", VAULT]);
        rm.stdin(File::open(rig.place.path("lines")).unwrap());
        rm.stdout(Stdio::null()).stderr(Stdio::piped());
        rm.spawn().unwrap()
    };
    for _ in 0..=chance.below(2) {
        let mut killed = rm();
        thread::sleep(Duration::from_millis(chance.below(120)));
        let _ = killed.kill();
        let code = killed.wait().unwrap().code();
        assert!(matches!(code, None | Some(0)), "killed, and it ends with {code:?}");
        let left = rig.server.archives(VAULT);
        let is_whole = left.len() == before.len();
        assert!(
            is_whole || left.iter().any(|it| it.volume().is_none()) || left.is_empty(),
            "a manifest went before its volumes"
        );
    }
    let ended = rm().wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "I4: it does not go on: {said}");
    assert!(rig.server.archives(VAULT).is_empty(), "archives are left");
    let catalog = rig.catalog();
    for held in before {
        let told = |line: &str| line.contains("\"deleted\"") && line.contains(&held.id);
        assert!(catalog.lines().any(told), "no line tells that {} is gone", held.id);
    }
    judge::recover(rig);
}
