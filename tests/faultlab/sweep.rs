//! Every call of chunk, put, get and rm that touches spool, catalog, socket or
//! pipe, one after the other: it fails with EIO, ENOSPC or EINTR, or the
//! program is killed there. And writes that fall short, by a limit on files
//! and by a disk that is too small, as strace only pretends them.
//!
//! A column is a tool, a call and a fault. Its runs fail the first such call,
//! then the second, until a run comes to its end without a fault.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::common::local::{REGION, pattern};
use crate::judge;
use crate::lab::{self, Chance, Lab, Tally};
use crate::rig::{Pipeline, Rig, VAULT};

const MIB: usize = 1 << 20;

/// What is done instead of a call.
const FAULTS: [&str; 4] = ["signal=KILL", "error=EIO", "error=ENOSPC", "error=EINTR"];

/// The stream: three parts in two volumes.
const SIZE: usize = 2 * MIB + MIB / 2;
const VOLUME: u64 = 2 << 20;

/// Writes that fall short, when all calls are swept.
const SHORT: u64 = 200;

/// A tool, and the calls of it that are looked at.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Tool {
    Chunk,
    Put,
    Get,
    /// get, into a file that it goes on with.
    Output,
    Rm,
}

/// Where a call leads.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Way {
    /// Into a file of spool or catalog, or one that the tool was given.
    Files,
    /// To the network, or a pipe.
    Wires,
}

/// The runs that differ only in which of the calls fails.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Column {
    tool: Tool,
    way: Way,
    call: String,
    fault: &'static str,
}

impl Column {
    /// What strace is told of it.
    fn inject(&self, number: u64) -> [String; 4] {
        let Self { call, fault, .. } = self;
        [
            "-e".into(),
            format!("trace={call}"),
            "-e".into(),
            format!("inject={call}:{fault}:when={number}"),
        ]
    }

    /// No kernel gives these: what asks for news of files is only interrupted.
    fn is_possible(&self) -> bool {
        let asks = ["epoll_wait", "epoll_pwait", "poll", "ppoll"].contains(&self.call.as_str());
        !asks || matches!(self.fault, "signal=KILL" | "error=EINTR")
    }
}

/// Sweeps all calls, or as many of them as `runs` says.
pub fn run(lab: &Lab, runs: u64) -> Tally {
    if let Some(why) = no_strace() {
        return Tally::skipped(why);
    }
    let disks = Disk::are_allowed();
    let counted = count();
    println!("== sweep: {} columns, {} calls", counted.len(), counted.values().sum::<u64>());
    let columns: Vec<(&Column, u64)> = counted.iter().map(|(column, n)| (column, *n)).collect();
    let all = runs >= counted.values().sum();
    let cells = AtomicU64::new(0);
    let last = if all { columns.len() as u64 + SHORT } else { runs };
    let mut tally = lab.each(last, |run, chance| {
        let swept = usize::try_from(run).ok().and_then(|run| columns.get(run));
        match swept {
            Some((column, _)) if all => {
                cells.fetch_add(sweep(column) - 1, Ordering::SeqCst);
            }
            None if all => attack_writes(chance, disks),
            _ if run % 5 == 0 => attack_writes(chance, disks),
            _ => {
                let (column, most) = *chance.of(&columns);
                cell(column, 1 + chance.below(most));
            }
        }
    });
    if all && lab.only.is_none() {
        tally.runs += cells.into_inner();
    }
    if !disks {
        tally.skipped = Some("mount: not allowed, no disk is full".to_owned());
    }
    tally
}

/// All of a column; how many cells it has. Goes on behind a violation.
fn sweep(column: &Column) -> u64 {
    let mut wrong = Vec::new();
    for number in 1.. {
        let mut hit = true;
        if let Err(why) = lab::caught(|| hit = cell(column, number)) {
            wrong.push(why);
        }
        if !hit || wrong.len() > 3 {
            assert!(wrong.is_empty(), "{}", wrong.join(" || "));
            return number;
        }
    }
    0
}

/// Writes that fall short, by a limit or on a disk that is full.
fn attack_writes(chance: &mut Chance, disks: bool) {
    if disks && chance.one_in(2) { full(chance) } else { short_write(chance) }
}

pub fn no_strace() -> Option<String> {
    let mut strace = Command::new("strace");
    let traced =
        strace.args(["-f", "--seccomp-bpf", "-o", "/dev/null", "true"]).stderr(Stdio::null());
    match traced.status() {
        Err(_) => Some("strace: not found".to_owned()),
        Ok(status) if !status.success() => Some("strace: not allowed to trace".to_owned()),
        Ok(_) => None,
    }
}

