//! The pages of a list: all of them, and an end.

use std::collections::HashSet;

use super::{Attempt, Failure};
use crate::hash::tree::Hash;

/// Pages of a list, at most: of fifty each, more than anything here has.
const MOST: usize = 10_000;

/// Where a list goes on. Each of its pages names the next one; a service that
/// names one that was there, or always another, is asked no more.
#[derive(Debug, Default)]
pub struct Pages {
    marker: Option<String>,
    /// Hashes of the markers so far.
    seen: HashSet<[u8; 32]>,
}

impl Pages {
    /// What the next page is asked for by; nothing for the first.
    pub fn marker(&self) -> Option<String> {
        self.marker.clone()
    }

    /// Goes on to the page that an answer names; whether there is one.
    ///
    /// # Errors
    /// When the list would not end.
    pub fn turn(&mut self, next: Option<String>) -> Attempt<bool> {
        let Some(next) = next else { return Ok(false) };
        if !self.seen.insert(Hash::of(next.as_bytes()).0) {
            return Err(Failure::Endless("the service's list goes round in a circle".to_owned()));
        }
        if self.seen.len() >= MOST {
            return Err(Failure::Endless(format!("the service's list has over {MOST} pages")));
        }
        self.marker = Some(next);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(next: impl Fn(usize) -> Option<String>) -> (usize, Attempt<bool>) {
        let mut pages = Pages::default();
        let mut count = 1;
        loop {
            let turned = pages.turn(next(count));
            match turned {
                Ok(true) => count += 1,
                end => return (count, end),
            }
        }
    }

    #[test]
    fn a_list_has_an_end() {
        let whole = |last: usize| move |page: usize| (page < last).then(|| page.to_string());
        assert_eq!(pages(whole(1)), (1, Ok(false)));
        assert_eq!(pages(whole(MOST)), (MOST, Ok(false)));
        let circle = |length: usize| move |page: usize| Some((page % length).to_string());
        let round = || Err(Failure::Endless("the service's list goes round in a circle".into()));
        for length in 1..5 {
            assert_eq!(pages(circle(length)), (length + 1, round()));
        }
        let (count, end) = pages(|page| Some(page.to_string()));
        assert_eq!(count, MOST);
        assert_eq!(end, Err(Failure::Endless("the service's list has over 10000 pages".into())));
    }
}
