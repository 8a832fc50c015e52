use super::*;
use serde_json::json;

const DEST: &str = "glacier://v";

fn id(number: u32) -> String {
    format!("{number:032x}")
}

/// The catalog lines of a stored snapshot: two volumes and the manifest.
fn stored(number: u32, base: Option<u32>) -> String {
    let (id, hash) = (id(number), "0".repeat(64));
    let name = format!("tank@{number}");
    let mut lines = String::new();
    for volume in 0..2 {
        let line = json!({"type": "archive", "v": 1, "stream": id, "host": "h", "name": name,
            "volume": volume, "offset": 0, "size": 7, "treehash": hash, "part_size": 1 << 20,
            "dest": DEST, "region": "r", "archive_id": format!("a{number}-{volume}"),
            "uploaded": "2026-11-25T00:00:00Z"});
        // As put writes it.
        lines += &put_first("archive", &line);
    }
    let mut snapshot = json!({"type": "snapshot", "stream": id, "name": name,
        "guid": number.to_string(), "offset": 0});
    let mut line = json!({"type": "stored", "v": 1, "stream": id, "host": "h", "name": name,
        "format": "zfs", "guid": number.to_string(), "volumes": 2, "size": 14, "treehash": hash,
        "whole": "zfs", "dest": DEST, "region": "r", "manifest_id": format!("m{number}"),
        "stored": "2026-11-25T00:00:00Z"});
    if let Some(base) = base {
        snapshot["from_guid"] = json!(base.to_string());
        line["from_guid"] = json!(base.to_string());
    }
    lines + &put_first("snapshot", &snapshot) + &put_first("stored", &line)
}

/// A line with its type first.
fn put_first(of: &str, line: &serde_json::Value) -> String {
    let mut rest = line.clone();
    rest.as_object_mut().unwrap().remove("type");
    format!("{{\"type\":\"{of}\",{}\n", &rest.to_string()[1..])
}

fn deleted(archive: &str, of: u32) -> String {
    let line = json!({"type": "deleted", "stream": id(of), "dest": DEST, "archive_id": archive,
        "deleted": "2026-11-25T00:00:00Z"});
    put_first("deleted", &line)
}

fn decided(catalog: &str, lines: &str, break_chain: bool) -> Result<Plan> {
    let asked = Asked::read(lines.as_bytes()).unwrap();
    let wanted = asked.archives.iter().map(|wanted| wanted.stream).collect();
    let known = Known::read(|| Ok(catalog.as_bytes()), &wanted).unwrap();
    let here = Here { dest: DEST.into(), region: "r".into() };
    decide(asked, Some(known), &HashMap::new(), &here, break_chain)
}

/// The archives that go, in their order.
fn ids(plan: &Plan) -> Vec<&str> {
    let mut ids = Vec::new();
    for group in &plan.groups {
        let all = group.volumes.iter().chain(&group.manifests);
        ids.extend(all.map(|wanted| wanted.archive_id.as_str()));
    }
    ids
}

fn line_of<'l>(lines: &'l str, archive: &str) -> &'l str {
    let quoted = format!("\"{archive}\"");
    lines.split_inclusive('\n').find(|line| line.contains(&quoted)).unwrap()
}

#[test]
fn a_chain_goes_from_its_end_and_each_manifest_behind_its_volumes() {
    let all = stored(1, None) + &stored(2, Some(1)) + &stored(3, Some(2));
    let plan = decided(&all, &all, false).unwrap();
    let order = ["a3-0", "a3-1", "m3", "a2-0", "a2-1", "m2", "a1-0", "a1-1", "m1"];
    assert_eq!(ids(&plan), order);
}

#[test]
fn another_base_for_the_same_snapshot_lets_one_go() {
    // Stream 4 brings snapshot 1 too, as another full stream.
    let again = stored(4, None).replace("\"guid\":\"4\"", "\"guid\":\"1\"");
    let all = stored(1, None) + &stored(2, Some(1));
    assert_eq!(decided(&all, &stored(1, None), false).unwrap_err().code(), 65);
    let all = all + &again;
    assert_eq!(ids(&decided(&all, &stored(1, None), false).unwrap()), ["a1-0", "a1-1", "m1"]);
}

