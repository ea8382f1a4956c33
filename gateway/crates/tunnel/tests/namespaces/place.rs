//! Two namespaces and a wire between them, gone with the value.

use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd as _;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// How long anything may take that should take moments, on a machine that is busy with other things.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const GATEWAY: &str = "192.0.2.1";
pub(crate) const GATEWAY_V6: &str = "2001:db8::1";

/// One namespace.
#[derive(Clone, Debug)]
pub(crate) struct Side {
    name: String,
}

/// A gateway's namespace and a client's, joined by a wire.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) gateway: Side,
    pub(crate) client: Side,
    number: u32,
}

impl Side {
    /// Runs a program here, to success.
    pub(crate) fn run(&self, line: &str) -> String {
        let mut words = line.split_whitespace();
        let mut command = self.command(words.next().unwrap());
        let output = command.args(words).output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Calls a closure in a thread here; sockets and threads that it makes stay here.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let entrance = File::open(format!("/run/netns/{}", self.name)).unwrap();
        let enter = || move_into_link_name_space(entrance.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                enter();
                work()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Packets that the kernel took from an interface.
    pub(crate) fn received_packets(&self, interface: &str) -> u64 {
        let list = self.run("cat /proc/net/dev");
        let line = list.lines().find(|line| line.trim_start().starts_with(&format!("{interface}:"))).unwrap();
        line.split_whitespace().nth(2).unwrap().parse().unwrap()
    }

    pub(crate) fn pings(&self, to: &str) -> bool {
        let mut command = self.command("ping");
        command.args(["-c", "1", "-W", "1", to]).output().unwrap().status.success()
    }
}

impl Place {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let side = |end: &str| Side { name: format!("sktun{}{end}{number}", std::process::id()) };
        let place = Self { gateway: side("g"), client: side("c"), number };
        for side in [&place.gateway, &place.client] {
            outside(&format!("netns add {}", side.name));
            side.run("ip link set lo up");
        }
        outside(&format!(
            "link add wire netns {} type veth peer name wire netns {}",
            place.gateway.name, place.client.name
        ));
        for (side, v4, v6) in [
            (&place.gateway, "192.0.2.1/24", "2001:db8::1/64"),
            (&place.client, "192.0.2.2/24", "2001:db8::2/64"),
        ] {
            side.run(&format!("ip address add {v4} dev wire"));
            side.run(&format!("ip address add {v6} dev wire nodad"));
            side.run("ip link set wire up");
        }
        place
    }

    /// A name for an interface that nobody else has: wireguard-go's sockets share one directory.
    pub(crate) fn interface(&self, end: &str) -> String {
        format!("sk{end}{}x{}", std::process::id() % 100_000, self.number)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for side in [&self.gateway, &self.client] {
            let _ = Command::new("ip").args(["netns", "delete", &side.name]).status();
        }
    }
}

fn outside(line: &str) {
    let status = Command::new("ip").args(line.split_whitespace()).status().unwrap();
    assert!(status.success(), "ip {line} (needs root)");
}

/// Waits until something holds.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn address(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse::<IpAddr>().unwrap(), port)
}
