//! What is written down: catalog lines, descriptions, the manifest, and the
//! end of it all.

use jiff::Timestamp;

use super::{Effect, Manifest, Plan};
use crate::error::{Error, Result};
use crate::line::description::{Description, Kind};
use crate::line::{Archive, HASHES, Hashes, Line, Stored, VERSION};
use crate::spool::journal::{Confirmed, Target};
use crate::tools::put::upload::{Closed, Item, Phase, Piece};

impl Plan {
    /// When every volume is stored: the manifest, or, where that is stored
    /// too, the end.
    pub(super) fn conclude(&mut self) -> Vec<Effect> {
        let archived = |volume| {
            let item = self.items.get(&Target::Volume(volume));
            item.is_some_and(|item| item.phase == Phase::Archived)
        };
        let mut effects = Vec::new();
        let Some((end, _)) = &self.end else { return effects };
        if self.finished || self.manifest.is_some() || !(0..end.volumes).all(archived) {
            return effects;
        }
        if let Some(stored) = self.journal.stored.clone() {
            self.finish(stored, &mut effects);
            return effects;
        }
        let now: Vec<&str> =
            self.journal.archives.values().map(|archive| archive.archive_id.as_str()).collect();
        let earlier = self.journal.earlier.values().flatten();
        let orphans: Vec<&Confirmed> =
            earlier.filter(|archive| !now.contains(&archive.archive_id.as_str())).collect();
        if !orphans.is_empty() {
            let size = crate::units::bytes(orphans.iter().map(|archive| archive.size).sum());
            let ids: Vec<&str> =
                orphans.iter().map(|archive| archive.archive_id.as_str()).collect();
            effects.push(Effect::Warn(format!(
                "{}: changed since it was first sent; no longer part of it, with {size}: {}",
                self.stream.name,
                ids.join(" ")
            )));
        }
        effects.push(Effect::Manifest);
        effects
    }

    /// I1: only a stream whose end was proven, and whose volumes are all
    /// stored, comes to this. Held by
    /// `tests::cases::no_end_no_manifest`.
    pub(super) fn finish(&mut self, stored: Stored, effects: &mut Vec<Effect>) {
        let mut lines: Vec<Line> = self.snapshots.iter().cloned().map(Line::Snapshot).collect();
        lines.push(Line::Stored(stored.clone()));
        self.journal.stored = Some(stored);
        self.finished = true;
        effects.extend([Effect::Publish(lines), Effect::Retire]);
    }

    /// The `stored` line of the stream. Its time is that at which the service
    /// took the last volume; `now` is for a stream that has none.
    ///
    /// # Errors
    /// When the stream's end is not there: a bug.
    pub fn stored(&self, now: Timestamp) -> Result<Stored> {
        let Some((end, _)) = &self.end else {
            return Err(Error::Bug("a manifest of a stream that has no end".to_owned()));
        };
        Ok(Stored {
            v: VERSION,
            generation: self.journal.generation,
            volumes: end.volumes,
            size: end.size,
            treehash: end.treehash,
            whole: end.whole.clone(),
            misplaced: end.misplaced,
            dest: self.dest.clone(),
            region: self.region.clone(),
            stored: self.taken().unwrap_or(now),
            ..Stored::of(self.stream.clone())
        })
    }

    /// Takes the manifest that [`Effect::Manifest`] asked for.
    ///
    /// # Errors
    /// When it was not asked for: a bug.
    pub fn manifest(&mut self, manifest: Manifest) -> Result<Vec<Effect>> {
        let Some((_, stamp)) = self.end else {
            return Err(Error::Bug("a manifest of a stream that has no end".to_owned()));
        };
        let item = self.items.entry(Target::Manifest).or_insert_with(|| Item::new(Phase::Fresh));
        let mut offset = 0;
        for piece in manifest.parts {
            item.push(Piece { stamp, ..piece }, offset);
            offset += piece.size;
        }
        let treehash = item.treehash();
        item.closed = Some(Closed { size: offset, treehash });
        if item.phase == Phase::Archived {
            // Only an archive with these very bytes is its manifest.
            item.restart();
        }
        let stored = manifest.stored;
        let archive = self.journal.archives.get(&Target::Manifest);
        let mut effects = Vec::new();
        match archive.filter(|archive| archive.treehash == treehash).cloned() {
            Some(archive) => {
                self.finish(
                    Stored { manifest_id: Some(archive.archive_id), ..stored },
                    &mut effects,
                );
            }
            None => self.manifest = Some(stored),
        }
        Ok(effects)
    }

    /// I2: the catalog lines stand before the removal of the parts. Held by
    /// `tests::properties::running_it_again_heals_and_stores_nothing_twice`.
    pub(super) fn publish(&mut self, volume: u32, effects: &mut Vec<Effect>) -> Result<()> {
        let lines = self
            .lines(volume)
            .ok_or_else(|| Error::Bug(format!("volume {volume}: stored without an archive")))?;
        effects.extend([Effect::Publish(lines), Effect::Clear(volume)]);
        if let Some(item) = self.items.get_mut(&Target::Volume(volume)) {
            item.settle();
        }
        Ok(())
    }

    /// When the service took the last volume.
    fn taken(&self) -> Option<Timestamp> {
        let archives = self.journal.archives.iter();
        let volumes = archives.filter(|(target, _)| matches!(target, Target::Volume(_)));
        volumes.map(|(_, archive)| archive.uploaded).max()
    }

    /// The catalog lines of a volume.
    pub(super) fn lines(&self, volume: u32) -> Option<Vec<Line>> {
        let target = Target::Volume(volume);
        let archive = self.journal.archives.get(&target)?;
        let item = self.items.get(&target)?;
        let generation = self.journal.generation;
        let mut lines = Vec::new();
        for (run, treehashes) in item.treehashes().chunks(HASHES).enumerate() {
            lines.push(Line::Hashes(Hashes {
                stream: self.stream.stream,
                generation,
                volume,
                part: u32::try_from(run * HASHES).ok()?,
                dest: self.dest.clone(),
                treehashes: treehashes.to_vec(),
            }));
        }
        lines.push(Line::Archive(Archive {
            v: VERSION,
            stream: self.stream.stream,
            host: self.stream.host.clone(),
            name: self.stream.name.clone(),
            generation,
            volume,
            offset: self.stream.volume_size * u64::from(volume),
            size: archive.size,
            treehash: archive.treehash,
            part_size: self.stream.part_size,
            dest: self.dest.clone(),
            region: self.region.clone(),
            archive_id: archive.archive_id.clone(),
            version: archive.version.clone(),
            class: archive.class.clone(),
            composite: archive.composite,
            etag: archive.etag.clone(),
            uploaded: archive.uploaded,
        }));
        Some(lines)
    }

    /// The description of an archive of this stream.
    pub fn description(&self, target: Target) -> Description {
        let (kind, volume) = match target {
            Target::Volume(volume) => (Kind::Volume, Some(volume)),
            Target::Manifest => (Kind::Manifest, None),
        };
        Description {
            v: VERSION,
            kind,
            stream: self.stream.stream,
            generation: self.journal.generation,
            volume,
            host: self.stream.host.clone(),
            name: self.stream.name.clone(),
            guid: self.stream.guid,
            from_guid: self.stream.from_guid,
        }
    }
}
