//! Paired benchmarks. Ours and a peer take turns in one run, so that the ratio holds when the machine's speed drifts.
//!
//! `make bench` runs all, `make bench NAME=policy.load` those whose name begins so. Each figure is printed with median
//! and spread and appended as one JSON object to `target/bench/results.jsonl`. Needs root: it builds namespaces.

mod audit;
mod cost;
mod ledger;
mod load;
mod packets;
mod pairs;
mod peers;
mod scrape;
mod site;
mod vpn;

use anyhow::{Result, ensure};
use clap::Parser;

use pairs::Figure;

/// A benchmark: gives one figure.
type Bench = (&'static str, fn(&Options) -> Result<Figure>);

const BENCHES: [Bench; 15] = [
    ("audit.append.per_s", audit::append_against_sqlite),
    ("audit.append.alone", audit::append_alone_against_sqlite),
    ("audit.proof.vs_read", audit::proof_against_sqlite_read),
    ("metrics.scrape.p99", scrape::against_node_exporter),
    ("ledger.forwarding_cost", ledger::forwarding_cost),
    ("ledger.established_cost", ledger::established_cost),
    ("policy.load10000.vs_nft", load::against_nft),
    ("policy.newflow.vs_ufw", packets::new_flow_against_ufw),
    ("policy.newflow.vs_linear1000", packets::new_flow_against_linear),
    ("policy.newflow.10000_vs_10", packets::new_flow_by_size),
    ("policy.pps.10000_vs_10", packets::established_by_size),
    ("vpn.tcp1.vs_wireguard_go", vpn::against_wireguard_go),
    ("vpn.tcp1.vs_gotatun", vpn::against_gotatun),
    ("vpn.cpu.vs_wireguard_go", vpn::cpu_against_wireguard_go),
    ("vpn.cpu.vs_gotatun", vpn::cpu_against_gotatun),
];

/// Paired benchmarks of Sekisho against its peers.
#[derive(Debug, Parser)]
struct Options {
    /// Runs only the figures whose names begin with this.
    name: Option<String>,
    /// Pairs of runs, at least 5.
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u16).range(5..=200))]
    pairs: u16,
    /// Lists the figures and ends.
    #[arg(long)]
    list: bool,
    /// Is one end of a tunnel; how the VPN's figures start themselves.
    #[arg(long, hide = true, num_args = 3)]
    vpn_end: Vec<String>,
}

#[expect(clippy::print_stdout, reason = "the table is what the program is for")]
fn main() -> Result<()> {
    let options = Options::parse();
    if !options.vpn_end.is_empty() {
        return vpn::end(&options.vpn_end);
    }
    let chosen: Vec<&Bench> = BENCHES
        .iter()
        .filter(|(name, _)| options.name.as_ref().is_none_or(|prefix| name.starts_with(prefix)))
        .collect();
    ensure!(!chosen.is_empty(), "no figure begins with that name: see --list");
    if options.list {
        chosen.iter().for_each(|(name, _)| println!("{name}"));
        return Ok(());
    }
    println!("{}", pairs::HEADER);
    for (name, bench) in chosen {
        let figure = bench(&options)?;
        debug_assert_eq!(figure.name, *name, "a figure has the name it is listed under");
        println!("{figure}");
        figure.record()?;
    }
    Ok(())
}
