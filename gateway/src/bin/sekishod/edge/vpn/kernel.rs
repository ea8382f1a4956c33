//! The VPN where the kernel carries it: core sets that up, and cannot without the gateway's key, which is kept here. Offers it
//! when core has none or another, and hears how the peers stand.

use std::sync::Arc;
use std::time::SystemTime;

use gateway::wire::doors::{TunnelKey, TunnelStanding};
use gateway::wire::edge::VpnPeerRow;
use tunnel::{PeerStats, Stats};

use super::super::doors::DoorsError;
use super::super::{Shared, TICK, lock};
use crate::notify::every;

/// Looks after it for ever; while edge itself carries, or nobody does, core is not asked.
pub(in crate::edge) async fn keep(shared: Arc<Shared>) {
    let mut look = every(TICK);
    loop {
        look.tick().await;
        if !lock(&shared.vpn).is_in_kernel() {
            continue;
        }
        if let Err(error) = hear(&shared).await {
            // Core may be restarting; what the kernel carries goes on.
            tracing::debug!(%error, "core does not say how the kernel's WireGuard stands");
        }
    }
}

async fn hear(shared: &Shared) -> Result<(), DoorsError> {
    let mut standing = shared.doors.tunnel(None).await?;
    let own = lock(&shared.vpn).key.public().to_string();
    if standing.public_key.as_ref() != Some(&own) {
        let key = TunnelKey::from(*lock(&shared.vpn).key.expose_bytes());
        standing = shared.doors.tunnel(Some(key)).await?;
        tracing::info!("the kernel has the VPN's key");
    }
    lock(&shared.vpn).hear(stats(standing));
    Ok(())
}

/// What core says, as a tunnel of our own would say it.
fn stats(TunnelStanding { public_key: _, peers }: TunnelStanding) -> Stats {
    let peer = |row: VpnPeerRow| {
        let VpnPeerRow { name, handshake_at, endpoint, received_bytes, sent_bytes } = row;
        let last_handshake = handshake_at.map(SystemTime::from);
        (name, PeerStats { received_bytes, sent_bytes, last_handshake, endpoint, counted: None })
    };
    Stats { peers: peers.into_iter().map(peer).collect(), ..Stats::default() }
}
