//! From packets to pieces. A packet is decrypted to where its payload belongs if it goes on with the stream of the one
//! before, its headers over the last bytes of that one's payload, which are put by meanwhile; mostly it does, and then
//! nothing is moved but those few bytes. A packet of another stream is moved once.

use tun_rs::{
    VIRTIO_NET_HDR_GSO_TCPV4, VIRTIO_NET_HDR_GSO_TCPV6, VIRTIO_NET_HDR_GSO_UDP_L4, VirtioNetHdr, checksum,
};

use super::shape::{FLAGS_AT, Flow, PSH, Shape, TCP};
use super::{HEAD_BYTES, NEEDS_CHECKSUM, PIECE_BYTES, Saved, get, put};
use crate::datagram::INITIATION_BYTES;

/// Pieces that are begun before all are written: streams that take turns.
const PIECES: usize = 64;
/// Room behind the longest piece for what the last message has around its packet.
const SPARE_BYTES: usize = 1 << 10;
/// The longest headers of what is joined: 40 bytes of IPv6 and 60 of TCP.
const HEADERS_BYTES: usize = 100;
/// The kernel cuts UDP into no more (`UDP_MAX_SEGMENTS` of linux/udp.h before 6.9).
const UDP_PACKETS: usize = 64;

/// Packets on their way to the device, in the order of their streams.
pub struct Joiner {
    pieces: Vec<Piece>,
    /// How many of them are begun.
    begun: usize,
    lent: Option<Lent>,
    can_join_udp: bool,
}

/// Where the next packet is decrypted to.
#[derive(Clone, Copy)]
enum Lent {
    /// A piece of its own.
    Fresh,
    /// Over the end of the last piece, whose bytes were put by.
    Behind { at: usize, saved: Saved<HEADERS_BYTES> },
}

impl Joiner {
    /// Makes one for a kernel that may not take pieces of UDP (Linux before 6.2).
    #[must_use]
    pub fn new(can_join_udp: bool) -> Self {
        Self { pieces: (0..PIECES).map(Piece::new).collect(), begun: 0, lent: None, can_join_udp }
    }

    /// Lends the place of the next packet; nothing when all are taken.
    pub fn room(&mut self, message_bytes: usize) -> &mut [u8] {
        self.give_back();
        let wanted = message_bytes.max(INITIATION_BYTES);
        let has_fresh = !self.is_full();
        let behind = self.last().filter(|_| has_fresh).and_then(|last| last.behind(wanted));
        let (lent, piece, at) = match behind {
            Some((at, saved)) => (Lent::Behind { at, saved }, self.begun - 1, at),
            None => (Lent::Fresh, self.begun, HEAD_BYTES),
        };
        self.lent = Some(lent);
        let rest = self.pieces.get_mut(piece).and_then(|piece| piece.bytes.get_mut(at..));
        rest.and_then(|rest| rest.get_mut(..wanted)).unwrap_or_default()
    }

    /// Keeps the first bytes of the room last lent as a packet.
    pub fn keep(&mut self, length: usize) {
        match self.lent.take() {
            Some(Lent::Behind { at, saved }) => self.keep_behind(at, saved, length),
            Some(Lent::Fresh) => self.keep_fresh(length),
            None => {}
        }
    }

