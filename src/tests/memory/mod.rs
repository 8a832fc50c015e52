//! A destination in memory, with two faces: one behaves as a vault, the other
//! as S3. Time stands still but for [`MemoryStorage::pass`].

mod failing;
mod s3;
mod vault;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::{Read as _, Seek as _, SeekFrom};

use jiff::{SignedDuration, Timestamp};

pub use self::failing::{Call, Failing, Fault};
use crate::hash::tree::{Fold, Hash};
use crate::line::Id;
use crate::line::description::Description;
use crate::storage::*;

/// Which service it behaves as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Face {
    /// Tree hashes, jobs, inventories of yesterday.
    Vault,
    /// Composite hashes, names of parts, versions, locks, restores that expire
    /// at midnight.
    S3,
}

/// An upload that takes parts.
#[derive(Clone, Debug)]
struct Upload {
    about: Description,
    part_size: u64,
    terms: Terms,
    begun: Timestamp,
    touched: Timestamp,
    parts: BTreeMap<u64, Vec<u8>>,
}

/// An archive, or a version of one.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The service's name for it.
    pub id: Id,
    version: Option<String>,
    /// Its bytes.
    pub bytes: Vec<u8>,
    described: String,
    checksum: Proof,
    made: Timestamp,
    deleted: Option<Timestamp>,
    lock: Option<Lock>,
    class: Option<String>,
    /// Until when it can be read, and when that begins.
    restored: Option<(Timestamp, Timestamp)>,
}

/// A job of a vault.
#[derive(Clone, Debug)]
struct Task {
    job: Job,
    asked: Timestamp,
    /// When it is ready; never, if it has been told not to be.
    ready: Option<Timestamp>,
    failed: bool,
    /// It is listed, and its output is gone.
    gone: bool,
    /// It is not listed, and known if it is asked after.
    hidden: bool,
}

/// A destination in memory.
pub struct MemoryStorage {
    face: Face,
    dest: Dest,
    limits: Limits,
    now: Cell<Timestamp>,
    names: Cell<u32>,
    is_there: Cell<bool>,
    uploads: RefCell<BTreeMap<Id, Upload>>,
    /// The archives that uploads became, and until when that is told again.
    completed: RefCell<BTreeMap<Id, (Id, Timestamp)>>,
    archives: RefCell<Vec<Stored>>,
    tasks: RefCell<Vec<Task>>,
    /// What is deleted stays as a version.
    versions: Cell<bool>,
    /// A service that does not list the hashes of parts.
    pub lists_no_sums: Cell<bool>,
    /// Archives come up at once.
    pub instant: Cell<bool>,
    /// Requests for archives that were taken, and reads.
    pub asked: Cell<usize>,
    /// See `asked`.
    pub read: Cell<usize>,
    /// Requests that a job would have answered which was there.
    pub needless: Cell<usize>,
}

/// How long a Complete of a vault can be repeated.
const REPEATED: SignedDuration = SignedDuration::from_hours(1);

/// How long a job of a vault takes.
const JOB: SignedDuration = SignedDuration::from_hours(4);

impl MemoryStorage {
    /// An empty place, on a morning in 2026.
    pub fn new(face: Face) -> Self {
        let limits = match face {
            Face::Vault => VAULT,
            Face::S3 => Limits {
                part: 5 << 20..=5 << 30,
                parts: 10_000,
                whole: 48 << 40,
                about: 2048,
                idle_upload: None,
                list_lag: SignedDuration::ZERO,
                list_silence: None,
                retrieval: SignedDuration::from_hours(3 * 24),
                output_lasts: None,
            },
        };
        Self {
            face,
            dest: "cold".parse().unwrap(),
            limits,
            now: Cell::new("2026-11-30T08:00:00Z".parse().unwrap()),
            names: Cell::default(),
            is_there: Cell::new(true),
            uploads: RefCell::default(),
            completed: RefCell::default(),
            archives: RefCell::default(),
            tasks: RefCell::default(),
            versions: Cell::default(),
            lists_no_sums: Cell::default(),
            instant: Cell::default(),
            asked: Cell::default(),
            read: Cell::default(),
            needless: Cell::default(),
        }
    }

    /// The same with parts of any size.
    #[must_use]
    pub fn of_small_parts(mut self) -> Self {
        self.limits.part = 1..=*self.limits.part.end();
        self
    }

    /// The same, and what is deleted stays as a version.
    #[must_use]
    pub fn with_versions(self) -> Self {
        self.versions.set(true);
        self
    }

