//! Where two programs meet: a spool, a catalog, a vault, and streams.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::pool::Pool;
use crate::common::local::{Local, files, pattern};
use crate::common::{Place, run, run_with};
use crate::rig::VAULT;

const MIB: usize = 1 << 20;

/// How big volumes are here.
pub const VOLUME: usize = 2 * MIB;

/// Half an hour of the service in a second: an upload is given up in three
/// quarters of a minute, and an archive brought up in a tenth of a second.
const SPEED: u32 = 1800;

/// A stream that programs work on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Stream {
    /// Two volumes of bytes.
    A,
    /// Two others.
    B,
    /// A ZFS stream.
    Full,
    /// One that is based on it.
    Increment,
    /// And one that is based on that.
    Second,
}

/// How far a stream has come before two meet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum State {
    /// It is nowhere.
    New,
    /// It is whole in the spool.
    Spooled,
    /// It is stored.
    Stored,
}

impl Stream {
    /// What it is called here.
    pub fn name(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
            Self::Full => "full",
            Self::Increment => "increment",
            Self::Second => "second",
        }
    }

    /// What it is based on.
    pub fn base(self) -> Option<Self> {
        match self {
            Self::Increment => Some(Self::Full),
            Self::Second => Some(Self::Increment),
            _ => None,
        }
    }

    /// The guid of its snapshot.
    pub fn guid(self) -> Option<&'static str> {
        match self {
            Self::A | Self::B => None,
            Self::Full => Some("13202105433093045432"),
            Self::Increment => Some("9426808012259010397"),
            Self::Second => Some("16664242196063039650"),
        }
    }

    /// Its bytes.
    pub fn bytes(self) -> Vec<u8> {
        match self {
            Self::A => pattern(2 * MIB + MIB / 2),
            Self::B => pattern(2 * MIB + MIB / 4).into_iter().rev().collect(),
            Self::Full => fs::read("tests/streams/full.zfs").unwrap(),
            Self::Increment => fs::read("tests/streams/incremental-1.zfs").unwrap(),
            Self::Second => fs::read("tests/streams/incremental-2.zfs").unwrap(),
        }
    }
}

/// A spool, a catalog, a vault and streams.
pub struct Scene {
    /// A pool of zfs-fuse, for those that work on one. It goes before its disk.
    pub pool: Option<Pool>,
    pub place: Place,
    pub server: Local,
    /// The streams that are there, and how far they were.
    pub streams: Vec<(Stream, State)>,
}

impl Scene {
    /// One in which streams have come as far as this.
    pub fn new(streams: &[(Stream, State)]) -> Self {
        let place = Place::default();
        let server = Local::fast(&place, SPEED);
        fs::create_dir(place.path("home")).unwrap();
        let scene = Self { pool: None, place, server, streams: streams.to_vec() };
        // A vault is made for the first stream that is stored into it.
        run(&mut scene.tool("glacier-put", &["--create-vault", "--allow-empty", VAULT])).done();
        for (stream, state) in streams {
            fs::write(scene.input(*stream), stream.bytes()).unwrap();
            if *state >= State::Spooled {
                scene.cut(*stream);
            }
            if *state == State::Stored {
                scene.send(*stream);
            }
        }
        scene
    }

    /// The directory of all.
    pub fn root(&self) -> PathBuf {
        self.place.path("").components().collect()
    }

    /// A tool with the spool and the catalog of this scene.
    pub fn tool(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = self.place.tool(name, arguments);
        command
            .env("GLACIER_SPOOL", self.spool())
            .env("GLACIER_CATALOG", self.place.path("home/catalog.jsonl"));
        self.server.client(&mut command);
        command
    }

    pub fn spool(&self) -> PathBuf {
        self.place.path("home/spool")
    }

    /// Whether put has the lock of a stream.
    pub fn is_sending(&self) -> bool {
        let shared = rustix::fs::FlockOperation::NonBlockingLockShared;
        let locks = files(&self.spool()).into_iter().filter(|file| file.ends_with("put.lock"));
        let mut opened = locks.filter_map(|lock| File::open(lock).ok());
        opened.any(|lock| rustix::fs::flock(&lock, shared).is_err())
    }

    /// What the catalog says.
    pub fn catalog(&self) -> String {
        fs::read_to_string(self.place.path("home/catalog.jsonl")).unwrap_or_default()
    }

    /// The file with a stream's bytes.
    pub fn input(&self, stream: Stream) -> PathBuf {
        self.place.path(format!("in.{}", stream.name()))
    }

    /// The file with the lines that chunk printed of it.
    pub fn lines(&self, stream: Stream) -> PathBuf {
        self.place.path(format!("lines.{}", stream.name()))
    }

    /// glacier-chunk, for a stream.
    pub fn chunk(&self, stream: Stream) -> Command {
        let mut chunk = self.tool("glacier-chunk", &["--part-size", "1M", "--volume-size", "2M"]);
        if matches!(stream, Stream::A | Stream::B) {
            chunk.args(["--name", stream.name(), "--trust-eof"]);
        }
        // Not all are as long as two volumes.
        chunk.args(["--spool-limit", "none"]);
        chunk
    }

    fn cut(&self, stream: Stream) {
        let mut chunk = self.chunk(stream);
        chunk.stdin(File::open(self.input(stream)).unwrap());
        let cut = run(&mut chunk).done();
        fs::write(self.lines(stream), cut.stdout).unwrap();
    }

    fn send(&self, stream: Stream) {
        let mut put = self.tool("glacier-put", &[VAULT]);
        put.stdin(File::open(self.lines(stream)).unwrap());
        run(&mut put).done();
        fs::write(self.chain_file(stream), self.chain(stream).unwrap()).unwrap();
    }

    /// The file with the lines of the catalog that bring a stream back.
    pub fn chain_file(&self, stream: Stream) -> PathBuf {
        self.place.path(format!("chain.{}", stream.name()))
    }

    /// The lines of the catalog that bring a stream back, or why there are none.
    pub fn chain(&self, stream: Stream) -> Result<String, String> {
        let wanted = stream.guid().unwrap_or(stream.name());
        let chain = run_with(&mut self.tool("glacier-chain", &[wanted]), self.catalog().as_bytes());
        if chain.code() == 0 { Ok(chain.stdout) } else { Err(chain.stderr) }
    }

    /// Runs `chunk | put` of a stream; how it ended.
    pub fn again(&self, stream: Stream) -> (Option<i32>, String) {
        let mut chunk = self.chunk(stream);
        chunk.stdin(File::open(self.input(stream)).unwrap());
        let mut chunk = chunk.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut put = self.tool("glacier-put", &[VAULT]);
        put.stdin(chunk.stdout.take().unwrap()).stdout(Stdio::null()).stderr(Stdio::piped());
        let put = put.output().unwrap();
        let chunk = chunk.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&chunk.stderr) + String::from_utf8_lossy(&put.stderr);
        (put.status.code(), said.into_owned())
    }
}

/// Whether a file is there with these bytes.
pub fn holds(path: &Path, bytes: &[u8]) -> bool {
    fs::read(path).is_ok_and(|there| there == bytes)
}
