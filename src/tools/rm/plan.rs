//! What goes, and in which order: a pure function of the input, the catalog
//! and the journals in the spool. It refuses as a whole or not at all.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::input::{Asked, Wanted};
use super::known::Known;
use crate::catalog::Brief;
use crate::error::{Error, Result};
use crate::line::{Stream, StreamId, Upload};
use crate::spool::journal::Journal;
use crate::tools::receipts::Receipt;

/// Names in a message, at most.
const NAMES: usize = 5;

/// Where things are to go from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Here {
    /// The destination, as a URL.
    pub dest: String,
    /// The region it is in.
    pub region: String,
}

/// The archives that go of one stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Group {
    /// Which stream.
    pub stream: StreamId,
    /// What its user knows it as.
    pub name: String,
    /// Go first, in any order.
    pub volumes: Vec<Wanted>,
    /// Go when all of these are gone.
    pub manifests: Vec<Wanted>,
    /// The stream is stored no more then: a receipt says else.
    pub is_stored: bool,
    /// How many streams it takes to restore it, and where its `stored` line
    /// is; none if it has none.
    place: Option<(u32, u64)>,
}

/// All that goes.
#[derive(Debug, Default)]
pub struct Plan {
    /// Streams that leave the spool.
    pub drops: Vec<Stream>,
    /// Those of them that must have left before any archive goes, as they are
    /// based on what goes.
    pub first: HashSet<StreamId>,
    /// Uploads that are aborted.
    pub uploads: Vec<Upload>,
    /// Archives, stream after stream: the ends of chains first, so that none
    /// is left without its base.
    pub groups: Vec<Group>,
    /// What does not change the exit code.
    pub warnings: Vec<String>,
}

fn refuse(number: u64, why: &str) -> Error {
    Error::Data(format!("stdin: line {number}: {why}; nothing is deleted"))
}

impl Here {
    fn has(&self, number: u64, dest: &str, region: &str) -> Result<()> {
        if dest != self.dest {
            return Err(refuse(number, &format!("is in {dest}, and {} is meant", self.dest)));
        }
        if region != self.region {
            let why = format!("is in {region}, and {} is meant", self.region);
            return Err(refuse(number, &why));
        }
        Ok(())
    }
}

/// Decides what goes. `journals` are those of streams under way in the spool.
///
/// # Errors
/// When something must stay; then nothing goes.
pub fn decide(
    asked: Asked,
    mut known: Option<Known>,
    journals: &HashMap<StreamId, Journal>,
    here: &Here,
    break_chain: bool,
) -> Result<Plan> {
    if let Some(known) = known.as_ref().filter(|_| !break_chain) {
        forgotten(&known.lost)?;
    }
    let mut plan = Plan::default();
    let dropped: HashSet<StreamId> =
        asked.streams.iter().map(|(_, stream)| stream.stream).collect();
    for (number, stream) in asked.streams {
        let to = journals.get(&stream.stream).and_then(|journal| journal.dest.as_ref());
        if let Some(dest) = to.filter(|dest| **dest != here.dest) {
            let why = format!("stream {} is on its way to {dest}; name that", stream.stream);
            return Err(refuse(number, &why));
        }
        plan.drops.push(stream);
    }
    for (number, upload) in asked.uploads {
        here.has(number, &upload.dest, &upload.region)?;
        let goes_on = journals.iter().find(|(_, journal)| {
            journal.uploads.values().any(|under_way| under_way.id == upload.upload_id)
        });
        match goes_on {
            None => plan.uploads.push(upload),
            // It is aborted with the stream.
            Some((stream, _)) if dropped.contains(stream) => {}
            Some((stream, _)) => return Err(refuse(number, &goes_on_with(*stream))),
        }
    }
    let mut of: BTreeMap<StreamId, Vec<Wanted>> = BTreeMap::new();
    for wanted in asked.archives {
        here.has(wanted.number, &wanted.dest, &wanted.region)?;
        let known = known.as_ref();
        if known.is_some_and(|known| known.is_deleted(&wanted.archive_id)) {
            continue;
        }
        let is_under_way = |journal: &Journal| {
            journal.dest.as_deref() == Some(&here.dest) && journal.stored.is_none()
        };
        if journals.get(&wanted.stream).is_some_and(is_under_way)
            && !dropped.contains(&wanted.stream)
        {
            return Err(refuse(wanted.number, &goes_on_with(wanted.stream)));
        }
        let is_named = known.is_some_and(|known| known.names(wanted.stream, &wanted.archive_id));
        if !is_named && !break_chain {
            return Err(Error::Configuration(format!(
                "stdin: line {}: {}, so nothing tells what needs this archive; nothing is deleted without --break-chain",
                wanted.number,
                if known.is_some() { "not in the catalog" } else { "there is no catalog" }
            )));
        }
        of.entry(wanted.stream).or_default().push(wanted);
    }
    for (stream, wanted) in of {
        let group = group(stream, wanted, known.as_ref(), here, break_chain, &mut plan.warnings)?;
        plan.groups.push(group);
    }
    if let Some(known) = known.as_mut().filter(|_| !break_chain) {
        let all = plan.groups.iter().flat_map(|group| &group.volumes);
        let ids: Vec<&str> = all.map(|wanted| wanted.archive_id.as_str()).collect();
        let goes = |stream: StreamId| {
            plan.groups.iter().any(|group| group.stream == stream && group.is_stored)
        };
        let mut lost = known.lost(ids.into_iter());
        lost.retain(|stored| !goes(stored.stream));
        plan.first
            .extend(lost.extract_if(.., |it| dropped.contains(&it.stream)).map(|it| it.stream));
        if !lost.is_empty() {
            return Err(Error::Data(needed(&lost)));
        }
    }
    plan.groups.retain(|group| !group.volumes.is_empty() || !group.manifests.is_empty());
    // What nothing counts, then the ends of chains before what they are
    // based on.
    plan.groups.sort_by_key(|group| Reverse(group.place.unwrap_or((u32::MAX, u64::MAX))));
    Ok(plan)
}

