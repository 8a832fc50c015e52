//! Every call, limit and failure of a destination, asked of each that there
//! is: Amazon Glacier's client against glacier-local, and the two faces of the
//! destination in memory.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_types::retry::RetryConfig;
use jiff::SignedDuration;

use crate::hash::tree::{Fold, Hash, TreeHash};
use crate::line::Id;
use crate::line::description::Description;
use crate::storage::glacier::Glacier;
use crate::storage::rate_limit::Pace;
use crate::storage::s3::S3;
use crate::storage::*;
use crate::tests::memory::{Call, Face, Failing, Fault, MemoryStorage};
use crate::tools::local;

#[path = "../../tests/common/buckets.rs"]
mod buckets;

use buckets::{Buckets, KEY, REGION, SECRET};

const MIB: u64 = 1 << 20;

/// What a service of others may lack.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lack {
    /// It lists no hashes of parts.
    Sums,
    /// It compares no size when an archive is made.
    Size,
    /// It deletes a place with all that is in it.
    Contents,
    /// It makes a place that is not there, when something is stored in it.
    Absence,
    /// Archives of cold classes can be read as they are.
    Classes,
    /// No clock that can be turned: restores come soon, and do not end.
    Hours,
}

/// A destination, and the clock that it goes by.
trait Bench {
    type Storage: Uploads + Retrievals + Listings + Places;
    /// Bytes of a part.
    const PART: u64 = MIB;
    /// What the service does not do, though it should.
    const LACKS: &'static [Lack] = &[];
    fn storage(&self) -> &Self::Storage;
    async fn pass(&self, hours: i64);
}

impl Bench for MemoryStorage {
    type Storage = Self;

    fn storage(&self) -> &Self {
        self
    }

    async fn pass(&self, hours: i64) {
        Self::pass(self, SignedDuration::from_hours(hours));
    }
}

/// The configuration of a client.
fn config(endpoint: &str, (key, secret): (&str, &str)) -> SdkConfig {
    let keys = Credentials::new(key, secret, None, None, "test");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new(REGION))
        .endpoint_url(endpoint)
        .credentials_provider(SharedCredentialsProvider::new(keys))
        .http_client(aws::http::client().unwrap())
        .retry_config(RetryConfig::standard().with_max_attempts(1))
        .build()
}

/// The client against glacier-local, whose hours are short.
struct Local {
    client: Glacier,
    _root: tempfile::TempDir,
}

/// Milliseconds that an hour of glacier-local takes.
const HOUR: u64 = 100;

impl Local {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let settings = local::Settings {
            root: root.path().to_owned(),
            listen: "127.0.0.1:0".to_owned(),
            clock_speed: 3_600_000 / u32::try_from(HOUR).unwrap(),
            timeout: Duration::from_secs(30),
            log: None,
            faults: None,
            key_id: Some("AKID".to_owned()),
            secret: Some("secret".to_owned()),
        };
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            local::serve(&settings, |endpoint| {
                tell.send(endpoint.to_owned()).unwrap();
                Ok(())
            })
        });
        let endpoint = told.recv_timeout(Duration::from_secs(30)).unwrap();
        let config = config(&endpoint, ("AKID", "secret"));
        let client = Glacier::with(&config, "cold".parse().unwrap()).unwrap();
        Self { client, _root: root }
    }
}

impl Bench for Local {
    type Storage = Glacier;

    fn storage(&self) -> &Glacier {
        &self.client
    }

    async fn pass(&self, hours: i64) {
        let hours = u64::try_from(hours).unwrap();
        tokio::time::sleep(Duration::from_millis(hours * HOUR)).await;
    }
}

/// A client of a bucket of its own, at a server of others.
fn bucket(server: &Buckets) -> S3 {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let dest = format!("s3://cold-{}-{count}/nas", std::process::id());
    S3::with(&config(&server.endpoint, (KEY, SECRET)), dest.parse().unwrap()).unwrap()
}

/// SeaweedFS.
struct Seaweed(S3);

impl Bench for Seaweed {
    type Storage = S3;
    const PART: u64 = 8 * MIB;
    const LACKS: &'static [Lack] =
        &[Lack::Sums, Lack::Size, Lack::Contents, Lack::Absence, Lack::Classes, Lack::Hours];

    fn storage(&self) -> &S3 {
        &self.0
    }

    async fn pass(&self, _: i64) {}
}

