//! Filtered streams through the whole pipe, and back: stored once, resumed
//! from the spool, links of chains.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use super::{bytes, sh};
use crate::common::local::{Local, catalog, files, sorted};
use crate::common::{Ended, Place, run, run_with, skip, start};

const CHAIN: [&str; 3] = ["full.zfs", "incremental-1.zfs", "incremental-2.zfs"];

/// Another output each time, and what undoes it.
const SALT: &str = "{ head -c 32 /dev/urandom; cat; }";

/// Takes each stream into a file of its own, through what undoes its filter.
const UNDO: &str = r#"echo run >>ran; n=$(grep -c run ran)
env | grep "^GLACIER_[SNGF]" | grep -v SPOOL | sort >env$n
case ${GLACIER_FILTER-} in
"") exec cat >got$n ;;
salt) exec tail -c +33 >got$n ;;
*) exit 3 ;;
esac"#;

fn pipe(name: &str, filter: &str, text: &str, put: &str) -> String {
    format!(
        "glacier-proof p <\"$STREAMS/{name}\" | {{ {filter} && : >2; }} |
         glacier-chunk --whole p --whole 2 --filter '{text}' --part-size 1M --volume-size 1M {put}"
    )
}

fn shell(place: &Place, local: &Local, script: &str) -> Ended {
    let mut shell = sh(place, script);
    run(local.client(&mut shell).env("UNDO", UNDO))
}

fn store(place: &Place, local: &Local, name: &str, filter: &str, text: &str) -> Ended {
    let put = "| glacier-put --create-vault v >stored";
    shell(place, local, &pipe(name, filter, text, put))
}

const RESTORE: &str = r#"glacier-chain tank/home@wed <catalog.jsonl |
    glacier-get --tier Expedited -- sh -c "$UNDO""#;

/// What the runs of the command were given, in order.
fn collected(place: &Place) -> Vec<Vec<u8>> {
    (1..).map_while(|n| fs::read(place.path(format!("got{n}"))).ok()).collect()
}

#[test]
fn a_chain_of_plain_and_filtered_streams_comes_back() {
    let place = Place::default();
    let mut local = Local::fast(&place, 3600);
    store(&place, &local, CHAIN[0], SALT, "salt").done();
    let plain = "glacier-chunk --part-size 1M --volume-size 1M <\"$STREAMS/incremental-1.zfs\" |
        glacier-put v >stored";
    shell(&place, &local, plain).done();
    store(&place, &local, CHAIN[2], SALT, "salt").done();
    shell(&place, &local, RESTORE).done();
    assert!(collected(&place) == CHAIN.map(bytes));
    // What the command is told.
    let told = |n: u32| fs::read_to_string(place.path(format!("env{n}"))).unwrap();
    let stored: Vec<Value> = catalog(&place)
        .lines()
        .filter(|line| line.contains("\"type\":\"stored\""))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let id = |n: usize| stored[n]["stream"].as_str().unwrap();
    let first = format!(
        "GLACIER_FILTER=salt\nGLACIER_GUID=13202105433093045432\nGLACIER_NAME=tank/home@mon\n\
         GLACIER_STREAM={}\n",
        id(0)
    );
    assert_eq!(told(1), first);
    let second = format!(
        "GLACIER_FROM_GUID=13202105433093045432\nGLACIER_GUID=9426808012259010397\n\
         GLACIER_NAME=tank/home@tue\nGLACIER_STREAM={}\n",
        id(1)
    );
    assert_eq!(told(2), second, "and nothing of the one before");
    assert!(told(3).contains("GLACIER_FILTER=salt\nGLACIER_FROM_GUID=9426808012259010397\n"));

    // As they are, without a command; listed, and kept with all they need.
    let mon = "glacier-chain tank/home@mon <catalog.jsonl | glacier-get --tier Expedited >raw";
    shell(&place, &local, mon).done();
    let raw = fs::read(place.path("raw")).unwrap();
    assert!(raw[32..] == bytes(CHAIN[0]));
    let listed = shell(&place, &local, "glacier-chain --list <catalog.jsonl").done().lines();
    let filters: Vec<(&Value, &Value)> =
        listed.iter().map(|line| (&line["name"], &line["filter"])).collect();
    let (salt, none) = (json!("salt"), Value::Null);
    let [mon, tue, wed] = ["mon", "tue", "wed"].map(|day| json!(format!("tank/home@{day}")));
    assert_eq!(filters, [(&mon, &salt), (&tue, &none), (&wed, &salt)]);
    assert_eq!(listed[2]["streams"], 3);
    let prune = "glacier-prune --keep last=1 <catalog.jsonl";
    assert_eq!(shell(&place, &local, prune).done().stdout, "", "the last one needs all");
    let verify = "glacier-verify --dry-run --budget 64M <catalog.jsonl | grep -c sample";
    assert_eq!(shell(&place, &local, verify).done().stdout.trim(), "6");

    // The vault alone tells all of it again.
    let lost = catalog(&place);
    fs::remove_file(place.path("catalog.jsonl")).unwrap();
    fs::remove_dir_all(place.spool()).unwrap();
    local.pass_a_day();
    let rebuild = "glacier-ls inventory --rebuild --tier Expedited v >catalog.jsonl";
    shell(&place, &local, rebuild).done();
    // Behind its lines it says what they are made of.
    let text = catalog(&place);
    let (lines, made_of) = text.trim_end().rsplit_once('\n').unwrap();
    assert!(made_of.starts_with("{\"type\":\"inventory\""), "{made_of}");
    assert_eq!(sorted(lines), sorted(&lost));
    for file in files(&place.path("")) {
        let name = file.file_name().unwrap().to_str().unwrap();
        if name.starts_with("got") || name == "ran" {
            fs::remove_file(file).unwrap();
        }
    }
    shell(&place, &local, RESTORE).done();
    assert!(collected(&place) == CHAIN.map(bytes));
}

