//! What akashita-backup decides, how often it reads the catalog for that, and
//! what it does when that is not so any more.

use std::fs;
use std::process::Command;

use crate::common;
use crate::common::machine::{GUIDS, Machine, silent};

const CONF: &str = "dest=my-vault\ndataset=tank/home\npart_size=1M\nvolume_size=1M\n";

impl Machine {
    /// Notes each call of a tool where it is noted what ZFS is asked, and does
    /// something behind the first.
    fn behind(&self, tool: &str, once: &str) {
        let bin = self.place.path("bin");
        let _ = fs::create_dir(&bin);
        let real = common::program(tool);
        let text = format!(
            "#!/bin/sh\nprintf '%s\\n' \"{tool} $*\" >>\"$POOL/asked\"\nstatus=0\n{} \"$@\" || status=$?\n\
             [ -e \"$POOL/once\" ] || {{ : >\"$POOL/once\"; {once}; }}\nexit $status\n",
            real.display()
        );
        // By another program, as in `script_in`.
        let mut write = Command::new("sh");
        write.args(["-c", "printf %s \"$1\" >\"$0\" && chmod 755 \"$0\""]);
        assert!(write.arg(bin.join(tool)).arg(text).status().unwrap().success());
    }

    fn calls(&self, tool: &str) -> usize {
        self.asked().lines().filter(|line| line.starts_with(&format!("{tool} "))).count()
    }
}

#[test]
fn the_catalog_is_read_once_for_all_datasets() {
    let machine = Machine::new();
    silent(&machine.run(&[], &[]));
    machine.configure(&format!("{CONF}recursive=each\n"));
    let below: Vec<String> = (0..40).map(|n| format!("{n}\ttank/home/d{n}\n")).collect();
    fs::write(machine.place.path("pool/datasets"), below.concat()).unwrap();
    machine.behind("akashita-choose", ":");
    machine.behind("glacier-chain", ":");
    let planned = machine.run(&["-n"], &[]);
    assert_eq!((planned.code(), planned.stdout.lines().count()), (0, 41), "{}", planned.stderr);
    assert!(planned.stdout.starts_with("tank/home@akashita:20"), "{}", planned.stdout);
    assert_eq!(planned.stdout.matches(" from ").count(), 1, "{}", planned.stdout);
    assert_eq!((machine.calls("akashita-choose"), machine.calls("glacier-chain")), (1, 0));
    // Named twice, each is stored once; and what was stored is seen in what the
    // catalog got since.
    machine.configure(CONF);
    silent(&machine.run(&["tank/home", "tank/home"], &[]));
    assert_eq!(machine.stored(), GUIDS[..2]);
    assert_eq!((machine.calls("akashita-choose"), machine.calls("glacier-chain")), (2, 1));
}

#[test]
fn a_base_that_goes_meanwhile_is_seen() {
    let machine = Machine::new();
    silent(&machine.run(&[], &[]));
    let only_bookmarks =
        "grep '#' \"$POOL/points\" >\"$POOL/left\"; mv \"$POOL/left\" \"$POOL/points\"";
    machine.behind("akashita-choose", only_bookmarks);
    silent(&machine.run(&[], &[]));
    assert!(machine.asked().contains("send -i tank/home#akashita:20"), "{}", machine.asked());
    assert_eq!(machine.stored(), GUIDS[..2]);
    assert_eq!(machine.calls("akashita-choose"), 2, "once more for this dataset");
}

#[test]
fn a_deletion_meanwhile_is_seen() {
    let machine = Machine::new();
    silent(&machine.run(&[], &[]));
    let catalog = machine.place.path("catalog.jsonl");
    let archive = "sed -n 's/^{\"type\":\"archive\",.*\"name\":\"tank.*\"archive_id\":\"\\([^\"]*\\)\".*/\\1/p'";
    machine.behind(
        "akashita-choose",
        &format!(
            "printf '{{\"type\":\"deleted\",\"archive_id\":\"%s\",\"deleted\":\"2026-12-01T00:00:00Z\"}}\\n' \
             \"$({archive} {0} | head -n 1)\" >>{0}",
            catalog.display()
        ),
    );
    let planned = machine.run(&["-n"], &[]);
    assert_eq!(planned.code(), 0, "{}", planned.stderr);
    assert!(!planned.stdout.contains(" from "), "its base is gone: {}", planned.stdout);
    assert_eq!(machine.calls("akashita-choose"), 2);
}

#[test]
fn an_old_snapshot_with_another_guid_is_another() {
    let machine = Machine::new();
    silent(&machine.run(&[], &[]));
    silent(&machine.run(&[], &[]));
    machine.configure(&format!("{CONF}local_keep=1\n"));
    let points = machine.points();
    let first = points.lines().find(|line| line.contains('@')).unwrap().to_owned();
    let name = first.split('\t').nth(2).unwrap();
    // It is destroyed and made anew by somebody while the run goes on.
    let anew = format!(
        "sed 's/{}\t\\(.*@\\)/4711\t\\1/' \"$POOL/points\" >\"$POOL/left\"; mv \"$POOL/left\" \"$POOL/points\"",
        GUIDS[0]
    );
    machine.behind("akashita-choose", &anew);
    silent(&machine.run(&[], &[]));
    assert!(machine.points().contains(&format!("4711\t{name}\n")), "{}", machine.points());
    let destroyed = machine.asked().lines().filter(|line| line.starts_with("destroy ")).count();
    assert_eq!(destroyed, 1, "the second: {}", machine.asked());
    assert!(!machine.asked().contains(&format!("destroy {name}")), "{}", machine.asked());
}

#[test]
fn what_goes_on_is_the_base_of_what_follows_with_one_reading() {
    let mut machine = Machine::new();
    machine.configure(&format!("{CONF}mode=spool\npatience=0s\n"));
    machine.server.fail("{\"call\":\"InitiateMultipartUpload\",\"do\":\"drop\"}\n");
    assert_eq!(machine.run(&[], &[]).code(), 75);
    machine.server.fail("");
    let first = machine.points().trim_end().split('\t').nth(2).unwrap().to_owned();
    machine.behind("akashita-choose", ":");
    silent(&machine.run(&[], &[]));
    assert_eq!(machine.stored(), GUIDS[..2]);
    assert!(machine.asked().contains(&format!("\nsend -i {first} ")), "{}", machine.asked());
    assert_eq!(machine.calls("akashita-choose"), 1);
}
