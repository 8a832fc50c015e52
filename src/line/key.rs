//! Where an archive stands in a bucket: its key, below the destination's
//! prefix. No name stands in it: keys show up in bills and logs.
//!
//! Volumes and manifests stand apart, so that lifecycle rules and rights, which
//! go by the beginning of a key, can tell them apart.

use std::fmt;
use std::str::FromStr;

use crate::line::description::{Description, Kind};
use crate::line::ids::StreamId;

/// The key of an archive of ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Key {
    /// Which stream it is of.
    pub stream: StreamId,
    /// Which attempt at that.
    pub generation: u32,
    /// Which volume of it; none for the manifest.
    pub volume: Option<u32>,
}

impl Key {
    /// What the keys of volumes begin with.
    pub const VOLUMES: &str = "volumes/";
    /// What those of manifests begin with.
    pub const MANIFESTS: &str = "manifests/";

    /// Whether it is that of a volume or that of a manifest.
    pub fn kind(&self) -> Kind {
        if self.volume.is_some() { Kind::Volume } else { Kind::Manifest }
    }
}

impl From<&Description> for Key {
    fn from(about: &Description) -> Self {
        Self { stream: about.stream, generation: about.generation, volume: about.volume }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stream, generation, volume } = self;
        match volume {
            Some(volume) => {
                write!(f, "{}{stream}/{generation}/{volume:05}.volume", Self::VOLUMES)
            }
            None => write!(f, "{}{stream}.{generation}.jsonl", Self::MANIFESTS),
        }
    }
}

impl FromStr for Key {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let read = || {
            let (stream, generation, volume) = if let Some(rest) = text.strip_prefix(Self::VOLUMES)
            {
                let (stream, rest) = rest.split_once('/')?;
                let (generation, rest) = rest.split_once('/')?;
                (stream, generation, Some(rest.strip_suffix(".volume")?.parse().ok()?))
            } else {
                let rest = text.strip_prefix(Self::MANIFESTS)?.strip_suffix(".jsonl")?;
                let (stream, generation) = rest.split_once('.')?;
                (stream, generation, None)
            };
            let (stream, generation) = (stream.parse().ok()?, generation.parse().ok()?);
            Some(Self { stream, generation, volume })
        };
        // One archive has one key: no sign, no more zeros than are needed.
        read().filter(|key| key.to_string() == text).ok_or("no key of an archive of ours")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_has_one_key() {
        let stream = "5".repeat(32);
        for (text, volume) in [
            (format!("volumes/{stream}/0/00000.volume"), Some(0)),
            (format!("volumes/{stream}/0/4294967295.volume"), Some(u32::MAX)),
            (format!("manifests/{stream}.0.jsonl"), None),
        ] {
            let key: Key = text.parse().unwrap();
            assert_eq!((key.volume, key.generation), (volume, 0));
            assert_eq!(key.to_string(), text);
        }
        for bad in [
            String::new(),
            format!("volumes/{stream}/0/0.volume"),
            format!("volumes/{stream}/0/000000.volume"),
            format!("volumes/{stream}/00/00000.volume"),
            format!("volumes/{stream}/+1/00000.volume"),
            format!("volumes/{stream}/0/../00000.volume"),
            format!("volumes/{}/0/00000.volume", "A".repeat(32)),
            format!("manifests/{stream}.0.jsonl "),
            format!("/manifests/{stream}.0.jsonl"),
            format!("manifests/{stream}.4294967296.jsonl"),
        ] {
            assert!(bad.parse::<Key>().is_err(), "{bad}");
        }
    }
}
