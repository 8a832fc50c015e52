//! glacier-ls against glacier-local.

mod rebuild;
mod receipts;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use crate::common::local::{Local, catalog, files, pattern};
use crate::common::{self, Ended, Place, run, run_with, start, until};
use rustix::fs::{FlockOperation, flock};
use serde_json::{Value, json};

const MIB: usize = 1 << 20;

/// An hour of the service in a second.
const SPEED: u32 = 3600;

/// The same snapshots, each in volumes of 1 MiB.
const SIZES: [&str; 4] = ["--part-size", "1M", "--volume-size", "1M"];

/// glacier-ls, as a client of a server.
fn ls(server: &Local, place: &Place, arguments: &[&str]) -> Command {
    let mut ls = place.tool("glacier-ls", arguments);
    server.client(&mut ls);
    ls
}

/// Stores bytes under a name.
fn store(server: &Local, place: &Place, name: &str, bytes: &[u8]) {
    let options = [&SIZES[..], &["--trust-eof", "--name", name, "--spool-limit", "none"]].concat();
    let lines = run_with(&mut place.tool("glacier-chunk", &options), bytes).done().stdout;
    run_with(&mut server.put(place, &["--create-vault", "v"]), lines.as_bytes()).done();
}

/// A vault with a stream of two volumes and an archive of another program,
/// and an inventory that lists both.
fn with_inventory() -> (Place, Local) {
    let place = Place::default();
    let mut server = Local::fast(&place, SPEED);
    store(&server, &place, "x", &pattern(MIB + 5));
    server.leave("v", "photos of 2012", b"photos");
    pass_a_day(&mut server, 4);
    (place, server)
}

/// Lets the service make the inventory of so many archives.
fn pass_a_day(server: &mut Local, archives: u64) {
    server.pass_a_day();
    until("the inventory is made", || server.counted("v") == archives);
}

/// Runs what ends with 75 while something is not ready, as cron does.
fn again(mut run: impl FnMut() -> Ended) -> Ended {
    let mut last = None;
    until("all is ready", || {
        let ended = run();
        let is_over = ended.code() != 75;
        assert!(is_over || ended.stdout.is_empty(), "{}", ended.stdout);
        last = Some(ended);
        is_over
    });
    last.unwrap()
}

/// Asserts that glacier-lines(5) has each field of these lines in the table
/// of their type.
#[track_caller]
fn are_listed(lines: &[Value], more: &[&str]) {
    let manual = fs::read_to_string("man/glacier-lines.5").unwrap();
    for line in lines {
        let titles = [line["type"].as_str().unwrap()].into_iter().chain(more.iter().copied());
        let tables: String = titles
            .map(|title| manual.split_once(&format!(".Ss {title}\n")).unwrap().1)
            .map(|section| section.split("\n.S").next().unwrap())
            .collect();
        for field in line.as_object().unwrap().keys().filter(|field| *field != "type") {
            assert!(tables.contains(&format!(".It Cm {field} Ta ")), "{field}: {line}");
        }
    }
}

fn kinds(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["type"].as_str().unwrap()).collect()
}

#[test]
fn vaults_are_listed_with_the_age_of_their_numbers() {
    let (place, server) = with_inventory();
    let lines = run(&mut ls(&server, &place, &["vaults"])).done().lines();
    assert_eq!(lines.len(), 1);
    are_listed(&lines, &[]);
    let vault = &lines[0];
    assert_eq!(vault["type"], "vault");
    assert_eq!(
        (&vault["name"], &vault["dest"], &vault["region"], &vault["archives"]),
        (&json!("v"), &json!("glacier://v"), &json!("eu-central-1"), &json!(4))
    );
    assert!(vault["size"].as_u64().unwrap() > 1_048_581, "{vault}");
    for time in ["created", "inventory"] {
        vault[time].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    }
    let table = run(&mut ls(&server, &place, &["vaults", "--table"])).done().stdout;
    assert!(table.starts_with("VAULT  ARCHIVES"), "{table}");
    assert!(table.lines().nth(1).unwrap().starts_with("v             4"), "{table}");
}

