use super::dependencies::Held;
use super::scan::{select, survey};
use super::*;
use crate::hash::tree::Hash;
use crate::line::{Archive, Format, Hashes, Line};
use proptest::prelude::*;

fn id(number: u64) -> StreamId {
    format!("{number:032x}").parse().unwrap()
}

/// A stored stream: number, name, guid, base.
fn stored(number: u64, name: &str, guid: u64, from: Option<u64>) -> Stored {
    Stored {
        created: None,
        features: None,
        clone: false,
        misplaced: 0,
        v: 1,
        stream: id(number),
        host: "nas".into(),
        name: name.into(),
        format: Format::Zfs,
        guid: Some(Guid(guid)),
        from_guid: from.map(Guid),
        compound: false,
        resumed: false,
        filter: None,
        generation: 0,
        volumes: 1,
        size: 1000,
        treehash: Hash([7; 32]),
        whole: "zfs".into(),
        dest: "glacier://cold".into(),
        region: "eu-central-1".into(),
        manifest_id: Some("m".into()),
        stored: format!("2026-01-{:02}T00:00:00Z", number % 28 + 1).parse().unwrap(),
    }
}

fn now() -> Timestamp {
    "2026-02-01T00:00:00Z".parse().unwrap()
}

fn compound(number: u64, name: &str) -> Stored {
    Stored { guid: None, compound: true, ..stored(number, name, 0, None) }
}

fn inner(number: u64, name: &str, guid: u64, from: Option<u64>, offset: u64) -> Snapshot {
    Snapshot {
        created: None,
        features: None,
        clone: false,
        stream: id(number),
        name: name.into(),
        guid: Guid(guid),
        from_guid: from.map(Guid),
        offset,
    }
}

/// An archive of a volume of a stored stream.
fn placed(stored: &Stored, volume: u32, archive_id: &str) -> Archive {
    let Stored { stream, host, name, generation, dest, region, .. } = stored.clone();
    let (v, offset, size, treehash) = (1, 0, 1000, Hash([7; 32]));
    let (part_size, archive_id) = (1 << 20, archive_id.into());
    let uploaded = "2026-01-01T00:00:00Z".parse().unwrap();
    #[rustfmt::skip]
    let archive = Archive {
        v, stream, host, name, generation, volume, offset, size, treehash, part_size, dest, region,
        version: None,
        class: None,
        composite: None,
        etag: None,
        archive_id, uploaded,
    };
    archive
}

fn add(catalog: &mut Catalog, line: &Archive, at: u64) {
    catalog.archive(&line.into(), &line.name, at);
}

/// A catalog of streams, each with its one archive: `0` and so on.
fn catalog(lines: &[Stored], snapshots: &[Snapshot]) -> Catalog {
    lacking(lines, snapshots, |catalog| {
        for (at, line) in (0..).zip(lines) {
            add(catalog, &placed(line, 0, &at.to_string()), at);
        }
    })
}

/// A catalog with the archives that `add` adds.
fn lacking(lines: &[Stored], snapshots: &[Snapshot], add: impl FnOnce(&mut Catalog)) -> Catalog {
    let mut catalog = Catalog::default();
    for (at, line) in (0..).zip(lines) {
        catalog.stored(line, at);
    }
    for line in snapshots {
        catalog.snapshot(line);
    }
    add(&mut catalog);
    catalog.settle();
    catalog
}

/// The chain's stream numbers, or the message of the failure.
fn chain(catalog: &Catalog, word: &str) -> Result<Vec<u64>, String> {
    let links = catalog.chain(word, &HashSet::new()).map_err(|e| {
        assert_eq!(e.code(), 65, "{e}");
        e.to_string()
    })?;
    Ok(links
        .iter()
        .map(|link| u64::from_str_radix(&link.stream.to_string(), 16).unwrap())
        .collect())
}

