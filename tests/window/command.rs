//! `glacier-window WINDOW -- COMMAND`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::process::{Pid, Signal, kill_process, kill_process_group, test_kill_process};

use crate::common::{Place, Running, run, run_with, skip, start, until};

const NIGHT: &str = "22:00-06:00";

const STOPPED: &str = "sh: stopped, as the window has closed; run the same command again";

/// Writes its number and that of another program, and goes on with both.
const UP: &str = "echo $$ >>pids; sleep 1000 >/dev/null 2>&1 & echo $! >>pids; echo up; wait";

/// It does not care for TERM, nor does what it starts.
const STUBBORN: &str = "trap '' TERM; echo $$ >>pids; sleep 1000 >/dev/null 2>&1 & echo $! >>pids; echo up; \
     while :; do wait; done";

/// It goes at once, and leaves one that does not care for TERM.
const CARELESS: &str = "(trap '' TERM; exec sleep 1000) >/dev/null 2>&1 & echo $! >>pids; \
                        echo $$ >>pids; echo up; exec sleep 1000 >/dev/null 2>&1";

/// `sh -c SCRIPT` behind these arguments of the tool.
fn window(place: &Place, arguments: &str, script: &str) -> Command {
    let mut command = place.tool("glacier-window", &[]);
    command.args(arguments.split(' ')).args(["--", "sh", "-c", script]).env("TZ", "UTC");
    command
}

/// The programs that have written their numbers.
fn pids(place: &Place) -> Vec<Pid> {
    let text = fs::read_to_string(place.path("pids")).unwrap_or_default();
    let pid = |line: &str| Pid::from_raw(line.parse().unwrap()).unwrap();
    text.lines().map(pid).collect()
}

#[track_caller]
fn until_gone(place: &Place) {
    assert_eq!(pids(place).len(), 2);
    until("all that ran has ended", || {
        pids(place).into_iter().all(|pid| test_kill_process(pid).is_err())
    });
}

/// What still runs with the environment of a place, where the system tells.
fn strays(place: &Place) -> Vec<PathBuf> {
    let home = format!("HOME={}\0", place.path("").display()).replace("/\0", "\0");
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let paths = processes.map(|entry| entry.unwrap().path());
    let has_home = |path: &PathBuf| {
        let environment = fs::read(path.join("environ")).unwrap_or_default();
        String::from_utf8_lossy(&environment).contains(&home)
    };
    paths.filter(has_home).collect()
}

#[track_caller]
fn up(running: &mut Running) {
    assert_eq!(running.line().as_deref(), Some("up\n"));
}

/// A clock that is set while programs run.
struct Clock {
    file: PathBuf,
    preload: String,
}

impl Clock {
    /// None where there is no faketime.
    fn new(place: &Place, time: &str) -> Option<Self> {
        let script = "printf %s \"$LD_PRELOAD\"";
        let output = Command::new("faketime").args(["-f", "+0s", "sh", "-c", script]).output();
        let Some(output) = output.ok().filter(|output| output.status.success()) else {
            skip(
                "faketime: not found, no window opens or closes under a command; try scripts/test",
            );
            return None;
        };
        let preload = String::from_utf8(output.stdout).unwrap();
        let clock = Self { file: place.path("clock"), preload };
        clock.set(time);
        Some(clock)
    }

    /// It is this time of 5 January 2026, or of a day behind it.
    fn set(&self, time: &str) {
        let (day, time) = time.split_once(' ').unwrap_or(("05", time));
        let time: Timestamp = format!("2026-01-{day}T{time}Z").parse().unwrap();
        let offset = time.duration_since(Timestamp::now()).as_secs_f64();
        let new = self.file.with_extension("new");
        fs::write(&new, format!("{offset:+}\n")).unwrap();
        fs::rename(new, &self.file).unwrap();
    }

    /// Starts a program with this clock.
    fn start(&self, mut command: Command) -> Running {
        command
            .env("LD_PRELOAD", &self.preload)
            .env("FAKETIME_TIMESTAMP_FILE", &self.file)
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        start(&mut command)
    }
}

#[test]
fn the_status_of_a_command_is_passed_on() {
    let place = Place::default();
    let ended = |script: &str| run(&mut window(&place, "00:00-24:00", script));
    assert_eq!(ended("echo done").done().stdout, "done\n");
    ended("exit 3").failed(3, "sh: ended with status 3");
    ended("exit 75").failed(75, "sh: ended with status 75");
    ended("kill -9 $$").failed(137, "sh: was killed by signal 9");
    // Its whole group, with whom stands around it.
    ended("kill -9 0").failed(137, "sh: was killed by signal 9");
    assert_eq!(strays(&place), Vec::<PathBuf>::new());
}

#[test]
fn a_command_that_cannot_be_run_is_told_as_sh_tells_it() {
    let place = Place::default();
    fs::write(place.path("text"), "no program\n").unwrap();
    let ended = |window: &str, command: &str| {
        run(&mut place.tool("glacier-window", &["--tz", "UTC", window, "--", command]))
    };
    ended("00:00-24:00", "./text").failed(126, "./text: cannot run: Permission denied");
    ended("00:00-24:00", "no-such").failed(127, "no-such: no such command");
    // Before anybody has waited a night for it.
    ended(&crate::window::closed(), "./nothing").failed(127, "./nothing: no such command");
    assert_eq!(strays(&place), Vec::<PathBuf>::new());
}

