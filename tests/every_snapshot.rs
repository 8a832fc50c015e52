//! Thirteen days of two datasets in one vault, beside an archive of somebody
//! else's: every snapshot comes back, from the catalog and from the vault alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::common::local::{Local, catalog, files, sorted};
use crate::common::{Ended, Place, program, run, skip};

const DATASETS: [&str; 2] = ["home", "mail"];
const DAYS: usize = 13;
const VAULT: &str = "cold";

/// Takes each stream into a file of its own, in the order in which they come.
const COLLECT: &str = "echo run >>ran; exec cat >got$(printf %02d $(grep -c run ran))";

fn snapshot(dataset: &str, day: usize) -> String {
    format!("tank/{dataset}@d{day:02}")
}

/// The streams of each dataset, as ZFS sent them; `None` without zstd.
fn streams() -> Option<[Vec<Vec<u8>>; 2]> {
    let of = |dataset: &str, day: usize| {
        let file = format!("tests/streams/days/{dataset}-d{day:02}.zfs.zst");
        let output = Command::new("zstd")
            .args(["-dcq", "--"])
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(file))
            .output()
            .ok()?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Some(output.stdout)
    };
    let [home, mail] =
        DATASETS.map(|dataset| (0..DAYS).map(|day| of(dataset, day)).collect::<Option<Vec<_>>>());
    Some([home?, mail?])
}

/// A pipe of the shell, in a directory of `place`, as a client of `local`.
fn pipe(place: &Place, local: &Local, directory: &Path, script: &str) -> Ended {
    let mut path = program("glacier-get").parent().unwrap().as_os_str().to_owned();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap());
    let mut shell = place.command("sh");
    local.client(&mut shell).args(["-c", script]).current_dir(directory).env("PATH", path);
    run(shell.env("COLLECT", COLLECT).env("CATALOG", place.path("catalog.jsonl")))
}

fn new_directory(place: &Place, name: &str) -> PathBuf {
    let directory = place.path(name);
    fs::create_dir(&directory).unwrap();
    directory
}

/// Restores a snapshot by its chain; the streams must be those of the days up
/// to it.
fn comes_back(place: &Place, local: &Local, of: &[Vec<u8>], dataset: &str, day: usize) {
    let name = snapshot(dataset, day);
    let directory = new_directory(place, &format!("back-{dataset}-{day}"));
    let script = format!(
        r#"glacier-chain {name} <"$CATALOG" | glacier-get --tier Expedited -- sh -c "$COLLECT""#
    );
    pipe(place, local, &directory, &script).done();
    let mut got = files(&directory);
    got.retain(|file| !file.ends_with("ran"));
    got.sort();
    assert_eq!(got.len(), day + 1, "{name}: streams of its chain");
    for (file, sent) in got.iter().zip(of) {
        assert!(fs::read(file).unwrap() == *sent, "{name}: {} differs", file.display());
    }
    fs::remove_dir_all(directory).unwrap();
}

/// The same for several snapshots, a few at a time.
fn all_come_back(place: &Place, local: &Local, streams: &[Vec<Vec<u8>>; 2], days: &[usize]) {
    let wanted: Vec<(usize, usize)> =
        days.iter().flat_map(|day| (0..DATASETS.len()).map(move |set| (set, *day))).collect();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some((set, day)) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
                    comes_back(place, local, &streams[*set], DATASETS[*set], *day);
                }
            });
        }
    });
}

#[test]
fn every_snapshot_of_two_datasets_comes_back() {
    let Some(streams) = streams() else { return skip("zstd: not found; try scripts/test") };
    let place = Place::default();
    // Inventories and manifests take hours of the service.
    let mut local = Local::fast(&place, 3600);
    let work = new_directory(&place, "work");
    let [home, mail] = &streams;
    for (sent, dataset) in home.iter().zip(mail).flat_map(|(a, b)| [(a, "home"), (b, "mail")]) {
        fs::write(work.join("stream"), sent).unwrap();
        let script = format!(
            "glacier-chunk --part-size 1M --volume-size 1M <stream | \
             glacier-put --create-vault {VAULT} >{dataset}.jsonl"
        );
        pipe(&place, &local, &work, &script).done();
    }
    local.leave(VAULT, "photos of somebody else", b"not ours");

    let every: Vec<usize> = (0..DAYS).collect();
    all_come_back(&place, &local, &streams, &every);

    // The machine burns down; a day later there is an inventory.
    let lost = catalog(&place);
    fs::remove_file(place.path("catalog.jsonl")).unwrap();
    fs::remove_dir_all(place.spool()).unwrap();
    local.pass_a_day();
    let rebuild = format!("glacier-ls inventory --rebuild --tier Expedited {VAULT} >\"$CATALOG\"");
    pipe(&place, &local, &work, &rebuild).done();
    let text = catalog(&place);
    let (lines, made_of) = text.trim_end().rsplit_once('\n').unwrap();
    assert!(made_of.starts_with("{\"type\":\"inventory\"") && made_of.ends_with("\"refused\":0}"));
    assert_eq!(sorted(lines), sorted(&lost));
    all_come_back(&place, &local, &streams, &[0, 5, DAYS - 1]);
    let foreign = pipe(&place, &local, &work, &format!("glacier-ls inventory {VAULT}")).done();
    let foreign: Vec<_> = foreign.of_type("inventoried");
    let foreign = foreign.iter().filter(|line| line["kind"].is_null()).collect::<Vec<_>>();
    assert_eq!(foreign.len(), 1, "it is listed");
    assert_eq!(foreign[0]["description"], "photos of somebody else");
    let id = foreign[0]["archive_id"].as_str().unwrap();
    assert_eq!(local.content(VAULT, id), b"not ours", "and left alone");
}
