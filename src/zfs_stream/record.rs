//! The records of a ZFS send stream: a header of 312 bytes, and a payload
//! whose length follows from it (OpenZFS, `include/sys/zfs_ioctl.h`).

use super::fletcher::Order;

/// Bytes in a record's header.
pub(super) const HEADER: usize = 312;

/// Bytes of a header before its checksum.
pub(super) const BEFORE_CHECKSUM: usize = HEADER - 32;

/// The number of a SPILL record.
const SPILL: u32 = 7;

/// What a BEGIN record has at byte 8.
pub(super) const MAGIC: u64 = 0x2_F5BA_CBAC;

/// The most bytes a block's payload has (`SPA_MAXBLOCKSIZE`).
pub(super) const LONGEST_PAYLOAD: u64 = 16 << 20;

/// The most bytes the payload of a BEGIN record has, as the kernel takes it.
/// Userland's own limit is 64 MiB.
pub(super) const LONGEST_BEGIN: u64 = 256 << 20;

/// The feature flags that OpenZFS 2.3 has (`DMU_BACKUP_FEATURE_MASK`), and the
/// two of deduplication that it no longer sends.
const FEATURES: u64 = 0b111 | 0b11 << 16 | 0x7ff << 19;

/// A type of record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Begin,
    Object,
    FreeObjects,
    Write,
    Free,
    End,
    WriteByRef,
    Spill,
    WriteEmbedded,
    ObjectRange,
    Redact,
}

impl Kind {
    /// The type of this number.
    pub(super) fn of(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::Begin,
            1 => Self::Object,
            2 => Self::FreeObjects,
            3 => Self::Write,
            4 => Self::Free,
            5 => Self::End,
            6 => Self::WriteByRef,
            SPILL => Self::Spill,
            8 => Self::WriteEmbedded,
            9 => Self::ObjectRange,
            10 => Self::Redact,
            _ => return None,
        })
    }

    /// The name as zfs and `zstream dump` have it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Begin => "BEGIN",
            Self::Object => "OBJECT",
            Self::FreeObjects => "FREEOBJECTS",
            Self::Write => "WRITE",
            Self::Free => "FREE",
            Self::End => "END",
            Self::WriteByRef => "WRITE_BYREF",
            Self::Spill => "SPILL",
            Self::WriteEmbedded => "WRITE_EMBEDDED",
            Self::ObjectRange => "OBJECT_RANGE",
            Self::Redact => "REDACT",
        }
    }
}

/// Which of the two packages a BEGIN record opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Package {
    Substream,
    Compound,
}

/// A record's header, with the byte order to read it in.
#[derive(Clone, Copy)]
pub(super) struct Header<'a> {
    pub(super) bytes: &'a [u8; HEADER],
    pub(super) order: Order,
}

/// The byte order in which these are the first bytes of a stream.
pub(super) fn order_of(magic: [u8; 8]) -> Option<Order> {
    [Order::Little, Order::Big].into_iter().find(|order| order.u64(magic) == MAGIC)
}

/// Writes a field of a header.
fn put<const N: usize>(header: &mut [u8; HEADER], at: usize, field: [u8; N]) {
    for (to, from) in header.iter_mut().skip(at).zip(field) {
        *to = from;
    }
}

