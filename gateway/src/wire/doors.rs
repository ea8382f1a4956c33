//! Core and edge at `doors.sock`: frames as in [`super::frame`], one question at a time on a connection that stays.
//! What edge passes on of a stranger are small closed types: ids, keys of bounded size, text without control characters.

use std::fmt;
use std::net::SocketAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use zeroize::Zeroizing;

use super::Fault;
use super::edge::VpnPeerRow;

pub use session::{KeyId, SessionId};

/// The version of this language.
pub const VERSION: u32 = 1;
/// Longest question in bytes.
pub const ASK_BYTES_MAX: usize = 16 << 10;
/// Longest answer in bytes.
pub const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Longest text of a stranger in characters.
pub const TEXT_MAX: usize = 200;
/// Longest public key (SubjectPublicKeyInfo, DER) in bytes: P-256 takes 91, Ed25519 44.
pub const KEY_BYTES_MAX: usize = 128;
/// How long [`DoorsAsk::Follow`] waits for news, in seconds.
pub const FOLLOW_WAIT_S: u64 = 5;
/// Sessions of the clinic that are not over, at once.
pub const SESSIONS_MAX: usize = 64;
/// Lasting connections of edge, each of which follows a session: with a few for those that have just ended.
pub const LINES_MAX: usize = SESSIONS_MAX + 8;
/// Connections of edge for a single question.
pub const QUESTIONS_MAX: usize = 16;
/// Connections that core serves: twice what edge has, because one of an edge that died is noticed only when its question
/// is answered ([`FOLLOW_WAIT_S`]).
pub const CONNECTIONS_MAX: usize = 2 * (LINES_MAX + QUESTIONS_MAX);
/// The name in the certificate of edge's TLS key.
pub const SERVER_NAME: &str = "sekisho-gateway";

/// Why something may not travel.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum WordError {
    /// A text that is too long or holds control characters.
    #[error("a text of at most {TEXT_MAX} characters without control characters is needed")]
    Text,
    /// A key that is too long.
    #[error("a public key of at most {KEY_BYTES_MAX} bytes is needed")]
    Key,
}

/// Text that a stranger wrote: bounded, trimmed, not empty, without control characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Text(String);

/// A public key as SubjectPublicKeyInfo (RFC 5280), DER: bounded here, understood by core only as far as its algorithm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<u8>", into = "Vec<u8>")]
pub struct PublicKey(Vec<u8>);

impl Text {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Text {
    type Error = WordError;

    fn try_from(text: String) -> Result<Self, WordError> {
        let trimmed = text.trim();
        let is_fine = !trimmed.is_empty()
            && trimmed.chars().count() <= TEXT_MAX
            && trimmed.chars().all(session::request::is_plain);
        if is_fine { Ok(Text(trimmed.to_owned())) } else { Err(WordError::Text) }
    }
}

impl PublicKey {
    /// The bytes.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.0
    }
}

impl TryFrom<Vec<u8>> for PublicKey {
    type Error = WordError;

    fn try_from(der: Vec<u8>) -> Result<Self, WordError> {
        if der.len() <= KEY_BYTES_MAX { Ok(PublicKey(der)) } else { Err(WordError::Key) }
    }
}

impl From<Text> for String {
    fn from(text: Text) -> String {
        text.0
    }
}

impl From<PublicKey> for Vec<u8> {
    fn from(key: PublicKey) -> Vec<u8> {
        key.0
    }
}

impl fmt::Display for Text {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// What edge sends.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DoorsRequest {
    /// [`VERSION`].
    pub version: u32,
    /// The question.
    pub ask: DoorsAsk,
}

