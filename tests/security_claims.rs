//! SECURITY.md names the tests that hold what it claims: each is there.

use std::collections::BTreeMap;
use std::path::Path;

use crate::common::source::Source;

#[test]
fn every_test_that_a_claim_names_is_there() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(top.join("SECURITY.md")).unwrap();
    let mut sources = BTreeMap::new();
    let mut named = 0;
    for words in page.split('`').skip(1).step_by(2) {
        let Some((file, test)) = words.split_once("::") else { continue };
        // The heading explains the form.
        if words != "file::test" {
            sources.entry(file).or_insert_with(|| Source::read(file)).test(test);
            named += 1;
        }
    }
    assert!(named > 20, "{named} tests are named");
}
