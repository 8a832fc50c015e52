//! The worker: asks the service to delete, and writes down what is gone.

use std::collections::VecDeque;
use std::future::Future;
use std::io::BufReader;
use std::pin::Pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use super::input::Wanted;
use super::plan::{Group, Plan};
use crate::error::{Error, Result};
use crate::line::{Deleted, Id, Line, Stream, now};
use crate::process;
use crate::process::peers;
use crate::process::worst::Worst;
use crate::spool::catalog_file::Catalog;
use crate::spool::journal::{Journal, Target};
use crate::spool::{Holder, Spool, StreamDir};
use crate::storage::concurrency::Lanes;
use crate::storage::retry::{Patience, Trouble};
use crate::storage::{Attempt, Destination, Failure, Freed, Listings, Places, Told, Uploads};
use crate::tools::receipts;

/// How often to look whether somebody reads what is printed.
const TICK: Duration = Duration::from_secs(1);

/// How long what was asked is waited for when nobody does any more.
const LAST: Duration = Duration::from_secs(10);

/// A deletion on its way.
type Running<'a> = Pin<Box<dyn Future<Output = (&'a Wanted, Attempt<()>)> + 'a>>;

/// Deletes.
pub struct Worker<'a, V> {
    vault: &'a V,
    dest: String,
    spool: Option<&'a Spool>,
    catalog: Option<Catalog>,
    patience: Patience,
    lanes: Rc<Lanes>,
    /// What did not go, and does not keep the rest from going.
    worst: Worst,
    /// Whether the vault has a lock, once that was asked.
    has_lock: Option<bool>,
}

/// A line of what is gone now.
fn gone() -> Deleted {
    Deleted { deleted: now(), ..Deleted::default() }
}

/// Prints that a vault is gone.
///
/// # Errors
/// When standard output cannot take it.
pub fn print_vault(vault: &impl Destination) -> Result<()> {
    print(&Deleted {
        dest: Some(vault.dest().to_string()),
        region: Some(vault.region().to_owned()),
        ..gone()
    })
}

fn print(line: &Deleted) -> Result<()> {
    process::put_out(Line::Deleted(line.clone()).text()?.as_bytes())
}

impl<'a, V: Uploads + Listings + Places> Worker<'a, V> {
    /// Prepares the work; the catalog is that of archives that go.
    pub fn new(
        vault: &'a V,
        spool: Option<&'a Spool>,
        catalog: Option<Catalog>,
        patience: Patience,
        concurrency: usize,
    ) -> Self {
        Self {
            vault,
            dest: vault.dest().to_string(),
            spool,
            catalog,
            patience,
            lanes: Rc::new(Lanes::new(concurrency)),
            worst: Worst::default(),
            has_lock: None,
        }
    }

    /// Does what the plan says.
    ///
    /// # Errors
    /// The first failure that the same command does not cure, else the first;
    /// the others are printed.
    pub async fn run(mut self, plan: &Plan) -> Result<()> {
        let result = self.all(plan).await;
        if let Err(error) = result {
            self.worst.add(error);
        }
        self.worst.finish()
    }

    async fn all(&mut self, plan: &Plan) -> Result<()> {
        let mut groups = plan.groups.as_slice();
        for stream in &plan.drops {
            match self.drop_stream(stream).await {
                // Somebody works on it.
                Err(Error::Unfinished(why)) => {
                    self.worst.add(Error::Unfinished(why));
                    if plan.first.contains(&stream.stream) {
                        groups = &[];
                    }
                }
                dropped => dropped?,
            }
        }
        for upload in &plan.uploads {
            self.abort(&upload.upload_id).await?;
            print(&Deleted {
                stream: upload.of.stream,
                name: upload.of.name.clone(),
                generation: upload.of.generation,
                volume: upload.of.volume,
                dest: Some(upload.dest.clone()),
                region: Some(upload.region.clone()),
                upload_id: Some(upload.upload_id.clone()),
                size: Some(upload.size),
                ..gone()
            })?;
        }
        if !groups.is_empty() {
            // What is not there is gone only where the vault is.
            let described = self.wanted(async || self.vault.describe().await).await?;
            described.map_err(|failure| failure.on(&self.dest))?;
        }
        for group in groups {
            self.delete_group(group).await?;
        }
        Ok(())
    }

    /// A call with patience, as long as somebody reads what is printed.
    async fn wanted<T>(&self, attempt: impl AsyncFnMut() -> Attempt<T>) -> Result<Attempt<T>> {
        tokio::select! {
            answer = self.patience.with(attempt) => Ok(answer),
            gone = peers::unread() => Err(gone),
        }
    }

    async fn abort(&self, upload: &Id) -> Result<()> {
        let aborted = self.wanted(async || self.vault.abort(upload).await).await?;
        aborted.map(drop).map_err(|failure| failure.on(&format!("upload {upload}")))
    }

