//! akashita-backup(8) and akashita-status(8), with a pool that is a file and a Glacier on this
//! machine.

mod choice;
mod stages;
mod status;
mod two;

use std::fs;
use std::process::Command;

use crate::common::machine::{GUIDS, Machine, silent};
use crate::common::{self, run, skip, until};

#[test]
fn stores_a_snapshot_and_then_what_has_changed_in_any_sh() {
    for shell in ["sh", "dash", "bash", "busybox sh"] {
        let machine = Machine::new();
        let Some(first) = machine.run_in(shell, &[], &[]) else {
            skip(&format!("{shell}: not found, akashita-backup is not tried with it"));
            continue;
        };
        silent(&first);
        assert_eq!(machine.stored(), GUIDS[..1], "{shell}");
        let asked = machine.asked();
        let id = machine.id();
        let made = "snapshot -o com.sun:auto-snapshot=false -o akashita:id=";
        assert!(asked.contains(&format!("{made}{id} tank/home@akashita:20")), "{asked}");
        assert!(asked.contains(&format!("hold akashita-{id} tank/home@akashita:20")));
        assert!(asked.contains("bookmark tank/home@akashita:20"));
        assert!(asked.contains(&format!("release akashita-{id} tank/home@akashita:20")));
        assert!(!asked.contains("release akashita tank"), "that is of others");
        silent(&machine.run_in(shell, &[], &[]).unwrap());
        assert_eq!(machine.stored(), GUIDS[..2], "{shell}");
        assert!(machine.asked().contains("send -i tank/home"), "{}", machine.asked());
        assert!(!machine.asked().contains("destroy"), "two are kept");
        silent(&machine.run_in(shell, &[], &[]).unwrap());
        assert_eq!(machine.stored(), GUIDS, "{shell}");
        let destroyed: Vec<String> = machine
            .asked()
            .lines()
            .filter(|line| line.starts_with("destroy"))
            .map(str::to_owned)
            .collect();
        assert_eq!(destroyed.len(), 1, "{destroyed:?}");
        let log = fs::read_to_string(machine.place.path("log")).unwrap();
        assert_eq!(log.lines().filter(|line| line.contains(": stored")).count(), 3, "{log}");
    }
}

#[test]
fn what_the_catalog_has_lost_is_back_before_anything_is_decided_in_any_sh() {
    for shell in ["sh", "dash", "bash", "busybox sh"] {
        let machine = Machine::new();
        let Some(first) = machine.run_in(shell, &[], &[]) else { continue };
        silent(&first);
        let path = machine.place.path("catalog.jsonl");
        let whole = fs::read_to_string(&path).unwrap();
        let end = whole.rfind("{\"type\":\"stored\"").unwrap();
        fs::write(&path, &whole[..end]).unwrap();
        // What is only planned writes nothing.
        machine.run_in(shell, &["-n"], &[]).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), whole[..end], "{shell}");
        let ended = machine.run_in(shell, &[], &[]).unwrap();
        let says = "glacier-put: warning: catalog: had not that tank/home@mon is stored; written \
                    again, by its receipt in the spool\n";
        assert_eq!((ended.code(), ended.stderr.as_str()), (0, says), "{shell}");
        assert!(machine.asked().contains("send -i tank/home"), "{shell}: {}", machine.asked());
        assert_eq!(machine.stored()[..2], GUIDS[..2], "{shell}");
        let log = fs::read_to_string(machine.place.path("log")).unwrap();
        assert!(log.contains(says), "{shell}: {log}");
        silent(&machine.run_in(shell, &[], &[]).unwrap());
    }
}

#[test]
fn a_bookmark_is_a_base_where_the_snapshot_is_gone() {
    let machine = Machine::new();
    silent(&machine.run(&[], &[]));
    let points = machine.points();
    let left: Vec<&str> = points.lines().filter(|line| line.contains('#')).collect();
    let left = left.join("\n") + "\n";
    fs::write(machine.place.path("pool/points"), left).unwrap();
    silent(&machine.run(&[], &[]));
    assert!(machine.asked().contains("send -i tank/home#akashita:20"), "{}", machine.asked());
    assert_eq!(machine.stored(), GUIDS[..2]);
}

