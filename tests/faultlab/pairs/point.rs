//! Where a program can stand: before a call that creates, renames, unlinks,
//! locks or writes a file that others know, or, of a script, starts a program.
//!
//! A point is a place in the code and not each repetition: the call, the file
//! with its numbers left out, and whether it is the first of its kind, the
//! second or the last.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The calls that are looked at. strace says nothing of those that a kernel
/// has not.
pub const CALLS: &str = "open,openat,openat2,creat,rename,renameat,renameat2,link,linkat,symlink,\
     symlinkat,unlink,unlinkat,rmdir,mkdir,mkdirat,flock,write,pwrite64,writev,ftruncate,execve";

/// The programs whose start is a place in a script.
const PROGRAMS: [&str; 5] = ["zfs", "tar", "at", "atq", "mv"];

/// A call as strace tells it.
#[derive(Debug)]
pub struct Call {
    /// The thread that makes it.
    pub thread: i32,
    /// Its name, and of `flock` what is done to the lock.
    pub name: String,
    /// The file that it is about; of `execve` the program.
    pub file: PathBuf,
    /// What a program is started with.
    words: Vec<String>,
    /// Bytes that are written.
    pub size: u64,
    /// How strace was told the file's name, where a directory's handle goes before.
    is_relative: bool,
}

/// A place in the code.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Point {
    /// The call, as [`Call::name`].
    pub call: String,
    /// What the file is called where numbers do not count.
    pub kind: String,
    /// Which of its kind.
    which: &'static str,
    /// The file, below the directory of the scene; or a program.
    path: PathBuf,
    is_relative: bool,
    /// Which of the calls of this name on this file.
    number: usize,
}

impl Call {
    /// What a line of strace tells, if it is a call that counts.
    pub fn parse(line: &str, root: &Path) -> Option<Self> {
        let (thread, rest) = line.split_once(' ')?;
        let thread = thread.parse().ok()?;
        let (name, rest) = rest.trim_start().split_once('(')?;
        if !CALLS.split(',').any(|call| call.trim() == name) {
            return None;
        }
        let told = rest.split(") = ").next().unwrap_or(rest);
        if name.starts_with("open") && !["O_CREAT", "O_TRUNC"].iter().any(|it| told.contains(it)) {
            return None;
        }
        let (handles, texts) = tokens(told);
        // Of rename the old name.
        let (file, is_relative) = match (name, handles.first(), texts.first()) {
            ("flock" | "write" | "pwrite64" | "writev" | "ftruncate", Some(handle), _) => {
                (PathBuf::from(handle), false)
            }
            (_, Some(handle), Some(text)) if name.ends_with("at") || name.ends_with("at2") => {
                (Path::new(handle).join(text), !text.starts_with('/'))
            }
            ("flock" | "write" | "pwrite64" | "writev" | "ftruncate", None, _) => return None,
            (_, _, Some(text)) => (root.join(text), !text.starts_with('/')),
            _ => return None,
        };
        let mut full = name.to_owned();
        if name == "flock" {
            let how = if told.contains("LOCK_UN") { " LOCK_UN" } else { " LOCK_EX" };
            full.push_str(if told.contains("LOCK_SH") { " LOCK_SH" } else { how });
        }
        let size = told.trim_end_matches(" <unfinished ...>").rsplit(", ").next();
        let size = size.and_then(|size| size.parse().ok()).unwrap_or(0);
        let words = if name == "execve" { texts[1..].to_vec() } else { Vec::new() };
        Some(Self { thread, name: full, file, words, size, is_relative })
    }

    /// What it is about, if others know that too, where numbers do not count.
    fn kind(&self, root: &Path) -> Option<String> {
        if self.name == "execve" {
            let program = self.file.file_name()?.to_str()?;
            let is_ours = program.starts_with("glacier-") || program.starts_with("akashita-");
            if !is_ours && !PROGRAMS.contains(&program) {
                return None;
            }
            let root = root.to_str()?;
            let words: Vec<String> =
                self.words.iter().skip(1).map(|word| plain(&word.replace(root, "."))).collect();
            return Some(format!("{program} {}", words.join(" ")).trim_end().to_owned());
        }
        let below = self.file.strip_prefix(root).ok()?.to_str()?;
        // What a program says and notes about itself decides nothing.
        let is_shared = ["home", "home.2", "out", "kept"];
        let first = below.split('/').next()?;
        // Nor is a file known by others that has a name by chance.
        let is_private = below.ends_with("/log") || below.contains("/.tmp");
        (is_shared.contains(&first) && !is_private).then(|| plain(below))
    }
}

