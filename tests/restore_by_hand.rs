//! docs/restore.md, word for word: its blocks of commands bring a chain back
//! from glacier-local with the AWS CLI and a `zfs` that keeps what it receives.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::local::{Held, Local, REGION};
use crate::common::made::Made;
use crate::common::{Place, run_with, skip};

/// How long the page may take: each call of the AWS CLI takes a second or two.
const PATIENCE: Duration = Duration::from_mins(5);

/// Forty minutes of the service in a second: what a job brought up is there for
/// over half a minute, in which a few calls of the AWS CLI must have their turn.
const SPEED: u32 = 2400;

/// Notes what it is called with, and keeps what it receives.
const ZFS: &str = r#"#!/bin/sh
set -eu
printf '%s\n' "$*" >>../zfs.calls
case $1 in
receive)
	number=$(grep -c ^receive ../zfs.calls)
	cat >"../received.$number"
	;;
*) cat </dev/null ;;
esac
"#;

/// What a pipe of age(1) would give back.
const AGE: &str = "#!/bin/sh\n[ \"$*\" = '-d -i key.txt' ] || exit 64\nexec cat\n";

/// The page's quarter of an hour passes in a fraction of a second.
const SLEEP: &str = "#!/bin/sh\n[ \"$*\" = 900 ] || exit 64\nexec /bin/sleep 0.25\n";

/// The blocks of commands of the page, in their order.
fn blocks() -> Vec<&'static str> {
    const PAGE: &str = include_str!("../docs/restore.md");
    let fenced = PAGE.split("```").skip(1).step_by(2);
    fenced.map(|block| block.strip_prefix("sh\n").expect("a block of commands")).collect()
}

/// The block of functions.
fn functions() -> &'static str {
    blocks().into_iter().find(|block| block.starts_with("glacier() {")).unwrap()
}

