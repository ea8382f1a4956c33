//! What is known of the log: how its last verification went, when what has to be done from time to time was last done.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use events::audit::{Entry, Writer};
use events::{Deed, Event, Role};
use jiff::Timestamp;
use policy::guideline::observation::{Deed as DeedKind, LastDone, Maintenance};
use record::verify::{Report, Watchdog};
use record::{VerifierKey, View};

use super::sessions::Sessions;

/// Entries read at once.
const CHUNK_BYTES: usize = 1 << 20;
/// Entries of deeds, of sessions and of a role's start hold one of these; the others need not be taken apart.
const MARKS: [&[u8]; 3] = [br#""kind":"done""#, br#""kind":"session""#, br#""kind":"role-started""#];

/// The deeds found in entries: what people do from time to time, and what came of maintenance sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Deeds {
    last: BTreeMap<DeedKind, LastDone>,
    sessions: Sessions,
}

impl Deeds {
    /// Takes an entry up, if it is of a deed.
    pub(super) fn take(&mut self, entry: &Entry) {
        if let Event::Session { session, change } = &entry.event {
            return self.sessions.take(session, change, entry.at);
        }
        if let Event::RoleStarted { role: Role::Edge, .. } = &entry.event {
            return self.sessions.edge_started(entry.at);
        }
        let Event::Done { deed, .. } = &entry.event else { return };
        let Some((kind, policy, person)) = kind_of(deed) else { return };
        let by = person.unwrap_or_else(|| writer_word(entry.writer));
        let held = self.last.get(&kind).and_then(|done| done.done_at);
        // By the entry's time: entries of one moment may come in any order.
        if held.is_none_or(|held| held <= entry.at) {
            self.last.insert(kind, LastDone { deed: kind, done_at: Some(entry.at), by: Some(by), policy });
        }
    }

    /// Takes over what another found.
    pub(super) fn merge(&mut self, other: Deeds) {
        self.sessions.merge(other.sessions);
        for (kind, done) in other.last {
            let is_later = self.last.get(&kind).is_none_or(|held| held.done_at < done.done_at);
            if is_later {
                self.last.insert(kind, done);
            }
        }
    }

    /// Connections of sessions whose end nobody else will tell; each is given once.
    pub(super) fn lost(&mut self, now: Timestamp) -> Vec<(String, u64)> {
        self.sessions.lost(now)
    }

    /// What came of maintenance sessions.
    pub(super) fn maintenance(&self, now: Timestamp) -> Maintenance {
        self.sessions.fact(now)
    }

    /// Every kind of deed, those never done included.
    pub(super) fn all(&self) -> impl Iterator<Item = LastDone> + '_ {
        DeedKind::ALL.into_iter().map(|deed| {
            let never = LastDone { deed, done_at: None, by: None, policy: None };
            self.last.get(&deed).cloned().unwrap_or(never)
        })
    }
}

/// What the catalogue calls a deed, the policy it spoke of, and the person named in it.
fn kind_of(deed: &Deed) -> Option<(DeedKind, Option<String>, Option<String>)> {
    match deed {
        Deed::Backup { policy, .. } => Some((DeedKind::Backup, Some(policy.clone()), None)),
        Deed::RestoreCheck { .. } => Some((DeedKind::RestoreCheck, None, None)),
        Deed::Restore { .. } | Deed::ReaderAdded { .. } | Deed::ReaderRemoved { .. } | Deed::TokenMade {} => {
            None
        }
        Deed::LogReview { person, .. } => Some((DeedKind::LogReview, None, Some(person.clone()))),
        Deed::LogExport { .. } => Some((DeedKind::Export, None, None)),
        Deed::Report { policy, .. } => Some((DeedKind::Report, Some(policy.clone()), None)),
    }
}

fn writer_word(writer: Writer) -> String {
    match writer {
        Writer::Role(role) => role.word().to_owned(),
        Writer::Admin(user) => format!("uid {user}"),
    }
}

/// How the last verification went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verification {
    /// When it ended.
    pub(super) at: Timestamp,
    /// What it found.
    pub(super) report: Report,
    /// Whether everything was read, not only what was new.
    pub(super) is_whole: bool,
}

/// What the first look at the log found.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    /// Time of the first entry.
    pub(super) oldest_at: Option<Timestamp>,
    /// Deeds.
    pub(super) deeds: Deeds,
}

