//! Interfaces, addresses and routes as the policy has them, by rtnetlink. Only adds: what an admin or a DHCP client
//! put there stays. Everything may be asked for again at any time; what is there already is left alone.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use futures_util::TryStreamExt;
use ipnet::IpNet;
use policy::model::{Policy, Zone};
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkInfo};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use rtnetlink::{Handle, LinkUnspec, LinkWireguard, RouteMessageBuilder};
use thiserror::Error;
use tokio::time::timeout;

use super::sysctl::{self, Changed};

/// "It is there already" as the kernel says it.
const EEXIST: i32 = 17;

/// Most neighbours looked at: the kernel's own limit (gc_thresh3) is 1024 a family unless somebody raised it.
const NEIGHBOURS_MAX: usize = 8192;
/// Silent neighbours asked for a sign of life at one look; the others are asked at the next.
const PROBES_MAX: usize = 256;
/// After how long without a sign of life a neighbour is asked for one, in the kernel's ticks of 10 ms (`USER_HZ`).
const SILENT_TICKS: u32 = 1500;
/// How long the kernel may take for all of it.
const ANSWER_WAIT: Duration = Duration::from_secs(10);

/// Why the network could not be asked or told.
#[derive(Debug, Error)]
pub(crate) enum NetworkError {
    /// No connection to the kernel.
    #[error("cannot open rtnetlink: {0}")]
    Open(#[source] std::io::Error),
    /// The kernel does not answer.
    #[error("rtnetlink did not answer within {} s", ANSWER_WAIT.as_secs())]
    Silent,
    /// A request failed.
    #[error("cannot {doing}: {source}")]
    Request { doing: String, source: rtnetlink::Error },
}

/// The connection to the kernel.
#[derive(Debug)]
pub(crate) struct Network {
    handle: Handle,
    /// Interfaces whose settings were right once: what differs since then, somebody else changed.
    set: BTreeSet<u32>,
}

/// What came of bringing the network to what the policy has.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    /// What could not be done, in words.
    pub(crate) problems: Vec<String>,
    /// Settings of interfaces that had been right, were not any more, and are again.
    pub(crate) changed: Vec<Changed>,
}

/// What the kernel has now.
#[derive(Debug, Default)]
struct Present {
    links: BTreeMap<String, u32>,
    addresses: BTreeSet<(u32, IpNet)>,
}

/// An interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    /// Its number.
    pub(crate) index: u32,
    /// Largest packet in bytes.
    pub(crate) mtu_bytes: Option<u32>,
    /// Whether it is the kernel's WireGuard.
    pub(crate) is_wireguard: bool,
}

/// Somebody who answers on a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Neighbour {
    /// Name of the interface.
    pub(crate) interface: String,
    /// Its number.
    pub(crate) index: u32,
    /// Network address.
    pub(crate) address: IpAddr,
    /// Link address, lower case with colons.
    pub(crate) link: String,
    /// Whether nothing proved lately that it is still there.
    pub(crate) is_silent: bool,
}

