//! The far end of chunk: parts into the spool, then their lines to standard
//! output, in the order of the stream.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::known::Known;
use super::room::{Place, Room};
use crate::error::{Error, Result};
use crate::hash::pool::{Block, Pending};
use crate::hash::tree::Fold;
use crate::line::{End, Line, Part, Stream, Volume};
use crate::process;
use crate::process::peers;
use crate::spool::{PartFile, StreamDir};
use crate::stream::input::stopped;
use crate::stream::source::{Order, Whole};

/// How often to look whether to go on while nobody takes a line.
const PAUSE: Duration = Duration::from_millis(500);

/// Keeps parts and announces them.
pub struct Writer<'a> {
    place: Place<'a>,
    directory: &'a StreamDir,
    stream: &'a Stream,
    known: &'a Known,
    room: Room,
    /// Set when the reading side has failed.
    stop: &'a AtomicBool,
    lines: File,
    part_file: Option<PartFile<'a>>,
    volume: u32,
    part: u32,
    /// Where the volume begins in the stream.
    volume_offset: u64,
    /// Where the part begins in the volume.
    offset: u64,
    parts: Fold,
    volumes: Fold,
}

impl<'a> Writer<'a> {
    /// Begins with the `stream` line.
    ///
    /// # Errors
    /// When the spool or standard output cannot take it.
    pub fn start(
        place: Place<'a>,
        stream: &'a Stream,
        known: &'a Known,
        room: Room,
        stop: &'a AtomicBool,
    ) -> Result<Self> {
        let directory = place.stream;
        let lines = directory.new_lines()?;
        let mut writer = Self {
            place,
            directory,
            stream,
            known,
            room,
            stop,
            lines,
            part_file: None,
            volume: 0,
            part: 0,
            volume_offset: 0,
            offset: 0,
            parts: Fold::default(),
            volumes: Fold::default(),
        };
        let line = Line::Stream(stream.clone());
        writer.announce(&line)?;
        Ok(writer)
    }

    /// Does what the reading side has told.
    ///
    /// # Errors
    /// When the disk, standard output or the bytes themselves forbid it.
    pub fn take(&mut self, order: Order) -> Result<()> {
        match order {
            Order::Snapshot(snapshot) => self.announce(&Line::Snapshot(snapshot)),
            Order::Block(block) => self.write(&block),
            Order::EndPart(pending) => self.end_part(pending),
            Order::End(whole) => self.end(whole),
        }
    }

    fn is_spooled(&self) -> bool {
        self.known.must_spool(self.volume)
    }

    fn write(&mut self, block: &Block) -> Result<()> {
        if !self.is_spooled() {
            return Ok(());
        }
        if self.part_file.is_none() {
            let at = (self.volume, self.part);
            self.room.wait(self.place, at, self.stop)?;
            self.part_file = Some(self.directory.create(self.volume, self.part)?);
        }
        match &mut self.part_file {
            Some(file) => file.write(block),
            None => Err(Error::Bug("a part that was just created is gone".to_owned())),
        }
    }

    fn end_part(&mut self, pending: Pending) -> Result<()> {
        let hashes = pending.wait()?;
        let sha256 = hashes
            .sha256
            .ok_or_else(|| Error::Bug("a part was not hashed from front to back".to_owned()))?;
        let line = Line::Part(Part {
            stream: self.stream.stream,
            volume: self.volume,
            part: self.part,
            offset: self.offset,
            size: hashes.size,
            treehash: hashes.treehash,
            sha256,
            spooled: self.is_spooled(),
        });
        // I3: the part is fsynced, renamed and its directory fsynced before
        // its line is printed.  Held by
        // tests/chunk.rs::announces_no_part_that_is_not_in_the_spool.
        if let Some(file) = self.part_file.take() {
            file.seal()?;
        }
        self.announce(&line)?;
        self.parts.push(hashes.treehash);
        self.part += 1;
        self.offset += hashes.size;
        if self.offset == self.stream.volume_size {
            let line = self.end_volume()?;
            self.announce(&line)?;
        }
        Ok(())
    }

    /// Closes the volume, and gives its line.
    fn end_volume(&mut self) -> Result<Line> {
        let treehash = std::mem::take(&mut self.parts).finish();
        if !self.is_spooled() && self.known.differs(self.volume, treehash) {
            self.directory.note_respool(self.known.note(self.volume))?;
            return Err(Error::Unfinished(format!(
                "volume {}: its bytes are not those that were stored, and it was not spooled; run the same command again to send it anew",
                self.volume
            )));
        }
        let line = Line::Volume(Volume {
            stream: self.stream.stream,
            volume: self.volume,
            offset: self.volume_offset,
            size: self.offset,
            parts: self.part,
            treehash,
        });
        // It is all there, and counts as what it takes.
        self.place.lock.unclaim()?;
        self.volumes.push(treehash);
        self.volume += 1;
        self.volume_offset += self.offset;
        (self.part, self.offset) = (0, 0);
        Ok(line)
    }

    /// I1: called only when the stream is proven whole.  Held by
    /// `tests/chunk.rs::a_stream_cut_anywhere_has_no_end`.
    fn end(&mut self, whole: Whole) -> Result<()> {
        let mut text = String::new();
        let behind = (self.volume, self.part);
        if self.part > 0 {
            text.push_str(&self.end_volume()?.text()?);
        }
        let end = End {
            stream: self.stream.stream,
            volumes: self.volume,
            size: self.volume_offset,
            treehash: std::mem::take(&mut self.volumes).finish(),
            whole: whole.proofs,
            misplaced: whole.misplaced,
        };
        text.push_str(&Line::End(end).text()?);
        // The record of lines is durable before the end is announced, as put
        // may clear the spool right then.
        self.record(&text)?;
        self.directory.keep_lines(&self.lines)?;
        // What an earlier, longer run left behind the end.
        self.directory.remove_from(behind)?;
        text.split_inclusive('\n').try_for_each(|line| say(line, self.stop))
    }

    fn announce(&mut self, line: &Line) -> Result<()> {
        let text = line.text()?;
        self.record(&text)?;
        say(&text, self.stop)
    }

    fn record(&mut self, text: &str) -> Result<()> {
        self.lines.write_all(text.as_bytes()).map_err(|e| {
            Error::io(format!("stream {}: cannot record its lines", self.stream.stream), e)
        })
    }
}

/// Prints a line. That its reader is gone is the same news here as where
/// there is nothing to print. While the reader takes none, `stop` is heard.
pub fn say(line: &str, stop: &AtomicBool) -> Result<()> {
    while !peers::takes_a_line(PAUSE)? {
        if stop.load(Ordering::Relaxed) {
            return Err(stopped());
        }
    }
    process::put_out(line.as_bytes()).map_err(|e| match e {
        Error::Io(_, reason) if reason.kind() == ErrorKind::BrokenPipe => peers::gone(),
        e => e,
    })
}
