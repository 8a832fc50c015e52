//! The worker against a vault in memory that fails as it is told.

mod model;

use std::cell::Cell;
use std::path::PathBuf;
use std::time::Instant;

use jiff::SignedDuration;

use super::deliver::{requests, tree};
use super::plan::tests::{MIB, data, lines, plan};
use super::*;
use crate::hash::tree::LEAF;
use crate::line::Id;
use crate::storage::retry::Patience;
use crate::storage::{Failure, JobState, Span, Tier};
use crate::tests::memory::{self, Call, Face, Failing, MemoryStorage};

/// What goes wrong with a call: its number among its kind, and how.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Fault {
    /// Every n-th download has a wrong byte.
    Flip(usize),
    /// Every n-th download ends half-way.
    Cut(usize),
    /// Every n-th download finds the job's output gone, and the job with it.
    Expire(usize),
    /// The first reply to a request for an archive is lost.
    LoseReply,
    /// Jobs fail as soon as they are looked at.
    FailJobs,
    /// Jobs are not ready until one was looked at once more.
    Slow,
    /// Nothing is ever ready.
    Never,
    /// The same, and hours lie between two looks.
    Stuck,
    /// Later pieces come before earlier ones.
    Reorder,
}

/// A vault, and what goes wrong with it.
struct Double {
    memory: MemoryStorage,
    faults: Vec<Fault>,
    /// Looks at the jobs that found one which was not ready.
    waited: Cell<usize>,
}

impl Double {
    fn new(streams: &[(&str, &[u8])], parts: usize, faults: &[Fault]) -> Self {
        let memory = MemoryStorage::new(Face::Vault);
        for (name, data) in streams {
            for (number, bytes) in data.chunks(parts * LEAF).enumerate() {
                memory.shelve(&format!("{name}-{number}"), bytes);
            }
        }
        memory
            .instant
            .set(!faults.iter().any(|it| matches!(it, Fault::Slow | Fault::Never | Fault::Stuck)));
        Self { memory, faults: faults.to_vec(), waited: Cell::default() }
    }

    fn has(&self, fault: Fault) -> bool {
        self.faults.contains(&fault)
    }

    /// The vault as it is asked.
    fn service(&self) -> Failing<'_, MemoryStorage> {
        Failing::new(&self.memory, move |call, number, about| self.decide(call, number, about))
    }

    fn decide(&self, call: Call, number: usize, about: &str) -> Option<memory::Fault> {
        use memory::Fault as Told;
        let hit = |every: usize| number.is_multiple_of(every);
        let jobs = || self.memory.jobs();
        match call {
            Call::Readiness => {
                let waiting = jobs().into_iter().filter(|job| job.state == JobState::Waiting);
                let waiting: Vec<Id> = waiting.map(|job| job.id).collect();
                // One that was looked at once is ready at the next look.
                if self.has(Fault::Slow) && self.waited.get() > 0 {
                    for job in &waiting {
                        self.memory.ready(job, true);
                    }
                }
                if self.has(Fault::Stuck) {
                    for job in &waiting {
                        self.memory.ready(job, false);
                    }
                    self.memory.pass(SignedDuration::from_hours(5));
                }
                self.waited.set(self.waited.get() + usize::from(!waiting.is_empty()));
                if self.has(Fault::FailJobs) {
                    for job in jobs() {
                        self.memory.fail(&job.id);
                    }
                }
                None
            }
            Call::Request if number == 1 && self.has(Fault::LoseReply) => {
                Some(Told::After(Failure::Passing("connection reset".into())))
            }
            Call::Read => self.faults.iter().find_map(|fault| match fault {
                Fault::Reorder if hit(2) => Some(Told::Slow(Duration::from_millis(30))),
                Fault::Flip(every) if hit(*every) => Some(Told::Flip),
                Fault::Cut(every) if hit(*every) => Some(Told::Cut),
                Fault::Expire(every) if hit(*every) => {
                    self.memory.forget_job(about);
                    None
                }
                _ => None,
            }),
            _ => None,
        }
    }
}

