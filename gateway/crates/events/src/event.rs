//! The one enum. A variant is added, never changed in meaning; the version of an entry says which enum wrote it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::words::{
    Class, Deed, Failure, Feed, FileChange, Origin, Role, ScrapeRefusal, SessionChange, Suspicion, VpnChange,
};

/// Longest text kept of anything that somebody else wrote, in characters.
pub const TEXT_MAX: usize = 400;
/// Room for the names of one list, in bytes, so that every event fits into an entry; the counts beside them are exact.
pub const NAMES_BYTES_MAX: usize = 8 << 10;

/// Some names of many, with the exact count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Names {
    /// How many there are.
    pub count: usize,
    /// The first of them, as many as [`NAMES_BYTES_MAX`] holds, each cut to [`TEXT_MAX`] characters.
    pub first: Vec<String>,
}

impl<T: AsRef<str>> FromIterator<T> for Names {
    fn from_iter<I: IntoIterator<Item = T>>(names: I) -> Self {
        let mut kept = Names::default();
        let mut room = NAMES_BYTES_MAX;
        for name in names {
            let name = text(name.as_ref());
            kept.count += 1;
            // Once one did not fit no later one is taken: what is listed is the beginning.
            room = room.saturating_sub(name.len());
            if room > 0 {
                kept.first.push(name);
            }
        }
        kept
    }
}

