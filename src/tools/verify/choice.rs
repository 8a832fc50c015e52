//! Which parts are sampled: pure, but for the chance that it is given.
//!
//! What was never sampled comes first, at random, each byte as likely as the
//! next; only when all of that is chosen, what was sampled longest ago. So
//! every part that fits the budget has its turn, and how long that takes is
//! the budget's to say.
//!
//! Millions of parts are a few runs: what one run of the program sampled, or
//! what none has, of a volume.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;

use super::chance::Chance;

/// Parts of a volume, of one size, that were sampled at one time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Run {
    /// Which volume, by a number that means nothing here.
    pub volume: usize,
    /// The first of them.
    pub first: u32,
    /// How many.
    pub parts: u32,
    /// Bytes of each, at least one.
    pub size: u64,
    /// When they were sampled; absent if never.
    pub last: Option<Timestamp>,
}

/// A part that was chosen, by its volume and number; in this order.
pub type Chosen = (usize, u32);

/// Sums that are found and changed in logarithmic time (Fenwick's tree).
struct Sums {
    tree: Vec<u128>,
    /// Of all.
    all: u128,
}

impl Sums {
    fn new(weights: impl Iterator<Item = u128>) -> Self {
        let mut sums = Self { tree: Vec::new(), all: 0 };
        for weight in weights {
            let place = sums.tree.len() + 1;
            // What ends here is this one and the runs of half, a quarter, …
            // of its length before it.
            let begin = place - lowest(place);
            let (mut before, mut total) = (place - 1, weight);
            while before > begin {
                total += sums.tree.get(before - 1).copied().unwrap_or(0);
                before -= lowest(before);
            }
            sums.tree.push(total);
            sums.all += weight;
        }
        sums
    }

    /// Takes from the weight of one.
    fn take(&mut self, index: usize, weight: u128) {
        let mut place = index + 1;
        while let Some(sum) = self.tree.get_mut(place - 1) {
            *sum = sum.saturating_sub(weight);
            place += lowest(place);
        }
        self.all = self.all.saturating_sub(weight);
    }

    /// The one in whose weight `at` lies, which is below the sum of all.
    fn find(&self, mut at: u128) -> usize {
        let (mut place, mut step) = (0, self.tree.len().next_power_of_two());
        while step > 0 {
            if let Some(sum) = self.tree.get((place + step).saturating_sub(1))
                && *sum <= at
            {
                at -= sum;
                place += step;
            }
            step /= 2;
        }
        place
    }
}

fn lowest(place: usize) -> usize {
    place & place.wrapping_neg()
}

/// Draws the parts of runs, each once.
#[derive(Default)]
struct Drawer {
    /// How many of a run are left, where some are drawn.
    left: HashMap<usize, u32>,
    /// Which part stands in the place of one that is drawn.
    moved: HashMap<(usize, u32), u32>,
}

impl Drawer {
    fn left(&self, index: usize, run: &Run) -> u32 {
        self.left.get(&index).copied().unwrap_or(run.parts)
    }

    fn draw(&mut self, index: usize, run: &Run, chance: &mut Chance) -> Option<u32> {
        let last = self.left(index, run).checked_sub(1)?;
        let place = u32::try_from(chance.below(u128::from(last) + 1)).ok()?;
        let of_last = self.moved.remove(&(index, last)).unwrap_or(last);
        let drawn = if place == last {
            of_last
        } else {
            self.moved.insert((index, place), of_last).unwrap_or(place)
        };
        self.left.insert(index, last);
        Some(run.first.saturating_add(drawn))
    }
}

