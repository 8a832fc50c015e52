//! Patience: growing pauses with jitter around single attempts.
//!
//! The service answers 408, 500 and throttling now and then, and uplinks die
//! for hours; peers that gave up after a few tries lost whole nights.

use std::time::{Duration, Instant};

use super::{Attempt, Failure};

/// The first pause is around this long.
const FIRST: Duration = Duration::from_secs(1);

/// No pause is longer than this.
const LONGEST: Duration = Duration::from_mins(3);

/// How often an answer or a download may be damaged before it is believed
/// that it is so at the service.
const DAMAGED: u32 = 5;

/// The pause after the `failures`th failure in a row (from 1): doubled each
/// time, and between half and the whole of that, as `jitter` (0.0 to 1.0)
/// says, so that many senders do not come back at once.
pub fn pause(failures: u32, jitter: f64) -> Duration {
    let doubled = FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST);
    doubled.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
}

/// Where jitter comes from: no secret depends on it.
fn jitter() -> f64 {
    let mut byte = [0; 1];
    // Without a source of chance all senders pause alike, which still works.
    let _ = getrandom::fill(&mut byte);
    let [byte] = byte;
    f64::from(byte) / 255.0
}

/// How long to go on after failures that may pass.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// From the first failure in a row to giving up.
    pub limit: Duration,
}

/// Failures in a row, and the time they began.
#[derive(Debug, Default)]
pub struct Trouble {
    failures: u32,
    since: Option<Instant>,
    /// The last failure was that of credentials, which were loaded anew.
    reloaded: bool,
    /// How often something came back damaged.
    damaged: u32,
}

impl Trouble {
    /// Whether this is not the first failure in a row.
    pub fn is_repeated(&self) -> bool {
        self.failures > 0
    }
}

impl Patience {
    /// Notes a failure. The pause before the next attempt, or the failure
    /// itself when it will not pass or patience is at its end. Credentials
    /// that were refused have been dropped, and those that are loaded then
    /// are given one chance. What comes back damaged again and again is
    /// damaged at the other end.
    ///
    /// # Errors
    /// The failure that ends the work.
    pub fn after(&self, trouble: &mut Trouble, failure: Failure) -> Attempt<Duration> {
        trouble.failures += 1;
        let since = *trouble.since.get_or_insert_with(Instant::now);
        let reloaded = std::mem::take(&mut trouble.reloaded);
        let mut asked = Duration::ZERO;
        let passing = match failure {
            Failure::Overload(_, wait) => {
                asked = wait.unwrap_or_default();
                true
            }
            Failure::Passing(_) | Failure::Capacity(_) | Failure::Policy(_) => true,
            Failure::Damaged(_) => {
                trouble.damaged += 1;
                trouble.damaged < DAMAGED
            }
            Failure::Credentials(_) | Failure::Denied(_) => {
                trouble.reloaded = true;
                !reloaded
            }
            Failure::Missing(_)
            | Failure::Refused(_)
            | Failure::Invalid(_)
            | Failure::Exists(_)
            | Failure::Elsewhere(_)
            | Failure::Archived(_)
            | Failure::Locked(_)
            | Failure::Endless(_)
            | Failure::Local(_)
            | Failure::Unsafe(_) => false,
        };
        // No sooner than the service asks for.
        let pause = pause(trouble.failures, jitter()).max(asked);
        if passing && since.elapsed() + pause <= self.limit {
            // The services of unit tests are quicker.
            Ok(if cfg!(test) { pause / 1000 } else { pause })
        } else {
            Err(failure)
        }
    }

    /// Repeats an attempt until it works or patience is at its end.
    ///
    /// # Errors
    /// The failure that ended it.
    pub async fn with<T>(&self, mut attempt: impl AsyncFnMut() -> Attempt<T>) -> Attempt<T> {
        let mut trouble = Trouble::default();
        loop {
            match attempt().await {
                Ok(value) => return Ok(value),
                Err(failure) => tokio::time::sleep(self.after(&mut trouble, failure)?).await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_bounded() {
        assert_eq!(pause(1, 1.0), Duration::from_secs(1));
        assert_eq!(pause(1, 0.0), Duration::from_millis(500));
        assert_eq!(pause(4, 1.0), Duration::from_secs(8));
        assert_eq!(pause(u32::MAX, 1.0), LONGEST);
        for failures in 1..20 {
            assert!(pause(failures, 0.0) <= pause(failures + 1, 0.0));
        }
    }

    #[test]
    fn patience_ends_and_refusals_end_at_once() {
        let patience = Patience { limit: Duration::from_mins(1) };
        let late = || Trouble {
            failures: 3,
            since: Instant::now().checked_sub(Duration::from_secs(59)),
            ..Trouble::default()
        };
        let passing = Failure::Passing("connection reset".into());
        assert!(patience.after(&mut Trouble::default(), passing.clone()).is_ok());
        assert_eq!(patience.after(&mut late(), passing.clone()), Err(passing));
        let refused = Failure::Refused("no".into());
        assert_eq!(patience.after(&mut Trouble::default(), refused.clone()), Err(refused));
        let mut trouble = Trouble::default();
        let expired = Failure::Credentials("expired".into());
        assert!(patience.after(&mut trouble, expired.clone()).is_ok());
        assert!(patience.after(&mut trouble, expired).is_err());
    }

    #[test]
    fn credentials_have_one_chance_whatever_failed_before() {
        let patience = Patience { limit: Duration::from_hours(8) };
        let mut trouble = Trouble::default();
        for _ in 0..3 {
            assert!(patience.after(&mut trouble, Failure::Passing("no route".into())).is_ok());
        }
        let expired = || Failure::Credentials("expired".into());
        assert!(patience.after(&mut trouble, expired()).is_ok());
        assert!(patience.after(&mut trouble, expired()).is_err());
    }

    #[test]
    fn no_pause_is_shorter_than_the_service_asks() {
        let patience = Patience { limit: Duration::from_hours(8) };
        let busy = |wait| Failure::Overload("slow down".into(), wait);
        let pause = |wait| patience.after(&mut Trouble::default(), busy(wait)).unwrap() * 1000;
        assert_eq!(pause(Some(Duration::from_mins(9))), Duration::from_mins(9));
        assert!(pause(None) <= FIRST);
    }

    #[test]
    fn damage_is_believed_the_fifth_time() {
        let patience = Patience { limit: Duration::from_hours(8) };
        let mut trouble = Trouble::default();
        let damaged = || Failure::Damaged("other bytes".into());
        for _ in 0..4 {
            assert!(patience.after(&mut trouble, damaged()).is_ok());
        }
        assert!(patience.after(&mut trouble, damaged()).is_err());
    }
}
