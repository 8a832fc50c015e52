use std::path::Path;

use proptest::prelude::*;

use super::*;

#[path = "../../tests/common/made.rs"]
mod made;

use made::Made;

fn walk(bytes: &[u8]) -> Result<(Ending, Head, Vec<Snapshot>), Damage> {
    let mut walk = Walk::new();
    walk.update(bytes)?;
    let ending = walk.finish()?;
    Ok((ending, walk.head().unwrap().clone(), walk.take_snapshots()))
}

/// The text of the damage in a stream.
fn damage(bytes: &[u8]) -> String {
    walk(bytes).unwrap_err().to_string()
}

fn stream(name: &str) -> Vec<u8> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/streams");
    std::fs::read(dir.join(name)).unwrap()
}

const REAL: [&str; 6] = [
    "full.zfs",
    "incremental-1.zfs",
    "incremental-2.zfs",
    "encrypted-raw-w-incremental.zfs",
    "incremental-I.zfs",
    "replication-R-I.zfs",
];

#[test]
fn follows_a_real_chain() {
    let mut last = None;
    for (file, name) in REAL.into_iter().zip(["tank/home@mon", "tank/home@tue", "tank/home@wed"]) {
        let (ending, head, snapshots) = walk(&stream(file)).unwrap();
        assert_eq!(ending, Ending::Plain);
        assert_eq!((head.name.as_str(), head.from_guid), (name, last));
        assert!(
            !head.compound
                && !head.resumed
                && head.features & (1 << 24) == 0
                && head.created > Some(1_700_000_000)
        );
        assert_eq!(snapshots.len(), 1);
        assert_eq!((snapshots[0].offset, Some(snapshots[0].guid)), (0, head.guid));
        assert_eq!((&snapshots[0].name, snapshots[0].from_guid), (&head.name, last));
        last = head.guid;
    }
}

#[test]
fn knows_a_raw_stream_by_its_flags() {
    let bytes = stream("encrypted-raw-w-incremental.zfs");
    let (ending, head, _) = walk(&bytes).unwrap();
    assert_eq!(ending, Ending::Plain);
    assert!(head.features >> 24 == 1 && !head.resumed && head.from_guid.is_some());
    // The BEGIN of a raw stream has a payload, and the identity takes it in.
    let payload = usize::try_from(u32::from_le_bytes(bytes[4..8].try_into().unwrap())).unwrap();
    assert!(payload > 0);
    assert_eq!(head.identity.finalize(), Sha256::digest(&bytes[..312 + payload]));
}

#[test]
fn lists_the_snapshots_of_real_compound_streams() {
    for (file, name, count) in
        [("incremental-I.zfs", "tank/tree@r3", 2), ("replication-R-I.zfs", "tank/tree@r3", 8)]
    {
        let (ending, head, snapshots) = walk(&stream(file)).unwrap();
        assert_eq!(ending, Ending::Compound, "{file}");
        assert!(head.compound && head.guid.is_none() && head.created.is_none());
        assert_eq!((head.name.as_str(), snapshots.len()), (name, count), "{snapshots:#?}");
    }
}

/// More streams, where there are any.
#[test]
fn takes_the_streams_of_the_reference_set() {
    let Some(dir) = std::env::var_os("AKASHITA_ZFS_STREAMS") else {
        // Past the harness, which hides what a passing test prints.
        let skip = b"SKIP: AKASHITA_ZFS_STREAMS: not set, no larger streams\n";
        std::io::Write::write_all(&mut std::io::stderr(), skip).unwrap();
        return;
    };
    let mut count = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "zfs") {
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        let (ending, head, snapshots) =
            walk(&bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert_eq!(head.compound, ending == Ending::Compound);
        assert!(!snapshots.is_empty(), "{}", path.display());
        assert!(walk(&bytes[..bytes.len() - 1]).is_err());
        count += 1;
    }
    assert!(count > 0);
}

