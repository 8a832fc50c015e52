//! A process group that outlives nobody.
//!
//! Three processes stand around a command. A *leader* makes the group before
//! the command is there, and holds its number until all is over, so that no
//! signal can reach strangers. A *guard*, in a group of its own, reads a pipe
//! that only we write to: should it end without a word, we are dead, and the
//! guard stops the group as we would have. Both are a few lines of sh, and
//! both are there before the command starts: at no moment does it run
//! unwatched. Held by
//! `tests/window/command.rs::a_command_does_not_outlive_glacier_window`.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};

use super::LOOK;
use crate::command;
use crate::error::{Error, Result};

/// Signals that are meant for the command do not end the leader.
const LEADER: &str = "trap '' HUP INT QUIT TERM; echo; read -r _";

/// `$1` is the group, `$2` the grace in seconds. A word means that all is over.
const GUARD: &str = r#"
trap '' HUP INT QUIT TERM
echo
! read -r _ || exit 0
kill -TERM "-$1"
kill -CONT "-$1"
left=$2
while [ "$left" -gt 0 ] && kill -0 "-$1"; do
	sleep 1
	left=$((left - 1))
done
kill -KILL "-$1"
"#;

/// The group of a command, with who watches over it.
pub struct Group {
    id: Pid,
    leader: Child,
    guard: Child,
}

impl Group {
    /// A group for a command that may take so long to stop.
    ///
    /// # Errors
    /// When there is no sh(1), or no room for it.
    pub fn new(grace: Duration) -> Result<Self> {
        let wrong = |e| Error::io("sh: cannot watch over the command", e);
        let leader = helper(LEADER, &[]).map_err(wrong)?;
        let id = i32::try_from(leader.id()).ok().and_then(Pid::from_raw);
        let id = id.ok_or_else(|| Error::Bug("a process has no number".to_owned()))?;
        let (group, grace) = (id.as_raw_nonzero().to_string(), grace.as_secs().to_string());
        let guard = helper(GUARD, &[group.as_ref(), grace.as_ref()]).map_err(wrong)?;
        Ok(Self { id, leader, guard })
    }

    /// Starts a command in the group. Its standard input, output and error are
    /// ours.
    ///
    /// # Errors
    /// 127 when there is none, 126 when it cannot be run, as sh(1) has it.
    pub fn run(&self, line: &[OsString]) -> Result<Child> {
        let mut run = command::of(line)?;
        run.process_group(self.id.as_raw_nonzero().get());
        run.spawn().map_err(|e| command::unrun(&command::name(line), e))
    }

    /// Leaves alone what the command has left, which has ended by itself.
    pub fn leave(mut self) {
        self.end_leader();
        self.end_guard();
    }

    /// Stops the command and all of its group: TERM, and KILL for what is left
    /// of it after `grace`.
    ///
    /// # Errors
    /// When the command cannot be waited for.
    pub fn stop(mut self, child: &mut Child, grace: Duration) -> io::Result<()> {
        let begin = Instant::now();
        self.send(Signal::TERM);
        // What is stopped cannot end.
        self.send(Signal::CONT);
        let mut pause = Duration::from_millis(1);
        while begin.elapsed() < grace {
            // The command may be gone, and what it started still be there.
            if child.try_wait()?.is_some() {
                self.end_leader();
                if test_kill_process_group(self.id) == Err(Errno::SRCH) {
                    self.end_guard();
                    return Ok(());
                }
            }
            sleep(pause.min(grace.saturating_sub(begin.elapsed())));
            pause = (pause * 2).min(LOOK);
        }
        self.send(Signal::KILL);
        child.wait()?;
        self.leave();
        Ok(())
    }

    fn send(&self, signal: Signal) {
        // Fails if nobody is left, which is as well.
        let _ = kill_process_group(self.id, signal);
    }

    fn end_leader(&mut self) {
        // It has nothing to lose, and may have been stopped.
        let _ = self.leader.kill();
        let _ = self.leader.wait();
    }

    fn end_guard(&mut self) {
        if let Some(mut word) = self.guard.stdin.take() {
            let _ = word.write_all(b"over\n");
        }
        let _ = self.guard.wait();
    }
}

/// Starts a script in a group of its own; it has said that it is ready.
fn helper(script: &str, arguments: &[&OsStr]) -> io::Result<Child> {
    let mut child = Command::new("sh")
        .args(["-c", script, "sh"])
        .args(arguments)
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut ready = [0];
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_exact(&mut ready)?;
    }
    Ok(child)
}
