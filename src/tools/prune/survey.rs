//! What the input says: the streams that are stored, each with the archives
//! that count, and all else that lies in vaults.

use std::collections::{HashMap, HashSet};
use std::io::BufRead;

use jiff::Timestamp;

use crate::catalog::Catalog;
use crate::catalog::counted::Named;
use crate::catalog::dependencies::{Closed, Held, Road};
use crate::catalog::scan::{Skipped, is_bulk, stream_of, unreadable};
use crate::error::{Error, Result};
use crate::line::description::Kind;
use crate::line::{
    Described, Guid, Id, Inventory, Line, Reader, Snapshot, Stored, Stream, StreamId, Text,
};
use crate::process::input::Span;

/// Which of the destinations, in the order in which the input names them.
pub type Place = usize;

/// What the input says.
#[derive(Debug, Default)]
pub struct Books {
    places: HashMap<(String, String), Place>,
    stored: Vec<(Place, Stored, Span)>,
    snapshots: Vec<Snapshot>,
    /// Streams that are on their way.
    underway: Vec<Stream>,
    pub(crate) pieces: Vec<Piece>,
    /// Manifests that an inventory lists.
    manifests: Vec<Manifest>,
    /// Inventories, and how many archives each lists by its own line.
    inventories: Vec<(Place, Inventory)>,
    /// How many `inventoried` lines there are of each.
    inventoried: HashMap<(Place, Timestamp), u64>,
    /// Archives and uploads that are gone.
    pub(super) gone: HashSet<Id>,
    /// Streams of which a line is bad: it may be the `stored` line.
    pub(super) suspects: HashSet<StreamId>,
    /// A bad line may be of any stream.
    pub blind: bool,
}

/// Something that lies in a vault.
#[derive(Debug)]
pub struct Piece {
    /// What told of it.
    pub told: Told,
    /// Where it is.
    pub place: Place,
    /// Which stream it is of.
    pub stream: StreamId,
    /// Which attempt at it.
    pub generation: u32,
    /// Which volume of it.
    pub volume: u32,
    /// The service's name for it.
    pub id: Id,
    /// Bytes.
    pub size: u64,
    /// When it was stored, or begun.
    pub time: Timestamp,
    /// Its line.
    pub span: Span,
}

/// A manifest, as an inventory lists it.
#[derive(Debug)]
struct Manifest {
    place: Place,
    stream: StreamId,
    id: Id,
    of: Described,
}

/// What told of a piece.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Told {
    /// The catalog.
    Archive,
    /// An inventory of this time: of a volume, or else of a manifest.
    Inventory(Timestamp, bool),
    /// The list of unfinished uploads.
    Upload,
}

/// A stream that needs what it is based on, and is no copy.
#[derive(Debug)]
pub(super) struct Dependent<'a> {
    /// What it is called.
    pub name: &'a str,
    /// The snapshots that it is based on.
    pub bases: HashSet<Guid>,
    /// Where it was cut, if it may be based on any of its dataset.
    pub host: Option<&'a str>,
}

/// A stored stream, in one destination.
#[derive(Debug)]
pub struct Copy {
    /// Where.
    pub place: Place,
    /// Its `stored` line that counts.
    pub stored: Stored,
    /// Where that is in the input.
    pub span: Span,
    /// Its archives that count, in the list of pieces, by volume.
    pub archives: Vec<usize>,
    /// The copies that it is based on, in the list of copies.
    pub before: Vec<usize>,
    /// Streams in its chain.
    pub streams: u32,
    /// The snapshots that it brings back.
    pub holds: Vec<Held>,
    /// Why it cannot be brought back.
    pub closed: Option<Closed>,
}

