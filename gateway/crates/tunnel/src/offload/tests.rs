//! Cutting is what tun-rs does, byte for byte; what is joined and cut again is what it was, in its order.

use etherparse::PacketBuilder;
use proptest::prelude::*;
use tun_rs::{VirtioNetHdr, gso_split};

use super::shape::Flow;
use super::{Cut, HEAD_BYTES, Joiner, PIECE_BYTES, SPARE_BYTES};

const MTU: usize = 1_420;

#[derive(Clone, Copy, Debug)]
struct Kind {
    is_v6: bool,
    is_tcp: bool,
    /// The last byte of a timestamp, as most have them.
    stamp: Option<u8>,
    port: u16,
    window: u16,
}

fn kind() -> impl Strategy<Value = Kind> {
    let window = prop_oneof![5 => Just(4_096u16), 1 => Just(4_097)];
    let stamp = prop_oneof![3 => Just(None), 3 => Just(Some(2u8)), 1 => Just(Some(3))];
    (any::<(bool, bool)>(), stamp, 1u16..3, window).prop_map(|((is_v6, is_tcp), stamp, port, window)| Kind {
        is_v6,
        is_tcp,
        stamp,
        port,
        window,
    })
}

fn built(kind: Kind, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let Kind { is_v6, is_tcp, stamp, port, window } = kind;
    let builder = if is_v6 {
        PacketBuilder::ipv6([1; 16], [2; 16], 64)
    } else {
        PacketBuilder::ipv4([10, 9, 0, 2], [10, 9, 0, 1], 64)
    };
    let mut bytes = Vec::new();
    if is_tcp {
        let builder = builder.tcp(port, 443, sequence, window).ack(1);
        let options = stamp.map(|stamp| [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, stamp]);
        let options = options.as_ref().map(<[u8; 12]>::as_slice).unwrap_or_default();
        builder.options_raw(options).unwrap().write(&mut bytes, payload).unwrap();
    } else {
        builder.udp(port, 443).write(&mut bytes, payload).unwrap();
    }
    bytes
}

/// Payload bytes of which no two stretches are alike.
fn payload(length: usize, seed: u32) -> Vec<u8> {
    (0..length)
        .map(|at| (at as u32).wrapping_add(seed).wrapping_mul(2_654_435_761).to_be_bytes()[0])
        .collect()
}

/// Gives the packets of a piece, in a buffer as the engine has it.
fn packets_of(piece: &[u8], mtu: usize) -> Option<Vec<Vec<u8>>> {
    let mut buffer = [piece, &[0xEE; SPARE_BYTES]].concat();
    let mut cut = Cut::of(&mut buffer, piece.len())?;
    let mut packets = Vec::new();
    while let Some(packet) = cut.next(&mut buffer, mtu) {
        assert!(packet.padded[packet.length..].iter().all(|byte| *byte == 0));
        assert!(packet.padded.len() <= packet.length.max(mtu));
        packets.push(packet.bytes().to_vec());
    }
    Some(packets)
}

/// Joins packets as the receiver does: each is written to where it is asked for, with a tag behind it.
fn joined(packets: &[Vec<u8>], can_join_udp: bool) -> Vec<Vec<u8>> {
    let (mut joiner, mut pieces) = (Joiner::new(can_join_udp), Vec::new());
    for packet in packets {
        let room = joiner.room(packet.len() + 32);
        room[..packet.len()].copy_from_slice(packet);
        room[packet.len()..].fill(0xAA);
        joiner.keep(packet.len());
        if joiner.is_full() {
            joiner.drain(|piece, _| pieces.push(piece.to_vec()));
        }
    }
    joiner.drain(|piece, _| pieces.push(piece.to_vec()));
    pieces
}

/// Identification and checksum of an IPv4 header are made anew where a piece is cut.
fn without_identity(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if packet.len() >= 20 && packet[0] == 0x45 && packet[6..8] == [0x40, 0] {
        packet[4..6].fill(0);
        packet[10..12].fill(0);
    }
    packet
}

