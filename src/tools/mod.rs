//! What each tool does.

pub mod choose;
pub mod chunk;
pub mod conf;
pub mod get;
pub mod local;
pub mod ls;
pub mod mend;
pub mod proof;
pub mod prune;
pub mod put;
pub mod receipts;
pub mod receive;
pub mod retrieve;
#[cfg(feature = "aws")]
pub mod rm;
pub mod verify;
pub mod window;
