//! What stands around chunk's writing side in the models. There is a copy
//! for each variant.

pub mod inspect;
pub mod writer;

/// One volume may be stored already.
pub mod known {
    use crate::spool::Respool;
    use crate::hash::tree::Hash;

    pub struct Known(pub Option<u32>);

    impl Known {
        pub fn must_spool(&self, volume: u32) -> bool {
            self.0 != Some(volume)
        }

        pub fn differs(&self, _: u32, _: Hash) -> bool {
            false
        }

        pub fn note(&self, _: u32) -> Respool {
            Respool
        }
    }
}

/// There is room at once, or never.
pub mod room {
    use crate::stream::input::stopped;
    use crate::error::Result;
    use crate::spool::{Lock, Spool, StreamDir};
    use crate::sync::atomic::{AtomicBool, Ordering};
    use crate::thread;

    pub struct Room {
        pub is_there: bool,
    }

    #[derive(Clone, Copy)]
    pub struct Place<'a> {
        pub spool: &'a Spool,
        pub stream: &'a StreamDir,
        pub lock: &'a Lock,
    }

    impl Room {
        pub fn wait(&self, _: Place<'_>, _: (u32, u32), stop: &AtomicBool) -> Result<()> {
            while !self.is_there {
                if stop.load(Ordering::Relaxed) {
                    return Err(stopped());
                }
                thread::yield_now();
            }
            Ok(())
        }
    }
}
