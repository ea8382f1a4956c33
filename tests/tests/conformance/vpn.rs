//! Packets out of the tunnel, from a seed: what arrives is what the reference evaluator lets pass, of what the sender may
//! call its own. Core, edge and the kernel are the real ones; the peers write whatever packets they like.
mod draw;
mod ground;
mod peer;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use policy::eval::{Arrival, Clock, Packet, Transport, Verdict};
use policy::model::{Policy, VPN_INTERFACE};
use policy::raw::Sources;
use policy::resolve::load;

use self::draw::{TunnelDraw, Tunnelled};
use self::ground::{Falsify, Ground, NO_TAG};
use crate::draw::Draw;
use crate::generated::{number, seed};
use crate::ground::{Seat, Sighting};
use crate::pace::Pace;
use crate::pool::Pools;
use crate::probe::{Probe, expect};
use crate::trial::dangling_quote;
use crate::wire::{self, Stage, Wire};

const PACKETS: usize = 10_000;
const PACKETS_LONG: usize = 100_000;
/// For the planted fault; the seed is fixed, so that the test tells the same every time.
const PACKETS_FAULT: usize = 2_000;
const SEED_FAULT: u64 = 7;
/// Packets on their way at once: far less than edge's socket holds.
const BATCH: usize = 64;
/// Markers have tags from here on, packets below.
const FIRST_MARKER: u32 = 1 << 24;
/// What is on its way between two threads of edge, or two queues of the kernel, after the last marker.
const SETTLE: Duration = Duration::from_millis(500);
const MARKER_ROUNDS: usize = 4;
const MARKER_PORT: u16 = 5000;
const SHOWN: usize = 40;
/// A run that tries less of these proves too little, in percent of all packets.
const ALLOWED_PERCENT_MIN: usize = 25;
const SPOOFED_PERCENT_MIN: usize = 25;
const DENIED_PERCENT_MIN: usize = 15;
/// .. and so many of each family, protocol and outcome.
const CELL_MIN: usize = 80;

fn policy_text() -> String {
    let keyed =
        |text: String, name: &str| text.replace(&format!("@{name}@"), &peer::key(name).public().to_string());
    let text = ["doctor", "office", "absent"].into_iter().fold(include_str!("vpn.toml").to_owned(), keyed);
    format!("{}{text}", crate::site::GROUND)
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Allowed,
    /// The rules refuse it.
    Denied,
    /// Its source is not its sender's: it may not even leave the tunnel.
    Spoofed,
}

struct Record {
    sender: String,
    probe: Probe,
    outcome: Outcome,
    why: String,
    expected: Option<Seat>,
    seen: BTreeSet<Seat>,
    answered: bool,
}

struct Trial<'a> {
    policy: &'a Policy,
    ground: Ground,
    clock: Clock,
    records: Vec<Record>,
    /// The packets that a machine answers with a segment without payload, by what the segment will have: its source
    /// and both ports.
    asked: BTreeMap<(IpAddr, u16, u16), usize>,
    markers: u32,
    pace: Pace,
}

impl<'a> Trial<'a> {
    fn run(mut self, packets: usize, draw: &mut TunnelDraw<'_>) -> Self {
        while self.records.len() < packets {
            for _ in 0..BATCH.min(packets - self.records.len()) {
                self.send(draw.next());
            }
            self.mark();
        }
        for _ in 0..MARKER_ROUNDS {
            self.mark();
        }
        thread::sleep(SETTLE);
        let last = self.ground.collect();
        last.into_iter().for_each(|sighting| self.note(sighting));
        self
    }

    fn send(&mut self, Tunnelled { sender, probe }: Tunnelled) {
        let tag = u32::try_from(self.records.len()).expect("fewer packets than tags");
        let peer = &mut self.ground.peers[sender];
        let is_own = peer.addresses.contains(&probe.packet.source);
        let expectation = expect(self.policy, &probe, None, self.clock);
        let (outcome, expected) = match (&expectation.verdict, expectation.seat) {
            _ if !is_own => (Outcome::Spoofed, None),
            (Verdict::Deny { .. }, _) => (Outcome::Denied, None),
            (Verdict::Allow { .. } | Verdict::Control { .. }, seat) => (Outcome::Allowed, seat),
        };
        if let (true, Verdict::Control { name, .. }) = (is_own, &expectation.verdict) {
            self.pace.wait(name);
        }
        let quoted = dangling_quote(&probe);
        let stage = probe.stage();
        let Probe { shape, hop_limit, ident, .. } = probe;
        let wire = Wire { packet: &probe.packet, shape, hop_limit, ident, stage, tag, quoted };
        wire.packets().iter().for_each(|packet| peer.send(packet, is_own));
        if let Transport::Tcp { source_port, destination_port, .. } = probe.packet.transport {
            let answer = (probe.packet.destination, destination_port, source_port);
            self.asked.insert(answer, self.records.len());
        }
        let (sender, why) = (peer.name.clone(), format!("{:?}", expectation.verdict));
        let seen = BTreeSet::new();
        self.records.push(Record { sender, probe, outcome, why, expected, seen, answered: false });
    }

