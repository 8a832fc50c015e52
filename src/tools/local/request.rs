//! What a call asks for: its names, headers, query and JSON body, and the
//! rules that several calls share.

use bytes::Bytes;
use hyper::HeaderMap;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::call::Route;
use super::range;
use super::reply::{Answer, Refusal};
use crate::hash::tree::Hash;

/// Most bytes of an archive or job description.
const DESCRIPTION: usize = 1024;
/// Most entries of a page.
const PAGE: usize = 50;

/// A request that was understood and is properly signed.
pub struct Asked {
    /// The call and what its path names.
    pub route: Route,
    /// The region that it was signed for.
    pub region: String,
    /// The query, decoded.
    pub query: Vec<(String, String)>,
    /// All headers.
    pub headers: HeaderMap,
    /// The body, of calls that carry no archive.
    pub body: Bytes,
}

/// The page of a list that is asked for.
pub struct Page<'a> {
    /// Most entries.
    pub limit: usize,
    /// Where the page begins.
    pub marker: Option<&'a str>,
}

impl Asked {
    /// A header, if it is there.
    pub fn header(&self, name: &str) -> Answer<Option<&str>> {
        let text = self.headers.get(name).map(|value| value.to_str()).transpose();
        text.map_err(|_| Refusal::invalid(format!("{name} holds other than printable ASCII")))
    }

    /// A header that must be there.
    pub fn required(&self, name: &str) -> Answer<&str> {
        self.header(name)?.ok_or_else(|| Refusal::missing(name))
    }

    /// A count of bytes in a header.
    pub fn count(&self, name: &str) -> Answer<u64> {
        let text = self.required(name)?;
        range::number(text).ok_or_else(|| Refusal::invalid(format!("Invalid {name}: {text}")))
    }

    /// A hash in a header.
    pub fn hash(&self, name: &str) -> Answer<Hash> {
        let text = self.required(name)?;
        text.to_ascii_lowercase().parse().map_err(|_| {
            Refusal::invalid(format!("Invalid {name}: {text}; it is 64 hexadecimal digits"))
        })
    }

    /// A value of the query.
    pub fn asked(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The archive's description, without leading spaces.
    pub fn description(&self) -> Answer<String> {
        let text = self.header("x-amz-archive-description")?.unwrap_or_default();
        check_description(text)?;
        Ok(text.trim_start_matches(' ').to_owned())
    }

    /// The page of a list.
    pub fn page(&self) -> Answer<Page<'_>> {
        let limit = match self.asked("limit") {
            None => PAGE,
            Some(text) => range::number(text)
                .and_then(|limit| usize::try_from(limit).ok())
                .filter(|limit| (1..=PAGE).contains(limit))
                .ok_or_else(|| {
                    Refusal::invalid(format!("Invalid limit: {text}; it is 1 to {PAGE}"))
                })?,
        };
        Ok(Page { limit, marker: self.asked("marker").filter(|marker| !marker.is_empty()) })
    }

    /// The JSON body.
    pub fn json<T: DeserializeOwned>(&self) -> Answer<T> {
        serde_json::from_slice(&self.body).map_err(|e| {
            Refusal::new(400, "SerializationException", format!("Invalid JSON body: {e}"))
        })
    }
}

/// Printable ASCII, at most 1,024 bytes.
pub fn check_description(text: &str) -> Answer<()> {
    if text.len() > DESCRIPTION || !text.bytes().all(|b| (0x20..=0x7e).contains(&b)) {
        return Err(Refusal::invalid(format!(
            "Invalid description: it is at most {DESCRIPTION} bytes of ASCII from 32 to 126"
        )));
    }
    Ok(())
}

/// Cuts a page out of entries in order; gives it and the next one's marker.
pub fn cut<T>(entries: Vec<T>, limit: usize, marker: impl Fn(&T) -> String) -> (Vec<T>, Value) {
    let next = entries.get(limit).map_or(Value::Null, |entry| Value::String(marker(entry)));
    (entries.into_iter().take(limit).collect(), next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::local::call::Call;

    fn asked(query: &[(&str, &str)], headers: &[(&'static str, &str)]) -> Asked {
        Asked {
            route: Route { call: Call::ListVaults, vault: String::new(), id: String::new() },
            region: "us-east-1".to_owned(),
            query: query.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            headers: headers
                .iter()
                .map(|(k, v)| ((*k).parse().unwrap(), v.parse().unwrap()))
                .collect(),
            body: Bytes::new(),
        }
    }

    #[test]
    fn a_page_has_one_to_fifty_entries() {
        assert_eq!(asked(&[], &[]).page().unwrap().limit, 50);
        assert_eq!(asked(&[("limit", "1")], &[]).page().unwrap().limit, 1);
        for bad in ["0", "51", "-1", "x", "", "99999999999999999999"] {
            assert!(asked(&[("limit", bad)], &[]).page().is_err(), "{bad}");
        }
        assert_eq!(cut(vec![1, 2, 3], 2, i32::to_string), (vec![1, 2], "3".into()));
        assert_eq!(cut(vec![1, 2], 2, i32::to_string), (vec![1, 2], Value::Null));
    }

    #[test]
    fn a_description_is_printable_ascii() {
        let of = |text: &str| asked(&[], &[("x-amz-archive-description", text)]).description();
        assert_eq!(of("  a b").unwrap(), "a b");
        assert_eq!(of(&"x".repeat(1024)).unwrap().len(), 1024);
        assert!(of(&"x".repeat(1025)).is_err());
        assert!(of("a\tb").is_err());
        assert!(of("ü").is_err());
        assert_eq!(asked(&[], &[]).description().unwrap(), "");
    }

    #[test]
    fn names_the_header_that_is_missing() {
        let refusal = asked(&[], &[]).hash("x-amz-sha256-tree-hash").unwrap_err();
        assert_eq!(refusal.code, "MissingParameterValueException");
        assert!(refusal.message.contains("x-amz-sha256-tree-hash"));
    }
}
