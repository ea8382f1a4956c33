//! `sekisho audit`: reads, proves, verifies and exports the transparency log.

mod export;
mod offline;
mod tar;

use std::path::{Path, PathBuf};

use clap::Subcommand;
use events::audit::{Entry, Writer};
use events::{Deed, Event};
use gateway::client;
use gateway::wire::record::{ENTRIES_MAX, EntryRow, Proof, RecordAnswer, RecordAsk, Sealed, Verified};
use gateway::wire::{Answer, Ask};
use jiff::Timestamp;
use policy::diagnostic::Language;
use serde_json::{Value, json};

use crate::daemon::Sockets;
use crate::exit::{CliError, Exit};
use crate::output::Output;
use crate::table;

const LIST_HELP: &str = "\
The latest entries, or those before a number. KIND is a word of the list, such as applied or drift.

Examples:
  sekisho audit list
  sekisho audit list --kind applied --since 2026-11-01T00:00:00+09:00
  sekisho --json audit list --limit 1000 | jq '.entries[].entry.event'";

const VERIFY_HELP: &str = "\
Without --dir the record role reads and checks its whole log. With --dir nobody is asked: the files of an export or of a
copy are checked against the public key, and against checkpoints that were kept elsewhere; only these tell a log that was
put back whole to what it once was. With --proof one entry is checked against its proof.

Examples:
  sekisho audit verify
  sekisho audit verify --dir export --key export/key.pub --checkpoint kept-in-march
  sekisho audit verify --proof entry-17.tlog-proof --entry entry-17.json --key key.pub

Exit status 0 when nothing is wrong, 6 when something is.";

const PROVE_HELP: &str = "\
The proof is text (C2SP tlog-proof) that anybody with the log's public key can check, without the log and without Sekisho.

Examples:
  sekisho audit prove 17
  sekisho audit prove 17 -o proof            entry-17.json, entry-17.tlog-proof, key.pub";

const EXPORT_HELP: &str = "\
TARGET is a new directory, or a new file that ends in `.tar`. It gets the whole log as C2SP tlog-tiles lays it out, the
public key, a verifier in Python, and a README that says how to check. That it was exported is recorded.

Examples:
  sekisho audit export audit-2026-11
  sekisho audit export audit-2026-11.tar";

const CHECKPOINT_HELP: &str = "\
A checkpoint kept elsewhere, on paper or with somebody else, is what later shows that the log was not put back to an
earlier state. `audit verify --checkpoint` takes it.

Example:
  sekisho audit checkpoint > /media/usb/checkpoint-2026-11";

/// Orders about the log.
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Lists entries, the latest last.
    #[command(after_help = LIST_HELP)]
    List {
        /// Most entries shown.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        limit: u32,
        /// Only entries before this number.
        #[arg(long, value_name = "NUMBER")]
        before: Option<u64>,
        /// Only entries of this kind.
        #[arg(long)]
        kind: Option<String>,
        /// Only entries of this time and later.
        #[arg(long, value_name = "TIME")]
        since: Option<Timestamp>,
    },
    /// Shows one entry as it is in the log.
    Show {
        /// Its number.
        index: u64,
    },
    /// Reads and checks the log, or a copy of it.
    #[command(after_help = VERIFY_HELP)]
    Verify(offline::VerifyArgs),
    /// Proves that the log holds an entry.
    #[command(after_help = PROVE_HELP)]
    Prove {
        /// Its number.
        index: u64,
        /// Where to write entry, proof and key; must not exist yet.
        #[arg(short, long, value_name = "DIR")]
        output: Option<PathBuf>,
    },
    /// Copies the log, with what is needed to check it.
    #[command(after_help = EXPORT_HELP)]
    Export {
        /// A new directory, or a new file that ends in `.tar`.
        target: PathBuf,
    },
    /// Prints the log's public key.
    Key,
    /// Prints the log's last checkpoint, to be kept elsewhere.
    #[command(after_help = CHECKPOINT_HELP)]
    Checkpoint,
    /// Records that a person looked through the log up to its present end.
    Review {
        /// Who.
        #[arg(long, value_name = "NAME")]
        person: String,
        /// What the person noted.
        #[arg(long, default_value = "")]
        note: String,
    },
}

