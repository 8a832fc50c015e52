//! akashita-prune(8), akashita-verify(8) and akashita-drill(8), with a pool that is a file and a Glacier on this machine.

use std::fs;

use crate::common::machine::{Machine, has, silent};
use crate::common::tty::on_terminal;
use crate::common::{self, Ended, start, until};
use crate::common::{local, skip};

const CONF: &str = "dest=my-vault\ndataset=tank/home\npart_size=1M\nvolume_size=1M\n";

/// A machine that has stored a chain of two snapshots, and then another whole
/// one; of each there is a snapshot and a bookmark here.
fn two_chains() -> Option<Machine> {
    if !has("zstd") {
        skip("zstd: not found; nothing is pruned");
        return None;
    }
    let machine = Machine::new();
    machine.configure(CONF);
    silent(&machine.run(&[], &[]));
    silent(&machine.run(&[], &[]));
    machine
        .sh("zstd -dc \"$STREAMS/days/home-d00.zfs.zst\" | glacier-chunk | glacier-put my-vault");
    let day = machine.stored().pop().unwrap();
    let newest = format!("50\t{day}\ttank/home@akashita:2026-12-01\n");
    let other = "60\t7\ttank/home@mine\n60\t7\ttank/home#mine\n";
    let points = machine.points() + &newest + &newest.replace('@', "#") + other;
    fs::write(machine.place.path("pool/points"), points).unwrap();
    Some(machine)
}

fn prune_in(machine: &Machine, shell: &str, arguments: &[&str]) -> Option<Ended> {
    machine.script_in("akashita-prune", shell, arguments, &[])
}

fn prune(machine: &Machine, arguments: &[&str]) -> Ended {
    prune_in(machine, "sh", arguments).unwrap()
}

fn archives(machine: &Machine) -> usize {
    machine.server.archives("my-vault").len()
}

/// The names of the points that are left.
fn left(machine: &Machine) -> Vec<String> {
    let points = machine.points();
    points.lines().map(|line| line.split('\t').nth(2).unwrap().to_owned()).collect()
}

#[test]
fn prunes_on_both_sides_in_any_sh_and_only_if_told() {
    for shell in ["sh", "dash", "bash", "busybox sh"] {
        let Some(machine) = two_chains() else { return };
        machine.configure(&format!("{CONF}keep=last=1\nfree_only=no\nlocal_keep=1\n"));
        let (points, before) = (machine.points(), archives(&machine));
        let Some(plan) = prune_in(&machine, shell, &[]) else {
            skip(&format!("{shell}: not found, akashita-prune is not tried with it"));
            continue;
        };
        assert_eq!((plan.code(), plan.stderr.as_str()), (0, ""), "{shell}");
        let lines: Vec<&str> = plan.stdout.lines().collect();
        assert_eq!(lines.len(), 6, "{shell}: {lines:?}");
        let first = "tank/home@mon: stored 20";
        assert!(lines.iter().any(|line| line.starts_with(first)), "{shell}: {lines:?}");
        let why = ", 2.0 MiB, would go: no rule keeps it; fee 0.0";
        assert!(plan.stdout.contains(why), "{shell}: {}", plan.stdout);
        let local = |what: &str| lines.iter().filter(|line| line.ends_with(what)).count();
        assert_eq!(local("would be destroyed here: not stored any more"), 2, "{lines:?}");
        assert_eq!(local("would be destroyed here: stored, and not among the last"), 2);
        assert_eq!((machine.points(), archives(&machine)), (points, before), "nothing is done");

        silent(&prune_in(&machine, shell, &["-y"]).unwrap());
        assert_eq!(archives(&machine), 4, "{shell}: two streams, each with its manifest");
        let kept = ["tank/home@akashita:2026-12-01", "tank/home#akashita:2026-12-01"];
        assert_eq!(left(&machine), [&kept[..], &["tank/home@mine", "tank/home#mine"]].concat());
        let plan = prune_in(&machine, shell, &[]).unwrap();
        assert_eq!(plan.stdout, "nothing would go\n", "{shell}");
        silent(&prune_in(&machine, shell, &["-y"]).unwrap());
        let log = fs::read_to_string(machine.place.path("log")).unwrap();
        assert!(log.contains(" glacier://my-vault: archives deleted: "), "{log}");
    }
}

