//! The VPN's TUN device: made for the edge role's user while the policy has a VPN, and gone while it has none. Core never
//! reads a packet of it. And who of the VPN's peers left with a policy.

use std::collections::BTreeMap;

use events::Event;
use events::words::VpnChange;
use gateway::accounts::{Accounts, EDGE_USER};
use policy::model::{Policy, VPN_INTERFACE, Vpn, VpnPeer};

use super::Core;
use super::network::Network;

impl Core {
    /// Tells of the peers of the policy in force before that this one no longer knows, or knows by another key.
    pub(super) fn tell_of_peers(&mut self, policy: &Policy) {
        let of = |peer: &VpnPeer| (peer.name.clone(), peer.public_key.clone());
        let now: BTreeMap<String, String> = policy.vpn.iter().flat_map(|vpn| &vpn.peers).map(of).collect();
        let before = std::mem::replace(&mut self.peers, now);
        let gone = before.into_iter().filter(|(name, key)| self.peers.get(name) != Some(key));
        let gone: Vec<String> = gone.map(|(name, _)| name).collect();
        for peer in gone {
            self.witness.note(Event::Vpn { peer, change: VpnChange::Revoked });
        }
    }
}

/// Brings the device to what the policy has; returns what could not be done, in words.
pub(super) async fn settle(network: &Network, policy: &Policy) -> Option<String> {
    let settled = settle_device(network, policy.vpn.as_ref()).await;
    settled.err().map(|error| format!("the VPN's device `{VPN_INTERFACE}`: {error:#}"))
}

async fn settle_device(network: &Network, vpn: Option<&Vpn>) -> anyhow::Result<()> {
    match (network.link(VPN_INTERFACE).await?, vpn) {
        (None, None) => Ok(()),
        // Made anew each time it would take edge's place at the device: only its size is brought in line.
        (Some(link), Some(vpn)) if link.mtu_bytes != Some(u32::from(vpn.mtu)) => {
            Ok(network.set_mtu(link.index, u32::from(vpn.mtu)).await?)
        }
        (Some(_), Some(_)) => Ok(()),
        (Some(link), None) => {
            tracing::info!(interface = VPN_INTERFACE, "removing the VPN's device");
            Ok(network.remove_link(link.index).await?)
        }
        (None, Some(vpn)) => {
            let owner = Accounts::read()?.user_id(EDGE_USER);
            let owner = owner.ok_or_else(|| {
                anyhow::anyhow!(
                    "there is no user `{EDGE_USER}` to give it to: install the package, or add the user"
                )
            })?;
            tunnel::device::create(VPN_INTERFACE, owner, vpn.mtu)?;
            tracing::info!(interface = VPN_INTERFACE, "made the VPN's device");
            Ok(())
        }
    }
}
