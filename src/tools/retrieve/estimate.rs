//! What bringing streams back costs and how long it takes, before anything is
//! asked; and what it must not cost.

use std::cell::Cell;

use jiff::civil::Date;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::prices::{Money, Prices};
use crate::storage::{Tier, class};
use crate::units;

/// What is needed of the service, and of the disk.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Needs {
    /// How many streams come back.
    pub streams: usize,
    /// How many archives they are.
    pub archives: usize,
    /// What is to be brought up, in bytes: a job each.
    pub jobs: Vec<u64>,
    /// Bytes to be downloaded.
    pub size: u64,
    /// Bytes that are written to disk here.
    pub disk: u64,
}

/// A `restore` line.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(tag = "type", rename = "restore")]
pub struct Restore {
    /// In which tier.
    pub tier: String,
    /// How many streams come back.
    pub streams: usize,
    /// How many archives they are.
    pub archives: usize,
    /// How many of them are asked of the service.
    pub jobs: usize,
    /// Bytes to be downloaded.
    pub size: u64,
    /// Bytes that `--keep` or `--output` writes.
    pub disk: u64,
    /// Minutes until the first byte, at least.
    pub minutes_least: u64,
    /// And at most.
    pub minutes_most: u64,
    /// Seconds that the download takes at `--assume-rate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
    /// What bringing it up costs.
    pub retrieval_price: Money,
    /// What bringing it out of Amazon's network costs.
    pub transfer_price: Money,
    /// Both.
    pub price: Money,
    /// What prices are in.
    pub currency: String,
    /// When these were the prices.
    pub prices_date: Date,
}

impl Restore {
    /// What it takes in a tier.
    pub fn new(needs: &Needs, tier: Tier, rate: Option<u64>, prices: &Prices) -> Self {
        let (minutes_least, minutes_most) = class::VAULT.minutes(tier).unwrap_or_default();
        let retrieval_price = retrieval(prices, tier, needs.jobs.iter().copied());
        let transfer_price = prices.transfer(needs.size);
        Self {
            tier: tier.to_string(),
            streams: needs.streams,
            archives: needs.archives,
            jobs: needs.jobs.len(),
            size: needs.size,
            disk: needs.disk,
            minutes_least,
            minutes_most,
            seconds: rate.map(|rate| needs.size.div_ceil(rate.max(1))),
            retrieval_price,
            transfer_price,
            price: retrieval_price.and(transfer_price),
            currency: prices.currency.clone(),
            prices_date: prices.date,
        }
    }
}

/// What so many jobs cost, by the bytes that each brings up.
fn retrieval(prices: &Prices, tier: Tier, jobs: impl Iterator<Item = u64>) -> Money {
    let (count, bytes) =
        jobs.fold((0_u64, 0_u64), |(count, sum), bytes| (count + 1, sum.saturating_add(bytes)));
    prices.retrieval(tier, count, bytes)
}

/// What the user is ready to pay and to download, and what the line brings.
#[derive(Clone, Debug, Default)]
pub struct Bounds {
    /// No more than this, by these prices.
    pub cost: Option<(Money, Prices)>,
    /// No more bytes than these.
    pub bytes: Option<u64>,
    /// Bytes a second that are assumed.
    pub rate: Option<u64>,
}

impl Bounds {
    /// Whether so many bytes may be downloaded.
    ///
    /// # Errors
    /// No, if not.
    pub fn check(&self, needs: &Needs) -> Result<()> {
        match self.bytes {
            Some(most) if needs.size > most => Err(Error::No(format!(
                "{} would be downloaded, over --max-bytes {}; nothing is asked for",
                units::bytes(needs.size),
                units::bytes(most)
            ))),
            _ => Ok(()),
        }
    }

    /// The budget for the jobs of these needs.
    pub fn budget(&self, needs: &Needs) -> Option<Budget> {
        let (limit, prices) = self.cost.clone()?;
        let (sizes, transfer) = (needs.jobs.clone(), prices.transfer(needs.size));
        Some(Budget { limit, prices, sizes, transfer, spent: Cell::default() })
    }
}

