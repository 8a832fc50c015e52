//! ZFS send streams: whether one is whole, and what it holds.
//!
//! The end of a pipe says nothing about the stream that came through it, so
//! the stream itself is asked: every record is parsed, every checksum is
//! verified, and only the END record that belongs there is its end. Memory is
//! one record's header, whatever the stream's length; payloads are summed and
//! dropped.
//!
//! The layout is that of `include/sys/zfs_ioctl.h`, the checks are those of
//! `zfs receive` (`module/zfs/dmu_recv.c`), both of OpenZFS 2.3, and some of
//! our own: END repeats its BEGIN's guid, and nothing follows the last END.
//!
//! What is not covered: Fletcher-4 finds accidents, not attacks; up to three
//! bytes at the end of a payload whose length is no multiple of four are in
//! none of ZFS's checksums (no stream with such a payload has been seen);
//! and the last END of a compound stream (-R, -I, -p) proves only that `zfs`
//! came to its end, as it is written after errors too.

mod damage;
mod fletcher;
mod head;
mod mend;
mod record;
mod spill;

use sha2::{Digest, Sha256};

pub use damage::{Damage, What};
pub use head::{Ending, Head, RECOGNISED_BY, Recognised, Snapshot, recognise};
pub use mend::{Mended, Mender};

use fletcher::{Fletcher, Order};
use record::{BEFORE_CHECKSUM, HEADER, Header, Kind, Package};

/// The feature flag of BEGIN that is told apart here.
const RESUMING: u32 = 20;

/// Where in a stream a record's end is.
#[derive(Clone, Copy)]
enum Place {
    /// Before the first record.
    Start,
    /// In the package that heads a compound stream.
    Preface,
    /// In a compound stream, with no snapshot begun.
    Between,
    /// In the snapshot of this guid.
    Snapshot { guid: u64, compound: bool },
    /// After the last END.
    Done(Ending),
}

/// Reads a stream, in pieces of any size, to its end or first damage.
#[derive(Clone)]
pub struct Walk {
    place: Place,
    /// Where the next byte is.
    offset: u64,
    /// Where the record begins, its number and, once known, its type.
    start: u64,
    record: u64,
    kind: Option<Kind>,
    /// The number of its type, and features of BEGIN that are not known.
    number: Option<u32>,
    unknown: u64,
    /// The record's header, and how much of it has come.
    header: [u8; HEADER],
    held: usize,
    /// Bytes of the record's payload that have not come.
    payload: u64,
    sum: Fletcher,
    /// The head while it is gathered: it is whole with the payload of BEGIN.
    draft: Option<Head>,
    head: Option<Head>,
    /// The snapshot of a BEGIN whose payload has not come.
    begun: Option<Snapshot>,
    snapshots: Vec<Snapshot>,
    /// Whether the snapshot is that of a file system.
    is_file_system: bool,
    misplaced: Misplaced,
    damage: Option<Damage>,
}

/// Records that the sender wrote so that every receiver loses what they hold:
/// the rest of a long link, or of extended attributes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Misplaced {
    /// The object of the first.
    pub first: Option<u64>,
    /// How many there are: each is of another object.
    pub count: u64,
}

impl Default for Walk {
    fn default() -> Self {
        Self::new()
    }
}

impl Walk {
    /// A walk at the first byte of a stream.
    pub fn new() -> Self {
        Self {
            place: Place::Start,
            offset: 0,
            start: 0,
            record: 0,
            kind: None,
            number: None,
            unknown: 0,
            header: [0; HEADER],
            held: 0,
            payload: 0,
            sum: Fletcher::new(Order::Little),
            draft: None,
            head: None,
            begun: None,
            snapshots: Vec::new(),
            is_file_system: false,
            misplaced: Misplaced::default(),
            damage: None,
        }
    }

    /// Takes the stream's next bytes.
    ///
    /// # Errors
    /// When they are not those of an undamaged stream; from then on, always.
    /// Damage is met at the next checksum behind it, so bytes were taken that
    /// come before this is known.
    pub fn update(&mut self, bytes: &[u8]) -> Result<(), Damage> {
        if let Some(damage) = &self.damage {
            return Err(damage.clone());
        }
        let result = self.walk(bytes);
        if let Err(damage) = &result {
            self.damage = Some(damage.clone());
        }
        result
    }

    /// What the stream says of itself, once its first records have come.
    pub fn head(&self) -> Option<&Head> {
        self.head.as_ref()
    }

    /// The snapshots that have begun since this was last asked: one of a plain
    /// stream, any number of a compound one. None comes before the head.
    pub fn take_snapshots(&mut self) -> Vec<Snapshot> {
        std::mem::take(&mut self.snapshots)
    }

