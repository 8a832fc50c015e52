//! Servers of others that speak like S3, started once for all tests of a
//! process and gone with it: SeaweedFS, which proves signatures and hashes, and
//! MiniStack, which has storage classes and restores.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The keys that they take.
pub const KEY: &str = "AKID";
/// See [`KEY`].
pub const SECRET: &str = "secret";
/// The region that they are in.
pub const REGION: &str = "us-east-1";

/// How long one may take to start.
const PATIENCE: Duration = Duration::from_mins(1);

/// A server, which ends when its standard input does: with the tests.
#[derive(Debug)]
pub struct Buckets {
    /// Its URL.
    pub endpoint: String,
    _child: Child,
}

/// Where a program is that scripts/test has installed, or why it is not.
fn installed(name: &str, path: PathBuf) -> Result<PathBuf, String> {
    if path.exists() {
        Ok(path)
    } else {
        Err(format!("{name}: not found in {}; try scripts/test", path.display()))
    }
}

/// A directory of scripts/test, beside that of its Python.
fn beside(python: &Path, place: &str) -> PathBuf {
    python.parent().unwrap_or(Path::new(".")).join(place)
}

/// The Python of scripts/test.
fn python() -> PathBuf {
    let usual = || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/python/bin/python");
    std::env::var_os("AKASHITA_PYTHON").map_or_else(usual, PathBuf::from)
}

/// So many ports that nobody listens on.
fn ports(count: usize) -> Vec<u16> {
    let listeners = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    let listeners: Vec<TcpListener> = listeners.collect();
    listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect()
}

/// Whether a server answers a request with anything but that it is broken.
fn answers(port: u16) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut status = [0; 12];
        stream.read_exact(&mut status)?;
        Ok::<_, std::io::Error>(status)
    };
    ask().is_ok_and(|status| status.starts_with(b"HTTP/1.") && status.get(9) != Some(&b'5'))
}

impl Buckets {
    /// Runs a program in a directory that goes with it.
    fn start(name: &str, port: u16, command: &mut Command) -> Self {
        let directory = tempfile::tempdir().unwrap().keep();
        let mut shell = Command::new("sh");
        shell
            .args(["-c", r#""$@" & cat >/dev/null; kill -9 $!; wait; rm -rf "$PWD""#, name])
            .arg(command.get_program())
            .args(command.get_args())
            .envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))))
            .current_dir(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = shell.spawn().unwrap();
        let begin = Instant::now();
        while !answers(port) {
            assert!(begin.elapsed() < PATIENCE, "{name}: does not start");
            sleep(Duration::from_millis(100));
        }
        Self { endpoint: format!("http://127.0.0.1:{port}"), _child: child }
    }

    fn seaweedfs() -> Result<Self, String> {
        let program = installed("seaweedfs", beside(&python(), "weed"))?;
        let options = [
            "s3.port",
            "s3.port.grpc",
            "master.port",
            "master.port.grpc",
            "volume.port",
            "volume.port.grpc",
            "filer.port",
            "filer.port.grpc",
        ];
        let ports = ports(options.len());
        let keys = tempfile::Builder::new().suffix(".json").tempfile().unwrap();
        let text = format!(
            r#"{{"identities":[{{"name":"a","credentials":[{{"accessKey":"{KEY}","secretKey":"{SECRET}"}}],"actions":["Admin","Read","Write","List","Tagging"]}}]}}"#
        );
        std::fs::write(keys.path(), text).unwrap();
        let (_, path) = keys.keep().unwrap();
        let mut command = Command::new(program);
        command.args(["server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-dir=.", "-filer", "-s3"]);
        command.args(["-s3.port.iceberg=0", "-s3.port.lance=0"]);
        command.args(["-volume.max=0", "-master.volumeSizeLimitMB=64", "-master.telemetry=false"]);
        command.arg(format!("-s3.config={}", path.display()));
        for (option, port) in options.iter().zip(&ports) {
            command.arg(format!("-{option}={port}"));
        }
        let started = Self::start("seaweedfs", ports[0], &mut command);
        std::fs::remove_file(path).unwrap();
        Ok(started)
    }

    fn ministack() -> Result<Self, String> {
        let program = beside(&python(), "../../ministack/bin/ministack");
        let program = installed("ministack", program)?;
        let port = ports(1)[0];
        let mut command = Command::new(program);
        command.env("BIND_HOST", "127.0.0.1").env("GATEWAY_PORT", port.to_string());
        Ok(Self::start("ministack", port, &mut command))
    }

    /// SeaweedFS, or why there is none.
    pub fn seaweed() -> Result<&'static Self, &'static str> {
        static ONE: OnceLock<Result<Buckets, String>> = OnceLock::new();
        ONE.get_or_init(Self::seaweedfs).as_ref().map_err(String::as_str)
    }

    /// MiniStack, or why there is none.
    pub fn stack() -> Result<&'static Self, &'static str> {
        static ONE: OnceLock<Result<Buckets, String>> = OnceLock::new();
        ONE.get_or_init(Self::ministack).as_ref().map_err(String::as_str)
    }
}