/// What jobs may cost, and have.
#[derive(Clone, Debug)]
pub struct Budget {
    limit: Money,
    prices: Prices,
    /// What each archive's job brings up.
    sizes: Vec<u64>,
    /// What the download costs.
    transfer: Money,
    /// What the jobs cost that were begun.
    spent: Cell<Money>,
}

impl Budget {
    /// Whether these archives may be asked for, on top of what was.
    ///
    /// # Errors
    /// No, if not.
    pub fn check(&self, tier: Tier, new: impl IntoIterator<Item = usize>) -> Result<()> {
        let jobs: Vec<u64> =
            new.into_iter().filter_map(|index| self.sizes.get(index).copied()).collect();
        let retrieval = retrieval(&self.prices, tier, jobs.iter().copied()).and(self.spent.get());
        let price = retrieval.and(self.transfer);
        if price <= self.limit {
            return Ok(());
        }
        let Prices { currency, date, .. } = &self.prices;
        Err(Error::No(format!(
            "it would cost {price} {currency} ({tier} retrieval {retrieval}, transfer {}; prices \
             of {date}), over --max-cost {}",
            self.transfer, self.limit
        )))
    }

    /// An archive was asked for.
    pub fn spend(&self, tier: Tier, index: usize) {
        let jobs = self.sizes.get(index).copied();
        self.spent.set(self.spent.get().and(retrieval(&self.prices, tier, jobs.into_iter())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn needs() -> Needs {
        let jobs = vec![4 * GIB; 25];
        Needs { streams: 3, archives: 30, jobs, size: 100 * GIB, disk: 0 }
    }

    fn money(text: &str) -> Money {
        text.parse().unwrap()
    }

    #[test]
    fn a_plan_has_hours_and_prices_of_its_tier() {
        let prices = Prices::read(None).unwrap();
        let line = Restore::new(&needs(), Tier::Bulk, Some(GIB), &prices);
        assert_eq!((line.minutes_least, line.minutes_most, line.seconds), (300, 720, Some(100)));
        assert_eq!((line.archives, line.jobs), (30, 25));
        assert_eq!(line.retrieval_price, money("0.000625"));
        assert_eq!(line.transfer_price, money("9"));
        assert_eq!(line.price, money("9.000625"));
        let line = Restore::new(&needs(), Tier::Expedited, None, &prices);
        assert_eq!((line.retrieval_price, line.seconds), (money("3.25"), None));
    }

    #[test]
    fn the_manual_shows_such_a_line() {
        let manual = include_str!("../../../man/glacier-lines.5");
        let needs = Needs { disk: 100 * GIB, ..needs() };
        let prices = Prices::read(None).unwrap();
        let line = Restore::new(&needs, Tier::Bulk, Some(10_000_000), &prices);
        let text = serde_json::to_string(&line).unwrap();
        assert!(manual.lines().any(|line| line == text), "{text}");
    }

    #[test]
    fn what_costs_too_much_is_refused_with_figures_and_date() {
        let prices = Prices::read(None).unwrap();
        let bounds =
            |limit| Bounds { cost: Some((money(limit), prices.clone())), ..Bounds::default() };
        let budget = bounds("10").budget(&needs()).unwrap();
        budget.check(Tier::Bulk, 0..25).unwrap();
        let error = budget.check(Tier::Expedited, 0..25).unwrap_err();
        assert_eq!(
            (error.code(), error.to_string().as_str()),
            (
                1,
                "it would cost 12.25 USD (Expedited retrieval 3.25, transfer 9.00; prices of \
                 2026-06-01), over --max-cost 10.00"
            )
        );
        // What the service has already costs nothing again.
        budget.check(Tier::Expedited, 0..7).unwrap();
        // What was begun counts when more is needed.
        (0..7).for_each(|index| budget.spend(Tier::Expedited, index));
        budget.check(Tier::Expedited, [3]).unwrap_err();
    }

    #[test]
    fn too_many_bytes_are_refused() {
        let bounds = |bytes| Bounds { bytes, ..Bounds::default() };
        bounds(None).check(&needs()).unwrap();
        bounds(Some(100 * GIB)).check(&needs()).unwrap();
        let error = bounds(Some(100 * GIB - 1)).check(&needs()).unwrap_err();
        assert_eq!(error.code(), 1, "{error}");
    }
}
