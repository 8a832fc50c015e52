//! Whatever a destination's URL names: a chain may stand in several.

use jiff::Timestamp;

use super::aws::Access;
#[cfg(feature = "glacier")]
use super::glacier::Glacier;
#[cfg(feature = "s3")]
use super::s3::S3;
use super::{
    Begun, Body, Described, Dest, Destination, Failure, Freed, Held, Job, Limits, Listing,
    Listings, Lookup, Place, Places, Readiness, Reply, Requested, Retrievals, Rule, Seal, Seen,
    Sent, Sought, Span, Terms, Tier, Told, Unfinished, Unit, Uploads, Want,
};
#[cfg(not(all(feature = "glacier", feature = "s3")))]
use crate::error::Error;
use crate::error::Result;
use crate::line::Id;
use crate::line::description::Description;

/// A service of a destination.
#[derive(Clone, Debug)]
pub enum Service {
    /// Amazon Glacier's vaults.
    #[cfg(feature = "glacier")]
    Glacier(Glacier),
    /// The buckets of Amazon S3, and of what speaks like it.
    #[cfg(feature = "s3")]
    S3(S3),
}

impl Service {
    /// Loads the configuration; nothing is asked of the service yet.
    ///
    /// # Errors
    /// As [`super::aws::load`].
    pub async fn open(dest: Dest, access: &Access) -> Result<Self> {
        match dest {
            #[cfg(feature = "glacier")]
            Dest::Glacier { .. } => Glacier::open(dest, access).await.map(Self::Glacier),
            #[cfg(feature = "s3")]
            Dest::S3 { .. } => S3::open(dest, access).await.map(Self::S3),
            #[cfg(not(all(feature = "glacier", feature = "s3")))]
            _ => Err(Error::Usage(format!("{dest}: this program was built without that service"))),
        }
    }

    /// The same, for what lines say where it is stored: their region counts,
    /// unless it is empty or the user names another.
    ///
    /// # Errors
    /// As [`super::aws::load`].
    pub async fn open_in(dest: Dest, region: &str, access: &Access) -> Result<Self> {
        let mut access = access.clone();
        if access.region.is_none() && !region.is_empty() {
            access.region = Some(region.to_owned());
        }
        Self::open(dest, &access).await
    }
}

/// Asks whichever service it is.
macro_rules! each {
    ($self:expr, $service:ident => $call:expr) => {
        match $self {
            #[cfg(feature = "glacier")]
            Self::Glacier($service) => $call,
            #[cfg(feature = "s3")]
            Self::S3($service) => $call,
        }
    };
}

impl Destination for Service {
    fn dest(&self) -> &Dest {
        each!(self, it => it.dest())
    }

    fn region(&self) -> &str {
        each!(self, it => it.region())
    }

    fn limits(&self) -> &Limits {
        each!(self, it => it.limits())
    }
}

impl Uploads for Service {
    async fn holds(&self) -> Reply<u64> {
        each!(self, it => it.holds().await)
    }

    async fn begin(&self, about: &Description, part_size: u64, terms: &Terms) -> Reply<Begun> {
        each!(self, it => it.begin(about, part_size, terms).await)
    }

    async fn send(&self, upload: &Id, place: Place, body: &Body) -> Reply<Sent> {
        each!(self, it => it.send(upload, place, body).await)
    }

    async fn held(&self, upload: &Id, part_size: u64) -> Reply<Vec<Held>> {
        each!(self, it => it.held(upload, part_size).await)
    }

    async fn complete(&self, upload: &Id, seal: &Seal) -> Reply<Seen> {
        each!(self, it => it.complete(upload, seal).await)
    }

    async fn look_up(
        &self,
        about: &Description,
        seal: &Seal,
        ticket: Option<&Id>,
    ) -> Reply<Lookup> {
        each!(self, it => it.look_up(about, seal, ticket).await)
    }

    async fn abort(&self, upload: &Id) -> Reply<()> {
        each!(self, it => it.abort(upload).await)
    }
}

impl Retrievals for Service {
    fn unit(&self, class: Option<&str>) -> Unit {
        each!(self, it => it.unit(class))
    }

    async fn readiness(&self, sought: &[Sought<'_>]) -> Reply<Vec<Readiness>> {
        each!(self, it => it.readiness(sought).await)
    }

    async fn request(&self, want: Want<'_>, tier: Tier, days: u16) -> Reply<Requested> {
        each!(self, it => it.request(want, tier, days).await)
    }

    async fn under_way(&self, page: &mut dyn FnMut(Vec<Job>)) -> Reply<()> {
        each!(self, it => it.under_way(page).await)
    }

    async fn read(
        &self,
        ticket: &Id,
        want: Want<'_>,
        span: Span,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Reply<()> {
        each!(self, it => it.read(ticket, want, span, sink).await)
    }

    async fn is_gone(&self, ticket: &Id, failure: &Failure) -> bool {
        each!(self, it => it.is_gone(ticket, failure).await)
    }

    async fn allowance(&self) -> Option<String> {
        each!(self, it => it.allowance().await)
    }
}

impl Listings for Service {
    async fn list(&self, ticket: Option<&Id>, each: &mut dyn FnMut(Seen)) -> Reply<Listing> {
        each!(self, it => it.list(ticket, each).await)
    }

    async fn unfinished(&self, each: &mut dyn FnMut(Unfinished)) -> Reply<()> {
        each!(self, it => it.unfinished(each).await)
    }

    async fn inspect(&self, archive: &Id, version: Option<&str>) -> Reply<Option<Seen>> {
        each!(self, it => it.inspect(archive, version).await)
    }

    async fn extend_lock(
        &self,
        archive: &Id,
        version: Option<&str>,
        until: Timestamp,
    ) -> Reply<Option<Timestamp>> {
        each!(self, it => it.extend_lock(archive, version, until).await)
    }

    async fn delete(&self, archive: &Id, version: Option<&str>, bypass: bool) -> Reply<Freed> {
        each!(self, it => it.delete(archive, version, bypass).await)
    }
}

impl Places for Service {
    async fn describe(&self) -> Reply<Described> {
        each!(self, it => it.describe().await)
    }

    async fn create(&self) -> Reply<()> {
        each!(self, it => it.create().await)
    }

    async fn remove(&self) -> Reply<()> {
        each!(self, it => it.remove().await)
    }

    async fn places(&self, each: &mut dyn FnMut(Described)) -> Reply<()> {
        each!(self, it => it.places(each).await)
    }

    async fn has_lock(&self) -> Reply<Told<bool>> {
        each!(self, it => it.has_lock().await)
    }

    async fn keeps_versions(&self) -> Reply<Told<bool>> {
        each!(self, it => it.keeps_versions().await)
    }

    async fn rules(&self) -> Reply<Told<Vec<Rule>>> {
        each!(self, it => it.rules().await)
    }
}
