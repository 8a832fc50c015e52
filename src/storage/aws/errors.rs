//! What an error of a service means.

use std::time::Duration;

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use http_body_util::LengthLimitError;

use crate::storage::Failure;
use crate::storage::aws::endpoint::{self, NotSafe};
use crate::storage::aws::http::ANSWER;
use crate::units;

/// Characters of the service's message that are told, at most.
const LONGEST: usize = 400;

/// What the failure of a call means, by the service's code before its status:
/// throttling, say, comes with status 400.
#[expect(clippy::needless_pass_by_value, reason = "so that map_err takes it by name")]
pub fn classify<E>(error: SdkError<E, HttpResponse>) -> Failure
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    if endpoint::find::<LengthLimitError>(&error).is_some() {
        let most = units::bytes(u64::try_from(ANSWER).unwrap_or(u64::MAX));
        return Failure::Damaged(format!("the service's answer is longer than {most}"));
    }
    match &error {
        SdkError::ServiceError(answer) => {
            let meta = answer.err().meta();
            let status = answer.raw().status().as_u16();
            let header = |name| answer.raw().headers().get(name);
            let (code, message) = (meta.code().unwrap_or_default(), meta.message());
            match by_code(code, status, message.unwrap_or_default()) {
                Failure::Overload(why, _) => {
                    Failure::Overload(why, header("retry-after").and_then(seconds))
                }
                Failure::Elsewhere(said) => {
                    Failure::Elsewhere(header("x-amz-bucket-region").map_or(said, str::to_owned))
                }
                failure => failure,
            }
        }
        SdkError::TimeoutError(_) => Failure::overload("no answer in time"),
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

/// A Retry-After, as far as it is a number of seconds (RFC 9110, section
/// 10.2.3); no longer than an hour is believed.
fn seconds(text: &str) -> Option<Duration> {
    let time = Duration::from_secs(text.trim().parse().ok()?);
    Some(time.min(Duration::from_hours(1)))
}

/// What a refusal means, by its body: JSON of a vault, XML of S3.
pub(super) fn by_body(body: &[u8], status: u16) -> Failure {
    let text = String::from_utf8_lossy(body);
    if text.trim_start().starts_with('<') {
        return by_code(element(&text, "Code"), status, element(&text, "Message"));
    }
    let body: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let field = |name| body.get(name).and_then(serde_json::Value::as_str).unwrap_or_default();
    by_code(field("code"), status, field("message"))
}

/// The text of the first element of a name, as it stands there.
fn element<'x>(xml: &'x str, name: &str) -> &'x str {
    let text = || {
        let (_, rest) = xml.split_once(&format!("<{name}>"))?;
        rest.split_once(&format!("</{name}>")).map(|(text, _)| text)
    };
    text().unwrap_or_default()
}

/// The table behind [`classify`] (Amazon Glacier API reference, "Error
/// Responses"; Amazon S3 API reference, "Error Responses").
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
        "Throttling" | "RequestTimeout" | "TooManyRequests" | "SlowDown" | "Busy" => {
            Failure::Overload(text, None)
        }
        "ServiceUnavailable"
        | "InternalFailure"
        | "InternalServerError"
        | "InternalError"
        | "OperationAborted"
        | "IncompleteBody" => Failure::Passing(text),
        "InsufficientCapacity" | "GlacierExpeditedRetrievalNotAvailable" => Failure::Capacity(text),
        "PolicyEnforced" => Failure::Policy(text),
        // A long part on a slow line can outlive its signature; the next
        // attempt has a new one.
        "InvalidSignature" if message.contains("expired") || message.contains("yet current") => {
            Failure::Passing(format!("{text}; is this machine's clock right?"))
        }
        "RequestTimeTooSkewed" => {
            Failure::Passing(format!("{text}; is this machine's clock right?"))
        }
        "UnrecognizedClient" | "InvalidAccessKeyId" => {
            Failure::Credentials(format!("{text}; check the access key id"))
        }
        "AccessDenied" => Failure::Denied(text),
        "ExpiredToken"
        | "InvalidToken"
        | "TokenRefreshRequired"
        | "InvalidSignature"
        | "SignatureDoesNotMatch"
        | "MissingAuthenticationToken"
        | "IncompleteSignature" => Failure::Credentials(text),
        "ResourceNotFound" | "NoSuchUpload" | "NoSuchKey" | "NoSuchVersion" | "NoSuchBucket"
        | "NotFound" => Failure::Missing(text),
        "InvalidObjectState" | "ObjectAlreadyInActiveTierError" => Failure::Archived(text),
        "PreconditionFailed" | "ConditionalRequestConflict" => Failure::Exists(text),
        "BadDigest" | "XAmzContentSHA256Mismatch" | "InvalidDigest" => Failure::Damaged(text),
        "PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraint" => {
            Failure::Elsewhere("another region".to_owned())
        }
        "InvalidParameterValue"
        | "InvalidPart"
        | "InvalidPartOrder"
        | "EntityTooSmall"
        | "InvalidRequest" => Failure::Invalid(text),
        "NotImplemented" | "MethodNotAllowed" | "AllAccessDisabled" | "AccountProblem"
        | "NotSignedUp" => Failure::Refused(text),
        "NoLongerSupported" => Failure::Refused(format!(
            "{text}; the vault service takes no new customers, use the S3 Glacier storage classes"
        )),
        _ if status == 408 || status == 429 => Failure::Overload(text, None),
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

