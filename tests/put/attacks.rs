//! The spool under attack: whatever stands where a file of ours should be,
//! nothing outside is touched, nothing damaged is stored, nothing waits, and
//! the same command says the same until the cause is gone.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{MIB, NOT_WHOLE, before, chunk, id_of, put};
use crate::common::local::{Local, pattern};
use crate::common::stranger::Stranger;
use crate::common::{Ended, Place, run, skip, start};

/// A stream of three parts in two volumes that waits in a spool, and a file
/// outside that nothing may touch.
struct Scene {
    place: Place,
    server: Local,
    bytes: Vec<u8>,
    lines: String,
}

impl Scene {
    fn new() -> Self {
        let place = Place::default();
        let server = Local::start(&place);
        let bytes = pattern(3 * MIB);
        let lines = chunk(&place, "x", &bytes);
        fs::write(place.path("photograph"), &bytes[..MIB]).unwrap();
        put(&server, &place, &["--create-vault", "--allow-empty", "v"], "").done();
        Self { place, server, bytes, lines }
    }

    /// A file in the stream's directory.
    fn file(&self, name: &str) -> PathBuf {
        self.place.stream(&id_of(&self.lines)).join(name)
    }

    fn put(&self) -> Ended {
        put(&self.server, &self.place, &["v"], &self.lines)
    }

    /// Puts a stranger in place of a file; false where only root can.
    fn replace(&self, name: &str, by: Stranger) -> bool {
        by.take_the_place_of(&self.file(name), &self.place.path("photograph"))
    }

    #[track_caller]
    fn is_untouched(&self) {
        let outside = self.place.path("photograph");
        assert!(fs::read(outside).unwrap() == self.bytes[..MIB], "I6");
        assert!(!self.place.path("photograph.no").exists(), "I6");
    }

    /// That the same command says the same, twice.
    #[track_caller]
    fn says(&self, code: i32, message: &str) {
        for _ in 0..2 {
            self.put().failed(code, message);
            self.is_untouched();
        }
    }

    /// That all is well once chunk has run again.
    #[track_caller]
    fn heals(&self) {
        let lines = chunk(&self.place, "x", &self.bytes);
        put(&self.server, &self.place, &["v"], &lines).done();
        self.server.holds(&self.place, "v", &self.bytes);
        self.is_untouched();
    }
}

#[test]
fn what_stands_in_place_of_a_part_is_74_and_chunk_heals() {
    for stranger in Stranger::ALL {
        let scene = Scene::new();
        if !scene.replace("00000000-0001.part", stranger) {
            skip("root: is not running this, no device and no file of another user");
            continue;
        }
        scene.says(74, &format!("volume 0 part 1: cannot open: {}", stranger.why()));
        if stranger == Stranger::Directory {
            // Who put it there may have wanted to keep what is in it.
            let message = "volume 0 part 1: cannot write: Is a directory";
            super::chunk_as(&scene.place, &scene.bytes, &["--trust-eof", "--name", "x"])
                .failed(74, message);
            Stranger::clear(&scene.file("00000000-0001.part"));
        }
        scene.heals();
    }
}

#[test]
fn a_part_with_other_bytes_is_65_and_never_a_whole_request() {
    for (name, edit) in [
        ("its first", 0..1),
        ("one in the middle", MIB / 2..MIB / 2 + 1),
        ("its last", MIB - 1..MIB),
        ("all", 0..MIB),
    ] {
        let scene = Scene::new();
        let part = scene.file("00000000-0001.part");
        let mut bytes = fs::read(&part).unwrap();
        bytes[edit].iter_mut().for_each(|byte| *byte ^= 0x10);
        fs::write(&part, bytes).unwrap();
        let message =
            "volume 0 part 1: damaged in the spool; run glacier-chunk on the same stream again";
        scene.says(65, message);
        // The service did not have to refuse it: it never had all of it.
        let answered = scene.server.log().into_iter().filter(|call| {
            call["call"] == "UploadMultipartPart" && call["status"].as_u64() >= Some(300)
        });
        for call in answered {
            let said = call.to_string();
            assert!(!said.contains("hash") && !said.contains("checksum"), "{name}: {said}");
        }
        assert!(scene.server.archives("v").iter().all(|held| held.volume() == Some(1)), "{name}");
        scene.heals();
    }
}

