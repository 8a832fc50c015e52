//! Chance for the models of tests, which the seed of a property decides;
//! without dice nothing goes wrong.

use proptest::prelude::*;

/// Dice that are thrown until there are none left.
#[derive(Clone, Default)]
pub struct Dice(std::collections::VecDeque<u32>);

impl std::fmt::Debug for Dice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let dice: Vec<String> = self.0.iter().map(u32::to_string).collect();
        write!(f, "Dice({})", dice.join(" "))
    }
}

impl Dice {
    /// Whether what happens once in `n` times happens.
    pub fn once_in(&mut self, n: u32) -> bool {
        self.0.pop_front().is_some_and(|die| die % n == 0)
    }

    /// A number below `n`; 0 when nothing goes wrong.
    pub fn below(&mut self, n: usize) -> usize {
        self.0.pop_front().map_or(0, |die| die as usize % n.max(1))
    }
}

/// At most `n` dice.
pub fn dice(n: usize) -> impl Strategy<Value = Dice> {
    prop::collection::vec(1..1_000_000_u32, 0..n).prop_map(|dice| Dice(dice.into()))
}

/// As many cases of a property as the environment says, or `few`.
pub fn cases(few: u32) -> ProptestConfig {
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => ProptestConfig::default(),
        None => ProptestConfig::with_cases(few),
    }
}
