//! `sekisho backup` and `sekisho restore`: the roles' state in one sealed file, and back.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args};
use events::Deed;
use gateway::accounts::Accounts;
use gateway::backup::age::{self, Identity, Lock, Opener, Passphrase, Recipient};
use gateway::backup::{
    Backup, BackupError, LogOutcome, Manifest, Outcome, STATE_ROOT, Untold, keep_untold, take_untold,
};
use gateway::client;
use gateway::wire::record::{RecordAnswer, RecordAsk};
use gateway::wire::{Answer, Ask};
use jiff::Timestamp;
use policy::diagnostic::Language;
use serde_json::json;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::daemon::Sockets;
use crate::exit::{CliError, Exit};
use crate::output::Output;

pub(crate) const BACKUP_HELP: &str = "\
The file holds the policy in force, the ledger of marks, the log's key and last checkpoint, and the keys of the metrics'
door; not the log's entries (`sekisho audit export`) and not the ledger of flows. The roles may go on meanwhile.
It is an age file (age-encryption.org/v1) around a tar archive: `age -d` opens it as well. Keep key or passphrase elsewhere.

Examples:
  sekisho backup -o clinic.age --passphrase-file words.txt
  sekisho backup -o clinic.age --recipient age1... --recipient age1...";

pub(crate) const RESTORE_HELP: &str = "\
Everything or nothing is put in place, whatever is killed when. Stop sekisho-core and sekisho-console first; on a box
without a log sekisho-record as well. The log and since when each control stands are never set back. On a box that has
given marks of its own, the policy gets new ones where they are needed: none is ever given twice.

Examples:
  sekisho restore clinic.age --passphrase-file words.txt --check
  sekisho restore clinic.age --identity key.txt";

/// Longest file of a key or passphrase.
const SECRET_BYTES_MAX: u64 = 64 << 10;

/// What is asked of a backup.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("lock").required(true).args(["recipient", "passphrase_file"])))]
pub(crate) struct BackupArgs {
    /// The file to write; must not exist yet.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// An age key (age1..) to seal to; may be given again, each opens it.
    #[arg(long, value_name = "KEY")]
    recipient: Vec<String>,
    /// File whose first line is the passphrase to seal with.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// Where the roles' state directories are.
    #[arg(long, value_name = "DIR", default_value = STATE_ROOT)]
    state_root: PathBuf,
}

/// What is asked of a restore.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("opener").required(true).args(["identity", "passphrase_file"])))]
pub(crate) struct RestoreArgs {
    /// The sealed file.
    file: PathBuf,
    /// File of age identities (AGE-SECRET-KEY-1..).
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// File whose first line is the passphrase.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// Open and check everything, say what would be done, and change nothing.
    #[arg(long)]
    check: bool,
    /// Restore though the backup is of another site than this box.
    #[arg(long)]
    adopt_site: bool,
    /// Where the roles' state directories are.
    #[arg(long, value_name = "DIR", default_value = STATE_ROOT)]
    state_root: PathBuf,
}

/// `sekisho backup`.
pub(crate) fn backup(output: &Output, sockets: &Sockets, asked: &BackupArgs) -> Result<Exit, CliError> {
    let lock = match &asked.passphrase_file {
        Some(file) => Lock::Passphrase(passphrase(file)?),
        None => Lock::Recipients(recipients(&asked.recipient)?),
    };
    let backup = Backup::take(&asked.state_root, Timestamp::now())?;
    let sealed = backup.seal(&lock)?;
    put(&asked.output, &sealed)?;
    let (sha256, bytes) = (sha256(&sealed), sealed.len() as u64);
    let Manifest { policy, site, .. } = backup.manifest;
    let deed = Deed::Backup { sha256: sha256.clone(), bytes, policy: policy.clone() };
    let told = tell(sockets, &asked.state_root, deed, true);
    let word = output.pick("written", "書き出しました");
    let value = json!({
        "file": asked.output, "sha256": sha256, "bytes": bytes, "policy": policy, "site": site,
        "entry": told.as_ref().ok(), "unrecorded": told.as_ref().err(),
    });
    let text =
        format!("{}: {word}\n  sha256 {sha256}\n  {}", asked.output.display(), told_text(output, &told));
    output.answer(&text, &value);
    Ok(Exit::Ok)
}

/// `sekisho restore`.
pub(crate) fn restore(output: &Output, sockets: &Sockets, asked: &RestoreArgs) -> Result<Exit, CliError> {
    let opener = match (&asked.identity, &asked.passphrase_file) {
        (Some(file), _) => {
            Opener::Identities(Identity::parse_file(&secret(file)?).map_err(BackupError::from)?)
        }
        (None, Some(file)) => Opener::Passphrase(passphrase(file)?),
        (None, None) => return Err(CliError::Question("give --identity or --passphrase-file".to_owned())),
    };
    let sealed = read(&asked.file, age::FILE_BYTES_MAX)?;
    let backup = Backup::open(&sealed, &opener)?;
    let (sha256, root) = (sha256(&sealed), &asked.state_root);
    let (outcome, deed) = if asked.check {
        (backup.check(root, asked.adopt_site)?, Deed::RestoreCheck { sha256: sha256.clone() })
    } else {
        let accounts = Accounts::read().map_err(file_error("read", Path::new("/etc/passwd")))?;
        let outcome = backup.restore(root, asked.adopt_site, &accounts, &sockets.console)?;
        (outcome, Deed::Restore { sha256: sha256.clone() })
    };
    let told = tell(sockets, root, deed, !asked.check);
    let value = json!({
        "restored": !asked.check, "sha256": sha256, "manifest": backup.manifest, "outcome": outcome,
        "entry": told.as_ref().ok(), "unrecorded": told.as_ref().err(),
    });
    let told = told_text(output, &told);
    output.answer(&restored_text(output, asked.check, &backup.manifest, &outcome, &told), &value);
    Ok(Exit::Ok)
}

