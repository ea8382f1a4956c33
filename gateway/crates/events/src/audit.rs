//! The entry of the transparency log: one line of JSON, self-describing, with the version of its language.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::event::Event;
use crate::words::Role;

/// The version of the entries written now.
pub const VERSION: u32 = 1;
/// Longest entry in bytes; what an event may hold stays below.
pub const ENTRY_BYTES_MAX: usize = 60 << 10;

/// Who wrote an entry, as the recorder saw it (SO_PEERCRED), not as the writer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Writer {
    /// A role's own user.
    Role(Role),
    /// A person with the right to administer, by user id.
    Admin(u32),
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// [`VERSION`].
    pub v: u32,
    /// When it happened, by the writer's clock.
    pub at: Timestamp,
    /// Who wrote it.
    pub writer: Writer,
    /// What happened.
    pub event: Event,
}

/// Why bytes are not an entry.
#[derive(Debug, Error)]
pub enum EntryError {
    /// Not JSON of this language.
    #[error("this is no log entry: {0}")]
    Malformed(#[from] serde_json::Error),
    /// An entry of another version.
    #[error("the entry is of version {found}, this program reads {VERSION}: use the program that wrote it")]
    Version {
        /// The version found.
        found: u32,
    },
    /// Longer than any entry.
    #[error("an entry of {bytes} bytes is longer than {ENTRY_BYTES_MAX}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
}

/// Whether an event is an entry of the log. What strangers can repeat at will is counted, not logged one by one.
#[must_use]
pub const fn is_logged(event: &Event) -> bool {
    match event {
        Event::Scraped {} | Event::ScrapeRefused { .. } => false,
        Event::RoleStarted { .. }
        | Event::RoleStopping { .. }
        | Event::PolicyRefused { .. }
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
        | Event::Trouble { .. }
        | Event::FeedGained { .. }
        | Event::FeedLost { .. }
        | Event::EventsLost { .. }
        | Event::FlowsSeen { .. }
        | Event::Denied { .. }
        | Event::LedgerPruned { .. }
        | Event::Suspicious { .. }
        | Event::LogOpened { .. }
        | Event::LogVerified { .. }
        | Event::LogFull { .. }
        | Event::LogRoom {}
        | Event::ControlChanged { .. }
        | Event::Done { .. }
        | Event::Vpn { .. }
        | Event::Session { .. }
        | Event::Person { .. }
        | Event::Engineer { .. }
        | Event::File { .. } => true,
    }
}

impl Entry {
    /// The entry of an event.
    #[must_use]
    pub fn new(at: Timestamp, writer: Writer, event: Event) -> Self {
        Entry { v: VERSION, at, writer, event }
    }

    /// The bytes that go into the log.
    ///
    /// # Errors
    /// When the event holds more than an entry may.
    pub fn encode(&self) -> Result<Vec<u8>, EntryError> {
        let bytes = serde_json::to_vec(self)?;
        if bytes.len() > ENTRY_BYTES_MAX {
            return Err(EntryError::TooLong { bytes: bytes.len() });
        }
        Ok(bytes)
    }

    /// Reads the bytes of an entry.
    ///
    /// # Errors
    /// When they are none, or one of another version.
    pub fn decode(bytes: &[u8]) -> Result<Self, EntryError> {
        /// The part of an entry that never changes.
        #[derive(Deserialize)]
        struct Head {
            v: u32,
        }
        if bytes.len() > ENTRY_BYTES_MAX {
            return Err(EntryError::TooLong { bytes: bytes.len() });
        }
        let Head { v: found } = serde_json::from_slice(bytes)?;
        if found != VERSION {
            return Err(EntryError::Version { found });
        }
        Ok(serde_json::from_slice(bytes)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{NAMES_BYTES_MAX, Names, TEXT_MAX};
    use proptest::prelude::*;

    fn entry(event: Event) -> Entry {
        Entry::new("2026-11-22T10:00:00.123456789Z".parse().unwrap(), Writer::Role(Role::Core), event)
    }

    #[test]
    fn an_entry_reads_back_and_says_its_kind() {
        let entry = entry(Event::ApplyRequested {
            by: 0,
            file: "clinic.toml".to_owned(),
            policy: "abc".to_owned(),
            added: ["a"].into_iter().collect(),
            removed: Names::default(),
            narrowed: Names::default(),
            same_rules: false,
        });
        let bytes = entry.encode().unwrap();
        let text = String::from_utf8(bytes.clone()).unwrap();
        assert!(text.starts_with(r#"{"v":1,"at":"2026-11-22T10:00:00.123456789Z","writer":{"role":"core"},"event":{"kind":"apply-requested""#), "{text}");
        assert_eq!(Entry::decode(&bytes).unwrap(), entry);
    }

    #[test]
    fn another_version_and_unknown_fields_are_errors() {
        let newer = br#"{"v":2,"whatever":[]}"#;
        assert!(matches!(Entry::decode(newer), Err(EntryError::Version { found: 2 })));
        let odd =
            br#"{"v":1,"at":"2026-11-22T10:00:00Z","writer":{"admin":0},"event":{"kind":"log-room"},"x":1}"#;
        assert!(matches!(Entry::decode(odd), Err(EntryError::Malformed(_))));
        assert!(matches!(Entry::decode(&vec![b' '; ENTRY_BYTES_MAX + 1]), Err(EntryError::TooLong { .. })));
    }

    #[test]
    fn the_largest_lists_of_the_longest_names_fit() {
        // A quotation mark takes two bytes in JSON: the worst there is.
        for name in ["\"".repeat(TEXT_MAX * 2), "あ".repeat(TEXT_MAX * 2)] {
            let many: Names = std::iter::repeat_n(&name, 10_000).collect();
            assert_eq!(many.count, 10_000);
            assert!(many.first.iter().map(String::len).sum::<usize>() <= NAMES_BYTES_MAX);
            let event = Event::ApplyRequested {
                by: u32::MAX,
                file: crate::event::text(&name),
                policy: crate::event::text(&name),
                added: many.clone(),
                removed: many.clone(),
                narrowed: many,
                same_rules: true,
            };
            assert!(entry(event).encode().is_ok());
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_entry_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Entry::decode(&bytes);
        }
    }
}
