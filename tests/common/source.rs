//! A source file with tests, as text: what a test of a name does.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// A file of this tree.
pub struct Source {
    name: String,
    /// Its functions and constants. Methods of several types may share a name.
    items: BTreeMap<String, Vec<Item>>,
}

/// A function or constant.
#[derive(Default)]
struct Item {
    attributes: Vec<String>,
    /// Without comments.
    code: String,
}

impl Source {
    /// Reads a file, by its path from the top of the tree.
    pub fn read(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{name}: {e}"));
        let mut items: BTreeMap<String, Vec<Item>> = BTreeMap::new();
        let mut attributes = Vec::new();
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            let code = line.trim();
            if code.starts_with("#[") {
                attributes.push(code.to_owned());
            } else if let Some(name) = name_of(code) {
                let mut item =
                    Item { attributes: std::mem::take(&mut attributes), code: code_of(line) };
                let end = format!("{}}}", &line[..line.len() - line.trim_start().len()]);
                // What is behind its last brace or semicolon, as far in as it begins.
                let is_end = |line: &str| line == end || !is_function(code) && line.ends_with(';');
                if !code.ends_with([';', '}']) {
                    for line in lines.by_ref() {
                        item.code += &code_of(line);
                        if is_end(line) {
                            break;
                        }
                    }
                }
                items.entry(name.to_owned()).or_default().push(item);
            } else if !code.starts_with("//") {
                attributes.clear();
            }
        }
        Self { name: name.to_owned(), items }
    }

    /// The code of a test and of what it calls and names in its file.
    ///
    /// # Panics
    /// When there is no such test, it is not always run, or nothing can fail in it.
    pub fn test(&self, name: &str) -> String {
        let said = format!("{}::{name}", self.name);
        let item = self.items.get(name).and_then(|items| items.first());
        let attributes = &item.unwrap_or_else(|| panic!("{said}: no such test")).attributes;
        assert!(attributes.iter().any(|line| line == "#[test]"), "{said}: no test");
        let is_off = |line: &String| line.starts_with("#[ignore") || line.starts_with("#[cfg");
        assert!(!attributes.iter().any(is_off), "{said}: not always run");
        let code = self.reached(name);
        let asserts = ["assert", ".failed", ".done()", "unwrap_err()", "panic!"];
        assert!(asserts.iter().any(|word| code.contains(word)), "{said}: asserts nothing");
        code
    }

    /// The code of an item, and of all that it names here, and those name.
    fn reached(&self, name: &str) -> String {
        let mut code = String::new();
        let mut seen = BTreeSet::new();
        let mut open = vec![name];
        while let Some(name) = open.pop() {
            if seen.insert(name) {
                for item in self.items.get(name).into_iter().flatten() {
                    open.extend(item.code.split(|c: char| !c.is_ascii_alphanumeric() && c != '_'));
                    code += &item.code;
                }
            }
        }
        code
    }
}

/// The name of the function or constant that begins in a line.
fn name_of(code: &str) -> Option<&str> {
    let mut rest = code;
    for word in ["pub ", "pub(crate) ", "pub(super) "] {
        rest = rest.strip_prefix(word).unwrap_or(rest);
    }
    rest = rest.strip_prefix("async ").unwrap_or(rest);
    rest = rest
        .strip_prefix("const fn ")
        .or_else(|| rest.strip_prefix("fn "))
        .or_else(|| rest.strip_prefix("const ").or_else(|| rest.strip_prefix("static ")))?;
    let name = rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next()?;
    (!name.is_empty()).then_some(name)
}

fn is_function(code: &str) -> bool {
    code.split('(').next().is_some_and(|before| before.contains("fn "))
}

/// A line without its comment.
fn code_of(line: &str) -> String {
    let code = line.split_once("// ").map_or(line, |(code, _)| code);
    if code.trim_start().starts_with("//") { "\n".to_owned() } else { format!("{code}\n") }
}
