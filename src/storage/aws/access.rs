//! How AWS is reached: from where the AWS CLI takes it, and by which client.

use std::time::Duration;

use aws_config::{BehaviorVersion, ConfigLoader, Region};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;

use crate::storage::aws::process;
use crate::units;

/// How long a connection, with TLS, may take.
pub const CONNECT: Duration = Duration::from_secs(30);

/// How long a call without archive bytes may take, at most.
pub const CALL: Duration = Duration::from_mins(1);

/// How many times as long as a body may stand still the service may take to
/// make an archive of its parts (for one of terabytes, minutes), or an
/// inventory to come.
pub const LONGER: u32 = 3;

/// How long nothing may move in a request, where nobody says.
pub const STALL: Duration = Duration::from_mins(5);

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

/// The timeouts of a call that is over within `limit`.
pub fn within(limit: Duration) -> TimeoutConfig {
    TimeoutConfig::builder().connect_timeout(CONNECT).operation_timeout(limit).build()
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
pub(super) fn loader(access: &Access, client: SharedHttpClient) -> ConfigLoader {
    let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .http_client(client)
        .profile_files(process::files())
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
    loader
}
