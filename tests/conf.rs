//! akashita-conf(1) and akashita.conf(5).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::common::{self, Ended, Place, run_with};

/// A place with a configuration, which only its user may write.
fn with(text: &str) -> (Place, PathBuf) {
    let place = Place::default();
    let file = place.path("conf");
    fs::write(&file, format!("state={}\n{text}", place.path("state").display())).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    (place, file)
}

fn run(place: &Place, arguments: &[&str]) -> Ended {
    let mut tool = place.tool("akashita-conf", &["--conf", "conf"]);
    run_with(tool.args(arguments).current_dir(place.path("")), b"")
}

#[test]
fn the_page_tells_of_every_key() {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/man/akashita.conf.5"));
    let page = page.unwrap();
    let listed = page.lines().filter_map(|line| line.strip_prefix(".It Cm "));
    let listed: BTreeSet<&str> = listed.flat_map(|line| line.split(" , Cm ")).collect();
    assert_eq!(listed, akashita::tools::conf::keys().collect());
}

#[test]
fn prints_what_a_configuration_says() {
    let (place, _) = with("dest = my-vault\nwindow=22:00-06:00\n");
    let told = run(&place, &[]).done().stdout;
    for line in ["dest=glacier://my-vault", "window=22:00-06:00", "full_every=30"] {
        assert!(told.lines().any(|known| known == line), "{line}: {told}");
    }
    // What it prints is a configuration that says the same.
    fs::write(place.path("conf"), &told).unwrap();
    assert_eq!(run(&place, &[]).done().stdout, told);
}

#[test]
fn a_command_gets_it_as_variables_and_none_of_it_is_run() {
    let (place, _) = with(
        "dest=my-vault\nlog=/$(touch victim);`touch victim`\ndataset=tank/a\ndataset=tank/b c\n",
    );
    let script = "printf '%s|' \"$GLACIER_DEST\" \"$AKASHITA_LOG\" \"$AKASHITA_DATASET\" \"$AKASHITA_TZ\" \"$GLACIER_SPOOL\"";
    let mut tool = place.tool("akashita-conf", &["--conf", "conf", "--", "sh", "-c", script]);
    tool.current_dir(place.path("")).env("AKASHITA_TZ", "of the caller");
    let told = run_with(&mut tool, b"").done().stdout;
    let spool = place.path("state/spool");
    let expected = format!(
        "glacier://my-vault|/$(touch victim);`touch victim`|tank/a\ntank/b c||{}|",
        spool.display()
    );
    assert_eq!(told, expected);
    assert!(!place.path("victim").exists());
    assert_eq!(run(&place, &["--", "sh", "-c", "exit 7"]).code(), 7);
}

/// What a caller has in the environment is neither in the place of what the
/// configuration says, nor above it.
#[test]
fn the_environment_is_not_taken_for_the_configuration() {
    let seen = |place: &Place, more: &[(&str, &str)]| {
        let mut tool = place.tool("akashita-conf", &["--conf", "conf", "--", "env"]);
        tool.current_dir(place.path("")).envs(more.iter().copied());
        let told = run_with(&mut tool, b"").done().stdout;
        let pairs = told.lines().filter_map(|line| line.split_once('='));
        let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
        pairs.collect::<BTreeMap<String, String>>()
    };
    let callers = [
        ("AKASHITA_UNFILTER", "sh -c evil"),
        ("AKASHITA_RECEIVE", "evil"),
        ("AKASHITA_LOCK", "/evil"),
        ("GLACIER_DEST", "evil"),
        ("GLACIER_WHOLE", "/evil"),
        ("GLACIER_CATALOG", "/evil"),
        ("TAR_OPTIONS", "--evil"),
        ("AWS_ENDPOINT_URL", "http://evil.invalid"),
        ("AWS_ENDPOINT_URL_GLACIER", "http://evil.invalid"),
        ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true"),
        ("AWS_REGION", "evil-1"),
        ("AWS_PROFILE", "evil"),
        ("AWS_CA_BUNDLE", "/ca"),
    ];
    let (place, _) = with("");
    let plain = seen(&place, &callers);
    for name in
        ["AKASHITA_RECEIVE", "AKASHITA_LOCK", "GLACIER_DEST", "GLACIER_WHOLE", "TAR_OPTIONS"]
    {
        assert_eq!(plain.get(name), None, "{name}");
    }
    assert_eq!(plain["AKASHITA_UNFILTER"], "");
    assert_eq!(plain["GLACIER_CATALOG"], place.path("state/catalog.jsonl").to_str().unwrap());
    // What the configuration does not name is found as the AWS CLI finds it.
    for name in ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_GLACIER", "AWS_REGION", "AWS_CA_BUNDLE"] {
        assert!(plain.contains_key(name), "{name}");
    }
    let (place, _) = with("endpoint_url=http://127.0.0.1:1\nregion=a-1\nprofile=b\ndest=c\n");
    let named = seen(&place, &callers);
    for (name, value) in [
        ("AWS_ENDPOINT_URL", Some("http://127.0.0.1:1")),
        ("AWS_ENDPOINT_URL_GLACIER", None),
        ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", None),
        ("AWS_REGION", Some("a-1")),
        ("AWS_PROFILE", Some("b")),
        ("GLACIER_DEST", Some("glacier://c")),
        ("AWS_CA_BUNDLE", Some("/ca")),
    ] {
        assert_eq!(named.get(name).map(String::as_str), value, "{name}");
    }
    // One page lists what counts.
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/man/akashita.7")).unwrap();
    let (_, page) = page.split_once(".Ss What the scripts trust of it\n").unwrap();
    let page = page.split("\n.Sh ").next().unwrap();
    for name in ["PATH", "TMPDIR", "HOME", "AKASHITA_CONF", "AWS_CA_BUNDLE", "TAR_OPTIONS"] {
        assert!(page.contains(&format!(" {name}")), "{name}");
    }
}

