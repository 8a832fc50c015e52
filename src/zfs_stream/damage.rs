//! What can be wrong with a stream, and how it is said.

use std::fmt;

/// Where a stream is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Where the record begins, or where the stream ends, in bytes.
    pub offset: u64,
    /// The record's number, from 1; 0 if there is none.
    pub record: u64,
    /// The record's type, such as `WRITE`; empty if it is not known.
    pub kind: &'static str,
    /// What is wrong.
    pub what: What,
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
    /// Something comes after the end.
    Follows,
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
            Self::Follows => "bytes follow the END record",
        })
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            "" => String::new(),
            kind => format!(" ({kind})"),
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
            What::Follows => write!(f, "byte {offset}: {what}"),
            _ => write!(f, "byte {offset}, record {record}{kind}: {what}"),
        }
    }
}

impl std::error::Error for Damage {}
