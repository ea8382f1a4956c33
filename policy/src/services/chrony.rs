//! chrony 4.3: the gateway's own time, and time for the zones that ask for it (RFC 5905).

use std::net::Ipv4Addr;

use super::text::Conf;
use super::{ServicePaths, ServicesError};
use crate::model::Policy;

/// The port of chrony's monitoring protocol.
const CMD_PORT: u32 = 323;

/// The configuration of chronyd. It always keeps the gateway's own time.
///
/// # Errors
/// [`ServicesError`] names the value that cannot be written.
pub fn chrony_conf(policy: &Policy, paths: &ServicePaths) -> Result<String, ServicesError> {
    let mut conf = Conf::new((" ", " "));
    conf.line("pidfile", &[&paths.chrony_pid]);
    conf.line("driftfile", &[&paths.drift]);
    conf.comment(
        "Commands by the local socket only; at the loopback chronyd tells how it is, and takes no orders.",
    );
    conf.line("cmdport", &[&CMD_PORT]);
    conf.line("bindcmdaddress", &[&paths.chrony_socket]);
    conf.line("bindcmdaddress", &[&Ipv4Addr::LOCALHOST]);
    conf.comment(
        "A wrong clock is set at once after the start; later it is only slewed, so that no window jumps.",
    );
    conf.line("makestep", &[&"1.0", &3]);
    conf.line("rtcsync", &[]);
    for server in policy.zones.iter().filter_map(|zone| zone.wan.as_ref()).flat_map(|wan| &wan.time_servers) {
        conf.line("server", &[server, &"iburst"]);
    }
    let zones =
        policy.zones.iter().filter(|zone| zone.ntp && !zone.is_external() && zone.interface.is_some());
    let clients: Vec<_> = zones.flat_map(|zone| &zone.networks).collect();
    if clients.is_empty() {
        conf.comment("No zone asks for time: no server port.");
        conf.line("port", &[&0]);
    } else {
        conf.comment("Zones that may ask.");
        clients.iter().for_each(|net| conf.line("allow", &[*net]));
        conf.line("ratelimit", &[&"interval", &1, &"burst", &16, &"leak", &2]);
    }
    Ok(conf.into_text())
}
