//! `sekisho vpn`: peers in the policy file, and how they stand. The file keeps its comments; what is written was checked
//! first. A private key that is made here is shown once and stored nowhere.

mod edit;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use clap::{Args, Subcommand};
use gateway::sources;
use gateway::wire::edge::{EdgeAnswer, EdgeAsk, VpnPeerRow, VpnStatus};
use gateway::wire::{Answer, Ask};
use ipnet::IpNet;
use policy::diagnostic::Language;
use policy::model::{Policy, Vpn, VpnPeer};
use policy::services::VpnCarrier;
use serde_json::json;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use self::edit::NewPeer;
use crate::ask::{ask, qr};
use crate::checking::{self, Checked};
use crate::daemon::{self, Sockets};
use crate::exit::{CliError, Exit};
use crate::output::Output;
use crate::table;

/// Keepalive for peers behind a NAT, in seconds (wg(8)).
const KEEPALIVE_S: u32 = 25;

const ADD_HELP: &str = "\
Appends a [[vpn.peer]] to FILE, which keeps its comments, and prints the configuration for wg-quick(8) and the WireGuard
apps. Without --public-key a key pair is made; its private half is shown now and never again. Nothing is in force before
`sekisho apply FILE`.

Example:
  sekisho vpn add dr-sakura --person \"佐倉 花子\" --reach device:ehr-server:https --policy clinic.toml --qr";

/// Orders about the VPN.
#[derive(Debug, Subcommand)]
pub(crate) enum VpnCommand {
    /// Lists the peers, when each last shook hands, and how much passed.
    List,
    /// Adds a peer to a policy file.
    #[command(after_help = ADD_HELP)]
    Add(AddArgs),
    /// Takes a peer out of a policy file, and puts the file in force.
    Revoke {
        /// Name of the peer.
        name: String,
        /// The policy file.
        #[arg(long, value_name = "FILE")]
        policy: PathBuf,
    },
    /// Shows a peer's configuration, without the private key, which only the peer has.
    Show {
        /// Name of the peer.
        name: String,
        /// The policy file.
        #[arg(long, value_name = "FILE")]
        policy: PathBuf,
        #[command(flatten)]
        gateway: GatewayArgs,
    },
}

/// What is added.
#[derive(Debug, Args)]
pub(crate) struct AddArgs {
    /// Name of the peer.
    name: String,
    /// Key of the person in the policy.
    #[arg(long)]
    person: String,
    /// What the peer may reach, such as `device:ehr-server:https`; may be given several times.
    #[arg(long, required = true)]
    reach: Vec<String>,
    /// The peer's own WireGuard public key, when the peer made one.
    #[arg(long, value_name = "BASE64")]
    public_key: Option<String>,
    /// The policy file.
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
    #[command(flatten)]
    gateway: GatewayArgs,
}

/// How peers find the gateway.
#[derive(Debug, Args)]
pub(crate) struct GatewayArgs {
    /// Host name or address by which peers reach the gateway; else its first address outside.
    #[arg(long, value_name = "HOST")]
    endpoint: Option<String>,
    /// The gateway's WireGuard public key; else the edge role is asked.
    #[arg(long, value_name = "BASE64")]
    gateway_key: Option<String>,
    /// Show the configuration as a QR code, too.
    #[arg(long)]
    qr: bool,
}

/// `sekisho vpn`.
pub(crate) fn vpn(output: &Output, sockets: &Sockets, command: VpnCommand) -> Result<Exit, CliError> {
    match command {
        VpnCommand::List => list(output, sockets),
        VpnCommand::Add(asked) => add(output, sockets, &asked),
        VpnCommand::Revoke { name, policy } => revoke(output, sockets, &name, &policy),
        VpnCommand::Show { name, policy, gateway } => {
            let checked = checking::load(&policy)?;
            let config = config(&checked.policy, &name, None, &gateway, sockets)?;
            show(output, &name, &config, gateway.qr);
            Ok(Exit::Ok)
        }
    }
}