#[test]
fn who_was_started_can_prove_it() {
    let (place, _) = with("");
    let program = common::program("akashita-conf");
    let run = |line: &str| {
        let mut shell = place.command("sh");
        shell.args(["-c", line]).arg(&program).env("CONF", &program);
        run_with(shell.current_dir(place.path("")), b"")
    };
    let asks = "AKASHITA_RUN=$$; export AKASHITA_RUN; exec 8<&-; exec \"$0\" --conf conf -- sh -c";
    let proves = "\"$CONF\" --started $$ <&8 && printf %s \"$AKASHITA_STARTED,$$\"";
    let told = run(&format!("{asks} '{proves}'")).done().stdout;
    let (process, same) = told.split_once(',').unwrap();
    assert_eq!(process, same);
    // It is for nobody else, and not given to who has not asked.
    let told = "AKASHITA_STARTED: is set, and not by akashita-conf; unset it";
    run(&format!("{asks} '\"$CONF\" --started 1 <&8'")).failed(78, told);
    run(&format!("printf %s $$ >proof; exec {} --started $$ <proof", "\"$0\"")).failed(78, told);
    let line = "exec \"$0\" --conf conf -- sh -c 'printf %s \"${AKASHITA_STARTED-none}\"'";
    assert_eq!(run(line).done().stdout, "none");
}

#[test]
fn refuses_a_wrong_command_line() {
    let (place, _) = with("");
    for arguments in [
        &["--lock", "../x", "--", "true"][..],
        &["--skip", "--", "true"],
        &["--of", "x", "--", "true"],
        &["--wait", "1s", "--", "true"],
        &["--directory", "x"],
        &["--enter"],
        &["--enter", "--directory", "x", "--", "true"],
        &["--started", "x"],
        &["--started", "1", "--", "true"],
        &["--lock", "x"],
        &["true"],
    ] {
        assert_eq!(run(&place, arguments).code(), 64, "{arguments:?}");
    }
}

#[test]
fn a_wrong_configuration_is_told_with_its_line() {
    let (place, _) = with("windw=22:00-06:00\n");
    run(&place, &[]).failed(78, "conf: line 2: windw: no such key");
    fs::remove_file(place.path("conf")).unwrap();
    run(&place, &[]).failed(78, "conf: cannot read: No such file or directory (os error 2)");
    fs::create_dir(place.path("conf")).unwrap();
    run(&place, &[]).failed(78, "conf: not a file");
}

#[test]
fn a_configuration_that_others_may_write_is_refused() {
    let (place, file) = with("");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o664)).unwrap();
    run(&place, &[]).failed(78, "conf: others may write it; chmod go-w conf");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    run(&place, &[]).done();
    // Only root can give a file away.
    if chown(&file, Some(12345), None).is_ok() {
        run(&place, &[]).failed(78, "conf: belongs to another user");
    }
}

#[test]
fn a_command_that_cannot_be_run_is_told_as_a_shell_tells_it() {
    let (place, _) = with("");
    let ended = run(&place, &["--", "./nothing"]);
    assert_eq!(ended.code(), 127, "{}", ended.stderr);
    fs::write(place.path("plain"), "x").unwrap();
    assert_eq!(run(&place, &["--", "./plain"]).code(), 126);
}

#[test]
fn a_lock_that_cannot_be_made_is_a_failure_here() {
    let (place, _) = with("");
    fs::write(place.path("state"), "no directory").unwrap();
    assert_eq!(run(&place, &["--lock", "backup", "--", "true"]).code(), 74);
}