    /// Time passes.
    pub fn pass(&self, time: SignedDuration) {
        self.now.set(self.now.get() + time);
        if let Some(idle) = self.limits.idle_upload {
            let now = self.now.get();
            self.uploads.borrow_mut().retain(|_, upload| now - idle < upload.touched);
        }
        let now = self.now.get();
        self.completed.borrow_mut().retain(|_, (_, until)| now < *until);
    }

    /// Puts an archive there that nobody uploaded.
    pub fn shelve(&self, id: &str, bytes: &[u8]) {
        self.archives.borrow_mut().push(Stored {
            id: id.into(),
            version: None,
            bytes: bytes.to_vec(),
            described: String::new(),
            checksum: Proof::Tree(crate::hash::tree::TreeHash::of(bytes)),
            made: self.now.get(),
            deleted: None,
            lock: None,
            class: None,
            restored: None,
        });
    }

    /// All archives that are there.
    pub fn all(&self) -> Vec<Stored> {
        let archives = self.archives.borrow();
        archives.iter().filter(|archive| archive.deleted.is_none()).cloned().collect()
    }

    /// An archive is not there any more, and no list had it.
    pub fn unshelve(&self, id: &str) {
        self.archives.borrow_mut().retain(|archive| archive.id.as_str() != id);
    }

    /// Its last byte becomes another.
    pub fn rot(&self, id: &str) {
        for archive in self.archives.borrow_mut().iter_mut().filter(|it| it.id.as_str() == id) {
            *archive.bytes.last_mut().unwrap() ^= 2;
        }
    }

    /// Drops the uploads that are not finished.
    pub fn drop_uploads(&self) {
        self.uploads.borrow_mut().clear();
    }

    /// The uploads that are not finished.
    pub fn open_uploads(&self) -> usize {
        self.uploads.borrow().len()
    }

    fn name(&self, kind: &str) -> Id {
        self.names.set(self.names.get() + 1);
        format!("{kind}-{}", self.names.get()).into()
    }

    #[expect(clippy::unnecessary_wraps, reason = "each call may fail")]
    fn answer<T>(&self, value: T) -> Reply<T> {
        Ok(Answer { at: self.now.get(), value })
    }

    fn there(&self) -> Attempt<()> {
        if self.is_there.get() { Ok(()) } else { Err(missing("place")) }
    }

    fn seen(archive: &Stored) -> Seen {
        Seen {
            version: archive.version.clone(),
            size: Some(archive.bytes.len() as u64),
            checksum: Some(archive.checksum),
            class: archive.class.clone(),
            lock: archive.lock.clone(),
            described: Some(archive.described.clone()),
            at: Some(archive.made),
            ..Seen::of(archive.id.clone())
        }
    }
}

fn missing(what: &str) -> Failure {
    Failure::Missing(format!("no such {what}"))
}

fn invalid(why: &str) -> Failure {
    Failure::Invalid(why.to_owned())
}

/// The SHA-256 hash of what the service has.
fn sha256(bytes: &[u8]) -> Hash {
    Hash::of(bytes)
}

/// The bytes of a part, as they are read for a request.
fn read(body: &Body) -> Vec<u8> {
    let mut file = body.file.try_clone().unwrap();
    file.seek(SeekFrom::Start(body.start)).unwrap();
    let mut bytes = Vec::new();
    file.take(body.size).read_to_end(&mut bytes).unwrap();
    bytes
}

impl Destination for MemoryStorage {
    fn dest(&self) -> &Dest {
        &self.dest
    }

    fn region(&self) -> &'static str {
        "eu-central-1"
    }

    fn limits(&self) -> &Limits {
        &self.limits
    }
}

impl Uploads for MemoryStorage {
    async fn holds(&self) -> Reply<u64> {
        self.there()?;
        let count = match self.face {
            Face::Vault => self.listed(self.midnight()).count(),
            Face::S3 => self.all().len(),
        };
        self.answer(count as u64)
    }

    async fn begin(&self, about: &Description, part_size: u64, terms: &Terms) -> Reply<Begun> {
        self.there()?;
        if self.face == Face::Vault && *terms != Terms::default() {
            return Err(Failure::Refused("a vault has no terms".into()));
        }
        if !self.limits.part.contains(&part_size) {
            return Err(invalid("part size"));
        }
        let upload = self.name("upload");
        let kept = Upload {
            about: about.clone(),
            part_size,
            terms: terms.clone(),
            begun: self.now.get(),
            touched: self.now.get(),
            parts: BTreeMap::new(),
        };
        self.uploads.borrow_mut().insert(upload.clone(), kept);
        self.answer(Begun { upload, lapses: None })
    }

