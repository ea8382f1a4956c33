//! A running lab: hosts, legs, and their end.
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    process::Command,
};

use ipnet::{Ipv4Net, Ipv6Net};

use crate::{
    LabError, Namespace, Server, ServerSpec,
    plan::{GATEWAY, Node, Plan, mac_text},
    raise::raise,
    registry::{Record, Warden, reap},
    spec::{Addressing, Spec},
};

/// Builds a lab from a specification.
#[derive(Clone, Debug)]
pub struct LabBuilder {
    spec: Spec,
    gateway_addresses: bool,
    forwarding: bool,
}

/// Is a lab that runs until it is dropped or its owner ends.
#[derive(Debug)]
pub struct Lab {
    // Order matters: servers end before the warden removes what they stand on.
    servers: Vec<Server>,
    wanted_servers: Vec<(String, ServerSpec)>,
    hosts: BTreeMap<String, Host>,
    gateway: Host,
    record: Record,
    _warden: Warden,
}

/// Is a host, or the gateway, of a running lab.
#[derive(Clone, Debug)]
pub struct Host {
    name: String,
    zone: String,
    namespace: Namespace,
    leg: Leg,
    legs: Vec<Leg>,
}

/// Is one interface of a host or the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leg {
    namespace: Namespace,
    zone: String,
    interface: String,
    mac: [u8; 6],
    v4: Option<Ipv4Net>,
    v6: Option<Ipv6Net>,
}

impl LabBuilder {
    /// Starts from a specification, with addresses on the gateway and no forwarding.
    #[must_use]
    pub fn new(spec: Spec) -> Self {
        Self { spec, gateway_addresses: true, forwarding: false }
    }

    /// Chooses whether the lab gives the gateway its addresses and routes.
    #[must_use]
    pub fn gateway_addresses(mut self, yes: bool) -> Self {
        self.gateway_addresses = yes;
        self
    }

    /// Chooses whether the lab turns forwarding on in the gateway, which is core's task otherwise.
    #[must_use]
    pub fn forwarding(mut self, yes: bool) -> Self {
        self.forwarding = yes;
        self
    }

    /// Builds the lab, after removing what dead owners left behind.
    /// # Errors
    /// Fails without root, on an impossible specification, or when the system refuses something; nothing is
    /// left behind then.
    pub fn build(&self) -> Result<Lab, LabError> {
        let uid = rustix::process::geteuid();
        if !uid.is_root() {
            return Err(LabError::NotRoot { uid: uid.as_raw() });
        }
        let mut plan = Plan::new(&self.spec)?;
        if let (false, Some(gateway)) = (self.gateway_addresses, plan.nodes.get_mut(GATEWAY)) {
            gateway.addressing = Addressing::None;
            gateway.routes.clear();
        }
        reap()?;
        let record = Record::new(&self.spec.name, plan.namespaces())?;
        let warden = Warden::start(&record)?;
        record.register()?;
        raise(&plan, &record.prefix, self.forwarding)?;
        Lab::assemble(&self.spec, &plan, record, warden)
    }
}

impl Lab {
    /// Builds the clinic with addresses on the gateway and no forwarding.
    /// # Errors
    /// As `LabBuilder::build`.
    pub fn clinic() -> Result<Self, LabError> {
        LabBuilder::new(Spec::clinic()).build()
    }

    /// Gives the host of this name, `gw` included.
    /// # Errors
    /// Fails when there is none, and names those that there are.
    pub fn host(&self, name: &str) -> Result<&Host, LabError> {
        if name == GATEWAY {
            return Ok(&self.gateway);
        }
        self.hosts.get(name).ok_or_else(|| LabError::UnknownHost {
            name: name.to_owned(),
            known: self.hosts.keys().map(String::as_str).collect::<Vec<_>>().join(", "),
        })
    }

    /// Gives the gateway, whose legs are its interfaces.
    #[must_use]
    pub fn gateway(&self) -> &Host {
        &self.gateway
    }

