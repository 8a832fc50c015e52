//! A small model of the machine: chunk, the spool, the books, and what is
//! left of them after a kill or a power cut.

use std::collections::{BTreeMap, HashSet};

use super::*;
use crate::dice::Dice;
use crate::error::{Error, Result};
use crate::line::{Part, Snapshot, Stream, Volume};
use crate::spool::Respool;
use crate::tools::chunk::known::Known;
use crate::tools::put::manifest;

/// The process is no more.
pub struct Killed;

/// A file that only grows, as `append` writes it.
#[derive(Clone, Default)]
pub struct File {
    pub text: Vec<u8>,
    /// Bytes that outlive a power cut.
    pub durable: usize,
}

impl File {
    fn append(&mut self, text: &str, started: &mut bool, dice: &mut Dice) -> Result<(), Killed> {
        if dice.once_in(60) {
            return Err(Killed);
        }
        let torn = !*started && !self.text.is_empty();
        let text = if torn { format!("\n{text}") } else { text.to_owned() };
        if dice.once_in(60) {
            let length = dice.below(text.len());
            self.text.extend_from_slice(&text.as_bytes()[..length]);
            return Err(Killed);
        }
        self.text.extend_from_slice(text.as_bytes());
        if dice.once_in(60) {
            return Err(Killed);
        }
        self.durable = self.text.len();
        *started = true;
        Ok(())
    }

    /// What was not made durable is lost, torn, or full of zeros.
    fn cut(&mut self, dice: &mut Dice) {
        let length = self.durable + dice.below(self.text.len() - self.durable + 1);
        let zeros = dice.below(self.text.len() - length + 1);
        self.text.truncate(length);
        self.text.resize(length + zeros, 0);
        self.durable = self.text.len();
    }

    fn journal(&self) -> Journal {
        Journal::read(self.text.as_slice()).unwrap()
    }

    /// The catalog lines, up to `length`.
    pub fn lines(&self, length: usize) -> Vec<Line> {
        let text = String::from_utf8_lossy(&self.text[..length]).into_owned();
        text.lines().filter_map(|line| Line::parse(line).ok().flatten()).collect()
    }
}

/// A part in the spool.
#[derive(Clone, Copy, Debug)]
pub struct Spooled {
    pub hash: Hash,
    pub damaged: bool,
}

/// What outlives a process.
#[derive(Default)]
pub struct Machine {
    pub journal: File,
    pub catalog: File,
    /// By destination.
    pub receipts: BTreeMap<String, File>,
    pub spool: BTreeMap<(u32, u32), Spooled>,
    /// Parts whose removal a power cut may undo.
    removed: BTreeMap<(u32, u32), Spooled>,
    pub respool: Option<Respool>,
    /// What chunk printed, once it came to the end.
    pub lines: Vec<Line>,
    pub manifest: Option<Vec<u8>>,
    /// A put is at work.
    pub locked: bool,
}

/// The books of a run of put, as `log` keeps them.
pub struct Books {
    pub dest: String,
    pub region: String,
    receipt: bool,
    /// The attempt that only the catalog knows of.
    generation: Option<u32>,
    in_journal: HashSet<String>,
    in_catalog: HashSet<String>,
    /// Whether this process has written to them.
    started: (bool, bool),
}

fn is_about(line: &Line, dest: &str) -> bool {
    match line {
        Line::Hashes(line) => line.dest == dest,
        Line::Archive(line) => line.dest == dest,
        Line::Stored(line) => line.dest == dest,
        Line::Snapshot(_) => true,
        _ => false,
    }
}

