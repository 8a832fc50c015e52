//! A retention: which snapshots of a dataset stay for themselves.

use std::collections::HashSet;
use std::fmt;
use std::hash::Hash;
use std::str::FromStr;

use jiff::Timestamp;

use crate::window::Zone;

/// What a rule counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rule {
    Last,
    Daily,
    Weekly,
    Monthly,
    Yearly,
}

const RULES: [(&str, Rule); 5] = [
    ("last", Rule::Last),
    ("daily", Rule::Daily),
    ("weekly", Rule::Weekly),
    ("monthly", Rule::Monthly),
    ("yearly", Rule::Yearly),
];

/// The rules of `--keep`, and how far each goes back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Retention {
    rules: Vec<(Rule, usize)>,
}

impl FromStr for Retention {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut rules: Vec<(Rule, usize)> = Vec::new();
        for part in text.split(',') {
            let wrong = || format!("'{part}' is no rule, such as daily=7 or yearly=all");
            let (name, count) = part.split_once('=').ok_or_else(wrong)?;
            let (_, rule) =
                RULES.into_iter().find(|(known, _)| *known == name).ok_or_else(wrong)?;
            let digits = !count.is_empty() && count.bytes().all(|byte| byte.is_ascii_digit());
            let count = match count {
                "all" => usize::MAX,
                count if digits => count.parse().map_err(|_| wrong())?,
                _ => return Err(wrong()),
            };
            if rules.iter().any(|(known, _)| *known == rule) {
                return Err(format!("'{name}' comes twice"));
            }
            rules.push((rule, count));
        }
        if rules.iter().all(|(_, count)| *count == 0) {
            return Err("it would keep nothing".to_owned());
        }
        Ok(Self { rules })
    }
}

impl Retention {
    /// Whether it asks which day a time is on.
    pub fn asks_for_days(&self) -> bool {
        self.rules.iter().any(|(rule, _)| *rule != Rule::Last)
    }

    /// Why each of these stays; those without a reason may go. They are what
    /// is there of one dataset, the newest first: what each is, and when it
    /// was taken. What comes twice counts once among the `last`.
    ///
    /// A rule takes the newest of each of its days, weeks, months or years,
    /// and looks at what is there alone: if others of those that may go are
    /// gone, it takes the same again. Held by `prune::tests`.
    pub fn reasons<K: Eq + Hash>(
        &self,
        newest_first: &[(K, Timestamp)],
        zone: Option<&Zone>,
    ) -> Vec<Vec<String>> {
        let mut reasons = vec![Vec::new(); newest_first.len()];
        for (rule, count) in &self.rules {
            let (mut things, mut days) = (HashSet::new(), HashSet::new());
            for ((what, time), reasons) in newest_first.iter().zip(&mut reasons) {
                if *rule == Rule::Last {
                    if things.len() < *count && things.insert(what) {
                        reasons.push(rule.to_string());
                    }
                } else if let Some(day) = zone.map(|zone| rule.of(*time, zone))
                    && days.len() < *count
                    && days.insert(day.clone())
                {
                    reasons.push(format!("{rule} {day}"));
                }
            }
        }
        reasons
    }
}

impl Rule {
    /// The day, week, month or year of a time.
    fn of(self, time: Timestamp, zone: &Zone) -> String {
        let date = zone.date(time);
        match self {
            Self::Last => String::new(),
            Self::Daily => date.to_string(),
            Self::Weekly => {
                let week = date.iso_week_date();
                format!("{:04}-W{:02}", week.year(), week.week())
            }
            Self::Monthly => date.strftime("%Y-%m").to_string(),
            Self::Yearly => date.strftime("%Y").to_string(),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = RULES.into_iter().find(|(_, rule)| rule == self).map(|(name, _)| name);
        f.write_str(name.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reasons(keep: &str, zone: &str, times: &[&str]) -> Vec<String> {
        let mut times: Vec<(usize, Timestamp)> =
            times.iter().map(|time| time.parse().unwrap()).enumerate().collect();
        times.sort_by_key(|(_, time)| std::cmp::Reverse(*time));
        let retention: Retention = keep.parse().unwrap();
        let reasons = retention.reasons(&times, Some(&Zone::named(zone).unwrap()));
        reasons.iter().map(|reasons| reasons.join(", ")).collect()
    }

    #[test]
    fn refuses_what_is_no_retention() {
        for (text, why) in [
            ("", "'' is no rule, such as daily=7 or yearly=all"),
            ("last", "'last' is no rule, such as daily=7 or yearly=all"),
            ("last=+3", "'last=+3' is no rule, such as daily=7 or yearly=all"),
            ("daily=7,", "'' is no rule, such as daily=7 or yearly=all"),
            ("hourly=7", "'hourly=7' is no rule, such as daily=7 or yearly=all"),
            ("last=none", "'last=none' is no rule, such as daily=7 or yearly=all"),
            ("last=3,last=4", "'last' comes twice"),
            ("last=0", "it would keep nothing"),
            ("last=0,yearly=0", "it would keep nothing"),
        ] {
            assert_eq!(text.parse::<Retention>(), Err(why.to_owned()), "{text}");
        }
        assert!("last=0,yearly=all".parse::<Retention>().is_ok());
    }

    #[test]
    fn a_day_ends_at_midnight_on_the_wall_to_the_second() {
        let times = ["2026-03-01T22:59:59Z", "2026-03-01T23:00:00Z"];
        assert_eq!(
            reasons("daily=2", "Europe/Berlin", &times),
            ["daily 2026-03-02", "daily 2026-03-01"]
        );
        assert_eq!(reasons("daily=2", "UTC", &times), ["daily 2026-03-01", ""]);
    }

    #[test]
    fn a_week_is_that_of_iso_and_begins_on_monday() {
        // Sunday and Monday; the first days of 2027 are of the last week of 2026.
        let times = ["2026-11-22T23:59:59Z", "2026-11-23T00:00:00Z", "2027-01-03T12:00:00Z"];
        assert_eq!(
            reasons("weekly=all", "UTC", &times),
            ["weekly 2026-W53", "weekly 2026-W48", "weekly 2026-W47"]
        );
    }

    #[test]
    fn days_without_a_snapshot_do_not_count() {
        let times = ["2026-01-01T08:00:00Z", "2026-01-01T09:00:00Z", "2026-06-01T00:00:00Z"];
        assert_eq!(reasons("daily=2", "UTC", &times), ["daily 2026-06-01", "daily 2026-01-01", ""]);
        assert_eq!(
            reasons("last=1,monthly=all,yearly=1", "UTC", &times),
            ["last, monthly 2026-06, yearly 2026", "monthly 2026-01", ""]
        );
    }

    #[test]
    fn what_comes_twice_is_one_of_the_last() {
        let time = |hour: u32| format!("2026-01-01T{hour:02}:00:00Z").parse().unwrap();
        let there = [("wed", time(9)), ("mon", time(8)), ("wed", time(7)), ("sun", time(6))];
        let retention: Retention = "last=3".parse().unwrap();
        assert!(!retention.asks_for_days());
        let reasons = retention.reasons(&there, None);
        let stays: Vec<bool> = reasons.iter().map(|reasons| !reasons.is_empty()).collect();
        assert_eq!(stays, [true, true, false, true]);
    }

    #[test]
    fn a_day_that_comes_twice_on_the_wall_is_one_day() {
        // Clocks in Havana go back from 01:00 to 00:00.
        let times = ["2026-11-01T04:30:00Z", "2026-11-01T05:30:00Z"];
        assert_eq!(reasons("daily=all", "America/Havana", &times), ["daily 2026-11-01", ""]);
    }
}
