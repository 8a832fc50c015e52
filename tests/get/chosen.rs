//! Some volumes of a stream, or a range of its bytes.

use super::scene::{MIB, Scene};

#[test]
fn a_volume_comes_back_alone() {
    let scene = Scene::new();
    let options = ["--tier", "Expedited", "--volume", "2", "--volume", "0"];
    let (ended, bytes) = scene.fetch(&options, &scene.lines);
    ended.done();
    assert!(bytes == [&scene.bytes[..2 * MIB], &scene.bytes[4 * MIB..]].concat());
    assert_eq!(scene.calls()[0], 2);
}

#[test]
fn a_range_is_asked_for_as_a_range_in_one_step_or_two() {
    let scene = Scene::new();
    let options = ["--tier", "Expedited", "--range", "1048576-4194303"];
    let (ended, bytes) = scene.fetch(&options, &scene.lines);
    ended.done();
    assert!(bytes == scene.bytes[MIB..4 * MIB]);
    assert_eq!(scene.calls()[0], 2);
    let asked = scene.run(&[&options[..], &["--request"]].concat()).done();
    let job = &asked.of_type("job")[0];
    assert_eq!((&job["range_offset"], &job["range_size"]), (&MIB.into(), &MIB.into()));
    let (ended, bytes) = scene.fetch(&options, &asked.stdout);
    ended.done();
    assert!(bytes == scene.bytes[MIB..4 * MIB]);
    assert_eq!(scene.calls()[0], 2);
    // The job of a range does not bring the whole archive.
    let (ended, bytes) = scene.fetch(&["--tier", "Expedited"], &asked.stdout);
    ended.done();
    assert!(bytes == scene.bytes);
    assert_eq!(scene.calls()[0], 4);
}

#[test]
fn what_does_not_fit_the_stream_is_refused_and_not_asked_for() {
    let scene = Scene::new();
    for (options, said) in [
        (["--range", "5-9"], "--range 5-9: not whole parts; 0-1048575 is"),
        (["--volume", "3"], "--volume 3: x has no such volume here; it has 3, from 0"),
    ] {
        scene.run(&options).failed(64, said);
    }
    let wrong = scene.run(&["--range", "9-5"]);
    wrong.failed_like(64, "invalid value '9-5'", "see 'glacier-get --help'");
    assert_eq!(scene.calls(), [0; 3]);
}