impl Network {
    /// Connects; must be called inside the runtime.
    pub(crate) fn open() -> Result<Self, NetworkError> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(NetworkError::Open)?;
        tokio::spawn(connection);
        Ok(Network { handle, set: BTreeSet::new() })
    }

    /// Brings what is there to what the policy has.
    pub(crate) async fn settle(&mut self, policy: &Policy) -> Result<Settled, NetworkError> {
        timeout(ANSWER_WAIT, self.settle_zones(policy)).await.unwrap_or(Err(NetworkError::Silent))
    }

    /// An interface by its name, if there is one.
    pub(crate) async fn link(&self, name: &str) -> Result<Option<Link>, NetworkError> {
        let find = async {
            let mut links = self.handle.link().get().execute();
            let failed = |source| NetworkError::Request { doing: "list interfaces".to_owned(), source };
            while let Some(message) = links.try_next().await.map_err(failed)? {
                let is_it = |attribute: &LinkAttribute| matches!(attribute, LinkAttribute::IfName(found) if found == name);
                if message.attributes.iter().any(is_it) {
                    let mtu_bytes = message.attributes.iter().find_map(|attribute| match attribute {
                        LinkAttribute::Mtu(bytes) => Some(*bytes),
                        _ => None,
                    });
                    let is_wireguard = message.attributes.iter().any(is_wireguard);
                    return Ok(Some(Link { index: message.header.index, mtu_bytes, is_wireguard }));
                }
            }
            Ok(None)
        };
        timeout(ANSWER_WAIT, find).await.unwrap_or(Err(NetworkError::Silent))
    }

    /// Makes an interface of the kernel's WireGuard, not switched on.
    pub(crate) async fn make_wireguard(&self, name: &str, mtu_bytes: u32) -> Result<(), NetworkError> {
        let request = LinkWireguard::new(name).mtu(mtu_bytes).build();
        let failed = |source| NetworkError::Request {
            doing: format!("make `{name}` an interface of the kernel's WireGuard"),
            source,
        };
        let making = async { self.handle.link().add(request).execute().await.map_err(failed) };
        timeout(ANSWER_WAIT, making).await.unwrap_or(Err(NetworkError::Silent))
    }

    /// Sets the largest packet of an interface.
    pub(crate) async fn set_mtu(&self, index: u32, mtu_bytes: u32) -> Result<(), NetworkError> {
        let request = LinkUnspec::new_with_index(index).mtu(mtu_bytes).build();
        let failed = |source| NetworkError::Request { doing: "set the MTU".to_owned(), source };
        let setting = async { self.handle.link().set(request).execute().await.map_err(failed) };
        timeout(ANSWER_WAIT, setting).await.unwrap_or(Err(NetworkError::Silent))
    }

    /// Removes an interface.
    pub(crate) async fn remove_link(&self, index: u32) -> Result<(), NetworkError> {
        let failed = |source| NetworkError::Request { doing: "remove an interface".to_owned(), source };
        let removing = async { self.handle.link().del(index).execute().await.map_err(failed) };
        timeout(ANSWER_WAIT, removing).await.unwrap_or(Err(NetworkError::Silent))
    }

    /// Everybody whom the kernel knows to answer; at most [`NEIGHBOURS_MAX`].
    pub(crate) async fn neighbours(&self) -> Result<Vec<Neighbour>, NetworkError> {
        timeout(ANSWER_WAIT, self.read_neighbours()).await.unwrap_or(Err(NetworkError::Silent))
    }

    /// Has the kernel ask neighbours for a sign of life (RFC 4861, section 7.3; ARP likewise). It asks by itself only when
    /// it has something to send them, and would keep one that was unplugged for ever.
    pub(crate) async fn probe<'n>(
        &self,
        neighbours: impl Iterator<Item = &'n Neighbour>,
    ) -> Result<(), NetworkError> {
        let probing = async {
            for Neighbour { index, address, .. } in neighbours.take(PROBES_MAX) {
                let probe =
                    self.handle.neighbours().add(*index, *address).replace().state(NeighbourState::Probe);
                // One that went meanwhile has answered in its way.
                if let Err(error) = probe.execute().await {
                    tracing::debug!(%error, "a neighbour could not be asked");
                }
            }
        };
        timeout(ANSWER_WAIT, probing).await.map_err(|_| NetworkError::Silent)
    }

    async fn read_neighbours(&self) -> Result<Vec<Neighbour>, NetworkError> {
        let names: BTreeMap<u32, String> =
            self.present().await?.links.into_iter().map(|(name, index)| (index, name)).collect();
        let mut found = Vec::new();
        let mut table = self.handle.neighbours().get().execute();
        let failed = |source| NetworkError::Request { doing: "list neighbours".to_owned(), source };
        while let Some(message) = table.try_next().await.map_err(failed)? {
            if found.len() < NEIGHBOURS_MAX {
                found.extend(neighbour(&names, message));
            }
        }
        Ok(found)
    }

    async fn settle_zones(&mut self, policy: &Policy) -> Result<Settled, NetworkError> {
        let present = self.present().await?;
        self.set.retain(|index| present.links.values().any(|there| there == index));
        let mut settled = Settled::default();
        let problems = &mut settled.problems;
        for zone in &policy.zones {
            let Some(name) = zone.interface.as_deref() else { continue };
            let Some(&index) = present.links.get(name) else {
                problems.push(format!("zone `{}`: there is no interface `{name}` yet", zone.name));
                continue;
            };
            let asserted = sysctl::interface(name, zone.wan.as_ref().is_some_and(|wan| wan.accept_ra));
            problems.extend(asserted.failed.iter().map(|error| format!("zone `{}`: {error}", zone.name)));
            if !self.set.insert(index) {
                settled.changed.extend(asserted.changed);
            }
            if let Err(error) = self.settle_zone(zone, name, index, &present).await {
                problems.push(format!("zone `{}`: {error}", zone.name));
            }
        }
        Ok(settled)
    }

    async fn settle_zone(
        &self,
        zone: &Zone,
        name: &str,
        index: u32,
        present: &Present,
    ) -> Result<(), NetworkError> {
        self.up(name, index).await?;
        for address in &zone.gateway {
            if !present.addresses.contains(&(index, *address)) {
                self.add_address(name, index, *address).await?;
            }
        }
        for router in zone.wan.iter().flat_map(|wan| &wan.routers) {
            self.add_default_route(index, *router).await?;
        }
        Ok(())
    }

    async fn present(&self) -> Result<Present, NetworkError> {
        let failed = |doing: &str| {
            let doing = doing.to_owned();
            |source| NetworkError::Request { doing, source }
        };
        let mut present = Present::default();
        let mut links = self.handle.link().get().execute();
        while let Some(link) = links.try_next().await.map_err(failed("list interfaces"))? {
            let name = link.attributes.into_iter().find_map(|attribute| match attribute {
                LinkAttribute::IfName(name) => Some(name),
                _ => None,
            });
            present.links.extend(name.map(|name| (name, link.header.index)));
        }
        let mut addresses = self.handle.address().get().execute();
        while let Some(message) = addresses.try_next().await.map_err(failed("list addresses"))? {
            let (index, prefix) = (message.header.index, message.header.prefix_len);
            // On broadcast links both are the same; where only one is there, it is `Address` for IPv6.
            for attribute in message.attributes {
                if let AddressAttribute::Local(address) | AddressAttribute::Address(address) = attribute {
                    present.addresses.extend(IpNet::new(address, prefix).ok().map(|net| (index, net)));
                }
            }
        }
        Ok(present)
    }

    async fn up(&self, name: &str, index: u32) -> Result<(), NetworkError> {
        let request = LinkUnspec::new_with_index(index).up().build();
        let failed = |source| NetworkError::Request { doing: format!("switch `{name}` on"), source };
        self.handle.link().set(request).execute().await.map_err(failed)
    }

    async fn add_address(&self, name: &str, index: u32, address: IpNet) -> Result<(), NetworkError> {
        tracing::info!(interface = name, "adding the gateway's address");
        let added = self.handle.address().add(index, address.addr(), address.prefix_len()).execute().await;
        unless_there(added, || format!("add `{address}` to `{name}`"))
    }

    async fn add_default_route(&self, index: u32, router: IpAddr) -> Result<(), NetworkError> {
        let routes = self.handle.route();
        let added = match router {
            IpAddr::V4(router) => {
                let route =
                    RouteMessageBuilder::<std::net::Ipv4Addr>::new().gateway(router).output_interface(index);
                routes.add(route.build()).execute().await
            }
            IpAddr::V6(router) => {
                let route =
                    RouteMessageBuilder::<std::net::Ipv6Addr>::new().gateway(router).output_interface(index);
                routes.add(route.build()).execute().await
            }
        };
        unless_there(added, || format!("add the default route by `{router}`"))
    }
}

