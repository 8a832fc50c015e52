//! What a stream goes through between ZFS and Glacier: filters, the spool, and tar.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Command;

use serde_json::Value;

use crate::common::machine::{GUIDS, Machine, silent};
use crate::common::{Ended, run, run_with};
use crate::common::{local, skip};

const CONF: &str = "dest=my-vault\ndataset=tank/home\npart_size=1M\nvolume_size=1M\n";

const SHELLS: [&str; 4] = ["sh", "dash", "bash", "busybox sh"];

fn has(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}

fn stream(name: &str) -> Vec<u8> {
    fs::read(format!("{}/tests/streams/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

impl Machine {
    /// The `stored` lines of the catalog that are of a dataset.
    pub fn records(&self) -> Vec<Value> {
        let catalog = local::catalog(&self.place);
        let lines = catalog.lines().filter(|line| line.starts_with("{\"type\":\"stored\""));
        let lines = lines.map(|line| serde_json::from_str(line).unwrap());
        lines.filter(|line: &Value| line["name"] != "other").collect()
    }

    /// What a command makes of a stream that is brought back.
    fn back(&self, what: &str, command: &str) -> Vec<u8> {
        let script = format!(
            "glacier-chain '{what}' <\"$GLACIER_CATALOG\" | grep -v '\"type\":\"chain\"' |
                glacier-get --tier Expedited -- sh -c '{command}' >back"
        );
        let mut shell = self.place.command("sh");
        shell.args(["-c", &script]);
        let tools = crate::common::program("glacier-chain").parent().unwrap().to_owned();
        let mut path = vec![tools];
        path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap()));
        self.server.client(&mut shell);
        shell.current_dir(self.place.path("")).env("PATH", std::env::join_paths(path).unwrap());
        run_with(&mut shell, b"").done();
        fs::read(self.place.path("back")).unwrap()
    }

    /// Notes how a tool is called where it is noted what ZFS is asked.
    fn watch(&self, tool: &str) {
        let bin = self.place.path("bin");
        let _ = fs::create_dir(&bin);
        let real = crate::common::program(tool);
        let text = format!(
            "#!/bin/sh\nprintf '%s\\n' \"{tool} $*\" >>\"$POOL/asked\"\nexec {} \"$@\"\n",
            real.display()
        );
        // By another program, as in `script_in`.
        let mut write = Command::new("sh");
        write.args(["-c", "printf %s \"$1\" >\"$0\" && chmod 755 \"$0\""]);
        assert!(write.arg(bin.join(tool)).arg(text).status().unwrap().success());
    }
}

#[test]
fn a_filter_comes_before_the_spool_in_any_sh() {
    if !has("zstd") {
        return skip("zstd: not found; no filter is tried");
    }
    for shell in SHELLS {
        let machine = Machine::new();
        machine.configure(&format!("{CONF}filter=zstd -q -3\nunfilter=zstd -d\n"));
        let Some(ended) = machine.run_in(shell, &[], &[]) else {
            skip(&format!("{shell}: not found, no filter is tried with it"));
            continue;
        };
        silent(&ended);
        silent(&machine.run_in(shell, &[], &[]).unwrap());
        assert_eq!(machine.stored(), GUIDS[..2], "{shell}");
        let records = machine.records();
        assert_eq!(records[0]["filter"], "zstd -q -3", "{shell}");
        assert_eq!(records[1]["from_guid"], GUIDS[0], "{shell}");
        assert_eq!(machine.back(GUIDS[0], "zstd -dc"), stream("full.zfs"), "{shell}");
    }
}

#[test]
fn what_is_encrypted_is_made_once_and_sent_from_the_spool() {
    if !has("age") {
        return skip("age: not found; nothing is encrypted");
    }
    for shell in SHELLS {
        let mut machine = Machine::new();
        let key = Command::new("age-keygen").output().unwrap().stdout;
        fs::write(machine.place.path("key"), &key).unwrap();
        let key = String::from_utf8(key).unwrap();
        let (_, public) = key.split_once("public key: ").unwrap();
        let public = public.lines().next().unwrap();
        machine.configure(&format!(
            "{CONF}patience=0s\nrecipient={public}\nfilter=gzip -1\nunfilter=gzip -d\n"
        ));
        machine.server.fail("{\"call\":\"InitiateMultipartUpload\",\"do\":\"drop\"}\n");
        let Some(ended) = machine.run_in(shell, &[], &[]) else {
            skip(&format!("{shell}: not found, nothing is encrypted with it"));
            continue;
        };
        assert_eq!(ended.code(), 75, "{shell}: {}", ended.stderr);
        assert_eq!(ended.stderr.lines().count(), 1, "{shell}: {}", ended.stderr);
        machine.server.fail("");
        silent(&machine.run_in(shell, &[], &[]).unwrap());
        let asked = machine.asked();
        let sent = asked.lines().filter(|line| line.starts_with("send ") && !line.contains("-nP"));
        assert_eq!(sent.count(), 2, "{shell}: the first from the spool:\n{asked}");
        assert_eq!(machine.stored(), GUIDS[..2], "{shell}");
        let filter = format!("gzip -1 | age -r {public}");
        assert_eq!(machine.records()[0]["filter"], filter, "{shell}");
        let undo = format!("age -d -i {} | gzip -d", machine.place.path("key").display());
        assert_eq!(machine.back(GUIDS[0], &undo), stream("full.zfs"), "{shell}");
    }
}

#[test]
fn what_can_never_work_is_not_called_unfinished() {
    let machine = Machine::new();
    machine.configure(&format!("{CONF}mode=spool\n"));
    let ended = machine.run(&[], &[("ESTIMATE", "9000000000000000")]);
    assert_eq!(ended.code(), 74, "{}", ended.stderr);
    assert!(ended.stderr.contains("/spool: has room for "), "{}", ended.stderr);
    machine.configure(&format!("{CONF}mode=spool\nreserve=1000T\n"));
    let ended = machine.run(&[], &[("ESTIMATE", "")]);
    assert_eq!(ended.code(), 74, "{}", ended.stderr);
    assert!(ended.stderr.contains("make room, lower reserve, or move spool"), "{}", ended.stderr);
    if has("age") {
        machine.configure(&format!("{CONF}recipient=age1abc\n"));
        let ended = machine.run(&[], &[]);
        assert_eq!(ended.code(), 78, "{}", ended.stderr);
        assert!(
            ended.stderr.contains("recipient: age: error: malformed recipient"),
            "{}",
            ended.stderr
        );
    }
    machine.configure(CONF);
    silent(&machine.run(&[], &[]));
    assert_eq!(machine.stored(), GUIDS[..2], "the first goes on, then a new one");
}

#[test]
fn a_filter_that_fails_stores_nothing() {
    let machine = Machine::new();
    machine.configure(&format!("{CONF}filter=false\nunfilter=cat\n"));
    let ended = machine.run(&[], &[]);
    assert_eq!(ended.code(), 65, "{}", ended.stderr);
    machine.configure(&format!("{CONF}filter=no-such-program -3\nunfilter=cat\n"));
    let ended = machine.run(&[], &[]);
    assert_eq!(ended.code(), 78, "{}", ended.stderr);
    assert!(ended.stderr.contains("filter: no-such-program: not found"), "{}", ended.stderr);
    assert!(machine.stored().is_empty());
}

#[test]
fn a_sender_that_dies_before_a_filter_stores_nothing() {
    let machine = Machine::new();
    machine.configure(&format!("{CONF}filter=gzip -1\nunfilter=gzip -d\n"));
    let ended = machine.run(&[], &[("DIES", "1")]);
    assert_eq!(ended.code(), 65, "{}", ended.stderr);
    assert!(machine.stored().is_empty());
    silent(&machine.run(&[], &[]));
    assert_eq!(machine.stored(), GUIDS[..2], "it is made again, as it was not whole");
}

#[test]
fn it_is_spooled_where_the_window_closes_and_there_is_room() {
    let never = "window=00:00-24:00\n";
    // It is open but for a minute a day: that one is waited for.
    let closes = "window=00:00-23:59\n";
    for (more, estimate, spooled) in [
        ("", "2144056", false),
        (never, "2144056", false),
        (closes, "2144056", true),
        (closes, "9000000000000000", false),
        (closes, "", false),
        ("mode=spool\n", "", true),
        (&format!("{closes}mode=stream\n"), "2144056", false),
    ] {
        let machine = Machine::new();
        machine.configure(&format!("{CONF}{more}"));
        machine.watch("glacier-chunk");
        silent(&machine.run(&[], &[("ESTIMATE", estimate)]));
        let asked = machine.asked();
        let limit = asked.contains("glacier-chunk --spool-limit none");
        assert_eq!(limit, spooled, "{more} {estimate}:\n{asked}");
        assert_eq!(machine.stored(), GUIDS[..1]);
    }
}

#[test]
fn what_was_damaged_in_the_spool_is_made_anew() {
    let mut machine = Machine::new();
    machine.configure(&format!("{CONF}mode=spool\npatience=0s\n"));
    machine.server.fail("{\"call\":\"InitiateMultipartUpload\",\"do\":\"drop\"}\n");
    assert_eq!(machine.run(&[], &[]).code(), 75);
    let spool = local::files(&machine.place.path("spool"));
    let part = spool.iter().find(|file| fs::metadata(file).unwrap().len() == 1 << 20).unwrap();
    let mut bytes = fs::read(part).unwrap();
    bytes[4711] ^= 1;
    fs::write(part, bytes).unwrap();
    machine.server.fail("");
    silent(&machine.run(&[], &[]));
    assert_eq!(machine.stored(), GUIDS[..2]);
    assert_eq!(machine.back(GUIDS[0], "cat"), stream("full.zfs"));
}

/// The names in a tar of a snapshot that is brought back.
pub fn names(machine: &Machine, name: &str, undo: &str) -> Vec<String> {
    let tar = machine.back(name, undo);
    fs::write(machine.place.path("back.tar"), tar).unwrap();
    let listed =
        Command::new("tar").arg("-tf").arg(machine.place.path("back.tar")).output().unwrap();
    let mut names: Vec<String> =
        String::from_utf8(listed.stdout).unwrap().lines().map(str::to_owned).collect();
    names.sort();
    names
}

#[test]
fn files_are_stored_as_tar_makes_them_in_any_sh() {
    for shell in SHELLS {
        let machine = Machine::new();
        let files = machine.place.path("pool/files");
        fs::create_dir_all(files.join("photos/-C")).unwrap();
        fs::create_dir_all(files.join("cache")).unwrap();
        for name in ["photos/a b", "photos/-C/$(touch victim)", "photos/x.tmp", "cache/y", "etc"] {
            fs::write(files.join(name), name).unwrap();
        }
        let conf = format!("{CONF}format=tar\nlocal_keep=1\n");
        machine.configure(&format!(
            "{conf}path=photos\npath=etc\nexclude=*.tmp\nfilter=gzip -1\nunfilter=gzip -d\n"
        ));
        let Some(ended) = machine.run_in(shell, &[], &[]) else {
            skip(&format!("{shell}: not found, no files are stored with it"));
            continue;
        };
        silent(&ended);
        let records = machine.records();
        let name = records[0]["name"].as_str().unwrap().to_owned();
        assert!(name.starts_with("tank/home@akashita-tar:20") && name.ends_with("Z.tar"), "{name}");
        assert_eq!(
            (records[0]["format"].as_str(), records[0]["whole"].as_str()),
            (Some("bytes"), Some("marker"))
        );
        let expected =
            ["./etc", "./photos/", "./photos/-C/", "./photos/-C/$(touch victim)", "./photos/a b"];
        assert_eq!(names(&machine, &name, "gzip -d"), expected, "{shell}");

        // All of it, and the next time all again.
        machine.configure(&conf);
        silent(&machine.run_in(shell, &[], &[]).unwrap());
        let records = machine.records();
        assert_eq!(records.len(), 2, "{shell}");
        assert!(
            names(&machine, records[1]["name"].as_str().unwrap(), "cat")
                .contains(&"./cache/y".to_owned())
        );
        let asked = machine.asked();
        assert!(asked.contains("clone -o readonly=on"), "{asked}");
        let clone = format!("\ndestroy tank/akashita-tar-{}\n", machine.id());
        assert!(asked.contains(&clone), "{asked}");
        assert!(asked.contains("\ndestroy tank/home@akashita-tar:20"), "one is kept: {asked}");
        assert_eq!(
            fs::read_to_string(machine.place.path("pool/clones")).unwrap(),
            "",
            "none stays"
        );
        assert!(!asked.contains("\nbookmark "), "none is a base");
    }
}

#[test]
fn files_that_are_not_there_are_no_backup() {
    let machine = Machine::new();
    fs::create_dir_all(machine.place.path("pool/files")).unwrap();
    fs::write(machine.place.path("pool/files/here"), "here").unwrap();
    let conf = format!("{CONF}format=tar\n");
    machine.configure(&format!("{conf}path=here\npath=gone\n"));
    let ended = machine.run(&[], &[]);
    assert_eq!(ended.code(), 65, "{}", ended.stderr);
    assert!(
        ended.stderr.contains("tar: ") && ended.stderr.contains("; glacier-put: "),
        "{}",
        ended.stderr
    );
    assert!(machine.records().is_empty());
    machine.configure(&conf);
    silent(&machine.run(&[], &[]));
    assert_eq!(machine.records().len(), 2, "the unfinished one, then a new one");
    machine.configure(&format!("{conf}recursive=one\n"));
    assert_eq!(machine.run(&[], &[]).code(), 78);
}

#[test]
fn files_behind_a_link_are_not_of_the_snapshot_in_any_sh() {
    for shell in SHELLS {
        let machine = Machine::new();
        let (files, outside) = (machine.place.path("pool/files"), machine.place.path("outside"));
        fs::create_dir_all(files.join("alice/real")).unwrap();
        fs::create_dir_all(outside.join("2026")).unwrap();
        fs::write(files.join("alice/real/mine"), "alice").unwrap();
        fs::write(outside.join("2026/secret"), "root").unwrap();
        symlink(&outside, files.join("alice/docs")).unwrap();
        symlink("real", files.join("alice/near")).unwrap();
        symlink("nowhere", files.join("alice/none")).unwrap();
        let conf = format!("{CONF}format=tar\nlocal_keep=1\n");
        for (path, link) in [
            ("alice/docs/2026", "alice/docs"),
            ("alice/docs", "alice/docs"),
            ("alice/docs/", "alice/docs"),
            ("./alice//docs/.", "./alice//docs"),
            ("alice/near/mine", "alice/near"),
            ("alice/none", "alice/none"),
        ] {
            machine.configure(&format!("{conf}path=alice/real\npath={path}\n"));
            let Some(ended) = machine.run_in(shell, &[], &[]) else { break };
            assert_eq!(ended.code(), 65, "{shell}: {path}: {}", ended.stderr);
            let why = format!(
                ": path={path}: {link} is a symbolic link, and what it leads to is not followed; "
            );
            assert!(ended.stderr.contains(&why), "{shell}: {path}: {}", ended.stderr);
            assert!(machine.records().is_empty(), "{shell}: {path}");
            let clones = machine.place.path("pool/clones");
            assert_eq!(fs::read_to_string(clones).unwrap(), "", "{shell}: none stays");
        }
        // A link that is met on the way down is stored as the link that it is.
        machine.configure(&format!("{conf}path=alice\n"));
        let Some(ended) = machine.run_in(shell, &[], &[]) else {
            skip(&format!("{shell}: not found, no links are stored with it"));
            continue;
        };
        silent(&ended);
        let name = machine.records()[0]["name"].as_str().unwrap().to_owned();
        let held = names(&machine, &name, "cat");
        assert!(held.contains(&"./alice/docs".to_owned()), "{shell}: {held:?}");
        assert!(!held.iter().any(|name| name.contains("secret")), "{shell}: {held:?}");
    }
}

/// What a user has in the environment is no part of what is stored.
#[test]
fn options_of_the_caller_are_not_those_of_tar() {
    let machine = Machine::new();
    fs::create_dir_all(machine.place.path("pool/files")).unwrap();
    fs::write(machine.place.path("pool/files/here"), "here").unwrap();
    machine.configure(&format!("{CONF}format=tar\n"));
    let victim = machine.place.path("victim");
    let run = format!("--checkpoint=1 --checkpoint-action=exec='touch {}'", victim.display());
    silent(&machine.run(&[], &[("TAR_OPTIONS", &run)]));
    assert!(!victim.exists(), "it was run");
}

#[test]
fn a_window_that_is_killed_is_no_empty_stream() {
    let machine = Machine::new();
    machine.configure(&format!("{CONF}filter=gzip -1\nunfilter=gzip -d\n"));
    let stubs = machine.place.path("stubs");
    fs::create_dir(&stubs).unwrap();
    fs::write(stubs.join("glacier-window"), "#!/bin/sh\nkill -9 $$\n").unwrap();
    fs::set_permissions(stubs.join("glacier-window"), fs::Permissions::from_mode(0o755)).unwrap();
    let command = machine.command_in("akashita-backup", "sh", &[], &[]).unwrap();
    let mut variables = command.get_envs();
    let path = variables.find(|(name, _)| *name == "PATH").unwrap().1.unwrap().to_owned();
    let path = format!("{}:{}", stubs.display(), path.display());
    let ended = machine.run(&[], &[("PATH", &path)]);
    assert!(matches!(ended.code(), 65 | 75), "{}", ended.stderr);
    assert!(machine.stored().is_empty());
    silent(&machine.run(&[], &[]));
    assert_eq!(machine.stored(), GUIDS[..2], "what is in the spool, and then a new one");
}

/// akashita-store on what a line of sh writes, with a marker m.
fn stored_from(machine: &Machine, before: &str, sender: &str, name: &str) -> Ended {
    let store = machine.command_in("akashita-store", "sh", &[], &[]).unwrap();
    let script = store.get_program().to_owned();
    let conf = machine.place.path("conf");
    let line = format!("{before}; {{ {sender}; }} | \"$0\" -c '{}' -n {name} -w m", conf.display());
    let mut shell = Command::new("sh");
    shell.args(["-c", &line]).arg(script).current_dir(machine.place.path("")).env_clear();
    shell.envs(store.get_envs().filter_map(|(name, value)| Some((name, value?))));
    run(&mut shell)
}

/// Behind a filter the pipe of glacier-chunk is younger than the sender's, so
/// there the script asks.
#[test]
fn a_marker_is_that_of_this_sender_before_a_filter_too() {
    for filter in ["", "filter=gzip -1\nunfilter=gzip -d\n"] {
        let machine = Machine::new();
        machine.configure(&format!("{CONF}{filter}"));
        let stale = "marker m: older than this run; remove it first\n";
        let missing = "marker m: not there; its producer failed, the stream is not whole\n";
        let send = "cat bin/akashita-store";
        let late = "until [ -e n ] && [ n -nt m ]; do : >n; done";
        let ended =
            stored_from(&machine, &format!(": >m; {late}"), &format!("{send}; false && : >m"), "a");
        assert_eq!(ended.code(), 65, "{filter}: {}", ended.stderr);
        assert!(ended.stderr.ends_with(stale), "{filter}: {}", ended.stderr);
        let ended = stored_from(&machine, "rm m", &format!("{send}; false && : >m"), "a");
        assert_eq!(ended.code(), 65, "{filter}: {}", ended.stderr);
        assert!(ended.stderr.contains(missing), "{filter}: {}", ended.stderr);
        assert_eq!(machine.records().len(), 0, "{filter}");
        // Done before anything else begins.
        let ended = stored_from(&machine, ":", ": >m; printf hello", "a");
        silent(&ended);
        assert_eq!(machine.records()[0]["name"], "a", "{filter}");
        assert!(!machine.place.path("m").exists(), "removed when accepted");
    }
}

#[test]
fn what_zfs_send_has_lost_is_in_the_log_and_in_the_status() {
    for more in ["", "mode=spool\n", "filter=gzip -1\nunfilter=gzip -d\n"] {
        let machine = Machine::new();
        machine.configure(&format!("{}{more}", CONF.replace("tank/home", "p/a")));
        let store = |name: &str| {
            let mut store = machine.command_in("akashita-store", "sh", &[], &[]).unwrap();
            run_with(&mut store, &stream(name))
        };
        let status = || machine.script_in("akashita-status", "sh", &[], &[]).unwrap();
        let trace = "begun 2026-11-30T22:00:00Z\nended 2026-11-30T23:00:00Z 0 0\n";
        fs::write(machine.place.path("ran"), trace).unwrap();
        silent(&store("spill-plain.zfs"));
        assert!(status().stdout.starts_with("AKASHITA OK - "), "{}", status().stdout);
        let ended = store("spill-embedded-e.zfs");
        assert_eq!(ended.code(), 0, "{more}: {}", ended.stderr);
        let told = "p/a@s: objects that zfs receive will damage: 2";
        assert!(ended.stderr.contains(": warning: stream: object 2: "), "{more}: {}", ended.stderr);
        assert!(ended.stderr.contains(told), "{more}: {}", ended.stderr);
        let lossy = machine.place.path("lossy");
        let noted = fs::read_to_string(&lossy).unwrap();
        assert!(noted.ends_with(&format!("Z {told}\n")) && noted.lines().count() == 1, "{noted}");
        let told = status();
        assert_eq!(told.code(), 1, "{}", told.stdout);
        let state = machine.place.path("");
        let said = format!("; will come back damaged: 1, see {}/lossy;", state.display());
        assert!(told.stdout.starts_with("AKASHITA WARNING - "), "{}", told.stdout);
        assert!(told.stdout.contains(&said), "{}", told.stdout);
        fs::remove_file(lossy).unwrap();
        assert_eq!(status().code(), 0);
    }
    // The whole script, from ZFS to the log.
    let machine = Machine::new();
    let streams = machine.place.path("streams");
    fs::create_dir(&streams).unwrap();
    fs::write(streams.join("full.zfs"), stream("spill-embedded-e.zfs")).unwrap();
    let ended = machine.run(&[], &[("STREAMS", streams.to_str().unwrap())]);
    let log = fs::read_to_string(machine.place.path("log")).unwrap();
    assert!(
        log.contains("p/a@s: objects that zfs receive will damage: 2; "),
        "{}{log}",
        ended.stderr
    );
    assert!(machine.place.path("lossy").exists());
}
