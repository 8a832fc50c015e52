//! Journal and catalog: full, torn, foreign, locked, and of two at once.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::{FlockOperation, flock};
use serde_json::Value;

use super::{MIB, before, chunk, id_of, one_stored, put, up_to};
use crate::common::local::{Local, REGION, catalog, files, pattern, sorted};
use crate::common::{Ended, Place, run, run_on, run_with, skip, start, until};

/// Runs put on lines from within a shell, after some words of its.
fn within(server: &Local, place: &Place, before: &str, lines: &str) -> Ended {
    fs::write(place.path("lines"), lines).unwrap();
    let mut shell = place.command("sh");
    let program = server.put(place, &[]).get_program().to_owned();
    shell.args(["-c", &format!("{before} exec \"$0\" --create-vault v <lines")]).arg(program);
    run(server.client(&mut shell))
}

/// The parts that are in the spool.
fn parts(place: &Place, id: &str) -> usize {
    let is_part = |path: &std::path::PathBuf| path.extension().is_some_and(|of| of == "part");
    files(&place.stream(id)).iter().filter(|path| is_part(path)).count()
}

#[test]
fn a_catalog_on_a_full_disk_is_74_and_the_parts_stay() {
    let place = Place::default();
    let server = Local::start(&place);
    let bytes = pattern(3 * MIB);
    let lines = chunk(&place, "x", &bytes);
    let before = "\n".repeat(60_000);
    fs::write(place.path("catalog.jsonl"), &before).unwrap();
    // The journal stays under the limit, the catalog is over it.
    let limit = "trap '' XFSZ; ulimit -f 100;";
    let full = || within(&server, &place, limit, &lines);
    let message =
        format!("catalog {}: cannot write: File too large", place.path("catalog.jsonl").display());
    for _ in 0..2 {
        full().failed(74, &message);
        // I2: a volume that is in no catalog keeps its parts.
        assert_eq!(parts(&place, &id_of(&lines)), 3);
    }
    put(&server, &place, &["v"], &lines).done();
    server.holds(&place, "v", &bytes);
}

#[test]
fn a_catalog_that_is_none_is_74_at_once_and_nothing_waits() {
    let place = Place::default();
    let server = Local::start(&place);
    let bytes = pattern(MIB);
    let lines = chunk(&place, "x", &bytes);
    let path = place.path("catalog.jsonl");
    let said = |why: &str| format!("catalog {}: {why}", path.display());
    let refused = |why: &str| {
        for _ in 0..2 {
            put(&server, &place, &["--create-vault", "v"], &lines).failed(74, &said(why));
        }
    };
    let made = Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    refused("not a regular file");
    fs::remove_file(&path).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
    refused("No such device or address");
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(place.path("catalog.jsonl"), &path).unwrap();
    refused("Too many levels of symbolic links");
    fs::remove_file(&path).unwrap();
    if Path::new("/dev/full").exists() {
        let full = put(&server, &place, &["--catalog", "/dev/full", "v"], &lines);
        full.failed(74, "catalog /dev/full: not a regular file");
    }
    fs::write(place.path("file"), b"kept").unwrap();
    let below = place.path("file/catalog.jsonl");
    let below = below.to_str().unwrap();
    let message = format!("catalog {below}: Not a directory");
    put(&server, &place, &["--catalog", below, "v"], &lines).failed(74, &message);
    assert_eq!(fs::read(place.path("file")).unwrap(), b"kept");

    // A link is the user's choice, and so is where it leads.
    std::os::unix::fs::symlink(place.path("elsewhere.jsonl"), &path).unwrap();
    put(&server, &place, &["--create-vault", "v"], &lines).done();
    assert!(path.is_symlink() && place.path("elsewhere.jsonl").is_file());
    server.holds(&place, "v", &bytes);
}

