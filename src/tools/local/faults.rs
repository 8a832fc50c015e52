//! The fault plan: which request fails how, by what it is and by its number.
//!
//! Pure: `http` tells it every call as it comes, and does what it answers.
//! The same plan and the same requests in the same order fail the same way.

use std::collections::HashMap;
use std::time::Duration;

use serde::Deserialize;

use super::call::Call;

/// All faults of a server, and what was asked of it so far.
#[derive(Default)]
pub struct Plan {
    faults: Vec<Fault>,
    /// Requests so far: all, and of each call.
    all: u64,
    of: HashMap<Call, u64>,
}

/// A line of the plan.
struct Fault {
    call: Option<Call>,
    from: u64,
    times: Option<u64>,
    strike: Strike,
}

/// What strikes a request: the plan's word for it, and what is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Strike {
    /// The word behind `do`.
    pub name: &'static str,
    /// What it means.
    pub action: Action,
}

/// What a fault does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// The body is read, and this refusal answers it; nothing is done.
    Refuse { status: u16, code: String, message: String },
    /// The body is read, and this answers it; nothing is done.
    Answer { status: u16, body: String },
    /// The connection ends when so many bytes of the body were read.
    Drop { bytes: u64 },
    /// Reading stops for ever when so many bytes of the body were read.
    Stall { bytes: u64 },
    /// The call is done, and the connection ends without an answer.
    LoseAnswer,
    /// The connection ends behind so many bytes of the answer's body.
    CutAnswer { bytes: u64 },
    /// The call is done; the answer stops for ever, behind so many bytes of
    /// its body or before its first byte.
    StallAnswer { bytes: Option<u64> },
    /// Bodies move at so many bytes a second, both ways.
    Drip { rate: u64 },
    /// Nothing of the body is read for so long.
    Delay(Duration),
    /// The call is done, and its answer waits for so long.
    DelayAnswer(Duration),
    /// Tree hashes in the answer are others.
    WrongHash,
    /// Tree hashes are left out of the answer.
    NoHash,
    /// The names of archives, uploads and jobs in the answer are this.
    OtherId { id: String },
    /// The list names a next page, whatever page was asked for: so many that
    /// come in turn, or always a new one.
    EndlessList { markers: Option<u64>, number: u64 },
    /// The answer's body does not end: spaces follow it.
    EndlessBody,
    /// The answer's body ends behind so many bytes, and says so.
    Truncate { bytes: u64 },
    /// A bit of this byte of the answer's body is flipped, or of its last.
    Corrupt { at: u64 },
    /// The upload that is named or begun is forgotten.
    ForgetUpload,
    /// The job that is named or begun fails; of a list, all.
    FailJob,
    /// The job that is named or begun is forgotten; of a list, all.
    ExpireJob,
}

/// A line as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    call: Option<Call>,
    nth: Option<u64>,
    from: Option<u64>,
    times: Option<Times>,
    r#do: String,
    bytes: Option<u64>,
    ms: Option<u64>,
    rate: Option<u64>,
    status: Option<u16>,
    code: Option<String>,
    message: Option<String>,
    body: Option<String>,
    id: Option<String>,
    markers: Option<u64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Times {
    Number(u64),
    Word(String),
}

/// The refusals that a code alone means: status and message.
const KNOWN: [(&str, u16, &str); 10] = [
    ("AccessDeniedException", 403, "Access denied"),
    ("ExpiredTokenException", 403, "The security token included in the request is expired"),
    (
        "InvalidSignatureException",
        403,
        "Signature expired: 20261123T000000Z is now earlier than 20261123T000500Z",
    ),
    ("NoLongerSupportedException", 400, "The service takes no new customers"),
    ("RequestTimeoutException", 408, "Request timed out"),
    ("ResourceNotFoundException", 404, "The resource was not found"),
    ("ServiceUnavailableException", 500, "The service is unavailable"),
    ("ThrottlingException", 400, "Rate exceeded"),
    ("TooManyRequestsException", 429, "Too many requests"),
    ("UnrecognizedClientException", 403, "The security token included in the request is invalid"),
];

