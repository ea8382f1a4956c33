//! Streams of numbered probes between two hosts, over both families, and what became of them.
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::Result;
use lab::{Host, LabError, Prober, Report};

use crate::site::Site;

const PATIENCE: Duration = Duration::from_secs(20);
/// How long what was sent may take to arrive when nothing is lost.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

/// A way to begin a prober; see `Prober`.
pub(crate) type Begin = fn(&Host, &Host, SocketAddr, u32) -> Result<Prober, LabError>;

/// Is one kind of stream between two hosts, with a prober for each family.
pub(crate) struct Stream {
    probers: Vec<Prober>,
}

/// What became of a stream, or of several.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) reports: Vec<Report>,
}

impl Stream {
    /// Starts it to a port of each address of the second host.
    pub(crate) fn start(site: &Site, begin: Begin, way: [&str; 2], port: u16, rate: u32) -> Result<Self> {
        let [from, to] = way;
        let (from, to) = (site.host(from)?, site.host(to)?);
        let targets = to.addresses().map(|address| SocketAddr::new(address, port));
        let probers: Result<Vec<_>, _> = targets.map(|target| begin(from, to, target, rate)).collect();
        Ok(Self { probers: probers? })
    }

    /// Waits until some probes have arrived over each family.
    pub(crate) fn wait(&self, count: u64) -> Result<()> {
        self.probers.iter().try_for_each(|prober| Ok(prober.wait_received(count, PATIENCE)?))
    }

    /// How many have arrived.
    pub(crate) fn received(&self) -> u64 {
        self.probers.iter().map(Prober::received).sum()
    }

    /// Stops sending, and waits for the rest at most so long.
    pub(crate) fn stop(self, grace: Duration) -> Result<Outcome> {
        let reports: Result<Vec<_>, _> = self.probers.into_iter().map(|prober| prober.stop(grace)).collect();
        Ok(Outcome { reports: reports? })
    }
}

impl Outcome {
    /// Stops several streams and joins what became of them.
    pub(crate) fn of(streams: Vec<Stream>, grace: Duration) -> Result<Self> {
        let mut reports = Vec::new();
        for stream in streams {
            reports.extend(stream.stop(grace)?.reports);
        }
        Ok(Self { reports })
    }

    fn sum(&self, count: impl Fn(&Report) -> u64) -> u64 {
        self.reports.iter().map(count).sum()
    }

    pub(crate) fn sent(&self) -> u64 {
        self.sum(|report| report.sent)
    }

    pub(crate) fn received(&self) -> u64 {
        self.sum(|report| report.received)
    }

    pub(crate) fn lost(&self) -> u64 {
        self.sum(|report| report.lost)
    }

    pub(crate) fn resets(&self) -> u64 {
        self.sum(|report| report.resets)
    }

    /// How many arrived after a moment.
    pub(crate) fn arrivals_after(&self, moment: Instant) -> usize {
        self.reports.iter().map(|report| report.arrivals_after(moment)).sum()
    }

    /// When the last one arrived over any family.
    pub(crate) fn last_arrival(&self) -> Option<Instant> {
        self.reports.iter().filter_map(|report| report.last_arrival).max()
    }

    /// Whether all that was sent arrived once over each family, and nothing was reset or held back at the end.
    pub(crate) fn is_whole(&self) -> bool {
        let whole = |report: &Report| {
            let Report { sent, received, lost, duplicated, resets, .. } = report;
            *sent > 0 && received == sent && *lost == 0 && *duplicated == 0 && *resets == 0
        };
        !self.reports.is_empty() && self.reports.iter().all(whole)
    }
}
