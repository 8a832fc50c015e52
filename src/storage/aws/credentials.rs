//! Credentials of the SDK's chain, kept as long as they are good.
//!
//! The SDK keeps what it has loaded until the time that came with it, and
//! what was in a file or in the environment for ever. A run here lasts for
//! nights: when the service refuses a key, the chain is asked anew, from its
//! files on. `retry` sees to it that this is tried once.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, Result, future};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeTransmitInterceptorContextRef, FinalizerInterceptorContextRef,
};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::{ConfigBag, Storable, StoreReplace};

use crate::storage::Failure;
use crate::storage::aws::access::{Access, loader};
use crate::storage::aws::errors::by_body;
use crate::storage::aws::http;

/// Credentials that expire as soon as this are loaded anew.
const SOON: Duration = Duration::from_mins(1);

/// How long the chain may take.
const WITHIN: Duration = Duration::from_mins(1);

/// The chain, and what it gave last.
#[derive(Clone, Debug)]
pub struct Chain {
    access: Access,
    kept: Arc<Mutex<Option<Credentials>>>,
}

/// The Authorization header of a request.
struct Signed(String);

impl Storable for Signed {
    type Storer = StoreReplace<Self>;
}

impl std::fmt::Debug for Signed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signed")
    }
}

impl Chain {
    /// Nothing is loaded yet.
    pub fn new(access: &Access) -> Self {
        Self { access: access.clone(), kept: Arc::default() }
    }

    fn kept(&self) -> Option<Credentials> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let soon = SystemTime::now() + SOON;
        kept.filter(|kept| kept.expiry().is_none_or(|expiry| expiry > soon))
    }

    fn keep(&self, credentials: Option<Credentials>) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = credentials;
    }

    async fn load(&self) -> Result {
        if let Some(kept) = self.kept() {
            return Ok(kept);
        }
        let client =
            http::client().map_err(|e| CredentialsError::invalid_configuration(e.to_string()))?;
        let loader = loader(&self.access, http::bounded(client));
        let found = async {
            let config = loader.load().await;
            let provider = config.credentials_provider();
            let none = || CredentialsError::not_loaded("no provider");
            provider.ok_or_else(none)?.provide_credentials().await
        };
        // A program that gives credentials, or a role's service, may hang.
        let credentials = tokio::time::timeout(WITHIN, found)
            .await
            .map_err(|_| CredentialsError::provider_timed_out(WITHIN))??;
        self.keep(Some(credentials.clone()));
        Ok(credentials)
    }

    /// Drops what is kept, if a refused request was signed with it: another
    /// may have been refused, and these be newer.
    fn forget(&self, authorization: &str) {
        let is_signed = |kept: &Credentials| {
            authorization.contains(&format!("Credential={}/", kept.access_key_id()))
        };
        if self.kept().as_ref().is_some_and(is_signed) {
            self.keep(None);
        }
    }
}

impl ProvideCredentials for Chain {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.load())
    }
}

impl Intercept for Chain {
    fn name(&self) -> &'static str {
        "Chain"
    }

    /// Notes what the request is signed with: it is gone when the answer is
    /// there.
    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> std::result::Result<(), BoxError> {
        let signed = context.request().headers().get("authorization").unwrap_or_default();
        config.interceptor_state().store_put(Signed(signed.to_owned()));
        Ok(())
    }

    /// Hears what the service thinks of the credentials.
    fn read_after_execution(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> std::result::Result<(), BoxError> {
        let Some(response) = context.response() else { return Ok(()) };
        if response.status().is_success() {
            return Ok(());
        }
        let body = response.body().bytes().unwrap_or_default();
        let failure = by_body(body, response.status().as_u16());
        if matches!(failure, Failure::Credentials(_) | Failure::Denied(_)) {
            self.forget(config.load::<Signed>().map_or("", |signed| &signed.0));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgets_only_what_was_refused() {
        let chain = Chain::new(&Access::default());
        let of = |id| Credentials::new(id, "secret", None, None, "test");
        chain.keep(Some(of("NEW")));
        chain.forget("AWS4-HMAC-SHA256 Credential=OLD/20261123/eu/glacier/aws4_request");
        assert!(chain.kept().is_some());
        chain.forget("AWS4-HMAC-SHA256 Credential=NEW/20261123/eu/glacier/aws4_request");
        assert!(chain.kept().is_none());
    }

    #[test]
    fn keeps_nothing_that_is_about_to_expire() {
        let chain = Chain::new(&Access::default());
        let until = |time| Credentials::new("A", "secret", None, Some(time), "test");
        chain.keep(Some(until(SystemTime::now() + Duration::from_secs(30))));
        assert!(chain.kept().is_none());
        chain.keep(Some(until(SystemTime::now() + Duration::from_mins(30))));
        assert!(chain.kept().is_some());
    }
}
