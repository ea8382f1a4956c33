//! What strangers and guests may use of this machine: every number that bounds the door, and the count per address.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Streams of one channel at once.
pub const STREAMS_MAX: usize = 64;
/// Bytes that a peer may have on their way on one channel without our reading them.
pub(crate) const WINDOW_BYTES_MAX: usize = 16 << 20;
/// The same for one stream over QUIC.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 8 << 20;
/// Channels at once.
pub(crate) const CHANNELS_MAX: usize = 64;
/// Handshakes under way at once.
pub(crate) const HANDSHAKES_MAX: usize = 64;
/// Handshakes under way above which a QUIC peer must first prove its address (RFC 9000, 8.1.2).
pub(crate) const RETRY_ABOVE: usize = 8;
/// How long a handshake may take.
pub(crate) const HANDSHAKE_WAIT: Duration = Duration::from_secs(10);
/// Silence after which a channel is over.
pub(crate) const IDLE_MAX: Duration = Duration::from_secs(30);
/// How often the client says that it is there.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(8);
/// Handshakes of one address at once.
const UNDER_WAY_MAX: u32 = 4;
/// Handshakes of one address in a burst.
const BURST: f64 = 20.0;
/// Handshakes of one address per second in the long run.
const PER_SECOND: f64 = 0.5;
/// Addresses remembered.
const ADDRESSES_MAX: usize = 4096;

/// What happened at the door, for the metrics.
#[derive(Debug, Default)]
pub struct Counters {
    /// Handshakes that ended with a channel.
    pub admitted: AtomicU64,
    /// Handshakes that ended with an alert, or broke.
    pub refused: AtomicU64,
    /// Handshakes that took too long.
    pub slow: AtomicU64,
    /// Attempts dropped unanswered: too many of one address, or at once.
    pub limited: AtomicU64,
    /// QUIC peers told to prove their address.
    pub retried: AtomicU64,
}

impl Counters {
    pub(crate) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// The count per address: IPv4 as it is, IPv6 by its /64, which is one site.
#[derive(Clone, Debug, Default)]
pub(crate) struct Addresses(Arc<Mutex<BTreeMap<IpAddr, Bucket>>>);

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    filled_at: Instant,
    under_way: u32,
}

/// A handshake under way; dropping it ends the count.
#[derive(Debug)]
pub(crate) struct Turn {
    addresses: Addresses,
    key: IpAddr,
}

impl Addresses {
    /// Lets an address try, if it has not tried too often.
    pub(crate) fn admit(&self, address: IpAddr, now: Instant) -> Option<Turn> {
        let key = site(address);
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !buckets.contains_key(&key) && buckets.len() >= ADDRESSES_MAX {
            buckets.retain(|_, bucket| !bucket.is_forgettable(now));
            if buckets.len() >= ADDRESSES_MAX {
                return None;
            }
        }
        let bucket = buckets.entry(key).or_insert(Bucket { tokens: BURST, filled_at: now, under_way: 0 });
        bucket.fill(now);
        if bucket.tokens < 1.0 || bucket.under_way >= UNDER_WAY_MAX {
            return None;
        }
        bucket.tokens -= 1.0;
        bucket.under_way += 1;
        drop(buckets);
        Some(Turn { addresses: self.clone(), key })
    }
}

impl Bucket {
    fn fill(&mut self, now: Instant) {
        let since = now.saturating_duration_since(self.filled_at);
        self.tokens = (self.tokens + since.as_secs_f64() * PER_SECOND).min(BURST);
        self.filled_at = now;
    }

    /// Whether nothing would change if it were not remembered.
    fn is_forgettable(&self, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.filled_at);
        self.under_way == 0 && self.tokens + since.as_secs_f64() * PER_SECOND >= BURST
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut buckets = self.addresses.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = buckets.get_mut(&self.key) {
            bucket.under_way = bucket.under_way.saturating_sub(1);
        }
    }
}

fn site(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from(v4.octets())),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_burst_then_waits_and_others_do_not() {
        let (addresses, now) = (Addresses::default(), Instant::now());
        let (one, other): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        for _ in 0..20 {
            assert!(addresses.admit(one, now).is_some());
        }
        assert!(addresses.admit(one, now).is_none());
        assert!(
            addresses.admit("::ffff:192.0.2.1".parse().unwrap(), now).is_none(),
            "the same in other words"
        );
        assert!(addresses.admit(other, now).is_some());
        assert!(addresses.admit(one, now + Duration::from_secs(2)).is_some());
    }

    #[test]
    fn few_handshakes_of_one_site_are_under_way_at_once() {
        let (addresses, now) = (Addresses::default(), Instant::now());
        let of = |last: u16| -> IpAddr { format!("2001:db8::{last:x}").parse().unwrap() };
        let turns: Vec<Turn> = (0..4).filter_map(|last| addresses.admit(of(last), now)).collect();
        assert_eq!(turns.len(), 4);
        assert!(addresses.admit(of(9), now).is_none());
        assert!(addresses.admit("2001:db8:0:1::1".parse().unwrap(), now).is_some());
        drop(turns);
        assert!(addresses.admit(of(9), now).is_some());
    }

    #[test]
    fn the_memory_of_addresses_is_bounded_and_recovers() {
        let (addresses, now) = (Addresses::default(), Instant::now());
        let of = |number: u32| IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + number));
        for number in 0..5000 {
            let admitted = addresses.admit(of(number), now).is_some();
            assert_eq!(admitted, number < 4096, "{number}");
        }
        assert_eq!(addresses.0.lock().unwrap().len(), 4096);
        assert!(addresses.admit(of(5000), now + Duration::from_secs(2)).is_some());
    }
}