impl Books {
    /// Reads all lines.
    ///
    /// # Errors
    /// When reading fails, or a line is of a later version.
    pub fn read(input: impl BufRead) -> Result<(Self, Skipped)> {
        let mut reader = Reader::new(input);
        let (mut books, mut skipped) = (Self::default(), Skipped::default());
        while let Some(text) = reader.read().map_err(unreadable)? {
            let text = match text {
                Text::Line(text) if is_bulk(&text) => continue,
                Text::Line(text) => text,
                Text::Bad(reason) => {
                    books.blind = true;
                    skipped.bad(reader.number, reason)?;
                    continue;
                }
            };
            match Line::parse(&text) {
                Ok(Some(line)) => books.take(line, (reader.start, length(&text))),
                Ok(None) => skipped.unknown(),
                Err(reason) => {
                    match stream_of(&text) {
                        Some(stream) => drop(books.suspects.insert(stream)),
                        None => books.blind = true,
                    }
                    skipped.bad(reader.number, reason)?;
                }
            }
        }
        if books.stored.is_empty() && books.pieces.iter().all(|piece| piece.told == Told::Upload) {
            return Err(Error::Data(
                "stdin: no \"stored\" line; is this the catalog of glacier-put?".to_owned(),
            ));
        }
        Ok((books, skipped))
    }

    fn place(&mut self, dest: &str, region: &str) -> Place {
        let next = self.places.len();
        *self.places.entry((dest.to_owned(), region.to_owned())).or_insert(next)
    }

    fn take(&mut self, line: Line, span: Span) {
        match line {
            Line::Stored(stored) => {
                let place = self.place(&stored.dest, &stored.region);
                self.stored.push((place, stored, span));
            }
            Line::Snapshot(snapshot) => self.snapshots.push(snapshot),
            Line::Stream(stream) => self.underway.push(stream),
            Line::Deleted(deleted) => {
                self.gone.extend(deleted.archive_id.into_iter().chain(deleted.upload_id));
            }
            Line::Archive(line) => {
                let place = self.place(&line.dest, &line.region);
                self.pieces.push(Piece {
                    told: Told::Archive,
                    place,
                    stream: line.stream,
                    generation: line.generation,
                    volume: line.volume,
                    id: line.archive_id,
                    size: line.size,
                    time: line.uploaded,
                    span,
                });
            }
            Line::Inventoried(line) => {
                let place = self.place(&line.dest, &line.region);
                *self.inventoried.entry((place, line.inventory)).or_default() += 1;
                let is_volume = line.of.kind == Some(Kind::Volume);
                if let (false, Some(_), Some(stream)) = (is_volume, line.of.kind, line.of.stream) {
                    let (id, of) = (line.archive_id.clone(), line.of.clone());
                    self.manifests.push(Manifest { place, stream, id, of });
                }
                let told = Told::Inventory(line.inventory, is_volume);
                let of = (line.archive_id, line.size, line.uploaded);
                self.pieces.extend(piece(told, place, &line.of, of, span));
            }
            Line::Inventory(line) => {
                let place = self.place(&line.dest, &line.region);
                self.inventories.push((place, line));
            }
            Line::Upload(line) => {
                let place = self.place(&line.dest, &line.region);
                let of = (line.upload_id, line.size, line.begun);
                self.pieces.extend(piece(Told::Upload, place, &line.of, of, span));
            }
            _ => {}
        }
    }

    /// The streams that are stored, each once for every destination.
    ///
    /// Each destination is looked at for itself, so that what it has does not
    /// hang on another. Where a chain has its beginning elsewhere only, it
    /// is the one that glacier-chain finds in all of them.
    pub fn copies(&self) -> Vec<Copy> {
        let stored: HashMap<u64, (&Stored, Span)> =
            self.stored.iter().map(|(_, stored, span)| (span.0, (stored, *span))).collect();
        let catalogs: Vec<Catalog> =
            (0..self.places.len()).map(|place| self.catalog(Some(place))).collect();
        let disputed = disputed(&catalogs);
        let mut copies: Vec<Copy> = Vec::new();
        let mut homes: HashMap<(Place, StreamId), usize> = HashMap::new();
        for (place, catalog) in catalogs.iter().enumerate() {
            let first = copies.len();
            let counted = catalog.all_links().zip(catalog.roads(&disputed));
            copies.extend(counted.filter_map(|(link, road)| {
                let Road { before, streams, holds, closed } = road;
                let before = before.into_iter().map(|index| first + index).collect();
                let (stored, span) = stored.get(&link.at).copied()?;
                let (stored, archives) = (stored.clone(), self.pieces_at(&link.archives));
                Some(Copy { place, stored, span, archives, before, streams, holds, closed })
            }));
            let new = copies.iter().enumerate().skip(first);
            homes.extend(new.map(|(index, copy)| ((place, copy.stored.stream), index)));
        }
        if self.places.len() > 1 {
            self.join(&mut copies, &homes, &disputed);
        }
        copies
    }

