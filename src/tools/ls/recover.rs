//! A lost catalog: the manifests of a destination are brought up and checked, and
//! the lines of those that fit are printed when all is known.
//!
//! Nothing is printed before: a catalog that was made of half of the
//! manifests would look like a whole one.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use tokio::time::sleep;

use super::inventory::head;
use super::watched;
use crate::catalog::rebuild::Books;
use crate::catalog::rebuild::manifest::{Which, copy};
use crate::error::{Error, Result};
use crate::hash::tree::{Hash, TreeHash};
use crate::line::{Described, Id, Inventory as Head, Line, Reader, Text};
use crate::partsize;
use crate::process;
use crate::process::progress::Progress;
use crate::storage::concurrency::Lanes;
use crate::storage::retry::Trouble;
use crate::storage::{
    Attempt, Failure, Inventoried, Inventory, Listings, Proof, Retrievals, Span, Want, composite,
};
use crate::tools::retrieve::Settings;
use crate::tools::retrieve::jobs::{Archive, Jobs};

/// What is fetched, and held in memory, at once for one manifest.
const PIECE: u64 = 8 << 20;

/// A manifest that is being downloaded.
struct Download {
    file: File,
    hash: TreeHash,
    size: u64,
}

/// Prints the catalog that the vault's inventory and manifests give.
///
/// # Errors
/// When a manifest does not come, or standard output cannot take the lines.
/// Data, when manifests were refused: the others are printed.
pub async fn run<V: Retrievals + Listings>(
    vault: &V,
    inventory: &Inventory,
    settings: &Settings,
    progress: &Progress,
) -> Result<()> {
    let mut books = Books::new(inventory, &vault.dest().to_string(), vault.region());
    let wanted = books.manifests();
    let archives = wanted.iter().filter_map(|(index, thing)| {
        let of = inventory.archives.get(*index)?;
        let id = of.archive_id.clone();
        let (version, tag, class) = (None, of.tag.clone(), of.class.clone());
        Some(Archive { place: 0, id, version, tag, class, range: None, thing: thing.clone() })
    });
    let vaults = std::slice::from_ref(vault);
    let jobs = Jobs::new(vaults, archives.collect(), settings);
    watched(jobs.start()).await?;
    if settings.no_wait && jobs.waiting() > 0 {
        return Err(jobs.not_ready());
    }
    let lanes = Lanes::new(settings.concurrency);
    let mut scratch = BufWriter::new(temporary()?);
    let mut spans: Vec<(u64, u64)> = Vec::new();
    let work = async {
        let mut flying: FuturesUnordered<_> = wanted
            .iter()
            .enumerate()
            .filter_map(|(number, (index, _))| {
                let archive = inventory.archives.get(*index)?;
                let (jobs, lanes) = (&jobs, &lanes);
                Some(async move { (*index, fetch(number, archive, jobs, settings, lanes).await) })
            })
            .collect();
        let (mut done, all) = (0, u64::try_from(wanted.len()).unwrap_or(u64::MAX));
        loop {
            progress.say(|| match jobs.waiting() {
                0 => format!("{done} of {all} manifests"),
                waiting => format!("{done} of {all} manifests, {waiting} not ready"),
            });
            let Some((index, fetched)) = flying.next().await else { return Ok(()) };
            let mut file = fetched?;
            let checked = books.check(index).read(BufReader::new(&file)).map_err(unusable)?;
            if let Some(number) = books.take(index, checked) {
                let before = scratch.stream_position().map_err(unusable)?;
                keep(&mut file, &books, number, &mut scratch)?;
                let after = scratch.stream_position().map_err(unusable)?;
                spans.push((before, after.saturating_sub(before)));
            }
            done += 1;
        }
    };
    watched(async {
        tokio::select! {
            result = work => result,
            result = jobs.follow() => result,
        }
    })
    .await?;
    let mut scratch = scratch.into_inner().map_err(|e| unusable(e.into_error()))?;
    let head = head(inventory, &vault.dest().to_string(), vault.region(), Timestamp::now());
    print(&books, &mut scratch, &spans, head)
}

/// Writes a manifest's lines in the order of the catalog.
fn keep(
    file: &mut File,
    books: &Books<'_>,
    number: usize,
    scratch: &mut BufWriter<File>,
) -> Result<()> {
    for which in [Which::Volumes, Which::Snapshots] {
        file.rewind()
            .and_then(|()| copy(BufReader::new(&*file), which, scratch))
            .map_err(unusable)?;
    }
    let stored = books
        .stored(number)
        .ok_or_else(|| Error::Bug("a manifest that was just taken is gone".to_owned()))?;
    let text = Line::Stored(stored.clone()).text()?;
    scratch.write_all(text.as_bytes()).map_err(unusable)
}

/// Prints what was decided: the catalog, then what it leaves over. What it was
/// made of comes last: where it stands, nothing was cut.
fn print(books: &Books<'_>, scratch: &mut File, spans: &[(u64, u64)], head: Head) -> Result<()> {
    let decision = books.decide();
    for number in &decision.streams {
        let Some((start, size)) = spans.get(*number) else { continue };
        scratch.seek(SeekFrom::Start(*start)).map_err(unusable)?;
        let mut lines = BufReader::with_capacity(64 << 10, (&*scratch).take(*size));
        loop {
            let piece = io::BufRead::fill_buf(&mut lines).map_err(unusable)?;
            if piece.is_empty() {
                break;
            }
            process::put_out(piece)?;
            let length = piece.len();
            io::BufRead::consume(&mut lines, length);
        }
    }
    for orphan in decision.orphans {
        super::put(&Line::Inventoried(orphan))?;
    }
    let refused = u64::try_from(decision.refused.len()).ok();
    super::put(&Line::Inventory(Head { refused, ..head }))?;
    decision.lacking.iter().for_each(|message| process::warn(message));
    match decision.refused.len() {
        0 => Ok(()),
        1 => Err(Error::Data(decision.refused.concat())),
        many => {
            for message in decision.refused {
                process::complain(&Error::Data(message));
            }
            Err(Error::Data(format!("{many} refusals; the streams that were printed are whole")))
        }
    }
}

