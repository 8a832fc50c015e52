//! akashita-restore(8), with a pool that is a file and a Glacier on this machine.

mod receive;

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use crate::common::local::pattern;
use crate::common::machine::{GUIDS, Machine, has, silent};
use crate::common::tty::on_terminal;
use crate::common::{Ended, Running, skip, start, until};

const CONF: &str = "dest=my-vault\ndataset=tank/home\npart_size=1M\nvolume_size=1M\n\
                    tier=Expedited\nmax_cost=5\n";

/// A machine that has stored two snapshots as a chain.
fn stored() -> Machine {
    let machine = empty();
    silent(&machine.run(&[], &[]));
    silent(&machine.run(&[], &[]));
    machine
}

fn empty() -> Machine {
    let machine = Machine::new();
    machine.configure(CONF);
    machine
}

fn restore_in(
    machine: &Machine,
    shell: &str,
    arguments: &[&str],
    more: &[(&str, &str)],
) -> Option<Ended> {
    machine.script_in("akashita-restore", shell, arguments, more)
}

fn restore(machine: &Machine, arguments: &[&str], more: &[(&str, &str)]) -> Ended {
    restore_in(machine, "sh", arguments, more).unwrap()
}

/// The guids that a dataset has, in their order.
fn received(machine: &Machine, dataset: &str) -> Vec<String> {
    let points = machine.points();
    let of = format!("{dataset}@");
    let lines = points.lines().map(|line| line.split('\t').collect::<Vec<_>>());
    lines.filter(|line| line[2].starts_with(&of)).map(|line| line[1].to_owned()).collect()
}

/// How many archives the service was asked for.
fn asked_for(machine: &Machine) -> usize {
    machine.server.calls("InitiateJob")
}

/// That a run failed with one line, which begins and ends so.
#[track_caller]
fn fails(ended: &Ended, code: i32, begins: &str, ends: &str) {
    let said = ended.stderr.trim_end();
    assert_eq!((ended.code(), said.lines().count()), (code, 1), "{said}");
    assert!(said.starts_with(&format!("akashita-restore: {begins}")), "{said}");
    assert!(said.ends_with(ends), "{said}");
}

#[test]
fn brings_a_chain_back_in_order_in_any_sh() {
    let machine = stored();
    for (number, shell) in ["sh", "dash", "bash", "busybox sh"].into_iter().enumerate() {
        let target = format!("tank/back{number}");
        let Some(ended) = restore_in(&machine, shell, &["tank/home@tue", &target], &[]) else {
            skip(&format!("{shell}: not found, akashita-restore is not tried with it"));
            continue;
        };
        silent(&ended);
        assert_eq!(received(&machine, &target), GUIDS[..2], "{shell}");
        let log = fs::read_to_string(machine.place.path("log")).unwrap();
        assert!(log.ends_with(&format!(" tank/home@tue: restored to {target}\n")), "{log}");
    }
    let asked = machine.asked();
    let receives: Vec<&str> = asked.lines().filter(|line| line.starts_with("receive")).collect();
    assert!(receives.iter().all(|line| line.starts_with("receive -u tank/back")), "{receives:?}");
}

#[test]
fn goes_on_behind_what_is_there() {
    let machine = stored();
    silent(&restore(&machine, &[GUIDS[0], "tank/back"], &[]));
    let log = fs::read_to_string(machine.place.path("log")).unwrap();
    assert!(log.ends_with(" tank/home@mon: restored to tank/back\n"), "by its name: {log}");
    let before = asked_for(&machine);
    assert_eq!(received(&machine, "tank/back"), GUIDS[..1]);
    silent(&restore(&machine, &["tank/home@tue", "tank/back"], &[]));
    assert_eq!(received(&machine, "tank/back"), GUIDS[..2]);
    assert_eq!(asked_for(&machine), before + 1, "the second stream is of one volume");
    // And with all of it there is nothing to do.
    let plan = restore(&machine, &["-n", "tank/home@tue", "tank/back"], &[]);
    assert_eq!((plan.code(), plan.stdout.as_str()), (0, "nothing to bring back\n"));
    silent(&restore(&machine, &["tank/home@tue", "tank/back"], &[]));
    silent(&restore(&machine, &["tank/home@mon", "tank/back"], &[]));
    assert_eq!(machine.asked().matches("receive -u").count(), 2, "{}", machine.asked());
    // An old ZFS cannot be asked for snapshots alone, nor for a token.
    silent(&restore(&machine, &["tank/home@tue", "tank/old"], &[("OLD", "1")]));
    silent(&restore(&machine, &["tank/home@tue", "tank/old"], &[("OLD", "1")]));
    assert_eq!(received(&machine, "tank/old"), GUIDS[..2]);
}