/// Gives the part another linear hash in its line, as version 0.1.0 sometimes
/// did, and says what put says of it.
fn with_a_wrong_sha256(lines: &str, volume: u64, part: u64) -> (String, String) {
    let is_it = |line: &Value| {
        line["type"] == "part" && (&line["volume"], &line["part"]) == (&volume.into(), &part.into())
    };
    let lines = lines.lines().map(|line| {
        let mut line: Value = serde_json::from_str(line).unwrap();
        if is_it(&line) {
            line["sha256"] = "0123456789abcdef".repeat(4).into();
        }
        line.to_string() + "\n"
    });
    let warning = format!(
        "glacier-put: warning: volume {volume} part {part}: its tree hash is right, and the sha256 \
         in its line is not; sent with the right one\n"
    );
    (lines.collect(), warning)
}

#[test]
fn a_part_with_a_wrong_sha256_in_its_line_is_stored_and_told() {
    for (volume, part) in [(0, 0), (0, 1), (1, 0)] {
        let scene = Scene::new();
        let (lines, warning) = with_a_wrong_sha256(&scene.lines, volume, part);
        let stored = put(&scene.server, &scene.place, &["v"], &lines);
        assert_eq!((stored.code(), stored.stderr), (0, warning));
        scene.server.holds(&scene.place, "v", &scene.bytes);
        scene.is_untouched();
        // Once: the service was never asked to take it with the wrong one.
        let sent = scene.server.log().into_iter().filter(|call| {
            call["call"] == "UploadMultipartPart" && call["status"].as_u64() != Some(204)
        });
        for call in sent {
            assert!(!call.to_string().contains("hash"), "{call}");
        }
    }
}

#[test]
fn a_part_with_a_wrong_sha256_and_other_bytes_is_damaged() {
    let scene = Scene::new();
    let (lines, _) = with_a_wrong_sha256(&scene.lines, 0, 1);
    let part = scene.file("00000000-0001.part");
    let mut bytes = fs::read(&part).unwrap();
    bytes[MIB - 1] ^= 1;
    fs::write(&part, bytes).unwrap();
    let message =
        "volume 0 part 1: damaged in the spool; run glacier-chunk on the same stream again";
    put(&scene.server, &scene.place, &["v"], &lines).failed(65, message);
    assert!(scene.server.archives("v").iter().all(|held| held.volume() == Some(1)));
    scene.heals();
}

#[test]
fn a_part_of_another_size_is_75_and_chunk_heals() {
    for size in [0, 1, MIB - 1, MIB + 1] {
        let scene = Scene::new();
        let part = fs::File::options().write(true).open(scene.file("00000000-0001.part")).unwrap();
        part.set_len(size as u64).unwrap();
        scene.says(
            75,
            "volume 0 part 1: not in the spool as it was announced; run glacier-chunk again, with the same spool",
        );
        scene.heals();
    }
}

#[test]
fn what_stands_in_place_of_locks_and_journal_is_74_and_nothing_waits() {
    for stranger in Stranger::ALL {
        let scene = Scene::new();
        let id = id_of(&scene.lines);
        for (name, thing) in [("put.lock", "cannot lock"), ("put.jsonl", "journal: cannot open")] {
            if !scene.replace(name, stranger) {
                continue;
            }
            // What is asked for all streams names the file.
            let begins = match name {
                "put.jsonl" => format!("spool: cannot read: {id}: put.jsonl"),
                _ => format!("stream {id}: {thing}"),
            };
            scene.says(74, &format!("{begins}: {}", stranger.why()));
            Stranger::clear(&scene.file(name));
        }
        // Where it writes anew, what is there is replaced; it is no file that
        // anybody keeps.
        scene.replace("manifest.new", Stranger::Fifo);
        scene.heals();
    }
}

#[test]
fn what_stands_in_place_of_the_manifest_is_74_until_it_is_gone() {
    for stranger in Stranger::ALL {
        let scene = Scene::new();
        put(&scene.server, &scene.place, &["v"], before(&scene.lines, "end")).failed(75, NOT_WHOLE);
        if !scene.replace("manifest.jsonl", stranger) {
            continue;
        }
        let id = id_of(&scene.lines);
        scene.says(74, &format!("stream {id}: manifest: cannot open: {}", stranger.why()));
        Stranger::clear(&scene.file("manifest.jsonl"));
        scene.heals();
    }
}