/// The names behind handles, and the texts in quotes, in their order.
fn tokens(told: &str) -> (Vec<String>, Vec<String>) {
    let (mut handles, mut texts) = (Vec::new(), Vec::new());
    let mut rest = told;
    while let Some(at) = rest.find(['<', '"']) {
        let (until, found) =
            if rest[at..].starts_with('<') { ('>', &mut handles) } else { ('"', &mut texts) };
        let inner = &rest[at + 1..];
        let Some(end) = inner.find(until) else { break };
        found.push(inner[..end].to_owned());
        rest = &inner[end + 1..];
    }
    (handles, texts)
}

/// A name in which runs of digits, ids and times do not count.
fn plain(name: &str) -> String {
    let mut text = String::new();
    for word in name.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
        let (body, end) = match word.char_indices().next_back() {
            Some((at, last)) if !last.is_ascii_alphanumeric() => word.split_at(at),
            _ => (word, ""),
        };
        let is_id = body.len() == 32 && body.bytes().all(|b| b.is_ascii_hexdigit());
        let digits = body.bytes().filter(u8::is_ascii_digit).count();
        // As mktemp makes them.
        let is_chance = body.len() == 10 && text.ends_with("tmp.");
        match body {
            _ if is_chance => text.push('R'),
            _ if is_id => text.push_str("ID"),
            _ if digits > 0 && digits == body.len() => text.push('N'),
            _ if digits > 1 => text.push('T'),
            _ => text.push_str(body),
        }
        text.push_str(end);
    }
    text
}

impl Point {
    /// The places that a trace shows, in the order of their names.
    pub fn all(trace: &str, root: &Path) -> Vec<Self> {
        let mut kinds: BTreeMap<(String, String), Vec<(Call, usize)>> = BTreeMap::new();
        let mut numbers: BTreeMap<(String, PathBuf, String), usize> = BTreeMap::new();
        // The first is the start of the program itself.
        for line in trace.lines().skip(1) {
            let Some(call) = Call::parse(line, root) else { continue };
            let Some(kind) = call.kind(root) else { continue };
            // One program is started for many things.
            let what = if call.name == "execve" { kind.clone() } else { String::new() };
            let number = numbers.entry((call.name.clone(), call.file.clone(), what)).or_default();
            *number += 1;
            let number = *number;
            kinds.entry((call.name.clone(), kind)).or_default().push((call, number));
        }
        let mut points = Vec::new();
        for ((name, kind), calls) in kinds {
            let last = calls.len() - 1;
            for (at, which) in [(0, "first"), (1, "second"), (last, "last")] {
                if at > last || (which == "last" && at < 2) {
                    continue;
                }
                let (call, number) = &calls[at];
                let path = call.file.strip_prefix(root).unwrap_or(&call.file).to_owned();
                points.push(Self {
                    call: name.clone(),
                    kind: kind.clone(),
                    which,
                    path,
                    is_relative: call.is_relative,
                    number: *number,
                });
            }
        }
        points
    }

    /// What it is called.
    pub fn name(&self) -> String {
        format!("{} {} {}", self.which, self.call, self.kind)
    }

    /// Whether bytes are written here.
    pub fn is_write(&self) -> bool {
        ["write", "pwrite64", "writev"].contains(&self.call.as_str())
    }

    /// What strace is told, to make every call wait that may be this one.
    pub fn options(&self, root: &Path, wait: &str) -> Vec<String> {
        let call = self.call.split(' ').next().unwrap_or_default();
        let path = root.join(&self.path);
        let mut options = vec!["-e".into(), format!("trace={call}")];
        options.extend(["-P".into(), path.display().to_string()]);
        if self.is_relative
            && let Some(name) = path.file_name()
        {
            // It compares names as they are given.
            options.extend(["-P".into(), name.to_string_lossy().into_owned()]);
        }
        options.extend(["-e".into(), format!("inject={call}:delay_enter={wait}")]);
        options
    }

    /// Whether a call is of this name on this file.
    fn is(&self, call: &Call, root: &Path) -> bool {
        call.name == self.call
            && call.file == root.join(&self.path)
            && (call.name != "execve" || call.kind(root).as_ref() == Some(&self.kind))
    }

    /// The call at this point, if a trace has come so far.
    pub fn reached(&self, trace: &str, root: &Path) -> Option<Call> {
        let calls = trace.lines().filter_map(|line| Call::parse(line, root));
        calls.filter(|call| self.is(call, root)).nth(self.number - 1)
    }
}
