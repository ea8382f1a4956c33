//! dnsmasq 2.90, twice: DNS forwarding in one process, DHCPv4 pools and router advertisements in another.
//!
//! dnsmasq refuses to serve DHCPv4 without CAP_NET_ADMIN; what parses DNS from the internet must not hold it. Nothing is
//! lost by the split: clients' names for themselves were never believed, so DNS knew nothing from leases.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};

use super::text::{Bracketed, Conf, FilePath, Mac, Name, Tagged};
use super::{LEASES_USER, LOCAL_DOMAIN, NAMES_USER, ServicePaths, ServicesError};
use crate::model::{DhcpPool, Policy, Zone, ZoneId};

/// Names kept in the cache.
const CACHE_NAMES: u32 = 2_000;
/// Questions under way at once; more are refused.
const QUESTIONS_MAX: u32 = 300;
/// Longest time that an answer is believed.
const CACHE_TTL_MAX_S: u32 = 86_400;
/// Largest DNS answer over UDP: what fits every path (DNS flag day 2020).
const ANSWER_BYTES_MAX: u32 = 1_232;

/// The configuration of the dnsmasq that answers DNS, or `None` when no zone asks for it.
///
/// # Errors
/// [`ServicesError`] names the value that cannot be written.
pub fn names_conf(policy: &Policy, paths: &ServicePaths) -> Result<Option<String>, ServicesError> {
    let served = served(policy, |zone| zone.dns)?;
    if served.is_empty() {
        return Ok(None);
    }
    let mut conf = Conf::new(("=", ","));
    process(&mut conf, NAMES_USER, &paths.names_pid);
    interfaces(&mut conf, policy, &served)?;
    names(&mut conf, policy);
    Ok(Some(conf.into_text()))
}

/// The configuration of the dnsmasq that serves DHCPv4 and router advertisements, or `None` when no zone asks for them.
///
/// # Errors
/// [`ServicesError`] names the value that cannot be written.
pub fn leases_conf(policy: &Policy, paths: &ServicePaths) -> Result<Option<String>, ServicesError> {
    let served = served(policy, |zone| zone.dhcp.is_some() || zone.router_advertisement)?;
    if served.is_empty() {
        return Ok(None);
    }
    let mut conf = Conf::new(("=", ","));
    process(&mut conf, LEASES_USER, &paths.leases_pid);
    interfaces(&mut conf, policy, &served)?;
    conf.comment("DNS is another process's work, one without power over the network.");
    conf.line("port", &[&0]);
    if served.iter().any(|served| served.zone.router_advertisement) {
        conf.comment("Router advertisements (RFC 4861): addresses by SLAAC only.");
        conf.line("enable-ra", &[]);
        conf.line("quiet-ra", &[]);
        served.iter().for_each(|served| advertise(&mut conf, served));
    }
    if served.iter().any(|served| served.zone.dhcp.is_some()) {
        leases(&mut conf, &served, paths);
        for served in &served {
            pool(&mut conf, policy, served)?;
        }
    }
    Ok(Some(conf.into_text()))
}

/// A zone with what of it goes into the file.
struct Served<'a> {
    id: ZoneId,
    zone: &'a Zone,
    interface: Name,
    tag: Name,
}

impl<'a> Served<'a> {
    fn new((id, zone): (ZoneId, &'a Zone)) -> Result<Self, ServicesError> {
        let interface = Name::new(zone.interface.as_deref().unwrap_or_default())?;
        Ok(Served { id, zone, interface, tag: Name::new(&zone.slug)? })
    }
}

/// The zones that ask; never the outside, whatever its keys say.
fn served(policy: &Policy, asks: fn(&Zone) -> bool) -> Result<Vec<Served<'_>>, ServicesError> {
    let inside = |zone: &Zone| !zone.is_external() && zone.interface.is_some();
    policy.zones().filter(|(_, zone)| inside(zone) && asks(zone)).map(Served::new).collect()
}

fn process(conf: &mut Conf, user: &'static str, pid: &FilePath) {
    conf.line("user", &[&user]);
    conf.line("group", &[&user]);
    conf.line("pid-file", &[pid]);
    conf.line("log-facility", &[&"-"]);
    // Nothing but this file: no resolv.conf, no hosts file.
    conf.line("no-resolv", &[]);
    conf.line("no-poll", &[]);
    conf.line("no-hosts", &[]);
}

