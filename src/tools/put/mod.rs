//! glacier-put(1): store what the lines describe.
//!
//! Lines come in through `inbox`, `plan` decides (it touches nothing),
//! `worker` asks the service and does what the plan says here: `log` for
//! the books, the spool for the parts. `gate` knows the hours.

mod forecast;
mod gate;
mod inbox;
pub(crate) mod log;
mod manifest;
pub mod plan;
pub(crate) mod upload;
mod worker;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use crate::catalog::scan;
use crate::error::{Error, Result};
use crate::line::description;
use crate::line::{Line, Stamp, Stored, Stream, StreamId};
use crate::partsize;
use crate::process;
use crate::process::peers;
use crate::process::worst::Worst;
use crate::spool::catalog_file::Catalog;
use crate::spool::journal::Journal;
use crate::spool::underway::Underway;
use crate::spool::{Holder, Spool, underway};
use crate::storage::rate_limit::Uplink;
use crate::storage::retry::Patience;
use crate::storage::{Failure, Limits, Places, Uploads};
use crate::tools::receipts::{self, Has, Inventories, Receipt, Told};
use forecast::Speed;
use gate::Gates;
use inbox::Inbox;
use log::Ledger;
use plan::Plan;
use worker::Worker;

/// What the command line says.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of the command line")]
pub struct Settings {
    /// The destination, as a URL.
    pub dest: String,
    /// The spool directory.
    pub spool: PathBuf,
    /// The catalog file.
    pub catalog: PathBuf,
    /// Requests at a time, at most.
    pub concurrency: usize,
    /// From the first failure in a row to giving up.
    pub patience: Duration,
    /// How long what is in flight may go on after its window has closed.
    pub grace: Duration,
    /// Bytes a second that an estimate rests on.
    pub assume_rate: Option<u64>,
    /// No progress on a terminal.
    pub quiet: bool,
    /// No line at all is no failure.
    pub allow_empty: bool,
    /// Create the vault or the bucket, if it is not there.
    pub create: bool,
    /// The destination holds archives that nothing here knows of: go on.
    pub assume_new: bool,
    /// The storage class of volumes, where it is not the usual one.
    pub class: Option<String>,
    /// That of manifests.
    pub manifest_class: Option<String>,
}

/// What `--dry-run` prints of a stream.
#[derive(Serialize)]
#[serde(tag = "type", rename = "plan")]
struct Estimated<'a> {
    stream: StreamId,
    name: &'a str,
    dest: &'a str,
    volumes: u64,
    parts: u64,
    size: u64,
    requests: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    openings: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    done: Option<Timestamp>,
}

/// Stores the streams whose lines come on the input, which is standard input
/// but in tests.
///
/// # Errors
/// The failure of a stream; those of others are printed, and none keeps the
/// other streams from being stored.
pub async fn run<V: Uploads + Places>(
    vault: &V,
    settings: &Settings,
    input: impl io::Read + Send + 'static,
) -> Result<()> {
    let spool = Spool::open(&settings.spool)?;
    let mut catalog = Catalog::open(&settings.catalog)?;
    heal(&spool, &mut catalog)?;
    let inventories = if spool.receipt_names()?.is_empty() {
        Inventories::default()
    } else {
        Inventories::read(|| catalog.reader())?
    };
    let mut inbox = Inbox::of(input);
    if settings.create {
        let patience = Patience { limit: settings.patience };
        let created = wanted(&mut inbox, patience.with(async || vault.create().await)).await?;
        created.map_err(|failure| failure.on(&settings.dest))?;
    }
    let uplink = Uplink::default();
    let stored = each(&mut inbox, settings, async |inbox, stream, stamp| {
        let begun = (stream, stamp);
        let books = (&mut catalog, &inventories);
        store(vault, settings, &spool, books, &uplink, inbox, begun).await
    })
    .await;
    put_away(&spool);
    stored
}

