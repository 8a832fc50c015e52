//! What holds lines until their window opens.
//!
//! No more is read than the line that is held, so that a closed window stops
//! the program before it, unless that has ended: then its end is known, and a
//! stream that is not whole waits for no opening.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::process;
use crate::process::clock::Hours;
use crate::process::peers;
use crate::window::{LONGEST_LINE, stamp};

/// The lines of standard input. No more is read than the line that is held,
/// as the pipe is the buffer, until nobody writes to it any more.
struct Lines {
    stdin: BufReader<File>,
    /// What was read behind the line that is held.
    ahead: VecDeque<Vec<u8>>,
    /// Whether nobody writes any more.
    abandoned: bool,
}

impl Lines {
    /// The next line; none at the end of the input.
    fn next(&mut self) -> Result<Option<Vec<u8>>> {
        match self.ahead.pop_front() {
            Some(line) => Ok(Some(line)),
            None => self.read(),
        }
    }

    fn read(&mut self) -> Result<Option<Vec<u8>>> {
        if self.stdin.buffer().is_empty() {
            peers::wait_for_input(self.stdin.get_ref())?;
        }
        let mut line = Vec::new();
        let longest = u64::try_from(LONGEST_LINE).unwrap_or(u64::MAX);
        self.stdin
            .by_ref()
            .take(longest + 1)
            .read_until(b'\n', &mut line)
            .map_err(|e| Error::io("stdin: cannot read", e))?;
        Ok((!line.is_empty()).then_some(line))
    }

    /// Waits, no longer than told. True if now nobody writes any more; then
    /// all that is left is in `ahead`, and is no more than a pipe holds.
    fn are_abandoned_within(&mut self, longest: Duration) -> Result<bool> {
        if self.abandoned {
            peers::wait(longest)?;
            return Ok(false);
        }
        self.abandoned = peers::is_abandoned(self.stdin.get_ref(), longest)?;
        while self.abandoned
            && let Some(line) = self.read()?
        {
            self.ahead.push_back(line);
        }
        Ok(self.abandoned)
    }
}

/// Stamps the lines of standard input and passes them on while the window is
/// open, and those that send nothing at any time. `told` is set when a failure
/// needs no `failed` line of ours.
///
/// # Errors
/// When a line is none, or cannot be read or printed; unfinished, when a
/// program beside this one has ended.
pub fn hold(mut hours: Hours, told: &mut bool) -> Result<()> {
    let stdin = io::stdin().as_fd().try_clone_to_owned().map_err(|e| Error::io("stdin", e))?;
    let stdin = BufReader::new(File::from(stdin));
    let mut lines = Lines { stdin, ahead: VecDeque::new(), abandoned: false };
    let mut whole = true;
    for number in 1_u64.. {
        let Some(line) = lines.next()? else { return Ok(()) };
        let wrong = |why: String| {
            // A stream itself, most likely.
            let lines = number == 1 && (why.starts_with("not ") || why.ends_with(" bytes"));
            let hint = if lines { "; are these lines of glacier-chunk?" } else { "" };
            Error::Data(format!("stdin: line {number}: {why}{hint}"))
        };
        if line.len() > LONGEST_LINE {
            return Err(wrong(format!("longer than {LONGEST_LINE} bytes")));
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let line = stamp(&line, hours.window(), hours.zone()).map_err(wrong)?;
        whole = is_whole(whole, &line.kind);
        while !line.passes
            && let Some(wait) = hours.closed_for()
        {
            if lines.are_abandoned_within(wait)? {
                judge(&lines.ahead, whole, &hours, told)?;
            }
        }
        process::put_out(&line.line)?;
        if line.kind == "failed" {
            whole = true;
        }
    }
    Ok(())
}

/// Whether no stream is without its end behind a line of this type.
fn is_whole(before: bool, kind: &str) -> bool {
    match kind {
        "stream" => false,
        "end" => true,
        _ => before,
    }
}

/// What to do when the program before has ended, with these lines left, and
/// the window is closed. What is whole waits for its hour. A stream that will
/// have no end today is not worth a night: its bad news passes, before the
/// lines that are held, and the next run can start.
///
/// # Errors
/// Unfinished, when that program said nothing itself.
fn judge(ahead: &VecDeque<Vec<u8>>, mut whole: bool, hours: &Hours, told: &mut bool) -> Result<()> {
    let mut failed = None;
    for line in ahead {
        // What is no line is told in its turn, unless it is a torn one.
        match stamp(line, hours.window(), hours.zone()) {
            Ok(line) => {
                whole = is_whole(whole, &line.kind);
                if line.kind == "failed" {
                    failed = Some(line.line);
                }
            }
            Err(_) => return Ok(()),
        }
    }
    if whole && failed.is_none() {
        return Ok(());
    }
    let error = Error::Unfinished(
        "stdin: the program before has ended, and the stream is not whole; run the same command again"
            .to_owned(),
    );
    if let Some(line) = failed {
        *told = true;
        process::put_out(&line)?;
    }
    Err(error)
}
