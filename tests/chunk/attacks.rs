//! The spool under attack: nothing outside is touched, nothing waits, and the
//! same command heals, or says the same until the cause is gone.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::fs::{FlockOperation, flock};
use serde_json::json;

use super::{MIB, bytes, chunk, id, stream, tells};
use crate::common::stranger::Stranger;
use crate::common::{Ended, Place, run, run_on, run_with, skip};

const NAMED: &str = "--part-size 1M --volume-size 2M --spool-limit none --name x --trust-eof";

/// A stream that is in the spool, and a file outside.
struct Scene {
    place: Place,
    input: Vec<u8>,
    id: String,
}

impl Scene {
    fn new() -> Self {
        let place = Place::default();
        let input = bytes(3 * MIB + 5);
        fs::write(place.path("photograph"), "the only copy").unwrap();
        let ended = run_with(&mut chunk(&place, NAMED), &input).done();
        Self { id: id(&ended.lines()).to_owned(), place, input }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.place.stream(&self.id).join(name)
    }

    fn replace(&self, name: &str, by: Stranger) -> bool {
        by.take_the_place_of(&self.file(name), &self.place.path("photograph"))
    }

    fn cut(&self) -> Ended {
        run_with(&mut chunk(&self.place, NAMED), &self.input)
    }

    #[track_caller]
    fn is_untouched(&self) {
        assert_eq!(fs::read(self.place.path("photograph")).unwrap(), b"the only copy", "I6");
        assert!(!self.place.path("photograph.no").exists(), "I6");
    }

    #[track_caller]
    fn heals(&self) {
        let ended = self.cut().done();
        tells(&self.place, &ended, &self.input, MIB, 2 * MIB);
        self.is_untouched();
    }
}

#[test]
fn what_it_writes_anew_takes_the_place_of_what_is_there() {
    for stranger in Stranger::ALL {
        for name in ["00000000-0001.part", "00000000-0001.part.new", "lines.jsonl", "lines.new"] {
            let scene = Scene::new();
            if !scene.replace(name, stranger) {
                skip("root: is not running this, no device and no file of another user");
                continue;
            }
            if stranger == Stranger::Directory {
                for _ in 0..2 {
                    let why = match name {
                        "00000000-0001.part" => "volume 0 part 1: cannot write: Is a directory",
                        "00000000-0001.part.new" => {
                            "volume 0 part 1: cannot create: Is a directory"
                        }
                        _ => {
                            &format!("stream {}: cannot record its lines: Is a directory", scene.id)
                        }
                    };
                    scene.cut().failed(74, why);
                }
                Stranger::clear(&scene.file(name));
            }
            scene.heals();
        }
    }
}

#[test]
fn what_it_reads_is_a_file_of_its_own_or_74() {
    for stranger in Stranger::ALL {
        for (name, thing) in [
            ("chunk.lock", "cannot lock"),
            ("put.jsonl", "journal: cannot open"),
            ("respool", "cannot read its notes"),
        ] {
            let scene = Scene::new();
            // A note is read where there is a journal.
            let journal =
                json!({"type": "journal", "v": 1, "stream": scene.id, "dest": "glacier://v"});
            fs::write(scene.file("put.jsonl"), format!("{journal}\n")).unwrap();
            if !scene.replace(name, stranger) {
                continue;
            }
            let message = format!("stream {}: {thing}: {}", scene.id, stranger.why());
            for _ in 0..2 {
                scene.cut().failed(74, &message);
                scene.is_untouched();
            }
            Stranger::clear(&scene.file(name));
            let _ = fs::remove_file(scene.file("put.jsonl"));
            scene.heals();
        }
    }
}

#[test]
fn a_note_never_writes_through_a_link() {
    let scene = Scene::new();
    let treehash = akashita::hash::tree::TreeHash::of(b"other");
    let archived = json!({
        "type": "archived", "volume": 0, "archive_id": "a", "size": 2 * MIB,
        "treehash": treehash, "uploaded": "2026-11-23T22:00:00Z",
    });
    let journal = json!({"type": "journal", "v": 1, "stream": scene.id, "dest": "glacier://v"});
    for stranger in [Stranger::Link, Stranger::Dangling, Stranger::HardLink, Stranger::Fifo] {
        fs::write(scene.file("put.jsonl"), format!("{journal}\n{archived}\n")).unwrap();
        scene.replace("respool.new", stranger);
        let told = scene.cut();
        told.failed_like(75, "volume 0: its bytes are not those", "to send it anew");
        scene.is_untouched();
        assert_eq!(fs::read_to_string(scene.file("respool")).unwrap(), "0 0\n");
        fs::remove_file(scene.file("respool")).unwrap();
    }
    fs::remove_file(scene.file("put.jsonl")).unwrap();
    scene.heals();
}

