//! Section 13: a doctor's laptop far away, with somebody else's WireGuard, reaches the one port that the policy says.
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    process::{Child, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use lab::{Server, ServerKind};
use serde_json::Value;

use crate::{
    Sabotage,
    patience::until,
    probe::{self, Ear},
    sabotage,
    screen::Screen,
    site::{POLICY, Said, Site, TIMEZONE},
};

const HOST: &str = "doctor";
const PEER: &str = "dr-laptop";
const FLOW: &str = "@vpn-dr-laptop";
const PERSON: &str = "佐倉 花子";
const WITH_PEER: &str = "clinic-vpn.toml";
const GATEWAY: &str = "203.0.113.2";
/// What the peer may reach; and a machine that it may not.
const TARGET: &str = "ehr-server";
const OTHER: &str = "pacs";
const HTTPS: u16 = 443;
/// The configuration of the other peer of the example is nobody's: its address is silent whatever happens.
const OTHER_PEER: &str = "dr-sakura-notebook";
/// Patience of a client that should be answered, and of one that should not.
const ANSWERED_S: &str = "10";
const REFUSED_S: &str = "2";
/// How long is listened for what should not arrive.
const LISTEN: Duration = Duration::from_millis(500);

/// Adds the peer, connects, and tries what it may and what it may not.
pub(crate) fn vpn(screen: &mut Screen, site: &Site, sabotage: Option<Sabotage>) -> Result<()> {
    screen.section(&screen.words.vpn());
    let _web: Server = site.lab().serve(TARGET, ServerKind::Http.on(HTTPS))?;
    let _other: Server = site.lab().serve(OTHER, ServerKind::Http.on(HTTPS))?;
    let tunnel = added(screen, site)?;
    if sabotage == Some(Sabotage::Tunnel) {
        sabotage::widen_the_tunnel(screen, site, &tunnel.v4, FLOW)?;
    }
    let since = Timestamp::now().in_tz(TIMEZONE)?.strftime("%Y-%m-%d %H:%M:%S").to_string();
    reached(screen, site)?;
    elsewhere(screen, site)?;
    recorded(screen, site, &since)?;
    revoked(screen, site)
}

/// The admin's command adds it to the policy file, and gives the laptop's configuration.
fn added(screen: &mut Screen, site: &Site) -> Result<Tunnel> {
    site.write(WITH_PEER, &site.read(POLICY)?)?;
    let reach = format!("device:{TARGET}:https");
    let question = [
        "vpn",
        "add",
        PEER,
        "--person",
        PERSON,
        "--reach",
        &reach,
        "--policy",
        WITH_PEER,
        "--endpoint",
        GATEWAY,
    ];
    screen.command(&format!("sekisho {}", crate::screen::typed(&question)));
    // Edge has a key as soon as it has taken up the first policy.
    let json = [&["--json"], question.as_slice()].concat();
    let added = until(|| Ok(Some(site.ask(&json)?).filter(|said| said.ended(0))))?;
    let json = added.context("no peer can be added")?.0.json()?;
    let config = json.get("config").and_then(Value::as_str).context("no configuration")?;
    screen.quote(&without_key(config));
    let said = site.run(screen, &["apply", WITH_PEER])?;
    let tunnel = Tunnel::start(screen, site, config)?;
    screen.expect(said.ended(0), &screen.words.vpn_added(PEER, FLOW))?;
    Ok(tunnel)
}

fn without_key(config: &str) -> String {
    let hidden =
        |line: &str| if line.starts_with("PrivateKey") { "PrivateKey = ..." } else { line }.to_owned() + "\n";
    config.lines().map(hidden).collect()
}

fn reached(screen: &mut Screen, site: &Site) -> Result<()> {
    let mut pages = Vec::new();
    for address in site.host(TARGET)?.addresses() {
        let said = curl(screen, site, &url(address, HTTPS), ANSWERED_S)?;
        screen.quote(said.text().lines().next().unwrap_or_default());
        pages.push(said);
    }
    let holds = pages.iter().all(|said| said.ended(0) && said.out.contains(TARGET));
    let page = pages.first().and_then(|said| said.out.lines().next()).unwrap_or_default().to_owned();
    Ok(screen.expect(holds && pages.len() == 2, &screen.words.vpn_reached(page))?)
}

/// Another port, another machine, another peer: not one packet.
fn elsewhere(screen: &mut Screen, site: &Site) -> Result<()> {
    let ears = [Ear::open(site, TARGET, probe::PORT)?, Ear::open(site, OTHER, HTTPS)?];
    let mut answered = 0_usize;
    for (host, port) in [(TARGET, probe::PORT), (OTHER, HTTPS)] {
        for address in site.host(host)?.addresses() {
            answered += usize::from(!curl(screen, site, &url(address, port), REFUSED_S)?.out.is_empty());
        }
    }
    let neighbour = address_of(site, OTHER_PEER)?;
    let said = site.on(screen, HOST, "ping", &["-c", "2", "-W", "1", &neighbour])?;
    answered += usize::from(said.ended(0));
    thread::sleep(LISTEN);
    let mut arrived = 0;
    for ear in &ears {
        arrived += ear.heard()?;
    }
    site.thaw()?;
    let tries = format!("{TARGET}:{}, {OTHER}:{HTTPS}, {OTHER_PEER}", probe::PORT);
    Ok(screen.expect(arrived == 0 && answered == 0, &screen.words.vpn_elsewhere(tries, arrived))?)
}

/// The handshake, and the connection under the flow's name.
fn recorded(screen: &mut Screen, site: &Site, since: &str) -> Result<()> {
    let said = site.run(screen, &["vpn", "list"])?;
    let line = said.out.lines().find(|line| line.contains(PEER)).unwrap_or_default();
    let from = format!("{}:", site.host(HOST)?.v4()?);
    screen.expect(said.ended(0) && line.contains(&from), &screen.words.vpn_shook())?;
    // The kernel would forget an ended connection by itself two minutes later.
    for family in ["ipv4", "ipv6"] {
        site.quietly_on(lab::GATEWAY, "conntrack", &["-D", "-f", family, "-p", "tcp", "--dport", "443"])?;
    }
    let question = ["flows", "--device", TARGET, "--since", since];
    let found =
        until(|| Ok(site.ask(&question)?.out.lines().find(|line| line.contains(FLOW)).map(str::to_owned)))?;
    screen.command(&format!("sekisho {} | grep {FLOW}", crate::screen::typed(&question)));
    screen.quote(&found.as_ref().map(|(line, _)| line.clone()).unwrap_or_default());
    Ok(screen.expect(found.is_some(), &screen.words.vpn_ledger(FLOW))?)
}

fn revoked(screen: &mut Screen, site: &Site) -> Result<()> {
    let said = site.run(screen, &["vpn", "revoke", PEER, "--policy", WITH_PEER])?;
    let ear = Ear::open(site, TARGET, HTTPS)?;
    for address in site.host(TARGET)?.addresses() {
        curl(screen, site, &url(address, HTTPS), REFUSED_S)?;
    }
    thread::sleep(LISTEN);
    let arrived = ear.heard()?;
    Ok(screen.expect(said.ended(0) && arrived == 0, &screen.words.vpn_revoked(arrived))?)
}

fn url(address: std::net::IpAddr, port: u16) -> String {
    format!("http://{}/", std::net::SocketAddr::new(address, port))
}

fn curl(screen: &Screen, site: &Site, url: &str, patience_s: &str) -> Result<Said> {
    screen.command(&format!("[{HOST}] curl {url}"));
    site.quietly_on(HOST, "curl", &["-sS", "--http0.9", "--noproxy", "*", "--max-time", patience_s, url])
}

/// A peer's first address, as its configuration has it.
fn address_of(site: &Site, peer: &str) -> Result<String> {
    let said = site.ask(&["--json", "vpn", "show", peer, "--policy", WITH_PEER, "--endpoint", GATEWAY])?;
    let json = said.json()?;
    let config = json.get("config").and_then(Value::as_str).context("no configuration")?;
    let first = values(config, "Address").into_iter().next().context("no address")?;
    Ok(first.split('/').next().unwrap_or_default().to_owned())
}

/// The values of a setting, which are a list.
fn values(config: &str, name: &str) -> Vec<String> {
    let value = |line: &str| line.strip_prefix(name)?.trim_start().strip_prefix('=').map(str::to_owned);
    let lists: Vec<_> = config.lines().filter_map(value).collect();
    lists.iter().flat_map(|list| list.split(',')).map(|item| item.trim().to_owned()).collect()
}

/// The laptop's end, which runs until it is dropped.
struct Tunnel {
    program: Child,
    v4: String,
}

impl Tunnel {
    /// Does by hand what wg-quick(8) does, whose resolver and firewall settings would be the whole machine's.
    fn start(screen: &Screen, site: &Site, config: &str) -> Result<Self> {
        // Its control socket's name is the whole machine's.
        let name = format!("dr{}", std::process::id());
        screen.command(&format!("[{HOST}] wg-quick up {PEER} # with wireguard-go"));
        let log = site.files().join("wireguard-go.log");
        let start = || -> Result<Child> {
            let mut command = site.host(HOST)?.command("wireguard-go");
            let said = fs::File::create(&log)?;
            command.args(["-f", &name]).stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said);
            command.spawn().context("cannot start wireguard-go")
        };
        let program = start()?;
        let addresses = values(config, "Address");
        let v4 = addresses.iter().find_map(|net| Some(net.split('/').next()?.to_owned()));
        let mut tunnel = Self { program, v4: v4.context("a peer without address")? };
        let made = until(|| {
            if tunnel.program.try_wait()?.is_some() {
                // Of a busy machine's network namespaces it does not get its device at once.
                tunnel.program = start()?;
            }
            let said = site.quietly_on(HOST, "wg", &["show", &name])?;
            Ok(said.ended(0).then_some(()))
        })?;
        ensure!(made.is_some(), "wireguard-go makes no device: {}", fs::read_to_string(&log)?);
        let only_wg = |line: &&str| !["Address", "DNS", "MTU"].iter().any(|word| line.starts_with(word));
        let plain: String = config.lines().filter(only_wg).map(|line| format!("{line}\n")).collect();
        let file = site.files().join("laptop.conf");
        fs::write(&file, plain)?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
        let on = |program: &str, arguments: &[&str]| -> Result<()> {
            let said = site.quietly_on(HOST, program, arguments)?;
            ensure!(said.ended(0), "{program} {arguments:?}: {}", said.text());
            Ok(())
        };
        on("wg", &["setconf", &name, "laptop.conf"])?;
        for address in &addresses {
            on("ip", &["address", "add", address, "dev", &name])?;
        }
        let mtu = values(config, "MTU").into_iter().next().unwrap_or_else(|| "1420".to_owned());
        on("ip", &["link", "set", &name, "mtu", &mtu, "up"])?;
        // All of the clinic, whatever the configuration says: what passes is for the gateway to decide.
        for net in ["192.168.0.0/16", "10.90.0.0/24", "fd51:7ec5::/48"] {
            on("ip", &["route", "replace", net, "dev", &name])?;
        }
        on(
            "wg",
            &[
                "set",
                &name,
                "peer",
                &first_peer(config)?,
                "allowed-ips",
                "192.168.0.0/16,10.90.0.0/24,fd51:7ec5::/48",
            ],
        )?;
        Ok(tunnel)
    }
}

fn first_peer(config: &str) -> Result<String> {
    let key = config.lines().find_map(|line| line.strip_prefix("PublicKey")).context("no gateway's key")?;
    Ok(key.trim_start_matches([' ', '=']).trim().to_owned())
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}