    /// The pieces whose lines are there.
    fn pieces_at(&self, lines: &[u64]) -> Vec<usize> {
        let place = |at: &u64| self.pieces.binary_search_by_key(at, |piece| piece.span.0).ok();
        lines.iter().filter_map(place).collect()
    }

    /// A catalog of what lies in one place, or in all.
    fn catalog(&self, place: Option<Place>) -> Catalog {
        let mut catalog = Catalog::default();
        let is_wanted = |of: Place| place.is_none_or(|place| of == place);
        let places: HashMap<Place, (&str, &str)> = self
            .places
            .iter()
            .map(|((dest, region), place)| (*place, (&**dest, &**region)))
            .collect();
        for (_, stored, span) in self.stored.iter().filter(|(of, ..)| is_wanted(*of)) {
            catalog.stored(stored, span.0);
        }
        let archives = self.pieces.iter().filter(|piece| piece.told == Told::Archive);
        for piece in archives.filter(|piece| is_wanted(piece.place)) {
            let named = Named {
                stream: piece.stream,
                generation: piece.generation,
                volume: piece.volume,
                place: places.get(&piece.place).copied().unwrap_or_default(),
                archive_id: &piece.id,
            };
            catalog.archive(&named, "", piece.span.0);
        }
        self.gone.iter().for_each(|id| catalog.gone(id));
        for snapshot in &self.snapshots {
            if catalog.place(snapshot.stream).is_some() {
                catalog.snapshot(snapshot);
            }
        }
        catalog.settle();
        catalog
    }

    /// Finds the chains of copies whose bases are in other destinations only.
    fn join(
        &self,
        copies: &mut [Copy],
        homes: &HashMap<(Place, StreamId), usize>,
        disputed: &HashSet<StreamId>,
    ) {
        let all = self.catalog(None);
        let places: HashMap<u64, Place> =
            self.stored.iter().map(|(place, _, span)| (span.0, *place)).collect();
        let home: Vec<Option<usize>> = all
            .all_links()
            .map(|link| homes.get(&(*places.get(&link.at)?, link.stream)).copied())
            .collect();
        let roads = all.roads(disputed);
        for copy in copies.iter_mut().filter(|copy| matches!(copy.closed, Some(Closed::Alone(_)))) {
            let road = all.place(copy.stored.stream).and_then(|place| roads.get(place));
            if let Some(Road { before, streams, holds, closed: None }) = road.cloned() {
                let of = |index: usize| home.get(index).copied().flatten();
                copy.before = before.into_iter().filter_map(of).collect();
                (copy.streams, copy.holds, copy.closed) = (streams, holds, None);
            }
        }
    }

