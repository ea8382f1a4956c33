//! What a scrape costs its reader: the whole gateway's metrics over TLS with client certificates, against Debian's
//! node_exporter over plain HTTP (which gives it a lead). Both are read from another host of the lab, by one reader over
//! one connection, one request after the other.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use lab::{Lab, LabBuilder, Resident, Role, RoleRunner, Spec, Unit};

use crate::Options;
use crate::pairs::{Figure, Statistic, measure, quantile};

/// Scrapes of one run; the issue asks for their 99th percentile.
const SCRAPES: usize = 200;
/// The bounds that the issue sets: milliseconds of a scrape, and resident bytes of all roles together, what they share
/// counted once.
const BOUND_MS: f64 = 50.0;
const BOUND_BYTES: u64 = 64_000_000;
const PORT: u16 = 9464;
const PEER_PORT: u16 = 9100;
/// The peer is read by its neighbour, as far away as the gateway is from its reader; the gateway lets nobody else to it.
const PEER: &str = "192.168.10.10";
const PEER_READER: &str = "pacs";
const READY_LIMIT: Duration = Duration::from_secs(60);
/// In the order in which they start: users first, who asks them last.
const ROLES: [&str; 4] = ["record", "watch", "console", "core"];
/// The ground of the lab's clinic, to which the door is added.
const GROUND: &str = include_str!("../../tests/tests/behaviour/site.toml");

/// The 99th percentile of a run's scrapes.
pub(crate) fn against_node_exporter(options: &Options) -> Result<Figure> {
    let gateway = Gateway::start()?;
    let (ours, peer) =
        (format!("https://192.168.99.1:{PORT}/metrics"), format!("http://{PEER}:{PEER_PORT}/metrics"));
    let tls = gateway.give_keys()?;
    gateway.wait_answer(&ours, &tls)?;
    gateway.wait_answer(&peer, &[])?;
    let figure = measure(
        "metrics.scrape.p99",
        "ms",
        options.pairs,
        Statistic::Median,
        || gateway.p99_ms(&ours, &tls),
        || gateway.p99_ms(&peer, &[]),
    )?;
    gateway.check_memory()?;
    ensure!(figure.ours <= BOUND_MS, "the slowest of a hundred scrapes takes {:.1} ms", figure.ours);
    Ok(figure)
}

/// A clinic with all roles and the peer.
struct Gateway {
    // Order matters: the processes end before the lab does.
    roles: Vec<(&'static str, Role)>,
    _peer: Peer,
    programs: PathBuf,
    lab: Lab,
}

impl Gateway {
    fn start() -> Result<Self> {
        let lab = LabBuilder::new(Spec::clinic()).build()?;
        let programs = programs(&lab)?;
        let mut roles = Vec::new();
        for name in ROLES {
            let mut role = runner(&lab, &programs, name)?.start()?;
            role.wait_ready(READY_LIMIT)?;
            roles.push((name, role));
        }
        let peer = Peer::start(lab.host("ehr-server")?)?;
        let gateway = Gateway { roles, _peer: peer, programs, lab };
        let policy = gateway.lab.directory().join("bench.toml");
        fs::write(&policy, format!("{GROUND}\n[metrics]\nzone = \"management\"\nport = {PORT}\n"))?;
        gateway.sekisho(&["apply".as_ref(), policy.as_ref()])?;
        Ok(gateway)
    }

    /// Gives the reader its certificate; returns curl's arguments.
    fn give_keys(&self) -> Result<Vec<String>> {
        let keys = self.lab.directory().join("keys");
        let add = ["metrics", "add", "bench", "-o"].map(Path::new);
        self.sekisho(&[&add[..], &[&keys]].concat())?;
        let of = |name: &str| keys.join(name).display().to_string();
        let pairs = [("cacert", of("ca.crt")), ("cert", of("client.crt")), ("key", of("client.key"))];
        Ok(pairs.into_iter().map(|(option, file)| format!("{option} = \"{file}\"")).collect())
    }

