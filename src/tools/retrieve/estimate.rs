//! What bringing streams back costs and how long it takes, before anything is
//! asked; and what it must not cost.

use std::cell::Cell;

use jiff::civil::Date;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::prices::{Bring, Money, Prices};
use crate::storage::{Tier, class};
use crate::tools::retrieve::ahead;
use crate::units;

/// What is needed of the service, and of the disk.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Needs {
    /// How many streams come back.
    pub streams: usize,
    /// How many archives they are.
    pub archives: usize,
    /// What is to be brought up: a job each.
    pub jobs: Vec<Bring>,
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
    /// What it takes in a tier; none, if something of it has no such tier.
    ///
    /// # Errors
    /// When the table of prices lacks something.
    pub fn new(
        needs: &Needs,
        tier: Tier,
        rate: Option<u64>,
        prices: &Prices,
    ) -> Result<Option<Self>> {
        let (mut minutes_least, mut minutes_most) = (u64::MAX, 0);
        for bring in &needs.jobs {
            let minutes = class::minutes(bring.class.as_deref(), tier);
            let Some((least, most)) = minutes else { return Ok(None) };
            minutes_least = minutes_least.min(least);
            minutes_most = minutes_most.max(most);
        }
        if needs.jobs.is_empty() {
            minutes_least = 0;
        }
        let days = ahead::days(needs.size, rate);
        let retrieval_price = retrieval(prices, |_| tier, &needs.jobs, days)?;
        let transfer_price = prices.transfer(needs.size);
        Ok(Some(Self {
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
        }))
    }
}

/// What jobs cost together: those of a class in one sum, so that no billionths
/// are lost.
///
/// # Errors
/// When the table of prices lacks something.
pub fn retrieval<'b>(
    prices: &Prices,
    tier: impl Fn(Option<&str>) -> Tier,
    jobs: impl IntoIterator<Item = &'b Bring>,
    days: u16,
) -> Result<Money> {
    let mut sum = Money::default();
    let (mut count, mut bytes) = (0_u64, 0_u64);
    for bring in jobs {
        if bring.class.is_some() {
            sum = sum.and(prices.bring(tier(bring.class.as_deref()), bring, days)?);
        } else {
            (count, bytes) = (count + 1, bytes.saturating_add(bring.up));
        }
    }
    Ok(sum.and(prices.retrieval(tier(None), count, bytes)))
}

/// The tier in which what is of a class is brought up, where the user has asked
/// for one, or not.
pub fn tier_of(asked: Option<Tier>, class: Option<&str>) -> Tier {
    asked.unwrap_or_else(|| class::usual_tier(class))
}

/// The tier in words.
pub fn words(asked: Option<Tier>) -> String {
    asked.map_or_else(|| "usual".to_owned(), |tier| tier.to_string())
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
        let (jobs, transfer) = (needs.jobs.clone(), prices.transfer(needs.size));
        let days = ahead::days(needs.size, self.rate);
        Some(Budget { limit, prices, jobs, transfer, days, spent: Cell::default() })
    }
}

/// What jobs may cost, and have.
#[derive(Clone, Debug)]
pub struct Budget {
    limit: Money,
    prices: Prices,
    /// What each archive's job brings up.
    jobs: Vec<Bring>,
    /// For how many days copies are kept, where one chooses.
    days: u16,
    /// What the download costs.
    transfer: Money,
    /// What the jobs cost that were begun.
    spent: Cell<Money>,
}

impl Budget {
    /// What these cost.
    fn of(&self, asked: Option<Tier>, jobs: impl IntoIterator<Item = usize>) -> Result<Money> {
        let jobs = jobs.into_iter().filter_map(|index| self.jobs.get(index));
        retrieval(&self.prices, |class| tier_of(asked, class), jobs, self.days)
    }

