//! Packets of strangers, byte by byte: every protocol, both families, whole and in pieces, of true and invented senders.
use std::net::IpAddr;

use crate::site::Random;

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMP6: u8 = 58;
const FRAGMENT: u8 = 44;
const HOP_LIMIT: u8 = 64;
/// Ports of the doors and of what clinics run; none that a peer of the tests may reach.
const PORTS: [u16; 14] = [8443, 51820, 22, 53, 67, 80, 104, 123, 139, 445, 547, 3389, 5432, 11112];
/// IP-in-IP, IGMP, 6in4, routing, GRE, ESP, AH, OSPF, VRRP, SCTP, UDP-Lite, none, and one nobody uses.
const OTHERS: [u8; 13] = [4, 2, 41, 43, 47, 50, 51, 89, 112, 132, 136, 59, 253];
/// ICMP: unreachable, redirect, echo, advertisement, time exceeded, timestamp; ICMPv6: the same and neighbours.
const ICMP_TYPES: [u8; 7] = [3, 5, 8, 9, 11, 13, 0];
const ICMP6_TYPES: [u8; 8] = [1, 2, 3, 128, 134, 135, 136, 137];
/// A first packet of QUIC is at least so long (RFC 9000, 14.1).
const QUIC_BYTES: usize = 1200;

/// Whom packets claim to be from, and whom they are for.
pub(crate) struct Directions {
    pub(crate) senders: Vec<IpAddr>,
    pub(crate) targets: Vec<IpAddr>,
}

impl Directions {
    /// What an honest client would send first: from everybody to everybody, a connection attempt and a datagram for each of
    /// the ports that somebody serves.
    pub(crate) fn plain(&self) -> impl Iterator<Item = Vec<u8>> {
        let pairs = self.senders.iter().flat_map(|from| self.targets.iter().map(|to| (*from, *to)));
        let pairs = pairs.filter(|(from, to)| from.is_ipv4() == to.is_ipv4());
        pairs.flat_map(|(from, to)| {
            let both =
                move |port| [syn((from, 40_001), (to, port)), datagram((from, 40_001), (to, port), b"probe")];
            PORTS.into_iter().flat_map(both)
        })
    }

    /// A packet, or the pieces of one.
    pub(crate) fn packet(&self, random: &mut Random) -> Vec<Vec<u8>> {
        let to = self.targets[random.below(self.targets.len())];
        let same: Vec<_> = self.senders.iter().filter(|from| from.is_ipv4() == to.is_ipv4()).collect();
        let from = *same[random.below(same.len())];
        let (protocol, body) = match random.below(10) {
            0..=2 => (TCP, tcp((from, port(random)), (to, port(random)), random)),
            3..=6 => (UDP, udp((from, port(random)), (to, port(random)), &payload(random))),
            7 => icmp(from, to, random),
            8 => (OTHERS[random.below(OTHERS.len())], noise(random.below(200), random)),
            _ => (one_of_all(random), noise(random.below(64), random)),
        };
        if random.below(5) == 0 {
            pieces(from, to, protocol, &body, random)
        } else {
            vec![whole(from, to, protocol, &body)]
        }
    }
}

/// A frame on the wire.
pub(crate) fn framed(from: [u8; 6], to: [u8; 6], packet: &[u8]) -> Vec<u8> {
    let kind: [u8; 2] = if packet[0] >> 4 == 6 { [0x86, 0xdd] } else { [0x08, 0x00] };
    [&to[..], &from, &kind, packet].concat()
}

/// A connection attempt.
pub(crate) fn syn(from: (IpAddr, u16), to: (IpAddr, u16)) -> Vec<u8> {
    whole(from.0, to.0, TCP, &segment(from, to, 0x02, 1, &[]))
}

/// A datagram.
pub(crate) fn datagram(from: (IpAddr, u16), to: (IpAddr, u16), payload: &[u8]) -> Vec<u8> {
    whole(from.0, to.0, UDP, &udp(from, to, payload))
}

