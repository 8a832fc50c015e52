//! What etc/ has is right, and names only what is there.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::common::{Place, run};

pub fn etc(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("etc").join(name)
}

/// What akashita-conf makes of a configuration.
fn meaning(text: &str) -> BTreeSet<String> {
    let place = Place::default();
    let file = place.path("conf");
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let told = run(&mut place.tool("akashita-conf", &["--conf", "conf"])).done().stdout;
    told.lines().map(str::to_owned).collect()
}

/// The configuration with each key that stands behind a # in force.
fn in_force(text: &str) -> String {
    let lines = text.lines().map(|line| match line.strip_prefix('#') {
        Some(key) if key.starts_with(|first: char| first.is_ascii_lowercase()) => key,
        _ => line,
    });
    lines.map(|line| format!("{line}\n")).collect()
}

#[test]
fn the_example_of_a_configuration_is_one_and_changes_nothing() {
    let text = fs::read_to_string(etc("akashita.conf.example")).unwrap();
    assert_eq!(meaning(&text), meaning(""));
}

#[test]
fn the_example_of_a_configuration_has_every_key_with_its_default() {
    let text = in_force(&fs::read_to_string(etc("akashita.conf.example")).unwrap());
    let keys = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let (key, _) = line.split_once('=')?;
        Some(key)
    });
    let keys: Vec<&str> = keys.collect();
    let expected: BTreeSet<&str> = akashita::conf::keys().collect();
    assert_eq!(keys.iter().copied().collect::<BTreeSet<_>>(), expected);
    assert_eq!(keys.len(), expected.len(), "each comes once");
    let meant = meaning(&text);
    let differ: Vec<String> = meaning("").difference(&meant).cloned().collect();
    assert!(differ.is_empty(), "other defaults than these: {differ:?}");
}