    async fn send(&self, upload: &Id, place: Place, body: &Body) -> Reply<Sent> {
        let bytes = read(body);
        let mut uploads = self.uploads.borrow_mut();
        let upload = uploads.get_mut(upload).ok_or_else(|| missing("upload"))?;
        let is_right = match self.face {
            Face::Vault => crate::hash::tree::TreeHash::of(&bytes) == body.treehash,
            Face::S3 => sha256(&bytes) == body.sha256,
        };
        if !is_right {
            return Err(Failure::Damaged("other bytes than were announced".into()));
        }
        assert_eq!(place.offset, u64::from(place.part) * upload.part_size);
        upload.touched = self.now.get();
        let sent = self.sent(&bytes);
        upload.parts.insert(place.offset, bytes);
        self.answer(sent)
    }

    async fn held(&self, upload: &Id, part_size: u64) -> Reply<Vec<Held>> {
        let uploads = self.uploads.borrow();
        let upload = uploads.get(upload).ok_or_else(|| missing("upload"))?;
        assert_eq!(upload.part_size, part_size);
        let held = upload.parts.iter().map(|(offset, bytes)| {
            let mut sent = self.sent(bytes);
            sent.proof = sent.proof.filter(|_| !self.lists_no_sums.get());
            Held { offset: *offset, size: bytes.len() as u64, sent }
        });
        self.answer(held.collect())
    }

    async fn complete(&self, id: &Id, seal: &Seal) -> Reply<Seen> {
        if let Some((archive, _)) = self.completed.borrow().get(id) {
            let archives = self.archives.borrow();
            let archive = archives.iter().find(|it| it.id == *archive).unwrap();
            return self.answer(Self::seen(archive));
        }
        let upload = self.uploads.borrow().get(id).cloned().ok_or_else(|| missing("upload"))?;
        let bytes = upload.parts.values().flatten().copied().collect::<Vec<u8>>();
        if bytes.len() as u64 != seal.size {
            return Err(invalid("its parts are not all there"));
        }
        let archive = match self.face {
            Face::Vault => self.as_a_vault(&upload, seal, bytes)?,
            Face::S3 => self.as_s3(&upload, seal, bytes)?,
        };
        self.uploads.borrow_mut().remove(id);
        let until = self.now.get() + REPEATED;
        self.completed.borrow_mut().insert(id.to_owned(), (archive.id.clone(), until));
        let seen = Self::seen(&archive);
        self.archives.borrow_mut().push(archive);
        self.answer(seen)
    }

    async fn look_up(
        &self,
        about: &Description,
        seal: &Seal,
        ticket: Option<&Id>,
    ) -> Reply<Lookup> {
        match self.face {
            Face::Vault => self.look_into_inventory(about, seal, ticket),
            Face::S3 => self.look_at_key(about, seal),
        }
    }

    async fn abort(&self, upload: &Id) -> Reply<()> {
        self.uploads.borrow_mut().remove(upload);
        self.answer(())
    }
}

impl Retrievals for MemoryStorage {
    fn unit(&self, class: Option<&str>) -> Unit {
        match (self.face, class) {
            (Face::Vault, _) => Unit::Span,
            (Face::S3, Some("STANDARD" | "GLACIER_IR")) => Unit::Readable,
            (Face::S3, _) => Unit::Whole,
        }
    }

    async fn readiness(&self, sought: &[Sought<'_>]) -> Reply<Vec<Readiness>> {
        let of = |sought: &Sought<'_>| match self.face {
            Face::Vault => self.by_jobs(sought),
            Face::S3 => self.by_head(sought),
        };
        let all = sought.iter().map(of).collect();
        self.answer(all)
    }

    async fn request(&self, want: Want<'_>, tier: Tier, days: u16) -> Reply<Requested> {
        let requested = match self.face {
            Face::Vault => self.begin_job(want, tier)?,
            Face::S3 => self.restore(want, tier, days)?,
        };
        self.asked.set(self.asked.get() + 1);
        self.answer(requested)
    }

    async fn under_way(&self, page: &mut dyn FnMut(Vec<Job>)) -> Reply<()> {
        match self.face {
            Face::Vault => page(self.jobs()),
            Face::S3 => page(self.restores()),
        }
        self.answer(())
    }

    async fn read(
        &self,
        ticket: &Id,
        want: Want<'_>,
        span: Span,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Reply<()> {
        self.read.set(self.read.get() + 1);
        let bytes = match self.face {
            Face::Vault => self.output(ticket, want)?,
            Face::S3 => self.readable(want)?,
        };
        let at = |place: u64| usize::try_from(place).unwrap();
        let end = at(span.offset + span.size);
        let bytes = bytes.get(at(span.offset)..end).ok_or_else(|| invalid("range"))?;
        bytes.chunks(100_000).for_each(sink);
        self.answer(())
    }

    async fn is_gone(&self, ticket: &Id, failure: &Failure) -> bool {
        let _ = ticket;
        matches!(failure, Failure::Missing(_) | Failure::Archived(_))
    }

    async fn allowance(&self) -> Option<String> {
        None
    }
}

impl Listings for MemoryStorage {
    async fn list(&self, ticket: Option<&Id>, each: &mut dyn FnMut(Seen)) -> Reply<Listing> {
        self.there()?;
        let listing = match self.face {
            Face::Vault => self.list_as_a_vault(ticket, each),
            Face::S3 => {
                self.all().iter().map(Self::seen).for_each(each);
                Listing::AsOf(self.now.get())
            }
        };
        self.answer(listing)
    }

