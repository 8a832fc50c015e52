//! The faults that the laboratory plants in a copy of the source
//! (tests/faultlab) can still be planted, and are in no program that is used.

#[path = "faultlab/planted.rs"]
#[allow(dead_code, reason = "the laboratory uses the rest")]
mod planted;
#[path = "../models/src/swap.rs"]
mod swap;

use std::fs;
use std::path::Path;

use planted::PLANTED;

#[test]
fn each_fault_can_be_planted_and_is_not_there() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let directory = tempfile::tempdir().unwrap();
    planted::copy(top, directory.path()).unwrap();
    for fault in PLANTED {
        let asked = format!("planted::is(\"{}\")", fault.name);
        for swap in fault.swaps {
            assert!(swap.wrong.contains(&asked), "{}: who asks for it?", fault.name);
            let read = |tree: &Path| fs::read_to_string(tree.join("src").join(swap.file)).unwrap();
            assert!(read(directory.path()).contains(&asked), "{} is not planted", fault.name);
            assert!(!read(top).contains("planted"), "{}", swap.file);
        }
    }
    assert!(!top.join("src/planted.rs").exists());
    assert!(fs::read_to_string(directory.path().join("src/planted.rs")).unwrap().contains("fn is"));
}
