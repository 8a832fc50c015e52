//! What may reach a terminal.
//!
//! Messages hold what others wrote: names in streams and lines, answers of a
//! service, paths, arguments. All of it passes [`printable`] at the edge
//! (`process` for messages, `progress` for progress), so that no place that makes
//! a message has to think of it.

use icu_properties::CodePointSetData;
use icu_properties::props::DefaultIgnorableCodePoint;

/// The longest a message gets, in characters, with room for the worst that
/// an operator needs: two long paths and a reason.
const LONGEST: usize = 4096;

/// How much of a message that is too long is kept of its end, where the
/// reason stands and what to do.
const TAIL: usize = 1024;

/// A text as one line of what a terminal shows as it stands: characters that
/// would be obeyed, reorder the line or are not seen are written as escapes;
/// user information in a URL is left out; what is absurdly long loses its
/// middle.
pub fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in without_user(text).chars() {
        if is_unsafe(c) {
            safe.extend(c.escape_default());
        } else {
            safe.push(c);
        }
    }
    shortened(safe)
}

/// Values as one line for sh, which needs no program to take it apart: a tab
/// between two, and never two tabs together, as `read` would take them for
/// one. What is absent or empty is `-`; what would be taken for something
/// else is written as `printf %b` reads it.
pub fn row<'v>(values: impl IntoIterator<Item = &'v str>) -> String {
    let mut line = String::new();
    for value in values {
        if !line.is_empty() {
            line.push('\t');
        }
        match value {
            "" => line.push('-'),
            "-" => line.push_str("\\0055"),
            _ => value.chars().for_each(|c| match c {
                '\t' => line.push_str("\\t"),
                '\n' => line.push_str("\\n"),
                '\\' => line.push_str("\\\\"),
                c if c.is_ascii_control() => {
                    let octal = format!("\\0{:03o}", u32::from(c));
                    line.push_str(&octal);
                }
                c => line.push(c),
            }),
        }
    }
    line
}

/// Whether a terminal may do anything else with it than show it: it is not
/// seen, reorders what is around it, ends the line or is obeyed. What selects
/// the form of an emoji is a part of that.
fn is_unsafe(c: char) -> bool {
    let unseen = CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c);
    unseen && !matches!(c, '\u{fe00}'..='\u{fe0f}')
        || c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{fff9}'..='\u{fffb}')
}

/// The text with `https://...@host` for `https://user:password@host`: proxies
/// and endpoints may be given with a password in them.
fn without_user(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once("://") {
        let authority = behind
            .split(|c: char| matches!(c, '/' | '?' | '#' | '"' | '\'') || c.is_whitespace())
            .next()
            .unwrap_or_default();
        clean.push_str(before);
        clean.push_str("://");
        rest = match authority.rsplit_once('@') {
            Some((user, _)) => {
                clean.push_str("...");
                behind.get(user.len()..).unwrap_or_default()
            }
            None => behind,
        };
    }
    clean.push_str(rest);
    clean
}

/// The text without its middle, if it is longer than any message should be.
fn shortened(text: String) -> String {
    let length = text.chars().count();
    if length <= LONGEST {
        return text;
    }
    let head = text.chars().take(LONGEST - TAIL - 3);
    let tail = text.chars().skip(length - TAIL);
    head.chain("...".chars()).chain(tail).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_control_characters_instead_of_obeying_them() {
        assert_eq!(printable("a\u{1b}[31m\n\u{202e}é"), "a\\u{1b}[31m\\n\\u{202e}é");
        assert_eq!(printable("\u{9b}2J\r\u{7f}\0"), "\\u{9b}2J\\r\\u{7f}\\u{0}");
        assert_eq!(printable("a\u{2028}b\u{200b}c\u{feff}"), "a\\u{2028}b\\u{200b}c\\u{feff}");
    }

    /// Whatever comes, a line comes out that can be read.
    #[test]
    fn no_character_ends_a_line_or_is_obeyed() {
        // What Unicode calls format controls, and what only takes up room.
        let unseen = "\u{ad}\u{34f}\u{61c}\u{115f}\u{17b4}\u{180e}\u{200b}\u{202e}\u{2064}\u{2069}\u{3164}\
            \u{feff}\u{ffa0}\u{fff8}\u{fffb}\u{1bca0}\u{1d173}\u{e0001}\u{e0fff}";
        assert!(unseen.chars().all(is_unsafe));
        let all: String = ('\0'..=char::MAX).filter(|c| is_unsafe(*c) || c.is_ascii()).collect();
        let chunks: Vec<char> = all.chars().collect();
        for text in chunks.chunks(100) {
            let safe = printable(&text.iter().collect::<String>());
            assert!(safe.chars().all(|c| !is_unsafe(c)), "{safe}");
        }
        assert_eq!(
            printable("größe e\u{301} 写真 🐈 ❤\u{fe0f}"),
            "größe e\u{301} 写真 🐈 ❤\u{fe0f}"
        );
    }

    /// Held against what sh makes of it, too, by `tests/chain.rs`.
    #[test]
    fn a_row_has_one_field_for_each_value_whatever_that_is() {
        assert_eq!(row(["tank/a b", "", "-", "-x"]), "tank/a b\t-\t\\0055\t-x");
        assert_eq!(row(["\ta\nb\\", "\u{1b}\r\u{7f}é"]), "\\ta\\nb\\\\\t\\0033\\0015\\0177é");
        assert_eq!(row([]), "");
    }

    #[test]
    fn no_password_of_a_url_is_shown() {
        for (text, shown) in [
            ("http://user:pass@proxy:3128: refused", "http://...@proxy:3128: refused"),
            ("https://a@b@c/x@y, https://d", "https://...@c/x@y, https://d"),
            ("glacier://v: tank/home@mon", "glacier://v: tank/home@mon"),
            ("(http://u:p@h/) (http://u2@h)", "(http://...@h/) (http://...@h)"),
            ("://", "://"),
            ("https://u:p\u{1b}@h", "https://...@h"),
        ] {
            assert_eq!(printable(text), shown);
        }
    }

    #[test]
    fn what_is_too_long_keeps_its_beginning_and_its_end() {
        let long = format!("name: {}: run the same command again", "\u{1b}é".repeat(1 << 20));
        let safe = printable(&long);
        assert_eq!(safe.chars().count(), LONGEST);
        assert!(safe.starts_with("name: \\u{1b}é"), "{safe}");
        assert!(safe.ends_with(": run the same command again"), "{safe}");
    }
}
