//! A lab as a value: one gateway, the zones around it, the hosts in them and what lies behind those.
//! Nothing here touches the system; `plan` turns a specification into names, wires and addresses.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::ServerSpec;

/// Describes a whole lab.
#[derive(Clone, Debug)]
pub struct Spec {
    /// What the lab is called in lists.
    pub name: String,
    /// The networks around the gateway, in order.
    pub zones: Vec<ZoneSpec>,
    /// Routes of the gateway besides those to its own zones and the uplink.
    pub routes: Vec<RouteSpec>,
}

/// Describes a network, the router's leg in it and its hosts.
#[derive(Clone, Debug)]
pub struct ZoneSpec {
    /// The zone's name, as in a policy.
    pub name: String,
    /// The name of the router's interface in this zone (at most 15 bytes).
    pub interface: String,
    /// The router's IPv4 address and the network's length.
    pub router_v4: Option<Ipv4Net>,
    /// The router's IPv6 address and the network's length.
    pub router_v6: Option<Ipv6Net>,
    /// The hosts; several are joined by a bridge, a single one is wired to the router directly.
    pub hosts: Vec<HostSpec>,
    /// Whether the router's own default route leaves here, through the first host.
    pub uplink: bool,
}

/// Describes a host, which is a router as well when something lies behind it.
#[derive(Clone, Debug)]
pub struct HostSpec {
    /// The host's name, unique in the lab.
    pub name: String,
    /// Its IPv4 address in the zone's network.
    pub v4: Option<Ipv4Addr>,
    /// Its IPv6 address in the zone's network.
    pub v6: Option<Ipv6Addr>,
    /// Whether the lab gives it these addresses or something else has to.
    pub addressing: Addressing,
    /// The servers that `Lab::start_servers` starts here.
    pub servers: Vec<ServerSpec>,
    /// Networks behind this host.
    pub behind: Vec<ZoneSpec>,
    /// Routes besides the default one.
    pub routes: Vec<RouteSpec>,
}

/// Says who gives a host its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addressing {
    /// The lab does, with a default route through the zone's router.
    Static,
    /// Nobody yet: the link is up, router advertisements are accepted, DHCP is left to the test.
    None,
}

/// Describes one route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteSpec {
    /// Where to.
    pub to: IpNet,
    /// Through which neighbour.
    pub via: IpAddr,
}

impl ZoneSpec {
    /// Describes a zone without hosts.
    #[must_use]
    pub fn new(name: &str, interface: &str, router_v4: Option<Ipv4Net>, router_v6: Option<Ipv6Net>) -> Self {
        Self {
            name: name.to_owned(),
            interface: interface.to_owned(),
            router_v4,
            router_v6,
            hosts: Vec::new(),
            uplink: false,
        }
    }

    /// Adds a host.
    #[must_use]
    pub fn host(mut self, host: HostSpec) -> Self {
        self.hosts.push(host);
        self
    }

    /// Makes this the zone through which the router reaches everything else.
    #[must_use]
    pub fn uplink(mut self) -> Self {
        self.uplink = true;
        self
    }
}

impl HostSpec {
    /// Describes a host with static addresses.
    #[must_use]
    pub fn new(name: &str, v4: Option<Ipv4Addr>, v6: Option<Ipv6Addr>) -> Self {
        Self {
            name: name.to_owned(),
            v4,
            v6,
            addressing: Addressing::Static,
            servers: Vec::new(),
            behind: Vec::new(),
            routes: Vec::new(),
        }
    }

    /// Describes a host that comes up without addresses.
    #[must_use]
    pub fn unaddressed(name: &str) -> Self {
        Self { addressing: Addressing::None, ..Self::new(name, None, None) }
    }

    /// Adds a server that `Lab::start_servers` starts.
    #[must_use]
    pub fn server(mut self, server: ServerSpec) -> Self {
        self.servers.push(server);
        self
    }

    /// Puts a network behind this host, which thereby forwards.
    #[must_use]
    pub fn behind(mut self, zone: ZoneSpec) -> Self {
        self.behind.push(zone);
        self
    }

    /// Adds a route.
    #[must_use]
    pub fn route(mut self, to: impl Into<IpNet>, via: impl Into<IpAddr>) -> Self {
        self.routes.push(RouteSpec { to: to.into(), via: via.into() });
        self
    }
}

impl Spec {
    /// Describes a lab without zones.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), zones: Vec::new(), routes: Vec::new() }
    }

    /// Adds a zone.
    #[must_use]
    pub fn zone(mut self, zone: ZoneSpec) -> Self {
        self.zones.push(zone);
        self
    }

    /// Describes the smallest lab with a gateway: `client` (10.0.1.2, fd00:1::2) on `lan0`, `server`
    /// (10.0.2.2, fd00:2::2) on `lan1`, zones `left` and `right`.
    #[must_use]
    pub fn client_router_server() -> Self {
        Self::new("client-router-server")
            .zone(small_zone("left", "lan0", 1, "client"))
            .zone(small_zone("right", "lan1", 2, "server"))
    }
}

fn small_zone(name: &str, interface: &str, number: u8, host: &str) -> ZoneSpec {
    let v4 = |last| Ipv4Addr::new(10, 0, number, last);
    let v6 = |last| Ipv6Addr::new(0xfd00, u16::from(number), 0, 0, 0, 0, 0, last);
    ZoneSpec::new(name, interface, Some(net4(v4(1), 24)), Some(net6(v6(1), 64))).host(HostSpec::new(
        host,
        Some(v4(2)),
        Some(v6(2)),
    ))
}

/// Joins an address and a prefix length that is right by construction.
pub(crate) fn net4(address: Ipv4Addr, length: u8) -> Ipv4Net {
    Ipv4Net::new(address, length).unwrap_or_else(|_| Ipv4Net::from(address))
}

/// Joins an address and a prefix length that is right by construction.
pub(crate) fn net6(address: Ipv6Addr, length: u8) -> Ipv6Net {
    Ipv6Net::new(address, length).unwrap_or_else(|_| Ipv6Net::from(address))
}