    /// Runs the admin's command line.
    fn sekisho(&self, arguments: &[&Path]) -> Result<()> {
        let root = RoleRunner::runtime_root(&self.lab);
        let mut command = Command::new(self.programs.join("sekisho"));
        command.arg("--socket").arg(root.join("sekisho/core.sock"));
        command.arg("--console-socket").arg(root.join("sekisho-console/console.sock"));
        let output = command.args(arguments).output()?;
        ensure!(output.status.success(), "sekisho: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    fn wait_answer(&self, url: &str, tls: &[String]) -> Result<()> {
        let deadline = Instant::now() + READY_LIMIT;
        while let Err(error) = self.scrape(url, tls, 1) {
            ensure!(Instant::now() < deadline, "nothing answers: {error:#}");
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }

    fn p99_ms(&self, url: &str, tls: &[String]) -> Result<f64> {
        Ok(quantile(self.scrape(url, tls, SCRAPES)?, 0.99))
    }

    /// Milliseconds of each scrape, the handshake of the first included.
    fn scrape(&self, url: &str, tls: &[String], count: usize) -> Result<Vec<f64>> {
        let mut config = tls.join("\n");
        config.push_str("\nsilent\nfail\nmax-time = 10\nwrite-out = \"%{time_total}\\n\"\n");
        let once = format!("url = \"{url}\"\noutput = \"/dev/null\"\n");
        config.extend(std::iter::repeat_n(once, count));
        let file = self.lab.directory().join("curl");
        fs::write(&file, config)?;
        let host = if tls.is_empty() { PEER_READER } else { "admin" };
        let output = self.lab.host(host)?.command("curl").arg("--config").arg(&file).output()?;
        ensure!(output.status.success(), "curl {url}: {}", output.status);
        let text = String::from_utf8(output.stdout)?;
        let times = text.lines().map(|line| Ok(line.parse::<f64>()? * 1000.0)).collect::<Result<Vec<_>>>()?;
        ensure!(times.len() == count, "curl made {} of {count} scrapes", times.len());
        Ok(times)
    }

    /// Says how much memory each role holds, and holds the sum to its bound.
    #[expect(clippy::print_stdout, reason = "a figure beside the table's")]
    fn check_memory(&self) -> Result<()> {
        let mut sum = 0;
        for (name, role) in &self.roles {
            let Resident { bytes, share_bytes } = role.resident()?;
            let (all, share) = (megabytes(bytes), megabytes(share_bytes));
            println!("memory.{name}: {share:.1} MB resident ({all:.1} with all of what it shares)");
            sum += share_bytes;
        }
        println!("memory.all: {:.1} MB resident of {:.0}", megabytes(sum), megabytes(BOUND_BYTES));
        ensure!(sum <= BOUND_BYTES, "the roles hold {sum} bytes");
        Ok(())
    }
}

#[expect(clippy::cast_precision_loss, reason = "a figure to read")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// The peer's program, ended with the run.
struct Peer(Child);

impl Peer {
    fn start(host: &lab::Host) -> Result<Self> {
        let mut command = host.command("prometheus-node-exporter");
        command.arg(format!("--web.listen-address=:{PEER_PORT}"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Peer(command.spawn().context("run prometheus-node-exporter (make setup installs it)")?))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A role as its unit says, with the program of this build.
fn runner<'lab>(lab: &'lab Lab, programs: &Path, name: &str) -> Result<RoleRunner<'lab>> {
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("../firmware/units");
    let unit = Unit::read(&units.join(format!("sekisho-{name}.service")))?;
    let root = RoleRunner::runtime_root(lab);
    let places = [
        ("SEKISHO_FEED", "sekisho/feed.sock"),
        ("SEKISHO_MEASURE", "sekisho/measure.sock"),
        ("SEKISHO_SERVICES", "sekisho/services"),
        ("SEKISHO_WATCH", "sekisho-watch/watch.sock"),
        ("SEKISHO_RECORD", "sekisho-record/record.sock"),
    ];
    let runner = RoleRunner::new(lab, unit).program(programs.join("sekishod"));
    Ok(places.iter().fold(runner, |runner, (name, place)| runner.env(name, root.join(place))))
}

/// Copies of this build's programs where the roles' users can run them.
fn programs(lab: &Lab) -> Result<PathBuf> {
    let directory = lab.directory().join("programs");
    fs::create_dir(&directory)?;
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755))?;
    for name in ["sekishod", "sekisho"] {
        let built = std::env::current_exe()?.with_file_name(name);
        fs::copy(&built, directory.join(name))
            .with_context(|| format!("{}: `cargo build --release -p gateway` makes it", built.display()))?;
    }
    Ok(directory)
}
