//! A process group that outlives nobody.
//!
//! Three processes stand around a command. A *leader* makes the group before
//! the command is there, and holds its number until all is over, so that no
//! signal can reach strangers: it is reaped last, and while there is a guard
//! it does not end by itself. A *guard*, in a group of its own, reads a pipe
//! that only we write to: should it end without a word, we are dead, and the
//! guard stops the group as we would have. Both are a few lines of sh, and
//! both are there before the command starts: at no moment does it run
//! unwatched. Held by
//! `tests/window/command.rs::a_command_does_not_outlive_glacier_window`.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::error::{Error, Result};
use crate::process::child;

/// The longest pause between two looks at the command and the clock.
pub(super) const LOOK: Duration = Duration::from_millis(250);

/// Signals that are meant for the command do not end the leader.
const LEADER: &str = "trap '' HUP INT QUIT TERM; echo; read -r _";

/// `$1` is the group, `$2` the grace in seconds. A word means that all is over.
/// What stands in the place of standard error is the other end of what the
/// leader reads. Without ps(1) nobody tells whether any but the leader is left.
const GUARD: &str = r#"
exec 3>&2 2>/dev/null
trap '' HUP INT QUIT TERM
echo
! read -r _ || exit 0
others() {
	all=$(ps -A -o pgid= -o pid=) || return 0
	printf '%s\n' "$all" | while read -r group process; do
		[ "$group" != "$1" ] || [ "$process" = "$1" ] || echo "$process"
	done | grep -q .
}
kill -TERM "-$1"
kill -CONT "-$1"
left=$2
while [ "$left" -gt 0 ] && others "$1"; do
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
        let leader = helper(LEADER, &[], Stdio::null()).map_err(wrong)?;
        let id = i32::try_from(leader.id()).ok().and_then(Pid::from_raw);
        let id = id.ok_or_else(|| Error::Bug("a process has no number".to_owned()))?;
        let (group, grace) = (id.as_raw_nonzero().to_string(), grace.as_secs().to_string());
        let word = leader.stdin.as_ref().map(|word| word.as_fd().try_clone_to_owned());
        let word = word.transpose().map_err(wrong)?.map_or_else(Stdio::null, Stdio::from);
        let guard = helper(GUARD, &[group.as_ref(), grace.as_ref()], word).map_err(wrong)?;
        Ok(Self { id, leader, guard })
    }

    /// Starts a command in the group. Its standard input, output and error are
    /// ours.
    ///
    /// # Errors
    /// 127 when there is none, 126 when it cannot be run, as sh(1) has it.
    pub fn run(&self, line: &[OsString]) -> Result<Child> {
        let mut run = child::of(line)?;
        run.process_group(self.id.as_raw_nonzero().get());
        run.spawn().map_err(|e| child::unrun(&child::name(line), e))
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
    pub fn stop(self, child: &mut Child, grace: Duration) -> io::Result<()> {
        let begin = Instant::now();
        self.send(Signal::TERM);
        // What is stopped cannot end.
        self.send(Signal::CONT);
        let mut pause = Duration::from_millis(1);
        while begin.elapsed() < grace {
            // The command may be gone, and what it started still be there.  No
            // signal follows once the leader is reaped, as its number may be
            // given anew then.  Held by
            // tests/window/command.rs::the_number_of_a_group_is_held_until_it_is_killed.
            if child.try_wait()?.is_some() && !self.has_others() {
                self.leave();
                return Ok(());
            }
            sleep(pause.min(grace.saturating_sub(begin.elapsed())));
            pause = (pause * 2).min(LOOK);
        }
        self.send(Signal::KILL);
        child.wait()?;
        self.leave();
        Ok(())
    }

    /// Whether any but the leader is left of the group, or that is not known.
    fn has_others(&self) -> bool {
        let id = self.id.as_raw_nonzero().get();
        members(id).is_none_or(|members| members.into_iter().any(|member| member != id))
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

/// The processes of a group that have not ended; `None` if nobody tells.
#[cfg(target_os = "linux")]
fn members(group: i32) -> Option<Vec<i32>> {
    let all = std::fs::read_dir("/proc").ok()?.filter_map(|entry| {
        let id = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let text = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        // Behind the name, which may hold anything: state, parent, group.
        let mut fields = text.rsplit_once(')')?.1.split_whitespace();
        let (state, of) = (fields.next()?, fields.nth(1)?.parse::<i32>().ok()?);
        (of == group && !matches!(state, "Z" | "X")).then_some(id)
    });
    Some(all.collect())
}

#[cfg(not(target_os = "linux"))]
fn members(group: i32) -> Option<Vec<i32>> {
    let told = Command::new("ps").args(["-A", "-o", "pgid=", "-o", "pid="]).output().ok()?;
    let text = String::from_utf8(told.stdout).ok().filter(|_| told.status.success())?;
    let all = text.lines().filter_map(|line| {
        let mut fields = line.split_whitespace();
        let of: i32 = fields.next()?.parse().ok()?;
        fields.next()?.parse().ok().filter(|_| of == group)
    });
    Some(all.collect())
}

/// Starts a script in a group of its own; it has said that it is ready.
fn helper(script: &str, arguments: &[&OsStr], stderr: Stdio) -> io::Result<Child> {
    let mut child = Command::new("sh")
        .args(["-c", script, "sh"])
        .args(arguments)
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(stderr)
        .spawn()?;
    let mut ready = [0];
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_exact(&mut ready)?;
    }
    Ok(child)
}
