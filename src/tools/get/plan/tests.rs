use super::*;
use crate::hash::tree::{Fold, LEAF, TreeHash};
use crate::line::{Format, Hashes};
use proptest::prelude::*;

pub(crate) const MIB: u64 = LEAF as u64;

/// The catalog lines of `data`, cut into parts of one MiB and volumes of
/// `parts` parts, whose archives are called `NAME-0` and so on.
pub(crate) fn lines(number: u8, name: &str, data: &[u8], parts: usize) -> Vec<Line> {
    let stream: StreamId = format!("{number:032x}").parse().unwrap();
    let time = "2026-01-01T00:00:00Z".parse().unwrap();
    let (dest, region) = ("glacier://cold".to_owned(), "eu-central-1".to_owned());
    let mut lines = Vec::new();
    let (mut offset, mut all) = (0, Fold::default());
    for (volume, bytes) in (0..).zip(data.chunks(parts * LEAF)) {
        let hashes: Vec<Hash> = bytes.chunks(LEAF).map(TreeHash::of).collect();
        // Runs of two, so that several are needed.
        for (run, treehashes) in (0..).zip(hashes.chunks(2)) {
            lines.push(Line::Hashes(Hashes {
                stream,
                generation: 0,
                volume,
                part: run * 2,
                dest: dest.clone(),
                treehashes: treehashes.to_vec(),
            }));
        }
        let treehash = hashes.into_iter().collect::<Fold>().finish();
        all.push(treehash);
        lines.push(Line::Archive(Archive {
            v: 1,
            stream,
            host: "nas".into(),
            name: name.into(),
            generation: 0,
            volume,
            offset,
            size: bytes.len() as u64,
            treehash,
            part_size: MIB,
            dest: dest.clone(),
            region: region.clone(),
            archive_id: format!("{}-{volume}", name.replace('@', "_")).into(),
            version: None,
            class: None,
            composite: None,
            etag: None,
            uploaded: time,
        }));
        offset += bytes.len() as u64;
    }
    lines.push(Line::Stored(Stored {
        created: None,
        features: None,
        clone: false,
        misplaced: 0,
        v: 1,
        stream,
        host: "nas".into(),
        name: name.into(),
        format: Format::Bytes,
        guid: None,
        from_guid: None,
        compound: false,
        resumed: false,
        filter: None,
        generation: 0,
        volumes: u32::try_from(data.len().div_ceil(parts * LEAF)).unwrap(),
        size: data.len() as u64,
        treehash: all.finish(),
        whole: "trusted".into(),
        dest,
        region,
        manifest_id: None,
        stored: time,
    }));
    lines
}

pub(crate) fn plan(lines: &[Line], partial: bool) -> Result<Plan> {
    let mut gathered = Lines::default();
    lines.iter().try_for_each(|line| gathered.take(line.clone()))?;
    gathered.plan(partial)
}

fn refusal(lines: &[Line]) -> String {
    let error = plan(lines, false).unwrap_err();
    assert_eq!(error.code(), 65, "{error}");
    error.to_string()
}

pub(crate) fn data(size: usize) -> Vec<u8> {
    (0..=250).cycle().take(size).collect()
}

fn archive(lines: &mut [Line], volume: u32) -> &mut Archive {
    lines
        .iter_mut()
        .find_map(|line| match line {
            Line::Archive(archive) if archive.volume == volume => Some(archive),
            _ => None,
        })
        .unwrap()
}

fn end(lines: &mut [Line]) -> &mut Stored {
    match lines.last_mut() {
        Some(Line::Stored(stored)) => stored,
        _ => panic!("no stored line"),
    }
}

#[test]
fn plans_every_part_of_a_whole_stream() {
    let lines = lines(1, "t@mon", &data(7 * LEAF + 5), 4);
    let plan = plan(&lines, false).unwrap();
    assert_eq!(plan.places.len(), 1);
    let [stream] = plan.streams.as_slice() else { panic!("{plan:?}") };
    let parts: Vec<usize> = stream.volumes.iter().map(|volume| volume.hashes.len()).collect();
    assert_eq!((parts, stream.size), (vec![4, 4], 7 * MIB + 5));
}