#[test]
fn a_zfs_without_bookmarks_is_enough() {
    let machine = Machine::new();
    let old = [("OLD", "1")];
    silent(&machine.run(&[], &old));
    silent(&machine.run(&[], &old));
    assert!(machine.asked().contains("send -i tank/home@akashita:20"), "{}", machine.asked());
    assert_eq!(machine.stored(), GUIDS[..2]);
}

#[test]
fn an_unfinished_snapshot_comes_before_a_new_one() {
    let machine = Machine::new();
    let ended = machine.run(&[], &[("DIES", "1")]);
    assert_eq!(ended.code(), 65, "{}", ended.stderr);
    let lines: Vec<&str> = ended.stderr.lines().collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].starts_with("akashita-backup: tank/home@akashita:20"), "{lines:?}");
    let again =
        format!("; again: akashita-backup -c {} tank/home", machine.place.path("conf").display());
    assert!(lines[0].ends_with(&again), "{lines:?}");
    assert!(lines[0].contains(": glacier-put: stream: ends inside record 80 "), "{lines:?}");
    assert!(lines[0].contains(&format!("; log: {};", machine.place.path("log").display())));
    assert!(machine.stored().is_empty());
    assert_eq!(machine.points().lines().count(), 1, "it is held, and has no bookmark");
    silent(&machine.run(&[], &[]));
    assert_eq!(machine.stored(), GUIDS[..2], "the first snapshot, then a new one");
    assert_eq!(machine.asked().matches("\nsnapshot ").count(), 2, "{}", machine.asked());
}

#[test]
fn a_full_stream_comes_when_the_chain_is_long() {
    let machine = Machine::new();
    machine.configure(
        "dest=my-vault\ndataset=tank/home\nfull_every=1\npart_size=1M\nvolume_size=1M\n",
    );
    silent(&machine.run(&[], &[]));
    let ended = machine.run(&["-n"], &[]);
    assert!(!ended.stdout.contains("from"), "{}", ended.stdout);
    machine.configure("dest=my-vault\ndataset=tank/home\npart_size=1M\nvolume_size=1M\n");
    let ended = machine.run(&["-n"], &[]);
    assert!(ended.stdout.contains(" from tank/home"), "{}", ended.stdout);
    assert_eq!(machine.asked().matches("snapshot -o").count(), 1, "a dry run makes none");
}

#[test]
fn streams_of_one_dataset_and_of_many_are_no_bases_of_each_other() {
    let machine = Machine::new();
    let conf = "dest=my-vault\ndataset=tank/home\npart_size=1M\nvolume_size=1M\n";
    silent(&machine.run(&[], &[]));
    machine.configure(&format!("{conf}recursive=one\n"));
    let planned = machine.run(&["-n"], &[]);
    assert!(planned.stdout.starts_with("tank/home@akashita-all:20"), "{}", planned.stdout);
    assert!(!planned.stdout.contains(" from "), "{}", planned.stdout);
    // A stored stream of many, whose guid any other would take.
    let point = |kind: &str| format!("90\t{}\ttank/home@{kind}:2026-01-01T00:00:00Z\n", GUIDS[0]);
    fs::write(machine.place.path("pool/points"), point("akashita-all")).unwrap();
    let planned = machine.run(&["-n"], &[]);
    assert!(
        planned.stdout.contains(" from tank/home@akashita-all:2026-01-01"),
        "{}",
        planned.stdout
    );
    machine.configure(conf);
    let planned = machine.run(&["-n"], &[]);
    assert!(!planned.stdout.contains(" from "), "{}", planned.stdout);
    fs::write(machine.place.path("pool/points"), point("by-hand")).unwrap();
    let planned = machine.run(&["-n"], &[]);
    assert!(planned.stdout.contains(" from tank/home@by-hand:2026-01-01"), "{}", planned.stdout);
}

