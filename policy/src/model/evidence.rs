//! What is kept of what happened, and the door by which metrics are read.

use serde::{Deserialize, Serialize};

use super::ZoneId;

const DAY_S: u64 = 86_400;
const GB: u64 = 1_000_000_000;

/// How long the log of decisions and the ledger of connections are kept, and the disk that each may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// How long an entry of the log is kept, in seconds: 365 days to 30 years.
    pub log_retention_s: u64,
    /// Most bytes of the log on disk: 64 MB to 1 TB.
    pub log_budget_bytes: u64,
    /// How long an entry of the ledger is kept, in seconds: 1 day to 10 years.
    pub flows_retention_s: u64,
    /// Most bytes of the ledger on disk: 16 MB to 1 TB.
    pub flows_budget_bytes: u64,
}

/// What holds where the policy says nothing. The periods are Sekisho's own: the guideline's text, as far as it could be
/// read, names none and leaves them to the institution.
impl Default for Evidence {
    fn default() -> Self {
        Self {
            log_retention_s: 5 * 366 * DAY_S,
            log_budget_bytes: 4 * GB,
            flows_retention_s: 90 * DAY_S,
            flows_budget_bytes: GB,
        }
    }
}

/// Where and how metrics are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MetricsDoor {
    /// The zone, of the kind `management`: the door listens on the gateway's addresses in it.
    pub zone: ZoneId,
    /// The TCP port, 1024 to 65535.
    pub port: u16,
    /// How the reader proves who it is.
    pub auth: MetricsAuth,
}

/// How a reader of metrics proves who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MetricsAuth {
    /// By a client certificate (TLS 1.3, RFC 8446).
    MutualTls,
    /// By a bearer token (RFC 6750).
    Token,
}
