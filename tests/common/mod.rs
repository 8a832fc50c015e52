//! What the tests of programs share: a directory of their own, a tool run in
//! it without anything of the user's environment, and waiting with an end.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "a test that cannot go on has failed"
)]

pub mod local;
pub mod machine;
pub mod made;
pub mod page;
pub mod source;
pub mod stranger;
pub mod tty;

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::Value;

/// How long anything may take before it is taken for hanging.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Names the fault that programs have in which the laboratory planted some.
pub const PLANTED: &str = "AKASHITA_PLANTED";

/// Where other programs than those of this build are.
pub const BINARIES: &str = "AKASHITA_BINARIES";

/// Says what could not be tested, past the harness, which hides what a passing test prints. The form
/// is `thing: why`; .ci/run looks for things that scripts/test installs.
pub fn skip(what: &str) {
    let mut stderr = std::io::stderr().lock();
    writeln!(stderr, "SKIP: {what}").unwrap();
}

/// A program of ours.
pub fn program(name: &str) -> PathBuf {
    match std::env::var_os(BINARIES) {
        Some(directory) => Path::new(&directory).join(name),
        // All programs are built into the directory of this one.
        None => Path::new(env!("CARGO_BIN_EXE_glacier-chunk")).with_file_name(name),
    }
}

/// A directory of one test, with a spool in it.
pub struct Place {
    directory: tempfile::TempDir,
}

impl Default for Place {
    fn default() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }
}

impl Place {
    /// Where a file of this name is, or would be.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The spool that the tools use here.
    pub fn spool(&self) -> PathBuf {
        self.path("spool")
    }

    /// The directory of a stream in the spool.
    pub fn stream(&self, id: &str) -> PathBuf {
        self.spool().join(id)
    }

    /// A tool of ours. Its environment is `PATH`, a home, a spool and a
    /// catalog in this directory; its standard input is empty.
    pub fn tool(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = self.command(program(name).to_str().unwrap());
        command.args(arguments);
        // The laboratory's own: which fault these programs have.
        command.envs(std::env::var_os(PLANTED).map(|fault| (PLANTED, fault)));
        command
    }

    /// Any other program, in the same environment.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .env("HOME", self.directory.path())
            .env("GLACIER_SPOOL", self.spool())
            .env("GLACIER_CATALOG", self.path("catalog.jsonl"))
            .current_dir(self.directory.path())
            .stdin(Stdio::null());
        command
    }
}

/// How a program ended.
#[derive(Debug)]
pub struct Ended {
    /// Its status.
    pub status: ExitStatus,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

impl Ended {
    /// Its exit code; -1 if a signal ended it.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or(-1)
    }