#[test]
fn what_zfs_receive_would_lose_is_told_in_the_log() {
    let machine = stored();
    let catalog = machine.place.path("catalog.jsonl");
    let lines = fs::read_to_string(&catalog).unwrap();
    // The stream needs nothing, and comes out of glacier-mend as it went in.
    fs::write(&catalog, lines.replacen("\"whole\":\"zfs", "\"misplaced\":3,\"whole\":\"zfs", 1))
        .unwrap();
    let told = "tank/home@mon: 3 long links or sets of extended attributes";
    for (option, target, said) in [
        (&[][..], "tank/back", "that zfs receive would lose are put back"),
        (&["-a"], "tank/sent", "stay as they were sent, and zfs receive loses them"),
    ] {
        silent(&restore(&machine, &[option, &["tank/home@mon", target]].concat(), &[]));
        assert_eq!(received(&machine, target), GUIDS[..1]);
        let log = fs::read_to_string(machine.place.path("log")).unwrap();
        assert!(log.contains(&format!("akashita-receive: warning: {told} {said}\n")), "{log}");
    }
    // So does the command that goes on.
    let ended = restore(&machine, &["-a", "tank/home@mon", "tank/other"], &[("WRONG", "17")]);
    assert!(ended.stderr.contains("; again: akashita-restore -a -c "), "{}", ended.stderr);
}

#[test]
fn writes_down_what_it_has_made_and_nothing_that_was_there() {
    let machine = stored();
    let file = machine.place.path("made");
    let option = ["-d", file.to_str().unwrap()];
    silent(&restore(&machine, &[&option[..], &[GUIDS[0], "tank/back"]].concat(), &[]));
    let datasets = fs::read_to_string(machine.place.path("pool/datasets")).unwrap();
    let made = fs::read_to_string(&file).unwrap();
    assert!(made == datasets && made.ends_with("\ttank/back\n"), "{made}{datasets}");
    assert!(!made.starts_with(GUIDS[0]), "that of the snapshot is the original's, too");
    silent(&restore(&machine, &[&option[..], &["tank/home@tue", "tank/back"]].concat(), &[]));
    assert_eq!(received(&machine, "tank/back"), GUIDS[..2]);
    assert_eq!(fs::read_to_string(&file).unwrap(), made);
}

#[test]
fn what_is_there_already_is_told_and_not_changed() {
    let machine = stored();
    silent(&restore(&machine, &["tank/home@tue", "tank/back"], &[]));
    let points = machine.points();
    fs::write(machine.place.path("pool/points"), points + "950\t99\ttank/back@newer\n").unwrap();
    let points = machine.points();
    for (snapshot, guid) in [("mon", GUIDS[0]), ("tue", GUIDS[1])] {
        let told = format!(
            "tank/back: has tank/home@{snapshot} already; nothing was changed; zfs rollback \
             'tank/back@{snapshot}' goes back to it"
        );
        let name = format!("tank/home@{snapshot}");
        for wanted in [name.as_str(), guid] {
            silent(&restore(&machine, &[wanted, "tank/back"], &[]));
            let log = fs::read_to_string(machine.place.path("log")).unwrap();
            assert!(log.ends_with(&format!(" {told}\n")), "{log}");
        }
        let Some(ended) = on_terminal(&machine, &format!("akashita-restore {name} tank/back"))
        else {
            continue;
        };
        assert_eq!((ended.code(), ended.stdout), (0, format!("akashita-restore: {told}\r\n")));
    }
    assert_eq!(machine.points(), points);
}

#[test]
fn what_failed_goes_on_without_being_asked_for_again() {
    let machine = stored();
    let ended = restore(&machine, &["tank/home@tue", "tank/back"], &[("FULL", "1")]);
    let again = format!(
        "; log: {}; again: akashita-restore -c {} -t Expedited -- tank/home@tue tank/back",
        machine.place.path("log").display(),
        machine.place.path("conf").display()
    );
    let begins = "tank/home@tue: tank/home@mon: cannot receive: out of space";
    fails(&ended, 74, begins, &again);
    assert!(received(&machine, "tank/back").is_empty());
    let before = asked_for(&machine);
    silent(&restore(&machine, &["tank/home@tue", "tank/back"], &[]));
    assert_eq!(received(&machine, "tank/back"), GUIDS[..2]);
    assert_eq!(asked_for(&machine), before, "the jobs are used again");
}