/// Chooses parts of no more than `budget` bytes in total; none only if there
/// is none that fits.
pub fn choose(runs: &[Run], budget: u64, chance: &mut Chance) -> Vec<Chosen> {
    let (fresh, mut stale): (Vec<Run>, Vec<Run>) =
        runs.iter().filter(|run| run.size <= budget).partition(|run| run.last.is_none());
    let mut chosen = Vec::new();
    let mut left = budget;
    let mut drawer = Drawer::default();
    let mut sums = Sums::new(fresh.iter().map(|run| u128::from(run.size) * u128::from(run.parts)));
    let mut all = true;
    while sums.all > 0 {
        let index = sums.find(chance.below(sums.all));
        let Some(run) = fresh.get(index) else { break };
        if run.size > left {
            // Nothing of this run fits any more.
            all = false;
            let rest = u128::from(drawer.left(index, run)) * u128::from(run.size);
            sums.take(index, rest);
            continue;
        }
        let Some(part) = drawer.draw(index, run, chance) else { break };
        sums.take(index, run.size.into());
        left -= run.size;
        chosen.push((run.volume, part));
    }
    if all {
        drawer = Drawer::default();
        // Cached: what is drawn at each look is no order.
        stale.sort_by_cached_key(|run| (run.last, chance.below(1 << 64)));
        for (index, run) in stale.iter().enumerate() {
            while run.size <= left
                && let Some(part) = drawer.draw(index, run, chance)
            {
                left -= run.size;
                chosen.push((run.volume, part));
            }
        }
    }
    chosen.sort_unstable();
    chosen
}

/// Runs of parts that follow each other in a volume: the volume, the first
/// part, and how many.
pub fn joined(chosen: &[Chosen]) -> Vec<(usize, u32, u32)> {
    let mut joined: Vec<(usize, u32, u32)> = Vec::new();
    for (volume, part) in chosen {
        match joined.last_mut() {
            Some((of, first, parts)) if of == volume && first.saturating_add(*parts) == *part => {
                *parts += 1;
            }
            _ => joined.push((*volume, *part, 1)),
        }
    }
    joined
}

