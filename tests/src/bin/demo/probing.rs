//! Sends probes from real sockets, and judges by capture which of them arrived.
//!
//! Arrived means: seen at the destination host's own leg. At the gateway a capture stands before the rules, so
//! there an answer seen at the sender counts (a closed port answers as well), or a socket that received it.
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use etherparse::{Icmpv4Type, Icmpv6Type, SlicedPacket, TransportSlice};
use lab::{Capture, Direction, Frame};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    places::{GATEWAY, Probe, SERVICES, Service},
    site::Site,
};

/// Begins what a probe carries; its number follows.
const MAGIC: &[u8; 14] = b"sekisho-demo-1";
const PAYLOAD_BYTES: usize = MAGIC.len() + 2;
/// How long is listened for what should not arrive: a packet crosses the lab in far less than a millisecond.
const LISTEN: Duration = Duration::from_millis(300);
/// How long is waited for what should arrive: two retransmissions of a SYN.
const PATIENCE: Duration = Duration::from_millis(3500);
const POLL: Duration = Duration::from_millis(10);

/// Is a probe seen at a host: on its way there, or its answer on the way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Seen {
    Request(u16),
    Answer(u16),
}

/// Listens everywhere.
struct Ears {
    captures: BTreeMap<&'static str, (Capture, [u8; 6])>,
    gateway: Vec<UdpSocket>,
    heard: BTreeSet<(&'static str, Seen)>,
}

/// Sends every probe, one sender after another, and returns the ids of those that arrived.
pub(crate) fn send(site: &Site, probes: &[Probe]) -> Result<BTreeSet<u16>> {
    let mut ears = Ears::open(site, probes)?;
    let senders: BTreeSet<_> = probes.iter().map(|probe| probe.from.host).collect();
    for sender in senders {
        let own: Vec<_> = probes.iter().filter(|probe| probe.from.host == sender).collect();
        let sockets = site.host(sender)?.run_in(|| own.iter().map(|probe| open(probe)).collect())?;
        // They stay open until all is heard: a closed one would take its own SYN back from a full queue.
        let sockets: Vec<Socket> =
            io::Result::from(sockets).with_context(|| format!("cannot send from {sender}"))?;
        let began = Instant::now();
        loop {
            ears.listen()?;
            let missing = own.iter().any(|probe| probe.is_allowed() && !ears.heard(probe));
            let waited = began.elapsed();
            if waited >= PATIENCE || (waited >= LISTEN && !missing) {
                break;
            }
            thread::sleep(POLL);
        }
        drop(sockets);
    }
    Ok(probes.iter().filter(|probe| ears.heard(probe)).map(|probe| probe.id).collect())
}

impl Ears {
    fn open(site: &Site, probes: &[Probe]) -> Result<Self> {
        let hosts =
            probes.iter().flat_map(|probe| [probe.from, probe.to]).filter(|place| place.zone != GATEWAY);
        let hosts: BTreeSet<_> = hosts.map(|place| place.host).collect();
        let mut captures = BTreeMap::new();
        for name in hosts {
            let leg = site.host(name)?.leg();
            captures.insert(name, (Capture::start(leg)?, leg.mac()));
        }
        let ports = SERVICES.iter().filter_map(|service| match service {
            Service::Udp(port) => Some(*port),
            Service::Tcp(_) | Service::Ping => None,
        });
        let listen = |port| -> io::Result<UdpSocket> {
            let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port))?;
            socket.set_nonblocking(true).map(|()| socket)
        };
        let gateway = site.host(lab::GATEWAY)?.run_in(|| ports.map(listen).collect::<io::Result<_>>())?;
        let gateway = gateway.context("cannot listen in the gateway")?;
        Ok(Self { captures, gateway, heard: BTreeSet::new() })
    }

    fn listen(&mut self) -> Result<()> {
        let Self { captures, gateway, heard } = self;
        for (host, (capture, mac)) in captures {
            let here = |frame: &Frame| frame.direction == Direction::In && frame.bytes.starts_with(mac);
            let frames = capture.drain_filtered(here)?;
            heard.extend(frames.iter().filter_map(|frame| Some((*host, seen(&frame.bytes)?))));
        }
        for socket in gateway {
            let mut payload = [0; PAYLOAD_BYTES];
            while let Ok((length, _)) = socket.recv_from(&mut payload) {
                let id = payload.get(..length).and_then(number);
                heard.extend(id.map(|id| (lab::GATEWAY, Seen::Request(id))));
            }
        }
        Ok(())
    }

    fn heard(&self, probe: &Probe) -> bool {
        let answered = probe.to.zone == GATEWAY && !matches!(probe.service, Service::Udp(_));
        let sight = if answered {
            (probe.from.host, Seen::Answer(probe.id))
        } else {
            (probe.to.host, Seen::Request(probe.id))
        };
        self.heard.contains(&sight)
    }
}

