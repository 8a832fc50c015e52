//! Replays the corpus of every fuzz target: what cargo-fuzz once found to be
//! worth keeping, and what it broke.

mod targets;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus")
}

fn names(directory: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn every_target_takes_its_corpus() {
    std::thread::scope(|scope| {
        for (name, target) in targets::TARGETS {
            scope.spawn(move || {
                let directory = corpus().join(name);
                let files = names(&directory);
                assert!(!files.is_empty(), "{name}: no corpus");
                for file in files {
                    let data = fs::read(directory.join(&file)).unwrap();
                    let ran = std::panic::catch_unwind(|| target(&data));
                    assert!(ran.is_ok(), "{name}: {file}");
                    // A beginning of it is another input.
                    target(&data[..data.len() / 2]);
                }
            });
        }
    });
}

#[test]
fn every_corpus_and_every_wrapper_has_its_target() {
    let known: BTreeSet<String> =
        targets::TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let corpora = names(&corpus());
    assert!(corpora.is_superset(&known), "{corpora:?}");
    if cfg!(feature = "glacier") {
        assert_eq!(corpora, known);
        let wrappers = names(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/targets"));
        let expected: BTreeSet<String> = known.iter().map(|name| format!("{name}.rs")).collect();
        assert_eq!(wrappers, expected);
    }
}

/// Else a target might look only at the door of what it is about.
#[test]
fn signed_requests_of_the_corpus_are_let_in() {
    for (file, expected) in [
        ("upload", vec![201, 201, 204, 200, 201]),
        ("archive-and-job", vec![201, 201, 202, 200, 400]),
        ("unsigned", vec![400, 403]),
    ] {
        let data = fs::read(corpus().join("request").join(file)).unwrap();
        assert_eq!(targets::request::statuses(&data), expected, "{file}");
    }
}
