//! From the device to the wire: pieces are cut into packets, matched to their peer, encrypted back to back, and sent in runs.

use std::io;
use std::net::IpAddr;
use std::sync::MutexGuard;
use std::sync::atomic::Ordering::Relaxed;
use std::time::SystemTime;

use boringtun::noise::Tunn;

use super::{Shared, is_empty};
use crate::DropReason;
use crate::link::{Endpoint, Link};
use crate::offload::{Cut, HEAD_BYTES, PIECE_BYTES, SPARE_BYTES};
use crate::peers::{Peer, Table};
use crate::runs::Packer;

/// What was encrypted is sent when it is this much, or when the device has nothing more.
const ENOUGH_BYTES: usize = 48 << 10;
/// As little as the device has when it is woken for each packet.
const LITTLE_BYTES: usize = 1 << 10;
/// Enough for [`ENOUGH_BYTES`] and then the largest piece, in the smallest packets.
const PACKER_BYTES: usize = 512 << 10;
/// As much as the largest piece becomes, in segments of 48 bytes (`TCP_MIN_SND_MSS`, less options). What a peer that asks for
/// less has no room for is dropped, and counted.
const PIECE_MAX_BYTES: usize = 256 << 10;
/// Pieces before what they became is sent.
const MAX_PIECES: usize = 64;
/// Times that something is sent without letting go of the table, or asking whether the tunnel closes.
const MAX_ROUNDS: usize = 8;

/// Carries packets until the tunnel closes.
pub(super) fn run(shared: &Shared) {
    let mut piece = vec![0; HEAD_BYTES + PIECE_BYTES + SPARE_BYTES];
    let mut packer = Packer::new(PACKER_BYTES);
    let mut was_little = false;
    while shared.wait(Some(&shared.device), None) {
        if was_little {
            // Acknowledgements, mostly, which come one by one: he who is ready goes first, and makes more of them. When
            // there are more, nobody is given way.
            std::thread::yield_now();
        }
        was_little = true;
        // Until all of it is sent: a peer that is taken away has nothing under way when that is done.
        let table = shared.table();
        for round in 1..=MAX_ROUNDS {
            let filled = fill(shared, &table, &mut piece, &mut packer);
            was_little &= packer.waiting_bytes() <= LITTLE_BYTES;
            let has_room = packer.free_bytes() >= PIECE_MAX_BYTES;
            flush(shared, &mut packer, filled == Filled::More && round < MAX_ROUNDS && has_room);
            match filled {
                Filled::More => {}
                Filled::All => break,
                // Nothing can come any more; that this thread has ended is noticed.
                Filled::Gone => return tracing::warn!("the tunnel's device is gone"),
            }
        }
    }
}

/// What is left at the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Filled {
    More,
    All,
    /// The device was taken away.
    Gone,
}

/// Encrypts what the device has until there is enough to send.
fn fill(shared: &Shared, table: &Table, piece: &mut [u8], packer: &mut Packer<Endpoint>) -> Filled {
    for _ in 0..MAX_PIECES {
        let room = piece.get_mut(..HEAD_BYTES + PIECE_BYTES).unwrap_or_default();
        match shared.device.read(room) {
            Ok(length) => seal(shared, table, piece, length, packer),
            Err(error) if is_empty(&error) => return Filled::All,
            Err(error) if is_gone(&error) => return Filled::Gone,
            Err(_) => {
                shared.drops.count(DropReason::Device);
                return Filled::All;
            }
        }
        if packer.waiting_bytes() >= ENOUGH_BYTES || packer.free_bytes() < PIECE_MAX_BYTES {
            break;
        }
    }
    Filled::More
}

/// A device that was removed answers so for ever (`tun_do_read` of drivers/net/tun.c).
fn is_gone(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(error.raw_os_error().map(Errno::from_raw_os_error), Some(Errno::BADFD | Errno::NODEV))
}

fn flush(shared: &Shared, packer: &mut Packer<Endpoint>, more_comes: bool) {
    packer.send(more_comes, |run, bytes| {
        let lost = shared.wire.send_run(run, bytes);
        if lost > 0 {
            shared.drops.count_many(DropReason::NotSent, lost);
        }
    });
}

/// Encrypts the packets of a piece; those of one peer in a row under one lock.
fn seal(shared: &Shared, table: &Table, piece: &mut [u8], length: usize, packer: &mut Packer<Endpoint>) {
    let (now, mtu) = (SystemTime::now(), shared.device.mtu());
    let mut held: Option<Held<'_>> = None;
    // What one read gives is mostly one stream's: its owner is looked up once.
    let mut last: Option<(IpAddr, Option<usize>)> = None;
    let Some(mut cut) = Cut::of(piece, length) else { return shared.drops.count(DropReason::Device) };
    while let Some(packet) = cut.next(piece, mtu) {
        let to = Tunn::dst_address(packet.bytes());
        let owner = match last {
            Some((last, owner)) if to == Some(last) => owner,
            _ => to.and_then(|to| table.owner(to)),
        };
        last = to.map(|to| (to, owner));
        if held.as_ref().map(|held| held.position) != owner {
            // The one lock is let go of before the next is taken.
            drop(held.take());
            held = owner.and_then(|position| Held::take(table, position, now));
        }
        match &mut held {
            Some(held) => held.seal(packet.padded, packet.length, packer),
            None => shared.drops.count(DropReason::NoPeer),
        }
    }
}

/// A peer that packets are being encrypted for; what passed is counted once, when it is let go of.
struct Held<'a> {
    position: usize,
    peer: &'a Peer,
    link: MutexGuard<'a, Link>,
    is_open: bool,
    /// Neither begins nor ends while the link is locked and nothing is received.
    has_session: bool,
    packets: u64,
    bytes: u64,
}

impl<'a> Held<'a> {
    fn take(table: &'a Table, position: usize, now: SystemTime) -> Option<Self> {
        let peer = table.peer(position)?;
        let (link, is_open) = (peer.link(), peer.is_open(now));
        let has_session = link.has_session();
        Some(Self { position, peer, link, is_open, has_session, packets: 0, bytes: 0 })
    }

    fn seal(&mut self, packet: &[u8], length: usize, packer: &mut Packer<Endpoint>) {
        if !self.is_open {
            return self.peer.counters.drops.count(DropReason::Expired);
        }
        let Some(room) = packer.room(packet.len()) else {
            return self.peer.counters.drops.count(DropReason::NotSent);
        };
        match self.link.seal(packet, room, self.has_session) {
            Ok(Some((message_bytes, to))) => packer.keep(message_bytes, to),
            Ok(None) => {}
            Err(reason) => return self.peer.counters.drops.count(reason),
        }
        self.packets += 1;
        self.bytes += length as u64;
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.peer.counters.sent_packets.fetch_add(self.packets, Relaxed);
        self.peer.counters.sent_bytes.fetch_add(self.bytes, Relaxed);
    }
}
