//! Copies the suite's files for the models: once as they are, and once for
//! each mistake that a model must find.

#[allow(dead_code, reason = "the scenes are for who runs the models")]
#[path = "src/mistakes.rs"]
mod mistakes;
#[path = "src/swap.rs"]
mod swap;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{env, fs};

use mistakes::{LEVERS, MISTAKES};
use swap::Swap;

/// Files of which one copy does for all variants.
const SHARED: &[&str] = &[
    "error.rs",
    "hash/sha256x2.rs",
    "hash/tree.rs",
    "units.rs",
    "zfs_stream/mod.rs",
    "zfs_stream/damage.rs",
    "zfs_stream/fletcher.rs",
    "zfs_stream/head.rs",
    "zfs_stream/mend.rs",
    "zfs_stream/record.rs",
    "zfs_stream/spill.rs",
];

/// What is modelled: files of the suite, and of the models those that stand
/// around them and what they do.
struct Subject {
    name: &'static str,
    /// Its folders in the suite; a mistake in one is seen with all of them.
    rooms: &'static [&'static str],
    files: &'static [&'static str],
    around: &'static [&'static str],
    scenes: &'static str,
}

const SUBJECTS: &[Subject] = &[
    Subject {
        name: "hashing",
        rooms: &["hash/pool"],
        files: &["hash/pool/mod.rs", "hash/pool/blocks.rs", "hash/pool/work.rs"],
        around: &[],
        scenes: "scenes/hashing.rs",
    },
    Subject {
        name: "chunk",
        rooms: &["stream", "tools/chunk"],
        files: &["stream/source.rs", "tools/chunk/writer.rs", "tools/chunk/inspect.rs"],
        around: &["stream/mod.rs", "tools/chunk/mod.rs"],
        scenes: "scenes/chunk.rs",
    },
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src");
    let here = PathBuf::from(env::var("CARGO_MANIFEST_DIR").unwrap());
    let to = PathBuf::from(env::var("OUT_DIR").unwrap());
    let mut used = 0;
    let mut read = |file: &str| {
        let path = here.join("../src").join(file);
        println!("cargo::rerun-if-changed={}", path.display());
        let mut text = fs::read_to_string(path).unwrap();
        for lever in LEVERS.iter().filter(|lever| lever.file == file) {
            text = lever.apply(&text, "a lever");
            used += 1;
        }
        text
    };

    let mut rooms: BTreeMap<&str, Vec<(&str, PathBuf)>> = BTreeMap::new();
    for file in SHARED {
        let path = to.join(file);
        write(&path, &read(file));
        let (room, name) = file.rsplit_once('/').unwrap_or(("", file));
        rooms.entry(room).or_default().push((name.trim_end_matches(".rs"), path));
    }
    let mut shared = String::new();
    for (room, files) in rooms {
        match files.iter().find(|(name, _)| *name == "mod") {
            Some((_, whole)) => shared += &module(room, whole),
            None => {
                let inner: String = files.iter().map(|(name, path)| module(name, path)).collect();
                shared += &if room.is_empty() {
                    inner
                } else {
                    format!("pub mod {room} {{\n{inner}}}\n")
                };
            }
        }
    }
    fs::write(to.join("shared.rs"), shared).unwrap();

    let mut modules = String::new();
    let mut table = "    (\"as_it_is\", &[".to_owned();
    let mut as_it_is = String::new();
    let mut planted = 0;
    let mut mistaken = String::new();
    for subject in SUBJECTS {
        let of_suite = subject.files.iter().map(|file| (*file, modelled(&read(file))));
        let own = |file: &&'static str| (*file, fs::read_to_string(here.join("src").join(file)));
        let of_models = subject.around.iter().chain([&subject.scenes]).map(own);
        let mut files: Vec<(&str, String)> = of_suite.collect();
        files.extend(of_models.map(|(file, text)| (file, text.unwrap())));
        let place = |variant: &str, mistake: Option<&Swap>| {
            let directory = to.join(variant);
            for (file, text) in &files {
                let text = match mistake.filter(|swap| swap.file == *file) {
                    Some(swap) => swap.apply(text, variant),
                    None => text.clone(),
                };
                write(&directory.join(file), &owned(&text, variant, subject.name));
            }
            let rooms = subject.rooms.iter();
            let head: String = rooms
                .map(|room| module(last(room), &directory.join(room).join("mod.rs")))
                .collect();
            let scenes = format!("{}_scenes", subject.name);
            head + &module(&scenes, &directory.join(subject.scenes))
        };
        as_it_is += &place("as_it_is", None);
        table += &format!("as_it_is::{}_scenes::SCENES, ", subject.name);
        for mistake in MISTAKES.iter().filter(|of| subject.files.contains(&of.swap.file)) {
            let name = mistake.name;
            modules += &format!("pub mod {name} {{\n{}}}\n", place(name, Some(&mistake.swap)));
            let scenes = format!("&[{name}::{}_scenes::SCENES]", subject.name);
            mistaken += &format!("    ({name:?}, {scenes}),\n");
            planted += 1;
        }
    }
    assert_eq!(used, LEVERS.len(), "a lever is for a file that is not copied");
    assert_eq!(planted, MISTAKES.len(), "a mistake is for a file that is not copied");
    modules += &format!("pub mod as_it_is {{\n{as_it_is}}}\n");
    table += &format!("]),\n{mistaken}");
    modules += &format!("pub const VARIANTS: &[crate::Variant] = &[\n{table}];\n");
    fs::write(to.join("variants.rs"), modules).unwrap();
}

/// With the threads and locks of the model.
fn modelled(text: &str) -> String {
    text.replace("std::sync", "crate::sync").replace("std::thread", "crate::thread")
}

/// What belongs to a variant uses what is of it, and of others what is as it is.
fn owned(text: &str, variant: &str, subject: &str) -> String {
    let mut text = text.to_owned();
    for other in SUBJECTS {
        let of = if other.name == subject { variant } else { "as_it_is" };
        for room in other.rooms {
            let name = format!("crate::{}", room.replace('/', "::"));
            text = text.replace(&name, &format!("crate::variants::{of}::{}", last(room)));
        }
    }
    text
}

/// What a room is called.
fn last(room: &str) -> &str {
    room.rsplit('/').next().unwrap_or(room)
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn module(name: &str, path: &Path) -> String {
    format!("#[path = {:?}]\npub mod {name};\n", path.display().to_string())
}
