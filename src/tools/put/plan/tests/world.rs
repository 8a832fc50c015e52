//! All there is in the model, and the judge of what came of it.

use std::collections::BTreeSet;

use super::machine::{Books, Killed, Machine, fold, lines, lines_of};
use super::service::Service;
use super::*;
use crate::dice::Dice;
use crate::line::description::Kind;

/// Vaults and their regions; the third has the name of the first.
pub const PLACES: [(&str, &str); 3] =
    [("glacier://v", "r"), ("glacier://w", "r"), ("glacier://v", "s")];

/// A request of a process that is no more, which the service may yet get.
pub struct Ghost {
    pub place: usize,
    pub action: Action,
    pub sent: Option<Hash>,
    pub text: Vec<u8>,
}

/// Everything.
#[derive(Default)]
pub struct World {
    pub machine: Machine,
    pub services: [Service; 3],
    pub now: i64,
    /// Tree hashes of the streams whose end was proven.
    pub proven: BTreeSet<Hash>,
    pub ghosts: Vec<Ghost>,
    /// What has happened so far.
    pub log: Vec<String>,
}

impl Drop for World {
    /// The sequence that failed last goes to `$MODEL_LOG`: of a property that
    /// is the shortest one.
    fn drop(&mut self) {
        if let Some(path) = std::env::var_os("MODEL_LOG")
            && std::thread::panicking()
        {
            std::fs::write(path, self.log.join("\n")).unwrap();
        }
    }
}

impl World {
    /// Time goes on.
    pub fn pass(&mut self, seconds: i64) {
        self.now += seconds;
        self.services.iter_mut().for_each(|service| service.wake(self.now));
    }

    /// The service gets what was on its way when its sender died.
    pub fn haunt(&mut self) {
        if self.ghosts.is_empty() {
            return;
        }
        let Ghost { place, action, sent, text } = self.ghosts.remove(0);
        // It may put another part in the place of one that is known to be there.
        self.services[place].shaken |= matches!(action.ask, Ask::Send { .. });
        let answer = self.services[place].ask(&action, sent, &text);
        self.log.push(format!("  late {}: {:?} -> {answer:?}", action.target, action.ask));
    }

    /// I1, as the service sees it.
    pub fn check_manifest(&self, text: &[u8]) {
        let told = lines_of(text).into_iter().find_map(|line| match line {
            Line::Stored(line) => Some(line),
            _ => None,
        });
        let whole = told.is_none_or(|told| self.proven.contains(&told.treehash));
        assert!(whole, "I1: a manifest of what was never proven whole");
    }

    /// Does what the plan says, and looks whether it may.
    pub fn perform(
        &mut self,
        place: usize,
        plan: &mut Plan,
        books: &mut Books,
        effects: Vec<Effect>,
        dice: &mut Dice,
    ) -> Result<(), Killed> {
        let Self { machine, services, proven, log, .. } = self;
        let service = &mut services[place];
        machine.perform(plan, books, effects, dice, &mut |machine, effect| {
            log.push(format!("    {effect:?}"));
            match effect {
                Effect::Clear(volume) => {
                    // I2: the catalog line is on disk, the archive is there.
                    let durable = machine.catalog.lines(machine.catalog.durable);
                    let there = durable.iter().rev().any(|line| match line {
                        Line::Archive(line) if line.volume == *volume => service
                            .archives
                            .get(&line.archive_id)
                            .is_some_and(|archive| archive.treehash == line.treehash),
                        _ => false,
                    });
                    assert!(there, "I2: volume {volume} is in the catalog");
                }
                Effect::Publish(lines) => {
                    for line in lines {
                        if let Line::Stored(line) = line {
                            assert!(proven.contains(&line.treehash), "I1: stored, and never whole");
                        }
                    }
                }
                Effect::Abort(upload) => {
                    service.uploads.remove(upload);
                }
                Effect::Warn(warning) => {
                    let said = service.archives.values_mut();
                    said.filter(|archive| warning.ends_with(&archive.upload))
                        .for_each(|archive| archive.forgotten = true);
                    service.given_up.push(warning.clone());
                }
                _ => {}
            }
        })
    }

    /// Looks whether anything here still knows of each archive.
    pub fn forget(&mut self) {
        self.ghosts.clear();
        for (service, (dest, _)) in self.services.iter_mut().zip(PLACES) {
            service.forget(|id, archive| self.machine.knows(dest, id, &archive.upload));
            // An upload that nobody knows of may be completed by nobody.
            service.completed.clear();
        }
    }

    /// Checks a stored stream against what went in: the catalog's lines, and
    /// those of the manifest alone.
    pub fn judge(&self, content: &Content, place: usize) {
        let service = &self.services[place];
        let catalog = &self.machine.catalog;
        let told = catalog.lines(catalog.text.len());
        let dest = PLACES[place].0;
        let told: Vec<Line> = told
            .into_iter()
            .filter(|line| match line {
                Line::Hashes(line) => line.dest == dest,
                Line::Archive(line) => line.dest == dest,
                Line::Stored(line) => line.dest == dest,
                _ => true,
            })
            .collect();
        let stored = told.iter().rev().find_map(|line| match line {
            Line::Stored(line) => Some(line.clone()),
            _ => None,
        });
        let stored = stored.expect("a stored line");
        let manifest = &service.archives[stored.manifest_id.as_ref().expect("a manifest")];
        assert_eq!(manifest.description.kind, Kind::Manifest);
        let of_manifest = lines_of(&manifest.text);
        for (source, told) in [("catalog", told), ("manifest", of_manifest)] {
            let mut lines = crate::tools::get::plan::Lines::default();
            for line in &told {
                lines.take(line.clone()).unwrap();
            }
            let plan = lines.plan(false);
            let plan = plan.unwrap_or_else(|why| panic!("{source}: {why}\n{told:#?}"));
            assert_eq!(plan.streams.len(), 1);
            let volumes = &plan.streams[0].volumes;
            assert_eq!(volumes.len(), content.len(), "{source}");
            for (volume, parts) in volumes.iter().zip(content) {
                let archive = &service.archives[&volume.line.archive_id];
                assert_eq!(archive.treehash, fold(parts), "{source}");
                assert_eq!(archive.size, volume.line.size, "{source}");
            }
        }
        let end = lines(content).pop();
        assert!(matches!(end, Some(Line::End(end)) if end.treehash == stored.treehash));
        assert!(self.machine.journal.text.is_empty() && self.machine.spool.is_empty(), "retired");
    }
}
