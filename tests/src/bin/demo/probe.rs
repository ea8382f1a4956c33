//! Packets that a machine of the clinic gets: counted there, by its own kernel.
use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use socket2::{Domain, Socket, Type};

use crate::{
    sabotage::TABLE,
    screen::Screen,
    site::{Site, finish},
    vendor,
};

pub(crate) const TARGET: &str = "ehr-server";
pub(crate) const PORT: u16 = 22;
/// How long a probe tries: two retransmissions of a SYN.
const PATIENCE: Duration = Duration::from_millis(3500);
const TRY_S: &str = "2";

/// Counts what arrives at a port of a machine, from when it is made.
pub(crate) struct Ear<'a> {
    site: &'a Site,
    host: &'a str,
    before: u64,
}

impl<'a> Ear<'a> {
    /// Begins to count.
    pub(crate) fn open(site: &'a Site, host: &'a str, port: u16) -> Result<Self> {
        // Said again, it changes nothing.
        let rules = format!(
            "add table inet ear; add counter inet ear heard; \
             add chain inet ear path {{ type filter hook input priority 0; }}; flush chain inet ear path; \
             add rule inet ear path tcp dport {port} counter name heard"
        );
        let said = site.quietly_on(host, "nft", &[&rules])?;
        ensure!(said.ended(0), "nobody can count at {host}: {}", said.text());
        let before = count(site, host)?;
        Ok(Self { site, host, before })
    }

    /// How many packets have arrived.
    pub(crate) fn heard(&self) -> Result<u64> {
        Ok(count(self.site, self.host)?.saturating_sub(self.before))
    }
}

fn count(site: &Site, host: &str) -> Result<u64> {
    let said = site.quietly_on(host, "nft", &["-j", "list", "counter", "inet", "ear", "heard"])?;
    let listing = said.json()?;
    let rows = listing.get("nftables").and_then(Value::as_array).into_iter().flatten();
    let packets = rows.filter_map(|row| row.pointer("/counter/packets")?.as_u64()).next();
    packets.with_context(|| format!("no counter in {}", said.text()))
}

/// The vendor's machine calls the target itself, past the door.
pub(crate) fn directly(screen: &Screen, site: &Site) -> Result<()> {
    for address in site.host(TARGET)?.addresses() {
        let address = address.to_string();
        screen.command(&format!("[{}] nc -z -w {TRY_S} {address} {PORT}", vendor::HOST));
        let mut command = site.host(vendor::HOST)?.command("busybox");
        command.args(["nc", "-w", TRY_S, &address, &PORT.to_string()]);
        let said = finish(command, None)?;
        ensure!(said.code.is_some(), "nc was killed: {said:?}");
    }
    Ok(())
}

/// A session's grant as the kernel holds it while the session is open.
pub(crate) struct Grant {
    pub(crate) mark: u32,
    pub(crate) address: IpAddr,
}

impl Grant {
    /// Reads the one grant there is.
    pub(crate) fn read(site: &Site) -> Result<Self> {
        for set in ["grants-ip4", "grants-ip6"] {
            let said = site.quietly_on(lab::GATEWAY, "nft", &["-j", "list", "set", "inet", TABLE, set])?;
            let listing = said.json()?;
            let rows = listing.get("nftables").and_then(Value::as_array).into_iter().flatten();
            let first = rows.filter_map(|row| row.pointer("/set/elem/0")).next();
            let Some(first) = first else { continue };
            let parts = first.pointer("/elem/val/concat").or_else(|| first.pointer("/concat"));
            let part =
                |place: usize| parts.and_then(|parts| parts.get(place)).context("a grant of another form");
            let mark = part(0)?.as_u64().context("a grant without mark")?;
            let address = part(1)?.as_str().context("a grant without address")?;
            return Ok(Self { mark: u32::try_from(mark)?, address: address.parse()? });
        }
        anyhow::bail!("the kernel holds no grant")
    }

    /// The set that it is in.
    pub(crate) fn set(&self) -> &'static str {
        if self.address.is_ipv4() { "grants-ip4" } else { "grants-ip6" }
    }

    /// What it lets pass, as `nft` writes it.
    pub(crate) fn element(&self) -> String {
        format!("{:#x} . {} . tcp . {PORT}", self.mark, self.address)
    }

    /// Does what a taken-over edge could do with a socket that it kept: calls the target under the grant's mark.
    pub(crate) fn try_again(&self, screen: &Screen, site: &Site) -> Result<()> {
        screen.say(&screen.words.session_socket(format!("{:#x}", self.mark)));
        let target = SocketAddr::new(self.address, PORT);
        let called = site.host(lab::GATEWAY)?.run_in(|| {
            let socket = Socket::new(Domain::for_address(target), Type::STREAM, None)?;
            socket.set_mark(self.mark)?;
            // Whether it is answered is not asked here: it is counted whether it arrived.
            drop(socket.connect_timeout(&target.into(), PATIENCE));
            std::io::Result::Ok(())
        })?;
        Ok(called?)
    }
}
