//! Akashita: ZFS snapshots in Amazon Glacier, and back.
//!
//! The library behind the `glacier-` tools. docs/design.md tells how data
//! flows through it; akashita(7) and glacier-lines(5) are what it promises.

pub mod catalog;
pub mod chunk;
pub mod conf;
pub mod curfew;
#[cfg(test)]
mod dice;
pub mod error;
pub mod exclusive;
pub mod get;
pub mod hash;
pub mod hold;
pub mod line;
pub mod local;
pub mod ls;
pub mod partsize;
pub mod planted;
pub mod prices;
pub mod process;
pub mod proof;
pub mod prune;
pub mod put;
#[cfg(feature = "glacier")]
pub mod rm;
pub mod spool;
pub mod storage;
pub mod stream;
pub mod units;
pub mod verify;
pub mod window;
pub mod zfs_stream;
