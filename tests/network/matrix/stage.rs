//! Where a case happens: a server and what it holds, the command, and what
//! there is to be when it has finished.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use serde_json::Value;

use super::rows::Scene::{
    self, Begun, Changed, Counted, Denied, Doomed, Empty, Fresh, Given, Jobs, Limited, Listed,
    Manifest, Raised, Rebuilt, Resumed, Sampled, Searching, Stored, Unconfirmed, Uploads, Vaults,
};
use crate::common::local::{Local, catalog, pattern, sorted};
use crate::common::{Ended, Place, run, run_on, run_with, until};

const MIB: usize = 1 << 20;

/// Where a case happens.
pub struct Stage {
    scene: Scene,
    place: Place,
    pub server: Local,
    bytes: Vec<u8>,
    /// What the command reads.
    lines: String,
}

impl Stage {
    pub fn set(scene: Scene) -> Self {
        let place = Place::default();
        let server = Local::start(&place);
        let bytes = pattern(3 * MIB);
        if scene == Changed {
            let other: Vec<u8> = bytes.iter().map(|byte| byte ^ 1).collect();
            begin(&server, &place, &chunk(&place, &other));
        }
        if scene == Empty {
            server.ask("PUT", "/-/vaults/v", b"");
        }
        let lines = chunk(&place, &bytes);
        let mut stage = Self { scene, place, server, bytes, lines };
        match scene {
            Fresh | Changed | Empty => {}
            Resumed | Uploads | Given => begin(&stage.server, &stage.place, &stage.lines),
            Unconfirmed | Searching => stage.lose_an_answer(),
            Stored | Begun | Limited | Vaults | Jobs | Counted | Listed | Manifest | Rebuilt
            | Doomed | Denied | Sampled | Raised => {
                stage.put("1s").done();
            }
        }
        match scene {
            Begun | Jobs => {
                let mut get = stage.get("1s");
                get.arg("--no-wait");
                stage.waits(&run_on(&mut get, &stage.place.path("catalog.jsonl")));
                stage.server.pass(1);
            }
            Counted | Listed | Manifest | Rebuilt => stage.count(),
            Given => stage.lines = run(&mut stage.ls(&["uploads", "v"], "1s")).done().stdout,
            Doomed | Denied => stage.lines = catalog(&stage.place),
            Raised => {
                let mut verify = stage.verify("1s");
                verify.args(["--request", "--budget", "1M"]);
                let path = stage.place.path("catalog.jsonl");
                stage.lines = run_on(&mut verify, &path).done().stdout;
                stage.server.pass(1);
            }
            _ => {}
        }
        stage
    }

    /// The answer to the Complete of volume 0 never comes, and a day passes.
    fn lose_an_answer(&mut self) {
        let lost = r#"{"call":"CompleteMultipartUpload","times":"all","do":"lose-answer"}"#;
        self.server.fail(lost);
        self.waits(&self.put("1s"));
        self.server.fail("");
        self.server.pass(27);
        if self.scene == Searching {
            self.waits(&self.put("1s"));
            self.server.pass(5);
        }
    }

    /// Lets the service make an inventory, and bring up what the scene has.
    fn count(&mut self) {
        self.server.pass_a_day();
        let archives = self.server.archives("v").len() as u64;
        until("the inventory is made", || self.server.counted("v") == archives);
        if self.scene == Counted {
            return;
        }
        let list = ["inventory", "--no-wait", "v"];
        self.waits(&run(&mut self.ls(&list, "1s")));
        self.server.pass(5);
        if self.scene == Rebuilt {
            self.waits(&self.run("1s"));
            self.server.pass(1);
        }
    }

    #[track_caller]
    fn waits(&self, ended: &Ended) {
        assert_eq!(ended.code(), 75, "{:?}: {}", self.scene, ended.stderr);
    }

    fn put(&self, patience: &str) -> Ended {
        run_with(&mut put(&self.server, &self.place, patience), self.lines.as_bytes())
    }

    /// A tool that waits as long as a case says.
    fn tool(&self, name: &str, arguments: &[&str], patience: &str) -> Command {
        let mut tool = self.place.tool(name, arguments);
        tool.args(["--timeout", "1s", "--patience", patience]);
        self.server.client(&mut tool);
        tool
    }