#[test]
fn a_vault_without_an_inventory_is_told_to_be_young() {
    let place = Place::default();
    let server = Local::start(&place);
    store(&server, &place, "x", b"bytes");
    let lines = run(&mut ls(&server, &place, &["vaults"])).done().lines();
    assert!(lines[0]["inventory"].is_null() && lines[0]["age_s"].is_null(), "{}", lines[0]);
    let table = run(&mut ls(&server, &place, &["--table", "vaults"])).done().stdout;
    assert!(table.contains("none yet"), "{table}");
    run(&mut ls(&server, &place, &["inventory", "v"])).failed(
        75,
        "glacier://v: has no inventory yet, as the service makes one a day; run the same command again tomorrow",
    );
}

#[test]
fn an_inventory_says_how_old_it_is_and_lists_what_is_not_ours() {
    let (place, server) = with_inventory();
    let lines = run(&mut ls(&server, &place, &["inventory", "v"])).done().lines();
    assert_eq!(
        kinds(&lines),
        ["inventory"].iter().chain(&["inventoried"; 4]).copied().collect::<Vec<_>>()
    );
    are_listed(&lines, &[]);
    let head = &lines[0];
    assert_eq!((&head["archives"], &head["foreign"]), (&json!(4), &json!(1)));
    assert!(head["age_s"].is_u64() && head["later"].is_null(), "{head}");
    let sizes = lines[1..].iter().map(|line| line["size"].as_u64().unwrap()).sum::<u64>();
    assert_eq!(head["size"], sizes);
    let of = |kind: &str| lines[1..].iter().filter(|line| line["kind"] == kind).count();
    assert_eq!((of("volume"), of("manifest")), (2, 1));
    let foreign = lines[1..].iter().find(|line| line["kind"].is_null()).unwrap();
    assert_eq!((&foreign["description"], &foreign["size"]), (&json!("photos of 2012"), &json!(6)));
    assert!(lines[1..].iter().all(|line| line["inventory"] == head["made"]));
    // The one that is ready is taken, and none is asked for again.
    let table = run(&mut ls(&server, &place, &["inventory", "--table", "v"])).done().stdout;
    let first = table.lines().next().unwrap();
    assert!(
        first.starts_with("glacier://v in eu-central-1: 4 archives, 1 MiB, 1 of them not ours"),
        "{first}"
    );
    assert!(table.contains("not ours: photos of 2012") && table.contains("x manifest"), "{table}");
    assert_eq!((server.calls("InitiateJob"), server.calls("DeleteArchive")), (1, 0));
}

#[test]
fn no_wait_gives_75_and_asks_once() {
    let (place, server) = with_inventory();
    let no_wait = || run(&mut ls(&server, &place, &["inventory", "--no-wait", "v"]));
    let message =
        "glacier://v: its inventory is not ready; run the same command again in a few hours";
    assert_eq!(no_wait().failed(75, message).stdout, "");
    let ended = again(no_wait).done();
    assert_eq!(ended.lines().len(), 5);
    assert_eq!(server.calls("InitiateJob"), 1);
}

#[test]
fn an_answer_that_was_lost_is_no_second_job() {
    let (place, mut server) = with_inventory();
    server.fail("{\"call\":\"InitiateJob\",\"nth\":1,\"do\":\"lose-answer\"}\n");
    assert_eq!(run(&mut ls(&server, &place, &["inventory", "v"])).done().lines().len(), 5);
    let asked = server.log().iter().filter(|line| line["call"] == "InitiateJob").count();
    assert_eq!(asked, 1);
}

