//! What a session opens in the kernel, and the socket that may use it. A grant's mark is never used again: the counter is
//! durable before the kernel sees a mark.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use gateway::store::{DoorFile, Store, StoreError};
use netfilter::grants::{Grant, GrantProtocol};
use policy::ledger::FIRST_GRANT_MARK;
use policy::ruleset::Mark;
use session::{Protocol, Target};
use socket2::{Domain, Socket, Type};
use thiserror::Error;

/// Why there is no mark for a grant.
#[derive(Debug, Error)]
pub(super) enum MarkError {
    /// The counter cannot be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// All were used.
    #[error(
        "all marks for sessions have been used: back up and reset the state directory in a maintenance hour"
    )]
    Exhausted,
}

/// Takes the next mark; durable when this returns.
pub(super) fn next_mark(store: &Store) -> Result<Mark, MarkError> {
    let next: u32 = store.door(DoorFile::GrantMarks)?.unwrap_or(FIRST_GRANT_MARK).max(FIRST_GRANT_MARK);
    let after = next.checked_add(1).ok_or(MarkError::Exhausted)?;
    store.keep_door(DoorFile::GrantMarks, &after)?;
    Ok(Mark(next))
}

/// What opens for a target.
pub(super) fn grant(mark: Mark, target: &Target) -> Grant {
    let protocol = match target.protocol {
        Protocol::Tcp => GrantProtocol::Tcp,
        Protocol::Udp => GrantProtocol::Udp,
    };
    Grant { mark, address: target.address, protocol, port: target.port }
}

/// A socket that can reach the grant's target and, by its mark, nothing else: non-blocking, not connected.
pub(super) fn socket(grant: &Grant) -> io::Result<OwnedFd> {
    let domain = match grant.address {
        IpAddr::V4(_) => Domain::IPV4,
        IpAddr::V6(_) => Domain::IPV6,
    };
    let kind = match grant.protocol {
        GrantProtocol::Tcp => Type::STREAM,
        GrantProtocol::Udp => Type::DGRAM,
    };
    // Marked before anybody else holds it; only CAP_NET_ADMIN can change the mark.
    let socket = Socket::new(domain, kind.nonblocking().cloexec(), None)?;
    socket.set_mark(grant.mark.0)?;
    Ok(socket.into())
}

/// A grant lasts no longer than the kernel's longest.
pub(super) fn life(left: Duration) -> Duration {
    left.min(netfilter::grants::LIFE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_never_given_twice() {
        let directory = tempfile::tempdir().unwrap();
        let take = || {
            // Opened anew each time, as after a crash.
            let store = Store::open(directory.path()).unwrap();
            next_mark(&store).unwrap().0
        };
        assert_eq!([take(), take(), take()], [FIRST_GRANT_MARK, FIRST_GRANT_MARK + 1, FIRST_GRANT_MARK + 2]);
        let store = Store::open(directory.path()).unwrap();
        store.keep_door(DoorFile::GrantMarks, &u32::MAX).unwrap();
        assert!(matches!(next_mark(&store), Err(MarkError::Exhausted)));
        store.keep_door(DoorFile::GrantMarks, &7_u32).unwrap();
        assert_eq!(next_mark(&store).unwrap().0, FIRST_GRANT_MARK, "never a flow's mark");
    }
}
