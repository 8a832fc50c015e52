//! glacier-verify, from the outside, against glacier-local.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::common::local::{Local, REGION, catalog, pattern, sorted};
use crate::common::{self, Ended, Place, run, run_on, run_with, skip, start, until};
use serde_json::Value;

const MIB: usize = 1 << 20;

/// Stores bytes in volumes of 4 MiB and parts of 1 MiB.
fn store(server: &Local, place: &Place, vault: &str, name: &str, bytes: &[u8]) {
    let options = ["--trust-eof", "--name", name, "--part-size", "1M", "--volume-size", "4M"];
    let mut chunk = place.tool("glacier-chunk", &options);
    let lines = run_with(chunk.args(["--spool-limit", "none"]), bytes).done().stdout;
    run_with(&mut server.put(place, &["--create-vault", vault]), lines.as_bytes()).done();
}

/// A stream of six parts and a bit, in two volumes.
fn one(place: &Place) -> Local {
    let server = Local::start(place);
    store(&server, place, "v", "photos", &pattern(6 * MIB + 77));
    server
}

fn verify(server: &Local, place: &Place, arguments: &[&str]) -> Command {
    let mut verify = place.tool("glacier-verify", arguments);
    server.client(&mut verify);
    verify
}

/// Runs it on the catalog of a place.
fn sample(server: &Local, place: &Place, arguments: &[&str]) -> Ended {
    run_on(
        verify(server, place, &["--tier", "Expedited"]).args(arguments),
        &place.path("catalog.jsonl"),
    )
}

/// Runs it on lines.
fn fetch(server: &Local, place: &Place, arguments: &[&str], lines: &str) -> Ended {
    run_with(verify(server, place, &["--tier", "Expedited"]).args(arguments), lines.as_bytes())
}

/// The parts that `verified` or `sample` lines are about.
fn parts(lines: &[Value]) -> Vec<(String, u64, u64)> {
    let mut parts = Vec::new();
    for line in lines {
        let first = line["part"].as_u64().unwrap();
        let name = line["name"].as_str().unwrap().to_owned();
        for part in first..first + line["parts"].as_u64().unwrap() {
            parts.push((name.clone(), line["volume"].as_u64().unwrap(), part));
        }
    }
    parts.sort();
    parts
}

