//! Power cuts: ext4 and XFS on a loop device, shut down under the stopped
//! writers so that nothing reaches the disk but what was made durable.
//!
//! The shutdown ioctl (`EXT4_IOC_SHUTDOWN`, `XFS_IOC_GOINGDOWN`, both without
//! a flush of the log) is what file systems are tested with; `xfs_io` asks
//! for it on either.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::common::until;
use crate::judge;
use crate::lab::{Chance, Lab, Tally, caught};
use crate::rig::{Pipeline, Ran, Rig};

/// The file systems that lose power in turn.
const SYSTEMS: [&str; 2] = ["ext4", "xfs"];

/// Cuts the power as often as `runs` says, on each file system in turn.
pub fn run(lab: &Lab, runs: u64) -> Tally {
    if !rustix::process::geteuid().is_root() {
        return Tally::skipped("power cuts need root and loop devices");
    }
    for system in SYSTEMS {
        let probe = tempfile::tempdir().unwrap();
        if let Err(why) = caught(|| Disk::new(&probe.path().join("disk"), system).shut_down()) {
            return Tally::skipped(format!("{system}: {why}"));
        }
    }
    lab.each(runs, |number, chance| {
        let mut rig = Rig::any(chance);
        let system = SYSTEMS[usize::try_from(number % 2).unwrap()];
        let disk = Disk::new(&rig.place.path("disk"), system);
        rig.home = disk.mounted.join("home");
        for _ in 0..=chance.below(2) {
            let ran = cut(&rig, &disk, chance);
            judge::promises(&rig, &ran);
        }
        judge::recover(&rig);
    })
}

/// Cuts the power in the middle of a pipeline, and brings the machine back.
fn cut(rig: &Rig, disk: &Disk, chance: &mut Chance) -> Ran {
    let mut pipeline = rig.start();
    // After some line, as what follows a line is the moment of truth, or at
    // any time.
    let lines = usize::try_from(chance.below(10)).unwrap();
    until("lines", || pipeline.lines() >= lines || !pipeline.runs());
    if chance.one_in(2) {
        thread::sleep(Duration::from_millis(chance.below(120)));
    }
    stop(&mut pipeline);
    disk.shut_down();
    for program in &mut pipeline.programs {
        // One that has ended cannot be killed.
        let _ = program.kill();
    }
    let ran = pipeline.finish();
    disk.bring_back();
    ran
}

/// Stops all programs at once.
fn stop(pipeline: &mut Pipeline) {
    for program in &mut pipeline.programs {
        let pid = Pid::from_raw(i32::try_from(program.id()).unwrap()).unwrap();
        if program.try_wait().unwrap().is_some() {
            continue;
        }
        kill_process(pid, Signal::STOP).unwrap();
        let state = PathBuf::from(format!("/proc/{}/stat", program.id()));
        until("the program is stopped", || {
            let stat = fs::read_to_string(&state).unwrap_or_default();
            let state = stat.rsplit(')').next().unwrap_or_default().trim_start();
            state.is_empty() || state.starts_with(['T', 'Z', 'X'])
        });
    }
}

/// A file system of its own in a file. It is unmounted when this is dropped.
struct Disk {
    image: PathBuf,
    mounted: PathBuf,
}

impl Disk {
    fn new(path: &Path, system: &str) -> Self {
        let disk = Self { image: path.with_extension("img"), mounted: path.to_owned() };
        File::create(&disk.image).unwrap().set_len(1 << 30).unwrap();
        fs::create_dir(&disk.mounted).unwrap();
        must(Command::new(format!("mkfs.{system}")).arg("-q").arg(&disk.image));
        disk.mount();
        disk
    }

    fn mount(&self) {
        must(Command::new("mount").args(["-o", "loop"]).arg(&self.image).arg(&self.mounted));
    }

    /// Nothing reaches the disk from now on.
    fn shut_down(&self) {
        must(Command::new("xfs_io").args(["-x", "-c", "shutdown"]).arg(&self.mounted));
    }

    fn bring_back(&self) {
        must(Command::new("umount").arg(&self.mounted));
        self.mount();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // What still runs after a violation must not keep the device.
        let _ = Command::new("umount").arg("-l").arg(&self.mounted).status();
    }
}

#[track_caller]
fn must(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", command.get_program().display());
}
