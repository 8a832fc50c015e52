//! A tool that is killed alone within a script, as the kernel does it for want
//! of memory. The others of its pipe go on, and see its end as they would see
//! any other.
//!
//! A stub stands before each tool in PATH, and is the tool for the script. It
//! dies before the tool has begun, when that has written so many bytes, or
//! some milliseconds after it has begun.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::common::local::{catalog, pattern};
use crate::common::machine::{GUIDS, Machine, has};
use crate::common::{Ended, Running, start};
use crate::lab::{Chance, Lab, Tally};

/// How often the same script may have to be run again, and how long it may
/// find that what was killed has left a program that is still at work.
const AGAIN: usize = 4;
const PATIENCE: Duration = Duration::from_secs(30);

/// What stands before each tool: `attack` says which of them is to die, which
/// time it is started, how, and after how many bytes.
const STUB: &str = r#"#!/bin/sh
tool=${0##*/} alone='@ALONE@'
PATH='@PATH@'
echo "$tool" >>"$alone/started"
real=$(command -v "$tool")
name='' nth=1 how='' bytes=0
[ ! -f "$alone/attack" ] || read -r name nth how bytes <"$alone/attack"
[ "$tool" = "$name" ] && [ "$(grep -cxF -- "$tool" "$alone/started")" -ge "$nth" ] &&
	mkdir "$alone/chosen" 2>/dev/null || how=''
# A script finds its tools here, too.
case $tool in akashita-*) PATH=${0%/*}:$PATH ;; *) ;; esac
case $how in
before) kill -9 $$ ;;
bytes) "$real" "$@" | head -c "$bytes"; kill -9 $$ ;;
later) echo $$ >"$alone/new"; mv "$alone/new" "$alone/victim" ;;
*) ;;
esac
exec "$real" "$@"
"#;

const AT: &str = r#"#!/bin/sh
cd '@ALONE@' || exit
case $1 in
-c) cat "jobs/$2" ;;
*)
	number=$(($(ls jobs | wc -l) + 1))
	cat "$3" >"jobs/$number"
	printf 'job %s at some time\n' "$number" >&2
	;;
esac
"#;

const ATQ: &str = r#"#!/bin/sh
cd '@ALONE@' || exit
for job in jobs/*; do
	[ ! -f "$job" ] || printf '%s\tSun Nov 29 22:00:00 2026 a %s\n' "${job#jobs/}" "$(id -un)"
done
"#;

/// A script in a setting.
struct Row {
    name: &'static str,
    script: &'static str,
    arguments: &'static [&'static str],
    /// How it ends when nothing is killed.
    ends: i32,
    needs: &'static [&'static str],
    tools: &'static str,
    /// Within how many milliseconds a tool is killed that has begun.
    later: u64,
    set: fn(&mut Machine),
    /// Whether glacier-get has brought something, where that can be seen.
    begun: fn(&Machine) -> bool,
    /// Why it must not have ended so with this; of the end, all must be well.
    wrong: fn(&Machine, Option<&str>) -> Option<String>,
}

const CONF: &str = "dest=my-vault\ndataset=tank/home\npart_size=1M\nvolume_size=1M\ntier=Expedited\n\
                    max_cost=5\nverify_budget=1M\n";

const BACKUP: &str = "akashita-choose akashita-conf akashita-store awk cat cut date df du glacier-chain \
                      glacier-chunk glacier-ls glacier-put glacier-window grep mkdir mktemp rm sed zfs";

const RESTORE: &str = "akashita-conf akashita-receive cat date glacier-chain glacier-get grep mkdir \
                       mktemp rm sed zfs";

const ROWS: &[Row] = &[
    Row {
        name: "backup",
        script: "akashita-backup",
        arguments: &[],
        ends: 0,
        needs: &[],
        tools: BACKUP,
        later: 400,
        set: |machine| machine.configure(CONF),
        begun: |_| true,
        wrong: |machine, _| not_stored(machine, ""),
    },
    Row {
        name: "backup through filters",
        script: "akashita-backup",
        arguments: &[],
        ends: 0,
        needs: &["age", "age-keygen", "gzip"],
        tools: "age akashita-store glacier-chunk glacier-proof glacier-put glacier-window gzip zfs",
        later: 400,
        set: |machine| {
            machine.sh("age-keygen -o key 2>/dev/null");
            let key = machine.sh("age-keygen -y key");
            machine
                .configure(&format!("{CONF}filter=gzip -1\nunfilter=gzip -d\nrecipient={key}\n"));
        },
        begun: |_| true,
        wrong: |machine, _| not_stored(machine, "age -d -i key | gzip -d |"),
    },
    Row {
        name: "backup of files",
        script: "akashita-backup",
        arguments: &[],
        ends: 0,
        needs: &["tar"],
        tools: "akashita-choose akashita-store glacier-chunk glacier-put glacier-window sed tar zfs",
        later: 400,
        set: |machine| {
            machine.configure(&format!("{CONF}format=tar\n"));
            let files = machine.place.path("pool/files");
            fs::create_dir_all(&files).unwrap();
            for name in ["a", "b", "c"] {
                fs::write(files.join(name), name.repeat(700_000)).unwrap();
            }
        },
        begun: |_| true,
        wrong: |machine, _| files_not_stored(machine),
    },
    Row {
        name: "restore",
        script: "akashita-restore",
        arguments: &["tank/home@tue", "tank/back"],
        ends: 0,
        needs: &[],
        tools: RESTORE,
        later: 400,
        set: two_nights,
        begun: |_| true,
        wrong: |machine, _| {
            let points = machine.points();
            let back = points.lines().filter(|line| line.contains("\ttank/back@"));
            let guids: Vec<&str> = back.filter_map(|line| line.split('\t').nth(1)).collect();
            (guids != GUIDS[..2]).then(|| format!("received: {guids:?}"))
        },
    },
    Row {
        name: "restore to files",
        script: "akashita-restore",
        arguments: &["-f", "out", "photos.tar"],
        ends: 0,
        needs: &[],
        tools: "akashita-conf akashita-receive cat glacier-chain glacier-get grep rm sed sh",
        later: 1200,
        set: slow_photos,
        begun: |machine| {
            let new = machine.place.path("out/001-photos.tar.new");
            fs::metadata(new).is_ok_and(|facts| facts.len() > 0)
        },
        wrong: |machine, _| {
            let back = fs::read(machine.place.path("out/001-photos.tar")).unwrap_or_default();
            let list = fs::read_to_string(machine.place.path("out/streams")).unwrap_or_default();
            let is_so = back == pattern(PHOTOS) && list.starts_with("001-photos.tar\t");
            (!is_so).then(|| format!("{} bytes; {list}", back.len()))
        },
    },
    Row {
        name: "prove",
        script: "akashita-restore",
        arguments: &["-p", "photos.tar"],
        ends: 0,
        needs: &[],
        tools: "akashita-conf akashita-receive cat glacier-chain glacier-get grep sed",
        later: 2500,
        set: slow_photos,
        begun: |_| true,
        wrong: |_, killed| {
            killed.filter(|tool| *tool == "glacier-get").map(|_| "its get was killed".to_owned())
        },
    },
    Row {
        name: "drill",
        script: "akashita-drill",
        arguments: &[],
        ends: 0,
        needs: &[],
        tools: "akashita-conf akashita-receive akashita-restore awk cp date glacier-chain glacier-get sed sort uname zfs",
        later: 400,
        set: |machine| {
            two_nights(machine);
            machine.configure(&format!("{CONF}drill=tank/drill\n"));
            fs::write(machine.place.path("pool/datasets"), "-\ttank/drill\n").unwrap();
        },
        begun: |_| true,
        wrong: |machine, killed| {
            if killed.is_some_and(|tool| matches!(tool, "glacier-get" | "akashita-restore")) {
                return Some("what it drills by was killed".to_owned());
            }
            let drilled = fs::read_to_string(machine.place.path("drilled")).unwrap_or_default();
            let datasets = fs::read_to_string(machine.place.path("pool/datasets")).unwrap();
            if !drilled.contains("tank/home@tue") {
                return Some("it notes no drill".to_owned());
            }
            datasets.contains("akashita-drill-").then(|| format!("left: {datasets}"))
        },
    },
    Row {
        name: "verify",
        script: "akashita-verify",
        arguments: &["-t", "Expedited"],
        ends: 0,
        needs: &[],
        tools: "akashita-conf awk cat cp date glacier-verify mv rm sed",
        later: 400,
        set: two_nights,
        begun: |_| true,
        wrong: |machine, _| {
            let is_noted = catalog(&machine.place).contains("{\"type\":\"verified\",");
            (!is_noted).then(|| "no part was verified".to_owned())
        },
    },
    Row {
        name: "prune",
        script: "akashita-prune",
        arguments: &["-y"],
        ends: 0,
        needs: &["zstd"],
        tools: "akashita-choose akashita-conf awk cat date glacier-ls glacier-prune glacier-rm grep sed uname zfs",
        later: 400,
        set: |machine| {
            two_nights(machine);
            // Another whole stream, which is to stay.
            machine.sh("zstd -dc \"$STREAMS/days/home-d00.zfs.zst\" >day
                glacier-chunk <day | glacier-put my-vault");
            machine.configure(&format!("{CONF}keep=last=1\nfree_only=no\nlocal_keep=9\n"));
        },
        begun: |_| true,
        wrong: |machine, _| {
            let guid = machine.stored().pop().unwrap();
            let back = machine.sh(&format!(
                "glacier-chain {guid} <catalog.jsonl | glacier-get --tier Expedited --quiet -- \
                 sh -c 'cat >back'; cmp back day && echo same"
            ));
            (back != "same").then(|| "what is kept does not come back".to_owned())
        },
    },
    Row {
        name: "status",
        script: "akashita-status",
        arguments: &[],
        ends: 2,
        needs: &[],
        tools: "akashita-conf awk glacier-chain glacier-ls grep sed tail tr uname wc",
        later: 400,
        set: |machine| {
            two_nights(machine);
            machine.configure(&format!("{CONF}dataset=tank/never\n"));
        },
        begun: |_| true,
        wrong: |_, _| None,
    },
    Row {
        name: "at",
        script: "akashita-at",
        arguments: &[],
        ends: 0,
        needs: &[],
        tools: "akashita-conf at atq awk env glacier-window grep id mktemp rm sed",
        later: 400,
        set: |machine| {
            machine.configure(&format!("{CONF}window=22:00-06:00\n"));
        },
        begun: |_| true,
        wrong: |machine, _| {
            let jobs = fs::read_dir(machine.place.path("alone/jobs")).unwrap().count();
            (jobs != 1).then(|| format!("{jobs} jobs"))
        },
    },
];

fn two_nights(machine: &mut Machine) {
    machine.configure(CONF);
    for _ in 0..2 {
        let ended = machine.run(&[], &[]);
        assert_eq!(ended.code(), 0, "{}", ended.stderr);
    }
}

/// Bytes of a stream that comes back in two times four volumes, a second each.
const PHOTOS: usize = 8 << 20;

fn slow_photos(machine: &mut Machine) {
    machine.configure(CONF);
    fs::write(machine.place.path("photos"), pattern(PHOTOS)).unwrap();
    machine.sh("glacier-chunk --part-size 1M --volume-size 1M --name photos.tar -- cat photos |
        glacier-put my-vault");
    machine.server.fail(r#"{"call":"GetJobOutput","times":"all","do":"drip","rate":1000000}"#);
}

/// What the stub of zfs sends, by number.
fn stream(number: usize) -> Vec<u8> {
    let name = ["full", "incremental-1", "incremental-2"][number];
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::read(top.join(format!("tests/streams/{name}.zfs"))).unwrap()
}

/// Why the newest snapshot is not stored, or not as ZFS sent it.
fn not_stored(machine: &Machine, undo: &str) -> Option<String> {
    let points = machine.points();
    let newest = points.lines().rfind(|line| line.contains("\ttank/home@akashita:"));
    let Some(guid) = newest.and_then(|line| line.split('\t').nth(1)) else {
        return Some("there is no snapshot".to_owned());
    };
    if !machine.stored().iter().any(|stored| stored == guid) {
        return Some(format!("{guid} is not stored"));
    }
    machine.sh(&format!(
        "rm -f back; glacier-chain {guid} <catalog.jsonl | glacier-get --tier Expedited --quiet -- \
         sh -c '{undo} cat >back'"
    ));
    let number = GUIDS.iter().position(|it| *it == guid).unwrap();
    let is_same = fs::read(machine.place.path("back")).unwrap() == stream(number);
    (!is_same).then(|| format!("{guid} comes back as something else"))
}

fn files_not_stored(machine: &Machine) -> Option<String> {
    let catalog = catalog(&machine.place);
    let lines = catalog.lines().filter(|line| line.starts_with("{\"type\":\"stored\""));
    let mut names = lines.filter_map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        line["name"].as_str().filter(|name| name.starts_with("tank/home@")).map(str::to_owned)
    });
    let Some(name) = names.next_back() else { return Some("nothing is stored".to_owned()) };
    let points = machine.points();
    let newest = points.lines().rfind(|line| line.contains("\ttank/home@akashita-tar:"));
    let newest = newest.and_then(|line| line.split('\t').nth(2)).unwrap_or_default();
    if name != format!("{newest}.tar") {
        return Some(format!("{newest} is not stored, but {name}"));
    }
    machine.sh(&format!(
        "rm -rf back; mkdir back; glacier-chain '{name}' <catalog.jsonl | \
         glacier-get --tier Expedited --quiet -- tar -xf - -C back"
    ));
    let is_so = |name: &&str| {
        fs::read(machine.place.path("back").join(name)).ok()
            == Some(name.repeat(700_000).into_bytes())
    };
    (!["a", "b", "c"].iter().all(is_so)).then(|| "other files came back".to_owned())
}

/// Kills as often as `runs` says, or each tool of each script in each way.
pub fn run(lab: &Lab, runs: u64) -> Tally {
    let tools = |row: &Row| row.tools.split_whitespace().collect::<Vec<_>>();
    let cases: Vec<(&Row, &str)> =
        ROWS.iter().flat_map(|row| tools(row).into_iter().map(move |tool| (row, tool))).collect();
    let all = cases.len() as u64 * WAYS;
    let some = runs < all;
    lab.each(runs.min(all), |number, chance| {
        let number = if some { chance.below(all) } else { number };
        let (row, tool) = cases[usize::try_from(number / WAYS).unwrap()];
        if row.needs.iter().all(|program| has(program)) {
            Scene::new(row).attack(tool, number % WAYS, chance);
        }
    })
}

/// In how many ways a tool is killed.
const WAYS: u64 = 3;

/// A machine on which a script is run.
struct Scene {
    machine: Machine,
    row: &'static Row,
}

impl Scene {
    fn new(row: &'static Row) -> Self {
        let mut machine = Machine::new();
        (row.set)(&mut machine);
        let scene = Self { machine, row };
        let place = &scene.machine.place;
        for directory in ["alone/jobs", "stubs", "desk"] {
            fs::create_dir_all(place.path(directory)).unwrap();
        }
        let (alone, path) = (place.path("alone").display().to_string(), scene.real_path());
        let write = |path_of: PathBuf, text: &str| {
            let text = text.replace("@ALONE@", &alone).replace("@PATH@", &path);
            fs::write(&path_of, text).unwrap();
            fs::set_permissions(path_of, fs::Permissions::from_mode(0o755)).unwrap();
        };
        write(place.path("desk/at"), AT);
        write(place.path("desk/atq"), ATQ);
        for tool in ROWS.iter().flat_map(|row| row.tools.split_whitespace()) {
            write(place.path("stubs").join(tool), STUB);
        }
        scene
    }

    fn command(&self) -> Command {
        let Row { script, arguments, .. } = self.row;
        self.machine.command_in(script, "sh", arguments, &[]).unwrap()
    }

    /// Where the tools themselves are.
    fn real_path(&self) -> String {
        let command = self.command();
        let mut variables = command.get_envs();
        let (_, path) = variables.find(|(name, _)| *name == "PATH").unwrap();
        format!("{}:{}", self.machine.place.path("desk").display(), path.unwrap().display())
    }

    /// Starts the script, with the stubs before what they stand for.
    fn start(&self) -> Running {
        let path = format!("{}:{}", self.machine.place.path("stubs").display(), self.real_path());
        start(self.command().env("PATH", path))
    }

    fn wrong(&self, killed: Option<&str>) -> Option<String> {
        (self.row.wrong)(&self.machine, killed)
    }

    /// Kills a tool within the script, and runs it again until it is done.
    fn attack(&self, tool: &str, way: u64, chance: &mut Chance) {
        let nth = chance.of(&[1, 1, 1, 2, 3]);
        let bytes = chance.of(&[0, 1, 100, 5_000, 70_000, 1_000_000]);
        let how = ["before", "bytes", "later"][usize::try_from(way).unwrap()];
        let what = format!("{}: {tool} {nth} {how} {bytes}", self.row.name);
        let (attack, chosen) = ("alone/attack", self.machine.place.path("alone/chosen"));
        let attack = self.machine.place.path(attack);
        fs::write(&attack, format!("{tool} {nth} {how} {bytes}\n")).unwrap();
        let ended = self.killed(tool, Duration::from_millis(chance.below(self.row.later)));
        fs::remove_file(&attack).unwrap();
        // One that dies later may have come to its end before.
        let killed = Some(tool).filter(|_| how == "before" && chosen.exists());
        if ended.code() == 0 {
            assert!(self.row.ends == 0, "{what}: it says that all is well: {}", ended.stdout);
            let wrong = self.wrong(killed);
            assert!(wrong.is_none(), "{what}: it ends with 0: {}", wrong.unwrap_or_default());
        }
        let begin = Instant::now();
        let mut tries = vec![format!("{} {}", ended.code(), ended.stderr.trim())];
        loop {
            let again = self.start().finish();
            if again.code() == self.row.ends {
                break;
            }
            tries.push(format!("{} {}", again.code(), again.stderr.trim()));
            // What was left alone may still be at work.
            let waits = again.code() == 75 && begin.elapsed() < PATIENCE;
            assert!(waits || tries.len() <= AGAIN, "I4: {what}: {}", tries.join(" / "));
            thread::sleep(Duration::from_millis(if waits { 200 } else { 0 }));
        }
        let wrong = self.wrong(None);
        let tries = tries.join(" / ");
        assert!(wrong.is_none(), "{what}: {tries}: {}", wrong.unwrap_or_default());
    }

    /// Runs the script, and kills its tool if it is to be killed from here.
    fn killed(&self, tool: &str, after: Duration) -> Ended {
        let mut script = self.start();
        let victim = self.machine.place.path("alone/victim");
        while script.runs() {
            if let Ok(id) = fs::read_to_string(&victim)
                && (tool != "glacier-get" || (self.row.begun)(&self.machine))
            {
                thread::sleep(after);
                kill(id.trim(), &self.machine.place.path(""));
                break;
            }
            thread::sleep(Duration::from_millis(2));
        }
        script.finish()
    }
}

/// Kills a process, if it is still one of the scene.
fn kill(id: &str, home: &Path) {
    let environment = fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
    let mine = format!("HOME={}", home.display());
    let mine = mine.trim_end_matches('/').as_bytes();
    if environment.split(|byte| *byte == 0).any(|it| it == mine) {
        let id = id.parse().ok().and_then(Pid::from_raw).unwrap();
        // It may have ended meanwhile.
        let _ = kill_process(id, Signal::KILL);
    }
}
