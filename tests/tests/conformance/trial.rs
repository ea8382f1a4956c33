//! Sends packets through the kernel, sees where they arrive, and compares with the evaluator.
use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use policy::eval::{Arrival, Clock, Packet, Path, Transport, Verdict};
use policy::model::Policy;

use crate::ground::{Ground, Seat, Sighting};
use crate::pace::Pace;
use crate::probe::{Expectation, Probe, Relation, expect};
use crate::tally::Tally;
use crate::wire::{self, Shape, Stage, Wire};

/// So many packets are on their way at once; the captures hold far more.
const BATCH_MAX: usize = 400;

/// A trial: every packet so far, by number, and what became of it.
pub(crate) struct Trial<'a> {
    policy: &'a Policy,
    ground: &'a mut Ground,
    pub(crate) records: Vec<Record>,
    pub(crate) tally: Tally,
    pace: Pace,
}

/// A packet that was sent.
pub(crate) struct Record {
    pub(crate) probe: Probe,
    pub(crate) expectation: Expectation,
    pub(crate) seen: BTreeSet<Seat>,
    /// Its bytes where it arrived, as a connection's first packet.
    arrived: Vec<u8>,
    answered: bool,
}

/// Where the kernel and the evaluator are not of one mind.
pub(crate) struct Disagreement {
    index: usize,
    probe: Probe,
    about: Option<Packet>,
    verdict: String,
    expected: Option<Seat>,
    seen: BTreeSet<Seat>,
    clock: Clock,
    more: &'static str,
}

impl<'a> Trial<'a> {
    pub(crate) fn new(policy: &'a Policy, ground: &'a mut Ground) -> Self {
        // What another trial left on its way would be taken for this one's.
        ground.collect();
        Trial { policy, ground, records: Vec::new(), tally: Tally::default(), pace: Pace::default() }
    }

    /// Whether a packet can begin a connection that others refer to.
    pub(crate) fn is_open(&self, index: usize) -> bool {
        let record = &self.records[index];
        let allowed = matches!(record.expectation.verdict, Verdict::Allow { .. });
        allowed
            && !record.arrived.is_empty()
            && record.probe.shape == Shape::Plain
            && record.probe.relation == Relation::New
    }

    /// Whether the other end of a TCP connection has answered.
    pub(crate) fn is_answered(&self, index: usize) -> bool {
        self.records[index].answered
    }

    /// Sends packets in this order and judges each.
    pub(crate) fn run(&mut self, probes: Vec<Probe>, clock: Clock) -> Vec<Disagreement> {
        let mut found = Vec::new();
        let mut probes = probes.into_iter();
        loop {
            let batch: Vec<Probe> = probes.by_ref().take(BATCH_MAX).collect();
            if batch.is_empty() {
                return found;
            }
            let first = self.records.len();
            batch.into_iter().for_each(|probe| self.send(probe, clock));
            for sighting in self.ground.collect() {
                self.note(sighting);
            }
            for index in first..self.records.len() {
                self.tally.count(self.policy, &self.records[index]);
                found.extend(self.judge(index, clock));
            }
        }
    }

    fn send(&mut self, probe: Probe, clock: Clock) {
        let tag = u32::try_from(self.records.len()).expect("fewer packets than tags");
        let about = self.opener(&probe).map(|record| &record.probe.packet);
        let expectation = expect(self.policy, &probe, about, clock);
        if let Verdict::Control { name, .. } = &expectation.verdict {
            self.pace.wait(name);
        }
        let opener = self.opener(&probe);
        let (packet, quoted) = self.on_the_wire(&probe, opener);
        let Probe { shape, hop_limit, ident, .. } = probe;
        let stage = probe.stage();
        let ident = opener.and_then(Record::abroad).and_then(wire::ident_of).unwrap_or(ident);
        let packets = Wire { packet: &packet, shape, hop_limit, ident, stage, tag, quoted }.packets();
        match &packet.arrival {
            Arrival::Interface(name) => self.ground.send_from(name, &packets),
            Arrival::Local { egress } => {
                let egress = if goes_by_interface(packet.destination) { egress.as_deref() } else { None };
                self.ground.send_locally(egress, packet.destination, &packets);
            }
        }
        if let (Relation::Answers(opener), Stage::SynAck) = (probe.relation, stage) {
            self.records[opener].answered = true;
        }
        self.records.push(Record {
            probe,
            expectation,
            seen: BTreeSet::new(),
            arrived: Vec::new(),
            answered: false,
        });
    }

