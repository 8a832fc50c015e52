//! What proves that the end of the input is the end of the stream.
//!
//! A dying `zfs send` looks like a short one: the same end of file. So a
//! stream is taken as whole only with proof (I1).
//!
//! A marker belongs to this pipe, or it is none: one that an earlier run left
//! says nothing of this one. A shell makes a pipe before it starts the program
//! that writes to it, and what was not there when this run began was made by
//! this run. So what was there then must not be older than the pipe.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::error::{Error, Result};
use crate::stream::lineage::Lineage;
use crate::zfs_stream::Ending;

/// The proofs that the command line allows.
#[derive(Clone, Debug)]
pub struct Proofs {
    /// Files that must exist at the end of the input.
    markers: Vec<Marker>,
    /// Whether the user vouches for the end.
    trust_eof: bool,
    /// Whether chunk runs the producer.
    command: bool,
    /// When this run began.
    began: SystemTime,
    /// When the pipe that is read was made; none where that is not known.
    pipe: Option<SystemTime>,
}

/// A file that must exist at the end of the input.
#[derive(Clone, Debug)]
struct Marker {
    path: PathBuf,
    /// What had its name when this run began.
    before: Option<Trace>,
}

/// Which file something is, and when it was last written to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Trace(u64, u64, SystemTime);

impl Trace {
    fn of(meta: &Metadata) -> io::Result<Self> {
        Ok(Self(meta.dev(), meta.ino(), meta.modified()?))
    }
}

/// How much older than the pipe a marker may seem that was made after it: ZFS
/// takes the time of the last tick, pipes of newer kernels a finer one.
#[cfg(target_os = "linux")]
fn tick(marker: &Path) -> Duration {
    /// `ZFS_SUPER_MAGIC`; every file system of the kernel's own has one clock
    /// with its pipes.
    const ZFS: u64 = 0x2fc1_2fc1;
    let kind = rustix::fs::statfs(marker).ok().and_then(|fs| u64::try_from(fs.f_type).ok());
    if kind == Some(ZFS) { Duration::from_millis(10) } else { Duration::ZERO }
}

#[cfg(not(target_os = "linux"))]
fn tick(_: &Path) -> Duration {
    Duration::ZERO
}

impl Proofs {
    /// Looks at what is there of the markers. Called before the producer is
    /// started, if that is done here, and before anything is read.
    pub fn begin(markers: &[PathBuf], trust_eof: bool, command: bool) -> Self {
        let look = |path: &PathBuf| Marker {
            path: path.clone(),
            before: fs::metadata(path).and_then(|meta| Trace::of(&meta)).ok(),
        };
        let markers = markers.iter().map(look).collect();
        Self { markers, trust_eof, command, began: SystemTime::now(), pipe: None }
    }

    /// Takes the time at which the pipe that is read was made, if it is known.
    pub fn since(self, pipe: Option<SystemTime>) -> Self {
        Self { pipe, ..self }
    }

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

    /// The one marker that has lines of glacier-proof(1) in it, if one of this
    /// run has by now.
    ///
    /// # Errors
    /// When it has others, or there are two.
    pub fn lineage(&self) -> Result<Option<Lineage>> {
        let mut found: Option<Lineage> = None;
        for marker in &self.markers {
            let Some(lineage) = Lineage::look(&marker.path)? else { continue };
            if !self.is_of_this_run(marker, &lineage.metadata()?)? {
                continue;
            }
            if let Some(other) = &found {
                return Err(Error::Data(format!(
                    "proof {}: a second one, beside {}",
                    marker.path.display(),
                    other.path().display()
                )));
            }
            found = Some(lineage);
        }
        Ok(found)
    }

    /// Whether there are lines that are older than the pipe.
    pub fn has_stale_lines(&self) -> bool {
        self.markers.iter().any(|marker| {
            fs::metadata(&marker.path).is_ok_and(|meta| {
                let has_lines = meta.is_file() && meta.len() > 0;
                has_lines && self.is_of_this_run(marker, &meta).is_ok_and(|is| !is)
            })
        })
    }

    /// Refuses a marker that is not there, when it must be.
    ///
    /// # Errors
    /// When one is missing, is stale, or has lines.
    pub fn accept_all(&self, lineage: Option<&Lineage>) -> Result<()> {
        self.others(lineage).try_for_each(|marker| self.accept(marker))
    }

