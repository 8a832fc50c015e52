//! The judge of two that met: as for kills, whatever the two did, running the
//! same commands again must leave everything as if they had never met.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use super::party::{Party, is_stored, told};
use super::scene::{Scene, Stream, VOLUME};
use super::stand::Running;
use super::{pool, scripts};
use crate::common::run;

use crate::rig::VAULT;

/// How often the same command may have to be run again.
const AGAIN: usize = 5;

/// Runs both again, and then stores what they worked on: everything must be
/// there, once.
pub fn recover(scene: &Scene, parties: [Party; 2], was_killed: bool) -> Result<(), String> {
    let deletes = |party: &Party| matches!(party, Party::Rm(_) | Party::Drop(_));
    // What has begun to delete ends that first.
    let mut again: Vec<Party> = parties.into_iter().filter(deletes).collect();
    // What else was to be done with what is deleted, or was cut from other
    // bytes, begins anew below.
    let is_lost = |party: &Party| deletes(party) || matches!(party, Party::Other(_));
    if !parties.iter().any(is_lost) {
        again.extend(parties);
    }
    for party in again {
        let other = if party == parties[0] { parties[1] } else { parties[0] };
        until_done(&party.name(), || {
            let (command, input) = party.command(scene);
            let root = scene.root();
            let ended = Running::start(command, input.as_deref(), &root, "again", None).end();
            // It waits for a put that died, which is run again below.
            let waits = ended.said.contains("glacier-put was stopped before the catalog had that");
            let is_done = |code| {
                if code == 75 { waits } else { party.may_end(code, &ended.said, other, false) }
            };
            (ended.code.is_some_and(is_done), told(&ended))
        })?;
    }
    let mut streams: Vec<Stream> = scene.streams.iter().map(|(stream, _)| *stream).collect();
    for stream in &streams {
        until_done(&format!("chunk {} | put", stream.name()), || {
            let (code, said) = scene.again(*stream);
            (code == Some(0), format!("{code:?} {said:?}"))
        })?;
    }
    if scene.pool.is_some() {
        return pool::comes_back(scene, 1).and_then(|()| pool::comes_back(scene, 2));
    }
    let is_script = parties.iter().any(|party| matches!(party, Party::Sh(_)));
    if is_script {
        scripts::everything(scene, was_killed)?;
        // What a backup has stored since.
        streams.extend(
            [Stream::Increment, Stream::Second].into_iter().filter(|it| scripts::has(scene, *it)),
        );
    }
    // Of what is dropped from the spool those volumes stay that are stored, as
    // glacier-rm(1) says.
    let dropped = parties.iter().find_map(|party| match party {
        Party::Drop(stream) => Some(stream.bytes().len().div_ceil(VOLUME)),
        _ => None,
    });
    everything(scene, &streams, dropped.unwrap_or(0))
}

fn until_done(what: &str, mut again: impl FnMut() -> (bool, String)) -> Result<(), String> {
    let mut before = Vec::new();
    while before.len() < AGAIN {
        let (is_done, said) = again();
        if is_done {
            return Ok(());
        }
        before.push(said);
    }
    Err(format!("I4: {what}: not done after {AGAIN} runs: {}", before.join(" / ")))
}

/// That the vault has each stream once, beside so many volumes of what was
/// dropped at most, and the catalog names what is there and nothing else; that
/// only receipts are left, and all comes back.
fn everything(scene: &Scene, streams: &[Stream], dropped: usize) -> Result<(), String> {
    let archives = scene.server.archives(VAULT);
    let mut expected = 0;
    for stream in streams {
        is_stored(scene, *stream)?;
        expected += stream.bytes().len().div_ceil(VOLUME) + 1;
    }
    if !(expected..=expected + dropped).contains(&archives.len()) {
        return Err(format!("I4: {} archives, for {expected}", archives.len()));
    }
    let there: BTreeSet<String> = archives.into_iter().map(|held| held.id).collect();
    let named = named(&scene.catalog());
    // One whose Complete was on its way when put died is known to an inventory
    // alone, once the journal is dropped.
    if !named.is_subset(&there) || named.len() + dropped < there.len() {
        return Err(format!(
            "the catalog names {} archives, the vault has {}",
            named.len(),
            there.len()
        ));
    }
    let left: Vec<String> = fs::read_dir(scene.spool())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "done")
        .collect();
    if !left.is_empty() {
        return Err(format!("left in the spool: {}", left.join(" ")));
    }
    for stream in streams {
        comes_back(scene, *stream)?;
    }
    Ok(())
}

/// The archives that a catalog names, but those that were deleted.
fn named(catalog: &str) -> BTreeSet<String> {
    let (mut named, mut deleted) = (BTreeSet::new(), BTreeSet::new());
    for line in catalog.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        let id = line["archive_id"].as_str().or(line["manifest_id"].as_str());
        let Some(id) = id.map(str::to_owned) else { continue };
        let is_deleted = line["type"] == "deleted";
        if is_deleted {
            deleted.insert(id)
        } else {
            named.insert(id)
        };
    }
    named.difference(&deleted).cloned().collect()
}

/// I5: what comes back is what went in.
fn comes_back(scene: &Scene, stream: Stream) -> Result<(), String> {
    let chain = scene.chain(stream)?;
    // Of the chain only the stream itself, whose lines come last.
    let lines: Vec<&str> = chain.split_inclusive('\n').collect();
    let is_end = |line: &str| line.starts_with("{\"type\":\"stored\"");
    let ends = lines.iter().enumerate().filter(|(_, line)| is_end(line)).map(|(at, _)| at);
    let from = ends.rev().nth(1).map_or(0, |at| at + 1);
    let own = lines[from..].concat();
    let own: String =
        own.split_inclusive('\n').filter(|line| !line.starts_with("{\"type\":\"chain\"")).collect();
    let back = scene.place.path("back");
    fs::write(scene.place.path("chain"), own).unwrap();
    let mut get = scene.tool("glacier-get", &["--tier", "Expedited", "--", "dd"]);
    get.arg(format!("of={}", back.display())).arg("status=none");
    get.stdin(fs::File::open(scene.place.path("chain")).unwrap());
    let got = run(&mut get);
    if got.code() != 0 {
        return Err(format!("I5: {} does not come back: {}", stream.name(), got.stderr.trim()));
    }
    if fs::read(back).unwrap() != stream.bytes() {
        return Err(format!("I5: {}: other bytes came back", stream.name()));
    }
    Ok(())
}
