//! When the next part may be written: the spool's limit, the reserve, and what
//! other streams were promised.
//!
//! Room is taken by the volume, before its first part: put takes only whole
//! volumes from the spool, so halves of several streams could fill it for ever.
//! A volume whose end would not fit beside what others have begun waits for
//! them. Where nobody else has begun one, what is there is used as it comes: a
//! stream may be shorter than a volume.

use std::collections::BTreeSet;
use std::io::BufReader;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::process;
use crate::process::peers;
use crate::spool::journal::Journal;
use crate::spool::{Holder, Lock, Spool, StreamDir};
use crate::stream::input::stopped;
use crate::units::{self, Limit};

/// How often room is looked for.
const PAUSE: Duration = Duration::from_millis(500);

/// How long others may look for room.
const LOOK: Duration = Duration::from_secs(5);

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
    /// Bytes that the volume may need.
    pub volume_size: u64,
    /// How long to wait while no put works.
    pub patience: Duration,
}

/// Where room is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The spool,
    pub spool: &'a Spool,
    /// the stream in it,
    pub stream: &'a StreamDir,
    /// and chunk's lock of that, which tells what was promised.
    pub lock: &'a Lock,
}

/// Why there is no room.
enum Lack {
    /// The stream has its share.
    Limit(String),
    /// The disk is full, or promised.
    Disk(String),
}

impl Lack {
    fn why(&self) -> &str {
        let (Self::Limit(why) | Self::Disk(why)) = self;
        why
    }
}

impl Room {
    /// Waits until a part fits into the limit and leaves the reserve free; its
    /// first part takes the room of a volume. While this volume is the only
    /// one here a put that works makes none: it waits for the rest of the
    /// volume as this waits for room.
    ///
    /// # Errors
    /// Unfinished, when no put has worked for too long, or put can make no
    /// room, or nobody reads our lines any more, or `stop` is set; when the
    /// spool cannot be read. A volume that was begun is given up then: nobody
    /// would take its half.
    pub fn wait(&self, place: Place<'_>, part: (u32, u32), stop: &AtomicBool) -> Result<()> {
        let stream = place.stream;
        let mut alone = Instant::now();
        let mut stuck = None;
        while self.take(place, part)?.is_some() {
            let works = stream.is_locked(Holder::Put);
            let makes_room = works && stream.used(|(volume, _)| volume < part.0)? > 0;
            // What is said must be so: put may have made room, and ended,
            // between these looks.
            let Some(lack) = self.take(place, part)? else { return Ok(()) };
            let why = lack.why();
            if makes_room {
                alone = Instant::now();
                stuck = None;
            } else if works {
                let volume = part.0;
                let why = format!(
                    "spool: full ({why}), and glacier-put takes nothing before volume {volume} is whole"
                );
                let is_news = stuck.is_none();
                if stuck.get_or_insert_with(Instant::now).elapsed() >= self.patience.min(OTHERS) {
                    give_up(stream, part.0, &lack)?;
                    return Err(Error::Unfinished(format!(
                        "{why}; make room, then run the same command again"
                    )));
                }
                if is_news {
                    process::warn(&format!("{why}; waits for room"));
                }
            } else if alone.elapsed() >= self.patience {
                give_up(stream, part.0, &lack)?;
                return Err(Error::Unfinished(format!(
                    "spool: full ({why}), and no glacier-put takes from it; start one, then run the same command again"
                )));
            }
            if stop.load(Ordering::Relaxed) {
                return Err(stopped());
            }
            peers::wait(PAUSE)?;
        }
        Ok(())
    }

    /// Takes the room of a part, and with the first of a volume that of the
    /// volume; or tells why there is none.
    fn take(&self, place: Place<'_>, part: (u32, u32)) -> Result<Option<Lack>> {
        let Place { spool, stream, lock } = place;
        if let Limit::Bytes(limit) = self.limit
            && used(stream, part)?.saturating_add(self.part_size) > limit
        {
            let why = format!("holds {} of this stream", units::bytes(limit));
            return Ok(Some(Lack::Limit(why)));
        }
        let lacks = |needed: u64, more: &str| {
            Ok(Some(Lack::Disk(format!("less than {} is free{more}", units::bytes(needed)))))
        };
        // A part that replaces itself gives back what it takes.
        let needed = self.part_size.saturating_add(self.reserve);
        if spool.room()? < needed && !stream.has(part)? {
            return lacks(needed, "");
        }
        if lock.has_claimed(part.0)? {
            return Ok(None);
        }
        // Looked at and taken under one lock: of two chunks that look at the
        // same room, one has it.
        let Some(_looking) = spool.lock_room(LOOK)? else {
            let why = "another glacier-chunk looks for room".to_owned();
            return Ok(Some(Lack::Disk(why)));
        };
        if let Some(claimed) = spool.claimed(stream.id())? {
            let volume = self.volume_size.saturating_add(self.reserve);
            let needed = volume.saturating_add(claimed);
            let own = stream.used(|(volume, _)| volume == part.0)?;
            if spool.room()?.saturating_add(own) < needed {
                return lacks(needed, ", for a volume beside those that others have begun");
            }
        }
        lock.claim(part.0, self.volume_size)?;
        Ok(None)
    }
}

/// Gives back the room of a volume that does not fit on the disk: it is of no
/// use to put, and would keep others from finishing theirs. Not where an
/// earlier run has left all of the stream, as these are its parts.
fn give_up(stream: &StreamDir, volume: u32, lack: &Lack) -> Result<()> {
    let is_whole = matches!(stream.lines()?, Some((_, true)));
    match lack {
        Lack::Disk(_) if !is_whole => stream.remove_from((volume, 0)),
        _ => Ok(()),
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