#[test]
fn a_catalog_that_has_all_of_it_does_not_differ() {
    let (place, server) = with_inventory();
    let diff = || run(&mut ls(&server, &place, &["inventory", "--diff", "catalog.jsonl", "v"]));
    let lines = diff().done().lines();
    assert_eq!((kinds(&lines), &lines[0]["later"]), (vec!["inventory"], &json!(0)));
    // What is stored now is younger than the inventory.
    store(&server, &place, "y", b"more bytes");
    let lines = diff().done().lines();
    are_listed(&lines, &[]);
    assert_eq!((kinds(&lines), &lines[0]["later"]), (vec!["inventory"], &json!(2)));
}

#[test]
fn what_one_side_lacks_is_1_and_named() {
    let (place, mut server) = with_inventory();
    let known = catalog(&place);
    // The catalog has lost a volume, the vault the manifest and the other.
    let lines: Vec<Value> = known.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let archives: Vec<&Value> = lines.iter().filter(|line| line["type"] == "archive").collect();
    let stored = lines.iter().find(|line| line["type"] == "stored").unwrap();
    server.delete("v", stored["manifest_id"].as_str().unwrap());
    server.delete("v", archives[1]["archive_id"].as_str().unwrap());
    pass_a_day(&mut server, 2);
    let lost = archives[0]["archive_id"].as_str().unwrap();
    let less: Vec<&str> = known.lines().filter(|line| !line.contains(lost)).collect();
    fs::write(place.path("less"), less.join("\n")).unwrap();
    let ended = run(&mut ls(&server, &place, &["inventory", "--diff", "less", "v"]));
    assert_eq!((ended.code(), ended.stderr.as_str()), (1, ""), "{}", ended.stdout);
    let named: BTreeSet<(String, String)> = ended.lines()[1..]
        .iter()
        .map(|line| {
            let id = line["archive_id"].as_str().or(line["manifest_id"].as_str()).unwrap();
            (line["type"].as_str().unwrap().to_owned(), id.to_owned())
        })
        .collect();
    let expected = [
        ("inventoried", &archives[0]["archive_id"]),
        ("archive", &archives[1]["archive_id"]),
        ("stored", &stored["manifest_id"]),
    ];
    let expected = expected.map(|(of, id)| (of.to_owned(), id.as_str().unwrap().to_owned()));
    assert_eq!(named, BTreeSet::from(expected));
    let table = run(&mut ls(&server, &place, &["inventory", "--table", "--diff", "less", "v"]));
    assert!(
        table.code() == 1 && table.stdout.contains("in the catalog only: x"),
        "{}",
        table.stdout
    );
    // What the catalog knows to be deleted is missed by nobody.
    let gone = |id: &Value| {
        format!(
            r#"{{"type":"deleted","dest":"glacier://v","archive_id":{id},"deleted":"2026-01-01T00:00:00Z"}}"#
        )
    };
    let deleted =
        format!("{known}{}\n{}\n", gone(&archives[1]["archive_id"]), gone(&stored["manifest_id"]));
    fs::write(place.path("deleted"), deleted).unwrap();
    run(&mut ls(&server, &place, &["inventory", "--diff", "deleted", "v"])).done();
}