    /// Gives every host but the gateway, by name.
    pub fn hosts(&self) -> impl Iterator<Item = &Host> {
        self.hosts.values()
    }

    /// Gives the gateway's leg in a zone.
    /// # Errors
    /// Fails when there is no such zone at the gateway.
    pub fn leg(&self, zone: &str) -> Result<&Leg, LabError> {
        let legs = &self.gateway.legs;
        legs.iter().find(|leg| leg.zone == zone).ok_or_else(|| LabError::UnknownZone {
            name: zone.to_owned(),
            known: legs.iter().map(|leg| leg.zone.as_str()).collect::<Vec<_>>().join(", "),
        })
    }

    /// Makes neighbour entries in the gateway for addresses that may have no owner, each with the hardware
    /// address of one of the zone's hosts, so that packets to them leave on the right leg.
    /// # Errors
    /// Fails for a zone that is unknown or has no host.
    pub fn pin_neighbours(&self, neighbours: &[(&str, IpAddr)]) -> Result<(), LabError> {
        let mut lines = String::new();
        for (zone, address) in neighbours {
            let interface = &self.leg(zone)?.interface;
            let mut owners = self.hosts.values().filter(|host| host.zone == *zone);
            let owner =
                owners.next().ok_or_else(|| LabError::Impossible(format!("zone `{zone}` has no host")))?;
            let mac = mac_text(owner.leg.mac);
            let _ = writeln!(lines, "neigh replace {address} lladdr {mac} nud permanent dev {interface}");
        }
        self.gateway.namespace.ip_batch(&lines)
    }

    /// Starts the servers that the specification names and keeps them until the lab ends.
    /// # Errors
    /// Fails when one cannot be started or does not listen in time.
    pub fn start_servers(&mut self) -> Result<(), LabError> {
        for (host, spec) in std::mem::take(&mut self.wanted_servers) {
            let server = self.serve(&host, spec)?;
            self.servers.push(server);
        }
        Ok(())
    }

    /// Starts one server, which ends when the returned value is dropped.
    /// # Errors
    /// Fails when it cannot be started or does not listen in time.
    pub fn serve(&self, host: &str, spec: ServerSpec) -> Result<Server, LabError> {
        Server::start(self, self.host(host)?, spec)
    }

    /// Gives the servers that `start_servers` started.
    #[must_use]
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// Gives the lab's own directory, which ends with it.
    #[must_use]
    pub fn directory(&self) -> PathBuf {
        self.record.directory()
    }

    /// Gives the beginning of all the lab's namespace names.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.record.prefix
    }

    fn assemble(spec: &Spec, plan: &Plan, record: Record, warden: Warden) -> Result<Self, LabError> {
        let host = |(name, node): (&String, &Node)| Host::new(name, node, &record);
        let mut hosts = BTreeMap::new();
        for host in plan.nodes.iter().map(host) {
            let host = host?;
            hosts.insert(host.name.clone(), host);
        }
        let no_gateway = || LabError::Spec("the gateway has no leg".to_owned());
        let gateway = hosts.remove(GATEWAY).ok_or_else(no_gateway)?;
        let wanted_servers = wanted_servers(spec);
        Ok(Self { servers: Vec::new(), wanted_servers, hosts, gateway, record, _warden: warden })
    }
}

impl Host {
    fn new(name: &str, node: &Node, record: &Record) -> Result<Self, LabError> {
        let namespace = Namespace::new(format!("{}-{name}", record.prefix));
        let addressed = node.addressing == Addressing::Static;
        let legs = node.legs.iter().map(|leg| Leg {
            namespace: namespace.clone(),
            zone: leg.zone.clone(),
            interface: leg.interface.clone(),
            mac: leg.mac,
            v4: leg.v4.filter(|_| addressed),
            v6: leg.v6.filter(|_| addressed),
        });
        let legs: Vec<_> = legs.collect();
        let none = || LabError::Spec(format!("host `{name}` has no interface"));
        let leg = legs.first().cloned().ok_or_else(none)?;
        Ok(Self { name: name.to_owned(), zone: node.zone.clone(), namespace, leg, legs })
    }

