use super::*;
use sha2::{Digest, Sha256};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

fn spool() -> (tempfile::TempDir, PathBuf, Spool, StreamDir) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spool");
    let spool = Spool::open(&path).unwrap();
    let id = StreamId::new(Sha256::new(), 1, 1);
    let stream = spool.stream(id).unwrap();
    let path = path.join(id.to_string());
    (dir, path, spool, stream)
}

fn put(stream: &StreamDir, volume: u32, part: u32, bytes: &[u8]) {
    let mut file = stream.create(volume, part).unwrap();
    file.write(bytes).unwrap();
    file.seal().unwrap();
}

#[test]
fn a_part_is_seen_only_when_it_is_sealed() {
    let (_dir, path, _spool, stream) = spool();
    let mut file = stream.create(0, 17).unwrap();
    file.write(b"abc").unwrap();
    assert!(stream.part(0, 17, 3).unwrap().is_none());
    file.seal().unwrap();
    assert!(stream.part(0, 17, 3).unwrap().is_some());
    assert!(stream.part(0, 17, 4).unwrap().is_none(), "another size");
    let mode = path.join("00000000-0017.part").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(stream.has((0, 17)).unwrap() && !stream.has((0, 16)).unwrap());
    assert_eq!(stream.used(|_| true).unwrap(), 3);
    assert_eq!(stream.used(|(volume, _)| volume > 0).unwrap(), 0);
    stream.remove(0, 0).unwrap();
    assert_eq!(stream.used(|_| true).unwrap(), 0);
}

#[test]
fn removes_the_parts_behind_a_shorter_end() {
    let (_dir, _path, _spool, stream) = spool();
    (0..4).for_each(|part| put(&stream, 1, part, b"x"));
    put(&stream, 2, 3, b"x");
    stream.remove(1, 2).unwrap();
    let there = |volume, part| stream.part(volume, part, 1).unwrap().is_some();
    assert_eq!([there(1, 0), there(1, 1), there(1, 2), there(2, 3)], [true, true, false, true]);
    stream.remove_from((1, 1)).unwrap();
    assert_eq!([there(1, 0), there(1, 1), there(2, 3)], [true, false, false]);
}

/// A chunk that works beside put may be writing it.
#[test]
fn what_put_clears_are_parts_that_are_finished() {
    let (_dir, path, _spool, stream) = spool();
    put(&stream, 0, 0, b"x");
    let mut file = stream.create(0, 1).unwrap();
    file.write(b"abc").unwrap();
    stream.remove(0, 0).unwrap();
    assert_eq!(std::fs::read_dir(&path).unwrap().count(), 1);
    file.seal().unwrap();
    assert!(stream.part(0, 1, 3).unwrap().is_some());
}

#[test]
fn room_is_claimed_until_the_volume_is_whole_or_its_chunk_ends() {
    let (dir, _path, spool, stream) = spool();
    let other = StreamId::new(Sha256::new(), 2, 2);
    let lock = stream.lock(Holder::Chunk).unwrap();
    assert_eq!(spool.claimed(other).unwrap(), None);
    lock.claim(7, 100).unwrap();
    assert!(lock.has_claimed(7).unwrap() && !lock.has_claimed(6).unwrap());
    assert_eq!(spool.claimed(other).unwrap(), Some(100));
    assert_eq!(spool.claimed(stream.id()).unwrap(), None, "its own is no other's");
    put(&stream, 7, 0, &[0; 60]);
    put(&stream, 6, 0, &[0; 60]);
    assert_eq!(spool.claimed(other).unwrap(), Some(40));
    assert_eq!(stream.holder(Holder::Chunk), Some(std::process::id().to_string()));
    lock.claim(8, 100).unwrap();
    assert_eq!(spool.claimed(other).unwrap(), Some(100));
    lock.unclaim().unwrap();
    assert_eq!(spool.claimed(other).unwrap(), None);
    lock.claim(9, 100).unwrap();
    drop(lock);
    assert_eq!(spool.claimed(other).unwrap(), None, "nobody will use it");
    // Two never look at once.
    let beside = Spool::open(&dir.path().join("spool")).unwrap();
    let looking = spool.lock_room(Duration::ZERO).unwrap();
    assert!(looking.is_some() && beside.lock_room(Duration::ZERO).unwrap().is_none());
    drop(looking);
    assert!(beside.lock_room(Duration::ZERO).unwrap().is_some());
}

#[test]
fn a_part_that_is_given_up_takes_no_room() {
    let (_dir, path, _spool, stream) = spool();
    stream.create(0, 0).unwrap().write(b"abc").unwrap();
    assert_eq!(std::fs::read_dir(path).unwrap().count(), 0);
}

#[test]
fn opens_nothing_but_regular_files_of_its_own() {
    let (dir, path, _spool, stream) = spool();
    let outside = dir.path().join("outside");
    std::fs::write(&outside, b"x").unwrap();
    let name = path.join("00000000-0000.part");
    std::os::unix::fs::symlink(&outside, &name).unwrap();
    assert!(stream.part(0, 0, 1).is_err(), "a symbolic link");
    std::fs::remove_file(&name).unwrap();
    std::fs::hard_link(&outside, &name).unwrap();
    assert!(stream.part(0, 0, 1).is_err(), "a hard link");
    std::fs::remove_file(&name).unwrap();
    std::fs::create_dir(&name).unwrap();
    assert!(stream.part(0, 0, 1).is_err(), "a directory");
}