/// The AWS CLI, or a visible word that there is none.
fn python() -> Option<PathBuf> {
    let python =
        std::env::var_os("AKASHITA_PYTHON").map_or_else(|| "python3".into(), PathBuf::from);
    let found = Command::new(&python)
        .args(["-c", "import awscli"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !found {
        skip(&format!("awscli: not found in {}; try scripts/test", python.display()));
    }
    found.then_some(python)
}

/// Where the page is followed: the programs that it names stand first in PATH.
struct Desk {
    place: Place,
    server: Local,
}

impl Desk {
    fn new(python: &Path) -> Self {
        let place = Place::default();
        let server = Local::fast(&place, SPEED);
        fs::create_dir(place.path("bin")).unwrap();
        let aws = format!("#!/bin/sh\nexec '{}' -m awscli \"$@\"\n", python.display());
        for (name, text) in [("zfs", ZFS), ("age", AGE), ("sleep", SLEEP), ("aws", &aws)] {
            let file = place.path("bin").join(name);
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self { place, server }
    }

    /// Stores a stream in volumes of one part of 1 MiB.
    fn store(&self, vault: &str, bytes: &[u8], options: &[&str]) {
        let sizes = ["--part-size", "1M", "--volume-size", "1M", "--spool-limit", "none"];
        let mut chunk = self.place.tool("glacier-chunk", &[&sizes, options].concat());
        let lines = run_with(&mut chunk, bytes).done().stdout;
        let mut put = self.server.put(&self.place, &["--create-vault", vault]);
        run_with(&mut put, lines.as_bytes()).done();
    }

    /// Runs a script; gives its status and all that it printed.
    fn run(&self, shell: &str, script: &str) -> (i32, String) {
        let mut path = vec![self.place.path("bin")];
        path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap()));
        let output = self.place.path("output");
        let file = fs::File::create(&output).unwrap();
        fs::write(self.place.path("script"), script).unwrap();
        let mut words = shell.split(' ');
        let mut command = self.place.command(words.next().unwrap());
        self.server.client(&mut command);
        // The page sets the region.
        command.env_remove("AWS_REGION").env_remove("GLACIER_SPOOL").env_remove("GLACIER_CATALOG");
        command.env("PATH", std::env::join_paths(path).unwrap()).args(words).arg("script");
        let mut child = command.stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
        let begin = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status.code().unwrap_or(-1);
            }
            if begin.elapsed() > PATIENCE {
                child.kill().unwrap();
                break -1;
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        (status, String::from_utf8_lossy(&fs::read(output).unwrap()).into_owned())
    }

    fn received(&self, number: usize) -> Vec<u8> {
        fs::read(self.place.path(format!("received.{number}"))).unwrap()
    }
}

fn stream(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/streams").join(name)).unwrap()
}

/// A stream of another dataset, of over a volume.
fn photos(name: &str, guids: (u64, u64)) -> Vec<u8> {
    let block = vec![7; 128 << 10];
    let mut made = Made::new(false, true).begin(1, name, guids, &[]);
    for _ in 0..10 {
        made = made.record(3, &[(32, 8, 128 << 10)], &block);
    }
    made.end(guids.0).bytes
}

#[test]
fn the_page_restores_a_chain_word_for_word() {
    let Some(python) = python() else { return };
    let desk = Desk::new(&python);
    let chain = ["full.zfs", "incremental-1.zfs", "incremental-2.zfs"].map(stream);
    for bytes in &chain {
        desk.store("my-vault", bytes, &[]);
    }
    // Others in the same vault: a chain of another dataset that ends at a
    // snapshot of the same name, a tar file, and an archive that is not ours.
    desk.store("my-vault", &photos("tank/photos@mon", (501, 0)), &[]);
    desk.store("my-vault", &photos("tank/photos@wed", (502, 501)), &[]);
    desk.store("my-vault", b"etc", &["--trust-eof", "--name", "etc.tar"]);
    let upload = "aws glacier upload-archive --account-id - --vault-name my-vault \
                  --archive-description 'photos {of 2012}' --body script\n";
    let (status, said) = desk.run("sh", &format!("export AWS_DEFAULT_REGION={REGION}\n{upload}"));
    assert_eq!(status, 0, "{said}");
    let mut server = desk.server;
    server.pass_a_day();
    let desk = Desk { server, ..desk };
    // Nothing but the vault is left.
    fs::remove_dir_all(desk.place.spool()).unwrap();
    fs::remove_file(desk.place.path("catalog.jsonl")).unwrap();

    let (status, said) = desk.run("sh -eu", &blocks().join("\n"));
    assert_eq!(status, 0, "{said}");
    assert!(said.contains("my-vault\t"), "the vaults: {said}");
    for (number, bytes) in (1..).zip(&chain) {
        assert!(desk.received(number) == *bytes, "stream {number}");
    }
    assert!(desk.received(4) == chain[2], "what age gave");
    let calls = fs::read_to_string(desk.place.path("zfs.calls")).unwrap();
    let expected = "receive -u tank/restored\nreceive -u tank/restored\nreceive -u tank/restored\n\
                    load-key -r tank/restored\nmount tank/restored\nreceive -u tank/restored\n";
    assert_eq!(calls, expected);
    // An inventory, three manifests, six volumes: each was asked for once.
    assert_eq!(desk.server.calls("InitiateJob"), 1 + 3 + 6);

    // Once more, where all is there: nothing is asked for again.
    let (status, said) = desk.run("sh -eu", &blocks().join("\n"));
    assert_eq!(status, 0, "{said}");
    assert!(desk.received(7) == chain[2]);
    assert_eq!(desk.server.calls("InitiateJob"), 1 + 3 + 6);
}

#[test]
fn the_page_passes_on_nothing_that_is_damaged_and_heals() {
    let Some(python) = python() else { return };
    let desk = Desk::new(&python);
    let bytes = stream("full.zfs");
    desk.store("my-vault", &bytes, &[]);
    let mut server = desk.server;
    server.pass_a_day();
    // The third output is that of the first volume.
    server.fail(r#"{"call":"GetJobOutput","nth":3,"do":"corrupt","bytes":70000}"#);
    let desk = Desk { server, ..desk };
    let page = blocks().join("\n").replace("tank/home@wed", "tank/home@mon");
    let (_, said) = desk.run("sh", &page);
    assert!(said.contains("/0: its tree hash is wrong; run this block again"), "{said}");
    assert!(said.contains(": volume 0 is missing"), "{said}");
    assert!(!desk.place.path("received.1").exists(), "{said}");
    // Again, as it says: once if its job is still there, else twice.
    let ran = (0..3).map(|_| desk.run("sh -eu", &page)).find(|(status, _)| *status == 0);
    assert!(ran.is_some(), "it heals");
    assert!(desk.received(1) == bytes);
}

#[test]
fn the_recipe_in_a_manifest_brings_a_volume_back() {
    let Some(python) = python() else { return };
    let desk = Desk::new(&python);
    let bytes = stream("full.zfs");
    desk.store("cold", &bytes, &[]);
    let archives = desk.server.archives("cold");
    let manifest = desk.server.content("cold", &archives.last().unwrap().id);
    let recipe = String::from_utf8(manifest).unwrap().lines().next().unwrap().to_owned();
    let recipe: serde_json::Value = serde_json::from_str(&recipe).unwrap();
    let commands: Vec<&str> = recipe["text"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|line| line.as_str().unwrap().strip_prefix("  "))
        .collect();
    let [ask, describe, fetch, receive] = commands[..] else { unreachable!("{commands:?}") };
    let mut script = format!("set -eu\nexport AWS_DEFAULT_REGION={REGION}\n");
    for Held { id, .. } in &archives[..3] {
        let volume = script.matches("initiate-job").count();
        let words = |command: &str| {
            let command = command.replace("VAULT", "cold").replace("=ID,", &format!("={id},"));
            command.replace("JOB", "\"$JOB\"").replace("volume-N", &format!("volume-{volume}"))
        };
        script.extend([
            format!("JOB=$({} --query jobId --output text)\n", words(ask)),
            format!("until {} | grep -q '\"Completed\": true'\n", words(describe)),
            format!("do sleep 900\ndone\n{}\n", words(fetch)),
        ]);
    }
    script += "mkdir desk\nmv volume-* desk\ncd desk\n";
    script += &receive.replace("POOL/DATASET", "tank/back");
    let (status, said) = desk.run("sh", &script);
    assert_eq!(status, 0, "{said}");
    assert!(desk.received(1) == bytes);
}

/// Vectors that others published, of bytes that are all `a`.
#[test]
fn any_sh_computes_the_tree_hash_that_the_service_does() {
    let place = Place::default();
    let shells = ["sh", "dash", "bash", "busybox sh"];
    for (mebibytes, more, hash) in [
        (0, 11, "28cb017dfc99073aa1b47c1b30f413e3ce774c4991eb4158de50f9dbb36d8043"),
        (1, 0, "9bc1b2a288b26af7257a36277ae3816a7d4f16e89c1e7e77d0a5c48bad62b360"),
        (2, 0, "560c2c9333c719cb00cfdffee3ba293db17f58743cdd1f7e4055373ae6300afa"),
        (3, 0, "70239f4f2ead7561f69d48b956b547edef52a1280a93c262c0b582190be7db17"),
        (4, 20, "12f3cbd6101b981cde074039f6f728071da8879d6f632de8afc7cdf00661b08f"),
    ] {
        fs::write(place.path("file"), vec![b'a'; (mebibytes << 20) + more]).unwrap();
        for shell in shells {
            let mut words = shell.split(' ');
            let program = words.next().unwrap();
            let script = format!("{}\ntreehash file\n", functions());
            let mut command = place.command(program);
            command.args(words).args(["-euc", &script]);
            match command.output() {
                Ok(output) => assert_eq!(
                    (String::from_utf8(output.stdout).unwrap(), output.status.code()),
                    (format!("{hash}\n"), Some(0)),
                    "{shell}: {}",
                    String::from_utf8_lossy(&output.stderr)
                ),
                Err(_) => skip(&format!("{program}: not found, the page is not tried with it")),
            }
        }
    }
}

/// All bytes, as an oracle that is no shell makes them.
#[test]
fn digits_become_the_bytes_that_they_stand_for() {
    let place = Place::default();
    let all: Vec<u8> = (0..=255).collect();
    let script = format!("{}\nbytes {}\n", functions(), hex::encode(&all));
    for shell in ["sh", "dash", "bash", "busybox"] {
        let mut command = place.command(shell);
        if shell == "busybox" {
            command.arg("sh");
        }
        let Ok(output) = command.args(["-euc", &script]).output() else { continue };
        assert_eq!(output.stdout, all, "{shell}");
    }
}