    /// The JSON lines it printed.
    pub fn lines(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Those of one type.
    pub fn of_type(&self, of: &str) -> Vec<Value> {
        self.lines().into_iter().filter(|line| line["type"] == of).collect()
    }

    /// The same, if it succeeded in silence.
    #[track_caller]
    pub fn done(self) -> Self {
        assert_eq!((self.code(), self.stderr.as_str()), (0, ""), "{}", self.stdout);
        self
    }

    /// The same, if it failed with this code and this one message, which
    /// stands behind the tool's name.
    #[track_caller]
    pub fn failed(self, code: i32, message: &str) -> Self {
        let said = self.stderr.split_once(": ").map(|(_, said)| said.trim_end_matches('\n'));
        assert_eq!((self.code(), said), (code, Some(message)), "{}", self.stdout);
        assert_eq!(self.stderr.lines().count(), 1, "one line: {}", self.stderr);
        self
    }

    /// The same, if it failed with this code and one message that begins and
    /// ends with these words.
    #[track_caller]
    pub fn failed_like(self, code: i32, begins: &str, ends: &str) -> Self {
        let said = self.stderr.split_once(": ").map_or("", |(_, said)| said).trim_end();
        assert_eq!(self.code(), code, "{}{}", self.stdout, self.stderr);
        assert!(said.starts_with(begins) && said.ends_with(ends), "{said}");
        assert_eq!(self.stderr.lines().count(), 1, "one line: {}", self.stderr);
        self
    }
}

/// A program that runs. It is killed when this is dropped.
pub struct Running {
    child: Child,
    /// The program, if its manual says with which statuses it ends.
    tool: Option<String>,
    /// Statuses that its input tells it to end with.
    told: Vec<i32>,
    stdin: Option<ChildStdin>,
    stdout: Option<BufReader<std::process::ChildStdout>>,
    stderr: Option<JoinHandle<String>>,
}

/// Starts a program, to read here what it prints.
pub fn start(command: &mut Command) -> Running {
    start_into(command, Stdio::piped())
}

/// Starts a program that prints into something else.
pub fn start_into(command: &mut Command, stdout: impl Into<Stdio>) -> Running {
    let mut child = command.stdout(stdout).stderr(Stdio::piped()).spawn().unwrap();
    let mut complaints = child.stderr.take().unwrap();
    let stderr = thread::spawn(move || {
        let mut text = Vec::new();
        complaints.read_to_end(&mut text).unwrap();
        String::from_utf8_lossy(&text).into_owned()
    });
    Running {
        tool: has_statuses(command),
        told: Vec::new(),
        stdin: child.stdin.take(),
        stdout: child.stdout.take().map(BufReader::new),
        stderr: Some(stderr),
        child,
    }
}

/// The name of a tool of ours, unless it ends as the command does that it runs.
fn has_statuses(command: &Command) -> Option<String> {
    let name = Path::new(command.get_program()).file_name()?.to_str()?;
    let ours = name.starts_with("glacier-");
    let may_run_another = matches!(name, "glacier-get" | "glacier-window");
    let has = |option: &str| command.get_args().any(|word| word == option);
    let runs_another = may_run_another && has("--");
    // All of them help with 0.
    (ours && !runs_another && !has("--help")).then(|| name.to_owned())
}

/// The statuses of the `failed` lines in an input, with which put ends as they say.
fn told(input: &[u8]) -> Vec<i32> {
    let lines =
        input.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
    let failed = lines.filter(|line: &Value| line["type"] == "failed");
    failed.filter_map(|line| i32::try_from(line["code"].as_i64()?).ok()).collect()
}

/// Asserts that a tool's manual lists the status that it ended with, or that
/// it is put and was told it by its input.
fn assert_listed(tool: &str, code: i32, told: &[i32]) {
    let page = format!("{}/man/{tool}.1", env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(page).unwrap();
    let (_, listed) = page.split_once(".Sh EXIT STATUS\n").unwrap();
    let listed = listed.split("\n.Sh ").next().unwrap();
    let mut rows = listed.lines().filter_map(|line| line.strip_prefix(".It "));
    let is_listed = rows.any(|row| row.split([' ', ',']).any(|word| word == code.to_string()));
    let is_passed_on = tool == "glacier-put" && told.contains(&code);
    assert!(is_listed || is_passed_on, "{tool}(1) does not list its status {code}");
}

impl Running {
    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Writes to its standard input, which must be piped; false if it does
    /// not read any more.
    pub fn give(&mut self, bytes: &[u8]) -> bool {
        self.told.extend(told(bytes));
        self.stdin.as_mut().unwrap().write_all(bytes).is_ok()
    }

    /// Ends its standard input.
    pub fn end_input(&mut self) {
        self.stdin = None;
    }

    /// The next line of its standard output; waits for it.
    pub fn line(&mut self) -> Option<String> {
        let stdout = self.stdout.as_mut().unwrap();
        if stdout.buffer().is_empty() {
            let mut watched = [PollFd::new(stdout.get_ref(), PollFlags::IN)];
            let patience = Timespec::try_from(PATIENCE).unwrap();
            assert!(poll(&mut watched, Some(&patience)).unwrap() > 0, "it prints nothing");
        }
        let mut line = String::new();
        let count = stdout.read_line(&mut line).unwrap();
        (count > 0).then_some(line)
    }

    /// Reads its lines up to one of this type.
    pub fn line_of(&mut self, of: &str) -> Value {
        while let Some(line) = self.line() {
            let line: Value = serde_json::from_str(&line).unwrap();
            if line["type"] == of {
                return line;
            }
        }
        panic!("no line of type {of}");
    }

    /// Reads the next bytes of its standard output, which are no lines.
    pub fn read(&mut self, bytes: &mut [u8]) {
        self.stdout.as_mut().unwrap().read_exact(bytes).unwrap();
    }

    /// Reads its standard output no more.
    pub fn close_output(&mut self) {
        self.stdout = None;
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Kills it as a power cut would.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
    }

    /// Waits until it ends by itself, reading what it still prints. Its
    /// standard input stays as it is.
    pub fn finish(mut self) -> Ended {
        let output = self.stdout.take().map(|mut stdout| {
            thread::spawn(move || {
                let mut text = String::new();
                stdout.read_to_string(&mut text).map(|_| text).unwrap()
            })
        });
        let begin = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(begin.elapsed() < PATIENCE, "it hangs");
            thread::sleep(Duration::from_millis(5));
        };
        let stderr = self.stderr.take().unwrap().join().unwrap();
        if let (Some(tool), Some(code)) = (&self.tool, status.code()) {
            assert_listed(tool, code, &self.told);
        }
        Ended {
            status,
            stdout: output.map(|output| output.join().unwrap()).unwrap_or_default(),
            stderr,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended cannot be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a program to its end, with its standard input as the command has it.
pub fn run(command: &mut Command) -> Ended {
    start(command).finish()
}

/// Runs a program with these bytes as its standard input.
pub fn run_with(command: &mut Command, input: &[u8]) -> Ended {
    let mut running = start(command.stdin(Stdio::piped()));
    let mut stdin = running.stdin.take().unwrap();
    running.told = told(input);
    thread::scope(|scope| {
        // It may have seen enough before the end.
        scope.spawn(move || stdin.write_all(input));
        running.finish()
    })
}

/// Runs a program with a file as its standard input.
pub fn run_on(command: &mut Command, path: &Path) -> Ended {
    run(command.stdin(File::open(path).unwrap()))
}

/// Waits until something is so.
#[track_caller]
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < PATIENCE, "not so after a while: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Looks for a while whether something stays so.
#[track_caller]
pub fn stays(what: &str, time: Duration, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while begin.elapsed() < time {
        assert!(is_so(), "not so after {:?}: {what}", begin.elapsed());
        thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until what is made is younger than this file.
pub fn after(path: &Path) {
    let made = |path: &Path| std::fs::metadata(path).unwrap().modified().unwrap();
    let other = path.with_extension("after");
    until("the clock goes on", || {
        let _ = std::fs::remove_file(&other);
        std::fs::write(&other, "").unwrap();
        made(&other) > made(path)
    });
    std::fs::remove_file(other).unwrap();
}
