//! A machine for tests of the scripts: a pool that is a file, a configuration,
//! and a Glacier with a vault.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "a test that cannot go on has failed"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use crate::common::local::{self, Local};
use crate::common::{self, Ended, Place, run, run_with};

/// The guids of the snapshots of tests/streams, in their order.
pub const GUIDS: [&str; 3] =
    ["13202105433093045432", "9426808012259010397", "16664242196063039650"];

/// A machine with a pool, a configuration, and a Glacier with a vault.
pub struct Machine {
    pub place: Place,
    pub server: Local,
}

impl Machine {
    /// One that has stored nothing.
    pub fn new() -> Self {
        let place = Place::default();
        let server = Local::start(&place);
        fs::create_dir(place.path("pool")).unwrap();
        let machine = Self { place, server };
        machine.configure("dest=my-vault\ndataset=tank/home\npart_size=1M\nvolume_size=1M\n");
        let mut put = machine.server.put(&machine.place, &["--create-vault", "my-vault"]);
        // A vault is made for the first stream that is stored into it.
        let lines =
            machine.place.tool("glacier-chunk", &["--name", "other", "--", "echo", "other"]);
        let lines = run_with(&mut { lines }, b"").done();
        run_with(&mut put, lines.stdout.as_bytes()).done();
        machine
    }

    /// Writes the configuration.
    pub fn configure(&self, text: &str) {
        let file = self.place.path("conf");
        let places = format!("state={}\n", self.place.path("").display());
        // Its snapshots were taken when these tests were written.
        let ages = "warn_age=9999d\nfail_age=9999d\n";
        let ages = if text.contains("warn_age=") { "" } else { ages };
        fs::write(&file, format!("{text}{places}{ages}")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Runs akashita-backup in a shell, with more in its environment.
    pub fn run_in(&self, shell: &str, arguments: &[&str], more: &[(&str, &str)]) -> Option<Ended> {
        self.script_in("akashita-backup", shell, arguments, more)
    }

    /// Runs a script in a shell, if that is there.
    pub fn script_in(
        &self,
        name: &str,
        shell: &str,
        arguments: &[&str],
        more: &[(&str, &str)],
    ) -> Option<Ended> {
        self.command_in(name, shell, arguments, more).map(|mut command| run_with(&mut command, b""))
    }

    /// What runs a script in a shell, if that is there.
    pub fn command_in(
        &self,
        name: &str,
        shell: &str,
        arguments: &[&str],
        more: &[(&str, &str)],
    ) -> Option<Command> {
        let top = Path::new(env!("CARGO_MANIFEST_DIR"));
        let program = shell.split(' ').next().unwrap();
        let there = std::env::split_paths(&std::env::var_os("PATH").unwrap())
            .any(|directory| directory.join(program).is_file());
        if !there {
            return None;
        }
        // A script starts itself anew, and others, by their first lines: those
        // name the shell to try. Another program writes them: what this one
        // has open while another test starts something is a busy file there.
        let bin = self.place.path("bin");
        let copy = "mkdir -p \"$2\" && first=$(command -v \"${3%% *}\") || exit 1
            case $3 in *' '*) first=\"$first ${3#* }\" ;; esac
            for script in \"$1\"/akashita-*; do
                sed \"1s|.*|#!$first|\" \"$script\" >\"$2/${script##*/}\" || exit 1
            done
            chmod 755 \"$2\"/*";
        let copied = Command::new("sh")
            .args(["-c", copy, "sh"])
            .args([&top.join("scripts"), &bin])
            .arg(shell)
            .status()
            .unwrap();
        assert!(copied.success(), "{shell}");

        let tools = common::program("glacier-chunk").parent().unwrap().to_owned();
        let script = bin.join(name);
        let mut path = vec![bin, top.join("tests/backup"), tools];
        path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap()));
        let mut command = self.place.command(script.to_str().unwrap());
        command.args(["-c", self.place.path("conf").to_str().unwrap()]).args(arguments);
        self.server.client(&mut command);
        command
            .env_remove("GLACIER_SPOOL")
            .env_remove("GLACIER_CATALOG")
            .env("PATH", std::env::join_paths(path).unwrap())
            .env("POOL", self.place.path("pool"))
            .env("STREAMS", top.join("tests/streams"))
            .envs(more.iter().copied());
        Some(command)
    }

    /// Runs akashita-backup.
    pub fn run(&self, arguments: &[&str], more: &[(&str, &str)]) -> Ended {
        self.run_in("sh", arguments, more).unwrap()
    }

    /// Runs a line of sh with the tools and the service, which must succeed.
    #[track_caller]
    pub fn sh(&self, line: &str) -> String {
        let mut shell = self.place.command("sh");
        let tools = common::program("glacier-chunk").parent().unwrap().to_owned();
        let mut path = vec![tools];
        path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap()));
        self.server.client(shell.args(["-c", line]));
        shell.env("PATH", std::env::join_paths(path).unwrap());
        shell.env("STREAMS", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/streams"));
        let ended = run(&mut shell);
        assert_eq!(ended.code(), 0, "{line}: {}", ended.stderr);
        ended.stdout.trim_end().to_owned()
    }

    /// The guids of the ZFS streams that are stored, in their order.
    pub fn stored(&self) -> Vec<String> {
        let catalog = local::catalog(&self.place);
        let lines = catalog.lines().filter(|line| line.starts_with("{\"type\":\"stored\""));
        let guid = |line: &str| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            line["guid"].as_str().map(str::to_owned)
        };
        lines.filter_map(guid).collect()
    }

    /// What ZFS was asked.
    pub fn asked(&self) -> String {
        fs::read_to_string(self.place.path("pool/asked")).unwrap_or_default()
    }

    /// What marks that which was made here.
    pub fn id(&self) -> String {
        fs::read_to_string(self.place.path("id")).unwrap().trim_end().to_owned()
    }

    /// The snapshots and bookmarks that there are.
    pub fn points(&self) -> String {
        fs::read_to_string(self.place.path("pool/points")).unwrap_or_default()
    }
}

/// That a run is silent and all is stored.
pub fn silent(ended: &Ended) {
    assert_eq!((ended.code(), ended.stdout.as_str(), ended.stderr.as_str()), (0, "", ""));
}

/// Whether a program is there.
pub fn has(program: &str) -> bool {
    std::env::split_paths(&std::env::var_os("PATH").unwrap())
        .any(|directory| directory.join(program).is_file())
}