#[test]
fn a_line_that_is_not_on_disk_is_written_again() {
    let place = Place::default();
    let server = Local::start(&place);
    let bytes = pattern(3 * MIB);
    let lines = chunk(&place, "x", &bytes);
    fs::write(place.path("lines"), &lines).unwrap();
    let path = place.path("catalog.jsonl");
    fs::write(&path, "").unwrap();
    // The write goes well and the fsync fails, as a dying disk has it.
    let program = server.put(&place, &[]).get_program().to_owned();
    let mut traced = place.command("strace");
    traced.args(["-f", "-o", "trace", "-P"]).arg(&path);
    // The first is that of what was there before.
    traced.args(["-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO:when=3"]);
    traced.arg(program).args(["--create-vault", "v"]);
    traced.stdin(fs::File::open(place.path("lines")).unwrap());
    if Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_err() {
        skip("strace: not found, no fsync fails");
        return;
    }
    let ended = run(server.client(&mut traced));
    if ended.stderr.contains("ptrace") {
        skip("strace: not allowed, no fsync fails");
        return;
    }
    let message = format!("catalog {}: cannot write: Input/output error", path.display());
    ended.failed(74, &message);
    assert_eq!(catalog(&place), "", "what may not be on disk is not there");
    assert_eq!(parts(&place, &id_of(&lines)), 3, "I2");
    put(&server, &place, &["v"], &lines).done();
    server.holds(&place, "v", &bytes);
}

#[test]
fn torn_repeated_foreign_and_superseded_lines_do_no_harm() {
    let (place, server, bytes, stored) = one_stored();
    let lines = chunk(&place, "x", &bytes);
    let whole = catalog(&place);
    let archive = stored.stdout.lines().find(|line| line.contains("\"archive\"")).unwrap();
    let other = archive.replace(&id_of(&lines), "00112233445566778899aabbccddeeff");
    let holed = format!("{}\n", "\0".repeat(3000));
    let edited = [
        // Torn at its end, and in the middle.
        format!("{whole}{}", &archive[..archive.len() / 2]),
        format!("{}\n{whole}", &archive[..archive.len() / 2]),
        format!("{holed}{whole}{holed}"),
        // All of it twice; of another stream, and of another vault.
        format!("{whole}{whole}"),
        format!("{other}\n{whole}{other}\n"),
        format!("{whole}{}\n", archive.replace("glacier://v", "glacier://w")),
        format!("{{\"type\":\"colour\"}}\nhello\n\n\n{whole}"),
    ];
    for text in edited {
        fs::write(place.path("catalog.jsonl"), &text).unwrap();
        let again = put(&server, &place, &["v"], &lines).done();
        assert_eq!(sorted(&again.stdout), sorted(&stored.stdout));
        assert_eq!(catalog(&place), text, "nothing was missing");
        // The same from the catalog alone.
        let done = fs::read_dir(place.spool().join("done")).unwrap().next().unwrap().unwrap();
        let receipt = fs::read(done.path()).unwrap();
        fs::remove_file(done.path()).unwrap();
        put(&server, &place, &["v"], &lines).done();
        fs::write(done.path(), receipt).unwrap();
    }
    assert_eq!(server.calls("InitiateMultipartUpload"), 4, "nothing was sent again");
}

#[test]
fn two_puts_at_once_do_not_mix_lines() {
    let place = Place::default();
    let server = Local::start(&place);
    let streams: Vec<(String, String)> = ["a", "b", "c", "d"]
        .into_iter()
        .map(|name| {
            let bytes: Vec<u8> = pattern(16 * MIB).iter().map(|b| b ^ name.as_bytes()[0]).collect();
            (name.to_owned(), chunk(&place, name, &bytes))
        })
        .collect();
    put(&server, &place, &["--create-vault", "--allow-empty", "v"], "").done();
    let running: Vec<_> = streams
        .iter()
        .map(|(name, lines)| {
            fs::write(place.path(name), lines).unwrap();
            let mut command = server.put(&place, &["v"]);
            start(command.stdin(fs::File::open(place.path(name)).unwrap()))
        })
        .collect();
    let printed: Vec<String> = running.into_iter().map(|put| put.finish().done().stdout).collect();
    let all = printed.concat();
    let catalog = catalog(&place);
    assert_eq!(sorted(&catalog), sorted(&all));
    let kind = |line: &str| serde_json::from_str::<Value>(line).unwrap()["type"].clone();
    assert_eq!(sorted(&catalog).iter().filter(|line| kind(line) == "archive").count(), 32);
}

