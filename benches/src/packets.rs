//! What a packet costs: against ufw, against a linear list, and against a smaller policy of our own.

use anyhow::Result;
use lab::Lab;

use crate::Options;
use crate::cost::{Course, Traffic};
use crate::pairs::{Figure, Statistic, measure};
use crate::{peers, site};

const NEW_FLOWS: u16 = 20_000;
const ESTABLISHED_PACKETS: u16 = 60_000;

/// First packets through two flows of ours, and through two route rules of ufw.
pub(crate) fn new_flow_against_ufw(options: &Options) -> Result<Figure> {
    compare("policy.newflow.vs_ufw", options, Traffic::New, &site::enforcing(2)?, &peers::ufw()?)
}

/// First packets through 1,000 flows of ours, and through 1,000 linear rules of which the last matches.
pub(crate) fn new_flow_against_linear(options: &Options) -> Result<Figure> {
    let (ours, peer) = (site::enforcing(1_000)?, peers::linear(1_000)?);
    compare("policy.newflow.vs_linear1000", options, Traffic::New, &ours, &peer)
}

/// First packets at 10,000 flows, against 10.
pub(crate) fn new_flow_by_size(options: &Options) -> Result<Figure> {
    let (ours, peer) = (site::enforcing(10_000)?, site::enforcing(10)?);
    compare("policy.newflow.10000_vs_10", options, Traffic::New, &ours, &peer)
}

/// Packets of one connection at 10,000 flows, against 10.
pub(crate) fn established_by_size(options: &Options) -> Result<Figure> {
    let (ours, peer) = (site::enforcing(10_000)?, site::enforcing(10)?);
    compare("policy.pps.10000_vs_10", options, Traffic::Established, &ours, &peer)
}

fn compare(
    name: &'static str,
    options: &Options,
    traffic: Traffic,
    ours: &Lab,
    peer: &Lab,
) -> Result<Figure> {
    let packets = match traffic {
        Traffic::New => NEW_FLOWS,
        Traffic::Established => ESTABLISHED_PACKETS,
    };
    let (ours, peer) = (Course::new(ours, traffic, packets)?, Course::new(peer, traffic, packets)?);
    measure(name, "ns/packet", options.pairs, Statistic::Minimum, || ours.run(), || peer.run())
}
