//! The one enum. A variant is added, never changed in meaning; the version of an entry says which enum wrote it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::words::{
    Class, Deed, EngineerChange, Failure, Feed, FileChange, Origin, PersonChange, Role, ScrapeRefusal,
    SessionChange, Suspicion, VpnChange,
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
        /// The rule set is the one in force: only what surrounds it changes, as the room that the log has.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        same_rules: bool,
    },
    /// A policy is in force, read back equal.
    Applied {
        /// User id of whoever asked.
        by: u32,
        /// Identity of the rule set.
        policy: String,
        /// The rule set was in force already.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        same_rules: bool,
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
    /// Somebody else changed the rules, or the WireGuard interface that the kernel carries the VPN by; it was put back.
    Drift {
        /// In how many places.
        differences: usize,
        /// The first.
        first: String,
    },
    /// Somebody else changed settings of the kernel that the rules or the ledger rely on; they were put back.
    SettingsChanged {
        /// Which, with what they were changed to.
        settings: Names,
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
    /// Something about a person's second factor.
    Person {
        /// The person, as the policy names it.
        person: String,
        /// Who did it, with a code of that person's own; `None` for root, the person alone, or the limit of wrong codes.
        by: Option<String>,
        /// What.
        change: PersonChange,
    },
    /// Something about an engineer of a vendor.
    Engineer {
        /// The vendor.
        vendor: String,
        /// The engineer's name.
        engineer: String,
        /// The key that it is about, as hex.
        key: String,
        /// What.
        change: EngineerChange,
    },
    /// Something about a file that crosses.
    File {
        /// The transfer.
        transfer: String,
        /// The session in which it came.
        session: String,
        /// The vendor.
        vendor: String,
        /// The file's name, as the sender gave it.
        name: String,
        /// SHA-256 that the sender announced.
        sha256: String,
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
            | Event::SettingsChanged { .. }
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
            Event::Done { deed, .. } => deed.origin(),
            Event::Person { .. }
            | Event::Engineer { .. }
            | Event::Vpn { change: VpnChange::Revoked, .. }
            | Event::Session {
                change:
                    SessionChange::Requested { .. }
                    | SessionChange::Approved { .. }
                    | SessionChange::Denied { .. }
                    | SessionChange::Opening { .. }
                    | SessionChange::Opened { .. }
                    | SessionChange::Closed { .. },
                ..
            } => Origin::Role(Role::Core),
            Event::Vpn { change: VpnChange::Connected | VpnChange::Silent, .. }
            | Event::Session {
                change: SessionChange::ConnectionOpened { .. } | SessionChange::ConnectionClosed { .. },
                ..
            } => Origin::Role(Role::Edge),
            Event::Session { change: SessionChange::ConnectionLost { .. }, .. } => Origin::Role(Role::Record),
            Event::File { .. } => Origin::Role(Role::Files),
        }
    }

    /// How much the entry matters when room runs out.
    #[must_use]
    pub const fn class(&self) -> Class {
        match self {
            // What raises the log's budget must not be refused for want of room in the log; it opens nothing.
            Event::ApplyRequested { same_rules: true, .. } | Event::Applied { same_rules: true, .. } => {
                Class::Critical
            }
            Event::ApplyRequested { same_rules: false, .. }
            | Event::Applied { same_rules: false, .. }
            | Event::TimeTrusted { .. } => Class::Gate,
            Event::Done { deed, .. } => deed.class(),
            Event::Session { change, .. } => change.class(),
            Event::Person { change, .. } => change.class(),
            Event::Engineer { change, .. } => change.class(),
            Event::File { change, .. } => change.class(),
            Event::Vpn { change, .. } => change.class(),
            Event::ApplyFailed { .. }
            | Event::Restored { .. }
            | Event::Closed { .. }
            | Event::CloseFailed { .. }
            | Event::Drift { .. }
            | Event::SettingsChanged { .. }
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
            | Event::ScrapeRefused { .. } => Class::Ordinary,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(same_rules: bool) -> [Event; 2] {
        let (file, policy) = (String::new(), String::new());
        let (added, removed, narrowed) = (Names::default(), Names::default(), Names::default());
        let requested = Event::ApplyRequested {
            by: 0,
            file,
            policy: policy.clone(),
            added,
            removed,
            narrowed,
            same_rules,
        };
        [requested, Event::Applied { by: 0, policy, same_rules }]
    }

    #[test]
    fn only_an_apply_that_changes_no_rule_takes_the_reserve() {
        assert!(applied(true).iter().all(|event| event.class() == Class::Critical));
        assert!(applied(false).iter().all(|event| event.class() == Class::Gate));
    }

    #[test]
    fn an_entry_from_before_the_flag_reads_as_one_that_changes_rules() {
        let [_, old] = applied(false);
        let text = serde_json::to_string(&old).unwrap();
        assert!(!text.contains("same_rules"), "{text}");
        assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), old);
    }

    #[test]
    fn who_gives_keys_away_says_so_and_what_opens_is_recorded_first() {
        let done = |deed| Event::Done { by: 1000, deed };
        let added = done(Deed::ReaderAdded { reader: "a".to_owned(), sha256: "00".to_owned() });
        let removed = done(Deed::ReaderRemoved { reader: "a".to_owned() });
        let token = done(Deed::TokenMade {});
        for event in [&added, &removed, &token] {
            assert_eq!(event.origin(), Origin::Role(Role::Console));
        }
        assert_eq!(
            (added.class(), token.class(), removed.class()),
            (Class::Gate, Class::Gate, Class::Critical)
        );
        let said = done(Deed::LogExport { entries: 1 });
        assert_eq!((said.origin(), said.class()), (Origin::Admin, Class::Ordinary));
    }
}