#[test]
fn a_filtered_stream_is_a_link_as_a_plain_one_is() {
    let filtered = |number, name, guid, from| Stored {
        format: Format::Bytes,
        filter: Some("age -r age1x".parse().unwrap()),
        ..stored(number, name, guid, from)
    };
    let mut catalog = Catalog::default();
    let all = [
        filtered(1, "t@mon", 10, None),
        stored(2, "t@tue", 20, Some(10)),
        filtered(3, "t@wed", 30, Some(20)),
        // Its base is nowhere; and what is no snapshot at all.
        filtered(4, "u@wed", 40, Some(39)),
        Stored { guid: None, ..filtered(5, "photos.tar", 0, None) },
    ];
    let (bytes, at) = (all[4].clone(), 0);
    for stored in all {
        catalog.stored(&Stored { volumes: 0, ..stored }, at);
    }
    catalog.settle();
    let links = catalog.chain("t@wed", &HashSet::new());
    let ids = |links: Result<Vec<Link>>| -> Vec<StreamId> {
        links.unwrap().into_iter().map(|link| link.stream).collect()
    };
    assert_eq!(ids(links).len(), 3);
    assert_eq!(ids(catalog.chain("30", &[Guid(10)].into())).len(), 2, "by guid, from another");
    assert_eq!(catalog.chain("u@wed", &HashSet::new()).unwrap_err().code(), 65);
    assert_eq!(ids(catalog.chain("photos.tar", &HashSet::new())), [bytes.stream]);
    let lengths = catalog.lengths();
    assert!(lengths.values().any(|length| *length == 3), "{lengths:?}");
    let listed = catalog.list(&HashSet::new(), Timestamp::UNIX_EPOCH);
    let filters: Vec<bool> = listed.iter().map(|line| line.filter.is_some()).collect();
    assert_eq!(filters, [true, true, false, true], "photos, mon, tue, wed");
    let roads = catalog.roads(&HashSet::new());
    let wed = Held { name: "t@wed".into(), guid: Some(Guid(30)), created: None };
    assert_eq!(roads[2].holds, [wed]);
    assert_eq!((roads[2].before.len(), roads[4].holds[0].guid), (1, None));
}

#[test]
fn walks_back_to_the_full_stream() {
    let catalog = catalog(
        &[
            stored(3, "t@wed", 30, Some(20)),
            stored(1, "t@mon", 10, None),
            stored(2, "t@tue", 20, Some(10)),
        ],
        &[],
    );
    assert_eq!(chain(&catalog, "t@wed"), Ok(vec![1, 2, 3]));
    assert_eq!(chain(&catalog, "20"), Ok(vec![1, 2]));
    assert_eq!(chain(&catalog, &id(1).to_string()), Ok(vec![1]));
}

#[test]
fn a_name_of_two_snapshots_is_not_guessed() {
    let catalog = catalog(
        &[
            stored(1, "t@mon", 10, None),
            Stored { host: "b".into(), ..stored(2, "t@mon", 20, None) },
        ],
        &[],
    );
    assert_eq!(
        chain(&catalog, "t@mon").unwrap_err(),
        "t@mon: means 2 things, give one's number instead: 10 (stored 2026-01-02T00:00:00Z on \
         nas), 20 (stored 2026-01-03T00:00:00Z on b)"
    );
    assert_eq!(chain(&catalog, "20"), Ok(vec![2]));
}

#[test]
fn names_the_link_that_is_missing() {
    let catalog =
        catalog(&[stored(2, "t@tue", 20, Some(10)), stored(3, "t@wed", 30, Some(20))], &[]);
    assert_eq!(
        chain(&catalog, "t@wed").unwrap_err(),
        "t@wed: snapshot 10, which t@tue is based on, is in no stored stream"
    );
}

#[test]
fn the_rest_of_an_interrupted_stream_is_no_link() {
    let rest = Stored { resumed: true, ..stored(2, "t@tue", 20, Some(10)) };
    let lines = [stored(1, "t@mon", 10, None), rest, stored(3, "t@wed", 30, Some(20))];
    let catalog = catalog(&lines, &[]);
    assert!(chain(&catalog, "t@wed").unwrap_err().contains("snapshot 20"));
    assert!(chain(&catalog, "t@tue").unwrap_err().contains("zfs send -t"));
    assert!(chain(&catalog, &id(2).to_string()).unwrap_err().contains("zfs send -t"));
}

