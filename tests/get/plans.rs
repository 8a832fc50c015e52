//! What it takes, and what it must not take.

use std::fs;

use super::scene::Scene;
use crate::common::run_with;

#[test]
fn a_plan_asks_nothing_and_needs_no_credentials() {
    let scene = Scene::new();
    let mut bare = scene.place.tool("glacier-get", &["--plan", "--keep", "kept"]);
    bare.args(["--assume-rate", "1M", "--", "touch", "ran"]);
    let printed = run_with(&mut bare, scene.lines.as_bytes()).done().lines();
    let tiers: Vec<&str> = printed.iter().map(|line| line["tier"].as_str().unwrap()).collect();
    assert_eq!(tiers, ["Expedited", "Standard", "Bulk"]);
    for line in &printed {
        assert_eq!(line["type"], "restore");
        let [streams, archives, jobs, size, disk] = ["streams", "archives", "jobs", "size", "disk"]
            .map(|name| line[name].as_u64().unwrap());
        assert_eq!([streams, archives, jobs], [1, 3, 3]);
        assert_eq!([size, disk], [4_194_309; 2]);
        assert_eq!(line["seconds"], 5);
        assert_eq!(line["prices_date"], "2026-06-01");
    }
    assert_eq!(printed[1]["minutes_most"], 300);
    assert_eq!(scene.calls(), [0; 3]);
    assert!(!scene.place.path("kept").exists() && !scene.place.path("ran").exists());
    // A file that is there is looked at, and left as it is.
    fs::write(scene.place.path("file"), [&scene.bytes[..3 << 20], b"torn"].concat()).unwrap();
    let printed = scene.run(&["--plan", "--output", "file"]).done().lines();
    assert_eq!((&printed[0]["jobs"], &printed[0]["disk"]), (&2.into(), &1_048_581.into()));
    assert_eq!(fs::metadata(scene.place.path("file")).unwrap().len(), (3 << 20) + 4);
    assert!(printed[0]["seconds"].is_null());
}

#[test]
fn a_limit_of_bytes_refuses_before_anything_is_asked() {
    let scene = Scene::new();
    let said = "4 MiB would be downloaded, over --max-bytes 4 MiB; nothing is asked for";
    for how in [&[][..], &["--request"]] {
        scene.run(&[how, &["--max-bytes", "4M", "--output", "file"]].concat()).failed(1, said);
    }
    assert_eq!(scene.calls(), [0; 3]);
    assert!(!scene.place.path("file").exists());
    let planned = scene.run(&["--plan", "--max-bytes", "4M"]);
    assert_eq!((planned.code(), planned.lines().len()), (1, 3), "the plan is printed");
    let (ended, bytes) = scene.fetch(&["--max-bytes", "4194309"], &scene.lines);
    ended.done();
    assert!(bytes == scene.bytes);
}

#[test]
fn what_the_service_has_costs_nothing_again() {
    let scene = Scene::new();
    let limited = ["--tier", "Expedited", "--max-cost", "0.01"];
    scene.run(&[&limited[..], &["--output", "file"]].concat()).failed(
        1,
        "it would cost 0.0305 USD (Expedited retrieval 0.0302, transfer 0.0004; prices of \
         2026-06-01), over --max-cost 0.0100",
    );
    assert_eq!(scene.calls(), [0, 1, 0], "the list is asked for, and no archive");
    scene.run(&["--tier", "Expedited", "--max-cost", "0.04", "--request"]).done();
    let (ended, bytes) = scene.fetch(&limited, &scene.lines);
    ended.done();
    assert!(bytes == scene.bytes);
    assert_eq!(scene.calls()[0], 3);
}

#[test]
fn prices_that_are_none_are_told_before_anything_is_asked() {
    let scene = Scene::new();
    fs::write(scene.place.path("table"), "{}").unwrap();
    for how in [&["--plan"][..], &["--max-cost", "1"]] {
        let none = scene.run(&[how, &["--prices", "table"]].concat());
        none.failed_like(78, "prices table: ", "");
        let absent = scene.run(&[how, &["--prices", "absent"]].concat());
        absent.failed(74, "prices absent: No such file or directory");
    }
    assert_eq!(scene.calls(), [0; 3]);
    let dear = include_str!("../../data/prices.json").replace("\"0.09\"", "\"1000\"");
    fs::write(scene.place.path("table"), dear).unwrap();
    let printed = scene.run(&["--plan", "--prices", "table"]).done().lines();
    assert_eq!(printed[0]["transfer_price"], "3.91");
}
