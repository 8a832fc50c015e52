//! Two configurations on one pool: what is of one is nothing to the other.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use crate::backup::stages::names;
use crate::common::machine::{GUIDS, Machine, silent};
use crate::common::{start, until};

const CONF: &str = "dest=my-vault\ndataset=tank/home\npart_size=1M\nvolume_size=1M\n";

const TAR: &str = "format=tar\nlocal_keep=1\n";

impl Machine {
    /// Another configuration, with a vault and a state directory of its own.
    fn second(&self, more: &str) {
        let state = self.place.path("second");
        let text = CONF.replace("my-vault", "other-vault");
        let file = self.place.path("conf2");
        fs::write(&file, format!("{text}{more}state={}\n", state.display())).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        self.sh("glacier-put --create-vault --allow-empty other-vault </dev/null");
    }

    fn run_second(&self) {
        // Of an option that comes twice the last one counts.
        let conf = self.place.path("conf2");
        silent(&self.run(&["-c", conf.to_str().unwrap()], &[]));
    }

    /// A tar that waits, if `WAITS` is set, and then does `BEFORE`.
    fn slow_tar(&self) {
        let bin = self.place.path("bin");
        let _ = fs::create_dir(&bin);
        let text = "#!/bin/sh\n[ -z \"${WAITS-}\" ] || { : >\"$POOL/waits\"
            until [ -e \"$POOL/go\" ]; do sleep 0.05; done; }
            [ -z \"${BEFORE-}\" ] || sh -c \"$BEFORE\"\nPATH=${PATH#*:} exec tar \"$@\"\n";
        // By another program, as in `script_in`.
        let mut write = Command::new("sh");
        write.args(["-c", "printf %s \"$1\" >\"$0\" && chmod 755 \"$0\""]);
        assert!(write.arg(bin.join("tar")).arg(text).status().unwrap().success());
    }

    fn files(&self) {
        fs::create_dir_all(self.place.path("pool/files")).unwrap();
        fs::write(self.place.path("pool/files/photo"), "of the snapshot").unwrap();
    }

    /// Takes the marks away, as an earlier version has none.
    fn as_made_earlier(&self) {
        let id = self.id();
        fs::write(self.place.path("pool/properties"), "").unwrap();
        fs::write(self.place.path("pool/points"), self.points().replace(&format!("-{id}"), ""))
            .unwrap();
    }
}

#[test]
fn a_clone_of_another_is_not_dropped_while_tar_is_late() {
    let machine = Machine::new();
    machine.files();
    machine.configure(&format!("{CONF}{TAR}"));
    machine.second(TAR);
    machine.slow_tar();
    let mut first = machine.command_in("akashita-backup", "sh", &[], &[("WAITS", "1")]).unwrap();
    let first = start(&mut first);
    until("tar has begun", || machine.place.path("pool/waits").exists());
    machine.run_second();
    fs::write(machine.place.path("pool/go"), "").unwrap();
    let ended = first.finish();
    let records = machine.records();
    assert_eq!(records.len(), 1);
    let listed = names(&machine, records[0]["name"].as_str().unwrap(), "cat");
    assert_eq!(listed, ["./", "./photo"]);
    silent(&ended);
    assert_eq!(fs::read_to_string(machine.place.path("pool/clones")).unwrap(), "");
}

#[test]
fn what_tar_reads_is_the_snapshot_or_no_backup() {
    let machine = Machine::new();
    machine.files();
    machine.configure(&format!("{CONF}{TAR}"));
    machine.slow_tar();
    // Whoever it is: what is read then is the bare mount point.
    let drop = "zfs destroy $(cut -f 1 \"$POOL/clones\")";
    let ended = machine.run(&[], &[("BEFORE", drop)]);
    assert_eq!(ended.code(), 65, "{}", ended.stderr);
    assert!(ended.stderr.contains(": is not mounted; "), "{}", ended.stderr);
    assert!(machine.records().is_empty());
    silent(&machine.run(&[], &[]));
    assert_eq!(machine.records().len(), 2, "that one, and a new one");
}

#[test]
fn of_clones_with_the_name_of_an_earlier_version_its_own_goes() {
    let machine = Machine::new();
    machine.files();
    machine.configure(&format!("{CONF}{TAR}"));
    let clones = machine.place.path("pool/clones");
    for (mountpoint, goes) in [
        ("/elsewhere/files".to_owned(), false),
        (format!("{}/files", machine.place.path("").display()), true),
    ] {
        let old = format!("tank/akashita-tar\ttank/home@akashita-tar:20\t{mountpoint}\n");
        fs::write(&clones, &old).unwrap();
        silent(&machine.run(&[], &[]));
        let left = fs::read_to_string(&clones).unwrap();
        assert_eq!(left, if goes { String::new() } else { old });
    }
    assert_eq!(machine.records().len(), 2);
}

#[test]
fn a_snapshot_of_another_that_is_unfinished_stays_its_own() {
    let mut machine = Machine::new();
    machine.files();
    machine.configure(&format!("{CONF}{TAR}patience=0s\n"));
    machine.second(TAR);
    machine.server.fail("{\"call\":\"InitiateMultipartUpload\",\"do\":\"drop\"}\n");
    assert_eq!(machine.run(&[], &[]).code(), 75);
    machine.server.fail("");
    let unfinished = machine.points();
    assert_eq!(unfinished.lines().count(), 1);
    for _ in 0..2 {
        machine.run_second();
        assert!(machine.points().starts_with(&unfinished), "{}", machine.points());
    }
    let name = unfinished.trim_end().split('\t').nth(2).unwrap().to_owned();
    for taken in [format!("release akashita-tar {name}"), format!("send {name}")] {
        assert!(!machine.asked().contains(&taken), "{}", machine.asked());
    }
    let second = fs::read_to_string(machine.place.path("second/catalog.jsonl")).unwrap();
    assert!(!second.contains(&name), "{second}");
    silent(&machine.run(&[], &[]));
    assert_eq!(machine.records()[0]["name"], format!("{name}.tar"), "its first");
    let release = format!("release akashita-tar-{} {name}", machine.id());
    assert!(machine.asked().contains(&release), "{}", machine.asked());
}

#[test]
fn what_an_earlier_version_made_and_did_not_finish_goes_on() {
    let mut machine = Machine::new();
    machine.configure(&format!("{CONF}local_keep=1\nmode=spool\npatience=0s\n"));
    silent(&machine.run(&[], &[]));
    machine.server.fail("{\"call\":\"InitiateMultipartUpload\",\"do\":\"drop\"}\n");
    assert_eq!(machine.run(&[], &[]).code(), 75);
    machine.server.fail("");
    machine.as_made_earlier();
    fs::remove_file(machine.place.path("id")).unwrap();
    // Of the first there is the bookmark alone, and one that nobody knows.
    let points = machine.points();
    let points: Vec<&str> = points.lines().collect();
    let [first, bookmark, second] = points[..] else { panic!("{points:?}") };
    assert!(first.contains('@') && bookmark.contains("#akashita:20") && bookmark.ends_with('Z'));
    let unknown = "5\t99\ttank/home@akashita:2026-01-01T00:00:00Z";
    fs::write(machine.place.path("pool/points"), format!("{unknown}\n{bookmark}\n{second}\n"))
        .unwrap();
    let before = machine.asked().len();

    silent(&machine.run(&[], &[]));
    assert_eq!(machine.stored(), GUIDS);
    let second = second.split('\t').nth(2).unwrap();
    let asked = machine.asked().split_off(before);
    assert!(!asked.contains("send -i tank/home#akashita:20"), "from the spool: {asked}");
    assert!(asked.contains(&format!("release akashita {second}\n")), "{asked}");
    assert!(asked.contains(&format!("send -i {second} ")), "{asked}");
    assert!(asked.contains(&format!("\ndestroy {second}\n")), "{asked}");
    let unknown = unknown.split('\t').nth(2).unwrap();
    for touched in ["release", "destroy", "send", "bookmark"] {
        assert!(!asked.lines().any(|line| line.starts_with(touched) && line.contains(unknown)));
    }
    let log = fs::read_to_string(machine.place.path("log")).unwrap();
    assert!(log.contains(&format!(" {unknown}: made by an earlier version or ")), "{log}");
}

#[test]
fn with_the_state_lost_what_is_stored_is_known_by_its_guid() {
    let machine = Machine::new();
    machine.configure(&format!("{CONF}local_keep=1\n"));
    silent(&machine.run(&[], &[]));
    let before = machine.points();
    fs::remove_file(machine.place.path("id")).unwrap();
    silent(&machine.run(&[], &[]));
    assert_eq!(machine.stored(), GUIDS[..2]);
    assert!(machine.asked().contains("send -i tank/home@akashita:20"), "{}", machine.asked());
    assert!(machine.points().starts_with(&before), "of another it may be: {}", machine.points());
}