/// MiniStack.
struct Stack(S3);

impl Bench for Stack {
    type Storage = S3;
    const PART: u64 = 8 * MIB;
    const LACKS: &'static [Lack] = &[Lack::Hours];

    fn storage(&self) -> &S3 {
        &self.0
    }

    async fn pass(&self, _: i64) {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// What an archive is, by its volume.
fn about(volume: u32) -> Description {
    let stream = "5".repeat(32);
    Description::parse(&format!(
        r#"{{"v":1,"kind":"volume","stream":"{stream}","volume":{volume},"host":"nas","name":"t@m"}}"#
    ))
    .unwrap()
}

fn body(bytes: &[u8]) -> Body {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    Body {
        file: Arc::new(file),
        start: 0,
        size: bytes.len() as u64,
        treehash: TreeHash::of(bytes),
        sha256: Hash::of(bytes),
        taken: Arc::default(),
        pace: Pace::default(),
    }
}

/// Parts of a size, the last of which is short.
fn content(seed: u8, part: u64) -> Vec<Vec<u8>> {
    let part = usize::try_from(part).unwrap();
    vec![vec![seed; part], vec![seed + 1; part], vec![seed + 2; 1000]]
}

async fn send_all(storage: &impl Uploads, upload: &Id, parts: &[Vec<u8>]) -> Seal {
    let mut sealed = Vec::new();
    // In no order.
    for (part, bytes) in (0..3).zip(parts).rev() {
        let place = Place { part, offset: u64::from(part) * size_of(parts) };
        let sent = storage.send(upload, place, &body(bytes)).await.unwrap().value;
        let is_right = match sent.proof {
            Some(Proof::Tree(hash)) => hash == TreeHash::of(bytes),
            Some(Proof::Sha256(hash)) => hash == Hash::of(bytes),
            None => true,
        };
        assert!(is_right, "part {part}");
        sealed.insert(0, Sealed { sha256: Hash::of(bytes), tag: sent.tag });
    }
    let size = parts.iter().map(|part| part.len() as u64).sum();
    let treehash = parts.iter().map(|part| TreeHash::of(part)).collect::<Fold>().finish();
    Seal::of(size, treehash, sealed.into())
}

/// Bytes of a part, but for the last.
fn size_of(parts: &[Vec<u8>]) -> u64 {
    parts[0].len() as u64
}

/// Stores an archive; its id.
async fn store(storage: &impl Uploads, volume: u32, parts: &[Vec<u8>]) -> Seen {
    let begun = storage.begin(&about(volume), size_of(parts), &Terms::default()).await.unwrap();
    let seal = send_all(storage, &begun.value.upload, parts).await;
    storage.complete(&begun.value.upload, &seal).await.unwrap().value
}

fn is_missing<T>(reply: &Reply<T>) -> bool {
    matches!(reply, Err(Failure::Missing(_)))
}

/// Looks an archive up until the service knows.
async fn look_up(bench: &impl Bench, about: &Description, seal: &Seal) -> Lookup {
    let mut ticket = None;
    for _ in 0..40 {
        let looked_up = bench.storage().look_up(about, seal, ticket.as_ref()).await.unwrap();
        match looked_up.value {
            Lookup::Later(next) => {
                ticket = next;
                bench.pass(5).await;
            }
            known => return known,
        }
    }
    panic!("it is never known")
}

/// All archives, when the service lists them.
async fn list(bench: &impl Bench) -> Vec<Seen> {
    let mut ticket: Option<Id> = None;
    for _ in 0..40 {
        let mut seen = Vec::new();
        let listed = bench.storage().list(ticket.as_ref(), &mut |it| seen.push(it)).await;
        match listed.unwrap().value {
            Listing::AsOf(_) => return seen,
            Listing::Later(next) => ticket = Some(next),
            Listing::NoneYet => {}
            Listing::Failed(why) => panic!("{why}"),
        }
        bench.pass(5).await;
    }
    panic!("it is never listed")
}

async fn uploads_take_parts<B: Bench>(bench: &B) {
    let storage = bench.storage();
    let parts = content(1, B::PART);
    let begun = storage.begin(&about(0), B::PART, &Terms::default()).await.unwrap();
    assert!(begun.value.lapses.is_none_or(|lapses| lapses > begun.at));
    let upload = begun.value.upload;
    // What is sent twice is replaced.
    let first = Place { part: 0, offset: 0 };
    storage.send(&upload, first, &body(&parts[1])).await.unwrap();
    let seal = send_all(storage, &upload, &parts).await;
    // Bytes that are not what their hashes say are not taken.
    let lie = Body { treehash: TreeHash::of(b"x"), sha256: Hash::of(b"x"), ..body(&parts[1]) };
    assert!(storage.send(&upload, first, &lie).await.is_err());
    let held = storage.held(&upload, B::PART).await.unwrap().value;
    assert_eq!(held.len(), parts.len());
    for held in &held {
        let part = &parts[usize::try_from(held.offset / B::PART).unwrap()];
        let is = |bytes: &[u8]| held.is(part.len() as u64, TreeHash::of(bytes), Hash::of(bytes));
        let told =
            if B::LACKS.contains(&Lack::Sums) { (None, None) } else { (Some(true), Some(false)) };
        assert_eq!((is(part), is(b"x")), told);
    }
    let mut unfinished = Vec::new();
    storage.unfinished(&mut |it| unfinished.push(it)).await.unwrap();
    let own = unfinished.iter().find(|it| it.id == upload).unwrap();
    assert_eq!((own.of.stream, own.of.volume), (Some(about(0).stream), Some(0)));
    assert_eq!(own.part_size, B::PART);
    // What does not come to the seal is no archive, and the upload stays.
    let short = Seal { size: seal.size - 1, ..seal.clone() };
    let refused = storage.complete(&upload, &short).await;
    if B::LACKS.contains(&Lack::Size) {
        // It is made all the same, and never taken for what was sent.
        assert!(matches!(refused, Err(Failure::Damaged(_))), "{refused:?}");
        let key = Id::of(crate::line::Key::from(&about(0)));
        storage.delete(&key, None, false).await.unwrap();
        return;
    }
    assert!(matches!(refused, Err(Failure::Invalid(_) | Failure::Refused(_))), "{refused:?}");
    let made = storage.complete(&upload, &seal).await.unwrap().value;
    assert!(made.size.is_none_or(|size| size == seal.size) && !made.id.is_empty());
    // The answer may have been lost: asked again, it is the same.
    let again = Seal { parts: [].into(), ..seal.clone() };
    match storage.complete(&upload, &again).await {
        Ok(answer) => assert_eq!(answer.value.id, made.id),
        Err(failure) => assert!(matches!(failure, Failure::Missing(_) | Failure::Exists(_))),
    }
    assert!(is_missing(&storage.held(&upload, B::PART).await));
    assert!(is_missing(&storage.send(&upload, first, &body(&parts[0])).await));
    storage.abort(&upload).await.unwrap();
    storage.abort(&"no-such-upload".into()).await.unwrap();
    assert!(is_missing(&storage.complete(&"no-such-upload".into(), &seal).await));
    // A day later the service knows of it in any case.
    bench.pass(30).await;
    let found = look_up(bench, &about(0), &seal).await;
    assert!(matches!(&found, Lookup::Same(seen) if seen.id == made.id), "{found:?}");
    let other = look_up(bench, &about(7), &seal).await;
    assert!(matches!(other, Lookup::Absent { .. }), "{other:?}");
    assert_eq!(storage.holds().await.unwrap().value, 1);
    assert!(storage.delete(&made.id, None, false).await.is_ok());
}

async fn uploads_lapse_as_the_limits_say<B: Bench>(bench: &B) {
    let storage = bench.storage();
    let upload = storage.begin(&about(1), B::PART, &Terms::default()).await.unwrap().value.upload;
    send_all(storage, &upload, &content(1, B::PART)).await;
    let idle = storage.limits().idle_upload;
    bench.pass(idle.map_or(24 * 300, |idle| idle.as_hours() + 2)).await;
    assert_eq!(is_missing(&storage.held(&upload, B::PART).await), idle.is_some());
    storage.abort(&upload).await.unwrap();
    assert!(is_missing(&storage.held(&upload, B::PART).await));
    let most = *storage.limits().part.end();
    assert!(storage.begin(&about(1), most * 2, &Terms::default()).await.is_err());
}

async fn archives_come_up_and_go<B: Bench>(bench: &B) {
    let storage = bench.storage();
    let parts = content(7, B::PART);
    let archive = store(storage, 2, &parts).await.id;
    let unit = storage.unit(None);
    let span = Span { offset: B::PART, size: B::PART };
    let want = Want { span: Some(span).filter(|_| unit == Unit::Span), ..Want::of(&archive) };
    let ask = async |ticket: Option<&Id>, gone: &[Id]| {
        let found = storage.readiness(&[Sought { want, ticket, gone }]).await.unwrap().value;
        assert_eq!(found.len(), 1);
        found.into_iter().next().unwrap()
    };
    if B::LACKS.contains(&Lack::Classes) {
        let found = ask(None, &[]).await;
        let Readiness::Ready { ticket, .. } = found else { panic!("{found:?}") };
        let mut came = Vec::new();
        storage.read(&ticket, want, span, &mut |it| came.extend_from_slice(it)).await.unwrap();
        assert!(came == parts[1], "what can be read is read");
        return;
    }
    assert_eq!(ask(None, &[]).await, Readiness::Cold);
    let requested = storage.request(want, Tier::Standard, 2).await.unwrap().value;
    let Requested::Begun(ticket) = requested else { panic!("{requested:?}") };
    let mut jobs = Vec::new();
    storage.under_way(&mut |page| jobs.extend(page)).await.unwrap();
    let own = jobs.iter().find(|job| job.archive_id.as_ref() == Some(&archive)).unwrap();
    assert_eq!(own.range, want.span);
    loop {
        // The hours of glacier-local go on whatever happens here.
        match ask(Some(&ticket), &[]).await {
            Readiness::Coming { ticket: it, .. } => assert_eq!(it, ticket),
            Readiness::Ready { ticket: it, .. } => break assert_eq!(it, ticket),
            other => panic!("{other:?}"),
        }
        bench.pass(1).await;
    }
    let mut came = Vec::new();
    let half = Span { offset: B::PART, size: B::PART / 2 };
    storage.read(&ticket, want, half, &mut |piece| came.extend_from_slice(piece)).await.unwrap();
    assert!(came.len() == parts[1].len() / 2 && parts[1].starts_with(&came));
    // A job that has come to nothing is not taken again.
    if unit == Unit::Span {
        assert_eq!(ask(None, std::slice::from_ref(&ticket)).await, Readiness::Cold);
    }
    if B::LACKS.contains(&Lack::Hours) {
        let again = storage.request(want, Tier::Standard, 2).await.unwrap().value;
        assert!(matches!(again, Requested::Readable(_)), "{again:?}");
        return;
    }
    bench.pass(24 * 4).await;
    let failure = storage.read(&ticket, want, half, &mut |_| {}).await.unwrap_err();
    assert!(storage.is_gone(&ticket, &failure).await, "{failure:?}");
    let over = ask(Some(&ticket), &[]).await;
    assert!(matches!(over, Readiness::Cold | Readiness::Failed(_)), "{over:?}");
    let missing = Want { archive: &"no-such-archive".into(), ..want };
    assert!(is_missing(&storage.request(missing, Tier::Standard, 2).await));
}

async fn lists_have_what_is_there<B: Bench>(bench: &B) {
    let storage = bench.storage();
    let parts = content(40, B::PART);
    let made = store(storage, 3, &parts).await;
    bench.pass(30).await;
    let seen = list(bench).await;
    let own = seen.iter().find(|seen| seen.id == made.id).unwrap();
    assert_eq!(own.size, Some(2 * B::PART + 1000));
    assert!(own.described.as_ref().is_none_or(|text| about(3).identifies(text)));
    if let Some(shown) = storage.inspect(&made.id, None).await.unwrap().value {
        assert_eq!((&shown.id, shown.size), (&made.id, own.size));
        assert!(is_missing(&storage.inspect(&"no-such-archive".into(), None).await));
    }
    if !B::LACKS.contains(&Lack::Contents) {
        let refused = storage.remove().await;
        assert!(matches!(refused, Err(Failure::Invalid(_) | Failure::Refused(_))), "{refused:?}");
    }
    assert_eq!(storage.delete(&made.id, None, false).await.unwrap().value, Freed::Freed);
    assert_eq!(storage.delete(&made.id, None, false).await.unwrap().value, Freed::Freed);
    bench.pass(30).await;
    assert!(list(bench).await.iter().all(|seen| seen.id != made.id));
}

async fn places_are_made_and_go<B: Bench>(bench: &B) {
    let storage = bench.storage();
    storage.create().await.unwrap();
    storage.create().await.unwrap();
    let name = storage.describe().await.unwrap().value.name;
    assert!(storage.dest().to_string().contains(&format!("://{name}")));
    let mut all = Vec::new();
    storage.places(&mut |place| all.push(place.name)).await.unwrap();
    assert_eq!(all.iter().filter(|place| **place == name).count(), 1, "{all:?}");
    assert_eq!(storage.has_lock().await.unwrap().value, Told::Is(false));
    assert!(matches!(storage.keeps_versions().await.unwrap().value, Told::Is(_)));
    assert!(matches!(storage.rules().await.unwrap().value, Told::Is(_)));
}

async fn a_place_that_is_gone_is_missing<B: Bench>(bench: &B) {
    let storage = bench.storage();
    let mut archives = Vec::new();
    storage.unfinished(&mut |it| archives.push(it.id)).await.unwrap();
    for upload in archives {
        storage.abort(&upload).await.unwrap();
    }
    for seen in list(bench).await {
        storage.delete(&seen.id, None, false).await.unwrap();
    }
    bench.pass(30).await;
    if B::LACKS.contains(&Lack::Contents) {
        store(storage, 4, &content(50, B::PART)).await;
    }
    // Its inventory must show that it is empty.
    list(bench).await;
    storage.remove().await.unwrap();
    assert!(is_missing(&storage.describe().await) && is_missing(&storage.holds().await));
    let begun = storage.begin(&about(0), B::PART, &Terms::default()).await;
    assert_eq!(is_missing(&begun), !B::LACKS.contains(&Lack::Absence));
    storage.create().await.unwrap();
    storage.describe().await.unwrap();
}

async fn conforms<B: Bench>(bench: &B) {
    places_are_made_and_go(bench).await;
    uploads_take_parts(bench).await;
    uploads_lapse_as_the_limits_say(bench).await;
    archives_come_up_and_go(bench).await;
    lists_have_what_is_there(bench).await;
    a_place_that_is_gone_is_missing(bench).await;
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(work)
}

#[test]
fn a_vault_of_glacier_local_conforms() {
    block_on(conforms(&Local::new()));
}

/// Whether there is such a server, or a visible word that there is none.
fn there<'s>(server: Result<&'s Buckets, &str>) -> Option<&'s Buckets> {
    server.map_err(|why| writeln!(std::io::stderr().lock(), "SKIP: {why}").unwrap()).ok()
}