    /// Takes a stream out of the spool, and aborts its uploads.
    async fn drop_stream(&mut self, stream: &Stream) -> Result<()> {
        let id = stream.stream;
        let Some(spool) = self.spool else { return Ok(()) };
        let Some(directory) = spool.existing(id)? else { return Ok(()) };
        let _put = directory.lock(Holder::Put)?;
        let chunk = directory.lock(Holder::Chunk)?;
        let journal = journal(&directory)?.unwrap_or_default();
        match &journal.dest {
            Some(dest) if *dest != self.dest => {
                return Err(Error::Data(format!(
                    "stream {id}: on its way to {dest} by now; it stays in the spool"
                )));
            }
            Some(dest) if journal.stored.is_some() => {
                // A crash came before its journal was put away.
                drop(chunk);
                let name = receipts::name(spool, id, dest, self.vault.region())?;
                return spool.retire(&directory, Some(&name), TICK).map(drop);
            }
            _ => {}
        }
        journal.is_in(id, self.vault.region())?;
        let size = directory.used(|_| true)?;
        for (target, upload) in &journal.uploads {
            if upload.completing.is_some() {
                process::warn(&format!(
                    "stream {id}: {target}: the service never said whether it is an archive: upload {}",
                    upload.id
                ));
            }
            self.abort(&upload.id).await?;
            print(&Deleted {
                stream: Some(id),
                name: Some(stream.name.clone()),
                generation: upload.generation,
                volume: (*target).into(),
                dest: journal.dest.clone(),
                region: journal.region.clone(),
                upload_id: Some(upload.id.clone()),
                ..gone()
            })?;
        }
        let earlier = journal.earlier.values().flatten();
        let stored: Vec<&str> =
            journal.archives.values().chain(earlier).map(|it| it.archive_id.as_str()).collect();
        if !stored.is_empty() {
            process::warn(&format!(
                "stream {id}: {} archives of it stay in {}, as no part of a stored stream: {}",
                stored.len(),
                self.dest,
                stored.join(" ")
            ));
        }
        spool.discard(&directory)?;
        print(&Deleted {
            stream: Some(id),
            name: Some(stream.name.clone()),
            spooled: true,
            size: Some(size),
            ..gone()
        })
    }

    /// Deletes the archives of one stream.
    async fn delete_group(&mut self, group: &Group) -> Result<()> {
        // put must not count what goes meanwhile.
        let directory = match self.spool {
            None => None,
            Some(spool) => {
                let directory = spool.stream(group.stream)?;
                match directory.lock(Holder::Put) {
                    Ok(lock) => Some((spool, directory, lock)),
                    Err(Error::Unfinished(why)) => {
                        self.worst.add(Error::Unfinished(why));
                        return Ok(());
                    }
                    Err(error) => return Err(error),
                }
            }
        };
        if let Some((_, directory, _)) = &directory
            && let Some(journal) = journal(directory)?
            && journal.stored.is_none()
            && journal.dest.as_ref() == Some(&self.dest)
        {
            self.worst.add(Error::Unfinished(format!(
                "{}: glacier-put goes on with it by now; run the same command later",
                group.name
            )));
            return Ok(());
        }
        let result = self.delete_archives(group).await;
        if let Some((spool, directory, lock)) = directory {
            let left = spool.leave(&directory);
            drop(lock);
            return result.and(left);
        }
        result
    }

    async fn delete_archives(&mut self, group: &Group) -> Result<()> {
        let mut failures = VecDeque::new();
        // Manifests last: they tell of the volumes.  Held by
        // tests/rm.rs::killed_at_any_request_the_same_command_goes_on.
        for archives in [&group.volumes, &group.manifests] {
            if failures.is_empty() {
                failures.extend(self.delete_all(group, archives).await?);
            }
        }
        let count = failures.len();
        let Some((wanted, failure)) = failures.pop_front() else { return Ok(()) };
        let thing = match count {
            1 => format!("{}: {}", group.name, Target::from(wanted.volume)),
            count => {
                format!("{}: {count} archives stay: {}", group.name, Target::from(wanted.volume))
            }
        };
        if let Failure::Denied(_) = failure {
            let error = self.denied(&thing, &failure).await?;
            // Without the right to delete no other stream does better.
            return match error {
                Error::Refused(_) => {
                    self.worst.add(error);
                    Ok(())
                }
                error => Err(error),
            };
        }
        match failure {
            Failure::Refused(_) | Failure::Invalid(_) | Failure::Locked(_) => {
                self.worst.add(failure.on(&thing));
                Ok(())
            }
            failure => Err(failure.on(&thing)),
        }
    }

