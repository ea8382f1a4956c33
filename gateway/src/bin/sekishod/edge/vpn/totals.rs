//! What the VPN carried and dropped, added up. The tunnel forgets a peer's counters with the peer, and all of them when it
//! starts anew; a total does not. No peer is named: who came when is in the log.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use events::{Family, Sample};
use jiff::Timestamp;
use policy::services::{EdgePeer, EdgeVpn, VpnCarrier};
use tunnel::{DropReason, Stats};

/// A session of WireGuard is renewed every two minutes while packets pass, and is over after three (the protocol's
/// REKEY_AFTER_TIME and REJECT_AFTER_TIME).
const CONNECTED_FOR: Duration = Duration::from_secs(180);
/// Words of the label `cause`.
const CAUSES: [&str; 5] = ["stranger", "forged", "spoofed", "expired", "unsent"];

/// Words of the label `path`.
const PATHS: [&str; 3] = ["kernel", "user", "none"];

/// What one counter of the tunnel is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    Received(String),
    Sent(String),
    /// Of a peer; what belongs to none has no name.
    Dropped(String, DropReason),
}

/// The totals since the role started.
#[derive(Debug, Default)]
pub(super) struct Totals {
    /// What each counter of the tunnel said last.
    last: BTreeMap<Source, u64>,
    received: u64,
    sent: u64,
    dropped: BTreeMap<&'static str, u64>,
    handshake_at: Option<SystemTime>,
    connected: usize,
}

impl Totals {
    /// Takes up what the tunnel says now.
    pub(super) fn take(&mut self, stats: &Stats, now: SystemTime) {
        let mut said: BTreeMap<Source, u64> = BTreeMap::new();
        for (peer, stats) in &stats.peers {
            said.insert(Source::Received(peer.clone()), stats.received_bytes);
            said.insert(Source::Sent(peer.clone()), stats.sent_bytes);
        }
        let counted = stats.peers.iter().filter_map(|(peer, stats)| Some((peer, stats.counted.as_ref()?)));
        let of_peers = counted.map(|(peer, counted)| (peer.as_str(), &counted.drops));
        for (peer, drops) in of_peers.chain([("", &stats.drops)]) {
            said.extend(
                drops.iter().map(|(reason, count)| (Source::Dropped(peer.to_owned(), *reason), *count)),
            );
        }
        for (source, value) in &said {
            let step = match self.last.get(source) {
                Some(last) if last <= value => value - last,
                // A counter below what it said was made anew.
                _ => *value,
            };
            let total = match source {
                Source::Received(_) => &mut self.received,
                Source::Sent(_) => &mut self.sent,
                Source::Dropped(_, reason) => self.dropped.entry(cause(*reason)).or_default(),
            };
            *total = total.saturating_add(step);
        }
        self.last = said;
        let shook = || stats.peers.values().filter_map(|peer| peer.last_handshake);
        self.handshake_at = shook().max().max(self.handshake_at);
        let is_recent = |at: &SystemTime| now.duration_since(*at).is_ok_and(|age| age <= CONNECTED_FOR);
        self.connected = shook().filter(is_recent).count();
    }

    /// Everything, with what the policy wants.
    pub(super) fn samples(&self, wanted: Option<&EdgeVpn>, now: Timestamp) -> Vec<Sample> {
        let peers: &[EdgePeer] = wanted.map_or(&[], |wanted| &wanted.peers);
        let expired = peers.iter().filter(|peer| peer.until.is_some_and(|until| until <= now)).count();
        let states = [("configured", peers.len()), ("connected", self.connected), ("expired", expired)];
        let mut samples: Vec<Sample> = states
            .into_iter()
            .map(|(state, count)| Sample::new(Family::VpnPeers, &[state], number(count as u64)))
            .collect();
        let path = wanted.map_or("none", |wanted| match wanted.carrier {
            VpnCarrier::Edge => "user",
            VpnCarrier::Kernel => "kernel",
        });
        samples
            .extend(PATHS.map(|one| Sample::new(Family::VpnDataPath, &[one], number((one == path).into()))));
        let ways = [("received", self.received), ("sent", self.sent)];
        samples.extend(ways.map(|(way, bytes)| Sample::new(Family::VpnBytes, &[way], number(bytes))));
        let dropped = |cause| number(self.dropped.get(cause).copied().unwrap_or_default());
        samples.extend(CAUSES.map(|cause| Sample::new(Family::VpnDrops, &[cause], dropped(cause))));
        let since_epoch = self.handshake_at.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
        let at = since_epoch.unwrap_or_default().as_secs_f64();
        samples.push(Sample::new(Family::VpnHandshake, &[], at));
        samples
    }
}

