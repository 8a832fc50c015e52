//! What may stand where a file of ours should be.

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a test that cannot go on has failed"
)]

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

/// Kinds of things that are no file of ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stranger {
    /// A symbolic link to a file outside.
    Link,
    /// A symbolic link to nothing.
    Dangling,
    /// Another name of a file outside.
    HardLink,
    /// A FIFO that nobody writes to.
    Fifo,
    /// A directory that is not empty.
    Directory,
    /// A socket.
    Socket,
    /// A device; only root can make one.
    Device,
    /// A file of another user; only root can make one.
    Foreign,
}

impl Stranger {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Link,
        Self::Dangling,
        Self::HardLink,
        Self::Fifo,
        Self::Directory,
        Self::Socket,
        Self::Device,
        Self::Foreign,
    ];

    /// Puts one in place of what is there; `outside` is a file to lead to.
    /// False where only root can.
    pub fn take_the_place_of(self, path: &Path, outside: &Path) -> bool {
        let bytes = fs::read(path).unwrap_or_default();
        Self::clear(path);
        let made = |program: &str, arguments: &[&str]| {
            Command::new(program).args(arguments).arg(path).status().unwrap().success()
        };
        match self {
            Self::Link => std::os::unix::fs::symlink(outside, path).unwrap(),
            Self::Dangling => {
                std::os::unix::fs::symlink(outside.with_extension("no"), path).unwrap();
            }
            Self::HardLink => fs::hard_link(outside, path).unwrap(),
            Self::Fifo => assert!(made("mkfifo", &[])),
            Self::Directory => {
                fs::create_dir(path).unwrap();
                fs::write(path.join("x"), b"x").unwrap();
            }
            // Its name stays when nobody listens any more.
            Self::Socket => drop(UnixListener::bind(path).unwrap()),
            Self::Device => {
                let is_root = rustix::process::geteuid().is_root();
                let node = ["-m", "600", path.to_str().unwrap(), "c", "1", "7"];
                return is_root && Command::new("mknod").args(node).status().unwrap().success();
            }
            Self::Foreign => {
                fs::write(path, bytes).unwrap();
                return std::os::unix::fs::chown(path, Some(12345), None).is_ok();
            }
        }
        true
    }

    /// Removes whatever is there.
    pub fn clear(path: &Path) {
        match fs::symlink_metadata(path) {
            Ok(there) if there.is_dir() => fs::remove_dir_all(path).unwrap(),
            Ok(_) => fs::remove_file(path).unwrap(),
            Err(_) => {}
        }
    }

    /// Why it is not opened.
    pub fn why(self) -> &'static str {
        match self {
            Self::Link | Self::Dangling => "a symbolic link, which is not followed",
            Self::HardLink => "has another name, outside the spool's rules",
            Self::Fifo | Self::Directory | Self::Socket | Self::Device => "not a regular file",
            Self::Foreign => "belongs to another user",
        }
    }
}