/// `sekisho audit`.
pub(crate) fn audit(output: &Output, sockets: &Sockets, command: AuditCommand) -> Result<Exit, CliError> {
    let record = &sockets.record;
    match command {
        AuditCommand::List { limit, before, kind, since } => {
            list(output, record, &Wanted { limit, before, kind, since })
        }
        AuditCommand::Show { index } => show(output, record, index),
        AuditCommand::Verify(asked) if asked.is_offline() => offline::verify(output, &asked),
        AuditCommand::Verify(_) => verify(output, record),
        AuditCommand::Prove { index, output: directory } => {
            prove(output, record, index, directory.as_deref())
        }
        AuditCommand::Export { target } => export::export(output, record, &target),
        AuditCommand::Key => {
            let Sealed { key, .. } = sealed(record)?;
            output.answer(&key, &json!({ "key": key }));
            Ok(Exit::Ok)
        }
        AuditCommand::Checkpoint => {
            let sealed = sealed(record)?;
            output.answer(&sealed.note, &serde_json::to_value(&sealed)?);
            Ok(Exit::Ok)
        }
        AuditCommand::Review { person, note } => review(output, record, person, note),
    }
}

/// Which entries are wanted.
struct Wanted {
    limit: u32,
    before: Option<u64>,
    kind: Option<String>,
    since: Option<Timestamp>,
}

fn list(output: &Output, record: &Path, wanted: &Wanted) -> Result<Exit, CliError> {
    let limit = usize::try_from(wanted.limit).unwrap_or(usize::MAX);
    let mut found: Vec<EntryRow> = Vec::new();
    let mut before = wanted.before;
    // From the end backwards, until there are enough or the log begins.
    while found.len() < limit {
        let rows = entries(record, before)?;
        let Some(first) = rows.first().map(|row| row.index) else { break };
        let is_past = |row: &EntryRow| {
            let at = Entry::decode(row.text.as_bytes()).map(|entry| entry.at);
            wanted.since.is_some_and(|since| at.is_ok_and(|at| at < since))
        };
        let is_end = first == 0 || rows.iter().all(is_past);
        found.extend(rows.into_iter().rev().filter(|row| is_wanted(row, wanted)));
        if is_end {
            break;
        }
        before = Some(first);
    }
    found.truncate(limit);
    found.reverse();
    let rows: Vec<Value> = found.iter().map(json_of).collect();
    output.answer(&list_text(output, &found), &json!({ "entries": rows }));
    Ok(Exit::Ok)
}

/// The last entries before a number, as many as one answer takes.
fn entries(record: &Path, before: Option<u64>) -> Result<Vec<EntryRow>, CliError> {
    match ask(record, RecordAsk::Entries { before, limit: ENTRIES_MAX })? {
        RecordAnswer::Entries(page) => Ok(page.rows),
        _ => Err(CliError::Confused),
    }
}

fn is_wanted(row: &EntryRow, wanted: &Wanted) -> bool {
    let Ok(entry) = Entry::decode(row.text.as_bytes()) else {
        // What this program cannot read is shown, not hidden.
        return true;
    };
    let is_kind = wanted.kind.as_ref().is_none_or(|kind| kind_of(&entry.event).0 == *kind);
    is_kind && wanted.since.is_none_or(|since| entry.at >= since)
}

fn list_text(output: &Output, rows: &[EntryRow]) -> String {
    let heads = match output.language {
        Language::En => ["entry", "time", "by", "what", "details"],
        Language::Ja => ["番号", "日時", "記録者", "内容", "詳細"],
    };
    let cells = |row: &EntryRow| match Entry::decode(row.text.as_bytes()) {
        Ok(entry) => {
            let (kind, details) = kind_of(&entry.event);
            let by = match entry.writer {
                Writer::Role(role) => role.word().to_owned(),
                Writer::Admin(user) => format!("uid {user}"),
            };
            vec![row.index.to_string(), output.time(entry.at), by, kind, details]
        }
        Err(error) => {
            vec![row.index.to_string(), String::new(), String::new(), "?".to_owned(), error.to_string()]
        }
    };
    table::lay_out(&heads, &rows.iter().map(cells).collect::<Vec<_>>())
}