#[test]
fn a_circle_is_told() {
    let lines = [stored(1, "a", 10, Some(20)), stored(2, "b", 20, Some(10))];
    assert!(chain(&catalog(&lines, &[]), "a").unwrap_err().contains("comes back to"));
    let own = [stored(1, "a", 10, Some(10))];
    assert!(chain(&catalog(&own, &[]), "a").unwrap_err().contains("comes back to a"));
}

#[test]
fn takes_the_way_with_the_fewest_bytes_that_is_whole() {
    let lines = [
        stored(1, "t@mon", 10, None),
        Stored { size: 10, ..stored(2, "t@tue", 20, Some(10)) },
        Stored { size: 5000, ..stored(3, "t@tue", 20, None) },
        Stored { size: 1, ..stored(4, "t@tue", 20, Some(99)) },
    ];
    assert_eq!(chain(&catalog(&lines, &[]), "t@tue"), Ok(vec![1, 2]));
    assert_eq!(chain(&catalog(&lines[2..], &[]), "t@tue"), Ok(vec![3]));
}

#[test]
fn the_latest_of_two_stored_lines_counts() {
    let old = stored(1, "t@mon", 10, None);
    let new = Stored {
        dest: "glacier://other".into(),
        generation: 1,
        stored: "2027-01-01T00:00:00Z".parse().unwrap(),
        ..old.clone()
    };
    for lines in [[old.clone(), new.clone()], [new, old.clone()]] {
        let links = catalog(&lines, &[]).chain("t@mon", &HashSet::new()).unwrap();
        assert_eq!((links[0].dest.as_str(), links[0].generation), ("glacier://other", 1));
    }
    let other = Stored { treehash: Hash([8; 32]), ..old.clone() };
    assert!(chain(&catalog(&[old, other], &[]), "t@mon").unwrap_err().contains("disagree"));
}

#[test]
fn plain_bytes_are_their_own_chain() {
    let plain =
        |number| Stored { format: Format::Bytes, guid: None, ..stored(number, "etc", 0, None) };
    assert_eq!(chain(&catalog(&[plain(1)], &[]), "etc"), Ok(vec![1]));
    let two = catalog(&[plain(1), plain(2)], &[]);
    assert!(chain(&two, "etc").unwrap_err().contains(&id(2).to_string()));
    assert_eq!(chain(&two, &id(2).to_string()), Ok(vec![2]));
}

#[test]
fn a_compound_stream_needs_all_its_bases() {
    let lines = [compound(1, "t@mon"), compound(2, "t@tue")];
    let mut snapshots = vec![
        inner(1, "t@mon", 10, None, 0),
        inner(1, "t/a@mon", 11, None, 100),
        inner(2, "t@tue", 20, Some(10), 0),
        inner(2, "t@noon", 21, Some(20), 50),
        inner(2, "t/a@tue", 22, Some(11), 100),
    ];
    assert_eq!(chain(&catalog(&lines, &snapshots), "t/a@tue"), Ok(vec![1, 2]));
    assert_eq!(chain(&catalog(&lines, &snapshots), "t/a@mon"), Ok(vec![1]));
    snapshots.remove(1);
    assert!(chain(&catalog(&lines, &snapshots), "t@tue").unwrap_err().contains("snapshot 11"));
    // Its bases may lie in different chains; a base is not brought twice.
    let elsewhere = Stored { size: 1, ..stored(3, "t/a@mon", 11, None) };
    let apart = [&lines[..], std::slice::from_ref(&elsewhere)].concat();
    assert_eq!(chain(&catalog(&apart, &snapshots), "t@tue"), Ok(vec![1, 3, 2]));
    assert_eq!(chain(&catalog(&apart, &snapshots), "t/a@tue"), Ok(vec![1, 3, 2]));
    snapshots.insert(1, inner(1, "t/a@mon", 11, None, 100));
    assert_eq!(chain(&catalog(&apart, &snapshots), "t@tue"), Ok(vec![1, 2]));
    assert!(chain(&catalog(&lines, &[]), "t@tue").unwrap_err().contains("no \"snapshot\" line"));
}

