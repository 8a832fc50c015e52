//! The hashes of a volume's parts, as its `hashes` lines tell them.

use std::collections::BTreeMap;

use crate::hash::tree::Hash;

/// The lines that count, by their first parts: of several that begin with the
/// same part that is the last.
#[derive(Clone, Debug)]
pub struct PartHashes<T>(BTreeMap<u32, T>);

impl<T> Default for PartHashes<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: AsRef<[Hash]>> PartHashes<T> {
    /// Takes the next line. One without hashes is none.
    pub fn take(&mut self, part: u32, hashes: T) {
        if !hashes.as_ref().is_empty() {
            self.0.insert(part, hashes);
        }
    }

    /// The line that has the hash of a part: with which part it begins, its
    /// hashes, and that hash.
    pub fn line_of(&self, part: u32) -> Option<(u32, &[Hash], Hash)> {
        let (first, line) = self.0.range(..=part).next_back()?;
        let place = usize::try_from(part - first).ok()?;
        Some((*first, line.as_ref(), *line.as_ref().get(place)?))
    }

    /// From the first part on, as far as each line begins where the one before
    /// it ends.
    pub fn in_order(&self) -> Vec<Hash> {
        let mut all = Vec::new();
        for (first, line) in &self.0 {
            if u32::try_from(all.len()) != Ok(*first) {
                break;
            }
            all.extend_from_slice(line.as_ref());
        }
        all
    }

    /// Those of all parts, if there are so many, each once.
    pub fn all(&self, parts: u64) -> Option<Vec<Hash>> {
        let all = self.in_order();
        let known: usize = self.0.values().map(|line| line.as_ref().len()).sum();
        (all.len() == known && u64::try_from(known) == Ok(parts)).then_some(all)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// What glacier-get takes for all hashes is what glacier-verify finds
        /// of each part, and what the last line of each place says.
        #[test]
        fn the_last_line_of_each_place_counts(
            lines in prop::collection::vec((0_u32..4, 0_usize..4, any::<u8>()), 0..12),
        ) {
            let mut known = PartHashes::default();
            let mut last: [Option<Vec<Hash>>; 8] = Default::default();
            for (place, count, salt) in lines {
                // Most begin where another may end.
                let first = place * 2;
                let hash = |part: usize| Hash::of(&[salt, u8::try_from(part).unwrap()]);
                let line: Vec<Hash> = (0..count).map(hash).collect();
                if !line.is_empty() {
                    last[first as usize] = Some(line.clone());
                }
                known.take(first, line);
            }
            let flat: Vec<Hash> = last.iter().flatten().flatten().copied().collect();
            let mut end = 0;
            let mut is_joined = true;
            for (first, line) in last.iter().enumerate() {
                let Some(line) = line else { continue };
                is_joined &= first == end;
                end += line.len();
            }
            let parts = flat.len() as u64;
            prop_assert_eq!(known.all(parts), is_joined.then(|| flat.clone()));
            prop_assert_eq!(known.all(parts + 1), None);
            for (part, hash) in (0..).zip(known.all(parts).unwrap_or_default()) {
                let (first, line, found) = known.line_of(part).unwrap();
                prop_assert_eq!(found, hash);
                prop_assert_eq!(Some(line), last[first as usize].as_deref());
            }
        }
    }
}
