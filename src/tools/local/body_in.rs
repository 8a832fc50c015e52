//! A request's body on its way in, with what the fault plan has for it.

use std::future::pending;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::{sleep, timeout};

use super::faults::Action;
use super::reply::{Answer, Refusal};
use crate::tools::local::access_log::Record;

/// Why no more of a body comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The connection broke, or what came on it is no body.
    Broken,
    /// No byte came for too long.
    Idle,
    /// The fault plan ends the connection.
    Dropped,
}

impl From<Cut> for Refusal {
    fn from(cut: Cut) -> Self {
        let message = match cut {
            Cut::Idle => "The body stood still for too long",
            Cut::Broken | Cut::Dropped => "The body ended before its Content-Length",
        };
        Self::new(408, "RequestTimeoutException", message)
    }
}

/// A request's body.
pub struct Inflow {
    body: Incoming,
    /// Read, and not given on yet.
    waiting: Bytes,
    received: u64,
    action: Option<Action>,
    cut: Option<Cut>,
    timeout: Duration,
    /// The record of the request.
    pub record: Record,
}

impl Inflow {
    /// A body that nothing was read of yet, and that may stand still for
    /// `timeout`.
    pub fn new(body: Incoming, record: Record, action: Option<Action>, timeout: Duration) -> Self {
        Self { body, waiting: Bytes::new(), received: 0, action, cut: None, timeout, record }
    }

    /// Why no more comes, if that is so.
    pub fn cut(&self) -> Option<Cut> {
        self.cut
    }

    /// The next bytes; none at the end.
    pub async fn piece(&mut self) -> Result<Option<Bytes>, Cut> {
        if let Some(cut) = self.cut {
            return Err(cut);
        }
        self.strike(false).await?;
        if self.waiting.is_empty() {
            match self.read().await {
                Ok(Some(bytes)) => self.waiting = bytes,
                Ok(None) => {
                    // A body that is shorter than the fault is late.
                    self.strike(true).await?;
                    return Ok(None);
                }
                Err(cut) => {
                    self.cut = Some(cut);
                    return Err(cut);
                }
            }
        }
        let piece = match self.action {
            Some(Action::Drip { rate }) => {
                let (size, pause) = drop_of(rate, self.waiting.len());
                sleep(pause).await;
                self.waiting.split_to(size)
            }
            _ => std::mem::take(&mut self.waiting),
        };
        self.received += u64::try_from(piece.len()).unwrap_or(0);
        self.record.received(piece.len());
        Ok(Some(piece))
    }

    /// Does what the plan has for this point of the body.
    async fn strike(&mut self, at_the_end: bool) -> Result<(), Cut> {
        match self.action {
            Some(Action::Delay(time)) => {
                self.action = None;
                sleep(time).await;
            }
            Some(Action::Drop { bytes }) if at_the_end || self.received >= bytes => {
                self.cut = Some(Cut::Dropped);
                return Err(Cut::Dropped);
            }
            Some(Action::Stall { bytes }) if at_the_end || self.received >= bytes => {
                self.record.write();
                pending::<()>().await;
            }
            _ => {}
        }
        Ok(())
    }

    async fn read(&mut self) -> Result<Option<Bytes>, Cut> {
        loop {
            let frame = timeout(self.timeout, self.body.frame()).await.map_err(|_| Cut::Idle)?;
            let Some(frame) = frame else { return Ok(None) };
            let frame = frame.map_err(|_| Cut::Broken)?;
            if let Ok(data) = frame.into_data()
                && !data.is_empty()
            {
                return Ok(Some(data));
            }
        }
    }

    /// The whole body, of a call whose body is small.
    pub async fn whole(&mut self, limit: usize) -> Answer<Bytes> {
        let mut whole = Vec::new();
        while let Some(piece) = self.piece().await? {
            whole.extend_from_slice(&piece);
            if whole.len() > limit {
                return Err(Refusal::new(
                    400,
                    "SerializationException",
                    format!("The body is larger than {limit} bytes"),
                ));
            }
        }
        Ok(whole.into())
    }

    /// Reads what is left, at most `limit` bytes of it: a client that is
    /// still sending would see a reset instead of the answer.
    pub async fn drain(&mut self, limit: u64) {
        while self.received <= limit && matches!(self.piece().await, Ok(Some(_))) {}
    }
}

/// How bytes come at `rate` a second, of those that are there: so many, after
/// such a pause.
pub fn drop_of(rate: u64, there: usize) -> (usize, Duration) {
    let size = usize::try_from((rate / 10).max(1)).unwrap_or(usize::MAX).min(there);
    let nanoseconds = u64::try_from(size).unwrap_or(u64::MAX).saturating_mul(1_000_000_000);
    (size, Duration::from_nanos(nanoseconds / rate.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drips_ten_times_a_second_or_a_byte_at_a_time() {
        assert_eq!(drop_of(1000, 5000), (100, Duration::from_millis(100)));
        assert_eq!(drop_of(1000, 10), (10, Duration::from_millis(10)));
        assert_eq!(drop_of(2, 5000), (1, Duration::from_millis(500)));
    }
}