#[test]
fn what_a_killed_run_left_running_is_still_under_way_in_any_sh() {
    for shell in ["sh", "dash", "bash", "busybox sh"] {
        let machine = Machine::new();
        let Some(mut command) =
            machine.command_in("akashita-backup", shell, &[], &[("HANGS", "1")])
        else {
            skip(&format!("{shell}: not found, no run is killed with it"));
            continue;
        };
        let mut run = common::start(&mut command);
        until("it sends", || machine.asked().contains("\nsend tank/home"));
        run.kill();
        let again = machine.run_in(shell, &[], &[]).unwrap();
        assert_eq!(again.code(), 75, "{shell}: {}", again.stderr);
        assert!(again.stderr.contains("backup: another is under way"), "{shell}: {}", again.stderr);
        silent(&machine.run_in(shell, &["-q"], &[]).unwrap());
        fs::write(machine.place.path("pool/go"), "").unwrap();
        run.finish();
        until("it has ended", || machine.run_in(shell, &[], &[]).unwrap().code() != 75);
        assert_eq!(machine.stored()[0], GUIDS[0], "{shell}");
    }
}

#[test]
fn a_dataset_that_says_off_is_left_alone() {
    let machine = Machine::new();
    silent(&machine.run(&[], &[("OFF", "off")]));
    assert!(machine.stored().is_empty() && machine.points().is_empty());
}

/// What akashita-status says where nothing was ever done.
fn never(machine: &Machine) -> String {
    let state = machine.place.path("");
    let state = state.display();
    format!(
        "AKASHITA CRITICAL - never stored: tank/home; no run of akashita-backup has left its trace \
         in {state}/ran; verified: never; drilled: never\n"
    )
}

#[test]
fn what_a_user_says_of_a_dataset_names_no_other() {
    let machine = Machine::new();
    machine.configure(
        "dest=my-vault\ndataset=tank/home\nrecursive=each\npart_size=1M\nvolume_size=1M\n",
    );
    // The property is any text, and whoever has the dataset may set it.
    let line = "{\"type\":\"restorable\",\"name\":\"tank/home@x\",\"host\":\"HOST\",\"age_s\":0}";
    let host = rustix::system::uname().nodename().to_str().unwrap().to_owned();
    let line = line.replace("HOST", &host);
    let stored = format!("x\n---\n{line}\n{line}");
    let status = |says: &str| {
        let ended = machine.script_in("akashita-status", "sh", &[], &[("OFF", says)]).unwrap();
        (ended.code(), ended.stdout)
    };
    let never = never(&machine);
    assert_eq!(status(&stored), (2, never.clone()));
    let other = "x\ntank/private\t-";
    assert_eq!(status(other), (2, never));
    silent(&machine.run(&[], &[("OFF", other)]));
    assert_eq!(machine.stored(), GUIDS[..1]);
    assert!(!machine.asked().contains("tank/private"), "{}", machine.asked());
    for no_off in ["off\tx", "x\toff", "offf", " off", "-"] {
        assert_eq!(status(no_off).0, 0, "{no_off:?}");
    }
    let none = "AKASHITA CRITICAL - nothing is to be stored: all say akashita:backup=off\n";
    assert_eq!(status("off"), (2, none.to_owned()));
}

#[test]
fn names_are_never_commands() {
    let machine = Machine::new();
    let victim = machine.place.path("victim");
    let run = format!("tank/$(touch {})", victim.display());
    for hostile in [run.as_str(), "tank/a;b", "-r", "tank/a\nb", "", "`id`"] {
        let ended = machine.run(&["--", hostile], &[]);
        assert_eq!(ended.code(), 64, "{hostile}: {}", ended.stderr);
    }
    assert!(!victim.exists() && machine.points().is_empty());
}

