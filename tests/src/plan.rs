//! Turns a specification into namespaces, wires, addresses and routes, and these into `ip -batch` lines.
//! Pure: names and numbers only, so that a wrong specification fails before anything exists.
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    net::IpAddr,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::{
    LabError,
    spec::{Addressing, HostSpec, RouteSpec, Spec, ZoneSpec, net4, net6},
};

/// The name of the gateway's node.
pub const GATEWAY: &str = "gw";
/// The name of the node that holds the bridges.
pub(crate) const SWITCH: &str = "switch";
/// The interface of every host towards its zone.
const HOST_INTERFACE: &str = "eth0";
/// Linux's limit on interface names without the closing zero; node names keep to it as well.
const NAME_LIMIT_BYTES: usize = 15;
/// More hosts than this in one lab are a mistake.
const NODES_LIMIT: usize = 1_000;

/// Is a host's or router's part in the lab.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) zone: String,
    pub(crate) legs: Vec<PlannedLeg>,
    pub(crate) routes: Vec<(Option<IpNet>, IpAddr)>,
    pub(crate) router: bool,
    pub(crate) addressing: Addressing,
}

/// Is one interface of a node.
#[derive(Clone, Debug)]
pub(crate) struct PlannedLeg {
    pub(crate) zone: String,
    pub(crate) interface: String,
    pub(crate) mac: [u8; 6],
    pub(crate) v4: Option<Ipv4Net>,
    pub(crate) v6: Option<Ipv6Net>,
}

/// Is everything to be made: nodes by name, and veth pairs between (node, interface) ends.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) nodes: BTreeMap<String, Node>,
    wires: Vec<[End; 2]>,
    /// The ports of each bridge.
    bridges: BTreeMap<String, Vec<String>>,
    zones: BTreeSet<String>,
}

#[derive(Clone, Debug)]
struct End {
    node: String,
    interface: String,
    mac: Option<[u8; 6]>,
}

impl Plan {
    pub(crate) fn new(spec: &Spec) -> Result<Self, LabError> {
        let mut plan = Self::default();
        let mut gateway = Node::new("", true, Addressing::Static);
        gateway.routes = spec.routes.iter().map(|route| (Some(route.to), route.via)).collect();
        plan.add_node(GATEWAY, gateway)?;
        for zone in &spec.zones {
            plan.add_zone(GATEWAY, zone)?;
        }
        if plan.wires.is_empty() {
            return Err(LabError::Spec("no zone has a host; add one".to_owned()));
        }
        Ok(plan)
    }

    /// Names every namespace that is needed, the switch included where there is a bridge.
    pub(crate) fn namespaces(&self) -> impl Iterator<Item = &str> {
        let switch = self.has_switch().then_some(SWITCH);
        self.nodes.keys().map(String::as_str).chain(switch)
    }

    /// Tells whether any zone needs a bridge.
    pub(crate) fn has_switch(&self) -> bool {
        !self.bridges.is_empty()
    }

    fn add_node(&mut self, name: &str, node: Node) -> Result<(), LabError> {
        check_name("host", name)?;
        if name == SWITCH || self.nodes.contains_key(name) {
            return Err(LabError::Spec(format!("host `{name}` exists twice; rename one")));
        }
        if self.nodes.len() >= NODES_LIMIT {
            return Err(LabError::Spec(format!("more than {NODES_LIMIT} hosts")));
        }
        self.nodes.insert(name.to_owned(), node);
        Ok(())
    }

    fn add_zone(&mut self, router: &str, zone: &ZoneSpec) -> Result<(), LabError> {
        check_name("interface", &zone.interface)?;
        if !self.zones.insert(zone.name.clone()) {
            return Err(LabError::Spec(format!("zone `{}` exists twice; rename one", zone.name)));
        }
        let segment = u16::try_from(self.zones.len()).unwrap_or(u16::MAX);
        let leg = PlannedLeg {
            zone: zone.name.clone(),
            interface: zone.interface.clone(),
            mac: mac(segment, 0),
            v4: zone.router_v4,
            v6: zone.router_v6,
        };
        let mut ends = vec![leg.end(router)];
        self.add_router_leg(router, zone, leg)?;
        for (number, host) in (1..).zip(&zone.hosts) {
            ends.push(self.add_host(zone, host, mac(segment, number))?);
        }
        self.join(ends);
        zone.hosts
            .iter()
            .try_for_each(|host| host.behind.iter().try_for_each(|behind| self.add_zone(&host.name, behind)))
    }