fn port(random: &mut Random) -> u16 {
    if random.below(3) == 0 {
        // From 1024 up: none that a peer may reach, and 443 is below.
        return u16::try_from(1024 + random.below(64_512)).unwrap();
    }
    PORTS[random.below(PORTS.len())]
}

/// Any protocol but the three that have a shape of their own.
fn one_of_all(random: &mut Random) -> u8 {
    loop {
        let number = u8::try_from(random.below(256)).unwrap();
        if ![TCP, UDP, FRAGMENT].contains(&number) {
            return number;
        }
    }
}

fn noise(length: usize, random: &mut Random) -> Vec<u8> {
    (0..length).map(|_| u8::try_from(random.below(256)).unwrap()).collect()
}

/// What looks like the beginning of QUIC or WireGuard, or like nothing.
fn payload(random: &mut Random) -> Vec<u8> {
    let (head, length): (Vec<u8>, usize) = match random.below(10) {
        // An Initial, whole and cut; one that announces more than there is; another version; version negotiation.
        0 => (vec![0xc3, 0, 0, 0, 1, 8], QUIC_BYTES),
        1 => (vec![0xc3, 0, 0, 0, 1, 20], random.below(60)),
        2 => (vec![0xc0, 0, 0, 0, 1, 255], QUIC_BYTES),
        3 => (vec![0xc3, 0x6b, 0x33, 0x43, 0xcf, 8], QUIC_BYTES),
        4 => (vec![0x80, 0, 0, 0, 0, 8], QUIC_BYTES),
        // The four messages of WireGuard.
        5 => (vec![1, 0, 0, 0], 148),
        6 => (vec![2, 0, 0, 0], 92),
        7 => (vec![3, 0, 0, 0], 64),
        8 => (vec![4, 0, 0, 0], 32 + 16 * random.below(20)),
        _ => (Vec::new(), random.below(300)),
    };
    let rest = length.saturating_sub(head.len());
    // Long noise costs more than it tells: most of it is one byte.
    let mut bytes = [head, noise(rest.min(48), random)].concat();
    bytes.resize(length, 0x5a);
    bytes
}

fn tcp(from: (IpAddr, u16), to: (IpAddr, u16), random: &mut Random) -> Vec<u8> {
    let flags = [0x02, 0x12, 0x10, 0x04, 0x11, 0x18, 0x00, 0x29, 0xff][random.below(9)];
    let payload = noise(random.below(40), random);
    segment(from, to, flags, u32::try_from(random.below(1 << 31)).unwrap(), &payload)
}

fn segment(from: (IpAddr, u16), to: (IpAddr, u16), flags: u8, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = [from.1.to_be_bytes(), to.1.to_be_bytes()].concat();
    bytes.extend(sequence.to_be_bytes());
    bytes.extend(sequence.wrapping_mul(3).to_be_bytes());
    bytes.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    bytes.extend(payload);
    summed(from.0, to.0, TCP, bytes, 16)
}

fn udp(from: (IpAddr, u16), to: (IpAddr, u16), payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).unwrap();
    let head = [from.1.to_be_bytes(), to.1.to_be_bytes(), length.to_be_bytes(), [0, 0]].concat();
    summed(from.0, to.0, UDP, [&head, payload].concat(), 6)
}

/// A message, often about a connection that the sender says the two clinic devices have.
fn icmp(from: IpAddr, to: IpAddr, random: &mut Random) -> (u8, Vec<u8>) {
    let about = whole(to, from, TCP, &segment((to, 22), (from, 40_000), 0x10, 7, &[]));
    let (protocol, types): (u8, &[u8]) =
        if to.is_ipv4() { (ICMP, &ICMP_TYPES) } else { (ICMP6, &ICMP6_TYPES) };
    let bytes = [&[types[random.below(types.len())], 0, 0, 0, 0, 0, 5, 0x78], about.as_slice()].concat();
    (protocol, summed(from, to, protocol, bytes, 2))
}

