//! Hashes: the tree hash of the service, SHA-256, and the threads that compute both.

pub mod pool;
pub mod sha256x2;
pub mod tree;
