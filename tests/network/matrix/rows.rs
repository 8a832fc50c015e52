//! The rows of the matrix: scenes, the calls in them, and where a call
//! answers a fault in its own way.

use super::Times::{self, Ever, Once};

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
    /// get, whose account allows no retrieval.
    Limited,
    /// ls vaults, of which there is one.
    Vaults,
    /// ls uploads, of which there is one.
    Uploads,
    /// ls jobs, of which there are two.
    Jobs,
    /// ls inventory, which the service has made, and was not asked for.
    Counted,
    /// ls inventory, which is ready.
    Listed,
    /// ls inventory --rebuild, whose manifest was not asked for.
    Manifest,
    /// ls inventory --rebuild, whose manifest is ready.
    Rebuilt,
    /// rm of a stream.
    Doomed,
    /// rm of a stream by a user who may not.
    Denied,
    /// rm of an upload.
    Given,
    /// rm of an empty vault.
    Empty,
    /// verify, of which nothing is asked yet.
    Sampled,
    /// verify, whose job is ready.
    Raised,
}
use Scene::{
    Begun, Changed, Counted, Denied, Doomed, Empty, Fresh, Given, Jobs, Limited, Listed, Manifest,
    Raised, Rebuilt, Resumed, Sampled, Searching, Stored, Unconfirmed, Uploads, Vaults,
};

impl Scene {
    /// The tool that makes the call.
    pub fn tool(self) -> &'static str {
        match self {
            Fresh | Resumed | Changed | Unconfirmed | Searching => "put",
            Stored | Begun | Limited => "get",
            Vaults | Uploads | Jobs | Counted | Listed | Manifest | Rebuilt => "ls",
            Doomed | Denied | Given | Empty => "rm",
            Sampled | Raised => "verify",
        }
    }

    /// How the command ends where nothing fails.
    pub fn usual(self) -> (i32, &'static str) {
        match self {
            Unconfirmed => (75, WAITS),
            Counted => (75, NO_INVENTORY_YET),
            Manifest => (75, NO_MANIFEST_YET),
            Limited => (75, LIMITED),
            Denied => (77, DENIED),
            _ => (0, ""),
        }
    }

    /// What else fails: a call that is made only after such a failure.
    pub fn also(self) -> &'static str {
        match self {
            Limited => {
                r#"{"call":"InitiateJob","times":"all","do":"refuse","code":"PolicyEnforcedException","status":400,"message":"No"}"#
            }
            Denied => {
                r#"{"call":"DeleteArchive","times":"all","do":"refuse","code":"AccessDeniedException"}"#
            }
            _ => "",
        }
    }

    /// Which of the requests is the first that fails: an inventory comes
    /// before the manifest that it names.
    pub fn first(self) -> u32 {
        if self == Rebuilt { 2 } else { 1 }
    }
}

