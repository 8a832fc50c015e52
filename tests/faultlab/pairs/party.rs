//! Who can meet whom: the tools, what each needs to be there, and what it
//! promises when it ends with 0.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use super::scene::{Scene, State, Stream, VOLUME, holds};
use super::scripts::Script;
use super::stand::Ended;
use crate::judge::sha256;
use crate::rig::VAULT;

/// A program at work on something.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Party {
    /// Cuts a stream.
    Chunk(Stream),
    /// Cuts other bytes under the same name.
    Other(Stream),
    /// Sends what is spooled.
    Put(Stream),
    /// Brings a stream back into a file that all of them share.
    Get(Stream),
    /// The same, with its volumes kept in one directory.
    Keep(Stream),
    /// Deletes a stream.
    Rm(Stream),
    /// Drops a stream from the spool.
    Drop(Stream),
    /// Lists the spool.
    Ls,
    /// Tells what no rule keeps.
    Prune,
    /// Brings parts back.
    Verify,
    /// Lists what can be restored.
    Chain,
    /// A script.
    Sh(Script),
}

impl Party {
    /// What it is called.
    pub fn name(self) -> String {
        let (tool, stream) = match self {
            Self::Chunk(stream) => ("chunk", Some(stream)),
            Self::Other(stream) => ("chunk-other", Some(stream)),
            Self::Put(stream) => ("put", Some(stream)),
            Self::Get(stream) => ("get", Some(stream)),
            Self::Keep(stream) => ("get-keep", Some(stream)),
            Self::Rm(stream) => ("rm", Some(stream)),
            Self::Drop(stream) => ("rm-spooled", Some(stream)),
            Self::Ls => ("ls-spool", None),
            Self::Prune => ("prune", None),
            Self::Verify => ("verify", None),
            Self::Chain => ("chain-list", None),
            Self::Sh(script) => (script.name(), None),
        };
        stream.map_or(tool.to_owned(), |stream| format!("{tool} {}", stream.name()))
    }

    /// The stream that it works on.
    pub fn stream(self) -> Option<Stream> {
        match self {
            Self::Chunk(stream)
            | Self::Other(stream)
            | Self::Put(stream)
            | Self::Get(stream)
            | Self::Keep(stream)
            | Self::Rm(stream)
            | Self::Drop(stream) => Some(stream),
            Self::Ls | Self::Prune | Self::Verify | Self::Chain | Self::Sh(_) => None,
        }
    }

    /// How far streams must have come for it.
    pub fn needs(self) -> Vec<(Stream, State)> {
        let (stream, state) = match self {
            Self::Chunk(stream) => (stream, State::New),
            Self::Other(stream) | Self::Put(stream) | Self::Drop(stream) => {
                (stream, State::Spooled)
            }
            Self::Get(stream) | Self::Keep(stream) | Self::Rm(stream) => (stream, State::Stored),
            Self::Ls | Self::Sh(Script::Files(_)) => return Vec::new(),
            Self::Prune | Self::Verify | Self::Chain => (Stream::B, State::Stored),
            Self::Sh(_) => (Stream::Full, State::Stored),
        };
        let base = stream.base().map(|base| (base, State::Stored));
        base.into_iter().chain([(stream, state)]).collect()
    }

    /// The command, and the file that it reads.
    pub fn command(self, scene: &Scene) -> (Command, Option<PathBuf>) {
        let path = |name: &str| scene.place.path(name).display().to_string();
        match self {
            Self::Chunk(stream) => (scene.chunk(stream), Some(scene.input(stream))),
            Self::Other(stream) => {
                let mut bytes = stream.bytes();
                bytes.reverse();
                fs::write(scene.place.path("in.other"), bytes).unwrap();
                (scene.chunk(stream), Some(scene.place.path("in.other")))
            }
            Self::Put(stream) => (scene.tool("glacier-put", &[VAULT]), Some(scene.lines(stream))),
            Self::Get(stream) | Self::Keep(stream) => {
                let mut get = scene.tool("glacier-get", &["--tier", "Expedited"]);
                if matches!(self, Self::Get(_)) {
                    fs::create_dir_all(scene.place.path("out")).unwrap();
                    get.args(["--output", &path("out/back")]);
                } else {
                    get.args(["--keep", &path("kept")]);
                }
                (get, Some(scene.chain_file(stream)))
            }
            Self::Rm(stream) => {
                (scene.tool("glacier-rm", &["--yes", VAULT]), Some(scene.chain_file(stream)))
            }
            Self::Drop(stream) => {
                let file = scene.place.path(format!("drop.{}", stream.name()));
                // As glacier-ls tells it.
                let lines = fs::read_to_string(scene.lines(stream)).unwrap();
                fs::write(&file, lines.split_inclusive('\n').next().unwrap()).unwrap();
                (scene.tool("glacier-rm", &["--yes", VAULT]), Some(file))
            }
            Self::Ls => (scene.tool("glacier-ls", &["spool"]), None),
            Self::Prune => {
                let catalog = scene.place.path("home/catalog.jsonl");
                (scene.tool("glacier-prune", &["--keep", "last=1"]), Some(catalog))
            }
            Self::Verify => {
                let catalog = scene.place.path("home/catalog.jsonl");
                (scene.tool("glacier-verify", &["--tier", "Expedited"]), Some(catalog))
            }
            Self::Chain => {
                let catalog = scene.place.path("home/catalog.jsonl");
                (scene.tool("glacier-chain", &["--list"]), Some(catalog))
            }
            Self::Sh(script) => (script.command(scene), None),
        }
    }

