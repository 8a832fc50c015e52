//! The tests of the programs, in one binary: each file is a module that
//! `cargo test --test suite NAME::` runs alone. What sets something for its
//! whole process, or is a program itself, is a test target of its own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test that cannot go on has failed"
)]

mod common;

mod akashita_restore;
mod backup;
mod chain;
mod choose;
mod chunk;
mod codes;
mod conf;
mod dependencies;
mod every_snapshot;
mod foreign;
mod fuzz;
mod get;
mod lines;
mod local;
mod ls;
mod man;
mod mend;
mod network;
mod pipe;
mod planted_faults;
mod proof;
mod prune;
mod prune_verify_drill;
mod put;
mod restore;
mod restore_by_hand;
mod rm;
mod rooms;
mod s3;
mod schedule;
mod scripts;
mod security;
mod security_claims;
mod terminal;
mod treehash;
mod verify;
mod window;
mod without_sdk;
