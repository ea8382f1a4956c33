//! One TCP stream through WireGuard in user space: ours at both ends, then a peer at both ends, over the same wire.
//!
//! The peers are Debian's wireguard-go (0.0.20220316, older than its own offloads) and gotatun 0.10.2, or whatever
//! `WIREGUARD_GO` and `GOTATUN` name. Costs are per gigabit that arrived, so that smaller is better.

use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use lab::{Host, Lab, LabBuilder, Spec};
use tunnel::{Config, PeerConfig, PrivateKey, PublicKey, Tunnel as _, UserSpace, device};

use crate::Options;
use crate::pairs::{Figure, Statistic, measure};

const MTU: u16 = 1420;
const PORT: u16 = 51_820;
const STREAM_S: u32 = 3;
const READY_LIMIT: Duration = Duration::from_secs(20);
/// `USER_HZ`, in which `/proc/PID/stat` counts on every architecture that we run on.
const TICKS_PER_S: f64 = 100.0;
const GOTATUN_VERSION: &str = "0.10.2";

/// Throughput against wireguard-go.
pub(crate) fn against_wireguard_go(options: &Options) -> Result<Figure> {
    compare("vpn.tcp1.vs_wireguard_go", "ms/Gbit", options, &wireguard_go(), |sample| sample.wall_ms)
}

/// Throughput against gotatun.
pub(crate) fn against_gotatun(options: &Options) -> Result<Figure> {
    compare("vpn.tcp1.vs_gotatun", "ms/Gbit", options, &gotatun()?, |sample| sample.wall_ms)
}

/// CPU time of both ends against wireguard-go.
pub(crate) fn cpu_against_wireguard_go(options: &Options) -> Result<Figure> {
    compare("vpn.cpu.vs_wireguard_go", "CPUms/Gbit", options, &wireguard_go(), |sample| sample.cpu_ms)
}

/// CPU time of both ends against gotatun.
pub(crate) fn cpu_against_gotatun(options: &Options) -> Result<Figure> {
    compare("vpn.cpu.vs_gotatun", "CPUms/Gbit", options, &gotatun()?, |sample| sample.cpu_ms)
}

fn wireguard_go() -> PathBuf {
    std::env::var_os("WIREGUARD_GO").map_or_else(|| "wireguard-go".into(), PathBuf::from)
}

/// Finds gotatun, or builds the published crate beside the results.
fn gotatun() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("GOTATUN") {
        return Ok(path.into());
    }
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/bench");
    let program = root.join("bin/gotatun");
    if !program.exists() {
        let mut cargo = Command::new("cargo");
        cargo.args(["install", "gotatun-cli", "--locked", "--version", GOTATUN_VERSION, "--root"]).arg(&root);
        ensure!(cargo.status()?.success(), "gotatun cannot be built; name one with GOTATUN=/path/to/gotatun");
    }
    Ok(program)
}

/// What one stream cost, per gigabit.
struct Sample {
    wall_ms: f64,
    cpu_ms: f64,
}

fn compare(
    name: &'static str,
    unit: &'static str,
    options: &Options,
    peer: &PathBuf,
    cost: fn(&Sample) -> f64,
) -> Result<Figure> {
    let lab = LabBuilder::new(Spec::client_router_server()).build()?;
    let ours = || Ok(cost(&stream(&lab, None)?));
    let peer = || Ok(cost(&stream(&lab, Some(peer))?));
    measure(name, unit, options.pairs, Statistic::Median, ours, peer)
}

/// One end of the tunnel, in a process of its own; gone with the value.
struct End {
    process: Child,
    interface: String,
}

