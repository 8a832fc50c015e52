//! A real TLS front before glacier-local, with an authority of its own.

use crate::common;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use super::*;

/// A certificate that something is wrong with, or nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Certificate {
    Good,
    Expired,
    NotYet,
    OtherHost,
    SelfSigned,
}

/// What passes TLS on to a server.
struct Front {
    /// Where it listens, as https.
    endpoint: String,
    /// The certificate of its authority, in PEM.
    authority: String,
}

impl Front {
    fn start(server: &str, certificate: Certificate) -> Self {
        let (authority, chain, key) = certify(certificate);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![chain], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let server = server.strip_prefix("http://").unwrap().to_owned();
        let (told, port) = mpsc::channel();
        // It ends with the test's process.
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async move {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                told.send(listener.local_addr().unwrap().port()).unwrap();
                loop {
                    let (client, _) = listener.accept().await.unwrap();
                    let (acceptor, server) = (acceptor.clone(), server.clone());
                    tokio::spawn(async move {
                        let Ok(mut client) = acceptor.accept(client).await else { return };
                        let mut server = tokio::net::TcpStream::connect(server).await.unwrap();
                        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                    });
                }
            });
        });
        let endpoint = format!("https://localhost:{}", port.recv().unwrap());
        Self { endpoint, authority }
    }

    /// Makes a client of a server its client, who trusts its authority.
    fn client<'c>(&self, place: &Place, command: &'c mut Command) -> &'c mut Command {
        let bundle = place.path("bundle.pem");
        std::fs::write(&bundle, &self.authority).unwrap();
        command.env("AWS_ENDPOINT_URL", &self.endpoint).env("AWS_CA_BUNDLE", bundle)
    }
}

/// An authority in PEM, and a certificate that it signed, with its key.
fn certify(certificate: Certificate) -> (String, CertificateDer<'static>, PrivateKeyDer<'static>) {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().unwrap();
    let pem = authority.self_signed(&authority_key).unwrap().pem();
    let host = if certificate == Certificate::OtherHost { "other.example" } else { "localhost" };
    let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
    match certificate {
        Certificate::Expired => params.not_after = rcgen::date_time_ymd(2020, 1, 1),
        Certificate::NotYet => params.not_before = rcgen::date_time_ymd(2090, 1, 1),
        _ => {}
    }
    let key = KeyPair::generate().unwrap();
    let signed = match certificate {
        Certificate::SelfSigned => params.self_signed(&key),
        _ => params.signed_by(&key, &Issuer::new(authority, authority_key)),
    };
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    (pem, signed.unwrap().der().clone(), key)
}

#[test]
fn stores_and_brings_back_through_tls() {
    let place = Place::default();
    let server = Local::start(&place);
    let front = Front::start(&server.endpoint, Certificate::Good);
    let (bytes, lines) = cut(&place);
    let mut put = server.put(&place, &["--create-vault", "v"]);
    run_with(front.client(&place, &mut put), lines.as_bytes()).done();
    server.holds(&place, "v", &bytes);
    let mut get = place.tool("glacier-get", &["--tier", "Expedited"]);
    front.client(&place, server.client(&mut get));
    let output = place.path("back");
    let into = std::fs::File::create(&output).unwrap();
    let mut got = common::start_into(get.stdin(std::process::Stdio::piped()), into);
    got.give(chain(&place).as_bytes());
    got.end_input();
    got.finish().done();
    assert!(std::fs::read(output).unwrap() == bytes, "other bytes came back");
}

