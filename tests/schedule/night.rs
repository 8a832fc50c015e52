//! For real: cron(8) and atd(8) start what etc/ and akashita-at(8) tell them,
//! and the mail that a user finds in the morning is read in a mailbox.
//!
//! All of it runs in namespaces of its own, see tests/schedule/night. cron
//! believes that it is an instant before the time of its line; what it starts
//! knows the real time.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::local::REGION;
use crate::common::machine::{GUIDS, Machine};
use crate::common::{Running, program, skip, start};
use crate::schedule::installed::crontab_in_force;

/// A minute of at(1), and what comes after it on a busy machine.
const A_WHILE: Duration = Duration::from_mins(4);

/// What is in the directories of programs here.
const TOOLS: [&str; 8] = [
    "akashita-choose",
    "akashita-conf",
    "akashita-receive",
    "glacier-chain",
    "glacier-chunk",
    "glacier-ls",
    "glacier-put",
    "glacier-window",
];

/// A machine where the suite is installed, with a mailbox.
pub struct Night {
    pub machine: Machine,
    shell: Running,
}

/// A mail, without what machines have to say.
#[derive(Debug, PartialEq, Eq)]
pub struct Mail {
    pub subject: String,
    pub body: String,
}

/// Waits until something is so.
#[track_caller]
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < A_WHILE, "not so after a while: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Whether all is here that these tests need; says what is not.
fn is_possible() -> bool {
    let path = std::env::var_os("PATH").unwrap();
    let mut path: Vec<PathBuf> = std::env::split_paths(&path).collect();
    path.extend(["/usr/sbin".into(), "/sbin".into()]);
    for name in ["at", "cron", "exim4", "faketime", "unshare"] {
        if !path.iter().any(|directory| directory.join(name).is_file()) {
            skip(&format!("{name}: not found, nothing starts by itself"));
            return false;
        }
    }
    let mut private = Command::new("unshare");
    private.args(["--mount", "--pid", "--fork", "mount", "-t", "tmpfs", "x", "/run"]);
    let private = private.stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !private.is_ok_and(|status| status.success()) {
        skip("unshare: not allowed, nothing starts by itself; run the tests as root");
        return false;
    }
    true
}

impl Night {
    /// One that has stored nothing; none if this machine cannot have one.
    pub fn new(conf: &str) -> Option<Self> {
        if !is_possible() {
            return None;
        }
        let machine = Machine::new();
        let at = |name: &str| machine.place.path(name);
        for name in ["bin", "etc", "home", "home/.aws"] {
            fs::create_dir_all(at(name)).unwrap();
        }
        for name in TOOLS {
            symlink(program(name), at("bin").join(name)).unwrap();
        }
        for entry in fs::read_dir(top().join("scripts")).unwrap() {
            let entry = entry.unwrap();
            if entry.file_name().to_str().unwrap().starts_with("akashita-") {
                symlink(entry.path(), at("bin").join(entry.file_name())).unwrap();
            }
        }
        let night = Self {
            shell: start(
                Command::new("unshare")
                    .args(["--mount", "--pid", "--fork", "--kill-child"])
                    .arg(top().join("tests/schedule/night"))
                    .arg(machine.place.path(""))
                    .arg("sh")
                    .env_clear()
                    .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
                    .env("HOME", at("home"))
                    .env("LOGNAME", "root")
                    .current_dir("/")
                    .stdin(Stdio::piped()),
            ),
            machine,
        };
        night.install(
            "zfs",
            &format!(
                "export POOL='{}' STREAMS='{}'\n[ ! -f \"$POOL/dies\" ] || export DIES=1\nexec '{}' \"$@\"\n",
                night.path("pool").display(),
                top().join("tests/streams").display(),
                top().join("tests/backup/zfs").display()
            ),
        );
        night.configure(conf);
        let keys = fs::read(night.path("server/credentials")).unwrap();
        fs::write(night.path("home/.aws/credentials"), keys).unwrap();
        Some(night)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.machine.place.path(name)
    }