    /// Sends of each peer a packet that passes, and takes what comes until they have.
    fn mark(&mut self) {
        for number in 0..self.ground.peers.len() {
            let peer = &mut self.ground.peers[number];
            let target = ["192.168.10.10", "192.168.11.10"][number].parse().expect("an address");
            let transport = Transport::Udp { source_port: 9_000, destination_port: MARKER_PORT };
            let arrival = Arrival::Interface(VPN_INTERFACE.to_owned());
            let packet = Packet { arrival, source: peer.addresses[0], destination: target, transport };
            let probe = Probe::new(packet, 0);
            let tag = FIRST_MARKER + self.markers;
            let Probe { packet, shape, hop_limit, ident, .. } = &probe;
            let (shape, hop_limit, ident) = (*shape, *hop_limit, *ident);
            let wire = Wire { packet, shape, hop_limit, ident, stage: Stage::Syn, tag, quoted: Vec::new() };
            wire.packets().iter().for_each(|packet| peer.send(packet, true));
            self.markers += 1;
            // The port is nobody's: the machine's word about that comes back with the marker in it, and is not it.
            let is_it = |sighting: &Sighting| {
                sighting.tag == tag && wire::source_of(&sighting.bytes) == Some(probe.packet.source)
            };
            let sightings = self.ground.collect_until(is_it);
            sightings.into_iter().for_each(|sighting| self.note(sighting));
        }
    }

    fn note(&mut self, Sighting { tag, seat, bytes }: Sighting) {
        let vpn = self.policy.vpn.as_ref().map(|vpn| Seat::Zone(vpn.zone));
        let source = wire::source_of(&bytes);
        if Some(seat) == vpn {
            let by_ports = source.zip(wire::source_port_of(&bytes)).zip(wire::destination_port_of(&bytes));
            let asked = by_ports.and_then(|((source, from), to)| self.asked.get(&(source, from, to)));
            let about = if tag == NO_TAG { asked.copied() } else { Some(tag as usize) };
            let Some(record) = about.and_then(|index| self.records.get_mut(index)) else { return };
            if source == Some(record.probe.packet.destination) {
                record.answered = true;
            } else if source == Some(record.probe.packet.source) {
                // It came out of one peer's tunnel and went into another's.
                record.seen.insert(seat);
            }
        } else if tag < FIRST_MARKER {
            let record = self.records.get_mut(tag as usize).expect("a packet that was sent");
            record.seen.insert(seat);
        }
    }

    fn disagreements(&self) -> Vec<&Record> {
        let is_one = |record: &&Record| record.seen != BTreeSet::from_iter(record.expected);
        self.records.iter().filter(is_one).collect()
    }

    /// Of what passed to machines that answer by themselves: how many answers must come back, and those that did not.
    fn unanswered(&self) -> (usize, Vec<&Record>) {
        let machines = self.ground.answering();
        let is_answered = |record: &&Record| {
            let echo = matches!(
                record.probe.packet.transport,
                Transport::Icmp { kind: 8, .. } | Transport::Icmp6 { kind: 128, .. }
            );
            let begins = matches!(record.probe.packet.transport, Transport::Tcp { syn: true, .. });
            record.outcome == Outcome::Allowed
                && matches!(record.expected, Some(Seat::Zone(_)))
                && machines.contains(&record.probe.packet.destination)
                && (echo || begins)
        };
        let wanted: Vec<_> = self.records.iter().filter(is_answered).collect();
        (wanted.len(), wanted.into_iter().filter(|record| !record.answered).collect())
    }

    fn tally(&self) -> BTreeMap<(bool, u8, Outcome), usize> {
        let mut tally = BTreeMap::new();
        for Record { probe, outcome, .. } in &self.records {
            let number = match wire::protocol(&probe.packet) {
                1 | 58 if !matches!(probe.packet.transport, Transport::Other(_)) => 1,
                number @ (6 | 17) => number,
                _ => 0,
            };
            *tally.entry((probe.packet.source.is_ipv6(), number, *outcome)).or_default() += 1;
        }
        tally
    }
}

impl fmt::Display for Record {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Probe { packet, shape, hop_limit, .. } = &self.probe;
        writeln!(out, "{} sent {packet:?}, {shape:?}, hop limit {hop_limit}", self.sender)?;
        writeln!(out, "  it is {:?}; of the rules the evaluator says {}", self.outcome, self.why)?;
        write!(out, "  it must arrive at {:?}, and arrived at {:?}", self.expected, self.seen)
    }
}

