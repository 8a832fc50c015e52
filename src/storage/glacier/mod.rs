//! Amazon Glacier's vault service.

mod listings;
mod places;
mod retrievals;
mod uploads;

use std::sync::Arc;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_glacier::Client;
use aws_sdk_glacier::config::Builder;
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use jiff::Timestamp;

use self::retrievals::JobList;
use super::aws::{self, Access, CALL, credentials::Chain, within};
use super::{Attempt, Dest, Destination, Failure, Limits, Span, VAULT};
use crate::error::{Error, Result};
use crate::hash::tree::Hash;
use crate::line::Id;

/// A vault of Amazon Glacier, or of whatever speaks its API.
#[derive(Clone, Debug)]
pub struct Glacier {
    /// For calls that are over within [`CALL`].
    client: Client,
    /// For parts, however long those take.
    bulk: Client,
    /// For what jobs bring up: of these answers the reader sets the bound.
    output: Client,
    dest: Dest,
    vault: String,
    region: String,
    /// How long a body may stand still, either way.
    stall: Duration,
    jobs: Arc<JobList>,
}

impl Glacier {
    /// Loads the configuration; nothing is asked of the service yet.
    ///
    /// # Errors
    /// As [`aws::load`].
    pub async fn open(dest: Dest, access: &Access) -> Result<Self> {
        let (config, chain, unbounded) = aws::load(access).await?;
        Self::new(&config, Some((chain, unbounded)), dest, access.timeout)
    }

    /// The same, with a configuration that is loaded already.
    ///
    /// # Errors
    /// When it names no region: a bug.
    pub fn with(config: &SdkConfig, dest: Dest) -> Result<Self> {
        Self::new(config, None, dest, aws::STALL)
    }

    fn new(
        config: &SdkConfig,
        loaded: Option<(Chain, SharedHttpClient)>,
        dest: Dest,
        stall: Duration,
    ) -> Result<Self> {
        let region = config
            .region()
            .map(ToString::to_string)
            .ok_or_else(|| Error::Bug("a region that was there is gone".to_owned()))?;
        let mut common = Builder::from(config);
        let mut output = common.clone();
        if let Some((chain, unbounded)) = loaded {
            common = common.interceptor(chain.clone());
            output = output.interceptor(chain).http_client(unbounded);
        }
        let output = Client::from_conf(output.build());
        let bulk = Client::from_conf(common.clone().build());
        let client = Client::from_conf(common.timeout_config(within(stall.min(CALL))).build());
        let Dest::Glacier { vault } = &dest else {
            return Err(Error::Bug(format!("{dest} is no vault")));
        };
        let (vault, jobs) = (vault.clone(), Arc::default());
        Ok(Self { client, bulk, output, dest, vault, region, stall, jobs })
    }
}

impl Destination for Glacier {
    fn dest(&self) -> &Dest {
        &self.dest
    }

    fn region(&self) -> &str {
        &self.region
    }

    fn limits(&self) -> &Limits {
        &VAULT
    }
}

/// A field that the API reference promises.
fn promised<T>(field: Option<T>, name: &str) -> Attempt<T> {
    field.ok_or_else(|| Failure::Damaged(format!("the service's answer has no {name}")))
}

/// The name of an archive, upload or job in an answer, which becomes a piece
/// of a path: one of another grammar is damage.
fn id(field: Option<String>, name: &str) -> Attempt<Id> {
    let text = promised(field, name)?;
    text.parse()
        .map_err(|why| Failure::Damaged(format!("the service's answer has no good {name}: {why}")))
}

/// A hash in an answer; what is not one is damage.
fn hash(text: Option<&str>) -> Attempt<Hash> {
    promised(text, "tree hash")?.parse().map_err(Failure::Damaged)
}

/// A time in an answer.
fn time(text: Option<&str>) -> Option<Timestamp> {
    text.and_then(|text| text.parse().ok())
}

/// A range such as `0-1048575`.
fn range(text: &str) -> Option<Span> {
    let (first, last) = text.split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    Some(Span { offset: first, size: last.checked_sub(first)?.checked_add(1)? })
}