    /// Says whether no further packet has a place.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.begun == self.pieces.len()
    }

    /// Gives each piece with its header in front, and of how many packets it is; and begins anew.
    pub fn drain(&mut self, mut write: impl FnMut(&[u8], usize)) {
        self.give_back();
        for piece in self.pieces.iter_mut().take(std::mem::take(&mut self.begun)) {
            let packets = piece.packets;
            write(piece.finish(), packets);
        }
    }

    /// What was lent and not kept leaves no trace.
    fn give_back(&mut self) {
        if let Some(Lent::Behind { at, saved }) = self.lent.take()
            && let Some(last) = self.last()
        {
            saved.put(&mut last.bytes, at);
        }
    }

    fn last(&mut self) -> Option<&mut Piece> {
        self.begun.checked_sub(1).and_then(|last| self.pieces.get_mut(last))
    }

    fn keep_behind(&mut self, at: usize, saved: Saved<HEADERS_BYTES>, length: usize) {
        let Some([last, rest @ ..]) = self.begun.checked_sub(1).and_then(|last| self.pieces.get_mut(last..))
        else {
            return;
        };
        let packet = last.bytes.get(at..at + length).unwrap_or_default();
        let taken = Shape::of_joinable(packet).and_then(|shape| last.taken(packet, &shape));
        match (taken, rest.first_mut()) {
            (Some(taken), _) => {
                saved.put(&mut last.bytes, at);
                last.grow(taken);
            }
            // Not what was expected: it moves to a piece of its own.
            (None, Some(fresh)) => {
                put(&mut fresh.bytes, HEAD_BYTES, packet);
                saved.put(&mut last.bytes, at);
                self.keep_fresh(length);
            }
            (None, None) => saved.put(&mut last.bytes, at),
        }
    }

    /// Joins what lies in the first piece not begun to that of its stream, or begins with it.
    fn keep_fresh(&mut self, length: usize) {
        let Some((begun, [fresh, ..])) = self.pieces.split_at_mut_checked(self.begun) else { return };
        fresh.length = length;
        let packet = fresh.packet();
        let shape = Shape::of_joinable(packet).filter(|shape| self.can_join_udp || shape.protocol == TCP);
        let flow = Flow::of(packet);
        for piece in begun.iter_mut().rev().filter(|piece| piece.is_open) {
            if !Flow::of(piece.packet()).meets(&flow) {
                continue;
            }
            let taken =
                shape.as_ref().filter(|_| piece.is_checked()).and_then(|shape| piece.taken(packet, shape));
            if let (Some(taken), Some(shape)) = (taken, shape) {
                let end = HEAD_BYTES + piece.length;
                put(&mut piece.bytes, end, packet.get(shape.payload..).unwrap_or_default());
                return piece.grow(taken);
            }
            // Nothing passes what came before it in its stream.
            piece.is_open = false;
        }
        fresh.begin(shape);
        self.begun += 1;
    }
}

struct Piece {
    /// [`HEAD_BYTES`], then the packet.
    bytes: Box<[u8]>,
    /// The packet's length.
    length: usize,
    /// Where its parts are, if it can be joined to others at all.
    shape: Option<Shape>,
    /// The first packet's payload: no other is longer.
    step: usize,
    packets: usize,
    /// Another may be added.
    is_open: bool,
    /// The first packet's own checksums are right.
    is_intact: bool,
    is_pushed: bool,
}

/// What a piece gains with a packet.
#[derive(Clone, Copy, Debug)]
struct Taken {
    payload_bytes: usize,
    is_pushed: bool,
}

impl Piece {
    fn new(number: usize) -> Self {
        // Not at the same places of memory pages, or they drive each other out of the processor's cache.
        let bytes = vec![0; HEAD_BYTES + PIECE_BYTES + SPARE_BYTES + number * 64].into();
        let (shape, is_open, is_intact, is_pushed) = (None, false, false, false);
        Self { bytes, length: 0, shape, step: 0, packets: 0, is_open, is_intact, is_pushed }
    }

    fn packet(&self) -> &[u8] {
        self.bytes.get(HEAD_BYTES..HEAD_BYTES + self.length).unwrap_or_default()
    }

    /// Begins with the packet that lies in it.
    fn begin(&mut self, shape: Option<Shape>) {
        self.step = shape.map_or(0, |shape| self.length - shape.payload);
        self.is_pushed = shape.is_some_and(|shape| shape.is_pushed(self.packet()));
        (self.shape, self.packets, self.is_intact) = (shape, 1, false);
        self.is_open = shape.is_some() && !self.is_pushed;
    }

    /// Gives the place where a packet of the same stream belongs, if there is room for it, and what lies there.
    fn behind(&mut self, wanted: usize) -> Option<(usize, Saved<HEADERS_BYTES>)> {
        let headers = self.shape.filter(|_| self.is_open)?.payload;
        // The headers to compare with stay where they are.
        let has_place = self.length >= 2 * headers && self.is_checked();
        let end = HEAD_BYTES + self.length;
        let at = end - headers;
        (has_place && at + wanted <= self.bytes.len()).then_some((at, Saved::of(self.bytes.get(at..end)?)?))
    }

    /// Checks the first packet, once: joined to one that is damaged, nothing would show it.
    fn is_checked(&mut self) -> bool {
        if self.is_open && !self.is_intact {
            self.is_intact = self.shape.is_some_and(|shape| shape.is_intact(self.packet()));
            self.is_open = self.is_intact;
        }
        self.is_open
    }