fn goes_on_with(stream: StreamId) -> String {
    format!("glacier-put goes on with stream {stream}; give its stream line too, to drop it")
}

/// Nothing goes by a catalog that has lost a stream, or never had it: what else
/// it lacks is not known.
fn forgotten(lost: &[Receipt]) -> Result<()> {
    let (late, lost): (Vec<&Receipt>, Vec<&Receipt>) = lost.iter().partition(|it| it.is_late);
    let named = |receipts: &[&Receipt]| {
        let names = receipts.iter().map(|it| it.stored.name.as_str());
        (!receipts.is_empty()).then(|| format!("catalog: has not that {}", some(names.collect())))
    };
    if let Some(what) = named(&lost) {
        return Err(Error::Configuration(format!(
            "{what} is stored, as its receipt in the spool says; nothing is deleted before it has (glacier-ls receipts >>CATALOG)"
        )));
    }
    named(&late).map_or(Ok(()), |what| {
        Err(Error::Unfinished(format!(
            "{what} is stored, as glacier-put was stopped; run it on that stream again, then the same command (or glacier-ls receipts >>CATALOG)"
        )))
    })
}

/// Some names, and how many more there are.
fn some(names: Vec<&str>) -> String {
    let more = format!("{} more", names.len().saturating_sub(NAMES));
    let is_cut = names.len() > NAMES;
    let shown = names.into_iter().take(NAMES);
    shown.chain(is_cut.then_some(more.as_str())).collect::<Vec<&str>>().join(", ")
}

/// Why a chain would break.
fn needed(lost: &[Brief]) -> String {
    format!(
        "stdin: {} could not be restored any more; nothing is deleted unless their lines are there too, or with --break-chain",
        some(lost.iter().map(|stored| &*stored.name).collect())
    )
}

/// What goes of one stream.
fn group(
    stream: StreamId,
    wanted: Vec<Wanted>,
    known: Option<&Known>,
    here: &Here,
    break_chain: bool,
    warnings: &mut Vec<String>,
) -> Result<Group> {
    let name = wanted.iter().find_map(|wanted| wanted.name.clone());
    let name = name.unwrap_or_else(|| stream.to_string());
    let (volumes, mut manifests): (Vec<Wanted>, Vec<Wanted>) =
        wanted.into_iter().partition(|wanted| wanted.volume.is_some());
    let mut group =
        Group { stream, name, volumes, manifests: Vec::new(), is_stored: false, place: None };
    let Some((known, attempt)) =
        known.and_then(|known| Some((known, known.attempt(stream, &here.dest)?)))
    else {
        group.manifests = manifests;
        return Ok(group);
    };
    let ids: BTreeSet<&str> =
        group.volumes.iter().map(|wanted| wanted.archive_id.as_str()).collect();
    let there =
        attempt.volumes.iter().filter(|(_, archive)| !known.is_deleted(&archive.archive_id));
    let (goes, stays): (Vec<_>, Vec<_>) =
        there.partition(|(_, archive)| ids.contains(&*archive.archive_id));
    // One that lacks its line in the catalog may be there.
    let lacking =
        (0..attempt.stored.volumes).filter(|volume| !attempt.volumes.contains_key(volume));
    let stays: Vec<u32> =
        stays.into_iter().map(|(volume, _)| *volume).chain(lacking.take(NAMES + 1)).collect();
    let is_counted = |wanted: &Wanted| {
        attempt.stored.manifest_id.as_ref().is_some_and(|manifest| *manifest == wanted.archive_id)
    };
    let hits_manifest = manifests.iter().any(is_counted);
    group.is_stored = !goes.is_empty() || hits_manifest;
    group.place = Some((known.length(stream), attempt.at));
    if group.is_stored && !stays.is_empty() {
        if known.is_whole(&attempt) && !break_chain {
            return Err(Error::Data(format!(
                "stdin: {}: not asked of its {} volumes: {}; nothing is deleted unless all are, or with --break-chain",
                group.name,
                attempt.stored.volumes,
                list(&stays)
            )));
        }
        // What tells of volumes outlives them.  Held by
        // tests::a_manifest_stays_as_long_as_a_volume.
        if hits_manifest {
            manifests.retain(|wanted| !is_counted(wanted));
            warnings.push(format!(
                "{}: its manifest stays as long as its volumes: {}",
                group.name,
                list(&stays)
            ));
        }
    } else if stays.is_empty() {
        for (stored, manifest) in known.manifests(stream, &here.dest) {
            if !manifests.iter().any(|wanted| wanted.archive_id == *manifest) {
                manifests.push(Wanted {
                    number: 0,
                    stream,
                    name: Some(stored.name.clone()),
                    generation: stored.generation,
                    volume: None,
                    dest: stored.dest.clone(),
                    region: stored.region.clone(),
                    archive_id: manifest.clone(),
                    size: None,
                });
            }
        }
    }
    group.manifests = manifests;
    Ok(group)
}

fn list(volumes: &[u32]) -> String {
    let mut list: Vec<String> = volumes.iter().take(NAMES).map(u32::to_string).collect();
    if volumes.len() > NAMES {
        list.push("...".to_owned());
    }
    list.join(", ")
}

#[cfg(test)]
mod tests;