#[test]
fn refuses_a_stream_that_is_cut_anywhere() {
    let real = REAL.into_iter().filter(|file| !file.starts_with("full")).map(stream);
    let made =
        [(false, true), (true, true), (false, false)].into_iter().flat_map(|(big, summed)| {
            [Made::plain(big, summed).bytes, Made::compound(big, summed).bytes]
        });
    for bytes in made.chain(real) {
        let mut walk = Walk::new();
        for byte in &bytes {
            assert!(walk.finish().is_err());
            walk.update(&[*byte]).unwrap();
        }
        walk.finish().unwrap();
    }
}

#[test]
fn says_where_a_stream_is_cut() {
    let made = Made::plain(false, true);
    let (object, write) = (made.edges[2], made.edges[5]);
    assert_eq!(damage(b""), "empty");
    assert_eq!(damage(&made.bytes[..3]), "ends inside record 1, which begins at byte 0");
    for (cut, kind) in [(3, ""), (4, " (WRITE)"), (311, " (WRITE)")] {
        assert_eq!(
            damage(&made.bytes[..write + cut]),
            format!("ends inside record 6{kind}, which begins at byte {write}")
        );
    }
    for cut in [write + 312, write + 312 + 511] {
        assert_eq!(
            damage(&made.bytes[..cut]),
            format!("ends inside record 6 (WRITE), which begins at byte {write}")
        );
    }
    assert_eq!(
        damage(&made.bytes[..object]),
        format!("ends after record 2 (OBJECT_RANGE), at byte {object}, without its END record")
    );
    let made = Made::compound(false, true);
    for edge in made.edges.iter().skip(1) {
        let found = walk(&made.bytes[..*edge]).unwrap_err();
        assert_eq!((found.what, found.offset), (What::NoEnd, length(&made.bytes[..*edge])));
    }
}

/// That damage says where it is, and in which record.
#[track_caller]
fn is_placed(damage: &Damage, len: usize) {
    let text = damage.to_string();
    assert!(damage.offset <= u64::try_from(len).unwrap() && damage.record > 0, "{text}");
    assert!(text.contains(&format!("byte {}", damage.offset)), "{text}");
    assert!(text.contains(&format!("record {}", damage.record)), "{text}");
    assert!(damage.kind.is_some() || damage.what == What::Cut, "{text}");
    assert!(!text.contains(char::is_control), "{text}");
}

/// Every bit of these bytes that `wanted` picks, flipped by itself.
fn sweep(bytes: &[u8], wanted: impl Fn(usize, usize) -> bool) -> usize {
    let mut before = Walk::new();
    let mut flips = 0;
    for (at, byte) in bytes.iter().enumerate() {
        for bit in (0..8).filter(|bit| wanted(at, *bit)) {
            let mut walk = before.clone();
            let taken = walk.update(&[*byte ^ (1 << bit)]);
            let taken = taken.and_then(|()| walk.update(&bytes[at + 1..]));
            let found = taken.and_then(|()| walk.finish().map(drop));
            let damage = found.expect_err(&format!("bit {bit} of byte {at}"));
            is_placed(&damage, bytes.len());
            flips += 1;
        }
        before.update(&[*byte]).unwrap();
    }
    before.finish().unwrap();
    flips
}

/// Of both kinds of stream, in both byte orders, with and without a checksum
/// in each record.
#[test]
fn notices_every_flipped_bit() {
    for (big, summed) in [(false, true), (true, true), (false, false)] {
        for made in [Made::plain(big, summed), Made::compound(big, summed)] {
            assert_eq!(sweep(&made.bytes, |_, _| true), 8 * made.bytes.len());
        }
    }
}

