//! Any destination, with calls that fail as they are told.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use super::*;

/// Which call it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Call {
    Begin,
    Send,
    Held,
    Complete,
    LookUp,
    Abort,
    Holds,
    Readiness,
    Request,
    UnderWay,
    Read,
    List,
    Unfinished,
    Inspect,
    ExtendLock,
    Delete,
    Describe,
    Create,
    Remove,
    Places,
    HasLock,
    KeepsVersions,
    Rules,
}

/// What goes wrong with a call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// It fails, and nothing was done.
    Before(Failure),
    /// It is done, and the answer is lost.
    After(Failure),
    /// It takes so long.
    Slow(Duration),
    /// What is read has a wrong byte.
    Flip,
    /// What is read ends half-way.
    Cut,
    /// So many bytes come, and nobody says so.
    Length(usize),
    /// It never comes back.
    Hang,
}

/// What decides: the call, its number among its kind, from 1, and the upload,
/// archive or ticket that it is about.
type Decide<'a> = dyn FnMut(Call, usize, &str) -> Option<Fault> + 'a;

/// A destination whose calls fail.
pub struct Failing<'a, S> {
    inner: &'a S,
    counts: RefCell<BTreeMap<Call, usize>>,
    decide: RefCell<Box<Decide<'a>>>,
}

impl<'a, S> Failing<'a, S> {
    /// The same destination; `decide` says what goes wrong with each call.
    pub fn new(inner: &'a S, decide: impl FnMut(Call, usize, &str) -> Option<Fault> + 'a) -> Self {
        Self { inner, counts: RefCell::default(), decide: RefCell::new(Box::new(decide)) }
    }

    fn next(&self, call: Call, about: &str) -> Option<Fault> {
        let mut counts = self.counts.borrow_mut();
        let count = counts.entry(call).or_default();
        *count += 1;
        let number = *count;
        drop(counts);
        (self.decide.borrow_mut())(call, number, about)
    }

    async fn through<T>(
        &self,
        (call, about): (Call, &str),
        real: impl Future<Output = Reply<T>>,
    ) -> Reply<T> {
        match self.next(call, about) {
            Some(Fault::Before(failure)) => Err(failure),
            Some(Fault::After(failure)) => {
                real.await?;
                Err(failure)
            }
            Some(Fault::Slow(time)) => {
                tokio::time::sleep(time).await;
                real.await
            }
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::Flip | Fault::Cut | Fault::Length(_)) | None => real.await,
        }
    }
}

impl<S: Destination> Destination for Failing<'_, S> {
    fn dest(&self) -> &Dest {
        self.inner.dest()
    }

    fn region(&self) -> &str {
        self.inner.region()
    }

    fn limits(&self) -> &Limits {
        self.inner.limits()
    }
}

impl<S: Uploads> Uploads for Failing<'_, S> {
    async fn holds(&self) -> Reply<u64> {
        self.through((Call::Holds, ""), self.inner.holds()).await
    }

    async fn begin(&self, about: &Description, part_size: u64, terms: &Terms) -> Reply<Begun> {
        self.through((Call::Begin, ""), self.inner.begin(about, part_size, terms)).await
    }

    async fn send(&self, upload: &Id, place: Place, body: &Body) -> Reply<Sent> {
        self.through((Call::Send, upload), self.inner.send(upload, place, body)).await
    }

    async fn held(&self, upload: &Id, part_size: u64) -> Reply<Vec<Held>> {
        self.through((Call::Held, upload), self.inner.held(upload, part_size)).await
    }

    async fn complete(&self, upload: &Id, seal: &Seal) -> Reply<Seen> {
        self.through((Call::Complete, upload), self.inner.complete(upload, seal)).await
    }

    async fn look_up(
        &self,
        about: &Description,
        seal: &Seal,
        ticket: Option<&Id>,
    ) -> Reply<Lookup> {
        self.through((Call::LookUp, ""), self.inner.look_up(about, seal, ticket)).await
    }

    async fn abort(&self, upload: &Id) -> Reply<()> {
        self.through((Call::Abort, upload), self.inner.abort(upload)).await
    }
}

