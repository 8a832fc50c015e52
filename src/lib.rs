//! Akashita: ZFS snapshots in Amazon Glacier, and back.
//!
//! The library behind the `glacier-` tools. docs/design.md tells how data
//! flows through it; akashita(7) and glacier-lines(5) are what it promises.

pub mod catalog;
#[cfg(test)]
mod dice;
pub mod error;
pub mod hash;
pub mod line;
pub mod partsize;
pub mod prices;
pub mod process;
pub mod spool;
pub mod storage;
pub mod stream;
#[cfg(test)]
mod tests;
pub mod tools;
pub mod units;
pub mod window;
pub mod zfs_stream;