fn temporary() -> Result<File> {
    tempfile::tempfile()
        .map_err(|e| Error::io("a file for the manifests: cannot create (see TMPDIR)", e))
}

fn unusable(e: io::Error) -> Error {
    Error::io("the file for the manifests: cannot use (see TMPDIR)", e)
}

/// What a manifest must come to; nothing, where the service does not say.
async fn proof<V: Listings>(vault: &V, archive: &Inventoried) -> Attempt<Option<Proof>> {
    if archive.checksum.is_some() {
        return Ok(archive.checksum);
    }
    let Some(seen) = vault.inspect(&archive.archive_id, None).await?.value else { return Ok(None) };
    let of = |it: &Described| (it.kind, it.stream, it.generation, it.volume);
    if seen.described.is_some_and(|text| of(&Described::of(&text)) != of(&archive.of)) {
        let why = "its description is that of another archive";
        return Err(Failure::Damaged(why.to_owned()));
    }
    Ok(seen.checksum)
}

/// Downloads a manifest until it equals the hash that the service has of it.
async fn fetch<V: Retrievals + Listings>(
    number: usize,
    archive: &Inventoried,
    jobs: &Jobs<'_, V>,
    settings: &Settings,
    lanes: &Lanes,
) -> Result<File> {
    let (vault, of) = jobs.archive(number)?;
    let looked_at = settings.patience.with(async || proof(vault, archive).await).await;
    let proof = looked_at.map_err(|failure| failure.on(&of.thing))?;
    let mut download: Option<Download> = None;
    let mut trouble = Trouble::default();
    loop {
        let job = jobs.ready(number).await;
        let lane = lanes.enter().await;
        let now = match download.take() {
            Some(now) => now,
            None => Download { file: temporary()?, hash: TreeHash::default(), size: 0 },
        };
        let now = download.insert(now);
        let result = go_on(vault, (&job, of.want()), archive.size, now).await?;
        drop(lane);
        let failure = match result {
            Ok(()) => {
                if let Some(file) = whole(&mut download, proof)? {
                    lanes.worked();
                    return Ok(file);
                }
                let of = match proof {
                    Some(Proof::Tree(_)) => "tree hash in the inventory",
                    _ => "hash at the service",
                };
                Failure::Damaged(format!("does not equal its {of}"))
            }
            Err(failure) if vault.is_gone(&job, &failure).await => {
                jobs.renew(number, &job, &failure.to_string()).await?;
                continue;
            }
            Err(failure) => failure,
        };
        lanes.failed(&failure);
        let pause = settings.patience.after(&mut trouble, failure);
        sleep(pause.map_err(|failure| failure.on(&of.thing))?).await;
    }
}

/// Downloads what lacks, a piece at a time.
async fn go_on<V: Retrievals>(
    vault: &V,
    (job, want): (&Id, Want<'_>),
    size: u64,
    download: &mut Download,
) -> Result<Attempt<()>> {
    while download.size < size {
        let piece = PIECE.min(size - download.size);
        let room = usize::try_from(piece).unwrap_or(usize::MAX);
        let mut bytes: Vec<u8> = Vec::new();
        let fetched = vault
            .read(job, want, Span { offset: download.size, size: piece }, &mut |got| {
                let fits = got.len().min(room.saturating_sub(bytes.len()));
                bytes.extend_from_slice(got.get(..fits).unwrap_or_default());
            })
            .await;
        if let Err(failure) = fetched {
            return Ok(Err(failure));
        }
        download.file.write_all(&bytes).map_err(unusable)?;
        download.hash.update(&bytes);
        download.size += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    }
    Ok(Ok(()))
}

/// The file, at its beginning, if it is what it must be; else it is dropped.
fn whole(download: &mut Option<Download>, proof: Option<Proof>) -> Result<Option<File>> {
    let Some(Download { mut file, hash, .. }) = download.take() else { return Ok(None) };
    let is_whole = match proof {
        Some(Proof::Tree(treehash)) => hash.finish() == treehash,
        Some(Proof::Sha256(sum)) => composite_of(&mut file).map_err(unusable)? == Some(sum),
        None => true,
    };
    file.rewind().map_err(unusable)?;
    Ok(is_whole.then_some(file))
}

/// The SHA-256 hash of the hashes of a manifest's parts. They are as large as
/// those of its stream.
fn composite_of(file: &mut File) -> io::Result<Option<Hash>> {
    file.rewind()?;
    let mut lines = Reader::new(BufReader::new(&*file));
    let part_size = loop {
        match lines.read()? {
            Some(Text::Line(text)) => {
                if let Ok(Some(Line::Stream(stream))) = Line::parse(&text) {
                    break stream.part_size;
                }
            }
            Some(Text::Bad(_)) => {}
            None => return Ok(None),
        }
    };
    if !partsize::is_part(part_size) {
        return Ok(None);
    }
    file.rewind()?;
    let (mut parts, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
    loop {
        let (mut part, mut hash, mut size) = ((&*file).take(part_size), Sha256::new(), 0);
        loop {
            let count = part.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            hash.update(buffer.get(..count).unwrap_or_default());
            size += count;
        }
        if size == 0 {
            return Ok(Some(composite(parts)));
        }
        parts.push(Hash(hash.finalize().into()));
    }
}
