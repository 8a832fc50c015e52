//! When the next part may be written: the spool's limit and the reserve.

use std::collections::BTreeSet;
use std::io::BufReader;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::input::stopped;
use crate::cli;
use crate::error::{Error, Result};
use crate::journal::Journal;
use crate::neighbour;
use crate::spool::{Holder, Spool, StreamDir};
use crate::units::{self, Limit};

/// How often room is looked for.
const PAUSE: Duration = Duration::from_millis(500);

/// How long to wait for room that put cannot make: others may clear the disk.
const OTHERS: Duration = Duration::from_hours(1);

/// What the spool of one stream may take.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Bytes of its parts, at most.
    pub limit: Limit,
    /// Bytes that stay free on the file system.
    pub reserve: u64,
    /// Bytes that the next part may need.
    pub part_size: u64,
    /// How long to wait while no put works.
    pub patience: Duration,
}

impl Room {
    /// Waits until a part fits into the limit and leaves the reserve free.
    /// While this volume is the only one here a put that works makes none: it
    /// waits for the rest of the volume as this waits for room.
    ///
    /// # Errors
    /// Unfinished, when no put has worked for too long, or put can make no
    /// room, or nobody reads our lines any more, or `stop` is set; when the
    /// spool cannot be read.
    pub fn wait(
        &self,
        spool: &Spool,
        stream: &StreamDir,
        part: (u32, u32),
        stop: &AtomicBool,
    ) -> Result<()> {
        let mut alone = Instant::now();
        let mut stuck = None;
        while let Some(why) = self.lacks(spool, stream, part)? {
            let works = stream.is_locked(Holder::Put);
            if works && stream.used(|(volume, _)| volume < part.0)? > 0 {
                alone = Instant::now();
                stuck = None;
            } else if works {
                let volume = part.0;
                let why = format!(
                    "spool: full ({why}), and glacier-put takes nothing before volume {volume} is whole"
                );
                let is_news = stuck.is_none();
                if stuck.get_or_insert_with(Instant::now).elapsed() >= self.patience.min(OTHERS) {
                    return Err(Error::Unfinished(format!(
                        "{why}; make room, then run the same command again"
                    )));
                }
                if is_news {
                    cli::warn(&format!("{why}; waits for room"));
                }
            } else if alone.elapsed() >= self.patience {
                return Err(Error::Unfinished(format!(
                    "spool: full ({why}), and no glacier-put takes from it; start one, then run the same command again"
                )));
            }
            if stop.load(Ordering::Relaxed) {
                return Err(stopped());
            }
            neighbour::wait(PAUSE)?;
        }
        Ok(())
    }

    /// Why there is no room for a part, if there is none.
    fn lacks(&self, spool: &Spool, stream: &StreamDir, part: (u32, u32)) -> Result<Option<String>> {
        if let Limit::Bytes(limit) = self.limit
            && used(stream, part)?.saturating_add(self.part_size) > limit
        {
            return Ok(Some(format!("holds {} of this stream", units::bytes(limit))));
        }
        // A part that replaces itself gives back what it takes.
        let needed = self.part_size.saturating_add(self.reserve);
        if spool.room()? < needed && !stream.has(part)? {
            return Ok(Some(format!("less than {} is free", units::bytes(needed))));
        }
        Ok(None)
    }
}

/// Bytes of the stream's parts before this one. What an earlier run left of
/// this and later ones is replaced in its turn; to wait until put takes it
/// would be for ever, as put works on what this run has announced. Volumes
/// that wait for the service's word alone do not count either: they must not
/// stop the rest.
fn used(stream: &StreamDir, part: (u32, u32)) -> Result<u64> {
    let waiting = match stream.existing_journal()? {
        Some(file) => Journal::read(BufReader::new(file))
            .map_err(|e| Error::io(format!("stream {}: journal", stream.id()), e))?
            .unconfirmed(),
        None => BTreeSet::new(),
    };
    stream.used(|other| other < part && !waiting.contains(&other.0))
}
