//! Tells the messages of WireGuard apart by type and length (whitepaper, section 5.4), before any key is touched.

use crate::DropReason;

/// Bytes of a handshake initiation.
pub(crate) const INITIATION_BYTES: usize = 148;
const RESPONSE_BYTES: usize = 92;
const COOKIE_BYTES: usize = 64;
/// Bytes that a data message adds to the packet in it.
pub(crate) const DATA_OVERHEAD_BYTES: usize = 32;
/// `REJECT_AFTER_MESSAGES` of the whitepaper, section 6.1: no honest peer numbers a message so high.
const REJECT_AFTER_MESSAGES: u64 = u64::MAX - (1 << 13);
/// The low bits of a session's index number the sessions of a peer; the others name the peer.
const SESSION_BITS: u32 = 8;

/// Says what a datagram claims to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// A handshake begins.
    Initiation,
    /// The answer to one that this end began, for the peer of this index.
    Response {
        /// The peer.
        peer: u32,
    },
    /// A demand to prove one's address, for the peer of this index.
    Cookie {
        /// The peer.
        peer: u32,
    },
    /// A packet, for the peer of this index.
    Data {
        /// The peer.
        peer: u32,
    },
}

/// Tells what a datagram claims to be. A message counter beyond the last that a session may use is refused here: behind
/// this point it would be added to.
/// # Errors
/// Gives the reason to drop a datagram that cannot be a message.
pub fn classify(datagram: &[u8]) -> Result<Message, DropReason> {
    let kind = word(datagram, 0).ok_or(DropReason::Malformed)?;
    let peer =
        |offset| word(datagram, offset).map(|index| index >> SESSION_BITS).ok_or(DropReason::Malformed);
    match (kind, datagram.len()) {
        (1, INITIATION_BYTES) => Ok(Message::Initiation),
        (2, RESPONSE_BYTES) => Ok(Message::Response { peer: peer(8)? }),
        (3, COOKIE_BYTES) => Ok(Message::Cookie { peer: peer(4)? }),
        (4, DATA_OVERHEAD_BYTES..) => match counter(datagram) {
            Some(counter) if counter < REJECT_AFTER_MESSAGES => Ok(Message::Data { peer: peer(4)? }),
            _ => Err(DropReason::Replay),
        },
        _ => Err(DropReason::Malformed),
    }
}

fn word(datagram: &[u8], offset: usize) -> Option<u32> {
    let bytes = datagram.get(offset..offset + 4)?;
    bytes.try_into().ok().map(u32::from_le_bytes)
}

fn counter(datagram: &[u8]) -> Option<u64> {
    datagram.get(8..16)?.try_into().ok().map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(kind: u8, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        bytes[0] = kind;
        bytes
    }

    #[test]
    fn a_message_has_its_type_and_its_length() {
        let mut data = message(4, 32);
        data[4..8].copy_from_slice(&0x1234_5678_u32.to_le_bytes());
        assert_eq!(classify(&data), Ok(Message::Data { peer: 0x12_3456 }));
        assert_eq!(classify(&message(1, 148)), Ok(Message::Initiation));
        for (kind, length) in
            [(0, 148), (1, 147), (1, 149), (2, 91), (3, 65), (4, 31), (5, 148), (255, 64), (1, 3)]
        {
            assert_eq!(classify(&message(kind, length)), Err(DropReason::Malformed), "{kind} {length}");
        }
        let mut reserved = message(1, 148);
        reserved[2] = 1;
        assert_eq!(classify(&reserved), Err(DropReason::Malformed), "the reserved bytes are zero");
    }

    #[test]
    fn a_counter_at_the_end_of_its_range_is_refused() {
        for (counter, fits) in
            [(0, true), (REJECT_AFTER_MESSAGES - 1, true), (REJECT_AFTER_MESSAGES, false), (u64::MAX, false)]
        {
            let mut data = message(4, 48);
            data[8..16].copy_from_slice(&counter.to_le_bytes());
            assert_eq!(classify(&data).is_ok(), fits, "{counter}");
        }
    }

    proptest! {
        /// What we let through is what the protocol core would read the same way.
        #[test]
        fn we_and_the_core_agree(kind in 0u8..6, rest in proptest::collection::vec(any::<u8>(), 0..200)) {
            use boringtun::noise::{Packet, Tunn};
            let mut bytes = vec![kind, 0, 0, 0];
            bytes.extend(rest);
            let ours = classify(&bytes);
            let agree = match Tunn::parse_incoming_packet(&bytes) {
                Ok(Packet::HandshakeInit(_)) => ours == Ok(Message::Initiation),
                Ok(Packet::HandshakeResponse(p)) => ours == Ok(Message::Response { peer: p.receiver_idx >> 8 }),
                Ok(Packet::PacketCookieReply(p)) => ours == Ok(Message::Cookie { peer: p.receiver_idx >> 8 }),
                Ok(Packet::PacketData(p)) => {
                    ours == Ok(Message::Data { peer: p.receiver_idx >> 8 }) || ours == Err(DropReason::Replay)
                }
                Err(_) => ours == Err(DropReason::Malformed),
            };
            prop_assert!(agree, "{ours:?}");
        }
    }
}
