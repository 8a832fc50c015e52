//! The archives of a catalog: those that its stored streams need.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::BufRead;

use super::table::{self, Column};
use super::{Printer, catalog};
use crate::error::Result;
use crate::line::{Archive, Line, Stored, StreamId};
use crate::units;

/// The columns of its table.
pub const COLUMNS: &[Column] = &[
    Column::Left("UPLOADED"),
    Column::Right("SIZE"),
    Column::Left("HOST"),
    Column::Left("DEST"),
    Column::Left("WHAT"),
];

/// An attempt at a stream: its generation, and where it went.
type Attempt = (StreamId, u32, String);

/// The archives of a catalog, as its lines come.
#[derive(Debug, Default)]
pub struct Archives {
    attempts: HashMap<Attempt, BTreeMap<u32, Archive>>,
    /// What was stored, in the order of the catalog.
    stored: Vec<(Stored, BTreeMap<u32, Archive>)>,
    deleted: HashSet<String>,
}

impl Archives {
    /// Takes a line.
    pub fn take(&mut self, line: Line) {
        match line {
            Line::Archive(line) => {
                let key = (line.stream, line.generation, line.dest.clone());
                self.attempts.entry(key).or_default().insert(line.volume, line);
            }
            Line::Stored(line) => {
                let key = (line.stream, line.generation, line.dest.clone());
                // Of several lines for a volume the last before this counts.
                let archives = self.attempts.get(&key).cloned().unwrap_or_default();
                let of = |(it, _): &(Stored, _)| {
                    it.stream == line.stream
                        && it.generation == line.generation
                        && it.dest == line.dest
                };
                self.stored.retain(|it| !of(it));
                self.stored.push((line, archives));
            }
            Line::Deleted(line) => self.deleted.extend(line.archive_id),
            _ => {}
        }
    }

    /// The archives that count, stream after stream, volume after volume. A
    /// stream that lacks one is not stored, and none of it is given.
    pub fn counted(self) -> Vec<Archive> {
        let deleted = &self.deleted;
        let is_whole = |(stored, archives): &(Stored, BTreeMap<u32, Archive>)| {
            u32::try_from(archives.len()) == Ok(stored.volumes)
                && !archives.values().any(|archive| deleted.contains(&archive.archive_id))
        };
        let whole = self.stored.into_iter().filter(is_whole);
        whole.flat_map(|(_, archives)| archives.into_values()).collect()
    }
}

/// Prints the archives of the catalog that `thing` is.
///
/// # Errors
/// When it cannot be read, or standard output cannot take the lines.
pub fn print(input: impl BufRead, thing: &str, mut printer: Printer) -> Result<()> {
    let mut archives = Archives::default();
    catalog(input, thing, |line| {
        archives.take(line);
        Ok(())
    })?;
    for archive in archives.counted() {
        let cells = vec![
            table::minute(archive.uploaded),
            units::bytes(archive.size),
            archive.host.clone(),
            archive.dest.clone(),
            format!("{} volume {}", archive.name, archive.volume),
        ];
        printer.print(&Line::Archive(archive), || cells)?;
    }
    printer.finish()
}