/// Writes what the catalog has lost of the streams that receipts call stored: it
/// was cut, or is an older copy.
///
/// # Errors
/// When the catalog cannot be written.
fn heal(spool: &Spool, catalog: &mut Catalog) -> Result<()> {
    // What cannot be read is told by who needs it, and keeps no other stream.
    let lost = Told::read(spool).and_then(|told| told.lost(spool, || catalog.reader()));
    let Ok(mut lost) = lost else { return Ok(()) };
    lost.sort_by_key(|receipt| receipt.stored.stored);
    for receipt in &lost {
        let mut has = Has::default();
        catalog.scan(&receipt.stored.stream.to_string(), |text| has.take(text))?;
        // Behind its `stored` line nothing of a stream counts.
        let end = receipt.lines().last();
        let lacking = receipt.lines().filter(|line| Some(*line) == end || !has.has(line));
        let text: String = lacking.flat_map(|line| [line, "\n"]).collect();
        catalog.append(&text)?;
        // The end of a put that was stopped is no news.
        if receipt.is_late {
            continue;
        }
        process::warn(&format!(
            "catalog: had not that {} is stored; written again, by its receipt in the spool",
            receipt.stored.name
        ));
    }
    Ok(())
}

/// The receipts of a stream that no newer inventory contradicts.
///
/// # Errors
/// When they cannot be read.
fn believed(spool: &Spool, inventories: &Inventories, id: StreamId) -> Result<Vec<File>> {
    if inventories.is_empty() {
        return spool.receipts(id);
    }
    let mut believed = Vec::new();
    for file in spool.receipts(id)? {
        let cannot = |e| Error::io(format!("stream {id}: receipt: cannot read"), e);
        // What is damaged is seen by who needs it.
        let receipt = Receipt::read(&file, id).map_err(cannot)?;
        if !receipt.is_ok_and(|receipt| inventories.contradict(&receipt)) {
            believed.push(file);
        }
    }
    Ok(believed)
}

/// How long a program that was just seen to end may hold its lock.
const SOON: Duration = Duration::from_secs(1);

/// Puts the receipts of stored streams away that an earlier moment left in
/// their directories, and removes those directories and what is empty: a chunk
/// still worked there, or a put died.
fn put_away(spool: &Spool) {
    for id in spool.ids().unwrap_or_default() {
        // What cannot be read is told to who asks for it.
        let Ok(Some(directory)) = spool.existing(id) else { continue };
        let is_stored = |journal: &Journal| journal.is_of(id).is_ok() && journal.stored.is_some();
        let journal = || -> Option<Journal> {
            let file = directory.existing_journal().ok()??;
            Journal::read(io::BufReader::new(file)).ok().filter(is_stored)
        };
        // A chunk that has just begun would take our lock for one that sends.
        let is_empty =
            || directory.is_idle().is_ok_and(|is| is && !directory.is_locked(Holder::Chunk));
        if journal().is_none() && !is_empty() {
            continue;
        }
        let Ok(_lock) = directory.lock(Holder::Put) else { continue };
        // It may be another's by now. What stays is tried again, and is nothing
        // or stored for glacier-ls(1).
        let _ = match journal() {
            Some(Journal { dest: Some(dest), region, .. }) => {
                receipts::name(spool, id, &dest, &region.unwrap_or_default())
                    .and_then(|name| spool.retire(&directory, Some(&name), SOON))
                    .map(drop)
            }
            Some(_) => Ok(()),
            None => spool.leave(&directory),
        };
    }
}