#[test]
fn jobs_are_told_with_what_the_catalog_knows() {
    let (place, server) = with_inventory();
    assert_eq!(run(&mut ls(&server, &place, &["jobs", "v"])).done().stdout, "");
    run(&mut ls(&server, &place, &["inventory", "--no-wait", "v"]));
    let mut get = place.tool("glacier-get", &["--no-wait", "--tier", "Bulk"]);
    run_with(server.client(&mut get), catalog(&place).as_bytes());
    let lines = run(&mut ls(&server, &place, &["jobs", "v"])).done().lines();
    assert_eq!(lines.len(), 3);
    are_listed(&lines, &[]);
    let mut told: Vec<Value> = lines
        .iter()
        .map(|line| {
            json!([line["action"], line["tier"], line["name"], line["volume"], line["size"]])
        })
        .collect();
    told.sort_by_key(ToString::to_string);
    told[2][4] = Value::Null;
    assert_eq!(
        told,
        [
            json!(["archive", "Bulk", "x", 0, MIB]),
            json!(["archive", "Bulk", "x", 1, 5]),
            json!(["inventory", null, null, null, null])
        ]
    );
    assert!(lines.iter().all(|line| line["type"] == "retrieval" && line["created"].is_string()));
    // Another catalog knows nothing, and none at all is no failure.
    fs::write(place.path("empty"), "").unwrap();
    let table =
        run(&mut ls(&server, &place, &["jobs", "--catalog", "empty", "--table", "v"])).done();
    assert_eq!(table.stdout.matches("an archive that the catalog does not have").count(), 2);
    fs::remove_file(place.path("catalog.jsonl")).unwrap();
    run(&mut ls(&server, &place, &["jobs", "v"])).done();
}

/// A server that holds a part of an upload, whose put was killed.
fn with_upload() -> (Place, Local, String) {
    let place = Place::default();
    let plan =
        "{\"call\":\"CompleteMultipartUpload\",\"from\":1,\"times\":\"all\",\"do\":\"stall\"}\n";
    let server = Local::with_faults(&place, 60, plan);
    let options = ["--part-size", "1M", "--volume-size", "2M", "--spool-limit", "none"];
    let mut chunk = place.tool("glacier-chunk", &options);
    let lines = run_with(chunk.args(["--trust-eof", "--name", "x"]), &pattern(2 * MIB)).done();
    let mut put = start(server.put(&place, &["--create-vault", "v"]).stdin(Stdio::piped()));
    assert!(put.give(lines.stdout.as_bytes()));
    put.end_input();
    until("the parts are sent", || server.calls("UploadMultipartPart") == 2);
    // While put runs, its stream is told to be on its way.
    let line = run(&mut ls(&server, &place, &["spool"])).done().lines().remove(0);
    are_listed(std::slice::from_ref(&line), &["state and more in a stream line"]);
    assert_eq!((&line["state"], &line["next"]), (&json!("sending"), &json!("is under way")));
    assert_eq!(line["held"], format!("glacier-put (process {})", put.id()));
    put.kill();
    put.finish();
    (place, server, lines.stdout)
}

#[test]
fn uploads_are_told_with_their_bytes_and_whether_the_spool_goes_on() {
    let (place, server, _) = with_upload();
    let lines = run(&mut ls(&server, &place, &["uploads", "v"])).done().lines();
    assert_eq!(lines.len(), 1);
    are_listed(&lines, &[]);
    let told = ["type", "kind", "name", "volume", "size", "part_size", "spooled"]
        .map(|field| lines[0][field].clone());
    assert_eq!(json!(told), json!(["upload", "volume", "x", 0, 2 * MIB, MIB, true]));
    let other = run(&mut ls(&server, &place, &["uploads", "--spool", "none", "v"])).done().lines();
    assert!(other[0]["spooled"].is_null(), "{}", other[0]);
    assert!(!place.path("none").exists(), "a spool was only looked for");
    let table = run(&mut ls(&server, &place, &["uploads", "--table", "v"])).done().stdout;
    assert!(table.contains("2 MiB  goes on  x volume 0"), "{table}");
}

#[test]
fn a_spool_is_only_looked_at() {
    let (place, server, _) = with_upload();
    let before: Vec<_> = files(&place.spool());
    let line = run(&mut ls(&server, &place, &["spool"])).done().lines().remove(0);
    let id = line["stream"].as_str().unwrap();
    let told = ["type", "name", "state", "parts", "spooled_size", "dest", "held"]
        .map(|field| line[field].clone());
    assert_eq!(json!(told), json!(["stream", "x", "spooled", 2, 2 * MIB, "glacier://v", null]));
    let next = format!("cat \"$GLACIER_SPOOL\"/{id}/lines.jsonl | glacier-put glacier://v");
    assert_eq!(line["next"], next);
    assert_eq!(files(&place.spool()), before);
    let table = run(&mut ls(&server, &place, &["spool", "--table"])).done().stdout;
    assert!(table.lines().nth(1).unwrap().ends_with(&next), "{table}");
}