/// Sends a probe; a kernel that refuses to send it is an answer to be measured, not an error.
fn open(probe: &Probe) -> io::Result<Socket> {
    let target = SocketAddr::new(probe.destination, probe.port());
    let any: IpAddr = if probe.is_v4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let own = SocketAddr::new(any, probe.id);
    let domain = Domain::for_address(target);
    match probe.service {
        Service::Tcp(_) => {
            let socket = Socket::new(domain, Type::STREAM, None)?;
            socket.set_nonblocking(true)?;
            socket.bind(&own.into())?;
            let _ = socket.connect(&target.into());
            Ok(socket)
        }
        Service::Udp(_) => {
            let socket = Socket::new(domain, Type::DGRAM, None)?;
            socket.bind(&own.into())?;
            let _ = socket.send_to(&payload(probe.id), &target.into());
            Ok(socket)
        }
        Service::Ping => {
            let protocol = if probe.is_v4() { Protocol::ICMPV4 } else { Protocol::ICMPV6 };
            let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
            let _ = socket.send_to(&echo_request(probe), &target.into());
            Ok(socket)
        }
    }
}

impl Probe {
    fn port(&self) -> u16 {
        match self.service {
            Service::Tcp(port) | Service::Udp(port) => port,
            Service::Ping => 0,
        }
    }
}

fn payload(id: u16) -> Vec<u8> {
    [MAGIC.as_slice(), &id.to_be_bytes()].concat()
}

/// Reads the number that a probe carries.
fn number(payload: &[u8]) -> Option<u16> {
    let number = payload.strip_prefix(MAGIC.as_slice())?.first_chunk()?;
    Some(u16::from_be_bytes(*number))
}

/// Writes an echo request (RFC 792, RFC 4443); the kernel fills ICMPv6's checksum in.
fn echo_request(probe: &Probe) -> Vec<u8> {
    let payload = payload(probe.id);
    let echo = etherparse::IcmpEchoHeader { id: probe.id, seq: 1 };
    let header = if probe.is_v4() {
        etherparse::Icmpv4Header::with_checksum(Icmpv4Type::EchoRequest(echo), &payload).to_bytes().to_vec()
    } else {
        etherparse::Icmpv6Header::new(Icmpv6Type::EchoRequest(echo)).to_bytes().to_vec()
    };
    [header, payload].concat()
}

/// Reads which probe a frame is, or answers.
fn seen(frame: &[u8]) -> Option<Seen> {
    match SlicedPacket::from_ethernet(frame).ok()?.transport? {
        TransportSlice::Tcp(tcp) if tcp.syn() && !tcp.ack() => Some(Seen::Request(tcp.source_port())),
        TransportSlice::Tcp(tcp) if tcp.syn() || tcp.rst() => Some(Seen::Answer(tcp.destination_port())),
        TransportSlice::Tcp(_) => None,
        TransportSlice::Udp(udp) => number(udp.payload()).map(Seen::Request),
        TransportSlice::Icmpv4(icmp) => match icmp.icmp_type() {
            Icmpv4Type::EchoRequest(_) => number(icmp.payload()).map(Seen::Request),
            Icmpv4Type::EchoReply(_) => number(icmp.payload()).map(Seen::Answer),
            _ => None,
        },
        TransportSlice::Icmpv6(icmp) => match icmp.icmp_type() {
            Icmpv6Type::EchoRequest(_) => number(icmp.payload()).map(Seen::Request),
            Icmpv6Type::EchoReply(_) => number(icmp.payload()).map(Seen::Answer),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;

    fn frame(
        finish: impl FnOnce(etherparse::PacketBuilderStep<etherparse::IpHeaders>) -> Vec<u8>,
    ) -> Vec<u8> {
        finish(PacketBuilder::ethernet2([1; 6], [2; 6]).ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64))
    }

    #[test]
    fn requests_and_answers_are_told_apart() {
        let tcp = |syn: bool, ack: bool| {
            frame(|step| {
                let mut step = step.tcp(20_001, 443, 7, 100);
                if syn {
                    step = step.syn();
                }
                if ack {
                    step = step.ack(8);
                }
                let mut bytes = Vec::new();
                step.write(&mut bytes, &[]).unwrap();
                bytes
            })
        };
        assert_eq!(seen(&tcp(true, false)), Some(Seen::Request(20_001)));
        assert_eq!(seen(&tcp(true, true)), Some(Seen::Answer(443)));
        assert_eq!(seen(&tcp(false, true)), None);
        let udp = |bytes: &[u8]| {
            frame(|step| {
                let mut frame = Vec::new();
                step.udp(20_002, 53).write(&mut frame, bytes).unwrap();
                frame
            })
        };
        assert_eq!(seen(&udp(&payload(20_002))), Some(Seen::Request(20_002)));
        assert_eq!(seen(&udp(b"something else")), None);
        assert_eq!(seen(&[0; 20]), None);
    }
}
