//! Verification without the daemon: an export or a copy, or one entry by its proof. Needs files and the public key only.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use gateway::wire::record::Verified;
use policy::diagnostic::Language;
use record::proof::PROOF_BYTES_MAX;
use record::{InclusionProof, VerifierKey};
use serde_json::json;

use crate::exit::{CliError, Exit};
use crate::output::Output;

/// Longest file that is read here; a key, a checkpoint, a proof and an entry are all smaller.
const FILE_BYTES_MAX: u64 = 128 << 10;

/// What is to be verified.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// The directory of an export or of a copy of the log.
    #[arg(long, requires = "key", conflicts_with_all = ["proof", "entry"])]
    dir: Option<PathBuf>,
    /// The log's public key, or a file that holds it; better not the one beside the log.
    #[arg(long)]
    key: Option<String>,
    /// A checkpoint that was kept elsewhere; more than one may be given.
    #[arg(long, value_name = "FILE", requires = "dir")]
    checkpoint: Vec<PathBuf>,
    /// A proof of one entry.
    #[arg(long, value_name = "FILE", requires = "entry", requires = "key")]
    proof: Option<PathBuf>,
    /// The entry that it proves.
    #[arg(long, value_name = "FILE", requires = "proof")]
    entry: Option<PathBuf>,
}

impl VerifyArgs {
    /// Whether files are to be verified, and the daemon is not asked.
    pub(crate) const fn is_offline(&self) -> bool {
        self.dir.is_some() || self.proof.is_some()
    }
}

/// `sekisho audit verify` with `--dir` or `--proof`.
pub(crate) fn verify(output: &Output, asked: &VerifyArgs) -> Result<Exit, CliError> {
    let key = key(asked.key.as_deref().unwrap_or_default())?;
    if let (Some(proof), Some(entry)) = (&asked.proof, &asked.entry) {
        return check_proof(output, &key, proof, entry);
    }
    let Some(directory) = &asked.dir else {
        return Err(CliError::Question("--dir or --proof says what is to be verified".to_owned()));
    };
    let earlier: Vec<Vec<u8>> = asked.checkpoint.iter().map(|path| read(path)).collect::<Result<_, _>>()?;
    let report = record::verify(directory, &key, &earlier);
    let size = report.checkpoint.as_ref().map(|checkpoint| checkpoint.size);
    Ok(tell(output, &super::found(&report), size))
}

/// Says what a verification found.
pub(crate) fn tell(output: &Output, verified: &Verified, checkpoint: Option<u64>) -> Exit {
    let Verified { entries, files, faults, more_faults } = verified;
    let is_good = faults.is_empty();
    let mut lines = Vec::new();
    if is_good {
        lines.push(match output.language {
            Language::En => format!("● the log is as it was signed: {entries} entries, {files} files"),
            Language::Ja => format!("● ログは署名と一致しています: {entries}件、{files}ファイル"),
        });
    }
    lines.extend(faults.iter().map(|fault| format!("✖ {fault}")));
    if *more_faults > 0 {
        lines.push(match output.language {
            Language::En => format!("✖ and {more_faults} more"),
            Language::Ja => format!("✖ ほか {more_faults}件"),
        });
    }
    let value = json!({
        "good": is_good,
        "entries": entries,
        "files": files,
        "faults": faults,
        "more_faults": more_faults,
        "checkpoint_size": checkpoint,
    });
    output.answer(&lines.join("\n"), &value);
    if is_good { Exit::Ok } else { Exit::Differs }
}

fn check_proof(output: &Output, key: &VerifierKey, proof: &Path, entry: &Path) -> Result<Exit, CliError> {
    let text = String::from_utf8(read(proof)?).unwrap_or_default();
    let checked = InclusionProof::parse(&text).and_then(|proof| {
        let checkpoint = proof.check(&read(entry).unwrap_or_default(), key)?;
        Ok((proof.index, checkpoint.size))
    });
    // An entry that cannot be read is not one that is wrong.
    drop(read(entry)?);
    match checked {
        Ok((index, size)) => {
            let line = match output.language {
                Language::En => format!("● this is entry {index} of the log of {size} entries"),
                Language::Ja => format!("● {size}件のログの第{index}番の記録です"),
            };
            output.answer(&line, &json!({ "good": true, "index": index, "checkpoint_size": size }));
            Ok(Exit::Ok)
        }
        Err(error) => {
            let value = json!({ "good": false, "faults": [error.to_string()] });
            output.answer(&format!("✖ {error}"), &value);
            Ok(Exit::Differs)
        }
    }
}

/// A key as it is written, or in a file.
fn key(text: &str) -> Result<VerifierKey, CliError> {
    let path = Path::new(text);
    let written = if text.contains('+') && !path.exists() {
        text.to_owned()
    } else {
        String::from_utf8(read(path)?).unwrap_or_default()
    };
    VerifierKey::parse(written.trim_end()).map_err(|error| CliError::Question(format!("`{text}`: {error}")))
}

fn read(path: &Path) -> Result<Vec<u8>, CliError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes))
        .map_err(|source| CliError::Read { path: path.to_owned(), source })?;
    Ok(bytes)
}

const _: () = assert!(PROOF_BYTES_MAX as u64 <= FILE_BYTES_MAX, "a whole proof is read");