    fn others<'a>(&'a self, lineage: Option<&'a Lineage>) -> impl Iterator<Item = &'a Marker> {
        let path = lineage.map(Lineage::path);
        self.markers.iter().filter(move |marker| Some(marker.path.as_path()) != path)
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
        let told = lineage.map(Lineage::end).transpose()?;
        self.accept_all(lineage)?;
        for marker in &self.markers {
            fs::remove_file(&marker.path).map_err(|e| {
                Error::io(format!("marker {}: cannot remove", marker.path.display()), e)
            })?;
        }
        if told.is_some() {
            met.push("proof");
        }
        if self.others(lineage).next().is_some() {
            met.push("marker");
        }
        // The user's word stays that, on whichever side of a filter it is given.
        if self.trust_eof || told.is_some_and(|end| end.whole.split(',').any(|it| it == "trusted"))
        {
            met.push("trusted");
        }
        if met.is_empty() {
            return Err(Error::Bug("input without a proof was not refused at its start".into()));
        }
        Ok(met.join(","))
    }

    fn accept(&self, marker: &Marker) -> Result<()> {
        let path = marker.path.display();
        let meta = match fs::metadata(&marker.path) {
            Ok(meta) => meta,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(Error::Data(format!(
                    "marker {path}: not there; its producer failed, the stream is not whole"
                )));
            }
            Err(e) => return Err(Error::io(format!("marker {path}"), e)),
        };
        if !self.is_of_this_run(marker, &meta)? {
            return Err(Error::Data(format!(
                "marker {path}: older than this run; remove it first"
            )));
        }
        if meta.is_file() && meta.len() > 0 {
            return Err(Error::Data(format!(
                "marker {path}: has lines, which were not there at the first bytes"
            )));
        }
        Ok(())
    }

    /// I1: what an earlier run left proves nothing of this one. Held by
    /// `tests/chunk/proofs.rs::a_marker_of_an_earlier_run_proves_nothing` and
    /// `a_run_that_is_repeated_at_once_has_no_marker_yet`.
    fn is_of_this_run(&self, marker: &Marker, now: &Metadata) -> Result<bool> {
        let trace = Trace::of(now);
        let trace = trace.map_err(|e| Error::io(format!("marker {}", marker.path.display()), e))?;
        if marker.before != Some(trace) {
            return Ok(true);
        }
        // From the future is what a clock that was set back has left.
        let made = trace.2;
        Ok(made <= self.began && self.pipe.is_some_and(|pipe| made + tick(&marker.path) >= pipe))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proofs(markers: &[&Path]) -> Proofs {
        let markers: Vec<PathBuf> = markers.iter().map(|marker| marker.to_path_buf()).collect();
        Proofs::begin(&markers, false, false)
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
    fn every_marker_must_be_there_and_of_this_run() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("1"), dir.path().join("2"));
        let both = proofs(&[&one, &two]);
        fs::write(&one, "").unwrap();
        assert_eq!(both.at_end(Some(Ending::Compound), None).unwrap_err().code(), 65);
        assert!(one.exists(), "nothing is removed before all are accepted");
        fs::write(&two, "").unwrap();
        let stale = |proofs: &Proofs| {
            let error = proofs.at_end(None, None).unwrap_err();
            error.to_string().contains("older than this run")
        };
        // What was there at the start needs a pipe that is not younger.
        let later = proofs(&[&one, &two]);
        let made = fs::metadata(&two).unwrap().modified().unwrap();
        assert!(stale(&later));
        assert!(stale(&later.clone().since(Some(made + Duration::from_millis(20)))));
        let early = fs::metadata(&one).unwrap().modified().unwrap();
        let ahead = Proofs { began: early - Duration::from_secs(1), ..later.clone() };
        assert!(stale(&ahead.since(Some(early - Duration::from_secs(2)))), "a clock set back");
        assert_eq!(later.since(Some(early)).at_end(None, None).unwrap(), "marker");
        assert!(!one.exists() && !two.exists());
        // Made anew under the name of a stale one, it is another.
        fs::write(&one, "").unwrap();
        let old = SystemTime::now() - Duration::from_mins(1);
        fs::File::options().write(true).open(&one).unwrap().set_modified(old).unwrap();
        let again = proofs(&[&one]);
        assert!(!again.has_stale_lines(), "it has none");
        fs::write(&one, "").unwrap();
        assert_eq!(again.at_end(Some(Ending::Plain), None).unwrap(), "zfs,marker");
    }
}