#[test]
fn what_a_command_leaves_when_it_ends_by_itself_is_left_alone() {
    let place = Place::default();
    let script = "sleep 1000 >/dev/null 2>&1 & echo $! >>pids";
    run(&mut window(&place, "00:00-24:00", script)).done();
    // Time to do the wrong thing.
    std::thread::sleep(Duration::from_millis(300));
    let left = pids(&place)[0];
    assert!(test_kill_process(left).is_ok());
    kill_process(left, Signal::KILL).unwrap();
    until("nothing is left", || strays(&place).is_empty());
}

#[test]
fn a_command_is_not_run_where_nobody_can_watch_over_it() {
    let place = Place::default();
    fs::write(place.path("program"), "#!/bin/sh\necho never >never\n").unwrap();
    fs::set_permissions(place.path("program"), fs::Permissions::from_mode(0o755)).unwrap();
    let mut command =
        place.tool("glacier-window", &["--tz", "UTC", "00:00-24:00", "--", "./program"]);
    let ended = run(command.env("PATH", place.path("no-sh-here")));
    ended.failed(74, "sh: cannot watch over the command: No such file or directory");
    assert!(!place.path("never").exists());
}

#[test]
fn a_command_has_our_input_and_output() {
    let place = Place::default();
    let input = b"a line\n".repeat(50_000);
    let mut command = window(&place, "00:00-24:00", "cat; echo to stderr >&2");
    let ended = run_with(&mut command, &input);
    assert_eq!((ended.code(), ended.stderr.as_str()), (0, "to stderr\n"));
    assert!(ended.stdout.as_bytes() == input);
}

#[test]
fn a_command_waits_for_the_opening() {
    let place = Place::default();
    let Some(clock) = Clock::new(&place, "21:59:58") else { return };
    let running = clock.start(window(&place, NIGHT, "date +%H:%M"));
    assert_eq!(running.finish().done().stdout, "22:00\n");
}

#[test]
fn a_command_is_stopped_when_the_window_closes_with_all_it_has_started() {
    let place = Place::default();
    let Some(clock) = Clock::new(&place, "05:59:57") else { return };
    let mut running = clock.start(window(&place, NIGHT, UP));
    up(&mut running);
    running.finish().failed(75, STOPPED);
    until_gone(&place);
    assert_eq!(strays(&place), Vec::<PathBuf>::new());
}

#[test]
fn a_clock_that_is_set_past_the_close_stops_a_command() {
    let place = Place::default();
    let Some(clock) = Clock::new(&place, "23:00:00") else { return };
    let mut running = clock.start(window(&place, NIGHT, UP));
    up(&mut running);
    // Within the opening nothing happens, forwards or backwards.
    for time in ["22:00:01", "06 05:00:00"] {
        clock.set(time);
        std::thread::sleep(Duration::from_millis(600));
        assert!(running.runs(), "{time}");
    }
    clock.set("06 07:00:00");
    running.finish().failed(75, STOPPED);
    until_gone(&place);
}

#[test]
fn a_machine_that_is_taken_to_another_zone_stops_a_command() {
    let place = Place::default();
    let Some(clock) = Clock::new(&place, "23:00:00") else { return };
    let zones = Path::new("/usr/share/zoneinfo");
    let travel = |zone: &str| {
        fs::copy(zones.join(zone), place.path("new")).unwrap();
        fs::rename(place.path("new"), place.path("localtime")).unwrap();
    };
    if !zones.join("Asia/Tokyo").exists() {
        return skip("/usr/share/zoneinfo: not there, no machine is taken to another zone");
    }
    travel("UTC");
    let mut command = window(&place, NIGHT, UP);
    command.env("TZ", format!(":{}", place.path("localtime").display()));
    let mut running = clock.start(command);
    up(&mut running);
    // It is eight in the morning there.
    travel("Asia/Tokyo");
    // The zone is read every half minute, and here that is over.
    clock.set("23:00:40");
    running.finish().failed(75, STOPPED);
    until_gone(&place);
}

#[test]
fn a_command_has_the_grace_to_stop_and_not_more() {
    for (script, grace, output, least) in [
        (
            "exec 2>/dev/null; trap 'sleep 1; echo bye; exit 0' TERM; echo $$ >>pids; echo $$ >>pids; echo up; while :; do sleep 0.1; done",
            60,
            "bye\n",
            1,
        ),
        (STUBBORN, 1, "", 1),
        (CARELESS, 1, "", 1),
        ("echo $$ >>pids; echo $$ >>pids; echo up; kill -STOP $$", 60, "", 0),
    ] {
        let place = Place::default();
        let Some(clock) = Clock::new(&place, "23:00:00") else { return };
        let arguments = format!("--grace {grace}s {NIGHT}");
        let mut running = clock.start(window(&place, &arguments, script));
        up(&mut running);
        let begin = Instant::now();
        clock.set("06:00:00");
        let ended = running.finish().failed(75, STOPPED);
        let passed = begin.elapsed();
        assert_eq!(ended.stdout, output);
        assert!(passed > Duration::from_secs(least), "{script}: {passed:?}");
        assert!(passed < Duration::from_secs(30), "{script}: {passed:?}");
        until_gone(&place);
        assert_eq!(strays(&place), Vec::<PathBuf>::new());
    }
}

