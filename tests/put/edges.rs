//! The edges of the process: configuration, disk, standard output.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use crate::common::local::{Local, catalog, pattern, sorted};
use crate::common::{Place, run, run_with, skip, start, until};
use crate::put::{MIB, NOT_WHOLE, before, chunk, one_stored, put, up_to};

#[test]
fn a_wrong_command_line_is_64() {
    let place = Place::default();
    let see = "see 'glacier-put --help'";
    for (arguments, message) in [
        (&[][..], "no destination; name a vault, or set GLACIER_DEST".to_owned()),
        (&["a/b"], "a vault's name is 1 to 255 letters, digits, \"_\", \".\" or \"-\"".to_owned()),
        (
            &["gs://a"],
            "\"gs://\" is no destination here; use glacier://VAULT or s3://BUCKET/PREFIX"
                .to_owned(),
        ),
        (&["--vault", "v"], format!("unexpected argument '--vault' found; {see}")),
    ] {
        run_with(&mut place.tool("glacier-put", arguments), b"").failed(64, &message);
    }
}

#[test]
fn no_credentials_are_77() {
    let place = Place::default();
    let server = Local::start(&place);
    let lines = chunk(&place, "x", &pattern(MIB));
    let mut none = server.put(&place, &["v"]);
    none.env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
    run_with(&mut none, lines.as_bytes()).failed_like(
        77,
        "no AWS credentials: ",
        "; set AWS_PROFILE, or the keys in the environment",
    );
    let mut wrong = server.put(&place, &["v"]);
    wrong.env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE").env("AWS_SECRET_ACCESS_KEY", "wrong");
    run_with(&mut wrong, lines.as_bytes()).failed_like(77, "glacier://v: ", "");
}

#[test]
fn no_region_is_78() {
    let place = Place::default();
    let server = Local::start(&place);
    let message = "no region; set AWS_REGION, a profile's region, or --region";
    let mut command = server.put(&place, &["v"]);
    run_with(command.env_remove("AWS_REGION"), b"").failed(78, message);
}

#[test]
fn speaks_in_the_clear_to_this_machine_alone() {
    let place = Place::default();
    let server = Local::start(&place);
    let lines = chunk(&place, "x", &pattern(MIB));
    let url = "http://192.0.2.1:80";
    let why = "not https; plain http is for this machine's loopback only";
    let message = format!("{url}: {why}");
    put(&server, &place, &["--endpoint-url", url, "v"], &lines).failed(78, &message);
    let mut command = server.put(&place, &["v"]);
    run_with(command.env("AWS_ENDPOINT_URL", url), lines.as_bytes()).failed(78, &message);
    let mut command = server.put(&place, &["v"]);
    command.env("AWS_ENDPOINT_URL_GLACIER", url);
    run_with(&mut command, lines.as_bytes()).failed_like(78, "http://192.0.2.1:80/", why);
}

#[test]
fn a_vault_that_is_not_there_is_69() {
    let place = Place::default();
    let server = Local::start(&place);
    let lines = chunk(&place, "x", &pattern(MIB));
    let end = "; --create-vault makes one";
    put(&server, &place, &["w"], &lines).failed_like(69, "glacier://w: ResourceNotFound", end);
    put(&server, &place, &["--create-vault", "w"], before(&lines, "volume")).failed(75, NOT_WHOLE);
    fs::remove_dir_all(place.path("server/regions")).unwrap();
    put(&server, &place, &["w"], &lines).failed_like(69, "glacier://w: ResourceNotFound", end);
}

#[test]
fn a_spool_that_others_may_enter_is_78() {
    let place = Place::default();
    let server = Local::start(&place);
    let lines = chunk(&place, "x", &pattern(MIB));
    fs::set_permissions(place.spool(), fs::Permissions::from_mode(0o755)).unwrap();
    let message = format!("spool {}: open to other users; chmod 700 it", place.spool().display());
    put(&server, &place, &["v"], &lines).failed(78, &message);
}

#[test]
fn a_full_standard_output_is_74_and_nothing_is_lost() {
    let place = Place::default();
    let server = Local::start(&place);
    let bytes = pattern(3 * MIB);
    let lines = chunk(&place, "x", &bytes);
    let Ok(full) = OpenOptions::new().write(true).open("/dev/full") else {
        skip("/dev/full: not there");
        return;
    };
    fs::write(place.path("lines"), &lines).unwrap();
    let mut command = server.put(&place, &["--create-vault", "v"]);
    command.stdin(fs::File::open(place.path("lines")).unwrap()).stdout(full);
    let out = command.output().unwrap();
    let message = "glacier-put: stdout: cannot write: No space left on device\n";
    assert_eq!(
        (out.status.code(), String::from_utf8(out.stderr).unwrap()),
        (Some(74), message.into())
    );
    let done = put(&server, &place, &["v"], &lines).done();
    assert_eq!(sorted(&done.stdout), sorted(&catalog(&place)));
    server.holds(&place, "v", &bytes);
}

