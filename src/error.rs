//! What can go wrong, one kind for each exit code.
//!
//! The text of an error is the part of the message behind the tool's name:
//! `thing: what went wrong: why; what to do`.

use std::fmt;
use std::io;

/// A failure that ends a tool, or one stream of it.
#[derive(Debug)]
pub enum Error {
    /// The tool ran, and the answer is no; without a text nothing is printed.
    No(String),
    /// The command line is wrong.
    Usage(String),
    /// The input breaks glacier-lines(5), a hash does not fit, or a stream is
    /// not whole.
    Data(String),
    /// The service refuses, and will refuse again.
    Refused(String),
    /// What could not happen did.
    Bug(String),
    /// Reading or writing failed here: the thing, and the system's reason.
    Io(String, io::Error),
    /// Not finished, and nothing lost: the same command goes on later.
    Unfinished(String),
    /// There are no credentials, or the service does not take them.
    Credentials(String),
    /// The configuration is wrong: no region, an unknown zone, no catalog.
    Configuration(String),
    /// A command that was run failed; its own exit status is passed on.
    Command(u8, String),
}

/// The result of everything that can end a tool.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A failed system call on `thing`, which is what the user knows: a file,
    /// `stdin`, or `volume 0 part 17`, with what was tried.
    pub fn io(thing: impl Into<String>, reason: impl Into<io::Error>) -> Self {
        Self::Io(thing.into(), reason.into())
    }

    /// The exit code, as akashita(7) lists them.
    pub fn code(&self) -> u8 {
        match self {
            Self::No(_) => 1,
            Self::Usage(_) => 64,
            Self::Data(_) => 65,
            Self::Refused(_) => 69,
            Self::Bug(_) => 70,
            Self::Io(..) => 74,
            Self::Unfinished(_) => 75,
            Self::Credentials(_) => 77,
            Self::Configuration(_) => 78,
            Self::Command(code, _) => *code,
        }
    }

    /// The error that a `failed` line stands for: the same code and message.
    /// No failure is a success.
    pub fn from_code(code: u8, message: String) -> Self {
        match code {
            1 => Self::No(message),
            64 => Self::Usage(message),
            0 | 65 => Self::Data(message),
            69 => Self::Refused(message),
            70 => Self::Bug(message),
            75 => Self::Unfinished(message),
            77 => Self::Credentials(message),
            78 => Self::Configuration(message),
            code => Self::Command(code, message),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::No(text)
            | Self::Usage(text)
            | Self::Data(text)
            | Self::Refused(text)
            | Self::Bug(text)
            | Self::Unfinished(text)
            | Self::Credentials(text)
            | Self::Configuration(text)
            | Self::Command(_, text) => f.write_str(text),
            Self::Io(thing, reason) => write!(f, "{thing}: {}", plain(reason)),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(_, reason) => Some(reason),
            _ => None,
        }
    }
}

/// The system's reason as strerror(3) words it, without Rust's `(os error 28)`.
pub fn plain(reason: &io::Error) -> String {
    let text = reason.to_string();
    match text.find(" (os error ") {
        Some(end) => text.get(..end).unwrap_or(&text).to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_strerror_says() {
        let full = Error::io("volume 0 part 17: cannot write", io::Error::from_raw_os_error(28));
        assert_eq!(full.to_string(), "volume 0 part 17: cannot write: No space left on device");
        assert_eq!(full.code(), 74);
    }

    #[test]
    fn a_code_makes_the_error_it_came_from() {
        for code in [1, 64, 65, 69, 70, 74, 75, 77, 78] {
            assert_eq!(Error::from_code(code, String::new()).code(), code);
        }
        assert_eq!(Error::from_code(0, String::new()).code(), 65);
    }
}
