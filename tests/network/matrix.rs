//! The network matrix: each call of put and get, with each fault that makes
//! sense for it, once and for ever. A case says how the command ends; after
//! it the same command without faults must finish, with exactly the archives
//! that there are to be.
//!
//! The rule is in [`CALLS`] and [`FAULTS`]; where a call answers a fault in
//! its own way, a row of [`OTHERS`] says so.

use std::fs::File;
use std::process::Command;

use serde_json::Value;

use crate::common::{Ended, Place, run, run_on, run_with};
use crate::local::{Local, pattern};

const MIB: usize = 1 << 20;

/// What is going on when the call is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scene {
    /// put has nothing.
    Fresh,
    /// put goes on: the service has two of the parts of volume 0.
    Resumed,
    /// put has begun to send other bytes.
    Changed,
    /// The answer to the Complete of volume 0 never came, a day ago.
    Unconfirmed,
    /// And an inventory to look into is ready.
    Searching,
    /// get, of which nothing is asked yet.
    Stored,
    /// get, whose jobs are ready.
    Begun,
}
use Scene::{Begun, Changed, Fresh, Resumed, Searching, Stored, Unconfirmed};

impl Scene {
    fn is_get(self) -> bool {
        matches!(self, Stored | Begun)
    }

    /// How the command ends where nothing fails.
    fn usual(self) -> (i32, &'static str) {
        if self == Unconfirmed { (75, WAITS) } else { (0, "") }
    }
}

