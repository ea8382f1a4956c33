//! Loading a policy of 10,000 flows: our batch against `nft -f` on the very same rule set.

use std::fmt::Write as _;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use netfilter::Netfilter;
use policy::ruleset::{LIVE, TABLE};

use crate::Options;
use crate::pairs::{Figure, Statistic, measure};
use crate::site;

const FLOWS: usize = 10_000;

/// Wall time from the rule set in memory (ours) or in a file (nft) to the kernel's acknowledgement.
pub(crate) fn against_nft(options: &Options) -> Result<Figure> {
    let lab = site::lab()?;
    let (compiled, live) = site::compiled(FLOWS)?;
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("ruleset.nft");
    let mut text = policy::render::render(&compiled.ruleset);
    let marks: Vec<String> = live.keys().map(ToString::to_string).collect();
    writeln!(text, "add element inet {TABLE} {LIVE} {{ {} }}", marks.join(","))?;
    std::fs::write(&file, &text)?;
    let ours = || {
        lab.gateway().run_in(|| -> Result<f64> {
            let mut netfilter = Netfilter::open()?;
            netfilter.remove()?;
            let start = Instant::now();
            netfilter.replace(&compiled.ruleset, &live)?;
            Ok(start.elapsed().as_secs_f64() * 1e3)
        })?
    };
    let peer = || {
        lab.gateway().run_in(|| -> Result<()> { Ok(Netfilter::open()?.remove()?) })??;
        let mut command = lab.gateway().command("nft");
        command.arg("-f").arg(&file);
        let start = Instant::now();
        let status = command.status().context("run nft")?;
        let elapsed = start.elapsed();
        ensure!(status.success(), "nft refused the rule set: {status}");
        Ok(elapsed.as_secs_f64() * 1e3)
    };
    measure("policy.load10000.vs_nft", "ms", options.pairs, Statistic::Median, ours, peer)
}
