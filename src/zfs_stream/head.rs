//! What a stream is, and what it says of itself.

use sha2::Sha256;

use super::record;

/// Bytes that [`recognise`] needs to decide.
pub const RECOGNISED_BY: usize = 16;

/// Whether bytes begin a ZFS send stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recognised {
    /// They do.
    Yes,
    /// They did, but for one byte: to take them for something else would be to
    /// store a damaged stream.
    Damaged,
    /// They do not.
    No,
    /// So far they do; [`RECOGNISED_BY`] bytes are needed to say.
    More,
}

/// Whether the first bytes of something are those of a ZFS send stream: a
/// record of type 0, and its magic number in either byte order.
pub fn recognise(first: &[u8]) -> Recognised {
    let others = |magic: [u8; 8]| {
        let zero = first.iter().take(4).map(|byte| *byte == 0);
        let magic = first.iter().skip(8).zip(magic).map(|(byte, other)| *byte == other);
        zero.chain(magic).filter(|same| !same).count()
    };
    let wrong = others(record::MAGIC.to_le_bytes()).min(others(record::MAGIC.to_be_bytes()));
    match wrong {
        0 if first.len() < RECOGNISED_BY => Recognised::More,
        0 => Recognised::Yes,
        1 if first.len() >= RECOGNISED_BY => Recognised::Damaged,
        _ => Recognised::No,
    }
}

/// What a stream says of itself in its first records.
#[derive(Clone, Debug)]
pub struct Head {
    /// The snapshot's name on the sender; for a compound stream that of the
    /// last snapshot of the first dataset.
    pub name: String,
    /// The snapshot's guid; a compound stream has none.
    pub guid: Option<u64>,
    /// The guid of the snapshot an incremental stream starts from.
    pub from_guid: Option<u64>,
    /// Whether this is a package of substreams (`-R`, `-I`, `-p`, `-b`, `-h`).
    pub compound: bool,
    /// Whether this is the rest of an interrupted stream (`-t`).
    pub resumed: bool,
    /// The feature flags (`DMU_BACKUP_FEATURE_*`); of a compound stream those
    /// of its header and of its first substream.
    pub features: u64,
    /// Whether the base is a snapshot of another dataset, of which this is a
    /// clone (`DRR_FLAG_CLONE`).
    pub clone: bool,
    /// When the snapshot was taken, in Unix seconds; not known of a compound
    /// stream.
    pub created: Option<u64>,
    /// A hash that has taken the whole first BEGIN record with its payload,
    /// and for a compound stream also the first substream's.
    pub identity: Sha256,
}

/// A snapshot whose (sub)stream begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Its name on the sender.
    pub name: String,
    /// Its guid.
    pub guid: u64,
    /// The guid of the snapshot it is an increment of.
    pub from_guid: Option<u64>,
    /// Where its BEGIN record is in the stream, in bytes.
    pub offset: u64,
    /// Whether this is the rest of an interrupted stream.
    pub resumed: bool,
    /// When it was taken, in Unix seconds.
    pub created: u64,
    /// Its feature flags.
    pub features: u64,
    /// Whether it is of a clone, and its base of another dataset.
    pub clone: bool,
}

/// How a stream that is not damaged ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With the END of its one snapshot: it is whole.
    Plain,
    /// With the last END of a compound stream, which `zfs send` writes after
    /// errors too: it is whole if `zfs send` succeeded.
    Compound,
}
