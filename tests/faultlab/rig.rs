//! What is attacked: a stream, a spool, a catalog, a Glacier, and a tree of
//! files around them that nothing may touch.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use serde_json::Value;

use crate::common::Place;
use crate::common::local::{Local, files, pattern};
use crate::lab::Chance;

/// How long a pipeline may take before it is taken for hanging.
const PATIENCE: Duration = Duration::from_mins(2);

/// The vault of every rig.
pub const VAULT: &str = "v";

const MIB: u64 = 1 << 20;

/// A scene of an attack.
pub struct Rig {
    /// Where everything is, but perhaps the spool.
    pub place: Place,
    /// Its Glacier.
    pub server: Local,
    /// The stream's bytes, also in the file `in`.
    pub bytes: Vec<u8>,
    /// Whether it needs another stream, which is not there, to be received.
    pub is_based: bool,
    /// How big its volumes are.
    pub volume_size: u64,
    /// Where spool and catalog are.
    pub home: PathBuf,
    /// Whether a window that is open all day stands in the pipeline.
    pub has_window: bool,
    chunk: Vec<String>,
    sentinel: Vec<Seen>,
}

/// A file as it was.
type Seen = (PathBuf, Vec<u8>, i64, i64, u32);

impl Rig {
    /// A small stream, real or not, as chance wants it.
    pub fn any(chance: &mut Chance) -> Self {
        let volume_size = *chance.of(&[MIB, 2 * MIB, 4 * MIB]);
        let has_window = chance.one_in(3);
        if chance.one_in(2) {
            let size = usize::try_from(chance.below(6 * MIB) + 1).unwrap();
            return Self { has_window, ..Self::raw(pattern(size), volume_size) };
        }
        let name = *chance.of(&["full", "incremental-1", "incremental-2", "replication-R-I"]);
        let path = PathBuf::from(format!("tests/streams/{name}.zfs"));
        Self { has_window, ..Self::zfs(&path, volume_size) }
    }

    /// Bytes without a form.
    pub fn raw(bytes: Vec<u8>, volume_size: u64) -> Self {
        Self::new(bytes, volume_size, &["--trust-eof", "--name", "x"])
    }

    /// A ZFS stream in a file.
    pub fn zfs(path: &Path, volume_size: u64) -> Self {
        let name = path.to_string_lossy();
        let is_compound = ["-I.", "-R.", "-R-"].iter().any(|end| name.contains(end));
        let proof: &[&str] = if is_compound { &["--trust-eof"] } else { &[] };
        let is_based = !name.contains("full");
        Self { is_based, ..Self::new(fs::read(path).unwrap(), volume_size, proof) }
    }

    fn new(bytes: Vec<u8>, volume_size: u64, options: &[&str]) -> Self {
        let place = Place::default();
        let server = Local::start(&place);
        fs::write(place.path("in"), &bytes).unwrap();
        let around = place.path("around");
        fs::create_dir(&around).unwrap();
        fs::write(around.join("photograph"), "the only copy").unwrap();
        std::os::unix::fs::symlink("photograph", around.join("link")).unwrap();
        let sizes = ["--part-size".to_owned(), "1M".to_owned()];
        let volumes = ["--volume-size".to_owned(), format!("{}M", volume_size / MIB)];
        let options = options.iter().map(|&option| option.to_owned());
        Self {
            server,
            bytes,
            is_based: false,
            volume_size,
            home: place.path("home"),
            has_window: false,
            chunk: sizes.into_iter().chain(volumes).chain(options).collect(),
            sentinel: seen(&around),
            place,
        }
    }

    /// The spool.
    pub fn spool(&self) -> PathBuf {
        self.home.join("spool")
    }

    /// What the catalog says.
    pub fn catalog(&self) -> String {
        fs::read_to_string(self.home.join("catalog.jsonl")).unwrap_or_default()
    }

    /// A tool of ours, with the spool and the catalog of this rig.
    pub fn tool(&self, name: &str, arguments: &[&str]) -> Command {
        fs::create_dir_all(&self.home).unwrap();
        let mut command = self.place.tool(name, arguments);
        command
            .env("GLACIER_SPOOL", self.spool())
            .env("GLACIER_CATALOG", self.home.join("catalog.jsonl"));
        self.server.client(&mut command);
        command
    }

    /// glacier-chunk, with the stream as its input.
    pub fn chunk(&self) -> Command {
        let options: Vec<&str> = self.chunk.iter().map(String::as_str).collect();
        let mut chunk = self.tool("glacier-chunk", &options);
        chunk.stdin(File::open(self.place.path("in")).unwrap());
        chunk
    }

    /// glacier-put.
    pub fn put(&self) -> Command {
        self.tool("glacier-put", &["--create-vault", VAULT])
    }

    /// Starts `glacier-chunk <in | glacier-put v`, perhaps with a window in
    /// between.
    pub fn start(&self) -> Pipeline {
        let window = self.has_window.then(|| self.tool("glacier-window", &["00:00-24:00"]));
        let programs = [Some(self.chunk()), window, Some(self.put())];
        Pipeline::start(self, programs.into_iter().flatten().collect())
    }

    /// Whether the files around the spool are as they were.
    pub fn is_untouched(&self) -> bool {
        seen(&self.place.path("around")) == self.sentinel
    }
}