impl Plan {
    /// Reads a plan: a fault a line.
    ///
    /// # Errors
    /// The number of the first line that is none, and why.
    pub fn read(text: &str) -> Result<Self, (usize, String)> {
        let mut faults = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            if !line.trim().is_empty() {
                faults.push(Fault::read(line).map_err(|why| (number, why))?);
            }
        }
        Ok(Self { faults, ..Self::default() })
    }

    /// Counts a request, and gives what strikes it: the first line that fits.
    pub fn strike(&mut self, call: Option<Call>) -> Option<Strike> {
        self.all += 1;
        let of = call.map(|call| {
            let of = self.of.entry(call).or_default();
            *of += 1;
            *of
        });
        let all = self.all;
        let number = |fault: &Fault| match fault.call {
            None => Some(all),
            wanted if wanted == call => of,
            _ => None,
        };
        let struck = self.faults.iter().find_map(|fault| {
            let number = number(fault).filter(|number| fault.is_for(*number))?;
            Some((fault.strike.clone(), number))
        });
        struck.map(|(mut strike, now)| {
            if let Action::EndlessList { number, .. } = &mut strike.action {
                *number = now;
            }
            strike
        })
    }
}

impl Fault {
    fn is_for(&self, number: u64) -> bool {
        number >= self.from && self.times.is_none_or(|times| number - self.from < times)
    }

    fn read(text: &str) -> Result<Self, String> {
        // serde takes an array for a struct too.
        if !text.trim_start().starts_with('{') {
            return Err("not a JSON object".into());
        }
        let line: Line = serde_json::from_str(text).map_err(|e| {
            let why = e.to_string();
            why.split(" at line ").next().unwrap_or(&why).to_owned()
        })?;
        let (from, times) = match (line.nth, line.from, &line.times) {
            (Some(nth), None, None) => (nth, Some(1)),
            (Some(_), ..) => return Err("\"nth\" goes with neither \"from\" nor \"times\"".into()),
            (None, from, None) => (from.unwrap_or(1), Some(1)),
            (None, from, Some(Times::Number(times))) => (from.unwrap_or(1), Some(*times)),
            (None, from, Some(Times::Word(all))) if all == "all" => (from.unwrap_or(1), None),
            _ => return Err("\"times\" is a number or \"all\"".into()),
        };
        if from == 0 {
            return Err("requests are counted from 1".into());
        }
        let call = line.call;
        Ok(Self { call, from, times, strike: line.strike()? })
    }
}

