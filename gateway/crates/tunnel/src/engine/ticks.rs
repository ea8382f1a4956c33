//! What time demands of each peer: retries, new keys, signs of life, keys forgotten (whitepaper, section 6).

use std::time::SystemTime;

use rustix::event::Timespec;

use super::Shared;
use crate::DropReason;

/// The protocol's times are seconds; this is often enough.
const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 250_000_000 };
/// Room for a handshake initiation or a keepalive.
const MESSAGE_BYTES: usize = 256;

/// Ticks until the tunnel closes.
pub(super) fn run(shared: &Shared) {
    let mut message = [0; MESSAGE_BYTES];
    while shared.wait(None, Some(&TICK)) {
        let (table, now) = (shared.table(), SystemTime::now());
        for peer in table.peers() {
            let mut link = peer.link();
            // A peer whose time is over says nothing more, but its keys are still forgotten in time.
            let Some((length, to)) = link.tick(&mut message) else { continue };
            if peer.is_open(now) {
                let lost = shared.wire.send(message.get(..length).unwrap_or_default(), to);
                shared.drops.count_many(DropReason::NotSent, lost);
            }
        }
    }
}