#[test]
fn a_stream_that_was_cut_short_is_to_be_sent_again() {
    let place = Place::default();
    let spool = || run(&mut place.tool("glacier-ls", &["spool"])).done();
    assert_eq!(spool().stdout, "");
    assert!(!place.spool().exists(), "it was created");
    let options = [&SIZES[..], &["--trust-eof", "--name", "x", "--spool-limit", "none"]].concat();
    let mut chunk = start(place.tool("glacier-chunk", &options).stdin(Stdio::piped()));
    assert!(chunk.give(&pattern(2 * MIB + 7)));
    chunk.line_of("volume");
    let line = spool().lines().remove(0);
    assert_eq!(line["state"], "cutting");
    assert_eq!(line["held"], format!("glacier-chunk (process {})", chunk.id()));
    chunk.kill();
    chunk.finish();
    let line = spool().lines().remove(0);
    assert_eq!(line["state"], "stopped");
    let drop = format!(
        "glacier-ls spool | grep {} | glacier-rm --yes DEST",
        line["stream"].as_str().unwrap()
    );
    assert_eq!(line["next"], format!("send it again with the same command, or drop it: {drop}"));
    assert!(line["held"].is_null() && line["dest"].is_null(), "{line}");
    // One without lines is told of, too.
    let id = line["stream"].as_str().unwrap();
    fs::remove_file(place.stream(id).join("lines.new")).unwrap();
    let ended = run(&mut place.tool("glacier-ls", &["spool"]));
    assert_eq!((ended.code(), ended.stdout.as_str()), (0, ""));
    assert!(ended.stderr.contains(&format!("warning: stream {id}: ")), "{}", ended.stderr);
}

#[test]
fn a_stream_that_somebody_works_on_is_not_told_to_be_sent_again() {
    let place = Place::default();
    let options = [&SIZES[..], &["--trust-eof", "--name", "x", "--spool-limit", "none"]].concat();
    let lines = run_with(&mut place.tool("glacier-chunk", &options), &pattern(MIB)).done().lines();
    let directory = place.stream(lines[0]["stream"].as_str().unwrap());
    let told = || {
        let ended = run(&mut place.tool("glacier-ls", &["spool"]));
        assert_eq!((ended.code(), ended.stdout.as_str()), (0, ""));
        ended.stderr
    };
    // As rm leaves it between two of its steps, and chunk before its first.
    fs::remove_file(directory.join("lines.jsonl")).unwrap();
    for lock in ["chunk.lock", "put.lock"] {
        let lock = File::create(directory.join(lock)).unwrap();
        flock(&lock, FlockOperation::LockExclusive).unwrap();
        assert_eq!(told(), "");
    }
    assert!(told().contains("1 parts with 1 MiB, and no line tells of what"), "{}", told());
    fs::remove_file(directory.join("00000000-0000.part")).unwrap();
    assert_eq!(told(), "", "nothing is left to tell of");
}

