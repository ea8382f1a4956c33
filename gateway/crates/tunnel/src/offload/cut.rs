//! From a piece to packets, each made where its payload lies: its headers take the place of the end of the payload before,
//! which is encrypted by then.

use tun_rs::{
    VIRTIO_NET_HDR_GSO_TCPV4, VIRTIO_NET_HDR_GSO_TCPV6, VIRTIO_NET_HDR_GSO_UDP_L4, VirtioNetHdr, checksum,
};

use super::shape::{CWR, FIN, FLAGS_AT, PSH, Shape, TCP, UDP, V4_BYTES, V6_BYTES};
use super::{HEAD_BYTES, NEEDS_CHECKSUM, Saved, get, put};

/// The longest headers of a piece: more than anybody sends, with every extension that the kernel cuts behind.
const HEADERS_BYTES: usize = 256;
/// Packets are padded to a multiple of this, so that less of their length shows (whitepaper, section 5.4.6).
const PADDING_BYTES: usize = 16;
/// Room behind a piece for the padding of its last packet.
pub const SPARE_BYTES: usize = PADDING_BYTES;
/// `VIRTIO_NET_HDR_GSO_ECN`, which says that the first packet alone has CWR.
const ECN: u8 = 0x80;

/// The packets of a piece.
pub struct Cut {
    /// How to cut; nothing when it is one packet.
    plan: Option<Plan>,
    /// Where the next packet's payload begins, or the packet if it is one.
    at: usize,
    end: usize,
    padding: Option<(usize, Saved<PADDING_BYTES>)>,
}

struct Plan {
    headers: Saved<HEADERS_BYTES>,
    shape: Shape,
    step: usize,
    number: u32,
}

/// A packet of a piece.
#[derive(Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// With its padding.
    pub padded: &'a [u8],
    /// Without.
    pub length: usize,
}

impl Packet<'_> {
    /// Gives the packet without its padding.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.padded.get(..self.length).unwrap_or_default()
    }
}

impl Cut {
    /// Begins with a piece of so many bytes, its header counted, in a buffer with [`SPARE_BYTES`] behind it. Gives nothing
    /// for a piece that the kernel would not make.
    #[must_use]
    pub fn of(piece: &mut [u8], length: usize) -> Option<Self> {
        let header = VirtioNetHdr::decode(piece.get(..length)?).ok()?;
        let packet = piece.get_mut(HEAD_BYTES..length).filter(|packet| !packet.is_empty())?;
        let (plan, at) = if header.gso_type == 0 {
            if header.flags & NEEDS_CHECKSUM != 0 {
                complete(packet, usize::from(header.csum_start), usize::from(header.csum_offset))?;
            }
            (None, HEAD_BYTES)
        } else {
            let plan = Plan::of(packet, &header)?;
            let at = HEAD_BYTES + plan.shape.payload;
            (Some(plan), at)
        };
        Some(Self { plan, at, end: length, padding: None })
    }

    /// Makes the next packet, padded as far as the MTU goes: the other end knows its length from its header.
    pub fn next<'a>(&mut self, piece: &'a mut [u8], mtu: usize) -> Option<Packet<'a>> {
        if let Some((at, saved)) = self.padding.take() {
            saved.put(piece, at);
        }
        if self.at >= self.end {
            return None;
        }
        let (start, end) = match &mut self.plan {
            None => (self.at, self.end),
            Some(plan) => {
                let (start, end) = (self.at - plan.shape.payload, self.end.min(self.at + plan.step));
                plan.headers.put(piece, start);
                plan.write(piece.get_mut(start..end)?, end == self.end);
                (start, end)
            }
        };
        self.at = end;
        let length = end - start;
        let padded = start + length.next_multiple_of(PADDING_BYTES).min(mtu).max(length);
        let padding = piece.get_mut(end..padded)?;
        self.padding = Saved::of(padding).map(|saved| (end, saved));
        padding.fill(0);
        Some(Packet { padded: piece.get(start..padded)?, length })
    }
}

impl Plan {
    fn of(packet: &[u8], header: &VirtioNetHdr) -> Option<Self> {
        let is_v6 = packet.first()? >> 4 == 6;
        let protocol = match header.gso_type & !ECN {
            VIRTIO_NET_HDR_GSO_TCPV4 if !is_v6 => TCP,
            VIRTIO_NET_HDR_GSO_TCPV6 if is_v6 => TCP,
            VIRTIO_NET_HDR_GSO_UDP_L4 if header.gso_type & ECN == 0 => UDP,
            _ => return None,
        };
        // The kernel's own length of the headers may be the whole first packet's, when it forwards it: not looked at.
        let transport = usize::from(header.csum_start);
        let payload = match protocol {
            TCP => transport + usize::from(packet.get(transport + 12)? >> 4) * 4,
            _ => transport + 8,
        };
        let shape = Shape { is_v6, protocol, transport, payload };
        let is_sound = transport >= if is_v6 { V6_BYTES } else { V4_BYTES }
            && payload >= transport + if protocol == TCP { 20 } else { 8 }
            && payload < packet.len()
            && usize::from(header.csum_offset) == shape.checksum_offset();
        let headers = Saved::of(packet.get(..payload)?)?;
        let step = usize::from(header.gso_size);
        (is_sound && step > 0).then_some(Self { headers, shape, step, number: 0 })
    }

    /// Writes what this packet's headers have of their own.
    fn write(&mut self, packet: &mut [u8], is_last: bool) {
        let Self { shape, number, .. } = self;
        let at = shape.transport;
        if !shape.is_v6 {
            let first = u16::from_be_bytes(get(packet, 4));
            let [.., high, low] = number.to_be_bytes();
            put(packet, 4, &first.wrapping_add(u16::from_be_bytes([high, low])).to_be_bytes());
        }
        shape.write_lengths(packet);
        if shape.protocol == TCP {
            let first = u32::from_be_bytes(get(packet, at + 4));
            let sent = u32::try_from(self.step).unwrap_or_default().wrapping_mul(*number);
            put(packet, at + 4, &first.wrapping_add(sent).to_be_bytes());
            let once = if *number > 0 { CWR } else { 0 };
            let last = if is_last { 0 } else { FIN | PSH };
            if let Some(flags) = packet.get_mut(at + FLAGS_AT) {
                *flags &= !(once | last);
            }
        }
        put(packet, shape.checksum_at(), &[0, 0]);
        let sum = checksum(packet.get(at..).unwrap_or_default(), shape.pseudo_header(packet));
        put(packet, shape.checksum_at(), &written(sum, shape.protocol));
        *number = number.wrapping_add(1);
    }
}

/// Completes a checksum of which the kernel wrote the pseudo-header's part.
fn complete(packet: &mut [u8], start: usize, offset: usize) -> Option<()> {
    let begun: [u8; 2] = *packet.get(start + offset..)?.first_chunk()?;
    put(packet, start + offset, &[0, 0]);
    let sum = checksum(packet.get(start..)?, u64::from(u16::from_be_bytes(begun)));
    let protocol = if offset == 6 { UDP } else { TCP };
    put(packet, start + offset, &written(sum, protocol));
    Some(())
}

/// A UDP checksum of zero would mean that there is none (RFC 768).
fn written(sum: u16, protocol: u8) -> [u8; 2] {
    match !sum {
        0 if protocol == UDP => [0xFF, 0xFF],
        sum => sum.to_be_bytes(),
    }
}

impl std::fmt::Debug for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cut").field("at", &self.at).field("end", &self.end).finish_non_exhaustive()
    }
}
