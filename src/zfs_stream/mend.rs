//! What `zfs send` embedded wrongly, put back to where it belongs.
//!
//! What of a link or of extended attributes does not fit into an object's
//! dnode is in its spill block, and a stream has a SPILL record for it. Where
//! the block compresses to no more than a block pointer holds, OpenZFS 2.3
//! sends it with `-e`, and with `-w`, as `WRITE_EMBEDDED` instead, at the offset that
//! the block's number, -2, gives (openzfs#18239): receivers write it into the
//! object, far behind its end. All its bytes are in the stream, so the SPILL
//! record can be made of them. The OBJECT record before it says already that
//! there is one.
//!
//! Everything else comes out as it went in, but for the checksums behind such
//! a record, up to the END of its snapshot.

use super::fletcher::Fletcher;
use super::record::{BEFORE_CHECKSUM, HEADER, Header, Kind};
use super::spill::Embedded;
use super::{Damage, Place, Walk, What};

/// A record that was turned into what it should have been.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mended {
    /// The name of the snapshot on the sender.
    pub snapshot: String,
    /// The object that the block is of.
    pub object: u64,
    /// Bytes in the block.
    pub length: u64,
}

/// Takes a stream in pieces of any size, and gives it as it should have been.
#[derive(Default)]
pub struct Mender {
    walk: Walk,
    /// The name of the snapshot that the stream is in.
    snapshot: String,
    /// The sum of what was given of the snapshot, since that is not what was
    /// taken.
    sum: Option<Fletcher>,
    /// The block that is put back, while its payload comes, and whether its
    /// record had a checksum.
    embedded: Option<(Embedded, bool)>,
    /// The last END.
    end: Option<[u8; HEADER]>,
    mended: Vec<Mended>,
}

impl Mender {
    /// What takes the first byte of a stream next.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the stream's next bytes, and adds to `out` what can be given
    /// because of them. The last END is not: behind it something may follow.
    ///
    /// # Errors
    /// When they are not those of an undamaged stream, or what is to be mended
    /// cannot be; from then on, always. What was added to `out` may go out: it
    /// is no whole stream.
    pub fn update(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Damage> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(self.walk.wanted()));
            let in_payload = self.walk.payload > 0;
            let (before, misplaced) = (self.walk.sum.clone(), self.walk.misplaced.count);
            self.walk.update(now)?;
            let result = if in_payload {
                self.take_payload(now, out)
            } else if self.walk.held > 0 {
                Ok(())
            } else if self.walk.misplaced.count > misplaced {
                self.begin_mending(before)
            } else {
                self.take_header(out);
                Ok(())
            };
            result.map_err(|what| self.walk.fail(what))?;
            if let Some(snapshot) = self.walk.take_snapshots().pop() {
                self.snapshot = snapshot.name;
            }
            bytes = later;
        }
        Ok(())
    }

    /// What was mended since this was last asked.
    pub fn take_mended(&mut self) -> Vec<Mended> {
        std::mem::take(&mut self.mended)
    }

    /// Adds the last END to `out`, when all of the stream was taken.
    ///
    /// # Errors
    /// When the stream is damaged, or this is not its end.
    pub fn finish(self, out: &mut Vec<u8>) -> Result<(), Damage> {
        self.walk.finish()?;
        out.extend(self.end.into_iter().flatten());
        Ok(())
    }

    /// The header of a record that stays what it is.
    fn take_header(&mut self, out: &mut Vec<u8>) {
        let mut header = self.walk.header;
        match (self.walk.kind, &mut self.sum) {
            // Each snapshot has a sum of its own.
            (Some(Kind::Begin), sum) => *sum = None,
            (_, None) => {}
            (kind, Some(sum)) => {
                let view = Header { bytes: &header, order: sum.order() };
                let is_summed = view.checksum() != [0; 4];
                if kind == Some(Kind::End) {
                    header = view.with_end_checksum(sum.sums());
                }
                header = seal(&header, sum, is_summed);
            }
        }
        // Behind its END, each snapshot is as it was. That of a whole stream
        // is given only when nothing followed.
        if self.walk.kind == Some(Kind::End) {
            self.sum = None;
        }
        if matches!(self.walk.place, Place::Done(_)) {
            self.end = Some(header);
        } else {
            out.extend(header);
        }
    }

    /// The header of a record that no receiver puts in its place.
    fn begin_mending(&mut self, before: Fletcher) -> Result<(), What> {
        let header = Header { bytes: &self.walk.header, order: before.order() };
        self.embedded = Some((Embedded::of(&header)?, header.checksum() != [0; 4]));
        self.sum.get_or_insert(before);
        Ok(())
    }

    /// Bytes of a record's payload.
    fn take_payload(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), What> {
        let is_whole = self.walk.payload == 0;
        let (Some((embedded, is_summed)), Some(sum)) = (&mut self.embedded, &mut self.sum) else {
            if let Some(sum) = &mut self.sum {
                sum.update(bytes);
                if is_whole {
                    sum.end_run();
                }
            }
            out.extend(bytes);
            return Ok(());
        };
        embedded.take(bytes);
        if !is_whole {
            return Ok(());
        }
        let block = embedded.block()?;
        let Embedded { object, length, guid, .. } = *embedded;
        let header = Header::spill(sum.order(), object, length, guid);
        out.extend(seal(&header, sum, *is_summed));
        sum.update(&block);
        sum.end_run();
        out.extend(block);
        self.embedded = None;
        self.mended.push(Mended { snapshot: self.snapshot.clone(), object, length });
        Ok(())
    }
}

/// A header with the checksum that belongs into it, which is taken into the
/// sum. Where none was filled in, none is.
fn seal(header: &[u8; HEADER], sum: &mut Fletcher, is_summed: bool) -> [u8; HEADER] {
    let (before, _) = header.split_at(BEFORE_CHECKSUM);
    sum.update(before);
    let header = Header { bytes: header, order: sum.order() };
    let sealed = if is_summed { header.with_checksum(sum.sums()) } else { *header.bytes };
    let (_, checksum) = sealed.split_at(BEFORE_CHECKSUM);
    sum.update(checksum);
    sealed
}
