//! ZFS streams: any bytes, and streams that bytes tell how to make.

use akashita::zfs_stream::{
    Damage, Ending, Mender, RECOGNISED_BY, Recognised, Snapshot, Walk, recognise,
};
use sha2::Digest;

use super::is_a_message;
use super::made::Made;

/// What a walk came to.
type Outcome = (Result<Ending, Damage>, Vec<Snapshot>, Option<Vec<u8>>);

fn walk<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Outcome {
    let mut walk = Walk::new();
    let mut snapshots = Vec::new();
    for piece in pieces {
        if walk.update(piece).is_err() {
            break;
        }
        snapshots.extend(walk.take_snapshots());
    }
    snapshots.extend(walk.take_snapshots());
    let head = walk.head().map(|head| head.identity.clone().finalize().to_vec());
    (walk.finish(), snapshots, head)
}

/// The first byte chooses: 0 the bytes themselves, else a stream made of them
/// that is whole, and is not any more with one bit flipped or its end cut.
pub fn stream(data: &[u8]) {
    match data {
        [] | [0] => any(b""),
        [0, rest @ ..] => any(rest),
        [_, rest @ ..] => made(rest),
    }
}

/// One verdict however it is split.
fn any(data: &[u8]) {
    let whole = walk(std::iter::once(data));
    for size in [1, 7, 312, 1000] {
        let pieces = walk(data.chunks(size));
        assert_eq!(pieces.0, whole.0, "in pieces of {size}");
        // What is begun in the piece that is damaged is never told.
        if whole.0.is_ok() {
            assert_eq!((&pieces.1, &pieces.2), (&whole.1, &whole.2));
        }
    }
    if let Err(damage) = whole.0 {
        is_a_message(&damage.to_string(), 400);
        assert!(damage.offset <= u64::try_from(data.len()).unwrap());
    }
    mends(data);
    let known = recognise(data);
    for size in 0..data.len().min(RECOGNISED_BY) {
        let so_far = recognise(&data[..size]);
        match known {
            Recognised::Yes | Recognised::More => assert_eq!(so_far, Recognised::More),
            Recognised::Damaged | Recognised::No => assert_ne!(so_far, Recognised::Yes),
        }
    }
    if matches!(known, Recognised::No | Recognised::Damaged) {
        assert!(walk(std::iter::once(data)).0.is_err());
    }
}

/// What comes out is whole if what went in is, or cannot be mended.
fn mends(data: &[u8]) {
    let mended = |data: &[u8]| {
        let (mut mender, mut out) = (Mender::new(), Vec::new());
        let pieces = data.chunks(1000);
        let taken = pieces.map(|piece| mender.update(piece, &mut out)).find(Result::is_err);
        (taken.unwrap_or(Ok(())).and_then(|()| mender.finish(&mut out)), out)
    };
    let before = walk(std::iter::once(data)).0;
    let (result, out) = mended(data);
    match result {
        Ok(()) => {
            assert_eq!(walk(std::iter::once(&out[..])).0, before);
            assert!(before.is_ok() && mended(&out) == (Ok(()), out));
        }
        Err(damage) => {
            assert!(walk(std::iter::once(&out[..])).0.is_err());
            is_a_message(&damage.to_string(), 400);
        }
    }
}

/// Takes bytes, as long as there are some.
struct Plan<'a>(&'a [u8]);

impl Plan<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn below(&mut self, end: u64) -> u64 {
        (u64::from(self.byte()) << 8 | u64::from(self.byte())) % end
    }
}

fn made(data: &[u8]) {
    let mut plan = Plan(data);
    let shape = plan.byte();
    let (big, summed, compound) = (shape & 1 != 0, shape & 2 != 0, shape & 4 != 0);
    let mut made = Made::new(big, summed);
    if compound {
        let payload = vec![plan.byte(); usize::try_from(plan.below(40)).unwrap() * 4];
        made = made.begin(2, "tank@all", (0, 0), &payload).package_end(false);
    }
    let count = if compound { plan.below(3) } else { 1 };
    for number in 0..count {
        let features = u64::from(plan.byte()) << 18;
        made = made.begin(1 | features, "tank/home@mon", (number + 7, number), &[]);
        for _ in 0..plan.below(12) {
            made = record(made, &mut plan);
        }
        made = made.end(number + 7);
    }
    if compound {
        made = made.package_end(true);
    }
    let mut bytes = made.bytes;
    let (ending, snapshots, head) = walk(std::iter::once(&bytes[..]));
    let expected = if compound { Ending::Compound } else { Ending::Plain };
    assert_eq!(ending, Ok(expected));
    assert_eq!(u64::try_from(snapshots.len()).unwrap(), count);
    assert!(head.is_some());
    any(&bytes);
    let length = u64::try_from(bytes.len()).unwrap();
    let wide = |plan: &mut Plan| (plan.below(1 << 16) << 16 | plan.below(1 << 16)) % length;
    let cut = usize::try_from(wide(&mut plan)).unwrap();
    assert!(walk(std::iter::once(&bytes[..cut])).0.is_err(), "cut at {cut}");
    let flip = usize::try_from(wide(&mut plan)).unwrap();
    bytes[flip] ^= 1 << (plan.byte() % 8);
    any(&bytes);
    assert!(walk(std::iter::once(&bytes[..])).0.is_err(), "a bit of byte {flip}");
}

/// A record of any type that can be inside, with a payload of whole words.
fn record(made: Made, plan: &mut Plan) -> Made {
    let (words, fill) = (plan.below(300), plan.byte());
    let payload = vec![fill; usize::try_from(words * 8).unwrap()];
    let (size, number) = (words * 8, u64::from(plan.byte()));
    match plan.byte() % 10 {
        0 => made.record(1, &[(28, 4, size.saturating_sub(3)), (8, 8, number)], &payload),
        1 => {
            made.record(1, &[(28, 4, 40), (36, 4, size.max(8))], &vec![fill; payload.len().max(8)])
        }
        2 => made.record(3, &[(32, 8, size), (24, 8, number)], &payload),
        3 => made.record(3, &[(32, 8, 1 << 17), (50, 1, number | 1), (96, 8, size)], &payload),
        4 => made.record(7, &[(16, 8, size)], &payload),
        5 => made.record(8, &[(52, 4, size.saturating_sub(number % 8))], &payload),
        6 => made.record(9, &[(8, 8, number)], &[]),
        7 => made.record(10, &[(8, 8, number)], &[]),
        8 => made.record(6, &[(8, 8, number)], &[]),
        _ => made.record([2, 4][usize::from(fill % 2)], &[(8, 8, number)], &[]),
    }
}
