//! Probe traffic of every kind between two hosts, and what became of it.
use std::{
    fmt, io,
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use lab::{Host, Lab, LabError, Prober, Report};

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// Losses of one stream that a failure tells one by one.
const LOSSES_TOLD: usize = 20;
/// How long what was sent may take to arrive when nothing is lost.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

/// A kind of prober.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Udp,
    UdpFresh,
    UdpPush,
    Tcp,
    TcpPush,
    TcpConnects,
}

impl Kind {
    /// Those that are one connection for as long as they run.
    pub(crate) const CONNECTIONS: [Self; 4] = [Self::Udp, Self::UdpPush, Self::Tcp, Self::TcpPush];

    fn start(self, from: &Host, to: &Host, target: SocketAddr, rate: u32) -> Result<Prober, LabError> {
        match self {
            Self::Udp => Prober::udp(from, to, target, rate),
            Self::UdpFresh => Prober::udp_fresh(from, to, target, rate),
            Self::UdpPush => Prober::udp_push(from, to, target, rate),
            Self::Tcp => Prober::tcp(from, to, target, rate),
            Self::TcpPush => Prober::tcp_push(from, to, target, rate),
            Self::TcpConnects => Prober::tcp_connects(from, to, target, rate),
        }
    }
}

/// A running prober with its description.
pub(crate) struct Stream {
    pub(crate) what: String,
    pub(crate) is_ip6: bool,
    prober: Prober,
}

impl Stream {
    /// Starts one prober for each address family of the addressee.
    pub(crate) fn start(
        lab: &Lab,
        kind: Kind,
        from: &str,
        to: &str,
        port: u16,
        rate: u32,
    ) -> impl Iterator<Item = Self> {
        let (from, to) = (lab.host(from).unwrap(), lab.host(to).unwrap());
        to.addresses().map(move |address| {
            let target = SocketAddr::new(address, port);
            let what = format!("{kind:?} {} -> {} {target}", from.name(), to.name());
            let prober = kind.start(from, to, target, rate);
            let prober = prober.unwrap_or_else(|error| panic!("{what}: {error}"));
            Self { what, is_ip6: address.is_ipv6(), prober }
        })
    }

    /// Waits until some probes have arrived.
    pub(crate) fn wait(&self, count: u64) {
        let arrived = self.prober.wait_received(count, PATIENCE);
        arrived.unwrap_or_else(|error| panic!("{}: {error}", self.what));
    }

    pub(crate) fn received(&self) -> u64 {
        self.prober.received()
    }

    /// Stops sending, and waits for the rest at most so long.
    pub(crate) fn stop(self, grace: Duration) -> Outcome {
        let report = self.prober.stop(grace).unwrap();
        Outcome { what: self.what, report }
    }
}

/// Binds a port that this process may just have let go of: a program that another test is starting meanwhile keeps what
/// its parent held until it runs.
pub(crate) fn bound<T>(bind: impl Fn() -> io::Result<T>) -> io::Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match bind() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(5));
            }
            outcome => return outcome,
        }
    }
}

/// What became of a stream.
pub(crate) struct Outcome {
    pub(crate) what: String,
    pub(crate) report: Report,
}

impl Outcome {
    /// How long after a moment the last probe arrived; zero when it was before.
    pub(crate) fn lasted(&self, moment: Instant) -> Duration {
        let last = self.report.last_arrival.unwrap_or(moment);
        last.saturating_duration_since(moment)
    }

    /// The probes that did not arrive, at most so many, each with the arrival of the one before it, or after the first.
    fn missing(&self, limit: usize) -> Vec<(u64, Instant)> {
        let mut arrived = self.report.arrivals.clone();
        arrived.sort_unstable();
        let (Some(&(first, begin)), Some(&(last, end))) = (arrived.first(), arrived.last()) else {
            return Vec::new();
        };
        let inside = arrived.windows(2).flat_map(|pair| {
            let ((before, at), (next, _)) = (pair[0], pair[1]);
            (before + 1..next).map(move |number| (number, at))
        });
        let early = (0..first).map(|number| (number, begin));
        let late = (last + 1..self.report.sent).map(|number| (number, end));
        early.chain(inside).chain(late).take(limit).collect()
    }

    /// Whether all that was sent arrived once, and nothing was reset or held back.
    pub(crate) fn is_whole(&self) -> bool {
        let Report { sent, received, lost, duplicated, resets, .. } = self.report;
        sent > 0 && received == sent && lost == 0 && duplicated == 0 && resets == 0
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { sent, received, lost, duplicated, resets, refused_by_sender, .. } = &self.report;
        write!(
            f,
            "{}: sent {sent}, received {received}, lost {lost}, duplicated {duplicated}, resets {resets}, \
             not sent {refused_by_sender}, longest gap {} ms",
            self.what,
            self.report.longest_gap().as_millis()
        )
    }
}

/// Stops streams that must have lost nothing, prints each, and fails when one did; `near` names what was done about
/// the time of a loss. Returns how many probes were sent.
pub(crate) fn assert_whole(streams: Vec<Stream>, near: impl Fn(Instant) -> Option<String>) -> u64 {
    let outcomes: Vec<_> = streams.into_iter().map(|stream| stream.stop(GRACE)).collect();
    outcomes.iter().for_each(|outcome| println!("  {outcome}"));
    let broken = outcomes.iter().filter(|outcome| !outcome.is_whole());
    let words = broken.map(|outcome| {
        let missing = outcome.missing(LOSSES_TOLD);
        let missing: Vec<_> = missing.into_iter().map(|(number, at)| (number, near(at))).collect();
        format!("{outcome}; missing {missing:?}")
    });
    let words: Vec<_> = words.collect();
    assert!(words.is_empty(), "permitted traffic suffered: {words:#?}");
    outcomes.iter().map(|outcome| outcome.report.sent).sum()
}
