//! From the device to the wire: packets are split, matched to their peer, encrypted back to back, and sent in runs.

use std::io;
use std::net::IpAddr;
use std::sync::MutexGuard;
use std::sync::atomic::Ordering::Relaxed;
use std::time::SystemTime;

use boringtun::noise::Tunn;

use super::{Shared, is_empty};
use crate::DropReason;
use crate::device::READ_BYTES;
use crate::link::{Endpoint, Link};
use crate::peers::{Peer, Table};
use crate::runs::Packer;

/// Packets of one piece: the smallest segments that Linux makes of 64 KiB (`TCP_MIN_SND_MSS` of 48 bytes).
const MAX_PACKETS: usize = 1_400;
/// Room behind a packet's own bytes: what is split is never longer than the MTU, what is padded is by less than this.
const SPARE_BYTES: usize = 128;
/// What was encrypted is sent when it is this much, or when the device has nothing more.
const ENOUGH_BYTES: usize = 48 << 10;
/// As little as the device has when it is woken for each packet.
const LITTLE_BYTES: usize = 1 << 10;
/// Enough for [`ENOUGH_BYTES`] and then the largest piece, in the smallest packets.
const PACKER_BYTES: usize = 256 << 10;
/// Pieces of one batch, so that the table is let go of under any load.
const MAX_PIECES: usize = 64;
/// Packets are padded to a multiple of this, so that less of their length shows (whitepaper, section 5.4.6).
const PADDING_BYTES: usize = 16;

/// What one read gave.
struct Batch {
    piece: Vec<u8>,
    packets: Vec<Vec<u8>>,
    lengths: Vec<usize>,
}

/// Carries packets until the tunnel closes.
pub(super) fn run(shared: &Shared) {
    let packet_bytes = shared.device.mtu().max(1_500) + SPARE_BYTES;
    let mut batch = Batch {
        piece: vec![0; READ_BYTES],
        packets: (0..MAX_PACKETS).map(|_| vec![0; packet_bytes]).collect(),
        lengths: vec![0; MAX_PACKETS],
    };
    let mut packer = Packer::new(PACKER_BYTES);
    let mut was_little = false;
    while shared.wait(Some(&shared.device), None) {
        if was_little {
            // Acknowledgements, mostly, which come one by one: he who is ready goes first, and makes more of them. When
            // there are more, nobody is given way.
            std::thread::yield_now();
        }
        was_little = true;
        loop {
            let filled = fill(shared, &mut batch, &mut packer);
            was_little &= packer.waiting_bytes() <= LITTLE_BYTES;
            flush(shared, &mut packer);
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
fn fill(shared: &Shared, batch: &mut Batch, packer: &mut Packer<Endpoint>) -> Filled {
    for _ in 0..MAX_PIECES {
        let read = shared.device.read(&mut batch.piece, &mut batch.packets, &mut batch.lengths);
        match read {
            Ok(count) => seal(shared, batch, count, packer),
            Err(error) if is_empty(&error) => return Filled::All,
            Err(error) if is_gone(&error) => return Filled::Gone,
            Err(_) => {
                shared.drops.count(DropReason::Device);
                return Filled::All;
            }
        }
        if packer.waiting_bytes() >= ENOUGH_BYTES {
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

fn flush(shared: &Shared, packer: &mut Packer<Endpoint>) {
    for (run, bytes) in packer.runs() {
        let lost = shared.wire.send_run(run, bytes);
        if lost > 0 {
            shared.drops.count_many(DropReason::NotSent, lost);
        }
    }
    packer.clear();
}

/// Encrypts the packets of one read; those of one peer in a row under one lock.
fn seal(shared: &Shared, batch: &mut Batch, count: usize, packer: &mut Packer<Endpoint>) {
    let (table, now, mtu) = (shared.table(), SystemTime::now(), shared.device.mtu());
    let mut held: Option<Held<'_>> = None;
    // What one read gives is mostly one stream's: its owner is looked up once.
    let mut last: Option<(IpAddr, Option<usize>)> = None;
    for (packet, length) in batch.packets.iter_mut().zip(&batch.lengths).take(count) {
        let to = destination(packet, *length);
        let owner = match last {
            Some((last, owner)) if to == Some(last) => owner,
            _ => to.and_then(|to| table.owner(to)),
        };
        last = to.map(|to| (to, owner));
        if held.as_ref().map(|held| held.position) != owner {
            // The one lock is let go of before the next is taken.
            drop(held.take());
            held = owner.and_then(|position| Held::take(&table, position, now));
        }
        match &mut held {
            Some(held) => held.seal(pad(packet, *length, mtu), *length, packer),
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

fn destination(packet: &[u8], length: usize) -> Option<IpAddr> {
    Tunn::dst_address(packet.get(..length)?)
}

/// Lengthens a packet with zeros, as far as the MTU goes; the other end knows its length from its header.
fn pad(packet: &mut [u8], length: usize, mtu: usize) -> &[u8] {
    let padded = length.next_multiple_of(PADDING_BYTES).min(mtu).max(length);
    if let Some(padding) = packet.get_mut(length..padded) {
        padding.fill(0);
    }
    packet.get(..padded).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_is_zeros_up_to_the_mtu() {
        let mut packet = vec![7; 1_500];
        assert_eq!(pad(&mut packet, 41, 1_420), [vec![7; 41], vec![0; 7]].concat());
        assert_eq!(pad(&mut packet, 1_419, 1_420).len(), 1_420);
        assert_eq!(pad(&mut packet, 1_420, 1_420).len(), 1_420);
        assert_eq!(pad(&mut packet, 1_421, 1_420).len(), 1_421, "longer than it should be, but not cut");
    }
}
