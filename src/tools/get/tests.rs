//! The worker against a vault in memory that fails as it is told.

mod model;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Instant;

use super::deliver::{requests, tree};
use super::plan::tests::{MIB, data, lines, plan};
use super::*;
use crate::hash::tree::{Hash, LEAF};
use crate::storage::retry::Patience;
use crate::storage::{Attempt, Body, Dest, Failure, Inventory, Job, JobState, Listed, Span, Tier};

/// What goes wrong with a call: its number among its kind, and how.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Fault {
    /// Every n-th download has a wrong byte.
    Flip(usize),
    /// Every n-th download ends half-way.
    Cut(usize),
    /// Every n-th download finds the job's output gone, and the job with it.
    Expire(usize),
    /// The output of the job called "first" is gone, though it is listed.
    Gone,
    /// The first reply to a request for an archive is lost.
    LoseReply,
    /// Jobs fail as soon as they are looked at.
    FailJobs,
    /// Jobs are not ready until they were looked at once more.
    Slow,
    /// Nothing is ever ready.
    Never,
    /// Later pieces come before earlier ones.
    Reorder,
}

/// A job that brings up the whole of an archive.
fn job(id: &str, archive: &str, state: JobState) -> Job {
    Job {
        id: id.to_owned(),
        archive_id: Some(archive.to_owned()),
        range: None,
        state,
        tier: None,
        created: None,
        completed: None,
        size: None,
        partial: false,
    }
}

struct Double {
    dest: Dest,
    archives: HashMap<String, Vec<u8>>,
    faults: Vec<Fault>,
    jobs: RefCell<Vec<Job>>,
    asked: Cell<usize>,
    /// Looks at the jobs that found one which was not ready.
    waited: Cell<usize>,
    fetched: Cell<usize>,
}

impl Double {
    fn new(streams: &[(&str, &[u8])], parts: usize, faults: &[Fault]) -> Self {
        let archives = streams
            .iter()
            .flat_map(|(name, data)| {
                (0..).zip(data.chunks(parts * LEAF)).map(move |(number, bytes): (usize, _)| {
                    (format!("{name}/{number}"), bytes.to_vec())
                })
            })
            .collect();
        Self {
            dest: "cold".parse().unwrap(),
            archives,
            faults: faults.to_vec(),
            jobs: RefCell::default(),
            asked: Cell::default(),
            waited: Cell::default(),
            fetched: Cell::default(),
        }
    }

    fn has(&self, fault: Fault) -> bool {
        self.faults.contains(&fault)
    }
}

impl Vault for Double {
    fn dest(&self) -> &Dest {
        &self.dest
    }

