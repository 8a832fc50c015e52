//! What zfs(8) says of a target.

use std::collections::{HashMap, HashSet};
use std::process::{Command, Stdio};

use super::chain::{Incoming, dataset};

/// What zfs prints; nothing if it fails.
pub fn ask(arguments: &[&str]) -> Option<String> {
    let mut zfs = Command::new("zfs");
    zfs.args(arguments).stdin(Stdio::null()).stderr(Stdio::null());
    let output = zfs.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether there is a dataset of this name.
pub fn is_there(name: &str) -> bool {
    ask(&["get", "-H", "-o", "value", "type", name]).is_some()
}

/// The guid of a dataset or a snapshot.
pub fn guid(name: &str) -> Option<String> {
    ask(&["get", "-H", "-p", "-o", "value", "guid", name]).map(|text| text.trim_end().to_owned())
}

/// The dataset in a target in which a receive was broken off and left its
/// token.
pub fn token(target: &str) -> Option<String> {
    let all = ask(&["get", "-H", "-r", "-o", "name,value", "receive_resume_token", target])?;
    let mut lines = all.lines().filter_map(|line| line.split_once('\t'));
    lines.find(|(_, token)| *token != "-").map(|(name, _)| name.to_owned())
}

/// The snapshots of a target.
#[derive(Debug, Default)]
pub struct Snapshots {
    /// Each with the name of the dataset below the target, and its guid.
    guids: HashSet<(String, String)>,
    /// In their order: whole names and guids.
    names: Vec<(String, String)>,
    /// The guid of the newest one of the target itself.
    newest: Option<String>,
}

impl Snapshots {
    /// Asks ZFS. An old version cannot be asked for snapshots alone.
    pub fn of(target: &str) -> Option<Self> {
        let (what, which) = ("name,property,value", "guid,createtxg");
        let snapshots = ["get", "-H", "-p", "-r", "-t", "snapshot", "-o", what, which, target];
        let all = ["get", "-H", "-p", "-r", "-o", what, which, target];
        Some(Self::parse(&ask(&snapshots).or_else(|| ask(&all))?, target))
    }

    fn parse(text: &str, target: &str) -> Self {
        let mut snapshots = Self::default();
        let (mut most, mut newest) = (0, None);
        let mut of_name = HashMap::new();
        for line in text.lines() {
            let mut fields = line.split('\t');
            let (Some(name), Some(property), Some(value)) =
                (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            let Some(below) = name.strip_prefix(target).filter(|_| name.contains('@')) else {
                continue;
            };
            if property == "guid" {
                snapshots.guids.insert((dataset(below).to_owned(), value.to_owned()));
                snapshots.names.push((name.to_owned(), value.to_owned()));
                of_name.insert(below, value);
            } else if below.starts_with('@') {
                let transaction: u64 = value.parse().unwrap_or_default();
                if transaction >= most {
                    (most, newest) = (transaction, Some(below));
                }
            }
        }
        snapshots.newest =
            newest.and_then(|below| of_name.get(below)).map(|guid| (*guid).to_owned());
        snapshots
    }

    /// The whole name of the first one with this guid.
    pub fn named(&self, guid: &str) -> Option<&str> {
        self.names.iter().find(|(_, it)| it == guid).map(|(name, _)| name.as_str())
    }

    /// How many streams of a chain are there already: all, if the last is. The
    /// target must end with one of them, or nothing can be received behind it.
    pub fn has(&self, streams: &[Incoming]) -> usize {
        let is_here = |stream: &&Incoming| {
            let mut points = stream.points.iter();
            points.all(|it| self.guids.contains(&(it.dataset().to_owned(), it.guid.to_string())))
        };
        let Some(last) = streams.iter().rfind(is_here).map(|stream| stream.number) else {
            return 0;
        };
        let ends = |stream: &Incoming| {
            let mut points = stream.points.iter().filter(|point| point.is_top());
            points.any(|point| self.newest.as_ref() == Some(&point.guid.to_string()))
        };
        // One of several datasets may be there in part.
        let may_go_on = streams.iter().skip(last - 1).take(2).any(ends);
        if last == streams.len() || may_go_on { last } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::Guid;
    use crate::tools::receive::chain::Point;

    /// A chain of streams, each with these snapshots.
    fn chain(streams: &[&[(&str, u64)]]) -> Vec<Incoming> {
        let id = crate::line::StreamId::new(sha2::Digest::new(), 1, 1);
        let point =
            |(below, guid): &(&str, u64)| Point { below: (*below).into(), guid: Guid(*guid) };
        let incoming = |(number, points): (usize, &&[(&str, u64)])| Incoming {
            number: number + 1,
            id,
            name: format!("tank/home@{number}"),
            guid: None,
            filter: None,
            size: 0,
            misplaced: 0,
            points: points.iter().map(point).collect(),
            span: (0, 0),
        };
        streams.iter().enumerate().map(incoming).collect()
    }

    fn has(text: &str, streams: &[&[(&str, u64)]]) -> usize {
        Snapshots::parse(text, "tank/x").has(&chain(streams))
    }

    #[test]
    fn goes_on_only_behind_what_a_target_ends_with() {
        let streams: [&[(&str, u64)]; 3] = [&[("@a", 1)], &[("@b", 2)], &[("@c", 3)]];
        let one = "tank/x\tguid\t9\ntank/x@a\tguid\t1\ntank/x@a\tcreatetxg\t10\n";
        let two = format!("{one}tank/x@b\tguid\t2\ntank/x@b\tcreatetxg\t11\n");
        let newer = format!("{two}tank/x@z\tguid\t7\ntank/x@z\tcreatetxg\t12\n");
        let all = format!("{newer}tank/x@c\tguid\t3\ntank/x@c\tcreatetxg\t11\n");
        assert_eq!(has("", &streams), 0);
        assert_eq!(has(one, &streams), 1);
        assert_eq!(has(&two, &streams), 2);
        assert_eq!(has(&newer, &streams), 0, "something else is the newest");
        assert_eq!(has(&all, &streams), 3, "all is there");
        let snapshots = Snapshots::parse(&all, "tank/x");
        assert_eq!((snapshots.named("2"), snapshots.named("9")), (Some("tank/x@b"), None));
    }

    #[test]
    fn several_datasets_are_there_only_together() {
        let streams: [&[(&str, u64)]; 2] = [&[("@a", 1), ("/y@a", 2)], &[("@b", 3), ("/y@b", 4)]];
        let top = "tank/x@a\tguid\t1\ntank/x@a\tcreatetxg\t10\n";
        let first = format!("{top}tank/x/y@a\tguid\t2\ntank/x/y@a\tcreatetxg\t10\n");
        assert_eq!(has(top, &streams), 0);
        assert_eq!(has(&first, &streams), 1);
        // The next one was broken off behind its first dataset.
        let part = format!("{first}tank/x@b\tguid\t3\ntank/x@b\tcreatetxg\t11\n");
        assert_eq!(has(&part, &streams), 1);
        // The same guid in another place is another snapshot.
        let moved = format!("{top}tank/x/z@a\tguid\t2\ntank/x/z@a\tcreatetxg\t10\n");
        assert_eq!(has(&moved, &streams), 0);
    }
}