    /// The connection's first packet, where the kernel knows the connection.
    fn opener(&self, probe: &Probe) -> Option<&Record> {
        probe.relation.opener().map(|index| &self.records[index]).filter(|record| !record.arrived.is_empty())
    }

    /// The packet with the addresses and ports that are seen at its own side, and what an error quotes.
    fn on_the_wire(&self, probe: &Probe, opener: Option<&Record>) -> (Packet, Vec<u8>) {
        let mut packet = probe.packet.clone();
        let Some(opener) = opener else { return (packet, dangling_quote(probe)) };
        match probe.relation {
            Relation::New | Relation::Continues(_) => (packet, Vec::new()),
            Relation::Answers(_) => {
                translate(&mut packet, opener);
                (packet, Vec::new())
            }
            Relation::ErrorBack(_) => {
                let quoted = quote_of_arrived(opener);
                if let Some(source) = opener.abroad().and_then(wire::source_of) {
                    packet.destination = source;
                }
                (packet, quoted)
            }
            Relation::ErrorForth(_) => (packet, quote_of_answer(opener)),
        }
    }

    fn note(&mut self, sighting: Sighting) {
        let Some(record) = self.records.get_mut(sighting.tag as usize) else {
            panic!("a packet with the unknown tag {} arrived", sighting.tag);
        };
        record.seen.insert(sighting.seat);
        if record.arrived.is_empty() {
            record.arrived = sighting.bytes;
        }
    }

    fn judge(&self, index: usize, clock: Clock) -> Option<Disagreement> {
        let record = &self.records[index];
        let expected: BTreeSet<Seat> = record.expectation.seat.into_iter().collect();
        let more = if record.seen != expected {
            ""
        } else if !self.is_disguised_rightly(record) {
            "its source address was not what it must be on the outside"
        } else {
            return None;
        };
        Some(Disagreement {
            index,
            probe: record.probe.clone(),
            about: record.probe.relation.opener().map(|opener| self.records[opener].probe.packet.clone()),
            verdict: format!("{:?}", record.expectation.verdict),
            expected: record.expectation.seat,
            seen: record.seen.clone(),
            clock,
            more,
        })
    }

    /// Packets that leave through a masquerading line carry the line's address there; all others their own.
    fn is_disguised_rightly(&self, record: &Record) -> bool {
        let Verdict::Allow { path: Path::Forward { from, to }, .. } = &record.expectation.verdict else {
            return true;
        };
        let Some(found) = record.abroad().and_then(wire::source_of) else { return true };
        let source = record.probe.packet.source;
        let wan = self.policy.zone(*to).wan.as_ref();
        let masks = wan.is_some_and(|wan| if source.is_ipv4() { wan.masquerade4 } else { wan.masquerade6 });
        let outward =
            record.expectation.seat == Some(Seat::Zone(*to)) && !self.policy.zone(*from).is_external();
        let own = || self.policy.zone(*to).gateway.iter().any(|own| own.addr() == found);
        if masks && outward { own() } else { found == source }
    }
}

impl Record {
    /// The packet as a machine in a zone got it. The gateway's own IPv6 listeners see no headers, and nothing
    /// translates what is for the gateway.
    fn abroad(&self) -> Option<&[u8]> {
        (self.expectation.seat != Some(Seat::Gateway) && !self.arrived.is_empty()).then_some(&self.arrived)
    }
}

