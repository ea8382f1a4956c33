//! The measurement report: policy, controls and log at one moment, as one HTML file.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use events::{Deed, Event};
use gateway::client;
use gateway::wire::record::{RecordAnswer, RecordAsk, Sealed};
use gateway::wire::{Answer, AppliedPolicy, Ask, Status};
use jiff::Timestamp;
use policy::guideline::report::{Checkpoint, Period, ReportInput, html};
use policy::guideline::{Catalogue, Version};
use record::VerifierKey;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::checking;
use crate::controls;
use crate::daemon::Sockets;
use crate::exit::{CliError, Exit};
use crate::output::Output;

pub(crate) const HELP: &str = "\
The report says what the policy in force lets pass, why and for whom, how every control stands and since when, and on
which state of the log it rests. It is a measurement and not a certificate. It speaks the language of the answers.

Examples:
  sekisho --lang ja report -o report.html
  sekisho --lang en report --guideline 7.0-draft -o report.html";

/// What is asked of the report.
#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// The file to write.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Version of the guideline that it speaks of: 5.2, 6.0 or 7.0-draft; else the one that the policy names.
    #[arg(long, value_name = "VERSION")]
    guideline: Option<Version>,
}

/// `sekisho report`.
pub(crate) fn report(output: &Output, sockets: &Sockets, asked: &ReportArgs) -> Result<Exit, CliError> {
    let in_force = in_force(sockets)?;
    let policy = checking::in_force(sockets)?;
    let controls = controls::fetch(&sockets.console)?;
    let catalogue = Catalogue::shipped()?;
    let made_at = Timestamp::now();
    let checkpoint = checkpoint(&sockets.record, made_at)?;
    let version = match asked.guideline {
        Some(version) => version,
        None => policy.clinic.guideline.parse().map_err(question)?,
    };
    let text = html(
        &ReportInput {
            catalogue: &catalogue,
            policy: &policy,
            policy_id: &in_force.id,
            assessments: &controls.assessments,
            timeline: &controls.timeline,
            version,
            period: Period { from: in_force.applied_at, to: made_at },
            made_at,
            checkpoint: Some(&checkpoint),
            product: env!("CARGO_PKG_VERSION"),
        },
        output.language,
    );
    put(&asked.output, &text)?;
    let sha256 = hex(&Sha256::digest(text.as_bytes()));
    let language = output.language.pick("en", "ja").to_owned();
    let deed = Deed::Report { sha256: sha256.clone(), language, policy: in_force.id };
    let index = record(&sockets.record, deed)?;
    let word = output.pick("written, and recorded as entry", "書き出し、記録しました。記録番号");
    let value = json!({ "file": asked.output, "sha256": sha256, "entry": index });
    output.answer(&format!("{}: {word} #{index}", asked.output.display()), &value);
    Ok(Exit::Ok)
}

fn in_force(sockets: &Sockets) -> Result<AppliedPolicy, CliError> {
    let none = || CliError::Question("there is no policy in force that a report could speak of".to_owned());
    match client::ask(&sockets.core, Ask::Status {})? {
        Answer::Status(status) => {
            let Status { policy, .. } = *status;
            policy.ok_or_else(none)
        }
        Answer::Failed(fault) => Err(CliError::Fault(fault)),
        _ => Err(CliError::Confused),
    }
}

/// The state of the log that the report rests on: all that is durable, signed for the occasion.
fn checkpoint(record: &Path, signed_at: Timestamp) -> Result<Checkpoint, CliError> {
    let Sealed { note, key, .. } = match client::ask(record, Ask::Record(RecordAsk::Checkpoint {}))? {
        Answer::Record(RecordAnswer::Checkpoint(sealed)) => sealed,
        Answer::Failed(fault) => return Err(CliError::Fault(fault)),
        _ => return Err(CliError::Confused),
    };
    let key = VerifierKey::parse(&key).map_err(|_| CliError::Confused)?;
    let opened = record::Checkpoint::open(note.as_bytes(), &key).map_err(|_| CliError::Confused)?;
    let record::Checkpoint { origin, size, root } = opened;
    Ok(Checkpoint { origin, tree_size: size, root_hash: root.to_string(), signed_at })
}

/// Has it recorded that a person did something; gives the entry's number.
fn record(record: &Path, deed: Deed) -> Result<u64, CliError> {
    let event = Event::Done { by: rustix::process::getuid().as_raw(), deed };
    match client::ask(record, Ask::Record(RecordAsk::Append { at: Timestamp::now(), event, again: false }))? {
        Answer::Record(RecordAnswer::Appended { index }) => Ok(index),
        Answer::Failed(fault) => Err(CliError::Fault(fault)),
        _ => Err(CliError::Confused),
    }
}

fn put(path: &Path, text: &str) -> Result<(), CliError> {
    let written = File::create(path).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.map_err(|source| CliError::Write { path: path.to_owned(), source })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn question(error: impl std::fmt::Display) -> CliError {
    CliError::Question(error.to_string())
}