#[test]
fn what_costs_a_fee_stays_unless_the_configuration_says_so() {
    let Some(machine) = two_chains() else { return };
    machine.configure(&format!("{CONF}keep=last=1\nlocal_keep=9\n"));
    let before = archives(&machine);
    // Free is what was stored for 90 whole days, from the next one on.
    let catalog = local::catalog(&machine.place);
    let lines = catalog.lines().filter_map(|line| serde_json::from_str(line).ok());
    let stored = lines.filter(|line: &serde_json::Value| line["type"] == "stored");
    let mut first = stored.filter(|line| line["name"] == "tank/home@mon");
    let stored: jiff::Timestamp =
        first.next().unwrap()["stored"].as_str().unwrap().parse().unwrap();
    let free =
        stored.to_zoned_datetime(jiff::tz::TimeZone::UTC).date() + jiff::Span::new().days(91);
    let plan = format!(
        "nothing would go in Glacier now\n2 streams that no rule keeps stay, as deleting earlier \
         costs a fee (free_only); the first is free from {free}\n"
    );
    for shell in ["sh", "dash", "bash", "busybox sh"] {
        let Some(ended) = prune_in(&machine, shell, &[]) else { continue };
        assert_eq!((ended.code(), ended.stdout.as_str()), (0, plan.as_str()), "{shell}");
    }
    // Of others nothing is told, and what is kept is not held back.
    assert_eq!(prune(&machine, &["tank/hom"]).stdout, "nothing would go\n");
    silent(&prune(&machine, &["-y"]));
    assert_eq!(archives(&machine), before);
    machine.configure(&format!("{CONF}keep=last=9\nlocal_keep=9\n"));
    assert_eq!(prune(&machine, &[]).stdout, "nothing would go\n");
}

#[test]
fn files_are_pruned_and_drilled_as_streams_are() {
    let machine = Machine::new();
    let conf = format!("{CONF}format=tar\nlocal_keep=9\n");
    machine.configure(&conf);
    fs::create_dir(machine.place.path("pool/files")).unwrap();
    fs::write(machine.place.path("pool/files/etc"), "etc").unwrap();
    silent(&machine.run(&[], &[]));
    silent(&machine.run(&[], &[]));
    let points = left(&machine);
    machine.configure(&format!("{conf}max_cost=1\ndrill=tank/drill\n"));
    silent(&drill(&machine, &[]));
    assert_eq!(drills(&machine), [format!("{}.tar", points[1])]);
    assert!(!machine.asked().contains("\nreceive "), "{}", machine.asked());

    machine.configure(
        &format!("{conf}keep=last=1\nfree_only=no\n").replace("local_keep=9", "local_keep=1"),
    );
    silent(&prune(&machine, &["-y"]));
    assert_eq!(archives(&machine), 4, "the other stream and the newest");
    assert_eq!(left(&machine), points[1..], "that of the newest stays here");
}

#[test]
fn what_is_of_others_is_left_alone() {
    let Some(machine) = two_chains() else { return };
    let before = archives(&machine);
    // Another dataset, another host, another vault.
    machine.configure(&format!("{CONF}keep=last=1\nfree_only=no\n"));
    assert_eq!(prune(&machine, &["tank/hom"]).stdout, "nothing would go\n");
    silent(&prune(&machine, &["-y", "tank/hom"]));
    machine.configure("dest=other\ndataset=tank/home\nkeep=last=1\nfree_only=no\nlocal_keep=9\n");
    silent(&prune(&machine, &["-y"]));
    machine.configure(&format!("{CONF}keep=last=1\nfree_only=no\nlocal_keep=9\n"));
    let catalog = machine.place.path("catalog.jsonl");
    let text = fs::read_to_string(&catalog).unwrap();
    let host = rustix::system::uname().nodename().to_str().unwrap().to_owned();
    let host = format!("\"host\":\"{host}\"");
    assert!(text.contains(&host), "{text}");
    fs::write(&catalog, text.replace(&host, "\"host\":\"another\"")).unwrap();
    // Receipts would tell that it is not.
    fs::remove_dir_all(machine.place.path("spool")).unwrap();
    silent(&prune(&machine, &["-y"]));
    assert_eq!(archives(&machine), before);
}

#[test]
fn a_stream_that_no_line_calls_stored_stays() {
    let Some(machine) = two_chains() else { return };
    machine.configure(&format!("{CONF}keep=last=9\nfree_only=no\nlocal_keep=9\n"));
    // A copy of the catalog that ends before the last stream was stored, a long
    // time after; with what was spooled, and without.
    let catalog = machine.place.path("catalog.jsonl");
    let text = local::catalog(&machine.place);
    let day = jiff::Timestamp::now().strftime("%Y-%m-%dT").to_string();
    let text = text.replace(&day, "2026-01-01T");
    let end = text.rfind("{\"type\":\"stored\"").unwrap();
    assert!(text[..end].ends_with('\n') && text[..end].contains("@d00"), "{text}");
    fs::write(&catalog, &text[..end]).unwrap();
    let before = archives(&machine);
    let _ = fs::remove_dir_all(machine.place.path("spool"));
    assert_eq!(prune(&machine, &[]).stdout, "nothing would go\n");
    silent(&prune(&machine, &["-y"]));
    assert_eq!(archives(&machine), before);
}