/// The files below a directory, with what tells whether they were touched.
fn seen(directory: &Path) -> Vec<Seen> {
    let mut all: Vec<Seen> = files(directory)
        .into_iter()
        .map(|path| {
            let meta = fs::symlink_metadata(&path).unwrap();
            let content = fs::read(&path).unwrap();
            (path, content, meta.mtime(), meta.mtime_nsec(), meta.mode())
        })
        .collect();
    all.sort();
    all
}

/// A pipeline that runs. What chunk prints is noted on the way.
pub struct Pipeline {
    /// chunk first, put last.
    pub programs: Vec<Child>,
    /// Where each complains.
    complaints: Vec<PathBuf>,
    announced: Arc<Mutex<Vec<u8>>>,
    relay: Option<JoinHandle<()>>,
}

/// How a pipeline ended.
#[derive(Debug)]
pub struct Ran {
    /// Their exit codes; none for what a signal ended.
    pub codes: Vec<Option<i32>>,
    /// What each complained about.
    pub said: Vec<String>,
    /// The lines that chunk printed whole.
    pub announced: Vec<Value>,
}

impl Pipeline {
    /// Starts any programs as a pipeline, two at least.
    pub fn start(rig: &Rig, commands: Vec<Command>) -> Self {
        let last = commands.len() - 1;
        let complaint = |number| rig.place.path(format!("{number}.err"));
        let complaints: Vec<PathBuf> = (0..=last).map(complaint).collect();
        let mut programs: Vec<Child> = Vec::new();
        for (number, mut command) in commands.into_iter().enumerate() {
            command.stderr(File::create(&complaints[number]).unwrap());
            // The first reads a file, the second what is relayed to it.
            match number {
                0 => {}
                1 => drop(command.stdin(Stdio::piped())),
                _ => drop(command.stdin(programs[number - 1].stdout.take().unwrap())),
            }
            if number == last {
                command.stdout(File::create(rig.place.path("put.out")).unwrap());
            } else {
                command.stdout(Stdio::piped());
            }
            programs.push(command.spawn().unwrap());
        }
        let from = programs[0].stdout.take().unwrap();
        let to = programs[1].stdin.take().unwrap();
        let announced = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&announced);
        let relay = Some(thread::spawn(move || relay(from, to, &noted)));
        Self { programs, complaints, announced, relay }
    }

    /// How many lines have gone through the pipe.
    pub fn lines(&self) -> usize {
        self.announced.lock().unwrap().split(|byte| *byte == b'\n').count() - 1
    }

    /// Whether any program still runs.
    pub fn runs(&mut self) -> bool {
        self.programs.iter_mut().any(|program| program.try_wait().unwrap().is_none())
    }

    /// Waits until both have ended.
    #[track_caller]
    pub fn finish(mut self) -> Ran {
        let begin = Instant::now();
        while self.runs() {
            assert!(begin.elapsed() < PATIENCE, "hangs: {:?}", self.said());
            thread::sleep(Duration::from_millis(3));
        }
        self.relay.take().unwrap().join().unwrap();
        let lines = std::mem::take(&mut *self.announced.lock().unwrap());
        let whole = lines.split_inclusive(|byte| *byte == b'\n').filter(|l| l.ends_with(b"\n"));
        let announced = whole.map(|line| serde_json::from_slice(line).unwrap()).collect();
        let codes =
            self.programs.iter_mut().map(|program| program.wait().unwrap().code()).collect();
        Ran { codes, said: self.said(), announced }
    }

    fn said(&self) -> Vec<String> {
        let read = |path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
        self.complaints.iter().map(read).collect()
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        for program in &mut self.programs {
            // One that has ended cannot be killed.
            let _ = program.kill();
            let _ = program.wait();
        }
    }
}

/// Passes lines on as a pipe does: either end sees the other go.
fn relay(mut from: ChildStdout, mut to: ChildStdin, noted: &Mutex<Vec<u8>>) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let mut watched = [PollFd::new(&from, PollFlags::IN), PollFd::new(&to, PollFlags::empty())];
        poll(&mut watched, None).unwrap();
        if !watched[1].revents().is_empty() {
            return;
        }
        let Ok(size) = from.read(&mut buffer) else { return };
        if size == 0 {
            return;
        }
        noted.lock().unwrap().extend_from_slice(&buffer[..size]);
        if to.write_all(&buffer[..size]).is_err() {
            return;
        }
    }
}

impl Ran {
    /// Whether all is stored.
    pub fn is_done(&self) -> bool {
        self.codes.iter().all(|code| *code == Some(0))
    }

    /// Asserts that whatever ended by itself did so as the manuals say: with
    /// a documented code, and with complaints that are lines of its own.
    #[track_caller]
    pub fn is_documented(&self) {
        for (code, said) in self.codes.iter().zip(&self.said) {
            assert!(
                matches!(code, None | Some(0 | 65 | 69 | 74 | 75 | 77 | 78)),
                "code {code:?}: {said}"
            );
            assert!(said.lines().all(|line| line.starts_with("glacier-")), "{said}");
            let is_content = said.lines().all(|line| line.contains(": warning: "));
            assert!(code.is_none_or(|code| (code == 0) == is_content), "{code:?}: {said}");
        }
    }
}
