//! The network matrix, whole: each call with each fault, once and for ever.

use crate::lab::{Lab, Tally};
use crate::matrix;

/// Cases of the matrix; which come first is the seed's choice.
pub fn run(lab: &Lab, runs: u64) -> Tally {
    let wanted = |name: &str| lab.target.as_deref().is_none_or(|target| name.contains(target));
    let mut cases = matrix::cases();
    cases.retain(|case| wanted(&case.name));
    let count = cases.len() as u64;
    // All come in their order, so that the pieces of any seeds are the whole.
    let first = if runs < count { lab.chance(0).below(count) } else { 0 };
    // A step that has no divisor in common with their number meets all.
    let step = (count / 3..count).find(|step| runs < count && gcd(*step, count) == 1).unwrap_or(1);
    lab.each(runs.min(count), |run, _| {
        let at = (first + run * step) % count;
        matrix::play(&cases[usize::try_from(at).unwrap()]);
    })
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}