#[test]
fn a_line_that_lacks_is_refused_by_name() {
    let lines = lines(1, "t@mon", &data(7 * LEAF), 4);
    for missing in 0..lines.len() {
        let mut less = lines.clone();
        let expected = match less.remove(missing) {
            Line::Stored(_) => "t@mon: no \"stored\" line".to_owned(),
            Line::Archive(archive) => format!("t@mon: volume {}: no \"archive\"", archive.volume),
            Line::Hashes(run) => format!("t@mon: volume {}: the hashes of its", run.volume),
            _ => unreachable!(),
        };
        let message = refusal(&less);
        assert!(message.starts_with(&expected), "{message}, not {expected}");
    }
}

#[test]
fn identical_repeats_are_legal() {
    let lines = lines(1, "t@mon", &data(7 * LEAF), 4);
    let once = plan(&lines, false).unwrap();
    assert_eq!(plan(&[&lines[..], &lines[..]].concat(), false).unwrap(), once);
    let twice: Vec<Line> = lines.iter().flat_map(|line| [line.clone(), line.clone()]).collect();
    assert_eq!(plan(&twice, false).unwrap(), once);
}

#[test]
fn the_last_archive_before_stored_counts() {
    let mut lines = lines(1, "t@mon", &data(2 * LEAF), 4);
    let mut other = archive(&mut lines, 0).clone();
    other.archive_id = "older".into();
    lines.insert(0, Line::Archive(other.clone()));
    other.archive_id = "later".into();
    lines.push(Line::Archive(other));
    let id =
        |lines: &[Line]| plan(lines, false).unwrap().streams[0].volumes[0].line.archive_id.clone();
    assert_eq!(id(&lines), "t_mon-0");
    lines.push(lines[lines.len() - 2].clone());
    assert_eq!(id(&lines), "later");
}

#[test]
fn only_the_generation_of_stored_counts() {
    let mut lines = lines(1, "t@mon", &data(2 * LEAF), 4);
    let mut other = archive(&mut lines, 0).clone();
    (other.generation, other.treehash) = (1, Hash([9; 32]));
    lines.insert(1, Line::Archive(other));
    assert!(plan(&lines, false).is_ok());
    end(&mut lines).generation = 1;
    assert!(refusal(&lines).contains("the hashes of its 2 parts"));
}

#[test]
fn what_does_not_fit_is_refused() {
    let good = lines(1, "t@mon", &data(7 * LEAF), 4);
    let refused = |change: &dyn Fn(&mut Vec<Line>), why: &str| {
        let mut lines = good.clone();
        change(&mut lines);
        let message = refusal(&lines);
        assert!(message.contains(why), "{message}, not {why}");
    };
    refused(&|l| archive(l, 1).offset += 1, "begins at");
    refused(&|l| archive(l, 1).size -= 1, "\"stored\" tells of 7340032");
    refused(&|l| archive(l, 1).size -= MIB, "the hashes of its 2 parts");
    refused(&|l| archive(l, 1).size = 0, "has no bytes");
    refused(&|l| archive(l, 0).part_size = 3, "part size");
    refused(&|l| archive(l, 0).treehash = Hash([9; 32]), "do not give its tree hash");
    let tape = |l: &mut Vec<Line>| {
        for line in l {
            match line {
                Line::Hashes(line) => line.dest = "tape://1".into(),
                Line::Archive(line) => line.dest = "tape://1".into(),
                Line::Stored(line) => line.dest = "tape://1".into(),
                _ => {}
            }
        }
    };
    refused(&tape, "\"tape://\" is no destination");
    refused(&|l| end(l).treehash = Hash([9; 32]), "tree hash of \"stored\"");
    refused(&|l| end(l).volumes = 1, "have 4194304 bytes, \"stored\" tells of 7340032");
    refused(&|l| end(l).volumes = 3, "volume 2: no \"archive\" line");
    refused(&|l| end(l).volumes = u32::MAX, "volume 2: no \"archive\" line");
    refused(&|l| end(l).size += 1, "bytes, \"stored\" tells of");
    refused(
        &|l| {
            let mut other = end(l).clone();
            other.treehash = Hash([9; 32]);
            l.push(Line::Stored(other));
        },
        "disagree",
    );
    refused(&|l| l.clear(), "no catalog lines");
}

