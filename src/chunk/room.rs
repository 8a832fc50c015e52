//! When the next part may be written: the spool's limit and the reserve.

use std::collections::BTreeSet;
use std::io::BufReader;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::journal::Journal;
use crate::spool::{Holder, Spool, StreamDir};
use crate::units::{self, Limit};

/// How often room is looked for.
const PAUSE: Duration = Duration::from_millis(500);

/// What the spool of one stream may take.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Bytes of its parts, at most.
    pub limit: Limit,
    /// Bytes that stay free on the file system.
    pub reserve: u64,
    /// Bytes that the next part may need.
    pub part_size: u64,
    /// How long to wait while no put takes parts away.
    pub patience: Duration,
}

/// Whether there is room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wait {
    /// There is.
    No,
    /// Not now; look again after this long.
    Again(Duration),
}

impl Room {
    /// Looks for room for the part that is `next` (volume and part), having
    /// waited for `waited` already.
    ///
    /// # Errors
    /// Unfinished, when nobody has taken parts away for too long; when the
    /// spool cannot be read.
    pub fn wait(
        &self,
        spool: &Spool,
        stream: &StreamDir,
        next: (u32, u32),
        waited: Duration,
    ) -> Result<Wait> {
        let limited = match self.limit {
            Limit::None => false,
            Limit::Bytes(limit) => used(stream, next)? + self.part_size > limit,
        };
        let full = spool.room()? < self.part_size.saturating_add(self.reserve);
        if !limited && !full {
            return Ok(Wait::No);
        }
        if waited > self.patience && !stream.is_locked(Holder::Put) {
            let what = match self.limit {
                Limit::Bytes(limit) if limited => {
                    format!("holds {} of this stream", units::bytes(limit))
                }
                _ => format!("would leave less than {} free", units::bytes(self.reserve)),
            };
            return Err(Error::Unfinished(format!(
                "spool: full ({what}), and no glacier-put takes from it; start one, then run the same command again"
            )));
        }
        Ok(Wait::Again(PAUSE))
    }
}

/// Bytes of the parts that this run has announced. What an earlier run left
/// behind them does not count, as it will be replaced part by part, and put
/// does not know of it. Neither do volumes that wait for the service's word
/// alone: they must not stop the rest.
fn used(stream: &StreamDir, next: (u32, u32)) -> Result<u64> {
    let waiting = match stream.existing_journal()? {
        Some(file) => Journal::read(BufReader::new(file))
            .map_err(|e| Error::io(format!("stream {}: journal", stream.id()), e))?
            .unconfirmed(),
        None => BTreeSet::new(),
    };
    stream.used(|volume, part| (volume, part) < next && !waiting.contains(&volume))
}
