use super::*;
use crate::line::Format;
use crate::treehash::{LEAF, TreeHash};
use proptest::prelude::*;

pub(crate) const MIB: u64 = LEAF as u64;

/// The catalog lines of `data`, cut into parts of one MiB and volumes of
/// `parts` parts, whose archives are called `NAME/0` and so on.
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
            archive_id: format!("{name}/{volume}"),
            uploaded: time,
        }));
        offset += bytes.len() as u64;
    }
    lines.push(Line::Stored(Stored {
        v: 1,
        stream,
        host: "nas".into(),
        name: name.into(),
        format: Format::Bytes,
        guid: None,
        from_guid: None,
        compound: false,
        resumed: false,
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
    let id = |lines: &[Line]| plan(lines, false).unwrap().streams[0].volumes[0].archive_id.clone();
    assert_eq!(id(&lines), "t@mon/0");
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
    refused(&|l| end(l).volumes = 1, "\"stored\" tells of 1 volumes");
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
    let numbers: Vec<u32> = part.streams[0].volumes.iter().map(|volume| volume.number).collect();
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
