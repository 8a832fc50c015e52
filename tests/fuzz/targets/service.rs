//! Whatever a service answers, through the SDK's parsers.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use akashita::hash::tree::{Hash, TreeHash};
use akashita::line::Id;
use akashita::line::description::Description;
use akashita::storage::glacier::Glacier;
use akashita::storage::rate_limit::Pace;
use akashita::storage::{
    Attempt, Body, Dest, Failure, Listings, Place, Places, Retrievals, Seal, Sought, Span, Terms,
    Tier, Uploads, Want,
};
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::retry::RetryConfig;

use super::is_a_message;

/// The one answer to all that is asked.
#[derive(Clone, Debug)]
struct Constant {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl HttpConnector for Constant {
    fn call(&self, _: HttpRequest) -> HttpConnectorFuture {
        let status = self.status.try_into().unwrap();
        let mut response = HttpResponse::new(status, SdkBody::from(self.body.clone()));
        for (name, value) in &self.headers {
            // What no header can be is none.
            let _ = response.headers_mut().try_append(name.clone(), value.clone());
        }
        HttpConnectorFuture::ready(Ok(response))
    }
}

/// `STATUS`, headers, an empty line, the body. No call hangs or panics; what
/// is refused is told in one line of bounded length.
pub fn service(data: &[u8]) {
    let end = data.windows(2).position(|pair| pair == b"\n\n").unwrap_or(data.len());
    let head = String::from_utf8_lossy(&data[..end]);
    let body = data.get(end + 2..).unwrap_or_default().to_vec();
    let mut lines = head.split('\n');
    let status = lines.next().and_then(|status| status.parse().ok()).unwrap_or(400);
    let status = if (200..600).contains(&status) { status } else { 400 };
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let answer = Constant { status, headers, body };
    let connector = SharedHttpConnector::new(answer);
    let keys = Credentials::new("AKID", "secret", None, None, "fuzz");
    let config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new("us-east-1"))
        .credentials_provider(SharedCredentialsProvider::new(keys))
        .http_client(http_client_fn(move |_, _| connector.clone()))
        .retry_config(RetryConfig::standard().with_max_attempts(1))
        .build();
    let dest = Dest::Glacier { vault: "v".to_owned() };
    let vault = Glacier::with(&config, dest).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let all = all_calls(&vault);
        assert!(tokio::time::timeout(Duration::from_secs(20), all).await.is_ok(), "hangs");
    });
}

/// What a failed call prints.
#[track_caller]
fn told<T>(attempt: Attempt<T>) -> Option<T> {
    match attempt {
        Ok(value) => Some(value),
        Err(failure) => {
            assert!(!matches!(failure, Failure::Unsafe(_) | Failure::Local(_)), "{failure}");
            is_a_message(&failure.on("part 17").to_string(), 5000);
            None
        }
    }
}

async fn all_calls(vault: &Glacier) {
    let hash = TreeHash::of(b"x");
    told(vault.create().await);
    told(vault.describe().await);
    told(vault.remove().await);
    told(vault.has_lock().await);
    told(vault.places(&mut |_| {}).await);
    told(vault.holds().await);
    let stream = "0".repeat(32);
    let about = format!(
        r#"{{"v":1,"kind":"volume","stream":"{stream}","volume":0,"host":"nas","name":"t@m"}}"#
    );
    let about = Description::parse(&about).unwrap();
    told(vault.begin(&about, 1 << 20, &Terms::default()).await);
    let body = Body {
        file: Arc::new(tempfile::tempfile().unwrap()),
        start: 0,
        size: 1,
        treehash: hash,
        sha256: Hash::of(b"x"),
        taken: Arc::new(AtomicU64::new(0)),
        pace: Pace::default(),
    };
    let (upload, job, archive): (Id, Id, Id) =
        ("u".parse().unwrap(), "j".parse().unwrap(), "a".parse().unwrap());
    told(vault.send(&upload, Place { part: 0, offset: 0 }, &body).await);
    told(vault.held(&upload, 1 << 20).await);
    let seal = Seal { size: 1, treehash: hash, composite: None, parts: [].into() };
    told(vault.complete(&upload, &seal).await);
    told(vault.look_up(&about, &seal, None).await);
    told(vault.look_up(&about, &seal, Some(&job)).await);
    told(vault.abort(&upload).await);
    let want = Want::of(&archive);
    told(vault.request(want, Tier::Bulk, 1).await);
    told(vault.readiness(&[Sought { want, ticket: Some(&job), gone: &[] }]).await);
    told(vault.under_way(&mut |_| {}).await);
    let mut came = 0;
    let span = Span { offset: 0, size: 100 };
    let read = vault.read(&job, want, span, &mut |piece| came += piece.len()).await;
    assert!(came <= 100 && (read.is_err() || came == 100), "{came} bytes");
    told(read);
    told(vault.list(None, &mut |_| {}).await);
    told(vault.list(Some(&job), &mut |_| {}).await);
    told(vault.unfinished(&mut |_| {}).await);
    told(vault.delete(&archive, None, false).await);
}
