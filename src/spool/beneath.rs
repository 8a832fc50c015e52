//! Reaching what is beneath a directory, by its handle and one name.
//!
//! No name leads out of the spool (I6): there is none with a slash in it, and
//! no symbolic link is followed. On Linux the kernel is told so (openat2 with
//! `RESOLVE_BENEATH` and `RESOLVE_NO_SYMLINKS`); elsewhere, on a kernel that
//! does not have the call and in a sandbox that forbids it, a single name and
//! `O_NOFOLLOW` say the same. A call that a signal interrupted is made again.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{self, AtFlags, Mode, OFlags, Stat};
use rustix::io::{Errno, retry_on_intr};

/// Permissions of files; directories have those of [`DIRECTORY`].
const FILE: Mode = Mode::RUSR.union(Mode::WUSR);
const DIRECTORY: Mode = Mode::RWXU;

/// Opens `name`; never waits for the other end of a FIFO.
pub fn open(directory: &OwnedFd, name: &str, flags: OFlags) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    opened(match by_kernel(directory, single(name)?, flags) {
        Err(Errno::NOSYS | Errno::PERM) => by_name(directory, name, flags),
        opened => opened,
    })
}

#[cfg(target_os = "linux")]
fn by_kernel(directory: &OwnedFd, name: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    use rustix::fs::ResolveFlags;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    retry_on_intr(|| fs::openat2(directory, name, flags, mode(flags), resolve))
}

#[cfg(not(target_os = "linux"))]
fn by_kernel(_: &OwnedFd, _: &str, _: OFlags) -> Result<OwnedFd, Errno> {
    Err(Errno::NOSYS)
}

/// The portable twin.
fn by_name(directory: &OwnedFd, name: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    retry_on_intr(|| fs::openat(directory, name, flags, mode(flags)))
}

/// openat2 takes permissions only for what may be created.
fn mode(flags: OFlags) -> Mode {
    if flags.contains(OFlags::CREATE) { FILE } else { Mode::empty() }
}

/// What the two refuse, in words that name it.
fn opened(opened: Result<OwnedFd, Errno>) -> io::Result<OwnedFd> {
    match opened {
        Err(Errno::LOOP) => Err(io::Error::other("a symbolic link, which is not followed")),
        // A socket, or a directory where a file is to be written.
        Err(Errno::NXIO | Errno::ISDIR) => Err(io::Error::other(NOT_REGULAR)),
        opened => Ok(opened?),
    }
}

/// Why what is no file is not taken for one.
pub const NOT_REGULAR: &str = "not a regular file";

/// A name that stays in its directory.
fn single(name: &str) -> io::Result<&str> {
    if name.is_empty() || name == "." || name == ".." || name.contains('/') {
        return Err(io::Error::other("a name that leads elsewhere"));
    }
    Ok(name)
}

/// Creates a directory, and makes it durable; false if something has that
/// name already.
pub fn make(directory: &OwnedFd, name: &str) -> io::Result<bool> {
    let name = single(name)?;
    match retry_on_intr(|| fs::mkdirat(directory, name, DIRECTORY)) {
        Ok(()) => sync(directory).map(|()| true),
        Err(Errno::EXIST) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// What a name stands for; `None` if nothing has it. A link is a link.
pub fn stat(directory: &OwnedFd, name: &str) -> io::Result<Option<Stat>> {
    let name = single(name)?;
    match retry_on_intr(|| fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Gives a file another name, in place of what has it.
pub fn rename(from: (&OwnedFd, &str), to: (&OwnedFd, &str)) -> io::Result<()> {
    let (old, new) = (single(from.1)?, single(to.1)?);
    Ok(retry_on_intr(|| fs::renameat(from.0, old, to.0, new))?)
}

/// Removes a name, unless it is a directory's; one that is gone is removed.
pub fn remove(directory: &OwnedFd, name: &str) -> io::Result<()> {
    unlink(directory, name, AtFlags::empty())
}

/// Removes a directory that is empty. One in which another has begun
/// meanwhile is the other's, and stays.
pub fn remove_directory(directory: &OwnedFd, name: &str) -> io::Result<()> {
    match unlink(directory, name, AtFlags::REMOVEDIR) {
        Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
        done => done,
    }
}

fn unlink(directory: &OwnedFd, name: &str, flags: AtFlags) -> io::Result<()> {
    let name = single(name)?;
    match retry_on_intr(|| fs::unlinkat(directory, name, flags)) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Makes the names in a directory durable.
pub fn sync(directory: &OwnedFd) -> io::Result<()> {
    Ok(retry_on_intr(|| fs::fsync(directory))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn both_ways_refuse_what_leads_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let (path, outside) = (dir.path().join("in"), dir.path().join("outside"));
        std::fs::create_dir(&path).unwrap();
        std::fs::write(&outside, b"kept").unwrap();
        symlink(&outside, path.join("link")).unwrap();
        symlink("nowhere", path.join("dangling")).unwrap();
        let handle = OwnedFd::from(std::fs::File::open(&path).unwrap());
        let flags = [
            OFlags::RDONLY,
            OFlags::RDWR | OFlags::CREATE,
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL,
        ];
        for flags in flags.map(|flags| flags | OFlags::NOFOLLOW | OFlags::NONBLOCK) {
            for name in ["link", "dangling"] {
                assert!(by_name(&handle, name, flags).is_err(), "{name} {flags:?}");
                assert!(by_kernel(&handle, name, flags).is_err(), "{name} {flags:?}");
                assert!(open(&handle, name, flags).is_err(), "{name} {flags:?}");
            }
            for name in ["../outside", "..", ".", "", "link/x", "/etc/passwd"] {
                assert!(open(&handle, name, flags).is_err(), "{name} {flags:?}");
            }
        }
        if cfg!(target_os = "linux") {
            let out = by_kernel(&handle, "../outside", OFlags::RDONLY);
            assert!(matches!(out, Err(Errno::XDEV | Errno::NOSYS | Errno::PERM)), "{out:?}");
        }
        assert_eq!(std::fs::read(outside).unwrap(), b"kept");
        assert_eq!(std::fs::read_dir(path).unwrap().count(), 2);
    }

    #[test]
    fn a_missing_file_is_told_by_its_kind() {
        let dir = tempfile::tempdir().unwrap();
        let handle = OwnedFd::from(std::fs::File::open(dir.path()).unwrap());
        for e in [open(&handle, "x", OFlags::RDONLY), by_name_as_open(&handle, "x")] {
            assert_eq!(e.unwrap_err().kind(), io::ErrorKind::NotFound);
        }
        assert!(stat(&handle, "x").unwrap().is_none());
        remove(&handle, "x").unwrap();
    }

    fn by_name_as_open(handle: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
        opened(by_name(handle, name, OFlags::RDONLY))
    }
}
