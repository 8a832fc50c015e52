//! The service's own time, of each answer.

use std::sync::{Arc, Mutex, PoisonError};

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::BeforeDeserializationInterceptorContextRef;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::DateTime;
use aws_smithy_types::config_bag::ConfigBag;
use aws_smithy_types::date_time::Format;
use jiff::Timestamp;

use crate::storage::Answer;

/// Hears the Date of the answer to one call, and its status.
#[derive(Clone, Debug, Default)]
pub struct Dated(Arc<Mutex<(Option<Timestamp>, Option<u16>)>>);

impl Dated {
    /// The answer, with its time; this machine's if it had none.
    pub fn answer<T>(&self, value: T) -> Answer<T> {
        Answer { at: self.heard().0.unwrap_or_else(Timestamp::now), value }
    }

    /// The status of the answer, if there was one.
    #[cfg(feature = "s3")]
    pub fn status(&self) -> Option<u16> {
        self.heard().1
    }

    fn heard(&self) -> (Option<Timestamp>, Option<u16>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A time as HTTP writes it (RFC 9110, section 5.6.7).
fn date(text: &str) -> Option<Timestamp> {
    let time = DateTime::from_str(text, Format::HttpDate).ok()?;
    Timestamp::from_second(time.secs()).ok()
}

impl Intercept for Dated {
    fn name(&self) -> &'static str {
        "Dated"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let at = context.response().headers().get("date").and_then(date);
        let status = context.response().status().as_u16();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (at, Some(status));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_of_http_is_a_time() {
        let time = date("Mon, 30 Nov 2026 23:17:16 GMT").unwrap();
        assert_eq!(time.to_string(), "2026-11-30T23:17:16Z");
        assert_eq!(date("yesterday"), None);
    }
}
