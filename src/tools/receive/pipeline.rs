//! A stream through the processes that undo its filters, to where it goes.
//!
//! The reading end of each pipe stays open here as long as its reader is
//! judged, so no program ends because the next one did: whatever status it has
//! is its own. Which of several failures is the cause is asked of the pipes: a
//! program whose input had ended may have failed for want of the rest, and one
//! whose input still came has failed by itself.

use std::fs::File;
use std::io::{self, PipeReader, Read, Seek as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::undo::Stage;
use super::{failed_here, first_line};
use crate::error::{Error, Result};
use crate::process::child;

/// How much of what a program says may be told.
const SAID: u64 = 64 << 10;

/// What a program reads.
#[derive(Debug)]
enum Input {
    /// The stream as glacier-get passes it on.
    Stream,
    /// What the program before it makes of that.
    Pipe(PipeReader),
}

impl Input {
    /// The same for a program, while this stays open.
    fn stdio(&self) -> io::Result<Stdio> {
        match self {
            Self::Stream => Ok(Stdio::inherit()),
            Self::Pipe(pipe) => pipe.try_clone().map(Stdio::from),
        }
    }

    /// Whether nothing is left to read; waits for what may come.
    fn is_at_end(&mut self) -> bool {
        loop {
            match self.read(&mut [0]) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                read => return matches!(read, Ok(0)),
            }
        }
    }

    /// Whether nobody writes any more.
    fn has_ended(&self) -> bool {
        let Self::Pipe(pipe) = self else { return false };
        let mut pipe = [PollFd::new(pipe, PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let seen = poll(&mut pipe, Some(&now));
        seen.is_ok() && pipe.iter().any(|pipe| pipe.revents().contains(PollFlags::HUP))
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Stream => io::stdin().read(buffer),
            Self::Pipe(pipe) => pipe.read(buffer),
        }
    }
}

/// A program that runs, or has.
#[derive(Debug)]
struct Running {
    /// What messages call it.
    name: &'static str,
    program: String,
    child: Child,
    input: Input,
    said: File,
}

impl Running {
    fn start(
        name: &'static str,
        program: String,
        mut command: Command,
        input: Input,
        output: Stdio,
    ) -> Result<Self> {
        let failed = |e| Error::io(format!("{program}: cannot start"), e);
        let said = tempfile::tempfile().map_err(failed)?;
        command.stdin(input.stdio().map_err(failed)?).stdout(output);
        command.stderr(said.try_clone().map_err(failed)?);
        let child =
            command.spawn().map_err(|e| failed_here(child::unrun(&program, e).to_string()))?;
        Ok(Self { name, program, child, input, said })
    }

    fn wait(&mut self) -> Result<ExitStatus> {
        self.child.wait().map_err(|e| Error::io(format!("{}: cannot wait for it", self.program), e))
    }

    /// What it said.
    fn said(&mut self) -> String {
        let mut text = Vec::new();
        // What cannot be read is not told.
        let _ = self.said.rewind();
        let _ = self.said.by_ref().take(SAID).read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    }

    /// How it ended, for want of words of its own.
    fn how(&self, status: ExitStatus) -> String {
        child::check(&self.program, status).err().map(|e| e.to_string()).unwrap_or_default()
    }

    /// Why it failed. What it read may not be what a filter made; a signal says
    /// nothing of that.
    fn failed(&mut self, status: ExitStatus) -> Error {
        let (how, said) = (self.how(status), self.said());
        let why = format!("{} failed: {}", self.name, first_line(&said, || how));
        match status.signal() {
            Some(_) => failed_here(why),
            None => Error::Data(why),
        }
    }
}

impl Drop for Running {
    /// What still runs lacks what is to come.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The programs that undo the filters of a stream, on standard input.
#[derive(Debug)]
pub struct Pipeline {
    stages: Vec<Running>,
    /// What comes out of the last of them.
    output: Input,
}

impl Pipeline {
    /// Starts them.
    ///
    /// # Errors
    /// When one cannot be run.
    pub fn start(stages: Vec<Stage>) -> Result<Self> {
        let mut started = Self { stages: Vec::new(), output: Input::Stream };
        for stage in stages {
            let program = child::name(&stage.command);
            let (reader, writer) =
                io::pipe().map_err(|e| Error::io(format!("{program}: cannot start"), e))?;
            let input = std::mem::replace(&mut started.output, Input::Pipe(reader));
            let run = child::of(&stage.command)?;
            let running = Running::start(stage.name, program, run, input, writer.into())?;
            started.stages.push(running);
        }
        Ok(started)
    }

    /// Gives all that comes out to a program, whose failure is `refused` of
    /// what it said. What follows behind what it takes is read.
    ///
    /// # Errors
    /// Of all that failed, the cause.
    pub fn into_program(
        mut self,
        program: &str,
        run: Command,
        output: Stdio,
        done: impl FnOnce() -> Result<()>,
        refused: impl FnOnce(String) -> Error,
    ) -> Result<()> {
        let input = std::mem::replace(&mut self.output, Input::Stream);
        let mut last = Running::start("", program.to_owned(), run, input, output)?;
        let status = last.wait()?;
        if status.success() {
            done()?;
            return self.end(&mut last.input);
        }
        let how = last.how(status);
        let said = last.said();
        let refused = refused(if said.trim().is_empty() { how } else { said });
        if last.input.has_ended() {
            self.judge()?;
        }
        Err(refused)
    }

    /// Gives all that comes out to a writer.
    ///
    /// # Errors
    /// As [`Self::into_program`].
    pub fn into_writer(
        mut self,
        mut writer: impl io::Write,
        failed: impl Fn(io::Error) -> Error,
    ) -> Result<()> {
        let mut input = std::mem::replace(&mut self.output, Input::Stream);
        let mut buffer = vec![0; 256 << 10];
        loop {
            let length = match input.read(&mut buffer) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                read => read.map_err(|e| Error::io("the stream: cannot read", e))?,
            };
            let Some(piece @ [_, ..]) = buffer.get(..length) else { break };
            writer.write_all(piece).map_err(&failed)?;
        }
        self.judge()
    }

    /// Reads the rest, so that nobody ends of a broken pipe.
    fn end(self, input: &mut Input) -> Result<()> {
        io::copy(input, &mut io::sink()).map_err(|e| Error::io("the stream: cannot read", e))?;
        self.judge()
    }

    /// Waits for the programs, of which the last has closed its output, and
    /// gives the failure that comes first in the stream's way.
    fn judge(mut self) -> Result<()> {
        let mut cause = Ok(());
        while let Some(mut stage) = self.stages.pop() {
            let status = stage.wait()?;
            if !status.success() {
                cause = Err(stage.failed(status));
                if !stage.input.has_ended() {
                    break;
                }
            } else if !stage.input.is_at_end() {
                // It has read to the end, or glacier-get may not have said yet
                // that this was all.
                let why =
                    format!("{} failed: {}: did not read all of it", stage.name, stage.program);
                return Err(Error::Data(why));
            }
        }
        cause
    }
}
