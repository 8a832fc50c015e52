//! The catalog file: opened, read and appended to. What its lines mean is
//! `catalog`'s.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::retry_on_intr;

use crate::error::{Error, Result};
use crate::line::{Line, Reader, Text};
use crate::process::paths;
use crate::spool::append::Append;

/// The catalog file.
#[derive(Debug)]
pub struct Catalog {
    path: PathBuf,
    file: Append,
}

impl Catalog {
    /// Opens the catalog, and creates it if it is not there.
    ///
    /// # Errors
    /// When that fails.
    pub fn open(path: &Path) -> Result<Self> {
        let cannot = |e| Error::io(format!("catalog {}", path.display()), e);
        paths::create(paths::parent(path), 0o777).map_err(cannot)?;
        let is_new = !path.exists();
        // A FIFO is not waited for; a symbolic link is its user's choice.
        let flags =
            OFlags::RDWR | OFlags::APPEND | OFlags::CREATE | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let file = retry_on_intr(|| rustix::fs::open(path, flags, mode));
        let file = File::from(file.map_err(|e| cannot(e.into()))?);
        if !file.metadata().map_err(cannot)?.is_file() {
            return Err(cannot(std::io::Error::other("not a regular file")));
        }
        // I2: what is in the catalog outlives a power cut, so its name must,
        // be it that of a run that died before it could see to it.
        let real = fs::canonicalize(path).map_err(cannot)?;
        match File::open(paths::parent(&real)) {
            Ok(directory) => directory.sync_all().map_err(cannot)?,
            Err(_) if !is_new => {}
            Err(e) => return Err(cannot(e)),
        }
        let file = Append::new(file);
        Ok(Self { path: path.to_owned(), file })
    }

    /// All of it, from the beginning; it is on disk.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn reader(&self) -> Result<impl std::io::BufRead + use<>> {
        self.file.reader().map_err(|e| self.cannot(e))
    }

    fn cannot(&self, e: std::io::Error) -> Error {
        Error::io(format!("catalog {}", self.path.display()), e)
    }

    /// Gives `take` the text of every line that `wanted` takes, unread; what
    /// cannot be read is left out.
    ///
    /// # Errors
    /// When reading fails.
    pub fn scan(&self, wanted: &str, mut take: impl FnMut(&str)) -> Result<()> {
        let mut lines = Reader::new(self.reader()?);
        while let Some(text) = lines.read().map_err(|e| self.cannot(e))? {
            if let Text::Line(text) = text
                && text.contains(wanted)
            {
                take(&text);
            }
        }
        Ok(())
    }

    /// Whether anything stored in `dest` is in the catalog.
    ///
    /// # Errors
    /// When reading fails.
    pub fn knows(&self, dest: &str) -> Result<bool> {
        let mut known = false;
        self.scan(dest, |text| {
            known |= matches!(
                Line::parse(text),
                Ok(Some(Line::Archive(archive))) if archive.dest == dest
            );
        })?;
        Ok(known)
    }

    /// Appends lines, each with its newline; they are on disk when this
    /// returns.
    ///
    /// # Errors
    /// When the disk cannot take them.
    pub fn append(&mut self, text: &str) -> Result<()> {
        self.file.append(&format!("catalog {}", self.path.display()), text)
    }
}