/// What edge asks.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum DoorsAsk {
    /// An engineer asks for a session. Answered by [`DoorsAnswer::Requested`] or [`DoorsAnswer::Refused`].
    Request {
        /// Whose certificate finished the handshake.
        engineer: KeyId,
        /// What a vendor's own authority says of that key, where it is not on core's list.
        vouched: Option<Vouched>,
        /// The target as the policy writes it, such as `device:ehr-server:ssh`.
        target: Text,
        /// What for.
        purpose: Text,
        /// How long, in seconds.
        duration_s: u32,
    },
    /// How a session stands; answered when its revision is above `seen`, or after [`FOLLOW_WAIT_S`]. While the engineer's
    /// line is there edge asks this again and again: a session that nobody follows is taken as left by its engineer.
    Follow {
        /// Which.
        session: SessionId,
        /// The revision last heard of.
        seen: u32,
    },
    /// A socket towards the session's target; answered by [`DoorsAnswer::Socket`] with one descriptor.
    Connect {
        /// Which.
        session: SessionId,
    },
    /// Bytes moved since edge last said so; answered by [`DoorsAnswer::Standing`]. Without it a session ends as idle.
    Moved {
        /// Which.
        session: SessionId,
    },
    /// The session is over.
    End {
        /// Which.
        session: SessionId,
        /// Why.
        why: EndReason,
    },
    /// An invited engineer wants a certificate for a key of his own.
    Enrol {
        /// The one-time key that finished the handshake.
        invitation: KeyId,
        /// His own public key, Ed25519 or P-256.
        key: PublicKey,
    },
    /// A certificate for edge's own TLS key, for [`SERVER_NAME`].
    Certify {
        /// The public key, Ed25519 or P-256.
        key: PublicKey,
    },
    /// Who may finish a handshake.
    Engineers {},
    /// How the kernel's WireGuard stands, where the settings say that it carries the VPN. Answered by
    /// [`DoorsAnswer::Tunnel`]; where its key is another than edge's, edge asks again with its own.
    Tunnel {
        /// The gateway's private key, for the kernel alone: core keeps it nowhere else.
        key: Option<TunnelKey>,
    },
}

/// The gateway's WireGuard key on its way; never printed, wiped when dropped.
#[derive(Clone, Serialize, Deserialize)]
#[serde(from = "[u8; 32]", into = "[u8; 32]")]
pub struct TunnelKey(Zeroizing<[u8; 32]>);

impl TunnelKey {
    /// Gives the bytes of the key.
    #[must_use]
    pub fn expose_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for TunnelKey {
    fn from(bytes: [u8; 32]) -> Self {
        TunnelKey(Zeroizing::new(bytes))
    }
}

impl From<TunnelKey> for [u8; 32] {
    fn from(key: TunnelKey) -> [u8; 32] {
        *key.0
    }
}

impl fmt::Debug for TunnelKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("TunnelKey(..)")
    }
}

/// The kernel's WireGuard as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TunnelStanding {
    /// The public half of the key that it has, base64; `None` until edge offered one.
    pub public_key: Option<String>,
    /// Its peers, in the policy's order; none while it does not run.
    pub peers: Vec<VpnPeerRow>,
}

/// What a certificate of a vendor's own authority says, which edge has verified. Core holds it against the policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vouched {
    /// The vendor.
    pub vendor: Text,
    /// The authority's key.
    pub authority: KeyId,
    /// Whom the certificate names.
    pub name: Text,
    /// When the certificate ends.
    pub not_after: Timestamp,
}

/// Why edge says that a session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndReason {
    /// The engineer is done.
    Finished,
    /// The engineer is gone.
    Disconnected,
    /// Nothing was sent for too long.
    Idle,
    /// The record role does not take what happens.
    RecorderFailed,
    /// The record role has no room for what happens.
    DiskFull,
}

/// What core answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum DoorsAnswer {
    /// The request waits for approval.
    Requested {
        /// Its id from now on.
        session: SessionId,
        /// SHA-256 of the request as it will be carried out, as hex.
        digest: String,
    },
    /// It cannot be, and why, in words for the engineer.
    Refused(Refusal),
    /// How a session stands.
    Standing(Standing),
    /// One descriptor comes with this answer (SCM_RIGHTS): a socket, non-blocking, not yet connected. To any other address
    /// than this one the kernel lets nothing out.
    Socket {
        /// Where to connect.
        address: SocketAddr,
        /// What kind of socket it is.
        transport: Transport,
    },
    /// The session is over.
    Ended {},
    /// A certificate, then the authority's.
    Certificate {
        /// PEM.
        chain_pem: String,
    },
    /// Who may finish a handshake.
    Engineers(Engineers),
    /// The kernel's WireGuard.
    Tunnel(TunnelStanding),
    /// It did not work.
    Failed(Fault),
}

