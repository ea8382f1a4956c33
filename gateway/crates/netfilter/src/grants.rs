//! Grants: what a socket of the gateway's own, by its mark, may reach until an end that the kernel keeps. Pure.
//!
//! A grant is an element with a timeout in one of two sets; the rules that ask them are in [`policy::compile`]. See
//! [`crate::Netfilter::add_grants`].

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use policy::ruleset::{self as neutral, GRANT_BIT, GRANTS_IP4, GRANTS_IP6, Key, KeyType, Mark, Value};

use crate::apply::ApplyError;
use crate::lower::{self, LowerError};
use crate::object::{Element, FoundElement};

/// The shortest life of a grant: above the kernel's tick.
pub const LIFE_MIN: Duration = Duration::from_millis(20);
/// The longest life of a grant.
pub const LIFE_MAX: Duration = Duration::from_secs(24 * 3600);
/// The most grants that are open at once.
pub const OPEN_MAX: usize = 1_024;

/// The sets of grants.
pub(crate) const SETS: [&str; 2] = [GRANTS_IP4, GRANTS_IP6];
/// How much less than what was asked for the kernel may give: its coarsest tick, in which it keeps time.
const TICK_MAX_MS: u64 = 10;

/// IP protocol numbers.
const TCP: u8 = 6;
const UDP: u8 = 17;
/// Bytes of a key's fields: each begins at a multiple of four.
const MARK_BYTES: usize = 4;
const WORD_BYTES: usize = 4;

/// What one grant opens: packets of sockets with this mark, to exactly this address, protocol and port, and back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Grant {
    /// The socket's mark, from [`policy::ledger::FIRST_GRANT_MARK`] up.
    pub mark: Mark,
    /// The target's address.
    pub address: IpAddr,
    /// The target's protocol.
    pub protocol: GrantProtocol,
    /// The target's port.
    pub port: u16,
}

/// Protocols that a grant can open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GrantProtocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// Grants, each with what is left of its life.
pub type GrantSet = BTreeMap<Grant, Duration>;

/// Why a grant is not open, or not ended. After [`GrantError::NotAGrant`] and [`GrantError::Life`] nothing was tried;
/// after any other error of an addition none of the grants asked for is open, as far as the kernel could be asked.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    /// The mark is a flow's, or address or port are nobody's.
    #[error("`{grant}` is not a grant: it needs a mark from {GRANT_BIT:#x} up, a single host and a port")]
    NotAGrant {
        /// What was asked for.
        grant: Grant,
    },
    /// The life is too short or too long.
    #[error("a grant lasts {} ms to {} s, not {} ms", LIFE_MIN.as_millis(), LIFE_MAX.as_secs(), .life.as_millis())]
    Life {
        /// What was asked for.
        life: Duration,
    },
    /// Too many at once.
    #[error("{OPEN_MAX} grants are open already: end sessions that are no longer needed")]
    TooMany,
    /// The kernel could not be changed or read.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// What the kernel holds is not what was sent.
    #[error("the kernel holds `{grant}` {found}, not {} ms: it was taken back", .wanted.as_millis())]
    NotEqual {
        /// The grant.
        grant: Grant,
        /// Its life as asked for.
        wanted: Duration,
        /// What was read back.
        found: String,
    },
}

impl fmt::Display for GrantProtocol {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mark, address, protocol, port } = self;
        write!(out, "{mark} to {} {protocol}", SocketAddr::new(*address, *port))
    }
}

/// Refuses what is no grant, or has no life to speak of.
pub(crate) fn check(grant: &Grant, life: Duration) -> Result<(), GrantError> {
    if grant.mark.0 & GRANT_BIT == 0 || grant.port == 0 || !is_single_host(grant.address) {
        return Err(GrantError::NotAGrant { grant: *grant });
    }
    if !(LIFE_MIN..=LIFE_MAX).contains(&life) {
        return Err(GrantError::Life { life });
    }
    Ok(())
}

fn is_single_host(address: IpAddr) -> bool {
    let is_mapped = matches!(address, IpAddr::V6(six) if six.to_ipv4_mapped().is_some());
    let is_broadcast = matches!(address, IpAddr::V4(four) if four.is_broadcast());
    let is_none = address.is_unspecified() || address.is_multicast() || address.is_loopback();
    !(is_mapped || is_broadcast || is_none)
}

/// The set that a grant is in.
pub(crate) fn set_of(grant: &Grant) -> &'static str {
    match grant.address {
        IpAddr::V4(_) => GRANTS_IP4,
        IpAddr::V6(_) => GRANTS_IP6,
    }
}

/// A set as every rule set holds it.
pub(crate) fn set(name: &str) -> neutral::Set {
    let address = if name == GRANTS_IP4 { KeyType::Ip4 } else { KeyType::Ip6 };
    let key = vec![KeyType::Mark, address, KeyType::Protocol, KeyType::Port];
    neutral::Set { timeout: true, ..neutral::Set::new(key) }
}

/// The elements of one set. Grants without life are left out: zero is "for ever" to the kernel.
pub(crate) fn elements(name: &str, grants: &GrantSet) -> Result<Vec<Element>, LowerError> {
    let set = set(name);
    let own = grants.iter().filter(|(grant, life)| set_of(grant) == name && life.as_millis() > 0);
    own.map(|(grant, life)| element(name, &set, grant, *life)).collect()
}