/// A piece as the kernel hands it over, and its header.
fn piece(kind: Kind, step: u16, payload_bytes: usize, flags: u8, is_ecn: bool) -> (Vec<u8>, VirtioNetHdr) {
    let mut packet = built(kind, u32::MAX - 2_000, &payload(payload_bytes, 7));
    let transport = if kind.is_v6 { 40 } else { 20 };
    let headers = packet.len() - payload_bytes;
    if kind.is_tcp {
        packet[transport + 13] |= flags;
    }
    let gso_type = match (kind.is_tcp, kind.is_v6) {
        (true, false) => 1,
        (true, true) => 4,
        (false, _) => 5,
    };
    let header = VirtioNetHdr {
        flags: 1,
        gso_type: gso_type | if is_ecn && kind.is_tcp { 0x80 } else { 0 },
        hdr_len: headers as u16,
        gso_size: step,
        csum_start: transport as u16,
        csum_offset: if kind.is_tcp { 16 } else { 6 },
    };
    let mut piece = vec![0; HEAD_BYTES];
    header.encode(&mut piece).unwrap();
    piece.extend(packet);
    (piece, header)
}

/// A packet that often goes on with one before it, sometimes with a few bytes changed.
fn packet() -> impl Strategy<Value = (Vec<u8>, bool)> {
    let damage = proptest::collection::vec((0usize..80, any::<u8>()), 0..3);
    let length =
        prop_oneof![4 => Just(100usize), 2 => Just(10), 1 => Just(0), 1 => Just(60), 1 => 0usize..1_300];
    (kind(), 0u32..6, length, prop_oneof![3 => Just(Vec::new()), 1 => damage]).prop_map(
        |(kind, number, length, damage)| {
            let step = if length == 10 { 10 } else { 100 };
            let mut bytes = built(kind, number * step, &payload(length, number));
            let is_damaged = !damage.is_empty();
            for (at, value) in damage {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = value;
                }
            }
            (bytes, is_damaged)
        },
    )
}

