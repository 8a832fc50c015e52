//! A command that runs while a window is open.
//!
//! It is started when the window opens, and stopped when that closes, with
//! all that it has started: TERM, and KILL when the grace is over. Nothing
//! here catches a signal. If this process ends, whatever ended it, a guard
//! stops the command the same way (`process_group`).

use std::ffi::OsString;
use std::process::{Child, ExitStatus};
use std::thread::sleep;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::process::child;
use crate::process::clock::Hours;
use crate::process::peers;
use crate::tools::window::process_group::{Group, LOOK};

/// The longest pause between two looks at the clock while the window is
/// closed.
const DOZE: Duration = Duration::from_secs(2);

/// When a command may run.
pub struct Curfew {
    /// While these are open.
    pub hours: Hours,
    /// How long the command may take to stop.
    pub grace: Duration,
    /// Whether a command that was stopped runs again.
    pub repeat: bool,
}

impl Curfew {
    /// Runs a command when the window is open, until it ends by itself.
    ///
    /// # Errors
    /// Unfinished when it was stopped; else its own status, if it is not 0, or
    /// 127 or 126 when it cannot be run.
    pub fn run(mut self, line: &[OsString]) -> Result<()> {
        let name = child::name(line);
        if !child::is_there(line) {
            return Err(child::missing(&name));
        }
        loop {
            while let Some(wait) = self.hours.closed_for() {
                peers::wait(wait.min(DOZE))?;
            }
            let group = Group::new(self.grace)?;
            let mut child = match group.run(line) {
                Ok(child) => child,
                Err(error) => {
                    group.leave();
                    return Err(error);
                }
            };
            if let Some(status) = self.watch(&name, &mut child)? {
                group.leave();
                return child::check(&name, status);
            }
            group.stop(&mut child, self.grace).map_err(|e| unwaited(&name, e))?;
            if !self.repeat {
                let why = "stopped, as the window has closed; run the same command again";
                return Err(Error::Unfinished(format!("{name}: {why}")));
            }
        }
    }

    /// The status of the command, or none once the window has closed.
    fn watch(&mut self, name: &str, child: &mut Child) -> Result<Option<ExitStatus>> {
        let mut pause = Duration::from_millis(1);
        loop {
            if let Some(status) = child.try_wait().map_err(|e| unwaited(name, e))? {
                return Ok(Some(status));
            }
            // The clock is asked each time: it may be set, and the machine may
            // have slept.
            if !self.hours.is_open() {
                return Ok(None);
            }
            sleep(pause);
            pause = (pause * 2).min(LOOK);
        }
    }
}

fn unwaited(name: &str, error: std::io::Error) -> Error {
    Error::io(format!("{name}: cannot wait for it"), error)
}
