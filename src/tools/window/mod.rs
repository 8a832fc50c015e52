//! glacier-window(1): lines that wait until their window opens, and commands that
//! run while it is open.

pub mod hold;
mod process_group;
pub mod run;
