//! What is built in: the rules of deny.toml, as far as they can be held
//! without cargo-deny and without a network.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use spdx::{Expression, ParseMode};

use crate::common::skip;

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The strings of an array in deny.toml, which has each on a line of its own
/// or all on one.
fn list(name: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string(top().join("deny.toml")).unwrap();
    let (_, rest) = text.split_once(&format!("\n{name} = [")).unwrap();
    let (array, _) = rest.split_once(']').unwrap();
    let lines = array.lines().map(|line| line.split('#').next().unwrap());
    let strings = lines.flat_map(|line| line.split('"').skip(1).step_by(2));
    strings.map(str::to_owned).collect()
}

/// The packages that this machine builds.
fn packages() -> Vec<Value> {
    let host = Command::new("rustc").arg("-vV").output().unwrap().stdout;
    let host = String::from_utf8(host).unwrap();
    let host = host.lines().find_map(|line| line.strip_prefix("host: ")).unwrap().to_owned();
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--locked", "--offline", "--format-version", "1"])
        .args(["--filter-platform", &host])
        .current_dir(top())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

/// Whether a licence expression (SPDX) can be met with these. An exception
/// gives more rights, but is another name.
fn allowed(expression: &str, allow: &BTreeSet<String>) -> bool {
    let expression = Expression::parse_mode(expression, ParseMode::LAX).unwrap();
    expression.evaluate(|licence| allow.contains(&licence.to_string()))
}

#[test]
fn reads_licence_expressions() {
    let allow = ["MIT", "ISC"].map(str::to_owned).into();
    for good in ["MIT", "GPL-3.0 OR MIT", "MIT/GPL-3.0", "(GPL-3.0 OR ISC) AND MIT"] {
        assert!(allowed(good, &allow), "{good}");
    }
    for bad in ["GPL-3.0", "MIT AND GPL-3.0", "(MIT OR ISC) AND GPL-3.0", "MIT WITH LLVM-exception"]
    {
        assert!(!allowed(bad, &allow), "{bad}");
    }
}

#[test]
fn every_licence_is_one_that_deny_toml_allows() {
    let allow = list("allow");
    assert!(allow.contains("MIT"), "{allow:?}");
    for package in packages() {
        let licence = package["license"].as_str().unwrap_or_default();
        assert!(allowed(licence, &allow), "{}: {licence:?}", package["name"]);
    }
}

/// Cargo.lock names all that any platform builds.
#[test]
fn everything_is_from_crates_io_with_its_hash() {
    let text = std::fs::read_to_string(top().join("Cargo.lock")).unwrap();
    let banned = list("deny");
    let mut seen = 0;
    for package in text.split("\n[[package]]\n").skip(1) {
        let field = |name: &str| {
            let line = |line: &str| Some(line.strip_prefix(name)?.trim_matches('"').to_owned());
            package.lines().find_map(line)
        };
        let name = field("name = ").unwrap();
        assert!(!banned.contains(&name), "{name} is banned by deny.toml");
        if name == env!("CARGO_PKG_NAME") {
            continue;
        }
        let source = field("source = ");
        let registry = "registry+https://github.com/rust-lang/crates.io-index";
        assert_eq!(source.as_deref(), Some(registry), "{name}");
        assert!(field("checksum = ").is_some_and(|hash| hash.len() == 64), "{name}: no hash");
        seen += 1;
    }
    assert!(seen > 100, "{seen} packages");
}

#[test]
fn cargo_deny_agrees() {
    let deny = Command::new(env!("CARGO"))
        .args(["deny", "--all-features", "check", "licenses", "bans", "sources"])
        .current_dir(top())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&deny.stderr);
    if said.contains("no such command") {
        skip("deny.toml: checked without cargo-deny, which is not installed");
    } else if said.contains("failed to fetch crates") {
        skip("deny.toml: cargo-deny wants crates of other platforms, and there is no network");
    } else {
        assert!(deny.status.success(), "{said}");
    }
}
