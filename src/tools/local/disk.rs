//! Small files that are whole or absent, and directories that are durable.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Replaces a file by one write, fsync and rename, then makes the name
/// durable. The temporary name is the file's own with `~` behind it, which no
/// id or vault name can have: callers hold the store's lock, so there is one
/// writer.
pub fn write(file: &Path, content: &[u8]) -> io::Result<()> {
    let mut temporary = file.as_os_str().to_owned();
    temporary.push("~");
    let mut out = File::create(&temporary)?;
    out.write_all(content)?;
    out.sync_all()?;
    fs::rename(&temporary, file)?;
    sync_parent(file)
}

/// Replaces a file by a value in JSON.
pub fn write_json(file: &Path, value: &impl Serialize) -> io::Result<()> {
    write(file, &serde_json::to_vec(value)?)
}

/// The value that a file holds; none if there is no such file.
pub fn read_json<T: DeserializeOwned>(file: &Path) -> io::Result<Option<T>> {
    match fs::read(file) {
        Ok(content) => Ok(Some(serde_json::from_slice(&content)?)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Makes the names in a directory durable.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Makes the name of a file durable.
pub fn sync_parent(file: &Path) -> io::Result<()> {
    file.parent().map_or(Ok(()), sync_dir)
}

/// The names in a directory, sorted, without temporary ones; empty if there
/// is no such directory.
pub fn names(dir: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry?.file_name().into_string().ok().filter(|name| !name.ends_with('~')));
    }
    names.sort_unstable();
    Ok(names)
}

/// Removes a file; it may be gone already.
pub fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_write_leaves_the_old_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("vault.json");
        write_json(&file, &[1, 2]).unwrap();
        fs::write(dir.path().join("vault.json~"), "[3").unwrap();
        assert_eq!(read_json::<Vec<i32>>(&file).unwrap(), Some(vec![1, 2]));
        assert_eq!(names(dir.path()).unwrap(), ["vault.json"]);
        write_json(&file, &[3]).unwrap();
        assert_eq!(read_json::<Vec<i32>>(&file).unwrap(), Some(vec![3]));
        assert_eq!(read_json::<Vec<i32>>(&dir.path().join("none")).unwrap(), None);
    }
}
