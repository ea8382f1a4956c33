//! Whatever a peer puts inside, joining packets by stream neither fails nor panics nor loses a byte.

use etherparse::PacketBuilder;
use proptest::prelude::*;

use super::*;

/// A packet that often fits the one before it, with a few bytes of it changed.
fn packet() -> impl Strategy<Value = Vec<u8>> {
    let damage = proptest::collection::vec((0usize..80, any::<u8>()), 0..3);
    (any::<(bool, bool)>(), 0u32..6, prop_oneof![Just(0usize), Just(100), 0usize..1400], damage).prop_map(
        |((is_v6, is_tcp), number, payload_bytes, damage)| {
            let builder = if is_v6 {
                PacketBuilder::ipv6([1; 16], [2; 16], 64)
            } else {
                PacketBuilder::ipv4([10, 9, 0, 2], [10, 9, 0, 1], 64)
            };
            let (mut bytes, payload) = (Vec::new(), vec![7; payload_bytes]);
            if is_tcp {
                builder.tcp(1, 2, number * 100, 4_096).ack(1).write(&mut bytes, &payload).unwrap();
            } else {
                builder.udp(1, 2).write(&mut bytes, &payload).unwrap();
            }
            for (at, value) in damage {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = value;
                }
            }
            bytes
        },
    )
}

proptest! {
    #[test]
    fn joining_loses_nothing(packets in proptest::collection::vec(packet(), 1..40), can_udp in any::<bool>()) {
        let mut buffers: Vec<Vec<u8>> =
            packets.iter().map(|packet| [&[0; HEAD_BYTES][..], packet].concat()).collect();
        let mut streams = GROTable::new();
        prop_assert!(streams.apply_gro(&mut buffers, HEAD_BYTES, can_udp).is_ok());
        // The table does not say which buffers are heads, but no joined packet is shorter than it was.
        for (buffer, packet) in buffers.iter().zip(&packets) {
            prop_assert!(buffer.len() >= HEAD_BYTES + packet.len());
        }
        prop_assert!(buffers.iter().all(|buffer| buffer.len() <= HEAD_BYTES + PIECE_BYTES));
    }

    /// The inbox lends room for any message, and never more packets than it holds.
    #[test]
    fn the_inbox_is_bounded(lengths in proptest::collection::vec(0usize..65_536, 0..200)) {
        let mut inbox = Inbox::new();
        for length in lengths {
            if inbox.is_full() {
                prop_assert!(inbox.room(length).is_empty());
                break;
            }
            prop_assert!(inbox.room(length).len() >= length);
            inbox.keep(length);
        }
        prop_assert!(inbox.count <= MAX_PACKETS);
    }
}