/// Says what would be sent, without asking the service anything. It leaves
/// nothing behind: what is not there is looked for in a directory that goes
/// when this ends.
///
/// # Errors
/// When the lines are wrong, or the books cannot be read.
pub async fn dry_run(
    settings: &Settings,
    limits: &Limits,
    input: impl io::Read + Send + 'static,
) -> Result<()> {
    let scratch = tempfile::tempdir()
        .map_err(|e| Error::io("a scratch directory: cannot create (see TMPDIR)", e))?;
    let there = |path: &Path, name: &str| {
        if path.exists() { path.to_owned() } else { scratch.path().join(name) }
    };
    let empty = Spool::open(&scratch.path().join("spool"))?;
    let spool = Spool::open(&there(&settings.spool, "spool"))?;
    let mut catalog = Catalog::open(&there(&settings.catalog, "catalog.jsonl"))?;
    let mut inbox = Inbox::of(input);
    each(&mut inbox, settings, async |inbox, stream, stamp| {
        let mut gates = Gates::default();
        gates.number(stamp).map_err(|e| inbox.blame(e))?;
        let id = stream.stream;
        limits.take(stream.part_size, stream.volume_size).map_err(Error::Usage)?;
        let directory = match spool.existing(id)? {
            Some(directory) => directory,
            None => empty.stream(id)?,
        };
        let receipts = spool.receipts(id)?;
        let (_, journal) = Ledger::open(&directory, receipts, &mut catalog, &settings.dest, None)?;
        let name = stream.name.clone();
        let place = (settings.dest.clone(), String::new());
        let mut plan = Plan::new(stream, place, limits, journal);
        while let Some(message) = inbox.next_of(id).await {
            let (_, line, stamp) = message?;
            if let Line::Failed(failed) = line {
                return Err(Error::from_code(failed.code, failed.message));
            }
            let stamp = gates.number(stamp).map_err(|e| inbox.blame(e))?;
            plan.take(line, stamp).map_err(|e| inbox.blame(e))?;
        }
        let estimate = plan.estimate();
        let speed = Speed::assumed(settings.assume_rate);
        let gate = plan.last_stamp().map(|stamp| gates.gate(stamp));
        if let Some(why) = gate.as_ref().and_then(|gate| gate.too_large(plan.largest(), speed)) {
            process::warn(&format!("{name}: {why}"));
        }
        let forecast = gate.and_then(|gate| Some(gate.forecast(estimate.size, speed)?.0));
        process::print_line(&Estimated {
            stream: id,
            name: &name,
            dest: &settings.dest,
            volumes: estimate.volumes,
            parts: estimate.parts,
            size: estimate.size,
            requests: estimate.requests(),
            seconds: settings.assume_rate.map(|rate| estimate.size.div_ceil(rate)),
            openings: forecast.as_ref().map(|forecast| forecast.openings),
            done: forecast.and_then(|forecast| whole_second(forecast.done)),
        })
    })
    .await
}

/// The first whole second that is not before a time.
fn whole_second(time: Timestamp) -> Option<Timestamp> {
    let up = jiff::TimestampRound::new().smallest(jiff::Unit::Second).mode(jiff::RoundMode::Ceil);
    time.round(up).ok()
}

/// Gives every stream of the input to `work`.
async fn each(
    inbox: &mut Inbox,
    settings: &Settings,
    mut work: impl AsyncFnMut(&mut Inbox, Stream, Stamp) -> Result<()>,
) -> Result<()> {
    let mut worst = Worst::default();
    let mut streams = 0;
    while let Some(message) = inbox.next().await {
        streams += 1;
        let result = match message {
            Ok((_, Line::Stream(stream), stamp)) => {
                inbox.streams += 1;
                match check(&stream) {
                    Ok(()) => work(inbox, stream, stamp).await,
                    Err(why) => Err(inbox.blame(Error::Data(why))),
                }
            }
            Ok((_, Line::Failed(failed), _)) => Err(Error::from_code(failed.code, failed.message)),
            Ok(_) => Err(inbox.blame(Error::Data("no \"stream\" line before it".to_owned()))),
            Err(error) => Err(error),
        };
        let Err(error) = result else { continue };
        // Without credentials no other stream does better.
        let last = matches!(error, Error::Credentials(_));
        worst.add(error);
        if last {
            break;
        }
        inbox.skip().await;
    }
    if streams == 0 && !settings.allow_empty {
        // Of a pipe it says that the program before this one died too soon to
        // say why.
        let why = "stdin: no line at all; --allow-empty if that is right".to_owned();
        let is_piped = peers::may_be_cut(io::stdin());
        return Err(if is_piped { Error::Unfinished(why) } else { Error::Data(why) });
    }
    worst.finish()
}

/// Whether a stream's sizes and names are those of a stream.
fn check(stream: &Stream) -> Result<(), String> {
    partsize::are(stream.part_size, stream.volume_size)?;
    description::fits(stream)
}

