//! To bring up what is stored: what glacier-get(1) and glacier-verify(1)
//! share.

pub mod ahead;
pub mod estimate;
pub mod jobs;

use crate::storage::retry::Patience;
use crate::storage::{Dest, Tier};

/// A destination in a region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The destination.
    pub dest: Dest,
    /// Its region; empty when the lines do not say.
    pub region: String,
}

/// What the user may choose.
#[derive(Debug)]
pub struct Settings {
    /// How quickly archives are brought up; as is usual for their class, where
    /// nobody says.
    pub tier: Option<Tier>,
    /// Whether to end instead of waiting for jobs.
    pub no_wait: bool,
    /// Requests at once.
    pub concurrency: usize,
    /// How long to go on after failures that may pass.
    pub patience: Patience,
    /// Whether progress is shown on a terminal.
    pub progress: bool,
}
