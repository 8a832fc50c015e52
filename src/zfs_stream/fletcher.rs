//! Fletcher-4, the checksum inside ZFS send streams.
//!
//! Four running sums over 32-bit words in the sender's byte order, each taking
//! the one before it, modulo 2^64 (OpenZFS, `module/zcommon/zfs_fletcher.c`).
//! ZFS sums whole words only: up to three bytes at the end of a payload whose
//! length is no multiple of four are in no checksum.

/// The byte order of the machine that sent a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Little,
    Big,
}

impl Order {
    pub(super) fn u32(self, bytes: [u8; 4]) -> u32 {
        match self {
            Self::Little => u32::from_le_bytes(bytes),
            Self::Big => u32::from_be_bytes(bytes),
        }
    }

    pub(super) fn u64(self, bytes: [u8; 8]) -> u64 {
        match self {
            Self::Little => u64::from_le_bytes(bytes),
            Self::Big => u64::from_be_bytes(bytes),
        }
    }

    pub(super) fn bytes_of_u32(self, number: u32) -> [u8; 4] {
        match self {
            Self::Little => number.to_le_bytes(),
            Self::Big => number.to_be_bytes(),
        }
    }

    pub(super) fn bytes_of_u64(self, number: u64) -> [u8; 8] {
        match self {
            Self::Little => number.to_le_bytes(),
            Self::Big => number.to_be_bytes(),
        }
    }
}

/// The running sum of bytes that come in pieces of any size.
#[derive(Clone, Debug)]
pub(super) struct Fletcher {
    order: Order,
    sums: [u64; 4],
    /// The first bytes of a word whose others have not come yet.
    word: [u8; 4],
    held: usize,
}

impl Fletcher {
    pub(super) fn new(order: Order) -> Self {
        Self { order, sums: [0; 4], word: [0; 4], held: 0 }
    }

    pub(super) fn order(&self) -> Order {
        self.order
    }

    /// The sum of all whole words that were taken.
    pub(super) fn sums(&self) -> [u64; 4] {
        self.sums
    }

    /// Takes the next bytes of a run.
    pub(super) fn update(&mut self, mut bytes: &[u8]) {
        while self.held > 0 {
            let Some((first, rest)) = bytes.split_first() else { return };
            if let Some(place) = self.word.get_mut(self.held) {
                *place = *first;
            }
            self.held = (self.held + 1) % self.word.len();
            bytes = rest;
            if self.held == 0 {
                self.words(&[self.word]);
            }
        }
        let (words, tail) = bytes.as_chunks();
        self.words(words);
        for (place, byte) in self.word.iter_mut().zip(tail) {
            *place = *byte;
        }
        self.held = tail.len();
    }

    /// Ends a run (a header, a payload): a word that is not whole is dropped.
    pub(super) fn end_run(&mut self) {
        self.held = 0;
    }

    fn words(&mut self, words: &[[u8; 4]]) {
        for words in words.chunks(BLOCK) {
            // One loop for each byte order, so that neither asks for it.
            let sums = match self.order {
                Order::Little => sum_of(words, u32::from_le_bytes),
                Order::Big => sum_of(words, u32::from_be_bytes),
            };
            self.sums = joined(self.sums, sums, words.len());
        }
    }
}

/// Words that are summed at a time. More than 2^21 would overflow the product
/// in [`joined`].
const BLOCK: usize = 1 << 18;

/// The sums of some words: two at a time, as one addition of the four would
/// otherwise wait for the other. More lanes than two need more registers than
/// there are.
#[inline]
fn sum_of(words: &[[u8; 4]], word: impl Fn([u8; 4]) -> u32) -> [u64; 4] {
    let (pairs, rest) = words.as_chunks();
    let [mut a, mut b, mut c, mut d] = [(0, 0); 4];
    for [even, odd] in pairs {
        a = plus(a, (word(*even).into(), word(*odd).into()));
        b = plus(b, a);
        c = plus(c, b);
        d = plus(d, c);
    }
    // The k-th pair from the end has its words 1, k, k(k+1)/2 and
    // k(k+1)(k+2)/6 times in these.  They are n = 2k and n = 2k - 1 words from
    // the end, and the sums must have them 1, n, n(n+1)/2 and n(n+1)(n+2)/6
    // times.  Written out for both, that is this.
    let pairs = [
        dot([a.0, a.1, 0, 0], [1, 1, 0, 0]),
        dot([b.0, b.1, 0, 0], [2, 2, 0, 0]).wrapping_sub(a.1),
        dot([c.0, c.1, 0, 0], [4, 4, 0, 0]).wrapping_sub(dot([b.0, b.1, 0, 0], [1, 3, 0, 0])),
        dot([d.0, d.1, b.1, 0], [8, 8, 1, 0]).wrapping_sub(dot([c.0, c.1, 0, 0], [4, 8, 0, 0])),
    ];
    rest.iter().fold(pairs, |[a, b, c, d], last| {
        let a = a.wrapping_add(word(*last).into());
        let b = b.wrapping_add(a);
        let c = c.wrapping_add(b);
        [a, b, c, d.wrapping_add(c)]
    })
}

