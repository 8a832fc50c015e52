//! What can be wrong with a stream, and how it is said.

use std::fmt;

use super::record::Kind;
use super::spill;
use crate::units;

/// Where a stream is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Where the record begins, or where the stream ends, in bytes.
    pub offset: u64,
    /// The record's number, from 1; 0 if there is none.
    pub record: u64,
    /// The number of the record's type, if that has come.
    pub kind: Option<u32>,
    /// What is wrong.
    pub what: What,
    /// The features of the stream that are not known here, as bits: with one,
    /// it may be whole for a later program.
    pub unknown: u64,
}

/// What is wrong with a record, or with where a stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// There is no byte at all.
    Empty,
    /// The stream ends inside this record.
    Cut,
    /// The stream ends after this record, which is not its last.
    NoEnd,
    /// The record's checksum is not that of the bytes before it.
    Checksum,
    /// END's checksum is not that of all bytes since BEGIN.
    EndChecksum,
    /// END is for another snapshot than BEGIN.
    EndGuid,
    /// END has no checksum of its own, and bytes where there are none.
    EndNotBare,
    /// A compound stream ends, or goes on, inside of a snapshot.
    Unclosed,
    /// The type is not one of ZFS.
    UnknownType,
    /// The first record, or one of a compound stream's, is no BEGIN.
    NotBegin,
    /// BEGIN has no magic number, or one of another byte order.
    NoMagic,
    /// BEGIN is neither that of a stream nor of a compound stream, or the
    /// latter inside of another.
    Package,
    /// The name in BEGIN does not end, or is not UTF-8.
    Name,
    /// The payload is longer than ZFS makes them.
    TooLong,
    /// The headers before the first snapshot are longer than a program takes:
    /// this many bytes.
    LongHead(u64),
    /// Something comes after the end.
    Follows,
    /// What no receiver puts in its place is no spill block, either.
    NoSpill,
    /// It has a compression of this number, which spill blocks do not have.
    Compression(u8),
    /// It does not unpack.
    Packed(u8),
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "empty",
            Self::Cut => "ends inside",
            Self::NoEnd => "ends too early",
            Self::Checksum => "checksum differs",
            Self::EndChecksum => "checksum of the whole stream differs",
            Self::EndGuid => "ends another snapshot than the one that began",
            Self::EndNotBare => "bytes where an END record has none",
            Self::Unclosed => "the snapshot before it is not whole",
            Self::UnknownType => "not a record of a ZFS stream",
            Self::NotBegin => "a BEGIN record is missing before it",
            Self::NoMagic => "no magic number",
            Self::Package => "unknown kind of stream",
            Self::Name => "the snapshot's name is not readable",
            Self::TooLong => "payload too long",
            Self::LongHead(size) => return write!(f, "header over {}", units::bytes(*size)),
            Self::Follows => "bytes follow",
            Self::NoSpill => "cannot be mended: no spill block as zfs send embeds them",
            Self::Compression(number) => {
                return write!(f, "cannot be mended: compressed with {}", spill::name_of(*number));
            }
            Self::Packed(number) => {
                return write!(f, "cannot be mended: its {} is damaged", spill::name_of(*number));
            }
        })
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            None => String::new(),
            Some(number) => match Kind::of(number) {
                Some(kind) => format!(" ({})", kind.name()),
                None => format!(" (type {number})"),
            },
        };
        let Self { offset, record, what, .. } = self;
        match what {
            What::Empty => write!(f, "{what}"),
            What::Cut => {
                write!(f, "ends inside record {record}{kind}, which begins at byte {offset}")
            }
            What::NoEnd => write!(
                f,
                "ends after record {record}{kind}, at byte {offset}, without its END record"
            ),
            What::Follows => write!(f, "byte {offset}: {what} record {record}{kind}"),
            _ => write!(f, "byte {offset}, record {record}{kind}: {what}"),
        }?;
        let unknown = (0..u64::BITS).filter(|bit| (self.unknown >> bit) & 1 == 1);
        for (i, bit) in unknown.enumerate() {
            write!(f, "{}{bit}", if i == 0 { "; it has features not known here: " } else { ", " })?;
        }
        Ok(())
    }
}

impl std::error::Error for Damage {}
