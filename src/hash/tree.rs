//! SHA-256 tree hashes, as Amazon Glacier defines them.
//!
//! The data is cut into leaves of one MiB, the last one shorter; each leaf is
//! hashed with SHA-256; then pairs of hashes are hashed together, level by
//! level, and an odd last one moves up unchanged (Amazon Glacier Developer
//! Guide, "Computing Checksums"). The empty input has one leaf.
//!
//! Because parts and volumes are 2^n leaves long, the same fold over the tree
//! hashes of parts gives that of their volume, and over volumes that of their
//! stream.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::hash::sha256x2::Midstate;

/// Bytes in a leaf.
pub const LEAF: usize = 1 << 20;

/// A SHA-256 hash, linear or of a tree; 64 lower-case hexadecimal digits in
/// text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// The SHA-256 hash of `data`.
    pub fn of(data: &[u8]) -> Self {
        Self(Sha256::digest(data).into())
    }

    /// The parent of two nodes of the tree.
    fn parent(left: Self, right: Self) -> Self {
        let mut hash = Sha256::new();
        hash.update(left.0);
        hash.update(right.0);
        Self(hash.finalize().into())
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Hash {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut hash = [0; 32];
        if text.bytes().any(|b| b.is_ascii_uppercase())
            || hex::decode_to_slice(text, &mut hash).is_err()
        {
            return Err("a hash is 64 lower-case hexadecimal digits".to_owned());
        }
        Ok(Self(hash))
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <std::borrow::Cow<'de, str>>::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// Folds the hashes of equal runs (leaves, parts, volumes), given in order,
/// into the hash of the whole. Only the last run may be shorter than the rest.
/// Memory is one hash a level.
#[derive(Clone, Debug, Default)]
pub struct Fold {
    /// Roots of complete subtrees, the largest first, with their heights.
    subtrees: Vec<(u32, Hash)>,
}

impl Fold {
    /// Takes the hash of the next run.
    pub fn push(&mut self, hash: Hash) {
        let (mut height, mut hash) = (0, hash);
        while let Some((_, left)) = self.subtrees.pop_if(|(h, _)| *h == height) {
            hash = Hash::parent(left, hash);
            height += 1;
        }
        self.subtrees.push((height, hash));
    }

    /// The hash of all runs; of nothing, that of one empty leaf.
    pub fn finish(self) -> Hash {
        self.subtrees
            .into_iter()
            .rev()
            .map(|(_, hash)| hash)
            .reduce(|right, left| Hash::parent(left, right))
            .unwrap_or_else(|| Hash::of(b""))
    }
}

impl FromIterator<Hash> for Fold {
    fn from_iter<I: IntoIterator<Item = Hash>>(hashes: I) -> Self {
        let mut fold = Self::default();
        hashes.into_iter().for_each(|hash| fold.push(hash));
        fold
    }
}

/// The tree hash of bytes that come in pieces of any size.
#[derive(Clone, Default)]
pub struct TreeHash {
    leaf: Sha256,
    in_leaf: usize,
    fold: Fold,
}

impl TreeHash {
    /// Takes the next bytes.
    pub fn update(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            let (now, later) = data.split_at(data.len().min(LEAF - self.in_leaf));
            self.leaf.update(now);
            self.in_leaf += now.len();
            if self.in_leaf == LEAF {
                self.fold.push(Hash(self.leaf.finalize_reset().into()));
                self.in_leaf = 0;
            }
            data = later;
        }
    }

    /// The tree hash of all that was taken.
    pub fn finish(mut self) -> Hash {
        if self.in_leaf > 0 {
            self.fold.push(Hash(self.leaf.finalize().into()));
        }
        self.fold.finish()
    }

    /// The tree hash of `data`.
    pub fn of(data: &[u8]) -> Hash {
        let mut hash = Self::default();
        hash.update(data);
        hash.finish()
    }
}

/// Adds the hashes of one leaf or two, which are hashed at a time.
pub fn leaves(pair: &[u8], fold: &mut Fold) {
    let (left, right) = pair.split_at(pair.len().min(LEAF));
    let (mut a, mut b) = (Midstate::default(), Midstate::default());
    Midstate::update_two((&mut a, left), (&mut b, right));
    fold.push(Hash(a.finish()));
    if !right.is_empty() {
        fold.push(Hash(b.finish()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition, word for word, sharing no code with the above.
    fn naive(data: &[u8]) -> Vec<u8> {
        let mut level: Vec<Vec<u8>> =
            data.chunks(1024 * 1024).map(|leaf| Sha256::digest(leaf).to_vec()).collect();
        if level.is_empty() {
            level.push(Sha256::digest(b"").to_vec());
        }
        while level.len() > 1 {
            level = level
                .chunks(2)
                .map(|pair| match pair {
                    [left, right] => Sha256::digest([left.as_slice(), right].concat()).to_vec(),
                    _ => pair[0].clone(),
                })
                .collect();
        }
        level.remove(0)
    }

    /// As boto, goamz, jclouds and aws-sdk-rust publish them.
    #[test]
    fn equals_published_vectors() {
        let a = |len| vec![b'a'; len];
        for (data, hash) in [
            (vec![], "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            (
                b"Hello World".to_vec(),
                "a591a6d40bf420404a011733cfb7b190d62c65bf0bcda32b57b277d9ad9f146e",
            ),
            (a(LEAF), "9bc1b2a288b26af7257a36277ae3816a7d4f16e89c1e7e77d0a5c48bad62b360"),
            (a(2 * LEAF), "560c2c9333c719cb00cfdffee3ba293db17f58743cdd1f7e4055373ae6300afa"),
            (a(3 * LEAF), "70239f4f2ead7561f69d48b956b547edef52a1280a93c262c0b582190be7db17"),
            (a(4 * LEAF), "9491cb2ed1d4e7cd53215f4017c23ec4ad21d7050a1e6bb636c4f67e8cddb844"),
            (a(4 * LEAF + 20), "12f3cbd6101b981cde074039f6f728071da8879d6f632de8afc7cdf00661b08f"),
            (
                b"01245678912".repeat(105_906_680 / 11 + 1)[..105_906_680].to_vec(),
                "3d417484359fc9f5a3bafd576dc47b8b2de2bf2d4fdac5aa2aff768f2210d386",
            ),
        ] {
            assert_eq!(TreeHash::of(&data).to_string(), hash, "{} bytes", data.len());
        }
    }

    #[test]
    fn equals_the_definition_around_every_leaf_edge() {
        let data: Vec<u8> = (0..=250).cycle().take(5 * LEAF + 2).collect();
        for leaves in 0..=5 {
            for size in (leaves * LEAF).saturating_sub(1)..=leaves * LEAF + 1 {
                assert_eq!(TreeHash::of(&data[..size]).0.to_vec(), naive(&data[..size]), "{size}");
            }
        }
    }

    #[test]
    fn folds_parts_into_the_hash_of_the_whole() {
        let data: Vec<u8> = (0..=252).cycle().take(37 * 1024).collect();
        // Any run length that is 2^n leaves will do, so leaves of one KiB
        // stand for those of one MiB.
        let leaves: Vec<Hash> = data.chunks(1024).map(Hash::of).collect();
        for count in 1..=leaves.len() {
            let whole: Fold = leaves[..count].iter().copied().collect();
            for run in [1, 2, 4, 8, 16, 32] {
                let parts: Fold = leaves[..count]
                    .chunks(run)
                    .map(|part| part.iter().copied().collect::<Fold>().finish())
                    .collect();
                assert_eq!(parts.finish(), whole.clone().finish(), "{count} by {run}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn any_split_gives_one_hash(size in 0..3 * LEAF, cuts in prop::collection::vec(0..3 * LEAF, 0..20)) {
            let data: Vec<u8> = (0..=248).cycle().take(size).collect();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut % (size + 1)).collect();
            cuts.extend([0, size]);
            cuts.sort_unstable();
            let mut hash = TreeHash::default();
            cuts.windows(2).for_each(|pair| hash.update(&data[pair[0]..pair[1]]));
            prop_assert_eq!(hash.finish().0.to_vec(), naive(&data));
        }
    }

    #[test]
    fn reads_only_lower_case_hashes_of_the_right_length() {
        let good = "9bc1b2a288b26af7257a36277ae3816a7d4f16e89c1e7e77d0a5c48bad62b360";
        assert_eq!(good.parse::<Hash>().unwrap().to_string(), good);
        for bad in ["", "9b", &good.to_uppercase(), &good[1..], &format!("{good}0")] {
            assert!(bad.parse::<Hash>().is_err(), "{bad}");
        }
    }
}
