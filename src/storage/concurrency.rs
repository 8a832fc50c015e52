//! Lanes: how many requests are made at a time.
//!
//! A timeout, a 408 or throttling closes one, a run of requests that work
//! opens it again. Whatever is tried again needs a free lane too, or
//! requests that fail together would come back together.

use std::cell::Cell;

use tokio::sync::Notify;

use super::Failure;

/// Requests that must work in a row before a lane is opened again.
const CONFIDENCE: u32 = 20;

/// The lanes of one tool; it is on one thread.
#[derive(Debug)]
pub struct Lanes {
    most: usize,
    open: Cell<usize>,
    busy: Cell<usize>,
    /// Requests that worked in a row.
    worked: Cell<u32>,
    changed: Notify,
}

/// A lane that is taken; it is free when this is dropped.
#[derive(Debug)]
pub struct Lane<'a>(&'a Lanes);

impl Lanes {
    /// So many lanes, at least one, all open.
    pub fn new(most: usize) -> Self {
        let most = most.max(1);
        Self {
            most,
            open: Cell::new(most),
            busy: Cell::default(),
            worked: Cell::default(),
            changed: Notify::new(),
        }
    }

    /// How many are open.
    pub fn open(&self) -> usize {
        self.open.get()
    }

    /// Waits for a free lane: until a request that has one ends.
    pub async fn enter(&self) -> Lane<'_> {
        loop {
            let changed = self.changed.notified();
            if self.busy.get() < self.open.get() {
                self.busy.set(self.busy.get() + 1);
                return Lane(self);
            }
            changed.await;
        }
    }

    /// A request has worked.
    pub fn worked(&self) {
        self.worked.set(self.worked.get() + 1);
        if self.worked.get() >= CONFIDENCE {
            self.worked.set(0);
            self.open.set((self.open.get() + 1).min(self.most));
            self.changed.notify_waiters();
        }
    }

    /// A request has failed.
    pub fn failed(&self, failure: &Failure) {
        self.worked.set(0);
        if matches!(failure, Failure::Overload(..)) {
            self.open.set(self.open.get().saturating_sub(1).max(1));
        }
    }
}

impl Drop for Lane<'_> {
    fn drop(&mut self) {
        self.0.busy.set(self.0.busy.get().saturating_sub(1));
        self.0.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[test]
    fn timeouts_close_lanes_and_confidence_opens_them() {
        let lanes = Lanes::new(2);
        lanes.failed(&Failure::Passing("reset".into()));
        assert_eq!(lanes.open(), 2);
        for _ in 0..3 {
            lanes.failed(&Failure::overload("408"));
        }
        assert_eq!(lanes.open(), 1);
        (0..CONFIDENCE - 1).for_each(|_| lanes.worked());
        assert_eq!(lanes.open(), 1);
        lanes.worked();
        assert_eq!(lanes.open(), 2);
        (0..5 * CONFIDENCE).for_each(|_| lanes.worked());
        assert_eq!(lanes.open(), 2);
    }

    #[test]
    fn a_closed_lane_is_not_entered_though_one_ends() {
        let lanes = Lanes::new(2);
        let first = lanes.enter().now_or_never().unwrap();
        let second = lanes.enter().now_or_never().unwrap();
        assert!(lanes.enter().now_or_never().is_none());
        lanes.failed(&Failure::overload("408"));
        drop(first);
        assert!(lanes.enter().now_or_never().is_none());
        drop(second);
        assert!(lanes.enter().now_or_never().is_some());
    }
}