/// The `verified` lines of a catalog.
fn verified(place: &Place) -> Vec<Value> {
    let text = catalog(place);
    let lines = text.lines().filter(|line| line.starts_with("{\"type\":\"verified\""));
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn every_part_has_its_turn_and_is_written_down() {
    let place = Place::default();
    let server = one(&place);
    let mut seen = BTreeSet::new();
    for round in 0..3 {
        let ended = sample(&server, &place, &["--budget", "2100K"]).done();
        let lines = ended.of_type("verified");
        assert_eq!(lines.len(), ended.lines().len());
        assert_eq!(lines, verified(&place)[verified(&place).len() - lines.len()..]);
        let size: u64 = lines.iter().map(|line| line["size"].as_u64().unwrap()).sum();
        assert!(size <= 2100 << 10, "{size}");
        for part in parts(&lines) {
            // The last round has room for one that was sampled.
            assert!(seen.insert(part.clone()) || round == 2, "{part:?} a second time");
        }
    }
    assert_eq!(seen.len(), 7, "{seen:?}");
    // Now those that were sampled longest ago.
    sample(&server, &place, &["--budget", "1M"]).done();
    let all = verified(&place);
    let times = |line: &Value| line["verified"].as_str().unwrap().to_owned();
    assert!(times(all.last().unwrap()) >= times(&all[0]));
    // The catalog is one still.
    run_on(&mut place.tool("glacier-chain", &["photos"]), &place.path("catalog.jsonl")).done();
}

#[test]
fn a_request_is_compared_later_and_not_paid_for_again() {
    let place = Place::default();
    let server = one(&place);
    let before = catalog(&place);
    let asked = sample(&server, &place, &["--request", "--budget", "3M", "--seed", "5"]).done();
    let jobs = asked.of_type("job");
    assert_eq!(server.calls("InitiateJob"), jobs.len());
    assert_eq!(catalog(&place), before);
    for line in asked.stdout.lines().filter(|line| line.contains("\"hashes\"")) {
        assert!(before.lines().any(|known| known == line), "not as in the catalog: {line}");
    }
    let size = |job: &Value| job["range_size"].as_u64().unwrap();
    assert!(jobs.iter().map(size).sum::<u64>() <= 3 << 20);

    let compared = fetch(&server, &place, &[], &asked.stdout).done();
    assert_eq!(parts(&compared.lines()).len(), 3);
    assert_eq!(sorted(&compared.stdout).len(), verified(&place).len());
    assert_eq!(server.calls("InitiateJob"), jobs.len());
    // What is done is not fetched again.
    let fetched = server.calls("GetJobOutput");
    assert_eq!(fetch(&server, &place, &["--no-wait"], &asked.stdout).done().stdout, "");
    assert_eq!(server.calls("GetJobOutput"), fetched);
    // The same choice again finds the same jobs.
    let again = fetch(&server, &place, &["--request", "--budget", "3M", "--seed", "5"], &before);
    let ids = |ended: &Ended| {
        let jobs = ended.of_type("job").into_iter();
        jobs.map(|job| job["job_id"].as_str().unwrap().to_owned()).collect::<BTreeSet<_>>()
    };
    let place_of_others = Place::default();
    let mut other = verify(&server, &place, &["--request", "--budget", "3M", "--seed", "5"]);
    other.env("GLACIER_CATALOG", place_of_others.path("none.jsonl"));
    let other = run_with(&mut other, before.as_bytes()).done();
    assert_eq!(ids(&other), ids(&asked));
    assert_ne!(ids(&again.done()), ids(&asked), "the catalog knows what was sampled");
}

#[test]
fn what_is_ready_is_compared_and_the_rest_is_75() {
    let place = Place::default();
    let mut server = one(&place);
    let chosen = |budget, seed| {
        let arguments = ["--dry-run", "--budget", budget, "--seed", seed];
        parts(&sample(&server, &place, &arguments).done().of_type("sample"))
    };
    let first = chosen("1M", "1");
    let mut rest = chosen("4M", "9");
    rest.retain(|part| !first.contains(part));
    let quick = sample(&server, &place, &["--request", "--budget", "1M", "--seed", "1"]);
    let quick = quick.done().stdout;
    let mut standard = verify(&server, &place, &["--request", "--budget", "4M"]);
    standard.args(["--tier", "Standard", "--seed", "9"]);
    let slow = run_on(&mut standard, &place.path("catalog.jsonl")).done().stdout;
    let lines = quick.clone() + &slow;
    let count = lines.matches("\"type\":\"job\"").count();
    let calls = server.calls("InitiateJob");
    fetch(&server, &place, &[], &quick).done();
    let said = format!(
        "{} of {} samples are not ready; run the same command again in a few hours",
        count - 1,
        count - 1
    );
    let ended = fetch(&server, &place, &["--no-wait"], &lines).failed(75, &said);
    assert_eq!(ended.stdout, "", "the quick one is done");
    server.pass(5);
    let ended = fetch(&server, &place, &["--no-wait"], &lines).done();
    assert_eq!(parts(&ended.lines()), rest);
    assert_eq!(server.calls("InitiateJob"), calls);
}

#[test]
fn one_that_is_ready_does_not_wait_for_the_others() {
    let place = Place::default();
    let server = one(&place);
    let ask = |tier: &str, seed: &str| {
        let mut verify = verify(&server, &place, &["--request", "--budget", "1M"]);
        verify.args(["--tier", tier, "--seed", seed]);
        run_on(&mut verify, &place.path("catalog.jsonl")).done().stdout
    };
    let lines = ask("Expedited", "1") + &ask("Standard", "2");
    until("the quick one is compared", || {
        let ended = fetch(&server, &place, &["--no-wait"], &lines);
        assert_eq!(ended.code(), 75, "{}", ended.stderr);
        !verified(&place).is_empty()
    });
    let said = "1 of 1 samples are not ready; run the same command again in a few hours";
    fetch(&server, &place, &["--no-wait"], &lines).failed(75, said);
}

#[test]
fn a_job_whose_output_is_gone_is_asked_for_again() {
    let place = Place::default();
    let mut server = one(&place);
    let asked = sample(&server, &place, &["--request", "--budget", "1M"]).done().stdout;
    server.pass_a_day();
    let said = "1 of 1 samples are not ready; run the same command again in a few hours";
    fetch(&server, &place, &["--no-wait"], &asked).failed(75, said);
    assert_eq!(server.calls("InitiateJob"), 2);
    fetch(&server, &place, &[], &asked).done();
    assert_eq!((server.calls("InitiateJob"), verified(&place).len()), (2, 1));
    // One that is listed as ready, and is not there when it is fetched.
    let asked = sample(&server, &place, &["--request", "--budget", "1M"]).done().stdout;
    server.fail(r#"{"call":"GetJobOutput","nth":1,"do":"expire-job"}"#);
    fetch(&server, &place, &[], &asked).done();
    assert_eq!((server.calls("InitiateJob"), verified(&place).len()), (4, 2));
}

#[test]
fn a_run_that_is_killed_is_continued_by_the_next() {
    let place = Place::default();
    let mut server = one(&place);
    let mut standard = verify(&server, &place, &["--request", "--tier", "Standard"]);
    let asked = run_on(&mut standard, &place.path("catalog.jsonl")).done().stdout;
    let calls = server.calls("InitiateJob");
    fs::write(place.path("jobs"), &asked).unwrap();
    let listed = server.calls("ListJobs");
    let mut waiting = verify(&server, &place, &[]);
    let mut waiting = start(waiting.stdin(File::open(place.path("jobs")).unwrap()));
    until("it waits", || server.calls("ListJobs") > listed);
    waiting.kill();
    drop(waiting);
    assert_eq!(verified(&place).len(), 0);
    server.pass(5);
    let ended = fetch(&server, &place, &[], &asked).done();
    assert_eq!(parts(&ended.lines()).len(), 7);
    assert_eq!(server.calls("InitiateJob"), calls);
}

#[test]
fn a_part_that_differs_is_told_and_the_others_go_on() {
    let place = Place::default();
    let plan = r#"{"call":"GetJobOutput","nth":1,"do":"corrupt","bytes":1000}"#;
    let server = Local::with_faults(&place, 600, plan);
    store(&server, &place, "v", "photos", &pattern(3 * MIB));
    let archive = server.archives("v")[0].id.clone();
    let stream = catalog(&place);
    let stream = stream.split("\"stream\":\"").nth(1).unwrap().split('"').next().unwrap();
    let ended = sample(&server, &place, &["--patience", "0s", "--concurrency", "1"]);
    let said = format!(
        "photos: volume 0: part 0: does not equal its hash; archive {archive} is damaged; \
         store stream {stream} in another vault while its snapshot is there"
    );
    let ended = ended.failed(65, &said);
    let expected = [1, 2].map(|part| ("photos".to_owned(), 0, part));
    assert_eq!(parts(&ended.lines()), expected);
    assert_eq!(parts(&verified(&place)), expected, "what differs is not verified");
    // It was the line, not the archive: the next run comes to it first.
    let ended = sample(&server, &place, &["--budget", "1M"]).done();
    assert_eq!(parts(&ended.lines()), [("photos".to_owned(), 0, 0)]);
}

#[test]
fn what_was_damaged_on_its_way_is_fetched_again() {
    let place = Place::default();
    let plan = r#"{"call":"GetJobOutput","nth":1,"do":"corrupt"}
{"call":"GetJobOutput","nth":2,"do":"truncate","bytes":1000}
{"call":"GetJobOutput","nth":3,"do":"cut-answer","bytes":70000}
"#;
    let server = Local::with_faults(&place, 600, plan);
    store(&server, &place, "v", "photos", &pattern(2 * MIB));
    let ended = sample(&server, &place, &[]).done();
    assert_eq!(parts(&ended.lines()).len(), 2);
}

#[test]
fn an_archive_that_is_gone_is_told_and_the_others_go_on() {
    let place = Place::default();
    let server = one(&place);
    let archives = server.archives("v");
    let gone = &archives[1].id;
    let path = format!("server/regions/{REGION}/vaults/v/archives/{gone}");
    fs::remove_dir_all(place.path(path)).unwrap();
    let ended = sample(&server, &place, &[]);
    let begins = format!("photos: volume 1: its archive {gone} is not in glacier://v: ");
    let ended = ended.failed_like(65, &begins, " in another vault while its snapshot is there");
    assert_eq!(parts(&ended.lines()).len(), 4, "volume 0 is there");
    let ended = sample(&server, &place, &["--request", "--budget", "3M"]);
    let ended = ended.failed_like(65, &begins, " in another vault while its snapshot is there");
    assert_eq!(ended.of_type("job").len(), 0, "volume 1 comes before what was sampled");
}

#[test]
fn several_vaults_are_sampled_at_once() {
    let place = Place::default();
    let server = one(&place);
    store(&server, &place, "w", "letters", &pattern(MIB));
    let lines = sample(&server, &place, &[]).done().lines();
    assert_eq!(parts(&lines).len(), 8);
    let dests: BTreeSet<&str> = lines.iter().map(|line| line["dest"].as_str().unwrap()).collect();
    assert_eq!(dests.into_iter().collect::<Vec<_>>(), ["glacier://v", "glacier://w"]);
}

#[test]
fn what_is_not_stored_or_was_deleted_is_not_sampled() {
    let place = Place::default();
    let server = one(&place);
    let all = catalog(&place);
    let nothing = "stdin: no stream is stored here, and no job asked for";
    let without = |word: &str| {
        let lines = all.lines().filter(|line| !line.contains(word));
        lines.flat_map(|line| [line, "\n"]).collect::<String>()
    };
    let unfinished = without("\"type\":\"stored\"");
    fetch(&server, &place, &[], &unfinished).failed(65, nothing);
    fetch(&server, &place, &[], "").failed(65, nothing);
    let archive = server.archives("v")[0].id.clone();
    let deleted = format!(
        "{{\"type\":\"deleted\",\"archive_id\":\"{archive}\",\"deleted\":\"2026-12-01T00:00:00Z\"}}\n"
    );
    fetch(&server, &place, &[], &format!("{deleted}{all}")).failed(65, nothing);
    let warning = "glacier-verify: warning: stdin: 1 stored streams lack \"archive\" lines and are \
                   not sampled; the first is photos (stream ";
    let ended = fetch(&server, &place, &[], &without("\"type\":\"archive\""));
    assert_eq!(ended.code(), 65);
    assert!(ended.stderr.starts_with(warning), "{}", ended.stderr);
    assert_eq!((server.calls("InitiateJob"), server.calls("ListJobs")), (0, 0));

    // What was deleted since it was asked for is not missed.
    let asked = sample(&server, &place, &["--request", "--budget", "7M"]).done();
    let mut file = OpenOptions::new().append(true).open(place.path("catalog.jsonl")).unwrap();
    for held in server.archives("v") {
        std::io::Write::write_all(&mut file, deleted.replace(&archive, &held.id).as_bytes())
            .unwrap();
    }
    assert_eq!(fetch(&server, &place, &[], &asked.stdout).done().stdout, "");
}

#[test]
fn hashes_that_were_changed_are_not_the_vaults_fault() {
    let place = Place::default();
    let server = one(&place);
    let all = catalog(&place);
    let hash = all.split("\"treehashes\":[\"").nth(1).unwrap().split('"').next().unwrap();
    let changed = all.replacen(hash, &"0".repeat(64), 1);
    let ended = fetch(&server, &place, &["--budget", "7M"], &changed);
    let ended =
        ended.failed_like(65, "photos: volume ", ": its parts' hashes do not give its tree hash");
    assert_eq!(server.calls("InitiateJob"), 1, "the other volume");
    assert!(!ended.stdout.is_empty());
    let lacking: String = all
        .lines()
        .filter(|line| !line.contains("\"hashes\""))
        .flat_map(|line| [line, "\n"])
        .collect();
    let ended = fetch(&server, &place, &["--budget", "1M"], &lacking);
    ended.failed_like(65, "photos: volume ", "part 0: no \"hashes\" line has its hash");
    assert_eq!(server.calls("InitiateJob"), 1);
}

#[test]
fn jobs_that_do_not_fit_or_were_cut_are_told() {
    let place = Place::default();
    let server = one(&place);
    let asked = sample(&server, &place, &["--request", "--budget", "1M"]).done().stdout;
    let (hashes, job) = asked.split_once('\n').unwrap();
    let bad = job.replace("\"range_size\":1048576", "\"range_size\":1048577");
    let ended = fetch(&server, &place, &[], &format!("{hashes}\n{bad}"));
    ended.failed_like(
        65,
        "photos: volume ",
        ": its job brings up no whole parts; was the line changed?",
    );
    fetch(&server, &place, &[], job).failed_like(
        65,
        "photos: volume ",
        "no \"hashes\" line has its hash",
    );
    let cut = fetch(&server, &place, &[], &asked[..asked.len() - 20]);
    assert_eq!(cut.code(), 65, "{}", cut.stderr);
    assert!(cut.stderr.contains("warning: stdin: 1 bad line skipped"), "{}", cut.stderr);
    let newer = asked.replace("\"v\":1", "\"v\":2");
    fetch(&server, &place, &[], &newer).failed_like(
        65,
        "stdin: line 2: job: version 2 is newer than this program",
        "knows 1",
    );
    assert_eq!((server.calls("GetJobOutput"), verified(&place).len()), (0, 0));
}

#[test]
fn a_torn_line_is_skipped_with_a_warning() {
    let place = Place::default();
    let server = one(&place);
    let all = catalog(&place);
    let torn = format!("{{\"type\":\"archive\",\"v\":1,\n{all}");
    let ended = fetch(&server, &place, &["--budget", "1M"], &torn);
    assert_eq!((ended.code(), parts(&ended.lines()).len()), (0, 1));
    let said = "glacier-verify: warning: stdin: 1 bad line skipped, the first is 1: a torn line\n";
    assert_eq!(ended.stderr, said);
}

#[test]
fn a_budget_that_holds_too_little_is_told() {
    let place = Place::default();
    let server = Local::start(&place);
    store(&server, &place, "v", "photos", &pattern(2 * MIB));
    sample(&server, &place, &["--budget", "1000K"])
        .failed(64, "--budget: 1000 KiB holds no part; the smallest has 1 MiB");
    store(&server, &place, "v", "note", b"small");
    let ended = sample(&server, &place, &["--budget", "1000K"]);
    let said = "glacier-verify: warning: --budget: 1000 KiB holds no part of 1 MiB, so 1 volumes \
                are not sampled\n";
    assert_eq!((ended.code(), ended.stderr.as_str()), (0, said));
    assert_eq!(parts(&ended.lines()), [("note".to_owned(), 0, 0)]);
}

#[test]
fn a_dry_run_asks_nothing_and_tells_the_price() {
    let place = Place::default();
    let server = one(&place);
    let calls = server.log().len();
    let dry = |arguments: &[&str]| {
        let mut verify = place.tool("glacier-verify", &["--dry-run", "--seed", "3"]);
        run_on(verify.args(arguments), &place.path("catalog.jsonl"))
    };
    let ended = dry(&["--budget", "3M"]).done();
    assert_eq!(parts(&ended.of_type("sample")).len(), 3);
    assert_eq!(ended.stdout, dry(&["--budget", "3M"]).done().stdout, "the seed decides");
    let cost = &ended.of_type("cost")[0];
    assert_eq!(cost["size"].as_u64(), Some(3 << 20));
    assert_eq!(cost["prices_date"], "2026-06-01");
    dry(&["--max-cost", "0.50"]).done();
    let ended = dry(&["--tier", "Expedited", "--max-cost", "0.01"]);
    let ends = " USD, over 0.0100, by the prices of 2026-06-01; nothing was asked for";
    let ended = ended.failed_like(1, "it would cost 0.", ends);
    assert_eq!(ended.stdout, "");
    let ended = sample(&server, &place, &["--max-cost", "0.01"]);
    assert_eq!((ended.code(), ended.stdout.as_str()), (1, ""), "{}", ended.stderr);
    assert_eq!(server.log().len(), calls);
    fs::write(place.path("prices.json"), "{}").unwrap();
    let ended = dry(&["--prices", "prices.json"]);
    ended.failed_like(78, "prices prices.json: ", "");
}

#[test]
fn each_other_exit_code_of_the_manual() {
    let place = Place::default();
    let server = one(&place);
    let all = catalog(&place);
    let code = |arguments: &[&str], lines: &str| fetch(&server, &place, arguments, lines).code();
    assert_eq!(code(&["--colour"], &all), 64);
    assert_eq!(code(&["--budget", "much"], &all), 64);
    assert_eq!(code(&["--request", "--no-wait"], &all), 64);
    fetch(&server, &place, &["--no-wait"], &all)
        .failed(64, "--no-wait: standard input has no jobs; --request begins some");
    let newer = all.replace("\"v\":1", "\"v\":2");
    assert_eq!(code(&[], &newer), 65);
    assert_eq!(code(&[], &"x".repeat(2 << 20)), 65);
    let absent = all.replace("glacier://v", "glacier://absent");
    fetch(&server, &place, &[], &absent).failed_like(69, "glacier://absent: ", "");
    let mut wrong = verify(&server, &place, &[]);
    wrong.env("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE").env("AWS_SECRET_ACCESS_KEY", "wrong");
    assert_eq!(run_on(&mut wrong, &place.path("catalog.jsonl")).code(), 77);
    let mut none = verify(&server, &place, &[]);
    none.env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
    assert_eq!(run_on(&mut none, &place.path("catalog.jsonl")).code(), 77);
    let nowhere = all.replace(&format!("\"{REGION}\""), "\"\"");
    let mut nowhere_at_all = verify(&server, &place, &[]);
    nowhere_at_all.env_remove("AWS_REGION");
    assert_eq!(run_with(&mut nowhere_at_all, nowhere.as_bytes()).code(), 78);
    let mut clear = verify(&server, &place, &["--endpoint-url", "http://192.0.2.1"]);
    assert_eq!(run_on(&mut clear, &place.path("catalog.jsonl")).code(), 78);
    let endpoint = server.endpoint.replace("http:", "https:");
    let mut tls = verify(&server, &place, &["--endpoint-url", &endpoint]);
    run_on(&mut tls, &place.path("catalog.jsonl"))
        .failed(78, &format!("{endpoint}: it does not speak TLS"));
    let asked = sample(&server, &place, &["--request", "--budget", "1M"]).done().stdout;
    fetch(&server, &place, &["--request"], &asked)
        .failed(64, "--request: standard input has jobs already; leave it out to fetch them");
    let mut away = verify(&server, &place, &["--patience", "0s"]);
    away.env("AWS_ENDPOINT_URL", "http://127.0.0.1:1");
    run_on(&mut away, &place.path("catalog.jsonl")).failed_like(
        75,
        "glacier://v: ",
        "; run the same command again",
    );
}

#[test]
fn a_catalog_that_takes_no_line_is_74_and_nothing_is_told() {
    let place = Place::default();
    let server = one(&place);
    let lines = catalog(&place);
    let calls = server.log().len();
    if Path::new("/dev/full").exists() {
        fetch(&server, &place, &["--catalog", "/dev/full"], &lines)
            .failed(74, "catalog /dev/full: not a regular file");
    }
    let below = place.path("catalog.jsonl/none");
    let below = below.to_str().unwrap();
    let ended = fetch(&server, &place, &["--catalog", below], &lines);
    ended.failed(74, &format!("catalog {below}: Not a directory"));
    assert_eq!(server.log().len(), calls, "nothing was asked for");

    // A disk that is full when the line is to be written.
    fs::write(place.path("lines"), &lines).unwrap();
    fs::write(place.path("catalog.jsonl"), "\n".repeat(60_000)).unwrap();
    let mut shell = place.command("sh");
    let script = "trap '' XFSZ; ulimit -f 100; exec \"$0\" --tier Expedited --budget 1M <lines";
    let program = verify(&server, &place, &[]).get_program().to_owned();
    shell.args(["-c", script]).arg(program);
    let path = place.path("catalog.jsonl");
    let ended = run(server.client(&mut shell));
    let said = format!("catalog {}: cannot write: File too large", path.display());
    assert_eq!(ended.failed(74, &said).stdout, "");
    assert_eq!(verified(&place).len(), 0);
}

#[test]
fn output_that_cannot_be_written_is_74() {
    let place = Place::default();
    let server = one(&place);
    let path = place.path("catalog.jsonl");
    let program = verify(&server, &place, &[]).get_program().to_owned();
    let calls = server.log().len();
    let mut closed = place.command("sh");
    closed.args(["-c", "exec \"$0\" --tier Expedited >&-"]).arg(&program);
    run_on(server.client(&mut closed), &path)
        .failed(74, "stdout: cannot write: Bad file descriptor");
    assert_eq!(server.log().len(), calls, "nothing was asked for");
    let Ok(full) = OpenOptions::new().write(true).open("/dev/full") else {
        return skip("/dev/full: not there");
    };
    for (arguments, lines) in [(&["--budget", "1M"][..], 1), (&["--request", "--budget", "1M"], 0)]
    {
        let mut verify = verify(&server, &place, &["--tier", "Expedited"]);
        verify.args(arguments).stdin(File::open(&path).unwrap());
        let before = verified(&place).len();
        let ended = common::start_into(&mut verify, full.try_clone().unwrap()).finish();
        ended.failed(74, "stdout: cannot write: No space left on device");
        assert_eq!(verified(&place).len() - before, lines, "what was compared is written down");
    }
}

#[test]
fn a_reader_that_is_gone_is_noticed_while_waiting() {
    let place = Place::default();
    let server = Local::fast(&place, 1);
    store(&server, &place, "v", "photos", &pattern(MIB));
    let mut waiting = verify(&server, &place, &[]);
    let mut waiting = start(waiting.stdin(File::open(place.path("catalog.jsonl")).unwrap()));
    until("it has asked", || server.calls("InitiateJob") == 1);
    waiting.close_output();
    waiting
        .finish()
        .failed(75, "stdout: the program that reads it has ended; run the same command again");
}

#[test]
fn throttling_and_a_lost_answer_are_no_failure_of_the_part() {
    let place = Place::default();
    let plan = r#"{"call":"InitiateJob","nth":1,"do":"refuse","code":"ThrottlingException"}
{"call":"InitiateJob","nth":2,"do":"lose-answer"}
"#;
    let server = Local::with_faults(&place, 600, plan);
    store(&server, &place, "v", "photos", &pattern(MIB));
    sample(&server, &place, &[]).done();
    // The request whose answer was lost had begun a job: it is not paid for
    // twice.
    assert_eq!((server.calls("InitiateJob"), verified(&place).len()), (0, 1));
}

#[test]
fn nothing_is_left_in_the_way_of_the_next_run() {
    let place = Place::default();
    let server = one(&place);
    let mut piped = verify(&server, &place, &["--tier", "Expedited", "--budget", "1M"]);
    piped.stdin(Stdio::piped()).env("TMPDIR", place.path("nowhere"));
    run_with(&mut piped, catalog(&place).as_bytes()).failed_like(
        74,
        "the copy of the catalog: cannot write (see TMPDIR): ",
        "",
    );
    sample(&server, &place, &["--budget", "1M"]).done();
}
