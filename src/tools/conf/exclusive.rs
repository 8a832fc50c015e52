//! What one process at a time works on: what a lock's name stands for, or a
//! directory.
//!
//! Both are open files that a process leaves to what it becomes and to all
//! that it starts. So a lock ends with the last of these, however that ends,
//! and nothing has to be cleaned up.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags, flock, fstat};
use rustix::io::{Errno, FdFlags, fcntl_dupfd_cloexec, fcntl_setfd, retry_on_intr};
use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};
use crate::process::paths;

/// The descriptor of a directory: the last one that any sh can name.
const NUMBER: i32 = 9;

/// How often a lock that another holds is tried.
const LOOK: Duration = Duration::from_millis(50);

/// A lock's name, and of what thing it is where there is one for each.
#[derive(Debug)]
pub struct Name {
    /// Letters, digits, `-` and `_`.
    pub name: String,
    /// Anything, such as a dataset.
    pub of: Option<String>,
}

impl Name {
    /// The file of the lock. What a thing is called may be no name of a file.
    fn file(&self) -> String {
        let Self { name, of } = self;
        match of {
            None => format!("{name}.lock"),
            Some(of) => {
                let mut hash = hex::encode(Sha256::digest(of.as_bytes()));
                hash.truncate(32);
                format!("{name}-{hash}.lock")
            }
        }
    }

    fn told(&self) -> String {
        match &self.of {
            None => self.name.clone(),
            Some(of) => format!("{} of {of}", self.name),
        }
    }
}

/// A lock that is held.
#[derive(Debug)]
pub struct Held {
    /// What holds it, and is left to other programs.
    pub file: OwnedFd,
    /// Where it is.
    pub path: PathBuf,
}

/// Takes a lock in the state directory, for which it waits so long.
///
/// # Errors
/// When another holds it, or it cannot be made.
pub fn lock(state: &Path, name: &Name, patience: Duration) -> Result<Held> {
    let path = state.join(name.file());
    let thing = path.display().to_string();
    let failed = |e: io::Error| Error::io(format!("{thing}: cannot lock"), e);
    paths::create(state, 0o700)
        .map_err(|e| Error::io(format!("{}: cannot create", state.display()), e))?;
    let begin = Instant::now();
    let mut file = loop {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(&path).map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            // Whoever had it before may have removed it: a lock is the file
            // that has the name.
            Ok(()) if has_name(&file, &path).map_err(failed)? => break file,
            Ok(()) | Err(Errno::INTR) => {}
            Err(Errno::WOULDBLOCK) if begin.elapsed() < patience => sleep(LOOK),
            Err(Errno::WOULDBLOCK) => {
                let holder = fs::read_to_string(&path).unwrap_or_default();
                let holder = holder.trim();
                let who =
                    if holder.is_empty() { String::new() } else { format!(", process {holder}") };
                return Err(Error::Unfinished(format!(
                    "{}: another is under way{who}; run the same command later",
                    name.told()
                )));
            }
            Err(e) => return Err(failed(e.into())),
        }
    };
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(failed)?;
    // A script that redirects one of the first ten would hide the lock from all
    // that it starts; no sh lets it name others.
    Ok(Held { file: inherited(&file, 10).map_err(failed)?, path })
}

/// Whether a name still stands for an open file.
fn has_name(file: &File, path: &Path) -> io::Result<bool> {
    let opened = file.metadata()?;
    match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        named => named.map(|named| (named.dev(), named.ino()) == (opened.dev(), opened.ino())),
    }
}

