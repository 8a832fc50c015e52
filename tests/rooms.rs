//! The rooms of the source are those of docs/design.md, with the arrows that
//! it shows between them, and no circle.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

type Arrows = BTreeMap<String, BTreeSet<String>>;

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// The modules of the library without their tests: what each is called from
/// the root on, and its code without comments.
fn modules() -> BTreeMap<Vec<String>, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut modules = BTreeMap::new();
    for file in files(&root) {
        let inner = file.strip_prefix(&root).unwrap().with_extension("");
        let mut path: Vec<String> =
            inner.iter().map(|name| name.to_str().unwrap().to_owned()).collect();
        path.retain(|name| name != "mod");
        let is_apart =
            ["bin", "lib", "tests", "dice"].iter().any(|it| path.iter().any(|p| p == it));
        if is_apart {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        let lines = text.lines().map(|line| line.split("//").next().unwrap_or_default());
        let code: Vec<&str> = lines.collect();
        let code = code.join("\n");
        let end = code.find("#[cfg(test)]\nmod tests").unwrap_or(code.len());
        modules.insert(path, code[..end].to_owned());
    }
    modules
}

/// All paths that a piece of `use` means: `a::{b, c::{d, e}}` is `a::b`,
/// `a::c::d` and `a::c::e`.
fn spread(before: &str, text: &str, paths: &mut Vec<String>) {
    let (mut depth, mut begin) = (0, 0);
    for (at, sign) in text.char_indices().chain([(text.len(), ',')]) {
        match sign {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let piece = text[begin..at].trim();
                begin = at + 1;
                match piece.split_once('{') {
                    Some((head, rest)) => {
                        let rest = rest.strip_suffix('}').unwrap();
                        spread(&format!("{before}{}", head.trim()), rest, paths);
                    }
                    None if piece.is_empty() => {}
                    None => paths.push(format!("{before}{piece}")),
                }
            }
            _ => {}
        }
    }
}

/// The paths in a module's code that begin at the root, or with `super` or
/// `self`.
fn paths(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = String::new();
    let mut lines = code.lines();
    while let Some(line) = lines.next() {
        let trimmed = line.trim_start();
        let start = trimmed.strip_prefix("pub(crate) ").or(trimmed.strip_prefix("pub(super) "));
        let start = start.or(trimmed.strip_prefix("pub ")).unwrap_or(trimmed);
        let Some(used) = start.strip_prefix("use ") else {
            rest += line;
            rest += "\n";
            continue;
        };
        let mut used = used.to_owned();
        while !used.ends_with(';') {
            used += lines.next().unwrap();
        }
        spread("", used.trim_end_matches(';'), &mut found);
    }
    for head in ["crate::", "super::", "self::"] {
        for (at, _) in rest.match_indices(head) {
            let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
            let length = rest[at..].find(|c| !is_part(c)).unwrap_or(rest.len() - at);
            found.push(rest[at..at + length].to_owned());
        }
    }
    found
}

/// Which modules use which others.
fn arrows() -> BTreeMap<Vec<String>, BTreeSet<Vec<String>>> {
    let modules = modules();
    let mut arrows = BTreeMap::new();
    for (from, code) in &modules {
        let used: &mut BTreeSet<Vec<String>> = arrows.entry(from.clone()).or_default();
        for path in paths(code) {
            let mut to = Vec::new();
            for (at, name) in path.split("::").enumerate() {
                match name.trim() {
                    "crate" if at == 0 => {}
                    "super" => {
                        if at == 0 {
                            to.clone_from(from);
                        }
                        to.pop();
                    }
                    _ if at == 0 => to.clone_from(from),
                    _ => {}
                }
                let name = name.trim().split(' ').next().unwrap_or_default();
                if !["crate", "self", "super"].contains(&name) {
                    to.push(name.to_owned());
                }
            }
            while !to.is_empty() && !modules.contains_key(&to) {
                to.pop();
            }
            if !to.is_empty() && to != *from {
                used.insert(to);
            }
        }
    }
    arrows
}

fn design() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/design.md")).unwrap()
}

/// The table of docs/design.md: each room, and which it uses.
fn table() -> Arrows {
    let text = design();
    let mut rooms = Arrows::new();
    for line in text.lines().filter(|line| line.starts_with("| src/")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, room, _, used, _] = cells[..] else { panic!("{line}") };
        let room = room.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches('/');
        let used = used.split_whitespace().map(str::to_owned).collect();
        assert!(rooms.insert(room.to_owned(), used).is_none(), "{room} stands there twice");
    }
    rooms
}

#[test]
fn the_rooms_use_each_other_as_the_design_says() {
    let told = table();
    let room = |module: &[String]| {
        let names = (1..=module.len()).rev().map(|length| module[..length].join("/"));
        let found = names.into_iter().find(|name| told.contains_key(name));
        found.unwrap_or_else(|| panic!("docs/design.md has no room for {}", module.join("/")))
    };
    let mut found: Arrows = told.keys().map(|name| (name.clone(), BTreeSet::new())).collect();
    found.remove("bin");
    for (from, used) in arrows() {
        for to in used.iter().map(|to| room(to)).filter(|to| *to != room(&from)) {
            found.get_mut(&room(&from)).unwrap().insert(to);
        }
    }
    for (name, used) in &found {
        let words: Vec<&str> = used.iter().map(String::as_str).collect();
        assert_eq!(&told[name], used, "src/{name} uses: {}", words.join(" "));
    }
    // Each arrow points down.
    let order: Vec<String> = design()
        .lines()
        .filter_map(|line| line.strip_prefix("| src/"))
        .map(|line| line.split([' ', '|']).next().unwrap_or_default().to_owned())
        .map(|name| name.trim_end_matches(".rs").trim_end_matches('/').to_owned())
        .collect();
    let floor = |name: &String| order.iter().position(|it| it == name);
    for (name, used) in &found {
        for to in used {
            assert!(floor(name) < floor(to), "src/{to} stands above src/{name}, which uses it");
        }
    }
}

/// Within a room, too: its files and the rooms in it. What stands in a room's
/// mod.rs is of all of them.
#[test]
fn no_rooms_and_no_files_of_a_room_use_each_other() {
    let mut rooms: BTreeMap<Vec<String>, Arrows> = BTreeMap::new();
    for (from, used) in arrows() {
        for to in used {
            let same = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
            if same < from.len() && same < to.len() {
                let room = rooms.entry(from[..same].to_vec()).or_default();
                room.entry(from[same].clone()).or_default().insert(to[same].clone());
            }
        }
    }
    for (room, mut arrows) in rooms {
        // What uses nothing that is left goes, until nothing is.
        loop {
            let left: BTreeSet<String> = arrows.keys().cloned().collect();
            arrows.retain(|_, used| used.iter().any(|to| left.contains(to)));
            if arrows.len() == left.len() {
                break;
            }
        }
        assert!(arrows.is_empty(), "a circle in src/{}: {arrows:?}", room.join("/"));
    }
}
