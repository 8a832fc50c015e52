//! The lines from which the same plan can be made again, by the second of two
//! steps.

use super::{Plan, Volume};
use crate::hash::tree::Hash;
use crate::line::{Archive, HASHES, Hashes, Line};

impl Plan {
    /// All lines that the plan needs, in its order: that of each volume as
    /// `line` gives it, which is told its number among all.
    pub fn lines<'p>(
        &'p self,
        mut line: impl FnMut(usize, &'p Volume) -> Line + 'p,
    ) -> impl Iterator<Item = Line> + 'p {
        let heads = self.chains.iter().cloned().map(Line::Chain);
        let mut number = 0;
        let streams = self.streams.iter().flat_map(move |stream| {
            let mut lines = Vec::new();
            for volume in &stream.volumes {
                lines.extend(hashes(volume));
                lines.push(line(number, volume));
                number += 1;
            }
            lines.extend(stream.snapshots.iter().cloned().map(Line::Snapshot));
            lines.extend(stream.stored.clone().map(Line::Stored));
            lines
        });
        heads.chain(streams)
    }
}

/// The `hashes` lines of a volume.
fn hashes(volume: &Volume) -> impl Iterator<Item = Line> {
    let Archive { stream, generation, volume: number, ref dest, .. } = volume.line;
    (0_u32..).step_by(HASHES).zip(volume.hashes.chunks(HASHES)).map(
        move |(part, run): (u32, &[Hash])| {
            Line::Hashes(Hashes {
                stream,
                generation,
                volume: number,
                part,
                dest: dest.clone(),
                treehashes: run.to_vec(),
            })
        },
    )
}