    /// What is based on copies and is none: streams on their way, and those
    /// that an inventory has, with a manifest that no line here knows of.
    pub(super) fn dependents(&self) -> impl Iterator<Item = Dependent<'_>> {
        let underway = self.underway.iter().map(|stream| {
            let inner = self.snapshots.iter().filter(|inner| inner.stream == stream.stream);
            let bases = inner.filter_map(|inner| inner.from_guid);
            let bases = bases.chain(stream.from_guid).collect();
            Dependent { name: &stream.name, bases, host: None }
        });
        underway.chain(self.unknown().map(|manifest| {
            let of = &manifest.of;
            // Of a compound stream its description does not tell the bases.
            let host = if of.guid.is_none() { of.host.as_deref() } else { None };
            let name = of.name.as_deref().unwrap_or_default();
            Dependent { name, bases: of.from_guid.into_iter().collect(), host }
        }))
    }

    /// The manifests of an inventory of which the lines here know nothing.
    fn unknown(&self) -> impl Iterator<Item = &Manifest> {
        let known = self.stored.iter().filter_map(|(_, stored, _)| stored.manifest_id.as_deref());
        let known: HashSet<&str> = known.collect();
        let is_unknown = move |manifest: &&Manifest| {
            !known.contains(manifest.id.as_str()) && !self.gone.contains(&manifest.id)
        };
        self.manifests.iter().filter(is_unknown)
    }

    /// Streams of which it is not known whether they are stored: those that
    /// are on their way to any place, and those with such a manifest.
    pub(super) fn open(&self) -> (HashSet<StreamId>, HashSet<(Place, StreamId)>) {
        let underway = self.underway.iter().map(|stream| stream.stream).collect();
        (underway, self.unknown().map(|manifest| (manifest.place, manifest.stream)).collect())
    }

    /// When the newest inventory of each place was made that is here as a
    /// whole: each manifest of the place that it does not list is not there.
    pub(super) fn whole_inventories(&self) -> HashMap<Place, Timestamp> {
        let mut newest = HashMap::new();
        for (place, inventory) in &self.inventories {
            let lines = self.inventoried.get(&(*place, inventory.made)).copied();
            let is_whole = match inventory.refused {
                // Behind a rebuilt catalog, which has all that was not refused.
                Some(refused) => refused == 0,
                None => lines.unwrap_or_default() == inventory.archives,
            };
            if is_whole {
                let made = newest.entry(*place).or_insert(inventory.made);
                *made = inventory.made.max(*made);
            }
        }
        newest
    }

    /// Counts the `stored` lines' manifests in, too: all ids that a stream
    /// needs which is stored.
    pub(super) fn needed_ids<'a>(&'a self, copies: &'a [Copy]) -> HashSet<&'a str> {
        let stored = copies.iter().filter(|copy| copy.closed != Some(Closed::Deleted));
        let archives = stored.flat_map(|copy| &copy.archives);
        let archives = archives.filter_map(|index| self.pieces.get(*index)).map(|piece| &*piece.id);
        let manifests =
            self.stored.iter().filter_map(|(_, stored, _)| stored.manifest_id.as_deref());
        archives.chain(manifests).collect()
    }

    /// When something of a stream was stored or begun last.
    pub(super) fn last_moves(&self) -> HashMap<(Place, StreamId), Timestamp> {
        let pieces = self.pieces.iter().map(|it| ((it.place, it.stream), it.time));
        let stored = self.stored.iter().map(|(place, it, _)| ((*place, it.stream), it.stored));
        let mut last = HashMap::new();
        for (of, time) in pieces.chain(stored) {
            let known = last.entry(of).or_insert(time);
            *known = time.max(*known);
        }
        last
    }
}

/// Streams that are something else in another destination.
fn disputed(catalogs: &[Catalog]) -> HashSet<StreamId> {
    let (mut contents, mut disputed) = (HashMap::new(), HashSet::new());
    for (stream, content) in catalogs.iter().flat_map(Catalog::contents) {
        if *contents.entry(stream).or_insert(content) != content {
            disputed.insert(stream);
        }
    }
    disputed
}

fn length(text: &str) -> u64 {
    u64::try_from(text.len()).unwrap_or(u64::MAX)
}

/// A piece of ours; what its description does not call so is none.
fn piece(
    told: Told,
    place: Place,
    of: &Described,
    (id, size, time): (Id, u64, Timestamp),
    span: Span,
) -> Option<Piece> {
    of.kind?;
    Some(Piece {
        told,
        place,
        stream: of.stream?,
        generation: of.generation,
        volume: of.volume.unwrap_or_default(),
        id,
        size,
        time,
        span,
    })
}

/// The dataset that a name is of: up to its last `@`; all of a name without.
pub fn dataset(name: &str) -> &str {
    name.rsplit_once('@').map_or(name, |(dataset, _)| dataset)
}
