//! Stamps: which line may be acted on when, by glacier-window(1)'s word.

use std::time::Duration;

use jiff::Timestamp;

use crate::error::{Error, Result};
use crate::line::Stamp;
use crate::window::{Window, Zone};

/// The clock is read again at least this often: a machine that slept, or a
/// clock that was set, is noticed.
pub const TICK: Duration = Duration::from_secs(30);

/// The different stamps of a stream's lines.
#[derive(Default)]
pub struct Gates {
    stamps: Vec<Stamp>,
    gates: Vec<Gate>,
}

/// When bytes may move; no window means always.
#[derive(Clone)]
pub struct Gate(Option<(Window, Zone)>);

impl Gates {
    /// The number of a stamp.
    ///
    /// # Errors
    /// When its window is none, or its zone is not known here.
    pub fn number(&mut self, stamp: Stamp) -> Result<usize> {
        if let Some(number) = self.stamps.iter().rposition(|known| *known == stamp) {
            return Ok(number);
        }
        let gate = match &stamp.window {
            None => None,
            Some(text) => {
                let window = Window::parse(text).map_err(Error::Data)?;
                let zone = stamp.tz.as_deref().map_or_else(Zone::local, Zone::named);
                Some((window, zone.map_err(Error::Configuration)?))
            }
        };
        self.stamps.push(stamp);
        self.gates.push(Gate(gate));
        Ok(self.gates.len() - 1)
    }

    /// The gate of a stamp.
    pub fn gate(&self, number: usize) -> Gate {
        self.gates.get(number).cloned().unwrap_or(Gate(None))
    }
}

impl Gate {
    /// Whether bytes may move now.
    pub fn is_open(&self) -> bool {
        self.0.as_ref().is_none_or(|(window, zone)| window.is_open(Timestamp::now(), zone))
    }

    /// When it opens next, if it is closed.
    pub fn opens(&self) -> Option<Timestamp> {
        let (window, zone) = self.0.as_ref()?;
        window.next_open(Timestamp::now(), zone)
    }

    /// Ends when the gate has been closed for `grace`.
    pub async fn closed(&self, grace: Duration) {
        loop {
            let Some((window, zone)) = &self.0 else { return std::future::pending().await };
            let now = Timestamp::now();
            if !window.is_open(now, zone) {
                tokio::time::sleep(grace).await;
                if !self.is_open() {
                    return;
                }
                continue;
            }
            let left = window.closes(now, zone).map_or(TICK, |closes| {
                Duration::try_from(closes.duration_since(now)).unwrap_or(Duration::ZERO)
            });
            tokio::time::sleep(left.min(TICK)).await;
        }
    }
}
