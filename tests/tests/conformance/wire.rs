//! Packets as bytes, checksums included: what conntrack calls malformed would never reach the rules in question.
//!
//! Each payload is the packet's tag over and over, so that every fragment of it can be told.
use std::net::IpAddr;

use policy::eval::{Packet, Transport};

const MAGIC: [u8; 4] = *b"SkCf";
const TAG_BYTES: usize = 8;
/// So many tags that each of two fragments holds a whole one.
const TAGS: usize = 8;
/// Where a packet is cut in two; a multiple of eight (RFC 791, RFC 8200 section 4.5).
const CUT_BYTES: usize = 32;
const HOP_BY_HOP: u8 = 0;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;
/// Sequence numbers of the two sides of every TCP connection here.
const FIRST_SEQ: u32 = 1_000;
const SECOND_SEQ: u32 = 2_000;

/// How a packet is wrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Plain,
    /// In two fragments.
    Fragments,
    /// With IPv4 options, or an IPv6 hop-by-hop and a destination options header.
    Options,
}

/// Which part of a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Syn,
    SynAck,
    Ack,
}

/// A packet with all that a policy does not look at.
pub(crate) struct Wire<'a> {
    pub(crate) packet: &'a Packet,
    pub(crate) shape: Shape,
    pub(crate) hop_limit: u8,
    /// Identifier of ICMP queries.
    pub(crate) ident: u16,
    pub(crate) stage: Stage,
    pub(crate) tag: u32,
    /// The packet that an ICMP error is about.
    pub(crate) quoted: Vec<u8>,
}

impl Wire<'_> {
    /// The IP packets that carry it: one, or its fragments.
    pub(crate) fn packets(&self) -> Vec<Vec<u8>> {
        let upper = self.upper();
        match (self.packet.source, self.packet.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                self.ip4(source.octets(), destination.octets(), &upper)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                self.ip6(source.octets(), destination.octets(), &upper)
            }
            _ => panic!("a packet of two families cannot be written"),
        }
    }

    fn ip4(&self, source: [u8; 4], destination: [u8; 4], upper: &[u8]) -> Vec<Vec<u8>> {
        // No operation, no operation, no operation, end of list.
        let options: &[u8] = if self.shape == Shape::Options { &[1, 1, 1, 0] } else { &[] };
        let one = |offset: usize, more: bool, payload: &[u8]| {
            let length = 20 + options.len() + payload.len();
            let mut bytes = vec![0x40 | ((20 + options.len()) / 4) as u8, 0];
            bytes.extend((length as u16).to_be_bytes());
            bytes.extend((self.tag as u16).to_be_bytes());
            bytes.extend((((more as u16) << 13) | (offset / 8) as u16).to_be_bytes());
            bytes.extend([self.hop_limit, protocol(self.packet), 0, 0]);
            bytes.extend(source.iter().chain(&destination).chain(options));
            let sum = checksum(&[&bytes]);
            bytes[10..12].copy_from_slice(&sum.to_be_bytes());
            bytes.extend(payload);
            bytes
        };
        match self.shape {
            Shape::Plain | Shape::Options => vec![one(0, false, upper)],
            Shape::Fragments => {
                vec![one(0, true, &upper[..CUT_BYTES]), one(CUT_BYTES, false, &upper[CUT_BYTES..])]
            }
        }
    }

    fn ip6(&self, source: [u8; 16], destination: [u8; 16], upper: &[u8]) -> Vec<Vec<u8>> {
        let number = protocol(self.packet);
        let one = |next: u8, payload: &[u8]| {
            let mut bytes = vec![0x60, 0, 0, 0];
            bytes.extend((payload.len() as u16).to_be_bytes());
            bytes.extend([next, self.hop_limit]);
            bytes.extend(source.iter().chain(&destination).chain(payload));
            bytes
        };
        let fragment = |offset: usize, more: bool, payload: &[u8]| {
            let mut bytes = vec![number, 0];
            bytes.extend(((offset as u16) | more as u16).to_be_bytes());
            bytes.extend(self.tag.to_be_bytes());
            bytes.extend(payload);
            one(FRAGMENT, &bytes)
        };
        match self.shape {
            Shape::Plain => vec![one(number, upper)],
            Shape::Options => {
                // Each eight bytes long, filled by one PadN option (RFC 8200 section 4.2).
                let mut bytes = vec![DESTINATION_OPTIONS, 0, 1, 4, 0, 0, 0, 0];
                bytes.extend([number, 0, 1, 4, 0, 0, 0, 0]);
                bytes.extend(upper);
                vec![one(HOP_BY_HOP, &bytes)]
            }
            Shape::Fragments => {
                vec![fragment(0, true, &upper[..CUT_BYTES]), fragment(CUT_BYTES, false, &upper[CUT_BYTES..])]
            }
        }
    }

    /// Everything behind the IP header.
    fn upper(&self) -> Vec<u8> {
        let mut bytes = match self.packet.transport {
            Transport::Tcp { source_port, destination_port, .. } => self.tcp(source_port, destination_port),
            Transport::Udp { source_port, destination_port } => {
                let length = (8 + TAGS * TAG_BYTES) as u16;
                [source_port, destination_port, length, 0].map(u16::to_be_bytes).concat()
            }
            Transport::Icmp { kind, code } | Transport::Icmp6 { kind, code } => self.icmp(kind, code),
            // Version 0 of GRE with no options, or the beginning of ESP.
            Transport::Other(_) => vec![0, 0, 8, 0, 0, 0, 0, 1],
        };
        bytes.extend(tags(self.tag));
        let place = match self.packet.transport {
            Transport::Tcp { .. } => 16,
            Transport::Udp { .. } => 6,
            Transport::Icmp { .. } | Transport::Icmp6 { .. } => 2,
            Transport::Other(_) => return bytes,
        };
        let sum = match self.packet.transport {
            Transport::Icmp { .. } => checksum(&[&bytes]),
            _ => checksum(&[&self.pseudo_header(bytes.len()), &bytes]),
        };
        // Zero means "none" in UDP (RFC 768); elsewhere both are zero.
        let sum = if sum == 0 { 0xffff } else { sum };
        bytes[place..place + 2].copy_from_slice(&sum.to_be_bytes());
        bytes
    }

    fn tcp(&self, source_port: u16, destination_port: u16) -> Vec<u8> {
        const SYN: u8 = 2;
        const ACK: u8 = 16;
        let (flags, sequence, acknowledged) = match self.stage {
            Stage::Syn => (SYN, FIRST_SEQ, 0),
            Stage::SynAck => (SYN | ACK, SECOND_SEQ, FIRST_SEQ + 1),
            Stage::Ack => (ACK, FIRST_SEQ + 1, SECOND_SEQ + 1),
        };
        let mut bytes = [source_port, destination_port].map(u16::to_be_bytes).concat();
        bytes.extend(sequence.to_be_bytes());
        bytes.extend(u32::to_be_bytes(acknowledged));
        bytes.extend([5 << 4, flags, 0x80, 0, 0, 0, 0, 0]);
        bytes
    }

    fn icmp(&self, kind: u8, code: u8) -> Vec<u8> {
        let mut bytes = vec![kind, code, 0, 0];
        if self.quoted.is_empty() {
            bytes.extend(self.ident.to_be_bytes());
            bytes.extend([0, 1]);
        } else {
            // The MTU of a "packet too big", which no packet here exceeds; unused in the others.
            bytes.extend(1_400_u32.to_be_bytes());
            bytes.extend(&self.quoted);
        }
        // Where neighbour discovery and MLD have an address.
        if let (IpAddr::V6(target), true) = (self.packet.destination, (130..=143).contains(&kind)) {
            bytes.extend(target.octets());
        }
        bytes
    }

    fn pseudo_header(&self, length: usize) -> Vec<u8> {
        let mut bytes = octets(self.packet.source);
        bytes.extend(octets(self.packet.destination));
        bytes.extend((length as u32).to_be_bytes());
        bytes.extend([0, 0, 0, protocol(self.packet)]);
        bytes
    }
}

