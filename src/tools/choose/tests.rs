use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const ID: &str = "0123456789abcdef";

fn rules(kind: Kind, keep: usize, full_every: u32) -> Rules {
    let (prefix, id) = ("akashita".to_owned(), ID.to_owned());
    Rules { prefix, kind, id, keep, full_every, send: Send::default() }
}

fn point(txg: u64, guid: &str, short: &str, mark: Option<&str>) -> Point {
    let name = format!("tank/home{short}");
    Point { name, guid: guid.to_owned(), txg, mark: mark.map(str::to_owned), encrypted: false }
}

/// As ZFS has them: a name belongs to one point, and a guid to one snapshot.
fn sorted(mut points: Vec<Point>) -> Vec<Point> {
    let (mut names, mut guids) = (HashSet::new(), HashSet::new());
    points.retain(|it| {
        names.insert(it.name.clone()) && (!it.is_snapshot() || guids.insert(it.guid.clone()))
    });
    points.sort_by(|a, b| (a.txg, &a.guid, &a.name).cmp(&(b.txg, &b.guid, &b.name)));
    points
}

/// What the scripts decided before there was a tool for it, in their words
/// and one state at a time.
struct Script<'a> {
    rules: &'a Rules,
    points: &'a [Point],
    known: &'a Known,
}

impl Script<'_> {
    fn prefix(&self) -> &str {
        match self.rules.kind {
            Kind::One => "akashita:",
            Kind::Compound => "akashita-all:",
            Kind::Tar => "akashita-tar:",
        }
    }

    fn key(&self, point: &Point) -> String {
        let is_tar = self.rules.kind == Kind::Tar;
        if is_tar { point.name.clone() } else { point.guid.clone() }
    }

    fn is_stored(&self, point: &Point) -> bool {
        self.known.stored.contains_key(&self.key(point))
    }

    /// `own` of akashita-prune; akashita-backup asked snapshots alone.
    fn is_own(&self, point: &Point) -> bool {
        let has = |c: char| point.name.contains(&format!("{c}{}", self.prefix()));
        let mark = if has('@') {
            point.mark.clone().unwrap_or_default()
        } else if has('#') {
            let marked = point.name.rsplit_once("Z-").map(|(_, mark)| mark.to_owned());
            marked.unwrap_or_default()
        } else {
            return false;
        };
        if mark.is_empty() {
            return self.known.named.contains(&self.key(point));
        }
        mark == ID
    }

    fn ours(&self) -> Option<&Point> {
        self.points.iter().rev().find(|it| it.name.contains('@') && self.is_own(it))
    }

    fn base(&self) -> Option<&Point> {
        let is_other = |it: &&Point| match self.rules.kind {
            Kind::Compound => !it.name.contains("@akashita-all:"),
            _ => it.name.contains("@akashita-all:"),
        };
        let newest = self.points.iter().rev().filter(|it| !is_other(it)).find(|it| {
            let before = |ours: &Point| it.txg < ours.txg || self.is_stored(ours);
            self.ours().is_none_or(before) && self.is_stored(it)
        });
        newest.filter(|it| self.known.stored[&self.key(it)] < self.rules.full_every)
    }

    fn old(&self) -> BTreeSet<String> {
        let snapshots = self.points.iter().rev().filter(|it| it.name.contains('@'));
        let stored = snapshots.filter(|it| self.is_own(it) && self.is_stored(it));
        stored.skip(self.rules.keep).map(|it| it.name.clone()).collect()
    }

    fn old_bookmarks(&self) -> BTreeSet<String> {
        let (mut newest, mut old) = (false, BTreeSet::new());
        for it in self.points.iter().rev() {
            if self.known.left.contains(&self.key(it)) {
                newest = true;
            } else if newest && it.name.contains('#') && self.is_own(it) {
                old.insert(it.name.clone());
            }
        }
        old
    }
}

fn a_point() -> impl Strategy<Value = Point> {
    let name = prop::sample::select(vec![
        "@akashita:1Z",
        "@akashita:2Z",
        "@akashita:3Z",
        "@akashita:4Z",
        "@akashita-all:1Z",
        "@akashita-all:2Z",
        "@akashita-tar:1Z",
        "@akashita-tar:2Z",
        "@akashita",
        "@mine:akashita:1Z",
        "#akashita:1Z-0123456789abcdef",
        "#akashita:2Z-0123456789abcdef",
        "#akashita:3Z",
        "#akashita:4Z-fedcba9876543210",
        "#akashita-all:1Z",
        "#mine",
        "@mine",
        "#akashita:5Z-",
    ]);
    let mark = prop::sample::select(vec![None, Some(ID), Some(ID), Some("fedcba9876543210")]);
    (0..9_u8, name, mark).prop_map(|(guid, name, mark)| {
        let mark = mark.filter(|_| name.contains('@'));
        // A bookmark is of its snapshot's transaction, which may have made others.
        point(u64::from(guid / 2), &guid.to_string(), name, mark)
    })
}

