//! The faults of the matrix, and what each does to those who meet it.

use super::rows::Scene::{Begun, Jobs, Listed, Raised, Rebuilt, Uploads};
use super::rows::{Body, On};

/// What a fault does to those who meet it.
#[derive(Clone, Copy)]
pub enum Kind {
    /// It passes; where it does not, patience ends with 75 and this reason.
    Passes(&'static str),
    /// Credentials that may be better when they are loaded again; else 77.
    Credentials(&'static str),
    /// The service refuses: 69 at once.
    Refuses(&'static str),
    /// The answer is damaged; if it always is, 65.
    Damages(&'static str),
    /// What is always answered so is a lie: 65 at once.
    Lies(&'static str),
    /// Nobody notices.
    Harmless,
}
use Kind::{Credentials, Damages, Harmless, Lies, Passes, Refuses};

pub struct Fault {
    pub name: &'static str,
    /// Its fields in the plan.
    pub text: &'static str,
    pub kind: Kind,
    pub makes_sense: fn(&On) -> bool,
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

/// The answer names archives, uploads or jobs, one at least.
fn id(on: &On) -> bool {
    match on.call {
        "InitiateMultipartUpload" | "CompleteMultipartUpload" | "InitiateJob" | "DescribeJob" => {
            true
        }
        "ListJobs" => matches!(on.scene, Begun | Jobs | Listed | Rebuilt | Raised),
        "ListMultipartUploads" => on.scene == Uploads,
        _ => false,
    }
}

/// Its answer may have a body: HTTP gives a 204 none.
fn answer(on: &On) -> bool {
    !on.call.starts_with("Delete")
        && !matches!(on.call, "AbortMultipartUpload" | "UploadMultipartPart")
}

/// The call lists, and its answer names the next page.
fn list(on: &On) -> bool {
    on.call.starts_with("List")
}

/// The call is about jobs.
fn job(on: &On) -> bool {
    on.call.ends_with("Job") || on.call.ends_with("Jobs") || on.call == "GetJobOutput"
}

const BROKEN: &str = "*onnection *";
const LATE: &str = "*no answer in time*";
const NO_ID: &str =
    "the service's answer has no good * id: an id is 1 to 255 letters, digits, \"_\" or \"-\"";
const ENDLESS: &str = "the service's answer is longer than 1 MiB";
const CIRCLE: &str = "the service's list goes round in a circle";
const SERVICE: &str = "ServiceUnavailable: The service is unavailable";

pub const FAULTS: &[Fault] = &[
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
    fault("no id", r#""do":"other-id""#, Damages(NO_ID), id),
    fault("path as id", r#""do":"other-id","id":"..""#, Damages(NO_ID), id),
    fault("same page", r#""do":"endless-list","markers":1"#, Lies(CIRCLE), list),
    fault("circle", r#""do":"endless-list","markers":3"#, Lies(CIRCLE), list),
    fault("endless body", r#""do":"endless-body""#, Damages(ENDLESS), answer),
    fault("other hash", r#""do":"wrong-hash""#, Harmless, bytes),
    fault("late", r#""do":"delay","ms":300"#, Harmless, always),
    fault("late answer", r#""do":"delay-answer","ms":300"#, Harmless, always),
    fault("forgotten", r#""do":"forget-upload""#, Harmless, upload),
    fault("failed", r#""do":"fail-job""#, Harmless, job),
    fault("expired", r#""do":"expire-job""#, Harmless, job),
];
