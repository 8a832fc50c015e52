//! What every AWS service here shares: credentials, region and endpoint, and
//! what an error means.

mod access;
pub(super) mod body;
pub(super) mod credentials;
mod dated;
pub mod endpoint;
mod errors;
pub mod http;
pub(super) mod moving;
mod process;

use aws_config::SdkConfig;
use aws_config::identity::IdentityCache;
use aws_credential_types::provider::ProvideCredentials;
use aws_runtime::auth::PayloadSigningOverride;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeSerializationInterceptorContextRef, BeforeTransmitInterceptorContextMut,
};
use aws_smithy_runtime_api::client::orchestrator::LoadedRequestBody;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use bytes::Bytes;

use self::access::loader;
pub use self::access::{Access, CALL, CONNECT, LONGER, STALL, within};
use self::credentials::Chain;
pub use self::dated::Dated;
use self::endpoint::NotSafe;
pub use self::errors::{classify, late, root_cause};
use crate::error::{Error, Result};
use crate::hash::tree::Hash;
use crate::units;

/// Makes a call, and gives what came of it with the service's time.
macro_rules! ask {
    ($call:expr) => {{
        let dated = $crate::storage::aws::Dated::default();
        let answer = $call.customize().interceptor(dated.clone()).send().await;
        answer.map(|value| dated.answer(value)).map_err($crate::storage::aws::classify)
    }};
}
pub(super) use ask;

/// How the SDK begins to tell that a `credential_process` failed; what the
/// process said follows.
const PROCESS: &str = "Error retrieving credentials: external process exited with code ";

/// Loads credentials, region and endpoint as the AWS CLI does. The chain of
/// the credentials is to hear the answers of clients; the last is what speaks
/// for calls whose answers have no bound, and whose readers set one.
///
/// # Errors
/// Configuration, when there is no region, the endpoint is not to be spoken
/// to in the clear, or the certificates of `AWS_CA_BUNDLE` cannot be read;
/// credentials, when there are none.
pub async fn load(access: &Access) -> Result<(SdkConfig, Chain, SharedHttpClient)> {
    let chain = Chain::new(access);
    let client = http::client()?;
    let loader = loader(access, http::bounded(client.clone()));
    let loader = loader.credentials_provider(chain.clone());
    // The chain keeps them itself.
    let config = loader.identity_cache(IdentityCache::no_cache()).load().await;
    // Told before anything is read; `http` holds it for every request.
    if let Some(url) = config.endpoint_url() {
        endpoint::check(url).map_err(|why| Error::Configuration(why.to_string()))?;
    }
    if config.region().is_none() {
        return Err(Error::Configuration(
            "no region; set AWS_REGION, a profile's region, or --region".to_owned(),
        ));
    }
    match chain.provide_credentials().await {
        Ok(_) => Ok((config, chain, client)),
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
        let flooded = status.starts_with(process::FLOODED);
        if flooded {
            let most = units::bytes(process::MOST);
            format!("credential_process printed over {most}, and was ended")
        } else {
            format!("credential_process ended with {status}; run it by hand to see why")
        }
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