#[test]
fn refuses_a_spool_that_others_may_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spool");
    Spool::open(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o750)).unwrap();
    assert_eq!(Spool::open(&path).unwrap_err().code(), 78);
}

#[test]
fn a_second_holder_of_a_lock_is_told_who_has_it() {
    let (_dir, _path, _spool, stream) = spool();
    assert!(!stream.is_locked(Holder::Put));
    let lock = stream.lock(Holder::Put).unwrap();
    assert!(stream.is_locked(Holder::Put));
    assert!(!stream.is_locked(Holder::Chunk));
    let error = stream.lock(Holder::Put).unwrap_err();
    assert_eq!(error.code(), 75);
    assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
    drop(lock);
    assert!(stream.lock(Holder::Put).is_ok());
}

fn receipt(stream: &StreamDir) -> String {
    format!("{}.glacier-v.jsonl", stream.id())
}

#[test]
fn a_stored_stream_leaves_its_receipt() {
    let (_dir, path, spool, stream) = spool();
    let lock = stream.lock(Holder::Put).unwrap();
    put(&stream, 0, 0, b"x");
    stream.journal().unwrap().append("journal", "{}\n").unwrap();
    assert!(spool.retire(&stream, Some(&receipt(&stream)), Duration::ZERO).unwrap());
    assert!(!path.exists());
    assert_eq!(spool.receipts(stream.id()).unwrap().len(), 1);
    drop(lock);
    assert_eq!(stream.lock(Holder::Chunk).unwrap_err().code(), 75);
}

#[test]
fn a_stored_stream_that_chunk_works_on_keeps_its_journal() {
    let (_dir, path, spool, stream) = spool();
    let _put = stream.lock(Holder::Put).unwrap();
    let chunk = stream.lock(Holder::Chunk).unwrap();
    put(&stream, 0, 0, b"x");
    stream.journal().unwrap().append("journal", "{}\n").unwrap();
    assert!(!spool.retire(&stream, Some(&receipt(&stream)), Duration::ZERO).unwrap());
    assert!(path.join("put.jsonl").exists() && path.join("00000000-0000.part").exists());
    assert!(spool.receipts(stream.id()).unwrap().is_empty());
    drop(chunk);
    assert!(spool.retire(&stream, Some(&receipt(&stream)), Duration::ZERO).unwrap());
    assert!(!path.exists());
    assert_eq!(spool.receipts(stream.id()).unwrap().len(), 1);
}

#[test]
fn what_another_has_begun_in_a_directory_stays() {
    let (_dir, path, spool, stream) = spool();
    std::fs::write(path.join("lines.new"), b"").unwrap();
    spool.unmake(&stream).unwrap();
    assert!(path.join("lines.new").exists());
    std::fs::remove_file(path.join("lines.new")).unwrap();
    spool.unmake(&stream).unwrap();
    assert!(!path.exists());
}

/// How many files of this process are open by a name, removed or not.
fn open_files(name: &str) -> usize {
    let open = std::fs::read_dir("/proc/self/fd").into_iter().flatten();
    let paths = open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    paths
        .filter(|path| path.to_string_lossy().trim_end_matches(" (deleted)").ends_with(name))
        .count()
}

#[test]
#[cfg(target_os = "linux")]
fn a_lock_is_the_file_that_has_the_name() {
    let (_dir, path, _spool, stream) = spool();
    let name = path.join("put.lock");
    let first = stream.lock(Holder::Put).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| stream.lock_within(Holder::Put, Duration::from_secs(2)));
        // It has opened the lock that goes.
        let begin = Instant::now();
        while open_files(name.to_str().unwrap()) < 2 {
            assert!(begin.elapsed() < Duration::from_mins(1));
        }
        let second = File::create(path.join("second")).unwrap();
        flock(&second, FlockOperation::LockExclusive).unwrap();
        std::fs::rename(path.join("second"), &name).unwrap();
        drop(first);
        let told = waiting.join().unwrap();
        assert_eq!(told.map(drop).unwrap_err().code(), 75, "two hold a lock at once");
        drop(second);
    });
    assert!(stream.lock(Holder::Put).is_ok());
}

#[test]
fn who_deletes_is_not_waited_for_without_end() {
    let (_dir, _path, spool, _stream) = spool();
    let looks = |alone| spool.lock_bases_within(Duration::ZERO, alone);
    let deletes = looks(true).unwrap();
    for alone in [false, true] {
        assert_eq!(looks(alone).unwrap_err().code(), 75);
    }
    drop(deletes);
    let one = looks(false).unwrap();
    let other = looks(false).unwrap();
    assert_eq!(looks(true).unwrap_err().code(), 75);
    drop((one, other));
    assert!(looks(true).is_ok());
}
