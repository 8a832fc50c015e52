//! Amazon S3, and services that speak like it: archives are objects, by keys
//! that say what they are.
//!
//! An archive is an upload in parts, whose SHA-256 hashes the service is told
//! and compares; together they have a composite hash, which names the content
//! without reading it again. Nothing is ever replaced.

mod listings;
mod objects;
mod places;
mod retrievals;
mod uploads;

use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{
    Builder, RequestChecksumCalculation, ResponseChecksumValidation, StalledStreamProtectionConfig,
};
use aws_smithy_runtime_api::client::http::SharedHttpClient;

use super::aws::{self, Access, CALL, credentials::Chain, within};
use super::{BUCKET, Dest, Destination, Limits};
use crate::error::{Error, Result};
use crate::line::Key;

/// A bucket of Amazon S3, or of whatever speaks like it.
#[derive(Clone, Debug)]
pub struct S3 {
    /// For calls that are over within [`CALL`].
    client: Client,
    /// For parts, however long those take.
    bulk: Client,
    /// For what is read: of these answers the reader sets the bound.
    output: Client,
    dest: Dest,
    limits: Limits,
    bucket: String,
    /// What keys begin with: nothing, or text that ends with a `/`.
    prefix: String,
    region: String,
    /// How long a body may stand still, either way.
    stall: Duration,
}

impl S3 {
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
        let Dest::S3 { bucket, prefix } = &dest else {
            return Err(Error::Bug(format!("{dest} is no bucket")));
        };
        let mut prefix = prefix.clone();
        if !prefix.is_empty() {
            prefix.push('/');
        }
        // Where no checksum is given, the SDK would add one of its own, in a
        // way that services which are not Amazon's refuse.
        let mut common = Builder::from(config)
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .force_path_style(config.endpoint_url().is_some_and(|url| !is_amazons(url)));
        let mut output = common.clone();
        if let Some((chain, unbounded)) = loaded {
            common = common.interceptor(chain.clone());
            output = output.interceptor(chain).http_client(unbounded);
        }
        Ok(Self {
            output: Client::from_conf(output.build()),
            bulk: Client::from_conf(common.clone().build()),
            client: Client::from_conf(common.timeout_config(within(stall.min(CALL))).build()),
            limits: BUCKET,
            bucket: bucket.clone(),
            prefix,
            region,
            stall,
            dest,
        })
    }

    /// The key of an archive in the bucket.
    fn full(&self, key: &Key) -> String {
        format!("{}{key}", self.prefix)
    }

    /// The archive at a key of the bucket, if it is one of ours.
    fn ours(&self, full: &str) -> Option<Key> {
        full.strip_prefix(&self.prefix)?.parse().ok()
    }
}

/// Whether an endpoint is Amazon's, where each bucket has a host name.
fn is_amazons(url: &str) -> bool {
    let host = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = host.split(['/', ':']).next().unwrap_or_default().to_ascii_lowercase();
    host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn")
}

impl Destination for S3 {
    fn dest(&self) -> &Dest {
        &self.dest
    }

    fn region(&self) -> &str {
        &self.region
    }

    fn limits(&self) -> &Limits {
        &self.limits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_amazons_buckets_have_host_names() {
        for url in ["https://s3.eu-central-1.amazonaws.com", "HTTPS://S3.AmazonAWS.com:443/x"] {
            assert!(is_amazons(url), "{url}");
        }
        for url in
            ["http://127.0.0.1:8333", "https://s3.example.org", "https://amazonaws.com.x.org"]
        {
            assert!(!is_amazons(url), "{url}");
        }
    }
}
