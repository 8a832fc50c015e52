//! `--inspect`: what a stream is and holds, and whether it is whole, with
//! nothing kept of it.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::writer::say;
use crate::error::Result;
use crate::hash::tree::Fold;
use crate::line::{End, Line, Stream};
use crate::stream::source::Order;

/// Prints the lines that need no spool.
pub struct Teller<'a> {
    stream: &'a Stream,
    /// Set when the reading side has failed.
    stop: Arc<AtomicBool>,
    size: u64,
    /// The tree hashes of parts: folded, they are that of the stream.
    parts: Fold,
}

impl<'a> Teller<'a> {
    /// Begins with the `stream` line.
    ///
    /// # Errors
    /// When standard output cannot take it.
    pub fn start(stream: &'a Stream, stop: Arc<AtomicBool>) -> Result<Self> {
        say(&Line::Stream(stream.clone()).text()?, &stop)?;
        Ok(Self { stream, stop, size: 0, parts: Fold::default() })
    }

    /// Tells what is to be told of what the reading side has found.
    ///
    /// # Errors
    /// When standard output cannot take it.
    pub fn take(&mut self, order: Order) -> Result<()> {
        match order {
            Order::Snapshot(snapshot) => say(&Line::Snapshot(snapshot).text()?, &self.stop),
            Order::Block(_) => Ok(()),
            Order::EndPart(pending) => {
                let hashes = pending.wait()?;
                self.size += hashes.size;
                self.parts.push(hashes.treehash);
                Ok(())
            }
            Order::End(whole) => {
                let volumes = self.size.div_ceil(self.stream.volume_size);
                let end = End {
                    stream: self.stream.stream,
                    volumes: u32::try_from(volumes).unwrap_or(u32::MAX),
                    size: self.size,
                    treehash: std::mem::take(&mut self.parts).finish(),
                    whole: whole.proofs,
                    misplaced: whole.misplaced,
                };
                say(&Line::End(end).text()?, &self.stop)
            }
        }
    }
}
