//! Any two programs that can meet on one spool, catalog, output, dataset or
//! lock: one stands before a call, the other comes, and something happens to
//! one of them.
//!
//! strace holds the first before each of its calls that create, rename,
//! unlink, lock or write what others know (`point`, `stand`), while the second
//! runs; `party` knows who can meet and what each promises, `scene` where, and
//! `judge` what must be so in the end.

mod judge;
mod party;
mod point;
mod pool;
mod scene;
mod scripts;
mod stand;
mod table;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::ALL;
use crate::lab::{self, Lab, Tally};
use crate::sweep::no_strace;
use party::Party::{self, Sh};
use point::Point;
use scene::Stream::Full;
use scene::{Scene, State, Stream};
use scripts::Script;
use stand::{Ended, Running};
use table::PAIRS;

/// Runs at the same time: most of the time both programs stand or wait.
const AT_ONCE: usize = 8;

/// How long one that waits for the other is waited for.
const WAITS: Duration = Duration::from_secs(3);

/// What happens to one that stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    /// It goes on.
    GoesOn,
    /// It is killed there, with all that it started.
    Killed,
    /// It is stopped behind its call, and wakes later.
    Stopped,
    /// Its write is cut short by a limit on files, and the signal ends it.
    Cut,
}

impl Fate {
    fn name(self) -> &'static str {
        match self {
            Self::GoesOn => "goes on",
            Self::Killed => "is killed",
            Self::Stopped => "is stopped",
            Self::Cut => "is cut short",
        }
    }

    fn is_possible(self, point: &Point) -> bool {
        self != Self::Cut || point.is_write()
    }

    fn ends_it(self) -> bool {
        matches!(self, Self::Killed | Self::Cut)
    }
}

/// One meeting.
#[derive(Clone)]
struct Cell {
    /// The one that stands, and where.
    one: Party,
    point: Point,
    fate: Fate,
    /// The one that comes meanwhile, and perhaps where something happens to it.
    other: Party,
    there: Option<(Point, Fate)>,
}

impl Cell {
    fn name(&self) -> String {
        let Self { one, point, fate, other, .. } = self;
        let there = self
            .there
            .as_ref()
            .map(|(point, fate)| format!(" {} at {}", fate.name(), point.name()));
        format!(
            "{} {} at {}; {}{}",
            one.name(),
            fate.name(),
            point.name(),
            other.name(),
            there.unwrap_or_default()
        )
    }
}

/// What two need, the higher of both.
fn needs(one: Party, other: Party) -> Vec<(Stream, State)> {
    let mut states: BTreeMap<Stream, State> = BTreeMap::new();
    for (stream, state) in one.needs().into_iter().chain(other.needs()) {
        let most = states.entry(stream).or_insert(state);
        *most = state.max(*most);
    }
    states.into_iter().collect()
}

/// Where they meet.
fn scene(streams: &[(Stream, State)], party: Party) -> Scene {
    let mut scene = Scene::new(streams);
    if matches!(party, Sh(Script::Files(_))) {
        scene.pool = Some(pool::furnish(&scene));
    } else if matches!(party, Sh(_)) || streams == [(Full, State::Stored)] {
        scripts::furnish(&scene);
    }
    scene
}

