//! A part on disk: its bytes, then the hashes of its MiB, then a footer.
//!
//! One file, so that one rename makes a part whole: a part that has its name
//! has its hashes, and parts are read, hashed and sampled by MiB without
//! reading them again. The footer is the count of the bytes (8, big-endian),
//! the tree hash (32) and eight bytes of magic.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::range::{MIB, Range};
use crate::hash::tree::{Fold, Hash, LEAF};

const MAGIC: &[u8; 8] = b"akapart1";
const FOOTER: u64 = 48;

/// The name of the part that begins at a byte of its archive. Names sort as
/// the parts do.
pub fn name(start: u64) -> String {
    format!("{start:014}.part")
}

/// The byte that the part of this name begins at.
pub fn start_of(name: &str) -> Option<u64> {
    name.strip_suffix(".part")?.parse().ok()
}

/// Both hashes of a run of bytes, and the leaves of the tree.
#[derive(Default)]
pub struct Hashes {
    leaf: Sha256,
    in_leaf: usize,
    leaves: Vec<Hash>,
    /// Absent within the first leaf, where it would be the leaf's.
    linear: Option<Sha256>,
}

impl Hashes {
    /// Takes the next bytes.
    pub fn update(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            let (now, later) = data.split_at(data.len().min(LEAF - self.in_leaf));
            if let Some(linear) = &mut self.linear {
                linear.update(now);
            }
            self.leaf.update(now);
            self.in_leaf += now.len();
            if self.in_leaf == LEAF {
                self.linear.get_or_insert_with(|| self.leaf.clone());
                self.leaves.push(Hash(self.leaf.finalize_reset().into()));
                self.in_leaf = 0;
            }
            data = later;
        }
    }

    /// The linear hash, and the leaves.
    pub fn finish(mut self) -> (Hash, Vec<Hash>) {
        let linear = self.linear.unwrap_or_else(|| self.leaf.clone());
        if self.in_leaf > 0 || self.leaves.is_empty() {
            self.leaves.push(Hash(self.leaf.finalize().into()));
        }
        (Hash(linear.finalize().into()), self.leaves)
    }
}

/// A part that is being written.
pub struct Writer {
    file: File,
    size: u64,
    hashes: Hashes,
}

/// What was written.
pub struct Written {
    /// Bytes.
    pub size: u64,
    /// Their SHA-256.
    pub sha256: Hash,
    /// Their tree hash.
    pub treehash: Hash,
}

impl Writer {
    /// Starts a part in a new file.
    pub fn create(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::create(path)?, size: 0, hashes: Hashes::default() })
    }

    /// Takes the next bytes.
    pub fn write(&mut self, data: &[u8]) -> io::Result<()> {
        self.file.write_all(data)?;
        self.hashes.update(data);
        self.size += u64::try_from(data.len()).unwrap_or(u64::MAX);
        Ok(())
    }

    /// Bytes so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Writes hashes and footer and makes all of it durable.
    pub fn finish(mut self) -> io::Result<Written> {
        let (sha256, leaves) = self.hashes.finish();
        let mut tail: Vec<u8> = leaves.iter().flat_map(|leaf| leaf.0).collect();
        let treehash = leaves.into_iter().collect::<Fold>().finish();
        tail.extend(self.size.to_be_bytes());
        tail.extend(treehash.0);
        tail.extend(MAGIC);
        self.file.write_all(&tail)?;
        self.file.sync_all()?;
        Ok(Written { size: self.size, sha256, treehash })
    }
}

/// A part that was written.
pub struct Part {
    file: File,
    /// Bytes.
    pub size: u64,
    /// Their tree hash.
    pub treehash: Hash,
}

impl Part {
    /// Opens the part that begins at a byte of the archive in `dir`.
    pub fn open(dir: &Path, start: u64) -> io::Result<Self> {
        let mut file = File::open(dir.join(name(start)))?;
        let length = file.metadata()?.len();
        let torn = || io::Error::new(io::ErrorKind::InvalidData, "not a whole part");
        file.seek(SeekFrom::Start(length.checked_sub(FOOTER).ok_or_else(torn)?))?;
        let (mut size, mut treehash, mut magic) = ([0; 8], [0; 32], [0; 8]);
        file.read_exact(&mut size)?;
        file.read_exact(&mut treehash)?;
        file.read_exact(&mut magic)?;
        let size = u64::from_be_bytes(size);
        let leaves = size.div_ceil(MIB).max(1);
        let whole = leaves.checked_mul(32).and_then(|n| n.checked_add(size)?.checked_add(FOOTER));
        if &magic != MAGIC || whole != Some(length) {
            return Err(torn());
        }
        Ok(Self { file, size, treehash: Hash(treehash) })
    }