impl Machine {
    /// What put does as it starts.
    pub fn open(&mut self, dest: &str, region: &str) -> Result<(Books, Journal)> {
        let active = self.journal.journal();
        if active.dest.as_ref().is_some_and(|other| other != dest) {
            return Err(Error::Usage("on its way to another".into()));
        }
        let is_under_way = active.dest.is_some();
        if is_under_way {
            // As put does: what it relies on is on disk.
            self.journal.durable = self.journal.text.len();
        }
        self.catalog.durable = self.catalog.text.len();
        let file = if is_under_way { Some(&self.journal) } else { self.receipts.get(dest) };
        let file = file.cloned().unwrap_or_default();
        let mut journal = file.journal();
        journal.is_in(stream().stream, region)?;
        let receipt = !is_under_way && journal.stored.is_some();
        let about = |line: &Line| is_about(line, dest);
        let known: Vec<Line> =
            self.catalog.lines(self.catalog.text.len()).into_iter().filter(about).collect();
        for line in known.iter().chain(&file.lines(file.text.len())) {
            let there = match line {
                Line::Archive(line) => &line.region,
                Line::Stored(line) => &line.region,
                _ => continue,
            };
            if is_about(line, dest) && there != region {
                return Err(Error::Configuration("sent to another region".into()));
            }
        }
        let texts = |lines: &[Line]| lines.iter().map(|line| line.text().unwrap()).collect();
        let in_catalog = texts(&known);
        let mut in_journal: HashSet<String> = HashSet::new();
        if is_under_way {
            in_journal = String::from_utf8_lossy(&file.text)
                .lines()
                .map(|line| format!("{line}\n"))
                .collect();
        }
        let known = known
            .into_iter()
            .filter(|line| matches!(line, Line::Archive(_) | Line::Stored(_)))
            .collect();
        let before = if is_under_way { journal.generation } else { 0 };
        journal.complement(known);
        let generation = Some(journal.generation).filter(|now| *now > before);
        let (dest, region, started) = (dest.to_owned(), region.to_owned(), (false, false));
        Ok((Books { dest, region, receipt, generation, in_journal, in_catalog, started }, journal))
    }

    /// Begins the journal, if it is not begun.
    pub fn begin(&mut self, books: &mut Books, dice: &mut Dice) -> Result<(), Killed> {
        let first = Record::Journal {
            v: 1,
            stream: stream().stream,
            dest: books.dest.clone(),
            region: books.region.clone(),
        };
        let mut text = serde_json::to_string(&first).unwrap() + "\n";
        if !books.in_journal.insert(text.clone()) {
            text.clear();
        }
        if let Some(generation) = books.generation.take() {
            text += &(serde_json::to_string(&Record::Generation { generation }).unwrap() + "\n");
        }
        if !text.is_empty() {
            self.journal.append(&text, &mut books.started.0, dice)?;
        }
        Ok(())
    }

    /// Does what the plan says; `judge` looks at what is there before parts
    /// are removed.
    pub fn perform(
        &mut self,
        plan: &mut Plan,
        books: &mut Books,
        effects: Vec<Effect>,
        dice: &mut Dice,
        outside: &mut dyn FnMut(&Machine, &Effect),
    ) -> Result<(), Killed> {
        for effect in effects {
            if dice.once_in(60) {
                return Err(Killed);
            }
            outside(self, &effect);
            match effect {
                Effect::Record(record) => {
                    self.begin(books, dice)?;
                    let text = serde_json::to_string(&record).unwrap() + "\n";
                    self.journal.append(&text, &mut books.started.0, dice)?;
                }
                Effect::Publish(lines) => self.publish(books, &lines, dice)?,
                Effect::Clear(volume) => {
                    let gone = self.spool.extract_if(.., |(of, _), _| *of == volume);
                    self.removed = gone.collect();
                }
                Effect::Abort(_) | Effect::Warn(_) => {}
                Effect::Manifest => {
                    let manifest = self.prepare(plan);
                    let effects = plan.manifest(manifest).unwrap();
                    self.perform(plan, books, effects, dice, outside)?;
                }
                Effect::Retire => {
                    if !books.receipt {
                        let receipt = std::mem::take(&mut self.journal);
                        self.receipts.insert(books.dest.clone(), receipt);
                    }
                    if dice.once_in(60) {
                        return Err(Killed);
                    }
                    self.lose_spool();
                }
            }
        }
        Ok(())
    }

