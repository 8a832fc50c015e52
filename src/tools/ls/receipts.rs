//! The receipts in the spool: the catalog lines of what is stored, without the
//! service.

use std::io::{self, BufRead};
use std::path::Path;

use crate::error::{Error, Result};
use crate::line::{Reader, Text};
use crate::process;
use crate::spool::Spool;
use crate::spool::append;
use crate::tools::receipts::{Has, Inventories, Place, Receipt};

/// Prints the catalog lines of the streams that the receipts of a spool call
/// stored, in the order in which they were; where a catalog is given, of those
/// of which it has lost something. Whether there was any.
///
/// # Errors
/// When the spool or the catalog cannot be read, or standard output cannot
/// take the lines. Data, when receipts are damaged: the others are printed.
pub fn print(path: &Path, catalog: Option<(impl BufRead, String)>) -> Result<bool> {
    let Some(spool) = Spool::look(path)? else { return Ok(false) };
    let has = catalog.map(|(input, thing)| read(input, &thing)).transpose()?;
    let is_lost = |receipt: &Receipt| has.as_ref().is_none_or(|(has, _)| has.lacks(receipt));
    let (mut found, mut damaged) = (Vec::new(), Vec::new());
    for place in Place::all(&spool)? {
        match place.read(&spool)? {
            Some(Ok(receipt)) if is_lost(&receipt) => {
                if has.as_ref().is_some_and(|(_, inventories)| inventories.contradict(&receipt)) {
                    process::warn(&format!(
                        "{place}: {}: a newer inventory lacks an archive of it; left out",
                        receipt.stored.name
                    ));
                } else {
                    found.push((receipt.stored.stored, place));
                }
            }
            Some(Err(why)) => damaged.push(format!("{place}: {why}; left out")),
            _ => {}
        }
    }
    found.sort_by_key(|(stored, place)| (*stored, place.id()));
    if !found.is_empty() {
        append::begin_output()?;
    }
    for (_, place) in &found {
        // rm may have removed it since.
        if let Some(Ok(receipt)) = place.read(&spool)? {
            process::put_out(receipt.text().as_bytes())?;
        }
    }
    match damaged.len() {
        0 => Ok(!found.is_empty()),
        1 => Err(Error::Data(damaged.concat())),
        many => {
            for message in damaged {
                process::complain(&Error::Data(message));
            }
            Err(Error::Data(format!("{many} receipts left out; the others are whole")))
        }
    }
}

/// What a catalog has, and the inventories that it was rebuilt from.
fn read(input: impl BufRead, thing: &str) -> Result<(Has, Inventories)> {
    let mut reader = Reader::new(input).bounded();
    let (mut has, mut inventories) = (Has::default(), Inventories::default());
    let unreadable = |e: io::Error| match e.kind() {
        io::ErrorKind::InvalidData => Error::Data(format!("{thing}: {e}")),
        _ => Error::io(format!("{thing}: cannot read"), e),
    };
    while let Some(text) = reader.read().map_err(unreadable)? {
        if let Text::Line(text) = text {
            has.take(&text);
            inventories.take(&text);
        }
    }
    Ok((has, inventories))
}
