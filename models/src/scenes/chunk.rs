//! What chunk's two sides do in the models: the input ends well, badly or
//! never, and the far end fails. There is a copy for each variant.

use std::collections::BTreeMap;

use crate::stream::input::{Ends, Input};
use crate::tools::chunk::inspect::Teller;
use crate::tools::chunk::known::Known;
use crate::stream::proof::Proofs;
use crate::tools::chunk::room::{Place, Room};
use crate::stream::source::Source;
use crate::tools::chunk::writer::Writer;
use crate::error::Result;
use crate::hash::pool::BLOCK;
use crate::line::{End, Line, Part, Stream, StreamId, Volume};
use crate::spool::{Lock, Spool, StreamDir};
use crate::stdout::stdout;
use crate::hash::tree::Hash;
use crate::{FATAL, Scene, bytes, tree};

pub const SCENES: &[Scene] = &[
    ("chunk", chunk),
    ("chunk, part of it stored", partly_stored),
    ("chunk, to inspect", inspect),
    ("chunk of what is not whole", not_whole),
    ("chunk, and reading fails", reading_fails),
    ("chunk to inspect, and reading fails", reading_fails_to_inspect),
    ("chunk, and there is no room", no_room),
    ("chunk, and the disk is full", disk_full),
    ("chunk, and nobody reads", nobody_reads),
    ("chunk, and a hashing thread fails", hashing_fails),
    ("chunk to inspect, and a hashing thread fails", hashing_fails_to_inspect),
];

const STREAM: StreamId = StreamId(1);
const PART: usize = 2 * BLOCK;
const VOLUME: usize = 2 * PART;
const SIZE: usize = 5 * BLOCK + 70;

/// What happens to chunk.
struct Cut {
    input: Vec<u8>,
    ends: Ends,
    whole: bool,
    room: bool,
    full_at: Option<(u32, u32)>,
    stored: Option<u32>,
    deaf_after: usize,
    gone_after: usize,
    inspect: bool,
}

/// What came of it.
struct Came {
    result: Result<()>,
    printed: Vec<String>,
    parts: BTreeMap<(u32, u32), Vec<u8>>,
}

impl Default for Cut {
    fn default() -> Self {
        Self {
            input: bytes(8, SIZE),
            ends: Ends::Well,
            whole: true,
            room: true,
            full_at: None,
            stored: None,
            deaf_after: usize::MAX,
            gone_after: usize::MAX,
            inspect: false,
        }
    }
}

fn stream() -> Stream {
    Stream { stream: STREAM, part_size: PART as u64, volume_size: VOLUME as u64 }
}

impl Cut {
    fn run(self) -> Came {
        *stdout() = crate::stdout::Stdout {
            printed: Vec::new(),
            deaf_after: self.deaf_after,
            gone_after: self.gone_after,
        };
        let directory = StreamDir::full_at(self.full_at);
        let result = self.cut(&directory);
        let printed = std::mem::take(&mut stdout().printed);
        Came { result, printed, parts: directory.sealed() }
    }

    fn cut(self, directory: &StreamDir) -> Result<()> {
        let stream = stream();
        let proofs = Proofs { whole: self.whole };
        let mut source = Source::new(Input::of(self.input, self.ends), PART as u64);
        let head = source.head(true)?;
        let stop = source.stop();
        if self.inspect {
            let mut teller = Teller::start(&stream, stop)?;
            return source.run(STREAM, head, &proofs, false, |order| teller.take(order));
        }
        let (known, room) = (Known(self.stored), Room { is_there: self.room });
        let place = Place { spool: &Spool, stream: directory, lock: &Lock };
        let mut writer = Writer::start(place, &stream, &known, room, &stop)?;
        source.run(STREAM, head, &proofs, true, |order| writer.take(order))
    }
}

