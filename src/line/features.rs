//! What the BEGIN record of a ZFS stream says that a receiver must understand.

use std::borrow::Cow;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::ids::Borrowed;

/// The feature flags of a ZFS stream; in a line the list of their names, which
/// are those of OpenZFS (`DMU_BACKUP_FEATURE_*` in `include/sys/zfs_ioctl.h`) in
/// lower case, or `bit_N` for one that has no name here.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Features(pub u64);

/// The numbers and names of the flags that OpenZFS has or had.
const NAMES: [(u32, &str); 16] = [
    (0, "dedup"),
    (1, "dedupprops"),
    (2, "sa_spill"),
    (16, "embed_data"),
    (17, "lz4"),
    (19, "large_blocks"),
    (20, "resuming"),
    (21, "redacted"),
    (22, "compressed"),
    (23, "large_dnode"),
    (24, "raw"),
    (25, "zstd"),
    (26, "holds"),
    (27, "switch_to_large_blocks"),
    (28, "longname"),
    (29, "large_microzap"),
];

impl Features {
    /// Blocks of more than 128 KiB come as they are (`zfs send -L`).
    pub const LARGE_BLOCKS: Self = Self(1 << 19);
    /// What was left out is not of the base either (`zfs send --redact`).
    pub const REDACTED: Self = Self(1 << 21);
    /// Blocks come as they are on disk, encrypted (`zfs send -w`).
    pub const RAW: Self = Self(1 << 24);

    /// Whether all of these are set.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    fn names(self) -> impl Iterator<Item = Cow<'static, str>> {
        (0..u64::BITS).filter(move |bit| (self.0 >> bit) & 1 == 1).map(|bit| {
            let known = NAMES.into_iter().find(|(number, _)| *number == bit);
            known.map_or_else(|| format!("bit_{bit}").into(), |(_, name)| name.into())
        })
    }

    fn bit(name: &str) -> Option<u64> {
        let known = NAMES.into_iter().find(|(_, known)| *known == name).map(|(bit, _)| bit);
        let bit = known.or_else(|| name.strip_prefix("bit_")?.parse().ok())?;
        1_u64.checked_shl(bit)
    }
}

impl Serialize for Features {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.names())
    }
}

impl<'de> Deserialize<'de> for Features {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut features = 0;
        for name in <Vec<Borrowed<'de>>>::deserialize(deserializer)? {
            let unknown = || D::Error::custom("a feature is one of glacier-lines(5), or bit_N");
            features |= Self::bit(name.as_ref()).ok_or_else(unknown)?;
        }
        Ok(Self(features))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_has_one_name() {
        for bit in 0..u64::BITS {
            let one = Features(1 << bit);
            let text = serde_json::to_string(&one).unwrap();
            assert_eq!(serde_json::from_str::<Features>(&text).unwrap(), one, "{text}");
        }
        let several = Features(0x43_0004);
        let text = r#"["sa_spill","embed_data","lz4","compressed"]"#;
        assert_eq!(serde_json::to_string(&several).unwrap(), text);
        assert_eq!(serde_json::from_str::<Features>("[]").unwrap(), Features::default());
        for bad in [r#"["bit_64"]"#, r#"["bit_"]"#, r#"["RAW"]"#, r#"[""]"#, "4"] {
            assert!(serde_json::from_str::<Features>(bad).is_err(), "{bad}");
        }
    }
}