/// How often each call is made when nothing fails.
fn count() -> BTreeMap<Column, u64> {
    let mut counted = BTreeMap::new();
    for tool in [Tool::Chunk, Tool::Put, Tool::Get, Tool::Output, Tool::Rm] {
        for way in [Way::Files, Way::Wires] {
            let rig = rig();
            // What threads wake each other with is neither socket nor pipe,
            // and what is read before it begins is its own code.
            let traced = match (way, tool) {
                (Way::Files, _) => "trace=%file,%desc",
                (Way::Wires, Tool::Chunk) => "trace=write,poll,ppoll",
                (Way::Wires, _) => {
                    "trace=%network,writev,poll,ppoll,epoll_wait,epoll_pwait,epoll_ctl"
                }
            };
            let trace = attack(&rig, tool, way, &["-e".to_owned(), traced.to_owned()]).1;
            // strace counts for each thread.
            let mut calls: BTreeMap<(&str, &str), u64> = BTreeMap::new();
            for line in trace.lines() {
                let mut words = line.split_ascii_whitespace();
                let (thread, rest) = (words.next().unwrap_or_default(), words.next());
                if let Some((call, _)) = rest.and_then(|rest| rest.split_once('(')) {
                    *calls.entry((call, thread)).or_default() += 1;
                }
            }
            for ((call, _), count) in calls {
                // The loading of the program, and of its threads.
                if ["execve", "access", "mmap", "socketpair"].contains(&call) {
                    continue;
                }
                for fault in FAULTS {
                    let column = Column { tool, way, call: call.to_owned(), fault };
                    if column.is_possible() {
                        let most: &mut u64 = counted.entry(column).or_default();
                        *most = count.max(*most);
                    }
                }
            }
        }
    }
    counted
}

fn rig() -> Rig {
    Rig::raw(pattern(SIZE), VOLUME)
}

/// Makes one call fail, and lets the judge see what is left. Whether there
/// was such a call.
fn cell(column: &Column, number: u64) -> bool {
    let mut hit = false;
    let result = lab::caught(|| {
        let rig = rig();
        let (ended, trace) = attack(&rig, column.tool, column.way, &column.inject(number));
        hit = trace.contains("(INJECTED") || trace.contains("+++ killed by SIGKILL +++");
        assert!(hit || ended == Some(0), "nothing failed, and it ends with {ended:?}");
        if matches!(column.tool, Tool::Chunk | Tool::Put) {
            judge::recover(&rig);
        }
    });
    if let Err(why) = result {
        let Column { tool, way, call, fault } = column;
        panic!("{tool:?} {way:?} {call} {fault} {number}: {why}");
    }
    hit
}

/// One run with one tool traced. Its exit code, and what strace saw.
fn attack(rig: &Rig, tool: Tool, way: Way, options: &[String]) -> (Option<i32>, String) {
    let trace = rig.place.path("trace");
    let wrapped = |command: Command| {
        let mut strace = vec!["-f", "--seccomp-bpf", "-qq", "-o"];
        strace.push(trace.to_str().unwrap());
        let paths = paths(rig);
        if way == Way::Files {
            strace.extend(paths.iter().flat_map(|path| ["-P", path.to_str().unwrap()]));
        }
        strace.extend(options.iter().map(String::as_str));
        strace.push("--");
        wrap(&command, "strace", &strace)
    };
    let ended = match tool {
        Tool::Chunk => {
            let mut chunk = wrapped(rig.chunk());
            chunk.stdin(File::open(rig.place.path("in")).unwrap());
            let ran = Pipeline::start(rig, vec![chunk, rig.put()]).finish();
            // There is nobody left to tell when the complaint itself fails.
            let is_complaint =
                |line: &str| line.contains("write(2,") && line.ends_with("(INJECTED)");
            if !fs::read_to_string(&trace).unwrap_or_default().lines().any(is_complaint) {
                ran.is_documented();
            }
            judge::promises(rig, &ran);
            // put waits for no more of a stream that is not whole.
            ran.codes[0]
        }
        Tool::Put => {
            let ran = Pipeline::start(rig, vec![rig.chunk(), wrapped(rig.put())]).finish();
            ran.is_documented();
            judge::promises(rig, &ran);
            ran.codes[1]
        }
        Tool::Get => get(rig, wrapped),
        Tool::Output => output(rig, wrapped),
        Tool::Rm => rm(rig, wrapped),
    };
    (ended, fs::read_to_string(trace).unwrap_or_default())
}