async fn store<V: Uploads>(
    vault: &V,
    settings: &Settings,
    spool: &Spool,
    (catalog, inventories): (&mut Catalog, &Inventories),
    uplink: &Uplink,
    inbox: &mut Inbox,
    (stream, stamp): (Stream, Stamp),
) -> Result<()> {
    let id = stream.stream;
    vault.limits().take(stream.part_size, stream.volume_size).map_err(Error::Usage)?;
    let directory = spool.stream(id)?;
    let _lock = directory.lock(Holder::Put)?;
    if !settings.assume_new {
        let strangers = refuse_strangers(vault, settings, spool, catalog);
        wanted(inbox, strangers).await??;
    }
    let believed = || believed(spool, inventories, id);
    let region = Some(vault.region());
    let (mut ledger, journal) =
        Ledger::open(&directory, believed()?, catalog, &settings.dest, region)?;
    ledger.heal(&believed()?)?;
    // A stamp that cannot be obeyed is told before anything is sent.
    Gates::default().number(stamp).map_err(|e| inbox.blame(e))?;
    let (name, based) = (stream.name.clone(), stream.from_guid.is_some() || stream.compound);
    let place = (settings.dest.clone(), vault.region().to_owned());
    let plan = Plan::new(stream, place, vault.limits(), journal);
    let worker = Worker::new(vault, spool, &directory, settings, plan, ledger, uplink.clone());
    worker.run(inbox).await?;
    if based { look_for_bases(spool, catalog, id, &name) } else { Ok(()) }
}

/// Looks whether what a stored stream is based on is there still: glacier-rm
/// may have deleted it since, or before.
///
/// # Errors
/// Data, when it is not.
fn look_for_bases(spool: &Spool, catalog: &Catalog, id: StreamId, name: &str) -> Result<()> {
    let _lock = spool.lock_bases(false)?;
    // A line of a later version is told by who must read it.
    let Ok((mut chains, _)) = scan::survey(catalog.reader()?) else { return Ok(()) };
    let underway = underway::all(spool)?;
    let coming: Vec<Stored> = underway.iter().map(Underway::stored).collect();
    chains.expect(coming.iter().zip(underway.iter().map(|it| it.snapshots.as_slice())));
    match chains.lost_base(id) {
        None => Ok(()),
        Some(base) => Err(Error::Data(format!(
            "{name}: is stored, and cannot be restored: snapshot {base}, which it is based on, was deleted; send it on a base that is there, or whole"
        ))),
    }
}

/// Waits for the service, as long as there is somebody to wait for.
///
/// # Errors
/// When nobody reads what is printed, or the input was cut and the service
/// does not answer.
async fn wanted<T>(inbox: &mut Inbox, answer: impl Future<Output = T>) -> Result<T> {
    let cut = async |inbox: &Inbox| {
        let mut cut = 0;
        while cut < worker::HOPELESS {
            tokio::time::sleep(worker::TICK).await;
            cut = if inbox.is_cut() { cut + 1 } else { 0 };
        }
    };
    tokio::select! {
        answer = answer => return Ok(answer),
        gone = peers::unread() => return Err(gone),
        () = cut(inbox) => {}
    }
    Err(inbox.why().await)
}

/// Refuses a destination that holds archives while nothing here knows of any:
/// catalog and spool are lost, and all would be stored a second time.
async fn refuse_strangers<V: Uploads>(
    vault: &V,
    settings: &Settings,
    spool: &Spool,
    catalog: &Catalog,
) -> Result<()> {
    if catalog.knows(&settings.dest)? {
        return Ok(());
    }
    let about = |file| {
        Journal::read(io::BufReader::new(file))
            .is_ok_and(|journal| journal.dest.as_deref() == Some(&settings.dest))
    };
    if spool.any_journal(about)? {
        return Ok(());
    }
    let patience = Patience { limit: settings.patience };
    let archives = patience.with(async || vault.holds().await).await;
    match archives.map(|answer| answer.value) {
        Ok(0) => Ok(()),
        Ok(archives) => Err(Error::Configuration(format!(
            "{}: holds {archives} archives, and neither catalog nor spool knows of any; bring the catalog back (glacier-ls inventory --rebuild), or say --assume-new",
            settings.dest
        ))),
        Err(Failure::Missing(why)) => {
            let creates = vault.dest().creates();
            Err(Error::Refused(format!("{}: {why}; {creates} makes one", settings.dest)))
        }
        Err(failure) => Err(failure.on(&settings.dest)),
    }
}
