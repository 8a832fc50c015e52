//! The last gate before the network, for every request of the SDK: those of
//! the service, and those that fetch credentials.
//!
//! Endpoints come from options, the environment, profiles and the service
//! itself, so what may be sent is decided where it is sent. Plain http goes to
//! this machine alone and through no proxy; what a certificate does not prove
//! is not spoken to; and an answer never carries back what signed its request.

use std::net::{Ipv4Addr, Ipv6Addr};

use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode};
use aws_smithy_http_client::{Builder, Connector};
use aws_smithy_runtime_api::client::dns::{DnsFuture, ResolveDns};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use http_body_util::{BodyExt as _, Limited};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::error::{Error, Result};
use crate::storage::aws::endpoint::{self, NotSafe, Way, check};

/// Bytes of an answer, at most, unless its reader sets a bound: a page of a
/// list with all that fits into it has less.
pub const ANSWER: usize = 1 << 20;

/// The HTTP stack of everything. https uses the proxies and the certificates
/// that the environment names, as the AWS CLI does.
///
/// # Errors
/// When the certificates of `AWS_CA_BUNDLE` cannot be used.
pub fn client() -> Result<SharedHttpClient> {
    let secure = context(trust()?)?;
    let through = Builder::new().build_with_connector_fn(move |settings, _| {
        let mut connector = Connector::builder()
            .proxy_config(ProxyConfig::from_env())
            .tls_provider(Provider::Rustls(CryptoMode::Ring))
            .tls_context(secure.clone());
        connector.set_connector_settings(settings.cloned());
        connector.build()
    });
    let nobody = context(TrustStore::empty())?;
    let here = Builder::new().build_with_connector_fn(move |settings, _| {
        let mut connector = Connector::builder()
            .proxy_config(ProxyConfig::disabled())
            .tls_provider(Provider::Rustls(CryptoMode::Ring))
            .tls_context(nobody.clone());
        connector.set_connector_settings(settings.cloned());
        connector.build_with_resolver(Loopback)
    });
    Ok(SharedHttpClient::new(Gates { through, here }))
}

fn context(trust: TrustStore) -> Result<TlsContext> {
    let context = TlsContext::builder().with_trust_store(trust).build();
    context.map_err(|e| Error::Configuration(format!("TLS: {e}")))
}

/// The system's authorities, or those of `AWS_CA_BUNDLE`.
fn trust() -> Result<TrustStore> {
    let Some(path) = std::env::var_os("AWS_CA_BUNDLE").filter(|path| !path.is_empty()) else {
        return Ok(TrustStore::default());
    };
    let wrong = |why: &str| {
        Error::Configuration(format!("AWS_CA_BUNDLE: {}: {why}", path.to_string_lossy()))
    };
    let pem = std::fs::read(&path).map_err(|e| wrong(&crate::error::plain(&e)))?;
    // What does not parse here, the SDK panics about.
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let added = certificate.ok().map(|certificate| roots.add(certificate));
        if !matches!(added, Some(Ok(()))) {
            return Err(wrong("a certificate in it cannot be read"));
        }
    }
    if roots.is_empty() {
        return Err(wrong("no certificate in PEM"));
    }
    Ok(TrustStore::empty().with_pem_certificate(pem))
}

/// What `localhost` is, whatever a name server says.
#[derive(Clone, Debug)]
struct Loopback;

impl ResolveDns for Loopback {
    fn resolve_dns<'a>(&'a self, name: &'a str) -> DnsFuture<'a> {
        DnsFuture::ready(if name.eq_ignore_ascii_case("localhost") {
            Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()])
        } else {
            Err(aws_smithy_runtime_api::client::dns::ResolveDnsError::new("not this machine"))
        })
    }
}

/// The same stack, which gives up an answer that is longer than [`ANSWER`].
pub fn bounded(client: SharedHttpClient) -> SharedHttpClient {
    SharedHttpClient::new(Bounded(client))
}

#[derive(Debug)]
struct Bounded<T>(T);

impl HttpClient for Bounded<SharedHttpClient> {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(Bounded(self.0.http_connector(settings, components)))
    }
}

impl HttpConnector for Bounded<SharedHttpConnector> {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let answer = self.0.call(request);
        HttpConnectorFuture::new(async move {
            let mut answer = answer.await?;
            let body = Limited::new(answer.take_body(), ANSWER);
            *answer.body_mut() = SdkBody::from_body_1_x(body);
            Ok(answer)
        })
    }
}

/// Both ways out.
#[derive(Debug)]
struct Gates {
    /// For https.
    through: SharedHttpClient,
    /// For plain http.
    here: SharedHttpClient,
}

impl HttpClient for Gates {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(Gate {
            through: self.through.http_connector(settings, components),
            here: self.here.http_connector(settings, components),
        })
    }
}

#[derive(Debug)]
struct Gate {
    through: SharedHttpConnector,
    here: SharedHttpConnector,
}

