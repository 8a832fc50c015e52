//! Catalogs: which streams restore a snapshot.

use std::collections::{BTreeSet, HashSet};

use akashita::catalog::scan;
use akashita::line::{Line, Reader, Text};

use super::is_a_message;

/// A chain names each stream once, and its lines are in the catalog. They are
/// a catalog themselves, and restore the same.
pub fn catalog(data: &[u8]) {
    let (catalog, skipped) = match scan::survey(data) {
        Ok(surveyed) => surveyed,
        Err(error) => return assert_eq!(error.code(), 65, "{error}"),
    };
    if let Some(warning) = skipped.warning() {
        is_a_message(&warning, 5000);
    }
    for word in words(data) {
        let links = match catalog.chain(&word, &HashSet::new()) {
            Ok(links) => links,
            Err(error) => {
                assert_eq!(error.code(), 65, "{error}");
                is_a_message(&error.to_string(), 1000 * (data.len() + 10));
                continue;
            }
        };
        assert!(!links.is_empty());
        let streams: HashSet<_> = links.iter().map(|link| link.stream).collect();
        assert_eq!(streams.len(), links.len(), "a stream twice: {links:?}");
        let Ok(spans) = scan::select(data, &links) else { continue };
        let mut chosen = Vec::new();
        for (start, size) in spans {
            let (start, size) = (usize::try_from(start).unwrap(), usize::try_from(size).unwrap());
            chosen.extend_from_slice(&data[start..start + size]);
            chosen.push(b'\n');
        }
        let (again, skipped) = scan::survey(&chosen[..]).unwrap();
        assert_eq!(skipped.warning(), None);
        let last = links.last().unwrap().stream.to_string();
        let again: Vec<_> =
            again.chain(&last, &HashSet::new()).unwrap().iter().map(|link| link.stream).collect();
        let streams: Vec<_> = links.iter().map(|link| link.stream).collect();
        assert_eq!(again, streams, "{word}");
    }
}

/// What a user may ask for.
fn words(data: &[u8]) -> BTreeSet<String> {
    let mut words = BTreeSet::from(["tank/home@mon".to_owned(), "0".to_owned()]);
    let mut reader = Reader::new(data);
    while let Some(text) = reader.read().unwrap() {
        let Text::Line(text) = text else { continue };
        match Line::parse(&text) {
            Ok(Some(Line::Stored(line))) => {
                words.extend([line.name, line.stream.to_string()]);
                words.extend(line.guid.map(|guid| guid.to_string()));
            }
            Ok(Some(Line::Snapshot(line))) => words.extend([line.name, line.guid.to_string()]),
            _ => {}
        }
        if words.len() > 20 {
            break;
        }
    }
    words
}
