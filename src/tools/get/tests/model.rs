//! The worker against a small model of the service's jobs, in sequences of
//! runs in which anything may go wrong, kills among them.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use futures_util::FutureExt as _;
use proptest::prelude::*;
use tokio::sync::Notify;

use super::*;
use crate::dice::{Dice, cases, dice};
use crate::error::Error;
use crate::storage::Job;
use crate::tests::memory::Fault as Told;

/// The service; it outlives the runs.
struct Service {
    memory: MemoryStorage,
    archives: BTreeMap<String, Vec<u8>>,
    dice: RefCell<Dice>,
    /// Calls until the process is killed, if it is.
    fuse: Cell<Option<usize>>,
    killed: Notify,
    /// Jobs whose reply came in this run: the list may be behind.
    told: RefCell<BTreeSet<Id>>,
    /// The calls of this run.
    calls: Cell<usize>,
}

impl Service {
    fn new(archives: BTreeMap<String, Vec<u8>>) -> Self {
        let memory = MemoryStorage::new(Face::Vault);
        for (id, bytes) in &archives {
            memory.shelve(id, bytes);
        }
        Self {
            memory,
            archives,
            dice: RefCell::default(),
            fuse: Cell::default(),
            killed: Notify::new(),
            told: RefCell::default(),
            calls: Cell::default(),
        }
    }

    fn once_in(&self, n: u32) -> bool {
        self.dice.borrow_mut().once_in(n)
    }

    fn asked(&self) -> Failing<'_, MemoryStorage> {
        Failing::new(&self.memory, |call, _, _| self.call(call))
    }

    /// A call comes: the process may be killed, the call not be taken, or its
    /// answer be lost.
    fn call(&self, call: Call) -> Option<Told> {
        self.calls.set(self.calls.get() + 1);
        assert!(self.calls.get() < 2000, "it ends");
        if let Some(left) = self.fuse.get() {
            if left == 0 {
                self.killed.notify_one();
                return Some(Told::Hang);
            }
            self.fuse.set(Some(left - 1));
        }
        if self.once_in(15) {
            return Some(Told::Before(Failure::overload("throttled")));
        }
        if self.once_in(15) {
            return Some(Told::Before(Failure::Passing("connection reset".into())));
        }
        let lost = || Told::After(Failure::Passing("connection reset".into()));
        match call {
            Call::Readiness => self.age(),
            Call::Request if self.once_in(15) => return Some(lost()),
            // At once, or another may be given the name.
            Call::Request => {
                self.told.borrow_mut().insert(self.memory.next_job());
                return None;
            }
            Call::Read if self.once_in(15) => return Some(Told::Flip),
            // Fewer bytes, or more, and nobody says so.
            Call::Read if self.once_in(15) => {
                return Some(Told::Length(self.dice.borrow_mut().below(4 * LEAF)));
            }
            Call::Read if self.once_in(15) => return Some(Told::Cut),
            _ => {}
        }
        self.once_in(5).then_some(Told::Slow(Duration::from_millis(3)))
    }

    /// Jobs go on, and fail; what is ready expires, and some of that is
    /// forgotten. The list may be behind.
    fn age(&self) {
        let lost = self.memory.lost();
        lost.iter().filter(|_| !self.once_in(2)).for_each(|job| self.memory.forget_job(job));
        for Job { id, state, .. } in self.memory.jobs() {
            match state {
                JobState::Waiting if self.once_in(20) => self.memory.fail(&id),
                JobState::Waiting if !self.once_in(2) => self.memory.ready(&id, true),
                JobState::Ready if self.once_in(30) => self.memory.lose_output(&id),
                _ => {}
            }
            let is_new = state == JobState::Waiting && self.told.borrow().contains(&id);
            self.memory.hide(&id, is_new && self.once_in(10));
        }
    }
}

/// One run: how many calls it lives, what goes wrong, and its options.
#[derive(Clone, Debug)]
struct Run {
    fuse: Option<usize>,
    dice: Dice,
    no_wait: bool,
    concurrency: usize,
    rate: Option<u64>,
}

fn run() -> impl Strategy<Value = Run> {
    let fuse = prop::option::of(0..40_usize);
    // At one byte a second no second archive is asked for ahead.
    let rate = prop::option::of(prop::sample::select(vec![1, 20, 60]));
    (fuse, dice(300), prop::bool::weighted(0.2), 1..4_usize, rate).prop_map(
        |(fuse, dice, no_wait, concurrency, rate)| Run { fuse, dice, no_wait, concurrency, rate },
    )
}

/// A run that is killed early, when some bytes may be there.
fn early() -> impl Strategy<Value = Run> {
    (run(), 4..24_usize).prop_map(|(run, fuse)| Run { fuse: Some(fuse), ..run })
}

