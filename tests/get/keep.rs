//! Volumes that are kept, and read again.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;

use rustix::fs::{FlockOperation, flock};

use super::scene::{MIB, Scene};

const KEPT: [&str; 4] = ["--tier", "Expedited", "--keep", "kept"];

fn names(scene: &Scene) -> Vec<String> {
    let name = |path: &std::path::PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    scene.kept().iter().map(name).collect()
}

#[test]
fn a_command_that_failed_is_fed_again_without_a_retrieval() {
    let mut scene = Scene::new();
    let failing = [&KEPT[..], &["--", "sh", "-c", "head -c 1000 >/dev/null; exit 3"]].concat();
    scene.run(&failing).failed(3, "sh: ended with status 3");
    assert!(names(&scene).contains(&"0-0.volume".to_owned()), "{:?}", names(&scene));
    let feed = [&KEPT[..], &["--", "sh", "-c", "exec cat >got"]].concat();
    scene.run(&feed).done();
    assert!(fs::read(scene.place.path("got")).unwrap() == scene.bytes);
    assert_eq!(scene.calls()[0], 3);
    assert_eq!(names(&scene), ["0-0.volume", "0-1.volume", "0-2.volume"]);
    for (file, bytes) in scene.kept().iter().zip(scene.bytes.chunks(2 * MIB)) {
        assert!(fs::read(file).unwrap() == bytes);
        assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let mode = fs::metadata(scene.place.path("kept")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    // When the service has forgotten all, it is not even asked.
    scene.server.pass_a_day();
    let before = scene.calls();
    fs::remove_file(scene.place.path("got")).unwrap();
    scene.run(&feed).done();
    assert!(fs::read(scene.place.path("got")).unwrap() == scene.bytes);
    assert_eq!(scene.calls(), before);
}

#[test]
fn a_volume_that_is_not_whole_is_gone_on_with() {
    let scene = Scene::new();
    let (ended, _) = scene.fetch(&KEPT, &scene.lines);
    ended.done();
    let whole = &scene.kept()[1];
    let begun = whole.with_extension("volume.new");
    // A part, and what a power cut left of the next.
    fs::write(&begun, [&scene.bytes[2 * MIB..3 * MIB], &[0; 5000]].concat()).unwrap();
    fs::remove_file(whole).unwrap();
    fs::set_permissions(&begun, fs::Permissions::from_mode(0o600)).unwrap();
    let before = scene.calls();
    let (ended, bytes) = scene.fetch(&KEPT, &scene.lines);
    ended.done();
    assert!(bytes == scene.bytes);
    let after = scene.calls();
    assert_eq!((after[0], after[2]), (before[0], before[2] + 1), "one part, of the old job");
    assert_eq!(names(&scene), ["0-0.volume", "0-1.volume", "0-2.volume"]);
    assert!(fs::read(whole).unwrap() == scene.bytes[2 * MIB..4 * MIB]);
}

#[test]
fn a_kept_volume_that_is_damaged_is_not_passed_on() {
    let scene = Scene::new();
    scene.fetch(&KEPT, &scene.lines).0.done();
    let volume = &scene.kept()[1];
    let mut bytes = fs::read(volume).unwrap();
    bytes[MIB + 7] ^= 1;
    fs::write(volume, &bytes).unwrap();
    let name = volume.strip_prefix(scene.place.path("")).unwrap().display();
    let (ended, out) = scene.fetch(&KEPT, &scene.lines);
    ended.failed(
        65,
        &format!(
            "keep {name}: part 1 does not equal its hash; remove the file, and it is brought back \
             again"
        ),
    );
    assert!(out.len() <= 2 * MIB && scene.bytes.starts_with(&out), "{} bytes", out.len());
    fs::write(volume, &bytes[..9]).unwrap();
    scene.fetch(&KEPT, &scene.lines).0.failed(
        65,
        &format!(
            "keep {name}: has 9 bytes, the volume 2097152; remove it, and it is brought back again"
        ),
    );
    fs::remove_file(volume).unwrap();
    let (ended, out) = scene.fetch(&KEPT, &scene.lines);
    ended.done();
    assert!(out == scene.bytes);
}

#[test]
fn a_disk_that_is_full_keeps_what_is_there() {
    let scene = Scene::new();
    // 1,500 KiB: less than a volume.
    let arguments = [&KEPT[..], &["--", "sh", "-c", "'exec cat >/dev/null'"]].concat().join(" ");
    let full = scene.within("trap '' XFSZ; ulimit -f 3000;", &arguments);
    full.failed_like(74, "keep kept/", ": File too large");
    assert!(names(&scene).contains(&"0-0.volume.new".to_owned()), "{:?}", names(&scene));
    let (ended, bytes) = scene.fetch(&KEPT, &scene.lines);
    ended.done();
    assert!(bytes == scene.bytes);
    assert_eq!(scene.calls()[0], 3);
}

#[test]
fn a_directory_that_is_open_to_others_is_refused() {
    let scene = Scene::new();
    let kept = scene.place.path("kept");
    fs::create_dir(&kept).unwrap();
    fs::set_permissions(&kept, fs::Permissions::from_mode(0o755)).unwrap();
    scene.run(&KEPT).failed(78, "keep kept: open to other users; chmod 700 it");
    fs::remove_dir(&kept).unwrap();
    fs::write(&kept, "").unwrap();
    scene.run(&KEPT).failed(78, "keep kept: not a directory");
    assert_eq!(scene.calls(), [0; 3]);
}

#[test]
fn a_directory_that_another_program_works_on_is_75() {
    let scene = Scene::new();
    scene.fetch(&KEPT, &scene.lines).0.done();
    let other = File::open(scene.place.path("kept")).unwrap();
    flock(&other, FlockOperation::LockExclusive).unwrap();
    let said = "keep kept: another program works on it; run the same command later";
    scene.run(&KEPT).failed(75, said);
    // One that only looks does not mind.
    assert_eq!(scene.run(&[&KEPT[..], &["--plan"]].concat()).done().lines()[0]["jobs"], 0);
}

/// Of volumes there may be thousands.
#[test]
fn volumes_that_are_kept_are_not_all_open_at_once() {
    let scene = Scene::of(7200, 48 * MIB, "1M");
    let feed = "'exec cat >/dev/null'";
    let arguments = [&KEPT[..], &["--", "sh", "-c", feed]].concat().join(" ");
    for _ in 0..2 {
        let ended = scene.within("ulimit -n 40;", &arguments);
        assert_eq!((ended.code(), ended.stderr.as_str()), (0, ""));
    }
    assert_eq!((scene.calls()[0], names(&scene).len()), (48, 48));
}
