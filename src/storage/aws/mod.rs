//! What every AWS service here shares: credentials, region and endpoint, and
//! what an error means.

pub(super) mod body;
pub(super) mod credentials;
pub mod endpoint;
pub mod http;

use std::time::Duration;

use aws_config::identity::IdentityCache;
use aws_config::{BehaviorVersion, ConfigLoader, Region, SdkConfig};
use aws_credential_types::provider::ProvideCredentials;
use aws_runtime::auth::PayloadSigningOverride;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeSerializationInterceptorContextRef, BeforeTransmitInterceptorContextMut,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpResponse, LoadedRequestBody};
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use bytes::Bytes;

use self::credentials::Chain;
use self::endpoint::NotSafe;
use crate::error::{Error, Result};
use crate::hash::tree::Hash;
use crate::storage::Failure;
use crate::units;

/// How long a connection, with TLS, may take.
pub const CONNECT: Duration = Duration::from_secs(30);

/// How long nothing may move in a request, where nobody says.
pub const STALL: Duration = Duration::from_mins(5);

/// How the SDK begins to tell that a `credential_process` failed; what the
/// process said follows.
const PROCESS: &str = "Error retrieving credentials: external process exited with code ";

/// Characters of the service's message that are told, at most.
const LONGEST: usize = 400;

/// How to reach AWS; what is absent comes from where the AWS CLI takes it.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Access {
    /// Speak to this endpoint instead of Amazon's
    #[arg(long, value_name = "URL")]
    pub endpoint_url: Option<String>,
    /// The region to use
    #[arg(long)]
    pub region: Option<String>,
    /// The profile of the AWS configuration to use
    #[arg(long)]
    pub profile: Option<String>,
    /// Give up a request in which nothing moves for so long
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = timeout)]
    pub timeout: Duration,
}

/// A time that is not zero.
fn timeout(text: &str) -> Result<Duration, String> {
    match units::duration(text)? {
        Duration::ZERO => Err("no time at all is too short".to_owned()),
        time => Ok(time),
    }
}

/// Where the AWS CLI looks for credentials, region and endpoint, and how
/// requests are made.
///
/// # Errors
/// When the certificates of `AWS_CA_BUNDLE` cannot be read.
pub(super) fn loader(access: &Access) -> Result<ConfigLoader> {
    let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .http_client(http::client()?)
        // Every call is one attempt; pauses and patience are storage::retry's.
        .retry_config(RetryConfig::standard().with_max_attempts(1))
        // It ends streamed uploads on slow lines after seconds, though bytes
        // flow (aws-sdk-rust issue 1146); put has a watchdog of its own.
        .stalled_stream_protection(
            aws_config::stalled_stream_protection::StalledStreamProtectionConfig::disabled(),
        )
        .timeout_config(TimeoutConfig::builder().connect_timeout(CONNECT).build());
    if let Some(profile) = &access.profile {
        loader = loader.profile_name(profile);
    }
    if let Some(region) = &access.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if let Some(url) = &access.endpoint_url {
        loader = loader.endpoint_url(url);
    }
    Ok(loader)
}

/// Loads credentials, region and endpoint as the AWS CLI does. The chain of
/// the credentials is to hear the answers of clients.
///
/// # Errors
/// Configuration, when there is no region, the endpoint is not to be spoken
/// to in the clear, or the certificates of `AWS_CA_BUNDLE` cannot be read;
/// credentials, when there are none.
pub async fn load(access: &Access) -> Result<(SdkConfig, Chain)> {
    let chain = Chain::new(access);
    let loader = loader(access)?.credentials_provider(chain.clone());
    // The chain keeps them itself.
    let config = loader.identity_cache(IdentityCache::no_cache()).load().await;
    // Told before anything is read; `wire` holds it for every request.
    if let Some(url) = config.endpoint_url() {
        endpoint::check(url).map_err(|why| Error::Configuration(why.to_string()))?;
    }
    if config.region().is_none() {
        return Err(Error::Configuration(
            "no region; set AWS_REGION, a profile's region, or --region".to_owned(),
        ));
    }
    match chain.provide_credentials().await {
        Ok(_) => Ok((config, chain)),
        Err(e) => Err(match NotSafe::find(&e) {
            Some(why) => Error::Configuration(why),
            None => no_credentials(access, &root_cause(&e)),
        }),
    }
}

/// The SDK tells the reason of each place it looked in; where none has any
/// credentials, that is no reason.
fn no_credentials(access: &Access, why: &str) -> Error {
    let profile = access.profile.clone().or_else(|| {
        let named = std::env::var_os("AWS_PROFILE").filter(|name| !name.is_empty());
        named.map(|name| name.to_string_lossy().into_owned())
    });
    let profile = match profile {
        Some(name) => format!("profile \"{name}\""),
        None => "profile".to_owned(),
    };
    let nowhere = format!("neither environment, nor {profile}, nor this machine's role has them");
    let why = if why.starts_with("no credentials found in chain") {
        nowhere
    } else if let Some(status) = why.strip_prefix(PROCESS) {
        format!("credential_process ended with {status}; run it by hand to see why")
    } else {
        why.strip_suffix('.').unwrap_or(why).to_owned()
    };
    Error::Credentials(format!(
        "no AWS credentials: {why}; set AWS_PROFILE, or the keys in the environment"
    ))
}

/// Hands the hash of a part to the signer, so that the SDK neither loads the
/// part into memory nor hashes it. It relies on the order of the SDK's hooks;
/// `tests/put.rs` guards it with a part larger than the memory allowed.
#[derive(Debug)]
pub struct Precomputed(pub Hash);

impl Intercept for Precomputed {
    fn name(&self) -> &'static str {
        "Precomputed"
    }

    /// Runs after the SDK has asked for the body to be loaded: it finds it
    /// loaded, and empty.
    fn read_before_serialization(
        &self,
        _: &BeforeSerializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let state = config.interceptor_state();
        state.store_put(LoadedRequestBody::Loaded(Bytes::new()));
        state.store_put(PayloadSigningOverride::Precomputed(self.0.to_string()));
        Ok(())
    }

    /// The SDK has put the hash of the empty string into the header.
    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        context.request_mut().headers_mut().insert("x-amz-content-sha256", self.0.to_string());
        Ok(())
    }
}

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
