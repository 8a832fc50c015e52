//! The plan against a small model of chunk, put, the machine and the service,
//! and sequences that once went wrong.

mod cases;
mod dice;
mod machine;
mod properties;
mod run;
mod service;
mod world;

use proptest::prelude::ProptestConfig;
use sha2::{Digest as _, Sha256};

use super::*;
use crate::description::Description;
use crate::line::{Format, Guid, StreamId, VERSION};
use crate::vault::Failure;
use machine::stream;
use service::time;

const PART: u64 = 1 << 20;
const VOLUME: u64 = 4 << 20;

/// From here on a part's content makes it a short one.
const SHORT: u8 = 100;

/// The content of a stream: what makes each part's hash, a volume a row.
type Content = Vec<Vec<u8>>;

/// As many cases of a property as the environment says, or few.
fn cases(few: u32) -> ProptestConfig {
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => ProptestConfig::default(),
        None => ProptestConfig::with_cases(few),
    }
}