#[test]
fn a_journal_of_another_stream_is_65() {
    let place = Place::default();
    let server = Local::start(&place);
    let bytes = pattern(3 * MIB);
    let lines = chunk(&place, "x", &bytes);
    let id = id_of(&lines);
    let other = "00112233445566778899aabbccddeeff";
    let journal = place.stream(&id).join("put.jsonl");
    let text = format!(
        "{{\"type\":\"journal\",\"v\":1,\"stream\":\"{other}\",\"dest\":\"glacier://v\"}}\n"
    );
    fs::write(&journal, text).unwrap();
    let message = format!(
        "stream {id}: its journal is that of stream {other}; take put.jsonl out of its spool"
    );
    for _ in 0..2 {
        put(&server, &place, &["--create-vault", "v"], &lines).failed(65, &message);
        let options = ["--trust-eof", "--name", "x"];
        super::chunk_as(&place, &bytes, &options).failed(65, &message);
    }
    fs::remove_file(&journal).unwrap();
    put(&server, &place, &["v"], &lines).done();
    server.holds(&place, "v", &bytes);
}

#[test]
fn a_journal_may_be_torn_anywhere() {
    for eighth in 0..8 {
        let place = Place::default();
        let server = Local::start(&place);
        let bytes = pattern(3 * MIB);
        let lines = chunk(&place, "x", &bytes);
        put(&server, &place, &["--create-vault", "v"], before(&lines, "end"))
            .failed(75, super::NOT_WHOLE);
        let journal = place.stream(&id_of(&lines)).join("put.jsonl");
        let whole = fs::read(&journal).unwrap();
        let cut = whole.len() * eighth / 8 + eighth % 3;
        fs::write(&journal, &whole[..cut]).unwrap();
        // What the journal does not tell of, the catalog does.
        let lines = chunk(&place, "x", &bytes);
        put(&server, &place, &["v"], &lines).done();
        server.holds(&place, "v", &bytes);
    }
}

#[test]
fn a_catalog_that_is_locked_is_waited_for() {
    let place = Place::default();
    let server = Local::start(&place);
    let bytes = pattern(3 * MIB);
    let lines = chunk(&place, "x", &bytes);
    let path = place.path("catalog.jsonl");
    let other = fs::File::options().create(true).append(true).open(path).unwrap();
    flock(&other, FlockOperation::LockExclusive).unwrap();
    let mut command = server.put(&place, &["--create-vault", "v"]);
    fs::write(place.path("lines"), &lines).unwrap();
    let running = start(command.stdin(fs::File::open(place.path("lines")).unwrap()));
    until("a volume is stored", || !server.archives("v").is_empty());
    assert_eq!(catalog(&place), "");
    drop(other);
    running.finish().done();
    server.holds(&place, "v", &bytes);
}

/// Whether the stream x can be restored by the catalog of a place.
fn chained(place: &Place) -> Ended {
    run_on(&mut place.tool("glacier-chain", &["x"]), &place.path("catalog.jsonl"))
}