#[test]
fn a_chain_that_was_cut_short_is_refused() {
    let (full, next) = (lines(1, "t@mon", &data(10), 4), lines(2, "t@tue", &data(20), 4));
    let head = Line::Chain(Chain { stream: "2".repeat(32).parse().unwrap(), streams: 2 });
    let head = match head {
        Line::Chain(chain) => {
            Line::Chain(Chain { stream: format!("{:032x}", 2).parse().unwrap(), ..chain })
        }
        other => other,
    };
    let all = [&[head][..], &full, &next].concat();
    assert_eq!(plan(&all, false).unwrap().streams.len(), 2);
    for length in 1..all.len() {
        refusal(&all[..length]);
    }
}

#[test]
fn partial_takes_what_is_there_in_order() {
    let good = lines(1, "t@mon", &data(11 * LEAF), 4);
    let without: Vec<Line> = good
        .iter()
        .filter(|line| match line {
            Line::Stored(_) => false,
            Line::Hashes(run) => (run.volume, run.part) != (1, 2),
            _ => true,
        })
        .cloned()
        .collect();
    let part = plan(&without, true).unwrap();
    let numbers: Vec<u32> =
        part.streams[0].volumes.iter().map(|volume| volume.line.volume).collect();
    assert_eq!((numbers, part.streams[0].treehash), (vec![0, 2], None));
    assert_eq!(
        part.warnings,
        [
            "t@mon: no \"stored\" line, so it may not be whole",
            "t@mon: volume 1: the hashes of its 4 parts are not all there, or not once each; \
             volume left out",
            "t@mon: 1 of 3 volumes are left out",
        ]
    );
    assert_eq!(plan(&good, true).unwrap(), plan(&good, false).unwrap());
    assert!(plan(&good[..2], true).is_err());
}

#[test]
fn an_empty_stream_is_a_stream() {
    let plan = plan(&lines(1, "nothing", &[], 4), false).unwrap();
    assert!(plan.streams[0].volumes.is_empty() && plan.streams[0].treehash.is_some());
}

