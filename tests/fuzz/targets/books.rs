//! put's journal, and the descriptions of archives.

use akashita::line::description::{Description, LONGEST};
use akashita::spool::journal::Journal;

/// A torn line at the end, as a crash leaves it, changes nothing; nor does
/// reading in two halves at a line's end.
pub fn journal(data: &[u8]) {
    let journal = Journal::read(data).unwrap();
    let volumes = journal.volumes();
    for volume in journal.unconfirmed() {
        assert!(journal.uploads.contains_key(&akashita::spool::journal::Target::Volume(volume)));
    }
    for (volume, hash) in &volumes {
        assert_eq!(journal.archive(*volume).map(|archive| archive.treehash), Some(*hash));
    }
    for torn in [&b"{\"type\":\"archived\",\"volume\":0,"[..], b"{", b"\xff", b""] {
        let torn = [data, b"\n", torn].concat();
        assert_eq!(Journal::read(&torn[..]).unwrap(), journal);
    }
}

/// What is taken for ours reads back, if it fits: printable ASCII, no longer
/// than the service allows.
pub fn description(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let Some(found) = Description::parse(&text) else { return };
    let Ok(written) = found.text() else { return };
    assert!(written.len() <= LONGEST && written.bytes().all(|b| (0x20..=0x7e).contains(&b)));
    assert!(written.starts_with('{'));
    assert_eq!(Description::parse(&written), Some(found));
}