proptest! {
    #[test]
    fn cutting_is_what_tun_rs_does(
        kind in kind(),
        step in prop_oneof![Just(1_368u16), 1u16..3_000],
        payload_bytes in 1usize..30_000,
        flags: u8,
        is_ecn: bool,
    ) {
        let (piece, header) = piece(kind, step, payload_bytes, flags & 0b1110_1001, is_ecn);
        let (mut theirs, mut lengths) = (vec![vec![0; 4_000]; 30_000 / usize::from(step) + 1], vec![0; 30_001]);
        let mut input = piece[HEAD_BYTES..].to_vec();
        let count = gso_split(&mut input, header, &mut theirs, &mut lengths, 0, kind.is_v6).unwrap();
        let theirs: Vec<Vec<u8>> =
            theirs.into_iter().zip(lengths).take(count).map(|(packet, length)| packet[..length].to_vec()).collect();
        prop_assert_eq!(packets_of(&piece, MTU).unwrap(), theirs);
    }

    /// Every packet comes out as it went in, once, and after those of its stream that went in before.
    #[test]
    fn joined_and_cut_again_packets_are_what_they_were(
        packets in proptest::collection::vec(packet(), 1..150),
        can_join_udp: bool,
    ) {
        let packets: Vec<Vec<u8>> = packets.into_iter().map(|(packet, _)| packet).filter(|packet| packet.len() >= 20).collect();
        let pieces = joined(&packets, can_join_udp);
        prop_assert!(pieces.len() <= packets.len());
        let mut out: Vec<Vec<u8>> = Vec::new();
        for piece in &pieces {
            prop_assert!(piece.len() <= HEAD_BYTES + PIECE_BYTES);
            prop_assert!(can_join_udp || piece[1] != 5);
            out.extend(packets_of(piece, MTU).unwrap());
        }
        prop_assert_eq!(out.len(), packets.len());
        let in_order = |packets: &[Vec<u8>]| {
            let mut all: Vec<(String, Vec<u8>)> =
                packets.iter().map(|packet| (format!("{:?}", Flow::of(packet)), without_identity(packet))).collect();
            // Stable: of one stream, the order stays.
            all.sort_by(|(one, _), (other, _)| one.cmp(other));
            all
        };
        prop_assert_eq!(in_order(&out), in_order(&packets));
    }

    /// Whatever says that it is a piece, it is cut within its bounds or refused.
    #[test]
    fn a_hostile_piece_is_cut_or_refused(
        kind in kind(),
        length in 1usize..3_000,
        damage in proptest::collection::vec((0usize..90, any::<u8>()), 0..6),
    ) {
        let (mut piece, _) = piece(kind, 700, length, 0, false);
        for (at, value) in damage {
            if let Some(byte) = piece.get_mut(at) {
                *byte = value;
            }
        }
        if let Some(packets) = packets_of(&piece, MTU) {
            prop_assert!(packets.iter().all(|packet| packet.len() <= piece.len()));
        }
    }

    /// What was lent and not kept, as for a message that was forged, changes nothing.
    #[test]
    fn what_is_not_kept_leaves_no_trace(forged in proptest::collection::vec(any::<bool>(), 20)) {
        let kind = Kind { is_v6: true, is_tcp: true, stamp: Some(2), port: 1, window: 4_096 };
        let packets: Vec<Vec<u8>> =
            (0..20).map(|number| built(kind, number * 1_000, &payload(1_000, number))).collect();
        let (mut joiner, mut pieces) = (Joiner::new(true), Vec::new());
        for (packet, is_forged) in packets.iter().zip(forged) {
            if is_forged {
                joiner.room(5_000).fill(0xAA);
            }
            joiner.room(packet.len() + 32)[..packet.len()].copy_from_slice(packet);
            joiner.keep(packet.len());
        }
        joiner.room(1_000).fill(0xAA);
        joiner.drain(|piece, _| pieces.push(piece.to_vec()));
        prop_assert_eq!(pieces.len(), 1);
        prop_assert_eq!(packets_of(&pieces[0], MTU).unwrap(), packets);
    }

    /// It lends room for any message, and never more pieces than it holds.
    #[test]
    fn it_is_bounded(lengths in proptest::collection::vec(0usize..65_536, 0..100)) {
        let mut joiner = Joiner::new(true);
        let mut kept = 0;
        for length in lengths {
            if joiner.is_full() {
                prop_assert!(joiner.room(length).is_empty());
                break;
            }
            prop_assert!(joiner.room(length).len() >= length);
            joiner.keep(length.min(PIECE_BYTES));
            kept += 1;
        }
        let mut pieces = 0;
        joiner.drain(|_, _| pieces += 1);
        prop_assert_eq!(pieces, kept);
    }
}

fn stream(kind: Kind, count: u32) -> Vec<Vec<u8>> {
    (0..count).map(|number| built(kind, number * 1_000, &payload(1_000, number))).collect()
}

fn lengths(pieces: &[Vec<u8>]) -> Vec<usize> {
    pieces.iter().map(|piece| packets_of(piece, MTU).unwrap().len()).collect()
}

const ALL: [Kind; 4] = [
    Kind { is_v6: false, is_tcp: true, stamp: None, port: 1, window: 4_096 },
    Kind { is_v6: true, is_tcp: true, stamp: Some(2), port: 1, window: 4_096 },
    Kind { is_v6: false, is_tcp: false, stamp: None, port: 1, window: 4_096 },
    Kind { is_v6: true, is_tcp: false, stamp: None, port: 1, window: 4_096 },
];

