//! Makes a planned lab real: namespaces, settings, wires, links, addresses.
use std::{fs, path::Path, process::Command};

use crate::{
    LabError, Namespace,
    namespace::ip_batch,
    plan::{GATEWAY, Node, Plan, SWITCH},
    spec::Addressing,
};

const SYSCTL: &str = "/proc/sys/net";

/// Makes everything, in this order because each step stands on the ones before.
pub(crate) fn raise(plan: &Plan, prefix: &str, forwarding: bool) -> Result<(), LabError> {
    let namespace = |name: &str| Namespace::new(format!("{prefix}-{name}"));
    let add: String = plan.namespaces().map(|name| format!("netns add {prefix}-{name}\n")).collect();
    ip_batch(&[], &add)?;
    for name in plan.namespaces() {
        // Before the wires: an interface takes `default` over when it is made.
        set(&namespace(name), &settings(name, plan.nodes.get(name), forwarding))?;
    }
    ip_batch(&[], &plan.wire_lines(prefix))?;
    if plan.has_switch() {
        namespace(SWITCH).ip_batch(&plan.switch_lines())?;
    }
    for (name, node) in &plan.nodes {
        namespace(name).ip_batch(&node.link_lines())?;
    }
    if plan.has_switch() {
        namespace(SWITCH).wait_running(&plan.switch_interfaces())?;
    }
    for (name, node) in &plan.nodes {
        namespace(name).wait_running(&node.interfaces())?;
    }
    for (name, node) in &plan.nodes {
        namespace(name).ip_batch(&node.address_lines())?;
    }
    plan.nodes.iter().try_for_each(|(name, node)| namespace(name).wait_settled(&node.interfaces()))
}

/// Is one kernel setting of a namespace; an optional one may be unknown to the kernel.
struct Setting {
    key: &'static str,
    value: &'static str,
    optional: bool,
}

impl Setting {
    fn new(key: &'static str, value: &'static str) -> Self {
        Self { key, value, optional: false }
    }

    fn optional(key: &'static str, value: &'static str) -> Self {
        Self { key, value, optional: true }
    }
}

fn settings(name: &str, node: Option<&Node>, forwarding: bool) -> Vec<Setting> {
    let forwards = if name == GATEWAY { forwarding } else { node.is_some_and(|node| node.router) };
    let forwards = if forwards { "1" } else { "0" };
    let awaits_router = name != GATEWAY && node.is_some_and(|node| node.addressing == Addressing::None);
    let accept_ra = if awaits_router { "1" } else { "0" };
    let mut settings = vec![
        // First: changing it resets other settings.
        Setting::new("ipv4/ip_forward", forwards),
        Setting::new("ipv6/conf/all/forwarding", forwards),
        // A new namespace may inherit the machine's own values; the lab must not depend on them.
        Setting::new("ipv4/conf/all/rp_filter", "0"),
        Setting::new("ipv4/conf/default/rp_filter", "0"),
        Setting::new("ipv4/conf/all/accept_redirects", "0"),
        Setting::new("ipv4/conf/default/accept_redirects", "0"),
        Setting::new("ipv4/conf/all/send_redirects", "0"),
        Setting::new("ipv4/conf/default/send_redirects", "0"),
        // Duplicate address detection would keep every link-local address back for a second or two.
        Setting::new("ipv6/conf/all/accept_dad", "0"),
        Setting::new("ipv6/conf/default/accept_dad", "0"),
        Setting::new("ipv6/conf/default/dad_transmits", "0"),
        Setting::new("ipv6/conf/default/accept_ra", accept_ra),
    ];
    if name == GATEWAY {
        settings.push(Setting::new("netfilter/nf_conntrack_tcp_loose", "0"));
    }
    if name == SWITCH {
        settings.push(Setting::optional("bridge/bridge-nf-call-iptables", "0"));
        settings.push(Setting::optional("bridge/bridge-nf-call-ip6tables", "0"));
        settings.push(Setting::optional("bridge/bridge-nf-call-arptables", "0"));
    }
    settings
}

fn set(namespace: &Namespace, settings: &[Setting]) -> Result<(), LabError> {
    if settings.iter().any(|setting| setting.key.starts_with("netfilter/")) {
        load_conntrack();
    }
    namespace.run_in(|| {
        settings.iter().try_for_each(|Setting { key, value, optional }| {
            let path = Path::new(SYSCTL).join(key);
            if *optional && !path.exists() {
                return Ok(());
            }
            fs::write(&path, value).map_err(LabError::io(format!("set net/{key} to {value}")))
        })
    })?
}

/// Loads connection tracking where it is a module; whether that worked shows in its settings.
fn load_conntrack() {
    if !Path::new(SYSCTL).join("netfilter").exists() {
        let _ = Command::new("modprobe").arg("nf_conntrack").status();
    }
}
