//! A server without a socket, for tests that try a great many requests: hidden
//! from the documentation, as it is no part of what the library offers.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::{Server, Settings, http};
use crate::error::{Error, Result};

/// Bytes between the two ends.
const BETWEEN: usize = 64 * 1024;
/// Nothing here waits for anything but the disk.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server that takes the bytes of requests and gives those of its answers.
pub struct Socketless {
    server: Arc<Server>,
    runtime: Runtime,
}

impl Socketless {
    /// As [`super::serve`], but for the address.
    ///
    /// # Errors
    /// When the root cannot be used or locked, or there are no credentials.
    pub fn open(settings: &Settings) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| Error::io("threads", e))?;
        Ok(Self { server: Arc::new(Server::open(settings)?), runtime })
    }

    /// One connection: what the client sends, and what it is answered until
    /// the server closes.
    ///
    /// # Errors
    /// When the server does not come to an end.
    pub fn exchange(&self, sent: &[u8]) -> io::Result<Vec<u8>> {
        self.runtime.block_on(async {
            let (client, server) = duplex(BETWEEN);
            let service = service_fn(|request| http::serve(Arc::clone(&self.server), request));
            let mut serving = super::connections(self.server.timeout);
            let serving = serving.half_close(true).serve_connection(TokioIo::new(server), service);
            let (mut answers, mut requests) = tokio::io::split(client);
            let mut answered = Vec::new();
            let all = async {
                let (_, (), read) = tokio::join!(
                    // A connection that breaks is the client's to report.
                    serving,
                    async {
                        // The server may have heard enough.
                        let _ = requests.write_all(sent).await;
                        let _ = requests.shutdown().await;
                    },
                    answers.read_to_end(&mut answered),
                );
                read
            };
            timeout(PATIENCE, all).await.map_err(io::Error::from)??;
            Ok(answered)
        })
    }
}
