//! glacier-mend(1): pass a ZFS stream on, with what `zfs receive` would lose of
//! it put back where it belongs.
//!
//! What comes in is verified as glacier-chunk(1) does, and its last END goes
//! out only when all of it was: what is not whole never passes for whole.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::os::fd::AsFd as _;

use crate::error::{Error, Result};
use crate::process;
use crate::process::peers::{self, Input};
use crate::stream::input::enlarge;
use crate::stream::source::damaged;
use crate::zfs_stream::{Mended, Mender, RECOGNISED_BY, Recognised, recognise};

/// Bytes that are read at once. Each record that is mended may become a few
/// hundred times as long, so this bounds what is held of them, too.
const PIECE: usize = 64 << 10;

/// Passes standard input on, and unless `is_quiet` tells what is put back.
///
/// # Errors
/// Whatever kept it from its end; what went out has none then.
pub fn run(is_quiet: bool) -> Result<()> {
    if io::stdin().is_terminal() {
        return Err(Error::Usage("stdin: a terminal; pipe a stream into it".to_owned()));
    }
    let output = process::stdout()?.as_fd().try_clone_to_owned();
    let mut output = File::from(output.map_err(|e| Error::io("stdout: cannot open", e))?);
    enlarge(&output);
    let mut input = Input::stdin().map_err(|e| Error::io("stdin", e))?;
    enlarge(io::stdin());
    let mut mender = Mender::new();
    let mut buffer = vec![0; PIECE];
    let mut length = begin(&mut input, &mut buffer)?;
    let mut out = Vec::new();
    while length > 0 {
        let taken = mender.update(buffer.get(..length).unwrap_or_default(), &mut out);
        mender.take_mended().iter().filter(|_| !is_quiet).for_each(tell);
        put(&mut output, &mut out)?;
        taken.map_err(damaged)?;
        length = read(&mut input, &mut buffer)?;
    }
    // I1: the last END goes out when all before it was verified, and nothing
    // follows. Held by tests/mend.rs::a_stream_cut_anywhere_gets_no_end.
    mender.finish(&mut out).map_err(damaged)?;
    put(&mut output, &mut out)
}

/// Reads what tells whether it is a stream; gives how much that is.
fn begin(input: &mut Input, buffer: &mut [u8]) -> Result<usize> {
    let mut length = 0;
    while length < RECOGNISED_BY {
        match read(input, buffer.get_mut(length..).unwrap_or_default())? {
            0 => break,
            more => length += more,
        }
    }
    match buffer.get(..length).unwrap_or_default() {
        [] => Err(Error::Data("stdin: empty stream".to_owned())),
        first if recognise(first) == Recognised::No => {
            Err(Error::Data("stdin: not a ZFS stream".to_owned()))
        }
        // A stream that is cut or damaged here is told as such.
        _ => Ok(length),
    }
}

fn read(input: &mut Input, buffer: &mut [u8]) -> Result<usize> {
    loop {
        match input.read(buffer) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            read => return read.map_err(|e| Input::failed("stdin", e)),
        }
    }
}

fn put(output: &mut File, out: &mut Vec<u8>) -> Result<()> {
    output.write_all(out).map_err(peers::unwritten)?;
    out.clear();
    Ok(())
}

fn tell(mended: &Mended) {
    let Mended { snapshot, object, length } = mended;
    process::warn(&format!(
        "{snapshot}: object {object}: {length} bytes that zfs receive would lose are put back"
    ));
}