fn unless_there(
    result: Result<(), rtnetlink::Error>,
    doing: impl Fn() -> String,
) -> Result<(), NetworkError> {
    match result {
        Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -EEXIST => Ok(()),
        other => other.map_err(|source| NetworkError::Request { doing: doing(), source }),
    }
}

fn is_wireguard(attribute: &LinkAttribute) -> bool {
    let LinkAttribute::LinkInfo(infos) = attribute else { return false };
    infos.iter().any(|info| matches!(info, LinkInfo::Kind(InfoKind::Wireguard)))
}

/// A row of the table, when it says that somebody answers.
fn neighbour(names: &BTreeMap<u32, String>, message: NeighbourMessage) -> Option<Neighbour> {
    let answers = matches!(
        message.header.state,
        NeighbourState::Reachable | NeighbourState::Stale | NeighbourState::Delay | NeighbourState::Probe
    );
    let index = message.header.ifindex;
    let interface = names.get(&index).filter(|_| answers)?.clone();
    // In the other states the kernel is asking already, and must be let come to its end.
    let is_asked = matches!(message.header.state, NeighbourState::Delay | NeighbourState::Probe);
    let (mut address, mut link, mut silence) = (None, None, 0);
    for attribute in message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(found)) => address = Some(found.into()),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(found)) => address = Some(found.into()),
            NeighbourAttribute::LinkLayerAddress(bytes) if bytes.len() == 6 => link = Some(bytes),
            NeighbourAttribute::CacheInfo(info) => silence = info.confirmed,
            _ => {}
        }
    }
    let octets = link?.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>();
    let is_silent = !is_asked && silence >= SILENT_TICKS;
    Some(Neighbour { interface, index, address: address?, link: octets.join(":"), is_silent })
}