/// What is wrong with a certificate does not pass by waiting for it.
#[test]
fn a_certificate_that_proves_nothing_ends_it_at_once() {
    let place = Place::default();
    let server = Local::start(&place);
    let (_, lines) = cut(&place);
    for (certificate, trusting, why) in [
        (
            Certificate::Good,
            false,
            "nobody who is trusted here has signed its certificate; AWS_CA_BUNDLE names whom to trust",
        ),
        (
            Certificate::SelfSigned,
            true,
            "nobody who is trusted here has signed its certificate; AWS_CA_BUNDLE names whom to trust",
        ),
        (
            Certificate::Expired,
            true,
            "its certificate has expired, or this machine's clock is wrong",
        ),
        (
            Certificate::NotYet,
            true,
            "its certificate is not valid yet, or this machine's clock is wrong",
        ),
        (Certificate::OtherHost, true, "its certificate is for another host"),
    ] {
        let front = Front::start(&server.endpoint, certificate);
        let mut put = server.put(&place, &["--create-vault", "v"]);
        front.client(&place, &mut put);
        if !trusting {
            // Another authority: the system's may be none here.
            let (other, ..) = certify(Certificate::Good);
            std::fs::write(place.path("bundle.pem"), other).unwrap();
        }
        let began = Instant::now();
        let ended = run_with(&mut put, lines.as_bytes());
        ended.failed(78, &format!("{}: {why}", front.endpoint));
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "{certificate:?}: {:?}",
            began.elapsed()
        );
    }
    assert_eq!(server.log().len(), 0);
}

#[test]
fn what_does_not_speak_tls_is_told_at_once() {
    let place = Place::default();
    let server = Local::start(&place);
    let (_, lines) = cut(&place);
    let endpoint = server.endpoint.replace("http:", "https:");
    let mut put = server.put(&place, &["v"]);
    let ended = run_with(put.env("AWS_ENDPOINT_URL", &endpoint), lines.as_bytes());
    ended.failed(78, &format!("{endpoint}: it does not speak TLS"));
}

/// A proxy sees where to, and no more.
#[test]
fn a_proxy_is_told_no_more_than_the_host() {
    let place = Place::default();
    let proxy = Listener::answering(|_| "HTTP/1.1 407 No\r\ncontent-length: 0\r\n\r\n".to_owned());
    let (_, lines) = cut(&place);
    let mut put = stranger(&place, "glacier-put", &["--patience", "0s", "v"]);
    put.env("HTTPS_PROXY", proxy.url().replace("http://", "http://CANARYUSER:CANARYPASS@"));
    let ended = run_with(&mut put, lines.as_bytes());
    assert_eq!(ended.code(), 75, "{}", ended.stderr);
    assert!(!ended.stderr.contains("CANARY"), "{}", ended.stderr);
    let heard = proxy.heard();
    assert!(heard.starts_with("CONNECT glacier.eu-central-1.amazonaws.com:443 "), "{heard}");
    assert!(!heard.contains("AKIASTRANGER") && !heard.contains("vaults"), "{heard}");
}

#[test]
fn an_authority_that_cannot_be_read_is_refused() {
    let place = Place::default();
    let (pem, ..) = certify(Certificate::Good);
    let torn = pem.replace("MII", "///");
    for (content, why) in [
        ("", "no certificate in PEM"),
        ("no PEM", "no certificate in PEM"),
        (torn.as_str(), "a certificate in it cannot be read"),
        (
            "-----BEGIN CERTIFICATE-----\n%\n-----END CERTIFICATE-----\n",
            "a certificate in it cannot be read",
        ),
    ] {
        let bundle = place.path("bundle.pem");
        std::fs::write(&bundle, content).unwrap();
        let mut put = stranger(&place, "glacier-put", &["v"]);
        let ended = run_with(put.env("AWS_CA_BUNDLE", &bundle), b"{\"type\":\"end\"}\n");
        ended.failed(78, &format!("AWS_CA_BUNDLE: {}: {why}", bundle.display()));
    }
    let mut put = stranger(&place, "glacier-put", &["v"]);
    let ended = run_with(put.env("AWS_CA_BUNDLE", "/no/such"), b"");
    ended.failed(78, "AWS_CA_BUNDLE: /no/such: No such file or directory");
}
