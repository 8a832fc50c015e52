//! The one key pair that the server takes.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::disk;
use super::sigv4::Keys;
use super::store::letters;
use crate::error::{Error, Result};

/// The pair of the environment, else that of `ROOT/credentials`, else a
/// random one that is written there.
pub fn find(root: &Path, id: Option<String>, secret: Option<String>) -> Result<Keys> {
    match (id, secret) {
        (Some(id), Some(secret)) if !id.is_empty() && !secret.is_empty() => {
            return Ok(Keys { id, secret });
        }
        (None, None) => {}
        _ => {
            return Err(Error::Credentials(
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY go together: one is not set"
                    .to_owned(),
            ));
        }
    }
    let file = root.join("credentials");
    let name = || file.display().to_string();
    match fs::read_to_string(&file) {
        Ok(text) => read(&text)
            .ok_or_else(|| Error::Credentials(format!("{}: no key pair under [default]", name()))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let keys = random()?;
            write(&file, &keys).map_err(|e| Error::io(name(), e))?;
            Ok(keys)
        }
        Err(e) => Err(Error::io(name(), e)),
    }
}

fn random() -> Result<Keys> {
    let mut bytes = [0; 57];
    getrandom::fill(&mut bytes)
        .map_err(|e| Error::Io("random numbers".to_owned(), io::Error::other(e.to_string())))?;
    let (id, secret) = bytes.split_at(17);
    // As Amazon's, upper case only.
    let id: String = id.iter().map(|byte| char::from(b'A' + byte % 26)).collect();
    Ok(Keys { id: format!("AKL{id}"), secret: letters(secret) })
}

/// In the format of the AWS shared credentials file, readable by us alone
/// from the first byte on.
fn write(file: &Path, keys: &Keys) -> io::Result<()> {
    let partial = file.with_extension("new");
    disk::remove(&partial)?;
    let mut out: File =
        fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
    write!(
        out,
        "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
        keys.id, keys.secret
    )?;
    out.sync_all()?;
    fs::rename(&partial, file)?;
    disk::sync_parent(file)
}

fn read(text: &str) -> Option<Keys> {
    let (mut id, mut secret) = (None, None);
    let mut section = "";
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            section = line;
        } else if let ("[default]", Some((name, value))) = (section, line.split_once('=')) {
            match name.trim() {
                "aws_access_key_id" => id = Some(value.trim().to_owned()),
                "aws_secret_access_key" => secret = Some(value.trim().to_owned()),
                _ => {}
            }
        }
    }
    Some(Keys { id: id?, secret: secret? })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_random_pair_is_kept_and_private() {
        let root = tempfile::tempdir().unwrap();
        let first = find(root.path(), None, None).unwrap();
        let second = find(root.path(), None, None).unwrap();
        assert_eq!((&first.id, &first.secret), (&second.id, &second.secret));
        let mode = fs::metadata(root.path().join("credentials")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!((first.id.len(), first.secret.len()), (20, 40));
    }

    #[test]
    fn the_environment_wins_but_only_as_a_pair() {
        let root = tempfile::tempdir().unwrap();
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(find(root.path(), text("A"), text("B")).unwrap().id, "A");
        assert_eq!(find(root.path(), text("A"), None).err().unwrap().code(), 77);
        assert!(!root.path().join("credentials").exists());
    }

    #[test]
    fn reads_only_the_default_profile() {
        let text = "[other]\naws_access_key_id = X\n[default]\naws_access_key_id=A\naws_secret_access_key = b=c\n";
        let keys = read(text).unwrap();
        assert_eq!((keys.id.as_str(), keys.secret.as_str()), ("A", "b=c"));
        assert!(read("[default]\naws_access_key_id = A\n").is_none());
    }
}
