//! Ways to break the product on purpose, each to be found at the line that measures it.
use std::{
    fs,
    os::{fd::OwnedFd, unix::net::UnixStream},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{probe, screen::Screen, site::Site};

/// The name of Sekisho's table in the kernel.
pub(crate) const TABLE: &str = "sekisho";

/// What is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Sabotage {
    /// A packet is let through that no flow allows.
    Flow,
    /// Packets of an ended flow pass: the gate at the live set is bypassed.
    Gate,
    /// A rule is edited between the apply and the comparison.
    Readback,
    /// The kernel no longer tells of connections: what begins now is missing in the ledger.
    Ledger,
    /// One byte of the log changes on disk.
    Audit,
    /// Files are inspected by a program that finds nothing.
    Inspect,
    /// Nobody notices that the record role is dead, and a session goes on without it.
    Recorder,
    /// The way of a maintenance session stays open after its end.
    Grant,
    /// The VPN's way to one port leads to another, too.
    Tunnel,
}

/// Lets everything from the waiting room through, as a careless hand would.
pub(crate) fn edit_a_rule(screen: &Screen, site: &Site) -> Result<()> {
    site.nft(screen, &format!("insert rule inet {TABLE} gate-forward iifname lan-guest accept"))
}

/// Allows SSH from ct to the records behind the policy's back, under the mark of another flow.
pub(crate) fn add_a_flow(screen: &Screen, site: &Site) -> Result<()> {
    const MAP: &str = "modality-to-ehr-ip4";
    let flows = site.ask(&["--json", "flows"])?.json()?;
    let rows = flows.as_array().into_iter().flatten();
    let named = |row: &&Value| row.get("name").and_then(Value::as_str) == Some("ct-to-pacs");
    let mark = rows.clone().find(named).and_then(|row| row.get("mark")).and_then(Value::as_str);
    let mark = mark.unwrap_or_default();
    // Core would repair it within seconds, and the line would hold again.
    site.freeze()?;
    let key = "192.168.20.21 . 192.168.10.10 . tcp . 22";
    site.nft(screen, &format!("add element inet {TABLE} {MAP} {{ {key} : {mark} }}"))
}

/// Lets every connection go on that was ever allowed between staff and the records' zone.
pub(crate) fn bypass_the_gate(screen: &Screen, site: &Site) -> Result<()> {
    site.freeze()?;
    site.nft(screen, &format!("insert rule inet {TABLE} staff-to-ehr ct state established accept"))
}

/// Lets a session's way be open after the session: its grant is put back by hand.
pub(crate) fn keep_the_grant(screen: &Screen, site: &Site, grant: &probe::Grant) -> Result<()> {
    // Core would repair it within seconds.
    site.freeze()?;
    let (set, element) = (grant.set(), grant.element());
    site.nft(screen, &format!("add element inet {TABLE} {set} {{ {element} timeout 60s }}"))
}

/// Lets a peer of the VPN reach SSH behind the policy's back, under the mark of its own flow.
pub(crate) fn widen_the_tunnel(screen: &Screen, site: &Site, peer: &str, flow: &str) -> Result<()> {
    const MAP: &str = "vpn-to-ehr-ip4";
    let flows = site.ask(&["--json", "flows"])?.json()?;
    let named = |row: &&Value| row.get("name").and_then(Value::as_str) == Some(flow);
    let row = flows.as_array().into_iter().flatten().find(named).context("the peer has no flow")?;
    let mark = row.get("mark").and_then(Value::as_str).unwrap_or_default();
    // Core would repair it within seconds.
    site.freeze()?;
    let key = format!("{peer} . 192.168.10.10 . tcp . 22");
    site.nft(screen, &format!("add element inet {TABLE} {MAP} {{ {key} : {mark} }}"))
}

/// Answers for one inspection that the file may pass, whatever it is.
pub(crate) fn allow_everything(site: &Site, connection: UnixStream) -> Result<()> {
    const WORKER: &str = "import hashlib, json, os, socket
asked = socket.socket(fileno=0)
_, files, _, _ = socket.recv_fds(asked, 8192, 1)
sha256 = hashlib.sha256(os.fdopen(files[0], 'rb').read()).hexdigest()
answer = {'sha256': sha256, 'verdict': 'allow', 'kinds': ['pdf'], 'findings': []}
asked.sendall((json.dumps(answer) + '\\n').encode())";
    let mut command = site.host(lab::GATEWAY)?.command("python3");
    let status = command.args(["-c", WORKER]).stdin(OwnedFd::from(connection)).status()?;
    ensure!(status.success(), "the false inspection failed: {status}");
    Ok(())
}

/// Has the kernel tell neither of the beginning nor of the end of a connection, by a table of somebody else's. (The setting
/// `nf_conntrack_events` would do it, but core puts that right within seconds.)
pub(crate) fn silence_the_kernel(screen: &Screen, site: &Site) -> Result<()> {
    site.nft(
        screen,
        "add table inet deaf; add chain inet deaf path { type filter hook prerouting priority -150; }; \
         add rule inet deaf path ct event set assured",
    )
}

/// Changes one digit of the first entries, as somebody would who wants a decision to have been another.
pub(crate) fn change_the_log(screen: &Screen, site: &Site) -> Result<()> {
    // What the log writes next would put its newest file right again.
    site.silence()?;
    site.ask(&["audit", "checkpoint"])?;
    let (mut path, top) = (site.state("record").join("tile/entries"), site.state("record"));
    while path.is_dir() {
        let below = fs::read_dir(&path)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
        path = below.into_iter().min().context("the log has no entries")?;
    }
    let mut bytes = fs::read(&path)?;
    let place = bytes.iter().position(u8::is_ascii_digit).context("the log has no digit")?;
    let digit = bytes.get_mut(place).context("the log has no digit")?;
    *digit = if *digit == b'0' { b'1' } else { b'0' };
    screen.command(&format!("[gw] # {}: byte {place}", path.strip_prefix(&top)?.display()));
    Ok(fs::write(&path, bytes)?)
}
