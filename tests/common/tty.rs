//! Scripts of a machine on a terminal, by script(1) of util-linux.

use std::path::Path;

use crate::common::machine::Machine;
use crate::common::{self, Ended, run_with, skip};

/// Runs a line of sh with the scripts, which were run before, on a terminal,
/// if there can be one. All that is told is in what it prints.
pub fn on_terminal(machine: &Machine, line: &str) -> Option<Ended> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let probe = ["-qec", "test -t 2", "/dev/null"];
    let works = std::process::Command::new("script").args(probe).output();
    if !works.is_ok_and(|output| output.status.success()) {
        skip("script: not of util-linux, or not found; nothing is tried on a terminal");
        return None;
    }
    let tools = common::program("glacier-chunk").parent()?.to_owned();
    let mut path = vec![machine.place.path("bin"), top.join("tests/backup"), tools];
    path.extend(std::env::split_paths(&std::env::var_os("PATH")?));
    let mut command = machine.place.command("script");
    machine.server.client(command.args(["-qec", line, "/dev/null"]));
    command
        .env_remove("GLACIER_SPOOL")
        .env_remove("GLACIER_CATALOG")
        .env("AKASHITA_CONF", machine.place.path("conf"))
        .env("PATH", std::env::join_paths(path).ok()?)
        .env("POOL", machine.place.path("pool"))
        .env("STREAMS", top.join("tests/streams"));
    Some(run_with(&mut command, b""))
}