#[test]
fn says_what_is_there_instead() {
    let one = catalog(&[stored(1, "t@mon", 10, None)], &[]);
    for word in ["t@tue", "11", &id(2).to_string()] {
        let message = chain(&one, word).unwrap_err();
        assert!(message.ends_with("of its 1 streams t@mon of nas is the newest"), "{message}");
    }
    assert!(chain(&Catalog::default(), "t@mon").unwrap_err().contains("no \"stored\" line"));
}

fn archive(generation: u32, volume: u32, archive_id: &str) -> String {
    let of = Stored { generation, ..two_volumes() };
    Line::Archive(placed(&of, volume, archive_id)).text().unwrap()
}

fn two_volumes() -> Stored {
    Stored { volumes: 2, ..stored(1, "t@mon", 10, None) }
}

fn hashes(stream: u64, part: u32) -> String {
    let treehashes = vec![Hash([7; 32])];
    let dest = "glacier://cold".into();
    Line::Hashes(Hashes { stream: id(stream), generation: 0, volume: 0, part, dest, treehashes })
        .text()
        .unwrap()
}

#[test]
fn selects_the_lines_that_count_in_order() {
    let end = Line::Stored(two_volumes()).text().unwrap();
    let text = [
        "{\"type\":\"archive\",\"stream\":\"torn",
        "\n",
        &archive(0, 1, "second"),
        &archive(0, 0, "replaced"),
        &archive(1, 0, "another-generation"),
        "not JSON\n\n",
        &hashes(9, 0),
        &hashes(1, 50),
        &hashes(1, 0),
        &archive(0, 0, "first"),
        "{\"type\":\"colour\"}\n",
        &end,
        &archive(0, 0, "too-late"),
    ]
    .concat();
    let (catalog, skipped) = survey(text.as_bytes()).unwrap();
    let warning = "stdin: 2 bad lines skipped, the first is 1: a torn line; 1 line of unknown types \
                   skipped";
    assert_eq!(skipped.warning().as_deref(), Some(warning));
    let spans = select(text.as_bytes(), &catalog.chain("t@mon", &HashSet::new()).unwrap()).unwrap();
    let at = |place: u64| usize::try_from(place).unwrap();
    let mut lines = String::new();
    for (start, length) in spans {
        lines += &text[at(start)..at(start + length)];
        lines += "\n";
    }
    let expected =
        [hashes(1, 0), hashes(1, 50), archive(0, 0, "first"), archive(0, 1, "second"), end];
    assert_eq!(lines, expected.concat());
}

#[test]
fn refuses_lines_of_a_later_version() {
    let later =
        Line::Stored(stored(1, "t@mon", 10, None)).text().unwrap().replace("\"v\":1", "\"v\":2");
    let error = survey(later.as_bytes()).unwrap_err();
    assert_eq!(
        (error.code(), error.to_string().as_str()),
        (65, "stdin: line 1: stored: version 2 is newer than this program, which knows 1")
    );
}

#[test]
fn of_two_snapshots_in_one_place_the_last_counts() {
    let lines = [stored(1, "t/a@mon", 11, None), stored(2, "t/a@tue", 12, Some(11))];
    let first = inner(1, "t/b@mon", 21, Some(20), 0);
    let last = inner(1, "t/a@mon", 11, None, 0);
    let told = catalog(&lines, &[first.clone(), last.clone()]);
    assert_eq!(chain(&told, "t/a@tue").unwrap(), [1, 2]);
    assert!(chain(&told, "t/b@mon").is_err(), "it was told otherwise later");
    let told = catalog(&lines, &[last, first]);
    assert!(chain(&told, "t/a@tue").unwrap_err().contains("snapshot 20"));
}