impl HttpConnector for Gate {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let url = request.uri().to_owned();
        let way = match check(&url) {
            Ok(way) => way,
            Err(_) if endpoint::is_metadata(&url) => Way::Here,
            Err(why) => return HttpConnectorFuture::ready(Err(ConnectorError::user(why.into()))),
        };
        let secrets = secrets(&request);
        let answer = match way {
            Way::Through => self.through.call(request),
            Way::Here => self.here.call(request),
        };
        HttpConnectorFuture::new(async move {
            match answer.await {
                Ok(answer) if answer.status().is_success() => Ok(answer),
                Ok(answer) => without(answer, &secrets).await,
                Err(e) => Err(match distrust(&e) {
                    Some(why) => {
                        ConnectorError::user(NotSafe(format!("{}: {why}", origin(&url))).into())
                    }
                    None => e,
                }),
            }
        })
    }
}

/// The scheme, host and port of a URL.
fn origin(url: &str) -> String {
    let authority = url
        .parse::<hyper::Uri>()
        .ok()
        .and_then(|uri| Some(format!("{}://{}", uri.scheme_str()?, uri.authority()?)));
    authority.unwrap_or_else(|| url.to_owned())
}

/// Why the other side is not known to be who it should be. It will not be
/// by itself, so it is not tried again.
fn distrust(error: &ConnectorError) -> Option<String> {
    use rustls::CertificateError as Bad;
    let why = match endpoint::find::<rustls::Error>(error)? {
        rustls::Error::InvalidCertificate(bad) => match bad {
            Bad::UnknownIssuer | Bad::BadSignature => {
                "nobody who is trusted here has signed its certificate; AWS_CA_BUNDLE names whom to trust".to_owned()
            }
            Bad::Expired | Bad::ExpiredContext { .. } => {
                "its certificate has expired, or this machine's clock is wrong".to_owned()
            }
            Bad::NotValidYet | Bad::NotValidYetContext { .. } => {
                "its certificate is not valid yet, or this machine's clock is wrong".to_owned()
            }
            Bad::NotValidForName | Bad::NotValidForNameContext { .. } => {
                "its certificate is for another host".to_owned()
            }
            other => format!("its certificate is refused: {other}"),
        },
        rustls::Error::InvalidMessage(_) => "it does not speak TLS".to_owned(),
        _ => return None,
    };
    Some(why)
}

/// What signs a request, or shows who sends it.
fn secrets(request: &HttpRequest) -> Vec<String> {
    let mut secrets = Vec::new();
    for (name, value) in request.headers() {
        match name {
            "authorization" => {
                let fields = value.split([' ', ',']).filter_map(|field| field.split_once('='));
                for (name, value) in fields {
                    match name {
                        // The key id; the day and the region are no secret.
                        "Credential" => secrets.extend(value.split('/').next().map(str::to_owned)),
                        "Signature" => secrets.push(value.to_owned()),
                        _ => {}
                    }
                }
                secrets.push(value.to_owned());
            }
            "x-amz-security-token" | "x-amz-sso_bearer_token" | "x-aws-ec2-metadata-token" => {
                secrets.push(value.to_owned());
            }
            _ => {}
        }
    }
    // The longest first: one may hold another.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets.retain(|secret| !secret.is_empty());
    secrets
}

/// A refusal without what signed the request: of a signature that does not
/// fit, services tell all they have signed, with the session token in it.
async fn without(
    mut answer: HttpResponse,
    secrets: &[String],
) -> Result<HttpResponse, ConnectorError> {
    let clean = |text: &str| {
        secrets.iter().fold(text.to_owned(), |text, secret| {
            // JSON may write it with escapes.
            text.replace(secret.as_str(), "...").replace(&secret.replace('/', "\\/"), "...")
        })
    };
    let headers: Vec<(String, String)> = answer
        .headers()
        .iter()
        .map(|(name, value)| (name.to_owned(), clean(value), value))
        .filter(|(_, cleaned, value)| cleaned != value)
        .map(|(name, cleaned, _)| (name, cleaned))
        .collect();
    for (name, value) in headers {
        answer.headers_mut().insert(name, value);
    }
    // The length of what it says changes.
    answer.headers_mut().remove("content-length");
    let body = Limited::new(answer.take_body(), ANSWER).collect().await;
    let body = body.map_err(ConnectorError::io)?.to_bytes();
    *answer.body_mut() = match std::str::from_utf8(&body) {
        Ok(text) => SdkBody::from(clean(text)),
        Err(_) => SdkBody::from(clean(&String::from_utf8_lossy(&body))),
    };
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_refusal_does_not_carry_back_what_signed_the_request() {
        let mut request = HttpRequest::empty();
        let token = "FwoGZXIvYXdzEAn//abc+/=";
        request.headers_mut().insert("x-amz-security-token", token);
        request.headers_mut().insert(
            "authorization",
            "AWS4-HMAC-SHA256 Credential=AKIACANARY/20261123/r/glacier/aws4_request, \
             SignedHeaders=host, Signature=00ff",
        );
        let secrets = secrets(&request);
        let escaped = token.replace('/', "\\/");
        let body = format!("x:{token} {escaped} Credential=AKIACANARY/2026 00ff");
        let mut answer = HttpResponse::new(403.try_into().unwrap(), SdkBody::from(body));
        answer.headers_mut().insert("x-amzn-errortype", token);
        let answer = without(answer, &secrets).await.unwrap();
        let body = std::str::from_utf8(answer.body().bytes().unwrap()).unwrap();
        assert_eq!(body, "x:... ... Credential=.../2026 ...");
        assert_eq!(answer.headers().get("x-amzn-errortype"), Some("..."));
    }
}
