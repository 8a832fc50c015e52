//! Tiers without capacity, and the account's policy.

use super::scene::Scene;

#[test]
fn without_capacity_the_next_tier_is_asked_for_with_one_warning() {
    let mut scene = Scene::new();
    scene.server.fail(
        r#"{"call":"InitiateJob","from":1,"times":3,"do":"refuse","status":503,"code":"InsufficientCapacityException","message":"no capacity"}
"#,
    );
    let (ended, bytes) = scene.fetch(&["--tier", "Expedited"], &scene.lines);
    assert_eq!(
        (ended.code(), ended.stderr.as_str()),
        (
            0,
            "glacier-get: warning: InsufficientCapacity: no capacity: Standard is asked for \
             instead of Expedited\n"
        )
    );
    assert!(bytes == scene.bytes);
    assert_eq!(scene.calls()[0], 3);
}

#[test]
fn a_policy_is_waited_for_or_75() {
    let scene = Scene::new();
    let policy = r#"{"Policy":{"Rules":[{"Strategy":"BytesPerHour","BytesPerHour":2097152}]}}"#;
    scene.server.ask("PUT", "/-/policies/data-retrieval", policy.as_bytes());
    let denied = "x: volume 1: PolicyEnforced: InitiateJob request denied by current data retrieval \
                  policy (the account's policy: 2 MiB an hour)";
    let options = ["--concurrency", "1", "--output", "file"];
    scene
        .run(&[&["--no-wait"][..], &options].concat())
        .failed(75, &format!("{denied}; run the same command again later"));
    scene.run(&[&["--patience", "0s"][..], &options].concat()).failed_like(
        75,
        "x: volume ",
        "; run the same command again",
    );
    let ended = scene.run(&options);
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert!(ended.stderr.lines().count() <= 1, "{}", ended.stderr);
    assert!(std::fs::read(scene.place.path("file")).unwrap() == scene.bytes);
    assert_eq!(scene.calls()[0], 3);
}
