//! The script for periodic(8) of FreeBSD, with what that system gives it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::common::{Ended, Place, run, skip};
use crate::schedule::installed::etc;

const SCRIPT: &str = "periodic/daily/490.akashita";

/// As FreeBSD's: a function that reads what the machine says, and no care for
/// what is not set.
const DEFAULTS: &str = "periodic_conf_files=CONF\n\
    source_periodic_confs() {\n\
    \tfor i in ${periodic_conf_files} ${not_there}; do [ -r $i ] && . $i; done\n\
    }\n";

/// Runs it in a shell where the machine says this, and our scripts exit so.
fn periodic(place: &Place, shell: &str, conf: &str, status: u8, at: u8) -> Option<Ended> {
    let bin = place.path("bin");
    let _ = fs::create_dir(&bin);
    for (name, code) in [("akashita-status", status), ("akashita-at", at)] {
        let told = format!(
            "#!/bin/sh\necho \"{name} $*\" >>'{}'\n[ {name} = akashita-at ] || echo a line\nexit {code}\n",
            place.path("ran").display()
        );
        fs::write(bin.join(name), told).unwrap();
        fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let local = place.path("periodic.conf");
    fs::write(&local, conf).unwrap();
    let defaults = place.path("defaults");
    fs::write(&defaults, DEFAULTS.replace("CONF", local.to_str().unwrap())).unwrap();
    let script = fs::read_to_string(etc(SCRIPT)).unwrap();
    let script = script.replace("/etc/defaults/periodic.conf", defaults.to_str().unwrap());
    fs::write(place.path("script"), script).unwrap();
    let mut path = vec![bin];
    path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap()));
    let mut words = shell.split(' ');
    let program = words.next().unwrap();
    if !path.iter().any(|directory| directory.join(program).is_file()) {
        return None;
    }
    let mut command = place.command(program);
    command.args(words).arg(place.path("script")).env("PATH", std::env::join_paths(path).unwrap());
    Some(run(&mut command))
}

fn ran(place: &Place) -> String {
    let ran = fs::read_to_string(place.path("ran")).unwrap_or_default();
    let _ = fs::remove_file(place.path("ran"));
    ran
}

#[test]
fn periodic_tells_of_the_status_and_queues_a_run_in_any_sh() {
    for shell in ["sh", "dash", "bash", "busybox sh"] {
        let place = Place::default();
        let Some(ended) = periodic(&place, shell, "", 0, 0) else {
            skip(&format!("{shell}: not found, periodic is not tried with it"));
            continue;
        };
        assert_eq!(ended.done().stdout, "", "{shell}: it is off by default");
        assert_eq!(ran(&place), "", "{shell}");
        let on = "daily_akashita_enable=YES\n";
        for (status, told) in [(0, 0), (1, 1), (2, 3)] {
            let ended = periodic(&place, shell, on, status, 0).unwrap();
            assert_eq!((ended.code(), ended.stdout.as_str()), (told, "\nAkashita:\na line\n"));
            assert_eq!(ran(&place), "akashita-status \n", "{shell}");
        }
        let both = "daily_akashita_enable=\"yes\"\ndaily_akashita_queue=\"yes\"\n\
                    daily_akashita_conf=\"/a b\"\n";
        for (status, at, told) in [(0, 0, 0), (0, 74, 3), (0, 78, 2), (2, 78, 3), (1, 0, 1)] {
            let ended = periodic(&place, shell, both, status, at).unwrap();
            assert_eq!(ended.code(), told, "{shell}: {status} {at}");
            assert_eq!(ran(&place), "akashita-status -c /a b\nakashita-at -c /a b\n", "{shell}");
        }
    }
}

#[test]
fn periodic_says_that_the_suite_is_not_installed() {
    if Path::new("/usr/local/bin/akashita-status").exists() {
        skip("periodic: the suite is installed here");
        return;
    }
    let place = Place::default();
    let mut script = place.command("sh");
    script.arg(etc(SCRIPT)).env("daily_akashita_enable", "YES");
    let ended = run(&mut script);
    let said = "\nAkashita:\nakashita-status: not found\n";
    assert_eq!((ended.code(), ended.stdout.as_str(), ended.stderr.as_str()), (2, said, ""));
}