/// How many volumes have parts that the budget can never hold, and the size
/// of the largest of these.
pub fn too_large(runs: &[Run], budget: u64) -> Option<(usize, u64)> {
    let large = || runs.iter().filter(|run| run.size > budget);
    let volumes: HashSet<usize> = large().map(|run| run.volume).collect();
    large().map(|run| run.size).max().map(|size| (volumes.len(), size))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn run(volume: usize, first: u32, parts: u32, size: u64, last: Option<i64>) -> Run {
        Run { volume, first, parts, size, last: last.map(at) }
    }

    #[test]
    fn sums_find_what_they_were_given() {
        let weights = [3_u128, 0, 5, 1, 0, 0, 7, 2, 4];
        let mut sums = Sums::new(weights.into_iter());
        assert_eq!(sums.all, 22);
        let found = |sums: &Sums| (0..sums.all).map(|at| sums.find(at)).collect::<Vec<_>>();
        let spread = |weights: &[u128]| {
            let each = weights.iter().enumerate();
            each.flat_map(|(i, w)| std::iter::repeat_n(i, usize::try_from(*w).unwrap()))
                .collect::<Vec<_>>()
        };
        assert_eq!(found(&sums), spread(&weights));
        sums.take(2, 5);
        sums.take(6, 1);
        assert_eq!(found(&sums), spread(&[3, 0, 0, 1, 0, 0, 6, 2, 4]));
        assert_eq!(Sums::new(std::iter::empty()).all, 0);
    }

    #[test]
    fn what_was_never_sampled_comes_first_then_the_longest_ago() {
        let runs = [run(0, 0, 2, 4, Some(20)), run(0, 2, 1, 4, None), run(1, 0, 2, 4, Some(10))];
        for seed in 0..50 {
            let choose = |budget| choose(&runs, budget, &mut Chance::of(seed));
            assert_eq!(choose(3), []);
            assert_eq!(choose(7), [(0, 2)]);
            assert_eq!(choose(12), [(0, 2), (1, 0), (1, 1)]);
            assert_eq!(choose(100).len(), 5);
        }
    }

    #[test]
    fn room_that_is_left_is_not_filled_with_what_was_sampled() {
        let runs = [run(0, 0, 8, 10, None), run(1, 0, 1, 3, Some(10))];
        for seed in 0..50 {
            assert_eq!(choose(&runs, 25, &mut Chance::of(seed)).len(), 2);
        }
    }

    #[test]
    fn every_byte_is_as_likely_as_the_next() {
        // Volume 1 has three times the bytes of volume 0, in larger parts.
        let runs = [run(0, 0, 100, 1, None), run(1, 0, 30, 10, None)];
        let mut of_first = 0;
        let mut chance = Chance::of(1);
        for _ in 0..4000 {
            of_first += usize::from(choose(&runs, 10, &mut chance)[0].0 == 0);
        }
        // With a small part first nine small ones follow: the first decides.
        assert!((900..1100).contains(&of_first), "{of_first}");
    }

    #[test]
    fn parts_that_follow_each_other_are_joined() {
        let chosen = [(0, 3), (0, 4), (0, 6), (1, 7), (1, 8)];
        assert_eq!(joined(&chosen), [(0, 3, 2), (0, 6, 1), (1, 7, 2)]);
    }

    #[test]
    fn what_no_budget_holds_is_told() {
        let runs = [run(0, 0, 3, 16, None), run(0, 3, 1, 5, None), run(1, 0, 1, 4, Some(1))];
        assert_eq!(too_large(&runs, 16), None);
        assert_eq!(too_large(&runs, 4), Some((1, 16)));
        assert_eq!(too_large(&runs, 3), Some((2, 16)));
    }

    fn some_runs() -> impl Strategy<Value = Vec<Run>> {
        let one = (0..6_u32, 1..40_u64, prop::option::of(0..5_i64), any::<bool>());
        prop::collection::vec(one, 1..12).prop_map(|list| {
            // Each volume: a run, and often a shorter last part.
            list.into_iter()
                .enumerate()
                .flat_map(|(volume, (parts, size, last, short))| {
                    let rest = u32::from(short || parts == 0);
                    [
                        run(volume, 0, parts, size, last),
                        run(volume, parts, rest, size.div_ceil(3), last),
                    ]
                })
                .filter(|run| run.parts > 0)
                .collect()
        })
    }

    proptest! {
        #[test]
        fn the_budget_holds_and_nothing_comes_out_of_turn(
            runs in some_runs(), budget in 0..300_u64, seed in any::<u64>()
        ) {
            let parts: BTreeMap<Chosen, &Run> = runs
                .iter()
                .flat_map(|run| (run.first..run.first + run.parts).map(move |part| ((run.volume, part), run)))
                .collect();
            let chosen = choose(&runs, budget, &mut Chance::of(seed));
            prop_assert_eq!(&chosen, &choose(&runs, budget, &mut Chance::of(seed)));
            prop_assert!(chosen.is_sorted_by(|a, b| a < b), "one comes twice");
            let size: u64 = chosen.iter().map(|part| parts[part].size).sum();
            prop_assert!(size <= budget);
            let left = budget - size;
            let fits = parts.values().any(|run| run.size <= budget);
            prop_assert_eq!(chosen.is_empty(), !fits);
            // What was passed over did not fit: beside what came before it.
            let out: Vec<_> = parts.iter().filter(|(part, _)| !chosen.contains(part)).collect();
            let fresh_out = out.iter().filter(|(_, run)| run.last.is_none() && run.size <= budget);
            prop_assert!(fresh_out.clone().all(|(_, run)| run.size > left));
            if fresh_out.count() > 0 {
                prop_assert!(chosen.iter().all(|part| parts[part].last.is_none()));
            }
            for (_, passed) in out.iter().filter(|(_, run)| run.last.is_some()) {
                let later: u64 = chosen
                    .iter()
                    .filter(|part| parts[part].last > passed.last)
                    .map(|part| parts[part].size)
                    .sum();
                prop_assert!(later == 0 || passed.size > left + later);
            }
        }

        /// Run after run, as cron starts them: all that fits has its turn,
        /// and nothing a second one before.
        #[test]
        fn every_part_is_chosen_sooner_or_later(
            runs in some_runs(), budget in 14..60_u64, seed in any::<u64>()
        ) {
            let mut parts: BTreeMap<Chosen, (u64, Option<i64>)> = BTreeMap::new();
            for run in &runs {
                for part in run.first..run.first + run.parts {
                    if run.size <= budget {
                        parts.insert((run.volume, part), (run.size, None));
                    }
                }
            }
            let mut chance = Chance::of(seed);
            let mut rounds = 0;
            while parts.values().any(|(_, last)| last.is_none()) {
                rounds += 1;
                prop_assert!(rounds <= parts.len(), "a round brought nothing new");
                let now: Vec<Run> = parts
                    .iter()
                    .map(|((volume, part), (size, last))| run(*volume, *part, 1, *size, *last))
                    .collect();
                for part in choose(&now, budget, &mut chance) {
                    parts.get_mut(&part).unwrap().1 = Some(rounds.try_into().unwrap());
                }
            }
        }
    }
}
