//! glacier-local(1): an Amazon Glacier on this machine.
//!
//! The vault API, written from the service's documentation and not from our
//! client, so that the two can prove each other. `http` takes a request apart
//! and has `sigv4` check it; `call` names it; `vaults`, `archives`, `uploads`,
//! `jobs` and `policies` answer it within one `store::Turn`. `faults` says which
//! requests fail, `body_in` and `body_out` carry bodies, `access_log` logs. All state is
//! files, so that killing the server is stopping it.

mod access_log;
mod body_in;
mod body_out;
mod call;
mod clock;
mod credentials;
mod disk;
mod faults;
mod glacier;
mod http;
mod part;
#[doc(hidden)]
pub mod range;
mod readers;
mod reply;
mod request;
mod sigv4;
mod socketless;
mod store;

#[doc(hidden)]
pub use self::socketless::Socketless;

use std::fs::{self, File};
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::fs::FlockOperation;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use self::call::Call;
use self::clock::Clock;
use self::faults::{Plan, Strike};
use self::reply::{Answer, Refusal};
use self::sigv4::Keys;
use self::store::Store;
use crate::error::{Error, Result};
use crate::process;
use crate::spool::append;

/// Most bytes of a request's head, and the most that is read at once.
const HEAD: usize = 64 << 10;
/// Most headers of a request.
const HEADERS: usize = 64;
/// Connections at a time; others wait until one ends.
const CONNECTIONS: usize = 256;
/// How often what is over is dropped and the clock is written down.
const SWEEP: Duration = Duration::from_secs(30);

/// What the server is told.
pub struct Settings {
    /// Where everything is kept.
    pub root: PathBuf,
    /// `HOST:PORT`; port 0 takes a free one.
    pub listen: String,
    /// How many times as fast as real time the service's hours pass.
    pub clock_speed: u32,
    /// How long a client may take for the head of its next request, and how
    /// long a body may stand still.
    pub timeout: Duration,
    /// One line for each request goes here.
    pub log: Option<PathBuf>,
    /// Which requests fail how.
    pub faults: Option<PathBuf>,
    /// The environment's access key id.
    pub key_id: Option<String>,
    /// The environment's secret access key.
    pub secret: Option<String>,
}

/// A server that is set up.
struct Server {
    store: Store,
    keys: Keys,
    log: Option<Mutex<File>>,
    faults: Mutex<Plan>,
    timeout: Duration,
    /// Held, so that the root has one server.
    _lock: File,
}

impl Server {
    fn open(settings: &Settings) -> Result<Self> {
        let faults = match &settings.faults {
            None => Plan::default(),
            Some(path) => faults_in(path)?,
        };
        let root = &settings.root;
        fs::create_dir_all(root).map_err(|e| {
            let is_file = e.kind() == std::io::ErrorKind::AlreadyExists;
            let e = if is_file { rustix::io::Errno::NOTDIR.into() } else { e };
            Error::io(root.display().to_string(), e)
        })?;
        let lock = lock(root)?;
        let keys = credentials::find(root, settings.key_id.clone(), settings.secret.clone())?;
        let clock = Clock::open(&root.join("clock.json"), settings.clock_speed)?;
        let log = match &settings.log {
            None => None,
            Some(path) => {
                // A FIFO or a terminal is only written to.
                let is_file = path.is_file() || !path.exists();
                let file = File::options().append(true).read(is_file).create(true).open(path);
                Some(Mutex::new(file.map_err(|e| Error::io(path.display().to_string(), e))?))
            }
        };
        let (store, faults) = (Store::open(root, clock)?, Mutex::new(faults));
        Ok(Self { store, keys, log, faults, timeout: settings.timeout, _lock: lock })
    }

    /// Writes a line of the request log, with one write.
    fn log(&self, line: &access_log::Line) {
        if let Some(log) = &self.log {
            let mut file = log.lock().unwrap_or_else(PoisonError::into_inner);
            let mut write = || -> std::io::Result<()> {
                let mut text = serde_json::to_vec(line)?;
                text.push(b'\n');
                // A server that was killed may have left half a line.
                if log_is_torn(&file) {
                    text.insert(0, b'\n');
                }
                file.write_all(&text)
            };
            if let Err(e) = write() {
                process::warn(&format!("log: {e}"));
            }
        }
    }