#[test]
fn a_copy_with_a_filter_stands_beside_the_plain_one() {
    let place = Place::default();
    let local = Local::start(&place);
    for (name, filter) in [(CHAIN[0], None), (CHAIN[0], Some(SALT)), (CHAIN[1], Some(SALT))] {
        let Some(filter) = filter else {
            let plain =
                format!("glacier-chunk <\"$STREAMS/{name}\" | glacier-put --create-vault v");
            shell(&place, &local, &plain).done();
            continue;
        };
        store(&place, &local, name, filter, "salt").done();
    }
    let stored = catalog(&place).matches("\"type\":\"stored\"").count();
    assert_eq!(stored, 3);
    // The chain takes the smaller one, here the plain one.
    let tue = "glacier-chain tank/home@tue <catalog.jsonl";
    let chain = shell(&place, &local, tue).done();
    let filters: Vec<Value> =
        chain.of_type("stored").into_iter().map(|line| line["filter"].clone()).collect();
    assert_eq!(filters, [Value::Null, json!("salt")]);
}

#[test]
fn a_wrong_sha256_in_the_spool_does_not_keep_a_filtered_stream_there() {
    let place = Place::default();
    let local = Local::start(&place);
    run(&mut sh(&place, &pipe(CHAIN[0], SALT, "salt", ">lines"))).done();
    let lines = fs::read_to_string(place.path("lines")).unwrap();
    let path = place.stream(lines.split('"').nth(9).unwrap()).join("lines.jsonl");
    let spooled = fs::read_to_string(&path).unwrap();
    let line = spooled.lines().find(|line| line.contains("\"part\":0")).unwrap();
    let (start, hash) = line.split_once("\"sha256\":\"").unwrap();
    let wrong = format!("{start}\"sha256\":\"{}{}", "0".repeat(64), &hash[64..]);
    fs::write(&path, spooled.replace(line, &wrong)).unwrap();

    let again = pipe(CHAIN[0], SALT, "salt", "2>said");
    assert_eq!(run(&mut sh(&place, &again)).code(), 65, "it cannot be made again");
    let script = format!("glacier-put --create-vault v <{} >stored", path.display());
    let sent = shell(&place, &local, &script);
    assert_eq!(sent.code(), 0, "{}", sent.stderr);
    assert!(sent.stderr.starts_with("glacier-put: warning: volume 0 part 0: "), "{}", sent.stderr);
    assert_eq!(sent.stderr.lines().count(), 1, "{}", sent.stderr);
    let mon = r#"glacier-chain tank/home@mon <catalog.jsonl |
        glacier-get --tier Expedited -- sh -c "$UNDO""#;
    shell(&place, &local, mon).done();
    assert!(collected(&place) == [bytes(CHAIN[0])]);
}