#[test]
fn archives_are_those_that_a_stored_stream_needs() {
    let place = Place::default();
    let server = Local::start(&place);
    store(&server, &place, "x", &pattern(2 * MIB));
    store(&server, &place, "y", b"y");
    let known = catalog(&place);
    let archives =
        |input: &str| run_with(&mut place.tool("glacier-ls", &["archives"]), input.as_bytes());
    let mut all: Vec<&str> = known.lines().filter(|line| line.contains("\"archive\"")).collect();
    // Volumes are stored in any order, and printed in theirs.
    let place_of = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        (line["name"].to_string(), line["volume"].as_u64())
    };
    all.sort_by_key(|line| place_of(line));
    assert_eq!(archives(&known).done().stdout.lines().collect::<Vec<_>>(), all);
    let lines = run(&mut place.tool("glacier-ls", &["archives", "--catalog", "catalog.jsonl"]));
    assert_eq!(lines.done().stdout.lines().count(), 3);
    let id = serde_json::from_str::<Value>(all[0]).unwrap()["archive_id"].clone();
    let deleted = format!(
        r#"{known}{{"type":"deleted","archive_id":{id},"deleted":"2026-11-25T00:00:00Z"}}"#
    );
    assert_eq!(archives(&deleted).done().stdout.trim_end(), all[2], "x is not stored any more");
    let unfinished: String =
        known.lines().filter(|line| !line.contains("\"stored\"")).collect::<Vec<_>>().join("\n");
    assert_eq!(archives(&unfinished).done().stdout, "");
    let torn = format!("{}\n{known}", &all[0][..100]);
    let ended = archives(&torn);
    assert_eq!((ended.code(), ended.stdout.lines().count()), (0, 3));
    let mut table = place.tool("glacier-ls", &["archives", "--table"]);
    let table = run_with(&mut table, known.as_bytes()).done().stdout;
    assert!(table.contains("glacier://v  x volume 0"), "{table}");
}

#[test]
fn a_wrong_command_line_is_64() {
    let place = Place::default();
    for arguments in [
        &[][..],
        &["colour"],
        &["inventory"],
        &["inventory", "a/b"],
        &["inventory", "--rebuild", "--diff", "x", "v"],
        &["inventory", "--rebuild", "--table", "v"],
        &["--table", "inventory", "--rebuild", "v"],
        &["inventory", "--tier", "Fast", "v"],
        &["vaults", "v"],
        &["receipts", "--table"],
        &["receipts", "v"],
        &["spool", "--region", "x"],
    ] {
        let ended = run(&mut place.tool("glacier-ls", arguments));
        assert_eq!(
            (ended.code(), ended.stdout.as_str()),
            (64, ""),
            "{arguments:?}: {}",
            ended.stderr
        );
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    }
}

#[test]
fn a_catalog_of_a_later_version_is_65() {
    let (place, server) = with_inventory();
    let newer = catalog(&place).replace("\"stored\",\"v\":1", "\"stored\",\"v\":2");
    fs::write(place.path("newer"), &newer).unwrap();
    let message = "stored: version 2 is newer than this program, which knows 1";
    run_with(&mut place.tool("glacier-ls", &["archives"]), newer.as_bytes()).failed_like(
        65,
        "stdin: line ",
        message,
    );
    run(&mut ls(&server, &place, &["inventory", "--diff", "newer", "v"])).failed_like(
        65,
        "catalog newer: line ",
        message,
    );
    let endless = "x".repeat(3 * MIB);
    run_with(&mut place.tool("glacier-ls", &["archives"]), endless.as_bytes()).failed_like(
        65,
        "stdin: ",
        "is this a catalog?",
    );
}

#[test]
fn a_vault_that_is_not_there_is_69() {
    let place = Place::default();
    let server = Local::start(&place);
    for what in ["inventory", "jobs", "uploads"] {
        let ended = run(&mut ls(&server, &place, &[what, "w"]));
        ended.failed_like(69, "glacier://w: ResourceNotFound", "");
    }
}