proptest! {
    /// A random forest of bases, some of them received already: each chain is
    /// whole and the shortest, and what can be restored is listed.
    #[test]
    fn every_chain_begins_full_and_each_link_has_its_base(
        bases in prop::collection::vec(prop::option::weighted(0.8, 0u64..40), 1..40),
        there in prop::collection::hash_set((0u64..40).prop_map(Guid), 0..4),
        order in any::<u64>(),
    ) {
        let mut lines: Vec<Stored> = (0..)
            .zip(&bases)
            .map(|(number, base)| stored(number, &format!("t@{number}"), number, *base))
            .collect();
        let turn = usize::try_from(order % 40).unwrap() % lines.len();
        lines.rotate_left(turn);
        let catalog = catalog(&lines, &[]);
        let listed = catalog.list(&there, now());
        for number in 0..bases.len() as u64 {
            // The oracle: follow the bases until one is there, missing or
            // repeats.
            let mut expected = vec![number];
            let whole = loop {
                match bases.get(usize::try_from(*expected.last().unwrap()).unwrap()) {
                    Some(None) => break true,
                    Some(Some(base)) if there.contains(&Guid(*base)) => break true,
                    Some(Some(base)) if !expected.contains(base) => expected.push(*base),
                    _ => break false,
                }
            };
            expected.reverse();
            let wanted = !there.contains(&Guid(number));
            let line = listed.iter().find(|line| line.guid == Some(Guid(number)));
            match catalog.chain(&number.to_string(), &there) {
                Ok(found) => {
                    prop_assert!(whole && wanted);
                    let found: Vec<StreamId> = found.iter().map(|link| link.stream).collect();
                    let expected: Vec<StreamId> = expected.iter().copied().map(id).collect();
                    prop_assert_eq!(&found, &expected);
                    let line = line.unwrap();
                    prop_assert_eq!((line.streams as usize, line.size), (found.len(), 1000 * found.len() as u64));
                }
                Err(error) => {
                    prop_assert!(!(whole && wanted) && line.is_none());
                    prop_assert_eq!(error.code(), 65);
                }
            }
        }
        prop_assert!(listed.len() <= bases.len());
    }
}

#[test]
fn a_chain_may_begin_with_what_is_there() {
    let lines = [
        stored(1, "t/a@mon", 11, None),
        stored(2, "t/a@tue", 12, Some(11)),
        stored(3, "t/a@wed", 13, Some(12)),
    ];
    let catalog = catalog(&lines, &[]);
    let chain = |from: &[u64]| {
        let there = from.iter().copied().map(Guid).collect();
        let found = catalog.chain("t/a@wed", &there).map_err(|e| e.to_string())?;
        Ok::<_, String>(found.iter().map(|link| link.stream).collect::<Vec<_>>())
    };
    assert_eq!(chain(&[]).unwrap().len(), 3);
    assert_eq!(chain(&[11]).unwrap(), [id(2), id(3)]);
    assert_eq!(chain(&[11, 12]).unwrap(), [id(3)]);
    assert_eq!(chain(&[13]).unwrap_err(), "t/a@wed: is there already, as --from says");
    assert_eq!(catalog.guid("t/a@mon").unwrap(), Guid(11));
    assert_eq!(catalog.guid("77").unwrap(), Guid(77), "one that only the other side has");
    assert_eq!(catalog.guid("t/a@sun").unwrap_err().code(), 65);
}

#[test]
fn lists_what_can_be_restored_and_nothing_else() {
    let bytes = Stored { format: Format::Bytes, guid: None, ..stored(5, "photos.tar", 0, None) };
    let lines = [
        stored(1, "t/a@mon", 11, None),
        stored(2, "t/a@tue", 12, Some(11)),
        stored(3, "t/b@tue", 22, Some(21)),
        Stored { resumed: true, ..stored(4, "t/c@mon", 31, None) },
        bytes,
    ];
    let listed = catalog(&lines, &[]).list(&HashSet::new(), now());
    let names: Vec<(&str, u32)> =
        listed.iter().map(|line| (line.name.as_str(), line.streams)).collect();
    assert_eq!(names, [("photos.tar", 1), ("t/a@mon", 1), ("t/a@tue", 2)]);
}