#[test]
fn a_bucket_of_seaweedfs_conforms() {
    let Some(server) = there(Buckets::seaweed()) else { return };
    block_on(conforms(&Seaweed(bucket(server))));
}

#[test]
fn a_bucket_of_ministack_conforms() {
    let Some(server) = there(Buckets::stack()) else { return };
    block_on(conforms(&Stack(bucket(server))));
}

#[test]
fn both_faces_of_the_destination_in_memory_conform() {
    for face in [Face::Vault, Face::S3] {
        block_on(conforms(&MemoryStorage::new(face).of_small_parts()));
    }
}

#[test]
fn what_is_not_up_cannot_be_read() {
    for face in [Face::Vault, Face::S3] {
        block_on(async {
            let storage = MemoryStorage::new(face).of_small_parts();
            let made = store(&storage, 0, &content(1, MIB)).await;
            let want = Want::of(&made.id);
            let asked = storage.request(want, Tier::Standard, 1).await.unwrap().value;
            let Requested::Begun(ticket) = asked else { panic!("{asked:?}") };
            let sought = [Sought { want, ticket: Some(&ticket), gone: &[] }];
            let found = storage.readiness(&sought).await.unwrap().value;
            assert!(matches!(found.first(), Some(Readiness::Coming { .. })), "{found:?}");
            let span = Span { offset: 0, size: 1 };
            assert!(storage.read(&ticket, want, span, &mut |_| {}).await.is_err());
        });
    }
}

