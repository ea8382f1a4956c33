//! What comes over the network: WireGuard's messages and the maintenance protocol's.

use boringtun::noise::{Packet, Tunn};
use transport::protocol::{Ask, Opening, Reply};
use transport::receipt::SignedReceipt;
use transport::{Invitation, frame};
use tunnel::offload::{Cut, Joiner, SPARE_BYTES};
use tunnel::{DropReason, Message, Packer, classify};

/// A datagram is never read otherwise than by the protocol's own implementation.
pub(crate) fn datagram(datagram: &[u8]) {
    let ours = classify(datagram);
    match Tunn::parse_incoming_packet(datagram) {
        Ok(Packet::HandshakeInit(_)) => assert_eq!(ours, Ok(Message::Initiation)),
        Ok(Packet::HandshakeResponse(p)) => {
            assert_eq!(ours, Ok(Message::Response { peer: p.receiver_idx >> 8 }))
        }
        Ok(Packet::PacketCookieReply(p)) => {
            assert_eq!(ours, Ok(Message::Cookie { peer: p.receiver_idx >> 8 }))
        }
        Ok(Packet::PacketData(p)) => {
            assert!(
                ours == Ok(Message::Data { peer: p.receiver_idx >> 8 }) || ours == Err(DropReason::Replay)
            );
        }
        Err(_) => assert_eq!(ours, Err(DropReason::Malformed)),
    }
}

/// Messages gathered into runs, cut into segments again, are the same messages in the same order. Each three bytes are a
/// message: its length, and to whom.
pub(crate) fn runs(input: &[u8]) {
    let mut packer = Packer::new(1 << 18);
    let mut kept = Vec::new();
    for chunk in input.chunks_exact(3) {
        let &[high, low, to] = chunk else { continue };
        let (length, to) = (usize::from(u16::from_be_bytes([high, low])).max(1), to % 3);
        let Some(room) = packer.room(length).and_then(|room| room.get_mut(..length)) else { break };
        room.fill(to);
        packer.keep(length, to);
        kept.push((length, to));
    }
    let mut seen = Vec::new();
    for (run, bytes) in packer.runs() {
        assert!(run.segments <= 64 && (bytes.len() <= 65_000 || run.segments == 1));
        seen.extend(bytes.chunks(run.segment_bytes).map(|message| (message.len(), run.to)));
        assert!(bytes.iter().all(|byte| *byte == run.to));
    }
    assert_eq!(seen, kept);
}

/// Packets joined into pieces and cut again are the same packets: each two bytes are a length, and so many bytes a packet.
/// What the input begins with is a piece, too, which is cut within its bounds or refused.
pub(crate) fn pieces(input: &[u8]) {
    if let Some(packets) = cut(input) {
        assert!(packets.iter().all(|packet| packet.len() <= input.len()));
    }
    let (mut packets, mut rest) = (Vec::new(), input);
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let (packet, after) = after.split_at(after.len().min(usize::from(u16::from_be_bytes(*length))));
        rest = after;
        // The receiver drops what is shorter than a header.
        packets.extend((packet.len() >= 20).then(|| packet.to_vec()));
    }
    let (mut joiner, mut pieces) = (Joiner::new(true), Vec::new());
    for packet in &packets {
        if let Some(room) = joiner.room(packet.len() + 32).get_mut(..packet.len()) {
            room.copy_from_slice(packet);
        }
        joiner.keep(packet.len());
        if joiner.is_full() {
            joiner.drain(|piece, _| pieces.push(piece.to_vec()));
        }
    }
    joiner.drain(|piece, _| pieces.push(piece.to_vec()));
    let mut seen: Vec<Vec<u8>> = pieces.iter().filter_map(|piece| cut(piece)).flatten().collect();
    for packet in seen.iter_mut().chain(&mut packets) {
        without_identity(packet);
    }
    seen.sort();
    packets.sort();
    assert_eq!(seen, packets);
}

fn cut(piece: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut buffer = [piece, &[0; SPARE_BYTES]].concat();
    let mut cut = Cut::of(&mut buffer, piece.len())?;
    let mut packets = Vec::new();
    while let Some(packet) = cut.next(&mut buffer, 1_420) {
        packets.push(packet.bytes().to_vec());
    }
    Some(packets)
}

/// The identification of IPv4, which what is not fragmented does not need, is made anew, and with it the checksum.
fn without_identity(packet: &mut [u8]) {
    if let [0x45, _, _, _, one, other, 0x40, 0, _, _, high, low, ..] = packet {
        (*one, *other, *high, *low) = (0, 0, 0, 0);
    }
}

/// Bytes on a stream are frames or an error, names in them lead nowhere else, and an ask reads back.
pub(crate) fn frame(bytes: &[u8]) {
    if let Ok(Opening::Send(file)) = frame::decode(bytes) {
        let name = file.name.as_str();
        assert!(!name.contains(['/', '\\', '\0']) && !matches!(name, "" | "." | ".."));
    }
    if let Ok(ask) = frame::decode::<Ask>(bytes) {
        let again = frame::encode(&ask).ok().and_then(|bytes| frame::decode::<Ask>(bytes.get(4..)?).ok());
        assert_eq!(Some(ask), again);
    }
    let _ = frame::decode::<Reply>(bytes);
    let _ = frame::decode::<SignedReceipt>(bytes);
    if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_time().build() {
        let _ = runtime.block_on(frame::read::<Opening>(&mut &*bytes));
    }
}

/// An invitation reads back from its own code.
pub(crate) fn invitation(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Ok(invitation) = Invitation::parse(text) else { return };
    let again = Invitation::parse(&invitation.code()).map(|again| again.key_id());
    assert_eq!(again.ok(), Some(invitation.key_id()));
}
