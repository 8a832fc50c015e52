//! Backups that start by themselves: akashita-at(8), and what etc/ has for
//! cron(8), systemd and periodic(8).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

#[path = "common/mod.rs"]
mod common;
#[path = "schedule/installed.rs"]
mod installed;
#[path = "common/local.rs"]
mod local;
#[path = "backup/machine.rs"]
mod machine;
#[path = "schedule/night.rs"]
mod night;
#[path = "schedule/periodic.rs"]
mod periodic;
#[path = "schedule/queue.rs"]
mod queue;
mod skip;
#[path = "schedule/units.rs"]
mod units;
