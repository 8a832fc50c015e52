//! glacier-chunk(1): cut a byte stream into parts in a spool, with their
//! hashes.
//!
//! Bytes flow one way: a `stream` is read, `writer` puts its parts into the
//! spool and prints their lines; with `--inspect`, `inspect` prints what there
//! is to say without a spool.
//! Memory is that of the blocks, whatever the sizes.

mod inspect;
pub(crate) mod known;
mod room;
mod writer;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::line::description;
use crate::line::{Filter, Format, Stream, StreamId, VERSION};
use crate::process;
use crate::spool::{Holder, Spool};
use crate::stream::input::Input;
use crate::stream::lineage;
use crate::stream::proof::Proofs;
use crate::stream::source::Source;
use crate::units::Limit;
use crate::zfs_stream::Head;
use inspect::Teller;
use known::Known;
use room::{Place, Room};
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
    /// What the input went through before it came here.
    pub filter: Option<Filter>,
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
    /// Where the stream will be stored, as a URL, if that is known here.
    pub dest: Option<String>,
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
        process::tell(stream, error);
    }
    result
}

fn cut(settings: &Settings, id: &mut Option<StreamId>) -> Result<()> {
    let command = &settings.command;
    let proofs = Proofs::begin(&settings.markers, settings.trust_eof, !command.is_empty());
    // What is wrong here is told before the first byte, however long that
    // takes to come.
    let keep = settings.keep.as_ref();
    let spool = keep.map(|keep| Spool::open(&keep.spool)).transpose()?;
    let input = Input::open(command)?;
    let proofs = proofs.since(input.made());
    let mut source = Source::new(input, settings.part_size);
    let is_told = settings.name.is_some() || settings.filter.is_some();
    let head = source.head(is_told && proofs.are_possible())?;
    adopt(&mut source, settings, &proofs)?;
    if keep.is_some() || source.head_of_zfs().is_none() {
        source.demand(&proofs)?;
    }
    let stream = describe(source.head_of_zfs(), source.lineage(), settings)?;
    *id = Some(stream.stream);
    let (Some(keep), Some(spool)) = (keep, spool) else {
        let mut teller = Teller::start(&stream, source.stop())?;
        return source.run(stream.stream, head, &proofs, false, |order| teller.take(order));
    };

    // The bytes that a filter gives cannot be made again.
    let once = source.lineage().is_some() && stream.filter.is_some();
    if once && Known::once(&spool, &stream, &keep.spool)?.is_none() {
        return Ok(());
    }
    let directory = spool.stream(stream.stream)?;
    let lock = directory.lock(Holder::Chunk)?;
    known::is_not_sent(&directory)?;
    // Another run may have come to its end since.
    let known = if once {
        Known::once(&spool, &stream, &keep.spool)?
    } else {
        Some(Known::of(&spool, &directory, keep.dest.as_deref())?)
    };
    let Some(known) = known else { return Ok(()) };
    let room = Room {
        limit: keep.limit,
        reserve: keep.reserve,
        part_size: settings.part_size,
        volume_size: settings.volume_size,
        patience: keep.patience,
    };
    let stop = source.stop();
    let place = Place { spool: &spool, stream: &directory, lock: &lock };
    let mut writer = Writer::start(place, &stream, &known, room, &stop)?;
    source.run(stream.stream, head, &proofs, true, |order| writer.take(order))
}

/// Takes what glacier-proof(1) has written down, which is there before the
/// first byte of the stream is given to a filter. A filter may have given
/// bytes of its own before that: where nothing else names the stream, it is
/// waited for. So it is where what stands there is older than the pipe: that is
/// replaced, or on a busy machine the shell made our pipe late, and
/// glacier-proof(1) writes to it anew as soon as the filter reads.
fn adopt(source: &mut Source, settings: &Settings, proofs: &Proofs) -> Result<()> {
    let mut lineage = proofs.lineage()?;
    let is_nameless = settings.name.is_none() && source.head_of_zfs().is_none();
    let is_awaited = is_nameless && settings.filter.is_some() && proofs.has_markers();
    if lineage.is_none() && (is_awaited || proofs.has_stale_lines()) {
        lineage = source.wait_for(|| proofs.lineage())?;
        if lineage.is_none() && is_awaited {
            proofs.accept_all(None)?;
        }
    }
    lineage.map_or(Ok(()), |lineage| source.adopt(lineage))
}

/// The `stream` line, with the id that is computed from what makes the stream
/// this one: for a filtered one what it was before, and the filter.
fn describe(head: Option<&Head>, lineage: Option<&Stream>, settings: &Settings) -> Result<Stream> {
    let (part_size, volume_size) = (settings.part_size, settings.volume_size);
    let missing = |what: &str| Err(Error::Usage(what.to_owned()));
    let filter = settings.filter.as_ref();
    let seen = head.map(lineage::stream);
    let (identity, name) = match (head, lineage, &settings.name, filter) {
        (Some(_), .., Some(_)) => {
            return missing("--filter: the input is a ZFS stream, which went through none");
        }
        (Some(head), _, name, None) => (head.identity.clone(), name.as_ref().unwrap_or(&head.name)),
        (None, Some(_), _, None) => {
            return missing(
                "stdin: not a ZFS stream any more; say with --filter what it went through",
            );
        }
        (None, Some(lineage), name, Some(filter)) => {
            let identity = Sha256::new()
                .chain_update(b"filtered\0")
                .chain_update(lineage.stream.to_string())
                .chain_update(filter.as_str());
            (identity, name.as_ref().unwrap_or(&lineage.name))
        }
        (None, None, Some(name), filter) => {
            let identity = Sha256::new().chain_update(b"name\0").chain_update(name);
            let filtered = |filter: &Filter| {
                identity.clone().chain_update(b"\0filtered\0").chain_update(filter.as_str())
            };
            (filter.map_or_else(|| identity.clone(), filtered), name)
        }
        (None, None, None, _) => {
            return missing("stdin: not a ZFS stream, so it has no name; use --name");
        }
    };
    // What the stream itself tells is preferred to what is told of it.
    let zfs = seen.as_ref().or(lineage);
    let stream = Stream {
        v: VERSION,
        stream: StreamId::new(identity, part_size, volume_size),
        host: settings.host.clone(),
        name: name.clone(),
        format: if head.is_some() { Format::Zfs } else { Format::Bytes },
        guid: zfs.and_then(|zfs| zfs.guid),
        from_guid: zfs.and_then(|zfs| zfs.from_guid),
        created: zfs.and_then(|zfs| zfs.created),
        features: zfs.and_then(|zfs| zfs.features),
        clone: zfs.is_some_and(|zfs| zfs.clone),
        compound: zfs.is_some_and(|zfs| zfs.compound),
        resumed: zfs.is_some_and(|zfs| zfs.resumed),
        filter: filter.cloned(),
        part_size,
        volume_size,
    };
    description::fits(&stream).map_err(Error::Usage)?;
    Ok(stream)
}
