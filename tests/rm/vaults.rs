//! The vault itself.

use serde_json::json;

use crate::common::local::{catalog, pattern};
use crate::common::run;
use crate::rm::{MIB, Scene};

#[test]
fn a_vault_goes_when_an_inventory_proves_it_empty() {
    let mut scene = Scene::default();
    let stored = scene.store("x", &pattern(MIB));
    let vault = ["--vault", "--yes", "v"];
    let names = "glacier://v: not empty: the catalog names 2 archives that are there; delete them \
                 first";
    scene.rm(&vault, "").failed(69, names);
    scene.server.pass_a_day();
    scene.rm(&vault, "").failed(69, names);
    // Another catalog knows of nothing.
    let mut other = scene.tool(&["--catalog", "none.jsonl", "--vault", "--yes", "v"]);
    run(&mut other).failed_like(
        69,
        "glacier://v: not empty: its inventory of ",
        ", and the catalog knows of no later deletion",
    );
    assert!(!scene.place.path("none.jsonl").exists());
    scene.delete(&stored).done();
    // The service's clock is far ahead here; else the deletion is the later.
    let text = catalog(&scene.place).replace("\"deleted\":\"20", "\"deleted\":\"21");
    std::fs::write(scene.place.path("catalog.jsonl"), text).unwrap();
    scene.rm(&vault, "").failed_like(75, "glacier://v: its inventory of ", "Z");
    let dry = scene.rm(&["--vault", "v"], "");
    assert_eq!(dry.code(), 0);
    assert_eq!(dry.lines()[0]["type"], "doomed");
    assert_eq!(dry.stderr, "glacier-rm: warning: glacier://v: nothing is deleted without --yes\n");
    scene.server.pass_a_day();
    let ended = scene.rm(&vault, "").done();
    let line = &ended.lines()[0];
    assert_eq!((&line["type"], &line["dest"]), (&json!("deleted"), &json!("glacier://v")));
    assert_eq!(scene.server.calls("DeleteVault"), 1);
    scene.rm(&vault, "").failed_like(69, "glacier://v: ResourceNotFound", "");
}

#[test]
fn a_vault_that_was_never_counted_is_worth_another_try() {
    let mut scene = Scene::default();
    let stored = scene.store("x", &pattern(MIB));
    scene.delete(&stored).done();
    let never = "glacier://v: the service has made no inventory yet that proves it empty; run the \
                 same command again tomorrow";
    scene.rm(&["--vault", "--yes", "v"], "").failed(75, never);
    scene.server.pass_a_day();
    scene.rm(&["--vault", "--yes", "v"], "").done();
}

#[test]
fn a_deletion_of_a_vault_whose_answer_is_lost_is_made_again() {
    let plan = r#"{"call":"DeleteVault","do":"lose-answer"}"#;
    let scene = Scene::with_faults(&format!("{plan}\n"));
    scene.server.ask("PUT", "/-/vaults/v", b"");
    scene.rm(&["--vault", "--yes", "v"], "").done();
}
