//! glacier-put and glacier-get with both faces of the destination in memory,
//! through all that may come between.

use std::fs;
use std::io::Cursor;
use std::path::PathBuf;
use std::time::Duration;

use jiff::SignedDuration;
use sha2::{Digest as _, Sha256};

use crate::error::Result;
use crate::hash::tree::{Fold, Hash, TreeHash};
use crate::line::{End, Format, Line, Part, Stream, StreamId, VERSION, Volume};
use crate::spool::Spool;
use crate::storage::retry::Patience;
use crate::storage::{Failure, Places, Tier, Uploads};
use crate::tests::memory::{Call, Face, Failing, Fault, MemoryStorage};
use crate::tools::get::Task;
use crate::tools::get::output::Output;
use crate::tools::get::plan::Lines;
use crate::tools::put;
use crate::tools::retrieve::{self, estimate::Bounds};

const MIB: usize = 1 << 20;
const FACES: [Face; 2] = [Face::Vault, Face::S3];

/// A machine with a spooled stream of two volumes, and a destination.
struct Scene {
    directory: tempfile::TempDir,
    storage: MemoryStorage,
    bytes: Vec<u8>,
    lines: String,
}

impl Scene {
    fn new(face: Face) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> =
            (0..3 * MIB + 1000).map(|at| u8::try_from(at / 999 % 251).unwrap()).collect();
        let storage = MemoryStorage::new(face).of_small_parts();
        storage.instant.set(true);
        let mut scene = Self { directory, storage, bytes, lines: String::new() };
        scene.lines = scene.chunk();
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Spools the stream, and gives its lines.
    fn chunk(&self) -> String {
        let (part_size, volume_size) = (MIB as u64, 2 * MIB as u64);
        let stream = StreamId::new(Sha256::new(), part_size, volume_size);
        let directory = Spool::open(&self.path("spool")).unwrap().stream(stream).unwrap();
        let mut lines = vec![Line::Stream(Stream {
            created: None,
            features: None,
            clone: false,
            v: VERSION,
            stream,
            host: "nas".into(),
            name: "photographs".into(),
            format: Format::Bytes,
            guid: None,
            from_guid: None,
            compound: false,
            resumed: false,
            filter: None,
            part_size,
            volume_size,
        })];
        let (mut all, mut volumes) = (Fold::default(), 0);
        for (volume, bytes) in (0..).zip(self.bytes.chunks(2 * MIB)) {
            for (part, bytes) in (0..).zip(bytes.chunks(MIB)) {
                let mut file = directory.create(volume, part).unwrap();
                file.write(bytes).unwrap();
                file.seal().unwrap();
                lines.push(Line::Part(Part {
                    stream,
                    volume,
                    part,
                    offset: u64::from(part) * part_size,
                    size: bytes.len() as u64,
                    treehash: TreeHash::of(bytes),
                    sha256: Hash::of(bytes),
                    spooled: true,
                }));
            }
            let treehash = TreeHash::of(bytes);
            all.push(treehash);
            volumes = volume + 1;
            lines.push(Line::Volume(Volume {
                stream,
                volume,
                offset: u64::from(volume) * volume_size,
                size: bytes.len() as u64,
                parts: u32::try_from(bytes.len().div_ceil(MIB)).unwrap(),
                treehash,
            }));
        }
        lines.push(Line::End(End {
            misplaced: 0,
            stream,
            volumes,
            size: self.bytes.len() as u64,
            treehash: all.finish(),
            whole: "trusted".into(),
        }));
        lines.iter().map(|line| line.text().unwrap()).collect()
    }

    fn put(&self, storage: &(impl Uploads + Places)) -> Result<()> {
        let settings = put::Settings {
            dest: storage.dest().to_string(),
            spool: self.path("spool"),
            catalog: self.path("catalog.jsonl"),
            concurrency: 2,
            patience: Duration::from_mins(5),
            grace: Duration::from_secs(1),
            assume_rate: None,
            quiet: true,
            allow_empty: false,
            create: false,
            assume_new: false,
            class: None,
            manifest_class: None,
        };
        let lines = Cursor::new(self.lines.clone().into_bytes());
        block_on(put::run(storage, &settings, lines))
    }