    /// What the stream has had so far that no receiver puts in its place.
    pub fn misplaced(&self) -> Misplaced {
        self.misplaced
    }

    /// How the stream ended, when all of it was taken.
    ///
    /// # Errors
    /// When it is damaged, or this is not its end.
    pub fn finish(&self) -> Result<Ending, Damage> {
        if let Some(damage) = &self.damage {
            return Err(damage.clone());
        }
        if self.held > 0 || self.payload > 0 {
            return Err(self.damage(What::Cut));
        }
        match self.place {
            Place::Done(ending) => Ok(ending),
            Place::Start => Err(self.damage(What::Empty)),
            _ => Err(Damage { offset: self.offset, ..self.damage(What::NoEnd) }),
        }
    }

    /// Damage in the record that the walk is at.
    pub fn damage(&self, what: What) -> Damage {
        let kind = self.number.or_else(|| {
            // A header that is cut behind its type tells at least that.
            let header = Header { bytes: &self.header, order: self.sum.order() };
            let told = self.held >= 4 && !matches!(self.place, Place::Start);
            told.then(|| header.number())
        });
        Damage { offset: self.start, record: self.record, kind, what, unknown: self.unknown }
    }

    /// Damage that is found in another way than by walking, and ends the walk.
    fn fail(&mut self, what: What) -> Damage {
        let damage = self.damage(what);
        self.damage = Some(damage.clone());
        damage
    }

    /// Bytes that are still needed of a header, or of the payload behind it.
    fn wanted(&self) -> usize {
        match self.payload {
            0 => HEADER - self.held,
            payload => usize::try_from(payload).unwrap_or(usize::MAX),
        }
    }

    fn walk(&mut self, mut bytes: &[u8]) -> Result<(), Damage> {
        while !bytes.is_empty() {
            bytes =
                if self.payload > 0 { self.take_payload(bytes) } else { self.take_header(bytes)? };
        }
        Ok(())
    }

