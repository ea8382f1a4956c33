//! Outcomes on their way to the log: each is in the journal before it is told, and is marked there once the log has it.

use std::rc::Rc;
use std::time::Duration;

use ::inspect::FindingId;
use events::Event;
use events::event::text;
use events::words::{FileChange, InspectVerdict};
use transfer::{Announcement, Outcome, Refusal};

use super::house::{House, Left};
use super::journal::Entry;

/// How long to wait before an outcome that the log did not take is brought again.
const RETRY_WAIT: Duration = Duration::from_secs(1);

/// Brings outcomes to the log, one by one, for as long as the role runs: first those of a former run.
pub(super) async fn outcomes(house: Rc<House>, left: Left) {
    let Left { untold, mut coming } = left;
    for entry in untold {
        bring(&house, &entry).await;
    }
    while let Some(entry) = coming.recv().await {
        bring(&house, &entry).await;
    }
}

async fn bring(house: &House, entry: &Entry) {
    let Some((at, outcome)) = entry.outcome() else { return };
    let event = of_entry(entry, change(outcome));
    house.count(&event);
    while let Err(error) = house.recorder.record_again(at, event.clone()).await {
        tracing::warn!(%error, transfer = %entry.transfer, "an outcome waits for the record role");
        tokio::time::sleep(RETRY_WAIT).await;
    }
    if let Err(error) = house.told(entry) {
        // It will be told a second time after a restart: the same outcome, never another.
        tracing::warn!(%error, transfer = %entry.transfer, "cannot note that the log has an outcome");
    }
}

/// An event about a transfer.
pub(super) fn of(announced: &Announcement, change: FileChange) -> Event {
    let Announcement { transfer, session, vendor, name, size_bytes: _, sha256 } = announced;
    Event::File {
        transfer: transfer.to_string(),
        session: session.clone(),
        vendor: text(vendor),
        name: name.to_string(),
        sha256: sha256.to_string(),
        change,
    }
}

fn of_entry(entry: &Entry, change: FileChange) -> Event {
    Event::File {
        transfer: entry.transfer.to_string(),
        session: entry.session.clone(),
        vendor: text(&entry.vendor),
        name: entry.name.clone(),
        sha256: entry.sha256.to_string(),
        change,
    }
}

fn change(outcome: &Outcome) -> FileChange {
    match outcome {
        Outcome::Delivered { sha256 } => FileChange::Delivered { sha256: sha256.to_string() },
        Outcome::Quarantined { why } => FileChange::Quarantined { why: text(&why.to_string()) },
        Outcome::Refused { why } => {
            let findings = findings(why);
            let verdict = verdict(&findings);
            FileChange::Refused { why: text(&why.to_string()), findings, verdict }
        }
    }
}

/// The worst that the inspection said; nothing where something else refused the file.
fn verdict(findings: &[String]) -> Option<InspectVerdict> {
    let of = |word: &String| FindingId::ALL.iter().find(|id| id.word() == word).map(|id| id.verdict());
    match findings.iter().filter_map(of).max()? {
        ::inspect::Verdict::Refuse => Some(InspectVerdict::Refuse),
        ::inspect::Verdict::Disarm => Some(InspectVerdict::Disarm),
        ::inspect::Verdict::Allow => None,
    }
}

fn findings(why: &Refusal) -> Vec<String> {
    match why {
        Refusal::Content { findings } => findings.iter().map(|id| text(id)).collect(),
        Refusal::NothingAccepted {}
        | Refusal::TooLarge { .. }
        | Refusal::AttestationMissing {}
        | Refusal::Attestation { .. }
        | Refusal::NotAsAnnounced {}
        | Refusal::Kind { .. } => Vec::new(),
    }
}