fn settings() -> Settings {
    Settings {
        tier: Some(Tier::Bulk),
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
        task.run(std::slice::from_ref(&vault.service()), settings).await
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
    assert_eq!((vault.memory.asked.get(), vault.memory.read.get()), (3, 4));
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
    assert_eq!((vault.memory.asked.get(), vault.memory.read.get()), (3, 4), "and asked for once");
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
    assert_eq!(vault.memory.asked.get(), 2);
}

#[test]
fn output_that_is_gone_is_asked_for_once_more() {
    let (result, _, vault) = get_two(&[Fault::Expire(4)], &settings());
    result.unwrap();
    assert_eq!(vault.memory.asked.get(), 4);
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
    assert_eq!((vault.memory.asked.get(), vault.memory.read.get()), (4, 7));
    assert!(collected.bytes().starts_with(&stream));
}

#[test]
fn no_more_is_asked_for_than_comes_in_twenty_hours() {
    let stream = data(6 * LEAF);
    let vault = Double::new(&[("a", &stream)], 2, &[Fault::Never]);
    vault.memory.begun_before("first", "a-0", None);
    let plan = plan(&lines(1, "a", &stream, 2), false).unwrap();
    let output = Output::new(Vec::new()).unwrap();
    // Three volumes of 2 MiB; two come in 20 hours.
    let bounds = Bounds { rate: Some(60), ..Bounds::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let task = Task::prepare(&plan, &output, None, &bounds, true).await.unwrap();
        let lines =
            task.request(std::slice::from_ref(&vault.service()), &settings()).await.unwrap();
        let jobs = lines.iter().filter(|line| matches!(line, Line::Job(_))).count();
        assert_eq!((jobs, vault.memory.asked.get()), (2, 1), "one was known");
    });
}

#[test]
fn a_lost_reply_does_not_pay_twice() {
    let (result, _, vault) = get_two(&[Fault::LoseReply], &settings());
    result.unwrap();
    assert_eq!(vault.memory.asked.get(), 3);
}

#[test]
fn a_job_of_a_range_or_that_failed_is_not_taken() {
    let stream = data(LEAF);
    let vault = Double::new(&[("a", &stream)], 2, &[]);
    let range = Some(Span { offset: 0, size: 1 });
    vault.memory.begun_before("range", "a-0", range);
    vault.memory.begun_before("failed", "a-0", None);
    vault.memory.fail("failed");
    let collected = Collected::new();
    get(&vault, &lines(1, "a", &stream, 2), &settings(), collected.command(COLLECT)).unwrap();
    assert_eq!(vault.memory.asked.get(), 1);
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
    assert_eq!((error.code(), error.to_string().as_str()), (69, "a: volume 0: no such archive"));
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
    never.memory.begun_before("first", "a-0", None);
    never.memory.ready("first", true);
    let script = "head -c 1000 >/dev/null; exit 4";
    let error = get(&never, &lines, &settings(), collected.command(script)).unwrap_err();
    assert_eq!(error.code(), 4, "{error}");
}

/// What is there is passed on first.
#[test]
fn what_is_not_ready_after_a_day_is_waited_for_no_more() {
    let stream = data(4 * LEAF);
    let vault = Double::new(&[("a", &stream)], 2, &[Fault::Stuck]);
    vault.memory.begun_before("first", "a-0", None);
    vault.memory.ready("first", true);
    let collected = Collected::new();
    let command = collected.command(COLLECT);
    let error = get(&vault, &lines(1, "a", &stream, 2), &settings(), command).unwrap_err();
    assert_eq!(
        (error.code(), &*error.to_string()),
        (
            75,
            "a: volume 1: was asked for over a day ago, and is not ready; run the same command again"
        )
    );
    assert_eq!(collected.bytes(), &stream[..2 * LEAF]);
    assert_eq!(vault.memory.asked.get(), 1);
}

#[test]
fn kills_the_command_before_its_input_is_closed() {
    let stream = data(4 * LEAF);
    let vault = Double::new(&[("a", &stream)], 2, &[Fault::Expire(2), Fault::Never]);
    for archive in ["a-0", "a-1"] {
        vault.memory.begun_before(archive, archive, None);
        vault.memory.ready(archive, true);
    }
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
    let vault = Double::new(&[("a", &stream)], 2, &[Fault::Slow]);
    for (id, is_ready) in [("first", true), ("second", false)] {
        vault.memory.begun_before(id, "a-0", None);
        vault.memory.ready(id, is_ready);
    }
    vault.memory.lose_output("first");
    let collected = Collected::new();
    get(&vault, &lines(1, "a", &stream, 2), &settings(), collected.command(COLLECT)).unwrap();
    assert_eq!(vault.memory.asked.get(), 0);
}
