//! Lines of glacier-lines(5).

use std::io::{BufRead, BufReader};

use akashita::line::{Line, MAX, Reader, Stamp, Text};

use super::is_a_message;

/// What a reader gives: numbers, places, and lines or what is wrong.
fn read(input: impl BufRead) -> Vec<(u64, u64, Result<String, String>)> {
    let mut reader = Reader::new(input);
    let mut found = Vec::new();
    while let Some(text) = reader.read().unwrap() {
        let text = match text {
            Text::Line(text) => Ok(text),
            Text::Bad(reason) => Err(reason),
        };
        found.push((reader.number, reader.start, text));
    }
    found
}

/// Lines are the same however the input is split; what is understood reads
/// back as it was written; what is not is told in a few words.
pub fn lines(data: &[u8]) {
    let found = read(data);
    for capacity in [1, 3, 4095, 4096, 4097] {
        assert_eq!(read(BufReader::with_capacity(capacity, data)), found);
    }
    for (number, start, text) in found {
        assert!(number > 0);
        let text = match text {
            Ok(text) => text,
            Err(reason) => {
                is_a_message(&reason, 100);
                continue;
            }
        };
        let start = usize::try_from(start).unwrap();
        assert!(text.len() <= MAX && !text.contains('\n'));
        assert_eq!(&data[start..start + text.len()], text.as_bytes());
        match Line::parse(&text) {
            Err(reason) => is_a_message(&reason, MAX + 200),
            Ok(None) => {}
            Ok(Some(line)) => {
                // Escapes can make it longer than a line may be.
                let Ok(printed) = line.text() else { continue };
                assert!(printed.len() <= MAX);
                assert_eq!(printed.find('\n'), Some(printed.len() - 1));
                assert_eq!(Line::parse(printed.trim_end()), Ok(Some(line)));
            }
        }
        if let Err(reason) = Stamp::parse(&text) {
            is_a_message(&reason, MAX + 200);
        }
    }
}