fn add(output: &Output, sockets: &Sockets, asked: &AddArgs) -> Result<Exit, CliError> {
    let (private, public) = match &asked.public_key {
        Some(public) => (None, public.clone()),
        None => {
            let (private, public) = key_pair()?;
            (Some(private), public)
        }
    };
    let AddArgs { name, person, reach, public_key: _, policy: file, gateway } = asked;
    let peer = NewPeer { name, person, reach, public_key: &public };
    let (text, checked) = edited(file, |text| edit::add(text, &peer))?;
    let config = config(&checked.policy, name, private.as_deref().map(String::as_str), gateway, sockets)?;
    edit::write(file, &text)?;
    show(output, name, &config, gateway.qr);
    if !output.is_json() {
        let next = output
            .pick("added; put it in force with: sekisho apply", "追加しました。適用するには: sekisho apply");
        output.line(&format!("# {next} {}", file.display()));
    }
    Ok(Exit::Ok)
}

fn revoke(output: &Output, sockets: &Sockets, name: &str, file: &Path) -> Result<Exit, CliError> {
    let (text, _) = edited(file, |text| edit::remove(text, name))?;
    edit::write(file, &text)?;
    daemon::apply(output, sockets, file, false)
}

/// A policy's main file, changed, and what it then means. Nothing is written.
fn edited(
    file: &Path,
    change: impl FnOnce(&str) -> Result<String, edit::EditError>,
) -> Result<(String, Checked), CliError> {
    let mut sources = sources::read(file)?;
    let main = sources.texts.get(&sources.main).cloned().unwrap_or_default();
    let text = change(&main).map_err(|error| CliError::Question(error.to_string()))?;
    sources.texts.insert(sources.main.clone(), text.clone());
    Ok((text, checking::load_sources(sources)?))
}

fn show(output: &Output, name: &str, config: &str, with_qr: bool) {
    if output.is_json() {
        return output.json(&json!({ "peer": name, "config": config }));
    }
    output.line(config);
    if with_qr {
        output.line(&qr(config).unwrap_or_default());
    }
}

/// The configuration of a peer as wg-quick(8) reads it.
fn config(
    policy: &Policy,
    name: &str,
    private: Option<&str>,
    gateway: &GatewayArgs,
    sockets: &Sockets,
) -> Result<String, CliError> {
    let question = |why: String| CliError::Question(why);
    let vpn = policy.vpn.as_ref().ok_or_else(|| question("the policy has no [vpn]".to_owned()))?;
    let peer = vpn.peers.iter().find(|peer| peer.name == name);
    let peer = peer.ok_or_else(|| question(format!("the policy has no peer `{name}`")))?;
    let key = match &gateway.gateway_key {
        Some(key) => key.clone(),
        None => status(sockets)?.ok_or_else(no_key)?.public_key,
    };
    let endpoint = endpoint(policy, vpn, gateway.endpoint.as_deref())?;
    Ok(config_text(policy, (vpn, peer), private, &key, &endpoint))
}

fn config_text(
    policy: &Policy,
    (vpn, peer): (&Vpn, &VpnPeer),
    private: Option<&str>,
    gateway_key: &str,
    endpoint: &str,
) -> String {
    let join = |nets: Vec<String>| nets.join(", ");
    let addresses = join(peer.address.iter().map(|own| IpNet::from(*own).to_string()).collect());
    let mut reached: Vec<IpAddr> = Vec::new();
    for target in &peer.reach {
        reached.extend(policy.device(target.device).addresses.iter().copied());
    }
    reached.sort();
    reached.dedup();
    let allowed = join(reached.into_iter().map(|address| IpNet::from(address).to_string()).collect());
    let private = private.unwrap_or("(only the peer has it)");
    [
        format!("# {} ({})", peer.name, peer.person.replace(['\n', '\r'], " ")),
        "[Interface]".to_owned(),
        format!("PrivateKey = {private}"),
        format!("Address = {addresses}"),
        format!("MTU = {}", vpn.mtu),
        "[Peer]".to_owned(),
        format!("PublicKey = {gateway_key}"),
        format!("Endpoint = {endpoint}"),
        format!("AllowedIPs = {allowed}"),
        format!("PersistentKeepalive = {KEEPALIVE_S}"),
        String::new(),
    ]
    .join("\n")
}