    /// Gives the host's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Gives the name of the zone that the host is in; empty for the gateway.
    #[must_use]
    pub fn zone(&self) -> &str {
        &self.zone
    }

    /// Gives the host's namespace.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Gives the host's leg in its zone; the gateway's first leg for the gateway.
    #[must_use]
    pub fn leg(&self) -> &Leg {
        &self.leg
    }

    /// Gives all legs, of which only routers have several.
    #[must_use]
    pub fn legs(&self) -> &[Leg] {
        &self.legs
    }

    /// Gives the host's IPv4 address.
    /// # Errors
    /// Fails when it has none.
    pub fn v4(&self) -> Result<Ipv4Addr, LabError> {
        self.leg.v4.map(|net| net.addr()).ok_or_else(|| self.no_address("IPv4"))
    }

    /// Gives the host's IPv6 address.
    /// # Errors
    /// Fails when it has none.
    pub fn v6(&self) -> Result<Ipv6Addr, LabError> {
        self.leg.v6.map(|net| net.addr()).ok_or_else(|| self.no_address("IPv6"))
    }

    /// Gives the host's addresses, IPv4 first.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.v4().ok().map(IpAddr::from).into_iter().chain(self.v6().ok().map(IpAddr::from))
    }

    /// Prepares a program that will run on the host.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        self.namespace.command(program)
    }

    /// Runs a program on the host to its end and returns its standard output.
    /// # Errors
    /// Fails when it cannot be started or ends with an error.
    pub fn output(&self, program: &str, arguments: &[&str]) -> Result<String, LabError> {
        self.namespace.output(program, arguments)
    }

    /// Runs a closure in a new thread on the host.
    /// # Errors
    /// Fails when the host's namespace cannot be entered.
    pub fn run_in<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, LabError> {
        self.namespace.run_in(work)
    }

    fn no_address(&self, family: &'static str) -> LabError {
        LabError::NoAddress { host: self.name.clone(), family }
    }
}

impl Leg {
    /// Gives the namespace that the interface is in.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Gives the zone's name.
    #[must_use]
    pub fn zone(&self) -> &str {
        &self.zone
    }

    /// Gives the interface's name.
    #[must_use]
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// Gives the hardware address.
    #[must_use]
    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// Gives the IPv4 address with the network's length, if the lab gave one.
    #[must_use]
    pub fn v4(&self) -> Option<Ipv4Net> {
        self.v4
    }

    /// Gives the IPv6 address with the network's length, if the lab gave one.
    #[must_use]
    pub fn v6(&self) -> Option<Ipv6Net> {
        self.v6
    }

    /// Sets the longest packet that the interface sends.
    /// # Errors
    /// Fails when the kernel refuses the number.
    pub fn set_mtu(&self, mtu_bytes: u32) -> Result<(), LabError> {
        self.namespace.ip_batch(&format!("link set {} mtu {mtu_bytes}\n", self.interface))
    }

    /// Pulls the cable out, or puts it back and waits until the link runs. The kernel forgets the IPv6 addresses
    /// and the routes of an interface that is set down: best pull it at the end that does not need them.
    /// # Errors
    /// Fails when the interface is gone or does not run in time, as when its other end is down.
    pub fn set_up(&self, up: bool) -> Result<(), LabError> {
        let state = if up { "up" } else { "down" };
        self.namespace.ip_batch(&format!("link set {} {state}\n", self.interface))?;
        if up { self.namespace.wait_running(&[self.interface.as_str()].into()) } else { Ok(()) }
    }
}

fn wanted_servers(spec: &Spec) -> Vec<(String, ServerSpec)> {
    let mut wanted = Vec::new();
    let mut zones: Vec<_> = spec.zones.iter().collect();
    while let Some(zone) = zones.pop() {
        for host in &zone.hosts {
            wanted.extend(host.servers.iter().map(|server| (host.name.clone(), *server)));
            zones.extend(&host.behind);
        }
    }
    wanted
}
