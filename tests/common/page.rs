//! A manual in mdoc(7), as far as our pages use it.

use std::collections::BTreeSet;
use std::path::Path;

pub struct Page {
    pub name: String,
    pub number: String,
    lines: Vec<String>,
}

/// A command of EXAMPLES, and how its text says that it ends.
#[derive(Debug, PartialEq, Eq)]
pub struct Example {
    pub command: String,
    pub status: i32,
}

impl Page {
    pub fn read(path: &Path) -> Self {
        Self {
            name: path.file_stem().unwrap().to_str().unwrap().to_owned(),
            number: path.extension().unwrap().to_str().unwrap().to_owned(),
            lines: std::fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect(),
        }
    }

    /// The lines of a section; none if it is not there.
    pub fn section(&self, title: &str) -> Vec<&str> {
        let heading = format!(".Sh {title}");
        let lines = self.lines.iter().map(String::as_str);
        lines
            .skip_while(|line| *line != heading)
            .skip(1)
            .take_while(|line| !line.starts_with(".Sh "))
            .collect()
    }

    /// The long options that a section names.
    pub fn options(&self, title: &str) -> BTreeSet<String> {
        self.section(title).into_iter().flat_map(flags).collect()
    }

    /// The long options that the page describes, each in a list.
    pub fn listed_options(&self) -> BTreeSet<String> {
        let items = self.lines.iter().filter(|line| line.starts_with(".It Fl "));
        items.flat_map(|line| flags(line)).collect()
    }

    /// The statuses that EXIT STATUS lists.
    pub fn statuses(&self) -> Vec<i32> {
        self.exits().into_iter().map(|(status, _)| status).collect()
    }

    /// The rows of EXIT STATUS: each status, and what is said of it.
    pub fn exits(&self) -> Vec<(i32, String)> {
        let mut rows: Vec<(Vec<i32>, String)> = Vec::new();
        for line in self.section("EXIT STATUS") {
            if let Some(item) = line.strip_prefix(".It ") {
                let statuses = item.split([' ', ',']).filter_map(|word| word.parse().ok());
                rows.push((statuses.collect(), String::new()));
            } else if line == ".El" {
                break;
            } else if let Some((_, text)) = rows.last_mut() {
                text.push_str(&spoken(line, &self.name));
                text.push(' ');
            }
        }
        let each = |(statuses, text): (Vec<i32>, String)| {
            let text = text.replace(" ,", ",").replace(" .", ".").replace(" ;", ";");
            statuses.into_iter().map(move |status| (status, text.clone()))
        };
        rows.into_iter().flat_map(each).collect()
    }

    /// What the page refers to, as `name(number)`.
    pub fn references(&self) -> BTreeSet<String> {
        let lines = self.lines.iter().filter_map(|line| line.split_once("Xr "));
        lines
            .filter_map(|(_, rest)| {
                let mut words = rest.split_whitespace();
                Some(format!("{}({})", words.next()?, words.next()?))
            })
            .collect()
    }

    /// The commands of EXAMPLES: each `.Dl`, and each `.Bd -literal` that
    /// shows no output.
    pub fn examples(&self) -> Vec<Example> {
        let mut examples = Vec::new();
        let mut text = String::new();
        let mut lines = self.section("EXAMPLES").into_iter();
        while let Some(line) = lines.next() {
            let command = if let Some(line) = line.strip_prefix(".Dl ") {
                command(&[plain(&unquote(line))])
            } else if line.starts_with(".Bd -literal") {
                let block = lines.by_ref().take_while(|line| *line != ".Ed").map(plain);
                command(&block.collect::<Vec<_>>())
            } else {
                text.push_str(line);
                text.push(' ');
                continue;
            };
            let status = status(&text);
            examples.extend(command.map(|command| Example { command, status }));
            text.clear();
        }
        examples
    }
}

