//! What must stay: broken chains, other places, bad lines, locks, and the
//! statuses that tell of it.

use std::fs;

use serde_json::{Value, json};

use crate::common::local::{catalog, pattern};
use crate::common::run_with;
use crate::rm::{MIB, Scene, ids, only, parsed};

#[test]
fn a_base_that_others_need_stays_unless_they_go_too() {
    let scene = Scene::default();
    let [full, first, second] = scene.chain();
    let held = scene.held();
    let needed = |names: &str| {
        format!(
            "stdin: {names} could not be restored any more; nothing is deleted unless their lines \
             are there too, or with --break-chain"
        )
    };
    scene.delete(&full).failed(65, &needed("tank/home@tue, tank/home@wed"));
    scene.delete(&[full.clone(), first.clone()].concat()).failed(65, &needed("tank/home@wed"));
    scene.rm(&["v"], &first).failed(65, &needed("tank/home@wed"));
    assert_eq!((scene.held(), scene.deleted().len()), (held, 0));
    let ended = scene.rm(&["--yes", "--break-chain", "v"], &first).done();
    assert_eq!(scene.held(), held - ended.lines().len());
    // What is broken already needs nothing more.
    scene.delete(&second).done();
    scene.delete(&full).done();
    assert_eq!(scene.held(), 0);
}

#[test]
fn some_volumes_of_a_stream_do_not_go_alone() {
    let scene = Scene::default();
    let stored = scene.store("x", &pattern(4 * MIB + 5));
    let volumes = only(&stored, &["archive"]);
    let first: String = volumes.split_inclusive('\n').take(2).collect();
    let stays: Vec<u64> = (0..3)
        .filter(|volume| parsed(&first).iter().all(|line| line["volume"] != *volume))
        .collect();
    let why = |list: &str| {
        format!(
            "stdin: x: not asked of its 3 volumes: {list}; nothing is deleted unless all are, or \
             with --break-chain"
        )
    };
    scene.delete(&first).failed(65, &why(&stays[0].to_string()));
    let manifest = only(&stored, &["stored"]);
    scene.delete(&manifest).failed(65, &why("0, 1, 2"));
    assert_eq!(scene.held(), 4);
    // The manifest stays all the same.
    let ended = scene.rm(&["--yes", "--break-chain", "v"], &(first + &manifest));
    assert_eq!((ended.code(), ended.lines().len(), scene.held()), (0, 2, 2));
    let warning = format!("x: its manifest stays as long as its volumes: {}", stays[0]);
    assert_eq!(ended.stderr, format!("glacier-rm: warning: {warning}\n"));
    // Then the rest may go, and it goes too.
    scene.delete(&volumes).done();
    assert_eq!(scene.held(), 0);
}

#[test]
fn what_no_catalog_names_is_78_and_goes_with_break_chain() {
    let scene = Scene::default();
    let stored = scene.store("x", &pattern(3 * MIB));
    fs::rename(scene.place.path("catalog.jsonl"), scene.place.path("lost")).unwrap();
    let without = "so nothing tells what needs this archive; nothing is deleted without \
                   --break-chain";
    let message = format!("stdin: line 2: there is no catalog, {without}");
    scene.delete(&stored).failed(78, &message);
    assert!(!scene.place.path("catalog.jsonl").exists());
    fs::write(scene.place.path("catalog.jsonl"), "").unwrap();
    fs::remove_dir_all(scene.place.spool().join("done")).unwrap();
    scene.delete(&stored).failed(78, &format!("stdin: line 2: not in the catalog, {without}"));
    assert_eq!(scene.held(), 3);
    let ended = scene.rm(&["--yes", "--break-chain", "v"], &stored).done();
    assert_eq!((scene.held(), scene.deleted()), (0, ended.lines()));
    assert_eq!(ended.lines().pop().unwrap()["volume"], Value::Null, "the manifest last");
}

#[test]
fn a_gap_in_the_catalog_keeps_the_manifest() {
    let scene = Scene::default();
    let stored = scene.store("x", &pattern(4 * MIB));
    let volumes = only(&stored, &["archive"]);
    let (one, lost) = volumes.split_at(volumes.find('\n').unwrap() + 1);
    let gap = catalog(&scene.place).replace(lost, "");
    fs::write(scene.place.path("catalog.jsonl"), gap).unwrap();
    let ended = scene.delete(&(one.to_owned() + &only(&stored, &["stored"])));
    assert_eq!((ended.code(), ended.lines().len(), scene.held()), (0, 1, 2));
    assert!(ended.stderr.contains("its manifest stays"), "{}", ended.stderr);
}

