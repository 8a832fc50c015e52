//! glacier-mend(1), run as a program.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use akashita::zfs_stream::{Mended, Mender, Walk};
use proptest::prelude::*;

use crate::common::made::Made;
use crate::common::{Ended, Place, run, run_on, skip, start, start_into, until};

/// The streams that lose something, and the one that does not, of the same.
const LOSSY: [&str; 2] = ["spill-embedded-e.zfs", "spill-embedded-w.zfs"];
const PLAIN: &str = "spill-plain.zfs";

fn stream(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/streams").join(name)
}

fn bytes(name: &str) -> Vec<u8> {
    fs::read(stream(name)).unwrap()
}

fn mend(place: &Place) -> Command {
    place.tool("glacier-mend", &[])
}

/// Runs it from a file into another; gives how it ended, and what it passed.
fn pass(place: &Place, input: &[u8]) -> (Ended, Vec<u8>) {
    fs::write(place.path("input"), input).unwrap();
    let mut tool = mend(place);
    tool.stdin(File::open(place.path("input")).unwrap());
    let ended = start_into(&mut tool, File::create(place.path("output")).unwrap()).finish();
    (ended, fs::read(place.path("output")).unwrap())
}

/// The number of a little-endian header.
fn number(header: &[u8], at: usize, width: usize) -> u64 {
    header[at..at + width].iter().rev().fold(0, |all, byte| all << 8 | u64::from(*byte))
}

fn sum(sums: &mut [u64; 4], bytes: &[u8]) {
    for word in bytes.chunks_exact(4) {
        let mut carry = number(word, 0, 4);
        for sum in &mut *sums {
            *sum = sum.wrapping_add(carry);
            carry = *sum;
        }
    }
}

/// The records of one little-endian stream, all of whose checksums are right:
/// the header without what is summed, and the payload.
fn records(stream: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut records = Vec::new();
    let (mut at, mut sums) = (0, [0; 4]);
    while at < stream.len() {
        let header = &stream[at..at + 312];
        let kind = number(header, 0, 4);
        let size = match kind {
            0 => number(header, 4, 4),
            1 => number(header, 28, 4).next_multiple_of(8),
            3 if header[50] > 0 => number(header, 96, 8),
            3 => number(header, 32, 8),
            7 => number(header, 16, 8),
            8 => number(header, 52, 4).next_multiple_of(8),
            _ => 0,
        };
        let end = at + 312 + usize::try_from(size).unwrap();
        let told = |from: usize| [0, 8, 16, 24].map(|i| number(header, from + i, 8));
        let mut bare = header.to_vec();
        if kind == 5 {
            assert_eq!(told(8), sums, "END");
            bare[8..40].fill(0);
        }
        sum(&mut sums, &header[..280]);
        if kind > 0 {
            assert_eq!(told(280), sums, "record {}", records.len());
            bare[280..].fill(0);
        }
        sum(&mut sums, &header[280..]);
        sum(&mut sums, &stream[at + 312..end]);
        records.push((bare, stream[at + 312..end].to_vec()));
        at = end;
    }
    assert_eq!(number(&records.last().unwrap().0, 0, 4), 5, "END is the last");
    records
}

#[track_caller]
fn has_no_end(stream: &[u8], about: &str) {
    let mut walk = Walk::new();
    let taken = walk.update(stream);
    assert!(taken.is_err() || walk.finish().is_err(), "{about}: passes for whole");
}

