//! One stream of 4 MiB and 5 bytes, stored in parts of 1 MiB and volumes of 2.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;

use crate::common::local::{Local, catalog, pattern};
use crate::common::{Ended, Place, run_on, run_with, start_into};

pub const MIB: usize = 1 << 20;

/// A server with the stream, and the catalog that tells of it.
pub struct Scene {
    pub server: Local,
    pub place: Place,
    pub bytes: Vec<u8>,
    pub lines: String,
}

impl Scene {
    /// The service's hours pass 7,200 times as fast: a Standard job takes two
    /// seconds.
    pub fn new() -> Self {
        Self::with_speed(7200)
    }

    pub fn with_speed(speed: u32) -> Self {
        Self::of(speed, 4 * MIB + 5, "2M")
    }

    /// One with a stream of another size, in other volumes.
    pub fn of(speed: u32, size: usize, volume: &str) -> Self {
        let place = Place::default();
        let server = Local::fast(&place, speed);
        let bytes = pattern(size);
        let mut chunk = place.tool("glacier-chunk", &["--trust-eof", "--name", "x"]);
        chunk.args(["--part-size", "1M", "--volume-size", volume, "--spool-limit", "none"]);
        let lines = run_with(&mut chunk, &bytes).done().stdout;
        run_with(&mut server.put(&place, &["--create-vault", "v"]), lines.as_bytes()).done();
        let lines = catalog(&place);
        Self { server, place, bytes, lines }
    }

    /// glacier-get, as a client of the server.
    pub fn get(&self, arguments: &[&str]) -> Command {
        let mut get = self.place.tool("glacier-get", arguments);
        self.server.client(&mut get);
        get
    }

    /// Runs it on the stream's lines; it prints nothing but text.
    pub fn run(&self, arguments: &[&str]) -> Ended {
        run_with(&mut self.get(arguments), self.lines.as_bytes())
    }

    /// Runs it on lines, and gives what it wrote to standard output.
    pub fn fetch(&self, arguments: &[&str], lines: &str) -> (Ended, Vec<u8>) {
        let (input, output) = (self.place.path("input"), self.place.path("output"));
        fs::write(&input, lines).unwrap();
        let mut get = self.get(arguments);
        get.stdin(File::open(&input).unwrap());
        let ended = start_into(&mut get, File::create(&output).unwrap()).finish();
        (ended, fs::read(&output).unwrap())
    }

    /// Runs it in a shell after some words of that, on the stream's lines.
    pub fn within(&self, before: &str, arguments: &str) -> Ended {
        let input = self.place.path("input");
        fs::write(&input, &self.lines).unwrap();
        let mut shell = self.place.command("sh");
        let program = self.get(&[]).get_program().to_owned();
        shell.args(["-c", &format!("{before} exec \"$0\" {arguments}")]).arg(program);
        run_on(self.server.client(&mut shell), &input)
    }

    /// How often jobs were begun, listed and fetched from.
    pub fn calls(&self) -> [usize; 3] {
        ["InitiateJob", "ListJobs", "GetJobOutput"].map(|call| self.server.calls(call))
    }

    /// The files in the directory of the stream beneath `kept`, sorted.
    pub fn kept(&self) -> Vec<PathBuf> {
        let mut files = crate::common::local::files(&self.place.path("kept"));
        files.sort();
        files
    }
}