    fn region(&self) -> &'static str {
        "eu-central-1"
    }

    async fn create(&self) -> Attempt<()> {
        unreachable!()
    }

    async fn archives(&self) -> Attempt<u64> {
        unreachable!()
    }

    async fn initiate(&self, _: &str, _: u64) -> Attempt<String> {
        unreachable!()
    }

    async fn send(&self, _: &str, _: u64, _: &Body) -> Attempt<()> {
        unreachable!()
    }

    async fn parts(&self, _: &str) -> Attempt<Vec<Listed>> {
        unreachable!()
    }

    async fn complete(&self, _: &str, _: u64, _: Hash) -> Attempt<String> {
        unreachable!()
    }

    async fn abort(&self, _: &str) -> Attempt<()> {
        unreachable!()
    }

    async fn retrieve(&self, archive: &str, _: Option<Span>, _: Tier) -> Attempt<String> {
        if !self.archives.contains_key(archive) {
            return Err(Failure::Missing(format!("no archive {archive}")));
        }
        let number = self.asked.get();
        self.asked.set(number + 1);
        let id = format!("job {number}");
        let state = match () {
            () if self.has(Fault::FailJobs) => JobState::Failed("it was told to".into()),
            () if self.has(Fault::Slow) || self.has(Fault::Never) => JobState::Waiting,
            () => JobState::Ready,
        };
        self.jobs.borrow_mut().push(job(&id, archive, state));
        if number == 0 && self.has(Fault::LoseReply) {
            return Err(Failure::Passing("connection reset".into()));
        }
        Ok(id)
    }

    async fn request_inventory(&self) -> Attempt<String> {
        unreachable!()
    }

    async fn job(&self, id: &str) -> Attempt<Job> {
        let jobs = self.jobs.borrow();
        jobs.iter().find(|job| job.id == id).cloned().ok_or(Failure::Missing("no job".into()))
    }

    async fn jobs(&self) -> Attempt<Vec<Job>> {
        let jobs = self.jobs.borrow().clone();
        let waits = jobs.iter().any(|job| job.state == JobState::Waiting);
        self.waited.set(self.waited.get() + usize::from(waits));
        if self.has(Fault::Slow) {
            let mut jobs = self.jobs.borrow_mut();
            jobs.iter_mut().for_each(|job| job.state = JobState::Ready);
        }
        Ok(jobs)
    }

    async fn fetch(
        &self,
        id: &str,
        offset: u64,
        size: u64,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Attempt<()> {
        let job = self.job(id).await?;
        assert_eq!(job.state, JobState::Ready);
        assert_eq!(offset % MIB, 0);
        let number = self.fetched.get() + 1;
        self.fetched.set(number);
        let hit = |every: usize| number.is_multiple_of(every);
        if self.has(Fault::Reorder) && hit(2) {
            sleep(Duration::from_millis(30)).await;
        }
        let bytes = &self.archives[job.archive_id.as_deref().unwrap()];
        let at = |place: u64| usize::try_from(place).unwrap();
        let mut bytes = bytes[at(offset)..at(offset + size)].to_vec();
        for fault in &self.faults {
            match fault {
                Fault::Flip(every) if hit(*every) => *bytes.last_mut().unwrap() ^= 1,
                Fault::Cut(every) if hit(*every) => {
                    sink(&bytes[..bytes.len() / 2]);
                    return Err(Failure::Passing("connection reset".into()));
                }
                Fault::Gone if id == "first" => {
                    return Err(Failure::Missing("the output is gone".into()));
                }
                Fault::Expire(every) if hit(*every) => {
                    self.jobs.borrow_mut().retain(|job| job.id != id);
                    return Err(Failure::Missing("the output is gone".into()));
                }
                _ => {}
            }
        }
        bytes.chunks(100_000).for_each(sink);
        Ok(())
    }

    async fn inventory(&self, _: &str) -> Attempt<Inventory> {
        unreachable!()
    }
}

fn settings() -> Settings {
    Settings {
        tier: Tier::Bulk,
        no_wait: false,
        concurrency: 3,
        patience: Patience { limit: Duration::from_mins(5) },
        progress: false,
    }
}

/// A file that collects what commands get, a line behind each stream.
struct Collected {
    _directory: tempfile::TempDir,
    path: PathBuf,
}

impl Collected {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("streams");
        Self { _directory: directory, path }
    }

    fn command(&self, script: &str) -> Vec<std::ffi::OsString> {
        ["sh".into(), "-c".into(), script.into(), self.path.clone().into()].into()
    }

    fn bytes(&self) -> Vec<u8> {
        std::fs::read(&self.path).unwrap_or_default()
    }
}

const COLLECT: &str = "cat >>\"$0\" && echo end >>\"$0\"";

fn get(
    vault: &Double,
    lines: &[Line],
    settings: &Settings,
    command: Vec<std::ffi::OsString>,
) -> Result<()> {
    let plan = plan(lines, false).unwrap();
    let output = Output::new(command).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let bounds = Bounds::default();
    let result = runtime.block_on(async {
        let task = Task::prepare(&plan, &output, None, &bounds, false).await?;
        task.run(std::slice::from_ref(vault), settings).await
    });
    drop(output);
    runtime.shutdown_background();
    result
}