#[test]
fn puts_back_what_a_receiver_would_lose() {
    let plain = records(&bytes(PLAIN));
    let spills: Vec<_> = plain.iter().filter(|(header, _)| header[0] == 7).collect();
    assert_eq!(spills.len(), 2);
    for name in LOSSY {
        let place = Place::default();
        let (ended, passed) = pass(&place, &bytes(name));
        assert_eq!(ended.code(), 0, "{name}: {}", ended.stderr);
        let said = [(2, 512), (3, 1024)].map(|(object, length)| {
            let told = "bytes that zfs receive would lose are put back";
            format!("glacier-mend: warning: p/a@s: object {object}: {length} {told}\n")
        });
        assert_eq!(ended.stderr, said.concat());
        let (before, after) = (records(&bytes(name)), records(&passed));
        assert_eq!(before.len(), after.len());
        let changed: Vec<_> =
            before.iter().zip(&after).filter(|(b, a)| b != a).map(|(_, a)| a).collect();
        // They are what the plain stream has of them, header and bytes.
        assert_eq!(changed, spills, "{name}");
        let mut quiet = place.tool("glacier-mend", &["--quiet"]);
        quiet.stdin(File::open(stream(name)).unwrap());
        start_into(&mut quiet, File::create(place.path("quiet")).unwrap()).finish().done();
        assert!(fs::read(place.path("quiet")).unwrap() == passed, "{name}");
        // Nothing is left to be done, or to be told of.
        let (ended, again) = pass(&place, &passed);
        ended.done();
        assert!(again == passed, "{name}");
        run_on(&mut place.tool("glacier-chunk", &["--inspect"]), &place.path("output")).done();
    }
}

#[test]
fn what_needs_nothing_comes_out_byte_for_byte() {
    let mut count = 0;
    for entry in fs::read_dir(stream("")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.extension().is_none_or(|it| it != "zfs") || LOSSY.contains(&name) {
            continue;
        }
        let place = Place::default();
        let (ended, passed) = pass(&place, &bytes(name));
        ended.done();
        assert!(passed == bytes(name), "{name}");
        count += 1;
    }
    assert!(count >= 10, "{count}");
    // A volume may have bytes where a file cannot, whatever they are.
    for big in [false, true] {
        let volume = Made::new(big, true).begin_volume("tank/vol@mon", (7, 0));
        let volume = volume.embedded(1, 7, 512, (15, b"anything")).every_type().end(7).bytes;
        let (ended, passed) = pass(&Place::default(), &volume);
        ended.done();
        assert!(passed == volume);
    }
}

/// Bytes packed as ZFS packs them with lz4: some as they are, a run, and five
/// more.
fn lz4(head: &[u8], run: (u8, usize), tail: [u8; 5]) -> Vec<u8> {
    let mut packed = Vec::new();
    let more = |packed: &mut Vec<u8>, left: usize| {
        packed.extend(vec![255; left / 255]);
        packed.push(u8::try_from(left % 255).unwrap());
    };
    let (byte, count) = run;
    packed.push(0xff);
    more(&mut packed, head.len() + 1 - 15);
    packed.extend(head);
    packed.extend([byte, 1, 0]);
    more(&mut packed, count - 1 - 19);
    packed.push(0x50);
    packed.extend(tail);
    let size = u32::try_from(packed.len()).unwrap().to_be_bytes();
    [&size, packed.as_slice()].concat()
}

/// The same with lzjb.
fn lzjb(head: &[u8], run: (u8, usize), tail: [u8; 5]) -> Vec<u8> {
    let (byte, count) = run;
    let mut items: Vec<Vec<u8>> = head.iter().chain([&byte]).map(|byte| vec![*byte]).collect();
    let mut left = count - 1;
    while left > 2 {
        let now = left.min(66);
        items.push(vec![u8::try_from(now - 3).unwrap() << 2, 1]);
        left -= now;
    }
    items.extend(vec![vec![byte]; left]);
    items.extend(tail.map(|byte| vec![byte]));
    let mut packed = Vec::new();
    for eight in items.chunks(8) {
        let map = eight.iter().rev().fold(0, |map, item| map << 1 | u8::from(item.len() == 2));
        packed.push(map);
        packed.extend(eight.concat());
    }
    packed
}

/// A block of an object, and how it is packed.
#[derive(Clone, Debug)]
struct Block {
    object: u64,
    sectors: usize,
    head: Vec<u8>,
    run: u8,
    tail: [u8; 5],
    is_lz4: bool,
}

