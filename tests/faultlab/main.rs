//! The fault laboratory: attacks the real programs, lets them recover, and
//! judges what is left. Started by scripts/faultlab.
//!
//! A layer is one kind of attack, in a file of its own. `lab` counts runs and
//! violations, `rig` is what is attacked, `judge` is the one judge of all.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "what cannot go on here is a violation, and is caught as one"
)]

#[path = "../common/mod.rs"]
#[allow(dead_code, reason = "the laboratory uses its share")]
mod common;
#[path = "../network/matrix/mod.rs"]
#[allow(dead_code, reason = "the laboratory plays all of it, whatever it is called")]
mod matrix;

#[path = "../../models/src/swap.rs"]
mod swap;
#[path = "../fuzz/targets/mod.rs"]
mod targets;

mod alarm;
mod alone;
mod busy;
mod cuts;
mod fuzz;
mod judge;
mod kills;
mod lab;
mod model;
mod network;
mod pairs;
mod planted;
mod rig;
mod status;
mod streams;
mod sweep;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;

use lab::{Lab, Share, Tally};

/// A kind of attack.
struct Layer {
    name: &'static str,
    /// What one run is.
    unit: &'static str,
    /// Runs of `ci`, and of `full`.
    ci: u64,
    full: u64,
    run: fn(&Lab, u64) -> Tally,
}

/// All that there is to do, whatever its number.
const ALL: u64 = u64::MAX;

const LAYERS: &[Layer] = &[
    Layer { name: "model", unit: "model sequences", ci: 200, full: 2000, run: model::run },
    Layer { name: "kills", unit: "kills at random", ci: 40, full: 200, run: kills::run },
    Layer { name: "alone", unit: "tools killed alone", ci: 10, full: ALL, run: alone::run },
    Layer { name: "cuts", unit: "power cuts", ci: 20, full: 300, run: cuts::run },
    Layer { name: "streams", unit: "cuts and flips", ci: 300, full: 1500, run: streams::run },
    Layer { name: "sweep", unit: "calls that fail", ci: 60, full: ALL, run: sweep::run },
    Layer { name: "pairs", unit: "meetings of two", ci: 120, full: ALL, run: pairs::run },
    // Seconds for each target.
    Layer { name: "fuzz", unit: "inputs and targets", ci: 0, full: 600, run: fuzz::run },
    Layer {
        name: "busy",
        unit: "hashes beside busy processes",
        ci: 20,
        full: ALL,
        run: busy::run_all,
    },
    Layer { name: "network", unit: "cases", ci: 60, full: ALL, run: network::run },
    Layer { name: "alarm", unit: "planted faults", ci: ALL, full: ALL, run: alarm::run },
];

/// Attack the programs, and judge how they recover.
#[derive(Parser)]
#[command(name = "faultlab")]
struct Options {
    /// ci, full or soak, of all layers or of those that are named
    #[arg(required = true)]
    what: Vec<String>,
    /// Comes with every violation; gives the same attacks again
    #[arg(long)]
    seed: Option<u64>,
    /// Runs of each layer
    #[arg(long)]
    runs: Option<u64>,
    /// Only this run
    #[arg(long)]
    only: Option<u64>,
    /// K/N: where a layer does all that there is, only every N-th, from the K-th
    #[arg(long)]
    share: Option<Share>,
    /// End a layer at its first violation
    #[arg(long)]
    first: bool,
    /// Only this fuzz target, or the network cases and meetings with this in their names
    #[arg(long)]
    target: Option<String>,
    /// How long to soak
    #[arg(long, default_value_t = 1.0)]
    hours: f64,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let seed = options.seed.unwrap_or_else(lab::new_seed);
    let what: Vec<&str> = options.what.iter().map(String::as_str).collect();
    let mut chosen = Vec::new();
    for layer in LAYERS {
        let runs = match what[..] {
            ["full" | "soak", ..] => layer.full,
            _ => layer.ci,
        };
        if !what.contains(&layer.name) && !matches!(what[..], ["ci" | "full" | "soak"]) {
            continue;
        }
        chosen.push((layer, options.runs.unwrap_or(runs)));
    }
    if chosen.is_empty() {
        let known: Vec<&str> = LAYERS.iter().map(|layer| layer.name).collect();
        println!("faultlab: ci, full or soak, and layers: {}", known.join(" "));
        return ExitCode::from(64);
    }
    lab::catch_panics();
    // What is done as often as a number says has no pieces.
    let share = |runs| options.share.filter(|_| runs == ALL);
    let recorded = matches!(what[..], ["full" | "soak", ..]);
    let end = Instant::now() + Duration::from_secs_f64(options.hours * 3600.0);
    let (mut round, mut red) = (seed, false);
    loop {
        for (layer, runs) in &chosen {
            let share = share(*runs);
            let tally = attack(layer, *runs, share, round, &options);
            red |= !tally.violations.is_empty();
            if recorded {
                let mut name = layer.name.to_owned();
                name.extend(options.target.iter().map(|target| format!(" {target}")));
                name.extend(share.iter().map(|share| format!(" {share}")));
                status::append(what[0], &name, layer.unit, round, &tally);
            }
        }
        round = round.wrapping_add(1);
        if what[0] != "soak" || Instant::now() > end {
            break;
        }
    }
    ExitCode::from(u8::from(red))
}

/// Runs a layer, and tells what came of it.
fn attack(layer: &Layer, runs: u64, share: Option<Share>, seed: u64, options: &Options) -> Tally {
    let piece = share.map(|share| format!(", piece {share}")).unwrap_or_default();
    println!("== {}: seed {seed}{piece}", layer.name);
    let lab = Lab {
        layer: layer.name,
        seed,
        runs,
        only: options.only,
        share,
        first: options.first,
        target: options.target.clone(),
    };
    let begin = Instant::now();
    let mut tally = (layer.run)(&lab, runs);
    tally.took = begin.elapsed();
    if let Some(why) = &tally.skipped {
        println!("SKIP: faultlab: {}: {why}", layer.name);
    }
    println!(
        "== {}: {} {}, {} violations, {:.1} min",
        layer.name,
        tally.runs,
        layer.unit,
        tally.violations.len(),
        tally.took.as_secs_f64() / 60.0
    );
    tally
}