#[test]
fn what_is_spooled_whole_is_sent_and_never_made_again() {
    let place = Place::default();
    let local = Local::start(&place);
    let cut = pipe(CHAIN[0], SALT, "salt", ">lines");
    run(&mut sh(&place, &cut)).done();
    let lines = fs::read_to_string(place.path("lines")).unwrap();
    let id = lines.split('"').nth(9).unwrap().to_owned();
    let before = spool(&place);
    let again = pipe(CHAIN[0], SALT, "salt", "2>said");
    let path = place.stream(&id).join("lines.jsonl");
    let said = format!(
        "glacier-chunk: stream {id}: is spooled whole, and its filter would give other bytes; \
         send what is spooled: glacier-put <{}\n",
        path.display()
    );
    for _ in 0..2 {
        let ended = run(&mut sh(&place, &again));
        assert_eq!(ended.code(), 65);
        assert_eq!(fs::read_to_string(place.path("said")).unwrap(), said);
        assert_eq!(ended.lines().len(), 1, "only that it failed");
        assert!(spool(&place) == before, "nothing in the spool was changed");
    }
    // While put works on it, it is not for this one to tell what to do.
    let put = {
        let mut put = local.put(&place, &["--create-vault", "v"]);
        let mut put = start(put.stdin(std::process::Stdio::piped()));
        put.give(lines.lines().next().unwrap().as_bytes());
        put.give(b"\n");
        put
    };
    crate::common::until("put holds it", || place.stream(&id).join("put.lock").exists());
    crate::common::until("75", || {
        let ended = run(&mut sh(&place, &again));
        let said = fs::read_to_string(place.path("said")).unwrap();
        ended.code() == 75
            && said.ends_with("sends what is spooled of it; run the same command later\n")
    });
    drop(put);
    // Some of it is sent, and the rest: the bytes are those of one run.
    let part = lines.split_inclusive('\n').filter(|line| !line.contains("\"end\""));
    run_with(&mut local.put(&place, &["v"]), part.collect::<String>().as_bytes()).failed_like(
        75,
        "stream not whole yet",
        "",
    );
    assert_eq!(run(&mut sh(&place, &again)).code(), 65);
    let send = format!("glacier-put v <{} >stored", path.display());
    shell(&place, &local, &send).done();
    let mon = r#"glacier-chain tank/home@mon <catalog.jsonl |
        glacier-get --tier Expedited -- sh -c "$UNDO""#;
    shell(&place, &local, mon).done();
    assert!(collected(&place) == [bytes(CHAIN[0])]);

    // And now there is nothing to do.
    let after = spool(&place);
    let ended = run(&mut sh(&place, &pipe(CHAIN[0], SALT, "salt", "2>said")));
    assert_eq!((ended.code(), ended.stdout.as_str()), (0, ""));
    assert_eq!(
        fs::read_to_string(place.path("said")).unwrap(),
        "glacier-chunk: warning: tank/home@mon: is stored already in glacier://v; its filter's \
         bytes differ each time, so they are not compared\n"
    );
    assert!(spool(&place) == after);
    let calls = local.log().len();
    let put = "2>/dev/null | glacier-put --allow-empty v";
    // What stands before it is cut off, and may say so.
    let again =
        pipe(CHAIN[0], SALT, "salt", put).replace("glacier-proof p", "glacier-proof p 2>cut");
    shell(&place, &local, &again).done();
    assert_eq!(local.log().len(), calls, "nobody was asked");
    // Through another filter it is another copy.
    store(&place, &local, CHAIN[0], SALT, "salt two").done();
}

/// Every file of the spool and what is in it.
fn spool(place: &Place) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut files = files(&place.spool());
    files.retain(|file| file.extension().is_none_or(|kind| kind != "lock"));
    files.sort();
    files.into_iter().map(|file| (file.clone(), fs::read(file).unwrap())).collect()
}