impl Block {
    fn bytes(&self) -> Vec<u8> {
        let run = vec![self.run; self.count()];
        [self.head.as_slice(), &run, &self.tail].concat()
    }

    fn count(&self) -> usize {
        512 * self.sectors - self.head.len() - 5
    }

    fn packed(&self) -> (u64, Vec<u8>) {
        let pack = if self.is_lz4 { lz4 } else { lzjb };
        let packed = pack(&self.head, (self.run, self.count()), self.tail);
        assert!(packed.len() <= 112, "{}", packed.len());
        (if self.is_lz4 { 15 } else { 3 }, packed)
    }
}

fn block() -> impl Strategy<Value = Block> {
    let head = prop::collection::vec(any::<u8>(), 15..40);
    (any::<u64>(), 1..4_usize, head, any::<u8>(), any::<[u8; 5]>(), any::<bool>()).prop_map(
        |(object, sectors, head, run, tail, is_lz4)| {
            // What is longer than that does not fit with lzjb.
            let sectors = if is_lz4 { sectors * 5 } else { sectors };
            Block { object, sectors, head, run, tail, is_lz4 }
        },
    )
}

/// A snapshot: blocks, and other records behind each.
type Steps = Vec<(Option<Block>, bool)>;

#[derive(Clone, Debug)]
struct Stream {
    big: bool,
    summed: bool,
    is_compound: bool,
    snapshots: Vec<Steps>,
}

impl Stream {
    /// As it should have been, or as it was sent.
    fn made(&self, is_lossy: bool) -> Made {
        let mut made = Made::new(self.big, self.summed);
        if self.is_compound {
            made = made.begin(2, "tank/home@tue", (0, 0), b"properties..").package_end(false);
        }
        for (i, steps) in self.snapshots.iter().enumerate() {
            let guid = 77 + u64::try_from(i).unwrap();
            made = made.begin(1 | 1 << 18, &format!("tank/home@{i}"), (guid, 0), &[]);
            for (block, others) in steps {
                if let Some(block) = block {
                    let whole = block.bytes();
                    let (compression, packed) = block.packed();
                    let length = u64::try_from(whole.len()).unwrap();
                    made = if is_lossy {
                        made.embedded(block.object, guid, length, (compression, &packed))
                    } else {
                        made.spill(block.object, guid, &whole)
                    };
                }
                if *others {
                    made = made.every_type();
                }
            }
            made = made.end(guid);
        }
        if self.is_compound { made.package_end(true) } else { made }
    }

    fn mended(&self) -> Vec<Mended> {
        let named = |(i, steps): (usize, &Steps)| -> Vec<Mended> {
            let blocks = steps.iter().filter_map(|(block, _)| block.as_ref());
            let mended = |block: &Block| Mended {
                snapshot: format!("tank/home@{i}"),
                object: block.object,
                length: u64::try_from(block.bytes().len()).unwrap(),
            };
            blocks.map(mended).collect()
        };
        self.snapshots.iter().enumerate().flat_map(named).collect()
    }
}

fn made() -> impl Strategy<Value = Stream> {
    let step = (prop::option::of(block()), any::<bool>());
    let snapshots = prop::collection::vec(prop::collection::vec(step, 0..4), 1..4);
    (any::<bool>(), any::<bool>(), any::<bool>(), snapshots).prop_map(
        |(big, summed, is_compound, mut snapshots)| {
            snapshots.truncate(if is_compound { 4 } else { 1 });
            Stream { big, summed, is_compound, snapshots }
        },
    )
}

