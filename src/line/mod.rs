//! The lines that the tools exchange: types, reader, writer.
//!
//! glacier-lines(5) is the contract. One flat JSON object a line, `type`
//! first, at most [`MAX`] bytes, printed with one write. Unknown fields are
//! ignored here; tools that pass lines on pass on the text they read.

mod catalog;
pub mod description;
mod features;
mod ids;
pub(crate) mod json_error;
mod key;
mod reader;
mod service_id;
mod stream;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use self::catalog::{
    Archive, Chain, Deleted, Described, HASHES, Hashes, Inventoried, Inventory, Job, Recipe,
    Stored, Upload, Verified,
};
pub use self::features::Features;
pub(crate) use self::ids::is_default;
pub use self::ids::{Borrowed, Filter, Format, Guid, StreamId};
pub use self::key::Key;
pub use self::reader::{JUNK, MAX, Reader, Text, endless};
pub use self::service_id::Id;
pub use self::stream::{End, Failed, Part, Snapshot, Stream, VERSION, Volume};
use crate::error::{Error, Result};

/// How put begins an `archive` line.
const ARCHIVE: &str = r#"{"type":"archive","v":1,"#;

/// How the reason of a line of a later version is told from that of a bad one.
const NEWER: &str = " is newer than this program";

/// Whether a line was refused because it is of a later version, which a
/// reader that skips bad lines must not skip.
pub fn is_newer(reason: &str) -> bool {
    reason.contains(NEWER)
}

/// The time, to the second as lines have it.
pub fn now() -> Timestamp {
    let now = Timestamp::now();
    now.round(jiff::Unit::Second).unwrap_or(now)
}

/// A line of a type that this program knows.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
#[expect(missing_docs, reason = "each variant holds the documented type of its name")]
pub enum Line {
    Stream(Stream),
    Snapshot(Snapshot),
    Part(Part),
    Volume(Volume),
    End(End),
    Failed(Failed),
    Hashes(Hashes),
    Archive(Archive),
    Stored(Stored),
    Deleted(Deleted),
    Verified(Verified),
    Chain(Chain),
    Job(Job),
    Upload(Upload),
    Inventoried(Inventoried),
    Inventory(Inventory),
    Recipe(Recipe),
}

/// When a line may be acted on, as glacier-window(1) stamped it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
pub struct Stamp {
    /// The window, in the grammar of glacier-window(1).
    #[serde(default)]
    pub window: Option<String>,
    /// Its zone; absent for the system's.
    #[serde(default)]
    pub tz: Option<String>,
}

impl Line {
    /// Reads a line, without its newline. `None` is a type that this program
    /// does not know.
    ///
    /// # Errors
    /// What is wrong with it, in words that go behind a line number.
    pub fn parse(text: &str) -> Result<Option<Self>, String> {
        #[derive(Deserialize)]
        struct Head<'a> {
            #[serde(borrow)]
            r#type: std::borrow::Cow<'a, str>,
            // Of any kind, as other types may have a field of this name.
            v: Option<serde_json::Value>,
        }
        if !text.trim_start().starts_with('{') {
            return Err("not a JSON object".to_owned());
        }
        // Most of what is parsed of a catalog need not be looked at twice.
        if text.starts_with(ARCHIVE)
            && let Ok(archive) = fields(text)
        {
            return Ok(Some(Self::Archive(archive)));
        }
        let head: Head = fields(text)?;
        let kind = head.r#type.as_ref();
        let newer = head.v.and_then(|v| v.as_u64()).filter(|v| *v > u64::from(VERSION));
        if let Some(v) = newer
            && matches!(kind, "stream" | "archive" | "stored" | "job")
        {
            return Err(format!("{kind}: version {v}{NEWER}, which knows {VERSION}"));
        }
        // Each type for itself: what serde derives for a tagged enum copies
        // every field before it looks at one.
        Ok(Some(match kind {
            "stream" => Self::Stream(fields(text)?),
            "snapshot" => Self::Snapshot(fields(text)?),
            "part" => Self::Part(fields(text)?),
            "volume" => Self::Volume(fields(text)?),
            "end" => Self::End(fields(text)?),
            "failed" => Self::Failed(fields(text)?),
            "hashes" => Self::Hashes(fields(text)?),
            "archive" => Self::Archive(fields(text)?),
            "stored" => Self::Stored(fields(text)?),
            "deleted" => Self::Deleted(fields(text)?),
            "verified" => Self::Verified(fields(text)?),
            "chain" => Self::Chain(fields(text)?),
            "job" => Self::Job(fields(text)?),
            "upload" => Self::Upload(fields(text)?),
            "inventoried" => Self::Inventoried(fields(text)?),
            "inventory" => Self::Inventory(fields(text)?),
            "recipe" => Self::Recipe(fields(text)?),
            _ => return Ok(None),
        }))
    }

    /// The line as it is printed, with its newline.
    ///
    /// # Errors
    /// When it does not fit in [`MAX`] bytes; names are refused before they
    /// can get that long.
    pub fn text(&self) -> Result<String> {
        let text = json(self)?;
        if text.len() > MAX {
            return Err(Error::Bug(format!("a line has {} bytes, over {MAX}", text.len())));
        }
        Ok(text)
    }
}

