//! SECURITY.md names the tests that hold what it claims: each is there.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::path::Path;

#[test]
fn every_test_that_a_claim_names_is_there() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(top.join("SECURITY.md")).unwrap();
    let mut named = 0;
    for words in page.split('`').skip(1).step_by(2) {
        let Some((file, test)) = words.split_once("::") else { continue };
        let Ok(source) = std::fs::read_to_string(top.join(file)) else {
            // Only the heading explains the form.
            assert!(words == "file::test", "{words}: no such file");
            continue;
        };
        let is_there =
            source.contains(&format!("fn {test}()")) || source.contains(&format!("fn {test}("));
        assert!(is_there && source.contains("#[test]"), "{words}: no such test");
        named += 1;
    }
    assert!(named > 20, "{named} tests are named");
}
