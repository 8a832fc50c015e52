//! Tools that never talk to AWS do not carry its SDK.

use std::path::Path;
use std::process::Command;

use crate::common::skip;

/// Whether code or data of the SDK is in a program. What is about debugging
/// is put aside: it names types of the library that no program uses.
fn carries_sdk(tool: &str, directory: &Path) -> Option<bool> {
    let program = Path::new(env!("CARGO_BIN_EXE_glacier-chunk")).with_file_name(tool);
    let bare = directory.join(tool);
    let strip = Command::new("strip").arg("-S").arg("-o").arg(&bare).arg(program).status();
    let Ok(status) = strip else {
        skip("strip: not found; try scripts/test");
        return None;
    };
    assert!(status.success(), "strip: {tool}");
    let bytes = std::fs::read(bare).unwrap();
    let has = |word: &[u8]| bytes.windows(word.len()).any(|window| window == word);
    Some(has(b"aws_sdk") || has(b"aws-sdk"))
}

#[test]
fn only_what_talks_to_aws_carries_its_sdk() {
    let directory = tempfile::tempdir().unwrap();
    for (tool, expected) in [
        ("akashita-choose", false),
        ("akashita-conf", false),
        ("akashita-receive", false),
        ("glacier-treehash", false),
        ("glacier-chunk", false),
        ("glacier-mend", false),
        ("glacier-proof", false),
        ("glacier-window", false),
        ("glacier-chain", false),
        ("glacier-prune", false),
        ("glacier-local", false),
        ("glacier-put", true),
        ("glacier-get", true),
        ("glacier-rm", true),
        ("glacier-ls", true),
        ("glacier-verify", true),
    ] {
        let Some(carries) = carries_sdk(tool, directory.path()) else { return };
        assert_eq!(carries, expected, "{tool}");
    }
}

#[test]
fn without_its_feature_no_crate_of_aws_is_needed() {
    let tree = |more: &[&str]| {
        let mut cargo = Command::new("cargo");
        cargo
            .args(["tree", "--offline", "--locked", "--edges", "normal", "--prefix", "none"])
            .args(more)
            .current_dir(env!("CARGO_MANIFEST_DIR"));
        cargo.output().ok().map(|output| {
            let (out, err) = (output.stdout, String::from_utf8(output.stderr).unwrap());
            assert!(output.status.success(), "cargo tree: {err}");
            String::from_utf8(out).unwrap().lines().filter(|line| line.starts_with("aws-")).count()
        })
    };
    let Some(with) = tree(&[]) else { return skip("cargo: not found") };
    assert!(with > 0, "it would be seen");
    assert_eq!(tree(&["--no-default-features"]), Some(0));
}