#[test]
fn nothing_goes_by_a_catalog_that_receipts_contradict() {
    let Some(machine) = two_chains() else { return };
    machine.configure(&format!("{CONF}keep=last=1\nfree_only=no\nlocal_keep=1\n"));
    let (before, points) = (archives(&machine), machine.points());
    let catalog = machine.place.path("catalog.jsonl");
    let whole = local::catalog(&machine.place);
    let stored = whole.rfind("{\"type\":\"stored\"").unwrap();
    fs::write(&catalog, &whole[..stored]).unwrap();
    for shell in ["sh", "dash", "bash", "busybox sh"] {
        for arguments in [&["-y"][..], &[]] {
            let Some(ended) = prune_in(&machine, shell, arguments) else { continue };
            assert_eq!((ended.code(), ended.stdout.as_str()), (78, ""), "{shell}");
            let says = ": has lost lines of what is stored, as receipts in the spool tell: \
                        tank/home@d00; nothing is deleted before it has them: glacier-ls receipts \
                        --spool ";
            assert!(ended.stderr.contains(says), "{shell}: {}", ended.stderr);
        }
    }
    assert_eq!((archives(&machine), machine.points()), (before, points));
    machine.sh("glacier-put --allow-empty my-vault </dev/null");
    silent(&prune(&machine, &["-y"]));
    assert!(archives(&machine) < before);
}

#[test]
fn what_another_configuration_has_in_the_pool_stays() {
    let Some(machine) = two_chains() else { return };
    machine.configure(&format!("{CONF}keep=last=1\nfree_only=no\nlocal_keep=1\n"));
    let points = machine.points();
    // Bookmarks and snapshots of its own, one of them stored by both and one
    // received with its mark, and what an earlier version has made and nobody
    // knows of.
    let stored = points.lines().next().unwrap().split('\t').nth(1).unwrap().to_owned();
    let theirs = format!(
        "1\t91\ttank/home#akashita:2026-01-01T00:00:00Z-0123456789abcdef\n\
         2\t92\ttank/home#akashita:2026-01-02T00:00:00Z\n\
         3\t{stored}\ttank/home@akashita:2026-01-03T00:00:00Z\n\
         4\t93\ttank/home@akashita:2026-01-04T00:00:00Z\n\
         5\t{stored}\ttank/home@akashita:2026-01-05T00:00:00Z\n"
    );
    fs::write(machine.place.path("pool/points"), format!("{theirs}{points}")).unwrap();
    let properties = machine.place.path("pool/properties");
    let mark = "akashita:id\t0123456789abcdef";
    let marked = format!(
        "tank/home@akashita:2026-01-03T00:00:00Z\t{mark}\n\
         tank/home@akashita:2026-01-05T00:00:00Z\t{mark}\treceived\n"
    );
    let known = fs::read_to_string(&properties).unwrap();
    fs::write(&properties, format!("{known}{marked}")).unwrap();
    silent(&prune(&machine, &["-y"]));
    let left = machine.points();
    assert!(left.starts_with(&theirs), "{left}");
    assert_eq!(left.lines().count(), 5 + 4, "of ours the newest, and those by hand: {left}");
}

#[test]
fn what_is_in_the_spool_keeps_its_base_in_glacier() {
    let Some(machine) = two_chains() else { return };
    machine.configure(&format!("{CONF}keep=last=1\nfree_only=no\nlocal_keep=9\n"));
    machine.sh("glacier-chunk --part-size 1M --volume-size 1M --spool-limit none \
         <\"$STREAMS/incremental-2.zfs\" >/dev/null");
    let before = archives(&machine);
    silent(&prune(&machine, &["-y"]));
    assert_eq!(archives(&machine), before, "it is based on all that no rule keeps");
    assert_eq!(prune(&machine, &[]).stdout, "nothing would go\n");
    machine.sh("glacier-ls spool | glacier-rm --yes my-vault");
    silent(&prune(&machine, &["-y"]));
    assert!(archives(&machine) < before);
}