    fn publish(
        &mut self,
        books: &mut Books,
        lines: &[Line],
        dice: &mut Dice,
    ) -> Result<(), Killed> {
        let texts: Vec<String> = lines.iter().map(|line| line.text().unwrap()).collect();
        let missing = |known: &mut HashSet<String>| -> String {
            texts.iter().filter(|text| known.insert((*text).clone())).cloned().collect()
        };
        if !books.receipt {
            let text = missing(&mut books.in_journal);
            if !text.is_empty() {
                self.begin(books, dice)?;
                self.journal.append(&text, &mut books.started.0, dice)?;
            }
        }
        let text = missing(&mut books.in_catalog);
        if !text.is_empty() {
            self.catalog.append(&text, &mut books.started.1, dice)?;
        }
        Ok(())
    }

    /// Makes the manifest ready, or finds it.
    fn prepare(&mut self, plan: &Plan) -> Manifest {
        let stored = plan.stored(time(0)).unwrap();
        let ready = self.manifest.as_deref().and_then(|m| manifest::earlier(m, &stored).unwrap());
        if ready.is_none() {
            let mut text = Vec::new();
            let form = manifest::Form { stored: stored.clone(), recipe: true };
            let journal = std::io::Cursor::new(&self.journal.text);
            manifest::write(plan, journal, &form, &mut text).unwrap();
            self.manifest = Some(text);
        }
        let mut text = self.manifest.as_deref().unwrap();
        let parts = std::iter::from_fn(|| Piece::read(&mut text, PART).unwrap()).collect();
        Manifest { stored: ready.map_or(stored, |form| form.stored), parts }
    }

    /// The power fails.
    pub fn cut(&mut self, dice: &mut Dice) {
        self.journal.cut(dice);
        self.catalog.cut(dice);
        for (part, spooled) in std::mem::take(&mut self.removed) {
            if dice.once_in(2) {
                self.spool.insert(part, spooled);
            }
        }
    }

    /// All that is in the stream's directory is gone.
    pub fn lose_spool(&mut self) {
        let (receipts, catalog) =
            (std::mem::take(&mut self.receipts), std::mem::take(&mut self.catalog));
        *self = Self { receipts, catalog, locked: self.locked, ..Self::default() };
    }

    /// Whether a record of an archive or its upload is left.
    pub fn knows(&self, dest: &str, archive: &str, upload: &str) -> bool {
        let has = |file: &File, word: &str| {
            String::from_utf8_lossy(&file.text).contains(&format!("\"{word}\""))
        };
        let journal = self.journal.journal();
        has(&self.catalog, archive)
            || (journal.dest.as_deref() == Some(dest)
                && (has(&self.journal, archive)
                    || journal.uploads.values().any(|known| known.id.as_str() == upload)))
            || self.receipts.get(dest).is_some_and(|receipt| has(receipt, archive))
    }

    /// Whether put asks no more whether the destination is a new one.
    pub fn knows_any(&self, dest: &str) -> bool {
        let archive = |line: &Line| matches!(line, Line::Archive(line) if line.dest == dest);
        self.catalog.lines(self.catalog.text.len()).iter().any(archive)
            || self.journal.journal().dest.as_deref() == Some(dest)
            || self.receipts.contains_key(dest)
    }
}

/// A run of chunk.
pub struct Chunk {
    known: Known,
    lines: std::vec::IntoIter<Line>,
    printed: Vec<Line>,
}

