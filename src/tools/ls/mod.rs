//! glacier-ls(1): what is in vaults, in the spool and in a catalog.
//!
//! Each question has a module: `remote` asks the service for its lists,
//! `inventory` for that of a vault, `diff` compares it with a catalog,
//! `recover` makes a catalog of it (`crate::catalog::rebuild` decides), `spooled`,
//! `receipts` and `archives` look at what is on this machine. Nothing is ever changed, but
//! for the jobs that the service is asked for.

pub mod archives;
pub mod diff;
pub mod inventory;
pub mod receipts;
pub mod recover;
#[cfg(feature = "aws")]
pub mod remote;
pub mod spooled;
pub mod table;

use std::io::{self, BufRead};

use serde::Serialize;

use crate::catalog::scan::Skipped;
use crate::error::{Error, Result};
use crate::line::description::Kind;
use crate::line::{self, Described, Line, MAX, Reader, Text, is_newer};
use crate::process;
use crate::process::peers;
use table::{Column, Table};

/// Where answers go: lines as they come, or a table at the end.
#[derive(Debug)]
pub struct Printer {
    heading: String,
    table: Option<Table>,
}

impl Printer {
    /// Prints lines, or a table with these columns.
    pub fn new(table: bool, columns: &'static [Column]) -> Self {
        Self { heading: String::new(), table: table.then(|| Table::new(columns)) }
    }

    /// Prints an answer.
    ///
    /// # Errors
    /// When standard output cannot take it, or it fits no line.
    pub fn print(
        &mut self,
        line: &impl Serialize,
        row: impl FnOnce() -> Vec<String>,
    ) -> Result<()> {
        match &mut self.table {
            Some(table) => table.row(row()),
            None => put(line)?,
        }
        Ok(())
    }

    /// Prints a line that no row of a table stands for.
    ///
    /// # Errors
    /// As [`Printer::print`].
    pub fn line(&mut self, line: &impl Serialize) -> Result<()> {
        if self.table.is_some() { Ok(()) } else { put(line) }
    }

    /// Prints what is to stand over all others.
    ///
    /// # Errors
    /// As [`Printer::print`].
    pub fn head(&mut self, line: &impl Serialize, text: impl FnOnce() -> String) -> Result<()> {
        if self.table.is_none() {
            return put(line);
        }
        self.heading = process::printable(&text()) + "\n";
        Ok(())
    }

    /// Prints the table, if that is what is printed.
    ///
    /// # Errors
    /// When standard output cannot take it.
    pub fn finish(self) -> Result<()> {
        let Some(table) = self.table else { return Ok(()) };
        process::put_out((self.heading + &table.text()).as_bytes())
    }
}

/// Prints a line, if it is one: what a service says may be of any length.
fn put(line: &impl Serialize) -> Result<()> {
    let text = line::json(line)?;
    if text.len() > MAX {
        let head: String = text.chars().take(200).collect();
        return Err(Error::Data(format!("an answer fits no line of {MAX} bytes: {head}")));
    }
    process::put_out(text.as_bytes())
}

/// Reads the catalog lines of `thing`; bad ones are skipped, with a warning.
///
/// # Errors
/// When it cannot be read, has a line of a later version, or that of `take`.
pub fn catalog(
    input: impl BufRead,
    thing: &str,
    mut take: impl FnMut(Line) -> Result<()>,
) -> Result<()> {
    let mut reader = Reader::new(input).bounded();
    let mut skipped = Skipped::default();
    let unreadable = |e: io::Error| match e.kind() {
        io::ErrorKind::InvalidData => Error::Data(format!("{thing}: {e}")),
        _ => Error::io(format!("{thing}: cannot read"), e),
    };
    while let Some(text) = reader.read().map_err(unreadable)? {
        let line = match text {
            Text::Line(text) => Line::parse(&text),
            Text::Bad(reason) => Err(reason),
        };
        match line {
            Ok(Some(line)) => take(line)?,
            Ok(None) => skipped.unknown(),
            Err(reason) if is_newer(&reason) => {
                return Err(Error::Data(format!("{thing}: line {}: {reason}", reader.number)));
            }
            Err(reason) => skipped.bad(reader.number, reason)?,
        }
    }
    if let Some(warning) = skipped.warning_of(thing) {
        process::warn(&warning);
    }
    Ok(())
}

/// Waits for the service as long as somebody reads the answer.
///
/// # Errors
/// That of `work`, or that nobody does.
pub async fn watched<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::select! {
        result = work => result,
        gone = peers::unread() => Err(gone),
    }
}

/// What an archive or an upload is, in a cell of a table.
pub fn what(of: &Described) -> String {
    let name = of.name.as_deref().unwrap_or_default();
    match (of.kind, of.volume) {
        (Some(Kind::Volume), Some(volume)) => format!("{name} volume {volume}"),
        (Some(Kind::Volume), None) => format!("{name} volume"),
        (Some(Kind::Manifest), _) => format!("{name} manifest"),
        (None, _) => match of.description.as_deref().unwrap_or_default() {
            "" => "not ours, without a description".to_owned(),
            text => format!("not ours: {text}"),
        },
    }
}