/// Gets two streams of 7 and 3 parts and a bit under faults.
fn get_two(faults: &[Fault], settings: &Settings) -> (Result<()>, Collected, Double) {
    let (first, second) = (data(35 * LEAF + 77), data(3 * LEAF + 1));
    let vault = Double::new(&[("a", &first), ("b", &second)], 32, faults);
    let lines = [lines(1, "a", &first, 32), lines(2, "b", &second, 32)].concat();
    let collected = Collected::new();
    let result = get(&vault, &lines, settings, collected.command(COLLECT));
    let expected = [&first[..], b"end\n", &second[..], b"end\n"].concat();
    let bytes = collected.bytes();
    if result.is_ok() {
        assert!(bytes == expected, "the streams differ");
    } else {
        // I5: nothing that was passed on is wrong, and no stream ended early.
        assert!(expected.starts_with(&bytes), "what was passed on differs");
    }
    (result, collected, vault)
}

#[test]
fn streams_come_back_in_order() {
    let (result, _, vault) = get_two(&[], &settings());
    result.unwrap();
    assert_eq!((vault.asked.get(), vault.fetched.get()), (3, 4));
    get_two(&[Fault::Reorder], &settings()).0.unwrap();
    get_two(&[], &Settings { concurrency: 1, ..settings() }).0.unwrap();
}

#[test]
fn passing_failures_and_damage_are_repeated() {
    get_two(&[Fault::Cut(3)], &settings()).0.unwrap();
    get_two(&[Fault::Flip(3)], &settings()).0.unwrap();
}

#[test]
fn an_archive_that_differs_from_its_hash_is_not_passed_on() {
    let began = Instant::now();
    let (result, collected, _) = get_two(
        &[Fault::Flip(1)],
        &Settings { patience: Patience { limit: Duration::ZERO }, ..settings() },
    );
    let error = result.unwrap_err();
    assert_eq!(
        (error.code(), error.to_string().as_str()),
        (65, "a: volume 0: part 15 does not equal its hash; none of it passed on")
    );
    assert!(collected.bytes().is_empty() && began.elapsed() < Duration::from_secs(30));
}

#[test]
fn waits_until_archives_are_ready() {
    let (result, _, vault) = get_two(&[Fault::Slow], &settings());
    result.unwrap();
    assert!(vault.waited.get() > 0, "none was looked at before it was ready");
    assert_eq!((vault.asked.get(), vault.fetched.get()), (3, 4), "and asked for once");
}

#[test]
fn no_wait_ends_with_75_and_the_next_run_takes_the_same_jobs() {
    let stream = data(3 * LEAF);
    let vault = Double::new(&[("a", &stream)], 2, &[Fault::Slow]);
    let (lines, collected) = (lines(1, "a", &stream, 2), Collected::new());
    let settings = Settings { no_wait: true, ..settings() };
    let error = get(&vault, &lines, &settings, collected.command(COLLECT)).unwrap_err();
    assert_eq!(
        (error.code(), error.to_string().as_str()),
        (75, "2 of 2 archives are not ready; run the same command again in a few hours")
    );
    assert!(!collected.path.exists(), "the command has run");
    // The first look of a run is also what lets jobs become ready.
    get(&vault, &lines, &settings, collected.command(COLLECT)).unwrap_err();
    get(&vault, &lines, &settings, collected.command(COLLECT)).unwrap();
    assert_eq!(vault.asked.get(), 2);
}

#[test]
fn output_that_is_gone_is_asked_for_once_more() {
    let (result, _, vault) = get_two(&[Fault::Expire(4)], &settings());
    result.unwrap();
    assert_eq!(vault.asked.get(), 4);
    let error = get_two(&[Fault::Expire(1)], &settings()).0.unwrap_err();
    assert_eq!(error.code(), 75, "{error}");
    let one = Settings { no_wait: true, ..settings() };
    let error = get_two(&[Fault::Expire(2)], &one).0.unwrap_err();
    assert_eq!(error.code(), 75, "{error}");
}

