//! glacier-chunk(1): cut a byte stream into parts in a spool, with their
//! hashes.
//!
//! Bytes flow one way: `input` reads them into blocks, `source` cuts them at
//! the edges of parts and shows them to the hashing threads and to
//! `zfs_stream`, `writer` puts them into the spool and prints their lines;
//! with `--inspect`, `inspect` prints what there is to say without a spool.
//! Memory is that of the blocks, whatever the sizes.

pub mod input;
mod inspect;
pub(crate) mod known;
pub(crate) mod lineage;
pub(crate) mod proof;
mod room;
pub(crate) mod source;
mod writer;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

use crate::cli;
use crate::description;
use crate::error::{Error, Result};
use crate::line::{Format, Guid, Stream, StreamId, VERSION};
use crate::spool::{Holder, Spool};
use crate::units::Limit;
use crate::zfs_stream::Head;
use input::Input;
use inspect::Teller;
use known::Known;
use proof::Proofs;
use room::Room;
use source::Source;
use writer::Writer;

/// What the command line says.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where and how to keep parts; none to look at the stream only.
    pub keep: Option<Keep>,
    /// Bytes in a part.
    pub part_size: u64,
    /// Bytes in a volume.
    pub volume_size: u64,
    /// The stream's name, where it has none of its own.
    pub name: Option<String>,
    /// This machine's name.
    pub host: String,
    /// Files that prove the end.
    pub markers: Vec<PathBuf>,
    /// Whether the end of the input is the end of the stream.
    pub trust_eof: bool,
    /// The command to run, instead of reading standard input.
    pub command: Vec<OsString>,
}

/// Where and how to keep parts.
#[derive(Clone, Debug)]
pub struct Keep {
    /// The spool directory.
    pub spool: PathBuf,
    /// Bytes of this stream in the spool, at most.
    pub limit: Limit,
    /// Bytes that stay free.
    pub reserve: u64,
    /// How long to wait for room while no put works.
    pub patience: Duration,
}

/// Cuts the input. Every failure also prints a `failed` line, so that the
/// last tool of a pipe knows.
///
/// # Errors
/// Whatever kept the stream from its proven end.
pub fn run(settings: &Settings) -> Result<()> {
    let mut stream = None;
    let result = cut(settings, &mut stream);
    if let Err(error) = &result {
        cli::tell(stream, error);
    }
    result
}

fn cut(settings: &Settings, id: &mut Option<StreamId>) -> Result<()> {
    let proofs = Proofs {
        markers: settings.markers.clone(),
        trust_eof: settings.trust_eof,
        command: !settings.command.is_empty(),
        started: SystemTime::now(),
    };
    // What is wrong here is told before the first byte, however long that
    // takes to come.
    let keep = settings.keep.as_ref();
    let spool = keep.map(|keep| Spool::open(&keep.spool)).transpose()?;
    let mut source = Source::new(Input::open(&settings.command)?, settings.part_size);
    let head = source.head(settings.name.is_some() && proofs.are_possible())?;
    if keep.is_some() || source.head_of_zfs().is_none() {
        source.demand(&proofs)?;
    }
    let stream = describe(source.head_of_zfs(), settings)?;
    *id = Some(stream.stream);
    let (Some(keep), Some(spool)) = (keep, spool) else {
        let mut teller = Teller::start(&stream, source.stop())?;
        return source.run(stream.stream, head, &proofs, false, |order| teller.take(order));
    };

    let directory = spool.stream(stream.stream)?;
    let _lock = directory.lock(Holder::Chunk)?;
    let known = Known::of(&spool, &directory)?;
    let room = Room {
        limit: keep.limit,
        reserve: keep.reserve,
        part_size: settings.part_size,
        patience: keep.patience,
    };
    let stop = source.stop();
    let mut writer = Writer::start(&spool, &directory, &stream, &known, room, &stop)?;
    source.run(stream.stream, head, &proofs, true, |order| writer.take(order))
}

/// The `stream` line, with the id that is computed from what makes the stream
/// this one.
fn describe(head: Option<&Head>, settings: &Settings) -> Result<Stream> {
    let (part_size, volume_size) = (settings.part_size, settings.volume_size);
    let (identity, name) = match (head, &settings.name) {
        (Some(head), name) => {
            (head.identity.clone(), name.clone().unwrap_or_else(|| head.name.clone()))
        }
        (None, Some(name)) => {
            (Sha256::new().chain_update(b"name\0").chain_update(name), name.clone())
        }
        (None, None) => {
            return Err(Error::Usage(
                "stdin: not a ZFS stream, so it has no name; use --name".to_owned(),
            ));
        }
    };
    let stream = Stream {
        v: VERSION,
        stream: StreamId::new(identity, part_size, volume_size),
        host: settings.host.clone(),
        name,
        format: if head.is_some() { Format::Zfs } else { Format::Bytes },
        guid: head.and_then(|head| head.guid).map(Guid),
        from_guid: head.and_then(|head| head.from_guid).map(Guid),
        compound: head.is_some_and(|head| head.compound),
        resumed: head.is_some_and(|head| head.resumed),
        filter: None,
        part_size,
        volume_size,
    };
    description::fits(&stream).map_err(Error::Usage)?;
    Ok(stream)
}