/// A line of JSON, with its newline.
///
/// # Errors
/// None that could happen.
pub fn json(line: &impl Serialize) -> Result<String> {
    serde_json::to_string(line)
        .map(|text| text + "\n")
        .map_err(|e| Error::Bug(format!("a line could not be written as JSON: {e}")))
}

/// An `archive` line as put writes it, of which catalogs are full, with its
/// texts where they stand. Any other is for [`Line::parse`].
pub fn archive(text: &str) -> Option<Archive<Borrowed<'_>>> {
    text.starts_with(ARCHIVE).then(|| fields(text).ok()).flatten()
}

impl Stamp {
    /// Reads the stamp of a line that [`Line::parse`] took.
    ///
    /// # Errors
    /// What is wrong with it, in words that go behind a line number.
    pub fn parse(text: &str) -> Result<Self, String> {
        fields(text)
    }
}

/// Reads the fields of a line.
fn fields<'t, T: Deserialize<'t>>(text: &'t str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|e| json_error::of(&e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::tree::Hash;

    const ID: &str = "00112233445566778899aabbccddeeff";

    fn part(spooled: &str) -> String {
        let hash = "9bc1b2a288b26af7257a36277ae3816a7d4f16e89c1e7e77d0a5c48bad62b360";
        format!(
            r#"{{"type":"part","stream":"{ID}","volume":0,"part":17,"offset":17825792,"size":1048576,"treehash":"{hash}","sha256":"{hash}"{spooled}}}"#
        )
    }

    #[test]
    fn writes_what_it_reads() {
        for spooled in ["", r#","spooled":false"#] {
            let text = part(spooled);
            let line = Line::parse(&text).unwrap().unwrap();
            assert_eq!(line.text().unwrap(), text + "\n");
        }
    }

    #[test]
    fn ignores_unknown_fields_and_tells_unknown_types() {
        let text = part(r#","colour":"blue","window":"22:00-06:00""#);
        assert!(matches!(Line::parse(&text), Ok(Some(Line::Part(_)))));
        assert_eq!(Stamp::parse(&text).unwrap().window.as_deref(), Some("22:00-06:00"));
        assert_eq!(Line::parse(r#"{"type":"colour"}"#), Ok(None));
        assert_eq!(Line::parse(r#"{"type":"colour","v":"beta"}"#), Ok(None));
    }

    #[test]
    fn says_what_is_wrong_with_a_line() {
        for (text, reason) in [
            ("", "not a JSON object"),
            ("17", "not a JSON object"),
            ("[]", "not a JSON object"),
            ("{}", "no \"type\""),
            (r#"{"type":"part""#, "a torn line"),
            (r#"{"type":"volume","stream":"00112233445566778899aabbccddeeff"}"#, "no \"volume\""),
            (
                r#"{"type":"volume","stream":"../etc"}"#,
                "a stream id is 32 lower-case hexadecimal digits",
            ),
            (
                r#"{"type":"stored","v":2}"#,
                "stored: version 2 is newer than this program, which knows 1",
            ),
            (
                r#"{"type":"archive","v":4294967296}"#,
                "archive: version 4294967296 is newer than this program, which knows 1",
            ),
            (r#"{"type":"end","type":"part"}"#, "\"type\" twice"),
        ] {
            assert_eq!(Line::parse(text).unwrap_err(), reason, "{text}");
        }
    }

    #[test]
    fn a_filter_is_short_and_printable_and_no_secret() {
        for text in ["age -r age1qqq", &"x".repeat(512), "zstd -3 | age -r \"a\\b\""] {
            assert_eq!(text.parse::<Filter>().unwrap().as_str(), text);
        }
        let bad = ["", " ", "a\n", "\u{1b}[31m", "é", &"x".repeat(513)];
        for text in bad {
            let why = text.parse::<Filter>().unwrap_err();
            assert_eq!(why, "a filter is 1 to 512 printable ASCII characters", "{text}");
        }
        for text in ["age -i AGE-SECRET-KEY-1QQQ", "age-secret-key-1qqq"] {
            let why = text.parse::<Filter>().unwrap_err();
            assert!(!why.contains("QQQ") && why.contains("secret key"), "{why}");
        }
    }

    /// An id is a piece of a request's path.
    #[test]
    fn a_line_with_an_id_that_is_none_is_refused() {
        let why = "an id is 1 to 255 letters, digits, \"_\" or \"-\"";
        let (long, hash) = ("x".repeat(256), Hash::of(b""));
        for bad in ["", "..", "a/b", "a%2fb", "a b", "é", "a\\u0000", &long] {
            assert!(bad.parse::<Id>().is_err(), "{bad}");
            let (at, of) = (r#""dest":"glacier://v","region":"r""#, format!(r#""stream":"{ID}""#));
            let time = "2026-01-01T00:00:00Z";
            let archive = format!(
                r#""v":1,{of},"host":"h","name":"n","volume":0,"offset":0,"size":1,"treehash":"{hash}","part_size":1048576,{at},"uploaded":"{time}""#
            );
            for text in [
                format!(r#""type":"archive",{archive},"archive_id":"{bad}""#),
                format!(
                    r#""type":"job",{archive},"archive_id":"{bad}","job_id":"j","tier":"Bulk","requested":"{time}""#
                ),
                format!(
                    r#""type":"job",{archive},"archive_id":"a","job_id":"{bad}","tier":"Bulk","requested":"{time}""#
                ),
                format!(
                    r#""type":"stored","v":1,{of},"host":"h","name":"n","format":"zfs","volumes":1,"size":1,"treehash":"{hash}","whole":"zfs",{at},"stored":"{time}","manifest_id":"{bad}""#
                ),
                format!(
                    r#""type":"verified",{of},"host":"h","name":"n","volume":0,"part":0,"parts":1,"offset":0,"size":1,{at},"verified":"{time}","archive_id":"{bad}""#
                ),
                format!(r#""type":"deleted","deleted":"{time}","archive_id":"{bad}""#),
                format!(r#""type":"deleted","deleted":"{time}","upload_id":"{bad}""#),
                format!(
                    r#""type":"upload",{at},"begun":"{time}","part_size":1048576,"size":1,"upload_id":"{bad}""#
                ),
                format!(
                    r#""type":"inventoried",{at},"size":1,"treehash":"{hash}","uploaded":"{time}","inventory":"{time}","archive_id":"{bad}""#
                ),
            ] {
                let text = format!("{{{text}}}");
                assert_eq!(Line::parse(&text).unwrap_err(), why, "{text}");
                let good = text.replace(&format!("id\":\"{bad}\""), "id\":\"-_9zA\"");
                assert!(matches!(Line::parse(&good), Ok(Some(_))), "{good}");
            }
        }
    }

    #[test]
    fn a_failed_line_always_fits() {
        let failed = Failed::new(None, &Error::Data("\u{1}é".repeat(5000)));
        assert!(Line::Failed(failed).text().unwrap().len() <= MAX);
    }

    #[test]
    fn reads_no_more_than_a_line_may_have() {
        let long = "x".repeat(3 * MAX);
        let fits = "y".repeat(MAX - 1);
        let input = format!("\n  \n{long}\n{fits}\nlast");
        let mut reader = Reader::new(input.as_bytes());
        assert_eq!(reader.read().unwrap(), Some(Text::Bad("longer than 4096 bytes".to_owned())));
        assert_eq!((reader.number, reader.start), (3, 4));
        assert_eq!(reader.read().unwrap(), Some(Text::Line(fits)));
        assert_eq!((reader.number, reader.start), (4, 5 + 3 * MAX as u64));
        assert_eq!(reader.read().unwrap(), Some(Text::Line("last".to_owned())));
        assert_eq!(reader.read().unwrap(), None);
        assert!(matches!(Reader::new(&b"\xff\n"[..]).read(), Ok(Some(Text::Bad(_)))));
    }
}
