//! The manuals: each program has a page, the page and the program name the
//! same options, and what stands under EXAMPLES does what the page says.

mod sandbox;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::page::Page;
use crate::common::skip;
use sandbox::Sandbox;

/// What the examples may use that is not ours and need not be there.
const OTHERS: [&str; 4] = ["age", "aws", "jq", "zstd"];

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn bin() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_glacier-chunk")).parent().unwrap().to_owned()
}

fn files(directory: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(top().join(directory)).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn pages() -> Vec<Page> {
    files("man").iter().map(|path| Page::read(path)).collect()
}

fn tools() -> Vec<String> {
    let stem = |path: &PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
    files("src/bin").iter().map(stem).collect()
}

fn page(name: &str) -> Page {
    let page = pages().into_iter().find(|page| page.name == name);
    page.unwrap_or_else(|| panic!("{name} has no page"))
}

/// The long options that `--help` lists, but for the two that all have, with
/// those of its subcommands.
fn options_of(tool: &str) -> BTreeSet<String> {
    let mut helps = vec![help(tool, &[])];
    let subcommands: Vec<String> = match helps[0].split_once("\nCommands:\n") {
        Some((_, list)) => {
            let list = list.lines().take_while(|line| !line.is_empty());
            list.filter_map(|line| line.split_whitespace().next().map(str::to_owned)).collect()
        }
        None => Vec::new(),
    };
    helps.extend(subcommands.iter().map(|subcommand| help(tool, &[subcommand])));
    helps.iter().flat_map(|help| options_in(help)).collect()
}

fn help(tool: &str, words: &[&str]) -> String {
    let help = Command::new(bin().join(tool)).args(words).arg("--help").output().unwrap();
    assert!(help.status.success(), "{tool} {words:?} --help");
    let help = String::from_utf8(help.stdout).unwrap();
    assert!(help.lines().all(|line| line.len() <= 110), "{tool} --help is wide:\n{help}");
    help
}

fn options_in(help: &str) -> BTreeSet<String> {
    let options = help.lines().filter_map(|line| {
        let line = line.trim_start();
        let line = match line.as_bytes() {
            [b'-', b'a'..=b'z' | b'A'..=b'Z', b',', ..] => line.get(4..)?,
            _ => line,
        };
        let name = line.strip_prefix("--")?.split([' ', '=', '[']).next()?;
        Some(name.to_owned())
    });
    options.filter(|name| name != "help" && name != "version").collect()
}

#[test]
fn every_tool_has_a_page_with_its_options() {
    let shared = page("akashita").listed_options();
    for tool in tools() {
        let (page, options) = (page(&tool), options_of(&tool));
        assert_eq!(page.options("SYNOPSIS"), options, "{tool}: SYNOPSIS and --help differ");
        let listed = page.listed_options();
        let unlisted: Vec<_> =
            options.iter().filter(|o| !(listed.contains(*o) || shared.contains(*o))).collect();
        assert!(unlisted.is_empty(), "{tool}: described nowhere: {unlisted:?}");
        let unknown: Vec<_> = listed.difference(&options).collect();
        assert!(unknown.is_empty(), "{tool}: described, but not there: {unknown:?}");
    }
}

#[test]
fn every_page_has_its_sections() {
    for page in pages() {
        let name = &page.name;
        assert!(!page.section("EXAMPLES").is_empty(), "{name}: no EXAMPLES");
        let tool = page.number == "1";
        assert!(!tool || !page.section("EXIT STATUS").is_empty(), "{name}: no EXIT STATUS");
        let of_tool = tools().contains(name);
        assert_eq!(tool, of_tool, "{name}({}) is about no program", page.number);
    }
}

#[test]
fn every_exit_status_is_one_of_the_suite() {
    let known = page("akashita").statuses();
    assert_eq!(known, [0, 1, 64, 65, 69, 70, 74, 75, 77, 78]);
    for page in pages() {
        for status in page.statuses() {
            // Those of sh(1) for a command that cannot be run, and one that monitoring wants.
            let known = known.contains(&status)
                || matches!(status, 126 | 127)
                || (page.name == "akashita-status" && status == 2);
            assert!(known, "{}: {status} is no status of ours", page.name);
        }
    }
}

#[test]
fn the_overview_names_every_tool_and_no_page_names_one_that_is_not_there() {
    let overview = page("akashita").references();
    let there: BTreeSet<String> =
        pages().into_iter().map(|page| format!("{}({})", page.name, page.number)).collect();
    for tool in tools() {
        assert!(overview.contains(&format!("{tool}(1)")), "akashita(7) does not name {tool}");
    }
    for page in pages() {
        for name in page.references() {
            let ours = name.starts_with("glacier-") || name.starts_with("akashita");
            assert!(!ours || there.contains(&name), "{}: {name} is not there", page.name);
        }
    }
}

#[test]
fn mandoc_finds_nothing() {
    match Command::new("mandoc").args(["-Tlint", "-Wwarning"]).args(files("man")).output() {
        Ok(lint) => assert!(lint.status.success(), "{}", String::from_utf8_lossy(&lint.stdout)),
        Err(_) => skip("mandoc: not found; try scripts/test"),
    }
}

#[test]
fn every_example_does_what_its_text_says() {
    std::thread::scope(|scope| {
        for page in pages() {
            scope.spawn(move || run_examples(&page));
        }
    });
}

fn run_examples(page: &Page) {
    let examples = page.examples();
    assert!(!examples.is_empty(), "{}: no command under EXAMPLES", page.name);
    let mut sandbox = Sandbox::new(&bin());
    if examples.iter().any(|example| example.command.contains("glacier-ls inventory")) {
        sandbox.pass_a_day();
    }
    for example in examples {
        let name = &page.name;
        let missing = OTHERS.iter().find(|other| {
            example.command.split([' ', '|', '\n', '(']).any(|word| word == **other)
                && !sandbox.has(other)
        });
        if let Some(missing) = missing {
            skip(&format!("{missing}: not found; {name}: {}", example.command));
            continue;
        }
        let (status, output) = sandbox.run(&example.command);
        assert!(
            status == 0 || status == example.status,
            "{name}: {}\nexits {status}, its text says {}:\n{output}",
            example.command,
            example.status
        );
    }
}
