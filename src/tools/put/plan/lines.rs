//! The lines of a stream, checked against those before them and against what
//! is stored.

use super::{Effect, Plan};
use crate::error::{Error, Result};
use crate::line::{End, Line, Part, Volume};
use crate::spool::journal::{Confirmed, Record, Target};
use crate::tools::put::upload::{Closed, Item, Phase, Piece};

impl Plan {
    /// Takes the next line of the stream, with the number of its stamp.
    ///
    /// # Errors
    /// When it does not fit behind those before it, or the bytes are not
    /// those that are stored.
    pub fn take(&mut self, line: Line, stamp: usize) -> Result<Vec<Effect>> {
        if self.end.is_some() {
            return Err(Error::Data("a line follows the stream's end".to_owned()));
        }
        match line {
            Line::Snapshot(snapshot) => {
                self.snapshots.push(snapshot);
                Ok(Vec::new())
            }
            Line::Part(part) => self.take_part(&part, stamp),
            Line::Volume(volume) => self.take_volume(&volume),
            Line::End(end) => self.take_end(end, stamp),
            _ => Err(Error::Data("a line that is not part of a stream".to_owned())),
        }
    }

    fn take_part(&mut self, part: &Part, stamp: usize) -> Result<Vec<Effect>> {
        let part_size = self.stream.part_size;
        let target = Target::Volume(self.volume);
        let stored = self.journal.stored.as_ref();
        if let Some(stored) = stored.filter(|stored| part.volume >= stored.volumes) {
            return Err(Error::Data(format!(
                "the stream is stored with {} volumes, and now has more",
                stored.volumes
            )));
        }
        let item = self.items.entry(target).or_insert_with(|| Item::new(Phase::Fresh));
        let expected = item.parts.len();
        let short = item.parts.last().is_some_and(|last| last.size != part_size);
        if short {
            return Err(Error::Data(format!(
                "volume {} part {}: behind a part that is short, which only the last one is",
                part.volume, part.part
            )));
        }
        if part.volume != self.volume || part.part as usize != expected {
            return Err(Error::Data(format!(
                "volume {} part {}, where volume {} part {expected} is next",
                part.volume, part.part, self.volume
            )));
        }
        let offset = part_size * expected as u64;
        if part.offset != offset
            || part.size == 0
            || part.size > part_size
            || offset + part.size > self.stream.volume_size
        {
            return Err(Error::Data(format!(
                "volume {} part {}: its offset or size is not one of this stream",
                part.volume, part.part
            )));
        }
        let piece = Piece {
            size: part.size,
            treehash: part.treehash,
            sha256: part.sha256,
            spooled: part.spooled,
            stamp,
        };
        item.push(piece, offset);
        let mut effects = Vec::new();
        if self.journal.archive(self.volume).is_none() {
            self.needs_spool(part)?;
            self.check_held(target, &mut effects);
        }
        Ok(effects)
    }

    /// A part of a volume that is not stored must be in the spool.
    fn needs_spool(&self, part: &Part) -> Result<()> {
        if part.spooled || self.journal.uploads.contains_key(&Target::Volume(part.volume)) {
            return Ok(());
        }
        Err(Error::Unfinished(format!(
            "volume {} part {}: neither stored in {} nor in the spool; run the same command again",
            part.volume, part.part, self.dest
        )))
    }

    /// An upload that holds other bytes is of no use: it is sent anew.
    pub(super) fn check_held(&mut self, target: Target, effects: &mut Vec<Effect>) {
        let Some(item) = self.items.get_mut(&target) else { return };
        if let Phase::Open(upload) = &item.phase
            && item.conflicts()
        {
            effects.push(Effect::Abort(upload.clone()));
            item.restart();
            self.record(Record::gone(target), effects);
        }
    }

    fn take_volume(&mut self, line: &Volume) -> Result<Vec<Effect>> {
        let target = Target::Volume(self.volume);
        let wrong = |what: &str| Err(Error::Data(format!("volume {}: {what}", line.volume)));
        let Some(item) = self.items.get_mut(&target).filter(|item| !item.parts.is_empty()) else {
            return wrong("its line comes before its parts");
        };
        let treehash = item.treehash();
        let size = item.size();
        if line.volume != self.volume
            || line.parts as usize != item.parts.len()
            || line.size != size
            || line.offset != self.offset
        {
            return wrong("its line does not fit its parts");
        }
        if line.treehash != treehash {
            return wrong("its tree hash is not that of its parts");
        }
        item.closed = Some(Closed { size, treehash });
        self.volume += 1;
        self.offset += size;
        self.volumes.push(treehash);
        self.settle(line.volume)
    }