    fn add_router_leg(&mut self, router: &str, zone: &ZoneSpec, leg: PlannedLeg) -> Result<(), LabError> {
        let unknown = || LabError::Spec(format!("no router `{router}`"));
        let node = self.nodes.get_mut(router).ok_or_else(unknown)?;
        if node.legs.iter().any(|other| other.interface == leg.interface) {
            let interface = &leg.interface;
            return Err(LabError::Spec(format!("`{router}` has two interfaces `{interface}`; rename one")));
        }
        node.legs.push(leg);
        if let (true, Some(next)) = (zone.uplink, zone.hosts.first()) {
            node.routes.extend(default_routes(next.v4, next.v6));
        }
        Ok(())
    }

    fn add_host(&mut self, zone: &ZoneSpec, host: &HostSpec, mac: [u8; 6]) -> Result<End, LabError> {
        let mut node = Node::new(&zone.name, !host.behind.is_empty(), host.addressing);
        let leg = PlannedLeg {
            zone: zone.name.clone(),
            interface: HOST_INTERFACE.to_owned(),
            mac,
            v4: v4_in(zone, host)?,
            v6: v6_in(zone, host)?,
        };
        if host.addressing == Addressing::Static && !zone.uplink {
            let v4 = leg.v4.and(zone.router_v4).map(|net| net.addr());
            let v6 = leg.v6.and(zone.router_v6).map(|net| net.addr());
            node.routes.extend(default_routes(v4, v6));
        }
        node.routes.extend(host.routes.iter().map(|RouteSpec { to, via }| (Some(*to), *via)));
        let end = leg.end(&host.name);
        node.legs.push(leg);
        self.add_node(&host.name, node)?;
        Ok(end)
    }

    /// Wires two ends directly, more through a bridge; a lone end gets a bridge too, to have a carrier.
    fn join(&mut self, ends: Vec<End>) {
        if let [one, other] = ends.as_slice() {
            self.wires.push([one.clone(), other.clone()]);
            return;
        }
        let number = self.bridges.len();
        let ports = self.bridges.entry(format!("br{number}")).or_default();
        for (port, end) in ends.into_iter().enumerate() {
            let interface = format!("b{number}p{port}");
            ports.push(interface.clone());
            self.wires.push([end, End { node: SWITCH.to_owned(), interface, mac: None }]);
        }
    }

    /// Writes the lines that make the wires, to be run outside the namespaces.
    pub(crate) fn wire_lines(&self, prefix: &str) -> String {
        let mut lines = String::new();
        for [one, other] in &self.wires {
            let (one, other) = (one.words(prefix), other.words(prefix));
            lines.push_str(&format!("link add {one} type veth peer {other}\n"));
        }
        lines
    }

    /// Names the switch's bridges and ports.
    pub(crate) fn switch_interfaces(&self) -> BTreeSet<&str> {
        self.bridges
            .iter()
            .flat_map(|(bridge, ports)| ports.iter().chain([bridge]))
            .map(String::as_str)
            .collect()
    }

    /// Writes the lines that bring the bridges up, to be run inside the switch.
    pub(crate) fn switch_lines(&self) -> String {
        let mut lines = String::new();
        for (bridge, ports) in &self.bridges {
            // Snooping would swallow neighbour discovery until it has learnt who listens.
            let quiet = "stp_state 0 forward_delay 0 mcast_snooping 0";
            let _ = writeln!(lines, "link add {bridge} up type bridge {quiet}");
            ports.iter().for_each(|port| lines.push_str(&format!("link set {port} master {bridge} up\n")));
        }
        lines
    }
}

impl Node {
    fn new(zone: &str, router: bool, addressing: Addressing) -> Self {
        let (legs, routes) = (Vec::new(), Vec::new());
        Self { zone: zone.to_owned(), legs, routes, router, addressing }
    }

