//! https only, and plain http for this machine alone.

use std::fs;
use std::process::Command;

use super::*;

/// Asserts that a tool refuses to speak, with 78 and within patience, and
/// that nobody heard anything.
#[track_caller]
fn says_nothing(command: &mut Command, lines: &str, listener: &Listener, about: &str) {
    let ended = run_with(command, lines.as_bytes());
    assert_eq!(ended.code(), 78, "{about}: {}", ended.stderr);
    assert_eq!(ended.stderr.lines().count(), 1, "{about}: {}", ended.stderr);
    assert!(!ended.stderr.contains("user:"), "{about}: {}", ended.stderr);
    assert_eq!(listener.heard(), "", "{about}");
}

/// Each of these is this machine to some program, and none is to ours; the
/// proxies and names lead whatever is sent to the listener.
#[test]
fn speaks_in_the_clear_to_nobody_else() {
    let place = Place::default();
    let listener = Listener::start();
    let (_, lines) = cut(&place);
    let port = listener.port;
    for url in [
        format!("http://127.1:{port}"),
        format!("http://2130706433:{port}"),
        format!("http://0x7f.1:{port}"),
        format!("http://0177.0.0.1:{port}"),
        format!("http://0.0.0.0:{port}"),
        format!("http://[::ffff:127.0.0.1]:{port}"),
        format!("http://user:pass@127.0.0.1:{port}"),
        format!("http://localhost.:{port}"),
        format!("http://127.0.0.1.:{port}"),
        format!("http://localhost:{port}@evil.example"),
        format!("http://evil.example\\@127.0.0.1:{port}"),
        format!("http://\u{ff11}27.0.0.1:{port}"),
        format!("http://[::1%25lo]:{port}"),
        "http://127.0.0.1.evil.example".to_owned(),
        "http://localhost.evil.example".to_owned(),
        "http://glacier.eu-central-1.amazonaws.com".to_owned(),
        "HTTP://glacier.eu-central-1.amazonaws.com".to_owned(),
        "no url at all".to_owned(),
    ] {
        let through = |command: &mut Command| {
            for proxy in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"] {
                command.env(proxy, listener.url());
            }
        };
        let mut option = stranger(&place, "glacier-put", &["--endpoint-url", &url, "v"]);
        through(&mut option);
        says_nothing(&mut option, &lines, &listener, &format!("--endpoint-url {url}"));
        for variable in ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_GLACIER"] {
            let mut command = stranger(&place, "glacier-put", &["v"]);
            through(command.env(variable, &url));
            says_nothing(&mut command, &lines, &listener, &format!("{variable}={url}"));
        }
        for config in [
            format!("[default]\nendpoint_url = {url}\n"),
            format!("[default]\nservices = s\n[services s]\nglacier =\n  endpoint_url = {url}\n"),
        ] {
            let file = place.path("config");
            fs::write(&file, &config).unwrap();
            let mut command = stranger(&place, "glacier-put", &["v"]);
            through(command.env("AWS_CONFIG_FILE", &file));
            says_nothing(&mut command, &lines, &listener, &config);
        }
    }
}

#[test]
fn get_speaks_in_the_clear_to_nobody_else() {
    let (place, server, _) = stored();
    let listener = Listener::start();
    let lines = chain(&place);
    drop(server);
    for url in ["http://127.1", "http://2130706433", "http://user:pass@127.0.0.1"] {
        let url = format!("{url}:{}", listener.port);
        for variable in ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_GLACIER"] {
            let mut command = stranger(&place, "glacier-get", &[]);
            command.env(variable, &url).env("HTTP_PROXY", listener.url());
            says_nothing(&mut command, &lines, &listener, &format!("{variable}={url}"));
        }
    }
}

/// A request to this machine would leave it through a proxy.
#[test]
fn plain_http_goes_through_no_proxy() {
    let place = Place::default();
    let server = Local::start(&place);
    let listener = Listener::start();
    let (bytes, lines) = cut(&place);
    let mut put = server.put(&place, &["--create-vault", "v"]);
    for proxy in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
        put.env(proxy, listener.url());
    }
    run_with(&mut put, lines.as_bytes()).done();
    assert_eq!(listener.heard(), "");
    server.holds(&place, "v", &bytes);
}

#[test]
fn localhost_is_this_machine() {
    let place = Place::default();
    let server = Local::start(&place);
    let (bytes, lines) = cut(&place);
    let mut put = server.put(&place, &["--create-vault", "v"]);
    put.env("AWS_ENDPOINT_URL", server.endpoint.replace("127.0.0.1", "LocalHost"));
    run_with(&mut put, lines.as_bytes()).done();
    server.holds(&place, "v", &bytes);
}

/// Where an answer leads to nobody follows, signed request or not. It may be
/// a page to log in at, so that it passes.
#[test]
fn follows_no_redirect() {
    let place = Place::default();
    let target = Arc::new(Listener::start());
    let (_, lines) = cut(&place);
    for status in ["301 Moved", "302 Found", "303 See Other", "307 Moved", "308 Moved"] {
        for to in [target.url(), format!("http://127.1:{}", target.port)] {
            let answer = format!(
                "HTTP/1.1 {status}\r\nlocation: {to}/-/vaults/v\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            );
            let from = Listener::answering(move |_| answer.clone());
            let mut put = stranger(&place, "glacier-put", &["--patience", "0s", "v"]);
            let ended = run_with(put.env("AWS_ENDPOINT_URL", from.url()), lines.as_bytes());
            let number = status.split_once(' ').unwrap().0;
            let why = format!(
                "glacier://v: an answer of status {number} that is not the service's; run the same command again"
            );
            ended.failed(75, &why);
            assert_ne!(from.heard(), "");
            assert_eq!(target.heard(), "", "{status}");
        }
    }
}

/// The calls that fetch credentials pass the same gate.
#[test]
fn credentials_are_not_fetched_in_the_clear() {
    let place = Place::default();
    let listener = Listener::start();
    let (_, lines) = cut(&place);
    let token = place.path("token");
    fs::write(&token, "CANARYWEBTOKEN").unwrap();
    let mut put = stranger(&place, "glacier-put", &["v"]);
    put.env_remove("AWS_ACCESS_KEY_ID")
        .env_remove("AWS_SECRET_ACCESS_KEY")
        .env("AWS_WEB_IDENTITY_TOKEN_FILE", &token)
        .env("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/x")
        .env("AWS_ENDPOINT_URL_STS", format!("http://127.1:{}", listener.port))
        .env("HTTP_PROXY", listener.url());
    says_nothing(&mut put, &lines, &listener, "AWS_ENDPOINT_URL_STS");
}