#[test]
fn a_gap_in_the_volumes_is_told_and_gone_around() {
    let [mon, tue] = [stored(1, "t@mon", 10, None), stored(2, "t@tue", 20, Some(10))];
    let mon = Stored { volumes: 3, ..mon };
    let lines = [mon.clone(), tue.clone()];
    let with = |volumes: &'static [u32], lines: &[Stored]| {
        let (mon, tue) = (mon.clone(), tue.clone());
        lacking(lines, &[], move |catalog| {
            for volume in volumes {
                add(catalog, &placed(&mon, *volume, &volume.to_string()), 0);
            }
            add(catalog, &placed(&tue, 0, "tue"), 1);
        })
    };
    assert_eq!(chain(&with(&[2, 0, 1], &lines), "t@tue"), Ok(vec![1, 2]));
    let gap = with(&[0, 2, 3], &lines);
    for (word, message) in [
        ("t@mon", "t@mon: volume 1: no \"archive\" line"),
        ("t@tue", "t@tue: t@mon, volume 1: no \"archive\" line"),
    ] {
        assert_eq!(chain(&gap, word).unwrap_err(), message);
    }
    assert_eq!(gap.list(&HashSet::new(), now()), []);
    // Behind its `stored` line an archive does not belong to it.
    let late = lacking(&lines[1..], &[], |catalog| {
        add(catalog, &placed(&tue, 0, "tue"), 1);
    });
    assert!(chain(&late, "t@tue").unwrap_err().ends_with("volume 0: no \"archive\" line"));
}

#[test]
fn what_was_deleted_is_not_restored_but_another_copy_is() {
    let here = stored(1, "t@mon", 10, None);
    let there = Stored {
        dest: "glacier://other".into(),
        stored: "2025-01-01T00:00:00Z".parse().unwrap(),
        ..here.clone()
    };
    let deleted = |id: &str| Deleted { archive_id: Some(id.into()), ..Deleted::default() };
    let of = |gone: &[&str]| {
        let lines = [there.clone(), here.clone()];
        lacking(&lines, &[], |catalog| {
            for (at, line) in (0..).zip(&lines) {
                add(catalog, &placed(line, 0, &at.to_string()), at);
            }
            for id in gone {
                catalog.deleted(&deleted(id));
            }
        })
    };
    let dest = |catalog: &Catalog| {
        let links = catalog.chain("t@mon", &HashSet::new()).map_err(|e| e.to_string());
        links.map(|links| links[0].dest.clone())
    };
    assert_eq!(dest(&of(&[])), Ok("glacier://cold".to_owned()), "the latest");
    assert_eq!(dest(&of(&["1"])), Ok("glacier://other".to_owned()));
    assert_eq!(dest(&of(&["0", "7"])), Ok("glacier://cold".to_owned()));
    let message = "t@mon: volume 0: its archive was deleted";
    assert_eq!(dest(&of(&["0", "1"])), Err(message.to_owned()));
    assert_eq!(of(&["0", "1"]).list(&HashSet::new(), now()), []);
}

#[test]
fn what_is_not_stored_yet_is_told_from_what_is_not_known() {
    let [whole, begun] = [stored(1, "t@mon", 10, None), stored(2, "t@tue", 20, Some(10))];
    let catalog = lacking(&[whole], &[], |catalog| {
        add(catalog, &placed(&begun, 0, "tue"), 1);
    });
    for word in ["t@tue".to_owned(), id(2).to_string()] {
        let message = chain(&catalog, &word).unwrap_err();
        assert!(message.contains("is not stored, though 1 of its archives is there"), "{message}");
    }
}

#[test]
fn an_archive_line_that_is_bad_is_none_in_either_pass() {
    let end = Line::Stored(two_volumes()).text().unwrap();
    for (good, bad) in [
        ("\"size\":1000", "\"size\":-1"),
        ("\"treehash\":\"07", "\"treehash\":\"x7"),
        ("\"uploaded\":\"2026", "\"uploaded\":\"soon"),
        ("\"host\":\"nas\"", "\"host\":7"),
        ("\"host\":\"nas\"", "\"type\":\"archive\""),
    ] {
        let second = archive(0, 1, "b").replace(good, bad);
        let text = [archive(0, 0, "a"), second, end.clone()].concat();
        let (catalog, skipped) = survey(text.as_bytes()).unwrap();
        assert!(skipped.warning().unwrap().contains("1 bad line"), "{bad}");
        let message = chain(&catalog, "t@mon").unwrap_err();
        assert_eq!(message, "t@mon: volume 1: no \"archive\" line", "{bad}");
    }
}

const PLAIN: Features = Features(1 << 2);
const LARGE: Features = Features(1 << 2 | 1 << 19);
const RAW: Features = Features(1 << 2 | 1 << 19 | 1 << 24);

fn sent(features: Features, stored: Stored) -> Stored {
    Stored { features: Some(features), ..stored }
}

