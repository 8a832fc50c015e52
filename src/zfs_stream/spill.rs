//! Blocks that are embedded in a stream as they were in a block pointer.
//!
//! Spill blocks are metadata, which ZFS compresses with lz4, or with lzjb in a
//! pool without the feature `lz4_compress`, whatever the property of the
//! dataset says (OpenZFS, `dmu_write_policy` in `module/zfs/dmu.c`). What does
//! not get smaller is not embedded, so it is never without compression.

use super::What;
use super::record::Header;

/// The numbers of `enum zio_compress` (`include/sys/zio_compress.h`).
const LZJB: u8 = 3;
const LZ4: u8 = 15;

/// Bytes that a block pointer has room for (`BPE_PAYLOAD_SIZE`).
const MOST_EMBEDDED: u64 = 112;

/// A spill block has at least the bytes of a sector, as every block, and at
/// most those of an old large one (`SPA_OLD_MAXBLOCKSIZE`, `module/zfs/sa.c`).
const SECTOR: u64 = 512;
const LONGEST: u64 = 128 << 10;

/// A spill block that was sent as `WRITE_EMBEDDED`.
#[derive(Clone)]
pub(super) struct Embedded {
    /// The object that it is of.
    pub(super) object: u64,
    /// Bytes in the block.
    pub(super) length: u64,
    /// The guid of the snapshot.
    pub(super) guid: u64,
    compression: u8,
    /// The payload of the record as it comes, with what fills its last word.
    payload: Vec<u8>,
    /// Bytes of the payload that count.
    size: usize,
}

impl Embedded {
    /// What a header tells of it.
    ///
    /// # Errors
    /// When it is not as `dump_write_embedded` (`module/zfs/dmu_send.c`) writes
    /// it of a spill block.
    pub(super) fn of(header: &Header<'_>) -> Result<Self, What> {
        let length = header.embedded_length();
        let (whole, size) = header.embedded_sizes();
        let (compression, kind) = header.embedded_kinds();
        let is_spill = kind == 0
            && (SECTOR..=LONGEST).contains(&length)
            && length.is_multiple_of(SECTOR)
            // Of the block whose number is -2.
            && header.offset() == length.wrapping_mul(2).wrapping_neg()
            && whole == length
            && (1..=MOST_EMBEDDED).contains(&size);
        if !is_spill {
            return Err(What::NoSpill);
        }
        if !matches!(compression, LZJB | LZ4) {
            return Err(What::Compression(compression));
        }
        let size = usize::try_from(size).map_err(|_| What::NoSpill)?;
        let (object, guid) = (header.object(), header.embedded_guid());
        Ok(Self { object, length, guid, compression, payload: Vec::with_capacity(size), size })
    }

    /// Takes the next bytes of the payload.
    pub(super) fn take(&mut self, bytes: &[u8]) {
        self.payload.extend(bytes);
    }

    /// The block, when the payload is whole.
    ///
    /// # Errors
    /// When the payload does not hold it.
    pub(super) fn block(&self) -> Result<Vec<u8>, What> {
        let packed = self.payload.get(..self.size).unwrap_or_default();
        let length = usize::try_from(self.length).map_err(|_| What::NoSpill)?;
        let block =
            if self.compression == LZ4 { lz4(packed, length) } else { lzjb(packed, length) };
        block.ok_or(What::Packed(self.compression))
    }
}

/// What ZFS calls a compression of this number.
pub(super) fn name_of(compression: u8) -> String {
    match compression {
        2 => "off".to_owned(),
        LZJB => "lzjb".to_owned(),
        level @ 5..=13 => format!("gzip-{}", level - 4),
        14 => "zle".to_owned(),
        LZ4 => "lz4".to_owned(),
        16 => "zstd".to_owned(),
        number => format!("number {number}"),
    }
}

/// A block of LZ4 behind its length, which is big-endian on every machine
/// (`module/zfs/lz4_zfs.c`).
fn lz4(packed: &[u8], length: usize) -> Option<Vec<u8>> {
    let (size, packed) = packed.split_first_chunk()?;
    let size = usize::try_from(u32::from_be_bytes(*size)).ok()?;
    let mut block = vec![0; length];
    let got = lz4_flex::block::decompress_into(packed.get(..size)?, &mut block).ok()?;
    (got == length).then_some(block)
}