#[test]
fn a_dataset_that_is_gone_is_pruned_in_glacier() {
    let Some(machine) = two_chains() else { return };
    machine.configure(&format!("{CONF}keep=last=1\nfree_only=no\n"));
    let none = machine.place.path("pool/none");
    fs::write(none, "").unwrap();
    silent(&prune(&machine, &["-y", "tank/home"]));
    assert_eq!(archives(&machine), 4);
    assert!(!machine.asked().contains("destroy"), "{}", machine.asked());
}

#[test]
fn what_is_wrong_is_told_before_anything_is_deleted() {
    let Some(machine) = two_chains() else { return };
    let before = archives(&machine);
    for (conf, arguments, code, why) in [
        (CONF, &[][..], 78, ": no keep, so everything stays\n"),
        ("dataset=tank/home\nkeep=last=1\n", &[], 78, ": no dest, so nothing is stored\n"),
        (
            "dest=my-vault\nkeep=last=1\n",
            &[],
            64,
            "no dataset; name one, or set dataset in the configuration\n",
        ),
        (
            "dest=my-vault\nkeep=last=1\n",
            &["-r"],
            64,
            "usage: akashita-prune [-y] [-c conf] [dataset ...]\n",
        ),
        ("dest=my-vault\nkeep=last=1\n", &["--", "tank/$(id)"], 64, "not the name of a dataset\n"),
    ] {
        machine.configure(conf);
        let ended = prune(&machine, &[&["-y"], arguments].concat());
        assert_eq!(ended.code(), code, "{}", ended.stderr);
        assert!(ended.stderr.ends_with(why), "{}", ended.stderr);
    }
    // What may not be deleted is told.
    machine.configure(&format!(
        "{CONF}keep=last=1\nfree_only=no\nlocal_keep=9\ndelete_profile=none\n"
    ));
    let ended = prune(&machine, &["-y"]);
    assert_eq!(ended.code(), 77, "{}", ended.stderr);
    let ends = format!(
        "; log: {}; again: akashita-prune -y -c {}\n",
        machine.place.path("log").display(),
        machine.place.path("conf").display()
    );
    assert!(ended.stderr.ends_with(&ends) && ended.stderr.lines().count() == 1, "{}", ended.stderr);
    fs::remove_file(machine.place.path("catalog.jsonl")).unwrap();
    let ended = prune(&machine, &["-y"]);
    assert_eq!(ended.code(), 78, "{}", ended.stderr);
    assert_eq!(archives(&machine), before);
}

#[test]
fn nothing_is_deleted_beside_a_backup() {
    let Some(machine) = two_chains() else { return };
    machine.configure(&format!("{CONF}keep=last=1\nfree_only=no\n"));
    let conf = machine.place.path("conf");
    let arguments = ["--conf", conf.to_str().unwrap(), "--lock", "backup", "--", "sleep", "60"];
    let mut backup = start(&mut machine.place.tool("akashita-conf", &arguments));
    let lock = machine.place.path("backup.lock");
    let id = format!("{}\n", backup.id());
    until("the lock is held", || fs::read_to_string(&lock).unwrap() == id);
    let before = archives(&machine);
    let ended = prune(&machine, &["-y"]);
    assert_eq!(ended.code(), 75, "{}", ended.stderr);
    assert_eq!(archives(&machine), before);
    assert_eq!(prune(&machine, &[]).code(), 0, "a plan needs no lock");
    backup.kill();
}

fn verify_in(machine: &Machine, shell: &str, arguments: &[&str]) -> Option<Ended> {
    machine.script_in("akashita-verify", shell, arguments, &[])
}

fn verify(machine: &Machine, arguments: &[&str]) -> Ended {
    verify_in(machine, "sh", arguments).unwrap()
}

/// How many archives, or parts of one, the service was asked for.
fn asked_for(machine: &Machine) -> usize {
    machine.server.calls("InitiateJob")
}

/// The lines of a type in the catalog.
fn told(machine: &Machine, of: &str) -> usize {
    let of = format!("{{\"type\":\"{of}\",");
    local::catalog(&machine.place).lines().filter(|line| line.starts_with(&of)).count()
}