/// Loads the policy, raises the clinic and tries so many packets.
fn tried<T>(packets: usize, seed: u64, falsify: Option<Falsify>, look: impl FnOnce(&Trial<'_>) -> T) -> T {
    let text = policy_text();
    let now = Timestamp::now();
    let policy = match load(&Sources::single("vpn.toml", text.clone()), now) {
        Ok(resolved) => resolved.policy,
        Err(report) => panic!("the test's own policy is refused: {report:#?}"),
    };
    let pools = Pools::new(&policy);
    let ground = Ground::new(&text, &policy, &pools, falsify);
    let senders = Ground::here(policy.vpn.as_ref().expect("a VPN"));
    let mut draw = TunnelDraw::new(Draw::new(&policy, &pools, seed), senders);
    let trial = Trial {
        policy: &policy,
        ground,
        clock: Clock { now, trusted: true },
        records: Vec::new(),
        asked: BTreeMap::new(),
        markers: 0,
        pace: Pace::default(),
    };
    look(&trial.run(packets, &mut draw))
}

fn too_few(trial: &Trial<'_>) -> Vec<String> {
    let tally = trial.tally();
    let all = trial.records.len();
    let mut missing = Vec::new();
    for (outcome, percent) in [
        (Outcome::Allowed, ALLOWED_PERCENT_MIN),
        (Outcome::Denied, DENIED_PERCENT_MIN),
        (Outcome::Spoofed, SPOOFED_PERCENT_MIN),
    ] {
        let count: usize = tally.iter().filter(|((.., of), _)| *of == outcome).map(|(_, count)| count).sum();
        println!("  {outcome:?}: {count} of {all}");
        if count * 100 < all * percent {
            missing.push(format!("only {count} of {all} are {outcome:?}"));
        }
        for (ip6, number) in [false, true].into_iter().flat_map(|ip6| [0, 1, 6, 17].map(|n| (ip6, n))) {
            let count = tally.get(&(ip6, number, outcome)).copied().unwrap_or(0);
            let family = if ip6 { "IPv6" } else { "IPv4" };
            println!("    {family} protocol {number}: {count}");
            if count < CELL_MIN {
                missing.push(format!("{family}, protocol {number}, {outcome:?}: only {count}"));
            }
        }
    }
    missing
}

fn shown(records: &[&Record]) -> String {
    records.iter().take(SHOWN).map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn of_generated_packets_out_of_the_tunnel_those_arrive_that_the_policy_lets_pass() {
    let long = std::env::var_os("SEKISHO_LONG").is_some_and(|value| value == "1");
    let default = if long { PACKETS_LONG } else { PACKETS };
    let packets = number("SEKISHO_PACKETS").map_or(default, |count| count as usize);
    let seed = seed();
    println!("SEKISHO_SEED={seed} SEKISHO_PACKETS={packets}, out of the tunnels of two peers");
    tried(packets, seed, None, |trial| {
        let missing = too_few(trial);
        let found = trial.disagreements();
        let (wanted, unanswered) = trial.unanswered();
        println!("{} disagreements; {} of {wanted} answers missing", found.len(), unanswered.len());
        assert!(found.is_empty(), "{} disagreements, seed {seed}:\n{}", found.len(), shown(&found));
        assert!(unanswered.is_empty(), "no answer, seed {seed}, to:\n{}", shown(&unanswered));
        trial.ground.assert_own_bytes();
        assert!(missing.is_empty(), "the run proves too little (seed {seed}): {}", missing.join("; "));
    });
}

/// Edge takes what the absent peer's addresses are for the doctor's own.
#[test]
fn a_tunnel_that_lets_one_peer_speak_for_another_is_found() {
    let falsify: Falsify = |settings: &mut serde_json::Value| {
        let peers = settings["vpn"]["peers"].as_array_mut().expect("peers");
        let place = |name: &str| peers.iter().position(|peer| peer["name"] == name).expect("a peer");
        let (doctor, absent) = (place("doctor"), place("absent"));
        let taken = std::mem::replace(&mut peers[absent]["allowed_ips"], serde_json::json!([]));
        let taken = taken.as_array().expect("networks").clone();
        peers[doctor]["allowed_ips"].as_array_mut().expect("networks").extend(taken);
    };
    tried(PACKETS_FAULT, SEED_FAULT, Some(falsify), |trial| {
        let found = trial.disagreements();
        println!("{} of {} packets found it; the first:", found.len(), trial.records.len());
        assert!(!found.is_empty(), "{PACKETS_FAULT} packets did not find the fault");
        println!("{}", shown(&found[..1]));
        let is_it = |record: &&&Record| {
            record.sender == "doctor" && record.outcome == Outcome::Spoofed && !record.seen.is_empty()
        };
        let others: Vec<_> = found.iter().filter(|record| !is_it(record)).copied().collect();
        assert!(others.is_empty(), "something else, too:\n{}", shown(&others));
    });
}