/// LZJB (`module/zfs/lzjb.c`): a byte whose bits say of each of the eight that
/// follow, the lowest first, whether it is a byte, or the first of two that
/// name bytes which came before: six bits of how many, ten of how far back.
fn lzjb(packed: &[u8], length: usize) -> Option<Vec<u8>> {
    let mut packed = packed.iter().copied();
    let mut block = Vec::with_capacity(length);
    let (mut map, mut bits) = (0, 0);
    while block.len() < length {
        if bits == 0 {
            (map, bits) = (packed.next()?, 8);
        }
        let (is_copy, first) = (map & 1 == 1, packed.next()?);
        (map, bits) = (map >> 1, bits - 1);
        if !is_copy {
            block.push(first);
            continue;
        }
        let copy = u16::from_be_bytes([first, packed.next()?]);
        let count = usize::from(copy >> 10) + 3;
        let from = block.len().checked_sub(usize::from(copy & 0x3ff))?;
        for at in (from..from + count).take(length - block.len()) {
            block.push(*block.get(at)?);
        }
    }
    Some(block)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The spill block of a link of 300 letters, and of an extended attribute
    /// of 900 bytes: the first bytes, of how many, and what follows them.
    fn blocks() -> [Vec<u8>; 2] {
        let link = [hex("5a502f000404 2c01").as_slice(), &[b'x'; 300]].concat();
        let head = hex("5a502f000504b8030101000000000000 00000001000003a4 000003a800000009");
        let name = [b"user.note".as_slice(), &hex("0000000000000a00000384")].concat();
        let attribute = [head.as_slice(), &name, &[b'w'; 900]].concat();
        [(link, 512), (attribute, 1024)].map(|(mut block, length)| {
            block.resize(length, 0);
            block
        })
    }

    fn hex(text: &str) -> Vec<u8> {
        hex::decode(text.replace(' ', "")).unwrap()
    }

    /// As `zfs_lzjb_compress_buf` of OpenZFS packed them.
    #[test]
    fn takes_lzjb_apart() {
        let packed = [
            "005a502f0004042c01be78fc01fc42fc42fc42804200fc0103fc42fc420000000000",
            "005a502f000504b803180101001401000a03a400080003a8001109757365c0722e6e6f7465000d0003f20a0018\
             8477fc01fc42fc42fc42fffc42fc42fc42fc42fc42fc42fc42fc420ffc429842038cfc03000000",
        ];
        for (packed, block) in packed.into_iter().zip(blocks()) {
            let packed = hex(packed);
            assert_eq!(lzjb(&packed, block.len()), Some(block.clone()));
            // It has no end of its own: where the block is whole, it is.
            let longer = [packed.as_slice(), &[0; 9]].concat();
            assert_eq!(lzjb(&longer, block.len()), Some(block));
            for cut in 0..20 {
                assert_eq!(lzjb(&packed[..cut], 1024), None);
            }
        }
        assert_eq!(lzjb(&[1, 0, 1], 3), None, "before the first byte");
        assert_eq!(lzjb(&[2, 7, 0, 0], 4), None, "no byte that came before");
    }

    #[test]
    fn takes_lz4_apart() {
        // Two letters, a run of the second, and five at the end.
        let packed = hex("0000000d 2f 6162 0100 ff e9 50 6363 6363 63");
        let block = [b"a".as_slice(), &[b'b'; 1 + 19 + 255 + 233], b"ccccc"].concat();
        assert_eq!(block.len(), 514);
        assert_eq!(lz4(&packed, 514), Some(block));
        assert_eq!((lz4(&packed, 513), lz4(&packed, 515)), (None, None));
        for cut in 0..packed.len() {
            assert_eq!(lz4(&packed[..cut], 514), None);
        }
        let far = hex("0000000a 10 61 0200 50 6363 6363 63");
        assert_eq!(lz4(&far, 10), None, "before the first byte");
    }

    #[test]
    fn names_what_zfs_has() {
        let names: Vec<String> = [2, 3, 5, 13, 14, 15, 16, 17].map(name_of).into();
        let known = ["off", "lzjb", "gzip-1", "gzip-9", "zle", "lz4", "zstd", "number 17"];
        assert_eq!(names, known);
    }

    proptest! {
        #[test]
        fn any_bytes_give_the_block_or_none(
            packed in prop::collection::vec(any::<u8>(), 0..112),
            length in 1_usize..2048,
        ) {
            let counted = u32::try_from(packed.len()).unwrap().to_be_bytes();
            let counted = [&counted, packed.as_slice()].concat();
            for block in [lzjb(&packed, length), lz4(&packed, length), lz4(&counted, length)] {
                prop_assert!(block.is_none_or(|block| block.len() == length));
            }
        }
    }
}
