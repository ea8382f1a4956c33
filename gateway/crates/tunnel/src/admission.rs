//! Which handshake messages are worth a key exchange: those that know our key, under load those that proved their
//! address with a cookie, and of one address not more than a few (whitepaper, sections 5.3 and 5.4.7).

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use boringtun::noise::errors::WireGuardError;
use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Packet, TunnResult};
use boringtun::x25519;
use sha2::{Digest as _, Sha256};

use crate::DropReason;

/// Handshake messages in one [`WINDOW`] from which on a cookie is demanded: each costs a key exchange of 0.1 ms or more.
const LOAD_LIMIT: u32 = 100;
const WINDOW: Duration = Duration::from_secs(1);
/// Under load, messages of one source in one go, and how long until one more is allowed (as the kernel has it).
const SOURCE_BURST: u32 = 5;
const SOURCE_REFILL: Duration = Duration::from_millis(50);
/// Sources that are remembered; a source has proved its address before it gets here.
const MAX_SOURCES: usize = 4_096;
/// Bytes of an IPv6 address that name one source: a customer has a whole /64.
const SOURCE_PREFIX_V6: u32 = 64;

/// Makes a limiter that only checks the message's MAC.
pub(crate) fn never_under_load(public: &x25519::PublicKey) -> Arc<RateLimiter> {
    Arc::new(RateLimiter::new(public, u64::MAX))
}

/// What is to be done with a handshake message.
#[derive(Debug)]
pub(crate) enum Admitted<'a> {
    /// Spend a key exchange on it.
    Message(Packet<'a>),
    /// Answer with the cookie of so many bytes at the beginning of the buffer.
    Cookie(usize),
}

/// The gate in front of the key exchange.
pub(crate) struct Admission {
    calm: Arc<RateLimiter>,
    loaded: RateLimiter,
    window_since: Instant,
    in_window: u32,
    loaded_until: Option<Instant>,
    sources: HashMap<IpAddr, Bucket>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: u32,
    since: Instant,
}

impl Admission {
    pub(crate) fn new(public: &x25519::PublicKey, now: Instant) -> Self {
        Self {
            calm: never_under_load(public),
            loaded: RateLimiter::new(public, 0),
            window_since: now,
            in_window: 0,
            loaded_until: None,
            sources: HashMap::new(),
        }
    }

    /// Judges a handshake initiation or response.
    /// # Errors
    /// Gives the reason to drop it.
    pub(crate) fn admit<'a>(
        &mut self,
        message: &'a [u8],
        from: SocketAddr,
        now: Instant,
        cookie: &mut [u8],
    ) -> Result<Admitted<'a>, DropReason> {
        // Whoever does not know our public key costs one hash and hears nothing.
        let packet = self.calm.verify_packet(None, message, cookie).map_err(|refusal| reason(&refusal))?;
        if !self.is_under_load(now) {
            return Ok(Admitted::Message(packet));
        }
        match self.loaded.verify_packet(Some(cookie_address(from)), message, cookie) {
            Ok(packet) if self.source_may(source(from.ip()), now) => Ok(Admitted::Message(packet)),
            Ok(_) => Err(DropReason::SourceLimit),
            Err(TunnResult::WriteToNetwork(cookie)) => Ok(Admitted::Cookie(cookie.len())),
            Err(refusal) => Err(reason(&refusal)),
        }
    }

    /// Counts one message, and says whether there are too many. Load lasts for a window after its last sign.
    fn is_under_load(&mut self, now: Instant) -> bool {
        if now.saturating_duration_since(self.window_since) >= WINDOW {
            (self.window_since, self.in_window) = (now, 0);
        }
        self.in_window = self.in_window.saturating_add(1);
        if self.in_window > LOAD_LIMIT {
            self.loaded_until = Some(now + WINDOW);
        }
        self.loaded_until.is_some_and(|until| now < until)
    }

    fn source_may(&mut self, source: IpAddr, now: Instant) -> bool {
        if self.sources.len() >= MAX_SOURCES && !self.sources.contains_key(&source) {
            self.sources.retain(|_, bucket| bucket.filled(now) < SOURCE_BURST);
            if self.sources.len() >= MAX_SOURCES {
                return false;
            }
        }
        let bucket = self.sources.entry(source).or_insert(Bucket { tokens: SOURCE_BURST, since: now });
        bucket.take(now)
    }
}

impl Bucket {
    fn filled(&self, now: Instant) -> u32 {
        let refills = now.saturating_duration_since(self.since).as_millis() / SOURCE_REFILL.as_millis();
        let refills = u32::try_from(refills).unwrap_or(SOURCE_BURST);
        self.tokens.saturating_add(refills).min(SOURCE_BURST)
    }

    fn take(&mut self, now: Instant) -> bool {
        let filled = self.filled(now);
        // The time of the last refill moves only when there was one, or slow senders would never get any.
        if filled > self.tokens {
            self.since = now;
        }
        self.tokens = filled.saturating_sub(1);
        filled > 0
    }
}

/// The core binds a cookie to an address alone. The whitepaper wants the port in it too, so the core gets an address made
/// of both.
fn cookie_address(from: SocketAddr) -> IpAddr {
    let mut hash = Sha256::new();
    match from.ip().to_canonical() {
        IpAddr::V4(address) => hash.update(address.octets()),
        IpAddr::V6(address) => hash.update(address.octets()),
    }
    hash.update(from.port().to_le_bytes());
    let digest = hash.finalize();
    let half = digest.iter().take(16).fold(0_u128, |bits, byte| (bits << 8) | u128::from(*byte));
    IpAddr::V6(Ipv6Addr::from(half))
}

fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from(u128::from(address) >> SOURCE_PREFIX_V6 << SOURCE_PREFIX_V6))
        }
    }
}

fn reason(refusal: &TunnResult<'_>) -> DropReason {
    match refusal {
        TunnResult::Err(WireGuardError::InvalidPacket) => DropReason::Malformed,
        TunnResult::Err(error) => DropReason::of(error),
        _ => DropReason::UnderLoad,
    }
}

impl std::fmt::Debug for Admission {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admission").field("in_window", &self.in_window).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "admission_tests.rs"]
mod tests;
