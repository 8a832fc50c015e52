//! Where this machine keeps what the tools share: the spool and the catalog.
//!
//! The state directory is `/var/spool/akashita` for root, else
//! `$XDG_STATE_HOME/akashita` or `~/.local/state/akashita`.

use std::ffi::OsString;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// A variable of the environment, unless it is unset or empty.
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// The state directory.
///
/// # Errors
/// When it cannot be told.
pub fn directory() -> Result<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Ok(PathBuf::from("/var/spool/akashita"));
    }
    let base = variable("XDG_STATE_HOME")
        .map(PathBuf::from)
        .or_else(|| variable("HOME").map(|home| PathBuf::from(home).join(".local/state")));
    base.filter(|path| path.is_absolute()).map(|path| path.join("akashita")).ok_or_else(|| {
        Error::Configuration("no state directory: neither HOME nor XDG_STATE_HOME is set".into())
    })
}

/// The directory that a path is in.
pub fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Creates a directory and those above it where they are not there. Each is
/// durable when this returns: what is promised to be in it would else be lost
/// with its name.
///
/// # Errors
/// When one cannot be created. What is there but no directory is left for its
/// user to find.
pub fn create(path: &Path, mode: u32) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let above = parent(path);
    if above != path {
        create(above, mode)?;
    }
    match DirBuilder::new().mode(mode).create(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        created => created.and_then(|()| File::open(above)?.sync_all()),
    }
}

/// The catalog: `--catalog`, `$GLACIER_CATALOG`, or `catalog.jsonl` in the
/// state directory.
///
/// # Errors
/// When there is no state directory.
pub fn catalog(option: Option<PathBuf>) -> Result<PathBuf> {
    match option.or_else(|| variable("GLACIER_CATALOG").map(PathBuf::from)) {
        Some(path) => Ok(path),
        None => Ok(directory()?.join("catalog.jsonl")),
    }
}

/// The spool: `--spool`, `$GLACIER_SPOOL`, or `spool` in the state directory.
///
/// # Errors
/// When there is no state directory.
pub fn spool(option: Option<PathBuf>) -> Result<PathBuf> {
    match option.or_else(|| variable("GLACIER_SPOOL").map(PathBuf::from)) {
        Some(path) => Ok(path),
        None => Ok(directory()?.join("spool")),
    }
}

/// The destination: the argument, or `$GLACIER_DEST`.
///
/// # Errors
/// When neither is there.
pub fn dest(argument: Option<String>) -> Result<String> {
    argument
        .or_else(|| variable("GLACIER_DEST").map(|dest| dest.to_string_lossy().into_owned()))
        .ok_or_else(|| Error::Usage("no destination; name a vault, or set GLACIER_DEST".into()))
}

/// This machine's name, as `hostname` prints it.
pub fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
