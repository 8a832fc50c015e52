//! What leaves this machine, and to whom: the real programs against networks
//! that are not what they should be.

mod canary;
mod clear;
mod tls;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

use crate::common::local::{self, Local, pattern};
use crate::common::{Place, run_with};

const MIB: usize = 1 << 20;

/// Whoever listens where nothing should come, and what came nevertheless.
/// Every request is answered alike.
struct Listener {
    /// Where it listens.
    port: u16,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Listener {
    fn start() -> Self {
        Self::answering(|_| "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n".to_owned())
    }

    /// Answers each connection's first bytes with what `answer` makes of them.
    fn answering(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (noted, answer) = (Arc::clone(&heard), Arc::new(answer));
        // It ends with the test's process.
        thread::spawn(move || {
            for client in listener.incoming() {
                let (noted, answer) = (Arc::clone(&noted), Arc::clone(&answer));
                thread::spawn(move || {
                    let mut client = client.unwrap();
                    let mut request = vec![0; 64 << 10];
                    let size = client.read(&mut request).unwrap_or(0);
                    noted.lock().unwrap().extend_from_slice(&request[..size]);
                    let request = String::from_utf8_lossy(&request[..size]).into_owned();
                    let _ = client.write_all(answer(&request).as_bytes());
                });
            }
        });
        Self { port, heard }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn heard(&self) -> String {
        String::from_utf8_lossy(&self.heard.lock().unwrap()).into_owned()
    }
}

/// The lines of a whole stream of 3 MiB, whose parts are in the spool.
fn cut(place: &Place) -> (Vec<u8>, String) {
    let bytes = pattern(3 * MIB);
    let options = ["--part-size", "1M", "--volume-size", "2M", "--trust-eof", "--name", "x"];
    let chunk = &mut place.tool("glacier-chunk", &options);
    let lines = run_with(chunk.args(["--spool-limit", "none"]), &bytes).done().stdout;
    (bytes, lines)
}

/// put or get with a key pair that is nobody's, and no endpoint.
fn stranger(place: &Place, tool: &str, arguments: &[&str]) -> Command {
    let mut command = place.tool(tool, arguments);
    command
        .env("AWS_REGION", local::REGION)
        .env("AWS_ACCESS_KEY_ID", "AKIASTRANGER")
        .env("AWS_SECRET_ACCESS_KEY", "a secret")
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        .env("AWS_EC2_METADATA_DISABLED", "true");
    command
}

/// What get is to bring back, as chain prints it.
fn chain(place: &Place) -> String {
    let catalog = local::catalog(place);
    run_with(&mut place.tool("glacier-chain", &["x"]), catalog.as_bytes()).done().stdout
}

/// A server with a stream.
fn stored() -> (Place, Local, Vec<u8>) {
    let place = Place::default();
    let server = Local::start(&place);
    let (bytes, lines) = cut(&place);
    run_with(&mut server.put(&place, &["--create-vault", "v"]), lines.as_bytes()).done();
    (place, server, bytes)
}