    /// Takes what the record's payload still needs; gives the rest.
    fn take_payload<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let wanted = usize::try_from(self.payload).unwrap_or(usize::MAX);
        let (now, later) = bytes.split_at(bytes.len().min(wanted));
        self.sum.update(now);
        if let (Some(Kind::Begin), Some(draft)) = (self.kind, &mut self.draft) {
            draft.identity.update(now);
        }
        self.offset += length(now);
        self.payload -= length(now);
        if self.payload == 0 {
            self.end_record();
        }
        later
    }

    /// Takes what the record's header still needs; gives the rest.
    fn take_header<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Damage> {
        if self.held == 0 {
            if matches!(self.place, Place::Done(_)) {
                return Err(Damage { offset: self.offset, ..self.damage(What::Follows) });
            }
            self.start = self.offset;
            self.record += 1;
            self.kind = None;
            self.number = None;
        }
        let (now, later) = bytes.split_at(bytes.len().min(HEADER - self.held));
        for (place, byte) in self.header.iter_mut().skip(self.held).zip(now) {
            *place = *byte;
        }
        self.held += now.len();
        self.offset += length(now);
        if self.held == HEADER {
            self.held = 0;
            let bytes = self.header;
            self.begin_record(&bytes)?;
            if self.payload == 0 {
                self.end_record();
            }
        }
        Ok(later)
    }

    /// A header is whole.
    fn begin_record(&mut self, bytes: &[u8; HEADER]) -> Result<(), Damage> {
        let order = match self.place {
            // Without a magic number the order does not matter.
            Place::Start => {
                bytes.get(8..).and_then(<[u8]>::first_chunk).and_then(|m| record::order_of(*m))
            }
            _ => Some(self.sum.order()),
        };
        let header = Header { bytes, order: order.unwrap_or(Order::Little) };
        self.number = Some(header.number());
        self.kind = header.kind();
        let before = self.sum.sums();
        let inside = matches!(self.place, Place::Snapshot { .. });
        match (self.kind, self.place) {
            (Some(Kind::Begin), _) | (_, Place::Start) => {}
            (Some(Kind::End), _) => self.check_record(&header)?,
            _ if inside => self.check_record(&header)?,
            _ => {}
        }
        match self.kind {
            Some(Kind::Begin) => self.begin(&header)?,
            Some(Kind::End) => self.end(&header, before)?,
            Some(Kind::WriteEmbedded) if inside && self.is_file_system && header.is_spill() => {
                self.misplaced.first.get_or_insert(header.object());
                self.misplaced.count = self.misplaced.count.saturating_add(1);
            }
            Some(_) if inside => {}
            Some(_) => return Err(self.damage(What::NotBegin)),
            None => return Err(self.damage(What::UnknownType)),
        }
        self.payload = self.kind.map_or(0, |kind| header.payload(kind));
        let longest = if self.kind == Some(Kind::Begin) {
            record::LONGEST_BEGIN
        } else {
            record::LONGEST_PAYLOAD
        };
        if self.payload > longest {
            return Err(self.damage(What::TooLong));
        }
        Ok(())
    }

    /// Sums a header that is no BEGIN, and compares its checksum. Like
    /// `zfs receive`, takes one of all zero as not filled in: ZFS before 2015
    /// had none here, and the packages around a compound stream have none.
    fn check_record(&mut self, header: &Header<'_>) -> Result<(), Damage> {
        let (summed, checksum) = header.bytes.split_at(BEFORE_CHECKSUM);
        self.sum.update(summed);
        if header.checksum() != [0; 4] && header.checksum() != self.sum.sums() {
            return Err(self.damage(What::Checksum));
        }
        self.sum.update(checksum);
        Ok(())
    }

    fn begin(&mut self, header: &Header<'_>) -> Result<(), Damage> {
        if !header.has_magic() {
            return Err(self.damage(What::NoMagic));
        }
        let package = header.package().ok_or_else(|| self.damage(What::Package))?;
        let name = header.name().ok_or_else(|| self.damage(What::Name))?;
        let from_guid = Some(header.base_guid()).filter(|guid| *guid != 0);
        let (resumed, features) = (header.feature(RESUMING), header.features());
        let (created, clone) = (header.created(), header.is_clone());
        self.place = match (self.place, package) {
            (Place::Start, Package::Compound) => Place::Preface,
            (Place::Start, Package::Substream) => {
                Place::Snapshot { guid: header.guid(), compound: false }
            }
            (Place::Between, Package::Substream) => {
                Place::Snapshot { guid: header.guid(), compound: true }
            }
            (Place::Snapshot { .. } | Place::Preface, _) => return Err(self.damage(What::Unclosed)),
            (Place::Between, Package::Compound) | (Place::Done(_), _) => {
                return Err(self.damage(What::Package));
            }
        };
        self.is_file_system = header.is_file_system();
        self.unknown |= header.unknown_features();
        self.sum = Fletcher::new(header.order);
        self.sum.update(header.bytes);
        if package == Package::Substream {
            let (name, guid, offset) = (name.clone(), header.guid(), self.start);
            self.begun =
                Some(Snapshot { name, guid, from_guid, offset, resumed, created, features, clone });
        }
        if self.head.is_none() {
            let compound = package == Package::Compound;
            let draft = self.draft.get_or_insert_with(|| Head {
                name,
                guid: Some(header.guid()).filter(|_| !compound),
                from_guid: from_guid.filter(|_| !compound),
                compound,
                resumed: false,
                features: 0,
                clone: clone && !compound,
                created: Some(created).filter(|created| *created != 0 && !compound),
                identity: Sha256::new(),
            });
            draft.resumed |= resumed;
            draft.features |= features;
            draft.identity.update(header.bytes);
        }
        Ok(())
    }

    fn end(&mut self, header: &Header<'_>, before: [u64; 4]) -> Result<(), Damage> {
        let (guid, checksum, next) = match self.place {
            Place::Start => return Err(self.damage(What::NotBegin)),
            Place::Preface => (0, before, Place::Between),
            Place::Between => (0, [0; 4], Place::Done(Ending::Compound)),
            Place::Snapshot { guid, compound: false } => (guid, before, Place::Done(Ending::Plain)),
            Place::Snapshot { guid, compound: true } => (guid, before, Place::Between),
            Place::Done(_) => return Err(self.damage(What::Follows)),
        };
        let last = header.end_checksum() == [0; 4] && header.guid() == 0;
        if last && matches!(self.place, Place::Snapshot { compound: true, .. }) {
            return Err(self.damage(What::Unclosed));
        }
        if header.end_checksum() != checksum {
            return Err(self.damage(What::EndChecksum));
        }
        if header.guid() != guid {
            return Err(self.damage(What::EndGuid));
        }
        // Nothing else would notice a change here.
        if header.checksum() == [0; 4] && !header.end_is_bare() {
            return Err(self.damage(What::EndNotBare));
        }
        self.place = next;
        // The last END of a compound stream has no BEGIN, so no sum.
        self.sum = Fletcher::new(header.order);
        Ok(())
    }

    /// A record is whole.
    fn end_record(&mut self) {
        self.sum.end_run();
        if self.begun.is_some() || matches!(self.place, Place::Done(_)) {
            self.head = self.head.take().or_else(|| self.draft.take());
        }
        self.snapshots.extend(self.begun.take());
    }
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
