//! What happens at the doors: the VPN, maintenance sessions, the people who open them, the files that cross.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Class;

/// What happens to a VPN peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VpnChange {
    /// Its first handshake after a pause.
    Connected,
    /// No handshake any more.
    Silent,
    /// It may no longer come in.
    Revoked,
}

impl VpnChange {
    /// How much its entry matters when room runs out.
    #[must_use]
    pub const fn class(&self) -> Class {
        match self {
            VpnChange::Connected => Class::Gate,
            VpnChange::Revoked => Class::Critical,
            VpnChange::Silent => Class::Ordinary,
        }
    }
}

/// What happens to a maintenance session, from request to end. Core tells of the session, edge of its connections, and
/// record of those whose end edge cannot tell any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case", deny_unknown_fields)]
pub enum SessionChange {
    /// A vendor asks.
    Requested {
        /// The vendor, as the policy names it.
        vendor: String,
        /// The engineer's name.
        engineer: String,
        /// The engineer's key, as hex.
        key: String,
        /// The target, as the policy writes it.
        target: String,
        /// What for.
        purpose: String,
        /// How long, in seconds.
        duration_s: u32,
        /// SHA-256 of the request as it will be carried out, as hex: what is approved.
        digest: String,
    },
    /// A person of the clinic approved, with a valid factor.
    Approved {
        /// Who.
        person: String,
        /// Digest of the request that the person saw.
        digest: String,
    },
    /// The clinic refused.
    Denied {
        /// Who.
        person: String,
        /// Why.
        why: String,
    },
    /// The path is about to be opened: durable before the kernel is asked.
    Opening {
        /// The vendor.
        vendor: String,
        /// The target.
        target: String,
        /// Address, port and protocol that will be reached.
        opens: String,
        /// Persons who approved.
        approved_by: Vec<String>,
        /// Digest of the request that they saw.
        digest: String,
    },
    /// The path is open.
    Opened {
        /// The vendor.
        vendor: String,
        /// The target.
        target: String,
        /// When the kernel closes it.
        until: Timestamp,
    },
    /// The path is closed, or never opened.
    Closed {
        /// Why, as a word: `expired`, `killed`, `core-restarted`, ..
        why: String,
        /// Who closed it, if a person did.
        by: Option<String>,
    },
    /// A connection to the target is about to carry bytes.
    ConnectionOpened {
        /// Its number within the session.
        connection: u64,
    },
    /// A connection carries no bytes any more.
    ConnectionClosed {
        /// Its number within the session.
        connection: u64,
        /// Bytes from the vendor to the target.
        sent: u64,
        /// Bytes back.
        received: u64,
    },
    /// A connection ended with the edge role that carried it: what it carried is not known.
    ConnectionLost {
        /// Its number within the session.
        connection: u64,
    },
}

impl SessionChange {
    /// How much its entry matters when room runs out.
    #[must_use]
    pub const fn class(&self) -> Class {
        match self {
            SessionChange::Approved { .. }
            | SessionChange::Opening { .. }
            | SessionChange::ConnectionOpened { .. } => Class::Gate,
            SessionChange::Opened { .. }
            | SessionChange::Closed { .. }
            | SessionChange::ConnectionClosed { .. }
            | SessionChange::ConnectionLost { .. } => Class::Critical,
            SessionChange::Requested { .. } | SessionChange::Denied { .. } => Class::Ordinary,
        }
    }
}

/// What happens to a person's second factor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PersonChange {
    /// It was enrolled and confirmed.
    Enrolled,
    /// Too many wrong codes.
    Locked,
    /// A recovery code was used: the factor is a new one.
    Recovered,
    /// It is gone.
    Removed,
}

impl PersonChange {
    /// How much its entry matters when room runs out.
    #[must_use]
    pub const fn class(&self) -> Class {
        match self {
            PersonChange::Enrolled | PersonChange::Recovered => Class::Gate,
            PersonChange::Locked | PersonChange::Removed => Class::Critical,
        }
    }
}

/// What happens to an engineer of a vendor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EngineerChange {
    /// A one-time code was made.
    Invited,
    /// A key of the engineer's own was certified.
    Enrolled,
    /// The key, or the invitation, is no longer accepted.
    Revoked,
}

impl EngineerChange {
    /// How much its entry matters when room runs out.
    #[must_use]
    pub const fn class(&self) -> Class {
        match self {
            EngineerChange::Invited | EngineerChange::Enrolled => Class::Gate,
            EngineerChange::Revoked => Class::Critical,
        }
    }
}

/// What an inspection says that does not let a file pass as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InspectVerdict {
    /// Something in it could act; without that it might pass.
    Disarm,
    /// It must never pass.
    Refuse,
}

impl InspectVerdict {
    /// The word for labels.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            InspectVerdict::Disarm => "disarm",
            InspectVerdict::Refuse => "refuse",
        }
    }
}

/// What happens to a file that crosses. A file has exactly one outcome: refused, quarantined or delivered.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum FileChange {
    /// It is held; nothing of it has reached the clinic.
    Held {
        /// Its size.
        size_bytes: u64,
        /// Whether the sender's attestation was verified.
        attested: bool,
    },
    /// It was inspected and allowed, and is about to be delivered.
    Released {
        /// What its content is, as kinds that the policy names.
        kinds: Vec<String>,
    },
    /// A rule refused it.
    Refused {
        /// Why.
        why: String,
        /// Words of what the inspection found.
        findings: Vec<String>,
        /// What the inspection said, where it was the inspection that refused it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        verdict: Option<InspectVerdict>,
    },
    /// Something is not known about it, so it goes nowhere.
    Quarantined {
        /// What.
        why: String,
    },
    /// It lies in the vendor's drop, read back.
    Delivered {
        /// SHA-256 of what lies there.
        sha256: String,
    },
}

impl FileChange {
    /// The word for labels.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            FileChange::Held { .. } => "held",
            FileChange::Released { .. } => "released",
            FileChange::Refused { .. } => "refused",
            FileChange::Quarantined { .. } => "quarantined",
            FileChange::Delivered { .. } => "delivered",
        }
    }

    /// How much its entry matters when room runs out.
    #[must_use]
    pub const fn class(&self) -> Class {
        match self {
            FileChange::Released { .. } => Class::Gate,
            FileChange::Refused { .. } | FileChange::Quarantined { .. } | FileChange::Delivered { .. } => {
                Class::Critical
            }
            FileChange::Held { .. } => Class::Ordinary,
        }
    }
}
