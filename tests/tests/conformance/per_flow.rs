//! Every flow, pair of ends, service and family: packets that must pass and packets that must not, through the kernel.
use std::collections::BTreeMap;

use policy::eval::{Clock, Context, Packet, Transport, Verdict, evaluate};
use policy::model::{Endpoint, FlowId, Policy, Protocol};

use crate::draw::Draw;
use crate::ground::Ground;
use crate::kernel::Kernel;
use crate::pool::Pools;
use crate::probe::{Probe, Relation, mirror};
use crate::scene::{Scene, day, evening};
use crate::trial::{Disagreement, Trial};

/// How often a packet is drawn before it counts as impossible.
const TRIES: usize = 400;
/// Different ways to be wrong that are tried for each combination.
const WRONG: usize = 8;

/// One thing that a flow allows.
struct Case {
    flow: FlowId,
    ip6: bool,
    ends: (Endpoint, Endpoint),
    service: Protocol,
}

/// What a case was tried with.
#[derive(Default)]
struct Tried {
    passed: usize,
    dropped: usize,
}

#[test]
fn every_flow_passes_what_it_allows_and_nothing_beside() {
    for scene in [Scene::clinic(), Scene::overlapping()] {
        let policy = &scene.policy;
        let pools = Pools::new(policy);
        let mut ground = Ground::new(policy, &pools);
        let mut kernel = Kernel::open(&ground.lab);
        // Fixed: the same packets every time, so that a failure is one of the rules and not of the draw.
        let mut draw = Draw::new(policy, &pools, 2026);
        let mut trial = Trial::new(policy, &mut ground);
        kernel.apply(&scene.ruleset, &scene.live(evening()));
        let mut tried: BTreeMap<(FlowId, bool), Tried> = BTreeMap::new();
        let mut wrong = Vec::new();
        for case in cases(policy, &pools) {
            let (right, bad) = packets(&mut draw, &case);
            let tried = tried.entry((case.flow, case.ip6)).or_default();
            tried.passed += right.len();
            tried.dropped += bad.len();
            wrong.extend(both_ways(&mut draw, &mut trial, right, evening()));
            let bad = bad.into_iter().map(|packet| draw.probe(packet)).collect();
            wrong.extend(trial.run(bad, evening()));
        }
        wrong.extend(when_closed(&scene, &mut kernel, &mut trial));
        report(policy, &tried);
        let texts: Vec<String> = wrong.iter().map(ToString::to_string).collect();
        assert!(texts.is_empty(), "{} packets went wrong:\n{}", texts.len(), texts.join("\n"));
    }
}

/// Every combination of ends, service and family that has addresses.
fn cases(policy: &Policy, pools: &Pools) -> Vec<Case> {
    let mut cases = Vec::new();
    for (id, flow) in policy.flows() {
        for from in &flow.from {
            for to in &flow.to {
                for ip6 in [false, true] {
                    let empty = |end, other| pools.meant(policy, end, other, ip6).is_empty();
                    if empty(from, to) || empty(to, from) {
                        continue;
                    }
                    let ends = (from.clone(), to.clone());
                    let each = flow.services.iter().map(|service| (ends.clone(), *service));
                    cases.extend(each.map(|(ends, service)| Case { flow: id, ip6, ends, service }));
                }
            }
        }
    }
    cases
}

/// Packets that the evaluator names by the case's flow, and neighbours of them that it denies.
fn packets(draw: &mut Draw<'_>, case: &Case) -> (Vec<Packet>, Vec<Packet>) {
    let policy = draw.policy;
    let verdict = |packet: &Packet| evaluate(policy, packet, Context::New, evening());
    let (mut right, mut wrong) = (Vec::new(), Vec::new());
    for _ in 0..TRIES {
        let Some(packet) = draw.between(&case.ends.0, &case.ends.1, case.service, case.ip6) else { break };
        let own = matches!(verdict(&packet), Verdict::Allow { flow, .. } if flow == case.flow);
        if !own || !draw.is_fair(&packet) {
            continue;
        }
        // Not the same packet for both: what is spoilt could be taken for an answer to it.
        if right.is_empty() {
            let _ = draw.is_first(&packet);
            right.push(packet);
            continue;
        }
        let beside = beside_the_range(&packet, case.service);
        let spoilt = draw.spoilt(packet).into_iter().chain(beside);
        let spoilt: Vec<Packet> =
            spoilt.filter(|packet| draw.is_fair(packet) && draw.is_first(packet)).collect();
        wrong.extend(spoilt.into_iter().filter(|packet| matches!(verdict(packet), Verdict::Deny { .. })));
        if wrong.len() >= WRONG {
            break;
        }
    }
    (right, wrong)
}

/// The packet with the ports right below and above those of the service.
fn beside_the_range(packet: &Packet, service: Protocol) -> Vec<Packet> {
    let (Protocol::Tcp(low, high) | Protocol::Udp(low, high)) = service else { return Vec::new() };
    let ports = [low.checked_sub(1), high.checked_add(1)].into_iter().flatten();
    let with = |port: u16| {
        let mut packet = packet.clone();
        if let Transport::Tcp { destination_port, .. } | Transport::Udp { destination_port, .. } =
            &mut packet.transport
        {
            *destination_port = port;
        }
        packet
    };
    ports.map(with).collect()
}

/// The packets, and then their answers.
fn both_ways(
    draw: &mut Draw<'_>,
    trial: &mut Trial<'_>,
    packets: Vec<Packet>,
    clock: Clock,
) -> Vec<Disagreement> {
    let policy = draw.policy;
    let first = trial.records.len();
    let probes: Vec<Probe> = packets.into_iter().map(|packet| Probe::new(packet, draw.unique())).collect();
    let mut wrong = trial.run(probes, clock);
    let answers = (first..trial.records.len()).filter(|index| trial.is_open(*index)).filter_map(|index| {
        let record = &trial.records[index];
        let Verdict::Allow { path, .. } = record.expectation.verdict else { return None };
        let packet = mirror(policy, &record.probe.packet, path);
        Some(Probe { relation: Relation::Answers(index), ..Probe::new(packet, record.probe.ident) })
    });
    wrong.extend(trial.run(answers.collect(), clock));
    wrong
}

/// The same first packets once more when every schedule is closed.
fn when_closed(scene: &Scene, kernel: &mut Kernel, trial: &mut Trial<'_>) -> Vec<Disagreement> {
    kernel.set_live(&scene.live(day()));
    let again = trial.records.iter().filter(|record| record.probe.relation == Relation::New);
    let again: Vec<Probe> = again
        .filter(|record| {
            matches!(record.expectation.verdict, Verdict::Allow { flow, .. }
            if !scene.policy.flow(flow).timing.is_permanent())
        })
        .map(|record| record.probe.clone())
        .collect();
    assert!(!again.is_empty(), "no flow has a schedule");
    trial.run(again, day())
}

fn report(policy: &Policy, tried: &BTreeMap<(FlowId, bool), Tried>) {
    for (id, flow) in policy.flows() {
        let families = [(false, "IPv4"), (true, "IPv6")];
        for (ip6, family) in families {
            let Some(Tried { passed, dropped }) = tried.get(&(id, ip6)) else { continue };
            println!("{:24} {family} must pass {passed:3}, must drop {dropped:3}", flow.name);
            assert!(*dropped > 0 && *passed > 0, "{} {family} was not tried both ways", flow.name);
        }
        assert!(
            families.iter().any(|(ip6, _)| tried.contains_key(&(id, *ip6))),
            "{} was not tried",
            flow.name
        );
    }
}