#[test]
fn what_zfs_receive_would_refuse_is_in_no_chain() {
    let lines = [
        sent(LARGE, stored(1, "t@mon", 10, None)),
        sent(PLAIN, stored(2, "t@tue", 20, Some(10))),
        sent(PLAIN, stored(3, "t@wed", 30, Some(20))),
    ];
    let catalog = catalog(&lines, &[]);
    assert_eq!(chain(&catalog, "t@mon").unwrap(), [1]);
    let why = "zfs receive does not take it: its base t@mon was sent with large blocks \
               (zfs send -L), and this without";
    assert_eq!(chain(&catalog, "t@tue").unwrap_err(), format!("t@tue: {why}"));
    assert_eq!(chain(&catalog, "t@wed").unwrap_err(), format!("t@wed: t@tue: {why}"));
    assert_eq!(catalog.list(&HashSet::new(), now()).len(), 1);
    let closed = Some(dependencies::Closed::Alone(why.to_owned()));
    assert_eq!(catalog.roads(&HashSet::new())[1].closed, closed);
    // Where the base is received already, who received it knows.
    let there = HashSet::from([Guid(10)]);
    assert_eq!(catalog.chain("t@wed", &there).unwrap().len(), 2);
}

#[test]
fn a_base_is_taken_from_the_stream_that_fits() {
    let lines = [
        sent(LARGE, stored(1, "t@mon", 10, None)),
        Stored { size: 9000, ..sent(PLAIN, stored(2, "t@mon", 10, None)) },
        sent(PLAIN, stored(3, "t@tue", 20, Some(10))),
        sent(RAW, stored(4, "t@wed", 30, Some(20))),
    ];
    let catalog = catalog(&lines, &[]);
    assert_eq!(chain(&catalog, "t@mon").unwrap(), [1], "the cheaper");
    assert_eq!(chain(&catalog, "t@tue").unwrap(), [2, 3]);
    let why = "its base t@tue was not sent raw, and this was (zfs send -w)";
    assert_eq!(
        chain(&catalog, "t@wed").unwrap_err(),
        format!("t@wed: zfs receive does not take it: {why}")
    );
}

#[test]
fn a_clone_comes_back_behind_its_origin_and_beside_it() {
    let clone = Stored { clone: true, ..stored(3, "t/jail@1", 30, Some(20)) };
    let lines = [
        stored(1, "t/base@mon", 10, None),
        stored(2, "t/base@tue", 20, Some(10)),
        clone,
        stored(4, "t/jail@2", 40, Some(30)),
    ];
    let catalog = catalog(&lines, &[]);
    assert_eq!(
        chain(&catalog, "t/jail@2").unwrap_err(),
        "t/jail@2: is of a clone of t/base@tue, which is another dataset; restore that, and then \
         this into a dataset of its own, with --from 20"
    );
    assert_eq!(catalog.chain("t/jail@2", &HashSet::from([Guid(20)])).unwrap().len(), 2);
    let listed = catalog.list(&HashSet::new(), now());
    let origins: Vec<_> = listed.iter().map(|it| (it.streams, it.origin)).collect();
    let origin = Some(Guid(20));
    assert_eq!(origins, [(1, None), (2, None), (3, origin), (4, origin)]);
}

#[test]
fn what_a_receiver_misplaces_is_counted_along_the_chain() {
    let lines = [
        Stored { misplaced: 2, ..stored(1, "t@mon", 10, None) },
        Stored { misplaced: 1, ..stored(2, "t@tue", 20, Some(10)) },
        stored(3, "t@wed", 30, Some(20)),
        stored(4, "t@wed", 30, None),
    ];
    let listed = catalog(&lines, &[]).list(&HashSet::new(), now());
    assert_eq!(listed.iter().map(|it| it.misplaced).collect::<Vec<_>>(), [2, 3, 0]);
}