/// A caller can have any variables and know the number of its process.
#[test]
fn variables_of_a_caller_stand_in_for_no_configuration_in_any_sh() {
    let machine = Machine::new();
    silent(&machine.run(&[], &[]));
    fs::write(machine.place.path("empty"), "").unwrap();
    let empty = machine.place.path("empty").display().to_string();
    for shell in ["sh", "dash", "bash", "busybox sh"] {
        let Some(plain) = machine.script_in("akashita-status", shell, &[], &[]) else { continue };
        assert_eq!(plain.code(), 0, "{shell}: {}", plain.stdout);
        let forged = "AKASHITA CRITICAL - akashita-conf: AKASHITA_STARTED: is set, and not by akashita-conf; unset it\n";
        for (proof, told) in [
            ("AKASHITA_RUN=$$", plain.stdout.as_str()),
            ("AKASHITA_RUN=0 AKASHITA_STARTED=0", &plain.stdout),
            ("AKASHITA_STARTED=$$", forged),
            ("AKASHITA_RUN=$$ AKASHITA_STARTED=$$", forged),
        ] {
            let script = machine.command_in("akashita-status", shell, &[], &[]).unwrap();
            let mut caller = Command::new("sh");
            // What it may read as its standard input is no proof, either.
            let line = format!(
                "printf %s $$ >proof; export {proof}; exec 8<proof; exec \"$0\" \"$@\" <proof"
            );
            caller.args(["-c", &line]).arg(script.get_program()).args(script.get_args());
            caller.env_clear().current_dir(machine.place.path(""));
            caller.envs(script.get_envs().filter_map(|(name, value)| Some((name, value?))));
            caller.envs([
                ("AKASHITA_DATASET", "tank/forged"),
                ("AKASHITA_RECURSIVE", "no"),
                ("AKASHITA_CONF", &empty),
                ("AKASHITA_STATE", "/"),
                ("AKASHITA_WARN_AGE", "1s"),
                ("AKASHITA_FAIL_AGE", "1s"),
                ("GLACIER_CATALOG", &empty),
                ("GLACIER_SPOOL", "/none"),
            ]);
            let ended = run(&mut caller);
            assert_eq!(
                (ended.stdout.as_str(), ended.stderr.as_str()),
                (told, ""),
                "{shell}: {proof}"
            );
        }
    }
}

#[test]
fn what_is_wrong_is_told_before_anything_is_made() {
    let machine = Machine::new();
    for (text, code, why) in [
        (
            "dest=my-vault\n",
            64,
            "akashita-backup: no dataset; name one, or set dataset in the configuration\n",
        ),
        ("dataset=tank/home\n", 78, ": no dest, so nowhere to store\n"),
        ("dest=my-vault\nwindow=never\n", 78, "line 2: window: 'never' is not "),
    ] {
        machine.configure(text);
        let ended = machine.run(&[], &[]);
        assert_eq!(ended.code(), code, "{}", ended.stderr);
        assert!(ended.stderr.contains(why), "{}", ended.stderr);
    }
    assert!(machine.points().is_empty());
    machine.configure("dest=my-vault\n");
    let ended = machine.run(&["tank/none"], &[]);
    assert_eq!(ended.code(), 74);
    let why = "akashita-backup: tank/none: cannot open 'tank/none': dataset does not exist; log: ";
    assert!(ended.stderr.starts_with(why), "{}", ended.stderr);
    assert!(ended.stderr.ends_with(" tank/none\n"), "{}", ended.stderr);
    let log = fs::read_to_string(machine.place.path("log")).unwrap();
    assert!(log.ends_with(": dataset does not exist, status 74\n"), "{log}");
}