#[test]
fn a_manifest_that_was_damaged_is_made_again() {
    let scene = Scene::new();
    // Full: the manifest is ready, and the stream is not stored.
    let path = scene.place.path("catalog.jsonl");
    put(&scene.server, &scene.place, &["v"], before(&scene.lines, "end")).failed(75, NOT_WHOLE);
    let mut traced = scene.place.command("strace");
    let program = scene.server.put(&scene.place, &[]).get_program().to_owned();
    let manifest = scene.file("manifest.jsonl");
    traced.args(["-f", "-qq", "-o", "trace", "-P"]).arg(&manifest);
    traced.args(["-e", "trace=pread64", "-e", "inject=pread64:error=EIO:when=1"]);
    traced.arg(program).arg("v").stdin(Stdio::piped());
    if Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_err() {
        skip("strace: not found, no manifest is damaged");
        return;
    }
    let mut running = start(scene.server.client(&mut traced));
    running.give(scene.lines.as_bytes());
    running.end_input();
    let ended = running.finish();
    if ended.stderr.contains("ptrace") {
        skip("strace: not allowed, no manifest is damaged");
        return;
    }
    ended.failed(74, "manifest part 0: cannot read: Input/output error");
    let mut text = fs::read(&manifest).unwrap();
    // A digit of a tree hash: the line is as good as before.
    let at = text.windows(12).position(|word| word == b"\"treehashes\"").unwrap() + 20;
    text[at] = if text[at] == b'0' { b'1' } else { b'0' };
    fs::write(&manifest, text).unwrap();
    assert!(path.exists());
    scene.heals();
}

#[test]
fn a_stream_whose_directory_is_none_is_74() {
    let scene = Scene::new();
    let id = id_of(&scene.lines);
    let directory = scene.place.stream(&id);
    let kept = scene.place.path("kept");
    fs::rename(&directory, &kept).unwrap();
    for by in [Stranger::Link, Stranger::Fifo, Stranger::HardLink] {
        by.take_the_place_of(&directory, &scene.place.path("photograph"));
        scene.put().failed_like(74, &format!("stream {id}: cannot open: "), "");
        scene.is_untouched();
        Stranger::clear(&directory);
    }
    // A link to the directory itself is none either.
    std::os::unix::fs::symlink(&kept, &directory).unwrap();
    scene.put().failed_like(74, &format!("stream {id}: cannot open: "), "");
    fs::remove_file(&directory).unwrap();
    fs::rename(&kept, &directory).unwrap();
    if std::os::unix::fs::chown(&directory, Some(12345), None).is_ok() {
        scene.says(74, &format!("stream {id}: cannot open: belongs to another user"));
        std::os::unix::fs::chown(&directory, Some(0), None).unwrap();
    }
    scene.heals();
}

#[test]
fn a_spool_that_is_none_is_told_at_once() {
    let scene = Scene::new();
    let spool = scene.place.spool();
    let kept = scene.place.path("kept");
    fs::rename(&spool, &kept).unwrap();
    let said = |why: &str| format!("spool {}: {why}", spool.display());
    for by in [Stranger::Fifo, Stranger::HardLink, Stranger::Link] {
        by.take_the_place_of(&spool, &scene.place.path("photograph"));
        scene.says(78, &said("not a directory"));
        Stranger::clear(&spool);
    }
    // The spool itself may be a link: its user made it.
    std::os::unix::fs::symlink(&kept, &spool).unwrap();
    scene.heals();
}

#[test]
fn what_is_left_in_a_stored_stream_is_named() {
    let scene = Scene::new();
    scene.replace("notes", Stranger::Directory);
    let message =
        format!("stream {}: cannot clear its spool: notes: Is a directory", id_of(&scene.lines));
    scene.says(74, &message);
    Stranger::clear(&scene.file("notes"));
    // A link goes, and not what it leads to.
    scene.replace("link", Stranger::Link);
    scene.heals();
    assert!(!scene.place.stream(&id_of(&scene.lines)).exists());
}

#[test]
fn a_receipt_that_is_none_is_named() {
    let scene = Scene::new();
    scene.heals();
    let done = fs::read_dir(scene.place.spool().join("done")).unwrap().next().unwrap().unwrap();
    fs::remove_file(scene.place.path("catalog.jsonl")).unwrap();
    let name = done.file_name().into_string().unwrap();
    Stranger::Fifo.take_the_place_of(&done.path(), &scene.place.path("photograph"));
    scene.says(74, &format!("spool: cannot read: done: {name}: not a regular file"));
    Stranger::clear(&done.path());
    put(&scene.server, &scene.place, &["--assume-new", "v"], "").failed_like(75, "stdin: ", "");
}

