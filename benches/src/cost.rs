//! CPU time of packets through a gateway: the sender's thread and the kernel thread that finishes its work, both on one
//! CPU, over the number of packets. It is the whole path (send, two veth hops, routing, forward, drop at the far end), so
//! ratios are smaller than those of the firewalls alone.

use std::fs;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use etherparse::PacketBuilder;
use lab::{Injector, Lab};
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::site::PORT;

/// The CPU that does the work; the other is left to the rest of the machine.
const CPU: usize = 1;
const CLIENT: [u8; 4] = [10, 0, 1, 2];
const SERVER: [u8; 4] = [10, 0, 2, 2];
/// Packets in flight have arrived after this.
const SETTLE: Duration = Duration::from_millis(300);
const PAYLOAD_BYTES: usize = 22;

/// Which packets are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Traffic {
    /// Each packet begins a connection of its own.
    New,
    /// All packets belong to one connection.
    Established,
}

/// A gateway ready to be measured.
pub(crate) struct Course<'a> {
    lab: &'a Lab,
    injector: Injector,
    frames: Vec<Vec<u8>>,
}

impl<'a> Course<'a> {
    /// Prepares the frames, and makes sure that packets of this kind really arrive.
    pub(crate) fn new(lab: &'a Lab, traffic: Traffic, packets: u16) -> Result<Self> {
        let gateway = lab.leg("left")?;
        let injector = Injector::new(lab.host("client")?.leg())?;
        let from = lab.host("client")?.leg().mac();
        let frame = |index: u16| {
            let port = match traffic {
                Traffic::New => 1_024 + index,
                Traffic::Established => 1_000,
            };
            let mut bytes = Vec::new();
            PacketBuilder::ethernet2(from, gateway.mac())
                .ipv4(CLIENT, SERVER, 64)
                .udp(port, PORT)
                .write(&mut bytes, &[0; PAYLOAD_BYTES])
                .map(|()| bytes)
        };
        let frames = (0..packets).map(frame).collect::<Result<_, _>>()?;
        lab.pin_neighbours(&[("right", Ipv4Addr::from(SERVER).into())])?;
        // Arriving packets are dropped at once, so that the far end's answers are not measured.
        lab.host("server")?.output("nft", &["add table inet sink"])?;
        lab.host("server")?.output(
            "nft",
            &["add chain inet sink arrivals { type filter hook prerouting priority -400; policy drop; }"],
        )?;
        let course = Course { lab, injector, frames };
        course.check()?;
        Ok(course)
    }

    /// CPU nanoseconds per packet.
    pub(crate) fn run(&self) -> Result<f64> {
        self.forget_connections()?;
        let work = || -> Result<f64> {
            let mut cpus = CpuSet::new();
            cpus.set(CPU);
            sched_setaffinity(None, &cpus).context("keep the sender on one CPU")?;
            let finisher = softirq_thread(CPU)?;
            let before = cpu_ns("/proc/thread-self/schedstat")? + cpu_ns(&finisher)?;
            for frame in &self.frames {
                self.injector.send(frame)?;
            }
            let after = cpu_ns("/proc/thread-self/schedstat")? + cpu_ns(&finisher)?;
            #[expect(clippy::cast_precision_loss, reason = "nanoseconds of a second-long run")]
            Ok((after - before) as f64 / self.frames.len() as f64)
        };
        // A thread of its own: pinning must not outlast the run.
        std::thread::scope(|scope| scope.spawn(work).join())
            .map_err(|_| anyhow::anyhow!("the sender panicked"))?
    }

    /// Nothing is measured that does not arrive: a gateway that drops is fast.
    fn check(&self) -> Result<()> {
        self.forget_connections()?;
        let before = self.arrived()?;
        for frame in &self.frames {
            self.injector.send(frame)?;
        }
        std::thread::sleep(SETTLE);
        let arrived = self.arrived()? - before;
        let sent = self.frames.len() as u64;
        ensure!(
            arrived >= sent,
            "only {arrived} of {sent} packets passed the gateway that is to be measured"
        );
        Ok(())
    }

    /// Packets that have come in at the far end so far.
    fn arrived(&self) -> Result<u64> {
        let server = self.lab.host("server")?;
        let path = format!("/sys/class/net/{}/statistics/rx_packets", server.leg().interface());
        Ok(server.output("cat", &[&path])?.trim().parse()?)
    }

    fn forget_connections(&self) -> Result<()> {
        let flushed =
            self.lab.gateway().command("conntrack").args(["-F"]).output().context("run conntrack")?;
        ensure!(flushed.status.success(), "conntrack -F: {}", String::from_utf8_lossy(&flushed.stderr));
        Ok(())
    }
}

/// First field of schedstat: time on the CPU in nanoseconds.
fn cpu_ns(path: &str) -> Result<u64> {
    let text = fs::read_to_string(path).with_context(|| format!("read {path}"))?;
    let field = text.split_whitespace().next().context("schedstat is empty")?;
    Ok(field.parse()?)
}

fn softirq_thread(cpu: usize) -> Result<String> {
    let name = format!("ksoftirqd/{cpu}\n");
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        if fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm == name) {
            return Ok(path.join("schedstat").to_string_lossy().into_owned());
        }
    }
    anyhow::bail!("no kernel thread ksoftirqd/{cpu}")
}