#[test]
fn a_lock_lasts_as_long_as_anything_that_the_command_started() {
    let (place, _) = with("");
    // The command ends at once; what it started goes on until it is told.
    let script = "while [ ! -e go ]; do sleep 0.05; done >/dev/null 2>&1 &";
    run(&place, &["--lock", "backup", "--", "sh", "-c", script]).done();
    let ended = run(&place, &["--lock", "backup", "--", "true"]);
    assert_eq!(ended.code(), 75);
    assert!(ended.stderr.starts_with("akashita-conf: backup: another is under way, process "));
    let skipped = run(&place, &["--lock", "backup", "--skip", "--", "touch", "ran"]).done();
    assert_eq!((skipped.stdout.as_str(), skipped.stderr.as_str()), ("", ""));
    assert!(!place.path("ran").exists());
    run(&place, &["--lock", "other", "--skip", "--", "touch", "ran"]).done();
    assert!(place.path("ran").exists());
    fs::write(place.path("go"), "").unwrap();
    let begin = Instant::now();
    while run(&place, &["--lock", "backup", "--", "true"]).code() != 0 {
        assert!(begin.elapsed() < Duration::from_secs(30), "it is never given back");
    }
}

#[test]
fn what_has_a_lock_gets_an_identity_that_stays() {
    let (place, _) = with("");
    let print = ["--", "sh", "-c", "printf %s \"$AKASHITA_ID\""];
    let id = |before: &[&str]| run(&place, &[before, &print].concat()).done().stdout;
    assert_eq!(id(&[]), "", "what only looks makes none");
    assert!(!place.path("state").exists());
    let made = id(&["--lock", "backup"]);
    assert!(made.len() == 16 && made.bytes().all(|b| b.is_ascii_hexdigit()), "{made}");
    assert_eq!(id(&["--lock", "drill"]), made);
    assert_eq!(id(&[]), made);
    fs::write(place.path("state/id"), "").unwrap();
    run(&place, &["--lock", "backup", "--", "true"]).failed(
        78,
        &format!(
            "{}: not 16 hexadecimal digits; bring it back from a copy, or remove it, and what was \
             made by it is known by guid alone",
            place.path("state/id").display()
        ),
    );
    // A variable of the caller is not taken for it.
    let mut tool = place.tool("akashita-conf", &["--conf", "conf"]);
    tool.args(print).current_dir(place.path("")).env("AKASHITA_ID", "0123456789abcdef");
    assert_eq!(run_with(&mut tool, b"").done().stdout, "");
}

#[test]
fn a_directory_is_entered_by_its_handle_and_has_one_at_a_time() {
    let (place, _) = with("");
    // It is created, and renamed: what has its name then is not written to.
    let script = "mv out moved && mkdir out
        akashita-conf --enter -- sh -c 'echo in >here' >&9
        akashita-conf --conf conf --directory moved -- true; echo $?";
    let path = std::env::var("PATH").unwrap();
    let tools = common::program("akashita-conf").parent().unwrap().display().to_string();
    let mut tool = place.tool("akashita-conf", &["--conf", "conf", "--directory", "out", "--"]);
    tool.args(["sh", "-c", script]).env("PATH", format!("{tools}:{path}"));
    let ended = run_with(tool.current_dir(place.path("")), b"");
    assert_eq!((ended.code(), ended.stdout.as_str()), (0, "75\n"), "{}", ended.stderr);
    assert!(ended.stderr.contains("moved: another program works on it; "), "{}", ended.stderr);
    assert_eq!(fs::read_to_string(place.path("moved/here")).unwrap(), "in\n");
    assert!(!place.path("out/here").exists());
    run(&place, &["--directory", "moved", "--", "true"]).done();
    fs::set_permissions(place.path("moved"), fs::Permissions::from_mode(0o777)).unwrap();
    run(&place, &["--directory", "moved", "--", "true"])
        .failed(78, "moved: others may write it; chmod go-w moved");
    std::os::unix::fs::symlink("out", place.path("link")).unwrap();
    for link in ["link", "link/", "./link/."] {
        let ended = run(&place, &["--directory", link, "--", "true"]);
        assert_eq!(ended.code(), 78, "{link}: {}", ended.stderr);
    }
}

#[test]
fn a_directory_that_cannot_be_opened_is_a_failure_here() {
    let (place, _) = with("");
    assert_eq!(run(&place, &["--directory", "conf/x", "--", "true"]).code(), 74);
    let program = common::program("akashita-conf");
    let line = "exec 9<conf; exec \"$0\" --conf conf --directory out -- true";
    let mut shell = place.command("sh");
    shell.args(["-c", line]).arg(program).current_dir(place.path(""));
    run_with(&mut shell, b"")
        .failed(74, "out: descriptor 9 is open already: Device or resource busy");
}
