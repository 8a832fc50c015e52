//! What is here already of a stream or a volume: the whole parts at the
//! beginning of a file that equal their hashes.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use futures_util::stream::{self, StreamExt as _};
use tokio::task::spawn_blocking;

use crate::error::{Error, Result};
use crate::hash::tree::{Fold, Hash, LEAF, leaves};

/// Bytes of the parts at the beginning of `file` that equal their hashes;
/// `parts` are their bytes and hashes, in order. A few are hashed at once, and
/// none is held in memory.
///
/// # Errors
/// When the file cannot be read.
pub async fn verified(
    file: &Arc<File>,
    name: &str,
    parts: impl Iterator<Item = (u64, Hash)>,
) -> Result<u64> {
    let mut offset = 0_u64;
    let placed = parts.map(|(size, hash)| {
        let at = offset;
        offset = offset.saturating_add(size);
        (at, size, hash)
    });
    let hashed = stream::iter(placed).map(|(at, size, expected)| {
        let file = Arc::clone(file);
        async move {
            let found = spawn_blocking(move || tree(&file, at, size)).await;
            let found = found.map_err(|e| Error::Bug(format!("a thread did not end well: {e}")))?;
            let found = found.map_err(|e| Error::io(format!("{name}: cannot read"), e))?;
            Ok((size, found == Some(expected)))
        }
    });
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut hashed = hashed.buffered(cores.min(4));
    let mut whole = 0_u64;
    while let Some(part) = hashed.next().await {
        match part {
            Ok((size, true)) => whole = whole.saturating_add(size),
            Ok((_, false)) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(whole)
}

/// The tree hash of a part in a file; `None` if it ends before.
fn tree(file: &File, mut at: u64, mut size: u64) -> io::Result<Option<Hash>> {
    let mut pair = vec![0; 2 * LEAF];
    let mut fold = Fold::default();
    while size > 0 {
        let now = usize::try_from(size).unwrap_or(usize::MAX).min(pair.len());
        let Some(bytes) = pair.get_mut(..now) else { return Ok(None) };
        match file.read_exact_at(bytes, at) {
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => return Ok(None),
            read => read?,
        }
        leaves(bytes, &mut fold);
        let now = u64::try_from(now).unwrap_or(u64::MAX);
        (at, size) = (at.saturating_add(now), size.saturating_sub(now));
    }
    Ok(Some(fold.finish()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::tree::TreeHash;
    use std::io::Write as _;

    fn verified_of(bytes: &[u8], parts: &[(u64, Hash)]) -> u64 {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let parts = parts.iter().copied();
        runtime.block_on(verified(&Arc::new(file), "x", parts)).unwrap()
    }

    #[test]
    fn whole_parts_that_equal_their_hashes_count() {
        let data: Vec<u8> = (0..=250).cycle().take(7 * LEAF + 9).collect();
        let parts: Vec<(u64, Hash)> =
            data.chunks(3 * LEAF).map(|part| (part.len() as u64, TreeHash::of(part))).collect();
        let leaf = LEAF as u64;
        let size = data.len() as u64;
        assert_eq!(verified_of(&data, &parts), size);
        assert_eq!(verified_of(&[&data[..], b"more"].concat(), &parts), size);
        assert_eq!(verified_of(&data[..data.len() - 1], &parts), 6 * leaf);
        assert_eq!(verified_of(&data[..5 * LEAF], &parts), 3 * leaf);
        assert_eq!(verified_of(&data[..5], &parts), 0);
        assert_eq!(verified_of(&[], &parts), 0);
        for wrong in 0..3 {
            let mut other = data.clone();
            other[wrong * 3 * LEAF] ^= 1;
            assert_eq!(verified_of(&other, &parts), wrong as u64 * 3 * leaf);
        }
    }
}