/// Verifies the log, all of it or what is new; blocks.
#[derive(Clone, Debug)]
pub(super) struct Inspector {
    directory: PathBuf,
    key: VerifierKey,
    watchdog: Watchdog,
}

impl Inspector {
    /// Of the log in a directory.
    pub(super) fn new(directory: &Path, key: VerifierKey) -> Self {
        let watchdog = Watchdog::new(directory, key.clone());
        Inspector { directory: directory.to_owned(), key, watchdog }
    }

    /// Verifies.
    pub(super) fn verify(&mut self, is_whole: bool) -> Verification {
        let report = if is_whole { self.watchdog.check_all() } else { self.watchdog.check_new() };
        Verification { at: Timestamp::now(), report, is_whole }
    }

    /// Reads every entry once for what the controls ask. What cannot be read is the verification's to tell.
    pub(super) fn history(&self) -> History {
        let deeds = Deeds { sessions: Sessions::of_whole_log(), ..Deeds::default() };
        let mut history = History { oldest_at: None, deeds };
        let mut next = 0;
        while let Some(rows) = self.chunk(next).filter(|rows| !rows.is_empty()) {
            for (index, bytes) in &rows {
                let is_deed = MARKS.iter().any(|mark| memmem(bytes, mark));
                if *index > 0 && !is_deed {
                    continue;
                }
                let Ok(entry) = Entry::decode(bytes) else { continue };
                history.deeds.take(&entry);
                if *index == 0 {
                    history.oldest_at = Some(entry.at);
                }
            }
            next = rows.last().map_or(u64::MAX, |(index, _)| index + 1);
        }
        history
    }

    fn chunk(&self, first: u64) -> Option<Vec<(u64, Vec<u8>)>> {
        record::reader::ask(&self.directory, &self.key, |view: &mut View| {
            view.entries(first..view.checkpoint().size, CHUNK_BYTES)
        })
        .inspect_err(|error| tracing::warn!(%error, "the log's history cannot be read"))
        .ok()
    }
}

fn memmem(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|window| window == what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(at: &str, deed: Deed) -> Entry {
        Entry::new(at.parse().unwrap(), Writer::Admin(1000), Event::Done { by: 1000, deed })
    }

    #[test]
    fn the_last_of_each_deed_is_known_and_what_was_never_done_says_so() {
        let mut deeds = Deeds::default();
        let backup =
            |policy: &str| Deed::Backup { sha256: String::new(), bytes: 1, policy: policy.to_owned() };
        deeds.take(&entry("2026-11-02T00:00:00Z", backup("two")));
        deeds.take(&entry("2026-11-01T00:00:00Z", backup("one")));
        let review = Deed::LogReview { person: "院長 田中".to_owned(), until: 9, note: String::new() };
        deeds.take(&entry("2026-11-03T00:00:00Z", review));
        let all: Vec<LastDone> = deeds.all().collect();
        assert_eq!(all.len(), DeedKind::ALL.len());
        let of = |kind| all.iter().find(|done| done.deed == kind).unwrap();
        assert_eq!(of(DeedKind::Backup).policy.as_deref(), Some("two"));
        assert_eq!(of(DeedKind::Backup).by.as_deref(), Some("uid 1000"));
        assert_eq!(of(DeedKind::LogReview).by.as_deref(), Some("院長 田中"));
        assert_eq!(of(DeedKind::Export).done_at, None);
    }

    #[test]
    fn an_entry_of_a_deed_holds_the_mark() {
        let bytes = entry("2026-11-02T00:00:00Z", Deed::LogExport { entries: 1 }).encode().unwrap();
        assert!(memmem(&bytes, MARKS[0]), "{}", String::from_utf8_lossy(&bytes));
        let change = events::SessionChange::ConnectionOpened { connection: 1 };
        let event = Event::Session { session: "s-a".to_owned(), change };
        let bytes = Entry::new(Timestamp::UNIX_EPOCH, Writer::Admin(0), event).encode().unwrap();
        assert!(memmem(&bytes, MARKS[1]), "{}", String::from_utf8_lossy(&bytes));
        let event = Event::RoleStarted { role: Role::Edge, version: String::new() };
        let bytes = Entry::new(Timestamp::UNIX_EPOCH, Writer::Role(Role::Edge), event).encode().unwrap();
        assert!(memmem(&bytes, MARKS[2]), "{}", String::from_utf8_lossy(&bytes));
    }
}
