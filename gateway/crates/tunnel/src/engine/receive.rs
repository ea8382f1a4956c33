//! From the wire to the device: messages are told apart, opened under their peer's lock, held to their peer's addresses,
//! and written joined by stream.

use std::io::IoSliceMut;
use std::net::IpAddr;
use std::sync::MutexGuard;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Instant, SystemTime};

use boringtun::noise::Packet;
use boringtun::noise::handshake::parse_handshake_anon;
use quinn_udp::RecvMeta;
use rustix::event::Timespec;

use super::{Shared, is_empty};
use crate::admission::{Admission, Admitted};
use crate::link::{Endpoint, Link, Opened};
use crate::offload::Joiner;
use crate::peers::{Peer, Table};
use crate::{DropReason, Message, PublicKey, classify};

/// As much as the kernel joins into one piece.
const PIECE_BYTES: usize = 65_536;
/// Pieces that are received in one go: few, so that their memory stays in the processor's cache. The kernel joins a
/// stream's messages to large ones.
const PIECES: usize = 8;
/// Readings without asking whether there is something to read, or whether the tunnel closes.
const MAX_ROUNDS: usize = 16;
/// Room for an answer: a handshake message, or a packet that waited for one.
const ANSWER_BYTES: usize = PIECE_BYTES + 64;

/// The receiver's own memory.
struct Receiver<'a> {
    shared: &'a Shared,
    admission: Admission,
    admission_key: [u8; 32],
    inbox: Joiner,
    answer: Vec<u8>,
}

/// Carries packets until the tunnel closes.
pub(super) fn run(shared: &Shared) {
    let mut pieces: [Vec<u8>; PIECES] = std::array::from_fn(|_| vec![0; PIECE_BYTES]);
    let mut metas = [RecvMeta::default(); PIECES];
    let (mut receiver, mut is_behind) = (Receiver::new(shared), false);
    while shared.wait(Some(shared.wire.socket()), None::<&Timespec>) {
        for _ in 0..MAX_ROUNDS {
            if !is_behind {
                // Who is ready goes first: what he sends is taken in the same go, and joined, a tenth of the throughput
                // where processors are few. Not while more waits than one go takes, or whoever computes beside a flood
                // would have us drop what is honest.
                std::thread::yield_now();
            }
            let mut slices = pieces.each_mut().map(|piece| IoSliceMut::new(piece));
            match shared.wire.receive(&mut slices, &mut metas) {
                Ok(count) => {
                    is_behind = count == PIECES;
                    receiver.batch(pieces.iter().zip(&metas).take(count));
                }
                Err(error) => {
                    is_behind = false;
                    if !is_empty(&error) {
                        shared.drops.count(DropReason::Malformed);
                    }
                    break;
                }
            }
        }
    }
}

impl<'a> Receiver<'a> {
    fn new(shared: &'a Shared) -> Self {
        let public = *shared.table().secret().1;
        Self {
            shared,
            admission: Admission::new(&public, Instant::now()),
            admission_key: public.to_bytes(),
            inbox: Joiner::new(shared.device.can_join_udp()),
            answer: vec![0; ANSWER_BYTES],
        }
    }

    fn batch<'b>(&mut self, pieces: impl Iterator<Item = (&'b Vec<u8>, &'b RecvMeta)>) {
        let shared = self.shared;
        let table = shared.table();
        let now = SystemTime::now();
        self.follow_key(&table);
        for (piece, meta) in pieces {
            let from = Endpoint { remote: meta.addr, local: meta.dst_ip };
            self.piece(&table, piece.get(..meta.len).unwrap_or_default(), meta.stride, from, now);
        }
        // Still under the table's lock: a peer that is taken away has nothing under way when that is done.
        write(&mut self.inbox, shared);
        drop(table);
    }

    /// The messages' MACs are keyed with this end's public key.
    fn follow_key(&mut self, table: &Table) {
        let public = table.secret().1;
        if self.admission_key != public.to_bytes() {
            self.admission_key = public.to_bytes();
            self.admission = Admission::new(public, Instant::now());
        }
    }

    /// Takes what the kernel joined: messages of one length, the last may be shorter.
    fn piece(&mut self, table: &Table, piece: &[u8], stride: usize, from: Endpoint, now: SystemTime) {
        let mut held: Option<Held<'_>> = None;
        for message in piece.chunks(stride.max(1)) {
            match classify(message) {
                Ok(Message::Data { peer }) => {
                    if held.as_ref().is_none_or(|held| held.index != peer) {
                        self.let_go(held.take());
                        held = Held::take(table, peer, now);
                    }
                    match &mut held {
                        Some(held) => held.open(table, message, from, &mut self.inbox, self.shared),
                        None => self.shared.drops.count(DropReason::UnknownSession),
                    }
                }
                other => {
                    self.let_go(held.take());
                    let done = other.and_then(|kind| self.handshake(table, kind, message, from, now));
                    if let Err(reason) = done {
                        self.shared.drops.count(reason);
                    }
                }
            }
        }
        self.let_go(held);
    }

    /// Lets go of a peer; what waited for its session goes out first.
    fn let_go(&mut self, held: Option<Held<'_>>) {
        if let Some(mut held) = held {
            self.send_waiting(&mut held.link);
        }
    }

    fn handshake(
        &mut self,
        table: &Table,
        kind: Message,
        message: &[u8],
        from: Endpoint,
        now: SystemTime,
    ) -> Result<(), DropReason> {
        match kind {
            Message::Cookie { peer } => {
                let peer = table.by_index(peer).ok_or(DropReason::UnknownSession)?;
                peer.link().take_cookie(message, &mut self.answer)
            }
            Message::Initiation => {
                let peer =
                    match self.admission.admit(message, from.remote, Instant::now(), &mut self.answer)? {
                        Admitted::Message(packet) => initiator(table, &packet)?,
                        Admitted::Cookie(length) => return self.demand(length, from),
                    };
                self.exchange(peer, message, from, now)
            }
            Message::Response { peer } => {
                // Nobody answers what was not asked, so a stranger's response does not even cost a hash.
                let peer = table.by_index(peer).ok_or(DropReason::UnknownSession)?;
                match self.admission.admit(message, from.remote, Instant::now(), &mut self.answer)? {
                    Admitted::Message(_) => self.exchange(peer, message, from, now),
                    Admitted::Cookie(length) => self.demand(length, from),
                }
            }
            // Data was dealt with before.
            Message::Data { .. } => Err(DropReason::Malformed),
        }
    }

    /// Demands a proof of address.
    fn demand(&self, length: usize, to: Endpoint) -> Result<(), DropReason> {
        self.send(self.answer.get(..length).unwrap_or_default(), to);
        Err(DropReason::UnderLoad)
    }

    /// Spends a key exchange on a message, answers it, and sends what waited for it.
    fn exchange(
        &mut self,
        peer: &Peer,
        message: &[u8],
        from: Endpoint,
        now: SystemTime,
    ) -> Result<(), DropReason> {
        if !peer.is_open(now) {
            peer.counters.drops.count(DropReason::Expired);
            return Ok(());
        }
        let mut link = peer.link();
        match link.open(message, from, &mut self.answer) {
            Ok(Opened::Answer(answer)) => {
                let lost = self.shared.wire.send(answer, from);
                self.shared.drops.count_many(DropReason::NotSent, lost);
                peer.counters.handshakes.fetch_add(1, Relaxed);
            }
            Ok(Opened::Nothing | Opened::Packet(..)) => {}
            Err(reason) => peer.counters.drops.count(reason),
        }
        self.send_waiting(&mut link);
        Ok(())
    }

    fn send_waiting(&mut self, link: &mut Link) {
        while let Some((length, to)) = link.next_waiting(&mut self.answer) {
            self.send(self.answer.get(..length).unwrap_or_default(), to);
        }
    }

    fn send(&self, message: &[u8], to: Endpoint) {
        self.shared.drops.count_many(DropReason::NotSent, self.shared.wire.send(message, to));
    }
}

