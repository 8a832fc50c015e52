//! What stands around the reading side in the models. There is a copy for
//! each variant.

pub mod source;

/// Input that ends as the scene wants it.
pub mod input {
    use std::io;

    use crate::error::{Error, Result};
    use crate::hash::pool::Block;
    use crate::sync::atomic::{AtomicBool, Ordering};
    use crate::thread;

    #[derive(Clone, Copy)]
    pub enum Ends {
        Well,
        /// With a failure to read.
        Badly,
        /// Not at all: the producer is silent for ever.
        Never,
    }

    pub struct Input {
        bytes: io::Cursor<Vec<u8>>,
        ends: Ends,
    }

    impl Input {
        pub fn of(bytes: Vec<u8>, ends: Ends) -> Self {
            Self { bytes: io::Cursor::new(bytes), ends }
        }

        pub fn fill(&mut self, block: &mut Block, size: usize, stop: &AtomicBool) -> Result<()> {
            block.fill_from(&mut self.bytes, size).map_err(|e| Error::io("stdin", e))?;
            while block.len() < size {
                match self.ends {
                    Ends::Well => return Ok(()),
                    Ends::Badly => {
                        let reason = io::Error::from(io::ErrorKind::ConnectionReset);
                        return Err(Error::io("stdin", reason));
                    }
                    Ends::Never if stop.load(Ordering::Relaxed) => return Err(stopped()),
                    Ends::Never => thread::yield_now(),
                }
            }
            Ok(())
        }

        pub fn is_abandoned(&self) -> Result<bool> {
            Ok(false)
        }

        pub fn is_over(&self) -> Result<bool> {
            Ok(true)
        }

        pub fn finish(&mut self, _: &AtomicBool) -> Result<()> {
            Ok(())
        }
    }

    const STOPPED: &str = "stopped";

    pub fn stopped() -> Error {
        Error::Unfinished(STOPPED.to_owned())
    }

    pub fn is_stopped(error: &Error) -> bool {
        matches!(error, Error::Unfinished(text) if text == STOPPED)
    }
}

/// There is none.
pub mod lineage {
    use std::path::Path;

    use crate::error::Result;
    use crate::line::{End, Snapshot, Stream, StreamId};
    use crate::zfs_stream::Head;

    pub enum Lineage {}

    impl Lineage {
        pub fn stream(&self) -> &Stream {
            match *self {}
        }

        pub fn path(&self) -> &Path {
            match *self {}
        }

        pub fn read(&mut self, _: impl FnMut(Snapshot)) -> Result<()> {
            match *self {}
        }

        pub fn end(&self) -> Result<&End> {
            match *self {}
        }
    }

    pub fn time(seconds: u64) -> Option<u64> {
        Some(seconds)
    }

    pub fn stream(_: &Head) -> Stream {
        Stream { stream: StreamId(0), part_size: 0, volume_size: 0 }
    }
}

/// Whether the end of the input is that of the stream.
pub mod proof {
    use super::lineage::Lineage;
    use crate::error::{Error, Result};
    use crate::zfs_stream::Ending;

    pub struct Proofs {
        pub whole: bool,
    }

    impl Proofs {
        pub fn demand(&self, _: bool, _: &str) -> Result<()> {
            Ok(())
        }

        pub fn at_end(&self, _: Option<Ending>, _: Option<&Lineage>) -> Result<String> {
            if self.whole {
                Ok("model".to_owned())
            } else {
                Err(Error::Data("not whole".to_owned()))
            }
        }
    }
}