/// Streams by their size in bytes.
fn streams() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec((0..5_usize, 0..3_usize), 1..4)
        .prop_map(|sizes| sizes.into_iter().map(|(parts, odd)| parts * LEAF + odd * 1000).collect())
}

/// Where streams go.
enum Goal {
    Command,
    /// A command, with volumes kept in a directory.
    Keep(PathBuf),
    File(PathBuf),
}

impl Goal {
    /// The files that hold bytes of the service.
    fn files(&self) -> Vec<PathBuf> {
        match self {
            Self::Command => Vec::new(),
            Self::File(path) => vec![path.clone()],
            Self::Keep(path) => std::fs::read_dir(path)
                .into_iter()
                .flatten()
                .flat_map(|stream| std::fs::read_dir(stream.unwrap().path()).unwrap())
                .map(|file| file.unwrap().path())
                .collect(),
        }
    }

    fn contents(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let files = self.files().into_iter();
        files.filter_map(|path| Some((path.clone(), std::fs::read(path).ok()?))).collect()
    }

    /// A power cut takes some of what was not yet durable, or leaves zeros.
    fn cut(&self, dice: &mut Dice) {
        for path in self.files() {
            let is_durable = path.extension().is_some_and(|end| end == "volume");
            let Ok(mut bytes) = std::fs::read(&path) else { continue };
            if is_durable || bytes.is_empty() {
                continue;
            }
            let length = bytes.len() - dice.below(bytes.len());
            if dice.once_in(3) {
                bytes.truncate(length);
            } else if length > LEAF {
                bytes[length..].fill(0);
            }
            std::fs::write(&path, bytes).unwrap();
        }
    }
}

struct Model {
    service: Service,
    lines: Vec<Line>,
    /// What the commands must get.
    expected: Vec<u8>,
}

impl Model {
    fn new(sizes: &[usize]) -> Self {
        let mut archives = BTreeMap::new();
        let (mut all, mut expected) = (Vec::new(), Vec::new());
        for (number, size) in (1..).zip(sizes) {
            let name = format!("s{number}");
            let mut bytes = data(*size);
            for byte in &mut bytes {
                *byte = byte.wrapping_add(number);
            }
            for (volume, bytes) in bytes.chunks(2 * LEAF).enumerate() {
                archives.insert(format!("{name}-{volume}"), bytes.to_vec());
            }
            all.extend(lines(number, &name, &bytes, 2));
            expected.extend_from_slice(&bytes);
            expected.extend_from_slice(b"end\n");
        }
        Self { service: Service::new(archives), lines: all, expected }
    }

    /// True if all came back, false if it was killed.
    fn run(&self, run: &Run) -> Result<bool> {
        self.run_into(run, &Goal::Command)
    }

    /// The same, into a file or with what is kept.
    fn run_into(&self, run: &Run, goal: &Goal) -> Result<bool> {
        loop {
            match self.attempt(run, goal) {
                // A child that another test has begun holds a lock for a
                // moment, until it is a program of its own.
                Err(Error::Unfinished(text)) if text.contains("works on it") => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                ended => return ended,
            }
        }
    }