/// The lines of a whole stream, by the definition.
fn lines(input: &[u8], stored: Option<u32>) -> Vec<String> {
    let mut lines = vec![Line::Stream(stream())];
    let mut volumes = 0;
    for (volume, bytes) in (0..).zip(input.chunks(VOLUME)) {
        let mut parts = 0;
        for (part, bytes) in (0..).zip(bytes.chunks(PART)) {
            lines.push(Line::Part(Part {
                stream: STREAM,
                volume,
                part,
                offset: u64::from(part) * PART as u64,
                size: bytes.len() as u64,
                treehash: tree(bytes),
                sha256: Hash::of(bytes),
                spooled: stored != Some(volume),
            }));
            parts += 1;
        }
        lines.push(Line::Volume(Volume {
            stream: STREAM,
            volume,
            offset: u64::from(volume) * VOLUME as u64,
            size: bytes.len() as u64,
            parts,
            treehash: tree(bytes),
        }));
        volumes += 1;
    }
    lines.push(end(input, volumes));
    lines.iter().map(|line| line.text().unwrap()).collect()
}

fn end(input: &[u8], volumes: u32) -> Line {
    Line::End(End {
        stream: STREAM,
        volumes,
        size: input.len() as u64,
        treehash: tree(input),
        whole: "model".to_owned(),
        misplaced: 0,
    })
}

impl Came {
    /// That it failed so, and printed the first lines of the stream alone:
    /// none of what is not proven (I1).
    #[track_caller]
    fn failed(&self, code: u8, told: &str) {
        let error = self.result.as_ref().unwrap_err();
        assert_eq!((error.code(), error.to_string().as_str()), (code, told));
        let unproven = "a whole stream is proven before its end, and a short part too";
        assert!(self.printed.iter().all(|line| !line.starts_with("End")), "{unproven}");
        let whole = lines(&bytes(8, SIZE), None);
        let short = whole.iter().position(|line| line.contains("size: 198,")).unwrap();
        assert!(whole[..short].starts_with(&self.printed), "{unproven}: {:?}", self.printed);
    }
}

fn chunk() {
    let came = Cut::default().run();
    came.result.unwrap();
    let input = bytes(8, SIZE);
    assert_eq!(came.printed, lines(&input, None));
    assert!(came.parts.values().map(Vec::as_slice).eq(input.chunks(PART)));
}

fn partly_stored() {
    let came = Cut { stored: Some(0), ..Cut::default() }.run();
    came.result.unwrap();
    let input = bytes(8, SIZE);
    assert_eq!(came.printed, lines(&input, Some(0)));
    assert!(came.parts.values().map(Vec::as_slice).eq([&input[VOLUME..]]));
}

fn inspect() {
    let came = Cut { inspect: true, ..Cut::default() }.run();
    came.result.unwrap();
    let lines = [Line::Stream(stream()), end(&bytes(8, SIZE), 2)];
    assert_eq!(came.printed, lines.map(|line| line.text().unwrap()));
}

fn not_whole() {
    Cut { whole: false, ..Cut::default() }.run().failed(65, "not whole");
}

/// While the lines wait for somebody to read them.
fn reading_fails() {
    let cut = Cut { ends: Ends::Badly, deaf_after: 2, ..Cut::default() };
    cut.run().failed(74, "stdin: connection reset");
}

fn reading_fails_to_inspect() {
    let cut = Cut { ends: Ends::Badly, inspect: true, ..Cut::default() };
    cut.run().failed(74, "stdin: connection reset");
}

/// The blocks are enough for all of it, as nothing else would end the wait
/// but the time.
fn no_room() {
    let input = bytes(8, BLOCK + 1);
    let cut = Cut { input, ends: Ends::Badly, room: false, ..Cut::default() };
    cut.run().failed(74, "stdin: connection reset");
}

fn disk_full() {
    let cut = Cut { ends: Ends::Never, full_at: Some((0, 1)), ..Cut::default() };
    cut.run().failed(74, "part: no storage space");
}

fn nobody_reads() {
    Cut { ends: Ends::Never, gone_after: 1, ..Cut::default() }.run().failed(75, "gone");
}

fn hashing_fails() {
    let mut input = bytes(8, SIZE);
    input[BLOCK] = FATAL;
    let cut = Cut { input, ends: Ends::Never, ..Cut::default() };
    cut.run().failed(70, "a hashing thread failed");
}

fn hashing_fails_to_inspect() {
    let mut input = bytes(8, SIZE);
    input[BLOCK] = FATAL;
    Cut { input, inspect: true, ..Cut::default() }.run().failed(70, "a hashing thread failed");
}
