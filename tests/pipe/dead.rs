//! Dead neighbours: one program of a pipeline is killed while the others wait
//! for room, for their hour or for the network. The others end within seconds,
//! so that cron can mail and the next run start; the last tells why.

use std::fs::{self, File};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::{MIB, is_stored_nowhere};
use crate::common::local::{Local, pattern};
use crate::common::{Place, until};

/// How long the others may take: the longest is put's, which gives what is in
/// flight ten seconds to move.
const SECONDS: Duration = Duration::from_secs(25);

/// What the pipeline waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wait {
    /// chunk for room, as window and put wait for their hour: the window is
    /// closed, and the producer has far more than the spool takes.
    Room,
    /// The same in put: the lines are stamped, and have passed.
    PutsHour,
    /// window and put for their hour, chunk for the producer.
    Hour,
    /// put for the network, chunk for room.
    Network,
    /// put for the network before it has begun anything.
    FirstCall,
}

/// The programs, first to last.
const NAMES: [&str; 4] = ["producer", "chunk", "window", "put"];

struct Pipes {
    place: Place,
    server: Local,
    programs: Vec<Child>,
}

fn closed() -> String {
    let at = |hours| {
        let at = jiff::Timestamp::now().checked_add(jiff::SignedDuration::from_hours(hours));
        at.unwrap().strftime("%H:%M").to_string()
    };
    format!("{}-{}", at(4), at(6))
}