#[test]
fn a_base_that_was_never_stored_here_is_on_the_other_side() {
    let all = stored(2, Some(1)) + &stored(3, Some(2));
    let error = decided(&all, &stored(2, Some(1)), false).unwrap_err();
    assert!(error.to_string().contains("tank@3"), "{error}");
    assert!(decided(&all, &stored(3, Some(2)), false).is_ok());
}

#[test]
fn a_manifest_stays_as_long_as_a_volume() {
    let all = stored(1, None);
    let manifest = line_of(&all, "m1");
    let some = line_of(&all, "a1-0").to_owned() + manifest;
    assert_eq!(decided(&all, &some, false).unwrap_err().code(), 65);
    let plan = decided(&all, &some, true).unwrap();
    assert_eq!((ids(&plan), plan.warnings.len()), (vec!["a1-0"], 1));
    // Half of it is gone already.
    let half = all.clone() + &deleted("a1-1", 1);
    assert_eq!(ids(&decided(&half, manifest, false).unwrap()), Vec::<&str>::new());
    assert_eq!(ids(&decided(&half, line_of(&all, "a1-0"), false).unwrap()), ["a1-0", "m1"]);
    // All of it is, and the manifest was left.
    let gone = half + &deleted("a1-0", 1);
    assert_eq!(ids(&decided(&gone, &all, false).unwrap()), ["m1"]);
    let none = gone + &deleted("m1", 1);
    assert!(decided(&none, &all, false).unwrap().groups.is_empty());
}

#[test]
fn a_copy_in_another_vault_keeps_the_chain() {
    let other = stored(1, None)
        .replace(DEST, "glacier://w")
        .replace("\"a1-", "\"b1-")
        .replace("\"m1\"", "\"n1\"");
    let all = stored(1, None) + &other + &stored(2, Some(1));
    assert_eq!(ids(&decided(&all, &stored(1, None), false).unwrap()), ["a1-0", "a1-1", "m1"]);
}

#[test]
fn what_an_attempt_left_behind_goes_alone() {
    let orphan = line_of(&stored(1, None), "a1-0").replace("a1-0", "old");
    let all = orphan.clone() + &stored(1, None) + &stored(2, Some(1));
    assert_eq!(ids(&decided(&all, &orphan, false).unwrap()), ["old"]);
}

mod chains {
    use super::*;
    use crate::dice::{cases, dice};
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// Streams that restore, by the book: a base must be there.
    fn restorable(bases: &[Option<u32>], gone: &BTreeSet<u32>) -> BTreeSet<u32> {
        let mut there = BTreeSet::new();
        // A base comes before what is based on it here.
        for (number, base) in (0..).zip(bases) {
            if !gone.contains(&number) && base.is_none_or(|base| there.contains(&base)) {
                there.insert(number);
            }
        }
        there
    }

    proptest! {
        #![proptest_config(cases(64))]
        #[test]
        fn nothing_that_stays_loses_its_base(mut dice in dice(60), count in 1..12_usize) {
            let bases: Vec<Option<u32>> = (0..count)
                .map(|number| {
                    let base = dice.below(number + 1);
                    u32::try_from(base).ok().filter(|_| base < number)
                })
                .collect();
            let numbers = || (0..).zip(&bases).map(|(number, base)| (number, *base));
            let all: String = numbers().map(|(number, base)| stored(number, base)).collect();
            let asked: BTreeSet<u32> =
                numbers().map(|(number, _)| number).filter(|_| dice.once_in(2)).collect();
            let lines: String = numbers()
                .filter(|(number, _)| asked.contains(number))
                .map(|(number, base)| stored(number, base))
                .collect();
            let before = restorable(&bases, &BTreeSet::new());
            let after = restorable(&bases, &asked);
            let is_harmless = before.iter().all(|it| after.contains(it) || asked.contains(it));
            match decided(&all, &lines, false) {
                Ok(plan) => {
                    prop_assert!(is_harmless);
                    // Stopped anywhere, what is still there restores.
                    let mut gone = BTreeSet::new();
                    for group in &plan.groups {
                        let number = u32::from_str_radix(&group.stream.to_string(), 16).unwrap();
                        gone.insert(number);
                        let left = restorable(&bases, &gone);
                        prop_assert!(before.iter().all(|it| left.contains(it) || gone.contains(it)));
                    }
                    prop_assert_eq!(gone, asked);
                }
                Err(error) => {
                    prop_assert_eq!(error.code(), 65);
                    prop_assert!(!is_harmless);
                }
            }
        }
    }
}