#[test]
fn s3_keeps_versions_and_locks() {
    block_on(async {
        let storage = MemoryStorage::new(Face::S3).of_small_parts().with_versions();
        let parts = content(1, MIB);
        let until = "2027-01-01T00:00:00Z".parse().unwrap();
        let terms = Terms {
            class: Some("GLACIER".to_owned()),
            lock: Some(Lock { until, compliance: false }),
            tags: vec![("what".to_owned(), "photographs".to_owned())],
        };
        let upload = storage.begin(&about(0), MIB, &terms).await.unwrap().value.upload;
        let seal = send_all(&storage, &upload, &parts).await;
        let made = storage.complete(&upload, &seal).await.unwrap().value;
        let version = made.version.as_deref();
        assert_eq!((made.class.as_deref(), version.is_some()), (Some("GLACIER"), true));
        assert_eq!(made.checksum, seal.composite.map(Proof::Sha256));
        // A second upload of the same archive finds it there, and stays.
        let twin = storage.begin(&about(0), MIB, &terms).await.unwrap().value.upload;
        let seal = send_all(&storage, &twin, &parts).await;
        assert!(matches!(storage.complete(&twin, &seal).await, Err(Failure::Exists(_))));
        assert!(matches!(look_up(&storage, &about(0), &seal).await, Lookup::Same(_)));
        let other = Seal { composite: Some(Hash::of(b"x")), ..seal };
        assert!(matches!(look_up(&storage, &about(0), &other).await, Lookup::Other(_)));
        storage.abort(&twin).await.unwrap();
        let freed =
            async |version, bypass| storage.delete(&made.id, version, bypass).await.unwrap().value;
        assert_eq!(freed(None, false).await, Freed::Marker);
        assert_eq!(freed(version, false).await, Freed::Locked(until));
        let later = "2028-01-01T00:00:00Z".parse().unwrap();
        let extended = storage.extend_lock(&made.id, version, later).await.unwrap().value;
        assert_eq!(extended, Some(later));
        assert_eq!(freed(version, false).await, Freed::Locked(later));
        assert_eq!(freed(version, true).await, Freed::Freed);
    });
}