/// All meetings; where each program can stand is seen by a run without another.
fn cells(lab: &Lab, with_fuse: bool) -> Result<Vec<Cell>, Tally> {
    let wanted =
        |cell: &Cell| lab.target.as_deref().is_none_or(|target| cell.name().contains(target));
    let mut meetings: Vec<(Party, Party)> = Vec::new();
    for (one, other) in PAIRS {
        if matches!(one, Sh(Script::Files(_))) && !with_fuse {
            continue;
        }
        meetings.push((*one, *other));
        if one != other {
            meetings.push((*other, *one));
        }
    }
    // Those that a target cannot mean need not be looked at.
    if let Some(target) = &lab.target {
        let names = |(one, other): &(Party, Party)| [one.name(), other.name()];
        let is_named = |pair: &(Party, Party)| names(pair).iter().any(|it| target.contains(it));
        if meetings.iter().any(is_named) {
            meetings.retain(is_named);
        }
    }
    let points = Mutex::new(BTreeMap::new());
    let watched: Vec<(Party, Vec<(Stream, State)>)> = meetings
        .iter()
        .flat_map(|(one, other)| [(*one, needs(*one, *other)), (*other, needs(*one, *other))])
        .collect();
    let mut distinct = watched.clone();
    distinct.sort();
    distinct.dedup();
    let watching = Lab { layer: "pairs", only: None, share: None, target: None, ..*lab };
    let failed = watching.each_of(AT_ONCE, distinct.len() as u64, |run, _| {
        let (party, streams) = &distinct[usize::try_from(run).unwrap()];
        let scene = scene(streams, *party);
        let (command, input) = party.command(&scene);
        let (ended, trace) = stand::watch(&command, input.as_deref(), &scene.root());
        // rm refuses what a stream in the spool is based on.
        let is_base = |(stream, state): &(Stream, State)| {
            *state == State::Spooled && stream.base().is_some_and(|base| *party == Party::Rm(base))
        };
        let code = if streams.iter().any(is_base) { 65 } else { 0 };
        assert_eq!(ended.code, Some(code), "{} alone: {}", party.name(), ended.said);
        let found = Point::all(&trace, &scene.root());
        points.lock().unwrap().insert((*party, streams.clone()), found);
    });
    if !failed.violations.is_empty() {
        return Err(failed);
    }
    let points = points.into_inner().unwrap();
    let of = |one: Party, other: Party| &points[&(one, needs(one, other))];
    let mut cells = Vec::new();
    for (one, other) in meetings {
        let (here, there) = (of(one, other), of(other, one));
        println!("== pairs: {} x {}: {} points", one.name(), other.name(), here.len());
        for point in here {
            let cell = |fate, there| Cell { one, point: point.clone(), fate, other, there };
            for fate in [Fate::GoesOn, Fate::Killed, Fate::Stopped, Fate::Cut] {
                if fate.is_possible(point) {
                    cells.push(cell(fate, None));
                }
            }
            // Something happens to the other, too, at a file that both know.
            let is_there = |theirs: &&Point| theirs.kind == point.kind && theirs.call != "execve";
            for theirs in there.iter().filter(is_there) {
                for fate in [Fate::Killed, Fate::Stopped, Fate::Cut] {
                    if fate.is_possible(theirs) {
                        cells.push(cell(Fate::GoesOn, Some((theirs.clone(), fate))));
                    }
                }
            }
        }
    }
    // A whole name means that meeting, and not those whose names go on.
    let is_whole = |cell: &Cell| lab.target.as_deref() == Some(cell.name().as_str());
    if cells.iter().any(is_whole) {
        cells.retain(is_whole);
    }
    cells.retain(wanted);
    Ok(cells)
}

/// Meetings of the table, as many as `runs` says; which come first is the
/// seed's choice.
pub fn run(lab: &Lab, runs: u64) -> Tally {
    if let Some(why) = no_strace() {
        return Tally::skipped(why);
    }
    // A daemon of ZFS takes its time: all of the table has it, or who asks for it.
    let asks = lab.target.as_deref().is_some_and(|target| target.contains("backup of"));
    let mut without = None;
    if runs == ALL || asks {
        without = pool::start().err();
    }
    let with_fuse = (runs == ALL || asks) && without.is_none();
    let tally = attack(lab, runs, with_fuse);
    pool::stop();
    Tally { skipped: without.map(|why| format!("zfs-fuse: {why}")), ..tally }
}

fn attack(lab: &Lab, runs: u64, with_fuse: bool) -> Tally {
    let cells = match cells(lab, with_fuse) {
        Ok(cells) => cells,
        Err(failed) => return failed,
    };
    let count = cells.len() as u64;
    println!("== pairs: {} pairs, {count} meetings", PAIRS.len());
    if count == 0 {
        return Tally::default();
    }
    // A share has as much of each pair, and as many in which something happens
    // to one as to both.
    let mut pairs: BTreeMap<(Party, Party, bool), Vec<&Cell>> = BTreeMap::new();
    for cell in &cells {
        pairs.entry((cell.one, cell.other, cell.there.is_some())).or_default().push(cell);
    }
    let pairs: Vec<Vec<&Cell>> = pairs.into_values().collect();
    let stood = AtomicU64::new(0);
    let tally = lab.each_of(AT_ONCE, runs.min(count), |run, chance| {
        let cell = if runs >= count {
            &cells[usize::try_from(run).unwrap()]
        } else {
            let pair = chance.of::<Vec<&Cell>>(&pairs);
            *chance.of(pair)
        };
        let mut came = false;
        let result = lab::caught(|| came = meet(cell));
        stood.fetch_add(u64::from(came), Ordering::SeqCst);
        if let Err(why) = result {
            let name = cell.name();
            panic!("{name}: {why}; again: scripts/faultlab pairs --target '{name}'");
        }
    });
    println!("== pairs: stood in {} of {}", stood.into_inner(), tally.runs);
    tally
}

