//! Archives that are being read, so that nobody removes their bytes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// How many answers read an archive.
#[derive(Clone, Default)]
pub struct Readers(Arc<Mutex<HashMap<String, usize>>>);

impl Readers {
    /// Counts an answer until what is given goes.
    pub fn keep(&self, archive: &str) -> Kept {
        let mut readers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *readers.entry(archive.to_owned()).or_default() += 1;
        Kept { archive: archive.to_owned(), readers: self.clone() }
    }

    /// Whether any answer reads it.
    pub fn has(&self, archive: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains_key(archive)
    }
}

/// An archive whose bytes stay for as long as this lives.
pub struct Kept {
    archive: String,
    readers: Readers,
}

impl Drop for Kept {
    fn drop(&mut self) {
        let mut readers = self.readers.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = readers.get_mut(&self.archive) {
            *count -= 1;
            if *count == 0 {
                readers.remove(&self.archive);
            }
        }
    }
}
