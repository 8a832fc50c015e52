//! The word that a command waits for: a file that is made once all of its
//! stream has been passed on.
//!
//! The end of a command's input proves nothing, as it is the same when get is
//! killed. So each command is told of a file that is not there yet, in a new
//! directory: nobody else can make it, and no earlier run has left it.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tempfile::{Builder, TempDir};

use crate::error::{Error, Result};

/// The variable that names the file.
pub const VARIABLE: &str = "GLACIER_WHOLE";

/// The file of one stream. Its directory is removed when this is dropped.
#[derive(Debug)]
pub struct Whole {
    directory: TempDir,
}

impl Whole {
    /// A name in a new directory, below that for temporary files.
    ///
    /// # Errors
    /// When other users may put another directory in its place.
    pub fn new() -> Result<Self> {
        Self::below(&std::env::temp_dir())
    }

    fn below(path: &Path) -> Result<Self> {
        let failed = |e| Error::io(format!("{}: cannot make a directory", path.display()), e);
        let place = fs::canonicalize(path).map_err(failed)?;
        for above in place.ancestors() {
            if !is_safe(above).map_err(failed)? {
                return Err(Error::Configuration(format!(
                    "{}: other users may rename what is in {}; name another directory in TMPDIR",
                    path.display(),
                    above.display()
                )));
            }
        }
        let mut builder = Builder::new();
        builder.prefix("glacier-get.").permissions(Permissions::from_mode(0o700));
        Ok(Self { directory: builder.tempdir_in(place).map_err(failed)? })
    }

    /// Where the file will be.
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("whole")
    }

    /// Makes it: all has been passed on.
    ///
    /// # Errors
    /// When it cannot be made; then the command must not see its input end.
    pub fn tell(&self) -> Result<()> {
        let path = self.path();
        let made = File::options().write(true).create_new(true).open(&path);
        made.map_err(|e| Error::io(format!("{}: cannot make it", path.display()), e))?;
        Ok(())
    }
}

/// Whether only root and this user can rename what is theirs in a directory.
fn is_safe(directory: &Path) -> io::Result<bool> {
    let facts = fs::metadata(directory)?;
    let is_ours = facts.uid() == 0 || facts.uid() == rustix::process::geteuid().as_raw();
    Ok(is_ours && (facts.mode() & 0o022 == 0 || facts.mode() & 0o1000 != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_else_can_make_it_and_nothing_of_it_stays() {
        let place = tempfile::tempdir().unwrap();
        let (one, other) = (Whole::below(place.path()), Whole::below(place.path()));
        let (one, other) = (one.unwrap(), other.unwrap());
        assert_ne!(one.path(), other.path());
        let mode = fs::metadata(one.directory.path()).unwrap().mode();
        assert_eq!(mode & 0o777, 0o700);
        assert!(!one.path().exists());
        one.tell().unwrap();
        assert!(one.path().exists() && !other.path().exists());
        drop((one, other));
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_place_where_others_may_rename_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let inner = place.path().join("inner");
        fs::create_dir(&inner).unwrap();
        for (mode, is_taken) in [(0o770, false), (0o777, false), (0o1777, true), (0o755, true)] {
            fs::set_permissions(place.path(), Permissions::from_mode(mode)).unwrap();
            for path in [place.path(), inner.as_path()] {
                let made = Whole::below(path);
                assert_eq!(made.is_ok(), is_taken, "{mode:o} {}", path.display());
                if let Err(error) = made {
                    assert!(matches!(error, Error::Configuration(_)), "{error}");
                }
            }
        }
    }
}