#[test]
fn a_closed_standard_output_is_no_success_and_nothing_is_lost() {
    let place = Place::default();
    let server = Local::start(&place);
    let bytes = pattern(3 * MIB);
    let lines = chunk(&place, "x", &bytes);
    let mut command = server.put(&place, &["--create-vault", "v"]);
    let mut running = start(command.stdin(Stdio::piped()));
    running.close_output();
    running.give(up_to(&lines, "part", 1).as_bytes());
    running.end_input();
    let ended = running.finish();
    assert!(matches!(ended.code(), 74 | 75), "{}", ended.stderr);
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    let done = put(&server, &place, &["v"], &lines).done();
    assert_eq!(sorted(&done.stdout), sorted(&catalog(&place)));
    server.holds(&place, "v", &bytes);
}

#[test]
fn without_a_standard_output_it_fails() {
    let place = Place::default();
    let server = Local::start(&place);
    let lines = chunk(&place, "x", &pattern(MIB));
    fs::write(place.path("lines"), &lines).unwrap();
    let mut shell = place.command("sh");
    let program = server.put(&place, &[]).get_program().to_owned();
    shell.args(["-c", "exec \"$0\" --create-vault v <lines >&-"]).arg(program);
    let message = "stdout: cannot write: Bad file descriptor";
    run(server.client(&mut shell)).failed(74, message);
    put(&server, &place, &["v"], &lines).done();
}

#[test]
fn a_catalog_that_cannot_be_written_is_74() {
    let place = Place::default();
    let server = Local::start(&place);
    let bytes = pattern(3 * MIB);
    let lines = chunk(&place, "x", &bytes);
    fs::create_dir(place.path("catalog.jsonl")).unwrap();
    let message = format!("catalog {}: Is a directory", place.path("catalog.jsonl").display());
    put(&server, &place, &["--create-vault", "v"], &lines).failed(74, &message);
    fs::remove_dir(place.path("catalog.jsonl")).unwrap();
    // It is told before the service is asked for anything.
    put(&server, &place, &["v"], &lines).failed_like(69, "glacier://v: ", "makes one");
    put(&server, &place, &["--create-vault", "v"], &lines).done();
    server.holds(&place, "v", &bytes);
}

#[test]
fn a_dry_run_leaves_nothing() {
    let (place, here) = (Place::default(), Place::default());
    let lines = chunk(&place, "x", &pattern(MIB));
    let dry = || {
        let mut put = here.tool("glacier-put", &["--dry-run", "v"]);
        let planned = run_with(put.env("TMPDIR", here.path("")), lines.as_bytes()).done();
        assert_eq!(planned.lines()[0]["type"], "plan");
        fs::read_dir(here.path("")).unwrap().count()
    };
    assert_eq!(dry(), 0);
    // With a spool that is there, of which the stream knows nothing.
    fs::create_dir(here.spool()).unwrap();
    fs::set_permissions(here.spool(), fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(dry(), 1);
    assert_eq!(fs::read_dir(here.spool()).unwrap().count(), 0);
}

#[test]
fn a_dry_run_tells_what_would_be_sent_and_asks_nobody() {
    let (place, server, _, stored) = one_stored();
    let lines = chunk(&place, "y", &pattern(5 * MIB + 7));
    let dry = |lines: &str, more: &[&str]| {
        // No credentials, no region, no endpoint.
        let arguments = [&["--dry-run", "v"], more].concat();
        run_with(&mut place.tool("glacier-put", &arguments), lines.as_bytes()).done()
    };
    let calls = server.log().len();
    let plan = &dry(&lines, &["--assume-rate", "1M"]).lines()[0];
    assert_eq!(plan["type"], "plan");
    assert_eq!(plan["name"], "y");
    assert_eq!(plan["dest"], "glacier://v");
    assert_eq!((&plan["volumes"], &plan["parts"]), (&3.into(), &6.into()));
    assert_eq!(plan["size"], 5 * MIB + 7);
    // Six parts, a beginning and an end for each volume, the manifest's three.
    assert_eq!((&plan["requests"], &plan["seconds"]), (&15.into(), &6.into()));
    assert!(dry(&lines, &[]).lines()[0]["seconds"].is_null());
    assert_eq!(server.log().len(), calls);

    // It is what is then asked.
    let count = |server: &Local| {
        ["InitiateMultipartUpload", "UploadMultipartPart", "CompleteMultipartUpload"]
            .iter()
            .map(|call| server.calls(call))
            .sum::<usize>()
    };
    let before = count(&server);
    put(&server, &place, &["v"], &lines).done();
    assert_eq!(count(&server) - before, 15);

    // Of what is stored nothing would be sent.
    let lines = chunk(&place, "x", &pattern(4 * MIB + 5));
    let plan = &dry(&lines, &[]).lines()[0];
    assert_eq!((&plan["parts"], &plan["requests"]), (&0.into(), &0.into()));
    assert!(catalog(&place).contains(stored.stdout.lines().next().unwrap()));
}

#[test]
fn the_vault_may_come_from_the_environment() {
    let place = Place::default();
    let server = Local::start(&place);
    let lines = chunk(&place, "x", &pattern(MIB));
    let mut command = server.put(&place, &["--create-vault"]);
    run_with(command.env("GLACIER_DEST", "glacier://v"), lines.as_bytes()).done();
    until("it is stored", || server.archives("v").len() == 2);
}
