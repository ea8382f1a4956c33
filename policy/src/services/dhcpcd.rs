//! dhcpcd 9.4: a line whose addresses come by DHCPv4 or router advertisements.

use super::ServicesError;
use super::text::{Conf, Name};
use crate::model::{Policy, Wan};

/// The configuration of dhcpcd, or `None` when the line is addressed by the policy alone.
///
/// # Errors
/// [`ServicesError`] names the value that cannot be written.
pub fn dhcpcd_conf(policy: &Policy) -> Result<Option<String>, ServicesError> {
    let mut lines = policy.zones.iter().filter(|zone| zone.is_external()).filter_map(|zone| {
        let wan = zone.wan.as_ref().filter(|wan| wan.dhcp4 || wan.accept_ra)?;
        Some((zone.interface.as_deref()?, wan))
    });
    let Some((interface, wan)) = lines.next() else { return Ok(None) };
    let interface = Name::new(interface)?;
    let mut conf = Conf::new((" ", " "));
    conf.line("allowinterfaces", &[&interface]);
    conf.comment("Names and time come from the policy, not from the line.");
    for hook in [
        "resolv.conf",
        "timesyncd.conf",
        "ntp.conf",
        "chrony.conf",
        "openntpd.conf",
        "yp.conf",
        "ypbind",
        "hostname",
    ] {
        conf.line("nohook", &[&hook]);
    }
    options(&mut conf);
    conf.comment("The line.");
    conf.line("interface", &[&interface]);
    families(&mut conf, wan);
    Ok(Some(conf.into_text()))
}

fn options(conf: &mut Conf) {
    conf.comment("Asked for: an address, a router, an MTU. Routes from the line could draw the clinic's own traffic out.");
    for option in ["subnet_mask", "routers", "interface_mtu"] {
        conf.line("option", &[&option]);
    }
    for refused in
        ["classless_static_routes", "static_routes", "ms_classless_static_routes", "host_name", "domain_name"]
    {
        conf.line("nooption", &[&refused]);
    }
    conf.line("require", &[&"dhcp_server_identifier"]);
    conf.line("noipv4ll", &[]);
}

fn families(conf: &mut Conf, wan: &Wan) {
    let Wan { dhcp4, accept_ra, .. } = wan;
    if !dhcp4 {
        conf.line("noipv4", &[]);
    }
    if *accept_ra {
        conf.line("ipv6rs", &[]);
        // Delegated prefixes come with a later version; until then nothing answers for what DHCPv6 would give.
        conf.line("nodhcp6", &[]);
    } else {
        conf.line("noipv6", &[]);
    }
}
