//! What only S3 does: keys and versions, composite hashes, locks, restores.

use super::*;

/// The class of what nobody says otherwise of.
const DEEP: &str = "DEEP_ARCHIVE";

/// The key of an archive.
fn key(about: &Description) -> Id {
    match about.volume {
        Some(volume) => format!("volumes-{}-{}-{volume:05}", about.stream, about.generation).into(),
        None => format!("manifests-{}-{}", about.stream, about.generation).into(),
    }
}

impl MemoryStorage {
    pub(super) fn as_s3(&self, upload: &Upload, seal: &Seal, bytes: Vec<u8>) -> Attempt<Stored> {
        let id = key(&upload.about);
        if self.all().iter().any(|archive| archive.id == id) {
            return Err(Failure::Exists("PreconditionFailed".into()));
        }
        // Where the parts are not named they are those that are listed.
        let sealed = upload.parts.values().map(|part| {
            let Sent { tag, .. } = self.sent(part);
            Sealed { sha256: sha256(part), tag }
        });
        let sealed: Vec<Sealed> = sealed.collect();
        if !seal.parts.is_empty() && *seal.parts != *sealed {
            return Err(invalid("InvalidPart"));
        }
        let real = Seal::of(seal.size, seal.treehash, sealed.into()).composite;
        if seal.composite.is_some() && real != seal.composite {
            return Err(Failure::Damaged("BadDigest".into()));
        }
        let version = self.versions.get().then(|| self.name("version").to_string());
        Ok(Stored {
            id,
            version,
            bytes,
            described: upload.about.text().unwrap(),
            checksum: Proof::Sha256(real.unwrap()),
            made: self.now.get(),
            deleted: None,
            lock: upload.terms.lock.clone(),
            class: Some(upload.terms.class.clone().unwrap_or_else(|| DEEP.to_owned())),
            restored: None,
        })
    }

    pub(super) fn look_at_key(&self, about: &Description, seal: &Seal) -> Reply<Lookup> {
        let found = self.all().into_iter().find(|archive| archive.id == key(about));
        self.answer(match found {
            None => Lookup::Absent { as_of: self.now.get() },
            Some(archive) => {
                let composite = seal.composite.map(Proof::Sha256);
                let is_same = archive.bytes.len() as u64 == seal.size
                    && composite.is_none_or(|composite| composite == archive.checksum)
                    && about.identifies(&archive.described);
                if is_same {
                    Lookup::Same(Self::seen(&archive))
                } else {
                    Lookup::Other(format!("{} is another archive", archive.id))
                }
            }
        })
    }

    fn is_cold(archive: &Stored) -> bool {
        matches!(archive.class.as_deref(), None | Some(DEEP | "GLACIER"))
    }

    pub(super) fn by_head(&self, sought: &Sought<'_>) -> Readiness {
        let Want { archive: id, version, .. } = sought.want;
        let Some(archive) = self.all().into_iter().find(|it| it.is(id, version)) else {
            return Readiness::Cold;
        };
        let (ticket, since, tier) = (archive.id.clone(), None, None);
        let now = self.now.get();
        match archive.restored {
            _ if !Self::is_cold(&archive) => Readiness::Ready { ticket, since, tier, until: None },
            Some((from, _)) if now < from => Readiness::Coming { ticket, since, tier },
            Some((_, until)) if now < until => {
                Readiness::Ready { ticket, since, tier, until: Some(until) }
            }
            _ => Readiness::Cold,
        }
    }

    pub(super) fn restore(&self, want: Want<'_>, tier: Tier, days: u16) -> Attempt<Requested> {
        let now = self.now.get();
        let mut archives = self.archives.borrow_mut();
        let found = archives.iter_mut().filter(|it| it.deleted.is_none());
        let mut found = found.filter(|it| it.is(want.archive, want.version));
        let archive = found.next().ok_or_else(|| missing("key"))?;
        let id = archive.id.clone();
        if !Self::is_cold(archive) {
            return Ok(Requested::Readable(id));
        }
        let is_deep = archive.class.as_deref() != Some("GLACIER");
        let hours = match tier {
            Tier::Expedited if is_deep => return Err(invalid("no Expedited of DEEP_ARCHIVE")),
            _ if self.instant.get() => 0,
            Tier::Expedited => 1,
            Tier::Standard => 12,
            Tier::Bulk => 48,
        };
        match archive.restored {
            Some((from, _)) if now < from => Ok(Requested::UnderWay(id)),
            Some((_, until)) if now < until => Ok(Requested::Readable(id)),
            _ => {
                let from = now + SignedDuration::from_hours(hours);
                // Up to the next midnight.
                let end = (from + SignedDuration::from_hours(24 * i64::from(days))).as_second();
                let until = Timestamp::from_second(end - end % 86_400 + 86_400).unwrap();
                archive.restored = Some((from, until));
                Ok(Requested::Begun(id))
            }
        }
    }

    pub(super) fn readable(&self, want: Want<'_>) -> Attempt<Vec<u8>> {
        let mut all = self.all().into_iter();
        let archive = all.find(|it| it.is(want.archive, want.version));
        let archive = archive.ok_or_else(|| missing("key"))?;
        let now = self.now.get();
        let is_up = archive.restored.is_some_and(|(from, until)| from <= now && now < until);
        if Self::is_cold(&archive) && !is_up {
            return Err(Failure::Archived("InvalidObjectState".into()));
        }
        Ok(archive.bytes)
    }

    pub(super) fn restores(&self) -> Vec<Job> {
        let now = self.now.get();
        let job = |archive: &Stored| {
            let (from, _) = archive.restored.filter(|(_, until)| now < *until)?;
            Some(Job {
                id: archive.id.clone(),
                archive_id: Some(archive.id.clone()),
                range: None,
                state: if now < from { JobState::Waiting } else { JobState::Ready },
                tier: None,
                created: None,
                completed: Some(from).filter(|from| *from <= now),
                size: Some(archive.bytes.len() as u64),
                partial: false,
            })
        };
        self.all().iter().filter_map(job).collect()
    }
}
