//! Failures none of which ends the work.

use super::complain;
use crate::error::{Error, Result};

/// Keeps the worst failure for the end, as it gives the exit code; of equal
/// ones the first. All others are told as they are met.
#[derive(Debug, Default)]
pub struct Worst(Option<(u8, Error)>);

impl Worst {
    /// Takes a failure. What the same command does not cure is worse than what
    /// it may.
    pub fn add(&mut self, error: Error) {
        let rank = u8::from(!matches!(error, Error::Unfinished(_)));
        self.add_as(rank, error);
    }

    /// The same, where the caller says how bad it is.
    pub fn add_as(&mut self, rank: u8, error: Error) {
        if self.0.as_ref().is_none_or(|(worst, _)| rank > *worst) {
            self.0.replace((rank, error)).iter().for_each(|(_, other)| complain(other));
        } else {
            complain(&error);
        }
    }

    /// Ends the work.
    ///
    /// # Errors
    /// The worst, if any failed.
    pub fn finish(self) -> Result<()> {
        self.0.map_or(Ok(()), |(_, worst)| Err(worst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_the_worst_is_kept() {
        let later = |text: &str| Error::Unfinished(text.to_owned());
        let data = |text: &str| Error::Data(text.to_owned());
        let kept = |errors: Vec<Error>| {
            let mut worst = Worst::default();
            for error in errors {
                worst.add(error);
            }
            worst.finish().map_err(|error| error.to_string())
        };
        assert_eq!(kept(vec![]), Ok(()));
        assert_eq!(kept(vec![later("1"), later("2")]), Err("1".to_owned()));
        assert_eq!(kept(vec![later("1"), data("2"), later("3"), data("4")]), Err("2".to_owned()));
        let mut worst = Worst::default();
        for code in [65, 1, 74, 74, 66] {
            worst.add_as(code, Error::Command(code, String::new()));
        }
        assert_eq!(worst.finish().unwrap_err().code(), 74);
    }
}