#[test]
fn verifies_what_the_budget_allows_in_any_sh() {
    let machine = Machine::new();
    machine.configure(&format!("{CONF}verify_budget=1M\nmax_cost=1\n"));
    silent(&machine.run(&[], &[]));
    for shell in ["sh", "dash", "bash", "busybox sh"] {
        let before = told(&machine, "verified");
        let Some(ended) = verify_in(&machine, shell, &["-t", "Expedited"]) else {
            skip(&format!("{shell}: not found, akashita-verify is not tried with it"));
            continue;
        };
        silent(&ended);
        assert!(told(&machine, "verified") > before, "{shell}");
        assert!(!machine.place.path("verify.jsonl").exists(), "{shell}");
    }
    let log = fs::read_to_string(machine.place.path("log")).unwrap();
    // Which parts is chance, and the last of a volume is smaller.
    assert!(log.ends_with(" parts\n") && log.contains(" verified: "), "{log}");
}

#[test]
fn a_verification_in_two_steps_is_paid_for_once() {
    let mut machine = Machine::new();
    machine.configure(&format!("{CONF}verify_budget=1M\n"));
    silent(&machine.run(&[], &[]));
    let mut jobs = None;
    for _ in 0..3 {
        let ended = verify(&machine, &["-n"]);
        assert_eq!((ended.code(), ended.stdout.as_str(), ended.stderr.as_str()), (75, "", ""));
        let asked = asked_for(&machine);
        assert_eq!(*jobs.get_or_insert(asked), asked, "nothing is asked for again");
    }
    machine.server.pass(13);
    silent(&verify(&machine, &["-n"]));
    assert_eq!(jobs, Some(asked_for(&machine)));
    assert_eq!(jobs, Some(told(&machine, "verified")));
    assert_eq!(verify(&machine, &["-n"]).code(), 75, "the next one is begun");
    assert!(jobs < Some(asked_for(&machine)));
}

#[test]
fn what_is_not_as_it_was_stored_is_told_in_a_line() {
    let machine = Machine::new();
    machine.configure(CONF);
    silent(&machine.run(&[], &[]));
    for archive in machine.server.archives("my-vault") {
        machine.server.delete("my-vault", &archive.id);
    }
    let ended = verify(&machine, &["-t", "Expedited"]);
    assert_eq!((ended.code(), ended.stderr.lines().count()), (65, 1), "{}", ended.stderr);
    let ends = format!(
        "; log: {}; again: akashita-verify -c {} -t Expedited\n",
        machine.place.path("log").display(),
        machine.place.path("conf").display()
    );
    assert!(ended.stderr.ends_with(&ends), "{}", ended.stderr);
    assert!(!machine.place.path("verify.jsonl").exists(), "others have their turn");

    machine.configure(&format!("{CONF}max_cost=0\n"));
    let before = asked_for(&machine);
    assert_eq!(verify(&machine, &[]).code(), 1);
    assert_eq!(verify(&machine, &["x"]).code(), 64);
    fs::remove_file(machine.place.path("catalog.jsonl")).unwrap();
    assert_eq!(verify(&machine, &[]).code(), 78);
    assert_eq!(asked_for(&machine), before);
}

fn drill_in(machine: &Machine, shell: &str, more: &[(&str, &str)]) -> Option<Ended> {
    machine.script_in("akashita-drill", shell, &["-t", "Expedited"], more)
}

fn drill(machine: &Machine, more: &[(&str, &str)]) -> Ended {
    drill_in(machine, "sh", more).unwrap()
}

/// What was drilled, in the order in which that was.
fn drills(machine: &Machine) -> Vec<String> {
    let text = fs::read_to_string(machine.place.path("drilled")).unwrap_or_default();
    text.lines().map(|line| line.split('\t').nth(2).unwrap().to_owned()).collect()
}

/// Which snapshot has its turn last: the one that was drilled last.
fn turn_after(machine: &Machine) -> String {
    drills(machine).pop().unwrap()
}

