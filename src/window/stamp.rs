//! Stamps: the window a line may be acted on in, written into the line.

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde_json::Value;

use super::{Window, Zone};
use crate::line::json_error;

/// Bytes in the longest line, its newline counted (glacier-lines(5)).
pub const LONGEST_LINE: usize = 4096;

/// A line with its stamp.
#[derive(Debug, PartialEq, Eq)]
pub struct Stamped {
    /// Its type.
    pub kind: String,
    /// The line, with a newline at its end.
    pub line: Vec<u8>,
    /// Whether it passes a closed window: nothing is sent for a part that was
    /// not spooled, and bad news does not wait.
    pub passes: bool,
}

/// Adds a window, and its zone if that has a name, to a line. All else stays
/// as it is, byte for byte.
///
/// # Errors
/// When this is no flat JSON object with a `type`, when there is a stamp
/// already, or no room for one.
pub fn stamp(line: &[u8], window: &Window, zone: &Zone) -> Result<Stamped, String> {
    let seen: Seen = serde_json::from_slice(line).map_err(|e| reason(&e))?;
    let kind = seen.kind.ok_or("no \"type\"")?;
    if seen.stamped {
        return Err("already has a \"window\"".to_owned());
    }
    let open = line.trim_ascii_end().strip_suffix(b"}").ok_or("not a JSON object")?;
    let mut line = open.to_vec();
    let mut add = |name: &str, value: &str| {
        line.extend(format!(",\"{name}\":{}", Value::from(value)).into_bytes());
    };
    add("window", &window.to_string());
    if let Some(name) = zone.name() {
        add("tz", name);
    }
    line.extend(b"}\n");
    if line.len() > LONGEST_LINE {
        return Err(format!("longer than {LONGEST_LINE} bytes with its window"));
    }
    let passes = kind == "failed" || seen.unspooled;
    Ok(Stamped { kind, line, passes })
}

/// What `serde_json` says, without its line and column: they are of one line.
fn reason(error: &serde_json::Error) -> String {
    if error.is_data() { json_error::of(error) } else { "not JSON".to_owned() }
}

/// What matters here of a line.
#[derive(Default)]
struct Seen {
    kind: Option<String>,
    stamped: bool,
    unspooled: bool,
}

impl<'de> Deserialize<'de> for Seen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Fields)
    }
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Seen;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Seen, A::Error> {
        let mut seen = Seen::default();
        let mut names: Vec<String> = Vec::new();
        while let Some((name, value)) = map.next_entry::<String, Value>()? {
            if names.contains(&name) {
                return Err(A::Error::custom(format!("\"{name}\" twice")));
            }
            if nested(&value) {
                return Err(A::Error::custom(format!("\"{name}\" holds an object")));
            }
            match (name.as_str(), &value) {
                ("type", Value::String(kind)) => seen.kind = Some(kind.clone()),
                ("window" | "tz", _) => seen.stamped = true,
                ("spooled", Value::Bool(spooled)) => seen.unspooled = !spooled,
                _ => {}
            }
            names.push(name);
        }
        Ok(seen)
    }
}

fn nested(value: &Value) -> bool {
    match value {
        Value::Object(_) => true,
        Value::Array(values) => values.iter().any(nested),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamped(line: &str, zone: Option<&str>) -> Result<(String, bool), String> {
        let window = Window::parse("22:00-06:00").unwrap();
        let mut named = Zone::named(zone.unwrap_or("UTC")).unwrap();
        named.name = named.name.filter(|_| zone.is_some());
        stamp(line.as_bytes(), &window, &named)
            .map(|stamped| (String::from_utf8(stamped.line).unwrap(), stamped.passes))
    }

    #[test]
    fn adds_a_window_and_leaves_the_rest() {
        let line = r#"{"type":"part", "new" : 1.0e+3,"name":"gr\u00fc\/ß", "list":[1,[2]] } "#;
        let (out, passes) = stamped(line, Some("europe/berlin")).unwrap();
        let head = line.trim_end().strip_suffix('}').unwrap();
        assert_eq!(out, format!("{head},\"window\":\"22:00-06:00\",\"tz\":\"Europe/Berlin\"}}\n"));
        assert!(!passes);
        let (out, _) = stamped("{\"type\":\"end\"}\n", None).unwrap();
        assert_eq!(out, "{\"type\":\"end\",\"window\":\"22:00-06:00\"}\n");
    }

    #[test]
    fn lets_pass_what_sends_nothing() {
        for (line, passes) in [
            (r#"{"type":"part","spooled":false}"#, true),
            (r#"{"type":"part","spooled":true}"#, false),
            (r#"{"type":"part","spooled":"false"}"#, false),
            (r#"{"type":"failed","code":65}"#, true),
            (r#"{"type":"volume"}"#, false),
        ] {
            assert_eq!(stamped(line, None).unwrap().1, passes, "{line}");
        }
    }

    #[test]
    fn refuses_what_is_no_line() {
        let long = format!(r#"{{"type":"{}"}}"#, "x".repeat(LONGEST_LINE - 30));
        for (line, why) in [
            ("hello", "not JSON"),
            ("{\"type\":\"part\"", "not JSON"),
            ("{\"type\":\"part\"} {}", "not JSON"),
            ("[1]", "a list is not a JSON object"),
            ("{}", "no \"type\""),
            (r#"{"type":7}"#, "no \"type\""),
            (r#"{"type":"a","type":"b"}"#, "\"type\" twice"),
            (r#"{"type":"a","b":{}}"#, "\"b\" holds an object"),
            (r#"{"type":"a","b":[{}]}"#, "\"b\" holds an object"),
            (r#"{"type":"a","window":"00:00-24:00"}"#, "already has a \"window\""),
            (r#"{"type":"a","tz":"UTC"}"#, "already has a \"window\""),
            (&long, "longer than 4096 bytes with its window"),
        ] {
            assert_eq!(stamped(line, None).unwrap_err(), why, "{line}");
        }
    }
}
