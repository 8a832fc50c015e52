//! akashita-status(8): what it could not look at is critical, and nothing
//! silences it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::common::machine::{Machine, silent};
use crate::common::{self, skip, start, until};

const SHELLS: [&str; 4] = ["sh", "dash", "bash", "busybox sh"];
const CONF: &str = "dest=my-vault\ndataset=tank/home\npart_size=1M\nvolume_size=1M\npatience=1s\n";

fn status(machine: &Machine, shell: &str, arguments: &[&str]) -> Option<(i32, String)> {
    let ended = machine.script_in("akashita-status", shell, arguments, &[])?;
    assert_eq!(ended.stderr, "", "{shell}");
    Some((ended.code(), ended.stdout))
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn what_could_not_be_looked_at_is_critical_in_any_sh() {
    for shell in SHELLS {
        let machine = Machine::new();
        machine.configure(CONF);
        let place = |name: &str| machine.place.path(name);
        let critical = |why: &str| {
            let (code, told) = status(&machine, shell, &[]).unwrap();
            assert!(code == 2 && told.starts_with("AKASHITA CRITICAL - "), "{shell}: {told}");
            assert!(told.contains(why), "{shell}: {why}: {told}");
        };
        let well = || {
            let (code, told) = status(&machine, shell, &[]).unwrap();
            assert!(code == 0 && told.starts_with("AKASHITA OK - "), "{shell}: {told}");
        };
        if status(&machine, shell, &[]).is_none() {
            skip(&format!("{shell}: not found, akashita-status is not tried with it"));
            continue;
        }
        silent(&machine.run(&[], &[]));
        well();
        // The spool is refused.
        mode(&place("spool"), 0o755);
        critical("; glacier-ls: ");
        mode(&place("spool"), 0o700);
        well();
        // The catalog ends inside a line, or before its end was.
        let catalog = place("catalog.jsonl");
        let whole = fs::read(&catalog).unwrap();
        fs::write(&catalog, [&whole[..], b"{\"type\":\"arch"].concat()).unwrap();
        critical("catalog.jsonl: its last line is cut");
        fs::write(&catalog, &whole).unwrap();
        well();
        fs::rename(place("spool/done"), place("done")).unwrap();
        fs::create_dir(place("spool/done")).unwrap();
        mode(&place("spool/done"), 0o700);
        let line = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        fs::write(&catalog, &whole[line..]).unwrap();
        critical("catalog.jsonl: shorter than after the last run");
        fs::write(&catalog, &whole).unwrap();
        fs::remove_dir(place("spool/done")).unwrap();
        fs::rename(place("done"), place("spool/done")).unwrap();
        well();
        // A property cannot be read.
        machine.configure(&format!("{CONF}recursive=each\n"));
        let ended =
            machine.script_in("akashita-status", shell, &[], &[("NO_PROPERTY", "1")]).unwrap();
        assert_eq!(
            (ended.code(), &*ended.stdout),
            (2, "AKASHITA CRITICAL - cannot open 'tank/home': dataset does not exist\n")
        );
        machine.configure(CONF);
        // The last run left no trace, or not that of its end.
        let trace = fs::read_to_string(place("ran")).unwrap();
        let begun = trace.lines().next().unwrap();
        fs::write(place("ran"), format!("{begun}\n")).unwrap();
        let when = begun.strip_prefix("begun ").unwrap();
        critical(&format!("; the run of {when} has left no trace of its end; "));
        fs::remove_file(place("ran")).unwrap();
        critical("; no run of akashita-backup has left its trace in ");
        assert_eq!(status(&machine, shell, &["tank/home"]).unwrap().0, 0, "{shell}: not asked");
        silent(&machine.run(&[], &[]));
        well();
        // A dataset of a run before is not in the list any more.
        fs::write(place("pool/datasets"), "21\ttank/home/more\tyes\t/tank/home/more\n").unwrap();
        machine.configure(&format!("{CONF}recursive=each\n"));
        fs::write(place("datasets"), "tank/home\ntank/home/gone\ntank/home/lost\n").unwrap();
        critical(
            "; stored before, and not in the list: tank/home/gone tank/home/lost (if that is meant, take it out of ",
        );
    }
}

#[test]
fn a_run_under_way_is_no_run_that_left_no_trace() {
    let machine = Machine::new();
    machine.configure(CONF);
    silent(&machine.run(&[], &[]));
    let mut command = machine.command_in("akashita-backup", "sh", &[], &[("HANGS", "1")]).unwrap();
    let mut run = start(&mut command);
    until("it sends", || machine.asked().contains("\nsend -i "));
    assert_eq!(status(&machine, "sh", &["-q"]).unwrap(), (0, String::new()));
    run.kill();
    fs::write(machine.place.path("pool/go"), "").unwrap();
    run.finish();
    until("what it left has ended", || status(&machine, "sh", &["-q"]).unwrap().0 == 2);
    silent(&machine.run(&[], &[]));
    assert_eq!(status(&machine, "sh", &["-q"]).unwrap(), (0, String::new()));
    // What runs have stored is known, and only of whole runs.
    let kept = || fs::read_to_string(machine.place.path("datasets")).unwrap();
    assert_eq!(kept(), "tank/home\n");
    machine.run(&["tank/none"], &[]);
    machine.run(&["-n"], &[]);
    assert_eq!(kept(), "tank/home\n");
    let trace = fs::read_to_string(machine.place.path("ran")).unwrap();
    assert_eq!(trace.lines().count(), 2, "{trace}");
}

#[test]
fn a_first_backup_is_a_warning_while_bytes_of_it_move() {
    let mut machine = Machine::new();
    machine.configure(CONF);
    // Nothing moves: the night is of no use.
    let refuse = |call: &str| {
        format!("{{\"call\":\"{call}\",\"times\":\"all\",\"do\":\"refuse\",\"status\":503}}\n")
    };
    machine.server.fail(&refuse("UploadMultipartPart"));
    assert_eq!(machine.run(&[], &[]).code(), 75);
    let (code, told) = status(&machine, "sh", &[]).unwrap();
    assert!(code == 2 && told.contains("never stored: tank/home; "), "{told}");
    assert!(told.contains("; unfinished in the spool: 1; "), "{told}");
    // Parts are taken, and it is not at its end.
    machine.server.fail(&refuse("CompleteMultipartUpload"));
    assert_eq!(machine.run(&[], &[]).code(), 75);
    for shell in SHELLS {
        let Some((code, told)) = status(&machine, shell, &[]) else { continue };
        let first = "AKASHITA WARNING - first backup under way: tank/home; ";
        assert!(code == 1 && told.starts_with(first), "{shell}: {told}");
    }
    // Of an opening that moved none it is too old.
    machine.configure(&format!("{CONF}warn_age=1s\n"));
    let begin = Instant::now();
    while status(&machine, "sh", &[]).unwrap().0 != 2 {
        assert!(begin.elapsed() < common::PATIENCE, "it does not age");
        sleep(Duration::from_millis(100));
    }
    machine.server.fail("");
    machine.configure(CONF);
    silent(&machine.run(&[], &[]));
    assert_eq!(status(&machine, "sh", &["-q"]).unwrap(), (0, String::new()));
}

#[test]
fn the_last_word_is_left_and_that_it_was_not_is_no_status() {
    for shell in SHELLS {
        let machine = Machine::new();
        machine.configure(CONF);
        let word = machine.place.path("status");
        let Some((2, told)) = status(&machine, shell, &["-w"]) else { continue };
        let left = fs::read_to_string(&word).unwrap();
        let (time, line) = left.split_once(' ').unwrap();
        assert!(time.ends_with('Z') && line == told, "{shell}: {left}");
        silent(&machine.run(&[], &[]));
        assert_eq!(status(&machine, shell, &["-qw"]).unwrap(), (0, String::new()), "{shell}");
        let left = fs::read_to_string(&word).unwrap();
        assert!(left.contains(" AKASHITA OK - "), "{shell}: {left}");
        fs::create_dir(machine.place.path("status.new")).unwrap();
        let ended = machine.script_in("akashita-status", shell, &["-qw"], &[]).unwrap();
        assert_eq!((ended.code(), &*ended.stdout), (0, ""), "{shell}");
        let why = ": the last word cannot be left there\n";
        assert!(ended.stderr.starts_with("akashita-status: ") && ended.stderr.ends_with(why));
        assert_eq!(ended.stderr.lines().count(), 1, "{shell}: {}", ended.stderr);
        assert_eq!(fs::read_to_string(&word).unwrap(), left);
    }
}

/// The machine got another name, or the catalog is of two.
#[test]
fn what_another_host_has_stored_is_told_with_its_name() {
    let machine = Machine::new();
    machine.configure(CONF);
    silent(&machine.run(&[], &[]));
    let catalog = machine.place.path("catalog.jsonl");
    let text = fs::read_to_string(&catalog).unwrap();
    let host = rustix::system::uname().nodename().to_str().unwrap().to_owned();
    let renamed = text.replace(&format!("\"host\":\"{host}\""), "\"host\":\"nas1\"");
    assert_ne!(renamed, text);
    fs::write(&catalog, renamed).unwrap();
    let (code, told) = status(&machine, "sh", &[]).unwrap();
    let why = format!("never stored: tank/home (stored by nas1, and this is {host})");
    assert!(code == 2 && told.contains(&why), "{told}");
}