/// Every bit that OpenZFS sent is in some checksum, or is refused otherwise:
/// headers with their padding, payloads, and the ENDs of packages, which have
/// no sum.
#[test]
fn notices_every_flipped_bit_of_real_streams() {
    for file in ["incremental-I.zfs", "encrypted-raw-w-incremental.zfs"] {
        let bytes = stream(file);
        assert_eq!(sweep(&bytes, |_, _| true), 8 * bytes.len());
    }
    // Of the larger ones a share: all of whose records have a sum of their
    // own, and one of before 2015, whose END alone has.
    sweep(&stream("replication-R-I.zfs"), |at, bit| at % 8 == bit);
    sweep(&stream("incremental-1.zfs"), |at, bit| at % 1999 == 0 && at % 8 == bit);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn notices_a_flipped_bit_in_real_streams(file in 1..5_usize, at: prop::sample::Index, bit in 0..8_u8) {
        let mut bytes = stream(REAL[file]);
        let at = at.index(bytes.len());
        bytes[at] ^= 1_u8 << bit;
        prop_assert!(walk(&bytes).is_err(), "{} byte {at} bit {bit}", REAL[file]);
    }

    #[test]
    fn any_split_gives_one_result(
        compound: bool,
        damaged: bool,
        at: prop::sample::Index,
        pieces in prop::collection::vec(1_usize..700, 1..40),
    ) {
        let mut bytes = if compound { Made::compound(true, true) } else { Made::plain(false, true) }.bytes;
        let at = at.index(bytes.len());
        bytes[at] ^= u8::from(damaged);
        let mut pieced = Walk::new();
        let mut snapshots = Vec::new();
        let mut rest = bytes.as_slice();
        let mut taken = Ok(());
        for piece in pieces.iter().cycle() {
            let (now, later) = rest.split_at(rest.len().min(*piece));
            taken = pieced.update(now);
            snapshots.extend(pieced.take_snapshots());
            prop_assert!(snapshots.is_empty() || pieced.head().is_some());
            rest = later;
            if rest.is_empty() || taken.is_err() {
                break;
            }
        }
        match walk(&bytes) {
            Ok((ending, head, whole)) => {
                taken.unwrap();
                prop_assert_eq!(pieced.finish(), Ok(ending));
                let other = pieced.head().unwrap().clone();
                prop_assert_eq!(other.identity.finalize(), head.identity.finalize());
                prop_assert_eq!(snapshots, whole);
            }
            Err(damage) => prop_assert_eq!(pieced.finish(), Err(damage)),
        }
    }

    #[test]
    fn survives_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..2000), magic: bool) {
        let mut bytes = bytes;
        if magic {
            bytes.splice(0..bytes.len().min(24), Made::plain(true, true).bytes[..24].iter().copied());
        }
        prop_assert!(walk(&bytes).is_err());
    }
}

/// ZFS sums whole words, so nothing it wrote could tell.
#[test]
fn cannot_notice_a_change_behind_the_last_whole_word_of_a_payload() {
    let mut made = Made::new(false, true)
        .begin(1, "a@b", (7, 0), &[])
        .record(3, &[(32, 8, 4096), (50, 1, 15), (96, 8, 7)], b"wordtai")
        .end(7);
    walk(&made.bytes).unwrap();
    let end = made.edges[2];
    made.bytes[end - 1] ^= 1;
    walk(&made.bytes).unwrap();
    made.bytes[end - 4] ^= 1;
    assert!(walk(&made.bytes).is_err());
}

#[test]
fn takes_a_hash_of_the_first_records_for_identity() {
    let made = Made::plain(true, true);
    let (_, head, _) = walk(&made.bytes).unwrap();
    assert_eq!(head.identity.finalize(), Sha256::digest(&made.bytes[..312]));
    let made = Made::compound(false, true);
    let (_, head, snapshots) = walk(&made.bytes).unwrap();
    let first = made.edges[2]..made.edges[3];
    let both = [&made.bytes[..made.edges[1]], &made.bytes[first.clone()]].concat();
    assert_eq!(head.identity.finalize(), Sha256::digest(&both));
    assert_eq!(snapshots[0].offset, length(&made.bytes[..first.start]));
    assert_eq!((snapshots[1].guid, snapshots[1].from_guid), (88, Some(77)));
}

