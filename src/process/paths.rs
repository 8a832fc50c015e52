//! Where this machine keeps what the tools share: the spool and the catalog.
//!
//! The state directory is `/var/spool/akashita` for root, else
//! `$XDG_STATE_HOME/akashita` or `~/.local/state/akashita`.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The file in the state directory that tells what was made from it.
const IDENTITY: &str = "id";

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

/// Whose snapshots, holds, clones and drills are: 16 hexadecimal digits that
/// stand for this state directory, as long as it is there. They are of chance
/// and say nothing of host, path or destination, which all may change. `None`
/// where none were made yet.
///
/// # Errors
/// When the file cannot be read or holds something else.
pub fn identity(state: &Path) -> Result<Option<String>> {
    let file = state.join(IDENTITY);
    let name = file.display();
    let text = match fs::read(&file) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read.map_err(|e| Error::io(format!("{name}: cannot read"), e))?,
    };
    let text = text.strip_suffix(b"\n").unwrap_or(&text);
    let digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let digits = (text.len() == 16 && text.iter().all(digit)).then_some(text);
    let digits = digits.and_then(|text| String::from_utf8(text.to_vec()).ok());
    digits.map(Some).ok_or_else(|| {
        Error::Configuration(format!(
            "{name}: not 16 hexadecimal digits; bring it back from a copy, or remove it, and what \
             was made by it is known by guid alone"
        ))
    })
}

/// The identity of a state directory, which is made if there is none. It is
/// whole or not there at any moment, and of two that begin at once both get
/// the one that came first.
///
/// # Errors
/// As for [`identity`], and when it cannot be made.
pub fn make_identity(state: &Path) -> Result<String> {
    if let Some(known) = identity(state)? {
        return Ok(known);
    }
    let cannot = |e| Error::io(format!("{}: cannot create", state.join(IDENTITY).display()), e);
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|e| cannot(io::Error::other(e)))?;
    let mut file = tempfile::NamedTempFile::new_in(state).map_err(cannot)?;
    writeln!(file, "{}", hex::encode(bytes))
        .and_then(|()| file.as_file().sync_all())
        .map_err(cannot)?;
    match file.persist_noclobber(state.join(IDENTITY)) {
        Err(e) if e.error.kind() != io::ErrorKind::AlreadyExists => return Err(cannot(e.error)),
        // What carries it must not outlive it.
        _ => File::open(state).and_then(|directory| directory.sync_all()).map_err(cannot)?,
    }
    identity(state)?.ok_or_else(|| cannot(io::ErrorKind::NotFound.into()))
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
        .or_else(usual_dest)
        .ok_or_else(|| Error::Usage("no destination; name a vault, or set GLACIER_DEST".into()))
}

/// The destination where none is named.
pub fn usual_dest() -> Option<String> {
    variable("GLACIER_DEST").map(|dest| dest.to_string_lossy().into_owned())
}

/// This machine's name, as `hostname` prints it.
pub fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::thread;

    use super::*;

    #[test]
    fn an_identity_is_made_once_whoever_begins() {
        let state = tempfile::tempdir().unwrap();
        assert_eq!(identity(state.path()).unwrap(), None);
        let ids: Vec<String> = thread::scope(|scope| {
            let begin = || scope.spawn(|| make_identity(state.path()).unwrap());
            let all: Vec<_> = (0..8).map(|_| begin()).collect();
            all.into_iter().map(|each| each.join().unwrap()).collect()
        });
        assert!(ids.iter().all(|each| *each == ids[0] && each.len() == 16), "{ids:?}");
        assert_eq!(identity(state.path()).unwrap().as_ref(), Some(&ids[0]));
        let mode = fs::metadata(state.path().join(IDENTITY)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(state.path()).unwrap().count(), 1, "nothing else stays");
        let other = tempfile::tempdir().unwrap();
        assert_ne!(make_identity(other.path()).unwrap(), ids[0]);
    }

    #[test]
    fn what_is_no_identity_is_told_and_left() {
        let state = tempfile::tempdir().unwrap();
        for text in
            ["", "0123456789abcde", "0123456789ABCDEF\n", "0123456789abcdef\n\n", "\u{fffd}"]
        {
            fs::write(state.path().join(IDENTITY), text).unwrap();
            let told = make_identity(state.path()).unwrap_err().to_string();
            assert!(told.contains("id: not 16 hexadecimal digits; "), "{told}");
            assert_eq!(fs::read_to_string(state.path().join(IDENTITY)).unwrap(), text);
        }
    }
}