    async fn unfinished(&self, each: &mut dyn FnMut(Unfinished)) -> Reply<()> {
        for (id, upload) in self.uploads.borrow().iter() {
            each(Unfinished {
                id: id.clone(),
                of: crate::line::Described::of(&upload.about.text().unwrap()),
                created: upload.begun,
                part_size: upload.part_size,
            });
        }
        self.answer(())
    }

    async fn inspect(&self, archive: &Id, version: Option<&str>) -> Reply<Option<Seen>> {
        if self.face == Face::Vault {
            return self.answer(None);
        }
        let found = self.all().into_iter().find(|it| it.is(archive, version));
        let found = found.ok_or_else(|| missing("key"))?;
        self.answer(Some(Self::seen(&found)))
    }

    async fn extend_lock(
        &self,
        archive: &Id,
        version: Option<&str>,
        until: Timestamp,
    ) -> Reply<Option<Timestamp>> {
        if self.face == Face::Vault {
            return self.answer(None);
        }
        let mut archives = self.archives.borrow_mut();
        let found = archives.iter_mut().find(|it| it.is(archive, version));
        let found = found.ok_or_else(|| missing("key"))?;
        let lock = found.lock.get_or_insert(Lock { until, compliance: false });
        lock.until = lock.until.max(until);
        self.answer(Some(lock.until))
    }

    async fn delete(&self, archive: &Id, version: Option<&str>, bypass: bool) -> Reply<Freed> {
        self.there()?;
        let now = self.now.get();
        let is_marker = self.versions.get() && version.is_none();
        let mut archives = self.archives.borrow_mut();
        let mut there = archives.iter_mut().filter(|it| it.deleted.is_none());
        let found = there.rfind(|it| it.is(archive, version));
        let Some(found) = found.filter(|_| !is_marker) else {
            return self.answer(if is_marker { Freed::Marker } else { Freed::Freed });
        };
        let lock = found.lock.as_ref().filter(|lock| lock.until > now);
        if let Some(lock) = lock.filter(|lock| lock.compliance || !bypass) {
            return self.answer(Freed::Locked(lock.until));
        }
        found.deleted = Some(now);
        self.answer(Freed::Freed)
    }
}

impl Places for MemoryStorage {
    async fn describe(&self) -> Reply<Described> {
        self.there()?;
        let listed: Vec<Stored> = self.listed(self.midnight()).collect();
        let size = listed.iter().map(|archive| archive.bytes.len() as u64).sum();
        self.answer(Described {
            name: "cold".into(),
            created: None,
            inventory: Some(self.midnight()).filter(|_| self.face == Face::Vault),
            archives: listed.len() as u64,
            size,
        })
    }

    async fn create(&self) -> Reply<()> {
        self.is_there.set(true);
        self.answer(())
    }

    async fn remove(&self) -> Reply<()> {
        self.there()?;
        if !self.all().is_empty() || self.listed(self.midnight()).count() > 0 {
            return Err(invalid("not empty"));
        }
        self.is_there.set(false);
        self.answer(())
    }

    async fn places(&self, each: &mut dyn FnMut(Described)) -> Reply<()> {
        let answer = self.describe().await?;
        each(answer.value);
        self.answer(())
    }

    async fn has_lock(&self) -> Reply<Told<bool>> {
        self.answer(Told::Is(false))
    }

    async fn keeps_versions(&self) -> Reply<Told<bool>> {
        self.answer(Told::Is(self.versions.get()))
    }

    async fn rules(&self) -> Reply<Told<Vec<Rule>>> {
        self.answer(Told::Is(Vec::new()))
    }
}

impl Stored {
    fn is(&self, id: &str, version: Option<&str>) -> bool {
        self.id.as_str() == id
            && version.is_none_or(|version| self.version.as_deref() == Some(version))
    }
}

/// The fold of the tree hashes of an upload's parts.
fn fold(upload: &Upload) -> Hash {
    upload
        .parts
        .values()
        .map(|part| crate::hash::tree::TreeHash::of(part))
        .collect::<Fold>()
        .finish()
}
