//! What proves that the end of the input is the end of the stream.
//!
//! A dying `zfs send` looks like a short one: the same end of file. So a
//! stream is taken as whole only with proof (I1).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::lineage::Lineage;
use crate::error::{Error, Result};
use crate::zfs_stream::Ending;

/// How much older than the start of chunk a marker may be: the shell makes
/// the pipe's processes in any order.
pub const GRACE: Duration = Duration::from_secs(10);

/// The proofs that the command line allows.
#[derive(Clone, Debug)]
pub struct Proofs {
    /// Files that must exist at the end of the input.
    pub markers: Vec<PathBuf>,
    /// Whether the user vouches for the end.
    pub trust_eof: bool,
    /// Whether chunk runs the producer.
    pub command: bool,
    /// When chunk started.
    pub started: SystemTime,
}

impl Proofs {
    /// Whether the command line names a proof.
    pub fn are_possible(&self) -> bool {
        self.trust_eof || self.command || !self.markers.is_empty()
    }

    /// Whether there are markers to come.
    pub fn has_markers(&self) -> bool {
        !self.markers.is_empty()
    }

    /// Refuses, at the first bytes, input that could never be proven whole.
    /// Only a ZFS stream that is not compound can prove itself.
    ///
    /// # Errors
    /// When there is no proof to come, with the choices.
    pub fn demand(&self, proves_itself: bool, what: &str) -> Result<()> {
        if proves_itself || self.are_possible() {
            return Ok(());
        }
        Err(Error::Data(format!(
            "stdin: {what} cannot prove that it is whole; use -- COMMAND, --whole FILE or --trust-eof"
        )))
    }

    /// The one marker that has lines of glacier-proof(1) in it, if one has by
    /// now.
    ///
    /// # Errors
    /// When it has others, is stale, or there are two.
    pub fn lineage(&self) -> Result<Option<Lineage>> {
        let mut found: Option<Lineage> = None;
        for marker in &self.markers {
            let Some(lineage) = Lineage::look(marker)? else { continue };
            self.is_fresh(marker, lineage.modified()?)?;
            if let Some(other) = &found {
                return Err(Error::Data(format!(
                    "proof {}: a second one, beside {}",
                    marker.display(),
                    other.path().display()
                )));
            }
            found = Some(lineage);
        }
        Ok(found)
    }

    /// Refuses a marker that is not there, when it must be.
    ///
    /// # Errors
    /// When one is missing, is stale, or has lines.
    pub fn accept_all(&self, lineage: Option<&Lineage>) -> Result<()> {
        self.others(lineage).try_for_each(|marker| self.accept(marker))
    }

    fn others<'a>(&'a self, lineage: Option<&'a Lineage>) -> impl Iterator<Item = &'a PathBuf> {
        let path = lineage.map(Lineage::path);
        self.markers.iter().filter(move |marker| Some(marker.as_path()) != path)
    }

    /// The proofs that were met at the end of the input, joined by commas.
    /// Markers are removed when they are accepted, and so is the file of
    /// glacier-proof(1), which must have been read to its end.
    ///
    /// # Errors
    /// When a marker is missing or stale, or that file has no end.
    pub fn at_end(&self, ending: Option<Ending>, lineage: Option<&Lineage>) -> Result<String> {
        let mut met = Vec::new();
        if ending == Some(Ending::Plain) {
            met.push("zfs");
        }
        if self.command {
            met.push("command");
        }
        let told = lineage.map(Lineage::proofs).transpose()?;
        self.accept_all(lineage)?;
        for marker in &self.markers {
            fs::remove_file(marker)
                .map_err(|e| Error::io(format!("marker {}: cannot remove", marker.display()), e))?;
        }
        if told.is_some() {
            met.push("proof");
        }
        if self.others(lineage).next().is_some() {
            met.push("marker");
        }
        // The user's word stays that, on whichever side of a filter it is given.
        if self.trust_eof || told.is_some_and(|told| told.split(',').any(|it| it == "trusted")) {
            met.push("trusted");
        }
        if met.is_empty() {
            return Err(Error::Bug("input without a proof was not refused at its start".into()));
        }
        Ok(met.join(","))
    }

    fn accept(&self, marker: &Path) -> Result<()> {
        let meta = match fs::metadata(marker) {
            Ok(meta) => meta,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(Error::Data(format!(
                    "marker {}: not there; its producer failed, the stream is not whole",
                    marker.display()
                )));
            }
            Err(e) => return Err(Error::io(format!("marker {}", marker.display()), e)),
        };
        if meta.is_file() && meta.len() > 0 {
            return Err(Error::Data(format!(
                "marker {}: has lines, which were not there at the first bytes",
                marker.display()
            )));
        }
        let made = meta.modified();
        self.is_fresh(
            marker,
            made.map_err(|e| Error::io(format!("marker {}", marker.display()), e))?,
        )
    }

    fn is_fresh(&self, marker: &Path, made: SystemTime) -> Result<()> {
        if made + GRACE < self.started {
            return Err(Error::Data(format!(
                "marker {}: older than this run; remove it first",
                marker.display()
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proofs(markers: &[&Path]) -> Proofs {
        Proofs {
            markers: markers.iter().map(|marker| marker.to_path_buf()).collect(),
            trust_eof: false,
            command: false,
            started: SystemTime::now(),
        }
    }

    #[test]
    fn input_without_any_proof_is_refused_at_its_start() {
        let none = proofs(&[]);
        assert_eq!(none.demand(false, "a compound stream").unwrap_err().code(), 65);
        assert!(none.demand(true, "a stream").is_ok());
        assert!(Proofs { trust_eof: true, ..none.clone() }.demand(false, "x").is_ok());
        assert_eq!(none.at_end(Some(Ending::Compound), None).unwrap_err().code(), 70);
        assert_eq!(none.at_end(Some(Ending::Plain), None).unwrap(), "zfs");
    }

    #[test]
    fn every_marker_must_be_there_and_fresh() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("1"), dir.path().join("2"));
        let both = proofs(&[&one, &two]);
        fs::write(&one, "").unwrap();
        assert_eq!(both.at_end(Some(Ending::Compound), None).unwrap_err().code(), 65);
        assert!(one.exists(), "nothing is removed before all are accepted");
        fs::write(&two, "").unwrap();
        let later = Proofs { started: SystemTime::now() + 2 * GRACE, ..both.clone() };
        assert!(later.at_end(None, None).unwrap_err().to_string().contains("older than this run"));
        assert_eq!(both.at_end(Some(Ending::Plain), None).unwrap(), "zfs,marker");
        assert!(!one.exists() && !two.exists());
    }
}
