//! akashita-at(8), with an at(1) that only takes notes.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::common::machine::Machine;
use crate::common::{self, Ended, skip};

/// Keeps a job as a file, with its arguments and its environment before it.
const AT: &str = r#"#!/bin/sh
cd "${0%/*}" || exit
case $1 in
-c) cat "jobs/$2" ;;
*)
	[ ! -f refuses ] || { echo 'You do not have permission to use at.' >&2; exit 1; }
	[ "$1" = -m ] && [ "$2" = -f ] || exit 2
	number=$(($(ls jobs | wc -l) + 1))
	{ env; cat "$3"; } >"jobs/$number"
	shift 3
	printf '%s in %s\n' "$*" "$OLDPWD" >"told.$number"
	printf 'warning: commands will be executed using /bin/sh\njob %s at some time\n' "$number" >&2
	[ ! -f nobody ] || echo "Can't open /run/atd.pid to signal atd. No atd running?" >&2
	;;
esac
"#;

/// As on Linux; or, if there is a file of that name, as on FreeBSD.
const ATQ: &str = r#"#!/bin/sh
cd "${0%/*}" || exit
[ ! -f freebsd ] || printf 'Date\t\t\tOwner\t\tQueue\tJob#\n'
for job in jobs/*; do
	[ -f "$job" ] || continue
	number=${job#jobs/} queue=a user=$(id -un)
	[ ! -f runs ] || queue='='
	[ ! -f foreign ] || user=$(cat foreign)
	if [ -f freebsd ]; then
		printf 'Sun Nov 29 22:00:00 UTC 2026\t%-16s%s\t%s\n' "$user" "$queue" "$number"
	else
		printf '%s\tSun Nov 29 22:00:00 2026 %s %s\n' "$number" "$queue" "$user"
	fi
done
"#;

const WINDOW: &str = r#"#!/bin/sh
cat "${0%/*}/opens"
printf '%s\n' "$*" >"${0%/*}/window"
"#;

const BACKUP: &str = r#"#!/bin/sh
cd "${0%/*}" || exit
printf '%s\n' "$@" >backup
[ "$(cat ends)" -eq 0 ] || echo 'akashita-backup: tank/home: a reason' >&2
exit "$(cat ends)"
"#;

/// A machine with an at, and a window that opens at a time.
struct Desk {
    machine: Machine,
    path: String,
}

impl Desk {
    fn new(opens: &str) -> Self {
        let machine = Machine::new();
        let stubs = machine.place.path("stubs");
        fs::create_dir_all(stubs.join("jobs")).unwrap();
        for (name, text) in
            [("at", AT), ("atq", ATQ), ("glacier-window", WINDOW), ("akashita-backup", BACKUP)]
        {
            fs::write(stubs.join(name), text).unwrap();
            fs::set_permissions(stubs.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        fs::write(stubs.join("opens"), opens).unwrap();
        let tools = common::program("akashita-conf").parent().unwrap().to_owned();
        let path = std::env::var_os("PATH").unwrap();
        let path = [stubs, tools].into_iter().chain(std::env::split_paths(&path));
        let path = std::env::join_paths(path).unwrap().into_string().unwrap();
        Self { machine, path }
    }

    fn in_shell(&self, shell: &str, arguments: &[&str], more: &[(&str, &str)]) -> Option<Ended> {
        let more: Vec<_> = [("PATH", self.path.as_str())].iter().chain(more).copied().collect();
        self.machine.script_in("akashita-at", shell, arguments, &more)
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        self.in_shell("sh", arguments, &[]).unwrap()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.machine.place.path("stubs").join(name)
    }

    fn told(&self, name: &str) -> String {
        fs::read_to_string(self.file(name)).unwrap_or_default()
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.file(name), text).unwrap();
    }

    /// The line of a job behind its environment.
    fn job(&self, number: usize) -> String {
        let text = self.told(&format!("jobs/{number}"));
        text.lines().last().unwrap_or_default().to_owned()
    }

    fn conf(&self) -> String {
        self.machine.place.path("conf").display().to_string()
    }

    fn program(&self) -> String {
        self.machine.place.path("bin/akashita-at").display().to_string()
    }
}

/// That it was silent and succeeded.
#[track_caller]
fn silent(ended: &Ended) {
    assert_eq!((ended.code(), ended.stdout.as_str(), ended.stderr.as_str()), (0, "", ""));
}

const OPENS: &str = "202611292200\n";

#[test]
fn a_run_is_queued_once_for_the_opening_in_any_sh() {
    for shell in ["sh", "dash", "bash", "busybox sh"] {
        let desk = Desk::new(OPENS);
        desk.machine.configure("dest=my-vault\ndataset=tank/home\nwindow=22:00-06:00\ntz=UTC\n");
        let Some(first) = desk.in_shell(shell, &[], &[]) else {
            skip(&format!("{shell}: not found, akashita-at is not tried with it"));
            continue;
        };
        silent(&first);
        assert_eq!(desk.told("window"), "--next --format at --tz UTC 22:00-06:00\n", "{shell}");
        assert_eq!(desk.told("told.1").split(' ').next(), Some("-t"), "{shell}");
        assert!(desk.told("told.1").starts_with("-t 202611292200 in "), "{}", desk.told("told.1"));
        let line = format!("'{}' -r -c '{}' --", desk.program(), desk.conf());
        assert_eq!(desk.job(1), line, "{shell}");
        silent(&desk.in_shell(shell, &[], &[]).unwrap());
        assert_eq!(desk.told("told.2"), "", "{shell}: it waits already");
        silent(&desk.in_shell(shell, &["tank/home"], &[]).unwrap());
        assert_eq!(desk.job(2), format!("{line} 'tank/home'"), "{shell}: that is another run");
        desk.write("freebsd", "");
        silent(&desk.in_shell(shell, &[], &[]).unwrap());
        silent(&desk.in_shell(shell, &["tank/home"], &[]).unwrap());
        assert_eq!(desk.told("told.3"), "", "{shell}: as FreeBSD lists them");
    }
}

#[test]
fn a_job_that_runs_or_is_another_users_does_not_count() {
    for freebsd in [false, true] {
        let desk = Desk::new(OPENS);
        if freebsd {
            desk.write("freebsd", "");
        }
        silent(&desk.run(&[]));
        desk.write("foreign", "mallory");
        silent(&desk.run(&[]));
        assert_ne!(desk.told("told.2"), "", "who else queues it keeps nobody from it");
        fs::remove_file(desk.file("foreign")).unwrap();
        desk.write("runs", "");
        silent(&desk.run(&[]));
        assert_ne!(desk.told("told.3"), "", "what runs is not the next one");
    }
}

#[test]
fn a_window_that_never_closes_is_open_now() {
    let desk = Desk::new("");
    silent(&desk.run(&[]));
    assert!(desk.told("told.1").starts_with("now in "), "{}", desk.told("told.1"));
    let shown = desk.run(&["-n"]).done().stdout;
    let line = format!("'{}' -r -c '{}' --", desk.program(), desk.conf());
    assert_eq!(shown, format!("at -m now\n{line}\n"));
}

#[test]
fn nothing_is_queued_by_a_dry_run() {
    let desk = Desk::new(OPENS);
    let shown = desk.run(&["-n", "tank/a b"]).done().stdout;
    assert!(shown.starts_with("at -m -t 202611292200\n'"), "{shown}");
    assert!(shown.ends_with(" -- 'tank/a b'\n"), "{shown}");
    assert_eq!(desk.told("told.1"), "");
}

#[test]
fn names_are_never_commands_in_a_job() {
    let desk = Desk::new(OPENS);
    let victim = desk.machine.place.path("victim");
    // What no dataset can be called is refused.
    let run = format!("tank/$(touch {})", victim.display());
    for hostile in [run.as_str(), "tank/a;b", "-x", "tank/a\nb", "", "`id`", "tank/'a"] {
        let ended = desk.run(&["--", hostile]);
        assert_eq!(ended.code(), 64, "{hostile}: {}", ended.stderr);
    }
    assert_eq!(desk.told("told.1"), "");
    // A path may have any name, but for a newline.
    let directory = desk.machine.place.path(format!(
        "it's $(touch {0}) `touch {0}`; touch {0} \\ \"",
        victim.display().to_string().replace('/', "_")
    ));
    fs::create_dir(&directory).unwrap();
    let conf = directory.join("-conf");
    fs::copy(desk.machine.place.path("conf"), &conf).unwrap();
    silent(&desk.run(&["-c", conf.to_str().unwrap(), "tank/a b", "tank/c"]));
    desk.write("ends", "0");
    let ran = common::run(
        desk.machine.place.command("sh").args(["-c", &desk.job(1)]).env("PATH", &desk.path),
    );
    assert_eq!(ran.code(), 0, "{}", ran.stderr);
    let asked = format!("-c\n{}\n--\ntank/a b\ntank/c\n", conf.display());
    assert_eq!(desk.told("backup"), asked);
    let left = fs::read_dir(desk.machine.place.path("")).unwrap();
    let names = left.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(!names.into_iter().any(|name| name.ends_with("victim")), "something was run");
    let newline = desk.machine.place.path("a\nb");
    fs::copy(&conf, &newline).unwrap();
    assert_eq!(desk.run(&["-c", newline.to_str().unwrap()]).code(), 64);
}

#[test]
fn no_secret_is_in_a_job_and_it_finds_what_it_needs() {
    let desk = Desk::new(OPENS);
    let more = [
        ("AWS_SECRET_ACCESS_KEY", "hush"),
        ("AWS_SESSION_TOKEN", "hush"),
        ("HTTPS_PROXY", "http://me:hush@proxy"),
        ("AWS_PROFILE", "night shift"),
        ("TZ", "Europe/Berlin"),
    ];
    silent(&desk.in_shell("sh", &[], &more).unwrap());
    let job = desk.told("jobs/1");
    assert!(!job.contains("hush"), "{job}");
    for kept in ["AWS_PROFILE=night shift", "TZ=Europe/Berlin"] {
        assert!(job.lines().any(|line| line == kept), "{kept}: {job}");
    }
    assert!(job.contains(&format!("PATH={}", desk.path)), "{job}");
    assert!(desk.told("told.1").ends_with(" in /\n"), "no directory of the caller's");
}

#[test]
fn what_is_wrong_is_told_when_it_is_queued() {
    let desk = Desk::new(OPENS);
    for (text, code, why) in [
        ("dest=my-vault\n", 64, "no dataset; name one, or set dataset in the configuration\n"),
        ("dataset=tank/home\n", 78, ": no dest, so nowhere to store\n"),
        ("dest=my-vault\nwindow=never\n", 78, "line 2: window: 'never' is not "),
    ] {
        desk.machine.configure(text);
        let ended = desk.run(&[]);
        assert_eq!(ended.code(), code, "{}", ended.stderr);
        assert!(ended.stderr.contains(why), "{}", ended.stderr);
    }
    assert_eq!(desk.run(&["-n", "-r"]).code(), 64);
    assert_eq!(desk.run(&["-x"]).code(), 64);
    assert_eq!(desk.told("told.1"), "");
    desk.machine.configure("dest=my-vault\ndataset=tank/home\n");
    desk.write("refuses", "");
    desk.run(&[]).failed(74, "at does not queue it: You do not have permission to use at.");
    fs::remove_file(desk.file("refuses")).unwrap();
    desk.write("nobody", "");
    let ended = desk.run(&[]);
    assert_eq!(ended.code(), 0);
    assert_eq!(
        ended.stderr,
        "akashita-at: warning: at: Can't open /run/atd.pid to signal atd. No atd running?\n"
    );
}

#[test]
fn a_machine_without_at_is_told() {
    let desk = Desk::new(OPENS);
    // Programs that the script needs, and no at.
    let bin = desk.machine.place.path("few");
    fs::create_dir(&bin).unwrap();
    for name in ["sh", "sed", "id", "awk", "mktemp", "rm", "tr"] {
        let there = std::env::split_paths(&std::env::var_os("PATH").unwrap())
            .map(|directory| directory.join(name))
            .find(|file| file.is_file())
            .unwrap();
        std::os::unix::fs::symlink(there, bin.join(name)).unwrap();
    }
    for name in ["akashita-backup", "glacier-window"] {
        std::os::unix::fs::symlink(desk.file(name), bin.join(name)).unwrap();
    }
    let conf = common::program("akashita-conf");
    std::os::unix::fs::symlink(conf, bin.join("akashita-conf")).unwrap();
    let path = bin.display().to_string();
    desk.in_shell("sh", &[], &[("PATH", &path)])
        .unwrap()
        .failed(78, "no at in PATH; install at(1)");
}

#[test]
fn the_job_says_how_it_ended_in_any_sh() {
    for shell in ["sh", "dash", "bash", "busybox sh"] {
        let desk = Desk::new(OPENS);
        desk.write("ends", "0");
        let Some(well) = desk.in_shell(shell, &["-r", "tank/home"], &[]) else {
            skip(&format!("{shell}: not found, the job is not tried with it"));
            continue;
        };
        let said = "akashita-at: akashita-backup has ended well: all is stored\n";
        assert_eq!((well.code(), well.stdout.as_str(), well.stderr.as_str()), (0, said, ""));
        assert_eq!(desk.told("told.1"), "", "{shell}: nothing is left to do");

        desk.write("ends", "69");
        let ended = desk.in_shell(shell, &["-r", "tank/home"], &[]).unwrap();
        let said = format!(
            "akashita-at: akashita-backup has ended with status 69, and nothing is queued; \
             to queue it when the cause is gone: akashita-at -c '{}' 'tank/home'\n",
            desk.conf()
        );
        assert_eq!((ended.code(), ended.stdout), (69, said), "{shell}");
        assert_eq!(ended.stderr, "akashita-backup: tank/home: a reason\n", "{shell}");
        assert_eq!(desk.told("told.1"), "", "{shell}");

        desk.write("ends", "75");
        let ended = desk.in_shell(shell, &["-r", "tank/home"], &[]).unwrap();
        let said = "akashita-at: not finished, and nothing is lost; goes on by itself: 2026-11-29 22:00, job 1\n";
        assert_eq!((ended.code(), ended.stdout.as_str()), (0, said), "{shell}");
        assert_eq!(ended.stderr, "akashita-backup: tank/home: a reason\n", "{shell}");
        assert!(desk.job(1).ends_with(" -- 'tank/home'"), "{shell}: {}", desk.job(1));

        // Without an end of the window it would else try all day.
        desk.write("opens", "");
        let ended = desk.in_shell(shell, &["-r"], &[]).unwrap();
        assert!(ended.stdout.ends_with("goes on by itself: in a day, job 2\n"), "{}", ended.stdout);
        assert!(desk.told("told.2").starts_with("now + 1 day in "), "{}", desk.told("told.2"));
    }
}

#[test]
fn two_at_once_queue_one_job() {
    if !Path::new("/proc/self/comm").exists() {
        skip("no /proc: nobody tells whether a program waits; one is queued at a time");
        return;
    }
    let desk = Desk::new(OPENS);
    // Each stays between its look at the queue and its job.
    let slow = "*)\n\techo >>asked\n\tuntil [ -e go ]; do sleep 0.05; done\n";
    desk.write("at", &AT.replace("*)\n", slow));
    let path = [("PATH", desk.path.as_str())];
    let one = || {
        let mut command = desk.machine.command_in("akashita-at", "sh", &[], &path).unwrap();
        common::start(&mut command)
    };
    let asked = || desk.told("asked").lines().count();
    let first = one();
    common::until("the first is about to queue it", || asked() == 1);
    let second = one();
    let name = || fs::read_to_string(format!("/proc/{}/comm", second.id())).unwrap_or_default();
    common::until("the second is, too, or waits for the first", || {
        let waits = desk.machine.place.path("at.lock").exists() && name() == "akashita-conf\n";
        waits || asked() == 2
    });
    desk.write("go", "");
    silent(&first.finish());
    silent(&second.finish());
    assert_eq!(fs::read_dir(desk.file("jobs")).unwrap().count(), 1);
}