    /// Says what this piece gains with a packet, if it goes on with it.
    fn taken(&self, packet: &[u8], shape: &Shape) -> Option<Taken> {
        let payload_bytes = packet.len() - shape.payload;
        let fits = self.is_open
            && self.shape.as_ref() == Some(shape)
            && payload_bytes <= self.step
            && self.length + payload_bytes <= PIECE_BYTES
            && (shape.protocol == TCP || self.packets < UDP_PACKETS)
            && self.has_headers_of(packet, shape)
            && shape.is_intact(packet);
        fits.then(|| Taken { payload_bytes, is_pushed: shape.is_pushed(packet) })
    }

    /// Compares what cutting the piece again would give each packet. The identification of IPv4 is not compared: it has no
    /// meaning for what is not fragmented (RFC 6864, section 4.1).
    fn has_headers_of(&self, packet: &[u8], shape: &Shape) -> bool {
        let first = self.packet();
        let same = |from: usize, to: usize| first.get(from..to) == packet.get(from..to);
        let at = shape.transport;
        let is_same_flow = same(at, at + 4)
            && if shape.is_v6 {
                same(0, 4) && same(6, 40)
            } else {
                same(0, 2) && same(6, 10) && same(12, 20)
            };
        if shape.protocol != TCP {
            return is_same_flow;
        }
        let sequence = |packet: &[u8]| u32::from_be_bytes(get(packet, at + 4));
        let sent = u32::try_from(self.length - shape.payload).unwrap_or_default();
        is_same_flow
            && sequence(first).wrapping_add(sent) == sequence(packet)
            && same(at + 8, at + FLAGS_AT)
            // Both have no flags but those of data; the checksums differ.
            && same(at + 14, at + 16)
            && same(at + 18, shape.payload)
    }

    /// Takes note of a payload that now lies behind the others. A shorter one, or one that is pushed, is the last.
    fn grow(&mut self, Taken { payload_bytes, is_pushed }: Taken) {
        self.length += payload_bytes;
        self.packets += 1;
        self.is_pushed = is_pushed;
        self.is_open = payload_bytes == self.step && !is_pushed;
    }

    /// Writes the headers of the whole.
    fn finish(&mut self) -> &[u8] {
        let length = HEAD_BYTES + self.length;
        let joined = self.shape.filter(|_| self.packets > 1);
        let whole = self.bytes.get_mut(..length).and_then(|whole| whole.split_at_mut_checked(HEAD_BYTES));
        let Some((head, packet)) = whole else { return &[] };
        let Some(shape) = joined else {
            // As it came, its checksum too: whoever it is for looks at it.
            head.fill(0);
            return self.bytes.get(..length).unwrap_or_default();
        };
        shape.write_lengths(packet);
        let sum = checksum(&[], shape.pseudo_header(packet));
        put(packet, shape.checksum_at(), &sum.to_be_bytes());
        if self.is_pushed
            && let Some(flags) = packet.get_mut(shape.transport + FLAGS_AT)
        {
            *flags |= PSH;
        }
        put(head, 0, &describe(&shape, self.step));
        self.bytes.get(..length).unwrap_or_default()
    }
}

/// Tells the kernel how to cut a piece.
fn describe(shape: &Shape, step: usize) -> [u8; HEAD_BYTES] {
    let short = |length: usize| u16::try_from(length).unwrap_or_default();
    let gso_type = match (shape.protocol == TCP, shape.is_v6) {
        (true, false) => VIRTIO_NET_HDR_GSO_TCPV4,
        (true, true) => VIRTIO_NET_HDR_GSO_TCPV6,
        (false, _) => VIRTIO_NET_HDR_GSO_UDP_L4,
    };
    let header = VirtioNetHdr {
        flags: NEEDS_CHECKSUM,
        gso_type,
        hdr_len: short(shape.payload),
        gso_size: short(step),
        csum_start: short(shape.transport),
        csum_offset: short(shape.checksum_offset()),
    };
    let mut head = [0; HEAD_BYTES];
    // It fails for a buffer that is too short.
    let _ = header.encode(&mut head);
    head
}

impl std::fmt::Debug for Joiner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Joiner").field("begun", &self.begun).finish_non_exhaustive()
    }
}