impl Line {
    fn strike(self) -> Result<Strike, String> {
        let given = [
            ("bytes", self.bytes.is_some()),
            ("ms", self.ms.is_some()),
            ("rate", self.rate.is_some()),
            ("status", self.status.is_some()),
            ("code", self.code.is_some()),
            ("message", self.message.is_some()),
            ("body", self.body.is_some()),
            ("id", self.id.is_some()),
            ("markers", self.markers.is_some()),
        ];
        let bytes = self.bytes.ok_or("no \"bytes\"");
        let time = self.ms.map(Duration::from_millis).ok_or("no \"ms\"");
        let (name, fields, action): (_, &[&str], _) = match &*self.r#do {
            "refuse" => {
                let action = refuse(self.status, self.code, self.message)?;
                ("refuse", &["status", "code", "message"], action)
            }
            "answer" => {
                let status = status(self.status.unwrap_or(200))?;
                let body = self.body.unwrap_or_default();
                ("answer", &["status", "body"], Action::Answer { status, body })
            }
            "drop" => ("drop", &[], Action::Drop { bytes: 0 }),
            "drop-after" => ("drop-after", &["bytes"], Action::Drop { bytes: bytes? }),
            "stall" => ("stall", &["bytes"], Action::Stall { bytes: self.bytes.unwrap_or(0) }),
            "lose-answer" => ("lose-answer", &[], Action::LoseAnswer),
            "cut-answer" => ("cut-answer", &["bytes"], Action::CutAnswer { bytes: bytes? }),
            "stall-answer" => {
                ("stall-answer", &["bytes"], Action::StallAnswer { bytes: self.bytes })
            }
            "drip" => {
                let rate = self.rate.filter(|rate| *rate > 0);
                let rate = rate.ok_or("no \"rate\" of at least a byte a second")?;
                ("drip", &["rate"], Action::Drip { rate })
            }
            "delay" => ("delay", &["ms"], Action::Delay(time?)),
            "delay-answer" => ("delay-answer", &["ms"], Action::DelayAnswer(time?)),
            "wrong-hash" => ("wrong-hash", &[], Action::WrongHash),
            "no-hash" => ("no-hash", &[], Action::NoHash),
            "other-id" => {
                ("other-id", &["id"], Action::OtherId { id: self.id.unwrap_or_default() })
            }
            "endless-list" => {
                let markers = self.markers;
                if markers == Some(0) {
                    return Err("\"markers\" is at least 1".into());
                }
                ("endless-list", &["markers"], Action::EndlessList { markers, number: 0 })
            }
            "endless-body" => ("endless-body", &[], Action::EndlessBody),
            "truncate" => ("truncate", &["bytes"], Action::Truncate { bytes: bytes? }),
            "corrupt" => ("corrupt", &["bytes"], Action::Corrupt { at: self.bytes.unwrap_or(0) }),
            "forget-upload" => ("forget-upload", &[], Action::ForgetUpload),
            "fail-job" => ("fail-job", &[], Action::FailJob),
            "expire-job" => ("expire-job", &[], Action::ExpireJob),
            other => return Err(format!("\"{other}\" is no fault")),
        };
        match given.iter().find(|(field, given)| *given && !fields.contains(field)) {
            Some((field, _)) => Err(format!("\"{field}\" says nothing about \"{name}\"")),
            None => Ok(Strike { name, action }),
        }
    }
}

fn status(status: u16) -> Result<u16, String> {
    // A 1xx status is no answer.
    if (200..=599).contains(&status) {
        Ok(status)
    } else {
        Err("\"status\" is 200 to 599".to_owned())
    }
}