impl Header<'_> {
    /// `N` bytes from `AT` on; that they are there is checked when this is
    /// compiled.
    pub(super) fn bytes<const AT: usize, const N: usize>(self) -> [u8; N] {
        const { assert!(AT + N <= HEADER) };
        let mut field = [0; N];
        for (to, from) in field.iter_mut().zip(self.bytes.iter().skip(AT)) {
            *to = *from;
        }
        field
    }

    fn u32<const AT: usize>(self) -> u32 {
        self.order.u32(self.bytes::<AT, 4>())
    }

    fn u64<const AT: usize>(self) -> u64 {
        self.order.u64(self.bytes::<AT, 8>())
    }

    /// The number of the record's type, and the type if there is one.
    pub(super) fn number(self) -> u32 {
        self.u32::<0>()
    }

    pub(super) fn kind(self) -> Option<Kind> {
        Kind::of(self.number())
    }

    /// Bytes in the payload of a record of this kind. `drr_payloadlen` counts
    /// for BEGIN only.
    pub(super) fn payload(&self, kind: Kind) -> u64 {
        match kind {
            Kind::Begin => self.u32::<4>().into(),
            Kind::Object => match self.u32::<36>() {
                0 => u64::from(self.u32::<28>()).next_multiple_of(8),
                raw => raw.into(),
            },
            Kind::Write => match self.bytes::<50, 1>() {
                [0] => self.u64::<32>(),
                _ => self.u64::<96>(),
            },
            Kind::Spill => match self.u64::<40>() {
                0 => self.u64::<16>(),
                compressed => compressed,
            },
            Kind::WriteEmbedded => u64::from(self.u32::<52>()).next_multiple_of(8),
            Kind::FreeObjects
            | Kind::Free
            | Kind::End
            | Kind::WriteByRef
            | Kind::ObjectRange
            | Kind::Redact => 0,
        }
    }

    /// The checksum every record but BEGIN ends with: the sum of all before
    /// it. All zero is "not filled in".
    pub(super) fn checksum(self) -> [u64; 4] {
        [self.u64::<280>(), self.u64::<288>(), self.u64::<296>(), self.u64::<304>()]
    }

    /// The same header with this checksum.
    pub(super) fn with_checksum(self, sums: [u64; 4]) -> [u8; HEADER] {
        self.with_sums(BEFORE_CHECKSUM, sums)
    }

    fn with_sums(self, at: usize, sums: [u64; 4]) -> [u8; HEADER] {
        let mut bytes = *self.bytes;
        for (at, sum) in (at..).step_by(8).zip(sums) {
            put(&mut bytes, at, self.order.bytes_of_u64(sum));
        }
        bytes
    }

    // Fields of BEGIN.

    pub(super) fn has_magic(self) -> bool {
        self.u64::<8>() == MAGIC
    }

    pub(super) fn package(self) -> Option<Package> {
        match self.u64::<16>() & 3 {
            1 => Some(Package::Substream),
            2 => Some(Package::Compound),
            _ => None,
        }
    }

    /// Whether the feature flag of this number is set.
    pub(super) fn feature(self, number: u32) -> bool {
        (self.features() >> number) & 1 == 1
    }

    /// The feature flags that are not known here. A stream that has some is
    /// taken if all else is right.
    pub(super) fn unknown_features(self) -> u64 {
        self.features() & !FEATURES
    }

    /// All feature flags.
    pub(super) fn features(self) -> u64 {
        (self.u64::<16>() >> 2) & ((1 << 56) - 1)
    }

    /// Unix seconds; 0 in the header of a compound stream.
    pub(super) fn created(self) -> u64 {
        self.u64::<24>()
    }

    /// Whether the base is a snapshot of another dataset (`DRR_FLAG_CLONE`).
    pub(super) fn is_clone(self) -> bool {
        self.u32::<36>() & 1 == 1
    }

    /// That of END is in the same place.
    pub(super) fn guid(self) -> u64 {
        self.u64::<40>()
    }

    pub(super) fn base_guid(self) -> u64 {
        self.u64::<48>()
    }

    /// Whether it is of a file system: a volume has one object of data.
    pub(super) fn is_file_system(self) -> bool {
        self.u32::<32>() == 2
    }

    /// The snapshot's name on the sender; `None` if it does not end or is not
    /// UTF-8.
    pub(super) fn name(self) -> Option<String> {
        let field = self.bytes::<56, 256>();
        let end = field.iter().position(|byte| *byte == 0)?;
        str::from_utf8(field.get(..end)?).ok().map(str::to_owned)
    }

    // Fields of WRITE_EMBEDDED.

    /// The object that it writes to.
    pub(super) fn object(self) -> u64 {
        self.u64::<8>()
    }

    /// Where in the object it writes.
    pub(super) fn offset(self) -> u64 {
        self.u64::<16>()
    }

    /// Whether it stands where no byte of a file can: that is how some senders
    /// tell of what does not fit into the object's dnode, and no receiver
    /// takes it for that (openzfs#18239).
    pub(super) fn is_spill(self) -> bool {
        self.offset() >= 1 << 63
    }

    /// Bytes that the block has in the object.
    pub(super) fn embedded_length(self) -> u64 {
        self.u64::<24>()
    }

    pub(super) fn embedded_guid(self) -> u64 {
        self.u64::<32>()
    }

    /// How the payload is compressed, and what it is: 0 is data.
    pub(super) fn embedded_kinds(self) -> (u8, u8) {
        let [compression, kind] = self.bytes::<40, 2>();
        (compression, kind)
    }

    /// Bytes of the block, and of the payload without what fills its last word.
    pub(super) fn embedded_sizes(self) -> (u64, u64) {
        (self.u32::<48>().into(), self.u32::<52>().into())
    }

    /// The header of a SPILL record, without its checksum.
    pub(super) fn spill(order: Order, object: u64, length: u64, guid: u64) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        put(&mut bytes, 0, order.bytes_of_u32(SPILL));
        for (at, number) in [(8, object), (16, length), (24, guid)] {
            put(&mut bytes, at, order.bytes_of_u64(number));
        }
        bytes
    }

    // Fields of END.

    /// The sum of everything before the END record.
    pub(super) fn end_checksum(self) -> [u64; 4] {
        [self.u64::<8>(), self.u64::<16>(), self.u64::<24>(), self.u64::<32>()]
    }

    /// The same END with this sum.
    pub(super) fn with_end_checksum(self, sums: [u64; 4]) -> [u8; HEADER] {
        self.with_sums(8, sums)
    }

    /// Whether all of END that is neither type, nor checksum, nor guid is 0.
    pub(super) fn end_is_bare(self) -> bool {
        self.u32::<4>() == 0 && self.bytes.iter().skip(48).all(|byte| *byte == 0)
    }
}
