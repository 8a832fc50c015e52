//! What a catalog can bring back: every snapshot that a whole chain leads to.

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::{Catalog, Target};
use crate::error::{Error, Result};
use crate::line::{Features, Filter, Guid, StreamId, is_default};
use crate::process::escape::row;

/// A snapshot, or a stream of other bytes, that can be restored.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(tag = "type", rename = "restorable")]
pub struct Restorable {
    /// Its name.
    pub name: String,
    /// Its guid; absent where the stream is not of ZFS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guid: Option<Guid>,
    /// What the stream that its chain ends with went through.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<Filter>,
    /// The host that stored it.
    pub host: String,
    /// The stream that its chain ends with.
    pub stream: StreamId,
    /// How many streams its chain has.
    pub streams: u32,
    /// Bytes of them all.
    pub size: u64,
    /// Where the last of them is stored.
    pub dest: String,
    /// When that was stored.
    pub stored: Timestamp,
    /// When the snapshot was taken; absent where no line says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<Timestamp>,
    /// How many seconds ago that was, or when it was stored if it does not say;
    /// 0 if a clock was wrong.
    pub age_s: u64,
    /// What a receiver must understand, and the next stream must fit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub features: Option<Features>,
    /// The snapshot of another dataset that a stream of its chain is a clone
    /// of: it is received first, and beside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<Guid>,
    /// How many records of its chain `zfs receive` takes for something else:
    /// it restores less than there was.
    #[serde(skip_serializing_if = "is_default")]
    pub misplaced: u64,
}

/// The fields of a [`Restorable`], as its line has them.
pub const FIELDS: [&str; 14] = [
    "name",
    "guid",
    "filter",
    "host",
    "stream",
    "streams",
    "size",
    "dest",
    "stored",
    "created",
    "age_s",
    "features",
    "origin",
    "misplaced",
];

impl Restorable {
    /// The dataset it is a snapshot of; a stream without an `@` in its name is
    /// of none.
    pub fn dataset(&self) -> Option<&str> {
        self.name.split_once('@').map(|(dataset, _)| dataset)
    }

    /// Some of its [`FIELDS`] as [`row`] writes them.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn row(&self, fields: &[String]) -> Result<String> {
        let line = serde_json::to_value(self)
            .map_err(|e| Error::Bug(format!("a line could not be written as JSON: {e}")))?;
        let texts = fields.iter().map(|field| match line.get(field) {
            None => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(Value::Array(list)) => {
                list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",")
            }
            Some(number) => number.to_string(),
        });
        let texts: Vec<String> = texts.collect();
        Ok(row(texts.iter().map(String::as_str)))
    }

    /// By host, then by name up to the `@`, then by time.
    fn key(&self) -> impl Ord {
        let dataset = self.name.split('@').next().unwrap_or_default();
        (&self.host, dataset, self.created.unwrap_or(self.stored), &self.name)
    }
}

impl Catalog {
    /// All that [`Catalog::chain`] finds a chain for, by host, then by name
    /// up to the `@`, then by time. `there` is as for that.
    pub fn list(&self, there: &HashSet<Guid>, now: Timestamp) -> Vec<Restorable> {
        let (ways, times) = (self.ways(there), self.times());
        let mut best: BTreeMap<Target, usize> = BTreeMap::new();
        for index in 0..self.entries.len() {
            if !self.holds_snapshots(index) {
                if !self.is_whole(index) {
                    continue;
                }
                best.insert(Target::Stream(index), index);
            } else if ways.is_there(index) {
                for guid in self.provides(index).into_iter().filter(|guid| !there.contains(guid)) {
                    let known = best.entry(Target::Snapshot(guid)).or_insert(index);
                    if self.order(&ways, index) < self.order(&ways, *known) {
                        *known = index;
                    }
                }
            }
        }
        let mut all: Vec<Restorable> = best
            .into_iter()
            .filter_map(|(target, index)| {
                let stream = self.stream(index)?;
                let (disputed, (size, streams)) = match target {
                    Target::Snapshot(_) => (ways.is_disputed(index), ways.cost(index)),
                    Target::Stream(_) => (self.is_disputed(index), (stream.size, 1)),
                };
                // What is disputed is not restored.
                if disputed {
                    return None;
                }
                let (name, guid) = match target {
                    Target::Snapshot(guid) => (self.name_of(index, guid)?, Some(guid)),
                    Target::Stream(_) => (stream.name.to_string(), None),
                };
                let created = guid.and_then(|guid| times.get(&guid).copied());
                let age = now.duration_since(created.unwrap_or(stream.stored));
                Some(Restorable {
                    name,
                    guid,
                    filter: stream.filter.as_deref().cloned(),
                    host: stream.host.to_string(),
                    stream: stream.stream,
                    streams,
                    size,
                    dest: stream.dest.to_string(),
                    stored: stream.stored,
                    created,
                    age_s: u64::try_from(age.as_secs()).unwrap_or(0),
                    features: guid.and_then(|guid| self.features(index, guid)),
                    origin: ways.origin(index),
                    misplaced: ways.misplaced(index),
                })
            })
            .collect();
        all.sort_by(|a, b| a.key().cmp(&b.key()));
        all
    }

    pub(super) fn name_of(&self, index: usize, guid: Guid) -> Option<String> {
        self.named(index).find(|(_, known)| *known == guid).map(|(name, _)| name.to_owned())
    }
}