#[test]
fn s3_brings_up_whole_archives_once_and_until_midnight() {
    block_on(async {
        let storage = MemoryStorage::new(Face::S3).of_small_parts();
        let made = store(&storage, 0, &content(1, MIB)).await;
        let want = Want::of(&made.id);
        let request = async |tier| storage.request(want, tier, 1).await.map(|it| it.value);
        assert!(request(Tier::Expedited).await.is_err(), "DEEP_ARCHIVE has none");
        assert!(matches!(request(Tier::Bulk).await, Ok(Requested::Begun(_))));
        assert!(matches!(request(Tier::Bulk).await, Ok(Requested::UnderWay(_))));
        storage.pass(SignedDuration::from_hours(48));
        assert!(matches!(request(Tier::Bulk).await, Ok(Requested::Readable(_))));
        let sought = [Sought { want, ticket: None, gone: &[] }];
        let found = storage.readiness(&sought).await.unwrap().value;
        let Some(Readiness::Ready { until: Some(until), .. }) = found.first() else {
            panic!("{found:?}")
        };
        assert_eq!(until.as_second() % 86_400, 0);
        assert_eq!(storage.unit(Some("GLACIER_IR")), Unit::Readable);
    });
}

#[test]
fn calls_fail_as_they_are_told() {
    block_on(async {
        let storage = MemoryStorage::new(Face::Vault).of_small_parts();
        let lost = || Failure::Passing("connection reset".to_owned());
        let failing = Failing::new(&storage, |call, number, _| match (call, number) {
            (Call::Begin, 1) => Some(Fault::Before(lost())),
            (Call::Begin, 2) => Some(Fault::After(lost())),
            (Call::Read, 1) => Some(Fault::Cut),
            (Call::Read, 2) => Some(Fault::Flip),
            _ => None,
        });
        let begin = async || failing.begin(&about(0), MIB, &Terms::default()).await;
        assert!(begin().await.is_err() && storage.open_uploads() == 0);
        assert!(begin().await.is_err() && storage.open_uploads() == 1);
        assert!(begin().await.is_ok());
        storage.instant.set(true);
        storage.shelve("a", b"four");
        let archive = "a".into();
        let want = Want::of(&archive);
        let Requested::Begun(ticket) = failing.request(want, Tier::Bulk, 1).await.unwrap().value
        else {
            panic!()
        };
        let read = async || {
            let mut came = Vec::new();
            let span = Span { offset: 0, size: 4 };
            let read =
                failing.read(&ticket, want, span, &mut |it| came.extend_from_slice(it)).await;
            (read.is_ok(), came)
        };
        assert_eq!(read().await, (false, b"fo".to_vec()));
        assert_eq!(read().await, (true, b"fous".to_vec()));
        assert_eq!(read().await, (true, b"four".to_vec()));
    });
}