    /// Whether it may end so, beside the other. 0 and 75 are always right;
    /// others only where what was asked cannot be had any more, or never could.
    /// `has_locked` tells whether it had its stream before the other came.
    pub fn may_end(self, code: i32, said: &str, other: Self, has_locked: bool) -> bool {
        if let Self::Sh(script) = self {
            return script.may_end(code);
        }
        let is_same = self.stream().is_none() || self.stream() == other.stream();
        match (self, other) {
            _ if code == 0 || code == 75 => true,
            // What it reads is being deleted.
            (Self::Get(_) | Self::Keep(_) | Self::Verify, Self::Rm(_)) if is_same => {
                matches!(code, 65 | 69)
            }
            // A name belongs to one content.
            (Self::Other(_), _) if is_same => code == 65 && said.contains("differ"),
            (Self::Put(_), Self::Other(_)) if is_same && !has_locked => {
                code == 65 && said.contains("run glacier-chunk on the same stream again")
            }
            // It is stored, and what it is based on went before it was known.
            (Self::Put(stream), Self::Rm(base)) if stream.base() == Some(base) => {
                code == 65 && said.contains("was deleted")
            }
            // What is needed must stay.
            (Self::Rm(base), other) => {
                code == 65
                    && other.stream().and_then(Stream::base) == Some(base)
                    && said.contains("nothing is deleted")
            }
            _ => false,
        }
    }

    /// That it has done what its 0 says; else what it has not.
    pub fn kept(self, scene: &Scene, role: &str, other: Self) -> Result<(), String> {
        let printed_file = format!("{role}.out");
        let printed = || -> Vec<Value> {
            let text = fs::read_to_string(scene.place.path(&printed_file));
            let text = text.unwrap_or_default();
            text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
        };
        let is_deleted =
            matches!(other, Self::Rm(stream) | Self::Drop(stream) if Some(stream) == self.stream());
        match self {
            Self::Chunk(stream) => {
                let lines = printed();
                if !lines.iter().any(|line| line["type"] == "end") {
                    return Err("0, and no end".to_owned());
                }
                if is_deleted || matches!(other, Self::Other(_)) {
                    return Ok(());
                }
                announced(scene, stream, &lines)
            }
            Self::Put(stream) if !is_deleted => is_stored(scene, stream),
            Self::Get(stream) | Self::Keep(stream) => {
                let file = if matches!(self, Self::Get(_)) { "out/back" } else { &printed_file };
                let is_whole = holds(&scene.place.path(file), &stream.bytes());
                if is_whole { Ok(()) } else { Err("0, and other bytes came".to_owned()) }
            }
            Self::Rm(stream) => {
                let asked = fs::read_to_string(scene.chain_file(stream)).unwrap();
                let left = scene.server.archives(VAULT);
                match left.iter().find(|held| asked.contains(&format!("\"{}\"", held.id))) {
                    Some(held) => Err(format!("0, and {} is there", held.id)),
                    None => Ok(()),
                }
            }
            Self::Sh(script) => script.kept(scene),
            _ => Ok(()),
        }
    }
}

/// I3: what was announced is in the spool, or in an archive of the catalog.
fn announced(scene: &Scene, stream: Stream, lines: &[Value]) -> Result<(), String> {
    let archives = scene.server.archives(VAULT);
    let catalog = scene.catalog();
    for line in lines.iter().filter(|line| line["type"] == "part") {
        let (volume, part) = (line["volume"].as_u64().unwrap(), line["part"].as_u64().unwrap());
        let id = line["stream"].as_str().unwrap();
        let file = scene.spool().join(id).join(format!("{volume:08}-{part:04}.part"));
        let in_spool =
            fs::read(file).is_ok_and(|bytes| sha256(&bytes) == line["sha256"].as_str().unwrap());
        let in_archive = archives.iter().any(|held| {
            held.description["stream"] == line["stream"]
                && held.volume() == Some(volume)
                && catalog.contains(&format!("\"{}\"", held.id))
        });
        if !in_spool && !in_archive {
            return Err(format!(
                "I2, I3: {}: volume {volume} part {part} was announced and is nowhere",
                stream.name()
            ));
        }
    }
    Ok(())
}

/// That a stream is stored, and the catalog brings it back.
pub fn is_stored(scene: &Scene, stream: Stream) -> Result<(), String> {
    let name = stream.name();
    let chain = scene.chain(stream).map_err(|why| format!("I1: {name}: stored, and {why}"))?;
    let archives = scene.server.archives(VAULT);
    for (number, bytes) in (0..).zip(stream.bytes().chunks(VOLUME)) {
        let is_there = archives.iter().any(|held| {
            held.volume() == Some(number)
                && chain.contains(&format!("\"{}\"", held.id))
                && scene.server.content(VAULT, &held.id) == bytes
        });
        if !is_there {
            return Err(format!("I1: {name}: stored, and volume {number} is in no archive"));
        }
    }
    Ok(())
}

/// How the two ended, for people.
pub fn told(one: &Ended) -> String {
    match one.code {
        Some(code) => format!("{code} {:?}", one.said.trim()),
        None => format!("killed {:?}", one.said.trim()),
    }
}