#[test]
fn a_drill_receives_and_drops_in_any_sh() {
    let machine = Machine::new();
    machine.configure(&format!("{CONF}max_cost=1\ndrill=tank/drill\n"));
    silent(&machine.run(&[], &[]));
    silent(&machine.run(&[], &[]));
    let before = machine.points();
    // What was stopped had written down what it made; something else is there.
    let old = "tank/drill/akashita-drill-0123456789abcdef-2026-11-01T04:00:00Z";
    let there = "20\ttank/drill\n21\ttank/drill/mine\n22\ttank/drill/akashita-drill-mine\n";
    let left = format!("{there}23\t{old}\n24\t{old}/copy\n");
    fs::write(machine.place.path("pool/datasets"), left).unwrap();
    fs::write(machine.place.path("drill.made"), format!("23\t{old}\n24\t{old}/copy\n")).unwrap();
    for (number, shell) in (1..).zip(["sh", "dash", "bash", "busybox sh"]) {
        let Some(ended) = drill_in(&machine, shell, &[]) else {
            skip(&format!("{shell}: not found, akashita-drill is not tried with it"));
            continue;
        };
        silent(&ended);
        assert!(drills(&machine).len() <= number, "{shell}");
        assert_eq!(drills(&machine).last().unwrap(), "tank/home@tue", "{shell}");
        assert_eq!(machine.points(), before, "{shell}");
        let datasets = fs::read_to_string(machine.place.path("pool/datasets")).unwrap();
        assert_eq!(datasets, there, "{shell}");
        assert_eq!(fs::read_to_string(machine.place.path("drill.made")).unwrap(), "", "{shell}");
    }
    let asked = machine.asked();
    let id = fs::read_to_string(machine.place.path("id")).unwrap();
    let target = format!("receive -u tank/drill/akashita-drill-{}-20", id.trim_end());
    assert!(asked.matches(&target).count() >= 2, "{asked}");
    // One that fails is dropped, too, and does not count.
    let before = drills(&machine);
    let ended = drill(&machine, &[("FULL", "1")]);
    assert_eq!((ended.code(), ended.stderr.lines().count()), (74, 1), "{}", ended.stderr);
    let begins =
        "akashita-drill: tank/home@tue: tank/home@mon: cannot receive: out of space; log: ";
    assert!(ended.stderr.starts_with(begins), "{}", ended.stderr);
    let ends = format!(
        "; again: akashita-drill -c {} -t Expedited\n",
        machine.place.path("conf").display()
    );
    assert!(ended.stderr.ends_with(&ends), "{}", ended.stderr);
    assert_eq!(drills(&machine), before);
    let Some(ended) = on_terminal(&machine, "akashita-drill -t Expedited") else { return };
    let told = "\r\nakashita-drill: tank/home@tue: came back whole, and was dropped again\r\n";
    assert!(ended.code() == 0 && ended.stdout.ends_with(told), "{}", ended.stdout);
}

/// A machine that drills in tank/drill what it has stored.
fn drilling() -> Machine {
    let machine = Machine::new();
    machine.configure(&format!("{CONF}max_cost=1\ndrill=tank/drill\n"));
    silent(&machine.run(&[], &[]));
    datasets(&machine, "20\ttank/drill\n");
    machine
}

fn datasets(machine: &Machine, text: &str) {
    fs::write(machine.place.path("pool/datasets"), text).unwrap();
}

fn has_datasets(machine: &Machine) -> String {
    fs::read_to_string(machine.place.path("pool/datasets")).unwrap()
}

#[test]
fn a_drill_destroys_no_pool_and_nothing_for_its_name() {
    let machine = drilling();
    let drill_into = |parent: &str| {
        machine.configure(&format!("{CONF}max_cost=1\ndrill={parent}\n"));
    };
    // A pool that is named as a drill, and what is in it.
    let pool = "30\takashita-drill-pool\n31\takashita-drill-pool/precious\n";
    datasets(&machine, pool);
    drill_into("akashita-drill-pool");
    let ended = drill(&machine, &[]);
    assert_eq!(has_datasets(&machine), pool);
    silent(&ended);

    // What a person made, and what a version left that wrote nothing down.
    let mine = "akashita-drill-of-my-own";
    let old = "akashita-drill-2026-11-01T04:00:00Z";
    let there = format!("20\ttank/drill\n21\ttank/drill/{mine}\n22\ttank/drill/{old}\n");
    datasets(&machine, &there);
    drill_into("tank/drill");
    let ended = drill(&machine, &[]);
    let warning = format!(
        "akashita-drill: warning: tank/drill/{old}: left by a drill that was stopped, and stays; \
         if nobody needs it: zfs destroy -r tank/drill/{old}\n"
    );
    assert_eq!((ended.code(), ended.stderr), (0, warning));
    assert_eq!(has_datasets(&machine), there);
    assert!(!machine.asked().contains(&format!("destroy -r tank/drill/{old}")));
}