#[test]
fn a_line_behind_one_that_another_tore_is_whole() {
    let place = Place::default();
    let server = Local::start(&place);
    let bytes = pattern(4 * MIB);
    let lines = chunk(&place, "x", &bytes);
    let mut running = start(server.put(&place, &["--create-vault", "v"]).stdin(Stdio::piped()));
    let first = up_to(&lines, "volume", 1);
    assert!(running.give(first.as_bytes()));
    running.line_of("archive");
    // Another was killed within its write, since this one wrote last.
    let torn = "{\"type\":\"archive\",\"v\":1,\"stream\":\"0011";
    fs::write(place.path("catalog.jsonl"), catalog(&place) + torn).unwrap();
    assert!(running.give(&lines.as_bytes()[first.len()..]));
    running.end_input();
    running.finish().done();
    let text = catalog(&place);
    assert!(text.contains(&format!("{torn}\n{{")), "{text}");
    let chain = chained(&place);
    assert_eq!(chain.code(), 0, "{}", chain.stderr);
    server.holds(&place, "v", &bytes);
}

#[test]
fn a_catalog_that_lost_any_line_is_healed() {
    let (place, server, bytes, stored) = one_stored();
    let lines = chunk(&place, "x", &bytes);
    let path = place.path("catalog.jsonl");
    let whole = catalog(&place);
    let all: Vec<&str> = whole.split_inclusive('\n').collect();
    let without = |gone: usize| -> String {
        all.iter()
            .enumerate()
            .filter(|(number, _)| *number != gone)
            .map(|(_, line)| *line)
            .collect()
    };
    let mut cut: Vec<String> = (0..all.len()).map(without).collect();
    cut.extend([String::new(), whole[..whole.len() / 2].to_owned(), all[1..].concat()]);
    let chain = chained(&place).done().stdout;
    for text in cut {
        fs::write(&path, &text).unwrap();
        let again = put(&server, &place, &["v"], &lines);
        assert_eq!((again.code(), sorted(&again.stdout)), (0, sorted(&stored.stdout)));
        let says = "glacier-put: warning: catalog: had not that x is stored; written again, by its \
                    receipt in the spool\n";
        let has_stored = text.lines().any(|line| line.starts_with("{\"type\":\"stored\""));
        assert_eq!(again.stderr, if has_stored { "" } else { says });
        let healed = chained(&place);
        assert_eq!((healed.code(), &healed.stdout), (0, &chain), "{}{text}", healed.stderr);
        // Once is enough.
        let now = catalog(&place);
        put(&server, &place, &["v"], &lines).done();
        assert_eq!(catalog(&place), now);
    }
    assert_eq!(server.calls("InitiateMultipartUpload"), 4, "nothing was sent again");
}

#[test]
fn a_journal_under_way_heals_the_catalog_too() {
    let place = Place::default();
    let server = Local::start(&place);
    let bytes = pattern(4 * MIB + 5);
    let lines = chunk(&place, "x", &bytes);
    let first = put(&server, &place, &["--create-vault", "v"], before(&lines, "end"));
    assert_eq!(first.code(), 75);
    let archive = only_line(&first.stdout, "archive");
    // The stream is stored, and its receipt not put away; then the catalog
    // loses a line of a volume.
    let chunk_lock = fs::File::create(place.stream(&id_of(&lines)).join("chunk.lock")).unwrap();
    flock(&chunk_lock, FlockOperation::LockExclusive).unwrap();
    put(&server, &place, &["v"], &lines).done();
    let journal = place.stream(&id_of(&lines)).join("put.jsonl");
    assert!(fs::read_to_string(journal).unwrap().contains("\"stored\""));
    fs::write(place.path("catalog.jsonl"), catalog(&place).replace(&archive, "")).unwrap();
    assert_eq!(chained(&place).code(), 65);
    drop(chunk_lock);
    put(&server, &place, &["v"], &lines).done();
    chained(&place).done();
    assert_eq!(server.calls("InitiateMultipartUpload"), 4, "nothing was sent again");
}

/// The first line of a type.
fn only_line(lines: &str, of: &str) -> String {
    let start = format!("{{\"type\":\"{of}\"");
    lines.split_inclusive('\n').find(|line| line.starts_with(&start)).unwrap().to_owned()
}

