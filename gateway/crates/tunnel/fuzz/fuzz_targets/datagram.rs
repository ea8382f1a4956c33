//! What a datagram claims to be: never a panic, and never another reading than the protocol core's.
#![no_main]

use boringtun::noise::{Packet, Tunn};
use libfuzzer_sys::fuzz_target;
use tunnel::{DropReason, Message, classify};

fuzz_target!(|datagram: &[u8]| {
    let ours = classify(datagram);
    match Tunn::parse_incoming_packet(datagram) {
        Ok(Packet::HandshakeInit(_)) => assert_eq!(ours, Ok(Message::Initiation)),
        Ok(Packet::HandshakeResponse(p)) => assert_eq!(ours, Ok(Message::Response { peer: p.receiver_idx >> 8 })),
        Ok(Packet::PacketCookieReply(p)) => assert_eq!(ours, Ok(Message::Cookie { peer: p.receiver_idx >> 8 })),
        Ok(Packet::PacketData(p)) => {
            assert!(ours == Ok(Message::Data { peer: p.receiver_idx >> 8 }) || ours == Err(DropReason::Replay));
        }
        Err(_) => assert_eq!(ours, Err(DropReason::Malformed)),
    }
});