/// Turns a packet for the one that began into one for the address and port that he is known by outside.
fn translate(packet: &mut Packet, opener: &Record) {
    let Some(arrived) = opener.abroad() else { return };
    if let Some(source) = wire::source_of(arrived) {
        packet.destination = source;
    }
    let Some(port) = wire::source_port_of(arrived) else { return };
    match &mut packet.transport {
        Transport::Tcp { destination_port, .. } | Transport::Udp { destination_port, .. } => {
            *destination_port = port
        }
        Transport::Icmp { .. } | Transport::Icmp6 { .. } | Transport::Other(_) => {}
    }
}

/// The beginning of the first packet as it arrived.
fn quote_of_arrived(opener: &Record) -> Vec<u8> {
    let sent = || as_sent(&opener.probe.packet, opener.probe.ident, Stage::Syn);
    opener.abroad().map_or_else(sent, wire::quote)
}

/// The beginning of the answer as it reaches the one that began.
fn quote_of_answer(opener: &Record) -> Vec<u8> {
    let Packet { arrival, source, destination, transport } = opener.probe.packet.clone();
    let transport = match transport {
        Transport::Tcp { source_port, destination_port, .. } => {
            Transport::Tcp { source_port: destination_port, destination_port: source_port, syn: false }
        }
        Transport::Udp { source_port, destination_port } => {
            Transport::Udp { source_port: destination_port, destination_port: source_port }
        }
        Transport::Icmp { code, .. } => Transport::Icmp { kind: 0, code },
        Transport::Icmp6 { code, .. } => Transport::Icmp6 { kind: 129, code },
        Transport::Other(number) => Transport::Other(number),
    };
    as_sent(
        &Packet { arrival, source: destination, destination: source, transport },
        opener.probe.ident,
        Stage::SynAck,
    )
}

/// An error that refers to nothing quotes a connection that nobody began.
pub(crate) fn dangling_quote(probe: &Probe) -> Vec<u8> {
    let is_error = match probe.packet.transport {
        Transport::Icmp { kind, .. } => matches!(kind, 3 | 4 | 5 | 11 | 12),
        Transport::Icmp6 { kind, .. } => matches!(kind, 1..=4),
        Transport::Tcp { .. } | Transport::Udp { .. } | Transport::Other(_) => false,
    };
    if !is_error {
        return Vec::new();
    }
    let Packet { arrival, source, destination, .. } = probe.packet.clone();
    let transport = Transport::Udp { source_port: probe.ident, destination_port: 9 };
    as_sent(&Packet { arrival, source: destination, destination: source, transport }, probe.ident, Stage::Syn)
}

fn as_sent(packet: &Packet, ident: u16, stage: Stage) -> Vec<u8> {
    let wire = Wire { packet, shape: Shape::Plain, hop_limit: 60, ident, stage, tag: 0, quoted: Vec::new() };
    wire.packets().first().map(|bytes| wire::quote(bytes)).unwrap_or_default()
}

/// Destinations that do not decide by themselves where a packet leaves.
pub(crate) fn goes_by_interface(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_multicast() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_multicast() || v6.is_unicast_link_local(),
    }
}

impl fmt::Display for Disagreement {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Probe { packet, shape, hop_limit, relation, .. } = &self.probe;
        let seat = |seat: &Seat| format!("{seat:?}");
        writeln!(out, "packet {}: {packet:?}", self.index)?;
        writeln!(out, "  {relation:?}, {shape:?}, hop limit {hop_limit}, at {:?}", self.clock)?;
        if let Some(about) = &self.about {
            writeln!(out, "  of the connection that began with {about:?}")?;
        }
        writeln!(out, "  the evaluator says {}", self.verdict)?;
        let expected = self.expected.as_ref().map_or("nowhere".to_owned(), seat);
        let seen: Vec<String> = self.seen.iter().map(seat).collect();
        let seen = if seen.is_empty() { "nowhere".to_owned() } else { seen.join(" and ") };
        write!(out, "  it must arrive {expected}, the kernel let it arrive {seen} {}", self.more)
    }
}
