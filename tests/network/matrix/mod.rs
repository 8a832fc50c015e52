//! The network matrix: each call of the tools, with each fault that makes
//! sense for it, once and for ever. A case says how the command ends; after
//! it the same command without faults must finish, and leave exactly what
//! there is to be.
//!
//! The rule is in [`CALLS`] and [`FAULTS`]; where a call answers a fault in
//! its own way, a row of [`OTHERS`] says so.

mod faults;
mod rows;
mod stage;

use serde_json::Value;

use faults::Kind::{Credentials, Damages, Harmless, Lies, Passes, Refuses};
use faults::{FAULTS, Fault};
use rows::Scene::{self, Changed, Empty};
use rows::{CALLS, OTHERS, On, STAYS, WAITS};
use stage::Stage;

/// How often a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// The first request.
    Once,
    /// All.
    Ever,
}
use Times::{Ever, Once};

/// A case of the matrix.
#[derive(Debug)]
pub struct Case {
    /// What to call it.
    pub name: String,
    /// Which tool meets it.
    pub tool: &'static str,
    /// Which fault it is.
    pub fault: &'static str,
    /// How the tool ends.
    pub code: i32,
    times: Times,
    scene: Scene,
    call: &'static str,
    plan: String,
    says: String,
}

/// All cases.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for on in CALLS {
        for fault in FAULTS.iter().filter(|fault| (fault.makes_sense)(on)) {
            let all: &[Times] = if matches!(fault.kind, Lies(_)) { &[Ever] } else { &[Once, Ever] };
            for &times in all {
                cases.push(case(on, fault, times));
            }
        }
    }
    cases
}

/// What an end says that hours cure.
const WAIT: [&str; 2] = [WAITS, "run the same command again in a few hours"];

fn case(on: &On, fault: &Fault, times: Times) -> Case {
    let first = on.scene.first();
    let scope = match times {
        Once => format!(r#""nth":{first}"#),
        Ever => format!(r#""from":{first},"times":"all""#),
    };
    let other = OTHERS.iter().find(|(call, scene, name, often, ..)| {
        *call == on.call && *scene == on.scene && *name == fault.name && often.contains(&times)
    });
    let usual = |(code, says): (i32, &str)| (code, says.to_owned());
    let (code, says) = match (other, fault.kind, times) {
        (Some((.., code, says)), ..) => (*code, (*says).to_owned()),
        // Nothing depends on an upload that is to be dropped.
        (None, kind, _) if on.scene == Changed => match kind {
            Harmless => (0, String::new()),
            Refuses(_) if fault.name == "not found" => (0, String::new()),
            Passes(why) | Credentials(why) | Refuses(why) | Damages(why) | Lies(why) => {
                (0, format!("{STAYS}{why}"))
            }
        },
        // Nor on what only makes a message better.
        (None, ..) if !on.scene.also().is_empty() => usual(on.scene.usual()),
        (None, Refuses(why), _) => (69, format!("{}: {why}", on.thing)),
        (None, Harmless, _) | (None, _, Once) => usual(on.scene.usual()),
        (None, Passes(why), Ever) => {
            (75, format!("{}: {why}; run the same command again", on.thing))
        }
        (None, Credentials(why), Ever) => (77, format!("{}: {why}", on.thing)),
        (None, Damages(why) | Lies(why), Ever) => (65, format!("{}: {why}", on.thing)),
    };
    Case {
        name: format!("{}: {} {:?}: {}, {times:?}", on.scene.tool(), on.call, on.scene, fault.name),
        tool: on.scene.tool(),
        fault: fault.name,
        times,
        scene: on.scene,
        call: on.call,
        plan: format!("{{\"call\":\"{}\",{scope},{}}}\n{}\n", on.call, fault.text, on.scene.also()),
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
    let ended = stage.run(patience);
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
    stage.is_sound(&ended);
    stage.server.fail("");
    let mut runs = 0;
    let last = loop {
        let again = stage.run("30s");
        runs += 1;
        // A vault that is gone cannot be asked for.
        let gone = case.scene == Empty && again.stderr.contains("glacier://v: ResourceNotFound");
        if again.code() == 0 || gone {
            break again;
        }
        let waits = again.code() == 75 && WAIT.iter().any(|wait| again.stderr.contains(wait));
        assert!(waits && runs < 4, "{name}: again ended with {}: {}", again.code(), again.stderr);
        stage.server.pass(5);
    };
    stage.is_right(&last, [&ended, &last].map(|it| &*it.stdout).concat().as_str());
}