#[test]
fn the_number_of_a_group_is_held_until_it_is_killed() {
    let place = Place::default();
    let Some(clock) = Clock::new(&place, "23:00:00") else { return };
    let mut running = clock.start(window(&place, &format!("--grace 3s {NIGHT}"), CARELESS));
    up(&mut running);
    let [left, command] = pids(&place)[..] else { panic!("two have written their numbers") };
    let leader = rustix::process::getpgid(Some(left)).unwrap();
    clock.set("06:00:00");
    until("the command has ended", || test_kill_process(command).is_err());
    // What it left does not care for TERM, and is killed by the group's
    // number: the leader has it until then.
    let mut missing = 0;
    // Who has ended may wait for long to be reaped.
    let runs = |pid: Pid| {
        let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
        stat.is_ok_and(|stat| !stat.contains(") Z "))
    };
    while runs(left) {
        missing = if test_kill_process(leader).is_err() { missing + 1 } else { 0 };
        assert!(missing < 50, "the number is free for a second, and then it is killed");
        std::thread::sleep(Duration::from_millis(20));
    }
    running.finish().failed(75, STOPPED);
    assert_eq!(strays(&place), Vec::<PathBuf>::new());
}

#[test]
fn a_command_that_was_stopped_runs_again_at_the_next_opening() {
    let place = Place::default();
    let Some(clock) = Clock::new(&place, "05:00:00") else { return };
    let script = format!("echo run >>runs; [ \"$(wc -l <runs)\" -lt 3 ] || exit 4; {UP}");
    let arguments = format!("--repeat {NIGHT}");
    let mut running = clock.start(window(&place, &arguments, &script));
    for day in ["05", "06"] {
        up(&mut running);
        clock.set(&format!("{day} 06:00:00"));
        until_gone(&place);
        fs::remove_file(place.path("pids")).unwrap();
        // Closed: nothing is run, give it time to do the wrong thing.
        std::thread::sleep(Duration::from_millis(600));
        clock.set(&format!("{day} 22:00:00"));
    }
    running.finish().failed(4, "sh: ended with status 4");
    assert_eq!(fs::read_to_string(place.path("runs")).unwrap(), "run\n".repeat(3));
}

/// Whether programs that are started here ignore a signal, as those of nohup(1)
/// and those behind `&` do.
fn is_ignored(signal: Signal) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let ignored = ignored.is_some_and(|mask| mask >> (signal.as_raw() - 1) & 1 == 1);
    if ignored {
        skip(&format!("signal {}: ignored here, what it does is not tried", signal.as_raw()));
    }
    ignored
}

#[test]
fn a_command_does_not_outlive_glacier_window() {
    for (signal, script) in
        [(Signal::KILL, UP), (Signal::TERM, UP), (Signal::KILL, STUBBORN), (Signal::HUP, CARELESS)]
    {
        if is_ignored(signal) {
            continue;
        }
        let place = Place::default();
        let mut running = start(&mut window(&place, "--grace 1s 00:00-24:00", script));
        up(&mut running);
        kill_process(Pid::from_raw(running.id().try_into().unwrap()).unwrap(), signal).unwrap();
        until_gone(&place);
        until("the guard has ended", || strays(&place).is_empty());
    }
}

/// A terminal sends it to the group of who was started there.
#[test]
fn the_interrupt_of_a_terminal_reaches_a_command() {
    if is_ignored(Signal::INT) {
        return;
    }
    let place = Place::default();
    let mut running = start(window(&place, "00:00-24:00", UP).process_group(0));
    up(&mut running);
    let group = Pid::from_raw(running.id().try_into().unwrap()).unwrap();
    kill_process_group(group, Signal::INT).unwrap();
    until_gone(&place);
    assert_eq!(running.finish().code(), -1);
    until("the guard has ended", || strays(&place).is_empty());
}

#[test]
fn a_command_that_waits_notices_that_nobody_reads() {
    let place = Place::default();
    let arguments = format!("--tz UTC {}", crate::window::closed());
    let mut running = start(window(&place, &arguments, "echo never >never").stdin(Stdio::null()));
    running.close_output();
    let gone = "stdout: the program that reads it has ended; run the same command again";
    running.finish().failed(75, gone);
    assert!(!place.path("never").exists());
}

#[test]
fn what_goes_wrong_before_a_command_is_no_line_of_its_output() {
    let place = Place::default();
    for (arguments, code) in [("22-06", 64), ("--tz Europe/Atlantis 00:00-24:00", 78)] {
        let ended = run(&mut window(&place, arguments, "echo never"));
        assert_eq!((ended.code(), ended.stdout.as_str()), (code, ""), "{}", ended.stderr);
    }
}