/// Lets two meet. Whether they did.
fn meet(cell: &Cell) -> bool {
    let Cell { one, point, fate, other, there } = cell;
    let scene = scene(&needs(*one, *other), *one);
    let root = scene.root();
    let ((first, first_in), (second, second_in)) = (one.command(&scene), other.command(&scene));
    let mut first = Running::start(first, first_in.as_deref(), &root, "one", Some(point));
    let stood = first.stands();
    let has_locked = stood && scene.is_sending();
    if stood && *fate == Fate::Stopped {
        first.stop_behind();
    }
    let theirs = there.as_ref().map(|(point, _)| point);
    let mut second = Running::start(second, second_in.as_deref(), &root, "other", theirs);
    let met = match there {
        None => None,
        Some((_, fate)) => second_stands(&mut second, &mut first).then_some(*fate),
    };
    match met {
        Some(Fate::Killed) => second.kill(),
        Some(Fate::Cut) => second.cut(),
        _ => {}
    }
    if met != Some(Fate::Stopped) {
        second.ends_within(WAITS);
    }
    match fate {
        _ if !stood => {}
        Fate::GoesOn => first.go_on(),
        Fate::Stopped => first.wake(),
        Fate::Killed => first.kill(),
        Fate::Cut => first.cut(),
    }
    if met == Some(Fate::Stopped) {
        first.ends_within(WAITS);
        second.go_on();
    }
    let ended = [first.end(), second.end()];
    let fates = [stood.then_some(*fate), met];
    judged(&scene, [*one, *other], &ended, fates, has_locked);
    stood
}

/// Whether the second comes to its point while the first stands. It may have
/// to wait for the first.
fn second_stands(second: &mut Running, _first: &mut Running) -> bool {
    second.stands_within(WAITS)
}

/// The judge's words, and how the two ended.
#[track_caller]
fn judged(
    scene: &Scene,
    parties: [Party; 2],
    ended: &[Ended; 2],
    fates: [Option<Fate>; 2],
    has_locked: bool,
) {
    let result = judge_all(scene, parties, ended, fates, has_locked);
    if let Err(why) = result {
        let [one, other] = parties.map(Party::name);
        let [first, second] = [&ended[0], &ended[1]].map(party::told);
        panic!("{why} ({one}: {first}; {other}: {second})");
    }
}

fn judge_all(
    scene: &Scene,
    parties: [Party; 2],
    ended: &[Ended; 2],
    fates: [Option<Fate>; 2],
    has_locked: bool,
) -> Result<(), String> {
    let is_ended = fates.map(|fate| fate.is_some_and(Fate::ends_it));
    for at in [0, 1] {
        let (party, other, ended) = (parties[at], parties[1 - at], &ended[at]);
        let Some(code) = ended.code else {
            if is_ended[at] {
                continue;
            }
            return Err(format!("{} was killed, and nobody did", party.name()));
        };
        if is_ended[at] && code != 0 {
            continue;
        }
        if !party.may_end(code, &ended.said, other, has_locked && at == 0) {
            return Err(format!("{} ends with {code}", party.name()));
        }
        // What is complained about is so, if the other was ended in the middle.
        if code == 0 && !ended.said.is_empty() && !is_ended[1 - at] {
            return Err(format!("{} complains, and ends with 0", party.name()));
        }
        if code == 0 {
            party.kept(scene, ["one", "other"][at], other)?;
        }
    }
    judge::recover(scene, parties, is_ended.contains(&true))
}
