//! Manifests: what a catalog is made of again.

use akashita::catalog::rebuild::Books;
use akashita::catalog::rebuild::manifest::{Which, copy};
use akashita::hash::tree::Hash;
use akashita::line::description::Description;
use akashita::line::{Described, Id, Line, MAX, Reader, Text};
use akashita::storage::{Dest, Inventoried, Inventory, Proof};
use akashita::tools::get::plan::Lines;
use jiff::Timestamp;

use super::is_a_message;

/// What is made of a manifest, in a vault that has the archives that it names,
/// is a catalog that brings the stream back; or it is refused in one line.
pub fn rebuild(data: &[u8]) {
    let mut inventory = Inventory { made: Timestamp::UNIX_EPOCH, archives: Vec::new() };
    let archive = |archive_id: Id, description: String, size, treehash| Inventoried {
        archive_id,
        of: Described::of(&description),
        size,
        checksum: Some(Proof::Tree(treehash)),
        tag: None,
        class: None,
        created: Timestamp::UNIX_EPOCH,
    };
    let (mut dest, mut region, mut description) = ("glacier://v".to_owned(), String::new(), None);
    let mut reader = Reader::new(data);
    while let Some(text) = reader.read().unwrap() {
        let Text::Line(text) = text else { continue };
        match Line::parse(&text) {
            Ok(Some(Line::Archive(it))) => {
                inventory.archives.push(archive(
                    it.archive_id,
                    String::new(),
                    it.size,
                    it.treehash,
                ));
            }
            Ok(Some(Line::Stored(it))) => {
                if it.dest.parse::<Dest>().is_ok() {
                    (dest, region) = (it.dest, it.region);
                }
                let described = format!(
                    r#"{{"v":1,"kind":"manifest","stream":"{}","generation":{},"host":"h","name":"n"}}"#,
                    it.stream, it.generation
                );
                assert!(Description::parse(&described).is_some(), "{described}");
                description = Some(described);
            }
            _ => {}
        }
    }
    let Some(description) = description else { return };
    let size = u64::try_from(data.len()).unwrap();
    inventory.archives.push(archive(
        "manifest".parse().unwrap(),
        description,
        size,
        Hash::of(data),
    ));
    let mut books = Books::new(&inventory, &dest, &region);
    let wanted = books.manifests();
    assert_eq!(wanted.len(), 1);
    let checked = books.check(wanted[0].0).read(data).unwrap();
    let taken = books.take(wanted[0].0, checked);
    let decision = books.decide();
    assert_eq!(decision.streams.len() + decision.refused.len() + decision.lacking.len(), 1);
    for message in decision.refused.iter().chain(&decision.lacking) {
        is_a_message(message, 3 * MAX);
    }
    let Some(number) = taken else { return };
    if decision.streams.is_empty() {
        return;
    }
    let mut text = Vec::new();
    for which in [Which::Volumes, Which::Snapshots] {
        copy(data, which, &mut text).unwrap();
    }
    let mut text = String::from_utf8(text).unwrap();
    text += &Line::Stored(books.stored(number).unwrap().clone()).text().unwrap();
    let mut lines = Lines::default();
    for line in text.split_inclusive('\n') {
        assert!(line.len() <= MAX && line.ends_with('\n'));
        lines.take(Line::parse(line.trim_end()).unwrap().unwrap()).unwrap();
    }
    let plan = lines.plan(false).unwrap();
    assert_eq!(plan.streams.len(), 1);
}
