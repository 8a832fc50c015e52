//! TODO

pub mod ahead;
pub mod estimate;
pub mod jobs;
pub(crate) mod shared;
