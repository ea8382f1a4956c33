//! What strangers and guests may use of this machine: every number that bounds the door, the count per address, and the
//! places per key.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::channel::Carrier;
use crate::key::KeyId;

/// Streams of one channel at once.
pub const STREAMS_MAX: usize = 64;
/// Bytes that a peer may have on their way on one channel over QUIC without our reading them. All channels together have
/// to stay well below what edge's unit gives it (`MemoryMax=`).
pub(crate) const WINDOW_BYTES_MAX: usize = 4 << 20;
/// The same for one stream over QUIC: less than the channel's, so that one that nobody reads does not hold up the others.
/// It is also what is kept of a channel's bytes until the peer has acknowledged them.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 2 << 20;
/// The same for one channel over TCP: yamux wants room for the first credit of every stream, 256 KiB.
pub(crate) const MUX_WINDOW_BYTES_MAX: usize = STREAMS_MAX * (256 << 10);
/// Places for channels: one over QUIC takes one place, one over TCP more, because its window is larger.
const PLACES_MAX: usize = 64;
/// Places that a channel over TCP takes.
const MUX_PLACES: u32 = 4;
/// Channels of one key at once, whether an engineer's or an invitation's: one for each session that an engineer may have,
/// and over TCP half of the places. Nobody takes the door from everybody else.
const CHANNELS_OF_ONE_MAX: usize = 8;
/// Handshakes under way at once.
pub(crate) const HANDSHAKES_MAX: usize = 64;
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
    /// Attempts dropped unanswered: too many of one address, or at once; and channels beyond the places that there are.
    pub limited: AtomicU64,
    /// QUIC packets answered with the demand to prove the sender's address (RFC 9000, 8.1.2).
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

/// The places for channels, of all and of each key; clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    all: Arc<Semaphore>,
    keys: Arc<Mutex<BTreeMap<KeyId, usize>>>,
}

/// A place taken among the channels that may be; dropping it gives it back.
#[derive(Debug)]
pub struct Place {
    keys: Arc<Mutex<BTreeMap<KeyId, usize>>>,
    key: KeyId,
    _of_all: OwnedSemaphorePermit,
}

impl Default for Places {
    fn default() -> Self {
        Places { all: Arc::new(Semaphore::new(PLACES_MAX)), keys: Arc::default() }
    }
}

impl Places {
    /// A place for another channel of a key, if there is one and the key has not enough already.
    pub(crate) fn take(&self, key: &KeyId, carrier: Carrier) -> Option<Place> {
        let of_all = Arc::clone(&self.all).try_acquire_many_owned(places_of(carrier)).ok()?;
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let count = keys.entry(key.clone()).or_default();
        if *count >= CHANNELS_OF_ONE_MAX {
            return None;
        }
        *count += 1;
        drop(keys);
        Some(Place { keys: Arc::clone(&self.keys), key: key.clone(), _of_all: of_all })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = keys.get_mut(&self.key) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                keys.remove(&self.key);
            }
        }
    }
}

const fn places_of(carrier: Carrier) -> u32 {
    match carrier {
        Carrier::Quic => 1,
        Carrier::Tcp => MUX_PLACES,
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

    fn key(number: usize) -> KeyId {
        KeyId::of_spki(&number.to_be_bytes())
    }

    #[test]
    fn one_key_has_eight_channels_and_leaves_the_others_to_others() {
        let places = Places::default();
        let mut taken: Vec<Place> = (0..8).filter_map(|_| places.take(&key(1), Carrier::Quic)).collect();
        assert_eq!(taken.len(), 8);
        for carrier in [Carrier::Quic, Carrier::Tcp] {
            assert!(places.take(&key(1), carrier).is_none(), "{carrier:?}");
        }
        assert_eq!(places.all.available_permits(), PLACES_MAX - 8, "who was refused holds nothing");
        assert!(places.take(&key(2), Carrier::Tcp).is_some());
        drop(taken.pop());
        assert!(places.take(&key(1), Carrier::Tcp).is_some());
        drop(taken);
        assert!(places.keys.lock().unwrap().is_empty(), "nobody is remembered who left");
        assert_eq!(places.all.available_permits(), PLACES_MAX);
    }

    /// Half of what edge's unit gives it: the rest is for what is being sent and for everything else.
    #[test]
    fn what_all_channels_hold_fits_into_edges_memory() {
        for (carrier, window, count) in
            [(Carrier::Quic, WINDOW_BYTES_MAX, 64), (Carrier::Tcp, MUX_WINDOW_BYTES_MAX, 16)]
        {
            let places = Places::default();
            let taken: Vec<Place> =
                (0..1000).filter_map(|number| places.take(&key(number), carrier)).collect();
            assert_eq!(taken.len(), count, "{carrier:?}");
            assert!(taken.len() * window <= 256 << 20, "{carrier:?}");
        }
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