#[test]
fn takes_a_compound_stream_without_any_snapshot() {
    let made = Made::new(false, true).begin(2, "a@b", (0, 0), b"none");
    let made = made.package_end(false).package_end(true);
    let (ending, head, snapshots) = walk(&made.bytes).unwrap();
    assert_eq!((ending, head.name.as_str(), snapshots.len()), (Ending::Compound, "a@b", 0));
}

fn misplaced(bytes: &[u8]) -> Misplaced {
    let mut walk = Walk::new();
    walk.update(bytes).unwrap();
    walk.finish().unwrap();
    walk.misplaced()
}

#[test]
fn sees_what_no_receiver_puts_in_its_place() {
    let two = Misplaced { first: Some(2), count: 2 };
    let none = Misplaced::default();
    for (file, seen) in [
        ("spill-embedded-e.zfs", two),
        ("spill-embedded-w.zfs", two),
        ("spill-plain.zfs", none),
        ("replication-R-1.zfs", none),
    ] {
        assert_eq!(misplaced(&stream(file)), seen, "{file}");
    }
    for file in REAL {
        assert_eq!(misplaced(&stream(file)), none, "{file}");
    }
    // A volume may have bytes there, and each snapshot of a compound stream is
    // of its own kind.
    for big in [false, true] {
        let made = |begun: Made| begun.embedded(2, 7, 512, (15, b"packed")).end(7);
        let volume = |made: Made| made.begin_volume("p/v@s", (7, 0));
        let files = |made: Made| made.begin(1, "p/a@s", (7, 0), &[]);
        assert_eq!(misplaced(&made(volume(Made::new(big, true))).bytes), none);
        let package = Made::new(big, true).begin(2, "p@s", (0, 0), b"").package_end(false);
        let all = made(volume(made(files(made(volume(package)))))).package_end(true);
        assert_eq!(misplaced(&all.bytes), Misplaced { first: Some(2), count: 1 });
    }
}

/// More of it in tests/mend.rs.
#[test]
fn puts_back_what_no_receiver_puts_in_its_place() {
    let begun = || Made::new(true, true).begin(1, "p/a@s", (7, 0), &[]);
    // Eight bytes, and as many copies of the last as a copy can have.
    let packed = [&[0][..], b"abcdefgh", &[0xff], &[0xfc, 1].repeat(8)].concat();
    let block = [b"abcdefgh".as_slice(), &[b'h'; 504]].concat();
    let lossy = begun().embedded(2, 7, 512, (3, &packed)).every_type().end(7);
    let (mut mender, mut out) = (Mender::new(), Vec::new());
    mender.update(&lossy.bytes, &mut out).unwrap();
    let one = Mended { snapshot: "p/a@s".to_owned(), object: 2, length: 512 };
    assert_eq!((mender.take_mended(), mender.take_mended()), (vec![one], vec![]));
    let should = begun().spill(2, 7, &block).every_type().end(7);
    assert_eq!(out, should.bytes[..should.bytes.len() - HEADER], "END waits");
    mender.finish(&mut out).unwrap();
    assert_eq!(out, should.bytes);
}

#[test]
fn marks_a_resumed_stream() {
    let made = Made::new(true, true).begin(1 | 1 << 22, "a@b", (7, 0), b"object").end(7);
    let (_, head, snapshots) = walk(&made.bytes).unwrap();
    assert!(head.resumed && snapshots[0].resumed);
}

#[test]
fn knows_the_head_only_with_its_payload() {
    let made = Made::compound(false, true);
    let mut walk = Walk::new();
    walk.update(&made.bytes[..made.edges[3] - 1]).unwrap();
    assert!(walk.head().is_none() && walk.take_snapshots().is_empty());
    walk.update(&made.bytes[made.edges[3] - 1..made.edges[3]]).unwrap();
    assert!(walk.head().is_some() && walk.take_snapshots().len() == 1);
    assert!(walk.take_snapshots().is_empty());
}

