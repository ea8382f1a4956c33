//! What admins ask core about the doors: persons and their second factors, sessions, engineers of vendors.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::doors::{Engineer, Invitation, KeyId, SessionId, SessionState, Standing, Text};

/// A code as typed: never shown in logs.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Code(String);

impl Code {
    /// What was typed, without the blanks that people put between groups.
    #[must_use]
    pub fn new(typed: &str) -> Self {
        Code(typed.chars().filter(|c| !c.is_whitespace()).take(64).collect())
    }

    /// The code.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Code(..)")
    }
}

/// A person and a code of that person's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    /// Key of the person in the policy.
    pub person: String,
    /// The code.
    pub code: Code,
}

/// Who says no, as far as is said. Closing needs no code: one that is given and right makes the name a proved one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// Key of the person in the policy, or the name.
    pub person: Text,
    /// A code of that person's.
    pub code: Option<Code>,
}

/// Questions and orders about persons.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum PersonsAsk {
    /// Every person of the policy, and whether a factor is enrolled.
    List {},
    /// Make a new factor, which counts once it is confirmed. Answered by [`PersonsAnswer::Offer`].
    Enrol {
        /// Whose.
        person: String,
        /// An enrolled admin; the very first enrolment takes none, and needs root.
        by: Option<Proof>,
    },
    /// The person reads this code off the new factor. Answered by [`PersonsAnswer::Enrolled`].
    Confirm {
        /// Whose.
        person: String,
        /// The code.
        code: Code,
    },
    /// Take a factor away.
    Remove {
        /// Whose.
        person: String,
        /// An enrolled admin.
        by: Proof,
    },
    /// Make a new factor in place of a lost one, by a recovery code. Answered by [`PersonsAnswer::Offer`].
    Recover {
        /// Whose.
        person: String,
        /// One of the recovery codes; it is used up.
        code: Code,
    },
}

impl PersonsAsk {
    /// Whether it changes anything.
    #[must_use]
    pub const fn is_write(&self) -> bool {
        match self {
            PersonsAsk::List {} => false,
            PersonsAsk::Enrol { .. }
            | PersonsAsk::Confirm { .. }
            | PersonsAsk::Remove { .. }
            | PersonsAsk::Recover { .. } => true,
        }
    }
}

/// What core answers about persons.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PersonsAnswer {
    /// The persons.
    Persons(Vec<PersonRow>),
    /// The new factor.
    Offer {
        /// The `otpauth://` URI for an authenticator.
        uri: String,
        /// The secret alone, base32, for typing in.
        secret: String,
    },
    /// The factor counts.
    Enrolled {
        /// Codes for when the authenticator is lost, shown once.
        recovery_codes: Vec<String>,
    },
    /// The factor is gone.
    Removed {},
}

/// A person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PersonRow {
    /// Key in the policy.
    pub person: String,
    /// Name shown.
    pub name: String,
    /// Roles.
    pub roles: Vec<String>,
    /// Whether the policy has the person and the person may still act.
    pub is_living: bool,
    /// When the factor was enrolled, if one is.
    pub enrolled_at: Option<Timestamp>,
    /// Until when no code is taken, if too many were wrong.
    pub locked_until: Option<Timestamp>,
    /// Recovery codes that are left.
    pub recovery_codes_left: u32,
}

/// Questions and orders about sessions.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum SessionsAsk {
    /// Every session that core knows of, the oldest first.
    List {},
    /// One.
    Show {
        /// Which.
        session: SessionId,
    },
    /// A person approves what the digest stands for.
    Approve {
        /// Which.
        session: SessionId,
        /// The digest that the person saw.
        digest: String,
        /// The person, with a code.
        proof: Proof,
    },
    /// The clinic refuses. Closing needs no code.
    Deny {
        /// Which.
        session: SessionId,
        /// Why.
        why: Text,
        /// Who says so; else the account that asks is named.
        by: Option<Claim>,
    },
    /// The clinic ends it, now. Closing needs no code.
    Kill {
        /// Which.
        session: SessionId,
        /// Who says so; else the account that asks is named.
        by: Option<Claim>,
    },
}

impl SessionsAsk {
    /// Whether it changes anything.
    #[must_use]
    pub const fn is_write(&self) -> bool {
        match self {
            SessionsAsk::List {} | SessionsAsk::Show { .. } => false,
            SessionsAsk::Approve { .. } | SessionsAsk::Deny { .. } | SessionsAsk::Kill { .. } => true,
        }
    }
}

/// What core answers about sessions.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SessionsAnswer {
    /// The sessions.
    Sessions(Vec<SessionRow>),
    /// One, as it stands after what was asked.
    Session(Box<SessionRow>),
}

/// A session as the clinic sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionRow {
    /// How it stands.
    pub standing: Standing,
    /// The vendor.
    pub vendor: String,
    /// Name of the engineer.
    pub engineer: String,
    /// The engineer's key.
    pub key: KeyId,
    /// The target as the policy writes it.
    pub target: String,
    /// What will be opened: address, transport and port.
    pub opens: Vec<String>,
    /// What for, in the engineer's words.
    pub purpose: String,
    /// How long, in seconds.
    pub duration_s: u32,
    /// When it was asked for.
    pub requested_at: Timestamp,
    /// SHA-256 of the request as it will be carried out, as hex.
    pub digest: String,
    /// Persons who approved.
    pub approved_by: Vec<String>,
}

impl SessionRow {
    /// Whether somebody of the clinic has to act.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.standing.state == SessionState::Requested
    }
}

/// Questions and orders about vendors.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum VendorsAsk {
    /// Engineers and invitations.
    List {},
    /// The clinic's maintenance authority. Answered by [`VendorsAnswer::Authority`].
    Authority {},
    /// A one-time code for an engineer. Answered by [`VendorsAnswer::Invited`].
    Invite {
        /// The vendor, as the policy names it.
        vendor: String,
        /// Name of the engineer.
        engineer: Text,
    },
    /// A key or an invitation is no longer accepted; its sessions end.
    Revoke {
        /// Which.
        key: KeyId,
    },
}

impl VendorsAsk {
    /// Whether it changes anything.
    #[must_use]
    pub const fn is_write(&self) -> bool {
        match self {
            VendorsAsk::List {} | VendorsAsk::Authority {} => false,
            VendorsAsk::Invite { .. } | VendorsAsk::Revoke { .. } => true,
        }
    }
}

/// What core answers about vendors.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VendorsAnswer {
    /// Engineers and invitations.
    Engineers {
        /// With a certificate.
        enrolled: Vec<Engineer>,
        /// With a code that was not used yet.
        invitations: Vec<Invitation>,
    },
    /// Its certificate, by which engineers know the gateway.
    Authority {
        /// PEM.
        certificate: String,
    },
    /// The code, shown once and kept nowhere.
    Invited {
        /// `SKV1-..`.
        code: String,
        /// The one-time key.
        key: KeyId,
        /// When the code ends.
        until: Timestamp,
    },
    /// It is no longer accepted.
    Revoked {},
}