#[test]
fn lines_of_another_place_are_65_and_nothing_goes() {
    let scene = Scene::default();
    let stored = scene.store("x", &pattern(MIB));
    // Behind lines that are right.
    let archives = only(&stored, &["archive"]);
    let id = parsed(&archives)[0]["archive_id"].as_str().unwrap().to_owned();
    let other = archives.replace(&id, "another");
    let at = stored.lines().count() + 1;
    for (from, to) in [("glacier://v", "glacier://w"), ("eu-central-1", "us-west-2")] {
        let message =
            format!("stdin: line {at}: is in {to}, and {from} is meant; nothing is deleted");
        scene.delete(&(stored.clone() + &other.replace(from, to))).failed(65, &message);
    }
    assert_eq!((scene.held(), scene.deleted().len()), (2, 0));
}

#[test]
fn input_that_is_cut_or_torn_is_65_and_nothing_goes() {
    let scene = Scene::default();
    let stored = scene.store("x", &pattern(MIB));
    let lines = stored.lines().count();
    let cut = format!("stdin: line {lines}: ends without a newline, so the input was cut");
    scene.delete(stored.trim_end()).failed(65, &format!("{cut}; nothing is deleted"));
    let torn = stored.replacen("\"archive_id\":", "", 1);
    scene.delete(&torn).failed_like(65, "stdin: line ", "; nothing is deleted");
    scene
        .delete(&format!("{stored}not a line\n"))
        .failed(65, &format!("stdin: line {}: not a JSON object; nothing is deleted", lines + 1));
    let endless = [stored.as_bytes(), &vec![b'x'; 3 * MIB]].concat();
    run_with(&mut scene.tool(&["--yes", "v"]), &endless).failed_like(65, "stdin: line ", "");
    let failed = r#"{"type":"failed","code":69,"message":"no more"}"#;
    scene.delete(&format!("{stored}{failed}\n")).failed(69, "no more");
    assert_eq!((scene.held(), scene.deleted().len()), (2, 0));
    assert_eq!(scene.server.calls("DeleteArchive"), 0);
}

#[test]
fn a_lock_of_the_vault_is_69_and_the_other_streams_go() {
    // The first stream that goes is denied, with the second attempt after
    // its credentials were loaded anew.
    let plan = r#"{"call":"DeleteArchive","from":1,"times":2,"do":"refuse","code":"AccessDeniedException"}"#;
    let scene = Scene::with_faults(&format!("{plan}\n"));
    let kept = scene.store("x", &pattern(MIB));
    scene.store("y", &pattern(MIB));
    let policy = json!({"Policy": "{\"Statement\":[]}"}).to_string();
    scene.server.ask("POST", "/-/vaults/v/lock-policy", policy.as_bytes());
    let ended = scene.delete(&catalog(&scene.place));
    assert_eq!(scene.held(), 2);
    assert_eq!(ids(&ended.lines()), ids(&parsed(&kept)));
    ended.failed(
        69,
        "y: volume 0: AccessDenied: Access denied; the vault has a lock, whose policy can forbid \
         it: see aws glacier get-vault-lock",
    );
    assert_eq!(scene.deleted().len(), 2);
    scene.delete(&catalog(&scene.place)).done();
    assert_eq!(scene.held(), 0);
}

#[test]
fn who_may_not_delete_is_told_so_with_77() {
    let plan =
        r#"{"call":"DeleteArchive","times":"all","do":"refuse","code":"AccessDeniedException"}"#;
    let scene = Scene::with_faults(&format!("{plan}\n"));
    let stored = scene.store("x", &pattern(MIB));
    let ended = scene.delete(&stored).failed(
        77,
        "x: volume 0: AccessDenied: Access denied; use the credentials of a user who may delete",
    );
    assert_eq!((ended.stdout.as_str(), scene.held(), scene.deleted().len()), ("", 2, 0));
    // It is stored still.
    assert_eq!(scene.restored("x"), pattern(MIB));
}