/// Finds out whose initiation this is; costs a key exchange.
fn initiator<'t>(table: &'t Table, packet: &Packet<'_>) -> Result<&'t Peer, DropReason> {
    let Packet::HandshakeInit(initiation) = packet else { return Err(DropReason::Malformed) };
    let (secret, public) = table.secret();
    let half = parse_handshake_anon(secret, public, initiation).map_err(|_| DropReason::Handshake)?;
    table.by_key(&PublicKey::from_bytes(half.peer_static_public)).ok_or(DropReason::UnknownPeer)
}

/// A peer whose messages are being opened; what passed is counted once, when it is let go of.
struct Held<'a> {
    index: u32,
    peer: &'a Peer,
    link: MutexGuard<'a, Link>,
    is_open: bool,
    /// The last source that was found to be the peer's own: mostly one stream's, looked up once.
    own: Option<IpAddr>,
    packets: u64,
    bytes: u64,
}

impl<'a> Held<'a> {
    fn take(table: &'a Table, index: u32, now: SystemTime) -> Option<Self> {
        let peer = table.by_index(index)?;
        let (link, is_open) = (peer.link(), peer.is_open(now));
        Some(Self { index, peer, link, is_open, own: None, packets: 0, bytes: 0 })
    }

    fn open(&mut self, table: &Table, message: &[u8], from: Endpoint, inbox: &mut Joiner, shared: &Shared) {
        if !self.is_open {
            return self.peer.counters.drops.count(DropReason::Expired);
        }
        match self.link.open(message, from, inbox.room(message.len())) {
            Ok(Opened::Packet(length, source)) => self.take_packet(table, length, source, inbox, shared),
            Ok(Opened::Nothing | Opened::Answer(_)) => {}
            Err(reason) => self.peer.counters.drops.count(reason),
        }
    }

    /// Lets a packet through whose source is the peer's own.
    fn take_packet(
        &mut self,
        table: &Table,
        length: usize,
        source: IpAddr,
        inbox: &mut Joiner,
        shared: &Shared,
    ) {
        // The core takes a packet's length from its header, and a header may say that there is less than itself.
        if length < header_bytes(source) {
            return self.peer.counters.drops.count(DropReason::InnerMalformed);
        }
        if self.own != Some(source) && !table.owns(self.peer, source) {
            return self.peer.counters.drops.count(DropReason::InnerSource);
        }
        self.own = Some(source);
        inbox.keep(length);
        self.packets += 1;
        self.bytes += length as u64;
        if inbox.is_full() {
            write(inbox, shared);
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.peer.counters.received_packets.fetch_add(self.packets, Relaxed);
        self.peer.counters.received_bytes.fetch_add(self.bytes, Relaxed);
    }
}

/// The least that a packet has (RFC 791, RFC 8200).
fn header_bytes(source: IpAddr) -> usize {
    match source {
        IpAddr::V4(_) => 20,
        IpAddr::V6(_) => 40,
    }
}

/// Writes what was joined.
fn write(inbox: &mut Joiner, shared: &Shared) {
    inbox.drain(|piece, packets| {
        if shared.device.write(piece).is_err() {
            shared.drops.count_many(DropReason::Device, packets as u64);
        }
    });
}