/// A call in its scene, and what messages about it begin with.
struct On {
    call: &'static str,
    scene: Scene,
    thing: &'static str,
    /// What its answer has: nothing, JSON, or bytes that are looked at.
    body: Body,
    /// Whether its answer names a hash that is looked at.
    hash: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Body {
    None,
    Json,
    Bytes,
}

const fn on(call: &'static str, scene: Scene, thing: &'static str, body: Body, hash: bool) -> On {
    On { call, scene, thing, body, hash }
}

const VOLUME: &str = "glacier://v: volume 0";

const CALLS: &[On] = &[
    on("CreateVault", Fresh, "glacier://v", Body::None, false),
    on("DescribeVault", Fresh, "glacier://v", Body::Json, false),
    on("InitiateMultipartUpload", Fresh, VOLUME, Body::None, false),
    on("UploadMultipartPart", Fresh, "volume 0 part 0", Body::None, true),
    on("CompleteMultipartUpload", Fresh, VOLUME, Body::None, true),
    on("ListParts", Resumed, VOLUME, Body::Json, true),
    on("AbortMultipartUpload", Changed, "", Body::None, false),
    on("InitiateJob", Unconfirmed, VOLUME, Body::None, false),
    on("DescribeJob", Searching, VOLUME, Body::Json, false),
    on("GetJobOutput", Searching, VOLUME, Body::Json, false),
    on("ListJobs", Stored, "glacier://v", Body::Json, false),
    on("InitiateJob", Stored, "x: volume 0", Body::None, false),
    on("ListJobs", Begun, "glacier://v", Body::Json, false),
    on("GetJobOutput", Begun, "x: volume 0", Body::Bytes, false),
];

/// What a fault does to those who meet it.
#[derive(Clone, Copy)]
enum Kind {
    /// It passes; where it does not, patience ends with 75 and this reason.
    Passes(&'static str),
    /// Credentials that may be better when they are loaded again; else 77.
    Credentials(&'static str),
    /// The service refuses: 69 at once.
    Refuses(&'static str),
    /// The answer is damaged; if it always is, 65.
    Damages(&'static str),
    /// Nobody notices.
    Harmless,
}
use Kind::{Credentials, Damages, Harmless, Passes, Refuses};

struct Fault {
    name: &'static str,
    /// Its fields in the plan.
    text: &'static str,
    kind: Kind,
    makes_sense: fn(&On) -> bool,
}

const fn fault(
    name: &'static str,
    text: &'static str,
    kind: Kind,
    makes_sense: fn(&On) -> bool,
) -> Fault {
    Fault { name, text, kind, makes_sense }
}

fn always(_: &On) -> bool {
    true
}

/// The answer has a body.
fn body(on: &On) -> bool {
    on.body != Body::None
}

/// The answer has JSON that is read.
fn json(on: &On) -> bool {
    on.body == Body::Json
}

/// The answer has bytes of an archive.
fn bytes(on: &On) -> bool {
    on.body == Body::Bytes
}

/// The call carries bytes of an archive.
fn part(on: &On) -> bool {
    on.call == "UploadMultipartPart"
}

/// The answer tells of a hash that is compared.
fn hash(on: &On) -> bool {
    on.hash
}

/// The call is about an upload.
fn upload(on: &On) -> bool {
    matches!(on.call, "UploadMultipartPart" | "CompleteMultipartUpload" | "ListParts")
}

/// The call is about jobs.
fn job(on: &On) -> bool {
    on.call.ends_with("Job") || on.call.ends_with("Jobs") || on.call == "GetJobOutput"
}

const BROKEN: &str = "*onnection *";
const LATE: &str = "*no answer in time*";
const SERVICE: &str = "ServiceUnavailable: The service is unavailable";
const WAITS: &str = "volume 0: the service never said whether it is stored; looked for in the vault's next inventory, run the same command again tomorrow";
const PART_FAILS: &str = "volume 0 part 0: *; run the same command again";
const PART_STALLS: &str = "volume 0 part 0: nothing moved for 1 s; run the same command again";
const NO_VAULT: &str =
    "glacier://v: ResourceNotFound: The resource was not found; --create-vault makes one";
const UNREADABLE: &str = "glacier://v: volume 0: the inventory cannot be read: *";
const FAILED_AGAIN: &str =
    "x: volume 0: its retrieval failed again: The job failed; run the same command again";
const GONE_AGAIN: &str =
    "x: volume 0: its retrieval failed again: ResourceNotFound: *; run the same command again";
const DRIPS: &str = "x: volume 0: less than 256 KiB came in 1 s; run the same command again";
/// What is said of an upload that could not be dropped.
const STAYS: &str = "warning: an upload that is of no more use stays for a day: ";
const LOST_TWICE: &str =
    "volume 0: the service has dropped its upload 2 times; use a smaller --volume-size";

const FAULTS: &[Fault] = &[
    fault("500", r#""do":"refuse","code":"ServiceUnavailableException""#, Passes(SERVICE), always),
    fault("503", r#""do":"refuse","status":503"#, Passes("status 503"), always),
    fault(
        "408",
        r#""do":"refuse","code":"RequestTimeoutException""#,
        Passes("RequestTimeout: Request timed out"),
        always,
    ),
    fault(
        "throttled",
        r#""do":"refuse","code":"ThrottlingException""#,
        Passes("Throttling: Rate exceeded"),
        always,
    ),
    fault(
        "429",
        r#""do":"refuse","code":"TooManyRequestsException""#,
        Passes("TooManyRequests: Too many requests"),
        always,
    ),
    fault(
        "token expired",
        r#""do":"refuse","code":"ExpiredTokenException""#,
        Credentials("ExpiredToken: The security token included in the request is expired"),
        always,
    ),
    fault(
        "signature expired",
        r#""do":"refuse","code":"InvalidSignatureException""#,
        Passes("InvalidSignature: Signature expired: *; is this machine's clock right?"),
        always,
    ),
    fault(
        "unknown key",
        r#""do":"refuse","code":"UnrecognizedClientException""#,
        Credentials(
            "UnrecognizedClient: The security token included in the request is invalid; check the access key id",
        ),
        always,
    ),
    fault(
        "denied",
        r#""do":"refuse","code":"AccessDeniedException""#,
        Credentials("AccessDenied: Access denied"),
        always,
    ),
    fault(
        "not found",
        r#""do":"refuse","code":"ResourceNotFoundException""#,
        Refuses("ResourceNotFound: The resource was not found"),
        always,
    ),
    fault(
        "no longer supported",
        r#""do":"refuse","code":"NoLongerSupportedException""#,
        Refuses(
            "NoLongerSupported: The service takes no new customers; the vault service takes no new customers, use the S3 Glacier storage classes",
        ),
        always,
    ),
    fault(
        "invalid",
        r#""do":"refuse","code":"InvalidParameterValueException","status":400,"message":"No""#,
        Refuses("InvalidParameterValue: No"),
        always,
    ),
    fault("drop", r#""do":"drop""#, Passes(BROKEN), always),
    fault("drop within", r#""do":"drop-after","bytes":500000"#, Passes(BROKEN), part),
    fault("drop behind", r#""do":"drop-after","bytes":5000000"#, Passes(BROKEN), part),
    fault("lost answer", r#""do":"lose-answer""#, Passes(BROKEN), always),
    fault("cut answer", r#""do":"cut-answer","bytes":20"#, Passes("*"), body),
    fault("stall", r#""do":"stall""#, Passes(LATE), always),
    fault("stalled answer", r#""do":"stall-answer""#, Passes(LATE), always),
    fault("stalled body", r#""do":"stall-answer","bytes":20"#, Passes(LATE), body),
    fault("drip", r#""do":"drip","rate":10"#, Passes(LATE), body),
    fault("portal", r#""do":"answer","body":"<html>log in</html>""#, Passes("*"), json),
    fault("truncated", r#""do":"truncate","bytes":20"#, Passes("*"), body),
    fault("corrupt", r#""do":"corrupt","bytes":0"#, Passes("*"), json),
    fault(
        "corrupt bytes",
        r#""do":"corrupt","bytes":77"#,
        Damages("part 0 does not equal its hash; none of it passed on"),
        bytes,
    ),
    fault("wrong hash", r#""do":"wrong-hash""#, Damages("*differs from the service's*"), hash),
    fault("no hash", r#""do":"no-hash""#, Damages("the service's answer has no tree hash"), hash),
    fault("other hash", r#""do":"wrong-hash""#, Harmless, bytes),
    fault("late", r#""do":"delay","ms":300"#, Harmless, always),
    fault("late answer", r#""do":"delay-answer","ms":300"#, Harmless, always),
    fault("forgotten", r#""do":"forget-upload""#, Harmless, upload),
    fault("failed", r#""do":"fail-job""#, Harmless, job),
    fault("expired", r#""do":"expire-job""#, Harmless, job),
];

/// How often a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// The first request.
    Once,
    /// All.
    Ever,
}
use Times::{Ever, Once};

/// A row for what the rule does not fit: call, scene, fault, how often, and
/// how the command ends.
type Other = (&'static str, Scene, &'static str, &'static [Times], i32, &'static str);

const BOTH: &[Times] = &[Once, Ever];
const O: &[Times] = &[Once];
const E: &[Times] = &[Ever];

const OTHERS: &[Other] = &[
    // A vault or an upload that is not there is another matter than a
    // refusal.
    ("DescribeVault", Fresh, "not found", BOTH, 69, NO_VAULT),
    ("InitiateMultipartUpload", Fresh, "not found", BOTH, 69, NO_VAULT),
    // Which end notices first decides the system's words.
    ("UploadMultipartPart", Fresh, "drop", E, 75, PART_FAILS),
    ("UploadMultipartPart", Fresh, "drop within", E, 75, PART_FAILS),
    ("UploadMultipartPart", Fresh, "stall", E, 75, PART_STALLS),
    ("UploadMultipartPart", Fresh, "stalled answer", E, 75, PART_STALLS),
    ("UploadMultipartPart", Fresh, "not found", O, 0, ""),
    ("UploadMultipartPart", Fresh, "not found", E, 69, LOST_TWICE),
    ("UploadMultipartPart", Fresh, "forgotten", E, 69, LOST_TWICE),
    // Its parts are looked at before a refusal is believed.
    ("CompleteMultipartUpload", Fresh, "no longer supported", O, 0, ""),
    ("CompleteMultipartUpload", Fresh, "invalid", O, 0, ""),
    ("CompleteMultipartUpload", Fresh, "not found", O, 0, ""),
    ("CompleteMultipartUpload", Fresh, "not found", E, 69, LOST_TWICE),
    ("CompleteMultipartUpload", Fresh, "forgotten", E, 69, LOST_TWICE),
    ("ListParts", Resumed, "not found", BOTH, 0, ""),
    // What is listed with another hash is sent anew.
    ("ListParts", Resumed, "wrong hash", BOTH, 0, ""),
    // Without an inventory there is nothing to look into yet.
    ("InitiateJob", Unconfirmed, "not found", BOTH, 75, WAITS),
    // Another inventory is asked for.
    ("DescribeJob", Searching, "not found", BOTH, 75, WAITS),
    ("DescribeJob", Searching, "failed", BOTH, 75, WAITS),
    ("DescribeJob", Searching, "expired", BOTH, 75, WAITS),
    ("GetJobOutput", Searching, "not found", BOTH, 75, WAITS),
    ("GetJobOutput", Searching, "failed", BOTH, 75, WAITS),
    ("GetJobOutput", Searching, "expired", BOTH, 75, WAITS),
    ("GetJobOutput", Searching, "portal", E, 65, UNREADABLE),
    ("GetJobOutput", Searching, "truncated", E, 65, UNREADABLE),
    ("GetJobOutput", Searching, "corrupt", E, 65, UNREADABLE),
    // After a failure the list of jobs is read: the request has worked.
    ("InitiateJob", Stored, "lost answer", E, 0, ""),
    ("InitiateJob", Stored, "stalled answer", E, 0, ""),
    // A job is asked for again once in a run.
    ("ListJobs", Stored, "failed", E, 75, FAILED_AGAIN),
    ("ListJobs", Stored, "expired", E, 75, GONE_AGAIN),
    ("InitiateJob", Stored, "failed", E, 75, FAILED_AGAIN),
    ("InitiateJob", Stored, "expired", E, 75, GONE_AGAIN),
    ("ListJobs", Begun, "failed", E, 75, FAILED_AGAIN),
    ("ListJobs", Begun, "expired", E, 75, GONE_AGAIN),
    ("GetJobOutput", Begun, "not found", O, 0, ""),
    ("GetJobOutput", Begun, "not found", E, 75, GONE_AGAIN),
    (
        "GetJobOutput",
        Begun,
        "failed",
        E,
        75,
        "x: volume 0: its retrieval failed again: InvalidParameterValue: The job is not currently available for download: *; run the same command again",
    ),
    ("GetJobOutput", Begun, "expired", E, 75, GONE_AGAIN),
    ("GetJobOutput", Begun, "stalled body", E, 75, DRIPS),
    ("GetJobOutput", Begun, "drip", E, 75, DRIPS),
];

/// A case of the matrix.
#[derive(Debug)]
pub struct Case {
    /// What to call it.
    pub name: String,
    times: Times,
    scene: Scene,
    call: &'static str,
    plan: String,
    code: i32,
    says: String,
}

/// All cases.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for on in CALLS {
        for fault in FAULTS.iter().filter(|fault| (fault.makes_sense)(on)) {
            for times in [Once, Ever] {
                cases.push(case(on, fault, times));
            }
        }
    }
    cases
}

fn case(on: &On, fault: &Fault, times: Times) -> Case {
    let scope = match times {
        Once => r#""nth":1"#,
        Ever => r#""times":"all""#,
    };
    let other = OTHERS.iter().find(|(call, scene, name, often, ..)| {
        *call == on.call && *scene == on.scene && *name == fault.name && often.contains(&times)
    });
    let usual = |(code, says): (i32, &str)| (code, says.to_owned());
    let (code, says) = match (other, fault.kind, times) {
        (Some((.., code, says)), ..) => (*code, (*says).to_owned()),
        // Nothing depends on an upload that is to be dropped.
        (None, kind, _) if on.call == "AbortMultipartUpload" => match kind {
            Harmless => (0, String::new()),
            Refuses(_) if fault.name == "not found" => (0, String::new()),
            Passes(why) | Credentials(why) | Refuses(why) | Damages(why) => {
                (0, format!("{STAYS}{why}"))
            }
        },
        (None, Refuses(why), _) => (69, format!("{}: {why}", on.thing)),
        (None, Harmless, _) | (None, _, Once) => usual(on.scene.usual()),
        (None, Passes(why), Ever) => {
            (75, format!("{}: {why}; run the same command again", on.thing))
        }
        (None, Credentials(why), Ever) => (77, format!("{}: {why}", on.thing)),
        (None, Damages(why), Ever) => (65, format!("{}: {why}", on.thing)),
    };
    Case {
        name: format!("{} {:?}: {}, {times:?}", on.call, on.scene, fault.name),
        times,
        scene: on.scene,
        call: on.call,
        plan: format!("{{\"call\":\"{}\",{scope},{}}}\n", on.call, fault.text),
        code,
        says,
    }
}

/// Whether a text is what a pattern with stars says.
fn fits(pattern: &str, text: &str) -> bool {
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let pieces: Vec<&str> = pieces.collect();
    let Some((last, middle)) = pieces.split_last() else { return rest.is_empty() };
    for piece in middle {
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
    }
    rest.ends_with(last)
}

/// Where a case happens.
struct Stage {
    place: Place,
    server: Local,
    bytes: Vec<u8>,
    lines: String,
}

impl Stage {
    fn set(scene: Scene) -> Self {
        let place = Place::default();
        let mut server = Local::start(&place);
        let bytes = pattern(3 * MIB);
        if scene == Changed {
            let other: Vec<u8> = bytes.iter().map(|byte| byte ^ 1).collect();
            let lines = chunk(&place, &other);
            let cut = &lines[..lines.find("{\"type\":\"volume\"").unwrap()];
            let ended = run_with(&mut put(&server, &place, "1s"), cut.as_bytes());
            assert_eq!(ended.code(), 75, "{}", ended.stderr);
        }
        let lines = chunk(&place, &bytes);
        let mut stage = Self { place, server, bytes, lines };
        match scene {
            Fresh | Changed => {}
            Resumed => {
                let cut = &stage.lines[..stage.lines.find("{\"type\":\"volume\"").unwrap()];
                let mut put = put(&stage.server, &stage.place, "1s");
                let ended = run_with(&mut put, cut.as_bytes());
                assert_eq!(ended.code(), 75, "{}", ended.stderr);
            }
            Unconfirmed | Searching => {
                let lost = r#"{"call":"CompleteMultipartUpload","times":"all","do":"lose-answer"}"#;
                stage.server.fail(lost);
                let ended = stage.run(Fresh, "1s");
                assert_eq!(ended.code(), 75, "{}", ended.stderr);
                stage.server.fail("");
                stage.server.pass(27);
                if scene == Searching {
                    let ended = stage.run(Fresh, "1s");
                    assert_eq!(ended.code(), 75, "{}", ended.stderr);
                    stage.server.pass(5);
                }
            }
            Stored | Begun => {
                stage.run(Fresh, "1s").done();
                if scene == Begun {
                    let mut get = stage.get("1s");
                    get.arg("--no-wait");
                    let ended = run_on(&mut get, &stage.place.path("catalog.jsonl"));
                    assert_eq!(ended.code(), 75, "{}", ended.stderr);
                    stage.server.pass(1);
                }
            }
        }
        server = stage.server;
        Self { server, ..stage }
    }

    fn get(&self, patience: &str) -> Command {
        let options = [
            "--tier",
            "Expedited",
            "--concurrency",
            "1",
            "--timeout",
            "1s",
            "--patience",
            patience,
        ];
        let mut get = self.place.tool("glacier-get", &options);
        self.server.client(&mut get);
        get
    }

    /// The command of a scene.
    fn run(&self, scene: Scene, patience: &str) -> Ended {
        if !scene.is_get() {
            return run_with(&mut put(&self.server, &self.place, patience), self.lines.as_bytes());
        }
        let mut get = self.get(patience);
        get.args(["--", "dd", "of=back", "status=none"]);
        run(get.stdin(File::open(self.place.path("catalog.jsonl")).unwrap()))
    }

    /// Asserts that the service has exactly what it is to have.
    #[track_caller]
    fn is_right(&self, scene: Scene) {
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
        let catalog = std::fs::read_to_string(self.place.path("catalog.jsonl")).unwrap();
        for held in &archives {
            assert!(catalog.contains(&held.id), "not in the catalog: {held:?}");
        }
        if scene.is_get() {
            assert!(std::fs::read(self.place.path("back")).unwrap() == self.bytes, "other bytes");
        }
    }
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

/// Plays a case.
///
/// # Panics
/// When it ends otherwise, or what is left does not heal.
#[track_caller]
pub fn play(case: &Case) {
    let name = &case.name;
    let mut stage = Stage::set(case.scene);
    let before = stage.server.log().len();
    stage.server.fail(&case.plan);
    let patience = if case.times == Once { "30s" } else { "1s" };
    let ended = stage.run(case.scene, patience);
    let said = ended.stderr.trim_end();
    let said = said.split_once(": ").map_or(said, |(_, said)| said);
    assert!(
        ended.code() == case.code && fits(&case.says, said),
        "{name}: ended with {}: {said}\n  expected {}: {}",
        ended.code(),
        case.code,
        case.says
    );
    let struck = |line: &Value| line["call"] == case.call && !line["fault"].is_null();
    assert!(stage.server.log()[before..].iter().any(struck), "{name}: the fault did not strike");
    if case.scene.is_get()
        && case.code != 0
        && let Ok(back) = std::fs::read(stage.place.path("back"))
    {
        assert!(stage.bytes.starts_with(&back), "{name}: I5: other bytes were passed on");
    }
    stage.server.fail("");
    let mut runs = 0;
    loop {
        let again = stage.run(case.scene, "30s");
        runs += 1;
        if again.code() == 0 {
            break;
        }
        let waits = again.code() == 75 && again.stderr.contains(WAITS);
        assert!(waits && runs < 4, "{name}: again ended with {}: {}", again.code(), again.stderr);
        stage.server.pass(5);
    }
    stage.is_right(case.scene);
}