/// What glacier-ls(1) says of the streams in the spool.
fn spooled(place: &Place) -> Ended {
    run(&mut place.tool("glacier-ls", &["spool"]))
}

#[test]
fn a_receipt_that_a_chunk_kept_from_its_place_is_put_away_by_the_next_run() {
    let place = Place::default();
    let server = Local::start(&place);
    let bytes = pattern(3 * MIB);
    let lines = chunk(&place, "x", &bytes);
    let id = id_of(&lines);
    let chunk_lock = fs::File::create(place.stream(&id).join("chunk.lock")).unwrap();
    flock(&chunk_lock, FlockOperation::LockExclusive).unwrap();
    put(&server, &place, &["--create-vault", "v"], &lines).done();
    assert!(place.stream(&id).join("lines.jsonl").exists(), "a chunk still works there");
    drop(chunk_lock);
    assert_eq!(spooled(&place).done().lines()[0]["state"], "stored");
    put(&server, &place, &["--allow-empty", "v"], "").done();
    assert!(!place.stream(&id).exists());
    let receipt = place.spool().join(format!("done/{id}.glacier---v.{REGION}.jsonl"));
    assert!(receipt.exists() && spooled(&place).done().stdout.is_empty());
    // One of a stream that is not stored stays where it is.
    let other = chunk(&place, "y", &bytes);
    assert_eq!(put(&server, &place, &["v"], before(&other, "end")).code(), 75);
    put(&server, &place, &["--allow-empty", "v"], "").done();
    assert!(place.stream(&id_of(&other)).join("put.jsonl").exists());
}

#[test]
fn a_chunk_that_begins_while_put_clears_the_spool_harms_neither() {
    let place = Place::default();
    let server = Local::start(&place);
    let bytes = pattern(3 * MIB);
    let lines = chunk(&place, "x", &bytes);
    let id = id_of(&lines);
    fs::write(place.path("lines"), &lines).unwrap();
    if Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_err() {
        skip("strace: not found, no two meet in a spool that is cleared");
        return;
    }
    let program = server.put(&place, &[]).get_program().to_owned();
    let mut traced = place.command("strace");
    traced.args(["-f", "-qq", "-o", "trace", "-e", "trace=unlinkat"]);
    traced.args(["-e", "inject=unlinkat:delay_enter=200000"]).arg(program);
    traced.args(["--create-vault", "v"]).stdin(fs::File::open(place.path("lines")).unwrap());
    let mut putting = start(server.client(&mut traced));
    let lock = place.stream(&id).join("chunk.lock");
    until("put clears the spool or has ended", || !lock.exists() || !putting.runs());
    let again = crate::put::chunk_as(&place, &bytes, &["--trust-eof", "--name", "x"]);
    let ended = putting.finish();
    if ended.stderr.contains("ptrace") {
        skip("strace: not allowed, no two meet in a spool that is cleared");
        return;
    }
    ended.done();
    assert!(matches!(again.code(), 0 | 75), "{}", again.stderr);
    // What is left of the second is sent, and clears away.
    let lines = chunk(&place, "x", &bytes);
    put(&server, &place, &["v"], &lines).done();
    assert!(!place.stream(&id).exists());
    server.holds(&place, "v", &bytes);
}