#[test]
fn a_drill_destroys_nothing_that_is_mounted() {
    let machine = drilling();
    // A drill was stopped, and all was mounted since: over the live dataset.
    let old = "tank/drill/akashita-drill-2026-11-01T04:00:00Z";
    let live = "40\ttank/apps\tyes\t/apps\n";
    for noted in [false, true] {
        let there = format!("20\ttank/drill\n{live}22\t{old}\tyes\t/apps\n");
        datasets(&machine, &there);
        if noted {
            fs::write(machine.place.path("drill.made"), format!("22\t{old}\n")).unwrap();
        }
        let ended = drill(&machine, &[]);
        let warning = format!(
            "akashita-drill: warning: {old}: left by a drill that was stopped, and stays; it is \
             mounted, perhaps over other files; look with: zfs list -r -o name,mounted,mountpoint \
             {old}\n"
        );
        assert_eq!((ended.code(), ended.stderr), (0, warning), "noted: {noted}");
        assert_eq!(has_datasets(&machine), there, "noted: {noted}");
    }
    // Unmounted, it is what was written down, and goes.
    datasets(&machine, &format!("20\ttank/drill\n{live}22\t{old}\n"));
    silent(&drill(&machine, &[]));
    assert_eq!(has_datasets(&machine), format!("20\ttank/drill\n{live}"));
    // Nothing that is received can be mounted.
    let made = "create -o mountpoint=none -o akashita:backup=off";
    assert!(machine.asked().contains(made), "{}", machine.asked());
}

#[test]
fn a_drill_leaves_and_names_what_it_has_not_written_down() {
    let machine = drilling();
    // Received, and stopped before its guid was known.
    let ended = drill(&machine, &[("NO_GUID", "1")]);
    assert_eq!((ended.code(), ended.stderr.lines().count()), (74, 1), "{}", ended.stderr);
    let there = has_datasets(&machine);
    let [_, place, copy] = there.lines().collect::<Vec<_>>()[..] else { panic!("{there}") };
    let name = place.split('\t').nth(1).unwrap();
    assert!(copy.ends_with(&format!("{name}/copy")), "{there}");
    let ended = drill(&machine, &[]);
    let says = format!("stays; if nobody needs it: zfs destroy -r {name}\n");
    assert!(ended.code() == 0 && ended.stderr.ends_with(&says), "{}", ended.stderr);
    assert_eq!(has_datasets(&machine), there, "another name was taken");

    // That of another state directory, which may be under way.
    let other = "tank/drill/akashita-drill-0123456789abcdef-2026-11-01T04:00:00Z";
    let there = format!("20\ttank/drill\n61\t{other}\n62\t{other}/copy\n");
    datasets(&machine, &there);
    silent(&drill(&machine, &[]));
    assert_eq!(has_datasets(&machine), there);
    let log = fs::read_to_string(machine.place.path("log")).unwrap();
    let told = format!(" {other}: made from another state directory, and stays\n");
    assert!(log.contains(&told), "{log}");

    // Another has the name, or something was put below it; a line is torn.
    let made = machine.place.path("drill.made");
    for (guid, below) in [("1", ""), ("50", "51\ttank/drill/x/mine\n")] {
        fs::write(&made, format!("{guid}\ttank/drill/x\n20\ttank/dri")).unwrap();
        let there = format!("20\ttank/drill\n50\ttank/drill/x\n{below}");
        datasets(&machine, &there);
        silent(&drill(&machine, &[]));
        assert_eq!(has_datasets(&machine), there);
        assert_eq!(fs::read_to_string(&made).unwrap().is_empty(), below.is_empty());
    }
}

#[test]
fn a_drill_receives_nothing_that_carries_mount_points() {
    let machine = drilling();
    let conf = format!("{CONF}dataset=rstank/tree\nmax_cost=5\ndrill=tank/drill\n");
    machine.configure(&conf);
    machine.sh("glacier-chunk -- cat \"$STREAMS/replication-R-1.zfs\" | glacier-put my-vault");
    for shell in ["sh", "dash", "bash", "busybox sh"] {
        let command =
            machine.script_in("akashita-drill", shell, &["-t", "Expedited", "rstank/tree"], &[]);
        let Some(ended) = command else { continue };
        silent(&ended);
        assert!(!machine.asked().contains("\nreceive "), "{shell}: {}", machine.asked());
        let log = fs::read_to_string(machine.place.path("log")).unwrap();
        let told = " rstank/tree@r1: drilled: proven whole, and not received: zfs send -R or -p made \
            a stream of it, which carries mount points\n";
        assert!(log.ends_with(told), "{shell}: {log}");
    }
    assert_eq!(has_datasets(&machine), "20\ttank/drill\n");
}

#[test]
fn a_drill_without_a_pool_proves_that_streams_are_whole() {
    let machine = Machine::new();
    machine.configure(&format!("{CONF}max_cost=1\n"));
    silent(&machine.run(&[], &[]));
    for shell in ["sh", "dash", "bash", "busybox sh"] {
        let before = drills(&machine).len();
        let Some(ended) = drill_in(&machine, shell, &[]) else { continue };
        silent(&ended);
        assert_eq!(drills(&machine).len(), before + 1, "{shell}");
    }
    assert!(!machine.asked().contains("\nreceive "), "{}", machine.asked());
    let log = fs::read_to_string(machine.place.path("log")).unwrap();
    assert!(log.ends_with(" tank/home@mon: drilled\n"), "{log}");
}

