//! What glacier-proof(1) wrote down of a stream before it went through a
//! filter: what it was, which snapshots it held, and that it was whole.
//!
//! The file is read as it grows, and nothing in it is believed for itself: a
//! line that is none, or is about something else, is refused.

use serde::{Deserialize, Serialize};

use crate::line::{Format, Guid, Stream, StreamId, VERSION};
use crate::state;
use crate::zfs_stream::Head;

/// The sizes that the id in the file is computed with, whatever the stream is
/// cut by: part of what version 1 of an id is.
pub const PART_SIZE: u64 = 16 << 20;
const VOLUME_SIZE: u64 = 4 << 30;

/// The last line of the file: that of chunk, without what only hashing tells.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename = "end")]
pub struct End {
    /// Which stream.
    pub stream: StreamId,
    /// Bytes.
    pub size: u64,
    /// The proofs that it is whole.
    pub whole: String,
}

/// The first line of the file.
pub fn stream(head: &Head) -> Stream {
    Stream {
        v: VERSION,
        stream: StreamId::new(head.identity.clone(), PART_SIZE, VOLUME_SIZE),
        host: state::host(),
        name: head.name.clone(),
        format: Format::Zfs,
        guid: head.guid.map(Guid),
        from_guid: head.from_guid.map(Guid),
        compound: head.compound,
        resumed: head.resumed,
        filter: None,
        part_size: PART_SIZE,
        volume_size: VOLUME_SIZE,
    }
}