#[test]
fn a_stream_becomes_one_piece_up_to_what_ip_carries() {
    for kind in ALL {
        let can = |packets: u32| lengths(&joined(&stream(kind, packets), true));
        assert_eq!(can(40), [40], "{kind:?}");
        assert_eq!(can(70).len(), 2, "{kind:?}: more than IP lets a packet be, or than the kernel cuts");
    }
    let tcp = lengths(&joined(&stream(ALL[0], 70), true));
    assert_eq!(tcp, [65, 5], "65 times 1,000 bytes and headers are not yet 65,535");
    assert_eq!(lengths(&joined(&stream(ALL[2], 70), true)), [64, 6]);
    assert_eq!(lengths(&joined(&stream(ALL[2], 3), false)), [1, 1, 1], "a kernel without USO");
}

#[test]
fn streams_that_take_turns_become_a_piece_each() {
    let other = Kind { port: 2, ..ALL[0] };
    let turns: Vec<Vec<u8>> =
        stream(ALL[0], 20).into_iter().zip(stream(other, 20)).flat_map(|(one, other)| [one, other]).collect();
    assert_eq!(lengths(&joined(&turns, true)), [20, 20]);
}

#[test]
fn what_ends_a_stretch_ends_a_piece() {
    let pushed = |number: usize| {
        let mut packets = stream(ALL[0], 6);
        let mut bytes = packets[number].clone();
        bytes[33] |= 0x08;
        let sum = u16::from_be_bytes([bytes[36], bytes[37]]);
        let (less, borrow) = sum.overflowing_sub(8);
        bytes[36..38].copy_from_slice(&(less - u16::from(borrow)).to_be_bytes());
        packets[number] = bytes;
        packets
    };
    let pieces = joined(&pushed(3), true);
    assert_eq!(lengths(&pieces), [4, 2]);
    assert_eq!(packets_of(&pieces[0], MTU).unwrap()[3][33], 0x18, "pushed by the last alone");
    assert_eq!(packets_of(&pieces[0], MTU).unwrap()[2][33], 0x10);
    assert_eq!(lengths(&joined(&pushed(0), true)), [1, 5]);

    let mut shorter = stream(ALL[0], 6);
    shorter[2] = built(ALL[0], 2_000, &payload(500, 2));
    assert_eq!(lengths(&joined(&shorter, true)), [3, 3], "the next is not where the sequence would be");

    let mut damaged = stream(ALL[0], 6);
    damaged[2][100] ^= 1;
    assert_eq!(lengths(&joined(&damaged, true)), [2, 1, 3]);
    let mut damaged = stream(ALL[0], 6);
    damaged[0][100] ^= 1;
    assert_eq!(lengths(&joined(&damaged, true)), [1, 5]);

    for [high, low] in [[0x20, 0], [0x04, 0], [0, 0x40], [0, 1]] {
        let mut fragmented = stream(ALL[2], 2);
        let mut fragment = built(ALL[2], 0, &payload(200, 9));
        fragment[6..8].copy_from_slice(&[high, low]);
        // Where the first has the ports, the others have what they carry.
        fragment[20..24].fill(9);
        fragmented.insert(1, fragment);
        assert_eq!(lengths(&joined(&fragmented, true)), [1, 1, 1], "it may be of this stream: {high} {low}");
    }

    let mut acknowledging = stream(ALL[0], 6);
    acknowledging.insert(3, built(ALL[0], 3_000, &[]));
    assert_eq!(lengths(&joined(&acknowledging, true)), [3, 1, 3], "what is no data is not passed by data");
}

/// All ones in the place of a sum that is zero are right (RFC 1071), but the kernel would write zero.
#[test]
fn a_sum_that_would_change_is_left_alone() {
    let of_zero = |sequence: &u32| built(ALL[0], *sequence, &payload(100, 0))[36..38] == [0, 0];
    let sequence = (0..200_000).find(of_zero).unwrap();
    let first = built(ALL[0], sequence.wrapping_sub(100), &payload(100, 1));
    let mut second = built(ALL[0], sequence, &payload(100, 0));
    assert_eq!(lengths(&joined(&[first.clone(), second.clone()], true)), [2]);
    second[36..38].fill(0xFF);
    assert_eq!(lengths(&joined(&[first, second], true)), [1, 1]);
}
