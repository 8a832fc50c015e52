//! What is wrong with a line of JSON, in the words of a message: serde names
//! Rust's types, which are no words of a user's.

/// serde's reason, without its line and column: lines are told by number.
pub fn of(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = text.split(" at line ").next().unwrap_or(&text);
    if let Some(field) = text.strip_prefix("missing field ") {
        format!("no {}", field.replace('`', "\""))
    } else if let Some(field) = text.strip_prefix("duplicate field ") {
        format!("{} twice", field.replace('`', "\""))
    } else if error.is_eof() {
        "a torn line".to_owned()
    } else if error.is_data() {
        value(text).unwrap_or_else(|| text.to_owned())
    } else {
        format!("not a JSON object: {text}")
    }
}

/// `invalid type: integer `7`, expected a string` as `7 is not a text`.
fn value(text: &str) -> Option<String> {
    // A list has a length, and an object is what is wanted.
    if text.starts_with("invalid length ") {
        return Some("a list is not an object".to_owned());
    }
    let rest = text.strip_prefix("invalid type: ").or_else(|| text.strip_prefix("invalid value: "));
    let (found, expected) = rest?.rsplit_once(", expected ")?;
    let quoted = ["integer ", "floating point ", "boolean "];
    let found = match found {
        "map" => "an object",
        "sequence" => "a list",
        found => quoted
            .iter()
            .find_map(|kind| found.strip_prefix(kind))
            .map(|value| value.trim_matches('`'))
            .or_else(|| found.strip_prefix("string "))
            .unwrap_or(found),
    };
    let expected = match expected {
        "u8" => "a whole number from 0 to 255",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" => "a whole number from 0 to 18446744073709551615",
        "a string" => "a text",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        expected if expected.starts_with("struct ") => "an object",
        expected => expected,
    };
    Some(format!("{found} is not {expected}"))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    #[derive(Deserialize, Debug)]
    #[expect(dead_code, reason = "only what is wrong with them is looked at")]
    struct Seen {
        number: Option<u8>,
        text: Option<String>,
        list: Option<Vec<u32>>,
        bool: Option<bool>,
    }

    #[test]
    fn no_type_of_ours_is_named() {
        for (json, said) in [
            ("[1]", "a list is not an object"),
            ("7", "7 is not an object"),
            (r#"{"number":256}"#, "256 is not a whole number from 0 to 255"),
            (r#"{"number":-1}"#, "-1 is not a whole number from 0 to 255"),
            (r#"{"number":1.5}"#, "1.5 is not a whole number from 0 to 255"),
            (
                r#"{"number":"a, expected b"}"#,
                "\"a, expected b\" is not a whole number from 0 to 255",
            ),
            (r#"{"text":null,"list":{}}"#, "an object is not a list"),
            (r#"{"text":true}"#, "true is not a text"),
            (r#"{"bool":"\u001b"}"#, "\"\\u{1b}\" is not true or false"),
            (r#"{"list":[null]}"#, "null is not a whole number from 0 to 4294967295"),
            (r#"{"text":"","text":""}"#, "\"text\" twice"),
            ("{", "a torn line"),
            ("x", "not a JSON object: expected value"),
        ] {
            assert_eq!(super::of(&serde_json::from_str::<Seen>(json).unwrap_err()), said, "{json}");
        }
    }
}