    fn get(&self, patience: &str) -> Command {
        self.tool("glacier-get", &["--tier", "Expedited", "--concurrency", "1"], patience)
    }

    fn ls(&self, arguments: &[&str], patience: &str) -> Command {
        let mut ls = self.tool("glacier-ls", &arguments[..1], patience);
        ls.args(&arguments[1..]);
        ls
    }

    fn rm(&self, arguments: &[&str], patience: &str) -> Ended {
        let mut rm = self.tool("glacier-rm", &["--yes", "--concurrency", "1"], patience);
        run_with(rm.args(arguments), self.lines.as_bytes())
    }

    fn verify(&self, patience: &str) -> Command {
        let options = ["--tier", "Expedited", "--concurrency", "1", "--seed", "3"];
        self.tool("glacier-verify", &options, patience)
    }

    /// The command of the scene.
    pub fn run(&self, patience: &str) -> Ended {
        let books = self.place.path("catalog.jsonl");
        let ls = |arguments: &[&str]| run(&mut self.ls(arguments, patience));
        match self.scene {
            Fresh | Resumed | Changed | Unconfirmed | Searching => self.put(patience),
            Stored | Begun | Limited => {
                let mut get = self.get(patience);
                get.args((self.scene == Limited).then_some("--no-wait"));
                run_on(get.args(["--", "dd", "of=back", "status=none"]), &books)
            }
            Vaults => ls(&["vaults"]),
            Uploads => ls(&["uploads", "v"]),
            Jobs => ls(&["jobs", "v"]),
            Counted | Listed => ls(&["inventory", "--no-wait", "v"]),
            // Slow enough that it is not ready by chance.
            Manifest => ls(&["inventory", "--rebuild", "--no-wait", "--tier", "Standard", "v"]),
            Rebuilt => ls(&["inventory", "--rebuild", "--no-wait", "--tier", "Expedited", "v"]),
            Doomed | Denied => self.rm(&["v"], patience),
            Given => self.rm(&["--spool", "none", "v"], patience),
            Empty => self.rm(&["--vault", "v"], patience),
            Sampled => run_on(self.verify(patience).args(["--budget", "1M"]), &books),
            Raised => run_with(&mut self.verify(patience), self.lines.as_bytes()),
        }
    }

    /// What the service lists.
    fn listed(&self, path: &str, list: &str) -> usize {
        let answer = self.server.ask("GET", path, b"");
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        answer[list].as_array().unwrap().len()
    }

    fn uploads(&self) -> usize {
        self.listed("/-/vaults/v/multipart-uploads", "UploadsList")
    }

    /// How often a fault struck.
    fn struck(&self, fault: &str) -> usize {
        self.server.log().iter().filter(|line| line["fault"] == fault).count()
    }

    /// Asserts that an end has told nothing wrong, however it came.
    #[track_caller]
    pub fn is_sound(&self, ended: &Ended) {
        let is_whole = ended.code() == 0;
        match self.scene.tool() {
            "get" if !is_whole => {
                if let Ok(back) = fs::read(self.place.path("back")) {
                    assert!(self.bytes.starts_with(&back), "I5: other bytes were passed on");
                }
            }
            "ls" if !is_whole => assert_eq!(ended.stdout, "", "half of an answer"),
            // A line of what is gone is a promise.
            "rm" => assert_eq!(told(&ended.stdout, "deleted"), ended.lines().len()),
            _ => {}
        }
    }