/// Where peers find the door: as said, or the gateway's first address in an external zone.
fn endpoint(policy: &Policy, vpn: &Vpn, said: Option<&str>) -> Result<String, CliError> {
    let outside = policy.zones.iter().filter(|zone| zone.is_external()).flat_map(|zone| &zone.gateway).next();
    match (said, outside) {
        (Some(host), _) => match host.parse::<IpAddr>() {
            Ok(address) => Ok(SocketAddr::new(address, vpn.listen_port).to_string()),
            Err(_) => Ok(format!("{host}:{}", vpn.listen_port)),
        },
        (None, Some(own)) => Ok(SocketAddr::new(own.addr(), vpn.listen_port).to_string()),
        (None, None) => Err(CliError::Question(
            "the gateway has no fixed address outside: say by which name peers reach it, with --endpoint"
                .to_owned(),
        )),
    }
}

fn no_key() -> CliError {
    CliError::Question(
        "the edge role has no VPN yet: apply a policy with [vpn] first, or give --gateway-key".to_owned(),
    )
}

/// A Curve25519 key pair as wg(8) writes it.
fn key_pair() -> Result<(Zeroizing<String>, String), CliError> {
    let mut bytes = Zeroizing::new([0_u8; 32]);
    let filled = rustix::rand::getrandom(&mut *bytes, rustix::rand::GetRandomFlags::empty());
    if filled != Ok(bytes.len()) {
        return Err(CliError::Question("the kernel gives no random bytes".to_owned()));
    }
    let secret = StaticSecret::from(*bytes);
    let public = BASE64_STANDARD.encode(PublicKey::from(&secret));
    Ok((Zeroizing::new(BASE64_STANDARD.encode(secret.as_bytes())), public))
}

fn status(sockets: &Sockets) -> Result<Option<VpnStatus>, CliError> {
    match ask(&sockets.edge, Ask::Edge(EdgeAsk::Vpn {}))? {
        Answer::Edge(EdgeAnswer::Vpn(status)) => Ok(status),
        _ => Err(CliError::Confused),
    }
}

/// Who carries the packets, in words.
pub(crate) fn carried_by(output: &Output, carrier: VpnCarrier) -> &'static str {
    match carrier {
        VpnCarrier::Edge => output
            .pick("VPN: carried in user space, by the edge role", "VPN: edgeロールがユーザ空間で運びます"),
        VpnCarrier::Kernel => {
            output.pick("VPN: carried by the kernel's WireGuard", "VPN: カーネルのWireGuardが運びます")
        }
    }
}

fn list(output: &Output, sockets: &Sockets) -> Result<Exit, CliError> {
    let status = status(sockets)?;
    let heads = match output.language {
        Language::En => ["peer", "last handshake", "from", "bytes in", "bytes out"],
        Language::Ja => ["ピア", "最終ハンドシェイク", "接続元", "受信バイト", "送信バイト"],
    };
    let cells = |VpnPeerRow { name, handshake_at, endpoint, received_bytes, sent_bytes }: &VpnPeerRow| {
        vec![
            name.clone(),
            handshake_at.map_or_else(|| "－".to_owned(), |at| output.time(at)),
            endpoint.map(|endpoint| endpoint.to_string()).unwrap_or_default(),
            received_bytes.to_string(),
            sent_bytes.to_string(),
        ]
    };
    let text = match &status {
        Some(status) => {
            let table = table::lay_out(&heads, &status.peers.iter().map(cells).collect::<Vec<_>>());
            format!("{table}\n{}", carried_by(output, status.carrier))
        }
        None => output.pick("the policy has no VPN", "方針にVPNがありません").to_owned(),
    };
    output.answer(&text, &serde_json::to_value(&status)?);
    Ok(Exit::Ok)
}
