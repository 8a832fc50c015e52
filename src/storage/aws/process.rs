//! A `credential_process` of the AWS configuration, held to a length.
//!
//! The SDK takes all that such a program prints into memory, so one that does
//! not end would fill that. It runs it by sh, so sh holds it: what has printed
//! more than [`MOST`] bytes finds its output closed, which kills it.

use std::path::{Path, PathBuf};

use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};

/// Bytes that it may print.
pub const MOST: u64 = 1 << 20;

/// The status of one that was killed for that, as sh tells it.
pub const FLOODED: &str = "exit status: 141";

/// What ends a value and begins a comment.
const COMMENT: [char; 2] = ['#', ';'];

/// What counts as a blank in these files.
const BLANKS: [char; 2] = [' ', '\t'];

/// The files that the AWS CLI reads, with their programs held.
pub fn files() -> EnvConfigFiles {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = || set("HOME");
    let path = |variable, usual: &str| match (set(variable), home()) {
        (Some(path), home) => match (path.strip_prefix("~"), home) {
            (Ok(rest), Some(home)) => Some(home.join(rest)),
            _ => Some(path),
        },
        (None, home) => home.map(|home| home.join(".aws").join(usual)),
    };
    let (config, credentials) =
        (path("AWS_CONFIG_FILE", "config"), path("AWS_SHARED_CREDENTIALS_FILE", "credentials"));
    let mut files = EnvConfigFiles::builder();
    files = match config.as_deref().and_then(with_program) {
        Some(text) => files.with_contents(EnvConfigFileKind::Config, held(&text)),
        None => files.include_default_config_file(true),
    };
    files = match credentials.as_deref().and_then(with_program) {
        Some(text) => files.with_contents(EnvConfigFileKind::Credentials, held(&text)),
        None => files.include_default_credentials_file(true),
    };
    files.build()
}

/// A file that names such a program. What cannot be read the SDK tells of.
fn with_program(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    text.to_ascii_lowercase().contains("credential_process").then_some(text)
}

/// A configuration whose programs are held.
fn held(text: &str) -> String {
    let mut lines = text.lines().peekable();
    let mut held = String::new();
    while let Some(line) = lines.next() {
        let goes_on = lines.peek().is_some_and(|next| next.starts_with(BLANKS));
        match program(line).filter(|_| !goes_on) {
            Some(command) => held += &hold(command),
            None => held += line,
        }
        held.push('\n');
    }
    held
}

/// The program of a line that has one, without the comment behind it.
fn program(line: &str) -> Option<&str> {
    let mut before = '=';
    let end = line.char_indices().find(|(_, c)| {
        let is_behind_blank = std::mem::replace(&mut before, *c).is_whitespace();
        is_behind_blank && COMMENT.contains(c)
    });
    let line = line.get(..end.map_or(line.len(), |(at, _)| at))?;
    let (key, value) = line.split_once('=')?;
    let (key, value) = (key.trim_end_matches(BLANKS), value.trim_matches(BLANKS));
    let is_one = key.eq_ignore_ascii_case("credential_process") && !value.is_empty();
    is_one.then_some(value)
}

/// The line that runs a program so. Nobody reads what it says of its failures,
/// and it may say a secret. No `;` stands behind a blank, which would begin a
/// comment.
fn hold(command: &str) -> String {
    format!(
        "credential_process = {{ status=$({{ {{ (exec 3>&- 4>&-;{command}) 2>/dev/null;echo $? >&3;}} | head -c {} >&4;}} 3>&1);}} 4>&1;exit $status",
        MOST + 1
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_program_is_found_as_the_sdk_finds_it() {
        for (line, found) in [
            ("credential_process = /a/b --c", Some("/a/b --c")),
            ("Credential_Process=x", Some("x")),
            ("credential_process\t= x # why", Some("x")),
            ("credential_process = x ; why", Some("x")),
            ("credential_process = x;y#z", Some("x;y#z")),
            ("credential_process =", None),
            (" credential_process = x", None),
            ("# credential_process = x", None),
            ("region = credential_process", None),
            ("[profile credential_process]", None),
        ] {
            assert_eq!(program(line), found, "{line}");
        }
        let text = "[default]\ncredential_process = x\n more\nregion = r\n";
        assert_eq!(held(text), text, "what goes on in the next line is left alone");
    }

    #[test]
    fn a_program_says_what_it_says_and_not_too_much() {
        let run = |command: &str| {
            let line = hold(command);
            assert_eq!(program(&line), line.strip_prefix("credential_process = "), "no comment");
            let ended = Command::new("sh").args(["-c", program(&line).unwrap()]).output().unwrap();
            assert_eq!(ended.stderr, b"", "{command}");
            (ended.status.to_string(), ended.stdout)
        };
        let ended = |code: u8| format!("exit status: {code}");
        assert_eq!(run("echo '{\"a\": 1}'"), (ended(0), b"{\"a\": 1}\n".to_vec()));
        assert_eq!(run("echo x >&2; exit 7"), (ended(7), Vec::new()));
        assert_eq!(run("no-such-program-here"), (ended(127), Vec::new()));
        assert_eq!(run("printf a; printf b"), (ended(0), b"ab".to_vec()));
        let (status, said) = run("yes");
        assert_eq!((&*status, said.len() as u64), (FLOODED, MOST + 1));
    }
}
