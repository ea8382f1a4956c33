//! What an engineer asks for, as core resolved it, and the terms on which the policy lets him ask.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use policy::time::Schedule;
use serde::{Deserialize, Serialize};

use crate::ids::{Digest, KeyId, SessionId};
use crate::machine::Now;
use crate::refusal::RequestError;

/// Longest purpose, in characters.
pub const PURPOSE_CHARS_MAX: usize = 200;
/// Longest name of a vendor, an engineer or a target, in characters.
pub const NAME_CHARS_MAX: usize = 128;
/// Shortest work that is worth an approval.
pub const DURATION_S_MIN: u32 = 60;
/// How far ahead a start may lie.
pub const START_DAYS_MAX: i64 = 30;
/// Most roles that must approve.
pub const ROLES_MAX: usize = 8;
/// An open session in which nothing moves for so long is closed, unless the terms say less.
pub const IDLE_LIMIT: Duration = Duration::from_secs(15 * 60);

/// The two kinds of path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// A stream.
    Tcp,
    /// Datagrams.
    Udp,
}

/// The one thing that a session opens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// As the policy says it, such as `device:ehr-server:ssh`.
    pub name: String,
    /// The device's address.
    pub address: IpAddr,
    /// Stream or datagrams.
    pub protocol: Protocol,
    /// The port.
    pub port: u16,
}

/// A request, as it will be carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The session's name: an approval of one request is none of its twin.
    pub session: SessionId,
    /// The vendor's name in the policy.
    pub vendor: String,
    /// The engineer's key.
    pub engineer: KeyId,
    /// The engineer's name, as the registry has it.
    pub engineer_name: String,
    /// What will open.
    pub target: Target,
    /// What for (目的).
    pub purpose: String,
    /// Not before this instant; `None` means as soon as it is approved.
    pub start: Option<Timestamp>,
    /// Length of the work, from its opening.
    pub duration_s: u32,
}

/// On which terms the policy in force lets the vendor ask.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Roles that must all approve, each by another person; never empty.
    pub approvals: BTreeSet<String>,
    /// Longest work.
    pub max_duration_s: u64,
    /// Windows in which work may happen; `None` means at any hour.
    pub windows: Option<Schedule>,
    /// The zone in which the windows are meant.
    pub timezone: TimeZone,
    /// The first instant at which the contract no longer holds.
    pub contract_end: Option<Timestamp>,
    /// An open session in which nothing moves for so long is closed.
    pub idle_limit: Duration,
}

/// Everything that will be carried out, in the order of its keys.
#[derive(Serialize)]
struct Canonical<'a> {
    address: IpAddr,
    duration_s: u32,
    engineer: &'a KeyId,
    engineer_name: &'a str,
    format: &'a str,
    port: u16,
    protocol: Protocol,
    purpose: &'a str,
    session: &'a SessionId,
    start: Option<Timestamp>,
    target: &'a str,
    vendor: &'a str,
}

impl Request {
    /// The text whose hash is the digest: JSON without spaces, keys sorted.
    ///
    /// # Errors
    /// Never for a request whose start JSON can say; the serializer's word is passed on rather than hidden.
    pub fn canonical(&self) -> Result<String, RequestError> {
        let Request { session, vendor, engineer, engineer_name, target, purpose, start, duration_s } = self;
        let Target { name, address, protocol, port } = target;
        let canonical = Canonical {
            address: *address,
            duration_s: *duration_s,
            engineer,
            engineer_name,
            format: "sekisho-session-1",
            port: *port,
            protocol: *protocol,
            purpose,
            session,
            start: *start,
            target: name,
            vendor,
        };
        serde_json::to_string(&canonical).map_err(|error| RequestError::Unsayable(error.to_string()))
    }

    /// SHA-256 of [`Request::canonical`]: what approvers are shown and what they approve.
    ///
    /// # Errors
    /// As [`Request::canonical`].
    pub fn digest(&self) -> Result<Digest, RequestError> {
        self.canonical().map(|text| Digest::of(text.as_bytes()))
    }

    /// Whether the terms let this be asked at all.
    pub(crate) fn check(&self, terms: &Terms, now: Now) -> Result<(), RequestError> {
        if !now.trusted {
            return Err(RequestError::TimeUntrusted);
        }
        self.check_words()?;
        if terms.approvals.is_empty() || terms.approvals.len() > ROLES_MAX {
            return Err(RequestError::NobodyApproves { vendor: self.vendor.clone() });
        }
        if self.duration_s < DURATION_S_MIN {
            return Err(RequestError::TooShort { min_s: DURATION_S_MIN });
        }
        if u64::from(self.duration_s) > terms.max_duration_s {
            return Err(RequestError::TooLong { max_s: terms.max_duration_s });
        }
        if self.target.port == 0 {
            return Err(RequestError::NoPort { target: self.target.name.clone() });
        }
        self.check_times(terms, now)
    }

    fn check_words(&self) -> Result<(), RequestError> {
        let purpose = self.purpose.trim();
        if purpose.is_empty() {
            return Err(RequestError::NoPurpose);
        }
        let names = [&self.vendor, &self.engineer_name, &self.target.name];
        let bounded = self.purpose.chars().count() <= PURPOSE_CHARS_MAX
            && names.iter().all(|name| name.chars().count() <= NAME_CHARS_MAX);
        let plain = names.iter().chain([&&self.purpose]).all(|text| text.chars().all(is_plain));
        match (bounded, plain) {
            (true, true) => Ok(()),
            (false, _) => Err(RequestError::TooWordy { max_chars: PURPOSE_CHARS_MAX }),
            (true, false) => Err(RequestError::Unprintable),
        }
    }

    fn check_times(&self, terms: &Terms, now: Now) -> Result<(), RequestError> {
        let earliest = self.start.map_or(now.wall, |start| start.max(now.wall));
        let ahead = earliest.duration_since(now.wall);
        if ahead > SignedDuration::from_hours(24 * START_DAYS_MAX) {
            return Err(RequestError::TooFarAhead { days: START_DAYS_MAX });
        }
        let opens = terms.opens(earliest).ok_or(RequestError::NoWindow)?;
        match terms.contract_end {
            Some(end) if now.wall >= end => Err(RequestError::ContractOver { vendor: self.vendor.clone() }),
            Some(end) if opens >= end => Err(RequestError::ContractOver { vendor: self.vendor.clone() }),
            Some(_) | None => Ok(()),
        }
    }
}

impl Terms {
    /// The first instant not before `earliest` inside a window.
    #[must_use]
    pub fn opens(&self, earliest: Timestamp) -> Option<Timestamp> {
        match &self.windows {
            None => Some(earliest),
            Some(windows) => windows.next_open(&self.timezone, earliest),
        }
    }

    /// When work that begins now must end at the latest; `None` when it may not begin now.
    pub(crate) fn ends(&self, wall: Timestamp) -> Option<Timestamp> {
        let window = match &self.windows {
            None => Timestamp::MAX,
            Some(windows) => windows.open_until(&self.timezone, wall)?,
        };
        let end = self.contract_end.map_or(window, |end| end.min(window));
        (end > wall).then_some(end)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        })
    }
}

/// No control characters, and none that turns the direction of a line or hides in it: an approver reads these words.
#[must_use]
pub fn is_plain(c: char) -> bool {
    let hidden = matches!(
        c,
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{061c}'
            | '\u{e0000}'..='\u{e007f}'
    );
    !c.is_control() && !hidden
}

#[cfg(test)]
mod tests;