#[test]
fn a_line_without_an_end_is_refused_at_once() {
    let scene = Scene::new();
    let begin = Instant::now();
    let mut command = scene.server.put(&scene.place, &["v"]);
    let mut running = start(command.stdin(Stdio::piped()));
    let piece = vec![b'x'; 64 << 10];
    let mut given = 0_u64;
    // 4 GiB, if it took them.
    while given < 4 << 30 && running.give(&piece) {
        given += piece.len() as u64;
    }
    assert!(given < 2 << 20, "{given} bytes were taken");
    running
        .finish()
        .failed(65, "stdin: line 1: longer than 4096 bytes; are these lines of glacier-chunk?");
    assert!(begin.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_line_with_anything_in_it_reaches_nothing_outside() {
    let scene = Scene::new();
    let id = id_of(&scene.lines);
    let deep = format!("{}1{}", "[".repeat(2000), "]".repeat(2000));
    for (from, to) in [
        (id.as_str(), "../../../photograph"),
        (&id, "/etc/passwd"),
        (&id, "..\\u0000"),
        (&id, "00112233445566778899AABBCCDDEEFF"),
        ("\"volume\":0", "\"volume\":4294967296"),
        ("\"volume\":0", "\"volume\":-1"),
        ("\"volume\":0", "\"volume\":\"../x\""),
        ("\"volume\":0", "\"volume\":1e3"),
        ("\"part\":1", "\"part\":9007199254740993"),
        ("\"part\":1", "\"part\":18446744073709551616"),
        ("\"part\":1", "\"part\":0"),
        ("\"part\":1", "\"part\":2"),
        ("\"size\":1048576", "\"size\":9007199254740992"),
        ("\"offset\":1048576", "\"offset\":1048577"),
        ("\"part_size\":1048576", "\"part_size\":18446744073709551615"),
        ("\"part_size\":1048576", "\"part_size\":1048577"),
        ("\"size\":1048576", &format!("\"size\":{deep}")),
        ("\"type\":\"part\"", "\"type\":\"part\",\"type\":\"part\""),
        ("{\"type\":\"end\"", "\0{\"type\":\"end\""),
        ("{\"type\":\"end\"", "{\"type\":\"../end\""),
        ("{\"type\":\"part\"", "[{\"type\":\"part\""),
        ("\"host\":\"", "\"host\":\"\\ud800"),
    ] {
        let hostile = scene.lines.replacen(from, to, 1);
        assert_ne!(hostile, scene.lines, "{from}");
        let ended = put(&scene.server, &scene.place, &["v"], &hostile);
        let message = ended.stderr.clone();
        ended.failed_like(65, "stdin: line ", "");
        assert!(!message.contains('\0') && message.len() < 400, "{message}");
        scene.is_untouched();
    }
    // As chunk does not write them, but as good as its own.
    scene.heals();
}

#[test]
fn a_spool_that_vanishes_meanwhile_is_no_success() {
    let scene = Scene::new();
    let mut command = scene.server.put(&scene.place, &["v"]);
    let mut running = start(command.stdin(Stdio::piped()));
    running.give(before(&scene.lines, "volume").as_bytes());
    crate::common::until("it sends", || scene.server.calls("UploadMultipartPart") == 2);
    fs::rename(scene.place.spool(), scene.place.path("away")).unwrap();
    running.give(&scene.lines.as_bytes()[before(&scene.lines, "volume").len()..]);
    running.end_input();
    // The handle still leads there.
    running.finish().done();
    assert!(scene.place.path("away/done").exists());
    scene.is_untouched();
}

#[test]
fn a_kernel_without_openat2_will_do() {
    let scene = Scene::new();
    fs::write(scene.place.path("lines"), &scene.lines).unwrap();
    for error in ["ENOSYS", "EPERM"] {
        let mut traced = scene.place.command("strace");
        let program = scene.server.put(&scene.place, &[]).get_program().to_owned();
        let inject = format!("inject=openat2:error={error}");
        traced.args(["-f", "-qq", "-o", "trace", "-e", "trace=openat2", "-e", &inject]);
        traced.arg(program).arg("v");
        traced.stdin(fs::File::open(scene.place.path("lines")).unwrap());
        if Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_err() {
            skip("strace: not found, openat2 is there");
            return;
        }
        let ended = run(scene.server.client(&mut traced));
        if ended.stderr.contains("ptrace") {
            skip("strace: not allowed, openat2 is there");
            return;
        }
        if cfg!(target_os = "linux") {
            let trace = fs::read_to_string(scene.place.path("trace")).unwrap();
            assert!(trace.contains("(INJECTED)"), "{trace}");
        }
        ended.done();
        scene.server.holds(&scene.place, "v", &scene.bytes);
    }
}