#[test]
fn each_exit_code_of_the_manual() {
    let scene = Scene::default();
    let stored = scene.store("x", &pattern(MIB));
    scene.rm(&["--no-such-option"], "").failed_like(64, "unexpected argument", "'");
    scene.rm(&[], &stored).failed(64, "no destination; name a vault, or set GLACIER_DEST");
    scene.rm(&["--vault", "--break-chain", "v"], "").failed_like(64, "", "'");
    let there = stored.replace("glacier://v", "glacier://no-such");
    scene.rm(&["--yes", "--break-chain", "no-such"], &there).failed_like(
        69,
        "glacier://no-such: ResourceNotFound",
        "",
    );
    let mut wrong = scene.tool(&["--yes", "v"]);
    wrong.env("AWS_ACCESS_KEY_ID", "AKIAWRONG").env("AWS_SECRET_ACCESS_KEY", "wrong");
    run_with(&mut wrong, stored.as_bytes()).failed_like(77, "glacier://v: ", "");
    let mut none = scene.tool(&["--yes", "v"]);
    none.env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
    run_with(&mut none, stored.as_bytes()).failed_like(77, "no AWS credentials: ", "");
    let mut nowhere = scene.tool(&["--yes", "v"]);
    run_with(nowhere.env_remove("AWS_REGION"), stored.as_bytes()).failed_like(78, "", "");
    let mut clear = scene.tool(&["--yes", "v"]);
    clear.env("AWS_ENDPOINT_URL", "http://192.0.2.1");
    run_with(&mut clear, stored.as_bytes()).failed_like(78, "", "");
    let mut gone = scene.tool(&["--yes", "--patience", "0s", "v"]);
    gone.env("AWS_ENDPOINT_URL", "http://127.0.0.1:1");
    let again = "run the same command again";
    run_with(&mut gone, stored.as_bytes()).failed_like(75, "glacier://v: ", again);
    assert_eq!((scene.held(), scene.deleted().len()), (2, 0));
}

#[test]
fn a_spool_that_cannot_be_read_is_74_and_nothing_goes() {
    let scene = Scene::default();
    let stored = scene.store("x", &pattern(MIB));
    let stream = parsed(&stored)[0]["stream"].as_str().unwrap().to_owned();
    fs::create_dir(scene.place.stream(&stream)).unwrap();
    let journal = scene.place.stream(&stream).join("put.jsonl");
    std::os::unix::fs::symlink("elsewhere", &journal).unwrap();
    scene.delete(&stored).failed_like(74, &format!("stream {stream}: journal: cannot open"), "");
    assert_eq!(scene.held(), 2);
}

#[test]
fn speaks_to_nobody_whose_certificate_proves_nothing() {
    let scene = Scene::default();
    let stored = scene.store("x", &pattern(MIB));
    let mut rm = scene.tool(&["--yes", "v"]);
    let endpoint = scene.server.endpoint.replace("http:", "https:");
    let ended = run_with(rm.env("AWS_ENDPOINT_URL", &endpoint), stored.as_bytes());
    ended.failed(78, &format!("{endpoint}: it does not speak TLS"));
    assert_eq!(scene.held(), 2);
}

#[test]
fn a_line_of_a_later_version_is_65_wherever_it_is() {
    let scene = Scene::default();
    let stored = scene.store("x", &pattern(MIB));
    let later = r#"{"type":"archive","v":2}"#;
    let why = "archive: version 2 is newer than this program, which knows 1";
    let lines = stored.lines().count();
    scene
        .delete(&format!("{stored}{later}\n"))
        .failed(65, &format!("stdin: line {}: {why}; nothing is deleted", lines + 1));
    let text = catalog(&scene.place);
    fs::write(scene.place.path("catalog.jsonl"), format!("{text}{later}\n")).unwrap();
    scene.delete(&stored).failed_like(65, "catalog: line ", why);
    assert_eq!((scene.held(), scene.server.calls("DeleteArchive")), (2, 0));
}

#[test]
fn a_spool_that_others_may_enter_is_78() {
    use std::os::unix::fs::PermissionsExt as _;
    let scene = Scene::default();
    let stored = scene.store("x", &pattern(MIB));
    fs::set_permissions(scene.place.spool(), fs::Permissions::from_mode(0o755)).unwrap();
    scene.delete(&stored).failed_like(78, "spool ", ": open to other users; chmod 700 it");
    assert_eq!(scene.held(), 2);
}

#[test]
fn without_a_spool_archives_go_all_the_same() {
    let scene = Scene::default();
    let stored = scene.store("x", &pattern(MIB));
    fs::remove_dir_all(scene.place.spool()).unwrap();
    scene.delete(&stored).done();
    assert_eq!(scene.held(), 0);
    assert!(!scene.place.spool().exists(), "none is made for it");
}