#[test]
fn what_is_not_spooled_whole_is_made_again() {
    let place = Place::default();
    let local = Local::start(&place);
    // A run that fails, of which put has stored all that is complete.
    let script = pipe("cut", SALT, "salt", "| glacier-put --create-vault v");
    let script = script.replace("\"$STREAMS/cut\"", "cut");
    fs::write(place.path("cut"), &bytes(CHAIN[0])[..2_100_000]).unwrap();
    let ended = shell(&place, &local, &script);
    assert_eq!(ended.code(), 65, "{}", ended.stderr);
    assert_eq!(local.archives("v").len(), 2);
    // The same command with what is whole: at once, and as a new attempt.
    fs::write(place.path("cut"), bytes(CHAIN[0])).unwrap();
    let ended = shell(&place, &local, &script);
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert!(ended.stderr.contains("warning: "), "orphans are named: {}", ended.stderr);
    assert_eq!(ended.of_type("stored")[0]["generation"], 1);
    let mon = r#"glacier-chain tank/home@mon <catalog.jsonl |
        glacier-get --tier Expedited -- sh -c "$UNDO""#;
    shell(&place, &local, mon).done();
    assert!(collected(&place) == [bytes(CHAIN[0])]);
}

#[test]
fn a_filtered_stream_is_spooled_whole_though_nobody_stores_it() {
    let place = Place::default();
    // Six volumes of a MiB, where two are the limit of others.
    let script = "glacier-chunk --trust-eof --name x --filter f --part-size 1M --volume-size 1M \
         --patience 0s | cat >lines; cat lines";
    let ended = run_with(&mut sh(&place, script), &vec![b'x'; 6 << 20]);
    assert_eq!(ended.of_type("end").len(), 1, "{}", ended.stdout);
}

#[test]
fn a_dead_stage_is_never_stored() {
    let place = Place::default();
    let local = Local::start(&place);
    let put = "| glacier-put --create-vault v";
    fs::write(place.path("cut"), &bytes(CHAIN[0])[..2_100_000]).unwrap();
    let cut = pipe("cut", SALT, "salt", put).replace("\"$STREAMS/cut\"", "cut");
    for script in [
        cut,
        pipe(CHAIN[0], "{ head -c 32 /dev/urandom; cat; false; }", "salt", put),
        pipe(CHAIN[0], "no-such-filter", "salt", put),
        pipe(CHAIN[0], "{ head -c 32 /dev/urandom; head -c 1500000; }", "salt", put),
        pipe(CHAIN[0], SALT, "salt", put).replace("glacier-proof p", "cat"),
        pipe(CHAIN[0], SALT, "salt", put).replace("glacier-proof p <", "false <"),
    ] {
        let ended = shell(&place, &local, &script);
        assert_eq!(ended.code(), 65, "{script}: {}", ended.stderr);
        assert!(!catalog(&place).contains("\"type\":\"stored\""), "{script}");
        assert!(local.archives("v").iter().all(|held| held.volume().is_some()), "{script}");
        for marker in ["p", "2"] {
            let _ = fs::remove_file(place.path(marker));
        }
    }
}

#[test]
fn age_is_undone_by_the_key_that_the_catalog_names() {
    let place = Place::default();
    let key = Command::new("age-keygen").arg("-o").arg(place.path("key")).output();
    if key.is_err() {
        skip("age: not found; try scripts/test");
        return;
    }
    let local = Local::start(&place);
    let recipient = run(place.command("age-keygen").args(["-y", "key"])).done().stdout;
    let filter = format!("age -r {}", recipient.trim());
    for name in CHAIN {
        store(&place, &local, name, &filter, &filter).done();
    }
    let script = format!(
        "glacier-chain tank/home@wed <catalog.jsonl | glacier-get --tier Expedited -- sh -c '
         echo run >>ran; test \"$GLACIER_FILTER\" = \"{filter}\" &&
         exec age -d -i key >got$(grep -c run ran)'"
    );
    shell(&place, &local, &script).done();
    assert!(collected(&place) == CHAIN.map(bytes));
    // The vault holds none of it in the clear, and nowhere is the secret.
    let held = local.archives("v");
    for content in local.bytes("v", &held) {
        assert!(!content.windows(14).any(|window| window == b"AGE-SECRET-KEY"));
    }
    let volume = local.bytes("v", &held[..1]).concat();
    assert!(volume.starts_with(b"age-encryption.org/v1\n"), "{:?}", &volume[..40]);
}