#[test]
fn what_was_killed_goes_on_and_left_nothing() {
    if !has("ps") {
        skip("ps: not found; no restore is killed");
        return;
    }
    let machine = stored();
    let ended = restore(&machine, &["tank/home@tue", "tank/back"], &[("KILLS", "1")]);
    assert_eq!((ended.code(), ended.stderr.lines().count()), (137, 1), "{}", ended.stderr);
    assert!(ended.stderr.contains("; again: akashita-restore -c "), "{}", ended.stderr);
    let before = asked_for(&machine);
    silent(&restore(&machine, &["tank/home@tue", "tank/back"], &[]));
    assert_eq!(received(&machine, "tank/back"), GUIDS[..2]);
    assert_eq!(asked_for(&machine), before, "the jobs are used again");
}

#[test]
fn another_snapshot_than_the_catalogs_is_told() {
    let machine = stored();
    let ended = restore(&machine, &["tank/home@mon", "tank/back"], &[("WRONG", "17")]);
    let why = format!("tank/home@mon: tank/back@mon: its guid is 17, not {}", GUIDS[0]);
    assert!(ended.stderr.contains(&why), "{}", ended.stderr);
    assert_eq!(ended.code(), 65);
}

#[test]
fn a_target_that_does_not_fit_is_refused_before_anything_is_asked_for() {
    let machine = stored();
    let snapshot = "tank/home@tue";
    let ended = restore(&machine, &[snapshot, "tank"], &[]);
    let why = "is there, and does not end with a snapshot that leads to tank/home@tue; \
               name another, or destroy it";
    fails(&ended, 65, "tank: ", why);
    silent(&restore(&machine, &["tank/home@mon", "tank/back"], &[]));
    let before = asked_for(&machine);
    let points = machine.points();
    fs::write(machine.place.path("pool/points"), points + "950\t99\ttank/back@newer\n").unwrap();
    fails(&restore(&machine, &[snapshot, "tank/back"], &[]), 65, "tank/back: ", why);
    let token = [("TOKEN", "1-c740b4779-...")];
    let cure = "its token left; remove it with: zfs receive -A 'tank/back'";
    fails(&restore(&machine, &[snapshot, "tank/back"], &token), 65, "tank/back: ", cure);
    let ended = restore(&machine, &[snapshot, "tank/none/x"], &[]);
    fails(&ended, 74, "tank/none: cannot be opened; zfs create makes it", "");
    assert_eq!(asked_for(&machine), before);
}

#[test]
fn a_plan_asks_for_nothing_and_too_dear_a_restore_neither() {
    let machine = stored();
    let ended = restore(&machine, &["-n", "tank/home@tue", "tank/back"], &[]);
    let lines: Vec<&str> = ended.stdout.lines().collect();
    assert_eq!((ended.code(), ended.stderr.as_str(), lines.len()), (0, "", 5), "{lines:?}");
    assert_eq!(lines[..2], ["tank/home@mon: 2.0 MiB", "tank/home@tue: 540.8 KiB"]);
    let standard = "Standard: 4 archives, 2.6 MiB; ready in 3 to 5 hours; ";
    assert!(lines.iter().any(|line| line.starts_with(standard)), "{lines:?}");
    assert!(lines[2].starts_with("Expedited: 4 archives, 2.6 MiB; ready in 1 to 5 minutes; "));
    let same = restore(&machine, &["-n", "tank/home@tue"], &[]);
    assert_eq!(same.stdout, ended.stdout, "a plan needs no target");
    machine.configure(&CONF.replace("max_cost=5", "max_cost=0"));
    let ended = restore(&machine, &["tank/home@tue", "tank/back"], &[]);
    fails(&ended, 1, "tank/home@tue: glacier-get: it would cost ", "tank/home@tue tank/back");
    assert!(ended.stderr.contains("), over max_cost=0.0000; log: "), "{}", ended.stderr);
    if let Some(ended) = on_terminal(&machine, "akashita-restore tank/home@tue tank/back") {
        let told = "\r\nakashita-restore: tank/home@tue: over max_cost=0; log: ";
        assert!(ended.stdout.contains(told), "{}", ended.stdout);
    }
    assert_eq!(asked_for(&machine), 0);
}

