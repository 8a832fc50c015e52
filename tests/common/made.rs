//! Synthetic ZFS send streams: for what no sender at hand makes, such as those
//! of the other byte order, `REDACT` and `WRITE_BYREF`.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "a test that cannot go on has failed"
)]

/// A stream made record by record, with sums that share no code with those
/// that are tested.
#[derive(Clone)]
pub struct Made {
    big: bool,
    /// Whether records but BEGIN carry a checksum, as since 2015.
    summed: bool,
    sums: [u64; 4],
    /// The stream.
    pub bytes: Vec<u8>,
    /// Where records begin.
    pub edges: Vec<usize>,
}

impl Made {
    /// Nothing yet, in this byte order.
    pub fn new(big: bool, summed: bool) -> Self {
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
    pub fn record(mut self, kind: u64, fields: &[(usize, usize, u64)], payload: &[u8]) -> Self {
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

    /// The BEGIN of a package with this header type and feature flags, with the
    /// snapshot's guid and that of its base. What it holds is a file system.
    pub fn begin(self, package: u64, name: &str, guids: (u64, u64), payload: &[u8]) -> Self {
        let kind = u64::from(package & 3 == 1) * 2;
        self.begin_of(kind, package, name, guids, payload)
    }

    /// The BEGIN of a volume.
    pub fn begin_volume(self, name: &str, guids: (u64, u64)) -> Self {
        self.begin_of(3, 1, name, guids, &[])
    }

    fn begin_of(
        mut self,
        kind: u64,
        package: u64,
        name: &str,
        guids: (u64, u64),
        payload: &[u8],
    ) -> Self {
        self.sums = [0; 4];
        let mut fields = vec![
            (4, 4, u64::try_from(payload.len()).unwrap()),
            (8, 8, 0x2_F5BA_CBAC),
            (16, 8, package),
            (24, 8, u64::from(package & 3 == 1) * 1_700_000_000),
            (32, 4, kind),
            (40, 8, guids.0),
            (48, 8, guids.1),
        ];
        fields.extend(name.bytes().enumerate().map(|(i, byte)| (56 + i, 1, u64::from(byte))));
        self.record(0, &fields, payload)
    }

    /// What of an object does not fit into its dnode.
    pub fn spill(self, object: u64, guid: u64, block: &[u8]) -> Self {
        let length = u64::try_from(block.len()).unwrap();
        self.record(7, &[(8, 8, object), (16, 8, length), (24, 8, guid)], block)
    }

    /// The same as OpenZFS 2.3 embeds it, where no receiver finds it: packed
    /// with the compression of this number.
    pub fn embedded(self, object: u64, guid: u64, length: u64, packed: (u64, &[u8])) -> Self {
        let (compression, packed) = packed;
        let size = u64::try_from(packed.len()).unwrap();
        let mut payload = packed.to_vec();
        payload.resize(packed.len().next_multiple_of(8), 0);
        let fields = [
            (8, 8, object),
            (16, 8, (2 * length).wrapping_neg()),
            (24, 8, length),
            (32, 8, guid),
            (40, 1, compression),
            (48, 4, length),
            (52, 4, size),
        ];
        self.record(8, &fields, &payload)
    }

    /// The END of what began.
    pub fn end(self, guid: u64) -> Self {
        let [a, b, c, d] = self.sums;
        self.record(5, &[(8, 8, a), (16, 8, b), (24, 8, c), (32, 8, d), (40, 8, guid)], &[])
    }

    /// An END that carries no checksum of its own.
    pub fn package_end(mut self, last: bool) -> Self {
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
    pub fn every_type(self) -> Self {
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

    /// A stream of every type of record.
    pub fn plain(big: bool, summed: bool) -> Self {
        Self::new(big, summed).begin(5, "tank/home@mon", (77, 66), &[]).every_type().end(77)
    }

    /// A compound stream of two snapshots.
    pub fn compound(big: bool, summed: bool) -> Self {
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
