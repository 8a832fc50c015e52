//! A whole stream, read to its proven end.
//!
//! `input` reads bytes into blocks, `source` cuts them at the edges of parts
//! and shows them to the hashing threads and to `zfs_stream`; `lineage` knows
//! what an end says that another wrote, and `proof` demands that the end of
//! the input is that of the stream.

pub mod input;
pub(crate) mod lineage;
pub(crate) mod proof;
pub(crate) mod source;