#[test]
fn vaults_of_names_that_look_alike_have_receipts_of_their_own() {
    let place = Place::default();
    let server = Local::start(&place);
    let bytes = pattern(2 * MIB);
    let store = |vault: &str| {
        let put = || put(&server, &place, &["--create-vault", vault], &chunk(&place, "x", &bytes));
        // chunk takes the word of the other's receipt, so it spools only in
        // the second run.
        let first = put();
        if first.code() == 75 { put().done() } else { first.done() }
    };
    let done = || files(&place.spool().join("done"));
    let one = store("a.b");
    let old = done().remove(0);
    // As earlier versions named it.
    let name = format!("{}.glacier---a-b.jsonl", id_of(&chunk(&place, "x", &bytes)));
    fs::rename(&old, old.with_file_name(&name)).unwrap();
    let two = store("a-b");
    assert_eq!(done().len(), 2, "{:?}", done());
    let (uploads, written) = (server.calls("InitiateMultipartUpload"), catalog(&place));
    for (vault, stored) in [("a.b", &one), ("a-b", &two)] {
        let again = put(&server, &place, &[vault], &chunk(&place, "x", &bytes)).done();
        assert_eq!(sorted(&again.stdout), sorted(&stored.stdout));
    }
    assert_eq!((server.calls("InitiateMultipartUpload"), catalog(&place)), (uploads, written));
    // Deleted in one of them, it is forgotten there alone.
    let there = run(&mut place.tool("glacier-ls", &["receipts"])).done().stdout;
    let here: Vec<&str> = there.lines().filter(|line| line.contains("glacier://a.b")).collect();
    let mut rm = place.tool("glacier-rm", &["--yes", "a.b"]);
    run_with(server.client(&mut rm), (here.join("\n") + "\n").as_bytes()).done();
    let left: Vec<String> =
        done().iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    assert_eq!(left, [name.replace("a-b.jsonl", &format!("a-b.{REGION}.jsonl"))]);
}

#[test]
fn a_receipt_that_a_newer_inventory_contradicts_is_not_believed() {
    let (place, server, bytes, stored) = one_stored();
    let path = place.path("catalog.jsonl");
    let lines = chunk(&place, "x", &bytes);
    let inventory = |days: i64, refused: u32| {
        let made = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * days);
        format!(
            "{{\"type\":\"inventory\",\"dest\":\"glacier://v\",\"region\":\"{REGION}\",\"made\":\"{made}\",\"age_s\":0,\"archives\":0,\"size\":0,\"foreign\":0,\"refused\":{refused}}}\n"
        )
    };
    let receipts = || {
        let diff = ["receipts", "--diff", path.to_str().unwrap()];
        run(&mut place.tool("glacier-ls", &diff))
    };
    // One that is too old to know, or does not know all.
    for rebuilt in [inventory(1, 0), inventory(9, 1)] {
        fs::write(&path, &rebuilt).unwrap();
        assert_eq!(receipts().code(), 1);
        let healed = put(&server, &place, &["--allow-empty", "v"], "");
        assert!(healed.code() == 0 && healed.stderr.contains(" x is stored; written again"));
        assert_eq!(sorted(&catalog(&place)), sorted(&(rebuilt + &stored.stdout)));
    }
    // One that names all archives contradicts nothing, though lines lack.
    let all = without_type(&stored.stdout, "hashes");
    fs::write(&path, format!("{all}{}", inventory(9, 0))).unwrap();
    assert_eq!(receipts().code(), 1);

    fs::write(&path, inventory(9, 0)).unwrap();
    let ended = receipts();
    assert_eq!((ended.code(), ended.stdout.as_str()), (0, ""));
    assert!(ended.stderr.ends_with(": x: a newer inventory lacks an archive of it; left out\n"));
    put(&server, &place, &["--allow-empty", "v"], "").done();
    assert_eq!(catalog(&place).lines().count(), 1);
    // It is stored anew: chunk finds out in the first run, and cuts it in the second.
    assert_eq!(put(&server, &place, &["v"], &lines).code(), 75);
    let uploads = server.calls("InitiateMultipartUpload");
    put(&server, &place, &["v"], &chunk(&place, "x", &bytes)).done();
    assert!(server.calls("InitiateMultipartUpload") > uploads);
    chained(&place).done();
    assert_eq!(receipts().code(), 0);
}

/// Lines, but for those of a type.
fn without_type(lines: &str, of: &str) -> String {
    let head = format!("{{\"type\":\"{of}\"");
    lines.split_inclusive('\n').filter(|line| !line.starts_with(&head)).collect()
}
