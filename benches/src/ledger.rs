//! What the ledger of connections costs a first packet: the same gateway with the watch role reading and writing every
//! connection, and without any of it. The role is the real one, in a process of its own; only core's part, which makes
//! its sockets and hands them over, is done here.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use gateway::client;
use gateway::wire::watch::{FEED_HELLO_NEW, FEED_LIST, LedgerSums, WatchAnswer, WatchAsk};
use gateway::wire::{Answer, Ask};
use lab::Lab;
use netfilter::{conntrack, nflog};
use policy::ruleset::LOG_GROUP;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tempfile::TempDir;

use crate::Options;
use crate::cost::{Course, Traffic};
use crate::pairs::{Figure, Statistic, measure};
use crate::site;

const NEW_FLOWS: u16 = 20_000;
const ESTABLISHED_PACKETS: u16 = 60_000;
const FLOWS: usize = 10;
/// How long the role may take to write the ends of a run.
const SETTLE: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(20);

/// First packets with the ledger, against the same without.
pub(crate) fn forwarding_cost(options: &Options) -> Result<Figure> {
    let name = "ledger.forwarding_cost";
    compare(name, options, Traffic::New, NEW_FLOWS, u64::from(options.pairs) * u64::from(NEW_FLOWS))
}

/// Packets of one connection with the ledger, against the same without.
pub(crate) fn established_cost(options: &Options) -> Result<Figure> {
    compare("ledger.established_cost", options, Traffic::Established, ESTABLISHED_PACKETS, 1)
}

fn compare(
    name: &'static str,
    options: &Options,
    traffic: Traffic,
    packets: u16,
    connections: u64,
) -> Result<Figure> {
    let (ours, peer) = (site::enforcing(FLOWS)?, site::enforcing(FLOWS)?);
    let watching = Watching::start(&ours)?;
    let (with, without) = (Course::new(&ours, traffic, packets)?, Course::new(&peer, traffic, packets)?);
    let figure = measure(
        name,
        "ns/packet",
        options.pairs,
        Statistic::Minimum,
        || forgotten(&ours).and_then(|()| with.run()),
        || forgotten(&peer).and_then(|()| without.run()),
    )?;
    watching.check(connections)?;
    Ok(figure)
}

/// The run before has ended, and its ends are in the ledger: a run is about first packets.
fn forgotten(lab: &Lab) -> Result<()> {
    lab.gateway().output("conntrack", &["-F"])?;
    std::thread::sleep(SETTLE);
    Ok(())
}

/// The watch role at work in a lab's gateway.
struct Watching {
    role: Child,
    directory: TempDir,
}

impl Watching {
    fn start(lab: &Lab) -> Result<Self> {
        let gateway = lab.gateway();
        for name in ["acct", "timestamp", "events"] {
            gateway.namespace().set_sysctl(&format!("netfilter/nf_conntrack_{name}"), "1")?;
        }
        let (log, connections) = gateway.run_in(|| -> Result<_> {
            let log = nflog::bind(LOG_GROUP, nflog::GroupConfig::default())?;
            Ok((log, conntrack::bind(conntrack::receive_buffer_bytes())?))
        })??;
        let directory = tempfile::tempdir()?;
        let feed = UnixListener::bind(directory.path().join("feed.sock"))?;
        let program = std::env::current_exe()?.with_file_name("sekishod");
        ensure!(
            program.exists(),
            "{} is not there: `cargo build --release -p gateway` makes it",
            program.display()
        );
        let mut command = gateway.command(&program);
        command.arg("watch");
        for name in ["state-dir", "runtime-dir", "services"] {
            command.arg(format!("--{name}")).arg(directory.path());
        }
        command.arg("--feed").arg(directory.path().join("feed.sock"));
        command.arg("--record").arg(directory.path().join("record.sock"));
        let role = command.env("SEKISHO_LOG_FORMAT", "json").stderr(std::process::Stdio::null()).spawn()?;
        std::thread::spawn(move || hand_over(&feed, &log, &connections));
        let this = Watching { role, directory };
        this.wait(|sums| sums.is_some())?;
        Ok(this)
    }

    fn sums(&self) -> Option<LedgerSums> {
        let socket: &Path = &self.directory.path().join("watch.sock");
        match client::ask(socket, Ask::Watch(WatchAsk::Sums { since: None })) {
            Ok(Answer::Watch(WatchAnswer::Sums(sums))) => Some(sums),
            Ok(_) | Err(_) => None,
        }
    }

    fn wait(&self, done: impl Fn(&Option<LedgerSums>) -> bool) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !done(&self.sums()) {
            ensure!(Instant::now() < deadline, "the watch role does not say what it should");
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// A ledger that misses what was measured would be cheap. It holds the runs, or says what it lost.
    fn check(&self, least: u64) -> Result<()> {
        let known = |sums: &Option<LedgerSums>| {
            let Some(sums) = sums else { return false };
            let kept: u64 = sums.rows.iter().map(|row| row.connections).sum();
            let lost: u64 = sums.gaps.iter().filter_map(|gap| gap.lost).sum();
            kept + lost >= least
        };
        self.wait(known)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        // It has nothing to tell any more.
        let _ = self.role.kill();
        let _ = self.role.wait();
    }
}

/// Core's part: hands the sockets over, and asks for lists on the role's word.
fn hand_over(feed: &UnixListener, log: &OwnedFd, connections: &OwnedFd) -> Result<()> {
    let (stream, _) = feed.accept()?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let sockets = [log.as_fd(), connections.as_fd()];
    ensure!(control.push(SendAncillaryMessage::ScmRights(&sockets)), "no room for two descriptors");
    sendmsg(&stream, &[IoSlice::new(&[FEED_HELLO_NEW])], &mut control, SendFlags::empty())?;
    let mut word = [0; 1];
    while read(&stream, &mut word)? == 1 {
        if word == [FEED_LIST] {
            conntrack::request_dump(connections)?;
        }
    }
    Ok(())
}

fn read(mut stream: &UnixStream, word: &mut [u8]) -> Result<usize> {
    std::io::Read::read(&mut stream, word).context("read the role's word")
}