/// The kind of an event, and its fields as one line.
fn kind_of(event: &Event) -> (String, String) {
    let Ok(Value::Object(mut fields)) = serde_json::to_value(event) else { return Default::default() };
    let kind = fields.remove("kind").and_then(|kind| kind.as_str().map(str::to_owned)).unwrap_or_default();
    let detail = |(name, value): (String, Value)| match value {
        Value::String(text) => format!("{name}={text}"),
        Value::Null => String::new(),
        other => format!("{name}={other}"),
    };
    let details: Vec<String> = fields.into_iter().map(detail).filter(|text| !text.is_empty()).collect();
    (kind, details.join(" "))
}

fn json_of(row: &EntryRow) -> Value {
    let entry = serde_json::from_str::<Value>(&row.text).unwrap_or_else(|_| json!(row.text));
    json!({ "index": row.index, "entry": entry })
}

fn show(output: &Output, record: &Path, index: u64) -> Result<Exit, CliError> {
    let before = Some(index.saturating_add(1));
    let RecordAnswer::Entries(page) = ask(record, RecordAsk::Entries { before, limit: 1 })? else {
        return Err(CliError::Confused);
    };
    let row = page.rows.into_iter().find(|row| row.index == index);
    let size = page.size;
    let row = row.ok_or_else(|| {
        CliError::Question(format!("there is no entry {index}: the log has {size} entries"))
    })?;
    output.answer(&row.text, &json_of(&row));
    Ok(Exit::Ok)
}

fn verify(output: &Output, record: &Path) -> Result<Exit, CliError> {
    match ask(record, RecordAsk::Verify {})? {
        RecordAnswer::Verified(verified) => Ok(offline::tell(output, &verified, None)),
        _ => Err(CliError::Confused),
    }
}

fn prove(output: &Output, record: &Path, index: u64, directory: Option<&Path>) -> Result<Exit, CliError> {
    let RecordAnswer::Proof(proof) = ask(record, RecordAsk::Prove { index })? else {
        return Err(CliError::Confused);
    };
    let value = serde_json::to_value(&proof)?;
    let Proof { entry, proof, key, .. } = proof;
    let Some(directory) = directory else {
        output.answer(&proof, &value);
        return Ok(Exit::Ok);
    };
    export::make(directory)?;
    let name = |ending: &str| directory.join(format!("entry-{index}.{ending}"));
    export::put(&name("json"), entry.as_bytes())?;
    export::put(&name("tlog-proof"), proof.as_bytes())?;
    export::put(&directory.join("key.pub"), format!("{key}\n").as_bytes())?;
    let word = output.pick("written", "書き出しました");
    output.answer(&format!("{}: {word}", directory.display()), &value);
    Ok(Exit::Ok)
}

fn review(output: &Output, record: &Path, person: String, note: String) -> Result<Exit, CliError> {
    let Sealed { size, .. } = sealed(record)?;
    let (person, note) = (events::event::text(&person), events::event::text(&note));
    let index = tell(record, Deed::LogReview { person, until: size, note })?;
    let word = output.pick("recorded as entry", "記録しました。記録番号");
    output.answer(&format!("{word} #{index}"), &json!({ "entry": index, "until": size }));
    Ok(Exit::Ok)
}

/// Has it recorded that a person did something; gives the entry's number.
fn tell(record: &Path, deed: Deed) -> Result<u64, CliError> {
    let event = Event::Done { by: rustix::process::getuid().as_raw(), deed };
    match ask(record, RecordAsk::Append { at: Timestamp::now(), event, again: false })? {
        RecordAnswer::Appended { index } => Ok(index),
        _ => Err(CliError::Confused),
    }
}

/// The log's checkpoint, which covers all that is durable.
fn sealed(record: &Path) -> Result<Sealed, CliError> {
    match ask(record, RecordAsk::Checkpoint {})? {
        RecordAnswer::Checkpoint(sealed) => Ok(sealed),
        _ => Err(CliError::Confused),
    }
}

/// Asks the record role.
fn ask(record: &Path, question: RecordAsk) -> Result<RecordAnswer, CliError> {
    match client::ask(record, Ask::Record(question))? {
        Answer::Record(answer) => Ok(answer),
        Answer::Failed(fault) => Err(CliError::Fault(fault)),
        _ => Err(CliError::Confused),
    }
}

/// What a verification on this side found, in the form of the record role's answer.
fn found(report: &record::Report) -> Verified {
    Verified {
        entries: report.entries,
        files: report.files,
        faults: report.faults.iter().map(ToString::to_string).collect(),
        more_faults: report.more_faults,
    }
}
