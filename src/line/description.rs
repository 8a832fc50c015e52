//! The description that every archive carries: enough to rebuild a lost
//! catalog from the vault's inventory and the manifests alone.
//!
//! At most [`LONGEST`] bytes of printable ASCII, a JSON object with a
//! version; its grammar is in glacier-lines(5).

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::line::ids::{Guid, StreamId};
use crate::line::stream::{Stream, VERSION};

/// Bytes in a description (Amazon Glacier API reference, "Initiate Multipart
/// Upload").
pub const LONGEST: usize = 1024;

/// What an archive is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A volume of a stream.
    Volume,
    /// The catalog lines of a stream.
    Manifest,
}

/// Whether the descriptions of all archives of a stream fit.
///
/// # Errors
/// When the longest does not.
pub fn fits(stream: &Stream) -> Result<(), String> {
    let longest = Description {
        v: VERSION,
        kind: Kind::Manifest,
        stream: stream.stream,
        generation: u32::MAX,
        volume: Some(u32::MAX),
        host: stream.host.clone(),
        name: stream.name.clone(),
        guid: Some(Guid(u64::MAX)),
        from_guid: Some(Guid(u64::MAX)),
    };
    longest.text().map(drop)
}

/// The description of one archive.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Description {
    /// The version of this grammar.
    pub v: u32,
    /// What the archive is.
    pub kind: Kind,
    /// Which stream.
    pub stream: StreamId,
    /// Which attempt at it.
    #[serde(default)]
    pub generation: u32,
    /// Which volume of it; absent for a manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<u32>,
    /// Where the stream was cut.
    pub host: String,
    /// The stream's name.
    pub name: String,
    /// Guid of the snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guid: Option<Guid>,
    /// Guid of its base.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_guid: Option<Guid>,
}

impl Description {
    /// The text that the service is given; what is not printable ASCII is
    /// escaped as JSON allows.
    ///
    /// # Errors
    /// When it does not fit.
    pub fn text(&self) -> Result<String, String> {
        let json = serde_json::to_string(self).map_err(|e| e.to_string())?;
        let mut text = String::with_capacity(json.len());
        for c in json.chars() {
            if matches!(c, ' '..='~') {
                text.push(c);
            } else {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    write!(text, "\\u{unit:04x}").map_err(|e| e.to_string())?;
                }
            }
        }
        if text.len() > LONGEST {
            return Err(format!(
                "name and host need {} bytes of an archive's description, over {LONGEST}",
                text.len()
            ));
        }
        Ok(text)
    }

    /// Whether a description is one of this archive: of the same kind, stream,
    /// generation and volume. What else it says, and in which words, differs
    /// between versions of this program.
    pub fn identifies(&self, text: &str) -> bool {
        let of = |it: &Self| (it.kind, it.stream, it.generation, it.volume);
        Self::parse(text).is_some_and(|other| of(&other) == of(self))
    }

    /// Reads a description; `None` if it is not one of ours.
    pub fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok().filter(|description: &Self| description.v == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};

    fn description(name: &str) -> Description {
        Description {
            v: 1,
            kind: Kind::Volume,
            stream: StreamId::new(Sha256::new(), 1, 1),
            generation: u32::MAX,
            volume: Some(u32::MAX),
            host: "nas".into(),
            name: name.into(),
            guid: Some(Guid(u64::MAX)),
            from_guid: Some(Guid(u64::MAX)),
        }
    }

    #[test]
    fn any_name_comes_back_from_printable_ascii() {
        for name in ["tank/home@mon", "a \"b\"\\", "é\u{7f}\u{1}\n😀"] {
            let text = description(name).text().unwrap();
            assert!(text.bytes().all(|b| (0x20..=0x7e).contains(&b)), "{text}");
            assert!(text.starts_with('{'));
            assert_eq!(Description::parse(&text), Some(description(name)));
        }
        assert_eq!(Description::parse("photos of 2012"), None);
        assert_eq!(Description::parse(r#"{"v":1}"#), None);
    }

    /// Held against glacier-put by
    /// `tests/put/network.rs::an_archive_whose_answer_never_came_is_found_in_the_inventory`.
    #[test]
    fn what_identifies_an_archive_is_not_its_words() {
        let ours = description("tank/home@mon");
        let text = ours.text().unwrap();
        assert!(ours.identifies(&text));
        let more = text.replacen('{', "{ \"colour\": \"blue\", ", 1);
        assert!(ours.identifies(&more.replace("tank/home", "pool/home")), "{more}");
        let other = StreamId::new(Sha256::new(), 1, 2);
        for other in [
            Description { generation: 0, ..ours.clone() },
            Description { volume: Some(0), ..ours.clone() },
            Description { kind: Kind::Manifest, ..ours.clone() },
            Description { stream: other, ..ours.clone() },
        ] {
            assert!(!ours.identifies(&other.text().unwrap()), "{other:?}");
        }
        assert!(!ours.identifies("photos of 2012"));
    }

    #[test]
    fn a_name_of_zfs_always_fits_and_a_longer_one_is_refused() {
        assert!(description(&"x".repeat(255)).text().is_ok());
        assert!(description(&"\u{1}".repeat(255)).text().is_err());
    }
}
