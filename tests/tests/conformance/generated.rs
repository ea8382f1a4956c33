//! Thousands of packets from a seed: the kernel and the evaluator must agree about every one.
use std::time::{SystemTime, UNIX_EPOCH};

use policy::eval::Clock;
use policy::ruleset::Ruleset;

use crate::draw::Draw;
use crate::ground::Ground;
use crate::kernel::Kernel;
use crate::pool::Pools;
use crate::scene::{Scene, clocks};
use crate::tally::Tally;
use crate::trial::{Disagreement, Trial};

const PACKETS: usize = 20_000;
const PACKETS_LONG: usize = 100_000;
/// So many first packets go between two rounds of what follows on them.
const ROUND: usize = 300;
/// For every ten first packets so many that refer to them or to earlier ones.
const FOLLOWERS_PER_TEN: usize = 4;
/// Connections of an earlier clock that are tried again under the next.
const LEFT_OVER: usize = 400;
const SHOWN: usize = 40;

/// What a run found.
pub(crate) struct Outcome {
    pub(crate) disagreements: Vec<Disagreement>,
    pub(crate) tally: Tally,
}

/// Tries so many packets on a rule set that claims to be the scene's policy, over all clocks.
pub(crate) fn run(scene: &Scene, claimed: &Ruleset, packets: usize, seed: u64) -> Outcome {
    let pools = Pools::new(&scene.policy);
    let mut ground = Ground::new(&scene.policy, &pools);
    let mut kernel = Kernel::open(&ground.lab);
    let mut draw = Draw::new(&scene.policy, &pools, seed);
    let mut trial = Trial::new(&scene.policy, &mut ground);
    let clocks = clocks();
    let mut disagreements = Vec::new();
    let mut kept = Vec::new();
    for (number, (_, clock)) in clocks.iter().enumerate() {
        let live = scene.live(*clock);
        if number == 0 {
            kernel.apply(claimed, &live)
        } else {
            kernel.set_live(&live)
        }
        let old = draw.followers(
            &trial,
            &kept,
            if kept.is_empty() { 0 } else { LEFT_OVER.min(packets / 20) },
            true,
        );
        disagreements.extend(trial.run(old, *clock));
        let end = packets * (number + 1) / clocks.len();
        let start = trial.records.len();
        disagreements.extend(under_one_clock(&mut draw, &mut trial, *clock, end));
        kept = (start..trial.records.len()).collect();
    }
    let tally = trial.tally.clone();
    ground.assert_room_for_connections();
    Outcome { disagreements, tally }
}

fn under_one_clock(
    draw: &mut Draw<'_>,
    trial: &mut Trial<'_>,
    clock: Clock,
    end: usize,
) -> Vec<Disagreement> {
    let mut found = Vec::new();
    while trial.records.len() < end {
        let start = trial.records.len();
        let count = ROUND.min(end - start);
        let probes = draw.first_packets(count);
        found.extend(trial.run(probes, clock));
        let fresh: Vec<usize> = (start..trial.records.len()).collect();
        let followers = draw.followers(trial, &fresh, count * FOLLOWERS_PER_TEN / 10, false);
        found.extend(trial.run(followers, clock));
    }
    found
}

#[test]
fn kernel_and_evaluator_agree_about_generated_packets() {
    let seed = seed();
    let packets = packets();
    let mut tally = Tally::default();
    let mut disagreements = Vec::new();
    for (name, scene, salt) in
        [("the example", Scene::clinic(), 0), ("the overlaps", Scene::overlapping(), 1)]
    {
        let outcome = run(&scene, &scene.ruleset, packets / 2, seed.wrapping_add(salt));
        println!("{name}: {} packets, {} disagreements", outcome.tally.total(), outcome.disagreements.len());
        tally.add(&outcome.tally);
        disagreements.extend(outcome.disagreements);
    }
    println!("seed {seed}\n{tally}");
    let shown: Vec<String> = disagreements.iter().take(SHOWN).map(ToString::to_string).collect();
    let count = disagreements.len();
    assert!(
        shown.is_empty(),
        "{count} disagreements, SEKISHO_SEED={seed} SEKISHO_PACKETS={packets}:\n{}",
        shown.join("\n")
    );
    let missing = tally.missing();
    assert!(missing.is_empty(), "the run proves too little (seed {seed}): {}", missing.join("; "));
}

fn packets() -> usize {
    let long = std::env::var_os("SEKISHO_LONG").is_some_and(|value| value == "1");
    number("SEKISHO_PACKETS").map_or(if long { PACKETS_LONG } else { PACKETS }, |count| count as usize)
}

pub(crate) fn seed() -> u64 {
    let clock = || {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_nanos() as u64 % 1_000_000_007)
    };
    number("SEKISHO_SEED").unwrap_or_else(clock)
}

pub(crate) fn number(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number, not `{text}`")))
}