    /// Names the node's interfaces.
    pub(crate) fn interfaces(&self) -> BTreeSet<&str> {
        self.legs.iter().map(|leg| leg.interface.as_str()).collect()
    }

    /// Writes the lines that bring the links up, to be run inside the node's namespace.
    pub(crate) fn link_lines(&self) -> String {
        let names = self.legs.iter().map(|leg| leg.interface.as_str());
        names.chain(["lo"]).map(|name| format!("link set {name} up\n")).collect()
    }

    /// Writes the lines that add addresses and routes, to be run when every link is up.
    pub(crate) fn address_lines(&self) -> String {
        let mut lines = String::new();
        for leg in self.legs.iter().filter(|_| self.addressing == Addressing::Static) {
            let interface = &leg.interface;
            if let Some(v4) = leg.v4 {
                let _ = writeln!(lines, "address add {v4} brd + dev {interface}");
            }
            if let Some(v6) = leg.v6 {
                // Not `nodad`: tentative is how the address shows that its solicited-node group is not joined yet.
                let _ = writeln!(lines, "address add {v6} dev {interface}");
            }
        }
        for (to, via) in &self.routes {
            let to = to.map_or_else(|| "default".to_owned(), |net| net.trunc().to_string());
            let _ = writeln!(lines, "route add {to} via {via}");
        }
        lines
    }
}

impl PlannedLeg {
    fn end(&self, node: &str) -> End {
        End { node: node.to_owned(), interface: self.interface.clone(), mac: Some(self.mac) }
    }
}

impl End {
    fn words(&self, prefix: &str) -> String {
        let address = self.mac.map_or_else(String::new, |mac| format!(" address {}", mac_text(mac)));
        format!("name {}{address} netns {prefix}-{}", self.interface, self.node)
    }
}

/// Writes a hardware address in the usual form.
#[must_use]
pub fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// Makes a locally administered address that tells segment and host; the router is host 0.
fn mac(segment: u16, host: u16) -> [u8; 6] {
    let ([a, b], [c, d]) = (segment.to_be_bytes(), host.to_be_bytes());
    [0x02, 0x5e, a, b, c, d]
}

fn default_routes(
    v4: Option<impl Into<IpAddr>>,
    v6: Option<impl Into<IpAddr>>,
) -> impl Iterator<Item = (Option<IpNet>, IpAddr)> {
    v4.map(Into::into).into_iter().chain(v6.map(Into::into)).map(|via| (None, via))
}

/// Gives the host's address with the zone's prefix length, checked to lie in the zone's network.
fn v4_in(zone: &ZoneSpec, host: &HostSpec) -> Result<Option<Ipv4Net>, LabError> {
    let Some(address) = host.v4 else { return Ok(None) };
    let network = zone.router_v4.filter(|network| network.contains(&address));
    let length = network.map(|network| network.prefix_len());
    length.map(|length| net4(address, length)).ok_or_else(|| outside(address.into(), host, zone)).map(Some)
}

/// Gives the host's address with the zone's prefix length, checked to lie in the zone's network.
fn v6_in(zone: &ZoneSpec, host: &HostSpec) -> Result<Option<Ipv6Net>, LabError> {
    let Some(address) = host.v6 else { return Ok(None) };
    let network = zone.router_v6.filter(|network| network.contains(&address));
    let length = network.map(|network| network.prefix_len());
    length.map(|length| net6(address, length)).ok_or_else(|| outside(address.into(), host, zone)).map(Some)
}

fn outside(address: IpAddr, host: &HostSpec, zone: &ZoneSpec) -> LabError {
    let (host, zone) = (&host.name, &zone.name);
    LabError::Spec(format!("host `{host}` has the address `{address}` outside zone `{zone}`"))
}

fn check_name(what: &str, name: &str) -> Result<(), LabError> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    if !name.is_empty() && name.len() <= NAME_LIMIT_BYTES && name.chars().all(plain) && !name.starts_with('-')
    {
        return Ok(());
    }
    let rule = "use 1 to 15 of a-z, 0-9, `-` and `.`, not starting with `-`";
    Err(LabError::Spec(format!("{what} name `{name}` is not possible; {rule}")))
}