/// Nothing came while one waited.
pub fn late() -> Failure {
    Failure::overload("no answer in time")
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
        assert!(matches!(kind("ThrottlingException", 400), Failure::Overload(..)));
        assert!(matches!(kind("", 408), Failure::Overload(..)));
        assert!(matches!(kind("", 503), Failure::Passing(_)));
        for status in [200, 302, 401, 403, 404, 407] {
            assert!(matches!(kind("", status), Failure::Passing(_)), "{status}");
        }
        assert!(matches!(kind("SomethingNewException", 404), Failure::Missing(_)));
        assert!(matches!(kind("SomethingNewException", 403), Failure::Credentials(_)));
        assert!(matches!(kind("", 400), Failure::Refused(_)));
        assert!(matches!(kind("AccessDeniedException", 403), Failure::Denied(_)));
        assert!(matches!(kind("ExpiredTokenException", 403), Failure::Credentials(_)));
        assert!(matches!(kind("ResourceNotFoundException", 404), Failure::Missing(_)));
        assert!(matches!(kind("InvalidParameterValueException", 400), Failure::Invalid(_)));
        assert!(matches!(kind("LimitExceededException", 400), Failure::Refused(_)));
        assert!(matches!(kind("NoLongerSupportedException", 400), Failure::Refused(_)));
        assert!(matches!(kind("InvalidSignatureException", 403), Failure::Credentials(_)));
        assert!(matches!(
            by_code("InvalidSignatureException", 403, "Signature expired: now"),
            Failure::Passing(_)
        ));
    }

    /// What S3 calls things is not what its statuses say (its API reference,
    /// "Error Responses").
    #[test]
    fn codes_of_s3_are_sorted_too() {
        let kind = |code, status| by_code(code, status, "");
        assert!(matches!(kind("RequestTimeout", 400), Failure::Overload(..)));
        assert!(matches!(kind("InternalError", 200), Failure::Passing(_)));
        assert!(matches!(kind("InvalidObjectState", 403), Failure::Archived(_)));
        assert!(matches!(kind("InvalidToken", 400), Failure::Credentials(_)));
        assert!(matches!(kind("NotImplemented", 501), Failure::Refused(_)));
        assert!(matches!(kind("PermanentRedirect", 301), Failure::Elsewhere(_)));
        assert!(matches!(kind("PreconditionFailed", 412), Failure::Exists(_)));
        assert!(matches!(kind("NoSuchUpload", 404), Failure::Missing(_)));
        assert!(matches!(kind("XAmzContentSHA256Mismatch", 400), Failure::Damaged(_)));
        assert!(matches!(kind("GlacierExpeditedRetrievalNotAvailable", 503), Failure::Capacity(_)));
    }

    #[test]
    fn bodies_are_read_in_json_and_in_xml() {
        let json = br#"{"code":"ResourceNotFoundException","message":"No vault."}"#;
        assert_eq!(by_body(json, 404), Failure::Missing("ResourceNotFound: No vault".into()));
        let xml =
            b"<?xml version=\"1.0\"?>\n<Error><Code>NoSuchKey</Code><Message>No key.</Message>\
            <Key>a</Key></Error>";
        assert_eq!(by_body(xml, 404), Failure::Missing("NoSuchKey: No key".into()));
        for torn in ["", "<", "<Code>", "<Error><Code>NoSuchKey"] {
            assert_eq!(by_body(torn.as_bytes(), 503), Failure::Passing("status 503".into()));
        }
    }

    #[test]
    fn what_the_service_asks_to_wait_is_bounded() {
        assert_eq!(seconds("120"), Some(Duration::from_mins(2)));
        assert_eq!(seconds("999999999"), Some(Duration::from_hours(1)));
        assert_eq!(seconds("Fri, 31 Dec 2027 23:59:59 GMT"), None);
    }
}
