//! Where the variables of a script come from.
//!
//! A caller can set any variable and know the number of its process, so a script
//! believes none that akashita-conf has not set. What proves that is an open
//! file without a name that holds the number of the process it was made for:
//! sudo(8), cron and their like leave none open.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};

use rustix::io::Errno;

use super::exclusive::inherited;
use crate::error::{Error, Result};

/// The descriptor of the proof, which a script reads as standard input.
const NUMBER: i32 = 8;

/// What a process says of itself before it becomes akashita-conf, so that one
/// which knows nothing of proofs is given none.
pub const ASKS: &str = "AKASHITA_RUN";

/// The number of the process that has a proof.
pub const STARTED: &str = "AKASHITA_STARTED";

/// The proof for a process, which is left to what it becomes.
///
/// # Errors
/// When it cannot be made, or something else has its number.
pub fn prove(process: u32) -> Result<OwnedFd> {
    let failed = |e| Error::io("cannot make a temporary file (see TMPDIR)", e);
    let mut file = tempfile::tempfile().map_err(failed)?;
    write!(file, "{process}").map_err(failed)?;
    let proof = inherited(&file, NUMBER).map_err(failed)?;
    if proof.as_raw_fd() == NUMBER {
        Ok(proof)
    } else {
        Err(Error::io(format!("descriptor {NUMBER} is open already"), Errno::BUSY))
    }
}

/// Whether an open file is the proof for a process.
///
/// # Errors
/// When it is another, or none.
pub fn check(file: impl AsFd, process: u32) -> Result<()> {
    let proves = || -> std::io::Result<bool> {
        let file = File::from(file.as_fd().try_clone_to_owned()?);
        let facts = file.metadata()?;
        let is_ours = facts.uid() == rustix::process::geteuid().as_raw();
        if !(facts.is_file() && facts.nlink() == 0 && is_ours && facts.len() < 32) {
            return Ok(false);
        }
        let mut text = [0; 32];
        let length = file.read_at(&mut text, 0)?;
        Ok(text.get(..length) == Some(process.to_string().as_bytes()))
    };
    match proves() {
        Ok(true) => Ok(()),
        _ => Err(Error::Configuration(format!(
            "{STARTED}: is set, and not by akashita-conf; unset it"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek as _, SeekFrom};

    use super::*;

    #[test]
    fn only_a_file_without_a_name_that_holds_the_number_is_a_proof() {
        let mut made = tempfile::tempfile().unwrap();
        write!(made, "17").unwrap();
        check(&made, 17).unwrap();
        // It is read anew each time, by whoever has it.
        made.seek(SeekFrom::Start(1)).unwrap();
        check(&made, 17).unwrap();
        for other in [1, 7, 170] {
            check(&made, other).unwrap_err();
        }
        let mut named = tempfile::NamedTempFile::new().unwrap();
        write!(named, "17").unwrap();
        check(named.as_file(), 17).unwrap_err();
        let (reader, mut writer) = std::io::pipe().unwrap();
        write!(writer, "17").unwrap();
        check(&reader, 17).unwrap_err();
        let told = check(File::open("/dev/null").unwrap(), 17).unwrap_err().to_string();
        assert_eq!(told, "AKASHITA_STARTED: is set, and not by akashita-conf; unset it");
    }
}