/// Transports of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// A stream.
    Tcp,
    /// Datagrams.
    Udp,
}

/// Why something cannot be: a word for programs, a sentence for people in both languages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refusal {
    /// Stable word, such as `no-such-target`.
    pub word: String,
    /// In English.
    pub en: String,
    /// In Japanese.
    pub ja: String,
}

/// How a session stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Standing {
    /// Which.
    pub session: SessionId,
    /// Grows with every change.
    pub revision: u32,
    /// The state.
    pub state: SessionState,
    /// When it opens, if it waits for its window; when it closes, if it is open.
    pub at: Option<Timestamp>,
    /// Roles whose approval is missing.
    pub missing: Vec<String>,
    /// Why it is over, as a word, and who ended it.
    pub why: Option<String>,
}

/// States of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SessionState {
    /// Waits for approvals.
    Requested,
    /// Approved; waits for its window, its record or the kernel.
    Approved,
    /// Connections may be made.
    Open,
    /// Refused by the clinic.
    Denied,
    /// Over.
    Closed,
}

impl SessionState {
    /// Whether nothing can follow.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, SessionState::Denied | SessionState::Closed)
    }
}

/// Who may finish a handshake.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Engineers {
    /// The maintenance authority's certificate, PEM; vendors' own authorities are in edge's settings.
    pub authority_pem: String,
    /// Engineers with a certificate of ours or a pinned key.
    pub enrolled: Vec<Engineer>,
    /// One-time keys that may enrol, and nothing else.
    pub invitations: Vec<Invitation>,
    /// Keys that stay out although a vendor's own authority vouches for them.
    pub barred: Vec<KeyId>,
}

/// An engineer of a vendor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Engineer {
    /// The key.
    pub key: KeyId,
    /// The vendor.
    pub vendor: String,
    /// Name.
    pub name: String,
    /// When the certificate ends.
    pub not_after: Timestamp,
}

/// An invitation that was not used yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Invitation {
    /// The one-time key.
    pub key: KeyId,
    /// The vendor.
    pub vendor: String,
    /// Name of the engineer.
    pub name: String,
    /// When it ends.
    pub until: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tunnels_key_travels_whole_and_is_never_printed() {
        let ask = DoorsAsk::Tunnel { key: Some(TunnelKey::from([7; 32])) };
        assert!(format!("{ask:?}").contains("TunnelKey(..)"), "{ask:?}");
        let text = serde_json::to_string(&DoorsRequest { version: VERSION, ask }).unwrap();
        let read: DoorsRequest = serde_json::from_str(&text).unwrap();
        assert!(matches!(read.ask, DoorsAsk::Tunnel { key: Some(key) } if *key.expose_bytes() == [7; 32]));
        assert!(serde_json::from_str::<DoorsRequest>(&text.replacen("7,", "", 1)).is_err(), "a short key");
    }

    #[test]
    fn words_that_are_none_are_refused_at_the_door() {
        let ask = |text: &str| serde_json::from_str::<DoorsRequest>(text);
        let id = "a".repeat(64);
        let good = format!(
            r#"{{"version":1,"ask":{{"request":{{"engineer":"{id}","target":"device:a:ssh","purpose":"更新","duration_s":60}}}}}}"#
        );
        assert!(ask(&good).is_ok());
        for (from, to) in [
            (id.as_str(), "A"),
            ("更新", "a\\u0007b"),
            ("更新", "a\\u202eb"),
            ("更新", "a\\u2028b"),
            ("更新", "   "),
            ("60", "-1"),
            ("\"version\"", "\"more\":1,\"version\""),
        ] {
            assert!(ask(&good.replace(from, to)).is_err(), "{from} -> {to}");
        }
        let long = "x".repeat(TEXT_MAX + 1);
        assert!(ask(&good.replace("更新", &long)).is_err());
        assert!(PublicKey::try_from(vec![0; KEY_BYTES_MAX + 1]).is_err());
    }
}
