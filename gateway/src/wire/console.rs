//! Questions to the console role: how the controls stand, and who may read the metrics.

use jiff::Timestamp;
use policy::guideline::{Assessment, Timeline};
use serde::{Deserialize, Serialize};

/// Longest name of a reader of the metrics, in bytes.
pub const READER_BYTES_MAX: usize = 32;

/// What the console role is asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ConsoleAsk {
    /// How the controls stand.
    Controls {},
    /// Who may read the metrics.
    Readers {},
    /// Make a certificate for a reader; one of the same name ends.
    AddReader {
        /// ASCII name, shown in lists.
        name: String,
    },
    /// A reader's certificate is not accepted any more.
    RemoveReader {
        /// Its name.
        name: String,
    },
    /// Make a token for reading the metrics; the former one ends.
    NewToken {},
}

impl ConsoleAsk {
    /// Whether it changes anything.
    #[must_use]
    pub const fn is_write(&self) -> bool {
        match self {
            ConsoleAsk::Controls {} | ConsoleAsk::Readers {} => false,
            ConsoleAsk::AddReader { .. } | ConsoleAsk::RemoveReader { .. } | ConsoleAsk::NewToken {} => true,
        }
    }
}

/// What the console role answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConsoleAnswer {
    /// How the controls stand.
    Controls(Controls),
    /// Who may read the metrics.
    Readers(Vec<Reader>),
    /// What the reader needs; it is shown once and not kept.
    Bundle(Bundle),
    /// The reader may not read any more.
    Removed {},
    /// The token, shown once; only its hash is kept.
    Token {
        /// To be sent as `Authorization: Bearer TOKEN` (RFC 6750).
        token: String,
        /// Certificate of the authority that signs the door's certificate, PEM.
        authority: String,
    },
}

/// How the controls stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Controls {
    /// When they were last judged.
    pub assessed_at: Timestamp,
    /// Guideline version that the policy names; `None` before there is a policy.
    pub guideline: Option<String>,
    /// Each control, in the catalogue's order.
    pub assessments: Vec<Assessment>,
    /// Since when each stands so, and which entry of the log says so.
    pub timeline: Timeline,
}

/// A reader of the metrics.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reader {
    /// Its name.
    pub name: String,
    /// SHA-256 of its certificate, in hex.
    pub sha256: String,
    /// When its certificate was made.
    pub made_at: Timestamp,
    /// When its certificate ends.
    pub not_after: Timestamp,
}

/// What a reader needs to read the metrics by certificate.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// Certificate of the authority that signs the door's certificate, PEM.
    pub authority: String,
    /// The reader's certificate, PEM.
    pub certificate: String,
    /// The reader's private key, PEM (PKCS #8).
    pub key: String,
    /// When the certificate ends.
    pub not_after: Timestamp,
}

/// The key is not for logs.
impl std::fmt::Debug for Bundle {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Bundle").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}