#[test]
fn refuses_what_zfs_does_not_send() {
    let begun = || Made::new(false, true).begin(1, "a@b", (7, 0), &[]);
    let packed = || Made::new(false, true).begin(2, "a@b", (0, 0), &[]).package_end(false);
    let followed = |mut made: Made| {
        made.bytes.push(0);
        made.bytes
    };
    let inside = packed().begin(1, "a@b", (7, 0), &[]);
    let long = "x".repeat(256);
    for (bytes, text) in [
        (followed(begun().end(7)), "byte 624: bytes follow record 2 (END)"),
        (followed(packed().package_end(true)), "byte 936: bytes follow record 3 (END)"),
        (
            begun().end(8).bytes,
            "byte 312, record 2 (END): ends another snapshot than the one that began",
        ),
        (
            begun().record(5, &[(40, 8, 7)], &[]).bytes,
            "byte 312, record 2 (END): checksum of the whole stream differs",
        ),
        (
            begun().record(11, &[], &[]).bytes,
            "byte 312, record 2 (type 11): not a record of a ZFS stream",
        ),
        (
            begun().begin(1, "a@c", (8, 7), &[]).bytes,
            "byte 312, record 2 (BEGIN): the snapshot before it is not whole",
        ),
        (
            inside.clone().package_end(true).bytes,
            "byte 936, record 4 (END): the snapshot before it is not whole",
        ),
        (
            packed().record(3, &[], &[]).bytes,
            "byte 624, record 3 (WRITE): a BEGIN record is missing before it",
        ),
        (
            packed().begin(2, "a@b", (0, 0), &[]).bytes,
            "byte 624, record 3 (BEGIN): unknown kind of stream",
        ),
        (
            Made::new(false, true).end(7).bytes,
            "byte 0, record 1 (END): a BEGIN record is missing before it",
        ),
        (
            Made::new(false, true).begin(4, "a@b", (7, 0), &[]).bytes,
            "byte 0, record 1 (BEGIN): unknown kind of stream",
        ),
        (
            Made::new(false, true).begin(1, &long, (7, 0), &[]).bytes,
            "byte 0, record 1 (BEGIN): the snapshot's name is not readable",
        ),
        (vec![0; 312], "byte 0, record 1 (BEGIN): no magic number"),
        (
            begun().record(3, &[(32, 8, (16 << 20) + 1)], &[]).bytes,
            "byte 312, record 2 (WRITE): payload too long",
        ),
        (
            begun().record(3, &[(32, 8, u64::MAX)], &[]).bytes,
            "byte 312, record 2 (WRITE): payload too long",
        ),
        (
            begun().record(1, &[(28, 4, u64::from(u32::MAX))], &[]).bytes,
            "byte 312, record 2 (OBJECT): payload too long",
        ),
    ] {
        assert_eq!(damage(&bytes), text);
    }
    let mut made = begun().record(3, &[(32, 8, 8)], b"contents").end(7);
    made.bytes[312 + 312] ^= 1;
    assert_eq!(damage(&made.bytes), "byte 632, record 3 (END): checksum differs");
    let mut latin = begun().end(7);
    latin.bytes[56] = 0xe9;
    assert_eq!(
        damage(&latin.bytes),
        "byte 0, record 1 (BEGIN): the snapshot's name is not readable"
    );
}

#[test]
fn takes_blocks_and_heads_as_long_as_zfs_makes_them() {
    let block = vec![3; 16 << 20];
    let made = Made::new(false, true)
        .begin(2, "a@b", (0, 0), &vec![1; 17 << 20])
        .package_end(false)
        .begin(1, "a@b", (7, 0), &[])
        .record(3, &[(32, 8, 16 << 20)], &block)
        .end(7)
        .package_end(true);
    walk(&made.bytes).unwrap();
    let mut begin = Made::new(false, true).begin(1, "a@b", (7, 0), &[]).bytes;
    begin[4..8].copy_from_slice(&((256_u32 << 20) + 1).to_le_bytes());
    assert_eq!(walk(&begin).unwrap_err().what, What::TooLong);
}

