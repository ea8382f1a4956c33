//! What this role counted and measured, for the metrics and the controls.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use events::{Family, Role, Sample};
use gateway::wire::Measured;
use jiff::Timestamp;
use policy::guideline::Observed;
use policy::guideline::observation::{Deed, LastDone, Log as LogFact, Observation};
use record::committer::Status;
use record::log::CHECKPOINT_FILE;

use super::Known;
use crate::memory;

/// A disk that has not answered for so long takes no entries: who brings one has given up by then.
const HANGS: Duration = Duration::from_secs(10);

/// The answer to `Measure`.
pub(super) fn measured(known: &Known, status: &Status, directory: &Path, refused: &AtomicU64) -> Measured {
    let now = Timestamp::now();
    let checkpoint_at = checkpoint_at(directory);
    let mut samples = known.tally.samples();
    samples.extend(memory::sample(Role::Record));
    samples.extend(log_samples(known, status, checkpoint_at));
    let denied = refused.load(Ordering::Relaxed);
    samples.push(gauge(Family::LogRefused, number(status.refused + denied)));
    let mut facts = Vec::new();
    if let Some(history) = &known.history {
        let deeds = super::lock(&known.deeds);
        let (done, maintenance) = (deeds.all().collect::<Vec<LastDone>>(), deeds.maintenance(now));
        drop(deeds);
        facts.push(maintenance.into());
        let sample = |done: &LastDone| Some((label(done.deed), seconds(done.done_at?)));
        let sampled = done.iter().filter_map(sample);
        samples.extend(sampled.map(|(deed, at)| Sample::new(Family::Deed, &[deed], at)));
        facts.extend(done.into_iter().map(Observation::from));
        samples.extend(history.oldest_at.map(|at| gauge(Family::LogOldest, seconds(at))));
        facts.push(log_fact(known, status, checkpoint_at).into());
    }
    let observations = facts.into_iter().map(|fact| Observed { at: now, fact }).collect();
    Measured { role: Role::Record, started_at: known.started_at, samples, observations }
}

fn log_samples(known: &Known, status: &Status, checkpoint_at: Option<Timestamp>) -> Vec<Sample> {
    let Status { size, used_bytes, budget, .. } = status;
    let mut samples = vec![
        gauge(Family::LogEntries, number(*size)),
        gauge(Family::LogBytes, number(*used_bytes)),
        gauge(Family::LogBudget, number(budget.bytes_max)),
        gauge(Family::LogAccepting, if is_accepting(status) { 1.0 } else { 0.0 }),
    ];
    samples.extend(checkpoint_at.map(|at| gauge(Family::LogCheckpoint, seconds(at))));
    if let Some(whole) = &known.whole {
        samples.push(gauge(Family::LogVerified, seconds(whole.at)));
        samples.push(gauge(Family::LogIntact, if known.is_intact() { 1.0 } else { 0.0 }));
    }
    samples
}

fn log_fact(known: &Known, status: &Status, checkpoint_at: Option<Timestamp>) -> LogFact {
    let oldest_at = known.history.as_ref().and_then(|history| history.oldest_at);
    LogFact {
        accepting: is_accepting(status),
        intact: known.is_intact(),
        verified_at: known.whole.as_ref().map(|whole| whole.at),
        checkpoint_at,
        tree_size: status.size,
        oldest_at,
        // This version drops nothing: a log that is full refuses.
        dropped_at: None,
        since: oldest_at.unwrap_or(known.started_at),
        bytes: status.used_bytes,
        budget_bytes: status.budget.bytes_max,
        retention_s: known.retention_s,
    }
}

/// Whether ordinary entries are taken.
pub(super) fn is_accepting(status: &Status) -> bool {
    refusal(status).is_none()
}

/// Why ordinary entries are not taken.
pub(super) fn refusal(status: &Status) -> Option<String> {
    let Status { full, broken, at_work, .. } = status;
    let hangs = at_work.filter(|taken| *taken >= HANGS);
    let hangs = hangs.map(|taken| format!("the disk has not answered for {} s", taken.as_secs()));
    broken.clone().or_else(|| full.map(|full| full.to_string())).or(hangs)
}

fn checkpoint_at(directory: &Path) -> Option<Timestamp> {
    let modified = fs::metadata(directory.join(CHECKPOINT_FILE)).and_then(|file| file.modified());
    modified.ok().and_then(|at| Timestamp::try_from(at).ok())
}

/// The word that the audit log's own deeds have as a label.
const fn label(deed: Deed) -> &'static str {
    match deed {
        Deed::Report => "report",
        Deed::Backup => "backup",
        Deed::RestoreCheck => "restore_check",
        Deed::LogReview => "log_review",
        Deed::Export => "log_export",
    }
}

fn gauge(family: Family, value: f64) -> Sample {
    Sample::new(family, &[], value)
}

fn seconds(at: Timestamp) -> f64 {
    at.as_duration().as_secs_f64()
}

#[expect(clippy::cast_precision_loss, reason = "a count beyond 2^53 has lost its last digit anyway")]
fn number(count: u64) -> f64 {
    count as f64
}