    /// Counts a request, and gives what the fault plan has for it.
    fn strike(&self, call: Option<Call>) -> Option<Strike> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).strike(call)
    }

    /// Drops uploads and jobs whose time is over.
    fn sweep(&self) -> Answer<()> {
        for region in self.store.regions().map_err(|e| Refusal::broken("regions", e))? {
            let names = self.store.turn(&region).vault_names()?;
            for name in names {
                // A turn for each vault, so that calls come in between.
                let turn = self.store.turn(&region);
                if let Some(vault) = glacier::find(&turn, &name)? {
                    glacier::uploads::sweep(&turn, &vault)?;
                    glacier::jobs::sweep(&turn, &vault)?;
                }
            }
        }
        Ok(())
    }
}

/// Whether the log ends within a line. What is no file, or may only be written
/// to, is not looked at.
fn log_is_torn(log: &File) -> bool {
    let size = log.metadata().ok().filter(fs::Metadata::is_file).map(|facts| facts.len());
    size.is_some_and(|size| append::is_torn(log, size).unwrap_or(false))
}

/// The fault plan in a file.
fn faults_in(path: &Path) -> Result<Plan> {
    let name = path.display();
    let text = fs::read_to_string(path).map_err(|e| Error::io(name.to_string(), e))?;
    Plan::read(&text).map_err(|(line, why)| Error::Data(format!("{name}: line {line}: {why}")))
}

/// One server a root: a second one says so and ends.
fn lock(root: &Path) -> Result<File> {
    let path = root.join("lock");
    let name = || path.display().to_string();
    let file = File::create(&path).map_err(|e| Error::io(name(), e))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            Err(Error::Unfinished(format!("{}: another glacier-local serves it", root.display())))
        }
        Err(e) => Err(Error::io(name(), e)),
    }
}

/// Serves until the process ends. `listening` is given the endpoint once
/// requests are taken.
///
/// # Errors
/// When the root cannot be used or locked, there are no credentials, or the
/// address cannot be listened on.
pub fn serve(settings: &Settings, listening: impl FnOnce(&str) -> Result<()>) -> Result<()> {
    let server = Arc::new(Server::open(settings)?);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| Error::io("threads", e))?;
    runtime.block_on(async {
        let cannot = |e: std::io::Error| {
            let form = e.kind() == std::io::ErrorKind::InvalidInput;
            let e = if form { std::io::Error::other("not HOST:PORT") } else { e };
            Error::io(format!("{}: cannot listen", settings.listen), e)
        };
        let listener = TcpListener::bind(&settings.listen).await.map_err(cannot)?;
        let address = listener.local_addr().map_err(cannot)?;
        if !address.ip().is_loopback() {
            process::warn(&format!(
                "{address}: not a loopback address; whoever reaches it and has the keys can use it"
            ));
        }
        tokio::spawn(sweep(Arc::clone(&server)));
        listening(&format!("http://{address}"))?;
        accept(&server, &listener, address).await
    })
}

async fn accept(server: &Arc<Server>, listener: &TcpListener, address: SocketAddr) -> Result<()> {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let place = Arc::clone(&room).acquire_owned().await;
        let connection = match listener.accept().await {
            Ok((connection, _)) => connection,
            Err(e) => {
                // Out of descriptors, say: connections that end give some back.
                process::warn(&format!("{address}: {e}"));
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        // Without it, small answers wait for the client's acknowledgement.
        let _ = connection.set_nodelay(true);
        let server = Arc::clone(server);
        tokio::spawn(async move {
            let _place = place;
            let timeout = server.timeout;
            let service = service_fn(move |request| http::serve(Arc::clone(&server), request));
            // A connection that breaks is its client's to report.
            let _ = connections(timeout).serve_connection(TokioIo::new(connection), service).await;
        });
    }
}

/// What bounds a connection.
fn connections(timeout: Duration) -> http1::Builder {
    let mut connections = http1::Builder::new();
    connections
        .timer(TokioTimer::new())
        .header_read_timeout(timeout)
        .max_headers(HEADERS)
        .max_buf_size(HEAD);
    connections
}

async fn sweep(server: Arc<Server>) {
    loop {
        let server = Arc::clone(&server);
        let swept = tokio::task::spawn_blocking(move || {
            if let Err(refusal) = server.sweep() {
                process::warn(&refusal.reason.unwrap_or(refusal.message));
            }
            if let Err(e) = server.store.clock.save() {
                process::warn(&e.to_string());
            }
        });
        let _ = swept.await;
        tokio::time::sleep(SWEEP).await;
    }
}