#[test]
fn a_snapshot_was_taken_when_it_says_unless_that_cannot_be() {
    let day = |day: u64| format!("2026-01-{day:02}T00:00:00Z").parse::<Timestamp>().unwrap();
    let taken = |at: u64, stored: Stored| Stored { created: Some(day(at)), ..stored };
    // They were stored on the 2nd to the 6th.
    let lines = [
        taken(1, stored(1, "t@a", 10, None)),
        taken(9, stored(2, "t@b", 20, Some(10))),
        taken(2, stored(3, "t@c", 30, Some(20))),
        stored(4, "t@d", 40, Some(30)),
        taken(3, stored(5, "t@e", 50, Some(40))),
    ];
    let known = catalog(&lines, &[]);
    let times = known.times();
    let expected = [(10, 1), (20, 3), (30, 3), (50, 3)];
    assert_eq!(times, expected.map(|(guid, at)| (Guid(guid), day(at))).into());
    let listed = known.list(&HashSet::new(), now());
    let at: Vec<_> = listed.iter().map(|it| (&*it.name, it.created, it.age_s / 86_400)).collect();
    let taken_on = |at| Some(day(at));
    assert_eq!(
        at,
        [
            ("t@a", taken_on(1), 31),
            ("t@b", taken_on(3), 29),
            ("t@c", taken_on(3), 29),
            ("t@e", taken_on(3), 29),
            ("t@d", None, 27)
        ]
    );
    // A circle of bases is no endless loop.
    let circle =
        [taken(1, stored(1, "t@a", 10, Some(20))), taken(1, stored(2, "t@b", 20, Some(10)))];
    assert_eq!(catalog(&circle, &[]).times().len(), 2);
}

/// A dataset that receives, after `module/zfs/dmu_recv.c` and in its words.
#[derive(Default)]
struct Dataset {
    snapshots: Vec<u64>,
    large_blocks_active: bool,
    encrypted: bool,
}

impl Dataset {
    fn receive(&mut self, guid: u64, from: Option<u64>, features: u64) -> bool {
        let (large, raw) = (features & (1 << 19) != 0, features & (1 << 24) != 0);
        let taken = match from {
            None => self.snapshots.is_empty(),
            Some(from) => {
                self.snapshots.last() == Some(&from)
                    && (large || !self.large_blocks_active)
                    && raw == self.encrypted
            }
        };
        if taken {
            self.snapshots.push(guid);
            self.large_blocks_active |= large;
            self.encrypted = raw;
        }
        taken
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    /// Random streams of a few snapshots, several of one snapshot: what chain
    /// gives is received, and where it gives nothing no order of streams is.
    #[test]
    fn a_chain_is_what_is_received(
        made in prop::collection::vec((0u64..5, prop::option::weighted(0.7, 0u64..5), 0usize..3), 1..9),
    ) {
        let features = [PLAIN, LARGE, RAW];
        let lines: Vec<Stored> = (0..)
            .zip(&made)
            .map(|(number, (guid, from, kind))| {
                sent(features[*kind], stored(number, &format!("t@{guid}"), *guid, *from))
            })
            .collect();
        let catalog = catalog(&lines, &[]);
        let of = |stream: StreamId| lines.iter().position(|line| line.stream == stream).unwrap();
        let receive = |order: &[usize]| {
            let mut dataset = Dataset::default();
            order.iter().all(|index| {
                let (guid, from, kind) = made[*index];
                dataset.receive(guid, from, features[kind].0)
            })
        };
        // All orders in which streams are received, each snapshot once.
        let mut orders: Vec<Vec<usize>> = vec![Vec::new()];
        let mut reached = HashSet::new();
        while let Some(order) = orders.pop() {
            for next in 0..made.len() {
                let longer: Vec<usize> = order.iter().copied().chain([next]).collect();
                let is_new = order.iter().all(|index| made[*index].0 != made[next].0);
                if is_new && receive(&longer) {
                    reached.insert(made[next].0);
                    orders.push(longer);
                }
            }
        }
        for (guid, ..) in &made {
            match catalog.chain(&guid.to_string(), &HashSet::new()) {
                Ok(found) => {
                    let order: Vec<usize> = found.iter().map(|link| of(link.stream)).collect();
                    prop_assert!(receive(&order), "{order:?}");
                    prop_assert_eq!(made[*order.last().unwrap()].0, *guid);
                }
                Err(error) => prop_assert!(!reached.contains(guid), "{error}"),
            }
        }
    }
}