/// Stores, then brings back while a call fails: nothing wrong is passed on,
/// and the same command without a fault brings back all.
fn get(rig: &Rig, wrapped: impl Fn(Command) -> Command) -> Option<i32> {
    let stored = rig.start().finish();
    assert!(stored.is_done(), "{:?}", stored.said);
    fs::write(rig.place.path("chain"), rig.catalog()).unwrap();
    let bring = |command: Command| {
        let mut command = command;
        let back = File::create(rig.place.path("back")).unwrap();
        command.stdin(File::open(rig.place.path("chain")).unwrap());
        let output = command.stdout(back).stderr(Stdio::piped()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), said, fs::read(rig.place.path("back")).unwrap())
    };
    let tool = || rig.tool("glacier-get", &["--tier", "Expedited"]);
    let (code, said, back) = bring(wrapped(tool()));
    assert!(matches!(code, None | Some(0 | 65 | 69 | 74 | 75 | 77 | 78)), "{code:?}: {said}");
    assert!(
        said.lines().count() <= 1 && said.is_empty() == matches!(code, None | Some(0)),
        "{said}"
    );
    assert!(rig.bytes.starts_with(&back), "I5: wrong bytes were passed on");
    assert!(code != Some(0) || back == rig.bytes, "I5: not all, and no failure");
    let (code_again, said, back) = bring(tool());
    assert!(code_again == Some(0) && back == rig.bytes, "again: {code_again:?}: {said}");
    assert!(rig.is_untouched(), "I6");
    code
}

/// How a tool ended, and what it complained about; what it prints goes into
/// a file.
fn ended(rig: &Rig, mut command: Command) -> (Option<i32>, String) {
    command.stdin(File::open(rig.place.path("chain")).unwrap());
    command.stdout(File::create(rig.place.path("put.out")).unwrap()).stderr(Stdio::piped());
    let output = command.output().unwrap();
    let (code, said) = (output.status.code(), String::from_utf8(output.stderr).unwrap());
    assert!(matches!(code, None | Some(0 | 65 | 69 | 74 | 75 | 77 | 78)), "{code:?}: {said}");
    assert!(said.lines().all(|line| line.starts_with("glacier-")), "{said}");
    let failed = said.lines().filter(|line| !line.contains(": warning: ")).count();
    assert_eq!(failed > 0, !matches!(code, None | Some(0)), "{code:?}: {said}");
    (code, said)
}

fn stored(rig: &Rig) {
    let ran = rig.start().finish();
    assert!(ran.is_done(), "{:?}", ran.said);
    fs::write(rig.place.path("chain"), rig.catalog()).unwrap();
}

/// Stores, then brings back into a file while a call fails: no other bytes are
/// in it, and the same command goes on.
fn output(rig: &Rig, wrapped: impl Fn(Command) -> Command) -> Option<i32> {
    stored(rig);
    let back = rig.place.path("back");
    let tool = || {
        let mut get = rig.tool("glacier-get", &["--tier", "Expedited", "--output"]);
        get.arg(&back);
        get
    };
    let (code, said) = ended(rig, wrapped(tool()));
    let got = fs::read(&back).unwrap_or_default();
    assert!(rig.bytes.starts_with(&got), "I5: other bytes were written");
    assert!(code != Some(0) || got == rig.bytes, "I5: not all, and no failure: {said}");
    let (code_again, said) = ended(rig, tool());
    let got = fs::read(&back).unwrap_or_default();
    assert!(code_again == Some(0) && got == rig.bytes, "again: {code_again:?}: {said}");
    assert_eq!(rig.server.calls("InitiateJob"), 2, "jobs, for two archives");
    assert!(rig.is_untouched(), "I6");
    code
}

/// Stores, then deletes while a call fails: the same command goes on, and what
/// is stored then is as if nothing had been.
fn rm(rig: &Rig, wrapped: impl Fn(Command) -> Command) -> Option<i32> {
    stored(rig);
    let before = rig.server.archives(VAULT);
    let tool = || rig.tool("glacier-rm", &["--yes", VAULT]);
    let (code, said) = ended(rig, wrapped(tool()));
    assert!(code != Some(0) || rig.server.archives(VAULT).is_empty(), "not all: {said}");
    let (code_again, said) = ended(rig, tool());
    assert_eq!(code_again, Some(0), "I4: again: {said}");
    assert!(rig.server.archives(VAULT).is_empty(), "archives are left");
    let catalog = rig.catalog();
    for held in before {
        let told = |line: &str| line.contains("\"deleted\"") && line.contains(&held.id);
        assert!(catalog.lines().any(told), "no line tells that {} is gone", held.id);
    }
    judge::recover(rig);
    code
}