/// What the library makes of it, in pieces of these sizes.
fn through(stream: &[u8], pieces: &[usize]) -> (Vec<u8>, Vec<Mended>) {
    let (mut mender, mut out, mut put_back) = (Mender::new(), Vec::new(), Vec::new());
    let mut rest = stream;
    for piece in pieces.iter().cycle() {
        let (now, later) = rest.split_at(rest.len().min(*piece));
        mender.update(now, &mut out).unwrap();
        put_back.extend(mender.take_mended());
        rest = later;
        if rest.is_empty() {
            break;
        }
    }
    mender.finish(&mut out).unwrap();
    (out, put_back)
}

proptest! {
    #[test]
    fn makes_what_should_have_been_sent(
        stream in made(),
        pieces in prop::collection::vec(1_usize..900, 1..9),
    ) {
        let (lossy, should) = (stream.made(true).bytes, stream.made(false).bytes);
        let (out, mended) = through(&lossy, &pieces);
        prop_assert!(out == should);
        prop_assert_eq!(mended, stream.mended());
        let (again, more) = through(&should, &pieces);
        prop_assert!(again == should && more.is_empty());
    }

    #[test]
    fn what_is_not_whole_never_passes_for_whole(
        stream in made(),
        at in any::<prop::sample::Index>(),
        bit in 0..8_u8,
    ) {
        let lossy = stream.made(true).bytes;
        let at = at.index(lossy.len());
        let mut flipped = lossy.clone();
        flipped[at] ^= 1 << bit;
        for damaged in [&lossy[..at], &flipped, &[lossy.as_slice(), &[bit]].concat()] {
            let (mut mender, mut out) = (Mender::new(), Vec::new());
            let taken = mender.update(damaged, &mut out);
            let again = mender.update(b"x", &mut Vec::new());
            prop_assert!(taken.is_ok() || again == taken, "{taken:?} {again:?}");
            prop_assert!(taken.is_err() || mender.finish(&mut out).is_err());
            has_no_end(&out, "damaged");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn glacier_proof_takes_what_comes_out(stream in made()) {
        let place = Place::default();
        let (ended, passed) = pass(&place, &stream.made(true).bytes);
        prop_assert_eq!(ended.code(), 0, "{}", ended.stderr);
        prop_assert_eq!(ended.stderr.lines().count(), stream.mended().len());
        let options: &[&str] = if stream.is_compound { &["--trust-eof", "p"] } else { &["p"] };
        let mut proof = place.tool("glacier-proof", options);
        let proved = place.path("proved");
        proof.stdin(File::open(place.path("output")).unwrap());
        start_into(&mut proof, File::create(&proved).unwrap()).finish().done();
        prop_assert!(fs::read(proved).unwrap() == passed && passed == stream.made(false).bytes);
    }
}

#[test]
fn a_stream_cut_anywhere_gets_no_end() {
    let real = bytes(LOSSY[0]);
    let mut edges = vec![0];
    for (header, payload) in records(&real) {
        edges.push(edges.last().unwrap() + header.len() + payload.len());
    }
    let whole = pass(&Place::default(), &real).1;
    let near = edges.iter().flat_map(|edge| [edge.saturating_sub(1), *edge, edge + 1]);
    let some = (0..20).map(|i| i * real.len() / 20 + i % 7);
    for cut in near.chain(some).filter(|cut| (1..real.len()).contains(cut)) {
        let (ended, passed) = pass(&Place::default(), &real[..cut]);
        assert_eq!(ended.code(), 65, "{cut}: {}", ended.stderr);
        assert!(ended.stderr.lines().last().unwrap().starts_with("glacier-mend: stream: ends "));
        assert!(whole.starts_with(&passed), "{cut}");
        has_no_end(&passed, &cut.to_string());
    }
    let compound = bytes("incremental-I.zfs");
    for cut in (1..40).map(|i| i * compound.len() / 40 - i % 3) {
        let (ended, passed) = pass(&Place::default(), &compound[..cut]);
        assert_eq!(ended.code(), 65, "{cut}");
        has_no_end(&passed, &cut.to_string());
    }
}

#[test]
fn a_damaged_stream_gets_no_end() {
    let whole = bytes(LOSSY[1]);
    for at in (0..60).map(|i| i * whole.len() / 60 + i % 5) {
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << (at % 8);
        let (ended, passed) = pass(&Place::default(), &damaged);
        assert_eq!(ended.code(), 65, "{at}: {}", ended.stderr);
        assert!(ended.stderr.lines().last().unwrap().starts_with("glacier-mend: stream: byte "));
        has_no_end(&passed, &at.to_string());
    }
    let (ended, passed) = pass(&Place::default(), &[&whole[..], b"x"].concat());
    assert_eq!(ended.code(), 65);
    assert!(ended.stderr.ends_with(": stream: byte 47392: bytes follow record 36 (END)\n"));
    has_no_end(&passed, "it goes on");
}

#[test]
fn what_cannot_be_mended_is_refused_by_its_name() {
    let packed = lz4(&[b'a'; 20], (b'x', 487), *b"tails");
    let size = u64::try_from(packed.len()).unwrap();
    let padded = [packed.as_slice(), &[0; 7]].concat();
    let payload = &padded[..packed.len().next_multiple_of(8)];
    let none = "no spill block as zfs send embeds them";
    for (field, said) in [
        ((40, 1, 10), "compressed with gzip-6"),
        ((40, 1, 14), "compressed with zle"),
        ((40, 1, 16), "compressed with zstd"),
        ((40, 1, 2), "compressed with off"),
        ((40, 1, 77), "compressed with number 77"),
        ((40, 1, 3), "its lzjb is damaged"),
        ((41, 1, 2), none),
        ((16, 8, 1 << 63), none),
        ((24, 8, 1024), none),
        ((48, 4, 1024), none),
        ((52, 4, 0), none),
        ((52, 4, size - 1), "its lz4 is damaged"),
    ] {
        let right = [
            (8, 8, 5),
            (16, 8, 1024_u64.wrapping_neg()),
            (24, 8, 512),
            (32, 8, 7),
            (40, 1, 15),
            (48, 4, 512),
            (52, 4, size),
        ];
        let fields: Vec<_> = right.into_iter().chain([field]).collect();
        let payload = if field.0 == 52 && field.2 == 0 { &[] } else { payload };
        let made = Made::new(true, true).begin(1, "tank/home@mon", (7, 0), &[]).every_type();
        let made = made.record(8, &fields, payload).end(7);
        let place = Place::default();
        let (ended, passed) = pass(&place, &made.bytes);
        let (at, record) = (made.edges[13], 14);
        let said = format!("byte {at}, record {record} (WRITE_EMBEDDED): cannot be mended: {said}");
        ended.failed(65, &format!("stream: {said}"));
        assert!(passed == made.bytes[..at], "{field:?}");
    }
    // More than a block pointer holds.
    let long = vec![0; 120];
    let made = Made::new(false, true).begin(1, "tank/home@mon", (7, 0), &[]);
    let made = made.embedded(5, 7, 512, (15, &long)).end(7);
    pass(&Place::default(), &made.bytes).0.failed_like(65, "stream: byte 312, record 2 ", none);
}

#[test]
fn refuses_what_is_no_zfs_stream_and_passes_nothing_of_it() {
    for (input, said) in [
        (&b""[..], "stdin: empty stream"),
        (b"a tar file, say", "stdin: not a ZFS stream"),
        (&bytes(PLAIN)[..9], "stream: ends inside record 1, which begins at byte 0"),
    ] {
        let (ended, passed) = pass(&Place::default(), input);
        ended.failed(65, said);
        assert!(passed.is_empty());
    }
}

/// What follows the end is not known before the input ends.
#[test]
fn the_end_waits_for_that_of_the_input() {
    let place = Place::default();
    let whole = bytes(PLAIN);
    let mut running = start(mend(&place).stdin(Stdio::piped()));
    assert!(running.give(&whole));
    let mut passed = vec![0; whole.len() - 312];
    running.read(&mut passed);
    assert!(whole.starts_with(&passed) && running.runs());
    running.end_input();
    let mut end = [0; 312];
    running.read(&mut end);
    assert!(whole.ends_with(&end));
    running.finish().done();
}

#[test]
fn memory_does_not_grow_with_a_stream() {
    if !Path::new("/proc/self/status").exists() {
        skip("/proc: not there, the peak memory is not known");
        return;
    }
    let begun = |count: usize| {
        let packed = lz4(&[b'a'; 20], (b'x', 512 * 37 - 25), *b"tails");
        let mut made = Made::new(false, true).begin(1, "tank/home@mon", (7, 0), &[]);
        for object in 0..count {
            let object = u64::try_from(object).unwrap();
            made = made.embedded(object, 7, 512 * 37, (15, &packed));
        }
        made
    };
    assert_eq!(begun(1).edges.len(), 2);
    let place = Place::default();
    let mut tool = mend(&place);
    let null = File::options().write(true).open("/dev/null").unwrap();
    let mut running = start_into(tool.stdin(Stdio::piped()), null);
    // Thousands of blocks that unpack, and then one payload after the other.
    let mut made = begun(2_000);
    assert!(running.give(&made.bytes));
    let piece = vec![7; 16 << 20];
    for _ in 0..8 {
        made.bytes.clear();
        made = made.record(3, &[(32, 8, 16 << 20)], &piece);
        assert!(running.give(&made.bytes));
    }
    let status = fs::read_to_string(format!("/proc/{}/status", running.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().strip_suffix(" kB").unwrap().parse().unwrap();
    made.bytes.clear();
    assert!(running.give(&made.end(7).bytes));
    running.end_input();
    let ended = running.finish();
    assert_eq!((ended.code(), ended.stderr.lines().count()), (0, 2_000));
    assert!(peak < 32 << 10, "{peak} KiB at most");
}

#[test]
fn refuses_a_wrong_command_line() {
    let place = Place::default();
    assert_eq!(run(&mut place.tool("glacier-mend", &["file"])).code(), 64);
    assert_eq!(run(&mut place.tool("glacier-mend", &["--as-sent"])).code(), 64);
    let Ok(terminal) = File::options().read(true).write(true).open("/dev/ptmx") else {
        skip("a terminal: /dev/ptmx cannot be opened");
        return;
    };
    run(mend(&place).stdin(terminal)).failed(64, "stdin: a terminal; pipe a stream into it");
}

#[test]
fn an_input_that_cannot_be_read_is_74() {
    run_on(&mut mend(&Place::default()), Path::new("/")).failed(74, "stdin: Is a directory");
}

#[test]
fn an_output_that_is_full_or_closed_is_74() {
    let place = Place::default();
    if let Ok(full) = File::options().write(true).open("/dev/full") {
        let mut tool = mend(&place);
        tool.stdin(File::open(stream(PLAIN)).unwrap());
        let ended = start_into(&mut tool, full).finish();
        ended.failed(74, "stdout: cannot write: No space left on device");
    }
    let tool = mend(&place);
    let mut shell = place.command("sh");
    shell.args(["-c", "\"$0\" >&-"]).arg(tool.get_program());
    run_on(&mut shell, &stream(PLAIN)).failed_like(74, "stdout: cannot write", "");
}

#[test]
fn a_reader_that_is_gone_is_75() {
    const GONE: &str = "stdout: the program that reads it has ended; run the same command again";
    // While it writes, and while it waits.
    let place = Place::default();
    let mut running = start(mend(&place).stdin(File::open(stream("full.zfs")).unwrap()));
    running.close_output();
    running.finish().failed(75, GONE);
    let mut running = start(mend(&place).stdin(Stdio::piped()));
    assert!(running.give(&bytes(PLAIN)));
    let mut first = [0; 312];
    running.read(&mut first);
    running.close_output();
    until("it has noticed", || !running.runs());
    running.finish().failed(75, GONE);
}