#[test]
fn output_that_expires_as_it_comes_is_asked_for_each_time() {
    let stream = data(64 * LEAF);
    let vault = Double::new(&[("a", &stream)], 64, &[Fault::Expire(2)]);
    let collected = Collected::new();
    let settings = Settings { concurrency: 1, ..settings() };
    get(&vault, &lines(1, "a", &stream, 64), &settings, collected.command(COLLECT)).unwrap();
    // Four requests, and a job for each, as three of them expire.
    assert_eq!((vault.asked.get(), vault.fetched.get()), (4, 7));
    assert!(collected.bytes().starts_with(&stream));
}

#[test]
fn no_more_is_asked_for_than_comes_in_twenty_hours() {
    let stream = data(6 * LEAF);
    let vault = Double::new(&[("a", &stream)], 2, &[Fault::Never]);
    vault.jobs.borrow_mut().push(job("first", "a/0", JobState::Waiting));
    let plan = plan(&lines(1, "a", &stream, 2), false).unwrap();
    let output = Output::new(Vec::new()).unwrap();
    // Three volumes of 2 MiB; two come in 20 hours.
    let bounds = Bounds { rate: Some(60), ..Bounds::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let task = Task::prepare(&plan, &output, None, &bounds, true).await.unwrap();
        let lines = task.request(std::slice::from_ref(&vault), &settings()).await.unwrap();
        let jobs = lines.iter().filter(|line| matches!(line, Line::Job(_))).count();
        assert_eq!((jobs, vault.asked.get()), (2, 1), "one was known");
    });
}

#[test]
fn a_lost_reply_does_not_pay_twice() {
    let (result, _, vault) = get_two(&[Fault::LoseReply], &settings());
    result.unwrap();
    assert_eq!(vault.asked.get(), 3);
}

#[test]
fn a_job_of_a_range_or_that_failed_is_not_taken() {
    let stream = data(LEAF);
    let vault = Double::new(&[("a", &stream)], 2, &[]);
    let range = Some(Span { offset: 0, size: 1 });
    vault.jobs.borrow_mut().extend([
        Job { range, ..job("range", "a/0", JobState::Ready) },
        job("failed", "a/0", JobState::Failed("no".into())),
    ]);
    let collected = Collected::new();
    get(&vault, &lines(1, "a", &stream, 2), &settings(), collected.command(COLLECT)).unwrap();
    assert_eq!(vault.asked.get(), 1);
}

#[test]
fn a_job_that_fails_twice_ends_the_run() {
    let error = get_two(&[Fault::FailJobs], &settings()).0.unwrap_err();
    assert_eq!(error.code(), 75);
    assert!(error.to_string().contains("it was told to"), "{error}");
}

#[test]
fn an_archive_that_is_not_there_is_a_refusal() {
    let stream = data(LEAF);
    let vault = Double::new(&[], 2, &[]);
    let collected = Collected::new();
    let error = get(&vault, &lines(1, "a", &stream, 2), &settings(), collected.command(COLLECT));
    let error = error.unwrap_err();
    assert_eq!((error.code(), error.to_string().as_str()), (69, "a: volume 0: no archive a/0"));
}

#[test]
fn a_command_that_fails_gives_its_own_status() {
    let stream = data(20 * LEAF);
    let vault = Double::new(&[("a", &stream)], 4, &[]);
    let lines = lines(1, "a", &stream, 4);
    let collected = Collected::new();
    for (script, code, text) in [
        ("cat >\"$0\"; exit 3", 3, "sh: ended with status 3"),
        ("exit 75", 75, "sh: ended with status 75"),
        ("kill -9 $$", 137, "sh: was killed by signal 9"),
        ("exit 0", 74, "sh: did not read all of the stream: Broken pipe"),
    ] {
        let error = get(&vault, &lines, &settings(), collected.command(script)).unwrap_err();
        assert_eq!((error.code(), error.to_string().as_str()), (code, text));
    }
    // A command that fails while archives are waited for is noticed.
    let never = Double::new(&[("a", &stream)], 4, &[Fault::Never]);
    never.jobs.borrow_mut().push(job("first", "a/0", JobState::Ready));
    let script = "head -c 1000 >/dev/null; exit 4";
    let error = get(&never, &lines, &settings(), collected.command(script)).unwrap_err();
    assert_eq!(error.code(), 4, "{error}");
}