#[test]
fn takes_features_that_are_not_known_and_names_them_with_damage() {
    // Bits 30 and 41 of the features; 29 is LARGE_MICROZAP.
    let package = 1 | 1 << 31 | 1 << 32 | 1 << 43;
    let made = Made::new(false, true).begin(package, "a@b", (7, 0), &[]);
    let whole = made.clone().record(4, &[], &[]).end(7);
    walk(&whole.bytes).unwrap();
    assert_eq!(
        damage(&made.record(12, &[], &[]).bytes),
        "byte 312, record 2 (type 12): not a record of a ZFS stream; it has features not known here: 30, 41"
    );
    // All that are known, deduplication too.
    let all = (0..3).chain(16..18).chain(19..30).fold(1, |all, bit| all | 4 << bit);
    let made = Made::new(false, true).begin(all, "a@b", (7, 0), &[]).record(12, &[], &[]);
    assert!(!damage(&made.bytes).contains("features"));
}

#[test]
fn keeps_no_more_than_a_header_of_a_hostile_stream() {
    // A stream of nothing but the longest payloads: none is kept, and a walk
    // is as large as before.
    assert!(size_of::<Walk>() < 2048);
    let mut walk = Walk::new();
    let begun = Made::new(false, true).begin(1, "a@b", (7, 0), &[]);
    walk.update(&begun.bytes).unwrap();
    walk.update(&begun.record(3, &[(32, 8, 16 << 20)], &[]).bytes[312..]).unwrap();
    let piece = vec![0; 1 << 20];
    for _ in 0..16 {
        walk.update(&piece).unwrap();
    }
    assert!(walk.snapshots.len() <= 1 && walk.snapshots.capacity() < 8);
    let damage = walk.finish().unwrap_err();
    let end = 312 + 312 + (16 << 20);
    assert_eq!((damage.what, damage.offset), (What::NoEnd, end));
}

#[test]
fn stays_damaged_once_it_is() {
    let made = Made::plain(false, true);
    let mut walk = Walk::new();
    let damage = walk.update(&[1; 312]).unwrap_err();
    assert_eq!(walk.update(&made.bytes), Err(damage.clone()));
    assert_eq!(walk.finish(), Err(damage));
}

#[test]
fn recognises_a_stream_by_its_first_bytes() {
    for big in [false, true] {
        let bytes = Made::plain(big, true).bytes;
        for len in 0..RECOGNISED_BY {
            assert_eq!(recognise(&bytes[..len]), Recognised::More);
        }
        assert_eq!(recognise(&bytes[..RECOGNISED_BY]), Recognised::Yes);
        assert_eq!(recognise(&bytes), Recognised::Yes);
    }
    assert_eq!(recognise(b"#!/bin/sh"), Recognised::No);
    assert_eq!(recognise(&[0; 16]), Recognised::No);
    assert_eq!(recognise(&[0, 0, 0, 1]), Recognised::No);
}

#[test]
fn recognises_a_stream_with_one_damaged_byte_and_finds_the_damage() {
    for big in [false, true] {
        let whole = Made::plain(big, true).bytes;
        for at in (0..4).chain(8..16) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0xff;
            assert_eq!(recognise(&bytes), Recognised::Damaged, "byte {at}");
            assert!(damage(&bytes).starts_with("byte 0, record 1 ("), "{}", damage(&bytes));
            bytes[15 - at] ^= 0xff;
            let other = !(4..8).contains(&(15 - at));
            assert!(!other || recognise(&bytes) == Recognised::No, "byte {at}");
        }
    }
}