/// A refusal with what its code leaves open filled in; a status without a
/// code is the answer of a proxy, without a body.
fn refuse(
    given: Option<u16>,
    code: Option<String>,
    message: Option<String>,
) -> Result<Action, String> {
    let Some(code) = code else {
        if message.is_some() {
            return Err("a \"message\" needs a \"code\"".to_owned());
        }
        let status = status(given.ok_or("no \"status\" and no \"code\"")?)?;
        return Ok(Action::Answer { status, body: String::new() });
    };
    let known = KNOWN.iter().find(|(known, ..)| *known == code);
    let status = status(
        given
            .or(known.map(|(_, status, _)| *status))
            .ok_or_else(|| format!("no \"status\", and \"{code}\" has none of its own"))?,
    )?;
    let message =
        message.or_else(|| known.map(|(.., message)| (*message).to_owned())).unwrap_or_default();
    Ok(Action::Refuse { status, code, message })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strikes(plan: &str, calls: &[Call]) -> Vec<&'static str> {
        let mut plan = Plan::read(plan).unwrap();
        let strike = |call: &Call| plan.strike(Some(*call)).map_or("", |strike| strike.name);
        calls.iter().map(strike).collect()
    }

    fn action(line: &str) -> Action {
        Plan::read(line).unwrap().strike(Some(Call::ListParts)).unwrap().action
    }

    #[test]
    fn counts_requests_of_each_call_and_of_all() {
        use Call::{ListJobs as L, UploadMultipartPart as U};
        let calls = [U, L, U, U, L, U];
        let plan = r#"{"call":"UploadMultipartPart","nth":3,"do":"drop"}"#;
        assert_eq!(strikes(plan, &calls), ["", "", "", "drop", "", ""]);
        let plan = r#"{"call":"UploadMultipartPart","from":2,"times":2,"do":"drop"}"#;
        assert_eq!(strikes(plan, &calls), ["", "", "drop", "drop", "", ""]);
        let plan = r#"{"from":5,"times":"all","do":"drop"}"#;
        assert_eq!(strikes(plan, &calls), ["", "", "", "", "drop", "drop"]);
        assert_eq!(strikes(r#"{"do":"drop"}"#, &calls), ["drop", "", "", "", "", ""]);
        assert_eq!(strikes(r#"{"times":0,"do":"drop"}"#, &calls), ["", "", "", "", "", ""]);
    }

    #[test]
    fn the_first_line_that_fits_strikes() {
        let plan = "{\"call\":\"ListJobs\",\"nth\":1,\"do\":\"stall\"}\n\n{\"times\":\"all\",\"do\":\"drop\"}\n";
        assert_eq!(strikes(plan, &[Call::ListJobs, Call::ListJobs]), ["stall", "drop"]);
        assert_eq!(Plan::read(plan).unwrap().strike(None).unwrap().name, "drop");
    }

    #[test]
    fn a_code_brings_its_status_and_its_message() {
        let Action::Refuse { status, code, message } =
            action(r#"{"do":"refuse","code":"InvalidSignatureException"}"#)
        else {
            panic!("no refusal");
        };
        assert_eq!((status, &*code), (403, "InvalidSignatureException"));
        assert!(message.starts_with("Signature expired: "));
        assert_eq!(
            action(r#"{"do":"refuse","code":"X","status":418,"message":"tea"}"#),
            Action::Refuse { status: 418, code: "X".to_owned(), message: "tea".to_owned() }
        );
        assert_eq!(
            action(r#"{"do":"refuse","status":503}"#),
            Action::Answer { status: 503, body: String::new() }
        );
    }

    #[test]
    fn names_the_line_that_is_no_fault() {
        for (line, why) in [
            ("[]", "not a JSON object"),
            ("{", "EOF while parsing"),
            (r#"{"call":"ListJobs"}"#, "missing field `do`"),
            (r#"{"call":"listJobs","do":"drop"}"#, "unknown variant `listJobs`"),
            (r#"{"do":"explode"}"#, "\"explode\" is no fault"),
            (r#"{"do":"drop","bytes":1}"#, "\"bytes\" says nothing about \"drop\""),
            (r#"{"do":"drop","nht":1}"#, "unknown field `nht`"),
            (r#"{"do":"drop","do":"drop"}"#, "duplicate field `do`"),
            (r#"{"do":"drop-after"}"#, "no \"bytes\""),
            (r#"{"do":"drop-after","bytes":-1}"#, "invalid value"),
            (r#"{"do":"delay"}"#, "no \"ms\""),
            (r#"{"do":"drip","rate":0}"#, "no \"rate\""),
            (r#"{"do":"drop","nth":0}"#, "requests are counted from 1"),
            (r#"{"do":"drop","nth":1,"times":2}"#, "\"nth\" goes with neither"),
            (r#"{"do":"drop","times":"ever"}"#, "\"times\" is a number or \"all\""),
            (r#"{"do":"other-id","body":"x"}"#, "\"body\" says nothing about \"other-id\""),
            (r#"{"do":"endless-list","markers":0}"#, "\"markers\" is at least 1"),
            (r#"{"do":"refuse"}"#, "no \"status\" and no \"code\""),
            (r#"{"do":"refuse","code":"X"}"#, "no \"status\", and \"X\" has none"),
            (r#"{"do":"refuse","status":503,"message":"m"}"#, "a \"message\" needs a \"code\""),
            (r#"{"do":"refuse","status":100}"#, "\"status\" is 200 to 599"),
        ] {
            let (number, found) =
                Plan::read(&format!("{{\"do\":\"drop\"}}\n{line}\n")).err().unwrap();
            assert_eq!(number, 2, "{line}");
            assert!(found.starts_with(why), "{line}: {found}");
        }
    }
}
