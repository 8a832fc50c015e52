//! akashita-conf(1): check a configuration, and run a script with it.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use akashita::process::paths;
use akashita::process::{self, Error, Result};
use akashita::tools::conf::Conf;
use akashita::tools::conf::{environment, exclusive, origin};
use akashita::units;
use clap::Parser;

/// Where a configuration is looked for, in this order.
const PLACES: [&str; 2] = ["/usr/local/etc/akashita.conf", "/etc/akashita.conf"];

/// The variable that names it, for the scripts that a script starts.
const VARIABLE: &str = "AKASHITA_CONF";

/// Check a configuration and print it, or run COMMAND with it as variables.
#[derive(Parser)]
#[command(name = "akashita-conf", version, after_help = "See akashita-conf(1).")]
struct Options {
    #[arg(short, long, value_name = "FILE", help = "The configuration [$AKASHITA_CONF]")]
    conf: Option<PathBuf>,
    /// Run COMMAND only while no other runs that has this name
    #[arg(long, value_name = "NAME", requires = "command", value_parser = name)]
    lock: Option<String>,
    /// One lock for each THING, such as a dataset, instead of one for all
    #[arg(long, value_name = "THING", requires = "lock")]
    of: Option<String>,
    /// Where another runs that has this name, wait so long for its end
    #[arg(long, value_name = "TIME", requires = "lock", default_value = "0s", value_parser = units::duration)]
    wait: Duration,
    /// Where another runs that has this name, say nothing and exit 0
    #[arg(long, requires = "lock")]
    skip: bool,
    /// Run COMMAND only while no other works on DIR, and let it enter it
    #[arg(long, value_name = "DIR", requires = "command")]
    directory: Option<PathBuf>,
    /// Run COMMAND in the directory that standard output is
    #[arg(long, requires = "command", conflicts_with_all = ["conf", "lock", "directory"])]
    enter: bool,
    /// See whether standard input proves that PROCESS was started by this
    #[arg(long, value_name = "PROCESS", exclusive = true)]
    started: Option<u32>,
    /// Run this with what the configuration says as variables
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

fn name(text: &str) -> Result<String, &'static str> {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    if !text.is_empty() && text.bytes().all(good) {
        Ok(text.to_owned())
    } else {
        Err("not a name of letters, digits, - or _")
    }
}

fn main() -> ExitCode {
    process::run(|options: Options| {
        if let Some(process) = options.started {
            return origin::check(std::io::stdin(), process);
        }
        let command = options.command.split_first();
        if let (true, Some((program, arguments))) = (options.enter, command) {
            rustix::process::fchdir(std::io::stdout())
                .map_err(|e| Error::io("stdout: cannot enter it", e))?;
            return Err(becomes(program, Command::new(program).args(arguments)));
        }
        let file = place(options.conf)?;
        let conf = read(&file)?;
        let Some((program, arguments)) = command else {
            let lines = conf.lines().map(|(key, value)| format!("{key}={value}\n"));
            return process::put_out(lines.collect::<String>().as_bytes());
        };
        let given = |key| Some(conf.value(key)).filter(|path| !path.is_empty()).map(PathBuf::from);
        let state = given("state").map_or_else(paths::directory, Ok)?;
        let lock = options.lock.map(|name| {
            let name = exclusive::Name { name, of: options.of };
            exclusive::lock(&state, &name, options.wait)
        });
        let lock = match lock.transpose() {
            Err(Error::Unfinished(_)) if options.skip => return Ok(()),
            lock => lock?,
        };
        let directory = options.directory.as_deref().map(exclusive::directory).transpose()?;
        let mut command = Command::new(program);
        let process = std::process::id();
        let asks = std::env::var_os(origin::ASKS).is_some_and(|id| *id == *process.to_string());
        let proof = asks.then(|| origin::prove(process)).transpose()?;
        let has_endpoint = !conf.value("endpoint_url").is_empty();
        for (name, _) in std::env::vars_os() {
            if environment::is_kept_out(&name.to_string_lossy(), has_endpoint) {
                command.env_remove(name);
            }
        }
        command.envs(proof.as_ref().map(|_| (origin::STARTED, process.to_string())));
        // Whoever is told of it may be in another directory.
        let whole = std::path::absolute(&file).unwrap_or(file);
        command.args(arguments).envs(conf.variables()).env(VARIABLE, whole);
        command.env("AKASHITA_STATE", &state);
        // What makes or destroys something has a lock. The others only look.
        let identity = match &lock {
            Some(_) => paths::make_identity(&state)?,
            None => paths::identity(&state).ok().flatten().unwrap_or_default(),
        };
        command.env("AKASHITA_ID", identity);
        for (variable, key) in [
            ("GLACIER_DEST", "dest"),
            ("AWS_REGION", "region"),
            ("AWS_PROFILE", "profile"),
            ("AWS_ENDPOINT_URL", "endpoint_url"),
        ] {
            let value = conf.value(key);
            if !value.is_empty() {
                command.env(variable, value);
            }
        }
        for (variable, key, file) in [
            ("GLACIER_SPOOL", "spool", "spool"),
            ("GLACIER_CATALOG", "catalog", "catalog.jsonl"),
            ("AKASHITA_LOG", "log", "log"),
        ] {
            command.env(variable, given(key).unwrap_or_else(|| state.join(file)));
        }
        command.envs(lock.as_ref().map(|lock| ("AKASHITA_LOCK", &lock.path)));
        let error = becomes(program, &mut command);
        // What could not become the command still holds its locks until here.
        drop((proof, lock, directory));
        Err(error)
    })
}

/// Becomes a program; gives why it could not.
fn becomes(program: &OsStr, command: &mut Command) -> Error {
    let error = command.exec();
    let code = if error.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 };
    Error::Command(code, format!("{}: cannot run: {error}", program.to_string_lossy()))
}

/// The file to read: the option, the variable, or the first that is there.
fn place(option: Option<PathBuf>) -> Result<PathBuf> {
    let variable = std::env::var_os(VARIABLE).filter(|name| !name.is_empty()).map(PathBuf::from);
    if let Some(file) = option.or(variable) {
        return Ok(file);
    }
    let there = PLACES.iter().map(PathBuf::from).find(|file| file.exists());
    there.ok_or_else(|| {
        Error::Configuration(format!("no configuration: not there: {}", PLACES.join(", ")))
    })
}

/// Reads a configuration that nobody else can have written: it names programs
/// that root runs.
fn read(file: &Path) -> Result<Conf> {
    let name = file.display();
    let wrong = |why: String| Error::Configuration(format!("{name}: {why}"));
    let cannot = |e: std::io::Error| wrong(format!("cannot read: {e}"));
    let mut opened = File::open(file).map_err(cannot)?;
    let facts = opened.metadata().map_err(cannot)?;
    let user = rustix::process::geteuid().as_raw();
    if !facts.is_file() {
        return Err(wrong("not a file".to_owned()));
    }
    if facts.uid() != 0 && facts.uid() != user {
        return Err(wrong("belongs to another user".to_owned()));
    }
    if facts.mode() & 0o022 != 0 {
        return Err(wrong(format!("others may write it; chmod go-w {name}")));
    }
    let mut text = Vec::new();
    opened.read_to_end(&mut text).map_err(cannot)?;
    Conf::parse(&text).map_err(wrong)
}