    /// Asserts that all is as it is to be: `ended` well, and `told` in both
    /// runs.
    #[track_caller]
    pub fn is_right(&self, ended: &Ended, all: &str) {
        match self.scene {
            Doomed | Denied => self.is_deleted(),
            // What was not found is told as gone, and gone in the next run.
            Given => assert_eq!((self.uploads(), told(all, "deleted").min(1)), (0, 1)),
            Empty => {
                assert_eq!(self.listed("/-/vaults", "VaultList"), 0);
                assert!(told(all, "deleted") <= 2, "{all}");
            }
            Uploads => {
                let forgotten = self.struck("forget-upload").min(1);
                assert_eq!(self.uploads(), 1 - forgotten, "an upload has changed");
                assert_eq!(told(&ended.stdout, "upload"), 1 - forgotten);
            }
            _ => self.is_stored(),
        }
        let lines = |of: &str| told(&ended.stdout, of);
        match self.scene {
            Stored | Begun | Limited => {
                assert!(fs::read(self.place.path("back")).unwrap() == self.bytes, "other bytes");
            }
            Vaults => assert_eq!(lines("vault"), 1),
            Jobs => {
                let jobs = if self.struck("expire-job") > 0 { 0 } else { 2 };
                assert_eq!(lines("retrieval"), jobs);
            }
            Counted | Listed => assert_eq!((lines("inventory"), lines("inventoried")), (1, 3)),
            Manifest | Rebuilt => {
                // Behind the catalog's lines it says what they are made of.
                let (lines, made_of) = ended.stdout.trim_end().rsplit_once('\n').unwrap();
                assert!(made_of.starts_with("{\"type\":\"inventory\""), "{made_of}");
                assert_eq!(sorted(lines), sorted(&catalog(&self.place)));
            }
            // Each line that was printed is in the catalog, and no other.
            Sampled | Raised => {
                let books = catalog(&self.place);
                let kept = books.lines().filter(|line| told(line, "verified") == 1);
                assert_eq!(kept.collect::<Vec<_>>(), all.lines().collect::<Vec<_>>());
                assert!(!all.is_empty(), "nothing was verified");
            }
            _ => {}
        }
    }

    /// Asserts that the service has exactly the archives of the stream.
    #[track_caller]
    fn is_stored(&self) {
        let archives = self.server.archives("v");
        let contents: Vec<(Option<u64>, Vec<u8>)> = archives
            .iter()
            .map(|held| (held.volume(), self.server.content("v", &held.id)))
            .collect();
        let volumes = self
            .bytes
            .chunks(2 * MIB)
            .zip(0..)
            .map(|(bytes, number)| (Some(number), bytes.to_vec()));
        assert!(
            contents[..contents.len() - 1].iter().cloned().eq(volumes),
            "I4: other archives than those of the stream: {archives:?}"
        );
        assert_eq!(archives.last().unwrap().description["kind"], "manifest");
        let catalog = catalog(&self.place);
        for held in &archives {
            assert!(catalog.contains(&held.id), "not in the catalog: {held:?}");
        }
    }

    /// Asserts that the stream is gone, and each archive of it written down
    /// once. One that the service said it had not is believed to be gone.
    #[track_caller]
    fn is_deleted(&self) {
        let log = self.server.log();
        let denied = |line: &&Value| {
            line["call"] == "DeleteArchive" && line["status"] == 404 && !line["fault"].is_null()
        };
        let left = log.iter().filter(denied).count();
        assert_eq!(self.server.archives("v").len(), left, "archives are left");
        let books = catalog(&self.place);
        let deleted = books.lines().filter(|line| told(line, "deleted") == 1);
        let ids = deleted.map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            line["archive_id"].as_str().unwrap().to_owned()
        });
        let ids: Vec<String> = ids.collect();
        let once: BTreeSet<&String> = ids.iter().collect();
        assert_eq!((ids.len(), once.len()), (3, 3), "two volumes and a manifest, once each");
        assert!(once.iter().all(|id| self.lines.contains(id.as_str())), "other archives");
    }
}

/// How many lines of a type a text has.
fn told(text: &str, of: &str) -> usize {
    let begin = format!("{{\"type\":\"{of}\"");
    text.lines().filter(|line| line.starts_with(&begin)).count()
}

/// Sends the parts of volume 0, and stops before it is one.
fn begin(server: &Local, place: &Place, lines: &str) {
    let cut = &lines[..lines.find("{\"type\":\"volume\"").unwrap()];
    let ended = run_with(&mut put(server, place, "1s"), cut.as_bytes());
    assert_eq!(ended.code(), 75, "{}", ended.stderr);
}

/// Cuts bytes into parts of 1 MiB and volumes of 2.
fn chunk(place: &Place, bytes: &[u8]) -> String {
    let options = [
        "--part-size",
        "1M",
        "--volume-size",
        "2M",
        "--spool-limit",
        "none",
        "--trust-eof",
        "--name",
        "x",
    ];
    run_with(&mut place.tool("glacier-chunk", &options), bytes).done().stdout
}

fn put(server: &Local, place: &Place, patience: &str) -> Command {
    let options =
        ["--create-vault", "--concurrency", "1", "--timeout", "1s", "--patience", patience, "v"];
    server.put(place, &options)
}
