//! How a command is told that it was given all.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use super::scene::Scene;
use crate::common::{Running, start, until};

/// Takes the stream, and notes what it knows of its end: before it, and at it.
const TAKES: &str = r#"cp "$0" had; test -e "$GLACIER_WHOLE" && echo early >told
    cat >got; if test -e "$GLACIER_WHOLE"; then echo whole; else echo cut; fi >>told.new
    printf '%s\n' "$GLACIER_WHOLE" >>told.new; mv told.new told"#;

/// Runs get with that command, on the stream's lines.
fn take(scene: &Scene) -> Running {
    fs::write(scene.place.path("input"), &scene.lines).unwrap();
    fs::create_dir_all(scene.place.path("tmp")).unwrap();
    let mut get = scene.get(&[
        "--concurrency",
        "1",
        "--tier",
        "Expedited",
        "--",
        "sh",
        "-c",
        TAKES,
        "/dev/null",
    ]);
    get.env("TMPDIR", scene.place.path("tmp"));
    get.stdin(File::open(scene.place.path("input")).unwrap());
    start(&mut get)
}

/// What the command has noted: the word, and where it was looked for.
fn told(scene: &Scene) -> (String, String) {
    until("the command has ended", || scene.place.path("told").exists());
    let told = fs::read_to_string(scene.place.path("told")).unwrap();
    let (word, place) = told.trim_end().split_once('\n').unwrap();
    (word.to_owned(), place.to_owned())
}

#[test]
fn a_command_is_told_that_it_was_given_all() {
    let scene = Scene::new();
    take(&scene).finish().done();
    let (word, place) = told(&scene);
    assert_eq!(word, "whole");
    assert!(fs::read(scene.place.path("got")).unwrap() == scene.bytes);
    assert!(place.starts_with(scene.place.path("tmp").to_str().unwrap()), "{place}");
    assert_eq!(fs::read_dir(scene.place.path("tmp")).unwrap().count(), 0, "left");
}

#[test]
fn a_command_is_not_told_so_when_get_is_killed() {
    let mut scene = Scene::new();
    // The first volume comes, and the second one never.
    let plan = r#"{"call":"GetJobOutput","from":2,"times":"all","do":"stall"}"#;
    scene.server.fail(plan);
    let mut get = take(&scene);
    let got = scene.place.path("got");
    until("a volume has come", || fs::metadata(&got).is_ok_and(|facts| facts.len() >= 2 << 20));
    get.kill();
    let (word, place) = told(&scene);
    assert_eq!(word, "cut", "an end of file is no proof");
    // What a dead get leaves makes the next one tell nothing either.
    fs::write(&place, "").unwrap();
    fs::remove_file(scene.place.path("told")).unwrap();
    fs::remove_file(&got).unwrap();
    scene.server.fail(plan);
    let mut again = take(&scene);
    until("a volume has come", || fs::metadata(&got).is_ok_and(|facts| facts.len() >= 2 << 20));
    again.kill();
    let (word, other) = told(&scene);
    assert_eq!(word, "cut");
    assert_ne!(place, other);
}

#[test]
fn a_place_where_others_could_make_the_file_is_refused() {
    let scene = Scene::new();
    let shared = scene.place.path("tmp");
    fs::create_dir(&shared).unwrap();
    fs::set_permissions(&shared, Permissions::from_mode(0o777)).unwrap();
    let path = shared.display();
    take(&scene).finish().failed(
        78,
        &format!(
            "{path}: other users may rename what is in {path}; name another directory in TMPDIR"
        ),
    );
    assert!(!scene.place.path("got").exists());
}
