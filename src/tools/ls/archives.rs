//! The archives of a catalog: those that its stored streams need.

use std::collections::BTreeMap;
use std::io::BufRead;

use super::table::{self, Column};
use super::{Printer, catalog};
use crate::catalog::counted;
use crate::error::Result;
use crate::line::{Archive, Line};
use crate::units;

/// The columns of its table.
pub const COLUMNS: &[Column] = &[
    Column::Left("UPLOADED"),
    Column::Right("SIZE"),
    Column::Left("HOST"),
    Column::Left("DEST"),
    Column::Left("WHAT"),
];

/// The archives of a catalog, as its lines come.
#[derive(Debug, Default)]
pub struct Archives {
    lines: counted::Lines,
    found: BTreeMap<u64, Archive>,
    count: u64,
}

impl Archives {
    /// Takes a line.
    pub fn take(&mut self, line: Line) {
        self.count += 1;
        match line {
            Line::Archive(line) => {
                self.lines.archive(&(&line).into(), self.count);
                self.found.insert(self.count, line);
            }
            Line::Stored(line) => self.lines.stored(&line, self.count),
            Line::Deleted(line) => {
                line.archive_id.iter().for_each(|archive| self.lines.deleted(archive));
            }
            _ => {}
        }
    }

    /// The archives that count, stream after stream, volume after volume. A
    /// stream that lacks one is not stored, and none of it is given.
    pub fn counted(mut self) -> Vec<Archive> {
        self.lines.settle();
        let whole = self.lines.copies().filter(|copy| copy.defect.is_none());
        let places = whole.flat_map(|copy| copy.archives);
        places.filter_map(|at| self.found.remove(&at)).collect()
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