    /// Whether these archives may be asked for, on top of what was.
    ///
    /// # Errors
    /// No, if not.
    pub fn check(&self, asked: Option<Tier>, new: impl IntoIterator<Item = usize>) -> Result<()> {
        let retrieval = self.of(asked, new)?.and(self.spent.get());
        let price = retrieval.and(self.transfer);
        if price <= self.limit {
            return Ok(());
        }
        let Prices { currency, date, .. } = &self.prices;
        Err(Error::No(format!(
            "it would cost {price} {currency} ({} retrieval {retrieval}, transfer {}; prices of \
             {date}), over --max-cost {}",
            words(asked),
            self.transfer,
            self.limit
        )))
    }

    /// An archive was asked for.
    ///
    /// # Errors
    /// When the table of prices lacks something.
    pub fn spend(&self, tier: Tier, index: usize) -> Result<()> {
        self.spent.set(self.spent.get().and(self.of(Some(tier), [index])?));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn needs() -> Needs {
        let job = Bring { class: None, up: 4 * GIB, size: 4 * GIB, reads: 1 };
        let jobs = vec![job; 25];
        Needs { streams: 3, archives: 30, jobs, size: 100 * GIB, disk: 0 }
    }

    fn money(text: &str) -> Money {
        text.parse().unwrap()
    }

    #[test]
    fn a_plan_has_hours_and_prices_of_its_tier() {
        let prices = Prices::read(None).unwrap();
        let of = |needs: &Needs, tier, rate| Restore::new(needs, tier, rate, &prices).unwrap();
        let line = of(&needs(), Tier::Bulk, Some(GIB)).unwrap();
        assert_eq!((line.minutes_least, line.minutes_most, line.seconds), (300, 720, Some(100)));
        assert_eq!((line.archives, line.jobs), (30, 25));
        assert_eq!(line.retrieval_price, money("0.000625"));
        assert_eq!(line.transfer_price, money("9"));
        assert_eq!(line.price, money("9.000625"));
        let line = of(&needs(), Tier::Expedited, None).unwrap();
        assert_eq!((line.retrieval_price, line.seconds), (money("3.25"), None));
        let mut deep = needs();
        deep.jobs.iter_mut().for_each(|job| job.class = Some("DEEP_ARCHIVE".to_owned()));
        assert_eq!(of(&deep, Tier::Expedited, None), None, "there is none");
        let line = of(&deep, Tier::Bulk, Some(GIB)).unwrap();
        assert_eq!((line.minutes_least, line.minutes_most), (0, 48 * 60));
        // Three days of a copy at the price of STANDARD are in it.
        let up = money("0.25").and(money("0.000625")).and(money("0.00001"));
        assert_eq!(line.retrieval_price.0 - up.0, 226_849_325);
    }

    #[test]
    fn the_manual_shows_such_a_line() {
        let manual = include_str!("../../../man/glacier-lines.5");
        let needs = Needs { disk: 100 * GIB, ..needs() };
        let prices = Prices::read(None).unwrap();
        let line = Restore::new(&needs, Tier::Bulk, Some(10_000_000), &prices).unwrap();
        let text = serde_json::to_string(&line).unwrap();
        assert!(manual.lines().any(|line| line == text), "{text}");
    }

    #[test]
    fn what_costs_too_much_is_refused_with_figures_and_date() {
        let prices = Prices::read(None).unwrap();
        let bounds =
            |limit| Bounds { cost: Some((money(limit), prices.clone())), ..Bounds::default() };
        let budget = bounds("10").budget(&needs()).unwrap();
        budget.check(Some(Tier::Bulk), 0..25).unwrap();
        let error = budget.check(Some(Tier::Expedited), 0..25).unwrap_err();
        assert_eq!(
            (error.code(), error.to_string().as_str()),
            (
                1,
                "it would cost 12.25 USD (Expedited retrieval 3.25, transfer 9.00; prices of \
                 2026-06-01), over --max-cost 10.00"
            )
        );
        // What the service has already costs nothing again.
        budget.check(Some(Tier::Expedited), 0..7).unwrap();
        // What was begun counts when more is needed.
        (0..7).for_each(|index| budget.spend(Tier::Expedited, index).unwrap());
        budget.check(Some(Tier::Expedited), [3]).unwrap_err();
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