    /// Decides what becomes of a volume whose lines are all there.
    pub(super) fn settle(&mut self, volume: u32) -> Result<Vec<Effect>> {
        let target = Target::Volume(volume);
        let mut effects = Vec::new();
        let Some(closed) = self.items.get(&target).and_then(|item| item.closed) else {
            return Err(Error::Bug(format!("volume {volume} was closed and is not")));
        };
        let same = |archive: &Confirmed| archive.treehash == closed.treehash;
        if let Some(archive) = self.journal.archives.get(&target) {
            if same(archive) {
                self.publish(volume, &mut effects)?;
                return Ok(effects);
            }
            if self.journal.stored.is_some() {
                self.first_difference = Some(volume);
                return Err(Error::Data(format!(
                    "volume {volume}: the stream is stored, and its bytes were others"
                )));
            }
            self.next_generation(volume, &mut effects);
        }
        let mut completing = self.journal.uploads.get(&target).and_then(|upload| upload.completing);
        if completing.is_some_and(|completing| completing.treehash != closed.treehash) {
            // It may be an archive by now, of other bytes.
            self.next_generation(volume, &mut effects);
            completing = None;
        }
        let earlier = self.journal.earlier.get(&volume);
        if let Some(archive) = earlier.and_then(|them| them.iter().rev().find(|it| same(it))) {
            let record = Record::archived(target, archive.clone());
            if let Some(upload) = self.journal.uploads.get(&target) {
                effects.push(Effect::Abort(upload.id.clone()));
            }
            self.record(record, &mut effects);
            self.publish(volume, &mut effects)?;
            return Ok(effects);
        }
        self.check_held(target, &mut effects);
        let Some(item) = self.items.get_mut(&target) else { return Ok(effects) };
        if let Some(part) = item.parts.iter().position(|piece| !piece.spooled)
            && completing.is_none()
        {
            return Err(Error::Unfinished(format!(
                "volume {volume} part {part}: not in the spool; run the same command again"
            )));
        }
        Ok(effects)
    }

    /// Gives the attempt so far up: a volume that is stored, or may be, has
    /// changed.
    fn next_generation(&mut self, volume: u32, effects: &mut Vec<Effect>) {
        let target = Target::Volume(volume);
        if let Some(item) = self.items.get_mut(&target) {
            item.restart();
        }
        self.give_up(target, effects);
        self.begin_generation(effects);
    }

    /// Gives an upload up. One that may be an archive is named: nothing here
    /// will know of it.
    fn give_up(&mut self, target: Target, effects: &mut Vec<Effect>) {
        let Some(upload) = self.journal.uploads.get(&target) else { return };
        effects.push(match upload.completing {
            Some(_) => Effect::Warn(format!(
                "{}: {target}: its bytes are others now, and the earlier ones may be an archive: upload {}",
                self.stream.name, upload.id
            )),
            None => Effect::Abort(upload.id.clone()),
        });
        self.record(Record::gone(target), effects);
    }

    fn begin_generation(&mut self, effects: &mut Vec<Effect>) {
        let generation = self.journal.generation.saturating_add(1);
        self.record(Record::Generation { generation }, effects);
        // What was seen to be the same is part of the new attempt.
        let same: Vec<u32> = self
            .items
            .iter()
            .filter(|(_, item)| item.phase == Phase::Archived)
            .filter_map(|(target, _)| (*target).into())
            .collect();
        for volume in same {
            // What the Generation has just put by is the last of them.
            let earlier = self.journal.earlier.get(&volume);
            if let Some(archive) = earlier.and_then(|archives| archives.last()).cloned() {
                self.record(Record::archived(Target::Volume(volume), archive), effects);
                effects.extend(self.lines(volume).map(Effect::Publish));
            }
        }
    }

    fn take_end(&mut self, end: End, stamp: usize) -> Result<Vec<Effect>> {
        let unfinished = self.items.get(&Target::Volume(self.volume));
        let treehash = self.volumes.clone().finish();
        if unfinished.is_some_and(|item| !item.parts.is_empty())
            || end.volumes != self.volume
            || end.volumes == 0
            || end.size != self.offset
        {
            return Err(Error::Data("the end does not fit the volumes before it".to_owned()));
        }
        if end.treehash != treehash {
            return Err(Error::Data("the end's tree hash is not that of the volumes".to_owned()));
        }
        if let Some(stored) = &self.journal.stored
            && (stored.volumes, stored.size, stored.treehash) != (end.volumes, end.size, treehash)
        {
            return Err(Error::Data(format!(
                "the stream is stored with {} bytes, and now has {}",
                stored.size, end.size
            )));
        }
        let mut effects = Vec::new();
        if self.journal.stored.is_none() {
            self.drop_behind(end.volumes, &mut effects);
        }
        self.end = Some((end, stamp));
        effects.extend(self.conclude());
        Ok(effects)
    }

    /// Gives up what an earlier, longer run of the stream left behind its end:
    /// the catalog must not tell of volumes that are no part of it.
    fn drop_behind(&mut self, volumes: u32, effects: &mut Vec<Effect>) {
        let behind = Target::Volume(volumes)..Target::Manifest;
        let uploads = self.journal.uploads.range(behind.clone());
        let uploads: Vec<Target> = uploads.map(|(target, _)| *target).collect();
        for target in uploads {
            self.items.remove(&target);
            self.give_up(target, effects);
        }
        if self.journal.archives.range(behind).next().is_some() {
            self.begin_generation(effects);
        }
    }
}
