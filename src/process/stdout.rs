//! Whether standard output was closed when the program started (`>&-`).
//!
//! Rust opens /dev/null in its place before `main`, so that all that is
//! written would vanish without a word; whether a file is that one or the
//! user's own /dev/null cannot be told later. So this looks first, before
//! `main`, which no safe code can. Held by
//! `tests/treehash.rs::a_closed_standard_output_is_a_failure`.

#![allow(unsafe_code, reason = "code before main, for which there is no safe way")]

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};

static CLOSED: AtomicBool = AtomicBool::new(false);

#[used]
#[cfg_attr(not(target_vendor = "apple"), unsafe(link_section = ".init_array"))]
#[cfg_attr(target_vendor = "apple", unsafe(link_section = "__DATA,__mod_init_func"))]
static LOOK: extern "C" fn() = look;

extern "C" fn look() {
    // SAFETY: the number is only asked about, and nothing else runs yet that
    // could open or close it.
    let stdout = unsafe { BorrowedFd::borrow_raw(1) };
    CLOSED.store(rustix::io::fcntl_getfd(stdout).is_err(), Ordering::Relaxed);
}

/// Whether the program was started without a standard output.
pub fn is_stdout_closed() -> bool {
    CLOSED.load(Ordering::Relaxed)
}
