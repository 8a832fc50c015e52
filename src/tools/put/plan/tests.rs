//! The plan against a small model of chunk, put, the machine and the service,
//! and sequences that once went wrong.

mod cases;
mod machine;
mod properties;
mod run;
mod service;
mod world;

use sha2::{Digest as _, Sha256};

use super::*;
use crate::line::description::Description;
use crate::line::{Format, Guid, StreamId, VERSION};
use crate::storage::{Failure, Proof, VAULT};
use machine::stream;
use service::time;

const PART: u64 = 1 << 20;
const VOLUME: u64 = 4 << 20;

/// From here on a part's content makes it a short one.
const SHORT: u8 = 100;

/// The content of a stream: what makes each part's hash, a volume a row.
type Content = Vec<Vec<u8>>;