/// A line as it is read: macros gone, options with their hyphens.
fn spoken(line: &str, name: &str) -> String {
    let Some(request) = line.strip_prefix('.') else { return plain(line) };
    let mut words = Vec::new();
    for word in request.split(' ') {
        match word {
            "Nm" => words.push(name.to_owned()),
            "Ar" | "Cm" | "Pa" | "Xr" | "Ev" | "Li" | "Fl" | "Pp" | "Dq" => {}
            _ => match word.strip_prefix('-') {
                Some(option) => words.push(format!("--{option}")),
                None => words.push(word.to_owned()),
            },
        }
    }
    plain(&words.join(" "))
}

/// The long options on a line: `Fl -name`.
fn flags(line: &str) -> Vec<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let pairs = words.windows(2).filter(|pair| matches!(pair[0], "Fl" | ".Fl"));
    pairs
        .filter_map(|pair| pair[1].strip_prefix('-'))
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The command in what an example shows. Behind a prompt stand commands, and
/// without one what begins as a line of glacier-lines(5) is output.
fn command(shown: &[String]) -> Option<String> {
    let prompted: Vec<&str> = shown.iter().filter_map(|line| line.strip_prefix("$ ")).collect();
    if !prompted.is_empty() {
        return Some(prompted.join("\n"));
    }
    let output = shown.first().is_none_or(|line| line.starts_with("{\""));
    (!output).then(|| shown.join("\n"))
}

/// The status that a text announces: `exits 75`, `status is 1`; else 0.
fn status(text: &str) -> i32 {
    let words: Vec<&str> = text.split_whitespace().collect();
    let announced = words.iter().enumerate().find_map(|(i, word)| {
        let announces = matches!(*word, "exit" | "exits" | "status");
        let near = words.get(i + 1..words.len().min(i + 4))?;
        near.iter()
            .filter(|_| announces)
            .find_map(|word| word.trim_matches([',', '.', ':', ';']).parse().ok())
    });
    announced.unwrap_or(0)
}

/// The arguments of a macro as one line: a quoted one loses its quotes.
fn unquote(line: &str) -> String {
    let mut rest = line.trim();
    let mut arguments = Vec::new();
    while !rest.is_empty() {
        let argument;
        (argument, rest) = match rest.strip_prefix('"') {
            None => {
                let (argument, rest) = rest.split_once(' ').unwrap_or((rest, ""));
                (argument.to_owned(), rest)
            }
            Some(quoted) => {
                let mut argument = String::new();
                let mut rest = quoted;
                while let Some((before, behind)) = rest.split_once('"') {
                    argument.push_str(before);
                    rest = behind;
                    match behind.strip_prefix('"') {
                        Some(behind) => {
                            argument.push('"');
                            rest = behind;
                        }
                        None => break,
                    }
                }
                (argument, rest)
            }
        };
        arguments.push(argument);
        rest = rest.trim_start();
    }
    arguments.join(" ")
}

/// Text without the escapes of roff.
fn plain(text: &str) -> String {
    let mut text = text.to_owned();
    for (escape, meant) in [
        ("\\&", ""),
        ("\\-", "-"),
        ("\\(aq", "'"),
        ("\\(dq", "\""),
        ("\\(ga", "`"),
        ("\\(ha", "^"),
        ("\\(ti", "~"),
        ("\\e", "\\"),
    ] {
        text = text.replace(escape, meant);
    }
    text
}

#[test]
fn reads_commands_as_roff_shows_them() {
    let text = r#".Sh EXAMPLES
Print it:
.Pp
.Dl "a ""b"" | c \(aq\e0\(aq" d
.Pp
A closed window exits 1:
.Dl e \-\-f
It prints:
.Bd -literal -offset indent
{"type":"end"}
.Ed
In two lines:
.Bd -literal
$ g
output
$ h
.Ed
.Sh SEE ALSO
.Dl not this
"#;
    let page = Page {
        name: String::new(),
        number: String::new(),
        lines: text.lines().map(str::to_owned).collect(),
    };
    let example = |command: &str, status| Example { command: command.to_owned(), status };
    let commands = [example(r#"a "b" | c '\0' d"#, 0), example("e --f", 1), example("g\nh", 0)];
    assert_eq!(page.examples(), commands);
}