/// Why something was dropped, as people ask: who has no key, who has a wrong one, who says to be another.
const fn cause(reason: DropReason) -> &'static str {
    match reason {
        DropReason::WrongMac
        | DropReason::UnknownPeer
        | DropReason::UnknownSession
        | DropReason::Malformed
        | DropReason::UnderLoad
        | DropReason::SourceLimit => "stranger",
        DropReason::Handshake | DropReason::Replay | DropReason::NotAuthentic => "forged",
        DropReason::InnerSource | DropReason::InnerMalformed => "spoofed",
        DropReason::Expired => "expired",
        DropReason::NoPeer
        | DropReason::NoEndpoint
        | DropReason::QueueFull
        | DropReason::NotSent
        | DropReason::Device => "unsent",
    }
}

#[expect(clippy::cast_precision_loss, reason = "a total beyond 2^53 has lost its last digit anyway")]
fn number(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use tunnel::{PeerCounts, PeerStats};

    fn stats(peers: &[(&str, u64, u64)], spoofed: u64, at: SystemTime) -> Stats {
        let peer = |(name, received_bytes, sent_bytes): &(&str, u64, u64)| {
            let drops = BTreeMap::from([(DropReason::InnerSource, spoofed)]);
            let counted = PeerCounts { received_packets: 1, sent_packets: 1, handshakes: 1, drops };
            let stats = PeerStats {
                received_bytes: *received_bytes,
                sent_bytes: *sent_bytes,
                last_handshake: Some(at),
                endpoint: None,
                counted: Some(counted),
            };
            ((*name).to_owned(), stats)
        };
        Stats { peers: peers.iter().map(peer).collect(), drops: BTreeMap::new() }
    }

    fn value(totals: &Totals, family: Family, label: &str) -> f64 {
        let samples = totals.samples(None, Timestamp::UNIX_EPOCH);
        samples.iter().find(|one| one.family == family && one.labels == [label]).unwrap().value
    }

    #[test]
    fn totals_outlive_a_peer_and_a_tunnel() {
        let (mut totals, begin) = (Totals::default(), SystemTime::UNIX_EPOCH + Duration::from_secs(1_000));
        totals.take(&stats(&[("a", 10, 1), ("b", 5, 2)], 1, begin), begin);
        totals.take(&stats(&[("a", 30, 1)], 1, begin), begin);
        assert_eq!(value(&totals, Family::VpnBytes, "received"), 35.0, "b is gone, its bytes are not");
        totals.take(&stats(&[("a", 4, 1)], 0, begin), begin);
        assert_eq!(value(&totals, Family::VpnBytes, "received"), 39.0, "a tunnel that began anew");
        assert_eq!(value(&totals, Family::VpnDrops, "spoofed"), 2.0);
        assert_eq!(value(&totals, Family::VpnPeers, "connected"), 1.0);
        totals.take(&stats(&[("a", 4, 1)], 0, begin), begin + CONNECTED_FOR + Duration::from_secs(1));
        assert_eq!(value(&totals, Family::VpnPeers, "connected"), 0.0, "silent for too long");
        totals.take(&Stats::default(), begin);
        let samples = totals.samples(None, Timestamp::UNIX_EPOCH);
        let at = samples.iter().find(|one| one.family == Family::VpnHandshake).unwrap();
        assert_eq!(at.value, 1_000.0, "when the last one was is not forgotten");
    }

    #[test]
    fn one_path_carries_or_none() {
        let wanted = |carrier| EdgeVpn {
            carrier,
            listen_port: 51_820,
            interface: "wg".to_owned(),
            addresses: Vec::new(),
            mtu: 1_420,
            peers: Vec::new(),
        };
        for (wanted, path) in [
            (None, "none"),
            (Some(wanted(VpnCarrier::Edge)), "user"),
            (Some(wanted(VpnCarrier::Kernel)), "kernel"),
        ] {
            let samples = Totals::default().samples(wanted.as_ref(), Timestamp::UNIX_EPOCH);
            let of_path = samples.iter().filter(|one| one.family == Family::VpnDataPath);
            let (on, off): (Vec<_>, Vec<_>) = of_path.partition(|one| one.value == 1.0);
            assert_eq!(on.iter().map(|one| one.labels.as_slice()).collect::<Vec<_>>(), [[path.to_owned()]]);
            assert!(off.len() == 2 && off.iter().all(|one| one.value == 0.0));
        }
    }
}