#[test]
fn a_drill_has_each_dataset_in_turn_and_none_that_is_too_dear() {
    if !has("zstd") {
        skip("zstd: not found; only one dataset is drilled");
        return;
    }
    let mut machine = Machine::new();
    let conf = format!("{CONF}dataset=tank/mail\ndataset=rstank/tree\n");
    machine.configure(&conf);
    silent(&machine.run(&["tank/home"], &[]));
    for store in [
        "zstd -dc \"$STREAMS/days/mail-d00.zfs.zst\" | glacier-chunk | glacier-put my-vault",
        "zstd -dc \"$STREAMS/days/mail-d01.zfs.zst\" | glacier-chunk | glacier-put my-vault",
        "glacier-chunk -- cat \"$STREAMS/replication-R-1.zfs\" | glacier-put my-vault",
    ] {
        machine.sh(store);
    }
    machine.configure(&format!("{conf}max_cost=5\n"));
    for _ in 0..4 {
        silent(&drill(&machine, &[]));
    }
    let turns = drills(&machine);
    let mut first = turns[..3].to_vec();
    first.sort_unstable();
    assert_eq!(first, ["rstank/tree@r1", "tank/home@mon", "tank/mail@d01"]);
    assert_eq!(turns[3], turns[0], "the one that is longest ago");

    // The one of three volumes is the dearest, when no job is there any more.
    machine.server.pass(50);
    let before = asked_for(&machine);
    machine.configure(&format!("{conf}max_cost=0.0201\n"));
    for _ in 0..3 {
        silent(&drill(&machine, &[]));
    }
    assert!(!drills(&machine)[4..].contains(&"tank/home@mon".to_owned()), "{:?}", drills(&machine));
    machine.configure(&format!("{conf}max_cost=0\n"));
    let ended = drill(&machine, &[]);
    assert_eq!((ended.code(), ended.stderr.lines().count()), (1, 1), "{}", ended.stderr);
    let last = turn_after(&machine);
    let begins = format!("akashita-drill: {last}: glacier-get: it would cost ");
    assert!(ended.stderr.starts_with(&begins), "{last}: {}", ended.stderr);
    assert!(ended.stderr.contains("), over max_cost=0.0000; "), "{}", ended.stderr);
    machine.configure(&conf);
    let ended = drill(&machine, &[]);
    assert_eq!(ended.code(), 78, "{}", ended.stderr);
    assert!(ended.stderr.ends_with(": no max_cost, and a drill brings a whole chain back\n"));
    assert!(asked_for(&machine) >= before);
}

/// What stands behind "again: " in a line.
fn again(told: &str) -> &str {
    told.trim_end().split_once("; again: ").unwrap().1
}

#[test]
fn what_is_told_to_paste_runs_nothing_else() {
    let Some(machine) = two_chains() else { return };
    let hostile = machine.place.path("it's; touch victim; : '\u{1b}]0;x\u{7}");
    let conf = hostile.to_str().unwrap().to_owned();
    for (script, more, arguments) in [
        ("akashita-backup", "", &["tank/none"][..]),
        ("akashita-prune", "keep=last=1\nfree_only=no\ndelete_profile=none\n", &["-y"]),
        ("akashita-drill", "max_cost=0\n", &[]),
        ("akashita-verify", "max_cost=0\n", &[]),
    ] {
        machine.configure(&format!("{CONF}{more}"));
        fs::copy(machine.place.path("conf"), &hostile).unwrap();
        let ended = machine.script_in(script, "sh", &[&["-c", &conf], arguments].concat(), &[]);
        let ended = ended.unwrap();
        assert!(ended.code() != 0 && ended.stderr.lines().count() == 1, "{}", ended.stderr);
        assert!(!ended.stderr.contains('\u{1b}'), "{script}: {}", ended.stderr);
        let mut paste = machine.place.command("sh");
        paste.args(["-c", again(&ended.stderr)]).current_dir(machine.place.path(""));
        paste.env("PATH", "/usr/bin:/bin");
        assert_eq!(common::run_with(&mut paste, b"").code(), 127, "{script}: {}", ended.stderr);
        assert!(!machine.place.path("victim").exists(), "{script}: {}", ended.stderr);
    }
}