/// Opens a directory that no other user may write, creates it if it is not
/// there, and locks it. A link is not followed: who may write above it could
/// have put it there.
///
/// # Errors
/// When it cannot be opened, others may write it, or another works on it; or
/// something else has its number.
pub fn directory(path: &Path) -> Result<OwnedFd> {
    let thing = path.display().to_string();
    let failed = |e: io::Error| Error::io(thing.as_str(), e);
    let refuse = |why: String| Error::Configuration(format!("{thing}: {why}"));
    // A slash at the end would have a link followed.
    let path: PathBuf = path.components().collect();
    paths::create(&path, 0o700).map_err(failed)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = match retry_on_intr(|| rustix::fs::open(&path, flags, Mode::empty())) {
        Err(Errno::NOTDIR | Errno::LOOP | Errno::MLINK) => {
            return Err(refuse("not a directory, or a link to one".to_owned()));
        }
        opened => opened.map_err(|e| failed(e.into()))?,
    };
    let facts = retry_on_intr(|| fstat(&directory)).map_err(|e| failed(e.into()))?;
    if facts.st_uid != rustix::process::geteuid().as_raw() {
        return Err(refuse("belongs to another user; name a directory of your own".to_owned()));
    }
    if Mode::from_raw_mode(facts.st_mode).intersects(Mode::WGRP | Mode::WOTH) {
        return Err(refuse(format!("others may write it; chmod go-w {thing}")));
    }
    match retry_on_intr(|| flock(&directory, FlockOperation::NonBlockingLockExclusive)) {
        Err(Errno::WOULDBLOCK) => {
            return Err(Error::Unfinished(format!(
                "{thing}: another program works on it; run the same command later"
            )));
        }
        locked => locked.map_err(|e| failed(e.into()))?,
    }
    let directory = inherited(&directory, NUMBER).map_err(failed)?;
    if directory.as_raw_fd() == NUMBER {
        Ok(directory)
    } else {
        Err(Error::io(format!("{thing}: descriptor {NUMBER} is open already"), Errno::BUSY))
    }
}

/// The same open file for all that is started from here, with a number that
/// is not less than `least`.
pub(super) fn inherited(file: impl std::os::fd::AsFd, least: i32) -> io::Result<OwnedFd> {
    let file = fcntl_dupfd_cloexec(file, least)?;
    fcntl_setfd(&file, FdFlags::empty())?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(of: Option<&str>) -> Name {
        Name { name: "restore".to_owned(), of: of.map(str::to_owned) }
    }

    fn try_lock(state: &Path, of: Option<&str>) -> Result<Held> {
        lock(state, &name(of), Duration::ZERO)
    }

    #[test]
    fn each_thing_has_a_lock_of_its_own() {
        let state = tempfile::tempdir().unwrap();
        let one = try_lock(state.path(), Some("tank/a")).unwrap();
        let other = try_lock(state.path(), Some("../tank/b c")).unwrap();
        assert_eq!([one.path.parent(), other.path.parent()], [Some(state.path()); 2]);
        try_lock(state.path(), None).unwrap();
        let refused = try_lock(state.path(), Some("tank/a")).unwrap_err().to_string();
        let who =
            format!("restore of tank/a: another is under way, process {}; ", std::process::id());
        assert!(refused.starts_with(&who), "{refused}");
    }

    #[test]
    fn a_lock_is_the_file_that_has_the_name() {
        let state = tempfile::tempdir().unwrap();
        let held = try_lock(state.path(), Some("x")).unwrap();
        let lost = File::from(held.file.try_clone().unwrap());
        assert!(has_name(&lost, &held.path).unwrap());
        fs::remove_file(&held.path).unwrap();
        assert!(!has_name(&lost, &held.path).unwrap());
        let new = try_lock(state.path(), Some("x")).unwrap();
        assert!(!has_name(&lost, &new.path).unwrap());
        drop((held, lost));
        assert!(try_lock(state.path(), Some("x")).is_err());
    }

    #[test]
    fn waits_as_long_as_it_is_told() {
        let state = tempfile::tempdir().unwrap();
        let held = try_lock(state.path(), None).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| lock(state.path(), &name(None), Duration::from_mins(1)));
            drop(held);
            waiting.join().unwrap().unwrap();
        });
    }
}