impl Chunk {
    /// Begins; without `whole` the stream's end cannot be proven.
    pub fn new(machine: &Machine, content: &Content, whole: bool) -> Self {
        let journal = machine.journal.journal();
        let known = if journal.dest.is_some() {
            Known::from(&journal, machine.respool)
        } else {
            let receipt = machine.receipts.values().next();
            receipt.map(|receipt| Known::from(&receipt.journal(), None)).unwrap_or_default()
        };
        let mut lines = lines(content);
        if !whole {
            // Neither the end nor the line of a short last volume.
            lines.pop();
            if content.last().is_some_and(|last| last.len() < 4) {
                lines.pop();
            }
        }
        Self { known, lines: lines.into_iter(), printed: Vec::new() }
    }

    /// The next line; an error when a stored volume has changed.
    pub fn step(&mut self, machine: &mut Machine) -> Result<Option<Line>> {
        let Some(mut line) = self.lines.next() else { return Ok(None) };
        match &mut line {
            Line::Part(part) => {
                part.spooled = self.known.must_spool(part.volume);
                if part.spooled {
                    let spooled = Spooled { hash: part.treehash, damaged: false };
                    machine.spool.insert((part.volume, part.part), spooled);
                }
            }
            Line::Volume(volume)
                if !self.known.must_spool(volume.volume)
                    && self.known.differs(volume.volume, volume.treehash) =>
            {
                machine.respool = Some(self.known.note(volume.volume));
                self.lines = Vec::new().into_iter();
                return Err(Error::Unfinished("not those that were stored".into()));
            }
            Line::End(end) => {
                let volumes = end.volumes;
                machine.spool.retain(|(volume, _), _| *volume < volumes);
            }
            _ => {}
        }
        self.printed.push(line.clone());
        if matches!(line, Line::End(_)) {
            machine.lines.clone_from(&self.printed);
        }
        Ok(Some(line))
    }
}

pub fn hash(byte: u8) -> Hash {
    Hash::of(&[byte])
}

pub fn fold(parts: &[u8]) -> Hash {
    parts.iter().copied().map(hash).collect::<Fold>().finish()
}

pub fn stream() -> Stream {
    Stream {
        created: None,
        features: None,
        clone: false,
        v: VERSION,
        stream: StreamId::new(Sha256::new(), PART, VOLUME),
        host: "nas".into(),
        name: "tank/home@mon".into(),
        format: Format::Zfs,
        guid: None,
        from_guid: None,
        compound: false,
        resumed: false,
        filter: None,
        part_size: PART,
        volume_size: VOLUME,
    }
}

/// The last part of a stream may be short, and then has other hashes.
fn size(byte: u8) -> u64 {
    if byte >= SHORT { PART / 2 } else { PART }
}

/// The lines of a stream, all of it spooled.
pub fn lines(content: &Content) -> Vec<Line> {
    let stream = stream().stream;
    let mut lines = vec![Line::Snapshot(Snapshot {
        created: None,
        features: None,
        clone: false,
        stream,
        name: "tank/home@mon".into(),
        guid: Guid(1),
        from_guid: None,
        offset: 0,
    })];
    let (mut offset, mut all) = (0, Fold::default());
    for (volume, parts) in (0..).zip(content) {
        let mut end = 0;
        for (part, byte) in (0..).zip(parts) {
            let size = size(*byte);
            lines.push(Line::Part(Part {
                stream,
                volume,
                part,
                offset: end,
                size,
                treehash: hash(*byte),
                sha256: hash(*byte),
                spooled: true,
            }));
            end += size;
        }
        let (treehash, count) = (fold(parts), u32::try_from(parts.len()).unwrap());
        lines.push(Line::Volume(Volume {
            stream,
            volume,
            offset,
            size: end,
            parts: count,
            treehash,
        }));
        all.push(treehash);
        offset += end;
    }
    lines.push(Line::End(End {
        misplaced: 0,
        stream,
        volumes: u32::try_from(content.len()).unwrap(),
        size: offset,
        treehash: all.finish(),
        whole: "zfs".into(),
    }));
    lines
}

/// The catalog lines of a text.
pub fn lines_of(text: &[u8]) -> Vec<Line> {
    File { text: text.to_vec(), durable: 0 }.lines(text.len())
}
