//! Pairs of runs, their medians and ratio, and the record of them.

use std::fmt;
use std::fs::{OpenOptions, create_dir_all};
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde::Serialize;

/// Heads the table that [`Figure`]'s lines make.
pub(crate) const HEADER: &str = "figure                          ours (median, min-max)            peer (median, min-max)            ratio (min-max of pairs)";

/// What is compared over the runs of each side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Statistic {
    /// The median: for wall times.
    Median,
    /// The minimum: for costs, which noise only ever raises.
    Minimum,
}

/// One measured figure. `ratio` is bigger when ours is better: the peer's cost over ours.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    /// Name, such as `policy.load10000.vs_nft`.
    pub(crate) name: &'static str,
    /// Ours, in `unit`.
    pub(crate) ours: f64,
    /// The peer's, in `unit`.
    pub(crate) peer: f64,
    /// `peer / ours`.
    pub(crate) ratio: f64,
    /// Unit of `ours` and `peer`: a cost, smaller is better.
    pub(crate) unit: &'static str,
    /// Number of pairs.
    pub(crate) pairs: usize,
    /// Each pair: ours, peer.
    pub(crate) runs: Vec<(f64, f64)>,
}

/// Runs both sides in turn, one uncounted pair first.
pub(crate) fn measure(
    name: &'static str,
    unit: &'static str,
    pairs: u16,
    statistic: Statistic,
    mut ours: impl FnMut() -> Result<f64>,
    mut peer: impl FnMut() -> Result<f64>,
) -> Result<Figure> {
    ours()?;
    peer()?;
    let mut runs = Vec::with_capacity(usize::from(pairs));
    for pair in 0..pairs {
        // Who goes first alternates, so that neither always finds the machine warm.
        let run = if pair % 2 == 0 {
            let ours = ours()?;
            (ours, peer()?)
        } else {
            let peer = peer()?;
            (ours()?, peer)
        };
        runs.push(run);
    }
    let pick = |side: Vec<f64>| match statistic {
        Statistic::Median => quantile(side, 0.5),
        Statistic::Minimum => quantile(side, 0.0),
    };
    let (ours, peer) =
        (pick(runs.iter().map(|run| run.0).collect()), pick(runs.iter().map(|run| run.1).collect()));
    Ok(Figure { name, ours, peer, ratio: peer / ours, unit, pairs: runs.len(), runs })
}

impl Figure {
    /// Appends the figure to `target/bench/results.jsonl`.
    pub(crate) fn record(&self) -> Result<()> {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        let directory = target.join("bench");
        create_dir_all(&directory).context("make the directory of the results")?;
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(directory.join("results.jsonl"))
            .context("open the results")?;
        writeln!(file, "{}", serde_json::to_string(self)?).context("append a result")
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = |values: Vec<f64>, chosen: f64| {
            let (low, high) = (quantile(values.clone(), 0.0), quantile(values, 1.0));
            format!("{} {} ({}-{})", digits(chosen), self.unit, digits(low), digits(high))
        };
        let ours = side(self.runs.iter().map(|run| run.0).collect(), self.ours);
        let peer = side(self.runs.iter().map(|run| run.1).collect(), self.peer);
        let ratios: Vec<f64> = self.runs.iter().map(|(ours, peer)| peer / ours).collect();
        let (low, high) = (quantile(ratios.clone(), 0.0), quantile(ratios, 1.0));
        write!(f, "{:<31} {ours:<33} {peer:<33} {:.2} ({low:.2}-{high:.2})", self.name, self.ratio)
    }
}

/// Three significant digits are what such a machine is good for.
fn digits(value: f64) -> String {
    if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}

/// The value at a quantile between 0 and 1.
pub(crate) fn quantile(mut values: Vec<f64>, at: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index into a few hundred values"
    )]
    let index = (at * (values.len().saturating_sub(1)) as f64).round() as usize;
    values.get(index).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_bigger_when_ours_is_cheaper() {
        let (mut ours, mut peer) = ([9.0, 1.0, 3.0, 2.0].into_iter(), [9.0, 4.0, 6.0, 8.0].into_iter());
        let figure = measure(
            "x",
            "ms",
            3,
            Statistic::Median,
            || Ok(ours.next().unwrap()),
            || Ok(peer.next().unwrap()),
        )
        .unwrap();
        assert_eq!((figure.ours, figure.peer, figure.ratio, figure.pairs), (2.0, 6.0, 3.0, 3));
    }
}