    /// Why a deletion is denied: a lock of the vault, or the user's rights.
    async fn denied(&mut self, thing: &str, failure: &Failure) -> Result<Error> {
        let has_lock = if let Some(has_lock) = self.has_lock {
            has_lock
        } else {
            let told = self.wanted(async || self.vault.has_lock().await).await?;
            told.is_ok_and(|told| told.value == Told::Is(true))
        };
        self.has_lock = Some(has_lock);
        Ok(if has_lock {
            Error::Refused(format!(
                "{thing}: {failure}; the vault has a lock, whose policy can forbid it: see aws glacier get-vault-lock"
            ))
        } else {
            Error::Credentials(format!(
                "{thing}: {failure}; use the credentials of a user who may delete"
            ))
        })
    }

    /// Deletes archives, several at a time; gives those that stay.
    async fn delete_all<'g>(
        &mut self,
        group: &Group,
        archives: &'g [Wanted],
    ) -> Result<VecDeque<(&'g Wanted, Failure)>>
    where
        'a: 'g,
    {
        let (vault, patience) = (self.vault, self.patience);
        let mut running: FuturesUnordered<Running> = FuturesUnordered::new();
        let mut queue = archives.iter();
        let mut failures = VecDeque::new();
        let mut fatal = None;
        let mut over: Option<Instant> = None;
        let mut tick = tokio::time::interval(TICK);
        peers::wait(Duration::ZERO)?;
        loop {
            // What cannot go whole stays as it is; a refusal is heard once.
            while fatal.is_none() && failures.is_empty() && running.len() < self.lanes.open() {
                let Some(wanted) = queue.next() else { break };
                let lanes = Rc::clone(&self.lanes);
                running.push(Box::pin(async move {
                    (wanted, delete(vault, &wanted.archive_id, patience, &lanes).await)
                }));
            }
            if running.is_empty() || over.is_some_and(|over| over.elapsed() > LAST) {
                break;
            }
            tokio::select! {
                // What is gone is written down though it cannot be printed;
                // and no more goes that cannot be.
                Some((wanted, result)) = running.next() => if let Err(failure) = result {
                    failures.push_back((wanted, failure));
                } else if let Err(error) = self.record(group, wanted) {
                    fatal.get_or_insert(error);
                },
                _ = tick.tick() => if fatal.is_none() && let Err(error) = peers::wait(Duration::ZERO) {
                    fatal = Some(error);
                    over = Some(Instant::now());
                },
            }
        }
        fatal.map_or(Ok(failures), Err)
    }

    /// Writes down that an archive is gone: in the catalog, on disk, then on
    /// standard output.
    fn record(&mut self, group: &Group, wanted: &Wanted) -> Result<()> {
        let line = Deleted {
            stream: Some(wanted.stream),
            name: wanted.name.clone(),
            generation: wanted.generation,
            volume: wanted.volume,
            dest: Some(wanted.dest.clone()),
            region: Some(wanted.region.clone()),
            archive_id: Some(wanted.archive_id.clone()),
            size: wanted.size,
            ..gone()
        };
        let text = Line::Deleted(line).text()?;
        if let Some(catalog) = &mut self.catalog {
            catalog.append(&text)?;
        }
        if group.is_stored
            && let Some(spool) = self.spool
            && let Err(error) =
                receipts::forget(spool, group.stream, &self.dest, self.vault.region())
        {
            process::warn(&error.to_string());
        }
        process::put_out(text.as_bytes())
    }
}

/// The journal of a stream, if it has one.
pub fn journal(directory: &StreamDir) -> Result<Option<Journal>> {
    let Some(file) = directory.existing_journal()? else { return Ok(None) };
    let journal = Journal::read(BufReader::new(file))
        .map_err(|e| Error::io(format!("stream {}: journal: cannot read", directory.id()), e))?;
    journal.is_of(directory.id())?;
    Ok(Some(journal).filter(|journal| journal.dest.is_some()))
}

/// Deletes one archive, with patience.
async fn delete<V: Listings>(vault: &V, id: &Id, patience: Patience, lanes: &Lanes) -> Attempt<()> {
    let mut trouble = Trouble::default();
    loop {
        let attempt = {
            let _lane = lanes.enter().await;
            vault.delete(id, None, false).await
        };
        match attempt.map(|answer| answer.value) {
            Ok(Freed::Freed) => {
                lanes.worked();
                return Ok(());
            }
            // A place that keeps versions hides it only.
            Ok(Freed::Marker) => {
                return Err(Failure::Refused("is hidden, and its version is there".to_owned()));
            }
            Ok(Freed::Locked(until)) => return Err(Failure::Locked(Some(until))),
            Err(failure) => {
                lanes.failed(&failure);
                tokio::time::sleep(patience.after(&mut trouble, failure)?).await;
            }
        }
    }
}
