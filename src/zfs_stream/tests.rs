use std::path::Path;

use proptest::prelude::*;

use super::*;

/// A stream made record by record, with sums that share no code with those
/// that are tested.
#[derive(Clone)]
struct Made {
    big: bool,
    /// Whether records but BEGIN carry a checksum, as since 2015.
    summed: bool,
    sums: [u64; 4],
    bytes: Vec<u8>,
    /// Where records begin.
    edges: Vec<usize>,
}

impl Made {
    fn new(big: bool, summed: bool) -> Self {
        Self { big, summed, sums: [0; 4], bytes: Vec::new(), edges: Vec::new() }
    }

    fn number(&self, number: u64, width: usize) -> Vec<u8> {
        let bytes = number.to_be_bytes()[8 - width..].to_vec();
        if self.big { bytes } else { bytes.into_iter().rev().collect() }
    }

    fn sum(&mut self, bytes: &[u8]) {
        for word in bytes.chunks_exact(4) {
            let word: [u8; 4] = word.try_into().unwrap();
            let word = if self.big { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) };
            let mut carry = u64::from(word);
            for sum in &mut self.sums {
                *sum = sum.wrapping_add(carry);
                carry = *sum;
            }
        }
    }

    /// A record with these numbers (at, width, value) in its header.
    fn record(mut self, kind: u64, fields: &[(usize, usize, u64)], payload: &[u8]) -> Self {
        let mut header = vec![0; 312];
        for (at, width, value) in [(0, 4, kind)].iter().chain(fields) {
            header.splice(at..&(at + width), self.number(*value, *width));
        }
        self.edges.push(self.bytes.len());
        self.sum(&header[..280]);
        if kind != 0 && self.summed {
            let sums: Vec<u8> = self.sums.iter().flat_map(|sum| self.number(*sum, 8)).collect();
            header.splice(280..312, sums);
        }
        let tail = header[280..].to_vec();
        self.sum(&tail);
        self.sum(payload);
        self.bytes.extend(header);
        self.bytes.extend(payload);
        self
    }

    fn begin(mut self, package: u64, name: &str, guids: (u64, u64), payload: &[u8]) -> Self {
        self.sums = [0; 4];
        let mut fields = vec![
            (4, 4, u64::try_from(payload.len()).unwrap()),
            (8, 8, 0x2_F5BA_CBAC),
            (16, 8, package),
            (24, 8, u64::from(package & 3 == 1) * 1_700_000_000),
            (40, 8, guids.0),
            (48, 8, guids.1),
        ];
        fields.extend(name.bytes().enumerate().map(|(i, byte)| (56 + i, 1, u64::from(byte))));
        self.record(0, &fields, payload)
    }

    fn end(self, guid: u64) -> Self {
        let [a, b, c, d] = self.sums;
        self.record(5, &[(8, 8, a), (16, 8, b), (24, 8, c), (32, 8, d), (40, 8, guid)], &[])
    }

    /// An END that carries no checksum of its own.
    fn package_end(mut self, last: bool) -> Self {
        let summed = std::mem::take(&mut self.summed);
        if last {
            self.sums = [0; 4];
        }
        let mut made = self.end(0);
        made.summed = summed;
        made
    }

    /// One record of every type that can be between BEGIN and END, with every
    /// way to say how long its payload is.
    fn every_type(self) -> Self {
        let block = |len: usize| -> Vec<u8> { (0..=250).cycle().take(len).collect() };
        self.record(9, &[], &[])
            .record(1, &[(28, 4, 44)], &block(48))
            .record(1, &[(28, 4, 44), (36, 4, 64)], &block(64))
            .record(2, &[(8, 8, 5), (16, 8, 9)], &[])
            .record(3, &[(32, 8, 512)], &block(512))
            .record(3, &[(32, 8, 4096), (50, 1, 15), (96, 8, 256)], &block(256))
            .record(4, &[(8, 8, 5), (24, 8, u64::MAX)], &[])
            .record(6, &[(24, 8, 1 << 40)], &[])
            .record(7, &[(16, 8, 128)], &block(128))
            .record(7, &[(16, 8, 1024), (40, 8, 64)], &block(64))
            .record(8, &[(48, 4, 900), (52, 4, 61)], &block(64))
            .record(10, &[(8, 8, 5), (24, 8, 131_072)], &[])
    }

    fn plain(big: bool, summed: bool) -> Self {
        Self::new(big, summed).begin(5, "tank/home@mon", (77, 66), &[]).every_type().end(77)
    }

    fn compound(big: bool, summed: bool) -> Self {
        Self::new(big, summed)
            .begin(2, "tank/home@tue", (0, 0), b"properties..")
            .package_end(false)
            .begin(1 | 1 << 26, "tank/home@mon", (77, 0), b"keys")
            .every_type()
            .end(77)
            .begin(1, "tank/home@tue", (88, 77), &[])
            .end(88)
            .package_end(true)
    }
}

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
        assert!(!head.compound && !head.resumed && !head.raw && head.created > Some(1_700_000_000));
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
    assert!(head.raw && !head.resumed && head.from_guid.is_some());
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

/// Every single bit of both kinds of stream, in both byte orders, with and
/// without a checksum in each record.
#[test]
fn notices_every_flipped_bit() {
    for (big, summed) in [(false, true), (true, true), (false, false)] {
        for made in [Made::plain(big, summed), Made::compound(big, summed)] {
            let mut bytes = made.bytes;
            walk(&bytes).unwrap();
            // Every bit of headers that differ, of the others a sample.
            for at in 0..bytes.len() {
                for bit in if at % 5 == 0 { 0..8 } else { at % 8..at % 8 + 1 } {
                    bytes[at] ^= 1 << bit;
                    assert!(walk(&bytes).is_err(), "bit {bit} of byte {at}, {big} {summed}");
                    bytes[at] ^= 1 << bit;
                }
            }
        }
    }
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
        (followed(begun().end(7)), "byte 624: bytes follow the END record"),
        (followed(packed().package_end(true)), "byte 936: bytes follow the END record"),
        (
            begun().end(8).bytes,
            "byte 312, record 2 (END): ends another snapshot than the one that began",
        ),
        (
            begun().record(5, &[(40, 8, 7)], &[]).bytes,
            "byte 312, record 2 (END): checksum of the whole stream differs",
        ),
        (begun().record(11, &[], &[]).bytes, "byte 312, record 2: not a record of a ZFS stream"),
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
