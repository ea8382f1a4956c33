//! `sekisho inspect`: has files inspected, each in a sandboxed process of its own, as a transfer would.

use std::fs::File;
use std::io::{self, IoSlice, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use clap::Args;
use inspect::{Limits, Report, Verdict};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::exit::{CliError, Exit};
use crate::output::Output;

/// Longest answer.
const ANSWER_BYTES_MAX: u64 = 1 << 20;
/// How long an inspection may take before it counts as failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// Shown under the options.
pub(crate) const HELP: &str = "\
Nothing is changed or delivered. A file that is not allowed is refused by a transfer.

Exit status 0 when all are allowed, 10 when one must be disarmed first, 20 when one is refused.

Example:
  sekisho inspect report.pdf --json";

/// What to inspect.
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// The files.
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

/// The answer about one file.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    #[serde(default)]
    path: Option<String>,
    sha256: String,
    #[serde(flatten)]
    report: Report,
    ms: u64,
}

/// Inspects each file and says what was found.
pub(crate) fn inspect(output: &Output, asked: &InspectArgs) -> Result<Exit, CliError> {
    let mut worst = Verdict::Allow;
    for path in &asked.files {
        let file = File::open(path)
            .map_err(|error| CliError::Question(format!("cannot open `{}`: {error}", path.display())))?;
        let line = one(path, file);
        worst = worst.max(line.report.verdict);
        if output.is_json() {
            output.line(&serde_json::to_string(&line).unwrap_or_default());
        } else {
            output.line(&text(output, &line));
        }
    }
    Ok(match worst {
        Verdict::Allow => Exit::Ok,
        Verdict::Disarm => Exit::Disarm,
        Verdict::Refuse => Exit::RefusedFile,
    })
}

fn one(path: &Path, file: File) -> Line {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    let shown = path.display().to_string();
    match ask(&file, name.as_deref()) {
        Ok(line) => Line { path: Some(shown), ..line },
        Err(error) => Line {
            path: Some(shown),
            sha256: hash(file).unwrap_or_default(),
            report: inspect::failed(&error.to_string()),
            ms: 0,
        },
    }
}

/// Starts a process for the file and takes its answer.
fn ask(file: &File, name: Option<&str>) -> io::Result<Line> {
    let (ours, theirs) = UnixStream::pair()?;
    let mut child = Command::new(worker()?)
        .arg("inspect")
        .env_clear()
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let answered = exchange(&ours, file, name);
    if answered.is_err() {
        // It may be about to end by itself.
        let _ = child.kill();
    }
    let status = child.wait()?;
    let answer = answered?;
    if answer.is_empty() {
        return Err(io::Error::other(format!("the inspection ended without an answer ({status})")));
    }
    serde_json::from_slice(&answer).map_err(io::Error::other)
}

/// The daemon's program beside this one.
fn worker() -> io::Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name("sekishod"))
}

fn exchange(mut socket: &UnixStream, file: &File, name: Option<&str>) -> io::Result<Vec<u8>> {
    socket.set_read_timeout(Some(PATIENCE))?;
    let message = serde_json::to_vec(&serde_json::json!({ "name": name, "limits": Limits::default() }))?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let files = [file.as_fd()];
    if !control.push(SendAncillaryMessage::ScmRights(&files)) {
        return Err(io::Error::other("no room for a descriptor"));
    }
    sendmsg(socket, &[IoSlice::new(&message)], &mut control, SendFlags::NOSIGNAL)?;
    let mut answer = Vec::new();
    Read::take(&mut socket, ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    Ok(answer)
}

fn hash(mut file: File) -> io::Result<String> {
    use std::io::Seek as _;
    file.rewind()?;
    let mut hasher = Sha256::new();
    let mut block = vec![0_u8; 1 << 16];
    loop {
        match file.read(&mut block)? {
            0 => break,
            len => hasher.update(block.get(..len).unwrap_or_default()),
        }
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn text(output: &Output, line: &Line) -> String {
    let Line { path, report, .. } = line;
    let verdict = match report.verdict {
        Verdict::Allow => output.pick("allowed", "許可"),
        Verdict::Disarm => {
            output.pick("must be disarmed: not delivered as it is", "無害化が必要 (そのままでは配送しません)")
        }
        Verdict::Refuse => output.pick("refused", "拒否"),
    };
    let types: Vec<_> = report.types.iter().map(|file_type| file_type.word()).collect();
    let mut text = format!("{}: {verdict} ({})", path.as_deref().unwrap_or_default(), types.join(", "));
    for finding in &report.findings {
        let place =
            if finding.at.is_empty() { output.pick("the file", "ファイル全体") } else { &finding.at };
        text.push_str(&format!(
            "\n  {}  {place}: {}\n      {}",
            finding.id,
            finding.detail,
            finding.id.meaning()
        ));
    }
    text
}