fn interfaces(conf: &mut Conf, policy: &Policy, served: &[Served<'_>]) -> Result<(), ServicesError> {
    conf.comment("Only these interfaces, also when they come later; never the outside.");
    conf.line("bind-dynamic", &[]);
    for Served { interface, .. } in served {
        conf.line("interface", &[interface]);
    }
    conf.line("except-interface", &[&"lo"]);
    for zone in policy.zones.iter().filter(|zone| zone.is_external()) {
        if let Some(interface) = &zone.interface {
            conf.line("except-interface", &[&Name::new(interface)?]);
        }
    }
    Ok(())
}

fn names(conf: &mut Conf, policy: &Policy) {
    conf.comment("DNS: forwarded to the line's resolvers, answers about private addresses refused.");
    for resolver in policy.zones.iter().filter_map(|zone| zone.wan.as_ref()).flat_map(|wan| &wan.resolvers) {
        conf.line("server", &[resolver]);
    }
    conf.line("domain-needed", &[]);
    conf.line("bogus-priv", &[]);
    conf.line("stop-dns-rebind", &[]);
    conf.line("filterwin2k", &[]);
    conf.line("local", &[&LocalDomain]);
    conf.line("cache-size", &[&CACHE_NAMES]);
    conf.line("dns-forward-max", &[&QUESTIONS_MAX]);
    conf.line("max-cache-ttl", &[&CACHE_TTL_MAX_S]);
    conf.line("edns-packet-max", &[&ANSWER_BYTES_MAX]);
}

/// `/DOMAIN/`, as dnsmasq writes "only this domain".
struct LocalDomain;

impl std::fmt::Display for LocalDomain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "/{LOCAL_DOMAIN}/")
    }
}

impl super::text::Atom for LocalDomain {}

fn advertise(conf: &mut Conf, served: &Served<'_>) {
    let Served { zone, tag, .. } = served;
    if !zone.router_advertisement {
        return;
    }
    let prefixes = zone.networks.iter().filter_map(|net| match net {
        IpNet::V6(net) => Some(net),
        IpNet::V4(_) => None,
    });
    for net in prefixes {
        conf.line(
            "dhcp-range",
            &[&Tagged("set", tag), &net.network(), &"ra-only", &u32::from(net.prefix_len())],
        );
    }
    // Without a value the option is withheld; left out, dnsmasq would name itself.
    match own6(zone).filter(|_| zone.dns) {
        Some(own) => conf.line("dhcp-option", &[&Tagged("tag", tag), &"option6:dns-server", &Bracketed(own)]),
        None => conf.line("dhcp-option", &[&Tagged("tag", tag), &"option6:dns-server"]),
    }
}

fn leases(conf: &mut Conf, served: &[Served<'_>], paths: &ServicePaths) {
    let size = |pool: &DhcpPool| u32::from(pool.last).saturating_sub(u32::from(pool.first)).saturating_add(1);
    let total =
        served.iter().filter_map(|served| served.zone.dhcp.as_ref()).map(size).fold(0, u32::saturating_add);
    conf.comment("DHCPv4 (RFC 2131). A client's own name for itself is not believed.");
    conf.line("dhcp-authoritative", &[]);
    // The gateway may not ping the zone; without this every first offer waits three seconds for an answer.
    conf.line("no-ping", &[]);
    conf.line("dhcp-ignore-names", &[]);
    conf.line("quiet-dhcp", &[]);
    conf.line("dhcp-leasefile", &[&paths.leases]);
    conf.line("dhcp-lease-max", &[&total]);
}

fn pool(conf: &mut Conf, policy: &Policy, served: &Served<'_>) -> Result<(), ServicesError> {
    let Served { id, zone, tag, .. } = served;
    let Some(DhcpPool { first, last, lease_s }) = &zone.dhcp else { return Ok(()) };
    let Some((net, own)) = network_of_pool(zone, *first, *last) else {
        return Err(ServicesError::Pool { zone: zone.name.clone() });
    };
    conf.line("dhcp-range", &[&Tagged("set", tag), first, last, &net.netmask(), lease_s]);
    let mut option = |name: &'static str, value: Option<Ipv4Addr>| match value {
        Some(value) => conf.line("dhcp-option", &[&Tagged("tag", tag), &name, &value]),
        None => conf.line("dhcp-option", &[&Tagged("tag", tag), &name]),
    };
    option("option:router", Some(own));
    option("option:dns-server", zone.dns.then_some(own));
    if zone.ntp {
        option("option:ntp-server", Some(own));
    }
    for device in policy.devices.iter().filter(|device| device.zone == *id) {
        let inside = |address: &IpAddr| matches!(address, IpAddr::V4(v4) if net.contains(v4));
        if let (Some(mac), Some(address)) = (&device.mac, device.addresses.iter().copied().find(inside)) {
            conf.line("dhcp-host", &[&Mac::new(mac)?, &address]);
        }
    }
    Ok(())
}

/// The zone's network that holds the whole pool, and the gateway's address in it.
fn network_of_pool(zone: &Zone, first: Ipv4Addr, last: Ipv4Addr) -> Option<(Ipv4Net, Ipv4Addr)> {
    zone.networks.iter().find_map(|net| {
        let IpNet::V4(net) = net else { return None };
        let own = zone.gateway.iter().find_map(|own| match own.addr() {
            IpAddr::V4(own) => net.contains(&own).then_some(own),
            IpAddr::V6(_) => None,
        })?;
        (first <= last && net.contains(&first) && net.contains(&last)).then_some((*net, own))
    })
}

fn own6(zone: &Zone) -> Option<Ipv6Addr> {
    zone.gateway.iter().find_map(|own| match own.addr() {
        IpAddr::V6(own) => Some(own),
        IpAddr::V4(_) => None,
    })
}