#[inline]
fn plus(sums: (u64, u64), pair: (u64, u64)) -> (u64, u64) {
    (sums.0.wrapping_add(pair.0), sums.1.wrapping_add(pair.1))
}

fn dot(sums: [u64; 4], times: [u64; 4]) -> u64 {
    sums.iter().zip(times).fold(0, |all, (sum, times)| all.wrapping_add(sum.wrapping_mul(times)))
}

/// The sums of one run of words and of another, `count` words long, behind it.
fn joined([a, b, c, d]: [u64; 4], behind: [u64; 4], count: usize) -> [u64; 4] {
    let once = u64::try_from(count).unwrap_or(u64::MAX);
    let twice = once.wrapping_mul(once.wrapping_add(1)) / 2;
    let thrice = twice.wrapping_mul(once.wrapping_add(2)) / 3;
    let [first, second, third, fourth] = behind;
    [
        a.wrapping_add(first),
        dot([b, a, 0, second], [1, once, 0, 1]),
        dot([c, b, a, third], [1, once, twice, 1]),
        dot([d, c, b, a], [1, once, twice, thrice]).wrapping_add(fourth),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// By the closed form: word i of n is in the k-th sum as often as there
    /// are ways to choose k - 1 of the words after it, with repetition.
    fn oracle(words: &[u32]) -> [u64; 4] {
        let mut sums = [0_u128; 4];
        for (i, word) in words.iter().enumerate() {
            let left = (words.len() - i) as u128;
            let word = u128::from(*word);
            sums[0] += word;
            sums[1] += word * left;
            sums[2] += word * (left * (left + 1) / 2);
            sums[3] += word * (left * (left + 1) * (left + 2) / 6);
        }
        sums.map(|sum| u64::try_from(sum & u128::from(u64::MAX)).unwrap())
    }

    #[test]
    fn sums_words_in_the_senders_order() {
        let bytes = [1, 0, 0, 0, 2, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
        let mut little = Fletcher::new(Order::Little);
        little.update(&bytes);
        assert_eq!(little.sums(), oracle(&[1, 2, u32::MAX]));
        let mut big = Fletcher::new(Order::Big);
        big.update(&bytes);
        assert_eq!(big.sums(), oracle(&[1 << 24, 2 << 24, u32::MAX]));
    }

    #[test]
    fn drops_a_word_that_is_not_whole_at_the_end_of_a_run() {
        let mut sum = Fletcher::new(Order::Little);
        sum.update(&[1, 0, 0, 0, 9, 9, 9]);
        sum.end_run();
        sum.update(&[2, 0, 0, 0]);
        assert_eq!(sum.sums(), oracle(&[1, 2]));
    }

    #[test]
    fn sums_more_words_than_a_block() {
        let words: Vec<u32> =
            (0..3 * 300_007).map(|i: u32| i.wrapping_mul(2_654_435_761)).collect();
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let mut sum = Fletcher::new(Order::Little);
        sum.update(&bytes);
        assert_eq!(sum.sums(), oracle(&words));
    }

    proptest! {
        #[test]
        fn any_split_gives_one_sum(
            words in prop::collection::vec(any::<u32>(), 0..200),
            pieces in prop::collection::vec(1_usize..20, 1..100),
        ) {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
            let mut sum = Fletcher::new(Order::Big);
            let mut rest = bytes.as_slice();
            for piece in pieces.iter().cycle() {
                let (now, later) = rest.split_at(rest.len().min(*piece));
                sum.update(now);
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(sum.sums(), oracle(&words));
        }
    }
}
