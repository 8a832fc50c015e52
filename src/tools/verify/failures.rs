//! What failed, and what the exit code says of it.

use crate::error::{Error, Result};
use crate::process;

/// What failed, each once.
pub(super) struct Failures {
    list: Vec<Error>,
    /// Samples that are not ready.
    pub not_ready: usize,
}

impl Failures {
    /// With what failed before.
    pub fn new(list: Vec<Error>) -> Self {
        Self { list, not_ready: 0 }
    }

    /// Notes a failure.
    ///
    /// # Errors
    /// One that no other sample will be spared.
    pub fn add(&mut self, error: Error) -> Result<()> {
        match error {
            Error::Data(_) | Error::Refused(_) | Error::Unfinished(_) => {
                let text = error.to_string();
                if self.list.iter().all(|known| known.to_string() != text) {
                    self.list.push(error);
                }
                Ok(())
            }
            fatal => Err(fatal),
        }
    }

    /// Tells all of them. The last is what the exit code says: damage before
    /// a refusal, and that before what the same command may cure.
    pub fn finish(mut self, all: usize) -> Result<()> {
        if self.not_ready > 0 {
            self.list.push(Error::Unfinished(format!(
                "{} of {all} samples are not ready; run the same command again in a few hours",
                self.not_ready
            )));
        }
        self.list.sort_by_key(|error| match error {
            Error::Data(_) => 2,
            Error::Unfinished(_) => 0,
            _ => 1,
        });
        let last = self.list.pop();
        self.list.iter().for_each(process::complain);
        last.map_or(Ok(()), Err)
    }
}