#[test]
fn parts_of_others_names_are_no_parts() {
    let scene = Scene::new();
    // Behind the end, and so removed, if they were parts.
    let names = ["+9-0.part", "9-0.part", "00000009-0000.part.old", "00000009-00000.part", "notes"];
    for name in names {
        fs::write(scene.file(name), b"x").unwrap();
    }
    fs::write(scene.file("00000009-0000.part"), b"x").unwrap();
    scene.cut().done();
    assert!(names.iter().all(|name| scene.file(name).exists()));
    assert!(!scene.file("00000009-0000.part").exists());
    for name in names {
        fs::remove_file(scene.file(name)).unwrap();
    }
    scene.heals();
}

#[test]
fn parts_that_were_damaged_are_written_anew() {
    let scene = Scene::new();
    for name in ["00000000-0000.part", "00000000-0001.part", "00000001-0000.part"] {
        let mut part = fs::read(scene.file(name)).unwrap();
        part[MIB / 3] ^= 1;
        fs::write(scene.file(name), part).unwrap();
    }
    fs::write(scene.file("00000001-0001.part"), b"").unwrap();
    scene.heals();
}

#[test]
fn a_spool_that_is_none_is_told_before_the_first_byte() {
    let place = Place::default();
    fs::write(place.path("photograph"), b"kept").unwrap();
    let spool = place.spool();
    let said = |why: &str| format!("spool {}: {why}", spool.display());
    for by in [Stranger::Fifo, Stranger::HardLink, Stranger::Link, Stranger::Socket] {
        by.take_the_place_of(&spool, &place.path("photograph"));
        for _ in 0..2 {
            let ended = run_on(&mut chunk(&place, ""), &stream("full.zfs"));
            ended.failed(78, &said("not a directory"));
        }
        Stranger::clear(&spool);
    }
    std::os::unix::fs::symlink(place.path("nowhere"), &spool).unwrap();
    let ended = run_on(&mut chunk(&place, ""), &stream("full.zfs"));
    ended.failed(74, &said("No such file or directory"));
    fs::remove_file(&spool).unwrap();
    fs::create_dir(&spool).unwrap();
    for mode in [0o755, 0o770, 0o701, 0o702] {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(&spool, fs::Permissions::from_mode(mode)).unwrap();
        let ended = run_on(&mut chunk(&place, ""), &stream("full.zfs"));
        ended.failed(78, &said("open to other users; chmod 700 it"));
        fs::set_permissions(&spool, fs::Permissions::from_mode(0o700)).unwrap();
    }
    if std::os::unix::fs::chown(&spool, Some(12345), None).is_ok() {
        let ended = run_on(&mut chunk(&place, ""), &stream("full.zfs"));
        ended.failed(78, &said("belongs to another user"));
        std::os::unix::fs::chown(&spool, Some(0), None).unwrap();
    }
    // The spool itself may be a link: its user made it.
    fs::rename(&spool, place.path("elsewhere")).unwrap();
    std::os::unix::fs::symlink(place.path("elsewhere"), &spool).unwrap();
    run_on(&mut chunk(&place, ""), &stream("full.zfs")).done();
    assert_eq!(fs::read(place.path("photograph")).unwrap(), b"kept");
}

#[test]
fn a_lock_of_somebody_who_does_not_say_who_is_75() {
    let scene = Scene::new();
    let lock = File::options().write(true).truncate(true).open(scene.file("chunk.lock")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    let message =
        format!("stream {}: glacier-chunk works on it; run the same command later", scene.id);
    scene.cut().failed(75, &message);
    drop(lock);
    scene.heals();
}

#[test]
fn new_directories_are_private_and_durable() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::default();
    let spool = place.path("a/b/spool");
    let mut command = chunk(&place, "");
    let mut traced = place.command("strace");
    traced.args(["-f", "-y", "-qq", "-o", "trace", "-e", "trace=fsync,mkdir,mkdirat"]);
    traced.arg(command.get_program()).env("GLACIER_SPOOL", &spool);
    let has_strace = Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_ok();
    let input = File::open(stream("full.zfs")).unwrap();
    if has_strace {
        run(traced.stdin(input)).done();
        let trace = fs::read_to_string(place.path("trace")).unwrap();
        for made in ["a/b/spool", "a/b", "a"] {
            let above = place.path(made).parent().unwrap().canonicalize().unwrap();
            assert!(trace.contains(&format!("<{}>)", above.display())), "{made}: {trace}");
        }
    } else {
        skip("strace: not found, what is synced is not seen");
        run(command.env("GLACIER_SPOOL", &spool).stdin(input)).done();
    }
    for made in ["a", "a/b", "a/b/spool"] {
        assert_eq!(place.path(made).metadata().unwrap().permissions().mode() & 0o777, 0o700);
    }
}