#[test]
fn kills_the_command_before_its_input_is_closed() {
    let stream = data(4 * LEAF);
    let vault = Double::new(&[("a", &stream)], 2, &[Fault::Expire(2), Fault::Never]);
    let jobs = ["a/0", "a/1"].map(|archive| job(archive, archive, JobState::Ready));
    vault.jobs.borrow_mut().extend(jobs);
    let collected = Collected::new();
    let settings = Settings { no_wait: true, concurrency: 1, ..settings() };
    // exec: the shell would be killed, and cat see its input end.
    let command = collected.command("exec cat >\"$0\"");
    let lines = lines(1, "a", &stream, 2);
    assert_eq!(get(&vault, &lines, &settings, command).unwrap_err().code(), 75);
    assert!(stream.starts_with(&collected.bytes()));
    let began = collected.command("trap 'echo ended >\"$0\"' EXIT; while read -r line; do :; done");
    assert!(get(&vault, &lines, &settings, began).is_err());
    assert!(!collected.bytes().starts_with(b"ended"));
}

#[test]
fn a_command_that_is_not_there_is_told_at_once() {
    for command in ["no-such-command-here", "/no/such/command"] {
        let error = Output::new(vec![command.into()]).unwrap_err();
        assert_eq!((error.code(), error.to_string()), (127, format!("{command}: no such command")));
    }
}

#[test]
fn an_empty_stream_runs_the_command_too() {
    let collected = Collected::new();
    let vault = Double::new(&[], 2, &[]);
    get(&vault, &lines(1, "a", &[], 2), &settings(), collected.command(COLLECT)).unwrap();
    assert_eq!(collected.bytes(), b"end\n");
}

#[test]
fn the_tree_of_a_part_is_its_tree_hash() {
    for size in [1, LEAF - 1, LEAF, LEAF + 1, 2 * LEAF, 5 * LEAF, 5 * LEAF + 9] {
        let part = data(size);
        assert_eq!(tree(&part), crate::hash::tree::TreeHash::of(&part), "{size}");
    }
}

#[test]
fn requests_are_runs_of_whole_parts() {
    let stream = data(35 * LEAF + 77);
    let plan = plan(&lines(1, "a", &stream, 32), false).unwrap();
    let work = Work::new(&plan, MIB, &[]);
    let found: Vec<(u32, u64, u64, usize, bool)> = requests(&work.streams[0])
        .map(|r| (r.volume.line.volume, r.offset, r.size, r.hashes.len(), r.last))
        .collect();
    assert_eq!(
        found,
        [
            (0, 0, MIB, 1, false),
            (0, MIB, 16 * MIB, 16, false),
            (0, 17 * MIB, 15 * MIB, 15, true),
            (1, 0, 3 * MIB + 77, 4, true)
        ]
    );
}

#[test]
fn a_job_that_is_gone_is_not_asked_for_again_while_another_is_there() {
    let stream = data(LEAF);
    // An earlier run has met that the first is gone, asked for the second, and
    // was killed; the list has both.
    let vault = Double::new(&[("a", &stream)], 2, &[Fault::Gone, Fault::Slow]);
    vault
        .jobs
        .borrow_mut()
        .extend([job("first", "a/0", JobState::Ready), job("second", "a/0", JobState::Waiting)]);
    let collected = Collected::new();
    get(&vault, &lines(1, "a", &stream, 2), &settings(), collected.command(COLLECT)).unwrap();
    assert_eq!(vault.asked.get(), 0);
}