    /// Brings it back by the catalog.
    fn get(&self) -> Vec<u8> {
        let catalog = fs::read(self.path("catalog.jsonl")).unwrap();
        let plan = Lines::read(&catalog[..]).unwrap().0.plan(false).unwrap();
        let (path, bounds) = (self.path("back"), Bounds::default());
        let output = Output::file(path.clone(), false).unwrap();
        let settings = retrieve::Settings {
            tier: Some(Tier::Bulk),
            no_wait: false,
            concurrency: 2,
            patience: Patience { limit: Duration::from_mins(1) },
            progress: false,
        };
        block_on(async {
            let task = Task::prepare(&plan, &output, None, &bounds, false).await.unwrap();
            task.run(std::slice::from_ref(&self.storage), &settings).await.unwrap();
        });
        drop(output);
        fs::read(path).unwrap()
    }

    /// All came back, each archive is there once, and nothing is left.
    fn judge(&self) {
        assert!(self.get() == self.bytes, "other bytes came back");
        assert_eq!(self.storage.all().len(), 3, "two volumes and the manifest");
        assert_eq!(self.storage.open_uploads(), 0);
        let ids = Spool::open(&self.path("spool")).unwrap().ids().unwrap();
        assert!(ids.is_empty(), "the spool is empty");
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(work)
}

/// What ends a run at once, wherever it is.
fn killed() -> Failure {
    Failure::Local("killed".to_owned())
}

#[test]
fn what_is_stored_comes_back() {
    for face in FACES {
        let scene = Scene::new(face);
        scene.put(&scene.storage).unwrap();
        scene.judge();
        scene.put(&scene.storage).unwrap();
        scene.judge();
    }
}

#[test]
fn a_run_that_ends_at_any_call_is_gone_on_with() {
    for face in FACES {
        for call in [Call::Begin, Call::Send, Call::Complete] {
            for number in 1..=3 {
                for is_done in [false, true] {
                    let scene = Scene::new(face);
                    let fault = if is_done { Fault::After } else { Fault::Before };
                    let failing = Failing::new(&scene.storage, |it, at, _| {
                        (it == call && at == number).then(|| fault(killed()))
                    });
                    scene.put(&failing).unwrap_err();
                    scene.put(&scene.storage).unwrap();
                    // An upload whose beginning had no answer is nobody's.
                    let lost = usize::from(is_done && call == Call::Begin);
                    assert_eq!(scene.storage.open_uploads(), lost, "{face:?} {call:?} {number}");
                    scene.storage.drop_uploads();
                    scene.judge();
                }
            }
        }
    }
}

/// A service that lists no hashes of parts: what was sent is known by name.
#[test]
fn what_was_sent_is_not_sent_again() {
    for (face, lists_no_sums) in [(Face::Vault, false), (Face::S3, false), (Face::S3, true)] {
        let scene = Scene::new(face);
        scene.storage.lists_no_sums.set(lists_no_sums);
        let sent = std::cell::Cell::new(0);
        let run = |stops: bool| {
            let decide = |call, _, _: &str| {
                sent.set(sent.get() + usize::from(call == Call::Send));
                (stops && call == Call::Complete).then(|| Fault::Before(killed()))
            };
            scene.put(&Failing::new(&scene.storage, decide))
        };
        run(true).unwrap_err();
        run(false).unwrap();
        assert_eq!(sent.get(), 5, "{face:?} {lists_no_sums}: four parts and the manifest");
        scene.judge();
    }
}

/// The answer to a Complete is lost, and the service has forgotten it when it
/// is asked again.
#[test]
fn a_lost_archive_is_found() {
    for face in FACES {
        let scene = Scene::new(face);
        let stop = |call, number, _: &str| {
            (call == Call::Complete && number == 1).then(|| Fault::After(killed()))
        };
        scene.put(&Failing::new(&scene.storage, stop)).unwrap_err();
        let mut runs = 0;
        loop {
            scene.storage.pass(SignedDuration::from_hours(20));
            match scene.put(&scene.storage) {
                Ok(()) => break,
                Err(error) => assert_eq!(error.code(), 75, "{error}"),
            }
            runs += 1;
            assert!(runs < 6, "it ends");
        }
        assert_eq!(runs > 0, face == Face::Vault, "S3 is asked at once");
        scene.judge();
    }
}