impl Drop for End {
    fn drop(&mut self) {
        // Ours ends with its input and takes its device away.
        drop(self.process.stdin.take());
        let deadline = Instant::now() + Duration::from_secs(2);
        while matches!(self.process.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_file(format!("/var/run/wireguard/{}.sock", self.interface));
    }
}

/// Sends one stream through a new tunnel, of the peer's program or of ours.
fn stream(lab: &Lab, program: Option<&PathBuf>) -> Result<Sample> {
    let (near, far) = (lab.host("client")?, lab.gateway());
    let keys = [PrivateKey::generate()?, PrivateKey::generate()?];
    let [near_public, far_public] = keys.each_ref().map(PrivateKey::public);
    let far_outside = lab.leg("left")?.v4().context("the gateway has an address")?.addr();
    let endpoint = format!("{far_outside}:{PORT}");
    let [near_key, far_key] = &keys;
    let near_end = raise(near, "n", program, near_key, far_public, "10.99.0.1", Some(&endpoint))?;
    let far_end = raise(far, "f", program, far_key, near_public, "10.99.0.2", None)?;
    ready(near)?;
    let mut server = far.command("iperf3");
    let mut server = server.args(["-s", "-1", "-B", "10.99.0.2"]).stdout(Stdio::null()).spawn()?;
    let before = cpu_ms(&near_end)? + cpu_ms(&far_end)?;
    let gbit = iperf(near);
    let after = cpu_ms(&near_end)? + cpu_ms(&far_end)?;
    let _ = server.kill();
    server.wait()?;
    let gbit = gbit?;
    Ok(Sample { wall_ms: f64::from(STREAM_S) * 1e3 / gbit, cpu_ms: (after - before) / gbit })
}

/// Starts an end and gives it its key, its peer and its address.
fn raise(
    host: &Host,
    end: &str,
    program: Option<&PathBuf>,
    key: &PrivateKey,
    peer: PublicKey,
    address: &str,
    endpoint: Option<&str>,
) -> Result<End> {
    let interface = format!("bw{end}{}", std::process::id() % 1_000_000);
    let secret = {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(key.expose_bytes())
    };
    let end = match program {
        None => {
            let mut command = host.command(std::env::current_exe()?);
            command.args(["--vpn-end", &interface, &peer.to_string(), endpoint.unwrap_or("-")]);
            let mut process = command.stdin(Stdio::piped()).spawn()?;
            let mut input = process.stdin.take().context("it has an input")?;
            writeln!(input, "{secret}")?;
            process.stdin = Some(input);
            End { process, interface }
        }
        Some(program) => {
            let mut command = host.command(program);
            // gotatun asks who is logged in, to become that user; where nobody is, it would end.
            command.env("WG_SUDO", "1");
            command.args(["-f", &interface]).stdout(Stdio::null()).stderr(Stdio::null());
            let process = command.spawn().with_context(|| format!("start {}", program.display()))?;
            let end = End { process, interface };
            set_by_wg(host, &end.interface, &secret, peer, endpoint)?;
            end
        }
    };
    let up = || host.output("ip", &["link", "set", &end.interface, "mtu", &MTU.to_string(), "up"]);
    wait_for("the interface", || up().is_ok())?;
    host.output("ip", &["address", "add", &format!("{address}/24"), "dev", &end.interface])?;
    Ok(end)
}

/// Configures a peer's program as its users do (package wireguard-tools).
fn set_by_wg(
    host: &Host,
    interface: &str,
    secret: &str,
    peer: PublicKey,
    endpoint: Option<&str>,
) -> Result<()> {
    let (peer, port) = (peer.to_string(), PORT.to_string());
    let set = || -> Result<bool> {
        let mut wg = host.command("wg");
        wg.args(["set", interface, "listen-port", &port, "private-key", "/dev/stdin"]);
        wg.args(["peer", &peer, "allowed-ips", "10.99.0.0/24"]);
        wg.args(endpoint.iter().flat_map(|endpoint| ["endpoint", endpoint]));
        let mut wg = wg.stdin(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        wg.stdin.take().context("it has an input")?.write_all(secret.as_bytes())?;
        Ok(wg.wait()?.success())
    };
    wait_for("the peer's program", || set().unwrap_or(false))
}

fn ready(near: &Host) -> Result<()> {
    wait_for("the tunnel", || near.output("ping", &["-c", "1", "-W", "1", "10.99.0.2"]).is_ok())
}

fn wait_for(what: &str, mut holds: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + READY_LIMIT;
    while !holds() {
        ensure!(Instant::now() < deadline, "{what} is not there after {READY_LIMIT:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Gigabits that arrived; the server may take a moment to listen.
fn iperf(near: &Host) -> Result<f64> {
    let deadline = Instant::now() + READY_LIMIT;
    while Instant::now() < deadline {
        let mut command = near.command("iperf3");
        command.args(["-c", "10.99.0.2", "-J", "-t", &STREAM_S.to_string()]);
        let output = command.output().context("run iperf3")?;
        let report: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        if let Some(bytes) = report.pointer("/end/sum_received/bytes").and_then(serde_json::Value::as_f64) {
            return Ok(bytes * 8.0 / 1e9);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    bail!("iperf3 finds no server")
}

/// CPU time of an end so far: fields 14 and 15 of proc_pid_stat(5), counted behind the name in parentheses.
fn cpu_ms(end: &End) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{}/stat", end.process.id()))?;
    let (_, fields) = text.rsplit_once(')').context("stat has a name")?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
    let ticks: f64 = ticks.sum::<Result<f64, _>>()?;
    Ok(ticks * 1e3 / TICKS_PER_S)
}

/// Is one end of ours until the input ends, whose first line is the private key.
pub(crate) fn end(arguments: &[String]) -> Result<()> {
    let [interface, peer, endpoint] = arguments else { bail!("--vpn-end INTERFACE PEER_KEY ENDPOINT") };
    let mut secret = String::new();
    std::io::stdin().read_line(&mut secret)?;
    let peer = PeerConfig {
        name: "peer".into(),
        public_key: peer.parse()?,
        preshared_key: None,
        allowed_ips: vec!["10.99.0.0/24".parse()?],
        endpoint: endpoint.parse().ok(),
        keepalive_s: None,
        until: None,
    };
    let config = Config { private_key: secret.trim().parse()?, listen_port: PORT, peers: vec![peer] };
    device::create(interface, 0, MTU)?;
    let tunnel = UserSpace::start(device::attach(interface)?, &config)?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Box::new(tunnel).close()?;
    device::remove(interface)?;
    Ok(())
}