/// A packet in pieces: in order, turned round, overlapping, or without its end.
fn pieces(from: IpAddr, to: IpAddr, protocol: u8, body: &[u8], random: &mut Random) -> Vec<Vec<u8>> {
    let id = u32::try_from(random.below(1 << 31)).unwrap();
    let cut = (body.len() / 2 / 8 * 8).max(8).min(body.len());
    let (first, second) = body.split_at(cut);
    let piece = |part: &[u8], at: usize, more| {
        fragment(from, to, protocol, part, (id, u16::try_from(at / 8).unwrap(), more))
    };
    let mut parts = vec![piece(first, 0, true), piece(second, cut, false)];
    match random.below(4) {
        0 => parts.reverse(),
        1 => parts.insert(1, piece(second, cut.saturating_sub(8), true)),
        2 => drop(parts.pop()),
        _ => {}
    }
    parts
}

fn whole(from: IpAddr, to: IpAddr, protocol: u8, body: &[u8]) -> Vec<u8> {
    match (from, to) {
        (IpAddr::V4(_), IpAddr::V4(_)) => fragment(from, to, protocol, body, (0, 0, false)),
        _ => ip6(from, to, protocol, body),
    }
}

/// One piece: its packet's number, its place in units of eight bytes, and whether more follow.
fn fragment(
    from: IpAddr,
    to: IpAddr,
    protocol: u8,
    body: &[u8],
    (id, at, more): (u32, u16, bool),
) -> Vec<u8> {
    let (IpAddr::V4(source), IpAddr::V4(target)) = (from, to) else {
        let place = at << 3 | u16::from(more);
        let head = [&[protocol, 0][..], &place.to_be_bytes(), &id.to_be_bytes()].concat();
        return ip6(from, to, FRAGMENT, &[&head, body].concat());
    };
    let length = u16::try_from(20 + body.len()).unwrap();
    let place = at | u16::from(more) << 13;
    let mut head = vec![0x45, 0];
    head.extend(length.to_be_bytes());
    head.extend(&id.to_be_bytes()[2..]);
    head.extend(place.to_be_bytes());
    head.extend([HOP_LIMIT, protocol, 0, 0]);
    head.extend(source.octets());
    head.extend(target.octets());
    let sum = checksum(&head);
    head[10..12].copy_from_slice(&sum.to_be_bytes());
    [&head, body].concat()
}

fn ip6(from: IpAddr, to: IpAddr, next: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap();
    let head = [&[0x60, 0, 0, 0][..], &length.to_be_bytes(), &[next, HOP_LIMIT]].concat();
    [&head, octets(from).as_slice(), &octets(to), body].concat()
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// Puts the checksum in its place (RFC 1071; the pseudo-header as of RFC 793 and RFC 8200, 8.1).
fn summed(from: IpAddr, to: IpAddr, protocol: u8, mut bytes: Vec<u8>, at: usize) -> Vec<u8> {
    let mut all = Vec::new();
    if protocol != ICMP {
        let length = u16::try_from(bytes.len()).unwrap();
        all = [octets(from), octets(to), vec![0, protocol], length.to_be_bytes().to_vec()].concat();
    }
    all.extend(&bytes);
    let sum = checksum(&all);
    bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    bytes
}

fn checksum(bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or_default());
    let mut sum: u32 = bytes.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap()
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    /// A second opinion: the packets say what they should, by a library that is not ours.
    #[test]
    fn a_library_reads_them() {
        let (v4, v6) = (IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST));
        for address in [v4, v6] {
            let bytes = datagram((address, 4000), (address, 8443), b"hello");
            let read = etherparse::PacketHeaders::from_ip_slice(&bytes).unwrap();
            let udp = read.transport.unwrap().udp().unwrap();
            assert_eq!((udp.destination_port, read.payload.slice()), (8443, &b"hello"[..]));
            assert_eq!(
                checksum(
                    &[
                        octets(address),
                        octets(address),
                        vec![0, UDP, 0, 13],
                        bytes[bytes.len() - 13..].to_vec()
                    ]
                    .concat()
                ),
                0
            );
            let bytes = syn((address, 4000), (address, 8443));
            let tcp =
                etherparse::PacketHeaders::from_ip_slice(&bytes).unwrap().transport.unwrap().tcp().unwrap();
            assert!(tcp.syn && !tcp.ack && tcp.destination_port == 8443);
        }
    }
}