impl<S: Retrievals> Retrievals for Failing<'_, S> {
    fn unit(&self, class: Option<&str>) -> Unit {
        self.inner.unit(class)
    }

    async fn readiness(&self, sought: &[Sought<'_>]) -> Reply<Vec<Readiness>> {
        self.through((Call::Readiness, ""), self.inner.readiness(sought)).await
    }

    async fn request(&self, want: Want<'_>, tier: Tier, days: u16) -> Reply<Requested> {
        self.through((Call::Request, want.archive), self.inner.request(want, tier, days)).await
    }

    async fn under_way(&self, page: &mut dyn FnMut(Vec<Job>)) -> Reply<()> {
        self.through((Call::UnderWay, ""), self.inner.under_way(page)).await
    }

    async fn read(
        &self,
        ticket: &Id,
        want: Want<'_>,
        span: Span,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Reply<()> {
        let fault = self.next(Call::Read, ticket);
        match &fault {
            Some(Fault::Before(failure)) => return Err(failure.clone()),
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::Slow(time)) => tokio::time::sleep(*time).await,
            _ => {}
        }
        let mut bytes = Vec::new();
        let inner = &mut |piece: &[u8]| bytes.extend_from_slice(piece);
        let answer = self.inner.read(ticket, want, span, inner).await?;
        if fault == Some(Fault::Cut) {
            sink(&bytes[..bytes.len() / 2]);
            return Err(Failure::Passing("connection reset".into()));
        }
        match fault {
            Some(Fault::Flip) => *bytes.last_mut().unwrap() ^= 1,
            Some(Fault::Length(length)) => bytes.resize(length, 0),
            Some(Fault::After(failure)) => return Err(failure),
            _ => {}
        }
        bytes.chunks(100_000).for_each(sink);
        Ok(answer)
    }

    async fn is_gone(&self, ticket: &Id, failure: &Failure) -> bool {
        self.inner.is_gone(ticket, failure).await
    }

    async fn allowance(&self) -> Option<String> {
        self.inner.allowance().await
    }
}

impl<S: Listings> Listings for Failing<'_, S> {
    async fn list(&self, ticket: Option<&Id>, each: &mut dyn FnMut(Seen)) -> Reply<Listing> {
        self.through((Call::List, ""), self.inner.list(ticket, each)).await
    }

    async fn unfinished(&self, each: &mut dyn FnMut(Unfinished)) -> Reply<()> {
        self.through((Call::Unfinished, ""), self.inner.unfinished(each)).await
    }

    async fn inspect(&self, archive: &Id, version: Option<&str>) -> Reply<Option<Seen>> {
        self.through((Call::Inspect, archive), self.inner.inspect(archive, version)).await
    }

    async fn extend_lock(
        &self,
        archive: &Id,
        version: Option<&str>,
        until: Timestamp,
    ) -> Reply<Option<Timestamp>> {
        self.through((Call::ExtendLock, archive), self.inner.extend_lock(archive, version, until))
            .await
    }

    async fn delete(&self, archive: &Id, version: Option<&str>, bypass: bool) -> Reply<Freed> {
        self.through((Call::Delete, archive), self.inner.delete(archive, version, bypass)).await
    }
}

impl<S: Places> Places for Failing<'_, S> {
    async fn describe(&self) -> Reply<Described> {
        self.through((Call::Describe, ""), self.inner.describe()).await
    }

    async fn create(&self) -> Reply<()> {
        self.through((Call::Create, ""), self.inner.create()).await
    }

    async fn remove(&self) -> Reply<()> {
        self.through((Call::Remove, ""), self.inner.remove()).await
    }

    async fn places(&self, each: &mut dyn FnMut(Described)) -> Reply<()> {
        self.through((Call::Places, ""), self.inner.places(each)).await
    }

    async fn has_lock(&self) -> Reply<Told<bool>> {
        self.through((Call::HasLock, ""), self.inner.has_lock()).await
    }

    async fn keeps_versions(&self) -> Reply<Told<bool>> {
        self.through((Call::KeepsVersions, ""), self.inner.keeps_versions()).await
    }

    async fn rules(&self) -> Reply<Told<Vec<Rule>>> {
        self.through((Call::Rules, ""), self.inner.rules()).await
    }
}