#[test]
fn the_status_tells_of_the_oldest_in_any_sh() {
    let conf = "dest=my-vault\ndataset=tank/home\npart_size=1M\nvolume_size=1M\n";
    let taken: jiff::Timestamp = "2026-11-23T11:54:32Z".parse().unwrap();
    let days = jiff::Timestamp::now().duration_since(taken).as_hours() / 24;
    for shell in ["sh", "dash", "bash", "busybox sh"] {
        let machine = Machine::new();
        let status = |arguments: &[&str]| {
            let ended = machine.script_in("akashita-status", shell, arguments, &[])?;
            assert_eq!(ended.stderr, "", "{shell}");
            Some((ended.code(), ended.stdout))
        };
        let Some(first) = status(&[]) else {
            skip(&format!("{shell}: not found, akashita-status is not tried with it"));
            continue;
        };
        assert_eq!(first, (2, never(&machine)), "{shell}");
        // The streams that the stub sends are of tank/home on the host that cuts.
        silent(&machine.run(&[], &[]));
        let well = format!("AKASHITA OK - oldest of 1: tank/home, {days} d; verified: ");
        let told = |when: &str| (0, format!("{well}{when}\n"));
        assert_eq!(status(&[]).unwrap(), told("never; drilled: never"), "{shell}");
        let catalog = machine.place.path("catalog.jsonl");
        // As glacier-lines(5) shows it.
        let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/man/glacier-lines.5"));
        let page = page.unwrap();
        let line = page.lines().find(|line| line.starts_with("{\"type\":\"verified\""));
        let line = line.unwrap().to_owned() + "\n";
        fs::write(&catalog, fs::read_to_string(&catalog).unwrap() + &line).unwrap();
        let drills = "2026-11-01T04:00:00Z\ta\ta@x\n2026-12-02T04:00:00Z\tb\tb@y\n";
        fs::write(machine.place.path("drilled"), drills).unwrap();
        assert_eq!(status(&[]).unwrap(), told("2026-12-01; drilled: 2026-12-02"), "{shell}");
        assert_eq!(status(&["-q"]).unwrap(), (0, String::new()), "{shell}");
        // The catalog loses a stream that a receipt knows.
        let whole = fs::read_to_string(&catalog).unwrap();
        let other = |line: &&str| line.contains("\"stored\"") && line.contains("\"other\"");
        let line = whole.split_inclusive('\n').find(other).unwrap();
        fs::write(&catalog, whole.replace(line, "")).unwrap();
        let (code, told) = status(&["-q"]).unwrap();
        let (text, repair) = told.trim_end().split_once(": glacier-ls receipts ").unwrap();
        let critical = format!("AKASHITA CRITICAL - oldest of 1: tank/home, {days} d; ");
        assert!(text.starts_with(&critical), "{text}");
        assert_eq!((code, text.contains("; the catalog has lost 1 stored streams, ")), (2, true));
        let repair = repair.split("; ").next().unwrap();
        machine.sh(&format!("glacier-ls receipts {repair}"));
        assert_eq!(status(&["-q"]).unwrap(), (0, String::new()), "{shell}");
        let (code, told) = status(&["tank/home", "tank/hom"]).unwrap();
        assert_eq!(code, 2, "{shell}: {told}");
        assert!(told.contains("never stored: tank/hom; oldest of 2: tank/home"), "{shell}: {told}");
        machine.configure(&format!("{conf}warn_age=1s\nfail_age=9999d\n"));
        assert_eq!(status(&["-q"]).unwrap().0, 1, "{shell}");
        machine.configure(&format!("{conf}warn_age=1s\nfail_age=1s\n"));
        assert_eq!(status(&["-q"]).unwrap().0, 2, "{shell}");
        machine.configure("windw=x\n");
        let (code, told) = status(&["-q"]).unwrap();
        assert_eq!(code, 2, "{shell}");
        assert!(told.starts_with("AKASHITA CRITICAL - akashita-conf: "), "{shell}: {told}");
        machine.configure(conf);
        fs::remove_file(machine.place.path("catalog.jsonl")).unwrap();
        assert_eq!(status(&[]).unwrap().0, 2, "{shell}");
    }
}

#[test]
fn what_is_told_to_paste_holds_where_a_path_has_a_quote_in_it() {
    let machine = Machine::new();
    silent(&machine.run(&[], &[]));
    let place = machine.place.path("it's $HOME");
    fs::create_dir(&place).unwrap();
    let (catalog, spool) = (place.join("catalog.jsonl"), place.join("spool"));
    fs::rename(machine.place.path("catalog.jsonl"), &catalog).unwrap();
    fs::rename(machine.place.path("spool"), &spool).unwrap();
    machine.configure(&format!(
        "dest=my-vault\ndataset=tank/home\ncatalog={}\nspool={}\n",
        catalog.display(),
        spool.display()
    ));
    let whole = fs::read_to_string(&catalog).unwrap();
    let other = |line: &&str| line.contains("\"stored\"") && line.contains("\"other\"");
    let line = whole.split_inclusive('\n').find(other).unwrap();
    for shell in ["sh", "dash", "bash", "busybox sh"] {
        // The catalog loses a stream that a receipt knows.
        fs::write(&catalog, whole.replace(line, "")).unwrap();
        let Some(ended) = machine.script_in("akashita-status", shell, &[], &[]) else { continue };
        let told = ended.stdout;
        let repair = told.split_once("bring them back: ").unwrap().1.split("; ").next().unwrap();
        machine.sh(repair);
        assert!(fs::read_to_string(&catalog).unwrap().contains(line), "{shell}: {repair}");
        let wanted = ["-n", "tank/home@sun"];
        let ended = machine.script_in("akashita-restore", shell, &wanted, &[]).unwrap();
        let list = ended.stderr.trim_end().strip_suffix(" lists all").unwrap();
        let list = list.rsplit_once("; ").unwrap().1;
        assert!(machine.sh(list).contains("tank/home@"), "{shell}: {list}");
    }
}
