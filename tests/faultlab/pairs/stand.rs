//! A program that is run under strace, which holds it before one call.

use std::fs::{self, File};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, kill_process_group, prlimit};

use super::point::{CALLS, Point};

/// How long a call waits that may be the one, in microseconds: long enough to
/// be seen in time.
const WAIT: &str = "60000";

/// How long anything may take before it is taken for hanging.
const PATIENCE: Duration = Duration::from_secs(150);

/// How a program ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Its exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// What it complained about.
    pub said: String,
}

/// A program that runs, and can stand before a call.
pub struct Running {
    child: Child,
    root: PathBuf,
    trace: PathBuf,
    said: PathBuf,
    point: Option<Point>,
    /// The thread that stands, and how many bytes it is about to write where.
    at: Option<(Pid, u64, PathBuf)>,
}

/// The same program within strace.
fn traced(command: &Command, options: &[String]) -> Command {
    let mut strace = Command::new("strace");
    strace.args(["-f", "--quiet=all", "-y", "--seccomp-bpf", "-e", "signal=none"]).args(options);
    strace.arg("--").arg(command.get_program()).args(command.get_args());
    strace.env_clear();
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            strace.env(name, value);
        }
    }
    strace.current_dir(command.get_current_dir().unwrap());
    strace
}

/// All that a program does when it is alone.
pub fn watch(command: &Command, input: Option<&Path>, root: &Path) -> (Ended, String) {
    let trace = root.join("trace");
    let options = ["-s", "300", "-o"].map(str::to_owned);
    let mut options = options.to_vec();
    options.extend([trace.display().to_string(), "-e".into(), format!("trace={CALLS}")]);
    let ended = Running::spawn(traced(command, &options), input, root, "watched", None).end();
    (ended, fs::read_to_string(trace).unwrap_or_default())
}

impl Running {
    /// Starts a program; `name` is that of the files beside it. Where there is
    /// a point, it will stand there.
    pub fn start(
        command: Command,
        input: Option<&Path>,
        root: &Path,
        name: &str,
        point: Option<&Point>,
    ) -> Self {
        let Some(point) = point else { return Self::spawn(command, input, root, name, None) };
        let mut options = ["-s", if point.call == "execve" { "300" } else { "0" }, "-o"]
            .map(str::to_owned)
            .to_vec();
        options.push(root.join(format!("{name}.trace")).display().to_string());
        options.extend(point.options(root, WAIT));
        Self::spawn(traced(&command, &options), input, root, name, Some(point.clone()))
    }

    fn spawn(
        mut command: Command,
        input: Option<&Path>,
        root: &Path,
        name: &str,
        point: Option<Point>,
    ) -> Self {
        if let Some(input) = input {
            command.stdin(File::open(input).unwrap());
        }
        let said = root.join(format!("{name}.err"));
        command.stdout(File::create(root.join(format!("{name}.out"))).unwrap());
        command.stderr(File::create(&said).unwrap());
        // A group of its own: all of it can be killed.
        let child = command.process_group(0).spawn().unwrap();
        let trace = root.join(format!("{name}.trace"));
        Self { child, root: root.to_owned(), trace, said, point, at: None }
    }

    fn id(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap()
    }

    /// Waits until it stands at its point; false if it has ended before.
    pub fn stands(&mut self) -> bool {
        self.stands_within(PATIENCE)
    }

    /// The same; false if it does not come there in this time.
    pub fn stands_within(&mut self, time: Duration) -> bool {
        let point = self.point.clone().unwrap();
        let begin = Instant::now();
        while self.runs() {
            let trace = fs::read_to_string(&self.trace).unwrap_or_default();
            if let Some(call) = point.reached(&trace, &self.root) {
                // Where strace stands, what it holds stands.
                let _ = kill_process(self.id(), Signal::STOP);
                self.at = Pid::from_raw(call.thread).map(|pid| (pid, call.size, call.file));
                return true;
            }
            if begin.elapsed() > time {
                return false;
            }
            thread::sleep(Duration::from_millis(3));
        }
        false
    }

    /// Whether it still runs, or stands.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Lets it go on from where it stands.
    pub fn go_on(&self) {
        let _ = kill_process(self.id(), Signal::CONT);
    }

    /// Kills it where it stands, and all that it has started.
    pub fn kill(&self) {
        let _ = kill_process_group(self.id(), Signal::KILL);
    }

    /// Lets it make its call, and stops it behind that.
    pub fn stop_behind(&self) {
        if let Some((pid, ..)) = self.at {
            let _ = kill_process(pid, Signal::STOP);
        }
        self.go_on();
    }

    /// Wakes what was stopped.
    pub fn wake(&self) {
        if let Some((pid, ..)) = self.at {
            let _ = kill_process(pid, Signal::CONT);
        }
    }

    /// Lets its file grow by no more than half of what it is about to write,
    /// and lets it go on.
    pub fn cut(&self) {
        if let Some((pid, size, file)) = &self.at {
            let there = fs::metadata(file).map_or(0, |file| file.len());
            let limit = Some(there + size / 2);
            let _ =
                prlimit(Some(*pid), Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
            let limit = Rlimit { current: limit, maximum: limit };
            prlimit(Some(*pid), Resource::Fsize, limit).unwrap();
        }
        self.go_on();
    }

    /// Waits until it ends, but no longer than this.
    pub fn ends_within(&mut self, time: Duration) -> bool {
        let begin = Instant::now();
        while self.runs() {
            if begin.elapsed() > time {
                return false;
            }
            thread::sleep(Duration::from_millis(3));
        }
        true
    }

    /// Waits until it ends.
    pub fn end(mut self) -> Ended {
        assert!(self.ends_within(PATIENCE), "hangs: {}", self.said());
        let status = self.child.wait().unwrap();
        // sh tells by a number that a signal ended what it ran.
        let code = status.code().filter(|code| status.signal().is_none() && *code < 128);
        Ended { code, said: self.said() }
    }

    fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.said).unwrap_or_default()).into_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
        let _ = self.child.wait();
    }
}
