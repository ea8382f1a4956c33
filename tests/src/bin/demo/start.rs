//! Sections 1 and 2: the clinic comes up, the policy is applied and read back.
use std::process::Command;

use anyhow::{Context, Result};
use lab::{Prober, Role};
use serde_json::Value;

use crate::{
    Sabotage, log,
    sabotage::{self, TABLE},
    screen::Screen,
    site::{POLICY, Said, Site},
    streams::Stream,
};

/// The bit of CAP_NET_ADMIN (linux/capability.h).
const CAP_NET_ADMIN: u32 = 12;

/// Shows the clinic, starts the roles, and shows that nothing passes before there is a policy.
pub(crate) fn clinic(screen: &mut Screen, site: &mut Site) -> Result<()> {
    let words = screen.words;
    screen.section(&words.clinic());
    screen.say(&site.lab().picture());
    screen.say(&words.clinic_up(site.lab().hosts().count(), site.lab().servers().len()));
    site.start_roles()?;
    let mut as_designed = true;
    for (name, role) in site.roles() {
        let identity = Identity::read(role)?;
        let capabilities = identity.capability_names().unwrap_or_else(|| words.nothing());
        let seccomp = if identity.seccomp { words.on() } else { words.off() };
        let line = words.role_line(name, &identity.user, identity.uid, capabilities, seccomp);
        screen.say(&line);
        let wanted = if name == "core" { 1 << CAP_NET_ADMIN } else { 0 };
        as_designed &= identity.uid != 0 && identity.no_new_privileges && identity.seccomp;
        as_designed &= identity.capabilities == wanted;
    }
    screen.expect(as_designed, &words.roles())?;
    let outcome = forbidden_for_a_moment(site)?;
    let silent = outcome.0 > 0 && outcome.1 == 0;
    Ok(screen.expect(silent, &words.silent_before(outcome.0, outcome.1))?)
}

/// Applies the example and lets the daemon compare the kernel with it.
pub(crate) fn apply(screen: &mut Screen, site: &Site, sabotage: Option<Sabotage>) -> Result<()> {
    let words = screen.words;
    screen.section(&words.applying());
    let said = site.run(screen, &["apply", POLICY])?;
    screen.expect(said.ended(0), &words.applied(said.took.as_millis()))?;
    if sabotage == Some(Sabotage::Readback) {
        sabotage::edit_a_rule(screen, site)?;
    }
    let said = site.run(screen, &["verify"])?;
    let (rules, elements) = in_kernel(site)?;
    let (equal, id) = (said.ended(0) && rules > 0 && elements > 0, id_in_force(site)?);
    let line = if equal { words.verified(rules, elements, id) } else { words.differs(rules, elements, id) };
    screen.expect(equal, &line)?;
    screen.say(&words.time_trusted());
    site.run(screen, &["time", "trusted"])?;
    log::take_along(screen, site)
}

/// The first letters of the identity of the policy in force, as the daemon tells it.
pub(crate) fn id_in_force(site: &Site) -> Result<String> {
    let said: Said = site.ask(&["--json", "status"])?;
    let status = said.json()?;
    let id = status.pointer("/policy/id").and_then(Value::as_str).unwrap_or("-");
    Ok(id.chars().take(12).collect())
}

/// Sends packets from the waiting room to the records for a moment; returns how many were sent and arrived.
pub(crate) fn forbidden_for_a_moment(site: &Site) -> Result<(u64, u64)> {
    const PORT: u16 = 443;
    const RATE_PER_SECOND: u32 = 200;
    let stream = Stream::start(site, Prober::udp_fresh, ["phone", "ehr-server"], PORT, RATE_PER_SECOND)?;
    std::thread::sleep(std::time::Duration::from_millis(300));
    let outcome = stream.stop(std::time::Duration::from_millis(100))?;
    Ok((outcome.sent(), outcome.received()))
}

/// Counts the rules and elements of our table as the kernel lists them.
fn in_kernel(site: &Site) -> Result<(usize, usize)> {
    let said = site.quietly_on(lab::GATEWAY, "nft", &["-j", "list", "table", "inet", TABLE])?;
    let listing = said.json()?;
    let objects = listing.get("nftables").and_then(Value::as_array).context("nft lists nothing")?;
    let rules = objects.iter().filter(|object| object.get("rule").is_some()).count();
    let elements = |object: &Value| {
        let set = object.get("set").or_else(|| object.get("map"));
        set.and_then(|set| set.get("elem")).and_then(Value::as_array).map_or(0, Vec::len)
    };
    Ok((rules, objects.iter().map(elements).sum()))
}

/// Is what the kernel says of a process (proc_pid_status(5)).
struct Identity {
    uid: u32,
    user: String,
    capabilities: u64,
    no_new_privileges: bool,
    seccomp: bool,
}

impl Identity {
    fn read(role: &Role) -> Result<Self> {
        let status = role.status()?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|line| line.split_whitespace().next())
                .with_context(|| format!("no {name} in /proc"))
        };
        let uid = field("Uid")?.parse()?;
        // All five sets: what is not bounding could come back by a set-user-id program.
        let sets = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];
        let mut capabilities = 0;
        for set in sets {
            capabilities |= u64::from_str_radix(field(set)?, 16)?;
        }
        Ok(Self {
            uid,
            user: user_name(uid)?,
            capabilities,
            no_new_privileges: field("NoNewPrivs")? == "1",
            seccomp: field("Seccomp")? == "2",
        })
    }

    fn capability_names(&self) -> Option<String> {
        let held = (0..u64::BITS).filter(|bit| self.capabilities & (1 << bit) != 0);
        let names: Vec<_> = held
            .map(|bit| if bit == CAP_NET_ADMIN { "CAP_NET_ADMIN".to_owned() } else { format!("bit {bit}") })
            .collect();
        (!names.is_empty()).then(|| names.join(" "))
    }
}

fn user_name(uid: u32) -> Result<String> {
    let output = Command::new("getent").args(["passwd", &uid.to_string()]).output()?;
    let line = String::from_utf8_lossy(&output.stdout).into_owned();
    let name = line.split(':').next().filter(|name| !name.is_empty()).map(ToOwned::to_owned);
    Ok(name.unwrap_or_else(|| uid.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_an_identity() {
        let text = std::fs::read_to_string("/proc/self/status").unwrap();
        assert!(text.contains("NoNewPrivs:") && text.contains("CapBnd:") && text.contains("Seccomp:"));
        assert_eq!(user_name(0).unwrap(), "root");
    }
}