#[test]
fn what_cannot_be_read_or_written_is_74() {
    let (place, server) = with_inventory();
    for arguments in [&["vaults"][..], &["inventory", "v"], &["vaults", "--table"]] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut command = ls(&server, &place, arguments);
        let ended = common::start_into(&mut command, full).finish();
        ended.failed(74, "stdout: cannot write: No space left on device");
        let mut closed = place.command("sh");
        closed
            .args(["-c", "exec \"$0\" \"$@\" >&-"])
            .arg(common::program("glacier-ls"))
            .args(arguments);
        run(server.client(&mut closed)).failed(74, "stdout: cannot write: Bad file descriptor");
    }
    run(&mut ls(&server, &place, &["inventory", "--diff", "nowhere", "v"]))
        .failed(74, "catalog nowhere: cannot open: No such file or directory");
    fs::create_dir(place.path("directory")).unwrap();
    run(&mut place.tool("glacier-ls", &["archives", "--catalog", "directory"]))
        .failed(74, "catalog directory: cannot read: Is a directory");
}

#[test]
fn a_service_that_is_not_there_is_75() {
    let (place, mut server) = with_inventory();
    server.kill();
    for arguments in [&["vaults"][..], &["inventory", "v"], &["jobs", "v"], &["uploads", "v"]] {
        let mut command = ls(&server, &place, arguments);
        let ended = run(command.args(["--patience", "0s"]));
        ended.failed_like(75, "", "; run the same command again");
    }
}

#[test]
fn a_reader_that_is_gone_is_noticed_while_waiting() {
    let place = Place::default();
    let mut server = Local::start(&place);
    store(&server, &place, "x", b"bytes");
    pass_a_day(&mut server, 2);
    let mut running = start(&mut ls(&server, &place, &["inventory", "v"]));
    until("it is asked for", || server.calls("InitiateJob") == 1);
    running.close_output();
    running
        .finish()
        .failed(75, "stdout: the program that reads it has ended; run the same command again");
}

#[test]
fn an_inventory_that_fails_is_75() {
    let (place, mut server) = with_inventory();
    server.fail("{\"call\":\"ListJobs\",\"from\":2,\"times\":\"all\",\"do\":\"fail-job\"}\n");
    let ended = run(&mut ls(&server, &place, &["inventory", "v"]));
    ended.failed_like(75, "glacier://v: its inventory failed: ", "; run the same command again");
}

#[test]
fn credentials_and_configuration_are_77_and_78() {
    let place = Place::default();
    let server = Local::start(&place);
    for arguments in [&["vaults"][..], &["inventory", "v"], &["jobs", "v"], &["uploads", "v"]] {
        let mut none = ls(&server, &place, arguments);
        let ended = run(none.env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"));
        ended.failed_like(77, "no AWS credentials: ", "");
        let mut wrong = ls(&server, &place, arguments);
        wrong
            .env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
            .env("AWS_SECRET_ACCESS_KEY", "wrong");
        run(&mut wrong).failed_like(77, "", "");
        let mut nowhere = ls(&server, &place, arguments);
        run(nowhere.env_remove("AWS_REGION"))
            .failed(78, "no region; set AWS_REGION, a profile's region, or --region");
        let mut clear = ls(&server, &place, arguments);
        run(clear.env("AWS_ENDPOINT_URL", "http://192.0.2.1:80")).failed_like(
            78,
            "http://192.0.2.1:80",
            "",
        );
        let mut tls = ls(&server, &place, arguments);
        let endpoint = server.endpoint.replace("http:", "https:");
        run(tls.env("AWS_ENDPOINT_URL", &endpoint))
            .failed(78, &format!("{endpoint}: it does not speak TLS"));
    }
    fs::create_dir(place.spool()).unwrap();
    fs::set_permissions(place.spool(), fs::Permissions::from_mode(0o755)).unwrap();
    let open = format!("spool {}: open to other users; chmod 700 it", place.spool().display());
    run(&mut ls(&server, &place, &["spool"])).failed(78, &open);
    run(&mut ls(&server, &place, &["uploads", "v"])).failed(78, &open);
    fs::remove_dir(place.spool()).unwrap();
    fs::write(place.spool(), "a file").unwrap();
    let none = format!("spool {}: not a directory", place.spool().display());
    run(&mut ls(&server, &place, &["spool"])).failed(78, &none);
}