/// A text cut to [`TEXT_MAX`] characters, without control characters.
#[must_use]
pub fn text(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(TEXT_MAX).collect()
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Event {
    /// A role serves.
    RoleStarted {
        /// Which.
        role: Role,
        /// Version of the program.
        version: String,
    },
    /// A role ends because it was told to.
    RoleStopping {
        /// Which.
        role: Role,
    },
    /// A policy was not acceptable; nothing changed.
    PolicyRefused {
        /// User id of whoever asked.
        by: u32,
        /// Name of the main source.
        file: String,
        /// How many errors it has.
        errors: usize,
    },
    /// A checked policy is about to be put in force.
    ApplyRequested {
        /// User id of whoever asked.
        by: u32,
        /// Name of the main source.
        file: String,
        /// Identity of the rule set.
        policy: String,
        /// Flows that are new.
        added: Names,
        /// Flows that are gone.
        removed: Names,
        /// Flows that no longer allow all they allowed.
        narrowed: Names,
    },
    /// A policy is in force, read back equal.
    Applied {
        /// User id of whoever asked.
        by: u32,
        /// Identity of the rule set.
        policy: String,
    },
    /// An apply failed.
    ApplyFailed {
        /// Identity of the rule set.
        policy: String,
        /// How it ended.
        failure: Failure,
        /// Why.
        why: String,
    },
    /// After a start the last applied policy is in force.
    Adopted {
        /// Identity of the rule set.
        policy: String,
        /// The kernel held it already.
        untouched: bool,
    },
    /// The kernel did not hold what it should; the last applied policy was put back.
    Restored {
        /// Why.
        why: String,
    },
    /// Nothing passes.
    Closed {
        /// Why.
        why: String,
    },
    /// Not even closing succeeded.
    CloseFailed {
        /// Why.
        why: String,
    },
    /// Somebody else changed the rules.
    Drift {
        /// In how many places.
        differences: usize,
        /// The first.
        first: String,
    },
    /// Tables of somebody else stand in the kernel; the list is empty when they are gone.
    ForeignTables {
        /// In words.
        tables: Names,
    },
    /// Flows opened or closed because time passed.
    WindowsChanged {
        /// Flows that opened.
        opened: Names,
        /// Flows that closed.
        closed: Names,
    },
    /// Somebody with the right says that the clock is good.
    TimeTrusted {
        /// User id.
        by: u32,
    },
    /// The wall clock was set.
    ClockJumped {
        /// By how many seconds; negative is back.
        seconds: i64,
    },
    /// Something around the rules failed: addresses, services, state on disk.
    Trouble {
        /// What.
        what: String,
    },
    /// The kernel tells watch.
    FeedGained {
        /// What.
        feed: Feed,
    },
    /// The kernel no longer tells watch.
    FeedLost {
        /// What.
        feed: Feed,
        /// Why.
        why: String,
    },
    /// The kernel had more to tell than watch could take.
    EventsLost {
        /// What.
        feed: Feed,
        /// How many, where the kernel says so; at least 1.
        count: u64,
        /// The loss lies after this time.
        since: Timestamp,
        /// The loss lies before this time.
        until: Timestamp,
    },
    /// What the flow ledger took up in a period.
    FlowsSeen {
        /// Begin of the period.
        since: Timestamp,
        /// End of the period.
        until: Timestamp,
        /// Connections that began.
        started: u64,
        /// Connections that ended.
        ended: u64,
        /// SHA-256 over the ledger's rows of the period, in hex.
        sha256: String,
    },
    /// What was denied in a period, by zone and reason.
    Denied {
        /// Begin of the period.
        since: Timestamp,
        /// End of the period.
        until: Timestamp,
        /// Slug of the zone it came from, or `gateway`.
        zone: String,
        /// Where the rules said no.
        reason: String,
        /// How many packets were told; what the rate limit hid is in the kernel's counters.
        packets: u64,
    },
    /// The ledger let go of its oldest rows.
    LedgerPruned {
        /// How many.
        rows: u64,
        /// Rows before this time are gone.
        before: Timestamp,
    },
    /// Traffic that no registered device should send.
    Suspicious {
        /// What.
        suspicion: Suspicion,
        /// Slug of the zone.
        zone: String,
        /// From whom.
        source: String,
        /// To whom.
        destination: String,
        /// Destination port, for protocols that have one.
        port: Option<u16>,
    },
    /// The log was opened.
    LogOpened {
        /// Entries it holds.
        entries: u64,
        /// Bytes of an unfinished write that were put in order.
        repaired_bytes: u64,
    },
    /// The whole log was read and checked.
    LogVerified {
        /// Entries it holds.
        entries: u64,
        /// What is wrong, if anything is.
        fault: Option<String>,
    },
    /// The log has no more room but its reserve.
    LogFull {
        /// Why.
        why: String,
    },
    /// The log has room again.
    LogRoom {},
    /// A control of the guideline is in another state.
    ControlChanged {
        /// Its id in the catalogue.
        control: String,
        /// State before.
        from: String,
        /// State now.
        to: String,
        /// Why, in English.
        why: String,
    },
    /// A scrape of the metrics was answered.
    Scraped {},
    /// A scrape of the metrics was refused.
    ScrapeRefused {
        /// Why.
        refusal: ScrapeRefusal,
    },
    /// Somebody with the right did something outside the daemon.
    Done {
        /// User id of whoever did it.
        by: u32,
        /// What.
        deed: Deed,
    },
    /// Something about a VPN peer.
    Vpn {
        /// The peer.
        peer: String,
        /// What.
        change: VpnChange,
    },
    /// Something about a maintenance session.
    Session {
        /// The session.
        session: String,
        /// What.
        change: SessionChange,
    },
    /// Something about a file that crosses.
    File {
        /// The transfer.
        transfer: String,
        /// What.
        change: FileChange,
    },
}

impl Event {
    /// Who may say this; the recorder refuses it from anybody else.
    #[must_use]
    pub const fn origin(&self) -> Origin {
        match self {
            Event::RoleStarted { .. } | Event::RoleStopping { .. } => Origin::AnyRole,
            Event::PolicyRefused { .. }
            | Event::ApplyRequested { .. }
            | Event::Applied { .. }
            | Event::ApplyFailed { .. }
            | Event::Adopted { .. }
            | Event::Restored { .. }
            | Event::Closed { .. }
            | Event::CloseFailed { .. }
            | Event::Drift { .. }
            | Event::ForeignTables { .. }
            | Event::WindowsChanged { .. }
            | Event::TimeTrusted { .. }
            | Event::ClockJumped { .. }
            | Event::Trouble { .. } => Origin::Role(Role::Core),
            Event::FeedGained { .. }
            | Event::FeedLost { .. }
            | Event::EventsLost { .. }
            | Event::FlowsSeen { .. }
            | Event::Denied { .. }
            | Event::LedgerPruned { .. }
            | Event::Suspicious { .. } => Origin::Role(Role::Watch),
            Event::LogOpened { .. }
            | Event::LogVerified { .. }
            | Event::LogFull { .. }
            | Event::LogRoom {} => Origin::Role(Role::Record),
            Event::ControlChanged { .. } | Event::Scraped {} | Event::ScrapeRefused { .. } => {
                Origin::Role(Role::Console)
            }
            Event::Done { .. } => Origin::Admin,
            Event::Vpn { .. } | Event::Session { .. } | Event::File { .. } => Origin::Doors,
        }
    }

    /// How much the entry matters when room runs out.
    #[must_use]
    pub const fn class(&self) -> Class {
        match self {
            Event::ApplyRequested { .. } | Event::Applied { .. } | Event::TimeTrusted { .. } => Class::Gate,
            Event::Session { change: SessionChange::Approved | SessionChange::Opened, .. }
            | Event::File { change: FileChange::Released, .. }
            | Event::Vpn { change: VpnChange::Connected, .. } => Class::Gate,
            Event::ApplyFailed { .. }
            | Event::Restored { .. }
            | Event::Closed { .. }
            | Event::CloseFailed { .. }
            | Event::Drift { .. }
            | Event::EventsLost { .. }
            | Event::FeedLost { .. }
            | Event::LogFull { .. }
            | Event::LogRoom {}
            | Event::LogVerified { fault: Some(_), .. }
            | Event::RoleStarted { .. }
            | Event::RoleStopping { .. } => Class::Critical,
            Event::PolicyRefused { .. }
            | Event::Adopted { .. }
            | Event::ForeignTables { .. }
            | Event::WindowsChanged { .. }
            | Event::ClockJumped { .. }
            | Event::Trouble { .. }
            | Event::FeedGained { .. }
            | Event::FlowsSeen { .. }
            | Event::Denied { .. }
            | Event::LedgerPruned { .. }
            | Event::Suspicious { .. }
            | Event::LogOpened { .. }
            | Event::LogVerified { fault: None, .. }
            | Event::ControlChanged { .. }
            | Event::Scraped {}
            | Event::ScrapeRefused { .. }
            | Event::Done { .. }
            | Event::Vpn { change: VpnChange::Silent | VpnChange::Revoked, .. }
            | Event::Session {
                change: SessionChange::Requested | SessionChange::Denied | SessionChange::Closed,
                ..
            }
            | Event::File { change: FileChange::Held | FileChange::Refused, .. } => Class::Ordinary,
        }
    }
}
