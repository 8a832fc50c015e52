//! Standard output, and who reads it: `process` of the models.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::thread;

/// What was printed, and after how many lines the reader takes no more, or is
/// gone.
pub struct Stdout {
    pub printed: Vec<String>,
    pub deaf_after: usize,
    pub gone_after: usize,
}

static STDOUT: Mutex<Stdout> =
    Mutex::new(Stdout { printed: Vec::new(), deaf_after: usize::MAX, gone_after: usize::MAX });

/// There are no threads of the system in a model, so nobody waits for this.
pub fn stdout() -> MutexGuard<'static, Stdout> {
    STDOUT.lock().unwrap_or_else(PoisonError::into_inner)
}

pub fn put_out(line: &[u8]) -> Result<()> {
    let mut stdout = stdout();
    if stdout.printed.len() >= stdout.gone_after {
        return Err(Error::io("stdout", io::Error::from(io::ErrorKind::BrokenPipe)));
    }
    stdout.printed.push(String::from_utf8_lossy(line).into_owned());
    Ok(())
}

pub fn warn(_: &str) {}

pub fn takes_a_line(_: Duration) -> Result<bool> {
    thread::yield_now();
    let stdout = stdout();
    Ok(stdout.printed.len() < stdout.deaf_after)
}

pub fn wait(_: Duration) -> Result<()> {
    thread::yield_now();
    Ok(())
}

pub fn gone() -> Error {
    Error::Unfinished("gone".to_owned())
}
