//! Chance that a seed decides, so that a choice can be made again.

use std::io;

use crate::error::{Error, Result};

/// A source of numbers (`SplitMix64`, by Steele, Lea and Flood). It is no
/// secret what it gives.
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// What this seed gives, today and later.
    pub fn of(seed: u64) -> Self {
        Self(seed)
    }

    /// What nobody has chosen.
    ///
    /// # Errors
    /// When the system has no source of chance.
    pub fn new() -> Result<Self> {
        let mut seed = [0; 8];
        getrandom::fill(&mut seed)
            .map_err(|e| Error::io("no source of chance", io::Error::other(e)))?;
        Ok(Self(u64::from_ne_bytes(seed)))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, each as likely as the next; 0 if there is none.
    pub fn below(&mut self, end: u128) -> u128 {
        // 128 bits for less than 2^80: what the rest favours cannot be seen.
        let wide = (u128::from(self.next()) << 64) | u128::from(self.next());
        wide.checked_rem(end).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_again() {
        // The first three of seed 1234567, as the authors' own program prints
        // them.
        let mut chance = Chance::of(1_234_567);
        let three = [chance.next(), chance.next(), chance.next()];
        assert_eq!(
            three,
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
        assert_eq!(Chance::of(7).below(1000), Chance::of(7).below(1000));
        assert_eq!(Chance::of(7).below(0), 0);
    }

    #[test]
    fn each_number_comes() {
        let mut chance = Chance::of(1);
        let mut counts = [0_u32; 10];
        for _ in 0..10_000 {
            counts[usize::try_from(chance.below(10)).unwrap()] += 1;
        }
        assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
    }
}