/// A call in its scene, and what messages about it begin with.
pub struct On {
    pub call: &'static str,
    pub scene: Scene,
    pub thing: &'static str,
    /// What its answer has: nothing, JSON, or bytes that are looked at.
    pub body: Body,
    /// Whether its answer names a hash that is looked at.
    pub hash: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Body {
    None,
    Json,
    Bytes,
}

const fn on(call: &'static str, scene: Scene, thing: &'static str, body: Body, hash: bool) -> On {
    On { call, scene, thing, body, hash }
}

const VAULT: &str = "glacier://v";
const VOLUME: &str = "glacier://v: volume 0";
const MANIFEST: &str = "manifest of x";
const SAMPLE: &str = "x: volume *";

pub const CALLS: &[On] = &[
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
    on("GetDataRetrievalPolicy", Limited, "", Body::Json, false),
    on("ListVaults", Vaults, "vaults", Body::Json, false),
    on("ListMultipartUploads", Uploads, VAULT, Body::Json, false),
    on("ListParts", Uploads, VAULT, Body::Json, true),
    on("ListJobs", Jobs, VAULT, Body::Json, false),
    on("InitiateJob", Counted, VAULT, Body::None, false),
    on("ListJobs", Listed, VAULT, Body::Json, false),
    on("GetJobOutput", Listed, VAULT, Body::Json, false),
    on("InitiateJob", Manifest, MANIFEST, Body::None, false),
    on("GetJobOutput", Rebuilt, MANIFEST, Body::Bytes, false),
    on("DescribeVault", Doomed, VAULT, Body::Json, false),
    on("DeleteArchive", Doomed, "x: volume 0", Body::None, false),
    on("GetVaultLock", Denied, "", Body::Json, false),
    on("AbortMultipartUpload", Given, "upload *", Body::None, false),
    on("DeleteVault", Empty, VAULT, Body::None, false),
    on("ListJobs", Sampled, VAULT, Body::Json, false),
    on("InitiateJob", Sampled, SAMPLE, Body::None, false),
    on("GetJobOutput", Raised, SAMPLE, Body::Bytes, false),
];

pub const WAITS: &str = "volume 0: the service never said whether it is stored; looked for in the vault's next inventory, run the same command again tomorrow";
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
pub const STAYS: &str = "warning: an upload that is of no more use stays for a day: ";
pub const NO_INVENTORY_YET: &str =
    "glacier://v: its inventory is not ready; run the same command again in a few hours";
pub const NO_MANIFEST_YET: &str =
    "1 of 1 archives are not ready; run the same command again in a few hours";
const NO_INVENTORY: &str = "glacier://v: has no inventory yet, as the service makes one a day; run the same command again tomorrow";
const LIMITED: &str = "x: volume 0: PolicyEnforced: No; run the same command again later";
const DENIED: &str =
    "x: volume 0: AccessDenied: Access denied; use the credentials of a user who may delete";
const NOT_COUNTED: &str = "glacier://v: the service has made no inventory yet that proves it empty; run the same command again tomorrow";
const NOT_THERE: &str = "x: volume *: its archive * is not in glacier://v: ResourceNotFound: *; store stream * in another vault while its snapshot is there";
const DAMAGED: &str = "x: volume *: part *: does not equal its hash; archive * is damaged; store stream * in another vault while its snapshot is there";
const SAMPLE_FAILED_AGAIN: &str =
    "x: volume *: its retrieval failed again: *; run the same command again";
const INVENTORY_UNREADABLE: &str = "glacier://v: the inventory cannot be read: *";
const MANIFEST_DAMAGED: &str = "manifest of x: does not equal its tree hash in the inventory";
const SAMPLE_DRIPS: &str = "x: volume *: less than 256 KiB came in 1 s; run the same command again";
const MANIFEST_DRIPS: &str =
    "manifest of x: less than 256 KiB came in 1 s; run the same command again";
const LOST_TWICE: &str =
    "volume 0: the service has dropped its upload 2 times; use a smaller --volume-size";

/// A row for what the rule does not fit: call, scene, fault, how often, and
/// how the command ends.
pub type Other = (&'static str, Scene, &'static str, &'static [Times], i32, &'static str);

const BOTH: &[Times] = &[Once, Ever];
const O: &[Times] = &[Once];
const E: &[Times] = &[Ever];

pub const OTHERS: &[Other] = &[
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
    (
        "GetJobOutput",
        Searching,
        "endless body",
        E,
        65,
        "glacier://v: volume 0: the inventory is much longer than it should be",
    ),
    // After a failure the list of jobs is read: the request has worked.
    ("InitiateJob", Stored, "lost answer", E, 0, ""),
    ("InitiateJob", Stored, "stalled answer", E, 0, ""),
    ("InitiateJob", Stored, "no id", E, 0, ""),
    ("InitiateJob", Stored, "path as id", E, 0, ""),
    ("InitiateJob", Stored, "endless body", E, 0, ""),
    (
        "GetJobOutput",
        Begun,
        "endless body",
        E,
        65,
        "x: volume 0: more bytes came than were asked for",
    ),
    (
        "GetJobOutput",
        Listed,
        "endless body",
        E,
        65,
        "glacier://v: the inventory is much longer than it should be",
    ),
    (
        "GetJobOutput",
        Rebuilt,
        "endless body",
        E,
        65,
        "manifest of x: more bytes came than were asked for",
    ),
    ("InitiateJob", Counted, "no id", E, 75, NO_INVENTORY_YET),
    ("InitiateJob", Counted, "path as id", E, 75, NO_INVENTORY_YET),
    ("InitiateJob", Counted, "endless body", E, 75, NO_INVENTORY_YET),
    ("InitiateJob", Manifest, "no id", E, 75, NO_MANIFEST_YET),
    ("InitiateJob", Manifest, "path as id", E, 75, NO_MANIFEST_YET),
    ("InitiateJob", Manifest, "endless body", E, 75, NO_MANIFEST_YET),
    ("InitiateJob", Sampled, "no id", E, 0, ""),
    ("InitiateJob", Sampled, "path as id", E, 0, ""),
    ("InitiateJob", Sampled, "endless body", E, 0, ""),
    (
        "GetJobOutput",
        Raised,
        "endless body",
        E,
        65,
        "x: volume *: part *: more bytes came than were asked for; archive * is damaged; *",
    ),
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
    // No more is needed of an upload than its size; one that is gone has none.
    ("ListParts", Uploads, "not found", BOTH, 0, ""),
    ("ListParts", Uploads, "wrong hash", BOTH, 0, ""),
    // After a failure the list of jobs is read: the request has worked.
    ("InitiateJob", Counted, "lost answer", E, 75, NO_INVENTORY_YET),
    ("InitiateJob", Counted, "stalled answer", E, 75, NO_INVENTORY_YET),
    ("InitiateJob", Counted, "not found", BOTH, 75, NO_INVENTORY),
    // Another inventory is asked for.
    ("ListJobs", Listed, "failed", BOTH, 75, NO_INVENTORY_YET),
    ("ListJobs", Listed, "expired", BOTH, 75, NO_INVENTORY_YET),
    ("GetJobOutput", Listed, "not found", BOTH, 75, NO_INVENTORY_YET),
    ("GetJobOutput", Listed, "failed", BOTH, 75, NO_INVENTORY_YET),
    ("GetJobOutput", Listed, "expired", BOTH, 75, NO_INVENTORY_YET),
    ("GetJobOutput", Listed, "portal", E, 65, INVENTORY_UNREADABLE),
    ("GetJobOutput", Listed, "truncated", E, 65, INVENTORY_UNREADABLE),
    ("GetJobOutput", Listed, "corrupt", E, 65, INVENTORY_UNREADABLE),
    ("InitiateJob", Manifest, "lost answer", E, 75, NO_MANIFEST_YET),
    ("InitiateJob", Manifest, "stalled answer", E, 75, NO_MANIFEST_YET),
    // The manifest is asked for again.
    ("GetJobOutput", Rebuilt, "not found", BOTH, 75, NO_MANIFEST_YET),
    ("GetJobOutput", Rebuilt, "failed", BOTH, 75, NO_MANIFEST_YET),
    ("GetJobOutput", Rebuilt, "expired", BOTH, 75, NO_MANIFEST_YET),
    ("GetJobOutput", Rebuilt, "stalled body", E, 75, MANIFEST_DRIPS),
    ("GetJobOutput", Rebuilt, "drip", E, 75, MANIFEST_DRIPS),
    ("GetJobOutput", Rebuilt, "corrupt bytes", E, 65, MANIFEST_DAMAGED),
    // What is not there needs no deletion.
    ("DeleteArchive", Doomed, "not found", BOTH, 0, ""),
    ("DeleteArchive", Doomed, "denied", E, 77, DENIED),
    ("AbortMultipartUpload", Given, "not found", BOTH, 0, ""),
    ("DeleteVault", Empty, "not found", BOTH, 0, ""),
    // The service refuses so where a vault is not proven empty.
    ("DeleteVault", Empty, "invalid", BOTH, 75, NOT_COUNTED),
    ("ListJobs", Sampled, "failed", E, 75, SAMPLE_FAILED_AGAIN),
    ("ListJobs", Sampled, "expired", E, 75, SAMPLE_FAILED_AGAIN),
    ("InitiateJob", Sampled, "lost answer", E, 0, ""),
    ("InitiateJob", Sampled, "stalled answer", E, 0, ""),
    ("InitiateJob", Sampled, "failed", E, 75, SAMPLE_FAILED_AGAIN),
    ("InitiateJob", Sampled, "expired", E, 75, SAMPLE_FAILED_AGAIN),
    // What is stored is not there: that is what the tool is to find.
    ("InitiateJob", Sampled, "not found", BOTH, 65, NOT_THERE),
    ("GetJobOutput", Raised, "not found", O, 0, ""),
    ("GetJobOutput", Raised, "not found", E, 75, SAMPLE_FAILED_AGAIN),
    ("GetJobOutput", Raised, "failed", E, 75, SAMPLE_FAILED_AGAIN),
    ("GetJobOutput", Raised, "expired", E, 75, SAMPLE_FAILED_AGAIN),
    ("GetJobOutput", Raised, "stalled body", E, 75, SAMPLE_DRIPS),
    ("GetJobOutput", Raised, "drip", E, 75, SAMPLE_DRIPS),
    ("GetJobOutput", Raised, "corrupt bytes", E, 65, DAMAGED),
];