/// A state of a dataset, and what is known of it.
fn a_state() -> impl Strategy<Value = (Rules, Vec<Point>, Known)> {
    let kind = prop::sample::select(vec![Kind::One, Kind::One, Kind::Compound, Kind::Tar]);
    let points = prop::collection::vec(a_point(), 0..12).prop_map(sorted);
    let facts = prop::collection::vec((any::<bool>(), any::<bool>(), any::<bool>(), 1..4_u32), 12);
    let spooled = prop::option::of((0..9_u8, prop::option::of(0..9_u8)));
    (kind, 1..4_usize, 0..5_u32, points, facts, spooled).prop_map(
        |(kind, keep, most, points, facts, spooled)| {
            let rules = rules(kind, keep, if kind == Kind::Tar { 0 } else { most });
            let mut known = Known::default();
            for (point, (stored, left, named, streams)) in points.iter().zip(facts) {
                let key = rules.kind.key(&point.guid, &point.name).to_owned();
                if stored {
                    known.stored.insert(key.clone(), streams);
                }
                if stored && left {
                    known.left.insert(key.clone());
                }
                if named {
                    known.named.insert(key);
                }
            }
            known.spooled.extend(spooled.map(|(guid, from)| Spooled {
                stream: "0123456789abcdef0123456789abcdef".parse().unwrap(),
                state: "spooled".to_owned(),
                name: None,
                guid: Some(guid.to_string()),
                from_guid: from.map(|from| from.to_string()),
            }));
            (rules, points, known)
        },
    )
}

fn names(points: &[Point], choice: &Choice, kind: char, most: usize) -> BTreeSet<String> {
    let old = choice.old.iter().filter(|(_, more)| *more <= most);
    let old = old.map(|(index, _)| points[*index].name.clone());
    old.filter(|name| name.contains(kind)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..Default::default() })]

    /// One state after the other, as the scripts asked anew behind each
    /// stream that they had stored.
    #[test]
    fn decides_what_the_scripts_decided((rules, points, mut known) in a_state()) {
        let choice = rules.choose(&points, &known);
        let of = |index: Option<usize>| index.map(|index| &points[index]);
        let now = Script { rules: &rules, points: &points, known: &known };
        prop_assert_eq!(of(choice.ours), now.ours());
        prop_assert_eq!(of(choice.base), now.base());
        prop_assert_eq!(names(&points, &choice, '@', 0), now.old());
        prop_assert_eq!(names(&points, &choice, '#', 2), now.old_bookmarks());

        let open = now.ours().filter(|ours| !now.is_stored(ours)).cloned();
        let mut steps = 0;
        if let Some(ours) = &open {
            let from = if choice.spooled.is_some() {
                known.spooled[0].from_guid.clone()
            } else {
                of(choice.base).map(|base| now.key(base))
            };
            let streams = from.map_or(0, |from| known.stored[&from]) + 1;
            let key = now.key(ours);
            known.stored.insert(key, streams);
            let then = Script { rules: &rules, points: &points, known: &known };
            prop_assert_eq!(of(choice.next), then.base());
            prop_assert_eq!(names(&points, &choice, '@', 1), then.old());
            steps = 1;
        } else {
            prop_assert_eq!(choice.next, None);
            prop_assert_eq!(choice.spooled, None);
        }
        // A new snapshot is made, and stored.
        let kind = match rules.kind { Kind::One => "", Kind::Compound => "-all", Kind::Tar => "-tar" };
        let new = point(99, "99", &format!("@akashita{kind}:9Z"), Some(ID));
        let key = rules.kind.key(&new.guid, &new.name).to_owned();
        known.stored.insert(key, 1);
        let more: Vec<Point> = points.iter().cloned().chain([new]).collect();
        let then = Script { rules: &rules, points: &more, known: &known };
        prop_assert_eq!(names(&points, &choice, '@', steps + 1), then.old());
    }

    /// What is lost here must be there.
    #[test]
    fn destroys_nothing_but_what_was_made_here((rules, points, known) in a_state()) {
        let choice = rules.choose(&points, &known);
        let script = Script { rules: &rules, points: &points, known: &known };
        let kept = |more: usize| {
            let old: BTreeSet<usize> =
                choice.old.iter().filter(|(_, when)| *when <= more).map(|(index, _)| *index).collect();
            let points = points.iter().enumerate().filter(|(index, _)| !old.contains(index));
            points.filter(|(_, it)| it.is_snapshot() && script.is_own(it) && script.is_stored(it)).count()
        };
        let stored = points.iter().filter(|it| it.is_snapshot() && script.is_own(it) && script.is_stored(it));
        prop_assert_eq!(kept(0), stored.count().min(rules.keep));
        for (index, more) in &choice.old {
            let it = &points[*index];
            prop_assert!(script.is_own(it), "{it:?}");
            // One that is not stored goes with a later one only.
            let is_later = choice.ours == Some(*index) && *more == STORES;
            prop_assert!(!it.is_snapshot() || script.is_stored(it) || is_later, "{it:?}");
        }
        let last = choice.base.map(|index| &points[index]);
        prop_assert!(last.is_none_or(|it| script.is_stored(it)));
        for index in &choice.unsure {
            prop_assert!(!choice.old.iter().any(|(old, _)| old == index));
            prop_assert!(choice.ours != Some(*index));
        }
    }

    /// A value is met wherever the reader's pieces end.
    #[test]
    fn names_are_found_in_whole_and_torn_lines(pieces in 1..40_usize, cut in 0..400_usize) {
        let text = "{\"type\":\"stored\",\"name\":\"tank/home@akashita-tar:1Z.tar\",\"guid\":\"17\",\
                    \"from_guid\":\"18\",\"colour\":\"guid\"}\n{\"guid\":19,\"x\":\"guid\",\":\":\"20\"}\n\
                    {\"type\":\"snapshot\",\"guid\":\"21\"}\n";
        let text = &text[..cut.min(text.len())];
        for (kind, prefix, guids) in [(Kind::One, "", &["17", "18", "19", "20", "21"][..]), (Kind::Tar, "-tar", &["1"])] {
            let points = guids.iter().map(|guid| point(1, guid, &format!("@akashita{prefix}:{guid}Z"), None));
            let datasets = BTreeMap::from([("tank/home".to_owned(), points.collect::<Vec<_>>())]);
            let rules = rules(kind, 1, 1);
            let reader = std::io::BufReader::with_capacity(pieces, text.as_bytes());
            let mut named = input::Named::new(reader, &rules, &datasets);
            std::io::copy(&mut named, &mut std::io::sink()).unwrap();
            let found: BTreeSet<String> = named.found().into_iter().collect();
            // As grep -F would.
            let is_there = |point: &&Point| match kind {
                Kind::Tar => text.contains(&format!("\"name\":\"{}.tar\"", point.name)),
                _ => text.contains(&format!("\"guid\":\"{}\"", point.guid)),
            };
            let all = datasets["tank/home"].iter().filter(is_there);
            let all: BTreeSet<String> = all.map(|it| kind.key(&it.guid, &it.name).to_owned()).collect();
            prop_assert_eq!(found, all);
        }
    }
}

