//! The VPN's device: made while the policy has a VPN, and gone while it has none. Where the kernel carries, the device is the
//! tunnel itself; else it is a TUN device for the edge role's user, of which core never reads a packet. And who of the
//! VPN's peers left with a policy.

use std::collections::BTreeMap;

use anyhow::Context as _;
use events::Event;
use events::words::VpnChange;
use gateway::accounts::{Accounts, EDGE_USER};
use policy::model::{Policy, VPN_INTERFACE, Vpn, VpnPeer};
use policy::services::VpnCarrier;

use super::Core;
use super::carrier::Carrier;
use super::network::{Link, Network};

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

/// Brings the device to what the policy has; says what could not be done, in words.
pub(super) async fn settle(network: &Network, carrier: &Carrier, policy: &Policy) -> Option<String> {
    let settled = settle_device(network, carrier, policy.vpn.as_ref()).await;
    settled.err().map(|error| format!("the VPN's device `{VPN_INTERFACE}`: {error:#}"))
}

async fn settle_device(network: &Network, carrier: &Carrier, vpn: Option<&Vpn>) -> anyhow::Result<()> {
    let link = network.link(VPN_INTERFACE).await?;
    let Some(vpn) = vpn else {
        carrier.rest();
        return remove(network, link).await;
    };
    match carrier.decide() {
        VpnCarrier::Edge => for_edge(network, vpn, link).await,
        VpnCarrier::Kernel => match in_kernel(network, carrier, vpn, link).await {
            Err(error) if carrier.may_fall_back(&error) => {
                let link = network.link(VPN_INTERFACE).await?;
                for_edge(network, vpn, link).await
            }
            settled => settled,
        },
    }
}

/// The kernel's WireGuard. What a former run of core left is made anew: nobody may be on it whom the policy does not name.
async fn in_kernel(
    network: &Network,
    carrier: &Carrier,
    vpn: &Vpn,
    link: Option<Link>,
) -> anyhow::Result<()> {
    let mtu = u32::from(vpn.mtu);
    match link {
        Some(link) if link.is_wireguard && carrier.has_made(link.index) => {
            if link.mtu_bytes != Some(mtu) {
                network.set_mtu(link.index, mtu).await?;
            }
        }
        other => {
            carrier.lost_device();
            remove(network, other).await?;
            network.make_wireguard(VPN_INTERFACE, mtu).await?;
            tunnel::Kernel::reserve(VPN_INTERFACE, vpn.listen_port)?;
            let made = network.link(VPN_INTERFACE).await?.context("it is gone as soon as it is made")?;
            carrier.made(made.index);
            tracing::info!(interface = VPN_INTERFACE, "made the VPN's device, of the kernel's WireGuard");
        }
    }
    carrier.carry(vpn)?;
    anyhow::ensure!(!carrier.lacks_key(), "the edge role does not offer its key: see that sekisho-edge runs");
    Ok(())
}

/// A TUN device for edge.
async fn for_edge(network: &Network, vpn: &Vpn, link: Option<Link>) -> anyhow::Result<()> {
    let mtu = u32::from(vpn.mtu);
    match link {
        // Made anew each time it would take edge's place at the device: only its size is brought in line.
        Some(link) if !link.is_wireguard => {
            if link.mtu_bytes != Some(mtu) {
                network.set_mtu(link.index, mtu).await?;
            }
            Ok(())
        }
        other => {
            remove(network, other).await?;
            let owner = Accounts::read()?.user_id(EDGE_USER).with_context(|| {
                format!("there is no user `{EDGE_USER}` to give it to: install the package, or add the user")
            })?;
            tunnel::device::create(VPN_INTERFACE, owner, vpn.mtu)?;
            tracing::info!(interface = VPN_INTERFACE, "made the VPN's device");
            Ok(())
        }
    }
}

async fn remove(network: &Network, link: Option<Link>) -> anyhow::Result<()> {
    let Some(link) = link else { return Ok(()) };
    tracing::info!(interface = VPN_INTERFACE, "removing the VPN's device");
    Ok(network.remove_link(link.index).await?)
}
