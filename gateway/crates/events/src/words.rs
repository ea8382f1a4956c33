//! The closed vocabularies that events are made of.

use serde::{Deserialize, Serialize};

mod doors;

pub use doors::{EngineerChange, FileChange, InspectVerdict, PersonChange, SessionChange, VpnChange};

/// Processes that the gateway is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Decides and carries out.
    Core,
    /// Reads what the kernel tells of connections and denials.
    Watch,
    /// Owns the transparency log.
    Record,
    /// Assesses controls and serves metrics.
    Console,
    /// Speaks with those outside: the VPN's data path, the vendors' transports.
    Edge,
    /// Holds files that cross, until they are inspected and delivered or refused.
    Files,
}

impl Role {
    /// Every role that serves.
    pub const ALL: [Role; 6] =
        [Role::Core, Role::Watch, Role::Record, Role::Console, Role::Edge, Role::Files];

    /// Whether it serves whatever the policy says; the others are there only where a door is open.
    #[must_use]
    pub const fn is_always_there(self) -> bool {
        match self {
            Role::Core | Role::Watch | Role::Record | Role::Console => true,
            Role::Edge | Role::Files => false,
        }
    }

    /// The word for labels and units.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Role::Core => "core",
            Role::Watch => "watch",
            Role::Record => "record",
            Role::Console => "console",
            Role::Edge => "edge",
            Role::Files => "files",
        }
    }
}

/// Who an event may come from; the recorder holds each process to its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// A role, about what it does.
    Role(Role),
    /// Any role, about itself.
    AnyRole,
    /// A person with the right to administer, by the command line.
    Admin,
}

/// How much an entry matters when room runs out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// Something that must not happen unrecorded: refused when it cannot be recorded.
    Gate,
    /// Told after the fact; a loss is counted.
    Ordinary,
    /// An alarm, or something that closes: recorded out of the reserve.
    Critical,
}

/// How an apply ended that did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Failure {
    /// Nothing changed.
    Unchanged,
    /// The last applied policy was put back.
    RolledBack,
    /// Nothing passes.
    Closed,
}

/// What watch is told by the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Feed {
    /// Copies of denied packets (NFLOG).
    Denials,
    /// Connections' ends (conntrack).
    Connections,
}

impl Feed {
    /// The word for labels.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Feed::Denials => "denials",
            Feed::Connections => "connections",
        }
    }
}

/// Traffic that no registered device should send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Suspicion {
    /// A DHCP server that is not the gateway's.
    DhcpServer,
    /// A router that is not the gateway.
    Router,
    /// Remote control that no vendor declared (RDP, VNC and their like).
    RemoteControl,
    /// A medical or login protocol in clear text towards the outside.
    ClearText,
    /// A source address that does not belong where it came from.
    Spoofed,
}

impl Suspicion {
    /// The word for labels.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Suspicion::DhcpServer => "dhcp_server",
            Suspicion::Router => "router",
            Suspicion::RemoteControl => "remote_control",
            Suspicion::ClearText => "clear_text",
            Suspicion::Spoofed => "spoofed",
        }
    }
}

/// What somebody with the right did that no decision of core tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "deed", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Deed {
    /// A sealed backup was written.
    Backup {
        /// SHA-256 of the sealed file, in hex.
        sha256: String,
        /// Its size in bytes.
        bytes: u64,
        /// The policy in it.
        policy: String,
    },
    /// A backup was opened and checked, without being put in place.
    RestoreCheck {
        /// SHA-256 of the sealed file, in hex.
        sha256: String,
    },
    /// A backup was put in place.
    Restore {
        /// SHA-256 of the sealed file, in hex.
        sha256: String,
    },
    /// A named person read the log up to an entry.
    LogReview {
        /// Who.
        person: String,
        /// Entries up to this number, not included.
        until: u64,
        /// What the person noted.
        note: String,
    },
    /// The log was exported.
    LogExport {
        /// Entries in it.
        entries: u64,
    },
    /// A report was made.
    Report {
        /// SHA-256 of the file, in hex.
        sha256: String,
        /// `ja` or `en`.
        language: String,
        /// The policy it speaks of.
        policy: String,
    },
    /// A reader of the metrics gets a certificate; what one of the same name had ends.
    ReaderAdded {
        /// Its name.
        reader: String,
        /// SHA-256 of its certificate, in hex.
        sha256: String,
    },
    /// A reader of the metrics may not read any more.
    ReaderRemoved {
        /// Its name.
        reader: String,
    },
    /// A token for reading the metrics was made; the former one ends.
    TokenMade {},
}

impl Deed {
    /// Who may say that it was done: the console gives keys away, and says who asked; the rest is said by the person.
    #[must_use]
    pub const fn origin(&self) -> Origin {
        match self {
            Deed::ReaderAdded { .. } | Deed::ReaderRemoved { .. } | Deed::TokenMade {} => {
                Origin::Role(Role::Console)
            }
            Deed::Backup { .. }
            | Deed::RestoreCheck { .. }
            | Deed::Restore { .. }
            | Deed::LogReview { .. }
            | Deed::LogExport { .. }
            | Deed::Report { .. } => Origin::Admin,
        }
    }

    /// How much its entry matters when room runs out.
    #[must_use]
    pub const fn class(&self) -> Class {
        match self {
            Deed::ReaderAdded { .. } | Deed::TokenMade {} => Class::Gate,
            Deed::ReaderRemoved { .. } => Class::Critical,
            Deed::Backup { .. }
            | Deed::RestoreCheck { .. }
            | Deed::Restore { .. }
            | Deed::LogReview { .. }
            | Deed::LogExport { .. }
            | Deed::Report { .. } => Class::Ordinary,
        }
    }

    /// The word for labels.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Deed::Backup { .. } => "backup",
            Deed::RestoreCheck { .. } => "restore_check",
            Deed::Restore { .. } => "restore",
            Deed::LogReview { .. } => "log_review",
            Deed::LogExport { .. } => "log_export",
            Deed::Report { .. } => "report",
            Deed::ReaderAdded { .. } => "reader_added",
            Deed::ReaderRemoved { .. } => "reader_removed",
            Deed::TokenMade {} => "token_made",
        }
    }
}

/// Why a scrape of the metrics was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScrapeRefusal {
    /// The TLS handshake failed: no certificate, a stranger's, an old version, garbage.
    Handshake,
    /// The token is missing or wrong.
    Token,
    /// The request is not one for metrics.
    Request,
    /// Too many at once, or too slow.
    Busy,
}

impl ScrapeRefusal {
    /// The word for labels.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            ScrapeRefusal::Handshake => "handshake",
            ScrapeRefusal::Token => "token",
            ScrapeRefusal::Request => "request",
            ScrapeRefusal::Busy => "busy",
        }
    }
}