impl Pipes {
    /// Starts `producer | chunk | window | put`, and waits until they wait.
    fn start(wait: Wait) -> Self {
        let place = Place::default();
        let server = Local::start(&place);
        // More than spool, blocks and pipe take together, or a little.
        let size = if wait == Wait::Hour { 3 * MIB } else { 60 * MIB };
        fs::write(place.path("in"), pattern(size)).unwrap();
        let all = place.path("in");
        let producer = if wait == Wait::Hour {
            // One that has no more to say for now.
            let mut sh = place.command("sh");
            sh.args(["-c", "head -c 2621440 in; exec sleep 1000"]);
            sh
        } else {
            let mut cat = place.command("cat");
            cat.arg(&all);
            cat
        };
        let mut options = vec!["--part-size", "1M", "--volume-size", "2M", "--name", "x"];
        let marker = place.path("marker");
        options.extend(["--whole", marker.to_str().unwrap(), "--spool-limit", "4M"]);
        let chunk = place.tool("glacier-chunk", &options);
        let hours = closed();
        let window = match wait {
            Wait::Room | Wait::Hour => place.tool("glacier-window", &["--tz", "UTC", &hours]),
            Wait::PutsHour => {
                let mut stamp = place.command("sed");
                stamp.args(["-u", &format!(r#"s/}}$/,"window":"{hours}","tz":"UTC"}}/"#)]);
                stamp
            }
            Wait::Network | Wait::FirstCall => place.tool("glacier-window", &["00:00-24:00"]),
        };
        if wait == Wait::FirstCall {
            server.stop();
        }
        let create: &[&str] =
            if wait == Wait::FirstCall { &["v"] } else { &["--create-vault", "v"] };
        let put = server.put(&place, create);
        let mut programs: Vec<Child> = Vec::new();
        let mut commands = vec![producer, chunk, window, put];
        for (number, command) in commands.iter_mut().enumerate() {
            if let Some(before) = programs.last_mut() {
                command.stdin(before.stdout.take().unwrap());
            }
            command.stderr(File::create(place.path(NAMES[number])).unwrap());
            command.stdout(Stdio::piped());
            programs.push(command.spawn().unwrap());
            if number == 3 && wait == Wait::Network {
                until("it sends", || server.calls("InitiateMultipartUpload") > 0);
                server.stop();
            }
        }
        // The commands hold the pipes open.
        drop(commands);
        let mut pipes = Self { place, server, programs };
        pipes.settle(wait);
        pipes
    }

    /// Waits until nothing more happens.
    fn settle(&mut self, wait: Wait) {
        let place = &self.place;
        let expected = if wait == Wait::Hour { 2 } else { 4 };
        until("the spool is full", || {
            crate::common::local::files(&place.spool())
                .iter()
                .filter(|path| path.extension().is_some_and(|of| of == "part"))
                .count()
                >= expected
                || matches!(wait, Wait::Network)
        });
        thread::sleep(Duration::from_millis(700));
        for (number, program) in self.programs.iter_mut().enumerate() {
            let status = program.try_wait().unwrap();
            assert!(status.is_none(), "{wait:?}: {} has ended: {status:?}", NAMES[number]);
        }
    }

    fn said(&self, number: usize) -> String {
        fs::read_to_string(self.place.path(NAMES[number])).unwrap()
    }

    /// Kills one, and demands that the others end. Their exit codes.
    fn kill(&mut self, victim: usize, wait: Wait) -> Vec<Option<i32>> {
        self.programs[victim].kill().unwrap();
        let start = Instant::now();
        // A producer that is silent is told when it writes again.
        let mut codes = vec![None];
        for (number, name) in NAMES.iter().enumerate().skip(1) {
            let code = loop {
                if let Some(status) = self.programs[number].try_wait().unwrap() {
                    break status.code();
                }
                let said: Vec<String> = (0..4).map(|number| self.said(number)).collect();
                assert!(
                    start.elapsed() < SECONDS,
                    "{wait:?}: {name} still waits for the dead {}: {said:?}",
                    NAMES[victim]
                );
                thread::sleep(Duration::from_millis(20));
            };
            codes.push(code);
        }
        codes
    }
}

impl Drop for Pipes {
    fn drop(&mut self) {
        for program in &mut self.programs {
            let _ = program.kill();
            let _ = program.wait();
        }
    }
}

/// Kills each of the four in turn.
#[track_caller]
fn all_end(wait: Wait) {
    thread::scope(|scope| {
        for (victim, name) in NAMES.into_iter().enumerate() {
            // sed, in place of a window of ours, does not look for its reader.
            if wait == Wait::PutsHour && name == "put" {
                continue;
            }
            scope.spawn(move || {
                let mut pipes = Pipes::start(wait);
                let codes = pipes.kill(victim, wait);
                let [_, chunk, window, put] = codes[..] else { unreachable!() };
                let told = || format!("{wait:?}: {name} died: {codes:?}");
                match name {
                    "producer" => {
                        // The marker is not there: not whole, and never to be.
                        assert_eq!((chunk, put), (Some(65), Some(65)), "{}", told());
                        assert!(pipes.said(3).contains("marker"), "{}: {}", told(), pipes.said(3));
                    }
                    "chunk" => {
                        assert!(matches!(window, Some(0 | 75)), "{}", told());
                        assert_eq!(put, Some(75), "{}", told());
                    }
                    "window" => {
                        assert_eq!(chunk, Some(75), "{}", told());
                        // Also where the window held all, and put had no line.
                        assert_eq!(put, Some(75), "{}", told());
                    }
                    _ => assert_eq!((chunk, window), (Some(75), Some(75)), "{}", told()),
                }
                for number in 1..4 {
                    let said = pipes.said(number);
                    assert!(said.lines().count() <= 1, "{}: {said}", told());
                }
                pipes.server.go_on();
                is_stored_nowhere(&pipes.server, &pipes.place);
            });
        }
    });
}

#[test]
fn while_chunk_waits_for_room() {
    all_end(Wait::Room);
}

#[test]
fn while_window_waits_for_its_hour() {
    all_end(Wait::Hour);
}

#[test]
fn while_put_waits_for_its_hour() {
    all_end(Wait::PutsHour);
}

#[test]
fn while_put_waits_for_the_network() {
    all_end(Wait::Network);
}

#[test]
fn while_put_waits_for_its_first_answer() {
    all_end(Wait::FirstCall);
}

#[test]
fn what_is_whole_waits_for_its_hour() {
    let place = Place::default();
    let mut chunk = place.tool("glacier-chunk", &["--trust-eof", "--name", "x"]);
    fs::write(place.path("in"), pattern(MIB)).unwrap();
    let chunk = chunk.stdin(File::open(place.path("in")).unwrap()).stdout(Stdio::piped());
    let mut chunk = chunk.spawn().unwrap();
    let mut window = place.tool("glacier-window", &["--tz", "UTC", &closed()]);
    window.stdin(chunk.stdout.take().unwrap()).stdout(Stdio::piped());
    let mut window = window.spawn().unwrap();
    assert!(chunk.wait().unwrap().success());
    thread::sleep(Duration::from_secs(2));
    assert!(window.try_wait().unwrap().is_none());
    window.kill().unwrap();
    window.wait().unwrap();
}

/// Stores a stream of three volumes.
fn store(server: &Local, place: &Place) {
    fs::write(place.path("in"), pattern(6 * MIB)).unwrap();
    let script = "cat in | glacier-chunk --part-size 1M --volume-size 2M --trust-eof --name x | \
                  glacier-put --create-vault v";
    super::sh(server, place, script).done();
}

/// The command has got a part, and no more comes.
#[test]
fn get_ends_when_its_command_dies_while_it_waits_for_the_network() {
    let place = Place::default();
    let server = Local::start(&place);
    store(&server, &place);
    let arguments = ["--tier", "Expedited", "--concurrency", "1", "--", "sh", "-c"];
    let mut get = place.tool("glacier-get", &arguments);
    get.arg("echo $$ >pid; head -c 1000000 >got; exec cat >/dev/null");
    server.client(&mut get).stdin(File::open(place.path("catalog.jsonl")).unwrap());
    let mut get = get.stderr(File::create(place.path("said")).unwrap()).spawn().unwrap();
    until("it has a part", || fs::metadata(place.path("got")).is_ok_and(|got| got.len() > 0));
    server.stop();
    let pid = fs::read_to_string(place.path("pid")).unwrap().trim().parse().unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    let start = Instant::now();
    let status = loop {
        if let Some(status) = get.try_wait().unwrap() {
            break status;
        }
        assert!(start.elapsed() < SECONDS, "get still waits");
        thread::sleep(Duration::from_millis(20));
    };
    server.go_on();
    let said = fs::read_to_string(place.path("said")).unwrap();
    assert_eq!(status.code(), Some(137), "{said}");
    assert_eq!(said, "glacier-get: sh: was killed by signal 9\n");
}

/// Brings back what is stored, from a server that answers no more.
#[test]
fn get_ends_when_its_reader_dies_while_it_waits_for_the_network() {
    let place = Place::default();
    let server = Local::start(&place);
    store(&server, &place);
    let get = |reader: &mut Command| {
        let mut chain = place.tool("glacier-chain", &["x"]);
        chain.stdin(File::open(place.path("catalog.jsonl")).unwrap()).stdout(Stdio::piped());
        let mut chain = chain.spawn().unwrap();
        let mut get = place.tool("glacier-get", &["--tier", "Expedited", "--concurrency", "1"]);
        server.client(&mut get).stdin(chain.stdout.take().unwrap());
        get.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut get = get.spawn().unwrap();
        let reader = reader.stdin(get.stdout.take().unwrap()).stdout(Stdio::null()).spawn();
        let asked = server.calls("GetJobOutput");
        until("it fetches", || server.calls("GetJobOutput") > asked);
        server.stop();
        assert!(chain.wait().unwrap().success());
        (get, reader.unwrap())
    };
    // The reader takes what comes, until nothing comes.
    let (mut program, mut reader) = get(place.command("cat").arg("-"));
    thread::sleep(Duration::from_secs(1));
    let ended_before = program.try_wait().unwrap();
    reader.kill().unwrap();
    reader.wait().unwrap();
    if ended_before.is_none() {
        let start = Instant::now();
        while program.try_wait().unwrap().is_none() {
            assert!(start.elapsed() < SECONDS, "get still waits");
            thread::sleep(Duration::from_millis(20));
        }
        assert!(matches!(program.wait().unwrap().code(), Some(74 | 75)));
    }
    server.go_on();
}

/// Stops and continues a server.
impl Local {
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.id().try_into().unwrap()).unwrap(), signal).unwrap();
    }

    fn stop(&self) {
        self.signal(Signal::STOP);
    }

    fn go_on(&self) {
        self.signal(Signal::CONT);
    }
}
