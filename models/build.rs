//! Copies the suite's files for the models: once as they are, and once for
//! each mistake that a model must find.

#[path = "src/mistakes.rs"]
mod mistakes;

use std::path::{Path, PathBuf};
use std::{env, fs};

use mistakes::{LEVERS, MISTAKES, Swap};

/// Files of which there is one copy for all variants.
const SHARED: &[&str] = &["error.rs", "sha256x2.rs", "treehash.rs"];

/// Files whose threads are modelled.
const MODELLED: &[&str] = &["hashing/mod.rs", "hashing/blocks.rs", "hashing/work.rs"];

fn main() {
    let from = Path::new(&env::var("CARGO_MANIFEST_DIR").unwrap()).join("../src");
    let to = PathBuf::from(env::var("OUT_DIR").unwrap());
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/mistakes.rs");
    let mut used = 0;
    let mut read = |file: &str| {
        println!("cargo::rerun-if-changed={}", from.join(file).display());
        let mut text = fs::read_to_string(from.join(file)).unwrap();
        for lever in LEVERS.iter().filter(|lever| lever.file == file) {
            text = swapped(&text, lever, "a lever");
            used += 1;
        }
        text
    };

    let mut shared = String::new();
    for file in SHARED {
        let path = to.join(file);
        fs::write(&path, read(file)).unwrap();
        shared += &module(file.trim_end_matches(".rs"), &path);
    }
    fs::write(to.join("shared.rs"), shared).unwrap();

    let files: Vec<(&str, String)> =
        MODELLED.iter().map(|file| (*file, modelled(&read(file)))).collect();
    assert_eq!(used, LEVERS.len(), "a lever is for a file that is not copied");
    let scenes = Path::new(&env::var("CARGO_MANIFEST_DIR").unwrap()).join("src/scenes.rs");
    println!("cargo::rerun-if-changed={}", scenes.display());
    let scenes = fs::read_to_string(scenes).unwrap();
    let as_it_is = [("as_it_is", None)];
    let mistaken = MISTAKES.iter().map(|mistake| (mistake.name, Some(&mistake.swap)));
    let (mut modules, mut table) = (String::new(), String::new());
    for (name, mistake) in as_it_is.into_iter().chain(mistaken) {
        let directory = to.join(name);
        let mut left = mistake;
        for (file, text) in &files {
            let mut text = text.clone();
            if let Some(swap) = left.take_if(|swap| swap.file == *file) {
                text = swapped(&text, swap, name);
            }
            write(&directory.join(file), &text, name);
        }
        assert!(left.is_none(), "{name}: for a file that is not copied");
        write(&directory.join("scenes.rs"), &scenes, name);
        modules += &format!(
            "pub mod {name} {{\n{}{}}}\n",
            module("hashing", &directory.join("hashing/mod.rs")),
            module("scenes", &directory.join("scenes.rs")),
        );
        table += &format!("    ({name:?}, {name}::scenes::SCENES),\n");
    }
    modules += &format!("pub const VARIANTS: &[(&str, &[crate::Scene])] = &[\n{table}];\n");
    fs::write(to.join("variants.rs"), modules).unwrap();
}

/// A text that is not there would plant nothing, and one that is there twice
/// something else.
fn swapped(text: &str, swap: &Swap, name: &str) -> String {
    let times = text.matches(swap.right).count();
    assert_eq!(times, 1, "{name}: not once in {}: {}", swap.file, swap.right);
    text.replace(swap.right, swap.wrong)
}

/// With the threads and locks of the model.
fn modelled(text: &str) -> String {
    text.replace("std::sync", "crate::sync").replace("std::thread", "crate::thread")
}

/// Writes what belongs to a variant.
fn write(path: &Path, text: &str, variant: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let own = text.replace("crate::hashing", &format!("crate::variants::{variant}::hashing"));
    fs::write(path, own).unwrap();
}

fn module(name: &str, path: &Path) -> String {
    format!("#[path = {:?}]\npub mod {name};\n", path.display().to_string())
}