#[test]
fn a_failure_in_the_input_is_passed_on() {
    let failed = crate::line::Failed { stream: None, code: 75, message: "later".into() };
    let error = Lines::default().take(Line::Failed(failed)).unwrap_err();
    assert_eq!((error.code(), error.to_string()), (75, "later".to_owned()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Dropping, repeating or swapping lines never changes what a plan is.
    #[test]
    fn a_plan_is_the_whole_stream_or_none(
        changes in prop::collection::vec((0..3u8, any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..4),
    ) {
        let good = lines(1, "t@mon", &data(7 * LEAF), 2);
        let expected = plan(&good, false).unwrap();
        let mut changed = good;
        for (kind, a, b) in changes {
            let (a, b) = (a.index(changed.len()), b.index(changed.len()));
            match kind {
                0 if changed.len() > 1 => { changed.remove(a); }
                1 => { let line = changed[a].clone(); changed.insert(b, line); }
                _ => changed.swap(a, b),
            }
        }
        if let Ok(found) = plan(&changed, false) {
            prop_assert_eq!(found, expected);
        }
    }
}

#[test]
fn what_was_deleted_is_not_planned() {
    let stream = data(5 * LEAF);
    let mut lines = lines(1, "a", &stream, 2);
    let gone = lines.iter().rev().find_map(|line| match line {
        Line::Archive(archive) => Some(archive.archive_id.clone()),
        _ => None,
    });
    let deleted = format!(
        r#"{{"type":"deleted","archive_id":"{}","deleted":"2026-01-01T00:00:00Z"}}"#,
        gone.unwrap()
    );
    // Wherever it stands.
    lines.insert(0, Line::parse(&deleted).unwrap().unwrap());
    let mut taken = Lines::default();
    for line in lines {
        taken.take(line).unwrap();
    }
    let error = taken.plan(false).unwrap_err();
    assert_eq!(
        (error.code(), error.to_string().as_str()),
        (65, "a: volume 2: its archive was deleted")
    );
}

#[test]
fn the_lines_of_a_plan_make_the_same_plan() {
    let mut given = lines(1, "t@mon", &data(103 * LEAF + 5), 60);
    let snapshot = format!(
        r#"{{"type":"snapshot","stream":"{:032x}","name":"t@mon","guid":"7","offset":0}}"#,
        1
    );
    given.insert(3, Line::parse(&snapshot).unwrap().unwrap());
    given.extend(lines(2, "t@tue", &data(LEAF), 4));
    let head = format!(r#"{{"type":"chain","stream":"{:032x}","streams":2}}"#, 2);
    given.insert(0, Line::parse(&head).unwrap().unwrap());
    let once = plan(&given, false).unwrap();
    let again: Vec<Line> = once.lines(|_, volume| Line::Archive(volume.line.clone())).collect();
    assert_eq!(plan(&again, false).unwrap(), once);
    // Fifty hashes a line.
    assert_eq!(again.len(), 1 + (2 + 1 + 1 + 1 + 1 + 1) + 3);
    assert!(matches!(again.first(), Some(Line::Chain(_))));
}

#[test]
fn a_job_is_its_archive_and_known() {
    let given = lines(1, "t@mon", &data(3 * LEAF), 2);
    let expected = plan(&given, false).unwrap();
    let part = Span { offset: MIB, size: MIB };
    let with_jobs: Vec<Line> = expected
        .lines(|number, volume| {
            let range = (number == 1).then_some(part);
            Line::Job(Job {
                archive: volume.line.clone(),
                job_id: format!("job-{number}").into(),
                tier: "Bulk".into(),
                requested: "2026-01-01T00:00:00Z".parse().unwrap(),
                range_offset: range.map(|range| range.offset),
                range_size: range.map(|range| range.size),
            })
        })
        .collect();
    let mut found = plan(&with_jobs, false).unwrap();
    let jobs: Vec<_> =
        found.streams[0].volumes.iter_mut().flat_map(|v| std::mem::take(&mut v.jobs)).collect();
    assert_eq!(jobs, [(None, "job-0".into()), (Some(part), "job-1".into())]);
    assert_eq!(found, expected);
}

#[test]
fn volumes_are_chosen_by_number() {
    let mut one = plan(&lines(1, "a", &data(7 * LEAF + 5), 2), false).unwrap();
    one.choose_volumes(&[3, 1]).unwrap();
    let stream = &one.streams[0];
    let wanted: Vec<bool> = stream.volumes.iter().map(Volume::is_wanted).collect();
    assert_eq!((wanted, stream.size), (vec![false, true, false, true], 3 * MIB + 5));
    assert_eq!(stream.treehash, None);
    let error = one.choose_volumes(&[4]).unwrap_err();
    assert_eq!(
        (error.code(), error.to_string().as_str()),
        (64, "--volume 4: a has no such volume here; it has 4, from 0")
    );
    let two = [lines(1, "a", &data(LEAF), 2), lines(2, "b", &data(LEAF), 2)].concat();
    let error = plan(&two, false).unwrap().choose_volumes(&[0]).unwrap_err();
    assert_eq!(
        (error.code(), error.to_string().as_str()),
        (64, "--volume is for one stream; stdin has 2")
    );
}

#[test]
fn a_range_is_whole_parts_of_each_volume() {
    let given = lines(1, "a", &data(7 * LEAF + 5), 2);
    let chosen = |first, last| {
        let mut plan = plan(&given, false).unwrap();
        plan.choose_range(first, last).map(|()| plan)
    };
    let found = chosen(MIB, 6 * MIB - 1).unwrap();
    let stream = &found.streams[0];
    let spans: Vec<_> = stream.volumes.iter().map(|volume| volume.wanted).collect();
    let nothing = Some(Span { offset: 0, size: 0 });
    assert_eq!(spans, [Some(Span { offset: MIB, size: MIB }), None, None, nothing]);
    assert_eq!((stream.size, stream.volumes[0].parts().count()), (5 * MIB, 1));
    let end = chosen(7 * MIB, 7 * MIB + 4).unwrap();
    assert_eq!(end.streams[0].volumes[3].wanted, Some(Span { offset: MIB, size: 5 }));
    for (first, last, told) in [
        (5, 9, "--range 5-9: not whole parts; 0-1048575 is"),
        (0, MIB, "--range 0-1048576: not whole parts; 0-2097151 is"),
        (MIB, 9 * MIB, "--range 1048576-9437184: not whole parts; 1048576-7340036 is"),
        (9 * MIB, 9 * MIB, "--range 9437184-9437184: a has no such bytes here"),
    ] {
        let error = chosen(first, last).unwrap_err();
        assert_eq!((error.code(), error.to_string().as_str()), (64, told));
    }
    // What lacks lines cannot be in it.
    let mut less = plan(&given, false).unwrap();
    less.streams[0].volumes.remove(1);
    let error = less.choose_range(0, 7 * MIB + 4).unwrap_err();
    assert!(error.to_string().ends_with("volumes of a are left out of it"), "{error}");
}
