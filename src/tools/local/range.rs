//! Ranges of bytes: as requests write them, and those that are nodes of a
//! tree hash.

/// Bytes `start` to `end`, both included, as the service counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first byte.
    pub start: u64,
    /// The last byte.
    pub end: u64,
}

/// Bytes in a leaf of a tree hash.
pub const MIB: u64 = 1 << 20;

impl Range {
    /// `A-B`, digits only, A not above B.
    pub fn read(text: &str) -> Option<Self> {
        let (start, end) = text.split_once('-')?;
        let (start, end) = (number(start)?, number(end)?);
        (start <= end && end < 1 << 53).then_some(Self { start, end })
    }

    /// `bytes A-B/*`, the `Content-Range` of a part.
    pub fn of_part(text: &str) -> Option<Self> {
        Self::read(text.trim().strip_prefix("bytes")?.trim_start().strip_suffix("/*")?)
    }

    /// `bytes=A-B` or `bytes=A-`, the `Range` of a download of `size` bytes.
    /// An end past the last byte means the last byte.
    pub fn of_download(text: &str, size: u64) -> Option<Self> {
        let text = text.trim().strip_prefix("bytes=")?;
        let last = size.checked_sub(1)?;
        let range = match text.strip_suffix('-') {
            Some(start) => Self { start: number(start)?, end: last },
            None => Self::read(text)?,
        };
        (range.start <= last).then_some(Self { end: range.end.min(last), ..range })
    }

    /// How many bytes.
    pub fn size(self) -> u64 {
        (self.end - self.start).saturating_add(1)
    }
}

/// Decimal digits and nothing else.
pub fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// Is this range of an archive of `size` bytes one node of its tree, so that
/// it has a tree hash of its own ("tree-hash aligned")?
///
/// Leaves `a..b` of `n` are a node iff their count is a power of two and
/// divides `a`, or they end the tree and the next power of two at or above
/// their count divides `a`.
pub fn is_node(range: Range, size: u64) -> bool {
    let ends = range.end.saturating_add(1) == size;
    if !range.start.is_multiple_of(MIB) || !(ends || (range.end + 1).is_multiple_of(MIB)) {
        return false;
    }
    let first = range.start / MIB;
    let count = range.size().div_ceil(MIB);
    (count.is_power_of_two() || ends) && first.is_multiple_of(count.next_power_of_two())
}

/// May a job retrieve this range: does it begin at a MiB, and end at one or
/// at the end of the archive?
pub fn is_whole_mib(range: Range, size: u64) -> bool {
    range.start.is_multiple_of(MIB)
        && range.end < size
        && (range.end + 1 == size || (range.end + 1).is_multiple_of(MIB))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// Every node of the tree over `n` leaves, level by level.
    fn nodes(n: u64) -> HashSet<(u64, u64)> {
        let mut level: Vec<(u64, u64)> = (0..n).map(|i| (i, i + 1)).collect();
        let mut all: HashSet<_> = level.iter().copied().collect();
        while level.len() > 1 {
            level = level.chunks(2).map(|pair| (pair[0].0, pair[pair.len() - 1].1)).collect();
            all.extend(&level);
        }
        all
    }

    #[test]
    fn finds_the_nodes_of_every_small_tree() {
        for n in 1..=70 {
            let nodes = nodes(n);
            for tail in [1, MIB - 1, MIB] {
                let size = (n - 1) * MIB + tail;
                for a in 0..n {
                    for b in a + 1..=n {
                        let range = Range { start: a * MIB, end: (b * MIB).min(size) - 1 };
                        assert_eq!(
                            is_node(range, size),
                            nodes.contains(&(a, b)),
                            "{a}..{b} of {n}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn a_range_between_leaves_is_no_node() {
        assert!(!is_node(Range { start: 1, end: MIB }, 2 * MIB));
        assert!(!is_node(Range { start: 0, end: MIB }, 2 * MIB));
        assert!(!is_node(Range { start: 0, end: 9 }, 11));
        assert!(is_node(Range { start: 0, end: 10 }, 11));
    }

    #[test]
    fn reads_only_what_the_service_reads() {
        let range = |start, end| Some(Range { start, end });
        assert_eq!(Range::of_part("bytes 0-1048575/*"), range(0, 1_048_575));
        for bad in ["bytes 0-1/2", "0-1/*", "bytes 2-1/*", "bytes -1/*", "bytes 0-+1/*", ""] {
            assert_eq!(Range::of_part(bad), None, "{bad}");
        }
        assert_eq!(Range::of_part("bytes 0-18446744073709551615/*"), None);
        assert_eq!(Range::of_download("bytes=5-", 10), range(5, 9));
        assert_eq!(Range::of_download("bytes=5-99", 10), range(5, 9));
        assert_eq!(Range::of_download("bytes=10-", 10), None);
        assert_eq!(Range::of_download("bytes=-5", 10), None);
        assert_eq!(Range::of_download("bytes=0-", 0), None);
    }

    #[test]
    fn a_job_takes_whole_mib_or_the_end() {
        assert!(is_whole_mib(Range { start: MIB, end: 2 * MIB - 1 }, 3 * MIB));
        assert!(is_whole_mib(Range { start: MIB, end: 2 * MIB + 6 }, 2 * MIB + 7));
        assert!(!is_whole_mib(Range { start: MIB, end: 2 * MIB }, 3 * MIB));
        assert!(!is_whole_mib(Range { start: 0, end: 3 * MIB }, 3 * MIB));
    }
}