    /// Puts a script of the test into /usr/local/bin.
    pub fn install(&self, name: &str, text: &str) {
        let file = self.path("bin").join(name);
        let _ = fs::remove_file(&file);
        fs::write(&file, format!("#!/bin/sh\n{text}")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Writes /usr/local/etc/akashita.conf.
    pub fn configure(&self, more: &str) {
        let text = format!(
            "dest=my-vault\ndataset=tank/home\npart_size=1M\nvolume_size=1M\n\
             region={REGION}\nendpoint_url={}\nstate={}\n{more}",
            self.machine.server.endpoint,
            self.path("").display()
        );
        fs::write(self.path("etc/akashita.conf"), text).unwrap();
    }

    /// Gives a line to the shell of root there.
    pub fn tell(&mut self, line: &str) {
        assert!(self.shell.give(format!("{line}\n").as_bytes()), "the night is over");
    }

    /// What a command prints there, standard error too.
    pub fn ask(&mut self, line: &str) -> String {
        self.tell(&format!("{{ {line}; }} 2>&1; echo end of it"));
        let mut said = String::new();
        loop {
            let line = self.shell.line().expect("the night is over");
            if line == "end of it\n" {
                return said;
            }
            said.push_str(&line);
        }
    }

    /// Starts cron with a crontab, an instant before a time.
    pub fn cron(&mut self, crontab: &Path, time: &str) {
        let said = self.ask(&format!(
            "cp '{}' /etc/cron.d/akashita && chmod 644 /etc/cron.d/akashita",
            crontab.display()
        ));
        assert_eq!(said, "");
        self.tell(&format!("faketime '{time}' cron -f &"));
    }

    /// The mails that were delivered, the oldest first.
    pub fn mails(&self) -> Vec<Mail> {
        let mailbox = fs::read_to_string(self.path("mail/root")).unwrap_or_default();
        let mails = format!("\n{mailbox}");
        let mails = mails.split("\nFrom ").skip(1).map(|mail| {
            let (head, body) = mail.split_once("\n\n").unwrap_or((mail, ""));
            let subject = head.lines().find_map(|line| line.strip_prefix("Subject: "));
            let subject = subject.unwrap_or_default().split_whitespace().collect::<Vec<_>>();
            Mail { subject: subject.join(" "), body: body.trim_end().to_owned() }
        });
        mails.collect()
    }

    /// Waits for a mail behind the first few.
    #[track_caller]
    pub fn mail(&self, number: usize) -> Mail {
        until(&format!("mail {number}"), || self.mails().len() > number);
        self.mails().remove(number)
    }
}

/// The lines of a crontab for the system: when, who and what.
pub fn lines(crontab: &str) -> Vec<(Vec<&str>, &str, &str)> {
    let lines = crontab.lines().filter(|line| {
        let first = line.split_whitespace().next().unwrap_or("#");
        !first.starts_with('#') && !first.contains('=')
    });
    lines
        .map(|line| {
            let mut words = line.splitn(3, '\t');
            let when = words.next().unwrap().split(' ').collect();
            (when, words.next().unwrap(), words.next().unwrap())
        })
        .collect()
}

/// An instant before a line's time, on a day that it means.
fn before(when: &[&str]) -> String {
    let number = |field: usize, other: i8| when[field].parse::<i8>().unwrap_or(other);
    let mut day = jiff::civil::date(2026, 11, number(2, 10));
    if when[4] != "*" {
        while day.weekday().to_sunday_zero_offset() != number(4, 0) % 7 {
            day = day.tomorrow().unwrap();
        }
    }
    let time = day.at(number(1, 12), number(0, 0), 0, 0) - jiff::Span::new().seconds(2);
    time.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

#[test]
fn cron_starts_each_line_of_the_crontab_at_its_time_as_root() {
    let crontab = crontab_in_force();
    let crontab = &crontab;
    std::thread::scope(|scope| {
        for (when, user, command) in lines(crontab) {
            scope.spawn(move || {
                let Some(mut night) = Night::new("") else { return };
                let name = command.split(' ').next().unwrap();
                assert_eq!(user, "root", "{command}");
                night.install(
                    name,
                    &format!(
                        "printf '%s' \"${{0##*/}}\" >>'{0}'\nprintf ' %s' \"$@\" >>'{0}'\n",
                        night.path("started").display()
                    ),
                );
                let file = night.path("crontab");
                fs::write(&file, crontab).unwrap();
                night.cron(&file, &before(&when));
                until(command, || night.path("started").exists());
                until(command, || {
                    let started = fs::read_to_string(night.path("started")).unwrap();
                    started.trim_end() == command
                });
            });
        }
    });
}

#[test]
fn cron_mails_one_line_of_what_failed_and_nothing_of_what_did_not() {
    let Some(mut night) = Night::new("") else { return };
    let evening = before(&["0", "22", "*", "*", "*"]);
    night.cron(&top().join("etc/crontab"), &evening);
    until("a snapshot is stored", || night.machine.stored() == GUIDS[..1]);
    until("the run has ended", || night.ask("ps -eo args").matches("akashita-backup").count() == 0);
    assert_eq!(night.mails(), [], "all is well");

    fs::write(night.path("pool/dies"), "").unwrap();
    night.tell("kill $(cat /run/crond.pid)");
    until("cron has ended", || !night.ask("ps -eo args").contains("cron -f"));
    night.cron(&top().join("etc/crontab"), &evening);
    let mail = night.mail(0);
    assert!(mail.subject.ends_with("akashita-backup -q"), "{mail:?}");
    let log = night.path("log");
    let lines: Vec<&str> = mail.body.lines().collect();
    let [line] = lines[..] else { panic!("{mail:?}") };
    assert!(line.starts_with("akashita-backup: tank/home@akashita:2"), "{line}");
    assert!(line.contains(": glacier-put: stream: ends inside record "), "the reason: {line}");
    let conf = "/usr/local/etc/akashita.conf";
    let ends = format!("; log: {}; again: akashita-backup -c {conf} tank/home", log.display());
    assert!(line.ends_with(&ends), "{line}");
    assert!(fs::read_to_string(&log).unwrap().contains(", status 65"));

    // What the mail says to run is all that it takes.
    fs::remove_file(night.path("pool/dies")).unwrap();
    let again = line.rsplit_once("again: ").unwrap().1;
    assert_eq!(night.ask(again), "");
    assert_eq!(night.machine.stored(), GUIDS);
}

#[test]
fn cron_mails_what_the_status_has_to_say() {
    let Some(mut night) = Night::new("") else { return };
    night.cron(&top().join("etc/crontab"), &before(&["0", "8", "*", "*", "*"]));
    let mail = night.mail(0);
    assert!(mail.subject.ends_with("akashita-status -qw"), "{mail:?}");
    let (begins, ends) = (
        "AKASHITA CRITICAL - never stored: tank/home; no run of ",
        "/ran; verified: never; drilled: never",
    );
    assert!(mail.body.starts_with(begins) && mail.body.ends_with(ends), "{mail:?}");
}

/// A window that opens with a minute that is at least half a minute ahead, and
/// was closed since two before it.
fn opening() -> String {
    let now = jiff::ZonedDateTime::now();
    let opens = &now + jiff::Span::new().minutes(if now.second() > 30 { 2 } else { 1 });
    let closes = &opens - jiff::Span::new().minutes(3);
    format!("window={}-{}\n", opens.strftime("%H:%M"), closes.strftime("%H:%M"))
}

#[test]
fn at_starts_the_run_when_the_window_opens_and_mails_that_all_is_stored() {
    let Some(mut night) = Night::new("") else { return };
    night.tell("atd -f &");
    until("atd is there", || night.ask("ls /run").contains("atd.pid"));
    night.configure(&opening());
    assert_eq!(night.ask("akashita-at"), "");
    assert_eq!(night.ask("akashita-at"), "", "queued already");
    let queue = night.ask("atq");
    assert_eq!(queue.lines().count(), 1, "{queue}");
    assert!(night.machine.stored().is_empty(), "the window is closed");
    let mail = night.mail(0);
    assert_eq!(mail.subject, "Output from your job 1");
    assert_eq!(mail.body, "akashita-at: akashita-backup has ended well: all is stored");
    assert_eq!(night.machine.stored(), GUIDS[..1]);
    assert_eq!(night.ask("atq"), "");
}

#[test]
fn at_goes_on_at_the_next_opening_with_what_was_not_finished() {
    // It is closed now, wherever the night is.
    let now = jiff::ZonedDateTime::now();
    let hour = |hours: i64| (&now + jiff::Span::new().hours(hours)).strftime("%H:00").to_string();
    let Some(mut night) = Night::new(&format!("window={}-{}\n", hour(2), hour(8))) else { return };
    let free = night.path("free");
    night.tell(&format!(
        "akashita-conf --lock backup -- sh -c 'until [ -e {} ]; do sleep 0.1; done' &",
        free.display()
    ));
    until("the lock is taken", || night.path("backup.lock").exists());
    let warned = night.ask("akashita-at 'tank/home'");
    assert!(warned.starts_with("akashita-at: warning: at: Can't open /run/atd.pid"), "{warned}");
    // For atd it is tomorrow, so each job is due at once.
    night.tell("faketime -f +1d atd -f &");
    // The second job mails, too, and perhaps first.
    let of_the_first = |mail: &Mail| mail.subject == "Output from your job 1";
    until("its mail is there", || night.mails().iter().any(of_the_first));
    let mail = night.mails().into_iter().find(of_the_first).unwrap();
    let lines: Vec<&str> = mail.body.lines().collect();
    let [why, then] = lines[..] else { panic!("{mail:?}") };
    assert!(why.starts_with("akashita-conf: backup: another is under way, process "), "{why}");
    let opens = hour(2);
    assert!(
        then.starts_with("akashita-at: not finished, and nothing is lost; goes on by itself: ")
    );
    assert!(then.ends_with(&format!(" {opens}, job 2")), "{then}");
    // By the real clock that is in two hours, so it is opened.
    night.configure("");
    fs::write(&free, "").unwrap();
    let well = "akashita-at: akashita-backup has ended well: all is stored";
    until("a mail of the end", || night.mails().last().unwrap().body == well);
    assert_eq!(night.machine.stored().len(), 1);
}

#[test]
fn at_mails_what_failed_and_how_to_go_on() {
    let Some(mut night) = Night::new("") else { return };
    fs::write(night.path("pool/dies"), "").unwrap();
    night.tell("atd -f &");
    until("atd is there", || night.ask("ls /run").contains("atd.pid"));
    assert_eq!(night.ask("akashita-at"), "");
    let mail = night.mail(0);
    let lines: Vec<&str> = mail.body.lines().collect();
    let [why, then] = lines[..] else { panic!("{mail:?}") };
    assert!(why.starts_with("akashita-backup: tank/home@akashita:2"), "{why}");
    assert_eq!(
        then,
        "akashita-at: akashita-backup has ended with status 65, and nothing is queued; \
         to queue it when the cause is gone: akashita-at -c '/usr/local/etc/akashita.conf'"
    );
    // What the mail says to run is all that it takes.
    fs::remove_file(night.path("pool/dies")).unwrap();
    assert_eq!(night.ask(then.rsplit_once("gone: ").unwrap().1), "");
    assert!(night.mail(1).body.ends_with("all is stored"), "{:?}", night.mails());
    assert_eq!(night.machine.stored(), GUIDS[..2]);
}
