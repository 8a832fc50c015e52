//! The scripts that can meet: on a pool that is a file, with one configuration
//! or two.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::pool;
use super::scene::{Scene, Stream, holds};
use crate::common::{PLANTED, program};
use crate::rig::VAULT;

/// Where other scripts than those beside this are.
const SCRIPTS: &str = "AKASHITA_SCRIPTS";

/// The guid of what is stored at first.
const GUID: &str = "13202105433093045432";

/// What tests/backup/zfs is not, and ZFS is: one change at a time.
const ZFS: &str = r#"#!/bin/sh
case $1 in
send) exec "$REAL_ZFS" "$@" ;;
snapshot)
	exec 9>"$POOL.lock"
	flock 9
	cd "$POOL"
	# Of a fourth there is no stream: nothing has changed since the third.
	[ "$(wc -l <snapshots)" -ge 3 ] || exec "$REAL_ZFS" "$@"
	for last; do :; done
	printf '%s\t16664242196063039650\t%s\n' $((1000 + $(wc -l <points))) "$last" >>points
	;;
receive)
	came=$(mktemp)
	cat >"$came"
	status=0
	flock "$POOL.lock" "$REAL_ZFS" "$@" <"$came" || status=$?
	rm "$came"
	exit "$status"
	;;
*) exec flock "$POOL.lock" "$REAL_ZFS" "$@" ;;
esac
"#;

/// Keeps a job as a file.
const AT: &str = r#"#!/bin/sh
cd "${0%/*}" || exit
case $1 in
-c) cat "jobs/$2" ;;
*)
	exec 9>lock
	flock 9
	number=$(($(ls jobs | wc -l) + 1))
	cat "$3" >"jobs/$number"
	printf 'job %s at some time\n' "$number" >&2
	;;
esac
"#;

