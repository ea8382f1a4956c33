//! Asks for an inspection: the service manager starts one process for each connection to `inspect.sock`. It gets the
//! declared name and one descriptor that can only be read, answers one line of JSON, and is gone.

use std::fs::File;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use ::inspect::FindingId;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde::Deserialize;
use tokio::io::{AsyncReadExt, Interest};
use tokio::net::UnixStream;
use transfer::{Failure, Finding, Hash, Inspection, Verdict};

/// Longest answer in bytes.
const ANSWER_BYTES_MAX: u64 = 1 << 20;
/// Most findings and kinds that are taken of an answer.
const LIST_MAX: usize = 256;

/// The answer, as far as a release depends on it; what else the line says is for people.
#[derive(Deserialize)]
struct Line {
    sha256: Hash,
    verdict: Verdict,
    kinds: Vec<String>,
    findings: Vec<Found>,
}

#[derive(Deserialize)]
struct Found {
    id: String,
    #[serde(rename = "where")]
    at: String,
    detail: String,
}

/// Has the bytes of a held file inspected. The caller bounds the time.
pub(super) async fn inspect(socket: &Path, held: &Path, name: &str) -> Result<Inspection, Failure> {
    let asked = ask(socket, held, name).await.map_err(|error| Failure(error.to_string()))?;
    let Line { sha256, verdict, kinds, findings } = read(&asked).map_err(Failure)?;
    let findings = findings.into_iter().take(LIST_MAX).map(|found| {
        let Found { id, at, detail } = found;
        Finding { id, at, detail }
    });
    Ok(Inspection { sha256, verdict, kinds: kinds.into_iter().collect(), findings: findings.collect() })
}

fn read(answer: &[u8]) -> Result<Line, String> {
    let line: Line =
        serde_json::from_slice(answer).map_err(|error| format!("the answer makes no sense: {error}"))?;
    // Findings become words of the log and labels of metrics: one that is of no list could say anything.
    let is_known = |found: &Found| FindingId::ALL.iter().any(|known| known.word() == found.id);
    if !line.findings.iter().all(is_known) {
        return Err("the answer names a finding that there is not".to_owned());
    }
    // A list that is cut would pass for a shorter one.
    if line.kinds.len() > LIST_MAX { Err("the answer names too many kinds".to_owned()) } else { Ok(line) }
}

async fn ask(socket: &Path, held: &Path, name: &str) -> io::Result<Vec<u8>> {
    // Opened anew: this descriptor can be read and nothing else.
    let file: OwnedFd = File::open(held)?.into();
    let mut stream = UnixStream::connect(socket).await?;
    // Its limits are its own: a file that is taken at all is within them, or refused there.
    let message = serde_json::to_vec(&serde_json::json!({ "name": name }))?;
    stream.async_io(Interest::WRITABLE, || send(&stream, &message, &file)).await?;
    let mut answer = Vec::new();
    (&mut stream).take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
    Ok(answer)
}

fn send(stream: &UnixStream, message: &[u8], file: &OwnedFd) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let files = [file.as_fd()];
    if !control.push(SendAncillaryMessage::ScmRights(&files)) {
        return Err(io::Error::other("no room for a descriptor"));
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    let sent = sendmsg(stream, &[IoSlice::new(message)], &mut control, flags)?;
    // A fresh socket's buffer takes these few bytes at once.
    if sent == message.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_whole_one_or_none() {
        let good = format!(
            r#"{{"path":"x","sha256":"{}","types":["pdf"],"kinds":["pdf"],"verdict":"allow","findings":[],"ms":3}}"#,
            "0".repeat(64)
        );
        assert!(read(good.as_bytes()).is_ok_and(|line| line.verdict == Verdict::Allow));
        for (old, new) in
            [("allow", "yes"), ("\"kinds\"", "\"kind\""), ("\"findings\"", "\"found\""), ("00", "0")]
        {
            assert!(read(good.replacen(old, new, 1).as_bytes()).is_err(), "{new}");
        }
        let found = |id: &str| {
            let found = format!(r#""findings":[{{"id":"{id}","where":"","detail":""}}]"#);
            read(good.replace(r#""findings":[]"#, &found).as_bytes())
        };
        assert!(found("vba-macro").is_ok() && found("the-patients-name").is_err());
        for cut in 0..good.len() {
            assert!(read(&good.as_bytes()[..cut]).is_err(), "{cut}");
        }
    }
}
