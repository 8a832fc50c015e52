//! What an error of a service means.

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use crate::storage::Failure;
use crate::storage::aws::endpoint::{self, NotSafe};

/// Characters of the service's message that are told, at most.
const LONGEST: usize = 400;

/// What the failure of a call means, by the service's code before its status:
/// throttling, say, comes with status 400.
#[expect(clippy::needless_pass_by_value, reason = "so that map_err takes it by name")]
pub fn classify<E>(error: SdkError<E, HttpResponse>) -> Failure
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    match &error {
        SdkError::ServiceError(answer) => {
            let meta = answer.err().meta();
            let status = answer.raw().status().as_u16();
            by_code(meta.code().unwrap_or_default(), status, meta.message().unwrap_or_default())
        }
        SdkError::TimeoutError(_) => Failure::Overload("no answer in time".to_owned()),
        SdkError::ConstructionFailure(_) => Failure::Refused(root_cause(&error)),
        SdkError::DispatchFailure(_) => {
            let cause = root_cause(&error);
            if let Some(why) = NotSafe::find(&error) {
                Failure::Unsafe(why)
            } else if endpoint::find::<hyper::http::uri::InvalidUri>(&error).is_some() {
                Failure::Unsafe(format!("the configured endpoint is not a URL: {cause}"))
            } else if cause.contains("credential") {
                Failure::Credentials(cause)
            } else {
                Failure::Passing(cause)
            }
        }
        _ => Failure::Passing(root_cause(&error)),
    }
}

/// What a refusal means, by its JSON body.
pub(super) fn by_body(body: &[u8], status: u16) -> Failure {
    let body: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let field = |name| body.get(name).and_then(serde_json::Value::as_str).unwrap_or_default();
    by_code(field("code"), status, field("message"))
}

/// The table behind [`classify`] (Amazon Glacier API reference, "Error
/// Responses").
fn by_code(code: &str, status: u16, message: &str) -> Failure {
    let name = code.strip_suffix("Exception").unwrap_or(code);
    let (name, message) = (start(name), start(message.strip_suffix('.').unwrap_or(message)));
    let text = match (name, message) {
        ("", "") => format!("status {status}"),
        ("", message) => format!("status {status}: {message}"),
        (name, "") => name.to_owned(),
        (name, message) => format!("{name}: {message}"),
    };
    match name {
        "Throttling" | "RequestTimeout" | "TooManyRequests" | "SlowDown" => Failure::Overload(text),
        "ServiceUnavailable" | "InternalFailure" | "InternalServerError" => Failure::Passing(text),
        "InsufficientCapacity" => Failure::Capacity(text),
        "PolicyEnforced" => Failure::Policy(text),
        // A long part on a slow line can outlive its signature; the next
        // attempt has a new one.
        "InvalidSignature" if message.contains("expired") || message.contains("yet current") => {
            Failure::Passing(format!("{text}; is this machine's clock right?"))
        }
        "UnrecognizedClient" => Failure::Credentials(format!("{text}; check the access key id")),
        "AccessDenied"
        | "ExpiredToken"
        | "InvalidSignature"
        | "MissingAuthenticationToken"
        | "IncompleteSignature" => Failure::Credentials(text),
        "ResourceNotFound" => Failure::Missing(text),
        "NoLongerSupported" => Failure::Refused(format!(
            "{text}; the vault service takes no new customers, use the S3 Glacier storage classes"
        )),
        _ if status == 408 || status == 429 => Failure::Overload(text),
        _ if status >= 500 => Failure::Passing(text),
        _ if status < 400 => {
            Failure::Passing(format!("an answer of status {status} that is not the service's"))
        }
        // The service names a code: this is a proxy, or a page to log in at.
        "" if matches!(status, 401 | 403 | 404 | 407) => Failure::Passing(text),
        _ if status == 404 => Failure::Missing(text),
        _ if status == 401 || status == 403 => Failure::Credentials(text),
        _ => Failure::Refused(text),
    }
}

/// As much of a foreign text as a line of a log should hold.
fn start(text: &str) -> &str {
    text.char_indices().nth(LONGEST).and_then(|(end, _)| text.get(..end)).unwrap_or(text)
}

/// The innermost reason of an error: the layers around it say no more.
pub fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let text = cause.to_string();
    // What a process says that should print credentials may be one.
    let text = text.split(". Stderr: ").next().unwrap_or(&text);
    start(text.split(" (os error ").next().unwrap_or(text)).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_come_before_statuses() {
        let kind = |code, status| by_code(code, status, "");
        assert!(matches!(kind("ThrottlingException", 400), Failure::Overload(_)));
        assert!(matches!(kind("", 408), Failure::Overload(_)));
        assert!(matches!(kind("", 503), Failure::Passing(_)));
        for status in [200, 302, 401, 403, 404, 407] {
            assert!(matches!(kind("", status), Failure::Passing(_)), "{status}");
        }
        assert!(matches!(kind("SomethingNewException", 404), Failure::Missing(_)));
        assert!(matches!(kind("SomethingNewException", 403), Failure::Credentials(_)));
        assert!(matches!(kind("", 400), Failure::Refused(_)));
        assert!(kind("AccessDeniedException", 403).is_denied());
        assert!(!kind("ExpiredTokenException", 403).is_denied());
        assert!(matches!(kind("ResourceNotFoundException", 404), Failure::Missing(_)));
        assert!(matches!(kind("InvalidParameterValueException", 400), Failure::Refused(_)));
        assert!(matches!(kind("LimitExceededException", 400), Failure::Refused(_)));
        assert!(matches!(kind("NoLongerSupportedException", 400), Failure::Refused(_)));
        assert!(matches!(kind("InvalidSignatureException", 403), Failure::Credentials(_)));
        assert!(matches!(
            by_code("InvalidSignatureException", 403, "Signature expired: now"),
            Failure::Passing(_)
        ));
    }
}