const ATQ: &str = r#"#!/bin/sh
cd "${0%/*}" || exit
for job in jobs/*; do
	[ ! -f "$job" ] || printf '%s\tSun Nov 29 22:00:00 2026 a %s\n' "${job#jobs/}" "$(id -un)"
done
"#;

/// A script at work.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Script {
    /// akashita-backup.
    Backup,
    /// akashita-restore, into files.
    Restore,
    /// akashita-restore, into a dataset.
    Receive,
    /// akashita-drill, of the first configuration or the second.
    Drill(u8),
    /// akashita-prune -y.
    Prune,
    /// akashita-verify.
    Verify,
    /// akashita-status.
    Status,
    /// akashita-at.
    At,
    /// akashita-backup of files on a pool of zfs-fuse, by the first
    /// configuration or the second.
    Files(u8),
}

impl Script {
    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Restore => "restore -f",
            Self::Receive => "restore",
            Self::Drill(1) => "drill",
            Self::Drill(_) => "drill of another",
            Self::Prune => "akashita-prune",
            Self::Verify => "akashita-verify",
            Self::Status => "status",
            Self::At => "at",
            Self::Files(1) => "backup of files",
            Self::Files(_) => "backup of other files",
        }
    }

    /// The command.
    pub fn command(self, scene: &Scene) -> Command {
        let files = scene.place.path("out").display().to_string();
        let (script, arguments): (_, &[&str]) = match self {
            Self::Backup | Self::Files(_) => ("backup", &[]),
            Self::Restore => ("restore", &["-f", &files, GUID]),
            Self::Receive => ("restore", &[GUID, "tank/back"]),
            Self::Drill(_) => ("drill", &["-t", "Expedited"]),
            Self::Prune => ("prune", &["-y"]),
            Self::Verify => ("verify", &["-t", "Expedited"]),
            // Of all that is configured it asks for the trace of a run, too.
            Self::Status => ("status", &["tank/home"]),
            Self::At => ("at", &[]),
        };
        let conf = if matches!(self, Self::Drill(2) | Self::Files(2)) { "conf.2" } else { "conf" };
        let script = format!("akashita-{script}");
        let top = Path::new(env!("CARGO_MANIFEST_DIR"));
        let scripts = std::env::var_os(SCRIPTS).map_or(top.join("scripts"), PathBuf::from);
        let tools = program("glacier-chunk").parent().unwrap().to_owned();
        let mut path = vec![scene.place.path("bin"), scripts.clone(), tools];
        path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap()));
        let mut command = scene.place.command(scripts.join(script).to_str().unwrap());
        command.arg("-c").arg(scene.place.path(conf)).args(arguments);
        scene.server.client(&mut command);
        command
            .env_remove("GLACIER_SPOOL")
            .env_remove("GLACIER_CATALOG")
            .env("PATH", std::env::join_paths(path).unwrap())
            .env("TMPDIR", scene.place.path("tmp"))
            .env("REAL_ZFS", top.join("tests/backup/zfs"))
            .env("POOL", scene.place.path("pool"))
            .env("STREAMS", top.join("tests/streams"))
            .envs(std::env::var_os(PLANTED).map(|fault: OsString| (PLANTED, fault)));
        command
    }

    /// Whether it may end so.
    pub fn may_end(self, code: i32) -> bool {
        // What is stored is not old, whatever the other does.
        code == 0 || (code == 75 && self != Self::Status)
    }

    /// That it has done what its 0 says.
    pub fn kept(self, scene: &Scene) -> Result<(), String> {
        match self {
            Self::Backup => match stored(scene).len() {
                0 | 1 => Err("0, and nothing more is stored".to_owned()),
                _ => Ok(()),
            },
            Self::Restore => {
                let file = scene.place.path(format!("out/001-{GUID}.zfs"));
                let is_whole = holds(&file, &Stream::Full.bytes());
                if is_whole { Ok(()) } else { Err("0, and other bytes in the file".to_owned()) }
            }
            Self::Receive => {
                let points = fs::read_to_string(scene.place.path("pool/points")).unwrap();
                let is_there = |line: &str| line.contains("\ttank/back@") && line.contains(GUID);
                if points.lines().any(is_there) {
                    Ok(())
                } else {
                    Err("0, and the snapshot is not there".to_owned())
                }
            }
            Self::At => match fs::read_dir(scene.place.path("bin/jobs")).unwrap().count() {
                1 => Ok(()),
                count => Err(format!("0, and {count} jobs wait")),
            },
            Self::Files(number) => pool::comes_back(scene, number),
            _ => Ok(()),
        }
    }
}

/// The guids of what is stored.
fn stored(scene: &Scene) -> Vec<String> {
    let catalog = scene.catalog();
    let lines = catalog.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let stored = lines.filter(|line| line["type"] == "stored");
    stored.filter_map(|line| line["guid"].as_str().map(str::to_owned)).collect()
}

/// A machine that has stored one snapshot: a pool, an at and configurations.
pub fn furnish(scene: &Scene) {
    let place = &scene.place;
    for directory in ["pool", "tmp", "bin/jobs", "home.2"] {
        fs::create_dir_all(place.path(directory)).unwrap();
    }
    for (name, text) in [("zfs", ZFS), ("at", AT), ("atq", ATQ)] {
        // Another program writes it: what this one has open while another
        // thread starts something is a busy file there.
        let mut write = Command::new("sh");
        write.args(["-c", "printf %s \"$1\" >\"$0\" && chmod 755 \"$0\""]);
        assert!(write.arg(place.path("bin").join(name)).arg(text).status().unwrap().success());
    }
    let name = "tank/home@akashita:2026-11-01T00:00:00Z";
    let points = format!("10\t{GUID}\t{name}\n");
    fs::write(place.path("pool/points"), points).unwrap();
    fs::write(place.path("pool/snapshots"), format!("{name}\n")).unwrap();
    fs::write(place.path("pool/datasets"), "-\ttank/drill\n").unwrap();
    let home = place.path("home");
    let home = home.display();
    let text = format!(
        "dest={VAULT}\ndataset=tank/home\npart_size=1M\nvolume_size=2M\ntier=Expedited\n\
         max_cost=5\nkeep=last=1\ndrill=tank/drill\ncatalog={home}/catalog.jsonl\n\
         spool={home}/spool\nwarn_age=9999d\nfail_age=9999d\n"
    );
    configure(scene, "conf", "home", &text);
    configure(scene, "conf.2", "home.2", &text);
}

/// Writes a configuration with a state directory.
pub fn configure(scene: &Scene, conf: &str, state: &str, text: &str) {
    let file = scene.place.path(conf);
    fs::write(&file, format!("{text}state={}\n", scene.place.path(state).display())).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
}

/// What must be so in the end: nothing of a drill is left, unless one was killed
/// before it had written down what it made.
pub fn everything(scene: &Scene, was_killed: bool) -> Result<(), String> {
    let datasets = fs::read_to_string(scene.place.path("pool/datasets")).unwrap_or_default();
    if datasets.contains("akashita-drill-") && !was_killed {
        return Err(format!("left of a drill: {datasets}"));
    }
    Ok(())
}

/// Whether a stream is stored.
pub fn has(scene: &Scene, stream: Stream) -> bool {
    stored(scene).iter().any(|guid| Some(guid.as_str()) == stream.guid())
}
