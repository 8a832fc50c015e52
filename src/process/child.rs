//! Commands that stand behind `--`, and their statuses, as sh(1) has them.

use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, ExitStatus};

use crate::error::{Error, Result};

/// The command as messages name it.
pub fn name(line: &[OsString]) -> String {
    line.first().map(|program| program.to_string_lossy().into_owned()).unwrap_or_default()
}

/// A command with its arguments.
///
/// # Errors
/// When there is none, which the command line does not allow.
pub fn of(line: &[OsString]) -> Result<Command> {
    let (program, arguments) =
        line.split_first().ok_or_else(|| Error::Bug("a command without a name".to_owned()))?;
    let mut command = Command::new(program);
    command.args(arguments);
    Ok(command)
}

/// Whether the program is where execvp(3) looks for it.
pub fn is_there(line: &[OsString]) -> bool {
    let program = Path::new(line.first().map_or("".as_ref(), OsString::as_os_str));
    if program.components().count() > 1 || program.is_absolute() {
        return program.exists();
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/bin:/usr/bin".into());
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

/// The error of a command that is nowhere.
pub fn missing(name: &str) -> Error {
    Error::Command(127, format!("{name}: no such command"))
}

/// The error of a command that the system does not start.
pub fn unrun(name: &str, error: io::Error) -> Error {
    let code = if error.kind() == ErrorKind::NotFound { 127 } else { 126 };
    let error = Error::io("cannot run", error);
    Error::Command(code, format!("{name}: {error}"))
}

/// The error that a status is, if it is not 0.
///
/// # Errors
/// That one.
pub fn check(name: &str, status: ExitStatus) -> Result<()> {
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(()),
        (Some(code), _) => Err(Error::Command(
            u8::try_from(code).unwrap_or(u8::MAX),
            format!("{name}: ended with status {code}"),
        )),
        (None, signal) => {
            let signal = signal.unwrap_or_default();
            Err(Error::Command(
                u8::try_from(signal.saturating_add(128)).unwrap_or(u8::MAX),
                format!("{name}: was killed by signal {signal}"),
            ))
        }
    }
}
