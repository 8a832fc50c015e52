//! glacier-prune, from the outside. What it decides is held against a model
//! in src/tools/prune/tests.rs.

use std::fs::{self, File};
use std::process::{Command, Stdio};

use crate::common::local::{self, Local, pattern};
use crate::common::{self, Ended, PATIENCE, Place, run, run_on, run_with, start, start_into};
use serde_json::{Value, json};

const HASH: &str = "9bc1b2a288b26af7257a36277ae3816a7d4f16e89c1e7e77d0a5c48bad62b360";
const MIB: u64 = 1 << 20;
const AT: &str = r#""dest":"glacier://cold","region":"eu-central-1""#;

fn archive(number: u32, generation: u32, volume: u32, id: &str, day: u32) -> String {
    let generation =
        if generation == 0 { String::new() } else { format!(r#""generation":{generation},"#) };
    format!(
        r#"{{"type":"archive","v":1,"stream":"a{number:031x}","host":"nas","name":"tank/home@{number}",{generation}"volume":{volume},"offset":0,"size":{MIB},"treehash":"{HASH}","part_size":1048576,{AT},"archive_id":"{id}","uploaded":"2026-01-{day:02}T12:00:00Z","colour":"blue"}}
"#
    )
}

fn stored(number: u32, generation: u32, from: Option<u32>, day: u32) -> String {
    let generation =
        if generation == 0 { String::new() } else { format!(r#""generation":{generation},"#) };
    let from = from.map(|guid| format!(r#""from_guid":"{guid}","#)).unwrap_or_default();
    format!(
        r#"{{"type":"stored","v":1,"stream":"a{number:031x}","host":"nas","name":"tank/home@{number}","format":"zfs","guid":"{number}",{from}{generation}"volumes":1,"size":{MIB},"treehash":"{HASH}","whole":"zfs",{AT},"manifest_id":"m{number}","stored":"2026-01-{day:02}T12:00:00Z"}}
"#
    )
}

/// The lines of a stream of one volume, stored on a day of January.
fn stream(number: u32, from: Option<u32>, day: u32) -> String {
    let of = format!(r#""stream":"a{number:031x}","volume":0,"part":0,"dest":"glacier://cold""#);
    format!(
        "{{\"type\":\"hashes\",{of},\"treehashes\":[\"{HASH}\"]}}\n{}{}",
        archive(number, 0, 0, &format!("a{number}"), day),
        stored(number, 0, from, day)
    )
}

/// Two full streams, each with increments: 1 2 3 and 4 5.
fn catalog() -> String {
    [(1, None), (2, Some(1)), (3, Some(2)), (4, None), (5, Some(4))]
        .map(|(number, from)| stream(number, from, number))
        .concat()
}

/// Runs it on what comes through a pipe and on what is in a file: both must
/// say the same.
fn prune(arguments: &[&str], input: &str) -> Ended {
    let place = Place::default();
    let arguments = [&["--tz", "UTC", "--keep", "last=1"], arguments].concat();
    let piped = run_with(&mut place.tool("glacier-prune", &arguments), input.as_bytes());
    fs::write(place.path("catalog.jsonl"), input).unwrap();
    let read = run_on(&mut place.tool("glacier-prune", &arguments), &place.path("catalog.jsonl"));
    assert_eq!(
        (piped.code(), &piped.stdout, &piped.stderr),
        (read.code(), &read.stdout, &read.stderr)
    );
    piped
}

/// The ids of archives, manifests and uploads that are offered, with reasons.
fn offered(ended: &Ended) -> Vec<(String, String)> {
    let id = |line: &Value| {
        let ids = ["archive_id", "manifest_id", "upload_id"].map(|id| line[id].as_str());
        ids.into_iter().flatten().next().unwrap().to_owned()
    };
    let reason = |line: &Value| line["reason"].as_str().unwrap().to_owned();
    ended.lines().iter().map(|line| (id(line), reason(line))).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(id, why)| ((*id).to_owned(), (*why).to_owned())).collect()
}

#[test]
fn prints_the_lines_of_what_no_rule_keeps_with_the_reason() {
    let more = |line: String| line.replace("}\n", ",\"reason\":\"no rule keeps it\"}\n");
    let going = |number: u32, from| {
        more(archive(number, 0, 0, &format!("a{number}"), number))
            + &more(stored(number, 0, from, number))
    };
    let ended = prune(&["--at", "2026-12-01T00:00:00Z"], &catalog()).done();
    // What others are based on comes behind them.
    assert_eq!(ended.stdout, [going(3, Some(2)), going(2, Some(1)), going(1, None)].concat());
    let all = prune(&["--at", "2026-12-01T00:00:00Z"], &stream(1, None, 1)).done();
    assert_eq!(all.stdout, "", "nothing is an answer, too");
}

#[test]
fn tells_the_fee_of_what_is_early_and_leaves_it_out_if_asked() {
    let ended = prune(&["--at", "2026-04-02T00:00:00Z"], &catalog()).done();
    let lines = ended.lines();
    // Stored on 3 January at noon: free on 3 April at noon.
    let line = lines.iter().find(|line| line["archive_id"] == "a3").unwrap();
    let told =
        ["early_days", "early_fee", "free_from", "currency", "prices_date"].map(|it| &line[it]);
    assert_eq!(
        told,
        [&json!(2), &json!("0.0001"), &json!("2026-04-04"), &json!("USD"), &json!("2026-06-01")]
    );
    let line = lines.iter().find(|line| line["archive_id"] == "a1").unwrap();
    assert_eq!((&line["early_days"], &line["early_fee"]), (&Value::Null, &Value::Null));
    // 1 is free, but what is based on it is not.
    let free = |at| prune(&["--free-only", "--at", at], &catalog()).done().stdout;
    assert_eq!(free("2026-04-02T00:00:00Z"), "");
    assert_eq!(free("2026-04-03T12:00:00Z").lines().count(), 6);
}

#[test]
fn another_table_of_prices_is_taken() {
    let place = Place::default();
    let table = include_str!("../data/prices.json");
    let table = table
        .replace("\"transfer_gb\"", "\"minimum_days\": 180, \"transfer_gb\"")
        .replace("USD", "EUR");
    fs::write(place.path("prices.json"), table).unwrap();
    let path = place.path("prices.json").to_str().unwrap().to_owned();
    let ended = prune(&["--prices", &path, "--at", "2026-04-05T00:00:00Z"], &catalog()).done();
    let line = &ended.lines()[0];
    assert_eq!((&line["early_days"], &line["currency"]), (&json!(89), &json!("EUR")));
}

#[test]
fn explains_what_stays_and_what_goes() {
    let tail = stored(7, 0, None, 7).replace("\"guid\"", "\"resumed\":true,\"guid\"");
    let input = [
        catalog(),
        stream(6, Some(99), 6),
        archive(7, 0, 0, "a7", 7) + &tail,
        archive(8, 0, 0, "a8", 8),
    ]
    .concat();
    let arguments = ["--explain", "--at", "2026-04-02T00:00:00Z"];
    let ended = prune(&arguments, &input).done();
    let said = |line: &Value| {
        let of = |it: &str| line[it].as_str().unwrap().to_owned();
        format!("{} {}: {}", of("type"), of("name"), of("reason"))
    };
    let said: Vec<String> = ended.lines().iter().map(said).collect();
    assert_eq!(
        said,
        [
            "prunable tank/home@1: no rule keeps it",
            "prunable tank/home@2: no rule keeps it",
            "prunable tank/home@3: no rule keeps it",
            "kept tank/home@4: needed by tank/home@5",
            "kept tank/home@5: last",
            "kept tank/home@6: not restorable: no chain leads to snapshot 99, which it is based on",
            "kept tank/home@7: not restorable: it is the rest of another stream (zfs send -t)",
        ]
    );
    let line = &ended.lines()[2];
    assert_eq!((&line["archives"], &line["early_days"]), (&json!(2), &json!(2)));
    let ended = prune(&[&arguments[..], &["--free-only"]].concat(), &catalog()).done();
    let reasons: Vec<Value> = ended.lines().iter().map(|line| line["reason"].clone()).collect();
    assert_eq!(
        reasons,
        [
            "needed by tank/home@2",
            "not free before 2026-04-03",
            "not free before 2026-04-04",
            "needed by tank/home@5",
            "last",
        ]
    );
}

#[test]
fn a_day_is_that_of_the_zone_it_is_asked_for() {
    let place = Place::default();
    let input = stream(1, None, 1) + &stream(2, None, 2).replace("02T12:00", "02T09:00");
    for (zone, goes) in [("UTC", 0), ("Pacific/Kiritimati", 2), ("Etc/GMT+12", 2)] {
        let arguments = ["--keep", "daily=2", "--tz", zone];
        let ended = run_with(&mut place.tool("glacier-prune", &arguments), input.as_bytes()).done();
        assert_eq!(ended.stdout.lines().count(), goes, "{zone}");
    }
    let prune = |zone: &str| {
        let mut prune = place.tool("glacier-prune", &["--keep", "daily=2"]);
        let input = input.replace("02T09:00", "01T09:00");
        run_with(prune.env("TZ", zone), input.as_bytes()).done().stdout.lines().count()
    };
    // 09:00 and 12:00: one day, but where midnight is between them.
    assert_eq!([prune("UTC"), prune("Etc/GMT-13"), prune("Etc/GMT-11")], [2, 0, 2]);
}

#[test]
fn offers_archives_that_no_stream_counts_once_they_are_old() {
    let input = [
        stream(1, None, 1),
        // Never stored: one of its volumes is younger.
        archive(2, 0, 0, "old", 1),
        archive(2, 0, 1, "young", 10),
        // Stored as generation 1, with a volume that was stored twice.
        archive(3, 0, 0, "first-attempt", 1),
        archive(3, 1, 0, "lost-answer", 2),
        archive(3, 1, 0, "counts", 3),
        stored(3, 1, None, 3),
        // Half of it is deleted.
        archive(4, 0, 0, "half", 1),
        archive(4, 0, 1, "gone", 1),
        stored(4, 0, None, 1).replace("\"volumes\":1", "\"volumes\":2"),
        r#"{"type":"deleted","archive_id":"gone","deleted":"2026-01-05T00:00:00Z"}"#.to_owned(),
        "\n".to_owned(),
    ]
    .concat();
    let ids = |made: &str, at: &str, more: &[&str]| {
        let arguments = [&["--at", at][..], more].concat();
        let input = if made.is_empty() { input.clone() } else { input.clone() + &listed(made) };
        offered(&prune(&arguments, &input).done())
    };
    let superseded = [
        ("first-attempt", "superseded by generation 1"),
        ("lost-answer", "superseded by another copy"),
    ];
    let partly = [("half", "partly deleted"), ("m4", "partly deleted")];
    let goes = [("a1", "no rule keeps it"), ("m1", "no rule keeps it")];
    let late = "2026-02-17T12:00:01Z";
    // That a line lacks proves nothing: this may be an old copy.
    assert_eq!(ids("", late, &[]), pairs(&[&goes[..], &superseded].concat()));
    let first = [&goes[..], &superseded, &partly].concat();
    assert_eq!(ids("2026-01-17T12:00:00Z", late, &[]), pairs(&first));
    let volumes = [("old", "never stored"), ("young", "never stored")];
    let later = [&goes[..], &volumes, &superseded, &partly].concat();
    assert_eq!(ids("2026-01-17T12:00:01Z", late, &[]), pairs(&later));
    assert_eq!(ids(late, late, &["--orphans", "none"]), pairs(&goes));
    assert_eq!(ids(late, "2026-01-17T12:00:01Z", &["--orphans", "30d"]), pairs(&goes));
    // They cost a fee, too.
    assert_eq!(ids(late, late, &["--free-only"]), pairs(&[]));
}

/// The line of an inventory that lists so many archives.
fn listing(made: &str, archives: usize) -> String {
    format!(
        "{{\"type\":\"inventory\",{AT},\"made\":\"{made}\",\"age_s\":0,\"archives\":{archives},\"size\":0,\"foreign\":0}}\n"
    )
}

/// An inventory of nothing but what the catalog knows.
fn listed(made: &str) -> String {
    listing(made, 1)
        + &described("inventoried", "a1", "volume", 1, 1).replace("2026-01-20T00:00:00Z", made)
}

fn described(of: &str, id: &str, kind: &str, number: u32, day: u32) -> String {
    let stream = format!(
        "\"kind\":\"{kind}\",\"stream\":\"a{number:031x}\",\"host\":\"nas\",\"name\":\"tank/home@{number}\""
    );
    let volume = if kind == "volume" { ",\"volume\":0" } else { "" };
    if of == "upload" {
        return format!(
            "{{\"type\":\"upload\",{AT},\"upload_id\":\"{id}\",\"begun\":\"2026-01-{day:02}T12:00:00Z\",\"part_size\":1048576,\"size\":0,{stream}{volume}}}\n"
        );
    }
    format!(
        "{{\"type\":\"inventoried\",{AT},\"archive_id\":\"{id}\",\"size\":1,\"treehash\":\"{HASH}\",\"uploaded\":\"2026-01-{day:02}T12:00:00Z\",\"inventory\":\"2026-01-20T00:00:00Z\",{stream}{volume}}}\n"
    )
}

#[test]
fn offers_what_only_an_inventory_or_the_list_of_uploads_knows() {
    let foreign = described("inventoried", "foreign", "volume", 9, 1);
    let (head, _) = foreign.split_once("\"kind\"").unwrap();
    let input = [
        stream(1, None, 1),
        described("inventoried", "a1", "volume", 1, 1),
        described("inventoried", "m1", "manifest", 1, 1),
        described("inventoried", "second", "manifest", 1, 1),
        // Of another machine: stored, and unfinished.
        described("inventoried", "theirs", "volume", 2, 1),
        described("inventoried", "their-manifest", "manifest", 2, 1),
        described("inventoried", "lost", "volume", 3, 1),
        // Young when the inventory was made, which was long ago.
        described("inventoried", "young", "volume", 4, 14),
        format!("{head}\"description\":\"photos of 2012\"}}\n"),
        described("upload", "stale", "volume", 5, 1),
        described("upload", "under-way", "volume", 6, 29),
        described("upload", "next-volume", "volume", 7, 1),
        archive(7, 0, 0, "volume-before", 28),
    ]
    .concat();
    let lines = input.matches("\"inventoried\"").count();
    // Only what lies there is told, where some of it lacks.
    for (listing, refused, is_whole) in [
        (String::new(), "", false),
        (listing("2026-01-20T00:00:00Z", lines + 1), "", false),
        (listing("2026-01-20T00:00:00Z", lines), "", true),
        (listing("2026-01-20T00:00:00Z", 1000), ",\"refused\":0", true),
        (listing("2026-01-20T00:00:00Z", 1000), ",\"refused\":1", false),
    ] {
        let input = input.clone() + &listing.replace("}\n", &format!("{refused}}}\n"));
        let ended = prune(&["--at", "2026-01-30T00:00:00Z"], &input).done();
        let mut expected = vec![("second", "superseded by another manifest")];
        expected.extend(is_whole.then_some(("lost", "never stored")));
        expected.push(("stale", "never completed"));
        assert_eq!(offered(&ended), pairs(&expected), "{listing}{refused}");
    }
    let input = input.clone() + &listing("2026-01-20T00:00:00Z", lines);
    let ended = prune(&["--at", "2026-01-30T00:00:00Z"], &input).done();
    // An upload is no archive: it costs nothing to abort one.
    assert_eq!(ended.lines()[2]["early_days"], Value::Null);
    // What is in the spool is gone on with.
    for (number, id) in [(3, "lost"), (5, "stale")] {
        let stream = underway(number, None).replace("\"b0", "\"a0");
        let ended = prune(&["--at", "2026-01-30T00:00:00Z"], &(input.clone() + &stream)).done();
        assert_eq!(ended.lines().len(), 2, "{}", ended.stdout);
        assert!(!ended.stdout.contains(&format!("\"{id}\"")));
    }
}

#[test]
fn what_only_an_inventory_knows_keeps_what_it_is_based_on() {
    let ids = |input: &str| -> Vec<String> {
        offered(&prune(&[], input)).into_iter().map(|(id, _)| id).collect()
    };
    let manifest = |more: &str| {
        described("inventoried", "m6", "manifest", 6, 6).replace("}\n", &format!("{more}}}\n"))
    };
    let alone = manifest(",\"guid\":\"6\",\"from_guid\":\"2\"");
    assert_eq!(ids(&(catalog() + &alone)), ["a3", "m3"]);
    let full = manifest(",\"guid\":\"6\"");
    assert_eq!(ids(&(catalog() + &full)), ids(&catalog()));
    // Of a compound stream it does not tell the bases.
    assert_eq!(ids(&(catalog() + &manifest(""))), [""; 0]);
    let deleted =
        "{\"type\":\"deleted\",\"archive_id\":\"m6\",\"deleted\":\"2026-02-01T00:00:00Z\"}\n";
    assert_eq!(ids(&(catalog() + &alone + deleted)), ids(&catalog()));
}

#[test]
fn a_bad_line_may_be_the_one_that_says_that_a_stream_is_stored() {
    let lost = |number| archive(number, 0, 0, &format!("a{number}"), 1);
    let torn = &stored(2, 0, None, 1)[..100];
    let proof = listed("2026-11-01T00:00:00Z");
    let input = format!("{}{}{torn}\n{}{proof}", stream(1, None, 1), lost(2), lost(3));
    let arguments = ["--at", "2026-12-01T00:00:00Z"];
    let ended = prune(&arguments, &input);
    assert_eq!(offered(&ended), pairs(&[("a3", "never stored")]));
    assert_eq!(ended.code(), 0);
    let warning = "glacier-prune: warning: stdin: 1 bad line skipped, the first is 5: a torn line";
    assert_eq!(ended.stderr, format!("{warning}\n"));
    // Cut short so early that it names none.
    let ended =
        prune(&arguments, &format!("{proof}{}{}{{\"type\":\"sto", stream(1, None, 1), lost(3)));
    assert_eq!((ended.code(), ended.stdout.as_str()), (0, ""));
    let but = "; no orphan is offered, as the line may be of any stream";
    assert_eq!(ended.stderr, format!("{}{but}\n", warning.replace("is 5", "is 7")));
}

#[test]
fn input_that_is_cut_short_never_offers_more_of_what_it_tells_of() {
    let place = Place::default();
    let input = catalog();
    let arguments = ["--keep", "last=1", "--at", "2026-12-01T00:00:00Z"];
    for end in (0..input.len()).step_by(97) {
        let ended =
            run_with(&mut place.tool("glacier-prune", &arguments), &input.as_bytes()[..end]);
        assert!(matches!(ended.code(), 0 | 65), "{end}: {ended:?}");
        // The newest that is whole stays, with what it is based on.
        let whole = input[..end].matches("\"type\":\"stored\"").count();
        let goes = offered(&ended);
        assert!(
            goes.iter().all(|(id, _)| whole > 3 || !matches!(id.as_str(), "a1" | "m1")),
            "{end}: {goes:?}"
        );
    }
}

#[test]
fn a_line_that_has_such_fields_has_them_once() {
    let old = |line: String| line.replace("}\n", ",\"reason\":\"old\",\"early_days\":7}\n");
    let input = old(archive(1, 0, 0, "a1", 1)) + &old(stored(1, 0, None, 1)) + &stream(2, None, 2);
    let ended = prune(&["--at", "2026-12-01T00:00:00Z"], &input).done();
    let plain = |line: String| {
        line.replace(",\"colour\":\"blue\"", "")
            .replace("}\n", ",\"reason\":\"no rule keeps it\"}\n")
    };
    assert_eq!(ended.stdout, plain(archive(1, 0, 0, "a1", 1)) + &plain(stored(1, 0, None, 1)));
}

#[test]
fn a_line_that_has_no_room_is_printed_as_it_is() {
    let long = format!("\"colour\":\"{}\"", "b".repeat(4095 - archive(1, 0, 0, "a1", 1).len()));
    let line = archive(1, 0, 0, "a1", 1).replace("\"colour\":\"blue\"", &long);
    let input = line.clone() + &stored(1, 0, None, 1) + &stream(2, None, 2);
    let ended = prune(&["--at", "2026-12-01T00:00:00Z"], &input).done();
    assert!(ended.stdout.starts_with(&line));
    assert!(ended.stdout.lines().all(|line| line.len() < 4096));
}

#[test]
fn a_wrong_command_line_gives_64() {
    let place = Place::default();
    let hint = "; see 'glacier-prune --help'";
    for (arguments, begins) in [
        (&[][..], "the following required arguments were not provided: --keep <RULES>"),
        (
            &["--keep", "last=0"],
            "invalid value 'last=0' for '--keep <RULES>': it would keep nothing",
        ),
        (
            &["--keep", "hourly=3"],
            "invalid value 'hourly=3' for '--keep <RULES>': 'hourly=3' is no rule",
        ),
        (&["--keep", "last=1", "--orphans", "7"], "invalid value '7' for '--orphans <AGE>'"),
        (&["--keep", "last=1", "--at", "now"], "invalid value 'now' for '--at <TIME>'"),
        (&["--keep", "last=1", "catalog"], "unexpected argument 'catalog' found"),
    ] {
        let ended = run(&mut place.tool("glacier-prune", arguments));
        assert_eq!(ended.stdout, "");
        ended.failed_like(64, begins, hint);
    }
}

#[test]
fn input_that_is_no_catalog_gives_65_and_no_line() {
    let none = "stdin: no \"stored\" line; is this the catalog of glacier-put?";
    for input in ["", "\n", &described("upload", "stale", "volume", 5, 1)] {
        let ended = prune(&[], input);
        assert_eq!(ended.stdout, "");
        ended.failed(65, none);
    }
    let later = catalog() + &stored(9, 0, None, 9).replace("\"v\":1", "\"v\":2");
    let why = "stdin: line 16: stored: version 2 is newer than this program, which knows 1";
    let ended = prune(&[], &later);
    assert_eq!(ended.stdout, "");
    ended.failed(65, why);
}

#[test]
fn a_line_without_an_end_is_refused_soon() {
    let place = Place::default();
    let mut running =
        start(place.tool("glacier-prune", &["--keep", "last=1"]).stdin(Stdio::piped()));
    let (piece, mut given) = (vec![b'x'; 64 << 10], 0);
    while given < 4_u64 << 30 && running.give(&piece) {
        given += 64 << 10;
    }
    assert!(given < 4 << 20, "{given} bytes were taken");
    let message = "stdin: line 1: goes on for over 1 MiB; is this a catalog?";
    running.finish().failed(65, message);
}

#[test]
fn output_that_cannot_be_written_gives_74() {
    let place = Place::default();
    let path = place.path("catalog.jsonl");
    fs::write(&path, catalog()).unwrap();
    for arguments in [&["--keep", "last=1"][..], &["--keep", "last=1", "--explain"]] {
        let (reader, closed) = std::io::pipe().unwrap();
        drop(reader);
        let mut outputs = vec![(Stdio::from(closed), "Broken pipe")];
        if let Ok(full) = File::options().write(true).open("/dev/full") {
            outputs.push((Stdio::from(full), "No space left on device"));
        }
        for (output, reason) in outputs {
            let mut prune = place.tool("glacier-prune", arguments);
            let ended = start_into(prune.stdin(File::open(&path).unwrap()), output).finish();
            ended.failed(74, &format!("stdout: cannot write: {reason}"));
        }
        let tool = common::program("glacier-prune");
        let mut shell = Command::new("sh");
        let script = format!("exec \"$0\" {} <\"$1\" >&-", arguments.join(" "));
        let shell = shell.args(["-c", &script]).arg(tool).arg(&path).output().unwrap();
        assert_eq!(shell.status.code(), Some(74));
    }
}

#[test]
fn a_table_of_prices_that_cannot_be_read_gives_74_and_one_that_is_none_78() {
    let place = Place::default();
    let prune = |table: &str| {
        let arguments = ["--keep", "last=1", "--prices", table];
        run_with(&mut place.tool("glacier-prune", &arguments), catalog().as_bytes())
    };
    prune("nowhere").failed(74, "prices nowhere: No such file or directory");
    fs::write(place.path("empty"), "{}").unwrap();
    prune("empty").failed_like(78, "prices empty: missing field", "");
}

#[test]
fn a_zone_that_is_not_known_gives_78() {
    let place = Place::default();
    let prune = |arguments: &[&str]| {
        let mut prune = place.tool("glacier-prune", arguments);
        run_with(prune.env("TZ", "Europe/Atlantis"), catalog().as_bytes())
    };
    prune(&["--keep", "daily=1", "--tz", "Europe/Atlantis"])
        .failed(78, "'Europe/Atlantis' is not the name of a time zone, such as Europe/Berlin");
    let told = "the local time zone cannot be told; name it with --tz";
    prune(&["--keep", "daily=1"]).failed(78, told);
    // Where no rule asks for days none is needed.
    prune(&["--keep", "last=1"]).done();
}

#[test]
fn a_catalog_that_does_not_come_is_not_waited_for_when_nobody_reads() {
    let place = Place::default();
    let mut running =
        start(place.tool("glacier-prune", &["--keep", "last=1"]).stdin(Stdio::piped()));
    assert!(running.give(catalog().as_bytes()));
    running.close_output();
    let begin = std::time::Instant::now();
    // Its standard input stays open.
    let ended = running.finish();
    assert_eq!(ended.code(), 75, "{}", ended.stderr);
    assert!(begin.elapsed() < PATIENCE);
}

/// Stores real streams and one of bytes, keeps the newest, and restores it
/// when all that was offered is gone.
#[test]
fn what_is_kept_of_a_real_vault_is_whole_without_what_is_offered() {
    let place = Place::default();
    let server = Local::start(&place);
    let streams = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/streams");
    let sizes = ["--part-size", "1M", "--volume-size", "1M", "--spool-limit", "none"];
    let put = |arguments: &[&str], input: &[u8]| {
        let arguments = [&sizes[..], arguments].concat();
        let lines = run_with(&mut place.tool("glacier-chunk", &arguments), input).done();
        let mut put = server.put(&place, &["--create-vault", "cold"]);
        run_with(&mut put, lines.stdout.as_bytes()).done();
    };
    for file in ["full.zfs", "incremental-1.zfs", "incremental-2.zfs"] {
        put(&[], &fs::read(format!("{streams}/{file}")).unwrap());
    }
    for name in ["etc@mon", "etc@tue"] {
        put(&["--trust-eof", "--name", name], &pattern(3000));
    }
    let path = place.path("catalog.jsonl");
    let catalog = local::catalog(&place);
    let prune = |keep: &str| {
        run_on(&mut place.tool("glacier-prune", &["--keep", keep, "--tz", "UTC"]), &path).done()
    };
    // The last of each is based on all; of the bytes one goes.
    let ended = prune("last=1");
    let names: Vec<Value> = ended.lines().iter().map(|line| line["name"].clone()).collect();
    assert_eq!(names, ["etc@mon", "etc@mon"]);
    for (line, of) in ended.lines().iter().zip(["archive", "stored"]) {
        assert_eq!((line["type"].as_str(), &line["early_days"]), (Some(of), &json!(90)));
    }
    // Byte for byte the catalog's lines, and more behind.
    for line in ended.stdout.lines() {
        let (bare, _) = line.split_once(",\"reason\":").unwrap();
        assert!(catalog.contains(&format!("{bare}}}\n")));
    }
    let mut gone = String::new();
    for line in ended.lines() {
        let id = line["archive_id"].as_str().or(line["manifest_id"].as_str()).unwrap();
        let deleted =
            json!({"type": "deleted", "archive_id": id, "deleted": "2026-12-01T00:00:00Z"});
        gone.extend([deleted.to_string(), "\n".to_owned()]);
    }
    fs::write(&path, catalog + &gone).unwrap();
    assert_eq!(prune("last=1").stdout, "", "it is offered once");
    let listed = run_on(&mut place.tool("glacier-chain", &["--list"]), &path).done();
    assert_eq!(listed.of_type("restorable").len(), 4, "three snapshots, and the newer bytes");
}

/// The line of a stream that is on its way, based on another.
fn underway(number: u32, from: Option<u32>) -> String {
    let from = from.map(|guid| format!(r#""from_guid":"{guid}","#)).unwrap_or_default();
    format!(
        r#"{{"type":"stream","v":1,"stream":"b{number:031x}","host":"nas","name":"tank/home@{number}","format":"zfs",{from}"compound":true,"part_size":1048576,"volume_size":1048576,"state":"spooled"}}
"#
    )
}

#[test]
fn what_is_on_its_way_keeps_what_it_is_based_on() {
    let ids = |input: &str| -> Vec<String> {
        offered(&prune(&[], input)).into_iter().map(|(id, _)| id).collect()
    };
    assert!(ids(&catalog()).contains(&"a1".to_owned()), "no rule keeps it");
    // From the stream's own line, and from what is in it.
    let inner = r#"{"type":"snapshot","stream":"b0000000000000000000000000000006","name":"tank/home@6","guid":"6","from_guid":"2","offset":0}"#;
    for lines in [underway(6, Some(2)), format!("{}{inner}\n", underway(6, None))] {
        let input = catalog() + &lines;
        assert_eq!(ids(&input), ["a3", "m3"]);
        let told = prune(&["--explain"], &input).lines();
        let reason = |number: u32| {
            let name = format!("tank/home@{number}");
            told.iter().find(|line| line["name"] == name.as_str()).unwrap()["reason"].clone()
        };
        for number in [1, 2] {
            assert_eq!(reason(number), "needed by tank/home@6");
        }
    }
}