#[test]
fn points_are_read_as_zfs_prints_them() {
    let text = "tank/home\tguid\t1\ntank/home@b\tguid\t8\ntank/home@b\tcreatetxg\t9\n\
                tank/home#b\tguid\t8\ntank/home#b\tcreatetxg\t9\ntank/a b@a\tguid\t5\n\
                tank/a b@a\tcreatetxg\t10\ntank/a b@a\takashita:id\tff\ntank/home@b\takashita:id\t-\n";
    let datasets = points::read(text.as_bytes(), "points", &rules(Kind::One, 1, 1)).unwrap();
    let names = |dataset: &str| -> Vec<&str> {
        datasets[dataset].iter().map(|it| it.name.as_str()).collect()
    };
    assert_eq!(names("tank/home"), ["tank/home#b", "tank/home@b"]);
    assert_eq!(datasets["tank/a b"][0].mark.as_deref(), Some("ff"));
    assert_eq!(datasets.len(), 2);
    assert_eq!(datasets["tank/home"][1].mark, None);
}

#[test]
fn points_that_are_none_are_refused_in_exact_words() {
    let read = |text: &[u8]| points::read(text, "points", &rules(Kind::One, 1, 1));
    let whole = "tank@a\tguid\t1\ntank@a\tcreatetxg\t2\n";
    for (more, why) in [
        ("tank@a\tguid\n", "points: line 3: not a name, a property and a value, with tabs between"),
        (
            "tank@a\tguid\t1\tx\n",
            "points: line 3: not a name, a property and a value, with tabs between",
        ),
        ("\n", "points: line 3: not a name, a property and a value, with tabs between"),
        (
            "tank@a\tcolour\tblue\n",
            "points: line 3: neither guid, createtxg, encryption nor akashita:id",
        ),
        ("tank@a\tguid\t3\n", "points: line 3: says another thing than a line before"),
        ("tank@b\tguid\t3\n", "points: tank@b: no createtxg"),
        (
            "tank@akashita:1\tguid\t3\ntank@akashita:1\tcreatetxg\t3\n",
            "points: tank@akashita:1: no akashita:id",
        ),
        ("tank@b\tcreatetxg\t3\n", "points: tank@b: no guid"),
        ("tank@b\tcreatetxg\t3\ntank@b\tguid\tx\n", "points: tank@b: no guid"),
    ] {
        let told = read(format!("{whole}{more}").as_bytes()).unwrap_err();
        assert_eq!(told.to_string(), why);
    }
    let told = read(b"tank@a\tguid\t\xff\n").unwrap_err();
    assert_eq!(told.to_string(), "points: line 1: not UTF-8");
    assert!(read(b"").unwrap().is_empty());
}
