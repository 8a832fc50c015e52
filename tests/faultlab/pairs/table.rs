//! The table: which programs can meet on one spool, catalog, output, dataset
//! or lock.

use super::party::Party::{
    self, Chain, Chunk, Drop, Get, Keep, Ls, Other, Prune, Put, Rm, Sh, Verify,
};
use super::scene::Stream::{A, B, Full, Increment};
use super::scripts::Script;

/// Who meets whom: either of them is the one that stands.
pub const PAIRS: &[(Party, Party)] = &[
    (Chunk(A), Chunk(A)),
    (Chunk(A), Chunk(B)),
    (Chunk(A), Put(A)),
    (Chunk(A), Put(B)),
    (Chunk(A), Rm(A)),
    (Chunk(A), Drop(A)),
    (Chunk(A), Ls),
    (Other(A), Put(A)),
    (Put(A), Put(A)),
    (Put(A), Put(B)),
    (Put(A), Rm(A)),
    (Put(A), Rm(B)),
    (Put(A), Drop(A)),
    (Put(A), Ls),
    (Put(A), Get(B)),
    (Put(A), Verify),
    (Put(A), Prune),
    (Put(A), Chain),
    (Put(Increment), Rm(Full)),
    (Chunk(Increment), Rm(Full)),
    (Get(A), Get(A)),
    (Get(A), Rm(A)),
    (Keep(A), Keep(A)),
    (Keep(A), Rm(A)),
    (Rm(A), Rm(A)),
    (Rm(A), Rm(B)),
    (Rm(A), Ls),
    (Rm(A), Verify),
    (Rm(A), Prune),
    (Rm(A), Chain),
    (Drop(A), Drop(A)),
    (Drop(A), Ls),
    (Verify, Verify),
    (Sh(Script::Backup), Sh(Script::Backup)),
    (Sh(Script::Backup), Sh(Script::Restore)),
    (Sh(Script::Backup), Sh(Script::Receive)),
    (Sh(Script::Backup), Sh(Script::Drill(1))),
    (Sh(Script::Backup), Sh(Script::Prune)),
    (Sh(Script::Backup), Sh(Script::Verify)),
    (Sh(Script::Backup), Sh(Script::Status)),
    (Sh(Script::Backup), Ls),
    (Sh(Script::Restore), Sh(Script::Restore)),
    (Sh(Script::Receive), Sh(Script::Receive)),
    (Sh(Script::Receive), Sh(Script::Prune)),
    (Sh(Script::Drill(1)), Sh(Script::Drill(1))),
    (Sh(Script::Drill(1)), Sh(Script::Drill(2))),
    (Sh(Script::Drill(1)), Sh(Script::Receive)),
    (Sh(Script::Prune), Sh(Script::Prune)),
    (Sh(Script::Verify), Sh(Script::Verify)),
    (Sh(Script::Verify), Sh(Script::Status)),
    (Sh(Script::At), Sh(Script::At)),
    (Sh(Script::Files(1)), Sh(Script::Files(2))),
];

/// Pairs that are only tried when they are named, and why: each is a fault
/// that was found here, and is not mended yet.
pub const OPEN: &[(Party, Party, &str)] = &[
    (Chunk(A), Put(A), "put clears what a chunk that began again writes"),
    (Other(A), Put(A), "chunk cuts other bytes while put sends"),
    (Chunk(A), Ls, LOST),
    (Drop(A), Ls, LOST),
    (Rm(A), Ls, LOST),
    (Put(A), Ls, LOST),
    (Sh(Script::Backup), Ls, LOST),
    (Chunk(A), Rm(A), NOT_EMPTY),
    (Chunk(A), Drop(A), NOT_EMPTY),
    (Put(A), Put(A), NOT_EMPTY),
    (Put(A), Rm(A), NOT_EMPTY),
    (Put(A), Drop(A), NOT_EMPTY),
    (Rm(A), Rm(A), NOT_EMPTY),
    (Drop(A), Drop(A), NOT_EMPTY),
    (Put(A), Put(B), GLUED),
    (Put(A), Rm(B), GLUED),
    (Put(A), Verify, GLUED),
    (Rm(A), Rm(B), GLUED),
    (Rm(A), Verify, GLUED),
    (Verify, Verify, GLUED),
    (Sh(Script::Backup), Sh(Script::Verify), GLUED),
    (Put(Increment), Rm(Full), BASE),
    (Chunk(Increment), Rm(Full), BASE),
    (Get(A), Get(A), "two get of one new file: File exists, and not 75"),
];

const LOST: &str = "glacier-ls tells to send again what is being cut, stored or dropped";
const NOT_EMPTY: &str = "a directory that another has opened is not empty";
const GLUED: &str = "a line behind half a line is lost";
const BASE: &str = "rm deletes the base of what is on its way";