    fn attempt(&self, run: &Run, goal: &Goal) -> Result<bool> {
        let service = &self.service;
        *service.dice.borrow_mut() = run.dice.clone();
        service.fuse.set(run.fuse);
        service.calls.set(0);
        // The kill of an earlier run may have come as it ended.
        let _ = service.killed.notified().now_or_never();
        service.told.borrow_mut().clear();
        let settings =
            Settings { no_wait: run.no_wait, concurrency: run.concurrency, ..settings() };
        let collected = Collected::new();
        let plan = plan(&self.lines, false).unwrap();
        let output = match goal {
            Goal::File(path) => Output::file(path.clone(), false)?,
            _ => Output::new(collected.command(COLLECT)).unwrap(),
        };
        let keep = match goal {
            Goal::Keep(path) => Some(Keep::open(path, false)?),
            _ => None,
        };
        let bounds = Bounds { rate: run.rate, ..Bounds::default() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let result = runtime.block_on(async {
            tokio::select! {
                result = async {
                    let task = Task::prepare(&plan, &output, keep.as_ref(), &bounds, false).await?;
                    task.run(std::slice::from_ref(&service.asked()), &settings).await
                } => result.map(|()| true),
                () = service.killed.notified() => Ok(false),
            }
        });
        drop(output);
        // What is being written holds its lock, as no dead process does.
        runtime.shutdown_timeout(Duration::from_secs(30));
        assert_eq!(service.memory.needless.get(), 0, "asked for twice");
        // I5: nothing wrong was passed on, and no stream ended early.
        let bytes = match goal {
            Goal::File(path) => {
                [std::fs::read(path).unwrap_or_default(), b"end\n".to_vec()].concat()
            }
            _ => collected.bytes(),
        };
        if let Goal::File(_) = goal {
            if matches!(result, Ok(true)) {
                assert!(bytes == self.expected, "I5: told as whole, and it is not");
            }
            return result;
        }
        assert!(self.expected.starts_with(&bytes), "I5: what was passed on differs");
        if matches!(result, Ok(true)) {
            assert!(bytes == self.expected, "I5: told as whole, and it is not");
        }
        result
    }
}

/// A run in which nothing goes wrong.
fn quiet() -> Run {
    Run { fuse: None, dice: Dice::default(), no_wait: false, concurrency: 3, rate: None }
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn running_it_again_brings_all_back_and_pays_nothing_twice(
        sizes in streams(),
        runs in prop::collection::vec(run(), 0..5),
    ) {
        let model = Model::new(&sizes);
        for run in &runs {
            if let Err(error) = model.run(run) {
                prop_assert!(matches!(error.code(), 65 | 75), "{error}");
            }
        }
        let begun = model.service.memory.asked.get();
        // A job may be listed though its output is gone: one run finds out.
        if model.run(&quiet()).is_err() {
            prop_assert!(model.run(&quiet()).unwrap());
        }
        let archives = model.service.archives.len();
        prop_assert!(model.service.memory.asked.get() <= begun + archives);
        // Once more, for nothing.
        let begun = model.service.memory.asked.get();
        prop_assert!(model.run(&quiet()).unwrap());
        prop_assert_eq!(model.service.memory.asked.get(), begun);
    }

    #[test]
    fn what_came_is_not_asked_for_again(
        sizes in prop::collection::vec(3 * LEAF..7 * LEAF, 1..3),
        runs in prop::collection::vec((early(), dice(8)), 1..6),
        into_a_file in any::<bool>(),
    ) {
        let sizes = if into_a_file { &sizes[..1] } else { &sizes[..] };
        let model = Model::new(sizes);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("it");
        let goal = if into_a_file { Goal::File(path) } else { Goal::Keep(path) };
        let right = |before: &BTreeMap<PathBuf, Vec<u8>>| {
            for (path, bytes) in goal.contents() {
                let is_right = if into_a_file {
                    model.expected.starts_with(&bytes)
                } else {
                    let whole = path.extension().is_some_and(|end| end == "volume");
                    let mut archives = model.service.archives.values();
                    archives.any(|it| it.starts_with(&bytes) && (!whole || *it == bytes))
                };
                // What a power cut has left may be untouched.
                prop_assert!(is_right || before.get(&path) == Some(&bytes), "I5: {path:?}");
            }
            Ok(())
        };
        for (run, dice) in &runs {
            let before = goal.contents();
            if let Err(error) = model.run_into(run, &goal) {
                prop_assert!(matches!(error.code(), 65 | 75), "{error}");
            }
            right(&before)?;
            goal.cut(&mut dice.clone());
        }
        let before = goal.contents();
        if model.run_into(&quiet(), &goal).is_err() {
            prop_assert!(model.run_into(&quiet(), &goal).unwrap());
        }
        right(&before)?;
        // Once more, when the service knows no job any more: nothing is asked.
        let memory = &model.service.memory;
        memory.jobs().iter().for_each(|job| memory.forget_job(&job.id));
        prop_assert!(model.run_into(&quiet(), &goal).unwrap());
        prop_assert_eq!(model.service.calls.get(), 0);
    }

    #[test]
    fn what_is_not_there_or_differs_is_told_each_time(
        sizes in streams(),
        runs in prop::collection::vec(run(), 0..3),
        which in any::<prop::sample::Index>(),
        missing in any::<bool>(),
    ) {
        let model = Model::new(&sizes);
        let Service { archives, memory, .. } = &model.service;
        prop_assume!(!archives.is_empty());
        let name = archives.keys().nth(which.index(archives.len())).unwrap();
        if missing { memory.unshelve(name) } else { memory.rot(name) }
        for run in &runs {
            match model.run(run) {
                Ok(whole) => prop_assert!(!whole),
                Err(error) => prop_assert!(matches!(error.code(), 65 | 69 | 75), "{error}"),
            }
        }
        let mut told = None;
        for _ in 0..3 {
            told = Some(model.run(&quiet()).unwrap_err());
        }
        let again = model.run(&quiet()).unwrap_err();
        prop_assert_eq!(again.code(), if missing { 69 } else { 65 }, "{}", again);
        prop_assert_eq!(again.to_string(), told.unwrap().to_string());
    }
}