/// The same program within another one.
fn wrap(command: &Command, program: &str, arguments: &[&str]) -> Command {
    let mut wrapped = Command::new(program);
    wrapped.env_clear().args(arguments).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            wrapped.env(name, value);
        }
    }
    wrapped.current_dir(command.get_current_dir().unwrap());
    wrapped
}

/// All that the tools have in their hands here: strace compares names whole.
fn paths(rig: &Rig) -> Vec<PathBuf> {
    let spool = rig.spool();
    let mut paths = vec![rig.home.clone(), rig.home.join("catalog.jsonl"), spool.clone()];
    paths.extend(["in", "chain", "back", "put.out"].map(|name| rig.place.path(name)));
    paths.push(spool.join("done"));
    let id = stream_id();
    let stream = spool.join(&id);
    paths.push(spool.join(format!("done/{id}.glacier---{VAULT}.{REGION}.jsonl")));
    let names = ["lines", "manifest"].map(|name| [format!("{name}.new"), format!("{name}.jsonl")]);
    paths.extend(names.concat().iter().map(|name| stream.join(name)));
    paths.extend(["put.jsonl", "put.lock", "chunk.lock"].map(|name| stream.join(name)));
    for part in ["00000000-0000", "00000000-0001", "00000001-0000"] {
        paths.push(stream.join(format!("{part}.part")));
        paths.push(stream.join(format!("{part}.part.new")));
    }
    paths.push(stream);
    paths
}

/// What the stream of these rigs is called.
fn stream_id() -> String {
    use akashita::line::StreamId;
    use sha2::{Digest as _, Sha256};
    let identity = Sha256::new().chain_update(b"name\0").chain_update("x");
    StreamId::new(identity, 1 << 20, VOLUME).to_string()
}

/// Writes that fall short at any byte: files have a limit.
fn short_write(chance: &mut Chance) {
    let rig = rig();
    // In blocks of 512 bytes. Most files of put are small; the complaint
    // goes into a file as well.
    let blocks = 1 + if chance.one_in(2) { chance.below(12) } else { chance.below(2100) };
    // Without the trap the signal ends the program, as a kill does.
    let trap = if chance.one_in(4) { "" } else { "trap '' XFSZ; " };
    let script = format!("{trap}ulimit -f {blocks}; exec \"$0\" \"$@\"");
    let limited = |command: Command| wrap(&command, "sh", &["-c", &script]);
    let pipeline = if chance.one_in(2) {
        let mut chunk = limited(rig.chunk());
        chunk.stdin(File::open(rig.place.path("in")).unwrap());
        Pipeline::start(&rig, vec![chunk, rig.put()])
    } else {
        Pipeline::start(&rig, vec![rig.chunk(), limited(rig.put())])
    };
    let ran = pipeline.finish();
    if let Err(why) = lab::caught(|| {
        ran.is_documented();
        judge::promises(&rig, &ran);
        judge::recover(&rig);
    }) {
        panic!("{script}: {why}");
    }
}

/// A disk of its own for spool and catalog.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: &Path, kib: u64) -> Option<Self> {
        let size = format!("size={kib}k");
        fs::create_dir_all(at).unwrap();
        let options = ["-t", "tmpfs", "-o", &size, "none"].map(OsStr::new);
        let mut mount = Command::new("mount");
        mount.args(options).arg(at).stderr(Stdio::null());
        mount.status().is_ok_and(|status| status.success()).then(|| Self(at.to_owned()))
    }

    /// Whether any can be had here.
    fn are_allowed() -> bool {
        let there = tempfile::tempdir().unwrap();
        Self::mount(&there.path().join("disk"), 64).is_some()
    }

    fn enlarge(&self) {
        let mut mount = Command::new("mount");
        let grown = mount.args(["-o", "remount,size=8g"]).arg(&self.0).status().unwrap();
        assert!(grown.success(), "the disk does not grow");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A disk that is full at any moment, and then is not.
fn full(chance: &mut Chance) {
    let rig = rig();
    // From too small for a stream's directory to a little too large.
    let kib = if chance.one_in(2) { 4 + chance.below(120) } else { 4 + chance.below(3200) };
    let disk = Disk::mount(&rig.home, kib).unwrap();
    let mut chunk = rig.chunk();
    chunk.args(["--reserve", "0", "--patience", "0s"]);
    let ran = Pipeline::start(&rig, vec![chunk, rig.put()]).finish();
    if let Err(why) = lab::caught(|| {
        ran.is_documented();
        judge::promises(&rig, &ran);
        disk.enlarge();
        judge::recover(&rig);
    }) {
        panic!("a disk of {kib} KiB: {why}");
    }
}