/// The number of a packet's upper-layer protocol.
pub(crate) fn protocol(packet: &Packet) -> u8 {
    match packet.transport {
        Transport::Icmp { .. } => 1,
        Transport::Tcp { .. } => 6,
        Transport::Udp { .. } => 17,
        Transport::Icmp6 { .. } => 58,
        Transport::Other(number) => number,
    }
}

/// The tag in a captured packet, if it is one of ours.
pub(crate) fn tag_of(bytes: &[u8]) -> Option<u32> {
    let at = bytes.windows(TAG_BYTES).position(|window| window.starts_with(&MAGIC))?;
    Some(u32::from_be_bytes(bytes.get(at + 4..at + 8)?.try_into().ok()?))
}

/// The source of a captured IP packet.
pub(crate) fn source_of(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.first()? >> 4 {
        4 => Some(IpAddr::from(<[u8; 4]>::try_from(bytes.get(12..16)?).ok()?)),
        6 => Some(IpAddr::from(<[u8; 16]>::try_from(bytes.get(8..24)?).ok()?)),
        _ => None,
    }
}

/// The first two bytes behind the header of a captured plain IP packet: the source port of TCP and UDP.
pub(crate) fn source_port_of(bytes: &[u8]) -> Option<u16> {
    let start = header_bytes(bytes)?;
    Some(u16::from_be_bytes(bytes.get(start..start + 2)?.try_into().ok()?))
}

/// The third and fourth byte behind it: the destination port of TCP and UDP.
pub(crate) fn destination_port_of(bytes: &[u8]) -> Option<u16> {
    let start = header_bytes(bytes)? + 2;
    Some(u16::from_be_bytes(bytes.get(start..start + 2)?.try_into().ok()?))
}

/// Bytes five and six behind the header of a captured plain IP packet: the identifier of an ICMP query.
pub(crate) fn ident_of(bytes: &[u8]) -> Option<u16> {
    let start = header_bytes(bytes)? + 4;
    Some(u16::from_be_bytes(bytes.get(start..start + 2)?.try_into().ok()?))
}

/// The header of a plain IP packet and the eight bytes behind it: what an ICMP error quotes at least (RFC 792).
pub(crate) fn quote(bytes: &[u8]) -> Vec<u8> {
    let end = header_bytes(bytes).map_or(0, |header| header + 8);
    bytes.get(..end).unwrap_or_default().to_vec()
}

fn header_bytes(bytes: &[u8]) -> Option<usize> {
    match bytes.first()? >> 4 {
        4 => Some(usize::from(bytes.first()? & 15) * 4),
        6 => Some(40),
        _ => None,
    }
}

fn tags(tag: u32) -> Vec<u8> {
    [MAGIC, tag.to_be_bytes()].concat().repeat(TAGS)
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// The Internet checksum (RFC 1071) over parts of even length, the last of any.
fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let sum: u64 = words.map(|word| u64::from(word[0]) << 8 | u64::from(*word.get(1).unwrap_or(&0))).sum();
    let mut sum = sum;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