#[test]
fn what_is_wrong_is_told_before_anything_is_asked_for() {
    let machine = stored();
    let usage = "usage: akashita-restore [-an] ";
    for wrong in [&[][..], &["tank/home@mon"], &["a", "b", "c"], &["-f", "out", "a", "b"], &["-x"]]
    {
        let ended = restore(&machine, wrong, &[]);
        assert_eq!(ended.code(), 64, "{wrong:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(usage), "{wrong:?}: {}", ended.stderr);
    }
    let victim = machine.place.path("victim");
    let run = format!("tank/$(touch {})", victim.display());
    for hostile in [run.as_str(), "-x", "tank/a;b", "tank/a\nb", "tank/back@mon"] {
        let ended = restore(&machine, &["--", "tank/home@mon", hostile], &[]);
        assert_eq!(ended.code(), 64, "{hostile}: {}", ended.stderr);
        let ended = restore(&machine, &["--", hostile, "tank/back"], &[]);
        assert_eq!(ended.code(), 65, "{hostile}: {}", ended.stderr);
    }
    assert!(!victim.exists());
    let ended = restore(&machine, &["tank/home@sun", "tank/back"], &[]);
    assert_eq!(ended.code(), 65, "{}", ended.stderr);
    let ended = restore(&machine, &["-t", "Fast", "tank/home@mon", "tank/back"], &[]);
    fails(&ended, 64, "'Fast': neither ", "Bulk");
    assert_eq!(asked_for(&machine), 0);
    fs::remove_file(machine.place.path("catalog.jsonl")).unwrap();
    let ended = restore(&machine, &["tank/home@mon", "tank/back"], &[]);
    let ends = "no such catalog; glacier-ls inventory --rebuild makes it anew";
    fails(&ended, 78, &machine.place.path("catalog.jsonl").display().to_string(), ends);
}

#[test]
fn a_dataset_alone_is_told_its_newest_snapshot() {
    let machine = stored();
    // Of two whose names begin with its own, and newer.
    machine.sh("for name in tank/home2@wed tank/home/ann@wed.tar; do
        glacier-chunk --name $name -- echo x | glacier-put my-vault; done");
    let list = format!(
        "glacier-chain --list <'{}' lists all",
        machine.place.path("catalog.jsonl").display()
    );
    for shell in ["sh", "dash", "bash", "busybox sh"] {
        for wanted in ["tank/home", "tank/home@sun"] {
            let Some(ended) = restore_in(&machine, shell, &["-n", wanted], &[]) else { continue };
            let why = format!("{wanted}: no such snapshot in the catalog; tank/home@tue is the");
            fails(&ended, 65, &why, &format!(" newest of tank/home; {list}"));
        }
    }
    // Of what nothing is stored, glacier-chain tells.
    let ended = restore(&machine, &["-n", "tank/hom"], &[]);
    assert_eq!((ended.code(), ended.stderr.lines().count()), (65, 1), "{}", ended.stderr);
    assert!(ended.stderr.starts_with("glacier-chain: tank/hom: "), "{}", ended.stderr);
}

#[test]
fn brings_many_datasets_back_as_they_were_sent() {
    let machine = empty();
    for number in 1..=3 {
        let line = "glacier-chunk -- cat \"$STREAMS/replication-R-N.zfs\" | glacier-put my-vault";
        machine.sh(&line.replace('N', &number.to_string()));
    }
    silent(&restore(&machine, &["rstank/tree@r2", "tank/back"], &[]));
    silent(&restore(&machine, &["rstank/tree@r3", "tank/back"], &[]));
    let points = machine.points();
    let names: Vec<&str> = points.lines().filter_map(|line| line.split('\t').nth(2)).collect();
    let expected = [
        "tank/back@r1",
        "tank/back/b@r1",
        "tank/back/a@r1",
        "tank/back@r2",
        "tank/back/b@r2",
        "tank/back/a@r2",
        "tank/back@r3",
        "tank/back/c@r3",
        "tank/back/a@r3",
    ];
    assert_eq!(names, expected);
    let asked = machine.asked();
    let receives: Vec<&str> = asked.lines().filter(|line| line.starts_with("receive")).collect();
    // What the sender has destroyed goes here, too, but never by the first stream.
    let expected = ["receive -u tank/back", "receive -F -u tank/back", "receive -F -u tank/back"];
    assert_eq!(receives, expected);
}

/// Stores the first stream through a filter, as the second word of its text
/// says it, and the second one as it is.
fn filtered(machine: &Machine, filter: &str, program: &str) {
    machine.sh(&format!(
        "glacier-proof proof <\"$STREAMS/full.zfs\" | {{ {program} && : >marker; }} |
                glacier-chunk --whole proof --whole marker --part-size 1M --volume-size 1M \
                --filter '{filter}' | glacier-put my-vault
             glacier-chunk <\"$STREAMS/incremental-1.zfs\" | glacier-put my-vault"
    ));
}

#[test]
fn what_was_encrypted_is_decrypted_or_never_asked_for() {
    if !has("age") || !has("zstd") {
        skip("age or zstd: not found; what they filter is not restored");
        return;
    }
    let machine = empty();
    for key in ["key", "other"] {
        machine.sh(&format!("age-keygen -o {key} 2>/dev/null"));
    }
    let recipient = machine.sh("age-keygen -y key");
    let filter = format!("zstd -3 | age -r {recipient}");
    filtered(&machine, &filter, &filter);
    let snapshot = "tank/home@tue";
    let path = |name: &str| machine.place.path(name).display().to_string();
    fs::write(machine.place.path("text"), "no identity\n").unwrap();
    for (more, why) in [
        (String::new(), "identity names no key to decrypt it".to_owned()),
        (format!("identity={}\n", path("none")), "none: the identity cannot be read".to_owned()),
        (format!("identity={}\n", path("text")), "text: holds no identity".to_owned()),
        (
            format!("identity={}\n", path("other")),
            format!("{} is the key of none of these", path("other")),
        ),
        (
            format!("identity={}\n", path("key")),
            "went through 'zstd -3', and no unfilter undoes that".to_owned(),
        ),
        (
            format!("identity={}\nfilter=gzip\nunfilter=gzip -d\n", path("key")),
            "went through 'zstd -3', and no unfilter undoes that".to_owned(),
        ),
    ] {
        machine.configure(&format!("{CONF}{more}"));
        let ended = restore(&machine, &[snapshot, "tank/back"], &[]);
        fails(&ended, 78, "tank/home@mon: ", &why);
        // Nor is it written as it is stored, where it was to be undone.
        if !more.is_empty() {
            let ended = restore(&machine, &["-f", &path("out"), snapshot], &[]);
            fails(&ended, 78, "tank/home@mon: ", &why);
            let there = fs::read_dir(machine.place.path("out")).unwrap();
            assert_eq!(there.count(), 0, "{more}");
        }
    }
    assert_eq!(asked_for(&machine), 0);
    machine.configure(CONF);
    let ended = restore(&machine, &["-f", &path("out"), snapshot], &[]);
    assert_eq!((ended.code(), ended.stderr.lines().count()), (0, 1), "{}", ended.stderr);
    assert!(ended.stderr.ends_with("; stays as it is stored\n"), "{}", ended.stderr);
    let key = format!("{CONF}identity={}\n", path("key"));
    machine.configure(&format!("{key}filter=zstd -9\nunfilter=zstd -d\n"));
    for (number, shell) in ["sh", "dash", "bash", "busybox sh"].into_iter().enumerate() {
        let target = format!("tank/back{number}");
        let Some(ended) = restore_in(&machine, shell, &[snapshot, &target], &[]) else {
            continue;
        };
        silent(&ended);
        assert_eq!(received(&machine, &target), GUIDS[..2], "{shell}");
    }
    // A stage that fails is told, and not what it made of the stream.
    machine.configure(&format!("{key}filter=zstd -9\nunfilter=false\n"));
    let ended = restore(&machine, &[snapshot, "tank/none"], &[]);
    let why = "tank/home@tue: tank/home@mon: unfilter failed: false: ended with status 1; log: ";
    fails(&ended, 65, why, "tank/none");
    assert!(received(&machine, "tank/none").is_empty());
}

#[test]
fn a_stage_that_fails_at_its_end_is_told() {
    if !has("age") {
        skip("age: not found; what it decrypts is not restored");
        return;
    }
    let machine = empty();
    machine.sh("age-keygen -o key 2>/dev/null");
    let recipient = machine.sh("age-keygen -y key");
    // The last chunk of what age writes is cut off, and a whole stream comes
    // out before it: only the status of age tells.
    let filter = format!("age -r {recipient}");
    let program = format!("{{ cat; head -c 300000 /dev/zero; }} | {filter} | head -c -70000");
    filtered(&machine, &filter, &program);
    let key = machine.place.path("key").display().to_string();
    machine.configure(&format!("{CONF}identity={key}\n"));
    let takes = [("TAKES", "2144056")];
    let ended = restore(&machine, &["tank/home@mon", "tank/back"], &takes);
    fails(&ended, 65, "tank/home@mon: age failed: age: ", "tank/back");
    assert_eq!(received(&machine, "tank/back"), GUIDS[..1], "it was received");
}

#[test]
fn writes_files_that_are_not_fetched_again() {
    let machine = stored();
    machine.sh("glacier-chunk --name 'etc 1.tar' -- echo tar | glacier-put my-vault");
    let out = machine.place.path("out").display().to_string();
    for shell in ["sh", "dash", "bash", "busybox sh"] {
        let arguments = ["-f", out.as_str(), "tank/home@tue"];
        if restore_in(&machine, shell, &["-n", "tank/home@tue"], &[]).is_none() {
            continue;
        }
        let _ = fs::remove_dir_all(&out);
        let ended = restore_in(&machine, shell, &arguments, &[]).unwrap();
        silent(&ended);
        let streams = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/streams");
        for (number, (guid, stream)) in GUIDS[..2].iter().zip(["full", "incremental-1"]).enumerate()
        {
            let file = format!("{out}/{:03}-{guid}.zfs", number + 1);
            let stored = fs::read(format!("{streams}/{stream}.zfs")).unwrap();
            assert!(fs::read(&file).unwrap() == stored, "{shell}: {file}");
        }
    }
    // Neither what is there is asked for, nor what is not known to be whole taken.
    let first = format!("{out}/001-{}.zfs", GUIDS[0]);
    fs::write(&first, "kept").unwrap();
    fs::remove_file(format!("{out}/002-{}.zfs", GUIDS[1])).unwrap();
    let before = asked_for(&machine);
    silent(&restore(&machine, &["-f", &out, "tank/home@tue"], &[]));
    assert_eq!(fs::read(&first).unwrap(), b"kept");
    assert!(asked_for(&machine) <= before + 1);
    let list = fs::read_to_string(format!("{out}/streams")).unwrap();
    fs::write(format!("{out}/streams"), list.replace("001-", "009-")).unwrap();
    silent(&restore(&machine, &["-f", &out, "tank/home@tue"], &[]));
    assert_eq!(fs::metadata(&first).unwrap().len(), 2_144_056);

    // There is a dataset, too.
    for target in ["tank/back", "tank/home"] {
        let ended = restore(&machine, &["etc 1.tar", target], &[]);
        fails(&ended, 65, "etc 1.tar: not a stream of ZFS; use -f", "");
    }
    silent(&restore(&machine, &["-f", "-o", "etc 1.tar"], &[]));
    assert_eq!(fs::read(machine.place.path("-o/001-etc_1.tar")).unwrap(), b"tar\n");
}

#[test]
fn what_cannot_be_undone_is_written_as_it_is_stored() {
    if !has("zstd") {
        skip("zstd: not found; what it compressed is not restored");
        return;
    }
    let machine = empty();
    filtered(&machine, "zstd -3", "zstd -3");
    let out = machine.place.path("out").display().to_string();
    let ended = restore(&machine, &["-f", &out, "tank/home@tue"], &[]);
    let warning = "akashita-restore: warning: tank/home@mon: went through 'zstd -3', and no unfilter \
                   undoes that; stays as it is stored\n";
    assert_eq!((ended.code(), ended.stderr.as_str()), (0, warning));
    machine.sh(&format!("zstd -dc out/001-{}.stored | cmp - \"$STREAMS/full.zfs\"", GUIDS[0]));
    let before = asked_for(&machine);
    for wrong in ["filter=gzip\nunfilter=gzip -d\n", "filter=zstd\nunfilter=no-such-program\n"] {
        machine.configure(&format!("{CONF}{wrong}"));
        fails(&restore(&machine, &["-f", &out, "tank/home@tue"], &[]), 78, "tank/home@mon: ", "");
    }
    assert_eq!(asked_for(&machine), before);
    machine.configure(&format!("{CONF}filter=zstd -3\nunfilter=zstd -d\n"));
    silent(&restore(&machine, &["-f", &out, "tank/home@tue"], &[]));
    machine.sh(&format!("cmp out/001-{}.zfs \"$STREAMS/full.zfs\"", GUIDS[0]));
}

#[test]
fn volumes_that_are_kept_are_enough() {
    let mut machine = stored();
    let keep = machine.place.path("kept").display().to_string();
    let arguments = ["-k", keep.as_str(), "tank/home@mon", "tank/back"];
    let ended = restore(&machine, &arguments, &[("FULL", "1")]);
    assert_eq!(ended.code(), 74, "{}", ended.stderr);
    machine.server.kill();
    silent(&restore(&machine, &arguments, &[]));
    assert_eq!(received(&machine, "tank/back"), GUIDS[..1]);
}

#[test]
fn proves_what_it_does_not_keep() {
    if !has("zstd") {
        skip("zstd: not found; what it compressed is not proven");
        return;
    }
    let machine = empty();
    machine.configure(&format!("{CONF}filter=zstd -3\nunfilter=zstd -d\n"));
    filtered(&machine, "zstd -3", "zstd -3");
    machine.sh("glacier-chunk --name etc.tar -- echo tar | glacier-put my-vault
         glacier-chunk -- cat \"$STREAMS/replication-R-1.zfs\" | glacier-put my-vault");
    for shell in ["sh", "dash", "bash", "busybox sh"] {
        for snapshot in ["tank/home@tue", "etc.tar", "rstank/tree@r1"] {
            let Some(ended) = restore_in(&machine, shell, &["-p", snapshot], &[]) else { continue };
            silent(&ended);
        }
    }
    let log = fs::read_to_string(machine.place.path("log")).unwrap();
    assert!(log.contains(" tank/home@tue: came back whole\n"), "{log}");
    assert!(!machine.asked().contains("\nreceive "), "{}", machine.asked());
    assert_eq!(restore(&machine, &["-p", "-f", "out", "etc.tar"], &[]).code(), 64);

    // What the proof was of, and what came out of the filter, were two things.
    let machine = empty();
    machine.configure(&format!("{CONF}filter=zstd -3\nunfilter=zstd -d\n"));
    let other = "cat >/dev/null; zstd -c \"$STREAMS/incremental-2.zfs\"";
    filtered(&machine, "zstd -3", other);
    let ended = restore(&machine, &["-p", "tank/home@mon"], &[]);
    let why = format!("tank/home@mon: @mon: its guid is none, not {};", GUIDS[0]);
    fails(&ended, 65, &why, " -p -- tank/home@mon");
    let cut = "head -c 900000 | zstd";
    let machine = empty();
    machine.configure(&format!("{CONF}filter=zstd -3\nunfilter=zstd -d\n"));
    filtered(&machine, "zstd -3", &format!("{{ {cut}; cat >/dev/null; }}"));
    let ended = restore(&machine, &["-p", "tank/home@mon"], &[]);
    let why = "tank/home@mon: glacier-chunk: stream: ends inside record ";
    fails(&ended, 65, why, " -p -- tank/home@mon");
}

/// A machine that has stored a stream without a form, of 16 volumes of 1 MiB,
/// of which the service brings back four in some seconds.
fn slow() -> (Machine, Vec<u8>) {
    let mut machine = empty();
    let bytes = pattern(16 << 20);
    fs::write(machine.place.path("bytes"), &bytes).unwrap();
    machine.sh("glacier-chunk --part-size 1M --volume-size 1M --name photos.tar -- cat bytes | \
                glacier-put my-vault");
    machine.server.fail(DRIP);
    (machine, bytes)
}

const DRIP: &str =
    "{\"call\":\"GetJobOutput\",\"times\":\"all\",\"do\":\"drip\",\"rate\":400000}\n";

/// Starts it, and waits until a file of it has the first volume.
fn begin(machine: &Machine, arguments: &[&str], file: &Path) -> Running {
    let mut command = machine.command_in("akashita-restore", "sh", arguments, &[]).unwrap();
    let running = start(&mut command);
    until("a volume has come", || fs::metadata(file).is_ok_and(|facts| facts.len() >= 1 << 20));
    running
}

/// Kills the glacier-get of a machine, and nothing else.
fn kill_get(machine: &Machine) {
    let mine = format!("GLACIER_SPOOL={}", machine.place.path("spool").display());
    let mut killed = 0;
    for entry in fs::read_dir("/proc").unwrap() {
        let path = entry.unwrap().path();
        let is_get = fs::read_link(path.join("exe")).is_ok_and(|exe| exe.ends_with("glacier-get"));
        let environment = fs::read(path.join("environ")).unwrap_or_default();
        if is_get && environment.split(|byte| *byte == 0).any(|it| it == mine.as_bytes()) {
            let id = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
            let id = rustix::process::Pid::from_raw(id).unwrap();
            rustix::process::kill_process(id, rustix::process::Signal::KILL).unwrap();
            killed += 1;
        }
    }
    assert_eq!(killed, 1);
}

#[test]
fn a_file_is_whole_only_when_get_has_said_so() {
    if !Path::new("/proc/self/exe").exists() {
        skip("no /proc: no glacier-get is found to be killed");
        return;
    }
    let (mut machine, bytes) = slow();
    let arguments = ["-f", "out", "photos.tar"];
    let out = machine.place.path("out");
    let running = begin(&machine, &arguments, &out.join("001-photos.tar.new"));
    kill_get(&machine);
    let ended = running.finish();
    assert_eq!((ended.code(), ended.stderr.lines().count()), (137, 1), "{}", ended.stderr);
    // Either it says so, or what it has run.
    let why = "akashita-restore: photos.tar: glacier-get ";
    assert!(ended.stderr.starts_with(why), "{}", ended.stderr);
    assert!(!out.join("001-photos.tar").exists() && !out.join("streams").exists());
    machine.server.fail("");
    // What had the file open may still be on its way to its end.
    until("it is brought back", || restore(&machine, &arguments, &[]).code() == 0);
    assert!(fs::read(out.join("001-photos.tar")).unwrap() == bytes);
}

#[test]
fn a_proof_of_what_get_did_not_pass_on_is_none() {
    if !Path::new("/proc/self/exe").exists() {
        skip("no /proc: no glacier-get is found to be killed");
        return;
    }
    let (machine, _) = slow();
    let before = machine.server.calls("GetJobOutput");
    let mut command =
        machine.command_in("akashita-restore", "sh", &["-p", "photos.tar"], &[]).unwrap();
    let running = start(&mut command);
    until("a volume has come", || machine.server.calls("GetJobOutput") > before);
    kill_get(&machine);
    assert_eq!(running.finish().code(), 137);
}

#[test]
fn one_at_a_time_works_on_a_directory_and_on_a_dataset() {
    let (mut machine, bytes) = slow();
    let arguments = ["-f", "out", "photos.tar"];
    let out = machine.place.path("out");
    let first = begin(&machine, &arguments, &out.join("001-photos.tar.new"));
    // By another name, too.
    symlink(".", machine.place.path("here")).unwrap();
    for directory in ["out", "./out/", "here/out"] {
        let ended = restore(&machine, &["-f", directory, "photos.tar"], &[]);
        assert_eq!(ended.code(), 75, "{directory}: {}", ended.stderr);
        assert!(ended.stderr.contains("another program works on it"), "{}", ended.stderr);
    }
    assert!(fs::metadata(out.join("001-photos.tar.new")).unwrap().len() >= 1 << 20, "cut");
    // To look is always possible.
    assert_eq!(restore(&machine, &["-n", "-f", "out", "photos.tar"], &[]).code(), 0);
    drop(first);
    machine.server.fail("");
    until("it is brought back", || restore(&machine, &arguments, &[]).code() == 0);
    assert!(fs::read(out.join("001-photos.tar")).unwrap() == bytes);

    silent(&machine.run(&[], &[]));
    machine.server.fail(DRIP);
    let arguments = ["tank/home@mon", "tank/back"];
    let mut command = machine.command_in("akashita-restore", "sh", &arguments, &[]).unwrap();
    let before = machine.server.log().len();
    let asks = |line: &serde_json::Value| line["call"] == "GetJobOutput";
    let first = start(&mut command);
    until("it is under way", || machine.server.log()[before..].iter().any(asks));
    let ended = restore(&machine, &arguments, &[]);
    assert_eq!(ended.code(), 75, "{}", ended.stderr);
    let said = "restore of tank/back: another is under way, process ";
    assert!(ended.stderr.contains(said), "{}", ended.stderr);
    drop(first);
    machine.server.fail("");
    until("it is restored", || restore(&machine, &arguments, &[]).code() == 0);
    let locks = fs::read_dir(machine.place.path("")).unwrap();
    let names = locks.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let left: Vec<String> = names.filter(|name| name.starts_with("restore-")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn writes_over_nothing_but_what_is_its_own() {
    let machine = stored();
    machine.sh("glacier-chunk --name etc.tar -- echo tar | glacier-put my-vault");
    let victim = machine.place.path("victim");
    fs::write(&victim, "kept").unwrap();
    let out = machine.place.path("out");
    let run = || restore(&machine, &["-f", "out", "etc.tar"], &[]);
    fs::create_dir(&out).unwrap();
    // What a run that was killed has left, or somebody has put there.
    symlink(&victim, out.join("001-etc.tar.new")).unwrap();
    symlink(&victim, out.join("001-etc.tar")).unwrap();
    silent(&run());
    assert_eq!(fs::read_to_string(out.join("001-etc.tar")).unwrap(), "tar\n");
    assert!(!fs::symlink_metadata(out.join("001-etc.tar")).unwrap().is_symlink());
    for (name, why) in
        [("streams", "./out/streams: cannot be "), ("001-etc.tar", "./out/001-etc.tar: cannot be ")]
    {
        fs::remove_dir_all(&out).unwrap();
        fs::create_dir(&out).unwrap();
        let there = if name == "streams" { victim.clone() } else { machine.place.path("") };
        symlink(there, out.join(name)).unwrap();
        fails(&run(), 74, &format!("etc.tar: {why}"), "-f ./out -- etc.tar");
        assert!(!machine.place.path("001-etc.tar.new").exists());
    }
    assert_eq!(fs::read_to_string(&victim).unwrap(), "kept");

    // The directory is its user's alone, and is itself.
    let before = asked_for(&machine);
    let refused = |why: &str| {
        let ended = run();
        assert_eq!(ended.code(), 78, "{}", ended.stderr);
        assert!(ended.stderr.contains(why), "{}", ended.stderr);
    };
    fs::remove_dir_all(&out).unwrap();
    fs::create_dir(&out).unwrap();
    fs::set_permissions(&out, fs::Permissions::from_mode(0o775)).unwrap();
    refused("others may write it; chmod go-w ./out");
    fs::set_permissions(&out, fs::Permissions::from_mode(0o755)).unwrap();
    // Only root can give a directory away.
    if std::os::unix::fs::chown(&out, Some(12345), None).is_ok() {
        refused("belongs to another user");
    }
    fs::remove_dir(&out).unwrap();
    fs::create_dir(machine.place.path("other")).unwrap();
    symlink("other", &out).unwrap();
    refused("not a directory, or a link to one");
    assert_eq!(asked_for(&machine), before);
    assert_eq!(fs::read_dir(machine.place.path("other")).unwrap().count(), 0);
}
