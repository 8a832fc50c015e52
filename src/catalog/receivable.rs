//! Which stream `zfs receive` takes on top of which.
//!
//! The rules are those of OpenZFS, `module/zfs/dmu_recv.c`, where a dataset is
//! there already: `recv_begin_check_existing_impl` and `recv_check_large_blocks`.
//! Other features of a stream ask something of the pool, and nothing of what
//! was received before.

use std::fmt;

use crate::line::Features;

/// Why a stream is not taken.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Obstacle {
    /// Its base came with large blocks, and it has none
    /// (`ZFS_ERR_STREAM_LARGE_BLOCK_MISMATCH`).
    LargeBlocks,
    /// It is raw, and what is there is not encrypted by the same key (`EINVAL`).
    Raw,
    /// Its base is raw and it is not: what is there is encrypted, and its key
    /// is not loaded while streams come (`EACCES`).
    NotRaw,
    /// What its base left out, it may need (`redact_check`).
    Redacted,
}

impl Obstacle {
    /// What stands between a base and the stream after it; nothing where one
    /// of them was stored by a version that did not write its features down.
    pub fn between(base: Option<Features>, next: Option<Features>) -> Option<Self> {
        let (base, next) = (base?, next?);
        let only = |which| base.has(which) && !next.has(which);
        if only(Features::LARGE_BLOCKS) {
            Some(Self::LargeBlocks)
        } else if next.has(Features::RAW) && !base.has(Features::RAW) {
            Some(Self::Raw)
        } else if only(Features::RAW) {
            Some(Self::NotRaw)
        } else if only(Features::REDACTED) {
            Some(Self::Redacted)
        } else {
            None
        }
    }
}

/// Said of the base.
impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LargeBlocks => "was sent with large blocks (zfs send -L), and this without",
            Self::Raw => "was not sent raw, and this was (zfs send -w)",
            Self::NotRaw => "was sent raw (zfs send -w), and this was not",
            Self::Redacted => "was sent redacted, and this was not",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_receiver_refuses_is_refused() {
        const PLAIN: Features = Features(1 << 2);
        const OTHERS: Features = Features(1 << 2 | 1 << 16 | 1 << 17 | 1 << 22 | 1 << 23 | 1 << 28);
        let with = |features: Features, more: Features| Features(features.0 | more.0);
        let large = with(PLAIN, Features::LARGE_BLOCKS);
        let raw = with(large, Features::RAW);
        for (base, next, expected) in [
            (PLAIN, OTHERS, None),
            (OTHERS, PLAIN, None),
            (PLAIN, large, None),
            (large, PLAIN, Some(Obstacle::LargeBlocks)),
            (large, raw, Some(Obstacle::Raw)),
            (raw, large, Some(Obstacle::NotRaw)),
            (raw, raw, None),
            (with(PLAIN, Features::REDACTED), PLAIN, Some(Obstacle::Redacted)),
            (PLAIN, with(PLAIN, Features::REDACTED), None),
        ] {
            assert_eq!(Obstacle::between(Some(base), Some(next)), expected);
            assert_eq!(Obstacle::between(None, Some(next)), None);
            assert_eq!(Obstacle::between(Some(base), None), None);
        }
    }
}