fn element(name: &str, set: &neutral::Set, grant: &Grant, life: Duration) -> Result<Element, LowerError> {
    let protocol = match grant.protocol {
        GrantProtocol::Tcp => TCP,
        GrantProtocol::Udp => UDP,
    };
    let address = match grant.address {
        IpAddr::V4(address) => Value::Ip4(address),
        IpAddr::V6(address) => Value::Ip6(address),
    };
    let key = [Value::Mark(grant.mark), address, Value::Protocol(protocol), Value::Port(grant.port)];
    let element = lower::element(name, set, &Key::exact(key), &neutral::Data::None)?;
    let timeout_ms = u64::try_from(life.min(LIFE_MAX).as_millis()).unwrap_or(1);
    Ok(Element { timeout_ms: Some(timeout_ms), ..element })
}

/// A grant with what is left of its life, as the kernel reports it; none for what is no grant.
pub(crate) fn found(found: &FoundElement) -> Option<(Grant, Option<Duration>)> {
    if found.element.key_end.is_some() {
        return None;
    }
    let (mark, rest) = found.element.key.as_bytes().split_first_chunk::<MARK_BYTES>()?;
    let (rest, port) = rest.split_last_chunk::<WORD_BYTES>()?;
    let (address, protocol) = rest.split_last_chunk::<WORD_BYTES>()?;
    let address = match address.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(address).ok()?),
        16 => IpAddr::from(<[u8; 16]>::try_from(address).ok()?),
        _ => return None,
    };
    let protocol = match protocol {
        [TCP, 0, 0, 0] => GrantProtocol::Tcp,
        [UDP, 0, 0, 0] => GrantProtocol::Udp,
        _ => return None,
    };
    let &[high, low, 0, 0] = port else { return None };
    let grant = Grant {
        mark: Mark(u32::from_ne_bytes(*mark)),
        address,
        protocol,
        port: u16::from_be_bytes([high, low]),
    };
    let left = found.expires_ms.or(found.element.timeout_ms);
    Some((grant, left.map(Duration::from_millis)))
}

/// Whether the element is the grant as it was asked for a moment ago.
pub(crate) fn is_as_asked(found: &FoundElement, life: Duration) -> bool {
    let Ok(asked_ms) = u64::try_from(life.as_millis()) else { return false };
    let full = found
        .element
        .timeout_ms
        .is_some_and(|timeout_ms| timeout_ms <= asked_ms && asked_ms - timeout_ms <= TICK_MAX_MS);
    let running = found.expires_ms.is_some_and(|left_ms| left_ms <= asked_ms);
    full && running && found.foreign.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::ElementData;
    use crate::value::Data;

    fn grant(address: &str, protocol: GrantProtocol) -> Grant {
        Grant { mark: Mark(0x8000_0001), address: address.parse().unwrap(), protocol, port: 0x1617 }
    }

    fn reported(element: Element) -> FoundElement {
        FoundElement { element, expires_ms: Some(5), foreign: None }
    }

    #[test]
    fn a_grant_is_read_as_it_was_written() {
        for (address, protocol) in [("192.0.2.9", GrantProtocol::Tcp), ("2001:db8::9", GrantProtocol::Udp)] {
            let grant = grant(address, protocol);
            let made = elements(set_of(&grant), &GrantSet::from([(grant, LIFE_MIN)])).unwrap();
            let found = found(&reported(made[0].clone()));
            assert_eq!(found, Some((grant, Some(Duration::from_millis(5)))));
            let other = if set_of(&grant) == GRANTS_IP4 { GRANTS_IP6 } else { GRANTS_IP4 };
            assert!(elements(other, &GrantSet::from([(grant, LIFE_MIN)])).unwrap().is_empty());
        }
    }

    #[test]
    fn what_is_no_grant_is_not_read_as_one() {
        for key in [
            vec![1; 4],
            vec![0; 16],
            vec![6; 28],
            vec![0; 3],
            [vec![0; 8], vec![6, 1, 0, 0, 0, 9, 0, 0]].concat(),
        ] {
            let element = Element {
                key: Data::new(key).unwrap(),
                key_end: None,
                data: ElementData::None,
                timeout_ms: None,
            };
            assert_eq!(found(&reported(element.clone())), None, "{element:?}");
        }
    }

    #[test]
    fn what_could_reach_more_than_one_host_is_refused() {
        for address in [
            "0.0.0.0",
            "255.255.255.255",
            "224.0.0.1",
            "127.0.0.1",
            "::",
            "::1",
            "ff02::1",
            "::ffff:192.0.2.9",
        ] {
            let refused = check(&grant(address, GrantProtocol::Tcp), LIFE_MIN);
            assert!(matches!(refused, Err(GrantError::NotAGrant { .. })), "{address}");
        }
        let good = grant("192.0.2.9", GrantProtocol::Tcp);
        assert!(check(&good, LIFE_MIN).is_ok());
        assert!(check(&Grant { mark: Mark(0x7fff_ffff), ..good }, LIFE_MIN).is_err());
        assert!(check(&Grant { port: 0, ..good }, LIFE_MIN).is_err());
        for life in [Duration::ZERO, LIFE_MIN / 2, LIFE_MAX * 2] {
            assert!(matches!(check(&good, life), Err(GrantError::Life { .. })), "{life:?}");
        }
    }

    /// Zero is "for ever" to the kernel, so a grant whose time is over must not reach it.
    #[test]
    fn a_grant_without_time_left_is_left_out() {
        let over = GrantSet::from([(grant("192.0.2.9", GrantProtocol::Tcp), Duration::from_micros(999))]);
        assert!(elements(GRANTS_IP4, &over).unwrap().is_empty());
    }
}
