//! Snapshots and bookmarks as `zfs get -H -p -o name,property,value` prints
//! them.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::{self, BufRead};

use super::Rules;
use crate::error::{Error, Result};

/// The property that marks what was made from a state directory.
pub const MARK: &str = "akashita:id";

/// A snapshot or bookmark.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Point {
    /// Its whole name.
    pub name: String,
    /// Its guid.
    pub guid: String,
    /// In which transaction it was made.
    pub txg: u64,
    /// The mark of a snapshot.
    pub mark: Option<String>,
    /// Whether it is known to be encrypted.
    pub encrypted: bool,
}

impl Point {
    /// Whether it is a snapshot and no bookmark.
    pub fn is_snapshot(&self) -> bool {
        self.name.contains('@')
    }

    /// Its dataset, and what it is called there.
    fn parts(&self) -> (&str, &str) {
        self.name.split_once(['@', '#']).unwrap_or((&self.name, ""))
    }

    /// What it is called in its dataset.
    pub fn short(&self) -> &str {
        self.parts().1
    }
}

/// What was read of a point.
#[derive(Default)]
struct Properties {
    guid: Option<String>,
    txg: Option<String>,
    mark: Option<String>,
    encryption: Option<String>,
}

/// Reads points, and gives those of each dataset in the order in which they
/// were made; those of one transaction by guid and name, so that a bookmark
/// comes before its snapshot. Names of datasets are passed over: some
/// versions of zfs(8) print them, too.
///
/// # Errors
/// When reading fails; or a line is none of `zfs get`, says another thing than
/// one before it, or is missing.
pub fn read(
    input: impl BufRead,
    file: &str,
    rules: &Rules,
) -> Result<BTreeMap<String, Vec<Point>>> {
    let mut found: BTreeMap<String, Properties> = BTreeMap::new();
    for (number, line) in input.lines().enumerate() {
        let wrong = |why: &str| Error::Data(format!("{file}: line {}: {why}", number + 1));
        let line = line.map_err(|e| match e.kind() {
            io::ErrorKind::InvalidData => wrong("not UTF-8"),
            _ => Error::io(format!("{file}: cannot read"), e),
        })?;
        let fields: Vec<&str> = line.split('\t').collect();
        let &[name, property, value] = fields.as_slice() else {
            return Err(wrong("not a name, a property and a value, with tabs between"));
        };
        if !name.contains(['@', '#']) {
            continue;
        }
        let point = match found.entry(name.to_owned()) {
            Entry::Vacant(new) => new.insert(Properties::default()),
            Entry::Occupied(known) => known.into_mut(),
        };
        let place = match property {
            "guid" => &mut point.guid,
            "createtxg" => &mut point.txg,
            MARK => &mut point.mark,
            "encryption" => &mut point.encryption,
            _ => return Err(wrong("neither guid, createtxg, encryption nor akashita:id")),
        };
        // Text that others may set could look like a line of its own.
        if place.replace(value.to_owned()).is_some_and(|before| before != value) {
            return Err(wrong("says another thing than a line before"));
        }
    }
    let mut datasets: BTreeMap<String, Vec<Point>> = BTreeMap::new();
    for (name, properties) in found {
        // Without one, nobody has asked for its mark.
        let must_have_mark = name.contains(&format!("@{}", rules.own()));
        let point = match properties.mark {
            None if must_have_mark => Err("no akashita:id"),
            _ => properties.point(&name),
        };
        let point = point.map_err(|why| Error::Data(format!("{file}: {name}: {why}")))?;
        datasets.entry(point.parts().0.to_owned()).or_default().push(point);
    }
    for points in datasets.values_mut() {
        points.sort_by(|a, b| (a.txg, &a.guid, &a.name).cmp(&(b.txg, &b.guid, &b.name)));
    }
    Ok(datasets)
}

impl Properties {
    fn point(self, name: &str) -> Result<Point, &'static str> {
        let guid = self.guid.filter(|guid| guid.parse::<u64>().is_ok()).ok_or("no guid")?;
        let txg = self.txg.and_then(|txg| txg.parse().ok()).ok_or("no createtxg")?;
        let mark = self.mark.filter(|mark| !mark.is_empty() && mark != "-");
        let encrypted = self.encryption.is_some_and(|it| !matches!(&*it, "off" | "-" | ""));
        Ok(Point { name: name.to_owned(), guid, txg, mark, encrypted })
    }
}
