//! A part of a stream: some of its volumes, or a run of its bytes in whole
//! parts.

use super::{Plan, Stream, Volume};
use crate::error::{Error, Result};
use crate::hash::tree::Hash;
use crate::storage::Span;

/// What is wanted of a volume that is not; its lines are needed all the same,
/// as the plan is made from all of them.
const NOTHING: Span = Span { offset: 0, size: 0 };

impl Volume {
    /// Whether anything of it is.
    pub fn is_wanted(&self) -> bool {
        self.span().size > 0
    }

    /// What of it is wanted.
    pub fn span(&self) -> Span {
        self.wanted.unwrap_or(Span { offset: 0, size: self.line.size })
    }

    /// The parts that are wanted: where each begins in the volume, its bytes
    /// and its hash.
    pub fn parts(&self) -> impl Iterator<Item = (Span, Hash)> {
        let Span { offset: first, size } = self.span();
        let end = first.saturating_add(size);
        let mut offset = 0;
        let parts = self.hashes.iter().map(move |hash| {
            let size = self.line.part_size.min(self.line.size.saturating_sub(offset));
            let part = Span { offset, size };
            offset = offset.saturating_add(size);
            (part, *hash)
        });
        parts.filter(move |(part, _)| (first..end).contains(&part.offset))
    }
}

impl Plan {
    fn only(&mut self, option: &str) -> Result<&mut Stream> {
        let count = self.streams.len();
        match self.streams.as_mut_slice() {
            [stream] => Ok(stream),
            _ => Err(Error::Usage(format!("{option} is for one stream; stdin has {count}"))),
        }
    }

    /// Leaves these volumes of the one stream.
    ///
    /// # Errors
    /// When there are several streams, or no such volume.
    pub fn choose_volumes(&mut self, numbers: &[u32]) -> Result<()> {
        let stream = self.only("--volume")?;
        for number in numbers {
            if !stream.volumes.iter().any(|volume| volume.line.volume == *number) {
                let (name, count) = (&stream.name, stream.volumes.len());
                return Err(Error::Usage(format!(
                    "--volume {number}: {name} has no such volume here; it has {count}, from 0"
                )));
            }
        }
        for volume in &mut stream.volumes {
            if !numbers.contains(&volume.line.volume) {
                volume.wanted = Some(NOTHING);
            }
        }
        stream.shrink();
        Ok(())
    }

    /// Leaves the bytes from `first` to `last` of the one stream.
    ///
    /// # Errors
    /// When there are several streams, or these bytes are not whole parts of
    /// it.
    pub fn choose_range(&mut self, first: u64, last: u64) -> Result<()> {
        let stream = self.only("--range")?;
        let text = format!("--range {first}-{last}");
        let wrong = |why: String| Err(Error::Usage(format!("{text}: {why}")));
        let (mut begin, mut end, mut found) = (None, None, 0_u64);
        for volume in &mut stream.volumes {
            let mut span: Option<Span> = None;
            for (part, _) in volume.parts() {
                let offset = volume.line.offset.saturating_add(part.offset);
                let next = offset.saturating_add(part.size);
                if next > first && offset <= last {
                    begin.get_or_insert(offset);
                    end = Some(next.saturating_sub(1));
                    found = found.saturating_add(part.size);
                    let span = span.get_or_insert(Span { offset: part.offset, size: 0 });
                    span.size = span.size.saturating_add(part.size);
                }
            }
            // All of an archive is no range of it.
            volume.wanted =
                Some(span.unwrap_or(NOTHING)).filter(|span| span.size != volume.line.size);
        }
        let (Some(begin), Some(end)) = (begin, end) else {
            return wrong(format!("{} has no such bytes here", stream.name));
        };
        if (begin, end) != (first, last) {
            return wrong(format!("not whole parts; {begin}-{end} is"));
        }
        if found != (end - begin).saturating_add(1) {
            return wrong(format!("volumes of {} are left out of it", stream.name));
        }
        stream.shrink();
        Ok(())
    }
}

impl Stream {
    /// It is not all of the stream any more.
    fn shrink(&mut self) {
        self.treehash = None;
        let sizes = self.volumes.iter().map(|volume| volume.span().size);
        self.size = sizes.fold(0, u64::saturating_add);
    }
}