fn restored_text(output: &Output, check: bool, manifest: &Manifest, outcome: &Outcome, told: &str) -> String {
    let Manifest { site, clinic, created_at, .. } = manifest;
    let Outcome { policy, marks_kept, log, put, .. } = outcome;
    let head = if check {
        output.pick(
            "whole; nothing was changed. It would be restored:",
            "破損はありません(変更していません)。復元する内容:",
        )
    } else {
        output.pick(
            "restored; start the roles now (systemctl start sekisho-core):",
            "復元しました。サービスを起動してください(systemctl start sekisho-core):",
        )
    };
    let marks = if *marks_kept {
        output.pick("with its marks", "マークは元のまま")
    } else {
        output.pick("with marks that this box has not given yet", "マークはこの機器で新しく割り当て")
    };
    let log = match log {
        LogOutcome::Same => output.pick("the log of this box stays", "記録はこの機器のものを残します"),
        LogOutcome::Other => output.pick(
            "the log of this box stays; it is another than the backup's",
            "記録はこの機器のものを残します(バックアップとは別の記録です)",
        ),
        LogOutcome::KeyPutBack => output.pick("the log gets its key back", "記録の署名鍵を戻します"),
        LogOutcome::New => output.pick(
            "this box begins a new log; the former log's public key and checkpoint are beside it",
            "新しい記録を始めます(以前の記録の公開鍵とチェックポイントを残します)",
        ),
        LogOutcome::Absent => output.pick("the backup holds no log", "バックアップに記録の鍵はありません"),
    };
    let short: String = policy.chars().take(12).collect();
    let files = match output.language {
        Language::En => format!("{} files", put.len()),
        Language::Ja => format!("{}個のファイル", put.len()),
    };
    format!(
        "{head}\n  {clinic} ({site}), {}\n  {short}, {marks}\n  {log}\n  {files}\n  {told}",
        output.time(*created_at)
    )
}

fn told_text(output: &Output, told: &Result<u64, String>) -> String {
    match told {
        Ok(entry) => format!("{} #{entry}", output.pick("recorded as entry", "記録番号")),
        Err(why) => format!("{}: {why}", output.pick("not recorded", "記録していません")),
    }
}

/// Has it recorded what was done, and what could not be told before; else keeps it to be told later.
fn tell(sockets: &Sockets, root: &Path, deed: Deed, keep: bool) -> Result<u64, String> {
    let deed = Untold { at: Timestamp::now(), by: rustix::process::getuid().as_raw(), deed };
    // What waits is older, so it goes first; when it cannot be told, this cannot either, and says why.
    let waiting = take_untold(root, |deed| append(sockets, deed).is_ok());
    let told = append(sockets, &deed);
    match told {
        Err(why) if keep => match waiting.and_then(|_| keep_untold(root, deed)) {
            Ok(()) => Err(format!("{why}; it will be with the next backup or restore")),
            Err(error) => Err(format!("{why}; {error}")),
        },
        told => told,
    }
}

fn append(sockets: &Sockets, deed: &Untold) -> Result<u64, String> {
    let ask = Ask::Record(RecordAsk::Append { at: deed.at, event: deed.event(), again: true });
    match client::ask(&sockets.record, ask) {
        Ok(Answer::Record(RecordAnswer::Appended { index })) => Ok(index),
        Ok(Answer::Failed(fault)) => Err(fault.message),
        Ok(_) => Err(CliError::Confused.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

fn recipients(texts: &[String]) -> Result<Vec<Recipient>, CliError> {
    let keys = texts.iter().map(|text| Recipient::parse(text)).collect::<Result<_, _>>();
    keys.map_err(|error| CliError::Question(error.to_string()))
}

fn passphrase(file: &Path) -> Result<Passphrase, CliError> {
    let text = secret(file)?;
    Ok(Passphrase::new(text.lines().next().unwrap_or_default().to_owned()))
}

fn secret(file: &Path) -> Result<Zeroizing<String>, CliError> {
    let text = String::from_utf8(read(file, SECRET_BYTES_MAX)?).map(Zeroizing::new);
    text.map_err(|_| file_error("read", file)(io::ErrorKind::InvalidData.into()).into())
}

fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>, BackupError> {
    let mut bytes = Vec::new();
    let read =
        File::open(path).and_then(|file| file.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes));
    let length = read.map_err(file_error("read", path))? as u64;
    if length > bytes_max {
        return Err(BackupError::TooLong { path: path.to_owned(), bytes_max });
    }
    Ok(bytes)
}

/// Writes a file that is not there yet; a kill leaves none, or all of it.
fn put(path: &Path, bytes: &[u8]) -> Result<(), BackupError> {
    if path.try_exists().map_err(file_error("write", path))? {
        return Err(file_error("write", path)(io::ErrorKind::AlreadyExists.into()));
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(".part");
    let beside = PathBuf::from(beside);
    let written = write(&beside, bytes).and_then(|()| place(&beside, path));
    if written.is_err() {
        // What was written of it takes the room that may be missing.
        let _ = fs::remove_file(&beside);
    }
    written.map_err(file_error("write", path))
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn place(beside: &Path, path: &Path) -> io::Result<()> {
    fs::rename(beside, path)?;
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

fn file_error<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> BackupError + 'a {
    move |source| BackupError::File { doing, path: path.to_owned(), source }
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
