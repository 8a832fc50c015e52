//! Pools of zfs-fuse, where two configurations store the files of snapshots.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use super::scene::Scene;
use super::scripts::configure;
use crate::common::{run, run_with, until};
use crate::rig::VAULT;

/// The datasets, and the file that is in each.
const FILES: [(&str, &str); 2] = [("home", "photograph"), ("work", "letter")];

/// The one daemon of a machine, and the lock that scripts/zfslab takes too.
struct Daemon {
    child: Child,
    _lock: File,
}

static DAEMON: Mutex<Option<Daemon>> = Mutex::new(None);

/// Starts the daemon, if there can be one; else why not.
pub fn start() -> Result<(), String> {
    let mut daemon = DAEMON.lock().unwrap();
    if daemon.is_some() {
        return Ok(());
    }
    if File::options().read(true).write(true).open("/dev/fuse").is_err() {
        return Err("/dev/fuse cannot be opened".to_owned());
    }
    let lock = std::env::temp_dir().join("zfs-fuse.lock");
    let lock = File::options().create(true).append(true).open(lock).map_err(|e| e.to_string())?;
    let alone = rustix::fs::FlockOperation::NonBlockingLockExclusive;
    rustix::fs::flock(&lock, alone).map_err(|_| "another zfs-fuse is in use".to_owned())?;
    let mut command = Command::new("zfs-fuse");
    command.args(["--no-daemon", "--no-kstat-mount"]).stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn().map_err(|e| format!("zfs-fuse: {e}"))?;
    until("zfs-fuse answers", || is_done("zpool", &["list"]));
    *daemon = Some(Daemon { child, _lock: lock });
    Ok(())
}

/// Ends the daemon, if it was started.
pub fn stop() {
    if let Some(mut daemon) = DAEMON.lock().unwrap().take() {
        let _ = daemon.child.kill();
        let _ = daemon.child.wait();
    }
}

fn is_done(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// A pool in a file, one at a time, as the daemon does not bear much. It is
/// destroyed when this is dropped.
pub struct Pool {
    name: String,
    _alone: MutexGuard<'static, ()>,
}

static ALONE: Mutex<()> = Mutex::new(());

impl Drop for Pool {
    fn drop(&mut self) {
        // What was read last may be busy for a moment.
        for _ in 0..20 {
            if is_done("zpool", &["destroy", "-f", &self.name]) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
    }
}

/// A pool with two datasets, each with a file, and a configuration for each.
pub fn furnish(scene: &Scene) -> Pool {
    static NUMBER: AtomicU64 = AtomicU64::new(100);
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let number = NUMBER.fetch_add(1, Ordering::SeqCst);
    let name = format!("pairs{}x{number}", std::process::id());
    let place = &scene.place;
    for directory in ["tmp", "bin", "home.2", "mnt"] {
        fs::create_dir_all(place.path(directory)).unwrap();
    }
    let disk = place.path("disk");
    File::create(&disk).unwrap().set_len(64 << 20).unwrap();
    let (mount, disk) = (place.path("mnt").display().to_string(), disk.display().to_string());
    let create = ["create", "-o", "cachefile=none", "-O", "atime=off", "-m", &mount, &name, &disk];
    assert!(is_done("zpool", &create), "no pool");
    let pool = Pool { name, _alone: alone };
    let home = place.path("home");
    let home = home.display();
    for ((dataset, file), (conf, state)) in
        FILES.iter().zip([("conf", "home"), ("conf.2", "home.2")])
    {
        let dataset_name = format!("{}/{dataset}", pool.name);
        assert!(is_done("zfs", &["create", &dataset_name]), "no dataset");
        fs::write(place.path("mnt").join(dataset).join(file), "the only copy").unwrap();
        let text = format!(
            "dest={VAULT}\ndataset={dataset_name}\nformat=tar\npart_size=1M\nvolume_size=2M\n\
             catalog={home}/catalog.jsonl\nspool={home}/spool\n"
        );
        configure(scene, conf, state, &text);
    }
    pool
}

/// That each archive of a dataset that is stored has its file, and there is one.
pub fn comes_back(scene: &Scene, number: u8) -> Result<(), String> {
    let (dataset, file) = FILES[usize::from(number) - 1];
    let catalog = scene.catalog();
    let lines = catalog.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let stored = lines.filter(|line| line["type"] == "stored");
    let names = stored.filter_map(|line| line["name"].as_str().map(str::to_owned));
    let ours: Vec<String> = names.filter(|name| name.contains(&format!("/{dataset}@"))).collect();
    if ours.is_empty() {
        return Err("0, and nothing is stored".to_owned());
    }
    for name in ours {
        let chain = run_with(&mut scene.tool("glacier-chain", &[&name]), catalog.as_bytes());
        let lines = scene.place.path("chain");
        fs::write(&lines, &chain.stdout).unwrap();
        let mut get = scene.tool("glacier-get", &["--tier", "Expedited", "--", "tar", "-tf", "-"]);
        get.stdin(File::open(&lines).unwrap());
        let listed = run(&mut get);
        if !listed.stdout.lines().any(|line| Path::new(line).ends_with(file)) {
            return Err(format!(
                "I5: {name} is stored, and has no {file}: {}",
                listed.stderr.trim()
            ));
        }
    }
    Ok(())
}
