//! A file that is gone on with.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, symlink};

use rustix::fs::{FlockOperation, flock};

use super::scene::{MIB, Scene};
use crate::common::{run_with, start, start_into, until};

const TO_FILE: [&str; 4] = ["--tier", "Expedited", "--output", "file"];

#[test]
fn a_killed_run_is_gone_on_with_and_nothing_is_paid_twice() {
    let mut scene = Scene::new();
    let path = scene.place.path("file");
    scene.server.fail(r#"{"call":"GetJobOutput","nth":2,"do":"stall-answer","bytes":100}"#);
    let input = scene.place.path("input");
    fs::write(&input, &scene.lines).unwrap();
    let mut get = scene.get(&[&TO_FILE[..], &["--concurrency", "1"]].concat());
    get.stdin(File::open(&input).unwrap());
    let mut running = start_into(&mut get, File::create(scene.place.path("out")).unwrap());
    until("the first volume is there", || {
        fs::metadata(&path).is_ok_and(|file| file.len() == 2 * MIB as u64)
    });
    running.kill();
    drop(running);
    assert!(fs::read(&path).unwrap() == scene.bytes[..2 * MIB]);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    // What a power cut left of the next part.
    fs::write(&path, [&scene.bytes[..3 * MIB + 1000], &[0; 1000]].concat()).unwrap();
    scene.server.fail("");
    scene.run(&TO_FILE).done();
    assert!(fs::read(&path).unwrap() == scene.bytes);
    assert_eq!(scene.calls()[0], 3);
    let log = scene.server.log();
    let ranges =
        log.iter().filter(|line| line["call"] == "GetJobOutput").map(|line| &line["range"]);
    let rest = format!("bytes={MIB}-{}", 2 * MIB - 1);
    assert!(ranges.clone().any(|range| *range == rest), "{:?}", ranges.collect::<Vec<_>>());
}

#[test]
fn a_file_that_is_whole_needs_no_service() {
    let scene = Scene::new();
    scene.run(&TO_FILE).done();
    let before = scene.calls();
    let mut bare = scene.place.tool("glacier-get", &TO_FILE);
    run_with(&mut bare, scene.lines.as_bytes()).done();
    assert_eq!(scene.calls(), before);
    assert!(fs::read(scene.place.path("file")).unwrap() == scene.bytes);
}

#[test]
fn a_file_of_other_bytes_is_refused_and_left_alone() {
    let scene = Scene::new();
    let path = scene.place.path("file");
    let other = "output file: has other bytes than the stream; name another file";
    let too_long = "output file: goes on behind the end of the stream";
    let mut longer = scene.bytes.clone();
    longer.push(0);
    for (bytes, said) in [(&scene.bytes[1..], other), (&longer, too_long)] {
        fs::write(&path, bytes).unwrap();
        scene.run(&TO_FILE).failed(65, said);
        assert!(fs::read(&path).unwrap() == *bytes, "untouched");
        assert_eq!(scene.calls(), [0; 3], "nothing is asked");
    }
    // Less than a part tells nothing until the part is there.
    fs::write(&path, "notes").unwrap();
    scene.run(&TO_FILE).failed(65, other);
    assert_eq!(fs::read(&path).unwrap(), b"notes");
    fs::write(&path, &scene.bytes[..1000]).unwrap();
    scene.run(&TO_FILE).done();
    assert!(fs::read(&path).unwrap() == scene.bytes);
}

#[test]
fn what_is_no_file_is_refused() {
    let scene = Scene::new();
    fs::write(scene.place.path("target"), "").unwrap();
    symlink("target", scene.place.path("file")).unwrap();
    scene.run(&TO_FILE).failed(65, "output file: a symbolic link, which is not followed");
    let to = ["--output", "/dev/null"];
    scene.run(&to).failed(65, "output /dev/null: not a regular file");
    assert_eq!(scene.calls(), [0; 3]);
    let both = scene.run(&["--output", "file", "--keep", "kept"]);
    assert_eq!(both.code(), 64, "{}", both.stderr);
}

#[test]
fn a_file_that_another_program_works_on_is_75() {
    let scene = Scene::new();
    let other = File::create(scene.place.path("file")).unwrap();
    flock(&other, FlockOperation::LockExclusive).unwrap();
    scene
        .run(&TO_FILE)
        .failed(75, "output file: another program works on it; run the same command later");
}

#[test]
fn a_file_that_another_program_makes_meanwhile_is_75() {
    let scene = Scene::new();
    let mut get = scene.get(&["--output", "file"]);
    fs::write(scene.place.path("input"), &scene.lines).unwrap();
    get.stdin(File::open(scene.place.path("input")).unwrap());
    let running = start(&mut get);
    until("it has asked for the archives", || scene.calls()[0] == 3);
    fs::write(scene.place.path("file"), "").unwrap();
    running
        .finish()
        .failed(75, "output file: another program made it meanwhile; run the same command later");
}

#[test]
fn a_disk_that_is_full_keeps_what_is_there() {
    let scene = Scene::new();
    // 2,500 KiB.
    let full = scene.within("trap '' XFSZ; ulimit -f 5000;", &TO_FILE.join(" "));
    full.failed(74, "output file: cannot write: File too large");
    let there = fs::read(scene.place.path("file")).unwrap();
    assert!(there.len() >= 2 * MIB && scene.bytes.starts_with(&there));
    scene.run(&TO_FILE).done();
    assert!(fs::read(scene.place.path("file")).unwrap() == scene.bytes);
    assert_eq!(scene.calls()[0], 3);
}
