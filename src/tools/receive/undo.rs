//! What undoes the filters of a stream, and whether that can be done here.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use super::Keys;
use crate::process::child;

/// A program that undoes a filter, or what the sender did wrong.
#[derive(Debug)]
pub struct Stage {
    /// What messages call it.
    pub name: &'static str,
    /// The program and its arguments.
    pub command: Vec<OsString>,
}

/// Why a filter cannot be undone.
#[derive(Debug)]
pub struct Refusal {
    /// Why.
    pub why: String,
    /// Whether something is configured that should have undone it.
    pub is_configured: bool,
}

impl Keys {
    /// What undoes this, in order: age(1) last of all encrypted, so it comes
    /// first.
    ///
    /// # Errors
    /// When something lacks.
    pub fn undo(&self, filter: Option<&str>) -> Result<Vec<Stage>, Refusal> {
        let Some(filter) = filter else { return Ok(Vec::new()) };
        let mut stages = Vec::new();
        let (rest, last) = filter.rsplit_once(" | ").unwrap_or(("", filter));
        let has_identity = !self.identity.as_os_str().is_empty();
        let rest = if last.starts_with("age ") {
            self.decrypts(filter).map_err(|why| Refusal { why, is_configured: has_identity })?;
            let age = ["age", "-d", "-i"].map(OsString::from);
            let command = age.into_iter().chain([self.identity.clone().into()]).collect();
            stages.push(Stage { name: "age", command });
            rest
        } else {
            filter
        };
        if !rest.is_empty() {
            let is_configured = has_identity || !self.unfilter.is_empty();
            self.unfilters(rest, filter).map_err(|why| Refusal { why, is_configured })?;
            let command = self.unfilter.split_whitespace().map(OsString::from).collect();
            stages.push(Stage { name: "unfilter", command });
        }
        Ok(stages)
    }

    /// That the identity is of one of the recipients, as far as that can be
    /// asked.
    fn decrypts(&self, filter: &str) -> Result<(), String> {
        let identity = &self.identity;
        let name = identity.display();
        if identity.as_os_str().is_empty() {
            return Err(format!(
                "went through '{filter}', and identity names no key to decrypt it"
            ));
        }
        if File::open(identity).is_err() {
            return Err(format!("{name}: the identity cannot be read"));
        }
        if !child::is_there(&["age".into()]) {
            return Err("age is not there".to_owned());
        }
        let text = fs::read(identity).unwrap_or_default();
        if !is_identity(&String::from_utf8_lossy(&text)) {
            return Err(format!("{name}: holds no identity"));
        }
        let keys = public_keys(identity);
        // Other identities than those of age-keygen cannot be asked.
        if !keys.is_empty() && !keys.lines().any(|key| filter.split(' ').any(|word| word == key)) {
            return Err(format!("went through '{filter}', and {name} is the key of none of these"));
        }
        Ok(())
    }

    /// That the filter is the one that is configured, and what undoes it is
    /// there.
    fn unfilters(&self, stages: &str, filter: &str) -> Result<(), String> {
        let program = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
        let unfilter = program(&self.unfilter);
        if stages.contains(" | ") {
            Err(format!("went through '{filter}', which is not known"))
        } else if unfilter.is_empty() || program(stages) != program(&self.filter) {
            Err(format!("went through '{stages}', and no unfilter undoes that"))
        } else if !child::is_there(&[OsString::from(&unfilter)]) {
            Err(format!("{unfilter} is not there"))
        } else {
            Ok(())
        }
    }
}

/// Whether a file of identities looks like one.
fn is_identity(text: &str) -> bool {
    let begins = |line: &str| line.starts_with("age-encryption");
    text.contains("AGE-") || text.contains("-----BEGIN ") || text.lines().any(begins)
}

/// The recipients of the identities in a file, one a line.
fn public_keys(identity: &Path) -> String {
    let mut keygen = Command::new("age-keygen");
    keygen.arg("-y").arg(identity).stdin(Stdio::null()).stderr(Stdio::null());
    let output = keygen.output().ok().filter(|output| output.status.success());
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(keys: &Keys, filter: &str) -> (String, bool) {
        let refusal = keys.undo(Some(filter)).unwrap_err();
        (refusal.why, refusal.is_configured)
    }

    #[test]
    fn what_is_not_configured_is_told_from_what_does_not_fit() {
        let none = Keys::default();
        assert!(none.undo(None).unwrap().is_empty());
        let why = |why: &str, is_configured| (why.to_owned(), is_configured);
        assert_eq!(
            refused(&none, "age -r age1x"),
            why("went through 'age -r age1x', and identity names no key to decrypt it", false)
        );
        let lacks = "went through 'gzip -1', and no unfilter undoes that";
        assert_eq!(refused(&none, "gzip -1"), why(lacks, false));
        let keys = Keys { filter: "cat -u".into(), unfilter: "cat".into(), ..Keys::default() };
        assert_eq!(refused(&keys, "gzip -1"), why(lacks, true));
        assert_eq!(
            refused(&keys, "cat | cat"),
            why("went through 'cat | cat', which is not known", true)
        );
        let stages = keys.undo(Some("cat -n")).unwrap();
        assert_eq!(stages.len(), 1);
        let keys = Keys { unfilter: "no-such-program -d".into(), ..keys };
        assert_eq!(refused(&keys, "cat"), why("no-such-program is not there", true));
        let keys = Keys { identity: "/nonexistent/key".into(), ..keys };
        let why = why("/nonexistent/key: the identity cannot be read", true);
        assert_eq!(refused(&keys, "cat | age -r age1x"), why);
    }
}
