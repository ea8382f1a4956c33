//! Who may write what into the log: each process its own kinds of event, as the kernel says who it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use events::audit::Writer;
use events::{Event, Origin, Role};
use gateway::accounts::{
    ADMIN_GROUP, Accounts, CONSOLE_USER, CORE_USER, EDGE_USER, FILES_USER, RECORD_USER, WATCH_USER,
};
use gateway::wire::Ask;
use gateway::wire::record::RecordAsk;

use crate::server::{self, Gate, Peer};

/// The gate of the role's socket; what it refuses is counted.
pub(super) fn gate(own: u32, refused: Arc<AtomicU64>) -> Gate {
    let admins = server::admins_only(own);
    Arc::new(move |peer: Peer, ask: &Ask| {
        let verdict = match ask {
            Ask::Record(RecordAsk::Append { event, .. }) => writer(own, peer, event).map(drop),
            Ask::Record(RecordAsk::Checkpoint {}) if is_user(peer, CONSOLE_USER) => Ok(()),
            // Its sign of life while a session is open.
            Ask::Measure {} if is_user(peer, CORE_USER) => Ok(()),
            _ => admins(peer, ask),
        };
        if verdict.is_err() {
            refused.fetch_add(1, Ordering::Relaxed);
        }
        verdict
    })
}

/// Who writes this entry, if this peer may say it.
///
/// # Errors
/// Says why not.
pub(super) fn writer(own: u32, peer: Peer, event: &Event) -> Result<Writer, String> {
    let accounts = Accounts::read().map_err(|error| format!("the accounts cannot be read: {error}"))?;
    let is_admin = peer.user == 0 || accounts.is_member(peer.user, peer.group, ADMIN_GROUP);
    // Started by hand or in a test and not as its own user, this role takes its own user for any role.
    let is_installed = accounts.user_id(RECORD_USER) == Some(own);
    judge(event, peer.user, is_admin, |role| {
        accounts.user_id(user_of(role)) == Some(peer.user) || (!is_installed && peer.user == own)
    })
}

fn judge(event: &Event, user: u32, is_admin: bool, is_role: impl Fn(Role) -> bool) -> Result<Writer, String> {
    let as_role = |role: Role| {
        let refusal = || format!("only the user `{}` may say this", user_of(role));
        if is_role(role) { Ok(Writer::Role(role)) } else { Err(refusal()) }
    };
    match (event.origin(), event) {
        (Origin::Role(role), _) => as_role(role),
        (Origin::AnyRole, Event::RoleStarted { role, .. } | Event::RoleStopping { role }) => as_role(*role),
        (Origin::AnyRole, _) => Err("a role may only speak of itself".to_owned()),
        (Origin::Admin, Event::Done { by, .. }) if is_admin && *by == user => Ok(Writer::Admin(user)),
        (Origin::Admin, _) => {
            Err(format!("only root and members of the group `{ADMIN_GROUP}` may say this, of themselves"))
        }
    }
}

fn is_user(peer: Peer, user: &str) -> bool {
    Accounts::read().is_ok_and(|accounts| accounts.user_id(user) == Some(peer.user))
}

const fn user_of(role: Role) -> &'static str {
    match role {
        Role::Core => CORE_USER,
        Role::Watch => WATCH_USER,
        Role::Record => RECORD_USER,
        Role::Console => CONSOLE_USER,
        Role::Edge => EDGE_USER,
        Role::Files => FILES_USER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use events::Deed;
    use events::words::{FileChange, SessionChange, VpnChange};

    const ADMIN: u32 = 1000;

    /// What a role's user may say.
    fn by(role: Role, event: &Event) -> bool {
        judge(event, 900, false, |other| other == role).is_ok()
    }

    fn file(change: FileChange) -> Event {
        let empty = String::new;
        Event::File {
            transfer: empty(),
            session: empty(),
            vendor: empty(),
            name: empty(),
            sha256: empty(),
            change,
        }
    }

    #[test]
    fn each_role_says_its_own_and_nothing_else() {
        let drift = Event::Drift { differences: 1, first: String::new() };
        let pruned = Event::LedgerPruned { rows: 1, before: jiff::Timestamp::UNIX_EPOCH };
        let changed = Event::ControlChanged {
            control: String::new(),
            from: String::new(),
            to: String::new(),
            why: String::new(),
        };
        let cases = [
            (Role::Core, drift),
            (Role::Watch, pruned),
            (Role::Record, Event::LogRoom {}),
            (Role::Console, changed),
            (Role::Edge, Event::Vpn { peer: "p".to_owned(), change: VpnChange::Connected }),
            (Role::Core, Event::Vpn { peer: "p".to_owned(), change: VpnChange::Revoked }),
            (Role::Edge, session(SessionChange::ConnectionOpened { connection: 1 })),
            (Role::Record, session(SessionChange::ConnectionLost { connection: 1 })),
            (Role::Core, session(SessionChange::Closed { why: "killed".to_owned(), by: None })),
            (Role::Files, file(FileChange::Released { kinds: Vec::new() })),
        ];
        for (owner, event) in &cases {
            for role in Role::ALL {
                assert_eq!(by(role, event), role == *owner, "{role:?} {event:?}");
            }
            assert!(judge(event, ADMIN, true, |_| false).is_err(), "not even an admin: {event:?}");
        }
        for role in Role::ALL {
            assert!(by(role, &Event::RoleStopping { role }));
        }
        assert!(!by(Role::Watch, &Event::RoleStopping { role: Role::Core }), "only of itself");
    }

    #[test]
    fn a_person_speaks_for_that_person_only() {
        let done = |by| Event::Done { by, deed: Deed::LogExport { entries: 1 } };
        assert_eq!(judge(&done(ADMIN), ADMIN, true, |_| false), Ok(Writer::Admin(ADMIN)));
        assert!(judge(&done(0), ADMIN, true, |_| false).is_err(), "in another's name");
        assert!(judge(&done(ADMIN), ADMIN, false, |_| false).is_err(), "no admin");
        assert!(Role::ALL.into_iter().all(|role| !by(role, &done(ADMIN))));
    }

    fn session(change: SessionChange) -> Event {
        Event::Session { session: "s-1".to_owned(), change }
    }
}
