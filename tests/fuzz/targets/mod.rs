//! What is fuzzed: everything here that reads what others wrote.
//!
//! Each target is a function of bytes that panics if what must hold does not.
//! `cargo test` replays the corpus (tests/fuzz.rs), cargo-fuzz looks for more
//! (fuzz/). A target says what must hold beyond "no crash": one meaning
//! however the bytes are split, what is written reads back, bounded output.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "a panic is how a target tells what it found"
)]
#![allow(unused_qualifications, dead_code, reason = "two programs share this")]

#[allow(clippy::duplicate_mod, reason = "the laboratory has it too, the fuzzer does not")]
#[path = "../../common/made.rs"]
pub mod made;

mod books;
mod catalog;
mod lines;
mod rebuild;
pub mod request;
#[cfg(feature = "aws")]
mod service;
mod stream;
mod window;

use akashita::process::printable;

/// A name, and what is done with bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: &[Target] = &[
    ("lines", lines::lines),
    ("catalog", catalog::catalog),
    ("rebuild", rebuild::rebuild),
    ("stream", stream::stream),
    ("window", window::window),
    ("range", request::range),
    ("request", request::request),
    ("journal", books::journal),
    ("description", books::description),
    #[cfg(feature = "aws")]
    ("service", service::service),
];

/// Runs the target of this name.
pub fn run(name: &str, data: &[u8]) {
    let (_, target) = TARGETS.iter().find(|(known, _)| *known == name).unwrap();
    target(data);
}

/// That a text fits into a message: one line, whatever foreign text is in it,
/// and no longer than `longest`.
#[track_caller]
fn is_a_message(text: &str, longest: usize) {
    let shown = printable(text);
    assert!(!shown.chars().any(char::is_control), "{shown:?}");
    assert!(!text.is_empty() && text.len() <= longest, "{} bytes: {text}", text.len());
}