    /// The hashes of its MiB.
    pub fn leaves(&mut self) -> io::Result<Vec<Hash>> {
        self.file.seek(SeekFrom::Start(self.size))?;
        let mut hashes = BufReader::new(&self.file).take(self.size.div_ceil(MIB).max(1) * 32);
        let mut leaves = Vec::new();
        let mut leaf = [0; 32];
        while hashes.limit() > 0 {
            hashes.read_exact(&mut leaf)?;
            leaves.push(Hash(leaf));
        }
        Ok(leaves)
    }

    /// Reads on from a byte, not past the end of the part.
    fn read_from(mut self, at: u64) -> io::Result<io::Take<File>> {
        self.file.seek(SeekFrom::Start(at))?;
        let left = self.size.saturating_sub(at);
        Ok(self.file.take(left))
    }
}

/// The tree hash of whole MiB of an archive, from the leaves on disk.
pub fn tree_hash(dir: &Path, part_size: u64, range: Range) -> io::Result<Hash> {
    let mut fold = Fold::default();
    let mut at = range.start;
    while at <= range.end {
        let start = at - at % part_size;
        let mut position = start;
        for leaf in Part::open(dir, start)?.leaves()? {
            if (range.start..=range.end).contains(&position) {
                fold.push(leaf);
            }
            position += MIB;
        }
        at = start + part_size;
    }
    Ok(fold.finish())
}

/// The bytes of an archive, part after part. Between two of them its directory
/// may move from the first place to the second.
pub struct Reader {
    dirs: [PathBuf; 2],
    part_size: u64,
    at: u64,
    part: Option<io::Take<File>>,
}

impl Reader {
    /// Reads from a byte on.
    pub fn new(dirs: [PathBuf; 2], part_size: u64, at: u64) -> Self {
        Self { dirs, part_size, at, part: None }
    }

    fn open([before, after]: &[PathBuf; 2], start: u64) -> io::Result<Part> {
        match Part::open(before, start) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Part::open(after, start),
            opened => opened,
        }
    }
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let part = match &mut self.part {
            Some(part) if part.limit() > 0 => part,
            spent => {
                let within = self.at % self.part_size;
                let part = Self::open(&self.dirs, self.at - within)?.read_from(within)?;
                spent.insert(part)
            }
        };
        let count = part.read(buffer)?;
        self.at += u64::try_from(count).unwrap_or(u64::MAX);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::tree::TreeHash;

    fn pattern(size: usize) -> Vec<u8> {
        (0..size).map(|i| u8::try_from(i / 1000 % 251).unwrap()).collect()
    }

    #[test]
    fn hashes_both_ways_at_once() {
        for size in [0, 1, LEAF - 1, LEAF, LEAF + 1, 3 * LEAF + 17] {
            let data = pattern(size);
            let mut hashes = Hashes::default();
            data.chunks(300_000).for_each(|piece| hashes.update(piece));
            let (linear, leaves) = hashes.finish();
            assert_eq!(linear, Hash::of(&data), "{size}");
            assert_eq!(leaves.into_iter().collect::<Fold>().finish(), TreeHash::of(&data));
        }
    }

    #[test]
    fn reads_and_hashes_ranges_across_parts() {
        let dir = tempfile::tempdir().unwrap();
        let data = pattern(7 * LEAF + 5);
        for (i, piece) in data.chunks(2 * LEAF).enumerate() {
            let start = i as u64 * 2 * MIB;
            let mut part = Writer::create(&dir.path().join(name(start))).unwrap();
            part.write(piece).unwrap();
            assert_eq!(part.finish().unwrap().treehash, TreeHash::of(piece));
        }
        for (start, end) in [
            (0, data.len()),
            (4 * LEAF, 6 * LEAF),
            (3 * LEAF, 4 * LEAF),
            (5 * LEAF + 3, 7 * LEAF + 5),
        ] {
            let mut read = vec![0; end - start];
            let dirs = ["none", ""].map(|name| dir.path().join(name));
            let mut reader = Reader::new(dirs, 2 * MIB, start as u64);
            reader.read_exact(&mut read).unwrap();
            assert!(read == data[start..end]);
            if start % LEAF == 0 {
                let range = Range { start: start as u64, end: end as u64 - 1 };
                let hash = tree_hash(dir.path(), 2 * MIB, range).unwrap();
                assert_eq!(hash, TreeHash::of(&data[start..end]), "{start} {end}");
            }
        }
    }

    #[test]
    fn refuses_a_torn_part() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name(0));
        let mut part = Writer::create(&path).unwrap();
        part.write(b"abc").unwrap();
        part.finish().unwrap();
        let whole = std::fs::read(&path).unwrap();
        assert_eq!(Part::open(dir.path(), 0).unwrap().size, 3);
        std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert!(Part::open(dir.path(), 0).is_err());
        std::fs::write(&path, &whole[1..]).unwrap();
        assert!(Part::open(dir.path(), 0).is_err());
    }
}
