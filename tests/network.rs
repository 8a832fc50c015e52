//! A network and a service that fail in every way: a share of the matrix,
//! which `scripts/faultlab network` plays whole.

mod matrix;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Cases at a time: they wait more than they compute.
const AT_ONCE: usize = 8;

/// One case of so many is played here. The matrix has its faults in the same
/// order for each call, and each once and for ever: a prime meets them all.
const SHARE: usize = 11;

/// What a service does that lies.
/// One more, a list of always new pages, takes minutes to come to its end: held
/// by `src/storage/pages.rs`.
const LIES: [&str; 5] = ["no id", "path as id", "same page", "circle", "endless body"];

#[test]
fn each_fault_ends_as_the_matrix_says_and_heals() {
    play(&matrix::cases().into_iter().step_by(SHARE).collect::<Vec<_>>());
}

#[test]
fn each_lie_of_the_service_ends_with_65() {
    let mut met = BTreeSet::new();
    let cases: Vec<matrix::Case> = matrix::cases()
        .into_iter()
        .filter(|case| LIES.contains(&case.fault) && case.code == 65)
        .filter(|case| met.insert((case.tool, case.fault)))
        .collect();
    for tool in ["put", "get", "ls", "rm", "verify"] {
        assert!(cases.iter().any(|case| case.tool == tool), "nobody lies to glacier-{tool}");
    }
    for lie in LIES {
        assert!(cases.iter().any(|case| case.fault == lie), "{lie}");
    }
    play(&cases);
}

/// Plays cases, several at a time.
fn play(cases: &[matrix::Case]) {
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::SeqCst)) {
                    if let Err(e) = catch_unwind(AssertUnwindSafe(|| matrix::play(case))) {
                        let text = e.downcast_ref::<String>().cloned();
                        failed.lock().unwrap().push(text.unwrap_or_else(|| case.name.clone()));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{} of {}:\n{}", failed.len(), cases.len(), failed.join("\n"));
}
